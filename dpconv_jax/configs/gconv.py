"""GConv (Yu et al., ICCV 2019; DeepFill v2). `--config=configs/gconv.py[:VARIANT]`, variants as in configs/dpconv.py

Under "the same settings" as DPConv: its data, loss (Eq. 5, the pixel term of both stages), optimiser and steps.
yu2019 as the whole of VARIANT, or before one (yu2019-clothing_small): its own loss, SN-PatchGAN and Adam.
structure_64, structure: not of the paper, the first stage with the prefill, for the colours and shapes that guide
patches in dpconv_jax.inpaint, trained at 64 pixels, and from those weights (--config.train.init=FILE) at 128:
--config.data.dir=FOLDER, of which a tenth is held back.
"""

from ml_collections import ConfigDict

from dpconv_jax.configs import dpconv


def same_settings(config: ConfigDict) -> ConfigDict:
    dilations = (1, 2, 3, 1) if config.data.size < 128 else (2, 4, 8, 16)  # the dilated maps are a quarter as wide
    config.model = ConfigDict({"name": "gconv", "width": config.model.width, "dilations": dilations})
    return config


def yu2019(config: ConfigDict) -> ConfigDict:
    config = same_settings(config)
    config.loss = ConfigDict({"recipe": "yu2019", "l1": 2.0, "adversarial": 1.0})  # l1 of 1 on pixels in [-1, 1]
    config.optim.generator_lr /= 2  # 1e-4 where the paper's own is 2e-4
    config.optim.discriminator_lr = config.optim.generator_lr
    config.optim.b1, config.optim.b2 = 0.5, 0.999
    return config


def structure(size: int) -> ConfigDict:
    config = dpconv.starter()
    config.model = ConfigDict({"name": "gconv", "variant": "prefilled", "width": 0.5, "dilations": (1, 2, 4, 8)})
    config.loss.recipe = "kinli2020_ssim"
    config.loss.hole = 6.0
    config.loss.ssim = 0.5
    config.loss.adversarial = 0.0
    config.data.name = "image_folder"
    config.data.size = size
    config.train.batch_size = 16
    config.train.steps = 7000 if size == 64 else 1300  # most of what a hole wants is learned small, 4 times as fast
    config.optim.generator_lr = 1e-3 if size == 64 else 5e-4
    config.train.checkpoint_every = 250
    config.train.eval_every = 1000
    config.train.image_every = 1000
    config.eval.baselines = ("telea",)
    return config


def get_config(variant: str = "") -> ConfigDict:
    """The recipe named after the colon; raises ValueError naming the known ones."""
    if variant in ("structure_64", "structure"):
        return structure(64 if variant == "structure_64" else 128)
    if variant == "yu2019" or variant.startswith("yu2019-"):
        return yu2019(dpconv.get_config(variant.removeprefix("yu2019").removeprefix("-")))
    return same_settings(dpconv.get_config(variant))
