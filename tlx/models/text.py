"""What every text backbone is: token, position and type embeddings before the blocks."""

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
    """Base of the text families' backbones, which give `embed` too."""

    kinds = KINDS

    def embed(
        self, input_ids: jax.Array, token_type_ids: jax.Array, position_ids: jax.Array, deterministic: bool
    ) -> jax.Array:
        """The input of block 0, (batch, length, hidden)."""
        raise NotImplementedError

    def positions(self, input_ids: jax.Array) -> jax.Array:
        """Where each token stands: 0, 1, 2, …"""
        return jnp.arange(input_ids.shape[1])[None]

    def __call__(
        self,
        input_ids: jax.Array | None = None,
        attention_mask: jax.Array | None = None,
        token_type_ids: jax.Array | None = None,
        position_ids: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        *,
        hidden_state: jax.Array | None = None,
        start: int = 0,
        stop: int | None = None,
        deterministic: bool = True,
        frozen: Collection[str] = (),
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BackboneOutput:
        """Runs the backbone, or the blocks `start` to `stop` of it.

        Args:
          input_ids: integers (batch, length).
          attention_mask: (batch, length), nonzero where a token may be seen; by default everywhere.
          token_type_ids: (batch, length); by default 0. DistilBERT has none and does not look at them.
          position_ids: (batch, length); by default 0, 1, 2, …, or what the family counts.
          segment_ids: (batch, length); tokens see only their own segment (several texts packed in a row).
          hidden_state: (batch, length, hidden), in place of `input_ids`: the output of block `start - 1`, for `start` 0
            that of the embeddings.
          start, stop: the first block to run, the one before which to stop. The pooler runs after the last block only.
          deterministic: no dropout anywhere.
          frozen: path prefixes of blocks that run without dropout (`embeddings`, `encoder/layer/0`).
          output_hidden_states, output_attentions: return them too.
        """
        if (input_ids is None) == (hidden_state is None) or (hidden_state is None and start):
            raise TlxError(f"give input_ids (start=0) or hidden_state and start, found start={start}.")
        bottom = self.config.block_paths[0]
        x = (
            hidden_state
            if hidden_state is not None
            else self._embed(input_ids, token_type_ids, position_ids, deterministic or bottom in frozen)
        )
        mask = visible(attention_mask, segment_ids)
        return self.run(x, mask, start, stop, deterministic, frozen, output_hidden_states, output_attentions)

    @staticmethod
    def dummy_inputs(config: Any) -> dict[str, Any]:
        """One text of two tokens."""
        del config
        return {"input_ids": jnp.zeros((1, 2), jnp.int32)}

    def pooling_mask(self, features: BackboneOutput, inputs: Mapping[str, Any]) -> jax.Array | None:
        """The text's own tokens."""
        del features
        return inputs.get("attention_mask")

    def word_embeddings(self) -> jax.Array:
        """The table, (vocab_size, its width), for a tied output layer; to be read after the backbone has run."""
        table: jax.Array = self.variables["params"]["embeddings"]["word_embeddings"]["embedding"]
        return table

    def _embed(
        self, input_ids: Any, token_type_ids: jax.Array | None, position_ids: jax.Array | None, deterministic: bool
    ) -> jax.Array:
        length, limit = input_ids.shape[1], self.config.max_length
        if position_ids is None:
            if length > limit:
                raise TlxError(
                    f"a sequence of {length} tokens is longer than the {limit} this model takes; truncate it."
                )
            position_ids = self.positions(input_ids)
        if token_type_ids is None:
            token_type_ids = jnp.zeros_like(input_ids)
        return self.embed(input_ids, token_type_ids, position_ids, deterministic)


def visible(attention_mask: jax.Array | None, segment_ids: jax.Array | None) -> jax.Array | None:
    """(batch, 1, 1 or queries, keys), True where a query may see a key; None when everything may be seen."""
    mask = None if attention_mask is None else (attention_mask != 0)[:, None, None, :]
    if segment_ids is not None:
        same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
        mask = same if mask is None else mask & same
    return mask
