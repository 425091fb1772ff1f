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

A network sees x_t / sqrt(alpha² + sigma²), of about the data's own size, and predicts its target:

    (6)  clean   x_0                     E[x_0 | x_t] = f
    (7)  noise   eps                     E[x_0 | x_t] = (x_t - sigma f) / alpha
    (8)  v       alpha eps - sigma x_0   E[x_0 | x_t] = (alpha x_t - sigma f)/(alpha² + sigma²)

Halder and Pehlevan, section 3; theory note (0.2), (0.3), (B14).
"""

import copy
from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from genonset.errors import ConfigError, DataError, DivergedError
from genonset.noise import NoiseProcess, at_horizon
from genonset.sources import ExactSource, Gaussian, centre
from genonset.tensors import Samples, Times, Vectors, require_finite

Target = Literal["clean", "noise", "v"]


class Denoiser(nn.Module, ABC):
    """An estimate of E[x_0 | x_t].

    Attributes:
        shape: of one data point, where the denoiser knows it.
    """

    shape: tuple[int, ...] | None = None

    @property
    def affine(self) -> bool:
        """Whether it is an affine function of x_t at every time it serves."""
        return False

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
        self.source, self.noise, self.shape = source, noise, source.shape

    @property
    def affine(self) -> bool:
        return isinstance(self.source, Gaussian)

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
        self.time, self.shape = time, (len(intercept),)

    @property
    def affine(self) -> bool:
        return True

    def forward(self, x_t: Vectors, t: Times) -> Vectors:
        if abs(float(t) - self.time) > 1e-12 * self.time:
            raise ConfigError(
                f"This affine denoiser was fitted at time {self.time}; it cannot denoise at "
                f"time {float(t)}. Use it with the one-step sampler."
            )
        return self.intercept + x_t @ self.slope.T


class NeuralDenoiser(Denoiser):
    """A network's estimate of the clean mean, whatever its own target: (6), (7) or (8).

    Args:
        network: any module forward(x, t) with x of shape (n, *shape) and t of shape (n,), that
            returns the shape of x; it sees `clock * t / horizon` as its t.
        noise: the noise process it is trained for.
        target: what the network predicts.
        clock: the time a network is told at the horizon; a network without parameters for time
            resolves whole units best.
        shape: of one data point, which `train` fills in.

    Raises:
        ConfigError: an unknown target, or a clock that is not positive.
    """

    def __init__(
        self,
        network: nn.Module,
        noise: NoiseProcess,
        target: Target | str = "noise",
        *,
        clock: float = 100.0,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        if target not in get_args(Target) or not clock > 0:
            raise ConfigError(
                f"NeuralDenoiser takes a target of {', '.join(get_args(Target))} and a clock > 0, "
                f"got target={target!r}, clock={clock}."
            )
        self.network, self.noise, self.target, self.clock = network, noise, target, clock
        self.shape = shape

    def forward(self, x_t: Samples, t: Times) -> Samples:
        """The clean mean given x_t at one time t > 0, or one a point; computed in the network's
        own precision, returned in that of x_t.

        Raises:
            DataError: the network returned something else than a tensor of the shape of x_t.
            DivergedError: it returned values that are not finite.
        """
        alpha, sigma = self.scales(t, x_t)
        output = self.network(*self.inputs(x_t, t))
        output = require_output(output, x_t).to(x_t)
        if self.target == "clean":
            return output
        if self.target == "noise":
            return (x_t - sigma * output) / alpha
        return (alpha * x_t - sigma * output) / (alpha**2 + sigma**2)

    def scales(self, t: Times, like: Samples) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t, from float64, shaped to multiply points like the given ones."""
        t = t.to(torch.float64)
        per_point = (-1, *[1] * (like.ndim - 1)) if t.ndim else ()
        alpha, sigma = self.noise.alpha(t), self.noise.sigma(t)
        return alpha.reshape(per_point).to(like), sigma.reshape(per_point).to(like)

    def inputs(self, x_t: Samples, t: Times) -> tuple[Tensor, Tensor]:
        """What the network is given for x_t: scaled points, and one time for each."""
        alpha, sigma = self.scales(t, x_t)
        weight = next(self.network.parameters(), x_t)
        told = (self.clock / self.noise.horizon * t).expand(len(x_t)).to(weight)
        return (x_t / torch.sqrt(alpha**2 + sigma**2)).to(weight), told

    def aim(self, x_0: Samples, eps: Samples, t: Times) -> Samples:
        """The target of the network for clean points and their noise: (6), (7) or (8)."""
        if self.target == "clean":
            return x_0
        if self.target == "noise":
            return eps
        alpha, sigma = self.scales(t, x_0)
        return alpha * eps - sigma * x_0


def require_output(output: object, x: Samples) -> Samples:
    """A network's output unchanged, or what is wrong with it.

    Raises:
        DataError: not a tensor, or of another shape than the network's input.
        DivergedError: NaN or infinite values.
    """
    if not isinstance(output, Tensor) or output.shape != x.shape:
        seen = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise DataError(
            f"The network returned {seen} for points of shape {tuple(x.shape)}. A network must be "
            "a module forward(x, t) that returns one tensor of the shape of x."
        )
    if not bool(torch.isfinite(output).all()):
        bad = int((~torch.isfinite(output)).sum())
        raise DivergedError(
            f"The network returned {bad} of {output.numel()} values that are NaN or infinite. "
            "Lower the learning rate, or check the network's input and its layers."
        )
    return output


@torch.no_grad()
def check_network(denoiser: NeuralDenoiser, x: Samples) -> None:
    """Refuse a network that cannot denoise points like x, before any time is spent on it.

    A copy with slightly moved parameters is asked, since a last layer that starts at zero, as
    many do, answers zero at every time.

    Args:
        x: a few clean points.

    Raises:
        DataError: a wrong output, or one that does not depend on the time.
        DivergedError: output that is not finite.
    """
    probe = copy.deepcopy(denoiser).eval()
    generator = torch.Generator().manual_seed(0)
    for p in probe.network.parameters():
        if p.is_floating_point():
            p.add_(0.01 * torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device))
    horizon = torch.tensor(denoiser.noise.horizon, dtype=torch.float64)
    inputs, told = probe.inputs(x, horizon)
    first, *others = (
        require_output(probe.network(inputs, share * told), x) for share in (0.1, 0.5, 1.0)
    )
    if all(torch.equal(first, other) for other in others):
        raise DataError(
            f"{type(denoiser.network).__name__} ignores the time: its output is the same at "
            "10 %, 50 % and 100 % of the horizon. One network serves all noise levels, so it must "
            "use its second argument t."
        )


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
