"""A small convolutional network with batch normalization, for images of digits and the like.

Two 5 × 5 convolutions, each followed by batch normalization, ReLU and 2 × 2 max pooling, then one dense layer. Papers
on domain adaptation of digits train networks of this shape from random weights (Ganin & Lempitsky 2015, figure 4a,
here without dropout). Use it with `recipes.custom.custom_backbone(ConvNet(), ConvNet.BLOCKS)`.
"""

from collections.abc import Collection

import jax
from flax import linen as nn

from tlx.parallel.axis import on_any

MOMENTUM = 0.9  # of the running statistics: new = 0.9 old + 0.1 batch (momentum 0.1 in torch)
EPSILON = 1e-5


class ConvBlock(nn.Module):
    """Convolution, batch normalization, ReLU, max pooling: (batch, h, w, c) to (batch, h // 2, w // 2, features).

    Attributes:
      features: the number of output channels.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> jax.Array:
        """Runs the block.

        Args:
          x: (batch, h, w, c).
          mask: bool (batch,), False for rows of padding, which do not enter the batch statistics; None for no padding.
            If all rows are padding, all of them are used, which avoids a division by zero.
          deterministic: whether to use the running statistics.
        """
        x = nn.Conv(self.features, (5, 5), name="conv")(x)
        norm = nn.BatchNorm(use_running_average=deterministic, momentum=MOMENTUM, epsilon=EPSILON, name="norm")
        x = norm(x, mask=None if mask is None else (mask | ~on_any(mask.any()))[:, None, None, None])
        return nn.max_pool(nn.relu(x), (2, 2), strides=(2, 2))


class ConvNet(nn.Module):
    """A network that maps images to feature vectors.

    A block whose path is in `frozen` uses its running statistics and does not update them.

    Attributes:
      channels: the numbers of output channels of the two convolutions.
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
        """Runs the network.

        Args:
          pixel_values: (batch, height, width, channels).
          deterministic: whether to use the running statistics.
          frozen: the paths of frozen blocks.
          valid: bool (batch,), False for rows of padding; None for no padding.

        Returns:
          The feature vectors, (batch, hidden).
        """
        x = pixel_values
        for index, features in enumerate(self.channels):
            name = f"block_{index}"
            x = ConvBlock(features, name=name)(x, valid, deterministic or name in frozen)
        return nn.relu(nn.Dense(self.hidden, name="dense")(x.reshape(len(x), -1)))
