"""Specification of features: which layers of a backbone are read, how they are pooled, which parameters they need."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import TlxError, listed
from tlx.models.forward import ModelState, abstract_variables, forward
from tlx.models.heads import POOLINGS, HeadInputs, pool
from tlx.models.model import Model, dummy_inputs
from tlx.params.paths import flatten


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """Which features are read from a backbone.

    Attributes:
      layers: hidden states, numbered as in transformers: 0 is the output of the embeddings, k that of the k-th block,
        before any layer after the last block. () for the last hidden state, after all layers.
      pooling: `cls` for the first token; `mean` for the mean over all tokens except padding, or over the patches;
        `pooler` for the checkpoint's pooler (without `layers`); `distilled` for DeiT's first two tokens; None for every
        token of a single layer.
    """

    layers: tuple[int, ...] = ()
    pooling: str | None = "mean"

    def __post_init__(self) -> None:
        if self.pooling not in (*POOLINGS, None):
            raise TlxError(f"pooling is {self.pooling!r}; it must be {listed(POOLINGS)} or None.")
        if self.pooling is None and len(self.layers) > 1:
            raise TlxError(f"without pooling only one layer can be read; found {listed(self.layers)}; set a pooling.")
        if self.pooling == "pooler" and self.layers:
            raise TlxError("the pooler reads only the last hidden state; set no layers with pooling='pooler'.")

    def __str__(self) -> str:
        what = {None: "every token", "cls": "the first token", "mean": "the mean of the tokens"}
        where = f"layer {listed(self.layers, 50)}" if self.layers else "the last hidden state"
        return f"{what.get(self.pooling, f'the {self.pooling} output')} of {where}"


def resolved(spec: FeatureSpec, model: Model) -> FeatureSpec:
    """Returns the spec with negative layer numbers replaced: -1 is the last layer.

    Raises:
      TlxError: if a layer does not exist.
    """
    blocks = _blocks(model)
    for layer in spec.layers:
        if not -blocks - 1 <= layer <= blocks:
            raise TlxError(
                f"there is no layer {layer}; the layers of this backbone are 0 (the embeddings) to {blocks}, and -1 "
                f"(the last) to {-blocks - 1}."
            )
    return dataclasses.replace(spec, layers=tuple(layer % (blocks + 1) for layer in spec.layers))


def read(
    model: Model, params: Any, inputs: Mapping[str, Any], spec: FeatureSpec, model_state: ModelState | None = None
) -> jax.Array:
    """Computes the features of a batch, without dropout. Blocks above the highest layer do not run.

    Args:
      model: the model; its heads are not used.
      params: its parameters.
      inputs: the inputs of the backbone.
      spec: the features to read, with non-negative layers (see `resolved`).
      model_state: the model state of a model that has one.

    Returns:
      (batch, vectors, hidden) with pooling, where `distilled` has two vectors for a layer and other poolings one; or
      (batch, tokens, hidden) without pooling. Of packed texts, batch is all places for texts with pooling, row after
      row, and the number of rows without.

    Raises:
      TlxError: if the pooling is `pooler` and the backbone has none.
    """
    stop = max(spec.layers) if spec.layers else None
    options = {**inputs, "stop": stop, "output_hidden_states": True}
    output, _ = forward(without_heads(model), params, model_state or {}, options)
    states = [output.hidden_states[layer] for layer in spec.layers] or [output.last_hidden_state]
    if spec.pooling is None:
        return states[0]
    if spec.pooling == "pooler" and output.pooler_output is None:
        raise TlxError("this backbone has no pooler; set pooling='cls' or 'mean'.")
    packing = (inputs["segment_ids"], inputs["text_starts"]) if "text_starts" in inputs else ()
    fixed = (output.pooler_output, model.backbone.pooling_mask(output, inputs), None, *packing)
    return jnp.concatenate([_pooled(spec.pooling, HeadInputs(x, *fixed)) for x in states], 1)


def _pooled(pooling: str, features: HeadInputs) -> jax.Array:
    return features.last_hidden_state[:, :2] if pooling == "distilled" else pool(pooling, features)[:, None]


def without_heads(model: Model) -> Model:
    """Returns the model without its heads."""
    return Model(model.backbone.clone(parent=None), (), model.head_settings, model.dtype)


def below(model: Model, spec: FeatureSpec) -> set[str]:
    """Returns the paths of the parameters on which the features depend; all are below `backbone/`.

    They are found by tracing the module, which creates parameters only for the layers that run.

    Args:
      model: the model.
      spec: the features, with non-negative layers (see `resolved`).
    """
    top = max(spec.layers, default=_blocks(model))

    def created(stop: int | None) -> set[str]:
        return set(
            flatten(abstract_variables(without_heads(model), lambda: {**dummy_inputs(model), "stop": stop}).params)
        )

    if not spec.layers:
        return created(None)
    if not top:
        return created(0)
    block = f"backbone/{model.backbone.config.block_paths[top]}/"  # after the last block, the layers behind it run too
    return {path for path in created(top) if path.startswith(block)} | created(top - 1)


def _blocks(model: Model) -> int:
    return int(model.backbone.config.num_blocks)
