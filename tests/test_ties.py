"""Ties, repeated points and shared points: what rounding or the way in must not decide."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist

import genonset
from genonset import verdict
from genonset.errors import DataError
from genonset.labels import Units, dealt, parts_of_one
from genonset.overlap import unshared


def lattice(rng, n, side, dim):
    return rng.integers(0, side, size=(n, dim)).astype(float)


def popular(rng, n, n_popular=20, dim=8, part=1 / 3):
    """A third of the points are one of a few that everybody has."""
    known = np.random.default_rng(99).normal(size=(n_popular, dim))
    x = rng.normal(size=(n, dim))
    chosen = rng.random(n) < part
    x[chosen] = known[rng.integers(0, n_popular, chosen.sum())]
    return x


# Ties of distances


@pytest.mark.parametrize(("side", "dim"), [(3, 4), (6, 2), (2000, 1)])
@pytest.mark.parametrize("unit", [0.01, 1 / 3, 1e-7])
def test_a_lattice_in_any_unit_gives_the_same_audit(side, dim, unit):
    rng = np.random.default_rng(side)
    sets = [lattice(rng, n, side, dim) for n in (120, 90, 80)]
    one, other = genonset.audit(*sets), genonset.audit(*(unit * x for x in sets))
    assert other.verdict == one.verdict
    assert other.copying.p_value == one.copying.p_value
    assert (other.train_bias.p_value, other.train_bias.share) == (
        one.train_bias.p_value,
        one.train_bias.share,
    )
    assert other.copying.memorized_fraction == one.copying.memorized_fraction
    assert other.copying.near_training == one.copying.near_training
    for name in ("c_t", "authenticity", "dcr_share"):
        assert other.peers[name].value == one.peers[name].value, name


def test_of_points_that_tie_the_first_in_the_order_of_coordinates_counts():
    """Against whole numbers, whose squared distances are compared without rounding."""
    rng = np.random.default_rng(2)
    samples, training, held_out = (lattice(rng, n, 5, 3) for n in (200, 40, 50))
    points = np.unique(np.concatenate([training, held_out]), axis=0)  # in that order
    squares = ((samples[:, None] - points) ** 2).sum(2)
    expected = squares.argmin(1)  # the first of equal ones
    assert ((squares == squares.min(1, keepdims=True)).sum(1) > 3).any(), "many tie"
    for unit in (1.0, 0.01, 1 / 7):
        pool = verdict._Pool.of(*(torch.from_numpy(unit * x) for x in (training, held_out)))
        rows = torch.from_numpy(unit * samples)
        found = pool.nearer([pool.nearest_in(role, rows, 1) for role in (0, 1)])
        np.testing.assert_array_equal(found[1].numpy(), expected)
        np.testing.assert_allclose(found[0], unit * np.sqrt(squares.min(1)), rtol=1e-12)


def test_more_points_are_asked_for_where_all_that_were_found_tie():
    """Sixty points on a circle, in any order: the first of all counts, not of the nearest two."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    shuffled = circle[np.random.default_rng(0).permutation(60)]
    pool = verdict._Pool.of(torch.from_numpy(shuffled))
    _, where = pool.nearest_in(0, torch.zeros(1, 2, dtype=torch.float64), 2)
    assert where[0, 0] == 0
    assert circle[:, 0].min() == pytest.approx(float(pool.rows(where[0, :1])[0, 0]))
    assert where[0, 1] != 0


def test_a_point_that_is_nearer_by_more_than_rounding_does_not_tie():
    points = torch.tensor([[-1.0, 0.0], [1.0 - 1e-8, 0.0]], dtype=torch.float64)
    pool = verdict._Pool.of(points)
    _, where = pool.nearest_in(0, torch.zeros(1, 2, dtype=torch.float64), 1)
    assert where.tolist() == [[1]]
    near = torch.tensor([[-1.0, 0.0], [1.0 - 1e-11, 0.0]], dtype=torch.float64)
    _, where = verdict._Pool.of(near).nearest_in(0, torch.zeros(1, 2, dtype=torch.float64), 1)
    assert where.tolist() == [[0]]


# Equal rows


@pytest.mark.parametrize("sizes", [[1, 1, 1], [1, 2], [3, 1, 2], [4, 6]])
def test_equal_rows_share_a_sample_exactly(sizes):
    member = np.repeat(np.arange(len(sizes)), sizes)
    parts = parts_of_one(member)
    counts = np.arange(1, len(sizes) + 1) * parts
    rows = dealt(counts, member, np.random.default_rng(0))
    assert rows.tolist() == [counts[v] // sizes[v] for v in member]
    assert rows.sum() == counts.sum()


def test_what_cannot_be_shared_goes_to_rows_at_random():
    member = np.zeros(13, int)
    seen = [dealt(np.array([12]), member, np.random.default_rng(k)) for k in range(2000)]
    assert all(rows.sum() == 12 and rows.max() == 1 for rows in seen)
    assert stats.chisquare(np.sum([1 - rows for rows in seen], 0)).pvalue > 1e-3


def test_a_sample_of_a_shared_point_is_no_evidence_for_either_set():
    """Each sample is half at the training and half at the held-out row: p is 1 of equal sets."""
    rng = np.random.default_rng(0)
    both, samples = rng.normal(size=(50, 4)), None
    samples = both[rng.integers(50, size=80)]
    bias, copies = verdict.label_tests(samples, both, both)
    assert (bias.share, bias.z) == (0.5, 0)
    assert copies.share == 0.5
    assert copies.p_value > 0.5


# Shared points


def test_shared_points_are_taken_out_of_both_sets():
    rng = np.random.default_rng(1)
    generated, training, held_out = (popular(rng, n) for n in (60, 50, 40))
    given = {"generated": generated, "training": training, "held_out": held_out}
    found = unshared({name: torch.from_numpy(x) for name, x in given.items()})
    as_tuples = {name: list(map(tuple, x)) for name, x in given.items()}
    shared = set(as_tuples["training"]) & set(as_tuples["held_out"])
    assert shared
    for name, rows in found.rows.items():
        expected = [i for i, row in enumerate(as_tuples[name]) if row not in shared]
        assert rows.tolist() == expected
    for i, t, h in zip(found.left_out, found.training, found.held_out, strict=True):
        assert as_tuples["generated"][i] == as_tuples["training"][t] == as_tuples["held_out"][h]
    counts = [len(given[name]) - len(found.rows[name]) for name in ("training", "held_out")]
    assert f"{counts[0]} training and {counts[1]} held-out points" in found.note
    alone = {"generated": found.rows["generated"][:, None].double()}
    assert unshared(alone | {"training": alone["generated"] + 0.5}) is None, "no held-out set"


def test_nothing_left_is_refused():
    x = torch.arange(6.0, dtype=torch.float64)[:, None]
    with pytest.raises(DataError, match="Every point of training"):
        unshared({"generated": x + 9, "training": x[:3], "held_out": x})
    with pytest.raises(DataError, match="Every point of generated"):
        unshared({"generated": x[:2], "training": x[:4], "held_out": x[[0, 1, 5]]})


def test_an_audit_without_shared_points_names_rows_of_the_users_own_sets():
    rng = np.random.default_rng(3)
    generated, training, held_out = (popular(rng, n) for n in (80, 100, 100))
    private = [i for i, x in enumerate(training) if (held_out == x).all(1).sum() == 0][10:50]
    generated[10:50] = training[private] + 1e-9
    plain = genonset.audit(generated, training, held_out)
    found = genonset.audit(generated, training, held_out, drop_overlap=True)
    assert plain.duplicates.overlap > 0 == found.duplicates.overlap
    assert found.verdict == "copying"
    named = {f.index: f.nearest for f in found.copying.controlled}
    for i, k in zip(range(10, 50), private, strict=True):
        assert (training[named[i]] == training[k]).all()
    assert len(named) <= 45, "samples of points that training alone happens to have, at most"
    evidence = found.evidence
    assert len(evidence.to_training) == len(evidence.p_values) == 80
    identical = {f.index: f for f in found.copying.flagged if f.identical}
    equal = [i for i, x in enumerate(generated) if (training == x).all(1).any()]
    assert sorted(identical) == equal
    assert len(equal) == found.copying.identical > 5
    for i, f in identical.items():
        assert (generated[i] == training[f.nearest]).all()
        assert f.in_held_out == (held_out == generated[i]).all(1).any()
        assert f.controlled <= (not f.in_held_out)
        assert evidence.to_training[i] == 0
    for i in range(80):
        distance = np.linalg.norm(generated[i] - training[evidence.nearest_training[i]])
        assert distance == pytest.approx(float(evidence.to_training[i]), abs=1e-12)


@pytest.mark.parametrize("repeated", [False, True])
def test_copies_are_found_where_one_point_was_shared(repeated):
    """As if the shared rows had been deleted by hand; what is left may repeat or not."""
    rng = np.random.default_rng(int(repeated))
    both = rng.normal(size=(1, 4))
    training, held_out = rng.normal(size=(100, 4)), rng.normal(size=(100, 4))
    if repeated:
        training[1], held_out[1] = training[0], held_out[0]
    generated = np.concatenate([rng.normal(size=(60, 4)), training[10:30], both])
    found = genonset.audit(
        generated, np.concatenate([both, training]), np.concatenate([held_out, both]),
        drop_overlap=True,
    )  # fmt: skip
    by_hand = genonset.audit(generated[:-1], training, held_out)
    assert found.verdict == by_hand.verdict == "copying"
    assert found.copying.near_training == by_hand.copying.near_training >= 20
    if not repeated:
        assert found.copying.p_value == pytest.approx(by_hand.copying.p_value, rel=1e-9)
        assert found.train_bias.p_value == pytest.approx(by_hand.train_bias.p_value, rel=1e-9)
    assert {f.index for f in found.copying.controlled} >= set(range(60, 80))
    assert found.copying.identical == 21
    assert found.copying.left_out == 1
    assert not any("The -" in reason for reason in found.reasons), "no negative count"


def test_innocent_samples_of_popular_points_are_not_accused():
    """The option once left popular points in the training set alone: p was 1e-18."""
    rng = np.random.default_rng(7)
    p_values = []
    for _ in range(40):
        sets = [popular(rng, n) for n in (60, 80, 80)]
        found = genonset.audit(*sets, drop_overlap=True)
        p_values.append(found.copying.p_value)
        assert not found.copying.controlled
    assert stats.binom.sf(sum(p <= 0.05 for p in p_values) - 1, 40, 0.05) > 1e-3


def test_odds_of_repeated_points_at_unequal_sizes():
    """Of 20:1 rows a point of three rows is nearly always a training point: it is not accused."""
    rng = np.random.default_rng(5)
    accused = 0
    for _ in range(25):
        x = rng.normal(size=(100, 4))
        rows = np.concatenate([np.repeat(x[:40], 3, axis=0), x[40:]])
        rows = rows[rng.permutation(len(rows))]
        samples = x[rng.integers(100, size=60)] + 1e-9
        found = genonset.audit(samples, rows[:150], rows[150:])
        accused += bool(found.copying.controlled)
    assert accused <= 3


# Levels by chance


def bernoulli(rng, n, p=0.3, dim=10):
    return (rng.random((n, dim)) < p).astype(float)


def test_the_leave_one_out_control_knows_repeated_rows():
    rng = np.random.default_rng(0)
    found = [
        genonset.audit(bernoulli(rng, 150), bernoulli(rng, 150)).copying.leave_one_out_p_value
        for _ in range(40)
    ]
    assert 0.2 < np.median(found) < 0.8
    assert stats.binom.sf(sum(p <= 0.05 for p in found) - 1, 40, 0.05) > 1e-3


def test_the_gap_ratio_of_data_with_ties_has_the_level_of_held_out_points():
    rng = np.random.default_rng(1)
    generated, training, held_out = (bernoulli(rng, n) for n in (150, 150, 140))
    found = genonset.audit(generated, training, held_out).copying
    assert found.chance_of == "held_out"
    assert found.chance == found.control_fraction
    among = np.sort(cdist(held_out, np.unique(training, axis=0)), 1)
    assert found.control_fraction == pytest.approx((among[:, 0] < among[:, 1] / 3).mean())
    alone = genonset.audit(generated, training).copying
    assert alone.chance_of == "left_out"
    among = []
    for i, x in enumerate(training):
        others = np.unique(np.delete(training, i, 0), axis=0)
        d = np.sort(cdist(x[None], others)[0])
        among.append(d[0] < d[1] / 3)
    assert alone.chance == pytest.approx(np.mean(among))


def test_data_with_a_density_keep_the_level_of_their_dimension():
    rng = np.random.default_rng(1)
    sets = [rng.normal(size=(n, 3)) for n in (60, 90, 90)]
    found = genonset.audit(*sets)
    assert found.copying.chance_of == "dimension"
    assert found.copying.chance == (1 / 3) ** found.settings["intrinsic_dimension"]
    twice = genonset.audit(sets[0], np.concatenate([sets[1], sets[1][:1]]), sets[2])
    assert twice.copying.chance_of == "dimension", "one repeated point is no lattice"


@pytest.mark.parametrize("by_value", [False, True])
def test_stated_power_is_how_often_copies_among_ties_are_found(by_value):
    """Binary rows, a tenth of the samples copies of training rows; 60 audits, error .06."""
    rng, found, stated = np.random.default_rng(4), 0, []
    for _ in range(60):
        generated, training, held_out = (bernoulli(rng, n, 0.3, 8) for n in (80, 60, 60))
        innocent = genonset.audit(generated, training, held_out, drop_overlap=by_value)
        stated.append(innocent.power.probability)
        chosen = rng.random(80) < 0.1
        generated[chosen] = training[rng.integers(60, size=chosen.sum())]
        audit = genonset.audit(generated, training, held_out, drop_overlap=by_value)
        found += audit.copying.p_value <= 0.05
    error = math.sqrt(np.mean(stated) * (1 - np.mean(stated)) / 60) + 0.02
    assert found / 60 == pytest.approx(np.mean(stated), abs=3 * error)
    assert np.mean(stated) < 0.5, "far from what copies without ties would give"


def test_labels_of_values_are_all_their_labellings():
    """P of a unit test by value, against every choice of values within multiplicities."""
    member = np.array([0, 0, 1, 2, 2, 3, 3, 4, 5])
    of = Units.values(member, 5)
    sums = np.array([3, 1, 0, 2, 2, 0])
    pairs, singles = [0, 2, 3], [1, 4, 5]
    every = [
        sums[list(a)].sum() + sums[list(b)].sum()
        for a in itertools.combinations(pairs, 2)
        for b in itertools.combinations(singles, 1)
    ]
    observed = sums[[0, 2, 1]].sum()
    from genonset.labels import unit_test

    assert unit_test(sums, of).p_value == pytest.approx((np.array(every) >= observed).mean())


# What stood in the way


def test_rounded_numbers_of_many_points_do_not_overflow():
    rng = np.random.default_rng(1)
    sets = (np.round(rng.normal(size=(n, 2)), 2) for n in (30, 1200, 1200))
    found = genonset.audit(*sets, n_permutations=99)
    assert found.copying.p_value > 0.01
    assert found.duplicates.overlap > 0


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e7])
def test_a_large_constant_column_hides_no_near_copy(offset):
    """Nor does a far outlier: rounding of one number is no matter of all pairs."""
    rng = np.random.default_rng(1)
    training, held_out = rng.normal(size=(100, 4)), rng.normal(size=(100, 4))
    near = training[:15] + 0.01 * rng.normal(size=(15, 4))
    generated = np.concatenate([near, rng.normal(size=(80, 4))])
    sets = [
        np.c_[x, np.full(len(x), offset)].astype("f4") for x in (generated, training, held_out)
    ]
    found = genonset.audit(*sets)
    assert found.verdict == "copying"
    assert {f.index for f in found.copying.flagged} == set(range(15))
    sets[1][50, 0] += 1e6
    assert genonset.audit(*sets, features="pixels").copying.p_value < 1e-3


@pytest.mark.parametrize("features", ["lowpass", "pca:20"])
def test_equal_images_are_equal_in_any_features(features):
    """Products of matrices round a row as its place in the batch has it."""
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (n, 1, 15, 15)).astype("u1") for n in (31, 31, 20)]
    training, held_out, other = images
    training[-3:], held_out[-3:] = training[:3], held_out[:3]
    shaken = training[:12] + rng.integers(-2, 3, (12, 1, 15, 15))
    generated = np.concatenate([shaken.clip(0, 255).astype("u1"), other])
    found = genonset.audit(generated, training, held_out, features=features)
    assert found.copying.scale > 1e-3
    assert {f.index for f in found.copying.flagged} == set(range(12))


def test_a_training_point_that_occurs_hundreds_of_times_is_named_and_stops_no_audit():
    rng = np.random.default_rng(4)
    often = rng.normal(size=(1, 4))
    training = np.concatenate([often.repeat(400, 0), rng.normal(size=(600, 4))])
    generated = np.concatenate([often, training[500:560], rng.normal(size=(50, 4))])
    found = genonset.audit(generated, training, rng.normal(size=(100, 4)))
    assert found.copying.identical == 61
    assert {f.index for f in found.copying.flagged} >= set(range(61))
    assert 0 not in {f.index for f in found.copying.controlled}, "chance would have it there too"


def test_no_single_point_left_of_training_names_by_identity_alone():
    rng = np.random.default_rng(5)
    pairs, shared = rng.normal(size=(50, 4)).repeat(2, 0), rng.normal(size=(3, 4))
    found = genonset.audit(
        np.concatenate([pairs[:10:2], rng.normal(size=(50, 4))]),
        np.concatenate([pairs, shared]),
        np.concatenate([rng.normal(size=(60, 4)), shared]),
        drop_overlap=True,
    )
    assert not found.copying.controlled
    assert found.copying.identical == len(found.copying.flagged) == 5


def test_a_plan_is_of_the_points_that_are_left():
    rng = np.random.default_rng(6)
    training = rng.normal(size=(100, 4))
    held_out = np.concatenate([training[:40], rng.normal(size=(10, 4))])
    found = genonset.audit(rng.normal(size=(50, 4)), training, held_out, drop_overlap=True)
    assert len(verdict.plan(found, shares=[0.2])) == 1
