"""Laws of every exact source and of every noise process."""

import inspect

import pytest
import torch

from genonset import noise, seeds, sources
from genonset.noise import NoiseProcess, OrnsteinUhlenbeck, TabulatedVariancePreserving
from genonset.sources import Empirical, ExactSource, Gaussian, GaussianMixture

DENSE = torch.tensor([[2.0, 0.6, 0.1], [0.6, 1.0, -0.3], [0.1, -0.3, 0.5]]).double()
POINTS = torch.randn(7, 2, 3, dtype=torch.float64, generator=seeds.generator(0, "points"))
EXACT = {
    "isotropic": Gaussian([1.0, -2.0, 0.5], 0.7),
    "diagonal": Gaussian([1.0, -2.0, 0.5], torch.tensor([2.0, 0.5, 1e-3])),
    "dense": Gaussian([1.0, -2.0, 0.5], DENSE),
    "singular": Gaussian([1.0, -2.0], torch.tensor([[1.0, 2.0], [2.0, 4.0]])),
    "factor": Gaussian.from_factor(torch.ones(3), torch.tensor([[1.0], [2.0], [-1.0]])),
    "mixture": GaussianMixture([1.0, 3.0], [[0.0, 0.0, 1.0], [2.0, -1.0, 0.0]],
                               torch.stack([DENSE, torch.eye(3).double()])),
    "empirical": Empirical(POINTS),
}  # fmt: skip
PROCESSES = {
    "ou": OrnsteinUhlenbeck(),
    "ou, paper": OrnsteinUhlenbeck(horizon=2.0, noise_scale=0.0183156),
    "ou, long": OrnsteinUhlenbeck(horizon=12.0, noise_scale=3.0),
    "table": TabulatedVariancePreserving(schedule=(0.01, 0.3, 0.02, 0.6)),
    **{
        name: process()
        for name, process in vars(noise).items()
        if inspect.isclass(process)
        and issubclass(process, NoiseProcess)
        and not inspect.isabstract(process)
        and process is not TabulatedVariancePreserving
    },
}
sources_ = pytest.mark.parametrize("source", EXACT.values(), ids=EXACT.keys())
processes = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
levels = pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.1), (0.7, 0.8), (0.1, 2.0)])


def noisy(source: ExactSource, alpha: float, sigma: float, n: int):
    """Pairs (x_0, x_t) of the source and its noisy version."""
    g = seeds.generator(0, "noisy", n)
    x_0 = source.sample(n, generator=g)
    return x_0, alpha * x_0 + sigma * torch.randn(x_0.shape, dtype=x_0.dtype, generator=g)


def test_every_exact_source_is_here():
    concrete = {
        kind
        for kind in vars(sources).values()
        if inspect.isclass(kind) and issubclass(kind, ExactSource) and not inspect.isabstract(kind)
    }
    assert concrete == {type(source) for source in EXACT.values()}


@sources_
@levels
def test_score_is_the_gradient_of_the_log_density(source, alpha, sigma):
    """Tweedie: (alpha E[x_0 | x_t] - x_t) / sigma² against autograd of log p_t."""
    _, x_t = noisy(source, alpha, sigma, 40)
    x_t.requires_grad_()
    (score,) = torch.autograd.grad(source.log_density(x_t, alpha, sigma).sum(), x_t)
    mean = source.posterior_mean(x_t.detach(), alpha, sigma)
    torch.testing.assert_close((alpha * mean - x_t.detach()) / sigma**2, score,
                               rtol=1e-7, atol=1e-7)  # fmt: skip


@sources_
@levels
def test_posterior_mean_predicts_what_was_drawn(source, alpha, sigma):
    """x_0 - E[x_0 | x_t] is uncorrelated with 1, x_t and tanh(x_t), of 20,000 draws.

    About 150 means of zero expectation, each within 5 standard errors: false alarms 1e-4 a run
    of all cases together. Ties the closed forms to the sampler.
    """
    x_0, x_t = noisy(source, alpha, sigma, 20_000)
    residual = (x_0 - source.posterior_mean(x_t, alpha, sigma)).flatten(1)
    for probe in (torch.ones(len(x_t), 1).double(), x_t.flatten(1), x_t.flatten(1).tanh()):
        products = residual[:, :, None] * probe[:, None, :]
        error = products.std(0) / len(x_t) ** 0.5
        assert bool((products.mean(0).abs() <= 5 * error + 1e-12).all())


@sources_
def test_samples_have_the_shape_std_and_type_of_the_source(source):
    """Std of 40,000 draws within 3 %: over 5 standard errors for all of these."""
    drawn = source.sample(40_000, generator=seeds.generator(0, "std"))
    assert drawn.shape[1:] == source.shape
    assert drawn.dtype == torch.float64
    found = drawn.flatten(1).var(0).mean().sqrt()
    assert float(found) == pytest.approx(source.std, rel=0.03)


@sources_
def test_sampling_depends_on_the_generator_alone(source):
    first, again, other = (
        source.sample(5, generator=seeds.generator(0, name)) for name in ("a", "a", "b")
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@processes
def test_noise_starts_clean_and_its_signal_to_noise_ratio_falls(process):
    zero = torch.zeros(1, dtype=torch.float64)
    assert float(process.alpha(zero)) == 1.0
    assert float(process.sigma(zero)) == 0.0
    t = torch.linspace(0, 1, 201, dtype=torch.float64)[1:].square() * process.horizon
    ratio = (process.alpha(t) / process.sigma(t)).square()
    assert bool((ratio[1:] < ratio[:-1]).all())
    assert bool((ratio > 0).all())


@processes
def test_perturbed_points_have_mean_alpha_x_and_variance_sigma_squared(process):
    """200,000 draws, one time a point: means and variances within 5 standard errors, 1e-5."""
    n = 100_000
    t = torch.tensor([0.1, 1.0], dtype=torch.float64).repeat_interleave(n) * process.horizon
    x_0 = torch.tensor([2.0, -1.0], dtype=torch.float64).repeat(2 * n, 1)
    x_t = process.perturb(x_0, t, generator=seeds.generator(0, "perturb"))
    for part, time, clean in zip(x_t.split(n), (t[0], t[-1]), x_0.split(n), strict=True):
        sigma = float(process.sigma(time))
        mean_error = 5 * sigma / n**0.5
        torch.testing.assert_close(
            part.mean(0), process.alpha(time) * clean[0], atol=mean_error, rtol=0
        )
        torch.testing.assert_close(
            part.T.cov(), sigma**2 * torch.eye(2).double(), rtol=0,
            atol=5 * sigma**2 * (2 / n) ** 0.5,
        )  # fmt: skip
