"""How close does the input pipeline come to the decoder it is built on, and what do threads, cores and workers give?

    python benchmarks/input_pipeline.py --manual_dir=$CLOTHING --data_dir=DATA [--dataset=clothing_small/288]

The limit is what no pipeline can do without: the decoder on the encoded photos already in memory, one after another on
one core, JPEG -> random square -> 256 x 256 x 3 bytes. Beside it stand the same with a mask drawn for each photo, and
`pipeline.train_batches` from array_record, masks of the preset "mixed", batches of 16. By turns in one run; medians.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import psutil
from PIL import Image

from dpconv_jax import masks
from dpconv_jax.data import pipeline, sources
from dpconv_jax.data.decode import decode, resize, square_box

SIZE, BATCH, ROUNDS, PHOTOS = 256, 16, 15, 128  # photos of a round,
PIPED = 512  # and of a pipeline's: many more than its buffers hold
MAX_PIXELS = 64_000_000


def decoded(photo: bytes, place: float) -> np.ndarray:
    """uint8 (256, 256, 3): the steps of the pipeline's own examples."""
    image = decode(photo, max_pixels=MAX_PIXELS, min_side=SIZE * 3 // 2)
    box = square_box(*image.size, place=place)
    return resize(image, size=SIZE, box=box, flip=place < 0.5, resample=Image.Resampling.BICUBIC)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="clothing_small/288")
    parser.add_argument("--manual_dir", default="")
    parser.add_argument("--data_dir", required=True)
    options = parser.parse_args()
    where = {"manual_dir": options.manual_dir, "data_dir": options.data_dir}
    source = sources.open_source(options.dataset, "train", **where)
    photos = [source[index]["image"] for index in range(min(PHOTOS, len(source)))]
    cores = sorted(os.sched_getaffinity(0))

    def limit(masked: bool) -> Callable[[], int]:
        def run() -> int:
            rng = np.random.default_rng(0)
            for index, photo in enumerate(photos):
                decoded(photo, rng.random())
                if masked:
                    masks.draw(rng, (SIZE, SIZE), preset="mixed", bucket=index % 3)
            return len(photos)

        return run

    def piped(threads: int, workers: int = 0) -> Callable[[], int]:
        batches = pipeline.train_batches(
            source,
            pipeline.Preparation(
                size=SIZE, crop="square", max_pixels=MAX_PIXELS, mask_preset="mixed", min_coverage=0.05, seed=0
            ),
            flip=True,
            threads=threads,
            workers=workers,
            batch_size=BATCH,
        )

        def run() -> int:
            for _ in range((threads + 8) * max(1, workers)):
                next(batches)  # whatever was made before the clock started
            start.append(time.perf_counter())
            for _ in range(PIPED // BATCH):
                next(batches)
            return PIPED

        return run

    start: list[float] = []
    one, cases = cores[-1:], {}
    cases["decoder alone, in memory: the limit"] = (limit(masked=False), one)
    cases["the same and a mask"] = (limit(masked=True), one)
    cases |= {f"pipeline, {threads} thread{'s' * (threads > 1)}": (piped(threads), one) for threads in (1, 2)}
    for threads in (1, 2, 4, 8):
        if len(cores) > 1:
            cases[f"pipeline, {len(cores)} cores, {threads} thread{'s' * (threads > 1)}"] = (piped(threads), cores)
    if len(cores) > 1:
        workers = piped(threads=1, workers=len(cores))
        cases[f"pipeline, {len(cores)} cores, {len(cores)} workers of 1 thread"] = (workers, cores)
    paces: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, (run, on) in cases.items():
            _rest()
            _pin(on)
            start.append(time.perf_counter())
            count = run()
            paces[name].append(count / (time.perf_counter() - start[-1]))
    bound, *_ = cases
    print(
        f"{options.dataset}, {len(photos)} photos, {len(cores)} cores\n\n| | examples/s | of the limit |\n|---|---|---|"
    )
    for name, found in paces.items():
        share = statistics.median(one_ / other for one_, other in zip(found, paces[bound], strict=True))
        print(f"| {name} | {statistics.median(found):,.0f} | {share:.2f} |")


def _rest() -> None:
    """Waits until threads and workers of the pipelines have filled their buffers: they would take time from others."""
    before, used = -1.0, _used()
    while used - before > 0.02:
        time.sleep(0.2)
        before, used = used, _used()


def _used() -> float:
    """Seconds of CPU that this process and its workers have taken."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _pin(cores: list[int]) -> None:
    """All threads of this process, those of grain as well."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)


if __name__ == "__main__":
    main()
