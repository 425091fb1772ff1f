"""Criteria that others use, on the same distances: what a reader may want to compare with.

With G the generated samples, T training and H held-out points, d(x, S) the distance of x to its
nearest point of S:

    (1)  C_T:  U = #{(g, h): d(g, T) > d(h, T)} + half the ties,
               Z = (U - m n_H/2) / sqrt(m n_H (M + 1 - sum_t (t³ - t)/(M (M - 1)))/12)
    (2)  authenticity = share of g with d(g, x) > d(x, x'), x the nearest of T to g and x' the
         nearest point of T that is distinct from x: equal training points are one
    (3)  DCR share = share of g with d(g, T) < d(g, H), ties half; by chance the mean over g of
         1/2 + (P(k of k are training) - P(k of k are held-out))/2
    (4)  precision = share of g inside any ball B(h, r_h),   r_h the distance of h to its k-th
         other point of H, equal ones included;  recall the same with the sets exchanged
    (5)  density = (1/k) mean number of balls B(h, r_h) that hold g
    (6)  coverage = share of h whose ball holds a sample

The balls are closed: (1) of Kynkaanniemi et al. counts |g - h| <= r_h, and Naeem et al. take their
B(h, r_h) from there. On data with ties, such as whole numbers, the open balls of code in
circulation hold less than they should: of a set whose points repeat k times, nothing. Numbers in
cents and in dollars have the same ties: whatever is compared here counts as equal within 1e-9 of
its value.

Of M = m + n_H distances each t are equal. The k rows of the pool that tie for the nearest to g are
training rows with the hypergeometric probability of the label tests, so that the level of (3) is
exact: n_T/N where k = 1 throughout, and towards 1/2 the more rows tie. That of (1) is 0 with ties
or without, and that of (2) holds for either, since held-out points meet the same ties.

Z falls far below zero for copies, but also for any law narrower than the data, which copies
nothing: (1) and (2) mix the two, and their textbook levels hold for no data set. The chance level
of (2) is 1 - P(mutual nearest neighbours): from 0.33 to 0.84 with the dimension, never simply 1/2.
It is measured here on the held-out points. Given T, samples of a perfect generator and held-out
points are independent draws of one law, so that for any count over the two

    (7)  P(count of samples >= k | both counts) is hypergeometric:  Fisher's exact test.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genonset.errors import DataError
from genonset.neighbors import nearest
from genonset.tensors import Vectors

TIE = 1 + 1e-9  # distances within this ratio are equal up to the rounding of what they are made of
_BLOCK = 1 << 21  # distances in memory at a time


@dataclass(frozen=True, kw_only=True)
class RankTest:
    """The three-sample test C_T, equation (1).

    Attributes:
        u: U, of all pairs the number in which the sample is farther from T.
        z: Z; far below 0 where samples are nearer to T than held-out points are; 0 where all
            distances are equal.
        p_value: Phi(Z), one-sided towards copying.
    """

    u: float
    z: float
    p_value: float


def rank_test(generated: Tensor, held_out: Tensor) -> RankTest:
    """C_T on distances to the training set, equation (1), over one cell.

    Args:
        generated: distance of each sample to its nearest training point.
        held_out: the same for held-out points.

    Raises:
        DataError: if either is empty.

    Reference:
        Meehan, Chaudhuri and Dasgupta 2020, AISTATS, section 3; (F5) of the theory note.
    """
    m, n = len(generated), len(held_out)
    if 0 in (m, n):
        raise DataError(f"C_T ranks samples among held-out points; got {m} and {n}.")
    ordered = held_out.sort().values
    generated = generated.contiguous()
    below = torch.searchsorted(ordered, generated / TIE)
    up_to = torch.searchsorted(ordered, generated * TIE, right=True)
    u = float((below + up_to).sum()) / 2
    equal = torch.cat([generated, held_out]).unique(return_counts=True)[1].double()
    ties = float((equal**3 - equal).sum()) / ((m + n) * (m + n - 1))
    variance = m * n * (m + n + 1 - ties) / 12
    z = (u - m * n / 2) / math.sqrt(variance) if len(equal) > 1 else 0.0
    return RankTest(u=u, z=z, p_value=math.erfc(-z / math.sqrt(2)) / 2)


def authentic(distances: Tensor, where: Tensor, spacing: Tensor) -> Tensor:
    """Which samples are authentic, equation (2).

    Args:
        distances: of each sample to its nearest training point.
        where: which training point that is.
        spacing: distance of each training point to the nearest one distinct from it.

    Reference:
        Alaa, van Breugel, Saveliev and van der Schaar 2022, ICML, section 3.3.
    """
    return distances > TIE * spacing[where]


def nearer_share(to_training: Tensor, to_held_out: Tensor) -> float:
    """DCR share, equation (3)."""
    nearer = (TIE * to_training < to_held_out).double() + (to_training <= TIE * to_held_out)
    return float(nearer.mean()) / 2


def nearer_by_chance(tied: Tensor, n_training: int, n_held_out: int) -> float:
    """The mean of the DCR share over all choices of training rows, equation (3).

    Args:
        tied: for each sample the number of rows of either set that tie for its nearest, 1 or more.
        n_training, n_held_out: numbers of rows.
    """
    i = torch.arange(int(tied.max()), dtype=torch.float64)
    n = n_training + n_held_out
    alone = [((size - i).clamp(min=0) / (n - i)).cumprod(0) for size in (n_training, n_held_out)]
    return float((1 + alone[0] - alone[1])[tied - 1].mean()) / 2


def fisher(count: int, size: int, other_count: int, other_size: int) -> float:
    """P(at least `count` of `size`, given all counts), equation (7).

    Reference:
        Fisher 1935; (F4) of the theory note.
    """
    from scipy.stats import hypergeom

    total = count + other_count
    return float(hypergeom.sf(count - 1, size + other_size, total, size))


@dataclass(frozen=True, kw_only=True)
class Manifold:
    """Precision, recall, density and coverage, equations (4) to (6)."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(generated: Vectors, reference: Vectors, *, k: int = 5) -> Manifold:
    """How samples and real points cover each other, equations (4) to (6).

    Args:
        generated: shape (m, d).
        reference: shape (n, d).
        k: the ball of a point reaches to its k-th other point; at most what both sets allow.

    Raises:
        DataError: if a set has fewer than two points.

    Reference:
        Kynkaanniemi, Karras, Laine, Lehtinen and Aila 2019, NeurIPS, equation (1); Naeem, Oh, Uh,
        Choi and Yoo 2020, ICML, equations (3) and (4).
    """
    k = min(k, len(generated) - 1, len(reference) - 1)
    if k < 1:
        raise DataError(
            f"Precision and recall need two points a set, got {len(generated)} and "
            f"{len(reference)}."
        )
    real, fake = TIE * _radii(reference, k), TIE * _radii(generated, k)
    held = torch.zeros(len(generated))
    covered = torch.zeros(len(reference), dtype=torch.bool)
    recalled = torch.zeros(len(reference), dtype=torch.bool)
    step = max(1, _BLOCK // len(reference))
    for rows in torch.arange(len(generated)).split(step):
        among = torch.cdist(
            generated[rows].double(),
            reference.double(),
            compute_mode="donot_use_mm_for_euclid_dist",
        )
        inside = among <= real
        held[rows] = inside.sum(1).float()
        covered |= inside.any(0)
        recalled |= (among <= fake[rows][:, None]).any(0)
    return Manifold(
        precision=float((held > 0).double().mean()),
        recall=float(recalled.double().mean()),
        density=float(held.double().mean()) / k,
        coverage=float(covered.double().mean()),
    )


def _radii(points: Vectors, k: int) -> Tensor:
    """Distance of each point to its k-th other point."""
    return nearest(points, points, k + 1)[0][:, k]
