"""Galleries: the pairs are the true ones by an independent search, and change nothing else."""

import base64
import io
import re
import shutil
import sqlite3

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from genonset import datasets, experiment, figures, report, seeds
from genonset.experiment import draw_points, resolve, run_cell
from genonset.gallery import LARGEST, SHOWN, Gallery, hang
from genonset.report import write_run_report
from genonset.spec import Sweep
from genonset.store import Results, Store
from genonset.sweep import run_sweep

OPTIONS = {
    "name": "pictures",
    "replicates": 2,
    "n": [12, 30],
    "criteria": ["memorized_fraction", "label_test"],
    "n_original": 200,
    "n_generated": 60,
    "source": {"kind": "digits"},
    "model": {"kind": "linear_one_step", "ridge": 0.07},
}


def sweep_of(**changes):
    return resolve(Sweep.from_options(OPTIONS | changes))


def cells(**changes):
    return [cell for _, cell in sweep_of(**changes).cells()]


def run(folder, **changes):
    sweep = sweep_of(**changes)
    with Store(folder, sweep) as store:
        assert run_sweep(sweep, store).failed == 0
    return Results(folder)


def levels(images):
    """Equation (2) for data in [-1, 1], as bytes."""
    return np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
def test_every_pair_is_the_true_one(seed):
    """Brute force on pixels as scikit-learn ships them, all 64, against the 61 that vary."""
    world, pixels = datasets.digits(), load_digits().data / 8 - 1
    rows = torch.randperm(1797, generator=seeds.generator(seed, "rows"))[:40]
    near = world.points[rows[torch.arange(90) % 40]]
    noise = torch.randn(near.shape, dtype=torch.float64, generator=seeds.generator(seed, "noise"))
    drawn = near + 0.6 * noise
    found = hang(world, world.points[rows], rows, {"model": drawn})
    assert found is not None
    whole = world.restore(drawn).reshape(90, 64).numpy()
    distances = cdist(whole, pixels[rows.numpy()])
    ordered = np.sort(distances, 1)
    ratios, which = ordered[:, 0] / ordered[:, 1], distances.argmin(1)
    worst = {k: min(np.flatnonzero(which == k), key=lambda i: ratios[i]) for k in set(which)}
    expected = sorted(worst.values(), key=lambda i: ratios[i])[:SHOWN]
    pairs = found.strips["model"]
    assert [pair.row for pair in pairs] == [int(rows[which[i]]) for i in expected]
    assert [pair.distance for pair in pairs] == pytest.approx(ordered[expected, 0])
    assert [pair.gap_ratio for pair in pairs] == pytest.approx(ratios[expected])
    for pair, i in zip(pairs, expected, strict=True):
        assert np.array_equal(found.picture(pair.sample), levels(whole[i]).reshape(8, 8))
        assert np.array_equal(found.picture(pair.training), levels(pixels[pair.row]).reshape(8, 8))


def test_a_repeated_training_image_is_named_by_its_first_row_and_counts_once():
    points = torch.rand(6, 1, 5, 5, generator=seeds.generator(0), dtype=torch.float64)
    points[[1, 4]] = points[3].clone()
    world = datasets.prepare("repeats", points)
    rows = torch.tensor([4, 0, 3, 5, 1])
    training = world.points.reshape(6, -1)[rows]
    sample = training[:1] + 0.01
    found = hang(world, training, rows, {"model": sample})
    assert found is not None
    (pair,) = found.strips["model"]
    assert pair.row == 1
    assert 0 < pair.gap_ratio < 0.2  # the second-nearest is another image
    assert hang(world, training[[0, 2]], rows[[0, 2]], {"model": sample}) is None


def test_a_cell_shows_its_own_samples_and_both_poles():
    first = cells()[0]
    found, points = run_cell(first).gallery, draw_points(first)
    assert found is not None
    assert list(found.strips) == ["model", "memorizer", "oracle"]
    assert set(found.n_samples.values()) == {60}
    assert all(0 < len(pairs) <= SHOWN for pairs in found.strips.values())
    pixels = load_digits().data / 8 - 1
    training = pixels[points.rows.numpy()]
    distances = np.sort(cdist(pixels, training), 1)
    for pair in found.strips["memorizer"]:
        assert (pair.distance, pair.gap_ratio) == (0, 0)
        assert pair.sample == pair.training
    for pair in found.strips["oracle"]:
        match = (levels(pixels) == found.picture(pair.sample).ravel()).all(1)
        assert any(abs(distances[match, 0] - pair.distance) < 1e-9)
        assert pair.row in points.rows
    assert Gallery.from_dict(found.to_dict()) == found


def test_galleries_change_no_number_and_only_first_replicates_have_them(monkeypatch):
    all_cells = cells(criteria=["delta_held_out", "spread_ratio", "memorized_fraction"])
    with_pictures = [run_cell(cell) for cell in all_cells]
    hung = [result.gallery is not None for result in with_pictures]
    assert hung == [cell.replicate == 0 for cell in all_cells]
    monkeypatch.setattr(experiment, "is_image", lambda shape: False)
    without = [run_cell(cell) for cell in all_cells]
    assert [r.values for r in without] == [r.values for r in with_pictures]
    assert [r.key for r in without] == [r.key for r in with_pictures]
    assert not any(r.gallery for r in without)


def test_what_is_no_image_has_no_gallery(tmp_path):
    gaussian = run(tmp_path / "g", source={"kind": "gaussian", "dim": 9}, replicates=1)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(400, 16)))
    array = run(
        tmp_path / "a", source={"kind": "array", "path": f"{tmp_path}/x.npy"}, n_original=100
    )
    for found in (gaussian, array):
        assert found.galleries == []
        assert not list(figures.galleries(found))


def test_runs_from_before_galleries_are_read_and_continued(tmp_path):
    run(tmp_path / "run", replicates=1)
    with sqlite3.connect(tmp_path / "run" / "results.sqlite") as database:
        database.execute("DROP TABLE galleries")
    database.close()
    assert Results(tmp_path / "run").galleries == []
    shutil.copytree(tmp_path / "run", tmp_path / "more")
    more = run(tmp_path / "more", n=[12, 30, 50])
    assert [(r.n, r.replicate) for r, _ in more.galleries] == [(50, 0)]


def colour_folder(folder, size):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(12):
        image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{k:03}.png")


def test_large_colour_images_are_shrunk(tmp_path):
    """To means over the area of a pixel, as Pillow's box filter takes them."""
    colour_folder(tmp_path / "images", size=2 * LARGEST)
    world, rows = datasets.images(tmp_path / "images"), torch.tensor([7, 3, 11])
    training = world.points.reshape(12, -1)[rows]
    found = hang(world, training, rows, {"memorizer": training})
    assert found is not None
    assert found.shape == (3, LARGEST, LARGEST)
    assert sorted(pair.row for pair in found.strips["memorizer"]) == [3, 7, 11]
    for pair in found.strips["memorizer"]:
        with Image.open(tmp_path / "images" / f"{pair.row:03}.png") as image:
            wanted = np.asarray(image.resize((LARGEST, LARGEST), Image.Resampling.BOX), float)
        assert np.abs(found.picture(pair.training) - wanted).max() <= 1


@pytest.fixture
def galleries_alone(monkeypatch):
    """Pages of galleries, without the other figures: they are tested elsewhere."""
    monkeypatch.setattr(report, "save_figures", lambda results, _: [*figures.galleries(results)])


@pytest.mark.usefixtures("galleries_alone")
def test_the_page_stays_small_whatever_is_shown(tmp_path):
    """Noise in colour is the worst: PNG cannot make it smaller."""
    found = run(tmp_path / "run", replicates=1)
    colour_folder(tmp_path / "images", size=LARGEST)
    world = datasets.images(tmp_path / "images")
    points = world.points.reshape(12, -1)
    every = dict.fromkeys(("model", "memorizer", "oracle"), points)
    noise = hang(world, points, torch.arange(12), every)
    found.__dict__["galleries"] = [(r, noise) for r, _ in 4 * found.galleries]
    html = write_run_report(found).read_text("utf-8")
    assert len(html.encode()) < 2e6
    assert html.count("Left out to keep this page small") == 1
    assert "the worst of 12 samples" in html


@pytest.mark.usefixtures("galleries_alone")
def test_strips_on_the_page_hold_the_pictures_and_their_numbers(tmp_path):
    variants = {"<i>a": {"model.ridge": 0.1}, "b": {"model.ridge": 1.0}}
    found = run(tmp_path / "run", replicates=1, variants=variants)
    html = write_run_report(found).read_text("utf-8")
    assert len(html.encode()) < 2e6
    assert "&lt;i&gt;a, n = 12: the worst of 60 samples" in html
    assert "<i>a" not in html
    assert "oracle, n = 30: the worst of 60 samples" in html
    _, gallery = found.galleries[0]
    pair = gallery.strips["model"][0]
    assert f"d {pair.distance:.2g}" in html
    assert f"r {pair.gap_ratio:.2f}" in html
    embedded = re.findall(r'href="data:image/png;base64,\s*([^"]+)"', html)
    assert len(embedded) == 2 * (4 + 4)  # both layouts of four strips of the model, four of poles
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(embedded[0]))))
    assert np.array_equal(sheet[:8, :8, 0], gallery.picture(pair.sample))
    assert np.array_equal(sheet[8:16, :8, 0], gallery.picture(pair.training))
