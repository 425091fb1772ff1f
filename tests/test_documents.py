"""The README's example runs and prints what the README says."""

import contextlib
import io
import re
import runpy
import tomllib
from pathlib import Path

import numpy as np
import pytest

from genonset.criteria import CRITERIA, DERIVED, GROUPS
from genonset.experiment import resolve, run_cell
from genonset.spec import (
    MODELS,
    NOISES,
    SOURCES,
    Adaptive,
    LowRank,
    PowerLaw,
    SamplerTable,
    Sweep,
    catalogue,
)

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_readme_example_prints_what_is_claimed():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.strip().splitlines()) <= 20
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "README.md", "exec"), {})
    claims = re.search(r"prints `(.*?)` and `(.*?)`", README)
    assert claims is not None
    assert said.getvalue().splitlines() == list(claims.groups())


def test_readme_names_every_file():
    for path in (ROOT / "src" / "genonset").glob("[a-z]*.py"):
        assert f"`{path.name}`" in README


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_linked_files_exist(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(((?!https?:|#)[^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_specs_in_the_docs_are_accepted():
    text = (ROOT / "docs" / "quickstart.md").read_text()
    specs = [tomllib.loads(t) for t in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
    Sweep.from_options(specs[0])
    Sweep.from_options(specs[0] | specs[1])


def test_every_option_and_kind_of_a_spec_is_documented():
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / "options.md").read_text(), flags=re.DOTALL)
    named = set(re.findall(r"[\w.]+", " ".join(re.findall(r"`([^`]+)`", text))))
    for table in (Sweep, Adaptive, SamplerTable, PowerLaw, LowRank, *SOURCES, *MODELS, *NOISES):
        assert set(table.model_fields) - {"source", "model"} <= named, table
    kinds = [k for title in ("sources", "models", "noise", "samplers") for k in catalogue()[title]]
    assert set(kinds) <= named


def test_every_criterion_is_defined():
    text = (ROOT / "docs" / "definitions.md").read_text()
    for name in (*CRITERIA, *GROUPS, *DERIVED):
        assert f"`{name}`" in text, name


def test_own_model_of_the_docs_runs(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "quickstart.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "my_module.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    first, second = (tomllib.loads(t) for t in re.findall(r"```toml\n(.*?)```", text, re.DOTALL))
    np.save("x.npy", np.random.default_rng(0).normal(size=(3000, 10)))
    cells = resolve(Sweep.from_options(first | second)).cells()
    assert run_cell(next(cells)[1]).values["model"]["train_bias"] > 0.6


def test_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for path in (ROOT / "examples").glob("*.py"):
        assert len(path.read_text().splitlines()) < 60
    example = runpy.run_path(str(ROOT / "examples" / "onset_from_python.py"))
    example["OPTIONS"]["replicates"] = 5
    example["main"]()
    said = capsys.readouterr().out
    assert said.count("n* =") + said.count("onset below") + said.count("no onset") == 4


def test_own_model_example_runs(tmp_path, monkeypatch):
    for name in ("own_model.py", "own_model.toml"):
        (tmp_path / name).write_text((ROOT / "examples" / name).read_text())
    monkeypatch.chdir(tmp_path)
    sweep = resolve(Sweep.from_toml("own_model.toml"))
    result = run_cell(next(sweep.cells())[1])
    assert result.values["model"]["train_bias"] > 0.6


def pages_with_formulas():
    """Displayed formulas of each page of the docs."""
    pages = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
    found = {name: re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL) for name, text in pages.items()}
    return {name: formulas for name, formulas in found.items() if formulas}


def formula_tags():
    """The number of every displayed formula, in the order of the pages."""
    return [
        tag
        for formulas in pages_with_formulas().values()
        for formula in formulas
        for tag in re.findall(r"\\tag\{(\w[\w.]*)\}", formula)
    ]


def numbers(text):
    """(A5), (A6) and (B15) to (B18) as A5, A6, B15, B16, B17, B18."""
    found = set()
    for first, last in re.findall(r"\(([0A-K][\d.]+[a-z]?)\)(?: to \(([A-K]\d+)\))?", text):
        ends = int(re.sub(r"\D", "", first) or 0), int(last[1:]) if last else None
        found |= {first}
        if ends[1]:
            found |= {f"{last[0]}{k}" for k in range(ends[0], ends[1] + 1)}
    return found


def cited_formulas():
    """The numbers that the code cites, by file: (X) before or after "the theory note"."""
    found = {}
    for path in (ROOT / "src" / "genonset").glob("*.py"):
        text = " ".join(path.read_text().split())
        after = re.findall(r"theory note ((?:for )?[^;\"]*?)(?:;|\. |\"|$)", text)
        before = re.findall(
            r"((?:\([A-K]\d+[a-z]?\)(?:, | and )?)+)(?: of)? the theory note", text
        )
        found[path.name] = set().union(*map(numbers, [*after, *before]))
    return found


def test_every_displayed_formula_has_a_number_of_its_own():
    for name, formulas in pages_with_formulas().items():
        for formula in formulas:
            assert len(re.findall(r"\\tag\{", formula)) == 1, f"{name}: {formula}"
    tags = formula_tags()
    assert len(tags) > 50
    assert sorted(tags) == sorted(set(tags))


def test_every_formula_is_cited_by_the_code_and_every_citation_exists():
    tags, cited = set(formula_tags()), cited_formulas()
    for name, found in cited.items():
        assert found <= tags, f"{name} cites {sorted(found - tags)}, which no page states"
    unused = tags - set().union(*cited.values())
    assert not unused, f"no docstring cites {sorted(unused)}"


def test_every_formula_has_a_source_or_is_said_to_be_derived_here():
    text = (ROOT / "docs" / "theory.md").read_text()
    (table,) = re.findall(r"## Where each formula comes from\n(.*?)\n## ", text, re.DOTALL)
    rows = re.findall(r"^\| (\(.*?) \| (.+?) \|$", table, re.MULTILINE)
    assert set().union(*(numbers(row) for row, _ in rows)) == set(formula_tags())


def test_a_citation_is_understood():
    assert numbers("theory note (B15) to (B18), (A6b) and (0.1)") == {
        "B15", "B16", "B17", "B18", "A6b", "0.1",
    }  # fmt: skip
