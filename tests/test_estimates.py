"""Intervals and the exact label permutation, against SciPy, enumeration and integer arithmetic."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genonset.errors import ConfigError, DataError
from genonset.estimates import (
    Estimate,
    bootstrap,
    bracket,
    p_text,
    percent,
    subset_sum_tail,
    wilson,
)


@pytest.mark.parametrize(("k", "m"), [(0, 1), (0, 20), (3, 20), (20, 20), (299, 300)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_is_scipys(k: int, m: int, confidence: float) -> None:
    interval = stats.binomtest(k, m).proportion_ci(confidence, method="wilson")
    estimate = wilson(k, m, confidence=confidence)
    assert estimate.value == k / m
    assert estimate.low == pytest.approx(interval.low, rel=1e-12, abs=1e-15)
    assert estimate.high == pytest.approx(interval.high, rel=1e-12)
    assert estimate.confidence == confidence


def test_bootstrap_has_the_quantiles_of_scipys_at_expanded_levels() -> None:
    """The resamples differ, so the ends agree within the error of 20000 of them, about 1 %."""
    values = np.random.default_rng(0).exponential(size=12)
    level = float(1 - 2 * stats.norm.cdf(-math.sqrt(12 / 11) * stats.t(11).ppf(0.975)))
    reference = stats.bootstrap(
        (values,), np.mean, confidence_level=level, method="percentile", n_resamples=20000, rng=1
    ).confidence_interval
    estimate = bootstrap(values, n_resamples=20000)
    width = reference.high - reference.low
    assert estimate.value == values.mean()
    assert abs(estimate.low - reference.low) < 0.03 * width
    assert abs(estimate.high - reference.high) < 0.03 * width


def test_bootstrap_covers_the_mean_of_ten_normal_numbers() -> None:
    """True coverage 0.945, of a plain percentile interval 0.90; false alarm 0.4 %."""
    data = np.random.default_rng(0).standard_normal((1000, 10))
    estimates = [bootstrap(row, n_resamples=500, seed=i) for i, row in enumerate(data)]
    assert np.mean([e.low <= 0 <= e.high for e in estimates]) > 0.925


def test_bootstrap_is_the_same_with_and_without_an_axis() -> None:
    values = np.random.default_rng(0).standard_normal((15, 2)) + 5

    def ratio(rows: np.ndarray) -> float:
        return rows[:, 0].mean() / rows[:, 1].mean()

    def ratios(rows: np.ndarray, axis: int) -> np.ndarray:
        means = rows.mean(axis)
        return means[..., 0] / means[..., 1]

    one, other = bootstrap(values, ratio), bootstrap(values, ratios)
    assert [one.value, one.low, one.high] == pytest.approx([other.value, other.low, other.high])
    assert one == bootstrap(values, ratio)
    assert one.low != bootstrap(values, ratio, seed=1).low


def test_bootstrap_draws_rows_whole() -> None:
    """A ratio of equal columns is one in every resample."""
    column = np.random.default_rng(0).standard_normal(9) + 3
    pairs = np.stack([column, column], axis=1)
    estimate = bootstrap(pairs, lambda rows: rows[:, 0].mean() / rows[:, 1].mean())
    assert (estimate.low, estimate.value, estimate.high) == (1.0, 1.0, 1.0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="5 of 4"):
        wilson(5, 4)
    with pytest.raises(DataError, match="trials"):
        wilson(0, 0)
    with pytest.raises(ConfigError, match="confidence"):
        wilson(1, 2, confidence=95)
    with pytest.raises(DataError, match="at least 3"):
        bootstrap([1.0, 2.0])
    with pytest.raises(DataError, match="1 that are NaN"):
        bootstrap([1.0, 2.0, np.nan])
    with pytest.raises(DataError, match="one number"):
        bootstrap(np.ones((4, 2)))
    with pytest.raises(DataError, match="whole"):
        subset_sum_tail([0.5, 1], 1, 1)
    with pytest.raises(DataError, match="whole"):
        subset_sum_tail([-1, 1], 1, 1)
    with pytest.raises(DataError, match="3 of 2"):
        subset_sum_tail([1, 1], 3, 1)


def test_an_interval_is_written_with_the_digits_it_deserves() -> None:
    assert str(Estimate(value=0.3123, low=0.2711, high=0.3591, confidence=0.95)) == (
        "0.31 [0.27, 0.36]"
    )
    assert bracket(31.4, 27.1, 35.9) == "31 [27, 36]"
    assert bracket(1234.5, 1100.2, None) == "1234 [1100, ..]"
    assert bracket(0.5, 0.5, 0.5) == "0.5 [0.5, 0.5]"


def tail_by_enumeration(counts: list[int], n_chosen: int, observed: int) -> float:
    sums = [sum(subset) for subset in itertools.combinations(counts, n_chosen)]
    return sum(s >= observed for s in sums) / len(sums)


def tail_by_integers(counts: np.ndarray, n_chosen: int, observed: int) -> float:
    """Numbers of subsets by size and sum, item after item, in exact integer arithmetic."""
    ways: list[dict[int, int]] = [{0: 1}] + [{} for _ in range(n_chosen)]
    for count in counts.tolist():
        for size in range(n_chosen, 0, -1):
            for total, number in ways[size - 1].items():
                ways[size][total + count] = ways[size].get(total + count, 0) + number
    above = sum(number for total, number in ways[n_chosen].items() if total >= observed)
    return above / math.comb(len(counts), n_chosen)


@settings(max_examples=200, deadline=None)
@given(
    counts=st.lists(st.integers(0, 7), min_size=1, max_size=10),
    chosen=st.integers(0, 10),
    observed=st.integers(-2, 40),
)
def test_label_permutation_is_the_enumeration(
    counts: list[int], chosen: int, observed: int
) -> None:
    n_chosen = min(chosen, len(counts))
    exact = tail_by_enumeration(counts, n_chosen, observed)
    assert subset_sum_tail(counts, n_chosen, observed) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("observed", [45, 60, 80, 100, 104])
def test_label_permutation_is_exact_at_tiny_p_values(observed: int) -> None:
    """p from 0.9 down to 1e-14, relative to integer arithmetic."""
    counts = np.random.default_rng(3).negative_binomial(0.5, 0.2, size=70)
    exact = tail_by_integers(counts, 35, observed)
    assert subset_sum_tail(counts, 35, observed) == pytest.approx(exact, rel=1e-10)


@pytest.mark.parametrize("observed", [50, 80, 100])
def test_label_permutation_of_zeros_and_ones_is_hypergeometric(observed: int) -> None:
    """p down to 5e-45; 100 ones among 600 items."""
    counts = np.repeat([0, 1], [500, 100])
    exact = stats.hypergeom(600, 100, 250).sf(observed - 1)
    assert subset_sum_tail(counts, 250, observed) == pytest.approx(exact, rel=1e-9)


def test_label_permutation_agrees_with_random_permutations() -> None:
    """2000 items, sum 1000, unequal halves: 20000 permutations, within 4 standard errors."""
    rng = np.random.default_rng(0)
    counts = np.bincount(rng.integers(2000, size=1000), minlength=2000)
    sums = np.array([rng.permutation(counts)[:700].sum() for _ in range(20000)])
    for observed in (330, 350, 370):
        share = (sums >= observed).mean()
        error = math.sqrt(share * (1 - share) / len(sums))
        assert abs(subset_sum_tail(counts, 700, observed) - share) < 4 * error


def test_label_permutation_of_the_complement() -> None:
    """S of the chosen is large where the sum of the others is small."""
    counts = np.random.default_rng(1).poisson(1.3, size=300)
    total = int(counts.sum())
    upper = subset_sum_tail(counts, 120, 180)
    lower = 1 - subset_sum_tail(counts, 180, total - 180 + 1)
    assert upper == pytest.approx(lower, rel=1e-9)


def test_label_permutation_at_its_ends() -> None:
    assert subset_sum_tail([1, 2, 3], 3, 6) == 1.0
    assert subset_sum_tail([1, 2, 3], 3, 7) == 0.0
    assert subset_sum_tail([1, 2, 3], 0, 1) == 0.0
    assert subset_sum_tail([0, 0, 0], 2, 0) == 1.0
    assert subset_sum_tail([0, 0, 0], 2, 1) == 0.0
    assert subset_sum_tail([1, 2, 3], 1, 4) == 0.0


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (None, "none"), (math.nan, "none"), (0.0, "0.0 %"), (1e-9, "under 0.1 %"),
        (0.000999, "under 0.1 %"), (0.001, "0.1 %"), (0.0996, "10.0 %"), (0.1, "10 %"),
        (0.555, "56 %"), (1.0, "100 %"),
    ],
)  # fmt: skip
def test_shares_in_words(share, words) -> None:
    assert percent(share) == words


@pytest.mark.parametrize(
    ("p", "words"), [(None, "none"), (0.0, "< 1e-300"), (0.0123, "0.012"), (1.0, "1")]
)
def test_p_values_in_words(p, words) -> None:
    assert p_text(p) == words
