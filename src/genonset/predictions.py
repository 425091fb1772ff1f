"""What the theory says of a sweep: the curve of each criterion, and where it crosses over.

A prediction belongs to a measurement: a source with a Gaussian law, a model and its noise. Of the
linear one-step model with one noise draw, on a C of full rank, every criterion of

    affinity_rate, kl_to_source, bures_wasserstein, spread_ratio, log_likelihood_gap   means
    kl_from_source                                                                     median

is known for any spectrum, start and ridge (`one_step`), of a singular C the third to the fifth;
what is left out is of order 1/d. Measured from d = 8 on it is up to

    (1)  a quarter of the scatter between runs

near n* = d + sum u_i, where KL(generated || true) is interpolated, and mostly below a tenth
elsewhere. A comparison allows (1) beside the error of the measurement. The collapse time of the
training set, (D2), is a limit of large d that comes 4 to 13 % too early at d = 100 to 16. For the
published delta there is a heuristic alone, which is drawn as one and never judged.

The predicted onset is where the predicted median curve does what the measured one is asked for:
comes within a factor 2 of its floor, is half way between the measured poles, or changes sign.
"""

import functools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from genonset import distances, one_step, theory
from genonset.criteria import CRITERIA
from genonset.equivalents import Array, Regression
from genonset.experiment import floor_values
from genonset.noise import NoiseProcess, at_horizon
from genonset.onset import Censored, Onset
from genonset.spec import Measurement

Kind = Literal["theory", "limit", "heuristic"]


class Form(NamedTuple):
    """How a criterion is predicted.

    Attributes:
        kind: theory to order 1/d, a limit of large d, or a heuristic.
        statistic: of the runs at one n.
        share: by which a limit may be off.
    """

    kind: Kind
    statistic: str
    share: float = 0.0


FORMS: dict[str, Form] = {
    "delta": Form("heuristic", "median"),
    "affinity_rate": Form("theory", "mean"),
    "kl_to_source": Form("theory", "mean"),
    "kl_from_source": Form("theory", "median"),
    "bures_wasserstein": Form("theory", "mean"),
    "spread_ratio": Form("theory", "mean"),
    "log_likelihood_gap": Form("theory", "mean"),
    "collapse_time": Form("limit", "median", 0.2),
}
_APART = ("log_likelihood_gap", "delta")
SCATTER = 0.25
"""Equation (1), in standard deviations of a run."""


@dataclass(frozen=True, kw_only=True)
class PredictedOnset:
    """Where the predicted curve crosses over.

    Attributes:
        onset: n*; None where it lies beyond what was searched, or where nothing is predicted.
        kind: what the prediction is.
        note: what was searched, or how rough it is.
        censored: on which side of what was searched it lies.
    """

    onset: float | None
    kind: Kind
    note: str
    censored: Censored = "no"

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        word = "predicted" if self.kind == "theory" else f"{self.kind}:"
        return self.note if self.onset is None else f"{word} {self.onset:.4g}"

    def within(self, measured: Onset) -> bool | None:
        """Whether it lies in the measured interval; None where that says nothing.

        An end that the runs do not bound is open.
        """
        ends = (measured.low, measured.high)
        if measured.blind or (measured.censored == "no" and ends == (None, None)):
            return None
        if self.onset is None:
            if "no" in (self.censored, measured.censored):
                ends = {"below": measured.low is None, "above": measured.high is None}
                return ends.get(self.censored)
            return measured.censored == self.censored
        if ends == (None, None):
            sizes = [p.n for p in measured.points]
            above = measured.censored == "above"
            return self.onset > sizes[-1] if above else self.onset < sizes[0]
        low = 0.0 if measured.low is None else measured.low
        high = math.inf if measured.high is None else measured.high
        return low <= self.onset <= high


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The predicted curves of one measurement.

    Attributes:
        names: the criteria that are predicted.
        model: the regression behind them; None where only the collapse time is known.
    """

    names: tuple[str, ...]
    measurement: Measurement
    eigenvalues: Array
    model: Regression | None
    _known: dict[str, one_step.Table] = field(default_factory=dict, repr=False)

    def values(self, name: str, sizes: ArrayLike) -> Array:
        """The statistic of `FORMS` at sizes n; NaN where nothing is predicted."""
        return self._curve(name, sizes, FORMS[name].statistic)

    def medians(self, name: str, sizes: ArrayLike) -> Array:
        """What half of the runs lie below."""
        return self._curve(name, sizes, "median")

    def _curve(self, name: str, sizes: ArrayLike, statistic: str) -> Array:
        n = [float(one) for one in np.atleast_1d(sizes)]
        if name == "collapse_time":
            return np.array([self._collapse_time(one) for one in n])
        table = self._known.setdefault(name if name in _APART else "", {})
        new = [one for one in dict.fromkeys(n) if one not in table]
        if new:
            self._compute(name, new, table)
        return np.array([_statistic(name, table[one][name], statistic) for one in n])

    def _compute(self, name: str, sizes: list[float], table: one_step.Table) -> None:
        """What is predicted at new sizes, all of them at once."""
        assert self.model is not None
        models = [replace(self.model, n=n) for n in sizes]
        with np.errstate(all="ignore"):
            if name == "log_likelihood_gap":
                found = one_step.likelihood_gap(models, [self._width(n) for n in sizes])
            elif name == "delta":
                found = one_step.delta_log_ratio(
                    models, self.measurement.n_original or 10_000, self._std
                )
            else:
                one_step.criteria(self.model, sizes, table)
                return
        table |= {n: {name: one_step.Moments(v)} for n, v in zip(sizes, found, strict=True)}

    @property
    def _std(self) -> float:
        return math.sqrt(float(self.eigenvalues.mean()))

    def _width(self, n: float) -> float:
        rule = self.measurement.bandwidth
        if not isinstance(rule, str):
            return rule
        name = "paper" if rule == "shared" else rule
        return distances.kernel_bandwidth(name, round(n), len(self.eigenvalues), self._std)

    def _collapse_time(self, n: float) -> float:
        """(D2) on the clock of the noise, which need not be Ornstein-Uhlenbeck."""
        noise = self.measurement.model.noise.build()  # pyright: ignore[reportAttributeAccessIssue]
        spectrum = self.eigenvalues[self.eigenvalues > 0]
        clock = math.expm1(2 * float(theory.collapse_time(n, spectrum=spectrum)))
        return _time_of(noise, math.sqrt(clock))

    # -- onsets ----------------------------------------------------------------------------

    def onset(
        self, name: str, sizes: Sequence[int], poles: tuple[Array, Array] | None = None
    ) -> PredictedOnset | None:
        """Where the predicted curve crosses over.

        Args:
            name: a criterion.
            sizes: of the run; quality criteria are searched up to 16 times the largest.
            poles: mean of the memorizer and of the oracle at the sizes, for the likelihood gap.

        Returns:
            None where nothing is predicted of this criterion.
        """
        if name not in self.names or CRITERIA[name].axis == "training":
            return None
        kind = FORMS[name].kind
        if name == "delta":
            note = "heuristic, 0.4 to 3.6 times the measured n* at d = 8 to 256"
            found = _crossing(lambda n: -self.values(name, n), sizes, reach=4.0)
        elif name == "log_likelihood_gap":
            if poles is None:
                return None
            note = "between the measured poles"
            found = _crossing(lambda n: self._position(n, sizes, poles), sizes, reach=1.0)
        else:
            note = "a factor 2 from the floor"
            floor = floor_values(self.measurement).get(name)
            if not floor:
                return None
            found = _crossing(
                lambda n: math.log(2) - np.abs(np.log(self.medians(name, n) / floor)), sizes
            )
        if name == "affinity_rate" and not found >= 1.3 * len(self.eigenvalues) + 2:
            # 0 up to n = d, exactly, and near its floor from there on
            found, note = len(self.eigenvalues) + 0.5, "the law is singular up to n = d"
        if math.isnan(found):
            near = "not predicted: the curve crosses near n = d, where no mean is typical"
            return PredictedOnset(onset=None, kind=kind, note=near)
        if found == -math.inf:
            below = f"predicted below n = {sizes[0]}"
            return PredictedOnset(onset=None, kind=kind, note=below, censored="below")
        if found == math.inf:
            above = "predicted beyond the sizes searched"
            return PredictedOnset(onset=None, kind=kind, note=above, censored="above")
        return PredictedOnset(onset=found, kind=kind, note=note)

    def _position(self, n: Array, sizes: Sequence[int], poles: tuple[Array, Array]) -> Array:
        """Position of the predicted gap between the measured poles, less 1/2."""
        gap = self.values("log_likelihood_gap", n)
        low, high = (np.interp(np.log(n), np.log(sizes), pole) for pole in poles)
        return (gap - low) / (high - low) - 0.5


def _statistic(name: str, moments: one_step.Moments, statistic: str) -> float:
    mean, variance = moments
    if name != "bures_wasserstein":
        return moments.median if statistic == "median" else mean
    if not mean > 0:
        return math.nan
    middle = math.sqrt(moments.median)
    return middle if statistic == "median" else math.sqrt(mean) * (1 - variance / (8 * mean**2))


def _crossing(
    rising: Callable[[Array], Array], sizes: Sequence[int], *, reach: float = 16.0
) -> float:
    """Where a curve that is positive on the generalizing side rises through 0 for the last time.

    Where nothing is predicted, as near n = d, the curve counts as negative.

    Returns:
        n; inf where it is negative at the end, -inf where it is nowhere, NaN where it rises out of
        a gap in which nothing is predicted.
    """
    gaps = set()
    grid = [float(n) for n in sizes if n > 2]
    step = 1.4
    while grid[-1] * step < reach * sizes[-1]:
        grid.append(math.ceil(grid[-1] * step))

    def side(n: float) -> float:
        with np.errstate(all="ignore"):
            value = float(rising(np.array([n]))[0])
        if math.isnan(value):
            gaps.add(n)
            return -1.0
        return value

    known: list[tuple[float, float]] = [(n, side(n)) for n in grid[: len(sizes)]]
    for n in grid[len(sizes) :]:
        if known[-1][1] > 0 and known[-2][1] > 0:
            break
        known.append((n, side(n)))
    below = [k for k, (_, value) in enumerate(known) if value <= 0]
    if not below:
        return -math.inf
    if below[-1] == len(known) - 1:
        return math.inf
    (low, one), (high, other) = known[below[-1]], known[below[-1] + 1]
    for turn in range(12):
        inner = turn % 3 < 2 and math.isfinite(one) and one != -1.0
        share = one / (one - other) if inner else 0.5
        middle = math.exp(math.log(low) + share * math.log(high / low))
        value = side(middle)
        if abs(value) < 1e-4:
            return middle
        if value <= 0:
            low, one = middle, value
        else:
            high, other = middle, value
        if high / low < 1.0005:
            break
    return math.nan if low in gaps else math.sqrt(low * high)


def _time_of(noise: NoiseProcess, ratio: float) -> float:
    """When sigma/alpha reaches a ratio; the horizon where it does not."""
    import torch

    def at(t: float) -> float:
        time = torch.tensor(t, dtype=torch.float64)
        return float(noise.sigma(time)) / float(noise.alpha(time))

    low, high = 0.0, float(noise.horizon)
    if at(high) <= ratio:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle) < ratio else (low, middle)
    return (low + high) / 2


def predictions(at: Measurement) -> Predictions | None:
    """What is predicted of a measurement; None where nothing is. Kept for the next call."""
    return _predictions(json.dumps(at.model_dump(mode="json"), sort_keys=True))


@functools.lru_cache(maxsize=64)
def _predictions(measurement: str) -> Predictions | None:
    at = Measurement.model_validate_json(measurement)
    noise = getattr(at.model, "noise", None)
    if at.source.kind != "gaussian" or noise is None:
        return None
    values = at.source.build().eigenvalues.numpy()
    alpha, sigma = at_horizon(noise.build())
    names, model = {"collapse_time"}, None
    noisy = alpha > 0 and sigma > 0
    values = np.where(values > 1e-12 * values.max(), values, 0.0)
    full = bool(values.min() > 0)
    if at.model.kind == "linear_one_step" and at.model.n_noise_draws == 1 and noisy:
        own, counts = one_step.spectrum(values)
        model = Regression(
            values=own, counts=counts, alpha=alpha, sigma=sigma, n=3.0,
            ridge=at.model.ridge, start=at.model.start,
        )  # fmt: skip
        names |= set(one_step.CRITERIA if full else one_step.FINITE) | {"log_likelihood_gap"}
        names -= {"log_likelihood_gap"} if at.bandwidth == "cross_validated" else set()
        names |= {"delta"} if at.bandwidth == "paper" and full else set()
    known = tuple(name for name in FORMS if name in names and name in at.measured)
    if not known:
        return None
    return Predictions(names=known, measurement=at, eigenvalues=values, model=model)
