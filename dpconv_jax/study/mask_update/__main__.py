"""Ablation 2, Fig. 6: after how many layers of (dilated) partial convolutions is no hole left?

    python -m dpconv_jax.study.mask_update --out=DIR [--masks=12000] [--preset=PRESET | --mask_dir=FOLDER]

As many masks in each tenth of the hole ratio up to 0.6, 256 x 256, in three comparisons: as published; like for like;
and the encoders of the networks. DIR gets README.md with the tables, fig6a.png and fig6b.png, the same of the other
comparisons, mask_update.csv (a row a mask: its hole ratio, and for every series the layers, empty where it never
becomes full) and summary.csv (a row a series and range).
"""

import argparse
import csv
import io
import pathlib
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dpconv_jax import cli, masks
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.progress import Counter
from dpconv_jax.study.mask_update import counting
from dpconv_jax.study.mask_update.charts import PRINTED, bars, curves, means, range_title, unfilled
from dpconv_jax.study.mask_update.counting import MOST, PUBLISHED_MOST, RANGES, Comparison, Filling
from dpconv_jax.training.report import png, table

PICTURES = {"published": "fig6", "like_for_like": "like_for_like_", "encoders": "encoders_"}
FIRST = "fig6a.png"  # of what is written: a folder with it is ours, where names like README.md may be anybody's
ABOUT = {
    "published": """\
One 9x9 layer against one 5x5 layer of dilation 4, which reaches 17x17; padding 0 and 4, so that each takes 8 pixels off
the side of the map; at most {published_most} of them, where the authors' script stops: a mask with a hole after the
last counts as never full and is in no mean. The kernels reach differently far: this is not the gain of dilation alone.

Where the counts differ from the figure's: a 9x9 layer fills four pixels from every side, so PConv's count is how deep
the deepest hole is, in fours, and masks of one ratio can be deep or shallow. The figure's masks were the NVIDIA set,
resized bilinearly and so not binary; here they are of {source}, binary.""",
    "like_for_like": """\
The same kernel with dilation 1, 2, 4 and 8; zeros around that keep the size; at most {most} layers. Means are over the
masks that become full: where many do not, they say little.""",
    "encoders": """\
The masks of the networks for images of 256x256: PConv `benchmark` e0 to e4, 5 layers, 4 of them strided; PConv
`liu2018` e0 to e6, 7 layers, all strided; DPConv `paper` e0 to e3 and d1 to d4, 8 layers, 3 strided. Not the decoders,
which see the first mask again.""",
}


def text(found: Filling, compared: Sequence[Comparison], *, source: str, command: str) -> str:
    """The README: what was done, and of each comparison its pictures and table."""
    counts = [int(found.of_range(index).sum()) for index in range(len(RANGES))]
    few = "" if len({*counts}) == 1 else f" ({', '.join(f'{count:,}' for count in counts)} in the ranges)"
    parts = [f"# Layers until the mask is full: {source}", f"`{command}`: {len(found.ratios):,} masks{few}."]
    for comparison in compared:
        pictures = [f"![{comparison.title}]({PICTURES[comparison.name]}{part}.png)" for part in "ab"]
        about = ABOUT[comparison.name].format(most=MOST, published_most=PUBLISHED_MOST, source=source)
        parts += [f"## {comparison.title}", about, *pictures]
        parts.append(numbers(found, comparison))
        parts += [_gap(found, comparison)] if comparison.name == "published" else []
    return "\n\n".join(parts) + "\n"


def numbers(found: Filling, comparison: Comparison) -> str:
    """The table of a comparison."""
    return table(["", *map(range_title, range(len(RANGES))), "mean"], [*_rows(found, comparison)])


def _rows(found: Filling, comparison: Comparison) -> Iterator[list[str]]:
    """Of the table: mean layers, beside the figure's where it has any, and the masks that never become full."""
    for panel, series in comparison.panels.items():
        for each in series:
            name, ours = f"{panel}, {each.title}".removeprefix(", "), means(found, each)
            yield _row(f"{name}: layers", ours)
            if printed := PRINTED.get(each.name):
                yield _row("the figure's", np.array(printed))
                yield _row("difference", ours - printed, sign="+")
            left = unfilled(found, each)
            if np.nansum(left) or comparison.name == "published":
                yield _row(f"{name}: never full, %", 100 * left, digits=1)
    if comparison.name == "published":
        plain, dilated = (means(found, series) for series in comparison.series)
        printed = np.array(PRINTED["dpconv_5x5_d4"]) / PRINTED["pconv_9x9"]
        yield _row("**DPConv / PConv**", dilated / plain)
        yield _row("the figure's", printed)
        yield _row("difference", dilated / plain - printed, sign="+")


def _row(name: str, values: np.ndarray, *, digits: int = 2, sign: str = "") -> list[str]:
    """A line of the table; its last cell is the mean of the others."""
    return [name, *("-" if np.isnan(value) else f"{value:{sign}.{digits}f}" for value in (*values, values.mean()))]


def _gap(found: Filling, comparison: Comparison) -> str:
    """The paper's sentence with our numbers."""
    plain, dilated = (means(found, series).mean() for series in comparison.series)
    return (
        f"On average DPConv is full {plain - dilated:.2f} layers earlier, {100 * (1 - dilated / plain):.0f} % fewer. "
        "The paper says 2.1 layers, as its figure does, and about 15 %, where its figure has 41 %."
    )


def rows(found: Filling) -> Iterator[list[str]]:
    """Of mask_update.csv."""
    yield ["ratio", *found.layers]
    for ratio, *layers in zip(found.ratios, *found.layers.values(), strict=True):
        yield [f"{ratio:.6f}", *(str(count or "") for count in layers)]


def summary(found: Filling, compared: Iterable[Comparison]) -> Iterator[list[str]]:
    """Of summary.csv."""
    yield ["comparison", "series", "ratio_over", "ratio_up_to", "masks", "mean_layers", "never_full"]
    for comparison in compared:
        for each in comparison.series:
            of_ranges = zip(RANGES, means(found, each), unfilled(found, each), strict=True)
            for index, ((low, high), mean, left) in enumerate(of_ranges):
                of_range = [str(low), str(high), str(found.of_range(index).sum())]
                known = ["" if np.isnan(value) else f"{value:.4f}" for value in (mean, left)]
                yield [comparison.name, each.name, *of_range, *known]


def _csv(lines: Iterable[list[str]]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue().encode()


def _counted(drawn: Iterable[np.ndarray], counter: Counter) -> Iterator[np.ndarray]:
    for mask in drawn:
        yield mask
        counter.advance()


def _source(given: argparse.Namespace) -> tuple[Iterator[np.ndarray], str]:
    """The masks, and what they are called."""
    each = given.masks // len(RANGES)
    if given.mask_dir:
        files = masks.open_files(given.mask_dir, name=given.mask_set, hole=given.mask_hole, split="validation")
        return counting.read(
            files, each=each, seed=given.seed
        ), f"the files of {given.mask_set or files.directory.name}"
    return counting.drawn(given.preset, each=each, seed=given.seed), f"preset {given.preset}"


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake."""
    parser = cli.Parser(prog="python -m dpconv_jax.study.mask_update", description=__doc__)
    add = parser.add_argument
    add("--out", required=True, type=pathlib.Path, metavar="DIR")
    add("--masks", type=int, default=12_000, metavar="N", help="in all; default %(default)s")
    whence = parser.add_mutually_exclusive_group()
    whence.add_argument("--preset", default="mixed", choices=masks.PROCEDURAL, help="default %(default)s")
    whence.add_argument("--mask_dir", default="", metavar="PATH", help="a folder or archive of mask images")
    add("--mask_set", default="", choices=sorted(masks.SETS), help="the published set that they are")
    add("--mask_hole", default="", choices=("black", "white"), help="the colour of their holes where no set says it")
    add("--seed", type=int, default=0, help="of what is drawn; default %(default)s")
    words = sys.argv[1:] if arguments is None else arguments
    given = parser.parse_args(words)
    if given.masks < len(RANGES) or given.masks % len(RANGES):
        raise UsageError(f"--masks={given.masks}: a multiple of {len(RANGES)}, as many for each tenth of the ratio")
    if given.seed < 0:
        raise UsageError(f"--seed={given.seed}: at least 0")
    if (given.mask_set or given.mask_hole) and not given.mask_dir:
        raise UsageError("--mask_set and --mask_hole say what --mask_dir holds; it is missing")
    try:
        if given.out.is_dir() and any(given.out.iterdir()) and not (given.out / FIRST).exists():
            raise UsageError(f"--out {given.out} holds other files; choose a new or empty folder")
        drawn, source = _source(given)
        given.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {given.out} cannot be written: {error.strerror}") from error
    compared = counting.comparisons()
    with Counter(total=given.masks, unit="masks") as counter:
        found = counting.measure(_counted(drawn, counter), compared)
    if not len(found.ratios):
        raise UsageError(f"{given.mask_dir}: no mask has a hole ratio above 0 and up to 0.6")
    written = {
        f"{PICTURES[comparison.name]}{part}.png": png(draw(found, comparison))
        for comparison in compared
        for part, draw in (("a", bars), ("b", curves))
    }
    written |= {"mask_update.csv": _csv(rows(found)), "summary.csv": _csv(summary(found, compared))}
    command = shlex.join(["python", "-m", "dpconv_jax.study.mask_update", *words])
    readme = text(found, compared, source=source, command=command)
    try:
        for name, content in (written | {"README.md": readme.encode()}).items():
            write_whole(given.out / name, content)
    except OSError as error:
        raise UsageError(f"--out {given.out} cannot be written: {error.strerror}") from error
    print(numbers(found, compared[0]))
    print(f"{given.out}: README.md with all tables, {len(written)} files beside it")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
