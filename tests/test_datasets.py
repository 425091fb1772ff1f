"""Finite data: loaders and what they refuse, units, splits.

Every refusal is read as its user would: it names what is wrong, says what to do, fits a screen,
and nothing is written or run.
"""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import stats
from sklearn.datasets import load_digits

from genonset import datasets
from genonset.datasets import (
    array,
    check_same_units,
    count_duplicates,
    deduplicate,
    describe_units,
    digits,
    drop_constant,
    glyphs,
    prepare,
    read_array,
    split,
)
from genonset.errors import ConfigError, DataError
from refusals import refusal

ROWS = np.arange(12.0).reshape(4, 3) ** 2


class Trap:
    """An object whose unpickling makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# Arrays


def test_every_array_format_gives_the_same_rows(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    np.savez(tmp_path / "x.npz", other=ROWS[:1], points=ROWS)
    np.savez_compressed(tmp_path / "one.npz", ROWS)
    torch.save(torch.from_numpy(ROWS), tmp_path / "x.pt")
    torch.save({"points": torch.from_numpy(ROWS), "step": 3}, tmp_path / "named.pt")
    save_file({"a": torch.ones(1), "points": torch.from_numpy(ROWS)}, tmp_path / "x.safetensors")
    for name, key in [("x.npy", None), ("x.npz", "points"), ("one.npz", None), ("x.pt", None),
                      ("named.pt", None), ("x.safetensors", "points")]:  # fmt: skip
        found = array(str(tmp_path / name), key=key)
        np.testing.assert_array_equal(found.points, ROWS)
        assert found.points.dtype == torch.float64
        assert (found.name, found.shape, found.n_constant) == (name, (3,), 0)


@pytest.mark.parametrize(
    "dtype",
    ["?", "u1", "i1", "<u2", "<u4", "<u8", ">i4", "<i8", "<f2", ">f4", ">f8", "longdouble"],
)
def test_number_types_are_read_as_saved_and_become_float64(tmp_path, dtype):
    rows = np.array([[0, 1], [1, 1], [1, 0]], dtype=dtype)
    np.save(tmp_path / "x.npy", rows)
    raw = read_array(tmp_path / "x.npy")
    assert raw.is_floating_point() == (rows.dtype.kind == "f")
    points = array(tmp_path / "x.npy").points
    assert points.dtype == torch.float64
    np.testing.assert_array_equal(points, rows.astype(float))


def test_half_precision_tensors_parameters_and_column_order(tmp_path):
    torch.save(torch.nn.Parameter(torch.tensor([[0.5], [2.0]])), tmp_path / "p.pt")
    assert not array(tmp_path / "p.pt").points.requires_grad
    torch.save(torch.tensor([[0.5], [2.0]], dtype=torch.bfloat16), tmp_path / "b.pt")
    assert array(tmp_path / "b.pt").points.tolist() == [[0.5], [2.0]]
    np.save(tmp_path / "f.npy", np.asfortranarray(ROWS))
    np.testing.assert_array_equal(array(tmp_path / "f.npy").points, ROWS)


def test_points_are_a_copy_of_the_file(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    array(tmp_path / "x.npy").points.zero_()
    read_array(tmp_path / "x.npy").zero_()
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), ROWS)


def test_images_in_an_array_keep_their_shape(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((5, 1, 4, 6)))
    found = array(tmp_path / "x.npy")
    assert tuple(found.points.shape) == (5, 1, 4, 6)
    assert (found.shape, found.dim, found.kept) == ((1, 4, 6), 24, None)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.pt", "x.safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.97])
def test_truncated_files_are_refused(tmp_path, name, keep):
    file = tmp_path / name
    rows = np.random.default_rng(0).random((50, 20))
    {
        ".npy": lambda: np.save(file, rows),
        ".npz": lambda: np.savez(file, rows),
        ".pt": lambda: torch.save(torch.from_numpy(rows), file),
        ".safetensors": lambda: save_file({"x": torch.from_numpy(rows)}, file),
    }[file.suffix]()
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole))])
    said = refusal(tmp_path, array, file)
    assert repr(str(file)) in said
    assert ("damaged, cut short" if keep else "is empty") in said
    assert "Write the numbers again with" in said


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.pt", "x.safetensors"])
def test_garbage_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"<script>alert(1)</script>" * 40)
    assert "damaged, cut short" in refusal(tmp_path, array, tmp_path / name)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.pt", "list.pt"])
def test_pickled_objects_are_never_opened(tmp_path, name):
    trap, file = Trap(tmp_path / "sprung"), tmp_path / name
    if file.suffix == ".pt":
        torch.save([trap] if name == "list.pt" else trap, file)
    elif file.suffix == ".npz":
        np.savez(file, np.array([trap], dtype=object))
    else:
        np.save(file, np.array([trap], dtype=object), allow_pickle=True)
    said = refusal(tmp_path, array, file)
    assert "Pickled objects are never loaded, because opening them runs code" in said
    assert "weights_only" not in said  # torch's advice to load it anyway
    assert not trap.path.exists()


def test_the_trap_would_have_sprung(tmp_path):
    torch.save(Trap(tmp_path / "sprung"), tmp_path / "x.pt")
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert (tmp_path / "sprung").exists()


def test_keys(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    np.savez(tmp_path / "x.npz", first=ROWS, second=ROWS)
    np.savez(tmp_path / "none.npz")
    torch.save({"a": torch.ones(2, 1), "b": torch.ones(2, 1), "lr": 0.1}, tmp_path / "x.pt")
    torch.save(torch.ones(2, 1), tmp_path / "alone.pt")
    save_file({f"w{i:03}": torch.ones(1) for i in range(100)}, tmp_path / "x.safetensors")
    said = refusal(tmp_path, array, tmp_path / "x.npz")
    assert "needs a key, for it holds several arrays. Its keys are 'first', 'second'" in said
    said = refusal(tmp_path, array, tmp_path / "x.npz", key="frist")
    assert "has no key 'frist'. Its keys are 'first', 'second'" in said
    assert "keys are 'a', 'b'; choose" in refusal(tmp_path, array, tmp_path / "x.pt", key="lr")
    assert "and 88 more" in refusal(tmp_path, array, tmp_path / "x.safetensors")
    assert "holds no array" in refusal(tmp_path, array, tmp_path / "none.npz")
    for alone in ("x.npy", "alone.pt"):
        assert "Leave the key out" in refusal(tmp_path, array, tmp_path / alone, key="a")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent.npy", "does not exist; arrays are read from .npy, .npz, .pt, .safetensors"),
        ("folder.npy", "is not a file"),
        ("x.csv", "ends in '.csv'; arrays are read from"),
        ("x", "ends in ''; arrays are read from"),
    ],
)
def test_wrong_paths(tmp_path, name, said):
    (tmp_path / "folder.npy").mkdir()
    for file in ("x.csv", "x"):
        (tmp_path / file).write_text("1,2")
    assert said in refusal(tmp_path, array, tmp_path / name)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([["a"], ["b"]]), "values of type <U1; only real numbers"),
        (np.array([[1j], [2]]), "values of type complex128; only real numbers"),
        (np.zeros(3, dtype=[("x", float)]), "only real numbers"),
        (np.array([["2020-01-01"]], dtype="M8[D]"), "only real numbers"),
        (np.float64(3.0), "an array of shape () is not a set of points"),
        (np.arange(5.0), "n numbers are points of one coordinate as an array of shape (n, 1)"),
        (np.zeros((1, 3)), "at least 2"),
        (np.zeros((0, 3)), "(0, 3)"),
        (np.zeros((4, 0)), "(4, 0)"),
        (np.array([[-1e101], [0.0]]), "the largest value is 1e+101"),
        (np.array([[1e101], [0.0]]), "the largest value is 1e+101"),
        (np.ones((4, 3)), "all 4 points are equal, so there is nothing to learn"),
        (np.array([[0.0, 1.0], [np.nan, np.inf]]), "2 of 4 values are NaN or infinite"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(np.shape(value)),
)
def test_unusable_values(tmp_path, values, said):
    np.save(tmp_path / "x.npy", values)
    assert said in refusal(tmp_path, array, tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        (torch.ones(2, 1, dtype=torch.complex64), "dense tensors of real numbers"),
        (torch.ones(2, 1).to_sparse(), "dense tensors of real numbers"),
        ([torch.ones(2)], "holds a list; a tensor or a dictionary of tensors is needed"),
        ({"lr": 0.1}, "holds no array"),
    ],
)
def test_unusable_tensors(tmp_path, saved, said):
    torch.save(saved, tmp_path / "x.pt")
    assert said in refusal(tmp_path, array, tmp_path / "x.pt")


# Checks


def test_duplicates_are_counted_and_removed_on_demand():
    rows = torch.tensor([[1.0, 2.0], [0.0, 3.0], [1.0, 2.0], [-0.0, 3.0], [1.0, 2.5]])
    assert count_duplicates(rows) == 2
    assert deduplicate(rows).tolist() == [[1.0, 2.0], [0.0, 3.0], [1.0, 2.5]]
    kept, removed = prepare("x", rows), prepare("x", rows, deduplicate=True)
    assert (kept.n_duplicates, len(kept.points)) == (2, 5)
    assert (removed.n_duplicates, len(removed.points)) == (2, 3)


def test_duplicates_against_numpy():
    rows = np.random.default_rng(0).integers(0, 3, size=(500, 5)).astype(float)
    distinct = np.unique(rows, axis=0)
    assert count_duplicates(torch.from_numpy(rows)) == 500 - len(distinct)
    np.testing.assert_array_equal(np.unique(deduplicate(torch.from_numpy(rows)), axis=0), distinct)


def test_constant_coordinates_are_dropped_and_restored():
    points = torch.randn(6, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points[:, 0, 1], points[:, 1, 2] = 7.0, -0.25
    found = prepare("x", points)
    assert (found.n_constant, found.dim, found.shape) == (2, 4, (2, 3))
    assert found.kept is not None
    assert found.kept.tolist() == [True, False, True, True, True, False]
    torch.testing.assert_close(found.points, points.flatten(1)[:, [0, 2, 3, 4]], rtol=0, atol=0)
    torch.testing.assert_close(found.restore(found.points), points, rtol=0, atol=0)
    drawn = found.restore(torch.zeros(2, 4))
    assert drawn.flatten(1)[1].tolist() == [0.0, 7.0, 0.0, 0.0, 0.0, -0.25]
    with pytest.raises(DataError, match=r"points of 6 coordinates cannot be restored.* has 4"):
        found.restore(points)


def test_nearly_constant_coordinates_are_kept():
    rows = torch.tensor([[1.0, 0.0], [1.0 + 2**-40, 1.0]], dtype=torch.float64)
    assert drop_constant(rows)[1].tolist() == [True, True]


def test_std_is_numpys():
    rows = np.random.default_rng(0).normal(size=(50, 3, 2)) * [1.0, 4.0] + 10
    expected = np.sqrt(np.trace(np.cov(rows.reshape(50, 6).T, bias=True)) / 6)
    assert prepare("x", torch.from_numpy(rows)).std == pytest.approx(expected)


# Digits and glyphs


def test_digits_are_scikit_learns_in_minus_one_to_one():
    pixels = load_digits().data
    found = digits()
    np.testing.assert_allclose(found.restore(found.points).flatten(1), pixels / 8 - 1)
    assert (found.shape, len(found.points), found.n_duplicates) == ((1, 8, 8), 1797, 0)
    assert found.n_constant == int((pixels.std(0) == 0).sum())
    assert describe_units(found.points) == "[-1, 1]"
    assert digits() is found


def test_glyphs_are_many_distinct_centred_images():
    """27,718 with Pillow 13; another font renderer may merge or tell apart a few more."""
    found = glyphs()
    assert 27_000 < len(found.points) < 29_000
    assert (found.shape, found.n_duplicates, found.dim) == ((1, 16, 16), 0, 256)
    assert describe_units(found.points) == "[-1, 1]"
    ink = found.restore(found.points)[:, 0] > -1
    assert bool(ink.any((1, 2)).all())
    for axis in (1, 2):
        lines = ink.any(axis).int()
        before, after = lines.argmax(1), lines.flip(1).argmax(1)
        assert float(((before - after).abs() <= 1).double().mean()) > 0.99


def test_the_first_glyph_is_an_exclamation_mark():
    """One upright stroke above a dot: ink in few columns, with an empty row between."""
    first = glyphs().points[0, 0] > -1
    rows = "".join("x" if filled else "." for filled in first.any(1).tolist())
    assert re.fullmatch(r"\.*x{4,}\.x+\.*", rows)
    assert 1 <= int(first.any(0).sum()) <= 3


# Units


def double(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).double()


@pytest.mark.parametrize(
    ("values", "convention"),
    [
        ([0.0, 0.3, 1.0], "[0, 1]"),
        ([0.04, 0.96], "[0, 1]"),
        ([-1.0, 1.0], "[-1, 1]"),
        ([-0.92, 0.91], "[-1, 1]"),
        ([0.0, 255.0], "0..255"),
        ([3.0, 250.0], "0..255"),
        ([0.0, 16.0], "free"),
        ([0.0, 1.01], "free"),
        ([-1.2, 1.0], "free"),
        ([-0.1, 0.2], "free"),
        ([0.3, 0.7], "free"),
        ([0.0, 300.0], "free"),
    ],
)
def test_conventions(values, convention):
    assert describe_units(torch.tensor(values)) == convention


def test_integer_and_boolean_tensors_have_conventions():
    assert describe_units(torch.tensor([0, 255], dtype=torch.uint8)) == "0..255"
    assert describe_units(torch.tensor([False, True])) == "[0, 1]"


DIGITS = load_digits().data / 8 - 1
AS = {
    "[0, 1]": lambda x: (x + 1) / 2,
    "0..255": lambda x: 127.5 * (x + 1),
    "0..16": lambda x: 8 * (x + 1),
}


@pytest.mark.parametrize("unclipped", [False, True])
@pytest.mark.parametrize("n", [3, 20, 500])
@pytest.mark.parametrize("units", ["[0, 1]", "0..255"])
def test_digits_in_other_units_are_refused_at_any_size(units, n, unclipped):
    rng = np.random.default_rng(n)
    rows = rng.permutation(DIGITS)
    generated = rows[n : 2 * n] + (0.05 * rng.normal(size=(n, 64)) if unclipped else 0)
    sets = {"training": double(rows[:n]), "generated": double(AS[units](generated))}
    for named in (sets, dict(reversed(sets.items()))):
        with pytest.raises(DataError) as refused:
            check_same_units(named)
        said = str(refused.value)
        assert "not in the same units" in said
        assert units in said
        assert "[-1, 1]" in said
        assert "--allow-mixed-units" in said
        assert len(said.splitlines()) <= 8


def test_the_table_of_a_refusal_states_ranges_and_moments():
    training, generated = DIGITS[:900], (DIGITS[900:] + 1) * 127.5
    with pytest.raises(DataError) as refused:
        check_same_units({"training": double(training), "generated": double(generated)})
    lines = str(refused.value).splitlines()
    for name, rows in (("training", training), ("generated", generated)):
        (line,) = [line for line in lines if line.split()[0] == name]
        stated = [float(number) for number in line.split()[1:5]]
        found = [rows.min(), rows.max(), rows.mean(), rows.std()]
        assert stated == pytest.approx(found, rel=1e-3)


def test_mixed_units_can_be_insisted_on():
    named = {"training": double(DIGITS), "generated": double(AS["0..255"](DIGITS))}
    warned = check_same_units(named, allow_mixed_units=True)
    assert warned[0] == "training is in [-1, 1], generated in 0..255"
    assert re.match(r"the spread of generated is 12[78] times that of training", warned[1])


def test_the_third_set_is_compared_too():
    named = {"generated": DIGITS[:600], "training": DIGITS[600:1200],
             "held-out": AS["[0, 1]"](DIGITS[1200:])}  # fmt: skip
    with pytest.raises(DataError, match=r"generated is in \[-1, 1\], held-out in \[0, 1\]"):
        check_same_units({name: double(rows) for name, rows in named.items()})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.bool])
def test_integers_against_floats_are_refused(dtype):
    whole = torch.randint(0, 2, (50, 4), generator=torch.Generator().manual_seed(0)).to(dtype)
    with pytest.raises(DataError, match=f"training is stored as {str(dtype)[6:]}, generated as"):
        check_same_units({"training": whole, "generated": whole.float()})
    assert check_same_units({"training": whole, "generated": whole.flip(0)}) == ()


def test_free_units_far_apart_are_refused():
    rng = np.random.default_rng(0)
    raw, standardized = 50 + 15 * rng.normal(size=(100, 4)), rng.normal(size=(100, 4))
    for named in ({"a": raw, "b": standardized}, {"a": standardized, "b": raw}):
        with pytest.raises(DataError, match="a and b disagree in both centre and range"):
            check_same_units({name: double(rows) for name, rows in named.items()})
    with pytest.raises(DataError, match="disagree in both centre and range"):
        check_same_units({"a": double(DIGITS), "b": double(AS["0..16"](DIGITS))})


def linear_samples(rows: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian samples with the mean of `rows` and `spread` times their covariance."""
    return rng.multivariate_normal(rows.mean(0), spread * np.cov(rows.T), size=200)


def innocent(case: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Training and generated sets in the same units, however poor the generator."""
    rows = rng.permutation(DIGITS)[:100]
    return {
        "gaussian of mean 10, shrunk": lambda: (
            10 + rng.normal(size=(50, 16)), 10 + 0.7 * rng.normal(size=(80, 16))),
        "gaussian, shrunk to a tenth": lambda: (
            rng.normal(size=(50, 16)), 0.1 * rng.normal(size=(80, 16))),
        "linear model overshoots": lambda: (rows, linear_samples(rows, 1.0, rng)),
        "linear model, shrunk": lambda: (rows, linear_samples(rows, 0.3, rng)),
        "bright images, shrunk into [0, 1]": lambda: (
            (bright := 0.9 + 0.1 * np.clip(rng.normal(size=(400, 64)) - 5
             * (rng.random((400, 64)) < 0.05), -19, 1)), 0.9 + 0.46 * (bright - 0.9)),
        "blank images": lambda: (rows, np.full((50, 64), -1.0) + 0.01 * rng.random((50, 64))),
        "one image": lambda: (rows, rows[:1] + 0.02 * rng.normal(size=(50, 64))),
        "noise": lambda: (rows, rng.normal(size=(50, 64))),
        "one mode of two": lambda: (
            rng.choice([-5, 5], size=(60, 1)) + rng.normal(size=(60, 3)),
            5 + rng.normal(size=(60, 3))),
        "a rare value": lambda: (
            rng.choice([-1.0, 0, 1], p=[0.004, 0.5, 0.496], size=(200, 2)),
            rng.choice([-1.0, 0, 1], p=[0.0, 0.5, 0.5], size=(200, 2))),
        "heavy tails": lambda: (
            rng.standard_t(2, size=(60, 3)), 0.7 * rng.standard_t(2, size=(60, 3))),
        "skewed": lambda: (rng.lognormal(0, 1.5, size=(60, 2)), rng.lognormal(0, 1, size=(30, 2))),
        "columns of all scales": lambda: (
            (scales := 10.0 ** np.arange(5)) * (2 + rng.normal(size=(40, 5))),
            scales * (2 + 0.5 * rng.normal(size=(40, 5)))),
    }[case]()  # fmt: skip


@pytest.mark.parametrize("case", [
    "gaussian of mean 10, shrunk", "gaussian, shrunk to a tenth", "linear model overshoots",
    "linear model, shrunk", "bright images, shrunk into [0, 1]", "blank images", "one image",
    "noise", "one mode of two", "a rare value", "heavy tails", "skewed", "columns of all scales",
])  # fmt: skip
def test_no_generator_is_refused_for_being_poor(case):
    for seed in range(20):
        training, generated = innocent(case, np.random.default_rng(seed))
        check_same_units({"training": double(training), "generated": double(generated)})


@pytest.mark.parametrize("n", [1, 2, 3, 10])
@pytest.mark.parametrize("dim", [1, 2, 64])
def test_small_sets_of_one_law_are_rarely_refused(n, dim):
    """At most 2 of 40 pairs of each of four laws; the rate over 400 pairs is below 1 %."""
    rng = np.random.default_rng(n)
    laws = {
        "normal": lambda: rng.normal(10, 1, size=(n, dim)),
        "uniform": lambda: rng.random((n, dim)),
        "two modes": lambda: rng.choice([-5.0, 5.0], size=(n, 1)) + rng.normal(size=(n, dim)),
        "skewed": lambda: rng.exponential(size=(n, dim)),
    }
    for draw in laws.values():
        pairs = [{"a": double(draw()), "b": double(draw())} for _ in range(40)]
        refused = [p for p in pairs if datasets._disagreement(
            *(datasets._Summary.of(name, rows) for name, rows in p.items()))]  # fmt: skip
        assert len(refused) <= 2


@pytest.mark.parametrize(
    ("ends", "units"),
    [
        ((0.049, 0.951), "[0, 1]"), ((0.051, 0.951), "free"), ((0.049, 0.949), "free"),
        ((-5e-7, 1 + 5e-7), "[0, 1]"), ((-5e-6, 1.0), "free"), ((0.0, 1 + 5e-6), "free"),
        ((-0.91, 0.91), "[-1, 1]"), ((-0.89, 0.91), "free"), ((-0.91, 0.89), "free"),
        ((12.0, 243.0), "0..255"), ((13.0, 243.0), "free"), ((12.0, 242.0), "free"),
        ((0.0, 255.001), "free"), ((-0.001, 255.0), "free"),
    ],
)  # fmt: skip
def test_a_convention_reaches_within_a_twentieth_of_its_ends(ends, units):
    assert datasets.describe_units(double([[ends[0], np.mean(ends), ends[1]]])) == units


def test_differences_of_spread_are_warned_about_beyond_a_factor_two():
    rows = np.random.default_rng(0).normal(size=(500, 8))
    assert check_same_units({"training": double(rows), "generated": double(0.6 * rows)}) == ()
    (warned,) = check_same_units({"training": double(rows), "generated": double(0.25 * rows)})
    assert warned == "the spread of generated is 0.25 times that of training"
    for factor, n_warned in ((0.505, 0), (0.495, 1), (1.98, 0), (2.02, 1)):
        sets = {"training": double(rows), "generated": double(factor * rows)}
        assert len(check_same_units(sets)) == n_warned


def test_unit_checks_refuse_what_cannot_be_compared():
    with pytest.raises(DataError, match="generated: 1 of 2 values are NaN"):
        check_same_units({"generated": torch.tensor([[0.0], [torch.nan]])})
    with pytest.raises(DataError, match=r"generated: an array of shape .* holds no points"):
        check_same_units({"generated": torch.zeros(0, 2)})


# Splits


def test_roles_are_disjoint_and_of_the_sizes_asked():
    for size in (5, 6, 17, 200):
        most = (size - size // 2) // 3
        for n in {1, most}:
            found = split(size, n=n, seed=0, replicate=3)
            rows = torch.cat(found)
            assert len(rows.unique()) == len(rows)
            assert (int(rows.min()) >= 0, int(rows.max()) < size) == (True, True)
            assert [len(part) for part in found[:3]] == [n, n, n]
            assert len(found.original) == size // 2 // 2
            assert len(found.original) + len(found.oracle) == size // 2


def test_sizes_of_original_and_oracle():
    found = split(100, n=4, n_original=30, n_generated=7, seed=0, replicate=0)
    assert [len(part) for part in found] == [4, 4, 4, 30, 7]
    assert len(split(100, n=4, n_original=30, seed=0, replicate=0).oracle) == 20
    assert len(split(100, n=4, n_generated=7, seed=0, replicate=0).oracle) == 7


def test_one_original_and_oracle_serve_every_n_of_a_replicate():
    splits = [split(300, n=n, seed=5, replicate=2) for n in (1, 10, 50)]
    for other in splits[1:]:
        assert torch.equal(other.original, splits[0].original)
        assert torch.equal(other.oracle, splits[0].oracle)
    longer = split(300, n=10, n_original=90, seed=5, replicate=2)
    assert torch.equal(longer.original[:75], splits[0].original)


def test_draws_depend_on_seed_replicate_and_n_alone():
    def same(a, b):
        return [torch.equal(x, y) for x, y in zip(a, b, strict=True)]

    first = split(300, n=20, seed=0, replicate=0)
    torch.manual_seed(123)
    assert same(first, split(300, n=20, seed=0, replicate=0)) == [True] * 5
    assert same(first, split(300, n=20, seed=0, replicate=1)) == [False] * 5
    assert same(first, split(300, n=20, seed=1, replicate=0)) == [False] * 5
    assert not torch.equal(first.training[:10], split(300, n=10, seed=0, replicate=0).training)


def test_every_point_is_equally_likely_in_every_role():
    """Counts of 13 points over 1,500 replicates, in each of the five roles.

    Draws without replacement: sum (count - mean)² / (R p (1 - p)) (N - 1) / N is chi-squared with
    N - 1 degrees of freedom. Five tests at 1e-5.
    """
    size, replicates = 13, 1500
    counts = np.zeros((5, size))
    for r in range(replicates):
        found = split(size, n=2, n_original=3, n_generated=2, seed=0, replicate=r)
        for role, rows in enumerate(found):
            counts[role, rows.numpy()] += 1
    for role, n in enumerate((2, 2, 2, 3, 2)):
        p = n / size
        squares = ((counts[role] - replicates * p) ** 2).sum() / (replicates * p * (1 - p))
        assert stats.chi2.sf(squares * (size - 1) / size, size - 1) > 1e-5


def test_training_and_held_out_are_exchangeable():
    """Of 2,000 replicates with n = 1, all 20 ordered pairs of 5 points are equally frequent.

    Chi-square refused at p < 1e-5, the false-alarm rate.
    """
    pairs = np.zeros((5, 5))
    for r in range(2000):
        found = split(5, n=1, seed=1, replicate=r)
        pairs[int(found.training), int(found.held_out)] += 1
    assert np.all(np.diag(pairs) == 0)
    assert stats.chisquare(pairs[~np.eye(5, dtype=bool)]).pvalue > 1e-5


def stated_range(said: str) -> tuple[int, int]:
    low, high = re.findall(r"can be (\d+) to (\d+)", said)[0]
    return int(low), int(high)


@pytest.mark.parametrize("size", [5, 6, 40, 41, 42, 43, 1797])
def test_refused_n_comes_with_the_largest_that_fits(size):
    for n in (0, -3, size // 6 + 2, size):
        with pytest.raises(ConfigError) as refused:
            split(size, n=n, seed=0, replicate=0)
        low, high = stated_range(str(refused.value))
        for fits in (low, high):
            assert len(split(size, n=fits, seed=0, replicate=0).training) == fits
        with pytest.raises(ConfigError):
            split(size, n=high + 1, seed=0, replicate=0)


@pytest.mark.parametrize(
    ("asked", "option"),
    [
        ({"n_original": 10_000}, "n_original"),
        ({"n_original": 50}, "n_original"),
        ({"n_original": 0}, "n_original"),
        ({"n_original": 40, "n_generated": 11}, "n_generated"),
        ({"n_generated": 26}, "n_generated"),
        ({"n_generated": 0}, "n_generated"),
    ],
)
def test_refused_evaluation_sizes_come_with_those_that_fit(asked, option):
    with pytest.raises(ConfigError) as refused:
        split(100, n=5, seed=0, replicate=0, **asked)
    said = str(refused.value)
    assert said.startswith(f"{option} = {asked[option]} does not fit")
    low, high = stated_range(said)
    for fits in (low, high):
        split(100, n=5, seed=0, replicate=0, **{**asked, option: fits})
    with pytest.raises(ConfigError):
        split(100, n=5, seed=0, replicate=0, **{**asked, option: high + 1})


@pytest.mark.parametrize("size", [0, 1, 4])
def test_data_sets_too_small_to_split(size):
    with pytest.raises(ConfigError, match="At least 5 points are needed"):
        split(size, n=1, seed=0, replicate=0)


# Whatever a path holds


def test_pickles_are_not_read_as_anything(tmp_path):
    for name in ("x.pkl", "x.pickle", "x.joblib"):
        (tmp_path / name).write_bytes(b"\x80\x04K\x01.")
        with pytest.raises(DataError, match="arrays are read from"):
            datasets.read(tmp_path / name)


@pytest.mark.parametrize("unit", [1.0, 2.0**-500, 2.0**300])
def test_moments_know_what_is_constant(unit):
    """A column of 14.62 has a rounded variance above 0, and one of 1 and 1 + 2^-52 must not."""
    n = 200
    columns = [np.full(n, 14.62), np.full(n, 0.1), np.full(n, -1 / 3), np.ones(n), np.arange(n)]
    columns[3][7] = np.nextafter(1, 2)
    points = torch.from_numpy(unit * np.stack(columns, 1))
    mean, variance = datasets.moments(points[:120], points[120:])
    assert (variance > 0).tolist() == [False, False, False, True, True]
    assert torch.equal(mean[:3], points[0, :3])
    assert float(mean[4]) == unit * (n - 1) / 2
    assert float(variance[4]) / unit**2 == pytest.approx((n * n - 1) / 12, rel=1e-14)


def test_constant_sets_have_no_spread():
    same = torch.full((50, 3), 14.62, dtype=torch.float64)
    assert datasets.check_same_units({"a": same, "b": same[:20]}) == ()
    assert datasets._Summary.of("a", same).std == 0
    with pytest.raises(DataError, match="disagree in both centre and range"):
        datasets.check_same_units({"a": same, "b": 1.01 * same})


def test_rows_are_drawn_and_not_counted_off():
    """Of rows that cycle through ten classes every tenth is one class."""
    classes = torch.arange(1000)[:, None] % 10
    drawn = datasets._some_rows(classes, 100)
    assert len(drawn) == 100
    assert set(drawn[:, 0].tolist()) == set(range(10))
    assert datasets._some_rows(classes, 1000) is classes
