"""`image_folder`: any tree of images, read where it lies."""

import hashlib
import os
from pathlib import Path
from typing import TypedDict

from dpconv_jax.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VALIDATION = 0.1  # share of the images


class Example(TypedDict):
    """What every source yields: encoded pictures, not arrays."""

    image: bytes
    id: str
    category: str
    region: bytes | None  # a PNG, white on the clothing, aligned with the upright image; None where unknown


class ImageFolder:
    """The images below a folder as a random access source of one split; `id` is the path below the folder.

    An image belongs to `validation` when the hash of its path falls below a tenth, so it stays there when others come
    or go. Neither split is ever empty: in a tiny folder the image with the nearest hash goes over.
    Hidden files and folders are passed over. Raises UsageError for a missing folder or one with fewer than two images.
    """

    def __init__(self, folder: str | os.PathLike[str], split: str) -> None:
        self.split = split
        self._root = Path(folder).expanduser()
        if not str(folder) or not self._root.is_dir():
            raise UsageError(f"data.dir {str(folder)!r} is no folder; image_folder needs one with images")
        paths = sorted(_images(self._root))
        if len(paths) < 2:
            rule = "image_folder needs at least 2, one of them for validation"
            raise UsageError(f"data.dir {str(folder)!r} holds {len(paths)} images ({', '.join(SUFFIXES)}); {rule}")
        by_hash = sorted(paths, key=_position)
        count = sum(_position(path) < VALIDATION for path in paths)
        validation = set(by_hash[: min(max(count, 1), len(paths) - 1)])
        self._paths = [path for path in paths if (path in validation) == (split == "validation")]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Example:
        path = self._paths[index]
        return {"image": (self._root / path).read_bytes(), "id": path, "category": "", "region": None}


def _images(root: Path) -> list[str]:
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                found.append((Path(folder) / name).relative_to(root).as_posix())
    return found


def _position(path: str) -> float:
    """Where a path's hash falls in [0, 1)."""
    digest = hashlib.sha256(path.encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
