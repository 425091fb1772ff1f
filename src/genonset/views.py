"""The views of an image through which a changed copy is recognized.

A copy may have been flipped, shifted, or cropped and enlarged. A view v flips the sample q and
puts a window of it beside a window of the point p; both windows are enlarged to the full frame, so
that whatever compares images can compare them. With f the coordinates of `genonset.features`,

    (1)  D(q, p) = min over v of |f(a_v q) - f(b_v p)|

where, for images of height H and width W, s = min(H, W), every one of four flips (none,
left-right, upside down, both) goes with each of

    (2)  shifts    the overlap of q and p moved by up to s/16, at least 1 pixel, on a grid of
                   max(1, s/32) pixels: no pixel that left the frame is compared
    (3)  crops     q whole, p cut by k/16 of its sides, k = 1 to 4, at least 1 pixel, at the
                   positions of a grid of s/16 pixels and in the middle

Where f takes out gain and offset and the fine half of the image (`lowpass`), D is blind to
brightness, contrast, compression and mild noise as well.

A part of an image without contrast is a view of any image: a white corner would make every image
with a white corner a copy of every other. With *flat* as in (9) of `genonset.features`, a view in
which one of the windows is flat, and the image it is taken from is not, matches nothing. What is
flat as a whole is compared as it is.

*No label is looked at*: the set of views is fixed by the shape of the images, and D by the sample
and the point alone. Whatever is computed from D between samples and pooled points (the nearest
point, the near-duplicate scale, the gap ratio, with D in place of the distance throughout) is
therefore the same for every choice of training points among the pool, and the p-values of an audit
stay exact. The price of a minimum is power, never level: of many views some bring unlike images
nearer, which the scale and the gap ratio notice, since the same minimum is in them.

The k nearest points by (1) are among the k nearest in some view: if k others were nearer in the
view that attains the minimum, they would be nearer by (1) too. One exact search a view is enough.

Flipping, cutting and enlarging act on rows and on columns of an image x alone, and so do the
cosines C of `lowpass`: with R_v and S_v the matrices of a view,

    (4)  C (R_v x S_v^T) C^T = (C R_v) x (C S_v)^T

and no enlarged image is made. The product from the right is the longer one, and views with the
same columns have it in common.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from genonset import neighbors
from genonset.features import Grain, Lowpass, Map, as_images

FLIPS: dict[tuple[int, ...], str] = {
    (): "",
    (-1,): "flipped left-right",
    (-2,): "flipped upside down",
    (-2, -1): "turned by 180 degrees",
}

_ROUNDING = 1e-12
_MEMORY = 1 << 27  # bytes of images, or of coordinates of queries, at a time


class Window(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, images: Tensor) -> Tensor:
        """This part of the images."""
        rows = slice(self.top, self.top + self.height)
        return images[..., rows, self.left : self.left + self.width]

    def of(self, images: Tensor) -> Tensor:
        """This part of the images, enlarged to the full frame by linear interpolation."""
        size = tuple(images.shape[-2:])
        if size == (self.height, self.width):
            return images
        return interpolate(self.cut(images), size, mode="bilinear")

    def matrices(self, size: tuple[int, int], flip: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Rows R and columns C such that this part of the flipped image x is R x C^T."""
        ends = (self.top, self.height, size[0], -2), (self.left, self.width, size[1], -1)
        rows, columns = (_enlarging(*end[:3]).flip([1] if end[3] in flip else []) for end in ends)
        return rows, columns


@functools.cache
def _enlarging(start: int, length: int, size: int) -> Tensor:
    """The matrix that enlarges entries start to start + length - 1 of `size` ones to all."""
    found = torch.zeros(size, size, dtype=torch.float64)
    part = torch.eye(length, dtype=torch.float64)[None]
    found[:, start : start + length] = interpolate(part, size, mode="linear")[0].T
    return found


class View(NamedTuple):
    """A flip of the sample, a window of the flipped sample, and one of the point."""

    flip: tuple[int, ...]
    mine: Window
    other: Window

    def __str__(self) -> str:
        """What was done to the point, in this order, to make it the sample."""
        words = []
        if self.mine[2:] != self.other[2:]:
            words.append(
                f"cropped to {self.other.height} x {self.other.width} pixels from row "
                f"{self.other.top}, column {self.other.left}"
            )
        down, right = self.mine.top - self.other.top, self.mine.left - self.other.left
        if self.mine[2:] == self.other[2:] and (down or right):
            moves = ((down, "down", "up"), (right, "right", "left"))
            parts = [f"{abs(by)} {plus if by > 0 else minus}" for by, plus, minus in moves if by]
            words.append(f"shifted {' and '.join(parts)}")
        return ", ".join([*words, *filter(None, [FLIPS[self.flip]])])


def windows(height: int, width: int) -> list[tuple[Window, Window]]:
    """Pairs of windows of sample and point: none cut, the shifts (2), the crops (3)."""
    whole, side = Window(0, 0, height, width), min(height, width)
    step = max(1, side // 32)
    radius = max(1, side // 16)
    moves = range(-(radius // step) * step, radius + 1, step)
    found = [(whole, whole)]
    for down in moves:
        for right in moves:
            if (down or right) and min(height - abs(down), width - abs(right)) > 1:
                size = height - abs(down), width - abs(right)
                mine = Window(max(0, down), max(0, right), *size)
                found.append((mine, Window(max(0, -down), max(0, -right), *size)))
    for k in range(1, 5):
        cuts = [max(1, math.floor(k * n / 16 + 0.5)) for n in (height, width)]
        size = height - cuts[0], width - cuts[1]
        if min(size) > 1:
            tops, lefts = ({cut * j // k for j in range(k + 1)} | {cut // 2} for cut in cuts)
            found += [(whole, Window(t, x, *size)) for t in sorted(tops) for x in sorted(lefts)]
    return list(dict.fromkeys(found))


@functools.cache
def _core(height: int, width: int) -> Window:
    """What every window of an image, flipped or not, has in common; if nothing, one pixel."""
    ends = [(w.top, height - w.top - w.height, w.left, width - w.left - w.width)
            for pair in windows(height, width) for w in pair]  # fmt: skip
    above, below, left, right = (max(end) for end in zip(*ends, strict=True))
    top, side = min(max(above, below), (height - 1) // 2), min(max(left, right), (width - 1) // 2)
    return Window(top, side, height - 2 * top, width - 2 * side)


@dataclass(frozen=True, kw_only=True)
class Views:
    """The distance (1) between images that are given as rows.

    Attributes:
        shape: of an image: (height, width), or with channels in front.
        onto: f, from images of that shape to coordinates.
        grain: what is flat.
    """

    shape: tuple[int, ...]
    onto: Map
    grain: Grain = field(default_factory=Grain)

    def __post_init__(self) -> None:
        as_images(torch.zeros(1, *self.shape), "a robust search")

    def __iter__(self) -> Iterator[View]:
        """All views; those with one window of the sample follow one another."""
        for mine, other in windows(*self.shape[-2:]):
            for flip in FLIPS:
                yield View(flip, mine, other)

    def nearest(
        self, queries: Tensor, points: Tensor, k: int, *, rank: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k nearest points by (1), as `genonset.neighbors.nearest` has them.

        Distances that float64 cannot tell from zero are zero.

        Args:
            queries, points: images as rows, shape (m, d) and (n, d).
            k: 1 to the number of points that are searched.
            rank: what ties go by; -1 for points that are left out.
        """
        rank = torch.arange(len(points)) if rank is None else rank
        dim = _Seen(self, points[:1])(Window(0, 0, *self.shape[-2:])).shape[1]
        step = max(1, _MEMORY // (8 * len(FLIPS) * dim))
        parts = [self._nearest(part, points, k, rank) for part in queries.split(step)]
        distances, places = (torch.cat(x) for x in zip(*parts, strict=True))
        row = torch.empty(int(rank.max()) + 1, dtype=torch.int64)
        row[rank[rank >= 0]] = (rank >= 0).nonzero()[:, 0]
        return distances, row[places]

    def _nearest(
        self, queries: Tensor, points: Tensor, k: int, rank: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Distances, and ranks in place of indices."""
        m, largest = len(queries), 0.0
        distances = torch.empty(m, 0, dtype=torch.float64)
        places = torch.empty(m, 0, dtype=torch.int64)
        samples, others = _Seen(self, queries), _Seen(self, points)
        pairs = sorted(windows(*self.shape[-2:]), key=_columns_first)
        for mine, together in groupby(pairs, lambda pair: pair[0]):
            flipped = torch.cat([samples(mine, flip) for flip in FLIPS])
            nothing = torch.cat([samples.void(mine, flip) for flip in FLIPS])
            for _, other in together:
                seen = others(other)
                largest = max(largest, float(seen.norm(dim=1).max()))
                void = others.void(other)
                found = _nearest_left(flipped, seen, k, torch.where(void, -1, rank))
                found[0][nothing] = math.inf
                more, where = (x.view(-1, m, k).transpose(0, 1).flatten(1) for x in found)
                distances, places = _distinct_nearest(
                    torch.cat([distances, more], 1), torch.cat([places, rank[where]], 1), k
                )
        return distances.masked_fill(distances < _ROUNDING * largest, 0.0), places

    def changes(self, samples: Tensor, points: Tensor) -> list[str]:
        """What was done to each point to make it the sample beside it, in words.

        The view in which they come nearest, the first of equals, the gain and offset of the
        windows in it, and what is left of their difference.

        Args:
            samples, points: images as rows, shape (n, d) each.
        """
        every, reach = list(self), self._reach(samples, points)
        best = (reach <= reach.amin(0)).to(torch.uint8).argmax(0)
        words = []
        for q, p, v in zip(samples, points, (every[k] for k in best.tolist()), strict=True):
            x, y = (
                v.mine.of(self.images(q[None]).flip(v.flip))[0],
                v.other.of(self.images(p[None]))[0],
            )
            done = [part for part in (str(v), *_rest(x, y)) if part]
            words.append(", ".join(done) or "as it is")
        return words

    def _reach(self, samples: Tensor, points: Tensor) -> Tensor:
        """Distance of each sample to its point in every view, shape (views, n).

        Those that the least one, squared, does not differ from by rounding are it.
        """
        mine, other = _Seen(self, samples), _Seen(self, points)
        reach, largest = [], torch.zeros(len(samples), dtype=torch.float64)
        for view in self:
            one, two = mine(view.mine, view.flip), other(view.other)
            largest = largest.maximum(two.norm(dim=1))
            void = mine.void(view.mine, view.flip) | other.void(view.other)
            reach.append((one - two).norm(dim=1).masked_fill(void, math.inf))
        found = torch.stack(reach)
        least = found.amin(0)
        return torch.where(found <= least + math.sqrt(_ROUNDING) * largest, least, found)

    def images(self, rows: Tensor) -> Tensor:
        """Rows as images of double precision, shape (n, channels, height, width)."""
        return as_images(rows.reshape(len(rows), *self.shape), "a view")


class _Seen:
    """The coordinates of windows of flipped images, and which windows match nothing.

    Half of a cosine transform is remembered: windows often have their columns in common.
    """

    def __init__(self, views: Views, rows: Tensor) -> None:
        self.views, self.rows = views, rows
        self.halves: dict[tuple[int, int, bool], Tensor] = {}
        if isinstance(views.onto, Lowpass):
            self.rest = views.onto.rest(rows.reshape(-1, *views.shape))
        core = _core(*views.shape[-2:])
        flat, inner = ([self._flat(x, window) for x in self._parts()] for window in (None, core))
        self.bare = (torch.cat(inner) & ~torch.cat(flat)).nonzero()[:, 0]

    def _parts(self, flip: tuple[int, ...] = ()) -> Iterator[Tensor]:
        """The images, flipped, some at a time."""
        step = max(1, _MEMORY // (32 * self.rows.shape[1]))
        return (self.views.images(part).flip(flip) for part in self.rows.split(step))

    def _flat(self, images: Tensor, window: Window | None) -> Tensor:
        return self.views.grain.flat(images if window is None else window.cut(images))

    def __call__(self, window: Window, flip: tuple[int, ...] = ()) -> Tensor:
        onto, shape = self.views.onto, self.views.shape
        if isinstance(onto, Lowpass):
            rows, columns = window.matrices((shape[-2], shape[-1]), flip)
            half = self._half(onto, columns, (window.left, window.width, -1 in flip))
            return onto.whole(half, self.rest, rows)
        return torch.cat([onto(window.of(x).reshape(-1, *shape)) for x in self._parts(flip)])

    def void(self, window: Window, flip: tuple[int, ...] = ()) -> Tensor:
        """Mask of the images, not flat themselves, of which this window is flat."""
        found = torch.zeros(len(self.rows), dtype=torch.bool)
        if len(self.bare):
            images = self.views.images(self.rows[self.bare]).flip(flip)
            found[self.bare] = self._flat(images, window)
        return found

    def _half(self, onto: Lowpass, columns: Tensor, key: tuple[int, int, bool]) -> Tensor:
        if key not in self.halves:
            if any(key[:2] != held[:2] for held in self.halves):
                self.halves.clear()
            self.halves[key] = onto.half(self.rows.reshape(-1, *self.views.shape), columns)
        return self.halves[key]


def _nearest_left(queries: Tensor, points: Tensor, k: int, rank: Tensor) -> tuple[Tensor, Tensor]:
    """The k nearest points of rank 0 or more, and infinity behind them where they are fewer."""
    there = min(k, int((rank >= 0).sum()))
    if not there:
        far = torch.full((len(queries), k), math.inf, dtype=torch.float64)
        return far, torch.zeros(len(queries), k, dtype=torch.int64)
    distances, where = neighbors.nearest(queries, points, there, rank=rank)
    return pad(distances, (0, k - there), value=math.inf), pad(where, (0, k - there))


def _columns_first(pair: tuple[Window, Window]) -> tuple[int, ...]:
    """An order in which windows with the same columns follow one another."""
    mine, other = pair
    return (mine.left, mine.width, other.left, other.width, mine.top, mine.height)


def _rest(x: Tensor, y: Tensor) -> Iterator[str]:
    """What makes the window x of a sample of the window y of a point, (channels, height, width).

    A gain and an offset, or one of each a channel, are told where they halve what is left of the
    squared difference; then where the rest is, or how large beside the contrast of the sample.
    """
    if len(x) == 3 and bool((x == x[:1]).all()) and not bool((y == y[:1]).all()):
        y = torch.einsum("c,chw->hw", y.new_tensor(_LUMINANCE), y).expand_as(x)
        yield "made grey"
    left, told, rest = float((x - y).square().sum()), "", x - y
    nothing = 1e-6 * float((y - y.mean()).square().sum())
    for parts, word in ((1, "gain"), (len(x), "gains by channel")):
        gain, offset = _gain(x.reshape(parts, -1), y.reshape(parts, -1))
        fit = (gain * y.reshape(parts, -1) + offset).reshape(x.shape)
        without = float((x - fit).square().sum())
        if left > nothing and without <= left / 2:
            left, rest = without, x - fit
            gains, offsets = _written(gain, 1.0, ".2f"), _written(offset, y.abs().max(), ".2g")
            told = f"{word} {gains}, offset{'s' * (parts > 1)} {offsets}"
    yield told
    contrast = float((x - x.mean()).square().sum()) if x.max() > x.min() else 0.0
    share = math.sqrt(left / contrast) if contrast > 0 and left > nothing else 0.0
    if share >= 0.01:
        place = _one_place(rest.square().sum(0))
        yield (
            f"altered in one place, {place:.0%} of the image"
            if place
            else (f"differing by {share:.0%} of the contrast")
        )


def _written(values: Tensor, size: Tensor | float, form: str) -> str:
    """Numbers in words; what is rounding beside a size is 0."""
    rounded = ((values / size * 1e9).round() / 1e9 * size + 0.0).flatten().tolist()
    return ", ".join(f"{value:{form}}" for value in rounded)


_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601


def _gain(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset of each row from y to x, by least squares; none where y is flat."""
    centred = y - y.mean(1, keepdim=True)
    spread = centred.square().sum(1, keepdim=True)
    varies = spread > 1e-20 * y.square().sum(1, keepdim=True)
    gain = torch.where(varies, (x * centred).sum(1, keepdim=True) / spread, 1.0)
    return gain, torch.where(varies, (x - gain * y).mean(1, keepdim=True), 0.0)


def _one_place(squares: Tensor) -> float | None:
    """Share of the frame that holds four fifths of these, if that is below two fifths."""
    high = squares > squares.max() / 16
    rows, columns = (high.any(axis).nonzero()[:, 0] for axis in (1, 0))
    box = squares[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    share = box.numel() / squares.numel()
    return share if share < 0.4 and float(box.sum()) > 0.8 * float(squares.sum()) else None


def _distinct_nearest(distances: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of each row, a point that occurs twice once; ties by lower index."""
    indices, order = indices.sort(dim=1, stable=True)
    distances = distances.gather(1, order)
    first = torch.ones_like(indices, dtype=torch.bool)
    first[:, 1:] = indices[:, 1:] != indices[:, :-1]
    group = first.cumsum(1) - 1
    least = torch.full_like(distances, math.inf).scatter_reduce_(1, group, distances, "amin")
    where = torch.zeros_like(indices).scatter_(1, group, indices)
    least, order = least.sort(dim=1, stable=True)
    return least[:, :k], where.gather(1, order)[:, :k]
