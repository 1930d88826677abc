"""From the name of a dataset to random access to its encoded examples; what is not built yet is built first."""

import contextlib
import fcntl
import io
import os
import shutil
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, Protocol

import tensorflow_datasets as tfds

from dpconv_jax.data.builders import regions
from dpconv_jax.data.builders.clothing_small import ClothingSmall
from dpconv_jax.data.builders.collection import REJECTED, Collection
from dpconv_jax.data.builders.deepfashion import DeepFashion
from dpconv_jax.data.builders.deepfashion2 import DeepFashion2
from dpconv_jax.data.builders.fashionai import FashionAI
from dpconv_jax.data.builders.fashiongen import FashionGen
from dpconv_jax.data.image_folder import Example, ImageFolder
from dpconv_jax.data.synthetic.dataset import SyntheticGarments
from dpconv_jax.errors import UsageError

Builder = tfds.core.GeneratorBasedBuilder
BUILDERS: dict[str, type[Builder]] = {
    "synthetic_garments": SyntheticGarments,
    "clothing_small": ClothingSmall,
    "fashiongen": FashionGen,
    "fashionai": FashionAI,
    "deepfashion": DeepFashion,
    "deepfashion2": DeepFashion2,
}


class Examples(Protocol):
    """Random access to encoded examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


class Source(Examples, Protocol):
    """Those of a split."""

    split: str


def open_source(name: str, split: str, *, dir: str = "", manual_dir: str = "", data_dir: str = "") -> Source:
    """The examples of `split` ("train" or "validation") of a dataset; built on first use, which prints one line.

    name: a dataset, or a dataset and how it is stored: "deepfashion2/originals" (see `make`). Of a dataset with a test
    split and no validation split, "validation" is the test split.
    dir: the folder of `image_folder`. manual_dir: the downloaded files of a builder that needs some.
    data_dir: where built datasets are kept; "" is TFDS's default, ~/tensorflow_datasets.
    Raises UsageError for an unknown name, missing files or a split the dataset lacks.
    """
    if name == "image_folder":
        return ImageFolder(dir, split)
    builder = make(name, data_dir=data_dir)
    build(builder, manual_dir)
    splits = {found for found, info in builder.info.splits.items() if info.num_examples}
    if split == "validation" and split not in splits and "test" in splits:
        split = "test"
    if split not in splits:
        raise UsageError(f"{name} was built without a {split} split; complete its files and delete {builder.data_path}")
    return read(builder, split)


def make(name: str, *, data_dir: str = "") -> Builder:
    """The builder of a name: DATASET or DATASET/CONFIG, as in "deepfashion2/320" or "fashionai/keypoints".

    Raises UsageError for an unknown one.
    """
    dataset, _, config = name.partition("/")
    if dataset not in BUILDERS:
        raise UsageError(f"data.name {name!r} is unknown; known: {', '.join([*BUILDERS, 'image_folder'])}")
    cls, options = BUILDERS[dataset], {}
    if issubclass(cls, Collection):
        options["config"] = cls.configured(config)
    elif config:
        raise UsageError(f"data.name {name!r} is unknown; {dataset} is stored in one way only")
    try:
        return cls(data_dir=data_dir or None, file_format="array_record", **options)
    except (OSError, UsageError):
        raise
    except Exception as error:  # of protobuf, where a file that describes the built ones is damaged
        where = data_dir or "~/tensorflow_datasets"
        raise UsageError(f"what is built of {name} in {where} is damaged: {error}") from error


def read(builder: Builder, split: str) -> Source:
    """A built split."""
    decoders = {key: tfds.decode.SkipDecoding() for key in ("image", "region")}
    return _Built(builder.as_data_source(split, decoders=decoders), split, builder.data_path)


class _Built:
    """A built TFDS split as a Source."""

    def __init__(self, records: Any, split: str, path: Path) -> None:
        self.split = split
        self._records = records
        self._path = path

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        try:
            record = self._records[index]
            if record["id"] is None:  # of a shard that was cut
                raise RuntimeError("it is empty")
        except RuntimeError as error:  # which names no file
            raise RuntimeError(f"record {index}, {self.split} of {self._path}: {error}") from error
        return {
            "image": record["image"],
            "id": record["id"].decode(),
            "category": record["category"].decode(),
            "region": None if record["region"] == regions.UNKNOWN else record["region"],
        }


def build(
    builder: Builder, manual_dir: str, *, allowed: float = REJECTED, workers: int = 2, beam_options: Any = None
) -> None:
    """Builds a dataset that is not built yet, whole or not at all; where another process is at it, waits for that one.

    manual_dir: the downloaded files of a builder that needs some. allowed: the share of a split that may be bad.
    workers: threads. beam_options: Apache Beam's PipelineOptions, with which its runner builds instead of threads.
    Raises UsageError for missing files and where it cannot be built.
    """
    if not builder.data_path.exists():
        _build(builder, manual_dir, allowed=allowed, workers=workers, beam_options=beam_options)
    builder.info.read_from_directory(builder.data_path)  # another process may have built it since `builder` was made


def _build(builder: Builder, manual_dir: str, *, allowed: float, workers: int, beam_options: Any) -> None:
    how = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    folder = Path(manual_dir).expanduser()
    if how and not (manual_dir and ("://" in manual_dir or (folder.is_dir() and any(folder.iterdir())))):
        what = "is empty" if manual_dir and folder.is_dir() else "is no folder"
        raise UsageError(f"data.manual_dir {manual_dir!r} {what}; {builder.name} needs the one made by: {how}")
    config = tfds.download.DownloadConfig(
        manual_dir=(manual_dir if "://" in manual_dir else folder) if how else None,
        try_download_gcs=False,
        beam_options=beam_options,
        ignore_duplicates=True,  # a list may name a photo twice
    )
    if isinstance(builder, Collection):
        builder.allowed, builder.workers, builder.output = allowed, workers, sys.stdout
    tfds.disable_progress_bar()
    try:
        with _alone(builder):
            if builder.data_path.exists():  # while this process waited
                return
            print(f"building {builder.name} in {builder.data_path}", flush=True)
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints more of the same
                builder.download_and_prepare(download_config=config)
    except UsageError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # no permission, a full disk, what a Beam worker raised
        said = str(error) or repr(error)
        if "Traceback" in said:  # of a worker: what it raised stands in its last line
            said = said.strip().splitlines()[-1].rpartition("UsageError: ")[2]
        raise UsageError(f"cannot build {builder.name} in {builder.data_path}: {' '.join(said.split())}") from error


@contextlib.contextmanager
def _alone(builder: Builder) -> Generator[None]:
    """A context for one process of this machine at a time, with what a killed build left behind cleared away."""
    if "://" in os.fspath(builder.data_path):  # no locks there
        yield
        return
    versions = Path(builder.data_path).parent
    versions.mkdir(parents=True, exist_ok=True)
    with open(versions / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in versions.glob(f"incomplete.*_{builder.data_path.name}"):
            shutil.rmtree(left)
        yield
