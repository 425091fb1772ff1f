"""Label tests."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from genonset import seeds
from genonset.errors import ConfigError, DataError
from genonset.estimates import subset_sum_tail

EXACT = 1e9
"""Operations up to which the exact law of a label test is computed, under a second."""

ROUNDING = 1 + 1e-9  # a test of level 1/20 must reject at the attainable p-value 1/20


@dataclass(frozen=True, kw_only=True)
class LabelTest:
    """Whether samples lie nearer to training points than to held-out ones, (1) and (2).

    Attributes:
        share: S/m, of the counted samples; NaN where none was counted.
        z: (S - mean)/sd by (2); 0 where S cannot vary.
        p_value: one-sided, exact or by relabelling; 1 where S cannot vary.
        counted: m, the number of samples that were near enough to count.
        excess: (S - mean) / (n n_H/N), n the number of all samples: 0 by chance, and q if a share
            q of the samples is there because of the training set and chance does the rest. At
            equal sizes the share near training minus the share near held-out points.
    """

    share: float
    z: float
    p_value: float
    counted: int
    excess: float


def label_test(
    counts_training: ArrayLike,
    counts_held_out: ArrayLike,
    *,
    n_generated: int | None = None,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> LabelTest:
    """Label test of nearest-neighbour counts, equations (1) and (2).

    Args:
        counts_training: for each training point how many samples are nearest to it.
        counts_held_out: the same for held-out points.
        n_generated: number of all samples, of which the counts may hold a part; by default their
            sum.
        n_permutations, seed: of the relabellings that stand in for the exact law where that would
            take more than seconds: thousands of samples on thousands of points.

    Raises:
        DataError: if a set is empty, or counts are not whole and non-negative or exceed
            n_generated.

    Reference:
        Fisher 1935, The Design of Experiments, section 21, for the permutation of labels. Meehan,
        Chaudhuri and Dasgupta 2020 compare the same three sets by distances alone, which confuses
        a shrunken law with copying.
    """
    training, held_out = np.asarray(counts_training), np.asarray(counts_held_out)
    if 0 in (training.size, held_out.size) or not (training.ndim == held_out.ndim == 1):
        raise DataError(
            "A label test takes one count a point for at least one training and one held-out "
            f"point, got shapes {training.shape} and {held_out.shape}."
        )
    counts = np.concatenate([training, held_out]).astype(np.float64)
    p_value = tail(counts, len(training), n_permutations, seed)
    counted, near_training = int(counts.sum()), int(training.sum())
    n_generated = counted if n_generated is None else n_generated
    if counted > n_generated:
        raise DataError(f"{counted} samples were counted, but only {n_generated} were generated.")
    n = len(counts)
    part, other = len(training) / n, len(held_out) / n
    mean = counted * part
    variance = n * n * part * other * counts.var() / (n - 1)
    return LabelTest(
        share=near_training / counted if counted else math.nan,
        z=(near_training - mean) / math.sqrt(variance) if variance > 0 else 0.0,
        p_value=p_value,
        counted=counted,
        excess=(near_training - mean) / (n_generated * other) if counted else 0.0,
    )


def tail(
    counts: np.ndarray, n_training: int, n_permutations: int, seed: int, most: float = 1.0
) -> float:
    """P(S >= the sum of the first n_training counts): exact, or by relabelling if that is long."""
    found = counts[counts > 0]
    excess = float(np.abs(found - np.median(found)).sum()) if len(found) else 0.0
    if len(found) * min(len(found), n_training) * excess < most * EXACT:
        return subset_sum_tail(counts, n_training, float(counts[:n_training].sum()))
    return permutation_p_value(counts, n_training, n_permutations=n_permutations, seed=seed)


def copying_power(
    n_generated: int,
    n_training: int,
    n_held_out: int,
    share: float = 0.1,
    significance: float = 0.05,
) -> float:
    """Probability that `copying` finds planted exact copies.

    Each sample is with probability `share` a copy of a training point drawn at random, and no
    other sample is near a point of the pool. With j distinct points copied the p-value is

        (5)  P(all j among n_T of N drawn) = prod_{i<j} (n_T - i)/(N - i)

    however often each was copied, so the power is the probability that enough points are hit.

    Args:
        n_generated: number of samples.
        n_training: number of training points.
        n_held_out: number of held-out points.
        share: share of the samples that are copies.
        significance: level of the test.

    Raises:
        ConfigError: if a size is below 1, or unless 0 < share <= 1 and 0 < significance < 1.

    Reference:
        Feller 1968, volume 1, section II.5: the classical occupancy problem.
    """
    if not (min(n_generated, n_training, n_held_out) >= 1 and 0 < share <= 1):
        raise ConfigError(
            "Power needs sizes of at least 1 and 0 < share <= 1, got "
            f"{n_generated} generated, {n_training} training, {n_held_out} held-out, {share=}."
        )
    if not 0 < significance < 1:
        raise ConfigError(f"significance lies strictly between 0 and 1, got {significance}.")
    hit = np.arange(n_training)
    p_values = np.cumprod((n_training - hit) / (n_training + n_held_out - hit))
    rejects = p_values <= significance * ROUNDING
    if not rejects[-1]:
        return 0.0
    needed = 1 + int(rejects.argmax())
    hits = np.zeros(needed + 1)  # law of the number of points hit, `needed` or more in one
    hits[0] = 1.0
    again = np.arange(needed + 1) / n_training
    again[-1] = 1.0
    for _ in range(n_generated):
        new = share * hits * (1 - again)
        hits = hits - new
        hits[1:] += new[:-1]
    return min(1.0, float(hits[-1]))


FALSE_DISCOVERIES = 0.1
"""Expected share of false ones among the training points that are called copied, at most."""


def expected_false(n_other: int, n_training: int, n_held_out: int) -> float:
    """V n_T/n_H + c of (6): training points with a sample within the scale by chance.

    Args:
        n_other: V, distinct held-out points with a sample within the scale.
        n_training, n_held_out: numbers of distinct points of either set alone.
    """
    if not (n_training and n_held_out):
        return math.inf
    part = n_training / (n_training + n_held_out)
    v = np.arange(1, 2 + math.ceil(2 / -math.log(part)))
    return n_other * n_training / n_held_out + float((v * part**v).max())


def discoveries_allowed(n_mine: int, n_other: int, n_training: int, n_held_out: int) -> bool:
    """Whether (6) lets the samples near R training and V held-out points be flagged.

    Args:
        n_mine: R, distinct training points with a sample within the scale.
        n_other, n_training, n_held_out: as in `expected_false`.
    """
    chance = expected_false(n_other, n_training, n_held_out)
    return chance <= FALSE_DISCOVERIES * n_mine * ROUNDING


def most_false(n_mine: int, n_other: int, n_training: int, n_held_out: int) -> int:
    """How many of R training points have a sample near them by chance, at most (95 %)."""
    from scipy.stats import hypergeom

    false = np.arange(n_mine + 1)
    tail = hypergeom.sf(false - 1, n_training + n_held_out, n_training, false + n_other)
    return int(false[tail > 0.05].max())


def share_interval(mine: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """95 % interval of the share of samples nearer to training points.

    The points are what varies, not the samples: with S the sum and v the variance of a set's
    counts, log S_T - log S_H has variance n_T v_T / S_T² + n_H v_H / S_H², and at least the
    Poisson one; 1/2 is added to either sum.

    Reference:
        Cochran 1977, Sampling Techniques, section 9A: ratio of cluster totals.
    """
    sums = np.array([mine.sum(), other.sum()]) + 0.5
    spreads = np.array([max(len(c) * c.var(), c.sum()) + 0.5 for c in (mine, other)])
    half = 1.959964 * math.sqrt(float((spreads / sums**2).sum()))
    centre = math.log(sums[0] / sums[1])
    return 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))


def permutation_p_value(
    values: np.ndarray, n_chosen: int, *, n_permutations: int, seed: int
) -> float:
    """P(sum over a random subset >= sum of the first n_chosen), (k + 1)/(B + 1).

    How many of each value are chosen is multivariate hypergeometric: where values repeat, as
    counts do, a relabelling is a few such numbers. Where they do not, all relabellings are one
    product of a matrix of zeros and ones.

    Reference:
        Davison and Hinkley 1997, section 4.2.4; Johnson, Kotz and Balakrishnan 1997, Discrete
        Multivariate Distributions, chapter 39.
    """
    rng = np.random.default_rng(seeds.derive(seed, "relabellings"))
    slack = 1e-9 * float(np.abs(values).sum())
    enough = float(values[:n_chosen].sum()) - slack
    different, sizes = np.unique(values, return_counts=True)
    if len(different) < len(values) / 20:
        chosen = rng.multivariate_hypergeometric(sizes, n_chosen, size=n_permutations)
        return (int((chosen @ different >= enough).sum()) + 1) / (n_permutations + 1)
    extreme, step = 0, max(1, (1 << 22) // len(values))
    for start in range(0, n_permutations, step):
        draws = rng.random((min(step, n_permutations - start), len(values)), dtype=np.float32)
        bound = np.partition(draws, n_chosen - 1, axis=1)[:, n_chosen - 1 : n_chosen]
        sums = (draws <= bound).astype(np.float64) @ values
        extreme += int((sums >= enough).sum())
    return (extreme + 1) / (n_permutations + 1)
