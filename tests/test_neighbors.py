"""Neighbours against a double loop, SciPy's tree and scikit-learn, where products of matrices err.

The double loop ranks by (distance, index), distances rounded to float64 as NumPy sums them. Data
with ties are lattices, on which every sum is exact, so that equality means equality.
"""

import math
import subprocess
import sys

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


@pytest.mark.parametrize("memory", [2000, None])
@pytest.mark.parametrize("screens", [[torch.float32], []])
@pytest.mark.parametrize("side", [2, 5])
def test_ties_go_to_the_lower_rank_and_negative_ranks_are_left_out(
    side, screens, memory, monkeypatch
):
    monkeypatch.setattr(neighbors, "_screens", lambda: screens)
    monkeypatch.setattr(neighbors, "_worth_shortlists", lambda *_: bool(screens))
    draw = torch.Generator().manual_seed(side)
    queries, points = (
        torch.randint(side, (n, 64 if side == 5 else 4), generator=draw).float() for n in (30, 250)
    )
    rank = torch.randperm(250, generator=draw)
    rank[::3] = -1
    distances, indices = nearest(queries, points, 5, rank=rank, memory=memory)
    kept = rank.argsort()[(rank < 0).sum() :]
    expected, order = nearest(queries, points[kept], 5)
    assert torch.equal(distances, expected)
    assert torch.equal(indices, kept[order])
    with pytest.raises(DataError, match="167 neighbours of 166 points"):
        nearest(queries, points, 167, rank=rank)


def test_equal_points_only():
    distances, indices = nearest(np.zeros((3, 2)), np.zeros((90, 2)), 4)
    assert bool((distances == 0).all())
    assert indices.tolist() == [[0, 1, 2, 3]] * 3


def test_distinct_rows_and_their_members():
    points = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, -0.0], [0.0, 2.0], [3.0, 3.0]]).double()
    first, member = distinct(points)
    assert sorted(first.tolist()) == [0, 1, 4]
    assert torch.equal(points[first][member] == points, torch.ones(5, 2).bool())
    shuffled, _ = distinct(points.flip(0))
    assert torch.equal(points.flip(0)[shuffled], points[first]), "the order is that of the values"
    parts = distinct(points[:2], points[2:4], points[4:])
    assert torch.equal(parts[0], first)
    assert torch.equal(parts[1], member)


@pytest.mark.parametrize("memory", [1, 5000, 1 << 26])
def test_distinct_rows_are_found_a_few_columns_at_a_time(memory, monkeypatch):
    """Rows that differ late or never, against NumPy on whole rows."""
    monkeypatch.setattr(neighbors, "MEMORY", memory)
    rng = np.random.default_rng(0)
    for side, dim in ((2, 9), (3, 4), (2, 1)):
        rows = (rng.integers(side, size=(150, dim)) - 1).astype(np.float32) / 3
        first, member = distinct(torch.from_numpy(rows[:60]), torch.from_numpy(rows[60:]))
        expected = np.unique(rows, axis=0, return_index=True, return_inverse=True)[1:]
        np.testing.assert_array_equal(first.numpy(), expected[0])
        np.testing.assert_array_equal(member.numpy(), expected[1].ravel())


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
        (torch.full((2, 3), -1e200, dtype=torch.float64), torch.zeros(4, 3), 1, "is 1e.200 in"),
        (torch.full((2, 3), 1e-200, dtype=torch.float64), torch.zeros(4, 3), 1, "Rescale"),
    ],
)
def test_what_is_refused(queries, points, k, message):
    with pytest.raises(DataError, match=message):
        nearest(queries, points, k)


def test_memory_is_positive():
    with pytest.raises(ConfigError, match="positive number of bytes"):
        nearest(torch.zeros(2, 3), torch.zeros(4, 3), 1, memory=0)


def lattice(n, seed):
    """Integers, many at one distance from a query, and every point there twice."""
    draw = torch.randint(-2, 3, (n // 2, 64), generator=torch.Generator().manual_seed(seed))
    return draw.repeat(2, 1).float()


def clusters(n, seed, width):
    """Sorted by cluster, and narrow beside the distance of the clusters."""
    centres = 10 * gaussian(8, 64, seed=99)
    return centres.repeat_interleave(n // 8, 0) + width * gaussian(n, 64, seed=seed)


SCREENED = {
    "normal": lambda n, seed: gaussian(n, 64, seed=seed, dtype=torch.float32),
    "far from the origin": lambda n, seed: (1e4 + gaussian(n, 64, seed=seed)).float(),
    "few directions": lambda n, seed: gaussian(n, 3, seed=seed) @ gaussian(3, 64, seed=98),
    "clusters": lambda n, seed: clusters(n, seed, 1.0),
    "clusters that bfloat16 cannot see into": lambda n, seed: clusters(n, seed, 1e-3),
    "more alike than a list keeps": lambda n, seed: (
        gaussian(n // 50 + 1, 64, seed=97).repeat(50, 1)[:n] + 1e-4 * gaussian(n, 64, seed=seed)
    ),
    "all of nearly one length": lambda n, seed: (
        torch.nn.functional.normalize(gaussian(n, 64, seed=seed), dim=1)
        * (1 + 1e-7 * gaussian(n, 1, seed=seed + 7))
    ),
    "ties": lattice,
    "lengths from 1e-4 to 1e4": lambda n, seed: (
        gaussian(n, 64, seed=seed) * 10 ** gaussian(n, 1, seed=seed + 7).clamp(-4, 4)
    ),
}


@pytest.mark.parametrize("k", [1, 20])
@pytest.mark.parametrize("name", SCREENED)
def test_shortlists_change_nothing(name, k, monkeypatch):
    """Sizes for which shortlists go first: in bfloat16 where the processor has it, in float32."""
    queries, points = SCREENED[name](256, 1), SCREENED[name](8192, 2)
    distances, indices = nearest(queries, points, k)
    q, p = queries.double().numpy(), points.double().numpy()
    for row in range(0, 256, 5):
        expected = np.sqrt(((p - q[row]) ** 2).sum(1))
        order = np.lexsort((np.arange(len(p)), expected))[:k]
        np.testing.assert_array_equal(indices[row].numpy(), order)
        np.testing.assert_allclose(distances[row].numpy(), expected[order], rtol=1e-12)
    for screens in ([torch.float32], []):
        monkeypatch.setattr(neighbors, "_screens", lambda screens=screens: screens)
        without = nearest(queries, points, k)
        assert torch.equal(distances, without[0])
        assert torch.equal(indices, without[1])


def aligned(n):
    """Rows of equal coordinates, so that all rounding errors add up; their mean is zero."""
    lengths = 1 + torch.rand(n // 2, 1, generator=torch.Generator().manual_seed(n)).double()
    return torch.cat([lengths, -lengths]).expand(-1, 64) / 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("points", [aligned(1000), gaussian(1000, 64), clusters(1000, 1, 1e-3)])
def test_no_point_below_its_threshold_is_missed(points, dtype):
    """Equation (5) pair by pair, with thresholds among the values: half of all are below them."""
    unit = 2.0 ** math.frexp(float(points.abs().max()))[1]
    queries = points[::3]
    lists = neighbors._Shortlists(queries, points, 4, None, dtype, unit, neighbors.MEMORY)
    q, p = ((x - points.mean(0)) / unit for x in (queries, points))
    half = p.square().sum(1) / 2 - q @ p.T
    lists.threshold.fill_(math.inf)
    lists._lower(torch.arange(len(q)), half.median(1).values)
    below = half < lists.threshold[:, None] * (1 - 1e-4)
    above = 0
    for columns, rows, values in lists._products(1):
        listed = values[:, : columns.stop - columns.start] < 0
        assert bool(listed[below[rows, columns]].all())
        above += int((listed & ~below[rows, columns]).sum())
    assert above < 0.3 * half.numel()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_shortlists_leave_little_to_the_next_search(dtype, monkeypatch):
    if dtype not in neighbors._screens():
        pytest.skip("this processor has no bfloat16 product")
    monkeypatch.setattr(neighbors, "_screens", lambda: [dtype])
    by_product, asked = neighbors._by_product, []

    def counting(queries, *rest):
        asked.append(len(queries))
        return by_product(queries, *rest)

    monkeypatch.setattr(neighbors, "_by_product", counting)
    nearest(SCREENED["normal"](1000, 1), SCREENED["normal"](20_000, 2), 8)
    assert sum(asked) < 20


@pytest.mark.parametrize("name", ["normal", "ties"])
def test_faiss_finds_the_same(name):
    """In float32, so that the sums of its distances and its sets are compared, not ties."""
    faiss = pytest.importorskip("faiss")
    queries, points = SCREENED[name](256, 1), SCREENED[name](8192, 2)
    index = faiss.IndexFlatL2(64)
    index.add(points.numpy())
    squared, order = index.search(queries.numpy(), 20)
    distances, indices = nearest(queries, points, 20)
    np.testing.assert_allclose(distances.numpy() ** 2, squared, rtol=1e-5, atol=1e-4)
    if name == "normal":
        same = (np.sort(indices.numpy(), 1) == np.sort(order, 1)).all(1)
        assert same.mean() > 0.99


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_a_memory_map_is_searched_without_a_copy(tmp_path):
    """The peak of memory that is not a mapped file grows by less than the points would take."""
    n, dim = 120_000, 256
    file = np.lib.format.open_memmap(tmp_path / "points.npy", "w+", np.float32, (n, dim))
    for start in range(0, n, 10_000):
        file[start : start + 10_000] = gaussian(10_000, dim, seed=start, dtype=torch.float32)
    file.flush()
    program = f"""
import resource, sys, numpy, torch
from genonset.neighbors import nearest
torch.set_num_threads(1)
points = numpy.load({str(tmp_path / "points.npy")!r}, mmap_mode="r")
used = [line for line in open("/proc/self/status") if line.startswith("VmData")]
limit = 1024 * int(used[0].split()[1]) + 100 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
distances, indices = nearest(points[5:2000:5], points, 2, memory=2**25)
assert indices[:, 0].tolist() == list(range(5, 2000, 5)) and not distances[:, 0].any()
try:
    points.copy()
except MemoryError:
    sys.exit(0)
sys.exit("the limit holds nothing back")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
