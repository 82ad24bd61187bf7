"""The base class of text backbones: token, position and type embeddings before the blocks."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import TlxError
from tlx.models.backbone import Backbone, BackboneOutput

KINDS = (
    (r"(.*/)?embeddings/\w+_embeddings/embedding", ("embedding",)),
    (r"(.*/)?(LayerNorm|\w+_layer_norm)/bias", ("bias", "norm")),
    (r"(.*/)?(LayerNorm|\w+_layer_norm)/scale", ("norm",)),
)


class TextBackbone(Backbone):
    """Base class of text backbones. A subclass also implements `embed`."""

    kinds = KINDS
    packs = True

    def embed(
        self, input_ids: jax.Array, token_type_ids: jax.Array, position_ids: jax.Array, deterministic: bool
    ) -> jax.Array:
        """Computes the input of block 0, (batch, length, hidden)."""
        raise NotImplementedError

    def positions(self, input_ids: jax.Array, starts: jax.Array | None = None) -> jax.Array:
        """Returns the position of each token in its text, 0, 1, 2, …, broadcastable to (batch, length).

        Args:
          input_ids: integers (batch, length).
          starts: (batch, length), for each token of packed texts where its text begins in the row; None: a text in
            each row.
        """
        position = jnp.arange(input_ids.shape[1])[None]
        return position if starts is None else position - starts

    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        position_ids: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        text_starts: jax.Array | None = None,
        *,
        hidden_state: jax.Array | None = None,
        start: int = 0,
        stop: int | None = None,
        deterministic: bool = True,
        frozen: Collection[str] = (),
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BackboneOutput:
        """Runs the backbone, or its blocks `start` to `stop`.

        Args:
          input_ids: integers (batch, length).
          attention_mask: (batch, length), nonzero for tokens that others attend to; by default all.
          token_type_ids: (batch, length); by default 0. DistilBERT ignores them.
          position_ids: (batch, length); by default the family's own: 0, 1, 2, … for most families.
          segment_ids: (batch, length); a token attends only to tokens of its own segment. Use it when several texts are
            packed into one row. With `text_starts`, the number of the token's text in the row from 1; 0 for padding.
          text_starts: integers (batch, texts), where each of the packed texts begins in its row; 0 where there is none.
            Positions are then counted from there, and the pooler reads one token of each text.
          hidden_state: (batch, length, hidden), instead of `input_ids`: the input of block `start`.
          start: the first block to run.
          stop: the block before which to stop; None for all. The pooler runs only after the last block.
          deterministic: whether to run without dropout.
          frozen: path prefixes of blocks that run without dropout (`embeddings`, `encoder/layer/0`).
          output_hidden_states: whether to return the hidden states.
          output_attentions: whether to return the attention weights.

        Raises:
          TlxError: if the inputs are incomplete, a sequence is too long, or a block number is out of range.
        """
        if (input_ids is None) == (hidden_state is None) or (hidden_state is None and start):
            raise TlxError(f"pass either input_ids (start=0), or hidden_state and start; found start={start}.")
        bottom = self.config.block_paths[0]
        x = (
            hidden_state
            if hidden_state is not None
            else self._embed(
                input_ids, token_type_ids, position_ids, segment_ids, text_starts, deterministic or bottom in frozen
            )
        )
        mask = visible(attention_mask, segment_ids)
        return self.run(
            x, mask, start, stop, deterministic, frozen, output_hidden_states, output_attentions, text_starts
        )

    @staticmethod
    def dummy_inputs(config: Any) -> dict[str, Any]:
        """Returns one text of two tokens."""
        del config
        return {"input_ids": jnp.zeros((1, 2), jnp.int32)}

    def pooling_mask(self, features: BackboneOutput, inputs: Mapping[str, Any]) -> jax.Array | None:
        """Selects the tokens that are not padding."""
        del features
        return inputs.get("attention_mask")

    def word_embeddings(self) -> jax.Array:
        """Returns the word embedding table (vocab_size, width) for a tied output layer; call after the backbone."""
        table: jax.Array = self.variables["params"]["embeddings"]["word_embeddings"]["embedding"]
        return table

    def _embed(
        self, input_ids: Any, token_type_ids: jax.Array | None, position_ids: jax.Array | None,
        segment_ids: jax.Array | None, text_starts: jax.Array | None, deterministic: bool,
    ) -> jax.Array:  # fmt: skip
        length, limit = input_ids.shape[1], self.config.max_length
        if position_ids is None and text_starts is not None:
            position_ids = self._packed_positions(input_ids, segment_ids, text_starts)
        if position_ids is None:
            if length > limit:
                raise TlxError(
                    f"a sequence of {length} tokens is longer than the {limit} tokens this model takes; truncate it."
                )
            position_ids = self.positions(input_ids)
        if token_type_ids is None:
            token_type_ids = jnp.zeros_like(input_ids)
        return self.embed(input_ids, token_type_ids, position_ids, deterministic)

    def _packed_positions(self, input_ids: Any, segment_ids: jax.Array | None, text_starts: jax.Array) -> jax.Array:
        """The positions of the tokens of packed texts; padding has that of a first token, whatever its place is."""
        if segment_ids is None:
            raise TlxError("text_starts is given without segment_ids; packed texts need both.")
        starts = jnp.take_along_axis(text_starts, jnp.maximum(segment_ids - 1, 0), axis=1)
        own = jnp.broadcast_to(jnp.arange(input_ids.shape[1]), input_ids.shape)
        return self.positions(input_ids, jnp.where(segment_ids > 0, starts, own))


def visible(attention_mask: jax.Array | None, segment_ids: jax.Array | None) -> jax.Array | None:
    """Returns the attention mask: (batch, 1, 1 or queries, keys), True to attend; None if nothing is masked.

    Args:
      attention_mask: (batch, length), nonzero for tokens that others attend to; None for all.
      segment_ids: (batch, length); tokens attend only to tokens of the same segment; None for one segment.
    """
    mask = None if attention_mask is None else (attention_mask != 0)[:, None, None, :]
    if segment_ids is not None:
        same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
        mask = same if mask is None else mask & same
    return mask
