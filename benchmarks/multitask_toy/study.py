"""The two-dimensional problem of the CAGrad and Nash-MTL papers: eight methods from five starting points.

    python benchmarks/multitask_toy/study.py --workdir=runs/multitask_toy

draws the trajectories over the losses (`multitask_toy.png`) and prints, for each start and method, the distance of the
losses at the end to the Pareto front: of `tlx.methods.multitask` in JAX and of the papers' formulas in NumPy
(`by_hand.py`), both in float64.

Runs that pass through the narrow valleys above x_2 = 0, where gradients reach 1e5, are chaotic: the last bit of a
number decides where they end. So each run of tlx is also compared in pieces of ten steps: NumPy begins each piece at
tlx's point, with its moments. Where whole runs are more than 1e-3 apart, NumPy also runs from starts that are moved by
1e-12, and the table has the range of the ends.

Losses are negative here, so uncertainty weighting, DWA and GradNorm, which divide by losses or take them for
likelihoods, are left out; so is RLW, whose weights are random.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import by_hand
import jax
import numpy as np
from common import arguments, publish
from problem import METHODS, STARTS, losses, trajectories

from tlx.reporting.figure import save

jax.config.update("jax_enable_x64", True)
EVERY = 10  # steps between two drawn points, and of a piece
TOLERANCE = 1e-3
MOVED = 1e-12 * np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])
FIELDS = ("x", "m", "v", "logits")


def main() -> None:
    """Runs both sides, prints and writes the table and the picture."""
    parser = arguments(__doc__, "runs/multitask_toy")
    parser.add_argument("--steps", type=int, default=35_000, help="of Adam; Nash-MTL's authors take 35,000")
    options = parser.parse_args()
    steps = options.steps // EVERY * EVERY
    pareto_set, front = by_hand.pareto_front()
    paths, rows, spreads, pieces = {}, [], [], []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:  # JAX has threads, which a fork would not have
        for name in METHODS:
            run = {field: np.asarray(values) for field, values in trajectories(name, steps, EVERY).items()}
            paths[name] = run["x"]
            pieces.append(apart_in_pieces(pool, name, run, front))
            cells = [compared(pool, name, index, run["x"][index][-1], steps, front) for index in range(len(STARTS))]
            spreads += [spread for _, spread in cells if spread is not None]
            rows.append((name, *(cell for cell, _ in cells), f"{pieces[-1]:.0e}"))
            print("  ".join(rows[-1]), flush=True)
    save(drawn(paths, pareto_set), options.workdir / "multitask_toy.png", dpi=90)
    header = ("distance to the Pareto front", *(f"from {start}" for start in STARTS), "in pieces")
    runs = len(METHODS) * len(STARTS)
    below = (
        f"{runs - len(spreads)} of {runs} runs end at most {TOLERANCE} apart. For the others the range is of NumPy "
        f"alone, from the start and from {len(MOVED)} starts moved by {MOVED.max():.0e}: in "
        f"{sum(spread > TOLERANCE for spread in spreads)} of {len(spreads)} it is wider than {TOLERANCE}, so the run "
        f"is chaotic. In pieces of {EVERY} steps, each begun where tlx was, the distances of all {runs} runs differ by "
        f"at most {max(pieces):.0e} (last column)."
    )
    publish(options.workdir, f"{steps} steps of Adam: tlx (NumPy)", header, rows, below=below)


def compared(pool: Any, name: str, start: int, found: np.ndarray, steps: int, front: np.ndarray) -> Any:
    """A cell, and the width of its range: the distance to the front of tlx's end and of NumPy's, or NumPy's range."""
    (other,) = pool.map(by_hand.end, [name], [STARTS[start]], [steps])
    ours, theirs = (by_hand.distance(x, front) for x in (found, other))
    if abs(ours - theirs) <= TOLERANCE:
        return f"{ours:.4f} ({theirs:.4f})", None
    moved = pool.map(by_hand.end, *zip(*[(name, STARTS[start] + each, steps) for each in MOVED], strict=True))
    ends = [theirs, *(by_hand.distance(x, front) for x in moved)]
    return f"{ours:.4f} ({min(ends):.4f} to {max(ends):.4f})", max(ends) - min(ends)


def apart_in_pieces(pool: Any, name: str, run: dict[str, np.ndarray], front: np.ndarray) -> float:
    """The largest difference of the distances to the front after a piece, over all starts and pieces."""
    begun = [
        [by_hand.Point(*(run[field][start, at] for field in FIELDS), at * EVERY) for at in range(run["x"].shape[1] - 1)]
        for start in range(len(STARTS))
    ]
    found = pool.map(by_hand.pieces, [name] * len(STARTS), begun, [EVERY] * len(STARTS))
    pairs = zip(run["x"][:, 1:].reshape(-1, 2), np.concatenate(list(found)), strict=True)
    return max(abs(by_hand.distance(ours, front) - by_hand.distance(theirs, front)) for ours, theirs in pairs)


def drawn(paths: dict[str, np.ndarray], pareto_set: np.ndarray) -> Any:
    """The trajectories over the mean of the losses, a panel for each method."""
    from matplotlib.figure import Figure

    grid = np.linspace(-11, 11, 221)
    points = np.stack(np.meshgrid(grid, grid), axis=-1)
    heights = np.asarray(jax.vmap(jax.vmap(losses))(points)).mean(axis=-1)
    figure = Figure(figsize=(13, 6.8), layout="constrained")
    for axes, (name, path) in zip(figure.subplots(2, 4, sharex=True, sharey=True).flat, paths.items(), strict=True):
        axes.contour(grid, grid, heights, levels=14, cmap="Greys", linewidths=0.7)
        axes.plot(*pareto_set.T, color="0.35", linewidth=5, alpha=0.5, solid_capstyle="butt")
        for index, one in enumerate(path):
            axes.plot(*one.T, color=f"C{index}", linewidth=1.6)
            axes.plot(*one[0], "o", color=f"C{index}", markersize=6)
            axes.plot(*one[-1], "*", color=f"C{index}", markersize=13, markeredgecolor="black", markeredgewidth=0.6)
        axes.set_title(name)
        axes.set_aspect("equal")
    figure.supxlabel("x₁")
    figure.supylabel("x₂")
    return figure


if __name__ == "__main__":
    main()
