"""Criteria of the linear one-step model on n points of any Gaussian source: mean and median.

Everything is read from log determinants L(D) = ln det(D + Sigma_G) and from what is exact. With
Sigma_G = theta M theta^T and mu_G - m normal of covariance (C + sigma² theta theta^T)/n given
theta, both exact,

    (1)  2 KL(G || true) = tr C^-1 Sigma_G - ln det C^-1 Sigma_G - d + |mu_G - m|²_(C^-1)
    (2)  2 KL(true || G) = tr C Sigma_G^-1 + ln det C^-1 Sigma_G - d + |mu_G - m|²_(Sigma_G^-1)
    (3)  ln affinity = 1/4 ln det C Sigma_G - 1/2 ln det (C + Sigma_G)/2 - |..|²/8
    (4)  W2² = |mu_G - m|² + tr C + tr Sigma_G - 2 tr (C^(1/2) Sigma_G C^(1/2))^(1/2)
    (5)  tr G^(1/2) = 1/pi int_0^inf [ln det(y² + G) - 2 d ln y] dy
    (6)  gap = 1/2 E [(1 + 1/n) tr C B - tr X^T X B/n],    B = (eps² + Sigma_G)^-1

where traces are slopes of L: tr C Sigma_G^-1 = L'(0) along D = eta C, tr C^-1 Sigma_G the one at
infinity, tr X^T X B the one in the weight of the sample covariance. For the scalar start and no
ridge the traces of Sigma_G are exact at every n > d + 2, (B1), the fluctuation of the scalar
included.

*At D = 0.* Above n* = d + sum u_i the spectrum of theta stays away from 0, and

    (7)  E ln |det theta|² -> ln det A² + ln(1 - rho),    rho = (n* - d)/(n - 1 - d).

Below, singular values are dense at 0. With S = dL/dy at D = y² C, y -> 0, what the fluctuations
add is that of a square matrix of normal numbers, which is known exactly: with the mean and
variance of its ln det |Z|² from digamma functions,

    (8)  mean: - 1/2 ln(y S/d) -> sum_k [psi(k/2) - ln(1/2)] - d ln d + d,
    (9)  variance: 2 ln(y S/d) -> sum_k psi'(k/2),    k = 1 .. d.

Around n* neither holds; there values are interpolated between both sides in ln n, cubically.

*Published Delta*, a heuristic. With K(t) = -1/2 [L(eps² + t C) - L(eps²)] the mean log overlap of
N points with the smoothed model is, as in the random-energy model,

    (10)  ln R = -1/2 L(eps² + C) - d/2 ln 2 pi       where ln N + K(1) - K'(1) >= 0, else
          ln R = -1/2 L(eps²) - d/2 ln 2 pi + K'(t) - ln N   at ln N + K(t) - t K'(t) = 0.

*Medians.* Runs scatter, with skew. The median stated is that of the lognormal law which has the
mean and the variance found, mean/sqrt(1 + variance/mean²).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import special
from scipy.interpolate import BarycentricInterpolator, CubicSpline

from genonset.equivalents import Array, LogDeterminants, Regression
from genonset.errors import ConfigError


class Moments(NamedTuple):
    """Mean and variance over training sets; NaN where nothing is predicted."""

    mean: float
    variance: float = 0.0

    @property
    def median(self) -> float:
        """Of the lognormal law with these moments."""
        if not 0 < self.mean < math.inf:
            return self.mean
        return self.mean / math.sqrt(1 + self.variance / self.mean**2)


NOTHING = Moments(math.nan)
CRITERIA = ("affinity_rate", "kl_to_source", "kl_from_source", "bures_wasserstein", "spread_ratio")
_NEAR, _STEP, _LOW = 1e-5, 0.05, 0.02


def critical_size(model: Regression) -> float:
    """n* = d + sum u_i."""
    return model.dim + float(model.sum(model.sigma**2 / (model.alpha**2 * model.values)))


def criteria(model: Regression, sizes: Sequence[float] | Array) -> dict[str, list[Moments]]:
    """Every criterion at the sizes n, equations (1) to (5).

    Args:
        model: of any n, with a C of full rank.
        sizes: n > 2.

    Returns:
        the moments of the runs by criterion: of W2 those of its square.
    """
    centre = critical_size(model)
    low, high = 0.8 * centre, centre + max(0.25 * centre, 2 * math.sqrt(centre))
    outside, inside = (
        [n for n in sizes if not low < n < high],
        [n for n in sizes if low < n < high],
    )
    support = [0.9 * low, low, high, 1.1 * high] if inside else []
    known = {n: _at(replace(model, n=float(n))) for n in dict.fromkeys([*outside, *support])}
    bridges = _bridges(support, known)
    for n in inside:
        known[n] = _at(replace(model, n=float(n)), determinant=False)
        for name, (mean, variance) in bridges.items():
            if n > model.dim + 1:
                at = math.log(n)
                known[n][name] = Moments(math.exp(mean(at)), math.exp(variance(at)))
    return {name: [known[n][name] for n in sizes] for name in CRITERIA}


def _bridges(support: list[float], known: dict[float, dict[str, Moments]]):
    """Interpolation around n* in ln n of what needs the determinant, log mean and log variance."""
    found = {}
    x = np.log(support)
    for name in ("affinity_rate", "kl_to_source") if support else ():
        moments = np.array([known[n][name] for n in support])
        if np.isfinite(moments).all() and (moments > 0).all():
            logs = np.log(moments).T
            found[name] = tuple(BarycentricInterpolator(x, column) for column in logs)
    return found


def _at(model: Regression, *, determinant: bool = True) -> dict[str, Moments]:
    """Every criterion at one n; `determinant` says whether those that need it are wanted."""
    singular = model.rows <= model.dim
    wanted = {"spread_ratio": _spread, "bures_wasserstein": _wasserstein}
    if determinant and not singular:
        wanted |= {"affinity_rate": _affinity, "kl_to_source": _kl_to, "kl_from_source": _kl_from}
    found = dict.fromkeys(CRITERIA, NOTHING)
    if singular:
        found |= {"affinity_rate": Moments(0.0), "kl_to_source": Moments(math.inf)}
        found["kl_from_source"] = Moments(math.inf)
    for name, criterion in wanted.items():
        if near_dimension(model) and name != "affinity_rate":
            continue
        try:
            found[name] = criterion(model)
        except (ConfigError, np.linalg.LinAlgError):
            continue
    return found


def near_dimension(model: Regression) -> bool:
    """Whether n is so near d that the mean of a trace is carried by rare runs."""
    room, width = model.rows - model.dim, math.sqrt(model.dim)
    return model.ridge == 0 and -1.5 * width < room < 4 + 0.5 * width


def spectrum(eigenvalues: Array) -> tuple[Array, Array]:
    """Eigenvalues with their multiplicities, a long spectrum by fewer of them.

    Those within a factor 1.25 of one another are stood for by two, of the same first
    three moments (Gauss's rule): sums of smooth functions over them are right to 1e-5 of a term.
    """
    values, counts = np.unique(np.asarray(eigenvalues, dtype=np.float64), return_counts=True)
    keep: list[tuple[float, float]] = []
    start = 0
    while start < len(values):
        end = int(np.searchsorted(values, 1.25 * values[start], side="right"))
        part, weight = values[start:end], counts[start:end].astype(np.float64)
        if len(part) < 3:
            keep += zip(part, weight, strict=True)
        else:
            mean = float(np.average(part, weights=weight))
            central = np.array([np.average((part - mean) ** k, weights=weight) for k in (2, 3)])
            skew = central[1] / (2 * central[0])
            reach = math.sqrt(central[0] + skew**2)
            for sign in (-1, 1):
                share = (1 - sign * skew / reach) / 2
                keep.append((mean + skew + sign * reach, share * float(weight.sum())))
        start = end
    return tuple(np.array(column) for column in zip(*keep, strict=True))


# -- linear functionals of L -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Functional:
    """constant + sum weights L(offsets), and a variance of its own."""

    offsets: Array
    weights: Array
    constant: float = 0.0
    variance: float = 0.0

    def __add__(self, other: "_Functional") -> "_Functional":
        return _Functional(
            offsets=np.concatenate([self.offsets, other.offsets]),
            weights=np.concatenate([self.weights, other.weights]),
            constant=self.constant + other.constant,
            variance=self.variance + other.variance,
        )

    def times(self, factor: float) -> "_Functional":
        return _Functional(
            offsets=self.offsets,
            weights=factor * self.weights,
            constant=factor * self.constant,
            variance=factor**2 * self.variance,
        )

    def of(self, found: LogDeterminants, start: int = 0) -> Moments:
        """Its moments, given L at its offsets, which begin at `start`."""
        own = slice(start, start + len(self.weights))
        mean = self.constant + float(self.weights @ found.mean[own])
        spread = float(self.weights @ found.covariance[own, own] @ self.weights)
        return Moments(mean, spread + self.variance)


def _trace(model: Regression, k: Array) -> _Functional:
    """tr(K Sigma_G) from L at two far offsets."""
    size = 1e3 * float(np.max(k * model.values))
    log_k = float(model.sum(np.log(k)))
    far = size * np.array([1.0, 2.0])
    weights = np.array([-1.0, 2.0]) * far
    constant = -float((weights * (model.dim * np.log(far) - log_k)).sum())
    return _Functional(offsets=far[:, None] / k, weights=weights, constant=constant)


def _exact_trace(model: Regression, k: Array) -> float | None:
    """E tr(K theta M theta^T), (B1), with the scatter of the scalar start; None where unknown."""
    room = model.rows - model.dim - 1
    if model.ridge > 0 or model.start != "scalar" or room <= 0:
        return None
    nu, d, s = model.rows, model.dim, model.noisy
    a, v = model.alpha * model.values / s, model.sigma**2 * model.values / s
    inverse, signal, lost, kept, gone, both = (
        float(model.sum(t)) for t in (1 / s, a**2 * s, v, k * a**2, k * v, k * a**2 * v)
    )
    outer = kept + gone * inverse / room
    joint = kept * (nu * signal + d * lost) + 4 * both
    joint += gone * (nu * signal * inverse - 2 * float(model.sum(a**2))) / room
    joint += (d * gone * lost + 2 * float(model.sum(k * v**2))) * inverse / room
    joint += (nu - d) * lost * outer
    return model.sigma**2 * outer + model.alpha**2 * joint / (d * nu)


def _outer(model: Regression, k: Array, trace: float) -> float:
    """E tr(K theta theta^T): exact without ridge at n > d + 2, else by the mean start."""
    room, s = model.rows - model.dim - 1, model.noisy
    if model.ridge > 0 or room <= 0:
        return trace / model.scale
    a, v = model.alpha * model.values / s, model.sigma**2 * model.values / s
    return float(model.sum(k * a**2) + model.sum(k * v) * model.sum(1 / s) / room)


def _determinant(model: Regression) -> _Functional:
    """ln det C^-1 Sigma_G, equations (7) to (9)."""
    c, d = model.values, model.dim
    log_c = float(model.sum(np.log(c)))
    if model.n > critical_size(model):
        return _Functional(offsets=1e-9 * c[None], weights=np.ones(1), constant=-log_c)
    y = _LOW
    offsets = np.array([(k * y) ** 2 for k in (1, 2, 3)])[:, None] * c
    one, two, three = model.log_determinants(offsets, scatter=False).leading
    slope = (-5 * one + 8 * two - 3 * three) / (2 * y)
    at_zero = 3 * one - 3 * two + three
    if not slope > 0:
        raise ConfigError("n is too near d for the determinant of the slope.")
    k = np.arange(1, round(d) + 1)
    normal = float((special.digamma(k / 2) + math.log(2)).sum()) - d * math.log(d) + d
    soft = math.log(y * slope / d)
    return _Functional(
        offsets=offsets[:1],
        weights=np.ones(1),
        constant=at_zero - one - soft / 2 + normal - log_c,
        variance=2 * soft + float(special.polygamma(1, k / 2).sum()),
    )


# -- criteria ----------------------------------------------------------------------------------


def _traced(
    model: Regression, k: Array, functional: _Functional, factor: float
) -> tuple[Moments, float]:
    """functional + factor tr(K Sigma_G), and the mean of that trace, exact where it is known."""
    trace = _trace(model, k)
    found = model.log_determinants(np.concatenate([functional.offsets, trace.offsets]))
    mean, variance = (functional + trace.times(factor)).of(found)
    formal, exact = trace.of(found, len(functional.weights)).mean, _exact_trace(model, k)
    known = formal if exact is None else exact
    return Moments(mean + factor * (known - formal), variance), known


def _kl_to(model: Regression) -> Moments:
    c, d = model.values, model.dim
    less = _Functional(offsets=c[None], weights=np.zeros(1), constant=-d / 2)
    functional = less + _determinant(model).times(-0.5)
    (mean, variance), trace = _traced(model, 1 / c, functional, 0.5)
    shift = d + model.sigma**2 * _outer(model, 1 / c, trace)
    return Moments(mean + shift / (2 * model.n), variance)


def _kl_from(model: Regression) -> Moments:
    """Typical, above n*, where runs scatter by less than half of it."""
    if model.n <= critical_size(model):
        return NOTHING
    c, d = model.values, model.dim
    offsets = _NEAR * np.array([1.0, 2.0, 3.0])[:, None] * c
    slope = np.array([-2.5, 4.0, -1.5]) / _NEAR
    inverse = _Functional(offsets=offsets, weights=slope)
    constant = -(float(model.sum(np.log(c))) + d)
    base = _Functional(offsets=offsets[:1], weights=np.ones(1), constant=constant)
    found = model.log_determinants(np.concatenate([offsets, offsets[:1]]))
    moments = (inverse + base).times(0.5).of(found)
    shift = inverse.of(found).mean + model.sigma**2 * float(model.sum(1 / model.noisy))
    moments = moments._replace(mean=moments.mean + shift / (2 * model.n))
    return moments if moments.variance < (moments.mean / 2) ** 2 else NOTHING


def _affinity(model: Regression) -> Moments:
    """The affinity per dimension: the exponential of a nearly normal number."""
    c, d = model.values, model.dim
    own = _Functional(
        offsets=np.array([1.0, 1 + _STEP, 1 - _STEP])[:, None] * c,
        weights=np.array([-0.5, 0.0, 0.0]),
        constant=float(model.sum(np.log(c))) / 2 + d * math.log(2) / 2,
    )
    both = own + _determinant(model).times(0.25)
    found = model.log_determinants(both.offsets)
    log = both.of(found)
    share = float(model.sum(model.sigma**2 / model.noisy)) / d
    slope = float(found.mean[1] - found.mean[2]) / (2 * _STEP)
    mean = log.mean - ((1 - share) * slope + share * d) / (4 * model.n)
    rate = math.exp(mean / d + log.variance / (2 * d**2))
    return Moments(rate, rate**2 * log.variance / d**2)


def _wasserstein(model: Regression) -> Moments:
    """The square of W2, with the integral (5) by the trapezoidal rule in ln y."""
    c, d = model.values, model.dim
    h = 0.9
    y = np.exp(np.arange(math.log(0.03 * c.min()), math.log(30 * c.max()) + h, h))
    weights, q = h * y / math.pi, math.exp(-h)
    weights[[0, -1]] /= 1 - q  # both tails of the sum are geometric
    rest = 2 * min(d, model.rows) * h * q / (1 - q) ** 2 * h * y[0] / math.pi
    logs = float(model.sum(np.log(c))) - 2 * d * np.log(y)
    root = _Functional(
        offsets=y[:, None] ** 2 / c, weights=weights, constant=float(weights @ logs) + rest
    )
    total, one = float(model.sum(c)), np.ones_like(c)
    (mean, variance), trace = _traced(model, one, root.times(-2), 1.0)
    shift = total + model.sigma**2 * _outer(model, one, trace)
    return Moments(mean + total + shift / model.n, variance)


def _spread(model: Regression) -> Moments:
    total, one = float(model.sum(model.values)), np.ones_like(model.values)
    none = _Functional(offsets=model.values[None], weights=np.zeros(1))
    (mean, variance), _ = _traced(model, one, none, 1.0)
    return Moments(mean / total, variance / total**2)


class _Forms(NamedTuple):
    """E tr C B and E tr X^T X B/n of (6)."""

    fresh: float
    training: float


def _forms(model: Regression, bandwidth: float) -> _Forms:
    width = np.full(len(model.values), bandwidth**2)
    h = 1e-3 * bandwidth**2 / float(model.values.max())
    around = width + np.array([h, -h, 0.0])[:, None] * model.values
    up, down, middle = model.log_determinants(around).mean
    once, twice = (
        model.log_determinants(width[None], weight=k * h / model.n).mean[0] for k in (1, 2)
    )
    return _Forms((up - down) / (2 * h), (4 * once - 3 * middle - twice) / (2 * h))


def likelihood_gap(model: Regression, bandwidth: float) -> float:
    """Mean log density at training less at held-out points under the smoothed law, equation (6).

    Args:
        model: any n, ridge and start.
        bandwidth: eps > 0.
    """
    fresh, training = _forms(model, bandwidth)
    return float((1 + 1 / model.n) * fresh - training) / 2


def delta_log_ratio(model: Regression, n_original: float, std: float) -> float:
    """Heuristic for ln R_TG - ln R_OG, whose median decides the sign of the published Delta.

    Both overlaps as the random-energy model has them, equation (10); training points are seen
    by the model as if their covariance were smaller by their share of the quadratic form.
    The overlaps of points with one another, which count at n near d, are left out.

    Args:
        model: any n, ridge and start.
        n_original: N.
        std: s of the kernel widths s n^(-1/d) and s N^(-1/d).
    """
    widths = [std * size ** (-1 / model.dim) for size in (model.n, n_original)]
    fresh, training = _forms(model, widths[0])
    share = training / ((1 + 1 / model.n) * fresh)
    one = _typical(model, widths[0], model.n, share)
    return one - _typical(model, widths[1], n_original, 1.0)


def _typical(model: Regression, width: float, size: float, share: float) -> float:
    """ln R of `size` points of covariance share C, equation (10)."""
    t = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 25)])
    offsets = width**2 + share * t[:, None] * model.values
    k = model.log_determinants(offsets, scatter=False).leading
    curve = CubicSpline(np.log(t[1:]), (k[1:] - k[0]) / -2)
    slope = curve(np.log(t[1:]), 1) / t[1:]
    room = math.log(size) + (k[1:] - k[0]) / -2 - t[1:] * slope
    normal = model.dim * math.log(2 * math.pi)
    if room[-1] >= 0:
        return -(normal + float(k[-1])) / 2
    frozen = float(np.interp(0.0, -room, slope))
    return -(normal + float(k[0])) / 2 + frozen - math.log(size)
