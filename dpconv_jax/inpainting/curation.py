"""Which of several fills of a hole is the best, judged without the truth (Zhang et al. 2022 call it auto-curation).

Of fills of the same hole that with the lower score tends to have the lower LPIPS; `benchmarks/curation.py` measures it.
"""

import math

import numpy as np
from scipy import ndimage

from dpconv_jax.patches.field import Field, mirrored
from dpconv_jax.patches.kernels import PATCH
from dpconv_jax.patches.scales import LOW, texture

SWEEPS = 2  # patches of the fill look for sources that may be better than those that made it
DETAIL = 0.2  # how much the lack of detail counts


def score(image: np.ndarray, hole: np.ndarray, guide: np.ndarray, made_by: Field, rng: np.random.Generator) -> float:
    """Of a filled image (h, w, 3), float32 in [0, 1]; lower is better.

    What is summed: how unlike the photo its patches over the border of the hole are, the logarithm of their distance to
    their sources; how far its low frequencies have left the guide; and the logarithm of how much less detail it has
    than the cloth around it.
    """
    expected = texture(image, hole)
    field = Field(hole, texture=expected, guide=np.zeros_like(image))
    field.take(made_by)
    field.look(mirrored(image))
    for _ in range(SWEEPS):
        field.sweep(rng)
    border = field.depth <= PATCH // 2
    unlike = math.log1p(float(np.sqrt(field.distances()[border]).mean()))
    away = np.abs(ndimage.gaussian_filter(image - guide, (LOW, LOW, 0)))[hole].mean()
    found = texture(image, np.zeros_like(hole))[hole].mean()
    lack = math.log((expected[hole].mean() + 1e-3) / (found + 1e-3))
    return unlike + float(away) + DETAIL * lack
