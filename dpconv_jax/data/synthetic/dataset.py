"""The embedded default dataset: garments drawn by `garments`, as a TFDS builder that needs no file and no network.

    SyntheticGarments(data_dir=..., file_format="array_record").download_and_prepare()

Example: image (JPEG, 256 x 256 x 3), region (PNG, 1 bit, white = clothing), id ("train-00042"), category.
Example `index` of the seed's sequence is one picture whatever the number of examples or processes.
"""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import tensorflow_datasets as tfds

from dpconv_jax.data.synthetic import painting


@dataclasses.dataclass(kw_only=True)
class GarmentsConfig(tfds.core.BuilderConfig):
    """How many garments of which sequence. Tests build a few, under a name of their own."""

    train: int = 2700
    validation: int = 300
    seed: int = 0
    processes: int = 2


class SyntheticGarments(tfds.core.GeneratorBasedBuilder):
    """Catalogue sketches of tops, dresses, trousers, skirts and coats; 2,700 to train on and 300 to validate."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [GarmentsConfig(name="default")]

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(256, 256, 3), encoding_format="jpeg"),
            "region": tfds.features.Image(shape=(256, 256, 1), encoding_format="png"),
            "id": tfds.features.Text(),
            "category": tfds.features.Text(),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features), description=self.__doc__)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        config = self.builder_config
        return {
            "train": self._generate_examples("train", range(config.train)),
            "validation": self._generate_examples("validation", range(10**6, 10**6 + config.validation)),
        }

    def _generate_examples(self, split: str, indices: range) -> Iterator[tuple[str, dict]]:
        config = self.builder_config
        for index, (image, region, category) in enumerate(painting.encoded(config.seed, indices, config.processes)):
            name = f"{split}-{index:05d}"
            yield name, {"image": image, "region": region, "id": name, "category": category}
