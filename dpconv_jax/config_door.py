"""What the commands that train share: `--config=FILE[:VARIANT]`, `--config.FIELD=VALUE`, and what they print."""

import errno
import logging
import warnings
from collections.abc import Callable

import absl.logging
from absl import flags
from ml_collections import ConfigDict, config_flags

from dpconv_jax import door
from dpconv_jax.errors import UsageError


def read(arguments: list[str]) -> ConfigDict:
    """The config that these flags name; `arguments` may hold nothing else.

    The flags live for this call only: nothing is defined where a module is imported.
    Raises UsageError for a missing, unknown or misspelt flag, and for a file, variant, field or value it has not.
    """
    argv = ["", *arguments]
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


def run(main: Callable[[list[str] | None], int], arguments: list[str] | None = None) -> int:
    """As `door.run`. Our warnings are one line each, the libraries' are not shown, and a full disk is one line too."""
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

    return door.run(with_space, arguments)


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {message}\n"
