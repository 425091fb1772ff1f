"""The sum over pairs behind the kernel metric: speed against the matrix product, growth, memory.

    python benchmarks/pair_sums.py [--quick] [--threads 1]

The first table compares `log_pair_sum` of one set, pairs k < l, with torch's own float64 product.
Both count 2 d operations a pair that was evaluated, so the ratio is what the exponential, the sum
and the blocks leave of the peak. The peak is the faster of a whole product, 4096 x d x 4096, and
of one of the size of a block, 256 x d x 1024, measured in the same run, turn about.
"""

import argparse
import math
import resource
import sys
import time
from collections.abc import Callable

import torch

from genonset import distances, seeds
from genonset.distances import log_pair_sum

ROWS, COLUMNS = distances._ROWS, distances._COLUMNS
DIMS = (16, 100, 512, 1024)


def points(n: int, d: int) -> torch.Tensor:
    """n normal points in units of sqrt(2) times the paper's width, as a self overlap has them."""
    x = torch.randn(n, d, dtype=torch.float64, generator=seeds.generator(0, "points"))
    return x / (math.sqrt(2) * n ** (-1 / d))


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def pairs_evaluated(n: int) -> int:
    """Pairs in the blocks of the upper triangle, the lower halves on the diagonal included."""
    return sum(min(ROWS, n - i) * (n - i) for i in range(0, n, ROWS))


def matmul(m: int, d: int, n: int) -> Callable[[], torch.Tensor]:
    """One product of m x d by d x n into a buffer of its own."""
    a, b = torch.rand(m, d, dtype=torch.float64), torch.rand(n, d, dtype=torch.float64)
    out = torch.empty(m, n, dtype=torch.float64)
    return lambda: torch.mm(a, b.T, out=out)


def peak_memory() -> float:
    """The process's peak resident memory so far, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def memory(sizes: list[int]) -> None:
    log_pair_sum(points(2 * COLUMNS, 16))
    print("\npeak resident memory, d = 16, above that of a small sum")
    print(f"{'N':>8} {'seconds':>9} {'data MiB':>9} {'peak MiB':>9} {'all pairs would take':>21}")
    start = peak_memory()
    for n in sizes:
        x = points(n, 16)
        t = seconds(lambda x=x: log_pair_sum(x))
        data, whole = x.numel() * 8 / 2**20, n**2 * 8 / 2**20
        print(f"{n:8d} {t:9.2f} {data:9.1f} {peak_memory() - start:9.1f} {whole:17,.0f} MiB")


def speed(sizes: dict[int, int], repeats: int) -> None:
    print("\none set, pairs k < l")
    print(f"{'d':>5} {'N':>6} {'seconds':>8} {'GFLOP/s':>8} {'matmul':>7} {'ratio':>6}")
    for d, n in sizes.items():
        x, whole, block = points(n, d), matmul(4096, d, 4096), matmul(ROWS, d, COLUMNS)
        calls = max(1, 2**27 // (ROWS * COLUMNS * d))
        ours, peak = math.inf, 0.0
        for _ in range(repeats):
            ours = min(ours, seconds(lambda x=x: log_pair_sum(x)))
            peak = max(peak, 2 * d * 4096**2 / seconds(whole) / 1e9)
            run = seconds(lambda block=block, calls=calls: [block() for _ in range(calls)])
            peak = max(peak, 2 * d * ROWS * COLUMNS * calls / run / 1e9)
        rate = 2 * d * pairs_evaluated(n) / ours / 1e9
        print(f"{d:5d} {n:6d} {ours:8.3f} {rate:8.1f} {peak:7.1f} {rate / peak:6.2f}")


def growth(sizes: list[int]) -> None:
    print("\ngrowth with N, d = 16: ns a pair stays, seconds go with N²")
    print(f"{'N':>8} {'seconds':>9} {'ns a pair k < l':>16}")
    for n in sizes:
        x = points(n, 16)
        t = min(seconds(lambda x=x: log_pair_sum(x)) for _ in range(2))
        print(f"{n:8d} {t:9.3f} {2e9 * t / (n * (n - 1)):16.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of log_pair_sum.")
    parser.add_argument("--quick", action="store_true", help="smaller sets, a few seconds in all")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, float64, {options.threads} thread(s)")
    quick = options.quick
    memory([10_000, 20_000] if quick else [10_000, 30_000, 100_000])
    sizes = (4_000, 4_000, 2_000, 2_000) if quick else (10_000, 10_000, 6_000, 6_000)
    speed(dict(zip(DIMS, sizes, strict=True)), repeats=3 if quick else 7)
    growth([5_000, 10_000, 20_000] if quick else [10_000, 20_000, 40_000])


if __name__ == "__main__":
    main()
