"""The base class of backbones: embeddings, numbered blocks, a final layer. A backbone can run whole or in part."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from tlx.errors import TlxError
from tlx.models.layers import Dtype


@struct.dataclass
class BackboneOutput:
    """The output of a backbone. Values that were not requested or do not exist are None.

    Attributes:
      last_hidden_state: (batch, length, hidden).
      pooler_output: (batch, hidden); of packed texts (batch · texts, hidden).
      hidden_states: the outputs of the embeddings and of each block, each (batch, length, hidden).
      attentions: the attention weights of each block, each (batch, heads, length, length).
    """

    last_hidden_state: jax.Array
    pooler_output: jax.Array | None = None
    hidden_states: tuple[jax.Array, ...] | None = None
    attentions: tuple[jax.Array, ...] | None = None


class Backbone(nn.Module):
    """Base class of backbones. A subclass implements `block`, and `end` and `pool` if it has them.

    Attributes:
      config: the config of the backbone's family.
      dtype: the dtype of the computation; None for the parameters' own.
      kinds: pairs (regex on a parameter's path, the kinds of such a parameter).
      packs: whether several texts may share a row (`segment_ids` and `text_starts`).
      partial: whether it can start and stop between blocks, so that outputs of blocks can be cached.
    """

    config: Any
    dtype: Dtype = None

    kinds: ClassVar[tuple[tuple[str, tuple[str, ...]], ...]] = ()
    packs: ClassVar[bool] = False
    partial: ClassVar[bool] = True

    @property
    def reads_valid(self) -> bool:
        """Whether `__call__` takes `valid`, so that rows of padding do not enter batch statistics."""
        return False

    def block(
        self, index: int, x: jax.Array, mask: jax.Array | None, deterministic: bool
    ) -> tuple[jax.Array, jax.Array | None]:
        """Runs block `index` and returns its output (batch, length, hidden) and its attention weights or None."""
        raise NotImplementedError

    def end(self, x: jax.Array) -> jax.Array:
        """Runs the layer after the last block, such as a final layer norm."""
        return x

    def pool(self, x: jax.Array) -> jax.Array | None:
        """Computes the pooler's output (batch, hidden) from the output of `end`; None without a pooler.

        Of packed texts only their first tokens are given, (batch · texts, 1, hidden).
        """
        del x
        return None

    @staticmethod
    def dummy_inputs(config: Any) -> dict[str, Any]:
        """Returns small inputs with which a model of this config can be traced."""
        raise NotImplementedError

    def pooling_mask(self, features: BackboneOutput, inputs: Mapping[str, Any]) -> jax.Array | None:
        """Returns the tokens over which `mean` pooling averages: (batch, length), nonzero to include; None for all."""
        raise NotImplementedError

    def run(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        start: int,
        stop: int | None,
        deterministic: bool,
        frozen: Collection[str],
        output_hidden_states: bool,
        output_attentions: bool,
        text_starts: jax.Array | None = None,
    ) -> BackboneOutput:
        """Runs the blocks `start` to `stop` on `x`, the input of block `start`; after the last block also `end`."""
        blocks = self.config.block_paths[1:]
        last = len(blocks)
        stop = last if stop is None else stop
        if not 0 <= start <= stop <= last:
            raise TlxError(f"the backbone has {last} blocks; found start={start}, stop={stop}.")
        hidden_states: list[jax.Array] = [x]
        attentions: list[jax.Array] = []
        for index in range(start, stop):
            x, weights = self.block(index, x, mask, deterministic or blocks[index] in frozen)
            hidden_states.append(x)
            if weights is not None:
                attentions.append(weights)
            elif output_attentions:
                raise TlxError(
                    "cuDNN's kernel returns no attention weights; build the model with attention='xla', or run it with "
                    "tlx.models.forward.forward."
                )
        x = self.end(x) if stop == last else x
        pooled_from = x if text_starts is None else first_tokens(x, text_starts)
        return BackboneOutput(
            last_hidden_state=x,
            pooler_output=self.pool(pooled_from) if stop == last else None,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )


def first_tokens(x: jax.Array, text_starts: jax.Array) -> jax.Array:
    """Returns the first token of each packed text, (batch · texts, 1, hidden).

    Args:
      x: (batch, length, hidden).
      text_starts: integers (batch, texts), where each text begins in its row.
    """
    return jnp.take_along_axis(x, text_starts[..., None], axis=1).reshape(-1, 1, x.shape[-1])
