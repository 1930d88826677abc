"""How fast do DPConv and PConv inpaint, against PyTorch with the reference partial convolution and without any masks?

    python -m benchmarks.inference [--rounds 5] [--batch 4] [--size 256] [--width 1.0]

Needs `pip install ".[bench]"`. The generator alone, on the CPU, in float32. The goals: at most 0.5 (DPConv) and 0.4
(PConv) of the time of PyTorch with the reference layer.
"""

import jax

from benchmarks import against_torch, side_by_side
from dpconv_jax.models.dpconv import DPConv
from dpconv_jax.models.pconv import PConv


def main() -> None:
    """Prints a table for each network."""
    options = side_by_side.parser(__doc__).parse_args()
    jax.config.update("jax_platforms", "cpu")  # PyTorch's tensors are there
    print(side_by_side.setting(options))
    against_torch.compare(side_by_side.FORWARD, options, goals={DPConv: 0.5, PConv: 0.4})


if __name__ == "__main__":
    main()
