"""The one function through which a forward pass of a model goes, in training, evaluation and for features."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from tlx.errors import TlxError, listed
from tlx.params.paths import flatten, map_with_path

ModelState = Mapping[str, Any]  # linen's mutable collections by name, such as {"batch_stats": …}; {} of most models


@struct.dataclass
class Variables:
    """What a model is run with.

    Attributes:
      params: its parameters.
      model_state: its other collections.
    """

    params: Any
    model_state: ModelState = struct.field(default_factory=dict)


@struct.dataclass
class Context:
    """What a forward pass, and a loss, knows besides parameters and inputs.

    Attributes:
      key: decides every random number; not read where `train` is False.
      step: int32 (), steps that the run has taken before this one.
      progress: float32 (), the fraction of the run that lies behind, in [0, 1).
      constants: arrays that stay as they are during a run, such as the parameters of a teacher; None without any.
      train: whether dropout is on and statistics are updated.
      frozen: path prefixes of parts that run as in evaluation, because nothing in them learns; their state stays.
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
      inputs: by the names that the model takes. Where `valid` is among them, bool (batch,), False for rows of padding,
        a batch of nothing but padding leaves the state as it is.
      context: `EVALUATION`, or of a training step.
      options: passed on, such as `output_attentions=True`.

    Returns:
      What the model returns, and the model state after it: in evaluation the one that was given.

    Raises:
      TlxError: the state is of another structure, shape or dtype after the pass.
    """
    variables = {"params": params, **model_state}
    if not context.train:
        return model.apply(variables, **inputs, **options), model_state
    rngs = {"dropout": context.key} if context.key is not None else None
    output, updated = model.apply(
        variables, **inputs, **options, deterministic=False, frozen=context.frozen, rngs=rngs,
        mutable=list(model_state),
    )  # fmt: skip
    return output, _after(model_state, {name: updated[name] for name in model_state}, context, inputs.get("valid"))


def _after(before: ModelState, updated: ModelState, context: Context, valid: jax.Array | None) -> ModelState:
    """The state after a pass in training: what is frozen, or met nothing but padding, is as before."""
    shapes, new_shapes = (
        {path: (leaf.shape, leaf.dtype) for path, leaf in flatten(state).items()} for state in (before, updated)
    )
    if changed := sorted({path for path, _ in shapes.items() ^ new_shapes.items()}):
        raise TlxError(
            f"the model's collections ({listed(before)}) change in training: {listed(changed, 3)} is of another shape, "
            "of another dtype, new or gone; a model state keeps its arrays' names, shapes and dtypes."
        )
    frozen = tuple(f"{path}/" for path in context.frozen)

    def after(path: str, old: jax.Array, new: jax.Array) -> jax.Array:
        if path.startswith(frozen):
            return old
        return new if valid is None else jnp.where(valid.any(), new, old)

    return {name: map_with_path(after, old, updated[name]) for name, old in before.items()}


def abstract_variables(model: nn.Module, inputs: Mapping[str, Any]) -> Variables:
    """Shapes and dtypes of a model's parameters and other collections; nothing is computed.

    Args:
      model: the module.
      inputs: the smallest inputs with which it can be traced.
    """
    made = dict(jax.eval_shape(lambda: model.init(jax.random.key(0), **inputs)))
    return Variables(made.pop("params", {}), made)


def init_model_state(model: nn.Module, inputs: Mapping[str, Any]) -> ModelState:
    """The collections besides the parameters before the first step, as the module itself initializes them.

    Args:
      model: a module whose collections do not depend on the random key, as running statistics do not.
      inputs: the smallest inputs with which it can be traced.
    """
    names = list(abstract_variables(model, inputs).model_state)

    @jax.jit
    def made() -> dict[str, Any]:
        variables = model.init(jax.random.key(0), **inputs)
        return {name: variables[name] for name in names}  # XLA does not compute the parameters

    return made() if names else {}
