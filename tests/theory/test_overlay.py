"""A sweep of the linear model agrees with its closed forms, and a wrong closed form is seen.

The sweep runs on fixed seeds. With one true prediction an overlay is called off once in 1000.
"""

import math

import numpy as np
import pytest

from genonset import figures, theory
from genonset.experiment import resolve
from genonset.noise import at_horizon
from genonset.spec import Sweep, VarianceExplodingNoise
from genonset.store import Results, Store
from genonset.sweep import run_sweep

SPEC = """
name = "overlay"
replicates = 60
n = [8, 12, 40, 64, 160]
n_original = 100
criteria = ["affinity_rate", "kl_to_source", "kl_from_source", "spread_ratio",
            "log_likelihood_gap"]
[source]
kind = "gaussian"
dim = 16
std = 2.0
[model]
kind = "linear_one_step"
start = "scalar"
[model.noise]
kind = "ornstein_uhlenbeck"
horizon = 1.0
noise_scale = 0.6
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overlay")
    (folder / "spec.toml").write_text(SPEC)
    sweep = resolve(Sweep.from_toml(folder / "spec.toml"))
    with Store(folder / "run", sweep) as store:
        run_sweep(sweep, store)
    return Results(folder / "run")


def test_theory_lies_over_the_points(results):
    drawn = figures.predicted(results, {})
    assert drawn is not None
    assert "None is off." in drawn.how_to_read
    compared = {(row["criterion"], row["n"]) for row in drawn.rows if row["z"] is not None}
    assert {("spread_ratio", n) for n in (8, 12, 40, 64, 160)} <= compared
    assert {("kl_to_source", 40), ("kl_from_source", 64), ("affinity_rate", 160)} <= compared
    assert ("log_likelihood_gap", 160) in compared
    assert ("kl_to_source", 12) not in compared  # infinite there
    exact = [row["z"] for row in drawn.rows if row["exact"]]
    assert np.abs(exact).max() < 4
    for row in drawn.rows:
        if row["z"] is not None:
            measured, predicted = row["value"], row["predicted"]
            assert row["relative"] == pytest.approx(measured / predicted - 1)


def test_it_is_one_of_the_figures(results):
    assert "theory" in [drawn.name for drawn in figures.all_figures(results)]


def test_a_wrong_prediction_is_off(results, monkeypatch):
    form = figures.CLOSED["spread_ratio"]
    wrong = form._replace(of=lambda at, n: 1.3 * form.of(at, n))
    monkeypatch.setitem(figures.CLOSED, "spread_ratio", wrong)
    drawn = figures.predicted(results, {})
    assert drawn is not None
    assert "Off: spread ratio." in drawn.how_to_read
    titles = [axes.get_title(loc="left") for axes in drawn.figure.axes]
    assert "spread ratio: off" in titles


@pytest.mark.parametrize("change", [
    {"model.start": "estimated"}, {"model.ridge": 0.1}, {"model.n_noise_draws": 2},
    {"source.std": None, "source.spectrum": (1.0,) * 16},
])  # fmt: skip
def test_nothing_is_predicted_of_another_model(results, change):
    at = results.sweep.measurement({})
    for path, value in change.items():
        table, _, key = path.partition(".")
        inner = getattr(at, table).model_copy(update={key: value})
        at = at.model_copy(update={table: inner})
    assert figures.closed_forms(at) is None


def test_the_chance_level_is_that_of_the_largest_of_many():
    share = (1 - 2 * 0.5 * math.erfc(figures._chance_level(25) / math.sqrt(2))) ** 25
    assert 1 - share == pytest.approx(1e-3, rel=0.01)


def test_any_noise_enters_by_its_noise_to_signal_ratio(results):
    at = results.sweep.measurement({})
    found = figures.closed_forms(at)
    assert found is not None
    assert found[0].u == pytest.approx(0.6 * math.expm1(2.0) / 4)
    noise = VarianceExplodingNoise(kind="variance_exploding")
    sigma = at_horizon(noise.build())[1]
    other = figures.closed_forms(
        at.model_copy(update={"model": at.model.model_copy(update={"noise": noise})})
    )
    assert other is not None
    assert other[0].u == pytest.approx(sigma**2 / 4)
    values = figures.CLOSED["spread_ratio"].of(found[0], np.array([40.0]))
    direct = theory.one_step_second_moment(16, 40, 1.0, 0.6, variance=4.0)
    start = 4 * math.exp(-2) - 0.6 * math.expm1(-2)
    assert values[0] == pytest.approx(direct * start / 4)
