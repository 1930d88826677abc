"""A file that is whole or absent: whoever reads it, and whatever kills the writer, finds the old one or the new one."""

import contextlib
import os
import pathlib
import threading


def write_whole(path: pathlib.Path, content: bytes) -> None:
    """Replaces `path` at once. Raises OSError where that fails, and leaves what was there, and nothing beside it."""
    partial = path.with_name(f".{os.getpid()}-{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
