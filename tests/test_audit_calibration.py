"""An audit's false alarms and finds, counted over many audits. Slow; seeds are fixed.

Shares of rejections are held against the binomial interval of 99.9 %, randomized p-values against
the uniform law at 1 in 2000.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import genonset
from genonset import datasets, estimates, seeds

N_TRIALS = 1000


def gaussian(n, dim, *names):
    return torch.randn(n, dim, generator=seeds.generator(1, *names), dtype=torch.float64)


def of(dataset, *names):
    """100 samples, 200 training and 200 held-out points of a finite data set, disjoint."""
    points = dataset.points
    order = torch.randperm(len(points), generator=seeds.generator(2, *names))
    return tuple(points[part] for part in order[:500].split([100, 200, 200]))


def three(dim, r):
    return gaussian(100, dim, "g", r), gaussian(200, dim, "t", r), gaussian(200, dim, "h", r)


NULLS = {
    "gaussian": lambda r: three(16, r),
    "plane": lambda r: three(2, r),
    "digits": lambda r: of(datasets.digits(), "digits", r),
    "glyphs": lambda r: of(datasets.glyphs(), "glyphs", r),
}


def near(verdict):
    """Near samples by row of the pool, and the p-value of copying; nothing may be flagged."""
    assert not verdict.copying.flagged
    return verdict.evidence.background, verdict.copying.p_value


def nearest(verdict):
    """All samples by row of the pool, without ties, and the p-value of train bias."""
    e = verdict.evidence
    mine = e.to_training < e.to_held_out
    rows = torch.where(mine, e.nearest_training, 200 + e.nearest_held_out)
    return np.bincount(rows, minlength=400), verdict.train_bias.p_value


def randomized(counts, p_value, *names):
    """P(S > s) + U P(S = s): exactly uniform if the law of S is right, however discrete."""
    above = estimates.subset_sum_tail(counts, 200, counts[:200].sum() + 1)
    u = float(torch.rand(1, generator=seeds.generator(4, *names)))
    return above + u * (p_value - above)


@pytest.mark.slow
@pytest.mark.parametrize("data", NULLS)
def test_p_values_are_uniform_and_flags_rare_where_nothing_is_copied(data):
    verdicts = [genonset.audit(*NULLS[data](r), seed=r) for r in range(N_TRIALS)]
    for p in (
        [v.copying.p_value for v in verdicts],
        [v.train_bias.p_value for v in verdicts],
        [v.peers["kernel_delta"].p_value for v in verdicts],
    ):
        for level in (0.05, 0.2, 0.5):
            rejected = sum(x <= level for x in p)
            print(data, level, rejected)
            assert stats.binom.sf(rejected - 1, N_TRIALS, level) > 5e-4, "too many false alarms"
    for name, counts in (("copying", near), ("train bias", nearest)):
        spread = [randomized(*counts(v), data, r) for r, v in enumerate(verdicts)]
        uniform = stats.kstest(spread, "uniform").pvalue
        print(data, name, "randomized p-values against the uniform law:", uniform)
        assert uniform > 5e-4
    bias = np.array([v.train_bias.p_value for v in verdicts])
    assert stats.binom.cdf((bias <= 0.05).sum(), N_TRIALS, 0.05) > 5e-4, "too few: conservative"
    flagged = sum(bool(v.copying.flagged) for v in verdicts)
    print(data, "flagged", flagged)
    assert stats.binom.sf(flagged - 1, N_TRIALS, 0.05) > 5e-4
    low = sum(v.train_bias.low > v.train_bias.expected for v in verdicts)
    high = sum(v.train_bias.high < v.train_bias.expected for v in verdicts)
    print(data, "interval misses", low, high)
    assert low + high < 0.07 * N_TRIALS


@pytest.mark.slow
def test_a_tenth_of_copies_is_found_where_preference_alone_is_blind():
    found = biased = true = named = 0
    for r in range(200):
        training, held_out, generated = (
            gaussian(n, 64, s, r) for n, s in ((200, "ct"), (200, "ch"), (300, "cg"))
        )
        chosen = torch.randint(200, (30,), generator=seeds.generator(3, r))
        generated[:30] = training[chosen] + 0.05 * gaussian(30, 64, "jitter", r)
        verdict = genonset.audit(generated, training, held_out)
        found += verdict.verdict == "copying"
        biased += verdict.train_bias.p_value <= 0.05
        named += len(verdict.copying.flagged)
        true += sum(f.index < 30 and f.nearest == chosen[f.index] for f in verdict.copying.flagged)
    print("found", found, "biased", biased, "named", named, "true", true)
    assert found >= 0.95 * 200
    assert biased < 0.5 * 200
    assert true >= 0.95 * 30 * 200
    assert named - true <= 0.1 * named


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "n_copies"), [(2, 20), (3, 12), (64, 8)])
def test_false_discoveries_stay_nominal_beside_true_copies(dim, n_copies):
    """In few dimensions innocent samples come near points too; they must stay a tenth."""
    shares = []
    for r in range(300):
        training, held_out, generated = (
            gaussian(n, dim, s, dim, r) for n, s in ((200, "ft"), (200, "fh"), (300, "fg"))
        )
        generated[:n_copies] = training[:n_copies]
        flagged = genonset.audit(generated, training, held_out).copying.flagged
        points = {f.nearest for f in flagged}
        false = points - set(range(n_copies))
        shares.append(len(false) / max(1, len(points)))
    error = float(np.std(shares)) / math.sqrt(len(shares))
    print(dim, n_copies, "false discoveries", np.mean(shares), "+-", error)
    assert np.mean(shares) <= 0.1 + 3 * error


@pytest.mark.slow
def test_a_robust_search_keeps_the_level():
    """The least distance over views knows no label: p-values are those of any other distance."""
    n_trials, source = 300, datasets.digits()
    verdicts = []
    for r in range(n_trials):
        sets = (source.restore(x) for x in of(source, "robust", r))
        verdicts.append(genonset.audit(*sets, robust=True, n_permutations=1000, seed=r))
    for level in (0.05, 0.2, 0.5):
        for name in ("copying", "train_bias"):
            rejected = sum(getattr(v, name).p_value <= level for v in verdicts)
            print("robust", name, level, rejected)
            assert stats.binom.sf(rejected - 1, n_trials, level) > 5e-4, "too many false alarms"
    biased = sum(v.train_bias.p_value <= 0.05 for v in verdicts)
    assert stats.binom.cdf(biased, n_trials, 0.05) > 5e-4, "too few: conservative"
    flagged = sum(bool(v.copying.flagged) for v in verdicts)
    print("robust, flagged", flagged)
    assert stats.binom.sf(flagged - 1, n_trials, 0.05) > 5e-4
