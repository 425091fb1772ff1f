"""Seconds that a curve of 1000 points takes, for every prediction of genonset.theory.

    python benchmarks/theory.py

Each prediction runs along its first argument that a curve can have, from Python, once warm;
one_step_criteria along 25 points.
"""

import math
import time

import numpy as np

from genonset import theory

GAMMA, SIZES = np.geomspace(1.01, 100, 1000), np.arange(100, 1100)
TIMES, WIDTHS = np.geomspace(0.01, 3, 1000), np.geomspace(0.1, 3, 1000)
SPECTRUM = 256 / np.arange(1, 257) / (1 / np.arange(1, 257)).sum()
SPECTRA = SPECTRUM[:64] * WIDTHS[:, None]
HALF = np.eye(16) / 2
TRAINING = np.random.default_rng(0).standard_normal((100, 16))
COUNTS = np.random.default_rng(0).poisson(1.0, (1000, 20))
NOISE = {"horizon": 2.0, "noise_scale": math.exp(-4)}
MODEL = {"covariance": HALF, "n_original": SIZES * 1000}

CURVES = {
    "noise_to_signal": (TIMES, 1.0),
    "signal_fraction": (TIMES, 1.0),
    "kernel_log_self_overlap": (16, WIDTHS),
    "kernel_pair_ratio": (SIZES, None, SPECTRUM),
    "original_overlap_moments": {"mean": np.zeros(16), "spectrum": np.ones(16), **MODEL,
                                 "bandwidth": WIDTHS},
    "delta_given_model": {"training": TRAINING, "mean": np.zeros(16), **MODEL,
                          "source_mean": 0.0, "source_covariance": np.eye(16)},
    "original_overlap_typical": (SPECTRUM, SIZES),
    "one_step_second_moment": {"dim": 256, "n": SIZES, **NOISE},
    "one_step_log_mean_determinant": {"dim": 256, "n": SIZES, **NOISE},
    "one_step_critical_size": (TIMES, 1.0, None, SPECTRUM),
    "one_step_log_determinant_excess": (GAMMA, 0.98),
    "one_step_log_potential": (GAMMA, 0.98, 1.4),
    "one_step_affinity_rate": (GAMMA, 0.98),
    "one_step_kl_to_source": (GAMMA, 0.98),
    "one_step_kl_from_source": (GAMMA, 0.98),
    "one_step_typical_kl": {"n": SIZES, **NOISE, "spectrum": SPECTRUM},
    "one_step_criteria": {"n": SIZES[::40], **NOISE, "spectrum": SPECTRUM},
    "one_step_quadratic_forms": (GAMMA, 0.98, 1.0),
    "ridge_moments": (GAMMA, 0.1, 0.98),
    "many_draws_kl": (GAMMA, 0.98),
    "effective_dimension": (SPECTRUM, WIDTHS),
    "likelihood_gap": (SPECTRUM, SIZES * 100, WIDTHS),
    "wasserstein_dimension": (SPECTRA,),
    "effective_rank": (SPECTRA,),
    "participation_ratio": (SPECTRA,),
    "collapse_time": (SIZES, None, SPECTRUM),
    "own_weight_probability": (TIMES, 1000, None, SPECTRUM),
    "speciation_time": (GAMMA,),
    "clone_agreement": (WIDTHS,),
    "relaxation_time": (GAMMA,),
    "sampler_moments": {"method": "heun", "c": WIDTHS, **NOISE, "n_steps": 1000},
    "sample_covariance_kl": (256, SIZES),
    "sample_covariance_kl_rate": (GAMMA,),
    "sample_overlap": (GAMMA,),
    "memorized_fraction_null": (16, SIZES),
    "authenticity_null": (SIZES,),
    "label_test": (COUNTS[:, :10], COUNTS[:, 10:]),
}  # fmt: skip


def seconds(name: str) -> float:
    given = CURVES[name]
    arguments, named = (given, {}) if isinstance(given, tuple) else ((), given)
    started = time.perf_counter()
    theory.FORMULAS[name](*arguments, **named)
    return time.perf_counter() - started


if __name__ == "__main__":
    print(f"{'1000 points of':34} seconds")
    for name in theory.FORMULAS:
        seconds(name)
        print(f"{name:34} {seconds(name):.4f}")
