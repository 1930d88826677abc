"""The paper's figures.

fig5   object removal (Ablation 1): truth | masked | result, a row a photo, from folders that dpconv_jax.inpaint filled:
       --image=photos --mask=masks --result=clean --out=fig5.png
"""

import io
import pathlib
import sys

import numpy as np
from PIL import Image, ImageOps

from dpconv_jax import door, folder, holes, photo
from dpconv_jax.data.decode import BadImageError
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.writers import grid

CELL = 256  # side of a picture in a figure
FORMATS = {".png": "PNG", ".jpg": "JPEG"}


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


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake."""
    parser = door.Parser(prog="python -m dpconv_jax.study.figures", description=__doc__)
    figures = parser.add_subparsers(required=True, metavar="FIGURE")
    add = figures.add_parser("fig5", help="truth | masked | result").add_argument
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
    tasks, faults = folder.plan(given.image, given.mask, given.result)
    if faults:
        raise UsageError(faults[0])
    boxes = [holes.Box.parse(text) for text in given.box]
    for path in (path for task in tasks for path in (task.image, task.mask, task.out) if path is not None):
        if given.out.exists() and path.exists() and given.out.samefile(path):
            raise UsageError(f"--out {given.out} would replace what was given; choose another place")
    rows = [triptych(task, boxes=boxes, colour=given.mask_hole) for task in tasks[: given.photos]]
    picture = io.BytesIO()
    Image.fromarray(grid(rows)).save(picture, kind)
    try:
        write_whole(given.out, picture.getvalue())
    except OSError as error:
        raise UsageError(f"--out {given.out} cannot be written: {error.strerror}") from error
    print(f"{given.out}: {len(rows)} photos, truth | masked | result")
    return 0


if __name__ == "__main__":
    sys.exit(door.run(main))
