"""Predictions of a trained run for new inputs."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlx.data.examples import ExampleSet
from tlx.data.packed_shape import shape_of_chunk
from tlx.data.tokens import ASKED
from tlx.evaluation.masked import BEST
from tlx.evaluation.metrics import check_finite
from tlx.evaluation.predict import Forward, make_forward, predict
from tlx.evaluation.spans import best_answers
from tlx.evaluation.tagging import predicted_tags
from tlx.modalities.api import Prepare
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.recipes.trained import Trained


def rows_of(trained: Trained, inputs: Sequence[Any]) -> list[dict[str, Any]]:
    """Predicts inputs and returns plain values, a dict for each input.

    Args:
      trained: a trained run.
      inputs: texts, pairs of texts (for question answering, of a question and its context) or lists of words; for an
        image model, paths or arrays.

    Returns:
      Dicts with the key `predicted`, and for classification `score`, the probability of the predicted class. For
      question answering `predicted` is the answer, "" for none, `score` its probability among the best answers, and
      `start` the position of its first character in the context, None for none.
      `predicted` is the name of the class; for multilabel, the names of the predicted labels; for tagging, the tags of
      the words, None for a word that cannot be predicted; for regression, a number or a list of numbers; for masked
      language modelling, the words in place of the mask tokens, each by itself. For a run of several tasks, such a dict
      for each task, by its name; all come from one pass of the backbone, unless each task has an adapter.
    """
    return rows_of_examples(trained, trained.inputs.encode_inputs(inputs, trained.kind))


def rows_of_examples(trained: Trained, examples: ExampleSet) -> list[dict[str, Any]]:
    """Predicts encoded inputs; returns what `rows_of` returns."""
    outputs = outputs_of(trained, examples)
    by_head = {name: _rows(trained, head, outputs[name], examples) for name, head in trained.heads.items()}
    if list(by_head) == ["default"]:
        return by_head["default"]
    return [dict(zip(by_head, rows, strict=True)) for rows in zip(*by_head.values(), strict=True)]


def _rows(trained: Trained, head: Head, values: np.ndarray, examples: ExampleSet) -> list[dict[str, Any]]:
    if examples.spans is not None:
        check_finite(values)
        answers = best_answers(values, examples.offsets, examples.spans, head)
        return [{"predicted": one.text, "score": one.probability, "start": one.start} for one in answers]
    if head.kind == "masked_lm":
        check_finite(values)
        return _filled(trained.inputs.preprocessor, values, examples)
    if examples.words is None:
        return ROWS[head.kind](head, values)
    tags = [[*head.labels, None][tag] for tag in predicted_tags(values)]
    return [{"predicted": tags[start:stop]} for start, stop in itertools.pairwise(examples.words.offsets)]


def _filled(tokenizer: Any, values: np.ndarray, examples: ExampleSet) -> list[dict[str, Any]]:
    """The most probable token in place of each mask token, of each text."""
    asked = examples.token_fields[ASKED] != 0
    words = [tokenizer.word(int(token)) for token in values[asked, BEST]]
    ends = np.concatenate([[0], np.cumsum(asked)])[examples.offsets]
    return [{"predicted": words[start:stop]} for start, stop in itertools.pairwise(ends)]


def _classes(head: Head, logits: np.ndarray) -> list[dict[str, Any]]:
    best = logits.argmax(axis=1)
    largest = np.take_along_axis(logits, best[:, None], axis=1)
    scores = 1 / np.exp(logits.astype(np.float64) - largest).sum(axis=1)
    return [
        {"predicted": head.labels[index] if head.labels else index, "score": score}
        for index, score in zip(best.tolist(), scores.tolist(), strict=True)
    ]


def _labels(head: Head, logits: np.ndarray) -> list[dict[str, Any]]:
    return [{"predicted": [head.labels[i] for i in np.flatnonzero(row > 0)]} for row in logits]


def _numbers(head: Head, values: np.ndarray) -> list[dict[str, Any]]:
    return [{"predicted": row if head.outputs > 1 else row[0]} for row in values.tolist()]


ROWS = {"classification": _classes, "multilabel": _labels, "regression": _numbers}


def predict_inputs(trained: Trained, inputs: Sequence[Any]) -> np.ndarray:
    """Returns the head's outputs for inputs as in `rows_of`: (inputs, outputs).

    For tagging they are (words, outputs), for question answering (tokens, 2).
    """
    return predict_examples(trained, trained.inputs.encode_inputs(inputs, trained.head.kind))


def predict_examples(trained: Trained, examples: ExampleSet) -> np.ndarray:
    """Returns the head's outputs for examples, as `predict_inputs` does."""
    return outputs_of(trained, examples)["default"]


def outputs_of(trained: Trained, examples: ExampleSet) -> dict[str, np.ndarray]:
    """Returns the outputs of each head, by its name, as `predict_examples` does.

    Where each task has an adapter, each has a pass of its own through the backbone; otherwise one is enough.
    """
    size = min(trained.config["train"]["eval_batch_size"], len(examples))
    packs = trained.config["data"]["packing"] != "off" and getattr(trained.model.backbone, "packs", False)
    shape = shape_of_chunk(examples.lengths, size) if packs else None
    found: dict[str, np.ndarray] = {}
    for model, heads in _models(trained):
        forward = _forward(model, trained.inputs.prepare)
        outputs = predict(forward, trained.variables, examples, trained.inputs, size, shape=shape)
        found |= {name: outputs[name] for name in heads}
    return found


def _models(trained: Trained) -> list[tuple[Model, list[str]]]:
    """The models of a run, and the heads that each predicts."""
    by_model: dict[Model, list[str]] = {}
    for name in trained.heads:
        by_model.setdefault(trained.model_of(name), []).append(name)
    return list(by_model.items())


@functools.lru_cache(maxsize=16)
def _forward(model: Model, prepare: Prepare) -> Forward:
    """The jitted forward pass, cached so that all chunks of a stream share one compilation."""
    return make_forward(model, prepare)
