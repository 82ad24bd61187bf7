"""A domain discriminator: a multilayer perceptron from a vector to the logit of being of the source."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

NAME = "discriminator"  # its parameters are at aux/discriminator/layer_0/kernel, …
# What is measured of it: the share of rows of each domain that it takes for rows of that domain.
ACCURACIES = ("source_domain_accuracy", "target_domain_accuracy")


class Discriminator(nn.Module):
    """Dense layers with ReLU between them.

    Attributes:
      widths: of the hidden layers; () for a linear discriminator.
    """

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the logits (batch,) of vectors (batch, size)."""
        for index, width in enumerate(self.widths):
            x = nn.relu(nn.Dense(width, name=f"layer_{index}")(x))
        return nn.Dense(1, name=f"layer_{len(self.widths)}")(x)[:, 0]

    def initial(self, key: jax.Array, size: int, parts: Sequence[str] = ()) -> Any:
        """Returns its parameters for vectors of this size, as `Method.init` gives them: `{"discriminator": …}`.

        Args:
          key: the random key.
          size: the length of the vectors.
          parts: names of several discriminators, of which each has its parameters at `discriminator/NAME`.
        """
        if not parts:
            return {NAME: self.init(key, jnp.zeros((1, size)))["params"]}
        keys = jax.random.split(key, len(parts))
        return {NAME: {part: self.initial(one, size)[NAME] for part, one in zip(parts, keys, strict=True)}}

    def logits(self, params: Any, x: jax.Array, part: str = "") -> jax.Array:
        """Returns the logits (batch,), by the parameters of a run; of several discriminators, those of a part."""
        own = params["aux"][NAME]
        found: jax.Array = self.apply({"params": own[part] if part else own}, x)  # type: ignore[assignment]
        return found
