"""The public values of the theory note, section 8, to the digits given there."""

import math

import numpy as np
import pytest
import torch

from genonset import distances, theory
from genonset.distances import Smoothed
from genonset.errors import RegimeWarning
from genonset.sources import Gaussian

HORIZON, NOISE = 2.0, math.exp(-4)
U = theory.noise_to_signal(HORIZON, NOISE)
R = theory.signal_fraction(HORIZON, NOISE)
POWER_LAW = 32 / np.arange(1, 33) / (1 / np.arange(1, 33)).sum()
STEEP = 150 / np.arange(1, 151) / (1 / np.arange(1, 151)).sum()
MEAN, SIGMA, C = [0.3, -0.2], [[0.6, 0.2], [0.2, 0.4]], [[1.0, 0.3], [0.3, 0.8]]
FIVE = [4.0, 2.0, 1.0, 0.5, 0.25]
SAMPLER = {"c": 2.5, "horizon": 3.0, "noise_scale": 1.0, "mean": 0.7}


def moments(method, grid="uniform"):
    return theory.sampler_moments(method, n_steps=5, grid=grid, **SAMPLER)


MODEL = {"source_covariance": C, "n_original": 50, "bandwidth": 50**-0.5}
COLLAPSE = theory.collapse_time(50, spectrum=FIVE)

VALUES = {
    "A1": ([theory.kernel_log_self_overlap(d) for d in (2, 16, 100)],
           [-2.53102, -20.2482, -126.551]),
    "A2": (theory.kernel_pair_ratio(10000, 16), 0.110996),
    "A4": (theory.original_overlap_moments(MEAN, SIGMA, **MODEL),
           [0.0921095, 0.113173, 0.000338091, 0.000204637, 0.000167781]),
    "A5": (theory.original_overlap_moments(MEAN, SIGMA, source_covariance=C).cross_mean, 0.114893),
    "B1 u": (U, 0.981684),
    "B1 r": (R, 0.504621),
    "B2": (theory.one_step_second_moment(8, 16, HORIZON, NOISE), 32.1008),
    "B2 times sT2": (0.0362958 * theory.one_step_second_moment(8, 16, HORIZON, NOISE), 1.16513),
    "B3": (theory.one_step_log_mean_determinant(8, 16, HORIZON, NOISE), 22.7287),
    "B4": (0.0362958 * theory.one_step_second_moment(12, 6, HORIZON, NOISE), 0.623074),
    "B5 l(0)": (theory.one_step_log_determinant_excess([1.3, 3.0], U), [0.192412, 0.0]),
    "B5 l": (theory.one_step_log_potential([1.3, 3.0], U, R**-0.5), [1.48766, 1.19373]),
    "B5 rate": (theory.one_step_affinity_rate([1.3, 3.0, math.inf], U),
                [0.836802, 0.92376, 0.971724]),
    "B6 to": (theory.one_step_kl_to_source(3.0, U), 0.218129),
    "B6 from": (theory.one_step_kl_from_source(3.0, U), 1.10407),
    "B7": (theory.one_step_quadratic_forms(2.0, U, 1.0), [0.499714, 0.602646]),
    "B8": (theory.ridge_moments(1.2, 0.8, U), [0.441404, 0.224863]),
    "B9": (theory.many_draws_kl(2.0, U), [0.315396, 2.10022]),
    "C1": (theory.one_step_critical_size(HORIZON, NOISE, spectrum=POWER_LAW), 97.7387),
    "C2": ([theory.wasserstein_dimension(POWER_LAW), theory.effective_rank(POWER_LAW),
            theory.participation_ratio(POWER_LAW)], [6.23858, 4.0585, 10.2043]),
    "C3": (theory.one_step_typical_kl(200, HORIZON, NOISE, spectrum=POWER_LAW), 47.7367),
    "C4 d_eff": (theory.effective_dimension(POWER_LAW, 0.2**0.5), 23.2055),
    "C5": (theory.sample_covariance_kl(10, 20), [2.07151, 5.64724]),
    "C6": (theory.sample_covariance_kl_rate(2.0), [0.153426, 0.346574]),
    "D1": (theory.collapse_time([1000, 100000], [16, 100]), [0.273828, 0.790737]),
    "D2": (COLLAPSE, 0.12895),
    "D3": (theory.own_weight_probability(COLLAPSE * np.array([0.9, 1.2]), 50, spectrum=FIVE),
           [0.549395, 0.424787]),
    "D4": (theory.clone_agreement([0.5, 1.0]), [0.602027, 0.7752]),
    "D5": (theory.speciation_time(64.0), 2.07944),
    "E1 ode": (moments("ode"), [0.644998, 2.49074]),
    "E1 sde": (moments("sde"), [0.695678, 2.49994]),
    "E2 ddpm": (moments("ddpm"), [0.695678, 0.924887]),
    "E2 ddim": (moments("ddim"), [0.663764, 1.08107]),
    "E2 euler": (moments("euler"), [0.452072, 1.72789]),
    "E2 heun": (moments("heun"), [0.646046, 2.52377]),
    "E4": ([moments(m, "quadratic").variance for m in ("ddpm", "ddim")], [1.16438, 1.53168]),
    "F1 p_d": (1 - theory.authenticity_null([1, 2, 8]), [0.666667, 0.621505, 0.531154]),
    "F1": (theory.authenticity_null([1, 2, 8]), [0.333333, 0.378495, 0.468846]),
    "F3": (theory.label_test([3, 0, 1, 2], [1, 0, 2, 1])[:2], [6, 0.68313]),
}  # fmt: skip


@pytest.mark.parametrize("row", VALUES)
def test_public_value(row):
    value, expected = VALUES[row]
    np.testing.assert_allclose(np.asarray(value), expected, rtol=1e-5, atol=1e-12)


def test_f2_to_its_five_tenths_of_a_percent():
    value = theory.memorized_fraction_null([2, 4], [100, 1000])
    np.testing.assert_allclose(value, [0.108201, 0.0119469], rtol=5e-3)


def test_a7_takes_the_kernel_width_in_its_eigenvalues():
    # The row says w = 0.5; its value belongs to Sigma_G = 0.5 I and w = 0.5 + eps².
    w = np.full(100, 0.5 + 50 ** (-2 / 100))
    value = theory.original_overlap_typical(w, 50)
    np.testing.assert_allclose(value, [-136.484, 0.751196], rtol=5e-6)


def test_a4_conditional_moments_of_delta():
    # N_eff is 27.8 here, below what delta_given_model accepts, so its parts are put together.
    training = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 1.5]], dtype=torch.float64)
    smoothed = Smoothed(points=training, bandwidth=3**-0.5)
    law = Gaussian(torch.tensor(MEAN, dtype=torch.float64), torch.tensor(SIGMA).double())
    own = math.exp(distances.log_off_diagonal(smoothed))
    cross = math.exp(distances.log_overlap(smoothed, law))
    h, phi, pairs, single, joint = theory.original_overlap_moments(MEAN, SIGMA, **MODEL)
    mean = own - 0.98 * h - 2 * (cross - phi)
    sd = math.sqrt(pairs + 4 * single - 4 * joint)
    np.testing.assert_allclose([mean, sd], [-0.0615102, 0.0220345], rtol=5e-6)


def test_b5_slope_of_the_potential():
    y, step = R**-0.5, 1e-4
    up, down = (theory.one_step_log_potential([1.3, 3.0], U, y + h) for h in (step, -step))
    np.testing.assert_allclose((up - down) / (4 * step), [0.389825, 0.447288], rtol=2e-6)


def test_c4_likelihood_gap_below_ten_effective_dimensions_is_said_to_be_rough():
    with pytest.warns(RegimeWarning, match=r"n = 200 is below 10 times .* 23.2"):
        gap = theory.likelihood_gap(POWER_LAW, 200, 0.2**0.5)
    assert gap == pytest.approx(1.50556, rel=1e-5)


NUMBERS = {
    "(A3)": (theory.kernel_pair_ratio([16, 1e4, 1e6], 16), [0.0130, 0.111, 0.270], 6e-3),
    "(A3) d = 36": (theory.kernel_pair_ratio([16, 1e4, 1e6], 36), [1.36e-5, 2.1e-4, 1e-3], 5e-2),
    "(A3) d = 64, 100": (theory.kernel_pair_ratio(1e4, [64, 100]), [1.7e-8, 7.2e-14], 3e-2),
    "(A8)": (
        [
            theory.original_overlap_typical(np.full(100, R + n**-0.02), n).log_overlap
            for n in (1e2, 1e3, 1e4, 1e5)
        ],
        [-136.15, -135.16, -134.32, -133.52],
        5e-5,
    ),
    "(B2)": (
        theory.one_step_second_moment([5, 8, 8, 12, 6], [12, 40, 5, 6, 3], HORIZON, NOISE),
        [27.55, 17.543, 25.15, 17.17, 13.73],
        3e-4,
    ),
    "(B3)": (theory.one_step_log_mean_determinant(8, 40, HORIZON, NOISE), 21.3437, 3e-6),
    "(B4)": (theory.one_step_log_determinant_excess(1.1, U), 0.4191, 2e-4),
    "(B5)": (
        theory.one_step_log_potential([1.1, 1.6, 3], U, R**-0.5),
        [1.6753, 1.3582, 1.1937],
        3e-5,
    ),
    "(B6)": (
        theory.one_step_affinity_rate([1.2, 2, 5, 10], U),
        [0.8246, 0.8868, 0.9464, 0.9601],
        1e-4,
    ),
    "(B7)": (theory.one_step_kl_to_source([1.5, 3, 10], U), [0.5495, 0.2181, 0.1218], 3e-4),
    "(B8)": (theory.one_step_kl_from_source([3, 5, 10], U), [1.104, 0.471, 0.270], 2e-3),
    "(B8) T = 2, d = 12": (
        theory.one_step_kl_from_source([80, 220, 500], theory.noise_to_signal(2, 1)),
        [82.4, 33.6, 28.1],
        2e-3,
    ),
    "(B8) power law": (
        theory.one_step_typical_kl([383, 590, 1180], 0.5, 0.2, spectrum=STEEP),
        [268, 97.6, 49.2],
        1e-2,
    ),
    "(B11)": (
        np.transpose(theory.many_draws_kl([2, 5], U)),
        [[0.3154, 2.100], [0.1651, 0.422]],
        2e-3,
    ),
    "(B12)": (
        np.transpose(theory.one_step_quadratic_forms([1.2, 3], U, 1)),
        [[0.3799, 0.5351], [0.5586, 0.6297]],
        2e-4,
    ),
    "(B14)": (
        theory.ridge_moments([0.9, 1, 3], [0.05, U, U / 3], U).spread,
        [1.2209, 0.1943, 0.3536],
        1e-3,
    ),
    "(C1)": (
        [
            theory.wasserstein_dimension(1.0 / np.arange(1, d + 1) ** p)
            for p, d in ((0, 16), (0, 256), (1, 64), (1.5, 1024), (2, 16), (3, 64))
        ],
        [5.3, 65, 10, 19, 2.4, 1.8],
        3e-2,
    ),
    "(D3)": (
        theory.own_weight_probability(
            theory.collapse_time(1e5, 100) * np.array([0.6, 0.8, 1, 1.1, 1.25, 1.5]), 1e5, 100
        ),
        [0.981, 0.830, 0.500, 0.329, 0.138, 0.015],
        3e-2,
    ),
    "(D2) rank 8": (
        theory.collapse_time(3e3, spectrum=[1.0] * 8 + [0.0] * 56),
        theory.collapse_time(3e3, 8),
        1e-12,
    ),
    "(E9)": (
        np.transpose(theory.sample_covariance_kl([5, 50], [12, 400])),
        [[1.0375, 2.629], [1.7322, 2.0657]],
        2e-4,
    ),
    "(F1)": (
        theory.memorized_fraction_null([2, 3, 8, 16, 64], [100, 1e3, 1e3, 1e5, 1e5]),
        [0.1082, 0.0363, 1.6e-4, 3.0e-8, 5.5e-28],
        4e-2,
    ),
    "(F2)": (theory.authenticity_null([1, 2, 4, 8]), [0.3333, 0.3785, 0.4275, 0.4688], 2e-4),
    "section 5": (theory.sample_overlap(1), (8 / (3 * math.pi)) ** 2, 1e-14),
}


@pytest.mark.parametrize("row", NUMBERS)
def test_number_in_the_text(row):
    value, expected, rounding = NUMBERS[row]
    np.testing.assert_allclose(value, expected, rtol=rounding)
