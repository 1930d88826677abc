"""The feature networks behind the metrics of Table 1, from the files that the config names or that were fetched."""

import pathlib
from typing import NamedTuple

from ml_collections import ConfigDict

from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation.suite import Networks
from dpconv_jax.models.vgg16 import BLOCKS, VGG16
from dpconv_jax.weights import store, vgg16


class Loaded(NamedTuple):
    """The networks at hand, and the sha256 of their files by name."""

    networks: Networks
    sha256: dict[str, str]


def load(config: ConfigDict) -> Loaded:
    """Those of config.networks, where "" is the fetched file; a VGG-16 of "" is that of config.vgg, if it has conv5.

    What is absent is left out. Raises UsageError where a file that is named is missing, or one is damaged.
    """
    files: dict[str, pathlib.Path] = {}
    trunk, inception, heads = None, None, None
    for path in (config.networks.vgg16, config.vgg.weights, _kept("vgg16")):
        if path and trunk is None:
            read = vgg16.load(path)
            if _has_conv5(read):
                trunk, files["vgg16"] = read, pathlib.Path(path)
            elif path == config.networks.vgg16:
                raise UsageError(f"config.networks.vgg16: {path} ends before conv5_3, which the metrics need")
    if path := config.networks.inception or _kept("inception"):
        inception, files["inception"] = store.load_inception(path), pathlib.Path(path)
    if trunk is not None and (path := config.networks.lpips or _kept("lpips")):
        heads, files["lpips"] = store.load_lpips(path, trunk=trunk), pathlib.Path(path)
    return Loaded(
        Networks(inception=inception, lpips=heads, vgg16=trunk),
        {name: store.sha256(path) for name, path in files.items()},
    )


def _has_conv5(network: VGG16) -> bool:
    return all(name in network.kernels for name, _, _ in BLOCKS[-1])


def _kept(name: str) -> pathlib.Path | None:
    """The fetched file, None where there is none."""
    is_there = (store.folder() / store.known(name).file).is_file()
    return store.locate(name) if is_there else None
