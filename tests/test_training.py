"""Training: its loss, its budgets, its checkpoints; the monitor and what it reads off."""

import csv
import itertools
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from genonset import seeds
from genonset.denoisers import ExactDenoiser, NeuralDenoiser, check_network
from genonset.errors import ConfigError, DataError, DivergedError, StoreError
from genonset.networks import ResidualMLP
from genonset.noise import OrnsteinUhlenbeck
from genonset.sources import Empirical, Gaussian
from genonset.training import (
    Monitor,
    Probe,
    Recipe,
    _crossing,
    _Keeper,
    _Run,
    growth_exponent,
    train,
    train_together,
)

NOISE = OrnsteinUhlenbeck(horizon=2.0)


def points(n, d=4, name="training"):
    return torch.randn(n, d, generator=seeds.generator(0, name))


def fresh_denoiser(d=4, width=16, seed=0, **options):
    torch.manual_seed(seed)
    return NeuralDenoiser(ResidualMLP(dim=d, width=width), NOISE, **options)


def weights(denoiser):
    return torch.cat([p.detach().flatten() for p in denoiser.network.parameters()])


class Deterministic:
    """DDIM on a quadratic grid, written out: the tests' own sampler."""

    def __init__(self, shape, n_steps=20):
        self.shape, self.n_steps = shape, n_steps

    def sample(self, denoiser, n, *, generator):
        x = torch.randn(n, *self.shape, dtype=torch.float64, generator=generator)
        grid = 2 * torch.linspace(1.0, 0.0, self.n_steps + 1, dtype=torch.float64) ** 2
        for t, s in itertools.pairwise(grid):
            clean = denoiser(x, t)
            eps = (x - NOISE.alpha(t) * clean) / NOISE.sigma(t)
            x = NOISE.alpha(s) * clean + NOISE.sigma(s) * eps
        return x


# -- the loss ----------------------------------------------------------------------------------


class Posterior(nn.Module):
    """What the best network answers for N(0, I): linear in its input, a scalar of the time."""

    def __init__(self, target, clock):
        super().__init__()
        self.target, self.clock = target, clock
        self.idle = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, t):
        t = (t / self.clock * NOISE.horizon)[:, None]
        alpha, sigma = torch.exp(-t), torch.sqrt(1 - torch.exp(-2 * t))
        factor = {"clean": alpha, "noise": sigma, "v": 1e-12 * t}[self.target]
        return factor * x + 0 * self.idle


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("clean", (4 - 1 + math.exp(-4)) / 4),  # mean of 1 - e^-2t over (0, 2]
        ("noise", (1 - math.exp(-4)) / 4),  # mean of e^-2t
        ("v", 1.0),
    ],
)
def test_loss_of_the_best_network_is_the_posterior_variance(target, expected):
    """Within 4 standard errors; 3e-4 false alarms over the three."""
    denoiser = NeuralDenoiser(Posterior(target, 7.0), NOISE, target, clock=7.0)
    x_0 = torch.randn(50_000, 4, dtype=torch.float64, generator=seeds.generator(1))
    done = train(denoiser, x_0, Recipe(steps=1), generator=seeds.generator(2))
    assert done.loss == pytest.approx(expected, abs=4 * 1.5 / math.sqrt(200_000))


def test_times_of_a_batch_are_stratified(monkeypatch):
    seen = []

    class Witness(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x, t):
            seen.append(t.clone())
            return self.weight * x * t[:, None]

    denoiser = NeuralDenoiser(Witness(), NOISE, clock=1.0)
    train(denoiser, points(32), Recipe(steps=2), generator=seeds.generator(0))
    for told in seen[-2:]:
        assert ((told.sort().values * 32).ceil() == torch.arange(1, 33)).all()
        assert not torch.equal(told, told.sort().values)
        assert told.max() <= 1
    assert not torch.equal(seen[-1], seen[-2])


def test_training_approaches_the_exact_denoiser():
    """The excess of the noise loss over the best possible, at t = 0.6, falls tenfold."""
    x_0, denoiser = points(4000), fresh_denoiser(width=32)
    fresh = points(4000, name="fresh").double()
    t = torch.tensor(0.6, dtype=torch.float64)
    x_t = NOISE.perturb(fresh, t, generator=seeds.generator(3))
    best = ExactDenoiser(Gaussian(torch.zeros(4), 1.0), NOISE)(x_t, t)

    def excess():
        with torch.no_grad():
            return float((denoiser(x_t, t) - best).square().mean())

    before = excess()
    recipe = Recipe(steps=300, batch_size=256, learning_rate=3e-3, ema=0.99)
    done = train(denoiser, x_0, recipe, generator=seeds.generator(0))
    denoiser = done.denoiser
    assert excess() < before / 10
    assert excess() < 0.02


# -- budgets, batches, averages ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "steps", "epochs", "budget"),
    [
        ({"steps": 7}, 7, 7.0, "steps"),
        ({"steps": 7, "batch_size": 4}, 7, 7 / 3, "steps"),
        ({"epochs": 2, "batch_size": 4}, 6, 2.0, "epochs"),
        ({"epochs": 2, "batch_size": 99}, 2, 2.0, "epochs"),
        ({"epochs": 2, "batch_size": 10}, 2, 2.0, "epochs"),
    ],
)
def test_budgets_in_both_units(options, steps, epochs, budget):
    done = train(fresh_denoiser(), points(10), Recipe(**options), generator=seeds.generator(0))
    assert (done.steps, done.epochs, done.budget) == (steps, pytest.approx(epochs), budget)
    assert done.n_parameters == 16 * 21 + 4 + 6 * 256


def test_an_epoch_sees_every_point_once():
    seen = []

    class Witness(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x, t):
            seen.append(x.detach().clone())
            return self.weight * x + t[:, None]

    quiet = OrnsteinUhlenbeck(horizon=1e-8, noise_scale=1e-8)
    x_0 = torch.arange(1.0, 11.0)[:, None]
    train(
        NeuralDenoiser(Witness(), quiet, "clean", clock=1.0),
        x_0,
        Recipe(epochs=2, batch_size=4, learning_rate=1e-9),
        generator=seeds.generator(0),
    )
    sizes = [len(x) for x in seen[-6:]]
    assert sizes == [4, 4, 2] * 2
    first, second = (torch.cat(seen[-6:][i : i + 3]).round()[:, 0] for i in (0, 3))
    assert torch.equal(first.sort().values, x_0[:, 0])
    assert torch.equal(second.sort().values, x_0[:, 0])
    assert not torch.equal(first, second)


def test_average_follows_the_weights():
    """Equation (3), against the weights of runs of every shorter length."""
    path = []
    for steps in range(1, 5):
        plain = fresh_denoiser()
        train(plain, points(10), Recipe(steps=steps), generator=seeds.generator(0))
        path.append(weights(plain))
    averaged = weights(fresh_denoiser())
    for k, w in enumerate(path, 1):
        e = min(0.3, (1 + k) / (10 + k))
        averaged = e * averaged + (1 - e) * w
    recipe = Recipe(steps=4, ema=0.3)
    done = train(fresh_denoiser(), points(10), recipe, generator=seeds.generator(0))
    torch.testing.assert_close(weights(done.denoiser), averaged)


def test_momentum_is_the_textbook_one():
    """Two steps of gradient descent with momentum, by hand, on a loss linear in nothing else."""

    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.b = nn.Parameter(torch.zeros(1))

        def forward(self, x, t):
            return self.b + 0 * x * t[:, None]

    denoiser = NeuralDenoiser(Shift(), NOISE, "clean")
    x_0 = torch.full((5, 1), 3.0)
    with pytest.raises(DataError, match="ignores the time"):
        check_network(denoiser, x_0)
    b, velocity = 0.0, 0.0
    for _ in range(2):
        velocity = 0.9 * velocity + 2 * (b - 3.0)
        b -= 0.1 * velocity
    denoiser.network.forward = lambda x, t: denoiser.network.b + 1e-9 * x * t[:, None]
    recipe = Recipe(steps=2, optimizer="sgd", learning_rate=0.1, momentum=0.9)
    train(denoiser, x_0, recipe, generator=seeds.generator(0))
    assert denoiser.network.b.item() == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "one budget"),
        ({"steps": 0}, "steps=0"),
        ({"steps": 1, "epochs": 1}, "one budget"),
        ({"steps": 1, "batch_size": 0}, "batch_size"),
        ({"steps": 1, "optimizer": "lion"}, "lion"),
        ({"steps": 1, "learning_rate": 0.0}, "learning_rate > 0"),
        ({"steps": 1, "ema": 1.0}, "ema < 1"),
    ],
)
def test_recipes_that_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        Recipe(**options)


# -- networks that cannot be trained -----------------------------------------------------------


class Answer(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer, self.weight = answer, nn.Parameter(torch.ones(()))

    def forward(self, x, t):
        return self.answer(self.weight * x, t)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (lambda x, t: x[:, :2], DataError, r"\(2, 2\).*\(2, 4\)"),
        (lambda x, t: (x, t), DataError, "tuple"),
        (lambda x, t: x * math.nan, DivergedError, "8 of 8"),
        (lambda x, t: 2 * x, DataError, "ignores the time"),
    ],
)
def test_networks_that_cannot_denoise(answer, error, said):
    denoiser = NeuralDenoiser(Answer(answer), NOISE)
    with pytest.raises(error, match=said):
        train(denoiser, points(8), Recipe(steps=3), generator=seeds.generator(0))


def test_a_last_layer_that_starts_at_zero_is_no_reason_to_refuse():
    denoiser = fresh_denoiser()
    nn.init.zeros_(denoiser.network.leave.weight)
    nn.init.zeros_(denoiser.network.leave.bias)
    check_network(denoiser, points(2))


def test_bad_points():
    for bad, said in ((points(3) * math.inf, "NaN or infinite"), (torch.empty(0, 4), "one point")):
        with pytest.raises(DataError, match=said):
            train(fresh_denoiser(), bad, Recipe(steps=1), generator=seeds.generator(0))


def test_divergence_stops_and_says_where(tmp_path):
    file = tmp_path / "run.pt"
    with pytest.raises(DivergedError, match=r"step \d+.*learning rate"):
        train(
            fresh_denoiser(),
            points(8),
            Recipe(steps=500, optimizer="sgd", learning_rate=1e6, momentum=0.0),
            generator=seeds.generator(0),
            checkpoint=file,
        )
    assert not file.exists()


# -- precision ---------------------------------------------------------------------------------


def test_bfloat16_rounds_the_products_alone():
    """Weights, gradients and what is returned stay in float32; products feel 8 bits."""
    full, half = (fresh_denoiser(width=32) for _ in range(2))
    for denoiser, precision in ((full, "float32"), (half, "bfloat16")):
        recipe = Recipe(steps=20, ema=0.5, precision=precision)
        done = train(denoiser, points(32), recipe, generator=seeds.generator(0))
        assert done.denoiser.precision == denoiser.precision == precision
        assert {p.dtype for p in denoiser.network.parameters()} == {torch.float32}
    moved = (weights(half) - weights(full)).abs().max()
    assert 0 < moved < 0.02
    x, t = points(8).double(), torch.tensor(1.0, dtype=torch.float64)
    precise = half(x, t)
    assert precise.dtype == torch.float64
    half.precision = "float32"
    change = (half(x, t) - precise).abs().max()
    assert 2**-14 < change < 2**-4


def test_bfloat16_in_a_stack_and_from_a_checkpoint(tmp_path):
    recipe = Recipe(steps=6, precision="bfloat16")
    alone = fresh_denoiser()
    train(alone, points(16), recipe, generator=seeds.generator(0))
    stacked = fresh_denoiser()
    train_together([stacked], [points(16)], recipe, generators=[seeds.generator(0)])
    assert (weights(alone) - weights(stacked)).abs().max() < 0.01
    resumed, file = fresh_denoiser(), tmp_path / "run.pt"
    first = Recipe(steps=3, precision="bfloat16")
    train(fresh_denoiser(), points(16), first, generator=seeds.generator(0), checkpoint=file)
    train(resumed, points(16), recipe, generator=seeds.generator(0), checkpoint=file)
    assert torch.equal(weights(resumed), weights(alone))
    with pytest.raises(StoreError, match="its recipe differ"):
        train(fresh_denoiser(), points(16), Recipe(steps=9), generator=seeds.generator(0),
              checkpoint=file)  # fmt: skip


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match="'float32' or 'bfloat16', got 'half'"):
        Recipe(steps=1, precision="half")


# -- checkpoints -------------------------------------------------------------------------------

SCRIPT = """
import sys, torch
sys.path.insert(0, {tests!r})
from test_training import *
torch.set_num_threads(1)
long_run({file!r})
"""


def long_run(file=None, steps=150):
    monitor = Monitor(points(40).double(), points(40, name="held"), sampler=Deterministic((4,), 3))
    done = train(
        fresh_denoiser(),
        points(40),
        Recipe(steps=steps, batch_size=16, ema=0.99),
        generator=seeds.generator(0, "run"),
        monitor=monitor,
        checkpoint=file,
        checkpoint_seconds=0.0,
    )
    return weights(done.denoiser), monitor


def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    expected, seen = long_run()
    file = tmp_path / "run.pt"
    script = SCRIPT.format(tests=os.path.dirname(__file__), file=str(file))
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    while not file.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    _, complaints = process.communicate()
    assert process.returncode == -signal.SIGKILL, complaints.decode()
    reached = torch.load(_payload(file), weights_only=True)["step"]
    assert 0 < reached < 150
    found, monitor = long_run(file)
    assert torch.equal(found, expected)
    assert monitor.probes == seen.probes
    finished, _ = long_run(file)
    assert torch.equal(finished, expected)


def _payload(file):
    import io

    return io.BytesIO(file.read_bytes()[32:])


def test_a_larger_budget_continues(tmp_path):
    file = tmp_path / "run.pt"
    long_run(file, steps=31)
    found, monitor = long_run(file, steps=50)
    expected, seen = long_run(steps=50)
    assert torch.equal(found, expected)
    assert monitor.probes == seen.probes  # 31 is not on the grid of a run of 50
    assert 31 not in [p.step for p in seen.probes]
    with pytest.raises(StoreError, match="step 50, beyond the budget of 40"):
        long_run(file, steps=40)


def test_the_loss_reported_does_not_depend_on_where_a_run_was_cut(tmp_path):
    def loss(steps, file=None, stop=math.inf):
        return train(
            fresh_denoiser(),
            points(8),
            Recipe(steps=steps),
            generator=seeds.generator(0),
            monitor=Monitor(points(8), points(8, name="h"), factor=1.0),
            checkpoint=file,
            until=lambda m: m.probes[-1].step >= stop,
        ).loss

    file = tmp_path / "run.pt"
    loss(201, file, stop=199)
    assert loss(201, file, stop=200) == loss(201, stop=200)
    assert loss(400, file, stop=202) == loss(400, stop=202)  # four steps, three before the cut
    assert loss(400, file, stop=202) == loss(400, stop=202)


def test_dropout_goes_on_where_it_was(tmp_path):
    def attempt(steps, file=None):
        with seeds.global_draws(3):
            network = nn.Sequential(nn.Linear(5, 16), nn.Dropout(0.5), nn.Linear(16, 4))
            network.forward = lambda x, t: nn.Sequential.forward(
                network, torch.cat([x, t[:, None]], 1)
            )
            denoiser = NeuralDenoiser(network, NOISE, clock=1.0)
            train(
                denoiser,
                points(8),
                Recipe(steps=steps),
                generator=seeds.generator(0),
                monitor=Monitor(points(8), points(8, name="h")),
                checkpoint=file,
            )
        return weights(denoiser)

    attempt(7, tmp_path / "run.pt")
    assert torch.equal(attempt(12, tmp_path / "run.pt"), attempt(12))


@pytest.mark.parametrize(("width", "pace"), [(16, 1.0), (512, 26.0)])
def test_checkpoints_take_a_hundredth_of_the_time(tmp_path, monkeypatch, width, pace):
    """A clock that counts: a step takes 0.1 s, a write of 1.6 million weights 0.2 s."""
    clock, writes = [0.0], []
    monkeypatch.setattr("genonset.training.time.monotonic", lambda: clock[0])
    denoiser = fresh_denoiser(width=width)
    run = _Run(denoiser, points(8), Recipe(steps=2000), seeds.generator(0))

    def save(file, monitor):
        clock[0] += 0.2
        writes.append(clock[0])

    run.save = save
    keeper = _Keeper(tmp_path / "run.pt", None, run)
    for step in range(1, 2001):
        clock[0] += 0.1
        keeper(None, last=step == 2000)
    assert pace / 1.5 < writes[0] < 1.5 * pace  # by the size of the network
    assert all(20.1 < b - a < 20.4 for a, b in itertools.pairwise(writes))
    assert 0.2 * len(writes) <= 0.011 * clock[0]
    assert not (tmp_path / "run.pt").exists()


def test_a_run_that_stopped_early_stays_stopped(tmp_path):
    def attempt():
        monitor = Monitor(points(8), points(8, name="h"))
        done = train(
            fresh_denoiser(),
            points(8),
            Recipe(steps=50),
            generator=seeds.generator(0),
            monitor=monitor,
            checkpoint=tmp_path / "run.pt",
            until=lambda m: m.probes[-1].step >= 7,
        )
        return done.steps, weights(done.denoiser)

    (first, then), (again, now) = attempt(), attempt()
    assert first == again == 7
    assert torch.equal(then, now)


def test_a_monitor_without_a_sampler_knows_no_times():
    monitor = Monitor(points(8), points(8, name="h"))
    monitor.probe(3, fresh_denoiser())
    assert monitor.tau_gen.censored
    assert monitor.tau_mem.censored
    assert monitor.verdict == "undecided"


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:10], lambda c: b"x" + c[1:]])
def test_damaged_checkpoints_are_refused(tmp_path, damage):
    file = tmp_path / "run.pt"
    long_run(file, steps=2)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(StoreError, match="not a whole checkpoint"):
        long_run(file, steps=2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": Recipe(steps=2, learning_rate=1.0)}, "recipe"),
        ({"training": points(8, name="other")}, "training points"),
        ({"denoiser": fresh_denoiser(seed=1)}, "initial weights"),
        ({"denoiser": fresh_denoiser(width=32)}, "network, initial weights"),
        ({"denoiser": fresh_denoiser(target="v")}, "target"),
        ({"generator": seeds.generator(5)}, "generator"),
    ],
)
def test_checkpoints_of_another_run_are_refused(tmp_path, change, said):
    def attempt(denoiser=None, training=None, recipe=Recipe(steps=2), generator=None):  # noqa: B008
        train(
            denoiser or fresh_denoiser(),
            points(8) if training is None else training,
            recipe,
            generator=generator or seeds.generator(0),
            checkpoint=tmp_path / "run.pt",
        )

    attempt()
    attempt()
    with pytest.raises(StoreError, match=said):
        attempt(**change)


def test_no_place_for_a_checkpoint(tmp_path):
    with pytest.raises(StoreError, match="Cannot write the checkpoint"):
        long_run(tmp_path / "nowhere" / "run.pt", steps=1)


# -- several at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_stack_trains_like_its_members(optimizer):
    recipe = Recipe(steps=20, batch_size=5, ema=0.9, optimizer=optimizer, learning_rate=1e-2)
    sets = [points(12, name=f"set {r}") for r in range(3)]

    def monitors():
        return [Monitor(x, points(12, name="held")) for x in sets]

    alone, together = monitors(), monitors()
    one_by_one = [
        train(fresh_denoiser(seed=r), sets[r], recipe, generator=seeds.generator(r), monitor=m)
        for r, m in enumerate(alone)
    ]
    stacked = train_together(
        [fresh_denoiser(seed=r) for r in range(3)],
        sets,
        recipe,
        generators=[seeds.generator(r) for r in range(3)],
        monitors=together,
    )
    for a, b in zip(one_by_one, stacked, strict=True):
        torch.testing.assert_close(weights(a.denoiser), weights(b.denoiser), rtol=1e-3, atol=1e-4)
        assert a.loss == pytest.approx(b.loss, rel=1e-3)
        assert (a.steps, a.epochs, a.n_parameters) == (b.steps, b.epochs, b.n_parameters)
    for a, b in zip(alone, together, strict=True):
        assert [p.step for p in a.probes] == [p.step for p in b.probes]
        assert a.probes[-1].held_out_loss == pytest.approx(b.probes[-1].held_out_loss, rel=1e-2)


def test_stacks_that_do_not_agree():
    with pytest.raises(ConfigError, match="2 kinds"):
        train_together(
            [fresh_denoiser(), fresh_denoiser(width=8)],
            [points(5)] * 2,
            Recipe(steps=1),
            generators=[seeds.generator(0)] * 2,
        )


# -- the monitor -------------------------------------------------------------------------------


def poles(n=30):
    training = Gaussian(torch.zeros(4), 1.0).sample(n, generator=seeds.generator(0, "t"))
    source = Gaussian(torch.zeros(4), 1.0)
    held, fresh = (source.sample(m, generator=seeds.generator(0, m)) for m in (n, 2000))
    monitor = Monitor(training, held, fresh=fresh, sampler=Deterministic((4,)))
    return monitor, ExactDenoiser(Empirical(training), NOISE), ExactDenoiser(source, NOISE)


def test_the_poles_are_told_apart():
    monitor, memorizer, oracle = poles()
    copies, clean = monitor.probe(1, memorizer), monitor.probe(2, oracle)
    assert copies.memorized.value > 0.95
    assert copies.copying_p < 1e-3
    assert clean.memorized.value < 0.05
    assert clean.copying_p > 0.05
    assert monitor.verdict == "generalizing"
    assert clean.quality < copies.quality


def test_verdict_of_a_memorizer_is_copying():
    monitor, memorizer, _ = poles()
    monitor.probe(5, memorizer)
    assert monitor.verdict == "copying"
    assert monitor.tau_mem.step == 5


def test_chance_is_not_memorization():
    """On a line about a third of fresh points has one neighbour three times nearer."""
    source = Gaussian(torch.zeros(1), 1.0)
    training, held, fresh = (
        source.sample(m, generator=seeds.generator(0, m)) for m in (10, 201, 2000)
    )
    monitor = Monitor(training, held, fresh=fresh, sampler=Deterministic((1,)))
    oracle = monitor.probe(1, ExactDenoiser(source, NOISE))
    distances = np.sort(np.abs(fresh.numpy() - training.numpy().T), axis=1)
    chance = np.mean(distances[:, 0] < distances[:, 1] / 3)
    error = math.sqrt(chance * (1 - chance) * (1 / 256 + 1 / 2000))
    assert oracle.memorized.value == pytest.approx(chance, abs=4 * error)
    assert monitor.tau_mem.censored
    monitor.probe(2, ExactDenoiser(Empirical(training), NOISE))
    assert monitor.tau_mem.high == 2


def test_denoising_losses_are_those_of_theory():
    """For N(0, 1): alpha²/(alpha² + sigma²) = e^-2t; 4 standard errors over 1024 numbers."""
    monitor, memorizer, oracle = poles(256)
    seen = monitor.probe(1, oracle)
    for share, loss in seen.held_out_loss.items():
        expected = math.exp(-2 * share * NOISE.horizon)
        assert loss == pytest.approx(expected, rel=4 * math.sqrt(2 / 1024))
        assert seen.training_loss[share] == pytest.approx(expected, rel=4 * math.sqrt(2 / 1024))
    copies = monitor.probe(2, memorizer)
    assert copies.training_loss[0.01] < 0.5
    assert copies.held_out_loss[0.01] > 1


def test_grid_grows_and_does_not_depend_on_how_often_it_is_called():
    steps = []
    for every in (1, 7):
        monitor = Monitor(points(8), points(8, name="h"), factor=2.0)
        for step in range(every, 200, every):
            monitor(step, fresh_denoiser())
        steps.append([p.step for p in monitor.probes])
    assert steps[0] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert steps[1] == [7, 14, 28, 56, 112]


def test_a_probe_disturbs_nothing():
    denoiser = fresh_denoiser()
    denoiser.network.blocks[0].eval()
    monitor = Monitor(points(8), points(8, name="h"), sampler=Deterministic((4,), 2))
    before, state = weights(denoiser), torch.get_rng_state()
    first = monitor.probe(1, denoiser)
    again = monitor.probe(2, denoiser)
    assert torch.equal(weights(denoiser), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert denoiser.training
    assert not denoiser.network.blocks[0].training
    assert first.held_out_loss == again.held_out_loss
    assert first.quality == again.quality
    assert monitor.probe(2, denoiser) is None


def test_share_bounds_the_cost(monkeypatch):
    """A clock that counts: a training step takes 1 s, a probe 10 s."""
    clock = [0.0]
    monkeypatch.setattr("genonset.training.time.perf_counter", lambda: clock[0])
    monitor = Monitor(points(8), points(8, name="h"), factor=1.0, share=0.05)

    class Slow(ExactDenoiser):
        def forward(self, x_t, t):
            clock[0] += 2.0
            return super().forward(x_t, t)

    denoiser = Slow(Gaussian(torch.zeros(4), 1.0), NOISE)
    for step in range(1, 2001):
        clock[0] += 1.0
        monitor(step, denoiser)
    assert 8 <= len(monitor.probes) <= 10
    assert monitor.cost <= 0.05 * 2000


def test_table_and_rows_read_back(tmp_path):
    file = tmp_path / "probes.csv"
    monitor = Monitor(points(8), points(8, name="h"), sampler=Deterministic((4,), 2), path=file)
    for step in (1, 2):
        monitor.probe(step, fresh_denoiser())
    assert monitor.probes[0].quality_error is not None
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["step"] for row in rows] == ["1", "2"]
    assert float(rows[1]["quality"]) == monitor.probes[1].quality
    assert Probe.from_row({k: float(v) for k, v in rows[0].items()}) == monitor.probes[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([-1, -1, 1, 2], 20.0),  # halfway in log between 10 and 40
        ([1, 2, 3, 4], 1.0),
        ([-3, -2, -1, -1], None),
        ([-1, -1, -1, 3], 40 * 4**0.25),
    ],
)
def test_crossings_are_interpolated_in_log_steps(value, expected):
    steps = [1, 10, 40, 160]
    curve = list(zip(steps, value, strict=True))
    found = _crossing(curve, curve, curve)
    assert found.step == pytest.approx(expected)
    assert found.censored == (expected is None)
    if expected:
        assert found.low <= found.step <= found.high


def test_crossing_interval_spans_the_plausible_probes():
    steps = [1, 10, 40, 160]
    value, high, low = [-2, -1, 1, 1], [-1, 1, 2, 2], [-3, -2, -1, 1]
    curves = (list(zip(steps, c, strict=True)) for c in (value, high, low))
    found = _crossing(*curves)
    assert (found.low, found.step, found.high) == (1, pytest.approx(20.0), 160)
    assert str(found) == "step 20 [1, 160]"
    assert str(_crossing([(7, -1.0)], [(7, -1.0)], [(7, -1.0)])) == "not within 7 steps"


def test_growth_exponent_is_a_regression_with_its_interval():
    """Against SciPy's regression and Student quantile."""
    n = [128, 128, 256, 256, 512, 1024]
    tau = [5273.0, 5222.0, 9735.0, 11226.0, 23791.0, 41000.0]
    line = stats.linregress([math.log(v) for v in n], [math.log(v) for v in tau])
    half = stats.t.ppf(0.95, 4) * line.stderr
    found = growth_exponent(n, tau, confidence=0.9)
    expected = (line.slope, line.slope - half, line.slope + half)
    assert (found.value, found.low, found.high) == pytest.approx(expected)
    half = stats.t.ppf(0.975, 4) * line.stderr
    found = growth_exponent(n, tau)  # at level 95 % unless told
    assert (found.low, found.high) == pytest.approx((line.slope - half, line.slope + half))
    assert found.confidence == 0.95


@pytest.mark.parametrize(
    ("n", "tau", "said"),
    [
        ([1, 2], [1, 2], "three runs"),
        ([2, 2, 2], [1, 2, 3], "two sizes"),
        ([1, 2, 4, 8], [1, 2, math.inf, math.inf], "2 of 4 runs.*largest n: 8"),
        ([1, 2, 4, 8], [1, 0, 3, 4], "1 of 4 runs.*largest n: 2"),
        ([1, 2, 4, 8], [1, -1, math.nan, 4], "2 of 4 runs.*largest n: 4"),
        ([1, 2, 4], [1, 2], "got 3 sizes and 2 times"),
    ],
)
def test_growth_exponents_that_do_not_exist(n, tau, said):
    with pytest.raises(DataError, match=said):
        growth_exponent(n, tau)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"held_out": points(8, 3)}, DataError, "one shape"),
        ({"held_out": points(1)}, DataError, "at least 2"),
        ({"held_out": points(8) * math.nan}, DataError, "held_out"),
        ({"factor": 0.5}, ConfigError, "factor >= 1"),
        ({"share": 0.0}, ConfigError, "share > 0"),
    ],
)
def test_monitors_that_are_refused(options, error, said):
    options = {"held_out": points(8, name="h")} | options
    with pytest.raises(error, match=said):
        Monitor(points(8), **options)


def test_a_denoiser_of_unknown_noise():
    from genonset.denoisers import AffineDenoiser

    monitor = Monitor(points(8), points(8, name="h"))
    with pytest.raises(ConfigError, match="noise process of a AffineDenoiser"):
        monitor(1, AffineDenoiser(torch.zeros(4), torch.eye(4), 1.0))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("Monitor(x.numpy(), x)", "from_numpy"),
        ("Monitor(x, x).probe(1, torch.nn.Linear(4, 4))", "NeuralDenoiser"),
    ],
)
def test_a_monitor_says_what_it_takes(call, said):
    """In a process without the run-time checks of annotations that these tests install."""
    code = f"import torch; from genonset import Monitor; x = torch.randn(9, 4); {call}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 1
    assert said in found.stderr.splitlines()[-1]
