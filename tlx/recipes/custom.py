"""A linen module of a script's own as the backbone of a run."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from tlx.modalities.api import Inputs
from tlx.models.custom import Custom, CustomConfig, sample_of
from tlx.models.model import Model
from tlx.params.paths import flatten
from tlx.pretrained.load import random_params
from tlx.recipes.datasets import Datasets
from tlx.recipes.model import adapt


def custom_backbone(module: nn.Module, blocks: Sequence[str] = ()) -> Custom:
    """A linen module as the backbone of `build`.

    Args:
      module: called with a batch's inputs by name (`pixel_values`, channels last, or `input_ids`, `attention_mask`, …)
        and `deterministic`; gives (batch, hidden) or (batch, tokens, hidden).
      blocks: path prefixes within it, from the bottom up, that `last:K`, phases and rates by layer count.
    """
    return Custom(CustomConfig(tuple(blocks)), None, module)


def initialize_custom(
    config: ConfigDict, backbone: Custom, inputs: Inputs, datasets: Datasets
) -> tuple[Model, Any, frozenset[str]]:
    """The module with its heads, drawn by the run's seed."""
    rows = datasets.examples["train"].take(np.zeros(1, np.int64), inputs.length_buckets[0])
    given, _ = inputs.prepare({name: jnp.asarray(field) for name, field in rows.items()}, None)
    described = backbone.clone(config=dataclasses.replace(backbone.config, sample=sample_of(given)))
    model = Model(described, (("default", datasets.head),), described.config.head_settings)
    model, params = adapt(model, random_params(model, config.seed), config)
    return model, params, frozenset(flatten(params))
