"""`deepfashion`: DeepFashion, Category and Attribute Prediction (Liu et al., CVPR 2016), photos of one garment each."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from dpconv_jax.data.builders import regions
from dpconv_jax.data.builders.collection import BadAnnotationError, Collection, Photo, Shipped
from dpconv_jax.errors import UsageError

PARTITION = "Eval/list_eval_partition.txt"
LANDMARKS = "list_landmarks.txt"
LISTS = ("list_bbox.txt", LANDMARKS, "list_category_img.txt", "list_category_cloth.txt")
FOLDERS = ("Anno_coarse", "Anno")  # where the lists lie: today, and in older downloads
NAMES = {"train": "train", "validation": "val", "test": "test"}  # of the splits, in the partition file
BEFORE_LANDMARKS = (  # columns: some copies have the first, others the second
    ("image_name", "clothes_type", "variation_type"),
    ("image_name", "clothes_type"),
)
CUT_OFF = 2  # visibility of a landmark outside the photo; 0 is visible, 1 occluded


class Row(NamedTuple):
    """What the lists say of one photo."""

    path: str  # img/<Item>/img_00000001.jpg
    category: str
    box: list[str]  # x_1 y_1 x_2 y_2
    landmarks: list[str]  # (visibility x y) x k


class Table(NamedTuple):
    """A list, split at white space."""

    header: list[str]
    rows: list[list[str]]


class _Shipped(Shipped):
    """Img/img/<Item>/img_00000001.jpg and the lists of `LISTS`; a record is a Row."""

    @property
    def annotations(self) -> str:
        return next((name for name in FOLDERS if (self.root / name).exists()), FOLDERS[0])

    def files(self) -> Mapping[str, Sequence[str]]:
        needed = ("Img/img", PARTITION, *(f"{self.annotations}/{name}" for name in LISTS))
        return dict.fromkeys(NAMES, needed)

    def records(self, split: str) -> Iterator[Row]:
        listed = {name: self._table(f"{self.annotations}/{name}") for name in LISTS}
        categories = [row[0] for row in listed["list_category_cloth.txt"].rows]
        numbers = {row[0]: row[1] for row in listed["list_category_img.txt"].rows}
        boxes = {row[0]: row[1:] for row in listed["list_bbox.txt"].rows}
        landmarks = self._landmarks(listed[LANDMARKS])
        for path, part in self._table(PARTITION).rows:
            if part == NAMES[split]:
                number = numbers.get(path, "")
                known = number.isdecimal() and 0 < int(number) <= len(categories)
                category = categories[int(number) - 1] if known else ""
                yield Row(path, category, boxes.get(path, []), landmarks.get(path, []))

    def photos(self, split: str, record: Row) -> Iterator[Photo]:
        if not record.category:
            raise BadAnnotationError("no category of list_category_cloth.txt")
        try:
            box, landmarks = [float(value) for value in record.box], _points(record.landmarks)
        except ValueError as error:
            raise BadAnnotationError(f"damaged box or landmarks: {error}") from error
        region = functools.partial(_region, box, landmarks)
        yield Photo(record.path, record.category, (self.root / "Img" / record.path).read_bytes(), region)

    def _landmarks(self, listed: Table) -> dict[str, list[str]]:
        """(visibility x y) x k of each photo, k its own; the header says which of BEFORE_LANDMARKS comes first."""
        before = tuple(itertools.takewhile(lambda column: not column.startswith("landmark_"), listed.header))
        where = self.root / self.annotations / LANDMARKS
        if before not in BEFORE_LANDMARKS:
            known = " or ".join(f"'{' '.join(columns)}'" for columns in BEFORE_LANDMARKS)
            raise UsageError(f"{where}, line 2: before the landmarks there is '{' '.join(before)}' and not {known}")
        for number, row in enumerate(listed.rows, start=1):
            if len(row) < len(before) or (len(row) - len(before)) % 3:
                raise UsageError(
                    f"{where}, row {number}: {len(row)} fields are not the {len(before)} of the header, "
                    f"'{' '.join(before)}', and three for each landmark"
                )
        return {row[0]: row[len(before) :] for row in listed.rows}

    def _table(self, path: str) -> Table:
        """A list: its first line is the number of its rows, the second a header."""
        count, header, *rows = [*(self.root / path).read_text().splitlines(), "", ""]
        rows = [row.split() for row in rows if row.strip()]
        if count.strip() != str(len(rows)):
            raise UsageError(
                f"{self.root / path} announces {count.strip()!r} rows and has {len(rows)}: download it again"
            )
        return Table(header.split(), rows)


def _points(values: Sequence[str]) -> list[tuple[float, float]]:
    """The landmarks inside the photo."""
    triples = zip(values[::3], values[1::3], values[2::3], strict=True)
    return [(float(x), float(y)) for visibility, x, y in triples if int(visibility) != CUT_OFF]


def _region(box: Sequence[float], landmarks: Sequence[tuple[float, float]], size: tuple[int, int]) -> np.ndarray:
    """The box within the dilated hull of the landmarks; either alone where the other is not known or they are apart."""
    hull = regions.of_key_points(landmarks, size=size)
    if len(box) != 4:
        return hull
    boxed = regions.of_box(*box, size=size)
    return boxed & hull if (boxed & hull).any() else boxed


class DeepFashion(Collection):
    """Photos of one garment each, with its box and landmarks, in the published partition."""

    name = "deepfashion"  # TFDS would make it deep_fashion
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First build."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "sign the agreement of the Category and Attribute Prediction Benchmark at "
        "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html, download and unzip; the folder then holds Img/img, "
        f"{PARTITION} and, in {FOLDERS[0]} (in older downloads {FOLDERS[1]}), {', '.join(LISTS)}"
    )
    SHIPPED = _Shipped
    PUBLISHED: ClassVar = {"train": "209,222", "validation": "40,000", "test": "40,000"}
    DESCRIPTION = "Photos of one garment each, with its box and landmarks. Not to be redistributed."
    HOMEPAGE = "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html"
