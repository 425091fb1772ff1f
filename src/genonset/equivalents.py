"""Log determinants of what the linear one-step model generates: mean and covariance, any spectrum.

The model is a ridge regression of centred rows x on their noisy versions t = alpha x + sigma eps,
x ~ N(0, C), nu = n - 1 rows (the mean is fitted too), with slope theta = X^T T H^-1 and
H = T^T T + ridge. What is asked is, for offsets D of the axes of C, a start M and weights of the
sample covariance,

    (1)  L(D) = ln det(D + weight X^T X + theta M theta^T),    M = m_0 + kappa X^T X (or T^T T).

Everything else follows: tr(K theta M theta^T) is the slope of L at infinity, tr(K (theta M
theta^T)^-1) that at 0, and a Wasserstein distance an integral of L.

*Linear fields.* By Schur's formula det B = det H² e^L for the block matrix B of the fields
(phi, psi, omega) with the quadratic form

    (2)  -phi D phi + 2 ridge psi omega - m_0 omega²
           + sum over rows of [2 p q - kappa y² - weight z²],
         p = t psi,  q = t omega - x phi,  y = x omega (or t omega),  z = x phi,

and det H belongs to one field psi with p² for a row. E det^(-m/2) is a Gaussian integral over m
replicas of the fields. The rows are averaged first: with the covariances K of the row variables
and Q the form of (2) in them, each row gives det(1 + K Q)^(-1/2).

*Saddle.* With G_i the inverse of the form of the fields in axis i of C, h = nu Y and

    (3)  Y = Q (1 + K Q)^-1,    K = sum_i U S_i (U G_i U^T),    form_i = form(2)_i + U^T (S_i h) U,

S_i the covariance of (x, t) in axis i, the leading value is

    (4)  ln det B = sum_i ln |det form_i| - tr(h K) + nu ln det(1 + K Q).

*Fluctuations.* Of a pair of replicas the overlaps K_ab, a matrix without symmetry, fluctuate with

    (5)  J_ab = 1 - nu (Y_a x Y_b) Gamma_ab,   Gamma_ab = sum_i (U G_a U^T) S S (U G_b U^T),

and collecting the powers of m gives, with errors of order 1/d,

    (6)  mean = (4) + 1/2 ln det J_sym - 1/2 ln det J_anti,    Cov(a, b) = -2 ln det J_ab,

the halves of J_aa on symmetric and antisymmetric overlaps. For one Wishart matrix (6) is the known
1/2 ln(1 - d/nu) and -2 ln(1 - d/nu). The factor det H² is taken off, with its covariances.

*The scalar start* f m_0 scatters with the trace of the sample covariance, which is the slope at
infinity of one more log determinant; to second order in df, with s² = E df²,

    (7)  mean += s²/2 d²L/df² + d/df Cov(df, L),
         Cov(a, b) += s² dL_a/df dL_b/df + dL_a/df Cov(df, L_b) + dL_b/df Cov(df, L_a).

Assumed: Gaussian data; a smallest singular value of theta that is away from 0 where D is (see
`theory` for what is done at D = 0). Reference: theory note (B10), which is (4) for isotropic data
without sample terms; Bai and Silverstein 2004, Ann. Probab. 32, 553, for (6) of one Wishart
matrix.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Start = Literal["scalar", "estimated", "in_sample"]

_DAMPED, _NEWTON = 40, 60
_FAR = 1e4
_MOVE = 0.05
"""Relative change of the scalar start between which (7) takes differences."""


@dataclass(frozen=True, kw_only=True)
class Regression:
    """The linear one-step model on n points of a Gaussian source.

    Attributes:
        values, counts: eigenvalues of C, each with its multiplicity.
        alpha, sigma: signal and noise scale at the horizon, alpha > 0 and sigma > 0.
        n: training points, > 2.
        ridge: in units of the covariance of x_t; below n = d a tiny one stands for minimum norm.
        start: what the start covariance is estimated from.
    """

    values: Array
    counts: Array
    alpha: float
    sigma: float
    n: float
    ridge: float = 0.0
    start: Start = "scalar"

    @property
    def rows(self) -> float:
        """nu, the rows that are left when the mean is fitted."""
        return self.n - 1

    @property
    def dim(self) -> float:
        return float(self.counts.sum())

    @property
    def noisy(self) -> Array:
        """Eigenvalues of the covariance of x_t."""
        return self.alpha**2 * self.values + self.sigma**2

    @property
    def scale(self) -> float:
        """Mean variance of x_t, m_0 of the scalar start."""
        return float(self.sum(self.noisy)) / self.dim

    @property
    def penalty(self) -> float:
        """What is added to T^T T."""
        if self.ridge == 0 and self.rows < self.dim + 1:
            return 1e-6 * self.scale * self.rows
        return self.ridge * self.n

    def sum(self, terms: Array) -> Array:
        """Over the axes, the last dimension."""
        return (terms * self.counts).sum(-1)

    def log_determinants(
        self, offsets: Array, *, weight: float = 0.0, scatter: bool = True
    ) -> "LogDeterminants":
        """Mean and covariance of (1) at several offsets, equations (6) and (7).

        Args:
            offsets: D, shape (offsets, number of values), positive.
            weight: of X^T X in (1).
            scatter: whether the scalar start scatters; else it is m_0.

        Returns:
            NaN where n is so near d, or D so near 0, that (6) does not exist.
        """
        gram = _solve(self._inverse(), self)
        if self.start != "scalar" or not scatter:
            return self._at(offsets, gram, 1.0, weight)[0]
        sample = _solve(self._sample(), self)
        unit = self.alpha**2 / (self.dim * self.rows * self.scale) * _FAR
        found, with_scatter = self._at(offsets, gram, 1.0, weight, sample)
        up, down = (self._at(offsets, gram, 1 + s * _MOVE, weight, sample) for s in (1, -1))
        square = unit**2 * _covariance(sample, sample, self)[0, 0]
        slope = (up[0].mean - down[0].mean) / (2 * _MOVE)
        bend = (up[0].mean - 2 * found.mean + down[0].mean) / _MOVE**2
        turn = unit * (up[1] - down[1]) / (2 * _MOVE)
        cross = slope[:, None] * unit * with_scatter
        return LogDeterminants(
            found.mean + square * bend / 2 + turn,
            found.covariance + square * np.outer(slope, slope) + cross + cross.T,
            found.leading,
        )

    def _at(
        self,
        offsets: Array,
        gram: "_Saddle",
        factor: float,
        weight: float,
        sample: "_Saddle | None" = None,
    ) -> tuple["LogDeterminants", Array]:
        """(6) at a fixed factor of the scalar start, and the covariance with a sample's trace."""
        fields = _solve(self._fields(offsets, factor, weight), self)
        covariance = _covariance(fields, fields, self) + 4 * _covariance(gram, gram, self)
        beside = 2 * _covariance(fields, gram, self)
        found = LogDeterminants(
            fields.leading + fields.correction - 2 * (gram.leading + gram.correction),
            covariance - beside - beside.T,
            fields.leading - 2 * gram.leading,
        )
        if sample is None:
            return found, np.zeros(len(offsets))
        trace = _covariance(fields, sample, self) - 2 * _covariance(gram, sample, self)
        return found, trace[:, 0]

    def _fields(self, offsets: Array, factor: float, weight: float) -> "_Species":
        """The fields of B for each offset, equation (2)."""
        x, t = np.zeros((4, 3)), np.zeros((4, 3))
        t[0, 1] = t[1, 2] = 1
        x[1, 0], x[3, 0] = -1, 1
        kappa, base = 0.0, factor * self.scale
        if self.start == "estimated":
            x[2, 2], kappa, base = 1, self.alpha**2 / self.rows, self.sigma**2
        elif self.start == "in_sample":
            t[2, 2], kappa, base = 1, 1 / self.rows, 1e-6 * self.scale
        form = np.zeros((4, 4))
        form[0, 1] = form[1, 0] = 1
        form[2, 2], form[3, 3] = -kappa, -weight
        used = [0, 1, *([2] if kappa > 0 else []), *([3] if weight > 0 else [])]
        own = np.zeros((*offsets.shape, 3, 3))
        own[..., 0, 0], own[..., 2, 2] = -offsets, -base
        own[..., 1, 2] = own[..., 2, 1] = self.penalty
        return _Species(own, np.stack([x[used], t[used]]), form[np.ix_(used, used)])

    def _inverse(self) -> "_Species":
        """The field of H."""
        own = np.full((1, len(self.values), 1, 1), self.penalty)
        return _Species(own, np.array([[[0.0]], [[1.0]]]), np.ones((1, 1)))

    def _sample(self) -> "_Species":
        """The field of a far offset + X^T X: _FAR times its log determinant is tr X^T X."""
        own = np.full((1, len(self.values), 1, 1), _FAR)
        return _Species(own, np.array([[[1.0]], [[0.0]]]), np.ones((1, 1)))

    @property
    def joint(self) -> Array:
        """Covariance of (x, t) in each axis, shape (values, 2, 2)."""
        off = self.alpha * self.values
        rows = np.stack([self.values, off], -1), np.stack([off, self.noisy], -1)
        return np.stack(rows, -2)


class LogDeterminants(NamedTuple):
    """Means and covariance of log determinants, and the leading part (4) of the means."""

    mean: Array
    covariance: Array
    leading: Array


class _Species(NamedTuple):
    """Fields: their own form at each offset and axis, row variables (x, t) U, their form Q."""

    own: Array
    u: Array
    form: Array


class _Saddle(NamedTuple):
    """Solved, at each offset: Y and U G U^T of (3), the leading value, the correction of (6)."""

    y: Array
    green: Array
    leading: Array
    correction: Array


def _solve(species: _Species, model: Regression) -> _Saddle:
    """The saddle (3) at every offset by damped steps, then by Newton's method."""
    u, q, nu = species.u, species.form, model.rows
    s, counts, r, k = model.joint, model.counts, len(q), len(species.own)
    spread = np.einsum("saf,ist,tbg->iabfg", u, s, u, optimize=True)
    flat = spread.reshape(len(s), r * r, -1)
    shape = species.own.shape

    def fields(y: Array) -> Array:
        return species.own + nu * np.einsum("kp,ipq->kiq", y.reshape(k, -1), flat).reshape(shape)

    def overlaps(green: NDArray[np.floating[Any]]) -> Array:
        weighted = (counts[:, None, None] * green).reshape(k, len(s), -1)
        return np.einsum("kiq,ipq->kp", weighted, flat, optimize=True).reshape(k, r, r)

    def step(y: Array) -> Array:
        found = np.linalg.solve(np.eye(r) + q @ overlaps(np.linalg.inv(fields(y))), q)
        return (found + found.transpose(0, 2, 1)) / 2

    y = np.broadcast_to(q / 2, (k, r, r)).copy()
    for _ in range(_DAMPED):
        y = 0.3 * y + 0.7 * step(y)
    y = _newton(step, y)
    form = fields(y)
    green = np.linalg.inv(form)
    overlap = overlaps(green)
    leading = model.sum(np.linalg.slogdet(form).logabsdet) - nu * (y * overlap).sum((1, 2))
    leading += nu * np.linalg.slogdet(np.eye(r) + overlap @ q).logabsdet
    seen = np.einsum("saf,kifg,tbg->kisatb", u, green, u, optimize=True)
    saddle = _Saddle(y, seen, leading, np.zeros(k))
    j = _fluctuations(saddle, saddle, model, own=True).reshape(k, r, r, r, r)
    twist = j.transpose(0, 1, 2, 4, 3)
    (a, b), (c, d) = np.triu_indices(r), np.triu_indices(r, 1)
    plus = (j + twist)[:, a, b][:, :, a, b] / (1 + (a == b))
    minus = (j - twist)[:, c, d][:, :, c, d]
    return saddle._replace(correction=(_log_det(plus) - _log_det(minus)) / 2)


def _newton(step: Callable[[Array], Array], y: Array) -> Array:
    """Solve y = step(y) for symmetric matrices, all offsets at once, by differences."""
    upper = np.triu_indices(y.shape[-1])

    def full(v: Array) -> Array:
        m = np.zeros_like(y)
        m[:, upper[0], upper[1]] = v
        m[:, upper[1], upper[0]] = v
        return m

    v = y[:, upper[0], upper[1]]
    size = np.abs(v).max(-1, keepdims=True)
    for _ in range(_NEWTON):
        miss = step(full(v))[:, upper[0], upper[1]] - v
        if np.abs(miss / size).max() < 1e-13:
            break
        jacobian = np.empty((*v.shape, v.shape[-1]))
        for k in range(v.shape[-1]):
            h = 1e-6 * np.maximum(np.abs(v[:, k]), 1e-6 * size[:, 0])
            moved = v.copy()
            moved[:, k] += h
            new = step(full(moved))[:, upper[0], upper[1]] - moved
            jacobian[:, :, k] = (new - miss) / h[:, None]
        move = np.linalg.solve(jacobian, -miss[..., None])[..., 0]
        reach = (np.abs(move) / (0.5 * np.abs(v) + 1e-12 * size)).max(-1, keepdims=True)
        v = v + move / np.maximum(reach, 1)
    return full(v)


def _fluctuations(a: _Saddle, b: _Saddle, model: Regression, *, own: bool = False) -> Array:
    """J_ab of (5), for every pair of offsets, or for each offset with itself."""
    s = model.joint
    left = np.einsum("i,kiscte,isp,itq->kipcqe", model.counts, a.green, s, s, optimize=True)
    size = a.y.shape[-1] * b.y.shape[-1]
    if own:
        gamma = np.einsum("kipcqe,kipdqf->kcdef", left, b.green, optimize=True)
        rows = np.einsum("kce,kdf->kcdef", a.y, b.y)
    else:
        gamma = np.einsum("kipcqe,lipdqf->klcdef", left, b.green, optimize=True)
        rows = np.einsum("kce,ldf->klcdef", a.y, b.y)
    shape = (*gamma.shape[:-4], size, size)
    return np.eye(size) - model.rows * rows.reshape(shape) @ gamma.reshape(shape)


def _covariance(a: _Saddle, b: _Saddle, model: Regression) -> Array:
    """Of two families of log determinants, equation (6)."""
    return -2 * _log_det(_fluctuations(a, b, model))


def _log_det(matrix: Array) -> Array:
    """NaN where the fluctuations have no Gaussian law."""
    sign, value = np.linalg.slogdet(matrix)
    return np.where(sign > 0, value, np.nan)
