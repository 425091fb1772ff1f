"""Cost of training: stacks and their bits, full batches, probes, checkpoints, the U-Net's step.

    python benchmarks/training.py

Ratios of CPU seconds on one thread, measured side by side in one run.
"""

import tempfile
import time
from pathlib import Path
from unittest import mock

import torch

from genonset.denoisers import NeuralDenoiser
from genonset.networks import Linear, ResidualMLP, UNet
from genonset.noise import OrnsteinUhlenbeck
from genonset.samplers import DDIM
from genonset.seeds import generator
from genonset.sources import Gaussian
from genonset.training import Monitor, Recipe, _Run, train, train_together

NOISE = OrnsteinUhlenbeck(horizon=2.0)
DIM = 8


def cpu_seconds(call) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def perceptrons(count: int, width: int) -> list[NeuralDenoiser]:
    return [NeuralDenoiser(ResidualMLP(DIM, width), NOISE) for _ in range(count)]


def stacks(steps: int = 60) -> None:
    print(f"{'replicates, n, width':28}{'alone':>12}{'stacked':>12}{'times faster':>16}")
    for count, n, width in [(8, 16, 32), (8, 64, 32), (8, 32, 128), (8, 128, 128), (4, 512, 128)]:
        sets = [torch.randn(n, DIM, generator=generator(r)) for r in range(count)]
        recipe = Recipe(steps=steps)

        def alone(sets=sets, width=width, recipe=recipe, count=count) -> None:
            for r, denoiser in enumerate(perceptrons(count, width)):
                train(denoiser, sets[r], recipe, generator=generator(r))

        def stacked(sets=sets, width=width, recipe=recipe, count=count) -> None:
            noise = [generator(r) for r in range(count)]
            train_together(perceptrons(count, width), sets, recipe, generators=noise)

        stacked()
        pairs = [(cpu_seconds(alone), cpu_seconds(stacked)) for _ in range(3)]
        one, many = (min(found) / (steps * count) * 1e3 for found in zip(*pairs, strict=True))
        print(f"{f'{count}, {n}, {width}':28}{one:9.2f} ms{many:9.2f} ms{one / many:16.1f}")


def bits(steps: int = 200) -> None:
    """How far the weights of one replicate, the last of its stack, are from what they are alone,
    and from what they are in a stack of one.
    """

    def weights(count: int, n: int, width: int) -> torch.Tensor:
        members = list(reversed(range(max(1, count))))
        sets = [torch.randn(n, DIM, generator=generator(r)) for r in members]
        denoisers = []
        for r in members:
            torch.manual_seed(r)
            denoisers += perceptrons(1, width)
        noise, recipe = [generator(r) for r in members], Recipe(steps=steps)
        if count:
            train_together(denoisers, sets, recipe, generators=noise)
        else:
            train(denoisers[0], sets[0], recipe, generator=noise[0])
        return torch.cat([p.detach().flatten() for p in denoisers[-1].network.parameters()])

    print(f"\n{'n, width':12}{'1 - alone':>14}" + "".join(f"{f'{k} - 1':>14}" for k in (2, 4, 8)))
    for n, width in [(16, 32), (32, 128), (16, 18), (16, 10)]:
        alone, one, *more = (weights(count, n, width) for count in (0, 1, 2, 4, 8))
        apart = [float((a - b).abs().max()) for a, b in [(one, alone), *((m, one) for m in more)]]
        print(f"{f'{n}, {width}':12}" + "".join(f"{d:14.1e}" for d in apart))


def checkpoints(steps: int = 1500) -> None:
    """What writing costs a sweep's networks: wall time inside the writes over wall time of all."""
    for name, network, shape, count in (
        ("perceptron, width 128", ResidualMLP(DIM, 128), (128, DIM), steps),
        ("U-Net, width 16, 8x8", UNet(1, 16), (16, 1, 8, 8), steps // 10),
    ):
        points = torch.randn(*shape, generator=generator(0))
        spent, whole = [], time.monotonic()
        save = _Run.save

        def timed(run, file, monitor, spent=spent, save=save) -> None:
            started = time.monotonic()
            save(run, file, monitor)
            spent.append(time.monotonic() - started)

        with tempfile.TemporaryDirectory() as folder, mock.patch.object(_Run, "save", timed):
            train(
                NeuralDenoiser(network, NOISE),
                points,
                Recipe(steps=count),
                generator=generator(0),
                checkpoint=Path(folder) / "run.pt",
                checkpoint_seconds=None,
            )
        whole = time.monotonic() - whole
        print(
            f"{name}: {len(spent)} checkpoints in {whole:.1f} s, {sum(spent) / whole:.2%} of the "
            "time"
        )


def full_batch(steps: int = 25) -> None:
    """A step of all n points at width 128: torch's layers, ours, ours in bfloat16, by turns."""
    print(f"\n{'n':6}{'torch layers':>14}{'ours':>12}{'bfloat16':>12}{'times faster':>22}")
    for n in (128, 512, 1024):
        points = torch.randn(n, DIM, generator=generator(0))
        runs = []
        for precision in ("float32", "float32", "bfloat16"):
            (denoiser,) = perceptrons(1, 128)
            denoiser.precision = precision
            recipe = Recipe(steps=steps, precision=precision)
            runs.append(_Run(denoiser, points, recipe, generator(0)))
        for module in runs[0].denoiser.modules():
            if isinstance(module, Linear):
                module.__class__ = torch.nn.Linear
        found = [[cpu_seconds(run.advance) for run in runs] for _ in range(steps)]
        plain, ours, half = (min(column) * 1e3 for column in zip(*found, strict=True))
        print(
            f"{n:<6}{plain:11.2f} ms{ours:9.2f} ms{half:9.2f} ms{plain / ours:16.2f}"
            f"{plain / half:6.2f}"
        )


def probes(steps: int = 3000, share: float = 0.05) -> None:
    source = Gaussian(torch.zeros(DIM), 1.0)
    training, held_out = (source.sample(128, generator=generator(name)) for name in (1, 2))
    monitor = Monitor(training, held_out, sampler=DDIM(NOISE, n_steps=25), share=share)
    (denoiser,) = perceptrons(1, 128)
    started = time.perf_counter()
    train(denoiser, training, Recipe(steps=steps), generator=generator(0), monitor=monitor)
    total = time.perf_counter() - started
    print(
        f"\n{len(monitor.probes)} probes in {steps} steps of n = 128, share = {share}: "
        f"{monitor.cost:.2f} of {total:.2f} s, {monitor.cost / (total - monitor.cost):.1%} of "
        "the training time"
    )


def published_unet(steps: int = 3, batch: int = 16) -> None:
    images = torch.randn(batch, 1, 16, 16, generator=generator(0))
    times = torch.arange(1.0, batch + 1)
    for format_, name in (
        (torch.contiguous_format, "contiguous"),
        (torch.channels_last, "channels_last"),
    ):
        network = UNet().to(memory_format=format_)
        points = images.to(memory_format=format_)

        def step(network=network, points=points) -> None:
            network(points, times).square().mean().backward()

        step()
        seconds = min(cpu_seconds(step) for _ in range(steps))
        print(f"U-Net, {batch} images of 16x16, forward and backward, {name}: {seconds:.2f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    stacks()
    bits()
    full_batch()
    probes()
    checkpoints()
    published_unet()
