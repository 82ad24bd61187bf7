"""Custom backbones: any linen module can take the place of the checkpoint's backbone in a run."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.modalities.api import Inputs
from tlx.models.custom import Custom, CustomConfig, sample_of
from tlx.models.forward import Context, Variables, forward, init_model_state
from tlx.models.model import Model, dummy_inputs
from tlx.parallel.axis import DEVICES
from tlx.parallel.layout import make_layout
from tlx.params.paths import flatten
from tlx.pretrained.load import random_params
from tlx.recipes.datasets import Datasets
from tlx.recipes.model import adapt


def custom_backbone(module: nn.Module, blocks: Sequence[str] = ()) -> Custom:
    """Wraps a linen module as a backbone for `build`.

    Args:
      module: the module. It is called with a batch's inputs by name (`pixel_values`, with channels last, or
        `input_ids`, `attention_mask`, …) and `deterministic`, and returns an array of shape (batch, hidden) or
        (batch, tokens, hidden). If its `__call__` has a parameter `frozen`, it gets the path prefixes of its frozen
        parts. If it has a parameter `valid`, it gets bool (batch,) in training: False for rows of padding, which must
        not enter statistics. The module may have mutable collections, such as `batch_stats`.
      blocks: path prefixes of the module's blocks from input to output. `last:K`, phases and layer-wise learning
        rates refer to them.
    """
    return Custom(CustomConfig(tuple(blocks)), None, module)


def initialize_custom(
    config: ConfigDict, backbone: Custom, inputs: Inputs, datasets: Datasets
) -> tuple[Model, Variables, frozenset[str]]:
    """Initializes a custom backbone with its heads, with the run's seed.

    Args:
      config: the run's config.
      backbone: the backbone.
      inputs: makes the model's inputs from a batch.
      datasets: the data, whose first example gives the shapes of the inputs.

    Returns:
      The model, its parameters and model state, and the paths of all parameters.

    Raises:
      TlxError: if a collection changes its shape in training, rows of padding would enter it, or it is not batch norm's
        and `parallel.mode` is "pmap".
    """
    rows = datasets.examples["train"].take(np.zeros(1, np.int64), inputs.length_buckets[0])
    sample, _ = inputs.prepare({name: jnp.asarray(field) for name, field in rows.items()}, None)
    backbone = backbone.clone(config=dataclasses.replace(backbone.config, sample=sample_of(sample)))
    model = Model(backbone, (("default", datasets.head),), backbone.config.head_settings)
    model, params = adapt(model, random_params(model, config.seed), config)
    variables = Variables(params, init_model_state(model, dummy_inputs(model)))
    if variables.model_state:
        _check_state(config, model, variables, len(datasets.examples["train"]))
    return model, variables, frozenset(flatten(params))


def _check_state(config: ConfigDict, model: Model, variables: Variables, examples: int) -> None:
    """Raises `TlxError` if the model state changes its shape in training, or rows of padding would enter it."""
    backbone: Any = model.backbone
    params, state, context = variables.params, variables.model_state, Context(jax.random.key(0))
    inputs = dummy_inputs(model) | ({"valid": jnp.ones(1, bool)} if backbone.reads_valid else {})

    def updated(inputs: Any) -> Any:
        return forward(model, params, state, inputs, context)[1]

    jax.eval_shape(updated, inputs)  # raises if the state changes its shape
    if config.parallel.mode == "pmap":  # raises if an update needs the rows of other devices
        jax.eval_shape(jax.vmap(updated, axis_name=DEVICES), jax.tree.map(lambda field: field[None], inputs))
    size, parts = (
        config.train.batch_size,
        make_layout(config.parallel.data, config.parallel.fsdp).size * config.train.accumulate,
    )
    if not backbone.reads_valid and (examples % size or size % parts):
        raise TlxError(
            f"{examples} training examples in batches of {size}, each split into {parts}, need rows of padding, which "
            f"would enter the {listed(state)} of {type(backbone.module).__name__}; let its __call__ take valid (bool, "
            "one a row) and leave these rows out, or choose a batch size without padding."
        )
