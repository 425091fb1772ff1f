"""Exact tests that permute labels: what is permuted, within what, and how likely the sum is.

Points of a pool are labelled training or held-out. A *unit* is what is labelled as a whole: a row,
a value with all rows that equal it, or a group. Unit i has the sum c_i of the samples that are
nearest to it. Within each stratum k of N_k units every choice of n_k of them is equally likely to
be the training ones, independently of other strata, so that with m_k the sum of stratum k

    (1)  S = sum_{i in T} c_i
    (2)  mean S = sum_k m_k n_k / N_k,
         var S = sum_k n_k (N_k - n_k) sum_{i in k} (c_i - m_k/N_k)² / (N_k (N_k - 1))

and P(S >= observed) over all choices is an exact p-value, whatever the law of the data.

*Which units.* Rows of two samples of one law are exchangeable: rows are units, in one stratum.
Where values that stood in both sets were taken out of both, rows are not: equal ones that are left
have one label. Given that, every choice among values of equally many rows is equally likely:
values are units, and those of one multiplicity a stratum. (Where values come in pairs, a
permutation of rows of nominal size .05 rejects in .135 of innocent cases.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from genonset import seeds
from genonset.errors import ConfigError, DataError
from genonset.estimates import stratified_sum_tail, subset_sum_tail

EXACT = 1e9
"""Operations up to which the exact law of a label test is computed, under a second."""

ROUNDING = 1 + 1e-9  # a test of level 1/20 must reject at the attainable p-value 1/20


@dataclass(frozen=True, kw_only=True, eq=False)
class Units:
    """What a label test permutes, and within what.

    Attributes:
        of_row: for each row its unit.
        training: mask of the units that are training ones.
        stratum: for each unit its stratum, 0, 1, ...
        are_rows: whether the units are the rows themselves, in their order, not values.
    """

    of_row: np.ndarray
    training: np.ndarray
    stratum: np.ndarray
    are_rows: bool

    @classmethod
    def rows(cls, n: int, n_training: int) -> "Units":
        """Each of n rows a unit, the first n_training of them training ones, in one stratum."""
        rows = np.arange(n)
        return cls(
            of_row=rows,
            training=rows < n_training,
            stratum=np.zeros(n, np.int64),
            are_rows=True,
        )

    @classmethod
    def values(cls, member: np.ndarray, n_training: int) -> "Units":
        """Values that are in one set only, those of equally many rows a stratum.

        Args:
            member: for each row its value, 0, 1, ...; training rows first.
            n_training: number of training rows.
        """
        sizes = np.bincount(member)
        mine = np.bincount(member[:n_training], minlength=len(sizes))
        assert ((mine == 0) | (mine == sizes)).all(), "a value is in both sets"
        _, stratum = np.unique(sizes, return_inverse=True)
        return cls(of_row=member, training=mine > 0, stratum=stratum, are_rows=False)

    def relabelled(self, rng: np.random.Generator) -> "Units":
        """The same units with random labels, as many training ones in every stratum."""
        training = self.training.copy()
        for k in range(1 + self.stratum.max()):
            here = self.stratum == k
            training[here] = rng.permutation(training[here])
        return replace(self, training=training)


@dataclass(frozen=True, kw_only=True)
class LabelTest:
    """Whether samples lie nearer to training points than to held-out ones, (1) and (2).

    Attributes:
        share: S/m, of the counted samples; NaN where none was counted.
        expected: mean S / m; NaN where none was counted.
        z: (S - mean)/sd by (2); 0 where S cannot vary.
        p_value: one-sided, exact or by relabelling; 1 where S cannot vary.
        counted: m, the number of samples that were near enough to count.
        excess: (S - mean) / (n h), n the number of all samples and h the mean of 1 - n_k/N_k over
            training units, n_H/N where rows are permuted: 0 by chance, and q if a share q of the
            samples is there because of the training set and chance does the rest. At equal sizes
            the share near training minus the share near held-out points.
    """

    share: float
    expected: float
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
    """Label test of nearest-neighbour counts, equations (1) and (2), each point a unit.

    Args:
        counts_training: for each training point how many samples are nearest to it.
        counts_held_out: the same for held-out points.
        n_generated, n_permutations, seed: as in `unit_test`.

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
    n = len(training) + len(held_out)
    return unit_test(
        np.concatenate([training, held_out]),
        Units.rows(n, len(training)),
        n_generated=n_generated,
        n_permutations=n_permutations,
        seed=seed,
    )


def unit_test(
    sums: ArrayLike,
    units: Units,
    *,
    parts: int = 1,
    n_generated: int | None = None,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> LabelTest:
    """Label test of the samples counted at each unit, equations (1) and (2).

    Args:
        sums: for each unit how many samples are nearest to it, in parts of a sample.
        units: what is permuted.
        parts: of how many parts a sample is made, where units share samples.
        n_generated: number of all samples, of which the sums may hold a part; by default their
            total.
        n_permutations, seed: of the relabellings that stand in for the exact law where that would
            take more than seconds: thousands of samples on thousands of points.

    Raises:
        DataError: if sums are not whole and non-negative or exceed n_generated.
    """
    numbers = np.asarray(sums, dtype=np.float64)
    strata = _strata(numbers, units)
    counted = int(numbers.sum()) // parts
    near_training = float(numbers[units.training].sum()) / parts
    n_generated = counted if n_generated is None else n_generated
    if counted > n_generated:
        raise DataError(f"{counted} samples were counted, but only {n_generated} were generated.")
    p_value = tail(strata, n_permutations, seed)
    mean = sum(float(s.values.sum()) * s.part for s in strata) / parts
    variance = sum(s.variance for s in strata) / parts**2
    n_training = sum(s.n_training for s in strata)
    other = sum(s.n_training * (1 - s.part) for s in strata) / n_training
    return LabelTest(
        share=near_training / counted if counted else math.nan,
        expected=mean / counted if counted else math.nan,
        z=(near_training - mean) / math.sqrt(variance) if variance > 0 else 0.0,
        p_value=p_value,
        counted=counted,
        excess=(near_training - mean) / (n_generated * other) if counted and other else 0.0,
    )


def parts_of_one(member: np.ndarray) -> int:
    """In how many parts a sample is cut so that equal rows can have the same share of it.

    Args:
        member: for each row its value.
    """
    sizes = np.unique(np.bincount(member))
    return min(12, int(np.lcm.reduce(sizes[sizes > 0].clip(max=12))))


def dealt(counts: np.ndarray, member: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What each row has of the counts at its value: as equal as whole numbers allow.

    What is left over goes to equal rows in a random order that knows no labels.

    Args:
        counts: for each value, whole numbers.
        member: for each row its value.
        rng: of the order.
    """
    sizes = np.bincount(member, minlength=len(counts))
    if len(sizes) == len(member):
        return counts[member]
    order = rng.permutation(len(member))
    order = order[np.argsort(member[order], kind="stable")]
    rank = np.empty(len(member), np.int64)
    rank[order] = np.arange(len(member)) - (np.cumsum(sizes) - sizes)[member[order]]
    least, left = np.divmod(counts, np.maximum(sizes, 1))
    return least[member] + (rank < left[member])


class _Stratum(NamedTuple):
    """The sums of the units of a stratum, those of training units first."""

    values: np.ndarray
    n_training: int

    @property
    def observed(self) -> float:
        return float(self.values[: self.n_training].sum())

    @property
    def part(self) -> float:
        return self.n_training / len(self.values)

    @property
    def variance(self) -> float:
        """The term of equation (2)."""
        n = len(self.values)
        return n * n * self.part * (1 - self.part) * float(self.values.var()) / max(1, n - 1)

    @property
    def cost(self) -> float:
        """Operations that the exact law takes."""
        found = self.values[self.values > 0]
        excess = float(np.abs(found - np.median(found)).sum()) if len(found) else 0.0
        return len(found) * min(len(found), self.n_training) * excess


def _strata(sums: np.ndarray, units: Units) -> list[_Stratum]:
    order = np.lexsort((~units.training, units.stratum))
    cuts = np.flatnonzero(np.diff(units.stratum[order])) + 1
    return [
        _Stratum(sums[which], int(units.training[which].sum())) for which in np.split(order, cuts)
    ]


def tail(strata: Sequence[_Stratum], n_permutations: int, seed: int, most: float = 1.0) -> float:
    """P(S >= observed): exact, or by relabelling if that is long."""
    if sum(s.cost for s in strata) >= most * EXACT:
        return relabelled_tail(strata, n_permutations, seed)
    if len(strata) == 1:
        return subset_sum_tail(*strata[0], strata[0].observed)
    return stratified_sum_tail(strata, sum(s.observed for s in strata))


def unit_tail(
    sums: np.ndarray, units: Units, n_permutations: int, seed: int, most: float = 1.0
) -> float:
    """The p-value of `unit_test` alone."""
    return tail(_strata(sums, units), n_permutations, seed, most)


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


def expected_false(n_other: int, odds: float) -> float:
    """V o + c of (6): training points with a sample within the scale by chance.

    Args:
        n_other: V, distinct held-out points with a sample within the scale.
        odds: o, with which a point that was not copied is a training point; of several the
            largest.
    """
    if not odds < math.inf:
        return math.inf
    part = odds / (1 + odds)
    if part > 0.999:  # as good as none: v part^v has its maximum, 1/e, at v = 1/(1 - part)
        return n_other * odds + (1 + odds) / math.e
    v = np.arange(1, 2 + math.ceil(2 / -math.log(part)))
    return n_other * odds + float((v * part**v).max())


def discoveries_allowed(n_mine: int, n_other: int, odds: float) -> bool:
    """Whether (6) lets the samples near R training and V held-out points be flagged.

    Args:
        n_mine: R, distinct training points with a sample within the scale.
        n_other, odds: as in `expected_false`.
    """
    return expected_false(n_other, odds) <= FALSE_DISCOVERIES * n_mine * ROUNDING


def most_false(n_mine: int, n_other: int, odds: float, n_points: int) -> int:
    """How many of R training points have a sample near them by chance, at most (95 %).

    Args:
        n_mine, n_other, odds: as in `discoveries_allowed`.
        n_points: number of distinct points that are in one set only.
    """
    from scipy.stats import hypergeom

    false = np.arange(n_mine + 1)
    n_training = round(n_points * odds / (1 + odds))
    tail = hypergeom.sf(false - 1, n_points, n_training, false + n_other)
    return int(false[tail > 0.05].max())


CLUSTERS_ADDED = 4
"""Clusters of middle size that either set is given beside its own when their sizes are judged."""


def share_interval(mine: ArrayLike, other: ArrayLike) -> tuple[float, float]:
    """95 % interval of the expected share p of samples nearer to training points.

    Expected over redraws of points and samples: n_T/N for a generator that knows no label, 1 for
    one that returns training points. The points are what varies, not the samples: those at one
    point are one cluster. With S the sum of a set's counts and v their variance, b = n v / S is
    the size of its clusters, at least the Poisson 1, and p = S_T/m varies as the share of

        n' = m / b,    b = (1 - p) b_T + p b_H

    independent samples does (delta method). The ends are those of Clopper and Pearson for p n' of
    n', where n' is lowered to what the quantile of Student's t asks for at the degrees of freedom
    that Satterthwaite's formula makes of K - 1 in each set, K = (sum c)²/sum c² the effective
    number of clusters. A set that few samples are near tells little of its clusters, so both are
    shrunk towards all points' by CLUSTERS_ADDED. One cluster alone says nothing: 0 to 1.

    What a model does differently from one training set to the next, all points alike, no single
    audit can see.

    Args:
        mine: for each training point how many samples are nearest to it.
        other: the same for held-out points.

    Reference:
        Korn and Graubard 1998, Survey Methodology 24, 193: Clopper-Pearson ends at an effective
        size. Kish 1965, Survey Sampling, section 8.2: the loss by clusters. Satterthwaite 1946,
        Biometrics Bulletin 2, 110. Agresti and Coull 1998 add four observations likewise.
    """
    from scipy.special import betaincinv, stdtrit

    counts = [np.asarray(c, dtype=np.float64) for c in (mine, other)]
    n, sums, squares = np.array([(len(c), c.sum(), np.square(c).sum()) for c in counts]).T
    if sum(np.count_nonzero(c) for c in counts) < 2:
        return 0.0, 1.0
    m = sums.sum()
    spreads = np.maximum((squares - sums**2 / n) * n / np.maximum(n - 1, 1), sums)
    size = spreads.sum() / m
    parts = sums[::-1] / m * _with_more(spreads, sums, size)  # (1 - p) b_T and p b_H
    weight = squares.sum() / m  # of a cluster in K
    clusters = (sums + CLUSTERS_ADDED * weight) / _with_more(squares, sums, weight)
    freedom = min(m / weight - 1, parts.sum() ** 2 / (parts**2 / (clusters - 1)).sum())
    quantile = float(stdtrit(max(freedom, 0.5), 0.975))
    inside, outside = sums / parts.sum() * (1.959964 / quantile) ** 2  # p n' and (1 - p) n'
    low = float(betaincinv(inside, outside + 1, 0.025)) if inside else 0.0
    high = float(betaincinv(inside + 1, outside, 0.975)) if outside else 1.0
    return low, high


def _with_more(squares: np.ndarray, sums: np.ndarray, size: float) -> np.ndarray:
    """Sums of squares over sums, by set, with CLUSTERS_ADDED further clusters of this size."""
    return (squares + CLUSTERS_ADDED * size**2) / (sums + CLUSTERS_ADDED * size)


def permutation_p_value(
    values: np.ndarray, units: Units, *, n_permutations: int, seed: int
) -> float:
    """P(S >= observed) over random labels of units, (k + 1)/(B + 1).

    Args:
        values: real numbers, one a row; S is the sum over training rows.
        units: what is permuted.
        n_permutations, seed: of the relabellings.
    """
    sums = np.bincount(units.of_row, values, minlength=len(units.training))
    return relabelled_tail(_strata(sums, units), n_permutations, seed)


def relabelled_tail(strata: Sequence[_Stratum], n_permutations: int, seed: int) -> float:
    """P(S >= observed) by random relabelling, (k + 1)/(B + 1).

    How many of each value are chosen is multivariate hypergeometric: where values repeat, as
    counts do, a relabelling is a few such numbers. Where they do not, all relabellings are one
    product of a matrix of zeros and ones.

    Reference:
        Davison and Hinkley 1997, section 4.2.4; Johnson, Kotz and Balakrishnan 1997, Discrete
        Multivariate Distributions, chapter 39.
    """
    rng = np.random.default_rng(seeds.derive(seed, "relabellings"))
    slack = 1e-9 * sum(float(np.abs(s.values).sum()) for s in strata)
    enough = sum(s.observed for s in strata) - slack
    drawn = np.sum([_random_sums(s, n_permutations, rng) for s in strata], axis=0)
    return (int((drawn >= enough).sum()) + 1) / (n_permutations + 1)


def _random_sums(stratum: _Stratum, n_permutations: int, rng: np.random.Generator) -> np.ndarray:
    """Sums over random choices of training units."""
    values, n_chosen = stratum
    if n_chosen in (0, len(values)):
        return np.full(n_permutations, stratum.observed)
    different, sizes = np.unique(values, return_counts=True)
    if len(different) < len(values) / 20:
        chosen = rng.multivariate_hypergeometric(sizes, n_chosen, size=n_permutations)
        return chosen @ different
    sums, step = np.empty(n_permutations), max(1, (1 << 22) // len(values))
    for start in range(0, n_permutations, step):
        draws = rng.random((min(step, n_permutations - start), len(values)), dtype=np.float32)
        bound = np.partition(draws, n_chosen - 1, axis=1)[:, n_chosen - 1 : n_chosen]
        sums[start : start + step] = (draws <= bound).astype(np.float64) @ values
    return sums
