"""A trained generator, ready to call, from a workdir or a weight file."""

import dataclasses
import functools
import os
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from dpconv_jax.checkpoints import restore_generator
from dpconv_jax.errors import UsageError
from dpconv_jax.inpainting import context
from dpconv_jax.inpainting.fill import Filling, begin
from dpconv_jax.models.convention import Convention
from dpconv_jax.models.generator import Generator
from dpconv_jax.weights import model_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A generator with its parameters (float32, nested dicts) and what is known about it."""

    graph: nnx.GraphDef
    params: model_file.Params
    metadata: model_file.Metadata

    @functools.cached_property
    def _module(self) -> Generator:
        return nnx.merge(self.graph, self.params)

    @property
    def convention(self) -> Convention:
        """How the caller of `generator` prepares `x`: `model.convention.prepare(image, mask)`."""
        return self._module.convention

    @property
    def stride(self) -> int:
        """Both sides of what `generator` takes are its multiples."""
        return self._module.stride

    @property
    def largest(self) -> int | None:
        """The side beyond which `generator` refuses an image, None where there is none.

        It is that of the training, where a dilation reached the side of its map: larger maps would use taps that never
        trained.
        """
        return self._module.largest

    def __call__(self, image: Any, mask: Any, *, texture: bool = True, variants: int | None = None) -> Any:
        """Fills the holes of one image or of several; every other pixel is returned as it was.

        The network says what goes where, patches of the image give it its texture (`inpainting/`).

        Args:
          image: of any size: an array (H, W, 3), uint8 or float in [0, 1], or a Pillow image of mode RGB. Several: an
            array (B, H, W, 3), or a list of the above, of any sizes. The pixels of holes are never read.
          mask: for each image, 1 = valid, 0 = hole, of the same height and width: an array (H, W) or (H, W, 1) of
            bool, of 0 and 1, or of 0 and 255, or a black and white Pillow image, black in the hole. Several: likewise.
          texture: False gives what the network makes alone, smooth.
          variants: so many fills that differ are wanted, at least 1. They follow the network, half or not at all, and
            for each hole the first is the best by a measure that does not know the truth (`inpainting/curation.py`).

        Returns:
          What was given: an array of the same shape and type (float as float32), a Pillow image, or a list of them.
          With `variants` a list of so many of these.

        Raises:
          UsageError: a shape, type, range or mode is none of these; the sizes do not agree; no pixel is valid;
            variants without texture.
        """
        if variants is not None and (variants < 1 or not texture):
            wrong = "there must be at least 1" if texture else "the network alone gives one"
            raise UsageError(f"variants is {variants}: {wrong}")
        single = isinstance(image, Image.Image) or (not isinstance(image, list | tuple) and np.ndim(image) != 4)
        pairs = [_pair(*pair) for pair in ([(image, mask)] if single else _together(image, mask))]
        fills = [
            _like_given(image, filled, single)
            for filled in zip(*self._composites(pairs, texture, variants), strict=True)
        ]
        return fills[0] if variants is None else fills

    def output(self, image: Any, mask: Any) -> np.ndarray:
        """The raw output for one image over all its pixels, float32 (H, W, 3) in [0, 1]; otherwise as `__call__`.

        The network sees the whole image, reduced to the side of its training where it is larger.
        """
        pixels, hole = _pair(image, mask)
        whole = context.whole(hole.shape)
        seen = context.see(pixels, hole, whole, size=self.metadata.size, stride=self.stride)
        (answer,) = context.answers(self._generate, [seen])
        return seen.enlarged(answer)

    def begin(
        self, photos: Sequence[tuple[np.ndarray, np.ndarray]], *, texture: bool = True, variants: int = 1
    ) -> list[Filling]:
        """Images, uint8 or float32 in [0, 1], and their holes, bool (H, W); threads go on when the network is done."""
        size = self.metadata.size
        return begin(self._generate, photos, size=size, stride=self.stride, textured=texture, variants=variants)

    def _composites(
        self, pairs: Sequence[tuple[np.ndarray, np.ndarray]], texture: bool, variants: int | None
    ) -> list[list[np.ndarray]]:
        """Of each image its variants."""
        fillings = self.begin(pairs, texture=texture, variants=variants or 1)
        return [
            [_composite(fill.picture, pixels, hole) for fill in filling.result()]
            for filling, (pixels, hole) in zip(fillings, pairs, strict=True)
        ]

    def _generate(self, images: np.ndarray, masks: np.ndarray, insides: np.ndarray) -> np.ndarray:
        x, mask, inside = map(jnp.asarray, (images, masks, insides))
        output, _ = self.generator(self.convention.prepare(x, mask), mask, inside=inside)
        return np.clip(np.asarray(output), 0, 1)

    def generator(
        self, x: jax.Array, mask: jax.Array, *, inside: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The raw network, without dropout, compiled once for every shape.

        Args:
          x: (B, H, W, 3) float, normalised and filled in the holes as `convention` says; H and W multiples of `stride`.
          mask: (B, H, W, 1), 1 = valid, 0 = hole.
          inside: (B, H, W, 1), 1 = image, 0 = beyond it, for smaller images in the upper left corner, their sides
            multiples of `stride` as well; None is all image. What lies beyond counts for nothing.

        Returns:
          The raw output (B, H, W, 3) float32, and the mask of every layer by name, (B, h, w, 1) float32.

        Raises:
          UsageError: shapes or the type of `x` are wrong, or the image is larger than those of a training in which
            a dilation reached the side of its map: some taps then act that were never trained.
        """
        x, mask = jnp.asarray(x), jnp.asarray(mask, jnp.float32)
        if x.ndim != 4 or x.shape[3] != 3 or mask.shape != (*x.shape[:3], 1):
            raise UsageError(f"x {x.shape} and mask {mask.shape} must be (B, H, W, 3) and (B, H, W, 1)")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise UsageError(f"x is {x.dtype}; it must be float, prepared as the model's convention says")
        height, width = x.shape[1:3]
        if height % self.stride or width % self.stride:
            raise UsageError(f"the image is {height} x {width}; both sides must be multiples of {self.stride}")
        size = self.largest
        if size is not None and max(height, width) > size:
            raise UsageError(
                f"the image is {height} x {width}, but a dilation could not train at {size} x {size}: "
                f"this model takes at most {size} x {size}"
            )
        return _apply(self.graph, self.params, x, mask, inside)


def load(path: str | os.PathLike[str] | None = None, *, step: int | str | None = "best") -> Model:
    """The model of a workdir (averaged parameters where there are any) or of an exported file.

    Without a path it is the one that comes with this package; weights/starter/README.md says what it is good for.
    `step` of a workdir: "best" by its validation, a number, or None for the newest.

    Raises UsageError where `path` is neither, or is damaged.
    """
    path = model_file.STARTER if path is None else pathlib.Path(path)
    if path.is_dir():
        params, config, found = restore_generator(path, step=step)
        metadata = model_file.Metadata.of_training(config, found, workdir=path)
        generator = model_file.build(metadata)
        params = model_file.matched(params, model_file.shapes(generator), source=path)
    elif path.exists():
        params, metadata = model_file.read(path)
        generator = model_file.build(metadata)
    else:
        raise UsageError(f"{path}: no such workdir or weight file")
    return Model(graph=nnx.graphdef(generator), params=jax.tree.map(jnp.asarray, params), metadata=metadata)


def of_command(path: str | os.PathLike[str] | None) -> Model:
    """What `--checkpoint` names, and a line on standard output where nothing was named. Raises as `load`."""
    network = load(path)
    if path is None:
        said = f"{network.metadata}, trained for hours and not for days"
        print(f"no --checkpoint: using the starter weights of this package ({said})", flush=True)
    return network


@functools.partial(jax.jit, static_argnums=0)
def _apply(
    graph: nnx.GraphDef, params: model_file.Params, x: jax.Array, mask: jax.Array, inside: jax.Array | None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "dilation .* reaches the side", UserWarning)  # of interest to a training
        return nnx.merge(graph, params)(x, mask, inside=inside)


def _together(images: Any, masks: Any) -> list[tuple[Any, Any]]:
    if not isinstance(masks, list | tuple) and np.ndim(masks) < 3:
        raise UsageError("several images need a mask each")
    if len(images) != len(masks):
        raise UsageError(f"{len(images)} images need as many masks, not {len(masks)}")
    return list(zip(images, masks, strict=True))


def _pair(image: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
    """Checked: pixels (H, W, 3) uint8 or float32 in [0, 1], 0 in the holes, and the holes, bool (H, W)."""
    if isinstance(image, Image.Image) and image.mode != "RGB":
        raise UsageError(f"the image has mode {image.mode}; convert it to RGB first")
    pixels, valid = np.asarray(image), np.asarray(mask.convert("L") if isinstance(mask, Image.Image) else mask)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UsageError(f"the image is {pixels.shape}; it must be (H, W, 3)")
    if valid.shape not in (pixels.shape[:2], (*pixels.shape[:2], 1)):
        raise UsageError(f"the mask is {valid.shape}, the image {pixels.shape}: their heights and widths must agree")
    white = max(1, valid.max(initial=0))
    if white not in (1, 255) or not np.isin(valid, (0, white)).all():
        raise UsageError("the mask is soft; its values must be 0 and 1, or 0 and 255")
    hole = valid.reshape(pixels.shape[:2]) == 0
    if hole.all():
        raise UsageError("the mask has no valid pixel: there is nothing to fill the hole from")
    pixels = np.where(hole[..., None], pixels.dtype.type(0), pixels)
    if np.issubdtype(pixels.dtype, np.floating):
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise UsageError(f"the image lies in [{pixels.min()}, {pixels.max()}]; float must lie in [0, 1]")
        return pixels.astype(np.float32), hole
    if pixels.dtype != np.uint8:
        raise UsageError(f"the image is {pixels.dtype}; it must be uint8, or float in [0, 1]")
    return pixels, hole


def _composite(fill: np.ndarray, pixels: np.ndarray, hole: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        fill = np.rint(fill * 255).astype(np.uint8)
    return np.where(hole[..., None], fill, pixels)


def _like_given(given: Any, filled: Sequence[np.ndarray], single: bool) -> Any:
    if single:
        return _like(given, filled[0])
    if isinstance(given, list | tuple):
        return [_like(one, each) for one, each in zip(given, filled, strict=True)]
    return np.stack(filled)


def _like(given: Any, filled: np.ndarray) -> np.ndarray | Image.Image:
    return Image.fromarray(filled) if isinstance(given, Image.Image) else filled
