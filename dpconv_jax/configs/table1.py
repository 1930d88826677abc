"""Table 1 of the paper. `python -m dpconv_jax.study.table1 --config=configs/table1.py[:VARIANT] --workdir=DIR`

no variant      the demo: drawn garments at 64 x 64, a few steps, no style term; it shows that the table works, its
                networks have hardly begun to learn
clothing_small  real photos at 64 x 64, half width, the full loss, its style term in the last steps; made for CPU cores;
                needs --config.data.manual_dir and --config.vgg.weights
starter         the weights in this package beside the methods without learning, on real photos at 128 x 128; trains
                nothing; needs --config.data.manual_dir, and --config.vgg.weights for LPIPS
paper           the four datasets: 256 x 256, batch 64, 120,000 steps, Eq. (5); needs --config.vgg.weights

A whole training config as in base.py, which every learned method shares, and the sections of the table.
"""

from ml_collections import ConfigDict

from dpconv_jax.configs import dpconv, gconv, pconv

NETWORKS = ("dpconv", "pconv", "pconv_liu2018", "gconv")
TEXTURED = tuple(f"{name}+texture" for name in NETWORKS)  # not of the paper, which compares without post-processing
METHODS = (*NETWORKS, *TEXTURED, "patchmatch", "pypatchmatch", "telea", "ns", "biharmonic")
RECIPES = {  # of each learned method: what it makes of the shared config, once that is final
    "dpconv": lambda config: config,
    "pconv": pconv.benchmark,  # these change the model only: "the same settings" of section 4.3
    "gconv": gconv.same_settings,
    "pconv_liu2018": pconv.liu2018,  # and these the loss and the optimiser as well
    "gconv_yu2019": gconv.yu2019,
}


def of_the_table(config: ConfigDict, *, datasets: tuple[str, ...]) -> ConfigDict:
    """Adds the sections of the table to a training config."""
    config.methods = METHODS  # rows, in this order: learned ones, these with the image's own patches led by them
    # (NAME+texture), and those of baselines/classical.py
    config.datasets = datasets
    config.recipes = ConfigDict(RECIPES)
    config.by_dataset = ConfigDict()  # fields of config.data that a dataset has otherwise; "" changes none
    # In place of a training: a workdir, a .safetensors or "starter"; {dataset} in it is the dataset's name.
    config.weights = ConfigDict(dict.fromkeys(RECIPES, ""))
    config.networks = ConfigDict()  # files of the metrics' networks; "" takes the fetched one, if any
    config.networks.inception = ""
    config.networks.lpips = ""
    config.networks.vgg16 = ""  # before the fetched one, config.vgg.weights is looked at
    return config


def demo() -> ConfigDict:
    config = dpconv.demo()
    config.optim.warmup_steps = 10
    config.optim.ema = 0.9
    config.train.steps = 60
    config.train.image_every = config.train.eval_every = config.train.checkpoint_every = 60
    config.train.log_every = 20
    config.eval.examples = 48
    return of_the_table(config, datasets=("synthetic_garments",))


def clothing_small() -> ConfigDict:
    config = dpconv.clothing_small()
    config.model.dilations = (1, 2, 3, 1)  # at 64 pixels the dilated map is 8 x 8; GConv's follow data.size
    config.vgg.start = 3000  # colours first: steps without VGG-16 take a sixth of the time
    config.data.size = 64
    config.train.steps = 3500
    config.train.batch_size = 8
    config.train.image_every = config.train.eval_every = 700
    config = of_the_table(config, datasets=("clothing_small",))
    config.methods = (*METHODS, "gconv_yu2019", "mean")
    return config


def starter() -> ConfigDict:
    config = of_the_table(dpconv.starter(), datasets=("clothing_small",))
    config.methods = ("dpconv", "telea", "ns", "biharmonic", "patchmatch", "pypatchmatch", "mean")
    config.weights.dpconv = "starter"
    return config


def paper() -> ConfigDict:
    config = of_the_table(dpconv.base.get_config(), datasets=dpconv.PAPER)
    config.train.eval_every = 30_000
    for dataset in dpconv.PAPER:
        data = dpconv.paper(dataset).data
        config.by_dataset[dataset] = ConfigDict({"crop": data.crop, "manual_dir": ""})
    return config


def get_config(variant: str = "") -> ConfigDict:
    """The table named after the colon; raises ValueError naming the known ones."""
    tables = {"": demo, "clothing_small": clothing_small, "starter": starter, "paper": paper}
    if variant not in tables:
        raise ValueError(f"no variant {variant!r} of configs/table1.py; known: {', '.join(filter(None, tables))}")
    return tables[variant]()
