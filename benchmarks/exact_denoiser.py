"""The exact denoiser of n points: speed against the matrix product, and memory.

    python benchmarks/exact_denoiser.py [--quick] [--threads 1]

A posterior mean takes two products, rows by points and weights by points, 4 d operations a pair,
and an exponential a pair between them. The table counts those operations against two peaks of the
same type: torch's matmul, and `tensors.product`, which float32 goes through. A peak is the faster
of a whole product, 2048 x d x 2048, and of one of the size of a tile, measured in the same run,
turn about. The lines before it run n = 100,000 points of d = 3072 in float32 and say how far the
peak of resident memory, making the points included, lies above their own size: n x batch x d
numbers would take 73 GiB.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable

import torch

from genonset import seeds, sources
from genonset.sources import Empirical
from genonset.tensors import product


def normal(n: int, d: int, dtype: torch.dtype, name: str) -> torch.Tensor:
    return torch.randn(n, d, dtype=dtype, generator=seeds.generator(0, name))


def seconds(call: Callable[[], object]) -> float:
    """CPU time of this process: what else runs on the machine counts less."""
    start = time.process_time()
    call()
    return time.process_time() - start


def resident() -> float:
    """The process's peak resident memory so far, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a @ b.T


def peak(multiply: Callable[..., torch.Tensor], m: int, d: int, n: int, dtype: torch.dtype):
    """A call that says at how many GFLOP/s an m x d by d x n product ran."""
    a, b = normal(m, d, dtype, "a"), normal(n, d, dtype, "b")
    calls = max(1, 2**24 // (m * n))

    def rate() -> float:
        return (
            2 * m * d * n * calls / seconds(lambda: [multiply(a, b) for _ in range(calls)]) / 1e9
        )

    return rate


def speed(n: int, d: int, batch: int, dtype: torch.dtype, repeats: int) -> None:
    source, x_t = Empirical(normal(n, d, dtype, "points")), normal(batch, d, dtype, "rows")
    shapes = ((2048, d, 2048), (sources._ROWS, d, sources._COLUMNS))
    peaks = [[peak(multiply, *shape, dtype) for shape in shapes] for multiply in (matmul, product)]
    times, rates = [], []
    for _ in range(repeats):
        times.append(seconds(lambda: source.posterior_mean(x_t, 0.6, 0.8)))
        rates.append([max(rate() for rate in kind) for kind in peaks])
    rate = 4 * d * n * batch / min(times) / 1e9
    of_torch, of_ours = (max(column) for column in zip(*rates, strict=True))
    kind = str(dtype).removeprefix("torch.")
    print(f"{kind:>8} {n:7d} {d:5d} {batch:6d} {min(times):8.3f} {rate:8.1f} {of_torch:7.1f} "
          f"{rate / of_torch:6.2f} {of_ours:8.1f} {rate / of_ours:6.2f}")  # fmt: skip


def memory(n: int, d: int, batch: int) -> None:
    size = 4 * n * d / 2**20
    print(f"\nn = {n}, d = {d}, float32, batch {batch}; points {size:.0f} MiB")
    before = resident()
    source = Empirical(normal(n, d, torch.float32, "points"))
    x_t = 0.6 * source.points[:batch] + 0.8 * normal(batch, d, torch.float32, "rows")
    for alpha, sigma, words in ((0.6, 0.4, "computed in float64"), (0.01, 40.0, "in float32")):
        t = seconds(lambda alpha=alpha, sigma=sigma: source.posterior_mean(x_t, alpha, sigma))
        rise = resident() - before - size
        print(f"sigma = {sigma:4}: {t:6.1f} s, peak {rise:.0f} MiB above the points ({words})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of exact posterior means.")
    parser.add_argument("--quick", action="store_true", help="smaller sets, a few seconds in all")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s), CPU seconds")
    memory(*((5_000, 768, 64) if options.quick else (100_000, 3072, 64)))
    print(f"\n{'dtype':>8} {'n':>7} {'d':>5} {'batch':>6} {'seconds':>8} {'GFLOP/s':>8} "
          f"{'matmul':>7} {'ratio':>6} {'product':>8} {'ratio':>6}")  # fmt: skip
    repeats = 3 if options.quick else 7
    for dtype in (torch.float64, torch.float32):
        for n, d in ((10_000, 784),) if options.quick else ((10_000, 64), (10_000, 784)):
            speed(n, d, 1024, dtype, repeats)


if __name__ == "__main__":
    main()
