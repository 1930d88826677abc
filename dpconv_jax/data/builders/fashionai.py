"""`fashionai`: FashionAI (Zou et al., CVPRW 2019), consumer photos; the tracks `attributes` and `keypoints`."""

import abc
import csv
import functools
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from dpconv_jax.data.builders import regions
from dpconv_jax.data.builders.collection import BadAnnotationError, Collection, Photo, Shipped
from dpconv_jax.errors import UsageError

HELD_OUT = 10_000  # photos of our own test split; a tenth where there are fewer than 100,000


class Row(NamedTuple):
    """What a list says of one photo."""

    path: str  # below the split's folder: Images/….jpg
    category: str
    points: tuple[str, ...]  # x_y_v; v is -1 where the garment has no such point, 0 occluded, 1 visible


class _Shipped(Shipped):
    """A folder of photos and a list for each split; a record is a Row.

    Where there is no test folder, the training photos with the smallest hashes of their names are the test split.
    """

    LISTS: ClassVar[Mapping[str, tuple[str, str]]]  # of each split, its folder and the list below it

    def files(self) -> Mapping[str, Sequence[str]]:
        return {split: (f"{folder}/Images", f"{folder}/{name}") for split, (folder, name) in self.LISTS.items()}

    def splits(self) -> tuple[list[str], list[str]]:
        splits, notes = super().splits()
        if not self._published:
            splits = [*splits, "test"]
            notes = [
                f"test: {len(self._held_out):,} of the training photos, by the hash of their names; there is no "
                f"{self.LISTS['test'][0]}, and this split is ours, not a published one"
            ]
        return splits, notes

    def records(self, split: str) -> Iterator[Row]:
        if self._published:
            yield from self._rows(split)
        else:
            yield from (row for row in self._rows("train") if (row.path in self._held_out) == (split == "test"))

    def photos(self, split: str, record: Row) -> Iterator[Photo]:
        try:
            triples = [tuple(map(float, point.split("_"))) for point in record.points]
            points = [(x, y) for x, y, visibility in triples if visibility >= 0]
        except ValueError as error:
            raise BadAnnotationError(f"damaged key points: {error}") from error
        image = (self._folder(split) / record.path).read_bytes()
        yield Photo(record.path, record.category, image, functools.partial(_region, points))

    @property
    def _published(self) -> bool:
        return (self.root / self.LISTS["test"][0]).exists()

    def _folder(self, split: str) -> epath.Path:
        return self.root / self.LISTS[split if self._published else "train"][0]

    @functools.cached_property
    def _held_out(self) -> set[str]:
        paths = {row.path for row in self._rows("train")}
        paths = sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest())
        return set(paths[: min(HELD_OUT, len(paths) // 10)])

    @abc.abstractmethod
    def _rows(self, split: str) -> Iterator[Row]: ...

    def _lines(self, split: str) -> Iterator[tuple[str, list[str]]]:
        """The rows of a list, each after its place for messages."""
        path = self._folder(split) / self.LISTS[split][1]
        for number, row in enumerate(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))), start=1):
            if row:
                yield f"{path}, line {number}", row


class _Attributes(_Shipped):
    """base/Annotations/label.csv and rank/Tests/question.csv: path, attribute_labels, label; without a header."""

    LISTS: ClassVar = {"train": ("base", "Annotations/label.csv"), "test": ("rank", "Tests/question.csv")}

    def _rows(self, split: str) -> Iterator[Row]:
        for place, row in self._lines(split):
            if len(row) < 2 or not row[1].endswith("_labels"):
                raise UsageError(f"{place}: {','.join(row)!r} is not Images/….jpg,ATTRIBUTE_labels,LABEL")
            yield Row(row[0], row[1].removesuffix("_labels"), ())


class _KeyPoints(_Shipped):
    """train/Annotations/train.csv and test/test.csv: image_id, image_category, then the points; with a header."""

    LISTS: ClassVar = {"train": ("train", "Annotations/train.csv"), "test": ("test", "test.csv")}

    def _rows(self, split: str) -> Iterator[Row]:
        lines = self._lines(split)
        place, names = next(lines, ("", []))
        if names[:2] != ["image_id", "image_category"]:
            raise UsageError(f"{place or self.root}: the header does not begin with image_id,image_category")
        for place, row in lines:
            if len(row) != len(names):
                raise UsageError(f"{place}: {len(row)} columns, the header has {len(names)}")
            yield Row(row[0], row[1], tuple(row[2:]))


def _region(points: Sequence[tuple[float, float]], size: tuple[int, int]) -> np.ndarray:
    """The dilated hull of the key points; where there are none, the middle of the photo."""
    return regions.of_key_points(points, size=size) if points else regions.central()


class FashionAI(Collection):
    """Consumer photos; the category is the attribute of `attributes` or the kind of garment of `keypoints`."""

    name = "fashionai"  # TFDS would make it fashion_ai
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First build."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "register for the FashionAI Global Challenge 2018 at https://tianchi.aliyun.com, download and unpack; for the "
        "track attributes the folder then holds base/Images, base/Annotations/label.csv and, if published to you, "
        "rank/Images and rank/Tests/question.csv; for keypoints it holds train/Images, train/Annotations/train.csv "
        "and, if you have it, test/Images and test/test.csv"
    )
    TRACKS = ("attributes", "keypoints")
    PUBLISHED: ClassVar = {"train": "180,000", "test": "10,000"}
    DESCRIPTION = "Consumer photos of the FashionAI Global Challenge 2018. Not to be redistributed."
    HOMEPAGE = "https://tianchi.aliyun.com"

    def _shipped(self, root: epath.Path) -> Shipped:
        return {"attributes": _Attributes, "keypoints": _KeyPoints}[self.builder_config.track](root)
