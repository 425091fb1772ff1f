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

*No label is looked at*: the set of views is fixed by the shape of the images, and D by the sample
and the point alone. Whatever is computed from D between samples and pooled points (the nearest
point, the near-duplicate scale, the gap ratio, with D in place of the distance throughout) is
therefore the same for every choice of training points among the pool, and the p-values of an audit
stay exact. The price of a minimum is power, never level: of many views some bring unlike images
nearer, which the scale and the gap ratio notice, since the same minimum is in them.

The k nearest points by (1) are among the k nearest in some view: if k others were nearer in the
view that attains the minimum, they would be nearer by (1) too. One exact search a view is enough.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from genonset import neighbors
from genonset.features import Map, as_images

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

    def of(self, images: Tensor) -> Tensor:
        """This part of the images, enlarged to the full frame by linear interpolation."""
        size = tuple(images.shape[-2:])
        if size == (self.height, self.width):
            return images
        rows = slice(self.top, self.top + self.height)
        columns = slice(self.left, self.left + self.width)
        return interpolate(images[..., rows, columns], size, mode="bilinear")


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


@dataclass(frozen=True, kw_only=True)
class Views:
    """The distance (1) between images that are given as rows.

    Attributes:
        shape: of an image: (height, width), or with channels in front.
        onto: f, from images of that shape to coordinates.
    """

    shape: tuple[int, ...]
    onto: Map

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
        dim = self.onto(self._images(points[:1])).shape[1]
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
        for mine, pairs in groupby(windows(*self.shape[-2:]), lambda pair: pair[0]):
            flipped = torch.cat([self._seen(queries, mine, flip) for flip in FLIPS])
            for _, other in pairs:
                seen = self._seen(points, other)
                largest = max(largest, float(seen.norm(dim=1).max()))
                found = neighbors.nearest(flipped, seen, k, rank=rank)
                more, where = (x.view(-1, m, k).transpose(0, 1).flatten(1) for x in found)
                distances, places = _distinct_nearest(
                    torch.cat([distances, more], 1), torch.cat([places, rank[where]], 1), k
                )
        return distances.masked_fill(distances < _ROUNDING * largest, 0.0), places

    def changes(self, samples: Tensor, points: Tensor) -> list[str]:
        """What was done to each point to make it the sample beside it, in words.

        The view in which they come nearest, the first of equals, and the gain a and offset o of
        a p + o where they bring the windows to less than half the squared distance.

        Args:
            samples, points: images as rows, shape (n, d) each.
        """
        every = list(self)
        reach = torch.stack(
            [
                (self._seen(samples, v.mine, v.flip) - self._seen(points, v.other)).norm(dim=1)
                for v in every
            ]
        )
        best = (reach <= reach.amin(0) + math.sqrt(_ROUNDING)).to(torch.uint8).argmax(0)
        words = []
        for q, p, v in zip(samples, points, (every[k] for k in best.tolist()), strict=True):
            x = v.mine.of(as_images(self._images(q[None]), "a view").flip(v.flip)).flatten()
            y = v.other.of(as_images(self._images(p[None]), "a view")).flatten()
            done = [part for part in (str(v), _brightness(x, y)) if part]
            words.append(", ".join(done) or "as it is")
        return words

    def _images(self, rows: Tensor) -> Tensor:
        return rows.reshape(len(rows), *self.shape)

    def _seen(self, rows: Tensor, window: Window, flip: tuple[int, ...] = ()) -> Tensor:
        """Coordinates of a window of flipped images, a part of the images at a time."""
        step = max(1, _MEMORY // (32 * rows.shape[1]))
        parts = []
        for part in rows.split(step):
            images = as_images(self._images(part), "a view")
            parts.append(self.onto(window.of(images.flip(flip)).reshape(-1, *self.shape)))
        return torch.cat(parts)


def _brightness(x: Tensor, y: Tensor) -> str:
    """Gain and offset from y to x, if they explain half of the difference."""
    centred = y - y.mean()
    spread = float(centred.square().sum())
    if not spread > 0:
        return ""
    gain = float((x * centred).sum()) / spread
    offset = float(x.mean() - gain * y.mean())
    left, without = (float((x - r).square().sum()) for r in (gain * y + offset, y))
    if left > without / 2 or without < 1e-6 * spread:
        return ""
    return f"gain {gain:.2f}, offset {offset:.2g}"


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
