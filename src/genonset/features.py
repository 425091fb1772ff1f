"""The coordinates in which samples are compared: as they are, standardized, principal, your own.

Whatever maps points to coordinates must not look at the labels, or the exactness of an audit's
p-values is lost. With mean m and standard deviations s of the pooled training and held-out points,
and V their first K principal axes, the maps are

    (1)  pixels         x
    (2)  standardized   (x - m) / s,     constant coordinates dropped
    (3)  pca:K          V^T (x - m)
    (4)  MODULE:CALLABLE, any function of points, applied to each set

A copy that was shifted, flipped, compressed or brightened is far away in (1); it is near only in
features that do not see the change.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genonset.datasets import blocks, moments
from genonset.errors import ConfigError, DataError
from genonset.tensors import Vectors, flatten, require_finite

ACCEPTED = "pixels, standardized, pca:K with a whole number K, or MODULE:CALLABLE"


def represent(sets: Mapping[str, Tensor], features: str) -> dict[str, Tensor]:
    """The sets in the coordinates that are asked for, equations (1) to (4).

    Args:
        sets: shape (n, *shape) each; "training" and "held_out", where present, are the pool.
        features: one of `ACCEPTED`. A module is found from the current folder.

    Returns:
        the sets unchanged for "pixels", else float64 rows of features.

    Raises:
        ConfigError: if the name is none of these, or K exceeds what the pool spans.
        DataError: if a callable does not return one row of finite numbers a point.

    Reference:
        Jolliffe 2002, Principal Component Analysis, chapter 1.
    """
    if features == "pixels":
        return dict(sets)
    kind, _, argument = features.partition(":")
    pool = [sets[name] for name in ("training", "held_out") if name in sets]
    if features == "standardized":
        mean, variance = moments(*pool)
        varies = variance > 0
        mean, std = mean[varies], variance[varies].sqrt()
        return _mapped(sets, lambda rows: (rows[:, varies] - mean) / std)
    if kind == "pca" and argument.isdigit() and int(argument) > 0:
        return _principal(sets, pool, int(argument))
    if kind and argument and kind != "pca":
        function = _resolve(kind, argument)
        return {name: _apply(function, features, name, points) for name, points in sets.items()}
    raise ConfigError(f"features {features!r} are not known; accepted are {ACCEPTED}.")


def _mapped(
    sets: Mapping[str, Tensor], function: Callable[[Vectors], Vectors]
) -> dict[str, Tensor]:
    """A function of rows applied to each set, a block at a time."""
    return {
        name: torch.cat([function(require_finite(name, rows)) for rows in blocks(points)])
        for name, points in sets.items()
    }


def _principal(sets: Mapping[str, Tensor], pool: list[Tensor], k: int) -> dict[str, Tensor]:
    """Equation (3); the axes are those of the triangular factor of the centred pool."""
    n, dim = sum(map(len, pool)), pool[0][0].numel()
    most = min(n - 1, dim)
    if k > most:
        raise ConfigError(
            f"pca:{k} asks for more components than {n} points in {dim} "
            f"coordinates have; K can be 1 to {most}."
        )
    mean, _ = moments(*pool)
    triangle = mean.new_empty(0, dim)
    for rows in (rows for points in pool for rows in blocks(points)):
        triangle = torch.linalg.qr(torch.cat([triangle, rows - mean]), mode="r").R
    axes = torch.linalg.svd(triangle, full_matrices=False).Vh[:k].T
    return _mapped(sets, lambda rows: (rows - mean) @ axes)


def _resolve(module: str, name: str) -> Callable[[Tensor], Any]:
    """A callable of a module in the current folder, or of an installed one."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"features {module}:{name} cannot be loaded ({error}). The module is looked for in "
            f"the current folder; accepted are {ACCEPTED}."
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(function):
        raise ConfigError(f"features {module}:{name} is not callable.")
    return function


def _apply(function: Callable[[Tensor], Any], features: str, name: str, points: Tensor) -> Tensor:
    with torch.no_grad():
        found = function(points)
    values = found if isinstance(found, Tensor) else torch.from_numpy(np.asarray(found))
    if values.ndim < 2 or len(values) != len(points):
        raise DataError(
            f"features {features} gave shape {tuple(values.shape)} for {name} of "
            f"{len(points)} points; one row of numbers a point is needed."
        )
    return require_finite(f"features of {name}", flatten(values.detach().cpu()))
