"""Distances of sets against closed forms and plain loops; their errors against leaving out each image in turn."""

import functools

import numpy as np
import pytest
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.svm import LinearSVC

from dpconv_jax.evaluation import distributions as distances
from dpconv_jax.evaluation.estimates import Estimate


def paired(seed: int, n: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Two dependent sets (n, features) of correlated features, a little apart."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(features, features)) / np.sqrt(features)
    truth, other = rng.normal(size=(2, n, features)) @ mixing
    return truth, 0.8 * truth + 0.5 * other + 0.3


def exactly(rng: np.random.Generator, n: int, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """(n, D) whose mean and unbiased covariance are exactly these."""
    z = rng.normal(size=(n, len(mean)))
    z -= z.mean(axis=0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T
    return z @ np.linalg.cholesky(covariance).T + mean


# ---- Frechet ----


def test_frechet_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    a, b = np.array([4.0, 1.0, 0.25, 1e-6]), np.array([1.0, 9.0, 0.25, 2.0])
    shift = np.array([0.5, -1.0, 2.0, 0.0])
    x = exactly(rng, 30, np.ones(4), axes * a @ axes.T)
    y = exactly(rng, 30, np.ones(4) + shift, axes * b @ axes.T)
    expected = shift @ shift + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert distances.frechet(x, y).value == pytest.approx(expected, rel=1e-10)
    assert distances.frechet(y, x)[:3] == pytest.approx(distances.frechet(x, y)[:3], rel=1e-10)
    assert distances.frechet(x, x).value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("n", "features"), [(50, 4), (13, 12), (6, 30)], ids=["regular", "barely", "singular"])
def test_frechet_is_the_formula_of_its_paper(n, features):
    x, y = paired(2, n, features)
    x[:, 0] = y[:, 1] = 3.0  # as of a channel that is never active
    c, d = np.cov(x.T), np.cov(y.T)
    roots = np.sqrt(np.linalg.eigvals(c @ d).real.clip(0))
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(c) + np.trace(d) - 2 * roots.sum()
    assert distances.frechet(x, y).value == pytest.approx(expected, rel=1e-5)


# ---- kernel ----


def cubic(x: np.ndarray, y: np.ndarray) -> float:
    return (sum(float(a) * float(b) for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3


def error(estimate: Estimate) -> float:
    """The standard error behind its interval."""
    return (estimate.hi - estimate.lo) / 3.92


def test_paired_kernel_is_the_double_loop_without_own_pairs():
    x, y = paired(3, 9, 4)
    pairs = [(i, j) for i in range(9) for j in range(9) if i != j]
    terms = [cubic(x[i], x[j]) + cubic(y[i], y[j]) - cubic(x[i], y[j]) - cubic(x[j], y[i]) for i, j in pairs]
    assert distances.paired_kernel(x, y, seed=0).value == pytest.approx(np.mean(terms), rel=1e-10)
    assert distances.paired_kernel(x, x, seed=0)[:3] == pytest.approx((0, 0, 0), abs=1e-12)


def published(x: np.ndarray, y: np.ndarray) -> float:
    """Of Binkowski et al. 2018, of all rows, by scikit-learn's kernel."""
    options = {"degree": 3, "gamma": 1 / x.shape[1], "coef0": 1}
    xx, yy, xy = (polynomial_kernel(a, b, **options) for a, b in ((x, x), (y, y), (x, y)))
    own = ~np.eye(len(x), dtype=bool)
    return xx[own].mean() + yy[own].mean() - 2 * xy.mean()


def test_kernel_is_the_published_estimator():
    x, y = paired(3, 9, 4)
    assert distances.kernel(x, y, seed=0) == pytest.approx(published(x, y), rel=1e-10)
    assert distances.kernel(x, x, seed=0) < -0.1  # every image meets itself in the other set


def test_kernel_is_the_mean_over_independent_subsets_of_both_sets():
    x, y = paired(5, 120, 6)
    options = {"subset_size": 30, "subsets": 400}
    some, again, other = (distances.kernel(x, y, **options, seed=seed) for seed in (1, 1, 2))
    assert some == again != other
    rng = np.random.default_rng(0)
    drawn = [published(x[rng.permutation(120)[:30]], y[rng.permutation(120)[:30]]) for _ in range(400)]
    error = np.std(drawn) / 20
    assert some == pytest.approx(np.mean(drawn), abs=4 * error)
    one_draw_for_both = [published(x[i], y[i]) for i in (rng.permutation(120)[:30] for _ in range(400))]
    assert np.mean(drawn) - np.mean(one_draw_for_both) > 8 * error  # own pairs are then four times as many
    assert distances.kernel(x, y, subset_size=120, seed=1) == pytest.approx(published(x, y), rel=1e-10)


def third_moments(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """E[x_i x_j x_k] of a Gaussian."""
    once = np.einsum("i,jk->ijk", mean, covariance)
    return np.einsum("i,j,k->ijk", mean, mean, mean) + once + once.transpose(1, 0, 2) + once.transpose(1, 2, 0)


def test_paired_kernel_of_gaussians_is_unbiased_even_where_composites_depend_on_their_truths():
    means = np.array([[0.5, 0.0, -0.5], [0.8, 0.2, -0.5]])
    factors = np.array([np.diag([1.0, 0.5, 0.8]), [[1.0, 0.0, 0.0], [0.3, 0.6, 0.0], [0.0, 0.2, 0.9]]])

    def expected_kernel(a: int, b: int) -> float:
        m, c = means[[a, b]], (factors @ factors.transpose(0, 2, 1))[[a, b]]
        second = c + np.einsum("ni,nj->nij", m, m)
        third = [third_moments(*gaussian) for gaussian in zip(m, c, strict=True)]
        return 1 + m[0] @ m[1] + 3 * (second[0] * second[1]).sum() / 9 + (third[0] * third[1]).sum() / 27

    expected = expected_kernel(0, 0) + expected_kernel(1, 1) - 2 * expected_kernel(0, 1)
    rng = np.random.default_rng(4)
    found = []
    for _ in range(400):
        z = rng.normal(size=(40, 3))  # one noise for both: pairs
        x, y = (z @ factor.T + mean for factor, mean in zip(factors, means, strict=True))
        found.append(distances.paired_kernel(x, y, seed=0).value)
    assert np.mean(found) == pytest.approx(expected, abs=3 * np.std(found) / 20)
    assert expected > 6 * np.std(found) / 20


def test_paired_kernel_of_subsets_nears_that_of_all_and_is_drawn_from_the_seed():
    x, y = paired(5, 120, 6)
    exact = distances.paired_kernel(x, y, seed=0)
    some, again, other = (distances.paired_kernel(x, y, subset_size=30, subsets=60, seed=seed) for seed in (1, 1, 2))
    assert some == again != other
    assert distances.paired_kernel(x, y, subset_size=120, subsets=3, seed=1) == exact
    assert some.value == pytest.approx(exact.value, abs=error(exact))
    assert error(exact) < error(some) < 1.5 * error(exact)
    # One subset of 30 knows a quarter of the images: twice the error.
    alone = [error(distances.paired_kernel(x, y, subset_size=30, subsets=1, seed=seed)) for seed in range(20)]
    assert 1.8 < np.mean(alone) / error(exact) < 2.6
    assert (exact.lo + exact.hi) / 2 == pytest.approx(exact.value) and exact.n == 120


# ---- errors ----


@pytest.mark.parametrize(
    ("estimate", "n", "features"),
    [
        (distances.frechet, 80, 5),
        (distances.frechet, 25, 40),
        (lambda x, y: distances.paired_kernel(x, y, seed=0), 80, 5),
        (lambda x, y: distances.inception_score(3 * y), 80, 5),
    ],
    ids=["frechet", "frechet, singular", "kernel", "inception score"],
)
def test_errors_are_those_of_leaving_out_each_image_in_turn(estimate, n, features):
    x, y = paired(6, n, features)
    without = [estimate(np.delete(x, i, axis=0), np.delete(y, i, axis=0)).value for i in range(n)]
    expected = np.sqrt((n - 1) * np.var(without))
    assert error(estimate(x, y)) == pytest.approx(expected, rel=0.1)


# ---- discriminative scores ----


def test_paired_discriminative_counts_what_a_plane_gets_wrong():
    real = np.array([[2.0], [1.5], [3.0], [-1.0], [2.5], [-0.5], [1.0], [2.0]])
    # Mirrored, so the best threshold is 0 and what is wrong of a truth is wrong of its composite.
    beaten, wrong = distances.paired_discriminative(real, -real)
    np.testing.assert_array_equal(beaten, (real < 0)[:, 0])
    np.testing.assert_array_equal(wrong, (real < 0)[:, 0])
    shifted = real - 0.25  # always a little less real than the truth
    beaten, wrong = distances.paired_discriminative(real, shifted)
    assert not beaten.any()
    assert {*wrong} <= {0.0, 0.5, 1.0} and 0 < wrong.mean() < 1


def test_the_means_of_paired_discriminative_are_the_published_scores():
    real, fake = np.random.default_rng(11).normal([[[0.0]], [[0.3]]], 1, (2, 200, 6))
    both, truth = np.concatenate([real, fake]), np.repeat([1, 0], 200)
    svm = LinearSVC(dual=False).fit(both, truth)
    p_ids = np.mean(svm.decision_function(fake) > svm.decision_function(real))
    scores = [column.mean() for column in distances.paired_discriminative(real, fake)]
    assert scores == pytest.approx([p_ids, 1 - svm.score(both, truth)])
    assert 0 < p_ids < 0.5 and 0 < scores[1] < 0.5


def test_a_plane_separates_few_points_of_one_distribution():
    rng = np.random.default_rng(7)
    few = 1000 * rng.normal(size=(2, 20, 39))
    assert distances.separable(20, 39) and not distances.separable(21, 39)
    assert [scores.sum() for scores in distances.paired_discriminative(*few)] == [0, 0]
    many = 1000 * rng.normal(size=(2, 400, 39))
    assert all(scores.mean() > 0.2 for scores in distances.paired_discriminative(*many))


# ---- of logits ----


def test_inception_score_counts_classes_and_is_its_loop():
    assert distances.inception_score(np.ones((6, 5)))[:4] == pytest.approx((1, 1, 1, 6))
    assert distances.inception_score(1e4 * np.eye(5)).value == pytest.approx(5)
    logits = np.random.default_rng(8).normal(0, 3, (7, 5)).astype(np.float32)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    divergences = [sum(p[i, k] * np.log(p[i, k] / p[:, k].mean()) for k in range(5)) for i in range(7)]
    assert distances.inception_score(logits).value == pytest.approx(np.exp(np.mean(divergences)), rel=1e-10)


def test_inception_kl_is_its_loop_and_finite():
    rng = np.random.default_rng(9)
    truth, composite = rng.normal(0, 2, (2, 4, 6))
    p, q = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) for logits in (truth, composite))
    expected = [sum(p[i, k] * np.log(p[i, k] / q[i, k]) for k in range(6)) for i in range(4)]
    np.testing.assert_allclose(distances.inception_kl(truth, composite), expected, rtol=1e-10)
    np.testing.assert_allclose(distances.inception_kl(truth, truth + 5), 0, atol=1e-12)
    assert distances.inception_kl([[1e4, 0.0]], [[0.0, 1e4]]) == pytest.approx(1e4)


def test_sets_that_are_no_pairs_are_refused():
    x, y = paired(10, 6, 3)
    kernels = (functools.partial(distance, seed=0) for distance in (distances.kernel, distances.paired_kernel))
    for distance in (distances.frechet, distances.paired_discriminative, *kernels):
        with pytest.raises(ValueError, match="the same N images"):
            distance(x, y[:5])
        with pytest.raises(ValueError, match="two rows"):
            distance(x[:1], y[:1])
        with pytest.raises(ValueError, match="not finite"):
            distance(x, np.where(y == y[2, 1], np.nan, y))
    with pytest.raises(ValueError, match="not finite"):
        distances.inception_score(np.where(x == x[0, 0], np.inf, x))
    with pytest.raises(ValueError, match="one shape"):
        distances.inception_kl(x, y[:5])
