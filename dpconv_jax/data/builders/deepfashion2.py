"""`deepfashion2`: DeepFashion2 (Ge et al., CVPR 2019), shop and street photos with every garment outlined."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from dpconv_jax.data.builders import regions
from dpconv_jax.data.builders.collection import BadAnnotationError, Collection, Photo, Shipped

KEYS = ("source", "pair_id")  # of the photo; every other key is a garment


class _Shipped(Shipped):
    """{train,validation}/{image/000001.jpg,annos/000001.json}; a record is 000001."""

    def files(self) -> Mapping[str, Sequence[str]]:
        return {split: (f"{split}/image", f"{split}/annos") for split in ("train", "validation")}

    def records(self, split: str) -> Iterator[str]:
        yield from sorted(path.stem for path in (self.root / split / "image").iterdir() if path.suffix == ".jpg")

    def photos(self, split: str, record: str) -> Iterator[Photo]:
        garments = _garments((self.root / split / "annos" / f"{record}.json").read_text())
        largest = max(garments, key=lambda garment: _area(garment["bounding_box"]))
        image = (self.root / split / "image" / f"{record}.jpg").read_bytes()
        yield Photo(record, str(largest["category_name"]), image, lambda size: _region(garments, size))


def _garments(text: str) -> list[dict[str, Any]]:
    try:
        garments = [value for key, value in json.loads(text).items() if key not in KEYS]
        for garment in garments:
            garment["category_name"]
            np.asarray(garment["bounding_box"], float).reshape(4)
            garment["segmentation"] = [np.asarray(outline, float).reshape(-1, 2) for outline in garment["segmentation"]]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadAnnotationError(f"damaged annotation: {' '.join(repr(error).split())}") from error
    if not garments:
        raise BadAnnotationError("annotation without a garment")
    return garments


def _area(box: Sequence[float]) -> float:
    x0, y0, x1, y1 = box
    return abs((x1 - x0) * (y1 - y0))


def _region(garments: list[dict[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """The union of all outlines; of a garment without any area, its box."""
    whole = np.zeros((regions.SIDE, regions.SIDE), bool)
    for garment in garments:
        outlined = regions.of_polygons(garment["segmentation"], size=size)
        whole |= outlined if outlined.any() else regions.of_box(*garment["bounding_box"], size=size)
    return whole


class DeepFashion2(Collection):
    """Photos of shops and customers; the category is that of the largest garment, the region holds all of them."""

    name = "deepfashion2"  # TFDS would make it deep_fashion2
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First build."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "fill in the form at https://github.com/switchablenorms/DeepFashion2 for the password, download and unzip "
        "train.zip and validation.zip; the folder then holds train/image, train/annos, validation/image and "
        "validation/annos"
    )
    SHIPPED = _Shipped
    PUBLISHED: ClassVar = {"train": "about 191,961", "validation": "about 32,153"}
    DESCRIPTION = "Photos of shops and customers, with the outline of every garment. Not to be redistributed."
    HOMEPAGE = "https://github.com/switchablenorms/DeepFashion2"
