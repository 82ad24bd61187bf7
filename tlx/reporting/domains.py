"""Pictures of two domains: their features in two dimensions, and how well a discriminator tells them apart.

The confusion matrix of the target is `confusion.plot_confusion` of its labels and predictions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlx.errors import TlxError

MOST_ROWS = 1000  # of a domain in a picture; more hide each other, and t-SNE takes minutes
NAMED = 20  # classes in the legend
UNLABELLED = "0.6"


def project(
    source: np.ndarray, target: np.ndarray, method: str = "pca", *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Features of both domains in two dimensions, projected together.

    Args:
      source: (n, features).
      target: (m, features).
      method: `pca`, the first two principal components of all rows; or `tsne` (van der Maaten & Hinton 2008), which
        keeps neighbors together, but neither distances between groups nor their sizes.
      seed: of t-SNE.

    Returns:
      float64 (n, 2) and (m, 2).

    Raises:
      TlxError: if there is no such method, or there are fewer than four rows.
    """
    rows = np.concatenate([np.asarray(rows, np.float64).reshape(len(rows), -1) for rows in (source, target)])
    if method not in ("pca", "tsne") or len(rows) < 4:
        raise TlxError(f"{len(rows)} rows are to be projected by {method!r}; it takes 4 and 'pca' or 'tsne'.")
    if method == "pca":
        from sklearn.decomposition import PCA

        found = PCA(2, svd_solver="full").fit_transform(rows)
    else:
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(rows) - 1) / 3)
        found = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(rows).astype(np.float64)
    return found[: len(source)], found[len(source) :]


def draw_feature_maps(
    maps: Mapping[str, tuple[np.ndarray, np.ndarray]],
    source_labels: np.ndarray,
    target_labels: np.ndarray | None,
    names: Sequence[str],
    *,
    seed: int = 0,
) -> Any:
    """Draws one panel for each map: circles are rows of the source, crosses of the target, colors are classes.

    Args:
      maps: by the panel's title, such as `before` and `after`, the points of the source (n, 2) and of the target
        (m, 2), as `project` returns them. Of more than 1,000 rows of a domain 1,000 are drawn, the same in all panels.
      source_labels: class indices (n,).
      target_labels: class indices (m,), from labels or predictions; None: the target is gray.
      names: of the classes.
      seed: of the choice of rows.

    Returns:
      A `matplotlib.figure.Figure`; `reporting.figure.save` writes it.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(4.4 * len(maps) + 1.6, 4.2), layout="constrained")
    colors = class_colors(len(names))
    random = np.random.default_rng(seed)
    counts = (len(source_labels), len(next(iter(maps.values()))[1]))
    chosen = [np.sort(random.permutation(count)[:MOST_ROWS]) for count in counts]
    for axis, (title, points) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True):
        for rows, labels, index, marker in zip(points, (source_labels, target_labels), chosen, "o+", strict=True):
            color = UNLABELLED if labels is None else [colors[label] for label in np.asarray(labels)[index]]
            size, alpha = (14, 0.45) if marker == "o" else (26, 0.9)
            edge: dict[str, Any] = {"edgecolors": "none"} if marker == "o" else {"linewidths": 1.0}
            axis.scatter(*rows[index].T, s=size, c=color, marker=marker, alpha=alpha, **edge)
        axis.set(title=title, xticks=[], yticks=[])
    entries = [
        Line2D([], [], marker=marker, color="black", linestyle="", label=name)
        for marker, name in (("o", "source"), ("+", "target"))
    ]
    if len(names) <= NAMED:
        entries += [
            Line2D([], [], marker="s", color=color, linestyle="", label=name) for color, name in zip(colors, names)
        ]
    figure.legend(handles=entries, loc="outside right center", fontsize=8, frameon=False)
    return figure


def discriminator_curves(lines: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[int], list[float]]]:
    """Returns a discriminator's accuracy by step, the mean of both domains, for `draw_discriminator`.

    Args:
      lines: the lines of a run's `metrics.jsonl`.

    Returns:
      By the prefix of the metric's name, the steps and the accuracies; {} for a run without a discriminator.
    """
    source, target = (f"{domain}_domain_accuracy" for domain in ("source", "target"))
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for line in lines:
        for name in line:
            other = name.replace(source, target)
            if name.endswith(source) and other in line:
                prefix = name.removesuffix(source).strip("/_")
                steps, shares = curves.setdefault(prefix, ([], []))
                steps.append(line["step"])
                shares.append((line[name] + line[other]) / 2)
    return curves


def draw_discriminator(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> Any:
    """Draws a discriminator's accuracy by step, with the line of chance.

    At 1/2 it cannot tell the domains apart; near 1 the features still differ, and the adaptation has not succeeded.

    Args:
      curves: by name, the steps and the shares of rows, both domains counted alike, whose domain it tells.

    Returns:
      A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    axis = figure.subplots()
    for name, (steps, shares) in curves.items():
        axis.plot(steps, shares, ".-", label=name)
    axis.axhline(0.5, color="black", linestyle=":", label="chance")
    axis.set(xlabel="step", ylabel="accuracy of the discriminator", ylim=(0, 1.02))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def class_colors(count: int) -> list[tuple[float, float, float]]:
    """A color for each class: matplotlib's table of ten or twenty colors, or beyond that as many hues."""
    from matplotlib import colormaps

    name = "tab10" if count <= 10 else "tab20" if count <= 20 else "hsv"
    found = []
    for index in range(count):
        red, green, blue, _ = colormaps[name](index if count <= 20 else index / count)
        found.append((float(red), float(green), float(blue)))
    return found
