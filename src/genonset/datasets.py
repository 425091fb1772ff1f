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

import csv
import functools
import hashlib
import itertools
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from genonset import seeds
from genonset.errors import ConfigError, DataError, GenonsetError
from genonset.tensors import (
    Samples,
    Vectors,
    extent,
    flatten,
    from_array,
    parts,
    require_finite,
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
    """

    name: str
    points: Tensor
    shape: tuple[int, ...]
    kept: Tensor | None = None
    constants: Tensor | None = None
    n_duplicates: int = 0

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
        notes = []
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

    Args:
        sets: shape (n, *shape) each, real numbers; read a block at a time and not copied.

    Returns:
        both of shape (d,), float64; the variance has the divisor n.

    >>> moments(torch.tensor([[1.0], [2.0]]), torch.tensor([[6.0]]))[0].tolist()
    [3.0]
    """
    n = sum(map(len, sets))
    total = torch.stack([b.sum(0) for x in sets for b in blocks(x)]).sum(0)
    mean = total / n
    squares = [(b - mean).square().sum(0) for x in sets for b in blocks(x)]
    return mean, torch.stack(squares).sum(0) / n


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
            f"glyphs: matplotlib's own fonts are not where it keeps them ({_brief(error)}). "
            "Install matplotlib from PyPI or conda, which ship them."
        ) from error
    pixels = np.frombuffer(b"".join(drawn), dtype=np.uint8).reshape(-1, 1, _PIXELS, _PIXELS)
    return prepare("glyphs", _signed(pixels))


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


def _signed(pixels: np.ndarray) -> Tensor:
    """Grey levels 0..255 as float64 in [-1, 1]."""
    return torch.from_numpy(pixels / 127.5 - 1)


# Arrays in files ---------------------------------------------------------------------------------


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
    return prepare(Path(path).name, points, deduplicate=deduplicate)


def read_array(path: str | Path, *, key: str | None = None, read_only: bool = False) -> Tensor:
    """The array in a .npy, .npz, .pt or .safetensors file, in the number type it was saved in.

    A .npy file is mapped into memory, not read, so that it may be larger than memory. What is
    written to the tensor stays there; the file must not change while the tensor lives. With
    `read_only` nothing may be written to it, and what was read of it can be given back.

    Pickled Python objects are never loaded: opening them would run code of whoever wrote the file.

    Raises:
        DataError: if the file is missing, damaged, not numeric, or the key does not choose one
            array.
    """
    path = Path(path)
    readers = {
        ".npy": (
            functools.partial(_read_npy, mode="r" if read_only else "c"),
            "numpy.save(path, array)",
        ),
        ".npz": (_read_npz, "numpy.savez(path, name=array)"),
        ".pt": (_read_pt, "torch.save(tensor, path)"),
        ".safetensors": (_read_safetensors, "safetensors.torch.save_file({name: tensor}, path)"),
    }
    suffix = path.suffix.lower()
    if not path.is_file():
        found = "is not a file" if path.exists() else "does not exist"
        raise DataError(
            f"{_quote(path)} {found}; arrays are read from {', '.join(readers)} files."
        )
    if suffix not in readers:
        raise DataError(
            f"{_quote(path)} ends in {suffix!r}; arrays are read from {', '.join(readers)} files. "
            "Convert it with numpy.save('points.npy', array)."
        )
    read, write = readers[suffix]
    if path.stat().st_size == 0:
        raise DataError(f"{_quote(path)} is empty. Write the numbers again with {write}.")
    try:
        return _require_real(path, read(path, key))
    except GenonsetError:
        raise
    except Exception as error:  # parsers of damaged files raise exceptions of any type
        raise DataError(
            f"{_quote(path)} cannot be read as {suffix}: it is damaged, cut short, or holds "
            f"Python objects instead of numbers ({type(error).__name__}). Pickled objects are "
            "never loaded, because opening them runs code of whoever wrote the file. "
            f"Write the numbers again with {write}."
        ) from error


def _read_npy(path: Path, key: str | None, mode: Literal["r", "c"]) -> Tensor:
    _refuse_key(path, key)
    return _from_numpy(path, np.lib.format.open_memmap(path, mode=mode))


def _read_npz(path: Path, key: str | None) -> Tensor:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return _from_numpy(path, archive[_choose(path, archive.files, key)])


def _read_pt(path: Path, key: str | None) -> Tensor:
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(loaded, Tensor):
        _refuse_key(path, key)
        return loaded
    if not isinstance(loaded, Mapping):
        raise DataError(
            f"{_quote(path)} holds a {type(loaded).__name__}; a tensor or a dictionary of tensors "
            "is needed. Save it with torch.save(tensor, path)."
        )
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    return tensors[_choose(path, list(tensors), key)]


def _read_safetensors(path: Path, key: str | None) -> Tensor:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as archive:
        return archive.get_tensor(_choose(path, sorted(archive.keys()), key))


def _from_numpy(path: Path, values: np.ndarray) -> Tensor:
    """A tensor on the same numbers, or on a copy if their layout is not the machine's."""
    if values.dtype.kind not in "fiub":
        raise DataError(
            f"{_quote(path)} holds values of type {values.dtype}; only real numbers are accepted. "
            "Select the numeric columns and save them with numpy.save(path, array)."
        )
    return from_array(values)


def _require_real(path: Path, values: Tensor) -> Tensor:
    dense = values.layout is torch.strided and not values.is_quantized and not values.is_meta
    if values.is_complex() or not dense:
        raise DataError(
            f"{_quote(path)} holds a {values.dtype} tensor of layout {values.layout}; dense "
            "tensors of real numbers are accepted. Save values.to_dense(), or real and imaginary "
            "parts as coordinates."
        )
    return values.detach()


def _refuse_key(path: Path, key: str | None) -> None:
    if key is not None:
        raise DataError(
            f"{_quote(path)} holds one array, so there is no key {key!r} to choose. Leave the key "
            "out."
        )


def _choose(path: Path, names: Sequence[str], key: str | None) -> str:
    """The key asked for, or the only one there is."""
    if key is None and len(names) == 1:
        return names[0]
    if key is not None and key in names:
        return key
    if not names:
        raise DataError(f"{_quote(path)} holds no array. Check what was saved to it.")
    wrong = "needs a key, for it holds several arrays" if key is None else f"has no key {key!r}"
    listed = _listed([repr(name) for name in names], separator=", ")
    raise DataError(f"{_quote(path)} {wrong}. Its keys are {listed}; choose one as `key`.")


# Image folders -----------------------------------------------------------------------------------

_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_CONVERTIBLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_MAX_PIXELS = 4096 * 4096


def images(
    folder: str | Path, *, colour: bool | None = None, deduplicate: bool = False
) -> Dataset:
    """The png, jpg, webp and bmp images of a folder, in [-1, 1]; arguments as in `read_images`.

    Raises:
        DataError: as `read_images` and `prepare`.
    """
    points = read_images(folder, colour=colour)
    return prepare(Path(folder).resolve().name, points, deduplicate=deduplicate)


def read_images(folder: str | Path, *, colour: bool | None = None) -> Tensor:
    """The images of a folder as `read_named_images` reads them, without their names."""
    return read_named_images(folder, colour=colour).points


def read_named_images(
    folder: str | Path, *, colour: bool | None = None, skip_unreadable: bool = False
) -> "Loaded":
    """The png, jpg, webp and bmp images of a folder and its folders, by relative path.

    Grey levels 0..255 become -1..1. Hidden files (`.name`) and files with other endings are not
    images. Transparency is dropped when `colour` is given and refused otherwise.

    Args:
        folder: looked through to any depth; links to folders are followed.
        colour: None takes grey or RGB images as they are; True makes all RGB, False all grey.
        skip_unreadable: leave out images that cannot be read, and list them in `skipped`.

    Returns:
        Points of shape (n, channels, height, width), float64, and their relative paths.

    Raises:
        DataError: if there is no image, one cannot be read or has more than 4096 x 4096 pixels,
            sizes or modes differ, or a link leads back to a folder that contains it.
    """
    folder = Path(folder)
    files = _image_files(folder)
    decoded, names, unreadable = [], [], []
    kinds: Counter[str] = Counter()
    for file in files:
        try:
            kind, pixels = _decode(file, colour)
        except Exception as error:  # decoders of damaged files raise exceptions of any type
            unreadable.append(f"  {_quote(file.relative_to(folder))}: {_brief(error)}")
        else:
            kinds[kind] += 1
            decoded.append(pixels)
            names.append(file.relative_to(folder).as_posix())
    if unreadable and not (skip_unreadable and decoded):
        raise DataError(
            f"{_quote(folder)}: {len(unreadable)} of {len(files)} images cannot be read:\n"
            f"{_listed(unreadable)}\n"
            "Remove or repair them: leaving images out silently would change the data set. An "
            "audit leaves them out when told to, with --skip-unreadable."
        )
    if len(kinds) > 1 or any(pixels is None for pixels in decoded):
        seen = [f"  {count} of {kind}" for kind, count in kinds.most_common()]
        raise DataError(
            f"{_quote(folder)}: all images must have one size, and one mode, grey (L) or RGB. "
            f"Found:\n{_listed(seen)}\n"
            "Modes: --colour, or colour=True, makes every image RGB, --grey, or colour=False, "
            "grey (transparency is dropped; 16-bit and floating-point images are not converted).\n"
            "Sizes: resize copies first, e.g. PIL.Image.open(file).resize((32, 32)).save(copy)."
        )
    points = _signed(np.stack([pixels for pixels in decoded if pixels is not None]))
    skipped = tuple(line.strip() for line in unreadable)
    return Loaded(kind="images", points=points, names=tuple(names), skipped=skipped)


def _image_files(folder: Path) -> list[Path]:
    """Image files below a folder, sorted by relative path."""
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{_quote(folder)} {found}; a folder of images is needed.")
    try:
        files = list(_walk(folder, (folder.resolve(),)))
    except OSError as error:
        raise DataError(f"{_quote(folder)} cannot be listed: {_brief(error)}") from error
    chosen = [file for file in files if file.suffix.lower() in _IMAGE_ENDINGS]
    if not chosen:
        endings = Counter(file.suffix.lower() or "(no ending)" for file in files)
        others = _listed([f"{count} {ending!r}" for ending, count in endings.items()], ", ")
        raise DataError(
            f"{_quote(folder)} holds no image; files ending in {', '.join(_IMAGE_ENDINGS)} are "
            f"read. Other files found: {others or 'none'}. Check the path, or convert the files."
        )
    return sorted(chosen, key=lambda file: file.relative_to(folder).as_posix())


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterable[Path]:
    """Visible files below a folder; `above` are the real paths of the folders that contain it."""
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and not entry.exists():
            raise DataError(
                f"{_quote(entry)} is a symbolic link that leads nowhere or to itself. Remove it, "
                "or restore what it points to."
            )
        if not entry.is_dir():
            yield entry
        elif (real := entry.resolve()) in above:
            raise DataError(
                f"{_quote(entry)} is a symbolic link back to a folder that contains it, so the "
                "folder has no end. Remove the link."
            )
        else:
            yield from _walk(entry, (*above, real))


def _decode(file: Path, colour: bool | None) -> tuple[str, np.ndarray | None]:
    """Mode and size of an image, and its pixels (channels, height, width) if they are accepted."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
        opened = Image.open(file, formats=_IMAGE_FORMATS)
    with opened as image:
        size = f"{image.width} x {image.height}"
        if image.width * image.height > _MAX_PIXELS:
            raise DataError(f"{size} pixels are more than this program opens ({_MAX_PIXELS:,})")
        ImageOps.exif_transpose(image, in_place=True)  # as a viewer shows it
        size = f"{image.width} x {image.height}"
        mode = "L" if image.mode == "1" else image.mode
        if colour is not None and image.mode in _CONVERTIBLE:
            mode = "RGB" if colour else "L"
        if mode not in ("L", "RGB"):
            image.load()
            return f"{mode} {size}", None
        plain = image.convert("RGBA") if image.mode in ("P", "PA") else image
        pixels = np.asarray(plain.convert(mode))
        return f"{mode} {size}", pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


# Tables ------------------------------------------------------------------------------------------

_TABLE_ENDINGS = (".csv", ".tsv", ".parquet")


def read_table(path: str | Path) -> "Loaded":
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
        raise DataError(f"{_quote(path)} {found}; a CSV, TSV or Parquet table is needed.")
    try:
        columns, rows = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except GenonsetError:
        raise
    except Exception as error:  # parsers of damaged files raise exceptions of any type
        raise DataError(
            f"{_quote(path)} cannot be read as a table ({_brief(error)}). Write it again as UTF-8 "
            "text with one row a line, or as Parquet."
        ) from error
    if not len(rows):
        raise DataError(f"{_quote(path)} holds no row of numbers.")
    _require_no_counter(path, columns, rows)
    return Loaded(kind="table", points=torch.from_numpy(rows), columns=columns)


def _read_csv(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        separator = max(",;\t", key=first.count)
        file.seek(0)
        lines = [line for line in csv.reader(file, delimiter=separator) if line]
    if not lines:
        raise DataError(f"{_quote(path)} is empty.")
    named = any(_number(field) is None for field in lines[0])
    columns = tuple(lines[0]) if named else tuple(f"column {k + 1}" for k in range(len(lines[0])))
    body = lines[1:] if named else lines
    uneven = [k for k, line in enumerate(body) if len(line) != len(columns)]
    if uneven:
        raise DataError(
            f"{_quote(path)}: {len(uneven)} rows do not have {len(columns)} fields, the first is "
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
        f"{_quote(path)}: columns that are not numbers throughout (rows count from "
        f"0, without the line of names):\n{_listed(found)}\n"
        "Distances need numbers: drop these columns or encode them, and fill or drop gaps."
    )


def _read_parquet(path: Path) -> tuple[tuple[str, ...], np.ndarray]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{_quote(path)}: reading Parquet needs pyarrow. Install genonset[frames], or save "
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
            f"{_quote(path)}: columns that are not numbers throughout:\n{_listed(bad)}\n"
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
            f"{_quote(path)}: the first column has no name and counts the rows; as a coordinate "
            "it would rule every distance. Save the table without its index "
            "(index=False in pandas)."
        )


# Any of them -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """Points read from a path, in the number type they were saved in.

    Attributes:
        kind: "array", "images" or "table".
        points: shape (n, *shape).
        names: of image files, one a point; empty for other kinds.
        columns: of a table; empty for other kinds.
        skipped: files that were left out on request, with the reason.
    """

    kind: str
    points: Tensor
    names: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def read(
    path: str | Path,
    *,
    key: str | None = None,
    colour: bool | None = None,
    skip_unreadable: bool = False,
) -> Loaded:
    """Points from a folder of images, an array file or a table; not to be written to.

    Args:
        path: a folder, a .npy, .npz, .pt or .safetensors file, or a .csv, .tsv or .parquet table.
        key: which array, where a file holds several.
        colour, skip_unreadable: of image folders, as in `read_named_images`.

    Raises:
        DataError: if it cannot be read; the message says what can.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(
            f"{_quote(path)} does not exist; a folder of images, an array file (.npy, .npz, .pt, "
            f".safetensors) or a table ({', '.join(_TABLE_ENDINGS)}) is needed."
        )
    if path.is_file() and path.suffix.lower() in _IMAGE_ENDINGS:
        raise DataError(f"{_quote(path)} is one image; pass the folder of images it lies in.")
    if path.is_dir():
        return read_named_images(path, colour=colour, skip_unreadable=skip_unreadable)
    if path.suffix.lower() in _TABLE_ENDINGS:
        return read_table(path)
    return Loaded(kind="array", points=read_array(path, key=key, read_only=True))


def matches(points: Tensor, others: Tensor) -> Tensor:
    """Mask of the points that equal one of the others.

    >>> matches(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [3.0]])).tolist()
    [False, True]
    """
    known = set(_digests(others))
    return torch.tensor([digest in known for digest in _digests(points)])


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


class _Summary(NamedTuple):
    """What the rules (4) to (8) look at, of one set."""

    name: str
    dtype: torch.dtype
    convention: str
    n: int
    low: float
    high: float
    quartiles: tuple[float, float]  # of evenly spaced rows where there are very many
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
        some = torch.cat(list(blocks(points[:: 1 + points.numel() // (1 << 24)])))
        lower, upper = np.quantile(some.numpy(), [0.25, 0.75])
        means = torch.cat([block.mean(1) for block in blocks(points)])
        mean = float(means.mean())
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
    return (distance - 4 * error) / max(a.std, b.std, 1e-300)


def _is_whole(a: _Summary) -> bool:
    return not a.dtype.is_floating_point


def _looks_converted(a: _Summary, b: _Summary) -> str | None:
    """The convention in which b, read so, agrees with a: (7)."""
    if a.convention == "free" or b.convention != "free" or _gap(a, b) <= 1 / 4:
        return None
    for convention in _CONVENTIONS.keys() - {a.convention}:
        read = b.reread(convention, a.convention)
        if _gap(a, read) < 1 / 4 and 2 / 3 < read.std / max(a.std, 1e-300) < 3 / 2:
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
            f"{a.name} is stored as {_short(a.dtype)}, {b.name} as {_short(b.dtype)}: integers "
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
        f"{a.convention}, {_short(a.dtype)}"
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


# Words in messages -------------------------------------------------------------------------------


def _quote(path: Path) -> str:
    """A path on one line: control characters in file names cannot reach the terminal."""
    return repr(str(path))


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _brief(error: Exception) -> str:
    """The first line of what an exception says."""
    said = str(error).strip().splitlines() or [type(error).__name__]
    return said[0] if len(said[0]) <= 160 else f"{said[0][:157]}..."


def _listed(lines: Sequence[str], separator: str = "\n", most: int = 12) -> str:
    """The first lines, and how many more there are."""
    more = [f"  and {len(lines) - most} more"] if len(lines) > most else []
    return separator.join([*lines[:most], *more])
