"""The one function through which a forward pass of a model goes, in training, evaluation and for features."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

ModelState = Mapping[str, Any]  # linen's mutable collections by name, such as {"batch_stats": …}; {} of most models


@struct.dataclass
class Context:
    """What a forward pass, and a loss, knows besides parameters and inputs.

    Attributes:
      key: decides every random number; not read where `train` is False.
      step: int32 (), steps that the run has taken before this one.
      progress: float32 (), the fraction of the run that lies behind, in [0, 1).
      constants: arrays that stay as they are during a run, such as the parameters of a teacher; None without any.
      train: whether dropout is on and statistics are updated.
      frozen: path prefixes of blocks that run as in evaluation, because nothing in them learns.
    """

    key: Any = None
    step: Any = 0
    progress: Any = 0.0
    constants: Any = None
    train: bool = struct.field(pytree_node=False, default=True)
    frozen: tuple[str, ...] = struct.field(pytree_node=False, default=())


EVALUATION = Context(train=False)


def forward(
    model: nn.Module, params: Any, model_state: ModelState, inputs: Mapping[str, Any], context: Context = EVALUATION,
    **options: Any,
) -> tuple[Any, ModelState]:  # fmt: skip
    """Runs a model.

    Args:
      model: a `Model`, or another module that takes `deterministic` and `frozen`.
      params: its parameters.
      model_state: its other collections, read always and updated in training.
      inputs: by the names that the model takes.
      context: `EVALUATION`, or of a training step.
      options: passed on, such as `output_attentions=True`.

    Returns:
      What the model returns, and the model state after it: in evaluation the one that was given.
    """
    variables = {"params": params, **model_state}
    if not context.train:
        return model.apply(variables, **inputs, **options), model_state
    rngs = {"dropout": context.key} if context.key is not None else None
    output, updated = model.apply(
        variables, **inputs, **options, deterministic=False, frozen=context.frozen, rngs=rngs,
        mutable=list(model_state),
    )  # fmt: skip
    return output, {name: updated[name] for name in model_state}


def init_model_state(model: nn.Module, inputs: Mapping[str, Any]) -> ModelState:
    """The collections besides the parameters before the first step, as the module itself initializes them.

    Args:
      model: a module whose collections do not depend on the random key, as running statistics do not.
      inputs: the smallest inputs with which it can be traced.
    """
    made = jax.eval_shape(lambda: model.init(jax.random.key(0), **inputs))
    if set(made) <= {"params"}:
        return {}
    variables = model.init(jax.random.key(0), **inputs)
    return jax.tree.map(jnp.asarray, {name: value for name, value in variables.items() if name != "params"})
