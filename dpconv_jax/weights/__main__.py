"""`python -m dpconv_jax.weights export WORKDIR FILE`: the trained generator of a workdir as one `.safetensors`."""

import argparse
import sys

from dpconv_jax.checkpoints import restore_generator
from dpconv_jax.errors import UsageError
from dpconv_jax.weights import model_file


def export(workdir: str, file: str) -> model_file.Metadata:
    """Writes the best step of `workdir`, its averaged parameters where training kept them."""
    params, config, step = restore_generator(workdir, step="best")
    metadata = model_file.Metadata.of_training(config, step, workdir=workdir)
    _, shapes = model_file.build(metadata)
    model_file.save(file, model_file.matched(params, shapes, source=workdir), metadata)
    return metadata


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 2, after one line, for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m dpconv_jax.weights", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("export", help="write the best step of a workdir to one .safetensors file")
    command.add_argument("workdir", metavar="WORKDIR")
    command.add_argument("file", metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        metadata = export(options.workdir, options.file)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.file}: {metadata.model}, step {metadata.step}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
