"""What the commands share: a mistake of the user is one line and exit code 2."""

import argparse
import errno
import io
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from dpconv_jax.errors import UsageError

PATHS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP)  # the user's to mend


class Parser(argparse.ArgumentParser):
    """`argparse` that takes no abbreviations and says what is wrong without repeating its usage."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        raise UsageError(message)


def run(main: Callable[[list[str] | None], int], arguments: list[str] | None = None) -> int:
    """The exit code of `main(arguments)`; None is the command line.

    2 for its UsageError, after one line, for a path that may not be read, written or looked at, and for a home folder
    that is asked for and unknown, as in a container; 130 where it was interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that it cannot encode is no reason to stop
    try:
        return main(arguments)
    except UsageError as error:
        refuse(error)
        return 2
    except OSError as error:
        if error.filename is None or error.errno not in PATHS:
            raise
        refuse(UsageError(f"{error.filename}: {error.strerror}"))
        return 2
    except RuntimeError as error:
        if "home directory" not in str(error):  # pathlib's
            raise
        refuse(UsageError("this user has no home folder: set HOME"))
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def refuse(error: Exception) -> None:
    """One line on the error output, no traceback."""
    print("error:", " ".join(str(error).split()), file=sys.stderr)
