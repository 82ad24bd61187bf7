"""A backbone and its heads as one linen module, with the parameter tree `{"backbone": …, "heads": {name: …}}`."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax import struct

from tlx.errors import TlxError
from tlx.models.bert import BackboneOutput, Bert
from tlx.models.bert_config import BertConfig
from tlx.models.heads import PER_TEXT, Features, Head, Heads, HeadSettings
from tlx.models.layers import Dtype

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# model_type of a Hugging Face config -> how its config is read, what its backbone is
FAMILIES: dict[str, tuple[type[BertConfig], type[Bert]]] = {"bert": (BertConfig, Bert)}


@struct.dataclass
class ModelOutput:
    """logits: by head name, each (batch, outputs), or (batch, length, outputs) of a head that answers every token;
    empty without heads. The rest is as in `BackboneOutput`."""

    logits: dict[str, jax.Array]
    last_hidden_state: jax.Array
    pooler_output: jax.Array | None = None
    hidden_states: tuple[jax.Array, ...] | None = None
    attentions: tuple[jax.Array, ...] | None = None


class Model(nn.Module):
    """A backbone, whose inputs pass through by name, and heads on what it returns."""

    backbone: nn.Module
    heads_by_name: tuple[tuple[str, Head], ...] = ()
    head_settings: HeadSettings = HeadSettings()
    dtype: Dtype = None

    def setup(self) -> None:
        if self.heads_by_name:
            self.heads = Heads(self.heads_by_name, self.head_settings, self.dtype)

    def __call__(self, *, deterministic: bool = True, frozen: Collection[str] = (), **inputs: Any) -> ModelOutput:
        """frozen: path prefixes (`backbone/encoder/layer/0`) of blocks that run without dropout."""
        within = tuple(prefix.removeprefix("backbone/") for prefix in frozen)
        features: BackboneOutput = self.backbone(deterministic=deterministic, frozen=within, **inputs)
        logits = self.heads(self._readable(features, inputs), deterministic) if self.heads_by_name else {}
        return ModelOutput(
            logits, features.last_hidden_state, features.pooler_output, features.hidden_states, features.attentions
        )

    def _readable(self, features: BackboneOutput, inputs: Mapping[str, Any]) -> Features:
        tied = any(head.kind == "masked_lm" for _, head in self.heads_by_name)
        return Features(
            features.last_hidden_state,
            features.pooler_output,
            inputs.get("attention_mask"),
            self.backbone.word_embeddings() if tied else None,
        )


def build_model(config: BertConfig, heads: Mapping[str, Head], dtype: Dtype = None) -> Model:
    """The model of a family's config with these heads.

    Args:
      config: the backbone's config.
      heads: by name; a name is a letter or `_`, then letters, digits, `_`.
      dtype: what to compute in; None: the parameters' own.
    """
    for name in heads:
        if not NAME.fullmatch(name):
            raise TlxError(f"a head's name is letters, digits and _, not starting with a digit; found {name!r}.")
    backbone = dict(FAMILIES.values())[type(config)](config, dtype)
    settings = HeadSettings(config.head_dropout, config.initializer_range, config.hidden_act, config.layer_norm_eps)
    return Model(backbone, tuple(heads.items()), settings, dtype)


def needs_pooler(heads: Mapping[str, Head]) -> bool:
    """Whether the backbone's pooler has a reader; one that has none would only be decayed. Without heads it stays."""
    return not heads or any(head.kind in PER_TEXT and head.pooling == "pooler" for head in heads.values())


def dummy_inputs() -> dict[str, Any]:
    """The smallest inputs with which a text model can be traced."""
    return {"input_ids": jax.numpy.zeros((1, 2), jax.numpy.int32)}
