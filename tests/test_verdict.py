"""Label tests against the enumeration of all labels; fractions against their known chance levels.

Statistical tests use fixed seeds and bounds of 4 standard errors: a false alarm in 16,000 had the
seeds been free.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist

from genonset import labels, seeds
from genonset.errors import ConfigError, DataError
from genonset.labels import copying_power, label_test
from genonset.verdict import copying, label_tests, memorized_fraction, regime, train_bias


def gaussian(n, dim, *names):
    return torch.randn(n, dim, generator=seeds.generator(0, *names), dtype=torch.float64)


def relabelled(counts, n_training):
    """S for every choice of the training points."""
    return np.array([sum(chosen) for chosen in itertools.combinations(counts, n_training)])


# The label test


@pytest.mark.parametrize(
    ("training", "held_out"),
    [
        ([3, 0, 1, 2], [1, 0, 2, 1]),
        ([5, 0, 0], [1, 0, 0, 2, 0]),
        ([0, 1, 0, 0, 0, 0, 4], [7, 0]),
        ([2], [0]),
    ],
)
def test_moments_and_p_value_are_those_of_all_relabellings(training, held_out):
    sums = relabelled(training + held_out, len(training))
    test = label_test(training, held_out)
    assert test.counted == sum(training + held_out)
    assert test.share == pytest.approx(sum(training) / test.counted)
    assert test.z == pytest.approx((sum(training) - sums.mean()) / sums.std())
    assert test.p_value == pytest.approx((sums >= sum(training)).mean(), rel=1e-12)


def test_worked_example_of_the_theory_note():
    test = label_test([3, 0, 1, 2], [1, 0, 2, 1])
    assert test.share * test.counted == pytest.approx(6)
    assert test.z == pytest.approx(0.68313, rel=1e-5)


@pytest.mark.parametrize("count", [0, 2])
def test_equal_counts_say_nothing(count):
    test = label_test([count] * 3, [count] * 5)
    assert (test.z, test.p_value, test.excess) == (0, 1, 0)
    assert math.isnan(test.share) == (count == 0)


def test_excess_is_the_share_that_the_training_set_explains():
    # 3 training and 6 held-out points: background 2 a point, and 9 samples that are copies.
    test = label_test([2 + 9, 2, 2], [2] * 6, n_generated=40)
    background = 40 - 18 - 9
    assert test.excess == pytest.approx(9 / 40)
    assert background > 0
    assert label_test([4, 4], [0, 0]).excess == 1
    assert label_test([3, 1], [2, 0], n_generated=8).excess == pytest.approx((4 - 2) / 8)


@pytest.mark.parametrize(
    ("training", "held_out", "options"),
    [
        ([], [1], {}),
        ([1], [], {}),
        ([[1, 2]], [[3, 4]], {}),
        ([1, -1], [1, 1], {}),
        ([1, 0.5], [1, 1], {}),
        ([3, 1], [1, 1], {"n_generated": 5}),
    ],
)
def test_counts_that_are_refused(training, held_out, options):
    with pytest.raises(DataError):
        label_test(training, held_out, **options)


# Train bias and copying


@pytest.mark.parametrize(("n_training", "n_held_out", "dim"), [(30, 30, 5), (20, 45, 2)])
def test_both_tests_against_all_distances(n_training, n_held_out, dim):
    training, held_out = gaussian(n_training, dim, "t"), gaussian(n_held_out, dim, "h")
    near = training[:9] + 0.02 * gaussian(9, dim, "near")
    generated = torch.cat([0.8 * gaussian(200, dim, "g"), near])
    pool = torch.cat([training, held_out]).numpy()
    among = cdist(pool, pool)
    np.fill_diagonal(among, np.inf)
    spacing = np.sort(among.min(1))
    scale = spacing[math.floor(0.05 * (len(pool) - 1))] / 3
    to_pool = cdist(generated.numpy(), pool)
    where, first = to_pool.argmin(1), to_pool.min(1)
    for test, counted in zip(
        label_tests(generated, training, held_out), (first < np.inf, first <= scale), strict=True
    ):
        counts = np.bincount(where[counted], minlength=len(pool))
        chosen = np.random.default_rng(0).permuted(np.tile(counts, (20_000, 1)), axis=1)
        p = (chosen[:, :n_training].sum(1) >= counts[:n_training].sum()).mean()
        assert test.counted == counted.sum() > 0
        assert test.share == pytest.approx((where[counted] < n_training).mean())
        assert test.p_value == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 20_000) + 1e-4)
        mean = counts.sum() * n_training / len(pool)
        excess = (counts[:n_training].sum() - mean) / (len(generated) * n_held_out / len(pool))
        assert test.excess == pytest.approx(excess)


def test_single_tests_are_the_pair():
    sets = gaussian(60, 4, "g"), gaussian(20, 4, "t"), gaussian(20, 4, "h")
    assert (train_bias(*sets), copying(*sets)) == label_tests(*sets)


def test_exact_copies_are_copying():
    training, held_out = gaussian(40, 16, "t"), gaussian(40, 16, "h")
    generated = torch.cat([gaussian(190, 16, "g"), training[torch.arange(10) % 40]])
    bias, copies = label_tests(generated, training, held_out)
    assert copies.counted == 10
    assert copies.share == 1
    assert copies.excess == pytest.approx(10 / 200)
    assert copies.p_value == pytest.approx(math.comb(70, 30) / math.comb(80, 40))
    assert bias.p_value > 0.05, "the same copies are invisible among all neighbours"


def test_copies_that_lost_precision_still_count():
    training, held_out = gaussian(40, 16, "t"), gaussian(40, 16, "h")
    generated = training.to(torch.float16).to(torch.float32)
    assert copying(generated, training, held_out).counted == 40


def test_copies_of_held_out_points_are_not_copying():
    training, held_out = gaussian(40, 16, "t"), gaussian(40, 16, "h")
    bias, copies = label_tests(held_out, training, held_out)
    assert bias.share == copies.share == 0
    assert bias.p_value == copies.p_value == 1


def test_an_over_fitted_linear_model_is_train_biased_and_does_not_copy():
    """Sample covariance of 50 points in 64 dimensions: a degenerate law around the points."""
    biased = copied = memorized = 0
    for replicate in range(20):
        training, held_out = gaussian(50, 64, "t", replicate), gaussian(50, 64, "h", replicate)
        centred = training - training.mean(0)
        generated = training.mean(0) + gaussian(300, 50, "g", replicate) @ centred / math.sqrt(49)
        bias, copies = label_tests(generated, training, held_out)
        biased += bias.p_value <= 0.05
        copied += copies.p_value <= 0.05
        memorized += memorized_fraction(generated, training).value
    assert (biased, copied, memorized) == (20, 0, 0)


@pytest.mark.parametrize("variance", [1.0, 0.5, 0.01])
@pytest.mark.parametrize("dim", [2, 64])
def test_a_model_that_ignores_the_training_set_is_neither(variance, dim):
    """Shrunken or not. 40 tests of level 0.05 reject more than 7 times with probability 0.001."""
    rejected = np.zeros(2)
    for replicate in range(40):
        training, held_out, generated = (gaussian(40, dim, s, replicate) for s in "thg")
        tests = label_tests(math.sqrt(variance) * generated, training, held_out)
        rejected += [test.p_value <= 0.05 for test in tests]
    assert (rejected <= 7).all()


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_the_unit_does_not_matter(scale):
    training, held_out = gaussian(30, 8, "t"), gaussian(30, 8, "h")
    generated = torch.cat([gaussian(100, 8, "g"), training[:5] + 1e-2])
    scaled = label_tests(scale * generated, scale * training, scale * held_out)
    assert scaled == label_tests(generated, training, held_out)
    assert memorized_fraction(scale * generated, scale * training) == memorized_fraction(
        generated, training
    )


def lattice(rng, n, side, dim):
    return torch.from_numpy(rng.integers(side, size=(n, dim)).astype(np.float64))


def test_exchanging_the_labels_exchanges_the_shares():
    """Distinct lattice points with many ties: none may be decided by the order of the sets."""
    rng = np.random.default_rng(1)
    points = lattice(rng, 4000, 4, 4).unique(dim=0)[torch.from_numpy(rng.permutation(256))]
    training, held_out, generated = points[:40], points[40:80], points[80:]
    one, other = (
        label_tests(generated, *sets) for sets in ((training, held_out), (held_out, training))
    )
    for a, b in zip(one, other, strict=True):
        assert a.counted == b.counted
        assert a.z == pytest.approx(-b.z)
    assert one[0].share == pytest.approx(1 - other[0].share)


@pytest.mark.parametrize(("side", "dim", "n"), [(4, 1, 6), (3, 2, 10)])
def test_ties_and_duplicates_favour_no_label(side, dim, n):
    """Discrete data: nearly every sample is tied, between equal points or equally far ones."""
    rng, n_replicates = np.random.default_rng(2), 300
    pairs = [
        label_tests(*(lattice(rng, m, side, dim) for m in (15, n, n))) for _ in range(n_replicates)
    ]
    for tests in zip(*pairs, strict=True):
        z = np.array([test.z for test in tests])
        assert abs(z.mean()) < 4 * z.std() / math.sqrt(n_replicates)
        for level in (0.05, 0.2, 0.5):
            rejections = sum(test.p_value <= level for test in tests)
            assert stats.binom.sf(rejections - 1, n_replicates, level) > 3e-5


def test_copies_of_a_repeated_training_point_are_found():
    """One picture, twelve times in the training set and in a tenth of the samples."""
    training, held_out = gaussian(60, 16, "t"), gaussian(60, 16, "h")
    training[:12] = training[0]
    generated = gaussian(200, 16, "g")
    generated[:20] = training[0]
    copies = copying(generated, training, held_out)
    assert copies.counted == 20
    assert copies.share == 1
    # 8 points with two samples and 4 with one: all twelve must be in T to reach S = 20.
    assert copies.p_value == pytest.approx(math.comb(108, 48) / math.comb(120, 60))
    assert memorized_fraction(generated, training).value == pytest.approx(0.1)


def test_nearness_is_judged_on_distinct_points():
    """Repeated points must not shrink the near-duplicate scale to zero."""
    training, held_out = gaussian(40, 16, "t"), gaussian(40, 16, "h")
    training[20:] = training[:20]
    generated = training[:10] + 0.01 * gaussian(10, 16, "g")
    assert copying(generated, training, held_out).counted == 10


def test_images_of_any_float_type():
    training, held_out, generated = (gaussian(20, 12, s).reshape(20, 3, 2, 2) for s in "thg")
    expected = label_tests(generated.flatten(1), training.flatten(1), held_out.flatten(1))
    assert label_tests(generated, training, held_out) == expected
    assert label_tests(generated.numpy(), training.numpy(), held_out.numpy()) == expected
    as_float = (x.float() for x in (generated, training, held_out))
    assert label_tests(*as_float)[0].counted == 20


def test_sets_that_are_refused():
    good = gaussian(5, 3, "t")
    bad = good.clone()
    bad[2, 1] = math.nan
    with pytest.raises(DataError, match="held_out: 1 of 15 values"):
        label_tests(good, good, bad)
    with pytest.raises(DataError, match="one shape, got 3, 3, 2 coordinates"):
        label_tests(good, good, good[:, :2])
    with pytest.raises(DataError, match="generated, training must hold"):
        memorized_fraction(good, good[:, :2])
    with pytest.raises(DataError, match="generated: got shape"):
        copying(good[:0], good, good)
    with pytest.raises(DataError, match="two distinct points"):
        train_bias(good, good[:1], good[:1])
    with pytest.raises(DataError, match="two distinct points"):
        memorized_fraction(good, good[[0, 0]])


# The memorized fraction


@pytest.mark.parametrize(
    ("dim", "n", "replicates", "expected"), [(2, 100, 200, 0.108201), (4, 1000, 40, 0.0119469)]
)
def test_fresh_samples_have_the_chance_level_of_the_theory(dim, n, replicates, expected):
    """(F2) of the theory note, Gaussian data; the error is measured over training sets."""
    shares = [
        memorized_fraction(gaussian(1000, dim, "g", r, n), gaussian(n, dim, "t", r, n)).value
        for r in range(replicates)
    ]
    error = float(np.std(shares)) / math.sqrt(replicates)
    assert error < 0.06 * expected
    assert np.mean(shares) == pytest.approx(expected, abs=4 * error)


def test_the_gap_is_a_ratio_of_distances():
    training = torch.tensor([[0.0], [1.0]])
    generated = torch.tensor([[0.0], [0.19], [0.21], [0.24], [0.26], [0.5], [5.0]])
    assert memorized_fraction(generated, training).value == pytest.approx(4 / 7)
    assert memorized_fraction(generated, training, gap=0.25).value == pytest.approx(2 / 7)
    assert memorized_fraction(generated, training, gap=1.0).value == pytest.approx(6 / 7)


def test_the_interval_is_wilson():
    training = gaussian(50, 8, "t")
    generated = torch.cat([training[:7], gaussian(93, 8, "g")])
    estimate = memorized_fraction(generated, training)
    interval = stats.binomtest(7, 100).proportion_ci(0.95, method="wilson")
    assert estimate.value == 0.07
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))


def test_repeated_training_points_change_nothing():
    training = gaussian(30, 8, "t")
    generated = torch.cat([training[:10], gaussian(40, 8, "g")])
    repeated = torch.cat([training, training[:20], training[:5]])
    repeated[30:40] += 0.0
    assert memorized_fraction(generated, repeated) == memorized_fraction(generated, training)


@pytest.mark.parametrize("gap", [0.0, -1.0, 1.5, math.nan])
def test_gaps_that_are_refused(gap):
    with pytest.raises(ConfigError, match="0 < gap <= 1"):
        memorized_fraction(gaussian(5, 2, "g"), gaussian(5, 2, "t"), gap=gap)


# Power and regime


@pytest.mark.parametrize(
    ("n_copies", "n_training", "n_held_out", "significance"),
    [(3, 4, 4, 0.08), (4, 3, 3, 0.05), (4, 5, 2, 0.3), (2, 3, 9, 0.05), (3, 3, 1, 0.05)],
)
def test_power_is_that_of_all_possible_copies(n_copies, n_training, n_held_out, significance):
    found = []
    for copied in itertools.product(range(n_training), repeat=n_copies):
        counts = np.bincount(copied, minlength=n_training + n_held_out)
        sums = relabelled(counts, n_training)
        found.append((sums >= n_copies).mean() <= significance + 1e-12)
    power = copying_power(n_copies, n_training, n_held_out, share=1.0, significance=significance)
    assert power == pytest.approx(np.mean(found))


@pytest.mark.parametrize(("n_generated", "n"), [(50, 30), (60, 8)])
def test_power_is_how_often_planted_copies_are_found(n_generated, n):
    """In 64 dimensions fresh samples are near nothing, as the power assumes."""
    n_replicates, found = 150, 0
    for replicate in range(n_replicates):
        training, held_out = gaussian(n, 64, "t", replicate), gaussian(n, 64, "h", replicate)
        generated = gaussian(n_generated, 64, "g", replicate)
        draws = seeds.generator(0, "c", replicate)
        copied = torch.rand(n_generated, generator=draws) < 0.1
        generated[copied] = training[torch.randint(n, (int(copied.sum()),), generator=draws)]
        found += copying(generated, training, held_out).p_value <= 0.05
    power = copying_power(n_generated, n, n)
    assert 0.2 < power < 0.95
    error = math.sqrt(power * (1 - power) / n_replicates)
    assert found / n_replicates == pytest.approx(power, abs=4 * error)


def test_power_grows_and_has_limits():
    powers = [copying_power(m, 100, 100) for m in (10, 30, 50, 70, 100, 1000)]
    assert powers == sorted(powers)
    assert powers[0] < 0.01
    assert powers[-1] == pytest.approx(1)
    assert copying_power(1000, 2, 2) == 0, "one choice in six is no evidence at level 0.05"
    assert copying_power(1000, 3, 3) > 0.99, "one in twenty is"
    assert copying_power(4, 100, 100) == 0, "no copy to be found"


@pytest.mark.parametrize(
    "arguments",
    [(0, 5, 5), (5, 0, 5), (5, 5, 0), (5, 5, 5, 0.0), (5, 5, 5, 1.1), (5, 5, 5, 0.1, 0.0),
     (5, 5, 5, 0.1, 1.0)],
)  # fmt: skip
def test_powers_that_are_refused(arguments):
    with pytest.raises(ConfigError):
        copying_power(*arguments)


@pytest.mark.parametrize(
    ("p_copying", "p_bias", "quality", "power", "expected"),
    [
        (0.01, 0.01, 9.0, 1.0, "copying"),
        (0.01, 0.90, 1.0, 0.1, "copying"),
        (0.05, 0.90, 1.0, 1.0, "copying"),
        (0.06, 0.01, 9.0, 1.0, "train-biased"),
        (0.06, 0.01, 1.0, 0.1, "train-biased"),
        (0.06, 0.06, 9.0, 1.0, "poor"),
        (0.06, 0.06, 2.0, 1.0, "generalizing"),
        (0.06, 0.06, 2.0, 0.5, "generalizing"),
        (0.06, 0.06, 2.0, 0.4, "undecided"),
        (0.06, 0.06, 9.0, 0.4, "undecided"),
    ],
)
def test_precedence_of_the_regimes(p_copying, p_bias, quality, power, expected):
    found = regime(
        copying_p=p_copying,
        train_bias_p=p_bias,
        quality=quality,
        oracle_quality=1.0,
        power=power,
    )
    assert found == expected


def test_p_values_of_zero_and_one_are_p_values():
    options = {"quality": 1.0, "oracle_quality": 1.0, "power": 1.0}
    assert regime(copying_p=0.0, train_bias_p=0.0, **options) == "copying"
    assert regime(copying_p=1.0, train_bias_p=0.0, **options) == "train-biased"
    assert regime(copying_p=1.0, train_bias_p=1.0, **options) == "generalizing"


def test_the_level_is_an_argument():
    options = {"quality": 1.0, "oracle_quality": 1.0, "power": 1.0, "significance": 0.01}
    assert regime(copying_p=0.02, train_bias_p=0.02, **options) == "generalizing"


@pytest.mark.parametrize("options", [{"quality": math.nan}, {"oracle_quality": -1.0}])
def test_qualities_that_are_refused(options):
    given = {"quality": 1.0, "oracle_quality": 1.0, "power": 1.0} | options
    with pytest.raises(DataError, match="finite and not negative"):
        regime(copying_p=1.0, train_bias_p=1.0, **given)


@pytest.mark.parametrize(
    ("copying_p", "train_bias_p"),
    [(math.nan, 1.0), (1.0, 1.5), (-0.1, 1.0), (1.5, 1.0), (1.0, -0.1)],
)
def test_p_values_that_are_refused(copying_p, train_bias_p):
    with pytest.raises(DataError, match="p-values lie in 0 to 1"):
        regime(
            copying_p=copying_p,
            train_bias_p=train_bias_p,
            quality=1.0,
            oracle_quality=1.0,
            power=1.0,
        )


@pytest.mark.parametrize("options", [{"power": math.nan}, {"significance": 0.0}])
def test_levels_that_are_refused(options):
    given = {"quality": 1.0, "oracle_quality": 1.0, "power": 1.0} | options
    with pytest.raises(ConfigError, match="significance < 1"):
        regime(copying_p=1.0, train_bias_p=1.0, **given)


def test_relabelling_stands_in_for_an_exact_law_that_would_take_long(monkeypatch):
    counts = np.random.default_rng(0).poisson(3, 120)
    counts[:60] += np.arange(60) % 9 == 0
    exact = label_test(counts[:60], counts[60:])
    monkeypatch.setattr(labels, "EXACT", 0)
    drawn = label_test(counts[:60], counts[60:], n_permutations=20_000)
    error = math.sqrt(exact.p_value * (1 - exact.p_value) / 20_000)
    assert drawn.p_value == pytest.approx(exact.p_value, abs=4 * error)
    assert drawn.p_value != exact.p_value
    assert (drawn.z, drawn.share) == (exact.z, exact.share)
