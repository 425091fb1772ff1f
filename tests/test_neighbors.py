"""Neighbours against a double loop, SciPy's tree and scikit-learn, where products of matrices err.

The double loop ranks by (distance, index), distances rounded to float64 as NumPy sums them. Data
with ties are lattices, on which every sum is exact, so that equality means equality.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree
from sklearn.neighbors import NearestNeighbors

from genonset import neighbors
from genonset.errors import ConfigError, DataError
from genonset.neighbors import distinct, nearest


def double_loop(queries, points, k):
    """The definition, one pair at a time."""
    q, p = (np.asarray(x, dtype=np.float64).reshape(len(x), -1) for x in (queries, points))
    distances = np.array([[math.sqrt(float(((a - b) ** 2).sum())) for b in p] for a in q])
    index = np.broadcast_to(np.arange(len(p)), distances.shape)
    order = np.lexsort((index, distances), axis=1)[:, :k]
    return np.take_along_axis(distances, order, 1), order


def assert_nearest(queries, points, k, **options):
    distances, indices = nearest(queries, points, k, **options)
    expected, order = double_loop(queries, points, k)
    assert distances.dtype == torch.float64
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-13, atol=0)


def gaussian(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("m", "n", "dim", "k"), [(1, 1, 1, 1), (7, 5, 3, 5), (40, 90, 1, 2), (60, 300, 20, 3)]
)
def test_a_double_loop_finds_the_same(m, n, dim, k, dtype):
    assert_nearest(gaussian(m, dim, seed=1, dtype=dtype), gaussian(n, dim, dtype=dtype), k)


def test_a_tree_finds_the_same():
    queries, points = gaussian(3000, 3, seed=1), gaussian(20_000, 3)
    distances, indices = nearest(queries, points, 4)
    expected, order = KDTree(points.numpy()).query(queries.numpy(), 4)
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scikit_learn_finds_the_same_in_many_dimensions(dtype):
    queries, points = gaussian(700, 100, seed=1, dtype=dtype), gaussian(5000, 100, dtype=dtype)
    distances, indices = nearest(queries, points, 2)
    brute = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(points.double().numpy())
    expected, order = brute.kneighbors(queries.double().numpy())
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-12)


def test_data_far_from_the_origin():
    queries, points = (1e6 + 1e-3 * gaussian(n, 16, seed=n) for n in (50, 400))
    squared = queries.square().sum(1)[:, None] - 2 * queries @ points.T + points.square().sum(1)
    _, order = double_loop(queries, points, 1)
    assert (squared.argmin(1).numpy() != order[:, 0]).any(), "the test has lost its teeth"
    assert_nearest(queries, points, 3)


def test_float32_data_far_from_the_origin_are_a_lattice_full_of_ties():
    queries, points = ((1e6 + 0.1 * gaussian(n, 3, seed=n)).float() for n in (40, 400))
    _, ties = np.unique(double_loop(queries, points, 400)[0][0], return_counts=True)
    assert ties.max() > 10
    assert_nearest(queries, points, 10)


@pytest.mark.parametrize("scale", [2.0**-30, 1.0, 2.0**30])
def test_clusters_narrower_than_float32_resolves(scale):
    """Rounded to float32 the points of a cluster are equal, and misplaced together."""
    centres = gaussian(2, 5, seed=3)
    points = centres.repeat_interleave(100, 0) + 1e-9 * gaussian(200, 5, seed=4)
    queries = centres.repeat_interleave(40, 0) + 1e-2 * gaussian(80, 5, seed=5)
    assert_nearest(scale * queries, scale * points, 2)


def test_points_at_almost_equal_distance():
    """Only the direct distance orders a sphere whose radius varies by 1e-10."""
    direction = torch.nn.functional.normalize(gaussian(400, 8, seed=6), dim=1)
    places = torch.randperm(400, generator=torch.Generator().manual_seed(7))
    radius = 1 + 1e-10 * places.double()
    distances, indices = nearest(torch.zeros(1, 8).double(), direction * radius[:, None], 5)
    np.testing.assert_array_equal(indices[0].numpy(), radius.argsort()[:5].numpy())
    np.testing.assert_allclose(distances[0].numpy(), 1 + 1e-10 * np.arange(5), rtol=1e-15)


def test_an_outlier_does_not_spoil_the_others():
    points = gaussian(300, 4)
    points[17] *= 1e9
    assert_nearest(gaussian(20, 4, seed=1), points, 2)


@pytest.mark.parametrize("copies", [3, 50, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_duplicates_are_listed_by_index(copies, dtype):
    """More copies than spare candidates, at random places."""
    distinct_points = gaussian(6, 12, dtype=dtype)
    places = torch.randperm(6 * copies, generator=torch.Generator().manual_seed(copies))
    points = distinct_points.repeat(copies, 1)[places]
    distances, indices = nearest(distinct_points, points, 2)
    assert bool((distances == 0).all())
    for row, point in enumerate(distinct_points):
        same = (points == point).all(1).nonzero()[:2, 0]
        assert indices[row].tolist() == same.tolist()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    m=st.integers(1, 8),
    n=st.integers(1, 120),
    dim=st.integers(1, 4),
    side=st.integers(1, 5),
    memory=st.sampled_from([1, 3000, 40_000, None]),
    data=st.data(),
)
def test_ties_on_a_lattice(seed, m, n, dim, side, memory, data):
    draw = np.random.default_rng(seed).integers
    queries, points = (draw(side, size=(size, dim)).astype(np.float64) for size in (m, n))
    k = data.draw(st.integers(1, n))
    assert_nearest(queries / 4, points / 4, k, memory=memory)


@pytest.mark.parametrize("memory", [1, 10_000, 300_000, 1 << 30])
def test_memory_never_changes_the_result(memory):
    queries, points = gaussian(20, 30, seed=1), gaussian(250, 30)
    for one, other in zip(
        nearest(queries, points, 3), nearest(queries, points, 3, memory=memory), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_ordinary_data_do_not_need_all_pairs(mean, monkeypatch):
    monkeypatch.setattr(neighbors, "_all_pairs", None)
    queries, points = (mean + 1e-3 * gaussian(n, 30, seed=n) for n in (40, 700))
    assert_nearest(queries, points, 3)


def test_reduced_precision_products_are_not_trusted():
    queries, points = gaussian(40, 30, seed=1), gaussian(700, 30)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert_nearest(queries, points, 3)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("scale", [2.0**-400, 2.0**-30, 2.0**30, 2.0**400])
def test_distances_scale_with_the_data(scale):
    queries, points = gaussian(20, 6, seed=1), gaussian(200, 6)
    distances, indices = nearest(queries, points, 2)
    scaled, same = nearest(scale * queries, scale * points, 2)
    assert torch.equal(scaled, scale * distances)
    assert torch.equal(same, indices)


def test_data_points_of_any_shape_from_arrays_or_tensors():
    queries, points = gaussian(5, 2, 3, 4, seed=1), gaussian(30, 2, 3, 4).requires_grad_()
    read_only = points.detach().numpy()[:, ::-1].copy()[:, ::-1]
    read_only.flags.writeable = False
    expected = nearest(queries.flatten(1), points.flatten(1), 2)
    for found in (nearest(queries, points, 2), nearest(queries.numpy(), read_only, 2)):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
        assert not found[0].requires_grad
    scalars = nearest(np.array([0.2]), np.array([1.0, 0.5, 0.0], dtype=">f4"), 1)
    assert scalars[1].item() == 2


def test_equal_points_only():
    distances, indices = nearest(np.zeros((3, 2)), np.zeros((90, 2)), 4)
    assert bool((distances == 0).all())
    assert indices.tolist() == [[0, 1, 2, 3]] * 3


def test_distinct_rows_and_their_members():
    points = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, -0.0], [0.0, 2.0], [3.0, 3.0]]).double()
    rows, member = distinct(points)
    assert len(rows) == 3
    assert torch.equal(rows[member] == points, torch.ones(5, 2).bool())
    shuffled, _ = distinct(points.flip(0))
    assert torch.equal(shuffled, rows), "the order must not depend on the order of the points"


@pytest.mark.parametrize(
    ("queries", "points", "k", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(4, 3), 5, "5 neighbours of 4 points"),
        (torch.zeros(2, 3), torch.zeros(4, 3), 0, "ask for 1 to 4"),
        (torch.zeros(0, 3), torch.zeros(4, 3), 1, "at least one"),
        (torch.zeros(2, 3), torch.zeros(0, 3), 1, "at least one"),
        (torch.zeros(2, 0), torch.zeros(4, 0), 1, "at least one"),
        (torch.zeros(2, 3), torch.zeros(4, 2), 1, "3 coordinates and points 2"),
        (torch.zeros(2, 3), torch.full((4, 3), math.nan), 1, "points: 12 of 12 values are NaN"),
        (torch.full((2, 3), math.inf), torch.zeros(4, 3), 1, "queries: 6 of 6"),
        (torch.zeros(2, 3).int(), torch.zeros(4, 3), 1, "floating-point"),
        (np.zeros((2, 3), dtype=np.uint8), torch.zeros(4, 3), 1, "floating-point"),
        (torch.zeros(2, 3), torch.full((4, 3), 1e200, dtype=torch.float64), 1, "Rescale"),
        (torch.full((2, 3), 1e-200, dtype=torch.float64), torch.zeros(4, 3), 1, "Rescale"),
    ],
)
def test_what_is_refused(queries, points, k, message):
    with pytest.raises(DataError, match=message):
        nearest(queries, points, k)


def test_memory_is_positive():
    with pytest.raises(ConfigError, match="positive number of bytes"):
        nearest(torch.zeros(2, 3), torch.zeros(4, 3), 1, memory=0)
