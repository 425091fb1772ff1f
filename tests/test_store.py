"""The store: what is read back is what was put in; a refusal leaves the folder as it was."""

import json
import math
import os
import sqlite3
import subprocess
import sys
import traceback

import pytest

from genonset.errors import ConfigError, StoreError
from genonset.experiment import Result, resolve
from genonset.spec import Sweep
from genonset.store import VERSION, Results, Row, Store, export

OPTIONS = {
    "name": "tiny",
    "replicates": 2,
    "n": [4, 6],
    "n_original": 20,
    "n_generated": 10,
    "criteria": ["kernel_l2"],
    "source": {"kind": "gaussian", "dim": 2},
    "model": {"kind": "linear_one_step"},
}
SWEEP = resolve(Sweep.from_options(OPTIONS))
CELLS = [cell for _, cell in SWEEP.cells()]


def result(cell, **values):
    return Result(key=cell.key, status="done", values={"model": values}, seconds=0.5)


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_numbers_come_back_exactly(tmp_path):
    values = {
        "delta": 0.1 + 0.2,
        "kernel_l2_training": math.inf,
        "kernel_l2_original": 5e-324,
        "delta_log_ratio": -1e-300,
    }
    with Store(tmp_path / "run", SWEEP) as store:
        store.add(result(CELLS[0], **values))
    results = Results(tmp_path / "run")
    assert len(results.records) == 1
    assert dict(results.records[0].row.values["model"]) == values
    assert results.matrix("delta")[0, 0] == 0.1 + 0.2
    assert results.matrix("delta_positive")[0, 0] == 1.0
    assert math.isnan(results.matrix("delta")[1, 1])


def test_sign_comes_from_the_log_ratio_where_delta_underflows(tmp_path):
    with Store(tmp_path / "run", SWEEP) as store:
        store.add(result(CELLS[0], delta=0.0, delta_log_ratio=-1e-5))
        store.add(result(CELLS[1], delta=0.0, delta_log_ratio=1e-5))
        store.add(result(CELLS[2], delta=1e-20, delta_log_ratio=math.nan))
    signs = Results(tmp_path / "run").matrix("delta_positive")
    assert signs[0].tolist() == [1.0, 0.0]
    assert signs[1, 0] == 1.0


@pytest.mark.parametrize("log_ratio", [0.0, math.nan])
def test_a_delta_of_zero_is_not_positive(tmp_path, log_ratio):
    with Store(tmp_path / "run", SWEEP) as store:
        store.add(result(CELLS[0], delta=0.0, delta_log_ratio=log_ratio))
    results = Results(tmp_path / "run")
    assert results.matrix("delta_positive")[0, 0] == 0.0
    export(results, tmp_path / "x.csv")
    assert ",delta_positive,0.0,done" in (tmp_path / "x.csv").read_text()


def test_failed_cells_are_kept_counted_and_tried_again(tmp_path):
    failed = Result(key=CELLS[0].key, status="failed", traceback="Traceback: <boom>")
    with Store(tmp_path / "run", SWEEP) as store:
        store.add(failed)
        store.add(result(CELLS[1], delta=1.0))
        store.flush()
        assert store.done_keys() == {CELLS[1].key}
    results = Results(tmp_path / "run")
    assert [r.row.traceback for r in results.failures] == ["Traceback: <boom>"]
    assert results.status() | {"cells_per_minute": 0, "seconds_left": 0} == {
        "cells": 4,
        "done": 1,
        "failed": 1,
        "left": 2,
        "cells_per_minute": 0,
        "seconds_left": 0,
    }
    with Store(tmp_path / "run", SWEEP) as store:
        store.add(result(CELLS[0], delta=2.0))
    assert not Results(tmp_path / "run").failures


def test_writers_of_shards_are_merged(tmp_path):
    for i in (1, 2):
        with Store(tmp_path / "run", SWEEP, shard=(i, 2)) as store:
            store.add(result(CELLS[i], delta=float(i)))
    assert len(Results(tmp_path / "run").records) == 2


def test_a_sweep_that_is_not_resolved_is_refused(tmp_path):
    open_sizes = {k: v for k, v in OPTIONS.items() if k != "n_original"}
    digits = OPTIONS | {"source": {"kind": "digits"}}
    for options in (open_sizes, digits):
        sweep = Sweep.from_options(options)
        with pytest.raises(ConfigError, match=r"not resolved.*resolve\(sweep\)"):
            Store(tmp_path / "run", sweep)
        assert not (tmp_path / "run").exists()
    Store(tmp_path / "run", resolve(sweep)).close()


def test_folder_of_another_spec_is_refused_and_left_alone(tmp_path):
    with Store(tmp_path / "run", SWEEP) as store:
        store.add(result(CELLS[0], delta=1.0))
    before = contents(tmp_path / "run")
    other = SWEEP.model_copy(update={"seed": 1})
    with pytest.raises(StoreError, match=r"another spec.*seed"):
        Store(tmp_path / "run", other)
    assert contents(tmp_path / "run") == before


def test_a_run_is_extended_and_never_narrowed(tmp_path):
    """More sizes, replicates of all or of some sizes, variants: what is done stays done."""
    with Store(tmp_path / "run", SWEEP) as store:
        store.add(result(CELLS[0], delta=1.0))
    steps = ({"n": (4, 5, 6)}, {"replicates": 3}, {"replicates_at": {5: 9}}, {"name": "new"})
    larger = SWEEP
    for step in steps:
        smaller, larger = larger, larger.model_copy(update=step)
        Store(tmp_path / "run", larger).close()
        results = Results(tmp_path / "run")
        assert results.sweep == larger
        assert results.matrix("delta")[0, 0] == 1.0
        if "name" not in step:
            with pytest.raises(StoreError, match="can be extended"):
                Store(tmp_path / "run", smaller)
    assert Results(tmp_path / "run").matrix("delta").shape == (9, 3)
    assert larger.n_cells == len(list(larger.cells())) == 3 + 9 + 3


def test_a_folder_in_which_nothing_was_done_takes_another_spec(tmp_path):
    failed = Result(key=CELLS[0].key, status="failed", traceback="boom")
    with Store(tmp_path / "run", SWEEP) as store:
        store.add(failed)
    other = SWEEP.model_copy(update={"seed": 1})
    Store(tmp_path / "run", other).close()
    assert Results(tmp_path / "run").sweep == other


def test_the_reason_of_a_failure_is_the_whole_message():
    def row(traceback):
        return Row(key="", status="failed", values={}, traceback=traceback, seconds=0, finished=0)

    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ConfigError("two lines:\n  one of them is indented\nand a third") from first
    except ConfigError:
        whole = row(traceback.format_exc()).reason
    assert whole.startswith("genonset.errors.ConfigError: two lines:\n  one")
    assert whole.endswith("third")
    assert row("The worker was lost").reason == "The worker was lost"
    assert "no traceback" in row("").reason


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="not empty"):
        Store(tmp_path, SWEEP)
    assert contents(tmp_path) == {"thesis.tex": b"precious"}


def test_newer_store_is_refused_and_left_alone(tmp_path):
    Store(tmp_path / "run", SWEEP).close()
    path = tmp_path / "run" / "results.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    before = path.read_bytes()
    for open_it in (lambda: Store(tmp_path / "run", SWEEP), lambda: Results(tmp_path / "run")):
        with pytest.raises(StoreError, match="newer genonset"):
            open_it()
    assert path.read_bytes() == before


def test_corrupt_store_is_refused(tmp_path):
    Store(tmp_path / "run", SWEEP).close()
    (tmp_path / "run" / "results.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="cannot be used as a results store"):
        Results(tmp_path / "run")


def test_folder_in_use_names_the_process(tmp_path):
    folder = tmp_path / "run"
    with Store(folder, SWEEP) as store:
        lock = json.loads((folder / "results.lock").read_text())
        assert lock["pid"] == os.getpid()
        other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            (folder / "results.lock").write_text(json.dumps(lock | {"pid": other.pid}))
            with pytest.raises(StoreError, match=f"process {other.pid} on host {lock['host']}"):
                Store(folder, SWEEP)
        finally:
            other.communicate(b"\n")
        store.flush()
    # the process is gone: its lock is taken over
    (folder / "results.lock").write_text(json.dumps(lock | {"pid": other.pid}))
    Store(folder, SWEEP).close()


def test_unwritable_places_are_said(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/run"):
        with pytest.raises(StoreError, match=r"is a file, or lies below one.*--out"):
            Store(tmp_path / place, SWEEP)
    assert (tmp_path / "file").read_text() == ""


def test_full_disk_keeps_what_was_committed(tmp_path):
    """A database that may not grow stands in for a full disk."""
    store = Store(tmp_path / "run", SWEEP)
    store.add(result(CELLS[0], delta=1.0))
    store.flush()
    store._database.execute("PRAGMA max_page_count = 1")
    failed = [Result(key=c.key, status="failed", traceback="x" * 100_000) for c in CELLS[1:]]
    for result_too_many in failed:
        store.add(result_too_many)
    with pytest.raises(StoreError, match="already committed are safe"):
        store.flush()
    store._pending.clear()
    store.close()
    assert [r.row.key for r in Results(tmp_path / "run").records] == [CELLS[0].key]


def test_not_a_run_folder(tmp_path):
    with pytest.raises(StoreError, match=r"no spec\.toml"):
        Results(tmp_path)


def filled(tmp_path):
    with Store(tmp_path / "run", SWEEP) as store:
        for cell in CELLS[:3]:
            store.add(result(cell, delta=-1 / 3, delta_log_ratio=2.0))
        store.add(Result(key=CELLS[3].key, status="failed", traceback="boom"))
    return Results(tmp_path / "run")


def test_export_is_sorted_exact_and_repeatable(tmp_path):
    results = filled(tmp_path)
    for name in ("a.csv", "b.csv"):
        export(results, tmp_path / name)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    lines = [line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()]
    assert lines[0] == ["key", "n", "replicate", "role", "criterion", "value", "status"]
    body = lines[1:]
    assert body == sorted(body, key=lambda r: (int(r[1]), int(r[2]), r[3], r[4]))
    values = {r[4]: r[5] for r in body if r[6] == "done"}
    assert float(values["delta"]) == -1 / 3
    assert float(values["delta_positive"]) == 0.0
    assert [r for r in body if r[6] == "failed"] == [
        [CELLS[3].key, "6", "1", "", "", "", "failed"]
    ]


def test_export_formats_agree(tmp_path):
    import pandas
    import polars
    import pyarrow.parquet

    results = filled(tmp_path)
    export(results, tmp_path / "a.parquet")
    export(results, tmp_path / "a.json")
    rows = pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert rows == json.loads((tmp_path / "a.json").read_text())
    assert results.to_pandas().equals(pandas.read_parquet(tmp_path / "a.parquet"))
    assert results.to_polars().equals(polars.read_parquet(tmp_path / "a.parquet"))
    with pytest.raises(ConfigError, match=r"\.csv, \.parquet or \.json"):
        export(results, tmp_path / "a.xlsx")


def test_a_run_of_an_earlier_edition_is_read_and_not_extended(tmp_path):
    """Its spec states no edition, and its cells have the keys of that time."""
    old = resolve(Sweep.from_options(OPTIONS | {"edition": 1}))
    keys = [cell.key for _, cell in old.cells()]
    assert not set(keys) & {cell.key for cell in CELLS}, "another edition, another key"
    with pytest.raises(StoreError, match="of edition 1"):
        Store(tmp_path / "new", old)
    folder = tmp_path / "run"
    with Store(folder, SWEEP) as store:
        store.add(result(CELLS[0], delta=0.25))
    spec = folder / "spec.toml"
    lines = spec.read_text().splitlines(keepends=True)
    spec.write_text("".join(line for line in lines if not line.startswith("edition")))
    database = sqlite3.connect(folder / "results.sqlite")
    with database:
        database.execute("UPDATE results SET key = ?", (keys[0],))
    database.close()
    assert Results(folder).matrix("delta")[0, 0] == 0.25
    before = contents(folder)
    with pytest.raises(StoreError, match="not extended"):
        Store(folder, SWEEP)
    assert contents(folder) == before
