"""ELECTRA (Clark et al. 2020): BERT's encoder without a pooler.

The embeddings may be narrower than the hidden size; a dense layer then projects them to it.
"""

import dataclasses

import jax

from tlx.models import published_names
from tlx.models.bert import Bert, BertConfig
from tlx.models.heads import HeadSettings, Readout
from tlx.models.layers import dense
from tlx.models.transformer import Encoder, TextEmbeddings


@dataclasses.dataclass(frozen=True)
class ElectraConfig(BertConfig):
    """The config of ELECTRA; further fields are those of `BertConfig`."""

    model_type = "electra"
    family = "ELECTRA"
    names = published_names.ELECTRA

    embedding_size: int = 128
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    summary_type: str = "first"
    summary_use_proj: bool = True
    summary_activation: str | None = "gelu"
    summary_last_dropout: float = 0.1

    @property
    def head_settings(self) -> HeadSettings:
        """Heads of whole texts, and of multiple choice, read the first token through a dense layer of the head."""
        rate = self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout
        summary = self.summary_activation or "linear"
        supported = self.summary_type == "first" and self.summary_use_proj
        return HeadSettings(
            text=Readout(rate, dense="gelu", drops_first=True),
            token=Readout(rate),
            choice=Readout(self.summary_last_dropout, dense=summary) if supported else None,
            transform_size=self.embedding_size,
            transform_act="gelu",
            layer_norm_eps=self.layer_norm_eps,
            initializer_range=self.initializer_range,
        )


class Electra(Bert):
    """The backbone of ELECTRA; `config` is an `ElectraConfig`."""

    def setup(self) -> None:
        c = self.config
        self.embeddings = TextEmbeddings(c, self.dtype, size=c.embedding_size)
        if c.embedding_size != c.hidden_size:
            self.embeddings_project = dense(c.hidden_size, None, self.dtype, c.initializer_range)
        self.encoder = Encoder(c, self.dtype)

    def embed(
        self, input_ids: jax.Array, token_type_ids: jax.Array, position_ids: jax.Array, deterministic: bool
    ) -> jax.Array:
        x = super().embed(input_ids, token_type_ids, position_ids, deterministic)
        return x if self.config.embedding_size == self.config.hidden_size else self.embeddings_project(x)

    def pool(self, x: jax.Array) -> jax.Array | None:
        return None
