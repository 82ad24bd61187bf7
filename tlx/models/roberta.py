"""RoBERTa (Liu et al. 2019): BERT's encoder with different positions and classifiers.

Positions start after the padding token's id and count only tokens that are not padding. A classifier reads the first
token through a dense layer of the head.
"""

import dataclasses

import jax
import jax.numpy as jnp

from tlx.errors import TlxError
from tlx.models import published_names
from tlx.models.bert import Bert, BertConfig
from tlx.models.heads import HeadSettings, Readout
from tlx.models.transformer import Encoder, Pooler, TextEmbeddings


@dataclasses.dataclass(frozen=True)
class RobertaConfig(BertConfig):
    """The config of RoBERTa; the fields are those of `BertConfig`."""

    model_type = "roberta"
    family = "RoBERTa"
    names = published_names.ROBERTA

    vocab_size: int = 50265
    pad_token_id: int | None = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pad_token_id is None or self.pad_token_id < 0:
            raise TlxError(
                f"pad_token_id is {self.pad_token_id}; RoBERTa counts positions from it, so it must be 0 or more."
            )
        if self.max_length < 1:
            raise TlxError(
                f"max_position_embeddings {self.max_position_embeddings} leaves no position after pad_token_id "
                f"{self.pad_token_id}."
            )

    @property
    def max_length(self) -> int:
        """The largest number of tokens in a text. Positions up to `pad_token_id` are not used for tokens."""
        assert self.pad_token_id is not None
        return self.max_position_embeddings - self.pad_token_id - 1

    @property
    def head_settings(self) -> HeadSettings:
        """Heads of whole texts have a dense layer, multiple choice reads the pooler, masked LM heads use GELU."""
        rate = self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout
        return HeadSettings(
            text=Readout(rate, dense="tanh", drops_first=True),
            token=Readout(rate),
            choice=Readout(self.hidden_dropout_prob),
            transform_size=self.hidden_size,
            transform_act="gelu",
            layer_norm_eps=self.layer_norm_eps,
            initializer_range=self.initializer_range,
        )


@dataclasses.dataclass(frozen=True)
class XlmRobertaConfig(RobertaConfig):
    """XLM-RoBERTa (Conneau et al. 2020): RoBERTa's architecture for a hundred languages."""

    model_type = "xlm-roberta"
    family = "XLM-RoBERTa"
    names = published_names.XLM_ROBERTA

    vocab_size: int = 30522


@dataclasses.dataclass(frozen=True)
class CamembertConfig(RobertaConfig):
    """CamemBERT (Martin et al. 2020): RoBERTa's architecture for French."""

    model_type = "camembert"
    family = "CamemBERT"
    names = published_names.CAMEMBERT

    vocab_size: int = 30522


class Roberta(Bert):
    """The backbone of RoBERTa; `config` is a `RobertaConfig` or a subclass."""

    def setup(self) -> None:
        self.embeddings = TextEmbeddings(self.config, self.dtype, position_padding_id=self.config.pad_token_id)
        self.encoder = Encoder(self.config, self.dtype)
        if self.config.add_pooling_layer:
            self.pooler = Pooler(self.config, self.dtype)

    def positions(self, input_ids: jax.Array, starts: jax.Array | None = None) -> jax.Array:
        """Returns pad + 1, pad + 2, … for the tokens of a text except padding, pad for padding: (batch, length)."""
        pad = self.config.pad_token_id
        not_padding = (input_ids != pad).astype(input_ids.dtype)
        count = jnp.cumsum(not_padding, axis=1)
        if starts is not None:  # those of the texts before it in the row do not count
            count = count - jnp.take_along_axis(count - not_padding, starts, axis=1)
        return count * not_padding + pad
