"""A number with its interval, and the exact p-value of a label permutation.

A share of k successes in m trials has the score interval of Wilson, z the normal quantile:

    (1)  (k + z²/2 ± z sqrt(k (m - k)/m + z²/4)) / (m + z²)

Any other statistic has a bootstrap interval: the empirical quantiles, over resamples of the rows,
at the *expanded* levels

    (2)  alpha' = Phi(-sqrt(m/(m - 1)) t_{m-1}(1 - alpha)),    alpha = (1 - confidence)/2

which for a mean make up for the two reasons why a plain percentile interval is too short at small
m: the resamples vary by (m - 1)/m of the variance, and that variance is itself estimated.

A label test draws a subset A of `n_chosen` of N items at random and sums their counts,
S = sum_{i in A} c_i. Give each item an independent Bernoulli(p) label, p = n_chosen/N: given the
number of labelled items the labelled set is uniform, whatever p, so

    (3)  P(S >= s) = P(sum >= s, size = n_chosen) / P(size = n_chosen)

and the pair (size, sum) is an independent sum over groups of items of equal count, each a
binomial number of items. The zeros and the largest other group enter in closed form, the rest by
convolution. Every term is positive and none exceeds one, so that a small p-value keeps its
relative accuracy.

In a balanced nested design y = mean + a_i + b_ij + c_ijk + ..., each level drawn anew within every
draw of the one above it, the variances of a, b, c, ... follow from the mean squares

    (4)  MS_k = (values a group) sum (group mean - mean of its outer group)² / degrees of freedom
         E MS_k = sum_(l >= k) (values a group of l) variance_l

from the innermost level outwards. The differences are unbiased for any law, and may be negative.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genonset.errors import ConfigError, DataError

Array = NDArray[np.float64]
_BLOCK = 1 << 22  # elements of one block of resampled values: 32 MiB of float64


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval.

    >>> print(Estimate(value=0.3123, low=0.2711, high=0.3591, confidence=0.95))
    0.31 [0.27, 0.36]
    """

    value: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        return bracket(self.value, self.low, self.high)


def bracket(value: float, low: float | None, high: float | None) -> str:
    """Write a number and its interval with the digits that its width deserves.

    An end that does not exist (None) is written "..".

    >>> bracket(31.4, 27.1, None)
    '31 [27, ..]'
    """
    lower, upper = value if low is None else low, value if high is None else high
    width = (upper - lower) * (2 if None in (low, high) else 1)
    decimals = max(0, math.ceil(math.log10(5 / width))) if 0 < width < math.inf else None
    style = ".4g" if decimals is None else f".{decimals}f"
    centre, left, right = (".." if x is None else f"{x:{style}}" for x in (value, low, high))
    return f"{centre} [{left}, {right}]"


def percent(share: float | None) -> str:
    """A share in words."""
    if share is None or math.isnan(share):
        return "none"
    if 0 < share < 0.001:
        return "under 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def p_text(p_value: float | None) -> str:
    """A p-value in two digits."""
    if p_value is None:
        return "none"
    return "< 1e-300" if p_value == 0 else f"{p_value:.2g}"


def require_confidence(confidence: float) -> float:
    """Return `confidence` unchanged, or refuse what is not strictly between 0 and 1.

    Raises:
        ConfigError: unless 0 < confidence < 1.
    """
    if not 0 < confidence < 1:
        raise ConfigError(
            f"confidence is a share strictly between 0 and 1, for example 0.95; got {confidence}."
        )
    return confidence


def wilson(successes: float, trials: float, *, confidence: float = 0.95) -> Estimate:
    """Share of successes with its score interval, equation (1).

    Args:
        successes: k, from 0 to m.
        trials: m, at least 1.
        confidence: probability with which the interval covers.

    Returns:
        k/m; the interval lies in [0, 1] and has a positive width even at k = 0 and k = m.

    Raises:
        DataError: unless 0 <= k <= m and m >= 1.

    Reference:
        Wilson 1927, JASA 22, 209, his inequality for the true share.
    """
    from scipy.special import ndtri

    require_confidence(confidence)
    k, m = float(successes), float(trials)
    if not (m >= 1 and 0 <= k <= m):
        raise DataError(
            f"A share needs 0 <= successes <= trials and trials >= 1, got {successes} of {trials}."
        )
    z = float(ndtri((1 + confidence) / 2))
    centre, half = k + z**2 / 2, z * math.sqrt(k * (m - k) / m + z**2 / 4)
    low = 0.0 if k == 0 else (centre - half) / (m + z**2)
    high = 1.0 if k == m else (centre + half) / (m + z**2)
    return Estimate(value=k / m, low=low, high=high, confidence=confidence)


def expanded_levels(n_rows: int, confidence: float) -> tuple[float, float]:
    """Lower and upper quantile levels of a bootstrap interval, equation (2).

    Reference:
        Hesterberg 2015, The American Statistician 69, 371, section 5.3.
    """
    from scipy.special import ndtr, stdtrit

    t = float(stdtrit(n_rows - 1, (1 + confidence) / 2))
    alpha = float(ndtr(-math.sqrt(n_rows / (n_rows - 1)) * t))
    return alpha, 1 - alpha


def resampled_rows(n_rows: int, n_resamples: int, seed: int) -> NDArray[np.intp]:
    """Row numbers of bootstrap resamples, shape (n_resamples, n_rows)."""
    return np.random.default_rng(seed).integers(n_rows, size=(n_resamples, n_rows))


def bootstrap(
    values: ArrayLike,
    statistic: Callable[..., Any] = np.mean,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """A statistic with its bootstrap interval over the first axis, equation (2).

    Args:
        values: shape (m, ...); the m rows are independent and are drawn whole.
        statistic: maps an array like `values` to one number. Where it has an argument `axis`,
            all resamples are evaluated at once.
        confidence: probability with which the interval covers.
        n_resamples: number of resamples.
        seed: of the resamples.

    Raises:
        DataError: with fewer than 3 rows, or with values that are not finite.

    Reference:
        Efron and Tibshirani 1993, chapter 13; Hesterberg 2015 for the levels.
    """
    require_confidence(confidence)
    data = np.asarray(values, dtype=np.float64)
    if data.ndim == 0 or len(data) < 3:
        raise DataError(f"A bootstrap needs at least 3 rows, got shape {data.shape}.")
    if not np.isfinite(data).all():
        raise DataError(
            f"A bootstrap takes finite values, got {int((~np.isfinite(data)).sum())} that are NaN "
            "or infinite; remove these rows."
        )
    rows = resampled_rows(len(data), n_resamples, seed)
    if "axis" in inspect.signature(statistic).parameters:
        blocks = np.array_split(rows, 1 + rows.size * data[0].size // _BLOCK)
        drawn = np.concatenate([statistic(data[block], axis=1) for block in blocks])
        value = statistic(data, axis=0)
    else:
        drawn = np.array([statistic(data[row]) for row in rows])
        value = statistic(data)
    if np.ndim(value) != 0 or drawn.shape != (n_resamples,):
        raise DataError(
            f"A bootstrap needs a statistic that is one number, got shape {np.shape(value)} for "
            f"values of shape {data.shape}."
        )
    low, high = np.quantile(drawn, expanded_levels(len(data), confidence))
    return Estimate(value=float(value), low=float(low), high=float(high), confidence=confidence)


def variance_components(
    values: ArrayLike, *, confidence: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> list[Estimate]:
    """The variance that each level of a balanced nested design adds, equation (4).

    Args:
        values: one axis a level, outermost first, each at least 2 long; along an axis the draws of
            that level and of all further ones are new within every index of the axes before it.
        confidence: probability with which an interval covers.
        n_resamples: of the outermost level, whose draws are resampled whole.
        seed: of the resamples.

    Returns:
        one estimate a level, unbiased and therefore sometimes negative; the interval of the first
        is a bootstrap of a variance, too short where its draws are few.

    Raises:
        DataError: without values, with an axis shorter than 2, with fewer than 3 outermost draws,
            or with values that are not finite.

    Reference:
        Searle, Casella and McCulloch 1992, Variance Components, chapter 3, balanced nested data.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim == 0 or data.shape[0] < 3 or min(data.shape) < 2:
        raise DataError(
            f"A nested design needs at least 3 outermost draws and 2 at every further level, got "
            f"shape {data.shape}."
        )

    def component(level: int) -> Callable[..., Array]:
        return lambda rows, axis: _components(rows, axis)[level]

    options: dict[str, Any] = {"confidence": confidence, "n_resamples": n_resamples, "seed": seed}
    return [bootstrap(data, component(level), **options) for level in range(data.ndim)]


def _components(data: Array, first: int) -> list[Array]:
    """Equation (4) along the axes from `first` on; those before it are kept."""
    sizes = data.shape[first:]
    found: list[Array] = []
    square, means = np.zeros(data.shape[:first]), data
    for level in reversed(range(len(sizes))):
        axes = tuple(range(first, first + level + 1))
        group = math.prod(sizes[level + 1 :])
        outer = means.mean(first + level, keepdims=True)
        freedom = math.prod(sizes[:level]) * (sizes[level] - 1)
        mean_square = group * ((means - outer) ** 2).sum(axes) / freedom
        found.append((mean_square - square) / group)
        square, means = mean_square, outer.squeeze(first + level)
    return found[::-1]


def subset_sum_tail(counts: ArrayLike, n_chosen: int, observed: float) -> float:
    """Exact P(S >= observed), S the sum of counts over a random subset, equation (3).

    Args:
        counts: N whole numbers, none negative.
        n_chosen: size of the subset; all subsets of this size are equally likely.
        observed: the sum that was seen.

    Returns:
        The one-sided p-value; its relative accuracy holds however small it is.

    Raises:
        DataError: if counts are not whole and non-negative, or n_chosen is not in 0 ... N.

    Reference:
        Fisher 1935, The Design of Experiments, section 21; the p-value of the label test.
    """
    numbers = _require_counts(counts, n_chosen)
    n_items = len(numbers)
    if n_chosen in (0, n_items):
        return float((numbers.sum() if n_chosen else 0) >= observed)
    p = n_chosen / n_items
    sizes = dict(zip(*np.unique(numbers[numbers > 0], return_counts=True), strict=True))
    zeros = _binomial(int(n_items - sum(sizes.values())), p)
    last = max(sizes, key=lambda count: sizes[count], default=1)
    final = _binomial(int(sizes.pop(last, 0)), p)
    groups = {int(count): _binomial(int(size), p) for count, size in sizes.items()}
    joint, sums = _size_and_sum(groups, n_chosen)
    taken, j = np.arange(len(joint))[:, None], np.arange(len(final))
    left = n_chosen - taken - j
    possible = (left >= 0) & (left < len(zeros))
    terms = final * np.where(possible, zeros[np.where(possible, left, 0)], 0.0)
    # P(the last group gives j or more, the zeros fill the size up), a row for each number taken
    tails = np.cumsum(np.pad(terms, ((0, 0), (0, 1)))[:, ::-1], axis=1)[:, ::-1]
    start = np.clip(np.ceil((observed - sums) / last), 0, len(final)).astype(np.int64)
    above = float((joint * tails[taken, start]).sum())
    below = float((joint * (tails[:, :1] - tails[taken, start])).sum())
    return above / (above + below)


def stratified_sum_tail(strata: Sequence[tuple[ArrayLike, int]], observed: float) -> float:
    """Exact P(S >= observed), S the sum over random subsets of independent strata, by (3).

    Args:
        strata: for each stratum its counts, whole numbers that are not negative, and the size of
            the subset that is drawn from it.
        observed: the sum over all strata that was seen.

    Returns:
        The one-sided p-value; its relative accuracy holds however small it is.

    Raises:
        DataError: as `subset_sum_tail`.
    """
    law = np.ones(1)
    for counts, n_chosen in strata:
        law = np.convolve(law, _sum_law(_require_counts(counts, n_chosen), n_chosen))
    return float(law[max(0, math.ceil(observed)) :].sum() / law.sum())


def _sum_law(numbers: NDArray[np.int64], n_chosen: int) -> Array:
    """Probabilities of S = 0, 1, 2, ... over subsets of one stratum, up to a common factor."""
    n_items, total = len(numbers), int(numbers.sum())
    law = np.zeros(total + 1)
    if n_chosen in (0, n_items):
        law[total if n_chosen else 0] = 1
        return law
    p = n_chosen / n_items
    sizes = dict(zip(*np.unique(numbers, return_counts=True), strict=True))
    zeros = _binomial(int(sizes.pop(0, 0)), p)
    groups = {int(count): _binomial(int(size), p) for count, size in sizes.items()}
    joint, sums = _size_and_sum(groups, n_chosen)
    left = n_chosen - np.arange(len(joint))[:, None]
    weights = joint * np.where(left < len(zeros), zeros[np.minimum(left, len(zeros) - 1)], 0.0)
    np.add.at(law, sums[weights > 0], weights[weights > 0])
    return law / law.sum()


def _require_counts(counts: ArrayLike, n_chosen: int) -> NDArray[np.int64]:
    """Whole, non-negative counts, of which a subset of n_chosen exists."""
    numbers = np.asarray(counts)
    if numbers.ndim != 1 or not np.array_equal(numbers, np.round(numbers)) or (numbers < 0).any():
        raise DataError("The label permutation takes whole, non-negative counts, one an item.")
    if not 0 <= n_chosen <= len(numbers):
        raise DataError(f"A subset of {n_chosen} of {len(numbers)} items does not exist.")
    return numbers.astype(np.int64)


def _binomial(size: int, p: float) -> Array:
    """Binomial weights b_0 ... b_size, 0 < p < 1, by ratios outwards from the mode."""
    mode = min(size, int((size + 1) * p))
    up = np.arange(mode, size)
    down = np.arange(mode, 0, -1)
    odds = p / (1 - p)
    above = np.cumprod((size - up) / (up + 1) * odds)
    below = np.cumprod(down / (size - down + 1) / odds)
    weights = np.concatenate([below[::-1], [1.0], above])
    return weights / weights.sum()


def _size_and_sum(groups: dict[int, Array], largest: int) -> tuple[Array, NDArray[np.int64]]:
    """Joint law of (size, sum), by convolving one group of equal counts after the other.

    The columns count the excess sum - size * middle, whose range is much shorter than the sum's.

    Args:
        groups: for each count the binomial weights of its number of items.
        largest: sizes above it are left out.

    Returns:
        probabilities of shape (sizes, excesses), and the sum that each entry stands for.
    """
    counts = [count for count, weights in groups.items() for _ in weights[1:]]
    middle = sorted(counts)[len(counts) // 2] if counts else 0
    joint, lowest = np.ones((1, 1)), 0
    for count, weights in sorted(groups.items(), key=lambda group: len(group[1])):
        step, top = count - middle, len(weights) - 1
        rows, columns = joint.shape
        grown = np.zeros((rows + top, columns + top * abs(step)))
        shift = max(0, -step) * top
        for j, weight in enumerate(weights):
            first = shift + j * step
            grown[j : j + rows, first : first + columns] += weight * joint
        joint, lowest = grown[: largest + 1], lowest - shift
    size, excess = np.indices(joint.shape, sparse=True)
    return joint, excess + lowest + size * middle
