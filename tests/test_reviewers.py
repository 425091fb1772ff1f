"""The reviewers' points: every one has a command that parses and a figure that exists."""

import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from genonset import cli, reviewers
from genonset.errors import ConfigError
from genonset.reviewers import AUDIT, POINTS, audit_example, sweeps, write_index
from genonset.spec import reproduction, shipped
from genonset.theory import find

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reviewers.md").read_text()


def sections():
    parts = re.split(r"^## (\d+)\. ", PAGE, flags=re.MULTILINE)[1:]
    return dict(zip(map(int, parts[::2]), parts[1::2], strict=True))


def named_commands(text):
    spans = re.findall(r"```\n(.*?)```", text, re.DOTALL) + re.findall(r"`(genonset [^`]+)`", text)
    return [one for span in spans for one in span.splitlines() if one.startswith("genonset ")]


def test_the_page_has_every_point_in_order():
    found = sections()
    assert list(found) == list(range(1, 26)) == list(range(1, len(POINTS) + 1))
    for number, point in enumerate(POINTS, 1):
        assert found[number].startswith(point.objection + "\n"), number


@pytest.mark.parametrize("number", range(1, 26))
def test_each_point_names_its_command_its_figure_and_an_answer(number):
    text = sections()[number]
    for command in POINTS[number - 1].commands:
        assert command in named_commands(text)
    for figure in POINTS[number - 1].figures:
        image = f"figures/reviewers/{figure.replace('/', '-')}.png"
        assert f"]({image})" in text
        assert (ROOT / "docs" / image).stat().st_size > 10_000
    assert re.search(r"\*\*Answer\.\*\* \S", text)


@pytest.mark.parametrize("command", sorted(set(named_commands(PAGE))))
def test_each_command_of_the_page_parses(command):
    _, name, *arguments = shlex.split(command)
    group = typer.main.get_command(cli.app)
    assert isinstance(group, click.Group)
    chosen = group.commands[name].make_context(name, arguments)
    if name == "reproduce" and chosen.params["name"] not in ("linear", "reviewers"):
        shipped(chosen.params["name"])
    if name == "theory" and chosen.params["name"]:
        find(chosen.params["name"])


def test_every_run_ships_and_is_quick_to_cut():
    cut = {sweep.name: sweep for sweep in sweeps(quick=True)}
    whole = {sweep.name: sweep for sweep in sweeps()}
    assert set(cut) == {f.split("/")[0] for p in POINTS for f in p.figures} - {AUDIT}
    for name, sweep in cut.items():
        assert 3 <= sweep.replicates <= whole[name].replicates
        assert sweep.levels()  # a nested design keeps whole outer draws
    assert cut["reviewers-variance"].replicates == 200
    assert reproduction("reviewers-theory", quick=True, replicates=5).replicates == 5


def test_the_index_says_which_figures_are_missing(tmp_path):
    figures = tmp_path / "reviewers-theory" / "figures"
    figures.mkdir(parents=True)
    (figures / "theory.png").write_bytes(b"")
    page = write_index(tmp_path, {"reviewers-theory": 3}).read_text()
    assert page.count("<section") == 25
    assert 'src="reviewers-theory/figures/theory.png"' in page
    assert "3 replicates" in page
    assert page.count("has no such figure yet") == sum(len(p.figures) for p in POINTS) - 1


def test_the_audit_finds_the_planted_copies(tmp_path):
    verdict = audit_example(tmp_path)
    assert verdict.verdict == "copying"
    assert len(verdict.copying.flagged) == 15
    assert {p.name for p in (tmp_path / "figures").glob("*.csv")} == {"power.csv", "distances.csv"}


def test_a_tiny_pass_writes_runs_and_index(tmp_path, monkeypatch):
    tiny = [
        reproduction("reviewers-theory", n=(16, 96), replicates=3),
        reproduction("late-times", variant="two classes, d = 8", n=(16,), replicates=2),
    ]
    monkeypatch.setattr(reviewers, "sweeps", lambda **_: tiny)
    monkeypatch.setattr(reviewers, "audit_example", lambda folder, seed: None)
    cli.reproduce("reviewers", quick=True, out=tmp_path)
    page = (tmp_path / "index.html").read_text()
    for figure in ("reviewers-theory/figures/theory.png", "late-times/figures/own-term.png"):
        assert f'src="{figure}"' in page
        assert (tmp_path / figure).with_suffix(".csv").exists()
    with pytest.raises(ConfigError, match="--quick"):
        cli.reproduce("reviewers", n="8", out=tmp_path)
