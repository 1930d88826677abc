"""`clothing_small`: 3,781 CC0 photos of clothes in ten classes, as a TFDS dataset."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from dpconv_jax.data.decode import BadImageError, decode
from dpconv_jax.errors import UsageError

CLASSES = ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt")
MAX_PIXELS = 64_000_000
MIN_SIDE = 32


class ClothingSmall(tfds.core.GeneratorBasedBuilder):
    """Builder of the photos below manual_dir/{train,validation,test}/<class>/<uuid>.jpg.

    Every photo is decoded once; one that fails, or has a side below 32 pixels, is left out, named and counted.
    A split without a folder is left out; without a `train` folder the build is refused.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First build."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "git clone https://github.com/alexeygrigorev/clothing-dataset-small"

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Photos of clothes on hangers, floors and people, about 400 x 533 pixels, public domain (CC0).",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "id": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://github.com/alexeygrigorev/clothing-dataset-small",
            license="CC0",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        root = Path(dl_manager.manual_dir)
        if not (root / "train").is_dir():
            raise UsageError(f"data.manual_dir {str(root)!r} has no folder train; {self.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        return {
            split: self._generate_examples(root / split)
            for split in ("train", "validation", "test")
            if (root / split).is_dir()
        }

    def _generate_examples(self, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        bad = 0
        for label in CLASSES:
            for path in sorted((folder / label).glob("*.jpg")):
                data = path.read_bytes()
                name = f"{label}/{path.name}"
                try:
                    image = decode(data, max_pixels=MAX_PIXELS)
                    if min(image.size) < MIN_SIDE:
                        raise BadImageError(f"{image.width} x {image.height} pixels, a side below {MIN_SIDE}")
                except BadImageError as error:
                    bad += 1
                    logging.getLogger(__name__).warning("%s/%s is left out: %s", folder.name, name, error)
                    continue
                yield name, {"image": data, "id": name, "label": label}
        if bad:
            logging.getLogger(__name__).warning("%s: %d bad images left out", folder.name, bad)
