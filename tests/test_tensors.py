"""The product of rows, against float64: every layout, every reason to leave oneDNN.
Files mapped into memory: what is read of them is given back, and nothing is lost."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

from genonset import datasets, neighbors, seeds, tensors
from genonset.tensors import product

U = torch.finfo(torch.float32).eps / 2


def rows(n: int, k: int, name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, k, dtype=dtype, generator=seeds.generator(0, name))


LAYOUTS = {
    "rows": lambda x: x,
    "columns": lambda x: x.T.contiguous().T,
    "slice of columns": lambda x: torch.cat([x, 9 + x], 1)[:, : x.shape[1]],
    "every second column": lambda x: torch.stack([x, 9 + x], 2).flatten(1)[:, ::2],
    "every second row": lambda x: torch.stack([x, 9 + x], 1).flatten(0, 1)[::2],
    "one row repeated": lambda x: x[:1].expand_as(x),
    "rows of a larger set": lambda x: torch.cat([9 + x, x])[len(x) :],
}


@pytest.mark.parametrize("right", LAYOUTS)
@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("biased", [False, True])
def test_within_the_bound_of_a_sum_in_any_order(left: str, right: str, biased: bool):
    """Equation (2), element by element; `9 + x` is what wrong strides would read."""
    a, b = LAYOUTS[left](rows(519, 131, "a")), LAYOUTS[right](rows(133, 131, "b"))
    bias = torch.stack([b.sum(1), 9 + b.sum(1)], 1)[:, 0] if biased else None
    terms = 131 + biased
    gamma = terms * U / (1 - terms * U)
    exact, size = a.double() @ b.double().T, a.double().abs() @ b.double().abs().T
    if bias is not None:
        exact, size = exact + bias.double(), size + bias.double().abs()
    found = product(a, b, bias)
    assert tensors._SMALL <= 519 * 133 * 131
    assert found.dtype == torch.float32
    assert bool(((found.double() - exact).abs() <= gamma * size).all())


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 3, 0), (1, 1, 1), (1, 5000, 2000)])
def test_shapes_without_rows_or_columns_and_of_one_row(shape: tuple[int, int, int]):
    m, n, k = shape
    a, b = rows(m, k, "a"), rows(n, k, "b")
    torch.testing.assert_close(
        product(a, b), (a.double() @ b.double().T).float(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_stay_with_torch(dtype: torch.dtype):
    a, b = rows(256, 256, "a", dtype), rows(256, 256, "b", dtype)
    assert torch.equal(product(a, b), a @ b.T)
    bias = b.sum(1)
    assert torch.equal(product(a, b, bias), torch.addmm(bias, a, b.T))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's, of itself
def test_gradients_backward_and_forward():
    """oneDNN's own operator has neither and would answer zero."""
    a, b, v, bias = (
        rows(256, 256, "a"),
        rows(256, 256, "b"),
        rows(256, 256, "v"),
        rows(1, 256, "c"),
    )
    given = [x.clone().requires_grad_() for x in (a, b, bias[0])]
    slopes = torch.autograd.grad((product(*given) * v).sum(), given)
    for slope, exact in zip(slopes, (v @ b, v.T @ a, v.sum(0)), strict=True):
        torch.testing.assert_close(slope, exact, rtol=1e-4, atol=1e-4)
    x, w, _ = given
    (slope,) = torch.autograd.grad((product(x, w) * v).sum(), x, create_graph=True)
    (twice,) = torch.autograd.grad((slope * a).sum(), w)
    torch.testing.assert_close(twice, v.T @ a, rtol=1e-4, atol=1e-4)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(product(forward_ad.make_dual(a, v), b)).tangent
    torch.testing.assert_close(tangent, v @ b.T)
    with torch.no_grad():
        assert not product(x, b).requires_grad


def test_a_stack_of_products_has_the_products_and_gradients_of_each():
    a, b, bias = (torch.stack([rows(n, k, f"{n}{i}") for i in range(3)]) for n, k in
                  ((300, 220), (130, 220), (1, 130)))  # fmt: skip
    given = [x.requires_grad_() for x in (a, b, bias[:, 0])]
    many = torch.func.vmap(product)(*given)
    each = torch.stack([product(*(x[i] for x in given)) for i in range(3)])
    torch.testing.assert_close(many, each, rtol=1e-4, atol=1e-4)
    shared = torch.func.vmap(product, (0, None, None))(a, b[0], bias[0, 0])
    torch.testing.assert_close(shared[2], product(a[2], b[0], bias[0, 0]), rtol=1e-4, atol=1e-4)
    for x, y in zip(torch.autograd.grad(many.square().sum(), given),
                    torch.autograd.grad(each.square().sum(), given), strict=True):  # fmt: skip
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-3)


def test_autocast_decides_the_precision():
    a, b = rows(256, 256, "a"), rows(256, 256, "b")
    with torch.autocast("cpu", torch.bfloat16):
        assert product(a, b).dtype == torch.bfloat16


def test_not_finite_numbers_come_through():
    a, b = rows(256, 256, "a"), rows(256, 256, "b")
    a[3, 7], b[5, 9] = torch.inf, torch.nan
    found = product(a, b)
    assert bool(found[:, 5].isnan().all())
    assert torch.equal(found[3].isfinite(), torch.zeros(256, dtype=torch.bool))
    assert int(found.isfinite().sum()) == 255 * 255


def test_without_onednn_the_product_is_torch_s(monkeypatch: pytest.MonkeyPatch):
    a, b = rows(256, 256, "a"), rows(256, 256, "b")

    def missing(*_: object) -> torch.Tensor:
        raise AttributeError("no such operator")

    monkeypatch.setattr(tensors, "_by_onednn", missing)
    tensors._fast_onednn.cache_clear()
    try:
        assert torch.equal(product(a, b), a @ b.T)
    finally:
        tensors._fast_onednn.cache_clear()


def test_where_onednn_is_used_it_is_used():
    """A product of this size does go the way it is said to, and its bits repeat."""
    a, b = rows(300, 250, "a"), rows(250, 250, "b")
    if not tensors._fast_onednn():
        pytest.skip("oneDNN is not reached, or does not pay, on this processor")
    assert torch.equal(product(a, b), tensors._by_onednn(a, b, None))
    assert torch.equal(product(a, b), product(a.clone(), b.clone()))


# Files mapped into memory


def resident(path) -> float:
    """MiB of a mapped file that count as memory of this process."""
    mine, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            mine = line.endswith(str(path))
        total += int(line.split()[1]) if mine and line.startswith("Rss:") else 0
    return total / 1024


READERS = {
    "extent": tensors.extent,
    "parts": lambda x: sum(len(part) for part in tensors.parts(x, 1000)),
    "moments": datasets.moments,
    "units": lambda x: datasets.check_same_units({"training": x, "generated": x[:9]}),
    "distinct": neighbors.distinct,
    "nearest, by shortlists": lambda x: neighbors.nearest(x[:300].clone(), x, 2),
    "nearest, by product": lambda x: neighbors.nearest(x[:3].clone(), x, 2),
    "nearest, all pairs": lambda x: neighbors.nearest(x[:1].clone(), x, len(x)),
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux what is resident")
@pytest.mark.parametrize("read", READERS)
def test_what_was_read_of_a_mapped_file_is_given_back(tmp_path, read):
    path = tmp_path / "points.npy"
    np.save(path, rows(20_000, 256, "mapped").numpy())
    points = tensors.from_array(np.load(path, mmap_mode="r"))
    float(points.sum())
    assert resident(path) > 19
    tensors.give_back(points)
    READERS[read](points)
    assert resident(path) < 6


def test_a_part_that_is_given_back_is_that_part(tmp_path):
    path = tmp_path / "points.npy"
    np.save(path, rows(20_000, 256, "mapped").numpy())
    points = tensors.from_array(np.load(path, mmap_mode="r"))
    float(points.sum())
    tensors.give_back(points[5000:15_000:2])
    assert 5 < resident(path) < 11  # the system may take a little more, 2 MiB at either end


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_nothing_is_lost_by_giving_back(tmp_path, mode):
    """Neither what a file holds nor what was written to a map of it, copied on writing or not."""
    np.save(tmp_path / "points.npy", np.ones((3000, 8)))
    mapped = np.load(tmp_path / "points.npy", mmap_mode=mode)
    points, expected = tensors.from_array(mapped), torch.ones(3000, 8, dtype=torch.float64)
    if mode != "r":
        points[1000:2000] = expected[1000:2000] = 2
    elsewhere = points.clone()
    for x in (points, points[500:], elsewhere):
        tensors.give_back(x)
        assert torch.equal(points, expected)
    assert torch.equal(elsewhere, expected)
    assert tensors.extent(points) == (1.0, 1.0 if mode == "r" else 2.0)


def test_a_file_is_forgotten_with_its_array(tmp_path):
    np.save(tmp_path / "points.npy", np.ones(5))
    before = len(tensors._files)
    points = tensors.from_array(np.load(tmp_path / "points.npy", mmap_mode="r"))
    assert len(tensors._files) == before + 1
    del points
    assert len(tensors._files) == before
