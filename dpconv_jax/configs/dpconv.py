"""DPConv (Kinli, Ozcan and Kirac, AIM @ ECCV 2020). `--config=configs/dpconv.py[:VARIANT]`

no variant      the demo: drawn garments at 64 x 64, minutes on two CPU cores; no style term (it needs VGG-16 weights)
clothing_small  3,409 CC0 photos at 128 x 128, half width, the full loss, its style term in the last 1,000 steps; about
                70 minutes on two CPU cores
starter         first part of the weights in this package: clothing_small with the variant `prefilled`, zooming
starter_style   second part: from the weights of the first (--config.train.init=FILE), the full loss at the end
starter_ssim    third part: from the weights of the second, the full loss and structural similarity
starter_long    fourth part: from the weights of the third, all of that once more, longer
image_folder    the recipe of clothing_small for any tree of images: --config.data.dir=FOLDER
fashiongen, fashionai, deepfashion, deepfashion2
                the paper's recipe: 256 x 256, batch 64, 120,000 steps, Eq. (5); two V100 in the paper
"""

from ml_collections import ConfigDict

from dpconv_jax.configs import base

PAPER = ("fashiongen", "fashionai", "deepfashion", "deepfashion2")


def demo() -> ConfigDict:
    config = base.get_config()
    config.model.width = 0.5
    config.model.dilations = (1, 2, 3, 1)  # at 64 pixels the dilated map is 8 x 8
    config.loss.style = 0.0
    config.optim.generator_lr = 2e-3  # the run is short
    config.optim.warmup_steps = 50
    config.optim.schedule = "cosine"
    config.optim.ema = 0.99
    config.data.size = 64
    config.train.steps = 1200
    config.train.batch_size = 8
    config.train.log_every = 50
    config.train.image_every = 300
    config.train.eval_every = 300
    config.train.checkpoint_every = 300
    config.eval.examples = 96
    return config


def clothing_small() -> ConfigDict:
    config = base.get_config()
    config.model.width = 0.5
    config.vgg.start = 5600  # colours first: on two cores such a step takes a quarter of the time
    config.optim.generator_lr = 2e-3  # the run is short: at 2e-4 it is far from done when the time is over
    config.optim.warmup_steps = 100
    config.optim.schedule = "cosine"
    config.optim.ema = 0.995
    config.data.name = "clothing_small"
    config.data.size = 128
    config.data.crop = "square"
    config.train.steps = 6600
    config.train.batch_size = 4
    config.train.log_every = 50
    config.train.image_every = 1000
    config.train.eval_every = 1400
    config.train.checkpoint_every = 200
    config.eval.baselines = ("mean", "telea", "ns")
    return config


def starter() -> ConfigDict:
    config = clothing_small()
    config.model.variant = "prefilled"
    config.loss.style = 0.0
    config.optim.generator_lr = 1e-3
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.ema = 0.998
    config.data.crop = "zoom"  # photos of 128 to 256 pixels a side: details count as well
    config.train.batch_size = 8
    config.train.steps = 3600
    config.train.eval_every = 600
    config.train.image_every = 600
    return config


def starter_style() -> ConfigDict:
    config = starter()
    config.loss.style = 1.0  # 120 dwarfs the pixel term: l1, and LPIPS too, rise at once (docs/results/starter)
    config.vgg.start = 1500
    config.train.steps = 2400
    config.train.eval_every = 800
    config.train.image_every = 800
    return config


def starter_ssim() -> ConfigDict:
    config = starter_style()
    config.loss.recipe = "kinli2020_ssim"
    config.loss.ssim = 0.5  # not of the paper: the style term costs similarity, and this brings it back (same page)
    config.vgg.start = 0
    config.optim.generator_lr = 5e-4
    config.train.steps = 800
    config.train.eval_every = 400
    config.train.image_every = 400
    return config


def starter_long() -> ConfigDict:
    config = starter_ssim()
    config.loss.ssim = 1.0
    config.vgg.start = 2500
    config.optim.generator_lr = 1e-3
    config.train.steps = 3600
    config.train.eval_every = 600
    config.train.image_every = 1200
    return config


def image_folder() -> ConfigDict:
    config = clothing_small()
    config.data.name = "image_folder"
    config.eval.baselines = ("mean",)
    return config


def paper(dataset: str) -> ConfigDict:
    config = base.get_config()
    config.data.name = dataset
    if dataset in ("deepfashion", "deepfashion2"):  # "the size of images varies" (section 4.1)
        config.data.crop = "square"
    return config


def get_config(variant: str = "") -> ConfigDict:
    """The recipe named after the colon; raises ValueError naming the known ones."""
    recipes = {
        "": demo,
        "clothing_small": clothing_small,
        "starter": starter,
        "starter_style": starter_style,
        "starter_ssim": starter_ssim,
        "starter_long": starter_long,
        "image_folder": image_folder,
    }
    if variant in PAPER:
        return paper(variant)
    if variant not in recipes:
        known = ", ".join([*filter(None, recipes), *PAPER])
        raise ValueError(f"no variant {variant!r} of configs/dpconv.py; known: {known}")
    return recipes[variant]()
