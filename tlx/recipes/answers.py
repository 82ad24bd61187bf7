"""A trained run's answers to new texts."""

import functools
from collections.abc import Sequence

import numpy as np

from tlx.data.examples import Batches, Examples
from tlx.data.plan import EvaluationPlan, up_to
from tlx.evaluation.predict import Forward, make_forward, predict
from tlx.methods.finetune import INPUTS
from tlx.models.model import Model
from tlx.recipes.run_directory import Trained


def answer(trained: Trained, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
    """The head's answers in the order of the texts, (texts, outputs). pairs: the second text of each, of pair tasks."""
    return _answers(trained, Examples.encode(trained.encoder, texts, pairs))


def answer_words(trained: Trained, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """A tag for every word. A word that was cut off, or of which the tokenizer leaves nothing, is tagged `O`."""
    examples, firsts = Examples.encode_words(trained.encoder, sentences), trained.encoder.words(sentences)[2]
    names = dict(trained.model.heads_by_name)["default"].labels
    found = iter(_answers(trained, examples).argmax(-1))
    return [["O" if position < 0 else names[next(found)] for position in row] for row in firsts]


def _answers(trained: Trained, examples: Examples) -> np.ndarray:
    plan = EvaluationPlan(
        examples.lengths,
        min(trained.config["train"]["eval_batch_size"], len(examples)),
        up_to(trained.encoder.max_length),
    )
    batches = Batches(examples, plan, plan.steps_per_epoch)
    return predict(_forward(trained.model), trained.params, batches)["default"]


@functools.lru_cache(maxsize=4)
def _forward(model: Model) -> Forward:
    """Compiled once for all chunks of a stream."""
    return make_forward(model, INPUTS)
