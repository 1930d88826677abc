"""The metric card of Table 1: what every number is of, and what it was made with."""

import os
from collections.abc import Iterable

from dpconv_jax.evaluation.metrics import Metric
from dpconv_jax.masks import BUCKETS
from dpconv_jax.study import published
from dpconv_jax.study.table1 import lineup
from dpconv_jax.study.table1.render import dataset_title, method_title
from dpconv_jax.study.table1.results import Cell
from dpconv_jax.study.table1.runner import Table
from dpconv_jax.training.report import RESIZE_FILTER, bucket_title


def card(table: Table, *, command: str) -> list[str]:
    """One line a fact."""
    results, config = table.results, table.config
    lines = [
        "Composites are measured (the method's output in the holes, the truth elsewhere, clipped to [0, 1]), where the "
        "metric does not say raw; of methods that give composites the raw numbers are of these.",
        f"Region: {_regions(results.metrics)}.",
        f"N: {_counts(table)}. Every method saw the same images with the same holes, and no "
        "pixel under them.",
        f"Brackets: 95 % intervals; of means over images by bootstrap, {config.eval.bootstrap} resamples. They cover "
        "the choice of images, not of the training seed. Bold: best of its column, ties included.",
        f"Images were resized to {config.data.size} x {config.data.size} with {RESIZE_FILTER}.",
        f"Masks: preset {config.mask.preset}, seed {config.seed}, at least {100 * config.mask.coverage:g} % of the "
        "clothing where its region is known.",
        *(f"Holes of {dataset_title(dataset)}: `{dataset}/{arena.manifest.path.name}`, sha256 "
          f"`{arena.manifest.sha256}`." for dataset, arena in table.arenas.items()),
        *(f"Weights of the metrics' {name}: sha256 `{sha256}`." for name, sha256 in table.loaded.sha256.items()),
        *_trainings(table),
    ]  # fmt: skip
    if {*published.DATASETS} & {*config.datasets}:
        lines.append(_of_the_paper())
    commits = {f"`{kept.made['commit']}`" if kept.made["commit"] else "not known" for kept in table.kept}
    lines.append(f"Commit of the code: {', '.join(sorted(commits))}; with a + it was changed since.")
    device = table.mesh.devices.flat[0].device_kind
    lines.append(f"Run on {table.mesh.size} x {device}, {os.cpu_count()} CPU cores: `{command}`")
    return lines


def failures(cells: Iterable[Cell]) -> list[str]:
    """The failed cells, one line a method, dataset and reason."""
    buckets: dict[tuple[str, str, str], list[int]] = {}
    for cell in cells:
        buckets.setdefault((cell.method, cell.dataset, cell.failure), []).append(cell.bucket)
    return [
        f"{method_title(method)} on {dataset_title(dataset)}"
        + (f", {', '.join(map(bucket_title, of))}" if len(of) < len(BUCKETS) else "")
        + f": {reason}"
        for (method, dataset, reason), of in buckets.items()
    ]


def _regions(metrics: Iterable[Metric]) -> str:
    regions: dict[str, list[str]] = {}
    for metric in metrics:
        regions.setdefault(metric.region, []).append(metric.label)
    return "; ".join(f"{region}: {', '.join(labels)}" for region, labels in regions.items())


def _counts(table: Table) -> str:
    return "; ".join(
        f"{dataset_title(dataset)} "
        + ", ".join(f"{len(rows)} with holes of {bucket_title(b)}" for b, rows in enumerate(arena.manifest.rows))
        + f", of its {arena.validation.split} split"
        for dataset, arena in table.arenas.items()
    )


def _trainings(table: Table) -> list[str]:
    lines, seen = [], set()
    for kept in table.kept:
        dataset, method, made_with = kept.cell.dataset, kept.cell.method, kept.key["method"]
        if "step" not in made_with or (dataset, method) in seen:
            continue
        seen.add((dataset, method))
        ours = made_with["source"] == lineup.OURS
        step = "at a step that is not known" if made_with["step"] is None else f"step {made_with['step']:,}"
        lines.append(
            f"{method_title(method)} on {dataset_title(dataset)}: {step}{', the last' if ours else ''}, at "
            f"{made_with['trained at']} x {made_with['trained at']}; parameters sha256 "
            f"`{made_with['parameters'][:16]}`, {made_with['source']}."
        )
    if any(kept.key["method"]["source"] == lineup.OURS for kept in table.kept):
        train = table.config.train
        differing = _differing(table)
        lines.insert(0, (
            f"Trainings of this table: {train.steps:,} steps of {train.batch_size} images, the same images, holes, "
            f"loss and optimiser for all{differing}. Of each the last step is evaluated."
        ))  # fmt: skip
    return lines


def _differing(table: Table) -> str:
    dataset = table.config.datasets[0]
    common, found = lineup.shared(table.config, dataset), []
    for method in dict.fromkeys(map(lineup.network, table.config.methods)):
        if lineup.is_learned(table.config, method):
            mine = lineup.settings(table.config, method=method, dataset=dataset)
            sections = [name for name in mine if name != "model" and mine[name] != common[name]]
            if sections:
                found.append(f"{method_title(method)} has its own {' and '.join(sections)}")
    return f", but {'; '.join(found)}" if found else ""


def _of_the_paper() -> str:
    matched = ", ".join(f"{theirs} beside {ours}" for theirs, ours in published.METRICS.items())
    return (
        f"In the paper: as it prints them, FID from the revised table: {matched}. Its PSNR is none of pixels in "
        "[0, 1], and `psnr_paper_compat` the closest reading; that its IScore is `inception_kl` is a hypothesis; "
        "whether its l1 and SSIM are of composites is not said. Its holes, splits and resizing are others: compare "
        "the order of methods, not numbers."
    )
