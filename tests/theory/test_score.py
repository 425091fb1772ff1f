"""The exact score, samplers on a Gaussian score and the sample covariance, by other routes."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import sqrtm
from scipy.optimize import brentq

from agreement import mean_agrees
from genonset import theory


def own_weights(t, n, std, runs, seed, noise_scale=1.0):
    """Posterior weight of the own point, training sets drawn anew."""
    rng, std = np.random.default_rng(seed), np.asarray(std)
    a, b2 = math.exp(-t), -noise_scale * math.expm1(-2 * t)
    for _ in range(runs):
        x = rng.standard_normal((n, len(std))) * std
        noisy = a * x[0] + math.sqrt(b2) * rng.standard_normal(len(std))
        logits = -((noisy - a * x) ** 2).sum(1) / (2 * b2)
        yield math.exp(logits[0] - np.logaddexp.reduce(logits))


def test_collapse_time_solves_the_information_equation():
    spectrum, n, scale = np.array([4.0, 2.0, 1.0, 0.5, 0.25]), 50, 0.7

    def excess(t):
        a2, b2 = math.exp(-2 * t), -scale * math.expm1(-2 * t)
        noisy = np.linalg.slogdet(a2 * np.diag(spectrum) + b2 * np.eye(5))[1]
        return (noisy - 5 * math.log(b2)) / 2 - math.log(n)

    expected = brentq(excess, 1e-6, 5, xtol=1e-14)
    value = theory.collapse_time(n, spectrum=spectrum, noise_scale=scale)
    assert value == pytest.approx(expected, rel=1e-12)


def test_collapse_time_is_where_the_own_point_wins_half_of_the_time():
    t_c = theory.collapse_time(2000, 64)
    shares = [
        np.mean([w > 0.5 for w in own_weights(f * t_c, 2000, np.ones(64), 200, seed=30)])
        for f in (0.8, 1.05, 1.4)
    ]
    print(f"\n| (D2) d = 64, n = 2000: share at .8, 1.05, 1.4 t_C | {shares} |", end="")
    assert shares[0] > 0.75
    assert abs(shares[1] - 0.5) < 0.15
    assert shares[2] < 0.25


def test_own_weight_probability():
    # the stated bias, and four binomial standard errors
    spectrum = 64 / np.arange(1, 65) / (1 / np.arange(1, 65)).sum()
    cases = {"isotropic": np.ones(64), "1/k": spectrum}
    for name, c in cases.items():
        t_c = theory.collapse_time(1000, spectrum=c)
        for f in (0.7, 1.0, 1.3):
            wins = [w > 0.5 for w in own_weights(f * t_c, 1000, np.sqrt(c), 300, seed=31)]
            predicted = theory.own_weight_probability(f * t_c, 1000, spectrum=c)
            mean_agrees(f"(D3) {name}, d = 64, n = 1000, t = {f:g} t_C", predicted, wins, bias=0.1)


def test_own_weight_of_noise_scale_and_std_enter_as_one_ratio():
    one = theory.own_weight_probability(0.4, 100, 16, noise_scale=4.0, std=2.0)
    assert one == pytest.approx(theory.own_weight_probability(0.4, 100, 16), rel=1e-13)
    wins = [w > 0.5 for w in own_weights(0.4, 100, np.full(16, 2.0), 2000, 32, noise_scale=4.0)]
    mean_agrees("(D3) d = 16, n = 100, std 2, noise 4", one, wins, bias=0.1)


def test_own_log_odds_above_collapse_are_the_logit_of_the_own_weight_probability():
    # 1/2 is the median: where the annealed odds are 0, (D3) has P(w > 1/2) = 1/2
    t_c = theory.collapse_time(999, spectrum=[3, 1, 0.2])
    found = theory.own_log_odds([t_c, 2 * t_c], 1000, spectrum=[3, 1, 0.2])
    assert found.annealed[0] == pytest.approx(0, abs=1e-10)
    assert theory.own_weight_probability(t_c, 1000, spectrum=[3, 1, 0.2]) == pytest.approx(0.5)
    assert found.typical[1] == found.annealed[1] < 0


def test_typical_own_log_odds_by_quadrature_and_a_root_of_their_own():
    # the freezing of ln Z_rest from its annealed free energy at all b, by quadrature
    c, n, t = 1.7, 500, 0.08
    v, dim = math.expm1(2 * t), 30
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()

    def phi(b):  # mean over y of ln E_x exp(-b (y - x)^2/(2 v)), by quadrature over x, then y
        y, x = math.sqrt(c + v) * nodes[:, None], np.linspace(-12, 12, 8001)
        logs = -(x**2) / (2 * c) - b * (y - x) ** 2 / (2 * v) + math.log(x[1] - x[0])
        inner = np.logaddexp.reduce(logs - math.log(2 * math.pi * c) / 2, axis=1)
        return math.log(n - 1) + dim * float(weights @ inner)

    def entropy(b, h=1e-4):
        return phi(b) - b * (phi(b * (1 + h)) - phi(b * (1 - h))) / (2 * b * h)

    b = brentq(entropy, 1e-3, 1, xtol=1e-8)
    found = theory.own_log_odds(t, n, dim, std=math.sqrt(c))
    assert 0 < b < 1
    assert found.typical == pytest.approx(-dim / 2 - phi(b) / b, rel=1e-5)


def test_own_log_odds_by_simulation():
    # medians of 300 training sets; the random-energy law neglects what the edge of its energies
    # adds, at most 2/b, and a median over 300 has a standard error of up to 0.4
    rng = np.random.default_rng(35)
    for dim, n, t in ((64, 1000, 0.1), (64, 1000, 0.4), (64, 1000, 1.2), (16, 200, 0.1)):
        v, odds = math.expm1(2 * t), []
        for _ in range(300):
            x = rng.standard_normal((n, dim))
            logits = -((x[0] + math.sqrt(v) * rng.standard_normal(dim) - x) ** 2).sum(1) / (2 * v)
            odds.append(logits[0] - np.logaddexp.reduce(logits[1:]))
        found = theory.own_log_odds(t, n, dim)
        print(f"\n| own term, d = {dim}, n = {n}, t = {t} | {np.median(odds):.2f} | "
              f"{found.typical:.2f} ({found.annealed:.2f} annealed) |", end="")  # fmt: skip
        below = np.median(odds) - found.typical
        assert -0.4 < below < 0.4 + (found.freezing < 1) * 2 / found.freezing
        if t == 0.1:
            assert abs(np.median(odds) - found.annealed) > 0.5 * found.annealed


def test_clone_agreement_by_simulation():
    # two clones of one noisy point of a class at +-mu: both classes drawn from its posterior
    rng, kappa = np.random.default_rng(33), np.array([0.3, 1.0, 2.0])
    for k in kappa:
        x = k + rng.standard_normal(400_000)  # in units of the noisy width, own class at +
        p = 1 / (1 + np.exp(-2 * k * x))
        same = (rng.random(x.shape) < p) == (rng.random(x.shape) < p)
        mean_agrees(f"(D6) kappa = {k:g}", theory.clone_agreement(k), same)


def test_speciation_and_relaxation_times_solve_their_definitions():
    t = theory.speciation_time(30.0, 2.0, 0.6)
    a2, b2 = math.exp(-2 * t), -0.6 * math.expm1(-2 * t)
    assert a2 * 30.0 == pytest.approx(a2 * 2.0 + b2, rel=1e-12)
    t = theory.relaxation_time(7.0, 0.6)
    assert math.exp(-2 * t) * 7.0 == pytest.approx(-0.6 * math.expm1(-2 * t), rel=1e-12)


# samplers


C, T, SCALE, M = 2.5, 1.2, 0.8, 0.7
SET = {"c": C, "horizon": T, "noise_scale": SCALE, "mean": M}
START = {"start_mean": 0.4, "start_variance": 1.5}


def variance_at(t):
    return math.exp(-2 * t) * C - SCALE * math.expm1(-2 * t)


@pytest.mark.parametrize("method", ["ode", "sde"])
def test_continuous_samplers_integrate_their_equations(method):
    # backward in time; the moments of the reverse diffusion obey ordinary equations of their own
    noise = 1.0 if method == "sde" else 0.0

    def backward(s, state):
        t = T - s
        mean, variance = state
        score = -(1 + noise) * SCALE / variance_at(t)
        drift = mean + score * (mean - math.exp(-t) * M)
        return drift, 2 * (1 + score) * variance + 2 * SCALE * noise

    end = solve_ivp(backward, (0, T), (0.4, 1.5), rtol=1e-11, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(theory.sampler_moments(method, **SET, **START), end, rtol=1e-8)


@pytest.mark.parametrize("grid", ["uniform", "quadratic"])
@pytest.mark.parametrize("method", ["ddpm", "ddim", "euler", "heun"])
def test_discrete_samplers_by_trajectories(method, grid):
    # textbook steps on points; a sample that has the start's moments exactly leaves no noise but
    # that of DDPM, which is added to the variance in closed form
    steps = 6
    k = np.arange(steps, -1, -1) / steps
    times = T * (k if grid == "uniform" else k**2)
    x = 0.4 + math.sqrt(1.5) * np.array([-1.0, 1.0])
    extra = 0.0

    def slope(x, t):
        return -x + SCALE * (x - math.exp(-t) * M) / variance_at(t)

    for t, s in pairwise(times):
        a_t, a_s = math.exp(-t), math.exp(-s)
        b_t, b_s = (math.sqrt(max(0.0, -SCALE * math.expm1(-2 * v))) for v in (t, s))
        gain = a_t * C / variance_at(t)
        clean = M + gain * (x - a_t * M)
        if method == "ddpm":
            b_ts2 = SCALE * (1 - (a_t / a_s) ** 2)
            a, b = a_s * b_ts2 / b_t**2, (a_t / a_s) * b_s**2 / b_t**2
            x = a * clean + b * x
            extra = (a * gain + b) ** 2 * extra + b_s**2 * b_ts2 / b_t**2
        elif method == "ddim":
            x = a_s * clean + b_s / b_t * (x - a_t * clean)
        else:
            first = slope(x, t)
            guess = x - (t - s) * first
            x = guess if method == "euler" else x - (t - s) / 2 * (first + slope(guess, s))
    value = theory.sampler_moments(method, n_steps=steps, grid=grid, **SET, **START)
    np.testing.assert_allclose(value, (x.mean(), x.var() + extra), rtol=1e-12)


def test_closed_forms_of_ddpm_and_ddim():
    # (E3), (E4): sums and products over the grid
    clock = SCALE * np.expm1(2 * T * np.arange(9) / 8)
    top, excess = clock[-1], 1.5 * math.exp(2 * T) - (C + clock[-1])
    steps = (C / (C + clock[:-1])) ** 2 * np.diff(clock) ** 2 * C / (clock[1:] * (C + clock[1:]))
    ddpm = C + excess * (C / (C + top)) ** 2 - steps.sum()
    ratio = (C + np.sqrt(clock[:-1] * clock[1:])) / (C + clock[1:])
    ddim = 1.5 * math.exp(2 * T) * np.prod(ratio**2)
    for method, expected in (("ddpm", ddpm), ("ddim", ddim)):
        value = theory.sampler_moments(method, n_steps=8, **SET, **START)
        assert value.variance == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_orders(method, order):
    exact = np.array(theory.sampler_moments("ode", **SET, **START))
    errors = [
        np.abs(np.array(theory.sampler_moments(method, n_steps=k, **SET, **START)) - exact)
        for k in (200, 400)
    ]
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), order, atol=0.06)


@pytest.mark.parametrize(
    ("method", "limit", "factor"), [("ddpm", "sde", 2.0), ("ddim", "ode", 0.5)]
)
def test_logarithm_of_the_uniform_grid_and_its_cure(method, limit, factor):
    # (E6): with the start at the exact marginal the error is -factor lambda T (ln K)/K, any c
    start = {"start_mean": math.exp(-T) * M, "start_variance": variance_at(T)}
    exact = theory.sampler_moments(limit, **SET, **start).variance

    def error(k, grid):
        return (
            theory.sampler_moments(method, n_steps=k, grid=grid, **SET, **start).variance - exact
        )

    slope = (4000 * error(4000, "uniform") - 1000 * error(1000, "uniform")) / math.log(4)
    assert slope == pytest.approx(-factor * SCALE * T, rel=0.03)
    assert error(4000, "quadratic") * 4000 == pytest.approx(
        error(1000, "quadratic") * 1000, rel=0.02
    )


# the sample covariance


def test_divergences_of_the_sample_covariance():
    rng, d, n = np.random.default_rng(34), 4, 12
    c = np.diag([3.0, 1.0, 0.5, 0.1])
    to_source, from_source = [], []
    for _ in range(6000):
        x = rng.standard_normal((n, d)) @ np.sqrt(c)
        law, mean = np.cov(x.T), x.mean(0)
        ratio = np.linalg.solve(c, law)
        log_det = np.linalg.slogdet(ratio)[1]
        to_source.append((np.trace(ratio) - d - log_det + mean @ np.linalg.solve(c, mean)) / 2)
        back = np.trace(np.linalg.inv(ratio)) + mean @ np.linalg.solve(law, mean)
        from_source.append((back - d + log_det) / 2)
    one, other = theory.sample_covariance_kl(d, n)
    mean_agrees("(E9) to source, d = 4, n = 12", one, to_source)
    mean_agrees("(E9) from source, d = 4, n = 12", other, from_source)


@pytest.mark.parametrize("gamma", [1.25, 2.0, 10.0])
def test_divergence_rates_are_the_limit_of_the_means(gamma):
    exact = np.array(theory.sample_covariance_kl(4000, 4000 * gamma)) / 4000
    np.testing.assert_allclose(theory.sample_covariance_kl_rate(gamma), exact, rtol=6e-3)


def test_divergence_for_huge_n_keeps_its_digits():
    value = theory.sample_covariance_kl(7, 1e12)
    np.testing.assert_allclose(value, 7 * 10 / 4e12, rtol=1e-4)


def test_wasserstein_dimension():
    import torch

    from genonset.distances import bures_wasserstein
    from genonset.sources import Gaussian

    rng, n = np.random.default_rng(35), 1000
    for name, c in (("flat", np.ones(8)), ("1/k²", 1 / np.arange(1, 9.0) ** 2)):
        true = Gaussian(torch.zeros(8).double(), torch.diag(torch.from_numpy(c)))
        values = []
        for _ in range(200):
            x = rng.standard_normal((n, 8)) * np.sqrt(c)
            law = Gaussian(torch.from_numpy(x.mean(0)), torch.from_numpy(np.cov(x.T)))
            values.append(n * bures_wasserstein(law, true) ** 2 / c.sum())
        dimension = theory.wasserstein_dimension(c)
        mean_agrees(f"(C1) {name}, d = 8, n = 1000", dimension, values, bias=0.01 * dimension)


def test_dimensions_of_a_rotated_covariance():
    rng, c = np.random.default_rng(36), np.array([3.0, 3.0, 1.0, 0.1])
    axes = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    matrix = axes @ np.diag(c) @ axes.T
    rank = np.trace(matrix) / np.linalg.norm(matrix, 2)
    assert theory.effective_rank(c) == pytest.approx(rank, rel=1e-12)
    ratio = np.trace(matrix) ** 2 / np.linalg.norm(matrix) ** 2
    assert theory.participation_ratio(c) == pytest.approx(ratio, rel=1e-12)
    d_eff = np.trace(np.linalg.solve(matrix + 0.3**2 * np.eye(4), matrix))
    assert theory.effective_dimension(c, 0.3) == pytest.approx(d_eff, rel=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_sample_overlap(gamma):
    rng, d = np.random.default_rng(37), 150
    n, values = round(gamma * 150), []
    for _ in range(4):
        roots = [sqrtm(x.T @ x / n).real for x in rng.standard_normal((2, n, d))]
        values.append((roots[0] * roots[1]).sum() / d)
    mean_agrees(f"q, gamma = {gamma:g}, d = 150", theory.sample_overlap(gamma), values, bias=3e-3)
