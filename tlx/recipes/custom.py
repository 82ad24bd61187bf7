"""A linen module of a script's own as the backbone of a run."""

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
from tlx.parallel.layout import make_layout
from tlx.params.paths import flatten
from tlx.pretrained.load import random_params
from tlx.recipes.datasets import Datasets
from tlx.recipes.model import adapt


def custom_backbone(module: nn.Module, blocks: Sequence[str] = ()) -> Custom:
    """A linen module as the backbone of `build`.

    Args:
      module: called with a batch's inputs by name (`pixel_values`, channels last, or `input_ids`, `attention_mask`, …)
        and `deterministic`; gives (batch, hidden) or (batch, tokens, hidden). Where its `__call__` names them, it is
        given `frozen`, path prefixes within it of what does not learn, and in training `valid`, bool (batch,), False
        for rows of padding, which should enter no statistics. It may have mutable collections, such as `batch_stats`.
      blocks: path prefixes within it, from the bottom up, that `last:K`, phases and rates by layer count.
    """
    return Custom(CustomConfig(tuple(blocks)), None, module)


def initialize_custom(
    config: ConfigDict, backbone: Custom, inputs: Inputs, datasets: Datasets
) -> tuple[Model, Variables, frozenset[str]]:
    """The module with its heads, drawn by the run's seed; every path of its parameters is new.

    Raises:
      TlxError: its collections change their shape in training, or padding would enter them.
    """
    rows = datasets.examples["train"].take(np.zeros(1, np.int64), inputs.length_buckets[0])
    given, _ = inputs.prepare({name: jnp.asarray(field) for name, field in rows.items()}, None)
    described = backbone.clone(config=dataclasses.replace(backbone.config, sample=sample_of(given)))
    model = Model(described, (("default", datasets.head),), described.config.head_settings)
    model, params = adapt(model, random_params(model, config.seed), config)
    variables = Variables(params, init_model_state(model, dummy_inputs(model)))
    if variables.model_state:
        _check_state(config, model, variables, len(datasets.examples["train"]))
    return model, variables, frozenset(flatten(params))


def _check_state(config: ConfigDict, model: Model, variables: Variables, examples: int) -> None:
    own: Any = model.backbone
    params, state, context = variables.params, variables.model_state, Context(jax.random.key(0))
    given = dummy_inputs(model) | ({"valid": jnp.ones(1, bool)} if own.reads_valid else {})
    jax.eval_shape(lambda: forward(model, params, state, given, context)[1])  # refuses a state that changes its shape
    size, parts = (
        config.train.batch_size,
        make_layout(config.parallel.data, config.parallel.fsdp).size * config.train.accumulate,
    )
    if not own.reads_valid and (examples % size or size % parts):
        raise TlxError(
            f"{examples} training examples in batches of {size}, each cut in {parts}, hold rows of padding, that "
            f"would enter the {listed(state)} of {type(own.module).__name__}; let its __call__ take valid (bool, one a "
            "row) and leave those out, or choose a batch size that divides."
        )
