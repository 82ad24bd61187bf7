"""Anyone's linen module in a backbone's place, so that rules, phases, loop and checkpoints are there for it too."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tlx.errors import TlxError
from tlx.models.backbone import Backbone, BackboneOutput
from tlx.models.heads import HeadSettings


@dataclasses.dataclass(frozen=True)
class CustomConfig:
    """blocks: path prefixes within the module, from the bottom up, that `last:K` and rates by layer count; there may be
    none. sample: names, shapes and dtypes of the inputs it is traced with."""

    blocks: tuple[str, ...] = ()
    sample: tuple[tuple[str, tuple[int, ...], str], ...] = ()

    model_type = "custom"
    family = "a module of a script's own"
    layer_decay_convention = "bert"

    @property
    def num_blocks(self) -> int:
        """How many blocks were named."""
        return len(self.blocks)

    @property
    def block_paths(self) -> tuple[str, ...]:
        """Where the embeddings would stand, and the blocks."""
        return ("embeddings", *self.blocks)

    @property
    def head_settings(self) -> HeadSettings:
        """Without a pooler: `pooler` and `cls` read the first vector."""
        return HeadSettings(kinds=("classification", "multilabel", "regression", "tagging"), pooled_by="cls")


class Custom(Backbone):
    """module: called with the batch's inputs and `deterministic`; gives (batch, hidden) or (batch, tokens, hidden). Its
    parameters stand right under `backbone/`. It has no other collections of variables."""

    module: nn.Module | None = None

    @nn.compact
    def __call__(
        self, *, deterministic: bool = True, frozen: Collection[str] = (), channels_last: bool = True, **inputs: Any
    ) -> BackboneOutput:
        """inputs: `pixel_values` (batch, height, width, channels), or `input_ids`, `attention_mask`, …"""
        del frozen, channels_last
        assert self.module is not None
        nn.share_scope(self, self.module)
        found: Any = self.module(**inputs, deterministic=deterministic)
        if found.ndim not in (2, 3):
            raise TlxError(
                f"{type(self.module).__name__} gave an array of shape {found.shape}; a backbone gives (batch, hidden) "
                "or (batch, tokens, hidden)."
            )
        return BackboneOutput(found[:, None] if found.ndim == 2 else found)

    @staticmethod
    def dummy_inputs(config: Any) -> dict[str, Any]:
        """The sample's shapes, zeros."""
        return {name: jnp.zeros(shape, dtype) for name, shape, dtype in config.sample}

    def pooling_mask(self, features: BackboneOutput, inputs: Mapping[str, Any]) -> jax.Array | None:
        """The text's own tokens, where the module gave one vector for each."""
        mask = inputs.get("attention_mask")
        return mask if mask is not None and mask.shape == features.last_hidden_state.shape[:2] else None


def sample_of(inputs: Mapping[str, Any]) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    """What `OwnConfig` keeps of a batch's inputs."""
    arrays = {name: value for name, value in inputs.items() if hasattr(value, "shape")}
    return tuple((name, (1, *value.shape[1:]), str(value.dtype)) for name, value in arrays.items())
