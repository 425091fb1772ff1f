"""Nested designs: which draws repeat, and what each source of randomness adds to the variance."""

import numpy as np
import pytest
import torch
from scipy.stats import f_oneway

from genonset.errors import ConfigError, DataError
from genonset.estimates import _components, variance_components
from genonset.experiment import draw_points, resolve, run_cell
from genonset.figures import all_figures
from genonset.spec import Cell, Sweep
from genonset.store import Results, Store
from genonset.sweep import run_sweep

OPTIONS = {
    "name": "nested",
    "replicates": 12,
    "n": [6],
    "n_original": 40,
    "n_generated": 20,
    "criteria": ["kernel_l2", "label_test", "spread_ratio"],
    "source": {"kind": "gaussian", "dim": 2},
    "model": {"kind": "linear_one_step"},
}
NETWORK = {
    "kind": "mlp",
    "width": 4,
    "steps": 3,
    "sampler": {"kind": "ddim", "n_steps": 2},
}


def sweep(**changes):
    return resolve(Sweep.from_options(OPTIONS | changes))


def cells(**changes):
    return [cell for _, cell in sweep(**changes).cells()]


def nested_draws(rng, shape, sds):
    """y = a_i + b_ij + c_ijk + ..., with the standard deviation of each level."""
    total = np.zeros(shape)
    for level, sd in enumerate(sds):
        own = rng.standard_normal(shape[: level + 1]) * sd
        total += own.reshape(own.shape + (1,) * (len(shape) - level - 1))
    return total


def test_components_are_unbiased():
    # means over 4000 designs, four standard errors each: a false alarm in 1 of 5000 seeds
    rng, sds = np.random.default_rng(0), (1.0, 0.5, 0.0, 2.0)
    runs = np.array([_components(nested_draws(rng, (3, 2, 4, 2), sds), 0) for _ in range(4000)])
    error = runs.std(0) / np.sqrt(len(runs))
    np.testing.assert_array_less(np.abs(runs.mean(0) - np.square(sds)), 4 * error)


def test_two_levels_give_the_f_ratio_of_scipy():
    values = nested_draws(np.random.default_rng(1), (5, 7), (1.0, 1.0))
    between, within = (one.value for one in variance_components(values))
    ratio = f_oneway(*values).statistic
    assert (between * 7 + within) / within == pytest.approx(ratio, rel=1e-12)


def test_components_of_shares_sum_to_the_variance_of_one_run():
    # law of total variance: P has law uniform on [0, 1], so Var P = 1/12 and the rest is 1/6
    rng = np.random.default_rng(2)
    values = rng.random((20_000, 1)) > rng.random((20_000, 3))
    between, within = (one.value for one in variance_components(values, n_resamples=20))
    assert between == pytest.approx(1 / 12, abs=0.01)
    assert within == pytest.approx(1 / 6, abs=0.01)


@pytest.mark.slow
def test_intervals_of_components_cover():
    # 300 designs of 40 outer draws; 95 % nominal, bootstraps of variances fall short of it
    rng, found = np.random.default_rng(3), np.zeros(3)
    for _ in range(300):
        for k, one in enumerate(
            variance_components(nested_draws(rng, (40, 2, 2), (1.0, 0.7, 1.0)), n_resamples=500)
        ):
            found[k] += one.low <= (1.0, 0.49, 1.0)[k] <= one.high
    print(found / 300)
    assert (found / 300 > 0.87).all()


def test_designs_that_cannot_be_decomposed_are_refused():
    for values in (1.0, [1.0, 2.0], [[1.0]] * 5, [[1.0, np.inf]] * 5):
        with pytest.raises(DataError):
            variance_components(values)


def test_kept_draws_repeat_and_all_others_change():
    one, two, later = (cells(kept_for={"data": 2})[k] for k in (0, 1, 2))
    a, b, c = (draw_points(cell) for cell in (one, two, later))
    assert torch.equal(a.training, b.training)
    assert not torch.equal(a.training, c.training)
    for name in ("held_out", "null", "original", "oracle"):
        assert not torch.equal(getattr(a, name), getattr(b, name))
    plain = [draw_points(cell) for cell in cells()]
    assert torch.equal(a.training, plain[0].training)
    assert torch.equal(c.training, plain[1].training)
    assert torch.equal(b.held_out, plain[1].held_out)


@pytest.mark.parametrize(
    ("model", "draw", "changed"),
    [
        (OPTIONS["model"], "training_noise", True),
        (OPTIONS["model"], "initialization", False),
        (NETWORK, "training_noise", True),
        (NETWORK, "initialization", True),
        (NETWORK, "sampling", True),
        (NETWORK, "evaluation", False),
    ],
)
def test_one_source_alone_changes_the_samples(model, draw, changed):
    # everything but one source is kept for both replicates
    from genonset.spec import DRAWS

    kept = {name: 12 for name in DRAWS if name != draw}
    one, two = (
        run_cell(cell).values["model"]["spread_ratio"]
        for cell in cells(model=model, kept_for=kept)[:2]
    )
    assert (one != two) == changed


def test_a_network_without_kept_draws_is_what_it_was():
    plain, kept = cells(model=NETWORK)[1], cells(model=NETWORK, kept_for={"data": 1})[1]
    assert run_cell(plain).values == run_cell(kept).values
    assert "kept_for" in kept.model_dump_json()
    assert kept.key != plain.key


def test_keys_of_cells_without_it_do_not_know_the_option():
    cell = cells()[0]
    old = cell.model_dump(mode="json")
    assert old.pop("kept_for") == {}
    from genonset.spec import SCHEMA, _digest

    assert old.pop("edition") == SCHEMA
    assert cell.key == _digest([SCHEMA, old])
    assert cell.common_key != cells(kept_for={"evaluation": 12})[0].common_key


def test_levels_and_refusals():
    kept = {"data": 6, "initialization": 3, "training_noise": 3}
    assert sweep(kept_for=kept).levels() == [
        (("data",), 2),
        (("initialization", "training_noise"), 2),
        (("sampling", "evaluation"), 3),
    ]
    assert sweep(kept_for={"data": 12}).levels()[0][1] == 12  # one data set: no level of its own
    for wrong in ({"data": 5}, {"data": 6, "sampling": 4}, {"colour": 2}, {"data": 0}):
        with pytest.raises(ConfigError, match="kept_for"):
            sweep(kept_for=wrong)
    with pytest.raises(ConfigError, match="replicates_at"):
        sweep(kept_for={"data": 2}, replicates_at={6: 24})


def test_components_of_a_run(tmp_path):
    chosen = sweep(kept_for={"data": 4, "training_noise": 2})
    with Store(tmp_path, chosen) as store:
        run_sweep(chosen, store)
    results = Results(tmp_path)
    found = results.components("train_bias", 6)
    values = results.matrix("train_bias")[:, 0]
    # three data sets, each with two draws of noise, each with two of the rest
    direct = np.mean([np.var(v, ddof=1) for v in values.reshape(6, 2)])
    assert len(found) == 3
    assert found[-1].value == pytest.approx(direct)
    (drawn,) = all_figures(results)
    assert drawn.name == "components"
    shares = [r["value"] for r in drawn.rows if r["criterion"] == "train_bias"]
    assert sum(shares) == pytest.approx(1)
    assert [r["source"] for r in drawn.rows][:3] == [
        "data",
        "training noise",
        "sampling, evaluation",
    ]
    assert {r["criterion"] for r in drawn.rows} >= {"delta_held_out_positive"}


def test_runs_without_a_nested_design_have_no_components(tmp_path):
    chosen = sweep(replicates=3)
    with Store(tmp_path, chosen) as store:
        run_sweep(chosen, store)
    with pytest.raises(DataError, match="kept_for"):
        Results(tmp_path).components("train_bias", 6)


def test_finite_data_keep_their_split_with_the_data():
    kept = cells(
        source={"kind": "digits"}, kept_for={"data": 2}, n_original=None, n_generated=None
    )
    a, b = (draw_points(cell) for cell in kept[:2])
    assert torch.equal(a.training, b.training)
    assert torch.equal(a.held_out, b.held_out)
    assert isinstance(kept[0], Cell)
