"""Closed-form predictions: one function per numbered result of the theory note.

Data x ~ N(m, C), C of eigenvalues c_i; noise x_T = a x + b eps with a = e^-T and
b² = noise_scale (1 - e^-2T). Two numbers per direction carry everything,

    (0.1)  u_i = b²/(a² c_i) = noise_scale (e^2T - 1)/c_i,    r_i = 1/(1 + u_i),

the noise-to-signal ratio and the signal fraction of x_T. With Sigma_T = a² C + b² I the linear
one-step model tends to

    (0.2)  A = a C Sigma_T^-1,    V = b² C Sigma_T^-1,
           A Sigma_T A = diag(c_i r_i),    V = diag(c_i (1 - r_i)).

Sizes are n points in d dimensions, gamma = n/d, and in the limits n, d -> infinity at fixed gamma
most predictions depend on gamma and u alone. Numbers in brackets, here and in the docstrings, are
those of the theory note (docs/theory.md), where every formula is stated with its regime and with
what it was compared with.

Conventions. Functions take numbers or arrays that broadcast, and return float64 of the broadcast
shape. Of a `spectrum` the last axis holds the eigenvalues; `dim` in its place means isotropic.
Arguments that make no sense raise ConfigError; where an approximation becomes rough a
RegimeWarning says so. The section `Regime` of a docstring is what `genonset theory` lists.
"""

import difflib
import inspect
import json
import math
import re
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from genonset import one_step
from genonset.equivalents import Regression
from genonset.errors import ConfigError, RegimeWarning

Array = NDArray[np.float64]


# -- what is accepted --------------------------------------------------------------------------


class _Range(NamedTuple):
    """The numbers an argument may be."""

    low: float = -math.inf
    strict: bool = False
    high: float = math.inf
    infinite: bool = False
    whole: bool = False

    def holds(self, value: Array) -> NDArray[np.bool_]:
        inside = (value > self.low) if self.strict else (value >= self.low)
        inside &= value <= self.high
        if not self.infinite:
            inside &= np.isfinite(value)
        return inside & (value == np.round(value)) if self.whole else inside

    def __str__(self) -> str:
        kind = "whole numbers" if self.whole else "numbers"
        if math.isinf(self.low):
            return f"finite {kind}"
        words = f"{kind} {'>' if self.strict else '>='} {self.low:g}"
        if math.isfinite(self.high):
            words += f" and <= {self.high:g}"
        return words + (", inf included" if self.infinite else "")


_ANY, _POSITIVE, _NOT_NEGATIVE = _Range(), _Range(0, True), _Range(0)
_COUNT, _SIZE = _Range(1, whole=True), _Range(1, infinite=True)
_RATIO, _ABOVE_ONE = _Range(0, True, infinite=True), _Range(1, True, infinite=True)


def _numbers(name: str, value: ArrayLike, accepted: _Range = _ANY) -> Array:
    """One argument as float64, checked."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: numbers are needed, got {value!r}.") from error
    wrong = array[~accepted.holds(array)]
    if wrong.size:
        raise ConfigError(f"{name} is {wrong.flat[0]:g}; accepted are {accepted}.")
    return array


def _broadcast(**arrays: Array) -> tuple[Array, ...]:
    """The arrays at their common shape."""
    try:
        return tuple(np.broadcast_arrays(*arrays.values()))
    except ValueError as error:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ConfigError(
            f"Arguments of shapes {shapes} do not broadcast; give arrays of one shape, or numbers."
        ) from error


class _Spectrum(NamedTuple):
    """Eigenvalues on the last axis, each with its multiplicity."""

    values: Array
    counts: Array

    def sum(self, terms: Array) -> Array:
        return (terms * self.counts).sum(-1)

    @property
    def dim(self) -> Array:
        return self.sum(np.ones_like(self.values))

    @property
    def rank(self) -> Array:
        return self.sum((self.values > 0).astype(np.float64))

    @property
    def trace(self) -> Array:
        return self.sum(self.values)


def _eigenvalues(spectrum: ArrayLike) -> Array:
    values = _numbers("spectrum", spectrum, _NOT_NEGATIVE)
    if values.ndim == 0 or not values.shape[-1] or (values.sum(-1) == 0).any():
        raise ConfigError(
            f"spectrum has shape {values.shape} and sum {values.sum():g}; a list of eigenvalues "
            "that are not all zero is needed, such as spectrum=3,3,1,0.1."
        )
    return values


def _spectrum(
    dim: ArrayLike | None, spectrum: ArrayLike | None, variance: ArrayLike = 1.0
) -> _Spectrum:
    """The spectrum that `dim` or `spectrum` stands for: exactly one is given."""
    if (dim is None) == (spectrum is None):
        raise ConfigError(
            "Exactly one of dim (isotropic) and spectrum (eigenvalues of the covariance) is "
            f"accepted, got {'neither' if dim is None else 'both'}."
        )
    if spectrum is not None:
        values = _eigenvalues(spectrum)
        return _Spectrum(values, np.ones_like(values))
    counts = _numbers("dim", 1 if dim is None else dim, _COUNT)[..., None]
    return _Spectrum(np.asarray(variance, dtype=np.float64)[..., None], counts)


# -- numerics ----------------------------------------------------------------------------------


def _log_deficit(x: Array) -> Array:
    """x - ln(1 + x) for x > -1, without cancellation near 0."""
    near = np.abs(x) < 0.05
    small = np.where(near, x, 0.0)
    series = np.zeros_like(small)
    for k in range(16, 1, -1):
        series = (-1) ** k / k + small * series
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(near, small**2 * series, x - np.log1p(x))


def _entropy_excess(x: Array) -> Array:
    """(1 + x) ln(1 + x) - x for x >= -1, without cancellation near 0."""
    small = np.where(np.abs(x) < 0.04, x, 0.0)
    series = (1 + small) * _log_deficit(-small / (1 + small))
    return np.where(small == x, series, special.xlogy(1 + x, 1 + x) - x)


def _root(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Where an increasing function crosses zero between positive bounds, by bisection of ln x."""
    low, high = np.log(low), np.log(high)
    for _ in range(70):
        middle = (low + high) / 2
        below = function(np.exp(middle)) < 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.exp((low + high) / 2)


class _Stieltjes(NamedTuple):
    """Of the Marchenko-Pastur law of ratio c at -x: m = <1/(l + x)> and M = -dm/dx."""

    m: Array
    slope: Array

    @classmethod
    def at(cls, c: Array, x: Array) -> "_Stieltjes":
        q = 1 - c + x
        root = np.sqrt(q**2 + 4 * c * x)
        with np.errstate(divide="ignore", invalid="ignore"):
            total = np.where(q >= 0, q + root, 4 * c * x / (root - q))
            return cls(2 / total, 2 / total**2 * (1 + (1 + c + x) / root))


# -- signal and noise --------------------------------------------------------------------------


def noise_to_signal(
    horizon: ArrayLike, noise_scale: ArrayLike, variance: ArrayLike = 1.0
) -> Array:
    """u, the noise-to-signal ratio of x_T: noise_scale (e^2T - 1)/variance.

    Regime: exact. Ornstein-Uhlenbeck noise.

    Args:
        horizon: T > 0.
        noise_scale: lambda > 0; the paper takes e^-2T, so that u < 1.
        variance: c > 0, of the data in the direction asked for.

    Returns:
        u; inf where e^2T is.

    Raises:
        ConfigError: for arguments that are not positive.

    Reference: theory note (0.1).
    """
    t, scale, c = _broadcast(
        horizon=_numbers("horizon", horizon, _POSITIVE),
        noise_scale=_numbers("noise_scale", noise_scale, _POSITIVE),
        variance=_numbers("variance", variance, _POSITIVE),
    )
    with np.errstate(over="ignore"):
        return scale * np.expm1(2 * t) / c


def signal_fraction(
    horizon: ArrayLike, noise_scale: ArrayLike, variance: ArrayLike = 1.0
) -> Array:
    """r = 1/(1 + u), the share of the variance of x_T that is signal.

    Regime: exact. Ornstein-Uhlenbeck noise.

    Args:
        horizon: T > 0.
        noise_scale: lambda > 0.
        variance: c > 0.

    Returns:
        r, between 0 and 1.

    Raises:
        ConfigError: for arguments that are not positive.

    Reference: theory note (0.1).
    """
    return 1 / (1 + noise_to_signal(horizon, noise_scale, variance))


# -- the kernel metric -------------------------------------------------------------------------


def kernel_log_self_overlap(dim: ArrayLike, std: ArrayLike = 1.0) -> Array:
    """Log of the self overlap of any set under the paper's kernel: -(d/2) ln(4 pi s²).

    Regime: exact for every number of points and every law of the data, width s N^(-1/d).

    Args:
        dim: d >= 1.
        std: s > 0.

    Returns:
        The logarithm.

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (A2).
    """
    d, s = _broadcast(dim=_numbers("dim", dim, _COUNT), std=_numbers("std", std, _POSITIVE))
    return -d / 2 * np.log(4 * math.pi * s**2)


def kernel_pair_ratio(
    n_points: ArrayLike, dim: ArrayLike | None = None, spectrum: ArrayLike | None = None
) -> Array:
    """Mean overlap of different points over the self overlap of a set under the paper's kernel.

    (N - 1) prod_i (1 + c_i/eps²)^(-1/2), with eps = s N^(-1/d) and s² = tr C/d.

    Regime: exact for Gaussian data; isotropic it tends to 1 as N -> infinity, of rank k < d it
    grows like N^(1 - k/d).

    Args:
        n_points: N >= 1; inf gives the limit.
        dim: d, for isotropic data.
        spectrum: eigenvalues of C in place of d.

    Returns:
        E[off-diagonal part of R_SS]/self.

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (A3).
    """
    n = _numbers("n_points", n_points, _SIZE)
    c = _spectrum(dim, spectrum)
    size, trace = _broadcast(n_points=n, spectrum=c.trace)
    d = c.dim
    # (N - 1) prod (1 + x N^(2/d))^(-1/2) = (1 - 1/N) prod (N^(-2/d) + x)^(-1/2),  x = c_i d/tr C
    relative = c.values * (d / trace)[..., None] + (size ** (-2 / d))[..., None]
    with np.errstate(divide="ignore"):
        return np.exp(np.log1p(-1 / size) - c.sum(np.log(relative)) / 2)


class OverlapMoments(NamedTuple):
    """Moments over the original set of its overlaps, h between two points, phi with the model."""

    pair_mean: Array
    cross_mean: Array
    pair_variance: Array
    cross_variance: Array
    covariance: Array


def original_overlap_moments(
    mean: ArrayLike,
    covariance: ArrayLike,
    spectrum: ArrayLike | None = None,
    source_covariance: ArrayLike | None = None,
    n_original: ArrayLike = math.inf,
    bandwidth: ArrayLike = 0.0,
    source_mean: ArrayLike = 0.0,
) -> OverlapMoments:
    """E h, E phi, Var off_O, Var R_OG and their covariance over an original set of N points.

    h = N(x - x'; 0, 2 eps²), phi = N(x; mu, A), A = Sigma + eps², B = C + 2 eps²:
    E h = |4 pi (C + eps²)|^(-1/2), E phi = N(m; mu, C + A), and (A6) for the second moments.

    Regime: exact for a Gaussian source and any N; numbers below 1e-308 underflow to 0, for which
    `delta_given_model` keeps logarithms.

    Args:
        mean: mu of the generated law, shape (..., d).
        covariance: Sigma of the generated law, shape (..., d, d); may be singular.
        spectrum: eigenvalues of C where C is diagonal, or
        source_covariance: C, shape (..., d, d).
        n_original: N >= 2; inf for the true density.
        bandwidth: eps >= 0.
        source_mean: m, a number or shape (..., d).

    Returns:
        `pair_mean` E h (E off_O is (1 - 1/N) of it), `cross_mean` E phi, `pair_variance`,
        `cross_variance`, `covariance`.

    Raises:
        ConfigError: for arguments out of range or of shapes that do not fit.

    Reference: theory note (A5), (A6), (A6b).
    """
    if (spectrum is None) == (source_covariance is None):
        raise ConfigError("Exactly one of spectrum and source_covariance is needed.")
    if spectrum is not None:
        source_covariance = _eigenvalues(spectrum)[..., None] * np.eye(np.shape(spectrum)[-1])
    n = _numbers("n_original", n_original, _Range(2, infinite=True))
    logs = _overlap_logs(
        *_laws(mean, covariance, source_mean, source_covariance),
        _numbers("bandwidth", bandwidth, _NOT_NEGATIVE),
    )
    n, pair, *_ = _broadcast(n_original=n, bandwidth=logs.h)
    parts = _overlap_variances(logs, n, 0.0)
    return OverlapMoments(*np.broadcast_arrays(np.exp(logs.h), np.exp(logs.phi), *parts, pair)[:5])


def _laws(
    mean: ArrayLike, covariance: ArrayLike, source_mean: ArrayLike, source: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """Difference of the means, Sigma and C, checked."""
    sigma = _numbers("covariance", covariance)
    c = _numbers("source_covariance", () if source is None else source)
    d = sigma.shape[-1] if sigma.ndim >= 2 else 0
    shift = _numbers("mean", mean) - _numbers("source_mean", source_mean)
    if not d or sigma.shape[-2:] != (d, d) or c.shape[-2:] != (d, d) or shift.shape[-1:] != (d,):
        raise ConfigError(
            f"mean {np.shape(mean)}, covariance {sigma.shape} and source covariance {c.shape} do "
            "not belong together; shapes (d,), (d, d) and (d, d) are needed."
        )
    return shift, sigma, c


class _OverlapLogs(NamedTuple):
    """Logarithms of the expectations of (A5) and (A6)."""

    h: Array
    phi: Array
    h_squared: Array
    h_shared: Array
    phi_squared: Array
    h_phi: Array


def _overlap_logs(shift: Array, sigma: Array, c: Array, eps: Array) -> _OverlapLogs:
    d = sigma.shape[-1]
    width = (eps**2)[..., None, None] * np.eye(d)
    a, b = sigma + width, c + 2 * width
    zero = np.zeros(d)
    if (np.linalg.slogdet(c + width).sign <= 0).any():
        raise ConfigError(
            "The source covariance is singular, so its overlaps have no density without a kernel; "
            "give a bandwidth > 0 or a covariance of full rank."
        )
    p = c @ np.linalg.solve(c + b, b)
    with np.errstate(divide="ignore"):
        narrow = -d / 2 * np.log(8 * math.pi * eps**2)
    return _OverlapLogs(
        h=_log_normal(zero, 2 * (c + width)),
        phi=_log_normal(shift, c + a),
        h_squared=narrow + _log_normal(zero, 2 * c + width),
        h_shared=_log_normal(zero, 2 * b) + _log_normal(zero, 1.5 * c + width),
        phi_squared=_log_normal(zero, 2 * a) + _log_normal(shift, c + a / 2),
        h_phi=_log_normal(zero, c + b) + _log_normal(shift, p + a),
    )


def _log_normal(x: Array, covariance: Array) -> Array:
    """ln N(x; 0, covariance), +inf at the centre of a singular law."""
    d = covariance.shape[-1]
    log_determinant = np.linalg.slogdet(covariance).logabsdet
    square = np.zeros(())
    if (x != 0).any():
        square = (x * np.linalg.solve(covariance, x[..., None])[..., 0]).sum(-1)
    return -(d * math.log(2 * math.pi) + log_determinant + square) / 2


def _overlap_variances(logs: _OverlapLogs, n: Array, scale: ArrayLike) -> tuple[Array, ...]:
    """Var off_O, Var R_OG and their covariance, in units of e^(2 scale) (A6)."""

    def spread(log_moment: Array, log_product: Array) -> Array:
        """A second moment less the product of the means, 0 from below only by rounding."""
        top = np.maximum(log_moment, log_product)
        gap = np.where(np.isfinite(top), log_moment - log_product, 0.0)
        with np.errstate(over="ignore"):
            return np.exp(log_product - 2 * np.asarray(scale)) * np.expm1(gap)

    same = np.where(np.isinf(logs.h_squared), math.inf, spread(logs.h_squared, 2 * logs.h))
    shared = spread(logs.h_shared, 2 * logs.h)
    cross = np.where(np.isinf(logs.phi_squared), math.inf, spread(logs.phi_squared, 2 * logs.phi))
    joint = spread(logs.h_phi, logs.h + logs.phi)
    finite = np.isfinite(n)
    m = np.where(finite, n, 2.0)
    pairs = 4 / m**3 * (m - 1) * (same / 2 + (m - 2) * shared)
    return (
        np.where(finite, pairs, 0.0),
        np.where(finite, cross / m, 0.0),
        np.where(finite, 2 * (m - 1) / m**2 * joint, 0.0),
    )


class DeltaGivenModel(NamedTuple):
    """Law of the published Delta over the original set, given training set and model."""

    mean: Array
    sd: Array
    probability_positive: Array


def delta_given_model(
    training: ArrayLike,
    mean: ArrayLike,
    covariance: ArrayLike,
    *,
    source_mean: ArrayLike,
    source_covariance: ArrayLike,
    n_original: ArrayLike,
    std: float = 1.0,
) -> DeltaGivenModel:
    """Mean, sd and P(Delta > 0) over the original set, given the training set and the model.

    mean = off_T - E off_O - 2 (R_TG - E phi), variance = Var off_O + 4 Var R_OG - 4 Cov.

    Regime: Gaussian source, N_eff = N (E phi)²/E phi² >= 30; below, the overlap is carried by a
    few samples and not normal: use original_overlap_typical. Exact moments, normal law.

    Args:
        training: the n training points, shape (n, d).
        mean: mu of the generated law, shape (d,).
        covariance: Sigma of the generated law, shape (d, d).
        source_mean: m, a number or shape (d,).
        source_covariance: C, shape (d, d).
        n_original: N, one number or an array.
        std: s of the kernel widths s n^(-1/d) and s N^(-1/d).

    Returns:
        mean and sd (0 where they underflow) and the probability, which does not.

    Raises:
        ConfigError: where N_eff < 30, or for shapes that do not belong together.

    Reference: theory note (A7).
    """
    import torch

    from genonset import distances
    from genonset.sources import Gaussian

    points = _numbers("training", training)
    shift, sigma, c = _laws(mean, covariance, source_mean, source_covariance)
    d = sigma.shape[-1]
    if points.ndim != 2 or points.shape[1] != d or not len(points):
        raise ConfigError(f"training has shape {points.shape}; (n, {d}) is needed.")
    s = float(_numbers("std", std, _POSITIVE))
    n = _numbers("n_original", n_original, _Range(2))
    logs = _overlap_logs(shift, sigma, c, s * n ** (-1 / d))
    n_effective = np.exp(np.log(n) + 2 * logs.phi - logs.phi_squared)
    if (n_effective < 30).any():
        raise ConfigError(
            f"N_eff = {n_effective.min():.3g} original points carry the overlap with the model; "
            "a normal law needs 30. Take a larger n_original, or original_overlap_typical."
        )
    smoothed = distances.Smoothed(
        points=torch.from_numpy(points.copy()), bandwidth=s * len(points) ** (-1 / d)
    )
    law = Gaussian(torch.from_numpy(shift.copy()), torch.from_numpy(sigma.copy()))
    centred = distances.Smoothed(
        points=smoothed.points - torch.from_numpy(np.broadcast_to(source_mean, (d,)).copy()),
        bandwidth=smoothed.bandwidth,
    )
    log_off_t = distances.log_off_diagonal(smoothed)
    log_cross_t = distances.log_overlap(centred, law) + math.log(2)
    log_off_o, log_cross_o = logs.h + np.log1p(-1 / n), logs.phi + math.log(2)
    scale = np.maximum(np.maximum(log_off_o, log_cross_o), max(log_off_t, log_cross_t))
    plus = np.exp(log_off_t - scale) + np.exp(log_cross_o - scale)
    minus = np.exp(log_off_o - scale) + np.exp(log_cross_t - scale)
    pairs, cross, joint = _overlap_variances(logs, n, scale)
    sd = np.sqrt(pairs + 4 * cross - 4 * joint)
    centre, unit = plus - minus, np.exp(scale)
    return DeltaGivenModel(unit * centre, unit * sd, special.ndtr(centre / sd))


class TypicalOverlap(NamedTuple):
    """Typical log overlap and the inverse temperature at which it freezes."""

    log_overlap: Array
    beta_c: Array


def original_overlap_typical(
    eigenvalues: ArrayLike, n_original: ArrayLike, std: ArrayLike = 1.0
) -> TypicalOverlap:
    """Typical log R_OG of N original points, which few of them carry when N is small.

    K(t) = -1/2 sum ln(1 + t s²/w_i), and beta_c solves ln N + K - t K' = 0. For beta_c >= 1 the
    exact mean -1/2 sum ln(2 pi (w_i + s²)), else -1/2 sum ln(2 pi w_i) + K'(beta_c) - ln N.

    Regime: isotropic source, equal means, large d; too high by less than 2/beta_c in the
    logarithm at d = 100: by 0.1 to 0.9 near beta_c = 1, by 3 at beta_c = 0.5.

    Args:
        eigenvalues: w = eigenvalues of Sigma_G plus eps², positive, on the last axis.
        n_original: N > 1; inf gives the exact mean.
        std: s of the source.

    Returns:
        log R_OG, and beta_c.

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (A8); the random-energy model, Derrida 1981, Phys. Rev. B 24, 2613.
    """
    w = np.atleast_1d(_numbers("eigenvalues", eigenvalues, _POSITIVE))
    n, s, _ = _broadcast(
        n_original=_numbers("n_original", n_original, _Range(1, True, infinite=True)),
        std=_numbers("std", std, _POSITIVE),
        eigenvalues=w[..., 0],
    )
    x, log_n = (s**2)[..., None] / w, np.log(n)
    finite = np.isfinite(log_n)

    def entropy_used(t: Array) -> Array:
        """t K' - K."""
        y = t[..., None] * x
        return (np.log1p(y) - y / (1 + y)).sum(-1) / 2

    # each of the d terms grows at least like ln(1 + t min x) - 1
    d = w.shape[-1]
    target = np.where(finite, log_n, 1.0)
    top = np.exp(np.minimum(2 * target / d + 2, 600.0)) / x.min(-1)
    t = _root(lambda t: entropy_used(t) - target, np.full_like(target, 1e-12), top)
    t = np.where(finite, t, math.inf)
    frozen_t = np.where(t < 1, t, 1.0)[..., None]
    slope = -(x / (1 + frozen_t * x)).sum(-1) / 2
    frozen = -np.log(2 * math.pi * w).sum(-1) / 2 + slope - np.where(finite, log_n, 0.0)
    mean = -np.log(2 * math.pi * (w + (s**2)[..., None])).sum(-1) / 2
    return TypicalOverlap(np.where(t < 1, frozen, mean), t)


# -- the linear one-step model -----------------------------------------------------------------


def _paper(dim: ArrayLike, n: ArrayLike, horizon: ArrayLike, noise_scale: ArrayLike):
    """d, n, a and u at their common shape."""
    u = noise_to_signal(horizon, noise_scale)
    t = _numbers("horizon", horizon, _POSITIVE)
    return _broadcast(
        dim=_numbers("dim", dim, _COUNT),
        n=_numbers("n", n, _SIZE),
        a=np.exp(-t),
        u=u,
    )


def one_step_second_moment(
    dim: ArrayLike,
    n: ArrayLike,
    horizon: ArrayLike,
    noise_scale: ArrayLike,
    variance: ArrayLike = 1.0,
) -> Array:
    """The number in E theta1 theta1^T = number I, theta1 the slope of the linear one-step model.

    alpha² + kappa d/(n - d - 2) for n > d + 2, alpha² (n-1)/d + kappa (n-1)/(d-n) for n < d,
    with alpha = r/a and kappa = u alpha².

    Regime: exact, isotropic data, least squares of minimum norm, one noise draw a point.

    Args:
        dim: d.
        n: training points, >= 1; inf gives alpha².
        horizon: T.
        noise_scale: lambda.
        variance: s² of the data.

    Returns:
        The coefficient; inf for n = d, d + 1, d + 2, where the mean does not exist.

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (B1), (B2).
    """
    scale = _numbers("noise_scale", noise_scale, _POSITIVE) / _numbers(
        "variance", variance, _POSITIVE
    )
    d, n, a, u = _paper(dim, n, horizon, scale)
    alpha_squared = (1 / (a * (1 + u))) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        above = alpha_squared * (1 + u * d / (n - d - 2))
        below = alpha_squared * (n - 1) * (1 / d + u / (d - n))
    return np.where(n > d + 2, above, np.where(n < d, below, math.inf))


def one_step_log_mean_determinant(
    dim: ArrayLike, n: ArrayLike, horizon: ArrayLike, noise_scale: ArrayLike
) -> Array:
    """ln E det(theta1 theta1^T) of the linear one-step model.

    2 d ln(r/a) + ln sum_k d!/(d - k)! u^k m!/(m + k)!, m = n - d - 3.

    Regime: exact, isotropic data of variance 1 (of variance s²: give noise_scale/s²). -inf for
    n <= d, where theta1 is singular, inf for n = d + 1, d + 2, where the mean does not exist.

    Args:
        dim: d.
        n: training points; inf gives det A².
        horizon: T.
        noise_scale: lambda.

    Returns:
        The logarithm.

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (B3).
    """
    d, n, a, u = _paper(dim, n, horizon, noise_scale)
    k = np.arange(d.max() + 1)
    m = np.maximum(n - d - 3, 0.0)[..., None]
    size, ratio = d[..., None], u[..., None]
    # ln of u^k prod_{j<k} (d - j)/(m + 1 + j), as a cumulative sum: no large gamma functions
    with np.errstate(divide="ignore"):
        steps = np.log(ratio) + np.log(np.maximum(size - k[:-1], 0.0)) - np.log(m + 1 + k[:-1])
    logs = np.concatenate([np.zeros_like(steps[..., :1]), np.cumsum(steps, -1)], -1)
    value = -2 * d * (np.log(a) + np.log1p(u)) + special.logsumexp(logs, axis=-1)
    return np.where(n >= d + 3, value, np.where(n <= d, -math.inf, math.inf))


def one_step_critical_size(
    horizon: ArrayLike,
    noise_scale: ArrayLike,
    dim: ArrayLike | None = None,
    spectrum: ArrayLike | None = None,
    n_noise_draws: ArrayLike = 1,
) -> Array:
    """n* = d + sum_i u_i/R, above which the slope of the one-step model is safely invertible.

    KL(true || generated) starts to fall there. Directions without variance add no u_i.

    Regime: large d; n*/d is exact in the limit, sharp to about d^(-1/2). R > 1: singular values.

    Args:
        horizon: T.
        noise_scale: lambda.
        dim: d, for isotropic data of variance 1.
        spectrum: eigenvalues of C in place of d.
        n_noise_draws: R >= 1, noisy copies of each training point; inf gives d.

    Returns:
        n*.

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (B4), (B11).
    """
    c = _spectrum(dim, spectrum)
    draws = _numbers("n_noise_draws", n_noise_draws, _SIZE)
    unit, draws, d = _broadcast(
        noise=noise_to_signal(horizon, noise_scale), n_noise_draws=draws, spectrum=c.dim
    )
    inverse = np.where(c.values > 0, 1 / np.where(c.values > 0, c.values, 1.0), 0.0)
    return d + unit * c.sum(inverse) / draws


def _gamma_and_u(gamma: ArrayLike, u: ArrayLike, accepted: _Range = _RATIO):
    return _broadcast(gamma=_numbers("gamma", gamma, accepted), u=_numbers("u", u, _POSITIVE))


def one_step_log_determinant_excess(gamma: ArrayLike, u: ArrayLike) -> Array:
    """l_0 = lim (1/d) [ln det theta1 theta1^T - ln det A²] of the one-step model.

    gamma ln((1 + u)/gamma) + (gamma - 1) ln((gamma - 1)/u) for 1 < gamma < 1 + u, 0 above.

    Regime: n, d -> infinity, gamma > 1, isotropic. At gamma <= 1 the determinant is 0.

    Args:
        gamma: n/d > 1; may be inf.
        u: noise-to-signal ratio > 0.

    Returns:
        l_0 >= 0, with a kink in its second derivative at gamma = 1 + u.

    Raises:
        ConfigError: for gamma <= 1 or u <= 0.

    Reference: theory note (B4b).
    """
    gamma, u = _gamma_and_u(gamma, u, _ABOVE_ONE)
    return _excess(gamma, u)


def _excess(gamma: Array, u: Array) -> Array:
    """(B4) for gamma > 1, exact to rounding also next to gamma = 1 + u."""
    lack = np.where(gamma < 1 + u, gamma - 1 - u, 0.0)
    return np.maximum(u * _entropy_excess(lack / u) - (1 + u) * _entropy_excess(lack / (1 + u)), 0)


def one_step_log_potential(gamma: ArrayLike, u: ArrayLike, y: ArrayLike) -> Array:
    """l(y) = lim (1/d) ln det(theta1 theta1^T/alpha² + y²) of the one-step model.

    With t = tan(p/2), s = sin(p/2), k = gamma - 1, q = u sin² p/k²: t solves
    y t = 1 - 2 u s²/(k (1 + sqrt(1 + q))), and l = -2 ln s - k ln((1 + sqrt(1 + q))/2).

    Regime: n, d -> infinity, gamma > 1, isotropic.

    Args:
        gamma: n/d > 1; may be inf, where l = ln(1 + y²).
        u: noise-to-signal ratio > 0.
        y: >= 0; l(0) = l_0, and dl/dy = sin p.

    Returns:
        l(y).

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (B5), the same equation in half angles, free of cancellation.
    """
    gamma, u = _gamma_and_u(gamma, u, _ABOVE_ONE)
    gamma, u, y = _broadcast(gamma=gamma, u=u, y=_numbers("y", y, _NOT_NEGATIVE))
    return _potential(gamma, u, y)[0]


def _potential(gamma: Array, u: Array, y: Array) -> tuple[Array, Array]:
    """l(y) and t = tan(p/2) of (B5), gamma > 1."""
    k, positive = gamma - 1, np.where(y > 0, y, 1.0)

    def increasing(t: Array) -> Array:
        root = np.sqrt(1 + 4 * u * (t / ((1 + t**2) * k)) ** 2)
        return positive * t - 1 + 2 * u * t**2 / ((1 + t**2) * k * (1 + root))

    low = 2 / (positive + np.sqrt(positive**2 + 4 * u / k))
    with np.errstate(divide="ignore", invalid="ignore"):
        pole = np.where(gamma < 1 + u, np.sqrt(gamma / np.maximum(1 + u - gamma, 0.0)), math.inf)
    high = np.maximum(np.minimum(1 / positive, pole), low)
    t = _root(increasing, low, high)
    q = 4 * u * (t / ((1 + t**2) * k)) ** 2
    with np.errstate(invalid="ignore"):
        bent = np.where(np.isfinite(k), k * np.log1p(q / (2 * (1 + np.sqrt(1 + q)))), 0.0)
    value = np.log1p(t**-2) - bent
    return np.where(y > 0, value, _excess(gamma, u)), np.where(y > 0, t, math.inf)


def one_step_affinity_rate(gamma: ArrayLike, u: ArrayLike) -> Array:
    """lim (1 - H²)^(1/d) between the law of the one-step model and the true one.

    sqrt(2) exp[(ln r + l_0)/4 - (ln r + l(r^(-1/2)))/2].

    Regime: n, d -> infinity, isotropic, true or scalar start. 0 for gamma <= 1, where the law is
    singular (exact).

    Args:
        gamma: n/d; may be inf, where the rate is sqrt(2) r^(1/4)/(1 + r)^(1/2).
        u: noise-to-signal ratio > 0.

    Returns:
        The overlap per dimension, between 0 and 1.

    Raises:
        ConfigError: for arguments that are not positive.

    Reference: theory note (B6).
    """
    gamma, u = _gamma_and_u(gamma, u)
    inside = np.where(gamma > 1, gamma, 2.0)
    log_r = -np.log1p(u)
    excess, (potential, _) = _excess(inside, u), _potential(inside, u, np.exp(-log_r / 2))
    rate = math.sqrt(2) * np.exp((excess - log_r) / 4 - potential / 2)
    return np.where(gamma > 1, rate, 0.0)


def one_step_kl_to_source(gamma: ArrayLike, u: ArrayLike) -> Array:
    """lim KL(generated || true)/d of the one-step model.

    1/2 [r (1 + u/(gamma - 1)) - 1 - ln r - l_0].

    Regime: n, d -> infinity, isotropic, true or scalar start. inf for gamma <= 1, where the law is
    singular (exact).

    Args:
        gamma: n/d; may be inf.
        u: noise-to-signal ratio > 0.

    Returns:
        The divergence per dimension.

    Raises:
        ConfigError: for arguments that are not positive.

    Reference: theory note (B7).
    """
    gamma, u = _gamma_and_u(gamma, u)
    inside = np.where(gamma > 1, gamma, 2.0)
    r = 1 / (1 + u)
    value = (_log_deficit(-u * r) + r * u / (inside - 1) - _excess(inside, u)) / 2
    return np.where(gamma > 1, value, math.inf)


def one_step_kl_from_source(gamma: ArrayLike, u: ArrayLike) -> Array:
    """Typical KL(true || generated)/d of the one-step model; its mean is infinite at every n.

    1/2 [F (1 + u) - 1 - ln(1 + u)], F = (gamma - 1)/(gamma - 1 - u).

    Regime: n, d -> infinity, isotropic, gamma > 1 + u, true or scalar start; compare with medians
    over runs. inf for gamma <= 1 + u, where typical values per dimension grow with d.

    Args:
        gamma: n/d; may be inf, where it is the floor 1/2 (u - ln(1 + u)).
        u: noise-to-signal ratio > 0.

    Returns:
        The typical divergence per dimension.

    Raises:
        ConfigError: for arguments that are not positive.

    Reference: theory note (B8).
    """
    gamma, u = _gamma_and_u(gamma, u)
    room = np.where(gamma > 1 + u, gamma - 1 - u, 1.0)
    return np.where(gamma > 1 + u, (_log_deficit(u) + u * (1 + u) / room) / 2, math.inf)


def one_step_typical_kl(
    n: ArrayLike,
    horizon: ArrayLike,
    noise_scale: ArrayLike,
    dim: ArrayLike | None = None,
    spectrum: ArrayLike | None = None,
) -> Array:
    """Typical KL(true || generated) of the one-step model for any spectrum of full rank, summed.

    1/2 sum_i [F (1 + u_i) - 1 - ln(1 + u_i)], F = (n - d)/(n - n*), n* = d + sum_i u_i.

    Regime: large d, n > n*, true start covariance; compare with medians over runs. inf for
    n <= n*, where typical values grow faster than d, and are infinite for n <= d (exact).

    Args:
        n: training points; inf gives the floor 1/2 sum (u_i - ln(1 + u_i)).
        horizon: T.
        noise_scale: lambda.
        dim: d, for isotropic data of variance 1.
        spectrum: eigenvalues of C in place of d, all positive.

    Returns:
        The divergence, over all dimensions.

    Raises:
        ConfigError: for arguments out of range, or an eigenvalue that is zero.

    Reference: theory note (B8).
    """
    c = _spectrum(dim, spectrum)
    if (c.values <= 0).any():
        raise ConfigError("spectrum has a zero; KL(true || generated) needs C of full rank.")
    n, unit, d = _broadcast(
        n=_numbers("n", n, _SIZE), noise=noise_to_signal(horizon, noise_scale), spectrum=c.dim
    )
    u = unit[..., None] / c.values
    total = c.sum(u)
    room = np.where(n > d + total, n - d - total, 1.0)
    # F (1 + u) - 1 - ln(1 + u) = [u - ln(1 + u)] + (F - 1)(1 + u),  F - 1 = sum u/(n - n*)
    value = (c.sum(_log_deficit(u)) + total * (d + total) / room) / 2
    return np.where(n > d + total, value, math.inf)


class OneStepCriteria(NamedTuple):
    """Criteria of the one-step model over training sets: means, but the median of the third."""

    affinity_rate: Array
    kl_to_source: Array
    kl_from_source: Array
    bures_wasserstein: Array
    spread_ratio: Array


def one_step_criteria(
    n: ArrayLike,
    horizon: ArrayLike,
    noise_scale: ArrayLike,
    dim: ArrayLike | None = None,
    spectrum: ArrayLike | None = None,
    ridge: float = 0.0,
    start: Literal["scalar", "estimated", "in_sample"] = "scalar",
) -> OneStepCriteria:
    """Criteria of the one-step model at any n, for one spectrum, with the terms of order 1/d.

    Affinity per dimension, KL both ways, W2 and tr Sigma_G/tr C from the mean and covariance of
    log determinants, `one_step` equations (1) to (9).

    Regime: any n, spectrum of full rank, ridge and start; what is left out is below a quarter
    of the scatter between runs from d = 8 on, most of it near n*. NaN near n = d, and
    KL(true || generated) where runs scatter by more than half of it.

    Args:
        n: training points > 2, one number or a list.
        horizon: T.
        noise_scale: lambda.
        dim: d, for isotropic data of variance 1.
        spectrum: eigenvalues of C in place of d, all positive.
        ridge: in units of the covariance of x_T; 0 is least squares of minimum norm.
        start: of the sampler, as in a spec.

    Returns:
        means, of KL(true || generated) the median.

    Raises:
        ConfigError: for arguments out of range, several horizons or dimensions, or a zero
            eigenvalue.

    Reference: theory note (B15) to (B18).
    """
    sizes = _numbers("n", n, _Range(2, True))
    one = [
        _numbers("horizon", horizon, _POSITIVE),
        _numbers("noise_scale", noise_scale, _POSITIVE),
    ]
    c = _spectrum(dim, spectrum)
    if any(array.ndim for array in one) or c.values.ndim != 1 or c.counts.ndim != 1:
        raise ConfigError(
            "one_step_criteria takes one horizon, noise_scale and dim or spectrum, and any n."
        )
    if (c.values <= 0).any():
        raise ConfigError("spectrum has a zero; the criteria need C of full rank.")
    if start not in ("scalar", "estimated", "in_sample"):
        raise ConfigError(f"start is {start!r}; scalar, estimated and in_sample are known.")
    t, scale = (float(array) for array in one)
    whole = np.repeat(c.values, c.counts.astype(np.intp)) if spectrum is None else c.values
    values, counts = one_step.spectrum(whole)
    model = Regression(
        values=values,
        counts=counts,
        alpha=math.exp(-t),
        sigma=math.sqrt(-scale * math.expm1(-2 * t)),
        n=3.0,
        ridge=float(_numbers("ridge", ridge, _NOT_NEGATIVE)),
        start=start,
    )
    found = one_step.criteria(model, sizes.ravel())
    columns = {name: np.array([m.mean for m in column]) for name, column in found.items()}
    columns["kl_from_source"] = np.array([m.median for m in found["kl_from_source"]])
    squares, spreads = np.array(found["bures_wasserstein"]).T
    columns["bures_wasserstein"] = np.sqrt(squares) * (1 - spreads / (8 * squares**2))
    return OneStepCriteria(**{k: v.reshape(sizes.shape) for k, v in columns.items()})


class QuadraticForms(NamedTuple):
    """(x - mu)^T (Sigma_G + eps²)^-1 (x - mu) per dimension, of training and of fresh points."""

    training: Array
    fresh: Array


def one_step_quadratic_forms(
    gamma: ArrayLike, u: ArrayLike, bandwidth: ArrayLike
) -> QuadraticForms:
    """Mahalanobis forms per dimension of training and of fresh points under the one-step model.

    In units of sT² = 1, with l = gamma MP(1/gamma), z = w² p kappa g/(w² p + alpha²), w = eps:
    fresh = g, training = <(l/gamma) (1 - w² t_l)> + (1 - 1/gamma) (1 - r) g, where
    t_l = p l/((w² p + alpha²)(l + z)), g and p from (B5): g = sin p'/(2 alpha w),
    p = cos²(p'/2)/(w² g).

    Regime: n, d -> infinity, gamma > 1, isotropic, true start covariance; data of variance 1.

    Args:
        gamma: n/d > 1; may be inf.
        u: noise-to-signal ratio > 0.
        bandwidth: eps > 0, in units of the standard deviation of the data.

    Returns:
        q_train/d and q_fresh/d; their difference is the in-sample shrinkage.

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (B12), solved by (B5).
    """
    gamma, u = _gamma_and_u(gamma, u, _ABOVE_ONE)
    eps = _numbers("bandwidth", bandwidth, _POSITIVE)
    gamma, u, eps = _broadcast(gamma=gamma, u=u, bandwidth=eps)
    r, w = 1 / (1 + u), eps**2
    t = _potential(gamma, u, eps / np.sqrt(r))[1]
    g = t / (1 + t**2) / np.sqrt(r * w)
    p = 1 / ((1 + t**2) * w * g)
    b = w * p + r
    z = w * p * (1 - r) * g / b
    m = _Stieltjes.at(1 / gamma, z / gamma).m / gamma
    training = 1 - w * p / b * (1 - z / gamma * (1 - z * m)) + (1 - 1 / gamma) * (1 - r) * g
    return QuadraticForms(training, g)


def ridge_moments(gamma: ArrayLike, x: ArrayLike, u: ArrayLike) -> "RidgeMoments":
    """Mean slope and spread of the one-step model with ridge rho, x = rho/sT².

    With m = <1/(l + x)> over MP(c), c = 1/gamma, M = -dm/dx and k = 1 + c m:
    tr theta1/(d alpha) = 1 - x m = m/k, and
    tr Sigma_G/(d s²) = r (M/k² + c m²)/k² + (1 - r) c M/k².

    Regime: n, d -> infinity at any gamma > 0, isotropic, true start covariance. No pole at n = d.

    Args:
        gamma: n/d > 0; may be inf.
        x: ridge in units of the variance of x_T, > 0; u/gamma is the best for prediction.
        u: noise-to-signal ratio > 0.

    Returns:
        tr theta1/(d alpha) and tr Sigma_G/(d s²).

    Raises:
        ConfigError: for arguments that are not positive.

    Reference: theory note (B14), in positive terms.
    """
    gamma, u = _gamma_and_u(gamma, u)
    gamma, x, u = _broadcast(gamma=gamma, x=_numbers("x", x, _POSITIVE), u=u)
    c, r = 1 / gamma, 1 / (1 + u)
    m, slope = _Stieltjes.at(c, x)
    k = 1 + c * m
    spread = r * (slope / k**2 + c * m**2) / k**2 + (1 - r) * c * slope / k**2
    return RidgeMoments(m / k, spread)


class RidgeMoments(NamedTuple):
    """tr theta1/(d alpha) and tr Sigma_G/(d s²)."""

    slope: Array
    spread: Array


class Divergences(NamedTuple):
    """KL(generated || true) and KL(true || generated)."""

    to_source: Array
    from_source: Array


def many_draws_kl(gamma: ArrayLike, u: ArrayLike) -> Divergences:
    """KL both ways, per dimension, of the one-step model fitted with infinitely many noise draws.

    c = 1/gamma, m and m' at u, L(x) = int ln(l + x) dMP:
    KL(generated || true)/d = 1/2 [(1 + u)(1 - 2 u m - u² m') - 1 - ln(1 + u) - 2 L(0) + 2 L(u)],
    KL(true || generated)/d = 1/2 {[1 + 2u/(1-c) + u²/(1-c)³]/(1+u) - 1 + ln(1+u) + 2L(0) - 2L(u)}.

    Regime: n, d -> infinity, isotropic, true or scalar start. inf for gamma <= 1, where the law is
    singular (exact).

    Args:
        gamma: n/d; may be inf.
        u: noise-to-signal ratio > 0.

    Returns:
        KL(generated || true)/d and KL(true || generated)/d.

    Raises:
        ConfigError: for arguments that are not positive.

    Reference: theory note (B11).
    """
    gamma, u = _gamma_and_u(gamma, u)
    inside = np.where(gamma > 1, gamma, 2.0)
    c = 1 / inside
    m, slope = _Stieltjes.at(c, u)
    k = 1 + c * m
    log_u = _mean_log(c, u, m) - _mean_log(c, np.zeros_like(u), 1 / (1 - c))
    one = (1 + u) * (slope / k**2 + c * m**2) / k**2 - 1 - np.log1p(u) + 2 * log_u
    other = (1 + 2 * u / (1 - c) + u**2 / (1 - c) ** 3) / (1 + u) - 1 + np.log1p(u) - 2 * log_u
    return Divergences(
        np.where(gamma > 1, one / 2, math.inf), np.where(gamma > 1, other / 2, math.inf)
    )


def _mean_log(c: Array, x: Array, m: Array) -> Array:
    """L(x) = <ln(l + x)> over MP(c), 0 <= c < 1, with m at x: the Shannon transform."""
    e = c * m
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = np.where(c > 0, _log_deficit(-e / (1 + e)) / c, 0.0)
    return np.log(x + 1 / (1 + e)) + rest


# -- likelihood gap ----------------------------------------------------------------------------


def effective_dimension(spectrum: ArrayLike, bandwidth: ArrayLike) -> Array:
    """d_eff = sum_i c_i/(c_i + eps²), the directions wider than the kernel.

    Regime: exact, a definition.

    Args:
        spectrum: eigenvalues of C, on the last axis.
        bandwidth: eps >= 0.

    Returns:
        d_eff, between 0 and the rank.

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (B13).
    """
    c = _eigenvalues(spectrum)
    eps, _ = _broadcast(bandwidth=_numbers("bandwidth", bandwidth, _NOT_NEGATIVE), c=c[..., 0])
    width = (eps**2)[..., None]
    return np.where(c > 0, c / np.where(c > 0, c + width, 1.0), 0.0).sum(-1)


def likelihood_gap(
    spectrum: ArrayLike,
    n: ArrayLike,
    bandwidth: ArrayLike,
    model: Literal["sample_covariance", "one_step"] = "sample_covariance",
    horizon: ArrayLike | None = None,
    noise_scale: ArrayLike | None = None,
) -> Array:
    """Mean log density at training less at fresh points, to first order in 1/n.

    sample_covariance, B = (C + eps²)^-1: 1/2 [(tr BC)² + tr (BC)² + 2 tr BC]/n.
    one_step, B = (A Sigma_T A + eps²)^-1:
    [tr(BV) tr(B A Sigma_T A) + tr(B V B A Sigma_T A) + tr(BC)]/n.

    Regime: n >> d_eff(eps), first order in 1/n; a RegimeWarning below n = 10 d_eff.

    Args:
        spectrum: eigenvalues of C, on the last axis.
        n: training points.
        bandwidth: eps >= 0 (> 0 where C is singular).
        model: whose law is smoothed by eps.
        horizon, noise_scale: T and lambda, for one_step.

    Returns:
        The gap; at eps = 0 for the sample covariance d (d + 3)/(2 n).

    Raises:
        ConfigError: for an unknown model, or horizon and noise_scale where they have no place.

    Reference: theory note (B13).
    """
    c = _eigenvalues(spectrum)
    n = _numbers("n", n, _SIZE)
    d_eff = effective_dimension(c, bandwidth)
    n, d_eff = _broadcast(n=n, effective_dimension=d_eff)
    if (n < 10 * d_eff).any():
        warnings.warn(
            f"likelihood_gap: n = {n.flat[np.argmin(n / d_eff)]:g} is below 10 times the "
            f"effective dimension {d_eff.flat[np.argmin(n / d_eff)]:.3g}; the first order in 1/n "
            "is rough there.",
            RegimeWarning,
            stacklevel=2,
        )
    width = (_numbers("bandwidth", bandwidth, _NOT_NEGATIVE) ** 2)[..., None]
    noise = (horizon, noise_scale)
    if model == "sample_covariance" and noise == (None, None):
        weights = _shares(c, c, width)
        total = weights.sum(-1)
        return (total**2 + (weights**2).sum(-1) + 2 * total) / (2 * n)
    if model == "one_step" and horizon is not None and noise_scale is not None:
        unit = noise_to_signal(horizon, noise_scale)[..., None]
        kept = c / (1 + unit / np.where(c > 0, c, 1.0))
        signal, lost = _shares(kept, kept, width), _shares(c - kept, kept, width)
        cross = lost.sum(-1) * signal.sum(-1) + (lost * signal).sum(-1)
        return (cross + _shares(c, kept, width).sum(-1)) / n
    raise ConfigError(
        f"model={model!r} with horizon={horizon}, noise_scale={noise_scale}; accepted are "
        "'sample_covariance' without the two, and 'one_step' with both."
    )


def _shares(part: Array, whole: Array, width: Array) -> Array:
    """part/(whole + width), 0 where there is no part."""
    total = whole + width
    return np.where(part > 0, part / np.where(total > 0, total, 1.0), 0.0)


# -- dimensions of a spectrum ------------------------------------------------------------------


def wasserstein_dimension(spectrum: ArrayLike) -> Array:
    """D in E W2²/tr C = D/n for the Gaussian of the sample mean and covariance.

    1 + [sum_{i != j} c_i c_j/(c_i + c_j) + sum_i c_i]/(2 tr C).

    Regime: n >> D (first order in 1/n).

    Args:
        spectrum: eigenvalues of C, on the last axis.

    Returns:
        D; (d + 5)/4 for isotropic data, bounded for spectra steeper than k^-2.

    Raises:
        ConfigError: for a spectrum that is negative, empty or zero.

    Reference: theory note (C1).
    """
    c = _eigenvalues(spectrum)
    total = c[..., :, None] + c[..., None, :]
    pairs = c[..., :, None] * c[..., None, :] / np.where(total > 0, total, 1.0)
    trace = c.sum(-1)
    different = pairs.sum((-1, -2)) - trace / 2  # the diagonal is c_i/2
    return 1 + (different + trace) / (2 * trace)


def effective_rank(spectrum: ArrayLike) -> Array:
    """tr C/|C|, the size scale of errors in operator norm.

    Regime: exact, a definition.

    Args:
        spectrum: eigenvalues of C, on the last axis.

    Returns:
        Between 1 and d.

    Raises:
        ConfigError: for a spectrum that is negative, empty or zero.

    Reference: theory note (C3); Koltchinskii and Lounici 2017, Bernoulli 23, 110.
    """
    c = _eigenvalues(spectrum)
    return c.sum(-1) / c.max(-1)


def participation_ratio(spectrum: ArrayLike) -> Array:
    """(tr C)²/tr C², the number of directions that share the variance.

    Regime: exact, a definition.

    Args:
        spectrum: eigenvalues of C, on the last axis.

    Returns:
        Between 1 and d.

    Raises:
        ConfigError: for a spectrum that is negative, empty or zero.

    Reference: theory note (C3).
    """
    c = _eigenvalues(spectrum)
    c = c / c.max(-1, keepdims=True)
    return c.sum(-1) ** 2 / (c**2).sum(-1)


# -- the exact empirical score -----------------------------------------------------------------


def _source(dim: ArrayLike | None, spectrum: ArrayLike | None, std: ArrayLike) -> _Spectrum:
    """The spectrum of dim points of standard deviation std, or the one given."""
    s = _numbers("std", std, _POSITIVE)
    if spectrum is not None and (s != 1).any():
        raise ConfigError("std belongs to dim; a spectrum already has its scale. Leave std out.")
    return _spectrum(dim, spectrum, s**2)


def _information(c: _Spectrum, clock: Array) -> Array:
    """I(x_0; x_t) at clock = lambda (e^2t - 1)."""
    return c.sum(np.log1p(c.values / clock[..., None])) / 2


def collapse_time(
    n: ArrayLike,
    dim: ArrayLike | None = None,
    spectrum: ArrayLike | None = None,
    noise_scale: ArrayLike = 1.0,
    std: ArrayLike = 1.0,
) -> Array:
    """t_C, below which the exact score of n points leads back to one of them.

    I(x_0; x_t) = 1/2 sum_i ln(1 + c_i/(lambda (e^2t - 1))) = ln n; for isotropic data
    t_C = 1/2 ln(1 + (s²/lambda)/(n^(2/d) - 1)).

    Regime: large d with ln n/d fixed; at d = 16 to 100 the median crossing lies 4 to 13 % later.

    Args:
        n: training points > 1.
        dim: d, for isotropic data.
        spectrum: eigenvalues of C in place of d; a rank k counts as k.
        noise_scale: lambda.
        std: s, for isotropic data.

    Returns:
        t_C.

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (D1), (D2); Biroli, Bonnaire, de Bortoli and Mezard 2024, for (D1).
    """
    c = _source(dim, spectrum, std)
    n, scale, rank = _broadcast(
        n=_numbers("n", n, _Range(1, True)),
        noise_scale=_numbers("noise_scale", noise_scale, _POSITIVE),
        spectrum=np.broadcast_arrays(c.rank, c.values[..., 0])[0],
    )
    log_n = np.log(n)
    flat = np.expm1(np.minimum(2 * log_n / rank, 700.0))  # beyond, t_C is 0 to rounding
    positive = np.where(c.values > 0, c.values, np.nan)
    low, high = (
        np.broadcast_to(f(positive, axis=-1), flat.shape) / flat for f in (np.nanmin, np.nanmax)
    )
    clock = _root(lambda v: log_n - _information(c, v), low, high)
    return np.log1p(clock / scale) / 2


def own_weight_probability(
    t: ArrayLike,
    n: ArrayLike,
    dim: ArrayLike | None = None,
    spectrum: ArrayLike | None = None,
    noise_scale: ArrayLike = 1.0,
    std: ArrayLike = 1.0,
) -> Array:
    """P(the own point has more than half of the posterior weight) of a noised training point.

    Phi((I - ln(n - 1))/sqrt V), V = sum_i x_i/(1 + x_i), x_i = c_i/(lambda (e^2t - 1)).

    Regime: large d; the sharp threshold is off by .03 to .1 at d = 16 to 100 (too low near t_C).

    Args:
        t: time > 0.
        n: training points > 1.
        dim: d, for isotropic data.
        spectrum: eigenvalues of C in place of d.
        noise_scale: lambda.
        std: s, for isotropic data.

    Returns:
        The probability.

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (D3).
    """
    c = _source(dim, spectrum, std)
    t, n, scale, _ = _broadcast(
        t=_numbers("t", t, _POSITIVE),
        n=_numbers("n", n, _Range(1, True)),
        noise_scale=_numbers("noise_scale", noise_scale, _POSITIVE),
        spectrum=np.broadcast_arrays(c.rank, c.values[..., 0])[0],
    )
    clock = scale * np.expm1(2 * t)
    x = c.values / clock[..., None]
    return special.ndtr((_information(c, clock) - np.log(n - 1)) / np.sqrt(c.sum(x / (1 + x))))


class OwnTerm(NamedTuple):
    """ln(Z_own / Z_rest) of a noised training point: what `own_log_odds` returns."""

    typical: Array
    annealed: Array
    freezing: Array


def own_log_odds(
    t: ArrayLike,
    n: ArrayLike,
    dim: ArrayLike | None = None,
    spectrum: ArrayLike | None = None,
    noise_scale: ArrayLike = 1.0,
    std: ArrayLike = 1.0,
) -> OwnTerm:
    """Log of a training point's own term in the empirical score against the sum of all others.

    With x_i = c_i/(lambda (e^2t - 1)), the mean of Z_rest gives the paper's argument,

        annealed = 1/2 sum ln(1 + x_i) - ln(n - 1),

    and the random-energy law of its typical size, e(b) = d/2 + phi(b)/b at b = min(1, b_c),

        phi(b) = ln(n - 1) - 1/2 sum [ln(1 + b x_i) + b (1 + x_i)/(1 + b x_i)],
        typical = -e(b),   b_c the root of phi(b) = b phi'(b).

    The two are equal above t_C, where b_c = 1 and both are 0; below it the sum is dominated by
    its largest term, and the mean by points that are not there.

    Regime: large d with ln n/d fixed; below t_C typical is too low by up to 2/b_c.

    Args:
        t: time > 0.
        n: training points > 2.
        dim: d, for isotropic data.
        spectrum: eigenvalues of C in place of d.
        noise_scale: lambda.
        std: s, for isotropic data.

    Returns:
        typical and annealed log odds, and the freezing point b.

    Raises:
        ConfigError: for arguments out of range.

    Reference: Halder and Pehlevan, section 2.3, for Z_1 and Z_1^c; theory note (D2), (D5).
    """
    c = _source(dim, spectrum, std)
    t, n, scale, _ = _broadcast(
        t=_numbers("t", t, _POSITIVE),
        n=_numbers("n", n, _Range(2, True)),
        noise_scale=_numbers("noise_scale", noise_scale, _POSITIVE),
        spectrum=np.broadcast_arrays(c.rank, c.values[..., 0])[0],
    )
    x, log_rest = c.values / (scale * np.expm1(2 * t))[..., None], np.log(n - 1)

    def missing_entropy(b: Array) -> Array:
        y = b[..., None] * x
        ratio = y / (1 + y)
        return (
            c.sum(np.log1p(y) - ratio + ratio**2 * (1 + 1 / np.maximum(x, 1e-300))) / 2 - log_rest
        )

    annealed = c.sum(np.log1p(x)) / 2 - log_rest
    b = np.where(
        annealed <= 0, 1.0, _root(missing_entropy, np.full(t.shape, 1e-12), np.ones(t.shape))
    )
    y = b[..., None] * x
    phi = log_rest - c.sum(np.log1p(y) + b[..., None] * (1 + x) / (1 + y)) / 2
    return OwnTerm(typical=-c.dim / 2 - phi / b, annealed=annealed, freezing=b)


def speciation_time(
    mean_squared: ArrayLike, variance: ArrayLike = 1.0, noise_scale: ArrayLike = 1.0
) -> Array:
    """t_S, at which two classes at +mu and -mu merge: kappa = 1.

    1/2 ln(1 + (|mu|² - s²)/lambda).

    Regime: exact, |mu|² > s²; independent of n.

    Args:
        mean_squared: |mu|², the square of half the separation.
        variance: s² of a class in each direction.
        noise_scale: lambda.

    Returns:
        t_S.

    Raises:
        ConfigError: for |mu|² <= s², where the classes overlap from the start.

    Reference: theory note (D6); Biroli, Bonnaire, de Bortoli and Mezard 2024.
    """
    square, s2, scale = _broadcast(
        mean_squared=_numbers("mean_squared", mean_squared, _POSITIVE),
        variance=_numbers("variance", variance, _POSITIVE),
        noise_scale=_numbers("noise_scale", noise_scale, _POSITIVE),
    )
    if (square <= s2).any():
        i = np.argmin(square - s2)
        raise ConfigError(
            f"mean_squared is {square.flat[i]:g} and variance {s2.flat[i]:g}; a speciation time "
            "needs mean_squared > variance: kappa = |mu|/s is at most 1 already in clean data."
        )
    return np.log1p((square - s2) / scale) / 2


def clone_agreement(kappa: ArrayLike) -> Array:
    """phi, the probability that two clones of one noisy point end in the same class.

    E_z[p² + (1 - p)²], p = sigmoid(2 kappa² + 2 kappa z), which equals
    1 - 1/2 e^(-kappa²/2) E_z[sech(kappa z)].

    Regime: exact, two Gaussian classes of equal weight.

    Args:
        kappa: a_t |mu|/sqrt(a_t² s² + b_t²), >= 0.

    Returns:
        Between 1/2 and 1; 0.7752 at kappa = 1, the speciation time.

    Raises:
        ConfigError: for negative kappa.

    Reference: theory note (D6).
    """
    kappa = _numbers("kappa", kappa, _Range(0, infinite=True))
    k = np.minimum(kappa, 40.0)  # beyond, e^(-kappa²/2) is below the smallest float
    z = np.linspace(-12, 12, 2001)  # the trapezoidal rule errs by e^(-pi²/(kappa h))
    weights = np.exp(-(z**2) / 2) * (z[1] - z[0]) / math.sqrt(2 * math.pi)
    with np.errstate(over="ignore"):
        merged = (weights / np.cosh(k[..., None] * z)).sum(-1)
    return 1 - np.exp(-(kappa**2) / 2) * merged / 2


def relaxation_time(largest_eigenvalue: ArrayLike, noise_scale: ArrayLike = 1.0) -> Array:
    """t_R = 1/2 ln(1 + lambda_max/lambda): signal equals noise in the strongest direction.

    Regime: exact as a definition; the score is linear well after it, not at it.

    Args:
        largest_eigenvalue: lambda_max of the covariance of the data.
        noise_scale: lambda.

    Returns:
        t_R.

    Raises:
        ConfigError: for arguments that are not positive.

    Reference: theory note (D8); Halder and Pehlevan, section 2.3.
    """
    top, scale = _broadcast(
        largest_eigenvalue=_numbers("largest_eigenvalue", largest_eigenvalue, _POSITIVE),
        noise_scale=_numbers("noise_scale", noise_scale, _POSITIVE),
    )
    return np.log1p(top / scale) / 2


# -- samplers on an affine score ---------------------------------------------------------------

Method = Literal["ode", "sde", "ddpm", "ddim", "euler", "heun"]
METHODS: tuple[Method, ...] = ("ode", "sde", "ddpm", "ddim", "euler", "heun")


class Moments(NamedTuple):
    """Mean and variance."""

    mean: Array
    variance: Array


def sampler_moments(
    method: Method,
    c: ArrayLike,
    horizon: ArrayLike,
    noise_scale: ArrayLike,
    n_steps: int | None = None,
    grid: Literal["uniform", "quadratic"] = "uniform",
    mean: ArrayLike = 0.0,
    start_mean: ArrayLike = 0.0,
    start_variance: ArrayLike | None = None,
) -> Moments:
    """Mean and variance that a sampler makes of an exact Gaussian score, one direction.

    In the clock v_t = lambda (e^2t - 1) and y = x/a: the flow multiplies y - m by
    sqrt(c/(c + v)); DDPM by (c + v_s)/(c + v_t) and adds v_s (v_t - v_s)/v_t; DDIM by
    (c + sqrt(v_s v_t))/(c + v_t); Euler and Heun integrate dx/dt = -x + lambda (x - a m)/S_t.

    Regime: exact for any number of steps. ode and sde are the limits of infinitely many.

    Args:
        method: ode, sde, ddpm, ddim, euler or heun.
        c: eigenvalue of the covariance in the score, > 0.
        horizon: T.
        noise_scale: lambda.
        n_steps: K >= 1; for ode and sde without meaning.
        grid: times T k/K (uniform) or T (k/K)² (quadratic).
        mean: m of the score, in this direction.
        start_mean, start_variance: of the start at T; 0 and noise_scale.

    Returns:
        mean and variance at t = 0.

    Raises:
        ConfigError: for an unknown method or grid, or arguments out of range.

    Reference: theory note (E1) to (E6).
    """
    if method not in METHODS or grid not in ("uniform", "quadratic"):
        raise ConfigError(
            f"method={method!r}, grid={grid!r}; methods are {', '.join(METHODS)}, grids are "
            "uniform and quadratic."
        )
    scale = _numbers("noise_scale", noise_scale, _POSITIVE)
    start = scale if start_variance is None else start_variance
    c, top, scale, m, m_top, v_top = _broadcast(
        c=_numbers("c", c, _POSITIVE),
        horizon=_numbers("horizon", horizon, _POSITIVE),
        noise_scale=scale,
        mean=_numbers("mean", mean),
        start_mean=_numbers("start_mean", start_mean),
        start_variance=_numbers("start_variance", start, _NOT_NEGATIVE),
    )
    a = np.exp(-top)
    noisy = a**2 * c - scale * np.expm1(-2 * top)
    if method == "ode":
        factor = np.sqrt(c / noisy)
        return Moments(m + factor * (m_top - a * m), factor**2 * v_top)
    if method == "sde":
        factor = a * c / noisy
        added = -c * scale * np.expm1(-2 * top) / noisy
        return Moments(m + factor * (m_top - a * m), factor**2 * v_top + added)
    steps = _numbers("n_steps", math.nan if n_steps is None else n_steps, _COUNT)
    if steps.ndim:
        raise ConfigError("n_steps is one whole number; call once for each.")
    times = (np.arange(int(steps), -1, -1) / float(steps)) ** (1 if grid == "uniform" else 2)
    if method in ("ddpm", "ddim"):
        factor, added = np.ones_like(c), np.zeros_like(c)
        for one, other in pairwise(times):
            v_t, v_s = scale * np.expm1(2 * top * one), scale * np.expm1(2 * top * other)
            kept = v_s if method == "ddpm" else np.sqrt(v_s * v_t)
            step = (c + kept) / (c + v_t)
            noise = v_s * (1 - v_s / v_t) if method == "ddpm" else 0.0
            factor, added = factor * step, step**2 * added + noise
        return Moments(m + factor * (m_top / a - m), factor**2 * v_top / a**2 + added)
    factor, centre = np.ones_like(c), m_top.copy()
    for one, other in pairwise(times):
        t, h = top * one, top * (one - other)
        slope, pull = _drift(c, scale, m, t)
        change = slope * centre + pull
        step = 1 - h * slope
        if method == "heun":
            slope_s, pull_s = _drift(c, scale, m, t - h)
            change = (change + slope_s * (centre - h * change) + pull_s) / 2
            step = 1 - h / 2 * (slope + slope_s * step)
        factor, centre = factor * step, centre - h * change
    return Moments(centre, factor**2 * v_top)


def _drift(c: Array, scale: Array, m: Array, t: Array) -> tuple[Array, Array]:
    """Slope and constant of the probability flow: dx/dt = slope x + constant."""
    a = np.exp(-t)
    pull = scale / (a**2 * c - scale * np.expm1(-2 * t))
    return pull - 1, -pull * a * m


# -- the sample covariance ---------------------------------------------------------------------


def sample_covariance_kl(dim: ArrayLike, n: ArrayLike) -> Divergences:
    """Mean KL both ways of the Gaussian with sample mean and covariance (1/(n-1)), any C.

    nu = n - 1, Psi = sum_{i<d} [psi((nu - i)/2) - ln(nu/2)]:
    E KL(generated || true) = 1/2 (d/n - Psi),
    E KL(true || generated) = 1/2 (d nu/(nu - d - 1) (1 + 1/n) - d + Psi).

    Regime: exact for any covariance of full rank. inf for n <= d, and the second for n <= d + 2.

    Args:
        dim: d.
        n: training points >= 2; inf gives 0.

    Returns:
        KL(generated || true) and KL(true || generated), means over training sets.

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (E9); Merger and Goldt 2025 for the leading d (d + 3)/(4 n).
    """
    d, n = _broadcast(
        dim=_numbers("dim", dim, _COUNT), n=_numbers("n", n, _Range(2, infinite=True))
    )
    finite = np.isfinite(n)
    size = np.where(finite & (n > d), n, d + 3.0)
    nu = size - 1
    i = np.arange(d.max())
    used = i < d[..., None]
    x = np.where(used, (nu[..., None] - i) / 2, 1.0)
    terms = _digamma_less_log(x) + np.log1p(np.where(used, -i / nu[..., None], 0.0))
    psi = np.where(used, terms, 0.0).sum(-1)
    one = (d / size - psi) / 2
    room = np.where(size > d + 2, nu - d - 1, 1.0)
    other = (d * (d + 1) / room + d * nu / (room * size) + psi) / 2
    one = np.where(n > d, np.where(finite, one, 0.0), math.inf)
    other = np.where(n > d + 2, np.where(finite, other, 0.0), math.inf)
    return Divergences(one, other)


def _digamma_less_log(x: Array) -> Array:
    """psi(x) - ln x, without cancellation for large x."""
    large = np.maximum(x, 30.0) ** -2
    series = -1 / (2 * np.maximum(x, 30.0)) - large * (
        1 / 12 - large * (1 / 120 - large * (1 / 252 - large / 240))
    )
    return np.where(x > 30, series, special.digamma(x) - np.log(x))


def sample_covariance_kl_rate(gamma: ArrayLike) -> Divergences:
    """KL both ways, per dimension, of the Gaussian with sample mean and covariance.

    c = 1/gamma: 1/2 [1 + ((1-c)/c) ln(1-c)] and 1/2 [c/(1-c) - 1 - ((1-c)/c) ln(1-c)].

    Regime: n, d -> infinity, any covariance. inf for gamma <= 1, where the law is singular.

    Args:
        gamma: n/d; may be inf.

    Returns:
        KL(generated || true)/d and KL(true || generated)/d, both 1/(4 gamma) for large gamma.

    Raises:
        ConfigError: for gamma <= 0.

    Reference: theory note (E9b).
    """
    gamma = _numbers("gamma", gamma, _RATIO)
    inside = np.where(gamma > 1, gamma, 2.0)
    c = 1 / inside
    with np.errstate(invalid="ignore", divide="ignore"):
        one = np.where(c > 0, _entropy_excess(-c) / c, 0.0)
    other = c / (1 - c) - one
    return Divergences(
        np.where(gamma > 1, one / 2, math.inf), np.where(gamma > 1, other / 2, math.inf)
    )


def sample_overlap(gamma: ArrayLike) -> Array:
    """q, the correlation of two sample-covariance models on disjoint data, given the same noise.

    (int sqrt(l) dMP)² with ratio c = 1/gamma, = min(1, gamma) 2F1(1/2, -1/2; 2; min(c, gamma))².

    Regime: n, d -> infinity, isotropic data.

    Args:
        gamma: n/d > 0; may be inf.

    Returns:
        q, from 0 to 1; (8/(3 pi))² at gamma = 1.

    Raises:
        ConfigError: for gamma <= 0.

    Reference: theory note (E10).
    """
    gamma = _numbers("gamma", gamma, _RATIO)
    ratio = np.minimum(gamma, 1 / gamma)
    return np.minimum(1.0, gamma) * special.hyp2f1(0.5, -0.5, 2.0, ratio) ** 2


# -- nearest neighbours ------------------------------------------------------------------------


def memorized_fraction_null(dim: ArrayLike, n: ArrayLike, gap: ArrayLike = 1 / 3) -> Array:
    """P(d1/d2 < gap) for fresh Gaussian points: what a perfect generator scores.

    n int f_x(w) (1 - F_x(w/gap²))^(n-1) dw averaged over |x|² ~ chi²_d, with f_x, F_x the
    noncentral chi²_d(|x|²); gap^d for locally uniform data.

    Regime: exact for isotropic Gaussian data and generator; dim is the intrinsic dimension.

    Args:
        dim: d, up to 512.
        n: training points >= 2.
        gap: threshold on the ratio of distances to nearest and second nearest, in (0, 1].

    Returns:
        The probability, to about 1e-7 relative.

    Raises:
        ConfigError: for arguments out of range.

    Reference: theory note (F1).
    """
    d, n, t = _broadcast(
        dim=_numbers("dim", dim, _Range(1, high=512, whole=True)),
        n=_numbers("n", n, _Range(2)),
        gap=_numbers("gap", gap, _Range(0, True, high=1)),
    )
    value = np.empty(d.shape)
    for one in np.unique(d):
        value[d == one] = _ratio_probability(float(one), n[d == one], t[d == one])
    return value


def _ratio_probability(d: float, n: Array, gap: Array) -> Array:
    """(F1) at one dimension, by quadrature in |x|² and in ln of a squared distance z = w/gap²."""
    k = np.arange(24)  # Gauss-Laguerre nodes of the chi²_d law, by Golub and Welsch
    off = np.sqrt(k[1:] * (k[1:] + d / 2 - 1))
    nodes, vectors = np.linalg.eigh(np.diag(2 * k + d / 2) + np.diag(off, 1) + np.diag(off, -1))
    lengths, weights = 2 * nodes, vectors[0] ** 2
    lengths, weights = lengths[weights > 1e-18], weights[weights > 1e-18]
    gaps, which = np.unique(gap, return_inverse=True)
    total = np.zeros(n.shape)
    for length, weight in zip(lengths, weights, strict=True):
        low = special.chndtrix(1e-8 / n.max(), d, length)
        high = special.chndtrix(1 - 1e-11, d, length)
        step = min(0.2, 0.6 / d)
        log_z = np.arange(math.log(low), math.log(high) + step, step)
        z = np.exp(log_z)
        with np.errstate(divide="ignore"):
            log_beyond = np.log1p(-np.minimum(special.chndtr(z, d, length), 1.0))
        density = np.stack([_noncentral_density(t**2 * z, d, length) * t**2 * z for t in gaps])
        beyond = np.exp((n - 1)[:, None] * log_beyond)
        total += weight * n * step * (density[which] * beyond).sum(-1)
    return total


def _noncentral_density(w: Array, d: float, length: float) -> Array:
    """Density of the noncentral chi²_d(length) at w."""
    log_central = special.xlogy(d / 2 - 1, w) - (w + length) / 2
    log_central -= d / 2 * math.log(2) + special.gammaln(d / 2)
    return np.exp(log_central) * special.hyp0f1(d / 2, length * w / 4)


def authenticity_null(dim: ArrayLike) -> Array:
    """1 - P(mutual nearest neighbours): what a perfect generator scores in authenticity.

    1 - 1/(2 - I_{3/4}((d + 1)/2, 1/2)), I the regularized incomplete beta function.

    Regime: homogeneous Poisson points. Hubs in Gaussian data of d >= 4 raise it (.46 at 4, .84 at
    64): never test against 1/2, nor against this value where data are high-dimensional.

    Args:
        dim: d >= 1, the intrinsic dimension.

    Returns:
        From 1/3 at d = 1 to 1/2.

    Raises:
        ConfigError: for dim < 1.

    Reference: theory note (F2); Cox 1981, for P(mutual).
    """
    d = _numbers("dim", dim, _COUNT)
    return 1 - 1 / (2 - special.betainc((d + 1) / 2, 0.5, 0.75))


class LabelTest(NamedTuple):
    """Generated points nearest to training, its standard score and exact one-sided p-value."""

    s: Array
    z: Array
    p: Array


def label_test(counts_training: ArrayLike, counts_fresh: ArrayLike) -> LabelTest:
    """Is a generated point nearer to the training set than to as good fresh points, by chance?

    S = sum_{i in T} c_i; over all splits of N = n_T + n_H points it has mean m n_T/N and variance
    n_T n_H sum (c_i - c_mean)²/(N (N - 1)).

    Regime: exact for any law and any generator that does not depend on which half is training.

    Args:
        counts_training: c_i, generated points whose nearest neighbour is training point i.
        counts_fresh: the same for the fresh points.

    Returns:
        S, z and p = P(S' >= S) over random splits.

    Raises:
        ConfigError: for counts that are not whole and >= 0, or not lists.

    Reference: theory note (F7).
    """
    from genonset.estimates import subset_sum_tail

    whole = _Range(0, whole=True)
    training = _numbers("counts_training", counts_training, whole)
    fresh = _numbers("counts_fresh", counts_fresh, whole)
    if not (training.ndim and fresh.ndim and training.shape[-1] and fresh.shape[-1]):
        raise ConfigError("counts_training and counts_fresh are lists of counts, one a point.")
    if training.shape[:-1] != fresh.shape[:-1]:
        raise ConfigError(
            f"Shapes {training.shape} and {fresh.shape} differ before their last axis, the points."
        )
    both = np.concatenate([training, fresh], -1)
    n_training, size = training.shape[-1], both.shape[-1]
    s = training.sum(-1)
    share = n_training * (size - n_training) / (size * (size - 1))
    sd = np.sqrt(share * ((both - both.mean(-1, keepdims=True)) ** 2).sum(-1))
    excess = s - both.sum(-1) * n_training / size
    z = np.where(sd > 0, excess / np.where(sd > 0, sd, 1.0), 0.0)
    rows = zip(both.reshape(-1, size), np.ravel(s), strict=True)
    p = [subset_sum_tail(counts, n_training, float(one)) for counts, one in rows]
    return LabelTest(s, z, np.reshape(p, s.shape))


# -- what there is -----------------------------------------------------------------------------

FORMULAS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        noise_to_signal,
        signal_fraction,
        kernel_log_self_overlap,
        kernel_pair_ratio,
        original_overlap_moments,
        delta_given_model,
        original_overlap_typical,
        one_step_second_moment,
        one_step_log_mean_determinant,
        one_step_critical_size,
        one_step_log_determinant_excess,
        one_step_log_potential,
        one_step_affinity_rate,
        one_step_kl_to_source,
        one_step_kl_from_source,
        one_step_typical_kl,
        one_step_criteria,
        one_step_quadratic_forms,
        ridge_moments,
        many_draws_kl,
        effective_dimension,
        likelihood_gap,
        wasserstein_dimension,
        effective_rank,
        participation_ratio,
        collapse_time,
        own_weight_probability,
        own_log_odds,
        speciation_time,
        clone_agreement,
        relaxation_time,
        sampler_moments,
        sample_covariance_kl,
        sample_covariance_kl_rate,
        sample_overlap,
        memorized_fraction_null,
        authenticity_null,
        label_test,
    )
}
"""Every prediction by name, in the order of the theory note."""


def section(function: Callable[..., Any], title: str) -> str:
    """A one-paragraph section of a docstring, such as `Regime` or `Reference`, on one line."""
    found = re.search(rf"^{title}: (.*?)(?:\n\n|\Z)", inspect.getdoc(function) or "", re.S | re.M)
    return " ".join(found[1].split()) if found else ""


# -- by name and text --------------------------------------------------------------------------

_WORDS = {"method", "grid", "model", "start"}
_WHOLE = {"dim", "n", "n_points", "n_original", "n_noise_draws", "n_steps"}
_LISTS = {"spectrum", "eigenvalues", "covariance", "training", "source_mean", "source_covariance"}
_LISTS |= {"counts_training", "counts_fresh"}


class Evaluation(NamedTuple):
    """A prediction at given arguments.

    Attributes:
        name: of the function.
        arguments: as it was called.
        axis: the argument that runs through several numbers, if exactly one does.
        value: what it returned.
        notes: regime warnings.
    """

    name: str
    arguments: dict[str, Any]
    axis: str | None
    value: Any
    notes: tuple[str, ...]

    @property
    def columns(self) -> dict[str, Any]:
        """The returned numbers by name; a single one by the name of the function."""
        fields = getattr(self.value, "_fields", None)
        return dict(zip(fields, self.value, strict=True)) if fields else {self.name: self.value}

    def to_dict(self) -> dict[str, Any]:
        """Name, value, regime and reference, ready for JSON: infinities are "inf" and "-inf"."""
        columns = {name: _plain(column) for name, column in self.columns.items()}
        function = FORMULAS[self.name]
        return {
            "name": self.name,
            "value": columns if hasattr(self.value, "_fields") else columns[self.name],
            "regime": section(function, "Regime"),
            "reference": section(function, "Reference"),
            "arguments": {name: _plain(value) for name, value in self.arguments.items()},
            "notes": list(self.notes),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) or np.ndim(value):
        return [_plain(one) for one in value]
    number = float(value)
    if math.isinf(number):
        return "inf" if number > 0 else "-inf"
    return None if math.isnan(number) else number


def find(name: str) -> Callable[..., Any]:
    """The function called `name`, with - or _ alike.

    Raises:
        ConfigError: if there is none.
    """
    function = FORMULAS.get(name.replace("-", "_"))
    if function is None:
        near = difflib.get_close_matches(name.replace("-", "_"), FORMULAS, n=1)
        guess = f", did you mean {near[0]}?" if near else "."
        raise ConfigError(
            f"No prediction is called {name!r}{guess} There are {', '.join(FORMULAS)}."
        )
    return function


def evaluate(name: str, texts: Mapping[str, str]) -> Evaluation:
    """Call a prediction with arguments written as text.

    A number; words for method, grid and model; 1,2,3 for several numbers or an argument that is
    a list; first:last:count for that many numbers from first to last, evenly in the logarithm
    where both are positive; [[1, 0], [0, 2]] for a matrix.

    Args:
        name: of a function, with - or _ alike.
        texts: its arguments, with - or _ alike.

    Raises:
        ConfigError: for an unknown name, or an argument that is unknown, missing or unreadable.

    >>> evaluate("speciation-time", {"mean-squared": "2"}).to_dict()["value"]
    0.34657359027997264
    """
    function = find(name)
    parameters = inspect.signature(function).parameters
    given = {key.replace("-", "_"): text for key, text in texts.items()}
    unknown = [key for key in given if key not in parameters]
    missing = [key for key, p in parameters.items() if p.default is p.empty and key not in given]
    if unknown or missing:
        wrong = f"does not take {', '.join(unknown)}" if unknown else f"lacks {', '.join(missing)}"
        accepted = ", ".join(_signature(p) for p in parameters.values())
        raise ConfigError(f"{function.__name__} {wrong}; its arguments are {accepted}.")
    arguments = {key: _parse(key, text) for key, text in given.items()}
    lists = _LISTS | ({"mean"} if "covariance" in parameters else set())
    several = [k for k, v in arguments.items() if isinstance(v, list) and k not in lists]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RegimeWarning)
        value = function(**arguments)
    notes = tuple(str(w.message) for w in caught if issubclass(w.category, RegimeWarning))
    axis = several[0] if len(several) == 1 else None
    return Evaluation(function.__name__, arguments, axis, value, notes)


def _signature(parameter: inspect.Parameter) -> str:
    """An argument and its default; what must be given, alone."""
    bare = parameter.default is parameter.empty or parameter.default is None
    return parameter.name if bare else f"{parameter.name}={parameter.default}"


def _parse(key: str, text: str) -> Any:
    """The value of an argument from its text."""
    if key in _WORDS:
        return text
    try:
        if text.startswith("["):
            return json.loads(text)
        if ":" in text:
            return _series(key, text)
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"{key}={text} cannot be read; accepted are a number, a list 1,2,3, a range "
            "first:last:count, or [[1, 0], [0, 1]]."
        ) from error
    if key == "n_steps" and len(numbers) == 1:
        return numbers[0] if numbers[0] % 1 else int(numbers[0])
    return numbers if len(numbers) > 1 or key in _LISTS else numbers[0]


def _series(key: str, text: str) -> list[float]:
    """first:last:count as numbers; whole and distinct for arguments that count."""
    first, last, count = text.split(":")
    low, high, size = float(first), float(last), int(count)
    if size < 2 or not math.isfinite(low + high):
        raise ValueError(text)
    spaced = np.geomspace if min(low, high) > 0 else np.linspace
    numbers = spaced(low, high, size)
    return (np.unique(np.round(numbers)) if key in _WHOLE else numbers).tolist()
