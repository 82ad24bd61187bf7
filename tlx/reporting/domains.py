"""A picture of the features of two domains in the plane."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlx.reporting.figure import save

MOST = 1000  # rows of each domain that are drawn
COLORED = 10  # classes with a color of their own


def plot_domains(
    source: np.ndarray, target: np.ndarray, labels: np.ndarray, predicted: np.ndarray, names: Sequence[str], file: Path
) -> Path:
    """Plots the first two principal components of all features, by domain and by class.

    Args:
      source: features (n, hidden) of the source.
      target: features (m, hidden) of the target.
      labels: integers (n,), the classes of the source's rows.
      predicted: integers (m,), the classes that are predicted for the target's rows.
      names: the names of the classes; of more than ten, the colors repeat.
      file: the file to write; its suffix decides the format.
    """
    from matplotlib.figure import Figure

    random = np.random.default_rng(0)
    rows = [np.sort(random.permutation(len(domain))[:MOST]) for domain in (source, target)]
    points = principal_components(np.concatenate([source[rows[0]], target[rows[1]]]))
    sides = points[: len(rows[0])], points[len(rows[0]) :]
    classes = labels[rows[0]], predicted[rows[1]]
    figure = Figure(figsize=(11.0, 5.0), layout="constrained")
    by_domain, by_class = figure.subplots(1, 2, sharex=True, sharey=True)
    for side, given, marker, color, name in zip(sides, classes, "ox", ("C0", "C3"), ("source", "target"), strict=True):
        by_domain.scatter(*side.T, s=10, marker=marker, color=color, label=name, linewidths=0.8)
        by_class.scatter(*side.T, s=10, marker=marker, c=given % COLORED, cmap="tab10", vmin=0, vmax=9, linewidths=0.8)
    by_domain.legend()
    by_domain.set(title="domains", xlabel="first principal component", ylabel="second")
    by_class.set(
        title="classes: source labels (dots), target predictions (crosses)", xlabel="first principal component"
    )
    if len(names) <= COLORED:
        handles = [by_class.scatter([], [], s=20, color=f"C{index}", label=name) for index, name in enumerate(names)]
        by_class.legend(handles=handles, fontsize=8)
    return save(figure, file, dpi=120)


def principal_components(rows: np.ndarray) -> np.ndarray:
    """Returns the first two principal components of rows (n, size), float64 (n, 2); 0 for what is not there."""
    centered = np.asarray(rows, np.float64) - rows.mean(axis=0, dtype=np.float64)
    left, lengths, _ = np.linalg.svd(centered, full_matrices=False)
    found = np.zeros((len(rows), 2))
    kept = min(2, len(lengths))
    found[:, :kept] = left[:, :kept] * lengths[:kept]
    return found
