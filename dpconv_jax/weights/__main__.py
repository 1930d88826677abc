"""`python -m dpconv_jax.weights`: our own weight files, and those that others publish.

export WORKDIR FILE         the trained generator of a workdir as one .safetensors: its best step, or --step
list                        the published files that are known, and which of them are here
fetch NAME [--path FILE]    bring one here: from FILE, or from its source; its hash is checked
verify [NAME]               check the hashes of those that are here
convert SOURCE --out=FILE   a network from a .pth, .h5 or .npz as one .safetensors; --from=released-pth reads the
                            generator that the authors of the paper published
"""

import argparse
import sys

from dpconv_jax.checkpoints import restore_generator
from dpconv_jax.cli import Parser, run
from dpconv_jax.errors import UsageError
from dpconv_jax.weights import model_file, store
from dpconv_jax.weights.convert import convert, convert_released


def export(workdir: str, file: str, *, step: int | str, dtype: str) -> model_file.Metadata:
    """Writes a step of `workdir`, "best" or a number, its averaged parameters where training kept them."""
    params, config, step = restore_generator(workdir, step=step)
    metadata = model_file.Metadata.of_training(config, step, workdir=workdir)
    shapes = model_file.shapes(model_file.build(metadata))
    model_file.save(file, model_file.matched(params, shapes, source=workdir), metadata, dtype=dtype)
    return metadata


def _step(text: str) -> int | str:
    if text != "best" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'best' nor the number of a step")
    return text if text == "best" else int(text)


def describe(name: str) -> str:
    """Some lines on a known file."""
    this, kept = store.known(name), store.folder() / store.known(name).file
    here = f"here, sha256 {store.recorded(name) or 'not recorded'}" if kept.is_file() else "not here"
    return f"{name}: {this.what}\n  {this.licence}, {this.url}\n  {this.algorithm} {this.digest}\n  {here}"


def verify(names: list[str]) -> list[str]:
    """Those of `names`, or without names of all known files, that are here and whole. UsageError where one is not."""
    names = names or [name for name, this in store.KNOWN.items() if (store.folder() / this.file).is_file()]
    faults = [fault for fault in map(store.damage, names) if fault]
    if faults:
        raise UsageError("; ".join(faults))
    return names


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake."""
    parser = Parser(prog="python -m dpconv_jax.weights", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    command = commands.add_parser("export", help="write the best step of a workdir to one .safetensors file")
    command.add_argument("workdir", metavar="WORKDIR")
    command.add_argument("file", metavar="FILE")
    command.add_argument(
        "--step", type=_step, default="best", metavar="N", help="of its checkpoints (default: the best)"
    )
    command.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the file's tensors")
    commands.add_parser("list", help="show the known files")
    command = commands.add_parser("fetch", help="bring a known file here")
    command.add_argument("name", metavar="NAME")
    command.add_argument("--path", metavar="FILE", help="a copy of it, instead of its source")
    command = commands.add_parser("verify", help="check the files that are here")
    command.add_argument("name", metavar="NAME", nargs="*")
    command = commands.add_parser("convert", help="write a network to one .safetensors file")
    command.add_argument("source", metavar="SOURCE")
    command.add_argument("--out", required=True, metavar="FILE")
    command.add_argument(
        "--from", dest="kind", choices=("released-pth",), help="what SOURCE is, if not known by its names"
    )
    options = parser.parse_args(arguments)
    if options.command == "export":
        metadata = export(options.workdir, options.file, step=options.step, dtype=options.dtype)
        print(f"{options.file}: {metadata}")
    elif options.command == "list":
        print(f"{store.folder()}", *map(describe, store.KNOWN), sep="\n\n")
    elif options.command == "fetch":
        print(f"{options.name}: {store.fetch(options.name, path=options.path)}")
    elif options.command == "verify":
        found = verify(options.name)
        print(*(f"{name}: whole" for name in found), sep="\n") if found else print(f"{store.folder()} holds none")
    else:
        converted = (convert_released if options.kind else convert)(options.source, options.out)
        print(f"{options.out}: {', '.join(converted.metadata.values())}, {converted.tensors} tensors")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
