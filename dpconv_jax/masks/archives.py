"""Archives of mask images, unpacked beside themselves: whole or not at all, and nothing outside."""

import os
import pathlib
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from dpconv_jax.errors import UsageError
from dpconv_jax.masks.files import SUFFIXES

ABOUT = "set.json"  # what a set says of itself, by `python -m dpconv_jax.masks`
ENDINGS = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tar", ".zip")
MOST_FILES = 200_000  # QD-IMD has 60,000
MOST_BYTES = 2**24  # of one file; a 512 x 512 mask has less than 2**18, even uncompressed
MOST_BYTES_IN_ALL = 2**34


class _Member(NamedTuple):
    name: str
    is_file: bool
    is_folder: bool
    size: int
    stream: IO[bytes] | None  # of a file


def is_archive(path: pathlib.Path) -> bool:
    """Whether `path` is a file that `unpacked` takes, by its name."""
    return path.name.lower().endswith(ENDINGS) and path.is_file()


def unpacked(path: pathlib.Path) -> pathlib.Path:
    """The folder beside the archive, named like it, with its images and `set.json`; unpacked unless it is there.

    Raises UsageError for an archive that is damaged, leads out of the folder, holds links or devices, or is larger than
    any set of masks; nothing of it is left then.
    """
    ending = next(each for each in ENDINGS if path.name.lower().endswith(each))
    folder = path.with_name(path.name[: -len(ending)])
    if folder.is_dir():
        return folder
    partial = path.with_name(f".{folder.name}.{os.getpid()}.partial")
    print(f"unpacking {path} to {folder}", flush=True)
    try:
        _unpack(path, partial)
        partial.rename(folder)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except Exception as error:  # of tarfile, zipfile, zlib, lzma, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{path} cannot be unpacked: {reason}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _unpack(path: pathlib.Path, folder: pathlib.Path) -> None:
    folder.mkdir()
    files = total = 0
    for member in _zipped(path) if path.name.lower().endswith(".zip") else _tarred(path):
        name = pathlib.PurePosixPath(member.name.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in "".join(name.parts[:1]):
            raise UsageError(f"{member.name!r} leads out of the archive")
        if member.is_folder:
            continue
        if not member.is_file:
            raise UsageError(f"{member.name!r} is neither a file nor a folder")
        if name.name != ABOUT and (name.suffix.lower() not in SUFFIXES or name.name.startswith(".")):
            continue
        files, total = files + 1, total + member.size
        if files > MOST_FILES or member.size > MOST_BYTES or total > MOST_BYTES_IN_ALL:
            raise UsageError(f"{member.name!r} makes it larger than any set of masks: {files} files, {total} bytes")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        assert member.stream is not None
        content = member.stream.read(member.size + 1)
        if len(content) != member.size:
            raise UsageError(f"{member.name!r} is not as long as announced")
        target.write_bytes(content)


def _tarred(path: pathlib.Path) -> Iterator[_Member]:
    with tarfile.open(path) as archive:
        for info in archive:
            stream = archive.extractfile(info) if info.isreg() else None
            yield _Member(info.name, info.isreg(), info.isdir(), info.size, stream)
        assert archive.fileobj is not None
        archive.fileobj.seek(archive.offset)
        if any(archive.fileobj.read(tarfile.BLOCKSIZE) or b"?"):  # tarfile itself takes a missing end for an end
            raise UsageError("it is truncated")


def _zipped(path: pathlib.Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            is_file = not info.is_dir() and kind in (0, stat.S_IFREG)
            if not is_file or info.file_size > MOST_BYTES:  # not opened: too long, or nothing to read
                yield _Member(info.filename, is_file, info.is_dir(), info.file_size, None)
                continue
            with archive.open(info) as stream:
                yield _Member(info.filename, is_file, False, info.file_size, stream)
