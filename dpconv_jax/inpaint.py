"""Photos and masks in, photos out.

One photo:   --image=photo.jpg --mask=mask.png --out=clean.jpg
A folder:    --image=photos --mask=masks --out=clean      (every photo below it, paired with its mask by path and stem)
             --image=photos --mask=mask.png --out=clean   (one mask for all)

A mask is a picture of the photo's size, or a .json of LabelMe shapes; --box adds rectangles to it or replaces it. Only
the holes change: a lossless format keeps every other pixel to the bit, and all formats keep size, orientation, colour
profile and alpha. The network sees a photo of any size reduced around its holes (dpconv_jax/inpainting/context.py), and
patches of the photo give the fill its texture (dpconv_jax/inpainting/texture.py).

--variants=3 makes two more of each, as NAME-2 and NAME-3: fills that follow the network, half or not at all. Of every
hole the first has the best, by a measure that does not know what was there.

Photos that are done already are skipped, so that the same command goes on where it was stopped. One that cannot be
used is named, and the rest goes on. Hidden files and links to folders are passed over. Exit codes: 0 done, 1 a photo
failed, 2 a mistake in the command, 130 interrupted.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Callable

from dpconv_jax import cli
from dpconv_jax.errors import UsageError
from dpconv_jax.inpainting import folder, holes
from dpconv_jax.progress import Counter


def _number(what: str, *, least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or len(text) > len(str(most)) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number of {what}, {least} to {most}")
        return int(text)

    return parse


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake in the command."""
    parser = cli.Parser(prog="python -m dpconv_jax.inpaint", description=__doc__)
    add = parser.add_argument
    pixels, variants = _number("pixels", least=0, most=999_999), _number("variants", least=1, most=99)
    add("--checkpoint", type=pathlib.Path, metavar="WORKDIR|FILE", help="the network; default: that of this package")
    add("--image", required=True, type=pathlib.Path, metavar="FILE|DIR")
    add("--mask", type=pathlib.Path, metavar="FILE|DIR")
    add("--box", action="append", default=[], metavar="X0,Y0,X1,Y1", help="a rectangle to fill, in pixels; repeatable")
    add("--out", required=True, metavar="FILE|DIR")
    add("--mask_hole", choices=("white", "black"), help=f"the colour of holes in masks; {holes.COLOUR} if not given")
    add("--dilate", type=pixels, default=0, metavar="PX", help="grow the holes, over the edge of what is to go")
    add("--feather", type=pixels, default=0, metavar="PX", help="blend the fill into so many pixels around the holes")
    add("--texture", choices=("auto", "off"), default="auto", help="off: what the network makes alone, smooth")
    add("--variants", type=variants, default=1, metavar="N", help="so many fills that differ, the first the best")
    add("--overwrite", action="store_true", help="fill photos again that are done already")
    given = parser.parse_args(arguments)
    if given.mask is None and not given.box:
        raise UsageError("there is no hole: give --mask, or --box")
    if given.variants > 1 and given.texture == "off":
        raise UsageError("--variants: the network alone gives one; leave out --texture=off")
    boxes = [holes.Box.parse(text) for text in given.box]
    tasks, faults = folder.plan(given.image, given.mask, given.out, variants=given.variants)
    for fault in faults:
        print(f"failed: {fault}", file=sys.stderr)
    todo = tasks if given.overwrite else [task for task in tasks if not task.is_done()]
    if skipped := len(tasks) - len(todo):
        print(f"{skipped} done already, skipped; --overwrite fills them again")
    if given.mask_hole is None and any(task.mask and task.mask.suffix.lower() != ".json" for task in todo):
        print(f"{holes.COLOUR} is hole in the masks; if it is valid, say --mask_hole=black")
    failed = len(faults)
    if todo:
        from dpconv_jax.inpainting import model  # after the flags: a mistake in them should not wait for jax

        cli.keep_compiled()
        network = model.of_command(given.checkpoint)
        if given.texture == "off":
            print("--texture=off: the network's fill alone, without patches of the photo")
        start = time.perf_counter()
        with Counter(total=len(todo), unit="photos") as counter:
            options = folder.Options(
                boxes, given.mask_hole, given.dilate, given.feather, given.texture == "auto", given.variants
            )
            failed += folder.fill(network, todo, options, counter=counter)
        seconds = time.perf_counter() - start
        done = len(todo) + len(faults) - failed
        print(f"{done} photos in {seconds:.1f} s, {done / seconds:.2f} photos/s; {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
