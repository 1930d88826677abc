"""What the builders of downloaded datasets share: every photo is checked, stored upright and small, with its clothing
region; bad ones are left out and listed; built here by threads or anywhere by Apache Beam.
"""

import abc
import contextlib
import csv
import dataclasses
import functools
import io
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TextIO

import grain
import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from dpconv_jax.data.builders import regions
from dpconv_jax.data.decode import BadImageError, decode, header
from dpconv_jax.errors import UsageError
from dpconv_jax.progress import Counter

STORED = 288  # pixels of the shorter side: a little more than the 256 of the paper's networks
QUALITY = 95  # of stored JPEGs
ORIGINALS = "originals"
MAX_PIXELS = 64_000_000
MIN_SIDE = 32
REJECTED = 0.01  # share of a split above which a build stops
REJECTED_CSV = "rejected.csv"


class BadAnnotationError(ValueError):
    """What was shipped with a photo cannot be used; the message says why, on one line."""


class Photo(NamedTuple):
    """One photo as it was shipped."""

    id: str  # unique within its split
    category: str
    image: bytes | Image.Image  # encoded, or RGB
    region: (
        Callable[[tuple[int, int]], np.ndarray] | None
    )  # (width, height) as stored -> as in `regions`; None: unknown


class Rejected(NamedTuple):
    """A photo that was left out."""

    split: str
    id: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Shipped(abc.ABC):
    """A dataset in the form its owners ship it. Small, so that it can be sent to other machines."""

    root: epath.Path

    BLOCK: ClassVar[int] = 1  # photos of a record, at most

    @abc.abstractmethod
    def files(self) -> Mapping[str, Sequence[str]]:
        """Of each split the files and folders below the root that it needs; `train` comes first and must be there."""

    @abc.abstractmethod
    def records(self, split: str) -> Iterator[Any]:
        """What is to be read: a name or a row for each photo or for a block of them; read on one machine."""

    @abc.abstractmethod
    def photos(self, split: str, record: Any) -> Iterator[Photo | Rejected]:
        """The photos of a record; read on any machine. May raise BadAnnotationError and OSError: all of it is bad."""

    def splits(self) -> tuple[list[str], list[str]]:
        """The splits that are there, and a note on each that is not, or is not a published one."""
        needed = self.files()
        present = {split: [path for path in paths if (self.root / path).exists()] for split, paths in needed.items()}
        first = next(iter(needed))
        for split, paths in needed.items():
            if (present[split] or split == first) and len(present[split]) < len(paths):
                missing = [path for path in paths if path not in present[split]]
                found = sorted(entry.name for entry in self.root.iterdir())
                listed = ", ".join(found[:12]) + (", ..." if len(found) > 12 else "") if found else "nothing"
                raise UsageError(f"{self.root} lacks {', '.join(missing)}; it holds {listed}")
        notes = [f"{split}: left out, there is no {needed[split][0]}" for split in needed if not present[split]]
        return [split for split in needed if present[split]], notes


@dataclasses.dataclass(kw_only=True)
class CollectionConfig(tfds.core.BuilderConfig):
    """How photos are stored, and of which track of the dataset."""

    side: int = STORED  # pixels of the shorter side, larger photos are reduced to; 0 keeps the files as they are
    track: str = ""


class Collection(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder of `SHIPPED`.

    Example: image (JPEG of QUALITY, the shorter side at most config.side, upright; or the file as it was), id,
    category, region (PNG, 256 x 256, white on the clothing, over the whole upright image; all black where unknown).
    A photo that does not decode, has more than MAX_PIXELS or a side below MIN_SIDE, or whose annotation is damaged, is
    left out and listed in rejected.csv beside the built version. Where beam_options or beam_runner of TFDS's
    DownloadConfig are given Apache Beam builds the same.
    Raises UsageError, and builds nothing, for a folder that lacks files or where more than `allowed` of a split is bad.
    """

    SHIPPED: ClassVar[type[Shipped]]
    PUBLISHED: ClassVar[Mapping[str, str]]  # of each split, how many photos its owners or the paper speak of
    TRACKS: ClassVar[tuple[str, ...]] = ("",)
    SIDE: ClassVar[int] = STORED
    DESCRIPTION: ClassVar[str]
    HOMEPAGE: ClassVar[str]

    # How to build, not what: set by `sources.build`.
    allowed: float = REJECTED
    workers: int = 2  # threads
    output: TextIO = sys.stdout  # of the progress

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.BUILDER_CONFIGS = [cls.configured(track) for track in cls.TRACKS]

    @classmethod
    def configured(cls, name: str) -> CollectionConfig:
        """The config of a name: [TRACK][_][SIDE], where SIDE is pixels or "originals"; "" is the default.

        Raises UsageError for another.
        """
        track, _, side = name.rpartition("_") if name.partition("_")[0] in cls.TRACKS else ("", "", name)
        if name in cls.TRACKS:
            track, side = name, ""
        track = track or cls.TRACKS[0]
        stored = {"": cls.SIDE, ORIGINALS: 0}.get(side, int(side) if side.isdecimal() else -1)
        if stored and stored < MIN_SIDE:
            tracks = f", after {' or '.join(f'{track}_' for track in cls.TRACKS)}" if cls.TRACKS[0] else ""
            raise UsageError(
                f"{name!r} is no config of {cls.name}; known: {ORIGINALS}, or the shorter side in pixels{tracks}"
            )
        parts = [part for part in (track, ORIGINALS if not stored else str(stored)) if part]
        config = CollectionConfig(name="_".join(parts), side=stored, track=track)
        return next((known for known in cls.BUILDER_CONFIGS if known.name == config.name), config)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(),
            "region": tfds.features.Image(shape=(regions.SIDE, regions.SIDE, 1)),
            "id": tfds.features.Text(),
            "category": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(features),
            homepage=self.HOMEPAGE,
            metadata=tfds.core.MetadataDict(),
        )

    def _shipped(self, root: epath.Path) -> Shipped:
        return self.SHIPPED(root)

    @property
    def rejected(self) -> epath.Path:
        """The list of what was left out; it also outlives a build that was refused for it."""
        return self.data_path.parent / REJECTED_CSV

    def _download_and_prepare(
        self, dl_manager: tfds.download.DownloadManager, download_config: tfds.download.DownloadConfig
    ) -> None:
        self._with_beam = bool(download_config.beam_options or download_config.beam_runner)
        super()._download_and_prepare(dl_manager, download_config)
        bad = read_rejected(self.rejected)
        for split, info in self.info.splits.items():
            check([each for each in bad if each.split == split], info.num_examples, self.allowed, self.rejected)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        shipped = self._shipped(epath.Path(dl_manager.manual_dir))
        try:
            splits, notes = shipped.splits()
        except UsageError as error:
            raise UsageError(f"{error}; {self.MANUAL_DOWNLOAD_INSTRUCTIONS}") from error
        self.info.metadata["notes"] = notes
        if not self._with_beam:
            bad: list[Rejected] = []
            return {split: self._generate_examples(shipped, split, bad) for split in splits}
        from dpconv_jax.data.builders import beam_build  # of an extra

        read = functools.partial(outcomes, shipped, side=self.builder_config.side)
        write = functools.partial(write_rejected, path=self.rejected)
        return beam_build.transforms(splits, records=shipped.records, outcomes=read, write_rejected=write)

    def _generate_examples(
        self, shipped: Shipped, split: str, bad: list[Rejected]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """`bad`: of the splits before; this one's are added."""
        records = list(shipped.records(split))
        read = functools.partial(outcomes, shipped, split, side=self.builder_config.side)
        stream = grain.MapDataset.source(records).map(lambda record: list(read(record)))
        options = grain.ReadOptions(num_threads=self.workers, prefetch_buffer_size=8 * self.workers)
        photos, good, before = shipped.BLOCK * len(records), 0, len(bad)
        with contextlib.redirect_stdout(self.output), Counter(total=photos, unit=f"{split} photos") as counter:
            for found in stream.to_iter_dataset(options):
                for outcome in found:
                    if isinstance(outcome, Rejected):
                        bad.append(outcome)
                    else:
                        good += 1
                        yield outcome
                counter.advance(shipped.BLOCK)
                if len(bad) - before > self.allowed * photos:
                    break  # and not after a night
        write_rejected(bad, path=self.rejected)
        check(bad[before:], good, self.allowed, self.rejected)


def outcomes(
    shipped: Shipped, split: str, record: Any, *, side: int
) -> Iterator[tuple[str, dict[str, Any]] | Rejected]:
    """The examples of a record under their keys, and what is bad of it."""
    try:
        for photo in shipped.photos(split, record):
            if isinstance(photo, Rejected):
                yield photo
                continue
            try:
                stored = example(photo, side=side)
            except (BadImageError, BadAnnotationError) as error:
                yield Rejected(split, photo.id, str(error))
            else:
                yield photo.id, stored
    except (BadAnnotationError, OSError) as error:
        name = record if isinstance(record, str) else record[0]
        yield Rejected(split, str(name), " ".join(str(error).split()))


def example(photo: Photo, *, side: int) -> dict[str, Any]:
    """What is stored of a photo, its shorter side at most `side` (0: as it is).

    Raises BadImageError for an image and BadAnnotationError for a region that cannot be used.
    """
    if isinstance(photo.image, bytes):
        image = decode(photo.image, max_pixels=MAX_PIXELS, min_side=math.ceil(1.5 * side))
        size, orientation = header(photo.image)
    else:
        image, size, orientation = photo.image, photo.image.size, 1
    if min(size) < MIN_SIDE:
        raise BadImageError(f"{size[0]} x {size[1]} pixels, a side below {MIN_SIDE}")
    try:
        region = photo.region and regions.encoded(photo.region(size), orientation=orientation)
    except (ValueError, TypeError) as error:
        raise BadAnnotationError(f"clothing region: {error}") from error
    return {
        "image": photo.image if not side and isinstance(photo.image, bytes) else _encoded(image, side=side),
        "region": region or regions.UNKNOWN,
        "id": photo.id,
        "category": photo.category,
    }


def _encoded(image: Image.Image, *, side: int) -> bytes:
    data = io.BytesIO()
    if not side:
        image.save(data, "PNG")
        return data.getvalue()
    shorter = min(image.size)
    if shorter > side:
        width, height = (max(side, round(each * side / shorter)) for each in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    image.save(data, "JPEG", quality=QUALITY, subsampling="4:4:4")
    return data.getvalue()


def check(bad: Sequence[Rejected], good: int, allowed: float, path: epath.Path) -> None:
    """UsageError where `bad` of a split is more than its share `allowed`; `path` lists them, `good` can be used."""
    if len(bad) > allowed * (len(bad) + good):
        raise UsageError(
            f"{len(bad)} of {len(bad) + good} {bad[0].split} photos cannot be used, more than the {100 * allowed:g} % "
            f"allowed (--allow_rejected of dpconv_jax.data.prepare); {path} lists them, the first is {bad[0].id}: "
            f"{bad[0].reason}"
        )


def write_rejected(bad: Iterable[Rejected], *, path: epath.Path) -> None:
    """The list of what was left out; an older one is replaced at once."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(Rejected._fields)
    rows.writerows(sorted(bad))
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(text.getvalue().encode(errors="backslashreplace"))
    partial.replace(path)


def read_rejected(path: epath.Path) -> list[Rejected]:
    """What `write_rejected` wrote."""
    rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
    return [Rejected(*row) for row in itertools.islice(rows, 1, None)]
