"""What the label tests permute: rows, values in classes of equal multiplicity, within strata."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from genonset.errors import DataError
from genonset.estimates import stratified_sum_tail, subset_sum_tail
from genonset.labels import Units, label_test, permutation_p_value, unit_test


def units(training, stratum):
    training, stratum = np.array(training, bool), np.array(stratum)
    rows = np.arange(len(training))
    return Units(of_row=rows, training=training, stratum=stratum, are_rows=False)


def all_sums(sums, of):
    """S of every choice of as many training units a stratum as there are."""
    sums = np.asarray(sums)
    chosen = []
    for k in np.unique(of.stratum):
        here = np.flatnonzero(of.stratum == k)
        n = int(of.training[here].sum())
        chosen.append([sums[list(c)].sum() for c in itertools.combinations(here, n)])
    return np.array([sum(parts) for parts in itertools.product(*chosen)])


CASES = {
    "one stratum": ([3, 0, 1, 2, 1, 0, 2, 1], [1, 1, 1, 1, 0, 0, 0, 0], [0] * 8),
    "two": ([5, 0, 2, 7, 1, 0, 2], [1, 0, 1, 1, 0, 0, 1], [0, 0, 0, 1, 1, 1, 1]),
    "three, mixed order": (
        [4, 1, 0, 6, 2, 2, 3, 0, 9],
        [1, 0, 0, 1, 1, 0, 0, 1, 1],
        [2, 0, 0, 1, 2, 1, 1, 0, 2],
    ),
    "a stratum of one label": ([4, 1, 3, 6], [1, 1, 0, 1], [0, 0, 1, 1]),
    "nothing near": ([0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_label_test_against_all_labellings(case):
    sums, training, stratum = CASES[case]
    of = units(training, stratum)
    every = all_sums(sums, of)
    found = unit_test(sums, of, n_generated=40)
    observed = np.array(sums)[of.training].sum()
    assert found.p_value == pytest.approx((every >= observed).mean(), rel=1e-12)
    spread = every.std()
    z = (observed - every.mean()) / spread if spread > 1e-9 else 0
    assert found.z == pytest.approx(z, abs=1e-9)
    assert found.counted == sum(sums)
    if sum(sums):
        assert found.expected == pytest.approx(every.mean() / sum(sums))


def test_excess_of_strata_is_the_share_that_copies_explain():
    """No background, q of the samples copies of training units, as many of each."""
    of = units([1, 1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1])
    found = unit_test([5, 5, 0, 5, 0, 0, 0], of, n_generated=60)
    assert found.excess == pytest.approx(15 / 60)


def test_relabelling_of_strata_agrees_with_the_exact_law():
    rng = np.random.default_rng(0)
    of = units(rng.random(90) < 0.4, rng.integers(3, size=90))
    sums = rng.poisson(1.5, 90)
    exact = unit_test(sums, of).p_value
    drawn = permutation_p_value(sums.astype(float), of, n_permutations=40_000, seed=1)
    assert 0.02 < exact < 0.98
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 40_000))


def test_one_stratum_is_a_subset_sum():
    counts = np.random.default_rng(2).poisson(2, 60)
    found = stratified_sum_tail([(counts, 25)], counts[:25].sum())
    assert found == pytest.approx(subset_sum_tail(counts, 25, counts[:25].sum()), rel=1e-12)


def test_small_p_values_of_strata_keep_their_digits():
    """All samples at the training units of both strata: one choice of all."""
    found = stratified_sum_tail([([7] * 20 + [0] * 30, 20), ([3] * 40 + [0] * 40, 40)], 260)
    assert found == pytest.approx(1 / (math.comb(50, 20) * math.comb(80, 40)), rel=1e-10)


def test_strata_refuse_what_one_stratum_refuses():
    with pytest.raises(DataError, match="whole"):
        stratified_sum_tail([([1, 2], 1), ([0.5], 1)], 1)
    with pytest.raises(DataError, match="does not exist"):
        stratified_sum_tail([([1, 2], 3)], 1)
    with pytest.raises(DataError, match="only 3"):
        unit_test([2, 2], units([1, 0], [0, 0]), n_generated=3)


# Which units


def test_values_are_units_by_their_multiplicity():
    # values 0 (twice) and 1 in training, 2 (twice), 3 and 4 held out
    found = Units.values(np.array([0, 0, 1, 2, 3, 2, 4]), 3)
    assert not found.are_rows
    assert found.of_row.tolist() == [0, 0, 1, 2, 3, 2, 4]
    assert found.training.tolist() == [True, True, False, False, False]
    assert found.stratum.tolist() == [1, 0, 1, 0, 0]
    assert not Units.values(np.array([2, 0, 1]), 2).are_rows, "values that do not repeat, too"
    assert Units.rows(5, 2).are_rows
    with pytest.raises(AssertionError):
        Units.values(np.array([0, 1, 1]), 2)


def test_new_labels_keep_the_numbers_of_every_stratum():
    of, rng = units([1, 1, 0, 0, 0, 1], [0, 0, 0, 1, 1, 1]), np.random.default_rng(0)
    seen = {tuple(of.relabelled(rng).training) for _ in range(200)}
    assert len(seen) == 9, "3 choices of two of three, times 3 of one of three"
    assert {(sum(s[:3]), sum(s[3:])) for s in seen} == {(2, 1)}


def test_pairs_of_rows_keep_the_level_as_values_and_not_as_rows():
    """60 values of two rows each: samples gather at values, labels are drawn for values."""
    rng, n_trials = np.random.default_rng(5), 1500
    member = np.repeat(np.arange(60), 2)
    by_value = by_row = 0
    for _ in range(n_trials):
        counts = 2 * rng.poisson(1.0, 60)
        order = rng.permutation(60)
        rows = np.concatenate([np.repeat(order[:30], 2), np.repeat(order[30:], 2)])
        of = Units.values(rows, 60)
        by_value += unit_test(counts, of).p_value <= 0.05
        shared = counts[member[rows * 2]] / 2
        by_row += label_test(shared[:60], shared[60:]).p_value <= 0.05
    assert stats.binom.sf(by_value - 1, n_trials, 0.05) > 1e-3
    assert by_row > 0.09 * n_trials, "rows that come in pairs are not exchangeable"
