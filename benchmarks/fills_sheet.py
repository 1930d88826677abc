"""Thirty things taken out of garments, at the photos' native size: before, hole and fills side by side on one sheet.

    python -m benchmarks.fills_sheet --photos=$CLOTHING/validation --out=docs/results/removals.jpg network texture

What is taken out is `benchmarks/removals.py:SHOWN`; methods are those of `benchmarks/fills.py`, `texture=FILE` among
them, one column each. Cells show the hole with its surroundings.
"""

import argparse
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks import removals
from benchmarks.fills import method, whole

CELL = 200  # pixels, the side of a cell
ROWS = 10  # of the sheet
GAP, LINE = 12, 16
AROUND = 0.4  # of a hole's longer side: what a cell shows beyond it
PAPER, INK, HOLE = (255, 255, 255), (40, 40, 40), (214, 51, 108)


def around(hole: np.ndarray) -> tuple[int, int, int, int]:
    """The square that a cell shows, left, top, right, bottom: in the photo as far as that is large enough."""
    spans = [(places.min(), places.max() + 1) for places in np.nonzero(hole)]
    side = min(*hole.shape, round((1 + 2 * AROUND) * max(last - first for first, last in spans)))
    top, left = (
        int(np.clip((first + last - side) // 2, 0, most - side))
        for (first, last), most in zip(spans, hole.shape, strict=True)
    )
    return left, top, left + side, top + side


def main() -> None:
    """Writes the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", metavar="METHOD")
    parser.add_argument("--photos", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--limit", type=int, help="only the first of them")
    options = parser.parse_args()
    fills = {name: method(name) for name in options.methods}
    shown = removals.SHOWN[: options.limit]
    width, height = (2 + len(fills)) * CELL + GAP, CELL + LINE + GAP
    blocks, rows = -(-len(shown) // ROWS), min(len(shown), ROWS)
    paper = Image.new("RGB", (blocks * width + GAP, rows * height + LINE + GAP), PAPER)
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(12)
    titles = ["before", "hole", *(pathlib.Path(name).name for name in fills)]
    for column, title in enumerate(blocks * titles):
        block, place = divmod(column, len(titles))
        pen.text((GAP + block * width + place * CELL, GAP // 2), title, INK, font)
    for index, removal in enumerate(shown):
        image = whole(options.photos / f"{removal.photo}.jpg")
        hole = removal.hole(image.shape[:2])
        mask = ~hole[..., None] * np.float32(1)
        pictures = [image, np.where(mask > 0, image, np.divide(HOLE, 255, dtype=np.float32))]
        pictures += [fill(image, mask) for fill in fills.values()]
        block, row = divmod(index, ROWS)
        left, top = GAP + block * width, GAP + LINE + row * height
        pen.text((left, top), f"{index + 1}  {removal.what}", INK, font)
        for column, picture in enumerate(pictures):
            cell = Image.fromarray(np.rint(picture * 255).astype(np.uint8))
            cell = cell.resize((CELL, CELL), Image.Resampling.LANCZOS, around(hole))
            paper.paste(cell, (left + column * CELL, top + LINE))
    paper.save(options.out, quality=85)


if __name__ == "__main__":
    main()
