"""What a cell keeps to be looked at: generated images beside the training images they resemble.

With p_1, p_2, ... the distinct training points in order of their distance to a sample g,

    (1)  gap ratio = |g - p_1| / |g - p_2|

the ratio by which a sample counts as memorized (below 1/3 unless told otherwise). Of the samples
that have the same p_1 the one of smallest ratio stands for all, so that one training image is not
shown many times; of these, the few of smallest ratio are kept, smallest first, each with p_1, its
distance and its row in the data set. They are the worst of all samples, not a fair draw from them.

A picture has 256 levels between the ends a < b of the whole data set,

    (2)  level = round(255 (x - a) / (b - a)), cut off at 0 and 255

and images above 32 pixels a side are shrunk to that. Distances are of the samples themselves.
"""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from genonset.datasets import Dataset, Indices
from genonset.neighbors import distinct, nearest
from genonset.tensors import Vectors

SHOWN = 8
"""Samples kept of each generator."""

LARGEST = 32
"""Pixels of the longer side of a kept picture, at most."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A generated image and the training image nearest to it.

    Attributes:
        sample, training: levels (2) in order, base64; `Gallery.picture` makes them an array.
        row: of the training image in the data set, its first where it is repeated.
        distance: between the two, Euclidean.
        gap_ratio: equation (1).
    """

    sample: str
    training: str
    row: int
    distance: float
    gap_ratio: float


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The pairs of one cell.

    Attributes:
        shape: of a picture, (channels, height, width).
        strips: role -> its pairs, the smallest gap ratio first.
        n_samples: role -> the number of samples they were chosen from.
    """

    shape: tuple[int, ...]
    strips: Mapping[str, tuple[Pair, ...]]
    n_samples: Mapping[str, int]

    def picture(self, levels: str) -> np.ndarray:
        """Levels of a pair as an array: (height, width), or (height, width, 3) in colour."""
        flat = np.frombuffer(base64.b64decode(levels), np.uint8)
        image = flat.reshape(self.shape).transpose(1, 2, 0)
        return image if self.shape[0] == 3 else image[:, :, 0]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> "Gallery":
        """Back from JSON."""
        strips = {
            role: tuple(Pair(**pair) for pair in pairs) for role, pairs in held["strips"].items()
        }
        return cls(shape=tuple(held["shape"]), strips=strips, n_samples=held["n_samples"])


def hang(
    world: Dataset, training: Vectors, rows: Indices, samples: Mapping[str, Vectors]
) -> Gallery | None:
    """Choose from the samples of each role those nearest to training points, by (1).

    Args:
        world: a data set of images.
        training: the training points, in the coordinates of `world.points`.
        rows: their rows in it.
        samples: role -> what it generated, in the same coordinates.

    Returns:
        None where fewer than two training points are distinct.
    """
    kept, member = distinct(training)
    if len(kept) < 2:
        return None
    points = training[kept]
    first = rows.new_full((len(points),), len(world.points))
    first.scatter_reduce_(0, member, rows, "amin")
    strips = {}
    for role, drawn in samples.items():
        distances, near = nearest(drawn, points, 2)
        ratios = distances[:, 0] / distances[:, 1]
        order = torch.argsort(ratios, stable=True).tolist()
        of_each = {int(near[k, 0]): k for k in reversed(order)}  # the smallest ratio comes last
        worst = torch.tensor([k for k in order if of_each[int(near[k, 0])] == k][:SHOWN])
        pictures = zip(
            _levels(world, drawn[worst]), _levels(world, points[near[worst, 0]]), strict=True
        )
        strips[role] = tuple(
            Pair(
                sample=sample,
                training=image,
                row=int(first[near[k, 0]]),
                distance=float(distances[k, 0]),
                gap_ratio=float(ratios[k]),
            )
            for k, (sample, image) in zip(worst.tolist(), pictures, strict=True)
        )
    height, width = _size(world.shape)
    return Gallery(
        shape=(*(world.shape[:-2] or (1,)), height, width),
        strips=strips,
        n_samples={role: len(drawn) for role, drawn in samples.items()},
    )


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a picture of points of a shape."""
    height, width = shape[-2:]
    scale = min(1.0, LARGEST / max(height, width))
    return max(1, round(scale * height)), max(1, round(scale * width))


def _levels(world: Dataset, points: Vectors) -> list[str]:
    """Each point as levels (2) of its picture."""
    images = world.restore(points).reshape(len(points), -1, *world.shape[-2:])
    size = _size(world.shape)
    if size != images.shape[-2:]:
        images = F.interpolate(images, size, mode="area")
    whole = [world.points, *([] if world.constants is None else [world.constants])]
    low, high = min(float(w.min()) for w in whole), max(float(w.max()) for w in whole)
    levels = (255 * (images - low) / (high - low)).round().clamp(0, 255).to(torch.uint8)
    return [base64.b64encode(image.numpy().tobytes()).decode() for image in levels]
