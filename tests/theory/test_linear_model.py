"""The linear one-step model against simulation: numpy's least squares, fixed seeds.

Exact statements must agree within four standard errors of the mean over runs (false alarm once in
16,000 seeds); limits n, d -> infinity within that and a stated finite-size bias.
"""

import math

import numpy as np
import pytest

from agreement import mean_agrees, median_agrees
from genonset import theory

HORIZON, NOISE = 2.0, math.exp(-4)
A, B2 = math.exp(-2.0), -NOISE * math.expm1(-4.0)
U = B2 / A**2
R = 1 / (1 + U)
ALPHA = R / A
START = A**2 + B2


def fits(d, n, runs, seed, draws=1, spectrum=None):
    """Training sets, and the slopes of least squares of minimum norm fitted on them."""
    rng = np.random.default_rng(seed)
    std = np.ones(d) if spectrum is None else np.sqrt(spectrum)
    for _ in range(runs):
        x = rng.standard_normal((n, d)) * std
        rows = np.tile(x, (draws, 1))
        noisy = A * rows + math.sqrt(B2) * rng.standard_normal(rows.shape)
        slope = np.linalg.lstsq(noisy - noisy.mean(0), rows - rows.mean(0), rcond=None)[0].T
        yield x, slope


def laws(d, n, runs, seed):
    """Eigenvalues of the generated covariance, with the true start."""
    for _, slope in fits(d, n, runs, seed):
        yield START * np.linalg.svd(slope, compute_uv=False) ** 2


@pytest.mark.parametrize(("d", "n", "runs"), [(5, 12, 4000), (8, 40, 2000), (8, 5, 4000)])
def test_second_moment(d, n, runs):
    traces = [(slope**2).sum() / d for _, slope in fits(d, n, runs, seed=1)]
    predicted = theory.one_step_second_moment(d, n, HORIZON, NOISE)
    mean_agrees(f"(B1), (B2) d = {d}, n = {n}", predicted, traces)


def test_second_moment_depends_on_noise_over_variance():
    rng = np.random.default_rng(2)
    traces = []
    for _ in range(3000):
        x = 3 * rng.standard_normal((15, 4))
        noisy = A * x + math.sqrt(B2) * rng.standard_normal(x.shape)
        slope = np.linalg.lstsq(noisy - noisy.mean(0), x - x.mean(0), rcond=None)[0]
        traces.append((slope**2).sum() / 4)
    predicted = theory.one_step_second_moment(4, 15, HORIZON, NOISE, variance=9.0)
    mean_agrees("(B1) variance 9", predicted, traces)


def test_log_mean_determinant():
    ratios = [
        math.exp(2 * np.linalg.slogdet(slope)[1] - 2 * 3 * math.log(ALPHA))
        for _, slope in fits(3, 20, 6000, seed=3)
    ]
    log_ratio = theory.one_step_log_mean_determinant(3, 20, HORIZON, NOISE) - 6 * math.log(ALPHA)
    mean_agrees("(B3) d = 3, n = 20, over det A²", math.exp(log_ratio), ratios)


def test_determinant_excess_is_the_limit_of_the_exact_mean():
    # Annealed and quenched agree for isotropic data; the sum (B3) knows nothing of (B4).
    for gamma in (1.05, 1.3, 1.9, 3.0):
        exact = theory.one_step_log_mean_determinant([2000, 8000], [2000 * gamma, 8000 * gamma],
                                                     HORIZON, NOISE)  # fmt: skip
        rates = exact / np.array([2000, 8000]) - 2 * math.log(ALPHA)
        excess = theory.one_step_log_determinant_excess(gamma, U)
        assert abs(rates[1] - excess) < 2e-3  # O(ln d/d)
        assert abs(rates[1] - excess) < 0.5 * abs(rates[0] - excess) + 1e-4


def test_eigenvalues_of_the_slope_leave_zero_at_the_critical_size():
    # Moduli of slope/alpha - 1 have the distribution gamma rho²/(rho² + u) up to their edge
    # sqrt(u/(gamma - 1)), which reaches -1, hence the slope 0, at gamma = 1 + u. Eigenvalues repel
    # one another, so that shares of 300 scatter by less than 1 %.
    for gamma in (1.5, 1 + U, 4.0):
        ((_, slope),) = fits(300, round(300 * gamma), 1, seed=4)
        moduli = np.abs(np.linalg.eigvals(slope / ALPHA) - 1)
        edge = math.sqrt(U / (gamma - 1))
        for rho in np.array([0.3, 0.6, 0.9]) * edge:
            share = gamma * rho**2 / (rho**2 + U)
            assert (moduli < rho).mean() == pytest.approx(share, abs=0.025)
        assert (moduli < 1.1 * edge).all()
    assert theory.one_step_critical_size(HORIZON, NOISE, dim=300) / 300 == pytest.approx(1 + U)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [1, 2, 4])
def test_smallest_singular_value_tells_the_critical_size(draws):
    # Median s_min from d = 40 to 160: below n* it falls like a power of d, above it stays.
    ratio = theory.one_step_critical_size(HORIZON, NOISE, dim=100, n_noise_draws=draws) / 100
    assert ratio == pytest.approx(1 + U / draws)
    falls = []
    for gamma in (1 + 0.5 * (ratio - 1), ratio + 0.5 * (ratio - 1) + 0.4):
        medians = [
            np.median([
                np.linalg.svd(slope, compute_uv=False)[-1]
                for _, slope in fits(d, round(gamma * d), 60, seed=5, draws=draws)
            ])
            for d in (40, 160)
        ]  # fmt: skip
        falls.append(medians[0] / medians[1])
    print(
        f"\n| s_min, R = {draws} | falls by {falls[0]:.1f} below, {falls[1]:.1f} above |", end=""
    )
    assert falls[0] > 2.2
    assert falls[1] < 1.6


@pytest.mark.slow
def test_critical_size_and_typical_divergence_of_a_power_law():
    spectrum = 60 / np.arange(1, 61) / (1 / np.arange(1, 61)).sum()
    critical = theory.one_step_critical_size(HORIZON, NOISE, spectrum=spectrum)
    for times in (2, 4):
        n = round(times * critical)
        values = []
        start = np.diag(A**2 * spectrum + B2)  # the true one; an estimated one adds to the error
        for _, slope in fits(60, n, 60, seed=6, spectrum=spectrum):
            law = slope @ start @ slope.T
            ratio = np.linalg.solve(law, np.diag(spectrum))
            values.append((np.trace(ratio) - 60 - np.linalg.slogdet(ratio)[1]) / 2)
        predicted = theory.one_step_typical_kl(n, HORIZON, NOISE, spectrum=spectrum)
        median_agrees(f"(B8) c ~ 1/k, d = 60, n = {times} n*", predicted, values,
                      bias=0.06 * predicted)  # fmt: skip


@pytest.mark.parametrize("gamma", [1.2, 2.0, 5.0])
def test_affinity_and_divergences(gamma):
    d = 200
    found = []
    for w in laws(d, round(gamma * d), 6, seed=7):
        log_affinity = 0.25 * (np.log(w) - 2 * np.log((1 + w) / 2)).sum()
        to_source = (w - 1 - np.log(w)).sum() / (2 * d)
        from_source = (1 / w - 1 + np.log(w)).sum() / (2 * d)
        found.append((math.exp(log_affinity / d), to_source, from_source))
    rate, to_source, from_source = np.transpose(found)
    mean_agrees(f"(B6) gamma = {gamma:g}, d = 200", theory.one_step_affinity_rate(gamma, U), rate,
                bias=0.003)  # fmt: skip
    mean_agrees(f"(B7) gamma = {gamma:g}, d = 200", theory.one_step_kl_to_source(gamma, U),
                to_source, bias=0.02)  # fmt: skip
    if gamma > 1 + U + 0.5:
        predicted = theory.one_step_kl_from_source(gamma, U)
        median_agrees(f"(B8) gamma = {gamma:g}, d = 200", predicted, from_source, bias=0.02)


@pytest.mark.parametrize("gamma", [1.1, 1.6, 3.0])
@pytest.mark.parametrize("y", [0.3, 1.4, 4.0])
def test_potential_and_quadratic_forms_solve_the_deterministic_equivalent(gamma, y):
    # (B10) iterated on a Marchenko-Pastur grid: another derivation, and another numerical route.
    w2 = (y * ALPHA) ** 2
    theta = np.pi * np.arange(1, 4000) / 4000
    c = 1 / gamma
    x = 1 + c + 2 * math.sqrt(c) * np.cos(theta)
    weight = 2 * np.sin(theta) ** 2 / x / 4000
    assert weight.sum() == pytest.approx(1, abs=1e-9)
    tau = (U * ALPHA**2) / (gamma * x)
    g, p = 1.0 / w2, 1.0
    for _ in range(4000):
        g = (weight / (w2 * p + ALPHA**2 / (1 + tau * g))).sum()
        p = 1 + (weight * tau / (w2 * (1 + tau * g) + ALPHA**2 / p)).sum()
    log_det = (weight * (np.log(w2 * p + ALPHA**2 / (1 + tau * g)) + np.log1p(tau * g))).sum()
    log_det -= w2 * g * (p - 1)
    potential = theory.one_step_log_potential(gamma, U, y)
    assert potential + 2 * math.log(ALPHA) == pytest.approx(log_det, rel=1e-7)
    eps = math.sqrt(w2 * START)
    own = 1 / (w2 * (1 + tau * g) + ALPHA**2 / p)
    train = (weight * x * (1 - w2 * own)).sum() + (1 - 1 / gamma) * (1 - R) * g / START
    forms = theory.one_step_quadratic_forms(gamma, U, eps)
    np.testing.assert_allclose(forms, [train, g / START], rtol=1e-6)


def test_public_value_of_the_log_determinant():
    value = theory.one_step_log_potential(2.0, U, 1 / (math.sqrt(START) * ALPHA))
    assert value + 2 * math.log(ALPHA) == pytest.approx(3.90757, rel=1e-5)


@pytest.mark.parametrize("gamma", [1.2, 3.0])
def test_potential_and_quadratic_forms_of_a_simulated_model(gamma):
    d, y = 200, R**-0.5
    n = round(gamma * d)
    potentials, own, fresh = [], [], []
    rng = np.random.default_rng(8)
    for x, slope in fits(d, n, 4, seed=9):
        s = np.linalg.svd(slope / ALPHA, compute_uv=False)
        potentials.append(np.log(s**2 + y**2).sum() / d)
        law = START * slope @ slope.T + np.eye(d)
        centre = x.mean(0)
        for points, values in ((x - centre, own), (rng.standard_normal((400, d)), fresh)):
            values.append((points * np.linalg.solve(law, points.T).T).sum(1).mean() / d)
    mean_agrees(f"(B5) gamma = {gamma:g}, d = 200",
                theory.one_step_log_potential(gamma, U, y), potentials, bias=0.003)  # fmt: skip
    training, other = theory.one_step_quadratic_forms(gamma, U, 1.0)
    mean_agrees(f"(B12) training, gamma = {gamma:g}, d = 200", training, own, bias=0.004)
    mean_agrees(f"(B12) fresh, gamma = {gamma:g}, d = 200", other, fresh, bias=0.004)


@pytest.mark.parametrize(("gamma", "x"), [(0.9, 0.05), (1.0, U), (3.0, U / 3)])
def test_ridge(gamma, x):
    d, rng = 200, np.random.default_rng(10)
    n = round(gamma * d)
    slopes, spreads = [], []
    for _ in range(8):
        clean = rng.standard_normal((n, d))
        noisy = A * clean + math.sqrt(B2) * rng.standard_normal((n, d))
        gram = noisy.T @ noisy + n * x * START * np.eye(d)
        slope = np.linalg.solve(gram, noisy.T @ clean).T
        slopes.append(np.trace(slope) / (d * ALPHA))
        spreads.append(START * (slope**2).sum() / d)
    slope, spread = theory.ridge_moments(gamma, x, U)
    mean_agrees(f"(B14) slope, gamma = {gamma:g}", slope, slopes, bias=0.003)
    mean_agrees(f"(B14) spread, gamma = {gamma:g}", spread, spreads, bias=0.005 * spread)


@pytest.mark.parametrize("gamma", [2.0, 5.0])
def test_many_noise_draws(gamma):
    d, rng = 200, np.random.default_rng(11)
    to_source, from_source = [], []
    for _ in range(8):
        x = rng.standard_normal((round(gamma * d), d))
        eigenvalues = np.linalg.eigvalsh(np.cov(x.T))
        w = START * (A * eigenvalues / (A**2 * eigenvalues + B2)) ** 2
        to_source.append((w - 1 - np.log(w)).mean() / 2)
        from_source.append((1 / w - 1 + np.log(w)).mean() / 2)
    one, other = theory.many_draws_kl(gamma, U)
    mean_agrees(f"(B11) to source, gamma = {gamma:g}", one, to_source, bias=0.003)
    mean_agrees(f"(B11) from source, gamma = {gamma:g}", other, from_source, bias=0.012 * other)


def gaps(spectrum, n, eps, runs, law_of, seed):
    """Log-likelihood gaps of runs, in expectation over fresh points, without their noise."""
    rng = np.random.default_rng(seed)
    for _ in range(runs):
        x = rng.standard_normal((n, len(spectrum))) * np.sqrt(spectrum)
        mean, law = law_of(x, rng)
        inverse = np.linalg.inv(law + eps**2 * np.eye(len(spectrum)))
        own = x - mean
        shift = np.asarray(mean)
        fresh = np.trace(inverse * spectrum) + shift @ inverse @ shift
        # E of the true quadratic form is subtracted from both: same mean, less noise
        control = np.linalg.inv(np.diag(spectrum) + eps**2 * np.eye(len(spectrum)))
        noise = (x * (x @ control)).sum(1).mean() - np.trace(control * spectrum)
        yield (fresh - (own * (own @ inverse)).sum(1).mean() + noise) / 2


def test_likelihood_gap_of_the_sample_covariance():
    spectrum = 10 / np.arange(1, 11)
    n, eps = 1000, 0.5
    values = list(gaps(spectrum, n, eps, 600, lambda x, _: (x.mean(0), np.cov(x.T)), seed=12))
    predicted = theory.likelihood_gap(spectrum, n, eps)
    bias = 2 * theory.effective_dimension(spectrum, eps) / n * predicted
    mean_agrees("(B13) sample covariance, d = 10, n = 1000", predicted, values, bias=bias)


def test_likelihood_gap_of_the_one_step_model():
    spectrum = 8 / np.arange(1, 9)
    n, eps, t, scale = 1000, 0.5, 1.0, 0.5
    a, b2 = math.exp(-t), -scale * math.expm1(-2 * t)

    def law_of(x, rng):
        noisy = a * x + math.sqrt(b2) * rng.standard_normal(x.shape)
        slope = np.linalg.lstsq(noisy - noisy.mean(0), x - x.mean(0), rcond=None)[0].T
        centre = x.mean(0) + slope @ (a * x.mean(0) - noisy.mean(0))
        return centre, slope @ (a**2 * np.diag(spectrum) + b2 * np.eye(8)) @ slope.T

    # the control of `gaps` belongs to another law; it stays an unbiased zero
    values = list(gaps(spectrum, n, eps, 1500, law_of, seed=13))
    predicted = theory.likelihood_gap(spectrum, n, eps, "one_step", t, scale)
    mean_agrees("(B13) one-step, d = 8, n = 1000", predicted, values, bias=0.03 * predicted)
