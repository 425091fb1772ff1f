"""What an audit says, sentence by sentence."""

import re
from dataclasses import replace

import pytest
import torch

import genonset
from genonset import seeds
from genonset.words import copies_searched, naming, near_duplicate


def gaussian(n, *names):
    return torch.randn(n, 16, generator=seeds.generator(8, *names), dtype=torch.float64)


SEARCHES = [
    ((3, 8, 8), "pixels", False,
     "as they are; flipped, shifted, cropped or tinted ones were not looked for"),
    ((8, 8), "lowpass", False,
     "as they are, whatever their brightness and contrast; flipped, shifted or cropped ones were "
     "not looked for"),
    ((3, 8, 8), "lowpass", True,
     "as they are, flipped, shifted or cropped, whatever their brightness and contrast"),
    ((3, 8, 8), "pixels", True,
     "as they are, flipped, shifted or cropped; tinted ones were not looked for"),
    ((3, 8, 8), "my:map", False,
     "that are near in the features my:map; flipped, shifted or cropped ones were not looked for"),
    ((5,), "standardized", False, "as they are"),
    ((64,), "pca:8", False, "as they are"),
    ((64,), "my:map", False, "that are near in the features my:map"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "features", "robust", "words"), SEARCHES)
def test_the_power_speaks_of_the_search_that_was_run(shape, features, robust, words):
    assert copies_searched(shape, features, robust) == words


def test_a_near_duplicate_is_explained():
    assert near_duplicate(0.25, 0.5) == (
        "A sample is called a near-duplicate of a point if it is nearer to it than 0.25, a third "
        "of the distance below which one real point in twenty has its nearest neighbour, or if "
        "every other point is at least 2 times as far away."
    )
    assert near_duplicate(0.25, 0).endswith("has its nearest neighbour.")
    assert near_duplicate(0, 0) == (
        "A sample is called a near-duplicate of a point if it equals it."
    )


def test_the_scale_told_is_that_of_the_sentence():
    """A third of the distance within which one point in twenty has its nearest neighbour."""
    generated, training, held_out = gaussian(30, "g"), gaussian(101, "t"), gaussian(100, "h")
    told = " ".join(genonset.audit(generated, training, held_out).reasons)
    (scale,) = re.findall(r"nearer to it than ([\d.]+),", told)
    pool = torch.cat([training, held_out])
    nearest = torch.cdist(pool, pool).fill_diagonal_(float("inf")).amin(1).sort().values
    assert float(scale) == pytest.approx(float(nearest[10]) / 3, rel=5e-3)


def test_a_clean_audit_is_said_to_be_no_certificate():
    found = genonset.audit(gaussian(100, "g"), gaussian(100, "t"), gaussian(100, "h"))
    assert found.verdict == "generalizing"
    assert "no certificate of privacy (docs/audit.md)" in found.sentence


def copied(n, *, held_out):
    generated, training = gaussian(60, "g"), gaussian(80, "t")
    generated[:n] = training[:n]
    return genonset.audit(generated, training, gaussian(80, "h") if held_out else None).copying


def test_why_no_others_are_named():
    """One reason each: no control, no rejection, too many by chance, no control left."""
    alone = replace(copied(3, held_out=False), near_training=5)
    assert list(naming(alone, 0.05)) == [
        "3 samples are named because they are identical to training points.",
        "The 2 others that are near are not flagged: without a held-out set nothing says how "
        "many are near by chance.",
    ]
    few = copied(3, held_out=True)
    assert few.p_value > 0.05
    assert list(naming(few, 0.05))[1:] == [
        "None is flagged for being near: the test of copying does not reject."
    ]
    mixed = replace(few, p_value=0.01, points_training=30, points_held_out=5,
                    points_by_chance=5.5)  # fmt: skip
    assert list(naming(mixed, 0.05))[1:] == [
        "None is flagged for being near: 30 points of the training set alone have such a sample, "
        "and 5 of the held-out set alone, so up to 5.5 of the 30 are expected by chance; samples "
        "are flagged where that is at most one point in ten."
    ]
    without = replace(mixed, points_by_chance=float("inf"))
    assert list(naming(without, 0.05))[1].endswith(
        "no held-out point is left that is not a training point as well."
    )
    many = copied(10, held_out=True)
    (words,) = naming(many, 0.05)
    assert words.startswith("10 samples are flagged, at 10 training points")
    assert not list(naming(copied(0, held_out=True), 0.05))
