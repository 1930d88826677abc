"""How far a set of images is from the set of their truths, by the features or logits that a network gives them.

Pure NumPy and SciPy in float64. Sets are pairs: row i of both is the same photo, features (N, D) or logits (N, K). The
interval of an estimate is normal, its standard error made of the influence of each pair on the value (the infinitesimal
jackknife). No pair is drawn twice, as a bootstrap would: repeated images raise a distance by themselves. The error is
of the choice of images; a distance of N images is also too large by a term of order 1/N, so compare distances of equal
N only.
"""

import math

import numpy as np
import scipy.linalg
import scipy.special
from numpy.typing import ArrayLike

from dpconv_jax.evaluation import estimates
from dpconv_jax.evaluation.estimates import Estimate


def _table(rows: ArrayLike) -> np.ndarray:
    table = np.asarray(rows, np.float64)
    if table.ndim != 2 or len(table) < 2:
        raise ValueError(f"a set of shape {table.shape}: at least two rows (N, D) are needed")
    if not np.isfinite(table).all():
        raise ValueError("a set has values that are not finite")
    return table


def _pairs(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = _table(a), _table(b)
    if x.shape != y.shape:
        raise ValueError(f"sets of shapes {x.shape} and {y.shape}: both must hold the same N images")
    return x, y


def frechet(a: ArrayLike, b: ArrayLike) -> Estimate:
    """Frechet distance of the normal distributions with the means and (unbiased) covariances of two sets (N, D).

    |m_a - m_b|^2 + tr C_a + tr C_b - 2 tr (C_a C_b)^(1/2), Heusel et al. 2017, Eq. (6). With centred sets A and B the
    last trace is the sum of the singular values of A B^T / (N - 1): exact for singular covariances and N < D, and no
    covariance is ever formed. Raises ValueError for sets that are no pairs, are not finite or have less than two rows.
    """
    x, y = _pairs(a, b)
    shift = x.mean(axis=0) - y.mean(axis=0)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    (rows_x, x_factor), (rows_y, y_factor) = np.linalg.qr(x), np.linalg.qr(y)
    left, singular, right = scipy.linalg.svd(x_factor @ y_factor.T, full_matrices=False)
    # The share of each image in that sum: the diagonals of (M M^T)^(1/2) and (M^T M)^(1/2), M = A B^T.
    roots = np.square(rows_x @ left) @ singular + np.square(rows_y @ right.T) @ singular
    spread = np.square(x).sum(axis=1) + np.square(y).sum(axis=1) - roots
    influence = 2 * (x - y) @ shift + spread
    value = float(shift @ shift + spread.sum() / (len(x) - 1))
    return estimates.normal(max(value, 0.0), error=_error(influence), n=len(x))


def kernel(a: ArrayLike, b: ArrayLike, *, subset_size: int = 1000, subsets: int = 100, seed: int) -> float:
    """Kernel distance as published, KID: unbiased squared MMD of two sets (N, D) under (x . y / D + 1)^3.

    Binkowski et al. 2018: the mean over `subsets` random subsets of `subset_size` images of either set, each drawn on
    its own, or, where there are no more than that, one estimate from all. Gretton et al. 2012, Eq. (3), which is
    unbiased for independent sets: every x_i meets every y_j, its own too. Raises ValueError as `frechet`.
    """
    x, y = _pairs(a, b)
    size = min(len(x), subset_size)
    rng = np.random.default_rng(seed)
    draws = zip(_subsets(rng, len(x), size, subsets), _subsets(rng, len(y), size, subsets), strict=True)
    return float(np.mean([_within(x[i]) + _within(y[j]) - 2 * _cubic(x[i], y[j]).mean() for i, j in draws]))


def paired_kernel(a: ArrayLike, b: ArrayLike, *, subset_size: int = 1000, subsets: int = 100, seed: int) -> Estimate:
    """Kernel distance of two sets (N, D) of pairs, under the same kernel: not the published estimator.

    The mean over `subsets` random subsets of `subset_size` pairs, or, where there are no more than that, one estimate
    from all. Gretton et al. 2012, Eq. (4): no x_i meets its own y_i. Composites depend on their truths, and with those
    terms, which are harmless for independent sets, the distance would come out too small; without, equal sets have
    distance 0. The interval is of the mean, not the deviation among subsets. Raises ValueError as `frechet`.
    """
    x, y = _pairs(a, b)
    size = min(len(x), subset_size)
    draws = _subsets(np.random.default_rng(seed), len(x), size, subsets)
    means, variances = [], []
    for draw in draws:
        cross = _cubic(x[draw], y[draw])
        differences = _cubic(x[draw], x[draw]) + _cubic(y[draw], y[draw]) - cross - cross.T
        np.fill_diagonal(differences, 0.0)
        rows = differences.sum(axis=1) / (size - 1)
        means.append(rows.mean())
        variances.append((2 * rows).var(ddof=1))
    choice_of_subsets = (1 - size / len(x)) / (size * len(draws))
    error = math.sqrt(np.mean(variances) * (1 / len(x) + choice_of_subsets))
    return estimates.normal(float(np.mean(means)), error=error, n=len(x))


def _subsets(rng: np.random.Generator, n: int, size: int, count: int) -> list[np.ndarray]:
    """The rows of `count` random subsets of `size` of n rows; all of them once where size is n."""
    return [rng.choice(n, size, replace=False) for _ in range(count)] if size < n else [np.arange(n)]


def _within(x: np.ndarray) -> float:
    """The mean of the kernel over all pairs of two rows of x (N, D)."""
    values = _cubic(x, x)
    return float((values.sum() - values.trace()) / (len(x) * (len(x) - 1)))


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def paired_discriminative(real: ArrayLike, fake: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Zhao et al. 2021: how often a linear SVM between features (N, D) of truths and of composites is wrong.

    Returns two arrays (N,), float64, whose means are the scores: P-IDS, where the composite looks more real than its
    truth (1 or 0), and U-IDS, the share of the pair on the wrong side (0, 1/2 or 1). As published, the SVM
    (scikit-learn's LinearSVC in the primal, C = 1) judges the images that it was fitted to; where they are `separable`,
    the scores say nothing. Raises ValueError as `frechet`, ImportError without scikit-learn.
    """
    from sklearn.svm import LinearSVC  # of the extra `bench`

    real, fake = _pairs(real, fake)
    truth = np.repeat([1, 0], len(real))
    values = LinearSVC(dual=False).fit(np.concatenate([real, fake]), truth).decision_function
    of_real, of_fake = values(real), values(fake)
    return (of_fake > of_real).astype(np.float64), ((of_real <= 0).astype(np.float64) + (of_fake > 0)) / 2


def separable(n: int, features: int) -> bool:
    """Whether a plane separates any two sets of n points in general position, be they of one distribution or not."""
    return 2 * n <= features + 1


def inception_score(logits: ArrayLike) -> Estimate:
    """exp of the mean over images of KL(p(y|x) || p(y)), Salimans et al. 2016, of logits (N, K); in [1, K].

    p(y) is the mean over all images: one split, not the ten of habit. Raises ValueError for logits that are not finite
    or less than two.
    """
    log_p = scipy.special.log_softmax(_table(logits), axis=1)
    p = np.exp(log_p)
    divergences = scipy.special.rel_entr(p, p.mean(axis=0)).sum(axis=1)
    value = math.exp(divergences.mean())
    return estimates.normal(value, error=value * _error(divergences), n=len(p))


def inception_kl(truth: ArrayLike, composite: ArrayLike) -> np.ndarray:
    """KL(p(y|truth) || p(y|composite)) of each image, from logits (N, K); float64 (N,), 0 for equal logits.

    A hypothesis of what the paper's "IScore" is: that is near 0 for small holes and lower is better, so it cannot be
    `inception_score`. Raises ValueError for logits that are not finite or of two shapes.
    """
    x, y = np.asarray(truth, np.float64), np.asarray(composite, np.float64)
    if x.ndim != 2 or x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"logits of shapes {x.shape} and {y.shape}: both must be finite, of one shape (N, K)")
    log_p, log_q = scipy.special.log_softmax(x, axis=1), scipy.special.log_softmax(y, axis=1)
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=1)


def _error(influence: np.ndarray) -> float:
    """Standard error of a value to which image i adds `influence[i]` / N, to first order."""
    return float(influence.std(ddof=1) / math.sqrt(len(influence)))
