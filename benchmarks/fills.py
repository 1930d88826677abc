"""How good are the fills that a shop would get: by error, by looks and by how much of the cloth's detail is there?

    python -m benchmarks.fills --photos=$CLOTHING/validation --vgg=$VGG16 --size=256 telea pypatchmatch network texture
    python -m benchmarks.fills --photos=$CLOTHING/validation --vgg=$VGG16 --native --limit=60 telea texture
    python -m benchmarks.fills --photos=$CLOTHING/validation --vgg=$VGG16 --removals pypatchmatch texture
    python -m benchmarks.fills --photos=$CLOTHING/validation --vgg=$VGG16 --lines --limit=14 biharmonic texture

Holes are strokes in the three buckets of hole ratio, over central squares reduced to --size or over photos at their
native size; with --lines, scratches of 1 to 7 pixels over such squares; with --removals, the rectangles and blobs of
`benchmarks/removals.py` in the middle of 40 garments, photos reduced to 512 pixels along their longer side. Every
method sees the same holes. `network` and `texture` are what a caller of `dpconv_jax.load()` gets without texture
and with it, from the weights of the package; `texture=FILE` or `network=WORKDIR` are other weights, so that old ones
and new ones stand side by side. The rest are the baselines of `dpconv_jax/baselines/classical.py`.

Of each method: l1 % and PSNR over all pixels, SSIM, LPIPS on Oxford's VGG-16, the Frechet distance of VGG-16's
features, the mean |gradient| inside the holes over the truth's, and the seconds of a photo, the median: what is
compiled for a photo's shape is not counted. Last, l1 and LPIPS over Telea's, of removals over PyPatchMatch's, where
that is among the methods. --vgg is Oxford's VGG-16. The heads of LPIPS are those that
`python -m dpconv_jax.weights fetch lpips` kept, or a file, --lpips.
"""

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from benchmarks import removals
from benchmarks.patchmatch import photo
from dpconv_jax import masks
from dpconv_jax.baselines import classical
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation.suite import Networks, Panel, Truth
from dpconv_jax.inpainting import model
from dpconv_jax.progress import Counter
from dpconv_jax.weights import store, vgg16

SEED = 7
WIDTHS = (1, 2, 3, 5, 7)  # pixels, of scratches
SCRATCHES = 14  # of a photo, each of three lines
SIDE = 512  # pixels of the longer side of photos that something is removed from
METRICS = {  # of the panel: title and decimals
    "l1_percent": ("l1 %", 3),
    "psnr_db": ("PSNR", 2),
    "ssim": ("SSIM", 4),
    "lpips_oxford": ("LPIPS", 4),
    "fd_vgg16": ("FD", 3),
}
RATIOS = ("l1_percent", "lpips_oxford")


class Example(NamedTuple):
    """A photo with a hole, and the rows of the table that it belongs to."""

    group: str
    image: np.ndarray  # float32 (H, W, 3) in [0, 1]
    mask: np.ndarray  # float32 (H, W, 1), 1 = valid, 0 = hole


class Tally:
    """What is known of a method's fills in a group."""

    def __init__(self, networks: Networks, truth: Truth):
        self.panel = Panel(networks, bootstrap=0, seed=0, truth=truth)
        self.gradient = self.true_gradient = 0.0
        self.seconds: list[float] = []

    def add(self, example: Example, filled: np.ndarray, seconds: float) -> None:
        """A fill (H, W, 3) and what it took."""
        hole = example.mask[..., 0] == 0
        self.panel.add(output=filled[None], target=example.image[None], mask=example.mask[None])
        self.gradient += gradient(filled, hole)
        self.true_gradient += gradient(example.image, hole)
        self.seconds.append(seconds)

    def values(self) -> dict[str, float]:
        """By the names of METRICS; nan where there is none."""
        return {name: np.nan if found.value is None else found.value for name, found in self.panel.scores().items()}


def gradient(image: np.ndarray, hole: np.ndarray) -> float:
    """The sum of |differences| of neighbours that both lie in the hole."""
    rows = np.abs(np.diff(image, axis=0))[hole[1:] & hole[:-1]].sum()
    return float(rows + np.abs(np.diff(image, axis=1))[hole[:, 1:] & hole[:, :-1]].sum())


def method(name: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Of image (H, W, 3) and mask (H, W, 1): the composite. Raises UsageError for an unknown name."""
    kind, _, checkpoint = name.partition("=")
    if kind in ("network", "texture"):
        network = model.load(checkpoint or None)
        return lambda image, mask: network(image, mask, texture=kind == "texture")
    if name not in classical.METHODS:
        raise UsageError(f"no method {name!r}; there are {', '.join(classical.METHODS)}, network and texture")
    return classical.METHODS[name]


def whole(path: pathlib.Path, *, side: int | None = None) -> np.ndarray:
    """A photo, reduced to `side` pixels along its longer side or as it is: float32 (H, W, 3) in [0, 1]."""
    image = Image.open(path).convert("RGB")
    if side is not None:
        width, height = (round(length * side / max(image.size)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) / 255


def chosen(folder: pathlib.Path, limit: int | None) -> list[pathlib.Path]:
    """The photos below a folder, or so many of them, spread over all."""
    paths = sorted(folder.rglob("*.jpg"))
    return [paths[round(i)] for i in np.linspace(0, len(paths) - 1, limit)] if limit else paths


def strokes(paths: Sequence[pathlib.Path], *, size: int | None, preset: str) -> Iterator[Example]:
    """Of each photo three, one of each bucket: its central square at `size`, or, with None, all of it as it is."""
    for index, path in enumerate(paths):
        image = whole(path) if size is None else photo(path, size)
        for bucket, ratios in enumerate(masks.DRAWN):
            rng = np.random.default_rng([SEED, index, bucket])
            mask = masks.draw(rng, image.shape[:2], preset=preset, bucket=bucket)
            yield Example(str(ratios), image, mask.astype(np.float32))


def scratched(paths: Sequence[pathlib.Path], *, size: int) -> Iterator[Example]:
    """Of each photo, its central square, one for each of WIDTHS."""
    for index, path in enumerate(paths):
        image = photo(path, size)
        for width in WIDTHS:
            points = np.random.default_rng([SEED, index, width]).integers(0, size, (SCRATCHES, 4, 2))
            paper = Image.new("1", (size, size))
            for line in points:
                ImageDraw.Draw(paper).line([*map(tuple, line.tolist())], fill=1, width=width)
            yield Example(f"{width} px wide", image, ~np.asarray(paper)[..., None] * np.float32(1))


def removed(paths: Sequence[pathlib.Path]) -> Iterator[Example]:
    """Of each photo of `removals.MEASURED` one."""
    for index, path in enumerate(paths):
        image = whole(path, side=SIDE)
        hole = removals.drawn(index, image.shape[:2])
        yield Example("removals", image, ~hole[..., None] * np.float32(1))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "methods", nargs="+", metavar="METHOD", help=f"{', '.join(classical.METHODS)}, network, texture"
    )
    parser.add_argument("--photos", required=True, type=pathlib.Path)
    parser.add_argument("--vgg", required=True)
    parser.add_argument("--lpips")
    parser.add_argument("--limit", type=int, help="photos: of strokes spread over all, of removals the first")
    parser.add_argument("--preset", default="thin", choices=masks.PROCEDURAL, help="of strokes")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--size", type=int, default=256)
    what.add_argument("--native", action="store_true")
    what.add_argument("--lines", action="store_true")
    what.add_argument("--removals", action="store_true")
    options = parser.parse_args()
    fills = {name: method(name) for name in options.methods}
    if options.removals:
        paths = [options.photos / f"{name}.jpg" for name in removals.MEASURED[: options.limit]]
        examples, count, over = removed(paths), len(paths), "pypatchmatch"
        print(f"{len(paths)} photos, {SIDE} pixels along the longer side, a rectangle or a blob in the middle of each")
    else:
        paths = chosen(options.photos, options.limit)
        size, over = None if options.native else options.size, "telea"
        at = "native size" if size is None else f"{size}x{size}"
        if options.lines:
            examples, count = scratched(paths, size=options.size), len(paths) * len(WIDTHS)
            print(f"{len(paths)} photos, {at}, {SCRATCHES} scratches each")
        else:
            examples, count = strokes(paths, size=size, preset=options.preset), len(paths) * len(masks.DRAWN)
            print(f"{len(paths)} photos, {at}, holes of the preset {options.preset}")

    trunk = vgg16.load(options.vgg)
    networks = Networks(lpips=store.load_lpips(options.lpips, trunk=trunk), vgg16=trunk)
    truth = Truth(networks)
    tallies: dict[str, dict[str, Tally]] = {}  # by group and method
    with Counter(total=count, unit="holes") as counter:
        for example in examples:
            group = tallies.setdefault(example.group, {name: Tally(networks, truth) for name in fills})
            for name, fill in fills.items():
                start = time.perf_counter()
                filled = fill(example.image, example.mask)
                group[name].add(example, filled, time.perf_counter() - start)
            counter.advance()

    titles = [title for title, _ in METRICS.values()]
    titles += [
        "gradient",
        "s",
        *(f"{METRICS[metric][0].removesuffix(' %')} / {over}" for metric in RATIOS if over in fills),
    ]
    print(f"| holes | method | {' | '.join(titles)} |\n{'|---' * (len(titles) + 2)}|")
    for holes, group in tallies.items():
        values = {name: tally.values() for name, tally in group.items()}
        for name, tally in group.items():
            row = [f"{values[name][metric]:.{digits}f}" for metric, (_, digits) in METRICS.items()]
            row += [f"{tally.gradient / tally.true_gradient:.2f}", f"{statistics.median(tally.seconds):.2f}"]
            row += [f"{values[name][metric] / values[over][metric]:.3f}" for metric in RATIOS if over in fills]
            print(f"| {holes} | {name} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
