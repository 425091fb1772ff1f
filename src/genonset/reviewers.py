"""The objections of the paper's reviewers, each with the run and the figure that answer it.

`POINTS` holds them in the order of the reviews; docs/reviewers.md holds the answers. The runs are
the specs of the same name that ship with the package, and one audit of planted copies. Run as
`genonset reproduce reviewers`, `quick` with a quarter of the replicates.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from genonset import seeds
from genonset.experiment import draw_points, resolve
from genonset.figures import nearest_distances, power_curve, save
from genonset.findings import Verdict
from genonset.report import write_page, write_report
from genonset.spec import Cell, Sweep, reproduction, shipped
from genonset.verdict import audit

AUDIT = "audit"
"""The folder of the audit among the runs."""


class Point(NamedTuple):
    """An objection and what answers it.

    Attributes:
        objection: in our words.
        figures: each as run/figure, the run being a shipped spec or the audit.
    """

    objection: str
    figures: tuple[str, ...]

    @property
    def commands(self) -> tuple[str, ...]:
        """What regenerates its figures."""
        runs = dict.fromkeys(figure.split("/")[0] for figure in self.figures)
        return tuple(
            f"genonset reproduce {'reviewers' if run == AUDIT else run} --quick" for run in runs
        )


POINTS: tuple[Point, ...] = (
    Point("Only Gaussian data are studied", ("reviewers-sources/memorization",)),
    Point("Memorization may fade while nothing is generalized", ("reviewers-criteria/regimes",)),
    Point(
        "On Gaussians a linear score is exact; no network, no discretization, no score matching",
        ("reviewers-samplers/along",),
    ),
    Point("The definition of generalization is circular", ("reviewers-criteria/onsets",)),
    Point("What follows for large training runs?", ("reviewers-training-time/training",)),
    Point(
        "What is the original distribution, and what do N and n do?",
        ("reviewers-original/memorization",),
    ),
    Point("Two limits are mixed: n ~ exp(αd) and n ~ d", ("collapse-limits/limits",)),
    Point(
        "P(Δ > 0) is a probability over what?",
        ("reviewers-variance/components", "reviewers-variance-network/components"),
    ),
    Point("The U-Net figure contradicts the claim", ("reviewers-units/memorization",)),
    Point("Nothing on non-isotropic data and mixtures", ("reviewers-spectra/quality",)),
    Point("The transition is never quantified", ("reviewers-paper/memorization",)),
    Point(
        "Is it mixing time, horizon or noise scale, not diffusion?",
        ("reviewers-noise/memorization",),
    ),
    Point("Input dimension or intrinsic dimension?", ("reviewers-dimension/quality",)),
    Point("Symbols are undefined and equations unchecked", ("late-times/own-term",)),
    Point("No relevance to real data", ("reviewers-sources/regimes",)),
    Point("Why not the Wasserstein distance?", ("reviewers-criteria/quality",)),
    Point(
        "The kernel width is unjustified and moves the training set towards the truth",
        ("reviewers-widths/memorization",),
    ),
    Point("That late times are Gaussian is trivial", ("late-times/late-times",)),
    Point("A linear model cannot memorize", ("reviewers-criteria/memorization",)),
    Point("Quality is ignored", ("reviewers-sources/quality",)),
    Point("The number of parameters is ignored", ("reviewers-parameters/phases",)),
    Point("Mathematics that nothing is compared with", ("reviewers-theory/theory",)),
    Point("Figures without legends, error bars and scales", ("reviewers-paper/errors",)),
    Point("A draft: details to reproduce it are missing", ("reviewers-paper/paper",)),
    Point("Of what practical use is it?", ("audit/power", "audit/distances")),
)


def sweeps(*, quick: bool = False, seed: int | None = None) -> list[Sweep]:
    """The runs behind the figures of `POINTS`, in their order."""
    names = dict.fromkeys(f.split("/")[0] for point in POINTS for f in point.figures)
    return [reproduction(name, quick=quick, seed=seed) for name in names if name != AUDIT]


def audit_example(folder: str | Path, *, seed: int = 0) -> Verdict:
    """The audit of 300 digits from the linear model of the demo, 15 of them planted copies.

    Args:
        folder: where its page and its figures go.
        seed: of data, model and samples.
    """
    n, n_generated, n_copies = 200, 300, 15
    sweep = shipped("digits").model_copy(update={"n": (n,), "seed": seed})
    _, cell = next(resolve(sweep).cells())
    points = draw_points(Cell(**cell.model_dump()))
    model = cell.model.fit(points.training, generator=seeds.generator(seed, "training noise"))
    samples = model.draw(n_generated, seeds.generator(seed, "sampling"))
    copied = torch.randperm(n, generator=seeds.generator(seed, "copies"))[:n_copies]
    samples = torch.cat([points.training[copied], samples[n_copies:]])
    verdict = audit(samples, points.training, points.held_out, seed=seed, power=True)
    write_report(verdict, Path(folder) / "report.html")
    for drawn in (power_curve(verdict), nearest_distances(verdict)):
        save(drawn, Path(folder) / "figures")
    return verdict


def write_index(folder: str | Path, replicates: Mapping[str, int]) -> Path:
    """One page with every objection, its command and its figures.

    Args:
        folder: that holds the run folders.
        replicates: of each run that is there.

    Returns:
        the path of the page.

    Raises:
        StoreError: if it cannot be written.
    """
    home = Path(folder)
    path = home / "index.html"
    points = [
        {
            "number": number,
            "objection": point.objection,
            "commands": point.commands,
            "figures": [_shown(home, figure, replicates) for figure in point.figures],
        }
        for number, point in enumerate(POINTS, 1)
    ]
    write_page("reviewers.html.jinja", {"points": points}, path)
    return path


def _shown(home: Path, figure: str, replicates: Mapping[str, int]) -> dict[str, object]:
    """A figure of a run as the page shows it; one with a number is the first of several."""
    run, name = figure.split("/")
    there = sorted((home / run / "figures").glob(f"{name}*.png"))
    return {
        "run": run,
        "report": f"{run}/report.html",
        "images": [str(found.relative_to(home)) for found in there],
        "replicates": replicates.get(run),
    }
