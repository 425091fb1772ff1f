"""Denoisers: estimates of the clean mean E[x_0 | x_t], which is all they ever return.

The score follows from the clean mean once, by Tweedie's identity:

    (1)  score(x_t) = (alpha E[x_0 | x_t] - x_t) / sigma²

The linear one-step model regresses x_0 on x_t at the horizon, with intercept. With the training
rows centred to X_c and their noisy versions to T_c, each point noised `n_noise_draws` times:

    (2)  slope = (T_c^+ X_c)^T                                 ordinary least squares, minimum norm
    (3)  slope = X_c^T T_c (T_c^T T_c + m ridge I)^-1          ridge, m rows
    (4)  intercept = mean(x_0) - slope mean(x_t)

Of infinitely much data from N(m, C) it learns

    (5)  slope = alpha C (alpha² C + (sigma² + ridge) I)^-1,   intercept = m - slope alpha m

Halder and Pehlevan, section 3; theory note (0.2), (0.3), (B14).
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from genonset.errors import ConfigError, DataError
from genonset.noise import NoiseProcess, at_horizon
from genonset.sources import ExactSource, Gaussian, centre
from genonset.tensors import Samples, Times, Vectors, require_finite


class Denoiser(nn.Module, ABC):
    """An estimate of E[x_0 | x_t]."""

    @abstractmethod
    def forward(self, x_t: Samples, t: Times) -> Samples:
        """The clean mean given x_t at one time t, of the shape of x_t."""


class ExactDenoiser(Denoiser):
    """The ideal denoiser of a source: of `Empirical`, the memorizer; of the true law, the oracle.

    Args:
        source: the law of x_0.
        noise: the noise process.
    """

    def __init__(self, source: ExactSource, noise: NoiseProcess) -> None:
        super().__init__()
        self.source, self.noise = source, noise

    def forward(self, x_t: Samples, t: Times) -> Samples:
        return self.source.posterior_mean(
            x_t, float(self.noise.alpha(t)), float(self.noise.sigma(t))
        )


class AffineDenoiser(Denoiser):
    """intercept + slope x_t, valid at one time.

    Args:
        intercept: shape (d,).
        slope: shape (d, d).
        time: the time at which it was fitted.
    """

    intercept: Tensor
    slope: Tensor

    def __init__(self, intercept: Tensor, slope: Tensor, time: float) -> None:
        super().__init__()
        self.register_buffer("intercept", intercept)
        self.register_buffer("slope", slope)
        self.time = time

    def forward(self, x_t: Vectors, t: Times) -> Vectors:
        if abs(float(t) - self.time) > 1e-12 * self.time:
            raise ConfigError(
                f"This affine denoiser was fitted at time {self.time}; it cannot denoise at "
                f"time {float(t)}. Use it with the one-step sampler."
            )
        return self.intercept + x_t @ self.slope.T


def score(denoiser: Denoiser, noise: NoiseProcess, x_t: Samples, t: Times) -> Samples:
    """Gradient of log p_t at x_t, equation (1); t > 0 is one time."""
    return (noise.alpha(t) * denoiser(x_t, t) - x_t) / noise.sigma(t) ** 2


def fit_linear(
    training: Vectors,
    noise: NoiseProcess,
    *,
    ridge: float = 0.0,
    n_noise_draws: int = 1,
    generator: torch.Generator,
) -> tuple[AffineDenoiser, Vectors]:
    """Regress x_0 on x_t at the horizon, equations (2) to (4).

    Args:
        training: shape (n, d), n >= 2.
        noise: gives x_t at its horizon.
        ridge: added to the covariance of x_t, in its units; 0 is least squares (minimum norm
            where the rows do not determine the slope, as for n <= d).
        n_noise_draws: noisy copies made of each training point.
        generator: source of the noise.

    Returns:
        the fitted denoiser, and the noisy rows it was fitted on, shape (n * n_noise_draws, d).

    Raises:
        DataError: fewer than two points, or values that are not finite.
        ConfigError: a negative ridge, or no noise draw.

    Reference:
        Halder and Pehlevan, section 3 (one draw, no ridge).
    """
    if len(training) < 2:
        raise DataError(f"A linear model needs n >= 2 training points, got {len(training)}.")
    if ridge < 0 or n_noise_draws < 1:
        raise ConfigError(
            f"fit_linear needs ridge >= 0 and n_noise_draws >= 1, got {ridge}, {n_noise_draws}."
        )
    mean, centred, rounding = centre(require_finite("training", training).to(torch.float64))
    axes, clean = _span(centred, rounding)
    horizon = torch.tensor(noise.horizon, dtype=torch.float64)
    about_mean = (clean @ axes.T).repeat(n_noise_draws, 1)
    x_t = noise.perturb(about_mean, horizon, generator=generator)
    clean, noisy = clean.repeat(n_noise_draws, 1), x_t - x_t.mean(0)
    if ridge > 0:
        gram = noisy.T @ noisy
        gram.diagonal().add_(len(noisy) * ridge)
        along = torch.linalg.solve(gram, noisy.T @ clean)
    else:
        cutoff = 8 * torch.finfo(torch.float64).eps * max(noisy.shape)
        along = torch.linalg.lstsq(noisy, clean, rcond=cutoff, driver="gelsd").solution
    slope = axes @ along.T
    shift = noise.alpha(horizon) * mean
    intercept = mean - slope @ (shift + x_t.mean(0))
    return AffineDenoiser(intercept, slope, noise.horizon), x_t + shift


def _span(centred: Vectors, rounding: float) -> tuple[Tensor, Tensor]:
    """Orthonormal axes of the span of centred points, shape (d, r), and coordinates, shape (n, r).

    Regressing these coordinates keeps the slope inside the span to rounding of its own size,
    whatever the offset of the data and however small the noise.
    """
    u, singular, vt = torch.linalg.svd(centred, full_matrices=False)
    noise = rounding + max(centred.shape) * torch.finfo(torch.float64).eps * float(singular[0])
    kept = singular > noise
    return vt[kept].T, u[:, kept] * singular[kept]


def population_linear(
    source: Gaussian, noise: NoiseProcess, *, ridge: float = 0.0
) -> AffineDenoiser:
    """What `fit_linear` learns of infinitely many points of a Gaussian source, equation (5)."""
    alpha, sigma = at_horizon(noise)
    covariance = source.covariance
    noisy = alpha**2 * covariance
    noisy.diagonal().add_(sigma**2 + ridge)
    slope = torch.linalg.solve(noisy, alpha * covariance).T
    return AffineDenoiser(source.mean - alpha * slope @ source.mean, slope, noise.horizon)
