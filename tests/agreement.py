"""How far a measurement lies from its prediction; printed with `-s`, for docs/theory.md."""

import numpy as np


def mean_agrees(label, predicted, sample, *, sigmas=4.0, bias=0.0):
    """The mean over runs equals the prediction within `sigmas` standard errors plus `bias`.

    With four standard errors an exact prediction fails once in 16,000 seeds.
    """
    sample, predicted = np.asarray(sample, dtype=np.float64), float(predicted)
    error = sample.std(ddof=1) / len(sample) ** 0.5
    _agrees(label, predicted, sample.mean(), error, sigmas, bias)


def median_agrees(label, predicted, sample, *, bias):
    """The median over runs equals the prediction within four standard errors plus `bias`."""
    sample = np.asarray(sample, dtype=np.float64)
    low, high = np.quantile(sample, [0.16, 0.84])
    error = 1.2533 * (high - low) / 2 / len(sample) ** 0.5
    _agrees(label, float(predicted), np.median(sample), error, 4.0, bias)


def _agrees(label, predicted, measured, error, sigmas, bias):
    z = (measured - predicted) / error
    print(f"\n| {label} | {measured:.5g} ± {error:.2g} | {predicted:.5g} | {z:+.1f} |", end="")
    allowed = sigmas * error + bias
    assert abs(measured - predicted) <= allowed, (
        f"{label}: measured {measured:.6g} ± {error:.2g}, predicted {predicted:.6g}"
    )
