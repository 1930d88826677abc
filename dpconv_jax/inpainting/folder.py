"""Photos and their masks, one of each or folders of them: which belong together, and filled one after another."""

import errno
import functools
import itertools
import os
import pathlib
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np

from dpconv_jax.data.decode import BadImageError
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.inpainting import holes, photo
from dpconv_jax.inpainting.fill import Filling
from dpconv_jax.progress import Counter

if TYPE_CHECKING:
    from dpconv_jax.inpainting.model import Model

MAX_PIXELS = 100_000_000  # of a photo or a mask; larger ones are refused before they are decoded
TOGETHER = 2**22  # pixels of the photos whose windows are filled together, at least one photo
AHEAD = 4  # photos read while the network works
LISTED = 10  # names in one line


class Task(NamedTuple):
    """One photo to fill."""

    name: str
    image: pathlib.Path
    mask: pathlib.Path | None
    outs: tuple[pathlib.Path, ...]  # of the best fill, and of further variants

    @property
    def out(self) -> pathlib.Path:
        return self.outs[0]

    def is_done(self) -> bool:
        """Whether every output is there."""
        return all(out.is_file() for out in self.outs)


class Options(NamedTuple):
    """What holds for all photos of a command."""

    boxes: Sequence[holes.Box]
    colour: str | None  # of the holes in masks
    dilate: int
    feather: int
    texture: bool = True
    variants: int = 1


class Opened(NamedTuple):
    """A photo with its hole, bool (H, W)."""

    task: Task
    photo: photo.Photo
    hole: np.ndarray
    notes: tuple[str, ...]


def plan(image: pathlib.Path, mask: pathlib.Path | None, to: str, *, variants: int = 1) -> tuple[list[Task], list[str]]:
    """The photos to fill, in order, and a line on each that has no mask, or several.

    to: a file, or a folder, which for a single photo exists or is written with a slash at the end. Further variants
    lie beside the first as NAME-2, NAME-3 and so on.
    Raises UsageError where there is no photo or a folder cannot be listed, or where an output would replace what was
    given or another output, or has no known suffix.
    """
    try:
        return _plan(image, mask, to, variants)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error


def _plan(image: pathlib.Path, mask: pathlib.Path | None, to: str, variants: int) -> tuple[list[Task], list[str]]:
    out = pathlib.Path(to)
    if not image.exists():
        raise UsageError(f"--image {image}: no such file or folder")
    if mask is not None and not mask.exists():
        raise UsageError(f"--mask {mask}: no such file or folder")
    if image.is_dir():
        if mask is not None and mask.is_dir() and mask.samefile(image):
            raise UsageError(f"--mask {mask} is the folder of the photos; masks need a folder of their own")
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out} is a file; for a folder of photos it must be a folder")
        if mask is not None and mask.is_dir() and out.exists() and out.samefile(mask):
            raise UsageError(f"{out} is the folder of the masks; results need a folder of their own")
        found = {path.relative_to(image): path for path in _below(image, photo.SUFFIXES, apart=(out, mask))}
        if not found:
            raise UsageError(f"--image {image} holds no photo ({', '.join(photo.SUFFIXES)})")
    else:
        if mask is not None and mask.is_dir():
            raise UsageError(f"--mask {mask} is a folder; one photo takes one mask")
        if out.is_dir() or to.endswith(os.sep):
            out = out / image.name
        found = {pathlib.Path(out.name): image}
        out = out.parent
    tasks, faults = [], []
    masks = _by_stem(mask, apart=(out, image)) if mask is not None and mask.is_dir() else None
    for relative, path in found.items():
        partners = [mask] if masks is None else masks.get(relative.with_suffix(""), [])
        if len(partners) == 1:
            outs = [relative, *(relative.with_stem(f"{relative.stem}-{n}") for n in range(2, variants + 1))]
            name = _shown(relative if image.is_dir() else image)
            tasks.append(Task(name, path, partners[0], tuple(out / each for each in outs)))
        else:
            several = " and ".join(partner.name for partner in partners if partner is not None)
            fault = f"several masks, {_shown(several)}" if several else f"no mask below {mask}"
            faults.append(f"{_shown(relative)}: {fault}")
    if masks is not None:
        lonely = sorted(masks.keys() - {relative.with_suffix("") for relative in found})
        if lonely:
            rest = f" and {len(lonely) - LISTED} more" if len(lonely) > LISTED else ""
            print(f"masks without a photo: {', '.join(map(_shown, lonely[:LISTED]))}{rest}")
    place = functools.cache(os.path.realpath)
    everything = [*found.values(), *([mask] if masks is None else itertools.chain(*masks.values()))]
    given = {(place(path.parent), path.name): path for path in everything if path is not None}
    makers: dict[pathlib.Path, Task] = {}
    for out, task in ((out, each) for each in tasks for out in each.outs):
        if out.suffix.lower() not in photo.SUFFIXES:
            raise UsageError(f"{out}: a photo's suffix is one of {', '.join(photo.SUFFIXES)}")
        for path in (task.image, task.mask, given.get((place(out.parent), out.name))):
            if path is not None and _same(out, path):
                raise UsageError(f"{out} would replace {path}, which was given; choose another place")
        if (other := makers.setdefault(out, task)) is not task:
            raise UsageError(f"{out} would be made of {other.name} and of {task.name}: --variants names it so")
    return tasks, faults


def fill(model: "Model", tasks: Sequence[Task], options: Options, *, counter: Counter) -> int:
    """Fills the photos and returns how many failed, each named in a line.

    Raises UsageError where a mask may be the wrong way round, or the disk is full; what was written stays.
    """
    failed = 0

    def check(task: Task, future: Future) -> Opened | None:
        nonlocal failed
        try:
            return future.result()
        except holes.PolarityError:
            raise
        except (BadImageError, UsageError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UsageError(f"no space left for {task.out}; free some and run the same command") from error
            failed += 1
            counter.advance()
            print(f"failed: {task.name}: {_line(error)}", file=sys.stderr)
        return None

    def finish(writes: list[tuple[Task, Future]]) -> None:
        for task, future in writes:
            if done := check(task, future):
                counter.advance()
                for note in done.notes:
                    counter.say(f"{task.name}: {note}")

    with ThreadPoolExecutor(AHEAD) as pool:
        try:
            writes: list[tuple[Task, Future]] = []
            for together in _together(
                check(*each) for each in _ahead(pool, lambda task: open_photo(task, options), tasks)
            ):
                weights = [holes.weight(opened.hole, options.feather) for opened in together]
                wanted = [weight > 0 for weight in weights]
                photos = [(opened.photo.rgb, where) for opened, where in zip(together, wanted, strict=True)]
                fillings = model.begin(photos, texture=options.texture, variants=options.variants)
                finish(writes)
                writes = [
                    (opened.task, pool.submit(_write, opened, filling, weight))
                    for opened, filling, weight in zip(together, fillings, weights, strict=True)
                ]
            finish(writes)
        finally:
            pool.shutdown(cancel_futures=True)
    return failed


def open_photo(task: Task, options: Options) -> Opened:
    """Reads a photo and its hole.

    Raises BadImageError or UsageError where a file cannot be used, or the hole is the whole photo.
    """
    opened = photo.read(task.image, max_pixels=MAX_PIXELS)
    size = opened.rgb.shape[:2]
    hole, notes = np.zeros(size, bool), opened.notes
    if task.mask is not None:
        hole, said = holes.read(task.mask, size=size, colour=options.colour, max_pixels=MAX_PIXELS)
        notes += said
    for box in options.boxes:
        hole = hole | box.hole(size)
    hole = holes.grown(hole, options.dilate)
    if hole.all():
        raise UsageError("the hole is the whole photo: there is nothing to fill it from")
    return Opened(task, opened, hole, notes if hole.any() else (*notes, "no hole: the photo as it was"))


def _write(opened: Opened, filling: Filling, weight: np.ndarray) -> Opened:
    task = opened.task
    task.out.parent.mkdir(parents=True, exist_ok=True)
    if not opened.hole.any() and task.out.suffix.lower() == task.image.suffix.lower():
        for out in task.outs:
            write_whole(out, task.image.read_bytes())
        return opened
    fills, notes = filling.result(), ()
    for out, fill in zip(task.outs, fills, strict=True):
        notes = photo.write(opened.photo, out, fill.picture, weight)  # the same for all
    if any(fill.smooth for fill in fills):
        notes = (*notes, "too little of the photo is valid for its texture: the network's fill alone, in part or whole")
    return opened._replace(notes=(*opened.notes, *notes))


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Task], Opened], tasks: Sequence[Task]
) -> Iterator[tuple[Task, Future]]:
    """The tasks in order, each with its work, AHEAD of them under way."""
    waiting: deque[tuple[Task, Future]] = deque()
    for task in tasks:
        waiting.append((task, pool.submit(work, task)))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


def _together(photos: Iterator[Opened | None]) -> Iterator[list[Opened]]:
    group: list[Opened] = []
    pixels = 0
    for opened in filter(None, photos):
        if group and pixels + opened.hole.size > TOGETHER:
            yield group
            group, pixels = [], 0
        group.append(opened)
        pixels += opened.hole.size
    if group:
        yield group


def _below(
    folder: pathlib.Path, suffixes: Sequence[str], *, apart: Sequence[pathlib.Path | None] = ()
) -> list[pathlib.Path]:
    """The files with one of the suffixes, sorted; hidden ones, and what is `apart`, are passed over."""
    skipped = {os.path.realpath(path) for path in apart if path is not None}
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [
            name for name in folders if name[0] != "." and os.path.realpath(os.path.join(parent, name)) not in skipped
        ]
        found += [
            pathlib.Path(parent, name) for name in files if name[0] != "." and name.lower().endswith((*suffixes,))
        ]
    return sorted(path for path in found if os.path.realpath(path) not in skipped)


def _raise(error: OSError) -> NoReturn:
    raise error


def _same(path: pathlib.Path, other: pathlib.Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one is not there, or a link to nothing
        return False


def _by_stem(folder: pathlib.Path, *, apart: Sequence[pathlib.Path]) -> dict[pathlib.Path, list[pathlib.Path]]:
    masks: dict[pathlib.Path, list[pathlib.Path]] = {}
    for path in _below(folder, holes.SUFFIXES, apart=apart):
        masks.setdefault(path.relative_to(folder).with_suffix(""), []).append(path)
    return masks


def _shown(path: str | os.PathLike[str]) -> str:
    """A name on one line that any output takes: names may hold line breaks, or bytes that are no text."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in os.fspath(path))


def _line(error: Exception) -> str:
    said = f"cannot be written: {error.strerror}" if isinstance(error, OSError) else str(error)
    return " ".join(said.split())
