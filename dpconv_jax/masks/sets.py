"""Where mask files come from: folders and archives of one's own, or of a published set that declares its polarity."""

import functools
import json
import os
import pathlib
import re
from typing import NamedTuple

import numpy as np

from dpconv_jax.errors import UsageError
from dpconv_jax.masks.archives import ABOUT, is_archive, unpacked
from dpconv_jax.masks.files import MaskFiles

MASKS = "masks"  # the folder of a set's files, beside `set.json`
SAMPLED = 64  # files whose polarity is checked

_shared = functools.cache(MaskFiles)  # training and validation may have the same files: they are read once


class Published(NamedTuple):
    """A set of others."""

    hole: str
    folders: dict[str, str]  # of each split; without any, all files serve every split
    name: re.Pattern[str]  # of its files


SETS = {
    "qd_imd": Published("black", {"train": "train", "validation": "test"}, re.compile(r"\d{5}_(train|test)\.png")),
    "nvidia_irregular": Published("white", {}, re.compile(r"\d+\.png")),
}


def open_files(path: str | os.PathLike[str], *, name: str, hole: str, split: str) -> MaskFiles:
    """The masks of a folder or archive.

    name: a published set of SETS, whose files of `split` ("train" or "validation") are taken and whose polarity is
    known and checked; "": files of one's own. hole: "black" or "white", the colour of a hole; "" where a published set
    or the set's own `set.json` says it.
    Raises UsageError for an unknown set, missing files, and a polarity that is not said, contradicted or the wrong way
    round.
    """
    if not str(path):
        raise UsageError("mask.dir is empty; it must name a folder or archive of mask images")
    root = pathlib.Path(path).expanduser()
    if is_archive(root):
        root = unpacked(root)
    if not name:
        root = next((about.parent for about in _within(root, ABOUT) if about.exists()), root)
        said = _said(root)
        return _shared(root / MASKS if said else root, hole=_agreed(hole, said, str(root)))
    if name not in SETS:
        raise UsageError(f"mask set {name!r} is unknown; known: {', '.join(SETS)}")
    published = SETS[name]
    hole = _agreed(hole, published.hole, name)
    files = _shared(_folder(root, name, published, split), hole=hole)
    strange = [each.name for each in files.paths if not published.name.fullmatch(each.name)]
    if strange:
        raise UsageError(f"{files.directory} is not {name}: {strange[0]!r} is not named like its files")
    picked = np.linspace(0, len(files.paths) - 1, min(SAMPLED, len(files.paths))).astype(int)
    median = float(np.median(files.ratios([files.paths[index] for index in picked])))
    if median >= 0.5:
        rule = f"with {hole} holes, as in {name}, the median mask would be {median:.0%} hole"
        raise UsageError(f"{files.directory}: {rule}; the files look inverted")
    return files


def _folder(root: pathlib.Path, name: str, published: Published, split: str) -> pathlib.Path:
    """The folder of a split."""
    if not published.folders:
        return root
    wanted = published.folders[split]
    for folder in _within(root, wanted):
        if folder.is_dir():
            return folder
    found = ", ".join(sorted(each.name for each in root.iterdir())[:12]) if root.is_dir() else "it does not exist"
    raise UsageError(f"mask folder {str(root)!r} lacks {wanted} of {name}; it holds {found or 'nothing'}")


def _within(root: pathlib.Path, name: str) -> tuple[pathlib.Path, ...]:
    """Where `name` may lie: in the root or one level below."""
    return root / name, *sorted(root.glob(f"*/{name}"))


def _said(root: pathlib.Path) -> str:
    """The polarity that a set says of itself, "" where it says none."""
    try:
        return str(json.loads((root / ABOUT).read_text(encoding="utf-8"))["hole"])
    except FileNotFoundError:
        return ""
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"{root / ABOUT} does not say the colour of a hole: {error!r}") from error


def _agreed(hole: str, said: str, where: str) -> str:
    if hole and said and hole != said:
        raise UsageError(f"mask.hole is {hole!r}, but holes of {where} are {said}")
    return hole or said
