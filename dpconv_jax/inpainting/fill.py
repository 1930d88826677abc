"""Holes of photos of any size: structure from the network, texture from the photo.

The network sees each window of `context` once; what it answers, enlarged, guides the search for patches of `texture`.

Images are (H, W, 3), uint8 or float32 in [0, 1]; holes are bool (H, W).
"""

import functools
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from dpconv_jax.inpainting import context, texture

TRUST = (1.0, 0.5, 0.0)  # in the guide, of the first variants; then with another seed


class Fill(NamedTuple):
    """What the holes of a photo are filled with."""

    picture: np.ndarray  # float32 (H, W, 3) in [0, 1], to be used in the holes; 0 elsewhere
    smooth: bool  # somewhere the network's answer stands alone: too little of the photo is valid for patches


class Filling:
    """A photo that is being filled in threads."""

    def __init__(self, shape: tuple[int, int], variants: int):
        self._shape, self._variants = shape, variants
        self._parts: list[tuple[context.Window, list[Future[texture.Textured]]]] = []

    def add(self, window: context.Window, made: list[Future[texture.Textured]]) -> None:
        """A window, and each variant of what fills its holes."""
        self._parts.append((window, made))

    def result(self) -> list[Fill]:
        """Waits for all variants. Those of each window come in the order of their scores, the best first."""
        fills = [Fill(np.zeros((*self._shape, 3), np.float32), False) for _ in range(self._variants)]
        for window, parts in self._parts:
            inner = tuple(
                slice(hole.start - seen.start, hole.stop - seen.start)
                for hole, seen in zip(window.holes, (window.rows, window.columns), strict=True)
            )
            made = sorted((part.result() for part in parts), key=lambda each: each.score)
            for number, (fill, each) in enumerate(zip(fills, made, strict=True)):
                fill.picture[window.holes] = each.image[inner]
                fills[number] = fill._replace(smooth=fill.smooth or bool(each.smooth[inner].any()))
        return fills


def begin(
    generate: context.Generate,
    photos: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    size: int,
    stride: int,
    textured: bool,
    variants: int = 1,
) -> list[Filling]:
    """Fills the holes of images; returns when the network is done, and threads go on with the patches.

    Pixels of holes are never read. size, stride: of the network's training images, and what divides sides. Variants
    differ in how much they trust the network, and in their seeds.
    """
    windows = [
        (number, window) for number, (_, hole) in enumerate(photos) for window in context.windows(hole, size=size)
    ]
    seen = [context.see(*photos[number], window, size=size, stride=stride) for number, window in windows]
    fillings = [Filling(hole.shape, variants) for _, hole in photos]
    for (number, window), each, answer in zip(windows, seen, context.answers(generate, seen), strict=True):
        image, hole = (array[window.rows, window.columns] for array in photos[number])
        options = [
            {"trust": TRUST[variant % len(TRUST)], "seed": variant // len(TRUST), "judged": variants > 1}
            for variant in range(variants)
        ]
        made = [_pool().submit(_part, image, hole, each, answer, how if textured else None) for how in options]
        fillings[number].add(window, made)
    return fillings


def _part(
    image: np.ndarray, hole: np.ndarray, seen: context.Seen, answer: np.ndarray, options: dict[str, Any] | None
) -> texture.Textured:
    guide = seen.enlarged(answer)
    if options is None:
        return texture.Textured(guide, np.zeros_like(hole))
    pixels = image / np.float32(255) if image.dtype == np.uint8 else image
    return texture.fill(pixels, ~hole[..., None], guide, guide_scale=seen.scale, **options)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """One for all photos: patches are searched on every core."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="texture")
