"""The command line as a user meets it: messages, exit codes, and what is left on disk."""

import contextlib
import functools
import io
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from genonset import cli

SPEC = """
name = "small"
replicates = 6
n = [4, 8, 16, 32]
n_original = 500
n_generated = 60
criteria = ["kernel_l2", "label_test", "memorized_fraction", "sliced_wasserstein"]
[source]
kind = "gaussian"
dim = 4
[model]
kind = "linear_one_step"
"""


def genonset(*arguments, cwd):
    """Run the command line in this process, as `python -m genonset.cli` would."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv, here, terminate = sys.argv, Path.cwd(), signal.getsignal(signal.SIGTERM)
    sys.argv = ["genonset", *map(str, arguments)]
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as stopped:
        code = stopped.code or 0
    finally:
        sys.argv = argv
        os.chdir(here)
        signal.signal(signal.SIGTERM, terminate)
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    (folder / "spec.toml").write_text(SPEC)
    found = genonset("sweep", "spec.toml", "--out", "run", "--json", cwd=folder)
    assert found.returncode == 0, found.stderr
    return folder, json.loads(found.stdout)


def refused(found, *words):
    assert found.returncode == 2, found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""
    assert 0 < len(found.stderr.splitlines()) <= 24
    for word in words:
        assert word in found.stderr, found.stderr


def test_sweep_json_has_the_stable_keys(finished):
    folder, summary = finished
    assert {"run", "cells", "done", "failed", "seconds", "report", "onsets"} <= set(summary)
    assert (summary["cells"], summary["done"], summary["failed"]) == (24, 24, 0)
    assert (folder / summary["report"]).stat().st_size < 2_000_000
    figures = {p.suffix for p in (folder / "run" / "figures").iterdir()}
    assert figures == {".png", ".pdf", ".csv"}
    keys = {
        "criterion",
        "crossing",
        "confidence",
        "onset",
        "low",
        "high",
        "censored",
        "width",
        "blind",
        "points",
    }
    for onset in summary["onsets"]:
        assert keys <= set(onset)
        assert onset["censored"] in ("no", "above", "below")
        for point in onset["points"]:
            assert {"n", "position", "low", "high", "replicates"} <= set(point)


def test_onset_status_report_and_export(finished):
    folder, _ = finished
    one = genonset("onset", "run", "--criterion", "train_bias", "--suggest", "--json", cwd=folder)
    assert one.returncode == 0, one.stderr
    onset = json.loads(one.stdout)
    assert onset["criterion"] == "train_bias"
    assert onset["suggestion"]["n"] >= 2
    status = json.loads(genonset("status", "run", "--json", cwd=folder).stdout)
    assert (status["cells"], status["done"], status["failed"], status["left"]) == (24, 24, 0, 0)
    assert genonset("report", "run", "--out", "page.html", cwd=folder).returncode == 0
    assert "<html" in (folder / "page.html").read_text()
    assert genonset("export", "run", "table.csv", cwd=folder).returncode == 0
    header = (folder / "table.csv").read_text().splitlines()[0]
    assert header == "key,n,replicate,role,criterion,value,status"


def test_resuming_a_finished_run_changes_nothing(finished):
    folder, _ = finished
    genonset("export", "run", "before.csv", cwd=folder)
    assert genonset("sweep", "spec.toml", "--out", "run", cwd=folder).returncode == 0
    genonset("export", "run", "after.csv", cwd=folder)
    assert (folder / "before.csv").read_bytes() == (folder / "after.csv").read_bytes()


def test_refusals(tmp_path):
    (tmp_path / "spec.toml").write_text(SPEC)
    (tmp_path / "bad.toml").write_text(SPEC.replace("dim = 4", "dims = 4"))
    refused(genonset("sweep", "none.toml", cwd=tmp_path), "none.toml", "Cannot read")
    refused(genonset("sweep", "bad.toml", cwd=tmp_path), "dims", "unknown option", "dim")
    refused(genonset("onset", "nowhere", cwd=tmp_path), "not a run folder", "genonset sweep")
    refused(genonset("sweep", "spec.toml", "--shard", "3/2", cwd=tmp_path), "3/2")
    refused(genonset("sweep", "spec.toml", "--workers", "0", cwd=tmp_path), "--workers")
    refused(genonset("sweep", "spec.toml", "--executor", "slurm", cwd=tmp_path), "dask")
    refused(genonset("sweep", "spec.toml", "--device", "cuda", cwd=tmp_path), "--device cpu")
    refused(genonset("reproduce", "linear-d17", cwd=tmp_path), "linear-d16", "linear-d100")
    refused(genonset("reproduce", "linear-d16", "--n", "8,x", cwd=tmp_path), "whole numbers")
    refused(genonset("reproduce", "linear-d16", "--variant", "fixed", cwd=tmp_path), "corrected")
    refused(genonset("list", "colours", cwd=tmp_path), "criteria")
    refused(genonset("sweep", "spec.toml", "--colour", cwd=tmp_path), "--colour")
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"spec.toml", "bad.toml"}


def array_spec(tmp_path, points, **changes):
    np.save(tmp_path / "x.npy", points)
    text = SPEC.replace('kind = "gaussian"\ndim = 4', 'kind = "array"\npath = "x.npy"')
    text = text.replace("n_original = 500\nn_generated = 60\n", "")
    for old, new in changes.items():
        text = re.sub(rf"^{old} = .*$", f"{old} = {new}", text, flags=re.MULTILINE)
    (tmp_path / "spec.toml").write_text(text)
    return tmp_path


def test_bad_data_is_refused_before_anything_is_written(tmp_path):
    rng = np.random.default_rng(0)
    good = rng.normal(size=(300, 4))
    array_spec(tmp_path, good, n="[4, 100]")
    refused(genonset("sweep", "spec.toml", cwd=tmp_path), "100", "50")
    nan = good.copy()
    nan[3, 1] = math.nan
    array_spec(tmp_path, nan)
    refused(genonset("sweep", "spec.toml", cwd=tmp_path), "NaN")
    array_spec(tmp_path, np.ones((300, 4)))
    refused(genonset("sweep", "spec.toml", cwd=tmp_path), "points are equal")
    array_spec(tmp_path, good)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:200])
    refused(genonset("sweep", "spec.toml", cwd=tmp_path), "x.npy")
    (tmp_path / "x.npy").unlink()
    refused(genonset("sweep", "spec.toml", cwd=tmp_path), "x.npy")
    assert not (tmp_path / "runs").exists()


def test_duplicates_are_counted_and_removed_on_request(tmp_path):
    points = np.random.default_rng(0).normal(size=(300, 4))
    points[100:110] = points[:10]
    array_spec(tmp_path, points, n="[4, 8]", replicates="3")
    found = genonset("sweep", "spec.toml", "--out", "run", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert "10 duplicate" in found.stderr
    text = (tmp_path / "spec.toml").read_text()
    (tmp_path / "spec.toml").write_text(text.replace("path =", "deduplicate = true\npath ="))
    found = genonset("sweep", "spec.toml", "--out", "other", cwd=tmp_path)
    assert found.returncode == 0, found.stderr


def test_folder_of_another_spec_is_refused(finished, tmp_path):
    folder, _ = finished
    (tmp_path / "other.toml").write_text(SPEC.replace("replicates = 6", "replicates = 5"))
    refused(
        genonset("sweep", tmp_path / "other.toml", "--out", folder / "run", cwd=tmp_path),
        "another spec",
        "replicates",
        "can be extended",
    )


def test_failed_cells_exit_1_and_are_reported(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\ndef fit(training, *, generator):\n"
        "    print('trained')\n"
        "    if len(training) == 8: raise ValueError('<b>eight</b>\\nand more')\n"
        "    return lambda n, g: torch.randn(n, 4, generator=g)\n"
    )
    text = SPEC.replace('kind = "linear_one_step"', 'kind = "python"\ntarget = "mine:fit"')
    (tmp_path / "spec.toml").write_text(text)
    found = genonset("sweep", "spec.toml", "--out", "run", "--json", cwd=tmp_path)
    assert found.returncode == 1, found.stderr
    assert json.loads(found.stdout)["failed"] == 6  # what a model prints is not in the way
    assert "trained" in found.stderr
    page = (tmp_path / "run" / "report.html").read_text()
    assert "&lt;b&gt;eight&lt;/b&gt;\nand more" in page
    assert "6 at n = 8" in page
    assert "<b>eight</b>" not in page


def start(folder, *arguments):
    command = [
        sys.executable,
        "-m",
        "genonset.cli",
        "sweep",
        "spec.toml",
        "--out",
        "run",
        *arguments,
    ]
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    # tests that run in the background of a shell inherit that SIGINT is ignored
    return subprocess.Popen(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    )


def cells_done(folder):
    if not (folder / "run" / "results.sqlite").exists():
        return 0
    found = genonset("status", "run", "--json", cwd=folder)
    return json.loads(found.stdout)["done"] if found.returncode == 0 else 0


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_exits_130_and_resumes(tmp_path, stop):
    (tmp_path / "spec.toml").write_text(SPEC.replace("replicates = 6", "replicates = 3000"))
    process = start(tmp_path)
    while cells_done(tmp_path) == 0:
        assert process.poll() is None
    process.send_signal(stop)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "resume" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "results.lock").exists()
    assert 0 < cells_done(tmp_path) < 12000


def test_folder_in_use_is_refused_with_pid(tmp_path):
    (tmp_path / "spec.toml").write_text(SPEC.replace("replicates = 6", "replicates = 300"))
    process = start(tmp_path)
    try:
        while cells_done(tmp_path) == 0:
            assert process.poll() is None
        refused(genonset("sweep", "spec.toml", "--out", "run", cwd=tmp_path), str(process.pid))
    finally:
        process.kill()
        process.communicate()


def kill_and_resume(folder, spec, kills, workers):
    """Kill a sweep at random moments, resume it, and return its exported table."""
    (folder / "spec.toml").write_text(spec)
    chance = random.Random(1)
    for _ in range(kills):
        process = start(folder, "--workers", str(workers))
        time.sleep(2.5 + 2.5 * chance.random())
        process.kill()
        process.communicate()
    found = genonset("sweep", "spec.toml", "--out", "run", cwd=folder)
    assert found.returncode == 0, found.stderr
    genonset("export", "run", "table.csv", cwd=folder)
    return (folder / "table.csv").read_bytes()


def test_killed_and_resumed_equals_uninterrupted(tmp_path, finished):
    folder, _ = finished
    genonset("export", "run", "table.csv", cwd=folder)
    found = kill_and_resume(tmp_path, SPEC, kills=1, workers=2)
    assert found == (folder / "table.csv").read_bytes()


@pytest.mark.slow
def test_ten_kills_at_random_moments(tmp_path):
    spec = SPEC.replace("replicates = 6", "replicates = 150")
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = kill_and_resume(tmp_path / "whole", spec, kills=0, workers=1)
    assert kill_and_resume(tmp_path / "killed", spec, kills=10, workers=2) == whole


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/proc/self/mounts"),
    reason="mounting a full disk needs root on Linux",
)
def test_full_disk_says_so_and_resumes(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount")
    try:
        (tmp_path / "spec.toml").write_text(SPEC.replace("replicates = 6", "replicates = 25"))
        found = genonset("sweep", "spec.toml", "--out", disk / "run", cwd=tmp_path)
        refused(found, "free space")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        found = genonset("sweep", "spec.toml", "--out", disk / "run", cwd=tmp_path)
        refused(found, "Cannot write")
        subprocess.run(["mount", "-o", "remount,rw,size=20m", str(disk)], check=True)
        found = genonset("sweep", "spec.toml", "--out", disk / "run", cwd=tmp_path)
        assert found.returncode == 0, found.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_help_needs_no_heavy_import(tmp_path):
    code = (
        "import sys\nsys.argv = ['genonset', '--help']\nfrom genonset.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'numpy', 'pydantic', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.rstrip().endswith("[]")
