"""Kernel denoisers against scikit-learn, the linear model, the memorizer; the collapse time."""

import math

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import KernelCenterer

from genonset import denoisers, seeds
from genonset.denoisers import ExactDenoiser, KernelDenoiser, fit_linear, measure_collapse_time
from genonset.errors import ConfigError, DataError
from genonset.noise import OrnsteinUhlenbeck, VariancePreserving, at_horizon
from genonset.samplers import DDIM, DDPM, Euler, EulerMaruyama, Heun, OneStep
from genonset.sources import Empirical
from test_denoisers import rows

NOISE = OrnsteinUhlenbeck(horizon=1.0)
TIMES = [torch.tensor(t, dtype=torch.float64) for t in (0.05, 0.4, 1.0)]


def kernel_model(training, name="kernel", **options):
    return KernelDenoiser(training, NOISE, generator=seeds.generator(0, name), **options)


def noisy_rows(model, t):
    return NOISE.alpha(t) * model.rows + NOISE.sigma(t) * model.eps


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize(
    ("bandwidth", "ridge", "n_noise_draws"), [(1.0, 1e-2, 1), (0.3, 1e-4, 3), (4.0, 1e-3, 2)]
)
def test_kernel_regression_agrees_with_scikit_learn(t, bandwidth, ridge, n_noise_draws):
    """Its regression has no intercept and no h²: its kernel is centred and its penalty scaled."""
    training = rows(30, 5, "kernel", spread=torch.linspace(0.3, 2, 5)) + 3
    model = kernel_model(training, bandwidth=bandwidth, ridge=ridge, n_noise_draws=n_noise_draws)
    x_t, queries = noisy_rows(model, t).numpy(), 2 + 2 * rows(9, 5, "queries")
    width = bandwidth * math.sqrt(x_t.var(0).sum())
    gamma = 1 / (2 * width**2)
    centred = KernelCenterer().fit(rbf_kernel(x_t, gamma=gamma))
    peer = KernelRidge(alpha=len(x_t) * ridge / width**2, kernel="precomputed")
    clean = training.repeat(n_noise_draws, 1).numpy()
    peer.fit(centred.transform(rbf_kernel(x_t, gamma=gamma)), clean - clean.mean(0))
    expected = clean.mean(0) + peer.predict(
        centred.transform(rbf_kernel(queries.numpy(), x_t, gamma=gamma))
    )
    np.testing.assert_allclose(model(queries, t), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("n", "ridge"), [(40, 0.0), (40, 0.02), (4, 0.0), (4, 0.3)])
def test_linear_kernel_is_the_linear_model(n, ridge):
    """On the noisy rows that `fit_linear` drew, at its one time."""
    training = 2 + rows(n, 6, "linear")
    fitted, x_t = fit_linear(
        training, NOISE, ridge=ridge, n_noise_draws=2, generator=seeds.generator(1)
    )
    model = kernel_model(training, bandwidth=math.inf, ridge=ridge, n_noise_draws=2)
    alpha, sigma = at_horizon(NOISE)
    model.eps = (x_t - alpha * model.rows) / sigma
    queries, horizon = 3 * rows(7, 6, "queries"), TIMES[-1]
    if n > 6:
        torch.testing.assert_close(model(queries, horizon), fitted(queries, horizon), rtol=1e-8,
                                   atol=1e-8)  # fmt: skip
    else:  # noise across the span of four points is regressed away by one, left out by the other
        torch.testing.assert_close(model(x_t, horizon), fitted(x_t, horizon), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("t", TIMES)
def test_wide_kernels_tend_to_the_linear_one(t):
    """Their difference falls as bandwidth^-2, at the same ridge."""
    training, queries = rows(50, 4, "wide"), rows(20, 4, "queries")
    linear = kernel_model(training, bandwidth=math.inf, ridge=0.01)(queries, t)
    gaps = [
        float((kernel_model(training, bandwidth=b, ridge=0.01)(queries, t) - linear).abs().max())
        for b in (30.0, 300.0)
    ]
    assert gaps[0] < 0.05
    assert gaps[1] < 0.02 * gaps[0]


def test_narrow_kernels_with_many_draws_tend_to_the_memorizer():
    """Four points, 500 noisy copies each: within 0.16 rms of the exact posterior mean."""
    points, t = 2 * rows(4, 2, "few"), TIMES[1]
    exact = ExactDenoiser(Empirical(points), NOISE)
    model = kernel_model(points, bandwidth=0.5, ridge=1e-3, n_noise_draws=500)
    own = torch.arange(2000) % 4
    fresh = torch.randn(2000, 2, dtype=torch.float64, generator=seeds.generator(0, "fresh"))
    x_t = NOISE.alpha(t) * points[own] + NOISE.sigma(t) * fresh
    error = (model(x_t, t) - exact(x_t, t)).square().mean().sqrt()
    linear = kernel_model(points, bandwidth=math.inf, ridge=1e-3, n_noise_draws=500)
    assert float(error) < 0.16
    assert float((linear(x_t, t) - exact(x_t, t)).square().mean().sqrt()) > 3 * float(error)


def test_random_features_tend_to_the_kernel():
    """Error falls as features^-1/2: from 60 to 960, by 4 within a factor 1.6; 8 runs each."""
    training, queries, t = rows(60, 3, "features"), rows(40, 3, "queries"), TIMES[1]
    few = KernelDenoiser(training, NOISE, ridge=0.01, generator=seeds.generator(0))
    errors = []
    for count in (60, 960):
        gaps = []
        for seed in range(8):
            run = KernelDenoiser(
                training, NOISE, ridge=0.01, n_features=count, generator=seeds.generator(seed)
            )
            run.eps = few.eps
            gaps.append((run(queries, t) - few(queries, t)).square().mean())
        errors.append(float(torch.stack(gaps).mean().sqrt()))
    assert 2.5 < errors[0] / errors[1] < 6.4
    assert errors[1] < 0.1


def test_features_stand_in_beyond_the_largest_kernel(monkeypatch):
    monkeypatch.setattr(denoisers, "_MOST_ROWS", 50)
    assert kernel_model(rows(50, 2, "n")).features is None
    weights, phases = kernel_model(rows(26, 2, "n"), n_noise_draws=2).features
    assert weights.shape == (4000, 2)
    assert phases.shape == (4000,)
    assert kernel_model(rows(60, 2, "n"), bandwidth=math.inf).features is None


def test_levels_do_not_depend_on_the_order_of_asking(monkeypatch):
    training, queries = rows(20, 3, "order"), rows(5, 3, "queries")
    first = kernel_model(training)
    forward = [first(queries, t) for t in TIMES]
    monkeypatch.setattr(denoisers, "_KEPT", 1)  # nothing fits: each level is fitted anew
    second = kernel_model(training)
    backward = [second(queries, t) for t in reversed(TIMES)]
    assert len(second._levels) == 1
    for one, two in zip(forward, reversed(backward), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("kind", [OneStep, DDPM, DDIM, Euler, Heun, EulerMaruyama])
@pytest.mark.parametrize("bandwidth", [1.0, math.inf])
def test_every_sampler_takes_a_kernel_model(kind, bandwidth):
    """Images in, images out; the linear one propagates its law, which its samples follow.

    20,000 samples: 16 variances within 5 %, 5 standard errors.
    """
    training = rows(40, 16, "images").reshape(40, 4, 4)
    model = kernel_model(training, bandwidth=bandwidth, ridge=0.05)
    options = {} if kind is OneStep else {"n_steps": 4}
    sampler, affine = kind(NOISE, **options), math.isinf(bandwidth)
    drawn = sampler.sample(model, 20_000 if affine else 50, generator=seeds.generator(0))
    assert drawn.shape[1:] == (4, 4)
    if affine:
        variances = sampler.propagate(model).covariance.diagonal()
        torch.testing.assert_close(drawn.flatten(1).var(0), variances, rtol=0.05, atol=0)
    else:
        with pytest.raises(ConfigError, match="not affine"):
            sampler.propagate(model)


@pytest.mark.parametrize(("dim", "n", "ratio"), [(36, 1000, 1.05), (16, 3000, 1.13)])
def test_collapse_time_is_near_that_of_the_theory(dim, n, ratio):
    """(D1), and the finite-size factors of the theory note under (D3); within 8 %."""
    source = Empirical(rows(n, dim, "collapse"))
    found = measure_collapse_time(
        source, OrnsteinUhlenbeck(), n_draws=600, generator=seeds.generator(0, "collapse")
    )
    theory = 0.5 * math.log(1 + 1 / (n ** (2 / dim) - 1))
    assert found / theory == pytest.approx(ratio, rel=0.08)


def test_collapse_time_is_that_of_one_number_in_every_process():
    """A collapse happens at one sigma / alpha: processes agree on it (within the draws)."""
    source = Empirical(rows(300, 8, "ratio"))
    ratios = []
    for process in (OrnsteinUhlenbeck(), VariancePreserving()):
        t = measure_collapse_time(source, process, generator=seeds.generator(0, "c"))
        time = torch.tensor(t).double()
        ratios.append(float(process.sigma(time) / process.alpha(time)))
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-4)


def test_points_that_never_mix_collapse_at_the_horizon():
    far = Empirical(torch.tensor([[0.0], [1e6]]).double())
    assert measure_collapse_time(far, NOISE, generator=seeds.generator(0)) == 1.0


def test_refusals():
    with pytest.raises(DataError, match="n >= 2"):
        kernel_model(rows(1, 3, "one"))
    with pytest.raises(DataError, match="NaN"):
        kernel_model(rows(5, 3, "nan").fill_(math.nan))
    with pytest.raises(ConfigError, match="ridge=0"):
        kernel_model(rows(5, 3, "r"), ridge=0.0)
    with pytest.raises(ConfigError, match="bandwidth=-1"):
        kernel_model(rows(5, 3, "r"), bandwidth=-1.0)
    with pytest.raises(ConfigError, match="n_features >= 1"):
        kernel_model(rows(5, 3, "r"), n_features=0)
