"""A model of your own, in a sweep: a Gaussian fitted to the training set.

    genonset sweep own_model.toml        (in this folder)

A model is a function of the training points that returns a sampler.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def fit(training: Tensor, *, generator: torch.Generator) -> Callable[..., Tensor]:
    """Fit mean and covariance; `generator` would give the randomness of a training run."""
    mean = training.mean(0)
    factor = (training - mean).T / (len(training) - 1) ** 0.5

    def sample(n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, len(training), dtype=training.dtype, generator=generator)
        return mean + z @ factor.T

    return sample
