"""Tables: what is read right and what is refused, files and data frames alike."""

import ast
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas
import polars
import pyarrow
import pytest
import torch
from pyarrow import parquet
from typer import main
from typer.testing import CliRunner

import genonset
from genonset.cli import app
from genonset.datasets import read, read_sets
from genonset.errors import DataError
from genonset.onset import curve_onset, read_curve
from genonset.tables import from_frame, read_table

NAMES = list("abcd")
ENTRANCES = ("csv", "semicolons", "parquet", "pandas", "polars", "pyarrow")


def numbers(n=60, d=4, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def enter(frame, entrance, path, name="x"):
    """A pandas frame, without its index, as an audit reads it by one of the entrances."""
    file = path / f"{name}.{'parquet' if entrance == 'parquet' else 'csv'}"
    if entrance == "csv":
        frame.to_csv(file, index=False)
    elif entrance == "semicolons":
        frame.to_csv(file, index=False, sep=";", decimal=",")
    elif entrance == "parquet":
        frame.to_parquet(file, index=False)
    else:
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        made = {"pandas": frame, "polars": polars.from_arrow(table), "pyarrow": table}
        made["polars"].columns = list(frame.columns)
        return from_frame(name, made[entrance])
    return read_table(file)


def written(path, text, name="x.csv"):
    (path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return path / name


def refused(path, text, *words):
    with pytest.raises(DataError) as raised:
        read(written(path, text))
    for word in words:
        assert word in str(raised.value)


def three(copies=20, n=60, d=4):
    """Generated with copies, training and held-out numbers."""
    generated, training, held_out = (numbers(n, d, seed) for seed in range(3))
    generated[:copies] = training[:copies]
    return generated, training, held_out


def saved(path, tables, save):
    """Paths of tables of an audit, each saved by a function of table and path."""
    paths = {name: path / f"{name}.csv" for name in ("generated", "training", "held_out")}
    for table, file in zip(tables, paths.values(), strict=True):
        save(table, file)
    return paths


# Text: fields, separators, numbers


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a,b\n1,2\n3,4.5\n", ("a", "b")),
        ("\ufeffa;b\r\n1;2\r\n3;4.5\r\n", ("a", "b")),
        ("a;b\n1;2\n3;4,5\n", ("a", "b")),
        ("1\t2\n3\t4.5\n", ("column 1", "column 2")),
        ("1\t2,0\n3\t4,5\n", ("column 1", "column 2")),
        ('"a, long",b\n1,2\n\n3,4.5\n', ("a, long", "b")),
        ('a,b\n1,"2,0"\n3,"4,5"\n', ("a", "b")),
        ("a,b,\n1,2,\n3,4.5,\n", ("a", "b")),
        ("1,2,,\r3,4.5,,\r", ("column 1", "column 2")),
        ("a b\n1 2\n  3   4.5 \n", ("a", "b")),
        ("# a b\n1.0e+00 2\n3 4.5\n", ("a", "b")),
        ("a, b\n1, 2\n3, 4.5\n", ("a", "b")),
        ("a,A\n+1,.2e1\n3.,45E-1\n", ("a", "A")),
        ("size, mm\tb\n1\t2\n3\t4.5\n", ("size, mm", "b")),
        ("flag,b\nTrue,2\n3,4.5\n", None),
    ],
)
def test_text_is_read_field_by_field(tmp_path, text, columns):
    if columns is None:
        refused(tmp_path, text, "'flag': text such as 'True' in 1 rows, first in row 0")
        return
    found = read(written(tmp_path, text))
    assert (found.kind, found.columns) == ("table", columns)
    assert found.points.dtype == torch.float64
    assert found.points.tolist() == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("a,b\n", ["no row of numbers"]),
        ("a,b\n1,2\n3\n", ["1 rows do not have 2 fields, the first is row 1 (counting from 0"]),
        ("a,b\n1,2\n3,4,5\n", ["1 rows do not have 2 fields, the first is row 1"]),
        ("a,b\n1,5,2,0\n3,1,2,5\n", ["has 2 fields and all others have 4", "decimal points"]),
        ("# made by me\na,b\n1,2\n", ["1 fields and all others have 2", "no lines of comment"]),
        ("a,b\n1,2\n# half way\n3,4\n", ["first is row 1", "no lines of comment"]),
        ('"a" "b"\n"1" 1.5 2\n"2" 2.5 3\n', ["has 2 fields and all others have 3", "names of r"]),
        ("a,city\n1,Paris\n2,Rome\n", ["'city': text such as 'Paris' in 2 rows, first in row 0"]),
        ("a,b\n1,2\n3,\n", ["'b': empty fields in 1 rows, first in row 1"]),
        ("1.5,,3\n2,2,2\n", ["'column 2': empty fields in 1 rows, first in row 0"]),
        ("NA,2.5\n1,2\n", ["'column 1': gaps such as 'NA' in 1 rows, first in row 0"]),
        ("a,b\n1,2\nnan,inf\n-inf,1e999\n", ["'a': gaps such as 'nan' in 1 rows, first in row 1; "
         "values that are not finite in 1 rows, first in row 2",
         "'b': values that are not finite in 2 rows, first in row 1"]),
        ("a,b\n0_1,2\n", ["'a': text such as '0_1' in 1 rows, first in row 0"]),
        ("0_1,2\n3,4\n", ["'column 1': text such as '0_1' in 1 rows, first in row 0"]),
        ("a,b\n1,2\n\u0661\u0662,2\n", ["text such as '\u0661\u0662' in 1 rows, first in row 1"]),
        ("a,b\n0x1F,2\n", ["text such as '0x1F'"]),
        ('a,b\n"1,234",2\n"5,678",1\n', ["'1,234' may be a decimal mark or part thousands"]),
        ("a;b\n1,234;2\n5,678;1\n", ["'1,234' may be a decimal mark or part thousands"]),
        ('a,b\n"1,234.5",2\n3,1\n', ["text such as '1,234.5'", "without commas for thousands"]),
        ("a;b\n1.234,5;2,5\n1;2\n", ["text such as '1.234,5'"]),
        ("a;b\n1,5;2.5\n1;2\n", ["text such as '1,5'"]),
        ("a,b,a\n1,2,3\n", ["2 columns are called 'a'"]),
        ("a, a\n1,2\n", ["2 columns are called 'a'"]),
        ("1,05,2,00\n0,5,3,25\n", ["'05' in row 0", "comma inside a number"]),
        (",0,1\n5,1.5,2\n3,4.5,6\n", ["'' is the index", "counts the rows"]),
        ("a,,b\n1,2,3\n4,5,6\n", ["'' is the index", "column without a name"]),
        ('a,b\n"1,2\n3,4\n', ["x.csv"]),
        (b"a,b\n\xff\xfe,2\n", ["cannot be read as a table", "UTF-8"]),
    ],
)  # fmt: skip
def test_text_that_is_refused(tmp_path, text, words):
    refused(tmp_path, text, *words)


def test_commas_are_decimal_where_one_number_tells(tmp_path):
    found = read(written(tmp_path, "a;b\n1,234;2\n5,6;1\n"))
    assert found.points.tolist() == [[1.234, 2], [5.6, 1]]


def test_numbers_are_those_of_another_parser(tmp_path):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 3)) * 10.0 ** rng.integers(-300, 300, size=(200, 3))
    for separator in (",", ";", "\t", " "):
        file = io.StringIO()
        np.savetxt(file, x, fmt="%.17g", delimiter=separator)
        assert np.array_equal(read(written(tmp_path, file.getvalue())).points.numpy(), x)


def test_endings_in_capitals(tmp_path):
    frame = pandas.DataFrame(numbers(), columns=NAMES)
    frame.to_csv(tmp_path / "x.CSV", index=False)
    frame.to_csv(tmp_path / "x.TSV", index=False, sep="\t")
    frame.to_parquet(tmp_path / "x.PARQUET")
    np.save(tmp_path / "x.npy", frame.to_numpy())
    (tmp_path / "x.npy").rename(tmp_path / "x.NPY")
    for name in ("x.CSV", "x.TSV", "x.PARQUET", "x.NPY"):
        assert np.array_equal(read(tmp_path / name).points.numpy(), frame.to_numpy())


def test_parquet_that_is_none(tmp_path):
    (tmp_path / "z.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read(tmp_path / "z.parquet")


# One validation for every entrance


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_entrance_gives_the_same_numbers(tmp_path, entrance):
    frame = pandas.DataFrame({
        "whole": pandas.array([1, 2, 3], dtype="Int64"),
        "byte": np.array([0, 128, 255], dtype=np.uint8),
        "flag": [True, False, True],
        "nullable flag": pandas.array([False, True, True], dtype="boolean"),
        "nullable": pandas.array([0.5, 1.25, -3], dtype="Float64"),
        "single": np.array([0.5, 0.1, 2], dtype=np.float32),
    })  # fmt: skip
    frame.index = [7, 3, 9]
    found = enter(frame, entrance, tmp_path)
    assert found.columns == tuple(frame.columns)
    assert found.points.dtype == torch.float64
    right = [[1, 0, 1, 0, 0.5, 0.5], [2, 128, 0, 1, 1.25, 0.1], [3, 255, 1, 1, -3, 2]]
    assert np.allclose(found.points, right, rtol=1e-7, atol=0)


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_entrance_refuses_gaps_and_text(tmp_path, entrance):
    frame = pandas.DataFrame({
        "a": pandas.array([1, None, 3, None], dtype="Int64"),
        "b": ["x", "y", "z", "w"],
        "c": [1.5, 2.5, 3.5, 4.5],
        "d": pandas.array([True, True, None, True], dtype="boolean"),
    })  # fmt: skip
    with pytest.raises(DataError) as raised:
        enter(frame, entrance, tmp_path)
    said = str(raised.value)
    assert "'a': empty fields in 2 rows, first in row 1" in said
    assert "'d': empty fields in 1 rows, first in row 2" in said
    assert "  'b': " in said
    assert "  'c': " not in said


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_every_entrance_refuses_what_is_not_finite(tmp_path, entrance, value):
    frame = pandas.DataFrame({"a": [1.0, 2, 3], "b": [1.0, value, value]})
    said = r"'b': values that are not finite in 2 rows, first in row 1"
    with pytest.raises(DataError, match=said):
        enter(frame, entrance, tmp_path)


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("name", ["Unnamed: 0", "Unnamed: 0.1", "__index_level_0__", "", "index"])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_every_entrance_refuses_an_index(tmp_path, entrance, name, place):
    frame = pandas.DataFrame(numbers(20), columns=NAMES)
    frame.insert(place, name, np.random.default_rng(1).permutation(1000)[:20])
    with pytest.raises(DataError, match=r"index=False in pandas, or reset_index\(drop=True\)"):
        enter(frame, entrance, tmp_path)


def test_a_column_called_index_that_repeats_is_one_of_data(tmp_path):
    frame = pandas.DataFrame({"index": [101.5, 99.25, 101.5], "b": [1.0, 2, 3]})
    assert enter(frame, "csv", tmp_path).columns == ("index", "b")


def test_an_index_with_a_name_is_known_by_parquet(tmp_path):
    frame = pandas.DataFrame(numbers(20), columns=NAMES)
    frame.index = pandas.Index(np.arange(20)[::-1], name="customer")
    frame.to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="'customer' is the index"):
        read(tmp_path / "x.parquet")


@pytest.mark.parametrize("deal", [False, True])
def test_an_index_among_columns_without_names(tmp_path, deal):
    rng = np.random.default_rng(2)
    order = rng.permutation(120) if deal else np.concatenate([rng.permutation(60), np.arange(60)])
    tables = [numbers(seed=k) for k in range(3)]
    tables[1] = np.column_stack([tables[1], order[:60]])
    tables[2] = np.column_stack([tables[2], order[60:]])
    tables[0] = np.column_stack([tables[0], order[30:90]])
    paths = saved(tmp_path, tables, lambda x, p: np.savetxt(p, x, delimiter=",", fmt="%.8g"))
    with pytest.raises(DataError, match=r"'column 5' is the index .* counts the rows"):
        read_sets(paths)


def test_a_named_column_that_numbers_the_rows_is_noted(tmp_path):
    tables = [pandas.DataFrame(numbers(seed=k), columns=NAMES) for k in range(3)]
    order = np.random.default_rng(0).permutation(120)
    for k, table in enumerate(tables):
        table["id"] = np.arange(60) * 3 if k == 0 else order[60 * (k - 1) :][:60]
    found = read_sets(saved(tmp_path, tables, lambda x, p: x.to_csv(p, index=False)))
    assert any("Column 'id' holds every whole number" in note for note in found["training"].notes)
    assert found["held_out"].notes == ()


# Whole numbers that floating-point numbers would round


@pytest.mark.parametrize("entrance", [e for e in ENTRANCES if e != "semicolons"])
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([[2**53 + 1, 1], [-5, 0]], torch.int64),
        ([[-(2**53) - 1, 1], [2**62 + 1, 0]], torch.int64),
        ([[2**63 + 1, 1], [5, 0]], torch.uint64),
        ([[2**53, 1], [2**60, 0]], torch.float64),
    ],
)
def test_large_whole_numbers_stay_whole(tmp_path, entrance, values, dtype):
    kind = np.uint64 if dtype == torch.uint64 else np.int64
    frame = pandas.DataFrame(np.array(values, dtype=kind), columns=["a", "b"])
    found = enter(frame, entrance, tmp_path)
    assert found.points.dtype == dtype
    assert [[int(v) for v in row] for row in found.points.numpy()] == values


@pytest.mark.parametrize("entrance", [e for e in ENTRANCES if e != "semicolons"])
def test_large_whole_numbers_beside_fractions_are_refused(tmp_path, entrance):
    frame = pandas.DataFrame({"id": [2**53 + 1, 3], "x": [0.5, 1.5]})
    with pytest.raises(DataError, match="'id' holds whole numbers beyond 2\\^53"):
        enter(frame, entrance, tmp_path)


def test_large_whole_numbers_that_text_mixes_or_overflows(tmp_path):
    refused(tmp_path, "a,b\n9007199254740993,1\n0.5,2\n", "such as 9007199254740993, beside")
    refused(tmp_path, "a,b\n123456789012345678901,1\n5,2\n", "more than 64 bits", "first in row 0")
    found = read(written(tmp_path, "a,b\n9007199254740993.0,1\n5,2\n"))
    assert found.points.tolist() == [[2**53 + 1, 1], [5, 2]]


def test_whole_numbers_and_points_agree_over_the_sets(tmp_path):
    texts = ("a,b\n9007199254740993,1\n5,2\n", "a,b\n4.0,1.0\n5,2\n", "a,b\n4.5,1\n5,2\n")
    paths = {
        name: written(tmp_path, text, f"{name}.csv")
        for name, text in zip(("training", "generated", "held_out"), texts, strict=True)
    }
    with pytest.raises(
        DataError, match=r"training holds whole numbers beyond .*held_out fractions"
    ):
        read_sets(paths)
    del paths["held_out"]
    found = read_sets(paths)
    assert {one.points.dtype for one in found.values()} == {torch.int64}
    assert found["generated"].points.tolist() == [[4, 1], [5, 2]]


def test_a_frame_of_whole_numbers_is_compared_with_an_array_of_them():
    rng = np.random.default_rng(0)
    tables = [rng.integers(0, 50, size=(40, 3)) for _ in range(3)]
    tables[0][:10] = tables[1][:10]
    right = genonset.audit(*tables, features="pixels").copying
    found = genonset.audit(pandas.DataFrame(tables[0]), *tables[1:], features="pixels").copying
    assert (found.identical, found.p_value) == (right.identical, right.p_value)
    assert right.identical == 10


# Columns by name


@pytest.mark.parametrize("entrance", ["csv", "parquet", "pandas", "polars", "pyarrow"])
def test_columns_are_matched_by_name(tmp_path, entrance):
    arrays = three()
    right = genonset.audit(*arrays, features="standardized")
    generated, training, held_out = (pandas.DataFrame(x, columns=NAMES) for x in arrays)
    tables = [generated[list("dbca")], training, held_out[list("bacd")]]
    if entrance in ("csv", "parquet"):
        names = [f"{k}.{entrance}" for k in range(3)]
        for table, name in zip(tables, names, strict=True):
            save = table.to_csv if entrance == "csv" else table.to_parquet
            save(tmp_path / name, index=False)
        found = genonset.audit_files(*(tmp_path / name for name in names))
    else:
        if entrance != "pandas":
            tables = [pyarrow.Table.from_pandas(t, preserve_index=False) for t in tables]
        if entrance == "polars":
            tables = [polars.from_arrow(t) for t in tables]
        found = genonset.audit(*tables)
    assert (right.copying.identical, right.copying.near_training) == (20, 20)
    assert found.copying.p_value == right.copying.p_value
    assert found.copying.identical == 20
    assert found.evidence.columns == tuple(NAMES)
    for name in ("generated", "held_out"):
        assert f"The columns of {name} were put in the order of training, by their names." in (
            found.notes
        )


@pytest.mark.parametrize("as_files", [True, False])
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["a", "b", "c", "x"], ["generated lacks d", "generated has x, which training has not"]),
        (["a", "b", "c", "D"], ["differ in capitals alone"]),
        (["0", "1", "2", "3"], ["names of generated only count"]),
    ],
)
def test_missing_and_extra_names_are_refused(tmp_path, as_files, columns, words):
    tables = [pandas.DataFrame(x, columns=NAMES) for x in three()]
    tables[0].columns = columns
    paths = saved(tmp_path, tables, lambda x, p: x.to_csv(p, index=False))
    with pytest.raises(DataError) as raised:
        genonset.audit_files(*paths.values()) if as_files else genonset.audit(*tables)
    for word in words:
        assert word in str(raised.value)


def test_fewer_columns_are_named(tmp_path):
    tables = [pandas.DataFrame(x, columns=NAMES) for x in three()]
    tables[2] = tables[2][["a", "d"]]
    with pytest.raises(DataError, match="held_out lacks b, c"):
        genonset.audit(*tables)


def test_names_beside_none_are_refused(tmp_path):
    tables = [pandas.DataFrame(x, columns=NAMES) for x in three()]
    paths = saved(tmp_path, tables, lambda x, p: x.to_csv(p, index=False))
    for name in ("generated", "training"):
        np.savetxt(paths[name], three()[1], delimiter=",")
        with pytest.raises(
            DataError, match=f"{name}: the first line holds numbers, not names.* a, b, c, d"
        ):
            read_sets(paths)
        tables[("generated", "training").index(name)].to_csv(paths[name], index=False)


def test_arrays_beside_tables_are_taken_in_their_order_with_a_note():
    generated, training, held_out = three()
    right = genonset.audit(generated, training, held_out, features="pixels").copying.p_value
    frames = [pandas.DataFrame(x, columns=NAMES) for x in (training, held_out)]
    found = genonset.audit(generated, frames[0], frames[1][list("dcba")], features="pixels")
    assert found.copying.p_value == right
    assert (
        "generated has no names of columns; they were taken in the order of training: a, b, c, d."
        in found.notes
    )
    with pytest.raises(DataError, match="nobody can tell which order is that of training"):
        genonset.audit(
            pandas.DataFrame(generated, columns=NAMES), training, frames[1][NAMES[::-1]]
        )


def test_frames_whose_names_only_count_are_taken_as_they_stand():
    generated, training, held_out = three()
    right = genonset.audit(generated, training, held_out, features="pixels")
    frame = pandas.DataFrame(generated)
    from_one = pandas.DataFrame(held_out, columns=range(1, 5))
    for sets in ((frame, training, held_out), (generated, pandas.DataFrame(training), from_one),
                 (frame[[2, 0, 3, 1]], pandas.DataFrame(training), held_out)):  # fmt: skip
        found = genonset.audit(*sets, features="pixels")
        assert found.copying.p_value == right.copying.p_value
        assert not any("no names" in note for note in found.notes)


def test_what_goes_by_position_takes_no_frames():
    class Frame(np.ndarray):  # what passes for an array in the check of types, and has columns
        columns = NAMES

    frame = numbers().view(Frame)
    with pytest.raises(DataError, match="generated: data frames are not read here"):
        genonset.memorized_fraction(frame, frame)


# Lines of numbers that are names


def csv_of(table, names):
    return f"{','.join(map(str, names))}\n" + pandas.DataFrame(table).to_csv(
        index=False, header=False
    )


@pytest.mark.parametrize(
    "names",
    [range(4), range(1, 5), range(1990, 1994), [400.5, 401, 401.5, 402], [7, 3, 12, 5]],
    ids=str,
)
def test_a_line_of_numbers_in_all_files_is_one_of_names(tmp_path, names):
    arrays = three()
    paths = saved(tmp_path, arrays, lambda x, p: p.write_text(csv_of(x, names)))
    found = read_sets(paths)
    for array, (name, one) in zip(arrays, found.items(), strict=True):
        assert np.array_equal(one.points, array)
        assert one.columns == tuple(map(str, names))
        assert one.notes[0].startswith(f"The first line of {name}, {names[0]}, {names[1]}")
    verdict = genonset.audit_files(*paths.values())
    assert verdict.copying.identical == 20
    assert verdict.duplicates.overlap == 0
    assert any("taken for the names" in note for note in verdict.notes)


def test_years_in_another_order_are_matched(tmp_path):
    arrays, years = three(), np.arange(1990, 1994)
    order = [2, 0, 3, 1]
    paths = saved(tmp_path, arrays, lambda x, p: p.write_text(csv_of(x, years)))
    paths["generated"].write_text(csv_of(arrays[0][:, order], years[order]))
    found = read_sets(paths)
    assert np.array_equal(found["generated"].points, arrays[0])
    frame = pandas.DataFrame(arrays[1], columns=[str(year) for year in years])
    frame.to_parquet(tmp_path / "t.parquet")
    found = read_sets(paths | {"training": tmp_path / "t.parquet"})
    assert np.array_equal(found["generated"].points, arrays[0])


def test_names_that_count_in_one_file_alone(tmp_path):
    arrays = three()
    paths = saved(tmp_path, arrays, lambda x, p: np.savetxt(p, x, delimiter=",", fmt="%.17g"))
    paths["training"].write_text(csv_of(arrays[1], range(4)))
    found = read_sets(paths)
    assert [len(one.points) for one in found.values()] == [60, 60, 60]
    assert np.array_equal(found["training"].points, arrays[1])


@pytest.mark.parametrize("ascending", [True, False])
def test_a_line_that_two_copies_share_is_data(tmp_path, ascending):
    x = numbers()
    x[0] = np.sort(x[0])[:: 1 if ascending else -1]
    paths = saved(tmp_path, (x, x, numbers(seed=1)), lambda x, p: np.savetxt(p, x, delimiter=","))
    assert len(read_sets(paths)["generated"].points) == 60
    if not ascending:
        del paths["held_out"]
        assert len(read_sets(paths)["generated"].points) == 60


def test_flags_that_begin_by_chance_with_a_count(tmp_path):
    flags = [np.random.default_rng(k).integers(0, 2, size=(50, 2)) for k in range(3)]
    for x in flags:
        x[0] = [0, 1]
    paths = saved(tmp_path, flags, lambda x, p: np.savetxt(p, x, delimiter=",", fmt="%d"))
    with pytest.raises(DataError, match="begin with 0, 1, which may be the names"):
        read_sets(paths)
    flags[2][0] = [1, 1]
    np.savetxt(paths["held_out"], flags[2], delimiter=",", fmt="%d")
    assert [len(one.points) for one in read_sets(paths).values()] == [50, 50, 50]


def test_one_column_that_pandas_called_nought(tmp_path):
    arrays = [numbers(d=1, seed=k) for k in range(3)]
    paths = saved(tmp_path, arrays, lambda x, p: p.write_text(csv_of(x, [0])))
    assert [len(one.points) for one in read_sets(paths).values()] == [60, 60, 60]
    ones = [np.random.default_rng(k).integers(0, 2, size=(60, 1)) for k in range(3)]
    paths = saved(tmp_path, ones, lambda x, p: p.write_text(csv_of(x, [0])))
    with pytest.raises(DataError, match="may be the names"):
        read_sets(paths)


def test_lines_of_numbers_are_rarely_taken_for_names(tmp_path):
    """Of 300 tables of three small counts each, none begins with names."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        tables = [rng.poisson(1.5, size=(40, 3)) for _ in range(3)]
        paths = saved(tmp_path, tables, lambda x, p: np.savetxt(p, x, delimiter=",", fmt="%d"))
        assert [len(one.points) for one in read_sets(paths).values()] == [40, 40, 40]


# Curves

ROWS = [(10, 1.0), (20, 0.95), (40, 0.8), (80, 0.3), (160, 0.05)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", "n,rate\n" + "".join(f"{n},{r}\n" for n, r in ROWS)),
        ("c.CSV", "rate;N;who\n" + "".join(f"{r};{n};me\n".replace(".", ",") for n, r in ROWS)),
        ("c.tsv", "n\t Rate\n" + "".join(f"{n}\t{r}\n".replace(".", ",") for n, r in ROWS)),
        ("q.csv", "n,rate,\n" + "".join(f'{n},"{r}",\n'.replace(".", ",") for n, r in ROWS)),
    ],
)
def test_a_curve_is_the_same_however_it_is_written(tmp_path, name, text):
    n, rate, trials = read_curve(written(tmp_path, text, name))
    assert (list(zip(n, rate, strict=True)), trials) == (ROWS, None)
    said = CliRunner().invoke(app, ["onset", str(tmp_path / name), "--json"])
    right = curve_onset(*zip(*ROWS, strict=True)).onset
    assert json.loads(said.stdout)["onset"] == pytest.approx(right)
    assert 50 < right < 70


def test_a_curve_in_parquet(tmp_path):
    table = pyarrow.table(
        {"trials": [20] * 5, "rate": [r for _, r in ROWS], "n": [10, 20, 40, 80, 160]}
    )
    parquet.write_table(table, tmp_path / "c.parquet")
    n, rate, trials = read_curve(tmp_path / "c.parquet")
    assert (list(zip(n, rate, strict=True)), list(trials)) == (ROWS, [20] * 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n,rate\n10,1,00\n20,0,95\n", "has 2 fields and all others have 3. .* decimal points"),
        ("n,rate\n10,1.0\n20,0,95\n", "do not have 2 fields, the first is row 1"),
        ("n,N,rate\n10,20,1\n20,30,0\n", "2 columns are called 'n', capitals aside: n, N"),
        ("n,rate,rate\n10,1,1\n", "2 columns are called 'rate'"),
        ("n,rate\n1_0,1.0\n20,0.5\n", "'n': text such as '1_0'"),
        ("10,1.0\n20,0.5\n", "has the columns of a line of numbers; n and rate are needed"),
    ],
)
def test_curves_that_are_refused(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read_curve(written(tmp_path, text))


# Arrays by their keys


def test_a_key_stands_behind_a_colon(tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    a, b = numbers(), numbers(seed=1)
    np.savez(tmp_path / "x.npz", a=a, b=b)
    torch.save({"a": torch.from_numpy(a), "b:c": torch.from_numpy(b)}, tmp_path / "x.pt")
    save_file({"a": a, "group/b": b}, tmp_path / "x.SAFETENSORS")
    monkeypatch.chdir(tmp_path)
    for given in ("x.npz:b", "x.pt:b:c", "x.SAFETENSORS:group/b", tmp_path / "x.npz:b"):
        assert np.array_equal(read(given).points, b)
    found = genonset.audit_files("x.npz:a", "x.npz:b", features="pixels")
    assert found.copying.identical == 0
    assert genonset.audit_files("x.npz:a", "x.pt:a").copying.identical == 60
    with pytest.raises(DataError, match=r"no key 'z'. Its keys are 'a', 'b'; .* 'x.npz:a'"):
        read("x.npz:z")
    with pytest.raises(DataError, match=r"needs a key, .* choose one as FILE:KEY"):
        read("x.npz")
    np.save("y.npy", a)
    with pytest.raises(DataError, match="holds one array"):
        read("y.npy:a")


@pytest.mark.skipif(sys.platform == "win32", reason="no colons in file names")
def test_a_file_whose_name_holds_a_colon_is_that_file(tmp_path):
    np.savez(tmp_path / "x.npz", b=numbers())
    np.savez(tmp_path / "x.npz:b.npz", b=numbers(seed=1))
    (tmp_path / "x.npz:b.npz").rename(tmp_path / "x.npz:b")
    with pytest.raises(DataError, match=r"ends in '.npz:b'"):
        read(tmp_path / "x.npz:b")
    np.save(tmp_path / "2024:x.npy", numbers(seed=2))
    assert np.array_equal(read(tmp_path / "2024:x.npy").points, numbers(seed=2))


def test_the_command_line_takes_keys(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", a=numbers(), b=numbers(seed=1))
    monkeypatch.chdir(tmp_path)
    command = ["audit", "x.npz:a", "--json", "--training"]
    found = json.loads(CliRunner().invoke(app, [*command, "x.npz:b"]).stdout)
    assert found["inputs"]["training"]["path"] == "x.npz:b"
    refusal = str(CliRunner().invoke(app, [*command, "x.npz"]).exception)
    assert "choose one as FILE:KEY, such as 'x.npz:a'" in refusal


def test_no_message_names_an_option_that_is_not_there():
    commands = vars(main.get_command(app))["commands"].values()
    options = [o for c in commands for p in c.params for o in (*p.opts, *p.secondary_opts)]
    for file in Path(genonset.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            said = node.value if isinstance(node, ast.Constant) else None
            named = re.findall(r"(?<![\w-])--[a-z][a-z-]+", said) if isinstance(said, str) else []
            unknown = {*named} - {*options, "--help", "--version"}
            assert not unknown, f"{file.name}, line {node.lineno}"
