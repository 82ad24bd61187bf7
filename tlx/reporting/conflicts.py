"""A picture of how the gradients of several tasks conflict: their cosines over a run, from its logged metrics."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlx.reporting.figure import save

SPANS = 4  # equal parts of the run; the picture has the mean matrix of each


def cosine_matrices(lines: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the matrices of cosines between the tasks' gradients that a run logged.

    Args:
      lines: the lines of its `metrics.jsonl`, in which `train/cosine/ONE/OTHER` is the mean since the line before.
      tasks: names of the tasks.

    Returns:
      The steps, int (lines,), and the matrices, float (lines, tasks, tasks), with 1 on the diagonal and NaN where no
      batch had examples of both tasks. Lines without any cosine are left out.
    """
    pairs = {f"train/cosine/{one}/{other}": (i, j) for i, one in enumerate(tasks) for j, other in enumerate(tasks)}
    logged = [line for line in lines if any(name in pairs for name in line)]
    matrices = np.tile(np.where(np.eye(len(tasks), dtype=bool), 1.0, np.nan), (len(logged), 1, 1))
    for matrix, line in zip(matrices, logged, strict=True):
        for name in line.keys() & pairs.keys():
            i, j = pairs[name]
            matrix[i, j] = matrix[j, i] = line[name]
    return np.array([line["step"] for line in logged], int), matrices


def plot_conflicts(lines: Sequence[Mapping[str, Any]], tasks: Sequence[str], file: Path) -> Path | None:
    """Plots the mean matrix of each quarter of the run, and below them the cosine of each pair by step.

    Args:
      lines: the lines of a run's `metrics.jsonl`.
      tasks: names of the tasks.
      file: the file to write; its suffix decides the format.

    Returns:
      The file; None, and no file, if the run has logged no cosines.

    Raises:
      TlxError: if the file cannot be written.
    """
    from matplotlib.figure import Figure

    steps, matrices = cosine_matrices(lines, tasks)
    if not len(steps):
        return None
    spans = [span for span in np.array_split(np.arange(len(steps)), SPANS) if len(span)]
    pairs = list(itertools.combinations(range(len(tasks)), 2))
    size = 1.2 + 0.5 * len(tasks)
    figure = Figure(figsize=(1.0 + size * len(spans), size + 1.2 + 0.22 * len(pairs)), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[size, 1.0 + 0.22 * len(pairs)])[:, 0]
    colors: dict[str, Any] = {"cmap": "RdBu", "vmin": -1, "vmax": 1, "interpolation": "nearest"}
    for column, (axis, span) in enumerate(zip(above.subplots(1, len(spans), squeeze=False)[0], spans, strict=True)):
        mean = _mean(matrices[span])
        axis.imshow(mean, **colors)
        axis.set_title(f"steps {steps[span[0] - 1] + 1 if span[0] else 1} to {steps[span[-1]]}", fontsize=8)
        axis.set_xticks(range(len(tasks)), tasks, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
        axis.set_yticks(range(len(tasks)), tasks if column == 0 else [], fontsize=7)
        for (i, j), value in np.ndenumerate(mean):
            if i != j and np.isfinite(value):
                color = "white" if abs(value) > 0.6 else "black"
                axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=6, color=color)
    axis = below.subplots()
    edges = np.concatenate([[0], steps])
    by_pair = np.array([matrices[:, i, j] for i, j in pairs])
    image = axis.pcolormesh(edges, np.arange(len(pairs) + 1), by_pair, cmap="RdBu", vmin=-1, vmax=1)
    axis.set_yticks(np.arange(len(pairs)) + 0.5, [f"{tasks[i]}, {tasks[j]}" for i, j in pairs], fontsize=7)
    axis.invert_yaxis()
    axis.set(xlabel="step")
    figure.colorbar(image, ax=axis, label="cosine")
    save(figure, file, dpi=120)
    return file


def _mean(matrices: np.ndarray) -> np.ndarray:
    """The mean over the first axis without NaN; NaN where there is nothing else."""
    known = np.isfinite(matrices)
    return np.where(known.any(0), np.where(known, matrices, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)
