"""A trained run's answers to new texts."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlx.data.examples import Batches, Examples, ExampleSet
from tlx.data.plan import EvaluationPlan
from tlx.errors import TlxError
from tlx.evaluation.metrics import chosen_tags
from tlx.evaluation.predict import Forward, Prepare, make_forward, predict
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.recipes.inputs import TextInputs
from tlx.recipes.run_directory import Trained


def predict_texts(trained: Trained, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
    """The head's answers in the order of the texts, (texts, outputs). pairs: the second text of each, of pair tasks."""
    return predict_examples(trained, Examples.encode(trained.encoder, texts, pairs))


def rows_of(trained: Trained, texts: Sequence[Any], pairs: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The answers as plain values, a row each: `predicted`, and of a classification its probability `score`.

    predicted: the class's name; the names of all labels answered; the tags of all words, None for a word that cannot be
    predicted; a number, or several.
    """
    head = dict(trained.model.heads_by_name)["default"]
    if head.kind == "tagging":
        for words in texts:
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise TlxError(f"this run tags words; a sentence is a list of them (JSON lines), found {words!r}.")
        return [{"predicted": tags} for tags in predict_words(trained, texts)]
    return [ROWS[head.kind](head, values) for values in predict_texts(trained, texts, pairs)]


def _one_class(head: Head, logits: np.ndarray) -> dict[str, Any]:
    likely = int(logits.argmax())
    probability = 1 / float(np.exp(logits.astype(np.float64) - logits[likely]).sum())
    return {"predicted": head.labels[likely] if head.labels else likely, "score": probability}


def _labels(head: Head, logits: np.ndarray) -> dict[str, Any]:
    return {"predicted": [head.labels[i] for i in np.flatnonzero(logits > 0)]}


def _numbers(head: Head, values: np.ndarray) -> dict[str, Any]:
    return {"predicted": values.tolist() if head.outputs > 1 else float(values[0])}


ROWS = {"classification": _one_class, "multilabel": _labels, "regression": _numbers}


def predict_words(trained: Trained, sentences: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """A tag for every word, from overlapping windows where a sentence is longer than the run's `max_length`; None for a
    word that cannot be predicted (the tokenizer leaves nothing of it, or its tokens alone exceed a window)."""
    assert isinstance(trained.inputs, TextInputs)
    examples = trained.inputs.encode_words(sentences)
    assert examples.words is not None
    names = [*dict(trained.model.heads_by_name)["default"].labels, None]
    tags = [names[tag] for tag in chosen_tags(predict_examples(trained, examples))]
    return [tags[start:stop] for start, stop in itertools.pairwise(examples.words.offsets)]


def predict_examples(trained: Trained, examples: ExampleSet) -> np.ndarray:
    """The head's answers, (examples, outputs), or of tagged words (words, outputs)."""
    plan = EvaluationPlan(
        examples.lengths,
        min(trained.config["train"]["eval_batch_size"], len(examples)),
        trained.inputs.length_buckets,
    )
    batches = Batches(examples, plan, plan.steps_per_epoch)
    return predict(_forward(trained.model, trained.inputs.prepare), trained.variables, batches)["default"]


@functools.lru_cache(maxsize=4)
def _forward(model: Model, prepare: Prepare) -> Forward:
    """Compiled once for all chunks of a stream."""
    return make_forward(model, prepare)
