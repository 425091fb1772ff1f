"""Training: fit a network to noisy points, and watch what it learns of which points.

The loss is one convention for every target: the mean squared error of the network's own target
f, over points, coordinates and times uniform on (0, horizon]:

    (1)  loss = E |f(x_t, t) - target|² / d,    x_t = alpha x_0 + sigma eps

In units of the clean mean D this weights |D - x_0|² by 1 (clean), alpha²/sigma² (noise) or
(alpha² + sigma²)²/sigma² (v). The times of one batch of B are stratified, one in each B-th part
of the horizon in random order, which leaves (1) unbiased. Losses are *reported*, for any target
and any denoiser, in units of the noise, at fixed times and with fixed noise:

    (2)  denoising loss at t = alpha²/sigma² E |D(x_t, t) - x_0|² / d

0 knows x_0, and 1 knows of x_0 no more than x_t / alpha. A budget is a number of gradient steps;
a budget in epochs takes ceil(n/B) steps each, so that n and steps grow together: the record says
which was given. The average of the weights over the steps is, with decay e,

    (3)  average <- average + (1 - e_k)(weights - average),    e_k = min(e, (1 + k)/(10 + k))

The probes along training are taken on a grid of steps that grows by a constant factor. From them

    (4)  tau_gen = first step at which quality, the mean sliced W2 of groups of 128 samples to
                   fresh points, is within twice that of as many other fresh points
    (5)  tau_mem = first step at which the memorized fraction reaches c + (1 - c)/20, where c is
                   the fraction of fresh points that count as memorized by chance

by interpolation between probes, linear in the criterion and in log steps. Their intervals reach
from the probe before the first plausible crossing to the probe after the first certain one: by
the Wilson interval of the fraction, and by the spread of the quality of fresh points.

How a time grows with n is the slope b of the least-squares line

    (6)  log tau = a + b log n

with Student's interval on (runs - 2) degrees of freedom.

A checkpoint holds all that the remaining steps depend on, behind its own digest, and replaces its
predecessor at once: a killed run resumes from it to the same bits on a CPU. No step depends on the
budget, and the last probe, which need not lie on the grid, is taken after the last checkpoint: a
larger budget continues from it to the bits of a run of its own.
"""

import copy
import csv
import hashlib
import io
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from genonset import seeds
from genonset.denoisers import Denoiser, NeuralDenoiser, Precision, check_network
from genonset.distances import sliced_wasserstein
from genonset.errors import CheckpointError, ConfigError, DataError, DivergedError, StoreError
from genonset.estimates import Estimate, bracket, require_confidence
from genonset.findings import Regime
from genonset.labels import copying_power
from genonset.networks import parameter_count
from genonset.noise import NoiseProcess
from genonset.tensors import Samples, flatten, require_finite
from genonset.verdict import label_tests, memorized_fraction, regime

MEMORIZED = 0.05
"""The memorized fraction, beyond chance, at which (5) is read."""

POOR = 2.0
"""Quality above this many times that of fresh points is poor, as in `verdict.regime`."""

GROUP = 128
"""Quality (4) is the mean over groups of this many samples, so that it asks the same of any n."""

WRITING = 0.01
"""The share of the time that checkpoints take where no interval was given."""


# -- what is trained, and how long --------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained.

    Attributes:
        steps: the budget in gradient steps; or
        epochs: the budget in passes over the training points. Exactly one of the two.
        batch_size: points of a step; None, or n and more, is all of them.
        optimizer: "adam", or "sgd" with momentum.
        learning_rate, momentum: of the optimizer; Adam's own coefficients stay at their defaults.
        ema: decay e of the average (3) that generates; 0 uses the weights themselves.
        precision: "float32", or "bfloat16": the network's products, in training and after it,
            take factors rounded to 8 bits; weights, gradients and optimizer stay in float32.

    Raises:
        ConfigError: no budget, two, an unknown name or a number out of range.
    """

    steps: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: Literal["adam", "sgd"] | str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    ema: float = 0.0
    precision: Precision | str = "float32"

    def __post_init__(self) -> None:
        given = [b for b in (self.steps, self.epochs) if b is not None]
        if len(given) != 1 or given[0] < 1:
            raise ConfigError(
                "Training needs one budget, steps >= 1 or epochs >= 1, got "
                f"steps={self.steps}, epochs={self.epochs}."
            )
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more, or None, got {self.batch_size}.")
        if self.precision not in get_args(Precision):
            raise ConfigError(
                f"precision is {' or '.join(map(repr, get_args(Precision)))}, got "
                f"{self.precision!r}."
            )
        if self.optimizer not in ("adam", "sgd"):
            raise ConfigError(f"optimizer is 'adam' or 'sgd', got {self.optimizer!r}.")
        if not (
            0 < self.learning_rate < math.inf and 0 <= self.momentum < 1 and 0 <= self.ema < 1
        ):
            raise ConfigError(
                "Training needs learning_rate > 0, 0 <= momentum < 1 and 0 <= ema < 1, got "
                f"{self.learning_rate}, {self.momentum} and {self.ema}."
            )

    @property
    def budget(self) -> Literal["steps", "epochs"]:
        """In which unit the budget was given."""
        return "steps" if self.steps is not None else "epochs"

    def batch(self, n: int) -> int:
        """Points of one step of n training points."""
        return min(n, self.batch_size or n)

    def n_steps(self, n: int) -> int:
        """Gradient steps that the budget makes on n training points."""
        return self.steps or (self.epochs or 0) * math.ceil(n / self.batch(n))

    def start(self, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
        """A fresh optimizer."""
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=self.learning_rate, fused=True)
        return torch.optim.SGD(
            parameters, lr=self.learning_rate, momentum=self.momentum, fused=True
        )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained denoiser, and what it took.

    Attributes:
        denoiser: with the averaged weights where the recipe asks for them.
        budget: "steps" or "epochs": how the budget was given. In epochs, a larger n is trained
            for more steps.
        steps, epochs: what was done, in both units.
        n_parameters: of the network.
        loss: (1), mean over the last steps (a hundredth of the budget, at least one).
    """

    denoiser: NeuralDenoiser
    budget: Literal["steps", "epochs"]
    steps: int
    epochs: float
    n_parameters: int
    loss: float


def train(
    denoiser: NeuralDenoiser,
    training: Samples,
    recipe: Recipe,
    *,
    generator: torch.Generator,
    monitor: "Monitor | None" = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float | None = 30.0,
    until: "Callable[[Monitor], bool] | None" = None,
) -> Trained:
    """Fit a denoiser's network to training points by (1); the network is changed in place.

    Args:
        denoiser: its network is where training starts; it may live on any device.
        training: shape (n, *shape), clean points, finite.
        recipe: budget, batches, optimizer, average.
        generator: source of batches, times and noise, on the CPU; left at its start when a
            checkpoint is read, which holds its own.
        monitor: called after every step, and made to probe the first and the last.
        checkpoint: a file that the run writes, and from which it resumes if it is there. A
            finished run leaves its last state: a larger budget continues from it.
        checkpoint_seconds: wall time between two writes; None leaves, after each write and at the
            end too, a hundred times what it took, so that writing costs 1 % of the time.
        until: asked after each probe whether to stop before the budget is spent.

    Returns:
        the record; its denoiser is `denoiser` itself, or a copy with averaged weights.

    Raises:
        DataError: no points, points that are not finite, or a network that cannot denoise them.
        DivergedError: a loss or weight that is no longer finite; the last good checkpoint stays.
        CheckpointError: a checkpoint that is damaged, of another run, or beyond the budget.
        StoreError: a checkpoint that cannot be written.

    Reference:
        Vincent 2011, Neural Computation 23, 1661: denoising score matching.
    """
    points = _points(denoiser, training, recipe)
    run = _Run(denoiser, points, recipe, generator)
    n_steps = recipe.n_steps(len(points))
    keeper = None
    if checkpoint is not None:
        run.identity = _identity(denoiser, points, recipe, generator)
        keeper = _Keeper(Path(checkpoint), checkpoint_seconds, run)
    if keeper is not None and keeper.file.exists():
        run.restore(keeper.file, n_steps, monitor)
    done = monitor is not None and until is not None and bool(monitor.probes) and until(monitor)
    denoiser.network.train()
    while run.step < n_steps and not done:
        run.advance()
        if monitor is not None:
            probe = monitor(run.step, run.current())
            done = probe is not None and until is not None and until(monitor)
        if keeper is not None:
            keeper(monitor, last=done or run.step == n_steps)
    if monitor is not None:
        monitor.probe(run.step, run.current())
    for p in denoiser.network.parameters():
        _require_finite_loss(p.detach().sum(), run.step)
    run.current().eval()
    return Trained(
        denoiser=run.current(),
        budget=recipe.budget,
        steps=run.step,
        epochs=run.step / math.ceil(len(points) / recipe.batch(len(points))),
        n_parameters=parameter_count(denoiser.network),
        loss=run.loss(),
    )


def _points(denoiser: NeuralDenoiser, training: Samples, recipe: Recipe) -> Samples:
    """Training points in the network's precision, checked together with the network."""
    if training.ndim < 2 or len(training) == 0:
        raise DataError(
            f"Training takes at least one point, shape (n, *shape), got {tuple(training.shape)}."
        )
    require_finite("training", training)
    denoiser.precision = recipe.precision
    check_network(denoiser, training[:2])
    denoiser.shape = denoiser.shape or tuple(training.shape[1:])
    return training.to(next(denoiser.network.parameters(), training))


def _require_finite_loss(loss: Tensor, step: int) -> None:
    if not bool(torch.isfinite(loss)):
        raise DivergedError(
            f"Training diverged at step {step}: loss or weights are no longer finite. Lower the "
            "learning rate, or scale the data to about unit variance."
        )


class _Batches:
    """Row numbers, times and noise of the steps of one run, from one generator."""

    def __init__(self, points: Samples, recipe: Recipe, generator: torch.Generator) -> None:
        self.points, self.size, self.generator = points, recipe.batch(len(points)), generator
        self.order = torch.arange(len(points))

    def draw(self, step: int) -> tuple[Samples, Samples, Tensor]:
        """Clean points, noise and shares of the horizon for the step of this number (from 0)."""
        n, size = len(self.points), self.size
        batches = math.ceil(n / size)
        place = step % batches
        if place == 0 and size < n:
            self.order = torch.randperm(n, generator=self.generator)
        x_0 = self.points[self.order[place * size : (place + 1) * size]]
        m = len(x_0)
        strata = torch.randperm(m, generator=self.generator).double()
        uniform = torch.rand(m, dtype=torch.float64, generator=self.generator)
        eps = torch.randn(x_0.shape, dtype=x_0.dtype, generator=self.generator)
        return x_0, eps.to(x_0.device), (strata + 1 - uniform) / m


def _question(denoiser: NeuralDenoiser, x_0: Samples, eps: Samples, shares: Tensor):
    """What the network is given, and what it should answer."""
    t = shares.to(x_0.device) * denoiser.noise.horizon
    alpha, sigma = denoiser.scales(t, x_0)
    inputs, told = denoiser.inputs(alpha * x_0 + sigma * eps, t)
    return inputs, told, denoiser.aim(x_0, eps, t)


class _Run:
    """The state of one training run between two steps."""

    def __init__(
        self,
        denoiser: NeuralDenoiser,
        points: Samples,
        recipe: Recipe,
        generator: torch.Generator,
    ) -> None:
        self.denoiser, self.recipe, self.step = denoiser, recipe, 0
        self.identity: dict[str, str] = {}  # only a checkpoint needs it
        self.parameters = [p for p in denoiser.network.parameters() if p.requires_grad]
        if not self.parameters:
            raise DataError(f"{type(denoiser.network).__name__} has no parameters to train.")
        self.losses = points.new_empty(recipe.n_steps(len(points)))
        self.optimizer = recipe.start(self.parameters)
        self.batches = _Batches(points, recipe, generator)
        self.average = copy.deepcopy(denoiser) if recipe.ema else None

    def advance(self) -> None:
        """One gradient step, its loss (1) kept."""
        inputs, told, target = _question(self.denoiser, *self.batches.draw(self.step))
        with self.denoiser.arithmetic():
            answer = self.denoiser.network(inputs, told)
        loss = (answer - target).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses[self.step] = loss.detach()
        self.step += 1
        _require_finite_loss(loss.detach(), self.step)
        if self.average is not None:
            _follow(_state(self.average), _state(self.denoiser), self.recipe.ema, self.step)

    def loss(self) -> float:
        """Mean over the last steps, at most a hundredth of the budget."""
        last = max(1, len(self.losses) // 100)
        return float(self.losses[: self.step][-last:].clone().mean())

    def current(self) -> NeuralDenoiser:
        """The denoiser that would generate now."""
        return self.average or self.denoiser

    def save(self, file: Path, monitor: "Monitor | None") -> None:
        """Write the whole state to a file, in place of what it holds."""
        payload = io.BytesIO()
        state = {
            "identity": self.identity,
            "step": self.step,
            "network": self.denoiser.network.state_dict(),
            "average": self.average.network.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.batches.generator.get_state(),
            "global generator": torch.get_rng_state(),
            "losses": self.losses[: self.step].clone(),
            "order": self.batches.order,
            "probes": [json.dumps(p.row()) for p in monitor.probes] if monitor else [],
        }
        torch.save(state, payload)
        content = payload.getvalue()
        draft = file.with_name(f"{file.name}.part")
        try:
            with draft.open("wb") as handle:
                handle.write(hashlib.sha256(content).digest() + content)
                handle.flush()
                os.fsync(handle.fileno())
            draft.replace(file)
        except OSError as error:
            raise StoreError(
                f"Cannot write the checkpoint {file}: {error.strerror or error}. The one before "
                "it is untouched; free space or choose another place."
            ) from None

    def restore(self, file: Path, n_steps: int, monitor: "Monitor | None") -> None:
        """Take up the state in a file, if it is of this run."""
        state = _read_checkpoint(file)
        differing = [k for k, v in self.identity.items() if state["identity"].get(k) != v]
        if differing:
            raise CheckpointError(
                f"The checkpoint {file} is of another run: its {', '.join(differing)} differ from "
                "this one's. Name another file, or remove this one to train from the start."
            )
        if state["step"] > n_steps:
            raise CheckpointError(
                f"The checkpoint {file} is at step {state['step']}, beyond the budget of "
                f"{n_steps}. Ask for at least as many steps, or name another file."
            )
        self.step = state["step"]
        self.denoiser.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.network.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.generator.set_state(state["generator"])
        torch.set_rng_state(state["global generator"])
        self.losses[: self.step] = state["losses"]
        self.batches.order = state["order"]
        if monitor is not None:
            monitor.probes[:] = [Probe.from_row(json.loads(row)) for row in state["probes"]]


class _Keeper:
    """Writes the checkpoints of a run to a file, at an interval or at a share of the time."""

    def __init__(self, file: Path, seconds: float | None, run: _Run) -> None:
        self.file, self.run, self.seconds, self.paced = file, run, seconds or 0.0, seconds is None
        if self.paced:  # before the first write: what four copies of the weights take on a disk
            weights = sum(p.numel() * p.element_size() for p in run.parameters)
            self.seconds = (0.01 + 4 * weights / 1e8) / WRITING
        self.written = time.monotonic()

    def __call__(self, monitor: "Monitor | None", *, last: bool) -> None:
        """Write if it is time to; the last state in any case, unless at a share of the time."""
        started = time.monotonic()
        due = started - self.written > self.seconds
        if not (due or (last and not self.paced)):
            return
        self.run.save(self.file, monitor)
        self.written = time.monotonic()
        if self.paced:
            self.seconds = (self.written - started) / WRITING


def _state(denoiser: NeuralDenoiser) -> list[Tensor]:
    """The floating-point numbers of a network: weights, and statistics that follow them."""
    tensors = denoiser.network.state_dict().values()
    return [t for t in tensors if t.is_floating_point()]


@torch.no_grad()
def _follow(average: Sequence[Tensor], weights: Sequence[Tensor], decay: float, step: int) -> None:
    """Equation (3), after this many steps."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    for a, w in zip(average, weights, strict=True):
        a.lerp_(w, share)


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str((tuple(tensor.shape), tensor.dtype)).encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


def _identity(
    denoiser: NeuralDenoiser, points: Samples, recipe: Recipe, generator: torch.Generator
) -> dict[str, str]:
    """What must agree for a checkpoint to be of this run; the budget may grow."""
    settings = asdict(recipe) | {"steps": None, "epochs": None}
    return {
        "layout": "2",
        "recipe": json.dumps(settings, sort_keys=True),
        "noise": repr(denoiser.noise),
        "target": f"{denoiser.target} at clock {denoiser.clock}",
        "network": str(denoiser.network),
        "initial weights": _digest(*denoiser.network.state_dict().values()),
        "training points": _digest(points),
        "generator": _digest(generator.get_state()),
    }


def _read_checkpoint(file: Path) -> dict[str, Any]:
    damaged = CheckpointError(
        f"{file} is not a whole checkpoint: it was cut short, changed, or never was one. Remove "
        "it to train from the start, or name another file."
    )
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"Cannot read {file}: {error.strerror or error}.") from None
    digest, payload = content[:32], content[32:]
    if hashlib.sha256(payload).digest() != digest:
        raise damaged
    return torch.load(io.BytesIO(payload), weights_only=True)


# -- several at once ------------------------------------------------------------------------------


def train_together(
    denoisers: Sequence[NeuralDenoiser],
    trainings: Sequence[Samples],
    recipe: Recipe,
    *,
    generators: Sequence[torch.Generator],
    monitors: "Sequence[Monitor] | None" = None,
) -> list[Trained]:
    """Train replicates of one small network as a stack: `train` for each, to rounding error.

    Each replicate keeps its own points, noise, weights and optimizer state; only the arithmetic
    is shared. Faster where single steps are too small to fill the processor: see
    benchmarks/training.py.

    Args:
        denoisers: of one architecture, noise and target, changed in place.
        trainings: for each its points, all of one shape (n, *shape).
        recipe: the same for all.
        generators: one each.
        monitors: one each, called as `train` does.

    Returns: one record each.

    Raises:
        ConfigError: counts or architectures that do not agree.
        DataError, DivergedError: as `train`; one diverged replicate stops all.
    """
    counts = {len(denoisers), len(trainings), len(generators), len(monitors or denoisers)}
    shapes = {tuple(points.shape) for points in trainings}
    kinds = {(str(d.network), d.target, d.clock, repr(d.noise)) for d in denoisers}
    if len(counts) > 1 or len(shapes) != 1 or len(kinds) != 1:
        raise ConfigError(
            "Replicates train together if there is one denoiser, training set and generator each, "
            f"of one architecture and shape; got counts {sorted(counts)}, {len(kinds)} kinds of "
            f"denoiser and shapes {sorted(shapes)}."
        )
    batches = [
        _Batches(_points(d, x, recipe), recipe, g)
        for d, x, g in zip(denoisers, trainings, generators, strict=True)
    ]
    n = len(trainings[0])
    n_steps = recipe.n_steps(n)
    parameters, buffers = stack_module_state([d.network for d in denoisers])
    skeleton = copy.deepcopy(denoisers[0].network).to("meta")
    optimizer = recipe.start(list(parameters.values()))
    average = {k: p.detach().clone() for k, p in parameters.items()} if recipe.ema else parameters

    def answer(weights, constants, inputs, told):
        return functional_call(skeleton, (weights, constants), (inputs, told))

    recent: list[Tensor] = []
    for step in range(1, n_steps + 1):
        drawn = zip(*(b.draw(step - 1) for b in batches), strict=True)
        asked = _question(denoisers[0], *(torch.cat(parts) for parts in drawn))
        inputs, told, target = (part.unflatten(0, (len(denoisers), -1)) for part in asked)
        with denoisers[0].arithmetic():
            answers = vmap(answer)(parameters, buffers, inputs, told)
        errors = (answers - target).square()
        losses = errors.flatten(1).mean(1)
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        _require_finite_loss(losses.detach().sum(), step)
        if recipe.ema:
            _follow(list(average.values()), list(parameters.values()), recipe.ema, step)
        if n_steps - step < max(1, n_steps // 100):
            recent.append(losses.detach())
        ends = step in (1, n_steps)
        if ends or (monitors is not None and any(m.due(step) for m in monitors)):
            for i, d in enumerate(denoisers):
                d.network.load_state_dict({k: p.detach()[i] for k, p in average.items()}, False)
            for monitor, d in zip(monitors or (), denoisers, strict=False):
                (monitor.probe if ends else monitor)(step, d)
    mean_losses = torch.stack(recent).mean(0).tolist()
    return [
        Trained(
            denoiser=d,
            budget=recipe.budget,
            steps=n_steps,
            epochs=n_steps / math.ceil(n / recipe.batch(n)),
            n_parameters=parameter_count(d.network),
            loss=loss,
        )
        for d, loss in zip(denoisers, mean_losses, strict=True)
    ]


# -- probes -----------------------------------------------------------------------------------


@runtime_checkable
class Draws(Protocol):
    """Anything that draws samples from a denoiser, as the samplers do."""

    def sample(self, denoiser: Denoiser, n: int, *, generator: torch.Generator) -> Samples: ...


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a denoiser was like after a number of steps.

    Attributes:
        step: gradient steps done.
        training_loss, held_out_loss: the denoising loss (2) by time, the same noise for both.
        memorized: fraction of the samples, with its interval; None without a sampler, as are
        train_bias, train_bias_p, copying_p: the label tests of `verdict`, and
        quality: mean sliced W2 of groups of samples to fresh points, with quality_error, its
            standard error.
    """

    step: int
    training_loss: dict[float, float]
    held_out_loss: dict[float, float]
    memorized: Estimate | None = None
    train_bias: float | None = None
    train_bias_p: float | None = None
    copying_p: float | None = None
    quality: float | None = None
    quality_error: float | None = None

    def row(self) -> dict[str, float]:
        """The numbers as one row of a table."""
        row: dict[str, float] = {"step": self.step}
        row |= {f"training_loss_at_{t!r}": v for t, v in self.training_loss.items()}
        row |= {f"held_out_loss_at_{t!r}": v for t, v in self.held_out_loss.items()}
        if self.memorized is not None:
            row |= {
                "memorized_fraction": self.memorized.value,
                "memorized_fraction_low": self.memorized.low,
                "memorized_fraction_high": self.memorized.high,
            }
        for name in ("train_bias", "train_bias_p", "copying_p", "quality", "quality_error"):
            if (value := getattr(self, name)) is not None:
                row[name] = value
        return row

    @classmethod
    def from_row(cls, row: dict[str, float]) -> "Probe":
        """The probe that gave a row."""
        losses: dict[str, dict[float, float]] = {"training": {}, "held_out": {}}
        for name, value in row.items():
            which, found, at = name.partition("_loss_at_")
            if found:
                losses[which][float(at)] = value
        fraction = None
        if "memorized_fraction" in row:
            names = ("memorized_fraction", "memorized_fraction_low", "memorized_fraction_high")
            value, low, high = (row[name] for name in names)
            fraction = Estimate(value=value, low=low, high=high, confidence=0.95)
        return cls(
            step=int(row["step"]),
            training_loss=losses["training"],
            held_out_loss=losses["held_out"],
            memorized=fraction,
            train_bias=row.get("train_bias"),
            train_bias_p=row.get("train_bias_p"),
            copying_p=row.get("copying_p"),
            quality=row.get("quality"),
            quality_error=row.get("quality_error"),
        )


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """The step at which a criterion crosses its level along one training run, (4) or (5).

    Attributes:
        step: interpolated; None where it was not crossed within the probes.
        low, high: its interval; high is None where the crossing is not certain yet, and low is
            the last probe where none is plausible.
        last: the last step that was probed.
    """

    step: float | None
    low: float
    high: float | None
    last: int

    @property
    def censored(self) -> bool:
        """Whether the run was too short to tell."""
        return self.step is None

    def facts(self, name: str) -> dict[str, float]:
        """The step and its interval by name; infinite where it is not crossed."""
        values = (self.step, self.low, self.high)
        names = (name, f"{name}_low", f"{name}_high")
        return {n: math.inf if v is None else v for n, v in zip(names, values, strict=True)}

    def __str__(self) -> str:
        if self.step is None:
            return f"not within {self.last} steps"
        return f"step {bracket(self.step, self.low, self.high)}"


class Monitor:
    """Probes along a training run, of this package or of your own: call it after every step.

    It keeps to a grid of steps that grows by `factor`, uses noise of its own, the same at every
    probe, and leaves network and global generator as they were. With `share` it skips a probe that
    would make all probes together cost more than that share of the training time (the first is
    always taken).

    Args:
        training: the n points that are trained on, shape (n, *shape).
        held_out: fresh points of the same source, n for the sharpest label tests.
        sampler: draws the samples; without one only losses are probed.
        fresh: more fresh points, by which quality is judged; by default `held_out`, against which
            training points then stand for fresh ones.
        n_generated: samples a probe.
        n_points: training and held-out points a probe evaluates the loss on, at most.
        times: shares of the horizon at which the loss is taken.
        factor: of the grid of steps; at least 1.
        share: bound on the probes' share of the training time, or None.
        path: a CSV that is rewritten, whole, after each probe of this monitor.
        seed: of the monitor's own draws.

    Attributes:
        probes: what was measured, in order.

    Raises:
        DataError: sets that are empty, not finite or of different shapes.
        ConfigError: a factor below 1, or a share that is not positive.
    """

    def __init__(
        self,
        training: Tensor,
        held_out: Tensor,
        *,
        sampler: Draws | None = None,
        fresh: Tensor | None = None,
        n_generated: int = 256,
        n_points: int = 256,
        times: Sequence[float] = (0.01, 0.03, 0.1, 0.3, 1.0),
        factor: float = 1.4,
        share: float | None = None,
        path: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        sets = [training, held_out, held_out if fresh is None else fresh]
        if not all(isinstance(s, Tensor) for s in sets):
            raise DataError(
                "A monitor takes tensors, got "
                f"{', '.join(type(s).__name__ for s in sets)}. Use torch.from_numpy(array)."
            )
        if any(len(s) < 2 or s.shape[1:] != training.shape[1:] for s in sets):
            raise DataError(
                "A monitor takes sets of at least 2 points of one shape, got "
                f"{', '.join(str(tuple(s.shape)) for s in sets)}."
            )
        if factor < 1 or n_generated < 2 or not (share is None or share > 0):
            raise ConfigError(
                "A monitor needs factor >= 1, n_generated >= 2 and a share > 0 or None, got "
                f"{factor}, {n_generated} and {share}."
            )
        for name, points in zip(("training", "held_out", "fresh"), sets, strict=True):
            require_finite(name, points)
        self.training, self.held_out = training.double(), held_out.double()
        self.sampler, self.n_generated, self.n_points = sampler, n_generated, n_points
        self.times, self.factor, self.share, self.seed = tuple(times), factor, share, seed
        self.path = None if path is None else Path(path)
        self.probes: list[Probe] = []
        self._borrowed = fresh is None
        if sampler is not None:
            self._reference, self._fresh_quality = self._calibrate(sets[2].double())
            chance = memorized_fraction(held_out, training).value
            self._memorized = chance + (1 - chance) * MEMORIZED
        self._started: float | None = None
        self._spent, self._last_cost = 0.0, 0.0

    def _calibrate(self, fresh: Samples) -> tuple[Samples, tuple[float, float]]:
        """The points quality is measured against, and the quality of other fresh ones."""
        half = len(fresh) // 2
        reference, others = (
            (fresh, self.training) if self._borrowed else (fresh[:half], fresh[half:])
        )
        self._group = min(GROUP, self.n_generated, len(others))
        return reference, self._quality(others[: max(self.n_generated, self._group)], reference)

    def _quality(self, samples: Samples, reference: Samples) -> tuple[float, float]:
        """Mean over groups of the sliced W2 to a reference, and its standard error."""
        groups = [g for g in samples.split(self._group) if len(g) == self._group]
        found = torch.tensor(
            [
                sliced_wasserstein(
                    flatten(group),
                    flatten(reference),
                    generator=seeds.generator(self.seed, "monitor projections"),
                )
                for group in groups
            ]
        )
        error = found.std() / math.sqrt(len(found)) if len(found) > 1 else math.nan
        return float(found.mean()), float(error)

    def due(self, step: int) -> bool:
        """Whether the grid has a probe at this step."""
        last = self.probes[-1].step if self.probes else 0
        return step > last and step >= math.floor(last * self.factor)

    def __call__(self, step: int, denoiser: Denoiser) -> Probe | None:
        """Probe a denoiser after `step` gradient steps, if a probe is due and affordable.

        Args:
            step: counted from 1.
            denoiser: `NeuralDenoiser(network, noise, target)` for a network of your own.
        """
        now = time.perf_counter()
        if self._started is None:
            self._started = now
        if not self.due(step):
            return None
        if self.share is not None and self.probes:
            training_time = now - self._started - self._spent
            if self._spent + self._last_cost > self.share * training_time:
                return None
        return self.probe(step, denoiser)

    @property
    def cost(self) -> float:
        """Seconds spent on probes so far."""
        return self._spent

    @torch.no_grad()
    def probe(self, step: int, denoiser: Denoiser) -> Probe | None:
        """Probe now, whatever the grid and the share say; nothing if this step was probed."""
        if self.probes and self.probes[-1].step >= step:
            return None
        if not isinstance(denoiser, Denoiser):
            raise ConfigError(
                f"A monitor watches a denoiser, got {type(denoiser).__name__}. Wrap a network as "
                "NeuralDenoiser(network, noise, target)."
            )
        started = time.perf_counter()
        self._started = self._started or started
        denoiser.shape = denoiser.shape or tuple(self.training.shape[1:])
        modes = [(module, module.training) for module in denoiser.modules()]
        denoiser.eval()
        try:
            with torch.random.fork_rng(devices=[]):
                training_loss, held_out_loss = self._losses(denoiser)
                measured = {} if self.sampler is None else self._sampled(self.sampler, denoiser)
        finally:
            for module, mode in modes:
                module.training = mode
        probe = Probe(
            step=step, training_loss=training_loss, held_out_loss=held_out_loss, **measured
        )
        self.probes.append(probe)
        if self.path is not None:
            self.to_csv(self.path)
        self._last_cost = time.perf_counter() - started
        self._spent += self._last_cost
        return probe

    def _losses(self, denoiser: Denoiser) -> tuple[dict[float, float], dict[float, float]]:
        noise = _noise_of(denoiser)
        n = min(self.n_points, len(self.training), len(self.held_out))
        x_0 = torch.cat([self.training[:n], self.held_out[:n]])
        generator = seeds.generator(self.seed, "monitor noise")
        eps = torch.randn(self.training[:n].shape, dtype=torch.float64, generator=generator)
        eps = torch.cat([eps, eps]).to(x_0.device)
        losses: tuple[dict[float, float], dict[float, float]] = ({}, {})
        for share in self.times:
            t = torch.tensor(share * noise.horizon, dtype=torch.float64)
            alpha, sigma = float(noise.alpha(t)), float(noise.sigma(t))
            error = denoiser(alpha * x_0 + sigma * eps, t) - x_0
            squares = (alpha / sigma) ** 2 * error.square().flatten(1).mean(1)
            for found, part in zip(losses, (squares[:n], squares[n:]), strict=True):
                found[share] = float(part.mean())
        return losses

    def _sampled(self, sampler: Draws, denoiser: Denoiser) -> dict[str, Any]:
        generator = seeds.generator(self.seed, "monitor samples")
        samples = sampler.sample(denoiser, self.n_generated, generator=generator)
        samples = samples.reshape(-1, *self.training.shape[1:])
        bias, near = label_tests(samples, self.training, self.held_out)
        quality, error = self._quality(samples, self._reference)
        return {
            "memorized": memorized_fraction(samples, self.training),
            "train_bias": bias.share,
            "train_bias_p": bias.p_value,
            "copying_p": near.p_value,
            "quality": quality,
            "quality_error": error,
        }

    @property
    def tau_gen(self) -> Crossing:
        """Equation (4): when samples became as good as fresh points are, within a factor 2."""
        curves: tuple[list[tuple[int, float]], ...] = ([], [], [])
        for p in self.probes:
            if p.quality is None or p.quality_error is None:
                continue
            fresh, fresh_error = self._fresh_quality
            error = 2 * math.hypot(p.quality_error, POOR * fresh_error)
            error = 0.0 if math.isnan(error) else error
            for curve, shift in zip(curves, (0.0, error, -error), strict=True):
                curve.append((p.step, POOR * fresh - p.quality + shift))
        return _crossing(*curves)

    @property
    def tau_mem(self) -> Crossing:
        """Equation (5): when a twentieth of the samples was memorized, beyond chance."""
        found = [(p.step, p.memorized) for p in self.probes if p.memorized is not None]
        return _crossing(
            [(step, f.value - self._memorized) for step, f in found],
            [(step, f.high - self._memorized) for step, f in found],
            [(step, f.low - self._memorized) for step, f in found],
        )

    @property
    def verdict(self) -> Regime:
        """What the last probe says the model does."""
        last = self.probes[-1] if self.probes else None
        if last is None or last.quality is None:
            return "undecided"
        assert last.copying_p is not None
        assert last.train_bias_p is not None
        return regime(
            copying_p=last.copying_p,
            train_bias_p=last.train_bias_p,
            quality=last.quality,
            oracle_quality=self._fresh_quality[0],
            power=copying_power(self.n_generated, len(self.training), len(self.held_out)),
        )

    def to_csv(self, path: str | Path) -> None:
        """Write the probes as a table, one row each."""
        rows = [probe.row() for probe in self.probes]
        draft = Path(path).with_name(f"{Path(path).name}.{os.getpid()}")
        with draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else ["step"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        draft.replace(path)


def _noise_of(denoiser: Denoiser) -> NoiseProcess:
    noise = getattr(denoiser, "noise", None)
    if not isinstance(noise, NoiseProcess):
        raise ConfigError(
            f"A monitor needs to know the noise process of a {type(denoiser).__name__}. Wrap a "
            "network of your own as NeuralDenoiser(network, noise, target)."
        )
    return noise


Curve = Sequence[tuple[int, float]]


def _crossing(curve: Curve, earliest: Curve, latest: Curve) -> Crossing:
    """Where a curve of (step, excess) first reaches 0, with the bounds of two others."""
    before = _first(earliest)
    after = _first(latest)
    return Crossing(
        step=_interpolated(curve),
        low=float(earliest[-1 if before is None else max(0, before - 1)][0]) if earliest else 0.0,
        high=None if after is None else float(latest[after][0]),
        last=curve[-1][0] if curve else 0,
    )


def _first(curve: Curve) -> int | None:
    return next((k for k, (_, excess) in enumerate(curve) if excess >= 0), None)


def _interpolated(curve: Curve) -> float | None:
    """Linear in the excess and in log steps."""
    k = _first(curve)
    if not k:
        return None if k is None else float(curve[0][0])
    (s, below), (t, above) = curve[k - 1], curve[k]
    return s * (t / s) ** (below / (below - above))


def growth_exponent(
    n: Sequence[float], tau: Sequence[float], *, confidence: float = 0.95
) -> Estimate:
    """The exponent b of tau ~ n^b over training runs, equation (6).

    Args:
        n: training-set size of each run, at least two different.
        tau: its tau_mem or tau_gen.
        confidence: probability with which the interval covers, for equal and normal errors of
            log tau.

    Raises:
        DataError: fewer than three runs, one size only, or a run that did not reach its time:
            leaving those out would bend the line.

    Reference:
        Draper and Smith 1998, Applied Regression Analysis, section 1.4.
    """
    from scipy.special import stdtrit

    require_confidence(confidence)
    x, y = (torch.tensor(values, dtype=torch.float64) for values in (n, tau))
    if x.shape != y.shape or len(x) < 3 or len(x.unique()) < 2:
        raise DataError(
            "A growth exponent needs one time a run, at least three runs and two sizes n, got "
            f"{len(x)} sizes and {len(y)} times."
        )
    reached = torch.isfinite(y) & (y > 0)
    if not bool(reached.all()):
        raise DataError(
            f"{int((~reached).sum())} of {len(y)} runs did not reach their time (largest n: "
            f"{float(x[~reached].max()):.0f}). Train longer, or leave out whole sizes n."
        )
    x, y = x.log() - x.log().mean(), y.log() - y.log().mean()
    slope = float(x @ y / (x @ x))
    error = math.sqrt(float((y - slope * x).square().sum() / ((len(x) - 2) * (x @ x))))
    half = float(stdtrit(len(x) - 2, (1 + confidence) / 2)) * error
    return Estimate(value=slope, low=slope - half, high=slope + half, confidence=confidence)
