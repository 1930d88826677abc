"""GConv, see dpconv_jax/configs/gconv.py."""

from dpconv_jax.configs.gconv import get_config as get_config
