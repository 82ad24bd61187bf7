"""The same runs in NumPy and SciPy, without tlx or JAX: the papers' formulas for two tasks, and slopes by hand."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

SCALE, RATE, CAGRAD_C, LEAST = 0.1, 1e-3, 0.4, 5e-6
LOWER = np.array([-21 * SCALE, -21.0])
FAMO_RATE, FAMO_DECAY = 0.025, 0.001
HALF_WIDTH = 7.0  # the Pareto set reaches from x_1 = −7 to 7


def losses_and_slopes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The losses (2,), and row by row their gradients (2, 2)."""
    a, b = x
    tanh, half = np.tanh(b), np.tanh(b / 2)
    above, below = max(half, 0.0), max(-half, 0.0)
    slope = (1 - half**2) / 2
    d_above, d_below = slope * (half >= 0), -slope * (half <= 0)
    values, gradients = [], []
    for sign, inner in ((1, -0.5 * (a + 7) + tanh), (-1, -0.5 * (a - 7) - tanh)):
        log = np.log(max(abs(inner), LEAST)) + 6
        inverse = 1 / inner if abs(inner) >= LEAST else 0.0
        square = ((a - sign * HALF_WIDTH) ** 2 + 0.1 * (b + 8) ** 2) / 10 - 20
        values.append(log * above + square * below)
        gradients.append(
            (
                -0.5 * inverse * above + 0.2 * (a - sign * HALF_WIDTH) * below,
                sign * (1 - tanh**2) * inverse * above + 0.02 * (b + 8) * below + log * d_above + square * d_below,
            )
        )
    scale = np.array([SCALE, 1.0])
    return scale * values, scale[:, None] * np.array(gradients)


def pcgrad(g: np.ndarray) -> np.ndarray:
    """Yu et al. 2020, algorithm 1, summed."""
    inner = min(g[0] @ g[1], 0.0)
    return g[0] - inner / (g[1] @ g[1]) * g[1] + g[1] - inner / (g[0] @ g[0]) * g[0]


def mgda(g: np.ndarray) -> np.ndarray:
    """Sener & Koltun 2018, algorithm 1: the shortest vector between two."""
    apart = g[1] - g[0]
    share = np.clip(apart @ g[1] / (apart @ apart), 0, 1)
    return share * g[0] + (1 - share) * g[1]


def cagrad(g: np.ndarray) -> np.ndarray:
    """Liu et al. 2021, algorithm 1."""
    mean = g.mean(axis=0)
    radius = CAGRAD_C * np.linalg.norm(mean)

    def objective(share: float) -> float:
        mixed = share * g[0] + (1 - share) * g[1]
        return float(mixed @ mean + radius * np.linalg.norm(mixed))

    inside = minimize_scalar(objective, bounds=(0, 1), method="bounded", options={"xatol": 1e-12}).x
    share = min((0.0, 1.0, inside), key=objective)
    mixed = share * g[0] + (1 - share) * g[1]
    return mean + radius * mixed / np.linalg.norm(mixed)


def imtl_g(g: np.ndarray) -> np.ndarray:
    """Liu et al. 2021, section 3.1: equal projections on both unit gradients."""
    first, second = np.linalg.norm(g, axis=1)
    return (second * g[0] + first * g[1]) / (first + second)


def nash_mtl(g: np.ndarray) -> np.ndarray:
    """Navon et al. 2022, claim 3.1, solved for two tasks: α_i ‖g_i‖ = 1 / √(1 + cosine)."""
    unit = g / np.linalg.norm(g, axis=1, keepdims=True)
    return unit.sum(axis=0) / np.sqrt(max(1 + unit[0] @ unit[1], np.finfo(float).eps))  # 0 on the Pareto front


def aligned_mtl(g: np.ndarray) -> np.ndarray:
    """Senushkin et al. 2023, by a singular value decomposition."""
    left, values, right = np.linalg.svd(g)
    kept = values**2 > values[0] ** 2 * len(g) * np.finfo(float).eps  # the authors' tolerance
    return values[kept][-1] * (left[:, kept] @ right[kept]).sum(axis=0)


COMBINE = {
    "equal weights": lambda g: g.sum(axis=0), "PCGrad": pcgrad, "MGDA": mgda, "CAGrad": cagrad, "IMTL-G": imtl_g,
    "Nash-MTL": nash_mtl, "Aligned-MTL": aligned_mtl, "FAMO": None,
}  # fmt: skip


class Point(NamedTuple):
    """Where a run is: a point, Adam's moments, FAMO's logits, all (2,), and the number of steps taken."""

    x: np.ndarray
    m: np.ndarray
    v: np.ndarray
    logits: np.ndarray
    steps: int


def beginning(start: Sequence[float]) -> Point:
    """A run before its first step."""
    return Point(np.array(start, float), np.zeros(2), np.zeros(2), np.zeros(2), 0)


def advance(name: str, point: Point, steps: int) -> np.ndarray:
    """Where Adam is after so many more steps, (2,)."""
    combine, (x, m, v, logits, taken) = COMBINE[name], point
    values, gradients = losses_and_slopes(x)
    for step in range(taken + 1, taken + steps + 1):
        shares = np.exp(logits) / np.exp(logits).sum()
        weights = shares / (values - LOWER)
        direction = combine(gradients) if combine else weights @ gradients / weights.sum()
        m, v = 0.9 * m + 0.1 * direction, 0.999 * v + 0.001 * direction**2
        x = x - RATE * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        before, (values, gradients) = values, losses_and_slopes(x)
        if not combine:
            change = np.log((before - LOWER) / (values - LOWER))
            logits = logits - FAMO_RATE * (shares * (change - shares @ change) + FAMO_DECAY * logits)
    return x


def end(name: str, start: Sequence[float], steps: int) -> np.ndarray:
    """Where Adam is after so many steps from a start, (2,)."""
    return advance(name, beginning(start), steps)


def pieces(name: str, points: Sequence[Point], steps: int) -> np.ndarray:
    """Where Adam is so many steps after each of these points, (points, 2)."""
    return np.array([advance(name, point, steps) for point in points])


def pareto_front(points: int = 4001) -> tuple[np.ndarray, np.ndarray]:
    """Points of the Pareto set, (points, 2), and their losses.

    A weighted sum of the losses is least at the x_1 between −7 and 7 that minimizes the sum of both squares, and at the
    x_2 that minimizes what is then a function of x_2.
    """
    between = np.linspace(-HALF_WIDTH, HALF_WIDTH, points)
    places = []
    for a in between:
        left = (HALF_WIDTH**2 - a**2) / 10 - 20  # of the weighted squares, at their best x_1

        def height(b: float, left: float = left) -> float:
            return float(np.tanh(-b / 2) * (left + 0.01 * (b + 8) ** 2))

        places.append((a, minimize_scalar(height, bounds=(-12, -4), method="bounded", options={"xatol": 1e-12}).x))
    found = np.array(places)
    return found, np.array([losses_and_slopes(x)[0] for x in found])


def distance(x: np.ndarray, front: np.ndarray) -> float:
    """The distance of a point's losses to the Pareto front, a line through these points."""
    value = losses_and_slopes(x)[0]
    first, step = front[:-1], np.diff(front, axis=0)
    along = np.clip(((value - first) * step).sum(axis=1) / (step**2).sum(axis=1), 0, 1)
    return float(np.linalg.norm(first + along[:, None] * step - value, axis=1).min())
