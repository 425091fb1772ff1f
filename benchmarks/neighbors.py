"""Exact search against faiss's flat index and torch's own products, side by side in one run.

    python benchmarks/neighbors.py [--queries 10000] [--points 50000] [--dim 512] [-k 32]
        [--threads 1 2] [--repeat 3]

Seconds are of the processor with one thread and of the wall with more, the least of the repeats,
which go turn about. Faiss is optional (pip install faiss-cpu).
"""

import argparse
import time

import torch
from threadpoolctl import threadpool_info

from genonset import neighbors, seeds, tensors

try:
    import faiss
except ImportError:
    faiss = None


def ours(queries, points, k, fast):
    """A search with the bfloat16 bound or without."""
    capable = neighbors._fast_bfloat16
    neighbors._fast_bfloat16 = lambda: fast and capable()
    try:
        return neighbors.nearest(queries, points, k)
    finally:
        neighbors._fast_bfloat16 = capable


def product(queries, points, dtype):
    """The product that all searches need at least, in tiles that stay in cache."""
    queries, points = queries.to(dtype), points.to(dtype)
    for p in points.split(2048):
        for q in queries.split(1024):
            tensors.product(q, p)


def kernels():
    """What the products are computed by."""
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    if faiss:
        print(f"faiss {faiss.__version__}, {faiss.get_compile_options().strip()}")
    for pool in threadpool_info():
        kernel = pool.get("architecture", "")
        print(f"  {pool['internal_api']} {pool['version'] or ''} {kernel}  {pool['prefix']}")
    print(f"bfloat16 product with float32 sums: {neighbors._fast_bfloat16()}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("--queries", 10_000), ("--points", 50_000), ("--dim", 512)):
        parser.add_argument(name, type=int, default=value)
    parser.add_argument("-k", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    queries, points = (
        torch.randn(n, args.dim, generator=seeds.generator(0, name))
        for name, n in (("queries", args.queries), ("points", args.points))
    )
    ways = {
        "ours": lambda: ours(queries, points, args.k, True),
        "ours, no bfloat16": lambda: ours(queries, points, args.k, False),
        "product, bfloat16": lambda: product(queries, points, torch.bfloat16),
        "product, float32": lambda: product(queries, points, torch.float32),
    }
    if faiss:
        index = faiss.IndexFlatL2(args.dim)
        index.add(points.numpy())
        ways["faiss flat"] = lambda: index.search(queries.numpy(), args.k)
    kernels()
    print(f"{args.queries} x {args.points} x {args.dim} float32, k = {args.k}\n")
    print("| threads | search | seconds | GFLOP/s | faiss / this | agrees with ours |")
    print("|---" * 6 + "|")
    for threads in args.threads:
        torch.set_num_threads(threads)
        if faiss:
            faiss.omp_set_num_threads(threads)
        clock = time.process_time if threads == 1 else time.perf_counter
        best, found = dict.fromkeys(ways, float("inf")), {}
        for _ in range(args.repeat):
            for name, way in ways.items():
                start = clock()
                found[name] = way()
                best[name] = min(best[name], clock() - start)
        exact = found["ours"]
        for name, seconds in best.items():
            ratio = f"{best['faiss flat'] / seconds:.2f}" if faiss else ""
            same = ""
            if name == "ours, no bfloat16":
                pairs = zip(exact, found[name], strict=True)
                same = "yes" if all(torch.equal(a, b) for a, b in pairs) else "NO"
            if name == "faiss flat":
                same = f"{(torch.from_numpy(found[name][1]) == exact[1]).double().mean():.6f}"
            rate = 2e-9 * args.queries * args.points * args.dim / seconds
            print(f"| {threads} | {name} | {seconds:.2f} | {rate:.0f} | {ratio} | {same} |")


if __name__ == "__main__":
    main()
