"""A backbone and its heads as one linen module, with the parameter tree `{"backbone": …, "heads": {name: …}}`."""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax import struct

from tlx.errors import TlxError, listed
from tlx.models.backbone import Backbone, BackboneOutput
from tlx.models.bert import Bert, BertConfig
from tlx.models.config import BackboneConfig
from tlx.models.convnet import ConvNetBackbone, ConvNetConfig
from tlx.models.deit import DeiT, DeiTConfig
from tlx.models.distilbert import DistilBert, DistilBertConfig
from tlx.models.electra import Electra, ElectraConfig
from tlx.models.heads import PER_TOKEN, Head, HeadInputs, Heads, HeadSettings, read_vector
from tlx.models.layers import Dtype
from tlx.models.roberta import CamembertConfig, Roberta, RobertaConfig, XlmRobertaConfig
from tlx.models.vit import ViT, ViTConfig

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# model_type of a Hugging Face config -> config class, backbone class
FAMILIES: dict[str, tuple[type[BackboneConfig], type[Backbone]]] = {
    "bert": (BertConfig, Bert),
    "camembert": (CamembertConfig, Roberta),
    "deit": (DeiTConfig, DeiT),
    "distilbert": (DistilBertConfig, DistilBert),
    "electra": (ElectraConfig, Electra),
    "roberta": (RobertaConfig, Roberta),
    "tlx_convnet": (ConvNetConfig, ConvNetBackbone),
    "vit": (ViTConfig, ViT),
    "xlm-roberta": (XlmRobertaConfig, Roberta),
}


@struct.dataclass
class ModelOutput:
    """The output of a model. For multiple choice, the batch of all fields except `logits` is batch · choices.

    Attributes:
      logits: the logits by head name: (batch, outputs); (batch, length, outputs) for heads that predict every token, or
        (batch, tokens, outputs) of a `masked_lm` head that is told what to read;
        (batch, choices) for multiple choice. Empty without heads. If texts are packed, the batch of a head that
        predicts whole texts is all places for texts, row after row.
      last_hidden_state: as in `BackboneOutput`.
      pooler_output: as in `BackboneOutput`.
      hidden_states: as in `BackboneOutput`.
      attentions: as in `BackboneOutput`.
    """

    logits: dict[str, jax.Array]
    last_hidden_state: jax.Array
    pooler_output: jax.Array | None = None
    hidden_states: tuple[jax.Array, ...] | None = None
    attentions: tuple[jax.Array, ...] | None = None


class Model(nn.Module):
    """A backbone and heads on its output. Keyword arguments that the model does not use go to the backbone.

    Attributes:
      backbone: the backbone.
      heads_by_name: pairs of a name and a head.
      head_settings: the settings of heads that the backbone's config determines.
      dtype: the dtype of the computation; None for the parameters' own.
    """

    backbone: nn.Module
    heads_by_name: tuple[tuple[str, Head], ...] = ()
    head_settings: HeadSettings = HeadSettings()
    dtype: Dtype = None

    def setup(self) -> None:
        if self.heads_by_name:
            self.heads = Heads(self.heads_by_name, self.head_settings, self.dtype)

    def __call__(
        self,
        *,
        deterministic: bool = True,
        frozen: Collection[str] = (),
        pooled: jax.Array | None = None,
        read_at: jax.Array | None = None,
        tap: Callable[[Any], Any] | None = None,
        **inputs: Any,
    ) -> ModelOutput:
        """Runs the model.

        Args:
          deterministic: whether dropout is off.
          frozen: path prefixes (`backbone/encoder/layer/0`) of blocks that run without dropout.
          pooled: the pooled vector, (batch, 1, hidden), or (batch, 2, hidden) for heads that read two tokens. If it is
            given, there are no inputs and only the heads run.
          read_at: integers (batch, tokens), the tokens for which heads of the kind `masked_lm` predict; None: all.
          tap: a function of `(last_hidden_state, pooler_output)` whose result the heads read instead; see
            `Context.tap`.
          inputs: the backbone's inputs; for multiple choice each is (batch, choices, length).
        """
        if pooled is not None:
            logits = self.heads(HeadInputs(pooled, pooled[:, 0], None, None), deterministic)
            return ModelOutput(logits, pooled)
        choices = inputs["input_ids"].shape[:2] if getattr(inputs.get("input_ids"), "ndim", 2) == 3 else None
        if choices:
            inputs = {
                name: x.reshape(-1, x.shape[-1]) if getattr(x, "ndim", 0) == 3 else x for name, x in inputs.items()
            }
        within = tuple(prefix.removeprefix("backbone/") for prefix in frozen)
        features: BackboneOutput = self.backbone(deterministic=deterministic, frozen=within, **inputs)
        if tap is not None:
            hidden, pooled_by_backbone = tap((features.last_hidden_state, features.pooler_output))
            features = dataclasses.replace(features, last_hidden_state=hidden, pooler_output=pooled_by_backbone)
        logits = self.heads(self._readable(features, inputs, read_at), deterministic) if self.heads_by_name else {}
        if choices:
            logits = {
                name: x.reshape(choices) if dict(self.heads_by_name)[name].kind == "multiple_choice" else x
                for name, x in logits.items()
            }
        return ModelOutput(
            logits, features.last_hidden_state, features.pooler_output, features.hidden_states, features.attentions
        )

    def _readable(self, features: BackboneOutput, inputs: Mapping[str, Any], read_at: jax.Array | None) -> HeadInputs:
        tied = any(head.kind == "masked_lm" for _, head in self.heads_by_name)
        packed = inputs.get("text_starts") is not None
        return HeadInputs(
            features.last_hidden_state,
            features.pooler_output,
            self.backbone.pooling_mask(features, inputs),
            self.backbone.word_embeddings() if tied else None,
            inputs.get("segment_ids") if packed else None,
            inputs.get("text_starts"),
            read_at,
        )


def read_by_head(model: Model, name: str, output: ModelOutput, inputs: Mapping[str, Any]) -> jax.Array:
    """Returns what a head of whole texts or images reads: (batch, hidden), before the head's own layers and dropout.

    Args:
      model: the model.
      name: of the head.
      output: what the model returned.
      inputs: for these inputs.

    Raises:
      TlxError: if the head reads every token, or two tokens (the pooling `distilled`).
    """
    head = dict(model.heads_by_name)[name]
    if head.kind in PER_TOKEN or head.kind == "multiple_choice" or head.pooling == "distilled":
        raise TlxError(
            f"the head {name!r} ({head.kind}, pooling {head.pooling!r}) does not read one vector a text or image; take "
            "a classification, multilabel or regression head with another pooling."
        )
    if "pooled" in inputs:
        return output.last_hidden_state[:, 0]
    mask = model.backbone.pooling_mask(output, inputs)
    features = HeadInputs(output.last_hidden_state, output.pooler_output, mask, None)
    return read_vector(head, model.head_settings, features)


def build_model(config: BackboneConfig, heads: Mapping[str, Head], dtype: Dtype = None) -> Model:
    """Builds the model of a family's config with these heads.

    Args:
      config: the backbone's config.
      heads: the heads by name; a name matches `[A-Za-z_][A-Za-z0-9_]*`.
      dtype: the dtype of the computation; None for the parameters' own.

    Raises:
      TlxError: a head's name is invalid, or the family does not support the head.
    """
    settings = config.head_settings
    for name, head in heads.items():
        if not NAME.fullmatch(name):
            raise TlxError(f"a head's name is letters, digits and _, not starting with a digit; found {name!r}.")
        if head.kind not in settings.kinds:
            raise TlxError(f"{config.family} has no {head.kind} head; it has {listed(settings.kinds)}.")
        if head.pooling == "distilled" and not settings.distilled:
            raise TlxError(f"{config.family} has no distillation token, so no head can say pooling='distilled'.")
    backbone = dict(FAMILIES.values())[type(config)](config, dtype)
    return Model(backbone, tuple(heads.items()), settings, dtype)


def config_of(folder: Any, hf: Mapping[str, Any], heads: Mapping[str, Head], **changes: Any) -> BackboneConfig:
    """Makes the backbone's config from that of a Hugging Face folder.

    The backbone has a pooler only if a head reads it.

    Args:
      folder: the folder, for messages.
      hf: the content of its `config.json`.
      heads: the heads by name; without heads the pooler is kept.
      changes: fields of the config to change.

    Raises:
      TlxError: tlx does not support the family.
    """
    if hf["model_type"] not in FAMILIES:
        raise TlxError(f"{folder} is a {hf['model_type']!r} checkpoint; tlx has {listed(sorted(FAMILIES), 30)}.")
    config_class = FAMILIES[hf["model_type"]][0]
    config = config_class.from_hf(hf, **changes)
    if "add_pooling_layer" in changes or not heads:
        return config
    return config_class.from_hf(
        hf, **changes, add_pooling_layer=any(reads_pooler(head, config) for head in heads.values())
    )


def reads_pooler(head: Head, config: BackboneConfig) -> bool:
    """Returns whether a head reads the backbone's pooler. A pooler that no head reads would only be decayed."""
    return (
        head.kind not in PER_TOKEN
        and head.pooling == "pooler"
        and config.head_settings.pooled_by == "pooler"
        and config.head_settings.readout(head.kind).dense is None
    )


def dummy_inputs(model: Model) -> dict[str, Any]:
    """Returns small inputs with which the model can be traced."""
    backbone: Any = model.backbone
    inputs: dict[str, Any] = backbone.dummy_inputs(backbone.config)
    return inputs
