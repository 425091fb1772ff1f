"""Tables of numbers in files and data frames, their columns by name.

A CSV or TSV file is text. What separates its fields, a comma, semicolon, tab or blanks, is what
gives every line equally many, at least two, and of those the most numbers. A number is written in
plain digits, [+-]12.5e-3, and is finite; `True` and `False` are 1 and 0. A comma inside numbers is
a decimal mark if no number holds a point and not every comma stands where thousands are parted.
Whatever else is in a field is refused with its place: no field is guessed, shifted or left out.

The first line names the columns if a field of it holds letters and is no number. A line of numbers
names them too where data would seldom begin like that: it counts the columns, from 0 or 1, or it
is the line, in any order, with which all tables begin: three of them, or in ascending order. With
c of n fields below in column k the same text as its number, and w of them written in digits alone,
data begin with the line with probability about

    (1)  p = prod_k (w_k + 1)/(n + 2) (c_k + 1)/(w_k + 2)

and it is taken for names where the product of (1) over the tables that begin so is below 1/100 and
a number of it does not recur in its column. Where all tables begin by counting and this is not so,
nobody can tell, and they are refused. All other lines of numbers are data.

Numbers are float64 wherever that is exact for whole ones, and 64-bit integers else. Columns are
matched by name, in the order of the training set.
"""

import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from genonset.arrays import Loaded
from genonset.errors import DataError, GenonsetError, brief, listed, quote

TABLE_ENDINGS = (".csv", ".tsv", ".parquet")

_SEPARATORS = ",;\t "
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d*(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+", re.ASCII)
_TRUTH = {"true": "1", "false": "0"}
_GAPS = {"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"}
_INFINITE = {sign + word for sign in ("", "+", "-") for word in ("inf", "infinity")}
_SELDOM = 1 / 100
_EXACT = 2**53  # whole numbers up to here are exact in float64
_UNNAMED = re.compile(r"|Unnamed: \d+([._]\d+)*|Unnamed: \d+_level_\d+|__index_level_\d+__")
_INDEX_NAMES = ("index", "level_0", "row_nr", "rowid", "rownames")
_MANY = 10  # rows that whole numbers without gaps do not count by chance


class _Text(NamedTuple):
    """A table as text: every line, and whether the first one holds names of letters."""

    source: str
    separator: str
    lines: list[list[str]]
    named: bool

    def column(self, k: int) -> list[str]:
        """The fields below the first line."""
        return [line[k] for line in self.lines[1:]]


class _Column(NamedTuple):
    """Numbers of a data frame before they are looked at; none where the type holds no numbers."""

    name: str
    type: str
    values: np.ndarray | None
    empty: np.ndarray  # mask of the rows without a value


_Given = _Column | Sequence[str] | np.ndarray


# Files -------------------------------------------------------------------------------------------


def is_table(path: str | Path) -> bool:
    """Whether a path is read as a table: by its ending, in small letters or capitals."""
    return Path(path).suffix.lower() in TABLE_ENDINGS and not Path(path).is_dir()


def read_table(path: str | Path) -> Loaded:
    """The numbers in a CSV, TSV or Parquet file, one point a row.

    Raises:
        DataError: if the file cannot be read; a column holds text, gaps or values that are not
            finite; rows differ in length; names repeat; or a column only counts the rows.
    """
    return read_tables({"the table": path})["the table"]


def read_tables(paths: Mapping[str, str | Path]) -> dict[str, Loaded]:
    """The tables in several files that belong together, by name, each with its own columns.

    Whether a first line of numbers names columns is decided for all of them at once, equation (1).

    Raises:
        DataError: as `read_table`; or if nobody can tell whether they begin with names.
    """
    opened = {name: _open(Path(path)) for name, path in paths.items()}
    texts = {name: one for name, one in opened.items() if isinstance(one, _Text)}
    elsewhere = [
        [column.name for column in one] for one in opened.values() if not isinstance(one, _Text)
    ]
    with_names = _begin_with_names(texts, elsewhere)
    loaded = {}
    for name, one in opened.items():
        source = quote(Path(paths[name]))
        if not isinstance(one, _Text):
            loaded[name] = _of_columns(source, one)
            continue
        loaded[name] = _of_text(one, named=one.named or name in with_names)
        if name in with_names:
            numbers = _enumerated(one.lines[0])
            note = f"The first line of {name}, {numbers}, was taken for the names of its columns."
            loaded[name] = replace(loaded[name], notes=(note,))
    return loaded


def read_columns(
    path: str | Path, needed: Collection[str], also: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Some columns of a table by their names in small letters; others may hold text.

    Args:
        path: a CSV, TSV or Parquet file.
        needed: names that must be there.
        also: names that may be there.

    Returns:
        float64 numbers, shape (n,) each.

    Raises:
        DataError: if a needed column is missing, a name stands twice, or as `read_table`.
    """
    path = Path(path)
    opened = _open(path)
    if isinstance(opened, _Text):
        names = opened.lines[0] if opened.named else []
        columns = [opened.column(k) for k in range(len(names))]
    else:
        names, columns = [column.name for column in opened], opened
    places: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        places.setdefault(name.strip().lower(), []).append(k)
    missing = [name for name in needed if name not in places]
    if missing:
        raise DataError(
            f"{quote(path)} has the columns {', '.join(places) or 'of a line of numbers'}; "
            f"{' and '.join(needed)} are needed{''.join(f', and {n} where known' for n in also)}."
        )
    wanted = {name: places[name] for name in (*needed, *also) if name in places}
    for name, found in wanted.items():
        if len(found) > 1:
            raise DataError(
                f"{quote(path)}: {len(found)} columns are called {name!r}, capitals aside: "
                f"{_enumerated([names[k] for k in found])}. Leave one of them."
            )
    numbers = _numbers(quote(path), list(wanted), [columns[k] for (k,) in wanted.values()])
    return {n: values.astype(np.float64) for n, values in zip(wanted, numbers, strict=True)}


def _open(path: Path) -> _Text | list[_Column]:
    if not path.is_file():
        found = "is not a file" if path.exists() else "does not exist"
        raise DataError(f"{quote(path)} {found}; a CSV, TSV or Parquet table is needed.")
    try:
        return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path)
    except GenonsetError:
        raise
    except Exception as error:  # parsers of damaged files raise exceptions of any type
        raise DataError(
            f"{quote(path)} cannot be read as a table ({brief(error)}). Write it again as UTF-8 "
            "text with one row a line, or as Parquet."
        ) from error


def _read_parquet(path: Path) -> list[_Column]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{quote(path)}: reading Parquet needs pyarrow. Install genonset[frames], or save "
            "the table as CSV."
        ) from error
    with parquet.ParquetFile(path) as file:
        return _of_arrow(quote(path), file.read())


# Text --------------------------------------------------------------------------------------------


def _read_text(path: Path) -> _Text:
    text = path.read_bytes().decode("utf-8-sig")
    if text.startswith("#"):  # numpy.savetxt puts it before names
        text = text.removeprefix("#").lstrip(" ")
    separator = _separator(text)
    lines = _split(text, separator)
    if not lines:
        raise DataError(f"{quote(path)} is empty; a table of numbers is needed.")
    widths = Counter(map(len, lines[1:] or lines))
    width = widths.most_common(1)[0][0]
    if width > 1:
        lines = [line for line in lines if len(line) > 1 or line[0].strip()]
    named = any(map(_is_name, lines[0])) or _is_headed_index(lines)
    if len(lines[0]) != width and len(widths) == 1:
        raise DataError(
            f"{quote(path)}: the first line has {len(lines[0])} fields and all others have "
            f"{width}. {_WHY_UNEVEN}"
        )
    body = lines[1:] if named else lines
    uneven = [k for k, line in enumerate(body) if len(line) != len(lines[0])]
    if uneven:
        raise DataError(
            f"{quote(path)}: {len(uneven)} rows do not have {len(lines[0])} fields, the first is "
            f"row {uneven[0]} (counting from 0{', without the line of names' if named else ''}). "
            f"{_WHY_UNEVEN}"
        )
    while len(lines[0]) > 1 and not any(line[-1].strip() for line in lines):
        lines = [line[:-1] for line in lines]  # separators that end every line
    return _Text(quote(path), separator, lines, named)


_WHY_UNEVEN = (
    "Every row needs one number a column. Write decimal points, not commas, or separate fields by "
    "semicolons; numbers without commas for thousands; no lines of comment; and no names of rows."
)


def _split(text: str, separator: str, most: int | None = None) -> list[list[str]]:
    """The fields of the first lines, or of all, without empty lines."""
    given: Iterable[str] = io.StringIO(text, newline="")
    if separator == " ":
        given = (line.strip() + "\n" for line in given)
    lines = csv.reader(given, delimiter=separator, strict=True, skipinitialspace=True)
    return [line for line in itertools.islice(lines, most) if line]


def _separator(text: str) -> str:
    """What gives the first hundred lines, or all but the first, equally many fields, at least two,
    and most numbers."""
    found = {}
    for separator in _SEPARATORS:
        try:
            lines = _split(text, separator, 100)
        except csv.Error:
            continue
        for part, whole in ((lines, True), (lines[1:], False)):
            if part and len(part[0]) > 1 and len({len(line) for line in part}) == 1:
                fields = [field for line in part for field in line]
                n_numbers = sum(map(_is_number, fields))
                found.setdefault(separator, (whole, n_numbers / len(fields)))
    if found:
        return max(found, key=lambda separator: found[separator])
    first = text.splitlines()[0] if text else ""
    return max(",;\t", key=first.count)


def _is_number(field: str) -> bool:
    return _NUMBER.fullmatch(field.strip()) is not None


def _is_name(field: str) -> bool:
    """Whether a field is text with a letter, and no word for a missing or a boolean value."""
    field = field.strip().lower()
    known = field in _GAPS or field in _INFINITE or field in _TRUTH or _is_number(field)
    return not known and any(c.isalpha() for c in field)


def _is_headed_index(lines: Sequence[Sequence[str]]) -> bool:
    """Whether a first line of whole numbers leaves out what the column of an index is called."""
    first, *rest = lines[0]
    filled = len(lines) > 1 and all(line[0].strip() for line in lines[1:] if line)
    return first.strip() == "" and len(rest) > 0 and filled and all(map(str.isdigit, rest))


def _begin_with_names(
    texts: Mapping[str, _Text], elsewhere: Sequence[Sequence[str]]
) -> frozenset[str]:
    """The tables whose first line of numbers names their columns.

    Args:
        texts: tables in text files by name, those with names of letters too.
        elsewhere: names of the columns of tables in other files.
    """
    first = {
        name: one.lines[0]
        for name, one in texts.items()
        if not one.named and all(map(_is_number, one.lines[0])) and len(one.lines) > 1
    }
    counting = [name for name, line in first.items() if _counts(line)]
    everywhere = 1 < len(first) == len(texts) and not elsewhere
    if everywhere and len(counting) == len(first):
        if not _is_seldom([texts[name] for name in counting]):
            line = _enumerated(first[counting[0]])
            raise DataError(
                f"{' and '.join(counting)} begin with {line}, which may be the names of columns "
                "or their first numbers: those below look alike. Write a line of names with "
                "letters first, such as a,b,c, into all of them."
            )
        return frozenset(counting)
    known = [sorted(names) for names in elsewhere]
    same = len({tuple(sorted(line)) for line in first.values()}) == 1
    line = next(iter(first.values()), [])
    ascending = line == sorted(line, key=_as_float)
    if everywhere and same and len(set(line)) == len(line) and (len(first) > 2 or ascending):
        return frozenset(first if _is_seldom([texts[name] for name in first]) else ())
    return frozenset(
        name
        for name, line in first.items()
        if (name in counting or sorted(line) in known) and _is_seldom([texts[name]])
    )


def _as_float(field: str) -> float:
    return float(field.replace(",", "."))


def _counts(names: Sequence[str]) -> bool:
    """Whether names only count the columns, from 0 or from 1."""
    return any(list(names) == [str(k + start) for k in range(len(names))] for start in (0, 1))


def _is_seldom(texts: Sequence[_Text]) -> bool:
    """Whether data would seldom begin with the first lines of these tables: (1)."""
    p, recurs = 1.0, True
    for text in texts:
        for k, field in enumerate(text.lines[0]):
            column = text.column(k)
            n_same, digits = column.count(field), field.isdigit()
            n_alike = sum(other.isdigit() for other in column) if digits else len(column)
            p *= (n_alike + 1) / (len(column) + 2) * (n_same + 1) / (n_alike + 2)
            recurs &= n_same > 0
            if p < _SELDOM and not recurs:
                return True
    return False


def _of_text(text: _Text, *, named: bool) -> Loaded:
    names = [name.strip() for name in text.lines[0]]
    body = text.lines[1:] if named else text.lines
    if not named and text.separator == ",":
        _refuse_split_numbers(text.source, body[:1000])
    rows = _at_once(body)
    columns = [[line[k] for line in body] if rows is None else rows[:, k]
               for k in range(len(names))]  # fmt: skip
    return _table(text.source, names if named else _places(len(names)), columns)


def _refuse_split_numbers(source: str, lines: Sequence[Sequence[str]]) -> None:
    """Refuse what no line of names guards: 0,05 read as 0 and 05, or 1,034 as 1 and 034."""
    padded = [
        (row, field)
        for row, line in enumerate(lines)
        for field in line
        if field.isdigit() and field.startswith("0") and len(field) > 1
    ]
    if padded:
        row, field = padded[0]
        raise DataError(
            f"{source}: the field {field!r} in row {row} (counting from 0) looks like what "
            "follows a comma inside a number. Write decimal points, and nothing between "
            "thousands; or, if these are whole fields, a line of names first."
        )


def _at_once(body: Sequence[Sequence[str]]) -> np.ndarray | None:
    """The numbers of a whole table, shape (n, d), if all are plain; None leaves it to columns."""
    try:
        rows = np.array(body, dtype=np.float64)
    except ValueError:
        return None
    plain = rows.size and bool((np.abs(rows) < _EXACT).all()) and all(map(_is_plain, body))
    return rows if plain else None


def _is_plain(fields: Sequence[str]) -> bool:
    """Whether what Python takes for numbers is written in plain digits."""
    together = "".join(fields)
    return together.isascii() and "_" not in together


def _places(n: int) -> tuple[str, ...]:
    """What columns without names are called."""
    return tuple(f"column {k + 1}" for k in range(n))


def _of_fields(fields: Sequence[str], comma: bool) -> np.ndarray | str:
    """The numbers in a column of text, or what else is in it."""
    if comma:
        fields = [field.replace(",", ".") for field in fields]
    try:
        values = np.array(fields, dtype=np.float64)
    except ValueError:
        truth = [_TRUTH.get(field.strip().lower()) for field in fields]
        if None in truth:
            return _not_numbers(fields)
        values = np.array(truth, dtype=np.float64)
    if not (np.isfinite(values).all() and _is_plain(fields)):
        return _not_numbers(fields)
    if not len(values) or np.abs(values).max() < _EXACT:
        return values
    return _of_large(fields, values)


def _of_large(fields: Sequence[str], values: np.ndarray) -> np.ndarray | str:
    """Numbers of which some are as large as 2^53: integers where they are all written whole."""
    whole = [int(f.partition(".")[0]) if _WHOLE.fullmatch(f := field.strip()) else None
             for field in fields]  # fmt: skip
    rounded = [k for k, one in enumerate(whole) if one is not None and int(values[k]) != one]
    if not rounded:
        return values
    if None in whole:
        return (
            f"whole numbers that double precision rounds, such as {fields[rounded[0]]}, beside "
            f"fractions in {len(rounded)} rows, first in row {rounded[0]}"
        )
    for kind in (np.int64, np.uint64):
        try:
            return np.array(whole, dtype=kind)
        except OverflowError:
            continue
    return (
        f"whole numbers of more than 64 bits, such as {fields[rounded[0]]}, in {len(rounded)} "
        f"rows, first in row {rounded[0]}"
    )


def _not_numbers(fields: Sequence[str]) -> str:
    """What stands in a column in place of numbers, how often and where first."""
    kinds: dict[str, list[int]] = {}
    flags = not any(map(_is_number, fields))
    for row, field in enumerate(fields):
        word = field.strip().lower()
        if word == "":
            kinds.setdefault("empty fields", []).append(row)
        elif word in _GAPS:
            kinds.setdefault(f"gaps such as {field.strip()!r}", []).append(row)
        elif word in _INFINITE or (_is_number(field) and not np.isfinite(_as_float(word))):
            kinds.setdefault("values that are not finite", []).append(row)
        elif not (flags and word in _TRUTH) and not (_is_number(field) and "," not in field):
            kinds.setdefault("text", []).append(row)
    return "; ".join(
        f"{kind if kind != 'text' else f'text such as {fields[rows[0]][:40]!r}'} in {len(rows)} "
        f"rows, first in row {rows[0]}"
        for kind, rows in kinds.items()
    )


# Data frames -------------------------------------------------------------------------------------


def is_frame(values: object) -> bool:
    """Whether values are a data frame: of pandas, polars, pyarrow, or one made like theirs."""
    return hasattr(values, "shape") and hasattr(values, "columns")


def from_frame(name: str, frame: Any) -> Loaded:
    """The numbers in a data frame, one point a row, checked as those of a file are.

    The index of a pandas frame is no column. None of the libraries is imported.

    Args:
        name: what messages call it.
        frame: of pandas, polars or pyarrow.

    Raises:
        DataError: as `read_table`.
    """
    if hasattr(frame, "column_names"):
        return _of_columns(name, _of_arrow(name, frame))
    if hasattr(frame, "get_column"):
        return _of_columns(name, [_of_polars(n, frame.get_column(n)) for n in frame.columns])
    if hasattr(frame, "iloc"):
        named = enumerate(frame.columns)
        return _of_columns(name, [_of_pandas(str(n), frame.iloc[:, k]) for k, n in named])
    raise DataError(
        f"{name}: a {type(frame).__module__}.{type(frame).__name__} is not read; data frames of "
        "pandas, polars and pyarrow are, and arrays, shape (n, *shape)."
    )


def _of_arrow(source: str, table: Any) -> list[_Column]:
    known = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    saved = [name for name in known.get("index_columns", ()) if isinstance(name, str)]
    _refuse_index(source, [name for name in saved if name in table.column_names])
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = str(column.type)
        numeric = kind.startswith(("int", "uint", "float", "double", "halffloat", "bool"))
        empty = np.asarray(column.is_null()) if column.null_count else np.zeros(len(column), bool)
        values = np.asarray(column) if numeric and not empty.any() else None
        columns.append(_Column(name, "" if numeric else kind, values, empty))
    return columns


def _of_polars(name: str, column: Any) -> _Column:
    kind = str(column.dtype)
    numeric = re.fullmatch(r"U?Int(8|16|32|64)|Float(16|32|64)|Boolean", kind) is not None
    empty = column.is_null().to_numpy()
    values = column.to_numpy() if numeric and not empty.any() else None
    return _Column(name, "" if numeric else kind, values, empty)


def _of_pandas(name: str, column: Any) -> _Column:
    types = {"i": np.int64, "u": np.uint64, "f": np.float64, "b": np.bool_}
    kind = types.get(getattr(column.dtype, "kind", "O"))
    empty = np.asarray(column.isna(), dtype=bool)
    values = column.to_numpy(dtype=kind) if kind and not empty.any() else None
    return _Column(name, "" if kind else str(column.dtype), values, empty)


def _of_columns(source: str, columns: Sequence[_Column]) -> Loaded:
    return _table(source, [column.name.strip() for column in columns], columns)


def _of_column(column: _Column) -> np.ndarray | str:
    """The numbers in a column of a data frame, or what else is in it."""
    wrong = [f"values of type {column.type}"] if column.type else []
    if column.type == "object":
        wrong = ["Python objects (frame.convert_dtypes() makes numbers of them where it can)"]
    if column.empty.any():
        rows = np.flatnonzero(column.empty)
        wrong.append(f"empty fields in {len(rows)} rows, first in row {rows[0]}")
    values = column.values
    if wrong or values is None:
        return "; ".join(wrong)
    if values.dtype.kind in "fb":
        values = values.astype(np.float64)
        rows = np.flatnonzero(~np.isfinite(values))
        if len(rows):
            return f"values that are not finite in {len(rows)} rows, first in row {rows[0]}"
        return values
    large = [int(v) for v in values[(values > _EXACT) | (values < -_EXACT)]]
    if all(int(float(v)) == v for v in large):
        return values.astype(np.float64)
    return values.astype(np.int64 if values.max() < 2**63 else np.uint64)


# What is common to both --------------------------------------------------------------------------


def _table(source: str, names: Sequence[str], columns: Sequence[_Given]) -> Loaded:
    """A table whose names and columns are in order."""
    named = tuple(names) != _places(len(names))
    if named:
        _refuse_index(source, [name for name in names if _UNNAMED.fullmatch(name)])
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(
                f"{source}: {count} columns are called {name!r}, so that nobody can tell which is "
                "which. Give every column a name of its own."
            )
    numbers = _numbers(source, names, columns)
    if not numbers or not len(numbers[0]):
        raise DataError(f"{source} holds no row of numbers.")
    _refuse_index(
        source,
        [
            name
            for name, values in zip(names, numbers, strict=True)
            if (name.lower() in _INDEX_NAMES and _are_distinct(values))
            or (not named and len(values) >= _MANY and _are_distinct(values, gaps=False))
        ],
    )
    points = torch.from_numpy(_side_by_side(source, names, numbers))
    return Loaded(kind="table", points=points, columns=tuple(names))


def _numbers(source: str, names: Sequence[str], columns: Sequence[_Given]) -> list[np.ndarray]:
    """The numbers of each column: float64, or 64-bit integers that float64 would round."""
    text = [column for column in columns if not isinstance(column, _Column | np.ndarray)]
    comma = _has_decimal_commas(source, text)
    found = [_of_given(column, comma) for column in columns]
    bad = [f"  {n!r}: {one}" for n, one in zip(names, found, strict=True) if isinstance(one, str)]
    if bad:
        raise DataError(
            f"{source}: columns that are not numbers throughout (rows count from 0, without the "
            f"line of names):\n{listed(bad)}\n"
            "Distances need numbers: drop these columns or encode them, and fill or drop gaps. "
            "Numbers are written like -12.5e-3, without commas for thousands."
        )
    return [one for one in found if not isinstance(one, str)]


def _of_given(column: _Given, comma: bool) -> np.ndarray | str:
    """The numbers in a column, or what else is in it."""
    match column:
        case np.ndarray():
            return column
        case _Column():
            return _of_column(column)
        case _:
            return _of_fields(column, comma)


def _has_decimal_commas(source: str, columns: Sequence[Sequence[str]]) -> bool:
    """Whether commas inside the numbers of a file are decimal marks."""
    commas = [
        f.strip() for fields in columns if "," in "".join(fields) for f in fields if "," in f
    ]
    points = any("." in field for fields in columns for field in fields) if commas else False
    if not commas or points or not all(map(_DECIMAL_COMMA.fullmatch, commas)):
        return False
    if all(map(_THOUSANDS.fullmatch, commas)):
        raise DataError(
            f"{source}: the comma in numbers such as {commas[0]!r} may be a decimal mark or part "
            "thousands; no other number tells which. Write decimal points, and nothing between "
            "thousands."
        )
    return True


def _are_distinct(values: np.ndarray, *, gaps: bool = True) -> bool:
    """Whether values are distinct whole numbers; without gaps, if told so, in whatever order."""
    if not len(values) or (values != np.floor(values)).any():
        return False
    found = np.unique(values)
    return len(found) == len(values) and (gaps or found[-1] - found[0] == len(found) - 1)


def _refuse_index(source: str, names: Sequence[str]) -> None:
    if names:
        raise DataError(
            f"{source}: {_enumerated([repr(name) for name in names])} "
            f"{'is' if len(names) == 1 else 'are'} the index of a data frame that was saved with "
            "the data, or a column without a name. An index counts the rows; as a coordinate it "
            "would rule every distance. Save the table without it (index=False in pandas, or "
            "reset_index(drop=True) before), and give columns of data names."
        )


def _side_by_side(source: str, names: Sequence[str], columns: Sequence[np.ndarray]) -> np.ndarray:
    """The columns as one array, shape (n, d): integers if any column needs them."""
    large = [k for k, values in enumerate(columns) if values.dtype.kind in "iu"]
    if not large:
        return np.ascontiguousarray(np.stack(columns, 1))
    kinds = {columns[k].dtype for k in large}
    kind = np.uint64 if np.dtype(np.uint64) in kinds else np.int64
    for name, values in zip(names, columns, strict=True):
        fits = (values == np.floor(values)).all() and (kind is np.int64 or (values >= 0).all())
        if not fits:
            raise DataError(
                f"{source}: column {names[large[0]]!r} holds whole numbers beyond 2^53, which "
                f"floating-point numbers would round, beside {name!r}, which is not of such "
                f"numbers. Leave out {names[large[0]]!r} if it only names the rows; else subtract "
                "one number from it in all tables."
            )
    return np.ascontiguousarray(np.stack([values.astype(kind) for values in columns], 1))


# Several tables ----------------------------------------------------------------------------------


def match_columns(loaded: Mapping[str, Loaded]) -> dict[str, Loaded]:
    """The sets with the columns of every table in one order, that of the training set.

    Columns are matched by name. Those of arrays, of tables without names and of tables whose names
    only count are taken as they stand, with a note where others have names.

    Args:
        loaded: sets by name; the order is that of "training" if it is a table, else of the first.

    Raises:
        DataError: if names are missing or too many; if one table has names and another none; or if
            whole numbers beyond 2^53 stand beside fractions in another table.
    """
    tables = {name: one for name, one in loaded.items() if one.kind == "table"}
    by_name = {name: one for name, one in tables.items() if not _is_nameless(one)}
    if not tables:
        return dict(loaded)
    first = "training" if "training" in by_name else next(iter(by_name), "")
    matched = dict(loaded)
    for name, one in loaded.items():
        if first and name != first:
            matched[name] = _matched(name, one, first, by_name[first])
    if first and first != "training" and "training" in loaded:
        _refuse_unknown_order(loaded, matched)
    return _of_one_type(_look_for_index(matched))


def _is_nameless(one: Loaded) -> bool:
    return one.columns == _places(len(one.columns))


def _matched(name: str, one: Loaded, first: str, reference: Loaded) -> Loaded:
    """A set with the columns of a table that has names."""
    order = reference.columns
    if one.columns == order:
        return one
    if one.kind != "table" or _is_nameless(one):
        if one.kind == "table" and not _counts(order):
            raise DataError(
                f"{name}: the first line holds numbers, not names, and {first} has the columns "
                f"{_enumerated(order)}. If those of {name} are the same, in the same order, write "
                "the same line of names first."
            )
        if one.kind != "array" or one.points.ndim != 2 or _counts(order):
            return one
        note = (
            f"{name} has no names of columns; they were taken in the order of {first}: "
            f"{_enumerated(order)}."
        )
        return replace(one, notes=(*one.notes, note))
    missing = [column for column in order if column not in one.columns]
    extra = [column for column in one.columns if column not in order]
    if missing or extra:
        if _counts(order) and _counts(one.columns) and len(order) == len(one.columns):
            return one
        raise DataError(_other_columns(name, one, first, reference, missing, extra))
    places = [one.columns.index(column) for column in order]
    note = f"The columns of {name} were put in the order of {first}, by their names."
    return replace(one, points=one.points[:, places], columns=order, notes=(*one.notes, note))


def _other_columns(
    name: str,
    one: Loaded,
    first: str,
    reference: Loaded,
    missing: Sequence[str],
    extra: Sequence[str],
) -> str:
    found = [f"{name} lacks {_enumerated(missing)}"] if missing else []
    found += [f"{name} has {_enumerated(extra)}, which {first} has not"] if extra else []
    advice = "Select the same columns in all tables."
    if len(one.columns) == len(reference.columns) and _counts(one.columns):
        advice = f"The names of {name} only count: give it those of {first} if they are the same."
    elif len(one.columns) == len(reference.columns) and _counts(reference.columns):
        advice = f"The names of {first} only count: give it those of {name} if they are the same."
    elif sorted(map(str.lower, missing)) == sorted(map(str.lower, extra)):
        advice = "They differ in capitals alone: write them alike."
    return f"Tables must have the same columns: {'; '.join(found)}. {advice}"


def _refuse_unknown_order(loaded: Mapping[str, Loaded], matched: Mapping[str, Loaded]) -> None:
    """Refuse tables in different orders beside a training set that tells none."""
    moved = [name for name, one in loaded.items() if one.columns != matched[name].columns]
    if moved:
        raise DataError(
            f"training has no names of columns, and {' and '.join(moved)} has them in another "
            "order than the other table, so that nobody can tell which order is that of training. "
            "Pass training as a table too."
        )


def _look_for_index(loaded: Mapping[str, Loaded]) -> dict[str, Loaded]:
    """Columns that number the real points, dealt out to training and held-out set or not: a note,
    or a refusal where they have no name to tell what they are."""
    real = [loaded[name] for name in ("training", "held_out") if name in loaded]
    shapes = {one.points.shape[1:] for one in real}
    if any(one.kind != "table" for one in real) or len(shapes) != 1:
        return dict(loaded)
    n = sum(len(one.points) for one in real)
    found = [
        name
        for k, name in enumerate(real[0].columns)
        if n >= _MANY
        and _are_distinct(np.concatenate([one.points[:, k] for one in real]), gaps=False)
    ]
    if found and _is_nameless(real[0]):
        _refuse_index("training and held_out", found)
    notes = [
        f"Column {name!r} holds every whole number of a range once: if it numbers the rows, leave "
        "it out of all tables."
        for name in found
    ]
    training = replace(real[0], notes=(*real[0].notes, *notes))
    return {**loaded, "training": training}


def _of_one_type(loaded: dict[str, Loaded]) -> dict[str, Loaded]:
    """Tables of whole numbers as integers, where another set holds integers."""
    whole = [name for name, one in loaded.items() if not one.points.is_floating_point()]
    if not whole:
        return loaded
    large = [name for name in whole if loaded[name].kind == "table"]
    for name, one in loaded.items():
        if one.kind != "table" or name in whole:
            continue
        points = one.points
        if bool((points == points.floor()).all()) and float(points.abs().max()) <= _EXACT:
            loaded[name] = replace(one, points=points.to(torch.int64))
        elif large:
            raise DataError(
                f"{large[0]} holds whole numbers beyond 2^53, which floating-point numbers would "
                f"round, and {name} fractions. Leave out the column that holds them if it only "
                "names the rows; else subtract one number from it in all tables."
            )
    return loaded


def _enumerated(names: Sequence[str]) -> str:
    """The first names, and how many there are."""
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown}, ... ({len(names)} in all)"
