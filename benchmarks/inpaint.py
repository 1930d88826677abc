"""How fast does the command inpaint a folder of photos at their native size, in how much memory, next to Telea?

    python benchmarks/inpaint.py --checkpoint=runs/clothing_small --photos=$CLOTHING/validation --workdir=runs/inpaint

Draws a mask for every photo (the three buckets in turn, seeded by its path) below WORKDIR/masks, runs
`python -m dpconv_jax.inpaint` on all of them in a process of its own, then OpenCV's Telea on the same files, read and
written by the same code, and prints a table. --repeat runs both again: the first time the network is compiled.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np
from PIL import Image

from dpconv_jax import holes, masks, metrics, photo
from dpconv_jax.baselines import classical

MAX_PIXELS = 100_000_000


def draw_masks(photos: list[pathlib.Path], folder: pathlib.Path, to: pathlib.Path) -> None:
    """Black and white PNGs, white in the hole, of the photos' sizes."""
    for index, path in enumerate(photos):
        relative = path.relative_to(folder)
        size = photo.read(path, max_pixels=MAX_PIXELS).rgb.shape[:2]
        mask = masks.eval_mask(
            seed=0,
            example_id=relative.as_posix(),
            bucket=index % len(masks.BUCKETS),
            size=size,
            preset="mixed",
            region=None,
            min_coverage=0,
        )
        out = (to / relative).with_suffix(".png")
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask[..., 0] == 0).save(out)


def telea(photos: list[pathlib.Path], folder: pathlib.Path, mask_folder: pathlib.Path, to: pathlib.Path) -> None:
    """The same files by OpenCV, one after another."""
    for path in photos:
        relative = path.relative_to(folder)
        opened = photo.read(path, max_pixels=MAX_PIXELS)
        size = opened.rgb.shape[:2]
        mask = (mask_folder / relative).with_suffix(".png")
        hole, _ = holes.read(mask, size=size, colour="white", max_pixels=MAX_PIXELS)
        fill = classical.telea(opened.rgb / np.float32(255), ~hole[..., None])
        (to / relative).parent.mkdir(parents=True, exist_ok=True)
        photo.write(opened, to / relative, fill, hole.astype(np.float32))


def hole_error(photos: list[pathlib.Path], folder: pathlib.Path, mask_folder: pathlib.Path, out: pathlib.Path) -> float:
    """Hole l1 %, mean over photos, of what was written (JPEG photos are compressed once more)."""
    errors = []
    for path in photos:
        relative = path.relative_to(folder)
        truth, filled = (photo.read(each, max_pixels=MAX_PIXELS).rgb for each in (path, out / relative))
        mask = (mask_folder / relative).with_suffix(".png")
        hole, _ = holes.read(mask, size=truth.shape[:2], colour="white", max_pixels=MAX_PIXELS)
        arrays = (filled[None] / np.float32(255), truth[None] / np.float32(255), ~hole[None, ..., None])
        errors.append(100 * float(metrics.hole_l1(*arrays)[0]))
    return float(np.mean(errors))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--photos", required=True, type=pathlib.Path)
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--repeat", type=int, default=2)
    options = parser.parse_args()
    photos = sorted(path for path in options.photos.rglob("*") if path.suffix.lower() in photo.SUFFIXES)
    mask_folder = options.workdir / "masks"
    draw_masks(photos, options.photos, mask_folder)
    print(f"{len(photos)} photos, {sum(np.prod(Image.open(path).size) for path in photos) / 1e6:.1f} megapixels")

    command = [sys.executable, "-m", "dpconv_jax.inpaint", f"--checkpoint={options.checkpoint}"]
    command += [f"--image={options.photos}", f"--mask={mask_folder}", f"--out={options.workdir / 'dpconv'}"]
    command += ["--mask_hole=white", "--overwrite"]
    for run in range(options.repeat):
        start = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"dpconv_jax.inpaint, run {run + 1}: {len(photos) / seconds:.2f} photos/s in all, peak {peak:.2f} GiB")

        start = time.perf_counter()
        telea(photos, options.photos, mask_folder, options.workdir / "telea")
        seconds = time.perf_counter() - start
        print(f"Telea, run {run + 1}: {len(photos) / seconds:.2f} photos/s")
    for method in ("dpconv", "telea"):
        error = hole_error(photos, options.photos, mask_folder, options.workdir / method)
        print(f"{method}: hole l1 {error:.2f} %")


if __name__ == "__main__":
    main()
