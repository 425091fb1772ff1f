"""The sets of an audit, as a user gives them."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genonset import datasets
from genonset.arrays import Loaded
from genonset.errors import DataError
from genonset.findings import Input
from genonset.tables import from_frame, is_frame, match_columns
from genonset.tensors import extent, from_array, parts

Given = Any
"""Points as a user has them: an array or tensor of shape (n, *shape), or a table of numbers with
named columns, as pandas and polars make them."""


def as_loaded(generated: Given, training: Given, held_out: Given | None) -> dict[str, Loaded]:
    """The sets as they came, the columns of data frames in the same order."""
    given = {"generated": generated, "training": training}
    if held_out is not None:
        given["held_out"] = held_out
    return match_columns({
        name: from_frame(name, values)
        if is_frame(values)
        else Loaded(kind="array", points=_as_tensor(name, values))
        for name, values in given.items()
    })  # fmt: skip


def as_sets(generated: Given, training: Given, held_out: Given | None = None) -> dict[str, Tensor]:
    """The sets as tensors of one shape, in the number type they came in."""
    sets: dict[str, Tensor] = {}
    for name, one in as_loaded(generated, training, held_out).items():
        points = one.points
        if points.ndim == 0 or 0 in points.shape:
            raise DataError(
                f"{name}: an array of shape {tuple(points.shape)} holds no data points; accepted "
                "is shape (n, *shape) with at least one point."
            )
        sets[name] = points if points.ndim > 1 else points[:, None]
    if len({points.shape[1:] for points in sets.values()}) > 1:
        sets = {name: _grey(points) for name, points in sets.items()}
    shapes = {name: tuple(points.shape[1:]) for name, points in sets.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(
            "All sets must hold data points of one shape, got "
            + ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            + f". {_how_to_convert(list(shapes.values()))}"
        )
    return sets


def _grey(points: Tensor) -> Tensor:
    """Images (n, height, width) as images of one channel, (n, 1, height, width)."""
    return points[:, None] if points.ndim == 3 else points


def _as_tensor(name: str, values: object) -> Tensor:
    """Real numbers on the CPU; whole ones of rare types as 64-bit integers."""
    if isinstance(values, Tensor):
        if values.is_complex() or values.layout is not torch.strided:
            raise DataError(
                f"{name}: a {values.dtype} tensor of layout {values.layout} is not accepted; "
                "dense real numbers are, shape (n, *shape)."
            )
        rare = values.dtype in (torch.bool, torch.uint16, torch.uint32, torch.uint64)
        return (values.to(torch.int64) if rare else values).detach().cpu()
    if isinstance(values, str | Path):
        raise DataError(
            f"{name}: a path is not read here; genonset.audit_files takes paths of "
            "folders, arrays and tables, as genonset audit does."
        )
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{name}: values of type {array.dtype} are not real numbers; accepted are arrays or "
            "tensors of numbers, shape (n, *shape)."
        )
    return _as_tensor(name, from_array(array))


def as_numbers(points: Tensor) -> Tensor:
    """Data points as rows of floating-point numbers, where they are if they are such numbers."""
    rows = points.reshape(len(points), -1)
    if rows.is_floating_point():
        return rows
    return rows.float() if rows.itemsize < 3 else rows.double()


def _how_to_convert(shapes: Sequence[tuple[int, ...]]) -> str:
    """What would bring data points of these shapes together."""
    if len({math.prod(shape) for shape in shapes}) == 1:
        return (
            "They have equally many coordinates: bring them into one order, for images (channels, "
            "height, width), e.g. points.permute(0, 3, 1, 2), or points.reshape(len(points), -1)."
        )
    if len({shape[-2:] for shape in shapes}) == 1 and all(len(s) >= 2 for s in shapes):
        return (
            "Channels differ: make all grey with points.mean(1, keepdim=True), or all colour with "
            "points.expand(-1, 3, -1, -1); for folders use --grey or --colour."
        )
    return "Resize images, or select the same columns, so that all sets match."


def describe(points: Tensor) -> Input:
    digest = hashlib.sha256(f"{points.dtype} {tuple(points.shape)} ".encode())
    for part in parts(points, (1 << 24) // max(1, points[0].nbytes)):
        digest.update(part.reshape(-1).contiguous().view(torch.uint8).numpy().data)
    low, high = extent(points)
    return Input(
        n=len(points),
        shape=tuple(points.shape[1:]),
        dtype=str(points.dtype).removeprefix("torch."),
        low=low,
        high=high,
        units=datasets.describe_units(points),
        sha256=digest.hexdigest(),
    )
