"""What a Hugging Face BERT config says, and what of it tlx refuses."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tlx.errors import TlxError, listed
from tlx.models.activations import check_activation

# What a BERT config may hold, and the values that change nothing; any other value asks for another model.
NEUTRAL = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "is_encoder_decoder": (False, None),
    "pruned_heads": ({}, None),
    "cross_attention_hidden_size": (None,),
    "embedding_size": (None,),
    "quantization_config": (None,),
}
RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The fields of a Hugging Face BERT config that decide the forward pass, under their names there."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    add_pooling_layer: bool = True

    def __post_init__(self) -> None:
        check_activation(self.hidden_act)
        if self.hidden_size % self.num_attention_heads:
            raise TlxError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}."
            )
        if self.pad_token_id is not None and not -self.vocab_size <= self.pad_token_id < self.vocab_size:
            raise TlxError(f"pad_token_id {self.pad_token_id} is no row of a vocabulary of {self.vocab_size}.")
        for name in RATES:
            rate = getattr(self, name)
            if rate is not None and not 0 <= rate < 1:
                raise TlxError(f"{name} is {rate}; a dropout rate is at least 0 and below 1.")

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], **changes: Any) -> "BertConfig":
        """From the content of a `config.json`. What would change the numbers and is not supported is refused."""
        refused = [f"{k}={config[k]!r}" for k, fine in NEUTRAL.items() if k in config and config[k] not in fine]
        if refused:
            raise TlxError(
                f"this BERT config asks for {listed(refused)}; tlx has the plain encoder with absolute positions."
            )
        fields = {field.name for field in dataclasses.fields(cls)}
        if unknown := changes.keys() - fields:
            raise TlxError(f"a BERT config has no {listed(sorted(unknown))}; it has {listed(sorted(fields), 20)}.")
        return cls(**{**{k: v for k, v in config.items() if k in fields}, **changes})

    def to_hf(self) -> dict[str, Any]:
        """The same facts as a `config.json` holds them."""
        facts = dataclasses.asdict(self)
        del facts["add_pooling_layer"]  # an argument of the model class there, not of its config
        return {"model_type": "bert", **facts}

    @property
    def head_dropout(self) -> float:
        """The rate before a classifier."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout

    @property
    def num_blocks(self) -> int:
        """How many numbered blocks the backbone has."""
        return self.num_hidden_layers
