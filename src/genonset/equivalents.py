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

Assumed: Gaussian data; a smallest singular value of theta that is away from 0 where D is (see
`theory` for what is done at D = 0). Reference: theory note (B10), which is (4) for isotropic data
without sample terms; Bai and Silverstein 2004, Ann. Probab. 32, 553, for (6) of one Wishart matrix.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genonset.errors import ConfigError

Array = NDArray[np.float64]
Start = Literal["scalar", "estimated", "in_sample"]

_STEPS, _NEWTON = 3000, 20


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
        """Mean variance of x_t: the scalar start in the mean."""
        return self.sum(self.noisy) / self.dim

    @property
    def penalty(self) -> float:
        """What is added to T^T T."""
        if self.ridge == 0 and self.rows < self.dim + 1:
            return 1e-7 * self.scale * self.rows
        return self.ridge * self.n

    def sum(self, terms: Array) -> float:
        return float((terms * self.counts).sum())

    def log_determinants(self, offsets: Array, *, factor: float = 1.0, weight: float = 0.0):
        """Mean and covariance of (1) at several offsets, equation (6).

        Args:
            offsets: D, shape (offsets, number of values), positive.
            factor: of the scalar start.
            weight: of X^T X in (1).

        Returns:
            means, shape (offsets,), and covariance, shape (offsets, offsets).

        Raises:
            ConfigError: where n is so near d, or D so near 0, that (6) does not exist.
        """
        slope, inverse = self._species(offsets, factor, weight), self._inverse()
        fields = [_solve(one, self) for one in slope]
        gram = _solve(inverse, self)
        means = np.array([f.leading + f.correction for f in fields])
        means -= 2 * (gram.leading + gram.correction)
        k = len(fields)
        covariance = np.empty((k, k))
        beside = np.array([_covariance(f, gram, self) for f in fields])
        own = _covariance(gram, gram, self)
        for a in range(k):
            for b in range(a, k):
                joint = _covariance(fields[a], fields[b], self)
                covariance[a, b] = covariance[b, a] = (
                    joint - 2 * beside[a] - 2 * beside[b] + 4 * own
                )
        return LogDeterminants(means, covariance)

    def _species(self, offsets: Array, factor: float, weight: float) -> list["_Species"]:
        """The fields of B, one species for each offset, equation (2)."""
        x, t = np.zeros((4, 3)), np.zeros((4, 3))
        t[0, 1] = t[1, 2] = 1
        x[1, 0] = -1
        kappa, base = 0.0, factor * self.scale
        if self.start == "estimated":
            x[2, 2], kappa, base = 1, self.alpha**2 / self.rows, self.sigma**2
        elif self.start == "in_sample":
            t[2, 2], kappa, base = 1, 1 / self.rows, 1e-9 * self.scale
        x[3, 0] = 1
        form = np.zeros((4, 4))
        form[0, 1] = form[1, 0] = 1
        form[2, 2], form[3, 3] = -kappa, -weight
        used = [0, 1] + [2] * (kappa > 0) + [3] * (weight > 0)
        species = []
        for offset in offsets:
            own = np.zeros((len(self.values), 3, 3))
            own[:, 0, 0], own[:, 2, 2] = -offset, -base
            own[:, 1, 2] = own[:, 2, 1] = self.penalty
            species.append(_Species(own, x[used], t[used], form[np.ix_(used, used)]))
        return species

    def _inverse(self) -> "_Species":
        """The field of H."""
        own = np.full((len(self.values), 1, 1), self.penalty)
        one = np.ones((1, 1))
        return _Species(own, 0 * one, one, one)


class LogDeterminants(NamedTuple):
    """Means and covariance of log determinants."""

    mean: Array
    covariance: Array


class _Species(NamedTuple):
    """A set of fields: its own form in each axis, row variables x and t times them, their form."""

    own: Array
    x: Array
    t: Array
    form: Array


class _Saddle(NamedTuple):
    """A solved species: Y and U G U^T of (3), the leading value and half the log ratio of (6)."""

    y: Array
    green: Array
    leading: float
    correction: float


def _spread(model: Regression) -> Array:
    """Covariance of (x, t) in each axis, shape (values, 2, 2)."""
    c = model.values
    off = model.alpha * c
    return np.stack([np.stack([c, off], -1), np.stack([off, model.noisy], -1)], -2)


def _solve(species: _Species, model: Regression) -> _Saddle:
    """The saddle (3) by damped steps, then by Newton's method."""
    u = np.stack([species.x, species.t])  # (2, r, F)
    s, q, nu = _spread(model), species.form, model.rows
    r = len(q)
    one = np.eye(r)

    def fields(y: Array) -> Array:
        return species.own + nu * np.einsum("saf,ist,ab,tbg->ifg", u, s, y, u, optimize=_PATH)

    def overlaps(green: Array) -> Array:
        return np.einsum("i,saf,ist,ifg,tbg->ab", model.counts, u, s, green, u, optimize=_PATH)

    def step(y: Array) -> Array:
        k = overlaps(np.linalg.inv(fields(y)))
        found = np.linalg.solve((one + k @ q).T, q.T).T
        return (found + found.T) / 2

    y = _start(species, model)
    for _ in range(_STEPS):
        new = step(y)
        change = np.abs(new - y).max() / np.abs(new).max()
        y = 0.3 * y + 0.7 * new
        if change < 1e-4:
            break
    y = _newton(step, y)
    green = np.linalg.inv(fields(y))
    k = overlaps(green)
    leading = float((np.linalg.slogdet(fields(y)).logabsdet * model.counts).sum())
    leading += nu * float(np.linalg.slogdet(one + k @ q).logabsdet - (y * k).sum())
    saddle = _Saddle(y, np.einsum("saf,ifg,tbg->isatb", u, green, u, optimize=_PATH), leading, 0.0)
    j = _fluctuations(saddle, saddle, model).reshape(r, r, r, r)
    plus = (j + j.transpose(0, 1, 3, 2))[*np.triu_indices(r)][:, *np.triu_indices(r)]
    plus /= 1 + one[np.triu_indices(r)]
    minus = (j - j.transpose(0, 1, 3, 2))[*np.triu_indices(r, 1)][:, *np.triu_indices(r, 1)]
    correction = (_log_det(plus) - _log_det(minus)) / 2
    return saddle._replace(correction=correction)


_PATH = "greedy"


def _start(species: _Species, model: Regression) -> Array:
    """A first Y: without fluctuations of the overlaps, h = nu Q, halved."""
    return species.form / 2


def _newton(step, y: Array) -> Array:
    """Solve y = step(y) for a symmetric matrix, by differences."""
    upper = np.triu_indices(len(y))

    def full(v: Array) -> Array:
        m = np.zeros_like(y)
        m[upper] = v
        return m + np.triu(m, 1).T

    v = y[upper]
    size = np.abs(v).max()
    for _ in range(_NEWTON):
        miss = step(full(v))[upper] - v
        if np.abs(miss).max() < 1e-13 * size:
            break
        jacobian = np.empty((len(v), len(v)))
        for k in range(len(v)):
            h = 1e-6 * max(abs(v[k]), 1e-6 * size)
            moved = v.copy()
            moved[k] += h
            jacobian[:, k] = (step(full(moved))[upper] - moved - miss) / h
        v = v - np.linalg.solve(jacobian, miss)
    return full(v)


def _fluctuations(a: _Saddle, b: _Saddle, model: Regression) -> Array:
    """J_ab of (5)."""
    s = _spread(model)
    gamma = -np.einsum("i,iscte,isp,itq,ipdqf->cdef", model.counts, a.green, s, s, b.green,
                       optimize=_PATH)  # fmt: skip
    size = len(a.y) * len(b.y)
    rows = -model.rows * np.einsum("ce,df->cdef", a.y, b.y)
    return np.eye(size) - rows.reshape(size, size) @ gamma.reshape(size, size)


def _covariance(a: _Saddle, b: _Saddle, model: Regression) -> float:
    """Of two log determinants, equation (6)."""
    return -2 * _log_det(_fluctuations(a, b, model))


def _log_det(matrix: Array) -> float:
    sign, value = np.linalg.slogdet(matrix)
    if sign <= 0:
        raise ConfigError(
            "The fluctuations of this log determinant have no Gaussian law: n is too near the "
            "dimension, or an offset too near 0."
        )
    return float(value)
