"""A trained run's answers to new inputs."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlx.data.examples import ExampleSet
from tlx.evaluation.metrics import chosen_tags
from tlx.evaluation.predict import Forward, make_forward, predict
from tlx.modalities.api import Prepare
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.recipes.run_directory import Trained


def rows_of(trained: Trained, inputs: Sequence[Any]) -> list[dict[str, Any]]:
    """The answers as plain values, a row each: `predicted`, and of a classification its probability `score`.

    Args:
      trained: a run.
      inputs: as its modality's `encode_inputs` takes them: texts, pairs of texts, lists of words; paths or arrays of
        images.

    Returns:
      predicted: the class's name; the names of all labels answered; the tags of all words, None for a word that cannot
        be predicted; a number, or several.
    """
    examples = trained.inputs.encode_inputs(inputs, trained.head.kind)
    values = predict_examples(trained, examples)
    if examples.words is None:
        return [ROWS[trained.head.kind](trained.head, row) for row in values]
    tags = [[*trained.head.labels, None][tag] for tag in chosen_tags(values)]
    return [{"predicted": tags[start:stop]} for start, stop in itertools.pairwise(examples.words.offsets)]


def _one_class(head: Head, logits: np.ndarray) -> dict[str, Any]:
    likely = int(logits.argmax())
    probability = 1 / float(np.exp(logits.astype(np.float64) - logits[likely]).sum())
    return {"predicted": head.labels[likely] if head.labels else likely, "score": probability}


def _labels(head: Head, logits: np.ndarray) -> dict[str, Any]:
    return {"predicted": [head.labels[i] for i in np.flatnonzero(logits > 0)]}


def _numbers(head: Head, values: np.ndarray) -> dict[str, Any]:
    return {"predicted": values.tolist() if head.outputs > 1 else float(values[0])}


ROWS = {"classification": _one_class, "multilabel": _labels, "regression": _numbers}


def predict_inputs(trained: Trained, inputs: Sequence[Any]) -> np.ndarray:
    """The head's answers to inputs as `rows_of` takes them: (inputs, outputs), or of tagged words (words, outputs)."""
    return predict_examples(trained, trained.inputs.encode_inputs(inputs, trained.head.kind))


def predict_examples(trained: Trained, examples: ExampleSet) -> np.ndarray:
    """The head's answers, (examples, outputs), or of tagged words (words, outputs)."""
    forward = _forward(trained.model, trained.inputs.prepare)
    size = min(trained.config["train"]["eval_batch_size"], len(examples))
    return predict(forward, trained.variables, examples, trained.inputs, size)["default"]


@functools.lru_cache(maxsize=4)
def _forward(model: Model, prepare: Prepare) -> Forward:
    """Compiled once for all chunks of a stream."""
    return make_forward(model, prepare)
