"""What do the masks of DPConv and PConv cost over the same networks with plain convolutions, in FLOPs and time?

    python -m benchmarks.mask_path [--rounds 5] [--batch 4] [--size 256] [--width 1.0]

Float32, on the device that JAX finds; needs nothing but this package. The goals: at most 0.2 % of the FLOPs and 1.05
times the time. `flops.py` has the networks without masks, and `study/arithmetic.py` says how FLOPs are counted.
"""

from benchmarks import side_by_side
from benchmarks.flops import PlainDPConv, PlainPConv
from benchmarks.side_by_side import Compiled
from dpconv_jax.models.dpconv import DPConv
from dpconv_jax.models.pconv import PConv


def main() -> None:
    """Prints a table for each network, forward, then forward and backward."""
    options = side_by_side.parser(__doc__).parse_args()
    print(side_by_side.setting(options))
    example = side_by_side.example(options.batch, options.size)
    for network, plain in ((DPConv, PlainDPConv), (PConv, PlainPConv)):
        parameters = side_by_side.initialised(network, options.width)
        masked, unmasked = (side_by_side.passes(kind, options.width) for kind in (network, plain))
        for name in masked:
            runs = {
                "masks": Compiled(masked[name], parameters, *example),
                "plain": Compiled(unmasked[name], parameters, *example),
            }
            gflop = {kind: run.flops / options.batch / 1e9 for kind, run in runs.items()}
            share = gflop["masks"] / gflop["plain"] - 1
            print(f"\n{network.__name__}, {name}: {gflop['masks']:.2f} GFLOP an image, {share:+.3%} over plain")
            side_by_side.table(side_by_side.seconds(runs, options.rounds), images=options.batch, over=["plain"])


if __name__ == "__main__":
    main()
