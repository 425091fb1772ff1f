"""Sources, noise and seeds against SciPy, quadrature, mpmath and the theory note's values."""

import hashlib
import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, linalg, stats

from genonset import seeds, sources
from genonset.errors import ConfigError, DataError
from genonset.noise import OrnsteinUhlenbeck, at_horizon
from genonset.sources import Circle, Empirical, Gaussian, GaussianMixture, TwoMoons

MEAN = np.array([1.0, -2.0, 0.5])
DENSE = np.array([[2.0, 0.6, 0.1], [0.6, 1.0, -0.3], [0.1, -0.3, 0.5]])
SINGULAR = np.outer([1.0, 2.0, -1.0], [1.0, 2.0, -1.0])
COVARIANCES = {
    "isotropic": 0.7 * np.eye(3),
    "diagonal": np.diag([2.0, 0.5, 1e-3]),
    "dense": DENSE,
    "singular": SINGULAR,
}
LEVELS = [(1.0, 0.3), (0.6, 0.8), (0.05, 1.5)]
X = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
kinds = pytest.mark.parametrize("kind", COVARIANCES)
levels = pytest.mark.parametrize(("alpha", "sigma"), LEVELS)


def double(values) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def law(kind: str) -> Gaussian:
    """The law of a kind, with its covariance in the shortest form that states it."""
    matrix = double(COVARIANCES[kind])
    if kind == "isotropic":
        return Gaussian(double(MEAN), 0.7)
    return Gaussian(double(MEAN), matrix.diagonal() if kind == "diagonal" else matrix)


# Gaussian


@kinds
@levels
def test_gaussian_log_density_against_scipy(kind, alpha, sigma):
    reference = stats.multivariate_normal(
        alpha * MEAN, alpha**2 * COVARIANCES[kind] + sigma**2 * np.eye(3)
    )
    found = law(kind).log_density(X, alpha, sigma)
    np.testing.assert_allclose(found, reference.logpdf(X), rtol=1e-10)


@kinds
@levels
def test_gaussian_posterior_mean_is_the_regression_on_x_t(kind, alpha, sigma):
    """Conditioning of the joint normal of (x_0, x_t), by a linear solve."""
    covariance = COVARIANCES[kind]
    gain = np.linalg.solve(alpha**2 * covariance + sigma**2 * np.eye(3), alpha * covariance).T
    expected = MEAN + (X.numpy() - alpha * MEAN) @ gain.T
    np.testing.assert_allclose(law(kind).posterior_mean(X, alpha, sigma), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal"])
def test_forms_of_one_covariance_agree(kind):
    short, long = law(kind), Gaussian(double(MEAN), double(COVARIANCES[kind]))
    torch.testing.assert_close(short.covariance, long.covariance)
    torch.testing.assert_close(short.log_density(X, 0.6, 0.4), long.log_density(X, 0.6, 0.4))
    assert short.std == pytest.approx(long.std)


def test_clean_gaussian_is_returned_unchanged_where_it_has_a_law():
    torch.testing.assert_close(law("dense").posterior_mean(X, 1.0, 0.0), X)
    on_support = Gaussian(double(MEAN), double(SINGULAR)).posterior_mean(X, 1.0, 0.0)
    direction = double([1.0, 2.0, -1.0]) / 6**0.5
    projected = double(MEAN) + ((X - double(MEAN)) @ direction)[:, None] * direction
    torch.testing.assert_close(on_support, projected)


def test_singular_law_without_noise_has_no_density():
    with pytest.raises(DataError, match="use sigma > 0"):
        law("singular").log_density(X, 1.0, 0.0)


def test_gaussian_samples_use_the_symmetric_root():
    """Equal noise gives mean + C^(1/2) z, SciPy's square root."""
    drawn = law("dense").sample(50, generator=seeds.generator(0, "root"))
    z = torch.randn(50, 3, dtype=torch.float64, generator=seeds.generator(0, "root"))
    np.testing.assert_allclose(drawn, MEAN + z.numpy() @ linalg.sqrtm(DENSE), atol=1e-12)


@kinds
def test_gaussian_sample_moments(kind):
    """400,000 draws; 9 moments a kind within 5 standard errors, false alarms 2e-5 in all."""
    n = 400_000
    drawn = law(kind).sample(n, generator=seeds.generator(0, kind)).numpy()
    covariance = COVARIANCES[kind]
    variance = np.diag(covariance)
    assert np.all(np.abs(drawn.mean(0) - MEAN) <= 5 * np.sqrt(variance / n))
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / n)
    assert np.all(np.abs(np.cov(drawn.T) - covariance) <= 5 * error + 1e-12)


def test_from_factor_reads_rank_and_small_eigenvalues():
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0))).Q
    sizes = double([3.0, 1.0, 1e-5, 1e-9])
    wide = Gaussian.from_factor(torch.zeros(5), rotation.double()[:, :4] * sizes)
    assert wide.rank == 4
    assert wide.eigenvalues[:4].tolist() == pytest.approx(sizes.square().tolist(), rel=1e-6)
    assert Gaussian(torch.zeros(5), wide.covariance).rank == 3  # what the product loses


@pytest.mark.parametrize("offset", [0.0, 10.0, 1e3, 1e6])
def test_fitted_gaussians_of_few_points_have_rank_n_minus_one_at_any_offset(offset):
    """2 points on a line among 2 coordinates need the rounding of the mean told from the data:
    one set in three hundred had rank 2."""
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        for n, d in ((2, 2), (5, 9)):
            x = offset + torch.randn(n, d, dtype=torch.float64, generator=generator)
            assert Gaussian.fit(x).rank == n - 1


@pytest.mark.parametrize("k", [2, 3, 4, 9])
def test_from_factor_of_any_width(k):
    factor = torch.randn(4, k, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
    found = Gaussian.from_factor(double([1.0, 2, 3, 4]), factor)
    torch.testing.assert_close(found.covariance, factor @ factor.T)
    assert found.rank == min(4, k)
    assert found.mean.tolist() == [1, 2, 3, 4]


def test_variances_given_as_such_are_kept_however_small():
    spectrum = torch.arange(1, 1001).double() ** -6
    found = Gaussian(torch.zeros(1000), spectrum)
    assert found.rank == 1000
    torch.testing.assert_close(found.eigenvalues, spectrum, rtol=0, atol=0)
    assert Gaussian(torch.zeros(2), double([1.0, 0.0])).rank == 1


def test_rounding_of_a_product_is_not_asymmetry():
    q = torch.linalg.qr(torch.randn(50, 50, generator=torch.Generator().manual_seed(0)).double()).Q
    product = (q * 3.0) @ q.T
    assert not torch.equal(product, product.T)
    assert Gaussian(torch.zeros(50), product).std == pytest.approx(3**0.5)


@pytest.mark.parametrize(
    ("mean", "covariance", "said"),
    [
        ([0.0, 0.0], torch.eye(3), "3, 3"),
        ([0.0, 0.0], torch.ones(3), "one number, 2 numbers or a 2 x 2 matrix"),
        ([0.0, 0.0], torch.tensor([[1.0, 0.5], [0.4, 1.0]]), "not symmetric"),
        ([0.0, 0.0], torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "negative eigenvalue -1"),
        ([0.0, 0.0], -1.0, "negative eigenvalue -1"),
        ([0.0, math.nan], 1.0, "mean: 1 of 2 values are NaN"),
        ([0.0, 0.0], math.inf, "covariance: 1 of 1 values are NaN or infinite"),
        (torch.tensor(0.0), 1.0, "shape (d,)"),
        ([], 1.0, "shape (0,)"),
        (torch.zeros(2, 2), 1.0, "shape (2, 2)"),
    ],
)
def test_gaussian_refusals(mean, covariance, said):
    with pytest.raises(DataError) as refusal:
        Gaussian(mean, covariance)
    assert said in str(refusal.value)


@pytest.mark.parametrize("shape", [(3, 2), (2,), (2, 0)])
def test_from_factor_refuses_other_shapes(shape):
    with pytest.raises(DataError, match=r"factor of shape \(2, k\)"):
        Gaussian.from_factor(torch.zeros(2), torch.ones(shape))


# Mixture

WEIGHTS, MEANS, STDS = np.array([0.2, 0.5, 0.3]), np.array([-2.0, 0.5, 3.0]), [0.5, 1.0, 0.2]
LINE = GaussianMixture(double(2 * WEIGHTS), MEANS[:, None].tolist(), double(STDS).square())
PLANE = GaussianMixture(
    [0.3, 0.7],
    [[0.0, 1.0], [2.0, -1.0]],
    double([[[1.0, 0.5], [0.5, 0.6]], [[0.4, -0.1], [-0.1, 0.8]]]),
)
CLASSES = stats.norm(MEANS[:, None], np.array(STDS)[:, None])


@levels
@pytest.mark.parametrize("x", [-1.7, 0.2, 2.1])
def test_mixture_on_the_line_against_quadrature(x, alpha, sigma):
    """p_t(x) = int p(x_0) N(x; alpha x_0, sigma²) dx_0 and its first moment, trapezoidal rule."""
    x_0 = np.linspace(-9, 9, 20_001)
    joint = WEIGHTS @ CLASSES.pdf(x_0) * stats.norm(alpha * x_0, sigma).pdf(x)
    mass, moment = integrate.trapezoid(joint, x_0), integrate.trapezoid(x_0 * joint, x_0)
    at = double([[x]])
    assert float(LINE.log_density(at, alpha, sigma)) == pytest.approx(math.log(mass), abs=1e-8)
    assert float(LINE.posterior_mean(at, alpha, sigma)) == pytest.approx(moment / mass, abs=1e-7)


@levels
def test_mixture_in_the_plane_against_a_grid(alpha, sigma):
    """Trapezoidal rule on 500 x 500 points, exact to rounding for these smooth integrands."""
    axis = np.linspace(-7, 9, 500)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    parts = zip([0.3, 0.7], PLANE.gaussians, strict=True)
    prior = sum(
        w * stats.multivariate_normal(g.mean.numpy(), g.covariance.numpy()).pdf(grid)
        for w, g in parts
    )
    for x in ([0.5, 0.5], [2.0, -2.0]):
        joint = prior * stats.multivariate_normal([0, 0], sigma**2 * np.eye(2)).pdf(
            np.array(x) - alpha * grid
        )
        mass = joint.sum() * (axis[1] - axis[0]) ** 2
        mean = joint @ grid / joint.sum()
        at = double([x])
        assert float(PLANE.log_density(at, alpha, sigma)) == pytest.approx(math.log(mass))
        np.testing.assert_allclose(PLANE.posterior_mean(at, alpha, sigma)[0], mean, atol=1e-8)


def test_mixture_moments_by_quadrature():
    x = np.linspace(-9, 9, 20_001)
    density = WEIGHTS @ CLASSES.pdf(x)
    mean, square = (integrate.trapezoid(x**p * density, x) for p in (1, 2))
    assert float(LINE.mean) == pytest.approx(mean)
    assert LINE.std == pytest.approx(math.sqrt(square - mean**2))


def test_mixture_samples_follow_its_distribution_function():
    """Kolmogorov-Smirnov of 50,000 draws; refused at p < 1e-4, the false-alarm rate."""
    drawn = LINE.sample(50_000, generator=seeds.generator(0, "mixture")).flatten().numpy()
    found = stats.kstest(drawn, lambda x: WEIGHTS @ CLASSES.cdf(x))
    assert found.pvalue > 1e-4


def test_mixture_sample_covariance():
    """400,000 draws, within 0.02: over 5 standard errors of every entry."""
    drawn = PLANE.sample(400_000, generator=seeds.generator(0, "plane"))
    torch.testing.assert_close(drawn.T.cov(), PLANE.covariance, atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.mean(0), PLANE.mean, atol=0.01, rtol=0)


def test_far_classes_do_not_underflow():
    apart = GaussianMixture([1.0, 1.0], [[-1e3], [1e3]], [1.0, 1.0])
    at = double([[-900.0], [950.0]])
    torch.testing.assert_close(apart.posterior_mean(at, 1.0, 1.0), double([[-950.0], [975.0]]))
    assert bool(apart.log_density(at, 1.0, 1.0).isfinite().all())


@pytest.mark.parametrize(
    ("weights", "means", "covariances", "said"),
    [
        ([1.0], [[0.0], [1.0]], [1.0, 1.0], "one weight, mean and covariance a component"),
        ([1.0, 1.0], [[0.0], [1.0]], [1.0], "one weight, mean and covariance a component"),
        ([1.0, 1.0], torch.zeros(2), [1.0, 1.0], "one weight, mean and covariance a component"),
        ([1.0], [[0.0]], torch.tensor(1.0), "one weight, mean and covariance a component"),
        ([], torch.zeros(0, 1), [], "one weight, mean and covariance a component"),
        ([1.0, 0.0], [[0.0], [1.0]], [1.0, 1.0], "weights must be positive"),
        ([1.0, math.nan], [[0.0], [1.0]], [1.0, 1.0], "NaN"),
        ([1.0, 1.0], [[0.0], [1.0]], [1.0, -1.0], "negative eigenvalue"),
    ],
)
def test_mixture_refusals(weights, means, covariances, said):
    with pytest.raises(DataError, match=said):
        GaussianMixture(weights, means, covariances)


# Empirical


def test_empirical_weights_of_the_theory_note():
    """Section 4, row D6: points 0, 1, 3 at x = 0.4, t = 1/2, unit noise scale."""
    process, t = OrnsteinUhlenbeck(), double(0.5)
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    law_ = Empirical(double([[0.0], [1.0], [3.0]]))
    (weights,) = torch.cat([b.softmax(1) for b in law_._blocks(double([[0.4]]), alpha, sigma)])
    assert weights.tolist() == pytest.approx([0.429596, 0.471379, 0.0990248], rel=1e-5)
    assert float(weights.square().sum()) == pytest.approx(0.416557, rel=1e-5)
    assert float(-(weights * weights.log()).sum()) == pytest.approx(0.946474, rel=1e-5)
    assert float(law_.posterior_mean(double([[0.4]]), alpha, sigma)) == pytest.approx(
        0.768454, rel=1e-5
    )


@pytest.mark.parametrize("sigma", [1e-3, 0.02, 0.3, 4.0])
@pytest.mark.parametrize("block", [1, 1 << 22])
def test_empirical_against_mpmath(monkeypatch, sigma, block):
    """A direct sum with 60 digits, far from the origin and near a tie of two points."""
    monkeypatch.setattr(sources, "_BLOCK", block)
    g = torch.Generator().manual_seed(5)
    points = 50 + torch.randn(9, 2, 2, dtype=torch.float64, generator=g)
    tie = 0.8 * (points[0] + points[1]) / 2 + 1e-4
    x_t = torch.stack([tie, 0.8 * points[3], points[4]])
    found = Empirical(points)
    mpmath.mp.dps = 60
    for x, mean, log_density in zip(
        x_t.flatten(1).tolist(),
        found.posterior_mean(x_t, 0.8, sigma).flatten(1).tolist(),
        found.log_density(x_t, 0.8, sigma).tolist(),
        strict=True,
    ):
        rows = [[mpmath.mpf(v) for v in row] for row in points.flatten(1).tolist()]
        terms = [
            mpmath.exp(-sum((v - mpmath.mpf(0.8) * p) ** 2 for v, p in zip(x, row, strict=True))
                       / (2 * mpmath.mpf(sigma) ** 2))
            for row in rows
        ]  # fmt: skip
        total = mpmath.fsum(terms)
        expected = [
            float(mpmath.fsum(w * r[i] for w, r in zip(terms, rows, strict=True)) / total)
            for i in range(4)
        ]
        density = mpmath.log(total / 9) - 2 * mpmath.log(2 * mpmath.pi * mpmath.mpf(sigma) ** 2)
        assert mean == pytest.approx(expected, rel=1e-9)
        assert log_density == pytest.approx(float(density), rel=1e-9, abs=1e-6)


def test_empirical_density_is_scipys_kernel_estimate():
    """With sigma the bandwidth, p_t of the points is a kernel density estimate."""
    points = torch.randn(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    kernel = stats.gaussian_kde(points.T.numpy(), bw_method=1.0)
    root = np.linalg.cholesky(np.linalg.inv(np.cov(points.T)))
    white = double(points.numpy() @ root)
    found = Empirical(white).log_density(X[:, :2] @ double(root), 1.0, 1.0)
    expected = kernel.logpdf(X[:, :2].T.numpy()) - np.linalg.slogdet(root)[1]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_empirical_returns_training_points_when_the_noise_is_small():
    points = torch.randn(20, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    returned = Empirical(points).posterior_mean(0.9 * points.flip(0) + 0.01, 0.9, 0.02)
    torch.testing.assert_close(returned, points.flip(0))


def test_empirical_draws_every_point_equally_often():
    """Chi-square of 60,000 draws of 12 points; refused at p < 1e-4, the false-alarm rate."""
    points = torch.arange(12.0)[:, None]
    drawn = Empirical(points).sample(60_000, generator=seeds.generator(0, "resample"))
    assert stats.chisquare(np.bincount(drawn.flatten().long())).pvalue > 1e-4


def test_empirical_std_is_numpys_and_points_become_float64():
    points = torch.randn(11, 2, 3, generator=torch.Generator().manual_seed(4))
    found = Empirical(points)
    assert found.std == pytest.approx(math.sqrt(points.double().numpy().var(0).mean()))
    assert found.points.dtype == torch.float64
    assert (found.shape, found.dim) == ((2, 3), 6)


def test_empirical_refusals():
    with pytest.raises(DataError, match="no points"):
        Empirical(torch.zeros(0, 2))
    with pytest.raises(DataError, match="1 of 2 values are NaN"):
        Empirical(torch.tensor([[0.0], [math.nan]]))
    for ask in (Empirical(X).log_density, Empirical(X).posterior_mean):
        with pytest.raises(DataError, match="use sigma > 0"):
            ask(X, 1.0, 0.0)


# Curves


@pytest.mark.parametrize("curve", [TwoMoons, Circle])
@pytest.mark.parametrize(("dim", "noise"), [(2, 0.0), (2, 0.3), (9, 0.05)])
def test_std_of_a_curve_is_that_of_its_draws(curve, dim, noise):
    """400,000 draws, within 0.5 %: over 5 standard errors."""
    source = curve(dim=dim, noise=noise)
    drawn = source.sample(400_000, generator=seeds.generator(0, "curve"))
    assert float(drawn.var(0).mean().sqrt()) == pytest.approx(source.std, rel=5e-3)
    assert drawn.shape == (400_000, dim)


def test_curves_lie_where_they_are_said_to():
    circle = Circle(noise=0.0).sample(500, generator=seeds.generator(0, "on"))
    torch.testing.assert_close(circle.norm(dim=1), torch.ones(500).double())
    x, y = TwoMoons(noise=0.0).sample(500, generator=seeds.generator(0, "on")).T
    upper = ((x**2 + y**2 - 1).abs() < 1e-12) & (y >= 0)
    lower = (((1 - x) ** 2 + (0.5 - y) ** 2 - 1).abs() < 1e-12) & (y <= 0.5)
    assert bool((upper | lower).all())
    assert 180 < int(upper.sum()) < 320  # 250 +- 6 standard deviations


def test_two_moons_are_scikit_learns():
    """Mean and covariance of scikit-learn's even grid on the same two half circles."""
    from sklearn.datasets import make_moons

    grid, _ = make_moons(20_000, noise=0.0)
    drawn = TwoMoons(noise=0.0).sample(400_000, generator=seeds.generator(0, "moons")).numpy()
    np.testing.assert_allclose(drawn.mean(0), grid.mean(0), atol=0.01)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(grid.T), atol=0.01)


def test_embedding_keeps_distances_and_is_the_same_everywhere():
    flat = Circle(noise=0.1).sample(40, generator=seeds.generator(0, "embed"))
    wide = Circle(dim=7, noise=0.1).sample(40, generator=seeds.generator(0, "embed"))
    torch.testing.assert_close(torch.pdist(wide), torch.pdist(flat))
    assert torch.equal(Circle(dim=7).frame, TwoMoons(dim=7).frame)
    assert int(torch.linalg.matrix_rank(wide)) == 2


@pytest.mark.parametrize(("dim", "noise"), [(1, 0.1), (2, -0.1), (2, math.nan)])
def test_curve_refusals(dim, noise):
    with pytest.raises(DataError, match="dim >= 2 and noise >= 0"):
        Circle(dim=dim, noise=noise)


# Noise


@pytest.mark.parametrize("noise_scale", [0.0183156, 1.0, 3.0])
def test_ornstein_uhlenbeck_solves_its_moment_equations(noise_scale):
    """dm/dt = -m and dv/dt = -2 v + 2 noise_scale, integrated by SciPy from m = 1, v = 0."""
    process, times = OrnsteinUhlenbeck(noise_scale=noise_scale), np.linspace(0, 2, 9)
    path = integrate.solve_ivp(
        lambda _, y: [-y[0], 2 * noise_scale - 2 * y[1]], (0, 2), [1.0, 0.0], t_eval=times,
        rtol=1e-11, atol=1e-13,
    )  # fmt: skip
    np.testing.assert_allclose(process.alpha(double(times)), path.y[0], rtol=1e-9)
    np.testing.assert_allclose(process.sigma(double(times)) ** 2, path.y[1], rtol=1e-9, atol=1e-12)


def test_ornstein_uhlenbeck_in_two_steps_is_one():
    process = OrnsteinUhlenbeck(noise_scale=0.4)
    s, t = double(0.7), double(1.9)
    torch.testing.assert_close(process.alpha(s) * process.alpha(t - s), process.alpha(t))
    both = (process.alpha(t - s) * process.sigma(s)) ** 2 + process.sigma(t - s) ** 2
    torch.testing.assert_close(both, process.sigma(t) ** 2)


def test_sigma_keeps_its_accuracy_near_time_zero():
    tiny = double([1e-6, 1e-12, 1e-18])
    expected = [
        float(mpmath.sqrt(2 * (1 - mpmath.exp(-2 * mpmath.mpf(t))))) for t in tiny.tolist()
    ]
    found = OrnsteinUhlenbeck(noise_scale=2.0).sigma(tiny)
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_paper_settings_of_the_theory_note():
    """Row B1: u, r and sigma_T² at horizon 2, noise scale e^-4, unit variance."""
    alpha, sigma = at_horizon(OrnsteinUhlenbeck(horizon=2.0, noise_scale=math.exp(-4)))
    u = (sigma / alpha) ** 2
    assert [u, 1 / (1 + u), alpha**2 + sigma**2] == pytest.approx(
        [0.981684, 0.504621, 0.0362958], rel=1e-5
    )


def test_perturb_is_equation_one_for_any_shape():
    process = OrnsteinUhlenbeck(noise_scale=0.5)
    x_0 = torch.randn(4, 2, 3, dtype=torch.float64, generator=seeds.generator(0, "clean"))
    times = double([0.0, 0.1, 1.0, 2.0])
    x_t = process.perturb(x_0, times, generator=seeds.generator(0, "eps"))
    torch.testing.assert_close(x_t[0], x_0[0], rtol=0, atol=0)
    for i, t in enumerate(times):
        alone = process.perturb(x_0, t, generator=seeds.generator(0, "eps"))
        torch.testing.assert_close(x_t[i], alone[i])
    eps = (x_t[3] - math.exp(-2) * x_0[3]) / math.sqrt(0.5 * (1 - math.exp(-4)))
    drawn = torch.randn(4, 2, 3, dtype=torch.float64, generator=seeds.generator(0, "eps"))
    torch.testing.assert_close(eps, drawn[3])


@pytest.mark.parametrize("bad", [{"horizon": 0.0}, {"noise_scale": -1.0}, {"horizon": math.nan}])
def test_noise_refusals(bad):
    with pytest.raises(ConfigError, match="horizon > 0 and noise_scale > 0, got"):
        OrnsteinUhlenbeck(**bad)


# Seeds


def test_seeds_are_a_hash_of_the_names_and_never_change():
    """The stored number guards every published table; the digest is computed anew here."""
    digest = hashlib.sha256(b'[0, "training", 3]').digest()
    assert seeds.derive(0, "training", 3) == int.from_bytes(digest[:8], "big") // 2
    assert seeds.derive(0, "training", 3) == 269754089621312151


def test_different_names_give_different_seeds():
    names = [(), (1,), ("1",), (1, 1), ("1", 1), ("a", 1), ("a1",), (1, "a"), (-1,), ("é",), ("",)]
    found = {seeds.derive(s, *n) for s in (0, 1, 10) for n in names}
    assert len(found) == 3 * len(names)
    assert all(0 <= s < 2**63 for s in found)


def test_bits_of_neighbouring_seeds_are_balanced():
    """63 bits of 4,000 seeds: each within 5 standard errors of 1/2, false alarms 4e-5."""
    drawn = np.array([seeds.derive(0, "x", i) for i in range(4000)], dtype=np.uint64)
    shares = np.array([(drawn >> np.uint64(b) & np.uint64(1)).mean() for b in range(63)])
    assert np.all(np.abs(shares - 0.5) < 5 * 0.5 / 4000**0.5)


def test_generators_of_neighbouring_names_are_uncorrelated():
    """190 correlations of 20 streams of 10,000 normals, each below 5 / 100: false alarms 1e-4."""
    streams = [torch.randn(10_000, generator=seeds.generator(0, "cell", i)) for i in range(20)]
    correlation = torch.corrcoef(torch.stack(streams)) - torch.eye(20)
    assert float(correlation.abs().max()) < 0.05
