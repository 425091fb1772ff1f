"""Predicted against measured onsets over dimensions and spectra.

    genonset sweep src/genonset/experiments/onset-dimensions.toml --out runs/onset-dimensions
    python benchmarks/onset_dimensions.py runs/onset-dimensions [FIGURE.png]

For every criterion that theory predicts: n* beside its measured 95 % interval at each (d,
spectrum) and the share of predictions inside; the same for the curve, point by point, with the
typical deviation; and how n* grows: the least-squares slope of ln n* on ln d, and on the logarithm
of other dimensions of the spectrum.
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from genonset import theory
from genonset.criteria import CRITERIA
from genonset.figures import curve
from genonset.predictions import FORMS, predictions
from genonset.spec import label
from genonset.store import Results

DIMENSIONS = {
    "d": len,
    "tr C/|C|": theory.effective_rank,
    "D_W2": theory.wasserstein_dimension,
}


def compare(results: Results, name: str) -> list[dict]:
    """Measured and predicted onset of one criterion at every setting that has both."""
    rows = []
    for setting in results.settings:
        predicted = results.predicted_onset(name, setting)
        if predicted is None:
            continue
        spectrum = results.sweep.measurement(setting).source.build().eigenvalues.numpy()
        rows.append({
            "setting": setting,
            "spectrum": spectrum,
            "predicted": predicted,
            "measured": results.onset(name, setting),
        })  # fmt: skip
    return rows


def tell(name: str, rows: list[dict]) -> None:
    kind = FORMS[name].kind
    print(f"\n{name} ({kind})")
    judged = []
    for row in rows:
        measured, predicted = row["measured"], row["predicted"]
        inside = predicted.within(measured)
        judged += [] if inside is None else [inside]
        verdict = {True: "inside", False: "OUTSIDE", None: "-"}[inside]
        print(f"  {label(row['setting']):58} {predicted!s:26} {measured.sentence():44} {verdict}")
    if judged:
        print(f"  inside: {sum(judged)} of {len(judged)} ({100 * np.mean(judged):.0f} %)")
    beyond = sum(r["predicted"].onset is None or r["measured"].onset is None for r in rows)
    print(
        f"  of {len(rows)}, {beyond} lie beyond the sizes of the grid on either side, or in a gap"
    )


def curves(results: Results, name: str) -> None:
    """How many points of the curves have the prediction in their interval."""
    inside, off = [], []
    for setting in results.settings:
        found = predictions(results.sweep.measurement(setting))
        if found is None or name not in found.names:
            continue
        rows = curve(results, name, "model", setting, statistic=FORMS[name].statistic)
        values = found.values(name, [row["n"] for row in rows])
        for row, value in zip(rows, values, strict=True):
            if None not in (row["low"], row["high"]) and row["low"] < row["high"] and value > 0:
                inside.append(row["low"] <= value <= row["high"])
                off.append(abs(row["value"] / value - 1))
    if inside:
        print(
            f"  {name:20} {sum(inside)} of {len(inside)} ({100 * np.mean(inside):.1f} %), "
            f"median deviation {100 * np.median(off):.2f} %"
        )


def slopes(name: str, rows: list[dict]) -> None:
    """Exponents of n* against each dimension, family of spectra by family."""
    families: dict[str, list[dict]] = {}
    for row in rows:
        options = row["setting"]["source.spectrum"]
        family = f"{options['kind']} {options.get('exponent', options.get('rank'))}"
        families.setdefault(family, []).append(row)
    for family, own in families.items():
        known = [row for row in own if row["measured"].onset is not None]
        if len(known) < 3:
            continue
        y = np.log([row["measured"].onset for row in known])
        words = []
        for title, dimension in DIMENSIONS.items():
            x = np.log([float(dimension(row["spectrum"])) for row in known])
            if np.ptp(x) > 0.5:
                words.append(f"{title}^{np.polyfit(x, y, 1)[0]:.2f}")
        print(f"  {name:20} {family:16} {len(known)} onsets: n* ~ {', '.join(words)}")


COLOURS = ["#0072B2", "#D55E00", "#009E73", "#AA5E93", "#E69F00"]


def draw(found: dict[str, list[dict]], path: Path) -> None:
    """Predicted n* along, measured n* with its interval up, one panel a criterion, where at least
    three settings have both."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    both = {
        name: [row for row in rows if row["predicted"].onset and row["measured"].onset]
        for name, rows in found.items()
    }
    shown = {name: rows for name, rows in both.items() if len(rows) > 2}
    every = [row for rows in shown.values() for row in rows]
    words = list(dict.fromkeys(spectrum_words(row) for row in every))
    figure = Figure(figsize=(9.6, 3.1 * ((len(shown) + 2) // 3)), layout="constrained")
    for k, (name, rows) in enumerate(shown.items()):
        axes = figure.add_subplot((len(shown) + 2) // 3, 3, k + 1)
        ends = []
        for row in rows:
            x, m = row["predicted"].onset, row["measured"]
            low, high = m.low or m.onset, m.high or m.onset
            axes.errorbar(x, m.onset, [[m.onset - low], [high - m.onset]], fmt="o", ms=3.5, lw=1,
                          color=COLOURS[words.index(spectrum_words(row))])  # fmt: skip
            ends += [x, low, high]
        line = [0.9 * min(ends), 1.1 * max(ends)]
        axes.plot(line, line, color="#333333", lw=0.8, zorder=1)
        axes.set(xscale="log", yscale="log", xlim=line, ylim=line)
        axes.set(xlabel="predicted n*", ylabel="measured n*, 95 %")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_formatter(NullFormatter())
        axes.set_title(f"{CRITERIA[name].title} ({FORMS[name].kind})", loc="left", fontsize=9,
                       weight="bold")  # fmt: skip
        axes.grid(color="#e4e4e4", lw=0.6)
    colours = COLOURS[: len(words)]
    points = [Line2D([], [], color=colour, marker="o", ls="") for colour in colours]
    figure.legend(points, words, loc="outside upper left", ncols=len(words), frameon=False)
    figure.savefig(path, dpi=150)


def spectrum_words(row: dict) -> str:
    options = row["setting"]["source.spectrum"]
    if options["kind"] == "low_rank":
        return f"{options['rank']} of {options['variance']:g} over {options['floor']:g}"
    return f"$k^{{-{options['exponent']:g}}}$" if options["exponent"] else "flat"


if __name__ == "__main__":
    results = Results(sys.argv[1])
    found = {}
    for name in FORMS:
        if name in results.sweep.measured and name != "collapse_time":
            found[name] = compare(results, name)
            tell(name, found[name])
    print("\nPoints of the curves inside the measured 95 % interval")
    for name in found:
        if FORMS[name].kind == "theory":
            curves(results, name)
    print("\nHow n* grows")
    for name, rows in found.items():
        slopes(name, rows)
    if len(sys.argv) > 2:
        draw(found, Path(sys.argv[2]))
