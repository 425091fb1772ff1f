"""Arrays in files, and what every reader of files returns."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from genonset.errors import DataError, GenonsetError, listed, quote
from genonset.tensors import from_array

ARRAY_ENDINGS = (".npy", ".npz", ".pt", ".safetensors")


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """Points read from a path, in the number type they were saved in.

    Attributes:
        kind: "array", "images" or "table".
        points: shape (n, *shape).
        names: of image files, one a point, as `printable` writes them; empty for other kinds.
        columns: of a table; empty for other kinds.
        skipped: files that were left out on request, with the reason.
        notes: what a reader must know of how the points were read, a sentence each.
    """

    kind: str
    points: Tensor
    names: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_array(path: str | Path, *, key: str | None = None, read_only: bool = False) -> Tensor:
    """The array in a .npy, .npz, .pt or .safetensors file, in the number type it was saved in.

    `FILE:KEY` is the array KEY of FILE, unless a file has that whole name.

    A .npy file is mapped into memory, not read, so that it may be larger than memory. What is
    written to the tensor stays there; the file must not change while the tensor lives. With
    `read_only` nothing may be written to it, and what was read of it can be given back.

    Pickled Python objects are never loaded: opening them would run code of whoever wrote the file.

    Raises:
        DataError: if the file is missing, damaged, not numeric, or the key does not choose one
            array.
    """
    path, key = locate(path, key)
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
        raise DataError(f"{quote(path)} {found}; arrays are read from {', '.join(readers)} files.")
    if suffix not in readers:
        raise DataError(
            f"{quote(path)} ends in {suffix!r}; arrays are read from {', '.join(readers)} files, "
            "and for an audit tables from .csv, .tsv and .parquet files. Unpack or rename it, or "
            "save the numbers with numpy.save('points.npy', array)."
        )
    read, write = readers[suffix]
    if path.stat().st_size == 0:
        raise DataError(f"{quote(path)} is empty. Write the numbers again with {write}.")
    try:
        return _require_real(path, read(path, key))
    except GenonsetError:
        raise
    except Exception as error:  # parsers of damaged files raise exceptions of any type
        raise DataError(
            f"{quote(path)} cannot be read as {suffix}: it is damaged, cut short, or holds "
            f"Python objects instead of numbers ({type(error).__name__}). Pickled objects are "
            "never loaded, because opening them runs code of whoever wrote the file. "
            f"Write the numbers again with {write}."
        ) from error


def locate(path: str | Path, key: str | None = None) -> tuple[Path, str | None]:
    """A file, and which of its arrays `FILE:KEY` or `key` names; what exists under the whole name
    is the file."""
    text = str(path)
    if key is None and not Path(path).exists():
        for colon in (k for k, character in enumerate(text) if character == ":"):
            file = Path(text[:colon])
            if file.suffix.lower() in ARRAY_ENDINGS and file.is_file():
                return file, text[colon + 1 :]
    return Path(path), key


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
            f"{quote(path)} holds a {type(loaded).__name__}; a tensor or a dictionary of tensors "
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
            f"{quote(path)} holds values of type {values.dtype}; only real numbers are accepted. "
            "Select the numeric columns and save them with numpy.save(path, array)."
        )
    return from_array(values)


def _require_real(path: Path, values: Tensor) -> Tensor:
    dense = values.layout is torch.strided and not values.is_quantized and not values.is_meta
    if values.is_complex() or not dense:
        raise DataError(
            f"{quote(path)} holds a {values.dtype} tensor of layout {values.layout}; dense "
            "tensors of real numbers are accepted. Save values.to_dense(), or real and imaginary "
            "parts as coordinates."
        )
    return values.detach()


def _refuse_key(path: Path, key: str | None) -> None:
    if key is not None:
        raise DataError(
            f"{quote(path)} holds one array, so there is no key {key!r} to choose. Leave the key "
            "out."
        )


def _choose(path: Path, names: Sequence[str], key: str | None) -> str:
    """The key asked for, or the only one there is."""
    if key is None and len(names) == 1:
        return names[0]
    if key is not None and key in names:
        return key
    if not names:
        raise DataError(f"{quote(path)} holds no array. Check what was saved to it.")
    wrong = "needs a key, for it holds several arrays" if key is None else f"has no key {key!r}"
    known = listed([repr(name) for name in names], separator=", ")
    example = quote(Path(f"{path}:{names[0]}"))
    raise DataError(
        f"{quote(path)} {wrong}. Its keys are {known}; choose one as FILE:KEY, such as {example}."
    )
