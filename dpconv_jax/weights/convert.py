"""One of the networks of this package from any file that it can be read from, as one small `.safetensors`."""

import pathlib
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.weights import inception, lpips, model_file, released, tensor_file, vgg16

VGG_MARKS = ("conv1_1/kernel", vgg16.TORCHVISION_MARK, vgg16.KERAS_MARK)  # the first kernel by each of its names


class Converted(NamedTuple):
    """What a source was taken for: the metadata of the new file, and how many tensors are in it."""

    metadata: dict[str, str]
    tensors: int


def convert_released(source: str | pathlib.Path, out: str | pathlib.Path) -> Converted:
    """Writes the generator that the paper's authors published as one that `dpconv_jax.load` takes: DPConv `released`.

    Raises UsageError as `convert` does, and where `source` is not that generator's state dict.
    """
    _keep_apart(pathlib.Path(source), pathlib.Path(out))
    tensors, _ = tensor_file.read(source)
    params = released.parameters(tensors, source=source)
    model_file.save(out, params, released.METADATA)
    return Converted({"network": "DPConv released"}, len(params))


def convert(source: str | pathlib.Path, out: str | pathlib.Path) -> Converted:
    """Writes the tensors that the network in `source` needs to `out`, names and values as they are.

    Metadata: `network`; `source_sha256`, the hash of `source`; `convention`, of VGG-16. Raises UsageError where `out`
    is not named *.safetensors, is `source` or cannot be written, or `source` cannot be read or is no whole network of
    this package.
    """
    source, out = pathlib.Path(source), pathlib.Path(out)
    if out.suffix != ".safetensors":
        raise UsageError(f"{out}: a converted file is named *.safetensors")
    _keep_apart(source, out)
    tensors, found = tensor_file.read(source)
    if any(mark in tensors for mark in VGG_MARKS):
        network = vgg16.parameters(tensors, found, source=source)
        metadata = {"network": "VGG-16", "convention": network.convention}
        shapes = vgg16.shapes(tensors)
    elif lpips.SHAPES.keys() & tensors.keys():
        lpips.heads(tensors, source=source)
        metadata = {"network": "LPIPS heads"}
        shapes = lpips.SHAPES
    elif inception.shapes().keys() & tensors.keys():
        inception.parameters(tensors, source=source)
        metadata = {"network": "Inception-v3"}
        shapes = inception.shapes()
    else:
        raise UsageError(f"{source} holds none of VGG-16, LPIPS heads and Inception-v3")
    metadata["source_sha256"] = tensor_file.sha256(source)
    kept = {name: np.ascontiguousarray(tensors[name]) for name in shapes}
    try:
        write_whole(out, safetensors.numpy.save(kept, metadata))
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error
    return Converted(metadata, len(kept))


def _keep_apart(source: pathlib.Path, out: pathlib.Path) -> None:
    if source.exists() and out.exists() and out.samefile(source):
        raise UsageError(f"{out} would replace {source}, which was given; choose another place")
