"""A small convolutional network with batch normalization, for images of digits and the like.

Two convolutions of 5 × 5, each followed by batch normalization, ReLU and max pooling of 2 × 2, then one dense layer:
the shape of network that papers on adapting digits train from random weights (Ganin & Lempitsky 2015, figure 4a,
less its dropout). Give it to `recipes.custom.custom_backbone(ConvNet(), ConvNet.BLOCKS)`.
"""

from collections.abc import Collection

import jax
from flax import linen as nn

MOMENTUM = 0.9  # of the running statistics: new = 0.9 old + 0.1 batch, as torch's 0.1
EPSILON = 1e-5


class ConvBlock(nn.Module):
    """Convolution, batch normalization, ReLU, max pooling: (batch, h, w, c) to (batch, h // 2, w // 2, features)."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> jax.Array:
        """mask: bool (batch,), False for rows of padding, which enter no statistics; None: all rows are real. Where no
        row is real all are used, so that nothing is divided by zero."""
        x = nn.Conv(self.features, (5, 5), name="conv")(x)
        norm = nn.BatchNorm(use_running_average=deterministic, momentum=MOMENTUM, epsilon=EPSILON, name="norm")
        x = norm(x, mask=None if mask is None else (mask | ~mask.any())[:, None, None, None])
        return nn.max_pool(nn.relu(x), (2, 2), strides=(2, 2))


class ConvNet(nn.Module):
    """Images to feature vectors.

    A block whose path is in `frozen` runs with its running statistics and does not update them.

    Attributes:
      channels: of the two convolutions.
      hidden: the length of the feature vector.
    """

    channels: tuple[int, int] = (32, 48)
    hidden: int = 100

    BLOCKS = ("block_0", "block_1", "dense")

    @nn.compact
    def __call__(
        self,
        pixel_values: jax.Array,
        deterministic: bool = True,
        frozen: Collection[str] = (),
        valid: jax.Array | None = None,
    ) -> jax.Array:
        """pixel_values: (batch, height, width, channels). valid: bool (batch,). Gives (batch, hidden)."""
        x = pixel_values
        for index, features in enumerate(self.channels):
            name = f"block_{index}"
            x = ConvBlock(features, name=name)(x, valid, deterministic or name in frozen)
        return nn.relu(nn.Dense(self.hidden, name="dense")(x.reshape(len(x), -1)))
