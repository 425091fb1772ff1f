"""Null levels of nearest-neighbour criteria, by simulation and enumeration, fixed seeds."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.spatial import cKDTree

from agreement import mean_agrees
from genonset import theory


@pytest.mark.parametrize(("dim", "n", "gap"), [(1, 20, 1 / 3), (2, 100, 1 / 3), (5, 30, 0.6)])
def test_memorized_fraction_null_by_simulation(dim, n, gap):
    # one query for each training set: independent draws
    rng, hits = np.random.default_rng(40), []
    for _ in range(20):
        x = rng.standard_normal((2000, n, dim))
        squares = ((x - rng.standard_normal((2000, 1, dim))) ** 2).sum(-1)
        two = np.partition(squares, 1, axis=1)
        hits.append(two[:, 0] < gap**2 * two[:, 1])
    predicted = theory.memorized_fraction_null(dim, n, gap)
    mean_agrees(f"(F1) d = {dim}, n = {n}, gap = {gap:.2g}", predicted, np.concatenate(hits))


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "n"), [(1, 5), (4, 1000), (16, 200)])
def test_memorized_fraction_null_by_adaptive_quadrature(dim, n):
    def given(length):
        def density(log_z):
            z = np.exp(log_z)
            beyond = stats.ncx2.sf(z, dim, length) ** (n - 1)
            return z / 9 * stats.ncx2.pdf(z / 9, dim, length) * beyond

        centre = np.log(stats.ncx2.ppf(1 / n, dim, length))
        limits = (centre - 40 / dim, centre + 6)
        return integrate.quad(density, *limits, limit=400, epsabs=0, epsrel=1e-8)[0]

    top = dim + 20 * np.sqrt(2 * dim) + 40
    ends = (0, dim, top) if dim > 1 else (0, 1, top)
    value = sum(
        integrate.quad(lambda v: 2 * v * stats.chi2.pdf(v**2, dim) * given(v**2), a**0.5, b**0.5,
                       epsabs=0, epsrel=1e-7)[0]
        for a, b in pairwise(ends)
    )  # fmt: skip
    assert theory.memorized_fraction_null(dim, n) == pytest.approx(n * value, rel=1e-6)


def test_memorized_fraction_null_tends_to_the_uniform_law():
    assert theory.memorized_fraction_null(2, 1e7) == pytest.approx(1 / 9, rel=1e-3)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_authenticity_null_on_a_torus(dim):
    # homogeneous points without boundary; sets are independent, points of one set are not
    rng, shares = np.random.default_rng(41), []
    for _ in range(30):
        points = rng.random((2000, dim))
        nearest = cKDTree(points, boxsize=1).query(points, 2)[1][:, 1]
        shares.append((nearest[nearest] != np.arange(2000)).mean())
    mean_agrees(f"(F2) d = {dim}", theory.authenticity_null(dim), shares)


@pytest.mark.parametrize(("training", "fresh"), [
    ([3, 0, 1, 2], [1, 0, 2, 1]),
    ([2, 2, 5], [0, 0, 1, 0, 1]),
    ([0, 0], [0, 3]),
])  # fmt: skip
def test_label_test_by_enumeration(training, fresh):
    both = training + fresh
    sums = np.array([sum(chosen) for chosen in combinations(both, len(training))])
    s, z, p = theory.label_test(training, fresh)
    assert s == sum(training)
    assert p == pytest.approx((sums >= s).mean(), rel=1e-12)
    assert z == pytest.approx((s - sums.mean()) / sums.std(), rel=1e-12)


def test_label_test_of_equal_counts_tells_nothing():
    assert theory.label_test([1, 1], [1, 1]) == (2, 0, 1)
