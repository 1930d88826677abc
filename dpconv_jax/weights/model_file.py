"""A trained generator as one `.safetensors` file that needs no config: parameters by dotted name, the rest as metadata.

Parameters are float32, or float16 in files of half the size; what is read is float32.
Metadata, all strings, what is not text as JSON: `format`, `model`, `options` (the other fields of its config.model),
`size` and `step` (of its training), `input` (a `Convention`) and `sha256` (over all of the above and the tensors).
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx, traverse_util
from numpy.typing import DTypeLike

from dpconv_jax import models
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.models.generator import Generator
from dpconv_jax.weights import tensor_file

FORMATS = (models.FORMAT, "dpconv_jax generator 2")  # that can be read; the first is written
STARTER = pathlib.Path(__file__).with_name("starter") / "dpconv_prefilled.safetensors"  # README.md there is its card
Params = dict[str, Any]  # nested dicts of arrays


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """What rebuilds a generator, and how it was trained."""

    model: str
    options: dict[str, Any]  # the fields of config.model but its name
    size: int  # side of the training images
    step: int | None  # None where nobody says

    def __str__(self) -> str:
        """As in "dpconv prefilled, step 100"."""
        name = " ".join([self.model, *filter(None, [self.options.get("variant")])])
        if self.options.get("released_order"):
            name += " in the order of the released code"
        return name if self.step is None else f"{name}, step {self.step}"

    @classmethod
    def of_training(cls, config: dict[str, Any], step: int, *, workdir: str | os.PathLike[str]) -> "Metadata":
        """From the config of a workdir; UsageError where a field of it is missing or of another kind."""
        try:
            options = dict(config["model"])
            name, size = options.pop("name"), int(config["data"]["size"])
            options = models.named_in(config.get("format"), name, plain(options))
            metadata = cls(model=name, options=options, size=size, step=step)
            build(metadata)
            return metadata
        except (KeyError, TypeError, ValueError, UsageError) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise UsageError(f"{pathlib.Path(workdir) / 'config.json'} is damaged: {reason}") from error


def located(name: str | os.PathLike[str]) -> pathlib.Path:
    """The path that a config means: of the weights in this package where `name` is "starter"."""
    return STARTER if name == "starter" else pathlib.Path(name)


def build(metadata: Metadata) -> Generator:
    """The generator with shapes for parameters: `nnx.split` it, and merge its graph with values.

    Raises UsageError where the metadata describes no known generator.
    """
    return models.build(metadata.model, metadata.options, size=metadata.size)


def shapes(generator: Generator) -> Params:
    """The tree of its parameters and statistics."""
    return nnx.to_pure_dict(nnx.state(generator))


def save(path: str | os.PathLike[str], params: Params, metadata: Metadata, *, dtype: DTypeLike = np.float32) -> None:
    """Writes the whole file or nothing, its tensors as `dtype`: float32, or float16 for half the size.

    Raises UsageError where `path` cannot be written or is no `.safetensors`.
    """
    path = pathlib.Path(path)
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: a weight file is named *.safetensors")
    tensors = {name: np.asarray(value, dtype, order="C") for name, value in flat(params).items()}
    header = {name: value if isinstance(value, str) else json.dumps(value) for name, value in _fields(metadata).items()}
    header["sha256"] = _sha256(tensors, header)
    try:
        write_whole(path, safetensors.numpy.save(tensors, header))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def read(path: str | os.PathLike[str]) -> tuple[Params, Metadata]:
    """The parameters, float32 numpy arrays in the tree of `build`, and the metadata.

    Raises UsageError where the file is missing, damaged or of another kind, or where names or shapes are not those of
    the generator that its metadata describes; those are all listed at once.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such weight file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except tensor_file.FAULTS as error:
        raise UsageError(f"{path} is no whole .safetensors file: {error}") from error
    if header.get("format") not in FORMATS:
        raise UsageError(f"{path}: format is {header.get('format')!r}, not {FORMATS[0]!r}")
    if header.pop("sha256", None) != _sha256(tensors, header):
        raise UsageError(f"{path} is damaged: its content has not the sha256 it was saved with")
    metadata = Metadata(
        model=header["model"],
        options=models.named_in(header["format"], header["model"], plain(json.loads(header["options"]))),
        size=json.loads(header["size"]),
        step=json.loads(header["step"]),
    )
    widened = {name: np.float32(each) if each.dtype == np.float16 else each for name, each in tensors.items()}
    return matched(widened, shapes(build(metadata)), source=path), metadata


def matched(params: Params, shapes: Params, *, source: str | os.PathLike[str]) -> Params:
    """`params`, nested or by dotted name, in the tree of `shapes`; UsageError lists all that does not fit."""
    ours = flat(params)
    wanted = traverse_util.flatten_dict(shapes)
    by_name = {".".join(map(str, keys)): (keys, leaf) for keys, leaf in wanted.items()}
    faults = [f"{name} is missing" for name in by_name if name not in ours]
    faults += [f"{name} is unexpected" for name in ours if name not in by_name]
    for name, (_, leaf) in by_name.items():
        if name in ours and (ours[name].shape, ours[name].dtype) != (leaf.shape, leaf.dtype):
            faults.append(f"{name} is {ours[name].dtype} {ours[name].shape}, not {leaf.dtype} {leaf.shape}")
    if faults:
        raise UsageError(f"{os.fspath(source)} does not fit its model: {'; '.join(faults)}")
    return traverse_util.unflatten_dict({keys: ours[name] for name, (keys, _) in by_name.items()})


def flat(params: Params) -> dict[str, Any]:
    """Nested parameters, or their shapes, by dotted name."""
    return {".".join(map(str, keys)): leaf for keys, leaf in traverse_util.flatten_dict(params).items()}


def _fields(metadata: Metadata) -> dict[str, Any]:
    convention = dataclasses.asdict(build(metadata).convention)
    return {"format": models.FORMAT, **dataclasses.asdict(metadata), "input": convention}


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """With tuples for lists: JSON has no tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}


def _sha256(tensors: dict[str, np.ndarray], header: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()
