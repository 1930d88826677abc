"""Builds a dataset: `python -m dpconv_jax.data.prepare --dataset=NAME --manual_dir=DIR --data_dir=DIR`.

Prints how many photos each split and category has beside the published counts, and draws a contact sheet beside the
built files. Where it was interrupted the same command starts again; what is built already is only counted and drawn.
With --beam_runner Apache Beam builds; flags not listed here are Beam's: --region, --temp_location, ...
Exit codes: 0 done; 2 a mistake of the user, named in one line; 42 stopped by a signal, nothing is left half built.
"""

import collections
import io
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import absl.logging
import numpy as np

from dpconv_jax import cli
from dpconv_jax.data import sources
from dpconv_jax.data.builders.collection import REJECTED, Collection, read_rejected
from dpconv_jax.data.contact_sheet import Sample, sheet
from dpconv_jax.errors import UsageError
from dpconv_jax.files import write_whole
from dpconv_jax.progress import Counter
from dpconv_jax.signals import INTERRUPTED, Stop

SAMPLES = 12  # on the contact sheet
COVERAGE = 0.05  # of the clothing, by the sheet's masks; as in dpconv_jax/configs/base.py
DIRECT = "DirectRunner"
WITHOUT_PRISM = "--allow_unsafe_triggers"  # there are none; but Beam would fetch Prism, another runner, from GitHub


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake."""
    parser = cli.Parser(prog="python -m dpconv_jax.data.prepare", description=__doc__)
    add = parser.add_argument
    known = ", ".join(sources.BUILDERS)
    add("--dataset", required=True, metavar="NAME[/CONFIG]", help=f"{known}; CONFIG: shorter side in pixels, originals")
    add("--manual_dir", default="", metavar="DIR", help="the downloaded files")
    add("--data_dir", default="", metavar="DIR", help="where built datasets are kept; default ~/tensorflow_datasets")
    add("--num_workers", type=int, default=2, metavar="N", help="threads, or Beam's workers; default %(default)s")
    add("--allow_rejected", type=float, default=REJECTED, metavar="SHARE", help="of a split; default %(default)s")
    add("--beam_runner", metavar="RUNNER", help=f"{DIRECT}, DataflowRunner, SparkRunner, FlinkRunner, ...")
    options, rest = parser.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    if rest and not options.beam_runner:
        raise UsageError(f"{rest[0]!r} is no flag")
    if options.num_workers < 1:
        raise UsageError(f"--num_workers is {options.num_workers}; it must be at least 1")
    if not 0 <= options.allow_rejected <= 1:
        raise UsageError(f"--allow_rejected is {options.allow_rejected}; it must lie in [0, 1]")
    absl.logging.set_verbosity(absl.logging.ERROR)  # TFDS warns of every config that is not its default
    if options.dataset == "image_folder":
        raise UsageError("--dataset=image_folder: it is read where it lies, and never built")
    builder = sources.make(options.dataset, data_dir=options.data_dir)
    beam_options = None
    if options.beam_runner:
        if not isinstance(builder, Collection):
            raise UsageError(f"--beam_runner: {options.dataset} is built without Beam")
        beam_options = _beam_options(options.beam_runner, options.num_workers, rest)

    with Stop().listening():
        try:
            sources.build(
                builder,
                options.manual_dir,
                allowed=options.allow_rejected,
                workers=options.num_workers,
                beam_options=beam_options,
            )
            _report(builder)
        except SystemExit as error:
            if error.code == INTERRUPTED:
                print("stopped: nothing is left half built, the same command starts again", file=sys.stderr)
            raise
    return 0


def _beam_options(runner: str, workers: int, rest: Sequence[str]) -> Any:
    """Beam's own, from its flags. Raises UsageError for one it does not know, and without Beam."""
    logging.disable(logging.WARNING)  # of Google's libraries that are not installed
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners import create_runner

        create_runner(runner)
    except ImportError as error:
        raise UsageError(f"--beam_runner={runner} needs a library that is not installed: {error}") from error
    except ValueError as error:
        raise UsageError(f"--beam_runner: {error}") from error
    finally:
        logging.disable(logging.NOTSET)
    own = [f"--num_workers={workers}"]
    if runner == DIRECT:
        mode = "multi_processing" if workers > 1 else "in_memory"
        own = [f"--direct_num_workers={workers}", f"--direct_running_mode={mode}", WITHOUT_PRISM]
        own.append("--default_sdk_harness_log_level=CRITICAL")  # workers speak of every channel that they open
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # the error itself is the last line
    parser = cli.Parser(add_help=False)
    for options in [PipelineOptions, *_below(PipelineOptions)]:
        if add := vars(options).get("_add_argparse_args"):
            add.__get__(None, options)(parser)
    _, unknown = parser.parse_known_args(rest)
    if unknown:
        raise UsageError(f"{unknown[0]!r} is no flag, neither of this command nor of Beam")
    return PipelineOptions([f"--runner={runner}", *own, *rest])


def _below(cls: type) -> Iterator[type]:
    for below in cls.__subclasses__():
        yield below
        yield from _below(below)


def _report(builder: sources.Builder) -> None:
    """The counts, what was left out, and the contact sheet."""
    print(f"{builder.name} in {builder.data_path}")
    for note in (builder.info.metadata or {}).get("notes", []):
        print(note)
    published = builder.PUBLISHED if isinstance(builder, Collection) else {}
    bad = read_rejected(builder.rejected) if isinstance(builder, Collection) and builder.rejected.exists() else []
    lost = collections.Counter(each.split for each in bad)
    samples: list[Sample] = []
    splits = list(builder.info.splits)
    for split in splits:
        source = sources.read(builder, split)
        counts = collections.Counter(_categories(source, split))
        print(f"{split}: {len(source):,} photos, published {published.get(split, 'nowhere')}, {lost[split]:,} left out")
        for category, count in sorted(counts.items()):
            print(f"  {count:>9,}  {category}")
        picked = np.linspace(0, len(source) - 1, min(-(-SAMPLES // len(splits)), len(source)))
        samples += [Sample(split, source[int(index)]) for index in picked]
    if bad:
        print(f"left out: {builder.rejected}")
    path = builder.data_path.parent / "contact_sheet.png"
    picture = io.BytesIO()
    sheet(samples, min_coverage=COVERAGE).save(picture, "PNG")
    write_whole(path, picture.getvalue())
    print(f"contact sheet: {path}", flush=True)


def _categories(source: sources.Source, split: str) -> Iterator[str]:
    with Counter(total=len(source), unit=f"{split} photos counted") as counter:
        for index in range(len(source)):
            try:
                yield source[index]["category"]
            except RuntimeError as error:
                raise UsageError(f"{error}; delete what is built, the same command builds it again") from error
            counter.advance()


if __name__ == "__main__":
    sys.exit(cli.run(main))
