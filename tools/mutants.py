"""Plant random faults in the files that hold numbers, and count those that the tests see.

A fault is one mutation by an operator of cosmic-ray: another constant, comparison, sign, operator
or truth value, a decorator or a loop less. Places are drawn evenly from all code outside
annotations, then one of the mutations possible there. Each fault goes into a copy of the project,
where the tests of its file, which pass without it, run until one fails. Faults that change no
answer are named in `tools/equivalent_mutants.txt` and counted apart.

    python tools/mutants.py [N] [SEED] [FILE ...]
"""

import ast
import itertools
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
TESTS = {
    "estimates": "test_estimates test_labels test_nested test_verdict",
    "labels": "test_labels test_ties test_verdict laws/test_p_values test_audit",
    "overlap": "test_ties",
    "peers": "test_peers test_audit",
    "neighbors": "test_neighbors test_views",
    "distances": "test_distances test_criteria laws/test_distances",
    "theory": "theory/test_values theory/test_regimes theory/test_kernel_metric theory/test_score "
    "theory/test_scaling theory/test_linear_model theory/test_neighbor_nulls theory/test_samplers "
    "theory/test_any_spectrum",
    "one_step": "theory/test_any_spectrum theory/test_linear_model",
    "equivalents": "theory/test_any_spectrum",
    "onset": "test_onset theory/test_scaling",
    "noise": "test_noise laws/test_samplers test_denoisers test_late_times",
    "samplers": "test_samplers laws/test_samplers theory/test_samplers test_stepwise_models",
    "sources": "test_sources laws/test_sources test_late_times",
    "denoisers": "test_denoisers test_kernel_denoisers laws/test_samplers test_training",
    "criteria": "test_criteria test_experiment test_late_times test_stepwise_models",
    "published": "reference/test_published",
    "features": "test_features test_views test_audit",
    "views": "test_views test_audit",
    "inputs": "test_inputs test_audit",
    "verdict": "test_verdict test_ties test_audit end_to_end/test_audit_command",
}
"""What is mutated, with the test files that concern it, the nearest first."""

WORKERS = 2
LIMIT = 900
"""Faults tried at once; seconds for one, many times what the tests of any file take."""

_ALIKE = [
    {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"},
    {"BitOr", "BitAnd", "BitXor"},
    {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"},
    {"Is", "IsNot"},
]
"""Operators that can stand for one another; others fail or warn wherever they stand."""


class Mutant(NamedTuple):
    """A fault: its file, where, the whole text of the file, and the line before and after."""

    module: str
    line: int
    text: str
    change: str


def is_plausible(operator: str) -> bool:
    """Leave out what Python refuses anyway, such as a shift of a float or `0 is p`."""
    kind, _, names = operator.rpartition("/")[2].partition("_")
    if kind in ("ReplaceBinaryOperator", "ReplaceComparisonOperator"):
        return any(set(names.split("_")) <= alike for alike in _ALIKE)
    return kind not in ("VariableReplacer", "VariableInserter")


def annotated(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations begin and end, as (line, column)."""
    nodes = ast.walk(ast.parse(source))
    found = [getattr(n, part, None) for n in nodes for part in ("annotation", "returns")]
    return [((a.lineno, a.col_offset), (a.end_lineno, a.end_col_offset)) for a in found if a]


def places(module: str) -> dict[tuple, list[tuple[str, int]]]:
    """All places of a file that can be mutated, with (operator, its occurrence)."""
    source = (ROOT / f"src/genonset/{module}.py").read_text()
    tree, hints = get_ast(source), annotated(source)
    found: dict[tuple, list[tuple[str, int]]] = {}
    for name in filter(is_plausible, operator_names()):
        positions = get_operator(name)().mutation_positions
        spans = (span for node in ast_nodes(tree) for span in positions(node))
        for occurrence, (start, end) in enumerate(spans):
            if not any(low <= start < high for low, high in hints):
                found.setdefault((module, start, end), []).append((name, occurrence))
    return found


def mutant(place: tuple, operator: str, occurrence: int) -> Mutant | None:
    """The fault, or None where it is no Python."""
    module, (line, _), _ = place
    before = (ROOT / f"src/genonset/{module}.py").read_text()
    text = mutate_code(before, get_operator(operator)(), occurrence)
    try:
        ast.parse(text)
    except SyntaxError:
        return None
    old, new = (code.splitlines()[line - 1].strip() for code in (before, text))
    return Mutant(module, line, text, f"{old}  =>  {new}")


def drawn(modules: list[str], n: int, seed: int) -> list[Mutant]:
    """Up to n faults, the same for one seed as long as the files stay as they are."""
    found = {place: ways for module in modules for place, ways in places(module).items()}
    rng = random.Random(seed)
    order = rng.sample(sorted(found), len(found))
    mutants = (mutant(place, *rng.choice(found[place])) for place in order)
    return list(itertools.islice(filter(None, mutants), n))


def run_tests(folder: Path, module: str) -> None:
    """In a process of its own: exit with pytest's status, 0 where every test passes."""
    with open(folder / "log.txt", "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = sys.path[0] = str(folder / "src")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    tests = f"test_contract {TESTS[module]}".split()
    files = [f"src/genonset/{module}.py", *(f"tests/{test}.py" for test in tests)]
    os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--tb=short", *files]))


def passes(folder: Path, module: str) -> bool:
    """Whether all tests of a file pass, and in time: a fault may be a loop without end."""
    server = multiprocessing.get_context("forkserver")
    process = server.Process(target=run_tests, args=(folder, module))
    process.start()
    process.join(LIMIT)
    process.kill()
    process.join()
    if process.exitcode in (3, 4, 5):  # pytest's own failure, no such file, no test
        sys.exit((folder / "log.txt").read_text())
    return process.exitcode == 0


class Trial:
    """A copy of the project in which faults are tried; `folder` holds nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns(".*", "__pycache__", "runs")
        shutil.copytree(ROOT, folder, ignore=ignored)

    def survives(self, mutant: Mutant) -> bool:
        path = self.folder / f"src/genonset/{mutant.module}.py"
        right = path.read_text()
        path.write_text(mutant.text)
        survived = passes(self.folder, mutant.module)
        path.write_text(right)
        return survived


def main(n: str = "200", seed: str = "0", *modules: str) -> None:
    multiprocessing.set_forkserver_preload(["torch", "scipy.stats", "sklearn.neighbors", "pytest"])
    equivalent = (ROOT / "tools/equivalent_mutants.txt").read_text().splitlines()
    count = {"seen": 0, "SURVIVED": 0, "equivalent": 0}
    mutants = drawn(list(modules) or list(TESTS), int(n), int(seed))
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(WORKERS) as pool:
        trials: SimpleQueue[Trial] = SimpleQueue()
        for k in range(WORKERS):
            trials.put(Trial(Path(name) / str(k)))

        def survives(one: Mutant) -> bool:
            trial = trials.get()
            try:
                return trial.survives(one)
            finally:
                trials.put(trial)

        for one, survived in zip(mutants, pool.map(survives, mutants), strict=True):
            known = f"{one.module}: {one.change}" in equivalent
            word = "seen" if not survived else "equivalent" if known else "SURVIVED"
            count[word] += 1
            print(f"{word:10} {one.module}:{one.line}: {one.change}", flush=True)
    score = count["seen"] / max(1, count["seen"] + count["SURVIVED"])
    print(f"score {score:.3f}: " + ", ".join(f"{k} {word}" for word, k in count.items()))


if __name__ == "__main__":
    main(*sys.argv[1:])
