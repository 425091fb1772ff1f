"""One cell: its poles are where they must be, its draws are shared, its numbers repeat."""

import math

import pytest
import torch

from genonset import distances, experiment
from genonset.distances import Smoothed
from genonset.errors import ConfigError
from genonset.experiment import attempt_cell, build, draw_points, floor_values, resolve, run_cell
from genonset.sources import Gaussian
from genonset.spec import Sweep

ALL = ["kernel_l2", "coordinate_kernel_l2", "hellinger_squared", "affinity_rate", "kl_to_source",
       "kl_from_source", "bures_wasserstein", "wasserstein", "sliced_wasserstein",
       "energy_distance", "mmd", "log_likelihood_gap", "memorized_fraction", "label_test",
       "spread_ratio", "overlap"]  # fmt: skip


def sweep(**changes):
    options = {
        "name": "t",
        "replicates": 2,
        "n": [12, 30],
        "n_original": 300,
        "n_generated": 100,
        "criteria": ALL,
        "source": {"kind": "gaussian", "dim": 8, "mean": 2.0},
        "model": {
            "kind": "linear_one_step",
            "noise": {"kind": "ornstein_uhlenbeck", "noise_scale": 0.0183},
        },
    }
    return resolve(Sweep.from_options(options | changes))


def cells(**changes):
    return [cell for _, cell in sweep(**changes).cells()]


def test_poles_are_where_they_must_be():
    values = run_cell(cells()[1]).values
    memorizer, oracle = values["memorizer"], values["oracle"]
    assert memorizer["memorized_fraction"] == 1.0
    assert memorizer["train_bias"] == 1.0
    assert memorizer["train_bias_p"] < 1e-6
    assert memorizer["copying"] == 1.0
    assert memorizer["delta_held_out_log_ratio"] > 0
    assert memorizer["kl_to_source"] == math.inf
    assert memorizer["hellinger_squared"] == 1.0
    assert oracle["memorized_fraction"] < 0.1
    assert oracle["overlap"] == pytest.approx(1.0)
    assert abs(memorizer["overlap"]) < 0.3
    assert oracle["kl_to_source"] == pytest.approx(0.0, abs=1e-12)
    assert oracle["spread_ratio"] == pytest.approx(1.0)
    assert set(values["model"]) == set(oracle) == set(memorizer)
    # the null replaces the training set, so quality and overlap have no null of their own
    assert "bures_wasserstein" not in values["null"]
    assert {"delta_held_out", "train_bias", "memorized_fraction"} <= set(values["null"])


def test_delta_is_the_difference_of_the_errors_where_that_can_be_told():
    values = run_cell(cells()[1]).values
    for role in ("model", "memorizer", "oracle"):
        v = values[role]
        difference = v["kernel_l2_training"] - v["kernel_l2_original"]
        assert v["delta"] == pytest.approx(difference, rel=1e-6)
        assert (v["delta_log_ratio"] < 0) == (v["delta"] > 0)


def test_same_cell_same_numbers_and_common_numbers_change_nothing():
    first, second = cells()[:2]
    alone = run_cell(second)
    after = run_cell(second, run_cell(first).common)
    assert alone.values == after.values == run_cell(second).values
    assert first.common_key == second.common_key
    assert run_cell(first).common == alone.common


def test_draws_are_shared_as_the_design_says():
    small, large = (draw_points(cell) for cell in cells()[:2])
    other = draw_points(cells()[2])
    assert torch.equal(small.original, large.original)
    assert torch.equal(small.oracle, large.oracle)
    assert not torch.equal(small.original, other.original)
    # nothing is drawn twice: all five sets of a cell are different points
    pooled = torch.cat([large.training, large.held_out, large.null, large.original, large.oracle])
    assert len(pooled.unique(dim=0)) == len(pooled)


def test_null_is_blind_to_the_training_set():
    """The null's label-test share has mean 1/2: 40 cells, 4 standard errors, false alarm 1e-4."""
    shares = [
        run_cell(c).values["null"]["train_bias"]
        for c in cells(criteria=["label_test"], replicates=40, n=[12])
    ]
    error = torch.tensor(shares).std() / 40**0.5
    assert abs(sum(shares) / 40 - 0.5) < 4 * error


@pytest.mark.parametrize("rule", ["paper", "shared", "scott", "cross_validated", 0.7])
def test_bandwidth_rules(rule):
    cell = cells(criteria=["kernel_l2"], bandwidth=rule)[0]
    values = run_cell(cell).values["model"]
    points, d = draw_points(cell), 8
    pooled = torch.cat([points.training, points.held_out])
    width = {
        "paper": 12 ** (-1 / d),
        "shared": 12 ** (-1 / d),
        "scott": 12 ** (-1 / (d + 4)),
        "cross_validated": distances.kernel_bandwidth(
            "cross_validated", 12, d, 1.0, points=pooled
        ),
        0.7: 0.7,
    }[rule]
    wide = {"paper": 300 ** (-1 / d), "scott": 300 ** (-1 / (d + 4))}.get(rule, width)
    law = cell.model.fit(points.training, generator=_training_noise(cell)).law
    expected = [
        distances.kernel_l2(distances.kernel_terms(law, Smoothed(points=p, bandwidth=w)))
        for p, w in ((points.training, width), (points.original, wide))
    ]
    found = [values["kernel_l2_training"], values["kernel_l2_original"]]
    assert found == pytest.approx(expected, rel=1e-12)
    assert values["delta"] == pytest.approx(expected[0] - expected[1], rel=1e-6)


def test_expected_original_is_the_mean_over_drawn_ones():
    """E_OG and its terms are linear in the set's law: 200 sets, 4 standard errors (1e-4)."""
    (expected,) = cells(criteria=["kernel_l2"], original="expected", replicates=1, n=[30])
    (drawn,) = cells(criteria=["kernel_l2"], replicates=1, n=[30])
    world, points = build(drawn.source), draw_points(drawn)
    width = distances.kernel_bandwidth("paper", 300, 8, world.std)
    model = drawn.model.fit(points.training, generator=_training_noise(drawn))
    found = run_cell(expected).values
    for role, law in (
        ("model", model.law),
        ("memorizer", Smoothed(points=points.training, bandwidth=0.0)),
    ):
        errors = [
            distances.kernel_l2(
                distances.kernel_terms(
                    law,
                    Smoothed(
                        points=world.sample(300, generator=torch.Generator().manual_seed(i)),
                        bandwidth=width,
                    ),
                )
            )
            for i in range(200)
        ]
        error = torch.tensor(errors).std() / 200**0.5
        assert abs(found[role]["kernel_l2_original"] - sum(errors) / 200) < 4 * error
    drawn_values = run_cell(drawn).values["model"]
    assert found["model"]["delta_held_out"] == drawn_values["delta_held_out"]
    with pytest.raises(ConfigError, match="expected"):
        sweep(criteria=["kernel_l2"], original="expected", source={"kind": "digits"})


def _training_noise(cell):
    from genonset import seeds

    return seeds.generator(cell.seed, "training noise", cell.replicate, cell.n)


def test_drawable_sources_and_finite_data_run():
    criteria = ["kernel_l2", "label_test", "sliced_wasserstein", "bures_wasserstein", "overlap"]
    for source in ({"kind": "two_moons", "dim": 3}, {"kind": "circle"}, {"kind": "digits"}):
        values = run_cell(cells(criteria=criteria, source=source, n=[20])[0]).values
        assert all(math.isfinite(v) for role in values.values() for v in role.values())


def test_singular_source_runs():
    source = {"kind": "gaussian", "dim": 6, "spectrum": {"kind": "low_rank", "rank": 3}}
    values = run_cell(cells(source=source)[0]).values
    assert values["oracle"]["kl_to_source"] == pytest.approx(0.0, abs=1e-9)
    assert values["model"]["bures_wasserstein"] < 3


def test_floor_is_the_limit_of_many_points():
    one = sweep(
        n=[4000],
        criteria=[
            "bures_wasserstein",
            "kl_to_source",
            "kl_from_source",
            "hellinger_squared",
            "affinity_rate",
            "spread_ratio",
        ],
    )
    floors = floor_values(one)
    values = run_cell(next(one.cells())[1]).values["model"]
    for name, floor in floors.items():
        assert values[name] == pytest.approx(floor, rel=0.1)
    assert isinstance(build(one.source), Gaussian)


def test_sizes_that_do_not_fit_are_refused_with_those_that_do():
    with pytest.raises(ConfigError, match="299"):
        sweep(
            source={"kind": "digits"},
            criteria=["label_test"],
            n=[8, 400],
            n_original=None,
            n_generated=None,
        )


def test_changed_data_are_noticed(tmp_path):
    import numpy as np

    path = tmp_path / "x.npy"
    rng = np.random.default_rng(0)
    np.save(path, rng.normal(size=(100, 3)))
    options = {
        "source": {"kind": "array", "path": str(path)},
        "criteria": ["label_test"],
        "n": [4],
        "n_original": None,
        "n_generated": None,
    }
    resolved = sweep(**options)
    assert len(resolved.source.sha256) == 64
    np.save(path, rng.normal(size=(100, 3)))
    experiment._build.cache_clear()
    with pytest.raises(ConfigError, match="changed"):
        resolve(resolved)


def python_model(tmp_path, monkeypatch, body):
    (tmp_path / "mine.py").write_text(f"import torch\ndef fit(training, *, generator):\n{body}\n")
    monkeypatch.chdir(tmp_path)
    model = {"kind": "python", "target": "mine:fit"}
    return cells(model=model, criteria=["label_test", "kernel_l2", "memorized_fraction"])[0]


def test_python_model_runs(tmp_path, monkeypatch):
    cell = python_model(
        tmp_path,
        monkeypatch,
        "    return lambda n, g: training[torch.randint(len(training), (n,), generator=g)]",
    )
    values = run_cell(cell).values
    assert values["model"]["memorized_fraction"] == 1.0
    assert values["model"]["train_bias"] == 1.0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    raise RuntimeError('no luck')", "no luck"),
        ("    return None", "must return a function"),
        ("    return lambda n, g: training[:3]", "asked for 100 samples"),
        ("    return lambda n, g: torch.full((n, 8), float('nan'))", "NaN"),
        ("    return lambda n, g: 100 + torch.rand(n, 8) * 255", "--allow-mixed-units"),
    ],
)
def test_python_models_that_fail_are_stored_with_their_reason(tmp_path, monkeypatch, body, said):
    result = attempt_cell(python_model(tmp_path, monkeypatch, body))
    assert result.status == "failed"
    assert said in result.traceback


def test_python_model_comes_from_the_current_folder_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="current folder only"):
        cells(model={"kind": "python", "target": "json:loads"}, criteria=["label_test"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def other(training, *, generator): ...", "no function 'fit'"),
        ("import nowhere_to_be_found", "importing it failed with ModuleNotFoundError"),
        ("def fit(:", "importing it failed with SyntaxError"),
    ],
)
def test_python_model_is_imported_before_anything_runs(tmp_path, monkeypatch, body, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(ConfigError, match=said):
        cells(model={"kind": "python", "target": "mine:fit"}, criteria=["label_test"])


def test_another_python_model_in_the_same_file_is_another_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = set()
    for scale in (1, 2, 1):
        (tmp_path / "mine.py").write_text(
            f"def fit(training, *, generator):\n    return lambda n, g: {scale} * training[:n]\n"
        )
        asked = cells(model={"kind": "python", "target": "mine:fit"}, criteria=["label_test"])
        keys.add(asked[0].key)
    assert len(keys) == 2
