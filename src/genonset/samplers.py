"""Samplers: from noise at the horizon back to clean data, always ending on the clean mean.

A sampler states the law it starts from. For an affine denoiser, x -> intercept + slope x, the
generated law is known in closed form; in one step, started at N(m_T, C_T):

    (1)  N(intercept + slope m_T,  slope C_T slope^T)

Three starts exist for a model trained on rows x_0, noised to x_t, all of mean alpha mean(x_0):

    (2)  scalar      (alpha² v + sigma²) I,  v the mean sample variance of a coordinate (the paper)
    (3)  estimated   alpha² Cov(x_0) + sigma² I
    (4)  in_sample   Cov(x_t)

Near n = d the start decides the curve. Covariances of samples divide by n - 1. Theory note (0.3).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch

from genonset.denoisers import AffineDenoiser, Denoiser
from genonset.noise import NoiseProcess, at_horizon
from genonset.sources import Gaussian, centre
from genonset.tensors import Samples, Vectors

Start = Literal["scalar", "estimated", "in_sample"]


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """A way back from noise to data.

    Attributes:
        noise: the process to invert.
        start: the law at the horizon from which sampling begins.
    """

    noise: NoiseProcess
    start: Gaussian

    @abstractmethod
    def sample(self, denoiser: Denoiser, n: int, *, generator: torch.Generator) -> Samples:
        """Draw n points, shape (n, *shape); equal generators give equal noise to any model."""

    @abstractmethod
    def propagate(self, denoiser: AffineDenoiser) -> Gaussian:
        """The law that `sample` draws from, for an affine denoiser."""


@dataclass(frozen=True, kw_only=True)
class OneStep(Sampler):
    """Denoise once, from the horizon to zero: the paper's sampler."""

    def sample(self, denoiser: Denoiser, n: int, *, generator: torch.Generator) -> Samples:
        horizon = torch.tensor(self.noise.horizon, dtype=torch.float64)
        return denoiser(self.start.sample(n, generator=generator), horizon)

    def propagate(self, denoiser: AffineDenoiser) -> Gaussian:
        """Equation (1), singular where the slope or the start is."""
        horizon = torch.tensor(self.noise.horizon, dtype=torch.float64)
        mean = denoiser(self.start.mean[None], horizon)[0]
        root, axes = self.start.eigenvalues.sqrt(), self.start.eigenvectors
        factor = denoiser.slope * root if axes is None else (denoiser.slope @ axes) * root
        return Gaussian.from_factor(mean, factor)


def estimated_start(training: Vectors, x_t: Vectors, noise: NoiseProcess, kind: Start) -> Gaussian:
    """The start a model trained on `training`, noised to `x_t`, can know: (2), (3) or (4).

    Args:
        training: shape (n, d), n >= 2.
        x_t: the noisy rows of the fit, shape (m, d).
        kind: which of the three.
    """
    alpha, sigma = at_horizon(noise)
    mean = alpha * training.mean(0)
    if kind == "scalar":
        return Gaussian(mean, alpha**2 * training.var(0).mean() + sigma**2)
    if kind == "in_sample":
        _, centred, rounding = centre(x_t)
        scale = (len(x_t) - 1) ** 0.5
        return Gaussian.from_factor(mean, centred.T / scale, rounding=rounding / scale)
    noisy = alpha**2 * torch.atleast_2d(training.T.cov())
    noisy.diagonal().add_(sigma**2)
    return Gaussian(mean, noisy)


def population_start(source: Gaussian, noise: NoiseProcess, kind: Start) -> Gaussian:
    """What `estimated_start` tends to for infinitely many points of a Gaussian source."""
    alpha, sigma = at_horizon(noise)
    covariance = source.covariance
    if kind == "scalar":
        return Gaussian(alpha * source.mean, alpha**2 * covariance.diagonal().mean() + sigma**2)
    noisy = alpha**2 * covariance
    noisy.diagonal().add_(sigma**2)
    return Gaussian(alpha * source.mean, noisy)
