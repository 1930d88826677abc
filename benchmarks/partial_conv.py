"""What partial convolutions cost DPConv and PConv: over plain convolutions, and against PyTorch's reference layer.

    python benchmarks/partial_conv.py [--rounds 5] [--size 256] [--batch 4] [--width 1.0] [--json FILE]

Needs `pip install ".[bench]"`. Every contender does the same work on the same weights, float32, in turn within
each round, so that the ratios hold on a machine whose speed drifts; outputs are compared before the clock starts.
`flops.py` says how FLOPs are counted.
"""

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch_reference
from flax import nnx
from flops import PlainDPConv, PlainPConv, generator

from dpconv_jax.models.dpconv import DPConv
from dpconv_jax.models.pconv import PConv
from dpconv_jax.study.arithmetic import flops

NETWORKS = (DPConv, PlainDPConv, torch_reference.DPConv), (PConv, PlainPConv, torch_reference.PConv)


def contenders(
    network: type, plain: type, reference: type, width: float, image: np.ndarray, mask: np.ndarray
) -> tuple[dict, dict]:
    """(forward, training step) functions without arguments by name, and GFLOP an image of the two JAX networks."""
    model = network(width=width, rngs=nnx.Rngs(0))
    if isinstance(model, DPConv):
        for attention in (model.a1, model.a2):
            attention.gamma[...] = jnp.float32(1)  # as after training: from 0 its branch would not be tested
    parameters = nnx.state(model, nnx.Param)
    x, m = jnp.asarray(image), jnp.asarray(mask)
    runs: dict[str, dict[str, Callable[[], object]]] = {"forward": {}, "step": {}}
    gflop, outputs = {}, {}

    for name, kind in (("jax", network), ("jax plain", plain)):
        generate = generator(kind, width)
        gflop[name] = flops(jax.make_jaxpr(generate)(parameters, x, m).jaxpr) / len(image) / 1e9

        def loss(parameters, x, m, generate=generate):
            return jnp.square(generate(parameters, x, m) - 0.5).mean()

        forward = functools.partial(jax.jit(generate), parameters, x, m)
        step = functools.partial(jax.jit(jax.value_and_grad(loss)), parameters, x, m)
        runs["forward"][name] = lambda run=forward: jax.block_until_ready(run())
        runs["step"][name] = lambda run=step: jax.block_until_ready(run())
        outputs[name] = np.asarray(forward())

    theirs = reference(width=width)
    theirs.load(jax.tree.map(np.asarray, nnx.to_pure_dict(parameters)))
    tx, tm = (torch.from_numpy(np.ascontiguousarray(a.transpose(0, 3, 1, 2))) for a in (image, mask))
    for name, valid in (("torch reference", tm), ("torch plain", None)):

        def infer(valid=valid):
            with torch.inference_mode():
                return theirs(tx, valid)

        def step(valid=valid):
            theirs.zero_grad(set_to_none=True)
            (theirs(tx, valid) - 0.5).square().mean().backward()

        runs["forward"][name], runs["step"][name] = infer, step
        outputs[name] = infer().numpy().transpose(0, 2, 3, 1)

    for ours, other in (("jax", "torch reference"), ("jax plain", "torch plain")):
        difference = np.abs(outputs[ours] - outputs[other]).max()
        if difference > 1e-4:
            raise SystemExit(f"{network.__name__}: {ours} and {other} differ by {difference:.2g}; 1e-4 is allowed")
    return runs, gflop


def seconds(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """One warm-up, then every contender once in each round."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def compared(runs: dict, gflop: dict[str, float], rounds: int) -> dict:
    """FLOPs and times of one network, printed as they come."""
    result: dict = {"gflop_per_image": gflop, "mask_path_flops_share": gflop["jax"] / gflop["jax plain"] - 1}
    print(f"forward {gflop['jax']:.2f} GFLOP an image; mask path {result['mask_path_flops_share']:+.3%} FLOPs")
    print(f"{'':16}{'':>18}{'ms':>8}{'/ torch reference':>19}{'/ jax plain':>13}")
    for phase, times in ((phase, seconds(runs[phase], rounds)) for phase in runs):
        result[phase] = {}
        for name, values in times.items():
            ratios = {
                f"over {other}": statistics.median(a / b for a, b in zip(values, times[other], strict=True))
                for other in ("torch reference", "jax plain")
            }
            median = statistics.median(values)
            result[phase][name] = {"seconds": median, **ratios}
            over_torch, over_plain = ratios.values()
            print(f"{phase:16}{name:>18}{median * 1e3:8.0f}{over_torch:18.2f}x{over_plain:12.2f}x", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    shape = (options.batch, options.size, options.size)
    mask = np.ones((*shape, 1), np.float32)
    mask[:, options.size // 4 : -options.size // 4, options.size // 3 : -options.size // 8] = 0
    image = rng.random((*shape, 3), dtype=np.float32) * mask

    setup = {name: getattr(options, name) for name in ("rounds", "size", "batch", "width")}
    setting = f"{options.batch} x {options.size}^2, width {options.width}, float32"
    results = {}
    for network, plain, reference in NETWORKS:
        print(f"{network.__name__}, {setting}, medians of {options.rounds} rounds")
        runs, gflop = contenders(network, plain, reference, options.width, image, mask)
        results[network.__name__] = compared(runs, gflop, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(setup | results, indent=1) + "\n")


if __name__ == "__main__":
    main()
