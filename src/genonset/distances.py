"""Distances between laws, in closed form, and between samples.

Kernel-smoothed sets. N points x_k under a Gaussian kernel of width eps are the mixture

    (1)  rho_S(x) = (1/N) sum_k N(x; x_k, eps² I)

A Gaussian, a mixture and a smoothed set are all Gaussian mixtures, so one function gives the
logarithm of every overlap

    (2)  R_pq = int p q dx = sum_kl v_k w_l N(x_k; y_l, C_k + D_l)

The overlap of a set with itself splits into a self and an off-diagonal part, and with a generated
law G they make the published distance and its difference between training set T and originals O:

    (3)  R_SS = self + off,    self = (1/N) (4 pi eps²)^(-d/2)
    (4)  E_SG = self + off - 2 R_SG,    Delta = E_TG - E_OG

The self overlap R_GG is left out of E, as published: it is infinite for a singular G and cancels
in Delta. Numbers of size e^-100 that differ in the sixth digit stay logarithms until the end:

    (5)  log a = log(self_T + off_T + 2 R_OG),  log b = log(self_O + off_O + 2 R_TG)
         Delta = e^(log a) - e^(log b),    Delta > 0 exactly if log b - log a < 0

The paper's second metric smooths every coordinate alone, with width eps = std / N for each set:

    (6)  D = (1/d) sum_i int (rho_X,i - rho_Y,i)² dx_i

Gaussian laws p = N(m_p, C_p), q = N(m_q, C_q) that may be singular. With C = F F^T, F = U sqrt(w),
whiten p by q inside the range of C_q: M = w_q^(-1/2) U_q^T F_p = A diag(s) B^T and
v = A^T w_q^(-1/2) U_q^T (m_p - m_q). Where both have the same support

    (7)  log int sqrt(p q) = -1/4 sum_i [ log(1 + sinh²(log s_i)) + v_i² / (1 + s_i²) ]
    (8)  KL(p || q) = 1/2 sum_i [ s_i² - 1 - log s_i² + v_i² ]

and elsewhere -inf and +inf: a law is singular to one of another support, also to one that contains
its own. Without any condition, and without cancellation between nearby laws,

    (9)  W2² = |m_p - m_q|² + |F_p - F_q A B^T|²,    F_q^T F_p = A diag(s) B^T

which equals the textbook |m_p - m_q|² + tr C_p + tr C_q - 2 |F_q^T F_p|_nuclear.

Assumed: finite data, with coordinates in one common unit. All arithmetic is float64. Squared
distances that come from products, |x|² + |y|² - 2 x.y, lose what the offset of the data takes of
their digits: wherever points are multiplied, rotated or divided a centre common to both sets is
subtracted first, so that a shift of all points changes no distance.

References: Halder and Pehlevan for (1), (3), (4), (6); equations (A1) to (A5), (A13) of the theory
note, section 9.4 for what the published code leaves out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from genonset import seeds
from genonset.errors import ConfigError, DataError
from genonset.sources import Gaussian, GaussianMixture
from genonset.tensors import Vectors, flatten, require_finite

Points = Float[Tensor, "n ..."]
"""n data points of any shape: the generated ones, or the only ones."""

Others = Float[Tensor, "m ..."]
"""m data points of the same shape as the n they are compared with."""

SYMMETRIC = {
    "hellinger": 0.0,
    "hellinger_squared": 0.0,
    "bures_wasserstein": 1.0,
    "coordinate_kernel_l2": -1.0,
    "wasserstein": 1.0,
    "sliced_wasserstein": 1.0,
    "energy_distance": 0.5,
    "mmd": 0.0,
}
"""Distances with d(p, q) = d(q, p), and the power of c by which they grow when every input
(points, std) is multiplied by c."""

ASYMMETRIC = {"kl": 0.0}
"""Distances whose arguments cannot be exchanged, and their power as in `SYMMETRIC`."""

_EPS = torch.finfo(torch.float64).eps
_LOG_2 = math.log(2)
_ROWS, _COLUMNS = 256, 1024  # one block of pairs: 2 MiB, about a level-2 cache


# Sums over pairs


def log_pair_sum(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"] | None = None, *, scale: float = 1.0
) -> float:
    """Log of a Gaussian sum over pairs, in memory that does not grow with their number.

    log sum_kl exp(-scale |x_k - y_l|² / 2), over k < l of x alone where y is None.

    A block of pairs is one matrix product that yields the exponents themselves, in base 2, then
    an exponential and a sum in place. Blocks that cannot change the last digit are skipped, and
    blocks that would underflow are shifted, so exponents of any size are accepted. A term is
    accurate to a few eps times the largest |x|² about the centre, and where that is above 1e-10
    differences are taken instead of products: slower, and accurate to rounding.

    Args:
        x: shape (n, d), n >= 1.
        y: shape (m, d), m >= 1.
        scale: positive.

    Returns:
        The logarithm; -inf for one point alone.
    """
    best, logs = -math.inf, []
    x, y = flatten(x), None if y is None else flatten(y)
    if y is not None and min(len(x), len(y)) == 1:
        return _log_sum_to_one(x, y, x.new_full((x.shape[1],), scale))
    for block, _, _ in _half_squares(x, y, scale / _LOG_2):
        top = float(block.amax())
        if top <= best - 120:  # all such blocks together: below 2^-60 of the sum
            continue
        best = max(best, top)
        if top > 0:
            block.clamp_(max=0)
        shift = top if top < -900 else 0.0
        if shift:
            block.sub_(shift)
        logs.append(_LOG_2 * (shift + math.log2(float(block.exp2_().sum()))))
    return _log_sum(*logs)


def log_kernel_sums(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], *, scale: float = 1.0
) -> Float[Tensor, " n"]:
    """Log of the Gaussian sum of each point over another set.

    log sum_l exp(-scale |x_k - y_l|² / 2), for every k

    Args:
        x: shape (n, d).
        y: shape (m, d), m >= 1.
        scale: positive.

    Returns:
        shape (n,), as accurate as `log_pair_sum`.
    """
    x, y = flatten(x), flatten(y)
    logs = x.new_full((len(x),), -math.inf)
    for block, rows, _ in _half_squares(x, y, scale):
        logs[rows] = torch.logaddexp(logs[rows], block.clamp_(max=0).logsumexp(1))
    return logs


def _log_sum_to_one(x: Tensor, y: Tensor, precision: Tensor) -> float:
    """Log sum_k exp(-sum_i precision_i (x_ki - y_i)² / 2), where x or y is a single row."""
    squares = torch.sub(x, y).square_() @ precision
    return float(squares.mul_(-0.5).logsumexp(0))


def _half_squares(
    x: Tensor, y: Tensor | None, scale: float = 1.0, *, exponents: bool = True
) -> Iterator[tuple[Tensor, slice, slice]]:
    """Blocks of -scale |x_k - y_l|² / 2 with their rows and columns, in one reused buffer.

    Without y: the pairs k < l of x, and -inf for the others in a block. Where the products could
    err by what shows in an exponent differences are taken instead.
    """
    left, right = _augmented(x, y, scale)
    direct = exponents and _shows(left, right)
    buffer = left.new_empty(_ROWS * _COLUMNS)
    others = x if y is None else y
    for i in range(0, len(x), _ROWS):
        rows = slice(i, min(i + _ROWS, len(x)))
        for j in range(i if y is None else 0, len(others), _COLUMNS):
            columns = slice(j, min(j + _COLUMNS, len(others)))
            shape = (rows.stop - i, columns.stop - j)
            block = buffer[: shape[0] * shape[1]].view(shape)
            if direct:
                block.copy_(_distances(x[rows], others[columns])).square_().mul_(-0.5 * scale)
            else:
                torch.mm(left[rows], right[columns].T, out=block)
            if y is None and i == j:
                block.masked_fill_(torch.ones_like(block, dtype=torch.bool).tril_(), -math.inf)
            yield block, rows, columns


def _augmented(x: Tensor, y: Tensor | None, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """[z, 1, -|z|²/2] and [z', -|z'|²/2, 1] with z = sqrt(scale) (x - centre): their product is
    -scale |x - y|²/2, a common centre keeping its terms small."""
    centre = x.mean(0) if y is None else (x.sum(0) + y.sum(0)) / (len(x) + len(y))

    def lifted(points: Tensor) -> Tensor:
        out = points.new_ones(len(points), points.shape[1] + 2)
        z = torch.sub(points, centre, out=out[:, :-2]).mul_(math.sqrt(scale))
        out[:, -1] = -0.5 * torch.einsum("ni,ni->n", z, z)
        return out

    left = lifted(x)
    right = left.clone() if y is None else lifted(y)
    right[:, -2:] = right[:, -2:].flip(1)
    return left, right


def _shows(left: Tensor, right: Tensor) -> bool:
    """Whether products of these, which err by a few eps |z|², are off by more than 1e-10."""
    return -2 * _EPS * float(torch.minimum(left[:, -1].min(), right[:, -2].min())) > 1e-10


def _centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets about their common mean."""
    centre = (x.sum(0) + y.sum(0)) / (len(x) + len(y))
    return x - centre, y - centre


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_k - y_l| from the differences themselves: slow, and exact for near points."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _log_sum(*logs: float) -> float:
    """Log of a sum of exponentials; -inf where there are none."""
    top = max(logs, default=-math.inf)
    if math.isinf(top):
        return top
    return top + math.log(math.fsum(math.exp(log - top) for log in logs))


# Overlaps of mixtures


@dataclass(frozen=True, kw_only=True, eq=False)
class Smoothed:
    """A set of points under a Gaussian kernel, equation (1).

    Attributes:
        points: shape (N, d).
        bandwidth: the kernel's width eps; 0 for the bare points.

    Raises:
        DataError: if there is no point or one is not finite.
        ConfigError: if the bandwidth is negative or not finite.
    """

    points: Vectors
    bandwidth: float

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or not len(self.points):
            raise DataError(
                f"Smoothed: points have shape {tuple(self.points.shape)}; at least one row of "
                "coordinates is needed. Flatten images with genonset.tensors.flatten."
            )
        require_finite("Smoothed points", self.points)
        if not 0 <= self.bandwidth < math.inf:
            raise ConfigError(
                f"Smoothed: bandwidth is {self.bandwidth}; a number >= 0 is accepted, such as "
                "kernel_bandwidth gives."
            )


Law = Smoothed | Gaussian | GaussianMixture


@dataclass(frozen=True, kw_only=True, eq=False)
class _Group:
    """Components of one law that share weight and covariance."""

    log_weight: float
    centres: Tensor  # (k, d)
    variances: Tensor  # (d,), along the axes
    axes: Tensor | None  # (d, d), columns; None for the coordinate axes

    @property
    def isotropic(self) -> bool:
        return bool((self.variances == self.variances[0]).all())

    @property
    def covariance(self) -> Tensor:
        if self.axes is None:
            return torch.diag(self.variances)
        return (self.axes * self.variances) @ self.axes.T


def log_overlap(p: Law, q: Law) -> float:
    """Log of the integral of the product of two laws, equation (2).

    Args:
        p: a smoothed set, a Gaussian or a mixture.
        q: another, of the same dimension.

    Returns:
        log R_pq. Where a summed covariance is singular: +inf if centres agree outside its range,
        to rounding, and no contribution if they differ.

    Raises:
        DataError: if the dimensions differ.

    Reference: (A1) of the theory note.
    """
    return _log_sum(*(_group_overlap(a, b) for a in _groups(p) for b in _groups(q)))


def log_off_diagonal(p: Smoothed) -> float:
    """Log of the off-diagonal part of a set's overlap with itself, equation (3).

    off = (1/N²) sum_{k != l} N(x_k; x_l, 2 eps² I)

    Args:
        p: the set; every pair is visited once.

    Returns:
        log off; -inf for one point. At bandwidth 0: +inf if rows repeat, else -inf.

    Reference: (A2) of the theory note.
    """
    points = flatten(p.points)
    n, d = points.shape
    if p.bandwidth == 0:
        return math.inf if _n_repeated(points) else -math.inf
    pairs = log_pair_sum(points, scale=0.5 / p.bandwidth**2)
    return _LOG_2 + pairs - 2 * math.log(n) - 0.5 * d * math.log(4 * math.pi * p.bandwidth**2)


def _groups(law: Law) -> list[_Group]:
    if isinstance(law, Smoothed):
        points = flatten(law.points)
        variances = points.new_full((points.shape[1],), law.bandwidth**2)
        weight = -math.log(len(points))
        return [_Group(log_weight=weight, centres=points, variances=variances, axes=None)]
    if isinstance(law, GaussianMixture):
        weights = law.log_weights.tolist()
        parts = [(w, _groups(g)[0]) for w, g in zip(weights, law.gaussians, strict=True)]
        return [replace(group, log_weight=weight) for weight, group in parts]
    return [
        _Group(
            log_weight=0.0,
            centres=law.mean[None],
            variances=law.eigenvalues,
            axes=law.eigenvectors,
        )
    ]


def _summed(p: _Group, q: _Group) -> tuple[Tensor, Tensor | None]:
    """Variances and axes of C + D; no rounding beyond a sum where one is isotropic."""
    if q.isotropic or (p.axes is None and q.axes is None):
        return p.variances + q.variances, p.axes
    if p.isotropic:
        return p.variances + q.variances, q.axes
    total = p.covariance + q.covariance
    law = Gaussian(torch.zeros_like(p.variances), (total + total.T) / 2)
    return law.eigenvalues, law.eigenvectors


def _group_overlap(p: _Group, q: _Group) -> float:
    """Equation (2) for one group of each law: whiten by C + D, then sum over pairs."""
    if p.centres.shape[1] != q.centres.shape[1]:
        raise DataError(
            f"The laws live in {p.centres.shape[1]} and {q.centres.shape[1]} dimensions; "
            "an overlap needs one space. Compare points of the same shape."
        )
    variances, axes = _summed(p, q)
    x, y = p.centres, q.centres
    if axes is not None:
        x, y = (z @ axes for z in _centred(x, y))
    flat = variances == 0
    if bool(flat.any()):
        size = float(torch.cat([x, y, variances.sqrt()[None]]).abs().max())
        slack = 0.0 if axes is None else _rotation_slack(len(variances)) * size
        return math.inf if _nearest(x[:, flat], y[:, flat]) <= slack else -math.inf
    normalizer = -0.5 * float((2 * math.pi * variances).log().sum())
    if min(len(x), len(y)) == 1:
        pairs = _log_sum_to_one(x, y, 1 / variances)
    elif bool((variances == variances[0]).all()):
        pairs = log_pair_sum(x, y, scale=1 / float(variances[0]))
    else:
        root = variances.rsqrt()
        pairs = log_pair_sum(*(z * root for z in _centred(x, y)))
    return p.log_weight + q.log_weight + normalizer + pairs


def _nearest(x: Tensor, y: Tensor) -> float:
    """The smallest |x_k - y_l|."""
    return min(float(_distances(rows, y).min()) for rows in x.split(_ROWS))


def _rotation_slack(dim: int) -> float:
    """Relative size of what rounding can move out of a range known through its covariance."""
    return math.sqrt(dim * _EPS)


def _n_repeated(points: Tensor) -> int:
    """How many rows repeat an earlier one."""
    return len(points) - len(points.unique(dim=0))


# The kernel L2 metric


@dataclass(frozen=True, kw_only=True)
class KernelTerms:
    """Logs of the three terms of the published distance E, equation (4).

    Attributes:
        log_self: log of (1/N) (4 pi eps²)^(-d/2).
        log_off: log of the off-diagonal part of R_SS.
        log_cross: log R_SG.
    """

    log_self: float
    log_off: float
    log_cross: float


@dataclass(frozen=True, kw_only=True)
class KernelDelta:
    """Delta = E_TG - E_OG, equations (4) and (5).

    Attributes:
        value: Delta; it may underflow to 0.
        log_ratio: log b - log a; it decides the sign even then.
    """

    value: float
    log_ratio: float

    @property
    def positive(self) -> bool:
        """Delta > 0: the generated law is closer to the originals than to the training set."""
        return self.log_ratio < 0


def kernel_terms(
    generated: Law, reference: Smoothed, *, log_off: float | None = None
) -> KernelTerms:
    """The terms of E between a generated law and a reference set, equation (4).

    Args:
        generated: G; samples of a model go in as a `Smoothed` of their own bandwidth.
        reference: S, training set or originals.
        log_off: `log_off_diagonal(reference)`, if it is known already.

    Raises:
        DataError: if the dimensions differ.

    Reference: Halder and Pehlevan; (A1), (A2) of the theory note.
    """
    n, d = reference.points.shape
    return KernelTerms(
        log_self=_log_self(n, d, reference.bandwidth),
        log_off=log_off_diagonal(reference) if log_off is None else log_off,
        log_cross=log_overlap(generated, reference),
    )


def expected_kernel_terms(
    generated: Gaussian, source: Gaussian, n: float, bandwidth: float
) -> KernelTerms:
    """The exact mean of the terms of E over a reference set of n draws: the fast path.

    E off = (1 - 1/n) |4 pi (C + eps² I)|^(-1/2),    E R_SG = N(m; mu, C + Sigma + eps² I)

    No pair sum: the cost does not depend on n. The mean is over the set alone, with G fixed. At
    d = 100 it is dominated by rare sets, so one set lies below it: (A8) of the theory note.

    Args:
        generated: G = N(mu, Sigma).
        source: N(m, C), from which the set is drawn.
        n: size of the set; math.inf with bandwidth 0 stands for the density of the source itself,
            which has no self term (log_self = -inf).
        bandwidth: eps.

    Raises:
        ConfigError: if n is below 1, or the bandwidth negative or not finite.
        DataError: if the dimensions differ.

    Reference: (A3), (A5) of the theory note.
    """
    if not n >= 1 or not 0 <= bandwidth < math.inf:
        raise ConfigError(
            f"expected_kernel_terms: n is {n} and bandwidth is {bandwidth}; n >= 1 (or math.inf) "
            "and a finite bandwidth >= 0 are accepted."
        )
    (model,), (group,) = _groups(generated), _groups(source)
    widened = replace(group, variances=group.variances + bandwidth**2)
    return KernelTerms(
        log_self=_log_self(n, source.dim, bandwidth),
        log_off=_log_expected_pairs(n, widened.variances),
        log_cross=_group_overlap(model, widened),
    )


def _log_expected_pairs(n: float, variances: Tensor) -> float:
    """Log of E off, with the variances of C + eps² I."""
    if n == 1:
        return -math.inf
    return math.log1p(-1 / n) - 0.5 * float((4 * math.pi * variances).log().sum())


def _log_self(n: float, dim: int, bandwidth: float) -> float:
    """Log of the self term of (3)."""
    if math.isinf(n):
        return -math.inf
    if bandwidth == 0:
        return math.inf
    return -math.log(n) - 0.5 * dim * math.log(4 * math.pi * bandwidth**2)


def kernel_l2(terms: KernelTerms) -> float:
    """The published distance E = self + off - 2 R_SG, equation (4).

    Not a distance in the strict sense: without R_GG it may be negative, and a perfect generator
    scores one self term rather than 0 ((A4) of the theory note). Never take Delta as a difference
    of two of these; use `kernel_delta`.

    Args:
        terms: of `kernel_terms`.

    Returns:
        E; infinite where it is beyond float64.

    Raises:
        DataError: if both an own term and R_SG are infinite.

    Reference: Halder and Pehlevan; (A1) of the theory note.
    """
    return _difference(_log_sum(terms.log_self, terms.log_off), terms.log_cross + _LOG_2)


def kernel_delta(training: KernelTerms, original: KernelTerms, *, keep_self: bool) -> KernelDelta:
    """Delta = E_TG - E_OG from the logs of its terms, equation (5).

    Args:
        training: terms of the training set T.
        original: terms of the originals, or of a held-out set, with the same G.
        keep_self: False where the two self terms are equal, which they are for any bandwidth
            s N^(-1/d) with one s: they then cancel exactly instead of to rounding.

    Returns:
        Value and log ratio; both 0 where every term is.

    Raises:
        DataError: if both sides are infinite, so that there is no difference.

    Reference: Halder and Pehlevan; (A2), (A11) of the theory note.
    """
    log_a = _log_sum(training.log_off, original.log_cross + _LOG_2)
    log_b = _log_sum(original.log_off, training.log_cross + _LOG_2)
    if keep_self:
        log_a = _log_sum(log_a, training.log_self)
        log_b = _log_sum(log_b, original.log_self)
    value = _difference(log_a, log_b)
    return KernelDelta(value=value, log_ratio=0.0 if log_a == log_b else log_b - log_a)


def _difference(log_a: float, log_b: float) -> float:
    """e^log_a - e^log_b, to the digits their difference has."""
    if log_a == log_b == math.inf:
        raise DataError(
            "The kernel metric is a difference of two infinite overlaps; finite ones are "
            "accepted. Give every set a bandwidth > 0."
        )
    if log_a == log_b:
        return 0.0
    top, low = max(log_a, log_b), min(log_a, log_b)
    size = math.inf if top > 709 else -math.exp(top) * math.expm1(low - top)
    return math.copysign(size, log_a - log_b)


def kernel_bandwidth(
    rule: str,
    n: int,
    dim: int,
    std: float,
    *,
    value: float | None = None,
    points: Points | None = None,
) -> float:
    """The kernel width eps of a set of n points.

    "paper" std n^(-1/dim); "scott" std n^(-1/(dim + 4)); "fixed" the given value;
    "cross_validated" the maximizer of the leave-one-out log likelihood of `points`

        sum_k log (1/(n-1)) sum_{l != k} N(x_k; x_l, eps² I)

    whose stationary points all lie between the mean squared nearest-neighbour distance and the
    mean squared distance, as dim eps²; a step of the search costs one sum over n² pairs.

    >>> kernel_bandwidth("paper", 16, 4, 3.0)
    1.5

    Args:
        rule: one of the four names.
        n: number of points.
        dim: number of coordinates.
        std: root mean variance of a coordinate, the scale of the first two rules.
        value: the width, for "fixed".
        points: the set, for "cross_validated".

    Raises:
        ConfigError: if the rule is unknown, or lacks what it needs.
        DataError: if points are fewer than 3 or repeat.

    Reference: Halder and Pehlevan ("paper"); Scott 2015, Multivariate Density Estimation,
    chapter 6 ("scott"); Duin 1976, IEEE Trans. Comput. C-25 ("cross_validated").
    """
    if rule == "cross_validated":
        if points is None:
            raise ConfigError(
                'kernel_bandwidth: the rule "cross_validated" needs points; pass the set whose '
                "kernel is wanted."
            )
        return _cross_validated(require_finite("points", flatten(points)))
    name, scale = ("value", value) if rule == "fixed" else ("std", std)
    if scale is None or not 0 < scale < math.inf or n < 1 or dim < 1:
        raise ConfigError(
            f'kernel_bandwidth: the rule "{rule}" got {name} = {scale}, n = {n}, dim = {dim}; '
            f"{name} > 0 and finite, n >= 1 and dim >= 1 are accepted."
        )
    match rule:
        case "paper":
            return scale * n ** (-1 / dim)
        case "scott":
            return scale * n ** (-1 / (dim + 4))
        case "fixed":
            return scale
    raise ConfigError(
        f'kernel_bandwidth: unknown rule "{rule}"; choose "paper", "scott", "fixed" or '
        '"cross_validated".'
    )


def _cross_validated(points: Tensor) -> float:
    from scipy.optimize import minimize_scalar

    repeated = _n_repeated(points)
    if repeated or len(points) < 3:
        raise DataError(
            f"Cross-validated bandwidth: {len(points)} points of which {repeated} repeat another; "
            "at least 3 distinct points are accepted, since duplicates pull the width to 0. "
            'Remove the duplicate rows, or choose the rule "paper", "scott" or "fixed".'
        )
    n, d = points.shape
    nearest = -2 * sum(float(rows.amax(1).sum()) for rows in _other_rows(points)) / n
    mean = 2 * float(points.var(0).sum())
    found = minimize_scalar(
        lambda log_width: -_leave_one_out(points, math.exp(log_width)),
        bounds=(
            0.5 * math.log(max(nearest, _EPS * mean) / d) - 0.01,
            0.5 * math.log(mean / d) + 0.01,
        ),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return math.exp(found.x)


def _leave_one_out(points: Tensor, bandwidth: float) -> float:
    """Mean leave-one-out log likelihood, up to a constant."""
    scaled = (points - points.mean(0)) / bandwidth
    logs = [rows.logsumexp(1).sum() for rows in _other_rows(scaled)]
    return float(torch.stack(logs).sum()) / len(points) - points.shape[1] * math.log(bandwidth)


def _other_rows(x: Tensor) -> Iterator[Tensor]:
    """Blocks of whole rows of -|x_k - x_l|²/2, with -inf at l = k."""
    left, right = _augmented(x, None)
    step, direct = max(1, _ROWS * _COLUMNS // len(x)), _shows(left, right)
    for i in range(0, len(x), step):
        if direct:
            rows = _distances(x[i : i + step], x).square_().mul_(-0.5)
        else:
            rows = torch.mm(left[i : i + step], right.T).clamp_(max=0)
        rows.diagonal(i).fill_(-math.inf)
        yield rows


# One coordinate at a time


def coordinate_kernel_l2(
    generated: Points, reference: Others, std: float | Float[Tensor, " d"]
) -> float:
    """Mean over coordinates of int (rho_X - rho_Y)² dx in one dimension, equation (6).

    Each set is smoothed with its own width std / N; the self terms are included. Exact to
    rounding: a pair beyond 9 combined widths, left out, is below 3e-18 of its self terms. Time is
    O(N log N) a coordinate: equal values count as one, and crowds of near ones are interpolated.

    Args:
        generated: N points.
        reference: points of the same shape.
        std: scale of the widths, one number or one a coordinate.

    Returns:
        The mean, clipped at 0 against rounding. Its unit is 1 / std; the published code returns
        sqrt(2 pi) times this.

    Raises:
        DataError: if shapes disagree, values are not finite or std is not positive.

    Reference: Halder and Pehlevan, the U-Net metric; (A13) of the theory note.
    """
    x, y = _rows("coordinate_kernel_l2", generated, reference)
    scale = require_finite("std", torch.as_tensor(std, dtype=torch.float64, device=x.device))
    if scale.shape not in ((), (x.shape[1],)) or not bool((scale > 0).all()):
        raise DataError(
            f"coordinate_kernel_l2: std is {std}; one positive number is accepted, or one for "
            f"each of {x.shape[1]} coordinates. Drop constant coordinates, or pass one std."
        )
    scale = scale.expand(x.shape[1])
    x, y = _centred(x, y)
    few, many = sorted((_atoms(x, scale), _atoms(y, scale)), key=lambda atoms: -atoms.width)
    total = _self_overlap(few) + _self_overlap(many) - 2 * _cross_overlap(many, few)
    return max(total, 0.0) / x.shape[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Atoms:
    """A set as weighted points in every coordinate, in units of its std: ascending rows.

    Rows start with -inf, end with +inf, and carry no weight there.
    """

    values: Tensor
    weights: Tensor  # count / (N sqrt(std)): products of two add up to 1 / std
    width: float  # 1 / N


def _sorted_columns(x: Tensor) -> Tensor:
    """Every column of x in ascending order, as a row on the CPU."""
    columns = np.ascontiguousarray(x.T.cpu().numpy())  # NumPy sorts doubles ten times faster
    columns.sort(axis=1)
    return torch.from_numpy(columns)


def _nonzero(mask: Tensor) -> Tensor:
    """Where a flat mask holds; NumPy finds it ten times faster."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))


def _atoms(x: Tensor, std: Tensor) -> _Atoms:
    """Equal values become one atom, crowds of near ones a few."""
    (n, d), columns = x.shape, _sorted_columns(x / std)
    first = torch.ones_like(columns, dtype=torch.bool)
    first[:, 1:] = columns[:, 1:] != columns[:, :-1]
    kept = _nonzero(first.flatten())
    row, values = kept // n, columns.flatten()[kept]
    counts = torch.diff(kept, append=kept.new_tensor([n * d]))
    weights = counts / (n * std.cpu().sqrt()[row])
    row, values, weights = _thinned(row, values, weights, 1 / n)

    sizes = row.bincount(minlength=d)
    place = torch.arange(len(row)) - (sizes.cumsum(0) - sizes)[row] + 1
    padded = torch.full((d, int(sizes.max()) + 2), math.inf, dtype=torch.float64)
    padded[:, 0] = -math.inf
    loads = torch.zeros_like(padded)
    place += row * padded.shape[1]
    padded.view(-1).scatter_(0, place, values)
    loads.view(-1).scatter_(0, place, weights)
    return _Atoms(values=padded, weights=loads, width=1 / n)


def _thinned(row: Tensor, values: Tensor, weights: Tensor, width: float) -> tuple[Tensor, ...]:
    """The atoms, with every cell of one width that holds over 32 replaced by 16 Chebyshev nodes.

    Weights of the nodes interpolate: for a Gaussian at least as wide as the cell the overlap
    changes by at most 2 (1/4)^16 / sqrt(16!) < 2^-52 of the weight in the cell.
    """
    if not bool(((values[32:] - values[:-32]).abs() < width).any()):
        return row, values, weights
    cell = (values / width).floor()
    new = torch.ones_like(row, dtype=torch.bool)
    new[1:] = (row[1:] != row[:-1]) | (cell[1:] != cell[:-1])
    run, start = new.cumsum(0) - 1, _nonzero(new)
    crowded = run.bincount() > 32
    inside = crowded[run]

    degree = torch.arange(16, dtype=torch.float64)
    angle = (degree + 0.5) * (math.pi / 16)
    at_nodes = torch.cos(degree[:, None] * angle) / 8
    at_nodes[0] /= 2
    offset = 2 * (values / width - cell)[inside] - 1
    shares = torch.cos(offset.acos()[:, None] * degree) @ at_nodes
    loads = torch.zeros(len(start), 16, dtype=torch.float64)
    loads.index_add_(0, run[inside], shares * weights[inside, None])
    nodes = (cell[start, None] + (1 + angle.cos()) / 2) * width

    row = torch.cat([row[~inside], row[start][crowded].repeat_interleave(16)])
    values = torch.cat([values[~inside], nodes[crowded].flatten()])
    weights = torch.cat([weights[~inside], loads[crowded].flatten()])
    order = torch.from_numpy(np.lexsort((values.numpy(), row.numpy())))
    return row[order], values[order], weights[order]


def _self_overlap(x: _Atoms) -> float:
    """sum over pairs of atoms of w w' N(gap; 0, 2 width²), over all rows."""
    spread = math.sqrt(2) * x.width
    index = _nonzero(x.weights.flatten())
    pairs = _walk(x, index, x, index + 1, 1, spread)
    return (float(x.weights.square().sum()) + 2 * pairs) / (math.sqrt(2 * math.pi) * spread)


def _cross_overlap(x: _Atoms, y: _Atoms) -> float:
    """sum over atoms of x and of y of w w' N(gap; 0, width² + width'²), over all rows."""
    spread = math.hypot(x.width, y.width)
    index = _nonzero(x.weights.flatten())
    row_starts = y.values.shape[1] * torch.arange(len(y.values))
    above = torch.searchsorted(y.values, x.values) + row_starts[:, None]
    above = above.flatten()[index]
    pairs = _walk(x, index, y, above, 1, spread) + _walk(x, index, y, above - 1, -1, spread)
    return pairs / (math.sqrt(2 * math.pi) * spread)


def _walk(x: _Atoms, i: Tensor, y: _Atoms, j: Tensor, step: int, spread: float) -> float:
    """sum of w w' exp(-gap² / (2 spread²)) as every j steps away from its i, out to 9 spreads."""
    values_x, values_y = x.values.flatten(), y.values.flatten()
    weights_x, weights_y = x.weights.flatten(), y.weights.flatten()
    total = 0.0
    while True:
        gap = values_y.index_select(0, j).sub_(values_x.index_select(0, i)).abs_()
        near = _nonzero(gap < 9 * spread)
        if not len(near):
            return total
        i, j, gap = (z.index_select(0, near) for z in (i, j, gap))
        kernel = gap.square_().mul_(-0.5 / (_LOG_2 * spread**2)).exp2_()
        total += float(kernel.mul_(weights_x.index_select(0, i)) @ weights_y.index_select(0, j))
        j += step


# Gaussian laws


def log_affinity(p: Gaussian, q: Gaussian) -> float:
    """Log of the Bhattacharyya coefficient int sqrt(p q) dx, equation (7).

    Args:
        p: first law; singular ones are accepted.
        q: second law.

    Returns:
        A number <= 0; -inf unless the supports coincide.

    Raises:
        DataError: if the dimensions differ.

    Reference: Pardo 2006, Statistical Inference Based on Divergence Measures, chapter 1.
    """
    relative = _relative(p, q)
    if relative is None:
        return -math.inf
    s, v = relative
    bend = s.log().sinh().square().log1p()
    return -0.25 * float((bend + v.square() / (1 + s.square())).sum())


def hellinger_squared(p: Gaussian, q: Gaussian) -> float:
    """Squared Hellinger distance H² = 1 - int sqrt(p q) dx, in [0, 1]: 1 unless supports coincide.

    Args:
        p: first law.
        q: second law.

    Raises:
        DataError: if the dimensions differ.

    Reference: equation (7); the page on reproduction for the published cut-off.
    """
    return -math.expm1(log_affinity(p, q))


def hellinger(p: Gaussian, q: Gaussian) -> float:
    """Hellinger distance H, the root of `hellinger_squared`.

    Args:
        p: first law.
        q: second law.

    Raises:
        DataError: if the dimensions differ.

    Reference: equation (7).
    """
    return math.sqrt(hellinger_squared(p, q))


def affinity_rate(p: Gaussian, q: Gaussian) -> float:
    """(1 - H²)^(1/d): the affinity a dimension, which has a limit as d grows.

    Args:
        p: first law.
        q: second law.

    Raises:
        DataError: if the dimensions differ.

    Reference: (B6) of the theory note.
    """
    return math.exp(log_affinity(p, q) / p.dim)


def kl(p: Gaussian, q: Gaussian) -> float:
    """Kullback-Leibler divergence KL(p || q), equation (8).

    Args:
        p: the law the mean is taken over.
        q: the other law.

    Returns:
        A number >= 0, clipped there against rounding; inf unless the supports coincide (a p on a
        proper subspace of q's support has no density with respect to q).

    Raises:
        DataError: if the dimensions differ.

    Reference: Kullback and Leibler 1951; (B2) of the theory note for singular generators.
    """
    relative = _relative(p, q)
    if relative is None:
        return math.inf
    s, v = relative
    log_ratio = 2 * s.log()
    return max(0.0, 0.5 * float((log_ratio.expm1() - log_ratio + v.square()).sum()))


def bures_wasserstein(p: Gaussian, q: Gaussian) -> float:
    """The 2-Wasserstein distance W2 between Gaussians, equation (9).

    Laws fitted to samples or features with `Gaussian.fit` give the Frechet distance.

    Args:
        p: first law; singular ones are accepted.
        q: second law.

    Returns:
        W2, not squared.

    Raises:
        DataError: if the dimensions differ.

    Reference: Dowson and Landau 1982, J. Multivariate Anal. 12; Bhatia, Jain and Lim 2019 for (9).
    """
    _require_same_dim(p, q)
    factor_p, factor_q = _factor(p), _factor(q)
    a, _, bh = torch.linalg.svd(factor_q.T @ factor_p)
    shape = float((factor_p - factor_q @ (a @ bh)).square().sum())
    return math.sqrt(float((p.mean - q.mean).square().sum()) + shape)


def _require_same_dim(p: Gaussian, q: Gaussian) -> None:
    if p.dim != q.dim:
        raise DataError(
            f"The laws live in {p.dim} and {q.dim} dimensions; a distance needs one space."
        )


def _factor(law: Gaussian) -> Tensor:
    """F = U sqrt(w), with F F^T the covariance."""
    roots = law.eigenvalues.sqrt()
    return torch.diag(roots) if law.eigenvectors is None else law.eigenvectors * roots


def _relative(p: Gaussian, q: Gaussian) -> tuple[Tensor, Tensor] | None:
    """(s, v) of (7) and (8), or None where the supports differ by more than rounding."""
    _require_same_dim(p, q)
    if p.rank != q.rank:
        return None
    kept, shift, factor = q.eigenvalues > 0, p.mean - q.mean, _factor(p)[:, p.eigenvalues > 0]
    axes = (torch.eye(q.dim).to(shift) if q.eigenvectors is None else q.eigenvectors)[:, kept]
    size = max(float(p.eigenvalues.max().sqrt()), float(shift.norm()))
    for part in (factor, shift[:, None]):
        outside = part - axes @ (axes.T @ part)
        if float(outside.norm()) > _rotation_slack(p.dim) * size:
            return None
    whiten = axes.T / q.eigenvalues[kept].sqrt()[:, None]
    a, s, _ = torch.linalg.svd(whiten @ factor)
    return s, a.T @ (whiten @ shift)


# Samples


def wasserstein(generated: Points, reference: Others) -> float:
    """Exact 2-Wasserstein distance between two samples: optimal transport, solved by POT.

    min over couplings with uniform marginals of (E |X - Y|²)^(1/2)

    Args:
        generated: n points.
        reference: m points of the same shape; time grows about as the cube of their number.

    Raises:
        ConfigError: if POT is not installed.
        DataError: if shapes disagree, values are not finite or the solver stops early.

    Reference: Bonneel et al. 2011 (the network simplex in POT).
    """
    try:
        import ot
    except ImportError as missing:
        raise ConfigError(
            "wasserstein: exact transport needs the package POT, which is not installed. Run "
            "pip install genonset[ot], or use sliced_wasserstein."
        ) from missing
    x, y = _rows("wasserstein", generated, reference)
    squares = _distances(x, y).square_().cpu().numpy()
    unit = 2.0 ** math.frexp(float(squares.max()))[1]  # the solver has absolute tolerances
    masses = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    squares /= unit
    cost, state = ot.emd2(masses[0], masses[1], squares, numItermax=1_000_000_000, log=True)
    if state["warning"] is not None:
        raise DataError(
            f"wasserstein: the transport between {len(x)} and {len(y)} points was not solved "
            f"({state['warning']}). Use fewer points, or sliced_wasserstein."
        )
    return math.sqrt(max(0.0, unit * float(cost)))


def sliced_wasserstein(
    generated: Points,
    reference: Others,
    *,
    n_projections: int = 128,
    generator: torch.Generator,
) -> float:
    """Sliced 2-Wasserstein distance between two samples.

    SW² = mean over unit directions u of W2²(u.X, u.Y), each by sorting

    Args:
        generated: n points.
        reference: m points of the same shape.
        n_projections: number of random directions.
        generator: source of the directions.

    Raises:
        DataError: if shapes disagree or values are not finite.
        ConfigError: if there is no projection.

    Reference: Bonneel, Rabin, Peyre and Pfister 2015, J. Math. Imaging Vis. 51.
    """
    x, y = _rows("sliced_wasserstein", generated, reference)
    if n_projections < 1:
        raise ConfigError(
            f"sliced_wasserstein: n_projections is {n_projections}; at least 1 is accepted."
        )
    directions = torch.randn(
        x.shape[1], n_projections, dtype=torch.float64, generator=generator
    ).to(x.device)
    directions /= directions.norm(dim=0)
    u, v = (_sorted_columns(z @ directions) for z in _centred(x, y))
    # Quantile functions are constant between the points i/n and j/m: integers over n m.
    n, m = len(x), len(y)
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    lengths = (ends - starts).to(x) / (n * m)
    gaps = u[:, (starts // m).to(x.device)] - v[:, (starts // n).to(x.device)]
    return math.sqrt(float((gaps.square() @ lengths).mean()))


def energy_distance(generated: Points, reference: Others) -> float:
    """Energy distance between two samples, with SciPy's root.

    sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|), means over all pairs (V-statistic)

    Args:
        generated: n points.
        reference: m points of the same shape.

    Raises:
        DataError: if shapes disagree or values are not finite.

    Reference: Szekely and Rizzo 2013, J. Stat. Plan. Inference 143.
    """
    x, y = _rows("energy_distance", generated, reference)
    squared = 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)
    return math.sqrt(max(0.0, squared))


def _mean_distance(x: Tensor, y: Tensor) -> float:
    """Mean of |x_k - y_l|; near points are measured again by their differences."""
    total, centre = 0.0, torch.cat([x, y]).mean(0)
    near = 1e-6 * float(
        max((x - centre).square().sum(1).max(), (y - centre).square().sum(1).max())
    )
    for block, rows, columns in _half_squares(x, y, exponents=False):
        squares = block.mul_(-2)
        i, j = (squares <= near).nonzero(as_tuple=True)
        squares[i, j] = (x[rows][i] - y[columns][j]).square().sum(1)
        total += float(squares.sqrt_().sum())
    return total / (len(x) * len(y))


def mmd(generated: Points, reference: Others, *, bandwidth: float | None = None) -> float:
    """Maximum mean discrepancy between two samples under a Gaussian kernel.

    MMD² = E k(X, X') + E k(Y, Y') - 2 E k(X, Y),  k(x, y) = exp(-|x - y|² / (2 bandwidth²)),
    means over all pairs (V-statistic)

    Args:
        generated: n points.
        reference: m points of the same shape.
        bandwidth: by default the median distance within the pooled sample; beyond 2000 rows,
            of rows of both sets drawn at random, 2000 in all.

    Returns:
        MMD, the root.

    Raises:
        DataError: if shapes disagree, values are not finite, or the median distance is 0.
        ConfigError: if the bandwidth is not positive.

    Reference: Gretton et al. 2012, J. Mach. Learn. Res. 13, the biased statistic of section 2.2.
    """
    x, y = _rows("mmd", generated, reference)
    width = _median_distance(x, y) if bandwidth is None else bandwidth
    if not 0 < width < math.inf:
        raise ConfigError(f"mmd: bandwidth is {width}; a finite number > 0 is accepted.")
    scale = 1 / width**2
    within = sum(
        (len(z) + 2 * math.exp(log_pair_sum(z, scale=scale))) / len(z) ** 2 for z in (x, y)
    )
    between = math.exp(log_pair_sum(x, y, scale=scale)) / (len(x) * len(y))
    return math.sqrt(max(0.0, within - 2 * between))


def _median_distance(x: Tensor, y: Tensor) -> float:
    """Of all rows, or of some drawn at random: rows may lie in an order, as classes in turn."""
    share = min(1.0, 2000 / (len(x) + len(y)))
    rows = [z if share == 1 else z[_drawn(len(z), max(1, int(share * len(z))))] for z in (x, y)]
    median = float(torch.pdist(torch.cat(rows)).median())
    if median == 0:
        raise DataError(
            "mmd: more than half of the pooled points coincide, so their median distance is 0. "
            "Pass a bandwidth."
        )
    return median


def _drawn(n: int, count: int) -> Tensor:
    """So many of n rows, ascending; always the same ones."""
    order = torch.randperm(n, generator=seeds.generator(0, "median distance", n))
    return order[:count].sort().values


def _rows(name: str, generated: Tensor, reference: Tensor) -> tuple[Vectors, Vectors]:
    """Both samples as rows of float64 coordinates, checked."""
    if generated.shape[1:] != reference.shape[1:] or not len(generated) or not len(reference):
        raise DataError(
            f"{name}: samples have shapes {tuple(generated.shape)} and {tuple(reference.shape)}; "
            "at least one point each, all of the same shape, is accepted."
        )
    return (
        require_finite(f"{name}, generated", flatten(generated)),
        require_finite(f"{name}, reference", flatten(reference)),
    )
