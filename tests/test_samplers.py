"""The one-step sampler: its closed-form law against the theory's toys and its own samples."""

import math

import pytest
import torch

from genonset import seeds
from genonset.denoisers import AffineDenoiser, fit_linear, population_linear
from genonset.noise import OrnsteinUhlenbeck, at_horizon
from genonset.samplers import OneStep, estimated_start, population_start
from genonset.sources import Gaussian
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
