"""Running the cells of a spec: any order, any number of workers, any interruption, one table.

Cells go to any executor with the standard futures interface. A few more than there are workers
are under way at a time; each result is stored as it arrives, failed ones with their traceback,
and the sweep goes on. Cells that share an original set (`Cell.common_key`) wait for the first of
them, which computes what they have in common. A broken process pool is rebuilt, and the cells
that were under way are tried once more, alone.

The training of a network is kept in the run folder and taken up from there. Cells that differ in
the budget of their network alone (`Cell.family`) run one after another, the smaller budget first:
each continues where the one before it stopped, and its numbers are those of a run of its own.

An adaptive sweep goes in rounds: one batch of every setting that is not at its end, each chosen
once the batch before it is whole.
"""

import collections
import multiprocessing
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import genonset
from genonset.adaptive import WORDS, Course
from genonset.errors import ConfigError
from genonset.experiment import Result, attempt_cell, remove_checkpoint
from genonset.spec import Cell, Sweep
from genonset.store import Store


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a sweep stands.

    Attributes:
        total: cells of the (part of the) sweep.
        done, failed: cells finished so far, `resumed` of them by earlier calls.
        seconds: how long this call has run.
    """

    total: int
    done: int
    failed: int
    resumed: int
    seconds: float

    @property
    def left(self) -> int:
        """Cells still to run."""
        return self.total - self.done - self.failed

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before the first cell."""
        finished = self.done + self.failed - self.resumed
        return self.seconds / finished * self.left if finished else None


class WorkerPool:
    """A pool of single-thread worker processes that dies with its parent and can be rebuilt."""

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ConfigError(f"--workers must be 1 or more, got {workers}.")
        self.workers = workers
        self.executor = self._start()

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(
            self.workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),)
        )

    def rebuild(self) -> None:
        """Replace a broken pool by a fresh one."""
        self.executor.shutdown(wait=False, cancel_futures=True)
        self.executor = self._start()

    def stop(self) -> None:
        """End all workers, busy ones included."""
        processes = list((getattr(self.executor, "_processes", None) or {}).values())
        self.executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def _start_worker(parent: int) -> None:
    """One thread a worker; Ctrl-C is the parent's to handle; no worker outlives its parent.

    What a model prints goes to standard error: standard output belongs to the command.
    """
    import signal
    import sys

    sys.stdout = sys.stderr

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def cells_of_shard(sweep: Sweep, shard: tuple[int, int] | None) -> list[Cell]:
    """The cells of the i-th of k fixed parts; replicates are dealt out in turn."""
    if sweep.design is not None:
        raise ConfigError(
            "An adaptive sweep has no fixed parts: each choice of n rests on all cells before it. "
            "Leave out --shard and use --workers, or list the sizes n."
        )
    cells = [cell for _, cell in sweep.cells()]
    if shard is None:
        return cells
    index, count = shard
    if not 1 <= index <= count:
        raise ConfigError(f"--shard I/K needs 1 <= I <= K, got {index}/{count}.")
    return [cell for cell in cells if cell.replicate % count == index - 1]


def run_sweep(
    sweep: Sweep,
    store: Store,
    *,
    executor: Executor | WorkerPool | None = None,
    shard: tuple[int, int] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Run every cell that the store does not hold yet.

    Args:
        sweep: resolved by `experiment.resolve`.
        store: open on the run folder.
        executor: any futures executor, a `WorkerPool`, or None to run in this process.
        shard: (i, k) to run the i-th of k fixed parts.
        on_progress: called after every result.

    Returns:
        counts over all cells of the (part of the) sweep, those of earlier calls included.

    Raises:
        KeyboardInterrupt: on Ctrl-C, after everything finished was stored.
        ConfigError: a sweep that is not the one the store was opened for.
        StoreError: if results cannot be written; committed ones are safe.
    """
    if sweep != store.sweep:
        raise ConfigError(
            f"The store of {store.folder} was opened for another sweep. Resolve the sweep once, "
            "with genonset.experiment.resolve, and pass that to both."
        )
    if sweep.design is not None and shard is None:
        return _run_adaptive(sweep, store, executor, on_progress)
    cells, finished = cells_of_shard(sweep, shard), store.done_keys()
    store.remove_checkpoints(cell for _, cell in sweep.cells() if cell.key not in finished)
    return _run_cells(cells, store, executor, on_progress)


def _run_adaptive(
    sweep: Sweep,
    store: Store,
    executor: Executor | WorkerPool | None,
    on_progress: Callable[[Progress], None] | None,
) -> Progress:
    """Run batch after batch of every setting until all are at their end."""
    started, values = time.monotonic(), store.done_values()
    courses = [Course(sweep, setting) for setting in sweep.settings()]
    chosen = {c.key for course in courses for c in [*course.advance(values), *course.cells]}
    resumed = len(chosen & set(values))
    counts = collections.Counter(done=resumed)

    def progress(now: collections.Counter[str]) -> Progress:
        return Progress(
            total=sweep.n_cells,
            done=now["done"],
            failed=now["failed"],
            resumed=resumed,
            seconds=time.monotonic() - started,
        )

    while batch := {c.key: c for course in courses for c in course.advance(values)}:

        def show(part: Progress) -> None:
            assert on_progress is not None
            on_progress(progress(counts + collections.Counter(done=part.done, failed=part.failed)))

        store.remove_checkpoints(batch.values())
        part = _run_cells(list(batch.values()), store, executor, show if on_progress else None)
        counts.update(done=part.done, failed=part.failed)
        values |= {key: {} for key in batch} | store.done_values(batch)
    for course in courses:
        place = "".join(f"{k} = {v}, " for k, v in course.setting.items())
        store.log(f"end: {place}{len(course.cells)} cells, {WORDS[course.reason or 'budget']}")
    return replace(progress(counts), total=counts.total())


def _run_cells(
    cells: list[Cell],
    store: Store,
    executor: Executor | WorkerPool | None,
    on_progress: Callable[[Progress], None] | None,
) -> Progress:
    """Run those of some cells that the store does not hold yet."""
    started = time.monotonic()
    finished = store.done_keys()
    queue = _Queue([cell for cell in cells if cell.key not in finished], store.checkpoint)
    resumed = len(cells) - len(queue)
    counts = collections.Counter(done=resumed)

    def progress() -> Progress:
        return Progress(
            total=len(cells),
            done=counts["done"],
            failed=counts["failed"],
            resumed=resumed,
            seconds=time.monotonic() - started,
        )

    store.log(
        f"start: {len(queue)} of {len(cells)} cells to run; genonset {genonset.__version__}, "
        f"torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    )
    results = _inline(queue) if executor is None else _in_parallel(queue, executor)
    try:
        for cell, result in results:
            store.add(result)
            if cell.family is not None:
                store.flush()  # before a cell that waits for this one moves their checkpoint on
                if result.status == "done" and queue.ends_family(cell):
                    remove_checkpoint(store.checkpoint(cell))
            counts[result.status] += 1
            if result.note:
                store.log(f"cell {result.key}: {result.note}")
            if result.status == "failed":
                store.log(f"cell {result.key} failed: {result.traceback.strip().splitlines()[-1]}")
            if on_progress:
                on_progress(progress())
    finally:
        store.flush()
        store.log(f"stop: {counts['done']} done, {counts['failed']} failed")
    return progress()


Task = tuple[Cell, dict[str, float], Path | None]
"""What `attempt_cell` takes."""


class _Queue:
    """Cells in order. One waits for another of its family with the next smaller budget, or else
    for the first cell of its group, which gives the numbers that the group has in common.
    """

    def __init__(self, cells: list[Cell], place: Callable[[Cell], Path | None]) -> None:
        self._place = place
        self._waiting: collections.deque[Cell] = collections.deque()
        self._after: dict[str, list[Cell]] = {}
        self._common: dict[str, dict[str, float]] = {}
        self._left = collections.Counter(c.family for c in cells)
        self._size = len(cells)
        last: dict[str, Cell] = {}
        for cell in _by_budget(cells):
            group, family = cell.common_key, cell.family
            before = last.get(family or "") or last.get(group)
            if before is None:
                self._waiting.append(cell)
            else:
                self._after.setdefault(before.key, []).append(cell)
            last.setdefault(group, cell)
            if family is not None:
                last[family] = cell

    def __len__(self) -> int:
        return self._size

    def take(self) -> Task | None:
        """The next cell that can start."""
        return self.task(self._waiting.popleft()) if self._waiting else None

    def task(self, cell: Cell) -> Task:
        """A cell with what is known of its group, and where its network is kept."""
        return cell, self._common.get(cell.common_key, {}), self._place(cell)

    def release(self, cell: Cell, result: Result) -> None:
        """Let the cells that waited for a finished one start, before others do."""
        self._common.setdefault(cell.common_key, {}).update(result.common)
        self._waiting.extendleft(reversed(self._after.pop(cell.key, [])))
        self._left[cell.family] -= 1

    def ends_family(self, cell: Cell) -> bool:
        """Whether no cell of its family is left."""
        return self._left[cell.family] == 0


def _by_budget(cells: list[Cell]) -> list[Cell]:
    """Cells in order, but those of a family in the order of their budgets."""
    families: dict[str, list[Cell]] = {}
    for cell in cells:
        families.setdefault(cell.family or cell.key, []).append(cell)
    turns = {family: iter(sorted(cs, key=_budget)) for family, cs in families.items()}
    return [next(turns[cell.family or cell.key]) for cell in cells]


def _budget(cell: Cell) -> int:
    return getattr(cell.model, "steps", None) or getattr(cell.model, "epochs", None) or 0


def _inline(queue: _Queue) -> Iterator[tuple[Cell, Result]]:
    while (task := queue.take()) is not None:
        cell = task[0]
        result = attempt_cell(*task)
        queue.release(cell, result)
        yield cell, result


def _in_parallel(queue: _Queue, executor: Executor | WorkerPool) -> Iterator[tuple[Cell, Result]]:
    pool = executor if isinstance(executor, WorkerPool) else None
    width = 4 * (pool.workers if pool else _width(executor))
    under_way: dict[Future[Result], Cell] = {}
    suspects: collections.deque[Cell] = collections.deque()
    tried: set[str] = set()  # alone, after a worker was lost

    def submit(task: Task) -> None:
        target = pool.executor if pool else executor
        assert isinstance(target, Executor)
        try:
            under_way[target.submit(attempt_cell, *task)] = task[0]
        except BrokenProcessPool:
            if pool is None:
                raise
            suspects.append(task[0])
            pool.rebuild()

    try:
        while True:
            while len(under_way) < width and not suspects and (task := queue.take()) is not None:
                submit(task)
            if suspects and not under_way:
                tried.add(suspects[0].key)
                submit(queue.task(suspects.popleft()))
            if not under_way:
                return
            finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
            broken = False
            for future in finished:
                cell = under_way.pop(future)
                result = _outcome(future, cell)
                if pool and isinstance(future.exception(), BrokenProcessPool):
                    broken = True
                    if cell.key not in tried:
                        suspects.append(cell)
                        continue
                queue.release(cell, result)
                yield cell, result
            if broken and pool:
                suspects.extend(under_way.values())
                under_way.clear()
                pool.rebuild()
    finally:
        for future in under_way:
            future.cancel()


def _outcome(future: Future[Result], cell: Cell) -> Result:
    """A future's result; a worker that died, or a task that could not travel, is a failure."""
    error = future.exception()
    if error is None:
        return future.result()
    message = f"The worker that ran this cell was lost: {type(error).__name__}: {error}"
    return Result(key=cell.key, status="failed", traceback=message)


def dask_executor(address: str) -> Executor:
    """An executor on a Dask cluster: `dask:local:N` starts one here, `dask://HOST:PORT` joins one.

    Raises:
        ConfigError: another form of address, or `distributed` is not installed.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ConfigError("Dask is not installed: pip install 'genonset[dask]'.") from None
    if address.startswith("dask:local:") and address.removeprefix("dask:local:").isdigit():
        workers = int(address.removeprefix("dask:local:"))
        cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", memory_limit="2GiB"
        )
        return Client(cluster).get_executor()
    if address.startswith("dask://"):
        return Client(address.replace("dask://", "tcp://", 1)).get_executor()
    raise ConfigError(
        f"Unknown executor {address!r}; use dask:local:N or dask://HOST:PORT, or --workers N."
    )


def _width(executor: Executor | WorkerPool) -> int:
    """How many workers an executor of any make has, as far as it tells."""
    client = getattr(executor, "_client", None)  # a Dask client's executor
    if client is not None:
        return max(1, len(client.scheduler_info()["workers"]))
    return getattr(executor, "_max_workers", 1)
