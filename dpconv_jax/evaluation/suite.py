"""Every metric for one method on one dataset and bucket: batches in, estimates with intervals out.

Of composites, but for the metrics that are marked raw. A metric that cannot be computed has no value and says why;
Inception's numbers are made with its published weights or not at all.
"""

import dataclasses
import hashlib
import importlib.util
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from dpconv_jax.evaluation import distributions, estimates, metrics
from dpconv_jax.evaluation.estimates import Estimate
from dpconv_jax.evaluation.metrics import METRICS, Metric
from dpconv_jax.models import inception, lpips, vgg16
from dpconv_jax.models.inception import Inception
from dpconv_jax.models.lpips import LPIPS
from dpconv_jax.models.vgg16 import VGG16

ALL = "all pixels"
PANEL = (
    *METRICS,
    Metric("lpips", "LPIPS", ALL, False, 4),
    Metric("lpips_oxford", "LPIPS on Oxford's VGG-16", ALL, False, 4),
    Metric("fid", "FID", ALL, False, 2, per_image=False),
    Metric("kid", "KID", ALL, False, 5, per_image=False),
    Metric("kid_paired", "KID (paired)", ALL, False, 5, per_image=False),
    Metric("p_ids", "P-IDS", ALL, True, 4, per_image=False),
    Metric("u_ids", "U-IDS", ALL, True, 4, per_image=False),
    Metric("inception_score", "IS", ALL, True, 3, per_image=False),
    Metric("inception_kl", "Inception KL", ALL, False, 4),
    Metric("fd_vgg16", "FD of VGG-16", ALL, False, 3, per_image=False),
    Metric("psnr_paper_compat", "PSNR dB as in the paper", ALL, True, 2, raw=True, per_image=False),
    Metric("raw_l1_percent", "raw l1 %", ALL, False, 2, raw=True),
    Metric("raw_psnr_db", "raw PSNR dB", ALL, True, 2, raw=True),
    Metric("raw_ssim", "raw SSIM", "all pixels but a border of 5", True, 4, raw=True),
)
OF_LPIPS = ("lpips", "lpips_oxford")
OF_INCEPTION = ("fid", "kid", "kid_paired", "p_ids", "u_ids", "inception_score", "inception_kl")
OF_SVM = ("p_ids", "u_ids")
OF_TWO = ("fid", "kid", "kid_paired", "p_ids", "u_ids", "inception_score", "fd_vgg16")  # one image has no distribution

Columns = dict[str, np.ndarray]  # one row an image
Scores = dict[str, Estimate]  # of every metric of PANEL, by its name and in its order


@dataclasses.dataclass(frozen=True, kw_only=True)
class Networks:
    """The feature networks at hand; None = absent. `vgg16` needs its conv5."""

    inception: Inception | None = None
    lpips: LPIPS | None = None
    vgg16: VGG16 | None = None


class Truth:
    """The features of true images, computed for the first method that meets a batch and kept for the others.

    One for each dataset and bucket keeps memory within bounds: an image takes 14 KiB with every network.
    """

    def __init__(self, networks: Networks):
        self.networks = networks
        self._known: dict[bytes, Columns] = {}

    def of(self, target: np.ndarray) -> Columns:
        """target: (B, H, W, 3) float32 in [0, 1], recognised by its sha256. Returns what `Panel` reads."""
        key = hashlib.sha256(target.tobytes()).digest()
        if key not in self._known:
            self._known[key] = _features(self.networks, target)
        return self._known[key]


class Panel:
    """Collects the metrics of one method on one dataset and bucket.

    Means over images, P-IDS and U-IDS (with the SVM as it was fitted) and `psnr_paper_compat` have percentile bootstrap
    intervals of `bootstrap` resamples drawn from `seed`; `kid` has none; the rest have those of `distributions`.
    Panels of the same `truth` share the features of the true images; ValueError where it is of other networks.
    """

    def __init__(self, networks: Networks, *, bootstrap: int, seed: int, truth: Truth | None = None):
        self.networks = networks
        self.truth = Truth(networks) if truth is None else truth
        if self.truth.networks is not networks:
            raise ValueError("the features of the true images are of other networks")
        self.bootstrap = bootstrap
        self.seed = seed
        self._values: list[Columns] = []  # what `add` returned
        self._kept: list[Columns] = []  # what the metrics of the whole set are made of

    def __len__(self) -> int:
        """The number of images added."""
        return sum(len(batch["l1_percent"]) for batch in self._values)

    def add(
        self, *, output: ArrayLike, target: ArrayLike, mask: ArrayLike, count: int | None = None
    ) -> dict[str, np.ndarray]:
        """A batch: output and target (B, H, W, 3) in [0, 1]; mask (B, H, W, 1), 1 = valid, 0 = hole.

        Only the first `count` rows are images (None: all); the rest are padding, so that one compilation serves a short
        last batch too. What the output has outside [0, 1] is clipped, but not for the paper's PSNR.

        Returns the per-image metrics by name, float64 (count,); a PSNR is +inf for identical images. What is not finite
        in a hole makes them NaN, or with Inception raises ValueError.
        """
        output, target, mask = (np.asarray(array, np.float32) for array in (output, target, mask))
        rows = slice(len(target) if count is None else count)
        if not 1 <= rows.stop <= len(target):
            raise ValueError(f"count is {count}; it must lie in 1..{len(target)}, the size of the batch")
        composite, error, measured = _measure(output, target, mask)
        if self.networks.lpips is not None:
            measured[self.networks.lpips.name] = _lpips(self.networks.lpips, composite, target)
        truth = {name: column[rows] for name, column in self.truth.of(target).items()}
        made = {name: column[rows] for name, column in _features(self.networks, composite).items()}
        values = {name: np.asarray(column, np.float64)[rows] for name, column in measured.items()}
        if "logits" in truth:
            values["inception_kl"] = distributions.inception_kl(truth["logits"], made["logits"])
        kept = {"error": np.asarray(error, np.float64)[rows]}
        kept |= {f"truth's {name}": column for name, column in truth.items()} | made
        self._values.append(values)
        self._kept.append(kept)
        return values

    def extend(self, other: "Panel") -> None:
        """Adds the images of another panel of the same networks."""
        self._values += other._values
        self._kept += other._kept

    def per_image(self) -> Columns:
        """What `add` returned, of all images. Raises ValueError where none was added."""
        return _joined(self._values)

    def scores(self) -> Scores:
        """All that the images have so far; NaN where an output was not finite in a hole.

        Images identical to the truth have no PSNR: they are left out of it, and `n` is less. Raises ValueError where no
        image was added.
        """
        found = {name: self._mean(column) for name, column in self.per_image().items()}
        kept = _joined(self._kept)
        found["psnr_paper_compat"] = self._bootstrapped(kept["error"], metrics.psnr_paper_compat, perfect=0.0)
        missing = self._missing(kept)
        if "fid" not in missing and self.networks.inception is not None:
            real, fake = kept["truth's pool"], kept["pool"]
            found["fid"] = distributions.frechet(real, fake)
            found["kid"] = Estimate(distributions.kernel(real, fake, seed=self.seed), None, None, len(self))
            found["kid_paired"] = distributions.paired_kernel(real, fake, seed=self.seed)
            # Salimans et al. computed the score without the bias of the logits.
            logits = kept["logits"] - np.asarray(self.networks.inception.head_bias)
            found["inception_score"] = distributions.inception_score(logits)
        if "p_ids" not in missing:
            paired, unpaired = distributions.paired_discriminative(kept["truth's pool"], kept["pool"])
            found |= {"p_ids": self._mean(paired), "u_ids": self._mean(unpaired)}
        if "fd_vgg16" not in missing:
            found["fd_vgg16"] = distributions.frechet(kept["truth's vgg16"], kept["vgg16"])
        scores = {name: estimates.missing(reason) for name, reason in missing.items()} | found
        return {metric.name: scores[metric.name] for metric in PANEL}

    def _mean(self, values: np.ndarray) -> Estimate:
        return self._bootstrapped(values, np.mean, perfect=math.inf)

    def _bootstrapped(
        self, values: np.ndarray, statistic: Callable[[np.ndarray], float], *, perfect: float
    ) -> Estimate:
        """Of all values but `perfect` ones, those of images identical to the truth."""
        values = values[values != perfect]
        if not len(values):
            return estimates.missing("every image is identical to its truth")
        return estimates.bootstrapped(values, resamples=self.bootstrap, seed=self.seed, statistic=statistic)

    def _missing(self, kept: Columns) -> dict[str, str]:
        """Why a metric cannot be computed, by its name."""
        missing: dict[str, str] = {}
        if "pool" in kept and distributions.separable(*kept["pool"].shape):
            n, features = kept["pool"].shape
            reason = f"{n} images are too few: in {features} dimensions a plane separates any sets so small"
            missing |= dict.fromkeys(OF_SVM, reason)
        if importlib.util.find_spec("sklearn") is None:
            missing |= dict.fromkeys(OF_SVM, "scikit-learn is not installed: pip install scikit-learn")
        if len(self) < 2:
            missing |= dict.fromkeys(OF_TWO, "one image has no distribution")
        if self.networks.inception is None:
            missing |= dict.fromkeys(OF_INCEPTION, f"no Inception: {_fetch('inception')}")
        elif not self.networks.inception.official:
            missing |= dict.fromkeys(OF_INCEPTION, f"not Inception's published weights: {_fetch('inception')}")
        if self.networks.lpips is None:
            missing |= dict.fromkeys(OF_LPIPS, f"no LPIPS: {_fetch('lpips')}")
        else:
            missing |= dict.fromkeys(OF_LPIPS, f"the LPIPS at hand is {self.networks.lpips.name}")
        if self.networks.vgg16 is None:
            missing["fd_vgg16"] = f"no VGG-16: {_fetch('vgg16')}"
        return missing


def _fetch(name: str) -> str:
    return f"python -m dpconv_jax.weights fetch {name}"


def _joined(batches: list[Columns]) -> Columns:
    if not batches:
        raise ValueError("no image was added")
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _features(networks: Networks, images: ArrayLike) -> Columns:
    """`pool` (B, 2048) and `logits` (B, 1008) of the published Inception, `vgg16` (B, 512); float32, where at hand."""
    found = {}
    if networks.inception is not None and networks.inception.official:
        found["pool"], found["logits"] = _inception(networks.inception, images)
    if networks.vgg16 is not None:
        found["vgg16"] = _vgg16(networks.vgg16, images)
    return {name: np.asarray(column) for name, column in found.items()}


@jax.jit
def _measure(
    output: jax.Array, target: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """The composite, the error of the paper's PSNR, and the per-image metrics that need no network."""
    composite = metrics.composite(output=output, target=target, mask=mask)
    raw = metrics.per_image(jnp.clip(output, 0.0, 1.0), target, mask)
    named = metrics.per_image(composite, target, mask) | {
        f"raw_{name}": raw[name] for name in ("l1_percent", "psnr_db", "ssim")
    }
    return composite, metrics.normalised_error(output, target), named


@jax.jit
def _inception(params: Inception, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    return inception.features(params, images)


@jax.jit
def _lpips(params: LPIPS, a: jax.Array, b: jax.Array) -> jax.Array:
    return lpips.distance(params, a, b)


@jax.jit
def _vgg16(params: VGG16, images: jax.Array) -> jax.Array:
    return vgg16.pooled(params, images)
