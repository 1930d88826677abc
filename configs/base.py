"""The fields of every recipe, see dpconv_jax/configs/base.py."""

from dpconv_jax.configs.base import get_config as get_config
