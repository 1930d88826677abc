"""`python -m dpconv_jax.export --checkpoint=WORKDIR --out=model.stablehlo`: a trained generator without this package.

The file is one function with its parameters, `inpaint` below. `.stablehlo`, by jax.export, takes every batch and size
and is lowered for CPU, CUDA and TPU; `.onnx`, by jax2onnx, takes every batch at one size.
"""

import argparse
import importlib
import logging
import pathlib
import sys
from collections.abc import Callable
from types import ModuleType

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dpconv_jax.cli import Parser, run
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.inpainting.model import Model, of_command

PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = {".stablehlo": 1e-5, ".onnx": 1e-4}  # of a file against the live model: XLA again, and other kernels
Size = tuple[int, int]  # height, width
Inpaint = Callable[[np.ndarray, np.ndarray], jax.Array | np.ndarray]


def inpaint(model: Model, generator: Callable, image: jax.Array, mask: jax.Array) -> jax.Array:
    """The composite: `image` itself where it is valid, what `generator` paints in the holes.

    Args:
      generator: `model.generator` or what it compiles: prepared image, mask -> raw output, masks.
      image: (B, H, W, 3) float32, RGB in [0, 1]; pixels of holes are never read. H and W multiples of `model.stride`.
      mask: (B, H, W, 1) float32, valid above 0.5, else hole.

    Returns:
      (B, H, W, 3) float32, RGB in [0, 1].
    """
    mask = jnp.asarray(mask > 0.5, jnp.float32)
    output, _ = generator(model.convention.prepare(image, mask), mask)
    return jnp.where(mask > 0, image, jnp.clip(output, 0.0, 1.0))


def to_stablehlo(model: Model) -> bytes:
    """`inpaint` for every batch and size that the model takes, to be read by `jax.export.deserialize`."""
    stride, limit = model.stride, model.largest
    limits = [] if limit is None else [f"{side} <= {limit // stride}" for side in "hw"]
    batch, height, width = jax.export.symbolic_shape(f"b, {stride}*h, {stride}*w", constraints=limits)
    inputs = [jax.ShapeDtypeStruct((batch, height, width, channels), jnp.float32) for channels in (3, 1)]
    return bytes(jax.export.export(jax.jit(_function(model)), platforms=PLATFORMS)(*inputs).serialize())


def to_onnx(model: Model, size: Size) -> bytes:
    """`inpaint` for every batch at one size: inputs `image` and `mask`, output `composite`.

    Raises UsageError where the model does not take the size, or jax2onnx is not installed.
    """
    jax.eval_shape(model.generator, *(jax.ShapeDtypeStruct((1, *size, channels), jnp.float32) for channels in (3, 1)))
    jax2onnx = _installed("jax2onnx")
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # warns of every shape that depends on the batch
    inputs = [("B", *size, channels) for channels in (3, 1)]
    names = {"input_names": ["image", "mask"], "output_names": ["composite"]}
    return jax2onnx.to_onnx(_function(model), inputs, model_name=model.metadata.model, **names).SerializeToString()


def from_stablehlo(content: bytes) -> Inpaint:
    """What any user makes of the file."""
    return jax.export.deserialize(bytearray(content)).call


def from_onnx(content: bytes) -> Inpaint:
    """What any user makes of the file. Raises UsageError where onnxruntime is not installed."""
    onnxruntime = _installed("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of constants that jax2onnx leaves unused
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda image, mask: session.run(["composite"], {"image": image, "mask": mask})[0]


def difference(model: Model, exported: Inpaint, shapes: list[tuple[int, int, int]]) -> float:
    """The largest absolute difference to the live model over random images (B, H, W) with a hole in the middle.

    NaN where either has one.
    """
    rng = np.random.default_rng(0)
    found = []
    for batch, height, width in shapes:
        image = rng.random((batch, height, width, 3), np.float32)
        mask = np.ones((batch, height, width, 1), np.float32)
        mask[:, height // 4 : -(height // 4), width // 4 : -(width // 4)] = 0
        live = inpaint(model, model.generator, jnp.asarray(image), jnp.asarray(mask))
        found.append(np.abs(np.asarray(exported(image, mask)) - live).max())
    return float(np.max(found))


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake and for a file that differs from the live model."""
    parser = Parser(prog="python -m dpconv_jax.export", description=__doc__)
    parser.add_argument("--checkpoint", metavar="WORKDIR|FILE", help="the network; default: that of this package")
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="FILE", help="*.stablehlo or *.onnx")
    parser.add_argument("--size", type=_size, metavar="HxW", help="the size of an .onnx (default: the training's)")
    options = parser.parse_args(arguments)
    out = options.out
    if out.suffix not in TOLERANCE:
        raise UsageError(f"{out}: an exported model is named *{' or *'.join(TOLERANCE)}")
    if options.size and out.suffix != ".onnx":
        raise UsageError(f"--size is for an .onnx; {out} will take every size")

    with jax.default_device(jax.devices("cpu")[0]):  # the tolerances are of CPUs
        model = of_command(options.checkpoint)
        side, limit = model.metadata.size, model.largest
        height, width = options.size or (side, side)
        if out.suffix == ".onnx":
            content = to_onnx(model, (height, width))
            exported, free = from_onnx(content), f"batch free, size {height} x {width}"
            shapes = [(1, height, width), (2, height, width)]
        else:
            content = to_stablehlo(model)
            bound = f", at most {limit} x {limit}" if limit else ""
            exported, free = from_stablehlo(content), f"batch and size free (multiples of {model.stride}{bound})"
            shapes = [(1, side, side), (2, side if limit else side + model.stride, side)]
        found = difference(model, exported, shapes)
    if not found <= TOLERANCE[out.suffix]:
        raise UsageError(f"{out} is not written: it differs by {found:.1e} from the live model")
    try:
        write_whole(out, content)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error
    print(
        f"{out}: {model.metadata}, {len(content) / 2**20:.1f} MiB, {free}, "
        f"max |difference| to the live model {found:.1e}"
    )
    return 0


def _function(model: Model) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Without the checks of `model.generator`, which need numbers for sizes."""
    return lambda image, mask: inpaint(model, nnx.merge(model.graph, model.params), image, mask)


def _installed(name: str) -> ModuleType:
    """By name: no extra of ours can ask for jax2onnx, whose orbax-checkpoint is older than ours."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"an .onnx needs {name}, which is not installed; docs/export.md says how") from error


def _size(text: str) -> Size:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, like 256x192")
    return int(height), int(width)


if __name__ == "__main__":
    sys.exit(run(main))
