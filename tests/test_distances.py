"""Distances against quadrature, extended precision, SciPy, POT, scikit-learn and simulation.

Numbers called public are the unit-test values of the theory note, section 8.
"""

import itertools
import math
import sys

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.optimize
import scipy.spatial.distance
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KernelDensity
from torch.distributions import MultivariateNormal, kl_divergence

from genonset import distances, seeds
from genonset.distances import (
    KernelTerms,
    Smoothed,
    affinity_rate,
    bures_wasserstein,
    coordinate_kernel_l2,
    energy_distance,
    expected_kernel_terms,
    hellinger,
    hellinger_squared,
    kernel_bandwidth,
    kernel_delta,
    kernel_l2,
    kernel_terms,
    kl,
    log_affinity,
    log_off_diagonal,
    log_overlap,
    log_pair_sum,
    mmd,
    sliced_wasserstein,
    wasserstein,
)
from genonset.errors import ConfigError, DataError
from genonset.sources import Gaussian, GaussianMixture

T = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 1.5]], dtype=torch.float64)
FRESH = torch.tensor([[0.2, 0.1], [-1.0, 0.4], [0.7, -0.3], [1.2, 1.0]], dtype=torch.float64)
G = Gaussian([0.3, -0.2], torch.tensor([[0.6, 0.2], [0.2, 0.4]]).double())
C = Gaussian([0.0, 0.0], torch.tensor([[1.0, 0.3], [0.3, 0.8]]).double())
TRAINING, ORIGINAL = Smoothed(points=T, bandwidth=3**-0.5), Smoothed(points=FRESH, bandwidth=0.5)


def normal(*shape, seed=0, std=1.0):
    draw = torch.randn(*shape, dtype=torch.float64, generator=seeds.generator(seed, "normal"))
    return std * draw


def dense(d, seed=0, rank=None):
    """A random Gaussian with a full matrix as covariance, of given rank."""
    return Gaussian.from_factor(normal(d, seed=seed + 1), normal(d, rank or d, seed=seed))


def close(value, expected, rel=1e-5):
    return value == pytest.approx(expected, rel=rel, abs=0)


# Sums over pairs


def exact_log_pair_sum(x, y=None):
    """The definition in 50 digits, pair by pair."""
    pairs = itertools.combinations(x.tolist(), 2) if y is None else itertools.product(
        x.tolist(), y.tolist()
    )  # fmt: skip
    with mpmath.workdps(50):
        terms = (
            mpmath.exp(-sum((mpmath.mpf(a) - b) ** 2 for a, b in zip(p, q, strict=True)) / 2)
            for p, q in pairs
        )
        return float(mpmath.log(mpmath.fsum(terms)))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (256, 1024), (257, 1025), (511, 2049), (700, 3)])
def test_every_pair_is_counted_once_across_block_borders(n, m):
    """At distance 0 every term is 1, so the sum is the number of pairs."""
    assert close(log_pair_sum(torch.ones(n, 3).double(), torch.ones(m, 3).double()),
                 math.log(n * m), rel=1e-15)  # fmt: skip
    for k in (n, m):
        pairs = k * (k - 1) // 2
        expected = math.log(pairs) if pairs else -math.inf
        assert log_pair_sum(torch.ones(k, 3).double()) == pytest.approx(expected, rel=1e-15)


def test_pair_sum_of_distinct_pairs_across_block_borders():
    """A double loop over 1,300 points in SciPy: a wrong or missing block changes the sum."""
    x, y = normal(1300, 4), normal(900, 4, seed=1)
    squares = scipy.spatial.distance.pdist(x.numpy(), "sqeuclidean")
    assert close(log_pair_sum(x), np.log(np.exp(-squares / 2).sum()), rel=1e-13)
    squares = scipy.spatial.distance.cdist(x.numpy(), y.numpy(), "sqeuclidean")
    assert close(log_pair_sum(x, y), np.log(np.exp(-squares / 2).sum()), rel=1e-13)


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1.0, 0.0), (25.0, 0.0), (100.0, 0.0), (1.0, 1e6), (1e4, 0.0), (1e8, 1e3), (1e-9, 0.0)],
)
def test_pair_sum_in_extended_precision(scale, offset):
    """Also where every term underflows (scale 100: exponents near -5000), far from the origin,
    and where a matrix product would lose the nearest pairs (scale 1e8). 1e-10 is the bound at
    which differences take over from the product."""
    x, y = scale * normal(12, 3) + offset, scale * normal(7, 3, seed=1) + offset
    y[0] = x[0] + 0.3  # a near pair that decides the sum
    assert log_pair_sum(x, y) == pytest.approx(exact_log_pair_sum(x, y), rel=1e-12, abs=1e-10)
    x[1] = x[0] - 0.7
    assert log_pair_sum(x) == pytest.approx(exact_log_pair_sum(x), rel=1e-12, abs=1e-10)


def test_pair_sum_where_all_terms_underflow():
    x, y = 100 * normal(12, 3), 100 * normal(7, 3, seed=1) + 300
    expected = exact_log_pair_sum(x, y)
    assert expected < -1000
    assert close(log_pair_sum(x, y), expected, rel=1e-13)


def test_blocks_of_very_different_size_add_up():
    """The first blocks underflow, the last holds a pair of exponent -1/2."""
    x = 1e3 * torch.arange(3000.0, dtype=torch.float64)[:, None]
    x[-1] = x[-2] + 1
    assert close(log_pair_sum(x), -0.5, rel=1e-12)
    assert close(log_pair_sum(x.flip(0)), -0.5, rel=1e-12)


def test_blocks_that_only_matter_in_late_digits_are_kept():
    """One point against blocks at distance² 0 and 44: e^-22 is 3e-10 of the sum, not less."""
    x, y = torch.zeros(1, 1).double(), torch.zeros(2048, 1).double()
    y[:1024] = math.sqrt(44)
    for order in (y, y.flip(0)):
        assert log_pair_sum(x, order) - math.log(1024) == pytest.approx(math.exp(-22), rel=1e-5)


def test_equal_points_never_add_more_than_one():
    """Rounding makes about half of these squared distances negative; they are clipped at 0."""
    for seed in range(30):
        x = 50 * normal(2, 20, seed=seed)  # their own distance is beyond any contribution
        assert log_pair_sum(x, x[:1]) <= 0


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(1, 4), st.integers(-6, 6), st.integers(0, 99))
def test_pair_sum_is_the_definition(n, d, power, seed):
    x = 10.0**power * normal(n, d, seed=seed)
    assert log_pair_sum(x) == pytest.approx(exact_log_pair_sum(x), rel=1e-12, abs=1e-12)


# Overlaps of mixtures


def test_public_overlaps_of_the_toy_sets():
    def overlap(p, q):
        return math.exp(log_overlap(p, q))

    assert close(overlap(TRAINING, TRAINING), 0.120909)
    assert close(overlap(TRAINING, G), 0.11946)
    assert close(overlap(ORIGINAL, ORIGINAL), 0.128403)
    assert close(overlap(G, ORIGINAL), 0.12546)
    assert close(overlap(G, G), 0.177941)
    assert close(overlap(TRAINING, ORIGINAL), 0.107828)


MIXTURE = GaussianMixture(
    [1.0, 2.0, 0.5],
    [[0.0, 1.0], [-1.0, 0.5], [0.7, 0.0]],
    torch.tensor([[[0.5, 0.2], [0.2, 0.3]], [[1.0, -0.6], [-0.6, 0.9]], [[0.2, 0.0], [0.0, 0.8]]]),
)
DIAGONAL = Gaussian([0.1, 0.4], torch.tensor([0.3, 1.1]))
ROUND = Gaussian([-0.3, 0.2], 0.4)
LAWS = {"training": TRAINING, "dense": G, "diagonal": DIAGONAL, "round": ROUND, "mixture": MIXTURE}


def density_on_grid(law, points):
    """The density from SciPy, component by component."""
    if isinstance(law, Smoothed):
        parts = [
            (1 / len(law.points), m, law.bandwidth**2 * torch.eye(2).double()) for m in law.points
        ]
    elif isinstance(law, GaussianMixture):
        weights = law.log_weights.exp().tolist()
        parts = [(w, g.mean, g.covariance) for w, g in zip(weights, law.gaussians, strict=True)]
    else:
        parts = [(1.0, law.mean, law.covariance)]
    return sum(w * scipy.stats.multivariate_normal(m.numpy(), c.numpy()).pdf(points)
               for w, m, c in parts)  # fmt: skip


@pytest.mark.parametrize(("p", "q"), list(itertools.combinations_with_replacement(LAWS, 2)))
def test_overlap_is_the_integral_of_the_product(p, q):
    """Trapezoidal rule on a grid of step 0.05, which is exact to rounding for these widths."""
    axis = np.arange(-9, 9, 0.05)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    integral = (density_on_grid(LAWS[p], grid) * density_on_grid(LAWS[q], grid)).sum() * 0.05**2
    assert close(log_overlap(LAWS[p], LAWS[q]), math.log(integral), rel=1e-9)
    assert close(log_overlap(LAWS[q], LAWS[p]), math.log(integral), rel=1e-9)


def test_self_and_off_diagonal_parts_add_up_to_the_overlap():
    for law in (TRAINING, Smoothed(points=normal(600, 5), bandwidth=0.3)):
        n, d = law.points.shape
        log_self = -math.log(n) - d / 2 * math.log(4 * math.pi * law.bandwidth**2)
        whole = np.logaddexp(log_self, log_off_diagonal(law))
        assert close(whole, log_overlap(law, law), rel=1e-13)
        assert close(kernel_terms(G, TRAINING).log_self, -math.log(3) - math.log(4 * math.pi / 3),
                     rel=1e-14)  # fmt: skip
    assert log_off_diagonal(Smoothed(points=T[:1], bandwidth=0.2)) == -math.inf


def test_points_without_kernel_overlap_only_where_they_agree():
    bare, other = Smoothed(points=T, bandwidth=0.0), Smoothed(points=FRESH, bandwidth=0.0)
    assert log_overlap(bare, other) == -math.inf
    assert log_overlap(bare, Smoothed(points=T[1:2] + 1e-12, bandwidth=0.0)) == -math.inf
    assert log_overlap(bare, Smoothed(points=T[1:2], bandwidth=0.0)) == math.inf
    assert log_off_diagonal(bare) == -math.inf
    assert log_off_diagonal(Smoothed(points=T[[0, 1, 0]], bandwidth=0.0)) == math.inf
    density = torch.logsumexp(G.log_density(T, 1.0, 0.0), 0).item() - math.log(3)
    assert close(log_overlap(bare, G), density, rel=1e-13)


def test_overlap_of_singular_laws():
    """A line through G's mean: bare points on it give +inf, points beside it nothing at all."""
    direction = normal(6, 2, seed=3)
    line = Gaussian.from_factor(torch.ones(6), direction)
    on = Smoothed(points=torch.ones(6) + normal(4, 2) @ direction.T, bandwidth=0.0)
    beside = Smoothed(points=on.points + 1e-3 * normal(4, 6, seed=4), bandwidth=0.0)
    assert log_overlap(line, on) == log_overlap(on, line) == math.inf
    assert log_overlap(line, beside) == -math.inf
    centred = Smoothed(points=normal(4, 2) @ direction.T, bandwidth=0.0)
    assert log_overlap(Gaussian.from_factor(torch.zeros(6), direction), centred) == math.inf
    rotated = Gaussian.from_factor(torch.ones(6), direction @ normal(2, 2, seed=5))
    shifted = Gaussian(rotated.mean + normal(6, seed=6), rotated.covariance)
    assert log_overlap(line, rotated) == math.inf
    assert log_overlap(line, shifted) == -math.inf
    full = Gaussian.from_factor(torch.zeros(6), normal(6, 5, seed=7))  # ranks 2 + 5 span 6
    total = MultivariateNormal(torch.zeros(6).double(), line.covariance + full.covariance)
    assert close(log_overlap(line, full), total.log_prob(line.mean).item(), rel=1e-9)


def test_dimensions_must_agree():
    for distance in (log_overlap, kl, hellinger_squared, bures_wasserstein):
        with pytest.raises(DataError, match="2 and 3 dimensions"):
            distance(G, Gaussian([0.0, 0.0, 0.0], 1.0))


@pytest.mark.parametrize(
    ("points", "bandwidth", "error"),
    [
        (T[0], 1.0, DataError),
        (T[:0], 1.0, DataError),
        (T * math.nan, 1.0, DataError),
        (T, -1.0, ConfigError),
        (T, math.inf, ConfigError),
    ],
)
def test_smoothed_refuses(points, bandwidth, error):
    with pytest.raises((error, TypeError)):
        Smoothed(points=points, bandwidth=bandwidth)


# The kernel metric and Delta


@pytest.mark.parametrize(("d", "public"), [(2, -2.53102), (16, -20.2482), (100, -126.551)])
@pytest.mark.parametrize("n", [1, 7, 50])
def test_public_self_term_does_not_depend_on_n(d, public, n):
    points = normal(n, d)
    terms = kernel_terms(
        Gaussian(torch.zeros(d), 1.0), Smoothed(points=points, bandwidth=n ** (-1 / d))
    )
    assert close(terms.log_self, public)


def test_public_pair_ratio():
    law = Gaussian(torch.zeros(16), 1.0)
    terms = expected_kernel_terms(law, law, 10_000, 10_000 ** (-1 / 16))
    assert close(math.exp(terms.log_off - terms.log_self), 0.110996)


def test_public_toy_delta():
    training, original = kernel_terms(G, TRAINING), kernel_terms(G, ORIGINAL)
    own_overlap = math.exp(log_overlap(G, G))
    assert close(kernel_l2(training) + own_overlap, 0.05993, rel=1e-5)
    assert close(kernel_l2(original) + own_overlap, 0.0554234, rel=1e-5)
    for keep_self in (True, False):
        delta = kernel_delta(training, original, keep_self=keep_self)
        assert close(delta.value, 0.00450663)
        assert delta.positive
        back = kernel_delta(original, training, keep_self=keep_self)
        assert (back.value, back.log_ratio) == (-delta.value, -delta.log_ratio)
        assert not back.positive
    known = kernel_terms(G, TRAINING, log_off=training.log_off)
    assert known == training


def test_public_expected_cross_overlap():
    terms = expected_kernel_terms(G, C, math.inf, 0.0)
    assert close(math.exp(terms.log_cross), 0.114893)
    assert close(terms.log_off, log_overlap(C, C), rel=1e-13)  # the overlap of a density itself
    assert terms.log_self == -math.inf
    at_50 = expected_kernel_terms(G, C, 50, 50**-0.5)
    assert close(math.exp(at_50.log_off), 0.98 * 0.0921095)  # E h and E phi, public
    assert close(math.exp(at_50.log_cross), 0.113173)


@pytest.mark.parametrize("source", [C, Gaussian([0.5, -1.0, 0.2], 0.7), dense(3, rank=2)])
def test_expected_terms_are_the_mean_over_reference_sets(source):
    """100 sets of 60: within 4.5 standard errors, false alarm 2e-5 for each of 6 comparisons."""
    model, bandwidth = dense(source.dim, seed=8, rank=source.dim - 1), 0.6
    expected = expected_kernel_terms(model, source, 60, bandwidth)
    points = source.sample(6_000, generator=seeds.generator(0, "sets"))
    sets = [Smoothed(points=block, bandwidth=bandwidth) for block in points.split(60)]
    terms = [kernel_terms(model, s) for s in sets]
    for name in ("log_off", "log_cross"):
        values = np.exp([getattr(t, name) for t in terms])
        error = values.std() / math.sqrt(len(values))
        assert abs(values.mean() - math.exp(getattr(expected, name))) < 4.5 * error
    assert close(expected.log_self, terms[0].log_self, rel=1e-14)


def test_expected_terms_at_the_borders():
    assert expected_kernel_terms(G, C, 1, 0.3).log_off == -math.inf
    assert expected_kernel_terms(G, C, 5, 0.0).log_self == math.inf
    singular = dense(4, rank=2)
    assert expected_kernel_terms(G, C, math.inf, 0.0).log_cross > -math.inf
    assert expected_kernel_terms(singular, singular, 9, 0.0).log_off == math.inf
    assert expected_kernel_terms(singular, singular, 1, 0.0).log_off == -math.inf
    for n, bandwidth in ((0, 1.0), (4, -1.0), (4, math.nan)):
        with pytest.raises(ConfigError, match="n >= 1"):
            expected_kernel_terms(G, C, n, bandwidth)


def exact_terms(points, bandwidth, variance):
    """off and R_SG for G = N(0, variance I), in 50 digits."""
    n, d = points.shape
    rows = [[mpmath.mpf(a) for a in row] for row in points.tolist()]

    def density(square, v):
        return mpmath.exp(-square / (2 * v)) / (2 * mpmath.pi * v) ** (d / 2)

    off = 2 * mpmath.fsum(
        density(mpmath.fsum((a - b) ** 2 for a, b in zip(x, y, strict=True)), 2 * bandwidth**2)
        for x, y in itertools.combinations(rows, 2)
    )
    cross = mpmath.fsum(density(mpmath.fdot(x, x), variance + bandwidth**2) for x in rows)
    return off / n**2, cross / n


def naive_delta(sets, bandwidth, variance, dtype):
    """Delta as the difference of two distances, each summed term by term."""
    errors = []
    for points in sets:
        x = points.to(dtype)
        d, width = x.shape[1], torch.tensor(bandwidth, dtype=dtype)
        pairs = torch.exp(-torch.cdist(x, x).square() / (4 * width**2)).mean()
        pairs /= (4 * math.pi * width**2) ** (d / 2)
        v = variance + width**2
        cross = torch.exp(-x.square().sum(1) / (2 * v)).mean() / (2 * math.pi * v) ** (d / 2)
        errors.append(pairs - 2 * cross)
    return float(errors[0] - errors[1])


def test_delta_at_dimension_100_where_differences_of_distances_fail():
    """Both distances are one self term, e^-104, up to the 18th digit: in float64 their difference
    is noise and in float32 they underflow; from the logarithms all digits are there."""
    n, d, variance = 25, 100, 4.0
    bandwidth = 0.8 * n ** (-1 / d)
    wrong = 0
    for seed in range(3):
        training, original = normal(n, d, seed=2 * seed + 1), normal(n, d, seed=2 * seed + 2)
        model = Gaussian(torch.zeros(d), variance)
        delta = kernel_delta(
            *(kernel_terms(model, Smoothed(points=x, bandwidth=bandwidth))
              for x in (training, original)),
            keep_self=False,
        )  # fmt: skip
        with mpmath.workdps(50):
            off_t, cross_t = exact_terms(training, mpmath.mpf(bandwidth), variance)
            off_o, cross_o = exact_terms(original, mpmath.mpf(bandwidth), variance)
            exact = off_t - off_o - 2 * (cross_t - cross_o)
            log_ratio = mpmath.log(off_o + 2 * cross_t) - mpmath.log(off_t + 2 * cross_o)
        assert close(delta.value, float(exact), rel=1e-9)
        assert close(delta.log_ratio, float(log_ratio), rel=1e-9)
        assert delta.positive == (exact > 0)
        assert naive_delta((training, original), bandwidth, variance, torch.float32) == 0
        naive = naive_delta((training, original), bandwidth, variance, torch.float64)
        wrong += abs(naive - float(exact)) > 10 * abs(float(exact)) or naive == 0
    assert wrong == 3


def test_the_sign_of_delta_survives_underflow_and_cancellation():
    def term(log_off, log_cross, log_self=-3.0):
        return KernelTerms(log_self=log_self, log_off=log_off, log_cross=log_cross)

    tiny = kernel_delta(term(-2000.0, -2003.0), term(-2001.0, -2002.0), keep_self=False)
    assert tiny.value == 0
    assert tiny.positive
    assert close(tiny.log_ratio, math.log(math.exp(-1) + 2 * math.exp(-3))
                 - math.log(1 + 2 * math.exp(-2)), rel=1e-12)  # fmt: skip
    nearly = kernel_delta(term(-100.0, -900.0), term(-100.0 - 2**-40, -900.0), keep_self=False)
    assert close(nearly.value, math.exp(-100) * 2**-40, rel=1e-9)
    nothing = term(-math.inf, -math.inf)
    zero = kernel_delta(nothing, nothing, keep_self=False)
    assert (zero.value, zero.log_ratio, zero.positive) == (0.0, 0.0, False)
    apart = kernel_delta(term(-math.inf, -math.inf, -1.0), nothing, keep_self=True)
    assert close(apart.value, math.exp(-1) - math.exp(-3), rel=1e-14)
    infinite = term(math.inf, 0.0)
    assert kernel_delta(infinite, nothing, keep_self=False).value == math.inf
    with pytest.raises(DataError, match="bandwidth > 0"):
        kernel_delta(infinite, infinite, keep_self=False)
    with pytest.raises(DataError, match="bandwidth > 0"):
        kernel_l2(term(math.inf, math.inf))


def test_the_distance_at_the_borders():
    terms = KernelTerms(log_self=-math.inf, log_off=-math.inf, log_cross=-math.inf)
    assert kernel_l2(terms) == 0
    assert kernel_l2(KernelTerms(log_self=800.0, log_off=0.0, log_cross=0.0)) == math.inf
    only_cross = KernelTerms(log_self=-math.inf, log_off=-math.inf, log_cross=-5.0)
    assert close(kernel_l2(only_cross), -2 * math.exp(-5), rel=1e-14)
    assert kernel_l2(KernelTerms(log_self=0.0, log_off=0.0, log_cross=800.0)) == -math.inf


def test_a_perfect_generator_scores_one_self_term():
    """(A4): d = 2, N = 4,000 originals against their own law; sampling error below 1 %."""
    n = 4000
    law = Gaussian([0.0, 0.0], 1.0)
    sample = law.sample(n, generator=seeds.generator(0, "perfect"))
    terms = kernel_terms(law, Smoothed(points=sample, bandwidth=n**-0.5))
    own_overlap = 1 / (4 * math.pi)
    assert kernel_l2(terms) + own_overlap == pytest.approx(math.exp(terms.log_self), rel=0.02)


# Bandwidths


def test_bandwidth_rules():
    assert close(kernel_bandwidth("paper", 32, 5, 3.0), 1.5, rel=1e-14)
    assert close(kernel_bandwidth("scott", 32, 1, 3.0), 1.5, rel=1e-14)
    assert kernel_bandwidth("fixed", 32, 5, 3.0, value=0.7) == 0.7
    factor = scipy.stats.gaussian_kde(normal(3, 50).numpy()).scotts_factor()
    assert close(kernel_bandwidth("scott", 50, 3, 1.0), factor, rel=1e-14)


@pytest.mark.parametrize(("n", "d"), [(60, 2), (600, 3), (40, 30)])
def test_cross_validated_bandwidth_maximizes_the_left_out_likelihood(n, d):
    """No width of a grid, nor one 1 % to a side, is likelier; the likelihood, by a double loop, is
    scikit-learn's for a density fitted without the point."""
    x = normal(n, d) * torch.linspace(0.5, 2, d)
    width = kernel_bandwidth("cross_validated", n, d, 1.0, points=x)
    square = scipy.spatial.distance.pdist(x.numpy(), "sqeuclidean")
    square = scipy.spatial.distance.squareform(square)
    np.fill_diagonal(square, np.inf)

    def likelihood(h):
        return scipy.special.logsumexp(-square / (2 * h**2), axis=1).sum() - n * d * math.log(h)

    one = KernelDensity(bandwidth=0.4).fit(np.delete(x.numpy(), 7, 0)).score(x.numpy()[7:8])
    row = scipy.special.logsumexp(-square[7] / (2 * 0.4**2)) - d * math.log(0.4)
    assert close(one, row - math.log(n - 1) - d / 2 * math.log(2 * math.pi), rel=1e-9)
    best = max(np.geomspace(0.02, 20, 30 if n > 100 else 500), key=likelihood)
    assert likelihood(width) >= max(map(likelihood, (width * 0.99, width * 1.01, best)))


def test_cross_validation_of_equidistant_points():
    """A simplex: every squared distance is 2, so the width is sqrt(2 / d) exactly."""
    width = kernel_bandwidth("cross_validated", 4, 4, 1.0, points=torch.eye(4).double())
    assert width == pytest.approx(math.sqrt(2 / 4), rel=1e-3)


def test_bandwidth_refusals():
    x = normal(9, 2)
    with pytest.raises(ConfigError, match='unknown rule "silverman"'):
        kernel_bandwidth("silverman", 10, 2, 1.0)
    with pytest.raises(ConfigError, match="value = None"):
        kernel_bandwidth("fixed", 10, 2, 1.0)
    with pytest.raises(ConfigError, match=r"std = 0\.0"):
        kernel_bandwidth("paper", 10, 2, 0.0)
    with pytest.raises(ConfigError, match="needs points"):
        kernel_bandwidth("cross_validated", 10, 2, 1.0)
    with pytest.raises(DataError, match="3 repeat another"):
        kernel_bandwidth("cross_validated", 12, 2, 1.0, points=torch.cat([x, x[:3]]))


# One coordinate at a time


def double_sum(x, y, std):
    """int (rho_X - rho_Y)² as three sums over all pairs, averaged over coordinates."""

    def overlap(a, b, variance):
        gaps = a[:, None] - b[None]
        return np.exp(-(gaps**2) / (2 * variance)).mean((0, 1)) / np.sqrt(2 * np.pi * variance)

    x, y, std = x.numpy(), y.numpy(), np.broadcast_to(np.asarray(std), x.shape[1:])
    e, f = std / len(x), std / len(y)
    return (overlap(x, x, 2 * e**2) + overlap(y, y, 2 * f**2)
            - 2 * overlap(x, y, e**2 + f**2)).mean()  # fmt: skip


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_public_coordinate_metric():
    value = coordinate_kernel_l2(column(0.1, 0.5, 0.9), column(0.2, 0.4), 0.3)
    assert close(value, 0.855997, rel=1e-6)


def test_coordinate_metric_by_quadrature():
    x, y, std = np.array([0.1, 0.15, 0.9]), np.array([0.2, 0.4]), 0.5

    def gap(t):
        left, right = (scipy.stats.norm.pdf(t, z, std / len(z)).mean() for z in (x, y))
        return (left - right) ** 2

    integral, _ = scipy.integrate.quad(gap, -3, 4, limit=500, epsabs=1e-11)
    assert close(coordinate_kernel_l2(column(*x), column(*y), std), integral, rel=1e-9)


CROWD = torch.cat([normal(100, 3), -1 + 2e-3 * normal(300, 3, seed=1)])
COORDINATES = {
    "smooth": (normal(300, 4), normal(300, 4, seed=1)),
    "unequal": (normal(40, 3), normal(500, 3, seed=1)),
    "one point": (normal(1, 2), normal(500, 2, seed=1)),
    "ties": (normal(300, 4).round(decimals=1), normal(200, 4, seed=1).round(decimals=1)),
    "all tied": (torch.ones(50, 2).double(), torch.ones(30, 2).double()),
    "resampled": (normal(50, 3)[torch.arange(400) % 50], normal(50, 3)),
    "crowd": (CROWD, CROWD[:350] * 1.001),
    "crowd and spread": (CROWD, normal(400, 3, seed=2)),
    "far apart": (normal(100, 2), normal(100, 2, seed=1) + 1e3),
}


@pytest.mark.parametrize("case", COORDINATES)
def test_coordinate_metric_is_the_double_sum(case):
    x, y = COORDINATES[case]
    std = torch.linspace(0.5, 2.0, x.shape[1]).double()
    for scale in (0.7, std):
        scale_sum = max(double_sum(x, x + 1e9, scale), 1.0)  # both self overlaps
        expected = double_sum(x, y, scale)
        for a, b in ((x, y), (y, x)):
            assert abs(coordinate_kernel_l2(a, b, scale) - expected) < 1e-10 * scale_sum


def test_coordinate_metric_of_images_and_its_refusals():
    x, y = normal(20, 2, 3), normal(10, 2, 3, seed=1)
    assert coordinate_kernel_l2(x, y, 1.0) == coordinate_kernel_l2(
        x.flatten(1), y.flatten(1), torch.ones(6).double()
    )
    for std in (0.0, torch.tensor([1.0, 0.0]).double(), torch.ones(3).double(), math.nan):
        with pytest.raises(DataError, match="std"):
            coordinate_kernel_l2(T, FRESH, std)


# Gaussian laws


def as_torch(law):
    return MultivariateNormal(law.mean, law.covariance)


def log_affinity_by_determinants(p, q):
    """The textbook formula for regular laws, with NumPy's slogdet and solve."""
    a, b, gap = p.covariance.numpy(), q.covariance.numpy(), (p.mean - q.mean).numpy()
    middle = (a + b) / 2
    logs = [np.linalg.slogdet(m)[1] for m in (a, b, middle)]
    return (logs[0] + logs[1]) / 4 - logs[2] / 2 - gap @ np.linalg.solve(middle, gap) / 8


def test_public_values_of_gaussian_distances():
    centred = Gaussian([0.0, 0.0], C.covariance)
    assert close(log_affinity(G, centred), -0.0859772)
    assert close(hellinger_squared(G, centred), 0.0823849)
    assert close(hellinger(G, centred) ** 2, 0.0823849)
    assert close(affinity_rate(G, centred), math.exp(-0.0859772 / 2))
    assert close(kl(centred, G), 0.476526)
    assert close(kl(G, centred), 0.27291)
    assert close(bures_wasserstein(G, centred) ** 2, 0.25145)


PAIRS = {
    "dense": (dense(5), dense(5, seed=2)),
    "diagonal": (DIAGONAL, ROUND),
    "mixed": (G, DIAGONAL),
    "ill-conditioned": (
        Gaussian(torch.zeros(4), torch.tensor([1e6, 1.0, 1e-3, 1e-6])),
        Gaussian(torch.full((4,), 1e-4), torch.tensor([1e5, 3.0, 1e-4, 1e-6])),
    ),
    "large": (dense(30, rank=90), dense(30, seed=2, rank=90)),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_affinity_and_divergence_of_regular_laws(pair):
    p, q = PAIRS[pair]
    assert close(log_affinity(p, q), log_affinity_by_determinants(p, q), rel=1e-9)
    assert close(kl(p, q), kl_divergence(as_torch(p), as_torch(q)).item(), rel=1e-9)
    assert close(kl(q, p), kl_divergence(as_torch(q), as_torch(p)).item(), rel=1e-9)


def given(law):
    """A law beside a factor of its covariance, as the test wrote it down."""
    columns = torch.eye(law.dim) if law.eigenvectors is None else law.eigenvectors
    return law, columns * law.eigenvalues.sqrt()


def from_factor(*shape, seed=0):
    """The same for a law of low rank, from the factor itself: no root of a zero eigenvalue."""
    factor = normal(*shape, seed=seed)
    return Gaussian.from_factor(normal(shape[0], seed=seed + 1), factor), factor


def bures_in_40_digits(p, q):
    """|m_p - m_q|² + tr C_p + tr C_q - 2 tr (C_p C_q)^(1/2) from factors F_p and F_q: the
    eigenvalues of C_p C_q that are not zero are those of F_q^T F_p F_p^T F_q."""
    with mpmath.workdps(40):
        (m, f), (n, g) = (
            (mpmath.matrix(x.mean.tolist()), mpmath.matrix(y.tolist())) for x, y in (p, q)
        )
        if g.cols > f.cols:
            f, g = g, f
        cross = g.T * f
        small = cross * cross.T
        roots = mpmath.fsum(mpmath.sqrt(abs(w)) for w in mpmath.eigsy(small, eigvals_only=True))
        squares = mpmath.fsum(x**2 for matrix in (m - n, f, g) for x in matrix)
        return float(mpmath.sqrt(squares - 2 * roots))


LOW_RANK = {
    "singular": (from_factor(6, 2), from_factor(6, 3, seed=4)),
    "crossed": (from_factor(6, 2), from_factor(6, 6, seed=4)),
    "lines": (from_factor(6, 1), from_factor(6, 1, seed=4)),
}


@pytest.mark.parametrize("pair", [*PAIRS, *LOW_RANK])
def test_bures_against_forty_digits(pair):
    """Off by rounding alone: at most some 100 eps |F|²/W2 of W2, far below the 1e-9 allowed."""
    p, q = LOW_RANK[pair] if pair in LOW_RANK else map(given, PAIRS[pair])
    assert close(bures_wasserstein(p[0], q[0]), bures_in_40_digits(p, q), rel=1e-9)


@pytest.mark.parametrize("d", [3, 100])
def test_nearby_laws_keep_their_digits(d):
    """N(0, C) and N(0, (1 + x) C) with x = 1e-6: each distance has a closed form in x, which a
    difference of traces or log determinants would return as rounding noise."""
    x, law = 1e-6, dense(d, rank=2 * d)
    near = Gaussian.from_factor(law.mean, law.eigenvectors * (law.eigenvalues * (1 + x)).sqrt())
    assert close(kl(near, law), d / 2 * (x - math.log1p(x)), rel=1e-6)
    assert close(log_affinity(near, law), -d / 16 * x**2, rel=1e-5)
    root = math.sqrt(float(law.eigenvalues.sum()))
    assert close(bures_wasserstein(near, law), root * (math.sqrt(1 + x) - 1), rel=1e-6)


@pytest.mark.parametrize("law", [dense(7), dense(7, rank=3), ROUND, Gaussian([1.0, 2.0], 0.0)])
def test_equal_laws_are_at_distance_zero(law):
    same = Gaussian(law.mean, (law.covariance + law.covariance.T) / 2)
    assert 0 <= kl(law, same) < 1e-12
    assert -1e-12 < log_affinity(law, same) <= 0
    assert bures_wasserstein(law, same) < 1e-6 * max(1.0, law.std)
    assert kl(law, law) < 1e-25
    assert bures_wasserstein(law, law) < 1e-13 * max(1.0, law.std)


def test_singular_laws_of_one_support_are_laws_of_that_subspace():
    """Laws of rank 3 in 8 dimensions against the same laws in 3 coordinates."""
    frame = torch.linalg.qr(normal(8, 3)).Q
    p, q, offset = dense(3, seed=1), dense(3, seed=5), normal(8, seed=9)
    up = [
        Gaussian.from_factor(offset + frame @ g.mean, frame @ torch.linalg.cholesky(g.covariance))
        for g in (p, q)
    ]
    assert up[0].rank == 3
    for distance in (kl, log_affinity, hellinger, bures_wasserstein):
        assert close(distance(*up), distance(p, q), rel=1e-10)


def test_singular_laws_of_different_supports():
    frame = torch.linalg.qr(normal(8, 8)).Q
    line, plane = (Gaussian.from_factor(torch.zeros(8), frame[:, :k]) for k in (3, 4))
    other = Gaussian.from_factor(torch.zeros(8), frame[:, 1:4])
    beside = Gaussian.from_factor(1e-3 * frame[:, 7], frame[:, :3])
    full = Gaussian(torch.zeros(8), 1.0)
    for law in (plane, other, beside, full):
        assert kl(line, law) == kl(law, line) == math.inf
        assert log_affinity(line, law) == log_affinity(law, line) == -math.inf
        assert hellinger_squared(line, law) == 1
        assert affinity_rate(line, law) == 0
    assert close(bures_wasserstein(line, plane), 1.0, rel=1e-12)
    assert close(bures_wasserstein(line, beside), 1e-3, rel=1e-12)


def test_fitted_gaussian_has_the_sample_moments():
    for n in (5, 6, 200):
        x = normal(n, 2, 3, seed=n)
        law = Gaussian.fit(x)
        np.testing.assert_allclose(law.mean, x.flatten(1).mean(0), atol=1e-14)
        np.testing.assert_allclose(law.covariance, np.cov(x.flatten(1).numpy().T), atol=1e-13)
        assert law.rank == min(n - 1, 6)
    with pytest.raises(DataError, match="at least 2"):
        Gaussian.fit(normal(1, 3))


def test_distance_of_samples_through_their_moments():
    """Fitted to many draws, the Frechet distance is that of the laws: error of order 1/sqrt n."""
    p, q = dense(4), dense(4, seed=2)
    draws = [law.sample(20_000, generator=seeds.generator(0, "frechet")) for law in (p, q)]
    assert bures_wasserstein(*map(Gaussian.fit, draws)) == pytest.approx(
        bures_wasserstein(p, q), rel=0.02
    )


# Samples


def test_wasserstein_is_the_optimal_assignment():
    x, y = normal(40, 3), normal(40, 3, seed=1) + 1
    squares = scipy.spatial.distance.cdist(x.numpy(), y.numpy(), "sqeuclidean")
    best = squares[scipy.optimize.linear_sum_assignment(squares)].mean()
    assert close(wasserstein(x, y), math.sqrt(best), rel=1e-12)
    assert wasserstein(x, x.flip(0)) == 0


def test_wasserstein_of_unequal_sizes():
    """n and m points as n m points each: the assignment solves that problem too."""
    x, y = normal(4, 2), normal(6, 2, seed=1)
    squares = scipy.spatial.distance.cdist(
        x.numpy().repeat(6, axis=0), y.numpy().repeat(4, axis=0), "sqeuclidean"
    )
    best = squares[scipy.optimize.linear_sum_assignment(squares)].mean()
    assert close(wasserstein(x, y), math.sqrt(best), rel=1e-12)


def test_wasserstein_says_how_to_install_pot(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ConfigError, match=r"pip install genonset\[ot\]"):
        wasserstein(T, FRESH)


@pytest.mark.parametrize(("n", "m"), [(50, 50), (48, 36), (7, 100), (1, 3)])
def test_sliced_wasserstein_against_pot(n, m):
    """POT on the directions that the same generator draws."""
    ot = pytest.importorskip("ot")
    x, y = normal(n, 5), normal(m, 5, seed=1) * 2 + 0.3
    directions = torch.randn(
        5, 64, dtype=torch.float64, generator=seeds.generator(0, "directions")
    )
    directions /= directions.norm(dim=0)
    expected = ot.sliced_wasserstein_distance(
        x.numpy(), y.numpy(), projections=directions.numpy(), p=2
    )
    value = sliced_wasserstein(x, y, n_projections=64, generator=seeds.generator(0, "directions"))
    assert close(value, float(expected), rel=1e-10)


def test_sliced_wasserstein_of_a_shift():
    """A shift by v moves every projection by u.v, and E (u.v)² = |v|²/d: 20,000 directions give
    the root within 1 %, over 3 standard errors (0.45 % each at d = 5)."""
    x, v = normal(11, 5), torch.tensor([3.0, 0.0, 0.0, 4.0, 0.0]).double()
    value = sliced_wasserstein(
        x, x + v, n_projections=20_000, generator=seeds.generator(0, "shift")
    )
    assert value == pytest.approx(5 / math.sqrt(5), rel=0.015)
    with pytest.raises(ConfigError, match="n_projections is 0"):
        sliced_wasserstein(x, x, n_projections=0, generator=seeds.generator(0))


def test_energy_distance_in_one_dimension_is_scipys():
    x, y = normal(80, 1), normal(50, 1, seed=1) * 1.5 + 0.2
    expected = scipy.stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert close(energy_distance(x, y), expected, rel=1e-10)


def test_energy_distance_by_its_definition():
    """Over several blocks, with points that nearly coincide and far from the origin."""
    x = normal(700, 8) + 100
    y = torch.cat([x[:300] + 1e-9, normal(1000, 8, seed=1) + 100.2])

    def mean(a, b):
        return scipy.spatial.distance.cdist(a.numpy(), b.numpy()).mean()

    expected = math.sqrt(2 * mean(x, y) - mean(x, x) - mean(y, y))
    assert close(energy_distance(x, y), expected, rel=1e-9)
    assert energy_distance(x, x.flip(0)) < 1e-6


def test_mmd_against_scikit_learn():
    x, y = normal(60, 4), normal(45, 4, seed=1) + 0.3
    for bandwidth in (0.3, 1.0, 5.0):
        gamma = 0.5 / bandwidth**2
        xx, yy, xy = (rbf_kernel(a.numpy(), b.numpy(), gamma=gamma).mean()
                      for a, b in ((x, x), (y, y), (x, y)))  # fmt: skip
        expected = math.sqrt(xx + yy - 2 * xy)
        assert close(mmd(x, y, bandwidth=bandwidth), expected, rel=1e-10)


def test_default_bandwidth_of_mmd_is_the_median_distance():
    x, y = normal(20, 4), normal(15, 4, seed=1) + 0.3  # 35 points: 595 pairs, an odd number
    median = np.median(scipy.spatial.distance.pdist(torch.cat([x, y]).numpy()))
    assert close(mmd(x, y), mmd(x, y, bandwidth=float(median)), rel=1e-12)
    many = normal(3000, 4), normal(1500, 4, seed=1)
    assert mmd(*many) == mmd(*many)
    assert mmd(*many) == pytest.approx(mmd(*reversed(many)), rel=1e-10)
    # of 2,000 rows the median has a standard error below 0.5 %, and mmd changes less than it does
    median = np.median(scipy.spatial.distance.pdist(torch.cat(many).numpy()))
    assert close(mmd(*many), mmd(*many, bandwidth=float(median)), 0.02)
    with pytest.raises(DataError, match="median distance is 0"):
        mmd(torch.ones(5, 2).double(), torch.ones(3, 2).double())
    with pytest.raises(ConfigError, match=r"bandwidth is -1\.0"):
        mmd(x, y, bandwidth=-1.0)


def test_default_bandwidth_of_mmd_on_rows_that_cycle_through_classes():
    """Every tenth of 10,000 rows is one class, whose own distances are 20 times smaller."""
    classes = 20 * normal(10, 5)
    x, y = (
        classes.repeat(1000, 1) + normal(10_000, 5, seed=2),
        classes.repeat(1000, 1) + normal(10_000, 5, seed=3) + 0.1,
    )
    some = np.random.default_rng(0).permutation(10_000)[:1000]
    median = np.median(scipy.spatial.distance.pdist(torch.cat([x[some], y[some]]).numpy()))
    width = distances._median_distance(x, y)
    assert width == pytest.approx(float(median), rel=0.1)
    assert width == distances._median_distance(x, y) == distances._median_distance(y, x)


SAMPLES = {
    "wasserstein": wasserstein,
    "sliced_wasserstein": lambda x, y: sliced_wasserstein(x, y, generator=seeds.generator(0)),
    "energy_distance": energy_distance,
    "mmd": mmd,
    "coordinate_kernel_l2": lambda x, y: coordinate_kernel_l2(x, y, 1.0),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_checked_first(name):
    distance = SAMPLES[name]
    with pytest.raises(DataError, match=r"\(3, 2\) and \(4, 3\)"):
        distance(T, normal(4, 3))
    with pytest.raises(DataError, match="at least one point"):
        distance(T, FRESH[:0])
    broken = FRESH.clone()
    broken[1, 1] = math.nan
    with pytest.raises(DataError, match="1 of 8 values are NaN"):
        distance(T, broken)


MOVED = SAMPLES | {
    "a given bandwidth": lambda x, y: mmd(x, y, bandwidth=0.37),
    "coordinates": lambda x, y: coordinate_kernel_l2(x, y, 0.7),
    "pairs": lambda x, y: log_pair_sum(x, y, scale=0.3),
    "own pairs": lambda x, y: log_pair_sum(x, scale=7.0),
    "sums": lambda x, y: distances.log_kernel_sums(x, y, scale=0.3).numpy(),
    "overlap": lambda x, y: log_overlap(
        Smoothed(points=x, bandwidth=0.3), Smoothed(points=y, bandwidth=0.2)
    ),
    "rotated": lambda x, y: log_overlap(
        Smoothed(points=x, bandwidth=0.3), Gaussian(y[0], G2.covariance)
    ),
    "rotated mixture": lambda x, y: log_overlap(
        GaussianMixture([0.5, 0.5], y[:2], torch.stack([G2.covariance, 0.3 * G2.covariance])),
        GaussianMixture([0.5, 0.5], x[10:12], torch.stack([G2.covariance, dense(4).covariance])),
    ),
    "stretched": lambda x, y: distances._group_overlap(
        distances._Group(log_weight=0.0, centres=x, variances=WIDTHS, axes=None),
        distances._Group(log_weight=0.0, centres=y, variances=WIDTHS, axes=None),
    ),
    "affinity": lambda x, y: log_affinity(Gaussian(x[9], 1.0), Gaussian(y[0], G2.covariance)),
    "cross_validated": lambda x, y: kernel_bandwidth("cross_validated", 80, 4, 1.0, points=x),
}
G2, WIDTHS = dense(4, seed=3), torch.tensor([0.1, 0.7, 1.3, 3.0]).double()


@pytest.mark.parametrize("name", MOVED)
def test_no_distance_depends_on_where_the_points_lie(name):
    """Points of a lattice of 2^-10 stay what they are when 2^20 or 2^30 is added to all."""
    x, y = ((1024 * normal(80, 4, seed=k)).round() / 1024 for k in (0, 1))
    y[:6] = x[:6]
    here = MOVED[name](x, y)
    for shift in (2.0**20, 2.0**30, -(2.0**40)):
        there = MOVED[name](x + shift, y + shift)
        assert there == pytest.approx(here, rel=1e-9, abs=1e-9), shift


@pytest.mark.parametrize("name", SAMPLES)
def test_units_that_are_powers_of_two_change_no_digit(name):
    power = distances.SYMMETRIC[name]
    x, y = normal(70, 4), 1.1 * normal(50, 4, seed=1)
    x[:5] = y[:5] + 1e-7
    for unit in (2.0**-40, 2.0**40):
        if name == "coordinate_kernel_l2":
            found = coordinate_kernel_l2(unit * x, unit * y, unit)
        else:
            found = SAMPLES[name](unit * x, unit * y)
        assert found == SAMPLES[name](x, y) * unit**power


def test_kernel_sums_of_single_points():
    """Against SciPy, over several blocks; also where all terms of a point underflow."""
    x, y = normal(300, 3), normal(1100, 3, seed=1)
    x[5] += 1e3
    squares = scipy.spatial.distance.cdist(x.numpy(), y.numpy(), "sqeuclidean")
    expected = scipy.special.logsumexp(-0.35 * squares, axis=1)
    assert expected[5] < -1e5
    found = distances.log_kernel_sums(x, y, scale=0.7)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("name", SAMPLES)
def test_single_precision_is_read_as_double(name):
    distance = SAMPLES[name]
    x, y = normal(9, 3).float(), normal(8, 3, seed=1).float()
    assert distance(x, y) == distance(x.double(), y.double())


def test_memory_of_a_pair_sum_does_not_grow(monkeypatch):
    """The buffer is one block however many pairs there are."""
    sizes = set()
    original = torch.mm

    def spy(a, b, *, out):
        sizes.add(out.untyped_storage().nbytes())
        return original(a, b, out=out)

    monkeypatch.setattr(distances.torch, "mm", spy)
    log_pair_sum(normal(3000, 2))
    assert sizes == {256 * 1024 * 8}
