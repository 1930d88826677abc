"""PConv (Liu et al., ECCV 2018). `--config=configs/pconv.py[:VARIANT]`, with the variants of configs/dpconv.py

The 9-layer comparator of Table 1 under "the same settings" as DPConv: its data, loss (Eq. 5), optimiser and steps.
liu2018 as the whole of VARIANT, or before one (liu2018-clothing_small): the network of 2 x 7 layers (at 256 x 256) with
BatchNorm, its own loss, Adam with its defaults, a constant rate, and in the last tenth of the steps a quarter of it and
the encoder's BatchNorm frozen.
"""

from ml_collections import ConfigDict

from dpconv_jax.configs import dpconv


def benchmark(config: ConfigDict) -> ConfigDict:
    config.model = ConfigDict({"name": "pconv", "variant": "benchmark", "width": config.model.width})
    return config


def liu2018(config: ConfigDict) -> ConfigDict:
    config.model = ConfigDict({"name": "pconv", "variant": "liu2018", "width": config.model.width})
    with_vgg = float(config.loss.style > 0)  # the demo has none
    config.loss = ConfigDict({"recipe": "liu2018", "valid": 1.0, "hole": 6.0, "tv": 0.1})
    config.loss.perceptual, config.loss.style = 0.05 * with_vgg, 120.0 * with_vgg
    config.optim.b1, config.optim.b2 = 0.9, 0.999
    config.optim.schedule = "constant"
    config.optim.finetune = 0.1  # they do not say how long
    config.optim.finetune_lr = config.optim.generator_lr / 4  # 5e-5 after 2e-4
    return config


def get_config(variant: str = "") -> ConfigDict:
    """The recipe named after the colon; raises ValueError naming the known ones."""
    if variant == "liu2018" or variant.startswith("liu2018-"):
        return liu2018(dpconv.get_config(variant.removeprefix("liu2018").removeprefix("-")))
    return benchmark(dpconv.get_config(variant))
