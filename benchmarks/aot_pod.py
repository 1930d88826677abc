"""What does a chip of a TPU slice hold, compute and send in a training step? The compiler says it, without a TPU.

    python -m benchmarks.aot_pod [--topologies v5e:2x2 v5e:16x16] [--images 16]

Needs `pip install ".[tpu]"` and minutes for each slice. The step is that of `configs/dpconv.py:fashiongen`, 256 x 256
with the whole loss of the paper, in bfloat16, with `--images` on each chip. Ends with an error where a chip's memory
does not suffice, where its arithmetic grows with the number of chips, or where it sends anything but one model's worth
of gradients.
"""

import argparse
import importlib.metadata
import os
from typing import NamedTuple

# The compiler is in libtpu, which otherwise looks for a TPU, and for other processes that use it.
os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from benchmarks.collectives import collectives
from benchmarks.train_step import vgg16
from dpconv_jax import distributed
from dpconv_jax.configs import dpconv
from dpconv_jax.models.trees import Tree
from dpconv_jax.training import steps, train

MEMORY = 16 * 2**30  # bytes of a v5e chip
GROWTH = 1.01  # of a chip's arithmetic, from the first slice to the others
# Values that a chip sends, over the parameters: one each, but two of the discriminator, for real and fake images, and
# a few for BatchNorm and the log.
TRAFFIC = 1.05


class Step(NamedTuple):
    """Of one chip, in bytes where nothing else is said."""

    topology: str
    chips: int
    parameters: int  # of both networks, their number
    state: int
    temporary: int
    flops: float
    accessed: float
    reductions: int  # all-reduces
    sent: int
    sent_elsewise: int  # by other collectives


def placed(tree: Tree, where: jax.sharding.Sharding) -> Tree:
    """Shapes with a sharding."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree)


def compiled(topology: str, images: int) -> Step:
    """What XLA says of the step on a slice."""
    mesh = distributed.in_a_row(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    config = dpconv.get_config("fashiongen")
    config.train.dtype = "bfloat16"
    config.train.batch_size = images * mesh.size
    gan = steps.build(config)
    rate = steps.schedule(config.optim, steps=config.train.steps, steps_per_epoch=1000)
    state = jax.eval_shape(lambda: steps.initialise(gan))
    sides = (config.train.batch_size, config.data.size, config.data.size)
    batch = {name: jax.ShapeDtypeStruct((*sides, n), jnp.uint8) for name, n in (("image", 3), ("mask", 1))}
    whole, parts = distributed.replicated(mesh), distributed.split(mesh)
    shapes = placed(state, whole), placed(batch, parts), placed(jax.eval_shape(vgg16), whole)

    executable = train.compile_step(gan, rate, mesh).lower(*shapes, False).compile()
    memory, cost = executable.memory_analysis(), executable.cost_analysis()
    reductions, others = [], []
    for each in collectives(executable.as_text()):
        (reductions if each.kind == "all-reduce" else others).append(each.size)
    return Step(
        topology=topology,
        chips=mesh.size,
        parameters=sum(leaf.size for leaf in jax.tree.leaves((state.generator, state.discriminator))),
        state=memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        flops=cost["flops"],
        accessed=cost["bytes accessed"],
        reductions=len(reductions),
        sent=sum(reductions),
        sent_elsewise=sum(others),
    )


def check(step: Step, first: Step) -> None:
    """Raises SystemExit where a pod could not be used as it should."""
    worth = step.parameters * jnp.bfloat16.dtype.itemsize
    if step.state + step.temporary > MEMORY:
        raise SystemExit(f"{step.topology}: {step.state + step.temporary:,} bytes do not fit in {MEMORY:,}")
    if step.flops > GROWTH * first.flops:
        raise SystemExit(f"{step.topology}: {step.flops:.3g} FLOP a chip, {first.topology}: {first.flops:.3g}")
    if step.sent_elsewise or not worth <= step.sent <= TRAFFIC * worth:
        raise SystemExit(
            f"{step.topology}: {step.sent:,} and {step.sent_elsewise:,} bytes sent, one model is {worth:,}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topologies", nargs="+", default=["v5e:2x2", "v5e:16x16"])
    parser.add_argument("--images", type=int, default=16, help="on each chip")
    options = parser.parse_args()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu"))
    print(f"{options.images} images on each chip, {versions}\n")
    print("| slice | chips | state, GB | temporary, GB | TFLOP | GB read and written | all-reduces | MB sent |")
    print("|---|---|---|---|---|---|---|---|")
    first = None
    for topology in options.topologies:
        step = compiled(topology, options.images)
        first = first or step
        sizes = (
            f"{step.state / 1e9:.2f} | {step.temporary / 1e9:.2f} | {step.flops / 1e12:.2f} | {step.accessed / 1e9:.1f}"
        )
        print(f"| {topology} | {step.chips} | {sizes} | {step.reductions} | {step.sent / 1e6:.2f} |", flush=True)
        check(step, first)


if __name__ == "__main__":
    main()
