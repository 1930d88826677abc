"""What a generator is, whatever the method."""

import warnings
from abc import abstractmethod
from collections.abc import Sequence

import jax
from flax import nnx

from dpconv_jax.models.convention import Convention
from dpconv_jax.models.trees import Tree

Masks = dict[str, jax.Array]


class Generator(nnx.Module):
    """A network that fills holes. Without `train()` it is in evaluation mode: BatchNorm uses its running statistics.

    A constructor takes keywords only: the fields of its config.model, `size` (the side of its training images), `dtype`
    (of computation; parameters, mask sums and statistics are float32) and `rngs`. It raises ValueError for a field
    without a meaning.

    An image that it makes on the way and that is to be trained as well, such as GConv's coarse one, it keeps as
    `self.coarse = nnx.Intermediate(image)`, (B, H, W, 3) RGB in [0, 1].
    """

    stride: int  # both sides of an image must be multiples of it
    convention: Convention  # how `x` is prepared
    composited: bool = False  # whether the output is the input wherever that is valid
    largest: int | None = None  # the side beyond which weights did not train for an image; None: there is none

    @abstractmethod
    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        *,
        inside: jax.Array | None = None,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Masks]:
        """x (B, H, W, 3) prepared by `convention`; mask (B, H, W, 1), 1 = valid, 0 = hole; sides multiples of `stride`.

        inside: (B, H, W, 1), 1 = image, 0 = beyond it, for images of several sizes in one batch, each in the upper left
        corner with sides that are multiples of `stride`. Inside, the output is the same as of the image alone.

        Returns:
          The output (B, H, W, 3) float32, RGB whose range is [0, 1] once clipped, and the mask of every layer that has
          one by name, (B, h, w, 1) float32; that of the input is "input".

        Raises:
          ValueError: a side is no multiple of `stride`, or the shapes do not agree.
        """

    def check(self, x: jax.Array, mask: jax.Array) -> None:
        """Raises the ValueErrors of `__call__`."""
        batch, height, width, channels = x.shape
        if height % self.stride or width % self.stride:
            raise ValueError(f"the image is {height} x {width}; both sides must be multiples of {self.stride}")
        if channels != 3 or mask.shape != (batch, height, width, 1):
            raise ValueError(f"image {x.shape} and mask {mask.shape} must be (B, H, W, 3) and (B, H, W, 1)")

    def warn_of_untrained_taps(self, x: jax.Array, dilations: Sequence[int], *, reduction: int) -> None:
        """Where the largest of `dilations` reaches the side of its map, that of x divided by `reduction`."""
        height, width = x.shape[1:3]
        if not (isinstance(height, int) and isinstance(width, int)):
            return  # jax.export does not know sides yet
        side = min(height, width) // reduction
        if max(dilations) >= side:
            warnings.warn(
                f"dilation {max(dilations)} reaches the side of the {side} x {side} map: its outer taps see only "
                "padding and do not train",
                stacklevel=3,
            )

    def freeze_encoder(self) -> None:
        """After `train()`: the encoder's BatchNorm keeps and uses its running statistics.

        Raises ValueError where the encoder has none.
        """
        raise ValueError(f"{type(self).__name__} has no BatchNorm in its encoder to freeze")


def channels(base: int, width: float) -> int:
    """`base` times the width multiplier, at least 8."""
    return max(8, round(width * base))


def infer(graph: nnx.GraphDef, whole: Tree, image: jax.Array, mask: jax.Array) -> jax.Array:
    """I_out (B, H, W, 3) float32, RGB, of the holes of `image`, in evaluation mode; `whole`: parameters, statistics."""
    generator = nnx.merge(graph, whole)
    output, _ = generator(generator.convention.prepare(image, mask), mask)
    return output
