"""Figures draw what the table holds, say what they cannot, and are the same bytes every time."""

import csv
import io
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy import integrate, stats

from genonset import distances, figures, seeds
from genonset.criteria import GROUPS, Reference
from genonset.distances import Smoothed
from genonset.errors import DataError, StoreError
from genonset.experiment import Result, resolve
from genonset.figures import REGIMES, all_figures, curve, median_interval, onset_words
from genonset.noise import OrnsteinUhlenbeck
from genonset.published import PublishedArithmetic
from genonset.sources import Gaussian
from genonset.spec import Sweep
from genonset.store import Results, Store

N = [8, 12, 18, 27, 40, 60, 90, 135]
CRITERIA = [
    "kernel_l2",
    "kl_to_source",
    "affinity_rate",
    "sliced_wasserstein",
    "label_test",
]


def progress(n, middle=30.0):
    """A curve from 0 to 1 that is halfway at `middle`."""
    return 1 / (1 + (middle / n) ** 4)


def invented(n, rng):
    """Numbers of one cell of a model that is train-biased below n = 30 and never copies."""
    p = progress(n)
    biased = rng.random() > p
    unit = (4 * math.pi) ** -2  # the self overlap of a unit Gaussian at d = 4
    infinite = math.inf if n < 20 else 6 + 1000 * (20 / n) ** 3
    model = {
        "kernel_l2_training": unit * (p - 3 + rng.normal() / 10),
        "kernel_l2_original": unit * (p + rng.normal() / 10),
        "delta": 0.0,
        "delta_log_ratio": 2 * (0.5 - p) + rng.normal() / 3,
        "delta_held_out": 0.0,
        "delta_held_out_log_ratio": stats.norm.ppf(1 - p / 2) + rng.normal(),
        "kl_to_source": infinite * math.exp(rng.normal() / 4),
        "affinity_rate": 0.8 * p,
        "sliced_wasserstein": 0.12 + rng.random() / 50,
        "train_bias": 1 - p / 2 + rng.normal() / 50,
        "train_bias_z": 3.0,
        "train_bias_p": 0.001 if biased else 0.1 + 0.8 * rng.random(),
        "copying": rng.normal() / 1000,
        "copying_p": 0.1 + 0.8 * rng.random(),
    }
    pole = {name: 1.0 + rng.normal() / 1000 for name in model} | {"kl_to_source": math.inf}
    oracle, null = (
        model
        | {
            "delta_log_ratio": -1.0,
            "delta_held_out_log_ratio": rng.normal(),
            "kl_to_source": 0.0,
            "affinity_rate": 1.0,
            "sliced_wasserstein": 0.1,
            "train_bias": 0.5 + rng.normal() / 50,
            "copying": rng.normal() / 1000,
        }
        for _ in range(2)
    )
    return {"model": model, "memorizer": pole, "oracle": oracle, "null": null}


def run(folder, *, values=invented, keep=lambda cell: True, failed=(), **options):
    """A run folder with invented numbers; `failed` maps places in the grid to tracebacks."""
    options = {
        "name": "invented", "replicates": 20, "n": N, "n_original": 1000, "n_generated": 500,
        "criteria": CRITERIA, "source": {"kind": "gaussian", "dim": 4},
        "model": {"kind": "linear_one_step"},
    } | options  # fmt: skip
    sweep = resolve(Sweep.from_options(options))
    rng = np.random.default_rng(0)
    with Store(folder, sweep) as store:
        for place, (_, cell) in enumerate(sweep.cells()):
            if place in dict(failed):
                store.add(Result(key=cell.key, status="failed", traceback=dict(failed)[place]))
            elif keep(cell):
                table = values(cell.n, rng)
                store.add(Result(key=cell.key, status="done", values=table, seconds=0.25))
    return Results(folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "invented", replicates=60)


@pytest.fixture(scope="module")
def drawn(results):
    return {figure.name: figure for figure in all_figures(results)}


def pick(rows, **wanted):
    return [row for row in rows if all(row[k] == v for k, v in wanted.items())]


def texts(figure):
    """All text on a figure."""
    found = [t.get_text() for axes in figure.axes for t in [*axes.texts, axes._left_title]]
    return "\n".join(found + [t.get_text() for legend in figure.legends for t in legend.texts])


# -- rows --------------------------------------------------------------------------------------


def test_shares_are_the_signs_of_the_log_ratio_with_the_interval_of_wilson(results, drawn):
    table = results.matrix("delta_held_out_log_ratio", "model")
    rows = pick(drawn["position"].rows, role="model")
    assert [row["n"] for row in rows] == N
    z = stats.norm.ppf(0.975)
    for row, column in zip(rows, table.T, strict=True):
        m, share = len(column), float(np.mean(column < 0))
        assert row["value"] == share
        assert row["runs"] == m
        # Wilson's ends solve (p - share)² = z² p (1 - p) / m
        ends = np.roots([1 + z**2 / m, -2 * share - z**2 / m, share**2])
        assert sorted([row["low"], row["high"]]) == pytest.approx(sorted(ends), abs=1e-9)


def test_means_leave_out_missing_runs_and_agree_with_student(tmp_path):
    found = run(tmp_path / "run", keep=lambda cell: cell.replicate > 3 or cell.n > 20)
    rows = pick(curve(found, "train_bias", "model", {}, statistic="mean"), n=18)
    values = found.matrix("train_bias")[:, 2]
    assert np.isnan(values[:4]).all()
    assert rows[0]["value"] == pytest.approx(np.mean(values[4:]), abs=1e-15)
    assert rows[0]["runs"] == 16
    student = stats.t.interval(0.95, 15, np.mean(values[4:]), stats.sem(values[4:]))
    width = student[1] - student[0]
    assert rows[0]["low"] == pytest.approx(student[0], abs=0.15 * width)
    assert rows[0]["high"] == pytest.approx(student[1], abs=0.15 * width)


@pytest.mark.parametrize("m", [6, 7, 20, 101, 300])
def test_interval_of_the_median_is_the_shortest_that_covers(m):
    def coverage(j):  # of [x_(j), x_(m+1-j)]: between j and m - j runs lie below the median
        return sum(math.comb(m, k) for k in range(j, m - j + 1)) / 2**m

    low, high = median_interval(np.random.default_rng(m).permutation(m) + 1.0)
    assert high == m + 1 - low
    assert coverage(int(low)) >= 0.95
    assert coverage(int(low) + 1) < 0.95


def test_few_runs_give_their_range_and_infinite_runs_an_infinite_end():
    assert median_interval(np.array([3.0, 1.0, 2.0])) == (1.0, 3.0)
    values = np.array([*range(12), *[math.inf] * 8], dtype=float)
    assert figures.summarize(values, "median") == {
        "statistic": "median", "value": 9.5, "low": 5.0, "high": math.inf,
        "runs": 20, "infinite": 8,
    }  # fmt: skip
    half = figures.summarize(np.array([1.0, math.inf]), "median")
    assert half["value"] == math.inf


def test_one_or_two_runs_have_a_mean_without_interval():
    row = figures.summarize(np.array([1.0, 2.0, math.nan]), "mean")
    assert (row["value"], row["low"], row["high"], row["runs"]) == (1.5, None, None, 2)
    assert figures.summarize(np.array([math.nan]), "mean")["value"] is None


def test_position_of_the_null_is_a_ratio_of_means(tmp_path):
    found = run(tmp_path / "run", criteria=["label_test"], headline="train_bias")
    rows = figures.position(found, found.settings).rows
    null, low, high = (found.matrix("train_bias", r) for r in ("null", "memorizer", "oracle"))
    expected = (null.mean(0) - low.mean(0)) / (high.mean(0) - low.mean(0))
    mine = pick(rows, role="null")
    assert [row["value"] for row in mine] == pytest.approx(expected, abs=1e-12)
    assert all(row["low"] < row["value"] < row["high"] for row in mine)
    model = [row["value"] for row in pick(rows, role="model")]
    points = found.onset("train_bias").points
    assert model == [p.position for p in points]


def test_shares_of_regimes_count_every_run_once(results, drawn):
    rows = drawn["regimes"].rows
    counts = results.regimes()
    for n in N:
        mine = pick(rows, n=n)
        assert [row["regime"] for row in mine] == list(REGIMES)
        assert sum(row["value"] for row in mine) == pytest.approx(1.0)
        assert Counter({r["regime"]: round(60 * r["value"]) for r in mine}) == Counter(counts[n])
    bars = drawn["regimes"].figure.axes[0].patches
    assert sum(bar.get_height() for bar in bars) == pytest.approx(len(N))


def test_phase_diagram_shows_the_most_frequent_regime_of_every_tile(tmp_path):
    axes = {"model.ridge": (0.1, 1.0, 10.0)}
    found = run(tmp_path / "run", axes=axes, n=[8, 30, 135], replicates=9)
    drawn = figures.all_figures(found)[0]
    assert drawn.name == "phases"
    assert len(drawn.rows) == 9
    for row in drawn.rows:
        counts = found.regimes({"model.ridge": row["model.ridge"]})[row["n"]]
        assert row["runs"] == sum(counts.values()) == 9
        assert counts[row["regime"]] == max(counts.values())
        assert row["value"] == pytest.approx(counts[row["regime"]] / 9)
    axes = drawn.figure.axes[0]
    tiles = {(round(p.get_x() + 0.5), round(p.get_y() + 0.5)): p for p in axes.patches}
    assert len(tiles) == 9
    biased = tiles[0, 0].get_facecolor(), tiles[2, 0].get_facecolor()
    assert biased[0] != biased[1]  # train-biased at n = 8, not at n = 135
    assert [t.get_text() for t in axes.get_yticklabels()] == ["0.1", "1", "10"]


def test_no_phase_diagram_without_a_numeric_axis_or_regimes(tmp_path, results):
    assert "phases" not in [drawn.name for drawn in figures.all_figures(results)]
    axes = {"model.ridge": (0.1, 1.0)}
    bare = run(tmp_path / "bare", axes=axes, criteria=["kl_to_source"], n=[8, 30], replicates=3)
    assert "phases" not in [drawn.name for drawn in figures.all_figures(bare)]


def test_what_training_took_is_drawn_and_unreached_times_are_counted(tmp_path):
    def took(n, rng):
        facts = {
            "n_parameters": 6690.0,
            "n_steps": 60.0,
            "training_loss": 0.3,
            "tau_gen": 10.0 + rng.random(),
            "tau_mem": 5.0 * n if n < 20 else math.inf,
        }
        return {"model": facts, "memorizer": {}, "oracle": {}, "null": {}}

    model = {"kind": "mlp", "steps": 60}
    found = run(tmp_path / "run", values=took, criteria=["training_time"], model=model)
    (drawn,) = [d for d in figures.all_figures(found) if d.name == "training"]
    assert {row["criterion"] for row in drawn.rows} == {*GROUPS["training_time"]}
    assert [r["value"] for r in drawn.rows if r["criterion"] == "tau_mem"][:3] == [40, 60, 90]
    titles = {axes.get_title(loc="left") for axes in drawn.figure.axes}
    assert {"parameters", "training loss"} <= titles
    words = [text.get_text() for axes in drawn.figure.axes for text in axes.texts]
    assert any("100 unreached runs" in word for word in words), words


# -- the unit of errors ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [7, 1000])
def test_unit_of_errors_is_the_self_overlap_of_a_smoothed_set(tmp_path, n):
    source = {"kind": "gaussian", "dim": 1, "std": 0.7}
    found = run(tmp_path / "run", source=source, criteria=["kernel_l2"], n=[8, 9], replicates=1)
    eps = distances.kernel_bandwidth("paper", n, 1, 0.7)
    square = integrate.quad(lambda x: stats.norm.pdf(x, scale=eps) ** 2, -9 * eps, 9 * eps)[0]
    unit = figures.error_unit(found, found.settings[0], "model")
    assert unit == pytest.approx(square / n, rel=1e-8)


def test_unit_of_published_errors_is_their_ratio_to_correct_ones(tmp_path):
    dim, n = 3, 9
    found = run(
        tmp_path / "run",
        source={"kind": "gaussian", "dim": dim},
        criteria=["kernel_l2"],
        model={"kind": "linear_one_step_published"},
        replicates=1,
    )
    points = torch.randn(n, dim, dtype=torch.float64, generator=seeds.generator(0, "test"))
    smoothed = Smoothed(points=points, bandwidth=distances.kernel_bandwidth("paper", n, dim, 1.0))
    reference = Reference(smoothed=smoothed, log_off=distances.log_off_diagonal(smoothed))
    law = Gaussian(torch.zeros(dim, dtype=torch.float64), 0.5)
    plain = PublishedArithmetic(transpose=False, float32_bandwidth=False, determinant_cutoff=False)
    published = plain.error(law, reference, 1.0)
    correct = distances.kernel_l2(distances.kernel_terms(law, smoothed, log_off=reference.log_off))
    model, memorizer = (figures.error_unit(found, {}, r) for r in ("model", "memorizer"))
    assert published / model == pytest.approx(correct / memorizer, rel=1e-10)
    fit = plain.fit(points, OrnsteinUhlenbeck(), generator=seeds.generator(0, "fit"))
    assert "kernel_l2_training" in fit.own  # the model's errors are the published ones


def test_errors_are_drawn_in_this_unit(results, drawn):
    row = pick(drawn["errors"].rows, role="model", criterion="kernel_l2_training", n=60)[0]
    raw = np.median(results.matrix("kernel_l2_training")[:, N.index(60)])
    assert row["value"] == pytest.approx(raw * (4 * math.pi) ** 2, rel=1e-12)


@pytest.fixture
def unseen(monkeypatch):
    """Figures are not laid out: their rows and names matter."""
    monkeypatch.setattr(figures, "_compose", lambda *_, **__: Figure())


@pytest.mark.usefixtures("unseen")
def test_data_that_have_gone_cost_the_errors_alone(results, monkeypatch):
    def gone(*_):
        raise DataError("gone")

    monkeypatch.setattr(figures, "error_unit", gone)
    names = {figure.name for figure in figures._figures_of(results, results.settings)}
    assert names == {"position", "regimes", "memorization", "quality", "onsets", "theory"}


# -- what is drawn -----------------------------------------------------------------------------


def test_what_is_drawn_is_what_is_in_the_rows(drawn):
    axes = drawn["position"].figure.axes[0]
    curves = [line for line in axes.lines if len(line.get_xdata()) == len(N)]
    assert len(curves) == 4
    for line, role in zip(curves, ("model", "memorizer", "oracle", "null"), strict=True):
        rows = pick(drawn["position"].rows, role=role)
        assert list(line.get_ydata()) == [row["value"] for row in rows]
        assert np.abs(np.log(np.array(line.get_xdata(), dtype=float) / N)).max() < 0.05
        bars = next(c for c in axes.collections if c.get_color()[0][:3] is not None)
        assert len(bars.get_segments()) == len(N)
    bars = axes.collections[0].get_segments()
    for segment, row in zip(bars, pick(drawn["position"].rows, role="model"), strict=True):
        assert sorted(segment[:, 1]) == pytest.approx([row["low"], row["high"]])


def test_both_layouts_show_the_same_panels(drawn):
    for figure in drawn.values():
        assert len(figure.narrow.axes) == len(figure.figure.axes)
        assert figure.narrow.get_figwidth() < figure.figure.get_figwidth() / 2
        assert texts(figure.narrow) == texts(figure.figure)


def test_an_onset_is_written_and_shaded(results, drawn):
    onset = results.onset("delta_held_out")
    axes = drawn["position"].figure.axes[0]
    assert f"n* = {onset}".removeprefix("n* = ") in texts(drawn["position"].figure)
    bands = [p.get_extents().transformed(axes.transData.inverted()) for p in axes.patches]
    assert [bands[0].x0, bands[0].x1] == pytest.approx([onset.low, onset.high], rel=1e-6)


def shifted(middle):
    """The same cell for a model whose onset lies elsewhere."""
    return lambda n, rng: invented(n * 30 / middle, rng)


@pytest.mark.parametrize(
    ("middle", "words"),
    [(3000, "no onset below n = 135"), (2, "n* < 8, surely < ")],
)
def test_censored_onsets_are_said_and_pointed_at(tmp_path, middle, words):
    found = run(tmp_path / "run", values=shifted(middle))
    page = figures.position(found, found.settings)
    assert words in texts(page.figure)
    arrows = [t for t in page.figure.axes[0].texts if getattr(t, "arrow_patch", None)]
    assert len(arrows) == 1
    assert not page.figure.axes[0].patches  # nothing is shaded
    assert "onset, 95 %" not in texts(page.figure)


def test_words_above_a_panel_do_not_reach_the_next(tmp_path):
    found = run(tmp_path / "run", values=shifted(150))
    panel = figures._memorization_panel(found, "delta_held_out", found.settings)
    wide = replace(panel, onsets=[replace(onset, low=97.6) for onset in panel.onsets])
    page = figures._page("three", "", "", [wide] * 3).figure
    assert texts(page).count("n* > 135, surely > 97.6") == 3
    for axes in page.axes:
        box = axes.get_window_extent()
        ends = [o.get_window_extent() for o in page.axes if o is not axes]
        ends = [e.x0 for e in ends if e.x0 > box.x1 and e.y0 < box.y1 and e.y1 > box.y0]
        for text in [t for t in axes.texts if t.get_text()] + [axes.title]:
            assert text.get_window_extent().x1 < min(ends, default=page.bbox.x1)


def test_curves_step_aside_within_their_size_and_the_margins():
    many = figures._step_aside([8, 16, 32, 256], 24)
    assert 24 * many < 2 * 0.05 * np.log(256 / 8)
    assert 24 * figures._step_aside([16, 28, 30, 160], 24) < np.log(30 / 28)
    assert figures._step_aside([8, 256], 3) == pytest.approx(0.005 * np.log(32))
    assert figures._step_aside([8], 3) > 0


def test_blind_criteria_are_said_to_be(tmp_path):
    def blind(n, rng):
        table = invented(n, rng)
        for role in table:
            table[role]["train_bias"] = 0.5 + rng.normal() / 50
        return table

    found = run(tmp_path / "run", values=blind, criteria=["label_test"], headline="train_bias")
    assert "blind" in texts(figures.position(found, found.settings).figure)
    assert onset_words(found.onset("train_bias")).startswith("blind")


def test_infinite_runs_are_counted_and_leave_the_axes_alone(drawn):
    rows = pick(drawn["quality"].rows, criterion="kl_to_source", role="model")
    assert [row["infinite"] for row in rows] == [60, 60, 60, 0, 0, 0, 0, 0]
    assert "180 infinite runs, n ≤ 18" in texts(drawn["quality"].figure)
    panel = drawn["quality"].figure.axes[1]
    assert panel.get_title(loc="left") == "KL(generated ‖ true)"
    assert np.isfinite(panel.get_ylim()).all()
    assert panel.get_ylim()[1] < 2000
    assert panel.get_yscale() in ("log", "symlog")


def test_floor_and_its_double_are_drawn_where_they_mean_something(results, drawn):
    panels = {a.get_title(loc="left"): a for a in drawn["quality"].figure.axes}
    flat = {
        title: [line.get_ydata()[0] for line in axes.lines if list(line.get_xdata()) == [0, 1]]
        for title, axes in panels.items()
    }
    floor = results.floor("kl_to_source", {})
    assert flat["KL(generated ‖ true)"] == pytest.approx([floor, 2 * floor])
    rate = results.floor("affinity_rate", {})
    assert flat["(1 − H²)^(1/d)"] == pytest.approx([rate, rate / 2])
    assert flat["sliced W2"] == []


def ridges(folder, count):
    return run(
        folder,
        criteria=["kernel_l2"],
        n=[8, 30, 100],
        replicates=4,
        axes={"model.ridge": [0.1 * k for k in range(count)]},
    )


def test_a_few_settings_share_a_panel(tmp_path):
    found = ridges(tmp_path / "run", 2)
    page = figures.position(found, found.settings)
    assert len(page.figure.axes) == 1
    assert {"ridge = 0.0", "ridge = 0.1"} <= set(texts(page.figure).split("\n"))
    curves = [line for line in page.figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert len(curves) == 8
    assert {row["model.ridge"] for row in page.rows} == {0.0, 0.1}


@pytest.mark.usefixtures("unseen")
def test_more_than_six_settings_get_figures_of_their_own(tmp_path):
    few, many = (all_figures(ridges(tmp_path / str(k), k)) for k in (6, 7))
    assert [f.name for f in few] == [
        "position",
        "memorization",
        *(f"theory-{k}" for k in range(1, 7)),
        "errors",
        "paper",
    ]
    names = [figure.name for figure in many]
    assert len(names) == len(set(names)) == 7 * 4
    assert "position-7" in names
    assert {row["model.ridge"] for row in many[0].rows} == {0.0}


def test_dimensions_are_compared_against_n_over_d(tmp_path):
    def sweep(folder, dim):
        variants = {"a": {"model.start": "scalar"}, "b": {"model.start": "estimated"}}
        source = {"kind": "gaussian", "dim": dim}
        criteria = ["delta", "kernel_l2_training"]
        return run(tmp_path / folder, source=source, variants=variants, criteria=criteria)

    both = [sweep("four", 4), sweep("eight", 8)]
    page = figures.compare(both)
    assert {(row["d"], row["n"], row["n_over_d"]) for row in page.rows} == {
        (d, n, n / d) for d in (4, 8) for n in N
    }
    assert len(page.figure.axes) == 4
    assert page.figure.axes[0].get_xlabel() == "n / d"
    assert "d = 8" in texts(page.figure)
    shares = pick(page.rows, criterion="delta_positive", role="model", d=8, variant="b", n=27)
    signs = both[1].matrix("delta_log_ratio", "model", {"variant": "b"})[:, 3] < 0
    assert shares[0]["value"] == signs.mean()


def test_single_sizes_and_single_runs_are_drawn_without_onset(tmp_path):
    for folder, options in (("size", {"n": [8]}), ("run", {"replicates": 1, "n": [8, 12]})):
        found = run(tmp_path / folder, criteria=["train_bias", "kl_to_source"], **options)
        assert len(all_figures(found)) == 3
    assert "n* cannot be estimated" in texts(figures.position(found, found.settings).figure)


def test_nothing_is_drawn_of_nothing(tmp_path):
    assert all_figures(run(tmp_path / "run", keep=lambda cell: False)) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-1, "−1"),
        (0.5, "0.5"),
        (100, "100"),
        (1e6, "10⁶"),
        (-1e15, "−10¹⁵"),
        (3e-5, "3·10⁻⁵"),
    ],
)
def test_ticks_are_plain_or_powers_of_ten(value, text):
    assert figures._power(value) == text


def test_scales_follow_the_values():
    assert figures._threshold(np.array([0.2, 0.9, 0.001])) is None  # a share
    assert figures._threshold(np.array([5.0, 20.0])) is None
    assert figures._threshold(np.array([1e-3, 5.0, 20.0])) == 1e-3
    assert figures._threshold(np.array([0.0, 5.0, 1e-15, 200.0])) == 5.0  # zero up to rounding
    assert figures._threshold(np.array([-3.0, 2.0, 1.0])) is None
    assert figures._threshold(np.array([-3e5, 2.0, 1.0])) == 2.0
    ticks = figures._decades(np.array([-3e14, 1.0]), 1.0)
    assert ticks == [0.0, -1e4, -1e8, -1e12] or 4 <= len(ticks) <= 6


# -- files -------------------------------------------------------------------------------------


def test_the_same_results_give_the_same_bytes(results, drawn, tmp_path):
    page = [drawn["position"], figures.position(results, results.settings)]
    for figure, folder in zip(page, ("one", "two"), strict=True):
        figures.save(figure, tmp_path / folder)
    for kind in ("csv", "png", "pdf"):
        one, two = ((tmp_path / f / f"position.{kind}").read_bytes() for f in ("one", "two"))
        assert one == two
    assert figures.render(page[0].figure, "svg") == figures.render(page[1].figure, "svg")


def test_every_number_reads_back_exactly_and_none_is_nan(drawn):
    for figure in drawn.values():
        text = figures._csv(figure.rows).decode()
        assert "nan" not in text.lower()
        back = list(csv.DictReader(io.StringIO(text)))
        assert len(back) == len(figure.rows)
        for row, given in zip(back, figure.rows, strict=True):
            for end in ("value", "low", "high"):
                assert row[end] == "" if given[end] is None else float(row[end]) == given[end]


def test_a_folder_that_cannot_be_written_is_refused_without_traces(drawn, tmp_path):
    (tmp_path / "figures").write_text("a file stands where the folder should be")
    with pytest.raises(StoreError, match=r"Cannot write.*choose another place"):
        figures.save(drawn["position"], tmp_path / "figures")
    assert [p.name for p in tmp_path.iterdir()] == ["figures"]


def test_settings_whose_values_are_tables_are_told_apart():
    flat, steep = ({"kind": "power_law", "exponent": x} for x in (0.0, 1.0))
    settings = [{"spectrum": s, "dim": d} for d in (8, 16) for s in (flat, steep)]
    assert figures._without(settings, "dim") == [{"spectrum": flat}, {"spectrum": steep}]


def test_a_share_counts_what_is_above_zero():
    """Of 1, 0, -1, a missing run and infinity two are above 0, of four known."""
    row = figures.summarize(np.array([1.0, 0.0, -1.0, np.nan, np.inf]), "share")
    interval = stats.binomtest(2, 4).proportion_ci(0.95, method="wilson")
    assert (row["value"], row["runs"], row["infinite"]) == (0.5, 4, 1)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
