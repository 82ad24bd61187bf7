"""Run directories that were never trained: config, summary and predictions as a run writes them."""

from pathlib import Path
from typing import Any

import numpy as np

from tests import tiny
from tlx.evaluation.metrics import measure
from tlx.models.heads import Head
from tlx.recipes.run_directory import heads_as_json, write_json

LABELS = ("bad", "good")


def make_run(
    folder: Path, predictions: np.ndarray, labels: np.ndarray, *, head: Head | None = None,
    offsets: np.ndarray | None = None, digest: str = "0a", finished: bool = True, revision: str = "1f2e",
    **fields: Any,
) -> Path:  # fmt: skip
    """A run on one test set.

    Args:
      folder: the run directory.
      predictions: (examples or words, outputs).
      labels: the labels of the test set.
      head: its head; a classification into two classes by default.
      offsets: for tagging, those of `measure`.
      digest: digest of the test set.
      finished: whether the run has a summary and predictions.
      revision: of the code.
      fields: values of the config, with `__` for the dot.
    """
    config = tiny.config(Path("checkpoint"), Path("reviews.csv"))
    for name, value in fields.items():
        config.update_from_flattened_dict({name.replace("__", "."): value})
    head = head or Head("classification", 2, labels=LABELS)
    folder.mkdir(parents=True)
    write_json(folder / "config.json", {
        "config": config.to_dict(), "heads": heads_as_json({"default": head}),
        "data": {"sha256": {"test": digest, "validation": "v"}, "also_in_train": {"test": 0}},
        "versions": {"tlx": "0.1.0"}, "revision": revision,
    })  # fmt: skip
    if not finished:
        return folder
    (folder / "predictions").mkdir()
    count = len(labels) if offsets is None else len(offsets) - 1
    more = {} if offsets is None else {"word_offsets": offsets}
    np.savez(
        folder / "predictions" / "test.npz", example_id=np.arange(count), predictions=predictions, labels=labels, **more
    )
    known = labels >= 0 if labels.ndim == 1 else np.ones(len(labels), bool)
    found = {} if not known.all() else measure(head.kind, predictions, labels, head.labels, offsets)
    write_json(folder / "summary.json", {
        "metrics": {f"{split}/{name}": value for name, value in found.items() for split in ("test", "validation")},
        "seconds": 12.5, "parameters": {"trainable": 77},
    })  # fmt: skip
    return folder


def logits(right: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logits of two classes that are right where `right` says so."""
    predicted = np.where(right, labels, 1 - labels)
    return np.stack([1.0 - predicted, predicted], axis=1).astype(np.float32)
