"""What a backbone makes of a text, as one vector."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.data.examples import Batches, ExampleSet
from tlx.data.plan import EvaluationPlan
from tlx.evaluation.predict import Prepare, predict
from tlx.models.model import Model


def mean_pooled(model: Model, params: Any, examples: ExampleSet, prepare: Prepare, batch_size: int = 64) -> np.ndarray:
    """The last hidden state averaged over a text's tokens, (examples, hidden)."""

    @jax.jit
    def forward(params: Any, batch: Any) -> dict[str, jax.Array]:
        output: Any = model.apply({"params": params}, **prepare(batch, None)[0])
        mask = batch["attention_mask"][..., None]
        return {"mean": (output.last_hidden_state * mask).sum(axis=1) / jnp.maximum(mask.sum(axis=1), 1)}

    plan = EvaluationPlan(examples.lengths, batch_size)
    return predict(forward, params, Batches(examples, plan, plan.steps_per_epoch))["mean"]
