"""The matrices of the picture of conflicts, from lines of a log that were written by hand."""

from pathlib import Path

import numpy as np

from tlx.reporting.conflicts import cosine_matrices, plot_conflicts

LINES = [
    {"step": 10, "train/loss": 1.0, "train/cosine/a/b": 0.5, "train/cosine/a/c": -0.25},
    {"step": 10, "validation/joint": 0.3},
    {"step": 20, "train/loss": 0.9, "train/cosine/b/c": -1.0},
]


def test_matrices_are_symmetric_and_unknown_where_nothing_was_logged(tmp_path: Path) -> None:
    steps, matrices = cosine_matrices(LINES, ["a", "b", "c"])
    assert steps.tolist() == [10, 20]
    np.testing.assert_array_equal(matrices[0], [[1, 0.5, -0.25], [0.5, 1, np.nan], [-0.25, np.nan, 1]])
    np.testing.assert_array_equal(matrices[1], [[1, np.nan, np.nan], [np.nan, 1, -1], [np.nan, -1, 1]])
    file = plot_conflicts(LINES, ["a", "b", "c"], tmp_path / "conflicts.png")
    assert file is not None and file.read_bytes().startswith(b"\x89PNG")
    assert plot_conflicts(LINES[1:2], ["a", "b", "c"], tmp_path / "none.png") is None
    assert not (tmp_path / "none.png").exists()
