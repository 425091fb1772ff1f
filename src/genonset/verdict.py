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
their samples in equal parts (in twelfths at the least, what is left over going to them in a random
order): twenty samples of a training image that occurs twenty times are evidence from twenty
points, not from one. Where points that stand in both sets were left out (`drop_overlap`), values
are permuted in place of rows, `genonset.labels` says why.

*Ties*: of the points whose distance is within 1e-9, relative, and the rounding of the numbers of
the least one, the first in the order of their coordinates counts, whatever its label; so the same
table in cents and in dollars has the same ties. Nothing ties with distance 0. Comparisons of
distances below are meant up to the same rounding.

The audit puts these together, names the samples, and says what it could have missed. *Which*
samples: the scale (3) is fixed without the labels, so a point that was not copied, of which a
sample is nevertheless within the scale, is a training point with odds n_T/n_H, and one of k equal
rows, all in one set, with these odds to the power k. Let R training and V held-out points
(distinct, and in one set only) have a sample within the scale, of at most k rows each. The samples
at the R points are flagged if `copying` rejects and

    (6)  (V o + c) / R <= 1/10,    c = max_v v (o/(1 + o))^v,    o = (n_T/n_H)^k

where c, 1/2 at equal sizes, is what chance puts beside no held-out point at all: the expected
share of false ones among the flagged points is then below 1/10. With X hypergeometric, the number
of training points among v of the N, at most the largest v_T with P(X >= v_T | v = v_T + V) > 0.05
of the R are false with 95 % confidence. Samples identical to a training point are named whatever
the test says, and said to be no more than that. A sample at distance s has the p-value

    (7)  (1 + number of held-out points that have a sample of theirs within s) / (1 + n_H)

a sample being of the point of the pool that it is nearest to.
*By chance*, a gap ratio is below `gap` with probability gap^k on data of intrinsic dimension k,
whatever their number; k is estimated from the same ratios inside the pool, d2/d1 being Pareto with
exponent k there. Data have no density where more than one point in twenty repeats, or has its two
nearest others equally far: there the level is that of held-out points, or of training points left
out one at a time, which meet the same ties. Where chance is below 1 in 100, a sample with

    (8)  d1 / d2 < 1/3,    d1, d2 its distances to the two nearest distinct points of the pool

is a near-duplicate as well: where data are sparse, a compressed or noisy copy is farther from its
point than (3), and still much nearer to it than to anything else. The labels have no part in (8)
either. With `robust` every distance above is the least over the views of an image,
`genonset.views`, and no label enters it; the bound of (8) is then min(1/2, (1/1000)^(1/k)), which
chance passes once in 1000 at any k: copies that were compressed as well lie between it and 1/3.
What a set of 1/20 or 1/10 copies would have done to the p-value is found by planting them: random
labels, the near samples that were seen as Poisson background, and copies close enough to their
point to count for it.

Without a held-out set nothing tells a copy from a sample that is near because the data are dense,
except training points' own distances to one another: the weaker, leave-one-out control.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genonset import datasets, peers, seeds
from genonset.distances import (
    Smoothed,
    energy_distance,
    kernel_delta,
    kernel_terms,
    log_kernel_sums,
    sliced_wasserstein,
)
from genonset.errors import ConfigError, DataError, printable
from genonset.estimates import Estimate, wilson
from genonset.features import Grain, as_images, coordinates, represent
from genonset.findings import (
    Copying,
    Duplicates,
    Evidence,
    Flagged,
    Peer,
    Plan,
    Power,
    Quality,
    Regime,
    TrainBias,
    Verdict,
    none_to,
)
from genonset.images import require_one_size
from genonset.inputs import (
    Equal,
    Given,
    as_first,
    as_loaded,
    as_numbers,
    as_sets,
    centred,
    describe,
    equal_points,
    in_one_precision,
)
from genonset.labels import (
    ROUNDING,
    LabelTest,
    Units,
    copying_power,
    dealt,
    discoveries_allowed,
    expected_false,
    most_false,
    parts_of_one,
    permutation_p_value,
    share_interval,
    unit_tail,
    unit_test,
)
from genonset.neighbors import Points, as_rows, distinct, first_rows, nearest
from genonset.overlap import unshared
from genonset.tensors import Vectors, taken
from genonset.views import Views
from genonset.words import blind_spots, copies_searched, notes, reasons, sentence

NEAR_DUPLICATE_QUANTILE = 0.05
NEAR_DUPLICATE_FRACTION = 1 / 3

TIE = 1e-9
"""Distances within this share of the least one are equal to it: rounding does not decide."""


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
    pool = _Pool.of(*sets)
    if len(pool.first) < 2:
        raise DataError(
            "training and held_out are one and the same point repeated; a label test needs "
            "at least two distinct points."
        )
    distances, where = pool.nearer([pool.nearest_in(role, samples, 1) for role in (0, 1)])
    near = distances <= pool.tie(_near_duplicate_scale(pool.spacing(1)))
    return pool.test(where, len(samples)), pool.test(where[near], len(samples))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pool:
    """Training points and, where there are any, held-out points together; nothing is copied.

    Attributes:
        sets: rows, shape (n, d) each, training first.
        search: what finds nearest neighbours, `genonset.neighbors.nearest` or the like.
        first: for each distinct point, in an order that does not depend on the labels, its first
            row, counted through all sets.
        member: for every row its distinct point.
        ranks: for the rows of each set their distinct points, -1 where an earlier row is equal.
        units: what the label tests permute.
        slack: what rounding of the coordinates can do to a distance.
    """

    sets: tuple[Tensor, ...]
    first: Tensor
    member: Tensor
    ranks: tuple[Tensor, ...]
    units: Units
    slack: float
    search: Callable[..., tuple[Tensor, Tensor]] = nearest

    @classmethod
    def of(
        cls,
        *sets: Tensor,
        search: Callable[..., tuple[Tensor, Tensor]] = nearest,
        slack: float | None = None,
        by_value: bool = False,
    ) -> "_Pool":
        """The pool of these sets.

        Args:
            search: see above.
            slack: see above; by default of the numbers of these sets.
            by_value: whether values are permuted, none of which is in two sets, and not rows.
        """
        first, member = distinct(*sets)
        ranks = []
        for rows in member.split([len(x) for x in sets]):
            earliest = first_rows(rows, len(first))[rows] == torch.arange(len(rows))
            ranks.append(torch.where(earliest, rows, -1))
        return cls(
            sets=sets,
            first=first,
            member=member,
            ranks=tuple(ranks),
            units=_units(member.numpy(), len(sets[0]), by_value),
            slack=_slack(*sets) if slack is None else slack,
            search=search,
        )

    @property
    def n_training(self) -> int:
        return len(self.sets[0])

    def has(self, role: int) -> Tensor:
        """Mask of the distinct points that are in a set."""
        found = torch.zeros(len(self.first), dtype=torch.bool)
        return found.index_fill_(0, self.ranks[role][self.ranks[role] >= 0], True)

    def rows(self, which: Tensor) -> Tensor:
        """These distinct points, one a row."""
        dtype = functools.reduce(torch.promote_types, (x.dtype for x in self.sets))
        rows = torch.empty(len(which), self.sets[0].shape[1], dtype=dtype)
        place, start = self.first[which], 0
        for x in self.sets:
            mine = ((start <= place) & (place < start + len(x))).nonzero()[:, 0]
            rows[mine] = taken(x, place[mine] - start).to(dtype)
            start += len(x)
        return rows

    def nearest_in(
        self, role: int, queries: Tensor, k: int, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Distances and places of the k nearest distinct points of one set, or of part of it.

        Fewer if there are fewer. Of the points that tie for the nearest, the first counts.
        """
        rank = self.ranks[role]
        if keep is not None:
            rank = torch.where(keep[rank], rank, -1)
        n = int((rank >= 0).sum())
        k = min(k, n)
        distances, rows = self.search(queries, self.sets[role], min(k + 1, n), rank=rank)
        where = rank[rows]
        first = self._first_tied(role, queries, rank, distances, where)[:, None]
        where = torch.where(where == first, where[:, :1], where)  # the two change places
        where[:, :1] = first
        return distances[:, :k], where[:, :k]

    def _first_tied(
        self, role: int, queries: Tensor, rank: Tensor, distances: Tensor, where: Tensor
    ) -> Tensor:
        """The first of all points that tie for the nearest of each query.

        Where all points that were found tie, more are asked for.
        """
        tied = distances <= self.tie(distances[:, :1])
        first = where.masked_fill(~tied, len(self.first)).amin(1)
        more = tied[:, -1].nonzero()[:, 0]
        wider = min(int((rank >= 0).sum()), 4 * distances.shape[1])
        if len(more) and wider > distances.shape[1]:
            farther, rows = self.search(queries[more], self.sets[role], wider, rank=rank)
            first[more] = self._first_tied(role, queries[more], rank, farther, rank[rows])
        return first

    @property
    def sizes(self) -> Tensor:
        """Of how many units each distinct point is."""
        n = len(self.first)
        return torch.bincount(self.member) if self.units.are_rows else torch.ones(n).long()

    def within(self, role: int, queries: Tensor, bound: Tensor, k: int = 8) -> Tensor:
        """How many units of one set lie within these distances of each query.

        Where all points that were found do, more are asked for.
        """
        rank = self.ranks[role]
        n = int((rank >= 0).sum())
        distances, rows = self.search(queries, self.sets[role], min(k, n), rank=rank)
        inside = distances <= bound[:, None]
        of_set = self.member.split([len(x) for x in self.sets])[role]
        sizes = torch.minimum(torch.bincount(of_set, minlength=len(self.first)), self.sizes)
        found = (sizes[rank[rows]] * inside).sum(1)
        more = inside[:, -1].nonzero()[:, 0]
        if len(more) and k < n:
            found[more] = self.within(role, queries[more], bound[more], 4 * k)
        return found

    def tie(self, distances: Tensor) -> Tensor:
        """Up to where a distance is equal to these but for rounding; nothing ties with zero."""
        return torch.where(distances > 0, distances * (1 + TIE) + self.slack, distances)

    def nearer(self, found: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Distance and place of the nearest point of all sets, from those of each set."""
        distances, where = (
            torch.stack([x[:, 0] for x in one], 1) for one in zip(*found, strict=True)
        )
        least = distances.amin(1, keepdim=True)
        where = where.masked_fill(distances > self.tie(least), len(self.first))
        return least[:, 0], where.amin(1)

    def levelled(self, *distances: Tensor) -> Sequence[Tensor]:
        """The distances, those that differ by rounding alone made equal."""
        values, order = torch.cat(distances).sort(stable=True)
        new = torch.ones_like(values, dtype=torch.bool)
        new[1:] = values[1:] > self.tie(values[:-1])
        levels = torch.empty_like(values)
        levels[order] = values[new][new.cumsum(0) - 1]
        return levels.split([len(x) for x in distances])

    def nearest(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Distances and places of the k nearest distinct points of all sets, ties by place."""
        return _merged([self.nearest_in(role, queries, k) for role in range(len(self.sets))], k)

    def some(self, places: Tensor, name: str) -> Tensor:
        """At most SEARCHED of these, LARGEST where a search has many views, drawn at random."""
        most = SEARCHED if self.search is nearest else LARGEST
        if len(places) <= most:
            return places
        order = torch.randperm(len(places), generator=seeds.generator(0, name, len(places)))
        return places[order[:most].sort().values]

    @functools.cached_property
    def looked(self) -> Tensor:
        """Places of all points, or of some drawn at random, whatever their labels."""
        return self.some(torch.arange(len(self.first)), "spacing")

    def spacing(self, k: int) -> Tensor:
        """Distances of the points `looked` at to their k nearest other ones, shape (n, k)."""
        return self.nearest(self.rows(self.looked), k + 1)[0][:, 1:]

    def sums(self, where: Tensor) -> np.ndarray:
        """For every unit how many of the samples at these points it has, in parts of one."""
        counts = torch.bincount(where.cpu(), minlength=len(self.first)).numpy() * self.parts
        if not self.units.are_rows:
            return counts
        names = self.n_training, len(self.member), *counts.tolist()
        rng = np.random.default_rng(seeds.derive(0, "leftover samples", *names))
        return dealt(counts, self.member.numpy(), rng)

    @property
    def parts(self) -> int:
        """Of how many parts a sample is made, so that equal rows can share it."""
        return parts_of_one(self.member.numpy()) if self.units.are_rows else 1

    def test(
        self, where: Tensor, n_generated: int, n_permutations: int = 10_000, seed: int = 0
    ) -> LabelTest:
        """The label test of samples that are nearest to these points."""
        return unit_test(
            self.sums(where),
            self.units,
            parts=self.parts,
            n_generated=n_generated,
            n_permutations=n_permutations,
            seed=seed,
        )


def _slack(*sets: Tensor) -> float:
    """What rounding of coordinates in float64 can do to distances; constant ones do nothing."""
    ends = [torch.stack(block.aminmax(dim=0)) for x in sets for block in datasets.blocks(x)]
    low, high = torch.stack(ends).amin(0)[0], torch.stack(ends).amax(0)[1]
    largest = torch.maximum(low.abs(), high.abs())[low < high]
    return 4 * torch.finfo(torch.float64).eps * float(largest.max()) if len(largest) else 0.0


def _units(member: np.ndarray, n_training: int, by_value: bool) -> Units:
    if by_value:
        return Units.values(member, n_training)
    return Units.rows(len(member), n_training)


def _merged(found: Sequence[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of several answers, a point that is in two of them once; ties by place."""
    distances, where = (torch.cat(one, 1) for one in zip(*found, strict=True))
    where, order = where.sort(dim=1, stable=True)
    distances = distances.gather(1, order)
    repeated = torch.zeros_like(where, dtype=torch.bool)
    repeated[:, 1:] = where[:, 1:] == where[:, :-1]
    distances, order = distances.masked_fill(repeated, math.inf).sort(dim=1, stable=True)
    k = min(k, int((~repeated).sum(1).min()))
    return distances[:, :k], where.gather(1, order)[:, :k]


def _same_shape(**sets: Points) -> list[Tensor]:
    """The sets as rows of one length."""
    vectors = [as_rows(name, points) for name, points in sets.items()]
    if len({v.shape[1] for v in vectors}) > 1:
        raise DataError(
            f"{', '.join(sets)} must hold data points of one shape, got "
            f"{', '.join(str(v.shape[1]) for v in vectors)} coordinates."
        )
    return vectors


def _near_duplicate_scale(spacing: Tensor) -> Tensor:
    """Equation (3) from the distances of distinct points to others; nearest in column 0.

    Zero if float64 cannot tell their distances from zero.
    """
    known = spacing[:, 0]
    known = known[known > 0].sort().values
    rank = int(NEAR_DUPLICATE_QUANTILE * (len(known) - 1))
    return NEAR_DUPLICATE_FRACTION * known[rank] if len(known) else known.new_zeros(())


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
    pool = _Pool.of(points)
    if len(pool.first) < 2:
        raise DataError(
            "All training points are equal. A gap ratio needs two distinct points; count exact "
            "copies instead."
        )
    first, second = pool.nearest(samples, 2)[0].T
    return wilson(int((pool.tie(first) < gap * second).sum()), len(first))


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
    if copying_p <= significance * ROUNDING:
        return "copying"
    if train_bias_p <= significance * ROUNDING:
        return "train-biased"
    if power < 1 / 2:
        return "undecided"
    return "poor" if quality > 2 * oracle_quality else "generalizing"


def audit(
    generated: Given,
    training: Given,
    held_out: Given | None = None,
    *,
    seed: int = 0,
    n_permutations: int = 10_000,
    significance: float = 0.05,
    power: bool = False,
    allow_mixed_units: bool = False,
    drop_overlap: bool = False,
    features: str | None = None,
    robust: bool = False,
) -> Verdict:
    """Are these samples copies of that training set?

    Args:
        generated: shape (m, *shape), samples of a model.
        training: shape (n_T, *shape), the points it was fitted to.
        held_out: shape (n_H, *shape), points of the same source that it was not fitted to, and
            that did not choose its checkpoint; best a random part put aside before training.
            Without it the verdict is "undecided".
        seed: of the relabellings, planted copies and subsets.
        n_permutations: relabellings where no exact law is at hand; p-values are then
            (k + 1)/(n_permutations + 1).
        significance: level of either test.
        power: whether to find the power at several shares of copies.
        allow_mixed_units: compare sets in different units anyway.
        drop_overlap: leave points that stand in both the training and the held-out set out of
            both, and samples that equal them out of the tests. Out of one set alone they would
            leave the other with all that is popular.
        features: the coordinates that are compared, as `genonset.features.represent` takes them;
            by default "pixels", of tables with named columns "standardized", and in a robust
            search "lowpass".
        robust: search images through the views of `genonset.views`: flipped, shifted, cropped.
            The features are then those of the search alone; quality is that of the pixels.

    Raises:
        DataError: if a set is empty, not finite, or of another shape or unit than the others.
        ConfigError: if an option is out of range.

    Reference:
        Theory note, section 6; Facco, d'Errico, Rodriguez and Laio 2017, Scientific Reports 7, for
        the dimension behind the chance level; Barber and Candes 2015, Annals of Statistics 43, for
        false discoveries from the sign of a comparison.
    """
    if not (0 < significance < 1 and n_permutations >= 1):
        raise ConfigError(
            "An audit needs 0 < significance < 1 and n_permutations >= 1, got "
            f"{significance} and {n_permutations}."
        )
    given = as_loaded(generated, training, held_out)
    sets, shaped = as_sets(given)
    facts = {name: describe(points) for name, points in sets.items()}
    sets, moved = centred(sets)
    warned = datasets.check_same_units(sets, allow_mixed_units=allow_mixed_units)
    sets, rounded = in_one_precision(sets)
    tables = given["generated"].kind == given["training"].kind == "table"
    features = features or ("lowpass" if robust else "standardized" if tables else "pixels")
    views = _views(sets, features) if robust else None
    seen = sets if views else represent(sets, features)
    rows = {name: as_numbers(points) for name, points in seen.items()}
    if seen is not sets and features != "pixels":
        rows = as_first(rows, sets)
    kept = unshared(rows) if drop_overlap else None
    search = _Search.of(
        rows if kept is None else {name: taken(rows[name], i) for name, i in kept.rows.items()},
        whole=rows,
        equal=equal_points(sets),
        search=nearest if views is None else views.nearest,
        by_value=kept is not None,
        slack=_slack(
            *(views.onto(x) if views else rows[n] for n, x in sets.items() if n != "generated")
        ),
    )
    copied, bias = (
        search.copying(significance, n_permutations, seed),
        search.train_bias(n_permutations, seed),
    )
    quality, peers = search.quality(seed), search.peers(n_permutations, seed)
    evidence = search.evidence(sets, search.background(copied.controlled))
    strength = search.power(evidence, significance, seed, curve=power)
    if kept is not None:
        evidence = kept.evidence(evidence)
        copied = replace(copied, flagged=kept.flagged(copied.flagged), left_out=len(kept.left_out))
    copied = replace(copied, flagged=_with_identical(copied.flagged, search.equal, evidence))
    if views is not None and copied.flagged:
        copied = replace(copied, flagged=_with_changes(copied.flagged, rows, views))
    found: Regime = "undecided"
    if quality.control is not None:
        found = regime(
            copying_p=none_to(copied.p_value, 1.0),
            train_bias_p=none_to(bias.p_value, 1.0),
            quality=quality.sliced_wasserstein,
            oracle_quality=quality.control,
            power=none_to(strength.probability, 0.0),
            significance=significance,
        )
    duplicates = search.duplicates if kept is None else replace(search.duplicates, overlap=0)
    held_out_copies = search.equal.held_out_copies
    blind = duplicates.overlap or search.n_shared or held_out_copies == len(rows["generated"])
    searched = copies_searched(facts["training"].shape, features, robust)
    if blind and found in ("poor", "generalizing"):
        found = "undecided"  # points of both sets, or samples held out, hide copies from the tests
    return Verdict(
        verdict=found,
        sentence=sentence(
            found, copied, bias, quality, strength, facts, duplicates.overlap, held_out_copies
        ),
        reasons=tuple(
            reasons(copied, bias, quality, strength, significance, search.gap, searched)
        ),
        notes=(
            *notes(facts, duplicates, held_out_copies),
            *blind_spots(sets, features, robust, given["training"].columns),
            *shaped,
            *moved,
            *rounded,
            *(f"Units: {w}." for w in warned),
            *([kept.note] if kept else []),
            *(note for one in given.values() for note in one.notes),
        ),
        copying=copied,
        train_bias=bias,
        quality=quality,
        power=strength,
        duplicates=duplicates,
        peers=peers,
        inputs=facts,
        settings={
            "seed": seed,
            "n_permutations": n_permutations,
            "significance": significance,
            "allow_mixed_units": allow_mixed_units,
            "drop_overlap": drop_overlap,
            "features": features,
            "robust": robust,
            "near_duplicate_scale": copied.scale,
            "intrinsic_dimension": search.dimension,
        },
        evidence=replace(evidence, columns=given["training"].columns),
    )


def audit_files(
    generated: str | Path,
    training: str | Path,
    held_out: str | Path | None = None,
    *,
    features: str | None = None,
    robust: bool = False,
    plan_sizes: bool = False,
    power: bool = False,
    allow_mixed_units: bool = False,
    drop_overlap: bool = False,
    skip_unreadable: bool = False,
    colour: bool | None = None,
    resize: int | None = None,
    significance: float = 0.05,
    seed: int = 0,
) -> Verdict:
    """The audit of folders of images, array files or tables, with their names.

    Args:
        generated, training, held_out: paths that `genonset.datasets.read` takes.
        features: as in `audit`; by default "standardized" for tables, whose columns have units of
            their own, and "pixels" for everything else.
        robust: as in `audit`.
        plan_sizes: whether to `plan` sizes as well.
        drop_overlap: as in `audit`.
        skip_unreadable, colour, resize: of image folders, as in
            `genonset.images.read_named_images`.
        power, allow_mixed_units, significance, seed: as in `audit`.

    Raises:
        DataError, ConfigError: as `audit`; or if a path cannot be read, or tables differ in their
            columns.
    """
    paths = {"generated": generated, "training": training}
    if held_out is not None:
        paths["held_out"] = held_out
    for name, path in paths.items():
        if not isinstance(path, str | Path):
            raise DataError(
                f"{name}: audit_files takes paths of folders, arrays and tables, got "
                f"{type(path).__name__}; genonset.audit takes arrays, tensors and data frames."
            )
    folders = all(Path(path).is_dir() for path in paths.values())
    if resize is not None and not any(Path(path).is_dir() for path in paths.values()):
        raise ConfigError("resize, or --resize, is for folders of images; there is none here.")
    loaded = datasets.read_sets(
        paths, colour=colour, resize=resize, skip_unreadable=skip_unreadable
    )
    require_one_size(loaded)
    if folders:  # 256 levels of grey: single precision tells them apart, in half the memory
        loaded = {n: replace(one, points=one.points.float()) for n, one in loaded.items()}
    sets = {name: one.points for name, one in loaded.items()}
    names = {name: one.names for name, one in loaded.items()}
    notes = [
        f"{len(one.skipped)} images of {name} cannot be read and were left out: "
        f"{'; '.join(one.skipped[:5])}."
        for name, one in loaded.items()
        if one.skipped
    ]
    for name, one in loaded.items():
        of = f"{name.replace('_', '-')}: " if one.kind == "images" else ""
        notes += [f"{of}{note}" for note in one.notes]
    tables = all(one.kind == "table" for one in loaded.values())
    if tables and features is None:
        notes.append(
            "Columns are compared standardized: one that hardly varies weighs as much as any. "
            "--features pixels compares them as they are."
        )
    verdict = audit(
        sets["generated"],
        sets["training"],
        sets.get("held_out"),
        seed=seed,
        significance=significance,
        power=power,
        allow_mixed_units=allow_mixed_units,
        drop_overlap=drop_overlap,
        features=features or ("standardized" if tables else None),
        robust=robust,
    )
    facts = {
        name: replace(one, path=printable(Path(paths[name]).as_posix()))
        for name, one in verdict.inputs.items()
    }
    columns = loaded["training"].columns
    verdict = replace(
        verdict,
        inputs=facts,
        notes=(*verdict.notes, *notes),
        evidence=replace(verdict.evidence, names=names, columns=columns),
    )
    if not plan_sizes:
        return verdict
    return replace(verdict, power=replace(verdict.power, plan=plan(verdict)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Search:
    """Every neighbour search of an audit, done once."""

    rows: dict[str, Tensor]
    whole: dict[str, Tensor]  # with what was left out of the tests
    equal: Equal
    points: _Pool
    in_training: Tensor  # mask over its distinct points
    in_held_out: Tensor
    spacing: Tensor  # distances of distinct points to two others
    looked: Tensor  # and which points these are, by their places in the pool
    second: Tensor  # for each sample the distance to its second nearest distinct point
    first: Tensor  # for each sample the distances to two distinct training points
    nearest_training: Tensor  # and the nearest one, by its place in the pool
    to_held_out: Tensor | None
    nearest_held_out: Tensor | None
    control: Tensor  # distances of held-out rows to two distinct training points
    control_training: Tensor  # for each held-out row the nearest one, by its place
    drawn: Tensor  # places of the training points whose others were looked for at random
    training_spacing: Tensor  # for each distinct point, if looked at, distances to training points
    training_neighbour: Tensor  # and the nearest one

    @classmethod
    def of(
        cls,
        rows: dict[str, Tensor],
        whole: dict[str, Tensor],
        equal: Equal,
        search: Callable[..., tuple[Tensor, Tensor]],
        slack: float,
        by_value: bool,
    ) -> "_Search":
        roles = [name for name in ("training", "held_out") if name in rows]
        sets = (rows[name] for name in roles)
        points = _Pool.of(*sets, search=search, slack=slack, by_value=by_value)
        mine = points.has(0)
        other = points.has(1) if len(roles) > 1 else torch.zeros_like(mine)
        if int(mine.sum()) < 2:
            given = f"All {points.n_training} training points are equal"
            raise DataError(
                f"{given if points.n_training > 1 else 'There is one training point'}; an audit "
                "needs at least two distinct ones. Check what was written to this set."
            )
        found = [points.nearest_in(role, rows["generated"], 2) for role in range(len(roles))]
        first, where = found[0]
        drawn = points.some(mine.nonzero()[:, 0], "training spacing")
        looked, control, control_where = [drawn, where[:, 0]], None, None
        if len(roles) > 1:
            control, control_where = points.nearest_in(0, rows["held_out"], 2)
            looked.append(control_where[:, 0])
        looked = torch.cat(looked).unique()
        among, neighbours = points.nearest_in(0, points.rows(looked), 3)
        training_spacing = torch.full((len(mine), among.shape[1] - 1), math.inf).double()
        training_spacing[looked] = among[:, 1:]
        training_neighbour = torch.arange(len(mine))
        training_neighbour[looked] = neighbours[:, 1]
        if control is None or control_where is None:
            control, control_where = training_spacing[drawn], training_neighbour[drawn, None]
        return cls(
            rows=rows,
            whole=whole,
            equal=equal,
            points=points,
            in_training=mine,
            in_held_out=other,
            spacing=training_spacing[drawn] if len(roles) == 1 else points.spacing(2),
            looked=drawn if len(roles) == 1 else points.looked,
            second=_merged(found, 2)[0][:, 1],
            first=first,
            nearest_training=where[:, 0],
            to_held_out=found[1][0][:, 0] if len(roles) > 1 else None,
            nearest_held_out=found[1][1][:, 0] if len(roles) > 1 else None,
            control=control,
            control_training=control_where[:, 0],
            drawn=drawn,
            training_spacing=training_spacing,
            training_neighbour=training_neighbour,
        )

    @property
    def pool(self) -> _Pool | None:
        """Training and held-out points, if there are both."""
        return self.points if "held_out" in self.rows else None

    @property
    def scale(self) -> float:
        return float(_near_duplicate_scale(self.spacing))

    @property
    def near(self) -> Tensor:
        """Which samples are near-duplicates of a point, whatever its label: (3) or (8)."""
        return self._is_near(self.nearer[0], self.second)

    def _is_near(self, first: Tensor, second: Tensor) -> Tensor:
        within = first <= self.points.tie(_near_duplicate_scale(self.spacing))
        return within | (self.points.tie(first) < self.gap * second)

    @functools.cached_property
    def gap(self) -> float:
        """The bound of (8); 0 where chance would pass it too often."""
        if self.points.search is nearest or self.tied:
            return 1 / 3 if self.chance < RARE else 0.0
        return min(1 / 2, RARE_IN_VIEWS ** (1 / self.dimension)) if self.dimension > 0 else 0.0

    @functools.cached_property
    def tied(self) -> bool:
        """Whether points repeat or lie equally far so often that they have no density."""
        sizes = torch.bincount(self.points.member)
        repeated = float((sizes[self.points.member] > 1).double().mean())
        equal = self.spacing[:, -1] <= self.points.tie(self.spacing[:, 0])
        return max(repeated, float(equal.double().mean())) > TIED

    @functools.cached_property
    def chance(self) -> float:
        """How often the gap ratio is below 1/3 by chance: (1/3)^k, or as in a pool with ties."""
        if not self.tied:
            return (1 / 3) ** self.dimension
        sizes = torch.bincount(self.points.member)[self.looked]
        return float(
            (sizes * self._memorized(*self._left_out(self.spacing, sizes))).sum() / sizes.sum()
        )

    def _memorized(self, first: Tensor, second: Tensor) -> Tensor:
        """Equation (4), whatever rounding did."""
        return self.points.tie(first) < second / 3

    @staticmethod
    def _left_out(spacing: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Distances of points to the two nearest others if one row of each is left out.

        A point that is there once has the distances to other points; of one that is there several
        times, another row is at distance 0.
        """
        again = sizes > 1
        return (
            spacing[:, 0].masked_fill(again, 0.0),
            torch.where(again, spacing[:, 0], spacing[:, -1]),
        )

    @property
    def nearer(self) -> tuple[Tensor, Tensor]:
        """Distance and distinct point of each sample's nearest neighbour in the pool."""
        found = [(self.first, self.nearest_training[:, None])]
        if self.to_held_out is not None and self.nearest_held_out is not None:
            found.append((self.to_held_out[:, None], self.nearest_held_out[:, None]))
        return self.points.nearer(found)

    @property
    def tied_nearest(self) -> Tensor:
        """How many units of the pool tie for the nearest to each sample."""
        distances, where = self.nearer
        bound = self.points.tie(distances)
        found = self.points.sizes[where]
        several = (self.second <= bound).nonzero()[:, 0]
        if len(several):
            queries = self.rows["generated"][several]
            roles = range(len(self.points.sets))
            found[several] = sum(
                self.points.within(role, queries, bound[several]) for role in roles
            )
        return found

    @property
    def near_twins(self) -> Tensor:
        """Which training points have another within a third of the median distance."""
        nearest_other = self.training_spacing[:, 0]
        bound = NEAR_DUPLICATE_FRACTION * nearest_other[self.drawn].median()
        return self.points.tie(nearest_other) < bound

    @property
    def dimension(self) -> float:
        """Intrinsic dimension from the ratios of neighbour distances, Pareto with exponent k."""
        if self.spacing.shape[1] < 2:
            return math.nan
        one, two = self.spacing.T
        usable = one > self.points.tie(NEAR_DUPLICATE_FRACTION * one.median())
        logs = (two[usable] / one[usable]).log()
        total = float(logs.sum())
        return (len(logs) - 1) / total if len(logs) > 1 and total > 0 else math.nan

    @property
    def n_shared(self) -> int:
        """Held-out points that equal a training point in the coordinates that are compared."""
        if self.pool is None:
            return 0
        return int(self.in_training[self.pool.member[self.pool.n_training :]].sum())

    @property
    def duplicates(self) -> Duplicates:
        return Duplicates(
            training=self.equal.training,
            near_training=int(self.near_twins.sum()),
            overlap=self.equal.overlap,
            generated=self.equal.generated,
        )

    # Copying and train bias

    def copying(self, significance: float, n_permutations: int, seed: int) -> Copying:
        _, where = self.nearer
        near = self.near
        p_value = near_held_out = None
        controlled, at_least = torch.zeros_like(near), 0
        hits = self._hits(near, where)
        if self.pool is not None:
            p_value = self.pool.test(where[near], len(near), n_permutations, seed).p_value
            near_held_out = int((near & self.in_held_out[where]).sum())
            if p_value <= significance * ROUNDING and discoveries_allowed(*hits[:3]):
                controlled = near & (self.in_training & self.judged)[where]
                at_least = hits[0] - most_false(*hits)
        samples, control = self.gap_shares()
        near_training = int((near & self.in_training[where]).sum())
        return Copying(
            p_value=p_value,
            flagged=self._flagged(controlled),
            at_least=at_least,
            points_training=hits[0] if self.pool else None,
            points_held_out=hits[1] if self.pool else None,
            points_by_chance=expected_false(*hits[1:3]) if self.pool else None,
            identical=self.equal.identical,
            near_training=near_training,
            near_held_out=near_held_out,
            scale=self.scale,
            memorized_fraction=samples.value,
            memorized_low=samples.low,
            memorized_high=samples.high,
            control_fraction=None if control is None else control.value,
            chance=self.chance if control is None or not self.tied else control.value,
            chance_of=("held_out" if self.pool else "left_out") if self.tied else "dimension",
            leave_one_out_p_value=peers.fisher(near_training, len(near), *self._left_out_near()),
        )

    def _left_out_near(self) -> tuple[int, int]:
        """Of how many training points, left out one at a time, how many are near another.

        Points that are near one another are so together: as many independent ones are counted as
        have the variance of their sum over groups.
        """
        sizes = torch.bincount(self.points.member[: self.points.n_training])[self.drawn]
        near = self._is_near(*self._left_out(self.training_spacing[self.drawn], sizes)).double()
        share = float((sizes * near).sum() / sizes.sum())
        among = torch.where(near > 0, self.training_neighbour[self.drawn], self.drawn)
        group = _groups(self.drawn, among, len(self.in_training))[self.drawn]
        sums = torch.zeros(len(self.in_training), dtype=torch.float64)
        sums.index_add_(0, group, sizes * (near - share))
        n = int(sizes.sum())
        if 0 < share < 1:
            n = min(n, round(share * (1 - share) * n**2 / float(sums.square().sum())))
        return round(share * n), n

    def gap_shares(self) -> tuple[Estimate, Estimate | None]:
        """Equation (4) for the samples and for held-out points, near twins counted once."""
        keep = self._one_of_each()
        first, control = self.first, self.control
        if not bool(keep.all()) and int((keep & self.in_training).sum()) > 1:
            first = self.points.nearest_in(0, self.rows["generated"], 2, keep)[0]
            if self.pool is not None:
                control = self.points.nearest_in(0, self.rows["held_out"], 2, keep)[0]
        share = wilson(int(self._memorized(*first.T).sum()), len(first))
        if self.pool is None:
            return share, None
        return share, wilson(int(self._memorized(*control.T).sum()), len(control))

    def _one_of_each(self) -> Tensor:
        """Mask of distinct points with one of each group of near twins in the training set."""
        twins = self.near_twins
        keep = torch.ones(len(twins), dtype=torch.bool)
        if not bool(twins.any()):
            return keep
        i = twins.nonzero()[:, 0]
        group = _groups(i, self.training_neighbour[i], len(twins))
        _, first = np.unique(group.numpy(), return_index=True)
        return keep.fill_(False).index_fill_(0, torch.from_numpy(first), True)

    def _hits(self, near: Tensor, where: Tensor) -> tuple[int, int, float, int]:
        """R and V of (6), the largest odds, and the number of points they are among."""
        judged, odds = self.judged, self._row_odds
        hit = torch.zeros_like(judged).index_fill_(0, where[near], True) & judged
        if 1 < odds < math.inf and bool(hit.any()):
            odds **= int(torch.bincount(self.points.member)[hit].max())
        n_mine = int((hit & self.in_training).sum())
        return n_mine, int(hit.sum()) - n_mine, odds, int(judged.sum())

    @functools.cached_property
    def judged(self) -> Tensor:
        """Mask of the points that (6) can judge: in one set only, where chance could have had it.

        A row is a training one with odds o, a point of k rows with o^k: above 20, that it is one
        says nothing.
        """
        alone = self.in_training ^ self.in_held_out
        if self._row_odds <= 1:
            return alone
        most = max(1, int(math.log(20) / math.log(self._row_odds)))
        return alone & (torch.bincount(self.points.member) <= most)

    @property
    def _row_odds(self) -> float:
        """The odds that a row is a training one; of rows that are alone where shared ones went."""
        if self.pool is None:
            return math.inf
        n_mine, n_other = self.pool.n_training, len(self.rows["held_out"])
        if not self.pool.units.are_rows:
            single = torch.bincount(self.pool.member) == 1
            n_mine, n_other = (
                int((of & single).sum()) for of in (self.in_training, self.in_held_out)
            )
        return n_mine / n_other if n_mine and n_other else math.inf

    def _flagged(self, controlled: Tensor) -> tuple[Flagged, ...]:
        """The samples of (6) with the p-values of (7)."""
        distances = self.first[:, 0]
        chosen = controlled.nonzero()[:, 0]
        chosen = chosen[distances[chosen].argsort(stable=True)]
        p_values = self.sample_p_values(distances)
        member, where = self.points.member, self.nearest_training
        training_row = first_rows(member[: self.points.n_training], len(self.in_training))
        return tuple(
            Flagged(
                index=int(i),
                nearest=int(training_row[where[i]]),
                distance=float(distances[i]),
                p_value=float(p_values[i]),
            )
            for i in chosen
        )

    def sample_p_values(self, distances: Tensor) -> Tensor:
        """Equation (7) for each sample at its distance."""
        own, where = self.nearer
        reached = torch.full((len(self.points.first),), math.inf, dtype=torch.float64)
        reached.scatter_reduce_(0, where, own, "amin")
        controls = reached[self.in_held_out & ~self.in_training].sort().values
        as_near = torch.searchsorted(controls, self.points.tie(distances), right=True)
        return (1 + as_near).double() / (1 + len(controls))

    def train_bias(self, n_permutations: int, seed: int) -> TrainBias:
        if self.pool is None:
            return TrainBias(**dict.fromkeys(f.name for f in fields(TrainBias)))
        _, where = self.nearer
        sums, units, parts = self.pool.sums(where), self.pool.units, self.pool.parts
        test = unit_test(sums, units, parts=parts, n_permutations=n_permutations, seed=seed)
        counts = sums / parts
        low, high = share_interval(counts[units.training], counts[~units.training])
        return TrainBias(
            p_value=test.p_value,
            share=test.share,
            low=low,
            high=high,
            expected=test.expected,
            z=test.z,
            excess=test.excess,
        )

    # Quality and peers

    def quality(self, seed: int) -> Quality:
        reference = "training" if self.pool is None else "held_out"
        samples, training = self._matched(seed)
        real = _subset(self.whole[reference], SEARCHED, seed, reference)
        control = None
        if self.pool is not None:
            control = _sliced(training, real, seed)
        return Quality(
            sliced_wasserstein=_sliced(samples, real, seed),
            control=control,
            spread_ratio=_spread(self.whole["generated"])
            / _spread(*(x for name, x in self.whole.items() if name != "generated")),
            reference=reference,
            size=len(samples),
        )

    def _matched(self, seed: int) -> tuple[Vectors, Vectors]:
        """Equally many samples and training points, drawn at random."""
        both = [self.whole["generated"], self.whole["training"]]
        size = min(len(both[0]), len(both[1]), LARGEST)
        samples, training = (
            _subset(x, size, seed, name)
            for x, name in zip(both, ("generated", "training"), strict=True)
        )
        return samples, training

    def peers(self, n_permutations: int, seed: int) -> dict[str, Peer]:
        """What others would have reported, each with its level by chance on these data."""
        if self.pool is None or self.to_held_out is None:
            return {}
        where = self.nearest_training
        to_training, to_held_out, control = self.points.levelled(
            self.first[:, 0], self.to_held_out, self.control[:, 0]
        )
        rank = peers.rank_test(to_training, control)
        spacing = self.points.tie(self.training_spacing[:, 0])
        own = peers.authentic(self.first[:, 0], where, spacing)
        fresh = peers.authentic(self.control[:, 0], self.control_training, spacing)
        n_training = int(self.pool.units.training.sum())
        n_held_out = len(self.pool.units.training) - n_training
        found = {
            "c_t": Peer(value=rank.z, chance=0.0, p_value=rank.p_value),
            "authenticity": Peer(
                value=float(own.double().mean()),
                chance=float(fresh.double().mean()),
                p_value=peers.fisher(int((~own).sum()), len(own), int((~fresh).sum()), len(fresh)),
            ),
            "dcr_share": Peer(
                value=peers.nearer_share(to_training, to_held_out),
                chance=peers.nearer_by_chance(self.tied_nearest, n_training, n_held_out),
            ),
        }
        return found | self._manifold(seed) | self._distances(n_permutations, seed)

    def _manifold(self, seed: int) -> dict[str, Peer]:
        samples, training = self._matched(seed)
        real = _subset(self.whole["held_out"], LARGEST, seed, "held_out")
        if min(len(samples), len(real)) < 2:
            return {}
        found, chance = peers.manifold(samples, real), peers.manifold(training, real)
        return {
            f.name: Peer(value=getattr(found, f.name), chance=getattr(chance, f.name))
            for f in fields(found)
        }

    def _distances(self, n_permutations: int, seed: int) -> dict[str, Peer]:
        """Distances of laws to either set, at equal sizes: by chance the two are equal."""
        size = min(*(len(rows) for rows in self.rows.values()), LARGEST)
        samples, training, held_out = (
            _subset(rows, size, seed, name) for name, rows in self.rows.items()
        )
        found: dict[str, Peer] = {}
        for name, distance in (("energy", energy_distance), ("sliced_wasserstein", None)):
            values = [
                _sliced(samples, real, seed) if distance is None else distance(samples, real)
                for real in (training, held_out)
            ]
            found[f"{name}_training"] = Peer(value=values[0], chance=values[1])
        spread = math.sqrt(_spread(training, held_out) / samples.shape[1])
        if spread > 0:
            found["kernel_delta"] = _kernel_peer(
                samples,
                training,
                held_out,
                spread,
                n_permutations,
                seed,
                by_value=not self.points.units.are_rows,
            )
        return found

    # Power

    def power(self, evidence: Evidence, significance: float, seed: int, *, curve: bool) -> Power:
        if self.pool is None:
            return Power(share=PLANTED, probability=None)
        sizes = len(self.rows["generated"]), self.pool.n_training
        planted = _Planted.beside(evidence, significance, seed)
        shares = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2) if curve else ()
        return Power(
            share=PLANTED,
            probability=planted.found(*sizes, PLANTED, n_trials=40),
            curve=tuple((share, planted.found(*sizes, share)) for share in shares),
        )

    def background(self, flagged: Sequence[Flagged]) -> np.ndarray:
        """For every point of the pool how many samples are near it, those flagged left out."""
        if self.pool is None:
            return np.zeros(0, dtype=np.int64)
        _, where = self.nearer
        near = self.near
        near[[f.index for f in flagged]] = False
        return np.bincount(where[near].numpy(), minlength=len(self.points.first))

    def evidence(self, sets: dict[str, Tensor], background: np.ndarray) -> Evidence:
        member, n_training = self.points.member, self.points.n_training
        training_row = first_rows(member[:n_training], len(self.points.first))
        held_out = None
        if self.nearest_held_out is not None:
            held_out = first_rows(member[n_training:], len(training_row))[self.nearest_held_out]
        return Evidence(
            to_training=self.first[:, 0],
            nearest_training=training_row[self.nearest_training],
            to_held_out=self.to_held_out,
            nearest_held_out=held_out,
            p_values=self.sample_p_values(self.first[:, 0]),
            control=self.control[:, 0],
            background=background,
            units=self.pool.units if self.pool else None,
            member=member.numpy(),
            sets=sets,
        )


def _views(sets: dict[str, Tensor], features: str) -> Views:
    """The views of these images; no label enters."""
    pool = [sets[name] for name in ("training", "held_out") if name in sets]
    shape = tuple(pool[0].shape[1:])
    as_images(pool[0][:1], "A robust search")
    return Views(shape=shape, onto=coordinates(pool, features), grain=Grain.of(pool))


def _with_identical(
    flagged: Sequence[Flagged], equal: Equal, evidence: Evidence
) -> tuple[Flagged, ...]:
    """The samples found and all that equal a training point, nearest first."""
    named = {f.index: f for f in flagged}
    for i in (equal.in_training >= 0).nonzero()[:, 0].tolist():
        found = named.get(i) or Flagged(
            index=i,
            nearest=0,
            distance=float(evidence.to_training[i]),
            p_value=float(evidence.p_values[i]) if evidence.to_held_out is not None else None,
            controlled=False,
        )
        named[i] = replace(
            found,
            nearest=int(equal.in_training[i]),
            identical=True,
            in_held_out=bool(equal.in_held_out[i] >= 0),
        )
    return tuple(sorted(named.values(), key=lambda f: (f.distance, f.index)))


def _with_changes(
    flagged: Sequence[Flagged], rows: Mapping[str, Tensor], views: Views
) -> tuple[Flagged, ...]:
    samples = rows["generated"][[f.index for f in flagged]]
    points = rows["training"][[f.nearest for f in flagged]]
    changes = views.changes(samples, points, rows["training"])
    return tuple(
        replace(f, change=c.sentence, details=c) for f, c in zip(flagged, changes, strict=True)
    )


SEARCHED = 10_000
"""Points whose distances to others set the scale; of larger sets a random part, all against all
points."""

LARGEST = 1000
"""Points of a set that are compared all with all; of larger sets a random part."""

TIED = 0.05
"""Share of points that repeat, or whose two nearest others are equally far, beyond which formulas
that presume a density do not hold."""

RARE = 0.01
"""Chance below which a small gap ratio makes a near-duplicate."""

RARE_IN_VIEWS = 0.001
"""Chance with which a robust search takes a sample for a near-duplicate by its gap ratio."""

PLANTED = 0.1
"""Share of copies that an audit must be able to find with power 1/2, or it is undecided."""


def _groups(i: Tensor, j: Tensor, n: int) -> Tensor:
    """For each of n things the group that these links put it in."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(i)), (i.numpy(), j.numpy())), shape=(n, n))
    return torch.from_numpy(connected_components(links)[1]).long()


def _subset(rows: Tensor, size: int, seed: int, name: str) -> Vectors:
    """At most `size` rows, drawn at random, in float64."""
    if len(rows) <= size:
        return rows.double()
    order = torch.randperm(len(rows), generator=seeds.generator(seed, "subset", name))
    return taken(rows, order[:size].sort().values).double()


def _sliced(x: Vectors, y: Vectors, seed: int) -> float:
    return sliced_wasserstein(x, y, generator=seeds.generator(seed, "directions"))


def _spread(*sets: Tensor) -> float:
    """Trace of the covariance of all rows together."""
    return float(datasets.moments(*sets)[1].sum())


def _kernel_peer(
    samples: Vectors,
    training: Vectors,
    held_out: Vectors,
    spread: float,
    n_permutations: int,
    seed: int,
    by_value: bool,
) -> Peer:
    """log(b/a) of the size-matched Delta, and the p-value of its cross terms by relabelling.

    The value is negative where Delta > 0; by chance either sign has probability 1/2.
    """
    n, dim = training.shape
    bandwidth = spread * n ** (-1 / dim)
    law = Smoothed(points=samples, bandwidth=0.0)
    sets = (Smoothed(points=x, bandwidth=bandwidth) for x in (training, held_out))
    terms = [kernel_terms(law, x) for x in sets]
    delta = kernel_delta(terms[0], terms[1], keep_self=False)
    pool = torch.cat([training, held_out])
    logs = log_kernel_sums(pool, samples, scale=1 / bandwidth**2)
    weights = (logs - logs.max()).exp().numpy()
    units = _units(distinct(training, held_out)[1].numpy(), n, by_value)
    p_value = permutation_p_value(weights, units, n_permutations=n_permutations, seed=seed)
    return Peer(value=delta.log_ratio, chance=0.0, p_value=p_value)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Planted:
    """Copies planted among samples like those seen.

    Attributes:
        background: for each point of the pool how many of the samples seen were near it.
        member: for each row of the pool its point.
        units: what the label test permutes.
        significance: level of the test.
        seed: of the trials.
    """

    background: np.ndarray
    member: np.ndarray
    units: Units
    significance: float
    seed: int

    @classmethod
    def beside(cls, evidence: Evidence, significance: float, seed: int) -> "_Planted":
        """Beside the samples of an audit that were not flagged."""
        assert evidence.units is not None
        return cls(
            background=evidence.background,
            member=evidence.member,
            units=evidence.units,
            significance=significance,
            seed=seed,
        )

    def found(
        self,
        n_generated: int,
        n_training: int,
        share: float,
        *,
        n_seen: int | None = None,
        n_points: int | None = None,
        n_trials: int = 200,
    ) -> float:
        """Probability that `copying` finds planted copies, each sample one with prob. `share`.

        Each trial labels the units at random, keeps a part of the samples that were near, so that
        real copies among them favour no label, and adds copies of random training
        rows, each near enough to count for its point: equal rows share it, as in the audit.
        Without background and without equal rows it is (5).

        Args:
            n_generated: m, number of samples in a trial.
            n_training: number of training rows.
            share: of the samples that are copies.
            n_seen: number of samples behind the background, if not m.
            n_points: number of rows in the pool, if not as many as there are: drawn from them,
                each time a point of its own if no rows are equal.
            n_trials: number of trials.
        """
        n_rows = n_points or len(self.member)
        repeats = len(self.background) < len(self.member)
        if not self.background.any() and not repeats:
            return copying_power(
                n_generated, n_training, n_rows - n_training, share, self.significance
            )
        names = "planted copies", n_generated, n_training, n_rows, repr(share)
        rng = np.random.default_rng(seeds.derive(self.seed, *names))
        part = (1 - share) * n_generated / (n_seen or n_generated)
        hits = 0
        for _ in range(n_trials):
            units, member, seen = self.units, self.member, self.background
            if n_rows != len(member):
                drawn = member[rng.integers(len(member), size=n_rows)]
                seen, member = (seen, drawn) if repeats else (seen[drawn], np.arange(n_rows))
            if n_rows != len(self.member) or units.are_rows:
                labels = rng.permutation(n_rows) < n_training
                units = replace(Units.rows(n_rows, n_training), training=labels)
            else:
                units = units.relabelled(rng)
            mine = np.flatnonzero(units.training[units.of_row])
            # what was seen is Poisson by itself: part of it is, too, and more has to be drawn
            counts = rng.binomial(seen, part) if part <= 1 else rng.poisson(part * seen)
            copied = member[mine[rng.integers(len(mine), size=rng.binomial(n_generated, share))]]
            counts += np.bincount(copied, minlength=len(counts))
            if units.are_rows:
                counts = dealt(counts * parts_of_one(member), member, rng)
            p_value = unit_tail(counts.astype(np.float64), units, 1000, self.seed, most=0.01)
            hits += p_value <= self.significance * ROUNDING
        return hits / n_trials


def plan(
    verdict: Verdict, *, power: float = 0.9, shares: Sequence[float] = (0.01, 0.02, 0.05, 0.1)
) -> tuple[Plan, ...]:
    """Sizes with which an audit like this one finds shares of copies.

    Args:
        verdict: of an audit with a held-out set; its near samples are the background.
        power: probability wished for.
        shares: of the samples that are copies.

    Returns:
        one plan a share; sizes are searched up to 64 times those of the audit.

    Raises:
        ConfigError: unless 0 < power < 1.
        DataError: without a held-out set.
    """
    if not 0 < power < 1:
        raise ConfigError(f"power lies strictly between 0 and 1, got {power}.")
    if "held_out" not in verdict.inputs:
        raise DataError(
            "A plan needs a held-out set: without one no number of samples tells copies from "
            "dense data. Train on a random half and pass the other half as --held-out."
        )
    planted = _Planted.beside(
        verdict.evidence, verdict.settings["significance"], verdict.settings["seed"]
    )
    units = planted.units
    m = verdict.inputs["generated"].n - verdict.copying.left_out
    n_training = int(units.training[units.of_row].sum())
    return tuple(
        Plan(
            share=share,
            power=power,
            n_generated=_smallest(
                lambda k, s=share: planted.found(k, n_training, s, n_seen=m, n_trials=60), power, m
            ),
            n_held_out=_smallest(
                lambda k, s=share: planted.found(m, k, s, n_points=2 * k, n_trials=60),
                power,
                max(n_training, 8),
            ),
        )
        for share in shares
    )


def _smallest(reached: Callable[[int], float], power: float, start: int) -> int | None:
    """The smallest size with the power, to about 3 %, between 8 and 64 times the start."""
    high = start
    while reached(high) < power:
        high *= 2
        if high > 64 * start:
            return None
    low = min(8, high)
    while high - low > max(1, high // 32):
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= power else (middle, high)
    return high
