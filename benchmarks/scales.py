"""What do the scales of `dpconv_jax/windows.py` do for the error in the holes of photos at their native size?

    python benchmarks/scales.py --checkpoint=runs/clothing_small --photos=$CLOTHING/validation --every=10

Every tenth photo, with one mask of each bucket, is filled in five ways; prints hole l1 %, mean over photos.
"""

import argparse
import collections
import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
from inpaint import draw

import dpconv_jax
from dpconv_jax import folder, masks, photo, windows
from dpconv_jax.baselines import classical
from dpconv_jax.model import Model

Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]


def ways(model: Model) -> dict[str, Fill]:
    """Functions of an image, uint8 (H, W, 3), and its hole, bool (H, W), to a fill, float32 (H, W, 3) in [0, 1]."""

    def joined(*, size: int) -> Fill:
        """As if the network had been trained at another size."""
        sight = dataclasses.replace(model.sight, size=size)

        def fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
            canvas = windows.Canvas(image, hole, hole, sight=sight)
            model.paint([canvas])
            return canvas.fill()

        return fill

    return {
        "scales joined, as the command does": joined(size=model.metadata.size),
        "full size alone": joined(size=2 * model.sight.limit),  # so large that no photo is reduced
        "reduced to the training size alone, enlarged": lambda image, hole: model.output(image, ~hole),
        "interpolation alone": joined(size=1),  # so small that every hole is too wide for the network
        "Telea": lambda image, hole: classical.telea(image / np.float32(255), ~hole[..., None]),
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--photos", required=True, type=pathlib.Path)
    parser.add_argument("--every", type=int, default=10)
    options = parser.parse_args()
    fills = ways(dpconv_jax.load(options.checkpoint))
    paths = sorted(path for path in options.photos.rglob("*") if path.suffix.lower() in photo.SUFFIXES)
    errors = collections.defaultdict(list)
    for path in paths[:: options.every]:
        image = photo.read(path, max_pixels=folder.MAX_PIXELS).rgb
        for bucket in range(len(masks.BUCKETS)):
            hole = draw(path.relative_to(options.photos).as_posix(), image.shape[:2], bucket=bucket)
            for name, fill in fills.items():
                errors[name, bucket].append(100 * np.abs(fill(image, hole) - image / 255)[hole].mean())
    print(f"{len(paths[:: options.every])} photos; hole l1 % in the buckets {masks.BUCKETS}")
    for name in fills:
        print(f"{name:46}", *(f"{np.mean(errors[name, bucket]):6.2f}" for bucket in range(len(masks.BUCKETS))))


if __name__ == "__main__":
    main()
