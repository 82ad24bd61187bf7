"""The base class of image backbones: patches and special tokens before the blocks, a layer norm after them."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import TlxError
from tlx.models.backbone import Backbone, BackboneOutput

KINDS = (
    (r"(.*/)?embeddings/position_embeddings", ("embedding",)),
    (r"(.*/)?layernorm\w*/bias", ("bias", "norm")),
    (r"(.*/)?layernorm\w*/scale", ("norm",)),
)


class ImageBackbone(Backbone):
    """Base class of image backbones. A subclass also implements `embed`."""

    kinds = KINDS

    def embed(self, pixels: jax.Array, interpolated: bool, deterministic: bool) -> jax.Array:
        """Computes the input of block 0, (batch, tokens, hidden), from (batch, height, width, channels)."""
        raise NotImplementedError

    def __call__(
        self,
        pixel_values: jax.Array | None = None,
        *,
        channels_last: bool = False,
        interpolate_pos_encoding: bool = False,
        hidden_state: jax.Array | None = None,
        start: int = 0,
        stop: int | None = None,
        deterministic: bool = True,
        frozen: Collection[str] = (),
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> BackboneOutput:
        """Runs the backbone, or its blocks `start` to `stop`.

        Args:
          pixel_values: (batch, channels, height, width), floats as the checkpoint's preprocessing returns them.
          channels_last: whether `pixel_values` is (batch, height, width, channels).
          interpolate_pos_encoding: whether images may have another size than the config's. The position embeddings are
            then interpolated (bicubic).
          hidden_state: (batch, tokens, hidden), instead of `pixel_values`: the input of block `start`.
          start: the first block to run.
          stop: the block before which to stop; None for all. The final layer norm and the pooler run only after the
            last block.
          deterministic: whether to run without dropout.
          frozen: path prefixes of blocks that run without dropout (`embeddings`, `encoder/layer/0`).
          output_hidden_states: whether to return the hidden states, which are those before the final layer norm.
          output_attentions: whether to return the attention weights.

        Raises:
          TlxError: if the inputs are incomplete or have the wrong shape, or a block number is out of range.
        """
        if (pixel_values is None) == (hidden_state is None) or (hidden_state is None and start):
            raise TlxError(f"pass either pixel_values (start=0), or hidden_state and start; found start={start}.")
        if hidden_state is not None:
            x = hidden_state
        else:
            assert pixel_values is not None
            pixels = pixel_values if channels_last else jnp.moveaxis(self._images(pixel_values), 1, -1)
            self._check(pixels, channels_last, interpolate_pos_encoding)
            bottom = self.config.block_paths[0]
            x = self.embed(pixels, interpolate_pos_encoding, deterministic or bottom in frozen)
        return self.run(x, None, start, stop, deterministic, frozen, output_hidden_states, output_attentions)

    @staticmethod
    def dummy_inputs(config: Any) -> dict[str, Any]:
        """Returns one image of zeros."""
        return {"pixel_values": jnp.zeros((1, config.num_channels, *config.image), jnp.float32)}

    def pooling_mask(self, features: BackboneOutput, inputs: Mapping[str, Any]) -> jax.Array | None:
        """Selects the patches and leaves out special tokens such as the class token."""
        del inputs
        shape = features.last_hidden_state.shape[:2]
        return jnp.broadcast_to(jnp.arange(shape[1]) >= self.config.special_tokens, shape)

    @staticmethod
    def _images(pixel_values: jax.Array) -> jax.Array:
        if pixel_values.ndim != 4:
            raise TlxError(
                f"pixel_values has shape {pixel_values.shape}; it must be (batch, channels, height, width), or with "
                "channels_last=True (batch, height, width, channels)."
            )
        return pixel_values

    def _check(self, pixels: jax.Array, channels_last: bool, interpolated: bool) -> None:
        c = self.config
        _, height, width, channels = self._images(pixels).shape
        if channels != c.num_channels:
            order = "height, width, channels" if channels_last else "channels, height, width"
            raise TlxError(
                f"pixel_values, read as (batch, {order}), has {channels} channels; this model takes {c.num_channels}."
            )
        if (height, width) != c.image and not interpolated:
            raise TlxError(
                f"an image has {height} × {width} pixels; this model takes {c.image[0]} × {c.image[1]} "
                "(or any size with interpolate_pos_encoding=True)."
            )
        if min(c.grid_of(height, width)) < 1:
            raise TlxError(
                f"an image of {height} × {width} pixels is smaller than a patch of {c.patch[0]} × {c.patch[1]}."
            )
