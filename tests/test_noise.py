"""Noise processes: their formulas against products, quadrature and published values."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from genonset.errors import ConfigError
from genonset.noise import (
    Cosine,
    DiscreteVariancePreserving,
    OrnsteinUhlenbeck,
    Rectified,
    VarianceExploding,
    VariancePreserving,
    at_horizon,
)

R = 5000.0  # sigma_max / sigma_min of the exploding process
# Each process with f(t) and g(t)² of its equation, written from the literature, not from alpha.
EQUATIONS = {
    "ornstein-uhlenbeck": (
        OrnsteinUhlenbeck(horizon=2.0, noise_scale=0.3), lambda t: -1.0, lambda t: 0.6,
    ),
    "variance preserving": (
        VariancePreserving(), lambda t: -(0.1 + 19.9 * t) / 2, lambda t: 0.1 + 19.9 * t,
    ),
    "longer": (
        VariancePreserving(horizon=3.0, beta_min=0.0, beta_max=4.0),
        lambda t: -2 * t / 3, lambda t: 4 * t / 3,
    ),
    "variance exploding": (
        VarianceExploding(), lambda t: 0.0,
        lambda t: (0.01 * R**t) ** 2 * 2 * math.log(R),
    ),
    "rectified": (Rectified(), lambda t: -1 / (1 - t), lambda t: 2 * t / (1 - t)),
    "cosine": (
        Cosine(),
        lambda t: -math.pi / 2.016 * math.tan(math.pi / 2 * (t + 0.008) / 1.008),
        lambda t: math.pi / 1.008 * math.tan(math.pi / 2 * (t + 0.008) / 1.008),
    ),
}  # fmt: skip
equations = pytest.mark.parametrize(
    ("process", "drift", "diffusion"), EQUATIONS.values(), ids=EQUATIONS.keys()
)


@equations
@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_scales_solve_the_equation(process, drift, diffusion, share):
    """alpha = exp int f, sigma² = int exp(2 int_s^t f) g(s)² ds, by quadrature."""
    end = share * process.horizon
    t = torch.tensor(end, dtype=torch.float64)

    def spent(a, b):
        return integrate.quad(drift, a, b, epsabs=1e-13, epsrel=1e-12)[0]

    variance, _ = integrate.quad(
        lambda s: math.exp(2 * spent(s, end)) * diffusion(s), 0, end, epsabs=0, epsrel=1e-10
    )
    assert float(process.alpha(t)) == pytest.approx(math.exp(spent(0, end)), rel=1e-9)
    assert float(process.sigma(t)) ** 2 == pytest.approx(variance, rel=1e-8)


@equations
def test_equation_is_read_off_the_scales(process, drift, diffusion):
    t = torch.tensor([0.01, 0.4, 1.0], dtype=torch.float64) * process.horizon
    f, g2 = process.equation(t)
    np.testing.assert_allclose(f, [drift(float(s)) for s in t], rtol=1e-9)
    np.testing.assert_allclose(g2, [diffusion(float(s)) for s in t], rtol=1e-9)


def test_discrete_schedule_is_the_product_of_its_steps():
    process = DiscreteVariancePreserving()
    betas = np.linspace(1e-4, 0.02, 200)
    products = np.cumprod(1 - betas)
    t = torch.arange(201, dtype=torch.float64)
    np.testing.assert_allclose(process.alpha(t)[1:] ** 2, products, rtol=1e-12)
    np.testing.assert_allclose(process.sigma(t)[1:] ** 2, 1 - products, rtol=1e-11)
    assert process.horizon == 200
    alpha, sigma = at_horizon(process)
    assert alpha**2 == pytest.approx(0.1322, abs=5e-4)
    assert alpha**2 + sigma**2 == pytest.approx(1)
    between = float(process.alpha(torch.tensor(7.25).double())) ** 2
    assert between == pytest.approx(products[6] ** 0.75 * products[7] ** 0.25)
    f, _ = process.equation(torch.tensor(7.25).double())
    assert float(f) == pytest.approx(math.log(1 - betas[7]) / 2)


@pytest.mark.parametrize(
    "process", [VariancePreserving(), DiscreteVariancePreserving(), Cosine()], ids=str
)
def test_variance_is_preserved(process):
    t = torch.linspace(0, 1, 50, dtype=torch.float64) ** 3 * process.horizon
    total = process.alpha(t) ** 2 + process.sigma(t) ** 2
    torch.testing.assert_close(total, torch.ones_like(t), rtol=1e-12, atol=0)


def test_cosine_is_that_of_its_paper():
    t = torch.tensor([0.0, 0.1, 0.5, 0.9], dtype=torch.float64)
    f = np.cos(math.pi / 2 * (t.numpy() + 0.008) / 1.008) ** 2
    np.testing.assert_allclose(Cosine().alpha(t) ** 2, f / f[0], rtol=1e-12)


@pytest.mark.parametrize("process", [case[0] for case in EQUATIONS.values()], ids=EQUATIONS.keys())
def test_times_are_found_by_their_noise_to_signal_ratio(process):
    t = torch.tensor([1e-6, 1e-3, 0.2, 0.9, 1.0], dtype=torch.float64) * process.horizon
    ratio = process.sigma(t) / process.alpha(t)
    torch.testing.assert_close(process.time_of(ratio), t, rtol=1e-9, atol=0)
    assert float(process.time_of(ratio[-1:] * 10)) == process.horizon


def test_where_sampling_begins():
    paper = OrnsteinUhlenbeck(horizon=2.0, noise_scale=0.02)
    assert paper.prior_variance == 0.02
    assert VariancePreserving().prior_variance == Rectified().prior_variance == 1.0
    assert VarianceExploding().prior_variance == pytest.approx(2500, rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (VariancePreserving, {"beta_min": -0.1}, "0 <= beta_min"),
        (VariancePreserving, {"beta_max": math.nan}, "beta_max"),
        (DiscreteVariancePreserving, {"beta_max": 1.0}, "< 1"),
        (DiscreteVariancePreserving, {"n_steps": 0}, "n_steps >= 1"),
        (Cosine, {"horizon": 1.0}, "horizon < 1"),
        (VarianceExploding, {"sigma_min": 60.0}, "sigma_min < sigma_max"),
        (Rectified, {"horizon": 1.0}, "horizon < 1"),
    ],
)
def test_refusals_show_the_process(kind, options, said):
    with pytest.raises(ConfigError, match=said) as caught:
        kind(**options)
    assert str(next(iter(options.values()))) in str(caught.value)
