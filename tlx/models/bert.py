"""BERT (Devlin et al. 2019): word, position and token type embeddings, a post-norm encoder, a pooler."""

import dataclasses

import jax

from tlx.models import published_names
from tlx.models.heads import HeadSettings, Readout
from tlx.models.text import TextBackbone
from tlx.models.text_config import TextConfig
from tlx.models.transformer import Encoder, Pooler, TextEmbeddings


@dataclasses.dataclass(frozen=True)
class BertConfig(TextConfig):
    """The config of BERT; the fields are those of its Hugging Face config."""

    model_type = "bert"
    family = "BERT"
    names = published_names.BERT

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

    @property
    def head_settings(self) -> HeadSettings:
        """Heads of whole texts, and of multiple choice, read the pooler."""
        rate = self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout
        return HeadSettings(
            text=Readout(rate),
            token=Readout(rate),
            choice=Readout(rate),
            transform_size=self.hidden_size,
            transform_act=self.hidden_act,
            layer_norm_eps=self.layer_norm_eps,
            initializer_range=self.initializer_range,
        )


class Bert(TextBackbone):
    """The backbone of BERT; `config` is a `BertConfig`."""

    def setup(self) -> None:
        self.embeddings = TextEmbeddings(self.config, self.dtype)
        self.encoder = Encoder(self.config, self.dtype)
        if self.config.add_pooling_layer:
            self.pooler = Pooler(self.config, self.dtype)

    def embed(
        self, input_ids: jax.Array, token_type_ids: jax.Array, position_ids: jax.Array, deterministic: bool
    ) -> jax.Array:
        x: jax.Array = self.embeddings(input_ids, token_type_ids, position_ids, deterministic)
        return x

    def block(
        self, index: int, x: jax.Array, mask: jax.Array | None, deterministic: bool
    ) -> tuple[jax.Array, jax.Array | None]:
        output_and_attention: tuple[jax.Array, jax.Array | None] = self.encoder(index, x, mask, deterministic)
        return output_and_attention

    def pool(self, x: jax.Array) -> jax.Array | None:
        return self.pooler(x) if self.config.add_pooling_layer else None
