"""A backbone and its heads as one linen module, with the parameter tree `{"backbone": …, "heads": {name: …}}`."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax import struct

from tlx.errors import TlxError, listed
from tlx.models.backbone import Backbone, BackboneOutput
from tlx.models.bert import Bert, BertConfig
from tlx.models.config import BackboneConfig
from tlx.models.deit import DeiT, DeiTConfig
from tlx.models.distilbert import DistilBert, DistilBertConfig
from tlx.models.electra import Electra, ElectraConfig
from tlx.models.heads import PER_TOKEN, Head, HeadInputs, Heads, HeadSettings
from tlx.models.layers import Dtype
from tlx.models.roberta import CamembertConfig, Roberta, RobertaConfig, XlmRobertaConfig
from tlx.models.vit import ViT, ViTConfig

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# model_type of a Hugging Face config -> how its config is read, what its backbone is
FAMILIES: dict[str, tuple[type[BackboneConfig], type[Backbone]]] = {
    "bert": (BertConfig, Bert),
    "camembert": (CamembertConfig, Roberta),
    "deit": (DeiTConfig, DeiT),
    "distilbert": (DistilBertConfig, DistilBert),
    "electra": (ElectraConfig, Electra),
    "roberta": (RobertaConfig, Roberta),
    "vit": (ViTConfig, ViT),
    "xlm-roberta": (XlmRobertaConfig, Roberta),
}


@struct.dataclass
class ModelOutput:
    """logits: by head name, each (batch, outputs), (batch, length, outputs) of a head that answers every token, or
    (batch, choices) of a multiple choice; empty without heads. Where texts are packed, the batch of a head that answers
    whole texts is all places for texts, row after row. The rest is as in `BackboneOutput`, its batch being
    batch · choices of a multiple choice."""

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

    def __call__(
        self,
        *,
        deterministic: bool = True,
        frozen: Collection[str] = (),
        pooled: jax.Array | None = None,
        **inputs: Any,
    ) -> ModelOutput:
        """inputs: as the backbone takes them, or (batch, choices, length) each for a multiple choice.
        frozen: path prefixes (`backbone/encoder/layer/0`) of blocks that run without dropout.
        pooled: (batch, 1, hidden), in place of all inputs: what the heads' pooling gave; (batch, 2, hidden) where they
        read two tokens. The backbone does not run."""
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
        logits = self.heads(self._readable(features, inputs), deterministic) if self.heads_by_name else {}
        if choices:
            logits = {
                name: x.reshape(choices) if dict(self.heads_by_name)[name].kind == "multiple_choice" else x
                for name, x in logits.items()
            }
        return ModelOutput(
            logits, features.last_hidden_state, features.pooler_output, features.hidden_states, features.attentions
        )

    def _readable(self, features: BackboneOutput, inputs: Mapping[str, Any]) -> HeadInputs:
        tied = any(head.kind == "masked_lm" for _, head in self.heads_by_name)
        packed = inputs.get("text_starts") is not None
        return HeadInputs(
            features.last_hidden_state,
            features.pooler_output,
            self.backbone.pooling_mask(features, inputs),
            self.backbone.word_embeddings() if tied else None,
            inputs.get("segment_ids") if packed else None,
            inputs.get("text_starts"),
        )


def build_model(config: BackboneConfig, heads: Mapping[str, Head], dtype: Dtype = None) -> Model:
    """The model of a family's config with these heads.

    Args:
      config: the backbone's config.
      heads: by name; a name is a letter or `_`, then letters, digits, `_`.
      dtype: what to compute in; None: the parameters' own.
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
    """The config of a Hugging Face folder, its backbone with a pooler only where a head reads it.

    Args:
      folder: named in errors. hf: the content of its `config.json`.
      heads: by name; without any the pooler stays.
      changes: of the config's fields.
    """
    if hf["model_type"] not in FAMILIES:
        raise TlxError(f"{folder} is a {hf['model_type']!r} checkpoint; tlx has {listed(sorted(FAMILIES))}.")
    config_class = FAMILIES[hf["model_type"]][0]
    config = config_class.from_hf(hf, **changes)
    if "add_pooling_layer" in changes or not heads:
        return config
    return config_class.from_hf(
        hf, **changes, add_pooling_layer=any(reads_pooler(head, config) for head in heads.values())
    )


def reads_pooler(head: Head, config: BackboneConfig) -> bool:
    """Whether a head reads the backbone's pooler; one that no head reads would only be decayed."""
    return (
        head.kind not in PER_TOKEN
        and head.pooling == "pooler"
        and config.head_settings.pooled_by == "pooler"
        and config.head_settings.readout(head.kind).dense is None
    )


def dummy_inputs(model: Model) -> dict[str, Any]:
    """The smallest inputs with which a model can be traced."""
    backbone: Any = model.backbone
    found: dict[str, Any] = backbone.dummy_inputs(backbone.config)
    return found
