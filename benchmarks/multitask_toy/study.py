"""The two-dimensional problem of the CAGrad and Nash-MTL papers: eight methods from five starting points.

    python benchmarks/multitask_toy/study.py --workdir=runs/multitask_toy

draws the trajectories over the losses (`trajectories.png`) and prints, for each start and method, the distance of the
losses at the end to the Pareto front: of `tlx.methods.multitask` in JAX and of the papers' formulas in NumPy
(`by_hand.py`), both in float64, and where they differ by more than 1e-3. There the NumPy run is repeated from a start
that is moved by 1e-12: runs that end in the narrow valleys above x_2 = 0, where gradients reach 1e5, are chaotic.

Losses are negative here, so uncertainty weighting, DWA and GradNorm, which divide by losses or take them for
likelihoods, are left out; so is RLW, whose weights are random.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
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
EVERY = 50  # steps between two drawn points
TOLERANCE = 1e-3
MOVED = 1e-12


def main() -> None:
    """Runs both sides, prints and writes the table and the picture."""
    parser = arguments(__doc__, "runs/multitask_toy")
    parser.add_argument("--steps", type=int, default=35_000, help="of Adam; Nash-MTL's authors take 35,000")
    parser.add_argument("--picture", type=Path, default=None, help="a file; without it WORKDIR/trajectories.png")
    options = parser.parse_args()
    steps = options.steps // EVERY * EVERY
    pareto_set, front = by_hand.pareto_front()
    jobs = [(name, start, steps) for name in METHODS for start in STARTS]
    with ProcessPoolExecutor() as pool:  # forks before JAX starts threads
        ends = pool.map(by_hand.end, *zip(*jobs, strict=True))
        theirs = dict(zip(jobs, ends, strict=True))
    paths, rows, apart = {}, [], []
    for name in METHODS:
        paths[name] = np.asarray(trajectories(name, steps, EVERY))
        cells = [name]
        for start, path in zip(STARTS, paths[name], strict=True):
            ours = by_hand.distance(path[-1], front)
            other = by_hand.distance(theirs[name, start, steps], front)
            cells.append(f"{ours:.4f} ({other:.4f})")
            if not abs(ours - other) <= TOLERANCE:
                moved = by_hand.distance(by_hand.end(name, np.array(start) + MOVED, steps), front)
                apart.append(
                    f"{name} from {start}: {ours:.4f} and {other:.4f}, from a start moved by {MOVED} {moved:.4f}"
                )
        rows.append(cells)
        print("  ".join(cells), flush=True)
    save(drawn(paths, pareto_set), options.picture or options.workdir / "trajectories.png", dpi=110)
    verdict = f"More than {TOLERANCE} apart: {'; '.join(apart)}." if apart else f"None are more than {TOLERANCE} apart."
    header = ("distance to the Pareto front", *(f"from {start}" for start in STARTS))
    publish(options.workdir, f"{steps} steps of Adam: tlx (NumPy)", header, rows, below=verdict)


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
