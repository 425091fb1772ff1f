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

What was done to a point p to make it the sample q is read off in the view that attains (1): there
q = g p + b + r, gain g and offset b by least squares. A noisy or compressed copy leaves an r that
is rough, one that is blurred, moved by part of a pixel or redeveloped an r that a filter and the
square of p explain. The sample is *possibly a mixture* with another image where r looks like one:

    (5)  0 < g < 0.95,    |r| > 1/4 |q - mean q|,    pixels of r that touch correlate by more
         than 1/4, and the best sum of a filter of p of 3 x 3 pixels and of p² leaves more than
         half of |r|²

g being the same for all channels, and r what is left if it is not, and not in one place; or where
another image p' is known that explains it,

    (6)  q = g p + h p' + b + r',    g, h > 0,    |r'|² < |r|² / 10 .
"""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad, unfold

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

    @property
    def crop(self) -> Window | None:
        """The window of the point, where that alone is enlarged."""
        return self.other if self.mine[2:] != self.other[2:] else None

    @property
    def shift(self) -> tuple[int, int]:
        """Pixels down and right by which the point was moved."""
        if self.crop:
            return 0, 0
        return self.mine.top - self.other.top, self.mine.left - self.other.left


@dataclass(frozen=True, kw_only=True)
class Change:
    """What was done to a point, in this order, to make it the sample.

    Attributes:
        crop: the part of the point that was enlarged; None where none was.
        shift: pixels down and right.
        flip: in words, one of `FLIPS`.
        grey: whether a point in colour was made grey.
        gains, offsets: of the pixels, one or one a channel, where they explain something; of a
            mixture the gain alone.
        remaining: difference that is left, root mean square, in units of the contrast of the
            sample; 0 where the two agree.
        place: share of the image that holds what is left, where it is in one place.
        mixture: whether what is left looks like another image, by (5) or (6).
        partner: the row of that image, and `share` its weight, by (6).
    """

    crop: Window | None = None
    shift: tuple[int, int] = (0, 0)
    flip: str = ""
    grey: bool = False
    gains: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    remaining: float = 0.0
    place: float | None = None
    mixture: bool = False
    partner: int | None = None
    share: float | None = None

    @property
    def sentence(self) -> str:
        """All of it in words."""
        return ", ".join(self._words()) or "as it is"

    def _words(self) -> Iterator[str]:
        if self.crop:
            top, left, height, width = self.crop
            yield f"cropped to {height} x {width} pixels from row {top}, column {left}"
        moves = zip(self.shift, (("down", "up"), ("right", "left")), strict=True)
        parts = [f"{abs(by)} {way[by < 0]}" for by, way in moves if by]
        if parts:
            yield f"shifted {' and '.join(parts)}"
        if self.flip:
            yield self.flip
        if self.grey:
            yield "made grey"
        if self.mixture:
            yield "possibly a mixture with another image"
        if self.share is not None:
            other = f"{self.share:.2f} of training row {self.partner}"
            yield f"{self.gains[0]:.2f} of this one and {other}"
        elif self.gains:
            several = len(self.gains) > 1
            yield f"gain{'s by channel' * several} {_listed(self.gains, '.2f')}"
        if self.offsets:
            yield f"offset{'s' * (len(self.offsets) > 1)} {_listed(self.offsets, '.2g')}"
        if self.place is not None:
            yield f"altered in one place, {self.place:.0%} of the image"
        elif self.remaining >= VISIBLE:
            yield f"differing by {self.remaining:.0%} of the contrast"


def _listed(values: Sequence[float], digits: str) -> str:
    """Numbers side by side, and never -0."""
    return ", ".join(f"{float(f'{v:{digits}}') + 0.0:{digits}}" for v in values)


MIXED = 0.95
"""Gain above which a sample is the point alone."""

VISIBLE = 0.01
"""Part of the contrast below which a difference is not told."""


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

    def changes(
        self, samples: Tensor, points: Tensor, others: Tensor | None = None
    ) -> list[Change]:
        """What was done to each point to make it the sample beside it.

        The view in which they come nearest, the first of equals, the gain and offset of the
        windows in it, and what is left of their difference.

        Args:
            samples, points: images as rows, shape (n, d) each.
            others: images as rows, with which the points may have been mixed.
        """
        every, reach = list(self), self._reach(samples, points)
        best = (reach <= reach.amin(0)).to(torch.uint8).argmax(0)
        views = [every[k] for k in best.tolist()]
        pairs = [
            (
                v.mine.of(self.images(q[None]).flip(v.flip))[0],
                v.other.of(self.images(p[None]))[0],
            )
            for q, p, v in zip(samples, points, views, strict=True)
        ]
        found = [_change(v, x, y) for v, (x, y) in zip(views, pairs, strict=True)]
        if others is None:
            return found
        mixed = [k for k, pair in enumerate(pairs) if _may_be_mixed(*pair)]
        mixed.sort(key=lambda k: views[k].other)
        for window, group in groupby(mixed, lambda k: views[k].other):
            chosen = list(group)
            x, y = (torch.stack(z) for z in zip(*(pairs[k] for k in chosen), strict=True))
            said = _mixtures(x, y, self._through(window, others))
            for k, change in zip(chosen, said, strict=True):
                found[k] = replace(found[k], **change)
        return found

    def _through(self, window: Window, rows: Tensor) -> Iterator[Tensor]:
        """The window of many images, some at a time."""
        for part in rows.split(max(1, _MEMORY // (8 * rows.shape[1]))):
            yield window.of(self.images(part))

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


def _change(view: View, x: Tensor, y: Tensor) -> Change:
    """What makes the window x of a sample of the window y of a point, (channels, height, width).

    A gain and an offset, or one of each a channel, are told where they halve what is left of the
    squared difference, and of a mixture in any case.
    """
    grey = len(x) == 3 and bool((x == x[:1]).all()) and not bool((y == y[:1]).all())
    if grey:
        y = torch.einsum("c,chw->hw", y.new_tensor(_LUMINANCE), y).expand_as(x)
    nothing = 1e-6 * _contrast(y)
    each = _fit(x, y, len(x))
    best = _Fit(gains=(), offsets=(), rest=x - y)
    for fit in (_fit(x, y, 1), each):
        if best.left > nothing and fit.left <= best.left / 2:
            best = fit
    contrast = _contrast(x)
    seen = contrast > 0 and best.left > max(nothing, VISIBLE**2 * contrast)
    place = _one_place(best.rest.square().sum(0)) if seen else None
    mixture = seen and place is None and _is_mixture(x, y, each.rest)
    if mixture:
        gain, rest = _shared_gain(x, y)
        best = _Fit(gains=(gain,), offsets=(), rest=rest)
    return Change(
        crop=view.crop,
        shift=view.shift,
        flip=FLIPS[view.flip],
        grey=grey,
        gains=best.gains,
        offsets=best.offsets,
        remaining=math.sqrt(best.left / contrast) if contrast > 0 and best.left > nothing else 0.0,
        place=place,
        mixture=mixture,
    )


def _contrast(image: Tensor) -> float:
    """The squared difference from the mean; 0 of one level, whatever rounding makes of it."""
    return float((image - image.mean()).square().sum()) if image.max() > image.min() else 0.0


def _centred(images: Tensor) -> Tensor:
    """Without the mean of each channel."""
    return images - images.mean((-2, -1), keepdim=True)


def _shared_gain(x: Tensor, y: Tensor) -> tuple[float, Tensor]:
    """g and r of (5): one gain, and an offset a channel; 0 where y is flat."""
    x, y = _centred(x), _centred(y)
    size = float(y.square().sum())
    gain = float((x * y).sum()) / size if size > 1e-20 * float(x.square().sum()) else 0.0
    return gain, x - gain * y


def _may_be_mixed(x: Tensor, y: Tensor) -> bool:
    """Whether there is something left for another image to explain."""
    gain, rest = _shared_gain(x, y)
    return gain > 0 and float(rest.square().sum()) > VISIBLE**2 * _contrast(x)


def _mixtures(x: Tensor, y: Tensor, blocks: Iterable[Tensor]) -> Iterator[dict[str, Any]]:
    """What (6) says of each sample x and point y; nothing where it does not hold.

    Args:
        blocks: all images that y may have been mixed with, some at a time.
    """
    contrast = [_contrast(image) for image in x]
    x, y = (_centred(z).flatten(1) for z in (x, y))
    size = y.square().sum(1)
    gain = (x * y).sum(1) / size
    rest = x - gain[:, None] * y
    each, start = torch.arange(len(x)), 0
    best = torch.zeros(4, len(x), dtype=torch.float64)
    for block in blocks:
        z = _centred(block).flatten(1)
        common, along = z @ rest.T, z @ y.T
        own = z.square().sum(1, keepdim=True)
        across = own - along.square() / size  # of z what it does not have in common with y
        explained = torch.where(
            (common > 0) & (across > 1e-6 * own), common.square() / across, 0.0
        )
        most, row = explained.max(0)
        share = common[row, each] / across[row, each]
        g = gain - share * along[row, each] / size
        best = torch.where(
            most > best[0], torch.stack([most, start + row.double(), share, g]), best
        )
        start += len(z)
    for c, whole, (explained, row, share, g) in zip(
        contrast, rest.square().sum(1).tolist(), best.T.tolist(), strict=True
    ):
        holds = g > 0 and explained >= 0.9 * whole
        yield (
            {
                "mixture": True,
                "partner": int(row),
                "share": share,
                "gains": (g,),
                "offsets": (),
                "remaining": math.sqrt(max(0.0, whole - explained) / c),
                "place": None,
            }
            if holds
            else {}
        )


class _Fit(NamedTuple):
    """Gains and offsets, and what is left of the sample."""

    gains: tuple[float, ...]
    offsets: tuple[float, ...]
    rest: Tensor

    @property
    def left(self) -> float:
        return float(self.rest.square().sum())


def _fit(x: Tensor, y: Tensor, parts: int) -> _Fit:
    """One gain and offset from y to x, or as many as there are channels."""
    one, other = x.reshape(parts, -1), y.reshape(parts, -1)
    gain, offset = _gain(one, other)
    rest = (one - gain * other - offset).reshape(x.shape)
    size = 1e-9 * float(y.abs().max())  # what is rounding beside it is 0
    offsets = (offset / size).round() * size + 0.0 if size > 0 else offset
    return _Fit(tuple(gain.flatten().tolist()), tuple(offsets.flatten().tolist()), rest)


def _is_mixture(x: Tensor, y: Tensor, rest: Tensor) -> bool:
    """Whether (5) holds, `rest` being what gains and offsets of the channels leave."""
    left = float(rest.square().sum())
    if not 0 < _shared_gain(x, y)[0] < MIXED or left < _contrast(x) / 16:
        return False
    pairs = (rest[:, 1:] * rest[:, :-1]).mean() + (rest[..., 1:] * rest[..., :-1]).mean()
    return float(pairs / 2) > float(rest.square().mean()) / 4 and _unexplained(x, y) > left / 2


def _unexplained(x: Tensor, y: Tensor) -> float:
    """What the best filter of 3 x 3 pixels, with the square of y and an offset, leaves of x."""
    y = y / 2.0 ** math.frexp(float(y.abs().max()))[1]  # y and its square are of one size
    around = unfold(pad(y[:, None], (1, 1, 1, 1), mode="replicate"), 3).transpose(1, 2)
    bent = y.flatten(1)[..., None] ** torch.tensor([0, 2])
    terms, values = torch.cat([around, bent], 2), x.flatten(1)[..., None]
    # pseudo-inverse: the neighbours of a flat point are all the same
    return float((values - terms @ (torch.linalg.pinv(terms) @ values)).square().sum())


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
