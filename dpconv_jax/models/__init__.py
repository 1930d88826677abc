"""The networks, by the name a config gives them."""

from dpconv_jax.models.dpconv import DPConv

GENERATORS = {"dpconv": DPConv}
