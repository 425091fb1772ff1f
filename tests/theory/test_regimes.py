"""Every prediction: arrays equal a loop, limits are reached, and outside its regime it says so."""

import inspect
import math

import numpy as np
import pytest

from genonset import theory
from genonset.errors import ConfigError

SPECTRUM = [3.0, 1.0, 0.2]

# of every function arguments that run, in rows: two calls each
CALLS = {
    "noise_to_signal": {"horizon": [0.5, 2], "noise_scale": [1, 0.1], "variance": [1, 3]},
    "signal_fraction": {"horizon": [0.5, 2], "noise_scale": [1, 0.1], "variance": [1, 3]},
    "kernel_log_self_overlap": {"dim": [2, 7], "std": [1, 0.3]},
    "kernel_pair_ratio": {"n_points": [10, 1e5], "dim": [2, 7]},
    "original_overlap_typical": {"eigenvalues": [[0.5] * 9, [0.7] * 9], "n_original": [9, 1e9]},
    "one_step_second_moment": {"dim": [3, 9], "n": [8, 4], "horizon": [1, 2],
                               "noise_scale": [1, 0.1], "variance": [1, 2]},
    "one_step_log_mean_determinant": {"dim": [3, 9], "n": [8, 40], "horizon": [1, 2],
                                      "noise_scale": [1, 0.1]},
    "one_step_critical_size": {"horizon": [1, 2], "noise_scale": [1, 0.1], "dim": [3, 9],
                               "n_noise_draws": [1, 4]},
    "one_step_log_determinant_excess": {"gamma": [1.2, 4], "u": [0.5, 2]},
    "one_step_log_potential": {"gamma": [1.2, 4], "u": [0.5, 2], "y": [0, 1.5]},
    "one_step_affinity_rate": {"gamma": [0.8, 4], "u": [0.5, 2]},
    "one_step_kl_to_source": {"gamma": [0.8, 4], "u": [0.5, 2]},
    "one_step_kl_from_source": {"gamma": [2.8, 4], "u": [0.5, 2]},
    "one_step_typical_kl": {"n": [5, 50], "horizon": [1, 2], "noise_scale": [1, 0.1],
                            "dim": [2, 3]},
    "one_step_quadratic_forms": {"gamma": [1.2, 4], "u": [0.5, 2], "bandwidth": [0.5, 1]},
    "ridge_moments": {"gamma": [0.2, 4], "x": [0.1, 3], "u": [0.5, 2]},
    "many_draws_kl": {"gamma": [0.9, 4], "u": [0.5, 2]},
    "effective_dimension": {"spectrum": [SPECTRUM, [1, 1, 0]], "bandwidth": [0.1, 2]},
    "likelihood_gap": {"spectrum": [SPECTRUM, [1, 1, 0]], "n": [100, 500], "bandwidth": [0.1, 2]},
    "wasserstein_dimension": {"spectrum": [SPECTRUM, [1, 1, 0]]},
    "effective_rank": {"spectrum": [SPECTRUM, [1, 1, 0]]},
    "participation_ratio": {"spectrum": [SPECTRUM, [1, 1, 0]]},
    "collapse_time": {"n": [10, 1e6], "dim": [3, 40], "noise_scale": [1, 2], "std": [1, 0.5]},
    "own_weight_probability": {"t": [0.1, 1], "n": [10, 1e6], "dim": [3, 40],
                               "noise_scale": [1, 2], "std": [1, 0.5]},
    "own_log_odds": {"t": [0.1, 1], "n": [10, 1e6], "dim": [3, 40],
                     "noise_scale": [1, 2], "std": [1, 0.5]},
    "speciation_time": {"mean_squared": [3, 9], "variance": [1, 2], "noise_scale": [1, 4]},
    "clone_agreement": {"kappa": [0.3, 5]},
    "relaxation_time": {"largest_eigenvalue": [0.3, 5], "noise_scale": [1, 4]},
    "sample_covariance_kl": {"dim": [3, 9], "n": [8, 40]},
    "sample_covariance_kl_rate": {"gamma": [0.8, 4]},
    "sample_overlap": {"gamma": [0.8, 4]},
    "memorized_fraction_null": {"dim": [1, 5], "n": [20, 300], "gap": [0.3, 0.5]},
    "authenticity_null": {"dim": [1, 5]},
    "label_test": {"counts_training": [[1, 0, 4], [0, 2, 0]], "counts_fresh": [[1, 1], [5, 0]]},
}  # fmt: skip
MODEL = {"mean": [0.1, 0.2], "covariance": [[1, 0.2], [0.2, 1]]}


def test_every_function_is_called_here_or_in_the_kernel_tests():
    elsewhere = {"original_overlap_moments", "delta_given_model", "sampler_moments",
                 "one_step_criteria"}  # fmt: skip
    assert set(CALLS) | elsewhere == set(theory.FORMULAS)


@pytest.mark.parametrize("name", CALLS)
def test_arrays_equal_a_loop(name):
    function, rows = theory.FORMULAS[name], CALLS[name]
    whole = np.asarray(function(**{k: np.array(v) for k, v in rows.items()}))
    assert whole.dtype == np.float64
    for i in range(2):
        alone = np.asarray(function(**{k: v[i] for k, v in rows.items()}))
        np.testing.assert_allclose(whole[..., i], alone, rtol=1e-7, atol=1e-300)


@pytest.mark.parametrize("name", [n for n in CALLS if len(CALLS[n]) > 1 and n != "label_test"])
def test_a_column_and_a_row_broadcast(name):
    # ratio tables: the first argument down, all others across
    function, rows = theory.FORMULAS[name], CALLS[name]
    first, *others = rows
    column = np.array(rows[first])[:, None]
    row = {k: np.array(rows[k]) for k in others}
    table = np.asarray(function(**{first: column}, **row))
    assert table.shape[-2:] == (2, 2)
    i, j = 1, 0
    alone = function(**{first: rows[first][i]}, **{k: rows[k][j] for k in others})
    np.testing.assert_allclose(table[..., i, j], np.asarray(alone), rtol=1e-7, atol=1e-300)


def test_samplers_and_overlaps_broadcast():
    c, horizon = np.array([0.5, 2.0]), np.array([[1.0], [3.0]])
    for method in theory.METHODS:
        table = theory.sampler_moments(method, c, horizon, 0.7, n_steps=4, mean=0.3)
        alone = theory.sampler_moments(method, 2.0, 3.0, 0.7, n_steps=4, mean=0.3)
        assert table.variance.shape == (2, 2)
        np.testing.assert_allclose([t[1, 1] for t in table], alone, rtol=1e-13)
    many = theory.original_overlap_moments(
        **MODEL, spectrum=[1, 0.5], n_original=np.array([10, 100]), bandwidth=np.array([0.3, 0.1])
    )
    alone = theory.original_overlap_moments(**MODEL, spectrum=[1, 0.5], n_original=100,
                                            bandwidth=0.1)  # fmt: skip
    np.testing.assert_allclose([m[1] for m in many], alone, rtol=1e-12)


@pytest.mark.parametrize("name", theory.FORMULAS)
def test_docstrings_say_what_is_assumed(name):
    function = theory.FORMULAS[name]
    assert theory.section(function, "Regime")
    assert "theory note" in theory.section(function, "Reference")
    text = inspect.getdoc(function) or ""
    for title in ("Args:", "Returns:", "Raises:"):
        assert title in text
    for parameter in inspect.signature(function).parameters:
        assert parameter in text


# refusals


REFUSED = {
    "horizon 0": (theory.noise_to_signal, (0, 1), "horizon is 0; accepted are numbers > 0"),
    "not a number": (theory.noise_to_signal, (math.nan, 1), "horizon is nan"),
    "not numbers": (theory.noise_to_signal, ("long", 1), "horizon: numbers are needed"),
    "half a dimension": (theory.authenticity_null, (1.5,), "dim is 1.5; accepted are whole"),
    "singular slope": (theory.one_step_log_determinant_excess, (1.0, 1.0),
                       "gamma is 1; accepted are numbers > 1, inf included"),
    "potential below": (theory.one_step_log_potential, (0.9, 1, 1), "gamma is 0.9"),
    "forms below": (theory.one_step_quadratic_forms, (1, 1, 1), "gamma is 1"),
    "no width": (theory.one_step_quadratic_forms, (2, 1, 0), "bandwidth is 0"),
    "no signal": (theory.one_step_affinity_rate, (2, 0), "u is 0"),
    "shapes": (theory.one_step_affinity_rate, ([2, 3], [1, 1, 1]), "do not broadcast"),
    "neither": (theory.collapse_time, (10,), "Exactly one of dim .* got neither"),
    "both": (theory.collapse_time, (10, 2, [1, 1]), "Exactly one of dim .* got both"),
    "std of a spectrum": (theory.collapse_time, (10, None, [1, 1], 1, 2), "std belongs to dim"),
    "negative": (theory.effective_rank, ([1, -1],), "spectrum is -1"),
    "zero": (theory.effective_rank, ([0, 0],), "not all zero"),
    "a number": (theory.effective_rank, (3,), "list of eigenvalues"),
    "one class": (theory.speciation_time, (1, 2), "needs mean_squared > variance"),
    "method": (theory.sampler_moments, ("rk4", 1, 1, 1, 5), "methods are ode, sde"),
    "steps": (theory.sampler_moments, ("ddpm", 1, 1, 1), "n_steps is nan; accepted are whole"),
    "model": (theory.likelihood_gap, ([1, 1], 100, 0.1, "unet"), "accepted are"),
    "noise of a model": (theory.likelihood_gap, ([1, 1], 100, 0.1, "one_step"), "with both"),
    "flat": (theory.one_step_typical_kl, (9, 1, 1, None, [1, 0]), "full rank"),
    "overlap of what": (theory.original_overlap_moments, ([0], [[1]]), "Exactly one of spectrum"),
    "shapes of laws": (theory.original_overlap_moments, ([0], [[1]], [1, 1]), "belong together"),
    "no density": (theory.original_overlap_moments, ([1, 1], np.zeros((2, 2)), [1, 0]),
                   "singular"),
    "counts": (theory.label_test, ([0.5], [1]), "counts_training is 0.5"),
    "no counts": (theory.label_test, (1, 1), "lists of counts"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_is_accepted(case):
    function, arguments, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        function(*arguments)


# limits


def test_singular_laws():
    for gamma in (0.5, 1.0):
        assert theory.one_step_affinity_rate(gamma, 1) == 0
        for function in (theory.one_step_kl_to_source, theory.one_step_kl_from_source):
            assert function(gamma, 1) == math.inf
        assert theory.many_draws_kl(gamma, 1) == (math.inf, math.inf)
        assert theory.sample_covariance_kl_rate(gamma) == (math.inf, math.inf)
    assert theory.sample_covariance_kl(5, [5, 6, 7, 8]).to_source.tolist()[0] == math.inf
    finite = np.isfinite(theory.sample_covariance_kl(5, [5, 6, 7, 8])).tolist()
    assert finite == [[False, True, True, True], [False, False, False, True]]
    moments = theory.one_step_second_moment(5, [4, 5, 6, 7, 8], 1, 1)
    assert np.isfinite(moments).tolist() == [True, False, False, False, True]
    logs = theory.one_step_log_mean_determinant(5, [4, 5, 6, 7, 8], 1, 1)
    assert logs[:4].tolist() == [-math.inf, -math.inf, math.inf, math.inf]
    assert math.isfinite(logs[4])
    assert theory.one_step_kl_from_source(1.9, 1) == math.inf
    assert theory.one_step_typical_kl(19, 1, 1, 5) == math.inf


def test_infinite_gamma_is_the_end_of_large_gamma():
    u = 0.7
    for function in (theory.one_step_affinity_rate, theory.one_step_kl_to_source,
                     theory.one_step_kl_from_source, theory.many_draws_kl):  # fmt: skip
        near, end = np.asarray(function(1e9, u)), np.asarray(function(math.inf, u))
        np.testing.assert_allclose(near, end, rtol=1e-7)
    r = 1 / (1 + u)
    assert theory.one_step_affinity_rate(math.inf, u) == pytest.approx(
        math.sqrt(2 / (1 + r)) * r**0.25, rel=1e-14
    )
    floors = theory.many_draws_kl(math.inf, u)
    assert floors.from_source == pytest.approx((u - math.log1p(u)) / 2, rel=1e-14)
    assert theory.one_step_kl_from_source(math.inf, u) == pytest.approx(
        floors.from_source, rel=1e-14
    )
    assert theory.one_step_log_potential(math.inf, u, 2.0) == pytest.approx(math.log(5), rel=1e-14)
    assert theory.one_step_quadratic_forms(math.inf, u, 0.5) == pytest.approx(
        [1 / (r + 0.25)] * 2, rel=1e-13
    )
    near = np.asarray(theory.ridge_moments([1e12, math.inf], 0.3, u))
    np.testing.assert_allclose(near[:, 0], near[:, 1], rtol=1e-10)
    assert theory.sample_overlap(math.inf) == 1
    assert theory.sample_covariance_kl(4, math.inf) == (0, 0)
    assert theory.sample_covariance_kl_rate(math.inf) == (0, 0)
    assert theory.kernel_pair_ratio(math.inf, 5) == 1
    assert theory.one_step_second_moment(4, math.inf, 2, 1) == pytest.approx(
        theory.signal_fraction(2, 1) ** 2 * math.exp(4)
    )


def test_digits_next_to_the_critical_gamma_and_for_small_signals():
    u = 0.98
    gap = np.array([1e-3, 1e-5, 1e-7])
    excess = theory.one_step_log_determinant_excess(1 + u - gap, u)
    np.testing.assert_allclose(excess, gap**2 / (2 * u * (1 + u)), rtol=2e-3)
    assert theory.one_step_log_determinant_excess(1 + u + gap, u).tolist() == [0, 0, 0]
    # KL(generated || true) -> u²/4 at gamma = inf, where (B7) as written keeps no digit
    small = np.array([1e-6, 1e-9])
    np.testing.assert_allclose(
        theory.one_step_kl_to_source(math.inf, small), small**2 / 4, rtol=3e-6
    )
    rates = theory.sample_covariance_kl_rate([1e6, 1e12])
    np.testing.assert_allclose(rates, [[2.5e-7, 2.5e-13]] * 2, rtol=2e-6)
    assert theory.one_step_log_potential(1 + u, u, 1e-8) == pytest.approx(0, abs=1e-7)


def test_the_potential_starts_at_the_excess():
    for gamma in (1.01, 1.5, 1.98, 3.0):
        excess = theory.one_step_log_determinant_excess(gamma, 0.98)
        near = theory.one_step_log_potential(gamma, 0.98, [0.0, 1e-9])
        np.testing.assert_allclose(near, excess, atol=1e-7)


def test_huge_dimensions_stay_finite():
    d = 10**5
    assert theory.kernel_log_self_overlap(d) == pytest.approx(-d / 2 * math.log(4 * math.pi))
    assert math.isfinite(theory.one_step_log_mean_determinant(d, 2 * d, 2, 1))
    found = theory.collapse_time(1e300, d)  # n^(2/d) = 1 + alpha² / sigma²
    assert found == pytest.approx(-math.log1p(-(1e300 ** (-2 / d))) / 2, rel=1e-6)
    value = theory.collapse_time(50, spectrum=np.full(d, 0.3))
    assert value == pytest.approx(theory.collapse_time(50, d, std=0.3**0.5), rel=1e-9)
    assert theory.sample_covariance_kl(2000, 10**7).to_source == pytest.approx(
        2000 * 2003 / 4e7, rel=1e-3
    )


def test_scales_enter_as_ratios():
    for scale in (1e-6, 1e6):
        for name in ("wasserstein_dimension", "effective_rank", "participation_ratio"):
            function = theory.FORMULAS[name]
            scaled = function(np.array(SPECTRUM) * scale)
            assert scaled == pytest.approx(function(SPECTRUM), rel=1e-12)
        one = theory.kernel_pair_ratio(50, spectrum=np.array(SPECTRUM) * scale)
        assert one == pytest.approx(theory.kernel_pair_ratio(50, spectrum=SPECTRUM), rel=1e-12)
    assert theory.kernel_pair_ratio(50, spectrum=[2, 2, 2]) == pytest.approx(
        theory.kernel_pair_ratio(50, 3), rel=1e-13
    )
    ratios = theory.kernel_pair_ratio([1e8, 1e10], spectrum=[1, 1, 0, 0])  # ~ N^(1 - k/d)
    assert ratios[1] / ratios[0] == pytest.approx(10, rel=1e-3)


def test_isotropic_is_a_flat_spectrum():
    flat = np.ones(6)
    pairs = [
        (theory.one_step_critical_size(1, 0.5, dim=6),
         theory.one_step_critical_size(1, 0.5, spectrum=flat)),
        (theory.one_step_typical_kl(40, 1, 0.5, dim=6),
         theory.one_step_typical_kl(40, 1, 0.5, spectrum=flat)),
        (6 * theory.one_step_kl_from_source(40 / 6, theory.noise_to_signal(1, 0.5)),
         theory.one_step_typical_kl(40, 1, 0.5, dim=6)),
        (theory.collapse_time(40, 6), theory.collapse_time(40, spectrum=flat)),
        (theory.own_weight_probability(0.3, 40, 6),
         theory.own_weight_probability(0.3, 40, spectrum=flat)),
        (theory.likelihood_gap(flat, 400, 0.0), 6 * 9 / 800),
        (theory.wasserstein_dimension(flat), 11 / 4),
    ]  # fmt: skip
    for one, other in pairs:
        assert one == pytest.approx(other, rel=1e-12)
    # rank k counts as k
    assert theory.one_step_critical_size(1, 0.5, spectrum=[1, 1, 0, 0]) == pytest.approx(
        4 + 2 * theory.noise_to_signal(1, 0.5)
    )


def test_clone_agreement_from_one_half_to_one():
    values = theory.clone_agreement([0.0, 30.0, math.inf])
    np.testing.assert_allclose(values, [0.5, 1, 1], rtol=1e-13)


# by name and text


def test_texts_become_arguments():
    found = theory.evaluate("one-step-affinity-rate", {"gamma": "1.1:10:5", "u": "0.98"})
    np.testing.assert_allclose(found.arguments["gamma"], np.geomspace(1.1, 10, 5))
    assert found.axis == "gamma"
    np.testing.assert_allclose(
        found.value, theory.one_step_affinity_rate(np.geomspace(1.1, 10, 5), 0.98)
    )
    found = theory.evaluate("collapse_time", {"n": "10:100:4", "spectrum": "3,3,1,0.1"})
    assert found.arguments["n"] == [10, 22, 46, 100]
    assert found.arguments["spectrum"] == [3, 3, 1, 0.1]
    found = theory.evaluate(
        "original_overlap_moments",
        {"mean": "0,1", "covariance": "[[1, 0], [0, 1]]", "source-covariance": "[[1, 0], [0, 2]]",
         "n-original": "10", "bandwidth": "0.5"},
    )  # fmt: skip
    assert set(found.to_dict()["value"]) == set(theory.OverlapMoments._fields)
    found = theory.evaluate("sampler_moments", {"method": "ddim", "c": "2", "horizon": "3",
                                                "noise_scale": "1", "n_steps": "5"})  # fmt: skip
    assert found.value == theory.sampler_moments("ddim", 2, 3, 1, 5)


def test_json_has_no_number_that_json_lacks():
    found = theory.evaluate("one_step_kl_to_source", {"gamma": "0.5,inf", "u": "1"}).to_dict()
    assert found["value"][0] == "inf"
    assert found["value"][1] == pytest.approx((0.5 - 1 + math.log(2)) / 2)
    assert set(found) >= {"name", "value", "regime", "reference"}


def test_notes_carry_regime_warnings():
    texts = {"spectrum": "1,1", "n": "5", "bandwidth": "0.1"}
    (note,) = theory.evaluate("likelihood_gap", texts).notes
    assert "effective dimension" in note


@pytest.mark.parametrize(("name", "texts", "message"), [
    ("nothing", {}, "No prediction is called 'nothing'. There are noise_to_signal"),
    ("collapse_time", {"n": "9", "mass": "2"}, "does not take mass; its arguments are n, dim"),
    ("collapse_time", {"dim": "2"}, "lacks n; its arguments are n, dim, spectrum, noise_scale=1"),
    ("collapse_time", {"n": "many", "dim": "2"}, "n=many cannot be read; accepted are"),
    ("collapse_time", {"n": "1:2", "dim": "2"}, "n=1:2 cannot be read"),
    ("collapse_time", {"n": "9", "spectrum": "[1, "}, r"spectrum=\[1,  cannot be read"),
])  # fmt: skip
def test_texts_that_cannot_be_used(name, texts, message):
    with pytest.raises(ConfigError, match=message):
        theory.evaluate(name, texts)


GAMMAS = np.array([1 + 1e-12, 1 + 1e-6, 1.5, 1e3, 1e12, math.inf])[:, None]
NOISES = np.array([1e-12, 1e-6, 0.1, 1, 1e3, 1e9])
EXTREMES = {
    "one_step_log_determinant_excess": [(GAMMAS, NOISES)],
    "one_step_affinity_rate": [(GAMMAS, NOISES)],
    "one_step_kl_to_source": [(GAMMAS, NOISES)],
    "one_step_kl_from_source": [(GAMMAS, NOISES)],
    "many_draws_kl": [(GAMMAS, NOISES)],
    "one_step_log_potential": [(GAMMAS, NOISES, y) for y in (0, 1e-9, 1, 1e6)],
    "one_step_quadratic_forms": [(GAMMAS, NOISES, eps) for eps in (1e-4, 1, 100)],
    "ridge_moments": [(np.append(GAMMAS, 1e-6)[:, None], x, NOISES) for x in (1e-9, 1, 1e6)],
    "sample_covariance_kl_rate": [(GAMMAS,)],
    "sample_overlap": [(np.append(GAMMAS, 1e-9),)],
    "clone_agreement": [([0, 1e-9, 10, 39, 41, 1e6],)],
    "collapse_time": [([1.0001, 2, 1e300], d) for d in (1, 100)],
    "own_weight_probability": [([1e-6, 0.1, 50], 1000, d) for d in (1, 1000)],
    "kernel_pair_ratio": [([1, 2, 1e300, math.inf], d) for d in (1, 1000)],
    "original_overlap_typical": [([0.5] * 99, [1.001, 1e10, 1e300, math.inf])],
    "sample_covariance_kl": [(d, [d + 1, 10 * d, 1e15]) for d in (1, 1000)],
    "memorized_fraction_null": [(d, [2, 1e6]) for d in (1, 512)],
    "sampler_moments": [(m, [1e-6, 1e6], [[0.01], [30]], 1.0, 9) for m in theory.METHODS],
}


@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_are_numbers(name):
    # warnings are errors in tests: nothing overflows or divides by zero either
    lowest = {"one_step_log_potential": -1e-9, "original_overlap_typical": -math.inf}
    for arguments in EXTREMES[name]:
        value = np.asarray(theory.FORMULAS[name](*arguments))
        assert not np.isnan(value).any()
        assert (value >= lowest.get(name, -1e-12)).all()
