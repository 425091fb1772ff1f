"""The onset: the training size n* at which a curve crosses the middle between its two poles.

A curve has a floor (0, memorizes) and a ceiling (1, generalizes). Its *position* at n says how far
it has come, the onset n* is where the fitted position crosses 1/2 on an axis of ln n, its *width*
is ln n between the positions 0.1 and 0.9. Three kinds of curve:

*Proportions*, k_i successes in m_i trials, independent and binomial, with

    (1)  p(n) = g + (c - g) F((ln n - ln n*)/w),    F(z) = 1/(1 + e^-z)

where the floor g and the ceiling c are known or fitted; g > c is a curve that falls. n* maximizes
the likelihood, with a weak prior ln w ~ N(ln 0.4, 1). Its interval is the set where the profile
likelihood, maximized over all else, lies within

    (2)  phi chi²_1(confidence)/2

of the maximum; phi = 1, or deviance over degrees of freedom where (1) does not fit (p < 0.01).

*Positions*, from a criterion y of the model and of its two poles in the same replicates:

    (3)  position(n) = (mean y_model - mean y_memorizer)/(mean y_oracle - mean y_memorizer)

which is theory note (G1).

*Quantiles*: the q-quantile, over replicates, of a statistic crosses a level. If the sign of the
statistic is what (1) would be fitted to, q is the middle (g + c)/2; the size of the statistic,
which the sign throws away, makes n* more precise. The quantile is that of Harrell and Davis,

    (4)  sum_i X_(i) [I(i/m) - I((i - 1)/m)],    I the Beta((m + 1) q, (m + 1)(1 - q)) law.

Positions and quantiles have no shape in common, so they are smoothed by a local quadratic in ln n,

    (5)  f(x) = b_0 of  argmin_b sum_i K(|u_i|/h) (y_i - b_0 - b_1 u_i - b_2 u_i²)²/v_i,
         u_i = ln n_i - x,

K tricube, h the distance to the 6th nearest size, v_i the bootstrap variance of y_i but at least
the median one. The interval is the bootstrap's, over whole replicates (they share draws across n),
at expanded levels; every resample is smoothed three times, with h the distance to the 5th, 6th and
7th nearest size, so that the interval also holds what the choice of h leaves open.

Replicates that scatter little show that (5) is too stiff. With r_i = y_i - f(x_i) at the six sizes
nearest to the crossing and r_i* of a resample, (5) is given up if

    (5a)  sum_i r_i²/v_i  exceeds  sum_i (r_i* - r_i)²/v_i  of 99 % of the resamples.

The crossing is then read between two neighbouring sizes: from the parabola through these two and
the one before, from that through these and the one after, between which the truth lies where its
third derivative keeps its sign, and, the estimate, from their mean; the interval is that of all
resamples on all of them. Where the parabolas are farther apart than a tenth of the rise between
the two sizes the grid does not resolve the bend, and lines take their place in the interval: the
chord, that through the two sizes before and that through the two after, between which the truth
lies where its second derivative keeps its sign. No curve leaves the range of the two sizes' own
values.

Of fewer than six sizes (5) would make one parabola, which can miss a crossing that every replicate
shows: they are joined by straight lines in ln n instead, a note says so, and the interval is the
bootstrap's alone.

What crosses more than once generalizes "from n* on" only after its last upward crossing, which is
the one reported. Nothing is extrapolated: an onset or an end outside the sizes that were run is
None. Assumed throughout: the curve is smooth on the scale of the grid. Where it jumps within one
step of the grid the intervals are those of the interpolation, and a note says so.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genonset.errors import ConfigError, DataError
from genonset.estimates import bracket, expanded_levels, require_confidence, wilson

Array = NDArray[np.float64]
Censored = Literal["no", "above", "below"]

_LOGISTIC_WIDTH = 2 * math.log(9)  # F goes from 0.1 to 0.9 over this many w
_PRIOR_LOG_W = math.log(0.4)
_BEYOND = 5.0  # how far off the grid, in ln n, the maximum of (1) is looked for
_RESAMPLES = 2000
_SPANS = (5, 6, 7)  # neighbours of (5); the middle one gives the estimate
_FINE = 201  # abscissae of the fitted curve
_MISFIT = 0.01  # level of (5a)
_RESOLVED = 0.1  # of the rise between two sizes, by which parabolas may differ
_Way = Callable[[Array], Array]  # rows of values at the sizes to rows of a curve


@dataclass(frozen=True, kw_only=True)
class Point:
    """One size of the curve: its position with interval; None where it has none."""

    n: float
    position: float | None
    low: float | None
    high: float | None
    replicates: int


@dataclass(frozen=True, kw_only=True)
class Onset:
    """Where a curve crosses the middle between its poles.

    Attributes:
        onset: n*, or None where it is censored, blind or not determined.
        low, high: ends of the interval of n*; None where the data do not bound n* within the
            sizes that were run. A censored onset may still have one of them: its nearest size
            if n* surely lies beyond that.
        width: ln n between positions 0.1 and 0.9, or None where the curve does not show both.
        censored: "above" if n* lies beyond the largest size, "below" if before the smallest.
        blind: True if the criterion does not tell its own poles apart.
        confidence: probability with which the intervals cover.
        crossing: what crosses what.
        floor, ceiling: values of the curve at positions 0 and 1.
        points: the curve.
        notes: what a reader must know beside the numbers.
    """

    onset: float | None
    low: float | None
    high: float | None
    width: float | None
    censored: Censored
    blind: bool
    confidence: float
    crossing: str
    floor: float
    ceiling: float
    points: tuple[Point, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def undetermined(cls, reason: str) -> "Onset":
        """No estimate, and why."""
        return cls(
            onset=None, low=None, high=None, width=None, censored="no", blind=False,
            confidence=0.95, crossing="", floor=0.0, ceiling=1.0, points=(), notes=(reason,),
        )  # fmt: skip

    def sentence(self) -> str:
        """The result in words."""
        if not self.points:
            return "n* cannot be estimated: " + " ".join(self.notes)
        sizes = [p.n for p in self.points if p.position is not None] or [p.n for p in self.points]
        if self.blind:
            return "blind: the criterion does not tell the memorizer from the oracle"
        sure = f"at {self.confidence:.4g} confidence"
        if self.censored == "above":
            if self.low is not None and self.low < sizes[-1]:
                return (
                    f"no onset below n = {self.low:.3g} {sure}; the curve has not crossed by "
                    f"n = {sizes[-1]:g}"
                )
            return f"no onset below n = {sizes[-1]:g}"
        if self.censored == "below":
            if self.high is not None and self.high > sizes[0]:
                return (
                    f"onset below n = {self.high:.3g} {sure}; the curve has crossed before "
                    f"n = {sizes[0]:g}"
                )
            return f"onset below n = {sizes[0]:g}"
        if self.onset is None and self.low is not None and self.high is not None:
            return f"n* lies between n = {self.low:.4g} and {self.high:.4g}"
        if self.onset is None:
            return f"n* is not determined between n = {sizes[0]:g} and {sizes[-1]:g}"
        return f"n* = {bracket(self.onset, self.low, self.high)}"

    def __str__(self) -> str:
        return self.sentence()

    def to_dict(self) -> dict[str, Any]:
        """Numbers, strings, lists and None, ready for JSON."""
        lists = {"points": [asdict(point) for point in self.points], "notes": list(self.notes)}
        return asdict(self) | lists


def estimate_onset(
    n: ArrayLike,
    successes: ArrayLike | None = None,
    trials: ArrayLike | None = None,
    *,
    values: ArrayLike | None = None,
    memorizer: ArrayLike | None = None,
    oracle: ArrayLike | None = None,
    quantile: float | None = None,
    level: float | None = None,
    floor: float | None = 0.0,
    ceiling: float | None = 1.0,
    confidence: float = 0.95,
    seed: int = 0,
) -> Onset:
    """The training size n* at which a curve is half way between its poles.

    One of three sets of arguments: `successes, trials` for proportions (1); `values, memorizer,
    oracle` for a criterion between its poles (3); `values, quantile, level` for a statistic whose
    quantile crosses a level (4). A statistic that starts below the level and ends above it is
    read as rising, every other as falling: its generalizing side is below the level.

    Args:
        n: sizes, distinct, at least 2.
        successes: successes at each size.
        trials: trials at each size, or one number for all.
        values: shape (replicates, sizes), NaN where a cell is missing. Infinite values are
            accepted: an infinite mean counts as missing, an infinite quantile tells its side.
        memorizer: the criterion of the memorizer in the same replicates, shape as `values`.
        oracle: the criterion of the oracle in the same replicates, shape as `values`.
        quantile: q, for example 1/4 for the size-matched D, whose sign has ceiling 1/2.
        level: what the quantile crosses.
        floor: share of successes (or of replicates beyond the level) where all is memorized;
            None to fit it, for proportions only. It needs a grid that shows this plateau.
        ceiling: the same where nothing is memorized.
        confidence: probability with which the intervals cover.
        seed: of the bootstrap.

    Returns:
        n* with its interval; `position` is (3), or (share - floor)/(ceiling - floor).

    Raises:
        ConfigError: for any other set of arguments.
        DataError: for data that do not make a curve.

    Reference:
        Harrell and Davis 1982, Biometrika 69, 635, equation 1.2 for (4); Cleveland 1979, JASA 74,
        829 for (5); Finney 1971, Probit Analysis, chapter 4 for phi in (2).

    >>> print(estimate_onset([30, 60, 120, 240, 480], [1, 4, 11, 18, 20], 20))
    n* = 104 [82, 131]
    """
    require_confidence(confidence)
    sizes, order = _require_sizes(n)
    _require_plateaus(floor, ceiling)
    arguments = {
        "successes": successes,
        "trials": trials,
        "values": values,
        "memorizer": memorizer,
        "oracle": oracle,
        "quantile": quantile,
        "level": level,
    }
    given = {name for name, argument in arguments.items() if argument is not None}
    if given == {"successes", "trials"}:
        k, m = _require_counts(successes, trials, order)
        return _from_proportions(sizes, k, m, floor, ceiling, confidence)
    if given == {"values", "memorizer", "oracle"} and (floor, ceiling) == (0.0, 1.0):
        tables = _require_tables(order, values=values, memorizer=memorizer, oracle=oracle)
        model, low, high = tables
        return _from_positions(sizes, model, low, high, confidence, seed)
    plateaus = None if floor is None or ceiling is None or floor > ceiling else (floor, ceiling)
    if given == {"values", "quantile", "level"} and plateaus is not None:
        (table,) = _require_tables(order, values=values)
        q, target = _require_threshold(quantile, level)
        return _from_quantiles(sizes, table, q, target, *plateaus, confidence, seed)
    raise ConfigError(
        "estimate_onset takes one of: successes and trials; values, memorizer and oracle, with "
        "floor 0 and ceiling 1; values, quantile and level, with a known floor < ceiling. Got "
        f"{', '.join(sorted(given)) or 'none of them'}, floor={floor}, ceiling={ceiling}."
    )


# Proportions, equations (1) and (2)


@dataclass(frozen=True, kw_only=True)
class LogisticFit:
    """The maximum of the likelihood of (1), with the interval (2) of n*.

    Attributes:
        onset: n*, wherever it lies.
        low, high: ends of (2); None where it does not end within the sizes that were run.
        w: the scale of (1); the width is 2 ln 9 w.
        floor, ceiling: given or fitted.
        negative_log_likelihood: at the maximum, without prior and binomial coefficients.
        deviance: twice what a curve through every point would gain.
        degrees: number of sizes less number of fitted parameters.
        inflation: phi of (2).
    """

    onset: float
    low: float | None
    high: float | None
    w: float
    floor: float
    ceiling: float
    negative_log_likelihood: float
    deviance: float
    degrees: int
    inflation: float


def fit_logistic(
    n: ArrayLike,
    successes: ArrayLike,
    trials: ArrayLike,
    *,
    floor: float | None = 0.0,
    ceiling: float | None = 1.0,
    confidence: float = 0.95,
    width_prior: bool = True,
) -> LogisticFit:
    """Fit a logistic curve in ln n to proportions, equations (1) and (2).

    Args:
        n: sizes, distinct, at least 2.
        successes: successes at each size.
        trials: trials at each size, or one number for all.
        floor: g, or None to fit it; a curve with a fitted plateau rises.
        ceiling: c, or None to fit it.
        confidence: probability with which the interval covers.
        width_prior: whether ln w ~ N(ln 0.4, 1). Without it a sharp curve has no finite ln w.

    Raises:
        DataError: as `estimate_onset`.

    Reference:
        Wichmann and Hill 2001, Perception & Psychophysics 63, 1293, equation 1, for (1); Venzon
        and Moolgavkar 1988, Applied Statistics 37, 87, for (2).
    """
    from scipy.special import chdtrc, chdtri, xlogy

    require_confidence(confidence)
    sizes, order = _require_sizes(n)
    _require_plateaus(floor, ceiling)
    k, m = _require_counts(successes, trials, order)
    x = np.log(sizes)
    likelihood = _Likelihood(x=x, k=k, m=m, floor=floor, ceiling=ceiling, width_prior=width_prior)
    least, theta = likelihood.maximize()
    (g,), (c,) = likelihood.plateaus(theta[None])
    bare = float(likelihood.negative_log(theta[None])[0])
    deviance = 2 * (bare + float((xlogy(k, k / m) + xlogy(m - k, 1 - k / m)).sum()))
    degrees = len(x) - 2 - (floor is None) - (ceiling is None)
    misfit = degrees > 0 and chdtrc(degrees, deviance) < 0.01
    inflation = deviance / degrees if misfit else 1.0
    drop = inflation * float(chdtri(1, 1 - confidence)) / 2
    low, high = _level_set(
        lambda log_n: likelihood.maximize(log_n, theta)[0] - least - drop, theta[0], sizes
    )
    return LogisticFit(
        onset=math.exp(theta[0]),
        low=low,
        high=high,
        w=math.exp(theta[1]),
        floor=float(g),
        ceiling=float(c),
        negative_log_likelihood=bare,
        deviance=deviance,
        degrees=degrees,
        inflation=inflation,
    )


@dataclass(frozen=True, kw_only=True)
class _Likelihood:
    """Binomial likelihood of (1) in theta = (ln n*, ln w, a, b), a row for each parameter.

    The plateaus that are fitted are g = a c (or a) and c = g + (1 - g) b, with a, b in [0, 1].
    """

    x: Array
    k: Array
    m: Array
    floor: float | None
    ceiling: float | None
    width_prior: bool

    @property
    def top(self) -> float:
        """The largest floor."""
        return 1.0 if self.ceiling is None else self.ceiling

    def plateaus(self, theta: Array) -> tuple[Array, Array]:
        """g and c."""
        a, b = theta[:, 2], theta[:, 3]
        g = a * self.top if self.floor is None else np.full_like(a, self.floor)
        c = g + (1 - g) * b if self.ceiling is None else np.full_like(b, self.ceiling)
        return g, c

    def shares(self, theta: Array) -> tuple[Array, Array, Array, Array, Array]:
        """z, F(z), F(-z), p and 1 - p, the last two as sums of positive terms."""
        from scipy.special import expit

        g, c = (plateau[:, None] for plateau in self.plateaus(theta))
        z = (self.x - theta[:, :1]) / np.exp(theta[:, 1:2])
        up, down = expit(z), expit(-z)
        p, rest = g * down + c * up, (1 - g) * down + (1 - c) * up
        return z, up, down, np.maximum(p, 1e-300), np.maximum(rest, 1e-300)

    def negative_log(self, theta: Array) -> Array:
        """Minus log likelihood, without the prior."""
        *_, p, rest = self.shares(theta)
        return -(self.k * np.log(p) + (self.m - self.k) * np.log(rest)).sum(1)

    def penalty(self, theta: Array) -> Array:
        """Minus the log of the prior of ln w, up to a constant."""
        return 0.5 * self.width_prior * (theta[:, 1] - _PRIOR_LOG_W) ** 2

    def objective(self, theta: Array) -> tuple[float, Array]:
        """What is minimized, and its gradient, at one parameter of shape (4,)."""
        row = theta[None]
        z, up, down, p, rest = self.shares(row)
        (g,), (c,) = self.plateaus(row)
        in_p = (self.m - self.k) / rest - self.k / p
        in_z = in_p * (c - g) * up * down
        in_g, in_c = (in_p * down).sum(), (in_p * up).sum()
        free_floor, free_ceiling = self.floor is None, self.ceiling is None
        prior = self.width_prior * (theta[1] - _PRIOR_LOG_W)
        gradient = [
            -in_z.sum() / np.exp(theta[1]),
            prior - (in_z * z).sum(),
            free_floor * self.top * (in_g + free_ceiling * (1 - theta[3]) * in_c),
            free_ceiling * (1 - g) * in_c,
        ]
        value = self.negative_log(row) + self.penalty(row)
        return float(value[0]), np.array(gradient, dtype=np.float64)

    def maximize(self, mu: float | None = None, near: Array | None = None) -> tuple[float, Array]:
        """The least objective and where, with ln n* held at `mu` if that is given."""
        from scipy.optimize import minimize

        first, last = float(self.x[0]), float(self.x[-1])
        axes = [
            np.linspace(first - 1, last + 1, 25) if mu is None else [mu],
            np.log([0.05, 0.15, 0.4, 0.8, 2.0]),
            [0.05, 0.35, 0.8] if self.floor is None else [0.0],
            [0.2, 0.65, 0.95] if self.ceiling is None else [0.0],
        ]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 4)
        if near is not None:
            grid = np.concatenate([grid, [[grid[0, 0], *near[1:]]]])
        heights = self.negative_log(grid) + self.penalty(grid)
        starts = grid[np.argsort(heights, kind="stable")[: 3 if near is None else 1]]
        bounds = [
            (first - _BEYOND, last + _BEYOND) if mu is None else (mu, mu),
            (math.log(0.01), math.log(50.0)),
            (0.0, 1.0),
            (0.0, 1.0),
        ]
        precise = {"ftol": 1e-15, "gtol": 1e-8, "maxiter": 500}
        fits = [
            minimize(self.objective, start, jac=True, bounds=bounds, options=precise)
            for start in starts
        ]
        best = min(fits, key=lambda fit: fit.fun)
        return float(best.fun), best.x


def _level_set(
    excess: Callable[[float], float], lowest: float, sizes: Array
) -> tuple[float | None, float | None]:
    """Ends of the interval of sizes where excess(ln n) < 0, None where beyond the sizes.

    Where the whole interval, around ln n = `lowest`, lies beyond the largest size, that size is
    its lower end: all that is known is that n* is larger. Likewise before the smallest.
    """
    from scipy.optimize import root_scalar

    def end(edge: float, far: float, sign: int) -> float | None:
        if sign * (lowest - math.log(edge)) <= 0 or excess(math.log(edge)) <= 0:
            return None
        beyond = sign * (lowest - math.log(far)) > 0
        if beyond and excess(math.log(far)) > 0:
            return far
        bracket = (math.log(edge), math.log(far) if beyond else lowest)
        return math.exp(root_scalar(excess, bracket=bracket, xtol=1e-7).root)

    first, last = float(sizes[0]), float(sizes[-1])
    return end(first, last, 1), end(last, first, -1)


def _from_proportions(
    sizes: Array,
    k: Array,
    m: Array,
    floor: float | None,
    ceiling: float | None,
    confidence: float,
) -> Onset:
    """Onset of a share, equations (1) and (2)."""
    fit = fit_logistic(sizes, k, m, floor=floor, ceiling=ceiling, confidence=confidence)
    censored: Censored = "no"
    if fit.onset > sizes[-1]:
        censored = "above"
    elif fit.onset < sizes[0]:
        censored = "below"
    notes = []
    if fit.inflation > 1:
        notes.append(
            f"the logistic curve does not fit (deviance {fit.deviance:.3g} on {fit.degrees} "
            f"degrees of freedom): the interval allows for {fit.inflation:.2g} times the variance"
        )
    z = np.log(sizes / fit.onset) / fit.w
    if floor is None and z[0] > -_LOGISTIC_WIDTH / 2:
        notes.append("the floor is fitted, but the smallest sizes do not show it")
    if ceiling is None and z[-1] < _LOGISTIC_WIDTH / 2:
        notes.append("the ceiling is fitted, but the largest sizes do not show it")
    located = _Located(
        onset=fit.onset if censored == "no" else None,
        low=fit.low,
        high=fit.high,
        width=_LOGISTIC_WIDTH * fit.w if censored == "no" else None,
        censored=censored,
    )
    return _finish(
        located,
        confidence=confidence,
        crossing=f"share = {(fit.floor + fit.ceiling) / 2:.3g}",
        floor=fit.floor,
        ceiling=fit.ceiling,
        points=_share_points(sizes, k, m, fit.floor, fit.ceiling, confidence),
        notes=notes,
    )


# Positions and quantiles, equations (3) to (5)


def _from_positions(
    sizes: Array, values: Array, memorizer: Array, oracle: Array, confidence: float, seed: int
) -> Onset:
    """Onset of a criterion between its poles, equation (3)."""
    complete = ~(np.isnan(values) | np.isnan(memorizer) | np.isnan(oracle))
    if complete.any(0).sum() < 2:
        raise DataError(
            "Fewer than two sizes have a replicate with values of the model, the memorizer and "
            "the oracle; a position needs all three in the same replicate."
        )
    levels = expanded_levels(len(values), confidence)
    counts = _resamples(len(values), seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = counts @ complete
        model, low, high = (
            _filled(counts @ np.where(complete, table, 0.0) / total)
            for table in (values, memorizer, oracle)
        )
        position = _filled((model - low) / (high - low))
    poles = [_interval(low, levels), _interval(high, levels)]
    finite = np.isfinite(poles).all((0, 1))
    overlap = np.max([p[0] for p in poles], 0) <= np.min([p[1] for p in poles], 0)
    position[:, ~(finite & ~overlap & np.isfinite(model[0]))] = np.nan
    notes = [
        f"{what} at n = {_listed(sizes[where])}"
        for what, where in (
            ("no finite mean of the poles", ~finite),
            ("blind (the poles' intervals overlap)", overlap),
            ("no finite mean of the model", finite & ~overlap & ~np.isfinite(model[0])),
        )
        if where.any()
    ]
    points = [
        _point(sizes[i], [position[0, i], *interval], int(complete[:, i].sum()))
        for i, interval in enumerate(_interval(position, levels).T)
    ]
    blind = int((finite & ~overlap).sum()) < 2
    ends = (position[0] - 0.1, position[0] - 0.9)
    return _finish(
        _NOWHERE if blind else _locate(sizes, position - 0.5, ends, levels, notes),
        blind=blind,
        confidence=confidence,
        crossing="position = 0.5",
        floor=0.0,
        ceiling=1.0,
        points=points,
        notes=notes,
    )


def _from_quantiles(
    sizes: Array,
    values: Array,
    quantile: float,
    level: float,
    floor: float,
    ceiling: float,
    confidence: float,
    seed: int,
) -> Onset:
    """Onset of a statistic whose quantile crosses a level, equation (4)."""
    replicates = (~np.isnan(values)).sum(0, dtype=np.float64)
    if (replicates > 0).sum() < 2:
        raise DataError("Fewer than two sizes have values; an onset needs a curve.")
    counts = _resamples(len(values), seed)
    above = _harrell_davis(values, counts, quantile) - level
    sides = np.sign(above[0][replicates > 0])
    half = min(2, len(sides) // 2)
    rising = bool((sides[:half] < 0).all() and (sides[-half:] > 0).all())
    sign = 1 if rising else -1

    def reaching(position: float) -> Array:
        """The curve that crosses zero where the given position is reached."""
        share = floor + position * (ceiling - floor)
        q = 1 - share if rising else share
        return sign * (_harrell_davis(values, counts[:1], q)[0] - level)

    notes: list[str] = []
    if np.isinf(above[0]).any():
        notes.append(f"the quantile is infinite at n = {_listed(sizes[np.isinf(above[0])])}")
    levels = expanded_levels(len(values), confidence)
    ends = (reaching(0.1), reaching(0.9))
    beyond = (values > level if rising else values < level).sum(0, dtype=np.float64)
    return _finish(
        _locate(sizes, sign * above, ends, levels, notes),
        confidence=confidence,
        crossing=f"quantile {quantile:g} = {level:g}",
        floor=floor,
        ceiling=ceiling,
        points=_share_points(sizes, beyond, replicates, floor, ceiling, confidence),
        notes=notes,
    )


def _resamples(n_rows: int, seed: int) -> Array:
    """How often each row is drawn, shape (1 + resamples, rows); the first takes each once."""
    uniform = np.full(n_rows, 1 / n_rows)
    drawn = np.random.default_rng(seed).multinomial(n_rows, uniform, size=_RESAMPLES)
    return np.concatenate([np.ones((1, n_rows)), drawn.astype(np.float64)])


def _filled(rows: Array) -> Array:
    """Rows with the first one, of all replicates, in the place of what a resample lacks."""
    return np.where(np.isfinite(rows), rows, rows[0])


def _interval(rows: Array, levels: tuple[float, float]) -> Array:
    """Bootstrap interval of each column, shape (2, columns); NaN where it is not finite."""
    finite = np.isfinite(rows[0])
    return np.where(finite, np.quantile(np.where(finite, rows, 0.0)[1:], levels, axis=0), np.nan)


def _harrell_davis(values: Array, counts: Array, q: float) -> Array:
    """Quantile (4) of each column, one row for each row of counts.

    Infinite values are taken as the largest finite one of their column, unless they are so many
    that the quantile itself is infinite.
    """
    from scipy.special import betainc

    result = np.full((len(counts), values.shape[1]), np.nan)
    for i, column in enumerate(values.T):
        present = np.flatnonzero(~np.isnan(column))
        if not len(present):
            continue
        present = present[np.argsort(column[present], kind="stable")]
        ranked = column[present]
        middle = ranked[min(len(ranked) - 1, math.ceil(q * len(ranked)) - 1)]
        if np.isinf(middle):
            result[:, i] = middle
            continue
        finite = ranked[np.isfinite(ranked)]
        below = np.cumsum(counts[:, present], axis=1).astype(np.int64)
        sizes, which = np.unique(below[:, -1], return_inverse=True)
        m = np.maximum(sizes, 1)[:, None]
        reached = np.minimum(np.arange(sizes[-1] + 1) / m, 1.0)
        table = betainc((m + 1) * q, (m + 1) * (1 - q), reached)
        steps = np.diff(table[which[:, None], below], axis=1, prepend=0.0)
        result[:, i] = steps @ np.clip(ranked, finite[0], finite[-1])
        result[below[:, -1] == 0, i] = np.nan
    return _filled(result)


def _smoother(x: Array, weights: Array, at: Array, span: int) -> Array:
    """Matrix that maps values at x to the local quadratic fit (5) at `at`."""
    distance = np.abs(at[:, None] - x)
    ranked = np.sort(distance, axis=1)
    reach = ranked[:, span - 1] if span <= len(x) else ranked[:, -1] * span / len(x)
    u = (x - at[:, None]) / reach[:, None]
    kernel = weights * np.clip(1 - np.abs(u) ** 3, 0.0, None) ** 3
    basis = u[..., None] ** np.arange(min(3, len(x)))
    normal = np.einsum("tg,tgi,tgj->tij", kernel, basis, basis)
    return np.linalg.solve(normal, np.einsum("tg,tgi->tig", kernel, basis))[:, 0]


def _linear(matrix: Array) -> _Way:
    return lambda values: values @ matrix.T


def _nearest(x: Array, root: float) -> NDArray[np.intp]:
    """The sizes that (5a) looks at: around a crossing, or all if there is none."""
    return np.argsort(np.abs(x - root))[: _SPANS[1]] if math.isfinite(root) else np.arange(len(x))


def _misses(residuals: Array, variance: Array, near: NDArray[np.intp]) -> bool:
    """Equation (5a); the first row of residuals is the estimate's."""
    scale = np.maximum(variance[near], np.finfo(np.float64).tiny)
    own, resampled = residuals[0, near], residuals[1:, near]
    as_far = ((resampled - own) ** 2 / scale).sum(1) >= (own**2 / scale).sum()
    return 1 + int(as_far.sum()) < _MISFIT * (1 + len(as_far))


def _gaps(at: Array, x: Array) -> NDArray[np.intp]:
    """Between which two sizes each abscissa lies, by the place of the first."""
    return np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)


def _through(at: Array, x: Array, first: Iterable[int], order: int) -> _Way:
    """Polynomials through `order` sizes; `first` names the first of them for each gap of x.

    At the sizes, which `at` contains, the curve is what was measured, also where a line from
    beyond a gap says otherwise.
    """
    gap = _gaps(at, x)
    start, places = np.clip(list(first), 0, len(x) - order)[gap], np.searchsorted(at, x)
    matrix = np.zeros((len(at), len(x)))
    for j in range(order):
        weight = np.ones(len(at))
        for i in set(range(order)) - {j}:
            weight *= (at - x[start + i]) / (x[start + j] - x[start + i])
        matrix[np.arange(len(at)), start + j] = weight

    def way(values: Array) -> Array:
        ends = values[..., gap], values[..., gap + 1]
        curve = np.clip(values @ matrix.T, np.minimum(*ends), np.maximum(*ends))
        curve[..., places] = values
        return curve

    return way


def _interpolations(at: Array, x: Array, values: Array) -> list[_Way]:
    """Curves between neighbouring sizes, the second one the estimate."""
    gap = _gaps(at, x)
    step, rise = np.diff(x), np.diff(values)
    bends = np.diff(rise / step) / (x[2:] - x[:-2])
    apart = np.append(np.nan, np.append(np.diff(bends), np.nan)) * step**2 / 4
    resolved = (np.abs(apart) < _RESOLVED * np.abs(rise))[gap]
    here = np.arange(len(x) - 1)
    left, right = _through(at, x, here - 1, 3), _through(at, x, here, 3)
    before, chord, after = (_through(at, x, here + shift, 2) for shift in (-1, 0, 1))

    def mean(rows: Array) -> Array:
        return (left(rows) + right(rows)) / 2

    def either(parabola: _Way, line: _Way) -> _Way:
        return lambda rows: np.where(resolved, parabola(rows), line(rows))

    return [either(left, before), mean, either(right, after), either(mean, chord)]


def _last_crossings(curves: Array, at: Array) -> Array:
    """Where each curve rises through zero for the last time.

    Returns:
        inf for a curve that ends below zero, -inf for one that is never below it.
    """
    below = curves < 0
    last = len(at) - 1 - np.argmax(below[:, ::-1], axis=1)
    after = np.minimum(last + 1, len(at) - 1)
    rows = np.arange(len(curves))
    start, end = curves[rows, last], curves[rows, after]
    step = np.divide(-start, end - start, out=np.zeros_like(start), where=end > start)
    crossing = np.where(last == len(at) - 1, np.inf, at[last] + step * (at[after] - at[last]))
    return np.where(below.any(axis=1), crossing, -np.inf)


def _last_crossing(curve: Array, at: Array) -> float:
    return float(_last_crossings(curve[None], at)[0])


@dataclass(frozen=True, kw_only=True)
class _Located:
    """The numbers of an onset."""

    onset: float | None = None
    low: float | None = None
    high: float | None = None
    width: float | None = None
    censored: Censored = "no"


_NOWHERE = _Located()


def _locate(
    sizes: Array,
    rising: Array,
    ends: tuple[Array, Array],
    levels: tuple[float, float],
    notes: list[str],
) -> _Located:
    """Where the local quadratic fit (5) rises through zero for the last time.

    Args:
        sizes: n.
        rising: values that are positive where the model generalizes, an infinite one telling its
            side alone, NaN where there is none; the first row is the estimate, then resamples.
        ends: the values that cross zero at positions 0.1 and 0.9.
        levels: of the bootstrap interval.
        notes: what a reader must know is added here.
    """
    used = np.isfinite(rising[0])
    if used.sum() < 2:
        ends_below, ends_above = _interval(rising, levels)
        return _between(sizes, np.where((ends_below < 0) & (ends_above > 0), np.nan, rising[0]))
    n, values, resampled = sizes[used], rising[0, used], rising[1:, used]
    variance = resampled.var(axis=0)
    typical = float(np.median(variance))
    weights = typical / np.maximum(variance, typical) if typical > 0 else np.ones(len(n))
    x = np.log(n)
    at = np.union1d(x, np.linspace(x[0], x[-1], _FINE))
    if len(x) < _SPANS[1]:
        ways = [_through(at, x, range(len(x) - 1), 2)] * len(_SPANS)
        notes.append(
            f"only {len(x)} sizes, joined by straight lines; more around n* would say what the "
            "curve does between them"
        )
    else:
        ways = [_linear(_smoother(x, weights, at, span)) for span in _SPANS]
        smoothed = _last_crossing(ways[1](values), at)
        residuals = rising[:, used] @ (np.eye(len(x)) - _smoother(x, weights, x, _SPANS[1])).T
        if _misses(residuals, variance, _nearest(x, smoothed)):
            ways = _interpolations(at, x, values)
            notes.append(
                "the curve bends more than a smooth one over six sizes; n* is read between "
                "neighbouring ones, and more sizes around it would narrow its interval"
            )
    curve = ways[1](values)
    root = _last_crossing(curve, at)
    turns = int((np.diff(np.sign(curve)) != 0).sum())
    if turns > 1:
        notes.append("the fitted curve crosses the middle more than once; its last rise counts")
    elif turns == 1 and root == math.inf:
        notes.append("the fitted curve starts beyond the middle and falls back")
    roots = np.concatenate([_last_crossings(way(resampled), at) for way in ways])
    low, high = np.quantile(roots, levels, method="nearest")
    low, high = min(float(low), root), max(float(high), root)
    if math.isinf(root):
        sides = np.where(used, -root, rising[0])
        return _between(sizes, sides, **({"low": low} if root > 0 else {"high": high}))
    shown = all(np.isfinite(end[used]).all() for end in ends)
    first, last = (_last_crossing(ways[1](end[used]), at) if shown else 0.0 for end in ends)
    return _Located(
        onset=math.exp(root),
        low=_exp(low),
        high=_exp(high),
        width=last - first if -math.inf < first < last < math.inf else None,
    )


def _between(
    sizes: Array, sides: Array, low: float = math.inf, high: float = -math.inf
) -> _Located:
    """What is known of n* where only the side of each size is.

    Args:
        sizes: n.
        sides: positive where the model generalizes, negative where not, NaN where not known.
        low, high: ends of the interval of ln n* within the sizes; beyond the onset's own side
            (the default) they give way to the size next to it.
    """
    n, generalizes = sizes[~np.isnan(sides)], sides[~np.isnan(sides)] > 0
    if not len(n):
        return _NOWHERE
    first = len(n) - int(np.cumprod(generalizes[::-1]).sum())  # of the sizes after n*
    return _Located(
        low=None if first == 0 else float(n[first - 1]) if low == math.inf else _exp(low),
        high=None if first == len(n) else float(n[first]) if high == -math.inf else _exp(high),
        censored="above" if first == len(n) else "below" if first == 0 else "no",
    )


def _exp(log_n: float) -> float | None:
    return math.exp(log_n) if math.isfinite(log_n) else None


# Common parts


def _finish(
    located: _Located,
    *,
    blind: bool = False,
    confidence: float,
    crossing: str,
    floor: float,
    ceiling: float,
    points: Sequence[Point],
    notes: list[str],
) -> Onset:
    """The onset with its curve, and what is said of every curve."""
    if located != _NOWHERE and located.low is None and located.high is None:
        located = _NOWHERE
        notes = [*notes, "the interval of n* runs beyond the sizes at both ends"]
    if located.onset is not None:
        before = [p.position for p in points if p.position is not None and p.n <= located.onset]
        after = [p.position for p in points if p.position is not None and p.n > located.onset]
        if before and after and after[0] - before[-1] > 0.8:
            notes = [*notes, "the curve jumps within one step of the grid; add sizes around n*"]
    return Onset(
        **asdict(located),
        blind=blind,
        confidence=confidence,
        crossing=crossing,
        floor=floor,
        ceiling=ceiling,
        points=tuple(points),
        notes=tuple(notes),
    )


def _point(n: float, numbers: Sequence[float], replicates: int) -> Point:
    """A point of the curve, None for each number that is not finite."""
    position, low, high = (float(x) if math.isfinite(x) else None for x in numbers)
    whole = int(n) if n == int(n) else float(n)
    return Point(n=whole, position=position, low=low, high=high, replicates=replicates)


def _share_points(
    sizes: Array, k: Array, m: Array, floor: float, ceiling: float, confidence: float
) -> list[Point]:
    """Positions of shares, with their Wilson intervals."""
    points = []
    for n, successes, trials in zip(sizes, k, m, strict=True):
        numbers = [math.nan] * 3
        if trials and floor != ceiling:
            share = wilson(successes, trials, confidence=confidence)
            ends = [(end - floor) / (ceiling - floor) for end in (share.low, share.high)]
            numbers = [(share.value - floor) / (ceiling - floor), min(ends), max(ends)]
        points.append(_point(n, numbers, int(trials)))
    return points


def _listed(sizes: Array) -> str:
    return ", ".join(f"{n:g}" for n in sizes)


# What is accepted


def _numbers(name: str, given: ArrayLike | None) -> Array:
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: numbers are needed, in rows of one length; {error}.") from error


def _require_sizes(n: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
    """The sizes in ascending order, and that order."""
    sizes = _numbers("n", n)
    if sizes.ndim != 1 or len(sizes) < 2:
        raise DataError(f"An onset needs a list of at least two sizes n, got {sizes.size}.")
    if not (np.isfinite(sizes).all() and (sizes >= 2).all()):
        raise DataError(f"Sizes n are finite and at least 2, got {_listed(sizes)}.")
    order = np.argsort(sizes)
    if (np.diff(sizes[order]) == 0).any():
        raise DataError(f"Each size n may appear once, got {_listed(sizes)}; merge the repeated.")
    return sizes[order], order


def _require_plateaus(floor: float | None, ceiling: float | None) -> None:
    known = [plateau for plateau in (floor, ceiling) if plateau is not None]
    if not all(0 <= plateau <= 1 for plateau in known) or (len(known) == 2 and floor == ceiling):
        raise ConfigError(
            "floor and ceiling are different shares between 0 and 1, or None to fit them; "
            f"got floor={floor}, ceiling={ceiling}."
        )
    if (ceiling is None and floor == 1) or (floor is None and ceiling == 0):
        raise ConfigError(
            "A fitted plateau makes the curve rise, which it cannot from floor 1 or to ceiling 0; "
            "give both plateaus of a curve that falls."
        )


def _require_counts(
    successes: ArrayLike | None, trials: ArrayLike | None, order: NDArray[np.intp]
) -> tuple[Array, Array]:
    """Successes and trials in the order of the sizes."""
    k, m = _numbers("successes", successes), _numbers("trials", trials)
    if m.ndim == 0:
        m = np.full(k.shape, m)
    if k.shape != order.shape or m.shape != order.shape:
        raise DataError(
            f"One count of successes and of trials a size is needed: {len(order)} sizes, "
            f"successes of shape {k.shape}, trials of shape {m.shape}."
        )
    whole = np.isfinite(k) & np.isfinite(m) & (k == np.round(k)) & (m == np.round(m))
    wrong = ~(whole & (k >= 0) & (k <= m) & (m >= 1))
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"Counts are whole numbers, 0 <= successes <= trials and trials >= 1; got {k[i]:g} of "
            f"{m[i]:g}. Leave out sizes without trials."
        )
    return k[order], m[order]


def _require_tables(order: NDArray[np.intp], **tables: ArrayLike | None) -> list[Array]:
    """Tables of replicates by sizes, in the order of the sizes."""
    arrays = {name: _numbers(name, table) for name, table in tables.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    rows = shapes["values"][0] if shapes["values"] else 0
    if set(shapes.values()) != {(rows, len(order))}:
        raise DataError(
            f"Values have a row a replicate and a column a size, here {len(order)}; got "
            f"{', '.join(f'{name} of shape {shape}' for name, shape in shapes.items())}."
        )
    if rows < 3:
        raise DataError(f"A bootstrap interval needs at least 3 replicates, got {rows}.")
    return [array[:, order] for array in arrays.values()]


def _require_threshold(quantile: float | None, level: float | None) -> tuple[float, float]:
    q, target = float(_numbers("quantile", quantile)), float(_numbers("level", level))
    if not (0 < q < 1 and math.isfinite(target)):
        raise ConfigError(
            "quantile is strictly between 0 and 1 and level is finite, got "
            f"quantile={quantile}, level={level}."
        )
    return q, target


# Where to sample next


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What to run next.

    Attributes:
        n: the size.
        replicates: how many of it.
        expected_width: what ln(high/low) should then be; None where it cannot be foreseen.
        reason: why this size and this number.
    """

    n: int
    replicates: int
    expected_width: float | None
    reason: str

    def __str__(self) -> str:
        return f"next: {self.replicates} replicates at n = {self.n} ({self.reason})"


def suggest(onset: Onset) -> Suggestion:
    """The next size, and how many replicates of it, that shrink the interval of n* most.

    With A the information of the present points on (ln n*, ln w) of (1), and J(n) that of one
    replicate more at n,

        (6)  A = diag(0, 1) + sum_i R_i J(n_i),    J(n) = F'(z)² (1/w, z)(1/w, z)^T / v(n)

    the variance of ln n* becomes [(A + R J(n))^-1]_00, on a scale set by the present interval.
    v(n) is the variance of one replicate's position, interpolated between the points' intervals.
    R is the number that halves the interval, at most ten times the present replicates of a size.
    A censored onset is followed beyond the grid by its last step, at most a factor two.

    Args:
        onset: the present estimate.

    Raises:
        DataError: if the criterion is blind, fewer than two sizes have a position, or the onset
            lies before the smallest size there can be.

    Reference:
        Chaloner and Verdinelli 1995, Statistical Science 10, 273, section 2.2 (c-optimality).
    """
    from scipy.special import expit, ndtri

    if onset.blind:
        raise DataError("The criterion is blind: no size helps; choose another criterion.")
    points = [p for p in onset.points if p.low is not None and p.high is not None]
    if len(points) < 2:
        raise DataError("Fewer than two sizes have a position; run sizes that have one first.")
    sizes = np.array([p.n for p in points], dtype=np.float64)
    typical = max(3, int(np.median([p.replicates for p in points])))
    if onset.censored != "no":
        return _beyond(sizes, typical, above=onset.censored == "above")
    if onset.onset is None:
        return _within(onset, points, typical)
    centre = onset.onset
    w = math.exp(_PRIOR_LOG_W) if onset.width is None else onset.width / _LOGISTIC_WIDTH
    sigmas = float(ndtri((1 + onset.confidence) / 2))
    replicates = np.array([p.replicates for p in points], dtype=np.float64)
    halves = np.array([(p.high or 0.0) - (p.low or 0.0) for p in points]) / (2 * sigmas)

    def information(n: Array) -> Array:
        """J of (6) at each n: the elements 00, 01 and 11."""
        z = np.log(n / centre) / w
        variance = np.exp(np.interp(np.log(n), np.log(sizes), np.log(replicates * halves**2)))
        slope = (expit(z) * expit(-z)) ** 2 / variance
        return slope * np.array([np.full_like(z, w**-2), z / w, z**2])

    def spread(information: Array) -> Array:
        """Standard deviation of ln n*."""
        a, b, c = information
        return np.sqrt(c / (a * c - b**2))

    present = (information(sizes) * replicates).sum(1) + np.array([0.0, 0.0, 1.0])
    candidates = np.unique(np.round(np.geomspace(max(2, sizes[0] / 2), 2 * sizes[-1], 241)))
    extra = information(candidates)
    best = int(np.argmin(spread(present[:, None] + typical * extra)))
    numbers = np.arange(1, 10 * typical + 1)
    shrunk = spread(present[:, None] + numbers * extra[:, [best]]) / spread(present[:, None])
    enough = np.flatnonzero(shrunk <= 0.5)
    chosen = int(enough[0]) if len(enough) else len(numbers) - 1
    low, high = onset.low or centre, onset.high or centre
    both = 1 if onset.low is not None and onset.high is not None else 2
    return Suggestion(
        n=int(candidates[best]),
        replicates=int(numbers[chosen]),
        expected_width=float(both * math.log(high / low) * shrunk[chosen]),
        reason="halves the interval" if len(enough) else "ten times the present number, at most",
    )


def _within(onset: Onset, points: list[Point], replicates: int) -> Suggestion:
    """A size inside the grid for an onset that has no number yet."""
    if onset.low is not None and onset.high is not None and onset.high - onset.low > 1:
        n, reason = math.sqrt(onset.low * onset.high), "between the sizes that n* lies between"
    else:
        n = min(points, key=lambda p: abs((p.position or 0.0) - 0.5)).n
        replicates, reason = 4 * replicates, "the nearest to the middle, which is not resolved"
    return Suggestion(n=round(n), replicates=replicates, expected_width=None, reason=reason)


def _beyond(sizes: Array, replicates: int, *, above: bool) -> Suggestion:
    """The next size beyond the grid."""
    near, next_to_it = (sizes[-1], sizes[-2]) if above else (sizes[0], sizes[1])
    step = min(2.0, max(near / next_to_it, next_to_it / near))
    n = max(math.ceil(near * step), near + 1) if above else max(2, math.floor(near / step))
    if n >= near and not above:
        raise DataError(f"The onset lies below n = {near:g} and no smaller size is left to try.")
    side = "beyond the largest size" if above else "before the smallest size"
    return Suggestion(n=int(n), replicates=replicates, expected_width=None, reason=side)


# Rates as others publish them, equation (7)

Law = Literal["logistic", "exponential"]


def read_curve(path: str | Path) -> tuple[Array, Array, Array | None]:
    """Sizes, rates and, where there is such a column, trials of a CSV, TSV or Parquet file.

    Args:
        path: a file with the columns n, rate and perhaps trials, in any order, in small letters or
            capitals; others may hold text.

    Raises:
        DataError: if the file cannot be read, lacks a column or holds anything but numbers there.
    """
    from genonset.tables import read_columns

    table = read_columns(path, ("n", "rate"), also=("trials",))
    return table["n"], table["rate"], table.get("trials")


def curve_onset(
    n: ArrayLike,
    rate: ArrayLike,
    trials: ArrayLike | None = None,
    *,
    law: Law | str = "logistic",
    confidence: float = 0.95,
) -> Onset:
    """The size at which a published rate passes 1/2, by one of the laws (7).

    Args:
        n: sizes, distinct, at least 2.
        rate: shares between 0 and 1 that fall with n (replication) or rise (generalization).
        trials: how many trials each share is of; None where it is not known.
        law: logistic in ln n, or exponential in n, which only falls.
        confidence: probability with which the interval covers.

    Returns:
        n* with its interval; position 0 is rate 1 of a falling curve, rate 0 of a rising one.

    Raises:
        DataError: for rates that are no shares, or that neither rise nor fall.
        ConfigError: for an unknown law, or the exponential law of a rising curve.

    Reference:
        Feng, Guo, Benitez-Quiroz and Martinez 2021, ICCV, for the exponential law of replication;
        McCullagh and Nelder 1989, Generalized Linear Models, section 4.5, for phi.
    """
    require_confidence(confidence)
    if law not in ("logistic", "exponential"):
        raise ConfigError(f"law is {law!r}; logistic and exponential are known.")
    sizes, order = _require_sizes(n)
    shares = _numbers("rate", rate)
    if shares.shape != sizes.shape or not ((shares >= 0) & (shares <= 1)).all():
        raise DataError(
            f"One rate between 0 and 1 a size is needed, got {_listed(np.atleast_1d(shares))}. "
            "Divide percentages by 100, and counts by their number of trials."
        )
    weights = np.ones(len(sizes)) if trials is None else _numbers("trials", trials)
    weights = np.broadcast_to(weights, sizes.shape) if weights.ndim == 0 else weights
    if weights.shape != sizes.shape or not (np.isfinite(weights) & (weights >= 1)).all():
        raise DataError(f"One number of trials >= 1 a size is needed, got {_listed(weights)}.")
    shares, weights, x = shares[order], weights[order], np.log(sizes)
    trend = float(np.sum(weights * (x - np.average(x, weights=weights)) * shares))
    if trend == 0 or np.ptp(shares) == 0:
        raise DataError("The rates neither rise nor fall with n, so that they cross nothing.")
    falls = trend < 0
    if law == "exponential" and not falls:
        raise ConfigError("The exponential law is one of falling rates, and these rise with n.")
    position = 1 - shares if falls else shares
    return _from_rates(sizes, position, weights, trials is not None, falls, law, confidence)


def _from_rates(
    sizes: Array,
    position: Array,
    weights: Array,
    counted: bool,
    falls: bool,
    law: Law,
    confidence: float,
) -> Onset:
    """Onset of a rate by the profile of its likelihood on a grid, refined at the maximum."""
    from scipy.optimize import minimize
    from scipy.special import chdtrc, chdtri, fdtri, xlogy

    x = np.log(sizes)
    centres = np.linspace(x[0] - 3, x[-1] + 3, 801)
    reach = (0.02, 20.0) if law == "logistic" else (sizes[0] / 50, 50 * sizes[-1])
    scales = np.linspace(math.log(reach[0]), math.log(reach[1]), 81)

    def loss(centre: Array, scale: Array) -> Array:
        p = np.clip(_law_position(law, sizes, centre, scale), 1e-12, 1 - 1e-12)
        return -(weights * (position * np.log(p) + (1 - position) * np.log1p(-p))).sum(-1)

    surface = loss(centres[:, None, None], scales[:, None])
    row, column = np.unravel_index(np.argmin(surface), surface.shape)
    start = np.array([centres[row], scales[column]])
    refined = minimize(lambda t: float(loss(t[0], t[1])), start, method="Nelder-Mead")
    best, least = (
        (refined.x, refined.fun) if refined.fun < surface.min() else (start, surface.min())
    )
    saturated = -(weights * (xlogy(position, position) + xlogy(1 - position, 1 - position))).sum()
    deviance, degrees = max(0.0, 2 * (least - saturated)), len(sizes) - 2
    notes = []
    if counted:
        misfit = degrees > 0 and chdtrc(degrees, deviance) < 0.01
        drop = float(chdtri(1, 1 - confidence)) / 2 * (deviance / degrees if misfit else 1.0)
        if misfit:
            notes.append(f"the {law} law does not fit; the interval allows for its misfit")
    elif degrees > 0:
        drop = float(fdtri(1, degrees, confidence)) / 2 * deviance / degrees
        notes.append("no trials are known: the interval rests on the scatter about the law alone")
    else:
        drop = math.inf
        notes.append("two rates without trials allow no interval")
    if (np.diff(position) < 0).any():
        notes.append("the rates are not monotone")
    within = np.append(centres[surface.min(1) - least <= drop], best[0])
    step = centres[1] - centres[0]  # the ends lie at most that far beyond the last within
    low, high = within.min() - step, within.max() + step
    censored: Censored = "above" if best[0] > x[-1] else "below" if best[0] < x[0] else "no"
    located = _Located(
        onset=math.exp(best[0]) if censored == "no" else None,
        low=math.exp(min(low, x[-1])) if low > x[0] else None,
        high=math.exp(max(high, x[0])) if high < x[-1] else None,
        width=_law_width(law, best) if censored == "no" else None,
        censored=censored,
    )
    points = [
        _point(size, [p, math.nan, math.nan], 1) for size, p in zip(sizes, position, strict=True)
    ]
    if counted:
        points = _share_points(sizes, position * weights, weights, 0.0, 1.0, confidence)
    return _finish(
        located,
        confidence=confidence,
        crossing=f"rate = 0.5, {law} law",
        floor=float(falls),
        ceiling=float(not falls),
        points=points,
        notes=notes,
    )


def _law_position(law: Law, sizes: Array, centre: Array, scale: Array) -> Array:
    """Position of (7): 1 less the rate that falls."""
    from scipy.special import expit

    with np.errstate(over="ignore"):
        if law == "logistic":
            return expit((np.log(sizes) - centre) / np.exp(scale))
        return 1 - np.minimum(1.0, 0.5 * np.exp((np.exp(centre) - sizes) / np.exp(scale)))


def _law_width(law: Law, best: Array) -> float | None:
    """ln n between positions 0.1 and 0.9; None where the exponential law starts beyond 0.1."""
    if law == "logistic":
        return _LOGISTIC_WIDTH * math.exp(best[1])
    n, w = math.exp(best[0]), math.exp(best[1])
    first, last = n - w * math.log(1.8), n + w * math.log(5)
    return math.log(last / first) if first > 0 else None


# Scaling with dimension, or another measure of the size of a problem, equations (8) and (9)


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How the onset grows with a scale d: a dimension, a rank, a number of parameters.

    Attributes:
        exponent: a in n* ~ d^a.
        low, high: ends of its interval; None where it has none.
        sharpening: c of (8), the curve in ln n narrows like d^-c; None for (9).
        deviance: twice what a curve (8), or line (9), through every point would gain.
        degrees: number of points less number of parameters.
        inflation: deviance over degrees where the law does not fit (p < 0.01), else 1.
        linear_loss: log likelihood that a = 1 loses.
        linear_p_value: of the likelihood ratio, scaled by `inflation`.
        confidence: of the interval.
    """

    exponent: float
    low: float | None
    high: float | None
    sharpening: float | None
    deviance: float
    degrees: int
    inflation: float
    linear_loss: float
    linear_p_value: float
    confidence: float

    def sentence(self, scale: str = "d") -> str:
        """The result in words, the scale by its name."""
        what = "the onsets alone:" if self.sharpening is None else "one curve for all:"
        fits = "fits" if self.inflation == 1 else "does not fit"
        return (
            f"{what} n* ~ {scale}^a, a = {bracket(self.exponent, self.low, self.high)}; a = 1 "
            f"loses {self.linear_loss:.3g} nats (p = {self.linear_p_value:.2g}); {fits}: "
            f"deviance {self.deviance:.3g} on {self.degrees} degrees of freedom"
        )

    def __str__(self) -> str:
        return self.sentence()


def fit_scaling(
    scale: ArrayLike,
    n: ArrayLike,
    successes: ArrayLike | None = None,
    trials: ArrayLike | None = None,
    *,
    positions: ArrayLike | None = None,
    errors: ArrayLike | None = None,
    ceiling: float = 1.0,
    confidence: float = 0.95,
) -> Scaling:
    """Fit one curve to shares, or to positions, at several scales d,

        (8)  p = ceiling Phi(S (d/d_0)^c (ln n - a ln d - b)),

    by maximum likelihood: binomial for shares, Gaussian with the given errors for positions.

    Args:
        scale: d of each point, at least two different ones.
        n: size of each point.
        successes: successes of each share.
        trials: trials of each share, or one number for all.
        positions: of a criterion between its poles (3), in place of shares.
        errors: the standard error of each.
        ceiling: value where nothing is memorized; 1/2 for shares of the size-matched delta.
        confidence: probability with which the interval covers.

    Raises:
        ConfigError: for neither shares nor positions, or both.
        DataError: for fewer than two scales, or counts that are no counts.

    Reference: theory note (G5); Fisher and Barber 1972, Phys. Rev. Lett. 28, 1516.
    """
    from scipy.optimize import brentq, minimize
    from scipy.special import chdtrc, chdtri, log_ndtr, xlogy

    require_confidence(confidence)
    d, sizes = _require_scales(scale, n)
    if not 0 < ceiling <= 1:
        raise ConfigError(f"ceiling is a share above 0 and at most 1, got {ceiling}.")
    counted = successes is not None and trials is not None
    if counted == (positions is not None and errors is not None):
        raise ConfigError("fit_scaling takes successes and trials, or positions and errors.")
    x, log_d = np.log(sizes), np.log(d)
    log_d -= log_d.mean()
    if counted:
        k, m = _require_counts(successes, trials, np.arange(len(d)))

        def misfit(p: Array) -> float:
            p = np.clip(p, 1e-300, 1.0)
            return -float((xlogy(k, p) + xlogy(m - k, np.maximum(1 - p, 1e-300))).sum())

        saturated = misfit(k / m)
    else:
        y, e = _numbers("positions", positions), _numbers("errors", errors)
        if not (y.shape == e.shape == d.shape and np.isfinite(y).all() and (e > 0).all()):
            raise DataError("Every point needs a finite position and an error above 0.")

        def misfit(p: Array) -> float:
            return float((((p - y) / e) ** 2).sum()) / 2

        saturated = 0.0

    def loss(theta: Array, a: float | None = None) -> float:
        slope, rest = (theta[0], theta[1:]) if a is None else (a, theta)
        with np.errstate(over="ignore"):
            z = np.exp(rest[1] + rest[2] * log_d) * (x - slope * log_d - rest[0])
        return misfit(ceiling * np.exp(log_ndtr(z)))

    def least(start: Array, a: float | None = None) -> tuple[float, Array]:
        options = {"maxiter": 8000, "maxfev": 8000, "xatol": 1e-7, "fatol": 1e-9}
        found = minimize(loss, start, args=(a,), method="Nelder-Mead", options=options)
        again = minimize(loss, found.x, args=(a,), method="Nelder-Mead", options=options)
        return float(again.fun), again.x

    grid = [np.array([a, b, s, 0.0]) for a in np.linspace(-4, 4, 33)
            for b in np.quantile(x, [0.2, 0.4, 0.6, 0.8]) for s in (-0.5, 0.5, 1.5)]  # fmt: skip
    starts = sorted(grid, key=loss)[:4]
    best, theta = min((least(start) for start in starts), key=lambda found: found[0])
    deviance, degrees = max(0.0, 2 * (best - saturated)), len(d) - 4
    inflation = deviance / degrees if degrees > 0 and chdtrc(degrees, deviance) < 0.01 else 1.0
    drop = inflation * float(chdtri(1, 1 - confidence)) / 2

    def excess(a: float) -> float:
        return least(theta[1:], a)[0] - best - drop

    ends: list[float | None] = []
    for side in (-1, 1):
        inner, outer = 0.0, 0.05
        while excess(theta[0] + side * outer) < 0 and outer < 4:
            inner, outer = outer, 2 * outer
        found = math.nan
        if outer < 4:
            found = brentq(excess, theta[0] + side * inner, theta[0] + side * outer, xtol=1e-4)
        ends.append(found if isinstance(found, float) and math.isfinite(found) else None)
    linear = max(0.0, least(theta[1:], 1.0)[0] - best)
    return Scaling(
        exponent=float(theta[0]),
        low=ends[0],
        high=ends[1],
        sharpening=float(theta[3]),
        deviance=deviance,
        degrees=degrees,
        inflation=inflation,
        linear_loss=linear,
        linear_p_value=float(chdtrc(1, 2 * linear / inflation)),
        confidence=confidence,
    )


def fit_onset_scaling(
    scale: ArrayLike, onsets: Sequence[Onset], *, confidence: float = 0.95
) -> Scaling:
    """The slope of the onsets themselves, whatever the shape of their curves,

        (9)  ln n*_i = a ln d_i + b + e_i,    e_i ~ N(0, s_i²),

    with s_i from the interval of n*_i. Onsets that are censored, or have no interval, are left
    out.

    Args:
        scale: d of each onset, at least two different ones among those that are used.
        onsets: one a scale.
        confidence: probability with which the interval covers; Student's where (9) does not fit.

    Raises:
        DataError: if fewer than two scales have an onset with an interval.
    """
    from scipy.special import chdtrc, fdtrc, fdtri, ndtri

    require_confidence(confidence)
    spreads = np.array([_log_error(onset, ndtri((1 + onset.confidence) / 2)) for onset in onsets])
    used = np.isfinite(spreads)
    sizes = [onset.onset or math.nan for onset in onsets]
    d = _numbers("scale", scale)[used]
    d, n = _require_scales(d, np.array(sizes)[used])
    weights = spreads[used] ** -2.0
    x, y = (np.log(v) - np.average(np.log(v), weights=weights) for v in (d, n))
    information = float((weights * x**2).sum())
    slope = float((weights * x * y).sum()) / information
    deviance, degrees = float((weights * (y - slope * x) ** 2).sum()), len(d) - 2
    inflation = deviance / degrees if degrees > 0 and chdtrc(degrees, deviance) < 0.01 else 1.0
    scatter = degrees if inflation > 1 else math.inf  # degrees of freedom of the errors' size
    drop = float(ndtri((1 + confidence) / 2) ** 2)
    if scatter < math.inf:
        drop = float(fdtri(1, scatter, confidence))
    reach = math.sqrt(inflation * drop / information)
    linear = (slope - 1) ** 2 * information / 2
    p_value = chdtrc(1, 2 * linear)
    if scatter < math.inf:
        p_value = fdtrc(1, scatter, 2 * linear / inflation)
    return Scaling(
        exponent=slope,
        low=slope - reach,
        high=slope + reach,
        sharpening=None,
        deviance=deviance,
        degrees=degrees,
        inflation=inflation,
        linear_loss=linear,
        linear_p_value=float(p_value),
        confidence=confidence,
    )


def _log_error(onset: Onset, sigmas: float) -> float:
    """Standard error of ln n* by its interval; NaN where there is none."""
    if onset.onset is None or (onset.low is None and onset.high is None):
        return math.nan
    both = 1 if onset.low is None or onset.high is None else 2
    low, high = onset.low or onset.onset, onset.high or onset.onset
    return max(math.log(high / low) / both / sigmas, 1e-6)


def _require_scales(scale: ArrayLike, n: ArrayLike) -> tuple[Array, Array]:
    """The scale and the size of every point."""
    d, sizes = _numbers("scale", scale), _numbers("n", n)
    if d.ndim != 1 or d.shape != sizes.shape or len(np.unique(d)) < 2 or not (d > 0).all():
        raise DataError(
            "Scaling needs a scale above 0 (a dimension, a rank) and a size for every point, and "
            f"at least two different scales; got {_listed(np.unique(d)) or 'none'}."
        )
    return d, sizes
