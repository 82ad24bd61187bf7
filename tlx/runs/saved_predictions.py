"""The predictions that a run has saved for a split, and their metrics on any of its examples."""

import dataclasses
import itertools
import zipfile
from pathlib import Path

import numpy as np

from tlx.errors import TlxError
from tlx.evaluation.entities import counts, has_entities, precision_recall_f1
from tlx.evaluation.metrics import ENTITY, METRICS, measure
from tlx.evaluation.tagging import predicted_tags
from tlx.models.heads import Head


@dataclasses.dataclass(frozen=True)
class SavedPredictions:
    """Predictions with their labels, as `tlx.recipes.job` writes them; an example of tagging is a sentence.

    Attributes:
      head: the head that made them.
      ids: int64 (examples,), the row of each example in the source.
      values: (examples, outputs); for tagging (words, outputs), NaN for a word that cannot be predicted; for question
        answering (questions, 2), exact match and F1.
      labels: (examples, …); for tagging (words,).
      offsets: for tagging, int64 (examples + 1,): the index of each sentence's first word; otherwise None.
      entities: if the tags form entities, int64 (examples, 3): the numbers of correct, predicted and true entities.
    """

    head: Head
    ids: np.ndarray
    values: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray | None = None
    entities: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "SavedPredictions":
        """The predictions for the examples at some positions, in this order and as often as they are named."""
        if self.offsets is None:
            return dataclasses.replace(self, ids=self.ids[rows], values=self.values[rows], labels=self.labels[rows])
        sizes = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        words = np.repeat(self.offsets[rows] - offsets[:-1], sizes) + np.arange(offsets[-1])
        entities = None if self.entities is None else self.entities[rows]
        return SavedPredictions(
            self.head, self.ids[rows], self.values[words], self.labels[words], offsets, entities
        )  # fmt: skip

    def all_metrics(self) -> dict[str, float]:
        """All metrics of the head by name, except the loss."""
        predictable = None if self.offsets is None else np.isfinite(self.values).all(axis=1)
        return measure(self.head.kind, self.values, self.labels, self.head.labels, self.offsets, predictable)

    def metric(self, name: str) -> float:
        """One metric of the head."""
        if name not in ENTITY:
            return METRICS[self.head.kind][name].measure(self.values, self.labels)
        assert self.entities is not None
        correct, predicted, true = map(int, self.entities.sum(axis=0))
        return precision_recall_f1(correct, predicted, true)[ENTITY.index(name)]


def read_predictions(run: Path, split: str, head: Head) -> SavedPredictions:
    """Reads the predictions of a run, without the words that have no label, as in the run's own metrics.

    Args:
      run: the run directory.
      split: "test" or "validation".
      head: the run's head.

    Raises:
      TlxError: the file is missing, damaged, or its arrays do not belong together.
    """
    file, again = run / "predictions" / f"{split}.npz", "restore it from a copy, or train the run again"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            offsets = arrays.get("word_offsets")
            names = ("scores", "predictions", "answers")  # of question answering, of others, of others in earlier runs
            name = next((name for name in names if name in arrays), "predictions")
            found = SavedPredictions(head, arrays["example_id"], arrays[name], arrays["labels"], offsets)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise TlxError(f"{file} cannot be read ({error!s:.200}); {again}.") from None
    examples = len(found.ids) if offsets is None else len(offsets) - 1
    rows = examples if offsets is None else int(offsets[-1])
    if (len(found.ids), len(found.values), len(found.labels)) != (examples, rows, rows) or found.values.ndim != 2:
        raise TlxError(f"{file} holds arrays that do not belong together; {again}.")
    return found if offsets is None else _with_labels(found, offsets)


def _with_labels(found: SavedPredictions, offsets: np.ndarray) -> SavedPredictions:
    kept = found.labels >= 0
    offsets = np.concatenate([[0], np.cumsum(kept)])[offsets]
    values, labels, entities = found.values[kept], found.labels[kept], None
    if has_entities(found.head.labels):
        tags = predicted_tags(values)
        by_type = [
            [*counts(tags[start:stop], labels[start:stop], found.head.labels, np.array([0, stop - start])).values()]
            for start, stop in itertools.pairwise(offsets)
        ]
        entities = np.array([np.sum(each, axis=0) if each else (0, 0, 0) for each in by_type], np.int64)
    return SavedPredictions(found.head, found.ids, values, labels, offsets, entities)
