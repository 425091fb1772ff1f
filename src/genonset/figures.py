"""One function per figure: the results of a run in, a figure and the rows behind it out.

Every figure is drawn from plain rows, one point a row, which are saved beside it: what is in the
CSV is what is on the page. A point is a statistic over runs with its 95 % interval:

    share     of runs in which something happened, Wilson interval
    mean      over runs, bootstrap interval
    median    over runs; with x_(1) <= ... <= x_(m) its interval is

    (1)  [x_(j), x_(m+1-j)],   j the smallest number with P(Binomial(m, 1/2) <= j) >= 2.5 %

which holds for any law and where runs are infinite, as a Kullback-Leibler divergence is for a
singular law. With fewer than 6 runs no such interval exists and their whole range is given.

Kernel errors are shown in units of

    (2)  (4 pi s²)^(-d/2),

the overlap with itself of a set smoothed by the paper's kernel, for every n: theory note (A2).
"""

import contextlib
import csv
import io
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator
from torch import Tensor

from genonset import theory
from genonset.criteria import CEILINGS, CRITERIA, GROUPS, ROLES
from genonset.datasets import Dataset
from genonset.errors import ConfigError, DataError, StoreError
from genonset.estimates import bootstrap, wilson
from genonset.experiment import build, eigenvalues
from genonset.findings import Verdict
from genonset.gallery import SHOWN, Gallery
from genonset.onset import Onset
from genonset.predictions import FORMS, SCATTER, Form, predictions
from genonset.sources import Gaussian, GaussianMixture, Source
from genonset.spec import Measurement, NetworkModel, Sweep, label
from genonset.store import Results
from genonset.theory import FORMULAS, Evaluation, section

Row = dict[str, Any]
Setting = Mapping[str, Any]
Look = dict[str, Any]

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Liberation Sans", "sans-serif"],
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.8,
    "hatch.linewidth": 0.6,
    "figure.facecolor": "white",
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "genonset",
    "pdf.fonttype": 42,
}

# Okabe and Ito 2008: told apart with any common colour vision, and by marker and dash besides.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#AA5E93"
ORANGE, SKY, GREY, INK = "#E69F00", "#56B4E9", "#6b6b6b", "#333333"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)

LOOKS: dict[str, Look] = {
    "model": {"color": BLUE, "linestyle": "-", "marker": "o", "zorder": 4},
    "memorizer": {"color": VERMILION, "linestyle": "--", "marker": "v", "zorder": 2},
    "oracle": {"color": GREEN, "linestyle": "-.", "marker": "^", "zorder": 2.5},
    "null": {"color": PURPLE, "linestyle": ":", "marker": "s", "zorder": 3},
}
FAINT: Look = {"linewidth": 0.8, "markersize": 2.4, "alpha": 0.5, "elinewidth": 0.6}
ROLE_LABELS = {role: role for role in ROLES} | {"null": "null: fresh points"}

MIDDLE: Look = {"color": INK, "linewidth": 0.8, "linestyle": (0, (6, 3)), "label": "midpoint"}
EXPECTED: Look = {"color": PURPLE, "linewidth": 0.8, "alpha": 0.6, "label": "null, expected: 1/2"}
FLOOR: Look = {"color": INK, "linewidth": 0.9, "label": "floor of the model, n → ∞"}
TWICE: Look = {"color": INK, "linewidth": 0.8, "linestyle": ":", "label": "a factor 2 from it"}
ZERO: Look = {"color": VERMILION, "linewidth": 1.0, "linestyle": "--", "label": "memorizer"}
ONE: Look = {"color": GREEN, "linewidth": 1.0, "linestyle": "-.", "label": "oracle"}

REGIMES: dict[str, Look] = {
    "copying": {"facecolor": VERMILION, "hatch": ""},
    "train-biased": {"facecolor": ORANGE, "hatch": "//"},
    "poor": {"facecolor": SKY, "hatch": ".."},
    "generalizing": {"facecolor": GREEN, "hatch": ""},
    "undecided": {"facecolor": "#c8c8c8", "hatch": "\\\\"},
}
"""In their order of precedence."""

WIDE, NARROW = 7.4, 3.5
"""Widths in inches: across a page, and one column (or a telephone)."""

TOGETHER = 6
"""More settings than this get their figures each."""

MIDPOINTS = {name: ceiling / 2 for name, ceiling in CEILINGS.items()}
"""Shares of positive Δ at which an onset is read."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure with all that belongs to it.

    Attributes:
        name: of its files.
        title: what it shows.
        how_to_read: what to look for, in plain sentences.
        rows: the numbers drawn, one point a row.
        figure, narrow: the same across a page, and in one column.
        alarm: what must be seen before anything else; empty where nothing is wrong.
    """

    name: str
    title: str
    how_to_read: str
    rows: list[Row]
    figure: Figure
    narrow: Figure
    alarm: str = ""


# -- rows --------------------------------------------------------------------------------------


def median_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the median from order statistics, equation (1); values may be infinite.

    Args:
        values: m numbers, m >= 1.
        confidence: probability with which it covers, at least.

    Returns:
        low and high; the whole range where m is too small for this confidence.

    Reference:
        David and Nagaraja 2003, Order Statistics, section 7.1.
    """
    from scipy.stats import binom

    ordered = np.sort(values)
    j = max(1, int(binom.ppf((1 - confidence) / 2, len(ordered), 0.5)))
    return float(ordered[j - 1]), float(ordered[len(ordered) - j])


def summarize(values: np.ndarray, statistic: str) -> Row:
    """A share, mean or median over runs with its interval; None where there is none.

    Args:
        values: one number a run; missing runs are NaN. A share counts the runs above zero; a
            mean leaves out infinite runs, whose number is in the row.
        statistic: "share", "mean" or "median".
    """
    known = values[~np.isnan(values)]
    finite = known[np.isfinite(known)]
    row: Row = {"statistic": statistic, "value": None, "low": None, "high": None}
    row |= {"runs": len(known), "infinite": len(known) - len(finite)}
    if statistic == "share" and len(known):
        share = wilson(int((known > 0).sum()), len(known))
        row |= {"value": share.value, "low": share.low, "high": share.high}
    elif statistic == "mean" and len(finite):
        row["value"] = float(finite.mean())
        if len(finite) > 2:
            mean = bootstrap(finite, np.mean, n_resamples=1000)
            row |= {"low": mean.low, "high": mean.high}
    elif statistic == "median" and len(known):
        ordered, middle = np.sort(known), len(known) // 2
        low, high = median_interval(known)
        value = (ordered[-1 - middle] + ordered[middle]) / 2
        row |= {"value": float(value), "low": low, "high": high}
    return row


def curve(
    results: Results,
    criterion: str,
    role: str,
    setting: Setting,
    *,
    statistic: str,
    unit: float = 1.0,
) -> list[Row]:
    """A statistic of one criterion, role and setting, at every n that has runs."""
    with np.errstate(all="ignore"):
        table = results.matrix(criterion, role, setting) / unit
    place = {**setting, "criterion": criterion, "role": role}
    rows = [
        {**place, "n": n, **summarize(column, statistic)}
        for n, column in zip(results.sweep.n, table.T, strict=True)
    ]
    return [row for row in rows if row["value"] is not None]


def _curves(
    results: Results, criterion: str, settings: Sequence[Setting], statistic: str
) -> list[Row]:
    """The curves of every role and setting."""
    return [
        row
        for setting in settings
        for role in ROLES
        for row in curve(results, criterion, role, setting, statistic=statistic)
    ]


def _memorization_rows(results: Results, criterion: str, settings: Sequence[Setting]) -> list[Row]:
    if criterion in MIDPOINTS:
        return _curves(results, f"{criterion}_positive", settings, "share")
    return _curves(results, criterion, settings, "mean")


def _position_rows(results: Results, criterion: str, settings: Sequence[Setting]) -> list[Row]:
    """Positions between the poles: the model's as the onset is fitted, the null's beside it."""
    rows: list[Row] = []
    for setting in settings:
        place = {**setting, "criterion": criterion}
        for p in results.onset(criterion, setting).points:
            numbers = {"value": p.position, "low": p.low, "high": p.high, "runs": p.replicates}
            rows.append({**place, "role": "model", "n": p.n, **numbers})
        poles = [results.matrix(criterion, r, setting) for r in ("null", "memorizer", "oracle")]
        for n, runs in zip(results.sweep.n, np.stack(poles, axis=-1).swapaxes(0, 1), strict=True):
            complete = runs[np.isfinite(runs).all(1)]
            if len(complete) > 2 and np.ptp(complete.mean(0)[1:]) > 0:
                null = bootstrap(complete, _position_of_first, n_resamples=1000)
                numbers = {"value": null.value, "low": null.low, "high": null.high}
                rows.append({**place, "role": "null", "n": n, **numbers, "runs": len(complete)})
    return [row for row in rows if row["value"] is not None]


def _position_of_first(runs: np.ndarray, axis: int = 0) -> np.ndarray:
    """(y - memorizer) / (oracle - memorizer) of means; the last axis holds these three."""
    y, memorizer, oracle = np.moveaxis(runs.mean(axis), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num((y - memorizer) / (oracle - memorizer))


def error_unit(results: Results, setting: Setting, role: str) -> float:
    """Equation (2), times the constant that the published arithmetic leaves in its errors.

    Raises:
        DataError: if the data of the run cannot be read any more.
    """
    measurement = results.sweep.measurement(setting)
    world = build(measurement.source)
    log_unit = -world.dim / 2 * math.log(4 * math.pi * world.std**2)
    if measurement.model.kind == "linear_one_step_published" and role != "memorizer":
        log_unit += (world.dim - 1) / 2 * math.log(2 * math.pi)
    with np.errstate(over="ignore", under="ignore"):
        return float(np.exp(log_unit))


def _error_rows(results: Results, criterion: str, settings: Sequence[Setting]) -> list[Row]:
    rows: list[Row] = []
    for setting in settings:
        for role in ROLES:
            unit = error_unit(results, setting, role)
            rows += curve(results, criterion, role, setting, statistic="median", unit=unit)
    return rows


# -- panels ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Panel:
    """What one pair of axes shows.

    Attributes:
        title, notes: above it, the notes in plain type.
        rows: its points; a curve is the rows of one role and setting.
        settings: told apart by colour where there are several; roles are, where there is one.
        x: the column along the axis, an option where it is neither n nor n/d; `sizes` its ticks;
            n/d finds its own.
        lines: horizontal lines, each a value, a look and the place of its setting or None.
        onsets: one a setting, or none.
        bounded: whether values are shares, to be seen between 0 and 1.
        threshold: values below it are drawn on a linear scale, above it on a log scale; infinite
            for a linear axis, None to choose by the values.
    """

    title: str
    notes: Sequence[str] = ()
    rows: Sequence[Row]
    settings: Sequence[Setting]
    x: str = "n"
    sizes: Sequence[int] = ()
    lines: Sequence[tuple[float, Look, int | None]] = ()
    onsets: Sequence[Onset] = ()
    bounded: bool = False
    threshold: float | None = None
    y_label: str = ""


def _draw_panel(axes: Axes, panel: Panel) -> None:
    _set_x_axis(axes, panel)
    _set_y_axis(axes, panel)
    _draw_curves(axes, panel)
    for value, look, place in panel.lines:
        own: Look = {} if place is None else {"color": COLOURS[place]}
        axes.axhline(value, **look | own, zorder=1)
    for place, onset in enumerate(panel.onsets):
        colour = COLOURS[place] if len(panel.settings) > 1 else INK
        _mark_onset(axes, onset, colour, 0.4 + 0.06 * place)
    notes = _notes(panel)
    axes.set_title(panel.title, pad=4 + 9.5 * len(notes))
    above: Look = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
    text = axes.annotate("\n".join(notes), (0, 1), (0, 3), **above, fontsize=7, color=INK)
    text.set_in_layout(False)  # the title has made room for it


def _notes(panel: Panel) -> list[str]:
    """The lines above a panel."""
    words = _for_settings(panel.settings, [onset_words(o) for o in panel.onsets])
    return [*words, *panel.notes]


def _draw_curves(axes: Axes, panel: Panel) -> None:
    """Every curve with its error bars; neighbours step aside a little."""
    points = [r for r in panel.rows if math.isfinite(r["value"])]
    if not points:
        return
    several = len(panel.settings) > 1
    keys = [(i, role) for i in range(len(panel.settings)) for role in ROLES]
    drawn = {
        (i, r): [p for p in points if p["role"] == r and is_at(p, panel.settings[i])]
        for i, r in keys
    }
    present = [key for key in keys if drawn[key]]
    step = _step_aside(sorted({p[panel.x] for p in points}), len(present))
    ends = [e for p in points for e in (p["value"], p["high"]) if e is not None]
    top = max(e for e in ends if math.isfinite(e))
    for k, (place, role) in enumerate(present):
        mine = drawn[place, role]
        aside = math.exp(step * (k - (len(present) - 1) / 2))
        look: Look = {"elinewidth": 0.8} | LOOKS[role]
        if several:
            look |= {"color": COLOURS[place]} | ({} if role == "model" else FAINT)
        value = np.array([p["value"] for p in mine])
        low, high = (
            np.array([p["value"] if p[end] is None else p[end] for p in mine])
            for end in ("low", "high")
        )
        below, above = value - low, np.minimum(high, top) - value
        x = [p[panel.x] * aside for p in mine]
        axes.errorbar(x, value, yerr=np.maximum([below, above], 0.0), **look)


def _step_aside(x: Sequence[float], n_curves: int) -> float:
    """By how much, on a log axis, the next of several curves is moved so that bars are seen.

    All of them stay within half the gap to the next size, and within the margins of the axis.
    """
    span = math.log(x[-1] / x[0]) or 1.0
    gap = min((math.log(b / a) for a, b in itertools.pairwise(x)), default=span)
    return min(0.005 * span, 0.5 * gap / n_curves, 0.08 * span / n_curves)


def is_at(row: Mapping[str, Any], setting: Setting) -> bool:
    """Whether a row belongs to a combination of variant and axis values."""
    return all(row[name] == value for name, value in setting.items())


def _set_x_axis(axes: Axes, panel: Panel) -> None:
    reach = panel.sizes or [row[panel.x] for row in panel.rows] or [1]
    margin = 0.05 * math.log(max(reach) / min(reach)) or 0.5
    axes.set_xlim(min(reach) * math.exp(-margin), max(reach) * math.exp(margin))
    axes.set_xscale("log")
    known = {"n": "training points n", "n_over_d": "n / d"}
    axes.set_xlabel(known.get(panel.x) or _option_words(panel.x))
    ticks = FixedLocator(_apart(panel.sizes)) if panel.sizes else LogLocator(subs=(1, 2, 5))
    axes.xaxis.set_major_locator(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(_power)


def _option_words(path: str) -> str:
    """An option of a spec in words: model.sampler.n_steps is steps."""
    return path.split(".")[-1].removeprefix("n_").replace("_", " ")


def _apart(sizes: Sequence[int]) -> list[int]:
    """Those sizes whose tick labels do not collide on a log axis."""
    gap, kept = math.log(sizes[-1] / sizes[0]) / 7, [sizes[0]]
    for n in sizes[1:]:
        if math.log(n / kept[-1]) >= gap:
            kept.append(n)
    return kept


def _set_y_axis(axes: Axes, panel: Panel) -> None:
    """Linear, or logarithmic where values range widely; linear around 0 where they reach it."""
    axes.set_ylabel(panel.y_label)
    if panel.bounded:
        axes.set_ylim(-0.04, 1.04)
        return
    values = np.array([r["value"] for r in panel.rows if math.isfinite(r["value"])])
    threshold = panel.threshold or _threshold(values)
    if threshold is None or math.isinf(threshold):
        return
    if len(values) and values.min() >= threshold:
        axes.set_yscale("log")
        decades = math.log10(values.max() / values.min())
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if decades > 3 else (1, 3)))
    else:
        axes.set_yscale("symlog", linthresh=threshold)
        axes.yaxis.set_major_locator(FixedLocator(_decades(values, threshold)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(_power)


def _threshold(values: np.ndarray) -> float | None:
    """Where a log scale should begin: none unless values range over a factor of 30."""
    size = np.abs(values)
    size = size[size > 1e-9 * size.max(initial=0.0)]  # the rest is zero up to rounding
    if not len(size) or size.max() <= 1 or size.max() < 30 * size.min():
        return None
    if values.min() >= -size.min():
        return float(size.min())
    return float(np.median(size)) if size.max() > 100 * np.median(size) else None


def _decades(values: np.ndarray, threshold: float) -> list[float]:
    """Ticks of a symlog axis: 0, and on either side at most four powers of ten."""
    first = math.ceil(math.log10(threshold) - 1e-9)
    ticks = [0.0]
    for sign in (-1, 1):
        last = math.ceil(math.log10(max(threshold, (sign * values).max(initial=0.0))))
        step = max(1, math.ceil((last - first) / 4))
        if (sign * values).max(initial=0.0) > threshold:
            ticks += [sign * 10.0**k for k in range(first + (step > 1) * step, last + 1, step)]
    return ticks


def _power(value: float, _: float = 0.0) -> str:
    """A tick label: plain digits, or a power of ten in superscript."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:g}".replace("-", "−")
    mantissa, exponent = f"{value:.0e}".split("e")
    digits = str(int(exponent)).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
    lead = mantissa.replace("-", "−")
    return f"{lead.removesuffix('1')}10{digits}" if lead in ("1", "−1") else f"{lead}·10{digits}"


def onset_words(onset: Onset) -> str:
    """An onset in few enough words for a panel."""
    if onset.blind:
        return "blind: the poles do not differ"
    sizes = [p.n for p in onset.points if p.position is not None]
    if onset.censored == "above" and onset.low is not None and onset.low < sizes[-1]:
        return f"n* > {sizes[-1]:g}, surely > {onset.low:.3g}"
    if onset.censored == "below" and onset.high is not None and onset.high > sizes[0]:
        return f"n* < {sizes[0]:g}, surely < {onset.high:.3g}"
    return onset.sentence().partition(" (")[0].partition(": ")[0]


def _mark_onset(axes: Axes, onset: Onset, colour: str, height: float) -> None:
    """Shade the interval of an onset, or point to where a censored one lies."""
    if onset.blind:
        return
    if onset.onset is not None:
        ends = onset.points[0].n, onset.points[-1].n
        axes.axvspan(onset.low or ends[0], onset.high or ends[1], color=colour, alpha=0.12, lw=0)
        axes.axvline(onset.onset, color=colour, linewidth=1.1, zorder=1)
    elif onset.censored != "no":
        end, start = (0.995, 0.9) if onset.censored == "above" else (0.005, 0.1)
        arrow = {"arrowstyle": "->", "color": colour, "linewidth": 1.4}
        axes.annotate("", (end, height), (start, height), "axes fraction", arrowprops=arrow)


def _for_settings(settings: Sequence[Setting], words: Sequence[str]) -> list[str]:
    """Words on each setting, once where they are the same for all."""
    if len(set(words)) <= 1:
        return list(words[:1])
    pairs = zip(settings, words, strict=True)
    return [f"{label(setting)}: {text}" for setting, text in pairs if text]


# -- pages of panels ---------------------------------------------------------------------------


def _compose(
    panels: Sequence[Any],
    draw: Callable[[Axes, Any], None],
    handles: Sequence[Line2D | Patch],
    *,
    columns: int,
    width: float,
    height: float,
) -> Figure:
    """Panels in a grid under one legend, laid out once for all file formats."""
    with matplotlib.rc_context(STYLE):
        rows, across = math.ceil(len(panels) / columns), _legend_columns(handles, width)
        legend = 0.17 * math.ceil(len(handles) / across)
        layout = ConstrainedLayoutEngine()
        figure = Figure(figsize=(width, rows * height + legend), layout=layout)
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            draw(axes, panel)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        if handles:
            figure.legend(handles=handles, loc="outside upper left", ncols=across)
        layout.execute(figure)
        figure.set_layout_engine("none")
        return figure


def _legend_columns(handles: Sequence[Line2D | Patch], width: float) -> int:
    """The most columns in which a legend fits a figure."""
    lengths = [0.55 + 0.062 * len(str(h.get_label())) for h in handles]
    for columns in range(len(handles), 1, -1):
        if sum(max(part) for part in np.array_split(lengths, columns)) < width - 0.2:
            return columns
    return 1


def _legend(panels: Sequence[Panel]) -> list[Line2D | Patch]:
    """One entry for every colour, role, line and band that the panels use."""
    settings = panels[0].settings if panels else ()
    several = len(settings) > 1
    entries: list[Line2D | Patch] = [
        Line2D([], [], color=COLOURS[i], linewidth=2.6, label=label(setting))
        for i, setting in enumerate(settings)
        if several
    ]
    roles = {row["role"] for panel in panels for row in panel.rows}
    for role in ROLES:
        if role in roles:
            look: Look = LOOKS[role] | ({"color": GREY} if several else {})
            entries.append(Line2D([], [], label=ROLE_LABELS[role], **look))
    lines = {look["label"]: look for panel in panels for _, look, _ in panel.lines}
    entries += [Line2D([], [], **look) for look in lines.values()]
    if any(onset.onset for panel in panels for onset in panel.onsets):
        entries.append(Patch(color=INK, alpha=0.2, lw=0, label="onset, 95 %"))
    return entries


def _page(
    name: str,
    title: str,
    how_to_read: str,
    panels: Sequence[Panel],
    *,
    columns: int | None = None,
    height: float = 2.5,
) -> Drawn:
    """A figure of panels."""
    across = columns or (2 if len(panels) in (2, 4) else min(len(panels), 3))
    handles = _legend(panels)
    height += 9.5 / 72 * max([0, *(len(_notes(panel)) - 3 for panel in panels)])
    return Drawn(
        name=name,
        title=title,
        how_to_read=how_to_read,
        rows=[row for panel in panels for row in panel.rows],
        figure=_compose(panels, _draw_panel, handles, columns=across, width=WIDE, height=height),
        narrow=_compose(panels, _draw_panel, handles, columns=1, width=NARROW, height=2.5),
    )


# -- figures -----------------------------------------------------------------------------------


def position(results: Results, settings: Sequence[Setting]) -> Drawn:
    """The headline criterion against n, between its poles, with the onset."""
    name = results.sweep.headline_criterion
    if CRITERIA[name].axis == "quality":
        panel, how_to_read = _quality_panel(results, name, settings), HOW_QUALITY
    elif name in MIDPOINTS:
        how_to_read = HOW_POSITION[name.removeprefix("coordinate_")]
        panel = _memorization_panel(results, name, settings)
        panel = replace(panel, y_label="share of runs with Δ > 0")
    else:
        panel, how_to_read = (
            Panel(
                title=CRITERIA[name].title,
                rows=_position_rows(results, name, settings),
                settings=settings,
                sizes=results.sweep.n,
                lines=[(0.0, ZERO, None), (1.0, ONE, None), (0.5, MIDDLE, None)],
                onsets=[results.onset(name, setting) for setting in settings],
                threshold=math.inf,
                y_label="position between the poles",
            ),
            HOW_POSITION[""],
        )
    title = f"Where memorization ends: {CRITERIA[name].title}"
    return _page("position", title, f"{how_to_read} {HOW_BARS}", [panel], height=3.4)


HOW_BARS = (
    "Bars are 95 % intervals over runs; points stand aside a little so that bars do not hide one "
    "another. The shaded band is the interval of the onset n*."
)
HOW_POSITION = {
    "delta_held_out": "Each run asks whether the generated law is nearer to the training set or "
    "to an equally large set the model never saw. A memorizer is always nearer to training: share "
    "0. A generator that does not depend on its training set is nearer to either equally often: "
    "share 1/2, exactly. The onset is where the curve passes halfway, at 1/4. The null puts n "
    "fresh points in place of the training set; it must lie at 1/2, and where it does not, "
    "something other than memorization moves the curve.",
    "delta": "Share of runs in which the generated law is nearer to the large original set than "
    "to the training set, as published. The onset is read at 1/2, but this share has no fixed "
    "level for a perfect generator (see the oracle and the null): it moves with the size of the "
    "original set. The size-matched share has one.",
    "": "Position 0 is the memorizer, which returns training points; position 1 is the oracle, "
    "which draws from the true law. The onset is where the model is halfway. The null judges the "
    "model against n fresh points instead of its training set, and should be near 1.",
}


def memorization(results: Results, settings: Sequence[Setting]) -> Drawn:
    """Every memorization criterion against n, one panel each."""
    names = [c for c in results.sweep.measured if CRITERIA[c].axis == "memorization"]
    return _page(
        "memorization",
        "Does the model depend on the points it was trained on?",
        "Each panel asks the same question in another way. Read the model's curve between the "
        "memorizer and the oracle: on the memorizer it returns its training points, on the oracle "
        "it has no trace of them. The null, the model judged against points it never saw, shows "
        "the level of chance. A panel in which memorizer and oracle lie together is blind and "
        "says so. Shares have Wilson intervals, means bootstrap intervals, all at 95 %.",
        [_memorization_panel(results, name, settings) for name in names],
    )


def _memorization_panel(results: Results, name: str, settings: Sequence[Setting]) -> Panel:
    lines = [(MIDPOINTS[name], MIDDLE, None)] if name in MIDPOINTS else []
    if CEILINGS.get(name) == 0.5:
        lines.append((0.5, EXPECTED, None))
    return Panel(
        title=CRITERIA[name].title,
        rows=_memorization_rows(results, name, settings),
        settings=settings,
        sizes=results.sweep.n,
        lines=lines,
        onsets=[results.onset(name, setting) for setting in settings],
        bounded=name in MIDPOINTS,
    )


HOW_QUALITY = (
    "Medians over runs with 95 % intervals from order statistics. The oracle is what a perfect "
    "generator scores here with as many samples; the memorizer shows that good quality alone "
    "does not mean generalization. The solid line, where there is one, is the closed-form value "
    "of this model after infinitely many training points. A model can stop memorizing and still "
    "be poor: then its curve stays far from the oracle's. The n marked is where the model comes "
    "within a factor 2 of its floor, or of the oracle where no floor is known."
)


def quality(results: Results, settings: Sequence[Setting]) -> Drawn:
    """Every quality criterion against n, one panel each."""
    names = [c for c in results.sweep.measured if CRITERIA[c].axis == "quality"]
    return _page(
        "quality",
        "How far is the model from the true law?",
        f"{HOW_QUALITY} Infinite runs are not drawn, but counted above their panel.",
        [_quality_panel(results, name, settings) for name in names],
    )


def _quality_panel(results: Results, name: str, settings: Sequence[Setting]) -> Panel:
    rows = _curves(results, name, settings, "median")
    return Panel(
        title=CRITERIA[name].title,
        notes=_for_settings(settings, [_infinite_words(rows, s) for s in settings]),
        rows=rows,
        settings=settings,
        sizes=results.sweep.n,
        lines=_floor_lines([results.floor(name, s) for s in settings], rows),
        onsets=[results.onset(name, s) for s in settings],
    )


def _floor_lines(
    floors: Sequence[float | None], rows: Sequence[Row]
) -> list[tuple[float, Look, int | None]]:
    """Each floor, in ink where all share it, and a factor 2 from it where the model reaches."""
    alone = len(set(floors)) == 1
    medians = [row["value"] for row in rows if row["role"] == "model"] or [math.nan]
    lines: list[tuple[float, Look, int | None]] = []
    for place, floor in enumerate(floors[:1] if alone else floors):
        if floor is not None and math.isfinite(floor):
            whose = None if alone else place
            lines.append((floor, FLOOR, whose))
            around = (floor / 2, 2 * floor)
            lines += [(x, TWICE, whose) for x in around if min(medians) <= x <= max(medians)]
    return lines


def _infinite_words(rows: Sequence[Row], setting: Setting) -> str:
    """How many of the model's runs are infinite, and up to which n; empty where none is."""
    mine = [r for r in rows if r["role"] == "model" and r["infinite"] and is_at(r, setting)]
    if not mine:
        return ""
    return f"{sum(r['infinite'] for r in mine)} infinite runs, n ≤ {mine[-1]['n']}"


def training(results: Results, settings: Sequence[Setting]) -> Drawn:
    """What training took: parameters, steps, the loss, and the times tau_gen and tau_mem."""
    names = [c for c in results.sweep.measured if CRITERIA[c].axis == "training"]
    panels = []
    for name in names:
        rows = [row for s in settings for row in curve(results, name, "model", s,
                                                       statistic="median")]  # fmt: skip
        unreached = [_infinite_words(rows, s).replace("infinite", "unreached") for s in settings]
        panels.append(
            Panel(
                title=CRITERIA[name].title,
                notes=_for_settings(settings, unreached),
                rows=rows,
                settings=settings,
                sizes=results.sweep.n,
                threshold=1.0 if name == "tau_mem" else None,
            )
        )
    return _page(
        "training",
        "What did training take?",
        "Medians over runs with intervals from order statistics. The budget is the number of "
        "gradient steps, the same at every n unless the spec gives epochs. τ_gen is the step at "
        "which quality came within twice that of fresh points, τ_mem the step at which 5 % of "
        "the samples were memorized beyond chance; runs that did not reach one are counted above "
        "its panel and not drawn.",
        panels,
    )


def errors(results: Results, settings: Sequence[Setting]) -> Drawn:
    """The kernel errors E_TG and E_OG against n, in units of equation (2).

    Raises:
        DataError: if the data of the run cannot be read any more.
    """
    names = [c for c in ERRORS if c in results.sweep.measured]
    panels = [
        Panel(
            title=", ".join(filter(None, (CRITERIA[name].title, label(setting)))),
            rows=_error_rows(results, name, [setting]),
            settings=[setting],
            sizes=results.sweep.n,
            threshold=1.0,
            y_label="error / self overlap",
        )
        for setting in settings
        for name in names
    ]
    return _page(
        "errors", "The kernel errors behind Δ", HOW_ERRORS, panels, columns=len(names), height=2.2
    )


ERRORS = ("kernel_l2_training", "kernel_l2_original")
HOW_ERRORS = (
    "E_TG is the distance of the generated law to the smoothed training set, E_OG to the smoothed "
    "original set; medians over runs with 95 % intervals. Raw errors span tens of orders of "
    "magnitude with the dimension, so they are divided by the overlap of a smoothed set with "
    "itself, (4π s²)^(−d/2) (times the constant that the published arithmetic leaves in its "
    "errors), and drawn on an axis that is linear between −1 and 1. At 1 the "
    "generated law does not touch the set at all, below 1 it does, and a law sitting on the "
    "points goes far below zero, because the overlap of the generated law with itself is left out "
    "as published (it cancels in Δ). Where both errors look equal to 1 the numbers drawn "
    "cannot tell them apart; the sign of Δ still can, since it is formed from logarithms."
)


def regimes(results: Results, settings: Sequence[Setting]) -> Drawn:
    """Shares of the cell regimes against n, stacked."""
    rows: list[Row] = []
    for setting in settings:
        for n, counts in results.regimes(setting).items():
            runs = sum(counts.values())
            for name in REGIMES if runs else ():
                share = wilson(counts.get(name, 0), runs)
                numbers = {"value": share.value, "low": share.low, "high": share.high}
                rows.append({**setting, "n": n, "regime": name, **numbers, "runs": runs})
    stacks = [(label(s), [row for row in rows if is_at(row, s)]) for s in settings]
    present = [name for name in REGIMES if any(r["regime"] == name and r["value"] for r in rows)]
    handles = [Patch(**REGIMES[n], edgecolor="white", label=n) for n in present]
    columns = min(len(settings), 3)
    return Drawn(
        name="regimes",
        title="What the runs do at each n",
        how_to_read="Each run is put in the first regime that fits. Copying: samples at "
        "near-duplicate distance of training points, more than of held-out ones. Train-biased: "
        "nearer to training than to held-out points, without copies. Poor: sliced W2 to fresh "
        "data above twice the oracle's. Generalizing: none of these. Undecided: copies in a tenth "
        "of the samples would not have been noticed at this n. Intervals are in the CSV.",
        rows=rows,
        figure=_compose(stacks, _draw_stacks, handles, columns=columns, width=WIDE, height=2.7),
        narrow=_compose(stacks, _draw_stacks, handles, columns=1, width=NARROW, height=2.5),
    )


def _draw_stacks(axes: Axes, panel: tuple[str, Sequence[Row]]) -> None:
    """Stacked bars, one for each n."""
    title, rows = panel
    sizes = list(dict.fromkeys(row["n"] for row in rows))
    below = np.zeros(len(sizes))
    for name, look in REGIMES.items():
        heights = np.array([row["value"] for row in rows if row["regime"] == name])
        if heights.any():
            axes.bar(range(len(sizes)), heights, 0.9, below, **look, edgecolor="white", lw=0.5)
            below += heights
    axes.set_xticks(range(len(sizes)), [str(n) for n in sizes])
    axes.tick_params(axis="x", length=0, rotation=45 if len(sizes) > 11 else 0)
    axes.set(title=title, xlabel="training points n", ylabel="share of runs", ylim=(0, 1))
    axes.grid(visible=False)


def phases(results: Results, axis: str) -> Drawn:
    """The most frequent cell regime over the plane of n and one option: a phase diagram."""
    rows: list[Row] = []
    for setting in results.settings:
        size = _parameters(results, setting) if axis == "model.width" else {}
        for n, counts in results.regimes(setting).items():
            if counts:
                runs = sum(counts.values())
                name = max((r for r in REGIMES if r in counts), key=lambda r: counts[r])
                share = wilson(counts[name], runs)
                numbers = {"value": share.value, "low": share.low, "high": share.high}
                rows.append({**setting, **size, "n": n, "regime": name, **numbers, "runs": runs})
    panels = [
        (label(s), axis, [row for row in rows if is_at(row, s)])
        for s in _without(results.settings, axis)
    ]
    present = [name for name in REGIMES if any(row["regime"] == name for row in rows)]
    handles = [Patch(**REGIMES[n], edgecolor="white", label=n) for n in present]
    height = 1.1 + 0.36 * len(results.sweep.axes[axis])
    return Drawn(
        name="phases",
        title=f"Phase diagram over n and {_option_words(axis)}",
        how_to_read="Each tile is the regime that most runs of its n and option are in, with the "
        "share of runs that are. Where the share is near a half, the runs disagree: a border runs "
        "there. Intervals of the shares are in the CSV.",
        rows=rows,
        figure=_compose(
            panels, _draw_phases, handles, columns=min(len(panels), 2), width=WIDE, height=height
        ),
        narrow=_compose(panels, _draw_phases, handles, columns=1, width=NARROW, height=height),
    )


def _parameters(results: Results, setting: Setting) -> Row:
    """The number of parameters at a setting, as a column of a row, where it was measured."""
    counted = results.matrix("n_parameters", setting=setting)
    known = counted[~np.isnan(counted)]
    return {"n_parameters": int(known[0])} if len(known) else {}


def _draw_phases(axes: Axes, panel: tuple[str, str, Sequence[Row]]) -> None:
    """Tiles, a column for each n and a row for each value of the option."""
    title, axis, rows = panel
    sizes = sorted({row["n"] for row in rows})
    values = sorted({row[axis] for row in rows})
    for row in rows:
        x, y = sizes.index(row["n"]), values.index(row[axis])
        axes.bar(x, 1, 1, y - 0.5, **REGIMES[row["regime"]], edgecolor="white", lw=0.5)
        share = f"{100 * row['value']:.0f} %"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.8}
        axes.text(x, y, share, ha="center", va="center", fontsize=7, bbox=box)
    axes.set_xticks(range(len(sizes)), [str(n) for n in sizes])
    if all("n_parameters" in row for row in rows):  # what a width amounts to
        of_value = {row[axis]: row["n_parameters"] for row in rows}
        words, ticks = "parameters", [f"{of_value[value]:,}" for value in values]
    else:
        words, ticks = _option_words(axis), [_power(value) for value in values]
    axes.set_yticks(range(len(values)), ticks)
    axes.tick_params(length=0)
    axes.set(title=title, xlabel="training points n", ylabel=words)
    axes.set(xlim=(-0.5, len(sizes) - 0.5), ylim=(-0.5, len(values) - 0.5))
    axes.grid(visible=False)


HOW_GALLERY = (
    "Upper images are generated, lower ones the training images nearest to them, at distance d. "
    "The gap ratio r is that distance over the one to the second-nearest training point: below "
    "1/3 a sample counts as memorized. Of the samples nearest to each training image the one of "
    "smallest r is shown, smallest first: the worst ones, no fair draw. Rows of the training "
    "images in the data set are in the CSV."
)

HOW_POLES = (
    "The memorizer returns training images. The oracle's draws are images that no model has seen: "
    "what is alike here is alike by chance, and the more so the larger n. "
)


def galleries(results: Results) -> Iterator[Drawn]:
    """Generated images beside their nearest training images: each setting, then the poles."""
    for setting in results.settings:
        hung = [(r.n, g) for r, g in results.galleries if dict(r.setting) == setting]
        if hung:
            strips = [Strip(setting=setting, n=n, role="model", gallery=g) for n, g in hung]
            place = results.settings.index(setting) + 1
            name = f"gallery-{place}" if len(results.settings) > 1 else "gallery"
            words = f" ({label(setting)})" if setting else ""
            title = f"The samples most like training images{words}"
            yield _gallery(name, title, HOW_GALLERY, strips)
    if results.galleries:
        first = results.galleries[0][0].setting
        hung = [(r.n, g) for r, g in results.galleries if r.setting == first]
        strips = [
            Strip(setting={}, n=n, role=role, gallery=gallery)
            for role in ("memorizer", "oracle")
            for n, gallery in dict([hung[0], hung[-1]]).items()
        ]
        how = HOW_POLES + HOW_GALLERY
        yield _gallery("gallery-poles", "The same for the two poles", how, strips)


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One line of a gallery: a role's pairs at one n."""

    setting: Setting
    n: int
    role: str
    gallery: Gallery

    @property
    def title(self) -> str:
        """What is shown, in words."""
        of = self.gallery.n_samples[self.role]
        who = self.role if self.role != "model" else label(self.setting) or "model"
        return f"{who}, n = {self.n}: the worst of {of} samples"

    @property
    def rows(self) -> list[Row]:
        """The pairs' numbers."""
        place = {**self.setting, "n": self.n, "role": self.role}
        return [
            {
                **place,
                "rank": rank,
                "row": pair.row,
                "distance": pair.distance,
                "gap_ratio": pair.gap_ratio,
            }
            for rank, pair in enumerate(self.gallery.strips[self.role], 1)
        ]


def _gallery(name: str, title: str, how: str, strips: Sequence[Strip]) -> Drawn:
    """Strips in two columns, or in one."""
    height, width = strips[0].gallery.shape[1:]
    across = min(len(strips), 2)
    tall = 0.5 + 2 * height / width * (NARROW / SHOWN - 0.05)
    return Drawn(
        name=name,
        title=title,
        how_to_read=how,
        rows=[row for strip in strips for row in strip.rows],
        figure=_compose(strips, _draw_strip, [], columns=across, width=WIDE, height=tall),
        narrow=_compose(strips, _draw_strip, [], columns=1, width=NARROW, height=tall),
    )


def _draw_strip(axes: Axes, strip: Strip) -> None:
    """Samples above, their training images below, as one image with gaps between the pairs."""
    pairs = strip.gallery.strips[strip.role]
    picture = strip.gallery.picture
    images = [np.concatenate([picture(p.sample), picture(p.training)]) for p in pairs]
    height, width = images[0].shape[:2]
    gap = max(1, width // 8)
    sheet = np.full((height, SHOWN * (width + gap) - gap, *images[0].shape[2:]), 255, np.uint8)
    for k, (image, pair) in enumerate(zip(images, pairs, strict=True)):
        left = k * (width + gap)
        sheet[:, left : left + width] = image
        words = f"d {pair.distance:.2g}\nr {pair.gap_ratio:.2f}"
        axes.text(left + width / 2, height * 1.03, words, ha="center", va="top", fontsize=6)
    colour = sheet if sheet.ndim == 3 else np.stack([sheet] * 3, -1)  # no map that rounds
    axes.imshow(colour, interpolation="none")
    axes.axhline(height / 2 - 0.5, color="white", lw=1.5)
    axes.set_title(strip.title)
    axes.set_axis_off()


PAPER = (*ERRORS, *MIDPOINTS, "hellinger_squared", "affinity_rate")


def compare(several: Sequence[Results]) -> Drawn:
    """The figure of the paper: runs of different dimension against n/d, variants side by side."""
    variants = list(dict.fromkeys(label(s) for results in several for s in results.settings))
    names = [c for c in PAPER if any(c in results.sweep.measured for results in several)]
    found: dict[tuple[str, str], list[Row]] = {(c, v): [] for c in names for v in variants}
    floors: dict[tuple[str, str], dict[int, float | None]] = {key: {} for key in found}
    for results in several:
        for setting in results.settings:
            dim = build(results.sweep.measurement(setting).source).dim
            for name in names:
                if name in results.sweep.measured:
                    key = name, label(setting)
                    found[key] += [
                        row | {"d": dim, "n_over_d": row["n"] / dim}
                        for row in _paper_rows(results, name, setting)
                    ]
                    floors[key][dim] = results.floor(name, setting)
    dims = [{"d": d} for d in sorted({row["d"] for rows in found.values() for row in rows})]
    panels = [
        Panel(
            title=", ".join(filter(None, (CRITERIA[name].title, variant))),
            rows=rows,
            settings=dims,
            x="n_over_d",
            lines=[(MIDPOINTS[name], MIDDLE, None)]
            if name in MIDPOINTS
            else _floor_lines([floors[name, variant].get(d["d"]) for d in dims], []),
            bounded=name not in ERRORS,
            threshold=1.0,
            y_label="error / self overlap" if name in ERRORS else "",
        )
        for (name, variant), rows in found.items()
    ]
    return _page(
        "paper",
        "The figures of the paper, against n/d",
        "Variants side by side, on the same data. Errors E_TG and E_OG are medians in units of "
        "the self overlap (see the figure of errors); P(Δ > 0) has Wilson intervals; H² and "
        "(1 − H²)^(1/d) are medians, with the value that the model reaches after infinitely many "
        "points as a solid line. Dashed: the midpoint at which an onset is read. Memorizer, "
        "oracle and null stand beside every curve: it means only what it means against them.",
        panels,
        columns=min(len(variants), 3),
        height=1.95,
    )


def prediction(evaluation: Evaluation) -> Drawn:
    """A prediction of the theory along the one argument that was given as several numbers.

    Raises:
        ConfigError: unless exactly one was.
    """
    axis = evaluation.axis
    if axis is None:
        raise ConfigError(
            f"A curve of {evaluation.name} needs exactly one argument with several numbers, such "
            f"as gamma=1.1:10:50 or n=10,20,40; got {_arguments(evaluation) or 'none'}."
        )
    x = np.asarray(evaluation.arguments[axis], dtype=np.float64)
    columns = {name: np.broadcast_to(y, x.shape) for name, y in evaluation.columns.items()}
    rows: list[Row] = [
        {axis: float(one)} | {name: float(y[i]) for name, y in columns.items()}
        for i, one in enumerate(x)
    ]
    fixed = _arguments(evaluation, without=axis)
    panels = [(axis, name, evaluation.name, fixed, rows) for name in columns]
    function = FORMULAS[evaluation.name]
    return Drawn(
        name=evaluation.name,
        title=f"{evaluation.name} ({fixed})" if fixed else evaluation.name,
        how_to_read=f"{section(function, 'Regime')} {section(function, 'Reference')}",
        rows=rows,
        figure=_compose(
            panels,
            _draw_prediction,
            (),
            columns=min(len(panels), 3),
            width=WIDE if len(panels) > 1 else 4.6,
            height=2.9,
        ),
        narrow=_compose(panels, _draw_prediction, (), columns=1, width=NARROW, height=2.5),
    )


def _arguments(evaluation: Evaluation, without: str = "") -> str:
    """Its arguments in words, a long list by its length."""
    words = []
    for name, value in evaluation.arguments.items():
        if isinstance(value, list) and len(value) > 4:
            value = f"[{len(value)} numbers]"
        elif isinstance(value, float):
            value = f"{value:g}"
        if name != without:
            words.append(f"{name}={value}")
    return ", ".join(words)


def _draw_prediction(axes: Axes, panel: tuple[str, str, str, str, Sequence[Row]]) -> None:
    axis, name, title, fixed, rows = panel
    points = [row for row in rows if math.isfinite(row[name]) and math.isfinite(row[axis])]
    axes.set_xlabel(axis.replace("_", " "))
    axes.set_ylabel(name.replace("_", " ") if name != title else "")
    axes.set_title(title.replace("_", " "), pad=14)
    axes.annotate(
        fixed, (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points",
        va="bottom", fontsize=7, color=INK,
    )  # fmt: skip
    if not points:
        axes.text(0.5, 0.5, "infinite at every point", transform=axes.transAxes, ha="center")
        return
    x, y = ([row[key] for row in points] for key in (axis, name))
    axes.plot(x, y, color=BLUE)
    for values, scale, along in (
        (x, axes.set_xscale, axes.xaxis),
        (y, axes.set_yscale, axes.yaxis),
    ):
        shares = values is y and max(values) <= 1 and max(values) > 0.5
        if min(values) > 0 and max(values) >= 10 * min(values) and not shares:
            scale("log")
            few = max(values) < 1000 * min(values)
            along.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
            along.set_minor_locator(NullLocator())
            along.set_major_formatter(_power)


def _paper_rows(results: Results, name: str, setting: Setting) -> list[Row]:
    if name in ERRORS:
        return _error_rows(results, name, [setting])
    if name in MIDPOINTS:
        return _memorization_rows(results, name, [setting])
    return _curves(results, name, [setting], "median")


def lone_axis(sweep: Sweep) -> str | None:
    """The option along which a sweep of a single n varies, where it is one positive number."""
    return _numeric_axis(sweep) if len(sweep.n) == 1 else None


def _numeric_axis(sweep: Sweep) -> str | None:
    """The one option that a sweep varies over positive numbers."""
    numeric = [
        path
        for path, values in sweep.axes.items()
        if len(values) > 1 and all(isinstance(v, int | float) and v > 0 for v in values)
    ]
    return numeric[0] if len(numeric) == 1 else None


def _without(settings: Sequence[Setting], axis: str) -> list[dict[str, Any]]:
    """The settings that are left when an axis is taken out of them."""
    kept = [{k: v for k, v in setting.items() if k != axis} for setting in settings]
    return [setting for place, setting in enumerate(kept) if setting not in kept[:place]]


def along(results: Results, axis: str) -> Drawn:
    """Every criterion of a sweep of a single n against the one option that it varies."""
    settings = _without(results.settings, axis)
    names = [c for c in results.sweep.measured if CRITERIA[c].axis in ("memorization", "quality")]
    panels = []
    for name in names:
        poles = ("oracle",) if CRITERIA[name].axis == "quality" else ("memorizer", "oracle")
        rows = [
            row
            for row in _curves(results, name, results.settings, "median")
            # poles once, and not where they are exactly zero: the axis may be logarithmic
            if row["role"] == "model"
            or (row["role"] in poles and row["value"] != 0 and is_at(row, settings[0]))
        ]
        panels.append(
            Panel(
                title=CRITERIA[name].title,
                rows=rows,
                settings=settings,
                x=axis,
                sizes=results.sweep.axes[axis],
            )
        )
    return _page(
        "along",
        f"Along {_option_words(axis)}, at n = {results.sweep.n[0]}",
        "Medians over runs with their intervals, at one n. " + HOW_BARS.split(";")[0] + ".",
        panels,
        height=3.2,
    )


# -- theory over measurement -------------------------------------------------------------------


def predicted(results: Results, setting: Setting) -> Drawn | None:
    """Predicted curves over the measured points, with the largest standardized deviation.

    A prediction is *off* where a point deviates from it by more standard errors than chance gives
    with probability 1e-3 over the whole figure, plus the quarter of the scatter between runs
    that the theory leaves (its order 1/d, most near n*), or plus the share that a limit may be
    off. Heuristics are drawn dashed and are never off.

    Returns:
        the figure; None where nothing is predicted.
    """
    found = predictions(results.sweep.measurement(setting))
    if found is None:
        return None
    sizes = np.array(results.sweep.n, dtype=np.float64)
    fine = np.sort(np.concatenate([sizes, np.sqrt(sizes[1:] * sizes[:-1])]))
    judged = sum(FORMS[name].kind != "heuristic" for name in found.names)
    bar = _chance_level(max(1, judged) * len(sizes))
    items: list[tuple[Panel, np.ndarray, str]] = []
    for name in found.names:
        form = FORMS[name]
        source = f"{name}_log_ratio" if name == "delta" else name
        rows = curve(results, source, "model", setting, statistic=form.statistic)
        values = found.values(name, [row["n"] for row in rows]) if rows else []
        rows = [
            row | {"kind": form.kind} | _deviation(row, float(value))
            for row, value in zip(rows, values, strict=True)
        ]
        compared = [row for row in rows if row["z"] is not None]
        off = form.kind != "heuristic" and any(_is_off(row, form, bar) for row in compared)
        title = "median log ratio behind Δ" if name == "delta" else CRITERIA[name].title
        panel = Panel(
            title=f"{title}: off" if off else title,
            notes=[f"{form.statistic}; {KIND_WORDS[form.kind]}", _largest(compared, form.kind)],
            rows=rows,
            settings=[setting],
            sizes=results.sweep.n,
        )
        if rows:
            items.append((panel, found.values(name, fine), "off" if off else form.kind))
    if not items:
        return None
    wrong = [panel.title.removesuffix(": off") for panel, _, state in items if state == "off"]
    words = f"Off: {', '.join(wrong)}." if wrong else "None is off."
    handles = [Line2D([], [], **PREDICTION), Line2D([], [], **POINTS)]
    if any(state == "heuristic" for *_, state in items):
        handles.insert(1, Line2D([], [], **HEURISTIC))
    panels = [(panel, fine, line, state) for panel, line, state in items]
    return Drawn(
        name="theory",
        title="Prediction and measurement",
        how_to_read=f"{HOW_PREDICTED} {words}",
        rows=[row for panel, _, _ in items for row in panel.rows],
        figure=_compose(
            panels, _draw_predicted, handles, columns=min(len(panels), 3), width=WIDE, height=2.6
        ),
        narrow=_compose(panels, _draw_predicted, handles, columns=1, width=NARROW, height=2.6),
        alarm=f"Theory and measurement disagree beyond chance: {', '.join(wrong)}."
        if wrong
        else "",
    )


KIND_WORDS = {"theory": "theory", "limit": "limit of large d", "heuristic": "heuristic"}


def _is_off(row: Row, form: Form, bar: float) -> bool:
    """Whether a point lies farther from its prediction than chance and theory allow."""
    left_out = SCATTER * math.sqrt(row["runs"])
    beyond = abs(row["z"]) > bar + left_out
    return beyond and (form.kind == "theory" or abs(row["relative"]) > form.share)


HOW_PREDICTED = (
    "Lines are predicted, without any fitted number, in their regime alone; points are runs with "
    "95 % intervals. A prediction is off where a point lies farther from it than chance gives "
    "once in 1000 such figures and the theory leaves: a quarter of the scatter between runs, 20 % "
    "for a limit of large d. A heuristic is dashed; its error is stated and it is never off."
)
PREDICTION: Look = {"color": INK, "linewidth": 1.2, "label": "theory", "zorder": 1.5}
HEURISTIC: Look = {"color": GREY, "linewidth": 1.2, "linestyle": (0, (5, 3)), "zorder": 1.5,
                   "label": "heuristic"}  # fmt: skip
POINTS: Look = {"color": BLUE, "linestyle": "none", "marker": "o", "label": "model, 95 %"}
OFF = "#c00000"


def _deviation(row: Row, value: float) -> Row:
    """A prediction, and how many standard errors and what share the measurement lies off it."""
    found: Row = {"predicted": value, "z": None, "relative": None}
    if not math.isfinite(value):
        return found | {"predicted": None}
    low, high = row["low"], row["high"]
    if low is None or high is None or not low < high < math.inf:
        return found
    error, off = (high - low) / (2 * 1.96), row["value"] - value
    share = off / value if value else math.copysign(math.inf, off)
    return found | {"z": off / error, "relative": share}


def _largest(compared: Sequence[Row], kind: str) -> str:
    if not compared:
        return "no n in its regime"
    if kind == "heuristic":
        worst = max(compared, key=lambda row: abs(row["value"] - row["predicted"]))
        off = f"{worst['value'] - worst['predicted']:+.1f}".replace("-", "−")
        return f"at most {off} nats off, at n = {worst['n']}"
    worst = max(compared, key=lambda row: abs(row["z"]))
    share = f"{100 * worst['relative']:+.1f}".replace("-", "−")
    return f"at most {abs(worst['z']):.1f} s.e. off, {share} % at n = {worst['n']}"


def _chance_level(n_points: int) -> float:
    """Standard errors that one of so many points exceeds with probability 1e-3."""
    from scipy.special import ndtri

    return float(ndtri(1 - 1e-3 / (2 * n_points)))


def _draw_predicted(axes: Axes, item: tuple[Panel, np.ndarray, np.ndarray, str]) -> None:
    panel, x, y, state = item
    _draw_panel(axes, panel)
    for points in axes.containers:
        points[0].set_linestyle("none")
    if state == "off":
        axes.set_title(panel.title, pad=4 + 9.5 * len(panel.notes), color=OFF)
        for spine in axes.spines.values():
            spine.set_color(OFF)
    limits = axes.get_ylim()
    look = HEURISTIC if state == "heuristic" else PREDICTION
    axes.plot(x, np.where(np.isfinite(y), y, np.nan), **look)
    axes.set_ylim(limits)


# -- criteria side by side ---------------------------------------------------------------------


def onsets(results: Results, settings: Sequence[Setting]) -> Drawn:
    """The onset of every criterion with its interval, one below the other."""
    names = [
        c
        for axis in ("memorization", "quality")
        for c in results.sweep.measured
        if CRITERIA[c].axis == axis
    ]
    rows: list[Row] = []
    for name in names:
        for setting in settings:
            found = results.onset(name, setting)
            rows.append(
                {**setting, "criterion": name, "axis": CRITERIA[name].axis}
                | {"value": found.onset, "low": found.low, "high": found.high}
                | {"censored": found.censored, "blind": found.blind}
            )
    several = len(settings) > 1
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=colour, marker="o", linestyle="none", label=label(setting))
        for setting, colour in zip(settings, COLOURS, strict=False)
        if several
    ]
    handles += [
        Line2D([], [], color=GREY, marker="o", label="onset, 95 %"),
        Line2D([], [], color=GREY, marker=">", linestyle="none", label="beyond the sizes run"),
        Line2D([], [], color=GREY, marker="x", linestyle="none", label="none to be told"),
    ]
    height = 0.9 + len(names) * (0.14 + 0.07 * len(settings))
    panel = (names, settings, rows, results.sweep.n)
    return Drawn(
        name="onsets",
        title="Where do the criteria put the onset?",
        how_to_read="Every criterion on the same runs. Above the line those that ask whether the "
        "model depends on its training points, below it those that ask how far it is from the "
        "true law. Where criteria that share no arithmetic agree, the definition is not what "
        "makes the onset; where they disagree, they ask different questions. An arrow says that "
        "all sizes lie on one side; a cross that poles or runs allow no onset.",
        rows=rows,
        figure=_compose([panel], _draw_onsets, handles, columns=1, width=WIDE, height=height),
        narrow=_compose([panel], _draw_onsets, handles, columns=1, width=NARROW, height=height),
    )


def _draw_onsets(
    axes: Axes,
    panel: tuple[Sequence[str], Sequence[Setting], Sequence[Row], Sequence[int]],
) -> None:
    names, settings, rows, sizes = panel
    for place, setting in enumerate(settings[: len(COLOURS)]):
        aside = 0.7 * ((place + 0.5) / len(settings) - 0.5)
        for y, name in enumerate(names):
            (row,) = [r for r in rows if r["criterion"] == name and is_at(r, setting)]
            look: Look = {"color": COLOURS[place] if len(settings) > 1 else INK, "markersize": 4}
            if row["value"] is not None:
                low, high = row["low"] or sizes[0], row["high"] or sizes[-1]
                axes.plot([low, high], [y + aside] * 2, color=look["color"])
                axes.plot(row["value"], y + aside, marker="o", **look)
            elif row["censored"] == "no" or row["blind"]:
                axes.plot(sizes[0], y + aside, marker="x", **look)
            else:
                end, marker = (-1, ">") if row["censored"] == "above" else (0, "<")
                axes.plot(sizes[end], y + aside, marker=marker, **look)
    border = sum(CRITERIA[name].axis == "memorization" for name in names) - 0.5
    axes.axhline(border, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(names)), [CRITERIA[name].title for name in names])
    axes.tick_params(axis="y", labelsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)
    _set_x_axis(axes, Panel(title="", rows=(), settings=settings, sizes=sizes))


# -- sources of randomness ---------------------------------------------------------------------


def components(results: Results) -> Drawn:
    """What each source of randomness adds to the variance of a run, in a nested design."""
    sweep = results.sweep
    names = [c for c in sweep.measured if CRITERIA[c].axis in ("memorization", "quality")]
    names = [f"{c}_positive" if c in MIDPOINTS else c for c in names]
    places = [(setting, n) for setting in results.settings for n in sweep.n]
    groups = [{**setting, "n": n} for setting, n in places]
    rows: list[Row] = []
    for name in names:
        for setting, n in places:
            rows += _component_rows(results, name, n, setting)
    handles = [
        Line2D([], [], color=colour, marker="o", linestyle="none", label=label(group))
        for group, colour in zip(groups, COLOURS, strict=False)
    ]
    varied = {row["criterion"] for row in rows if row["value"] is not None}
    panels = [
        (name, [row for row in rows if row["criterion"] == name], groups)
        for name in names
        if name in varied
    ]
    return Drawn(
        name="components",
        title="Over what is the probability?",
        how_to_read="A run draws data, initial weights, training noise, sampling noise and the "
        "points it is judged against. Each was drawn again inside the ones to its left while "
        "those were kept; a point is the share of the variance of one run that this source adds "
        "alone, with a 95 % interval from resampling the outermost draws. The shares of a panel "
        "sum to 1; estimates are unbiased and may fall below 0. The standard deviation of one run "
        "stands above; what never varied is left out. For the sign of Δ the variance is "
        "P (1 − P), P over all sources.",
        rows=rows,
        figure=_compose(panels, _draw_components, handles, columns=2, width=WIDE, height=2.4),
        narrow=_compose(panels, _draw_components, handles, columns=1, width=NARROW, height=2.4),
    )


def _component_rows(results: Results, name: str, n: int, setting: Setting) -> list[Row]:
    """One row a level of the design: its variance with interval, and its share of the total."""
    found = results.components(name, n, setting)
    total = sum(one.value for one in found)
    model = results.sweep.measurement(setting).model
    unused = () if isinstance(model, NetworkModel) else ("initialization",)
    rows: list[Row] = []
    for (draws, count), one in zip(results.sweep.levels(), found, strict=False):
        source = ", ".join(d.replace("_", " ") for d in draws if d not in unused)
        numbers = {"variance": one.value, "variance_low": one.low, "variance_high": one.high}
        shares = [x / total if total > 0 else None for x in (one.value, one.low, one.high)]
        place = {**setting, "n": n, "criterion": name, "source": source, "draws": count}
        rows.append(place | numbers | dict(zip(("value", "low", "high"), shares, strict=True)))
    return rows


def _draw_components(axes: Axes, panel: tuple[str, Sequence[Row], Sequence[Setting]]) -> None:
    name, rows, groups = panel
    sources, notes = list(dict.fromkeys(row["source"] for row in rows)), []
    for place, group in enumerate(groups[: len(COLOURS)]):
        mine = [r for r in rows if is_at(r, group) and r["value"] is not None]
        aside = 0.16 * (place - (min(len(groups), len(COLOURS)) - 1) / 2)
        at = [row | {"place": sources.index(row["source"]) + aside} for row in mine]
        if at:
            _bars(axes, at, "place", {"color": COLOURS[place], "marker": "o", "linestyle": "none"})
            notes.append(f"{math.sqrt(sum(row['variance'] for row in mine)):.2g}")
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.set_xticks(range(len(sources)), [s.replace(" ", "\n", 1) for s in sources])
    axes.set_title(f"{CRITERIA[name.removesuffix('_positive')].title}; sd {', '.join(notes)}")
    axes.set(ylabel="share of variance", xlim=(-0.6, len(sources) - 0.4))


# -- late times --------------------------------------------------------------------------------

HORIZON = "model.noise.horizon"
LATE = ("linear_share", "linear_share_clean")
RELAXATION: Look = {
    "color": INK,
    "linewidth": 1.1,
    "linestyle": (0, (6, 3)),
    "label": "relaxation t_R",
}
SPECIATION: Look = {"color": GREEN, "linewidth": 1.1, "linestyle": "-.", "label": "speciation t_S"}
COLLAPSE: Look = {"linewidth": 1.1, "linestyle": ":"}
ANNEALED: Look = {"linewidth": 0.9, "linestyle": (0, (6, 3))}
TYPICAL: Look = {"linewidth": 1.2, "linestyle": "-"}


class Times(NamedTuple):
    """Where theory expects the regimes of a measurement's exact score to change.

    Attributes:
        relaxation: signal equals noise in the strongest direction.
        speciation: two classes merge; of data without known classes 1/2 ln of the largest
            eigenvalue over the noise scale, None below 0 and for a Gaussian, which has none.
        collapse: for each n, as if the data were Gaussian of their covariance.
        own: the own term's log odds at given times and n.
    """

    relaxation: float
    speciation: float | None
    collapse: dict[int, float]
    own: Callable[[np.ndarray, int], theory.OwnTerm]


def expected_times(at: Measurement, sizes: Sequence[int]) -> Times | None:
    """The predicted times of a measurement; None unless its noise is Ornstein-Uhlenbeck."""
    noise, world = getattr(at.model, "noise", None), build(at.source)
    values = eigenvalues(world)
    if noise is None or noise.kind != "ornstein_uhlenbeck" or values is None:
        return None
    spectrum, scale = values.numpy(), noise.noise_scale
    spectrum = np.where(spectrum > 1e-12 * spectrum.max(), spectrum, 0.0)
    collapse = {
        n: float(theory.collapse_time(n, spectrum=spectrum, noise_scale=scale)) for n in sizes
    }
    return Times(
        relaxation=float(theory.relaxation_time(spectrum.max(), scale)),
        speciation=_speciation(world, float(spectrum.max()), scale),
        collapse=collapse,
        own=lambda t, n: theory.own_log_odds(t, n, spectrum=spectrum, noise_scale=scale),
    )


def _speciation(world: Source | Dataset, largest: float, scale: float) -> float | None:
    if isinstance(world, Gaussian):
        return None
    if isinstance(world, GaussianMixture) and len(world.gaussians) == 2:
        one, two = world.gaussians
        half = float((one.mean - two.mean).square().sum()) / 4
        largest = half - float(one.eigenvalues.max()) + scale
    return math.log(largest / scale) / 2 if largest > scale else None


def late_times(results: Results) -> Drawn:
    """The linear share of the exact score and of its clean mean against time."""
    sizes = [{"n": n} for n in results.sweep.n]
    panels, rows = [], []
    for setting in _without(results.settings, HORIZON):
        mine = [s for s in results.settings if is_at(s, setting)]
        drawn = [
            row
            for s in mine
            for name in LATE
            for row in curve(results, name, "model", s, statistic="mean")
        ]
        rows += drawn
        at = results.sweep.measurement(mine[0])
        panels.append((label(setting), sizes, drawn, expected_times(at, results.sweep.n)))
    handles = [
        *_size_handles(sizes),
        Line2D([], [], color=GREY, marker="o", label="share of the score"),
        Line2D([], [], color=GREY, marker="s", linestyle="--", label="share of the clean mean"),
        *(Line2D([], [], **look) for look in (RELAXATION, SPECIATION)),
        Line2D([], [], color=GREY, **COLLAPSE, label="collapse t_C of this n"),
    ]
    return Drawn(
        name="late-times",
        title="From when on is the exact score linear?",
        how_to_read="Share of the exact score, and of the exact clean mean, that the best affine "
        "function of x_t explains, with 95 % intervals over runs; 1 for a Gaussian law at every "
        "time. Vertical lines are predictions: the relaxation time t_R of the largest eigenvalue, "
        "the speciation time t_S of two classes (for data sets half the log of the largest "
        "eigenvalue), and the collapse time t_C of each n. At late times the score of any law is "
        "linear, mostly because it is noise; the clean mean, all that it knows of the data, "
        "becomes linear later. At early times the clean mean is nearly x_t itself, and linear for "
        "that reason. Where t_C comes after t_R, as for few points in many dimensions, it is t_C "
        "after which the score of the training points is linear.",
        rows=rows,
        figure=_compose(panels, _draw_late, handles, columns=3, width=WIDE, height=2.3),
        narrow=_compose(panels, _draw_late, handles, columns=1, width=NARROW, height=2.3),
    )


def _size_handles(sizes: Sequence[Setting]) -> list[Line2D | Patch]:
    return [
        Line2D([], [], color=colour, linewidth=2.6, label=label(size))
        for size, colour in zip(sizes, COLOURS, strict=False)
    ]


def _draw_late(
    axes: Axes, panel: tuple[str, Sequence[Setting], Sequence[Row], Times | None]
) -> None:
    title, sizes, rows, times = panel
    for size, colour in zip(sizes, COLOURS, strict=False):
        for name, look in zip(
            LATE, ({"marker": "o"}, {"marker": "s", "linestyle": "--"}), strict=True
        ):
            mine = [r for r in rows if is_at(r, size) and r["criterion"] == name]
            _bars(axes, mine, HORIZON, look | {"color": colour, "markersize": 2.8})
    axes.set(title=title, ylim=(-0.03, 1.03), ylabel="linear share")
    _set_time_axis(axes, [row[HORIZON] for row in rows])
    if times is not None:
        _mark_times(axes, sizes, times)


def _bars(axes: Axes, rows: Sequence[Row], x: str, look: Look) -> None:
    """A curve with its intervals, where there are any."""
    value, low, high = (
        np.array([row["value"] if row[k] is None else row[k] for row in rows])
        for k in ("value", "low", "high")
    )
    reach = np.maximum([value - low, high - value], 0.0)
    axes.errorbar([row[x] for row in rows], value, yerr=reach, elinewidth=0.8, **look)


def _set_time_axis(axes: Axes, times: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(min(times) / 1.15, max(times) * 1.15)
    axes.set_xlabel("time t")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(_power)


def _mark_times(axes: Axes, sizes: Sequence[Setting], times: Times) -> None:
    axes.axvline(times.relaxation, **RELAXATION, zorder=1)
    if times.speciation is not None:
        axes.axvline(times.speciation, **SPECIATION, zorder=1)
    for size, colour in zip(sizes, COLOURS, strict=False):
        axes.axvline(times.collapse[size["n"]], color=colour, **COLLAPSE, zorder=1)


def own_term(results: Results) -> Drawn:
    """The own term of the score against the sum of all others, the paper's Z_1 and Z_1^c."""
    sizes = [{"n": n} for n in results.sweep.n]
    panels, rows = [], []
    for setting in _without(results.settings, HORIZON):
        mine = [s for s in results.settings if is_at(s, setting)]
        at = results.sweep.measurement(mine[0])
        times = expected_times(at, results.sweep.n)
        if getattr(at.model, "law", "") == "source" or times is None:
            continue
        drawn = []
        for s in mine:
            for row in curve(results, "own_log_odds", "model", s, statistic="mean"):
                own = times.own(np.array(s[HORIZON]), row["n"])
                drawn.append(
                    row | {"typical": float(own.typical), "annealed": float(own.annealed)}
                )
        rows += drawn
        panels.append((label(setting), sizes, drawn, times))
    handles = [
        *_size_handles(sizes),
        Line2D(
            [], [], color=GREY, marker="o", linestyle="none", label="measured, median of draws"
        ),
        Line2D([], [], color=GREY, **ANNEALED, label="the paper's: mean of Z_rest"),
        Line2D([], [], color=GREY, **TYPICAL, label="typical Z_rest"),
        Line2D([], [], color=GREY, **COLLAPSE, label="collapse t_C of this n"),
    ]
    return Drawn(
        name="own-term",
        title="One training point against all others",
        how_to_read="ln(Z_own / Z_rest): the term of the point that was noised, in the score of "
        "the training points, against the sum of all others. Above 0 that point decides the "
        "score, which is then the memorizer's. Dashed, the paper's argument, which puts "
        "the mean over data in place of Z_rest: it holds above the collapse time t_C, where it "
        "crosses 0. Below t_C a few nearest points make up the sum and the mean counts points "
        "that are not there; the solid line, the typical size of the sum, follows the "
        "measurement there, from below at small d. Both lines take the data to be Gaussian of "
        "their covariance.",
        rows=rows,
        figure=_compose(
            panels, _draw_own, handles, columns=min(3, len(panels)), width=WIDE, height=2.3
        ),
        narrow=_compose(panels, _draw_own, handles, columns=1, width=NARROW, height=2.3),
    )


def _draw_own(axes: Axes, panel: tuple[str, Sequence[Setting], Sequence[Row], Times]) -> None:
    title, sizes, rows, times = panel
    reach = [row[HORIZON] for row in rows]
    fine = np.geomspace(min(reach), max(reach), 200)
    for size, colour in zip(sizes, COLOURS, strict=False):
        mine = [row for row in rows if is_at(row, size)]
        _bars(axes, mine, HORIZON, {"color": colour, "marker": "o", "linestyle": "none"})
        own = times.own(fine, size["n"])
        axes.plot(fine, own.annealed, color=colour, **ANNEALED)
        axes.plot(fine, own.typical, color=colour, **TYPICAL)
        axes.axvline(times.collapse[size["n"]], color=colour, **COLLAPSE, zorder=1)
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.set_title(title)
    axes.set_ylabel("ln(Z_own / Z_rest)")
    _set_time_axis(axes, reach)
    axes.set_yscale("symlog", linthresh=5.0)
    axes.yaxis.set_major_locator(FixedLocator([-5, 0, 5, 30, 100, 300, 1000]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(_power)


def limits(results: Results) -> Drawn:
    """The paper's kernel width over the width at the collapse, along ln n / d."""
    rows: list[Row] = []
    for setting in results.settings:
        scale = _noise_scale(results.sweep.measurement(setting))
        world = build(results.sweep.measurement(setting).source)
        for n, column in zip(
            results.sweep.n, results.matrix("collapse_time", "model", setting).T, strict=True
        ):
            width = world.std**2 * n ** (-2 / world.dim)
            ratio = width / (scale * np.expm1(2 * column))
            place = {"d": world.dim, "n": n, "load": math.log(n) / world.dim}
            rows.append(place | summarize(ratio, "mean"))
    rows = [row for row in rows if row["value"] is not None]
    sizes = [{"d": d} for d in dict.fromkeys(row["d"] for row in rows)]
    handles = [
        *_size_handles(sizes),
        Line2D([], [], color=INK, linewidth=1.2, label="1 − n^(−2/d)"),
        Line2D([], [], color=GREY, linestyle="none", marker="x", label="where n = d"),
    ]

    def draw(axes: Axes, _: object) -> None:
        for size, colour in zip(sizes, COLOURS, strict=False):
            mine = [row for row in rows if is_at(row, size)]
            _bars(axes, mine, "load", {"color": colour, "marker": "o", "linestyle": "none"})
            alpha = math.log(size["d"]) / size["d"]
            axes.plot(
                alpha, -math.expm1(-2 * alpha), color=colour, marker="x", markersize=8, mew=1.6
            )
        loads = [row["load"] for row in rows]
        fine = np.geomspace(min(loads), max(loads), 200)
        axes.plot(fine, -np.expm1(-2 * fine), color=INK, linewidth=1.2, zorder=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for along in (axes.xaxis, axes.yaxis):
            along.set_major_locator(LogLocator(subs=(1, 3)))
            along.set_minor_locator(NullLocator())
            along.set_major_formatter(_power)
        axes.set(xlabel="load α = ln n / d", ylabel="kernel² of the paper / collapse width²")

    return Drawn(
        name="limits",
        title="Two limits in one argument: n ~ e^(αd) and n ~ d",
        how_to_read="The squared kernel width of the paper, s² n^(−2/d), over the squared width "
        "of the noise at which the own term takes over, measured in the exact score. At 1 the two "
        "agree, which needs n = e^(αd) with α above 1. At n ~ d (crosses) α tends to 0 and with "
        "it the ratio: there the paper's kernel sits deep in the memorizing phase of the score.",
        rows=rows,
        figure=_compose([None], draw, handles, columns=1, width=4.6, height=3.0),
        narrow=_compose([None], draw, handles, columns=1, width=NARROW, height=2.7),
    )


def _noise_scale(at: Measurement) -> float:
    """Of Ornstein-Uhlenbeck noise; infinite for any other."""
    noise = getattr(at.model, "noise", None)
    return getattr(noise, "noise_scale", math.inf)


def _has_limits(sweep: Sweep) -> bool:
    """Whether collapse times were measured of isotropic Gaussians of several dimensions."""
    at = sweep.measurement(sweep.settings()[0])
    flat = at.source.kind == "gaussian" and (at.source.spectrum, at.source.covariance) == (
        None,
        None,
    )
    usual = math.isfinite(_noise_scale(at)) and "collapse_time" in at.measured
    return list(sweep.axes) == ["source.dim"] and not sweep.variants and flat and usual


# -- figures of an audit -----------------------------------------------------------------------


def nearest_distances(verdict: Verdict) -> Drawn:
    """Distribution functions of the distances to either set, with their control."""
    evidence, scale = verdict.evidence, verdict.copying.scale
    named: list[tuple[str, Tensor, str]] = [("samples to training", evidence.to_training, "model")]
    control = "training among themselves: the weaker control"
    if evidence.to_held_out is not None:
        named.append(("samples to held-out", evidence.to_held_out, "oracle"))
        control = "held-out to training: the control"
    named.append((control, evidence.control, "null"))
    curves: list[tuple[str, Tensor, Look]] = [
        (name, found, LOOKS[role] | {"marker": "", "label": name}) for name, found, role in named
    ]
    rows: list[Row] = []
    for name, distances, _ in curves:
        ordered = np.unique(distances.numpy(), return_counts=True)
        shares = np.cumsum(ordered[1]) / len(distances)
        rows += [
            {"curve": name, "distance": float(d), "share": float(q)}
            for d, q in zip(*_thin(ordered[0], shares), strict=True)
        ]
    handles: list[Line2D | Patch] = [Line2D([], [], **look) for _, _, look in curves]
    handles.append(Line2D([], [], **SCALE))

    def draw(axes: Axes, _: object) -> None:
        for name, _, look in curves:
            mine = [row for row in rows if row["curve"] == name]
            x, y = ([row[k] for row in mine] for k in ("distance", "share"))
            axes.step([x[0], *x], [0.0, *y], where="post", **look)
        axes.axvline(scale, **SCALE)
        axes.set_xlim(left=0)
        axes.set(ylim=(0, 1.02), xlabel="distance to the nearest point", ylabel="share within it")

    return Drawn(
        name="distances",
        title="How near the samples are",
        how_to_read="Each curve is the share of points that have a neighbour within the distance. "
        "Copies lift the curve of samples to training at the very left, below the near-duplicate "
        "scale. A curve of samples to training above the one to held-out points all along is "
        "train bias without copies. Samples nearer to both sets than the control are a narrower "
        "law than the data, which is a matter of quality and not of copying.",
        rows=rows,
        figure=_compose([None], draw, handles, columns=1, width=WIDE, height=2.9),
        narrow=_compose([None], draw, handles, columns=1, width=NARROW, height=2.5),
    )


SCALE: Look = {"color": INK, "linewidth": 0.9, "linestyle": ":", "label": "near-duplicate scale"}


def _thin(x: np.ndarray, y: np.ndarray, most: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points of a curve, both ends kept."""
    if len(x) <= most:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, most).round().astype(int))
    return x[kept], y[kept]


def power_curve(verdict: Verdict) -> Drawn:
    """Probability of finding planted copies against their share."""
    shares, found = zip(*verdict.power.curve, strict=True)
    wanted: Look = MIDDLE | {"label": "nine in ten"}
    handles: list[Line2D | Patch] = [
        Line2D([], [], **LOOKS["model"], label="that the copies are found"),
        Line2D([], [], **wanted),
    ]

    def draw(axes: Axes, _: object) -> None:
        axes.plot([100 * s for s in shares], found, **LOOKS["model"])
        axes.axhline(0.9, **wanted)
        axes.set(ylim=(0, 1.04), xlabel="samples that are copies, %", ylabel="probability")

    return Drawn(
        name="power",
        title="Which share of copies this audit would have found",
        how_to_read="Copies are planted at random training points among samples like those seen, "
        "and tested as the samples were.",
        rows=[{"share": s, "probability": p} for s, p in verdict.power.curve],
        figure=_compose([None], draw, handles, columns=1, width=WIDE, height=2.6),
        narrow=_compose([None], draw, handles, columns=1, width=NARROW, height=2.4),
    )


# -- all of them -------------------------------------------------------------------------------


def all_figures(results: Results) -> list[Drawn]:
    """Every figure that a run has numbers for; none for a run without finished cells."""
    if not any(record.row.status == "done" for record in results.records):
        return []
    if results.sweep.kept_for:
        return [components(results)]
    if set(GROUPS["late_times"]) <= set(results.sweep.measured) and HORIZON in results.sweep.axes:
        return [late_times(results), own_term(results)]
    if _has_limits(results.sweep):
        return [limits(results)]
    axis = lone_axis(results.sweep)
    if axis is not None:
        return [along(results, axis)]
    axis = _numeric_axis(results.sweep)
    counted = (counts for s in results.settings for counts in results.regimes(s).values())
    first = [phases(results, axis)] if axis is not None and any(counted) else []
    hung = list(galleries(results))
    if len(results.settings) > TOGETHER:
        return (
            first
            + hung
            + [
                replace(d, name=f"{d.name}-{k}", title=f"{d.title} ({label(setting)})")
                for k, setting in enumerate(results.settings, 1)
                for d in _figures_of(results, [setting])
            ]
        )
    figures = first + list(_figures_of(results, results.settings)) + hung
    if results.sweep.source.kind == "gaussian" and set(PAPER) & set(results.sweep.measured):
        figures.append(compare([results]))
    return figures


def _figures_of(results: Results, settings: Sequence[Setting]) -> Iterator[Drawn]:
    axes = {CRITERIA[c].axis for c in results.sweep.measured}
    if axes & {"memorization", "quality"}:
        yield position(results, settings)
    if any(counts for s in settings for counts in results.regimes(s).values()):
        yield regimes(results, settings)
    if "memorization" in axes:
        yield memorization(results, settings)
    if "quality" in axes:
        yield quality(results, settings)
    if "training" in axes and results.records:
        yield training(results, settings)
    judged = [c for c in results.sweep.measured if CRITERIA[c].axis in ("memorization", "quality")]
    if len(judged) > 2 and len(results.sweep.n) > 1:
        yield onsets(results, settings)
    for setting in settings:
        overlay = predicted(results, setting)
        if overlay is not None:
            several = len(settings) > 1
            place = f"-{settings.index(setting) + 1}" if several else ""
            title = f"{overlay.title} ({label(setting)})" if several else overlay.title
            yield replace(overlay, name=f"{overlay.name}{place}", title=title)
    if set(ERRORS) & set(results.sweep.measured):
        with contextlib.suppress(DataError):  # the data have gone; their scale is not known
            yield errors(results, settings)


def save_figures(results: Results, folder: str | Path) -> list[Drawn]:
    """Draw every figure of a run and save each as PNG, PDF and CSV.

    The same results give the same bytes.

    Raises:
        StoreError: if the folder cannot be written.
    """
    drawn = all_figures(results)
    for figure in drawn:
        save(figure, folder)
    return drawn


def save(drawn: Drawn, folder: str | Path) -> None:
    """Write one figure as PNG, PDF and CSV.

    Raises:
        StoreError: if the folder cannot be written.
    """
    path = Path(folder) / drawn.name
    write_file(path.with_suffix(".csv"), _csv(drawn.rows))
    for kind in ("png", "pdf"):
        write_file(path.with_suffix(f".{kind}"), render(drawn.figure, kind))


def render(figure: Figure, kind: str) -> bytes:
    """A figure as "png", "pdf" or "svg"; the same figure gives the same bytes."""
    dated = {"png": "Software", "pdf": "CreationDate", "svg": "Date"}
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=200, metadata={dated[kind]: None})
    return buffer.getvalue()


def write_file(path: Path, content: bytes) -> None:
    """Write a file in one piece: a reader sees the old content or the new.

    Raises:
        StoreError: if it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise StoreError(
            f"Cannot write {path}: {error.strerror or error}. Free space, mend the permissions, "
            "or choose another place with --out."
        ) from None


def _csv(rows: Sequence[Row]) -> bytes:
    """Rows as CSV; floats read back exactly, what does not exist is empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if row.get(c) is None else row[c] for c in columns])
    return text.getvalue().encode()
