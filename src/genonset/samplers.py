"""Samplers: from noise at the horizon back to clean data, always ending on the clean mean.

A sampler visits times horizon = t_K > ... > t_1 > t_0 = 0 and replaces x_t by x_s at each step
t -> s. With D = E[x_0 | x_t], alpha and sigma at t, alpha_s and sigma_s at s, z ~ N(0, I), and

    (1)  beta² = sigma² - (alpha / alpha_s)² sigma_s²,     post² = sigma_s² beta² / sigma²

the variance of x_t given x_s, and of x_s given x_t and x_0, the steps are

    (2)  last step      x_0 = D,                                     every sampler
    (3)  DDPM           x_s = (alpha_s beta² / sigma²) D + (alpha sigma_s² / (alpha_s sigma²)) x_t
                              + post z
    (4)  DDIM           x_s = alpha_s D + sqrt(sigma_s² - eta² post²) (x_t - alpha D) / sigma
                              + eta post z
    (5)  Euler, Heun    of the probability flow  dx/dt = alpha' D + sigma' (x - alpha D) / sigma
    (6)  EulerMaruyama  of the reverse of  dx = f x dt + g dw,  drift  f x - g² score

(4) is (3) at eta = 1. `order` p says that the error of mean and covariance falls as K^-p on the
quadratic grid: a uniform one costs a factor log K, and holds Heun to order 1, for the last step
(2) then spans a noise variance of order 1 / K where sigma² grows as t. Grids, k = 1..K:

    (7)  uniform     t_k = horizon k / K            (8)  quadratic   t_k = horizon (k / K)²
    (9)  log_snr     sigma / alpha geometric        (10) edm         (sigma / alpha)^(1/7) uniform

(9) and (10) end at a ratio of 0.002, or a hundredth of the horizon's where that is less. With
`stop` > 0, t_0 = stop and the clean mean is taken there, K + 1 steps in all.

A sampler states the law it starts from. For a denoiser that is affine at every time, the mean and
covariance of what it generates follow by pushing the start through the same steps:

    (11)  mean <- M(mean),    C <- M' C M'^T + spread² I,     x_s = M(x_t) + spread z

In one step, started at N(m_T, C_T), with D = intercept + slope x:

    (12)  N(intercept + slope m_T,  slope C_T slope^T)

Three starts exist for a model trained on x_0, noised to x_t, all of mean alpha mean(x_0):

    (13)  scalar      (alpha² v + sigma²) I,  v the mean variance of a coordinate (the paper)
    (14)  estimated   alpha² Cov(x_0) + sigma² I
    (15)  in_sample   Cov(x_t)

Near n = d the start decides the curve. Covariances of samples divide by n - 1. Theory note (0.3),
(E1) to (E6).
"""

import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from genonset.denoisers import AffineDenoiser, Denoiser, score
from genonset.errors import ConfigError
from genonset.noise import NoiseProcess, at_horizon
from genonset.sources import Gaussian, centre
from genonset.tensors import Samples, Times, Vectors

Start = Literal["scalar", "estimated", "in_sample"]
Grid = Literal["uniform", "quadratic", "log_snr", "edm"]

_LAST_RATIO = 0.002  # sigma / alpha at the last step of (9) and (10), as in Karras et al. 2022
_RHO = 7  # the exponent of (10), as there


@dataclass(frozen=True, kw_only=True)
class Sampler(ABC):
    """A way back from noise to data.

    Attributes:
        noise: the process to invert.
        start: the law at the horizon from which sampling begins; None is N(0, prior_variance I)
            of the noise, in the shape of the denoiser's data.
        batch: points given at once to a denoiser that is not affine; changes memory and time.
        order: p such that the error of mean and covariance falls as n_steps^-p.
    """

    noise: NoiseProcess = field(kw_only=False)
    start: Gaussian | None = None
    batch: int = 1024
    order: ClassVar[int]

    @property
    @abstractmethod
    def times(self) -> Times:
        """The times visited, from the horizon down to 0."""

    @abstractmethod
    def move(self, denoiser: Denoiser, x_t: Samples, t: Times, s: Times) -> Samples:
        """The part of a step t -> s that x_t decides, M(x_t) of (11); s > 0."""

    def spread(self, t: Times, s: Times) -> float:
        """The standard deviation of the noise that a step adds; s > 0."""
        return 0.0

    @torch.no_grad()
    def step(
        self, denoiser: Denoiser, x_t: Samples, t: Times, s: Times, *, generator: torch.Generator
    ) -> Samples:
        """One step from time t down to s; to s = 0 it is the clean mean, equation (2)."""
        moved = self._moved(denoiser, x_t, t, s)
        spread = self.spread(t, s) if float(s) > 0 else 0.0
        if spread == 0:
            return moved
        z = torch.randn(moved.shape, dtype=moved.dtype, generator=generator)
        return moved + spread * z.to(moved.device)

    def sample(self, denoiser: Denoiser, n: int, *, generator: torch.Generator) -> Samples:
        """Draw n points, shape (n, *shape); equal generators give equal noise to any model."""
        x = self.start_for(denoiser).sample(n, generator=generator)
        if denoiser.shape is not None:
            x = x.reshape(n, *denoiser.shape)
        for t, s in itertools.pairwise(self.times):
            x = self.step(denoiser, x, t, s, generator=generator)
        return x

    @torch.no_grad()
    def propagate(
        self, denoiser: Denoiser, mean: Tensor | None = None, covariance: Tensor | None = None
    ) -> Gaussian:
        """The law that `sample` draws from, for a denoiser that is affine at every time: (11).

        Args:
            denoiser: with `affine` true: `ExactDenoiser` of a `Gaussian`, linear kernels.
            mean, covariance: of the start, where it is not the sampler's own.

        Raises:
            ConfigError: the denoiser is not affine, so that its law is no Gaussian.
        """
        if not denoiser.affine:
            raise ConfigError(
                f"{type(denoiser).__name__} is not affine in x_t, so the law it generates is no "
                "Gaussian. Only the exact denoiser of a Gaussian and linear models propagate; "
                "draw samples from the others."
            )
        start = self.start_for(denoiser)
        mean = start.mean if mean is None else mean
        law = start.covariance if covariance is None else Gaussian(mean, covariance).covariance
        axes = torch.eye(len(mean)).to(law)
        for t, s in itertools.pairwise(self.times):
            rows = self._moved(denoiser, torch.cat([mean[None], mean + axes]), t, s)
            mean, linear = rows[0], rows[1:] - rows[0]
            law = linear.T @ law @ linear
            if float(s) > 0:
                law.diagonal().add_(self.spread(t, s) ** 2)
        return Gaussian(mean, (law + law.T) / 2)

    def start_for(self, denoiser: Denoiser) -> Gaussian:
        """The law from which this sampler starts with a denoiser.

        Raises:
            ConfigError: no start was given, and the denoiser does not know the data's shape.
        """
        if self.start is not None:
            return self.start
        if denoiser.shape is None:
            raise ConfigError(
                f"{type(denoiser).__name__} does not say the shape of a data point, so the "
                "sampler cannot know where to start. Pass start=Gaussian(mean, variance), or set "
                "denoiser.shape, such as (1, 32, 32)."
            )
        zeros = torch.zeros(denoiser.shape, dtype=torch.float64).flatten()
        return Gaussian(zeros, self.noise.prior_variance)

    def _moved(self, denoiser: Denoiser, x_t: Samples, t: Times, s: Times) -> Samples:
        parts = (x_t,) if denoiser.affine else x_t.split(self.batch)
        if float(s) == 0:
            return torch.cat([denoiser(part, t) for part in parts])
        return torch.cat([self.move(denoiser, part, t, s) for part in parts])


@dataclass(frozen=True, kw_only=True)
class OneStep(Sampler):
    """Denoise once, from the horizon to zero: the paper's sampler."""

    order: ClassVar[int] = 0

    @property
    def times(self) -> Times:
        return torch.tensor([self.noise.horizon, 0.0], dtype=torch.float64)

    def move(self, denoiser: Denoiser, x_t: Samples, t: Times, s: Times) -> Samples:
        """Never asked for: the only step ends at 0."""
        raise ConfigError("OneStep steps to time 0 only; use DDIM for a step between two times.")

    def propagate(
        self, denoiser: Denoiser, mean: Tensor | None = None, covariance: Tensor | None = None
    ) -> Gaussian:
        """Equation (12), singular where the slope or the start is."""
        if mean is not None or covariance is not None or not isinstance(denoiser, AffineDenoiser):
            return super().propagate(denoiser, mean, covariance)
        start = self.start_for(denoiser)
        horizon = torch.tensor(self.noise.horizon, dtype=torch.float64)
        centre_of_law = denoiser(start.mean[None], horizon)[0]
        root, axes = start.eigenvalues.sqrt(), start.eigenvectors
        factor = denoiser.slope * root if axes is None else (denoiser.slope @ axes) * root
        return Gaussian.from_factor(centre_of_law, factor)


@dataclass(frozen=True, kw_only=True)
class _Stepwise(Sampler, ABC):
    """A sampler of K steps on a grid, (7) to (10).

    Raises:
        ConfigError: n_steps < 1, an unknown grid, or a stop outside [0, horizon).
    """

    n_steps: int = 100
    grid: Grid = "quadratic"
    stop: float = 0.0

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.grid not in get_args(Grid):
            raise ConfigError(
                f"{type(self).__name__} takes n_steps >= 1 and a grid of "
                f"{', '.join(get_args(Grid))}; got n_steps={self.n_steps}, grid={self.grid!r}."
            )
        if not 0 <= self.stop < self.noise.horizon:
            raise ConfigError(
                f"{type(self).__name__} stops at a time in [0, {self.noise.horizon}), before the "
                f"horizon; got stop={self.stop}."
            )

    @property
    def times(self) -> Times:
        down = torch.linspace(1, 0, self.n_steps + 1, dtype=torch.float64)
        horizon = self.noise.horizon
        if self.grid in ("uniform", "quadratic"):
            share = down if self.grid == "uniform" else down.square()
            times = self.stop + (horizon - self.stop) * share
        else:
            times = self._by_ratio()
        return torch.cat([times, torch.zeros_like(times[:1])]) if self.stop > 0 else times

    def _by_ratio(self) -> Times:
        """(9) and (10), down to `stop`; where that is 0, the last ratio comes a step before it."""
        ends = torch.tensor([self.noise.horizon, self.stop], dtype=torch.float64)
        first, last = (self.noise.sigma(ends) / self.noise.alpha(ends)).tolist()
        count = self.n_steps + (self.stop > 0)
        last = last or min(_LAST_RATIO, first / 100)
        down = torch.linspace(1, 0, count, dtype=torch.float64)
        if self.grid == "log_snr":
            ratios = last * (first / last) ** down
        else:
            low, high = last ** (1 / _RHO), first ** (1 / _RHO)
            ratios = (low + (high - low) * down) ** _RHO
        times = self.noise.time_of(ratios)
        times[0] = ends[0]
        if self.stop > 0:
            times[-1] = ends[1]
            return times
        return torch.cat([times, times.new_zeros(1)])


def _bridge(noise: NoiseProcess, t: Times, s: Times) -> tuple[Times, Times]:
    """beta² and post² of equation (1)."""
    ratio = noise.alpha(t) / noise.alpha(s)
    variance, earlier = noise.sigma(t) ** 2, noise.sigma(s) ** 2
    fresh = variance - ratio**2 * earlier
    return fresh, earlier * fresh / variance


@dataclass(frozen=True, kw_only=True)
class DDPM(_Stepwise):
    """Ancestral sampling: a noisy step towards each clean mean, equation (3).

    Reference:
        Ho, Jain and Abbeel 2020, equation (7), with the posterior variance of its section 3.2.
    """

    order: ClassVar[int] = 1

    def move(self, denoiser: Denoiser, x_t: Samples, t: Times, s: Times) -> Samples:
        noise, (fresh, _) = self.noise, _bridge(self.noise, t, s)
        variance = noise.sigma(t) ** 2
        keep = noise.alpha(t) / noise.alpha(s) * noise.sigma(s) ** 2 / variance
        return noise.alpha(s) * fresh / variance * denoiser(x_t, t) + keep * x_t

    def spread(self, t: Times, s: Times) -> float:
        return float(_bridge(self.noise, t, s)[1].sqrt())


@dataclass(frozen=True, kw_only=True)
class DDIM(_Stepwise):
    """Implicit sampling, equation (4): eta = 0 adds no noise, eta = 1 is DDPM.

    Raises:
        ConfigError: eta outside [0, 1].

    Reference:
        Song, Meng and Ermon 2021, Denoising diffusion implicit models, equations (12) and (16).
    """

    eta: float = 0.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ConfigError(
                f"DDIM takes eta in [0, 1], 0 without noise and 1 as DDPM; got eta={self.eta}."
            )

    def move(self, denoiser: Denoiser, x_t: Samples, t: Times, s: Times) -> Samples:
        noise, clean = self.noise, denoiser(x_t, t)
        eps = (x_t - noise.alpha(t) * clean) / noise.sigma(t)
        left = noise.sigma(s) ** 2 - self.eta**2 * _bridge(noise, t, s)[1]
        return noise.alpha(s) * clean + left.clamp(min=0).sqrt() * eps

    def spread(self, t: Times, s: Times) -> float:
        return self.eta * float(_bridge(self.noise, t, s)[1].sqrt())


def _velocity(noise: NoiseProcess, denoiser: Denoiser, x_t: Samples, t: Times) -> Samples:
    """dx/dt of the probability flow, equation (5)."""
    alpha_rate, sigma_rate = noise.rates(t)
    clean = denoiser(x_t, t)
    return alpha_rate * clean + sigma_rate / noise.sigma(t) * (x_t - noise.alpha(t) * clean)


@dataclass(frozen=True, kw_only=True)
class Euler(_Stepwise):
    """Euler's rule on the probability flow, equation (5): no noise, one denoising a step."""

    order: ClassVar[int] = 1

    def move(self, denoiser: Denoiser, x_t: Samples, t: Times, s: Times) -> Samples:
        return x_t - (t - s) * _velocity(self.noise, denoiser, x_t, t)


@dataclass(frozen=True, kw_only=True)
class Heun(_Stepwise):
    """Heun's rule on the probability flow, equation (5): order 2 for two denoisings a step.

    The last step is the clean mean, one denoising.

    Reference:
        Karras et al. 2022, Elucidating the design space of diffusion-based generative models,
        algorithm 1.
    """

    order: ClassVar[int] = 2

    def move(self, denoiser: Denoiser, x_t: Samples, t: Times, s: Times) -> Samples:
        slope = _velocity(self.noise, denoiser, x_t, t)
        ahead = _velocity(self.noise, denoiser, x_t - (t - s) * slope, s)
        return x_t - (t - s) / 2 * (slope + ahead)


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama(_Stepwise):
    """Euler's rule on the reverse diffusion, equation (6): noise in every step but the last.

    Reference:
        Song et al. 2021, section 4.1. Its order is the weak one, of mean and covariance.
    """

    order: ClassVar[int] = 1

    def move(self, denoiser: Denoiser, x_t: Samples, t: Times, s: Times) -> Samples:
        drift, diffusion = self.noise.equation(t)
        gradient = score(denoiser, self.noise, x_t, t)
        return x_t - (t - s) * (drift * x_t - diffusion * gradient)

    def spread(self, t: Times, s: Times) -> float:
        return float((self.noise.equation(t)[1] * (t - s)).sqrt())


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
