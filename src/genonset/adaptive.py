"""Where to put the next cells of an adaptive sweep, and the onset that scattered cells give.

A fixed grid spends most of its cells where the curve says nothing about n*. An adaptive sweep
chooses each batch of sizes from the cells before it. Cell i has x_i = ln n_i and a statistic D_i,
positive on the generalizing side; at the onset a known share c/2 of cells is positive, c the
ceiling of that share (1/2 for the size-matched delta, else 1).

*Search.* The signs alone, whatever their size, have

    (1)  P(D > 0 | x) = c F((x - ln n*)/w),    F(z) = 1/(1 + e^-z),

within 1 % of which nothing is believed; with a uniform prior of ln n*, a little beyond both ends,
and of w in a few values. A batch of k goes to the (j - 1/2)/k quantiles of the posterior of ln n*,
j = 1 .. k, until its standard deviation is below 1/2.

*Refinement.* Around the present estimate x* the statistic is a smooth law,

    (2)  D = b_0 + b_1 u + b_2 u² + s(u) e,    ln s(u) = a_1 u,    u = x - x*,

fitted with weights tricube(u/h), h = 2 delta, robustly where a quantile is meant, with b_2/b_1 a
priori N(0, 1) so that few cells give a line; the law of e is that of the residuals. n* is where
the (1 - c/2)-quantile of D (or its mean, for a criterion read between its poles) rises through 0.
With S the error of ln n* that one cell leaves, batches go to

    (3)  x* + delta (-1, 1, -1/2, 1/2, ...),    0.09 <= delta <= 3/2 S and 0.7,

and delta is as small as lets the cells within 2 delta know the slope to a sixth: what the bend of
the curve does to n* goes with delta², and gets smaller as the cells get many. x* moves by at most
1/2 a batch. A statistic with nothing but a sign is fitted by (1) alone, delta = 3/2 w.

The interval is the bootstrap's over cells, which are independent: cell i of a sequence is
replicate i, so that no two share a draw. Every resample is fitted with h = 1.4, 2 and 2.8 delta,
so that the interval also holds what the choice of h leaves open. It is looked at whenever the
cells have grown by a quarter, and the sequence ends where it is as narrow as wished at two looks
running: ending at the first would pick intervals that are too narrow by chance.

Sizes are a lattice, sixteen to a factor two, which nothing leaves: a crossing outside ends
censored. Everything is a function of the spec and of the results of whole batches, never of how
many workers run them.

Reference: Horstein 1963, IEEE Trans. Inf. Theory 9, 136, for a search by
posterior quantiles; Cleveland 1979, JASA 74, 829, for (2).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from genonset.criteria import CEILINGS, CRITERIA
from genonset.errors import DataError
from genonset.estimates import expanded_levels
from genonset.experiment import floor_values
from genonset.onset import Censored, Onset, Point, estimate_onset
from genonset.spec import Cell, Sweep

Array = NDArray[np.float64]

_WIDTHS = np.array([0.1, 0.2, 0.35, 0.6, 1.0])  # w of (1)
_MARGIN = 1.5  # how far beyond the ends ln n* may lie a priori
_LAPSE = 0.01  # of (1)
_NARROW = 0.5  # standard deviation of ln n* at which the search ends
_REACH = (0.09, 0.7)  # of delta in (3)
_SLOPE = 6.0  # how many standard errors the slope is to have
_CURVATURE = 1.0  # standard deviation of b_2/b_1 in (2) a priori
_OFFSETS = (-1.0, 1.0, -0.5, 0.5)
_HUBER = 1.345
_SURE = 0.99  # belief that n* lies beyond an end, at which a sequence ends
_FEWEST = 12  # cells that a fit of (2) needs
_RESAMPLES = 300
_SPANS = (1.4, 2.0, 2.8)  # h over delta; the middle one gives the estimate


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """What the onset is read from, cell by cell.

    Attributes:
        d: D of each cell, NaN where it has none.
        ceiling: c.
        kind: whether n* is where a quantile or the mean of D is 0, or D is a mere sign.
    """

    d: Array
    ceiling: float
    kind: Literal["quantile", "mean", "sign"]


def statistic(name: str, tables: Mapping[str, Array], *, floor: float | None = None) -> Statistic:
    """D of each cell, from a criterion as `criterion_onset` reads it.

    Args:
        name: a criterion that has an onset.
        tables: "model", "memorizer", "oracle" and "log_ratio", a value a cell, NaN where missing.
        floor: closed-form limit of a quality criterion, where known.
    """
    model = tables["model"]
    if name in CEILINGS:
        ratio = -tables["log_ratio"]
        if np.isfinite(ratio).any():
            return Statistic(d=ratio, ceiling=CEILINGS[name], kind="quantile")
        return Statistic(d=np.sign(model), ceiling=CEILINGS[name], kind="sign")
    if CRITERIA[name].axis == "memorization":
        low, high = tables["memorizer"], tables["oracle"]
        rises = np.sign(np.nanmean(high - low)) if np.isfinite(high - low).any() else np.nan
        return Statistic(d=rises * (model - (low + high) / 2), ceiling=1.0, kind="mean")
    known = tables["oracle"][np.isfinite(tables["oracle"])]
    reference = floor if floor else float(known.mean()) if len(known) else math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        d = math.log(2.0) - np.abs(np.log(model / reference))
    return Statistic(d=d, ceiling=1.0, kind="quantile")


# Search, equation (1)


@dataclass(frozen=True, kw_only=True)
class Belief:
    """The posterior of ln n*: a weight for each place."""

    places: Array
    weights: Array
    width: float

    @classmethod
    def of(cls, x: Array, found: Statistic, ends: tuple[float, float]) -> "Belief":
        """After the signs of some cells; `ends` are those of the lattice, in ln n."""
        from scipy.special import expit

        places = np.linspace(ends[0] - _MARGIN, ends[1] + _MARGIN, 241)
        known = np.isfinite(found.d) | np.isinf(found.d)
        positive = found.d[known] > 0
        z = (x[known] - places[:, None, None]) / _WIDTHS[:, None]
        p = np.clip(found.ceiling * expit(z), _LAPSE, 1 - _LAPSE)
        log = np.where(positive, np.log(p), np.log1p(-p)).sum(-1)
        joint = np.exp(log - log.max())
        joint /= joint.sum()
        return cls(places=places, weights=joint.sum(1), width=float(joint.sum(0) @ _WIDTHS))

    @property
    def mean(self) -> float:
        """Of ln n*."""
        return float(self.weights @ self.places)

    @property
    def deviation(self) -> float:
        """Standard deviation of ln n*."""
        return math.sqrt(float(self.weights @ (self.places - self.mean) ** 2))

    def quantiles(self, levels: Array) -> Array:
        """Of ln n*."""
        return np.interp(levels, np.cumsum(self.weights) - self.weights / 2, self.places)


# Refinement, equation (2)


@dataclass(frozen=True, kw_only=True)
class _Local:
    """The fit (2) around a centre, ready to be resampled.

    Attributes:
        centre: x*.
        half: h of the weights.
        root: where the curve rises through 0, infinite beyond the side it is on.
        error: S of (3).
        kernel, robust, basis, scale, d: weights, powers of u, s(u) and D of the cells within h.
        tilt: a_1.
        level: 1 - c/2, or None for the mean.
        penalty: of b_2, and enough of the rest to be solvable.
    """

    centre: float
    half: float
    root: float
    error: float
    kernel: Array
    robust: Array
    basis: Array
    scale: Array
    tilt: float
    d: Array
    level: float | None
    penalty: Array

    def curves(self, counts: Array, at: Array) -> Array:
        """The quantile or mean at `at`, one row for each row of counts of the cells."""
        weights = counts * self.kernel
        precision = weights * (self.robust / self.scale**2)
        square = (self.basis[:, :, None] * self.basis[:, None, :]).reshape(len(self.d), 9)
        normal = (precision @ square).reshape(-1, 3, 3) + self.penalty
        beta = np.linalg.solve(normal, (precision @ (self.basis * self.d[:, None]))[..., None])
        beta = beta[..., 0]
        u = at - self.centre
        curves = beta @ (u ** np.arange(3)[:, None])
        if self.level is None:
            return curves
        residuals = (self.d - beta @ self.basis.T) / self.scale
        edge = _weighted_quantile(residuals, weights, self.level)
        return curves + edge[:, None] * np.exp(self.tilt * u)


def _weighted_quantile(values: Array, weights: Array, level: float) -> Array:
    """A quantile of each row, interpolated between the middles of the weights."""
    order = np.argsort(values, axis=1)
    values, weights = (np.take_along_axis(a, order, axis=1) for a in (values, weights))
    reached = np.cumsum(weights, axis=1)
    reached = (reached - weights / 2) / reached[:, -1:]
    after = np.clip((reached < level).sum(1), 1, values.shape[1] - 1)
    rows = np.arange(len(values))
    low, high = reached[rows, after - 1], reached[rows, after]
    part = np.divide(level - low, high - low, out=np.zeros_like(low), where=high > low)
    start, end = values[rows, after - 1], values[rows, after]
    return start + np.clip(part, 0, 1) * (end - start)


def _fit(x: Array, d: Array, kind: str, ceiling: float, centre: float, half: float) -> _Local:
    """Equation (2) around a centre."""
    u = x - centre
    reach = max(half, 1.01 * float(np.sort(np.abs(u))[min(_FEWEST, len(u)) - 1]))
    inside = np.abs(u) < reach
    u, d = u[inside], d[inside]
    kernel = (1 - (np.abs(u) / reach) ** 3) ** 3
    basis = u[:, None] ** np.arange(3)
    scale, robust, tilt = np.ones_like(u), np.ones_like(u), 0.0
    typical, penalty = 1.0, 1e-9 * np.diag([1.0, 1.0, 1e12])
    for _ in range(8):
        precision = kernel * robust / scale**2
        normal = (basis * precision[:, None]).T @ basis + penalty
        beta = np.linalg.solve(normal, basis.T @ (precision * d))
        residual = d - basis @ beta
        size = np.log(np.abs(residual) + 1e-12 + 1e-3 * np.abs(residual).mean())
        middle = np.average(u, weights=kernel)
        spread = np.average((u - middle) ** 2, weights=kernel)
        tilt = float(np.average((u - middle) * size, weights=kernel) / max(spread, 1e-12))
        tilt = float(np.clip(tilt, -2, 2))
        scale = np.exp(tilt * u)
        standard = np.abs(residual / scale)
        typical = float(_weighted_quantile(standard[None], kernel[None], 0.5)[0]) / 0.6745
        penalty[2, 2] = (typical / max(_CURVATURE * abs(beta[1]), 1e-12)) ** 2
        if kind == "quantile":
            robust = np.minimum(1.0, _HUBER * typical / np.maximum(standard, 1e-12))
    local = _Local(
        centre=centre, half=reach, root=math.nan, error=math.inf, kernel=kernel, robust=robust,
        basis=basis, scale=scale, tilt=tilt, d=d, penalty=penalty,
        level=None if kind == "mean" else 1 - ceiling / 2,
    )  # fmt: skip
    at = np.linspace(centre - reach, centre + reach, 201)
    curve = local.curves(np.ones((1, len(d))), at)[0]
    root = _rise(curve[None], at)[0]
    if not math.isfinite(root):
        return replace(local, root=float(root))
    slope = float(np.interp(root, at[1:], np.diff(curve) / np.diff(at)))
    inflation = 1.0 if kind == "mean" else 1.25 if ceiling < 1 else 1.1
    error = inflation * typical * math.exp(tilt * (root - centre)) / max(slope, 1e-9)
    return replace(local, root=float(root), error=error)


def _rise(curves: Array, at: Array) -> Array:
    """Where each curve rises through 0 nearest to the middle of `at`; infinite where it does not:
    positive if it is below 0 in the middle, negative if above."""
    up = (curves[:, :-1] < 0) & (curves[:, 1:] >= 0)
    middle = len(at) // 2
    away = np.where(up, np.abs(np.arange(len(at) - 1) - middle + 0.5), np.inf)
    first = np.argmin(away, axis=1)
    rows = np.arange(len(curves))
    start, end = curves[rows, first], curves[rows, first + 1]
    part = np.divide(-start, end - start, out=np.zeros_like(start), where=end > start)
    crossing = at[first] + part * (at[first + 1] - at[first])
    side = np.where(curves[:, middle] < 0, np.inf, -np.inf)
    return np.where(up.any(axis=1), crossing, side)


def _located(x: Array, found: Statistic, belief: Belief) -> list[_Local]:
    """The fits (2) at every span, their centre and reach found from the cells alone; none where
    the cells tell too little."""
    known = np.isfinite(found.d)
    if found.kind == "sign" or known.sum() < _FEWEST or belief.deviation > _NARROW:
        return []
    x, d = x[known], found.d[known]
    centre, delta, spans = belief.mean, _REACH[1], [_SPANS[1]] * 3 + list(_SPANS)
    fits = []
    for k, span in enumerate(spans):
        local = _fit(x, d, found.kind, found.ceiling, centre, span * delta)
        fits.append(local)
        if k < 3:
            centre += float(np.clip(local.root - centre, -0.5, 0.5))
            delta = _delta(local)
    return fits[3:]


def _delta(local: _Local) -> float:
    """Of (3); the widest where the curve does not rise."""
    if not math.isfinite(local.error):
        return _REACH[1]
    offsets = local.kernel @ local.basis[:, 1] ** 2
    known = math.sqrt(offsets) / (_SLOPE * local.error)  # as h^(3/2) where cells lie evenly
    enough = local.half / _SPANS[1] / known ** (2 / 3)
    return float(np.clip(min(1.5 * local.error, enough), *_REACH))


# The next batch, and the end


def next_sizes(x: Array, found: Statistic, sizes: Array, *, batch: int) -> list[int]:
    """The sizes of the next batch, from every cell before it.

    Args:
        x: ln n of the cells so far, in the order of the sequence.
        found: their statistic.
        sizes: that may be chosen, ascending.
        batch: how many.
    """
    log_sizes = np.log(sizes)
    belief = Belief.of(x, found, (log_sizes[0], log_sizes[-1]))
    if not len(x) or belief.deviation > _NARROW:
        wanted = belief.quantiles((np.arange(batch) + 0.5) / batch)
    else:
        fits = _located(x, found, belief)
        if not fits:
            centre, delta = belief.mean, float(np.clip(1.5 * belief.width, 0.1, 1.0))
        else:
            local = fits[1]
            centre = local.centre + float(np.clip(local.root - local.centre, -0.5, 0.5))
            delta = _delta(local)
        places = len(x) + np.arange(batch)
        wanted = centre + delta * np.array(_OFFSETS)[places % len(_OFFSETS)]
    nearest = np.abs(log_sizes - wanted[:, None]).argmin(1)
    return [int(sizes[i]) for i in nearest]


def cells_onset(
    n: Array,
    found: Statistic,
    sizes: Array,
    *,
    points: tuple[Point, ...] = (),
    confidence: float = 0.95,
    seed: int = 0,
) -> Onset:
    """The onset that cells at scattered sizes give.

    Args:
        n: size of each cell.
        found: the statistic of each.
        sizes: that could be chosen, ascending: nothing is extrapolated beyond them.
        points: of the curve, where the statistic is no share.
        confidence: probability with which the interval covers.
        seed: of the bootstrap.

    Raises:
        DataError: if fewer than two sizes have cells with a value.
    """
    x, ends = np.log(n), (math.log(sizes[0]), math.log(sizes[-1]))
    belief = Belief.of(x, found, ends)
    shares = _of_signs(n, found, confidence)
    shares = replace(shares, points=points or shares.points)
    fits = _located(x, found, belief)
    if not fits:
        if found.kind != "mean":
            return shares
        note = f"{np.isfinite(found.d).sum()} cells do not locate n* yet"
        return replace(shares, **_NOWHERE, notes=(note,), crossing=_crossing(found))
    local = fits[1]
    low, root, high = _interval(fits, ends, confidence, seed)
    censored: Censored = "above" if root > ends[1] else "below" if root < ends[0] else "no"
    inside = censored == "no"
    bounds = (max(low, ends[0]), min(high, ends[1])) if not inside else (low, high)
    return replace(
        shares,
        onset=math.exp(root) if inside else None,
        low=math.exp(bounds[0]) if low > ends[0] else None,
        high=math.exp(bounds[1]) if high < ends[1] else None,
        width=shares.width if inside and found.kind != "mean" else None,
        censored=censored,
        crossing=_crossing(found),
        notes=(f"fitted to the {len(local.d)} cells within a factor "
               f"{math.exp(local.half):.2g} of n*",),
    )  # fmt: skip


_NOWHERE: dict[str, Any] = {
    "onset": None, "low": None, "high": None, "width": None, "censored": "no",
}  # fmt: skip


def _crossing(found: Statistic) -> str:
    if found.kind == "mean":
        return "position = 0.5"
    return f"share = {found.ceiling / 2:g}"


def _of_signs(n: Array, found: Statistic, confidence: float) -> Onset:
    """Equation (1) alone, by maximum likelihood."""
    known = ~np.isnan(found.d)
    where, which = np.unique(n[known], return_inverse=True)
    successes = np.bincount(which, found.d[known] > 0, minlength=len(where))
    trials = np.bincount(which, minlength=len(where))
    return estimate_onset(where, successes, trials, ceiling=found.ceiling, confidence=confidence)


def _interval(
    fits: list[_Local], ends: tuple[float, float], confidence: float, seed: int
) -> tuple[float, float, float]:
    """Ends of the bootstrap interval of ln n*, and ln n* between them; infinite where open.

    Every span is resampled, so that the interval holds what the choice of h leaves open.
    """
    roots, draws = [], np.random.default_rng(seed)
    for local in fits:
        m = len(local.d)
        drawn = draws.multinomial(m, np.full(m, 1 / m), size=_RESAMPLES).astype(np.float64)
        counts = np.concatenate([np.ones((1, m)), drawn])
        reach = (local.centre - local.half, local.centre + local.half)
        at = np.linspace(max(reach[0], ends[0] - _MARGIN), min(reach[1], ends[1] + _MARGIN), 201)
        roots.append(_rise(local.curves(counts, at), at))
    root = float(roots[1][0])
    kernel = fits[1].kernel
    effective = kernel.sum() ** 2 / (kernel**2).sum() - 3  # cells, less what the curve takes
    levels = expanded_levels(max(4, int(effective)), confidence)
    low, high = np.quantile(np.concatenate([r[1:] for r in roots]), levels, method="nearest")
    return min(float(low), root), root, max(float(high), root)


Reason = Literal["precision", "budget", "above", "below", "failed"]

WORDS: dict[Reason, str] = {
    "precision": "the wished precision is reached",
    "budget": "the budget is spent",
    "above": "the onset lies above the largest size",
    "below": "the onset lies below the smallest size",
    "failed": "every cell of a batch failed",
}
"""Why a sequence ended."""


class Course:
    """The sequence of cells of one setting of an adaptive sweep, replayed from their results.

    Args:
        sweep: resolved, with a design.
        setting: one of its settings.

    Attributes:
        cells: chosen so far, the last `batch` of them perhaps not finished.
        reason: why the sequence ended; None while it goes on.
    """

    def __init__(self, sweep: Sweep, setting: Mapping[str, Any]) -> None:
        assert sweep.design is not None
        self.design, self.setting = sweep.design, setting
        self.cells: list[Cell] = []
        self.reason: Reason | None = None
        self._measurement = sweep.measurement(setting)
        self._criterion = sweep.design.criterion or sweep.headline_criterion
        self._floor = floor_values(self._measurement).get(self._criterion)
        self._sizes = np.array(sweep.design.sizes, dtype=np.float64)
        self._keys: list[str] = []
        self._values: list[Mapping[str, Any]] = []
        self._looked, self._met = 0, False

    def advance(self, values: Mapping[str, Mapping[str, Any]]) -> list[Cell]:
        """Go on as far as the results allow.

        Args:
            values: by the key of a cell, role to criterion to number; empty for a failed one.

        Returns:
            the cells that are to be run before the next choice; none once the sequence ended.
        """
        while self.reason is None:
            batch = self._keys[len(self._values) :]
            if any(key not in values for key in batch):
                waiting = zip(self.cells[len(self._values) :], batch, strict=True)
                return [cell for cell, key in waiting if key not in values]
            self._values += [values[key] for key in batch]
            n = np.array([cell.n for cell in self.cells], dtype=np.float64)
            tables = cell_tables(self._criterion, self._values)
            found = statistic(self._criterion, tables, floor=self._floor)
            self.reason = self._ended(n, found)
            if self.reason is None:
                self._choose(n, found)
        return []

    def _choose(self, n: Array, found: Statistic) -> None:
        options = self._measurement.model_dump()
        for size in next_sizes(np.log(n), found, self._sizes, batch=self.design.batch):
            cell = Cell(**options, n=size, replicate=len(self.cells))
            self.cells.append(cell)
            self._keys.append(cell.key)

    def _ended(self, n: Array, found: Statistic) -> Reason | None:
        """Whether the last whole batch was the last; n* is looked at where cells grew by 1/4."""
        count, batch = len(n), self.design.batch
        if not count:
            return None
        if not any(self._values[-batch:]):
            return "failed"
        spent = count + batch > self.design.budget
        if count >= 1.25 * self._looked or spent:
            self._looked = count
            if side := self._beyond(np.log(n), found):
                return side
            reached = self._precise(n, found)
            if reached and self._met:
                return "precision"
            self._met = reached
        return "budget" if spent else None

    def _beyond(self, x: Array, found: Statistic) -> Reason | None:
        ends = (math.log(self._sizes[0]), math.log(self._sizes[-1]))
        belief = Belief.of(x, found, ends)
        if len(x) < 3 * self.design.batch:
            return None
        if belief.weights[belief.places > ends[1]].sum() > _SURE:
            return "above"
        if belief.weights[belief.places < ends[0]].sum() > _SURE:
            return "below"
        return None

    def _precise(self, n: Array, found: Statistic) -> bool:
        try:
            onset = cells_onset(n, found, self._sizes)
        except DataError:
            return False
        if onset.onset is None or onset.low is None or onset.high is None:
            return False
        return math.sqrt(onset.high / onset.low) <= 1 + self.design.precision

    def onset(self, criterion: str, values: Mapping[str, Mapping[str, Any]]) -> Onset:
        """The onset of any criterion by the cells that are finished."""
        done = [cell for cell in self.cells if values.get(cell.key)]
        tables = cell_tables(criterion, [values[cell.key] for cell in done])
        floor = floor_values(self._measurement).get(criterion)
        found = statistic(criterion, tables, floor=floor)
        n = np.array([cell.n for cell in done], dtype=np.float64)
        points = _positions(n, tables) if found.kind == "mean" else ()
        return cells_onset(n, found, self._sizes, points=points)


def cell_tables(criterion: str, values: list[Mapping[str, Any]]) -> dict[str, Array]:
    """What `statistic` takes, of the values of cells in order."""

    def column(role: str, name: str) -> Array:
        return np.array([v.get(role, {}).get(name, math.nan) for v in values], dtype=np.float64)

    roles = {role: column(role, criterion) for role in ("model", "memorizer", "oracle")}
    return roles | {"log_ratio": column("model", f"{criterion}_log_ratio")}


def _positions(n: Array, tables: Mapping[str, Array]) -> tuple[Point, ...]:
    """Positions between the poles at every size, with intervals of means where runs allow."""
    points = []
    for size in np.unique(n):
        y, low, high = (tables[role][n == size] for role in ("model", "memorizer", "oracle"))
        known = np.isfinite(y + low + high)
        y, low, high = y[known], low[known], high[known]
        if not len(y) or high.mean() == low.mean():
            continue
        position = (y.mean() - low.mean()) / (high.mean() - low.mean())
        rest = y - low - position * (high - low)
        error = math.nan
        if len(y) > 2:
            error = float(rest.std(ddof=1)) / math.sqrt(len(y)) / abs(high.mean() - low.mean())
        half = float(stdtrit(len(y) - 1, 0.975)) * error if len(y) > 2 else None
        points.append(
            Point(
                n=int(size),
                position=float(position),
                low=None if half is None else float(position - half),
                high=None if half is None else float(position + half),
                replicates=len(y),
            )
        )
    return tuple(points)
