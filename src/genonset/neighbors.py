"""Exact nearest neighbours in bounded memory.

The distance that is reported, and by which neighbours are ranked, is the direct one in float64:

    (1)  d(q, p) = sqrt(sum_i (q_i - p_i)²)

Most pairs never need it. With a common centre subtracted from both sides,

    (2)  d² = |q|² + b(q, p),    b = |p|² - 2 q.p

and one matrix product gives b for all pairs of a tile. Of b only a bound is used. With unit
roundoff u, x = (dim + 20) u and gamma = x / (1 - x), the rounding of the coordinates costs at most
8u, that of the squared norms (dim + 10) u and that of the product 2 gamma, each in units of
|q|² + |p|²; their sum is below kappa = 4 gamma, so that, with b as it was computed,

    (3)  d² >= (1 - kappa) |q|² + b_kappa(q, p),    b_kappa = (1 - kappa) |p|² - 2 q.p

for any order of summation (Higham 2002, equation (3.5); half of |q|² + |p|² bounds |q| |p|). The
points with the smallest b_kappa are the candidates of a query, and their distances are computed by
(1). A point that is not a candidate has a b_kappa no smaller than the candidates' largest; where
(3) then puts it strictly beyond the k-th distance found, the answer is certain, ties included.
Queries that are not certain are asked again in float64 with more candidates, and the few that are
left by (1) for all pairs. Speed rests on the product, the result on (1) alone.

Taking the smallest of so many bounds would cost as much as the product. A large search therefore
first asks only for their signs. With x' for x rounded to the precision of the product, bfloat16
where the processor has such products and float32 elsewhere, s = (1 - kappa) |p|²/2, any threshold
t, and the Cauchy-Schwarz inequality,

    (4)  q.p <= q'.p' + |q| |p - p'| + |q - q'| |p'|
    (5)  b_kappa/2 - t >= (q', |q|, |q - q'|, 1, -t) . (-p', -|p - p'|, -|p'|, s, 1)

so that the bound itself is one product, of rows with six more coordinates: lengths are rounded
up, and s and t are sums of two numbers of that precision, at most s and exactly t. The products of
these numbers and their sum in float32, in any order, err by gamma times the sum of magnitudes,
which is below 1.02 (|q|² + |p|²) + 1.01 |t|: kappa has room for the first part, and kappa |t| for
the second. Rounding the sum to bfloat16 keeps its sign. Where it is negative the point goes on
the query's shortlist; of all others b_kappa >= 2 (t - kappa |t|). Any falling sequence of
thresholds is right, since what is struck off a list has a bound above the last one; a good one
makes lists of little more than k points. It starts from a sample and follows the lists. Queries
that bfloat16 leaves uncertain are asked in float32.

Assumed: finite coordinates, not so large or small that (1) leaves the range of float64.
"""

import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from genonset.errors import ConfigError, DataError
from genonset.tables import is_frame
from genonset.tensors import extent, from_array, give_back, product, require_finite, taken

Points = Tensor | np.ndarray
"""n data points of any shape and any float dtype, shape (n, *shape)."""

MEMORY = 1 << 26
"""Scratch memory of one search in bytes, unless told otherwise."""

_SMALLEST, _LARGEST = 1e-140, 1e140  # magnitudes whose squares float64 holds with room to spare

_LEEWAY = 1.6  # times the greatest error: a guess that makes (3) hold for nearly all queries
_FAR = 2.0**100


def as_rows(name: str, points: Points) -> Tensor:
    """Data points flattened to rows, in the dtype they came in.

    Raises:
        DataError: if there are no points, or they are not finite floating-point numbers.
    """
    if is_frame(points):
        raise DataError(
            f"{name}: data frames are not read here, for their columns could stand in another "
            "order; genonset.audit matches them by name. Pass points.to_numpy(), with the same "
            "columns in the same order in all sets."
        )
    values = points if isinstance(points, Tensor) else np.asarray(points)
    floating = (
        values.dtype.is_floating_point
        if isinstance(values, Tensor)
        else (values.dtype.kind == "f")
    )
    if values.ndim == 0 or 0 in values.shape or not floating:
        raise DataError(
            f"{name}: got shape {tuple(values.shape)} of {values.dtype}; accepted is at least one "
            "point, shape (n, *shape), of floating-point numbers. Convert integers to floats in "
            "the unit of the data they are compared with."
        )
    if not isinstance(values, Tensor):
        values = from_array(values)
    values = values.detach().reshape(len(values), -1)
    if not all(map(math.isfinite, extent(values))):
        require_finite(name, values)
    return values


def distinct(*sets: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct rows of all sets together, in the order of their coordinates, first one first.

    The order depends on the values alone, and not on the unit that they are in.

    Args:
        sets: shape (n, d) each, of any float dtype. A few columns are read at a time, and further
            ones only of rows that are equal so far.

    Returns:
        for each distinct row the first of the rows that equal it, and for each row its place
        among the distinct ones; rows are counted through all sets.
    """
    n, dim = sum(map(len, sets)), sets[0].shape[1]
    before = np.zeros(n, np.int64)  # how many rows come before the first that equals it so far
    tied, column = np.arange(n), 0
    while len(tied) and column < dim:
        width = max(1, MEMORY // (16 * len(tied)))
        read = [
            taken(x[:, column : column + width], rows).double()
            for x, rows in _row_parts(sets, tied)
        ]
        values = _ordered_bytes(torch.cat(read).cpu().numpy() + 0.0)  # -0.0 becomes 0.0
        _, key = np.unique(
            values.view(np.dtype((np.void, values.strides[0]))).ravel(), return_inverse=True
        )
        head, column = before[tied], column + width
        order = np.lexsort((key, head))
        tied, key, head = tied[order], key[order], head[order]
        run = np.flatnonzero(np.diff(key, prepend=-1) | np.diff(head, prepend=-1))
        length = np.diff(run, append=len(tied))
        group = np.flatnonzero(np.diff(head, prepend=-1))
        first = run - group[np.searchsorted(group, run, "right") - 1]
        before[tied] = np.repeat(head[run] + first, length)
        tied = np.sort(tied[np.repeat(length > 1, length)])
    _, first, member = np.unique(before, return_index=True, return_inverse=True)
    return torch.from_numpy(first), torch.from_numpy(member)


def first_rows(member: Tensor, n_points: int) -> Tensor:
    """For each distinct point the first row that equals it; the largest number if none does."""
    first = torch.full((n_points,), torch.iinfo(torch.int64).max)
    return first.scatter_reduce_(0, member, torch.arange(len(member)), "amin")


def _ordered_bytes(values: np.ndarray) -> np.ndarray:
    """Whole numbers whose bytes, compared from the first on, are in the order of these floats."""
    bits = np.ascontiguousarray(values).view(np.int64)
    return np.where(bits < 0, ~bits, bits ^ np.int64(-(2**63))).view(np.uint64).astype(">u8")


def _row_parts(sets: Sequence[Tensor], rows: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    """Each set with rows of it that are asked for; `rows` ascend through all sets."""
    start = 0
    for x in sets:
        here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + len(x))]
        for some in torch.from_numpy(here - start).split(1 << 16):
            yield x, some
        start += len(x)


@torch.no_grad()
def nearest(
    queries: Points,
    points: Points,
    k: int,
    *,
    rank: Tensor | None = None,
    memory: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The k nearest points of each query, Euclidean and exact, equation (1).

    Args:
        queries: shape (m, *shape), any float dtype; flattened.
        points: shape (n, *shape). A memory-mapped array is read a tile at a time and not copied,
            if it is in the byte order of the machine.
        k: number of neighbours, 1 to n. A query that is itself one of the points is its own
            neighbour at distance 0.
        rank: shape (n,), whole numbers: ties go to the lower rank instead of the lower index, and
            points of negative rank are left out.
        memory: scratch memory in bytes, 64 MiB by default. It sets the tile sizes and never the
            result; what one query and its candidates need is always taken.

    Returns:
        distances, float64, and indices into `points`, both of shape (m, k): ascending, ties by
        lower index, equal to what sorting all n distances (1) gives.

    Raises:
        DataError: if a set is empty, not finite, of another shape than the other or of a scale
            whose squares leave float64, or if there are fewer than k points.
        ConfigError: if memory is not positive.
    """
    queries, points = as_rows("queries", queries), as_rows("points", points)
    if queries.shape[1] != points.shape[1]:
        raise DataError(
            f"queries have {queries.shape[1]} coordinates and points {points.shape[1]}; "
            "both sets must hold data points of one shape."
        )
    n = len(points) if rank is None else int((rank >= 0).sum())
    if not 1 <= k <= n:
        raise DataError(f"{k} neighbours of {n} points do not exist; ask for 1 to {n}.")
    memory = MEMORY if memory is None else memory
    if memory <= 0:
        raise ConfigError(f"memory is a positive number of bytes, got {memory}.")
    largest = max(abs(end) for x in (queries, points) for end in extent(x))
    if largest > 0 and not _SMALLEST < largest < _LARGEST:
        raise DataError(
            f"the largest coordinate is {largest:.3g} in magnitude; distances are computed "
            f"between {_SMALLEST:g} and {_LARGEST:g}. Rescale the data."
        )
    unit = 2.0 ** math.frexp(largest)[1]
    distances = queries.new_empty(len(queries), k, dtype=torch.float64)
    indices = queries.new_empty(len(queries), k, dtype=torch.int64)
    certain = queries.new_zeros(len(queries), dtype=torch.bool)
    n_together = memory // (4 * points.shape[1] + 20 * _slots(k))
    for dtype in _screens():
        n_left = len(queries) - int(certain.sum())
        if _worth_shortlists(min(n_left, n_together), points, k, memory):
            for part in _left(certain, n_together):
                found = _Shortlists(queries[part], points, k, rank, dtype, unit, memory).nearest()
                distances[part], indices[part], certain[part] = found
    for dtype, n_spare in _stages(points.shape[1]):
        n_candidates = k + n_spare
        if n_candidates < n:
            for part in _left(certain, memory // (128 * n_candidates + 32 * points.shape[1])):
                found = _by_product(
                    queries[part], points, k, rank, n_candidates, dtype, unit, memory
                )
                distances[part], indices[part], certain[part] = found
    for part in _left(certain, 256):
        distances[part], indices[part] = _all_pairs(queries[part], points, k, rank, memory)
    return distances, indices


def _left(certain: Tensor, step: int) -> Sequence[Tensor]:
    """The queries that are not certain yet, in parts."""
    left = (~certain).nonzero()[:, 0]
    return left.split(max(1, step)) if len(left) else ()


def _stages(dim: int) -> Sequence[tuple[torch.dtype, int]]:
    """Precision of the products and number of spare candidates, one search after the other."""
    single = [(torch.float32, 4)] if _full_float32() and dim < 1 << 20 else []
    return [*single, (torch.float64, 64)]


def _screens() -> Sequence[torch.dtype]:
    """Precisions in which (5) is asked, one after the other: what this processor is fast in."""
    coarse = [torch.bfloat16] if _fast_bfloat16() else []
    return [*coarse, torch.float32] if _full_float32() else coarse


def _full_float32() -> bool:
    """Whether products of float32 numbers are what they say, as (3) presumes."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set piecewise by the newer switches: nothing can be relied on
        return False


def _worth_shortlists(m: int, points: Tensor, k: int, memory: int) -> bool:
    """Whether (5) is faster than (2): for so many queries of such points."""
    n, dim = points.shape
    large = m >= 256 and n >= max(8192, 64 * k) and 64 <= dim < 1 << 16
    return large and 16 * n <= memory and points.device.type == "cpu"


@functools.cache
def _fast_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 and adds in float32, as (5) presumes."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    if not capabilities.get("avx512_bf16", False):
        return False
    row = torch.full((64, 1025), 2.0**-10, dtype=torch.bfloat16)
    row[:, 0] = 1
    return bool((row @ torch.ones_like(row).T == 2).all())


def _slots(k: int) -> int:
    """Number of points that a shortlist holds."""
    return 4 * k + 64


def _slices(n: int, step: int) -> Sequence[slice]:
    """The range of n in parts."""
    return [slice(start, min(n, start + step)) for start in range(0, n, step)]


class _Shortlists:
    """For every query the points that (5) does not put beyond its threshold.

    Attributes:
        left, right: the two sides of (5); `right` holds a tile of points at a time.
        q_norms, q_errors, p_norms, p_errors: |x| and |x - x'| of both sets.
        threshold, highest: t as it is, and as it was at first.
        bounds, columns: lower bounds b_kappa / 2 of the points listed, shape (m, slots).
        count: how many points are listed; the slots behind them mean nothing.
    """

    def __init__(
        self,
        queries: Tensor,
        points: Tensor,
        k: int,
        rank: Tensor | None,
        dtype: torch.dtype,
        unit: float,
        memory: int,
    ) -> None:
        (m, dim), n = queries.shape, len(points)
        self.rank = rank
        self.eps = torch.finfo(dtype).eps
        self.queries, self.points, self.k = queries, points, k
        self.unit, self.memory = unit, memory
        x = (dim + 26) * torch.finfo(torch.float32).eps / 2
        self.kappa = 4 * x / (1 - x)
        self.centre = _centre(points)
        self.width = 16 * max(1, min(128, memory // (512 * dim)))
        self.height = max(1, min(m, 1024, memory // (16 * self.width)))
        self.left = queries.new_zeros(m, dim + 6, dtype=dtype)
        self.right = queries.new_empty(self.width, dim + 6, dtype=dtype)
        self.q_norms, self.q_errors = queries.new_empty(2, m, dtype=torch.float64)
        self.p_norms, self.p_errors = queries.new_empty(2, n, dtype=torch.float64)
        for rows in _slices(m, self.width):
            self.q_norms[rows], self.q_errors[rows] = self._round(queries[rows], self.left[rows])
        self.left[:, dim] = self.q_norms * (1 + 2 * self.eps)
        self.left[:, dim + 1] = self.q_errors * (1 + 2 * self.eps)
        self.left[:, dim + 2 : dim + 4] = 1
        self.bounds = queries.new_empty(m, _slots(k), dtype=torch.float64)
        self.columns = queries.new_empty(m, _slots(k), dtype=torch.int64)
        self.count = queries.new_zeros(m, dtype=torch.int64)
        self.threshold = queries.new_full((m,), math.inf, dtype=torch.float64)
        self._lower(torch.arange(m), self._sampled_threshold())
        self.highest = self.threshold.clone()

    def nearest(self) -> tuple[Tensor, Tensor, Tensor]:
        """Distances, indices, and for which queries (3) proves them right."""
        (m, dim), n, k = self.queries.shape, len(self.points), self.k
        for columns, rows, values in self._products(1):
            self._list(columns.start, rows, values)
        for some in torch.arange(m).split(1024):
            self._tighten(some)
        distances = self.threshold.new_full((m, k), math.inf)
        indices = self.columns.new_zeros(m, k)
        order = self.count.argsort()
        order = order[self.count[order] >= k]
        for rows in order.split(256) if len(order) else ():
            count = self.count[rows, None]
            listed = self.columns[rows, : int(count.max())]
            listed = listed.where(torch.arange(listed.shape[1]) < count, n)
            found = _of_candidates(
                self.queries[rows], self.points, listed, k, self.rank, self.memory
            )
            distances[rows], indices[rows] = found
        t = self.threshold - self.kappa * torch.maximum(self.threshold.abs(), self.highest.abs())
        beyond = (1 - self.kappa) * self.q_norms.square() + 2 * t
        certain = _certainly_below(distances[:, -1] / self.unit, beyond, dim, torch.float32)
        return distances, indices, certain

    def _round(self, x: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """Norms of centred rows, and of what they lose on being written to `out`."""
        x, squared = _centred(x, self.centre, self.unit)
        rounded = out[: len(x), : x.shape[1]].copy_(x)
        return squared.sqrt(), torch.linalg.vector_norm(x.sub_(rounded), dim=1)

    def _products(self, step: int) -> Iterator[tuple[slice, slice, Tensor]]:
        """Equation (5) for all queries and every step-th point, a tile at a time."""
        (m, dim), right = self.queries.shape, self.right
        points = self.points[::step]
        for columns in _slices(len(points), self.width):
            norms, errors = self._round(points[columns], right)
            give_back(points[columns])
            self.p_norms[::step][columns], self.p_errors[::step][columns] = norms, errors
            size = len(norms)
            right[:size, :dim].neg_()
            right[:size, dim] = -errors * (1 + 2 * self.eps)
            right[:size, dim + 1] = -norms * (1 + 2 * self.eps)
            squared = (1 - self.kappa) * (1 - self.eps**2 / 2) * norms.square()
            right[:size, dim + 2 : dim + 4] = _in_two(squared / 2, right.dtype)
            right[:size, dim + 4 :] = 1
            unused = torch.arange(size, self.width)
            if self.rank is not None:
                left_out = (self.rank[::step][columns] < 0).nonzero()[:, 0]
                unused = torch.cat([left_out, unused])
            right[unused] = 0
            right[unused, dim + 2] = _FAR
            for rows in _slices(m, self.height):
                yield columns, rows, product(self.left[rows], right)

    def _sampled_threshold(self) -> Tensor:
        """What a few times k points stay below, by a sample; any other value would do as well."""
        n, k = len(self.points), self.k
        step = max(1, min(16, n // (8 * k)))
        count = 4 * k // step + 2
        strand = 16 if n // step >= 128 * count else 2
        minima = [[] for _ in _slices(len(self.queries), self.height)]
        for _, rows, values in self._products(step):
            strands = values.view(len(values), strand, -1).amin(1)
            minima[rows.start // self.height].append(strands)
        low = [torch.cat(x, 1).topk(count, largest=False).values[:, -1] for x in minima]
        norms, errors = self.p_norms[::step].median(), self.p_errors[::step].median()
        slack = self._slack(self.q_norms, self.q_errors, norms, errors)
        return torch.cat(low).double() + self.eps * torch.cat(low).abs() + slack

    def _slack(self, q_norms: Tensor, q_errors: Tensor, norms: Tensor, errors: Tensor) -> Tensor:
        """By how much the bound (5) of a pair may fall short, and (3) of that."""
        rounding = self.kappa * (q_norms.square() + norms.square())
        return _LEEWAY * (q_norms * errors + q_errors * norms) + rounding

    def _lower(self, rows: Tensor, threshold: Tensor) -> None:
        """Lower the thresholds that are above these, to slightly less."""
        lower = threshold < self.threshold[rows]
        rows, threshold = rows[lower], threshold[lower]
        two = _in_two(threshold - self.eps**2 / 2 * threshold.abs(), self.left.dtype)
        self.threshold[rows] = two.double().sum(1)
        self.left[rows, -2:] = -two

    def _list(self, start: int, rows: slice, values: Tensor) -> None:
        """List the pairs of a tile that are negative; give up on queries that have too many."""
        whole = torch.int16 if values.itemsize == 2 else torch.int32
        strands = values.view(whole).view(len(values), 8, -1)
        row, strand = (strands.amin(1) < 0).nonzero().unbind(1)
        hit, lane = (strands[row, :, strand] < 0).nonzero().unbind(1)
        row, column = row[hit], lane * strands.shape[2] + strand[hit]
        added = torch.bincount(row, minlength=len(values))
        slot = torch.arange(len(row)) + (self.count[rows] + added - added.cumsum(0))[row]
        self.count[rows] += added
        fits = slot < _slots(self.k)
        row, column, slot = row[fits], column[fits], slot[fits]
        value = values[row, column].double()
        row += rows.start
        self.bounds[row, slot] = self.threshold[row] + value * (1 + self.eps)
        self.columns[row, slot] = column + start
        count = self.count[rows]
        lost = (count > _slots(self.k)).nonzero()[:, 0] + rows.start
        self.count[lost] = 0
        self._lower(lost, torch.full((len(lost),), -_FAR, dtype=torch.float64))
        full = (self.count[rows] > _slots(self.k) // 2).nonzero()[:, 0] + rows.start
        if len(full):
            self._tighten(full)

    def _tighten(self, rows: Tensor) -> None:
        """Lower the thresholds to what the k-th of the points listed allows; drop the others."""
        bounds, columns, k = self.bounds[rows], self.columns[rows], self.k
        listed = torch.arange(bounds.shape[1]) < self.count[rows, None]
        columns = columns.where(listed, 0)
        bounds = bounds.where(listed, math.inf)
        q, p = (self.q_norms, self.q_errors), (self.p_norms, self.p_errors)
        slack = self._slack(*(x[rows, None] for x in q), *(x[columns] for x in p))
        likely = (bounds + slack).topk(k, largest=False).values[:, -1]
        kept, order = bounds.topk(bounds.shape[1] // 2, largest=False)
        self._lower(rows, torch.minimum(likely, kept[:, -1]))
        self.bounds[rows, : kept.shape[1]] = kept
        self.columns[rows, : kept.shape[1]] = columns.gather(1, order)
        self.count[rows] = (kept < self.threshold[rows, None]).sum(1)


def _in_two(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Two numbers each whose sum is x, up to a quarter of the square of the precision of it."""
    high = x.to(dtype)
    return torch.stack([high, (x - high).to(dtype)], 1)


def _by_product(
    queries: Tensor,
    points: Tensor,
    k: int,
    rank: Tensor | None,
    n_candidates: int,
    dtype: torch.dtype,
    unit: float,
    memory: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Distances, indices, and for which queries (3) proves them right."""
    (m, dim), n = queries.shape, len(points)
    x = (dim + 20) * torch.finfo(dtype).eps / 2
    shrink = 1 - 4 * x / (1 - x)
    centre = _centre(points)
    side = memory // (32 * dim)
    width = max(1, min(n, 4096, side * 3 // 4))
    height = max(1, min(m, side // 4, memory // (64 * width)))
    bounds = queries.new_full((m, n_candidates), math.inf, dtype=dtype)
    candidates = queries.new_zeros(m, n_candidates, dtype=torch.int64)
    norms = queries.new_empty(m, dtype=torch.float64)
    for start in range(0, n, width):
        p, squared = _centred(points[start : start + width], centre, unit)
        p, squared = p.to(dtype), (shrink * squared).to(dtype)
        give_back(points[start : start + width])
        if rank is not None:
            squared[rank[start : start + width] < 0] = math.inf
        for first in range(0, m, height):
            rows = slice(first, first + height)
            q, norms[rows] = _centred(queries[rows], centre, unit)
            values, columns = _smallest(product(q.to(dtype) * -2, p, squared), n_candidates)
            bounds[rows], order = _smallest(torch.cat([bounds[rows], values], 1), n_candidates)
            columns = torch.cat([candidates[rows], columns + start], 1)
            candidates[rows] = columns.gather(1, order)
    distances, indices = _of_candidates(queries, points, candidates, k, rank, memory)
    beyond = shrink * norms + bounds[:, -1]
    return distances, indices, _certainly_below(distances[:, -1] / unit, beyond, dim, dtype)


def _centre(points: Tensor) -> Tensor:
    """Near the mean: any point is right, and a near one makes the bounds (3) tight."""
    some = torch.arange(0, len(points), 1 + len(points) // 1024, device=points.device)
    return taken(points, some).double().mean(0)


def _centred(x: Tensor, centre: Tensor, unit: float) -> tuple[Tensor, Tensor]:
    """Rows in float64 around the centre, at most of order one, and their squared norms."""
    x = x.to(torch.float64, copy=True).sub_(centre).mul_(1 / unit)
    return x, torch.linalg.vector_norm(x, dim=1).square_()


def _smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` smallest of each row, ascending, and their columns.

    Long rows are first reduced to the minima of strands of columns: the strands with the
    smallest minima hold the smallest values.
    """
    n_rows, n = values.shape
    n_strands = n // (64 * count)
    if n_strands < 2:
        return values.topk(min(count, n), largest=False)
    length = n // n_strands
    used = n_strands * length
    minima = values[:, :used].unflatten(1, (n_strands, length)).amin(1)
    chosen = minima.topk(count, largest=False, sorted=False).indices
    starts = torch.arange(0, used, length, device=values.device)
    rest = torch.arange(used, n, device=values.device).expand(n_rows, -1)
    columns = torch.cat([(chosen[:, None] + starts[:, None]).flatten(1), rest], 1)
    smallest, order = values.gather(1, columns).topk(count, largest=False)
    return smallest, columns.gather(1, order)


def _of_candidates(
    queries: Tensor,
    points: Tensor,
    candidates: Tensor,
    k: int,
    rank: Tensor | None,
    memory: int,
) -> tuple[Tensor, Tensor]:
    """The k nearest of each query's own candidates, by (1); ties by lower rank or index.

    A candidate whose index is the number of points is none.
    """
    candidates, n = candidates.sort(1).values, len(points)
    if rank is not None:
        order = rank[candidates.clamp(max=n - 1)].argsort(dim=1, stable=True)
        candidates = candidates.gather(1, order)
    step = max(1, memory // (24 * candidates.shape[1] * points.shape[1]))
    pairs = zip(queries.split(step), candidates.split(step), strict=True)
    distances = torch.cat(
        [_direct(q[:, None], _of_each(points, c.clamp(max=n - 1)))[:, 0] for q, c in pairs]
    ).masked_fill(candidates == n, math.inf)
    distances, order = distances.sort(dim=1, stable=True)
    return distances[:, :k], candidates.gather(1, order[:, :k])


def _of_each(points: Tensor, candidates: Tensor) -> Tensor:
    return taken(points, candidates.flatten()).view(*candidates.shape, -1)


def _all_pairs(
    queries: Tensor, points: Tensor, k: int, rank: Tensor | None, memory: int
) -> tuple[Tensor, Tensor]:
    """The k nearest of all points, by (1); ties by lower rank or index."""
    (m, dim), n = queries.shape, len(points)
    width = max(1, min(n, memory // (128 * m), memory // (32 * dim)))
    distances = queries.new_empty(m, 0, dtype=torch.float64)
    indices = queries.new_empty(m, 0, dtype=torch.int64)
    for start in range(0, n, width):
        more = _direct(queries, points[start : start + width])
        give_back(points[start : start + width])
        columns = torch.arange(start, start + more.shape[1], device=queries.device)
        distances = torch.cat([distances, more], 1)
        indices = torch.cat([indices, columns.expand(m, -1)], 1)
        if rank is not None:
            order = rank[indices].argsort(dim=1, stable=True)
            indices = indices.gather(1, order)
            distances = distances.gather(1, order).masked_fill(rank[indices] < 0, math.inf)
        distances, order = distances.sort(dim=1, stable=True)
        distances, indices = distances[:, :k], indices.gather(1, order[:, :k])
    return distances, indices


def _direct(queries: Tensor, points: Tensor) -> Tensor:
    """Equation (1); the same pair gives the same bits in any batch."""
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(queries.double(), points.double(), compute_mode=mode)


def _certainly_below(
    distances: Tensor, squared_bounds: Tensor, dim: int, dtype: torch.dtype
) -> Tensor:
    """Whether no pair beyond the bound can come out of (1) as near as these distances.

    The margins are the rounding of (1) and what underflow can take from a product.
    """
    rounding = 1 + 4 * (dim + 8) * torch.finfo(torch.float64).eps
    underflow = 64 * dim * torch.finfo(dtype).tiny
    return distances.square() * rounding + underflow < squared_bounds
