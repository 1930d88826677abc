"""PConv, see dpconv_jax/configs/pconv.py."""

from dpconv_jax.configs.pconv import get_config as get_config
