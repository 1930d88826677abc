"""What the commands share: their parser, a mistake of the user as one line and exit code 2, what XLA compiled, kept.

Those that take a recipe share `--config=FILE[:VARIANT]` and `--config.FIELD=VALUE`, and what they print. A recipe of
the package, `configs/NAME.py`, is found wherever they run.
"""

import argparse
import errno
import io
import itertools
import logging
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import absl.logging
from absl import flags
from ml_collections import ConfigDict, config_flags

from dpconv_jax.errors import UsageError

PATHS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP)  # the user's to mend
RECIPES = pathlib.Path(__file__).with_name("configs")


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


def keep_compiled() -> None:
    """Keeps what this process compiles in the user's cache, for the next one; JAX_COMPILATION_CACHE_DIR goes first."""
    import jax  # here, because a mistake in the flags should not wait for it

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(cache) / "dpconv_jax" / "jax"))


def read_config(arguments: list[str]) -> ConfigDict:
    """The config that these flags name; `arguments` may hold nothing else.

    Where `configs/NAME.py` is no file here, the package's recipe of that name is read, and a line says so.
    The flags live for this call only: nothing is defined where a module is imported.
    Raises UsageError for a missing, unknown or misspelt flag, and for a file, variant, field or value it has not.
    """
    argv = ["", *itertools.starmap(_with_packaged, itertools.pairwise(["", *arguments]))]
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", None, "The recipe.", flag_values=values, sys_argv=argv)
    flags.mark_flag_as_required("config", flag_values=values)
    try:
        rest = values(argv)
        config.value.to_dict()  # a config file that failed to load says so only when it is read
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        reason = str(error.args[0] if error.args else error)
        raise UsageError(reason.strip().splitlines()[-1]) from error  # the lines before are a traceback, as text
    if rest[1:]:
        raise UsageError(f"{rest[1]!r} is no flag")
    return config.value


def _with_packaged(before: str, word: str) -> str:
    """A word of the command line, which names the package's recipe where it named one that is not here."""
    named = re.fullmatch(r"(--?config=)?(configs/(\w+\.py))(:.*)?", word)
    if not named or not (named[1] or before in ("--config", "-config")):
        return word
    flag, file, name, variant = named.groups(default="")
    if pathlib.Path(file).exists() or not (RECIPES / name).is_file():
        return word
    print(f"{file} is not here: the recipe of that name in the package is taken")
    return f"{flag}{RECIPES / name}{variant}"


def run_with_config(main: Callable[[list[str] | None], int], arguments: list[str] | None = None) -> int:
    """As `run`. Our warnings are one line each, the libraries' are not shown, and a full disk is one line too."""
    absl.logging.set_verbosity(absl.logging.FATAL)  # Orbax comments on every checkpoint, and prints what we handle
    ours = logging.getLogger("dpconv_jax")
    ours.addHandler(logging.StreamHandler())
    ours.setLevel(logging.WARNING)
    ours.propagate = False
    warnings.formatwarning = _format_warning  # ty: ignore[invalid-assignment] - the documented hook

    def with_space(arguments: list[str] | None) -> int:
        try:
            return main(arguments)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            reason = f"no space left: {error}; checkpoints are intact, free space and run the same command"
            raise UsageError(reason) from error

    return run(with_space, arguments)


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {message}\n"
