"""The audit as a user meets it: folders and tables in, a verdict, a page and an exit code out."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from end_to_end.test_command_line import genonset, refused
from test_report import Page

NAME = "<img src=x onerror=alert(1)>&"


def folder(path, images, name="{k:04d}", **options):
    path.mkdir(parents=True)
    for k, pixels in enumerate(images):
        image = Image.fromarray(np.clip(pixels / 16 * 255, 0, 255).astype(np.uint8))
        image.save(path / f"{name.format(k=k)}.png", **options)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Digits: 60 training and held-out images, 50 samples, 15 of them noisy or exact copies."""
    home = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    digits = load_digits().images[rng.permutation(1797)]
    training, held_out, fresh = np.split(digits[:155], [60, 120])
    copies = training[:15] + rng.normal(0, 0.3, (15, 8, 8))
    copies[:3] = training[:3]
    folder(home / "training", training)
    folder(home / "held-out", held_out)
    folder(home / "generated", np.concatenate([copies, fresh]), NAME + "{k:04d}")
    return home


def audit(home, *more, generated="generated", training="training", held_out="held-out", **options):
    chosen = () if held_out is None else ("--held-out", held_out)
    return genonset(
        "audit", generated, "--training", training, *chosen, *more, cwd=home, **options
    )


@pytest.fixture(scope="module")
def found(pictures):
    return audit(pictures, "--json", "--out", "found", "--plan", "--power")


def test_one_json_object_with_the_copies(found, pictures):
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("\n") == 1
    numbers = json.loads(found.stdout)
    assert numbers["verdict"] == "copying"
    assert {f["index"]: f["nearest"] for f in numbers["copying"]["flagged"]} == {
        k: k for k in range(15)
    }
    assert numbers["copying"]["identical"] == 3
    assert numbers["sentence"].startswith("3 of 50 samples are identical to training points")
    assert numbers["inputs"]["generated"]["path"] == "generated"
    assert len(numbers["power"]["curve"]) == 8
    assert len(numbers["power"]["plan"]) == 4
    assert (pictures / numbers["report"]).is_file()


def test_flagged_samples_are_named_in_a_table_and_in_json(found, pictures):
    numbers = json.loads(found.stdout)
    with (pictures / numbers["flagged"]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["sample"]: row["training"] for row in rows} == {
        f"{NAME}{k:04d}.png": f"{k:04d}.png" for k in range(15)
    }
    assert {row["sample"] for row in rows if row["why"] == "identical"} == {
        f"{NAME}{k:04d}.png" for k in range(3)
    }
    with (pictures / numbers["kept"]).open(newline="", encoding="utf-8") as file:
        kept = [row["sample"] for row in csv.DictReader(file)]
    assert kept == [f"{NAME}{k:04d}.png" for k in range(15, 50)]
    names = [(f["sample"], f["training"]) for f in numbers["copying"]["flagged"]]
    assert names == [(row["sample"], row["training"]) for row in rows]
    page = Page((pictures / "found" / "report.html").read_text("utf-8"))
    assert "All flagged samples" in page.text
    assert "15 of 15 are shown" in page.text


def test_copies_that_a_plain_search_misses_point_to_the_robust_one(pictures):
    """Flipped copies: a plain audit names --robust, on the page and beside it; that finds them."""
    flipped = [np.asarray(Image.open(f))[:, ::-1] / 255 * 16
               for f in sorted((pictures / "training").iterdir())[:20]]  # fmt: skip
    folder(pictures / "flipped", flipped)
    plain = audit(pictures, "--out", "plain", generated="flipped")
    assert "Next: the same command with --robust" in plain.stderr
    assert "compared pixel by pixel" in (pictures / "plain" / "report.html").read_text("utf-8")
    robust = audit(pictures, "--out", "plain", "--robust", generated="flipped")
    assert "20 samples are flagged" in robust.stdout
    assert "--robust" not in robust.stderr
    page = (pictures / "plain" / "report.html").read_text("utf-8")
    assert "compared pixel by pixel" not in page
    assert page.count("flipped left-right") == 40
    with (pictures / "plain" / "flagged.csv").open(newline="", encoding="utf-8") as file:
        assert {row["change"] for row in csv.DictReader(file)} == {"flipped left-right"}


def test_the_page_shows_the_pictures_and_escapes_names(found, pictures):
    html = (pictures / "found" / "report.html").read_text("utf-8")
    page = Page(html)
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 24 * 3
    assert all(i["src"].startswith("data:image/png;base64,") for i in images)
    assert not any("onerror" in i for i in images)
    assert NAME in page.text
    assert "<img src=x" not in html
    assert "script" not in {tag for tag, _ in page.elements}
    assert not [v for _, a in page.elements for k, v in a.items() if k == "href" and v[0] != "#"]
    for words in ("identical to training points", "by chance", "SHA-256", "authenticity", "C_T"):
        assert words in page.text, words
    assert json.loads(found.stdout)["inputs"]["training"]["sha256"] in page.text
    assert len(html) < 2_000_000


def test_pictures_are_the_samples(found, pictures):
    """The first card: a sample, its training image and its held-out image, pixel for pixel."""
    import base64
    import io

    page = Page((pictures / "found" / "report.html").read_text("utf-8"))
    sources = [a["src"] for tag, a in page.elements if tag == "img"][:2]
    shown = [Image.open(io.BytesIO(base64.b64decode(s.split(",")[1]))) for s in sources]
    first = json.loads(found.stdout)["copying"]["flagged"][0]
    for image, name in zip(
        shown,
        (f"generated/{NAME}{first['index']:04d}.png", f"training/{first['nearest']:04d}.png"),
        strict=True,
    ):
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(pictures / name)))


def test_exit_codes(pictures):
    assert audit(pictures, "--out", "a", "--fail-on", "copying").returncode == 3
    assert audit(pictures, "--out", "a", "--fail-on", "train-biased").returncode == 0
    refused(audit(pictures, "--fail-on", "bad"), "--fail-on takes one of copying", "'bad'")


def test_words_for_a_reader(pictures):
    told = audit(pictures, "--out", "a")
    assert told.returncode == 0
    assert "near-duplicates of training points" in told.stdout
    assert "15 samples are flagged" in told.stdout
    assert "copies as they are; flipped, shifted, cropped or tinted ones were not" in told.stdout
    assert "Named, 15 samples: a/flagged.csv" in told.stderr
    assert "All others, 35: a/kept.csv" in told.stderr
    assert "Report: a/report.html" in told.stderr
    assert "Next:" in told.stderr


def test_without_a_held_out_set(pictures):
    told = audit(pictures, "--out", "b", "--json", held_out=None)
    numbers = json.loads(told.stdout)
    assert numbers["verdict"] == "undecided"
    assert numbers["copying"]["p_value"] is None
    assert {f["sample"] for f in numbers["copying"]["flagged"]} == {
        f"{NAME}{k:04d}.png" for k in range(3)
    }
    text = Page((pictures / "b" / "report.html").read_text("utf-8")).text
    assert "random half" in text
    refused(audit(pictures, "--plan", held_out=None), "needs a held-out set")


def test_features(pictures):
    told = audit(pictures, "--out", "c", "--json", "--features", "pca:10")
    numbers = json.loads(told.stdout)
    assert numbers["verdict"] == "copying"
    assert numbers["settings"]["features"] == "pca:10"
    refused(audit(pictures, "--features", "magic"), "pca:K")


def test_overlap_is_counted_and_dropped_on_request(pictures):
    mixed = pictures / "mixed"
    if not mixed.exists():
        mixed.mkdir()
        for k in range(40):
            (mixed / f"h{k}.png").write_bytes((pictures / f"held-out/{k:04d}.png").read_bytes())
        for k in range(20):
            (mixed / f"t{k}.png").write_bytes((pictures / f"training/{k:04d}.png").read_bytes())
    told = json.loads(audit(pictures, "--json", "--out", "d", held_out="mixed").stdout)
    assert told["duplicates"]["overlap"] == 20
    assert any("20 held-out points equal a training point" in note for note in told["notes"])
    told = json.loads(
        audit(pictures, "--json", "--out", "d", "--drop-overlap", held_out="mixed").stdout
    )
    assert told["duplicates"]["overlap"] == 0
    assert any(
        "20 training and 20 held-out points stand in both" in note for note in told["notes"]
    )
    refused(
        audit(pictures, "--drop-overlap", held_out="training"),
        "Every point of training equals a point that is in both",
    )


# Refusals


def test_folders_that_are_refused(pictures, tmp_path):
    small = [np.full((8, 8), level) for level in range(3)]
    (folder(tmp_path / "broken", small) / "x.png").write_bytes(b"GIF89a")
    refused(
        audit(pictures, generated=tmp_path / "broken"), "1 of 4 images cannot be read", "x.png"
    )
    told = audit(pictures, "--skip-unreadable", "--out", "e", generated=tmp_path / "broken")
    assert told.returncode == 0
    assert "left out: 'x.png'" in told.stderr
    big = folder(tmp_path / "big", [np.zeros((16, 16)), np.ones((16, 16))])
    refused(audit(pictures, generated=big), "generated 16 x 16", "--resize 8")
    colour = folder(tmp_path / "colour", [np.zeros((8, 8, 3)), np.ones((8, 8, 3))])
    refused(audit(pictures, generated=colour), "Channels differ", "--grey or --colour")
    assert audit(pictures, "--grey", "--out", "e", generated=colour).returncode == 0
    bomb = folder(tmp_path / "bomb", small[:1])
    Image.new("1", (20_000, 20_000)).save(bomb / "bomb.png")
    refused(audit(pictures, generated=bomb), "bomb.png")
    loop = folder(tmp_path / "loop", small)
    (loop / "again").symlink_to(loop)
    refused(audit(pictures, generated=loop), "has no end")
    refused(audit(pictures, generated=tmp_path / "nowhere"), "does not exist", "folder", ".csv")
    refused(audit(pictures, generated=next(big.iterdir())), "one image", "pass the folder")


def test_arrays_and_pickles_that_are_refused(pictures, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.random((20, 1, 8, 8)))
    refused(audit(pictures, generated=tmp_path / "images.npy"), "[0, 1]", "[-1, 1]")
    told = audit(pictures, "--allow-mixed-units", "--out", "f", generated=tmp_path / "images.npy")
    assert told.returncode == 0
    assert "Units:" in told.stderr
    np.save(tmp_path / "nan.npy", np.full((20, 1, 8, 8), np.nan))
    refused(audit(pictures, generated=tmp_path / "nan.npy"), "NaN or infinite")
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    refused(audit(pictures, generated=tmp_path / "objects.npy"), "Pickled objects are never")
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04K\x01.")
    refused(audit(pictures, generated=tmp_path / "x.pkl"), "arrays are read from")


# Tables


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Five columns of very different units; 20 of 80 samples repeat training rows."""
    home = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(1)
    unit = np.array([1, 100, 1e4, 0.1, 5])
    sets = {name: rng.normal(size=(n, 5)) * unit for name, n in
            (("generated", 80), ("training", 100), ("held_out", 100))}  # fmt: skip
    sets["generated"][:20] = sets["training"][:20] + 0.02 * unit * rng.normal(size=(20, 5))
    for name, rows in sets.items():
        header = "age,<b>debt,income,rate,score"
        np.savetxt(home / f"{name}.csv", rows, delimiter=",", header=header, comments="")
    return home


CSV = {"generated": "generated.csv", "training": "training.csv", "held_out": "held_out.csv"}


def test_tables_are_compared_column_by_column(tables):
    told = json.loads(audit(tables, "--json", "--out", "out", **CSV).stdout)
    assert told["verdict"] == "copying"
    assert told["settings"]["features"] == "standardized"
    assert {f["index"] for f in told["copying"]["flagged"]} <= set(range(20))
    html = (tables / "out" / "report.html").read_text("utf-8")
    page = Page(html)
    assert "img" not in {tag for tag, _ in page.elements}
    assert "<b>debt" in page.text
    assert "<b>debt" not in html
    assert "row 0" in page.text


def test_tables_that_do_not_match_are_refused(tables):
    (tables / "other.csv").write_text("age,debt\n1,2\n3,4\n")
    refused(
        audit(tables, **(CSV | {"generated": "other.csv"})), "same columns", "generated has debt"
    )
    lines = (tables / CSV["training"]).read_text().splitlines()
    (tables / "nameless.csv").write_text("\n".join(lines[1:]))
    refused(
        audit(tables, **(CSV | {"generated": "nameless.csv"})),
        "generated: the first line holds numbers",
    )
    turned = [",".join(reversed(line.split(","))) for line in lines]
    (tables / "turned.csv").write_text("\n".join(turned))
    found = audit(tables, "--json", **(CSV | {"training": "turned.csv"}))
    assert "generated were put in the order of training" in found.stdout
    right, turned = json.loads(audit(tables, "--json", **CSV).stdout), json.loads(found.stdout)
    assert turned["copying"]["p_value"] == right["copying"]["p_value"] < 0.05
    (tables / "text.csv").write_text("age,city\n1,Paris\n")
    refused(audit(tables, **(CSV | {"generated": "text.csv"})), "'city': text such as 'Paris'")


def test_the_power_curve_is_told_and_identical_samples_fail_without_a_held_out_set(pictures):
    told = audit(pictures, "--power", "--out", "power")
    assert re.search(r"Power by the share of close copies: 0.01: 0\.\d\d, .*, 0.2: [01]\.\d\d\.",
                     told.stdout)  # fmt: skip
    for gate, code in (("identical", 3), ("copying", 0)):
        found = audit(pictures, "--fail-on", gate, "--out", "power", held_out=None)
        assert found.returncode == code, found.stderr
