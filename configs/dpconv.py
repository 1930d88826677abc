"""DPConv, see dpconv_jax/configs/dpconv.py."""

from dpconv_jax.configs.dpconv import get_config as get_config
