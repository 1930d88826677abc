"""The convolutions of VGG-16 (Simonyan and Zisserman, 2015): features of the style loss, of LPIPS and of P-IDS.

`weights/vgg16.py` reads their parameters from a file. They are constants: no gradient reaches them.
"""

from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Preprocessing = Literal["oxford", "torchvision"]

# (name, input channels, output channels), in order; a 2 x 2 maximum halves the map between blocks.
BLOCKS = (
    (("conv1_1", 3, 64), ("conv1_2", 64, 64)),
    (("conv2_1", 64, 128), ("conv2_2", 128, 128)),
    (("conv3_1", 128, 256), ("conv3_2", 256, 256), ("conv3_3", 256, 256)),
    (("conv4_1", 256, 512), ("conv4_2", 512, 512), ("conv4_3", 512, 512)),
    (("conv5_1", 512, 512), ("conv5_2", 512, 512), ("conv5_3", 512, 512)),
)
STYLE_BLOCKS = 4  # those of the style loss; a file may end after them

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
OXFORD_MEAN = (123.68, 116.779, 103.939)
OXFORD_SCALE = 57.6  # 255 times the mean of IMAGENET_STD: how much larger Oxford's inputs, hence features, are


@flax.struct.dataclass
class VGG16:
    """Kernels (3, 3, in, out) and biases (out,) by layer name, float32, and what inputs they were trained on.

    conv5_1 to conv5_3 may be left out: the style loss needs none of them.

    `convention`: "oxford" (also Keras): RGB of 0-255 minus a mean. "torchvision": RGB of 0-1, ImageNet mean and std.
    """

    kernels: dict[str, Array]
    biases: dict[str, Array]
    convention: Preprocessing = flax.struct.field(pytree_node=False)

    @property
    def scale(self) -> float:
        """How much larger than torchvision's the features of these weights are; `features` divides by it."""
        return OXFORD_SCALE if self.convention == "oxford" else 1.0


def features(params: VGG16, image: Array, *, dtype: jnp.dtype = jnp.float32) -> tuple[Array, ...]:
    """relu1_2, relu2_2, relu3_3 and relu4_3, at the scale of torchvision's features whatever the convention.

    image: (B, H, W, 3) RGB in [0, 1], H and W at least 8. Returns (B, H / 2^p, W / 2^p, C_p) in `dtype` for p = 0..3
    and C_p = 64, 128, 256, 512. The gradient flows to `image` only.
    """
    return _maps(params, image, blocks=STYLE_BLOCKS, dtype=dtype, precision=None)


def trunk(params: VGG16, image: Array) -> tuple[Array, ...]:
    """The four maps of `features` and relu5_3, float32 at full precision: what a number is made of that is reported.

    image: (B, H, W, 3) RGB in [0, 1], H and W at least 16. Raises ValueError where `params` lack conv5.
    """
    if any(name not in params.kernels for name, _, _ in BLOCKS[-1]):
        raise ValueError("these VGG-16 weights end before conv5_3; relu5_3 needs the whole network")
    return _maps(params, image, blocks=len(BLOCKS), dtype=jnp.float32, precision=lax.Precision.HIGHEST)


def pooled(params: VGG16, image: Array) -> Array:
    """The spatial mean of relu5_3, (B, 512) float32; `trunk` says what it takes and raises."""
    return jnp.mean(trunk(params, image)[-1], axis=(1, 2))


def _maps(
    params: VGG16, image: Array, *, blocks: int, dtype: jnp.dtype, precision: lax.Precision | None
) -> tuple[Array, ...]:
    """The last map of each of the first `blocks` blocks."""
    image = jnp.asarray(image, jnp.float32)
    if params.convention == "oxford":
        # All that follows is convolutions and ReLU, so dividing the input and the biases divides every feature.
        x = (image * 255 - jnp.array(OXFORD_MEAN)) / params.scale
    else:
        x = (image - jnp.array(IMAGENET_MEAN)) / jnp.array(IMAGENET_STD)
    x = x.astype(dtype)
    maps: list[Array] = []
    for block in BLOCKS[:blocks]:
        if maps:
            x = max_pool(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])  # an odd last row or column is dropped
        for name, _, _ in block:
            kernel = lax.stop_gradient(params.kernels[name]).astype(dtype)
            bias = lax.stop_gradient(params.biases[name] / params.scale).astype(dtype)
            x = lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=precision
            )
            x = jax.nn.relu(x + bias)
        maps.append(x)
    return tuple(maps)


@jax.custom_vjp
def max_pool(x: Array) -> Array:
    """2 x 2 maximum with stride 2: (B, H, W, C) with even H and W -> (B, H/2, W/2, C).

    The value and the gradient of `lax.reduce_window`, whose gradient goes to the first of equal pixels, without its
    scatter: on CPU the gradient is ten times faster.
    """
    top_left, top_right, bottom_left, bottom_right = _quarters(x)
    return jnp.maximum(jnp.maximum(top_left, top_right), jnp.maximum(bottom_left, bottom_right))


def _max_pool_forward(x: Array) -> tuple[Array, Array]:
    return max_pool(x), x


def _max_pool_backward(x: Array, cotangent: Array) -> tuple[Array]:
    maximum = max_pool(x)
    unclaimed = jnp.ones(maximum.shape, bool)
    gradients = []
    for quarter in _quarters(x):
        wins = unclaimed & (quarter == maximum)
        gradients.append(jnp.where(wins, cotangent, 0))
        unclaimed &= ~wins
    top, bottom = jnp.stack(gradients[:2], axis=3), jnp.stack(gradients[2:], axis=3)
    return (jnp.stack([top, bottom], axis=2).reshape(x.shape),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _quarters(x: Array) -> tuple[Array, Array, Array, Array]:
    """The four pixels of every 2 x 2 window, in the order of the rows."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    return x[:, :, 0, :, 0], x[:, :, 0, :, 1], x[:, :, 1, :, 0], x[:, :, 1, :, 1]
