"""`genonset theory` as a user meets it."""

import csv
import inspect
import io
import json
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout

import matplotlib.image
import numpy as np
import pytest

from genonset import cli, theory
from genonset.experiment import resolve
from genonset.spec import Sweep
from genonset.store import Results, Store
from genonset.sweep import run_sweep


def genonset(*arguments, cwd):
    """Exit code, standard output and standard error of the command line, in this process."""
    out, err, argv, here = io.StringIO(), io.StringIO(), sys.argv, os.getcwd()
    terminate = signal.getsignal(signal.SIGTERM)
    sys.argv = ["genonset", *arguments]
    os.chdir(cwd)
    code = 0
    try:
        with redirect_stdout(out), redirect_stderr(err):
            cli.main()
    except SystemExit as stopped:
        code = stopped.code or 0
    finally:
        sys.argv = argv
        os.chdir(here)
        signal.signal(signal.SIGTERM, terminate)
    return code, out.getvalue(), err.getvalue()


def test_lists_every_prediction_with_its_regime(tmp_path):
    code, out, _ = genonset("theory", cwd=tmp_path)
    assert code == 0
    for name, function in theory.FORMULAS.items():
        block = out[out.index(f"{name}  ") :].split("theory note")[0]
        assert theory.section(function, "Regime") in block
        assert all(argument in block for argument in inspect.signature(function).parameters)
    code, out, _ = genonset("theory", "--json", cwd=tmp_path)
    listed = {entry["name"]: entry for entry in json.loads(out)["theory"]}
    assert set(listed) == set(theory.FORMULAS)
    assert all(entry["regime"] and entry["reference"] for entry in listed.values())


def test_json_is_one_object(tmp_path):
    code, out, _ = genonset("theory", "many-draws-kl", "gamma=2", "u=0.981684", "--json",
                            cwd=tmp_path)  # fmt: skip
    found = json.loads(out)
    assert code == 0
    assert found["name"] == "many_draws_kl"
    assert found["value"]["to_source"] == pytest.approx(0.315396, rel=1e-5)
    assert found["value"]["from_source"] == pytest.approx(2.10022, rel=1e-5)
    assert found["regime"]
    assert found["reference"] == "theory note (B11)."


def test_lists_and_dashes(tmp_path):
    code, out, _ = genonset("theory", "effective-rank", "spectrum=3,3,1,0.1", cwd=tmp_path)
    assert (code, out) == (0, f"effective_rank: {7.1 / 3}\n")
    code, out, _ = genonset("theory", "one_step_second_moment", "dim=8", "n=16", "horizon=2",
                            "noise-scale=0.0183156", "--json", cwd=tmp_path)  # fmt: skip
    assert json.loads(out)["value"] == pytest.approx(32.1008, rel=1e-5)


def test_rough_regime_is_said_beside_the_number(tmp_path):
    code, out, err = genonset("theory", "likelihood-gap", "spectrum=1,1,1", "n=9", "bandwidth=0",
                              cwd=tmp_path)  # fmt: skip
    assert (code, out) == (0, "likelihood_gap: 1.0\n")
    assert "below 10 times the effective dimension" in err


def test_plot_draws_a_curve_with_its_numbers(tmp_path):
    code, _, err = genonset("theory", "one-step-kl-to-source", "gamma=0.5:10:40", "u=1", "--plot",
                            cwd=tmp_path)  # fmt: skip
    assert code == 0, err
    path = tmp_path / "runs" / "theory" / "one_step_kl_to_source"
    rows = list(csv.DictReader(path.with_suffix(".csv").read_text().splitlines()))
    gamma = np.array([float(row["gamma"]) for row in rows])
    values = [float(row["one_step_kl_to_source"]) for row in rows]
    np.testing.assert_array_equal(values, theory.one_step_kl_to_source(gamma, 1.0))
    assert path.with_suffix(".pdf").stat().st_size > 1000
    picture = matplotlib.image.imread(path.with_suffix(".png"))
    assert min(picture.shape[:2]) > 300
    assert picture[..., :3].std() > 0.05


@pytest.mark.parametrize(("arguments", "words"), [
    (["nothing"], ["'nothing'", "one_step_affinity_rate", "label_test"]),
    (["collapse-time", "n=9", "dimension=3"], ["dimension", "n, dim, spectrum, noise_scale=1.0"]),
    (["collapse-time", "dim=3"], ["lacks n"]),
    (["collapse-time", "9"], ["key=value", "'9'"]),
    (["collapse-time", "n=0.5", "dim=3"], ["n is 0.5", "> 1"]),
    (["effective-rank", "spectrum=1,-1"], ["spectrum is -1"]),
    (["one-step-affinity-rate", "gamma=2,3", "u=1,2,3"], ["do not broadcast"]),
    (["one-step-affinity-rate", "gamma=2", "u=1", "--plot"], ["exactly one argument"]),
])  # fmt: skip
def test_refusals(tmp_path, arguments, words):
    code, out, err = genonset("theory", *arguments, cwd=tmp_path)
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    for word in words:
        assert word in err


SPEC = """
name = "dims"
replicates = 8
n = [6, 12, 24, 48]
n_original = 100
criteria = ["kernel_l2"]
axes = { "source.dim" = [2, 4, 8] }
[source]
kind = "gaussian"
dim = 2
[model]
kind = "linear_one_step"
"""


def run(folder, name, text):
    """A finished run without its report."""
    (folder / f"{name}.toml").write_text(text)
    sweep = resolve(Sweep.from_toml(folder / f"{name}.toml"))
    with Store(folder / name, sweep) as store:
        run_sweep(sweep, store)


def test_scaling_of_a_run(tmp_path):
    run(tmp_path, "dims", SPEC)
    code, out, _ = genonset("onset", "dims", "--scaling", "--json", cwd=tmp_path)
    found = json.loads(out)
    assert code == 0
    assert found["criterion"] == "delta_held_out"
    assert found["degrees"] == 3 * 4 - 4
    assert {"exponent", "low", "high", "sharpening", "deviance", "linear_p_value"} <= set(found)
    code, out, err = genonset("onset", "dims", "--scaling", "--criterion", "mmd", cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "has no onset for 'mmd'; choose from delta, delta_held_out" in err
    run(tmp_path, "flat", SPEC.replace('axes = { "source.dim" = [2, 4, 8] }', ""))
    code, _, err = genonset("onset", "flat", "--scaling", cwd=tmp_path)
    assert code == 2
    assert "source.dim" in err


SPECTRA = SPEC.replace(
    'axes = { "source.dim" = [2, 4, 8] }',
    'axes = { "source.spectrum.exponent" = [0.0, 1.0, 2.0], "model.ridge" = [0.0, 0.1] }',
).replace("dim = 2", 'dim = 6\nspectrum = { kind = "power_law", exponent = 1.0 }')
SPECTRA = SPECTRA.replace('["kernel_l2"]', '["kernel_l2", "bures_wasserstein"]')


def test_scaling_with_a_rank_of_the_spectrum(tmp_path):
    """One scaling for each value of an axis that is not the source's."""
    run(tmp_path, "spectra", SPECTRA)
    scaling = ("onset", "spectra", "--scaling", "--criterion", "bures_wasserstein")
    code, out, err = genonset(*scaling, "--against", "effective_rank", "--json", cwd=tmp_path)
    assert code == 0, err
    found = json.loads(out)["scalings"]
    assert [f["model.ridge"] for f in found] == [0.0, 0.1]
    assert all(f["against"] == "effective_rank" and f["degrees"] == 3 * 4 - 4 for f in found)
    c = np.arange(1, 7) ** -2.0
    results = Results(tmp_path / "spectra")
    setting = {"source.spectrum.exponent": 2.0, "model.ridge": 0.1}
    assert results.scale("effective_rank", setting) == pytest.approx(c.sum() / c[0])
    assert results.scale("participation_ratio", setting) == pytest.approx(
        c.sum() ** 2 / (c**2).sum()
    )
    assert results.scale("rank", setting) == results.scale("dim", setting) == 6
    assert results.scale("model.ridge", setting) == 0.1
    code, _, err = genonset(*scaling, "--against", "rank", cwd=tmp_path)
    assert code == 2
    assert "one rank only" in err
    code, _, err = genonset(*scaling, "--against", "width", cwd=tmp_path)
    assert code == 2
    assert "effective_rank" in err


def test_onset_of_a_published_curve(tmp_path):
    (tmp_path / "curve.csv").write_text(
        "n,rate,trials\n30,.95,20\n60,.8,20\n120,.45,20\n240,.1,20\n"
    )
    code, out, _ = genonset("onset", "curve.csv", cwd=tmp_path)
    assert (code, out) == (0, "n* = 106 [82, 138]   (rate = 0.5, logistic law)\n")
    code, out, _ = genonset("onset", "curve.csv", "--law", "exponential", "--json", cwd=tmp_path)
    found = json.loads(out)
    assert (found["law"], found["censored"]) == ("exponential", "no")
    assert found["low"] < found["onset"] < found["high"]
    for words in (["--law", "cubic"], ["absent.csv"], ["--suggest"], ["--criterion", "delta"]):
        arguments = words if words[0].endswith(".csv") else ["curve.csv", *words]
        code, out, err = genonset("onset", *arguments, cwd=tmp_path)
        assert (code, out) == (2, "")
        assert "Traceback" not in err
