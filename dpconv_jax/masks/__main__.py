"""Writes a fixed set of masks: `python -m dpconv_jax.masks --preset=mixed --count=3000 --out=DIR`.

DIR/masks/00000.png ... (one bit a pixel), manifest.jsonl (ratio, bucket and hash of each), set.json (what colour a hole
has, and how the set was made), histogram.png. The three buckets of hole ratio come in turn, unless --bucket names one.
The same command writes the same bytes, so it may be interrupted and run again. To train and to evaluate with the set
say --config.mask.preset=files --config.mask.dir=DIR.
"""

import collections
import io
import json
import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from dpconv_jax import cli, masks
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.masks import BUCKETS, QuickDraw, bucket_of, hole_ratio
from dpconv_jax.masks.sets import ABOUT, MASKS
from dpconv_jax.progress import Counter

PUBLISHED = "quickdraw_published"
PRESETS = (*masks.PROCEDURAL, "quickdraw", PUBLISHED)
COLOURS = ("#5b8db8", "#e0a458", "#c8553d")  # of the buckets


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake."""
    parser = cli.Parser(prog="python -m dpconv_jax.masks", description=__doc__)
    add = parser.add_argument
    add("--preset", default="mixed", choices=PRESETS, help="default %(default)s")
    add("--count", required=True, type=int, metavar="N")
    add("--out", required=True, type=pathlib.Path, metavar="DIR")
    add("--size", default=512, type=int, metavar="PX", help="side of the masks; default %(default)s")
    add("--seed", default=0, type=int, help="default %(default)s")
    add("--bucket", type=int, choices=range(len(BUCKETS)), help="of the hole ratio: (0, .2], (.2, .4], (.4, .6]")
    add("--hole", default="white", choices=("white", "black"), help="its colour; default %(default)s")
    add("--dir", default="", metavar="PATH", help="quickdraw: an .ndjson file or a folder of them")
    options = parser.parse_args(arguments)
    for name, least in {"count": 1, "size": 8, "seed": 0}.items():
        if getattr(options, name) < least:
            raise UsageError(f"--{name} is {getattr(options, name)}; it must be at least {least}")
    people = options.preset in ("quickdraw", PUBLISHED)
    if options.dir and not people:
        raise UsageError(f"--dir: preset {options.preset} needs no files")
    if options.bucket is not None and options.preset == PUBLISHED:
        raise UsageError(f"--bucket: the ratios of {PUBLISHED} fall where they fall; quickdraw hits buckets")
    drawings = QuickDraw(options.dir) if people else None
    about = {
        "hole": options.hole,
        "preset": options.preset,
        "seed": options.seed,
        "size": options.size,
        "bucket": options.bucket,
        "files": drawings.digest if drawings else "",
    }
    try:
        rows = _write(options.out, about, options.count, drawings)
    except OSError as error:
        raise UsageError(f"--out {options.out} cannot be written: {error.strerror}") from error
    _table([row.ratio for row in rows])
    print(f"{options.count} masks, a hole is {options.hole}: {options.out}")
    return 0


def _write(out: pathlib.Path, about: dict, count: int, drawings: QuickDraw | None) -> list[masks.Row]:
    (out / MASKS).mkdir(parents=True, exist_ok=True)
    text = json.dumps(about, indent=2) + "\n"
    if (out / ABOUT).exists() and (out / ABOUT).read_text(encoding="utf-8") != text:
        raise UsageError(f"--out {out} holds another set of masks, see its {ABOUT}; choose another folder")
    write_whole(out / ABOUT, text.encode())
    rows = []
    with Counter(total=count, unit="masks") as counter:
        for index in range(count):
            name = f"{index:05d}.png"
            row, mask = _mask(name, index, about, drawings)
            white = (mask == 0) == (about["hole"] == "white")
            png = io.BytesIO()
            Image.fromarray(white[..., 0]).save(png, "PNG")
            write_whole(out / MASKS / name, png.getvalue())
            rows.append(row)
            counter.advance()
    masks.write_manifest(out / "manifest.jsonl", rows)
    write_whole(out / "histogram.png", _histogram([row.ratio for row in rows]))
    return rows


def _mask(name: str, index: int, about: dict, drawings: QuickDraw | None) -> tuple[masks.Row, np.ndarray]:
    seed, preset, size = about["seed"], about["preset"], (about["size"],) * 2
    if preset == PUBLISHED and drawings is not None:
        mask = drawings.published(np.random.default_rng([seed, index]), size)
        bucket = bucket_of(hole_ratio(mask))
    else:
        bucket = index % len(BUCKETS) if about["bucket"] is None else about["bucket"]
        common = {"example_id": name, "region": None, "min_coverage": 0.0, "files": drawings}
        mask = masks.eval_mask(seed=seed, bucket=bucket, size=size, preset=preset, **common)
    return masks.row(mask, example_id=name, bucket=bucket, seed=seed, preset=preset, files=drawings), mask


def _table(ratios: list[float]) -> None:
    """Counts a bucket and for each tenth of the ratio."""
    in_bucket = collections.Counter(map(bucket_of, ratios))
    for index, (low, high) in enumerate(BUCKETS):
        print(f"ratio ({low:.1f}, {high:.1f}]: {in_bucket[index]:,} masks")
    tenths, _ = np.histogram(ratios, bins=np.linspace(0, 1, 11))
    print("a tenth: " + " ".join(f"{count:,}" for count in tenths))


def _histogram(ratios: list[float]) -> bytes:
    """A PNG."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    counts, edges = np.histogram(ratios, bins=np.linspace(0, 1, 41))
    middles = (edges[:-1] + edges[1:]) / 2
    axes.bar(middles, counts, width=0.9 * np.diff(edges), color=[COLOURS[bucket_of(middle)] for middle in middles])
    for edge in (0.2, 0.4):
        axes.axvline(edge, color="0.7", linewidth=0.8, zorder=0)
    axes.set(xlabel="hole ratio", ylabel="masks", xlim=(0, 1), title=f"{len(ratios):,} masks")
    axes.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    figure.savefig(png, dpi=120)
    return png.getvalue()


if __name__ == "__main__":
    sys.exit(cli.run(main))
