"""How fast do DPConv and PConv inpaint, against PyTorch with the reference partial convolution and without any masks?

    python -m benchmarks.inference [--rounds 5] [--batch 4] [--size 256] [--width 1.0]

Needs `pip install ".[bench]"` and a C++ compiler. The generator alone, on the CPU, in float32. The goals: DPConv in at
most 0.75 of the time that PyTorch takes for its plain convolutions compiled, PConv in 0.4 of that with the reference
layer.
"""

import jax

from benchmarks import against_torch, side_by_side
from benchmarks.against_torch import COMPILED, REFERENCE, Goal
from dpconv_jax.models.dpconv import DPConv
from dpconv_jax.models.pconv import PConv


def main() -> None:
    """Prints a table for each network."""
    options = side_by_side.parser(__doc__).parse_args()
    jax.config.update("jax_platforms", "cpu")  # PyTorch's tensors are there
    print(side_by_side.setting(options))
    against_torch.compare(
        side_by_side.FORWARD, options, goals={DPConv: Goal(0.75, COMPILED), PConv: Goal(0.4, REFERENCE)}
    )


if __name__ == "__main__":
    main()
