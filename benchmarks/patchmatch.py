"""How fast and how close is PatchMatch, and how good are its fills next to the other methods that do not learn?

    python -m benchmarks.patchmatch --photos=$CLOTHING/validation

Masks of the preset `mixed` with hole ratios of about 0.1, 0.3 and 0.5 at 256x256. Prints the time of the first fill of
the process, which compiles; of one sweep, next to the plain loop; of the whole fill, alone and in a batch;
then how the mean patch distance approaches that of an exact search, on one picture and on its fill; and, from --count
photos, cropped square and reduced to --size, the hole l1 % and the seconds of every baseline in the three buckets.
Without --photos a synthetic texture is used, and the last table left out.
"""

import argparse
import pathlib
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from benchmarks.patchmatch_reference import bare_field, exact_distances, noise, plain_sweep
from dpconv_jax import masks
from dpconv_jax.baselines import classical, patchmatch
from dpconv_jax.patches.field import mirrored

SIDE = 256
RATIOS = (0.1, 0.3, 0.5)
SWEEPS = (1, 4, 16, 64, 256)


def seconds(call: Callable[[], object], *, rounds: int) -> float:
    """The shortest time of a call: what others do on the machine only adds to it."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def photo(path: pathlib.Path, side: int) -> np.ndarray:
    """The square in the middle of a photo, reduced: float32 (side, side, 3) in [0, 1]."""
    image = Image.open(path).convert("RGB")
    left, top = ((length - min(image.size)) // 2 for length in image.size)
    box = (left, top, left + min(image.size), top + min(image.size))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box), np.float32) / 255


def mask_with(ratio: float) -> np.ndarray:
    """Of 20 masks of the ratio's bucket the one that comes closest, (SIDE, SIDE, 1)."""
    rng = np.random.default_rng(0)
    drawn = [masks.draw(rng, (SIDE, SIDE), preset="mixed", bucket=masks.bucket_of(ratio)) for _ in range(20)]
    return min(drawn, key=lambda mask: abs(masks.hole_ratio(mask) - ratio))


def speed(image: np.ndarray) -> None:
    """A line of times for each ratio."""
    start = time.perf_counter()
    patchmatch.inpaint(image[:32, :32], np.pad(np.zeros((4, 4, 1)), ((14, 14), (14, 14), (0, 0)), constant_values=1))
    print(f"first fill of the process, 32x32: {time.perf_counter() - start:.2f} s")
    print("ratio  targets  sweep ms  plain loop s  ratio of the two  fill s  fill in a batch of 8, s")
    batch = classical.batched(["patchmatch"])["patchmatch"]
    for ratio in RATIOS:
        mask, rng = mask_with(ratio), np.random.default_rng(0)
        field = bare_field(mask[..., 0] == 0)
        field.look(mirrored(image))
        flat = np.zeros(field.nearest.shape[:2], np.uint16)
        arrays = [field.pixels, flat, field.targets, field.nearest, field.source.copy(), field.found.copy()]
        draws = rng.integers(2**32, size=(len(field.targets), 8), dtype=np.uint32)
        compiled = seconds(lambda field=field, rng=rng: field.sweep(rng), rounds=50)
        plain = seconds(lambda arrays=arrays, draws=draws: plain_sweep(*arrays, draws, True), rounds=3)
        fill = seconds(lambda mask=mask: patchmatch.inpaint(image, mask), rounds=5)
        many = seconds(lambda mask=mask: batch(np.stack([image] * 8), np.stack([mask] * 8)), rounds=1) / 8
        print(
            f"{masks.hole_ratio(mask):5.2f} {len(field.targets):8d} {1000 * compiled:9.2f} {plain:13.2f}"
            f" {plain / compiled:17.0f} {fill:7.2f} {many:24.2f}"
        )


def closeness(image: np.ndarray) -> None:
    """The mean distance of the targets over that of the exact search, after numbers of sweeps."""
    print("ratio  picture   " + "".join(f"{number:>8d}" for number in SWEEPS) + "  sweeps")
    for ratio in RATIOS:
        mask = mask_with(ratio)[: SIDE // 2, : SIDE // 2]  # the exact search takes 16 times as long for twice the side
        part, hole = image[: SIDE // 2, : SIDE // 2], mask[..., 0] == 0
        for name, picture in (("the image", part), ("its fill", patchmatch.inpaint(part, mask))):
            field, shares = bare_field(hole), []
            field.look(mirrored(picture))
            exact, rng = exact_distances(field).mean(), np.random.default_rng(0)
            for number in range(1, SWEEPS[-1] + 1):
                field.sweep(rng)
                if number in SWEEPS:
                    shares.append(field.found[tuple(field.targets.T)].mean() / exact)
            print(f"{masks.hole_ratio(mask):5.2f}  {name:10s}" + "".join(f"{share:8.3f}" for share in shares))


def quality(photos: list[pathlib.Path], side: int) -> None:
    """Hole l1 % and seconds an image of each method in each bucket."""
    print(f"{len(photos)} photos, {side}x{side}")
    print(f"{'hole l1 %':12s}" + "".join(f"{bucket!s:>14s}" for bucket in masks.DRAWN) + "   seconds an image")
    images = [photo(path, side) for path in photos]
    holes = [
        [masks.draw(np.random.default_rng([7, i, b]), (side, side), preset="mixed", bucket=b) for b in range(3)]
        for i in range(len(photos))
    ]
    for name, method in classical.METHODS.items():
        errors, times = np.zeros((3, len(images))), np.zeros((3, len(images)))
        for i, image in enumerate(images):
            for bucket, mask in enumerate(holes[i]):
                start = time.perf_counter()
                filled = method(image * mask, mask)
                times[bucket, i] = time.perf_counter() - start
                errors[bucket, i] = 100 * np.abs(filled - image)[mask[..., 0] == 0].mean()
        line = "".join(f"{error:14.2f}" for error in errors.mean(axis=1))
        print(f"{name:12s}{line}   " + " ".join(f"{each:.3f}" for each in times.mean(axis=1)))


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    if options.photos is None:
        photos, image = [], noise(SIDE, SIDE)
    else:
        found = sorted(options.photos.rglob("*.jpg"))
        photos = found[:: max(1, len(found) // options.count)][: options.count]
        image = photo(photos[0], SIDE)
    speed(image)
    closeness(image)
    if photos:
        quality(photos, options.size)


if __name__ == "__main__":
    main()
