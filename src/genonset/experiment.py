"""One cell of a sweep: from its description to its numbers.

A cell fits its model on n training points, lets it generate, and evaluates every criterion for
four roles on the same draws:

    model       the fitted model
    memorizer   the training points, resampled: the exact empirical law
    oracle      fresh points of the source: the exact true law where it is known
    null        the fitted model, judged as if n fresh points had been its training set

All draws derive from (seed, name of the draw, replicate), and from n only where they belong to
it: one original set, one oracle and one sampling noise serve every n and model of a replicate,
so that differences between them are paired.
"""

import contextlib
import functools
import hashlib
import math
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from pydantic import TypeAdapter

from genonset import datasets, distances, seeds
from genonset.criteria import (
    CRITERIA,
    GROUPS,
    NEED_SAMPLES,
    Generated,
    Reference,
    Scene,
    collapse_facts,
    evaluate,
    late_facts,
)
from genonset.datasets import Dataset, Indices
from genonset.distances import Smoothed
from genonset.errors import CheckpointError, ConfigError, StoreError
from genonset.features import is_image
from genonset.gallery import Gallery, hang
from genonset.samplers import Sampler
from genonset.sources import Empirical, Gaussian, GaussianMixture, Source
from genonset.spec import (
    AnySource,
    Cell,
    ExactModel,
    FiniteSource,
    FromPython,
    Measurement,
    NetworkModel,
    OfFiles,
    Sweep,
)
from genonset.tensors import Samples, Vectors, flatten
from genonset.training import Monitor

N_ORIGINAL = 10_000
N_GENERATED = 1_000

Values = dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a cell.

    Attributes:
        key: the cell's.
        status: "failed" cells keep their traceback and have no values.
        values: role -> criterion -> number.
        seconds: process time it took.
        common: numbers the other cells of its `common_key` need not compute again.
        gallery: of images, in the first replicate: samples to be looked at.
        note: what the run's log should say of it.
    """

    key: str
    status: Literal["done", "failed"]
    values: Values = field(default_factory=dict)
    traceback: str = ""
    seconds: float = 0.0
    common: dict[str, float] = field(default_factory=dict)
    gallery: Gallery | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Points:
    """The draws of one cell, each of shape (., d); `rows` are the training set's in its data."""

    training: Vectors
    held_out: Vectors
    null: Vectors
    original: Vectors
    oracle: Vectors
    rows: Indices | None = None


def build(source: AnySource) -> Source | Dataset:
    """The law or the data set that the table of a spec names, kept for the next cell."""
    return _build(source.model_dump_json())


@functools.lru_cache(maxsize=8)
def _build(source: str) -> Source | Dataset:
    return TypeAdapter[AnySource](AnySource).validate_json(source).build()


@functools.lru_cache(maxsize=4)
def _common_draws(source: Source, seed: int, replicate: int, n_original: int, n_generated: int):
    """The original set and the oracle's draws of a replicate."""
    return (
        source.sample(n_original, generator=seeds.generator(seed, "original", replicate)),
        source.sample(n_generated, generator=seeds.generator(seed, "oracle", replicate)),
    )


def draw_points(cell: Cell) -> Points:
    """Every set of points a cell looks at."""
    world, names = build(cell.source), ("training", "held_out", "null")
    assert cell.n_original is not None
    assert cell.n_generated is not None
    if isinstance(world, Dataset):
        rows = flatten(world.points)
        split = datasets.split(
            len(rows),
            n=cell.n,
            n_original=cell.n_original,
            n_generated=cell.n_generated,
            seed=cell.seed,
            replicate=cell.turn("data"),
        )
        return Points(
            training=rows[split.training],
            held_out=rows[split.held_out],
            null=rows[split.null],
            original=rows[split.original],
            oracle=rows[split.oracle],
            rows=split.training,
        )
    original, oracle = _common_draws(
        world, cell.seed, cell.turn("evaluation"), cell.n_original, cell.n_generated
    )
    turns = {name: cell.turn("data" if name == "training" else "evaluation") for name in names}
    sets = {
        name: world.sample(cell.n, generator=seeds.generator(cell.seed, name, turn, cell.n))
        for name, turn in turns.items()
    }
    return Points(**sets, original=original, oracle=oracle)


def run_cell(
    cell: Cell, common: Mapping[str, float] | None = None, *, checkpoint: Path | None = None
) -> Result:
    """Fit, generate and measure; the same cell gives the same numbers.

    Args:
        cell: with its sizes resolved (see `resolve`).
        common: the `common` of a result with the same `common_key`, to save work.
        checkpoint: where the training of a network is kept, and taken up again: a file for the
            cells of one `family`; a second network (see `twin_file`) has one beside it.

    Raises:
        CheckpointError: the checkpoint is damaged, or of another training.
    """
    started = time.process_time()
    common = dict(common or {})
    world, points = build(cell.source), draw_points(cell)
    rule, std = cell.bandwidth, world.std
    width = _training_width(cell, points, std)
    wide = width
    if isinstance(rule, str) and rule in ("paper", "scott"):
        n_original, dim = points.original.shape
        wide = distances.kernel_bandwidth(rule, n_original, dim, std)
    with_kernel = bool(set(cell.measured) & set(GROUPS["kernel_l2"]))

    def reference(rows: Vectors, bandwidth: float) -> Reference:
        smoothed = Smoothed(points=rows, bandwidth=bandwidth)
        log_off = distances.log_off_diagonal(smoothed) if with_kernel else math.nan
        return Reference(smoothed=smoothed, log_off=log_off)

    name = f"log_off_original at {wide!r}"
    if cell.original == "expected" and isinstance(world, Gaussian):
        original = _original(points.original, wide, math.nan, world)
        common = {}
    elif name in common:
        original = _original(points.original, wide, common[name], None)
    else:
        original = reference(points.original, wide)
        common = {name: original.log_off} if with_kernel else {}
    training, held_out, null = (
        reference(rows, width) for rows in (points.training, points.held_out, points.null)
    )

    model, memorizer, oracle = _generators(cell, points, checkpoint)
    shows = cell.replicate == 0 and isinstance(world, Dataset) and is_image(world.shape)
    wants_samples = shows or bool(set(cell.measured) & NEED_SAMPLES) or model.law is None
    nothing = points.training[:0]

    def noise() -> torch.Generator:
        return seeds.generator(cell.seed, "sampling", cell.turn("sampling"))

    def samples(generated: Generated) -> Vectors:
        return generated.draw(cell.n_generated or 0, noise()) if wants_samples else nothing

    drawn = samples(model)
    if cell.model.kind == "python":
        datasets.check_same_units(
            {"training": points.training, "generated": drawn},
            allow_mixed_units=cell.allow_mixed_units,
        )
    twins = _twins(cell, points, noise, checkpoint) if "overlap" in cell.measured else {}

    def scene(role: str, generated: Generated, drawn: Vectors, training: Reference) -> Scene:
        return Scene(
            generated=generated,
            samples=drawn,
            twin_samples=twins.get(role, nothing),
            training=training,
            held_out=held_out,
            original=original,
            std=std,
            source=world if isinstance(world, Source) else None,
            keep_self=rule != "paper",
            seed=seeds.derive(cell.seed, "evaluation", cell.turn("evaluation")),
        )

    measured = cell.measured
    about_training = [c for c in measured if CRITERIA[c].axis in ("memorization", "error")]
    about_training = [c for c in about_training if c != "overlap"]
    values: Values = {
        "model": evaluate(measured, scene("model", model, drawn, training)),
        "memorizer": evaluate(
            measured, scene("memorizer", memorizer, samples(memorizer), training)
        ),
        "oracle": evaluate(measured, scene("oracle", oracle, points.oracle, training)),
        "null": evaluate(about_training, scene("null", model, drawn, null)),
    }
    facts = dict(model.facts)
    noise_table = getattr(cell.model, "noise", None)
    if noise_table is not None and set(GROUPS["collapse"]) & set(measured):
        seed = seeds.derive(cell.seed, "collapse", cell.turn("evaluation"), cell.n)
        facts |= collapse_facts(points.training, noise_table.build(), seed=seed)
    if noise_table is not None and set(GROUPS["late_times"]) & set(measured):
        seed = seeds.derive(cell.seed, "late times", cell.turn("evaluation"), cell.n)
        law = _exact_law(cell, points.training)
        facts |= late_facts(law, points.training, noise_table.build(), seed=seed)
    values["model"] |= {
        name: value
        for name, value in facts.items()
        if name.removesuffix("_low").removesuffix("_high") in measured
    }
    gallery = None
    if isinstance(world, Dataset) and points.rows is not None and shows:
        shown = {"model": drawn, "memorizer": samples(memorizer), "oracle": points.oracle}
        gallery = hang(world, points.training, points.rows, shown)
    return Result(
        key=cell.key,
        status="done",
        values=values,
        common=common,
        gallery=gallery,
        seconds=time.process_time() - started,
    )


@functools.lru_cache(maxsize=2)
def _original(
    points: Vectors, bandwidth: float, log_off: float, expected_from: Gaussian | None
) -> Reference:
    """The original set, kept with its terms for the next cell that has the very same points."""
    smoothed = Smoothed(points=points, bandwidth=bandwidth)
    return Reference(smoothed=smoothed, log_off=log_off, expected_from=expected_from)


def _training_width(cell: Cell, points: Points, std: float) -> float:
    """Kernel width of the training and held-out sets."""
    n, dim = points.training.shape
    if not isinstance(cell.bandwidth, str):
        return cell.bandwidth
    rule = "paper" if cell.bandwidth == "shared" else cell.bandwidth
    pooled = torch.cat([points.training, points.held_out])
    return distances.kernel_bandwidth(
        rule, n, dim, std, points=pooled if rule == "cross_validated" else None
    )


def _generators(
    cell: Cell, points: Points, checkpoint: Path | None
) -> tuple[Generated, Generated, Generated]:
    """The model and the two poles between which it lies."""
    model = _fit(cell, points, points.training, "training noise", checkpoint)
    memorizer = Generated(
        draw=lambda n, g: points.training[torch.randint(len(points.training), (n,), generator=g)],
        law=Smoothed(points=points.training, bandwidth=0.0),
    )
    source = build(cell.source)
    oracle = Generated(
        draw=lambda n, g: points.oracle[:n],
        law=source if isinstance(source, Gaussian | GaussianMixture) else None,
    )
    return model, cell.model.judge(memorizer), cell.model.judge(oracle)


def _fit(
    cell: Cell, points: Points, rows: Vectors, noise: str, checkpoint: Path | None
) -> Generated:
    """The cell's model fitted to some rows; a network is watched where the cell asks when.

    A network starts from the first number of its training noise, which `kept_for` may take from
    another replicate than the rest.
    """
    model = cell.model
    generator, initialization = (
        seeds.generator(cell.seed, noise, cell.turn(name), cell.n)
        for name in ("training_noise", "initialization")
    )
    if isinstance(model, ExactModel) and model.law == "source":
        source = build(cell.source)
        assert isinstance(source, Gaussian | GaussianMixture)
        return model.ideal(source)
    if not isinstance(model, NetworkModel):
        return model.fit(rows, generator=generator)
    world = build(cell.source)
    images = world if isinstance(world, Dataset) and model.takes_images(world.shape) else None

    def shaped(rows: Vectors) -> Samples:
        return model.shaped(rows if images is None else images.restore(rows))

    def monitor(sampler: Sampler) -> Monitor | None:
        if rows is not points.training or not {"tau_gen", "tau_mem"} & set(cell.measured):
            return None
        return Monitor(
            shaped(points.training),
            shaped(points.held_out),
            fresh=shaped(points.original),
            sampler=sampler,
            n_generated=cell.n_generated or N_GENERATED,
            seed=seeds.derive(cell.seed, "probes", cell.turn("evaluation")),
        )

    fitted = model.fit(
        shaped(rows),
        generator=generator,
        initialization=initialization,
        monitor=monitor,
        checkpoint=checkpoint,
    )
    kept = None if images is None else images.kept

    def draw(n: int, noise: torch.Generator) -> Vectors:
        drawn = flatten(fitted.draw(n, noise))
        return drawn if kept is None else drawn[:, kept]

    return replace(fitted, draw=draw)


def _exact_law(cell: Cell, training: Vectors) -> Gaussian | GaussianMixture | Empirical:
    """The law whose exact score a cell speaks of: of its training points, or the true one."""
    source = build(cell.source)
    if isinstance(cell.model, ExactModel) and cell.model.law == "source":
        assert isinstance(source, Gaussian | GaussianMixture)
        return source
    return Empirical(training)


def twin_file(checkpoint: Path) -> Path:
    """Beside a cell's checkpoint, that of the network which the overlap is measured with."""
    return checkpoint.with_stem(f"{checkpoint.stem}-twin")


def _twins(cell: Cell, points: Points, noise, checkpoint: Path | None) -> dict[str, Vectors]:
    """For the overlap: the same generators had they seen the disjoint null set."""
    n = cell.n_generated or 0
    file = None if checkpoint is None else twin_file(checkpoint)
    twin = _fit(cell, points, points.null, "twin training noise", file)
    return {
        "model": twin.draw(n, noise()),
        "memorizer": points.null[torch.randint(len(points.null), (n,), generator=noise())],
        "oracle": points.oracle,
    }


def attempt_cell(
    cell: Cell, common: Mapping[str, float] | None = None, checkpoint: Path | None = None
) -> Result:
    """`run_cell` on one thread, with any exception kept as a failed result.

    A checkpoint that cannot be taken up costs time and no numbers: it is removed, the training
    starts again, and the result says so. A cell that fails would fail again: its checkpoint is
    removed too, unless it could not be written. Where its folder is out of reach, as from a
    cluster without a shared disk, there is none.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if checkpoint is not None and not checkpoint.parent.is_dir():
        checkpoint = None
    try:
        return run_cell(cell, common, checkpoint=checkpoint)
    except CheckpointError as error:
        gone = remove_checkpoint(checkpoint)
        again = attempt_cell(cell, common, checkpoint if gone else None)
        return replace(again, note=f"trained from the start: {error}")
    except Exception as error:
        if not isinstance(error, StoreError):
            remove_checkpoint(checkpoint)
        return Result(key=cell.key, status="failed", traceback=traceback.format_exc())
    finally:
        torch.set_num_threads(threads)


def remove_checkpoint(checkpoint: Path | None) -> bool:
    """Remove what a family of cells kept of its training, and drafts that a kill left behind;
    whether it is gone.
    """
    if checkpoint is None:
        return True
    files = [checkpoint, twin_file(checkpoint)]
    files += [file.with_name(f"{file.name}.part") for file in files]
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
    return not any(file.exists() for file in files)


def resolve(sweep: Sweep) -> Sweep:
    """Fill in what a spec left open, and refuse what cannot run, before anything runs.

    Sizes get their defaults (for finite data, what its halves allow); data sets and models of the
    user's own the hash of their content, so that a run folder says exactly what it holds.

    Raises:
        DataError: unreadable data, or sizes that do not fit, with the largest that do.
        ConfigError: data or a model whose content is not what the spec's sha256 says, or a model
            that cannot be imported.
    """
    sweep = _with_source(sweep)
    contents, digests = dict(sweep.contents), {}
    for measurement in map(sweep.measurement, sweep.settings()):
        world = build(measurement.source)
        if isinstance(world, Dataset):
            _fitting_split(sweep, world)
        for table in (measurement.source, measurement.model):
            if not isinstance(table, OfFiles):
                continue
            name = table.content_name
            digests[name] = digests.get(name) or _content(table)
            _require_unchanged(table, digests[name])
            if table.sha256 is None:
                contents[name] = digests[name]
    return sweep.model_copy(update={"contents": contents})


def _content(table: OfFiles) -> str:
    """The sha256 of finite data, or of the file of a model."""
    if isinstance(table, FromPython):
        return table.content()
    world = _build(table.model_dump_json())
    assert isinstance(world, Dataset)
    return hashlib.sha256(flatten(world.points).numpy().tobytes()).hexdigest()


def _with_source(sweep: Sweep) -> Sweep:
    """The sizes, and the content of the source that the table of the spec names."""
    world = build(sweep.source)
    if isinstance(world, Source):
        sizes = {
            "n_original": sweep.n_original or N_ORIGINAL,
            "n_generated": sweep.n_generated or N_GENERATED,
        }
        return sweep.model_copy(update=sizes)
    split = _fitting_split(sweep, world)
    assert isinstance(sweep.source, FiniteSource)
    digest = _content(sweep.source)
    _require_unchanged(sweep.source, digest)
    return sweep.model_copy(
        update={
            "n_original": len(split.original),
            "n_generated": len(split.oracle),
            "source": sweep.source.model_copy(update={"sha256": digest}),
        }
    )


def _require_unchanged(table: OfFiles, digest: str) -> None:
    stated = table.sha256
    if stated not in (None, digest):
        python = isinstance(table, FromPython)
        what = f"The file of {table.target}" if python else f"The data of {table.content_name}"
        raise ConfigError(
            f"{what} changed: sha256 is {digest[:12]}..., the spec says {stated[:12]}.... "
            "Restore it, or use a new run folder."
        )


def _fitting_split(sweep: Sweep, world: Dataset) -> datasets.Split:
    """The split of the largest n of a sweep, or the refusal of sizes that do not fit."""
    return datasets.split(
        len(world.points),
        n=max(sweep.n),
        n_original=sweep.n_original,
        n_generated=sweep.n_generated,
        seed=sweep.seed,
        replicate=0,
    )


def eigenvalues(world: Source | Dataset) -> torch.Tensor | None:
    """Eigenvalues of the covariance, where it is known."""
    if isinstance(world, Gaussian):
        return world.eigenvalues
    if isinstance(world, GaussianMixture):
        return torch.linalg.eigvalsh(world.covariance).clamp_min(0.0)
    if isinstance(world, Dataset):
        covariance = torch.atleast_2d(flatten(world.points).T.cov())
        return torch.linalg.eigvalsh(covariance).clamp_min(0.0)
    return None


def floor_values(measurement: Measurement) -> dict[str, float]:
    """Closed-form criteria of the model after infinitely many points, where they are known.

    For a Gaussian source and a linear model: the value a quality criterion tends to as n grows.
    """
    if measurement.source.kind != "gaussian":
        return {}
    source = measurement.source.build()
    law = measurement.model.limit(source)
    if law is None:
        return {}
    return {
        "hellinger_squared": distances.hellinger_squared(law, source),
        "affinity_rate": distances.affinity_rate(law, source),
        "kl_to_source": distances.kl(law, source),
        "kl_from_source": distances.kl(source, law),
        "bures_wasserstein": distances.bures_wasserstein(law, source),
        "spread_ratio": float(law.eigenvalues.sum() / source.eigenvalues.sum()),
    }
