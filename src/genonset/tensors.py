"""Shapes of the tensors that cross room borders, and the check that they are finite."""

import torch
from jaxtyping import Float
from torch import Tensor

from genonset.errors import DataError

Samples = Float[Tensor, "_ *shape"]
"""n data points, each of the source's shape."""

Vectors = Float[Tensor, "_ d"]
"""n data points flattened to d coordinates."""

Times = Float[Tensor, "*times"]
"""Diffusion times; 0 is clean."""

Scalar = Float[Tensor, ""]


def require_finite(name: str, values: Tensor) -> Tensor:
    """Return `values` unchanged, or say how many of them are NaN or infinite.

    Raises:
        DataError: if any value is not finite.
    """
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        where = f", the first in row {int((~finite).nonzero()[0, 0])}" if values.ndim else ""
        raise DataError(
            f"{name}: {bad} of {values.numel()} values are NaN or infinite{where}. "
            "Only finite numbers are accepted; remove or repair these rows."
        )
    return values


def flatten(samples: Tensor) -> Vectors:
    """Data points of any shape as rows of float64 coordinates."""
    return samples.reshape(len(samples), -1).to(torch.float64)
