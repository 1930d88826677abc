"""What inpainting does for a classifier: the paper's "makes other fashion image understanding solutions' work easier".

    python -m dpconv_jax.study.downstream --manual_dir=$CLOTHING --vgg_weights=$VGG16 --model=dpconv=runs/dpconv \\
      --model=pconv=pconv.safetensors --baselines=telea,patchmatch --out=DIR

A classifier of the ten classes of clothing_small learns from whole training photos. It then sees the validation photos
clean, with mid-grey holes, and filled by every method: DIR/downstream.csv, .md and .png have its accuracy in each
bucket of hole ratio.
"""

import csv
import functools
import hashlib
import io
import pathlib
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
import scipy.optimize
import scipy.special
from matplotlib.figure import Figure

from dpconv_jax import cli
from dpconv_jax.data import pipeline, sources
from dpconv_jax.data.builders.clothing_small import CLASSES
from dpconv_jax.data.builders.collection import MAX_PIXELS
from dpconv_jax.errors import UsageError
from dpconv_jax.evaluation.estimates import Estimate, bootstrapped
from dpconv_jax.evaluation.evaluate import Batch, Batches, Method, padded
from dpconv_jax.files import write_whole
from dpconv_jax.masks import BUCKETS
from dpconv_jax.models.vgg16 import VGG16, pooled
from dpconv_jax.study import contenders
from dpconv_jax.study.contenders import masked, names
from dpconv_jax.study.table1.results import bucket_range
from dpconv_jax.training.report import INK, dress, png
from dpconv_jax.weights import vgg16

DATA = "clothing_small"
CLEAN, MASKED = "clean", "masked"
BATCH = 32
SEED = 0  # of the holes, the folds and the resamples
FOLDS = 5
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
RESAMPLES = 1000
FIELDS = ("method", "bucket", "photos", "accuracy", "low", "high", "gain", "gain_low", "gain_high")

Features = Callable[[np.ndarray], np.ndarray]  # images (B, H, W, 3) in [0, 1] -> (B, D)


class Classifier(NamedTuple):
    """Multinomial logistic regression on features of mean 0 and deviation 1 over the photos that it learned from."""

    mean: np.ndarray  # (D,)
    deviation: np.ndarray  # (D,)
    weights: np.ndarray  # (D, K)
    biases: np.ndarray  # (K,)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """log p(class) of features (N, D): (N, K)."""
        standard = (features - self.mean) / self.deviation
        return scipy.special.log_softmax(standard @ self.weights + self.biases, axis=1)


def fit(features: np.ndarray, labels: np.ndarray, *, classes: int, penalty: float) -> Classifier:
    """The minimum of mean cross-entropy + penalty / 2 x |weights|^2; features (N, D), labels (N,) in [0, classes)."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)  # a feature that never changes tells nothing
    standard, truth = (features - mean) / deviation, np.eye(classes)[labels]
    size = standard.shape[1]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, biases = flat[: size * classes].reshape(size, classes), flat[size * classes :]
        log_p = scipy.special.log_softmax(standard @ weights + biases, axis=1)
        error = (np.exp(log_p) - truth) / len(labels)
        gradient = standard.T @ error + penalty * weights
        value = -np.sum(truth * log_p) / len(labels) + 0.5 * penalty * np.sum(weights**2)
        return value, np.concatenate([gradient.ravel(), error.sum(axis=0)])

    found = scipy.optimize.minimize(objective, np.zeros((size + 1) * classes), jac=True, method="L-BFGS-B")
    return Classifier(mean, deviation, found.x[: size * classes].reshape(size, classes), found.x[size * classes :])


def cross_validate(
    features: np.ndarray, labels: np.ndarray, *, classes: int, penalties: Sequence[float], folds: int, seed: int
) -> tuple[float, float]:
    """The penalty of the highest mean log p of photos that were left out of the fit, and the accuracy on those."""
    part = np.random.default_rng(seed).permutation(len(labels)) % folds
    likelihoods, accuracies = np.zeros(len(penalties)), np.zeros(len(penalties))
    for i, penalty in enumerate(penalties):
        for fold in range(folds):
            rest, held = part != fold, part == fold
            scores = fit(features[rest], labels[rest], classes=classes, penalty=penalty).scores(features[held])
            likelihoods[i] += scores[np.arange(held.sum()), labels[held]].sum() / len(labels)
            accuracies[i] += np.sum(scores.argmax(axis=1) == labels[held]) / len(labels)
    best = int(np.argmax(likelihoods))
    return penalties[best], float(accuracies[best])


def features_of(vgg: VGG16) -> Features:
    """VGG-16's relu5_3, averaged over space: (B, 512). Compiled for one size of batch."""
    compiled = jax.jit(pooled)

    def features(images: np.ndarray) -> np.ndarray:
        full = np.pad(images, [(0, -len(images) % BATCH)] + [(0, 0)] * 3, mode="edge")
        chunks = [full[first : first + BATCH] for first in range(0, len(full), BATCH)]
        return np.concatenate([compiled(vgg, chunk) for chunk in chunks])[: len(images)]

    return features


def labels_of(batch: Batch) -> list[int]:
    """The class of each photo, the folder in its id."""
    return [CLASSES.index(row.id.split("/")[0]) for row in batch["row"]]


# ---- what is measured ----


class Row(NamedTuple):
    """Accuracy in a bucket of hole ratio, and what it is above that on masked photos, both %."""

    method: str
    bucket: str  # such as 0.2-0.4, or "mean" of the three
    accuracy: Estimate
    gain: Estimate


def judge(
    classifier: Classifier,
    features: Features,
    methods: Sequence[Method],
    batches: Batches,
) -> dict[str, np.ndarray]:
    """Whether the classifier is right, (buckets, photos) 0 or 1, on every photo as it is, masked and filled."""
    right: dict[str, list[list[bool]]] = {}
    for bucket in range(len(BUCKETS)):
        for batch in padded(batches(bucket), bucket):
            labels = labels_of(batch.batch)
            # A clean photo has no bucket: it is judged once.
            clean = [] if bucket else [(CLEAN, batch.image[: batch.count])]
            for name, images in (*clean, (MASKED, masked(batch)), *contenders.composites(methods, batch)):
                guessed = classifier.scores(features(images)).argmax(axis=1)
                right.setdefault(name, [[] for _ in BUCKETS])[bucket] += (guessed == labels).tolist()
        print(f"judged the photos of hole ratio {bucket_range(bucket)}", flush=True)
    right[CLEAN] = [right[CLEAN][0]] * len(BUCKETS)
    return {name: np.array(rows, np.float64) for name, rows in right.items()}


def rows_of(right: dict[str, np.ndarray], *, resamples: int, seed: int) -> list[Row]:
    """Per bucket and for the mean of the buckets; the bootstrap draws photos, the same ones for every method."""

    def percent(values: np.ndarray) -> Estimate:
        return bootstrapped(values, resamples=resamples, seed=seed).scaled(100)

    rows = []
    for name, mine in right.items():
        ours, theirs = ([*values, values.mean(axis=0)] for values in (mine, right[MASKED]))
        for bucket, values, before in zip([*map(bucket_range, range(len(mine))), "mean"], ours, theirs, strict=True):
            rows.append(Row(name, bucket, percent(values), percent(values - before)))
    return rows


# ---- what is written ----


def markdown(rows: Sequence[Row], *, about: Sequence[str], command: str) -> str:
    """Two tables: accuracies, and gains over masked photos."""
    buckets = list(dict.fromkeys(row.bucket for row in rows))
    parts = ["# A classifier on masked, filled and clean photos"]
    for title, shown in (
        ("Accuracy, %", lambda row: f"{row.accuracy.value:.1f}{row.accuracy.interval('.1f')}"),
        ("Above the masked photos, points", lambda row: f"{row.gain.value:+.1f}{row.gain.interval('+.1f')}"),
    ):
        lines = [["hole ratio", *buckets], ["---"] * (len(buckets) + 1)]
        for method in dict.fromkeys(row.method for row in rows):
            lines.append([method, *(shown(row) for row in rows if row.method == method)])
        parts += [f"## {title}", "\n".join("| " + " | ".join(line) + " |" for line in lines)]
    parts += ["![accuracy by hole ratio](downstream.png)", "\n".join(f"- {line}" for line in about), f"`{command}`"]
    return "\n\n".join(parts) + "\n"


def draw(rows: Sequence[Row]) -> Figure:
    """Accuracy with its interval by bucket; clean photos as a line."""
    figure = Figure(figsize=(9, 4), dpi=110, facecolor="white", layout="constrained")
    panel = figure.subplots()
    buckets = list(dict.fromkeys(row.bucket for row in rows))
    methods = [method for method in dict.fromkeys(row.method for row in rows) if method != CLEAN]
    clean = next(row.accuracy for row in rows if row.method == CLEAN)
    assert clean.value is not None
    panel.axhline(clean.value, color=INK, linewidth=1.2)
    if clean.lo is not None and clean.hi is not None:
        panel.axhspan(clean.lo, clean.hi, color=INK, alpha=0.07, linewidth=0)
    panel.annotate("clean", (0.002, clean.value), xycoords=("axes fraction", "data"), va="bottom", fontsize=9)
    for i, method in enumerate(methods):
        mine = [row.accuracy for row in rows if row.method == method]
        x = np.arange(len(buckets)) + (i - (len(methods) - 1) / 2) * 0.8 / len(methods)
        middle = np.array([found.value for found in mine])
        reach = np.abs(np.array([[found.lo for found in mine], [found.hi for found in mine]], float) - middle)
        panel.errorbar(x, middle, yerr=reach, fmt="o", elinewidth=1.4, label=method)
    panel.set_xticks(range(len(buckets)), buckets)
    dress(panel, "Accuracy of the classifier, %", xlabel="hole ratio")
    panel.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def main(arguments: list[str] | None = None) -> int:
    """The exit code. Raises UsageError for a mistake."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = cli.Parser(prog="python -m dpconv_jax.study.downstream", description=__doc__)
    add = parser.add_argument
    add("--manual_dir", required=True, metavar="DIR", help="a checkout of clothing-dataset-small")
    add("--data_dir", default="", metavar="DIR", help="where built datasets are kept; default TFDS's")
    add("--vgg_weights", required=True, metavar="FILE")
    add("--model", action="append", default=[], metavar="NAME=PATH", help="a workdir or weight file; repeatable")
    add("--baselines", default="mean,telea", metavar="NAMES", help="default %(default)s")
    add("--out", required=True, type=pathlib.Path, metavar="DIR")
    options = parser.parse_args(given)
    paths = contenders.paths_of(options.model)
    methods, size = contenders.opened(names(options.baselines), paths, batch_size=BATCH)
    if {CLEAN, MASKED} & {method.name for method in methods}:
        raise UsageError(f"--model: {CLEAN} and {MASKED} are the photos themselves; choose another name")
    vgg = vgg16.load(options.vgg_weights)
    where = {"manual_dir": options.manual_dir, "data_dir": options.data_dir}
    training, validation = (sources.open_source(DATA, split, **where) for split in ("train", "validation"))
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {options.out} cannot be written: {error.strerror}") from error

    preparation = pipeline.Preparation(
        size=size, crop="square", max_pixels=MAX_PIXELS, mask_preset="mixed", min_coverage=0.0, seed=SEED
    )
    batches = functools.partial(pipeline.eval_batches, preparation=preparation, batch_size=BATCH)
    features = features_of(vgg)
    whole = batches(training, bucket=0)  # the holes are left unused
    pairs = [(features(batch["image"]), labels_of(batch)) for batch in whole]
    seen, labels = (np.concatenate(columns) for columns in zip(*pairs, strict=True))
    seen, classes = seen.astype(np.float64), len(CLASSES)
    penalty, accuracy = cross_validate(seen, labels, classes=classes, penalties=PENALTIES, folds=FOLDS, seed=SEED)
    print(f"{len(labels):,} training photos; penalty {penalty:g}: {100 * accuracy:.1f} % of those left out", flush=True)
    classifier = fit(seen, labels, classes=classes, penalty=penalty)
    right = judge(classifier, features, methods, lambda bucket: batches(validation, bucket=bucket))
    rows = rows_of(right, resamples=RESAMPLES, seed=SEED)

    digest = hashlib.sha256(pathlib.Path(options.vgg_weights).read_bytes()).hexdigest()[:16]
    about = [
        f"{rows[0].accuracy.n} validation photos of {classes} classes, {size} x {size}, central "
        f"square; masks of the preset mixed, seed {SEED}, the same for every method.",
        "The classifier is a multinomial logistic regression on VGG-16's relu5_3 averaged over space (weights sha256 "
        f"`{digest}`), fitted to {len(labels):,} whole training photos: it never saw a hole or a fill. Its penalty "
        f"{penalty:g} was chosen by {FOLDS}-fold cross-validation on them: right on {100 * accuracy:.1f} %.",
        f"Brackets: bootstrap 95 % intervals over photos, {RESAMPLES} resamples; those of the second table are of the "
        "difference photo by photo. They do not cover the choice of training photos or seeds.",
        f"`{MASKED}` has mid-grey holes.",
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [FIELDS, *([*row[:2], row.accuracy.n, *row.accuracy[:3], *row.gain[:3]] for row in rows)]
    )
    command = shlex.join(["python", "-m", "dpconv_jax.study.downstream", *given])
    write_whole(options.out / "downstream.csv", text.getvalue().encode())
    write_whole(options.out / "downstream.png", png(draw(rows)))
    write_whole(options.out / "downstream.md", markdown(rows, about=about, command=command).encode())
    print(f"{options.out / 'downstream.md'}, .csv and .png")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
