"""What the published U-Net comparison measures: its arithmetic alone, and real networks.

    python benchmarks/unet_gaussian.py --arithmetic          known generators, 60 runs each: 3 min
    python benchmarks/unet_gaussian.py --networks FOLDER     networks, into a folder: 20 min
    python benchmarks/unet_gaussian.py --figure FOLDER PNG   the figure of docs/unet.md
    python benchmarks/unet_gaussian.py --metric              seconds of the per-coordinate metric

Times are those of one core. The folder keeps what was finished: a second call goes on.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

from genonset import distances
from genonset.criteria import Generated, Reference, Scene, evaluate
from genonset.distances import Smoothed
from genonset.experiment import resolve
from genonset.published import PublishedNetworkArithmetic
from genonset.seeds import generator
from genonset.sources import Gaussian
from genonset.spec import Sweep, reproduction
from genonset.store import Results, Store
from genonset.sweep import run_sweep

SOURCE = Gaussian(torch.zeros(64, dtype=torch.float64), 0.04)
SIZES, RUNS, N_ORIGINAL, N_GENERATED = (50, 300, 1050), 60, 10_000, 10
GENERATORS = {
    "exact copies": lambda x, g: x[torch.randint(len(x), (N_GENERATED,), generator=g)],
    "100 exact copies": lambda x, g: x[torch.randint(len(x), (100,), generator=g)],
    "perfect": lambda x, g: SOURCE.sample(N_GENERATED, generator=g),
    "uniform in [-1, 1]": lambda x, g: 2 * torch.rand(N_GENERATED, 64, generator=g).double() - 1,
    "ten times too wide": lambda x, g: 10 * SOURCE.sample(N_GENERATED, generator=g),
}


def deltas(name: str, n: int, run: int) -> dict[str, float]:
    """Delta as published, corrected, and corrected against a set of equal size."""
    draws = {
        role: SOURCE.sample(size, generator=generator(0, role, run, n))
        for role, size in (("training", n), ("held_out", n), ("original", N_ORIGINAL))
    }
    made = GENERATORS[name](draws["training"], generator(0, "samples", run, n))
    arithmetic = PublishedNetworkArithmetic()
    judged = arithmetic.judge(Generated(draw=lambda n, g: made))

    def scene(samples: torch.Tensor) -> Scene:
        references = {
            role: Reference(smoothed=Smoothed(points=rows, bandwidth=1.0), log_off=math.nan)
            for role, rows in draws.items()
        }
        return Scene(
            generated=judged, samples=samples, twin_samples=samples, **references,
            std=SOURCE.std, source=SOURCE, keep_self=False, seed=0,
        )  # fmt: skip

    training, original = arithmetic.errors(scene(judged.draw(N_GENERATED, generator(0))))
    plain = Scene(**{**vars(scene(made)), "generated": Generated(draw=lambda n, g: made)})
    corrected = evaluate(("coordinate_delta", "coordinate_delta_held_out"), plain)
    return {"published": training - original} | corrected


def arithmetic() -> None:
    print(f"P(Delta > 0) and mean Delta of {RUNS} runs, n = {SIZES}")
    for name in GENERATORS:
        found = {n: [deltas(name, n, run) for run in range(RUNS)] for n in SIZES}
        for kind in next(iter(found.values()))[0]:
            values = [torch.tensor([f[kind] for f in found[n]]) for n in SIZES]
            shares = "".join(f"{float((v > 0).double().mean()):8.2f}" for v in values)
            means = "".join(f"{float(v.mean()):9.3f}" for v in values)
            print(f"{name:20} {kind:28}{shares}   {means}", flush=True)


JOBS: dict[str, dict[str, Any]] = {
    "as-published": {"n": [50, 150, 250, 350, 550, 1050], "replicates": 3},
    "n50-10-epochs": {"n": [50], "replicates": 12, "seed": 1},
    "n1050-1-epoch": {"n": [1050], "replicates": 10, "seed": 1, "epochs": 1},
    "n50-80-epochs": {"n": [50], "replicates": 3, "seed": 1, "epochs": 80},
    "corrected-width-16": {"n": [50, 350, 1050], "replicates": 2, "width": 16},
}


def job(
    name: str, n: list[int], replicates: int, seed: int = 0, epochs: int = 10, width: int = 64
):
    """One of the cuts of the shipped experiment that were run for the page."""
    variant = "corrected" if width < 64 else "published"
    sweep = reproduction(
        "unet-gaussian", variant=variant, n=tuple(n), replicates=replicates, seed=seed
    )
    options = sweep.model_dump(mode="json", exclude_none=True) | {"name": name}
    if variant == "published":
        options["variants"][variant]["model.epochs"] = epochs
    else:
        options["model"]["width"] = width
    return resolve(Sweep.from_options(options))


def networks(folder: Path) -> None:
    for name, options in JOBS.items():
        sweep, started = job(name, **options), time.process_time()
        with Store(folder / name, sweep) as store:
            done = run_sweep(sweep, store)
        print(f"{name}: {done.done} cells, {time.process_time() - started:.0f} s")
        results = Results(folder / name)
        steps, delta, matched = (
            results.matrix(c) for c in ("n_steps", "coordinate_delta", "coordinate_delta_held_out")
        )
        for i, n in enumerate(sweep.n):
            print(
                f"  n = {n}, {steps[0, i]:.0f} steps: delta {delta[:, i].round(2)}, "
                f"held-out {matched[:, i].round(3)}"
            )


def figure(folder: Path, path: Path) -> None:
    found, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    looks = {"as-published": ("o", "n = 50 to 1050, 10 epochs"), "n50-10-epochs": ("o", None),
             "n1050-1-epoch": ("s", "n = 1050, 1 epoch"),
             "n50-80-epochs": ("^", "n = 50, 80 epochs")}  # fmt: skip
    colours = {"o": "C0", "s": "C1", "^": "C2"}
    for name, (marker, words) in looks.items():
        results = Results(folder / name)
        steps, values = (results.matrix(c).flatten() for c in ("n_steps", "coordinate_delta"))
        jitter = 1 + 0.03 * torch.linspace(-1, 1, len(steps)).numpy()
        left.plot(steps * jitter, values, marker, color=colours[marker], label=words, ms=4,
                  alpha=0.7)  # fmt: skip
    first = Results(folder / "as-published")
    for role, style, words in (
        ("memorizer", "--", "exact copies"),
        ("oracle", ":", "perfect generator"),
    ):
        left.axhline(first.matrix("coordinate_delta", role).mean(), color="k", ls=style, lw=1,
                     label=words)  # fmt: skip
    left.axhline(0, color="grey", lw=0.8)
    left.set(xscale="log", xlabel="gradient steps", ylabel="Δ as published",
             title="published: steps decide, not n", xticks=[8, 10, 20, 40, 80])  # fmt: skip
    left.set_xticks([8, 10, 20, 40, 80], ["8", "10", "20", "40", "80"])
    left.minorticks_off()
    left.legend(fontsize=8)
    corrected = Results(folder / "corrected-width-16")
    for k, (role, words) in enumerate(
        (("memorizer", "exact copies"), ("model", "U-Net, width 16"), ("oracle", "perfect"))
    ):
        table = corrected.matrix("coordinate_delta_held_out", role)
        for run, row in enumerate(table):
            right.plot(corrected.sweep.n, row, "os^"[k], color=["k", "C0", "C3"][k], ms=4,
                       label=None if run else words)  # fmt: skip
    right.axhline(0, color="grey", lw=0.8)
    right.set(xscale="log", xlabel="training points n", ylabel="Δ, size-matched",
              title="corrected: 1,000 steps at every n")  # fmt: skip
    right.set_yscale("symlog", linthresh=0.1)
    right.set_ylim(-6, 0.5)
    right.set_xticks(corrected.sweep.n, [str(n) for n in corrected.sweep.n])
    right.minorticks_off()
    right.legend(fontsize=8)
    found.savefig(path, dpi=150)


CHUNK = 500


def published_pairs(x: torch.Tensor, width: float, chunks: int) -> float:
    """Seconds of the script's sum over pairs of one set, from its first `chunks` row chunks."""
    rows, total = x.float(), torch.zeros(x.shape[1])
    started = time.process_time()
    for i in range(0, CHUNK * chunks, CHUNK):
        for j in range(0, len(rows), CHUNK):
            squares = (rows[i : i + CHUNK, None] - rows[None, j : j + CHUNK]) ** 2
            total += torch.exp(-squares / (4 * width**2)).sum((0, 1))
    return (time.process_time() - started) * len(rows) / (CHUNK * chunks)


def metric() -> None:
    x, y = (torch.randn(N_ORIGINAL, 64, generator=generator(i)).double() for i in range(2))
    for size in (N_GENERATED, N_ORIGINAL):
        seconds = []
        for _ in range(5):
            started = time.process_time()
            distances.coordinate_kernel_l2(x[:size], y, 1.0)
            seconds.append(time.process_time() - started)
        print(f"{size} against {N_ORIGINAL} points of 64 coordinates: {min(seconds):.3f} s")
    peer = published_pairs(y, 1 / N_ORIGINAL, chunks=1)
    print(f"published sum over the pairs of {N_ORIGINAL} points alone: {peer:.0f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("--arithmetic", action="store_true")
    parser.add_argument("--metric", action="store_true")
    parser.add_argument("--networks", type=Path)
    parser.add_argument("--figure", type=Path, nargs=2)
    asked = parser.parse_args()
    if asked.arithmetic:
        arithmetic()
    if asked.metric:
        metric()
    if asked.networks:
        networks(asked.networks)
    if asked.figure:
        figure(*asked.figure)
