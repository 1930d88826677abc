"""Holes of photos of any size: structure from the network, texture from the photo.

The network sees each window of `context` once; what it answers, enlarged, guides the search for patches of `texture`.

Images are (H, W, 3), uint8 or float32 in [0, 1]; holes are bool (H, W).
"""

import functools
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from dpconv_jax.inpainting import context, texture


class Fill(NamedTuple):
    """What the holes of a photo are filled with."""

    picture: np.ndarray  # float32 (H, W, 3) in [0, 1], to be used in the holes; 0 elsewhere
    smooth: bool  # somewhere the network's answer stands alone: too little of the photo is valid for patches


class Filling:
    """A photo that is being filled in threads."""

    def __init__(self, shape: tuple[int, int], parts: Sequence[tuple[context.Window, Future[texture.Textured]]]):
        self._shape, self._parts = shape, parts

    def result(self) -> Fill:
        """Waits for all of it."""
        picture, smooth = np.zeros((*self._shape, 3), np.float32), False
        for window, part in self._parts:
            made = part.result()
            inner = tuple(
                slice(hole.start - seen.start, hole.stop - seen.start)
                for hole, seen in zip(window.holes, (window.rows, window.columns), strict=True)
            )
            picture[window.holes] = made.image[inner]
            smooth |= bool(made.smooth[inner].any())
        return Fill(picture, smooth)


def begin(
    generate: context.Generate,
    photos: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    size: int,
    stride: int,
    textured: bool,
) -> list[Filling]:
    """Fills the holes of images; returns when the network is done, and threads go on with the patches.

    Pixels of holes are never read. size, stride: of the network's training images, and what divides sides.
    """
    windows = [
        (number, window) for number, (_, hole) in enumerate(photos) for window in context.windows(hole, size=size)
    ]
    seen = [context.see(*photos[number], window, size=size, stride=stride) for number, window in windows]
    parts: list[list[tuple[context.Window, Future[texture.Textured]]]] = [[] for _ in photos]
    for (number, window), each, answer in zip(windows, seen, context.answers(generate, seen), strict=True):
        part = _pool().submit(_part, *photos[number], window, each, answer, textured)
        parts[number].append((window, part))
    return [Filling(hole.shape, made) for (_, hole), made in zip(photos, parts, strict=True)]


def _part(
    image: np.ndarray, hole: np.ndarray, window: context.Window, seen: context.Seen, answer: np.ndarray, textured: bool
) -> texture.Textured:
    guide = seen.enlarged(answer)
    image, hole = image[window.rows, window.columns], hole[window.rows, window.columns]
    if not textured:
        return texture.Textured(guide, np.zeros_like(hole))
    pixels = image / np.float32(255) if image.dtype == np.uint8 else image
    return texture.fill(pixels, ~hole[..., None], guide, guide_scale=seen.scale)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    """One for all photos: patches are searched on every core."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="texture")
