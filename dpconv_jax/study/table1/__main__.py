"""Table 1: every method on every dataset and bucket of hole ratio, trained under the same settings, on the same holes.

    python -m dpconv_jax.study.table1 --config=configs/table1.py[:VARIANT] --workdir=DIR [--external=NAME=FOLDER ...]
    python -m dpconv_jax.study.table1 verify --config=... --workdir=DIR
    python -m dpconv_jax.study.table1 export --config=... --out=FOLDER

The first trains what is not trained yet, evaluates what is not evaluated yet, and writes DIR/table1.csv, .md, .tex and
.png; the same command goes on after an interruption, and tries again what failed. Several processes (launch/) train
together and divide the evaluations. --external adds the images that another method made of an export. verify makes the
recorded holes again and refuses any that differs. export writes masked images and masks for other people's code.
--config.FIELD=VALUE changes a field.

Exit codes: 0 done; 1 some cells failed, and are named; 2 a mistake of the user, named in one line; 42 stopped by a
signal, the same command goes on.
"""

import pathlib
import shlex
import sys

from ml_collections import ConfigDict

from dpconv_jax import cli, distributed
from dpconv_jax.files import write_whole
from dpconv_jax.masks import BUCKETS
from dpconv_jax.progress import Counter
from dpconv_jax.study.table1 import bars, entries, fixed_holes, lineup, render
from dpconv_jax.study.table1.card import card, failures
from dpconv_jax.study.table1.fixed_holes import Manifest
from dpconv_jax.study.table1.runner import Table
from dpconv_jax.training.experiment import open_validation
from dpconv_jax.training.report import png

COMMANDS = ("verify", "export")


def run(config: ConfigDict, workdir: pathlib.Path, *, externals: dict[str, pathlib.Path], command: str) -> int:
    """Fills the table and writes it; 1 where cells failed."""
    table = Table(config, workdir, externals=externals)
    title = f"Table 1: {', '.join(map(render.dataset_title, config.datasets))}, {config.data.size} x {config.data.size}"

    def write() -> None:
        if not distributed.is_main():
            return
        results, facts = table.results, card(table, command=command)
        text = render.markdown(results, title=title, card=facts, failures=failures(table.failed), picture="table1.png")
        caption = f"{title}. Best in bold; intervals and hashes are in table1.csv and table1.md."
        write_whole(workdir / "table1.csv", render.csv_text(results).encode())
        write_whole(workdir / "table1.md", text.encode())
        write_whole(workdir / "table1.tex", render.tex(results, caption=caption).encode())

    with distributed.new_stop().listening() as stop:
        table.fill(stop, after_each=write)
        write()
        if distributed.is_main():
            write_whole(workdir / "table1.png", png(bars.draw(table.results, title=title)))
    distributed.barrier("done")  # drawing takes longer than those who end wait for each other
    print(f"{workdir / 'table1.md'}, .csv, .tex and .png")
    for line in failures(table.failed):
        print(line, file=sys.stderr)
    return 1 if table.failed else 0


def verify(config: ConfigDict, workdir: pathlib.Path) -> int:
    """Makes the recorded holes of every dataset again. Raises UsageError where one is missing or another."""
    for dataset in config.datasets:
        common = lineup.shared(config, dataset)
        recorded = Manifest(workdir / dataset / "manifest.jsonl")
        count = fixed_holes.verify(recorded, open_validation(common))
        print(f"{recorded.path}: {count} holes are as recorded, sha256 {recorded.sha256}")
    return 0


def export(config: ConfigDict, out: pathlib.Path, *, command: str) -> int:
    """Writes masked images and masks of every dataset. Raises UsageError where that cannot be done."""
    for dataset in config.datasets:
        common = lineup.shared(config, dataset)
        validation = open_validation(common)
        with Counter(total=validation.images * len(BUCKETS), unit="images") as counter:
            count = entries.export(out, dataset, validation, said=counter.advance)
        print(f"{out}: {count} masked images of {dataset}")
    entries.write_readme(out, size=config.data.size, command=command)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake, SystemExit(42) after a signal."""
    given = sys.argv[1:] if arguments is None else arguments
    command = given[0] if given and given[0] in COMMANDS else ""
    parser = cli.Parser(prog="python -m dpconv_jax.study.table1", description=__doc__)
    if command == "export":
        parser.add_argument("--out", required=True, type=pathlib.Path, metavar="FOLDER")
    else:
        parser.add_argument("--workdir", required=True, type=pathlib.Path, metavar="DIR")
    if not command:
        parser.add_argument("--external", action="append", default=[], metavar="NAME=FOLDER")
    options, rest = parser.parse_known_args(given[1:] if command else given)
    config = cli.read_config(rest)
    words = shlex.join(["python", "-m", "dpconv_jax.study.table1", *given])
    if command == "verify":
        return verify(config, options.workdir)
    if command == "export":
        return export(config, options.out, command=words)
    distributed.initialise()
    cli.keep_compiled()
    externals = entries.parse(options.external, taken=[*config.methods, *render.METHODS])
    return run(config, options.workdir, externals=externals, command=words)


if __name__ == "__main__":
    sys.exit(cli.run_with_config(main))
