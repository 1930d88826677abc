"""From a named dataset to batches of images and masks: source -> shuffle -> repeat -> decode -> crop, flip -> mask.

Everything random comes from (seed, position in the endless stream of examples), before the stream is divided among
processes: the global batch of a step is the same for any number of processes, and the position is the step.
Images are (size, size, 3), masks (size, size, 1), 1 = valid, 0 = hole: for training bytes, of which the step makes
floats on the devices, and for evaluation float32, images in [0, 1].
"""

import dataclasses
import itertools
import logging
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import grain
import numpy as np
from absl import flags
from PIL import Image

from dpconv_jax import masks
from dpconv_jax.data.decode import WHOLE, BadImageError, Box, decode, resize, square_box
from dpconv_jax.data.sources import Examples
from dpconv_jax.errors import UsageError

CROPS = ("resize", "square", "zoom")
MAX_TRIES = 1000  # replacements for one bad image

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """How an example becomes an image and a mask, in training and in evaluation."""

    size: int  # side of both
    crop: str  # of CROPS
    max_pixels: int  # a larger image is a bad one
    mask_preset: str
    mask_files: masks.Files | None = None  # where the preset draws from files
    min_coverage: float  # of the clothing by the hole, where its region is known
    seed: int

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise UsageError(f"data.crop {self.crop!r} is unknown; known: {', '.join(CROPS)}")


class Picture(NamedTuple):
    """A decoded example."""

    id: str
    image: Image.Image  # RGB
    region: Image.Image | None  # L, white on the clothing
    bad: bool  # stands in for an image that could not be used


class _Reader:
    """Decodes examples; names each bad one once."""

    def __init__(self, source: Examples, *, size: int, max_pixels: int) -> None:
        self._source = source
        self._size = size
        self._max_pixels = max_pixels
        self._bad: dict[int, object] = {}  # example -> who found it out first
        # A step near the golden section of the length, coprime to it, visits every example, neighbours far apart.
        self._stride = max(1, round(0.618 * len(source)))
        while math.gcd(self._stride, len(source)) > 1:
            self._stride += 1

    def read(self, index: int) -> Picture | None:
        """Example `index`, or None where it is bad."""
        if index in self._bad:
            return None
        name = f"example {index}"
        try:
            example = self._source[index]
            name = example["id"]
            # Half as large again as needed, so that the fine resize and not the decoder's coarse one sets the quality.
            image = decode(example["image"], max_pixels=self._max_pixels, min_side=math.ceil(1.5 * self._size))
            region = None
            if example["region"]:
                region = decode(example["region"], max_pixels=self._max_pixels).convert("L")
            return Picture(name, image, region, False)
        except (BadImageError, OSError, RuntimeError) as error:  # RuntimeError: a damaged record
            if self._bad.setdefault(index, error) is error:
                log.warning("bad image %s: %s", name, " ".join(str(error).split()))
            return None

    def read_or_replace(self, index: int) -> Picture:
        """Example `index`, or in place of a bad one the first good one of a fixed walk through the others."""
        picture = self.read(index)
        if picture is not None:
            return picture
        tries = min(MAX_TRIES, len(self._source))
        for step in range(1, tries):
            picture = self.read((index + step * self._stride) % len(self._source))
            if picture is not None:
                return picture._replace(bad=True)
        raise UsageError(f"none of {tries} images tried can be used (the log names each); at least one must be")


class _ProcessShare(grain.MapDataset):
    """What one process reads: of every global batch its own block, so that all blocks in order are the batch."""

    def __init__(self, parent: grain.MapDataset, *, batch_size: int, index: int, count: int) -> None:
        super().__init__(parent)
        self._batch_size = batch_size
        self._block = batch_size // count
        self._first = index * self._block

    def __len__(self) -> int:
        return len(self._parent) // self._batch_size * self._block

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        batch, place = divmod(index, self._block)
        return self._parent[batch * self._batch_size + self._first + place]


def _pixels(picture: Picture, *, size: int, box: Box, flip: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Image uint8 (size, size, 3) and clothing region uint8 (size, size, 1), 1 = clothing, or None."""
    image = resize(picture.image, size=size, box=box, flip=flip, resample=Image.Resampling.BICUBIC)
    if picture.region is None:
        return image, None
    region = resize(picture.region, size=size, box=box, flip=flip, resample=Image.Resampling.NEAREST)
    return image, (region > 127).astype(np.uint8)[..., None]


def train_batches(
    source: Examples,
    preparation: Preparation,
    *,
    flip: bool,
    threads: int,
    workers: int = 0,
    batch_size: int,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.DatasetIterator:
    """An endless iterator over this process's share b = batch_size / process_count of every global batch from `start`.

    Yields {"image": uint8 (b, size, size, 3), "mask": uint8 (b, size, size, 1), "id": str (b,), "bad": int32 (b,)},
    bad = 1 where another example stands in for one that could not be used. Each of the three hole-ratio buckets is
    drawn with probability 1/3. `threads` make the batches ahead of time, 0 when they are asked for; `workers` are
    processes that do, with `threads` each, until the iterator is closed. The batches are the same.
    Raises UsageError, on iteration too, when no image can be used.
    """
    if batch_size < 1 or batch_size % process_count:
        raise UsageError(f"train.batch_size {batch_size} is not a multiple of the {process_count} processes")
    size, crop = preparation.size, preparation.crop
    reader = _Reader(source, size=2 * size if crop == "zoom" else size, max_pixels=preparation.max_pixels)

    def augment(picture: Picture, rng: np.random.Generator) -> tuple[Picture, np.ndarray, np.ndarray | None]:
        place, mirrored = rng.random(), rng.random() < 0.5
        box = WHOLE if crop == "resize" else square_box(*picture.image.size, place=place)
        if crop == "zoom":
            box = square_box(*picture.image.size, place=place, across=rng.random(), share=rng.uniform(0.5, 1.0))
        image, region = _pixels(picture, size=size, box=box, flip=flip and mirrored)
        return picture, image, region

    def add_mask(example: tuple[Picture, np.ndarray, np.ndarray | None], rng: np.random.Generator) -> dict[str, Any]:
        picture, image, region = example
        mask = masks.draw(
            rng,
            (size, size),
            preset=preparation.mask_preset,
            bucket=int(rng.integers(len(masks.BUCKETS))),
            region=region,
            min_coverage=preparation.min_coverage,
            files=preparation.mask_files,
        )
        return {"image": image, "mask": mask, "bad": np.int32(picture.bad), "id": np.str_(picture.id)}

    stream = grain.MapDataset.range(len(source)).seed(preparation.seed).shuffle().repeat()
    stream = stream.map(reader.read_or_replace).random_map(augment).random_map(add_mask)
    stream = _ProcessShare(stream, batch_size=batch_size, index=process_index, count=process_count)
    stream = stream.batch(batch_size // process_count).slice(slice(start, None))
    # The buffer counts batches, and each thread makes one.
    batches = stream.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2))
    if workers:
        flags.FLAGS.mark_as_parsed()  # grain asks them for a flag of its own
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return iter(batches)


def eval_batches(
    source: Examples,
    preparation: Preparation,
    *,
    batch_size: int,
    bucket: int,
    examples: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, Any]]:
    """One pass over the first `examples` of a source (0: all), the mask of each fixed by (seed, id, bucket).

    Each process passes over its own block of them, so that all blocks in order are the examples.
    Yields {"image": float32 (b, size, size, 3), "mask": float32 (b, size, size, 1), "row": list of b masks.Row}; the
    last batch may be short. The crop is the central square where it is not the whole image. A bad image is left out, so
    that nothing is measured twice, and named in the log.
    Raises UsageError when no image can be used.
    """
    size, seed = preparation.size, preparation.seed
    reader = _Reader(source, size=size, max_pixels=preparation.max_pixels)

    def load(index: int) -> dict[str, Any] | None:
        picture = reader.read(index)
        if picture is None:
            return None
        box = WHOLE if preparation.crop == "resize" else square_box(*picture.image.size, place=0.5)
        image, region = _pixels(picture, size=size, box=box, flip=False)
        mask = masks.eval_mask(
            seed=seed,
            example_id=picture.id,
            bucket=bucket,
            size=(size, size),
            preset=preparation.mask_preset,
            region=region,
            min_coverage=preparation.min_coverage,
            files=preparation.mask_files,
        )
        row = masks.row(
            mask,
            example_id=picture.id,
            bucket=bucket,
            seed=seed,
            preset=preparation.mask_preset,
            region=region,
            files=preparation.mask_files,
        )
        return {"image": image, "mask": mask, "row": row}

    count = min(examples, len(source)) if examples else len(source)
    first, end = (count * index // process_count for index in (process_index, process_index + 1))
    stream = grain.MapDataset.range(first, end).map(load)
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2 * batch_size)
    good = (example for example in stream.to_iter_dataset(options) if example is not None)
    found = False
    while batch := list(itertools.islice(good, batch_size)):
        found = True
        image, mask = (np.stack([example[name] for example in batch]) for name in ("image", "mask"))
        yield {
            "image": np.divide(image, 255, dtype=np.float32),
            "mask": mask.astype(np.float32),
            "row": [example["row"] for example in batch],
        }
    if not found:
        raise UsageError(f"none of {end - first} images can be used (the log names each)")
