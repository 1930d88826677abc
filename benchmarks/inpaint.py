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

from dpconv_jax import masks
from dpconv_jax.baselines import classical
from dpconv_jax.evaluation import metrics
from dpconv_jax.inpainting import folder, holes, photo

OPTIONS = folder.Options(boxes=(), colour="white", dilate=0, feather=0)


def draw(example_id: str, size: tuple[int, int], *, bucket: int) -> np.ndarray:
    """The hole of a photo of `size` (H, W), bool, of the bucket's ratio."""
    common = {"seed": 0, "preset": "mixed", "region": None, "min_coverage": 0}
    return masks.eval_mask(example_id=example_id, bucket=bucket, size=size, **common)[..., 0] == 0


def draw_masks(photos: list[pathlib.Path], below: pathlib.Path, to: pathlib.Path) -> None:
    """Black and white PNGs, white in the hole, of the photos' sizes."""
    for index, path in enumerate(photos):
        relative = path.relative_to(below)
        size = photo.read(path, max_pixels=folder.MAX_PIXELS).rgb.shape[:2]
        out = (to / relative).with_suffix(".png")
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(relative.as_posix(), size, bucket=index % len(masks.BUCKETS))).save(out)


def telea(tasks: list[folder.Task]) -> None:
    """The same files by OpenCV, one after another."""
    for task in tasks:
        opened = folder.open_photo(task, OPTIONS)
        fill = classical.telea(opened.photo.rgb / np.float32(255), ~opened.hole[..., None])
        task.out.parent.mkdir(parents=True, exist_ok=True)
        photo.write(opened.photo, task.out, fill, holes.weight(opened.hole, 0))


def hole_error(tasks: list[folder.Task]) -> float:
    """Hole l1 %, mean over photos, of what was written (JPEG photos are compressed once more)."""
    errors = []
    for task in tasks:
        opened = folder.open_photo(task, OPTIONS)
        filled = photo.read(task.out, max_pixels=folder.MAX_PIXELS).rgb
        arrays = (each[None] / np.float32(255) for each in (filled, opened.photo.rgb))
        errors.append(100 * float(metrics.hole_l1(*arrays, ~opened.hole[None, ..., None])[0]))
    return float(np.mean(errors))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="default: the starter weights")
    parser.add_argument("--photos", required=True, type=pathlib.Path)
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--repeat", type=int, default=2)
    options = parser.parse_args()
    photos = sorted(path for path in options.photos.rglob("*") if path.suffix.lower() in photo.SUFFIXES)
    mask_folder = options.workdir / "masks"
    draw_masks(photos, options.photos, mask_folder)
    tasks = {
        method: folder.plan(options.photos, mask_folder, str(options.workdir / method))[0]
        for method in ("dpconv", "telea")
    }
    print(f"{len(photos)} photos, {sum(np.prod(Image.open(path).size) for path in photos) / 1e6:.1f} megapixels")

    command = [sys.executable, "-m", "dpconv_jax.inpaint"]
    command += [f"--checkpoint={options.checkpoint}"] if options.checkpoint else []
    command += [f"--image={options.photos}", f"--mask={mask_folder}", f"--out={options.workdir / 'dpconv'}"]
    command += ["--mask_hole=white", "--overwrite"]
    for run in range(options.repeat):
        start = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"dpconv_jax.inpaint, run {run + 1}: {len(photos) / seconds:.2f} photos/s in all, peak {peak:.2f} GiB")

        start = time.perf_counter()
        telea(tasks["telea"])
        seconds = time.perf_counter() - start
        print(f"Telea, run {run + 1}: {len(photos) / seconds:.2f} photos/s")
    for method, written in tasks.items():
        print(f"{method}: hole l1 {hole_error(written):.2f} %")


if __name__ == "__main__":
    main()
