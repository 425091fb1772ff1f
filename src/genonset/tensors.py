"""Shapes of the tensors that cross room borders, the check that they are finite, and one product.

The product of two sets of rows is where exact denoisers, nearest neighbours and sums over pairs
spend their time,

    (1)  (a b^T)_ij = sum_k a_ik b_jk  (+ bias_j)

MKL, which torch's matmul calls, leaves half of an AMD processor's AVX-512 units unused; oneDNN,
which torch brings along, does not. Both compute float32 products of float32 numbers and their sum
in some order, so that with unit roundoff u either errs by at most

    (2)  gamma sum_k |a_ik b_jk|,    gamma = K u / (1 - K u),    K terms (Higham 2002, (3.5))

Their last bits differ. Which of the two is used depends on the processor and on the arguments
alone, never on a timing: the same machine gives the same bits in every process.

A set may lie in a file that is mapped into memory. The pages that were read of it count as memory
of this process until it gives them back, `give_back`, which takes nothing from the file or from
the system's cache of it: whoever goes through such a set in parts never holds all of it.
"""

import functools
import mmap
import warnings
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from genonset.errors import DataError

Samples = Float[Tensor, "_ *shape"]
"""n data points, each of the source's shape."""

Vectors = Float[Tensor, "_ d"]
"""n data points flattened to d coordinates."""

Times = Float[Tensor, "*times"]
"""Diffusion times; 0 is clean."""

Scalar = Float[Tensor, ""]

_SMALL = 1 << 23  # multiplications: below, the way to oneDNN costs what it saves


def require_finite(name: str, values: Tensor) -> Tensor:
    """Return `values` unchanged, or say how many of them are NaN or infinite.

    Raises:
        DataError: if any value is not finite.
    """
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        rows = (~finite).reshape(len(values), -1).any(1) if values.ndim else None
        where = "" if rows is None else f", the first in row {int(rows.int().argmax())}"
        where += " (counting from 0)" if where else ""
        raise DataError(
            f"{name}: {bad} of {values.numel()} values are NaN or infinite{where}. "
            "Only finite numbers are accepted; remove or repair these rows."
        )
    return values


def flatten(samples: Tensor) -> Vectors:
    """Data points of any shape as rows of float64 coordinates."""
    return samples.reshape(len(samples), -1).to(torch.float64)


def short(dtype: torch.dtype) -> str:
    """The name of a number type."""
    return str(dtype).removeprefix("torch.")


def from_array(values: np.ndarray) -> Tensor:
    """The numbers of an array, where they are if the machine's own layout allows, else copied.

    A read-only array, such as a file mapped into memory, gives a tensor that must not be written
    to.
    """
    _remember_file(values)
    native = np.float64 if values.itemsize > 8 else values.dtype.newbyteorder("=")
    with warnings.catch_warnings():  # that a tensor could be written to: this one is not
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(np.require(values, native, ["C", "A"]))


_files: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()  # by their first address


def _remember_file(values: np.ndarray | None) -> None:
    """The file behind an array, if it is mapped such that its pages can be read again as they are.

    Pages that are copied on writing cannot: what was written would be lost.
    """
    while values is not None and not isinstance(values, np.memmap):
        values = values.base if isinstance(values.base, np.ndarray) else None
    if values is not None and values.mode in ("r", "r+") and hasattr(mmap, "MADV_DONTNEED"):
        # numpy documents no other way to the map, and its stubs leave this one out
        file: mmap.mmap = values._mmap  # pyright: ignore[reportAttributeAccessIssue]
        _files[np.frombuffer(file, np.uint8).ctypes.data] = file


def _place(x: Tensor) -> tuple[mmap.mmap, int] | None:
    """The mapped file that a tensor lies in, and where in it."""
    for address, file in list(_files.items()):
        if address <= x.data_ptr() < address + len(file):
            return file, x.data_ptr() - address
    return None


def give_back(x: Tensor) -> None:
    """Let the system have the memory of a tensor that lies in a mapped file; it is read again when
    it is used again. Nothing happens to any other tensor."""
    place = _place(x) if x.numel() else None
    if place:
        file, first = place
        start = first // mmap.PAGESIZE * mmap.PAGESIZE
        steps = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
        file.madvise(mmap.MADV_DONTNEED, start, first - start + (1 + steps) * x.itemsize)


def taken(x: Tensor, index: Tensor) -> Tensor:
    """x[index], rows in any order: of a mapped file in the order of the file, a part at a time.

    Where the system holds a file in pages of 2 MiB a row brings in as much.
    """
    if not _place(x):
        return x.index_select(0, index)
    rows = x.new_empty(len(index), *x.shape[1:])
    for some in index.argsort().split(128):
        rows[some] = x.index_select(0, index[some])
        give_back(x)
    return rows


def parts(x: Tensor, size: int) -> Iterator[Tensor]:
    """x, `size` rows at a time, each given back when the next is asked for."""
    for part in x.split(max(1, size)):
        yield part
        give_back(part)


def extent(x: Tensor) -> tuple[float, float]:
    """The least and the largest number of x; NaN if any is."""
    rows = x.reshape(len(x), -1)
    ends = [part.aminmax() for part in parts(rows, (1 << 22) // max(1, rows.shape[1]))]
    low, high = (torch.stack(end) for end in zip(*ends, strict=True))
    return float(low.min()), float(high.max())


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b^T + bias, equation (1): rows by rows, in the dtype of the rows; differentiable.

    Large float32 products run in oneDNN where the processor has AVX-512, all others in torch's
    matmul. Either is at least as exact as (2) says, unless torch has been told to be less precise
    with float32, as autocast does.

    Args:
        a: shape (m, K), any strides.
        b: shape (n, K), of the same dtype.
        bias: shape (n,), or none.

    Returns:
        shape (m, n).
    """
    given = (a, b) if bias is None else (a, b, bias)
    large = len(a) * b.numel() >= _SMALL and len(a) > 0
    if not (large and _fast_onednn() and all(map(_plain, given))):
        return a @ b.T if bias is None else torch.addmm(bias, a, b.T)
    return _Product.apply(a, b, bias)


def _plain(x: Tensor) -> bool:
    """Whether x holds float32 numbers of this processor, as they are to be multiplied.

    A derivative forward, unlike one backward, is torch's own affair.
    """
    kind = x.dtype == torch.float32 and x.device.type == "cpu" and x.layout == torch.strided
    return kind and not torch.is_autocast_enabled("cpu") and unpack_dual(x).tangent is None


class _Product(torch.autograd.Function):
    """The product in oneDNN with its gradients, two products more."""

    @staticmethod
    def forward(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        return _by_onednn(a, b, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor):
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        (slope,), (a, b), wanted = slopes, ctx.saved_tensors, ctx.needs_input_grad
        return (
            product(slope, b.T) if wanted[0] else None,
            product(slope.T, a.T) if wanted[1] else None,
            slope.sum(0) if wanted[2] else None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Tensor | None):
        """Many products at once are torch's own affair too."""
        a, b, bias = (
            x if x is None else x[None] if dim is None else x.movedim(dim, 0)
            for x, dim in zip(given, in_dims, strict=True)
        )
        assert a is not None
        assert b is not None
        many = a @ b.mT
        return (many if bias is None else many + bias[:, None]), 0


def _dense(x: Tensor) -> Tensor:
    """x, copied unless its rows or its columns lie one after the other: oneDNN is handed bare
    memory, and reads other strides wrongly."""
    return x if x.is_contiguous() or x.T.is_contiguous() else x.contiguous()


def _by_onednn(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    bias = None if bias is None else bias.contiguous()
    return torch.ops.mkldnn._linear_pointwise(_dense(a), _dense(b), bias, "none", [], "")


@functools.cache
def _fast_onednn() -> bool:
    """Whether this torch reaches oneDNN with plain tensors, and on this processor it pays."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    a, b = torch.arange(12.0).view(3, 4), torch.arange(8.0).view(2, 4)
    try:
        return torch.equal(_by_onednn(a, b, b[:, 0]), a @ b.T + b[:, 0])
    except (AttributeError, RuntimeError):  # another build or release of torch
        return False
