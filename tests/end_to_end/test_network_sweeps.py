"""Networks in sweeps: killed and continued, longer budgets from shorter ones, the user's own.

Every table is compared with cells that were run alone, without a run folder.
"""

import os
import random
import signal
import subprocess
import sys
import time
import tomllib

import pytest
import torch

from genonset import training
from genonset.errors import ConfigError
from genonset.experiment import attempt_cell, resolve, run_cell
from genonset.spec import Sweep
from genonset.store import Results, Store
from genonset.sweep import WorkerPool, dask_executor, run_sweep

SPEC = """
name = "small"
replicates = 2
n = [10]
criteria = ["training_time", "memorized_fraction", "overlap"]
n_original = 100
n_generated = 40
[source]
kind = "gaussian_mixture"
means = [[1, 1, 1], [-1, -1, -1]]
[model]
kind = "network"
target = "mine:build"
steps = 20
batch = 8
ema = 0.9
[model.sampler]
n_steps = 3
"""

MINE = """
import os, pathlib, torch
import genonset.training

genonset.training.WRITING = 1e9  # a checkpoint after every step, here and in worker processes
os.fsync = lambda file: None  # a kill leaves the system alive, and what was written to it


class Mine(torch.nn.Module):
    def __init__(self, d):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(d + 1, 16), torch.nn.BatchNorm1d(16), torch.nn.SiLU(),
            torch.nn.Dropout(0.1), torch.nn.Linear(16, d),
        )

    def forward(self, x, t):
        if self.training:
            with open("steps", "a") as file:
                file.write(".")
            if len(pathlib.Path("steps").read_text()) == DIES_AT:
                os.kill(os.getpid(), 9)
        return self.layers(torch.cat([x, t[:, None] / 100], 1))


def build(shape):
    return Mine(*shape)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the user's network, which leaves a mark at every step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "WRITING", training.WRITING)  # mine.py changes both
    monkeypatch.setattr(os, "fsync", os.fsync)
    (tmp_path / "mine.py").write_text(MINE.replace("DIES_AT", "0"))
    return tmp_path


def sweep_of(text=SPEC, **changes):
    return resolve(Sweep.from_options(tomllib.loads(text) | changes))


def run(sweep, folder, **options):
    with Store(folder, sweep) as store:
        return run_sweep(sweep, store, **options)


def alone(sweep):
    """Values of every cell, each run by itself."""
    return {cell.key: attempt_cell(cell).values for _, cell in sweep.cells()}


def found(folder):
    return {r.row.key: dict(r.row.values) for r in Results(folder).records}


def steps(folder):
    return len((folder / "steps").read_text())


def checkpoints(folder):
    return sorted(p.name for p in (folder / "checkpoints").iterdir())


# -- killed ------------------------------------------------------------------------------------

SCRIPT = """
from genonset.spec import Sweep
from genonset.experiment import resolve
from genonset.store import Store
from genonset.sweep import run_sweep
sweep = resolve(Sweep.from_toml("spec.toml"))
with Store("run", sweep) as store:
    run_sweep(sweep, store)
"""


def test_a_killed_process_goes_on_from_its_checkpoint(here):
    sweep = sweep_of()
    expected = alone(sweep)
    (here / "steps").unlink()
    (here / "spec.toml").write_text(SPEC)
    (here / "mine.py").write_text(MINE.replace("DIES_AT", "57"))  # in the second cell
    killed = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert steps(here) == 57
    progress = run(sweep_of(), here / "run")  # it kills itself at that one step only
    assert (progress.done, progress.failed) == (2, 0)
    assert steps(here) == 2 * 2 * 20 + 1  # no step twice but the one that was cut off
    assert list(found(here / "run").values()) == list(expected.values())
    assert checkpoints(here / "run") == []


def test_a_killed_worker_goes_on_from_its_checkpoint(here):
    expected = alone(sweep_of())
    (here / "steps").unlink()
    (here / "mine.py").write_text(MINE.replace("DIES_AT", "50"))
    pool = WorkerPool(1)
    progress = run(sweep_of(), here / "run", executor=pool)
    pool.stop()
    assert (progress.done, progress.failed) == (2, 0)
    assert steps(here) == 2 * 2 * 20 + 1
    assert sorted(map(str, found(here / "run").values())) == sorted(map(str, expected.values()))
    assert checkpoints(here / "run") == []


PERCEPTRON = SPEC.replace('"network"', '"mlp"').replace('target = "mine:build"', "width = 32")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", "unet", "unet_published"])
def test_kills_at_random_moments_leave_the_same_table(tmp_path, model):
    """Kills of the command line, each after its first checkpoint; then shards, to the end."""
    width = {"mlp": 64, "unet": 4, "unet_published": 4}[model]
    text = PERCEPTRON.replace('"mlp"', f'"{model}"').replace("width = 32", f"width = {width}")
    text = text.replace("steps = 20", f"steps = {2500 if model == 'mlp' else 600}")
    text = text.replace('"gaussian_mixture"', '"gaussian"')
    text = text.replace("means = [[1, 1, 1], [-1, -1, -1]]", "dim = 64\nstd = 0.2")
    (tmp_path / "spec.toml").write_text(text)
    sweep = sweep_of(text)
    command = [sys.executable, "-c", "from genonset.cli import main; main()", "sweep"]
    command += ["spec.toml", "--out", "run"]
    moments, folder = random.Random(0), tmp_path / "run" / "checkpoints"

    def written():
        return {p.name: p.stat().st_mtime_ns for p in folder.glob("*.pt")}

    for _ in range(3):
        before = written()
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        while process.poll() is None and written() == before:
            time.sleep(0.05)
        time.sleep(moments.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
    for shard in ((1, 2), (2, 2)):
        with Store(tmp_path / "run", sweep, shard=shard) as store:
            progress = run_sweep(sweep, store, shard=shard)
        assert progress.failed == progress.left == 0
    assert found(tmp_path / "run") == alone(sweep)
    assert checkpoints(tmp_path / "run") == []


@pytest.mark.slow
def test_dask_workers_use_the_same_checkpoints(here):
    sweep = sweep_of(axes={"model.steps": [10, 30]})
    expected = alone(sweep)
    with dask_executor("dask:local:2") as executor:
        run(sweep, here / "run", executor=executor)
    assert found(here / "run") == expected
    assert checkpoints(here / "run") == []


# -- budgets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"axes": {"model.steps": [12, 22, 5]}},
        {"axes": {"model.epochs": [4, 2, 9]}, "criteria": ["training_time"]},
        {"variants": {"long": {"model.steps": 25}, "short": {"model": {"steps": 7}}}},
    ],
)
def test_longer_budgets_continue_shorter_ones_to_the_same_numbers(here, changes):
    options = tomllib.loads(SPEC) | changes
    if "model.epochs" in changes.get("axes", {}):
        options["model"] |= {"steps": None, "epochs": 1}
    sweep = resolve(Sweep.from_options(options))
    expected = alone(sweep)
    whole = steps(here)
    (here / "steps").unlink()
    run(sweep, here / "run")
    assert found(here / "run") == expected
    assert all(values for values in expected.values())
    budgets = [cell.model.recipe.n_steps(10) for _, cell in sweep.cells()]
    assert steps(here) / whole == 2 * max(budgets) / sum(budgets)  # two replicates
    assert checkpoints(here / "run") == []


def test_sharing_does_not_depend_on_workers_or_interruption(here):
    axes = {"model.steps": [12, 5, 20], "model.optimizer": ["sgd", "adam"]}
    sweep = sweep_of(axes=axes, criteria=["training_time"])
    expected = alone(sweep)
    pool = WorkerPool(2)

    def stop(progress):
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(sweep, here / "run", on_progress=stop)
    assert checkpoints(here / "run")
    run(sweep, here / "run", executor=pool)
    pool.stop()
    assert found(here / "run") == expected
    assert checkpoints(here / "run") == []


def test_a_run_that_stops_when_memorized_is_shared_too(here):
    options = tomllib.loads(PERCEPTRON.replace("n = [10]", "n = [6]")) | {"replicates": 1}
    options["model"] |= {
        "steps": 1,
        "stop_once_memorized": True,
        "learning_rate": 1e-2,
        "batch": "full",
        "target": "clean",
    }
    options["axes"] = {"model.steps": [2, 2000, 4000]}
    options["criteria"] = ["training_time", "memorized_fraction"]
    options["model"]["sampler"] = {"n_steps": 15}
    sweep = resolve(Sweep.from_options(options))
    expected = alone(sweep)
    training.WRITING = 1e9
    run(sweep, here / "run")
    assert found(here / "run") == expected
    short, long, longer = (v["model"]["n_steps"] for v in expected.values())
    assert short == 2
    assert 2 < long == longer < 2000


def test_a_shorter_budget_that_comes_later_trains_on_its_own(here):
    sweep = sweep_of(variants={"long": {"model.steps": 25}}, replicates=1)
    ((_, long),) = sweep.cells()
    more = sweep_of(
        variants={"long": {"model.steps": 25}, "short": {"model.steps": 7}}, replicates=1
    )
    with Store(here / "run", sweep) as store:
        run_cell(long, checkpoint=store.checkpoint(long))  # its result is lost, its network kept
    run(more, here / "run")
    assert found(here / "run") == alone(more)
    assert "beyond the budget" in (here / "run" / "run.log").read_text()


def test_cells_without_networks_have_no_checkpoints(tmp_path):
    sweep = sweep_of(model={"kind": "linear_one_step"}, criteria=["label_test"])
    run(sweep, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_without_its_folder_a_cell_has_no_checkpoint(here):
    """As on a cluster whose workers do not see the run folder."""
    cell = next(sweep_of().cells())[1]
    assert attempt_cell(cell, None, here / "nowhere" / "x.pt").values == run_cell(cell).values
    assert not (here / "nowhere").exists()


# -- checkpoints that cannot be used -----------------------------------------------------------


def kept(sweep, folder):
    """The checkpoint of the first cell, as a kill leaves it."""
    cell = next(sweep.cells())[1]
    with Store(folder, sweep) as store:
        file = store.checkpoint(cell)
        run_cell(cell, checkpoint=file)
    return file


def test_damaged_and_foreign_checkpoints_are_set_aside_with_a_note(here):
    sweep = sweep_of(replicates=1, criteria=["training_loss"])
    expected = alone(sweep)
    file = kept(sweep, here / "run")
    file.write_bytes(file.read_bytes()[:-7])
    run(sweep, here / "run")
    assert found(here / "run") == expected
    log = (here / "run" / "run.log").read_text()
    assert "trained from the start" in log
    assert "not a whole checkpoint" in log
    other = kept(sweep_of(replicates=1, criteria=["training_loss"], seed=1), here / "other")
    file = kept(sweep, here / "again")
    file.write_bytes(other.read_bytes())
    run(sweep, here / "again")
    assert found(here / "again") == expected
    log = (here / "again" / "run.log").read_text()
    assert "of another run: its initial weights, training points, generator differ" in log


def test_a_checkpoint_that_cannot_be_removed_is_gone_around(here):
    cell = next(sweep_of().cells())[1]
    file = here / "x.pt"
    file.mkdir()  # root may write anywhere, but not over a folder
    result = attempt_cell(cell, None, file)
    assert result.values == run_cell(cell).values
    assert "Cannot read" in result.note


def test_a_failed_cell_leaves_no_checkpoint(here):
    (here / "mine.py").write_text(
        MINE.replace("os.kill(os.getpid(), 9)", "raise RuntimeError('gave up')").replace(
            "DIES_AT", "70"
        )
    )
    progress = run(sweep_of(replicates=1, axes={"model.steps": [20, 40]}), here / "run")
    assert (progress.done, progress.failed) == (1, 1)
    assert "gave up" in Results(here / "run").failures[0].row.traceback
    assert checkpoints(here / "run") == []


@pytest.mark.slow
def test_a_lost_cell_keeps_its_checkpoint(here):
    (here / "mine.py").write_text(MINE.replace("== DIES_AT", ">= 10"))
    pool = WorkerPool(1)
    progress = run(sweep_of(replicates=1), here / "lost", executor=pool)
    pool.stop()
    assert progress.failed == 1
    assert len(checkpoints(here / "lost")) == 1


# -- the user's own ----------------------------------------------------------------------------

OWN = """
import math, torch

class Net(torch.nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer, self.weight = answer, torch.nn.Parameter(torch.ones(()))
    def forward(self, x, t):
        return self.answer(self.weight * x * t[:, None], x, self.weight)

def good(shape): return Net(lambda y, x, w: y)
def wrong_shape(shape): return Net(lambda y, x, w: y[:, :2])
def not_a_number(shape): return Net(lambda y, x, w: y * math.nan)
def no_time(shape): return Net(lambda y, x, w: w * x)
def no_module(shape): return lambda x, t: x
def no_parameters(shape):
    net = Net(lambda y, x, w: y)
    del net.weight
    net.weight = 1.0
    return net
def raises(shape): raise ValueError(f"no network for {shape}")

def fit_raises(training, *, generator): raise ValueError("no luck")
def fit_few(training, *, generator): return lambda n, g: training[: n - 1]
def fit_units(training, *, generator): return lambda n, g: 100 + 155 * torch.rand(n, 3)
"""

BAD = {
    "wrong_shape": "The network returned (2, 2) for points of shape (2, 3)",
    "not_a_number": "6 of 6 values that are NaN or infinite",
    "no_time": "Net ignores the time",
    "no_module": "own:no_module returned function; it must return a torch.nn.Module",
    "no_parameters": "Net has no parameters to train",
    "raises": "no network for (3,)",
    "fit_raises": "no luck",
    "fit_few": "asked for 40 samples of 3 coordinates and returned shape (10, 3)",
    "fit_units": "--allow-mixed-units",
}


def test_bad_models_are_stored_failures_and_the_sweep_goes_on(here):
    (here / "own.py").write_text(OWN)
    options = tomllib.loads(SPEC) | {"replicates": 1, "criteria": ["memorized_fraction"]}
    options["model"] = {"kind": "network", "target": "own:good", "steps": 3}
    options["variants"] = {
        name: {"model.kind": "python", "model.target": f"own:{name}"}
        if name.startswith("fit")
        else {"model.target": f"own:{name}"}
        for name in (*BAD, "good")
    }
    progress = run(resolve(Sweep.from_options(options)), here / "run")
    assert (progress.done, progress.failed) == (1, len(BAD))
    for record in Results(here / "run").failures:
        assert BAD[record.setting["variant"]] in record.row.traceback
    assert checkpoints(here / "run") == []


@pytest.mark.parametrize(("source", "shape"), [("digits", (1, 8, 8)), ("gaussian", (6,))])
def test_an_own_network_gets_points_as_they_are(here, source, shape):
    """Images with a channel, vectors as vectors; the width may be an axis of its own."""
    (here / "own.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, size):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(size + 1, size)\n"
        "    def forward(self, x, t):\n"
        "        y = self.layer(torch.cat([x.flatten(1), t[:, None] / 100], 1))\n"
        "        return y.reshape(x.shape)\n"
        "def build(shape):\n"
        f"    assert shape == {shape}, shape\n"
        "    return Net(torch.Size(shape).numel())\n"
    )
    table = {"kind": source} | ({"dim": 6} if source == "gaussian" else {})
    options = tomllib.loads(SPEC) | {"source": table, "criteria": ["n_parameters", "train_bias"]}
    options["n_original"] = options["n_generated"] = None if source == "digits" else 50
    options["model"] |= {"target": "own:build", "predicts": "v", "steps": 4}
    cell = next(resolve(Sweep.from_options(options)).cells())[1]
    size = torch.Size(shape).numel()
    assert run_cell(cell).values["model"]["n_parameters"] == size * (size + 2)


def test_an_edit_is_noticed_wherever_the_model_is_named(here):
    """In the table, a variant or an axis, of networks and of python models."""
    fit = "def build(training, *, generator):\n    return lambda n, g: training[:n]\n"
    for where, kind in [("model", "network"), ("variants", "python"), ("axes", "network")]:
        options = tomllib.loads(SPEC) | {"criteria": ["train_bias"]}
        own = {"kind": kind, "target": "mine:build"} | ({"steps": 3} if kind == "network" else {})
        if where == "model":
            options["model"] = own
        else:
            options["model"] = {"kind": "linear_one_step"}
            options |= {
                "variants": {"variants": {"mine": {"model": own}, "plain": {}}},
                "axes": {"axes": {"model": [own]}},
            }[where]
        source = MINE.replace("DIES_AT", "0") if kind == "network" else fit
        (here / "mine.py").write_text(source)
        before = resolve(Sweep.from_options(options))
        assert resolve(before) == before
        Store(here / where, before).close()
        (here / "mine.py").write_text(source + "\n# changed\n")
        after = resolve(Sweep.from_options(options))
        keys = [[c.key for _, c in sweep.cells()] for sweep in (before, after)]
        assert keys[0][0] != keys[1][0]
        assert Results(here / where).sweep == before  # reading needs no file of the user's
        with pytest.raises(ConfigError, match="The file of mine:build changed"):
            resolve(before)


def test_data_that_only_a_variant_names_are_in_the_key(here):
    import numpy as np

    keys = []
    for seed in (0, 1):
        np.save("x.npy", np.random.default_rng(seed).normal(size=(100, 3)))
        options = tomllib.loads(SPEC) | {"n_original": 20, "n_generated": 20}
        options["variants"] = {"data": {"source": {"kind": "array", "path": "x.npy"}}, "law": {}}
        from genonset import experiment

        experiment._build.cache_clear()
        keys.append([c.key for _, c in resolve(Sweep.from_options(options)).cells()])
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] == keys[1][1]


def test_images_of_mixed_sizes_are_refused_before_anything_runs(tmp_path):
    from PIL import Image

    for i, size in enumerate([(8, 8), (8, 9)] * 10):
        Image.new("L", size, color=i).save(tmp_path / f"{i}.png")
    options = tomllib.loads(PERCEPTRON) | {"n_original": None, "n_generated": None}
    options["source"] = {"kind": "images", "path": str(tmp_path)}
    with pytest.raises(ValueError, match=r"8x8|9x8|sizes"):
        resolve(Sweep.from_options(options))


def test_thread_executors_do_not_mix_the_draws_of_networks(here):
    from concurrent.futures import ThreadPoolExecutor

    sweep = sweep_of(replicates=3, criteria=["training_loss"])
    expected = alone(sweep)
    with ThreadPoolExecutor(3) as threads:
        run(sweep, here / "run", executor=threads)
    assert found(here / "run") == expected


def test_a_process_without_the_network_reads_the_run(here, tmp_path_factory):
    run(sweep_of(criteria=["training_loss"]), here / "run")
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert len(Results(here / "run").records) == 2
