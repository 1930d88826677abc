"""The same build as an Apache Beam pipeline, for as many machines as its runner has."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam

from dpconv_jax.data.collection import Rejected


def transforms(
    splits: Sequence[str],
    *,
    records: Callable[[str], Iterable[Any]],
    outcomes: Callable[[str, Any], Iterable[tuple[str, dict[str, Any]] | Rejected]],
    settled: Callable[[list[Rejected], Mapping[str, int]], None],
) -> dict[str, beam.PTransform]:
    """The examples of each split, for TFDS to write. All splits must become parts of one pipeline, in their order.

    records: of a split, listed by one worker, so that the pipeline itself stays small; outcomes: of (split, record);
    settled: called once, with what is bad of all splits and the number of good ones of each. All are pickled.
    """
    bad: list[beam.PCollection] = []
    good: list[beam.PCollection] = []

    def of(split: str, start: Any) -> beam.PCollection:
        found = (
            start
            | "Split" >> beam.Create([split])
            | "Records" >> beam.FlatMap(records)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(functools.partial(_tagged, outcomes, split)).with_outputs("bad", main="good")
        )
        bad.append(found.bad)
        good.append(found.good | "Count" >> beam.combiners.Count.Globally() | "Name" >> beam.Map(_named, split))
        if len(bad) == len(splits):
            counts = beam.pvalue.AsDict(tuple(good) | "Counts" >> beam.Flatten())
            listed = tuple(bad) | "Bad" >> beam.Flatten() | "List" >> beam.combiners.ToList()
            _ = listed | "Settle" >> beam.Map(settled, counts)
        return found.good

    return {split: beam.ptransform_fn(functools.partial(of, split))() for split in splits}


def _tagged(outcomes: Callable[[str, Any], Iterable[Any]], split: str, record: Any) -> Iterator[Any]:
    for outcome in outcomes(split, record):
        yield beam.pvalue.TaggedOutput("bad", outcome) if isinstance(outcome, Rejected) else outcome


def _named(count: int, split: str) -> tuple[str, int]:
    return split, count
