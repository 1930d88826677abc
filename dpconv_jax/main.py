"""The door: `python -m dpconv_jax.main --config=configs/dpconv.py[:VARIANT]` trains, evaluates and reports.

--config.FIELD=VALUE sets a field of the recipe, as --config.train.steps=100 does.
Exit codes: 0 done; 2 a mistake of the user, named in one line; 42 stopped by a signal, the same command goes on.
"""

import shlex
import sys

from dpconv_jax import cli

MODES = ("train_and_evaluate", "evaluate")


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake, SystemExit(42) after a signal."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = cli.Parser(prog="python -m dpconv_jax.main", description=__doc__)
    parser.add_argument("--workdir", default="runs/dpconv", help="checkpoints, metrics and report; default %(default)s")
    parser.add_argument("--mode", choices=MODES, default=MODES[0], help="default %(default)s")
    options, rest = parser.parse_known_args(given)
    config = cli.read_config(rest)

    from dpconv_jax import distributed  # after the flags: a misspelt one should not wait for jax
    from dpconv_jax.training import train

    distributed.initialise()
    cli.keep_compiled()
    run_mode = train.evaluate_only if options.mode == "evaluate" else train.train_and_evaluate
    run_mode(config, options.workdir, command=shlex.join(["python", "-m", "dpconv_jax.main", *given]))
    distributed.barrier("done")  # the report takes longer than those who end wait for each other
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_with_config(main))
