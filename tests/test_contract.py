"""What a call means when it says less: the defaults that the pages state, and what refusals count.

A default is part of an answer as printed, so a change of one is a change of the contract; the
table below is that contract, in one place.
"""

import dataclasses
import importlib
import inspect
import math
import pkgutil

import numpy as np
import pytest
import torch

import genonset
from genonset import (
    adaptive,
    denoisers,
    distances,
    estimates,
    labels,
    neighbors,
    noise,
    one_step,
    onset,
    peers,
    samplers,
    sources,
    theory,
    training,
    verdict,
)
from genonset.errors import ConfigError, DataError

STEPS = {"n_steps": 100, "grid": "quadratic", "stop": 0.0}
SURE = {"confidence": 0.95}
DEFAULTS = [
    (genonset.audit, {"seed": 0, "n_permutations": 10_000, "significance": 0.05, "power": False,
                      "allow_mixed_units": False, "robust": False}),
    (verdict.audit_files, {"seed": 0, "significance": 0.05, "power": False, "robust": False,
                           "allow_mixed_units": False, "drop_overlap": False,
                           "skip_unreadable": False, "features": None}),
    (verdict.memorized_fraction, {"gap": 1 / 3}),
    (verdict.regime, {"significance": 0.05}),
    (verdict.plan, {"power": 0.9, "shares": (0.01, 0.02, 0.05, 0.1)}),
    (labels.label_test, {"n_permutations": 10_000, "seed": 0}),
    (labels.copying_power, {"share": 0.1, "significance": 0.05}),
    (peers.manifold, {"k": 5}),
    (distances.sliced_wasserstein, {"n_projections": 128}),
    (distances.mmd, {"bandwidth": None}),
    (estimates.wilson, SURE),
    (estimates.bootstrap, {**SURE, "n_resamples": 2000, "seed": 0}),
    (estimates.variance_components, {**SURE, "n_resamples": 2000, "seed": 0}),
    (onset.estimate_onset, {**SURE, "floor": 0.0, "ceiling": 1.0, "seed": 0}),
    (onset.fit_logistic, {**SURE, "floor": 0.0, "ceiling": 1.0, "width_prior": True}),
    (onset.curve_onset, {**SURE, "law": "logistic"}),
    (onset.fit_scaling, {**SURE, "ceiling": 1.0}),
    (onset.fit_onset_scaling, SURE),
    (adaptive.cells_onset, {**SURE, "seed": 0}),
    (training.growth_exponent, SURE),
    (noise.OrnsteinUhlenbeck, {"horizon": 2.0, "noise_scale": 1.0}),
    (noise.VariancePreserving, {"horizon": 1.0, "beta_min": 0.1, "beta_max": 20.0}),
    (noise.DiscreteVariancePreserving, {"n_steps": 200, "beta_min": 1e-4, "beta_max": 0.02}),
    (noise.Cosine, {"horizon": 0.99, "offset": 0.008}),
    (noise.VarianceExploding, {"horizon": 1.0, "sigma_min": 0.01, "sigma_max": 50.0}),
    (noise.Rectified, {"horizon": 0.99}),
    *((kind, STEPS) for kind in (samplers.DDPM, samplers.Euler, samplers.Heun,
                                 samplers.EulerMaruyama)),
    (samplers.DDIM, {**STEPS, "eta": 0.0}),
    (sources.TwoMoons, {"dim": 2, "noise": 0.05}),
    (sources.Circle, {"dim": 2, "noise": 0.05}),
    (denoisers.NeuralDenoiser, {"target": "noise", "clock": 100.0}),
    (denoisers.KernelDenoiser, {"bandwidth": 1.0, "ridge": 1e-3, "n_noise_draws": 1}),
    (denoisers.fit_linear, {"ridge": 0.0, "n_noise_draws": 1}),
    (denoisers.measure_collapse_time, {"n_draws": 400}),
    (denoisers.linear_share, {"n_draws": 400}),
    (theory.delta_given_model, {"std": 1.0}),
    (theory.collapse_time, {"noise_scale": 1.0, "std": 1.0}),
    (theory.speciation_time, {"noise_scale": 1.0, "variance": 1.0}),
    (theory.own_weight_probability, {"noise_scale": 1.0, "std": 1.0}),
    (theory.one_step_criteria, {"ridge": 0.0, "start": "scalar"}),
    (one_step.Moments, {"variance": 0.0}),
    (theory.memorized_fraction_null, {"gap": 1 / 3}),
    (training.Monitor, {"n_generated": 256, "n_points": 256, "factor": 1.4, "seed": 0,
                        "times": (0.01, 0.03, 0.1, 0.3, 1.0)}),
    (training.Recipe, {"optimizer": "adam", "learning_rate": 1e-3, "momentum": 0.9, "ema": 0.0,
                       "precision": "float32"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "stated"), DEFAULTS, ids=lambda x: getattr(x, "__name__", "") or None
)
def test_defaults_are_those_stated(call, stated):
    found = inspect.signature(call).parameters
    assert {name: found[name].default for name in stated} == stated


def test_constants_are_those_stated():
    """5 % memorized samples and twice the distance of fresh points, as the pages on training say;
    a tenth of the accused at most is innocent, as that on the audit says."""
    assert (training.MEMORIZED, training.POOR) == (0.05, 2.0)
    assert labels.FALSE_DISCOVERIES == 0.1


def dataclasses_of_the_package():
    for module in pkgutil.iter_modules(genonset.__path__):
        for kind in vars(importlib.import_module(f"genonset.{module.name}")).values():
            own = getattr(kind, "__module__", "") == f"genonset.{module.name}"
            if own and isinstance(kind, type) and dataclasses.is_dataclass(kind):
                yield kind


def test_what_holds_numbers_is_frozen_and_named():
    """Frozen, and every field by keyword; but a sampler's noise comes first."""
    kinds = set(dataclasses_of_the_package())
    assert len(kinds) > 50
    for kind in kinds:
        assert kind.__dataclass_params__.frozen, kind
        by_place = {field.name for field in dataclasses.fields(kind) if not field.kw_only}
        assert by_place == ({"noise"} if issubclass(kind, samplers.Sampler) else set()), kind


def rows(n, dim):
    return torch.arange(n * dim, dtype=torch.float64).reshape(n, dim)


def with_bad(n, dim, *bad):
    points = rows(n, dim)
    points[list(bad), 1] = math.nan
    return points


REFUSALS = {
    "share": (lambda: estimates.wilson(7, 5), "got 7 of 5"),
    "no trials": (lambda: estimates.wilson(0, 0.5), "got 0 of 0.5"),
    "confidence": (lambda: estimates.wilson(1, 5, confidence=1.0), "got 1.0"),
    "two rows": (lambda: estimates.bootstrap([1.0, 2.0]), "at least 3 rows, got shape (2,)"),
    "bootstrap": (lambda: estimates.bootstrap([1, math.nan, math.inf, 3]), "got 2 that are NaN"),
    "rank test": (lambda: peers.rank_test(torch.ones(3), torch.ones(0)), "got 3 and 0"),
    "manifold": (lambda: peers.manifold(rows(1, 2), rows(7, 2)), "got 1 and 7"),
    "queries": (lambda: neighbors.nearest(with_bad(9, 3, 4, 6), rows(5, 3), 1),
                "queries: 2 of 27 values are NaN or infinite, the first in row 4"),
    "neighbours": (lambda: neighbors.nearest(rows(9, 3), rows(5, 3), 6),
                   "6 neighbours of 5 points do not exist; ask for 1 to 5"),
    "memory": (lambda: neighbors.nearest(rows(9, 3), rows(5, 3), 1, memory=0), "got 0"),
    "Gaussian fit": (lambda: sources.Gaussian.fit(rows(1, 3)), "1 points have no covariance"),
    "one size": (lambda: genonset.estimate_onset([5], [1], 2), "at least two sizes n, got 1"),
    "counts": (lambda: genonset.estimate_onset([5, 10], [1, 8], [3, 7]), "got 8 of 7"),
    "replicates": (lambda: genonset.estimate_onset(
        [5, 10], values=np.zeros((2, 2)), quantile=0.5, level=0.0),
                   "at least 3 replicates, got 2"),
    "kernel widths": (lambda: distances.sliced_wasserstein(
        rows(4, 2), rows(4, 2), n_projections=0, generator=torch.Generator()),
        "n_projections is 0"),
    "growth": (lambda: training.growth_exponent([1, 2, 4, 8], [0, 1, math.inf, 3]),
               "2 of 4 runs did not reach their time (largest n: 4)"),
    "audit": (lambda: genonset.audit(rows(6, 4), with_bad(8, 4, 1, 2, 5), rows(9, 4)),
              "training: 3 of 32 values are NaN"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_count_what_they_refuse(case):
    call, said = REFUSALS[case]
    with pytest.raises((DataError, ConfigError)) as refused:
        call()
    assert said in str(refused.value)
