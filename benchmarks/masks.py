"""How many 256 x 256 masks does one core draw in a second, and how long does the slowest one take?

    python benchmarks/masks.py [--quickdraw=FOLDER]

Pinned to one core. Every preset in every bucket of hole ratio, without a clothing region and with one that holes often
miss, of which 5 % must be covered. Each number is the median of rounds taken in turn, each of other masks.
"""

import argparse
import os
import time

import numpy as np

from dpconv_jax import masks

SIZE = (256, 256)
ROUNDS, MASKS = 9, 100


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quickdraw", metavar="FOLDER", help="Quick, Draw! .ndjson files: adds the preset quickdraw")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    region = np.zeros(SIZE, bool)
    region[30:110, 150:230] = True  # a tenth of the image, off its centre
    presets: dict[str, masks.QuickDraw | None] = dict.fromkeys(masks.PROCEDURAL)
    if options.quickdraw:
        presets["quickdraw"] = masks.QuickDraw(options.quickdraw)
    buckets = range(len(masks.BUCKETS))
    cases = [(preset, bucket, clothing) for preset in presets for bucket in buckets for clothing in (None, region)]
    seconds: dict[int, list[float]] = {index: [] for index in range(len(cases))}
    for round_ in range(ROUNDS):
        for index, (preset, bucket, clothing) in enumerate(cases):
            rng = np.random.default_rng(round_)
            for _ in range(MASKS):
                start = time.perf_counter()
                mask = masks.draw(
                    rng, SIZE, preset=preset, bucket=bucket, region=clothing, files=presets[preset], min_coverage=0.05
                )
                seconds[index].append(time.perf_counter() - start)
                assert masks.bucket_of(masks.hole_ratio(mask)) == bucket
                assert clothing is None or masks.coverage(mask, clothing) >= 0.05

    def pace(index: int) -> float:
        return 1 / float(np.median(np.reshape(seconds[index], (ROUNDS, MASKS)).mean(axis=1)))

    print("| masks/s | (0, .2] | (.2, .4] | (.4, .6] | all three | with a region | slowest |")
    print("|---|---|---|---|---|---|---|")
    for preset in presets:
        of = {clothed: [i for i, case in enumerate(cases) if case[0] == preset and (case[2] is not None) == clothed]
              for clothed in (False, True)}  # fmt: skip
        each = [pace(index) for index in of[False]]
        means = [len(buckets) / sum(1 / pace(index) for index in of[clothed]) for clothed in (False, True)]
        slowest = 1000 * max(max(seconds[index]) for index in [*of[False], *of[True]])
        row = [*(f"{pace_:,.0f}" for pace_ in (*each, *means)), f"{slowest:.1f} ms"]
        print(f"| {preset} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
