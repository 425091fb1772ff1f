"""The page answers first, holds everything it needs, and shows text from a run as text."""

import csv
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import genonset
from genonset import figures, report, seeds
from genonset.criteria import CRITERIA
from genonset.errors import DataError, StoreError
from genonset.estimates import p_text
from genonset.experiment import build
from genonset.report import (
    answer,
    smallest_log_ratio,
    write_flagged,
    write_kept,
    write_run_report,
)
from test_figures import N, invented, run, shifted

VOID = {"meta", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """A page taken apart: its elements, the text a reader sees, and whether tags are balanced."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open and data.strip():
            self.texts.append(" ".join(data.split()))

    @property
    def text(self):
        return "\n".join(self.texts)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "invented"
    return run(
        folder, replicates=60, failed={3: "Traceback\nValueError: <script>alert(1)</script>"}
    )


@pytest.fixture(scope="module")
def html(results):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", lambda *_: None)  # the page alone
        return write_run_report(results, seconds=12.3).read_text("utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


@pytest.fixture
def unseen(monkeypatch):
    """Figures are left blank: the words matter."""
    monkeypatch.setattr(figures, "_compose", lambda *_, **__: Figure())


# -- the answer --------------------------------------------------------------------------------


def test_the_answer_comes_first_and_quotes_the_onset(results, page):
    onset = results.onset("delta_held_out")
    number = str(onset).removeprefix("n* = ")
    sentence = answer(results, {})
    assert sentence.startswith(
        f"This model generalizes from n = {number} on; below it is train-bi"
    )
    assert "it copies nothing" in sentence
    assert sentence in page.texts
    shown = page.texts.index(sentence)
    assert shown < page.text.index("How to read this")
    first = next(tag for tag, attrs in page.elements if attrs.get("class") in ("answer", "wide"))
    assert first == "p"


def test_shares_in_the_answer_are_those_of_the_runs_below_it(results):
    onset, regimes = results.onset("delta_held_out"), results.regimes()
    below = [regimes[n] for n in N if n < onset.onset]
    biased = sum(r.get("train-biased", 0) for r in below)
    share = biased / sum(sum(r.values()) for r in below)
    assert f"train-biased ({100 * share:.0f} % of runs" in answer(results, {})


def changed(**values):
    """The invented numbers with some of the model's replaced."""

    def cell(n, rng):
        table = invented(n, rng)
        return table | {"model": table["model"] | values}

    return cell


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"copying_p": 1e-9}, "though above it this model still copies training points (100 %"),
        (
            {"sliced_wasserstein": 0.9, "train_bias_p": 0.5},
            "but what this model generates from there on is poor (100 % of runs)",
        ),
    ],
)
def test_what_the_runs_do_is_not_glossed_over(tmp_path, values, words):
    found = run(tmp_path / "run", values=changed(**values), replicates=60)
    assert words in answer(found, {})


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (3000, r"^No onset below n = 135.*\. At n = 135 this model is train-biased \("),
        (
            2,
            r"^Onset below n = .*the curve has crossed before n = 8\. "
            r"At n = 8 this model generalizes \(",
        ),
    ],
)
def test_a_censored_onset_is_no_number(tmp_path, middle, words):
    assert re.search(words, answer(run(tmp_path / "run", values=shifted(middle)), {}))


def test_a_blind_criterion_is_said_to_be(tmp_path):
    def blind(n, rng):
        table = invented(n, rng)
        for role in table:
            table[role]["train_bias"] = 0.5 + rng.normal() / 50
        return table

    found = run(tmp_path / "run", values=blind, criteria=["train_bias"])
    assert answer(found, {}).startswith("This run cannot tell")


def test_without_regimes_the_answer_claims_no_more_than_the_criterion(tmp_path):
    found = run(tmp_path / "run", criteria=["kernel_l2"], replicates=60)
    assert re.fullmatch(r"Memorization ends at n = [\d.]+ \[[\d.]+, [\d.]+\]\.", answer(found, {}))


def test_a_run_of_quality_alone_is_answered_by_its_floor(tmp_path):
    found = run(tmp_path / "run", criteria=["kl_to_source"])
    assert "within a factor 2 of its floor: n* = " in answer(found, {})


# -- the page ----------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_elsewhere(html, page):
    assert len(html.encode()) < 2e6
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    for tag, attrs in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        for name in ("src", "href", "xlink:href"):
            assert attrs.get(name, "#").startswith("#"), (tag, attrs)


def test_ids_are_unique_and_every_reference_is_met(html, page):
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids)) > 100
    wanted = set(re.findall(r'(?:href="|url\()#([^")]+)', html))
    assert wanted == set(ids)


def test_figures_are_named_for_those_who_do_not_see_them(page):
    svgs = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert len(svgs) == 2 * page.text.count("How to read this")
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in svgs)
    assert all(a.get("scope") in ("row", "col") for tag, a in page.elements if tag == "th")


def test_text_of_a_run_stays_text(html, page):
    assert "<script" not in html
    assert "ValueError: <script>alert(1)</script>" in page.text


def test_failures_stand_above_the_answer_and_in_full_below(page, results):
    text = page.text
    warning = text.index(f"1 of {results.sweep.n_cells} cells failed")
    assert warning < text.index("This model generalizes")
    assert "1 at n = 27" in text


def test_nothing_on_the_page_is_nan_or_none(page):
    assert not re.search(r"\b(nan|None|inf)\b", page.text)


@pytest.mark.parametrize("name", ["delta", "delta_held_out", "kl_to_source", "train_bias"])
def test_every_onset_is_in_the_table(results, page, name):
    onset = results.onset(name)
    assert onset.onset is not None, "else there is nothing to see"
    number, _, interval = str(onset).removeprefix("n* = ").partition(" ")
    row = page.texts[page.texts.index(interval) - 3 :][:4]
    assert row == [CRITERIA[name].title, CRITERIA[name].axis, number, interval]


@pytest.mark.usefixtures("unseen")
def test_values_and_poles_stand_at_every_n(results, page):
    tables = {t["title"]: t for t in report._value_tables(results, figures.all_figures(results))}
    assert tables["sliced W2"]["roles"] == ["model", "memorizer", "oracle", "null"]
    row = tables["sliced W2"]["tables"][0][1][4]
    runs = np.sort(results.matrix("sliced_wasserstein")[:, 4])
    value, low, high = map(float, re.findall(r"[\d.]+", row["cells"][0]))
    assert (row["n"], row["runs"]) == (40, 60)
    assert (value, low, high) == pytest.approx((np.median(runs), runs[21], runs[38]), abs=0.006)
    assert row["cells"][0] in page.texts
    assert "∞" in page.text  # Kullback-Leibler of the singular law


def test_cells_of_tables_stay_short():
    numbers = {"value": 0.99999999967, "low": 0.99999999960, "high": 0.99999999971}
    assert report._cell(numbers) == "1 [1, 1]"
    huge = {"value": -(2.0**52), "low": -(2.0**52), "high": 0.0}
    assert report._cell(huge) == "-4.504e+15 [-4.504e+15, 0]"
    assert report._cell({"value": 0.31234, "low": 0.27, "high": 0.35}) == "0.31 [0.27, 0.35]"
    assert report._cell({"value": math.inf, "low": 3.0, "high": math.inf}) == "∞ [3, ∞]"
    assert report._cell({"value": 2.5, "low": None, "high": None}) == "2.5"


def test_settings_seed_versions_and_times_are_stated(page):
    text = page.text
    for words in (
        "published", "mean signal fraction r = 0.0183", "seed", "genonset 0.", "torch 2",
        "12.3 s", "genonset sweep", "genonset export", "noise scale 1", "float32 6e-08",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.usefixtures("unseen")
def test_an_unfinished_run_says_so(tmp_path):
    found = run(tmp_path / "run", keep=lambda cell: cell.replicate < 5)
    text = Page(write_run_report(found).read_text("utf-8")).text
    assert "120 of 160 cells are still to run" in text


@pytest.mark.usefixtures("unseen")
def test_a_run_without_cells_and_one_of_failures_alone_have_a_page(tmp_path):
    for folder, failed in (
        ("none", {}),
        ("failed", dict.fromkeys(range(3), "Traceback\nOSError: x")),
    ):
        found = run(tmp_path / folder, keep=lambda cell: False, failed=failed)
        text = Page(write_run_report(found).read_text("utf-8")).text
        assert "No cell has finished" in text
        assert ("3 of 160 cells failed" in text) == bool(failed)


@pytest.mark.usefixtures("unseen")
def test_one_replicate_is_too_few_for_an_onset_and_the_page_says_why(tmp_path):
    found = run(tmp_path / "run", criteria=["train_bias"], replicates=1)
    text = Page(write_run_report(found).read_text("utf-8")).text
    assert "n* cannot be estimated: " in text
    assert "replicates" in answer(found, {})
    assert ".." not in answer(found, {})


@pytest.mark.usefixtures("unseen")
def test_kernel_widths_are_stated_for_each_setting_that_differs(tmp_path):
    axes = {"bandwidth": ["paper", "shared", 0.25]}
    found = run(tmp_path / "run", criteria=["train_bias"], axes=axes, replicates=3)
    words = dict(report._settings(found))
    assert "as published" in words["kernel width (bandwidth = paper)"]
    assert words["kernel width (bandwidth = 0.25)"] == "0.25, fixed"


@pytest.mark.usefixtures("unseen")
def test_names_of_variants_are_text_too(tmp_path):
    variants = {"<b>&amp;": {"model.ridge": 0.1}, "plain": {"model.ridge": 0.2}}
    found = run(tmp_path / "run", criteria=["train_bias"], variants=variants, replicates=3)
    html = write_run_report(found).read_text("utf-8")
    assert "<b>&" not in html
    assert "<b>&amp;" in Page(html).texts


def test_labels_in_figures_are_text_too(tmp_path):
    variants = {
        "<b>": {"model.ridge": 0.1},
        "$x^2$": {"model.ridge": 0.3},
        "plain": {"model.ridge": 0.2},
    }
    found = run(tmp_path / "run", criteria=["train_bias"], variants=variants, replicates=3)
    svg = report.inline_svg(figures.position(found, found.settings), narrow=True)
    assert "&lt;b&gt;" in svg
    assert "$x^2$" in svg
    assert "<b>" not in svg


@pytest.mark.usefixtures("unseen")
def test_figures_beyond_the_room_of_a_page_are_left_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ROOM", 1)
    found = run(tmp_path / "run", criteria=["label_test"], replicates=3)
    page = Page(write_run_report(found).read_text("utf-8"))
    assert len([tag for tag, _ in page.elements if tag == "svg"]) == 2
    assert page.text.count("Left out to keep this page small") == 1
    assert (tmp_path / "run" / "figures" / "memorization.png").is_file()


@pytest.mark.usefixtures("unseen")
def test_a_page_that_cannot_be_written_is_refused_without_traces(tmp_path):
    found = run(tmp_path / "run", criteria=["train_bias"], replicates=3)
    write_run_report(found)
    before = sorted(p.name for p in (tmp_path / "run").iterdir())
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"Cannot write.*--out"):
        write_run_report(found, tmp_path / "file" / "report.html")
    with pytest.raises(StoreError, match="Cannot write"):
        write_run_report(found, tmp_path)  # a folder
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "run"]
    assert write_run_report(found, tmp_path / "new" / "page.html").is_file()


@pytest.mark.usefixtures("unseen")
def test_data_that_have_gone_do_not_stop_the_page(tmp_path, monkeypatch):
    found = run(tmp_path / "run", criteria=["train_bias"], replicates=3)

    def gone(_):
        raise DataError("x.npy is gone")

    monkeypatch.setattr(report, "build", gone)
    assert "x.npy is gone" in write_run_report(found).read_text("utf-8")


# -- numbers of its own ------------------------------------------------------------------------


def test_the_smallest_log_ratio_is_over_every_role_but_not_zero(tmp_path):
    def cell(n, rng):
        table = invented(n, rng)
        table["null"]["delta_held_out_log_ratio"] = -3.2e-12 if n == 40 else 1.0
        table["oracle"]["delta_log_ratio"] = 0.0
        table["memorizer"]["delta_log_ratio"] = math.nan
        return table

    found = run(tmp_path / "run", values=cell, criteria=["kernel_l2"])
    assert smallest_log_ratio(found) == 3.2e-12
    words = dict(report._settings(found))["sign of Δ"]
    assert "3.2e-12" in words
    assert "float32 6e-08, and could not have told it" in words
    nothing = run(tmp_path / "none", values=lambda n, rng: {"model": {}})
    assert smallest_log_ratio(nothing) is None


@pytest.mark.parametrize(
    ("scale", "fraction"), [(math.exp(-4), 0.504621), (1.0, 0.0183)]
)  # theory note (0.2): the paper's noise, and the usual one
def test_signal_fraction_of_a_gaussian_source(tmp_path, scale, fraction):
    model = {"kind": "linear_one_step", "noise": {"horizon": 2.0, "noise_scale": scale}}
    found = run(tmp_path / "run", criteria=["kernel_l2"], model=model, replicates=1)
    measurement = found.sweep.measurement({})
    r = report.signal_fraction(measurement, build(measurement.source))
    assert r == pytest.approx(fraction, abs=5e-6 if fraction > 0.1 else 5e-5)


def test_signal_fraction_of_a_finite_source_is_over_its_principal_axes(tmp_path):
    model = {"kind": "linear_one_step", "noise": {"horizon": 1.5, "noise_scale": 0.01}}
    found = run(
        tmp_path / "run",
        criteria=["kernel_l2"],
        source={"kind": "digits"},
        model=model,
        n_original=100,
        replicates=1,
    )
    pixels = load_digits().data / 8 - 1
    pixels = pixels[:, pixels.std(0) > 0]
    spectrum = np.linalg.svd(pixels - pixels.mean(0), compute_uv=False) ** 2 / (len(pixels) - 1)
    u = 0.01 * (math.exp(3.0) - 1) / spectrum
    measurement = found.sweep.measurement({})
    r = report.signal_fraction(measurement, build(measurement.source))
    assert r == pytest.approx(float(np.mean(1 / (1 + u))), rel=1e-6)
    words = dict(report._settings(found))
    assert "3 constant coordinates" in words["data"]
    assert "overlapping subsets" in words["replicates"]


def test_more_copies_than_pictures_are_all_named(tmp_path):
    """Sixty copies of colour images: 48 cards and the 6 nearest others; the table has all 60."""
    training, held_out = (torch.rand(80, 3, 40, 40, generator=seeds.generator(k)) for k in (1, 2))
    samples = torch.cat([training[:60], torch.rand(20, 3, 40, 40, generator=seeds.generator(3))])
    verdict = genonset.audit(samples, training, held_out)
    html = genonset.write_report(verdict, tmp_path / "report.html").read_text("utf-8")
    page = Page(html)
    pictures = [a["src"] for tag, a in page.elements if tag == "img"]
    assert len(pictures) == 3 * (48 + 6)
    assert all(p.startswith("data:image/jpeg;base64,") for p in pictures)
    assert "48 of 60 are shown" in page.text
    assert len(html) < 2_000_000
    lines = write_flagged(verdict, tmp_path / "flagged.csv").read_text("utf-8").splitlines()
    parts = "flip,shift,crop,gain,offset,remaining_difference,mixed_with"
    assert lines[0] == f"sample,training,distance,p_value,change,why,{parts}"
    p = p_text(verdict.copying.flagged[0].p_value)
    assert sorted(lines[1:]) == sorted(
        f"row {k},row {k},0,{p},,identical,,,,,,," for k in range(60)
    )
    kept = write_kept(verdict, tmp_path / "kept.csv").read_text("utf-8").splitlines()
    assert kept[0] == "sample,training,distance,held_out,held_out_distance,p_value"
    assert [line.split(",")[0] for line in kept[1:]] == [f"row {k}" for k in range(60, 80)]
    evidence = verdict.evidence
    for line, k in zip(kept[1:], range(60, 80), strict=True):
        _, near, distance, other, away, p = line.split(",")
        point, fresh = (int(name.removeprefix("row ")) for name in (near, other))
        flat = samples[k].flatten().double()
        assert float(distance) == pytest.approx(
            float((flat - training[point].flatten()).norm()), rel=1e-5
        )
        assert float(away) == pytest.approx(
            float((flat - held_out[fresh].flatten()).norm()), rel=1e-5
        )
        assert float(p) == pytest.approx(float(evidence.p_values[k]), rel=0.05)


def test_what_was_done_stands_in_columns(tmp_path):
    """Flipped, shifted, darker copies and blends, each found in the columns of the table."""
    training, held_out, fresh = (
        torch.nn.functional.pad(torch.rand(60, 1, 12, 12, generator=seeds.generator(k)), [2] * 4)
        for k in (1, 2, 3)
    )
    samples = fresh.clone()
    samples[:5] = training[:5].flip(-1)
    samples[5:10] = training[5:10].roll(1, -2)
    samples[10:15] = 0.5 * training[10:15] + 0.25
    samples[15:20] = 0.75 * training[15:20] + 0.25 * training[25:30]
    verdict = genonset.audit(samples, training, held_out, robust=True)
    table = write_flagged(verdict, tmp_path / "flagged.csv").read_text("utf-8").splitlines()
    rows = {int(row["sample"].removeprefix("row ")): row for row in csv.DictReader(table)}
    assert set(range(15)) <= set(rows)
    for k, row in rows.items():
        assert row["training"] == f"row {k}"
        assert row["why"] == "near-duplicate"
        assert row["flip"] == ("flipped left-right" if k < 5 else "")
        assert row["shift"] == ("1 0" if 5 <= k < 10 else "")
        assert (row["gain"], row["offset"]) == (
            ("0.5", "0.25") if 10 <= k < 15 else (row["gain"], "")
        )
        mixed = 15 <= k < 20
        assert row["mixed_with"] == (f"row {k + 10}" if mixed else "")
        assert row["gain"] == ("0.75" if mixed else row["gain"])
        assert float(row["remaining_difference"]) < 0.01
    assert any(k in rows for k in range(15, 20))


def test_names_break_at_separators_and_stay_text():
    assert report.breakable("a/b_c-d.e\\f g") == ("a/<wbr/>b_<wbr/>c-<wbr/>d.<wbr/>e\\<wbr/>f g")
    assert report.breakable("<b>&'") == "&lt;b&gt;&amp;&#39;"


def test_the_page_says_why_samples_are_named(tmp_path):
    """Identical ones alone, where nothing else can be told; and nobody where nothing is near."""
    training = torch.rand(40, 1, 8, 8, generator=seeds.generator(1))
    samples = torch.cat([training[:3], torch.rand(20, 1, 8, 8, generator=seeds.generator(3))])
    for m, words, cards in (
        (23, "Framed samples are identical to training points. 3 of 3 are shown", 3),
        (-20, "No sample is flagged; these are the 20 of 20 that come nearest", 0),
    ):
        verdict = genonset.audit(samples[-20:] if m < 0 else samples, training)
        page = Page(genonset.write_report(verdict, tmp_path / "report.html").read_text("utf-8"))
        text = " ".join(page.text.split())
        assert words in text
        assert "docs/no-held-out.md" in text
        framed = [a for _, a in page.elements if a.get("class") == "card flagged"]
        assert len(framed) == cards
