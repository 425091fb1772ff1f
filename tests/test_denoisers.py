"""The linear model against the normal equations, the theory's toys and its exact moments."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge

from genonset import seeds
from genonset.denoisers import (
    AffineDenoiser,
    ExactDenoiser,
    fit_linear,
    population_linear,
    score,
)
from genonset.errors import ConfigError, DataError
from genonset.noise import OrnsteinUhlenbeck, at_horizon
from genonset.sources import Empirical, Gaussian

PAPER = OrnsteinUhlenbeck(horizon=2.0, noise_scale=math.exp(-4))


class GivenNoise(OrnsteinUhlenbeck):
    """Noise whose draws are given, to compare with worked examples."""

    def __init__(self, xi, **options):
        super().__init__(**options)
        object.__setattr__(self, "xi", torch.tensor(xi, dtype=torch.float64))

    def perturb(self, x_0, t, *, generator):
        return self.alpha(t) * x_0 + self.sigma(t) * self.xi


def rows(n, d, *names, spread=None):
    points = torch.randn(n, d, dtype=torch.float64, generator=seeds.generator(0, *names))
    return points if spread is None else points * spread


def test_toy_regression_of_the_theory_note():
    # Section 8, row B0: numbers worked out independently of this package.
    training = torch.tensor([[0.0, 1], [1, 0], [2, 1], [1, 3], [-1, 0.5]], dtype=torch.float64)
    xi = [[0.5, -0.2], [-0.3, 0.8], [0.1, 0.4], [-0.7, 0.1], [0.2, -0.6]]
    noise = GivenNoise(xi, horizon=0.5, noise_scale=0.3)
    denoiser, _ = fit_linear(training, noise, generator=torch.Generator())
    expected = [1.59179, 0.355839, -0.457802, 1.67448]
    assert denoiser.slope.flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_minimum_norm_toy_of_the_theory_note():
    training = torch.tensor([[1.0, 0, 2], [0, 1, -1], [2, -1, 0.5]], dtype=torch.float64)
    x_t = torch.tensor([[0.6, 0.2, 0.9], [0, 0.2, -0.3], [1.2, -0.4, 0.55]], dtype=torch.float64)
    alpha, sigma = at_horizon(PAPER)
    noise = GivenNoise(
        ((x_t - alpha * training) / sigma).tolist(), horizon=2.0, noise_scale=math.exp(-4)
    )
    denoiser, _ = fit_linear(training, noise, generator=torch.Generator())
    assert denoiser.slope[0].tolist() == pytest.approx([1.09558, -0.737656, 0.285544], rel=1e-5)
    assert torch.linalg.matrix_rank(denoiser.slope, rtol=1e-10) == 2


@pytest.mark.parametrize("n_noise_draws", [1, 3])
def test_least_squares_agrees_with_scikit_learn(n_noise_draws):
    training = rows(40, 7, "ols", spread=torch.linspace(0.1, 3, 7))
    denoiser, x_t = fit_linear(
        training, PAPER, n_noise_draws=n_noise_draws, generator=seeds.generator(1)
    )
    assert len(x_t) == 40 * n_noise_draws
    peer = LinearRegression().fit(x_t.numpy(), training.repeat(n_noise_draws, 1).numpy())
    np.testing.assert_allclose(denoiser.slope.numpy(), peer.coef_, rtol=1e-9)
    np.testing.assert_allclose(denoiser.intercept.numpy(), peer.intercept_, rtol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 0.02])
def test_an_offset_of_the_data_moves_nothing_but_the_intercept(ridge):
    """Slope and residuals of data at 1e4 equal those at 0, to the rounding of the data."""
    training, far = rows(12, 20, "offset"), 1e4

    def fit(points):
        return fit_linear(points, PAPER, ridge=ridge, generator=seeds.generator(1))

    (near, x_t), (moved, y_t) = fit(training), fit(training + far)
    torch.testing.assert_close(moved.slope, near.slope, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(y_t - math.exp(-2) * far, x_t, rtol=0, atol=1e-10)
    at_mean = moved(y_t.mean(0)[None], torch.tensor(2.0))[0]
    torch.testing.assert_close(at_mean, training.mean(0) + far, rtol=0, atol=1e-9)


def test_ridge_agrees_with_scikit_learn():
    training = rows(30, 5, "ridge")
    denoiser, x_t = fit_linear(
        training, PAPER, ridge=0.02, n_noise_draws=2, generator=seeds.generator(1)
    )
    peer = Ridge(alpha=60 * 0.02).fit(x_t.numpy(), training.repeat(2, 1).numpy())
    np.testing.assert_allclose(denoiser.slope.numpy(), peer.coef_, rtol=1e-8)
    np.testing.assert_allclose(denoiser.intercept.numpy(), peer.intercept_, rtol=1e-8)


def test_population_is_the_limit_of_many_points():
    covariance = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    source = Gaussian([1.0, -2.0], covariance)
    noise = OrnsteinUhlenbeck(horizon=0.7, noise_scale=0.8)
    training = source.sample(200_000, generator=seeds.generator(0, "many"))
    for ridge in (0.0, 0.3):
        fitted, _ = fit_linear(training, noise, ridge=ridge, generator=seeds.generator(1))
        limit = population_linear(source, noise, ridge=ridge)
        # standard error about 1 / sqrt(200000) = 2e-3; 5 of them
        torch.testing.assert_close(fitted.slope, limit.slope, atol=1e-2, rtol=0)
        torch.testing.assert_close(fitted.intercept, limit.intercept, atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("d", "n", "coefficient"), [(8, 16, 32.1008), (8, 40, 17.543), (8, 5, 25.15), (12, 6, 17.20)]
)
def test_second_moment_of_the_slope(d, n, coefficient):
    """E slope slope^T = coefficient I, theory note (B1), (B2); false alarm about 1e-4 (4 s.e.)."""
    draws = []
    for replicate in range(500):
        generator = seeds.generator(3, d, n, replicate)
        training = torch.randn(n, d, dtype=torch.float64, generator=generator)
        denoiser, _ = fit_linear(training, PAPER, generator=generator)
        draws.append(float(denoiser.slope.square().sum()) / d)
    error = np.std(draws) / math.sqrt(len(draws))
    assert abs(np.mean(draws) - coefficient) < 4 * error
    assert error < 0.1 * coefficient


def test_score_of_an_exact_denoiser_is_the_gradient_of_the_log_density():
    source = Empirical(rows(6, 3, "points"))
    noise = OrnsteinUhlenbeck(horizon=2.0, noise_scale=0.7)
    t = torch.tensor(0.4, dtype=torch.float64)
    x_t = rows(5, 3, "queries").requires_grad_()
    log_density = source.log_density(x_t, float(noise.alpha(t)), float(noise.sigma(t)))
    (gradient,) = torch.autograd.grad(log_density.sum(), x_t)
    torch.testing.assert_close(score(ExactDenoiser(source, noise), noise, x_t, t), gradient)


def test_refusals():
    with pytest.raises(DataError, match="n >= 2"):
        fit_linear(rows(1, 3, "one"), PAPER, generator=torch.Generator())
    with pytest.raises(DataError, match="NaN"):
        fit_linear(rows(5, 3, "nan").fill_(math.nan), PAPER, generator=torch.Generator())
    with pytest.raises(ConfigError, match="ridge"):
        fit_linear(rows(5, 3, "r"), PAPER, ridge=-1.0, generator=torch.Generator())
    denoiser = AffineDenoiser(torch.zeros(2), torch.eye(2), 2.0)
    with pytest.raises(ConfigError, match="fitted at time 2"):
        denoiser(torch.zeros(1, 2), torch.tensor(1.0))
