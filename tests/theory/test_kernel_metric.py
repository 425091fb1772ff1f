"""The kernel metric: overlaps of random sets by brute force, fixed seeds.

All but the random-energy law are exact: means agree within four standard errors (false alarm once
in 16,000 seeds and number).
"""

import math

import numpy as np
import pytest
import torch

from agreement import mean_agrees
from genonset import distances, theory
from genonset.distances import Smoothed
from genonset.errors import ConfigError


def normal(square, variances):
    return np.exp(-square / 2) / np.sqrt(np.prod(2 * math.pi * np.asarray(variances)))


def test_signal_and_noise_are_those_of_the_process():
    from genonset.noise import OrnsteinUhlenbeck, at_horizon

    for horizon, scale, variance in ((2.0, math.exp(-4), 1.0), (0.5, 0.3, 4.0), (8.0, 1.0, 0.1)):
        alpha, sigma = at_horizon(OrnsteinUhlenbeck(horizon=horizon, noise_scale=scale))
        u = theory.noise_to_signal(horizon, scale, variance)
        assert u == pytest.approx(sigma**2 / (alpha**2 * variance), rel=1e-12)
        signal = alpha**2 * variance / (alpha**2 * variance + sigma**2)
        assert theory.signal_fraction(horizon, scale, variance) == pytest.approx(signal, rel=1e-12)


def test_self_overlap_by_quadrature():
    # three points far apart on a line: the integral of their smoothed density squared
    s, points = 0.7, np.array([0.0, 40.0, 80.0])
    eps = s / 3
    grid = np.linspace(-10, 90, 200001)
    density = np.mean([normal((grid - p) ** 2 / eps**2, [eps**2]) for p in points], axis=0)
    value = np.log((density**2).sum() * (grid[1] - grid[0]))
    assert theory.kernel_log_self_overlap(1, s) == pytest.approx(value, rel=1e-9)


def test_pair_ratio_of_random_sets():
    rng, spectrum, n = np.random.default_rng(20), np.array([2.0, 1.0, 0.3]), 40
    s = math.sqrt(spectrum.mean())
    width = 2 * s**2 * n ** (-2 / 3)
    self_term = np.exp(theory.kernel_log_self_overlap(3, s))
    ratios = []
    for _ in range(3000):
        x = rng.standard_normal((n, 3)) * np.sqrt(spectrum)
        squares = ((x[:, None] - x) ** 2).sum(-1)
        pairs = normal(squares / width, [width] * 3)
        ratios.append((pairs.sum() - np.trace(pairs)) / n**2 / self_term)
    mean_agrees("(A3) spectrum 2, 1, 0.3; N = 40", theory.kernel_pair_ratio(n, spectrum=spectrum),
                ratios)  # fmt: skip


MU, SIGMA = np.array([0.3, -0.2]), np.array([[0.6, 0.2], [0.2, 0.4]])
M, C = np.array([0.1, 0.2]), np.array([[1.0, 0.3], [0.3, 0.8]])


def original_overlaps(n, eps, runs, seed):
    """off_O and R_OG of random original sets."""
    rng, factor = np.random.default_rng(seed), np.linalg.cholesky(C)
    a = SIGMA + eps**2 * np.eye(2)
    norm = 2 * math.pi * math.sqrt(np.linalg.det(a))
    for _ in range(runs):
        x = M + rng.standard_normal((n, 2)) @ factor.T
        squares = ((x[:, None] - x) ** 2).sum(-1)
        pairs = normal(squares / (2 * eps**2), [2 * eps**2] * 2)
        y = x - MU
        cross = np.exp(-(y * np.linalg.solve(a, y.T).T).sum(1) / 2) / norm
        yield (pairs.sum() - np.trace(pairs)) / n**2, cross.mean()


def test_overlap_moments_of_random_sets():
    n, eps = 30, 0.35
    pairs, cross = np.transpose(list(original_overlaps(n, eps, 6000, seed=21)))
    h, phi, var_pairs, var_cross, covariance = theory.original_overlap_moments(
        MU, SIGMA, source_covariance=C, n_original=n, bandwidth=eps, source_mean=M
    )
    mean_agrees("(A5) E off_O", (1 - 1 / n) * h, pairs)
    mean_agrees("(A5) E R_OG", phi, cross)
    p, c = pairs - pairs.mean(), cross - cross.mean()
    mean_agrees("(A6) Var off_O", var_pairs, p**2)
    mean_agrees("(A6) Var R_OG", var_cross, c**2)
    mean_agrees("(A6) covariance", covariance, p * c)


def test_overlap_moments_of_a_spectrum_are_those_of_its_matrix():
    spectrum = [2.0, 1.0, 0.5]
    covariance, mean = np.diag([0.5, 0.4, 0.3]), [0.1, 0.2, 0.3]
    kwargs = {"n_original": np.array([50, 500]), "bandwidth": 0.4}
    one = theory.original_overlap_moments(mean, covariance, spectrum, **kwargs)
    other = theory.original_overlap_moments(
        mean, covariance, source_covariance=np.diag(spectrum), **kwargs
    )
    np.testing.assert_allclose(one, other, rtol=1e-12)


def test_delta_given_a_model():
    n, runs = 150, 2500
    training = M + np.random.default_rng(22).standard_normal((12, 2)) @ np.linalg.cholesky(C).T
    smoothed = Smoothed(points=torch.from_numpy(training), bandwidth=12**-0.5)
    law = distances.Gaussian(torch.from_numpy(MU), torch.from_numpy(SIGMA))
    own = math.exp(distances.log_off_diagonal(smoothed))
    cross = math.exp(distances.log_overlap(smoothed, law))
    deltas = np.array([
        own - off - 2 * (cross - with_model)
        for off, with_model in original_overlaps(n, n**-0.5, runs, seed=23)
    ])  # fmt: skip
    kwargs = {"source_mean": M, "source_covariance": C, "n_original": n}
    mean, sd, positive = theory.delta_given_model(training, MU, SIGMA, **kwargs)
    mean_agrees("(A7) mean of Delta", mean, deltas)
    mean_agrees("(A7) variance of Delta", sd**2, (deltas - deltas.mean()) ** 2)
    mean_agrees("(A7) P(Delta > 0)", positive, deltas > 0, bias=0.02)
    shifted = theory.delta_given_model(training + 5, MU + 5, SIGMA,
                                       source_mean=M + 5, source_covariance=C,
                                       n_original=n)  # fmt: skip
    np.testing.assert_allclose(shifted, (mean, sd, positive), rtol=1e-9)


def test_delta_of_a_high_dimension_keeps_its_probability_where_its_mean_underflows():
    d = 400
    training = np.random.default_rng(24).standard_normal((50, d))
    kwargs = {"source_mean": 0.0, "source_covariance": np.eye(d)}
    mean, sd, positive = theory.delta_given_model(
        training, np.zeros(d), 0.95 * np.eye(d), n_original=1e60, **kwargs
    )
    assert max(abs(mean), sd) < 1e-200
    assert 0 <= positive <= 1
    with pytest.raises(ConfigError, match=r"N_eff = .* a normal law needs 30"):
        theory.delta_given_model(training, np.zeros(d), 0.5 * np.eye(d), n_original=1e4, **kwargs)


@pytest.mark.parametrize(("n", "w"), [(100, 1.4), (10000, 1.0), (1000000, 0.6), (10000, 0.5)])
def test_typical_overlap_where_few_points_carry_it(n, w):
    # Isotropic: only |x|² matters, so N log overlaps are N chi² draws. Less than 2/beta_c in the
    # logarithm is promised; the exact mean is farther away, more so deep in the frozen phase.
    rng, d = np.random.default_rng(25), 100
    values = [np.logaddexp.reduce(-rng.chisquare(d, n) / (2 * w)) - math.log(n) for _ in range(20)]
    simulated = np.mean(values) - d / 2 * math.log(2 * math.pi * w)
    typical, beta_c = theory.original_overlap_typical(np.full(d, w), n)
    annealed = -d / 2 * math.log(2 * math.pi * (w + 1))
    print(f"\n| (A8) N = {n:g}, w = {w} | {simulated:.2f} | {typical:.2f} | {annealed:.2f} |"
          f" beta_c {beta_c:.2f}", end="")  # fmt: skip
    assert beta_c < 1
    assert abs(typical - simulated) < 2 / beta_c
    assert annealed - simulated > abs(typical - simulated)


def test_typical_overlap_of_many_points_is_their_mean():
    w = np.array([0.5, 0.8, 2.0])
    typical, beta_c = theory.original_overlap_typical(w, [1e9, math.inf])
    np.testing.assert_allclose(typical, -np.log(2 * math.pi * (w + 1)).sum() / 2, rtol=1e-13)
    assert beta_c[0] > 1
    assert beta_c[1] == math.inf
