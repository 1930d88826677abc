"""The recipe of `toy.tiny` as a file, for tests that need real processes; the variant `table` is a table with it."""

from ml_collections import ConfigDict
from toy import tiny

from dpconv_jax.configs import table1


def get_config(variant: str = "") -> ConfigDict:
    """What a config file must define."""
    config = tiny()
    if variant == "table":
        config.train.steps = 2
        config = table1.of_the_table(config, datasets=("image_folder",))
        config.recipes = ConfigDict({"toy": lambda config: config})
        config.weights = ConfigDict({"toy": ""})
        config.methods = ("toy", "telea", "mean")
    return config
