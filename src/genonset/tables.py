"""Tables of numbers: CSV, TSV and Parquet files."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from genonset.arrays import Loaded
from genonset.errors import DataError, GenonsetError, brief, listed, quote

TABLE_ENDINGS = (".csv", ".tsv", ".parquet")


def read_table(path: str | Path) -> Loaded:
    """The numbers in a CSV, TSV or Parquet file, one point a row.

    A first line that holds anything but numbers names the columns. Commas, semicolons and tabs
    separate fields.

    Raises:
        DataError: if the file cannot be read, a column holds text or gaps, rows differ in length,
            or the first column only counts the rows.
    """
    path = Path(path)
    if not path.is_file():
        found = "is not a file" if path.exists() else "does not exist"
        raise DataError(f"{quote(path)} {found}; a CSV, TSV or Parquet table is needed.")
    try:
        columns, rows = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except GenonsetError:
        raise
    except Exception as error:  # parsers of damaged files raise exceptions of any type
        raise DataError(
            f"{quote(path)} cannot be read as a table ({brief(error)}). Write it again as UTF-8 "
            "text with one row a line, or as Parquet."
        ) from error
    if not len(rows):
        raise DataError(f"{quote(path)} holds no row of numbers.")
    _require_no_counter(path, columns, rows)
    return Loaded(kind="table", points=torch.from_numpy(rows), columns=columns)


def _read_csv(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        separator = max(",;\t", key=first.count)
        file.seek(0)
        lines = [line for line in csv.reader(file, delimiter=separator) if line]
    if not lines:
        raise DataError(f"{quote(path)} is empty.")
    named = any(_number(field) is None for field in lines[0])
    columns = tuple(lines[0]) if named else tuple(f"column {k + 1}" for k in range(len(lines[0])))
    body = lines[1:] if named else lines
    uneven = [k for k, line in enumerate(body) if len(line) != len(columns)]
    if uneven:
        raise DataError(
            f"{quote(path)}: {len(uneven)} rows do not have {len(columns)} fields, the first is "
            f"row {uneven[0]} (counting from 0, without the line of names). Every row needs one "
            "number a column."
        )
    try:
        return columns, np.array(body, dtype=np.float64).reshape(len(body), len(columns))
    except ValueError:
        raise DataError(_not_numbers(path, columns, body)) from None


def _number(field: str) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None


def _not_numbers(path: Path, columns: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Which columns hold text or gaps, and where first."""
    found = []
    for k, name in enumerate(columns):
        bad = [(row, line[k]) for row, line in enumerate(body) if _number(line[k]) is None]
        if bad:
            row, field = bad[0]
            what = f"text such as {field[:40]!r}" if field.strip() else "empty fields"
            found.append(f"  {name!r}: {what} in {len(bad)} rows, first in row {row}")
    return (
        f"{quote(path)}: columns that are not numbers throughout (rows count from "
        f"0, without the line of names):\n{listed(found)}\n"
        "Distances need numbers: drop these columns or encode them, and fill or drop gaps."
    )


def _read_parquet(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{quote(path)}: reading Parquet needs pyarrow. Install genonset[frames], or save "
            "the table as CSV."
        ) from error
    table = parquet.read_table(path)
    bad = [
        f"  {name!r}: {column.type}, {column.null_count} empty"
        for name, column in zip(table.column_names, table.columns, strict=True)
        if column.null_count or not _is_number_type(str(column.type))
    ]
    if bad:
        raise DataError(
            f"{quote(path)}: columns that are not numbers throughout:\n{listed(bad)}\n"
            "Distances need numbers: drop these columns or encode them, and fill or drop gaps."
        )
    rows = [np.asarray(column.to_numpy(), dtype=np.float64) for column in table.columns]
    empty = np.empty((0, 0))
    return tuple(table.column_names), np.ascontiguousarray(np.stack(rows, 1)) if rows else empty


def _is_number_type(name: str) -> bool:
    return name.startswith(("int", "uint", "float", "double", "halffloat", "bool"))


def _require_no_counter(path: Path, columns: Sequence[str], rows: np.ndarray) -> None:
    """Refuse a nameless first column 0, 1, 2, ...: an index that was saved with the data."""
    nameless = columns[0].strip() == "" or columns[0].startswith(("Unnamed", "__index"))
    if nameless and len(rows) > 1 and np.array_equal(np.diff(rows[:, 0]), np.ones(len(rows) - 1)):
        raise DataError(
            f"{quote(path)}: the first column has no name and counts the rows; as a coordinate "
            "it would rule every distance. Save the table without its index "
            "(index=False in pandas)."
        )
