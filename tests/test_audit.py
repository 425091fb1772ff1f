"""Audits of sets whose answer is known: copies planted, laws fitted, shrunken, or independent.

Statistical tests use fixed seeds; their false-alarm rates are stated where chance enters.
"""

import itertools
import json
import math
import time

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist, pdist

import genonset
from genonset import seeds, verdict
from genonset.distances import energy_distance
from genonset.errors import ConfigError, DataError
from genonset.estimates import subset_sum_tail
from genonset.findings import REGIMES
from genonset.labels import (
    Units,
    copying_power,
    discoveries_allowed,
    most_false,
    permutation_p_value,
    share_interval,
)
from genonset.verdict import label_tests, plan
from genonset.words import UNSEEN


def gaussian(n, dim, *names):
    return torch.randn(n, dim, generator=seeds.generator(5, *names), dtype=torch.float64)


def three(m, n, dim, *names):
    return (
        gaussian(m, dim, "g", *names),
        gaussian(n, dim, "t", *names),
        gaussian(n, dim, "h", *names),
    )


@pytest.fixture(scope="module")
def planted():
    """30 jittered copies among 300 samples; the copied rows; the verdict."""
    generated, training, held_out = three(300, 200, 64)
    copied = torch.randperm(200, generator=seeds.generator(5, "copied"))[:30]
    places = torch.randperm(300, generator=seeds.generator(5, "places"))[:30]
    generated[places] = training[copied] + 0.05 * gaussian(30, 64, "jitter")
    origin = dict(zip(places.tolist(), copied.tolist(), strict=True))
    return generated, training, held_out, origin, genonset.audit(generated, training, held_out)


# Copying


def test_planted_copies_are_named_with_their_originals(planted):
    generated, training, _, origin, found = planted
    assert found.verdict == "copying"
    assert found.sentence.startswith("Copying: 30 of 300 samples")
    assert {f.index: f.nearest for f in found.copying.flagged} == origin
    for f in found.copying.flagged:
        distance = float((generated[f.index] - training[f.nearest]).norm())
        assert f.distance == pytest.approx(distance, rel=1e-12)
        assert f.p_value == pytest.approx(1 / 201), "no held-out point has a sample so near"
    distances = [f.distance for f in found.copying.flagged]
    assert distances == sorted(distances)
    assert found.copying.p_value == pytest.approx(math.comb(370, 170) / math.comb(400, 200))
    assert found.copying.at_least == 30 - 4, "2**-4 > 0.05 > 2**-5"
    assert found.train_bias.p_value > 0.01, "preference of all samples hardly sees them"
    assert found.copying.memorized_fraction == pytest.approx(0.1)
    assert found.copying.control_fraction == 0


def test_both_p_values_are_those_of_the_label_tests(planted):
    generated, training, held_out, _, found = planted
    bias, copies = label_tests(generated, training, held_out)
    assert found.copying.p_value == copies.p_value
    assert found.train_bias.p_value == bias.p_value
    assert found.train_bias.share == bias.share


@pytest.mark.parametrize(("side", "dim"), [(4, 2), (3, 3)])
def test_ties_are_decided_as_in_the_label_tests(side, dim):
    """Lattice points: most samples are equally far from several points, some in both sets."""
    rng = np.random.default_rng(0)
    sets = [torch.from_numpy(rng.integers(side, size=(n, dim)) / 1.0) for n in (60, 25, 30)]
    found, (bias, copies) = genonset.audit(*sets), label_tests(*sets)
    assert found.train_bias.share == bias.share
    assert (found.train_bias.p_value, found.copying.p_value) == (bias.p_value, copies.p_value)
    assert found.duplicates.training == len(sets[1]) - len(sets[1].unique(dim=0))
    known = {tuple(row) for row in sets[1].tolist()}
    assert found.duplicates.overlap == sum(tuple(row) in known for row in sets[2].tolist())
    assert any("drop-overlap" in note for note in found.notes)


def test_the_p_value_of_a_sample_counts_held_out_points_as_near():
    generated, training, held_out = three(200, 60, 2)
    found = genonset.audit(generated, training, held_out)
    pool = torch.cat([training, held_out])
    distances = cdist(generated, pool)
    where, first = distances.argmin(1), distances.min(1)
    reached = np.array([first[where == k].min(initial=np.inf) for k in range(60, 120)])
    to_training = distances[:, :60].min(1)
    expected = (1 + (reached[None] <= to_training[:, None]).sum(1)) / 61
    assert found.evidence.p_values.numpy() == pytest.approx(expected)


def lattice(n, *names):
    """Points of which many are equal by chance."""
    return (gaussian(n, 8, "lattice", *names) > 0.6).double()


def identical_rows(generated, training):
    known = {tuple(row) for row in training.tolist()}
    return {k for k, row in enumerate(generated.tolist()) if tuple(row) in known}


def test_identical_samples_are_named_where_the_rule_names_none():
    """Copies among lattice points: held-out points are met as well, so (6) holds for nobody."""
    training, held_out = lattice(100, "t"), lattice(100, "h")
    generated = torch.cat([training[:60], lattice(60, "g")])
    found = genonset.audit(generated, training, held_out)
    expected = identical_rows(generated, training)
    assert found.verdict == "copying"
    assert {f.index for f in found.copying.flagged} == expected
    assert found.copying.identical == len(expected) > 60
    assert found.copying.controlled == ()
    assert found.copying.at_least == 0
    fresh = {tuple(row) for row in held_out.tolist()}
    for f in found.copying.flagged:
        assert torch.equal(generated[f.index], training[f.nearest])
        assert (f.identical, f.controlled, f.distance) == (True, False, 0)
        assert f.in_held_out == (tuple(generated[f.index].tolist()) in fresh)
    shared = sum(f.in_held_out for f in found.copying.flagged)
    assert 0 < shared < len(expected)
    alone = [set(map(tuple, x.tolist())) for x in (training, held_out)]
    near = {tuple(row) for row in generated.tolist()}
    assert found.copying.points_training == len(near & (alone[0] - alone[1]))
    assert found.copying.points_held_out == len(near & (alone[1] - alone[0])) > 0
    told = " ".join(found.reasons)
    assert f"{len(expected)} samples are named because they are identical" in told
    assert f"{shared} of them to held-out points as well" in told
    assert "None is flagged for being near" in told
    assert "samples are flagged, at" not in told


def test_identical_samples_are_named_without_a_held_out_set():
    generated, training, _ = three(50, 60, 8)
    generated[20:37] = training[:17]
    found = genonset.audit(generated, training)
    assert {f.index: f.nearest for f in found.copying.flagged} == {20 + k: k for k in range(17)}
    for f in found.copying.flagged:
        assert (f.identical, f.controlled, f.in_held_out, f.p_value) == (True, False, False, None)
    json.dumps(found.to_dict(), allow_nan=False)


def test_near_duplicates_too_few_for_the_rule_are_counted_with_the_reason():
    """Four points: 2^-4 would be false with 1/2 expected, more than a tenth of four."""
    generated, training, held_out = three(100, 60, 16)
    generated[:4] = training[:4] + 1e-3 * gaussian(4, 16, "near")
    generated[4] = training[4]
    found = genonset.audit(generated[:4], training, held_out, significance=0.1)
    assert found.copying.flagged == ()
    assert (found.copying.points_training, found.copying.points_held_out) == (4, 0)
    assert found.copying.points_by_chance == pytest.approx(0.5)
    assert any("so up to 0.5 of the 4 are expected by chance" in r for r in found.reasons)
    five = genonset.audit(generated[:5], training, held_out)
    assert len(five.copying.controlled) == len(five.copying.flagged) == 5
    assert [f.identical for f in five.copying.flagged] == [True, False, False, False, False]


def test_named_samples_of_no_rule_stay_in_the_background_of_the_power():
    """What is planted is planted beside them: an innocent generator meets points of both sets."""
    sets = lattice(60, "g"), lattice(100, "t"), lattice(100, "h")
    found = genonset.audit(*sets)
    assert found.copying.controlled == ()
    assert found.copying.flagged
    near = found.copying.near_training + found.copying.near_held_out
    assert found.evidence.background.sum() >= len(found.copying.flagged)
    assert near >= len(found.copying.flagged)


def test_copies_of_points_that_occur_twice_are_all_flagged():
    generated, training, held_out = three(40, 60, 16)
    training[30:] = training[:30]
    generated = training[:30] + 0.01 * gaussian(30, 16, "near")
    found = genonset.audit(generated, training, held_out)
    assert found.verdict == "copying"
    assert {f.index for f in found.copying.flagged} == set(range(30))
    assert all(f.nearest == f.index for f in found.copying.flagged)
    assert found.duplicates.training == 30
    assert found.copying.memorized_fraction == 1
    assert any("30 training points equal an earlier one" in note for note in found.notes)


def test_near_twins_in_the_training_set_do_not_hide_copies_from_the_gap_ratio():
    generated, training, held_out = three(40, 60, 16)
    training[:10] = training[10:20] + 1e-3 * gaussian(10, 16, "twins")
    generated[:10] = training[:10] + 1e-3 * gaussian(10, 16, "near")
    found = genonset.audit(generated, training, held_out)
    assert found.duplicates.near_training == 20
    assert found.copying.memorized_fraction == pytest.approx(10 / 40)
    assert genonset.memorized_fraction(generated, training).value < 5 / 40, (
        "the naive rule is blind"
    )


def test_identical_samples_come_first():
    generated, training, held_out = three(100, 100, 8)
    generated[:12] = training[:12]
    found = genonset.audit(generated, training, held_out)
    assert found.copying.identical == 12
    assert found.sentence.startswith(
        "12 of 100 samples are identical to training points; copying:"
    )


def test_no_discovery_where_a_point_is_a_training_one_almost_surely():
    """Odds of rows that repeat are powers, and leave no room beside 1."""
    assert not discoveries_allowed(10**4, 0, 1e20)
    assert not discoveries_allowed(0, 0, 1.0)
    assert discoveries_allowed(10**4, 0, 1000.0)


@pytest.mark.parametrize(
    ("n_training", "n_held_out"), [(200, 200), (300, 100), (100, 300), (30, 20)]
)
def test_false_discoveries_by_enumeration(n_training, n_held_out):
    """v points hit by chance, each a training point with probability n_T/N, beside k true ones.

    The expected share of false ones among the flagged is at most 1/10 whatever v and k, up to the
    half count's own slack at large v.
    """
    part = n_training / (n_training + n_held_out)
    worst = 0.0
    for k in [*range(0, 60, 3), 80, 120, 200]:
        for v in [*range(1, 12), 20, 40]:
            mean = 0.0
            for mine in range(v + 1):
                if discoveries_allowed(k + mine, v - mine, n_training / n_held_out):
                    mean += stats.binom.pmf(mine, v, part) * mine / (k + mine)
            worst = max(worst, mean)
    assert 0.03 < worst <= 0.1


@pytest.mark.parametrize(
    ("n_mine", "n_other", "allowed"),
    [(4, 0, False), (5, 0, True), (14, 1, False), (15, 1, True), (45, 4, True), (44, 4, False)],
)
def test_false_discoveries_of_exactly_a_tenth_are_allowed(n_mine, n_other, allowed):
    """Halves: v 2^-v is at most 1/2, so that V + 1/2 <= R / 10 decides."""
    assert discoveries_allowed(n_mine, n_other, 1.0) == allowed
    assert not discoveries_allowed(n_mine, n_other, math.inf)


def test_most_false_is_the_exact_bound():
    """v_T training and V held-out points hit by chance: the bound is passed with P <= 0.05."""
    for v, n_training, n_held_out in [(6, 30, 30), (9, 20, 60), (12, 40, 15)]:
        missed = sum(
            stats.hypergeom.pmf(mine, n_training + n_held_out, n_training, v)
            for mine in range(v + 1)
            if most_false(mine + 50, v - mine, n_training / n_held_out, n_training + n_held_out)
            < mine
        )
        assert missed <= 0.05
    assert most_false(30, 0, 1, 400) == 4
    assert most_false(2, 0, 1, 400) == 2


# The other verdicts


def test_an_over_fitted_gaussian_is_train_biased_and_not_copying():
    for replicate in range(5):
        _, training, held_out = three(1, 50, 64, replicate)
        centred = training - training.mean(0)
        generated = training.mean(0) + gaussian(300, 50, "g", replicate) @ centred / math.sqrt(49)
        found = genonset.audit(generated, training, held_out)
        assert found.verdict == "train-biased"
        assert found.copying.flagged == ()
        assert found.train_bias.low > 0.5
        assert found.peers["c_t"].p_value < 1e-3, "C_T does not tell it from copying"


def test_a_shrunken_law_is_poor_and_an_independent_one_generalizes():
    generated, training, held_out = three(300, 200, 16)
    found = genonset.audit(0.5 * generated, training, held_out)
    assert found.verdict == "poor"
    assert found.quality.spread_ratio == pytest.approx(0.25, rel=0.1)
    assert found.peers["c_t"].value < -10, "the textbook criterion takes it for a copy"
    assert genonset.audit(generated, training, held_out).verdict == "generalizing"


def test_too_few_points_are_undecided_and_say_so():
    generated, training, held_out = three(10, 6, 8)
    found = genonset.audit(generated, training, held_out)
    assert found.verdict == "undecided"
    assert found.power.probability < 0.01
    note = next(n for n in found.notes if n.startswith("Few points"))
    assert "10 generated, 6 training, 6 held-out" in note
    assert f"{1 / math.comb(12, 6):.2g}" in note
    assert "0.14" in note, "1/7, the smallest p-value of a single sample"


def test_without_a_held_out_set_nothing_is_decided():
    generated, training, _ = three(100, 100, 8)
    generated[:50] = training[:50]
    found = genonset.audit(generated, training)
    assert found.verdict == "undecided"
    assert "50 of 100 samples are identical" in found.sentence
    assert found.copying.p_value is found.train_bias.p_value is found.power.probability is None
    assert found.copying.leave_one_out_p_value < 1e-6
    assert any("leave-one-out" in reason for reason in found.reasons)
    assert any("random half" in reason for reason in found.reasons)
    fresh = genonset.audit(gaussian(100, 8, "fresh"), training)
    assert fresh.copying.leave_one_out_p_value > 0.05
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(DataError, match="held-out"):
        plan(found)


# What does not matter


def shared(found):
    numbers = found.to_dict()
    for name in ("inputs", "settings"):
        del numbers[name]
    return numbers


@pytest.mark.parametrize("scale", [2.0**-30, 2.0**12])
def test_a_common_scale_changes_nothing(planted, scale):
    generated, training, held_out, _, found = planted
    scaled = genonset.audit(scale * generated, scale * training, scale * held_out)
    assert scaled.verdict == found.verdict
    assert [f.index for f in scaled.copying.flagged] == [f.index for f in found.copying.flagged]
    assert scaled.copying.p_value == found.copying.p_value
    assert scaled.train_bias == found.train_bias
    assert scaled.copying.memorized_fraction == found.copying.memorized_fraction
    assert scaled.copying.chance == pytest.approx(found.copying.chance)
    for name in ("c_t", "authenticity", "precision", "recall", "density", "coverage"):
        assert scaled.peers[name] == found.peers[name]
    assert scaled.peers["kernel_delta"].value == pytest.approx(found.peers["kernel_delta"].value)


def test_containers_and_number_types_do_not_matter():
    sets = [x.reshape(-1, 1, 4, 4) for x in three(60, 40, 16)]
    expected = genonset.audit(*sets).to_dict()
    assert shared(genonset.audit(*(x.numpy() for x in sets))) == {
        k: v for k, v in expected.items() if k not in ("inputs", "settings")
    }
    half = [x.half() for x in sets]
    assert shared(genonset.audit(*half)) == shared(genonset.audit(*(x.double() for x in half)))
    whole = [(40 * x + 128).clamp(0, 255).to(torch.uint8) for x in sets]
    assert shared(genonset.audit(*whole)) == shared(genonset.audit(*(x.numpy() for x in whole)))


def test_the_inputs_are_left_alone():
    sets = three(30, 20, 4)
    before = [x.clone() for x in sets]
    genonset.audit(*sets)
    assert all(torch.equal(x, y) for x, y in zip(sets, before, strict=True))


# Numbers


def test_json_has_the_stable_keys(planted):
    found = json.loads(json.dumps(planted[-1].to_dict(), allow_nan=False))
    keys = {
        "": "verdict copying train_bias quality power duplicates inputs",
        "copying": "p_value flagged memorized_fraction control_fraction chance",
        "train_bias": "p_value share low high",
    }
    for part, names in keys.items():
        assert set(names.split()) <= set(found[part] if part else found)
    flagged = {"index", "nearest", "distance", "p_value", "change", "identical", "controlled"}
    assert flagged <= set(found["copying"]["flagged"][0])
    assert len(found["inputs"]["training"]["sha256"]) == 64


def test_hashes_tell_inputs_apart():
    generated, training, held_out = three(30, 20, 4)
    one = genonset.audit(generated, training, held_out).inputs
    changed = training.clone()
    changed[3, 1] += 1e-12
    two = genonset.audit(generated, changed, held_out).inputs
    assert one["held_out"].sha256 == two["held_out"].sha256
    assert one["training"].sha256 != two["training"].sha256


def test_the_dimension_behind_the_chance_level():
    """Points of a plane in 20 dimensions; the error of n = 400 is 5 % (Pareto exponent)."""
    frame = torch.linalg.qr(gaussian(20, 2, "frame")).Q.T
    sets = [torch.rand(n, 2, generator=seeds.generator(5, n), dtype=torch.float64) @ frame
            for n in (100, 201, 199)]  # fmt: skip
    found = genonset.audit(*sets)
    assert found.settings["intrinsic_dimension"] == pytest.approx(2, rel=0.2)
    assert found.copying.chance == pytest.approx(1 / 9, rel=0.4)


@pytest.mark.parametrize("n_chosen", [2, 4])
def test_permutation_p_value_against_all_relabellings(n_chosen):
    values = np.random.default_rng(3).exponential(size=8)
    sums = [sum(chosen) for chosen in itertools.combinations(values, n_chosen)]
    exact = np.mean(np.array(sums) >= values[:n_chosen].sum() - 1e-12)
    found = permutation_p_value(
        values, Units.rows(len(values), n_chosen), n_permutations=20_000, seed=0
    )
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))
    top = np.sort(values)[::-1].copy()
    smallest = permutation_p_value(top, Units.rows(len(top), n_chosen), n_permutations=9, seed=0)
    assert smallest >= 1 / 10, "never zero"
    assert permutation_p_value(np.ones(8), Units.rows(8, n_chosen), n_permutations=99, seed=0) == 1


def test_relabellings_of_repeated_counts_follow_the_exact_law():
    """4 standard errors: a right program fails once in 16,000 seeds; this one is fixed."""
    counts = np.random.default_rng(5).poisson(0.3, 900).astype(np.float64)
    counts[:300] += np.arange(300) % 30 == 0
    exact = subset_sum_tail(counts, 300, counts[:300].sum())
    assert 0.05 < exact < 0.5
    found = permutation_p_value(
        counts, Units.rows(len(counts), 300), n_permutations=40_000, seed=0
    )
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 40_000))


def test_ten_thousand_relabellings_of_a_large_pool_are_quick():
    counts = np.random.default_rng(6).poisson(0.2, 50_000).astype(np.float64)
    start = time.process_time()
    permutation_p_value(counts, Units.rows(len(counts), 25_000), n_permutations=10_000, seed=0)
    assert time.process_time() - start < 1, "0.02 s when written"


def test_the_interval_of_the_share_covers_where_samples_share_neighbours():
    """Counts with clusters: expected share 0.6. 400 trials; the binomial error is 1 %."""
    rng, covered = np.random.default_rng(4), 0
    for _ in range(400):
        mine = rng.poisson(rng.gamma(0.7, 1.5, 80))
        other = rng.poisson(rng.gamma(0.7, 1.0, 80))
        low, high = share_interval(mine, other)
        covered += low <= 0.6 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_interval_of_the_share_covers_where_few_points_attract_most_samples():
    """Two thirds at one point, at half of the audits a training point. 500 trials of share 0.5."""
    rng, covered = np.random.default_rng(9), 0
    for _ in range(500):
        rates = rng.permutation(np.concatenate([[200.0], rng.gamma(0.1, 10, 199)]))
        low, high = share_interval(*np.split(rng.poisson(rates), 2))
        covered += low <= 0.5 <= high
    assert covered >= 0.93 * 500


@pytest.mark.parametrize("repeats", [1, 4])
@pytest.mark.parametrize(("n_mine", "n_other"), [(800, 400), (950, 250), (1200, 0)])
def test_clusters_of_one_size_are_as_many_independent_samples(repeats, n_mine, n_other):
    """Clopper and Pearson, as scipy has them, for the number of clusters; at most 4 % wider."""
    mine, other = np.zeros(200_000), np.zeros(50_000)
    mine[:n_mine] = other[:n_other] = repeats
    exact = stats.binomtest(n_mine, n_mine + n_other).proportion_ci(method="exact")
    low, high = share_interval(mine, other)
    if n_other:
        assert high - low == pytest.approx(exact.high - exact.low, rel=0.04)
        assert (low + high) / 2 == pytest.approx((exact.low + exact.high) / 2, abs=0.002)
    else:
        assert high == exact.high == 1
        assert exact.low - 0.006 < low <= exact.low
    assert share_interval(other, mine) == pytest.approx((1 - high, 1 - low))


def test_the_interval_knows_which_set_has_the_clusters():
    """The spread of S_T/m where 60 clusters of 10 meet 200 single samples, by simulation."""
    rng = np.random.default_rng(3)
    near_training = 10 * rng.poisson(60, 40_000)
    spread = np.std(near_training / (near_training + rng.poisson(200, 40_000)))
    low, high = share_interval(np.repeat([10, 0], [60, 2000]), np.repeat([1, 0], [200, 2000]))
    assert (high - low) / (2 * 1.96 * spread) == pytest.approx(1.1, abs=0.08)


def test_few_clusters_take_the_quantile_of_student():
    """Korn and Graubard 1998: (z/t)² of 16 single samples at 15 degrees of freedom."""
    single = np.repeat([1, 0], [8, 10_000])
    size = 16 * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 15)) ** 2
    low, high = share_interval(single, single)
    assert low == pytest.approx(stats.beta.ppf(0.025, size / 2, size / 2 + 1), rel=1e-3)
    assert high == pytest.approx(stats.beta.ppf(0.975, size / 2 + 1, size / 2), rel=1e-3)


def test_one_cluster_says_nothing_and_the_interval_always_holds_the_share():
    assert share_interval([300, 0, 0], [0, 0]) == share_interval([0], [7]) == (0, 1)
    assert share_interval([50, 0, 0], [0, 50]) == pytest.approx((0, 1)), "two, hardly more"
    rng = np.random.default_rng(8)
    for _ in range(300):
        rates = rng.gamma(0.2, rng.exponential(10), rng.integers(2, 9))
        mine, other = np.split(1 + rng.poisson(rates), [rng.integers(1, len(rates))])
        low, high = share_interval(mine, other)
        assert 0 <= low <= mine.sum() / (mine.sum() + other.sum()) <= high <= 1


def test_an_audit_of_one_sample_repeated_knows_nothing_of_the_share():
    generated, training, held_out = three(1, 60, 16)
    found = genonset.audit(generated.repeat(100, 1), training, held_out).train_bias
    assert found.share in (0, 1)
    assert (found.low, found.high) == (0, 1)


def test_quality_and_distances_are_those_of_the_distances_room():
    generated, training, held_out = three(80, 80, 6)
    found = genonset.audit(generated, training, held_out)
    peer = found.peers["energy_training"]
    assert peer.value == pytest.approx(energy_distance(generated, training))
    assert peer.chance == pytest.approx(energy_distance(generated, held_out))
    spread = np.trace(np.cov(generated.T)) / np.trace(np.cov(torch.cat([training, held_out]).T))
    assert found.quality.spread_ratio == pytest.approx(spread * 79 / 80 * 160 / 159)


def test_a_held_out_set_that_overlaps_training_never_clears_a_generator():
    generated, training, held_out = three(200, 100, 16)
    generated[:30] = training[:30] + 1e-4 * gaussian(30, 16, "copies")
    for shared in (100, 60):
        leaking = torch.cat([training[:shared], held_out[shared:]])
        found = genonset.audit(generated, training, leaking)
        assert found.verdict == "undecided"
        assert f"{shared} of 100 held-out points equal" in found.sentence
        assert ("--drop-overlap" in found.sentence) == (found.duplicates.overlap < 100)
    assert genonset.audit(generated, training, held_out).verdict == "copying"


# Power


def test_power_without_background_is_the_closed_form():
    generated, training, held_out = three(100, 60, 32)
    found = genonset.audit(generated, training, held_out, power=True)
    assert found.power.probability == copying_power(100, 60, 60)
    curve = dict(found.power.curve)
    assert curve[0.05] == copying_power(100, 60, 60, 0.05)
    assert sorted(curve.values()) == list(curve.values())


def test_power_is_how_often_an_audit_finds_planted_copies():
    """In the plane, where innocent samples come near too. 50 audits; the error is 7 %."""
    found, predicted = 0, []
    for replicate in range(50):
        generated, training, held_out = three(300, 100, 2, replicate)
        generated[:6] = training[:6] + 1e-4 * gaussian(6, 2, "near", replicate)
        found += label_tests(generated, training, held_out)[1].p_value <= 0.05
        if replicate % 20 == 0:
            clean = genonset.audit(
                gaussian(300, 2, "clean", replicate), training, held_out, power=True
            )
            predicted.append(dict(clean.power.curve)[0.02])
    assert 0.05 < np.mean(predicted) < 0.95
    assert found / 50 == pytest.approx(np.mean(predicted), abs=0.2)


def test_a_plan_reaches_its_power():
    found = genonset.audit(*three(100, 60, 32))
    for line in plan(found, power=0.8, shares=(0.02, 0.1)):
        assert line.n_generated is not None
        assert copying_power(line.n_generated, 60, 60, line.share) >= 0.8
        assert copying_power(int(0.85 * line.n_generated), 60, 60, line.share) < 0.9
        assert str(line.n_generated) in str(line)
    hopeless = plan(found, shares=(0.001,))[0]
    assert hopeless.n_held_out is None
    with pytest.raises(ConfigError, match="power lies"):
        plan(found, power=1.0)


# Refusals


def refused(words, generated, training, held_out=None, error=DataError, **options):
    with pytest.raises(error) as raised:
        genonset.audit(generated, training, held_out, **options)
    message = str(raised.value)
    assert words in message, message
    assert len(message.splitlines()) <= 16


def test_sets_that_are_refused():
    g, t, h = three(20, 20, 6)
    bad = t.clone()
    bad[3, 2] = math.nan
    refused("training: 1 of 120 values are NaN", g, bad, h)
    refused("generated: an array of shape (0, 6)", g[:0], t, h)
    refused("generated (6,), training (5,)", g, t[:, :5], h)
    refused("All 20 training points are equal", g, t[:1].expand(20, 6), h)
    refused("not real numbers", np.array([["a", "b"]] * 5), t, h)
    refused("significance < 1", g, t, h, error=ConfigError, significance=0.0)
    refused("n_permutations", g, t, h, error=ConfigError, n_permutations=0)


def test_shapes_that_differ_are_told_how_to_convert():
    images = torch.rand(20, 3, 8, 3, dtype=torch.float64)  # either axis may be that of channels
    refused("points.permute(0, 3, 1, 2)", images, images.permute(0, 3, 1, 2))
    grey = torch.rand(20, 1, 8, 8, dtype=torch.float64)
    refused("average those of colour images", grey, torch.rand(20, 3, 8, 8, dtype=torch.float64))
    refused("Resize images", grey, torch.rand(20, 1, 16, 16, dtype=torch.float64))


def test_mixed_units_are_refused_with_the_ranges_and_let_through_on_request():
    t, h, g = (torch.rand(50, 1, 8, 8, generator=seeds.generator(5, s)) for s in "thg")
    refused("in the same units", 255 * g, t, h)
    refused("in the same units", 2 * g - 1, t, h)
    refused("uint8", (255 * g).to(torch.uint8), t, h)
    with pytest.raises(DataError, match="max"):
        genonset.audit(255 * g, t, h)
    found = genonset.audit(255 * g, t, h, allow_mixed_units=True)
    assert any(note.startswith("Units:") for note in found.notes)
    shrunken = genonset.audit(0.5 + 0.3 * (g - 0.5), t, h)
    assert any("spread" in note for note in shrunken.notes), "a warning, never a refusal"


def test_one_held_out_point_is_enough_to_run():
    generated, training, held_out = three(20, 20, 4)
    assert genonset.audit(generated, training, held_out[:1]).verdict == "undecided"
    assert genonset.audit(generated[:1], training, held_out).verdict in REGIMES


# Robust search


def images(n, *names):
    """Noise with a black frame, so that a shift by a pixel loses nothing."""
    return torch.nn.functional.pad(gaussian(n, 16, *names).reshape(n, 1, 4, 4), (2, 2, 2, 2))


def test_flipped_and_shifted_copies_are_found_by_the_robust_search_alone():
    training, held_out, generated = images(80, "rt"), images(80, "rh"), images(100, "rg")
    generated[:10] = training[:10].flip(-1)
    generated[10:20] = training[10:20].roll(1, -1)
    generated[20:30] = training[20:30].flip(-1).roll(-1, -2)
    assert genonset.audit(generated, training, held_out).copying.near_training == 0
    found = genonset.audit(generated, training, held_out, robust=True)
    assert found.verdict == "copying"
    assert {f.index: f.nearest for f in found.copying.flagged} == {k: k for k in range(30)}
    assert found.copying.memorized_fraction == pytest.approx(0.3)
    plain = genonset.audit(generated, training, held_out)
    assert found.quality == plain.quality, "quality is that of the samples as they are"


def test_the_robust_search_keeps_the_level():
    """20 audits of level 0.05 reject more than 4 times with probability 0.003."""
    rejected = 0
    for r in range(20):
        sets = images(60, "ng", r), images(30, "nt", r), images(30, "nh", r)
        found = genonset.audit(*sets, robust=True, n_permutations=100)
        rejected += found.train_bias.p_value <= 0.05
    assert rejected <= 4


def test_the_robust_search_takes_images_only():
    refused("takes images", *three(20, 20, 6), robust=True)


def test_noisy_copies_beyond_the_scale_are_found_by_the_gap_ratio():
    """Copies at 1.2 times the scale; those whose point has room around it are told."""
    generated, training, held_out = three(200, 100, 16, "noisy")
    scale = genonset.audit(generated, training, held_out).copying.scale
    noise = gaussian(20, 16, "direction")
    generated[:20] = training[:20] + 1.2 * scale * noise / noise.norm(dim=1, keepdim=True)
    found = genonset.audit(generated, training, held_out)
    assert label_tests(generated, training, held_out)[1].counted == 0
    named = {f.index: f.nearest for f in found.copying.flagged}
    assert found.verdict == "copying"
    assert len(named) >= 8
    assert all(index == nearest for index, nearest in named.items())
    pool = torch.cat([training, held_out])
    one, two = np.sort(cdist(generated, pool), axis=1)[:, :2].T
    near = (one <= scale) | (one < two / 3)
    assert found.copying.near_training + found.copying.near_held_out == near.sum()


# Corners


def test_held_out_points_that_are_the_training_points():
    generated, training, _ = three(60, 40, 8)
    found = genonset.audit(3 * generated, training, training.clone())
    assert found.duplicates.overlap == 40
    assert found.copying.flagged == ()
    assert found.train_bias.share == pytest.approx(0.5, abs=0.1), "equal points share samples"
    assert found.verdict in ("poor", "undecided")


@pytest.mark.parametrize("dtype", ["uint16", "int32", "bool", ">f4", "float16"])
def test_rare_number_types(dtype):
    sets = [(x.numpy() > 0).astype(dtype) for x in three(40, 30, 12)]
    plain = [x.astype(np.float64) for x in sets]
    assert shared(genonset.audit(*sets)) == shared(genonset.audit(*plain))


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64"])
def test_whole_numbers_beyond_those_of_float32_keep_their_last_digit(dtype):
    """Beyond 2^25 float32 holds every fourth integer: a sample one off would be identical."""
    g, t, h = ((2**25 + 5e6 + 1000 * x).round().numpy().astype(dtype) for x in three(60, 50, 4))
    g[:7] = t[:7]
    g[7:40] = t[7:40] + np.ones(4, dtype)
    found = genonset.audit(g, t, h)
    assert found.copying.identical == 7
    assert found.inputs["generated"].dtype == dtype.replace("uint32", "int64")


def test_kernel_peer_is_the_delta_of_the_samples_against_both_halves():
    """Sums over pairs by SciPy, under the width s n^(-1/d) of 50 points in 6 dimensions."""
    generated, training, held_out = (3 * x for x in three(50, 50, 6))
    g, t, h = (x.numpy() for x in (generated, training, held_out))
    spread = np.concatenate([t, h]).var(0).mean()
    variance = spread * 50 ** (-2 / 6)

    def overlap(x, y, variance):
        pairs = pdist(x) if y is x else cdist(x, y)
        kernels = np.exp(-(pairs**2) / (2 * variance)).sum() * (2 if y is x else 1)
        return kernels * variance ** (-6 / 2)  # up to a factor that cancels

    own = [overlap(x, x, 2 * variance) for x in (t, h)]
    cross = [2 * overlap(g, x, variance) for x in (t, h)]
    value = math.log((own[1] + cross[0]) / (own[0] + cross[1]))
    peer = genonset.audit(generated, training, held_out).peers["kernel_delta"]
    assert peer.value == pytest.approx(value, rel=1e-6)


def test_types_that_are_refused():
    g, t, h = three(20, 20, 6)
    refused("complex", g.to(torch.complex64), t, h)
    refused("layout", g.to_sparse(), t, h)


def test_numbers_are_points_of_one_coordinate():
    rng = np.random.default_rng(0)
    found = genonset.audit(rng.normal(size=50), rng.normal(size=40), rng.normal(size=40))
    assert found.inputs["generated"].shape == (1,)
    assert found.verdict in REGIMES


def test_one_set_given_twice_is_said_first():
    generated, training, held_out = three(50, 60, 8)
    found = genonset.audit(held_out, training, held_out)
    assert found.notes[0].startswith("generated and held-out hold the same numbers")
    assert (found.verdict, found.copying.p_value) == ("undecided", 1)
    assert "all 60 samples are identical to held-out points" in found.sentence
    found = genonset.audit(training, training, held_out)
    assert found.notes[0].startswith("generated and training hold the same numbers")
    assert found.verdict == "copying"
    part = torch.cat([generated, held_out[:3]])
    found = genonset.audit(part, training, held_out)
    assert found.notes[0].startswith("3 of 53 samples are identical to held-out points")


def test_grey_images_with_and_without_their_channel_are_of_one_shape():
    sets = three(40, 50, 16)
    with_channel, without = ([x.reshape(-1, *s, 4, 4) for x in sets] for s in ((1,), ()))
    expected = genonset.audit(*with_channel)
    for mixed in ((without[0], *with_channel[1:]), (with_channel[0], *without[1:])):
        found = genonset.audit(*mixed)
        assert found.to_dict() == expected.to_dict()
        assert found.inputs["generated"].shape == (1, 4, 4)
    refused("All sets must hold data points of one shape", without[0], without[1][:, :2])


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_sets_in_files_are_audited_where_they_lie(tmp_path, dtype):
    """Maps, read-only ones too, give what arrays in memory give."""
    sets = [(40 * x.numpy() + 128).clip(0, 255).astype(dtype) for x in three(60, 80, 12)]
    expected = genonset.audit(*sets).to_dict()
    for k, x in enumerate(sets):
        np.save(tmp_path / f"{k}.npy", x)
    maps = [np.load(tmp_path / f"{k}.npy", mmap_mode="r") for k in range(3)]
    assert genonset.audit(*maps).to_dict() == expected
    found = verdict.audit_files(*(tmp_path / f"{k}.npy" for k in range(3))).to_dict()
    for one in found["inputs"].values():
        one["path"] = None
    assert found == expected


def test_large_sets_set_their_scale_from_a_part(monkeypatch):
    """50 of 400 points: another scale, chosen without the labels, and the same samples found."""
    generated, training, held_out = three(150, 200, 16, "part")
    generated[:20] = training[:20] + 0.01 * gaussian(20, 16, "jitter")
    whole = genonset.audit(generated, training, held_out)
    monkeypatch.setattr(verdict, "SEARCHED", 50)
    part = genonset.audit(generated, training, held_out)
    exchanged = genonset.audit(generated, held_out, training)
    assert part.copying.scale == exchanged.copying.scale != whole.copying.scale
    assert part.copying.p_value == whole.copying.p_value < 1e-4
    assert {f.index for f in part.copying.flagged} == set(range(20))
    assert part.train_bias == whole.train_bias
    for name in ("authenticity", "c_t", "dcr_share"):
        assert part.peers[name] == whole.peers[name]
    alone = genonset.audit(generated, training)
    assert alone.copying.near_training == 20


def test_near_twins_of_what_was_copied_are_seen_in_large_sets(monkeypatch):
    """What was copied has a near twin: a copy has two neighbours that count as one."""
    _, training, held_out = three(1, 100, 16, "twins")
    training[80:] = training[:20] + 1e-3 * gaussian(20, 16, "apart")
    generated = training[:20] + 1e-3 * gaussian(20, 16, "near")
    monkeypatch.setattr(verdict, "SEARCHED", 40)
    assert genonset.audit(generated, training, held_out).copying.memorized_fraction == 1


def test_what_the_coordinates_do_not_see_is_said():
    """Columns in units of their own, columns that are constant, images by their pixels."""
    generated, training, held_out = three(60, 100, 4, "units")
    scale = torch.tensor([1.0, 1.0, 1.0, 1e4], dtype=torch.float64)
    wide = [x * scale for x in (generated, training, held_out)]
    found = genonset.audit(*wide)
    assert any("the widest alone" in note for note in found.notes)
    assert not any("the widest" in n for n in genonset.audit(generated, training, held_out).notes)
    assert not any("the widest" in n for n in genonset.audit(*wide, features="standardized").notes)
    for x in wide:
        x[:, 0] = 7
    wide[0][:9, 0] = 8
    notes = genonset.audit(*wide, features="standardized").notes
    assert any("1 columns are constant" in n and "9 samples have another" in n for n in notes)
    pictures = [x.repeat(1, 4).reshape(-1, 1, 4, 4) for x in (generated, training, held_out)]
    assert UNSEEN in genonset.audit(*pictures).notes
    assert UNSEEN not in genonset.audit(*pictures, robust=True).notes


def test_tables_with_named_columns_are_standardized_as_files_are():
    import pandas

    tables = [pandas.DataFrame(x.numpy(), columns=list("abc")) for x in three(40, 60, 3, "table")]
    assert genonset.audit(*tables).settings["features"] == "standardized"
    assert genonset.audit(*(t.to_numpy() for t in tables)).settings["features"] == "pixels"


def test_intervals_and_least_p_values_of_few_samples_agree_with_the_numbers():
    generated, training, held_out = three(5, 30, 16, "few")
    generated[:] = training[:5]
    found = genonset.audit(generated, training, held_out)
    assert found.train_bias.share == found.train_bias.high == 1
    assert found.copying.p_value == pytest.approx(math.comb(30, 5) / math.comb(60, 5))
    assert any(f"can have is {found.copying.p_value:.2g}," in note for note in found.notes)


def test_samples_at_points_of_both_sets_are_near_both():
    generated, training, held_out = three(30, 50, 8, "both")
    held_out[:10] = training[:10]
    generated[:10] = training[:10]
    found = genonset.audit(generated, training, held_out).copying
    assert found.near_training == found.near_held_out == 10


def test_paths_are_refused_with_the_way_to_pass_them():
    _, training, held_out = three(30, 50, 8, "refused")
    refused("audit_files", "samples.npy", training, held_out)
