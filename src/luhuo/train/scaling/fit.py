"""Fitting the law: Hoffmann et al. 2022, approach 3, with the numerical care that Besiroglu et al. 2024 found missing.

Minimised is the *sum* over runs of the Huber loss of log L(N, D) - log(measured), with log L as a log-sum-exp of
(a - α·log N, b - β·log D, e). Their traps, and what stands here against each:

- The mean in place of the sum makes gradients so small that a first-order stopping rule ends the search early, and
  rounding the answer moves the law. Here the minimiser is Levenberg and Marquardt's on reweighted squares, in float64,
  which uses curvature and stops when the step itself vanishes; L-BFGS run to its end finds the same minimum (tests).
- log A and α are nearly collinear over a narrow range of sizes. log N and log D are centred, so that a and b are the
  terms at the middle of the grid.
- There are several local minima: 150 starts, of which the lowest end counts.

Many fits run side by side as rows of one array: the bootstrap costs little more than one fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.train.scaling.law import Array, Law

Values = Sequence[float] | Array
FREE = 5
"""Parameters of the law."""
HUBER = 1e-3
"""Hoffmann et al. 2022, section 3.3: beyond this, in log loss, a residual counts linearly."""
EFFICIENT = 1.345
"""Standard deviations at which Huber's estimate keeps 95% of the efficiency of least squares (Huber 1964)."""
KEPT = 15
"""Ends of least squares, the lowest, from which the Huber loss is minimised; and as many fresh starts."""
LOW = np.array([-7.0, -7.0, -7.0, 0.01, 0.01])
HIGH = np.array([8.0, 8.0, 8.0, 3.0, 3.0])
"""Bounds of (e, a, b, α, β), relative to the mean log loss; a term of e⁻⁷ of the loss is none."""


@dataclass(frozen=True)
class Data:
    """Runs to fit: logs, centred. `y` may have several rows (targets of several fits); n and d are one row."""

    n: Array
    d: Array
    y: Array
    middle_n: float
    middle_d: float
    middle_y: float

    @classmethod
    def of(cls, parameters: Values, tokens: Values, losses: Values) -> Data:
        """Check and take logs. Raises `LuhuoError` where no law can be fitted."""
        n, d, y = (np.asarray(values, np.float64) for values in (parameters, tokens, losses))
        _check(n, d, y)
        n, d, y = np.log(n), np.log(d), np.log(y)
        return cls(n - n.mean(), d - d.mean(), y - y.mean(), n.mean(), d.mean(), y.mean())

    def law(self, theta: Array) -> Law:
        """The law of one row (e, a, b, α, β) of centred parameters."""
        e, a, b, alpha, beta = (float(value) for value in theta)
        scale = self.middle_y
        return Law(
            float(np.exp(e + scale)),
            float(np.exp(a + scale + alpha * self.middle_n)),
            float(np.exp(b + scale + beta * self.middle_d)),
            alpha,
            beta,
        )


@dataclass(frozen=True)
class Fit:
    """The law of the lowest objective, and what intervals are made from."""

    data: Data
    theta: Array
    delta: float
    """Where the Huber loss turns linear."""
    residuals: Array
    """log measured - log fitted, by run."""
    objective: float

    @property
    def law(self) -> Law:
        """The fitted law."""
        return self.data.law(self.theta)

    @property
    def spread(self) -> float:
        """Robust standard deviation of a run around the law, in log loss."""
        return _spread(self.residuals)

    @property
    def mean_residual(self) -> float:
        """Mean absolute residual, in log loss."""
        return float(np.abs(self.residuals).mean())


def fit(parameters: Values, tokens: Values, losses: Values) -> Fit:
    """The law of the runs. Raises `LuhuoError` for data no law can be fitted to."""
    data = Data.of(parameters, tokens, losses)
    theta, objective, delta = solve(data, starts(data))
    residuals = data.y - predict(theta, data.n, data.d)
    return Fit(data, theta, delta, residuals, objective)


def solve(data: Data, begin: Array) -> tuple[Array, float, float]:
    """(θ, objective, δ) of the best end over all starts.

    δ is 1e-3, or 1.345 standard deviations of the residuals where these are larger: small models scatter more than
    Hoffmann's, and a δ far below the scatter would be a fit of medians, which wastes a third of the runs.
    """
    weights = np.ones((1, data.y.size))
    theta, objective = minimise(data, data.y[None], weights, begin, np.inf)
    theta = np.vstack([theta[np.argsort(objective)[:KEPT]], begin[:: len(begin) // KEPT]])
    best, delta = theta[0], HUBER
    for _ in range(4):
        delta = max(HUBER, EFFICIENT * _spread(data.y - predict(best, data.n, data.d)))
        theta, objective = minimise(data, data.y[None], weights, theta, delta)
        best = theta[objective.argmin()]
    return best, float(objective.min()), delta


def starts(data: Data) -> Array:
    """(starts, 5): exponents and the share of E on a grid, A and B by least squares for each."""
    loss = np.exp(data.y)
    rows = []
    for alpha, beta, share in itertools.product(
        (0.08, 0.2, 0.35, 0.55, 0.9), (0.08, 0.2, 0.35, 0.55, 0.9), (0.02, 0.2, 0.4, 0.6, 0.8, 0.95)
    ):
        e = share * loss.min()
        terms = np.stack([np.exp(-alpha * data.n), np.exp(-beta * data.d)], 1)
        a, b = np.maximum(np.linalg.lstsq(terms, loss - e, rcond=None)[0], 1e-3)
        rows.append([np.log(e), np.log(a), np.log(b), alpha, beta])
    return np.clip(np.array(rows), LOW, HIGH)


def predict(theta: Array, n: Array, d: Array) -> Array:
    """Centred log loss: theta (…, 5), n and d (runs) -> (…, runs)."""
    return np.logaddexp(theta[..., 0, None], np.logaddexp(*_terms(theta, n, d)))


def jacobian(theta: Array, n: Array, d: Array) -> Array:
    """Derivatives of `predict`: theta (…, 5) -> (…, runs, 5)."""
    first, second = _terms(theta, n, d)
    whole = predict(theta, n, d)
    size, text = np.exp(first - whole), np.exp(second - whole)
    return np.stack([np.exp(theta[..., 0, None] - whole), size, text, -size * n, -text * d], -1)


def minimise(data: Data, y: Array, weights: Array, begin: Array, delta: float) -> tuple[Array, Array]:
    """Levenberg and Marquardt's method on rows side by side: (θ (rows, 5), objective (rows)).

    y (1 or rows, runs): centred log losses; weights like y: how often each run counts.
    """
    theta = begin.copy()
    damping = np.full(len(theta), 1e-2)
    value = _objective(theta, data, y, weights, delta)
    active = np.ones(len(theta), bool)
    for _ in range(400):
        rows = np.flatnonzero(active)
        if not len(rows):
            break
        y_now, w_now = (array if len(array) == 1 else array[rows] for array in (y, weights))
        moved = np.clip(theta[rows] + _step(theta[rows], data, y_now, w_now, delta, damping[rows]), LOW, HIGH)
        found = _objective(moved, data, y_now, w_now, delta)
        better = found < value[rows]
        gain = np.where(better, value[rows] - found, 0.0)
        theta[rows[better]], value[rows[better]] = moved[better], found[better]
        damping[rows] = np.clip(np.where(better, damping[rows] / 4, damping[rows] * 5), 1e-14, 1e12)
        active[rows] = np.where(better, gain > 1e-14 * value[rows], damping[rows] < 1e9)
    return theta, value


def _step(theta: Array, data: Data, y: Array, weights: Array, delta: float, damping: Array) -> Array:
    residual = y - predict(theta, data.n, data.d)
    slopes = jacobian(theta, data.n, data.d)
    # Huber's loss as a square that touches it from above: each step lowers both.
    weight = weights * np.minimum(1.0, delta / np.maximum(np.abs(residual), 1e-300))
    heavy = slopes * weight[..., None]
    normal = np.einsum("rmi,rmj->rij", heavy, slopes)
    gradient = np.einsum("rmi,rm->ri", heavy, residual)
    diagonal = np.einsum("rii->ri", normal)
    diagonal += damping[:, None] * (diagonal + 1e-12)
    return np.linalg.solve(normal, gradient[..., None])[..., 0]


def _objective(theta: Array, data: Data, y: Array, weights: Array, delta: float) -> Array:
    size = np.abs(y - predict(theta, data.n, data.d))
    if np.isinf(delta):
        return (weights * size * size / 2).sum(-1)
    return (weights * np.where(size <= delta, size * size / 2, delta * (size - delta / 2))).sum(-1)


def _terms(theta: Array, n: Array, d: Array) -> tuple[Array, Array]:
    e, a, b, alpha, beta = (theta[..., i, None] for i in range(FREE))
    del e
    return a - alpha * n, b - beta * d


def _spread(residuals: Array) -> float:
    """Median absolute residual as a standard deviation, for FREE fitted parameters."""
    count = residuals.size
    return float(1.4826 * np.median(np.abs(residuals)) * np.sqrt(count / (count - FREE)))


def _check(n: Array, d: Array, y: Array) -> None:
    """Refuse data no law can be fitted to, with one message that says all that is missing."""
    problems = []
    if not (n.ndim == 1 and n.shape == d.shape == y.shape):
        problems.append(tr("the columns differ in length", "各列长度不同"))
    elif not all(np.isfinite(array).all() and (array > 0).all() for array in (n, d, y)):
        problems.append(tr("a value is not finite or not positive", "有数值非有限或非正"))
    else:
        if n.size <= FREE:
            problems.append(tr(f"{n.size} runs", f"只有 {n.size} 次运行"))
        for values, en, zh in ((n, "model sizes", "种模型规模"), (d, "token counts", "种词元数")):
            if (distinct := len(np.unique(values))) < 3:
                problems.append(tr(f"{distinct} different {en}", f"只有 {distinct} {zh}"))
        if not problems and np.ptp(np.log(y)) < 1e-6:
            problems.append(tr("all losses are equal", "所有损失都相同"))
    if problems:
        raise LuhuoError(
            tr("No scaling law can be fitted to these runs.", "无法对这些运行拟合缩放定律。"),
            expected=tr(
                f"at least {FREE + 1} runs over 3 sizes and 3 token counts, with finite losses",
                f"至少 {FREE + 1} 次运行，覆盖 3 种规模与 3 种词元数，且损失有限",
            ),
            found="; ".join(problems),
        )
