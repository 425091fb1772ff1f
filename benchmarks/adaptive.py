"""Cells that an adaptive sweep needs for a wished precision of n*, beside fixed grids.

    python benchmarks/adaptive.py                      the paper's delta at d = 16 and 36
    python benchmarks/adaptive.py --statistic held_out --dims 16 --precision 0.5
    python benchmarks/adaptive.py --statistic logistic             a known curve, sign and size

The replicates are those of the linear one-step model: `--replicates` real cells a size, computed
here in batches (the arithmetic of `run_cell`, checked against it at the start), from which both
designs draw. n* of such a law is read off all of them by a smooth curve. The fixed grids are the
paper's 15 sizes (d = 16) and 11 log-spaced ones; each takes the fewest replicates with which half
of its intervals, by the library's own estimate, are as narrow as wished. Both must cover n*.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable

import numpy as np
import torch

from genonset.adaptive import Course
from genonset.criteria import criterion_onset
from genonset.experiment import draw_points, resolve, run_cell
from genonset.onset import Onset, estimate_onset
from genonset.seeds import generator
from genonset.spec import Sweep

HORIZON, NOISE_SCALE, N_ORIGINAL = 2.0, math.exp(-4), 10_000
PAPER = {16: (4, 8, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64, 80, 160)}
ENDS = {16: (8, 160), 36: (12, 360)}
WIDE = {16: (8, 512), 36: (16, 1600)}
REPLICATES = (3, 4, 6, 8, 11, 15, 21, 30, 42, 60, 85, 120, 170, 240)
Draw = Callable[[int, np.random.Generator], float]


def log_ratios(training: torch.Tensor, held_out: torch.Tensor, noise: torch.Tensor):
    """D of delta_held_out and of delta, for a batch of cells of the linear one-step model."""
    n, d = training.shape[1:]
    a = math.exp(-HORIZON)
    b = math.sqrt(NOISE_SCALE * (1 - a**2))
    mean = training.mean(1, keepdim=True)
    x_t = a * (training - mean) + b * noise
    at = x_t.mean(1, keepdim=True)
    if n > d:
        t, x = x_t - at, training - mean
        slope = torch.linalg.solve(t.mT @ t, t.mT @ x).mT
    else:
        slope = (torch.linalg.pinv(x_t - at) @ (training - mean)).mT
    mu = mean[:, 0] - (slope @ at.mT)[..., 0]
    start = a**2 * training.var(1).mean(1) + b**2
    w, axes = torch.linalg.eigh(start[:, None, None] * slope @ slope.mT)

    def density(points: torch.Tensor, extra: float) -> torch.Tensor:
        variances = w.clamp(min=0) + extra
        squares = (((points - mu[:, None]) @ axes) ** 2 / variances[:, None]).sum(2)
        logs = -(squares + torch.log(2 * math.pi * variances).sum(1)[:, None]) / 2
        return torch.logsumexp(logs, 1) - math.log(points.shape[1])

    def off(points: torch.Tensor, variance: float) -> torch.Tensor:
        logs = -(torch.cdist(points, points, compute_mode="use_mm_for_euclid_dist") ** 2)
        logs = logs / (4 * variance)
        logs.diagonal(dim1=1, dim2=2).fill_(-math.inf)
        sums = torch.logsumexp(logs.flatten(1), 1) - 2 * math.log(n)
        return sums - d / 2 * math.log(4 * math.pi * variance)

    def log_ratio(off_t, cross_t, off_o, cross_o) -> np.ndarray:
        twice = math.log(2)
        top, bottom = (
            torch.logaddexp(off_o, cross_t + twice),
            torch.logaddexp(off_t, cross_o + twice),
        )
        return (top - bottom).numpy()

    narrow, wide = n ** (-2 / d), N_ORIGINAL ** (-2 / d)
    off_t, cross_t = off(training, narrow), density(training, narrow)
    matched = log_ratio(off_t, cross_t, off(held_out, narrow), density(held_out, narrow))
    pairs = math.log1p(-1 / N_ORIGINAL) - d / 2 * math.log(4 * math.pi * (1 + wide))
    expected = density(torch.zeros(len(mu), 1, d, dtype=torch.float64), 1 + wide)
    return matched, log_ratio(off_t, cross_t, torch.full_like(off_t, pairs), expected)


def spec(dim: int, n: object, **options: object) -> Sweep:
    table = {
        "name": "linear", "original": "expected", "criteria": ["kernel_l2"], "n": n,
        "source": {"kind": "gaussian", "dim": dim},
        "model": {"kind": "linear_one_step", "start": "scalar",
                  "noise": {"horizon": HORIZON, "noise_scale": NOISE_SCALE}},
    }  # fmt: skip
    return resolve(Sweep.from_options(table | options))


def check(dim: int) -> None:
    """The batched arithmetic gives the numbers of real cells."""
    for _, cell in spec(dim, [dim // 2, 3 * dim], replicates=2).cells():
        values, points = run_cell(cell).values["model"], draw_points(cell)
        noise = generator(cell.seed, "training noise", cell.replicate, cell.n)
        eps = torch.randn(cell.n, dim, dtype=torch.float64, generator=noise)
        found = log_ratios(points.training[None], points.held_out[None], eps[None])
        names = ("delta_held_out_log_ratio", "delta_log_ratio")
        for name, (value,) in zip(names, found, strict=True):
            assert math.isclose(values[name], value, rel_tol=1e-5, abs_tol=1e-7), (name, cell.n)


def pool(dim: int, sizes: list[int], replicates: int, which: str) -> dict[int, np.ndarray]:
    """Real replicates of D at every size."""
    table, draws = {}, generator(1, "benchmark", dim)
    for n in sizes:
        rows = []
        for start in range(0, replicates, block := max(1, 2_000_000 // max(n * n, 4 * n * dim))):
            shape = (3, min(block, replicates - start), n, dim)
            rows.append(log_ratios(*torch.randn(shape, dtype=torch.float64, generator=draws)))
        table[n] = np.concatenate([row[which == "delta"] for row in rows])
    return table


def true_onset(table: dict[int, np.ndarray], quantile: float, reach: float) -> float:
    """Where a cubic through the quantiles of all replicates falls through 0.

    `reach`, in ln n, is over which sizes it goes: few where the curve is steep, since near n = d
    it bends within a third of a nat.
    """
    sizes = np.array(sorted(table))
    x, y = np.log(sizes), np.array([np.quantile(table[n], quantile) for n in sizes])
    centre = x[np.flatnonzero(np.convolve(y, np.ones(3) / 3, "same")[:-1] > 0)[-1]]
    for _ in range(3):
        near = np.abs(x - centre) < reach
        roots = np.polynomial.Polynomial.fit(x[near], y[near], 3).roots()
        real = [r.real for r in roots if abs(r.imag) < 1e-9]
        centre = min(real, key=lambda r: abs(r - centre))
    return math.exp(centre)


def adaptive(sweep: Sweep, name: str, draw: Draw, seed: int) -> tuple[int, str, Onset]:
    """A whole adaptive sweep by the library's own sequence, its cells drawn instead of run."""
    course, values, rng = Course(sweep, {}), {}, np.random.default_rng(seed)
    while cells := course.advance(values):
        for cell in cells:
            d = draw(cell.n, rng)
            values[cell.key] = {"model": {name: -d, f"{name}_log_ratio": d}}
    return len(course.cells), str(course.reason), course.onset(name, values)


def grid(
    sizes: tuple[int, ...], rows: int, name: str, draw: Draw, seed: int, *, signs: bool
) -> Onset:
    """n* by a fixed grid: by the size of D, as the library does, or by its sign, as the paper."""
    rng = np.random.default_rng(seed)
    d = np.array([[draw(n, rng) for n in sizes] for _ in range(rows)])
    if signs:
        ceiling = 0.5 if name == "delta_held_out" else 1.0
        return estimate_onset(sizes, (d < 0).sum(0), rows, ceiling=ceiling)
    return criterion_onset(name, sizes, {"model": -d, "log_ratio": d})


def half_width(onset: Onset) -> float:
    """sqrt(high/low) - 1, infinite where an end is open."""
    if onset.onset is None or onset.low is None or onset.high is None:
        return math.inf
    return math.sqrt(onset.high / onset.low) - 1


def covers(onset: Onset, n: float) -> bool:
    return (onset.low or 0.0) <= n <= (onset.high or math.inf)


def line(what: str, cells: float, found: list[Onset], n: float) -> None:
    widths = [half_width(o) for o in found]
    errors = [math.log(o.onset / n) for o in found if o.onset is not None]
    covered = sum(covers(o, n) for o in found)
    rmse = math.sqrt(np.mean(np.square(errors))) if errors else math.nan
    print(
        f"  {what:38}{cells:6.0f} cells   half-width {np.median(widths):6.2f}   rmse of ln n* "
        f"{rmse:5.3f}   covered {covered} of {len(found)}",
        flush=True,
    )


def compare(
    title: str, name: str, dim: int, low: int, high: int, draw: Draw, n: float,
    grids: dict[str, tuple[int, ...]], options: argparse.Namespace,
) -> None:  # fmt: skip
    started = time.process_time()
    table = {"kind": "adaptive", "low": low, "high": high, "precision": options.precision,
             "criterion": name, "budget": 8000, "batch": options.batch}  # fmt: skip
    sweep = spec(dim, table)
    print(f"{title}: n* = {n:.1f}, wished half-width {options.precision:g}")
    runs = [adaptive(sweep, name, draw, seed) for seed in range(options.sweeps)]
    cells = float(np.mean([run[0] for run in runs]))
    ended = sum(run[1] == "precision" for run in runs)
    line(f"adaptive ({ended} by precision)", cells, [run[2] for run in runs], n)
    designs = itertools.product(grids.items(), (False, True)) if options.grid_sweeps else ()
    for (label, sizes), signs in designs:
        by = "signs" if signs else "size of D"
        for rows in REPLICATES:
            few = [grid(sizes, rows, name, draw, seed, signs=signs)
                   for seed in range(options.grid_sweeps)]  # fmt: skip
            reached = np.median([half_width(o) for o in few]) <= options.precision
            if reached or rows == REPLICATES[-1]:
                line(f"{label} x {rows}, {by}", rows * len(sizes), few, n)
                ratio = rows * len(sizes) / cells
                print(f"  {'':38}{'' if reached else 'not reached; more than '}{ratio:.1f} times")
                break
    print(f"  {time.process_time() - started:.0f} CPU seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--statistic", choices=("delta", "held_out", "logistic"), default="delta")
    parser.add_argument("--dims", type=int, nargs="*", default=[16, 36])
    parser.add_argument("--precision", type=float, default=0.2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--sweeps", type=int, default=300)
    parser.add_argument("--grid-sweeps", type=int, default=60)
    parser.add_argument("--replicates", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.statistic == "logistic":
        for ceiling, name in ((1.0, "delta"), (0.5, "delta_held_out")):
            shift = math.log(2 / ceiling - 1)

            def draw(n: int, rng: np.random.Generator, shift: float = shift) -> float:
                return rng.logistic() - math.log(n / 60) / 0.4 + shift

            sizes = tuple(int(n) for n in np.round(np.geomspace(8, 800, 11)))
            compare(f"logistic, ceiling {ceiling:g}, w = 0.4", name, 16, 8, 800, draw, 60.0,
                    {"11 log-spaced sizes": sizes}, options)  # fmt: skip
        return
    name = "delta" if options.statistic == "delta" else "delta_held_out"
    for dim in options.dims:
        check(dim)
        low, high = (ENDS if name == "delta" else WIDE)[dim]
        table = {"kind": "adaptive", "low": low, "high": high}
        design = spec(dim, table).design
        assert design is not None
        chosen = np.unique(np.round(np.linspace(0, len(design.sizes) - 1, 11))).astype(int)
        grids = {"11 log-spaced sizes": tuple(design.sizes[i] for i in chosen)}
        if dim in PAPER:
            grids["the paper's 15 sizes"] = PAPER[dim]
        sizes = sorted({*design.sizes, *PAPER.get(dim, ())})
        real = pool(dim, sizes, options.replicates, options.statistic)

        def draw(n: int, rng: np.random.Generator, real: dict = real) -> float:
            return float(real[n][rng.integers(len(real[n]))])

        lattice = {n: real[n] for n in design.sizes}
        n_star = true_onset(lattice, *((0.5, 0.25) if name == "delta" else (0.25, 0.8)))
        compare(f"linear one-step model, d = {dim}, {name}", name, dim, low, high, draw, n_star,
                grids, options)  # fmt: skip


if __name__ == "__main__":
    main()
