"""`fashiongen`: FashionGen (Rostamzadeh et al., 2018), studio photos of 256 x 256 pixels, in nine categories."""

import contextlib
import functools
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from dpconv_jax.data.builders import regions
from dpconv_jax.data.builders.collection import Collection, Photo, Rejected, Shipped
from dpconv_jax.errors import UsageError

CATEGORIES = (  # "9 different categories fitting better to our study" (section 4.1)
    "TOPS", "SWEATERS", "PANTS", "JEANS", "SHIRTS", "DRESSES", "SHORTS", "SKIRTS", "JACKETS & COATS"
)  # fmt: skip
SHAPE = (256, 256, 3)
KEYS = ("input_image", "input_category", "input_productID")


class _Shipped(Shipped):
    """An HDF5 file for each split; a record is the rows of the nine categories among BLOCK consecutive ones."""

    BLOCK: ClassVar[int] = 64

    def files(self) -> Mapping[str, Sequence[str]]:
        return {split: (f"fashiongen_256_256_{split}.h5",) for split in ("train", "validation")}

    def records(self, split: str) -> Iterator[tuple[int, ...]]:
        with self._open(split) as file:
            kept = [_text(value) in CATEGORIES for value in file["input_category"][:]]
        for start in range(0, len(kept), self.BLOCK):
            rows = tuple(row for row in range(start, min(start + self.BLOCK, len(kept))) if kept[row])
            if rows:
                yield rows

    def photos(self, split: str, record: tuple[int, ...]) -> Iterator[Photo | Rejected]:
        with self._open(split) as file:
            for row in record:
                try:
                    pixels, category, product = (file[key][row] for key in KEYS)
                except OSError as error:  # a damaged chunk
                    yield Rejected(split, f"row {row}", " ".join(str(error).split()))
                    continue
                name = f"{int(np.ravel(product)[0])}-{row:06d}"  # several rows share a product
                yield Photo(name, _text(category), Image.fromarray(pixels), functools.partial(_region, pixels))

    @contextlib.contextmanager
    def _open(self, split: str) -> Generator[Any]:
        try:
            import h5py
        except ImportError as error:
            raise UsageError("fashiongen needs h5py, which is not installed: pip install h5py") from error
        path = self.root / self.files()[split][0]
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(h5py.File(stack.enter_context(path.open("rb")), "r"))
            except OSError as error:
                raise UsageError(f"{path} is damaged or incomplete: {' '.join(str(error).split())}") from error
            missing = [key for key in KEYS if key not in file]
            if missing:
                raise UsageError(f"{path} lacks {', '.join(missing)}; it holds {', '.join(sorted(file)) or 'nothing'}")
            images = file["input_image"]
            if images.dtype != np.uint8 or images.shape[1:] != SHAPE:
                raise UsageError(f"{path}: input_image is {images.dtype} {images.shape}, not uint8 (N, 256, 256, 3)")
            yield file


def _text(value: np.ndarray) -> str:
    return bytes(np.ravel(value)[0]).decode("latin-1").strip()


def _region(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return regions.off_backdrop(pixels)


class FashionGen(Collection):
    """Studio photos of clothes on people, of nine of the categories; the region is what differs from the backdrop."""

    name = "fashiongen"  # TFDS would make it fashion_gen
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First build."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "accept the terms of use at https://fashion-gen.com and download fashiongen_256_256_train.h5 and "
        "fashiongen_256_256_validation.h5 into the folder"
    )
    SHIPPED = _Shipped
    PUBLISHED: ClassVar = {"train": "200K of 260,490", "validation": "30K of 32,528"}
    DESCRIPTION = "Studio photos of clothes on people, 256 x 256 pixels. Not to be redistributed."
    HOMEPAGE = "https://fashion-gen.com"
