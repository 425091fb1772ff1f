"""P-values of the label tests are uniform or conservative when the generator ignores T.

Each case draws 1000 triples of training, held-out and generated sets. The p-values are discrete,
so that a share of rejections below the level is allowed, above it is not: the bound is the
binomial quantile that a test of exactly this level exceeds with probability 1e-4, at one level and
case. Where enough samples count for the test to nearly exhaust its level, the share is bounded
from below too: for train bias, and for copying where samples copy points of either set. Printed
with `-s`: shares of p <= 0.01, 0.05, 0.25, and mean and standard deviation of z.
"""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits

from genonset import seeds
from genonset.verdict import label_tests

N_TRIALS = 1000
LEVELS = (0.01, 0.05, 0.25)


def gaussian_triples(dim, n_training, n_held_out, variance):
    for trial in range(N_TRIALS):
        generator = seeds.generator(0, "calibration", dim, n_training, n_held_out, trial)
        sizes = n_training, n_held_out, 300
        training, held_out, generated = (
            torch.randn(n, dim, generator=generator, dtype=torch.float64) for n in sizes
        )
        yield variance**0.5 * generated, training, held_out


def digit_triples(n):
    images = torch.from_numpy(np.asarray(load_digits(return_X_y=True)[0], dtype=np.float64))
    for trial in range(N_TRIALS):
        order = torch.randperm(len(images), generator=seeds.generator(0, "digits", n, trial))
        yield images[order[2 * n : 2 * n + 300]], images[order[:n]], images[order[n : 2 * n]]


def copies_of_either(dim):
    """A tenth of the samples copies points of both sets, whichever they belong to."""
    for generated, training, held_out in gaussian_triples(dim, 60, 40, 1.0):
        both = torch.cat([training, held_out])
        generated[:30] = both[(generated[:30, 0].abs() * 1e9).long() % 100]
        yield generated, training, held_out


def p_values(triples):
    """p and z of train bias and of copying, shape (trials, 2) each."""
    tests = [label_tests(*triple) for triple in triples]
    return (
        np.array([[test.p_value for test in pair] for pair in tests]),
        np.array([[test.z for test in pair] for pair in tests]),
    )


CASES = {
    **{
        f"gaussian d={dim} variance={variance} n={n_training}+{n_held_out}": (
            gaussian_triples, (dim, n_training, n_held_out, variance)
        )
        for dim in (2, 16, 64)
        for variance in (1.0, 0.5)
        for n_training, n_held_out in ((100, 100), (20, 60))
    },
    "copies of either set d=16 n=60+40": (copies_of_either, (16,)),
    "digits n=50": (digit_triples, (50,)),
    "digits n=200": (digit_triples, (200,)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_p_values_hold_their_level(case):
    draw, arguments = CASES[case]
    p, z = p_values(draw(*arguments))
    for name, values, scores in zip(("train bias", "copying"), p.T, z.T, strict=True):
        shares = [float((values <= level + 1e-12).mean()) for level in LEVELS]
        print(f"{case:40s} {name:10s} {shares} z {scores.mean():+.3f} {scores.std():.3f}")
        for level, share in zip(LEVELS, shares, strict=True):
            assert share * N_TRIALS <= stats.binom.ppf(1 - 1e-4, N_TRIALS, level)
            if name == "train bias" or "copies" in case:
                assert share * N_TRIALS >= stats.binom.ppf(1e-4, N_TRIALS, 0.6 * level)
