"""A trained run's answers to new texts."""

from collections.abc import Sequence

import numpy as np

from tlx.data.examples import Batches, Examples
from tlx.data.plan import EvaluationPlan, up_to
from tlx.evaluation.predict import make_forward, predict
from tlx.methods.finetune import INPUTS
from tlx.recipes.run_directory import Trained


def answer(trained: Trained, texts: Sequence[str]) -> np.ndarray:
    """The head's answers in the order of the texts, (texts, outputs)."""
    examples = Examples.encode(trained.encoder, texts)
    plan = EvaluationPlan(
        examples.lengths,
        min(trained.config["train"]["eval_batch_size"], len(texts)),
        up_to(trained.encoder.max_length),
    )
    batches = Batches(examples, plan, plan.steps_per_epoch)
    return predict(make_forward(trained.model, INPUTS), trained.params, batches)["default"]
