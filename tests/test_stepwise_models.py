"""Exact and kernel models in cells and sweeps: noises, samplers, the poles, collapse criteria."""

import math
import tomllib

import pytest
import torch

import genonset
from genonset import figures, report, seeds, verdict
from genonset.denoisers import ExactDenoiser
from genonset.errors import ConfigError
from genonset.experiment import draw_points, resolve, run_cell
from genonset.noise import OrnsteinUhlenbeck
from genonset.samplers import DDIM, DDPM, Euler, EulerMaruyama, Heun
from genonset.sources import Empirical, Gaussian
from genonset.spec import Sweep, catalogue, reproduction
from genonset.store import Results, Store
from genonset.sweep import run_sweep

SPEC = """
name = "steps"
replicates = 2
n = [12, 24]
n_original = 200
n_generated = 100
criteria = ["memorized_fraction", "label_test", "bures_wasserstein", "collapse"]
axes = { "model.sampler.n_steps" = [2, 8] }
[source]
kind = "gaussian"
dim = 6
[model]
kind = "exact"
[model.noise]
kind = "variance_preserving"
[model.sampler]
kind = "ddim"
eta = 0.5
"""
NOISES = (
    "ornstein_uhlenbeck",
    "variance_preserving",
    "discrete_variance_preserving",
    "cosine",
    "variance_exploding",
    "rectified",
)
SAMPLERS = ("one_step", "ddpm", "ddim", "euler", "heun", "euler_maruyama")


def options(**changes):
    found = tomllib.loads(SPEC)
    for path, value in changes.items():
        table = found
        *tables, last = path.split("__")
        for name in tables:
            table = table[name]
        table[last] = value
    return found


def first_cell(**changes):
    return next(Sweep.from_options(options(**changes)).cells())[1]


def test_a_sweep_over_steps_runs_and_resumes(tmp_path):
    sweep = Sweep.from_options(options())
    with Store(tmp_path, sweep) as store:
        assert run_sweep(sweep, store).done == 8
    with Store(tmp_path, sweep) as store:
        again = run_sweep(sweep, store)
    assert (again.done, again.failed) == (8, 0)
    results = Results(tmp_path)
    assert [s["model.sampler.n_steps"] for s in results.settings] == [2, 8]
    values = [r.row.values["model"] for r in results.records]
    assert all(0 < v["collapse_time"] <= 1 for v in values)
    assert all(1 <= v["participation_ratio"] <= 24 for v in values)
    assert all(0 <= v["posterior_entropy"] <= math.log(24) for v in values)
    assert all(v["own_weight"] < 0.5 for v in values)  # pure noise at this horizon
    many = [r.row.values["model"] for r in results.records
            if r.setting["model.sampler.n_steps"] == 8]  # fmt: skip
    assert all(v["memorized_fraction"] > 0.5 for v in many)


@pytest.mark.parametrize("noise", NOISES)
def test_every_noise_runs(noise):
    cell = first_cell(model__noise={"kind": noise}, criteria=["memorized_fraction", "collapse"])
    values = run_cell(cell).values["model"]
    assert all(math.isfinite(value) for value in values.values())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_exact_law_of_the_source_is_propagated(sampler):
    """Closed-form criteria, and samples that agree with them: 4,000 of them, within 0.12."""
    cell = first_cell(
        criteria=["bures_wasserstein", "sample_bures_wasserstein", "kl_to_source"],
        n_generated=4000, model__law="source", model__sampler={"kind": sampler, "n_steps": 20},
    )  # fmt: skip
    values = run_cell(cell).values["model"]
    assert math.isfinite(values["kl_to_source"])
    assert abs(values["bures_wasserstein"] - values["sample_bures_wasserstein"]) < 0.12


def test_linear_kernel_has_the_law_of_the_one_step_model_in_one_step():
    """On average: both regress on fresh noise of the same points; means of 40 runs, 4 s.e."""
    ratios = []
    for replicate in range(40):
        pair = []
        for model in (
            {"kind": "linear_one_step", "noise": {"horizon": 0.5}},
            {"kind": "kernel", "kernel": "linear", "ridge": 0.0, "noise": {"horizon": 0.5},
             "sampler": {"kind": "one_step"}},
        ):  # fmt: skip
            chosen = options(model=model, criteria=["spread_ratio"])
            del chosen["axes"]
            cell = next(Sweep.from_options(chosen).cells())[1]
            cell = cell.model_copy(update={"replicate": replicate, "n": 24})
            pair.append(run_cell(cell).values["model"]["spread_ratio"])
        ratios.append(pair[0] - pair[1])
    found = torch.tensor(ratios)
    assert abs(float(found.mean())) < 4 * float(found.std()) / math.sqrt(40)
    assert float(found.std()) < 0.3


def test_kernel_model_lies_between_the_poles():
    copies = []
    for bandwidth, ridge, draws in ((0.3, 1e-4, 30), (10.0, 0.1, 1)):
        model = {"kind": "kernel", "bandwidth": bandwidth, "ridge": ridge, "n_noise_draws": draws,
                 "sampler": {"kind": "ddim", "n_steps": 20}}  # fmt: skip
        chosen = options(model=model, criteria=["memorized_fraction"])
        del chosen["axes"]
        cell = next(Sweep.from_options(chosen).cells())[1]
        copies.append(run_cell(cell).values["model"]["memorized_fraction"])
    assert copies[0] > 0.3
    assert copies[1] < 0.05


@pytest.mark.parametrize("kind", [DDPM, DDIM, Euler, Heun, EulerMaruyama])
def test_poles_audit_as_they_must_in_the_recommended_setting(kind):
    """Default steps and grid: the exact empirical denoiser copies in at least 99 % of samples and
    the label test sees it; the exact true one is at its control: p > 1e-4 and, of 300 samples,
    as many memorized as of 300 fresh ones up to 5 standard errors (none at d = 16).

    False alarms below 1e-3 over the five samplers.
    """
    noise, source = OrnsteinUhlenbeck(horizon=3.0), Gaussian(torch.zeros(16), 1.0)
    training, held_out, fresh = (
        source.sample(n, generator=seeds.generator(0, name))
        for name, n in (("training", 100), ("held out", 100), ("fresh", 300))
    )
    sampler = kind(noise)
    copies, innocents = (
        sampler.sample(ExactDenoiser(law, noise), 300, generator=seeds.generator(0, "sampling"))
        for law in (Empirical(training), source)
    )
    assert verdict.memorized_fraction(copies, training).value >= 0.99
    bias, near = verdict.label_tests(copies, training, held_out)
    assert bias.p_value < 1e-3
    assert near.p_value < 1e-3
    control = verdict.memorized_fraction(fresh, training).value
    assert verdict.memorized_fraction(innocents, training).value == control == 0
    bias, near = verdict.label_tests(innocents, training, held_out)
    assert min(bias.p_value, near.p_value) > 1e-4
    for samples, expected in ((copies, "copying"), (innocents, "generalizing")):
        found = genonset.audit(samples, training, held_out, n_permutations=1000)
        assert found.verdict == expected


RECOMMENDED = {
    **{kind: {"horizon": 3.0} for kind in ("ddpm", "ddim", "euler", "heun", "euler_maruyama")},
    "one_step": {"horizon": 0.01},
}
"""Horizons, as docs/discretization.md has them; steps and grid are the defaults of a spec."""


@pytest.mark.parametrize("kind", SAMPLERS)
def test_poles_on_real_digits_in_the_recommended_setting(kind):
    """The exact denoiser of 64 digits, as a run reports it: at least 99 % memorized, copying.

    The oracle is at its control, the share of 698 other fresh digits that count as memorized, up
    to five standard errors of its 200; against 64 digits the memorizer never saw (null) it is
    below 10 %. Label tests of the oracle have p > 1e-3: false alarms below 4e-3 a sampler, the
    same draws in all.
    """
    spec = {
        "name": "poles", "replicates": 1, "n": [64], "n_original": 698, "n_generated": 200,
        "criteria": ["memorized_fraction", "label_test"], "source": {"kind": "digits"},
        "model": {"kind": "exact", "sampler": {"kind": kind},
                  "noise": {"kind": "ornstein_uhlenbeck"} | RECOMMENDED[kind]},
    }  # fmt: skip
    cell = next(resolve(Sweep.from_options(spec)).cells())[1]
    values, points = run_cell(cell).values, draw_points(cell)
    assert values["model"]["memorized_fraction"] >= 0.99
    assert values["model"]["copying_p"] < 1e-6
    control = verdict.memorized_fraction(points.original, points.training).value
    error = math.sqrt(max(control, 1 / 698) * 1.3 / 200)
    assert abs(values["oracle"]["memorized_fraction"] - control) < 5 * error
    assert values["null"]["memorized_fraction"] < 0.1
    assert min(values["oracle"][p] for p in ("copying_p", "train_bias_p")) > 1e-3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model__sampler": {"kind": "ddpm", "eta": 0.5}}, ["eta = 0.5", "'ddim'"]),
        ({"model__sampler": {"kind": "plms"}}, ["model.sampler.kind", "'heun'", "plms"]),
        ({"model__sampler": {"n_steps": 0}}, ["n_steps", "1", "0"]),
        ({"model__sampler": {"grid": "cubic"}}, ["grid", "log_snr", "cubic"]),
        ({"model__noise": {"kind": "cosine", "horizon": 1.0}}, ["Cosine", "horizon < 1"]),
        ({"model__noise": {"kind": "cosine", "beta": 1.0}}, ["beta", "Allowed", "offset"]),
        ({"model__noise": {"kind": "pink"}}, ["pink", "'rectified'"]),
        ({"source": {"kind": "two_moons"}, "model__law": "source"}, ["two_moons", "'training'"]),
        ({"model": {"kind": "kernel", "ridge": 0}}, ["ridge > 0"]),
        ({"model": {"kind": "python", "target": "a:b"}}, ["collapse", "noise"]),
        ({"criteria": ["kl_to_source"]}, ["closed-form", "bures_wasserstein"]),
    ],
)
def test_refusals_say_where_what_and_what_else(changes, said):
    chosen = options(**changes)
    del chosen["axes"]
    with pytest.raises(ConfigError) as caught:
        Sweep.from_options(chosen)
    message = str(caught.value)
    assert len(message.splitlines()) < 25
    for word in said:
        assert word in message, message


def test_names_are_listed():
    names = catalogue()
    assert set(names["noise"]) == set(NOISES)
    assert set(names["samplers"]) == set(SAMPLERS)
    assert {"exact", "kernel", "linear_one_step"} <= set(names["models"])
    assert all(text for entries in names.values() for text in entries.values())


def test_noise_without_a_kind_is_the_papers():
    plain = options(
        model={"kind": "linear_one_step", "noise": {"horizon": 1.0}}, criteria=["delta"]
    )
    del plain["axes"]
    cell = next(Sweep.from_options(plain).cells())[1]
    assert cell.model.noise.kind == "ornstein_uhlenbeck"


def test_discretization_is_drawn_along_its_steps(tmp_path):
    """Small: Heun against DDPM at 4 and 16 steps. Orders 2 and 1 are visible in the rows."""
    sweep = reproduction("discretization", replicates=1)
    chosen = sweep.model_dump(mode="json", exclude_none=True)
    chosen |= {
        "axes": {"model.sampler.n_steps": [16, 64]},
        "variants": {k: sweep.variants[k] for k in ("ddpm", "heun")},
        "n_generated": 200,
    }
    sweep = Sweep.from_options(chosen)
    with Store(tmp_path, sweep) as store:
        assert run_sweep(sweep, store).done == 4
    (drawn,) = figures.all_figures(Results(tmp_path))
    assert drawn.name == "along"
    error = {
        (row["variant"], row["model.sampler.n_steps"]): row["value"]
        for row in drawn.rows
        if row["role"] == "model" and row["criterion"] == "bures_wasserstein"
    }
    assert error["heun", 16] / error["heun", 64] == pytest.approx(16, rel=0.1)
    assert 2.5 < error["ddpm", 16] / error["ddpm", 64] < 4.5
    page = report.write_run_report(Results(tmp_path)).read_text()
    assert "n* cannot" not in page


@pytest.mark.parametrize(
    ("n", "axes", "found"),
    [
        ([8], {"model.sampler.n_steps": [2, 4]}, "model.sampler.n_steps"),
        ([8, 16], {"model.sampler.n_steps": [2, 4]}, None),
        ([8], {"model.sampler.kind": ["ddim", "ddpm"]}, None),
        ([8], {"model.sampler.n_steps": [2, 4], "source.dim": [2, 3]}, None),
        ([8], {}, None),
    ],
)
def test_one_size_and_one_number_make_an_axis(n, axes, found):
    assert figures.lone_axis(Sweep.from_options(options(n=n, axes=axes) | {
        "model": {"kind": "exact"}})) == found  # fmt: skip
