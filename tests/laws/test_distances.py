"""Laws of every distance, measured on samples; laws in closed form see the fitted Gaussians."""

import inspect
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genonset import distances, seeds
from genonset.distances import ASYMMETRIC, SYMMETRIC
from genonset.sources import Gaussian

EXPONENTS = SYMMETRIC | ASYMMETRIC
OF_LAWS = {"hellinger", "hellinger_squared", "bures_wasserstein", "kl"}
METRICS = ["hellinger", "bures_wasserstein", "wasserstein", "sliced_wasserstein",
           "energy_distance"]  # fmt: skip
SIMILARITIES = {"log_affinity", "affinity_rate", "log_overlap"}  # not 0 on equal input
every = pytest.mark.parametrize("name", EXPONENTS)


def measure(name, x, y, scale=1.0):
    """A distance by name between samples x and y, in units in which their std is `scale`."""
    distance = getattr(distances, name)
    if name in OF_LAWS:
        return distance(Gaussian.fit(x), Gaussian.fit(y))
    if name == "coordinate_kernel_l2":
        return distance(x, y, scale)
    if name == "sliced_wasserstein":
        return distance(x, y, n_projections=16, generator=seeds.generator(0, "directions"))
    return distance(x, y)


@st.composite
def samples(draw, sets=2):
    """Sets of unequal sizes, some smaller than the dimension, from shifted and stretched laws."""
    d, seed = draw(st.integers(1, 6)), draw(st.integers(0, 10**6))
    sizes = [draw(st.integers(2, 12)) for _ in range(sets)]
    generator = seeds.generator(seed, "samples")

    def normal(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    return [normal(n, d) @ normal(d, d) + normal(d) for n in sizes]


def test_every_distance_is_in_exactly_one_registry():
    assert not SYMMETRIC.keys() & ASYMMETRIC.keys()
    compares = (["p", "q"], ["generated", "reference"])
    found = {
        name
        for name, function in inspect.getmembers(distances, inspect.isfunction)
        if not name.startswith("_")
        and list(inspect.signature(function).parameters)[:2] in compares
        and inspect.signature(function).return_annotation in (float, "float")
    }
    assert found - SIMILARITIES == EXPONENTS.keys()


@every
@settings(max_examples=25, deadline=None)
@given(samples(sets=1))
def test_vanishes_on_equal_input(name, sets):
    """The roots of differences of equal sums keep half of the digits: 1e-7 of the scale 1."""
    (x,) = sets
    assert 0 <= measure(name, x, x.clone()) < 1e-6


@every
@settings(max_examples=25, deadline=None)
@given(samples(), st.randoms(use_true_random=False))
def test_ignores_row_order(name, sets, random):
    shuffled = [x[random.sample(range(len(x)), len(x))] for x in sets]
    assert measure(name, *shuffled) == pytest.approx(measure(name, *sets), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", SYMMETRIC)
@settings(max_examples=25, deadline=None)
@given(samples())
def test_symmetric_ones_are(name, sets):
    x, y = sets
    assert measure(name, x, y) == pytest.approx(measure(name, y, x), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ASYMMETRIC)
def test_asymmetric_ones_are_not_symmetric(name):
    x = torch.randn(20, 2, dtype=torch.float64, generator=seeds.generator(0))
    values = measure(name, x, 3 * x), measure(name, 3 * x, x)
    assert max(values) > 1.5 * min(values)


@every
@settings(max_examples=25, deadline=None)
@given(samples(), st.floats(1e-3, 1e3))
def test_scales_as_declared(name, sets, c):
    x, y = sets
    expected = c ** EXPONENTS[name] * measure(name, x, y)
    assert measure(name, c * x, c * y, scale=c) == pytest.approx(expected, rel=1e-8, abs=1e-9)


@every
def test_is_positive_between_different_sets_and_ignores_a_common_shift(name):
    x, y = (torch.randn(n, 3, dtype=torch.float64, generator=seeds.generator(n)) for n in (9, 11))
    value = measure(name, x, y)
    assert value > 1e-3
    assert measure(name, x + 7, y + 7) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("name", METRICS)
@settings(max_examples=25, deadline=None)
@given(samples(sets=3))
def test_metrics_satisfy_the_triangle_inequality(name, sets):
    xy, yz, xz = (measure(name, a, b) for a, b in itertools.combinations(sets, 2))
    assert xz <= (xy + yz) * (1 + 1e-9)
    assert xy <= (xz + yz) * (1 + 1e-9)
