"""A small convolutional network as a family: its size is a `config.json`, so that its runs open without a script.

It has no Hugging Face form: weights are random at the start of a run (`model.weights="random"`), and a run is kept as a
run directory. The defaults are the network for digits of PyTorch's MNIST example, with which skada-bench compares
methods of domain adaptation: two convolutions of 3 × 3, max pooling, a dense layer of 128, without batch normalization.
"""

import dataclasses
import typing
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from tlx.errors import TlxError
from tlx.models.backbone import Backbone, BackboneOutput
from tlx.models.cnn import ConvNet
from tlx.models.config import BackboneConfig
from tlx.models.heads import PER_TEXT, HeadSettings, Readout
from tlx.models.image_config import pair


@dataclasses.dataclass(frozen=True)
class ConvNetConfig(BackboneConfig):
    """The config of the network.

    Attributes:
      channels: the numbers of output channels of the convolutions.
      pool: after each convolution, the size of max pooling; 1: none.
      kernel_size: the height and width of the convolutions' kernels.
      padding: `valid` or `same`.
      hidden_size: the length of the feature vector, which the heads read.
      batch_norm: whether each convolution is followed by batch normalization.
      hidden_dropout_prob: the dropout rate before the dense layer.
      classifier_dropout: the dropout rate of the feature vector, in the heads.
      image_size: the size of images in pixels: one number, or (height, width).
      num_channels: the number of channels of the images.
      initializer_range: the standard deviation of the heads' initial kernels.
    """

    model_type: ClassVar[str] = "tlx_convnet"
    family: ClassVar[str] = "convolutional network"
    modality: ClassVar[str] = "image"
    special_tokens: ClassVar[int] = 0
    grid: ClassVar[tuple[int, int]] = (1, 1)  # an image is one token
    head_size: ClassVar[int] = 0  # there is no attention
    activation_name: ClassVar[str] = "relu"
    has_state: ClassVar[bool] = True

    channels: tuple[int, ...] = (32, 64)
    pool: tuple[int, ...] = (1, 2)
    kernel_size: int = 3
    padding: str = "valid"
    hidden_size: int = 128
    batch_norm: bool = False
    hidden_dropout_prob: float = 0.25
    classifier_dropout: float = 0.5
    image_size: int | tuple[int, ...] = 28
    num_channels: int = 3
    initializer_range: float = 0.05

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            self._check(field.name, getattr(self, field.name), hints[field.name])
        if self.padding not in ("valid", "same"):
            raise TlxError(f"padding is {self.padding!r} in this {self.family} config; it is 'valid' or 'same'.")
        if len(self.pool) != len(self.channels) or not self.channels:
            raise TlxError(
                f"pool has {len(self.pool)} numbers and channels {len(self.channels)} in this {self.family} config; "
                "each has one for every convolution."
            )
        if min(self._map) < 1:
            raise TlxError(f"an image of {self.image_size} pixels is too small for this {self.family}'s layers.")

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], **changes: Any) -> Self:
        """Creates a config as `BackboneConfig.from_hf` does; lists in the file become tuples."""
        return super().from_hf({k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}, **changes)

    @property
    def image(self) -> tuple[int, int]:
        """The size of images, (height, width) in pixels."""
        return pair(self.image_size)

    @property
    def _map(self) -> tuple[int, int]:
        """The height and width of the last convolution's output after pooling."""
        height, width = self.image
        for pool in self.pool:
            lost = self.kernel_size - 1 if self.padding == "valid" else 0
            height, width = (height - lost) // pool, (width - lost) // pool
        return height, width

    @property
    def num_blocks(self) -> int:
        """The convolutions and the dense layer."""
        return len(self.channels) + 1

    @property
    def block_paths(self) -> tuple[str, ...]:
        """`embeddings`, which other code expects first and which matches nothing, and the blocks."""
        return ("embeddings", *(f"block_{index}" for index in range(len(self.channels))), "dense")

    @property
    def head_settings(self) -> HeadSettings:
        """Heads read the feature vector after dropout."""
        readout = Readout(dropout=self.classifier_dropout)
        return HeadSettings(PER_TEXT, text=readout, pooled_by="cls", initializer_range=self.initializer_range)


class ConvNetBackbone(Backbone):
    """`models/cnn.py: ConvNet` as a backbone; `config` is a `ConvNetConfig`. Its blocks cannot be run apart."""

    partial: ClassVar[bool] = False

    @nn.compact
    def __call__(
        self, pixel_values: jax.Array, *, channels_last: bool = False, deterministic: bool = True,
        frozen: Collection[str] = (), valid: jax.Array | None = None, **options: Any,
    ) -> BackboneOutput:  # fmt: skip
        """Runs the network.

        Args:
          pixel_values: (batch, channels, height, width), floats.
          channels_last: whether `pixel_values` is (batch, height, width, channels).
          deterministic: whether to run as in evaluation.
          frozen: the paths of frozen blocks.
          valid: bool (batch,), False for rows of padding, which do not enter the batch statistics.
          options: other backbones' options, such as `output_hidden_states`, which must be off.

        Raises:
          TlxError: if an option is on, or the images have another shape.
        """
        c = self.config
        if asked := sorted(name for name, value in options.items() if value):
            raise TlxError(f"a {c.family} has no {asked[0]}; it returns one feature vector an image.")
        pixels = pixel_values if channels_last else jnp.moveaxis(pixel_values, 1, -1)
        if pixels.shape[1:] != (*c.image, c.num_channels):
            raise TlxError(
                f"images have the shape {pixels.shape[1:]}; this network takes {(*c.image, c.num_channels)}."
            )
        network = ConvNet(
            c.channels, c.hidden_size, c.kernel_size, c.padding, c.pool, c.batch_norm, c.hidden_dropout_prob, self.dtype
        )
        nn.share_scope(self, network)
        return BackboneOutput(network(pixels, deterministic, frozen, valid)[:, None])

    @property
    def reads_valid(self) -> bool:
        """True: rows of padding do not enter batch statistics."""
        return True

    @staticmethod
    def dummy_inputs(config: Any) -> dict[str, Any]:
        """Returns one image of zeros."""
        return {"pixel_values": jnp.zeros((1, config.num_channels, *config.image), jnp.float32)}

    def pooling_mask(self, features: BackboneOutput, inputs: Mapping[str, Any]) -> jax.Array | None:
        """None: an image is one vector."""
        del features, inputs
        return None
