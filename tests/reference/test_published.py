"""The published arithmetic against a direct evaluation of its formulas, point by point."""

import math

import pytest
import torch

from genonset import distances, seeds
from genonset.criteria import Reference, Scene, evaluate
from genonset.distances import Smoothed
from genonset.errors import DataError
from genonset.noise import OrnsteinUhlenbeck
from genonset.published import PublishedArithmetic
from genonset.sources import Gaussian

PAPER = OrnsteinUhlenbeck(horizon=2.0, noise_scale=math.exp(-4))
ALL_OFF = PublishedArithmetic(transpose=False, float32_bandwidth=False, determinant_cutoff=False)


def points(n, d, *names):
    return 10 + torch.randn(n, d, dtype=torch.float64, generator=seeds.generator(0, *names))


def reference(rows, std=1.0):
    width = distances.kernel_bandwidth("paper", len(rows), rows.shape[1], std)
    smoothed = Smoothed(points=rows, bandwidth=width)
    return Reference(smoothed=smoothed, log_off=distances.log_off_diagonal(smoothed))


def slow_error(mu, covariance, data):
    """E_XG term by term: loops over pairs, an inverse a point, float32 where the script has it."""
    n, d = data.shape
    eps = torch.tensor(1) * torch.tensor((1 / n) ** (1 / d))
    pairs = torch.tensor(0.0)
    for row in data.float():
        pairs += torch.exp(-((row - data.float()) ** 2).sum(1) / (4 * eps**2)).sum()
    widened = covariance + eps.double() ** 2 * torch.eye(d).double()
    single = sum(
        math.exp(-0.5 * float((mu - x) @ torch.linalg.inv(widened) @ (mu - x))) for x in data
    )
    own = (1 / (torch.sqrt(2 * torch.tensor(torch.pi)) * (2 * eps**2) ** (d / 2) * n**2)) * pairs
    determinant = float(torch.linalg.det(widened))
    return float(own) - 2 * single / (n * math.sqrt(2 * math.pi * determinant))


@pytest.mark.parametrize(("d", "n"), [(4, 30), (16, 20), (16, 60)])
def test_error_agrees_with_a_term_by_term_evaluation(d, n):
    training = points(n, d, "training", d)
    generated = PublishedArithmetic().fit(training, PAPER, generator=seeds.generator(1))
    law = generated.law
    for rows in (training, points(200, d, "original")):
        found = PublishedArithmetic().error(law, reference(rows), 1.0)
        assert found == pytest.approx(slow_error(law.mean, law.covariance, rows), rel=2e-6)


def test_law_is_b_transpose_b():
    training = points(12, 3, "training")
    one = PublishedArithmetic().fit(training, PAPER, generator=seeds.generator(1)).law
    other = ALL_OFF.fit(training, PAPER, generator=seeds.generator(1)).law
    torch.testing.assert_close(one.mean, other.mean)
    # equal spectrum, another orientation
    torch.testing.assert_close(one.eigenvalues, other.eigenvalues)
    assert float((one.covariance - other.covariance).abs().max()) > 0.01


def test_all_switches_off_is_the_corrected_error_times_a_constant():
    d, training = 5, points(20, 5, "training")
    law = ALL_OFF.fit(training, PAPER, generator=seeds.generator(1)).law
    for rows in (training, points(100, d, "original")):
        terms = distances.kernel_terms(law, reference(rows).smoothed)
        corrected = distances.kernel_l2(terms) * (2 * math.pi) ** ((d - 1) / 2)
        assert ALL_OFF.error(law, reference(rows), 1.0) == pytest.approx(corrected, rel=1e-10)
    source = Gaussian(10 * torch.ones(d), 1.0)
    assert ALL_OFF.hellinger_squared(law, source) == pytest.approx(
        distances.hellinger_squared(law, source), rel=1e-9
    )


def test_rounding_of_the_self_term_decides_the_sign_at_d_100():
    """Near n = d, E_TG - E_OG has the sign of the float32 rounding of the self terms."""
    arithmetic, d = PublishedArithmetic(), 100
    for n in (90, 100, 110, 125):
        signs = set()
        for replicate in range(3):
            training, original = points(n, d, "t", replicate), points(2000, d, "o", replicate)
            law = arithmetic.fit(training, PAPER, generator=seeds.generator(1, replicate)).law
            terms = [arithmetic.error(law, reference(r), 1.0) for r in (training, original)]
            spread = abs(terms[0] - terms[1])
            exact = distances.kernel_delta(
                *(
                    distances.kernel_terms(law, reference(r).smoothed)
                    for r in (training, original)
                ),
                keep_self=False,
            )
            true_size = abs(exact.value) * (2 * math.pi) ** ((d - 1) / 2)
            assert spread == 0 or spread > 100 * true_size
            signs.add(terms[0] > terms[1])
        assert len(signs) == 1


def test_determinant_cutoff_makes_hellinger_one():
    source = Gaussian(torch.zeros(100), 1.0)
    law = Gaussian(torch.zeros(100), 0.5)  # ln det = -69, true affinity rate 0.97
    assert PublishedArithmetic().hellinger_squared(law, source) == 1.0
    assert ALL_OFF.hellinger_squared(law, source) == pytest.approx(
        1 - 0.5**25 * 1.5**-50 * 2**50, rel=1e-9
    )


def test_own_criteria_replace_the_corrected_ones():
    training, held_out, original = (
        reference(points(n, 4, s)) for n, s in ((9, "t"), (9, "h"), (50, "o"))
    )
    arithmetic = PublishedArithmetic()
    generated = arithmetic.fit(training.points, PAPER, generator=seeds.generator(1))
    options = {
        "generated": generated,
        "samples": training.points,
        "twin_samples": training.points,
        "training": training,
        "held_out": held_out,
        "original": original,
        "std": 1.0,
        "keep_self": False,
        "seed": 0,
    }
    scene = Scene(**options, source=Gaussian(10 * torch.ones(4), 1.0))
    values = evaluate(("delta", "delta_held_out", "hellinger_squared"), scene)
    assert values["delta"] == arithmetic.error(generated.law, training, 1.0) - arithmetic.error(
        generated.law, original, 1.0
    )
    assert math.isnan(values["delta_log_ratio"])
    anisotropic = Scene(**options, source=Gaussian(torch.zeros(4), torch.tensor([1.0, 2, 3, 4])))
    with pytest.raises(DataError, match="isotropic"):
        evaluate(("hellinger_squared",), anisotropic)
