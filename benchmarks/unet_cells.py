"""A whole cell of the U-Net experiment: the published arithmetic, and the cell of this package.

    python benchmarks/unet_cells.py [--n 100,1000] [--variants corrected,published]
        [--whole] [--repeats 1]

The published cell is written here as its script computes it on a CPU, one thread, without the
training loop's framework: the same network of 12,919,041 parameters in plain torch layers; ten
epochs of batches of 128 over nine tenths of the points, the validation tenth after each; the
cumulative noise of every image and step as a product over all steps before it; ten samples one at
a time through 200 steps; and per-pixel sums over all pairs of 10^4 originals in chunks of 500, a
loop over every original for every sample. Ours is `run_cell` on the shipped spec with the same
gradient steps and number of samples, all its criteria, both poles and the null included.

CPU seconds, turn about. Of the long published loops a share is timed (one sample of ten, one chunk
of rows of twenty) and multiplied; --whole runs all of it.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from genonset import networks
from genonset.experiment import draw_points, resolve, run_cell
from genonset.networks import UNet
from genonset.spec import Cell, Sweep, reproduction

N_ORIGINAL, N_GENERATED, STEPS, EPOCHS, BATCH, CHUNK = 10_000, 10, 200, 10, 128, 500


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


# -- as published -------------------------------------------------------------------------------


def plain_unet() -> UNet:
    """The network in torch's own layers."""
    network = UNet()
    for module in network.modules():
        if isinstance(module, networks.Conv2d):
            object.__setattr__(module, "__class__", nn.Conv2d)
    return network


def beta(t: float) -> float:
    return 1e-4 + t / STEPS * (0.02 - 1e-4)


def remaining(t: int) -> float:
    """alpha-bar, multiplied anew each time it is asked for."""
    return math.prod(1 - beta(j) for j in range(t))


def loss(network: UNet, batch: torch.Tensor) -> torch.Tensor:
    t = torch.randint(0, STEPS, (len(batch),))
    eps = torch.randn_like(batch)
    noisy = []
    for x, e, k in zip(batch, eps, t.tolist(), strict=True):
        a = remaining(k)
        noisy.append(math.sqrt(a) * x + math.sqrt(1 - a) * e)
    return F.mse_loss(network(torch.stack(noisy), t.float()), eps)


def published_training(network: UNet, images: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
    kept = int(0.9 * len(images))
    for _ in range(EPOCHS):
        for batch in images[torch.randperm(kept)].split(BATCH):
            value = loss(network, batch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        with torch.no_grad():
            for batch in images[kept:].split(BATCH):
                loss(network, batch)


@torch.no_grad()
def published_sample(network: UNet) -> torch.Tensor:
    x = torch.randn(1, 1, 8, 8)
    for t in range(STEPS, 0, -1):
        predicted = network(x, torch.full((1,), float(t)))
        z = torch.randn_like(x) if t > 1 else torch.zeros_like(x)
        part = beta(t) / math.sqrt(1 - remaining(t))
        x = (x - part * predicted) / math.sqrt(1 - beta(t)) + math.sqrt(beta(t)) * z
    return x.clamp(-1, 1)


def published_pairs(x: torch.Tensor, width: float, chunks: int) -> torch.Tensor:
    """Sums over the pairs of the first `chunks` chunks of rows with all rows."""
    size = max(k for k in range(1, CHUNK + 1) if len(x) % k == 0)
    total = torch.zeros(x.shape[1])
    for a in x.split(size)[:chunks]:
        for b in x.split(size):
            total += torch.exp(-((a[:, None] - b[None]) ** 2) / (4 * width**2)).sum((0, 1))
    return total


def published_cross(samples: torch.Tensor, x: torch.Tensor, variance: float) -> torch.Tensor:
    total = torch.zeros(x.shape[1])
    for g in samples:
        for row in x:
            total += torch.exp(-0.5 * (g - row) ** 2 / variance)
    return total


def published(n: int, whole: bool) -> dict[str, float]:
    """Seconds of the parts of one published cell."""
    torch.manual_seed(0)
    images = 0.2 * torch.randn(n, 1, 8, 8)
    original = 255 * (0.5 + 0.1 * torch.randn(N_ORIGINAL, 64))
    network = plain_unet()
    training = images[: int(0.9 * n)].flatten(1)
    found = {"training": seconds(lambda: published_training(network, images))}
    drawn = N_GENERATED if whole else 1
    samples: list[torch.Tensor] = []
    spent = seconds(lambda: samples.extend(published_sample(network) for _ in range(drawn)))
    found["sampling"] = spent * N_GENERATED / drawn
    chunks = N_ORIGINAL // CHUNK if whole else 1
    rows = (torch.cat(samples).flatten(1) + 1) / 2
    spent = seconds(lambda: published_pairs(original, 0.1 / N_ORIGINAL, chunks))
    found["pairs"] = spent * N_ORIGINAL / CHUNK / chunks
    found["pairs"] += seconds(lambda: published_pairs(training, 0.1 / len(training), n))
    for points in (original, training):
        width = 0.1**2 * (1 / N_GENERATED**2 + 1 / len(points) ** 2)
        spent = seconds(lambda points=points, width=width: published_cross(rows, points, width))
        found["cross"] = found.get("cross", 0.0) + spent * N_GENERATED / drawn
    return found


# -- ours ---------------------------------------------------------------------------------------


def cell(n: int, variant: str, precision: str) -> Cell:
    """A cell of the shipped experiment with the published steps and number of samples."""
    sweep = reproduction("unet-gaussian", variant=variant, n=(n,), replicates=1)
    options = sweep.model_dump(mode="json", exclude_none=True)
    if variant == "corrected":
        del options["model"]["steps"]
        options["model"] |= {"epochs": EPOCHS, "batch": BATCH}
        options["n_generated"] = N_GENERATED
    ((_, found),) = resolve(Sweep.from_options(options)).cells()
    model = found.model.model_copy(update={"precision": precision})  # a variant sets the kind
    return found.model_copy(update={"model": model})


def main() -> None:
    parser = argparse.ArgumentParser(description="Whole cells of the U-Net experiment.")
    parser.add_argument("--n", default="100,1000")
    parser.add_argument("--variants", default="corrected,published")
    parser.add_argument("--whole", action="store_true", help="no share of a published loop")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for n in map(int, options.n.split(",")):
        variants = options.variants.split(",")
        ways = [(v, p) for v in variants for p in ("float32", "bfloat16")]
        cells = {way: cell(n, *way) for way in ways}
        draw_points(cells[ways[0]])
        peers: list[dict[str, float]] = []
        ours: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
        for _ in range(options.repeats):
            peers.append(published(n, options.whole))
            for way, one in cells.items():
                ours[way].append(run_cell(one).seconds)
        parts = {k: statistics.median(p[k] for p in peers) for k in peers[0]}
        total = sum(parts.values())
        words = ", ".join(f"{k} {v:.1f}" for k, v in parts.items())
        print(f"n = {n}: published {total:.1f} s ({words})")
        for (variant, precision), found in ours.items():
            middle = statistics.median(found)
            print(
                f"  {variant:10}{precision:9}{middle:7.2f} s, {total / middle:.1f} times cheaper"
            )


if __name__ == "__main__":
    main()
