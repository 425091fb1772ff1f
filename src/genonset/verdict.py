"""What given samples say about the training set: copying, train bias, and what neither is.

A training set T and a held-out set H are exchangeable for a generator that does not depend on
which of them it was trained on. Let c_i be the number of generated samples whose nearest
neighbour in the pool of T and H is point i, N = n_T + n_H and m = sum_i c_i. Given the pool and
the samples, every choice of n_T of the N points is then equally likely to be T, so that

    (1)  S = sum_{i in T} c_i
    (2)  mean S = m n_T / N,    var S = n_T n_H sum_i (c_i - m/N)² / (N (N - 1))

and P(S >= observed) over all choices is an exact p-value, for any law, model and sizes. Samples
that share a nearest neighbour are not independent; (2) and the exact p-value know it, a binomial
test does not.

Two statistics under the same null: *train bias* counts every sample, *copying* only those nearer
than the near-duplicate scale

    (3)  scale = 1/3 of the 5 % quantile of the pool's distances to its nearest other point

which does not look at the labels, so the p-value stays exact. The third matters: samples of a
shrunken or over-fitted law can all lie within the quantile itself without one copy among them.

A sample *is memorized* if it is much nearer to one distinct training point than to any other,

    (4)  d1 / d2 < gap,    gap = 1/3

Equal points of a set are one distinct point. In the label tests equal points of the pool share
their samples as evenly as whole numbers allow, what is left over going to them in a random order:
twenty samples of a training image that occurs twenty times are evidence from twenty points, not
from one. A sample equally far from two distinct points counts for the one that comes first in a
fixed order of their coordinates, whatever its label.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from genonset import seeds
from genonset.errors import ConfigError, DataError
from genonset.estimates import Estimate, subset_sum_tail, wilson
from genonset.neighbors import Points, as_rows, distinct, nearest
from genonset.tensors import Vectors

Regime = Literal["copying", "train-biased", "poor", "generalizing", "undecided"]

NEAR_DUPLICATE_QUANTILE = 0.05
NEAR_DUPLICATE_FRACTION = 1 / 3

_ROUNDING = 1 + 1e-9  # a test of level 1/20 must reject at the attainable p-value 1/20


@dataclass(frozen=True, kw_only=True)
class LabelTest:
    """Whether samples lie nearer to training points than to held-out ones, (1) and (2).

    Attributes:
        share: S/m, of the counted samples; NaN where none was counted.
        z: (S - mean)/sd by (2); 0 where S cannot vary.
        p_value: exact, one-sided; 1 where S cannot vary.
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
    counts_training: ArrayLike, counts_held_out: ArrayLike, *, n_generated: int | None = None
) -> LabelTest:
    """Label test of nearest-neighbour counts, equations (1) and (2).

    Args:
        counts_training: for each training point how many samples are nearest to it.
        counts_held_out: the same for held-out points.
        n_generated: number of all samples, of which the counts may hold a part; by default their
            sum.

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
    p_value = subset_sum_tail(counts, len(training), float(training.sum()))
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


def label_tests(
    generated: Points, training: Points, held_out: Points
) -> tuple[LabelTest, LabelTest]:
    """Train bias and copying, in this order, from one neighbour search in the pool.

    Args:
        generated: shape (m, *shape).
        training: shape (n_T, *shape), the points the model was fitted to.
        held_out: shape (n_H, *shape), fresh points of the same source.

    Raises:
        DataError: if a set is empty, not finite or of another shape, or the pool is one point.
    """
    samples, *sets = _same_shape(generated=generated, training=training, held_out=held_out)
    points, member = distinct(torch.cat(sets))
    if len(points) < 2:
        raise DataError(
            "training and held_out are one and the same point repeated; a label test needs at "
            "least two distinct points."
        )
    distances, where = (found[:, 0] for found in nearest(samples, points, 1))
    near = distances <= _near_duplicate_scale(points)
    n_training = len(sets[0])
    tests = []
    for counted in (where, where[near]):
        counts = _shared(counted.cpu(), member.cpu()).numpy()
        parts = counts[:n_training], counts[n_training:]
        tests.append(label_test(*parts, n_generated=len(samples)))
    return tests[0], tests[1]


def _same_shape(**sets: Points) -> list[Vectors]:
    """The sets as float64 rows, all of one length."""
    vectors = [as_rows(name, points).double() for name, points in sets.items()]
    if len({v.shape[1] for v in vectors}) > 1:
        raise DataError(
            f"{', '.join(sets)} must hold data points of one shape, got "
            f"{', '.join(str(v.shape[1]) for v in vectors)} coordinates."
        )
    return vectors


def _near_duplicate_scale(points: Vectors) -> float:
    """Equation (3) for distinct points; zero if float64 cannot tell their distances from zero."""
    spacing = nearest(points, points, 2)[0][:, 1]
    spacing = spacing[spacing > 0].sort().values
    rank = int(NEAR_DUPLICATE_QUANTILE * (len(spacing) - 1))
    return NEAR_DUPLICATE_FRACTION * float(spacing[rank]) if len(spacing) else 0.0


def _shared(where: Tensor, member: Tensor) -> Tensor:
    """Counts of the points, equal points sharing theirs as evenly as whole numbers allow.

    What is left over goes to them in a random order, drawn from the counts and not from the
    labels: it is the same whenever the sets are, and favours no label over many sets.

    Args:
        where: for each counted sample its distinct point.
        member: for each point its distinct point.
    """
    sizes = torch.bincount(member)
    counts = torch.bincount(where, minlength=len(sizes))
    if len(sizes) == len(member):
        return counts[member]
    generator = seeds.generator(0, "leftover samples", *sizes.tolist(), *where.tolist())
    order = torch.randperm(len(member), generator=generator)
    grouped = order[member[order].argsort(stable=True)]
    rank = torch.empty_like(member)
    rank[grouped] = torch.arange(len(member)) - (sizes.cumsum(0) - sizes)[member[grouped]]
    return (counts // sizes)[member] + (rank < (counts % sizes)[member])


def train_bias(generated: Points, training: Points, held_out: Points) -> LabelTest:
    """Are samples nearer to training than to held-out points? Equation (1), all samples.

    It also sees a smooth model that over-fits without copying: the linear one, for example.

    Args, Raises: as `label_tests`, which gives both tests for the price of one.
    """
    return label_tests(generated, training, held_out)[0]


def copying(generated: Points, training: Points, held_out: Points) -> LabelTest:
    """Are near-duplicates of training points there more often than by chance? (1) with (3).

    A sample equal to a point of the pool always counts.

    Args, Raises: as `label_tests`, which gives both tests for the price of one.
    """
    return label_tests(generated, training, held_out)[1]


def memorized_fraction(generated: Points, training: Points, *, gap: float = 1 / 3) -> Estimate:
    """Share of samples much nearer to one distinct training point than to any other, (4).

    A perfect generator scores about gap^k on data of intrinsic dimension k: compare with fresh
    points, never with zero. The Wilson interval is conditional on the training set: it tells what
    more samples of this model would give. Over training sets the share varies more than that,
    because samples share their neighbours; never turn it into a binomial p-value.

    Args:
        generated: shape (m, *shape).
        training: shape (n, *shape); equal points count once, so that a copy of a repeated
            training point is memorized.
        gap: bound on d1/d2, Euclidean distances (not squared).

    Raises:
        ConfigError: unless 0 < gap <= 1.
        DataError: if a set is empty, not finite or of another shape than the other, or fewer
            than two training points are distinct.

    Reference:
        Yoon, Choi, Kwon and Ryu 2023, ICML workshop on structured probabilistic inference: the
        1/3 rule.
    """
    if not 0 < gap <= 1:
        raise ConfigError(f"gap is a ratio of distances with 0 < gap <= 1, got {gap}.")
    samples, points = _same_shape(generated=generated, training=training)
    points, _ = distinct(points)
    if len(points) < 2:
        raise DataError(
            "All training points are equal. A gap ratio needs two distinct points; count exact "
            "copies instead."
        )
    first, second = nearest(samples, points, 2)[0].T
    return wilson(int((first < gap * second).sum()), len(first))


def regime(
    *,
    copying_p: float,
    train_bias_p: float,
    quality: float,
    oracle_quality: float,
    power: float,
    significance: float = 0.05,
) -> Regime:
    """What a model does at one training size; the first that applies.

    "copying" and "train-biased" if that label test rejects; "undecided" if neither does and the
    tests could not have seen copying; "poor" if the quality is above twice the oracle's;
    "generalizing".

    Args:
        copying_p: p-value of `copying`.
        train_bias_p: p-value of `train_bias`.
        quality: distance of the samples to fresh data, sliced Wasserstein; small is good.
        oracle_quality: the same for fresh points in place of the samples.
        power: as `copying_power` returns it; too little below 1/2.
        significance: level of either test. Calling "copying" or "train-biased" a model that is
            neither has at most twice this probability.

    Raises:
        DataError: if a quality is negative or not finite, or a p-value is none.
        ConfigError: unless 0 < significance < 1 and 0 <= power <= 1.
    """
    if not (0 < significance < 1 and 0 <= power <= 1):
        raise ConfigError(
            "A regime needs 0 < significance < 1 and 0 <= power <= 1, got "
            f"{significance} and {power}."
        )
    if not (0 <= copying_p <= 1 and 0 <= train_bias_p <= 1):
        raise DataError(f"p-values lie in 0 to 1, got {copying_p} and {train_bias_p}.")
    if not (0 <= quality < math.inf and 0 <= oracle_quality < math.inf):
        raise DataError(
            "quality and oracle_quality are distances, finite and not negative; got "
            f"{quality} and {oracle_quality}."
        )
    if copying_p <= significance * _ROUNDING:
        return "copying"
    if train_bias_p <= significance * _ROUNDING:
        return "train-biased"
    if power < 1 / 2:
        return "undecided"
    return "poor" if quality > 2 * oracle_quality else "generalizing"


def copying_power(
    n_generated: int,
    n_training: int,
    n_held_out: int,
    share: float = 0.1,
    significance: float = 0.05,
) -> float:
    """Probability that `copying` finds planted exact copies.

    round(share n_generated) samples are copies of training points drawn at random, and no other
    sample is near a point of the pool. With j distinct points copied the p-value is

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
    rejects = p_values <= significance * _ROUNDING
    if not rejects[-1]:
        return 0.0
    needed = 1 + int(rejects.argmax())
    hits = np.zeros(needed + 1)  # law of the number of points hit, `needed` or more in one
    hits[0] = 1.0
    again = np.arange(needed + 1) / n_training
    again[-1] = 1.0
    for _ in range(round(share * n_generated)):
        new = hits * (1 - again)
        hits = hits * again
        hits[1:] += new[:-1]
    return min(1.0, float(hits[-1]))
