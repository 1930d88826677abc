"""Table 1, see dpconv_jax/configs/table1.py."""

from dpconv_jax.configs.table1 import get_config as get_config
