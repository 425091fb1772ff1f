"""Noise processes: how clean data become noise.

    (1)  x_t = alpha(t) x_0 + sigma(t) eps,    eps ~ N(0, I),    t in [0, horizon]

with alpha(0) = 1, sigma(0) = 0 and a signal-to-noise ratio alpha(t)² / sigma(t)² that decreases.
Every one of them is the law at time t of a linear stochastic differential equation

    (2)  dx = f(t) x dt + g(t) dw,    f = alpha' / alpha,    g² = 2 sigma sigma' - 2 f sigma²

Ornstein-Uhlenbeck, the paper's process, with its lambda called `noise_scale`:

    (3)  alpha(t) = e^-t,    sigma(t)² = noise_scale (1 - e^-2t)

Variance preserving, alpha² + sigma² = 1; alpha-bar in the literature is alpha²:

    (4)  linear     alpha² = exp(-beta_min t - (beta_max - beta_min) t² / (2 horizon))
    (5)  discrete   alpha² = prod_(k <= t) (1 - beta_k) at whole t, log-linear between them
    (6)  cosine     alpha = cos(u) / cos(u_0),   u = (pi / 2) (t + offset) / (1 + offset)

Others:

    (7)  variance exploding   alpha = 1,       sigma² = sigma_min² ((sigma_max / sigma_min)^2t - 1)
    (8)  rectified            alpha = 1 - t,   sigma = t

(6) and (8) reach pure noise at t = 1, where (2) is singular: their horizon lies before it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genonset.errors import ConfigError
from genonset.tensors import Samples, Times


class NoiseProcess(ABC):
    """A noising process, equation (1).

    Attributes:
        horizon: the largest time.
        prior_variance: variance of the noise from which sampling begins unless it is told where:
            that of x_t after infinite time, where there is such a limit, else sigma(horizon)².
    """

    horizon: float

    @abstractmethod
    def alpha(self, t: Times) -> Times:
        """Signal scale at times t."""

    @abstractmethod
    def sigma(self, t: Times) -> Times:
        """Noise scale at times t."""

    @property
    def prior_variance(self) -> float:
        return 1.0

    def perturb(self, x_0: Samples, t: Times, *, generator: torch.Generator) -> Samples:
        """Draw x_t given x_0, equation (1).

        Args:
            x_0: clean data, shape (n, *shape).
            t: one time for all points, or one a point, shape () or (n,).
            generator: source of eps.
        """
        eps = torch.randn(x_0.shape, dtype=x_0.dtype, generator=generator).to(x_0.device)
        per_point = (-1, *[1] * (x_0.ndim - 1)) if t.ndim else ()
        return self.alpha(t).reshape(per_point) * x_0 + self.sigma(t).reshape(per_point) * eps

    def rates(self, t: Times) -> tuple[Times, Times]:
        """alpha'(t) and sigma'(t), by automatic differentiation; t > 0."""
        return _derivative(self.alpha, t), _derivative(self.sigma, t)

    def equation(self, t: Times) -> tuple[Times, Times]:
        """f(t) and g(t)² of equation (2); t > 0."""
        alpha_rate, sigma_rate = self.rates(t)
        sigma = self.sigma(t)
        drift = alpha_rate / self.alpha(t)
        return drift, 2 * sigma * (sigma_rate - drift * sigma)

    def time_of(self, ratio: Times) -> Times:
        """The times at which sigma / alpha has the given values, by bisection.

        Values beyond the horizon's give the horizon.
        """
        low, high = torch.zeros_like(ratio), torch.full_like(ratio, self.horizon)
        for _ in range(1100):  # each bit of a float64, subnormal ones included
            middle = (low + high) / 2
            if bool(((middle == low) | (middle == high)).all()):
                break
            above = self.sigma(middle) > ratio * self.alpha(middle)
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return high


def _derivative(scale: Callable[[Times], Times], t: Times) -> Times:
    with torch.enable_grad():
        t = t.detach().clone().requires_grad_()
        value = scale(t)
        if not value.requires_grad:  # a constant scale
            return torch.zeros_like(t)
        return torch.autograd.grad(value.sum(), t)[0]


def _require(accepted: bool, process: NoiseProcess, needs: str) -> None:
    if not accepted:
        raise ConfigError(f"{process} is no noise process; it needs {needs}.")


@dataclass(frozen=True, kw_only=True)
class OrnsteinUhlenbeck(NoiseProcess):
    """Equation (3). Halder and Pehlevan, section 2.

    Raises:
        ConfigError: unless horizon and noise_scale are positive.
    """

    horizon: float = 2.0
    noise_scale: float = 1.0
    kind: ClassVar[str] = "ornstein_uhlenbeck"

    def __post_init__(self) -> None:
        if not (self.horizon > 0 and self.noise_scale > 0):
            raise ConfigError(
                f"Ornstein-Uhlenbeck noise needs horizon > 0 and noise_scale > 0, "
                f"got horizon={self.horizon}, noise_scale={self.noise_scale}."
            )

    def alpha(self, t: Times) -> Times:
        return torch.exp(-t)

    def sigma(self, t: Times) -> Times:
        return torch.sqrt(-self.noise_scale * torch.expm1(-2 * t))

    @property
    def prior_variance(self) -> float:
        return self.noise_scale


@dataclass(frozen=True, kw_only=True)
class VariancePreserving(NoiseProcess):
    """Equation (4): beta rises linearly from beta_min to beta_max at the horizon.

    Raises:
        ConfigError: unless 0 <= beta_min <= beta_max, 0 < beta_max and 0 < horizon.

    Reference:
        Song et al. 2021, Score-based generative modeling through SDEs, equation (33).
    """

    horizon: float = 1.0
    beta_min: float = 0.1
    beta_max: float = 20.0
    kind: ClassVar[str] = "variance_preserving"

    def __post_init__(self) -> None:
        accepted = 0 <= self.beta_min <= self.beta_max < math.inf and self.beta_max > 0
        _require(
            accepted and 0 < self.horizon < math.inf,
            self,
            "0 <= beta_min <= beta_max, beta_max > 0 and horizon > 0",
        )

    def _spent(self, t: Times) -> Times:
        """The integral of beta up to t."""
        return self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / (2 * self.horizon)

    def alpha(self, t: Times) -> Times:
        return torch.exp(-self._spent(t) / 2)

    def sigma(self, t: Times) -> Times:
        return torch.sqrt(-torch.expm1(-self._spent(t)))


class _InSteps(NoiseProcess):
    """Equation (5): a noise process given by its betas, whose time counts the steps."""

    @property
    @abstractmethod
    def betas(self) -> Tensor:
        """beta_1, ..., beta_K, float64."""

    @property
    def horizon(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The number of steps."""
        return float(len(self.betas))

    def alpha(self, t: Times) -> Times:
        return torch.exp(self._log_alpha_bar(t) / 2)

    def sigma(self, t: Times) -> Times:
        return torch.sqrt(-torch.expm1(self._log_alpha_bar(t)))

    def _log_alpha_bar(self, t: Times) -> Times:
        """Log of the product in (5)."""
        logs = torch.log1p(-self.betas)
        totals = torch.cat([logs.new_zeros(1), logs.cumsum(0)]).to(t)
        step = (t.detach().ceil() - 1).clamp(0, len(logs) - 1).long()
        return totals[step] + (t - step) * (totals[step + 1] - totals[step])


@dataclass(frozen=True, kw_only=True)
class DiscreteVariancePreserving(_InSteps):
    """Equation (5): beta_k in equal steps from beta_min to beta_max; time counts the steps.

    The defaults are the schedule of the paper's U-Net. Its horizon keeps alpha-bar = 0.13 of the
    signal's variance: it does not end in pure noise. Its rates jump at whole times, which holds
    every sampler to order 1; DDPM on the uniform grid of n_steps is that of Ho et al.

    Raises:
        ConfigError: unless n_steps >= 1 and 0 < beta_min <= beta_max < 1.

    Reference:
        Ho, Jain and Abbeel 2020, Denoising diffusion probabilistic models, section 4 (1000 steps).
    """

    n_steps: int = 200
    beta_min: float = 1e-4
    beta_max: float = 0.02
    kind: ClassVar[str] = "discrete_variance_preserving"

    def __post_init__(self) -> None:
        _require(
            self.n_steps >= 1 and 0 < self.beta_min <= self.beta_max < 1,
            self,
            "n_steps >= 1 and 0 < beta_min <= beta_max < 1",
        )

    @property
    def betas(self) -> Tensor:
        """beta_1, ..., beta_K, shape (n_steps,)."""
        return torch.linspace(self.beta_min, self.beta_max, self.n_steps, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class TabulatedVariancePreserving(_InSteps):
    """Equation (5) with any beta_k, such as a trained pipeline comes with; time counts the steps.

    Raises:
        ConfigError: unless there is a beta, and all lie strictly between 0 and 1.
    """

    schedule: tuple[float, ...]
    kind: ClassVar[str] = "tabulated_variance_preserving"

    def __post_init__(self) -> None:
        if not self.schedule or not all(0 < beta < 1 for beta in self.schedule):
            low, high = min(self.schedule, default=0.0), max(self.schedule, default=0.0)
            raise ConfigError(
                f"A schedule of {len(self.schedule)} betas from {low:g} to {high:g} is no noise "
                "process; each beta must lie strictly between 0 and 1, so that some signal stays."
            )

    @property
    def betas(self) -> Tensor:
        """The schedule, shape (n_steps,)."""
        return torch.tensor(self.schedule, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Cosine(NoiseProcess):
    """Equation (6), variance preserving.

    Raises:
        ConfigError: unless offset >= 0 and 0 < horizon < 1; at t = 1 no signal is left.

    Reference:
        Nichol and Dhariwal 2021, Improved denoising diffusion probabilistic models, equation (17);
        they clip beta near t = 1, where we stop before it.
    """

    horizon: float = 0.99
    offset: float = 0.008
    kind: ClassVar[str] = "cosine"

    def __post_init__(self) -> None:
        _require(
            0 <= self.offset < math.inf and 0 < self.horizon < 1,
            self,
            "offset >= 0 and 0 < horizon < 1",
        )

    def _angles(self, t: Times) -> tuple[Times, float]:
        """The angle u since u_0, and u_0."""
        scale = math.pi / 2 / (1 + self.offset)
        return scale * t, scale * self.offset

    def alpha(self, t: Times) -> Times:
        angle, first = self._angles(t)
        return torch.cos(angle + first) / torch.cos(torch.zeros_like(t) + first)

    def sigma(self, t: Times) -> Times:
        """sigma² = sin(u - u_0) sin(u + u_0) / cos² u_0, without cancellation near t = 0."""
        angle, first = self._angles(t)
        return torch.sqrt(torch.sin(angle) * torch.sin(angle + 2 * first)) / math.cos(first)


@dataclass(frozen=True, kw_only=True)
class VarianceExploding(NoiseProcess):
    """Equation (7): the signal stays, the noise grows geometrically, up to t = horizon.

    Raises:
        ConfigError: unless 0 < sigma_min < sigma_max and 0 < horizon.

    Reference:
        Song et al. 2021, equation (30), with the exact variance of its equation from t = 0.
    """

    horizon: float = 1.0
    sigma_min: float = 0.01
    sigma_max: float = 50.0
    kind: ClassVar[str] = "variance_exploding"

    def __post_init__(self) -> None:
        _require(
            0 < self.sigma_min < self.sigma_max < math.inf and 0 < self.horizon < math.inf,
            self,
            "0 < sigma_min < sigma_max and horizon > 0",
        )

    @property
    def prior_variance(self) -> float:
        return at_horizon(self)[1] ** 2

    def alpha(self, t: Times) -> Times:
        return torch.ones_like(t)

    def sigma(self, t: Times) -> Times:
        growth = 2 * math.log(self.sigma_max / self.sigma_min)
        return self.sigma_min * torch.sqrt(torch.expm1(growth * t))


@dataclass(frozen=True, kw_only=True)
class Rectified(NoiseProcess):
    """Equation (8): straight lines from data to noise.

    Raises:
        ConfigError: unless 0 < horizon < 1; at t = 1 no signal is left.

    Reference:
        Liu, Gong and Liu 2023, Flow straight and fast, with t counted from the data.
    """

    horizon: float = 0.99
    kind: ClassVar[str] = "rectified"

    def __post_init__(self) -> None:
        _require(0 < self.horizon < 1, self, "0 < horizon < 1")

    def alpha(self, t: Times) -> Times:
        return 1 - t

    def sigma(self, t: Times) -> Times:
        return t.clone()


def at_horizon(noise: NoiseProcess) -> tuple[float, float]:
    """(alpha, sigma) at the horizon, as float64 numbers."""
    t: Tensor = torch.tensor(noise.horizon, dtype=torch.float64)
    return float(noise.alpha(t)), float(noise.sigma(t))
