"""Samplers as they run against the closed forms of the theory note, written independently."""

import numpy as np
import pytest
import torch

from genonset import seeds, theory
from genonset.denoisers import ExactDenoiser, measure_collapse_time
from genonset.noise import OrnsteinUhlenbeck
from genonset.samplers import DDIM, DDPM, Euler, Heun
from genonset.sources import Empirical, Gaussian

SPECTRUM = [4.0, 1.0, 0.3, 0.02]
KINDS = {"ddpm": DDPM, "ddim": DDIM, "euler": Euler, "heun": Heun}


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("grid", ["uniform", "quadratic"])
@pytest.mark.parametrize(("horizon", "scale"), [(2.0, 1.0), (0.7, 0.1)])
def test_propagated_laws_are_those_of_the_theory(method, grid, horizon, scale):
    """(E3) to (E5), direction by direction, from a start that is not the exact one.

    The theory's Euler and Heun run to t = 0 itself, ours stop just short and denoise.
    """
    noise = OrnsteinUhlenbeck(horizon=horizon, noise_scale=scale)
    source = Gaussian([0.7, -1.0, 0.0, 0.2], torch.tensor(SPECTRUM))
    start = Gaussian([0.3] * 4, torch.full((4,), 1.5 * scale))
    stop = 1e-9 if method in ("euler", "heun") else 0.0
    sampler = KINDS[method](noise, n_steps=9, grid=grid, start=start, stop=stop)
    law = sampler.propagate(ExactDenoiser(source, noise))
    expected = theory.sampler_moments(
        method, SPECTRUM, horizon, scale, n_steps=9, grid=grid, mean=[0.7, -1.0, 0.0, 0.2],
        start_mean=0.3, start_variance=1.5 * scale,
    )  # fmt: skip
    np.testing.assert_allclose(law.mean, expected.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(law.covariance.diagonal(), expected.variance, rtol=1e-5)


def test_measured_collapse_time_nears_that_of_the_theory():
    """(D1) with the finite-size factor 1.05 of the theory note, within 8 %."""
    points = torch.randn(1000, 36, dtype=torch.float64, generator=seeds.generator(0, "points"))
    found = measure_collapse_time(
        Empirical(points), OrnsteinUhlenbeck(), generator=seeds.generator(0, "draws")
    )
    assert found / float(theory.collapse_time(1000, dim=36)) == pytest.approx(1.05, rel=0.08)
