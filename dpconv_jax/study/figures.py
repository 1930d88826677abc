"""The paper's figures.

fig1   masked photos and what one network makes of them:
       --model=Ours=runs/dpconv --out=fig1.jpg
fig4   the methods side by side: IN | baselines | models | GT, a row a photo:
       --baselines=patchmatch --model=PConv=runs/pconv --model=GConv=runs/gconv --model=Ours=runs/dpconv --out=fig4.jpg
fig7   more of one network: IN | OUT | GT, two photos in a row:
       --model=Ours=runs/dpconv --out=fig7.jpg
fig5   object removal (Ablation 1): truth | masked | result, a row a photo, from folders that dpconv_jax.inpaint filled:
       --image=photos --mask=masks --result=clean --out=fig5.png

Photos and holes of 1, 4 and 7 are those of the validation of the first model, which is a workdir, as its config.json
says: --photos of each bucket of hole ratio, drawn by a hash of --seed and their ids, or those of --ids in every bucket.
The methods see the masked photos only; composites are shown, with the hole ratio beside them.
"""

import argparse
import hashlib
import heapq
import io
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image, ImageDraw, ImageFont, ImageOps

from dpconv_jax import cli
from dpconv_jax.data import pipeline
from dpconv_jax.data.decode import BadImageError
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation.evaluate import Method, Padded, padded
from dpconv_jax.files import write_whole
from dpconv_jax.inpainting import folder, holes, photo
from dpconv_jax.masks import BUCKETS
from dpconv_jax.study import contenders
from dpconv_jax.study.contenders import masked, names
from dpconv_jax.study.table1.render import method_title
from dpconv_jax.training import experiment
from dpconv_jax.training.report import bucket_title
from dpconv_jax.training.writers import GAP, grid

CELL = 256  # side of a picture in a figure
FORMATS = {".png": "PNG", ".jpg": "JPEG"}
HEAD, SIDE = 34, 96  # pixels: the margins above and on the left, where the letters are

# ---- Figs. 1, 4, 7: what methods make of masked photos ----


class Layout(NamedTuple):
    """Of one of these figures."""

    help: str
    photos: int  # of each bucket
    blocks: int  # beside each other
    columns: tuple[str, ...] | None  # headings; None compares: IN, one a method, GT


LAYOUTS = {
    "fig1": Layout("masked photos and one network's composites", 2, 3, ("IN", "OUT")),
    "fig4": Layout("several methods side by side", 2, 1, None),
    "fig7": Layout("masked photos, one network's composites, the truth", 4, 2, ("IN", "OUT", "GT")),
}
Line = tuple[str, Sequence[np.ndarray]]  # a label, and pictures (CELL, CELL, 3) float32 in [0, 1]


def trained_on(workdir: pathlib.Path) -> ConfigDict:
    """The config of a workdir; UsageError where there is none."""
    path = workdir / "config.json"
    try:
        return ConfigDict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        why = "the first --model must be a workdir, whose config says which photos and holes to show"
        raise UsageError(f"{path} cannot be read; {why}") from error


def chosen(known: Iterable[str], *, bucket: int, photos: int, seed: int) -> list[str]:
    """So many of the ids, by a hash of seed, bucket and id: those of a larger number begin with those of a smaller."""

    def draw(id: str) -> bytes:
        return hashlib.sha256(f"{seed} {bucket} {id}".encode(errors="surrogateescape")).digest()

    return heapq.nsmallest(photos, known, key=draw)


def batches(config: ConfigDict, *, photos: int, seed: int, ids: Sequence[str]) -> Iterator[Padded]:
    """A batch for each bucket: its photos, with the holes that the validation gives them.

    Raises UsageError for an id that the validation split has not.
    """
    source, preparation = experiment.open_source(config, "validation"), experiment.preparation(config, "validation")
    places = {source[index]["id"]: index for index in range(len(source))}
    if missing := [id for id in ids if id not in places]:
        raise UsageError(f"--ids: no photo {', '.join(missing)} in the validation split; {min(places)} is one")
    for bucket in range(len(BUCKETS)):
        shown = ids or chosen(places, bucket=bucket, photos=photos, seed=seed)
        of_bucket = pipeline.eval_batches(
            [source[places[id]] for id in shown],
            preparation,
            batch_size=len(shown),
            bucket=bucket,
        )
        yield from padded(of_bucket, bucket)


def lines(methods: Sequence[Method], batch: Padded) -> Iterator[Line]:
    """A line for each photo: IN, the composite of each method, GT."""
    columns = [
        masked(batch),
        *(filled for _, filled in contenders.composites(methods, batch)),
        batch.image[: batch.count],
    ]
    for row, *pictures in zip(batch.batch["row"], *columns, strict=True):
        label = f"{bucket_title(row.bucket)}\n{100 * row.ratio:.0f} % hole"
        yield label, [_cell(np.rint(255 * picture).astype(np.uint8)) for picture in pictures]


def lettered(rows: Sequence[Line], *, heads: Sequence[str]) -> np.ndarray:
    """The pictures in a grid, uint8 (H, W, 3), `heads` above its columns and each label left of its row."""
    cells = grid([pictures for _, pictures in rows])
    canvas = Image.new("RGB", (SIDE + cells.shape[1], HEAD + cells.shape[0]), "white")
    canvas.paste(Image.fromarray(cells), (SIDE, HEAD))
    pen = ImageDraw.Draw(canvas)
    for column, head in enumerate(heads):
        place = (SIDE + column * (CELL + GAP) + CELL // 2, HEAD // 2)
        pen.text(place, head, fill="black", font=ImageFont.load_default(22), anchor="mm")
    for row, (label, _) in enumerate(rows):
        place = (SIDE // 2, HEAD + row * (CELL + GAP) + CELL // 2)
        pen.text(place, label, fill="black", font=ImageFont.load_default(16), anchor="mm", align="center")
    return np.asarray(canvas)


def compare(given: argparse.Namespace) -> tuple[np.ndarray, str]:
    """Fig. 1, 4 or 7, uint8 (H, W, 3), and what it shows."""
    layout = LAYOUTS[given.figure]
    paths = contenders.paths_of(given.model)
    methods, _ = contenders.opened(names(given.baselines), paths, batch_size=given.photos)
    if layout.columns and len(methods) > 1:
        raise UsageError(f"{given.figure} shows one --model; fig4 compares several")
    config = trained_on(next(iter(paths.values())))
    for folder_ in filter(None, (config.data.dir, config.data.manual_dir, config.mask.dir)):
        if given.out.resolve().is_relative_to(pathlib.Path(folder_).expanduser().resolve()):
            raise UsageError(f"--out {given.out} lies among the photos or masks, in {folder_}; choose another place")
    heads = layout.columns or ("IN", *(method_title(method.name) for method in methods), "GT")
    shown = batches(config, photos=given.photos, seed=given.seed, ids=names(given.ids))
    rows = [(label, pictures[: len(heads)]) for batch in shown for label, pictures in lines(methods, batch)]
    count = -(-len(rows) // layout.blocks)
    blank = ("", [np.ones((CELL, CELL, 3), np.float32)] * len(heads))
    rows += [blank] * (count * layout.blocks - len(rows))
    blocks = [lettered(rows[first : first + count], heads=heads) for first in range(0, len(rows), count)]
    return np.concatenate(blocks, axis=1), " | ".join(heads)


# ---- Fig. 5: object removal ----


def triptych(task: folder.Task, *, boxes: list[holes.Box], colour: str | None) -> list[np.ndarray]:
    """Truth, masked (white in the hole) and result of one photo, each (CELL, CELL, 3) float32 in [0, 1].

    `task.out` is the result. Raises UsageError where one of its files is missing or cannot be used.
    """
    try:
        opened = folder.open_photo(task, folder.Options(boxes, colour, dilate=0, feather=0))
    except (BadImageError, UsageError) as error:
        raise UsageError(f"{task.name}: {error}") from error
    try:
        result = photo.read(task.out, max_pixels=folder.MAX_PIXELS).rgb
    except BadImageError as error:
        raise UsageError(f"{task.out}: {error}") from error
    if result.shape != opened.photo.rgb.shape:
        raise UsageError(f"{task.out} has not the size of {task.image}")
    masked = np.where(opened.hole[..., None], np.uint8(255), opened.photo.rgb)
    return [_cell(pixels) for pixels in (opened.photo.rgb, masked, result)]


def _cell(pixels: np.ndarray) -> np.ndarray:
    fitted = ImageOps.pad(Image.fromarray(pixels), (CELL, CELL), Image.Resampling.LANCZOS, color="white")
    return np.asarray(fitted, np.float32) / 255


def remove(given: argparse.Namespace) -> tuple[np.ndarray, str]:
    """Fig. 5, uint8 (H, W, 3), and what it shows."""
    tasks, faults = folder.plan(given.image, given.mask, given.result)
    if faults:
        raise UsageError(faults[0])
    boxes = [holes.Box.parse(text) for text in given.box]
    for path in (path for task in tasks for path in (task.image, task.mask, task.out) if path is not None):
        if given.out.exists() and path.exists() and given.out.samefile(path):
            raise UsageError(f"--out {given.out} would replace what was given; choose another place")
    rows = [triptych(task, boxes=boxes, colour=given.mask_hole) for task in tasks[: given.photos]]
    return grid(rows), f"{len(rows)} photos, truth | masked | result"


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake."""
    parser = cli.Parser(prog="python -m dpconv_jax.study.figures", description=__doc__)
    figures = parser.add_subparsers(required=True, metavar="FIGURE", dest="figure")
    for figure, layout in LAYOUTS.items():
        comparison = figures.add_parser(figure, help=layout.help)
        comparison.set_defaults(draw=compare)
        add = comparison.add_argument
        add("--model", action="append", default=[], metavar="NAME=PATH", help="a workdir or weight file; repeatable")
        add("--baselines", default="", metavar="NAMES", help="separated by commas")
        add("--ids", default="", metavar="IDS", help="separated by commas; default drawn")
        add("--seed", type=int, default=0, help="of what is drawn; default %(default)s")
        add("--photos", type=int, default=layout.photos, metavar="N", help="of each bucket; default %(default)s")
        add("--out", required=True, type=pathlib.Path, metavar="FILE", help="*.png or *.jpg")
    removal = figures.add_parser("fig5", help="truth | masked | result")
    removal.set_defaults(draw=remove)
    add = removal.add_argument
    add("--image", required=True, type=pathlib.Path, metavar="FILE|DIR")
    add("--mask", type=pathlib.Path, metavar="FILE|DIR")
    add("--box", action="append", default=[], metavar="X0,Y0,X1,Y1")
    add("--mask_hole", choices=("white", "black"))
    add("--result", required=True, metavar="FILE|DIR", help="what dpconv_jax.inpaint wrote")
    add("--out", required=True, type=pathlib.Path, metavar="FILE", help="*.png or *.jpg")
    add("--photos", type=int, default=8, metavar="N", help="the first so many; default %(default)s")
    given = parser.parse_args(arguments)
    if given.photos < 1:
        raise UsageError(f"--photos={given.photos}: at least 1")
    kind = FORMATS.get(given.out.suffix)
    if kind is None:
        raise UsageError(f"--out {given.out}: a figure is a {' or a '.join(FORMATS)}")
    pixels, shown = given.draw(given)
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, kind)
    try:
        write_whole(given.out, picture.getvalue())
    except OSError as error:
        raise UsageError(f"--out {given.out} cannot be written: {error.strerror}") from error
    print(f"{given.out}: {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
