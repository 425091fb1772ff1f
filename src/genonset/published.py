"""The arithmetic of the published experiments as their code has it, each quirk a named switch.

The linear experiment, `PublishedArithmetic`.

With B the regression slope, c = alpha² v + sigma² the scalar start and mu the generated mean:

    (1)  Sigma = c B^T B                      `transpose`; the generated covariance is c B B^T
    (2)  eps = sd N^(-1/d) and (2 eps²)^(d/2) rounded to float32        `float32_bandwidth`
    (3)  det(M) := 0 where det(M) <= e^-25                              `determinant_cutoff`

    (4)  E_XG = sum_kl exp(-|x_k - x_l|² / 4 eps²) / (sqrt(2 pi) N² (2 eps²)^(d/2))
                - 2 sum_k exp(-q_k / 2) / (N sqrt(2 pi det(Sigma + eps² I)))
    (5)  H² = 1 - 2^(d/2) (det Sigma sd^2d)^(1/4) det(Sigma + sd² I)^(-1/2) exp(-Q / 4)

with q_k, Q the quadratic forms of (Sigma + eps² I)^-1 and (Sigma + sd² I)^-1. Delta = E_TG - E_OG
is taken as the plain difference. The first terms of E_TG and E_OG hold N equal diagonal terms,
(4 pi sd²)^(-d/2) (2 pi)^((d-1)/2) together, which cancel exactly in real arithmetic. Rounded to
float32 they differ by up to 1e-6 of their size; at d = 100 and n near d all other terms are some
1e-14 of it, so that there the sign of Delta is a property of rounding. With the three switches
off, (4) is the corrected error times (2 pi)^((d-1)/2), a constant that changes no sign.

The U-Net experiment, `PublishedNetworkArithmetic`. Data x lie in [-1, 1] here, with standard
deviation s; a network is trained on them, and g is what it generates:

    (6)  the last n - floor(0.9 n) training points are not trained on nor compared    `set_aside`
    (7)  g := min(max(g, -1), 1)                                                      `clip`
    (8)  E_TG = d((g + 1)/2, x), E_OG = d((g + 1)/2, 255 (x + 1)/2)                   `mixed_units`

with d the mean over coordinates of int (rho - rho')², each set smoothed with the width s/2 / size
that belongs to data in [0, 1]. In that width a set of standard deviation s' overlaps with itself
by about

    (9)  1 / (sqrt(pi) s) + 1 / (2 sqrt(pi) s'),    s' = s (training) or 255 s/2 (original)

its points with themselves first, with one another second. The original set lies beyond the reach
of the generated one, so that E_OG holds no cross term. E_TG holds the larger second term of (9)
and a cross term, which is smaller unless many values of (g + 1)/2 lie near 0, where the training
set has its mean. Hence Delta = E_TG - E_OG > 0 for exact copies and a perfect generator alike,
and Delta < 0 for one so wide that (7) acts. With `mixed_units` off all three sets and the width
are in the units of the data.

Source: the code published with Halder and Pehlevan, `LDM.py`, `simulation.py` and `model.py`.
Their drawing of data, their regression and their sums in float32 are not imitated, nor the
network's whole times, nor the sampler's larger noise (beta instead of the posterior variance) and
the one step by which it lags behind its schedule.
"""

import math
import operator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genonset import distances
from genonset.criteria import Generated, Reference, Scene
from genonset.denoisers import fit_linear
from genonset.errors import DataError
from genonset.noise import NoiseProcess
from genonset.samplers import OneStep, estimated_start
from genonset.sources import Gaussian
from genonset.tensors import Samples, Vectors

_CUTOFF = math.exp(-25)


@dataclass(frozen=True, kw_only=True)
class PublishedArithmetic:
    """The switches of (1) to (3); all on is the code as published, all off is correct."""

    transpose: bool = True
    float32_bandwidth: bool = True
    determinant_cutoff: bool = True

    def fit(
        self, training: Vectors, noise: NoiseProcess, *, generator: torch.Generator
    ) -> Generated:
        """Fit the linear one-step model and give its law the orientation of (1)."""
        denoiser, x_t = fit_linear(training, noise, generator=generator)
        start = estimated_start(training, x_t, noise, "scalar")
        law = OneStep(noise=noise, start=start).propagate(denoiser)
        if self.transpose:
            root = start.eigenvalues[0].sqrt()
            law = Gaussian.from_factor(law.mean, denoiser.slope.T * root)
        return self.judge(law)

    def judge(self, law: Gaussian) -> Generated:
        """A generator of this law whose criteria use this arithmetic."""
        return Generated(
            draw=lambda n, generator: law.sample(n, generator=generator),
            law=law,
            own={
                "kernel_l2_training": lambda s: self.error(law, s.training, s.std),
                "kernel_l2_original": lambda s: self.error(law, s.original, s.std),
                "delta": lambda s: (
                    self.error(law, s.training, s.std) - self.error(law, s.original, s.std)
                ),
                "hellinger_squared": lambda s: self.hellinger_squared(law, _isotropic(s)),
                "affinity_rate": lambda s: (
                    (1 - self.hellinger_squared(law, _isotropic(s))) ** (1 / law.dim)
                ),
            },
        )

    def bandwidth(self, n: int, dim: int, std: float) -> Tensor:
        """eps of (2), a float32 or float64 scalar."""
        dtype = torch.float32 if self.float32_bandwidth else torch.float64
        return torch.tensor(std, dtype=dtype) * torch.tensor((1 / n) ** (1 / dim), dtype=dtype)

    def error(self, law: Gaussian, reference: Reference, std: float) -> float:
        """E_XG of equation (4)."""
        n, dim = reference.points.shape
        eps = self.bandwidth(n, dim, std)
        exact = reference.smoothed.bandwidth
        log_scale = 2 * math.log(n) + dim / 2 * math.log(4 * math.pi * exact**2)
        pairs = torch.tensor(n + math.exp(reference.log_off + log_scale), dtype=eps.dtype)
        two_pi = torch.tensor(2 * math.pi, dtype=eps.dtype)
        own = (1 / (two_pi.sqrt() * (2 * eps**2) ** (dim / 2) * n**2)) * pairs
        widened = distances.Smoothed(points=reference.points, bandwidth=float(eps))
        log_cross = distances.log_overlap(law, widened)
        if self._determinant(law.eigenvalues + float(eps) ** 2) == 0:
            return -math.inf
        return float(own) - 2 * math.exp(log_cross + (dim - 1) / 2 * math.log(2 * math.pi))

    def hellinger_squared(self, law: Gaussian, source: Gaussian) -> float:
        """H² of equation (5), against an isotropic source."""
        variance = float(source.eigenvalues[0])
        widened = law.eigenvalues + variance
        numerator = self._determinant(law.eigenvalues)
        if numerator == 0 or self._determinant(widened) == 0:
            return 1.0
        quadratic = float((law.to_axes(source.mean[None])[0].square() / widened).sum())
        log_affinity = (
            law.dim / 2 * math.log(2)
            + float(law.eigenvalues.log().sum() + law.dim * math.log(variance)) / 4
            - float(widened.log().sum()) / 2
            - quadratic / 4
        )
        return -math.expm1(log_affinity)

    def _determinant(self, eigenvalues: Tensor) -> float:
        """The determinant, 0 where (3) says so."""
        value = float(eigenvalues.log().sum().exp())
        return 0.0 if self.determinant_cutoff and value <= _CUTOFF else value


@dataclass(frozen=True, kw_only=True)
class PublishedNetworkArithmetic:
    """The switches of (6) to (8); all on is the code as published, all off is correct."""

    set_aside: bool = True
    clip: bool = True
    mixed_units: bool = True

    def trained(self, training: Samples) -> Samples:
        """The rows of a training set that (6) leaves."""
        return training[: int(len(training) * 0.9)] if self.set_aside else training

    def judge(self, generated: Generated) -> Generated:
        """The same generator, with the range of (7) and criteria that use this arithmetic."""

        def draw(n: int, generator: torch.Generator) -> Samples:
            samples = generated.draw(n, generator)
            return samples.clamp(-1, 1) if self.clip else samples

        return replace(
            generated,
            draw=draw,
            own={
                "coordinate_kernel_l2_training": lambda s: self.errors(s)[0],
                "coordinate_kernel_l2_original": lambda s: self.errors(s)[1],
                "coordinate_delta": lambda s: operator.sub(*self.errors(s)),
            },
        )

    def errors(self, scene: Scene) -> tuple[float, float]:
        """E_TG and E_OG of equation (8)."""
        samples, std = scene.samples, scene.std
        training, original = self.trained(scene.training.points), scene.original.points
        if self.mixed_units:
            samples, std = (samples + 1) / 2, std / 2
            original = 255 * (original + 1) / 2
        return (
            distances.coordinate_kernel_l2(samples, training, std),
            distances.coordinate_kernel_l2(samples, original, std),
        )


def _isotropic(scene: Scene) -> Gaussian:
    source = scene.source
    if not (isinstance(source, Gaussian) and len(source.eigenvalues.unique()) == 1):
        raise DataError(
            "The published Hellinger distance knows an isotropic Gaussian source only; "
            "use the model 'linear_one_step' for any other."
        )
    return source
