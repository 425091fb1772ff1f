"""One self-contained HTML page for a run or a verdict: the answer first, then what it rests on.

The page carries its figures as inline SVG, each in a wide and a one-column layout, and the images
of an audit as PNG; it needs no script, font or file from elsewhere, and every text that comes from
a run, a file or its name is escaped.
"""

import base64
import contextlib
import csv
import io
import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from genonset import __version__
from genonset.criteria import CRITERIA, ROLES
from genonset.datasets import Dataset
from genonset.errors import DataError
from genonset.estimates import bracket, p_text, percent, wilson
from genonset.experiment import build, eigenvalues
from genonset.features import is_image
from genonset.figures import (
    TOGETHER,
    Drawn,
    is_at,
    lone_axis,
    nearest_distances,
    power_curve,
    render,
    save_figures,
    write_file,
)
from genonset.findings import Verdict
from genonset.noise import at_horizon
from genonset.sources import Source
from genonset.spec import Measurement, label
from genonset.store import Record, Results
from genonset.tensors import extent, flatten
from genonset.views import Change

Setting = Mapping[str, Any]

ROOM = 1_400_000
"""Characters of figures on a page; those beyond it stay in the folder alone."""

FLOAT32, FLOAT64 = 2.0**-24, 2.0**-53
"""Relative rounding of one operation."""

WIDTHS = {
    "paper": "s N^(-1/d), N the size of the smoothed set, as published",
    "shared": "s n^(-1/d) for all sets, n the size of the training set",
    "scott": "Scott's rule, s N^(-1/(d+4)), N the size of the smoothed set",
    "cross_validated": "cross-validated on the pooled training and held-out sets, for all sets",
}


def write_run_report(
    results: Results, out: str | Path | None = None, *, seconds: float | None = None
) -> Path:
    """Write the figures of a run into its folder, and the page that explains them.

    Args:
        results: of a run, finished or not.
        out: the page; by default report.html in the run folder.
        seconds: wall time of the run, where known.

    Returns:
        the path of the page.

    Raises:
        StoreError: if the page or the figures cannot be written.
    """
    path = Path(out) if out is not None else results.folder / "report.html"
    drawn = save_figures(results, results.folder / "figures")
    write_page("report.html.jinja", _context(results, drawn, seconds), path)
    return path


def write_page(name: str, context: Mapping[str, Any], path: Path) -> None:
    """Fill a template of the package and write the page."""
    home = resources.files("genonset")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page.filters["breakable"] = breakable
    template = page.from_string(home.joinpath(name).read_text("utf-8"))
    style = Markup(home.joinpath("page.css").read_text("utf-8"))
    write_file(path, template.render(context, style=style, versions=versions()).encode())


def breakable(name: str) -> Markup:
    """A file name that a page may break after its separators, rather than anywhere."""
    return Markup(re.sub(r"([/\\_.-])", r"\1<wbr/>", str(escape(name))))


def _context(results: Results, drawn: list[Drawn], seconds: float | None) -> dict[str, Any]:
    """Everything the template shows, as plain text and numbers; only figures are markup."""
    one_size = lone_axis(results.sweep) is not None  # no onset to speak of
    answered = drawn and results.sweep.reads_onset and not one_size
    settings = results.settings if answered else []
    figures, classes = _inline(drawn)
    return {
        "name": results.sweep.name,
        "status": results.status(),
        "n_failures": len(results.failures),
        "failures": list(_failures(results)),
        "answers": [{"label": label(s), "sentence": answer(results, s)} for s in settings],
        "basis": _basis(results),
        "facts": _facts(results, seconds),
        "classes": classes,
        "figures": figures,
        "onsets": [_onset_table(results, s) for s in settings],
        "values": list(_value_tables(results, drawn)),
        "settings": list(_settings(results)),
        "spec": results.sweep.to_toml(),
        "commands": _commands(results),
    }


def _failures(results: Results) -> Iterator[dict[str, Any]]:
    """Failed cells by what they said, the most frequent first."""
    by_reason: dict[str, list[Record]] = {}
    for record in results.failures:
        by_reason.setdefault(record.row.reason, []).append(record)
    for reason, records in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        sizes = sorted({record.n for record in records})
        yield {
            "reason": reason,
            "count": len(records),
            "sizes": ", ".join(map(str, sizes)),
            "traceback": records[0].row.traceback.strip(),
        }


# -- the answer --------------------------------------------------------------------------------


def answer(results: Results, setting: Setting) -> str:
    """Where memorization ends at one combination of variant and axis values, in a sentence."""
    name, sizes = results.sweep.headline_criterion, results.sweep.n
    onset = results.onset(name, setting)
    if CRITERIA[name].axis == "quality":
        return f"{CRITERIA[name].title} comes within a factor 2 of its floor: {onset.sentence()}."
    if onset.blind:
        return (
            f"This run cannot tell: by {CRITERIA[name].title} the memorizer and the oracle look "
            "alike here (the criterion is blind)."
        )
    regimes = results.regimes(setting)
    if onset.onset is None:
        words, end = onset.sentence(), sizes[0 if onset.censored == "below" else -1]
        state = _state(_tally(regimes, [end]))
        start = words if words.startswith("n*") else words[0].upper() + words[1:]
        return f"{start.removesuffix('.')}." + (
            f" At n = {end} this model {state}." if state else ""
        )
    below = _tally(regimes, [n for n in sizes if n < onset.onset])
    above = _tally(regimes, [n for n in sizes if n >= onset.onset])
    number = f"n = {bracket(onset.onset, onset.low, onset.high)}"
    rest = _below(below)
    return _above(number, above) + (f"; {rest}." if rest else ".")


def _tally(regimes: Mapping[int, Mapping[str, int]], sizes: Iterable[int]) -> Counter[str]:
    """How many runs at these sizes are in each regime."""
    total: Counter[str] = Counter()
    for n in sizes:
        total.update(regimes.get(n, {}))
    return total


VERBS = {
    "copying": "copies training points",
    "train-biased": "is train-biased",
    "poor": "shows no dependence on its training points but is poor",
    "generalizing": "generalizes",
    "undecided": "cannot be judged by its label tests",
}

SIGNIFICANCE = 0.05
"""Share of runs in which a label test finds what is not there."""


def _state(tally: Counter[str]) -> str:
    """What most runs do, with their share; empty where none was judged."""
    if not tally.total():
        return ""
    regime, count = tally.most_common(1)[0]
    copies = f"; {_copies(tally)}" if regime == "train-biased" else ""
    return f"{VERBS[regime]} ({_percent(count / tally.total())} of runs{copies})"


def _copies(tally: Counter[str]) -> str:
    """How many runs copy, if more than a test finds by chance."""
    copies, total = tally["copying"], tally.total()
    by_chance = wilson(copies, total).low <= SIGNIFICANCE
    return "it copies nothing" if by_chance else f"{_percent(copies / total)} copy"


def _above(number: str, tally: Counter[str]) -> str:
    """The half of the answer that holds from the onset on."""
    if not tally.total():
        return f"Memorization ends at {number}"
    regime, count = tally.most_common(1)[0]
    share = f"({_percent(count / tally.total())} of runs)"
    return {
        "generalizing": f"This model generalizes from {number} on",
        "poor": f"Memorization ends at {number}, but what this model generates from there on is "
        f"poor {share}",
        "undecided": f"Memorization ends at {number}, by a criterion more powerful than the label "
        f"tests of single runs, which cannot judge {share}",
        "train-biased": f"The onset is at {number}, though above it label tests still find this "
        f"model train-biased {share}",
        "copying": f"The onset is at {number}, though above it this model still copies training "
        f"points {share}",
    }[regime]


def _below(tally: Counter[str]) -> str:
    """The half of the answer that holds below the onset; empty where no run was judged."""
    total = tally.total()
    if not total:
        return ""
    found = tally["copying"] + tally["train-biased"]
    if wilson(found, total).low <= SIGNIFICANCE:
        return "below it, label tests of single runs find no dependence on training points"
    if tally["copying"] > tally["train-biased"]:
        return f"below it copies training points ({_percent(tally['copying'] / total)} of runs)"
    biased = f"{_percent(tally['train-biased'] / total)} of runs"
    return f"below it is train-biased ({biased}; {_copies(tally)})"


def _percent(share: float) -> str:
    if 0 < share < 0.005:
        return "under 1 %"
    if 0.995 < share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"


def _basis(results: Results) -> str:
    """What the number in the answer is, once for all settings."""
    name = results.sweep.headline_criterion
    middle = f"where {CRITERIA[name].title} is halfway between the memorizer and the oracle"
    kind = {
        "delta": "the training size at which half of the runs have Δ > 0",
        "delta_held_out": "the training size at which P(Δ > 0), 0 for a memorizer and 1/2 for a "
        "generator that does not depend on its training set, passes 1/4",
    }.get(name.removeprefix("coordinate_"), middle)
    if CRITERIA[name].axis == "quality":
        kind = f"where the median of {CRITERIA[name].title} is a factor 2 from its floor"
    return (
        f"n* is {kind}; in brackets its 95 % interval, where '..' is an end beyond the sizes run."
    )


def _facts(results: Results, seconds: float | None) -> list[tuple[str, str]]:
    status = results.status()
    spent = sum(record.row.seconds for record in results.records)
    facts = [
        ("cells done", f"{status['done']} of {status['cells']}"),
        ("failed", str(status["failed"])),
        ("replicates", _replicates_words(results)),
        ("training points", f"{results.sweep.n[0]} to {results.sweep.n[-1]}"),
        ("process time", _duration(spent)),
    ]
    return facts + ([("wall time", _duration(seconds))] if seconds is not None else [])


def _replicates_words(results: Results) -> str:
    sweep = results.sweep
    if sweep.design is not None:
        return f"chosen as they came, {len(sweep.n)} sizes"
    more = ", ".join(f"{count} at n = {n}" for n, count in sorted(sweep.replicates_at.items()))
    return f"{sweep.replicates}, {more}" if more else str(sweep.replicates)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


# -- figures and tables ------------------------------------------------------------------------


def _inline(drawn: Sequence[Drawn]) -> tuple[list[dict[str, Any]], Markup]:
    """The figures for the template, as many as the page has room for, and their style sheet."""
    svgs: list[str] = []
    shown: set[str] = set()
    for figure in drawn:
        pair = [inline_svg(figure, narrow=False), inline_svg(figure, narrow=True)]
        if not svgs or sum(map(len, svgs + pair)) < ROOM:
            shown.add(figure.name)
            svgs += pair
    svgs, classes = _share_styles(svgs)
    left = map(Markup, svgs)
    pairs = [(next(left), next(left)) if d.name in shown else () for d in drawn]
    return [
        {
            "name": d.name,
            "title": d.title,
            "how_to_read": d.how_to_read,
            "layouts": pair,
            "alarm": d.alarm,
        }
        for d, pair in zip(drawn, pairs, strict=True)
    ], Markup(classes)


def inline_svg(drawn: Drawn, *, narrow: bool) -> str:
    """A figure as one line of SVG for a page: scalable, labelled, with ids that are its own."""
    own = f"{drawn.name}-{'narrow' if narrow else 'wide'}"
    svg = render(drawn.narrow if narrow else drawn.figure, "svg").decode()
    svg = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL
    )
    svg = re.sub(r"\s+", " ", svg[svg.index("<svg") :]).replace("> <", "><")
    svg = svg.replace("xlink:href=", "href=")
    svg = re.sub(r"(\.\d\d)\d+", r"\1", svg)  # a hundredth of a point is finer than any screen
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{own}-{m[1]}"' * (m[1] in used), svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{own}-", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None
    described = f'role="img" aria-label="{escape(drawn.title)}"'
    return f"<svg {box[0]} {described}>" + svg[svg.index(">") + 1 :]


def _share_styles(svgs: Sequence[str]) -> tuple[list[str], str]:
    """Turn the styles that figures repeat into classes; returns both."""
    styles = Counter(style for svg in svgs for style in re.findall(r'style="([^"]*)"', svg))
    names = {style: f"s{k}" for k, (style, count) in enumerate(styles.most_common()) if count > 2}

    def as_class(match: re.Match[str]) -> str:
        return f'class="{names[match[1]]}"' if match[1] in names else match[0]

    sheet = "".join(f".{name}{{{style}}}" for style, name in names.items())
    return [re.sub(r'style="([^"]*)"', as_class, svg) for svg in svgs], sheet


def _onset_table(results: Results, setting: Setting) -> dict[str, Any]:
    """Onsets of every criterion at one setting."""
    rows = []
    for name in results.sweep.measured:
        criterion = CRITERIA[name]
        if criterion.axis in ("error", "training"):
            continue
        row = {
            "title": criterion.title,
            "axis": criterion.axis,
            "headline": name == results.sweep.headline_criterion,
            "onset": "–",
            "interval": "–",
            "width": "–",
            "predicted": "–",
        }
        predicted = results.predicted_onset(name, setting)
        if predicted is not None and predicted.onset is not None:
            mark = " (heuristic)" if predicted.kind == "heuristic" else ""
            row["predicted"] = f"{predicted.onset:.4g}{mark}"
        onset = results.onset(name, setting)
        if onset.onset is not None:
            number, _, interval = bracket(onset.onset, onset.low, onset.high).partition(" ")
            row |= {"onset": number, "interval": interval}
        if onset.width is not None:
            row["width"] = f"{onset.width:.2f}"
        words = [] if onset.onset is not None else [onset.sentence()]
        notes = onset.notes if onset.points else ()  # else the sentence says it all
        rows.append(row | {"note": "; ".join([*words, *notes])})
    return {"label": label(setting), "rows": rows}


STATISTICS = {
    "share": "share with Wilson interval",
    "mean": "mean with bootstrap interval",
    "median": "median with interval from order statistics",
}


def _value_tables(results: Results, drawn: Sequence[Drawn]) -> Iterator[dict[str, Any]]:
    """One table a criterion and setting, from the rows behind the figures."""
    if len(results.settings) > TOGETHER:
        return
    rows = [
        row
        for figure in drawn
        if figure.name in ("memorization", "quality", "training", "errors")
        for row in figure.rows
        if row["n"] is not None
    ]
    for name in dict.fromkeys(row["criterion"] for row in rows):
        criterion = CRITERIA[name.removesuffix("_positive")]
        mine = [row for row in rows if row["criterion"] == name]
        unit = ", in units of the self overlap" if criterion.axis == "error" else ""
        roles = [role for role in ROLES if any(row["role"] == role for row in mine)]
        yield {
            "title": criterion.title,
            "summary": criterion.summary,
            "statistic": STATISTICS[mine[0]["statistic"]] + unit,
            "roles": roles,
            "tables": [
                (label(setting), _value_rows([row for row in mine if is_at(row, setting)], roles))
                for setting in results.settings
            ],
        }


def _value_rows(rows: Sequence[Mapping[str, Any]], roles: Sequence[str]) -> list[dict[str, Any]]:
    cells = {(row["n"], row["role"]): row for row in rows}
    return [
        {
            "n": n,
            "cells": [_cell(cells.get((n, role))) for role in roles],
            "runs": max(row["runs"] for row in rows if row["n"] == n),
        }
        for n in sorted({row["n"] for row in rows})
    ]


def _cell(row: Mapping[str, Any] | None) -> str:
    """A value with its interval, in four digits where its own would not fit a column."""
    if row is None:
        return "–"
    text = bracket(row["value"], row["low"], row["high"])
    if len(text) > 28:
        value, *ends = (
            ".." if row[k] is None else f"{row[k]:.4g}" for k in ("value", "low", "high")
        )
        text = f"{value} [{', '.join(ends)}]"
    return text.removesuffix(" [.., ..]").replace("inf", "∞")


# -- what was run ------------------------------------------------------------------------------


def _settings(results: Results) -> Iterator[tuple[str, str]]:
    """The run in words: data, model, noise, kernels, draws, precision."""
    sweep = results.sweep
    try:
        world = build(sweep.source)
    except DataError as error:
        world = None
        yield "data", f"could not be read again: {error}"
    path = getattr(sweep.source, "path", None)
    parts = [
        sweep.source.kind,
        *([path] if path else []),
        *([f"d = {world.dim}"] if world else []),
    ]
    yield "source", ", ".join(parts)
    if isinstance(world, Dataset):
        for note in world.notes:
            yield "data", note
        yield (
            "replicates",
            "Replicates are overlapping subsets of one data set, so intervals are conditional "
            "on it.",
        )
    for setting in results.settings:
        place = f" ({label(setting)})" if setting else ""
        yield f"model{place}", _model_words(sweep.measurement(setting))
    widths = {label(s): _width_words(sweep.measurement(s).bandwidth) for s in results.settings}
    if len(set(widths.values())) == 1:
        yield "kernel width", next(iter(widths.values()))
    else:
        yield from ((f"kernel width ({place})", words) for place, words in widths.items())
    yield "original points", f"{sweep.n_original or 'by default'}"
    counts = {label(s): sweep.measurement(s).n_generated for s in results.settings}
    if len(set(counts.values())) == 1:
        yield "generated points", f"{sweep.n_generated or 'by default'}"
    else:
        yield from ((f"generated points ({place})", f"{m}") for place, m in counts.items())
    smallest = smallest_log_ratio(results)
    if smallest is not None:
        yield "sign of Δ", _ratio_words(smallest)
    yield "seed", f"{sweep.seed}; every draw derives from it and from what is drawn"


def _model_words(measurement: Measurement) -> str:
    """A model with its options, its noise, and how much signal the noise leaves."""
    options = measurement.model.model_dump(exclude={"kind", "noise"})
    words = [measurement.model.kind, *(f"{k} = {v}" for k, v in options.items())]
    noise = getattr(measurement.model, "noise", None)
    if noise is not None:
        scales = [
            f"{name.replace('_', ' ')} {value:.4g}"
            for name, value in noise.model_dump(exclude={"kind", "horizon"}).items()
        ]
        words.append(
            f"{noise.kind.replace('_', '-')} noise to horizon {noise.build().horizon:g}"
            + (f" with {', '.join(scales)}" if scales else "")
        )
        with contextlib.suppress(DataError):
            fraction = signal_fraction(measurement, build(measurement.source))
            if fraction is not None:
                words.append(f"mean signal fraction r = {fraction:.3g} at the horizon")
    return ", ".join(words)


def signal_fraction(measurement: Measurement, world: Source | Dataset) -> float | None:
    """Mean over principal axes of r_i = a² c_i / (a² c_i + b²), the signal in x_T.

    Returns:
        None where the model has no noise process, or the source no covariance to speak of.

    Reference:
        Theory note (0.1).
    """
    noise, spectrum = getattr(measurement.model, "noise", None), eigenvalues(world)
    if noise is None or spectrum is None:
        return None
    alpha, sigma = at_horizon(noise.build())
    signal = alpha**2 * spectrum
    return float((signal / (signal + sigma**2)).mean())


def noise_caution(measurement: Measurement, world: Source | Dataset) -> str | None:
    """What to change where a one-step model has almost nothing, or everything, to denoise."""
    if measurement.model.kind != "linear_one_step":
        return None
    fraction, spectrum = signal_fraction(measurement, world), eigenvalues(world)
    if fraction is None or spectrum is None or 0.01 < fraction < 0.9:
        return None
    noise = measurement.model.noise
    alpha, sigma = at_horizon(noise.build())
    signal = (alpha**2 * spectrum).numpy()
    scales = np.geomspace(1e-6, 1e6, 2401) * signal.mean()
    halved = scales[np.argmin([abs((signal / (signal + s)).mean() - 0.5) for s in scales])]
    advice = ""
    if noise.kind == "ornstein_uhlenbeck":
        advice = f" noise_scale = {noise.noise_scale * halved / sigma**2:.2g} makes it 0.5."
    return (
        f"noise: {fraction:.2g} of what the model is shown is signal, on average over the "
        "directions of the data; near 1 there is nothing to denoise, near 0 nothing to learn."
        + advice
    )


def _width_words(rule: str | float) -> str:
    return WIDTHS[rule] if isinstance(rule, str) else f"{rule:g}, fixed"


def smallest_log_ratio(results: Results) -> float | None:
    """The smallest |log ratio| by which a sign of Δ was decided; None where none was measured."""
    found = [
        abs(values[name])
        for record in results.records
        for values in record.row.values.values()
        for name in ("delta_log_ratio", "delta_held_out_log_ratio")
        if np.isfinite(values.get(name, np.nan)) and values[name] != 0
    ]
    return min(found, default=None)


def _ratio_words(smallest: float) -> str:
    beyond = ", and could not have told it" if smallest < FLOAT32 else ""
    return (
        f"the closest was decided at |log ratio| = {smallest:.2g}; float64 resolves "
        f"{FLOAT64:.1g}, float32 {FLOAT32:.1g}{beyond}"
    )


def _commands(results: Results) -> list[tuple[str, str]]:
    folder = results.folder
    return [
        ("resume", f"genonset sweep {folder}/spec.toml --out {folder}"),
        ("where to sample next", f"genonset onset {folder} --suggest"),
        ("every number", f"genonset export {folder} {results.sweep.name}.csv"),
        ("this page again", f"genonset report {folder}"),
    ]


def versions() -> dict[str, str]:
    """The programs that wrote a page."""
    return {
        "genonset": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "matplotlib": metadata.version("matplotlib"),
        "python": platform.python_version(),
    }


# -- an audit ----------------------------------------------------------------------------------

GALLERY = 24
"""Samples shown where none is flagged, worst first."""

FLAGGED = 48
"""Flagged samples that are shown with their pictures, at most; a table names them all."""

UNFLAGGED = 6
"""Samples shown behind the flagged ones: the nearest that are not."""

THUMBNAIL = 128
"""Pixels of the longer side of an image, at most."""

LOSSLESS = 32
"""Pixels of the longer side up to which an image is kept pixel by pixel; larger ones as JPEG."""

QUESTIONS = {
    "copying": "Are near-duplicates of training points there more often than of held-out points?",
    "train_bias": "What share of the samples is nearer to a training than to a held-out point?",
    "memorized_fraction": "Three times nearer to one training point than to any other?",
    "c_t": "Do samples lie nearer to the training set than held-out points do (Z)? Narrow laws "
    "score like copies.",
    "authenticity": "Share of samples farther from their training point than that is from others.",
    "dcr_share": "Share of samples nearer to the training than to the held-out set.",
    "precision": "Share of samples among held-out points; by chance: training points.",
    "recall": "Share of held-out points among samples; by chance: among training points.",
    "density": "How many held-out neighbourhoods hold a sample, in units of their number.",
    "coverage": "Share of held-out neighbourhoods that hold a sample.",
    "energy_training": "Energy distance to training points; by chance: to held-out points.",
    "sliced_wasserstein_training": "Sliced W2 to training points; by chance: to held-out points.",
    "kernel_delta": "Log ratio of the size-matched kernel Δ, above 0 towards the training set.",
}


TITLES = {
    "c_t": "C_T",
    "dcr_share": "DCR share",
    "energy_training": "energy distance",
    "sliced_wasserstein_training": "sliced Wasserstein",
    "kernel_delta": "kernel Δ",
}


def write_report(verdict: Verdict, path: str | Path) -> Path:
    """Write the page of an audit.

    Args:
        verdict: as `genonset.audit` returns it.
        path: the page.

    Returns:
        its path.

    Raises:
        StoreError: if it cannot be written.
    """
    path = Path(path)
    drawn = [nearest_distances(verdict)]
    if verdict.power.curve:
        drawn.append(power_curve(verdict))
    figures, classes = _inline(drawn)
    worst = _worst_first(verdict)
    context = {
        "verdict": verdict,
        "facts": _audit_facts(verdict),
        "figures": figures,
        "classes": classes,
        "gallery": list(_gallery(verdict, worst)),
        "flagged": list(_flagged(verdict)),
        "n_samples": verdict.inputs["generated"].n,
        "coordinates": _coordinates(verdict, worst),
        "numbers": list(_numbers(verdict)),
        "inputs": {name.replace("_", "-"): one for name, one in verdict.inputs.items()},
    }
    write_page("verdict.html.jinja", context, path)
    return path


def _audit_facts(verdict: Verdict) -> list[tuple[str, str]]:
    """The numbers of the first screen."""
    facts = [(name.replace("_", "-"), f"{one.n}") for name, one in verdict.inputs.items()]
    copied, bias = verdict.copying, verdict.train_bias
    if copied.p_value is not None:
        facts += [
            ("p, copying", p_text(copied.p_value)),
            ("samples flagged", str(len(copied.controlled))),
            ("p, train bias", p_text(bias.p_value)),
        ]
    facts.append(("identical to training", str(copied.identical)))
    facts.append(("memorized by gap ratio", percent(copied.memorized_fraction)))
    return facts


def _worst_first(verdict: Verdict) -> list[int]:
    """Samples by their distance to training points: flagged ones first, then others."""
    flagged = [f.index for f in verdict.copying.flagged]
    seen = set(flagged)
    order = verdict.evidence.to_training.argsort(stable=True).tolist()
    others = [k for k in order if k not in seen]
    return [*flagged[:FLAGGED], *others[: max(UNFLAGGED, GALLERY - len(flagged))]]


def _flagged(verdict: Verdict) -> Iterator[dict[str, str]]:
    """Every sample that is named, and what it copies."""
    for f in verdict.copying.flagged:
        yield {
            "sample": point_name(verdict, "generated", f.index),
            "training": point_name(verdict, "training", f.nearest),
            "distance": f"{f.distance:.6g}",
            "p_value": "" if f.p_value is None else p_text(f.p_value),
            "change": f.change or "",
            "why": f.why,
            **_parts(verdict, f.details),
        }


def _parts(verdict: Verdict, change: Change | None) -> dict[str, str]:
    """What was done, a column each; empty where nothing was, or no robust search looked for it."""
    if change is None:
        return dict.fromkeys(PARTS, "")
    mixed = change.partner
    return {
        "flip": change.flip,
        "shift": _spaced(change.shift) if any(change.shift) else "",
        "crop": _spaced(change.crop or ()),
        "gain": _spaced(change.gains),
        "offset": _spaced(change.offsets),
        "remaining_difference": f"{change.remaining:.3g}",
        "mixed_with": "" if mixed is None else point_name(verdict, "training", mixed),
    }


PARTS = ("flip", "shift", "crop", "gain", "offset", "remaining_difference", "mixed_with")


def _spaced(values: Iterable[float]) -> str:
    return " ".join(f"{round(v, 9) + 0.0:.4g}" for v in values)


def write_flagged(verdict: Verdict, path: str | Path) -> Path:
    """Write the samples that are named as CSV, nearest first: one line each.

    Columns: sample, training point, their distance, the p-value of the sample, what was done in
    words, why it is named, and what was done in parts: flip; shift, pixels down and right; crop,
    the top, left, height and width of the part of the training image; gain and offset, one or one
    a channel; the difference that remains, in units of the contrast; and the other image of a
    mixture.

    Raises:
        StoreError: if it cannot be written.
    """
    columns = ("sample", "training", "distance", "p_value", "change", "why", *PARTS)
    return _write_table(path, columns, _flagged(verdict))


def write_kept(verdict: Verdict, path: str | Path) -> Path:
    """Write the samples that are not named as CSV, in their order: one line each.

    Columns: sample, nearest training point, distance, nearest held-out point, distance, p-value.

    Raises:
        StoreError: if it cannot be written.
    """
    return _write_table(path, KEPT, _kept(verdict))


KEPT = ("sample", "training", "distance", "held_out", "held_out_distance", "p_value")


def _kept(verdict: Verdict) -> Iterator[dict[str, str]]:
    evidence, named = verdict.evidence, {f.index for f in verdict.copying.flagged}
    columns: list[tuple[str, str, list[int], list[float]]] = [
        ("training", "distance", evidence.nearest_training.tolist(), evidence.to_training.tolist())
    ]
    if evidence.to_held_out is not None and evidence.nearest_held_out is not None:
        near, away = evidence.nearest_held_out.tolist(), evidence.to_held_out.tolist()
        columns.append(("held_out", "held_out_distance", near, away))
    for k, p_value in enumerate(evidence.p_values.tolist()):
        if k in named:
            continue
        row = {"sample": point_name(verdict, "generated", k)}
        for role, distance, where, distances in columns:
            row |= {role: point_name(verdict, role, where[k]), distance: f"{distances[k]:.6g}"}
        yield row | ({"p_value": p_text(p_value)} if len(columns) > 1 else {})


def _write_table(
    path: str | Path, columns: Sequence[str], lines: Iterable[Mapping[str, str]]
) -> Path:
    path, text = Path(path), io.StringIO()
    rows = csv.DictWriter(text, columns)
    rows.writeheader()
    rows.writerows(lines)
    write_file(path, text.getvalue().encode())
    return path


def _gallery(verdict: Verdict, worst: Sequence[int]) -> Iterator[dict[str, Any]]:
    """One entry a sample: it, its neighbours, their distances, its p-value."""
    evidence = verdict.evidence
    flagged = {f.index: f for f in verdict.copying.flagged}
    picture = _painter(evidence.sets)
    for k in worst:
        parts: list[tuple[str, int, float | None]] = [("generated", k, None)]
        parts.append(
            ("training", int(evidence.nearest_training[k]), float(evidence.to_training[k]))
        )
        if evidence.to_held_out is not None and evidence.nearest_held_out is not None:
            near = int(evidence.nearest_held_out[k])
            parts.append(("held_out", near, float(evidence.to_held_out[k])))
        yield {
            "flagged": flagged[k].why if k in flagged else None,
            "change": flagged[k].change if k in flagged else None,
            "p_value": p_text(float(evidence.p_values[k])) if len(parts) > 2 else None,
            "parts": [
                {
                    "role": ROLE_WORDS[role],
                    "name": point_name(verdict, role, row),
                    "distance": None if distance is None else f"{distance:.4g}",
                    "picture": picture(evidence.sets[role][row]) if picture else None,
                }
                for role, row, distance in parts
            ],
        }


ROLE_WORDS = {
    "generated": "sample",
    "training": "nearest training",
    "held_out": "nearest held-out",
}


def point_name(verdict: Verdict, role: str, row: int) -> str:
    """The file of a point of a set, or its row."""
    names = verdict.evidence.names.get(role)
    return names[row] if names else f"row {row}"


def _painter(sets: Mapping[str, torch.Tensor]) -> Callable[[torch.Tensor], str] | None:
    """Draws a point as a PNG in a data address; None where points are no images."""
    shape = sets["training"].shape[1:]
    if not is_image(shape):
        return None
    low, high = extent(sets["training"])
    scale = 255 / (high - low) if high > low else 1.0

    def paint(point: torch.Tensor) -> str:
        from PIL import Image

        pixels = ((point.double() - low) * scale).round().clamp(0, 255).to(torch.uint8).numpy()
        pixels = pixels.reshape(-1, *pixels.shape[-2:])
        grey = len(pixels) == 1
        image = Image.fromarray(pixels[0] if grey else pixels.transpose(1, 2, 0).copy())
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        buffer = io.BytesIO()
        kind = "png" if max(image.size) <= LOSSLESS else "jpeg"
        image.save(buffer, kind, optimize=True, quality=90, subsampling=0)
        return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"

    return paint


def _coordinates(verdict: Verdict, worst: Sequence[int]) -> list[dict[str, Any]]:
    """For points that are no images: the first coordinates of samples and their neighbours."""
    evidence = verdict.evidence
    if _painter(evidence.sets) is not None:
        return []
    rows = []
    for k in worst[:8]:
        parts = [("generated", k), ("training", int(evidence.nearest_training[k]))]
        if evidence.nearest_held_out is not None:
            parts.append(("held_out", int(evidence.nearest_held_out[k])))
        for role, row in parts:
            values = flatten(evidence.sets[role][row : row + 1])[0, :8].tolist()
            rows.append(
                {
                    "role": ROLE_WORDS[role],
                    "name": point_name(verdict, role, row),
                    "values": [f"{value:.4g}" for value in values],
                }
            )
    return rows


def _numbers(verdict: Verdict) -> Iterator[dict[str, str]]:
    """Every statistic with its level by chance."""
    copied, bias = verdict.copying, verdict.train_bias
    if copied.p_value is not None and bias.share is not None:
        n, m = verdict.inputs["held_out"].n, verdict.inputs["training"].n
        near = copied.near_training + (copied.near_held_out or 0)
        yield _number(
            "copying",
            f"{copied.near_training} of {near}",
            f"{near * m / (n + m):.3g} of {near}",
            copied.p_value,
        )
        interval = f"{percent(bias.share)} [{percent(bias.low)}, {percent(bias.high)}]"
        yield _number("train_bias", interval, percent(bias.expected), bias.p_value)
    control = copied.control_fraction
    fraction = (
        f"{percent(copied.memorized_fraction)} "
        f"[{percent(copied.memorized_low)}, {percent(copied.memorized_high)}]"
    )
    chance = percent(copied.chance) if control is None else percent(control)
    yield _number("memorized_fraction", fraction, chance, None)
    for name, peer in verdict.peers.items():
        level = "–" if peer.chance is None else f"{peer.chance:.3g}"
        yield _number(name, f"{peer.value:.3g}", level, peer.p_value)


def _number(name: str, value: str, chance: str, p_value: float | None) -> dict[str, str]:
    return {
        "name": TITLES.get(name, name.replace("_", " ")),
        "question": QUESTIONS[name],
        "value": value,
        "chance": chance,
        "p_value": "–" if p_value is None else p_text(p_value),
    }
