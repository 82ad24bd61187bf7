"""A small convolutional network with batch normalization, for images of digits and the like.

Two 5 × 5 convolutions, each followed by batch normalization, ReLU and 2 × 2 max pooling, then one dense layer. Papers
on domain adaptation of digits train networks of this shape from random weights (Ganin & Lempitsky 2015, figure 4a,
here without dropout). In a script it is `recipes.custom.custom_backbone(ConvNet(), ConvNet.BLOCKS)`; without one it
is a family with a `config.json` (`models/convnet.py`).
"""

from collections.abc import Collection

import jax
from flax import linen as nn

from tlx.models.layers import Dropout, Dtype
from tlx.parallel.axis import on_any

MOMENTUM = 0.9  # of the running statistics: new = 0.9 old + 0.1 batch (momentum 0.1 in torch)
EPSILON = 1e-5


class ConvBlock(nn.Module):
    """Convolution, batch normalization, ReLU, max pooling: (batch, h, w, c) to (batch, h // 2, w // 2, features).

    Attributes:
      features: the number of output channels.
      kernel: the height and width of the kernel.
      padding: `same` or `valid`.
      pool: the size of max pooling; 1: none.
      batch_norm: whether there is batch normalization.
      dtype: the dtype of the computation; None for the parameters' own.
    """

    features: int
    kernel: int = 5
    padding: str = "same"
    pool: int = 2
    batch_norm: bool = True
    dtype: Dtype = None

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None, deterministic: bool) -> jax.Array:
        """Runs the block.

        Args:
          x: (batch, h, w, c).
          mask: bool (batch,), False for rows of padding, which do not enter the batch statistics; None for no padding.
            If all rows are padding, all of them are used, which avoids a division by zero.
          deterministic: whether to use the running statistics.
        """
        kernel, pool = (self.kernel, self.kernel), (self.pool, self.pool)
        x = nn.Conv(self.features, kernel, padding=self.padding.upper(), dtype=self.dtype, name="conv")(x)
        if self.batch_norm:
            norm = nn.BatchNorm(deterministic, momentum=MOMENTUM, epsilon=EPSILON, dtype=self.dtype, name="norm")
            x = norm(x, mask=None if mask is None else (mask | ~on_any(mask.any()))[:, None, None, None])
        x = nn.relu(x)
        return x if self.pool == 1 else nn.max_pool(x, pool, strides=pool)


class ConvNet(nn.Module):
    """A network that maps images to feature vectors.

    A block whose path is in `frozen` uses its running statistics and does not update them.

    Attributes:
      channels: the numbers of output channels of the convolutions.
      hidden: the length of the feature vector.
      kernel: the height and width of the kernels.
      padding: `same` or `valid`.
      pool: the size of max pooling after each convolution; 1: none.
      batch_norm: whether each convolution is followed by batch normalization.
      dropout: the dropout rate before the dense layer.
      dtype: the dtype of the computation; None for the parameters' own.
    """

    channels: tuple[int, ...] = (32, 48)
    hidden: int = 100
    kernel: int = 5
    padding: str = "same"
    pool: tuple[int, ...] = (2, 2)
    batch_norm: bool = True
    dropout: float = 0.0
    dtype: Dtype = None

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
        for index, (features, pool) in enumerate(zip(self.channels, self.pool, strict=True)):
            name = f"block_{index}"
            block = ConvBlock(features, self.kernel, self.padding, pool, self.batch_norm, self.dtype, name=name)
            x = block(x, valid, deterministic or name in frozen)
        x = Dropout(self.dropout)(x.reshape(len(x), -1), deterministic or "dense" in frozen)
        return nn.relu(nn.Dense(self.hidden, dtype=self.dtype, name="dense")(x))
