"""`clothing_small`: 3,781 CC0 photos of clothes in ten classes, as a TFDS dataset."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import tensorflow_datasets as tfds

from dpconv_jax.data.builders.collection import Collection, Photo, Shipped

CLASSES = ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt")


class _Shipped(Shipped):
    """{train,validation,test}/<class>/<uuid>.jpg; a record is <class>/<uuid>.jpg."""

    def files(self) -> Mapping[str, Sequence[str]]:
        return {split: (split,) for split in ("train", "validation", "test")}

    def records(self, split: str) -> Iterator[str]:
        for label in CLASSES:
            yield from sorted(f"{label}/{path.name}" for path in self.root.glob(f"{split}/{label}/*.jpg"))

    def photos(self, split: str, record: str) -> Iterator[Photo]:
        yield Photo(record, record.partition("/")[0], (self.root / split / record).read_bytes(), None)


class ClothingSmall(Collection):
    """Photos of clothes on hangers, floors and people; the public repository has no test split in some checkouts."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"2.0.0": "A category and a region, as in the other datasets."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "git clone https://github.com/alexeygrigorev/clothing-dataset-small"
    SHIPPED = _Shipped
    PUBLISHED: ClassVar = {"train": "3,068", "validation": "341", "test": "372"}
    SIDE = 0  # they are small
    DESCRIPTION = "Photos of clothes on hangers, floors and people, about 400 x 533 pixels, public domain (CC0)."
    HOMEPAGE = "https://github.com/alexeygrigorev/clothing-dataset-small"
