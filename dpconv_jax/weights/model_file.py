"""A trained generator as one `.safetensors` file that needs no config: parameters by dotted name, the rest as metadata.

Metadata, all strings, what is not text as JSON: `format`, `model`, `variant`, `width`, `dilations`, `dropout`, `size`
and `step` (of its training), `input` (a `Convention`) and `sha256` (over all of the above and the tensors).
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

from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.models import GENERATORS
from dpconv_jax.models.convention import CONVENTIONS, Convention

FORMAT = "dpconv_jax generator 1"
Params = dict[str, Any]  # nested dicts of arrays


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """What rebuilds a generator (the fields of config.model), and how it was trained."""

    model: str
    variant: str
    width: float
    dilations: tuple[int, ...]
    dropout: float
    size: int  # side of the training images
    step: int

    @property
    def convention(self) -> Convention:
        """Of inputs and outputs."""
        return CONVENTIONS[self.variant]

    @classmethod
    def of_training(cls, config: dict[str, Any], step: int, *, workdir: str | os.PathLike[str]) -> "Metadata":
        """From the config of a workdir; UsageError where a field of it is missing or of another kind."""
        try:
            model = config["model"]
            return cls(
                model=str(model["name"]),
                variant=str(model["variant"]),
                width=float(model["width"]),
                dilations=tuple(int(dilation) for dilation in model["dilations"]),
                dropout=float(model["dropout"]),
                size=int(config["data"]["size"]),
                step=step,
            )
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise UsageError(f"{pathlib.Path(workdir) / 'config.json'} is damaged: {reason}") from error


def build(metadata: Metadata) -> tuple[nnx.GraphDef, Params]:
    """The generator without values: its graph and the shapes of its parameters.

    `nnx.merge(graph, params)` makes the module. Raises UsageError where the metadata describes no known generator.
    """
    if metadata.model not in GENERATORS:
        raise UsageError(f"unknown model {metadata.model!r}; known: {', '.join(GENERATORS)}")

    def create() -> nnx.Module:
        return GENERATORS[metadata.model](
            variant=metadata.variant,
            width=metadata.width,
            dilations=metadata.dilations,
            dropout=metadata.dropout,
            rngs=nnx.Rngs(0),
        )

    try:
        graph, state = nnx.split(nnx.eval_shape(create))
    except ValueError as error:
        raise UsageError(f"model {metadata.model!r}: {error}") from error
    return graph, nnx.to_pure_dict(state)


def save(path: str | os.PathLike[str], params: Params, metadata: Metadata) -> None:
    """Writes the whole file or nothing. Raises UsageError where `path` cannot be written or is no `.safetensors`."""
    path = pathlib.Path(path)
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: a weight file is named *.safetensors")
    tensors = {name: np.asarray(value, order="C") for name, value in _flat(params).items()}
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
    except (OSError, TypeError, safetensors.SafetensorError) as error:
        raise UsageError(f"{path} is no whole .safetensors file: {error}") from error
    if header.get("format") != FORMAT:
        raise UsageError(f"{path}: format is {header.get('format')!r}, not {FORMAT!r}")
    if header.pop("sha256", None) != _sha256(tensors, header):
        raise UsageError(f"{path} is damaged: its content has not the sha256 it was saved with")
    metadata = Metadata(
        model=header["model"],
        variant=header["variant"],
        width=json.loads(header["width"]),
        dilations=tuple(json.loads(header["dilations"])),
        dropout=json.loads(header["dropout"]),
        size=json.loads(header["size"]),
        step=json.loads(header["step"]),
    )
    _, shapes = build(metadata)
    return matched(tensors, shapes, source=path), metadata


def matched(params: Params, shapes: Params, *, source: str | os.PathLike[str]) -> Params:
    """`params`, nested or by dotted name, in the tree of `shapes`; UsageError lists all that does not fit."""
    ours = _flat(params)
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


def _flat(params: Params) -> dict[str, np.ndarray]:
    return {".".join(map(str, keys)): np.asarray(leaf) for keys, leaf in traverse_util.flatten_dict(params).items()}


def _fields(metadata: Metadata) -> dict[str, Any]:
    return {"format": FORMAT, **dataclasses.asdict(metadata), "input": dataclasses.asdict(metadata.convention)}


def _sha256(tensors: dict[str, np.ndarray], header: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()
