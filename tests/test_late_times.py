"""The linear share of exact scores and the own term of the empirical score, by other routes."""

import math

import numpy as np
import pytest
import torch

from genonset.denoisers import linear_share
from genonset.errors import ConfigError, DataError
from genonset.experiment import resolve, run_cell
from genonset.figures import all_figures, expected_times
from genonset.noise import OrnsteinUhlenbeck
from genonset.seeds import generator
from genonset.sources import Empirical, Gaussian, GaussianMixture
from genonset.spec import Sweep, shipped
from genonset.store import Results, Store
from genonset.sweep import run_sweep

MIXTURE = GaussianMixture(
    [0.3, 0.7], [[2.0, 0.0], [-1.0, 1.0]], torch.tensor([[0.4, 1.0], [1.0, 0.2]])
)
POINTS = torch.randn(7, 2, dtype=torch.float64, generator=generator(3, "points")) + 1.0


def scales(t):
    return math.exp(-t), math.sqrt(-math.expm1(-2 * t))


def regressed(source, alpha, sigma, n=200_000):
    """R² of score and clean mean by least squares on draws; the score by autograd."""
    draws = generator(4, "draws")
    x = alpha * source.sample(n, generator=draws)
    x = (x + sigma * torch.randn(x.shape, dtype=torch.float64, generator=draws)).requires_grad_()
    (score,) = torch.autograd.grad(source.log_density(x, alpha, sigma).sum(), x)
    x = x.detach()
    clean = (x + sigma**2 * score) / alpha
    inputs = torch.cat([x, torch.ones(n, 1, dtype=torch.float64)], 1)

    def share(y):
        left = y - inputs @ torch.linalg.lstsq(inputs, y).solution
        return 1 - float(left.square().sum() / (y - y.mean(0)).square().sum())

    return share(score), share(clean)


@pytest.mark.parametrize("t", [0.1, 0.5, 1.5])
@pytest.mark.parametrize("source", [MIXTURE, Empirical(POINTS)])
def test_linear_share_is_the_r_squared_of_a_regression(source, t):
    found = linear_share(source, *scales(t), n_draws=100_000, generator=generator(5))
    assert found == pytest.approx(regressed(source, *scales(t)), abs=0.01)
    assert found.clean < 0.99


@pytest.mark.parametrize("covariance", [2.0, [3.0, 0.1, 0.0]])
def test_a_gaussian_score_is_linear_at_every_time(covariance):
    source = Gaussian(torch.ones(3), torch.tensor(covariance))
    for t in (0.01, 0.5, 4.0):
        found = linear_share(source, *scales(t), generator=generator(0))
        assert found == pytest.approx((1, 1), abs=1e-12)


def test_linear_share_of_images_is_that_of_their_pixels():
    images = Empirical(POINTS.repeat(1, 2).reshape(7, 1, 2, 2))
    rows = Empirical(POINTS.repeat(1, 2))
    found = [linear_share(law, *scales(0.3), generator=generator(0)) for law in (images, rows)]
    assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_one_point_has_no_linear_share():
    with pytest.raises(DataError, match="two or more"):
        linear_share(Empirical(torch.ones(3, 2)), 0.5, 0.5, generator=generator(0))


@pytest.mark.parametrize("n", [3, 2500])  # one tile of points, and three
def test_own_log_odds_are_those_of_brute_force_weights(n):
    points = torch.randn(n, 5, dtype=torch.float64, generator=generator(6))
    own = torch.arange(n)[-3:]
    alpha, sigma = scales(0.4)
    x_t = alpha * points[own] + sigma * torch.randn(3, 5, dtype=torch.float64,
                                                    generator=generator(7))  # fmt: skip
    found = Empirical(points).own_log_odds(x_t, alpha, sigma, own)
    logits = -((x_t[:, None] - alpha * points) ** 2).sum(2).numpy() / (2 * sigma**2)
    for row, one, odds in zip(logits, own.tolist(), found.tolist(), strict=True):
        rest = np.logaddexp.reduce(np.delete(row, one))
        assert odds == pytest.approx(row[one] - rest, abs=1e-9)
    weight = Empirical(points).posterior(x_t, alpha, sigma, own=own).own
    torch.testing.assert_close(weight, torch.sigmoid(found), rtol=1e-9, atol=1e-12)


def test_own_log_odds_do_not_saturate():
    points = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    odds = Empirical(points).own_log_odds(points[:1], 1.0, 0.01, torch.tensor([0]))
    assert odds.tolist() == [pytest.approx(5000)]


def cut(**changes):
    options = shipped("late-times").model_dump(mode="json", exclude_none=True)
    return resolve(Sweep.from_options(options | changes))


def ran(sweep, folder):
    with Store(folder, sweep) as store:
        run_sweep(sweep, store)
    return Results(folder)


def test_cells_measure_the_law_they_model():
    laws = {"a": {"model.law": "source"}, "b": {"model.law": "training"}}
    sweep = cut(n=[16], replicates=1, variants=laws, axes={})
    one, two = (run_cell(cell).values["model"] for _, cell in sweep.cells())
    assert one["linear_share"] == pytest.approx(1, abs=1e-12)
    assert two["linear_share"] < 1
    assert one["own_log_odds"] == two["own_log_odds"]


def test_late_times_are_drawn_with_their_predictions(tmp_path):
    variants = {k: v for k, v in shipped("late-times").variants.items() if "digits" not in k}
    variants.pop("glyphs")
    results = ran(
        cut(replicates=3, variants=variants, axes={"model.noise.horizon": [0.1, 1.0, 4.0]}),
        tmp_path,
    )
    late, own = all_figures(results)
    assert (late.name, own.name) == ("late-times", "own-term")
    last = [r for r in late.rows if r["model.noise.horizon"] == 4.0]
    assert all(r["value"] > 0.99 for r in last)
    assert {r["criterion"] for r in last} == {"linear_share", "linear_share_clean"}
    assert all("typical" in r for r in own.rows)
    assert "two classes, true law" not in {r["variant"] for r in own.rows}


def test_expected_times_are_those_of_the_theory():
    sweep = shipped("late-times")
    names = ("gaussian, d = 16", "two classes, d = 8")
    settings = [s for s in sweep.settings() if s["variant"] in names]
    times = {s["variant"]: expected_times(sweep.measurement(s), [32]) for s in settings}
    flat, classes = (times[name] for name in names)
    assert flat.relaxation == pytest.approx(math.log(2) / 2)
    assert flat.speciation is None
    assert flat.collapse[32] == pytest.approx(math.log1p(1 / (32 ** (2 / 16) - 1)) / 2)
    # |mu|² = 32 and unit covariance: the largest eigenvalue is 33
    assert classes.relaxation == pytest.approx(math.log(34) / 2)
    assert classes.speciation == pytest.approx(math.log(32) / 2)


def test_limits_are_drawn_for_isotropic_gaussians(tmp_path):
    options = shipped("collapse-limits").model_dump(mode="json", exclude_none=True)
    options |= {"n": [32, 512], "replicates": 3, "axes": {"source.dim": [4, 64]}}
    (drawn,) = all_figures(ran(resolve(Sweep.from_options(options)), tmp_path))
    assert drawn.name == "limits"
    for row in drawn.rows:
        # t_C lies 4 to 13 % above the prediction (theory note (D3)): the ratio below its limit
        expected = -math.expm1(-2 * row["load"])
        assert 0.6 * expected < row["value"] < expected


def test_late_times_need_a_noise_table():
    with pytest.raises(ConfigError, match="late_times"):
        Sweep.from_options(
            {
                "name": "x",
                "replicates": 1,
                "n": [8],
                "criteria": ["late_times"],
                "source": {"kind": "gaussian", "dim": 2},
                "model": {"kind": "python", "target": "a:b"},
            }
        )


def test_noise_other_than_ornstein_uhlenbeck_has_no_expected_times():
    assert OrnsteinUhlenbeck(horizon=2.0).noise_scale == 1.0
    options = shipped("late-times").model_dump(mode="json", exclude_none=True)
    options |= {"axes": {}, "variants": {}}
    options["model"]["noise"] = {"kind": "variance_preserving"}
    assert expected_times(Sweep.from_options(options).measurement({}), [32]) is None
