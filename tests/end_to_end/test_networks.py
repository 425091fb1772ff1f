"""Networks in a sweep: from a TOML file to stored numbers, with failures kept as such."""

import contextlib
import csv
import io
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from genonset.errors import ConfigError
from genonset.experiment import resolve, run_cell
from genonset.figures import phases
from genonset.spec import Sweep, shipped
from genonset.store import Results, Store, export
from genonset.sweep import run_sweep

SMALL = """
name = "small"
replicates = 2
n = [12]
criteria = ["training_time", "memorized_fraction", "sliced_wasserstein", "overlap"]
n_original = 300
n_generated = 60
axes = { "model.steps" = [3, 9], "model.width" = [4, 8] }
[source]
kind = "gaussian_mixture"
means = [[1, 1, 1], [-1, -1, -1]]
[model]
kind = "mlp"
steps = 1
batch = 8
[model.sampler]
n_steps = 4
"""


def sweep_of(text):
    return resolve(Sweep.from_options(tomllib.loads(text)))


def run(sweep, folder, stop_after=None):
    with Store(folder, sweep) as store:
        done = []

        def stop(progress):
            done.append(progress)
            if len(done) == stop_after:
                raise KeyboardInterrupt

        return run_sweep(sweep, store, on_progress=stop)


def table(folder, path):
    export(Results(folder), path)
    return list(csv.DictReader(path.read_text().splitlines()))


def test_sweep_over_steps_and_width_resumes_to_the_same_table(tmp_path):
    sweep = sweep_of(SMALL)
    whole = run(sweep, tmp_path / "whole")
    assert (whole.done, whole.failed) == (8, 0)
    with pytest.raises(KeyboardInterrupt):
        run(sweep, tmp_path / "cut", stop_after=5)
    again = run(sweep, tmp_path / "cut")
    assert (again.done, again.resumed) == (8, 5)
    rows = table(tmp_path / "whole", tmp_path / "whole.csv")
    assert rows == table(tmp_path / "cut", tmp_path / "cut.csv")
    counts = {
        (row["model.width"], float(row["value"]))
        for row in rows
        if row["criterion"] == "n_parameters"
    }
    assert counts == {(str(w), w * 19 + 3 + 6 * w**2) for w in (4, 8)}
    steps = {
        (row["model.steps"], float(row["value"])) for row in rows if row["criterion"] == "n_steps"
    }
    assert steps == {("3", 3.0), ("9", 9.0)}
    assert {row["role"] for row in rows if row["criterion"].startswith("tau")} == {"model"}


def cell_of(text):
    return next(sweep_of(text).cells())[1]


def test_cells_are_pure_and_leave_the_global_generator_alone():
    cell = cell_of(SMALL)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = run_cell(cell).values
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert run_cell(cell).values == first


def test_networks_of_disjoint_sets_differ_and_overlap_is_below_one():
    values = run_cell(cell_of(SMALL.replace("steps = 1\n", "steps = 100\n"))).values["model"]
    assert -1 <= values["overlap"] < 0.999


def test_a_network_on_few_points_memorizes_and_says_when():
    text = SMALL.replace("axes", "# axes").replace("n = [12]", "n = [4]")
    text = text.replace("steps = 1\n", "steps = 3000\nstop_once_memorized = true\nwidth = 32\n")
    text = text.replace("batch = 8", "learning_rate = 1e-2\ntarget = 'clean'").replace(
        "n_steps = 4", "n_steps = 20"
    )
    values = run_cell(cell_of(text)).values
    facts = values["model"]
    assert facts["memorized_fraction"] > 0.1
    assert facts["tau_mem_low"] <= facts["tau_mem"] <= facts["tau_mem_high"] == facts["n_steps"]
    assert facts["n_steps"] < 3000
    assert "tau_mem" not in values["oracle"]
    assert "tau_mem_low" not in values["null"]


def test_a_short_run_is_censored():
    facts = run_cell(cell_of(SMALL.replace("axes", "# axes"))).values["model"]
    assert facts["tau_mem"] == math.inf == facts["tau_mem_high"]
    assert facts["tau_mem_low"] == facts["n_steps"] == 1.0


DIGITS = """
name = "digits"
replicates = 1
n = [20]
criteria = ["n_parameters", "n_steps", "memorized_fraction", "train_bias"]
n_generated = 20
[source]
kind = "digits"
[model]
kind = "unet"
width = 4
epochs = 2
batch = 8
ema = 0.9
[model.sampler]
kind = "ddpm"
n_steps = 3
"""


def test_unet_on_images_whose_constant_pixels_were_dropped():
    values = run_cell(cell_of(DIGITS)).values["model"]
    assert values["n_steps"] == 6  # two epochs of three batches
    assert 0 <= values["train_bias"] <= 1


def test_unet_on_vectors_takes_them_as_square_images():
    vectors = DIGITS.replace('kind = "digits"', 'kind = "gaussian"\ndim = 128')
    with pytest.raises(ConfigError, match="128 coordinates are no square image of 1 channels"):
        run_cell(cell_of(vectors))
    values = run_cell(cell_of(vectors.replace("width = 4", "width = 4\nchannels = 2"))).values
    assert values["model"]["n_parameters"] > 0
    small = DIGITS.replace('kind = "digits"', 'kind = "gaussian"\ndim = 49')
    with pytest.raises(ConfigError, match="7x7"):
        run_cell(cell_of(small))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps = 1\n", "steps = 0\n", ["model", "steps", "greater than or equal to 1", "0"]),
        ("steps = 1\n", "", ["give a budget", "steps = None"]),
        ("steps = 1\n", "steps = 1\nepochs = 1\n", ["give a budget", "not both"]),
        ("batch = 8", "width = 7", ["width", "multiple of 2", "7"]),
        ("batch = 8", 'target = "score"', ["target", "'clean', 'noise' or 'v'"]),
        ("batch = 8", "momentun = 0.5", ["momentun", "unknown option", "momentum"]),
        ("n_steps = 4", 'kind = "dpm"', ["sampler", "'ddim'", "dpm"]),
        ('"memorized_fraction"', '"kl_to_source"', ["kl_to_source", "linear model"]),
    ],
)
def test_specs_that_are_refused(old, new, said):
    assert old in SMALL
    text = SMALL.replace("axes", "# axes").replace(old, new, 1)
    with pytest.raises(ConfigError) as caught:
        Sweep.from_options(tomllib.loads(text))
    for word in said:
        assert word in str(caught.value), caught.value


def test_a_zero_budget_on_an_axis_is_refused():
    with pytest.raises(ConfigError, match="greater than or equal to 1"):
        Sweep.from_options(tomllib.loads(SMALL.replace("[3, 9]", "[0, 9]")))


def test_a_diverged_network_is_a_stored_failure_and_the_sweep_goes_on(tmp_path):
    text = SMALL.replace(
        '"model.steps" = [3, 9], "model.width" = [4, 8]', '"model.learning_rate" = [1e-3, 1e30]'
    ).replace("steps = 1\n", 'steps = 20\noptimizer = "sgd"\n')
    progress = run(sweep_of(text), tmp_path / "run")
    assert (progress.done, progress.failed) == (2, 2)
    failures = [r.row.traceback for r in Results(tmp_path / "run").failures]
    assert len(failures) == 2
    for said in failures:
        assert "DivergedError" in said
        assert "Lower the learning rate" in said


@pytest.mark.parametrize(
    "name",
    [
        "mixture-training-time",
        "mixture-training-time-4096",
        "digits-networks",
        "glyphs-networks",
        "digits-phases-steps",
        "digits-phases-width",
    ],
)
def test_shipped_specs_resolve_and_their_small_version_runs(name, tmp_path):
    """All n, each variant or two values of an axis, a few steps; pictures and phases drawn."""
    options = shipped(name).model_dump(mode="json", exclude_none=True)
    options |= {"replicates": 1, "n": options["n"][:2], "n_generated": 32, "n_original": 128}
    changes = {"model.steps": 3, "model.sampler.n_steps": 2}
    options["variants"] = {
        k: v | (changes if "model.steps" in v else {}) for k, v in options["variants"].items()
    }
    options["axes"] = {path: [2, 4] for path in options["axes"]}  # steps, or width
    if options["model"]["kind"] == "mlp":
        options["model"] |= {"steps": 3, "stop_once_memorized": False}
        options["model"]["sampler"]["n_steps"] = 2
    sweep = resolve(Sweep.from_options(options))
    assert run(sweep, tmp_path / "run").failed == 0
    results = Results(tmp_path / "run")
    for record in results.records:
        assert math.isfinite(record.row.values["model"]["memorized_fraction"])
    images = sweep.source.kind in ("digits", "glyphs")
    assert len(results.galleries) == (len(results.records) if images else 0)
    if sweep.axes:
        drawn = phases(results, *sweep.axes)
        assert len(drawn.rows) == 4
        words = drawn.figure.axes[0].get_ylabel()
        assert words == ("parameters" if name.endswith("width") else "steps")


PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


def test_the_page_on_training_does_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (spec,) = (tomllib.loads(t) for t in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
    resolve(Sweep.from_options(spec))
    said = []
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(code, "training.md", "exec"), {})
        said.append(out.getvalue().strip())
    claims = re.findall(r"print\(done.*?# (.*)", PAGE)
    assert said[0] == claims[0]
    verdict, tau_gen, tau_mem = said[1].split(" | ")
    assert verdict in ("copying", "train-biased", "poor", "generalizing", "undecided")
    assert "step" in tau_gen
    assert "step" in tau_mem
    rows = list(csv.DictReader((tmp_path / "probes.csv").read_text().splitlines()))
    assert rows
    assert (tmp_path / "run.pt").exists()


PRECISIONS = """
name = "precisions"
replicates = {replicates}
n = [{n}]
criteria = ["memorized_fraction", "sliced_wasserstein", "label_test", "kernel_l2", "spread_ratio"]
n_original = 400
n_generated = 200
axes = {{ "model.precision" = ["float32", "bfloat16"] }}
[source]
{source}
[model]
{model}
learning_rate = 2e-3
[model.sampler]
kind = "ddim"
n_steps = 15
"""
MIXTURE = """kind = "gaussian_mixture"
means = [[1, 1, 1, 1], [-1, -1, -1, -1]]"""
CASES = {
    "perceptron": {
        "replicates": 4,
        "n": 8,
        "source": MIXTURE,
        "model": 'kind = "mlp"\nwidth = 64\nsteps = 800',
    },
    "U-Net": {
        "replicates": 4,
        "n": 5,
        "source": 'kind = "digits"',
        "model": 'kind = "unet"\nwidth = 8\nsteps = 300',
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_bfloat16_moves_no_criterion_beyond_its_interval(case):
    """The mean over replicates lies in float32's 95 % interval.

    Data, weights at the start and noise are the same for both. Were the runs independent, a
    criterion would leave the first interval with probability 0.1 to 0.2; they are nearly equal.
    """
    sweep = sweep_of(PRECISIONS.format(**CASES[case]))
    values = {"float32": [], "bfloat16": []}
    for setting, cell in sweep.cells():
        values[setting["model.precision"]].append(run_cell(cell).values["model"])
    names = ("memorized_fraction", "sliced_wasserstein", "train_bias", "delta_held_out",
             "spread_ratio")  # fmt: skip
    full, half = (np.array([[v[c] for c in names] for v in values[p]]) for p in values)
    count = len(full)
    reach = stats.t.ppf(0.975, count - 1) / math.sqrt(count)
    print(case, *zip(names, full.mean(0), half.mean(0), reach * full.std(0, ddof=1), strict=True))
    assert not np.array_equal(full, half)
    if case == "perceptron":  # the U-Net has learned too little to memorize
        assert 0.05 < full[:, 0].mean() < 0.99
    assert np.all(np.abs(half.mean(0) - full.mean(0)) <= reach * full.std(0, ddof=1))
