"""Peers against SciPy, scikit-learn and all distances written out."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

import genonset
from genonset import peers, seeds
from genonset.errors import DataError


def gaussian(n, dim, *names):
    return torch.randn(n, dim, generator=seeds.generator(4, *names), dtype=torch.float64)


def test_rank_test_has_the_value_of_the_theory_note():
    test = peers.rank_test(torch.tensor([0.1, 0.4, 0.9]), torch.tensor([0.3, 0.5, 0.7, 1.1]))
    assert test.u == 4
    assert test.z == pytest.approx(-0.707107, rel=1e-5)


def test_rank_test_is_that_of_scipy():
    a, b = gaussian(40, 1, "a")[:, 0].abs(), gaussian(70, 1, "b")[:, 0].abs()
    a[:5] = b[:5]  # ties
    ours = peers.rank_test(a, b)
    theirs = stats.mannwhitneyu(a, b, alternative="less", use_continuity=False)
    assert ours.u == theirs.statistic
    theirs = stats.mannwhitneyu(
        a, b, alternative="less", use_continuity=False, method="asymptotic"
    )
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)


def test_rank_test_of_discrete_distances():
    """Ties shrink the variance of U; scipy corrects for them as well."""
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 3, 60).astype(float), rng.integers(0, 4, 50).astype(float)
    theirs = stats.mannwhitneyu(
        a, b, alternative="less", use_continuity=False, method="asymptotic"
    )
    ours = peers.rank_test(torch.from_numpy(a), torch.from_numpy(b))
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    equal = peers.rank_test(torch.ones(4), torch.ones(3))
    assert (equal.z, equal.p_value) == (0, 0.5)


def test_authenticity_and_dcr_from_all_distances():
    training, held_out = gaussian(60, 5, "t"), gaussian(60, 5, "h")
    generated = torch.cat([gaussian(80, 5, "g"), training[:9] + 0.01 * gaussian(9, 5, "near")])
    verdict = genonset.audit(generated, training, held_out)
    to_t, to_h = (cdist(generated, x) for x in (training, held_out))
    among = cdist(training, training)
    np.fill_diagonal(among, np.inf)
    authentic = to_t.min(1) > among.min(1)[to_t.argmin(1)]
    from_h = cdist(held_out, training)
    fresh = from_h.min(1) > among.min(1)[from_h.argmin(1)]
    found = verdict.peers
    assert found["authenticity"].value == pytest.approx(authentic.mean())
    assert found["authenticity"].chance == pytest.approx(fresh.mean())
    table = [[(~authentic).sum(), authentic.sum()], [(~fresh).sum(), fresh.sum()]]
    p_value = stats.fisher_exact(table, alternative="greater").pvalue
    assert found["authenticity"].p_value == pytest.approx(p_value, rel=1e-9)
    assert found["dcr_share"].value == pytest.approx((to_t.min(1) < to_h.min(1)).mean())
    rank = stats.mannwhitneyu(
        to_t.min(1), from_h.min(1), alternative="less", use_continuity=False, method="asymptotic"
    )
    assert found["c_t"].p_value == pytest.approx(rank.pvalue, rel=1e-9)


@pytest.mark.parametrize(("dim", "expected"), [(2, 0.3785), (8, 0.58)])
def test_the_chance_level_of_authenticity_is_that_of_the_data(dim, expected):
    """Theory note (F2): 0.3785 in the plane (locally uniform), 0.58 for Gaussian data, d = 8."""
    shares = []
    for r in range(6):
        sets = (gaussian(n, dim, s, r) for n, s in ((50, "g"), (500, "t"), (500, "h")))
        shares.append(genonset.audit(*sets).peers["authenticity"].chance)
    assert np.mean(shares) == pytest.approx(expected, abs=0.045)


def test_equal_distances_count_half():
    assert peers.nearer_share(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 1.0])) == 0.5


@pytest.mark.parametrize(("n_training", "n_held_out"), [(5, 3), (2, 6)])
def test_the_chance_level_of_the_share_is_the_mean_over_all_labels(n_training, n_held_out):
    n, tied = n_training + n_held_out, torch.tensor([1, 1, 2, 3, 8])
    scores = []
    for chosen in itertools.combinations(range(n), n_training):
        labels = np.isin(np.arange(n), chosen)
        scores.append([(1 + labels[:k].all() - (~labels[:k]).all()) / 2 for k in tied.tolist()])
    found = peers.nearer_by_chance(tied, n_training, n_held_out)
    assert found == pytest.approx(np.mean(scores), rel=1e-12)


def binary(n, *names):
    return (torch.rand(n, 10, generator=seeds.generator(8, *names)) < 0.25).double()


def test_a_perfect_generator_of_binary_rows_scores_the_level_of_the_share():
    """Ten training rows to a held-out one: n_T/N is .909. 40 audits, 4 standard errors."""
    over, levels = [], []
    for r in range(40):
        sets = binary(100, "g", r), binary(1000, "t", r), binary(100, "h", r)
        found = genonset.audit(*sets, n_permutations=99).peers["dcr_share"]
        over.append(found.value - found.chance)
        levels.append(found.chance)
        if r == 0:
            every = [cdist(sets[0], x).round(9) for x in sets[1:]]
            least = np.minimum(*(x.min(1) for x in every))[:, None]
            k = sum((x == least).sum(1) for x in every)
            assert k.max() > 40
            law = stats.hypergeom(1100, 1000, k)
            assert found.chance == pytest.approx((1 + law.pmf(k) - law.pmf(0)).mean() / 2)
    assert abs(np.mean(over)) < 4 * np.std(over) / math.sqrt(40)
    assert max(levels) < 0.8


def test_fisher_is_that_of_scipy():
    ours = peers.fisher(7, 30, 2, 40)
    theirs = stats.fisher_exact([[7, 23], [2, 38]], alternative="greater").pvalue
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert peers.fisher(0, 30, 0, 40) == 1


def by_scikit_learn(generated, reference, k):
    """Precision, recall, density, coverage with scikit-learn's radius search."""

    def radii(x):
        return NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, k]

    among = NearestNeighbors().fit(reference)
    distances, indices = among.kneighbors(generated, n_neighbors=len(reference))
    real, fake = radii(reference), radii(generated)
    inside = np.zeros((len(generated), len(reference)), dtype=bool)
    np.put_along_axis(inside, indices, distances <= real[indices], axis=1)
    recalled = np.zeros_like(inside)
    np.put_along_axis(recalled, indices, distances <= fake[:, None], axis=1)
    return {
        "precision": inside.any(1).mean(),
        "recall": recalled.any(0).mean(),
        "density": inside.sum() / (k * len(generated)),
        "coverage": inside.any(0).mean(),
    }


@pytest.mark.parametrize(("m", "n", "scale"), [(70, 40, 1.0), (30, 90, 0.5), (50, 50, 2.0)])
def test_manifold_is_that_of_scikit_learn(m, n, scale, monkeypatch):
    monkeypatch.setattr(peers, "_BLOCK", 500)  # several blocks
    generated, reference = scale * gaussian(m, 4, "mg"), gaussian(n, 4, "mr")
    ours = peers.manifold(generated, reference)
    expected = by_scikit_learn(generated.numpy(), reference.numpy(), 5)
    assert vars(ours) == pytest.approx(expected)
    assert ours.precision != ours.recall


@pytest.mark.parametrize("unit", [1.0, 0.01, 0.1, 2.0**-40])
def test_balls_are_closed(unit):
    """Whole numbers have ties: the sums of squares are counted as integers, in any unit."""
    whole = np.random.default_rng(8).integers(0, 4, size=(90, 3))
    g, h = whole[:50], whole[50:]

    def squares(a, b):
        return ((a[:, None] - b[None]) ** 2).sum(2)

    real, fake = (np.sort(squares(x, x), 1)[:, 5] for x in (h, g))
    inside, reached = squares(g, h) <= real, squares(g, h) <= fake[:, None]
    open_inside = squares(g, h) < real
    assert inside.sum() > 1.5 * open_inside.sum(), "the case has ties"
    expected = {
        "precision": inside.any(1).mean(),
        "recall": reached.any(0).mean(),
        "density": inside.sum() / (5 * len(g)),
        "coverage": inside.any(0).mean(),
    }
    found = peers.manifold(*(torch.from_numpy(unit * x) for x in (g, h)))
    assert vars(found) == pytest.approx(expected)


def test_a_set_of_repeated_points_is_covered_by_itself():
    """Their balls have radius 0 and hold the points they lie at."""
    points = gaussian(10, 3, "repeated").repeat(6, 1)
    assert vars(peers.manifold(points, points)) == pytest.approx(
        {"precision": 1.0, "recall": 1.0, "density": 6 / 5, "coverage": 1.0}
    )


def test_ties_do_not_depend_on_the_unit():
    """Integer squares in the unit of cents: what ties in dollars ties in cents."""
    dollars = np.random.default_rng(9).integers(0, 9, size=(160, 2))
    sets = np.split(dollars, [60, 110])
    to_t, to_h = (((sets[0][:, None] - x[None]) ** 2).sum(2).min(1) for x in sets[1:])
    control = ((sets[2][:, None] - sets[1][None]) ** 2).sum(2).min(1)
    u = (to_t[:, None] > control).sum() + (to_t[:, None] == control).sum() / 2
    share = (to_t < to_h).mean() + (to_t == to_h).mean() / 2
    assert (to_t == to_h).any()
    for unit in (1.0, 0.01, 1 / 3):
        distances = [torch.from_numpy(unit * np.sqrt(x)) for x in (to_t, to_h, control)]
        noise = 1 + 1e-15 * torch.from_numpy(np.random.default_rng(1).normal(size=(3, 60)))
        noisy = [d * n[: len(d)] for d, n in zip(distances, noise, strict=True)]
        assert peers.rank_test(noisy[0], noisy[2]).u == u
        assert peers.nearer_share(noisy[0], noisy[1]) == pytest.approx(share)
        spacing = distances[0].clone()
        assert not peers.authentic(noisy[0], torch.arange(60), spacing).any()


def test_authenticity_takes_equal_training_points_for_one():
    """(2) with the distinct training points: a pair of equal ones has no spacing of 0."""
    training = gaussian(60, 3, "at").repeat(2, 1)
    generated, held_out = gaussian(50, 3, "ag"), gaussian(120, 3, "ah")
    among = cdist(training[:60], training[:60])
    np.fill_diagonal(among, np.inf)
    to_t = cdist(generated, training[:60])
    expected = (to_t.min(1) > among.min(1)[to_t.argmin(1)]).mean()
    assert 0 < expected < 1
    assert genonset.audit(generated, training, held_out).peers["authenticity"].value == expected


def test_kernel_delta_does_not_depend_on_where_the_points_lie():
    lattice = [(1024 * gaussian(n, 4, "lattice", n)).round() / 1024 for n in (60, 61, 62)]
    lattice[0][:20] = lattice[1][:20]
    here = genonset.audit(*lattice).peers["kernel_delta"]
    assert here.p_value < 0.01
    for shift in (2.0**20, 2.0**30):
        there = genonset.audit(*(x + shift for x in lattice)).peers["kernel_delta"]
        assert there.p_value == here.p_value
        assert there.value == pytest.approx(here.value, rel=1e-6)


def test_sets_that_are_refused():
    with pytest.raises(DataError, match="two points a set"):
        peers.manifold(gaussian(1, 2, "a"), gaussian(5, 2, "b"))
    with pytest.raises(DataError, match="got 0 and 3"):
        peers.rank_test(torch.zeros(0), torch.zeros(3))


def test_an_audit_on_the_distances_of_faiss():
    """Nearest distances, C_T, authenticity, DCR share and gap ratio, from its flat indices."""
    faiss = pytest.importorskip("faiss")
    generated, training, held_out = (
        gaussian(n, 24, "faiss", k).float() for k, n in enumerate((90, 120, 110))
    )
    generated[:15] = training[:15] + 0.01 * generated[:15]

    def search(queries, points, k):
        index = faiss.IndexFlatL2(24)
        index.add(points.numpy())
        squared, where = index.search(queries.numpy(), k)
        return np.sqrt(squared), where

    found = genonset.audit(generated, training, held_out)
    to_t, where = search(generated, training, 2)
    to_h, _ = search(generated, held_out, 1)
    fresh, fresh_where = search(held_out, training, 2)
    own = search(training, training, 2)[0][:, 1]
    np.testing.assert_allclose(found.evidence.to_training, to_t[:, 0], rtol=2e-3)
    np.testing.assert_allclose(found.evidence.to_held_out, to_h[:, 0], rtol=1e-5)
    np.testing.assert_array_equal(found.evidence.nearest_training, where[:, 0])
    test = stats.mannwhitneyu(to_t[:, 0], fresh[:, 0], use_continuity=False, method="asymptotic")
    z = (test.statistic - 90 * 110 / 2) / np.sqrt(90 * 110 * 201 / 12)
    assert found.peers["c_t"].value == pytest.approx(z)
    assert found.peers["authenticity"].value == np.mean(to_t[:, 0] > own[where[:, 0]])
    assert found.peers["authenticity"].chance == np.mean(fresh[:, 0] > own[fresh_where[:, 0]])
    assert found.peers["dcr_share"].value == np.mean(to_t[:, 0] < to_h[:, 0])
    assert found.copying.memorized_fraction == np.mean(to_t[:, 0] < to_t[:, 1] / 3)
    assert found.copying.control_fraction == np.mean(fresh[:, 0] < fresh[:, 1] / 3)
