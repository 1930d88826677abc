"""How fast is training: a generator's backward pass against PyTorch's, and the paper's whole step in FLOP/s and memory?

    python -m benchmarks.train_step [--rounds 5] [--batch 4] [--size 256] [--width 1.0] [--dtype float32 bfloat16]

1. Only where JAX runs on the CPU, and needs `pip install ".[bench]"` and a C++ compiler: forward and backward of the
   generators in float32. The goals: DPConv in at most 0.85 of the time that PyTorch takes for its plain convolutions
   compiled, PConv in 0.6 of that with the reference layer.
2. On any one device, without PyTorch: the training step of `configs/dpconv.py:fashiongen` with the whole loss and the
   updates of both networks, VGG-16 with random weights. In float32, on accelerators in bfloat16 too.

FLOPs are those of the step as traced (`study/arithmetic.py`), counted without what it computes and does not use. The
weights of the attention, which the backward pass makes again, count twice, and of two ways to a gradient the longer:
together that is less than 1 % of a step at 256 x 256, by which the share of the peak is too high.
"""

import jax
import numpy as np

from benchmarks import side_by_side
from dpconv_jax import distributed
from dpconv_jax.configs import dpconv
from dpconv_jax.models.dpconv import DPConv
from dpconv_jax.models.pconv import PConv
from dpconv_jax.models.vgg16 import BLOCKS, STYLE_BLOCKS, VGG16
from dpconv_jax.training import steps, train

PEAKS = {  # device_kind -> FLOP/s in bfloat16, dense, by the data sheets
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
}


def vgg16() -> VGG16:
    """Random weights of the layers of the style term, at which features keep their scale."""
    rng = np.random.default_rng(0)
    kernels, biases = {}, {}
    for name, inputs, outputs in (layer for block in BLOCKS[:STYLE_BLOCKS] for layer in block):
        kernels[name] = rng.normal(0, (2 / (9 * inputs)) ** 0.5, (3, 3, inputs, outputs)).astype(np.float32)
        biases[name] = np.zeros(outputs, np.float32)
    return VGG16(kernels, biases, "torchvision")


class Step:
    """The whole step on one batch in one dtype, and the state that it hands on."""

    def __init__(self, dtype: str, *, batch: int, size: int, width: float):
        config = dpconv.get_config("fashiongen")
        config.data.size, config.model.width = size, width
        config.train.batch_size, config.train.dtype = batch, dtype
        mesh = distributed.data_mesh(1)
        self.device = mesh.devices.item()
        gan = steps.build(config)
        rate = steps.schedule(config.optim, steps=config.train.steps, steps_per_epoch=1000)
        self._state = steps.initialise(gan)
        examples = dict(zip(("image", "mask"), side_by_side.example(batch, size), strict=True))
        self._inputs = distributed.to_devices(examples, mesh), jax.device_put(vgg16(), distributed.replicated(mesh))
        traced = train.compile_step(gan, rate, mesh).trace(self._state, *self._inputs, False)
        self.flops = side_by_side.arithmetic(traced)
        self._run = traced.lower().compile()

    def __call__(self) -> None:
        self._state, metrics = self._run(self._state, *self._inputs)
        if jax.block_until_ready((self._state, metrics))[1]["skipped"]:
            raise SystemExit("the loss or a gradient is not finite")

    def peak_memory(self) -> int | None:
        """Bytes that the process has held at once on the device so far; None where the backend does not count them."""
        return (self.device.memory_stats() or {}).get("peak_bytes_in_use")


def whole_step(dtypes: list[str], *, rounds: int, batch: int, size: int, width: float) -> None:
    """Prints a table, then what the numbers mean for each dtype."""
    runs, peaks = {}, {}
    for dtype in sorted(dtypes):  # bfloat16 first: it holds less, and a peak never falls
        runs[dtype] = Step(dtype, batch=batch, size=size, width=width)
        runs[dtype]()
        peaks[dtype] = runs[dtype].peak_memory()
    print("\nDPConv, the whole training step")
    times = side_by_side.seconds(runs, rounds)
    side_by_side.table(times, images=batch, over=["float32"] if len(runs) > 1 else [])
    for dtype, run in runs.items():
        rates = [run.flops / value for value in times[dtype]]
        line = f"{dtype}: {run.flops / batch / 1e9:.1f} GFLOP an image, TFLOP/s "
        line += side_by_side.spread([rate / 1e12 for rate in rates], 3)
        if dtype == "bfloat16" and run.device.device_kind in PEAKS:
            peak = PEAKS[run.device.device_kind]
            line += f", % of the device's peak {side_by_side.spread([100 * rate / peak for rate in rates], 1)}"
        if peaks[dtype]:
            line += f", peak memory {peaks[dtype] / batch / 2**20:.0f} MiB an image"
        print(line)


def main() -> None:
    """Prints all tables."""
    parser = side_by_side.parser(__doc__)
    parser.add_argument("--dtype", nargs="+", choices=steps.DTYPES, help="of the whole step")
    options = parser.parse_args()
    on_cpu = jax.default_backend() == "cpu"
    print(side_by_side.setting(options))
    if on_cpu:
        from benchmarks import against_torch  # needs PyTorch
        from benchmarks.against_torch import COMPILED, REFERENCE, Goal

        against_torch.compare(
            side_by_side.BACKWARD, options, goals={DPConv: Goal(0.85, COMPILED), PConv: Goal(0.6, REFERENCE)}
        )
    else:
        print("Forward and backward against PyTorch: left out, as JAX is not on the CPU.")
    dtypes = options.dtype or (["float32"] if on_cpu else [*steps.DTYPES])
    whole_step(dtypes, rounds=options.rounds, batch=options.batch, size=options.size, width=options.width)


if __name__ == "__main__":
    main()
