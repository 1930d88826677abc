"""Our generators against PyTorch's of torch_reference.py, on the CPU, in float32: with its masks, and without any.

`torch compiled` is the one without masks through torch.compile, channels last; that needs a C++ compiler.
"""

import argparse
import copy
import os
from typing import NamedTuple

import numpy as np
import torch
from flax import nnx

from benchmarks import side_by_side, torch_reference
from benchmarks.flops import PlainDPConv, PlainPConv
from benchmarks.side_by_side import BACKWARD, FORWARD, Compiled
from dpconv_jax.models.dpconv import DPConv
from dpconv_jax.models.generator import Generator
from dpconv_jax.models.pconv import PConv

NETWORKS = (DPConv, PlainDPConv, torch_reference.DPConv), (PConv, PlainPConv, torch_reference.PConv)
REFERENCE, COMPILED = "torch reference", "torch compiled"
ALLOWED = 3e-4  # difference of the outputs: each is 1e-4 from those that PyTorch computes in float64


class Theirs:
    """A network of torch_reference.py on one batch, by the names of `side_by_side.passes`."""

    def __init__(self, network: torch.nn.Module, image: np.ndarray, mask: np.ndarray | None):
        self._network = network
        self._image, self._mask = (None if each is None else self._nchw(each) for each in (image, mask))
        self.passes = {FORWARD: self.forward, BACKWARD: self.backward}

    @staticmethod
    def _nchw(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))

    @torch.inference_mode()
    def forward(self) -> torch.Tensor:
        return self._network(self._image, self._mask).permute(0, 2, 3, 1)

    def backward(self) -> None:
        self._network.zero_grad(set_to_none=True)
        (self._network(self._image, self._mask) - 0.5).square().mean().backward()


class Goal(NamedTuple):
    """The most of a contender's time that our network may take."""

    share: float
    contender: str


def compiled(network: torch.nn.Module) -> torch.nn.Module:
    """By torch.compile, channels last: the fastest that PyTorch runs plain convolutions here."""
    return torch.compile(copy.deepcopy(network).to(memory_format=torch.channels_last))


def compare(name: str, options: argparse.Namespace, *, goals: dict[type[Generator], Goal]) -> None:
    """Prints a table for each network; SystemExit where outputs differ. `name` is one of `side_by_side.passes`."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as many as JAX takes; PyTorch leaves out hyper-threads
    image, mask = side_by_side.example(options.batch, options.size)
    for network, plain, reference in NETWORKS:
        parameters = side_by_side.initialised(network, options.width)
        theirs = reference(width=options.width)
        theirs.load(nnx.to_pure_dict(parameters))
        contenders = {
            REFERENCE: Theirs(theirs, image, mask),
            "torch plain": Theirs(theirs, image, None),
            COMPILED: Theirs(compiled(theirs), image, None),
        }
        for (kind, contender), ours in zip(contenders.items(), (network, plain, plain), strict=True):
            output = Compiled(side_by_side.passes(ours, options.width)[FORWARD], parameters, image, mask)()
            difference = np.abs(np.asarray(output) - contender.forward().numpy()).max()
            if difference > ALLOWED:
                raise SystemExit(f"{ours.__name__} and {kind} differ by {difference:.2g}; {ALLOWED:g} is allowed")
        runs = {"jax": Compiled(side_by_side.passes(network, options.width)[name], parameters, image, mask)}
        runs |= {kind: contender.passes[name] for kind, contender in contenders.items()}
        share, over = goals[network]
        print(f"\n{network.__name__}, {name}, goal: jax at most {share:.2f} of {over}")
        side_by_side.table(side_by_side.seconds(runs, options.rounds), images=options.batch, over=[*contenders])
