"""What a cell measures: each criterion from a generator and the data to one number.

Two axes are kept apart. A *memorization* criterion asks whether the generator depends on the very
points it was fitted on; it is read as a position between the memorizer (0) and the oracle (1).
A *quality* criterion asks how far the generator is from the true law; it is read beside the
oracle and the closed-form floor of the model.

With rho_S the training set T, the held-out set H or the original set O smoothed by Gaussian
kernels, and rho_G the generated law:

    (1)  E_SG = |rho_S|² - 2 <rho_S, rho_G>            (|rho_G|² omitted: it cancels below)
    (2)  delta = E_TG - E_OG                            as published: N >> n original points
    (3)  delta_held_out = E_TG - E_HG                   size-matched: n held-out points, same width

Delta is formed in log space (`distances.kernel_delta`); its log ratio D < 0 means delta > 0 and
is kept beside it. If the generator does not depend on T, then T and H are exchangeable, hence
P(delta_held_out > 0) = 1/2 exactly, for any law, model and n: theory note (A11). The same holds
of (2) and (3) one coordinate at a time, between samples and sets, of equal widths std / size:

    (2')  coordinate_delta, (3') coordinate_delta_held_out    with `distances.coordinate_kernel_l2`

There every term is of the size of 1 / std, and the plain difference resolves its sign. The oracle
has a coordinate_delta of mean -(4 pi)^(-1/2) (1/n - 1/N) / std, hence P < 1/2 at n < N: (A13).

    (4)  log_likelihood_gap = mean_T log p_G - mean_H log p_G,   p_G smoothed like T  (A12)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from genonset import distances, seeds, verdict
from genonset.denoisers import linear_share, measure_collapse_time
from genonset.distances import KernelTerms, Smoothed
from genonset.errors import DataError
from genonset.noise import NoiseProcess, at_horizon
from genonset.onset import Onset, estimate_onset
from genonset.sources import Empirical, ExactSource, Gaussian, GaussianMixture, Source
from genonset.tensors import Vectors

Role = Literal["model", "memorizer", "oracle", "null"]
ROLES: tuple[Role, ...] = ("model", "memorizer", "oracle", "null")


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A named number of a cell.

    Attributes:
        axis: which question it answers; "error" is a term of another criterion, "training" a fact
            about the training set or how the model was trained.
        title: how figures label it.
        summary: one sentence on how to read it.
        needs_gaussian: whether it compares closed-form Gaussian laws.
        falls: whether small values are good (quality only).
    """

    axis: Literal["memorization", "quality", "error", "training"]
    title: str
    summary: str
    needs_gaussian: bool = False


CRITERIA: dict[str, Criterion] = {
    "kernel_l2_training": Criterion(
        axis="error",
        title="error to training, E_TG",
        summary="Squared L2 distance of the kernel-smoothed training set to the generated law, "
        "without the generated law's own overlap.",
    ),
    "kernel_l2_original": Criterion(
        axis="error",
        title="error to originals, E_OG",
        summary="The same for the original set.",
    ),
    "delta": Criterion(
        axis="memorization",
        title="P(Δ > 0)",
        summary="Share of runs nearer to the original than to the training set, as published; "
        "its value depends on the size of the original set and has no fixed chance level.",
    ),
    "delta_held_out": Criterion(
        axis="memorization",
        title="P(Δ > 0), held-out",
        summary="The same against an equally large held-out set: 0 for a memorizer, exactly 1/2 "
        "for any generator that does not depend on its training set.",
    ),
    "coordinate_kernel_l2_training": Criterion(
        axis="error",
        title="error to training, E_TG per coordinate",
        summary="Mean over coordinates of the one-dimensional kernel L2 error to training.",
    ),
    "coordinate_kernel_l2_original": Criterion(
        axis="error",
        title="error to originals, E_OG per coordinate",
        summary="The same for the original set.",
    ),
    "coordinate_delta": Criterion(
        axis="memorization",
        title="P(Δ > 0) per coordinate",
        summary="Share of runs nearer to the original than to the training set, coordinate by "
        "coordinate, as published for the U-Net; a perfect generator stays below 1/2 at n < N.",
    ),
    "coordinate_delta_held_out": Criterion(
        axis="memorization",
        title="P(Δ > 0) per coordinate, held-out",
        summary="The same against an equally large held-out set: 0 for a memorizer, exactly 1/2 "
        "for any generator that does not depend on its training set.",
    ),
    "hellinger_squared": Criterion(
        axis="quality",
        title="Hellinger H²",
        summary="Squared Hellinger distance to the true law: 1 means no overlap.",
        needs_gaussian=True,
    ),
    "affinity_rate": Criterion(
        axis="quality",
        title="(1 − H²)^(1/d)",
        summary="Overlap with the true law per dimension: 1 is perfect.",
        needs_gaussian=True,
    ),
    "kl_to_source": Criterion(
        axis="quality",
        title="KL(generated ‖ true)",
        summary="Infinite for singular laws, as at n ≤ d.",
        needs_gaussian=True,
    ),
    "kl_from_source": Criterion(
        axis="quality",
        title="KL(true ‖ generated)",
        summary="Infinite for singular laws; its mean over runs is infinite at every n, so "
        "medians are shown.",
        needs_gaussian=True,
    ),
    "bures_wasserstein": Criterion(
        axis="quality",
        title="Bures-Wasserstein",
        summary="W2 between the Gaussians of equal mean and covariance, in data units.",
    ),
    "wasserstein": Criterion(
        axis="quality",
        title="W2",
        summary="Exact 2-Wasserstein distance of the samples to as many original points.",
    ),
    "sliced_wasserstein": Criterion(
        axis="quality",
        title="sliced W2",
        summary="Mean over random directions of the squared one-dimensional W2, rooted.",
    ),
    "energy_distance": Criterion(
        axis="quality",
        title="energy distance",
        summary="Of the samples to as many original points.",
    ),
    "mmd": Criterion(
        axis="quality",
        title="MMD",
        summary="Maximum mean discrepancy, Gaussian kernel of the median pooled distance.",
    ),
    "log_likelihood_gap": Criterion(
        axis="memorization",
        title="log-likelihood gap",
        summary="Mean log density at training minus at held-out points; 0 for the oracle.",
    ),
    "memorized_fraction": Criterion(
        axis="memorization",
        title="memorized fraction",
        summary="Share of samples more than three times nearer to one training point than to any "
        "other; the oracle's value is its chance level.",
    ),
    "train_bias": Criterion(
        axis="memorization",
        title="train bias",
        summary="Share of samples nearer to a training than to a held-out point; 1/2 by chance.",
    ),
    "copying": Criterion(
        axis="memorization",
        title="copying",
        summary="Share of samples within near-duplicate distance of a training point, minus the "
        "same for held-out points; 0 by chance.",
    ),
    "spread_ratio": Criterion(
        axis="quality",
        title="spread ratio",
        summary="Total variance of the generated over that of the true law; 1 is right.",
    ),
    "overlap": Criterion(
        axis="memorization",
        title="overlap q",
        summary="Correlation of two models fitted on disjoint sets and sampled from the same "
        "noise: 0 where each knows only its own set, 1 where they agree.",
    ),
    "sample_bures_wasserstein": Criterion(
        axis="quality",
        title="Bures-Wasserstein of samples",
        summary="Bures-Wasserstein from the samples alone, even where the law is known; the "
        "oracle's value is what sampling leaves of it.",
    ),
    "collapse_time": Criterion(
        axis="training",
        title="collapse time",
        summary="Time below which the exact denoiser of the training points knows the point that "
        "was noised: its median posterior weight is 1/2 there.",
    ),
    "own_weight": Criterion(
        axis="training",
        title="own weight at the horizon",
        summary="Median posterior weight of the training point that was noised to the horizon.",
    ),
    "posterior_entropy": Criterion(
        axis="training",
        title="posterior entropy at the horizon",
        summary="Mean entropy, in nats, of the posterior weights of the training points: log n "
        "where noise has hidden the point, 0 where it has not.",
    ),
    "participation_ratio": Criterion(
        axis="training",
        title="participation ratio at the horizon",
        summary="Mean of 1 / sum w² over the posterior weights w: the training points that a "
        "noisy point could have come from.",
    ),
    "linear_share": Criterion(
        axis="training",
        title="linear share of the score",
        summary="Share of the mean square of the exact score at the horizon that its best affine "
        "fit explains: of the training points, or of the true law for an exact model of it.",
    ),
    "linear_share_clean": Criterion(
        axis="training",
        title="linear share of the clean mean",
        summary="The same share of the variance of the exact denoiser: what the score says beyond "
        "the noise, which alone is linear.",
    ),
    "own_log_odds": Criterion(
        axis="training",
        title="ln(Z_own / Z_rest)",
        summary="Median log of the own term of the training points' score against the sum of all "
        "others at the horizon; it changes sign at the collapse time.",
    ),
    "n_parameters": Criterion(
        axis="training",
        title="parameters",
        summary="Trainable numbers of the network.",
    ),
    "n_steps": Criterion(
        axis="training",
        title="gradient steps",
        summary="Steps that were trained; a budget in epochs makes them grow with n.",
    ),
    "training_loss": Criterion(
        axis="training",
        title="training loss",
        summary="Mean squared error of the network's own target over the last steps.",
    ),
    "tau_gen": Criterion(
        axis="training",
        title="steps to quality, τ_gen",
        summary="First step at which sliced W2 is within twice that of fresh points; infinite "
        "where it is not reached.",
    ),
    "tau_mem": Criterion(
        axis="training",
        title="steps to memorization, τ_mem",
        summary="First step at which 5 % of the samples are memorized, beyond chance; infinite "
        "where it is not reached.",
    ),
}

GROUPS: dict[str, tuple[str, ...]] = {
    "kernel_l2": ("kernel_l2_training", "kernel_l2_original", "delta", "delta_held_out"),
    "coordinate_kernel_l2": (
        "coordinate_kernel_l2_training",
        "coordinate_kernel_l2_original",
        "coordinate_delta",
        "coordinate_delta_held_out",
    ),
    "label_test": ("train_bias", "copying"),
    "collapse": ("collapse_time", "own_weight", "posterior_entropy", "participation_ratio"),
    "late_times": ("linear_share", "linear_share_clean", "own_log_odds"),
    "training_time": ("n_parameters", "n_steps", "training_loss", "tau_gen", "tau_mem"),
}

CEILINGS: dict[str, float] = {
    "delta": 1.0,
    "delta_held_out": 0.5,
    "coordinate_delta": 1.0,
    "coordinate_delta_held_out": 0.5,
}
"""Criteria read by their sign, with the share of positive ones at which they end; an onset is
where the share is half of that."""

DERIVED: dict[str, str] = {
    **{f"{name}_positive": name for name in CEILINGS},
    "train_bias_z": "train_bias",
    "train_bias_p": "train_bias",
    "copying_p": "copying",
}
"""Exported beside a criterion: the sign of a delta, the statistics of a label test."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What a generator yields.

    Attributes:
        draw: n samples from a generator of noise, shape (n, d).
        law: the law of the samples where it is known in closed form.
        own: criteria this generator evaluates its own way (the published arithmetic).
        facts: how the model was trained: "training" criteria, and the ends of their intervals
            by their names with _low and _high.
    """

    draw: Callable[[int, torch.Generator], Vectors]
    law: Gaussian | GaussianMixture | Smoothed | None = None
    own: Mapping[str, Callable[["Scene"], float]] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A set of points a generator is compared with.

    Attributes:
        smoothed: the points and their kernel width.
        log_off: log of the off-diagonal part of the set's self overlap; NaN if not needed.
        expected_from: the law of the points, where expectations over it replace the points.
        known: terms already computed, by the identity of their law.
    """

    smoothed: Smoothed
    log_off: float
    expected_from: Gaussian | None = None
    known: dict[int, tuple[object, KernelTerms]] = field(default_factory=dict, repr=False)

    @property
    def points(self) -> Vectors:
        return self.smoothed.points

    def terms(self, law: Gaussian | GaussianMixture | Smoothed) -> KernelTerms:
        """The kernel terms of E between a law and this set, kept for the next role."""
        if id(law) not in self.known:
            if self.expected_from is None:
                terms = distances.kernel_terms(law, self.smoothed, log_off=self.log_off)
            else:
                terms = self._expected_terms(law, self.expected_from)
            self.known[id(law)] = (law, terms)
        return self.known[id(law)][1]

    def _expected_terms(
        self, law: Gaussian | GaussianMixture | Smoothed, source: Gaussian
    ) -> KernelTerms:
        """The same, in expectation over sets of this size: (A5), any generated law."""
        width = self.smoothed.bandwidth
        terms = distances.expected_kernel_terms(source, source, len(self.points), width)
        widened = source.covariance
        widened.diagonal().add_(width**2)
        cross = distances.log_overlap(law, Gaussian(source.mean, widened))
        return replace(terms, log_cross=cross)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything the criteria of one role of one cell look at.

    Attributes:
        generated: the generator; `samples` its draws, `twin_samples` those of a model fitted on a
            disjoint set, from the same noise.
        training, held_out: n points each; original: the points that stand for the source.
        source: the true law; its std sets the kernels' scale.
        keep_self: whether the self terms of (1) differ between T and O (any width rule but the
            paper's, where they cancel exactly).
        seed: of the evaluation's own draws.
    """

    generated: Generated
    samples: Vectors
    twin_samples: Vectors
    training: Reference
    held_out: Reference
    original: Reference
    std: float
    source: Source | None
    keep_self: bool
    seed: int


def evaluate(names: Sequence[str], scene: Scene) -> dict[str, float]:
    """Every named criterion of a scene, and the numbers derived ones are read from."""
    values: dict[str, float] = {}
    for family, members in _FAMILIES:
        if any(name in members for name in names):
            values |= family(scene)
    kept = {*names, *_COMPANIONS}
    values |= {name: own(scene) for name, own in scene.generated.own.items() if name in names}
    if "delta" in scene.generated.own and "delta" in names:
        values["delta_log_ratio"] = math.nan
    return {name: value for name, value in values.items() if name in kept}


_COMPANIONS = (
    "delta_log_ratio",
    "delta_held_out_log_ratio",
    "train_bias_z",
    "train_bias_p",
    "copying_p",
)


def _kernel(scene: Scene) -> dict[str, float]:
    law = scene.generated.law or Smoothed(points=scene.samples, bandwidth=0.0)
    training, original, held_out = (
        r.terms(law) for r in (scene.training, scene.original, scene.held_out)
    )
    delta = distances.kernel_delta(training, original, keep_self=scene.keep_self)
    matched = distances.kernel_delta(training, held_out, keep_self=False)
    return {
        "kernel_l2_training": distances.kernel_l2(training),
        "kernel_l2_original": distances.kernel_l2(original),
        "delta": delta.value,
        "delta_log_ratio": delta.log_ratio,
        "delta_held_out": matched.value,
        "delta_held_out_log_ratio": matched.log_ratio,
    }


def _coordinates(scene: Scene) -> dict[str, float]:
    training, original, held_out = (
        distances.coordinate_kernel_l2(scene.samples, reference.points, scene.std)
        for reference in (scene.training, scene.original, scene.held_out)
    )
    return {
        "coordinate_kernel_l2_training": training,
        "coordinate_kernel_l2_original": original,
        "coordinate_delta": training - original,
        "coordinate_delta_held_out": training - held_out,
    }


def _laws(scene: Scene) -> dict[str, float]:
    law, source = scene.generated.law, scene.source
    if not isinstance(source, Gaussian):
        raise DataError("Hellinger and KL need a Gaussian source.")
    if not isinstance(law, Gaussian):  # atoms have no overlap with a density
        return {
            "hellinger_squared": 1.0,
            "affinity_rate": 0.0,
            "kl_to_source": math.inf,
            "kl_from_source": math.inf,
        }
    return {
        "hellinger_squared": distances.hellinger_squared(law, source),
        "affinity_rate": distances.affinity_rate(law, source),
        "kl_to_source": distances.kl(law, source),
        "kl_from_source": distances.kl(source, law),
    }


def _as_gaussian(law: object, samples: Vectors) -> Gaussian:
    """The Gaussian of equal mean and covariance: exact where the law is known."""
    if isinstance(law, Gaussian):
        return law
    if isinstance(law, GaussianMixture):
        return Gaussian(law.mean, law.covariance)
    points = law.points if isinstance(law, Smoothed) else samples
    return Gaussian.fit(points)


def _moments(scene: Scene) -> dict[str, float]:
    generated = _as_gaussian(scene.generated.law, scene.samples)
    true = _as_gaussian(scene.source, scene.original.points)
    return {
        "bures_wasserstein": distances.bures_wasserstein(generated, true),
        "spread_ratio": float(generated.eigenvalues.sum() / true.eigenvalues.sum()),
    }


def _sample_moments(scene: Scene) -> dict[str, float]:
    true = _as_gaussian(scene.source, scene.original.points)
    generated = Gaussian.fit(scene.samples)
    return {"sample_bures_wasserstein": distances.bures_wasserstein(generated, true)}


def _samples(name: str, distance: Callable[[Vectors, Vectors, int], float]):
    def family(scene: Scene) -> dict[str, float]:
        fresh = scene.original.points[: len(scene.samples)]
        return {name: distance(scene.samples, fresh, scene.seed)}

    return family


def _sliced(x: Vectors, y: Vectors, seed: int) -> float:
    return distances.sliced_wasserstein(x, y, generator=seeds.generator(seed, "projections"))


def _likelihood(scene: Scene) -> dict[str, float]:
    law, width = scene.generated.law, scene.training.smoothed.bandwidth
    density: ExactSource = (
        law
        if isinstance(law, ExactSource)
        else Empirical(law.points if isinstance(law, Smoothed) else scene.samples)
    )
    training, held_out = (
        float(density.log_density(r.points, 1.0, width).mean())
        for r in (scene.training, scene.held_out)
    )
    return {"log_likelihood_gap": training - held_out}


def _neighbours(scene: Scene) -> dict[str, float]:
    samples, training, held_out = scene.samples, scene.training.points, scene.held_out.points
    bias, near = verdict.label_tests(samples, training, held_out)
    return {
        "train_bias": bias.share,
        "train_bias_z": bias.z,
        "train_bias_p": bias.p_value,
        "copying": near.excess,
        "copying_p": near.p_value,
    }


def _memorized(scene: Scene) -> dict[str, float]:
    fraction = verdict.memorized_fraction(scene.samples, scene.training.points)
    return {"memorized_fraction": fraction.value}


def _overlap(scene: Scene) -> dict[str, float]:
    one, two = (s - s.mean(0) for s in (scene.samples, scene.twin_samples))
    return {"overlap": float((one * two).sum() / (one.square().sum() * two.square().sum()).sqrt())}


_FAMILIES: tuple[tuple[Callable[[Scene], dict[str, float]], tuple[str, ...]], ...] = (
    (_kernel, GROUPS["kernel_l2"]),
    (_coordinates, GROUPS["coordinate_kernel_l2"]),
    (_laws, ("hellinger_squared", "affinity_rate", "kl_to_source", "kl_from_source")),
    (_moments, ("bures_wasserstein", "spread_ratio")),
    (_sample_moments, ("sample_bures_wasserstein",)),
    (_samples("wasserstein", lambda x, y, _: distances.wasserstein(x, y)), ("wasserstein",)),
    (_samples("sliced_wasserstein", _sliced), ("sliced_wasserstein",)),
    (
        _samples("energy_distance", lambda x, y, _: distances.energy_distance(x, y)),
        ("energy_distance",),
    ),
    (_samples("mmd", lambda x, y, _: distances.mmd(x, y)), ("mmd",)),
    (_likelihood, ("log_likelihood_gap",)),
    (_memorized, ("memorized_fraction",)),
    (_neighbours, ("train_bias", "copying")),
    (_overlap, ("overlap",)),
)

NEED_SAMPLES = frozenset(
    {
        *GROUPS["coordinate_kernel_l2"],
        *GROUPS["label_test"],
        "sample_bures_wasserstein",
        "wasserstein",
        "sliced_wasserstein",
        "energy_distance",
        "mmd",
        "memorized_fraction",
        "overlap",
    }
)
"""Criteria that look at samples even where the law is known."""


def collapse_facts(training: Vectors, noise: NoiseProcess, *, seed: int) -> dict[str, float]:
    """How far noise hides the training points from their exact denoiser: group "collapse".

    Args:
        training: shape (n, d).
        noise: of the model.
        seed: of 400 noisy points for each number.

    Reference:
        Theory note (D1) to (D4).
    """
    source, (alpha, sigma) = Empirical(training), at_horizon(noise)
    draws = seeds.generator(seed, "collapse")
    own = torch.randint(len(training), (400,), generator=draws)
    eps = torch.randn(400, source.dim, dtype=torch.float64, generator=draws)
    x_t = alpha * source.points[own] + sigma * eps
    found = source.posterior(x_t, alpha, sigma, own=own)
    return {
        "collapse_time": measure_collapse_time(source, noise, generator=draws),
        "own_weight": float(found.own.median()),
        "posterior_entropy": float(found.entropy.mean()),
        "participation_ratio": float(found.participation.mean()),
    }


def late_facts(
    law: Gaussian | GaussianMixture | Empirical,
    training: Vectors,
    noise: NoiseProcess,
    *,
    seed: int,
) -> dict[str, float]:
    """How linear the exact score is at the horizon, and who decides it: group "late_times".

    Args:
        law: whose exact score it is.
        training: the points whose own terms are compared, shape (n, d).
        noise: of the model.
        seed: of 400 noisy points for each number.

    Reference:
        Halder and Pehlevan, section 2.3; theory note (D5).
    """
    source, (alpha, sigma) = Empirical(training), at_horizon(noise)
    share = linear_share(law, alpha, sigma, generator=seeds.generator(seed, "linear share"))
    draws = seeds.generator(seed, "own term")
    own = torch.randint(len(training), (400,), generator=draws)
    eps = torch.randn(400, source.dim, dtype=torch.float64, generator=draws)
    odds = source.own_log_odds(alpha * source.points[own] + sigma * eps, alpha, sigma, own)
    return {
        "linear_share": share.score,
        "linear_share_clean": share.clean,
        "own_log_odds": float(odds.median()),
    }


def criterion_onset(
    name: str,
    n: Sequence[int],
    tables: Mapping[str, np.ndarray],
    *,
    floor: float | None = None,
    confidence: float = 0.95,
) -> Onset:
    """The onset of one criterion, read as the theory allows.

    The sign of a delta has known ends, so its n* is where P crosses their middle (1/2; 1/4 for
    the size-matched delta, whose ceiling is 1/2); it is fitted on the log ratio behind the sign,
    where there is one.
    Other memorization criteria are read between the measured poles. Quality criteria have no
    such position: their n is where they come within a factor 2 of the closed-form floor of the
    model, or of the oracle where there is none.

    Args:
        name: a criterion.
        n: training-set sizes.
        tables: "model", "memorizer", "oracle" and, for a delta, "log_ratio": each of shape
            (replicates, number of n).
        floor: closed-form limit of a quality criterion, where known.
        confidence: of the interval.
    """
    model = tables["model"]
    if name in CEILINGS:
        ceiling = CEILINGS[name]
        ratio = tables["log_ratio"]
        if np.isfinite(ratio).any():
            return estimate_onset(
                n,
                values=ratio,
                quantile=ceiling / 2,
                level=0.0,
                ceiling=ceiling,
                confidence=confidence,
            )
        trials = np.isfinite(model).sum(0)
        successes = (model > 0).sum(0)
        return estimate_onset(n, successes, trials, ceiling=ceiling, confidence=confidence)
    if CRITERIA[name].axis == "memorization":
        return estimate_onset(
            n,
            values=model,
            memorizer=tables["memorizer"],
            oracle=tables["oracle"],
            confidence=confidence,
        )
    oracle = np.ma.masked_invalid(tables["oracle"]).mean(0).filled(np.nan)
    reference = floor if floor else oracle
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.abs(np.log(model / reference))
    return estimate_onset(
        n, values=excess, quantile=0.5, level=math.log(2.0), confidence=confidence
    )
