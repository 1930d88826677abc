"""The networks, by the name a config gives them."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from dpconv_jax.errors import UsageError
from dpconv_jax.models.dpconv import DPConv
from dpconv_jax.models.gconv import GConv
from dpconv_jax.models.generator import Generator
from dpconv_jax.models.pconv import PConv

GENERATORS: dict[str, type[Generator]] = {"dpconv": DPConv, "pconv": PConv, "gconv": GConv}
FORMAT = "dpconv_jax generator 3"  # in weight files and config.json: what a name and its options stand for


def named_in(format: str | None, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options, of today's FORMAT, of the graph that a file of another format names with `options`.

    Before format 3 `paper` and `prefilled` had the decoder and the activations of the released code.
    """
    if format != FORMAT and name == "dpconv" and options.get("variant") in ("paper", "prefilled"):
        return {**options, "released_order": True}
    return options


def build(
    name: str, options: dict[str, Any], *, size: int, dtype: jnp.dtype = jnp.float32, rngs: nnx.Rngs | None = None
) -> Generator:
    """The generator `name` for training images of `size`; without `rngs` its parameters are shapes, no values.

    `options` are the fields that its constructor takes beside those. UsageError for a name, field or value it has not.
    """
    if name not in GENERATORS:
        raise UsageError(f"model.name is {name!r}; known: {', '.join(GENERATORS)}")

    def create(rngs: nnx.Rngs) -> Generator:
        return GENERATORS[name](**options, size=size, dtype=dtype, rngs=rngs)  # ty: ignore[unknown-argument]

    try:
        return nnx.eval_shape(lambda: create(nnx.Rngs(0))) if rngs is None else create(rngs)
    except ValueError as error:
        raise UsageError(f"model: {error}") from error
    except TypeError as error:  # of the call: a field that this generator does not take
        raise UsageError(f"model {name!r}: {str(error).split('() ')[-1]}") from error
