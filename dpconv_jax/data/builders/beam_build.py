"""The same build as an Apache Beam pipeline, for as many machines as its runner has."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam

from dpconv_jax.data.builders.collection import Rejected


def transforms(
    splits: Sequence[str],
    *,
    records: Callable[[str], Iterable[Any]],
    outcomes: Callable[[str, Any], Iterable[tuple[str, dict[str, Any]] | Rejected]],
    write_rejected: Callable[[list[Rejected]], None],
) -> dict[str, beam.PTransform]:
    """The examples of each split, for TFDS to write. All splits must become parts of one pipeline, in their order.

    records: of a split, listed by one worker, so that the pipeline itself stays small; outcomes: of (split, record);
    write_rejected: called once, with what is bad of all splits. All three are pickled.
    """
    bad: list[beam.PCollection] = []

    def of(split: str, start: Any) -> beam.PCollection:
        found = (
            start
            | "Split" >> beam.Create([split])
            | "Records" >> beam.FlatMap(records)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(functools.partial(_tagged, outcomes, split)).with_outputs("bad", main="good")
        )
        bad.append(found.bad)
        if len(bad) == len(splits):
            listed = tuple(bad) | "Bad" >> beam.Flatten() | "List" >> beam.combiners.ToList()
            _ = listed | "Write" >> beam.Map(write_rejected)
        return found.good

    return {split: beam.ptransform_fn(functools.partial(of, split))() for split in splits}


def _tagged(outcomes: Callable[[str, Any], Iterable[Any]], split: str, record: Any) -> Iterator[Any]:
    for outcome in outcomes(split, record):
        yield beam.pvalue.TaggedOutput("bad", outcome) if isinstance(outcome, Rejected) else outcome
