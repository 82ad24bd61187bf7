"""What every backbone is: embeddings, numbered blocks, an end; and how it is run, whole or in part."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import jax
from flax import linen as nn
from flax import struct

from tlx.errors import TlxError
from tlx.models.layers import Dtype


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


class Backbone(nn.Module):
    """Base of the families' backbones, which give `block`, and `end` and `pool` where they have them.

    kinds: (regex on a path, the kinds of the leaf).
    """

    config: Any
    dtype: Dtype = None

    kinds: ClassVar[tuple[tuple[str, tuple[str, ...]], ...]] = ()

    @property
    def reads_valid(self) -> bool:
        """Whether it takes a training batch's `valid`, so that rows of padding enter no statistics."""
        return False

    def block(
        self, index: int, x: jax.Array, mask: jax.Array | None, deterministic: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Block `index`: what it makes of x, and its attention."""
        raise NotImplementedError

    def end(self, x: jax.Array) -> jax.Array:
        """What follows the last block."""
        return x

    def pool(self, x: jax.Array) -> jax.Array | None:
        """(batch, hidden) from the end's output; None without a pooler."""
        del x
        return None

    @staticmethod
    def dummy_inputs(config: Any) -> dict[str, Any]:
        """The smallest inputs with which a model of this config can be traced."""
        raise NotImplementedError

    def pooling_mask(self, features: BackboneOutput, inputs: Mapping[str, Any]) -> jax.Array | None:
        """(batch, length), nonzero at the tokens of which `mean` is taken; None for all."""
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
    ) -> BackboneOutput:
        """The blocks `start` to `stop` on the output of what comes before them; after the last one the end too."""
        blocks = self.config.block_paths[1:]
        last = len(blocks)
        stop = last if stop is None else stop
        if not 0 <= start <= stop <= last:
            raise TlxError(f"the backbone has {last} blocks; found start={start}, stop={stop}.")
        hidden_states, attentions = [x], []
        for index in range(start, stop):
            x, weights = self.block(index, x, mask, deterministic or blocks[index] in frozen)
            hidden_states.append(x)
            attentions.append(weights)
        x = self.end(x) if stop == last else x
        return BackboneOutput(
            last_hidden_state=x,
            pooler_output=self.pool(x) if stop == last else None,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
