"""Data distributions: exact ones, whose posterior mean is known, and merely drawable ones.

An exact source knows two closed forms of its noisy version x_t = alpha x_0 + sigma eps:

    (1)  log p_t(x_t),                     the noisy log density
    (2)  E[x_0 | x_t],                     the posterior mean, i.e. the ideal denoiser

tied by Tweedie's identity  alpha E[x_0 | x_t] = x_t + sigma² grad log p_t(x_t).

Gaussian N(m, C), with C = U diag(w) U^T and possibly singular:

    (3)  p_t = N(alpha m, alpha² C + sigma² I)
    (4)  E[x_0 | x_t] = m + alpha C (alpha² C + sigma² I)^-1 (x_t - alpha m)

Mixture: posterior class weights times (4). Empirical, the uniform law on n points: the posterior
weights are a softmax of -|x_t - alpha x_k|² / (2 sigma²), so its ideal denoiser returns training
points: it is the exact memorizer. How far these weights w have collapsed is measured by

    (5)  entropy -sum w log w,    participation ratio 1 / sum w²,    the weight of one's own point

For x_t noised from point I, E w_I = E sum w² and log n - E entropy = I(index; x_t): theory (D4).
Its own term against all others, the Z_1 and Z_1^c of the paper, is

    (7)  ln(Z_I / Z_rest) = -|x_t - alpha x_I|² / (2 sigma²)
                            - ln sum_{k != I} exp(-|x_t - alpha x_k|² / (2 sigma²))

The sums over points run in tiles, rescaled as their running maximum m grows, so that nothing of
size n x batch is ever held: with l the log weights of a tile and primes for the new values,

    (6)  m' = max(m, max l),   Z' = 2^(m - m') Z + sum 2^(l - m'),   E[x_0 | x_t] the same way

with logarithms to base 2 there, whose exponential costs a fifth of e's and does not slow down
where it underflows, as most weights of a memorizer do.

All arithmetic is float64, but for `Empirical` points given in float32 (see there).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genonset import seeds
from genonset.errors import DataError
from genonset.tensors import Samples, Vectors, flatten, product, require_finite

_LN_2 = math.log(2)
_LOG_2PI = math.log(2 * math.pi)
_EPS = torch.finfo(torch.float64).eps
_BLOCK = 1 << 22  # elements of one block of pairwise values: 32 MiB of float64
_ROWS, _COLUMNS = 512, 1024  # of a tile of posterior weights: 4 MiB of float64
_LOG_WEIGHT_ERROR = 1e-3  # of posterior weights from float32 points


def centre(points: Vectors) -> tuple[Tensor, Vectors, float]:
    """The mean of the points, the points about it, and how far rounding reaches.

    Args:
        points: shape (n, d).

    Returns:
        mean, shape (d,); centred points, shape (n, d); and a bound on the spectral norm of what
        the rounding of the coordinates and of their mean adds to the centred points: singular
        values below it say nothing about the data.
    """
    mean = points.mean(0)
    rounding = 4 * _EPS * float(points.abs().max()) * math.sqrt(points.numel())
    return mean, points - mean, rounding


class Source(nn.Module, ABC):
    """A law one can draw from.

    Attributes:
        shape: shape of one data point.
    """

    shape: tuple[int, ...]

    @property
    def dim(self) -> int:
        """Number of coordinates of one data point."""
        return math.prod(self.shape)

    @property
    @abstractmethod
    def std(self) -> float:
        """Root mean variance of a coordinate, sqrt(tr Cov / dim): the kernel's scale."""

    @abstractmethod
    def sample(self, n: int, *, generator: torch.Generator) -> Samples:
        """Draw n independent points, shape (n, *shape)."""


class ExactSource(Source):
    """A source whose noisy density and posterior mean have closed forms, (1) and (2)."""

    @abstractmethod
    def log_density(self, x_t: Samples, alpha: float, sigma: float) -> Tensor:
        """Log density of alpha x_0 + sigma eps at x_t, equation (1), shape (n,).

        Raises:
            DataError: where the noisy law has none: at sigma = 0 for a singular law.
        """

    @abstractmethod
    def posterior_mean(self, x_t: Samples, alpha: float, sigma: float) -> Samples:
        """E[x_0 | x_t], equation (2), of the shape of x_t."""


class Gaussian(ExactSource):
    """N(mean, covariance), equations (3) and (4); the covariance may be singular.

    Args:
        mean: shape (d,).
        covariance: a number c for c I, shape (d,) for a diagonal, or (d, d).

    Attributes:
        eigenvalues: of the covariance, shape (d,); exactly zero below rounding error.
        eigenvectors: its columns, shape (d, d), or None where they are the coordinate axes.

    Raises:
        DataError: if shapes disagree, or the covariance is not finite, symmetric and
            positive semidefinite.
    """

    mean: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor | None

    def __init__(self, mean: Tensor | Sequence[float], covariance: Tensor | float) -> None:
        super().__init__()
        mean = torch.as_tensor(mean, dtype=torch.float64)
        covariance = torch.as_tensor(covariance, dtype=torch.float64)
        if mean.ndim != 1 or len(mean) == 0:
            raise DataError(
                f"Gaussian: the mean has shape {tuple(mean.shape)}; pass the d coordinates of one "
                "point, shape (d,), e.g. torch.zeros(d)."
            )
        d = len(mean)
        if covariance.shape not in ((), (d,), (d, d)):
            raise DataError(
                f"Gaussian: a mean of {d} coordinates takes a covariance that is one number, "
                f"{d} numbers or a {d} x {d} matrix, got shape {tuple(covariance.shape)}."
            )
        require_finite("Gaussian mean", mean)
        require_finite("Gaussian covariance", covariance)
        vectors = None
        if covariance.ndim < 2:
            values = covariance.expand(d).clone()
        else:
            rounding = 1e-12 * float(covariance.abs().max())
            if not torch.allclose(covariance, covariance.T, rtol=1e-8, atol=rounding):
                raise DataError("Gaussian: the covariance is not symmetric; pass (C + C.T) / 2.")
            values, vectors = torch.linalg.eigh(covariance)
        noise = d * _EPS * float(values.abs().max())
        if bool((values < -noise).any()):
            raise DataError(
                f"Gaussian: the covariance has a negative eigenvalue {float(values.min()):.3g}; "
                "a covariance is positive semidefinite."
            )
        smallest = 0.0 if vectors is None else noise  # variances given as such are exact
        self._register(mean, torch.where(values > smallest, values, 0.0), vectors)

    @classmethod
    def from_factor(cls, mean: Tensor, factor: Tensor, *, rounding: float = 0.0) -> "Gaussian":
        """N(mean, factor factor^T), its rank read off the factor's singular values.

        Small eigenvalues keep the relative accuracy of the factor: they are not lost in the
        rounding of a product of matrices.

        Args:
            mean: shape (d,).
            factor: shape (d, k).
            rounding: spectral norm of the errors the factor came with; singular values up to it
                count as zero, as do those below the rounding of the decomposition itself.

        Raises:
            DataError: if shapes disagree.
        """
        d = len(mean)
        if factor.ndim != 2 or len(factor) != d or factor.shape[1] == 0:
            raise DataError(
                f"Gaussian.from_factor: a mean of {d} coordinates takes a factor of shape "
                f"({d}, k), got {tuple(factor.shape)}."
            )
        vectors, singular, _ = torch.linalg.svd(
            factor.to(torch.float64), full_matrices=factor.shape[1] < d
        )
        noise = rounding + 4 * max(factor.shape) * _EPS * float(singular.max())
        values = torch.zeros(d, dtype=torch.float64, device=factor.device)
        values[: len(singular)] = torch.where(singular > noise, singular, 0.0).square()[:d]
        law = cls.__new__(cls)
        nn.Module.__init__(law)
        law._register(mean.to(torch.float64), values, vectors)
        return law

    @classmethod
    def fit(cls, points: Samples) -> "Gaussian":
        """The Gaussian with the mean and the covariance, with 1/(n - 1), of given points.

        n <= d points give a law of rank n - 1, exactly singular.

        Args:
            points: shape (n, *shape), n >= 2; flattened.

        Raises:
            DataError: if there are fewer than 2 points or a value is not finite.
        """
        x = require_finite("points", flatten(points))
        if len(x) < 2:
            raise DataError(
                f"Gaussian.fit: {len(x)} points have no covariance; at least 2 are needed."
            )
        mean, centred, rounding = centre(x)
        scale = math.sqrt(len(x) - 1)
        triangle = torch.linalg.qr(centred / scale, mode="r").R
        return cls.from_factor(mean, triangle.T, rounding=rounding / scale)

    def _register(self, mean: Tensor, values: Tensor, vectors: Tensor | None) -> None:
        self.register_buffer("mean", mean)
        self.register_buffer("eigenvalues", values)
        self.register_buffer("eigenvectors", vectors)
        self.shape = (len(mean),)

    @property
    def covariance(self) -> Tensor:
        """The covariance as a matrix, shape (d, d)."""
        if self.eigenvectors is None:
            return torch.diag(self.eigenvalues)
        return (self.eigenvectors * self.eigenvalues) @ self.eigenvectors.T

    @property
    def rank(self) -> int:
        """Dimension of the support."""
        return int((self.eigenvalues > 0).sum())

    @property
    def std(self) -> float:
        return math.sqrt(float(self.eigenvalues.mean()))

    def to_axes(self, x: Vectors) -> Vectors:
        """Coordinates of x - mean along the principal axes."""
        centred = x - self.mean
        return centred if self.eigenvectors is None else centred @ self.eigenvectors

    def from_axes(self, y: Vectors) -> Vectors:
        """Inverse of `to_axes`."""
        return self.mean + (y if self.eigenvectors is None else y @ self.eigenvectors.T)

    def sample(self, n: int, *, generator: torch.Generator) -> Vectors:
        """mean + C^(1/2) z, the symmetric root: equal noise gives comparable points."""
        z = torch.randn(n, self.dim, dtype=torch.float64, generator=generator).to(self.mean.device)
        along = z if self.eigenvectors is None else z @ self.eigenvectors
        return self.from_axes(along * self.eigenvalues.sqrt())

    def log_density(self, x_t: Vectors, alpha: float, sigma: float) -> Tensor:
        variance = alpha**2 * self.eigenvalues + sigma**2
        if not bool((variance > 0).all()):
            raise DataError("Gaussian: a singular law has no density at sigma = 0; use sigma > 0.")
        y = self.to_axes(x_t + (1 - alpha) * self.mean)
        return -0.5 * (
            (y.square() / variance).sum(-1) + variance.log().sum() + self.dim * _LOG_2PI
        )

    def posterior_mean(self, x_t: Vectors, alpha: float, sigma: float) -> Vectors:
        variance = alpha**2 * self.eigenvalues + sigma**2
        gain = torch.where(variance > 0, alpha * self.eigenvalues / variance, 0.0)
        return self.from_axes(gain * self.to_axes(x_t + (1 - alpha) * self.mean))


class GaussianMixture(ExactSource):
    """sum_k weights[k] N(means[k], covariances[k]).

    Args:
        weights: shape (K,), positive; normalized to sum one.
        means: shape (K, d).
        covariances: K covariances as `Gaussian` takes them: shape (K,), (K, d) or (K, d, d).

    Raises:
        DataError: if counts disagree or a weight is not positive.
    """

    log_weights: Tensor

    def __init__(
        self,
        weights: Tensor | Sequence[float],
        means: Tensor | Sequence[Sequence[float]],
        covariances: Tensor | Sequence[float],
    ) -> None:
        super().__init__()
        weights = torch.as_tensor(weights, dtype=torch.float64)
        means = torch.as_tensor(means, dtype=torch.float64)
        covariances = torch.as_tensor(covariances, dtype=torch.float64)
        ranks = weights.ndim == 1 and means.ndim == 2 and covariances.ndim >= 1
        if not (ranks and 0 < len(weights) == len(means) == len(covariances)):
            raise DataError(
                "GaussianMixture: one weight, mean and covariance a component are needed, got "
                f"shapes {tuple(weights.shape)}, {tuple(means.shape)}, "
                f"{tuple(covariances.shape)}."
            )
        if not bool((require_finite("mixture weights", weights) > 0).all()):
            raise DataError("GaussianMixture: weights must be positive.")
        self.register_buffer("log_weights", (weights / weights.sum()).log())
        self.components = nn.ModuleList(
            Gaussian(m, c) for m, c in zip(means, covariances, strict=True)
        )
        self.shape = (means.shape[1],)

    @property
    def gaussians(self) -> list[Gaussian]:
        """The components, in order."""
        return [c for c in self.components if isinstance(c, Gaussian)]

    @property
    def mean(self) -> Tensor:
        """Mean of the mixture, shape (d,)."""
        return self.log_weights.exp() @ torch.stack([g.mean for g in self.gaussians])

    @property
    def covariance(self) -> Tensor:
        """Covariance of the mixture, within plus between components, shape (d, d)."""
        weights, centre = self.log_weights.exp(), self.mean
        parts = [
            g.covariance + torch.outer(g.mean - centre, g.mean - centre) for g in self.gaussians
        ]
        return torch.einsum("k,kij->ij", weights, torch.stack(parts))

    @property
    def std(self) -> float:
        return math.sqrt(float(self.covariance.trace()) / self.dim)

    def sample(self, n: int, *, generator: torch.Generator) -> Vectors:
        labels = torch.multinomial(
            self.log_weights.exp().cpu(), n, replacement=True, generator=generator
        )
        drawn = torch.stack([g.sample(n, generator=generator) for g in self.gaussians])
        return drawn[labels, torch.arange(n)]

    def _joint(self, x_t: Vectors, alpha: float, sigma: float) -> Tensor:
        """Log of class weight times class density, shape (K, n)."""
        densities = torch.stack([g.log_density(x_t, alpha, sigma) for g in self.gaussians])
        return self.log_weights[:, None] + densities

    def log_density(self, x_t: Vectors, alpha: float, sigma: float) -> Tensor:
        return self._joint(x_t, alpha, sigma).logsumexp(0)

    def posterior_mean(self, x_t: Vectors, alpha: float, sigma: float) -> Vectors:
        classes = self._joint(x_t, alpha, sigma).softmax(0)
        means = torch.stack([g.posterior_mean(x_t, alpha, sigma) for g in self.gaussians])
        return torch.einsum("kn,knd->nd", classes, means)


class Posterior(NamedTuple):
    """How the posterior weights w of the points of an `Empirical` spread, equation (5).

    Attributes:
        entropy: -sum w log w, from 0 to log n.
        participation: 1 / sum w², the effective number of points, from 1 to n.
        largest: max w.
        own: the weight of the point each x_t was noised from; NaN where that was not said.
    """

    entropy: Tensor
    participation: Tensor
    largest: Tensor
    own: Tensor


class Empirical(ExactSource):
    """The uniform law on given points: as a model, the exact memorizer.

    Args:
        points: shape (n, *shape), at least one. Points in float32 are kept so: their posterior
            weights are computed in float32 where sigma is large enough for log weights to be
            good to about 1e-3, and in float64 elsewhere. All others are kept in float64.

    Raises:
        DataError: if there are none, or a value is not finite.
    """

    points: Tensor
    _centre: Tensor
    _squares: Tensor

    def __init__(self, points: Samples) -> None:
        super().__init__()
        if points.ndim == 0 or len(points) == 0:
            raise DataError("Empirical: the uniform law on no points does not exist; pass some.")
        if points.dtype != torch.float32:
            points = points.to(torch.float64)
        parts = points.reshape(len(points), -1).split(_COLUMNS)  # no copy of large sets
        centre = sum((p.sum(0, dtype=torch.float64) for p in parts), torch.zeros(())) / len(points)
        squares = torch.empty(len(points), dtype=torch.float64, device=points.device)
        for part, room in zip(parts, squares.split(_COLUMNS), strict=True):
            room.copy_((part - centre).square_().sum(1))
        if not bool(squares.isfinite().all()):
            require_finite("Empirical points", points)
        self.register_buffer("points", points)
        self.register_buffer("_centre", centre, persistent=False)
        self.register_buffer("_squares", squares, persistent=False)
        self.shape = tuple(points.shape[1:])

    @property
    def std(self) -> float:
        return math.sqrt(float(flatten(self.points).var(0, correction=0).mean()))

    @property
    def mean(self) -> Tensor:
        """Mean of the points, flattened, shape (d,), float64."""
        return self._centre

    @property
    def covariance(self) -> Tensor:
        """Covariance of the uniform law on the points, flattened, shape (d, d), float64."""
        rows = flatten(self.points).double() - self._centre
        return rows.T @ rows / len(rows)

    def sample(self, n: int, *, generator: torch.Generator) -> Samples:
        return self.points[torch.randint(len(self.points), (n,), generator=generator)]

    def _blocks(self, x_t: Samples, alpha: float, sigma: float):
        """Log posterior weights of the points, up to a constant, for blocks of x_t."""
        if not sigma > 0:
            raise DataError("Empirical: the law of the bare points has no density; use sigma > 0.")
        points = alpha * flatten(self.points)
        centre = points.mean(0)
        points = points - centre
        for rows in (flatten(x_t) - centre).split(max(1, _BLOCK // len(points))):
            squared = rows.square().sum(1)[:, None] - 2 * rows @ points.T + points.square().sum(1)
            yield -squared.clamp_(min=0) / (2 * sigma**2)

    def log_density(self, x_t: Samples, alpha: float, sigma: float) -> Tensor:
        total = torch.cat([block.logsumexp(1) for block in self._blocks(x_t, alpha, sigma)])
        constant = -math.log(len(self.points)) - self.dim * (0.5 * _LOG_2PI + math.log(sigma))
        return total + constant

    def posterior_mean(self, x_t: Samples, alpha: float, sigma: float) -> Samples:
        rows = self._rows(x_t, alpha, sigma)
        means = [self._mean(part, alpha, sigma) for part in rows.split(_ROWS)]
        return torch.cat(means).to(self.points.dtype).reshape(x_t.shape)

    def _rows(self, x_t: Samples, alpha: float, sigma: float) -> Vectors:
        """x_t about the noisy centre, in the precision that its log weights need."""
        if not sigma > 0:
            raise DataError("Empirical: bare points have no posterior weights; use sigma > 0.")
        rows = flatten(x_t) - alpha * self._centre
        if self.points.dtype == torch.float64 or len(rows) == 0:
            return rows
        reach = float(rows.square().sum(1).max().sqrt() + alpha * self._squares.max().sqrt())
        error = torch.finfo(torch.float32).eps * reach**2 / (2 * sigma**2)
        return rows.to(torch.float32) if error < _LOG_WEIGHT_ERROR else rows

    def _tiles(self, rows: Vectors, alpha: float, sigma: float) -> Iterator[tuple[Tensor, Tensor]]:
        """Centred points and log2 of their weights for the rows, up to a constant a row."""
        scaled = rows * (alpha / sigma**2 / _LN_2)
        centre = self._centre.to(rows)
        offsets = self._squares * (-0.5 * (alpha / sigma) ** 2 / _LN_2)
        parts = self.points.reshape(len(self.points), -1).split(_COLUMNS)
        for part, offset in zip(parts, offsets.to(rows).split(_COLUMNS), strict=True):
            tile = part.to(rows.dtype) - centre
            yield tile, product(scaled, tile, offset)

    def _mean(self, rows: Vectors, alpha: float, sigma: float) -> Vectors:
        """The posterior means of some rows by (6)."""
        highest = rows.new_full((len(rows), 1), -math.inf)
        total, sums = torch.zeros_like(highest), torch.zeros_like(rows)
        for tile, logits in self._tiles(rows, alpha, sigma):
            higher = torch.maximum(highest, logits.detach().amax(1, keepdim=True))
            shrink, highest = torch.exp2(highest - higher), higher
            weights = logits.sub_(highest).exp2_()
            total = total * shrink + weights.sum(1, keepdim=True)
            sums = torch.addcmul(product(weights, tile.T), sums, shrink)
        return self._centre + sums / total

    def posterior(
        self, x_t: Samples, alpha: float, sigma: float, *, own: Tensor | None = None
    ) -> Posterior:
        """How the posterior weights of the points given x_t spread, equation (5).

        Args:
            x_t: noisy points, shape (m, *shape).
            alpha: signal scale.
            sigma: noise scale, positive.
            own: index of the point each x_t was noised from, shape (m,).

        Returns:
            tensors of shape (m,).

        Raises:
            DataError: if sigma is not positive.

        Reference:
            Theory note (D4); the entropy is that of Biroli et al. 2024, Dynamical regimes of
            diffusion models.
        """
        rows = self._rows(x_t, alpha, sigma)
        names = rows.new_full((len(rows),), -1).long() if own is None else own
        parts = zip(rows.split(_ROWS), names.split(_ROWS), strict=True)
        spreads = [self._spread(part, name, alpha, sigma) for part, name in parts]
        return Posterior(*(torch.cat(column) for column in zip(*spreads, strict=True)))

    def own_log_odds(self, x_t: Samples, alpha: float, sigma: float, own: Tensor) -> Tensor:
        """Log of the own term of the score against all others, equation (7).

        It does not saturate where the own weight is 1 to rounding.

        Args:
            x_t: noisy points, shape (m, *shape).
            alpha: signal scale.
            sigma: noise scale, positive.
            own: index of the point each x_t was noised from, shape (m,).

        Returns:
            ln(Z_1 / Z_rest), shape (m,); infinite for a single point.

        Raises:
            DataError: if sigma is not positive.

        Reference:
            Halder and Pehlevan, section 2.3; theory note (D5).
        """
        rows = self._rows(x_t, alpha, sigma)
        parts = zip(rows.split(_ROWS), own.split(_ROWS), strict=True)
        return torch.cat([self._log_odds(part, name, alpha, sigma) for part, name in parts])

    def _log_odds(self, rows: Vectors, own: Tensor, alpha: float, sigma: float) -> Tensor:
        rest = rows.new_full((len(rows),), -math.inf, dtype=torch.float64)
        mine, first = torch.empty_like(rest), 0
        for tile, logits in self._tiles(rows, alpha, sigma):
            logits = logits.double() * _LN_2
            here = ((own >= first) & (own < first + len(tile))).nonzero().squeeze(1)
            mine[here] = logits[here, own[here] - first]
            logits[here, own[here] - first] = -math.inf
            rest = torch.logaddexp(rest, logits.logsumexp(1))
            first += len(tile)
        return mine - rest

    def _spread(self, rows: Vectors, own: Tensor, alpha: float, sigma: float) -> Posterior:
        """The posterior spread of some rows: sums of e^l, l e^l and e^2l, rescaled as in (6)."""
        highest = rows.new_full((len(rows),), -math.inf, dtype=torch.float64)
        total, slope, square = (torch.zeros_like(highest) for _ in range(3))
        mine, first = torch.full_like(highest, math.nan), 0
        for tile, logits in self._tiles(rows, alpha, sigma):
            logits = logits.double() * _LN_2
            higher = torch.maximum(highest, logits.amax(1))
            step = torch.where(highest.isinf(), 0.0, highest - higher)
            shrink, highest = step.exp(), higher
            about = logits - highest[:, None]
            weights = about.exp()
            slope = shrink * (slope + step * total) + (about * weights).sum(1)
            total = shrink * total + weights.sum(1)
            square = shrink**2 * square + weights.square().sum(1)
            here = (own >= first) & (own < first + len(tile))
            mine[here] = logits[here, own[here] - first]
            first += len(tile)
        return Posterior(
            entropy=total.log() - slope / total,
            participation=total**2 / square,
            largest=1 / total,
            own=(mine - highest).exp() / total,
        )


class _PlaneCurve(Source):
    """A law in the plane, with noise, embedded by a fixed orthonormal frame in `dim` >= 2."""

    frame: Tensor

    def __init__(self, dim: int, noise: float) -> None:
        super().__init__()
        if not (dim >= 2 and noise >= 0):
            raise DataError(f"A plane curve needs dim >= 2 and noise >= 0, got {dim}, {noise}.")
        gaussian = torch.randn(
            dim, 2, dtype=torch.float64, generator=seeds.generator(0, "embedding", dim)
        )
        self.register_buffer(
            "frame", torch.linalg.qr(gaussian).Q if dim > 2 else torch.eye(2).double()
        )
        self.shape, self.noise = (dim,), noise

    @property
    @abstractmethod
    def plane_variance(self) -> float:
        """Trace of the covariance in the plane, without noise."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n noiseless points in the plane, shape (n, 2)."""

    @property
    def std(self) -> float:
        return math.sqrt((self.plane_variance + 2 * self.noise**2) / self.dim)

    def sample(self, n: int, *, generator: torch.Generator) -> Vectors:
        plane = self.draw(n, generator)
        plane += self.noise * torch.randn(n, 2, dtype=torch.float64, generator=generator)
        return plane.to(self.frame.device) @ self.frame.T


class TwoMoons(_PlaneCurve):
    """Two interleaved half circles of radius one, in the plane, embedded in `dim`."""

    def __init__(self, dim: int = 2, noise: float = 0.05) -> None:
        super().__init__(dim, noise)

    @property
    def plane_variance(self) -> float:
        between_y = (4 / math.pi - 0.5) / 2
        return 1 / 2 + 1 / 4 + 1 / 2 - 4 / math.pi**2 + between_y**2

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        angle = math.pi * torch.rand(n, dtype=torch.float64, generator=generator)
        lower = torch.randint(2, (n,), generator=generator).bool()
        x, y = angle.cos(), angle.sin()
        return torch.stack([torch.where(lower, 1 - x, x), torch.where(lower, 0.5 - y, y)], 1)


class Circle(_PlaneCurve):
    """A circle of radius one in the plane, embedded in `dim`."""

    def __init__(self, dim: int = 2, noise: float = 0.05) -> None:
        super().__init__(dim, noise)

    @property
    def plane_variance(self) -> float:
        return 1.0

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        angle = 2 * math.pi * torch.rand(n, dtype=torch.float64, generator=generator)
        return torch.stack([angle.cos(), angle.sin()], 1)
