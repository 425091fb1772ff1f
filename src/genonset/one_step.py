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

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import interpolate, special

from genonset.equivalents import Array, LogDeterminants, Regression, log_determinants
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
        return self.mean / math.sqrt(1 + max(self.variance, 0.0) / self.mean**2)


NOTHING = Moments(math.nan)
CRITERIA = ("affinity_rate", "kl_to_source", "kl_from_source", "bures_wasserstein", "spread_ratio")
FINITE = ("bures_wasserstein", "spread_ratio")
"""What there is of a C without full rank: the laws are singular, their moments are not."""
_NEAR, _STEP, _LOW, _SLOPE = 1e-5, 0.05, 0.02, 0.01
_LOWEST = (_LOW * np.array([1.0, 2.0, 3.0]))[:, None] ** 2


def critical_size(model: Regression) -> float:
    """n* = d + sum u_i; inf where C is singular."""
    if not model.values.min() > 0:
        return math.inf
    return model.dim + float(model.sum(model.sigma**2 / (model.alpha**2 * model.values)))


Table = dict[float, dict[str, Moments]]


def criteria(
    model: Regression, sizes: Sequence[float] | Array, known: Table | None = None
) -> dict[str, list[Moments]]:
    """Every criterion at the sizes n, equations (1) to (5).

    Args:
        model: of any n; of a singular C the criteria `FINITE` alone are told.
        sizes: n > 2.
        known: what was computed before, for the next call.

    Returns:
        the moments of the runs by criterion: of W2 those of its square.

    Reference: theory note (B16) to (B18).
    """
    centre, table = critical_size(model), {} if known is None else known
    low, high = 0.8 * centre, centre + max(0.25 * centre, 2 * math.sqrt(centre))
    inside = [n for n in map(float, sizes) if low < n < high and n not in table]
    support = [0.9 * low, low, high, 1.1 * high] if inside else []
    outside = [n for n in map(float, sizes) if not low < n < high]
    whole = [n for n in dict.fromkeys([*outside, *support]) if n not in table]
    full = len(whole) if centre < math.inf else 0
    table |= _at([replace(model, n=n) for n in (*whole, *inside)], full)
    bridges = _bridges(support, table)
    for n in inside:
        for name, (mean, variance) in bridges.items():
            if n > model.dim + 1:
                at = math.log(n)
                table[n][name] = Moments(math.exp(mean(at)), math.exp(variance(at)))
    return {name: [table[float(n)][name] for n in sizes] for name in CRITERIA}


def _bridges(
    support: list[float], known: Table
) -> dict[str, tuple[interpolate.BarycentricInterpolator, interpolate.BarycentricInterpolator]]:
    """Interpolation around n* in ln n of what needs the determinant, log mean and log variance."""
    found = {}
    x = np.log(support)
    for name in ("affinity_rate", "kl_to_source") if support else ():
        moments = np.array([known[n][name] for n in support])
        good = np.asarray((np.isfinite(moments) & (moments > 0)).all(1))
        if good[:2].any() and good[2:].any():
            logs = np.log(moments[good]).T
            mean, variance = (
                interpolate.BarycentricInterpolator(x[good], column) for column in logs
            )
            found[name] = mean, variance
    return found


def _at(models: Sequence[Regression], whole: int) -> Table:
    """Every criterion at several n; of the last ones, after `whole`, without the determinant."""
    asked = [m for m in models[:whole] if m.rows > m.dim]
    sizes = {m.n for m in asked}
    soft = [m for m in asked if m.n <= critical_size(m)]
    ends = log_determinants(soft, [_LOWEST * m.values for m in soft], scatter=False)
    lows = {m.n: found.leading for m, found in zip(soft, ends, strict=True)}
    wanted = [_parts(m, m.n in sizes, lows.get(m.n)) for m in models]
    used = [(m, parts) for m, parts in zip(models, wanted, strict=True) if parts]
    found = log_determinants(
        [m for m, _ in used],
        [np.concatenate([p.offsets for p in parts.values()]) for _, parts in used],
    )
    slopes = _slopes([(m, [name for name in _WEIGHTS if name in parts]) for m, parts in used])
    laws = {
        m.n: _Laws.of(m, parts, logs, slopes[m.n])
        for (m, parts), logs in zip(used, found, strict=True)
    }
    return {m.n: _measured(m, laws.get(m.n)) for m in models}


def _parts(model: Regression, determinant: bool, low: Array | None) -> "dict[str, _Functional]":
    """What the criteria are read from."""
    parts = {}
    if not near_dimension(model):
        parts |= {"trace": _trace(model, np.ones_like(model.values)), "root": _root(model)}
    if determinant:
        parts |= {"own": _own(model)}
        with contextlib.suppress(ConfigError):
            parts["determinant"] = _determinant(model, low)
        if "trace" in parts:
            parts |= {"relative": _trace(model, 1 / model.values), "near": _near(model)}
    return parts


def _measured(model: Regression, laws: "_Laws | None") -> dict[str, Moments]:
    """The criteria that the functionals tell."""
    found: dict[str, Moments] = dict.fromkeys(CRITERIA, NOTHING)
    if model.rows < model.dim:
        found |= {"affinity_rate": Moments(0.0), "kl_to_source": Moments(math.inf)}
        found["kl_from_source"] = Moments(math.inf)
    if laws is None:
        return found
    if "trace" in laws.parts:
        found |= {"spread_ratio": _spread(laws), "bures_wasserstein": _wasserstein(laws)}
    if "determinant" in laws.parts:
        found["affinity_rate"] = _affinity(laws)
        if "relative" in laws.parts:
            found["kl_to_source"] = _kl_to(laws)
    if "near" in laws.parts and model.n > critical_size(model):
        found["kl_from_source"] = _kl_from(laws)
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
    values, weights = np.array(keep).T
    return values, weights


# -- linear functionals of L -------------------------------------------------------------------


class _Functional(NamedTuple):
    """constant + sum weights L(offsets), and a variance of its own."""

    offsets: Array
    weights: Array
    constant: float = 0.0
    variance: float = 0.0


class _Laws(NamedTuple):
    """A model with its functionals, and L at all their offsets."""

    model: Regression
    parts: dict[str, _Functional]
    places: dict[str, slice]
    logs: LogDeterminants
    slopes: dict[str, float]

    @classmethod
    def of(
        cls,
        model: Regression,
        parts: dict[str, _Functional],
        logs: LogDeterminants,
        slopes: dict[str, float],
    ) -> "_Laws":
        ends = np.cumsum([0, *(len(part.weights) for part in parts.values())])
        places = {name: slice(*ends[k : k + 2]) for k, name in enumerate(parts)}
        return cls(model, parts, places, logs, slopes)

    def moments(self, **factors: float) -> Moments:
        """Of the sum of functionals, each times a factor."""
        mean, used, weights, variance = 0.0, [], [], 0.0
        for name, factor in factors.items():
            part, place = self.parts[name], self.places[name]
            used.append(np.arange(place.start, place.stop))
            weights.append(factor * part.weights)
            mean += factor * part.constant
            variance += factor**2 * part.variance
        at, w = np.concatenate(used), np.concatenate(weights)
        mean += float(w @ self.logs.mean[at])
        return Moments(mean, variance + float(w @ self.logs.covariance[np.ix_(at, at)] @ w))


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


_WEIGHTS: dict[str, Callable[[Array], Array]] = {"trace": np.ones_like, "relative": np.reciprocal}
"""K of the traces, from the eigenvalues of C."""


def _slopes(wanted: Sequence[tuple[Regression, Sequence[str]]]) -> dict[float, dict[str, float]]:
    """E tr K theta theta^T by the name of K: (B1) at n > d + 2 without ridge, else from L."""
    found: dict[float, dict[str, float]] = {model.n: {} for model, _ in wanted}
    left: list[tuple[Regression, str, _Functional]] = []
    for model, name in ((m, name) for m, names in wanted for name in names):
        room, s, k = model.rows - model.dim - 1, model.noisy, _WEIGHTS[name](model.values)
        if model.ridge == 0 and room > 0:
            a, v = model.alpha * model.values / s, model.sigma**2 * model.values / s
            outer = model.sum(k * a**2) + model.sum(k * v) * model.sum(1 / s) / room
            found[model.n][name] = float(outer)
        else:
            left.append((replace(model, start="scalar"), name, _trace(model, k)))
    logs = log_determinants([m for m, *_ in left], [p.offsets for *_, p in left], scatter=False)
    for (model, name, part), log in zip(left, logs, strict=True):
        found[model.n][name] = float(part.weights @ log.mean + part.constant) / model.scale
    return found


def _determinant(model: Regression, low: Array | None) -> _Functional:
    """ln det C^-1 Sigma_G, equations (7) to (9); `low` is the leading L at the lowest offsets."""
    c, d = model.values, model.dim
    log_c = float(model.sum(np.log(c)))
    if low is None:
        return _Functional(offsets=1e-7 * c[None], weights=np.ones(1), constant=-log_c)
    y, (one, two, three) = _LOW, low
    slope = (-5 * one + 8 * two - 3 * three) / (2 * y)
    at_zero = 3 * one - 3 * two + three
    if not slope > 0:
        raise ConfigError("n is too near d for the determinant of the slope.")
    k = np.arange(1, round(d) + 1)
    normal = float((special.digamma(k / 2) + math.log(2)).sum()) - d * math.log(d) + d
    soft = math.log(y * slope / d)
    return _Functional(
        offsets=_LOWEST[:1] * c,
        weights=np.ones(1),
        constant=at_zero - one - soft / 2 + normal - log_c,
        variance=2 * soft + float(special.polygamma(1, k / 2).sum()),
    )


def _own(model: Regression) -> _Functional:
    """-1/2 ln det (C + Sigma_G)/2 + 1/2 ln det C; two more offsets tell its slope."""
    return _Functional(
        offsets=np.array([1.0, 1 + _STEP, 1 - _STEP])[:, None] * model.values,
        weights=np.array([-0.5, 0.0, 0.0]),
        constant=float(model.sum(np.log(model.values))) / 2 + model.dim * math.log(2) / 2,
    )


def _near(model: Regression) -> _Functional:
    """tr C Sigma_G^-1, the slope of L at 0."""
    offsets = _NEAR * np.array([1.0, 2.0, 3.0])[:, None] * model.values
    return _Functional(offsets=offsets, weights=np.array([-2.5, 4.0, -1.5]) / _NEAR)


def _root(model: Regression) -> _Functional:
    """tr (C^(1/2) Sigma_G C^(1/2))^(1/2): (5) by the trapezoidal rule in ln y."""
    c, h, seen = model.values, 0.9, model.values > 0  # Sigma_G has nothing in the null space
    least, rank = float(c[seen].min()), float(model.counts[seen].sum())
    y = np.exp(np.arange(math.log(0.03 * least), math.log(30 * c.max()) + h, h))
    weights, q = h * y / math.pi, math.exp(-h)
    weights[[0, -1]] /= 1 - q  # both tails of the sum are geometric
    rest = 2 * min(rank, model.rows) * h * q / (1 - q) ** 2 * h * y[0] / math.pi
    logs = float((model.counts * np.log(np.where(seen, c, 1.0))).sum()) - 2 * rank * np.log(y)
    offsets = np.where(seen, y[:, None] ** 2 / np.where(seen, c, 1.0), 1.0)
    constant = float(weights @ logs) + rest
    return _Functional(offsets=offsets, weights=weights, constant=constant)


# -- criteria ----------------------------------------------------------------------------------


def _known_trace(laws: _Laws, name: str, k: Array) -> tuple[float, float]:
    """Mean of tr(K Sigma_G), exact where it is known, and what that adds to the one from L."""
    formal, exact = laws.moments(**{name: 1.0}).mean, _exact_trace(laws.model, k)
    return (formal, 0.0) if exact is None else (exact, exact - formal)


def _spread(laws: _Laws) -> Moments:
    total = float(laws.model.sum(laws.model.values))
    mean, _ = _known_trace(laws, "trace", np.ones_like(laws.model.values))
    return Moments(mean / total, laws.moments(trace=1.0).variance / total**2)


def _wasserstein(laws: _Laws) -> Moments:
    """The square of W2, equation (4)."""
    model = laws.model
    total = float(model.sum(model.values))
    mean, variance = laws.moments(trace=1.0, root=-2.0)
    _, added = _known_trace(laws, "trace", np.ones_like(model.values))
    shift = total + model.sigma**2 * laws.slopes["trace"]
    return Moments(mean + added + total + shift / model.n, variance)


def _kl_to(laws: _Laws) -> Moments:
    """Equation (1)."""
    model, k = laws.model, 1 / laws.model.values
    mean, variance = laws.moments(relative=0.5, determinant=-0.5)
    _, added = _known_trace(laws, "relative", k)
    shift = model.dim + model.sigma**2 * laws.slopes["relative"]
    return Moments(mean + added / 2 - model.dim / 2 + shift / (2 * model.n), variance)


def _kl_from(laws: _Laws) -> Moments:
    """Equation (2), typical, above n* and where runs scatter by less than half of it."""
    model = laws.model
    inverse = laws.moments(near=1.0)
    first = np.zeros(3)
    first[0] = 1.0
    both = laws.parts["near"]._replace(weights=laws.parts["near"].weights + first)
    mean, variance = laws._replace(parts={**laws.parts, "near": both}).moments(near=0.5)
    mean -= (float(model.sum(np.log(model.values))) + model.dim) / 2
    shift = inverse.mean + model.sigma**2 * float(model.sum(1 / model.noisy))
    found = Moments(mean + shift / (2 * model.n), variance)
    return found if found.variance < (found.mean / 2) ** 2 else NOTHING


def _affinity(laws: _Laws) -> Moments:
    """The affinity per dimension: the exponential of a nearly normal number, equation (3)."""
    model, d = laws.model, laws.model.dim
    log = laws.moments(own=1.0, determinant=0.25)
    share = float(model.sum(model.sigma**2 / model.noisy)) / d
    up, down = laws.logs.mean[laws.places["own"]][1:]
    slope = float(up - down) / (2 * _STEP)
    mean = log.mean - ((1 - share) * slope + share * d) / (4 * model.n)
    if not log.variance < d**2:  # at n just above d the runs have no common scale
        return NOTHING
    rate = math.exp(mean / d + log.variance / (2 * d**2))
    return Moments(rate, rate**2 * log.variance / d**2)


class _Forms(NamedTuple):
    """E tr C B and E tr X^T X B/n of (6)."""

    fresh: float
    training: float


def _forms(models: Sequence[Regression], bandwidths: Sequence[float]) -> list[_Forms]:
    """Slopes of L in the offset along C and in the weight of the sample covariance."""
    offsets, weights, steps = [], [], []
    for model, bandwidth in zip(models, bandwidths, strict=True):
        h = _SLOPE * bandwidth**2 / float(model.values.max())
        width = np.full(len(model.values), bandwidth**2)
        offsets.append(width + h * np.array([1.0, -1.0, 0.0, 0.0])[:, None] * model.values)
        weights.append(h / model.n * np.array([0.0, 0.0, 1.0, -1.0]))
        steps.append(2 * h)
    logs = log_determinants(models, offsets, weights)
    return [
        _Forms(*(float(up - down) / step for up, down in one.mean.reshape(2, 2)))
        for one, step in zip(logs, steps, strict=True)
    ]


def likelihood_gap(models: Sequence[Regression], bandwidths: Sequence[float]) -> list[float]:
    """Mean log density at training less at held-out points under the smoothed law, equation (6).

    Args:
        models: which differ in n alone.
        bandwidths: eps > 0 of each.

    Returns:
        the gaps; NaN within one of n - 1 = d without ridge, where (7) of `equivalents` is void.

    Reference: theory note (B18).
    """
    gaps = []
    for model, form in zip(models, _forms(models, bandwidths), strict=True):
        void = model.ridge == 0 and abs(model.rows - model.dim) < 1
        gap = ((1 + 1 / model.n) * form.fresh - form.training) / 2
        gaps.append(math.nan if void else gap)
    return gaps


def delta_log_ratio(models: Sequence[Regression], n_original: float, std: float) -> list[float]:
    """Heuristic for ln R_TG - ln R_OG, whose median decides the sign of the published Delta.

    Both overlaps as the random-energy model has them, equation (10); training points are seen
    by the model as if their covariance were smaller by their share of the quadratic form.
    The overlaps of points with one another, which count at n near d, are left out.

    Args:
        models: which differ in n alone.
        n_original: N.
        std: s of the kernel widths s n^(-1/d) and s N^(-1/d).

    Reference: theory note (A10).
    """
    dim = models[0].dim
    own = [std * m.n ** (-1 / dim) for m in models]
    forms = _forms(models, own)
    shares = [f.training / ((1 + 1 / m.n) * f.fresh) for m, f in zip(models, forms, strict=True)]
    near = _typical(models, own, [m.n for m in models], shares)
    ones = [1.0] * len(models)
    wide = [std * n_original ** (-1 / dim)] * len(models)
    far = _typical(models, wide, [n_original] * len(models), ones)
    return [one - other for one, other in zip(near, far, strict=True)]


def _typical(
    models: Sequence[Regression],
    widths: Sequence[float],
    sizes: Sequence[float],
    shares: Sequence[float],
) -> list[float]:
    """ln R of `size` points of covariance share C, equation (10)."""
    t = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 25)])
    offsets = [
        width**2 + share * t[:, None] * model.values
        for model, width, share in zip(models, widths, shares, strict=True)
    ]
    logs = log_determinants(models, offsets, scatter=False)
    normal = models[0].dim * math.log(2 * math.pi)
    found = []
    for size, share, model, log in zip(sizes, shares, models, logs, strict=True):
        k, slope = log.leading, log.slope @ (share * model.values) / -2
        room = math.log(size) - (k - k[0]) / 2 - t * slope
        if room[-1] >= 0:
            found.append(-(normal + float(k[-1])) / 2)
            continue
        frozen = float(np.interp(0.0, -room, slope))
        found.append(-(normal + float(k[0])) / 2 + frozen - math.log(size))
    return found
