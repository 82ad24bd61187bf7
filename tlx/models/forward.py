"""The forward pass of a model. Training, evaluation and feature extraction all call `forward`."""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from tlx.errors import TlxError, listed
from tlx.models.by_device import LayersByDevice
from tlx.parallel.axis import device_index, on_any
from tlx.params.paths import flatten, map_with_path

ModelState = Mapping[str, Any]  # linen's mutable collections by name, such as {"batch_stats": …}; {} for most models


@struct.dataclass
class Variables:
    """All variables of a model.

    Attributes:
      params: its parameters.
      model_state: its other collections.
    """

    params: Any
    model_state: ModelState = struct.field(default_factory=dict)


@struct.dataclass
class Context:
    """The values besides parameters and inputs that a forward pass or a loss may use.

    Attributes:
      key: the PRNG key of all random numbers; unused if `train` is False.
      step: int32 (), the number of steps before this one.
      progress: float32 (), the fraction of the run that is completed, in [0, 1).
      constants: arrays that do not change during a run, such as the parameters of a teacher; None without any.
      train: whether dropout is applied and statistics are updated.
      frozen: path prefixes of frozen modules. They run as in evaluation and their model state is not updated.
      tap: a function through which a `Model` hands to its heads what they read; None: as it is. Adding zeros there and
        differentiating by them gives the gradients of the features.
    """

    key: Any = None
    step: Any = 0
    progress: Any = 0.0
    constants: Any = None
    train: bool = struct.field(pytree_node=False, default=True)
    frozen: tuple[str, ...] = struct.field(pytree_node=False, default=())
    tap: Callable[[Any], Any] | None = struct.field(pytree_node=False, default=None)


EVALUATION = Context(train=False)


def forward(
    model: nn.Module, params: Any, model_state: ModelState, inputs: Mapping[str, Any], context: Context = EVALUATION,
    **options: Any,
) -> tuple[Any, ModelState]:  # fmt: skip
    """Runs a model.

    Args:
      model: a `Model`, or another module that takes `deterministic` and `frozen`.
      params: its parameters.
      model_state: its other collections. They are always read, and updated in training only.
      inputs: the keyword arguments of the model. They may contain `valid`, bool (batch,), False for rows of padding;
        a batch of padding alone does not change the model state.
      context: `EVALUATION`, or the context of a training step.
      options: further keyword arguments of the model, such as `output_attentions=True`.

    Returns:
      The model's output, and the updated model state; in evaluation the model state is returned unchanged.

    Raises:
      TlxError: if the structure, a shape or a dtype of the model state has changed, or a state that is not batch norm's
        is updated from a device's own rows of the batch.
    """
    if options.get("output_attentions"):
        model = with_attention_weights(model)
    variables = {"params": params, **model_state}
    options = options if context.tap is None else {**options, "tap": context.tap}
    if not context.train:
        return model.apply(variables, **inputs, **options), model_state
    rngs = {"dropout": context.key} if context.key is not None else None
    layers = None if device_index() is None else LayersByDevice(context.frozen)
    with contextlib.nullcontext() if layers is None else nn.intercept_methods(layers):
        output, updated = model.apply(
            variables, **inputs, **options, deterministic=False, frozen=context.frozen, rngs=rngs,
            mutable=list(model_state),
        )  # fmt: skip
    after = {name: updated[name] for name in model_state}
    if layers is not None:
        _check_by_device(model_state, after, layers.updated, context)
    return output, _after(model_state, after, context, inputs.get("valid"))


def with_attention_weights(model: nn.Module) -> nn.Module:
    """Returns the model with attention that returns its weights, which cuDNN's kernel does not."""
    backbone: Any = getattr(model, "backbone", None)
    if getattr(getattr(backbone, "config", None), "attention", "xla") == "xla":
        return model
    config = dataclasses.replace(backbone.config, attention="xla")
    return model.clone(backbone=backbone.clone(config=config, parent=None))


def _check_by_device(before: ModelState, updated: ModelState, known: Collection[str], context: Context) -> None:
    """Raises `TlxError` if a state is updated, from the rows of one device, by a module other than a `BatchNorm`."""
    new = flatten(updated)
    for path, leaf in flatten(before).items():
        frozen = path.partition("/")[2].startswith(tuple(f"{prefix}/" for prefix in context.frozen))
        if not frozen and path not in known and new.get(path) is not leaf:
            raise TlxError(
                "parallel.mode is 'pmap', in which each device has only its own rows of a batch, and the model updates "
                f"{path}, which is not the state of a flax.linen.BatchNorm; use parallel.mode=jit."
            )


def _after(before: ModelState, updated: ModelState, context: Context, valid: jax.Array | None) -> ModelState:
    """The model state after a training pass; frozen parts, and all parts after a batch of padding, are unchanged."""
    shapes, new_shapes = (
        {path: (leaf.shape, leaf.dtype) for path, leaf in flatten(state).items()} for state in (before, updated)
    )
    if changed := sorted({path for path, _ in shapes.items() ^ new_shapes.items()}):
        raise TlxError(
            f"the model's collections ({listed(before)}) change in training: {listed(changed, 3)} has another shape or "
            "dtype, is new or is missing; the names, shapes and dtypes of a model state must stay the same."
        )
    frozen = tuple(f"{path}/" for path in context.frozen)

    def after(path: str, old: jax.Array, new: jax.Array) -> jax.Array:
        if path.startswith(frozen):
            return old
        return new if valid is None else jnp.where(on_any(valid.any()), new, old)

    return {name: map_with_path(after, old, updated[name]) for name, old in before.items()}


def abstract_variables(model: nn.Module, inputs: Callable[[], Mapping[str, Any]]) -> Variables:
    """Returns the shapes and dtypes of a model's parameters and other collections; nothing is computed.

    Args:
      model: the module.
      inputs: makes small inputs with which the module can be traced. It is called within the trace, so that the
        inputs take no memory either: those of a model of large images would take gigabytes.
    """
    shapes = dict(jax.eval_shape(lambda: model.init(jax.random.key(0), **inputs())))
    return Variables(shapes.pop("params", {}), shapes)


def init_model_state(model: nn.Module, inputs: Mapping[str, Any]) -> ModelState:
    """Returns the initial model state: every collection except the parameters, as the module initializes it.

    Args:
      model: a module whose collections do not depend on the PRNG key (running statistics do not).
      inputs: small inputs with which the module can be traced.
    """
    names = list(abstract_variables(model, lambda: inputs).model_state)

    @jax.jit
    def initial_state() -> dict[str, Any]:
        variables = model.init(jax.random.key(0), **inputs)
        return {name: variables[name] for name in names}  # XLA does not compute the parameters

    return initial_state() if names else {}
