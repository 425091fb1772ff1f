"""Samplers: their closed-form laws against the theory's values, SciPy and their own samples."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from genonset import seeds
from genonset.denoisers import (
    AffineDenoiser,
    Denoiser,
    ExactDenoiser,
    fit_linear,
    population_linear,
)
from genonset.errors import ConfigError
from genonset.noise import OrnsteinUhlenbeck, Rectified, VariancePreserving, at_horizon
from genonset.samplers import (
    DDIM,
    DDPM,
    Euler,
    EulerMaruyama,
    Heun,
    OneStep,
    estimated_start,
    population_start,
)
from genonset.sources import Empirical, Gaussian, GaussianMixture
from test_denoisers import GivenNoise, rows

TRAINING = torch.tensor([[0.0, 1], [1, 0], [2, 1], [1, 3], [-1, 0.5]], dtype=torch.float64)
TOY = GivenNoise(
    [[0.5, -0.2], [-0.3, 0.8], [0.1, 0.4], [-0.7, 0.1], [0.2, -0.6]], horizon=0.5, noise_scale=0.3
)


def test_law_of_the_toy_of_the_theory_note():
    denoiser, x_t = fit_linear(TRAINING, TOY, generator=torch.Generator())
    start = estimated_start(TRAINING, x_t, TOY, "scalar")
    law = OneStep(noise=TOY, start=start).propagate(denoiser)
    assert law.mean.tolist() == pytest.approx([0.612231, 1.01911], rel=1e-5)
    assert float(start.eigenvalues[0]) == pytest.approx(0.667879, rel=1e-5)
    found = law.covariance
    assert [float(found[0, 0]), float(found[0, 1]), float(found[1, 1])] == pytest.approx(
        [1.77683, -0.088746, 2.01263], rel=1e-5
    )


@pytest.mark.parametrize("kind", ["scalar", "estimated", "in_sample"])
def test_starts_state_their_covariance(kind):
    denoiser, x_t = fit_linear(TRAINING, TOY, generator=torch.Generator())
    start = estimated_start(TRAINING, x_t, TOY, kind)
    alpha, sigma = at_horizon(TOY)
    expected = {
        "scalar": (alpha**2 * TRAINING.var(0).mean() + sigma**2) * torch.eye(2).double(),
        "estimated": alpha**2 * TRAINING.T.cov() + sigma**2 * torch.eye(2).double(),
        "in_sample": x_t.T.cov(),
    }[kind]
    torch.testing.assert_close(start.covariance, expected)
    torch.testing.assert_close(start.mean, alpha * TRAINING.mean(0))
    law = OneStep(noise=TOY, start=start).propagate(denoiser)
    torch.testing.assert_close(law.covariance, denoiser.slope @ expected @ denoiser.slope.T)


def test_samples_follow_the_propagated_law():
    """Mean and covariance within 5 standard errors of 200,000 samples."""
    slope = torch.tensor([[1.0, 0.4], [-0.3, 0.0]], dtype=torch.float64)
    noise = OrnsteinUhlenbeck(horizon=1.0)
    start = Gaussian([0.5, 1.0], torch.tensor([[1.0, 0.5], [0.5, 2.0]]))
    sampler = OneStep(noise=noise, start=start)
    denoiser = AffineDenoiser(torch.tensor([1.0, 2.0]).double(), slope, 1.0)
    drawn = sampler.sample(denoiser, 200_000, generator=seeds.generator(0, "law"))
    law = sampler.propagate(denoiser)
    torch.testing.assert_close(drawn.mean(0), law.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), law.covariance, atol=0.04, rtol=0)


@pytest.mark.parametrize("kind", ["scalar", "estimated", "in_sample"])
@pytest.mark.parametrize("offset", [0.0, 10.0, 1e3, 1e5])
@pytest.mark.parametrize(
    ("n", "options"),
    [(2, {}), (8, {}), (16, {}), (8, {"n_noise_draws": 4}), (8, {"ridge": 0.01}), (40, {})],
)
def test_rank_of_the_law_is_that_of_the_data_at_any_offset(kind, offset, n, options):
    """Rank n - 1 for n <= d, that of the source beyond: H² = 1 and KL = inf hang on it."""
    noise = OrnsteinUhlenbeck(horizon=2.0, noise_scale=math.exp(-4))
    rotation = torch.linalg.qr(rows(16, 16, "rotation")).Q
    for rank in (16, 4):
        factor = rotation[:, :rank]
        for seed in range(5):
            training = offset + rows(n, rank, "training", seed) @ factor.T
            denoiser, x_t = fit_linear(
                training, noise, generator=seeds.generator(seed, "noise"), **options
            )
            start = estimated_start(training, x_t, noise, kind)
            law = OneStep(noise=noise, start=start).propagate(denoiser)
            assert law.rank == min(n - 1, rank)


def test_population_law_is_the_shrunken_source():
    """With the estimated start, Sigma_G = C r, r the signal fraction: theory note (0.2)."""
    values = torch.tensor([3.0, 1.0, 0.2], dtype=torch.float64)
    source, noise = Gaussian(torch.ones(3), values), OrnsteinUhlenbeck(horizon=0.8)
    start = population_start(source, noise, "estimated")
    law = OneStep(noise=noise, start=start).propagate(population_linear(source, noise))
    u = (math.exp(1.6) - 1) / values
    torch.testing.assert_close(law.covariance, torch.diag(values / (1 + u)))
    torch.testing.assert_close(law.mean, source.mean)
    scalar = population_start(source, noise, "scalar")
    alpha, sigma = at_horizon(noise)
    assert float(scalar.eigenvalues[0]) == pytest.approx(alpha**2 * 1.4 + sigma**2)


# Several steps: theory note section 5 and the rows E1 to E4 of section 8, c = 2.5, lambda = 1,
# T = 3, m = 0.7, started at N(0, lambda).

ONE_DIMENSIONAL = Gaussian([0.7], 2.5)
OU = OrnsteinUhlenbeck(horizon=3.0, noise_scale=1.0)
EXACT = ExactDenoiser(ONE_DIMENSIONAL, OU)


def moments(sampler):
    law = sampler.propagate(EXACT)
    return [float(law.mean), float(law.covariance)]


@pytest.mark.parametrize(
    ("kind", "grid", "expected"),
    [
        (DDPM, "uniform", [0.695678, 0.924887]),
        (DDIM, "uniform", [0.663764, 1.08107]),
        (DDPM, "quadratic", [0.695678, 1.16438]),
    ],
)
def test_five_steps_of_the_theory_note(kind, grid, expected):
    assert moments(kind(OU, n_steps=5, grid=grid)) == pytest.approx(expected, rel=5e-6)


def test_quadratic_ddim_of_the_theory_note():
    assert moments(DDIM(OU, n_steps=5))[1] == pytest.approx(1.53168, rel=5e-6)


@pytest.mark.parametrize(
    ("kind", "expected"), [(Euler, [0.452072, 1.72789]), (Heun, [0.646046, 2.52377])]
)
def test_ode_rules_of_the_theory_note(kind, expected):
    """Its rules run to t = 0 itself; ours stop just short of it and then denoise."""
    assert moments(kind(OU, n_steps=5, grid="uniform", stop=1e-9)) == pytest.approx(
        expected, rel=5e-6
    )


def test_fine_steps_reach_the_exact_flows_of_the_theory_note():
    """(E1) the flow, by 300 Heun steps; (E2) the diffusion, extrapolated to zero step."""
    assert moments(Heun(OU, n_steps=300)) == pytest.approx([0.644998, 2.49074], rel=1e-4)
    for kind in (DDPM, EulerMaruyama):
        coarse, middle, fine = (torch.tensor(moments(kind(OU, n_steps=k))) for k in (50, 100, 200))
        first, second = 2 * middle - coarse, 2 * fine - middle
        limit = (4 * second - first) / 3
        assert limit.tolist() == pytest.approx([0.695678, 2.49994], rel=3e-3)


def test_stopping_early_has_its_closed_form():
    """(E2) stopped at t_0, then denoised: the law of the clean mean at t_0."""
    stop, c, m = 0.4, 2.5, 0.7

    def noisy(t):
        return c * math.exp(-2 * t) + 1 - math.exp(-2 * t)

    k = math.exp(-(3 - stop)) * noisy(stop) / noisy(3)
    variance = k**2 + noisy(stop) * (1 - math.exp(-2 * (3 - stop))) / noisy(3)
    mean = math.exp(-stop) * m - k * math.exp(-3) * m
    gain = math.exp(-stop) * c / noisy(stop)
    expected = [m + gain * (mean - math.exp(-stop) * m), gain**2 * variance]
    for kind in (DDPM, EulerMaruyama):
        coarse, fine = (
            torch.tensor(moments(kind(OU, n_steps=k, stop=stop, grid="uniform")))
            for k in (60, 120)
        )
        assert (2 * fine - coarse).tolist() == pytest.approx(expected, rel=2e-3)


MIXTURE = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.5, 0.0]], [0.2, 0.4])
FLOWS = {
    "ou": (OrnsteinUhlenbeck(horizon=2.0), lambda t: -1.0, lambda t: 2.0),
    "rectified": (Rectified(horizon=0.95), lambda t: -1 / (1 - t), lambda t: 2 * t / (1 - t)),
    "vp": (VariancePreserving(), lambda t: -0.05 - 9.95 * t, lambda t: 0.1 + 19.9 * t),
}  # fmt: skip


def mixture_score(x, alpha, sigma):
    """Gradient of the log density of the noisy mixture, from SciPy-style formulas in NumPy."""
    weights = np.array([0.3, 0.7])
    means = alpha * np.array([[-1.0, 0.5], [1.5, 0.0]])
    variances = alpha**2 * np.array([0.2, 0.4]) + sigma**2
    away = means - x
    dense = weights / variances * np.exp(-(away**2).sum(1) / (2 * variances))
    return (dense[:, None] * away / variances[:, None]).sum(0) / dense.sum()


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize(("kind", "steps", "tolerance"), [(Heun, 60, 2e-2), (DDIM, 250, 6e-2)])
def test_deterministic_samplers_follow_the_flow_of_a_mixture(flow, kind, steps, tolerance):
    """Trajectories of dx/dt = f x - g² score / 2 by SciPy, with f and g² as in the literature."""
    process, f, g2 = FLOWS[flow]
    start = torch.randn(4, 2, dtype=torch.float64, generator=seeds.generator(0, "flow"))

    def velocity(t, x):
        alpha, sigma = (float(scale(torch.tensor(t))) for scale in (process.alpha, process.sigma))
        return f(t) * x - 0.5 * g2(t) * mixture_score(x, alpha, sigma)

    sampler, x = kind(process, n_steps=steps), start
    for t, s in zip(sampler.times[:-1], sampler.times[1:], strict=True):
        x = sampler.step(ExactDenoiser(MIXTURE, process), x, t, s, generator=torch.Generator())
    for first, last in zip(start, x, strict=True):
        found = integrate.solve_ivp(
            velocity, (process.horizon, 1e-9), first.numpy(), rtol=1e-9, atol=1e-10
        )
        np.testing.assert_allclose(last, found.y[:, -1], atol=tolerance)


@pytest.mark.parametrize("flow", FLOWS)
def test_stochastic_samplers_follow_the_reverse_diffusion(flow):
    """Moments of the reverse equation by SciPy, from a start that is not the exact one.

    dm/dt = J m + g² mu / S, dv/dt = 2 J v - g², with J = f + g² / S, S the noisy variance.
    """
    process, f, g2 = FLOWS[flow]

    def rates(t, y):
        scale = [float(one(torch.tensor(t).double())) for one in (process.alpha, process.sigma)]
        noisy = scale[0] ** 2 * 2.5 + scale[1] ** 2
        slope = f(t) + g2(t) / noisy
        return [slope * y[0] - g2(t) * scale[0] * 0.7 / noisy, 2 * slope * y[1] - g2(t)]

    found = integrate.solve_ivp(
        rates, (process.horizon, 1e-12), [0.4, 0.5], rtol=1e-10, atol=1e-12
    )
    denoiser = ExactDenoiser(ONE_DIMENSIONAL, process)
    for kind in (DDPM, EulerMaruyama):
        coarse, fine = (
            kind(process, n_steps=k, start=Gaussian([0.4], 0.5)).propagate(denoiser)
            for k in (80, 160)
        )
        law = [2 * fine.mean - coarse.mean, 2 * fine.covariance - coarse.covariance]
        assert [float(part) for part in law] == pytest.approx(found.y[:, -1].tolist(), rel=1e-2)


def test_start_is_the_prior_in_the_shape_of_the_data():
    points = torch.zeros(3, 1, 4, 4)
    process = OrnsteinUhlenbeck(noise_scale=0.25)
    start = DDPM(process).start_for(ExactDenoiser(Empirical(points), process))
    assert start.shape == (16,)
    assert start.eigenvalues.tolist() == [0.25] * 16
    assert not start.mean.any()


def test_start_may_be_given_where_the_law_is_asked_for():
    given = DDIM(OU, n_steps=5, start=Gaussian([0.2], 3.0)).propagate(EXACT)
    asked = DDIM(OU, n_steps=5).propagate(
        EXACT, torch.tensor([0.2]).double(), torch.tensor([[3.0]]).double()
    )
    torch.testing.assert_close(given.mean, asked.mean)
    torch.testing.assert_close(given.covariance, asked.covariance)


class Shapeless(Denoiser):
    def forward(self, x_t, t):
        return x_t


def test_refusals():
    with pytest.raises(ConfigError, match=r"grid of uniform, .*got n_steps=0"):
        DDPM(OU, n_steps=0)
    with pytest.raises(ConfigError, match=r"eta in \[0, 1\].*eta=2"):
        DDIM(OU, eta=2.0)
    with pytest.raises(ConfigError, match=r"stop=3\.0"):
        Heun(OU, stop=3.0)
    with pytest.raises(ConfigError, match=r"Shapeless.*start=Gaussian.*denoiser\.shape"):
        Heun(OU).sample(Shapeless(), 3, generator=torch.Generator())
    with pytest.raises(ConfigError, match="not affine"):
        Heun(OU).propagate(ExactDenoiser(MIXTURE, OU))
    affine = AffineDenoiser(torch.zeros(1).double(), torch.eye(1).double(), 3.0)
    with pytest.raises(ConfigError, match="fitted at time"):
        Heun(OU).propagate(affine)
    assert float(DDPM(OU, n_steps=1).propagate(affine).covariance) == pytest.approx(1.0)
