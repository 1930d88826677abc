"""A trained generator, ready to call, from a workdir or a weight file."""

import dataclasses
import functools
import os
import pathlib

import jax
import jax.numpy as jnp
from flax import nnx

from dpconv_jax.checkpoints import restore_generator
from dpconv_jax.errors import UsageError
from dpconv_jax.models import GENERATORS
from dpconv_jax.models.convention import Convention
from dpconv_jax.weights import model_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A generator with its parameters (float32, nested dicts) and what is known about it."""

    graph: nnx.GraphDef
    params: model_file.Params
    metadata: model_file.Metadata

    @property
    def convention(self) -> Convention:
        """How the caller prepares `x`: `model.convention.prepare(image, mask)`."""
        return self.metadata.convention

    def generator(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The raw network, without dropout, compiled once for every shape.

        Args:
          x: (B, H, W, 3) float, normalised and filled in the holes as `convention` says; H and W multiples of 8.
          mask: (B, H, W, 1), 1 = valid, 0 = hole.

        Returns:
          The raw output (B, H, W, 3) float32, and the mask of every layer by name, (B, h, w, 1) float32.

        Raises:
          UsageError: shapes or the type of `x` are wrong, or the image is larger than those of a training in which
            a dilation reached the side of its map: some taps then act that were never trained.
        """
        x, mask = jnp.asarray(x), jnp.asarray(mask, jnp.float32)
        stride = GENERATORS[self.metadata.model].stride
        if x.ndim != 4 or x.shape[3] != 3 or mask.shape != (*x.shape[:3], 1):
            raise UsageError(f"x {x.shape} and mask {mask.shape} must be (B, H, W, 3) and (B, H, W, 1)")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise UsageError(f"x is {x.dtype}; it must be float, prepared as the model's convention says")
        height, width = x.shape[1:3]
        if height % stride or width % stride:
            raise UsageError(f"the image is {height} x {width}; both sides must be multiples of {stride}")
        size, dilation = self.metadata.size, max(self.metadata.dilations)
        if dilation >= size // stride and max(height, width) > size:
            raise UsageError(
                f"the image is {height} x {width}, but dilation {dilation} could not train at {size} x {size}: "
                f"this model takes at most {size} x {size}"
            )
        return _apply(self.graph, self.params, x, mask)


def load(path: str | os.PathLike[str]) -> Model:
    """The model of a workdir (its best step, averaged parameters where there are any) or of an exported file.

    Raises UsageError where `path` is neither, or is damaged.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        params, config, step = restore_generator(path, step="best")
        metadata = model_file.Metadata.of_training(config, step, workdir=path)
        graph, shapes = model_file.build(metadata)
        params = model_file.matched(params, shapes, source=path)
    elif path.exists():
        params, metadata = model_file.read(path)
        graph, _ = model_file.build(metadata)
    else:
        raise UsageError(f"{path}: no such workdir or weight file")
    return Model(graph=graph, params=jax.tree.map(jnp.asarray, params), metadata=metadata)


@functools.partial(jax.jit, static_argnums=0)
def _apply(
    graph: nnx.GraphDef, params: model_file.Params, x: jax.Array, mask: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    return nnx.merge(graph, params)(x, mask)
