"""What an audit says."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from genonset import datasets
from genonset.estimates import p_text, percent
from genonset.features import is_image
from genonset.findings import (
    Copying,
    Duplicates,
    Input,
    Power,
    Quality,
    Regime,
    TrainBias,
    none_to,
)
from genonset.inputs import as_numbers
from genonset.labels import ROUNDING


def sentence(
    found: Regime,
    copied: Copying,
    bias: TrainBias,
    quality: Quality,
    power: Power,
    facts: dict[str, Input],
    overlap: int,
    held_out_copies: int,
) -> str:
    """The verdict in one sentence; samples identical to training points come first."""
    m, n_held_out = facts["generated"].n, facts["held_out"].n if "held_out" in facts else None
    same = (
        f"{copied.identical} of {m} samples are identical to training points; "
        if copied.identical
        else ""
    )
    if n_held_out is None:
        words = (
            "undecided: without a held-out set copies cannot be told from dense data; "
            f"{copied.near_training} of {m} samples are near-duplicates of a training point."
        )
        return same + words if same else words[0].upper() + words[1:]
    near = f"{copied.near_training} of {m} samples"
    undecided = (
        "undecided: neither test rejects, but with these sizes copies in a tenth of the samples "
        f"would be found with probability {none_to(power.probability, 0):.2f} only."
    )
    if held_out_copies == m:
        undecided = (
            f"undecided: all {m} samples are identical to held-out points, so the held-out set is "
            "no control for them. Was one set given twice? Hold out data that the generator did "
            "not see."
        )
    elif overlap:
        undecided = (
            f"undecided: {overlap} of {n_held_out} held-out points equal a training point and "
            "hide the copies of it. "
            + (
                "Leave them out of both sets (--drop-overlap), or hold"
                if overlap < n_held_out
                else "Hold"
            )
            + " out other data."
        )
    words = {
        "copying": f"copying: {near} are near-duplicates of training points, against "
        f"{copied.near_held_out} of held-out points (exact p = {p_text(copied.p_value)}).",
        "train-biased": f"train-biased, not copying: {percent(bias.share)} of the samples lie "
        f"nearer to a training than to a held-out point, {percent(bias.expected)} by chance "
        f"(exact p = {p_text(bias.p_value)}), but near-duplicates do not favour training points.",
        "poor": "poor: no dependence on the training points, but the samples are "
        f"{quality.sliced_wasserstein:.3g} from held-out points, and training points only "
        f"{none_to(quality.control, 0.0):.3g} (sliced Wasserstein).",
        "generalizing": f"generalizing: the samples lie no nearer to training points than to "
        f"held-out ones ({percent(bias.share)}, {percent(bias.expected)} by chance), and close "
        f"copies in a tenth of them would have been found with probability "
        f"{none_to(power.probability, 0):.2f}; that is no certificate of privacy "
        "(docs/audit.md).",
        "undecided": undecided,
    }[found]
    return same + words if same else words[0].upper() + words[1:]


def reasons(
    copied: Copying,
    bias: TrainBias,
    quality: Quality,
    power: Power,
    significance: float,
    bound: float,
    searched: str,
) -> Iterator[str]:
    """What the verdict rests on, one statement each.

    Args:
        copied, bias, quality, power: what was found.
        significance: level of either test.
        bound: that of (8).
        searched: which copies were looked for, as `copies_searched` says it.
    """
    if copied.p_value is None:
        yield (
            f"{copied.near_training} samples are near-duplicates of a training point; "
            "training points among one another, the weaker leave-one-out control, give p = "
            f"{p_text(copied.leave_one_out_p_value)}. It assumes that a perfect generator has the "
            "spread of the data, and a narrower one looks like copying."
        )
        yield near_duplicate(copied.scale, bound)
        yield from naming(copied, significance)
        yield (
            "Nothing here tells copying from dense data. Train on a random half of the data and "
            "pass the other half as the held-out set; then both tests are exact. Other ways to "
            "get one, and what can be said without: docs/no-held-out.md."
        )
    else:
        yield (
            f"Copying: {copied.near_training} samples are near-duplicates of a training point and "
            f"{copied.near_held_out} of a held-out point; p = {p_text(copied.p_value)}, level "
            f"{significance:g}."
        )
        yield near_duplicate(copied.scale, bound)
        yield from naming(copied, significance)
        yield (
            f"Train bias: {percent(bias.share)} of the samples lie nearer to a training point "
            f"[{percent(bias.low)}, {percent(bias.high)}], {percent(bias.expected)} by chance; "
            f"p = {p_text(bias.p_value)}."
        )
    chance = "" if math.isnan(copied.chance) else f", {percent(copied.chance)} expected by chance"
    if copied.chance_of == "held_out":
        chance = ", which is the level by chance here: points tie too often for a formula"
    elif copied.chance_of == "left_out":
        chance += " (of training points, left out one at a time: they tie too often for a formula)"
    control = (
        ""
        if copied.control_fraction is None
        else f", {percent(copied.control_fraction)} of held-out points"
    )
    yield (
        f"Gap ratio: {percent(copied.memorized_fraction)} of the samples are three times nearer "
        f"to one training point than to any other{control}{chance}."
    )
    if quality.control is not None:
        yield (
            f"Quality: sliced Wasserstein distance to held-out points "
            f"{quality.sliced_wasserstein:.3g}, of training points {quality.control:.3g}; spread "
            f"{quality.spread_ratio:.2f} times that of the data."
        )
    if power.probability is not None:
        yield (
            f"Power: if {percent(power.share)} of the samples were close copies, the test would "
            f"find it with probability {power.probability:.2f}; it looks for copies {searched}."
        )


def near_duplicate(scale: float, bound: float) -> str:
    """What a near-duplicate is, (3) and (8), in words."""
    within = (
        f"if it is nearer to it than {scale:.3g}, a third of the distance below which one real "
        "point in twenty has its nearest neighbour"
        if scale > 0
        else "if it equals it"
    )
    gap = (
        f", or if every other point is at least {1 / bound:.2g} times as far away" if bound else ""
    )
    return f"A sample is called a near-duplicate of a point {within}{gap}."


def naming(copied: Copying, significance: float) -> Iterator[str]:
    """Which samples are named, and why no others are."""
    chosen = copied.controlled
    if chosen:
        points = len({f.nearest for f in chosen})
        yield (
            f"{len(chosen)} samples are flagged, at {points} training points, "
            f"of which at least {copied.at_least} are copied (95 % confidence)."
        )
    alone = [f for f in copied.flagged if not f.controlled]
    if alone:
        shared = sum(f.in_held_out for f in alone)
        also = f", {shared} of them to held-out points as well" if shared else ""
        more = "more " if chosen else ""
        yield (
            f"{len(alone)} {more}samples are named because they are identical to training "
            f"points{also}."
        )
    if not chosen and copied.near_training:
        near = copied.near_training - (copied.identical - copied.left_out)
        others = f"The {near} {'others ' * bool(alone)}that are near are not flagged"
        none = others if near else "None is flagged for being near"
        yield f"{none}: {_why_none(copied, significance)}."


def _why_none(copied: Copying, significance: float) -> str:
    if copied.p_value is None:
        return "without a held-out set nothing says how many are near by chance"
    if copied.p_value > significance * ROUNDING:
        return "the test of copying does not reject"
    if copied.points_by_chance is None or math.isinf(copied.points_by_chance):
        return "no held-out point is left that is not a training point as well"
    return (
        f"{copied.points_training} points of the training set alone have such a sample, and "
        f"{copied.points_held_out} of the held-out set alone, so up to "
        f"{copied.points_by_chance:.2g} of the {copied.points_training} are expected by chance; "
        "samples are flagged where that is at most one point in ten"
    )


def copies_searched(shape: tuple[int, ...], features: str, robust: bool) -> str:
    """Which copies an audit looks for, and which not."""
    plain = features in ("pixels", "standardized") or features.startswith("pca:")
    bright = features in ("normalized", "lowpass")
    found = "as they are" if plain or bright else f"that are near in the features {features}"
    if not is_image(shape):
        return found
    missed = []
    if robust:
        found += ", flipped, shifted or cropped"
    else:
        missed += ["flipped", "shifted", "cropped"]
    if bright:
        found += ", whatever their brightness and contrast"
    elif plain:
        missed.append("tinted")
    if not missed:
        return found
    ones = " or ".join(filter(None, [", ".join(missed[:-1]), missed[-1]]))
    return f"{found}; {ones} ones were not looked for"


UNSEEN = (
    "Images were compared pixel by pixel: copies that were flipped, shifted, cropped or "
    "brightened are not seen, and no power is stated for them; --robust, or robust=True, finds "
    "these."
)


def blind_spots(
    sets: Mapping[str, Tensor], features: str, robust: bool, columns: Sequence[str] = ()
) -> Iterator[str]:
    """What these coordinates do not see; `columns` are the names of those of a table."""
    shape = tuple(sets["training"].shape[1:])
    if features == "pixels" and not robust and is_image(shape):
        yield UNSEEN
    if features not in ("pixels", "standardized") or len(shape) != 1:
        return
    pool = [sets[name] for name in ("training", "held_out") if name in sets]
    mean, variance = datasets.moments(*pool)
    spread = variance[variance > 0].sqrt()
    if features == "pixels" and len(spread) and spread.max() > 100 * spread.min():
        yield (
            f"The columns spread over {spread.min():.3g} to {spread.max():.3g}: the widest alone "
            "decide what is near, and copies that differ in them are not seen. Columns in units "
            'of their own are compared by --features standardized, features="standardized".'
        )
    constant = variance == 0
    if features == "standardized":
        yield from _other_units(sets["generated"], variance, columns)
    if features == "standardized" and bool(constant.any()):
        other = as_numbers(sets["generated"])[:, constant].double() != mean[constant]
        yield (
            f"{int(constant.sum())} columns are constant in the real data and were left out; "
            f"{int(other.any(1).sum())} samples have another value there."
        )
    stored = max((torch.finfo(x.dtype).eps for x in pool if x.is_floating_point()), default=0.0)
    rounded = int(((variance > 0) & (variance.sqrt() <= 2 * stored * mean.abs())).sum())
    if features == "standardized" and rounded:
        yield (
            f"{rounded} columns vary in the last digits alone that their number type holds; "
            "standardized, this noise of rounding weighs as much as any column: round them, or "
            "leave them out."
        )


def _other_units(samples: Tensor, variance: Tensor, columns: Sequence[str]) -> Iterator[str]:
    """Columns in which samples spread so differently that their unit may be another."""
    own = datasets.moments(samples)[1]
    ratio = (own / variance).sqrt().where((variance > 0) & (own > 0), 1.0)
    far = ((ratio > OTHER_UNIT) | (ratio < 1 / OTHER_UNIT)).nonzero()[:, 0].tolist()
    if far:
        told = ", ".join(
            f"{columns[k] if columns else f'column {k}'} {ratio[k]:.3g} times" for k in far[:5]
        )
        yield (
            f"Samples spread very differently from the real points in {len(far)} columns ({told}"
            f"{', ...' if len(far) > 5 else ''}): if they are in another unit there, copies are "
            "not seen. Bring all sets into one unit."
        )


OTHER_UNIT = 8
"""Ratio of spreads of a column beyond which a note asks for its unit."""


def notes(facts: dict[str, Input], duplicates: Duplicates, held_out_copies: int) -> Iterator[str]:
    """What a reader must know about the data."""
    hashes = {name: one.sha256 for name, one in facts.items()}
    for one, other in itertools.combinations(hashes, 2):
        if hashes[one] == hashes[other]:
            other = other.replace("_", "-")
            yield f"{one} and {other} hold the same numbers: was one set given twice?"
    if held_out_copies:
        yield (
            f"{held_out_copies} of {facts['generated'].n} samples are identical to held-out "
            "points: a generator that never saw these does this only where data repeat."
        )
    if duplicates.training:
        yield (
            f"{duplicates.training} training points equal an earlier one; equal points count as "
            "one, so that a copy of a repeated point is seen."
        )
    if duplicates.near_training:
        yield (
            f"Near-duplicates of another training point: {duplicates.near_training} in the "
            "training set; the gap ratio counts each group once."
        )
    if duplicates.overlap:
        yield (
            f"{duplicates.overlap} held-out points equal a training point, so the held-out set is "
            "no fair control for these: leave them out of both sets (--drop-overlap)."
        )
    if duplicates.generated:
        yield f"{duplicates.generated} samples equal an earlier sample."
    small = [f"{facts[n].n} {n.replace('_', '-')}" for n in facts if facts[n].n < 20]
    if small:
        n_training = facts["training"].n
        resolution = ""
        if "held_out" in facts:
            n = n_training + facts["held_out"].n
            hit = np.arange(min(facts["generated"].n, n_training))
            least = float(np.prod((n_training - hit) / (n - hit)))  # (5)
            resolution = (
                f": the smallest p-value that so many can have is {least:.2g}, and of a single "
                f"sample {1 / (1 + facts['held_out'].n):.2g}"
            )
        yield f"Few points ({', '.join(small)}){resolution}."
