"""Finite data: files, image folders, digits, glyphs; their checks and their disjoint splits.

A data set stands in for a source that cannot be drawn from again. What comes out of a loader is
finite, not constant, float64, without constant coordinates, and carries the kernel's scale

    (1)  std = sqrt(tr Cov / d)

Replicate r of an experiment cuts a data set of size N once, without replacement, into

    (2)  an evaluation half E_r, floor(N / 2) points, the same for every n:  original, then oracle
    (3)  the other half F_r:  training, held_out and null, n points each, drawn anew for every n

so the five roles never share a point, and training and held_out are exchangeable. Replicates are
overlapping subsets of one data set: what is computed from them is conditional on that set.

Sets compared with one another must be in the same units. Three conventions are recognized by their
ends: [0, 1], [-1, 1] and 0..255. Of two sets a, b with n_a, n_b rows, means m, standard deviations
s of all values, and r the larger standard deviation of a row's mean,

    (4)  gap = (|m_a - m_b| - 4 r sqrt(1/n_a + 1/n_b)) / max(s_a, s_b)

is the distance of the centres beyond sampling error. The pair is refused when

    (5)  both conventions are recognized, they differ, and gap > 1/10; or
    (6)  one holds integers and the other floating-point numbers; or
    (7)  one convention is recognized, gap > 1/4, and read in another convention the second set
         has the first one's centre (gap < 1/4) and spread (within a factor 3/2): samples left
         unclipped at the ends; or
    (8)  gap > 3/4 and the middle half of each set leaves the range of the other, or gap > 2 and
         that of one does; and both have at least 10 rows.

A difference of spread alone is a property of the generator, not of the units: it is worth a
sentence beyond a factor 2, never a refusal.
"""

import functools
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from genonset import seeds
from genonset.arrays import Loaded, locate, read_array
from genonset.errors import ConfigError, DataError, brief, printable, quote
from genonset.images import IMAGE_ENDINGS, read_named_images, signed
from genonset.tables import (
    TABLE_ENDINGS,
    is_table,
    match_columns,
    read_table,
    read_tables,
)
from genonset.tensors import (
    Samples,
    Vectors,
    extent,
    flatten,
    parts,
    require_finite,
    short,
    taken,
)

Indices = Int64[Tensor, "k"]
"""Rows of a data set."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Finite data as the other rooms take them, and the facts a report states about them.

    Attributes:
        name: what messages call it.
        points: the data, float64: shape (n, *shape), or (n, d) when constant coordinates were
            dropped.
        shape: shape of one point as it was read; an image is (channels, height, width).
        kept: mask of the flattened coordinates that vary, or None when all do.
        constants: value of every dropped coordinate, or None.
        n_duplicates: rows found equal to an earlier one (removed where the loader was asked to).
        reading: what a reader of files left out or converted, one sentence each.
    """

    name: str
    points: Tensor
    shape: tuple[int, ...]
    kept: Tensor | None = None
    constants: Tensor | None = None
    n_duplicates: int = 0
    reading: tuple[str, ...] = ()

    @property
    def dim(self) -> int:
        """Number of coordinates of one of the `points`."""
        return math.prod(self.points.shape[1:])

    @property
    def n_constant(self) -> int:
        """Number of constant coordinates that were dropped."""
        return 0 if self.constants is None else len(self.constants)

    @property
    def std(self) -> float:
        """Root mean variance of a coordinate of `points`, equation (1): the kernel's scale."""
        return math.sqrt(float(flatten(self.points).var(0, correction=0).mean()))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of results must know about the data, a sentence each."""
        notes = [f"{self.name}: {sentence}" for sentence in self.reading]
        if self.n_constant:
            notes.append(
                f"{self.name}: {self.n_constant} constant coordinates were dropped, "
                f"{self.dim} remain."
            )
        if self.n_duplicates:
            notes.append(
                f"{self.name}: {self.n_duplicates} duplicate rows were found; "
                "set deduplicate = true in [source] to remove such rows."
            )
        return tuple(notes)

    def restore(self, points: Tensor) -> Samples:
        """Points like `self.points` in their first shape, dropped coordinates filled in again.

        Args:
            points: shape (m, *self.points.shape[1:]), from this set or generated.

        Returns:
            Shape (m, *self.shape), float64.

        Raises:
            DataError: if the points have another number of coordinates.
        """
        rows = flatten(points)
        if rows.shape[1] != self.dim:
            raise DataError(
                f"{self.name}: points of {rows.shape[1]} coordinates cannot be restored; "
                f"this data set has {self.dim} varying coordinates."
            )
        if self.kept is not None and self.constants is not None:
            whole = rows.new_empty(len(rows), len(self.kept))
            whole[:, self.kept] = rows
            whole[:, ~self.kept] = self.constants
            rows = whole
        return rows.reshape(len(rows), *self.shape)


_LARGEST = 1e100
_BLOCK = 1 << 22  # numbers that are read at a time


# Checks ------------------------------------------------------------------------------------------


def blocks(points: Tensor) -> Iterator[Tensor]:
    """The points as rows in float64, a few megabytes at a time."""
    step = _BLOCK * len(points) // max(1, points.numel())
    return (flatten(part) for part in parts(points.detach(), step))


def moments(*sets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each coordinate over the points of all sets together.

    A sum of equal numbers is rounded, and its mean need not be that number. What is constant is
    therefore asked of the numbers themselves: where the least is the largest the mean is that
    number and the variance is 0, and nowhere else.

    Args:
        sets: shape (n, *shape) each, real numbers; read a block at a time and not copied.

    Returns:
        both of shape (d,), float64; the variance has the divisor n.

    >>> moments(torch.tensor([[1.0], [2.0]]), torch.tensor([[6.0]]))[0].tolist()
    [3.0]
    >>> moments(torch.full((3, 1), 14.62, dtype=torch.float64))[1].tolist()
    [0.0]
    """
    n = sum(map(len, sets))
    found = [(b.sum(0), *b.aminmax(dim=0)) for x in sets for b in blocks(x)]
    total, low, high = (torch.stack(one) for one in zip(*found, strict=True))
    low, high = low.amin(0), high.amax(0)
    varies = low < high
    mean = torch.where(varies, total.sum(0) / n, low)
    squares = [(b - mean).square().sum(0) for x in sets for b in blocks(x)]
    variance = torch.stack(squares).sum(0) / n
    least = torch.finfo(variance.dtype).tiny  # where squares underflow
    return mean, torch.where(varies, variance.clamp(min=least), 0.0)


def _first_of_each(points: Samples) -> Indices:
    """Index of the first row of every distinct value, ascending."""
    seen: dict[bytes, int] = {}
    for index, digest in enumerate(_digests(points)):
        seen.setdefault(digest, index)
    return torch.tensor(list(seen.values()), dtype=torch.int64)


def _digests(points: Tensor) -> Iterator[bytes]:
    """A short name of every row's numbers."""
    for block in blocks(points):
        for row in (block + 0.0).numpy():  # -0.0 equals 0.0
            yield hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def count_duplicates(points: Samples) -> int:
    """Number of rows that equal an earlier row.

    >>> count_duplicates(torch.tensor([[0.0], [1.0], [0.0], [0.0]]))
    2
    """
    return len(points) - len(_first_of_each(points))


def deduplicate(points: Samples) -> Samples:
    """The distinct rows, each where it first occurs.

    >>> deduplicate(torch.tensor([[2.0], [1.0], [2.0]])).tolist()
    [[2.0], [1.0]]
    """
    return points[_first_of_each(points)]


def drop_constant(points: Samples) -> tuple[Vectors, Tensor]:
    """The flattened coordinates that take more than one value, and the mask that kept them.

    >>> drop_constant(torch.tensor([[7.0, 0.0], [7.0, 1.0]]))[0].tolist()
    [[0.0], [1.0]]
    """
    rows = flatten(points)
    kept = rows.amin(0) < rows.amax(0)
    return rows[:, kept], kept


def require_varied(name: str, points: Tensor) -> Tensor:
    """Return `points` unchanged if they are at least two, not all equal and of sane size.

    Raises:
        DataError: otherwise.
    """
    if points.ndim < 2 or len(points) < 2 or points[0].numel() == 0:
        raise DataError(
            f"{name}: an array of shape {tuple(points.shape)} is not a set of points. The first "
            "axis counts the points, at least 2, the others are their coordinates, at least 1: "
            "n numbers are points of one coordinate as an array of shape (n, 1)."
        )
    if bool((points == points[0]).all()):
        raise DataError(
            f"{name}: all {len(points)} points are equal, so there is nothing to learn and no "
            "scale to measure. Check what was written to this data set."
        )
    largest = float(points.abs().max())
    if largest > _LARGEST:
        raise DataError(
            f"{name}: the largest value is {largest:.3g}, whose square leaves double precision. "
            f"Values up to {_LARGEST:g} are accepted; rescale the data."
        )
    return points


def prepare(name: str, points: Tensor, *, deduplicate: bool = False) -> Dataset:
    """A data set from a tensor in memory: checked, float64, without constant coordinates.

    Args:
        name: what messages call it.
        points: shape (n, *shape), real numbers.
        deduplicate: keep only the first of equal rows. They are counted either way.

    Raises:
        DataError: if values are not finite, or all points are equal.
    """
    points = require_varied(name, require_finite(name, points.detach().cpu().to(torch.float64)))
    first = _first_of_each(points)
    n_duplicates = len(points) - len(first)
    if deduplicate:
        points = points[first]
    varying, kept = drop_constant(points)
    if bool(kept.all()):
        return Dataset(
            name=name, points=points, shape=tuple(points.shape[1:]), n_duplicates=n_duplicates
        )
    return Dataset(
        name=name,
        points=varying,
        shape=tuple(points.shape[1:]),
        kept=kept,
        constants=flatten(points[:1])[0, ~kept],
        n_duplicates=n_duplicates,
    )


# Data that ship with packages --------------------------------------------------------------------


@functools.cache
def digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 pixels in [-1, 1].

    Three pixels never vary and are dropped: 61 coordinates remain.

    >>> digits().n_constant, tuple(digits().points.shape)
    (3, (1797, 61))
    """
    from sklearn.datasets import load_digits

    pixels, _ = load_digits(return_X_y=True)
    return prepare("digits", torch.from_numpy(np.asarray(pixels).reshape(-1, 1, 8, 8) / 8 - 1))


_FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
)
_PIXELS, _FONT_SIZE = 16, 13


@functools.cache
def glyphs() -> Dataset:
    """The characters of nine fonts that ship with matplotlib, 16 x 16 pixels in [-1, 1].

    About 28,000 distinct white-on-black images: every printable character of a face at 13 pixels,
    its ink centred, in order of face and code point. A character whose ink is wider or higher than
    16 pixels is left out, as is one without ink or equal to an earlier image. The exact number
    depends on the font renderer inside Pillow.

    Raises:
        DataError: if matplotlib was installed without its fonts.
    """
    from matplotlib import get_data_path

    folder = Path(get_data_path(), "fonts", "ttf")
    try:
        drawn = dict.fromkeys(
            itertools.chain.from_iterable(_draw(folder / f"{face}.ttf") for face in _FACES)
        )
    except OSError as error:
        raise DataError(
            f"glyphs: matplotlib's own fonts are not where it keeps them ({brief(error)}). "
            "Install matplotlib from PyPI or conda, which ship them."
        ) from error
    pixels = np.frombuffer(b"".join(drawn), dtype=np.uint8).reshape(-1, 1, _PIXELS, _PIXELS)
    return prepare("glyphs", signed(pixels))


def _draw(font: Path) -> Iterable[bytes]:
    """Pixels of the printable characters of a font that fit, in order of code point."""
    from matplotlib.ft2font import FT2Font
    from PIL import Image, ImageDraw, ImageFont

    face = ImageFont.truetype(font, _FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
    for character in map(chr, sorted(FT2Font(str(font)).get_charmap())):
        if not character.isprintable():
            continue
        canvas = Image.new("L", (3 * _PIXELS, 3 * _PIXELS))
        ImageDraw.Draw(canvas).text((_PIXELS, _PIXELS), character, fill=255, font=face)
        ink = canvas.getbbox()
        if ink is None or max(ink[2] - ink[0], ink[3] - ink[1]) > _PIXELS:
            continue
        left, top = (ink[0] + ink[2] - _PIXELS) // 2, (ink[1] + ink[3] - _PIXELS) // 2
        yield canvas.crop((left, top, left + _PIXELS, top + _PIXELS)).tobytes()


# Data in files -----------------------------------------------------------------------------------


def array(path: str | Path, *, key: str | None = None, deduplicate: bool = False) -> Dataset:
    """The points in a .npy, .npz, .pt or .safetensors file, one a row.

    Args:
        path: the file.
        key: which array, where the file holds several.
        deduplicate: keep only the first of equal rows.

    Raises:
        DataError: if the file cannot be read, or its points fail the checks of `prepare`.
    """
    points = read_array(path, key=key).to(torch.float64, copy=True)  # the file may change later
    return prepare(printable(Path(path).name), points, deduplicate=deduplicate)


def images(
    folder: str | Path,
    *,
    colour: bool | None = None,
    resize: int | None = None,
    deduplicate: bool = False,
) -> Dataset:
    """The images of a folder, in [-1, 1].

    Args:
        folder, colour, resize: as in `read_named_images`.
        deduplicate: keep only the first of equal images.

    Raises:
        DataError, ConfigError: as `read_named_images` and `prepare`.
    """
    loaded = read_named_images(folder, colour=colour, resize=resize)
    name = printable(Path(folder).resolve().name)
    return replace(prepare(name, loaded.points, deduplicate=deduplicate), reading=loaded.notes)


def read(
    path: str | Path,
    *,
    key: str | None = None,
    colour: bool | None = None,
    resize: int | None = None,
    skip_unreadable: bool = False,
) -> Loaded:
    """Points from a folder of images, an array file or a table; not to be written to.

    Args:
        path: a folder, a .npy, .npz, .pt or .safetensors file, or a .csv, .tsv or .parquet table;
            FILE:KEY is the array KEY of a file that holds several.
        key: which array, in place of FILE:KEY.
        colour, resize, skip_unreadable: of image folders, as in `read_named_images`.

    Raises:
        DataError: if it cannot be read; the message says what can.
    """
    path, key = locate(path, key)
    if not path.exists():
        raise DataError(
            f"{quote(path)} does not exist; a folder of images, an array file (.npy, .npz, .pt, "
            f".safetensors) or a table ({', '.join(TABLE_ENDINGS)}) is needed."
        )
    if path.is_file() and path.suffix.lower() in IMAGE_ENDINGS:
        raise DataError(f"{quote(path)} is one image; pass the folder of images it lies in.")
    if path.is_dir():
        return read_named_images(
            path, colour=colour, resize=resize, skip_unreadable=skip_unreadable
        )
    if is_table(path):
        return read_table(path)
    return Loaded(kind="array", points=read_array(path, key=key, read_only=True))


def read_sets(
    paths: Mapping[str, str | Path],
    *,
    colour: bool | None = None,
    resize: int | None = None,
    skip_unreadable: bool = False,
) -> dict[str, Loaded]:
    """Sets that are compared with one another, the columns of tables in the same order.

    Args:
        paths: by the name of each set, as `read` takes them.
        colour, resize, skip_unreadable: as in `read`.

    Raises:
        DataError: as `read`, or if tables differ in their columns.
    """
    tables = read_tables({name: path for name, path in paths.items() if is_table(path)})
    return match_columns({
        name: tables[name]
        if name in tables
        else read(path, colour=colour, resize=resize, skip_unreadable=skip_unreadable)
        for name, path in paths.items()
    })  # fmt: skip


# Units -------------------------------------------------------------------------------------------

_CONVENTIONS = {"[0, 1]": (0.0, 1.0), "[-1, 1]": (-1.0, 1.0), "0..255": (0.0, 255.0)}


def describe_units(points: Tensor) -> str:
    """The convention that data keep: "[0, 1]", "[-1, 1]", "0..255", or "free".

    A convention is recognized when the data stay inside its ends and reach within 5 % of both.

    >>> describe_units(torch.tensor([[0.0, 0.2], [0.99, 0.5]]))
    '[0, 1]'
    """
    low, high = extent(points)
    for name, (bottom, top) in _CONVENTIONS.items():
        near, rounding = 0.05 * (top - bottom), 1e-6 * (top - bottom)
        reaches_bottom = bottom - rounding <= low <= bottom + near
        if reaches_bottom and top - near <= high <= top + rounding:
            return name
    return "free"


def _some_rows(points: Tensor, size: int) -> Tensor:
    """Rows drawn at random, of about so many numbers in all; all rows where that is no more.

    Evenly spaced rows would be of one class where rows cycle through the classes.
    """
    if points.numel() <= size:
        return points
    count = max(1, size * len(points) // points.numel())
    order = torch.randperm(len(points), generator=seeds.generator(0, "some rows", len(points)))
    return taken(points, order[:count].sort().values)


class _Summary(NamedTuple):
    """What the rules (4) to (8) look at, of one set."""

    name: str
    dtype: torch.dtype
    convention: str
    n: int
    low: float
    high: float
    quartiles: tuple[float, float]  # of rows drawn at random where there are very many
    mean: float
    std: float
    row_std: float  # standard deviation of a row's mean

    @classmethod
    def of(cls, name: str, points: Tensor) -> "_Summary":
        if points.ndim == 0 or points.numel() == 0:
            raise DataError(f"{name}: an array of shape {tuple(points.shape)} holds no points.")
        points = points.detach().cpu()
        low, high = extent(points)
        if not (math.isfinite(low) and math.isfinite(high)):
            require_finite(name, points)
        some = torch.cat(list(blocks(_some_rows(points, 1 << 24))))
        lower, upper = np.quantile(some.numpy(), [0.25, 0.75])
        means = torch.cat([block.mean(1) for block in blocks(points)]).clamp(low, high)
        mean = float(means.mean().clamp(low, high))  # of a constant set exactly that constant
        squares = sum(float((block - mean).square().sum()) for block in blocks(points))
        return cls(
            name=name,
            dtype=points.dtype,
            convention=describe_units(points),
            n=len(points),
            low=low,
            high=high,
            quartiles=(float(lower), float(upper)),
            mean=mean,
            std=math.sqrt(squares / points.numel()),
            row_std=float(means.std(correction=0)),
        )

    def reread(self, convention: str, target: str) -> "_Summary":
        """Centre and spread if the values were in `convention` and were converted to `target`."""
        (bottom, top), (low, high) = _CONVENTIONS[convention], _CONVENTIONS[target]
        scale = (high - low) / (top - bottom)
        return self._replace(
            mean=low + scale * (self.mean - bottom),
            std=scale * self.std,
            row_std=scale * self.row_std,
        )


def _gap(a: _Summary, b: _Summary) -> float:
    """Distance of the centres beyond sampling error, in units of the wider spread: (4)."""
    distance = abs(a.mean - b.mean)
    error = max(a.row_std, b.row_std) * math.sqrt(1 / a.n + 1 / b.n)
    spread = max(a.std, b.std)
    if spread == 0:  # two constants
        return math.inf if distance > 0 else 0.0
    return (distance - 4 * error) / spread


def _is_whole(a: _Summary) -> bool:
    return not a.dtype.is_floating_point


def _looks_converted(a: _Summary, b: _Summary) -> str | None:
    """The convention in which b, read so, agrees with a: (7)."""
    if a.convention == "free" or b.convention != "free" or _gap(a, b) <= 1 / 4:
        return None
    for convention in _CONVENTIONS.keys() - {a.convention}:
        read = b.reread(convention, a.convention)
        if _gap(a, read) < 1 / 4 and 2 / 3 * a.std < read.std < 3 / 2 * a.std:
            return convention
    return None


def _leaves_range(a: _Summary, b: _Summary) -> bool:
    """Whether part of the middle half of a lies outside the range of b."""
    return a.quartiles[0] < b.low or a.quartiles[1] > b.high


def _is_elsewhere(a: _Summary, b: _Summary) -> bool:
    """Whether centre and range disagree grossly: (8)."""
    enough = {1: 2, 2: 3 / 4}
    n_leaving = _leaves_range(a, b) + _leaves_range(b, a)
    return min(a.n, b.n) >= 10 and _gap(a, b) > enough.get(n_leaving, math.inf)


def _disagreement(a: _Summary, b: _Summary) -> str | None:
    """Why two sets cannot be in the same units, (5) to (8), or None."""
    both = "free" not in (a.convention, b.convention)
    if both and a.convention != b.convention and _gap(a, b) > 1 / 10:
        return f"{a.name} is in {a.convention}, {b.name} in {b.convention}"
    if _is_whole(a) != _is_whole(b):
        return (
            f"{a.name} is stored as {short(a.dtype)}, {b.name} as {short(b.dtype)}: integers "
            "and floating-point numbers seldom share units"
        )
    for known, other in ((a, b), (b, a)):
        if (convention := _looks_converted(known, other)) is not None:
            return (
                f"{known.name} is in {known.convention}, and {other.name} agrees with it only "
                f"when read as {convention}"
            )
    if _is_elsewhere(a, b):
        return f"{a.name} and {b.name} disagree in both centre and range"
    return None


def check_same_units(
    named: Mapping[str, Tensor], *, allow_mixed_units: bool = False
) -> tuple[str, ...]:
    """Refuse sets that cannot be in the same units, by rules (5) to (8).

    Args:
        named: sets by name, shape (n, *shape), in the number types they were read in.
        allow_mixed_units: return the reasons as warnings instead of raising.

    Returns:
        Warnings, one sentence each: differences of spread beyond a factor 2, and the reasons
        that were waved through.

    Raises:
        DataError: if two sets disagree, with the ranges of all of them; or values are not finite.
    """
    sets = [_Summary.of(name, points) for name, points in named.items()]
    pairs = list(itertools.combinations(sets, 2))
    reasons = [reason for a, b in pairs if (reason := _disagreement(a, b)) is not None]
    if reasons and not allow_mixed_units:
        raise DataError(
            "The sets are not in the same units, so distances between them mean nothing:\n"
            + "".join(f"  - {reason}\n" for reason in reasons)
            + _table(sets)
            + "\nConvert all of them to one convention and number type; folders of images are "
            "read as [-1, 1], which is 2x - 1 for x in [0, 1] and x/127.5 - 1 for x in 0..255. If "
            "they do share units, insist with --allow-mixed-units (allow_mixed_units=True)."
        )
    spreads = [
        f"the spread of {b.name} is {b.std / a.std:.3g} times that of {a.name}"
        for a, b in pairs
        if min(a.std, b.std) > 0 and not 1 / 2 <= b.std / a.std <= 2
    ]
    return (*reasons, *spreads)


def _table(sets: Sequence[_Summary]) -> str:
    """Ranges and moments of the sets, one line each."""
    width = max(len(a.name) for a in sets)
    head = f"  {'':{width}} {'min':>9} {'max':>9} {'mean':>9} {'std':>9}  units"
    lines = [
        f"  {a.name:{width}} {a.low:9.4g} {a.high:9.4g} {a.mean:9.4g} {a.std:9.4g}  "
        f"{a.convention}, {short(a.dtype)}"
        for a in sets
    ]
    return "\n".join([head, *lines])


# Splits ------------------------------------------------------------------------------------------


class Split(NamedTuple):
    """Rows of a data set by role; no row has two roles."""

    training: Indices
    held_out: Indices
    null: Indices
    original: Indices
    oracle: Indices


def split(
    size: int,
    *,
    n: int,
    n_original: int | None = None,
    n_generated: int | None = None,
    seed: int,
    replicate: int,
) -> Split:
    """Disjoint roles of one replicate, equations (2) and (3), uniform without replacement.

    The draws depend on (seed, replicate) for the halves, `original` and `oracle`, and on
    (seed, replicate, n) for the order of the other half: every n of a replicate has the same
    `original` and `oracle`.

    Args:
        size: number of points of the data set.
        n: size of `training`, `held_out` and `null`, each.
        n_original: size of `original`; half of the evaluation half if not given.
        n_generated: size of `oracle`; the rest of the evaluation half if not given.
        seed: seed of the experiment.
        replicate: index of the replicate.

    Raises:
        ConfigError: if the sizes do not fit, with the largest that do.
    """
    _require_fit(size, n)
    n_original, n_generated = _evaluation_sizes(size, n_original, n_generated)
    order = torch.randperm(size, generator=seeds.generator(seed, "halves", replicate))
    evaluation, other = order[: size // 2], order[size // 2 :]
    fitted = torch.randperm(len(other), generator=seeds.generator(seed, "fitted", replicate, n))
    training, held_out, null = other[fitted[: 3 * n]].split(n)
    original, oracle = evaluation[: n_original + n_generated].split([n_original, n_generated])
    return Split(training, held_out, null, original, oracle)


def largest_n(size: int) -> int:
    """The largest n of which a data set gives training, held-out and null sets."""
    return (size - size // 2) // 3


def _require_fit(size: int, n: int) -> None:
    """Refuse n unless 3 n points fit in the half (3) of a data set."""
    other = size - size // 2
    if 1 <= n <= largest_n(size):
        return
    if other < 3:
        raise ConfigError(
            f"A data set of {size} points cannot be split: its training half needs 3 points, for "
            "n = 1. At least 5 points are needed."
        )
    raise ConfigError(
        f"n = {n} does not fit: training, held-out and null sets take 3 n = {3 * n} points, and "
        f"their half of the {size} points of the data set has {other}. n can be 1 to "
        f"{other // 3}."
    )


def _evaluation_sizes(
    size: int, n_original: int | None, n_generated: int | None
) -> tuple[int, int]:
    """Sizes of `original` and `oracle`, at least 1 each and together in the half (2)."""
    half = size // 2
    first = half // 2 if n_original is None else n_original
    if not 1 <= first < half:
        raise ConfigError(
            f"n_original = {first} does not fit: it comes from one half of the {size} points of "
            f"the data set, {half}, beside at least 1 point for the oracle. n_original can be 1 "
            f"to {half - 1}."
        )
    second = half - first if n_generated is None else n_generated
    if not 1 <= second <= half - first:
        raise ConfigError(
            f"n_generated = {second} does not fit: the oracle's points come from one half of the "
            f"{size} points of the data set, {half}, less n_original = {first}. n_generated can "
            f"be 1 to {half - first}, or take a smaller n_original."
        )
    return first, second
