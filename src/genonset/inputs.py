"""The sets of an audit, as a user gives them, brought together.

The label tests presume that training and held-out points differ by chance alone. How numbers were
stored is no chance: 0.1 in float32 and 0.1 in float64 are two points, and a sample that lies on
one of them tells by its last bits which set the point is of. So all sets are brought into one
precision, by rules that treat training and held-out points alike, before anything is compared.

*Whole numbers* of 64 bits are compared as float64, which holds those up to 2^53 in magnitude.
Where a coordinate j of sets of whole numbers goes beyond,

    (1)  x_j - c_j,    c_j the least value of j in all sets

is computed in whole numbers, and refused if it leaves 2^53 too. Distances are those of x.

*Images of 8 bits* are whole numbers k = 0 to 255 however they are written. If all training and
held-out values lie, up to rounding, on one of the grids

    (2)  k/255,    k/127.5 - 1,    k,    k/256,    k/128 - 1

every set becomes float32 of the nearest value (2), beyond the ends too: so samples are treated as
saving them would. On the last three, lattices that other data keep as well, the values must come
within 12 levels of both ends. "Up to rounding" is 2^-22 of the grid's range, or the
error of float16 or bfloat16 for values that all are of that type. Values between 0 and 255 must
be there that chance puts on the grid in less than 1 audit in 10^6; and points that are no images
must show 16 such values, or, on the grid k of whole numbers, have 64 coordinates.

*Everything else* is judged by its values. A set is of type t, one of float32, float16, bfloat16,
if it was given in t, or if r_t, rounding to t, leaves all its values as they are and

    (3)  for float32 some value is not a whole number;
    (4)  for the others sum_i max(0, e_i - l - s) >= 20, over values that are not whole
         numbers, with 2^e_i the power of two above |x_i|, 2^l the last binary place in use, and s
         the significant bits of t; or
    (5)  for the others so many points of the one real set are changed by r_t, and none of the
         other, that a random split does this in less than 1 case in 1000.

Numbers on a lattice such as quarters are scaled whole numbers: they are of float16 by chance, with
probability 2 to the power of minus the sum in (4), where their range is small, and say nothing
about the samples. By (5) a set may also be of k = 1 to 6 decimals, written so beside one that is
not. With t_1, t_2, ... the types that any set is of,

    (6)  x -> r_t1(r_t2(... x))

for the values x of all sets. Points are *identical* when they are equal after (1), (2) or (6),
whatever the features in which they are compared. Values beyond the range of a type are refused.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from genonset import datasets
from genonset.arrays import Loaded
from genonset.errors import DataError
from genonset.features import is_image
from genonset.findings import Input
from genonset.neighbors import distinct, first_rows
from genonset.tables import from_frame, is_frame, match_columns
from genonset.tensors import extent, from_array, parts, short

Given = Any
"""Points as a user has them: an array or tensor of shape (n, *shape), or a table of numbers with
named columns, as pandas and polars make them."""

WHOLE = 1 << 53
"""Whole numbers up to here are told apart by float64."""


class Together(NamedTuple):
    """Sets by name, and what a reader must know of how they were brought together."""

    sets: dict[str, Tensor]
    notes: tuple[str, ...] = ()


# One shape ---------------------------------------------------------------------------------------


def as_loaded(generated: Given, training: Given, held_out: Given | None) -> dict[str, Loaded]:
    """The sets as they came, the columns of data frames in the same order."""
    given = {"generated": generated, "training": training}
    if held_out is not None:
        given["held_out"] = held_out
    return match_columns({
        name: from_frame(name, values)
        if is_frame(values)
        else Loaded(
            kind="array", points=_as_tensor(name, values), notes=_narrowed(name, values)
        )
        for name, values in given.items()
    })  # fmt: skip


def as_sets(loaded: Mapping[str, Loaded]) -> Together:
    """The sets as tensors of one shape, in the number type they came in."""
    sets: dict[str, Tensor] = {}
    notes: list[str] = []
    for name, one in loaded.items():
        points = one.points
        if points.ndim == 0 or 0 in points.shape:
            raise DataError(
                f"{name}: an array of shape {tuple(points.shape)} holds no data points; accepted "
                "is shape (n, *shape) with at least one point."
            )
        sets[name] = points if points.ndim > 1 else points[:, None]
    last = {name: tuple(x.shape[1:]) for name, x in sets.items() if channels_last(x.shape[1:])}
    for shape in dict.fromkeys(last.values()):
        those = ", ".join(_spoken(name) for name, one in last.items() if one == shape)
        notes.append(f"{those}: the last of {shape} was taken as channels.")
    for name in last:
        sets[name] = sets[name].permute(0, 3, 1, 2).contiguous()
    if len({points.shape[1:] for points in sets.values()}) > 1:
        sets = {name: _grey(points) for name, points in sets.items()}
    shapes = {name: tuple(points.shape[1:]) for name, points in sets.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(
            "All sets must hold data points of one shape, got "
            + ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            + f". {_how_to_convert(list(shapes.values()))}"
        )
    return Together(sets, tuple(notes))


def channels_last(shape: Sequence[int]) -> bool:
    """Whether points of a shape are images (height, width, channels), beyond doubt.

    >>> channels_last((64, 64, 3)), channels_last((3, 64, 64)), channels_last((3, 64, 3))
    (True, False, False)
    """
    return len(shape) == 3 and shape[2] in (1, 3, 4) and min(shape[:2]) > 4


def _grey(points: Tensor) -> Tensor:
    """Images (n, height, width) as images of one channel, (n, 1, height, width)."""
    return points[:, None] if points.ndim == 3 else points


def _spoken(name: str) -> str:
    return name.replace("_", "-")


def _as_tensor(name: str, values: object) -> Tensor:
    """Real numbers on the CPU; whole ones of rare types as 64-bit integers."""
    if isinstance(values, Tensor):
        if values.is_complex() or values.layout is not torch.strided or values.is_quantized:
            raise DataError(
                f"{name}: a {values.dtype} tensor of layout {values.layout} is not accepted; "
                "dense real numbers are, shape (n, *shape)."
            )
        if values.is_floating_point() and values.itemsize < 2:
            raise DataError(
                f"{name}: {short(values.dtype)} is not accepted; floating-point numbers have at "
                "least 16 bits. Convert all sets from the same numbers, with .float()."
            )
        return _whole(values.detach().cpu())
    if isinstance(values, str | Path):
        raise DataError(
            f"{name}: a path is not read here; genonset.audit_files takes paths of "
            "folders, arrays and tables, as genonset audit does."
        )
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise DataError(
            f"{name}: {np.ma.count_masked(values)} of {values.size} values are masked. Fill them "
            "or leave these rows out: what is behind a mask is no data."
        )
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{name}: a {type(values).__name__} is not one array of numbers; accepted are arrays "
            "or tensors of shape (n, *shape) and data frames. Of a Dataset or a list, stack the "
            "data points first, without labels: torch.stack([item[0] for item in dataset])."
        ) from error
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{name}: values of type {array.dtype} are not real numbers; accepted are arrays or "
            f"tensors of numbers, shape (n, *shape).{_remedy(array)}"
        )
    return _as_tensor(name, from_array(array))


def _remedy(array: np.ndarray) -> str:
    if array.dtype.kind in "OUS":
        return " If they are numbers, convert them: numpy.array(values, dtype=float)."
    if array.dtype.kind in "mM":
        return ' Times are compared as whole numbers: values.astype("int64").'
    if array.dtype.kind == "c":
        return " Pass real and imaginary parts as coordinates."
    return ""


def _whole(points: Tensor) -> Tensor:
    """Whole numbers of rare types as int64, uint64 only where a value is beyond int64."""
    if points.dtype in (torch.bool, torch.uint16, torch.uint32):
        return points.to(torch.int64)
    if points.dtype is torch.uint64 and points.numel():
        signed = points.view(torch.int64)
        return signed if extent(signed)[0] >= 0 else points
    return points


def _narrowed(name: str, values: object) -> tuple[str, ...]:
    """That numbers of a longer type are not held by float64, if there are any."""
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.itemsize <= 8:
        return ()
    n = int(np.count_nonzero(values != values.astype(np.float64)))
    words = f"{n} of {values.size} values of {values.dtype} were rounded to float64."
    return (f"{_spoken(name)}: {words}",) if n else ()


def _ends(points: Tensor) -> tuple[float, float]:
    """The least and the largest value, as whole numbers where float64 would round them."""
    if points.is_floating_point():
        return extent(points)
    values = points.numpy()
    low, high = int(values.min()), int(values.max())
    return (float(low), float(high)) if max(-low, high) <= WHOLE else (low, high)


# One precision -----------------------------------------------------------------------------------


def centred(sets: Mapping[str, Tensor]) -> Together:
    """Sets of whole numbers beyond 2^53 less a common whole number a coordinate, equation (1).

    Raises:
        DataError: if a coordinate has a range beyond 2^53.
    """
    if any(x.is_floating_point() for x in sets.values()):
        wide = {n: x.double() if x.dtype is torch.uint64 else x for n, x in sets.items()}
        return Together(wide)
    if max(abs(end) for x in sets.values() for end in _ends(x)) <= WHOLE:
        return Together(dict(sets))
    rows = {name: x.reshape(len(x), -1).numpy() for name, x in sets.items()}
    lows = [
        min(column) for column in zip(*(x.min(0).tolist() for x in rows.values()), strict=True)
    ]
    tops = [
        max(column) for column in zip(*(x.max(0).tolist() for x in rows.values()), strict=True)
    ]
    beyond = [max(-low, top) > WHOLE for low, top in zip(lows, tops, strict=True)]
    for j, (low, top) in enumerate(zip(lows, tops, strict=True)):
        if beyond[j] and top - low > WHOLE:
            raise DataError(
                f"Coordinate {j} holds whole numbers from {low} to {top}. Double precision tells "
                f"apart only {WHOLE} values one after the other: subtract a common value, or use "
                "a coarser unit, such as microseconds in place of nanoseconds."
            )
    centre = np.array(
        [low % 2**64 if far else 0 for low, far in zip(lows, beyond, strict=True)], np.uint64
    )
    found = {}
    for name, x in rows.items():
        wide = x if x.dtype == np.uint64 else x.astype(np.int64).view(np.uint64)
        less = (wide - centre).view(np.int64)  # modulo 2^64, so exact where the result is small
        found[name] = torch.from_numpy(less).reshape(sets[name].shape)
    note = (
        f"Whole numbers beyond 2^53 in {sum(beyond)} of {len(beyond)} coordinates: the least "
        "value of each was subtracted, in whole numbers, from all sets."
    )
    return Together(found, (note,))


def in_one_precision(sets: Mapping[str, Tensor]) -> Together:
    """The sets rounded alike, by (2) or else by (6); what does not change is not copied.

    Args:
        sets: finite, shape (n, *shape) each; "training" and "held_out", where present, are real.

    Raises:
        DataError: if values are beyond the range of the type that all are rounded to.
    """
    grid = _common_grid(sets)
    if grid is not None:
        words = f"rounded to the 256 levels {grid.words} that the real sets lie on"
        found = {name: _rounded(name, x, grid, words) for name, x in sets.items()}
    else:
        types = _types(sets)
        decimals = _decimals(sets, tuple(types))
        reasons = [
            f"through {short(t)}, which holds all values of {' and '.join(map(_spoken, names))}"
            for t, names in types.items()
        ]
        if decimals:
            reasons.append(f"to {decimals[0]} decimals, as {_spoken(decimals[1])} is written")
        onto = _Through(types=tuple(types), decimals=decimals[0] if decimals else None)
        words = f"rounded {' and '.join(reasons)}"
        found = {
            name: x if onto.keeps(x.dtype) else _rounded(name, x, onto, words)
            for name, x in sets.items()
        }
        for name, x in found.items():
            if x is not sets[name]:
                _require_seen(name, sets[name], x, words)
    changed = [_spoken(name) for name, x in found.items() if x is not sets[name]]
    how = "was" if len(changed) == 1 else "were"
    notes = [f"{' and '.join(changed)} {how} {words}."] if changed else []
    for name in ("training", "held_out"):
        if _differs(name, found, _Through(decimals=0)):
            notes.append(
                f"{_spoken(name)} holds whole numbers alone, the other real points do not: how a "
                "number was rounded tells of which set it is, and the p-values with it. Round "
                "both alike."
            )
    return Together(found, tuple(notes))


_WIDER = (
    "Convert all sets from the same numbers to one type that holds them, such as float32 or "
    "float64, or rescale all alike."
)


def _rounded(name: str, points: Tensor, onto: Callable[[Tensor], Tensor], words: str) -> Tensor:
    """Points after rounding, themselves if it changes none."""
    if all(torch.equal(onto(x).double(), x.double()) for x in _blocks(points)):
        return points
    whole = torch.empty(points.shape, dtype=onto(points[:1]).dtype)
    rows, start = whole.view(len(whole), -1), 0
    for x in _blocks(points):
        rows[start : start + len(x)] = onto(x)
        start += len(x)
    if not all(map(math.isfinite, extent(whole))):
        largest = max(map(abs, extent(points)))
        raise DataError(
            f"{_spoken(name)} holds {largest:.4g}, beyond the range of the number type: all sets "
            f"are to be {words}. {_WIDER}"
        )
    return whole


def _require_seen(name: str, points: Tensor, rounded: Tensor, words: str) -> None:
    """Refuse points of which most numbers are too small for a type."""
    n = int((points != 0).sum())
    n_lost = n - int((rounded != 0).sum())
    if n_lost > n / 2:
        raise DataError(
            f"{n_lost} of {n} values of {_spoken(name)} that are not 0 become 0 when {words}. "
            f"{_WIDER}"
        )


def _blocks(points: Tensor) -> Iterator[Tensor]:
    """Rows, so many at a time that a processor's cache holds them."""
    return parts(points.reshape(len(points), -1), (1 << 16) // max(1, points[0].numel()))


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """One of the grids (2): values k / steps - shift, k whole."""

    words: str
    steps: float
    shift: float

    @property
    def of_images_alone(self) -> bool:
        """Whether hardly anything else is written so; lattices of binary numbers are common."""
        return not math.log2(self.steps).is_integer()

    def places(self, x: Tensor) -> Tensor:
        return (x.double() + self.shift) * self.steps

    def values(self, places: Tensor) -> Tensor:
        return places / self.steps - self.shift

    def __call__(self, x: Tensor) -> Tensor:
        return self.values(self.places(x).round()).float()


GRIDS = (
    _Grid(words="k/255", steps=255.0, shift=0.0),
    _Grid(words="k/127.5 - 1", steps=127.5, shift=1.0),
    _Grid(words="0 to 255", steps=1.0, shift=0.0),
    _Grid(words="k/256", steps=256.0, shift=0.0),
    _Grid(words="k/128 - 1", steps=128.0, shift=1.0),
)

_NEAR_END = 12  # levels: 5 % of 255

_HALVES = (torch.float16, torch.bfloat16)
_BITS = {torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}


def _common_grid(sets: Mapping[str, Tensor]) -> _Grid | None:
    """The grid (2) of the real sets, or None."""
    real = [sets[name] for name in ("training", "held_out") if name in sets]
    shape = tuple(real[0].shape[1:])
    picture = is_image(shape) or (len(shape) == 3 and shape[0] == 4)
    for grid in GRIDS:
        found = [_levels(x, grid) for x in real]
        known = [one for one in found if one is not None]
        if len(known) < len(real):
            continue
        seen = torch.stack([levels for levels, _ in known]).any(0)
        enough = picture or (
            math.prod(shape) >= 64 if grid.steps == 1 else int(seen[1:-1].sum()) >= 16
        )
        places = seen.nonzero()[:, 0]
        reaches = int(places[0]) <= _NEAR_END and int(places[-1]) >= 255 - _NEAR_END
        if (
            enough
            and (reaches or grid.of_images_alone)
            and sum(log for _, log in known) < math.log(1e-6)
        ):
            return grid
    return None


def _levels(points: Tensor, grid: _Grid) -> tuple[Tensor, float] | None:
    """Which of the 256 values (2) all points lie on, and the log chance of it; None if off it."""
    if not points.is_floating_point() and grid.steps != 1:
        return None
    types = [None, *(t for t in _HALVES if _is_left_alone(points, _Through(types=(t,))))]
    for t in types:
        seen = torch.zeros(256, dtype=torch.bool)
        if all(_on_grid(x, grid, t, seen) for x in _blocks(points)):
            inner = grid.values(seen[1:-1].nonzero()[:, 0].double() + 1)
            return seen, float((2 * _leeway(inner, grid, t)).clamp(max=1).log().sum())
    return None


def _on_grid(x: Tensor, grid: _Grid, t: torch.dtype | None, seen: Tensor) -> bool:
    """Whether all values lie on the grid; those they lie on are marked in `seen`."""
    places = grid.places(x)
    nearest = places.round()
    on = (places - nearest).abs() <= _leeway(x.double(), grid, t)
    if not bool((on & (nearest >= 0) & (nearest <= 255)).all()):
        return False
    seen |= torch.bincount(nearest.flatten().long(), minlength=256) > 0
    return True


def _leeway(x: Tensor, grid: _Grid, t: torch.dtype | None) -> Tensor:
    """What rounding does to values of the grid, in units of its steps."""
    error = torch.full_like(x, 2.0**-22 * 255)
    if t is torch.float16:
        return torch.full_like(x, 2.0**-11 * 255)
    return error + x.abs() * 2.0**-8 * grid.steps if t is torch.bfloat16 else error


# Number types ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Through:
    """Equation (6), after rounding to decimals where a set is of so many."""

    types: tuple[torch.dtype, ...] = ()
    decimals: int | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.decimals is not None:
            x = (x.double() * 10**self.decimals).round() / 10**self.decimals
        for t in self.types:
            x = x.to(t)
        return x.float() if self.types else x

    def keeps(self, dtype: torch.dtype) -> bool:
        """Whether no number of a type is changed."""
        return self.decimals is None and self.types in ((), (dtype,))


def _types(sets: Mapping[str, Tensor]) -> dict[torch.dtype, list[str]]:
    """The coarsest types that sets are of, with those sets: float32, or one or both of the others.

    Neither of the others holds all values of the other one.
    """
    found = {t: [name for name in sets if _is_of(name, sets, t)] for t in _BITS}
    halves = {t: found[t] for t in _HALVES if found[t]}
    return halves or {t: names for t, names in found.items() if names}


def _is_of(name: str, sets: Mapping[str, Tensor], t: torch.dtype) -> bool:
    """Whether a set is of a type: given in it, or (3) to (5)."""
    points = sets[name]
    if points.dtype is t:
        return True
    onto = _Through(types=(t,))
    if not (points.is_floating_point() and _is_left_alone(points, onto)):
        return False
    if t is torch.float32 or not _has_fractions(points):
        return _has_fractions(points)
    return _evidence(points, _BITS[t]) >= 20 or _differs(name, sets, onto)


def _decimals(
    sets: Mapping[str, Tensor], types: tuple[torch.dtype, ...]
) -> tuple[int, str] | None:
    """The decimals that one real set is of and the other is not, in these types; with that set."""
    through = _Through(types=types)
    real = {
        name: x if through.keeps(x.dtype) else through(x)
        for name, x in sets.items()
        if name != "generated"
    }
    for k, name in itertools.product(range(1, 7), real):
        of = _Through(types=types, decimals=k)
        if _differs(name, real, of) and _has_fractions(real[name]):
            return k, name
    return None


def _has_fractions(points: Tensor) -> bool:
    return any(bool((x != x.round()).any()) for x in _blocks(points))


def _is_left_alone(points: Tensor, onto: Callable[[Tensor], Tensor]) -> bool:
    """Whether rounding changes no value, in the type that the points have."""
    return all(torch.equal(onto(x).to(x.dtype), x) for x in _blocks(points))


def _evidence(points: Tensor, bits: int) -> int:
    """The sum of (4)."""
    last = min((int(place.min()) for _, place in _binary(points)), default=0)
    return sum(int((e - last - bits).clamp(min=0).sum()) for e, _ in _binary(points))


def _binary(points: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For values that are not whole: e with 2^e above |x|, and the last binary place in use."""
    for x in _blocks(points):
        mantissa, exponent = torch.frexp(x[x != x.round()].double().abs())
        digits = (mantissa * 2.0**53).long()
        if len(digits):
            yield exponent, exponent - 53 + (digits & -digits).double().log2().int()


def _differs(name: str, sets: Mapping[str, Tensor], onto: Callable[[Tensor], Tensor]) -> bool:
    """(5): whether rounding leaves this real set alone and changes the other beyond chance."""
    if "held_out" not in sets or name == "generated":
        return False
    mine, other = sets[name], sets["held_out" if name == "training" else "training"]
    if not (mine.is_floating_point() and _is_left_alone(mine, onto)):
        return False
    changed = sum(int((onto(x).to(x.dtype) != x).any(1).sum()) for x in _blocks(other))
    n, n_mine = len(mine) + len(other), len(mine)
    if n - changed < n_mine:
        return True
    ends = n - changed, n - changed - n_mine, n, n - n_mine
    left, rest, every, others = (math.lgamma(1 + k) for k in ends)
    return left - rest - every + others < math.log(1e-3)


# Equal points ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Equal:
    """Which points are one and the same, in the numbers that came in.

    Attributes:
        in_training: for each sample the first training point that equals it, or -1.
        in_held_out: the same for held-out points; -1 throughout if there are none.
        training: training points equal to an earlier one.
        overlap: held-out points equal to a training point.
        generated: samples equal to an earlier one.
    """

    in_training: Tensor
    in_held_out: Tensor
    training: int
    overlap: int
    generated: int

    @property
    def identical(self) -> int:
        """Samples that equal a training point."""
        return int((self.in_training >= 0).sum())

    @property
    def held_out_copies(self) -> int:
        """Samples that equal a held-out point."""
        return int((self.in_held_out >= 0).sum())


def equal_points(sets: Mapping[str, Tensor]) -> Equal:
    """Equal points inside the sets and between them; `sets` as `in_one_precision` returns them."""
    first, member = distinct(*(x.reshape(len(x), -1) for x in sets.values()))
    places = dict(zip(sets, member.split([len(x) for x in sets.values()]), strict=True))
    rows = {name: _row_or_none(place, len(first)) for name, place in places.items()}
    generated, training = places["generated"], places["training"]
    held_out = places.get("held_out", training[:0])
    nowhere = torch.full_like(generated, -1)
    return Equal(
        in_training=rows["training"][generated],
        in_held_out=rows["held_out"][generated] if "held_out" in rows else nowhere,
        training=len(training) - len(training.unique()),
        overlap=int((rows["training"][held_out] >= 0).sum()),
        generated=len(generated) - len(generated.unique()),
    )


def _row_or_none(member: Tensor, n_points: int) -> Tensor:
    """For each distinct point the first row that is of it; -1 if none is."""
    first = first_rows(member, n_points)
    return torch.where(first < len(member), first, -1)


def as_first(rows: Mapping[str, Tensor], sets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Coordinates of points, those of points that are equal made equal.

    A product of matrices rounds a row as its place in the batch has it, and equal points would be
    distinct.
    """
    first, member = distinct(*(x.reshape(len(x), -1) for x in sets.values()))
    source, sizes = first[member], [len(x) for x in sets.values()]
    if len(first) == len(member):
        return dict(rows)
    starts = dict(zip(sets, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    found = dict(rows)
    for name, mine in zip(sets, source.split(sizes), strict=True):
        own = torch.arange(starts[name], starts[name] + len(mine))
        found[name] = rows[name].clone()
        for other, start in starts.items():
            here = (mine != own) & (mine >= start) & (mine < start + len(sets[other]))
            found[name][here] = rows[other][mine[here] - start]
    return found


# Facts -------------------------------------------------------------------------------------------


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
            "Channels differ: average those of colour images, along their axis in your arrays, or "
            "repeat grey ones three times; for folders use --grey or --colour."
        )
    return "Resize images, or select the same columns, so that all sets match."


def describe(points: Tensor) -> Input:
    digest = hashlib.sha256(f"{points.dtype} {tuple(points.shape)} ".encode())
    for part in parts(points, (1 << 24) // max(1, points[0].nbytes)):
        digest.update(part.reshape(-1).contiguous().view(torch.uint8).numpy().data)
    low, high = _ends(points)
    wide = points.dtype is torch.uint64
    return Input(
        n=len(points),
        shape=tuple(points.shape[1:]),
        dtype=str(points.dtype).removeprefix("torch."),
        low=low,
        high=high,
        units="free" if wide else datasets.describe_units(points),
        sha256=digest.hexdigest(),
    )
