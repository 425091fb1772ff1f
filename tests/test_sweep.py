"""Sweeps: one table for any number of workers, any order, any interruption."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

from genonset.errors import ConfigError
from genonset.experiment import attempt_cell, resolve
from genonset.spec import Sweep
from genonset.store import Results, Store
from genonset.sweep import WorkerPool, cells_of_shard, run_sweep

OPTIONS = {
    "name": "small",
    "replicates": 4,
    "n": [4, 8, 16],
    "n_original": 200,
    "n_generated": 50,
    "criteria": ["kernel_l2", "label_test"],
    "source": {"kind": "gaussian", "dim": 3},
    "model": {"kind": "linear_one_step"},
    "axes": {"model.noise.horizon": [1.0, 2.0]},
}
SWEEP = resolve(Sweep.from_options(OPTIONS))


def table(folder):
    return Results(folder).table()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference") / "run"
    with Store(folder, SWEEP) as store:
        progress = run_sweep(SWEEP, store)
    assert (progress.done, progress.failed, progress.left) == (24, 0, 0)
    return table(folder)


def test_two_worker_processes_give_the_same_table(tmp_path, reference):
    pool = WorkerPool(2)
    with Store(tmp_path / "run", SWEEP) as store:
        run_sweep(SWEEP, store, executor=pool)
    pool.stop()
    assert table(tmp_path / "run") == reference


def test_any_executor_with_futures_gives_the_same_table(tmp_path, reference):
    with Store(tmp_path / "run", SWEEP) as store, ThreadPoolExecutor(3) as threads:
        run_sweep(SWEEP, store, executor=threads)
    assert table(tmp_path / "run") == reference


def test_shards_together_are_the_sweep(tmp_path, reference):
    for shard in ((1, 2), (2, 2)):
        with Store(tmp_path / "run", SWEEP, shard=shard) as store:
            progress = run_sweep(SWEEP, store, shard=shard)
            assert progress.total == progress.done == 12
    assert table(tmp_path / "run") == reference
    parts = [{c.key for c in cells_of_shard(SWEEP, (i, 3))} for i in (1, 2, 3)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 24
    with pytest.raises(ConfigError, match="3/2"):
        cells_of_shard(SWEEP, (3, 2))


def test_interrupt_keeps_what_was_done_and_resume_completes_it(tmp_path, reference):
    def stop_after_five(progress):
        if progress.done == 5:
            raise KeyboardInterrupt

    with Store(tmp_path / "run", SWEEP) as store, pytest.raises(KeyboardInterrupt):
        run_sweep(SWEEP, store, on_progress=stop_after_five)
    assert len(Results(tmp_path / "run").records) == 5
    with Store(tmp_path / "run", SWEEP) as store:
        progress = run_sweep(SWEEP, store)
    assert (progress.resumed, progress.done) == (5, 24)
    assert table(tmp_path / "run") == reference


def test_a_sweep_runs_into_its_own_store_only(tmp_path):
    other = SWEEP.model_copy(update={"replicates": 3})
    with Store(tmp_path / "run", SWEEP) as store:
        with pytest.raises(ConfigError, match="opened for another sweep"):
            run_sweep(other, store)
        with pytest.raises(ConfigError, match=r"experiment\.resolve"):
            run_sweep(SWEEP.model_copy(update={"n_original": None}), store)


class OneBadCell(Executor):
    """Runs inline; one cell raises in the executor itself, as a lost Dask worker does."""

    def __init__(self, key):
        self.key = key

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        if args[0].key == self.key:
            future.set_exception(RuntimeError("worker lost"))
        else:
            future.set_result(fn(*args))
        return future


def test_a_lost_worker_fails_its_cell_and_the_sweep_goes_on(tmp_path, reference):
    bad = cells_of_shard(SWEEP, None)[0].key  # the first of its group: the others still run
    with Store(tmp_path / "run", SWEEP) as store:
        progress = run_sweep(SWEEP, store, executor=OneBadCell(bad))
    assert (progress.done, progress.failed) == (23, 1)
    (failure,) = Results(tmp_path / "run").failures
    assert "worker lost" in failure.row.traceback
    with Store(tmp_path / "run", SWEEP) as store:
        run_sweep(SWEEP, store)
    assert table(tmp_path / "run") == reference


KILLER = """
import os, pathlib, torch
def fit(training, *, generator):
    once = pathlib.Path("died")
    if len(training) == 8 and (ALWAYS or not once.exists()):
        once.touch()
        os.kill(os.getpid(), 9)
    return lambda n, g: torch.randn(n, 3, dtype=torch.float64, generator=g)
"""


@pytest.mark.parametrize("always", [False, True])
def test_a_killed_worker_costs_at_most_its_cell(tmp_path, monkeypatch, always):
    (tmp_path / "mine.py").write_text(KILLER.replace("ALWAYS", str(always)))
    monkeypatch.chdir(tmp_path)
    options = OPTIONS | {
        "axes": {},
        "replicates": 2,
        "criteria": ["label_test"],
        "model": {"kind": "python", "target": "mine:fit"},
    }
    sweep = resolve(Sweep.from_options(options))
    pool = WorkerPool(2)
    with Store(tmp_path / "run", sweep) as store:
        progress = run_sweep(sweep, store, executor=pool)
    pool.stop()
    assert progress.left == 0
    assert progress.failed == (2 if always else 0)
    for failure in Results(tmp_path / "run").failures:
        assert failure.n == 8
        assert "lost" in failure.row.traceback


def test_workers_do_not_outlive_a_killed_parent():
    code = (
        "import os, time\nfrom genonset.sweep import WorkerPool\n"
        "if __name__ == '__main__':\n"
        "    pool = WorkerPool(1)\n"
        "    print(pool.executor.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the worker still runs ten seconds after its parent was killed")


def test_results_are_durable_while_the_sweep_runs(tmp_path):
    seen = []

    def look(progress):
        time.sleep(0.06)
        seen.append((progress.done, Results(tmp_path / "run").status()["done"]))

    with Store(tmp_path / "run", SWEEP) as store:
        run_sweep(SWEEP, store, on_progress=look)
    assert max(done - durable for done, durable in seen) < 15
    assert seen[-1][1] > 10


def test_common_numbers_are_computed_once_a_group(monkeypatch, tmp_path):
    from genonset import distances, experiment

    sizes = []
    original = distances.log_off_diagonal
    monkeypatch.setattr(
        distances, "log_off_diagonal", lambda s: sizes.append(len(s.points)) or original(s)
    )
    assert experiment.distances is distances
    with Store(tmp_path / "run", SWEEP) as store:
        run_sweep(SWEEP, store)
    assert sizes.count(200) == SWEEP.replicates


def test_attempt_keeps_the_traceback():
    cell = cells_of_shard(SWEEP, None)[0].model_copy(update={"n_original": None})
    result = attempt_cell(cell)
    assert result.status == "failed"
    assert "Traceback" in result.traceback
