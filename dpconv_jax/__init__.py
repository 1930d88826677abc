"""DPConv: inpainting of clothing images with irregular holes, in JAX.

Arrays are NHWC, pixels float in [0, 1]; mask 1 = valid, 0 = hole.
"""

import os
from typing import TYPE_CHECKING

from dpconv_jax.errors import UsageError

if TYPE_CHECKING:
    from dpconv_jax.inpainting.model import Model

__all__ = ["UsageError", "load"]


def load(path: str | os.PathLike[str] | None = None) -> "Model":
    """The trained model of a workdir or a weight file, see `dpconv_jax.inpainting.model.Model`.

    Without a path it is the package's own.
    Raises UsageError where `path` is neither, or is damaged.
    """
    from dpconv_jax.inpainting import model  # here, because importing this package must not import jax

    return model.load(path)
