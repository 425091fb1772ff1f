"""What an audit found, as numbers."""

import math
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from genonset.estimates import percent
from genonset.labels import Units
from genonset.views import Change

Regime = Literal["copying", "train-biased", "poor", "generalizing", "undecided"]
REGIMES: tuple[str, ...] = get_args(Regime)


@dataclass(frozen=True, kw_only=True)
class Flagged:
    """A sample that is named: a near-duplicate by (6) and (7), or identical to a training point.

    Attributes:
        index, nearest: which sample and which training point.
        distance, p_value: between the two, and (7) at that distance; None without a held-out set.
        change: what was done to the point, as a robust search found it; None of any other.
        details: the same, part by part.
        controlled: whether (6) names it: of the points of these at most 1/10 are false ones, in
            expectation. The others are named because they are identical.
        identical: whether it equals the training point, number for number.
        in_held_out: whether a held-out point equals the training point as well.
    """

    index: int
    nearest: int
    distance: float
    p_value: float | None
    change: str | None = None
    details: Change | None = None
    controlled: bool = True
    identical: bool = False
    in_held_out: bool = False

    @property
    def why(self) -> str:
        """Why it is named, in a word or two."""
        if not self.identical:
            return "near-duplicate"
        return "identical" + ", as is a held-out point" * self.in_held_out


@dataclass(frozen=True, kw_only=True)
class Copying:
    """What says that samples are copies. Without a held-out set several are None.

    Attributes:
        p_value: of the label test of near samples, exact.
        flagged: the samples that are named, nearest first: those of (6) and all identical ones.
        at_least: so many of the training points named by (6) are copied, with 95 % confidence.
        points_training, points_held_out: R and V of (6): distinct points of one set alone that
            have a near-duplicate.
        points_by_chance: how many of the R are expected by chance, the left side of (6) times R.
        identical: samples equal to a training point, number for number.
        left_out: samples that the tests do not count, for they equal points of both sets.
        near_training, near_held_out: samples that are near-duplicates in either set, by the scale
            (3) or the gap ratio (8).
        scale: the distance (3).
        memorized_fraction, memorized_low, memorized_high: equation (4), near-duplicates of the
            training set counted as one point.
        control_fraction: the same for held-out points in place of samples.
        chance: what equation (4) gives by chance.
        chance_of: where that is from: "dimension", on data of this dimension; where so many points
            tie that this formula does not hold, "held_out" points, or training points of which one
            was "left_out".
        leave_one_out_p_value: the weaker control, of training points among one another.
    """

    p_value: float | None
    flagged: tuple[Flagged, ...]
    at_least: int
    points_training: int | None
    points_held_out: int | None
    points_by_chance: float | None
    identical: int
    left_out: int = 0
    near_training: int
    near_held_out: int | None
    scale: float
    memorized_fraction: float
    memorized_low: float
    memorized_high: float
    control_fraction: float | None
    chance: float
    chance_of: str
    leave_one_out_p_value: float

    @property
    def controlled(self) -> tuple[Flagged, ...]:
        """The samples named by (6)."""
        return tuple(f for f in self.flagged if f.controlled)


@dataclass(frozen=True, kw_only=True)
class TrainBias:
    """Whether all samples lie nearer to training than to held-out points.

    Attributes:
        p_value: of the label test of all samples, exact.
        share: of the samples nearer to a training point, with its 95 % interval.
        expected: the share if the labels say nothing.
        z, excess: as in `LabelTest`.
    """

    p_value: float | None
    share: float | None
    low: float | None
    high: float | None
    expected: float | None
    z: float | None
    excess: float | None


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Distance to real points that the model did not see; to training points if there are none.

    Attributes:
        sliced_wasserstein: of the samples to `reference`.
        control: of as many training points to `reference`; None without a held-out set.
        spread_ratio: tr Cov of the samples over tr Cov of the real points.
        reference: "held_out" or "training".
        size: number of points of either side that were compared.
    """

    sliced_wasserstein: float
    control: float | None
    spread_ratio: float
    reference: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Power:
    """What the test of copying would have found.

    Attributes:
        share: of the samples planted as copies.
        probability: with which the planted copies are found.
        curve: pairs of share and probability, where asked for.
        plan: sample sizes for power 0.9, where asked for.
    """

    share: float
    probability: float | None
    curve: tuple[tuple[float, float], ...] = ()
    plan: tuple["Plan", ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes with which a share of copies is found with the power wished for.

    Attributes:
        share: of the samples that are copies.
        power: wished for.
        n_generated: smallest number of samples, with as many real points as there are; None where
            no number is enough.
        n_held_out: held-out and training points (each) needed with as many samples as there are;
            None where no number is enough.
    """

    share: float
    power: float
    n_generated: int | None
    n_held_out: int | None

    def __str__(self) -> str:
        ways = [
            what.format(number)
            for number, what in (
                (self.n_generated, "{} samples beside the real points there are"),
                (self.n_held_out, "{0} training and {0} held-out points beside the samples"),
            )
            if number is not None
        ]
        return (
            f"Plan: to find close copies in {percent(self.share)} of the samples with probability "
            f"{self.power:g} takes {', or '.join(ways) or 'more points than are in sight'}."
        )


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Equal and nearly equal points inside the sets, found before anything is tested.

    Attributes:
        training: training points equal to an earlier one.
        near_training: distinct training points nearer to another than a third of the median
            distance to the nearest other; in sets of more than SEARCHED points those found among
            as many, and among the points that samples and held-out points are nearest to.
        overlap: held-out points equal to a training point.
        generated: samples equal to an earlier one.
    """

    training: int
    near_training: int
    overlap: int
    generated: int


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A criterion that others use, its level by chance on these data, and a p-value if any."""

    value: float
    chance: float | None
    p_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Input:
    """What was audited, so that it can be recognized."""

    n: int
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    units: str
    sha256: str
    path: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """The table of distances behind a verdict, a row a sample, and the sets themselves.

    Attributes:
        to_training, to_held_out: distance to the nearest point of either set.
        nearest_training, nearest_held_out: which it is.
        p_values: of each sample at its distance to the training set, equation (7).
        control: distances of held-out points to the training set; of training points to one
            another if there are none.
        background: for each point of the pool how many samples, those of (6) left out, are within
            the scale of it.
        units: what the label tests permute; None without a held-out set.
        member: for each row of the pool its distinct point.
        sets: the sets by name, shape (n, *shape).
        names: file names of their points, where they have any.
        columns: of a table.
    """

    to_training: Tensor
    nearest_training: Tensor
    to_held_out: Tensor | None
    nearest_held_out: Tensor | None
    p_values: Tensor
    control: Tensor
    background: np.ndarray
    units: Units | None
    member: np.ndarray
    sets: dict[str, Tensor]
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What an audit found; `to_dict` is what machines read, `genonset.write_report` the page."""

    verdict: Regime
    sentence: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    copying: Copying
    train_bias: TrainBias
    quality: Quality
    power: Power
    duplicates: Duplicates
    peers: dict[str, Peer]
    inputs: dict[str, Input]
    settings: dict[str, Any]
    evidence: Evidence

    def __str__(self) -> str:
        return self.sentence

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists; null where there is no number."""
        told = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "evidence"}
        return {name: _plain(part) for name, part in told.items()}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def none_to(value: float | None, other: float) -> float:
    return other if value is None else value
