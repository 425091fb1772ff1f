"""Criteria of a generator that is known by its samples alone, against numpy and SciPy; signs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, linalg, optimize, stats
from scipy.spatial.distance import cdist, pdist
from scipy.special import logsumexp

from genonset import seeds
from genonset.criteria import (
    CEILINGS,
    CRITERIA,
    NEED_SAMPLES,
    Generated,
    Reference,
    Scene,
    criterion_onset,
    evaluate,
)
from genonset.distances import KernelDelta, Smoothed, log_off_diagonal
from genonset.sources import Gaussian, GaussianMixture


def drawn(name, n, dim=3, std=1.0):
    draw = torch.randn(n, dim, generator=seeds.generator(11, name), dtype=torch.float64)
    return 0.3 + std * draw


WIDTHS = {"training": 0.5, "held_out": 0.5, "original": 0.35}
SETS = {"training": drawn("t", 12), "held_out": drawn("h", 12), "original": drawn("o", 40)}
SAMPLES = drawn("g", 20, std=0.8)
SAMPLES[:9] = SETS["training"][:9]
SOURCE = Gaussian([0.3, 0.3, 0.3], 1.0)


def reference(name):
    smoothed = Smoothed(points=SETS[name], bandwidth=WIDTHS[name])
    return Reference(smoothed=smoothed, log_off=log_off_diagonal(smoothed))


def scene(law=None, **changes):
    options = {
        "generated": Generated(draw=lambda n, generator: SAMPLES[:n], law=law),
        "samples": SAMPLES,
        "twin_samples": drawn("twin", 20),
        **{name: reference(name) for name in SETS},
        "std": 1.0,
        "source": SOURCE,
        "keep_self": True,
        "seed": 3,
    }
    return Scene(**(options | changes))


def smoothed_density(at, points, width):
    """Mean over all pairs of a normal density, one pair at a time."""
    return np.mean([stats.multivariate_normal(p, width**2).pdf(at) for p in points.numpy()])


def error(name, samples=SAMPLES, *, own=True):
    """E = int rho_S² - 2 int rho_S dG for the bare samples G, from densities of pairs."""
    points, width = SETS[name], WIDTHS[name]
    overlap = smoothed_density(points.numpy(), points, math.sqrt(2) * width)
    if not own:
        overlap -= stats.multivariate_normal(np.zeros(3), 2 * width**2).pdf(np.zeros(3)) / len(
            points
        )
    return overlap - 2 * smoothed_density(samples.numpy(), points, width)


def test_kernel_errors_of_samples_are_those_of_bare_points():
    found = evaluate(["delta"], scene())
    assert set(found) == {"delta", "delta_log_ratio", "delta_held_out_log_ratio"}
    found = evaluate(["kernel_l2_training", "kernel_l2_original", "delta", "delta_held_out"],
                     scene())  # fmt: skip
    training, original = error("training"), error("original")
    assert found["kernel_l2_training"] == pytest.approx(training, rel=1e-10)
    assert found["kernel_l2_original"] == pytest.approx(original, rel=1e-10)
    assert found["delta"] == pytest.approx(training - original, rel=1e-9)
    assert found["delta_held_out"] == pytest.approx(training - error("held_out"), rel=1e-9)
    equal = evaluate(["delta"], scene(keep_self=False))
    without = error("training", own=False) - error("original", own=False)
    assert equal["delta"] == pytest.approx(without, rel=1e-9)
    # the log of the ratio of the positive sides of (5)
    sides = [
        error("training") + 2 * smoothed_density(SAMPLES.numpy(), SETS["training"], 0.5)
        + 2 * smoothed_density(SAMPLES.numpy(), SETS["original"], 0.35),
        error("original") + 2 * smoothed_density(SAMPLES.numpy(), SETS["original"], 0.35)
        + 2 * smoothed_density(SAMPLES.numpy(), SETS["training"], 0.5),
    ]  # fmt: skip
    assert found["delta_log_ratio"] == pytest.approx(math.log(sides[1] / sides[0]), rel=1e-8)


def test_equal_self_terms_do_not_drown_the_sign():
    """Widths of 0.01: self terms of e^10 beside others of e^-1000 and less, in logarithms."""
    samples, width = drawn("fresh", 20, std=0.8), 0.01
    sets = {
        name: replace(reference(name), smoothed=smoothed, log_off=log_off_diagonal(smoothed))
        for name in ("training", "held_out")
        for smoothed in [Smoothed(points=SETS[name], bandwidth=width)]
    }
    found = evaluate(["delta_held_out"], scene(samples=samples, **sets))

    def log_sum(squares, variance, n_pairs):
        constant = 1.5 * math.log(2 * math.pi * variance) + math.log(n_pairs)
        return math.log(2) + logsumexp(-squares / (2 * variance)) - constant

    t, h = SETS["training"].numpy(), SETS["held_out"].numpy()
    off = [log_sum(pdist(x, "sqeuclidean"), 2 * width**2, 12**2) for x in (t, h)]
    cross = [log_sum(cdist(samples, x, "sqeuclidean"), width**2, 20 * 12) for x in (t, h)]
    ratio = np.logaddexp(off[1], cross[0]) - np.logaddexp(off[0], cross[1])
    assert found["delta_held_out_log_ratio"] == pytest.approx(ratio, rel=1e-9)


def coordinate_error(name, std):
    """The mean over coordinates of int (rho_G - rho_S)², widths std / N each, by quadrature."""
    grid = np.linspace(-6, 6, 20_001)
    total = 0.0
    for i in range(3):
        curves = [
            stats.norm.pdf(grid[:, None], points[:, i].numpy(), std / len(points)).mean(1)
            for points in (SAMPLES, SETS[name])
        ]
        total += integrate.trapezoid((curves[0] - curves[1]) ** 2, grid)
    return total / 3


@pytest.mark.parametrize("std", [1.0, 1.5])
def test_coordinate_errors_against_quadrature(std):
    names = [n for n in CRITERIA if n.startswith("coordinate_")]
    found = evaluate(names, scene(std=std))
    expected = {name: coordinate_error(name, std) for name in SETS}
    training, original, held_out = (expected[s] for s in ("training", "original", "held_out"))
    assert {name: pytest.approx(v, rel=1e-6) for name, v in found.items() if name in names} == {
        "coordinate_kernel_l2_training": training,
        "coordinate_kernel_l2_original": original,
        "coordinate_delta": training - original,
        "coordinate_delta_held_out": training - held_out,
    }


def moments(points):
    points = np.asarray(points)
    return points.mean(0), np.cov(points.T)


def bures(one, two):
    """Wasserstein-2 between the Gaussians of given moments, with SciPy's matrix square root of
    regular matrices."""
    (m, c), (n, d) = one, two
    middle = linalg.sqrtm(linalg.sqrtm(c) @ d @ linalg.sqrtm(c)).real
    return math.sqrt(((m - n) ** 2).sum() + np.trace(c) + np.trace(d) - 2 * np.trace(middle))


def test_laws_of_samples_are_atoms():
    """Samples have no overlap with a density, whatever their number."""
    names = ["hellinger_squared", "affinity_rate", "kl_to_source", "kl_from_source"]
    found = evaluate(names, scene())
    assert [found[name] for name in names] == [1.0, 0.0, math.inf, math.inf]


def test_moments_of_samples_have_the_unbiased_covariance():
    found = evaluate(["bures_wasserstein", "spread_ratio", "sample_bures_wasserstein"], scene())
    mean, covariance = moments(SAMPLES)
    expected = bures((mean, covariance), (np.full(3, 0.3), np.eye(3)))
    assert found["bures_wasserstein"] == pytest.approx(expected, rel=1e-9)
    assert found["sample_bures_wasserstein"] == pytest.approx(expected, rel=1e-9)
    assert found["spread_ratio"] == pytest.approx(np.trace(covariance) / 3, rel=1e-12)
    unknown = evaluate(["bures_wasserstein", "sample_bures_wasserstein"], scene(source=None))
    expected = bures(moments(SAMPLES), moments(SETS["original"]))
    names = ("bures_wasserstein", "sample_bures_wasserstein")
    assert [unknown[name] for name in names] == pytest.approx([expected] * 2, rel=1e-9)


def test_a_mixture_counts_with_its_own_moments():
    mixture = GaussianMixture([0.25, 0.75], [[0.0] * 3, [1.0] * 3], [0.5, 1.0])
    found = evaluate(["bures_wasserstein", "spread_ratio", "sample_bures_wasserstein"],
                     scene(mixture))  # fmt: skip
    mean = np.full(3, 0.75)
    covariance = 0.875 * np.eye(3) + 0.1875 * np.ones((3, 3))
    expected = bures((mean, covariance), (np.full(3, 0.3), np.eye(3)))
    assert found["bures_wasserstein"] == pytest.approx(expected, rel=1e-9)
    assert found["spread_ratio"] == pytest.approx(np.trace(covariance) / 3, rel=1e-12)
    of_samples = bures(moments(SAMPLES), (np.full(3, 0.3), np.eye(3)))
    assert found["sample_bures_wasserstein"] == pytest.approx(of_samples, rel=1e-9)


def test_samples_are_compared_with_as_many_originals():
    names = ["wasserstein", "energy_distance", "mmd", "memorized_fraction", "overlap"]
    found = evaluate(names, scene())
    x, y = SAMPLES.numpy(), SETS["original"][:20].numpy()
    squares = cdist(x, y, "sqeuclidean")
    matched = squares[optimize.linear_sum_assignment(squares)]
    assert found["wasserstein"] == pytest.approx(math.sqrt(matched.mean()), rel=1e-9)
    between, within, other = (cdist(a, b) for a, b in ((x, y), (x, x), (y, y)))
    energy = 2 * between.mean() - within.mean() - other.mean()
    assert found["energy_distance"] == pytest.approx(math.sqrt(energy), rel=1e-9)
    pairs = np.sort(pdist(np.concatenate([x, y])))
    width = pairs[(len(pairs) - 1) // 2]
    kernels = [np.exp(-(d**2) / (2 * width**2)).mean() for d in (within, other, between)]
    mmd = math.sqrt(kernels[0] + kernels[1] - 2 * kernels[2])
    assert found["mmd"] == pytest.approx(mmd, rel=1e-9)
    assert found["memorized_fraction"] == pytest.approx(9 / 20, abs=0.051)
    one, two = (np.asarray(s) - np.asarray(s).mean(0) for s in (SAMPLES, drawn("twin", 20)))
    cosine = (one * two).sum() / math.sqrt((one**2).sum() * (two**2).sum())
    assert found["overlap"] == pytest.approx(cosine, rel=1e-12)


def test_likelihood_gap_of_samples_is_that_of_their_kernel_density():
    """Under the training set's width, also for a law that is a smoothed set."""
    expected = {}
    for name, points in SETS.items():
        densities = [
            np.mean([stats.multivariate_normal(g, 0.25).pdf(x) for g in SAMPLES.numpy()])
            for x in points.numpy()
        ]
        expected[name] = np.log(densities).mean()
    gap = expected["training"] - expected["held_out"]
    for law in (None, Smoothed(points=SAMPLES, bandwidth=0.0)):
        found = evaluate(["log_likelihood_gap"], scene(law))
        assert found["log_likelihood_gap"] == pytest.approx(gap, rel=1e-9)


def test_criteria_that_look_at_samples_ask_for_them():
    """A law alone does not stand in for samples in these, and does in all others."""
    assert "wasserstein" in NEED_SAMPLES
    for name in NEED_SAMPLES & set(CRITERIA):
        law = Gaussian(torch.full((3,), 9.0), 1.0)
        assert evaluate([name], scene())[name] == evaluate([name], scene(law))[name]


# Signs and their onsets


def test_delta_of_zero_is_not_positive():
    assert not KernelDelta(value=0.0, log_ratio=0.0).positive
    assert KernelDelta(value=0.0, log_ratio=-1e-300).positive


SIZES = [10, 20, 40, 80, 160, 320]


def signs(ceiling, zeros=0):
    """Deltas of 2,000 runs whose exact share of positive ones is logistic with its middle at 50;
    of the others some are 0."""
    runs, rise = 2000, 1 / (1 + (50 / np.array(SIZES)) ** 4)
    rank = np.arange(runs)[:, None]
    positive = np.round(ceiling * rise * runs)
    return np.where(rank < positive, 1.0, np.where(rank < positive + zeros, 0.0, -1.0))


@pytest.mark.parametrize("zeros", [0, 150])
@pytest.mark.parametrize(
    ("name", "ceiling"),
    [("delta", 1.0), ("delta_held_out", 0.5), ("coordinate_delta", 1.0),
     ("coordinate_delta_held_out", 0.5)],
)  # fmt: skip
def test_onset_of_a_sign_is_where_it_reaches_half_its_ceiling(name, ceiling, zeros):
    """Exact shares of the fitted form, so that n* is 50 up to a run in 2,000."""
    assert CEILINGS[name] == ceiling
    model = signs(ceiling, zeros)
    found = criterion_onset(
        name, SIZES, {"model": model, "log_ratio": np.full(model.shape, np.nan)}
    )
    assert found.onset == pytest.approx(50, rel=2e-3)
    assert found.ceiling == ceiling


@pytest.mark.parametrize(("floor", "oracle"), [(0.3, 5.0), (None, 0.3)])
@pytest.mark.parametrize("side", [1, -1])
def test_onset_of_quality_is_where_it_is_within_a_factor_two(floor, oracle, side):
    """Of the floor, or of the oracle where there is none: ln 2 (50/n) nats from it, either side;
    the scatter of 1 % of 200 runs leaves its median within 0.2 %."""
    rng, n = np.random.default_rng(3), np.array([15, 30, 45, 60, 90, 180, 360])
    scatter = 0.01 * rng.standard_normal((200, len(n)))
    model = 0.3 * np.exp(side * math.log(2) * 50 / n + scatter)
    oracles = np.full(model.shape, oracle)
    oracles[::2] *= 1.2
    oracles[1::2] *= 0.8
    oracles[0, 0] = np.inf  # left out of the oracle's mean
    found = criterion_onset(
        "sliced_wasserstein", n.tolist(), {"model": model, "oracle": oracles}, floor=floor
    )
    assert found.onset == pytest.approx(50, rel=0.02)
