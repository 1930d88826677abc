"""The Inception-v3 of 2015-12-05 (Szegedy et al., 2016), whose features are those of FID, KID and the Inception score.

`weights/inception.py` reads its parameters from a file. It differs from torchvision's Inception-v3 in its weights, in
1008 classes, in averages that leave out the padding, and in a maximum where the last block averages elsewhere.

Input and resizing are those of the published graph, as the original FID (Heusel et al., 2017), torch-fidelity and
StyleGAN2-ADA have them: (255 x - 128) / 128, and bilinear to 299 x 299 at positions i * size / 299, without half-pixel
centres and without antialiasing. pytorch-fid differs in both: 2 x - 1, and half-pixel centres.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array
SIDE = 299
FEATURES = 2048
CLASSES = 1008  # of which 1000 mean something


@flax.struct.dataclass
class Inception:
    """Kernels (kh, kw, in, out) and biases (out,) by layer, float32; batch normalisation is folded into them.

    `shapes` names the layers. `head` (2048, 1008) and `head_bias` (1008,) make the logits. `official`: these are the
    published weights, by the hash of their file; only `weights.inception.load` sets it.
    """

    kernels: dict[str, Array]
    biases: dict[str, Array]
    head: Array
    head_bias: Array
    official: bool = flax.struct.field(pytree_node=False, default=False)

    @property
    def name(self) -> str:
        """Of the network behind a number: nothing made with other weights is an FID."""
        return "inception-2015-12-05" if self.official else "inception_unofficial"


class Conv(NamedTuple):
    """A convolution without bias, batch normalisation, ReLU. SAME padding is symmetric for these odd kernels."""

    name: str
    outputs: int
    size: tuple[int, int] = (1, 1)
    strides: int = 1
    padding: str = "SAME"


def _pool(x: Array, start: float, function: Callable[[Array, Array], Array], strides: int, padding: str) -> Array:
    return lax.reduce_window(x, start, function, (1, 3, 3, 1), (1, strides, strides, 1), padding)


def average_pool(x: Array) -> Array:
    """Mean of the 3 x 3 around each pixel, of those that exist: (B, H, W, C) -> (B, H, W, C)."""
    return _pool(x, 0.0, lax.add, 1, "SAME") / _pool(jnp.ones((1, *x.shape[1:3], 1)), 0.0, lax.add, 1, "SAME")


def max_pool(x: Array) -> Array:
    """Maximum of the 3 x 3 around each pixel: (B, H, W, C) -> (B, H, W, C)."""
    return _pool(x, -jnp.inf, lax.max, 1, "SAME")


def halving_max_pool(x: Array) -> Array:
    """Maximum of whole 3 x 3 windows at stride 2: (B, H, W, C) -> (B, (H - 1) // 2, (W - 1) // 2, C)."""
    return _pool(x, -jnp.inf, lax.max, 2, "VALID")


# A block: branches side by side, concatenated. A branch: steps in turn, of which a pair is side by side as well.
Step = Conv | tuple[Conv, Conv] | Callable[[Array], Array]
Block = tuple[tuple[Step, ...], ...]


def _block_a(pooled: int) -> Block:
    return (
        (Conv("branch1x1", 64),),
        (Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5))),
        (Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, (3, 3)), Conv("branch3x3dbl_3", 96, (3, 3))),
        (average_pool, Conv("branch_pool", pooled)),
    )


def _block_c(inner: int) -> Block:
    long = (
        Conv("branch7x7dbl_1", inner),
        Conv("branch7x7dbl_2", inner, (7, 1)),
        Conv("branch7x7dbl_3", inner, (1, 7)),
        Conv("branch7x7dbl_4", inner, (7, 1)),
        Conv("branch7x7dbl_5", 192, (1, 7)),
    )
    return (
        (Conv("branch1x1", 192),),
        (Conv("branch7x7_1", inner), Conv("branch7x7_2", inner, (1, 7)), Conv("branch7x7_3", 192, (7, 1))),
        long,
        (average_pool, Conv("branch_pool", 192)),
    )


def _block_e(pool: Callable[[Array], Array]) -> Block:
    return (
        (Conv("branch1x1", 320),),
        (Conv("branch3x3_1", 384), (Conv("branch3x3_2a", 384, (1, 3)), Conv("branch3x3_2b", 384, (3, 1)))),
        (
            Conv("branch3x3dbl_1", 448),
            Conv("branch3x3dbl_2", 384, (3, 3)),
            (Conv("branch3x3dbl_3a", 384, (1, 3)), Conv("branch3x3dbl_3b", 384, (3, 1))),
        ),
        (pool, Conv("branch_pool", 192)),
    )


STEM: tuple[Step, ...] = (
    Conv("Conv2d_1a_3x3", 32, (3, 3), 2, "VALID"),
    Conv("Conv2d_2a_3x3", 32, (3, 3), 1, "VALID"),
    Conv("Conv2d_2b_3x3", 64, (3, 3)),
    halving_max_pool,
    Conv("Conv2d_3b_1x1", 80),
    Conv("Conv2d_4a_3x3", 192, (3, 3), 1, "VALID"),
    halving_max_pool,
)
BLOCK_B: Block = (
    (Conv("branch3x3", 384, (3, 3), 2, "VALID"),),
    (
        Conv("branch3x3dbl_1", 64),
        Conv("branch3x3dbl_2", 96, (3, 3)),
        Conv("branch3x3dbl_3", 96, (3, 3), 2, "VALID"),
    ),
    (halving_max_pool,),
)
BLOCK_D: Block = (
    (Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, (3, 3), 2, "VALID")),
    (
        Conv("branch7x7x3_1", 192),
        Conv("branch7x7x3_2", 192, (1, 7)),
        Conv("branch7x7x3_3", 192, (7, 1)),
        Conv("branch7x7x3_4", 192, (3, 3), 2, "VALID"),
    ),
    (halving_max_pool,),
)
BLOCKS: dict[str, Block] = {
    "Mixed_5b": _block_a(32),
    "Mixed_5c": _block_a(64),
    "Mixed_5d": _block_a(64),
    "Mixed_6a": BLOCK_B,
    "Mixed_6b": _block_c(128),
    "Mixed_6c": _block_c(160),
    "Mixed_6d": _block_c(160),
    "Mixed_6e": _block_c(192),
    "Mixed_7a": BLOCK_D,
    "Mixed_7b": _block_e(average_pool),
    "Mixed_7c": _block_e(max_pool),
}


def shapes() -> dict[str, tuple[int, int, int, int]]:
    """The shape of every layer's kernel, (kh, kw, in, out), by the name it has in the published file."""
    found = {}

    def of_branch(steps: tuple[Step, ...], prefix: str, channels: int) -> int:
        for step in steps:
            convs = _convolutions(step)
            found.update({prefix + conv.name: (*conv.size, channels, conv.outputs) for conv in convs})
            channels = sum(conv.outputs for conv in convs) or channels
        return channels

    channels = of_branch(STEM, "", 3)
    for name, block in BLOCKS.items():
        channels = sum(of_branch(steps, f"{name}.", channels) for steps in block)
    return found


def features(params: Inception, image: Array) -> tuple[Array, Array]:
    """image (B, H, W, 3) RGB in [0, 1], of any size -> pooled features (B, 2048) and logits (B, 1008), float32.

    The Inception score leaves out the bias of the logits: its own are these minus `params.head_bias`.
    """
    x = (resize(jnp.asarray(image, jnp.float32) * 255) - 128) / 128
    x = apply_block(params, (STEM,), x, prefix="")
    for name, block in BLOCKS.items():
        x = apply_block(params, block, x, prefix=f"{name}.")
    pool = jnp.mean(x, axis=(1, 2))
    return pool, jnp.dot(pool, params.head, precision=lax.Precision.HIGHEST) + params.head_bias


def resize(image: Array) -> Array:
    """(B, H, W, C) -> (B, 299, 299, C), bilinear between the pixel at floor(i * size / 299) and the one after it."""
    for axis in (2, 1):
        size = image.shape[axis]
        position = np.arange(SIDE, dtype=np.float32) * np.float32(size / SIDE)
        below = np.floor(position)
        first, second = (np.minimum(below + step, size - 1).astype(np.int32) for step in (0, 1))
        weight = (position - below).reshape(-1, *[1] * (3 - axis))
        start = jnp.take(image, first, axis=axis)
        image = start + (jnp.take(image, second, axis=axis) - start) * weight
    return image


def apply_block(params: Inception, block: Block, x: Array, *, prefix: str) -> Array:
    """The branches of `block`, whose layers are named with `prefix`, concatenated: (B, H, W, C) -> (B, h, w, C')."""
    return jnp.concatenate([_branch(params, branch, x, prefix) for branch in block], axis=-1)


def _branch(params: Inception, branch: tuple[Step, ...], x: Array, prefix: str) -> Array:
    for step in branch:
        if isinstance(step, tuple):
            x = jnp.concatenate([_convolve(params, conv, x, prefix) for conv in _convolutions(step)], axis=-1)
        else:
            x = step(x)
    return x


def _convolutions(step: Step) -> tuple[Conv, ...]:
    if isinstance(step, Conv):
        return (step,)
    return step if isinstance(step, tuple) else ()


def _convolve(params: Inception, conv: Conv, x: Array, prefix: str) -> Array:
    x = lax.conv_general_dilated(
        x,
        params.kernels[prefix + conv.name],
        (conv.strides, conv.strides),
        conv.padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,  # these features are compared to published ones, never trained on
    )
    return jax.nn.relu(x + params.biases[prefix + conv.name])
