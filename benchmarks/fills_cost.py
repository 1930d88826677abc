"""What do fills cost: seconds and memory at three sizes, the first photo of a process, and how long may odd input take?

    python -m benchmarks.fills_cost --photos=$CLOTHING/validation

Prints three tables, or those that are named. `sizes`: a photo enlarged to three sizes, a rectangle in its middle
missing; warm seconds of what `dpconv_jax.load()` fills and of PyPatchMatch, by turns in one process, and the peak
memory of a fresh process of either that fills once. `first`: the first photo of a fresh process, by what was compiled
before; in an empty cache, as commands keep it, and in none. `odd`: photos and holes at the limits of what
`python -m dpconv_jax.inpaint` takes, each in a process of its own that is killed when its time is over; a fill is wrong
where it changes anything but the hole.
"""

import argparse
import contextlib
import math
import multiprocessing
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from PIL import Image

from benchmarks import removals

METHODS = ("texture", "pypatchmatch")


class Job(NamedTuple):
    """A photo to enlarge, a rectangle in its middle to fill, and how often."""

    photo: pathlib.Path
    size: tuple[int, int]  # width, height
    share: float  # of its pixels that are missing
    rounds: int
    checkpoint: str | None

    def example(self) -> tuple[np.ndarray, np.ndarray]:
        """The image, uint8 (H, W, 3), and its mask (H, W), 1 = valid, 0 = hole."""
        image = np.asarray(Image.open(self.photo).convert("RGB").resize(self.size, Image.Resampling.BICUBIC))
        height, width = image.shape[:2]
        mask = np.ones((height, width), np.uint8)
        rows, columns = (round(side * (1 - math.sqrt(self.share)) / 2) for side in (height, width))
        mask[rows : height - rows, columns : width - columns] = 0
        return image, mask


SIZES = (((400, 533), 0.05, 5), ((1200, 1600), 0.05, 5), ((4000, 6000), 0.02, 1))


def filler(method: str, job: Job, *, keep: bool = True) -> Callable[[np.ndarray, np.ndarray], Any]:
    """A method of METHODS, ready to call; with `keep`, what it compiles is kept as commands keep it.

    Imports are here and not above because they belong to a process's first photo and its memory.
    """
    if method == "pypatchmatch":
        import patchmatch

        return lambda image, mask: patchmatch.inpaint(image, mask == 0, patch_size=3)
    from dpconv_jax import cli
    from dpconv_jax.inpainting import model

    if keep:
        cli.keep_compiled()
    return model.load(job.checkpoint)


def first(method: str, job: Job, keep: bool) -> tuple[float, float]:
    """Seconds of the imports, the loading and the first photo; and the peak memory of this process in GiB."""
    image, mask = job.example()
    start = time.perf_counter()
    filler(method, job, keep=keep)(image, mask)
    seconds = time.perf_counter() - start
    # Not getrusage: there a process begins with the peak of the one that started it.
    peak = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    return seconds, int(peak.group(1)) / 2**20 if peak else math.nan


def warm(job: Job) -> dict[str, list[float]]:
    """The seconds of each method, by turns."""
    from benchmarks import side_by_side

    image, mask = job.example()
    fills = {method: filler(method, job) for method in METHODS}
    return side_by_side.seconds({name: lambda fill=fill: fill(image, mask) for name, fill in fills.items()}, job.rounds)


def fresh(call: Callable, *arguments: Any) -> tuple[Any, float]:
    """What a call returns in a process of its own, and the seconds of all of it."""
    start = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result(), time.perf_counter() - start


@contextlib.contextmanager
def empty_caches() -> Generator[None]:
    """Processes that start in here have caches of their own, empty at first, of what XLA and Numba compile."""
    with tempfile.TemporaryDirectory() as folder:
        caches = {"XDG_CACHE_HOME": folder, "NUMBA_CACHE_DIR": f"{folder}/numba"}
        with mock.patch.dict(os.environ, caches):
            os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
            yield


def sizes(photo: pathlib.Path, checkpoint: str | None) -> None:
    """Prints the table."""
    from benchmarks import side_by_side

    print("| photo | hole | method | s, warm | over pypatchmatch | peak, GiB |\n|" + "---|" * 6)
    for size, share, rounds in SIZES:
        job = Job(photo, size, share, rounds, checkpoint)
        times, _ = fresh(warm, job)
        for method in METHODS:
            (_, peak), _ = fresh(first, method, job, True)
            ratios = [a / b for a, b in zip(times[method], times["pypatchmatch"], strict=True)]
            row = [f"{size[0]}x{size[1]}", f"{share:.0%}", method, side_by_side.spread(times[method], 2)]
            print(f"| {' | '.join([*row, side_by_side.spread(ratios, 3), f'{peak:.2f}'])} |", flush=True)


def first_photos(photo: pathlib.Path, checkpoint: str | None) -> None:
    """Prints the table."""
    size, share, rounds = SIZES[1]
    job = Job(photo, size, share, rounds, checkpoint)
    print(f"first photo of a process, {size[0]}x{size[1]}, hole {share:.0%}")
    print("| | imports, load() and fill, s | the whole process, s |\n|---|---|---|")
    runs = {
        "nothing compiled before": ("texture", True),
        "what was compiled kept as commands keep it": ("texture", True),
        "load() alone: Numba keeps, XLA does not": ("texture", False),
        "pypatchmatch": ("pypatchmatch", True),
    }
    with empty_caches():
        for name, (method, keep) in runs.items():
            (seconds, _), whole = fresh(first, method, job, keep)
            print(f"| {name} | {seconds:.1f} | {whole:.1f} |", flush=True)


def odd_input(photo: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """By name: pixels as a PNG has them, the hole, bool (H, W), and the exit code of the command."""
    image = np.asarray(Image.open(photo).convert("RGB"))
    grey = np.asarray(Image.fromarray(image).convert("L"))
    shape = grey.shape
    everything = np.ones(shape, bool)
    box = removals.drawn(0, shape)
    frame, single = everything.copy(), everything.copy()
    frame[40:-40, 40:-40] = False
    single[shape[0] // 2, shape[1] // 2] = False
    return {
        "a photo as usual": (image, box, 0),
        "hole = whole photo": (image, everything, 1),
        "hole at every border": (image, frame, 0),
        "one valid pixel": (image, single, 0),
        "1x1, a hole": (image[:1, :1], everything[:1, :1], 1),
        "1x1, no hole": (image[:1, :1], ~everything[:1, :1], 0),
        "without texture": (np.full_like(image, 128), box, 0),
        "8-bit grey": (grey, box, 0),
        "alpha": (np.dstack([image, grey]), box, 0),
        "16-bit grey": (grey * np.uint16(257), box, 0),
    }


def odd(photo: pathlib.Path, checkpoint: str | None, limit: float) -> None:
    """Prints the table."""
    print(f"python -m dpconv_jax.inpaint, at most {limit:.0f} s each\n| input | exit code | s | |\n|---|---|---|---|")
    for name, (pixels, hole, expected) in odd_input(photo).items():
        with tempfile.TemporaryDirectory() as folder:
            files = {flag: pathlib.Path(folder, f"{flag}.png") for flag in ("image", "mask", "out")}
            Image.fromarray(pixels).save(files["image"])
            Image.fromarray(hole).save(files["mask"])
            command = [sys.executable, "-m", "dpconv_jax.inpaint", "--mask_hole=white"]
            command += [f"--{flag}={path}" for flag, path in files.items()]
            command += [f"--checkpoint={checkpoint}"] if checkpoint else []
            start, code = time.perf_counter(), None
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = subprocess.run(command, capture_output=True, timeout=limit).returncode
            seconds, verdict = time.perf_counter() - start, "ok" if code == expected else "wrong"
            if code == 0 and (np.asarray(Image.open(files["out"])) != pixels)[~hole].any():
                verdict = "wrong"
            print(f"| {name} | {code} | {seconds:.1f} | {'over' if code is None else verdict} |", flush=True)


TABLES = ("sizes", "first", "odd")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", default=TABLES, help=", ".join(TABLES))
    parser.add_argument("--photos", required=True, type=pathlib.Path)
    parser.add_argument("--checkpoint", help="default: the starter weights")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds of a command on odd input, from its start")
    options = parser.parse_args()
    photo = options.photos / f"{removals.SHOWN[0].photo}.jpg"
    if "sizes" in options.tables:
        sizes(photo, options.checkpoint)
    if "first" in options.tables:
        first_photos(photo, options.checkpoint)
    if "odd" in options.tables:
        odd(photo, options.checkpoint, options.limit)


if __name__ == "__main__":
    main()
