"""Masking of tokens for masked language modelling (Devlin et al. 2019, section 3.1 and appendix A.1), on the device.

Of the tokens of each text that may be masked a share is chosen; most of these become the mask token, some a random
token, and some stay as they are. The model predicts what the chosen ones were. The random numbers of a token depend on
the key, the `example_id` of its text and its place in the text, and on nothing else: not on padding, batches, packing
or devices.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tlx.augment.keys import below, example_keys
from tlx.errors import TlxError
from tlx.models.layers import mix

DRAWS = 3  # random numbers of a token: whether it is chosen, what becomes of it, which random token


@dataclasses.dataclass(frozen=True)
class Masking:
    """How many tokens are chosen, and what becomes of them.

    Attributes:
      rate: the share of a text's tokens that is chosen: max(1, round(rate · tokens)) of them.
      masked: the share of the chosen tokens that become the mask token.
      random: the share that becomes a token drawn uniformly from the vocabulary; the rest stays as it is.
    """

    rate: float = 0.15
    masked: float = 0.8
    random: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise TlxError(f"config.masking.rate is {self.rate}; it is above 0 and at most 1.")
        for name, share in (("masked", self.masked), ("random", self.random)):
            if not 0 <= share <= 1:
                raise TlxError(f"config.masking.{name} is {share}; it is a share, from 0 to 1.")
        if self.masked + self.random > 1 + 1e-9:
            raise TlxError(
                f"config.masking.masked and random are {self.masked} and {self.random}; together they are at most 1."
            )

    def count(self, tokens: int) -> int:
        """Returns how many of a text's tokens are chosen, as BERT's `create_pretraining_data.py` counts them."""
        return max(1, round(self.rate * tokens)) if tokens else 0

    def most(self, length: int, texts: int | None = None) -> int:
        """Returns how many tokens are chosen in a row at most.

        Args:
          length: the number of tokens of a row.
          texts: the number of texts that share it; None: one.
        """
        if texts is None:
            return self.count(length)
        return min(length, int(self.rate * length) + texts)  # of n tokens max(1, round(rate n)) ≤ rate n + 1


@dataclasses.dataclass(frozen=True)
class Words:
    """What masking needs of a vocabulary.

    Attributes:
      mask_id: the id of the mask token.
      size: the number of tokens; random ones are drawn from 0 … size - 1.
    """

    mask_id: int
    size: int


class Masked(NamedTuple):
    """A masked batch.

    Attributes:
      input_ids: int32 (rows, length), the tokens that the model reads.
      positions: int32 (rows, most), where the chosen tokens are in their row; 0 for none.
      labels: int32 (rows, most), what they were.
      chosen: bool (rows, most), False where a row has fewer.
    """

    input_ids: jax.Array
    positions: jax.Array
    labels: jax.Array
    chosen: jax.Array


def mask_tokens(
    settings: Masking,
    words: Words,
    key: jax.Array,
    ids: jax.Array,
    maskable: jax.Array,
    example_id: jax.Array,
    segment_ids: jax.Array | None = None,
    text_starts: jax.Array | None = None,
) -> Masked:
    """Chooses tokens of each text and masks them.

    Args:
      settings: the shares.
      words: the mask token and the size of the vocabulary.
      key: a random key.
      ids: integers (rows, length), the tokens.
      maskable: (rows, length), nonzero for the tokens that may be chosen.
      example_id: integers (rows,), or (rows, texts) if texts are packed.
      segment_ids: for packed texts, (rows, length), the number of each token's text from 1; 0 for padding.
      text_starts: for packed texts, (rows, texts), where each text begins in its row.
    """
    rows, length = ids.shape
    owners = example_id.reshape(rows, -1)
    text = jnp.zeros((rows, length), jnp.int32) if segment_ids is None else jnp.maximum(segment_ids - 1, 0)
    start = jnp.zeros((rows, 1), jnp.int32) if text_starts is None else jnp.take_along_axis(text_starts, text, 1)
    draws = _draws(key, owners, text, jnp.arange(length) - start)
    may, number = maskable != 0, jnp.arange(owners.shape[1])
    sizes = jnp.sum(may[:, None] & (text[:, None] == number[:, None]), axis=2)
    counts = jnp.asarray(np.array([settings.count(size) for size in range(length + 1)], np.int32))[sizes]
    chosen = may & (_ranks(draws[0], may, text) < jnp.take_along_axis(counts, text, axis=1))
    becomes = jnp.where(draws[1] < settings.masked, words.mask_id, below(draws[2], words.size))
    changed = chosen & (draws[1] < settings.masked + settings.random)
    most = settings.most(length, None if segment_ids is None else owners.shape[1])
    there, positions = jax.lax.top_k(chosen.astype(jnp.int32), most)  # of equal values the first ones
    positions = jnp.where(there > 0, positions, 0)
    labels = jnp.take_along_axis(ids, positions, axis=1)
    return Masked(jnp.where(changed, becomes, ids).astype(ids.dtype), positions, labels, there > 0)


def _draws(key: jax.Array, example_id: jax.Array, text: jax.Array, place: jax.Array) -> list[jax.Array]:
    """Uniform random numbers of each token, `DRAWS` arrays float32 (rows, length)."""
    keys = example_keys(key, example_id.reshape(-1))
    data = jax.random.key_data(keys).reshape(*example_id.shape, -1)
    first, last = (jnp.take_along_axis(data[..., word], text, axis=1) for word in (0, -1))
    index = place.astype(jnp.uint32) * DRAWS
    bits = (mix(mix((index + number) ^ first) + last) for number in range(DRAWS))
    return [(each >> 8).astype(jnp.float32) * jnp.float32(2**-24) for each in bits]


def _ranks(draw: jax.Array, may: jax.Array, text: jax.Array) -> jax.Array:
    """The number of tokens of the same text that may be chosen and come first, by their draw, int32 (rows, length)."""
    index = jnp.arange(draw.shape[1])
    one, other = draw[:, :, None], draw[:, None, :]
    before = (other < one) | ((other == one) & (index < index[:, None]))
    return jnp.sum(before & may[:, None, :] & (text[:, None, :] == text[:, :, None]), axis=2)
