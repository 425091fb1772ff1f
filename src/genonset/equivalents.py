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
and Q the form of (2) in them, each row gives det(1 + K Q)^(-1/2). psi is measured in units in
which no number is large or small at any ridge: its ridge becomes a, the form of a row N E^-1, and

    (3)  a b = ridge,  b + sum_i s_i/(a + nu s_i) = 1,   E = b for p and q,  N = 2 p q - ..,

s the variances of t. a is the effective ridge of the regression. Without ridge b = 0 below nu = d,
which is least squares of minimum norm, and a = 0 above.

*Saddle.* With G_i the inverse of the form of the fields in axis i of C, h = nu Y and

    (4)  Y = N (E + K N)^-1,    K = sum_i U S_i (U G_i U^T),    form_i = form(2)_i + U^T (S_i h) U,

S_i the covariance of (x, t) in axis i, the leading value is

    (5)  ln det B = sum_i ln |det form_i| - tr(h K) + nu ln det(E + K N),

that of H the same with Y = 1 and form a + nu s_i. (4) has more than one solution; the one meant
is joined to that at D = infinity, where it is alone. It has Y_pp >= 0, Y_qq <= 0 and Y_pq > 0, and
without ridge above nu = d Y_pq = 1; one that breaks this is never returned. Newton's method, whose
matrix is J below, begins on a damped iteration of (4), and where it fails follows the solution
from large D.

*Fluctuations.* Of a pair of replicas the overlaps K_ab, a matrix without symmetry, fluctuate with

    (6)  J_ab = 1 - nu (Y_a x Y_b) Gamma_ab,   Gamma_ab = sum_i (U G_a U^T) S S (U G_b U^T),

and collecting the powers of m gives, with errors of order 1/d,

    (7)  mean = (5) + 1/2 ln det J_sym - 1/2 ln det J_anti,    Cov(a, b) = -2 ln det J_ab,

the halves of J_aa on symmetric and antisymmetric overlaps. For one Wishart matrix (7) is the known
1/2 ln(1 - d/nu) and -2 ln(1 - d/nu). The factor det H² is taken off, with its covariances. Within
one of nu = d without ridge its J vanishes and (7) is void.

*The scalar start* f m_0 scatters with the trace of the sample covariance, whose covariance with L
is 2 nu sum_i c_i tr Y S_i (U G_i U^T) over x alone; to second order in df, with s² = E df²,

    (8)  mean += s²/2 d²L/df² + d/df Cov(df, L),
         Cov(a, b) += s² dL_a/df dL_b/df + dL_a/df Cov(df, L_b) + dL_b/df Cov(df, L_a).

Assumed: Gaussian data; a smallest singular value of theta that is away from 0 where D is (see
`one_step` for what is done at D = 0).

Reference: theory note (B15) for (1), (B16a) for (3), (B16) for (4) and (5), (B17) for (6) and (7);
Bai and Silverstein 2004, Ann. Probab. 32, 553, for (7) of one Wishart matrix.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Start = Literal["scalar", "estimated", "in_sample"]

_DAMPED, _NEWTON = 12, 30
_MOVE = 0.05
"""Relative change of the scalar start between which (8) takes differences."""


@dataclass(frozen=True, kw_only=True)
class Regression:
    """The linear one-step model on n points of a Gaussian source.

    Attributes:
        values, counts: eigenvalues of C, each with its multiplicity.
        alpha, sigma: signal and noise scale at the horizon, alpha > 0 and sigma > 0.
        n: training points, > 2.
        ridge: in units of the covariance of x_t; 0 is least squares of minimum norm.
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

    @cached_property
    def effective_ridge(self) -> tuple[float, float]:
        """a and 1 - b of (3)."""
        nu, s = self.rows, self.noisy
        penalty = self.ridge * self.n
        if self.ridge == 0 and nu > self.dim - 1:
            if nu >= self.dim + 1:
                return 0.0, self.dim / nu
            penalty = 1e-6 * self.scale * nu
        high = penalty + float(self.sum(s))
        low = penalty or 1e-12 * high

        def excess(kappa: float) -> float:
            return float(self.sum(s / (kappa + nu * s))) + penalty / kappa - 1

        for _ in range(200):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if excess(middle) > 0 else (low, middle)
            if high / low < 1 + 4e-16:
                break
        kappa = math.sqrt(low * high)
        return kappa, 1 - penalty / kappa

    def sum(self, terms: Array) -> Array:
        """Over the axes, the last dimension."""
        return (terms * self.counts).sum(-1)

    def log_determinants(
        self, offsets: Array, *, weights: Array | float = 0.0, scatter: bool = True
    ) -> "LogDeterminants":
        """Mean and covariance of (1) at several offsets: `log_determinants` of one model."""
        (found,) = log_determinants([self], [offsets], [weights], scatter=scatter)
        return found


class LogDeterminants(NamedTuple):
    """Means and covariance of log determinants, and the leading part (5) of the means.

    `slope` is that of the leading part in the offset of each axis of C.
    """

    mean: Array
    covariance: Array
    leading: Array
    slope: Array


def log_determinants(
    models: Sequence[Regression],
    offsets: Sequence[Array],
    weights: Sequence[Array | float] | None = None,
    *,
    scatter: bool = True,
) -> list[LogDeterminants]:
    """Mean and covariance of (1) at several offsets of several sizes, equations (7) and (8).

    All are solved at once, which is what makes a curve cheap.

    Args:
        models: which differ in n alone.
        offsets: D for each model, shape (offsets, number of values), positive.
        weights: of X^T X in (1), for each model one number or one for each offset.
        scatter: whether the scalar start scatters; else it is m_0.

    Returns:
        For each model; NaN where n is so near d, or D so near 0, that (7) does not exist.

    Reference: theory note (B15) to (B17).
    """
    if not models:
        return []
    if weights is None:
        weights = [0.0] * len(models)
    ends = np.cumsum([0, *(len(own) for own in offsets)])
    which = np.repeat(np.arange(len(models)), np.diff(ends))
    model, own = models[0], np.concatenate(list(offsets))
    pulls = np.concatenate(
        [np.broadcast_to(w, len(o)) for w, o in zip(weights, offsets, strict=True)]
    )
    ridges = np.array([m.effective_ridge for m in models])
    rows = np.array([m.rows for m in models])
    problem = _Problem(model, own, pulls, rows[which], ridges[which])
    middle = problem.solve(1.0)
    grams = [_gram(m) for m in models]
    places = [slice(*pair) for pair in pairwise(ends)]
    if model.start != "scalar" or not scatter:
        return [_beside(middle.part(at), gram) for at, gram in zip(places, grams, strict=True)]
    up, down = (problem.solve(1 + s * _MOVE, middle.y) for s in (1, -1))
    found = []
    for m, at, gram in zip(models, places, grams, strict=True):
        parts = [saddle.part(at) for saddle in (middle, up, down)]
        found.append(_scattered(m, gram, *parts))
    return found


def _beside(fields: "_Saddle", gram: "_Saddle") -> LogDeterminants:
    """(7) for L, which is ln det B less twice ln det H."""
    beside = 2 * _covariance(fields, gram)
    covariance = _covariance(fields, fields) + 4 * _covariance(gram, gram) - beside - beside.T
    leading = fields.leading - 2 * gram.leading
    mean = leading + fields.correction - 2 * gram.correction
    return LogDeterminants(mean, covariance, leading, fields.slope)


def _scattered(
    model: Regression, gram: "_Saddle", middle: "_Saddle", up: "_Saddle", down: "_Saddle"
) -> LogDeterminants:
    """(8), by differences between a scalar start that is larger and one that is smaller."""
    found = _beside(middle, gram)
    unit = model.alpha**2 / (model.dim * model.rows * model.scale)
    square = unit**2 * 2 * model.rows * float(model.sum(model.values**2))
    beside, above, below = (unit * (s.trace - 2 * gram.trace) for s in (middle, up, down))
    means = [saddle.leading + saddle.correction for saddle in (middle, up, down)]
    slope = (means[1] - means[2]) / (2 * _MOVE)
    bend = (means[1] - 2 * means[0] + means[2]) / _MOVE**2
    cross = slope[:, None] * beside
    return found._replace(
        mean=found.mean + square * bend / 2 + (above - below) / (2 * _MOVE),
        covariance=found.covariance + square * np.outer(slope, slope) + cross + cross.T,
    )


# -- saddles -----------------------------------------------------------------------------------


class _Saddle(NamedTuple):
    """Solved, at each offset.

    Attributes:
        y: Y of (4).
        seen: nu^(1/2) Y U G U^T of (6), with the square roots of S and of the multiplicities.
        leading: (5).
        correction: of the mean in (7).
        trace: covariance with tr X^T X.
        slope: of (5) in the offset of each axis.
    """

    y: Array
    seen: Array
    leading: Array
    correction: Array
    trace: Array
    slope: Array

    def part(self, at: slice) -> "_Saddle":
        return _Saddle(*(one[at] for one in self))


def _gram(model: Regression) -> _Saddle:
    """The field of H, with Y = 1 and a of (3)."""
    nu, c, s, n = model.rows, model.values, model.noisy, model.counts
    kappa, share = model.effective_ridge
    green = 1 / (kappa + nu * s)
    roots = np.stack([model.alpha * np.sqrt(c), np.full_like(c, model.sigma)])
    seen = (np.sqrt(nu * n) * green * roots[:, None] * roots).transpose(2, 0, 1)
    leading = float(model.sum(np.log(kappa + nu * s))) - nu * share
    j = 1 - nu * float(model.sum((s * green) ** 2))
    trace = 2 * nu * float(model.sum(c * green * model.alpha**2 * c))
    return _Saddle(
        y=np.ones((1, 1, 1)),
        seen=seen.reshape(1, -1, 1, 1),
        leading=np.array([leading]),
        correction=np.array([math.log(j) / 2 if j > 0 else math.nan]),
        trace=np.array([trace]),
        slope=np.zeros((1, len(c))),
    )


class _Problem:
    """The fields of B at every offset: equations (2) to (4)."""

    def __init__(
        self, model: Regression, offsets: Array, weights: Array, rows: Array, ridges: Array
    ):
        x, t = np.zeros((4, 3)), np.zeros((4, 3))
        t[0, 1] = t[1, 2] = 1
        x[1, 0], x[3, 0] = -1, 1
        kappa, self.base = np.zeros_like(rows), model.scale
        if model.start == "estimated":
            x[2, 2], kappa, self.base = 1, model.alpha**2 / rows, model.sigma**2
        elif model.start == "in_sample":
            t[2, 2], kappa, self.base = 1, 1 / rows, 0.0
        used = [0, 1, *([2] if model.start != "scalar" else []), *([3] if weights.any() else [])]
        form, unit = np.zeros((len(rows), 4, 4)), np.zeros((len(rows), 4, 4))
        form[:, 0, 1] = form[:, 1, 0] = 1
        form[:, 2, 2], form[:, 3, 3] = -kappa, -weights
        unit[:, 0, 0] = unit[:, 1, 1] = 1 - ridges[:, 1]
        unit[:, 2, 2] = unit[:, 3, 3] = 1
        self.form, self.unit = form[:, used][:, :, used], unit[:, used][:, :, used]
        self.alpha, self.offsets, self.rows, self.ridges = model.alpha, offsets, rows, ridges[:, 0]
        self.counts, self.squares = (
            model.counts,
            np.stack([model.values, np.full_like(model.values, model.sigma**2)], -1),
        )
        u = np.stack([x + model.alpha * t, t])[:, used]  # of the two normal numbers behind (x, t)
        r = len(used)
        self.pairs = np.einsum("acf,beg->fgabce", u, u).reshape(9, 4, r * r)
        self.back = np.einsum("acf,aeg->ceafg", u, u).reshape(r * r, 18)
        roots = np.sqrt(self.squares)
        self.roots = (roots[:, :, None] * roots[:, None, :]).reshape(len(roots), 4)

    def own(self, factor: float) -> Array:
        """The form (2) without its rows."""
        own = np.zeros((*self.offsets.shape, 3, 3))
        own[..., 0, 0], own[..., 2, 2] = -self.offsets, -factor * self.base
        own[..., 1, 2] = own[..., 2, 1] = self.ridges[:, None]
        return own

    def fields(self, own: Array, y: Array, at: NDArray[np.intp]) -> Array:
        """The form of the fields in every axis."""
        k, r, _ = y.shape
        seen = (self.rows[at, None] * y.reshape(k, r * r)) @ self.back
        return own + (self.squares @ seen.reshape(k, 2, 9)).reshape(own.shape)

    def overlaps(self, green: Array) -> tuple[Array, Array]:
        """U G U^T with the roots of S and of the multiplicities, and K of (4)."""
        k, axes = green.shape[:2]
        pairs = green.reshape(k * axes, 9) @ self.pairs.reshape(9, -1)
        r = self.form.shape[-1]
        seen = (
            pairs.reshape(k, axes, 4, r * r)
            * (self.roots * np.sqrt(self.counts)[:, None])[:, :, None]
        )
        own = np.sqrt(self.counts) @ seen[:, :, ::3].sum(2)
        return seen.reshape(k, axes * 4, r, r), own.reshape(k, r, r)

    def step(self, own: Array, y: Array, at: NDArray[np.intp]) -> tuple[Array, Array]:
        """The right-hand side of (4) at Y, and what (6) is made of."""
        seen, k = self.overlaps(_inverse(self.fields(own, y, at)))
        form = self.form[at]
        found = form @ _inverse(self.unit[at] + k @ form)
        found = (found + found.transpose(0, 2, 1)) / 2
        return found, np.sqrt(self.rows[at])[:, None, None, None] * (found[:, None] @ seen)

    def solve(self, factor: float, y: Array | None = None) -> _Saddle:
        """(4) at every offset, from a guess where there is one."""
        own, every = self.own(factor), np.arange(len(self.rows))
        if y is None:
            y = self.damped(own, every)
        y, solved = self.newton(own, y, every)
        left = np.flatnonzero(~solved)
        if len(left):
            y[left], solved[left] = self.followed(own[left], left)
        y[~solved] = np.nan
        return self.saddle(own, y)

    def damped(self, own: Array, at: NDArray[np.intp]) -> Array:
        """Towards the saddle, on its branch: at no ridge another one has no overlap p q."""
        y = self.form[at] / 2
        y[:, 0, 1] = y[:, 1, 0] = np.where(self.ridges[at] > 0, 0.5, 1.0)
        for _ in range(_DAMPED):
            y = 0.3 * y + 0.7 * self.step(own, y, at)[0]
        return y

    def newton(
        self, own: Array, y: Array, at: NDArray[np.intp]
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Newton's method, whose matrix is J of (6); and where it came to an end on the branch."""
        y, left, rough = y.copy(), np.arange(len(at)), np.ones(len(at), bool)
        for _ in range(_NEWTON):
            found, seen = self.step(own[left], y[left], at[left])
            miss = found - y[left]
            unit = self.units(y[left], at[left])
            seen *= (unit[:, None, :] / unit[:, :, None])[:, None]
            unit = unit[:, :, None] * unit[:, None, :]
            size = np.maximum(np.abs(y[left]), unit)
            move = _solved(_fluctuations(seen, seen), miss / unit) * unit
            reach = (np.abs(move) / (0.5 * size)).max((1, 2), keepdims=True)
            y[left] += move / np.maximum(reach, 1)
            rough[left] = ~(np.abs(move) < 1e-4 * size).all((1, 2))
            left = left[(np.abs(move) > 1e-6 * size).any((1, 2))]
            if not len(left):
                break
        solved = ~rough & (y[:, 0, 0] >= 0) & (y[:, 1, 1] <= 0)
        beyond = np.abs(y[:, 0, 1] - 1) > np.where(self.ridges[at] > 0, np.inf, 1e-6)
        return y, solved & (y[:, 0, 1] > 0) & ~beyond

    def units(self, y: Array, at: NDArray[np.intp]) -> Array:
        """Scales of the row variables: in them Y has a diagonal of about one."""
        own = np.einsum("kcc->kc", self.form[at]).copy()
        own[:, 0], own[:, 1] = y[:, 0, 0], y[:, 1, 1]
        return np.where(own == 0, 1.0, np.sqrt(np.abs(own)))

    def followed(self, own: Array, at: NDArray[np.intp]) -> tuple[Array, NDArray[np.bool_]]:
        """The saddle at infinite offsets, where it is alone, followed to the ones asked for."""
        least, largest = self.offsets[at].min(-1), self.offsets[at].max(-1)
        lift = 1e6 * np.maximum(largest, self.squares[:, 0].max())
        y = self.far(lift, at)
        while (lift > 0).any():
            above = own.copy()
            above[..., 0, 0] -= lift[:, None]
            y = self.newton(above, y, at)[0]
            lift = np.where(lift > 0.03 * least, lift / 4, 0.0)
            y[:, 0, 0] *= 2
        return self.newton(own, y, at)

    def far(self, offset: Array, at: NDArray[np.intp]) -> Array:
        """The saddle at large offsets, to first order."""
        y = self.form[at].copy()
        s = self.squares[:, 1] + self.alpha**2 * self.squares[:, 0]
        green = 1 / (self.ridges[at, None] + self.rows[at, None] * s)
        seen = 1 - self.rows[at] * (self.counts * (s * green) ** 2).sum(-1)
        y[:, 1, 1] = -self.base * (self.counts * s * green**2).sum(-1) / seen
        y[:, 0, 0] = self.counts @ self.squares[:, 0] / offset / seen
        return y

    def saddle(self, own: Array, y: Array) -> _Saddle:
        """What follows from Y."""
        every = np.arange(len(y))
        form = self.fields(own, y, every)
        green = _inverse(form)
        seen, overlap = self.overlaps(green)
        log_det = np.linalg.slogdet(form).logabsdet
        leading = (log_det * self.counts).sum(-1) - self.rows * (y * overlap).sum((1, 2))
        leading += self.rows * np.linalg.slogdet(self.unit + overlap @ self.form).logabsdet
        weighed = np.sqrt(self.rows)[:, None, None, None] * (y[:, None] @ seen)
        j = _fluctuations(weighed, weighed)
        r = y.shape[-1]
        j = j.reshape(-1, r, r, r, r)
        twist = j.transpose(0, 1, 2, 4, 3)
        (a, b), (c, d) = np.triu_indices(r), np.triu_indices(r, 1)
        plus = (j + twist)[:, a, b][:, :, a, b] / (1 + (a == b))
        minus = (j - twist)[:, c, d][:, :, c, d]
        through = np.einsum("kicc->ki", weighed[:, ::4])
        trace = 2 * np.sqrt(self.rows) * (through @ (np.sqrt(self.counts) * self.squares[:, 0]))
        return _Saddle(
            y=y,
            seen=weighed,
            leading=leading,
            correction=(_log_det(plus) - _log_det(minus)) / 2,
            trace=trace,
            slope=-self.counts * green[..., 0, 0],
        )


def _fluctuations(a: Array, b: Array) -> Array:
    """J_ab of (6), offset by offset."""
    k, _, r, _ = a.shape
    q = b.shape[-1]
    gamma = a.reshape(k, -1, r * r).transpose(0, 2, 1) @ b.reshape(k, -1, q * q)
    mixed = gamma.reshape(k, r, r, q, q).transpose(0, 1, 3, 2, 4).reshape(k, r * q, r * q)
    return np.eye(r * q) - mixed


def _covariance(a: _Saddle, b: _Saddle) -> Array:
    """Of two families of log determinants, equation (7)."""
    (k, m, r, _), (n, _, q, _) = a.seen.shape, b.seen.shape
    left = a.seen.transpose(0, 2, 3, 1).reshape(k * r * r, m)
    gamma = left @ b.seen.transpose(1, 0, 2, 3).reshape(m, n * q * q)
    mixed = gamma.reshape(k, r, r, n, q, q).transpose(0, 3, 1, 4, 2, 5)
    return -2 * _log_det(np.eye(r * q) - mixed.reshape(k, n, r * q, r * q))


def _inverse(matrix: Array) -> Array:
    """NaN where it is singular."""
    try:
        return np.linalg.inv(matrix).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        singular = np.linalg.slogdet(matrix).sign == 0
        safe = np.where(singular[..., None, None], np.nan, matrix)
        return np.linalg.inv(safe).astype(np.float64, copy=False)


def _solved(matrix: Array, right: Array) -> Array:
    """Linear equations for symmetric matrices; NaN where they are singular."""
    flat = right.reshape(len(right), -1, 1)
    try:
        found = np.linalg.solve(matrix, flat)
    except np.linalg.LinAlgError:
        found = _inverse(matrix) @ flat
    found = found.reshape(right.shape)
    return (found + found.transpose(0, 2, 1)) / 2


def _log_det(matrix: Array) -> Array:
    """NaN where the fluctuations have no Gaussian law."""
    sign, value = np.linalg.slogdet(matrix)
    return np.where(sign > 0, value, np.nan)
