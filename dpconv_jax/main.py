"""The door: `python -m dpconv_jax.main --config=configs/dpconv.py[:VARIANT]` trains, evaluates and reports.

Exit codes: 0 done; 2 a mistake of the user, named in one line; 42 stopped by a signal, the same command goes on.
"""

import errno
import logging
import shlex
import sys
import warnings
from typing import NoReturn

import absl.logging
from absl import app, flags
from ml_collections import config_flags

from dpconv_jax import door
from dpconv_jax.errors import UsageError

CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe; --config.train.steps=100 sets a field of it.")
WORKDIR = flags.DEFINE_string("workdir", "runs/dpconv", "Checkpoints, metrics and report; a rerun goes on from there.")
MODES = ("train_and_evaluate", "evaluate")
MODE = flags.DEFINE_enum("mode", MODES[0], MODES, "Train, evaluate and report, or only the last two.")
flags.mark_flag_as_required("config")


def parse(argv: list[str]) -> list[str]:
    """Flags of the command line; a mistake in them or in the config file is one line and exit code 2."""
    try:
        rest = flags.FLAGS(argv)
        CONFIG.value.to_dict()  # a config file that failed to load says so only when it is read
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        refuse(error)
    if rest[1:]:
        refuse(UsageError(f"{rest[1]!r} is no flag; flags are --config, --config.FIELD, --workdir and --mode"))
    return rest


def main(argv: list[str]) -> None:
    """Runs the mode."""
    from dpconv_jax import train  # after the flags: a misspelt one should not wait for jax

    run_mode = train.evaluate_only if MODE.value == "evaluate" else train.train_and_evaluate
    try:
        run_mode(CONFIG.value, WORKDIR.value, command=shlex.join(["python", "-m", "dpconv_jax.main", *sys.argv[1:]]))
    except UsageError as error:
        refuse(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        refuse(UsageError(f"no space left: {error}; checkpoints are intact, free space and run the same command"))


def refuse(error: Exception) -> NoReturn:
    """One line, exit code 2."""
    door.refuse(error)
    sys.exit(2)


def format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """One line, without the place in the code."""
    return f"warning: {message}\n"


def run() -> None:
    """The program."""
    absl.logging.set_verbosity(absl.logging.FATAL)  # Orbax comments on every checkpoint, and prints what we handle
    ours = logging.getLogger("dpconv_jax")
    ours.addHandler(logging.StreamHandler())
    ours.setLevel(logging.WARNING)
    ours.propagate = False
    warnings.formatwarning = format_warning  # ty: ignore[invalid-assignment] - the documented hook
    app.run(main, flags_parser=parse)


if __name__ == "__main__":
    run()
