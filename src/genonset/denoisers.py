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

A kernel model regresses x_0 on x_t at every time, with intercept. With k centred over the m noisy
rows and h the bandwidth times sqrt(d) times the standard deviation of a coordinate of x_t,

    (9)   E[x_0 | x_t] = mean(x_0) + k(x_t, rows) (k(rows, rows) + m ridge I)^-1 X_c
    (10)  k(x, y) = h² exp(-|x - y|² / (2 h²)),       tends to x_c · y_c, centred, for h -> inf
    (11)  k(x, y) ~ phi(x) · phi(y),    phi = h sqrt(2 / D) cos(W x / h + b)    random features

so that the ridge is in units of the covariance of x_t, as in (3), and an infinite bandwidth is the
linear model of (3) at every time. One noise vector a row serves all times: the model is a smooth
function of time. A small bandwidth and ridge with many noise draws move it to the memorizer.

Of an exact denoiser the best affine fit, in mean square over x_t, is that of the Gaussian with the
mean m and the covariance C of x_0, since E[E[x_0 | x_t] x_t^T] = E[x_0 x_t^T]; with the score of
(1) it is -S (x_t - alpha m), S = (alpha² C + sigma²)^-1. What it leaves is not correlated with it:

    (12)  E|fit of the score|² = tr S,     Var(fit of the clean mean) = alpha² tr(C² S)
    (13)  share of the score = tr S / (tr S + alpha² R / sigma⁴),
          share of the clean mean = alpha² tr(C² S) / (alpha² tr(C² S) + R)

R the mean square of the clean mean less its fit. Both are 1 for a Gaussian at every time and tend
to 1 at late times for any law; the score's does so trivially, since noise alone is linear.

Halder and Pehlevan, sections 2.3 and 3; theory note (0.2), (0.3), (B14). Kernel ridge regression:
their section 5. Random features: Rahimi and Recht 2007.
"""

import contextlib
import copy
import math
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from genonset.errors import ConfigError, DataError, DivergedError
from genonset.noise import NoiseProcess, at_horizon
from genonset.sources import Empirical, ExactSource, Gaussian, GaussianMixture, centre
from genonset.tensors import Samples, Times, Vectors, flatten, require_finite

_BLOCK = 1 << 22  # elements of one block of kernel values
_MOST_ROWS = 10_000  # of an exact kernel; random features beyond
_KEPT = 1 << 26  # numbers of fitted levels kept: 512 MiB

Target = Literal["clean", "noise", "v"]

Precision = Literal["float32", "bfloat16"]
"""Of a network's products; its weights, norms and losses are float32 in both."""


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

    Attributes:
        precision: of the network's products, which `train` sets to what its recipe says.

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
        self.precision: Precision | str = "float32"

    def forward(self, x_t: Samples, t: Times) -> Samples:
        """The clean mean given x_t at one time t > 0, or one a point; computed in the network's
        own precision, returned in that of x_t.

        Raises:
            DataError: the network returned something else than a tensor of the shape of x_t.
            DivergedError: it returned values that are not finite.
        """
        alpha, sigma = self.scales(t, x_t)
        with self.arithmetic():
            output = self.network(*self.inputs(x_t, t))
        output = require_output(output, x_t).to(x_t)
        if self.target == "clean":
            return output
        if self.target == "noise":
            return (x_t - sigma * output) / alpha
        return (alpha * x_t - sigma * output) / (alpha**2 + sigma**2)

    def arithmetic(self) -> contextlib.AbstractContextManager:
        """The context in which the network is to be called: its precision."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        device = next(self.network.parameters(), torch.empty(0)).device.type
        return torch.autocast(device, torch.bfloat16)

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
    with probe.arithmetic():
        outputs = [probe.network(inputs, share * told) for share in (0.1, 0.5, 1.0)]
    first, *others = (require_output(output, x) for output in outputs)
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


class KernelDenoiser(Denoiser):
    """Kernel ridge regression of x_0 on x_t at every time, equations (9) to (11).

    A level is fitted when it is first asked for, and kept. An exact kernel costs m³ / 3 operations
    a level and m² numbers while it is fitted, m = n * n_noise_draws; D random features m D². The
    kernel is that of theory note (K1).

    Args:
        training: shape (n, *shape), n >= 2.
        noise: the noise process.
        bandwidth: h over the root mean squared distance of x_t from its mean; inf is linear.
        ridge: in units of the covariance of x_t; positive unless the kernel is linear.
        n_noise_draws: noisy copies of each training point.
        n_features: random features in place of the kernel; by default none up to 10,000 rows and
            4,000 beyond. Their error falls as n_features^(-1/2).
        generator: source of the noise and of the features.

    Raises:
        DataError: fewer than two points, or values that are not finite.
        ConfigError: a bandwidth, ridge or count that is out of range.
    """

    rows: Tensor
    eps: Tensor

    def __init__(
        self,
        training: Samples,
        noise: NoiseProcess,
        *,
        bandwidth: float = 1.0,
        ridge: float = 1e-3,
        n_noise_draws: int = 1,
        n_features: int | None = None,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if len(training) < 2:
            raise DataError(f"A kernel model needs n >= 2 training points, got {len(training)}.")
        linear = math.isinf(bandwidth)
        if not (bandwidth > 0 and (ridge > 0 or (linear and ridge == 0)) and n_noise_draws >= 1):
            raise ConfigError(
                "KernelDenoiser needs bandwidth > 0, ridge > 0 (or 0 with bandwidth = inf, the "
                f"linear model) and n_noise_draws >= 1; got bandwidth={bandwidth}, "
                f"ridge={ridge}, n_noise_draws={n_noise_draws}."
            )
        if n_features is not None and n_features < 1:
            raise ConfigError(f"KernelDenoiser needs n_features >= 1 or None, got {n_features}.")
        self.noise, self.shape = noise, tuple(training.shape[1:])
        self.bandwidth, self.ridge = bandwidth, ridge
        points = flatten(require_finite("training", training))
        rows = points.repeat(n_noise_draws, 1)
        eps = torch.randn(rows.shape, dtype=torch.float64, generator=generator).to(rows.device)
        self.register_buffer("rows", rows)
        self.register_buffer("eps", eps)
        if n_features is None and len(self.rows) > _MOST_ROWS:
            n_features = 4000
        self.features = (
            None
            if linear or n_features is None
            else _features(points.shape[1], n_features, generator)
        )
        self._levels: dict[float, _Level] = {}

    @property
    def affine(self) -> bool:
        return math.isinf(self.bandwidth)

    def forward(self, x_t: Samples, t: Times) -> Samples:
        level = self._level(float(t))
        queries = flatten(x_t) - level.centre
        size = max(1, _BLOCK // len(level.coefficients))
        parts = [self._kernel(part, level) @ level.coefficients for part in queries.split(size)]
        return (level.intercept + torch.cat(parts)).reshape(x_t.shape).to(x_t.dtype)

    def _level(self, t: float) -> "_Level":
        if t not in self._levels:
            fitted = self._fit(t)
            while self._levels and (len(self._levels) + 1) * fitted.size > _KEPT:
                self._levels.pop(next(iter(self._levels)))
            self._levels[t] = fitted
        return self._levels[t]

    def _fit(self, t: float) -> "_Level":
        """Equation (9) at one time: in the rows for an exact kernel, else in the features."""
        time = torch.tensor(t, dtype=torch.float64)
        x_t = self.noise.alpha(time) * self.rows + self.noise.sigma(time) * self.eps
        mean, noisy, _ = centre(x_t)
        width = self.bandwidth * float(noisy.square().sum(1).mean().sqrt())
        clean = self.rows - self.rows.mean(0)
        level = _Level(mean, noisy, width, torch.empty(0), self.rows.mean(0))
        by_row = not (self.affine or self.features is not None)
        kernel = self._kernel(noisy, level)
        offset = kernel.mean(0)
        centred = kernel - offset
        penalty = len(noisy) * self.ridge
        if by_row:
            centred -= centred.mean(1, keepdim=True)
            centred.diagonal().add_(penalty)
            coefficients = self._solve(centred, clean)
        elif penalty > 0:
            gram = centred.T @ centred
            gram.diagonal().add_(penalty)
            coefficients = self._solve(gram, centred.T @ clean)
        else:
            cutoff = 8 * torch.finfo(torch.float64).eps * max(centred.shape)
            found = torch.linalg.lstsq(centred, clean, rcond=cutoff, driver="gelsd")
            coefficients = found.solution
        return level._replace(
            rows=noisy if by_row else noisy[:0],
            coefficients=coefficients,
            intercept=self.rows.mean(0) - offset @ coefficients,
        )

    def _solve(self, penalized: Tensor, right: Tensor) -> Tensor:
        factor, failed = torch.linalg.cholesky_ex(penalized)
        if int(failed):
            raise ConfigError(
                f"ridge = {self.ridge} is below what float64 resolves for {len(self.rows)} noisy "
                "rows: their kernel is singular to rounding. Use a larger ridge."
            )
        return torch.cholesky_solve(right, factor)

    def _kernel(self, queries: Vectors, level: "_Level") -> Tensor:
        """What multiplies the coefficients: x itself, its features, or its kernel with the rows.

        The kernel is (10) less h², which centring removes and rounding would not.
        """
        if self.affine:
            return queries
        if self.features is not None:
            weights, phases = self.features
            scale = level.width * math.sqrt(2 / len(phases))
            return scale * torch.cos(queries @ weights.T / level.width + phases)
        squared = queries.square().sum(1)[:, None] - 2 * queries @ level.rows.T
        squared += level.rows.square().sum(1)
        return level.width**2 * torch.expm1(-squared.clamp_(min=0) / (2 * level.width**2))


class _Level(NamedTuple):
    """A kernel model at one time: intercept + k(x - centre, rows) coefficients."""

    centre: Tensor
    rows: Vectors
    width: float
    coefficients: Tensor
    intercept: Tensor

    @property
    def size(self) -> int:
        return self.rows.numel() + self.coefficients.numel()


def _features(dim: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """W and b of (11)."""
    weights = torch.randn(count, dim, dtype=torch.float64, generator=generator)
    phases = torch.rand(count, dtype=torch.float64, generator=generator)
    return weights, 2 * math.pi * phases


def measure_collapse_time(
    source: Empirical,
    noise: NoiseProcess,
    *,
    n_draws: int = 400,
    generator: torch.Generator,
) -> float:
    """The time below which noisy training points are told apart: the median own weight is 1/2.

    Found by bisection in t, the same points and noise at every time.

    Args:
        source: the training points.
        noise: the noise process.
        n_draws: noisy points that the median is over.
        generator: source of the draws.

    Returns:
        the time; the horizon where the weights have not yet spread there.

    Reference:
        Theory note (D1) to (D4), whose t_C this estimates; 4 % to 13 % above it at d = 100 to 16.
    """
    own = torch.randint(len(source.points), (n_draws,), generator=generator)
    clean = flatten(source.points[own])
    eps = torch.randn(clean.shape, dtype=torch.float64, generator=generator)

    def weight(t: float) -> float:
        time = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = float(noise.alpha(time)), float(noise.sigma(time))
        x_t = (alpha * clean + sigma * eps).reshape(n_draws, *source.shape)
        return float(source.posterior(x_t, alpha, sigma, own=own).own.median())

    low, high = 0.0, noise.horizon
    if weight(high) > 0.5:
        return high
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if weight(middle) > 0.5 else (low, middle)
    return (low + high) / 2


class LinearShare(NamedTuple):
    """How much of an exact denoiser is linear, equation (13).

    Attributes:
        score: share of the mean square of the score.
        clean: share of the variance of the clean mean.
    """

    score: float
    clean: float


def linear_share(
    source: Gaussian | GaussianMixture | Empirical,
    alpha: float,
    sigma: float,
    *,
    n_draws: int = 400,
    generator: torch.Generator,
) -> LinearShare:
    """The share of an exact score, and of its clean mean, that their best affine fit explains.

    The fit and its own variance are in closed form, (12); only the mean square of what it leaves,
    the R of (13), is a mean over draws of x_t. For a Gaussian R = 0 and both shares are 1.

    Args:
        source: the law of x_0; of `Empirical`, the training points.
        alpha: signal scale.
        sigma: noise scale, positive.
        n_draws: noisy points that R is a mean over.
        generator: source of the draws.

    Returns:
        both shares, between 0 and 1.

    Raises:
        DataError: if all points of the source are equal: there is no clean mean to explain.

    Reference:
        Halder and Pehlevan, section 2.3, on late times; theory note (D7).
    """
    mean, covariance = source.mean, source.covariance
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp_min(0.0)
    if float(values.sum()) == 0:
        raise DataError("linear_share: a law on one point has no linear part; use two or more.")
    noisy = alpha**2 * values + sigma**2
    clean = flatten(source.sample(n_draws, generator=generator)).double()
    x_t = alpha * clean + sigma * torch.randn(
        clean.shape, dtype=torch.float64, generator=generator
    )
    gain = (vectors * (alpha * values / noisy)) @ vectors.T
    linear = mean + (x_t - alpha * mean) @ gain
    exact = source.posterior_mean(x_t.reshape(-1, *source.shape), alpha, sigma)
    left = float((flatten(exact) - linear).square().sum(1).mean())
    fitted_score, fitted_clean = (
        float((1 / noisy).sum()),
        float((alpha**2 * values**2 / noisy).sum()),
    )
    return LinearShare(
        score=fitted_score / (fitted_score + alpha**2 / sigma**4 * left),
        clean=fitted_clean / (fitted_clean + left),
    )
