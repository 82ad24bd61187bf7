"""Where a backbone is cut: what is read of it, and which parameters decide that."""

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
    """What is read of a backbone.

    layers: hidden states as Hugging Face counts them, 0 that of the embeddings, k that of the k-th block, before what
      follows the last block; () for the last hidden state after all of it.
    pooling: `cls` (the first token), `mean` (of the tokens that are no padding, of an image's patches), `pooler` (the
      checkpoint's own, without layers), `distilled` (DeiT's first two tokens), or None: every token, of one layer.
    """

    layers: tuple[int, ...] = ()
    pooling: str | None = "mean"

    def __post_init__(self) -> None:
        if self.pooling not in (*POOLINGS, None):
            raise TlxError(f"pooling is {self.pooling!r}; features are pooled by {listed(POOLINGS)}, or None of them.")
        if self.pooling is None and len(self.layers) > 1:
            raise TlxError(f"without pooling one layer is kept, found layers {listed(self.layers)}; name a pooling.")
        if self.pooling == "pooler" and self.layers:
            raise TlxError("the pooler reads the last hidden state alone; give no layers with pooling='pooler'.")

    def __str__(self) -> str:
        what = {None: "every token", "cls": "the first token", "mean": "the mean of the tokens"}
        where = f"layer {listed(self.layers, 50)}" if self.layers else "the last hidden state"
        return f"{what.get(self.pooling, f'the {self.pooling} output')} of {where}"


def resolved(spec: FeatureSpec, model: Model) -> FeatureSpec:
    """The cut with layers counted from the bottom: -1 is the last."""
    blocks = _blocks(model)
    for layer in spec.layers:
        if not -blocks - 1 <= layer <= blocks:
            raise TlxError(f"there is no layer {layer}; this backbone has 0 (its embeddings) to {blocks}, or -1 down.")
    return dataclasses.replace(spec, layers=tuple(layer % (blocks + 1) for layer in spec.layers))


def read(
    model: Model, params: Any, inputs: Mapping[str, Any], spec: FeatureSpec, model_state: ModelState | None = None
) -> jax.Array:
    """What the cut says of a batch, without dropout: (batch, vectors, hidden) pooled, else (batch, tokens, hidden).

    Blocks above the cut do not run. vectors: one a layer; two of `distilled`. model_state: of a model that has one.
    """
    stop = max(spec.layers) if spec.layers else None
    asked = {**inputs, "stop": stop, "output_hidden_states": True}
    output, _ = forward(without_heads(model), params, model_state or {}, asked)
    states = [output.hidden_states[layer] for layer in spec.layers] or [output.last_hidden_state]
    if spec.pooling is None:
        return states[0]
    if spec.pooling == "pooler" and output.pooler_output is None:
        raise TlxError("this backbone has no pooler; say pooling='cls' or 'mean'.")
    mask = model.backbone.pooling_mask(output, inputs)
    return jnp.concatenate([_pooled(spec.pooling, HeadInputs(x, output.pooler_output, mask, None)) for x in states], 1)


def _pooled(pooling: str, features: HeadInputs) -> jax.Array:
    return features.last_hidden_state[:, :2] if pooling == "distilled" else pool(pooling, features)[:, None]


def without_heads(model: Model) -> Model:
    """The same backbone; nothing answers."""
    return Model(model.backbone.clone(parent=None), (), model.head_settings, model.dtype)


def below(model: Model, spec: FeatureSpec) -> set[str]:
    """The paths of the parameters that decide what is read at a cut (resolved), `backbone/…` all of them.

    Which they are is asked of the module itself: it makes parameters for what it runs.
    """
    top = max(spec.layers, default=_blocks(model))

    def made(stop: int | None) -> set[str]:
        return set(flatten(abstract_variables(without_heads(model), {**dummy_inputs(model), "stop": stop}).params))

    if not spec.layers:
        return made(None)
    if not top:
        return made(0)
    own = f"backbone/{model.backbone.config.block_paths[top]}/"  # with the last block its end would run too
    return {path for path in made(top) if path.startswith(own)} | made(top - 1)


def _blocks(model: Model) -> int:
    return int(model.backbone.config.num_blocks)
