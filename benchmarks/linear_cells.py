"""Cost of the linear experiment at d = 100, beside the published arithmetic transcribed directly.

    python benchmarks/linear_cells.py            one cell, and a cell of the grid, against the peer
    python benchmarks/linear_cells.py --grid     the whole grid: 4 sizes, 300 replicates, 2 workers

The peer evaluates the same two errors as the published script does, redundancies included: for
chunks of 25 x 25 points the squared differences, twice, and for every point the covariance from
its factor and the inverse. CPU seconds, one thread, all in one run.
"""

import argparse
import math
import resource
import tempfile
import time

import torch

from genonset.experiment import draw_points, resolve, run_cell
from genonset.noise import OrnsteinUhlenbeck
from genonset.published import PublishedArithmetic
from genonset.seeds import generator
from genonset.spec import reproduction
from genonset.store import Store
from genonset.sweep import WorkerPool, run_sweep

SIZES = (25, 50, 75, 100)
CHUNK = 25


def published_error(mu: torch.Tensor, factor: torch.Tensor, data: torch.Tensor) -> float:
    """E_XG as the script evaluates it; the law is N(mu, factor factor^T)."""
    n, d = data.shape
    single_precision = data.float()
    eps = torch.tensor((1 / n) ** (1 / d))
    pairs = torch.tensor(0.0)
    for i in range(0, n, CHUNK):
        rows = single_precision[i : i + CHUNK, None]
        for j in range(0, n, CHUNK):
            columns = single_precision[None, j : j + CHUNK]
            for _ in range(2):  # the script forms them once more than it uses
                squares = (rows - columns) ** 2
            pairs += torch.exp(-squares.sum(2) / (4 * eps**2)).sum()
    single = torch.tensor(0.0)
    for x in data:
        inverse = torch.linalg.inv(factor @ factor.T + eps**2 * torch.eye(d))
        single += torch.exp(-0.5 * (mu - x) @ inverse @ (mu - x))
    determinant = torch.linalg.det(factor @ factor.T + eps**2 * torch.eye(d))
    own = pairs / (math.sqrt(2 * math.pi) * (2 * eps**2) ** (d / 2) * n**2)
    return float(own - 2 * single / (n * torch.sqrt(2 * math.pi * determinant)))


def cpu_seconds(call) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def corrected(replicates: int, original: str = "drawn"):
    sweep = reproduction("linear-d100", variant="corrected", n=SIZES, replicates=replicates)
    options = sweep.model_dump(mode="json", exclude_none=True)
    options["criteria"] = ["kernel_l2", "hellinger_squared", "affinity_rate"]
    options["original"] = original
    return resolve(type(sweep).from_options(options))


def compare(replicates: int) -> None:
    torch.set_num_threads(1)
    cells = [cell for _, cell in corrected(replicates).cells()]
    run_cell(cells[0])  # warm-up
    points = draw_points(cells[-1])
    law = PublishedArithmetic().fit(
        points.training, OrnsteinUhlenbeck(horizon=2.0, noise_scale=math.exp(-4)),
        generator=generator(0),
    ).law  # fmt: skip
    factor = law.eigenvectors * law.eigenvalues.sqrt()

    def peer() -> None:
        for rows in (points.training, points.original):
            published_error(law.mean, factor, rows)

    alone = min(cpu_seconds(lambda: run_cell(cells[-1])) for _ in range(3))
    *_, (_, in_expectation) = corrected(replicates, "expected").cells()
    expected = min(cpu_seconds(lambda: run_cell(in_expectation)) for _ in range(3))

    def grid() -> None:
        common: dict[str, dict[str, float]] = {}
        for cell in cells:
            found = run_cell(cell, common.get(cell.common_key))
            common.setdefault(cell.common_key, found.common)

    in_grid = cpu_seconds(grid) / len(cells)
    transcription = cpu_seconds(peer)
    print(f"{'d = 100, N = 10000, n = 100':36}{'CPU seconds':>14}{'times cheaper':>16}")
    for name, seconds in (
        ("published arithmetic, transcribed", transcription),
        ("one cell alone", alone),
        ("a cell of the grid", in_grid),
        ("a cell, expectation over originals", expected),
    ):
        print(f"{name:36}{seconds:14.3f}{transcription / seconds:16.1f}")


def whole_grid(replicates: int, workers: int) -> None:
    sweep = corrected(replicates)
    pool = WorkerPool(workers)
    with tempfile.TemporaryDirectory() as folder, Store(f"{folder}/run", sweep) as store:
        started = time.monotonic()
        progress = run_sweep(sweep, store, executor=pool)
        seconds = time.monotonic() - started
    pool.executor.shutdown(wait=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{progress.done} cells, {progress.failed} failed, {workers} workers: {seconds:.0f} s "
        f"of wall time, peak memory {peak:.0f} MiB a worker"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--replicates", type=int)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.grid:
        whole_grid(options.replicates or 300, options.workers)
    else:
        compare(options.replicates or 10)
