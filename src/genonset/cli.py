"""The command line: reads arguments, calls one function, says what was done and what is next.

Nothing is computed here. Libraries are imported where a command needs them, so that `--help` is
instant. Results go to standard output, progress and messages to standard error. Exit codes: 0
done, 1 some cells failed, 2 refused, 3 the verdict asked for was reached, 130 interrupted.
"""

import inspect
import json
import math
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from genonset import __version__
from genonset.errors import ConfigError, GenonsetError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from genonset.findings import Verdict
    from genonset.onset import Onset, Suggestion
    from genonset.spec import Sweep
    from genonset.store import Results
    from genonset.sweep import Progress, WorkerPool

app = typer.Typer(
    help="Where a diffusion model stops memorizing its training set.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_err = Console(stderr=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Out = Annotated[Path | None, typer.Option("--out", help="The folder to write to.")]
Workers = Annotated[int, typer.Option(help="Worker processes, each single-threaded.")]
Run = Annotated[Path, typer.Argument(help="A run folder.")]


def main() -> None:
    """Entry point: our own errors become one message and exit code 2, never a traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(standalone_mode=True)
    except GenonsetError as error:
        _err.print(f"[bold red]genonset:[/] {_plain(error)}", soft_wrap=True)
        sys.exit(2)


def _terminate(*_: object) -> None:
    raise KeyboardInterrupt


def _plain(error: object) -> str:
    return str(error).replace("[", r"\[")


def _say(text: str) -> None:
    _err.print(text.replace("[", r"\["), soft_wrap=True)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"genonset {__version__}")
        raise typer.Exit


@app.command()
def sweep(
    spec: Annotated[Path, typer.Argument(help="A TOML spec.")],
    out: Out = None,
    workers: Workers = 1,
    executor: Annotated[str | None, typer.Option(help="dask:local:N or dask://HOST:PORT.")] = None,
    shard: Annotated[str | None, typer.Option(help="I/K: run the I-th of K fixed parts.")] = None,
    device: Annotated[str, typer.Option(help="cpu; a sweep uses nothing else.")] = "cpu",
    allow_mixed_units: Annotated[
        bool, typer.Option("--allow-mixed-units", help="Compare data in different units anyway.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run every cell of a spec and write the report; the same command resumes."""
    from genonset.spec import Sweep

    chosen = Sweep.from_toml(spec)
    if allow_mixed_units:
        chosen = chosen.model_copy(update={"allow_mixed_units": True})
    folder = out or Path("runs") / chosen.name
    _require_cpu(device)
    results, summary = _run(chosen, folder, workers, executor, _shard(shard))
    if as_json:
        _print_json(summary)
    else:
        _tell(results, summary)
    if summary["failed"]:
        raise typer.Exit(1)


def _require_cpu(device: str) -> None:
    if device != "cpu":
        raise ConfigError(
            f"--device {device!r} cannot be used: the cells of a sweep run on the CPU. Use "
            "--device cpu, and --workers for more cores; a python model may move its own work."
        )


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise ConfigError(f"--shard takes I/K with 1 <= I <= K, such as 1/2, got {text!r}.")
    return int(index), int(count)


def _run(
    chosen: "Sweep",
    folder: Path,
    workers: int,
    address: str | None = None,
    shard: tuple[int, int] | None = None,
) -> tuple["Results", dict[str, Any]]:
    """Sweep and report; returns the results and their summary as `--json` gives it."""
    from genonset.experiment import resolve
    from genonset.report import write_run_report
    from genonset.store import Results, Store
    from genonset.sweep import run_sweep

    with redirect_stdout(sys.stderr):
        resolved = resolve(chosen)
    _note_data(resolved)
    if resolved.most_replicates < 3:
        _say("An interval needs at least 3 replicates; with fewer no onset can be estimated.")
    try:
        with (
            redirect_stdout(sys.stderr),
            _engine(workers, address) as engine,
            Store(folder, resolved, shard=shard) as store,
            _progress_bar(resolved.name) as show,
        ):
            progress = run_sweep(resolved, store, executor=engine, shard=shard, on_progress=show)
    except KeyboardInterrupt:
        _say("Interrupted. Finished cells are stored; run the same command again to resume.")
        raise typer.Exit(130) from None
    results = Results(folder)
    report = write_run_report(results, seconds=progress.seconds)
    return results, {
        "run": str(folder),
        "cells": progress.total,
        "done": progress.done,
        "failed": progress.failed,
        "seconds": progress.seconds,
        "report": str(report),
        "onsets": [o for s in results.settings for o in _onsets(results, s)],
    }


def _tell(results: "Results", summary: dict[str, Any]) -> None:
    """The headline on standard output; what was done and what is next on standard error."""
    name = results.sweep.headline_criterion
    sizes = results.sweep.n
    reads = results.sweep.reads_onset
    if not reads:
        print(f"No onset is read off {name} in this design. The figures show what it gives.")
    elif len(sizes) == 1:
        print(f"One size, n = {sizes[0]}: no onset. The figure shows {name} along the axis.")
    for setting in results.settings if reads and len(sizes) > 1 and summary["done"] else []:
        print(f"{results.onset(name, setting).sentence()}   ({_place(name, setting)})")
    for course in results.status().get("adaptive", ()):
        _say(f"adaptive: {_ended(course)}")
    if summary["failed"]:
        first = results.failures[0].row.reason
        _say(f"{summary['failed']} cells failed and are stored so; the first said: {first}\n")
    _say(
        f"{summary['done']} of {summary['cells']} cells done, {summary['failed']} failed, "
        f"in {summary['seconds']:.0f} s.\n"
        f"Report: {summary['report']}\nFigures: {results.folder / 'figures'}"
    )
    _say_unfinished(results)
    if summary["done"]:
        adaptive = results.sweep.design is not None
        _say(f"Next: genonset onset {results.folder}{'' if adaptive else ' --suggest'}")


def _say_unfinished(results: "Results") -> None:
    """Warn that numbers rest on a part of the run."""
    found = results.status()
    if found["left"]:
        _say(
            f"Not finished: {found['left']} of {found['cells']} cells are left; these numbers "
            "rest on the others. The command that started the run resumes it."
        )


def _ended(course: Mapping[str, Any]) -> str:
    """How many cells a setting of an adaptive sweep took, and why it ended."""
    from genonset.adaptive import WORDS

    place = "".join(f"{k} = {v}, " for k, v in course.items() if k not in ("cells", "end"))
    return f"{place}{course['cells']} cells, {WORDS.get(course['end'], 'goes on')}"


def _place(criterion: str, setting: Mapping[str, Any]) -> str:
    from genonset.spec import label

    return ", ".join(filter(None, [criterion, label(setting)]))


def _note_data(resolved: "Sweep") -> None:
    """Tell what was found in finite data, and where the noise makes the answer pointless."""
    from genonset.datasets import Dataset
    from genonset.experiment import build
    from genonset.report import noise_caution

    world = build(resolved.source)
    if isinstance(world, Dataset):
        for note in world.notes:
            _say(note)
    if caution := noise_caution(resolved, world):
        _say(caution)


@contextmanager
def _engine(workers: int, address: str | None) -> Iterator["Executor | WorkerPool | None"]:
    """What runs the cells: this process, a pool of processes, or a Dask cluster."""
    from genonset.sweep import WorkerPool, dask_executor

    if address is not None:
        with dask_executor(address) as executor:
            yield executor
    elif workers == 1:
        yield None
    else:
        pool = WorkerPool(workers)
        try:
            yield pool
        finally:
            pool.stop()


@contextmanager
def _progress_bar(name: str) -> Iterator[Callable[["Progress"], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=_err,
        transient=not _err.is_terminal,
    ) as bar:
        task = bar.add_task(name, total=None, left="")

        def show(progress: "Progress") -> None:
            left = progress.seconds_left
            text = "" if left is None else f"about {left:.0f} s left"
            failed = f", {progress.failed} failed" if progress.failed else ""
            bar.update(
                task,
                total=progress.total,
                completed=progress.done + progress.failed,
                left=text + failed,
            )

        yield show


def _onsets(results: "Results", setting: dict[str, Any]) -> list[dict[str, Any]]:
    from genonset.criteria import CRITERIA

    return [
        _onset(results, c, setting)
        for c in results.sweep.measured
        if CRITERIA[c].axis in ("memorization", "quality")
    ]


def _onset(results: "Results", criterion: str, setting: dict[str, Any]) -> dict[str, Any]:
    """An onset as machines read it, the predicted one beside it."""
    predicted = results.predicted_onset(criterion, setting)
    return {
        "criterion": criterion,
        **setting,
        **results.onset(criterion, setting).to_dict(),
        "predicted": None if predicted is None else predicted.to_dict(),
    }


def _print_json(value: Any) -> None:
    print(json.dumps(value, allow_nan=False, default=str))


@app.command()
def onset(
    run: Annotated[Path, typer.Argument(help="A run folder, or CURVE.csv: n, rate[, trials].")],
    criterion: Annotated[str | None, typer.Option(help="Default: the spec's headline.")] = None,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="The next n that would shrink the interval most.")
    ] = False,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="How n* grows with dimension, as d^a.")
    ] = False,
    against: Annotated[
        str,
        typer.Option(help="With --scaling: dim, rank, effective_rank, ..., or a numeric axis."),
    ] = "dim",
    law: Annotated[
        str, typer.Option(help="Of a CURVE.csv: logistic or exponential.")
    ] = "logistic",
    as_json: Json = False,
) -> None:
    """Estimate where memorization ends, with its interval."""
    from genonset.tables import is_table

    if is_table(run):
        if suggest or scaling or criterion:
            raise ConfigError(
                "--suggest, --scaling and --criterion are for run folders; a CURVE.csv takes "
                "--law and --json."
            )
        _curve_onset(run, law, as_json)
        return
    if scaling:
        _scaling(run, criterion, against, as_json)
        return
    from genonset.onset import suggest as suggest_next
    from genonset.store import Results

    results = Results(run)
    _say_unfinished(results)
    name = criterion or results.sweep.headline_criterion
    results.require_onset(name)
    found = []
    for setting in results.settings:
        estimate = results.onset(name, setting)
        predicted = results.predicted_onset(name, setting)
        entry = _onset(results, name, setting)
        if suggest and results.sweep.design is not None:
            raise ConfigError(
                f"{run} is adaptive: it chooses n itself. For a narrower interval lower precision "
                "or raise budget in its spec and run the same command again."
            )
        advice = suggest_next(estimate) if suggest else None
        caution, plan = "", {}
        if advice:
            advice, caution = _within_data(results.sweep, advice)
            plan = _adaptive_plan(results.sweep, name, estimate)
            entry["suggestion"] = asdict(advice) | {"caution": caution or None, "adaptive": plan}
        found.append(entry)
        if not as_json:
            beside = "" if predicted is None else f"; {predicted}"
            print(f"{estimate.sentence()}{beside}   ({_place(name, setting)})")
            if advice:
                print(f"  {advice}")
                _say(caution or f"  {_how_to_add(results.sweep, advice.n, advice.replicates)}")
                _say("  or, in a spec of its own, in place of n and replicates:\n")
                print("\n".join(["  [n]", *(f"  {k} = {json.dumps(v)}" for k, v in plan.items())]))
    if as_json:
        _print_json(found[0] if len(found) == 1 else {"criterion": name, "onsets": found})


def _how_to_add(sweep: "Sweep", n: int, replicates: int) -> str:
    """What to write into a spec to follow a suggestion."""
    sizes = ", ".join(map(str, sorted({*sweep.n, n})))
    total = replicates + (sweep.replicates_of(n) if n in sweep.n else 0)
    counts = ", ".join(f"{k} = {v}" for k, v in sorted({**sweep.replicates_at, n: total}.items()))
    return (
        f"in the spec: n = [{sizes}] and replicates_at = {{ {counts} }}; the command that started "
        "the run keeps what is done."
    )


def _curve_onset(path: Path, law: str, as_json: bool) -> None:
    """The onset of someone else's table."""
    from genonset.onset import curve_onset, read_curve

    n, rate, trials = read_curve(path)
    found = curve_onset(n, rate, trials, law=law)
    if as_json:
        _print_json({"criterion": "rate", "law": law, **found.to_dict()})
        return
    print(f"{found.sentence()}   ({found.crossing})")
    for note in found.notes:
        _say(f"  {note}")


def _scaling(run: Path, criterion: str | None, against: str, as_json: bool) -> None:
    """How the onset grows with the size of the problem."""
    from genonset.store import Results

    results = Results(run)
    name = criterion or results.sweep.headline_criterion
    found = []
    for family in results.families(against):
        collapse, slope = results.scalings(name, against, family)
        ways = {"of_onsets": asdict(slope) if slope else None}
        found.append({"criterion": name, "against": against, **family, **asdict(collapse), **ways})
        if not as_json:
            print(f"{collapse.sentence(against)}   ({_place(name, family)})")
            print(f"{slope.sentence(against)}" if slope else "fewer than two onsets are known")
    if as_json:
        _print_json(found[0] if len(found) == 1 else {"criterion": name, "scalings": found})


def _largest_n(sweep: "Sweep") -> int | None:
    """The largest n that the data of a sweep give; None where there is no end."""
    from genonset.datasets import Dataset, largest_n
    from genonset.experiment import build

    world = build(sweep.source)
    return largest_n(len(world.points)) if isinstance(world, Dataset) else None


def _within_data(sweep: "Sweep", advice: "Suggestion") -> tuple["Suggestion", str]:
    """A suggestion that the data can give, and what is to be said where they give less."""
    largest = _largest_n(sweep)
    if largest is None or advice.n <= largest:
        return advice, ""
    where = "which was run already" if largest in sweep.n else "the largest that fits"
    caution = f"  these data give no n above {largest}, {where}; n = {advice.n} was wished."
    return replace(advice, n=largest, expected_width=None, reason="the largest that fits"), caution


def _adaptive_plan(sweep: "Sweep", criterion: str, onset: "Onset") -> dict[str, Any]:
    """An adaptive n from a pilot: from well below n* to well above it, or on beyond the grid."""
    sizes = [p.n for p in onset.points]
    low = (onset.low or sizes[0]) / 2 if onset.censored != "below" else sizes[0] / 8
    high = (onset.high or sizes[-1]) * 2 if onset.censored != "above" else sizes[-1] * 8
    low = max(2, round(min(low, sizes[-1])))
    high = max(low + 1, round(high))
    if (largest := _largest_n(sweep)) is not None:
        high = min(high, largest)
        low = min(low, max(2, high // 4))
    precision, budget = 0.2, 400
    if onset.low is not None and onset.high is not None:
        pilot = sum(p.replicates for p in onset.points)
        times = math.log(onset.high / onset.low) / (2 * math.log1p(precision))
        budget = max(200, math.ceil(pilot * times**2))  # what the pilot's grid would need
    plan = {"kind": "adaptive", "low": low, "high": high, "precision": precision}
    return plan | {"criterion": criterion, "budget": budget, "batch": 8}


@app.command()
def audit(
    generated: Annotated[
        Path, typer.Argument(help="A folder of images, an array (FILE or FILE:KEY) or a table.")
    ],
    training: Annotated[Path, typer.Option(help="What the model was fitted to.")],
    held_out: Annotated[
        Path | None, typer.Option(help="Data of the same source that neither fitted nor chose it.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="pixels, standardized (default for tables), pca:K, normalized, lowpass, "
            "efficientnet or MODULE:CALLABLE."
        ),
    ] = None,
    robust: Annotated[
        bool, typer.Option("--robust", help="Find flipped, shifted, cropped copies.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Sample sizes that would find few copies.")
    ] = False,
    power: Annotated[bool, typer.Option("--power", help="The whole power curve.")] = False,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with 3 if this is the verdict, such as copying, or, with identical, if any "
            "sample equals a training point; may be repeated."
        ),
    ] = None,
    allow_mixed_units: Annotated[
        bool, typer.Option("--allow-mixed-units", help="Compare data in different units anyway.")
    ] = False,
    drop_overlap: Annotated[
        bool, typer.Option("--drop-overlap", help="Leave out points that are in both real sets.")
    ] = False,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be read.")
    ] = False,
    colour: Annotated[
        bool | None, typer.Option("--colour/--grey", help="Make all images RGB, or all grey.")
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(help="Bring images of folders to N x N pixels, their central square."),
    ] = None,
    significance: Annotated[float, typer.Option(help="Level of either test.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of relabellings and subsets.")] = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Are these samples copies of that training set? A verdict, and the pictures to prove it."""
    from genonset.findings import REGIMES
    from genonset.report import point_name, write_flagged, write_kept, write_report
    from genonset.verdict import audit_files

    accepted = (*REGIMES, "identical")
    unknown = [name for name in fail_on or () if name not in accepted]
    if unknown:
        raise ConfigError(f"--fail-on takes one of {', '.join(accepted)}, got {unknown[0]!r}.")
    with _err.status("Searching every view of the images" if robust else "Comparing"):
        verdict = audit_files(
            generated,
            training,
            held_out,
            features=features,
            robust=robust,
            plan_sizes=plan,
            power=power,
            allow_mixed_units=allow_mixed_units,
            drop_overlap=drop_overlap,
            skip_unreadable=skip_unreadable,
            colour=colour,
            resize=resize,
            significance=significance,
            seed=seed,
        )
    folder = out or Path("runs") / "audit"
    page = write_report(verdict, folder / "report.html")
    named = write_flagged(verdict, folder / "flagged.csv")
    kept = write_kept(verdict, folder / "kept.csv")
    if as_json:
        whole: dict[str, Any] = verdict.to_dict() | {
            "report": str(page),
            "flagged": str(named),
            "kept": str(kept),
        }
        for one in whole["copying"]["flagged"]:
            one["sample"] = point_name(verdict, "generated", one["index"])
            one["training"] = point_name(verdict, "training", one["nearest"])
        _print_json(whole)
    else:
        _tell_verdict(verdict)
        n_named = len(verdict.copying.flagged)
        _say(f"Named, {n_named} samples: {named}")
        _say(f"All others, {verdict.inputs['generated'].n - n_named}: {kept}")
        _say(f"Report: {page}\n{_next_audit(verdict, plan)}")
    found = {verdict.verdict, *(["identical"] if verdict.copying.identical else [])}
    if found.intersection(fail_on or ()):
        raise typer.Exit(3)


def _tell_verdict(verdict: "Verdict") -> None:
    """The verdict on standard output with its reasons; notes on standard error."""
    print(verdict.sentence)
    for reason in verdict.reasons:
        print(f"  {reason}")
    if verdict.power.curve:
        found = (f"{share:.2g}: {p:.2f}" for share, p in verdict.power.curve)
        print(f"  Power by the share of close copies: {', '.join(found)}.")
    for line in verdict.power.plan:
        print(f"  {line}")
    for note in verdict.notes:
        _say(f"Note: {note}")


def _next_audit(verdict: "Verdict", planned: bool) -> str:
    if "held_out" not in verdict.inputs:
        return (
            "Next: train on a random half, and pass the other half as --held-out; other ways are "
            "in docs/no-held-out.md."
        )
    from genonset.words import UNSEEN

    if UNSEEN in verdict.notes:
        return "Next: the same command with --robust."
    return (
        "Next: open the report and look at the worst samples."
        if planned
        else "Next: the same command with --plan, for the sizes that would find fewer copies."
    )


@app.command()
def report(
    run: Run, out: Annotated[Path | None, typer.Option("--out", help="The page, a file.")] = None
) -> None:
    """Write the figures and the one-page report of a run."""
    from genonset.report import write_run_report
    from genonset.store import Results

    path = write_run_report(Results(run), out)
    _say(f"Report: {path}\nFigures: {run / 'figures'}")


@app.command()
def status(run: Run, as_json: Json = False) -> None:
    """How far a run is; works while it runs."""
    from genonset.store import Results

    found = Results(run).status()
    if as_json:
        _print_json(found)
        return
    print(
        f"{found['done']} of {found['cells']} cells done, {found['failed']} failed, "
        f"{found['left']} left"
    )
    for course in found.get("adaptive", ()):
        print(f"adaptive: {_ended(course)}")
    if found["cells_per_minute"] and found["left"]:
        print(
            f"{found['cells_per_minute']:.0f} cells per minute, "
            f"about {found['seconds_left']:.0f} s left"
        )


@app.command()
def reproduce(
    name: Annotated[
        str,
        typer.Argument(
            help="One of genonset list experiments; linear for both linear-d*; reviewers."
        ),
    ],
    variant: Annotated[
        str, typer.Option(help="One variant, such as published or corrected; both for all.")
    ] = "both",
    n: Annotated[str | None, typer.Option(help="Sizes, such as 8,16,32.")] = None,
    replicates: Annotated[int | None, typer.Option(help="Runs at each n.")] = None,
    seed: Annotated[int | None, typer.Option(help="Experiment seed.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A quarter of the replicates.")] = False,
    workers: Workers = 1,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Run an experiment that ships with the package: of the paper, or of its reviewers' points."""
    from genonset.figures import compare, save
    from genonset.spec import reproduction

    if name == "reviewers":
        if n is not None or replicates is not None or variant != "both":
            raise ConfigError("reproduce reviewers takes --quick, --seed, --workers and --out.")
        _reviewers(out or Path("runs") / name, quick, seed, workers, as_json)
        return
    names = ["linear-d16", "linear-d100"] if name == "linear" else [name]
    sizes = _sizes(n)
    chosen = [
        reproduction(one, variant=variant, n=sizes, replicates=replicates, seed=seed, quick=quick)
        for one in names
    ]
    folder = out or Path("runs") / name
    runs = [
        _run(one, folder / one.name if name == "linear" else folder, workers) for one in chosen
    ]
    if not as_json:
        for results, summary in runs:
            _tell(results, summary)
    summaries = [summary for _, summary in runs]
    whole = summaries[0]
    if name == "linear":
        save(compare([results for results, _ in runs]), folder / "figures")
        _say(f"Both dimensions in one figure: {folder / 'figures'}")
        whole = {"run": str(folder), "runs": summaries} | {
            count: sum(summary[count] for summary in summaries)
            for count in ("cells", "done", "failed", "seconds")
        }
    if as_json:
        _print_json(whole)
    if whole["failed"]:
        raise typer.Exit(1)


def _reviewers(folder: Path, quick: bool, seed: int | None, workers: int, as_json: bool) -> None:
    """Every run behind the reviewers' points, the audit beside them, and their one page."""
    from genonset.reviewers import AUDIT, audit_example, sweeps, write_index

    chosen = sweeps(quick=quick, seed=seed)
    summaries = [_run(one, folder / one.name, workers)[1] for one in chosen]
    audit_example(folder / AUDIT, seed=seed or 0)
    page = write_index(folder, {one.name: one.replicates for one in chosen})
    whole = {"run": str(folder), "page": str(page), "runs": summaries} | {
        count: sum(summary[count] for summary in summaries)
        for count in ("cells", "done", "failed", "seconds")
    }
    if as_json:
        _print_json(whole)
    else:
        print(f"{whole['done']} of {whole['cells']} cells in {len(chosen)} runs: {page}")
    if whole["failed"]:
        raise typer.Exit(1)


def _sizes(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [p.strip() for p in text.split(",")]
    if not all(p.isdigit() for p in parts):
        raise ConfigError(f"--n takes whole numbers with commas, such as 8,16,32, got {text!r}.")
    return tuple(sorted({int(p) for p in parts}))


@app.command()
def theory(
    name: Annotated[str | None, typer.Argument(help="A prediction; without it, all.")] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="key=value: gamma=2, spectrum=3,3,1, or a range gamma=1.1:10:50."),
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw it along the range given.")] = False,
    out: Annotated[Path, typer.Option(help="Where --plot writes.")] = Path("runs/theory"),
    as_json: Json = False,
) -> None:
    """Evaluate a closed-form prediction, or list them with their regime."""
    from genonset.theory import evaluate

    if name is None:
        _list_theory(as_json)
        return
    pairs = [text.partition("=") for text in arguments or ()]
    wrong = [text for text, (key, equal, _) in zip(arguments or (), pairs, strict=True)
             if not (key and equal)]  # fmt: skip
    if wrong:
        raise ConfigError(f"Arguments are key=value, such as gamma=2, got {wrong[0]!r}.")
    found = evaluate(name, {key.strip(): value.strip() for key, _, value in pairs})
    for note in found.notes:
        _say(note)
    if plot:
        from genonset.figures import prediction, save

        save(prediction(found), out)
        _say(f"Curve: {out / found.name}.png, with .pdf and .csv beside it.")
    answer = found.to_dict()
    if as_json:
        _print_json(answer)
        return
    for title in found.columns:
        print(f"{title}: {answer['value'][title] if title != found.name else answer['value']}")
    _say(f"Regime: {answer['regime']}\nReference: {answer['reference']}")


def _list_theory(as_json: bool) -> None:
    from genonset.theory import FORMULAS, section

    if as_json:
        entries = [
            {"name": name, "regime": section(f, "Regime"), "reference": section(f, "Reference")}
            for name, f in FORMULAS.items()
        ]
        _print_json({"theory": entries})
        return
    for name, function in FORMULAS.items():
        arguments = " ".join(inspect.signature(function).parameters)
        print(f"{name}  {arguments}")
        for text in ((function.__doc__ or "").splitlines()[0], section(function, "Regime")):
            print(f"    {text}")
        print(f"    {section(function, 'Reference')}")
    _say(
        "Arguments are numbers, lists 3,3,1 or ranges first:last:count, evenly in the logarithm; "
        "of dim and spectrum one is given. The formulas stand in docs/theory.md.\n"
        "Next: genonset theory one-step-affinity-rate gamma=1.1:10:50 u=0.98 --plot"
    )


@app.command(name="list")
def list_names(
    what: Annotated[
        str | None,
        typer.Argument(
            help="sources, noise, models, samplers, criteria, distances or experiments."
        ),
    ] = None,
) -> None:
    """The names a spec may use, and the experiments that reproduce runs."""
    from genonset.spec import catalogue

    names = catalogue()
    if what is not None and what not in names:
        raise ConfigError(f"Unknown list {what!r}; there are {', '.join(names)}.")
    for title in [what] if what else names:
        print(f"{title}:")
        for entry, summary in names[title].items():
            print(f"  {entry:32} {summary}")


@app.command()
def export(
    run: Run, file: Annotated[Path, typer.Argument(help="A .csv, .parquet or .json file.")]
) -> None:
    """Write every number of a run, one a row."""
    from genonset.store import Results
    from genonset.store import export as write

    _say(f"{write(Results(run), file)} rows written to {file}")


if __name__ == "__main__":
    main()
