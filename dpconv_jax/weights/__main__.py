"""`python -m dpconv_jax.weights export WORKDIR FILE`: the trained generator of a workdir as one `.safetensors`."""

import sys

from dpconv_jax.checkpoints import restore_generator
from dpconv_jax.door import Parser, run
from dpconv_jax.weights import model_file


def export(workdir: str, file: str) -> model_file.Metadata:
    """Writes the best step of `workdir`, its averaged parameters where training kept them."""
    params, config, step = restore_generator(workdir, step="best")
    metadata = model_file.Metadata.of_training(config, step, workdir=workdir)
    _, shapes = model_file.build(metadata)
    model_file.save(file, model_file.matched(params, shapes, source=workdir), metadata)
    return metadata


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake."""
    parser = Parser(prog="python -m dpconv_jax.weights", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("export", help="write the best step of a workdir to one .safetensors file")
    command.add_argument("workdir", metavar="WORKDIR")
    command.add_argument("file", metavar="FILE")
    options = parser.parse_args(arguments)
    metadata = export(options.workdir, options.file)
    print(f"{options.file}: {metadata.model}, step {metadata.step}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
