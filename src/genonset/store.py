"""The results store: what a run folder holds, and the table read from it.

    RUN/spec.toml        the resolved spec
    RUN/results*.sqlite  one file per writer, merged on read
    RUN/checkpoints/     the networks that are being trained
    RUN/figures/, report.html, run.log

One row a cell, committed as cells finish; a killed writer loses at most the last second. Numbers
are JSON with 17 digits: what is read back is what was computed. Cells that keep pictures have a
row in a second table, `galleries`. A writer's file is locked by a lock file that names its
process, so that nothing is ever locked on a shared disk.
"""

import contextlib
import itertools
import json
import math
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from genonset import theory, verdict
from genonset.adaptive import Course
from genonset.criteria import CEILINGS, CRITERIA, DERIVED, ROLES, criterion_onset
from genonset.errors import ConfigError, DataError, StoreError
from genonset.estimates import Estimate, variance_components
from genonset.experiment import Result, build, eigenvalues, floor_values, remove_checkpoint
from genonset.gallery import Gallery
from genonset.onset import Onset, Point, Scaling, fit_onset_scaling, fit_scaling
from genonset.predictions import PredictedOnset, predictions
from genonset.spec import SCHEMA, Cell, Sweep

if TYPE_CHECKING:
    import pandas
    import polars

WITH_ONSET = ("memorization", "quality")
"""Axes whose criteria have an onset."""

SCALES: dict[str, Callable[[np.ndarray], Any]] = {
    "dim": len,
    "rank": lambda c: np.count_nonzero(c > 1e-12 * c.max()),
    "effective_rank": theory.effective_rank,
    "participation_ratio": theory.participation_ratio,
    "wasserstein_dimension": theory.wasserstein_dimension,
}
"""What an onset may scale with, of the eigenvalues of the source's covariance."""

VERSION = 1
"""Of the store's layout, kept in the file's `user_version`."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, status TEXT NOT NULL, result TEXT NOT NULL,
    traceback TEXT NOT NULL, seconds REAL NOT NULL, finished REAL NOT NULL
)"""

_GALLERIES = "CREATE TABLE IF NOT EXISTS galleries (key TEXT PRIMARY KEY, gallery TEXT NOT NULL)"
"""Made where there is something to hang: files without it are as good."""


class Store:
    """One writer's file in a run folder, open for adding results.

    Args:
        folder: the run folder; created if missing.
        sweep: the resolved spec; a folder that holds another one is refused.
        shard: (i, k) for the i-th of k fixed parts.

    Raises:
        ConfigError: a spec that is not resolved: its cells could not be found again.
        StoreError: a folder of another spec, in use by another process, of a newer version,
            or one that cannot be written.
    """

    def __init__(
        self, folder: str | Path, sweep: Sweep, *, shard: tuple[int, int] | None = None
    ) -> None:
        if sweep.edition != SCHEMA:
            raise StoreError(
                f"The sweep {sweep.name!r} is of edition {sweep.edition}; this release computes "
                f"numbers of edition {SCHEMA}. Runs of other editions can be read, reported and "
                "exported, but not made or extended: leave edition out of the spec, and choose "
                "another folder with --out."
            )
        if not sweep.resolved:
            raise ConfigError(
                f"The sweep {sweep.name!r} is not resolved: its sizes or the content of its files "
                "are open, and its cells could not be found again. Pass "
                "genonset.experiment.resolve(sweep) to the store and to run_sweep."
            )
        self.folder, self.sweep = Path(folder), sweep
        name = f"results-{shard[0]}of{shard[1]}.sqlite" if shard else "results.sqlite"
        self.path = self.folder / name
        self._lock = self.path.with_suffix(".lock")
        self._claim(sweep)
        self._database = _open(self.path)
        self._pending: list[tuple[Any, ...]] = []
        self._galleries: list[tuple[str, str]] = []
        self._committed = time.monotonic()

    def _claim(self, sweep: Sweep) -> None:
        spec = self.folder / "spec.toml"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            there = read_sweep(self.folder) if spec.exists() else None
            if there is not None:
                _check_continues(there, sweep, self.folder)
            elif any(self.folder.iterdir()):
                raise StoreError(
                    f"{self.folder} is not empty and is not a run folder. Choose another "
                    "folder with --out."
                )
            if there != sweep:
                draft = spec.with_suffix(f".{os.getpid()}")
                draft.write_text(sweep.to_toml(), encoding="utf-8")
                draft.replace(spec)
            _take_lock(self._lock)
        except (FileExistsError, NotADirectoryError):
            raise StoreError(
                f"{self.folder} is a file, or lies below one; a run needs a folder. Choose "
                "another with --out."
            ) from None
        except OSError as error:
            raise StoreError(
                f"Cannot write to {self.folder}: {error.strerror or error}. Free space or choose "
                "another folder with --out."
            ) from None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, result: Result) -> None:
        """Keep a result; it is durable within a second, and at once on `flush`."""
        values = json.dumps(result.values)
        self._pending.append(
            (result.key, result.status, values, result.traceback, result.seconds, time.time())
        )
        if result.gallery is not None:
            self._galleries.append((result.key, json.dumps(result.gallery.to_dict())))
        if time.monotonic() - self._committed > 0.3:
            self.flush()

    def flush(self) -> None:
        """Write all pending results to disk."""
        try:
            with self._database:
                self._database.executemany(
                    "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?)", self._pending
                )
                if self._galleries:
                    self._database.execute(_GALLERIES)
                    self._database.executemany(
                        "INSERT OR REPLACE INTO galleries VALUES (?, ?)", self._galleries
                    )
        except sqlite3.Error as error:
            raise StoreError(
                f"Cannot write results to {self.path}: {error}. Results already committed are "
                "safe; free space or permissions, then run the same command to resume."
            ) from None
        self._pending.clear()
        self._galleries.clear()
        self._committed = time.monotonic()

    def log(self, text: str) -> None:
        """Add a line to the run's log, with the time and who writes it, if there is room."""
        path = self.folder / "run.log"
        with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
            now = time.strftime("%Y-%m-%d %H:%M:%S%z")
            file.write(f"{now} {socket.gethostname()} {os.getpid()} {self.path.name}: {text}\n")

    def done_keys(self) -> set[str]:
        """Keys of the cells that any writer of this folder has finished well."""
        return {row.key for row in _read_rows(self.folder) if row.status == "done"}

    def done_values(self, keys: Iterable[str] | None = None) -> dict[str, Mapping[str, Any]]:
        """Values of the cells that this writer has finished well, of some keys or of all."""
        self.flush()
        query = "SELECT key, result FROM results WHERE status = 'done'"
        rows = self._database.execute(query)
        if keys is not None:
            rows = itertools.chain.from_iterable(
                self._database.execute(f"{query} AND key = ?", (key,)) for key in keys
            )
        return {key: json.loads(result) for key, result in rows}

    def checkpoint(self, cell: Cell) -> Path | None:
        """Where the network of a cell is kept while it is trained; None without a network."""
        if cell.family is None:
            return None
        folder = self.folder.absolute() / "checkpoints"
        with contextlib.suppress(OSError):
            folder.mkdir(exist_ok=True)
        return folder / f"{cell.family}.pt"

    def remove_checkpoints(self, unfinished: Iterable[Cell]) -> None:
        """Remove every checkpoint but those of some cells."""
        folder = self.folder / "checkpoints"
        if folder.is_dir():
            kept = {cell.family for cell in unfinished}
            for family in {path.name[:24] for path in folder.iterdir()} - kept:
                remove_checkpoint(folder / f"{family}.pt")

    def close(self) -> None:
        """Flush and release the folder."""
        try:
            self.flush()
        finally:
            self._database.close()
            self._lock.unlink(missing_ok=True)


def _open(path: Path) -> sqlite3.Connection:
    """Open a store file, creating its table; refuse files of another kind or a newer version."""
    try:
        database = sqlite3.connect(path, timeout=30)
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StoreError(
                f"{path} was written by a newer genonset (store version {version}, this one "
                f"knows {VERSION}). Upgrade genonset, or use another run folder."
            )
        with database:
            database.execute(_SCHEMA)
            if version < VERSION:  # a file just made; nothing is written to one that is read
                database.execute(f"PRAGMA user_version = {VERSION}")
    except sqlite3.Error as error:
        raise StoreError(
            f"{path} cannot be used as a results store: {error}. Move it away, or use another "
            "run folder."
        ) from None
    return database


def _take_lock(path: Path) -> None:
    """Create the lock file, or say who holds it; a lock of a dead process here is taken over."""
    mine = {"pid": os.getpid(), "host": socket.gethostname()}
    for _ in range(2):
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(mine, file)
            return
        except FileExistsError:
            holder = _read_lock(path)
            if holder["host"] == mine["host"] and not _alive(holder["pid"]):
                path.unlink(missing_ok=True)
                continue
            raise StoreError(
                f"{path.parent} is in use by process {holder['pid']} on host {holder['host']}. "
                f"Wait for it or stop it; if it is gone, delete {path.name} and try again."
            ) from None
    raise StoreError(f"Cannot lock {path}; another process takes it at the same moment.")


def _read_lock(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"pid": 0, "host": socket.gethostname()}  # cut off while being written: stale


def _alive(pid: int) -> bool:
    if pid in (0, os.getpid()):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _check_continues(there: Sweep, wanted: Sweep, folder: Path) -> None:
    """Refuse a spec that would lose cells of the run: more sizes, replicates, variants may come.

    A folder in which nothing was done yet takes any spec.
    """
    old, new = there.model_dump(mode="json"), wanted.model_dump(mode="json")
    if there.design is not None and wanted.design is not None:
        free_of_ends = {"precision": 1.0, "budget": 10**9}  # neither moves the sequence
        old["n"], new["n"] = (options["n"] | free_of_ends for options in (old, new))
    grows = there.design is wanted.design is None and (
        set(there.n) <= set(wanted.n)
        and all(there.replicates_of(n) <= wanted.replicates_of(n) for n in there.n)
        and there.variants.items() <= wanted.variants.items()
        and bool(there.variants) == bool(wanted.variants)
        and there.contents.items() <= wanted.contents.items()
    )
    free = {"name", "headline"} | (
        {"n", "replicates", "replicates_at", "variants", "contents"} if grows else set()
    )
    changed = [k for k in new if old.get(k) != new[k] and k not in free]
    done = any(row.status == "done" for row in _read_rows(folder))
    if done and there.edition != SCHEMA:
        raise StoreError(
            f"{folder} holds numbers of edition {there.edition}; this release computes those of "
            f"edition {SCHEMA}, which differ for the same cells. The run can be read, reported "
            "and exported, but not extended: choose another folder with --out."
        )
    if changed and done:
        raise StoreError(
            f"{folder} holds a run of another spec; these options differ: {', '.join(changed)}. "
            "Choose another folder with --out, or delete this one. A run can be extended by "
            "sizes n, replicates, replicates_at and variants, an adaptive one by precision and "
            "budget, never narrowed or changed."
        )


def read_sweep(folder: str | Path) -> Sweep:
    """The resolved spec of a run folder.

    Raises:
        StoreError: if this is not a run folder.
    """
    spec = Path(folder) / "spec.toml"
    if not spec.is_file():
        raise StoreError(
            f"{folder} is not a run folder: it has no spec.toml. "
            "Make one with: genonset sweep SPEC.toml --out FOLDER"
        )
    sweep = Sweep.from_toml(spec)
    if "edition" in sweep.model_fields_set:
        return sweep
    return sweep.model_copy(update={"edition": 1})  # the first one did not state it


# -- reading -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    """One stored cell; `values` maps role to criterion to number."""

    key: str
    status: str
    values: Mapping[str, Mapping[str, float]]
    traceback: str
    seconds: float
    finished: float

    @property
    def reason(self) -> str:
        """What the exception of a failed cell said, whole, or all that is known."""
        last = self.traceback.rpartition("Traceback (most recent call last):\n")[2]
        lines = last.strip("\n").splitlines()
        start = next((i for i, line in enumerate(lines) if line[:1] not in (" ", "")), 0)
        return "\n".join(lines[start:]) or "no traceback was kept"


def _read_rows(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.glob("results*.sqlite")):
        with contextlib.closing(_open(path)) as database:
            for key, status, values, traceback, seconds, finished in database.execute(
                "SELECT key, status, result, traceback, seconds, finished FROM results"
            ):
                yield Row(
                    key=key,
                    status=status,
                    values=json.loads(values),
                    traceback=traceback,
                    seconds=seconds,
                    finished=finished,
                )


def _read_galleries(folder: Path) -> Iterator[tuple[str, Gallery]]:
    for path in sorted(folder.glob("results*.sqlite")):
        with contextlib.closing(_open(path)) as database:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if ("galleries",) in tables.fetchall():
                for key, held in database.execute("SELECT key, gallery FROM galleries"):
                    yield key, Gallery.from_dict(json.loads(held))


@dataclass(frozen=True, kw_only=True)
class Record:
    """One stored cell with its place in the grid."""

    setting: Mapping[str, Any]
    n: int
    replicate: int
    row: Row


class Results:
    """Everything a run folder holds, as tables.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.sweep = read_sweep(folder)
        self._onsets: dict[tuple[str, str], Onset] = {}
        rows: dict[str, Row] = {}
        for row in _read_rows(self.folder):
            if row.key not in rows or row.status == "done":
                rows[row.key] = row
        self.courses: list[Course] = []
        cells = self.sweep.cells()
        if self.sweep.design is not None:
            self._finished = {k: r.values if r.status == "done" else {} for k, r in rows.items()}
            self.courses = [Course(self.sweep, setting) for setting in self.sweep.settings()]
            for course in self.courses:
                course.advance(self._finished)
            cells = [(c.setting, cell) for c in self.courses for cell in c.cells]
        self.records: list[Record] = [
            Record(setting=setting, n=cell.n, replicate=cell.replicate, row=rows[cell.key])
            for setting, cell in cells
            if cell.key in rows
        ]
        if self.courses and self.records:  # of an adaptive sweep, the sizes that were chosen
            chosen = tuple(sorted({r.n for r in self.records}))
            self.sweep = self.sweep.model_copy(update={"n": chosen})

    @cached_property
    def galleries(self) -> list[tuple[Record, Gallery]]:
        """What cells with images kept to be looked at, in the order of the grid."""
        held = dict(_read_galleries(self.folder))
        return [(r, held[r.row.key]) for r in self.records if r.row.key in held]

    @property
    def failures(self) -> list[Record]:
        """The cells that failed."""
        return [r for r in self.records if r.row.status == "failed"]

    @cached_property
    def settings(self) -> list[dict[str, Any]]:
        """Every combination of variant and axis values; one empty one for a plain sweep."""
        return self.sweep.settings()

    def matrix(
        self, criterion: str, role: str = "model", setting: Mapping[str, Any] | None = None
    ) -> np.ndarray:
        """Values of one criterion and role, shape (replicates, number of n), NaN where missing."""
        setting = self.settings[0] if setting is None else setting
        columns = {n: i for i, n in enumerate(self.sweep.n)}
        table = np.full((self.sweep.most_replicates, len(columns)), np.nan)
        for r in self.records:
            if dict(r.setting) == dict(setting):
                value = _number(r.row, role, criterion)
                if value is not None:
                    table[r.replicate, columns[r.n]] = value
        return table

    def tables(self, criterion: str, setting: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What an onset is read from: model, poles and, for a delta, its log ratio."""
        roles = {r: self.matrix(criterion, r, setting) for r in ("model", "memorizer", "oracle")}
        return roles | {"log_ratio": self.matrix(f"{criterion}_log_ratio", "model", setting)}

    def floor(self, criterion: str, setting: Mapping[str, Any]) -> float | None:
        """Closed-form limit of a quality criterion for large n, where there is one."""
        floors = floor_values(self.sweep.measurement(setting))
        return floors.get(criterion)

    def onset(self, criterion: str, setting: Mapping[str, Any] | None = None) -> Onset:
        """The onset of a criterion at one combination of variant and axis values.

        Results that allow no estimate, such as two replicates, give one that says so.
        """
        setting = self.settings[0] if setting is None else setting
        place = (criterion, json.dumps(setting, sort_keys=True))
        if place not in self._onsets:
            tables, floor = self.tables(criterion, setting), self.floor(criterion, setting)
            course = next((c for c in self.courses if dict(c.setting) == dict(setting)), None)
            try:
                if course is not None:
                    found = course.onset(criterion, self._finished)
                else:
                    found = criterion_onset(criterion, self.sweep.n, tables, floor=floor)
            except DataError as error:
                found = Onset.undetermined(str(error))
            self._onsets[place] = found
        return self._onsets[place]

    def components(
        self, criterion: str, n: int, setting: Mapping[str, Any] | None = None
    ) -> list[Estimate]:
        """The variance that each level of a nested design adds to a criterion of the model.

        Returns:
            one estimate for each of `sweep.levels()`; infinite values, and cells that are not
            done, leave none.

        Raises:
            DataError: for a sweep without `kept_for`, or with too few draws of a level.
        """
        counts = [count for _, count in self.sweep.levels()]
        if not self.sweep.kept_for:
            raise DataError(
                "Every replicate of this run draws everything anew; variance components need "
                "kept_for in its spec, such as kept_for = { data = 4, training_noise = 2 }."
            )
        values = self.matrix(criterion, "model", setting)[:, self.sweep.n.index(n)]
        if not np.isfinite(values).all():
            return []
        return variance_components(values.reshape(counts))

    def predicted_onset(
        self, criterion: str, setting: Mapping[str, Any] | None = None
    ) -> PredictedOnset | None:
        """Where theory puts the onset of a criterion; None where it says nothing of it."""
        setting = self.settings[0] if setting is None else setting
        found = predictions(self.sweep.measurement(setting))
        if found is None or len(self.sweep.n) < 2:
            return None
        poles = None
        if criterion == "log_likelihood_gap":
            tables = [self.matrix(criterion, role, setting) for role in ("memorizer", "oracle")]
            counts = [np.isfinite(table).sum(0) for table in tables]
            if min(count.min() for count in counts) < 1:
                return None
            poles = (
                tables[0].mean(0, where=np.isfinite(tables[0])),
                tables[1].mean(0, where=np.isfinite(tables[1])),
            )
        return found.onset(criterion, self.sweep.n, poles)

    def scale(self, name: str, setting: Mapping[str, Any]) -> float:
        """The size of the problem at one combination of axis values: what n* may scale with.

        Args:
            name: one of `SCALES`, or an axis whose values are numbers above 0.
            setting: the combination.

        Raises:
            ConfigError: for another name, or one that this source or model does not have.
        """
        if name in setting and isinstance(setting[name], int | float):
            return float(setting[name])
        if name == "n_parameters":
            found = self.matrix("n_parameters", "model", setting)
            if np.isnan(found).all():
                raise ConfigError(
                    f"{self.folder} has no n_parameters; scaling with them needs a network, and "
                    'the criterion "n_parameters" in its spec.'
                )
            return float(np.nanmean(found))
        if name not in SCALES:
            raise ConfigError(
                f"n* cannot be scaled with {name!r}; known are {', '.join(SCALES)} and the axes "
                "of the spec whose values are numbers."
            )
        world = build(self.sweep.measurement(setting).source)
        spectrum = eigenvalues(world)
        if spectrum is None:
            raise ConfigError(
                "Scaling with a dimension or a rank needs a gaussian or gaussian_mixture source, "
                f"or finite data, not {type(world).__name__}; name an axis instead."
            )
        return float(SCALES[name](spectrum.numpy()))

    def families(self, against: str) -> list[dict[str, Any]]:
        """What a scaling holds fixed: every combination of the axes and variants that are not its.

        A scaling against an axis goes along that axis, one against n_parameters along all axes
        of the model, any other along all axes of the source.
        """

        def along(axis: str) -> bool:
            if against in self.settings[0]:
                return axis == against
            return axis.startswith("model." if against == "n_parameters" else "source.")

        kept = [{k: v for k, v in s.items() if not along(k)} for s in self.settings]
        return [family for i, family in enumerate(kept) if family not in kept[:i]]

    def scalings(
        self, criterion: str, against: str = "dim", family: Mapping[str, Any] | None = None
    ) -> tuple[Scaling, Scaling | None]:
        """How the onset of a criterion grows with the size of the problem, in two ways.

        Args:
            criterion: any that has an onset.
            against: as `scale` takes it.
            family: what is held fixed, one of `families`; needed where there are several.

        Returns:
            the collapse of all curves onto one, (8), and the slope of the onsets alone, (9), which
            is None where fewer than two scales have an onset.

        Raises:
            ConfigError: if the criterion has no onset, or the sweep no two scales.
            DataError: if no onset can be estimated.
        """
        self.require_onset(criterion)
        families = self.families(against)
        if family is None and len(families) > 1:
            raise ConfigError(f"Say which of {families} is meant.")
        family = families[0] if family is None else family
        settings = [s for s in self.settings if dict(family).items() <= s.items()]
        scales = [self.scale(against, s) for s in settings]
        if len(set(scales)) < 2:
            raise ConfigError(
                f"{self.folder} has one {against} only, {scales[0]:g}. Scaling needs an axis "
                'along which it changes, such as axes = { "source.dim" = [8, 16, 32] }.'
            )
        onsets = [self.onset(criterion, s) for s in settings]
        points = [
            (scale, p.n, *_share_of(onset, p))
            for scale, onset in zip(scales, onsets, strict=True)
            for p in onset.points
            if p.position is not None and p.low is not None and p.high is not None
        ]
        if len(points) < 2:
            raise DataError(f"{self.folder}: {onsets[0].sentence()}.")
        d, n, position, error, trials = np.transpose(points)
        if criterion in CEILINGS or CRITERIA[criterion].axis == "quality":
            ceiling = CEILINGS.get(criterion, 1.0)
            counts = np.round(position * ceiling * trials)
            collapse = fit_scaling(d, n, counts, trials, ceiling=ceiling)
        else:
            error = np.maximum(error, np.median(error) or 1e-3)
            collapse = fit_scaling(d, n, positions=position, errors=error)
        with contextlib.suppress(DataError):
            return collapse, fit_onset_scaling(scales, onsets)
        return collapse, None

    def require_onset(self, criterion: str) -> None:
        """Refuse a criterion that was not measured, or that no onset is read from."""
        usable = [c for c in self.sweep.measured if CRITERIA[c].axis in WITH_ONSET]
        if criterion not in usable:
            raise ConfigError(
                f"{self.folder} has no onset for {criterion!r}; choose from {', '.join(usable)}."
            )

    def regimes(self, setting: Mapping[str, Any] | None = None) -> dict[int, dict[str, int]]:
        """How many cells of each n are copying, train-biased, poor, generalizing, undecided.

        Nothing is counted unless the label test and the sliced Wasserstein distance were measured.
        """
        setting = self.settings[0] if setting is None else setting
        counts: dict[int, dict[str, int]] = {n: {} for n in self.sweep.n}
        if not {"train_bias", "sliced_wasserstein"} <= set(self.sweep.measured):
            return counts
        n_generated = self.sweep.measurement(setting).n_generated or 0
        power = {n: verdict.copying_power(n_generated, n, n) for n in self.sweep.n}
        for r in self.records:
            if dict(r.setting) == dict(setting) and r.row.status == "done":
                model, oracle = r.row.values["model"], r.row.values["oracle"]
                name = verdict.regime(
                    copying_p=model["copying_p"],
                    train_bias_p=model["train_bias_p"],
                    quality=model["sliced_wasserstein"],
                    oracle_quality=oracle["sliced_wasserstein"],
                    power=power[r.n],
                )
                counts[r.n][name] = counts[r.n].get(name, 0) + 1
        return counts

    def status(self) -> dict[str, Any]:
        """Counts of cells, pace over the last minute of work, and time left.

        For an adaptive sweep the cells are those of its budget, or of what it took once it ended,
        with why each setting ended, None where it goes on.
        """
        cells, failed = self.sweep.n_cells, len(self.failures)
        done = len(self.records) - failed
        finished = sorted(r.row.finished for r in self.records)
        recent = [t for t in finished if t > finished[-1] - 60] if finished else []
        span = recent[-1] - recent[0] if len(recent) > 1 else 0.0
        pace = 60 * (len(recent) - 1) / span if span > 0 else None
        if self.courses:
            budget = cells // len(self.courses)
            cells = sum(len(c.cells) if c.reason else budget for c in self.courses)
        left = cells - done - failed
        ends = [{**c.setting, "cells": len(c.cells), "end": c.reason} for c in self.courses]
        return ({"adaptive": ends} if ends else {}) | {
            "cells": cells,
            "done": done,
            "failed": failed,
            "left": left,
            "cells_per_minute": pace,
            "seconds_left": 60 * left / pace if pace else None,
        }

    def table(self) -> list[dict[str, Any]]:
        """The long form, one number a row, sorted by n, axes, replicate, role and criterion."""
        out: list[dict[str, Any]] = []
        for r in self.records:
            place = {"key": r.row.key, "n": r.n, "replicate": r.replicate, **r.setting}
            if r.row.status == "failed":
                out.append(
                    place | {"role": "", "criterion": "", "value": None, "status": "failed"}
                )
            for role, criterion, value in _numbers(r.row):
                out.append(
                    place
                    | {
                        "role": role,
                        "criterion": criterion,
                        "value": value,
                        "status": r.row.status,
                    }
                )
        axes = list(self.settings[0])
        return sorted(
            out,
            key=lambda row: (
                row["n"],
                [json.dumps(row[a]) for a in axes],
                row["replicate"],
                row["role"],
                row["criterion"],
            ),
        )

    def to_pandas(self) -> "pandas.DataFrame":
        """The long form as a pandas data frame."""
        import pandas

        return pandas.DataFrame(self.table())

    def to_polars(self) -> "polars.DataFrame":
        """The long form as a polars data frame."""
        import polars

        return polars.DataFrame(self.table())


def _share_of(onset: Onset, point: Point) -> tuple[float, float, int]:
    """Position, its standard error, and replicates of a point that has an interval."""
    assert point.position is not None
    assert point.low is not None
    assert point.high is not None
    sigmas = NormalDist().inv_cdf((1 + onset.confidence) / 2)
    return point.position, (point.high - point.low) / (2 * sigmas), point.replicates


def _numbers(row: Row) -> Iterator[tuple[str, str, float]]:
    for role in ROLES:
        for criterion in row.values.get(role, {}):
            yield role, criterion, row.values[role][criterion]
        for derived, source in DERIVED.items():
            if derived.endswith("_positive") and source in row.values.get(role, {}):
                value = _number(row, role, derived)
                assert value is not None
                yield role, derived, value


def _number(row: Row, role: str, criterion: str) -> float | None:
    """A stored number, or the sign of a delta: of its log ratio, which never underflows."""
    values = row.values.get(role, {})
    source = DERIVED.get(criterion)
    if source is None or not criterion.endswith("_positive"):
        return values.get(criterion)
    if source not in values:
        return None
    log_ratio = values.get(f"{source}_log_ratio", math.nan)
    positive = values[source] > 0 if math.isnan(log_ratio) else log_ratio < 0
    return float(positive)


def export(results: Results, path: str | Path) -> int:
    """Write the long form to .csv, .parquet or .json; the same table gives the same bytes.

    Returns:
        the number of rows written.

    Raises:
        ConfigError: another file ending, or a missing library for parquet.
    """
    path, rows = Path(path), results.table()
    columns = [
        "key",
        "n",
        "replicate",
        *results.settings[0],
        "role",
        "criterion",
        "value",
        "status",
    ]
    writers = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}
    if path.suffix not in writers:
        raise ConfigError(
            f"Cannot export to {path.name}: the ending must be .csv, .parquet or .json."
        )
    try:
        writers[path.suffix](path, columns, rows)
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror or error}.") from None
    return len(rows)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            cells = (row[c] for c in columns)
            writer.writerow(
                ["" if c is None else repr(c) if isinstance(c, float) else c for c in cells]
            )


def _write_json(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Infinite and missing numbers become strings and null: strict JSON."""
    plain = [{c: _strict(row[c]) for c in columns} for row in rows]
    path.write_text(json.dumps(plain, allow_nan=False), encoding="utf-8")


def _strict(value: Any) -> Any:
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _write_parquet(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(
            "Parquet needs pyarrow: pip install 'genonset[frames]', or export to .csv."
        ) from None
    rows = list(rows)
    table = {c: [row[c] for row in rows] for c in columns}
    pyarrow.parquet.write_table(pyarrow.table(table), path)
