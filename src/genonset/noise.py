"""Noise processes: how clean data become noise.

    (1)  x_t = alpha(t) x_0 + sigma(t) eps,    eps ~ N(0, I),    t in [0, horizon]

with alpha(0) = 1, sigma(0) = 0 and a signal-to-noise ratio alpha(t)² / sigma(t)² that decreases.

Ornstein-Uhlenbeck, the paper's process, with its lambda called `noise_scale`:

    (2)  alpha(t) = e^-t,    sigma(t)² = noise_scale (1 - e^-2t)
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genonset.errors import ConfigError
from genonset.tensors import Samples, Times


class NoiseProcess(ABC):
    """A noising process, equation (1)."""

    horizon: float

    @abstractmethod
    def alpha(self, t: Times) -> Times:
        """Signal scale at times t."""

    @abstractmethod
    def sigma(self, t: Times) -> Times:
        """Noise scale at times t."""

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


@dataclass(frozen=True, kw_only=True)
class OrnsteinUhlenbeck(NoiseProcess):
    """Equation (2). Halder and Pehlevan, section 2.

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


def at_horizon(noise: NoiseProcess) -> tuple[float, float]:
    """(alpha, sigma) at the horizon, as float64 numbers."""
    t: Tensor = torch.tensor(noise.horizon, dtype=torch.float64)
    return float(noise.alpha(t)), float(noise.sigma(t))
