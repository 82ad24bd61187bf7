"""What every text backbone is: embeddings, numbered blocks, an end; and how it is run, whole or in part."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from tlx.errors import TlxError
from tlx.models.layers import Dtype

KINDS = (
    (r"(.*/)?embeddings/\w+_embeddings/embedding", ("embedding",)),
    (r"(.*/)?(LayerNorm|\w+_layer_norm)/bias", ("bias", "norm")),
    (r"(.*/)?(LayerNorm|\w+_layer_norm)/scale", ("norm",)),
)


@struct.dataclass
class BackboneOutput:
    """What a backbone returns; what was not asked for, or does not exist, is None.

    last_hidden_state: (batch, length, hidden). pooler_output: (batch, hidden).
    hidden_states: the embeddings' output and each block's. attentions: (batch, heads, length, length) of each block.
    """

    last_hidden_state: jax.Array
    pooler_output: jax.Array | None = None
    hidden_states: tuple[jax.Array, ...] | None = None
    attentions: tuple[jax.Array, ...] | None = None


class TextBackbone(nn.Module):
    """Base of the families' backbones, which give `embed`, `block` and `pool`."""

    config: Any
    dtype: Dtype = None

    kinds = KINDS

    def embed(
        self, input_ids: jax.Array, token_type_ids: jax.Array, position_ids: jax.Array, deterministic: bool
    ) -> jax.Array:
        """The input of block 0, (batch, length, hidden)."""
        raise NotImplementedError

    def block(
        self, index: int, x: jax.Array, mask: jax.Array | None, deterministic: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Block `index`: what it makes of x, and its attention."""
        raise NotImplementedError

    def pool(self, x: jax.Array) -> jax.Array | None:
        """(batch, hidden) from the last block's output; None without a pooler."""
        del x
        return None

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
        bottom, *blocks = self.config.block_paths
        last = len(blocks)
        stop = last if stop is None else stop
        if (input_ids is None) == (hidden_state is None) or (hidden_state is None and start):
            raise TlxError(f"give input_ids (start=0) or hidden_state and start, found start={start}.")
        if not 0 <= start <= stop <= last:
            raise TlxError(f"the backbone has {last} blocks; found start={start}, stop={stop}.")
        x = (
            hidden_state
            if hidden_state is not None
            else self._embed(input_ids, token_type_ids, position_ids, deterministic or bottom in frozen)
        )
        mask = visible(attention_mask, segment_ids)
        hidden_states, attentions = [x], []
        for index in range(start, stop):
            x, weights = self.block(index, x, mask, deterministic or blocks[index] in frozen)
            hidden_states.append(x)
            attentions.append(weights)
        return BackboneOutput(
            last_hidden_state=x,
            pooler_output=self.pool(x) if stop == last else None,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

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
