"""Any linen module as the backbone of a model, so that it can be trained with the same recipes as other backbones."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from tlx.errors import TlxError
from tlx.models.backbone import Backbone, BackboneOutput
from tlx.models.heads import HeadSettings


@dataclasses.dataclass(frozen=True)
class CustomConfig:
    """The config of a custom backbone.

    Attributes:
      blocks: path prefixes of the module's blocks, from the bottom up, for rules such as `last:K` and for layer-wise
        learning rates; () for none.
      sample: (name, shape, dtype) of each input with which the module is traced.
    """

    blocks: tuple[str, ...] = ()
    sample: tuple[tuple[str, tuple[int, ...], str], ...] = ()

    model_type = "custom"
    family = "a module of a script's own"
    layer_decay_convention = "bert"

    @property
    def num_blocks(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    @property
    def block_paths(self) -> tuple[str, ...]:
        """`embeddings`, which other code expects first (it may match nothing), and the blocks."""
        return ("embeddings", *self.blocks)

    @property
    def head_settings(self) -> HeadSettings:
        """Heads with pooling `pooler` or `cls` read the first vector, because there is no pooler."""
        return HeadSettings(kinds=("classification", "multilabel", "regression", "tagging"), pooled_by="cls")


class Custom(Backbone):
    """A backbone that calls another linen module. The module's variables are directly under `backbone/`.

    A `BatchNorm` in a frozen part always uses its running statistics. If dropout is to be off in frozen parts too, the
    module has to take `frozen` and do so itself.

    Attributes:
      module: called with the batch's inputs and `deterministic`, and with `frozen` and `valid` if its `__call__` has
        these parameters. It returns (batch, hidden) or (batch, tokens, hidden).
    """

    partial: ClassVar[bool] = False

    module: nn.Module | None = None

    @nn.compact
    def __call__(
        self, *, deterministic: bool = True, frozen: Collection[str] = (), channels_last: bool = True, **inputs: Any
    ) -> BackboneOutput:
        """Runs the module.

        Args:
          deterministic: whether to run as in evaluation.
          frozen: path prefixes of frozen parts within the module.
          channels_last: ignored; images always have their channels last.
          inputs: `pixel_values` (batch, height, width, channels), or `input_ids`, `attention_mask`, …; in training also
            `valid`, bool (batch,), False for rows of padding.

        Raises:
          TlxError: if the module returns an array that has neither two nor three dimensions.
        """
        del channels_last
        assert self.module is not None
        nn.share_scope(self, self.module)
        options = {"frozen": tuple(frozen)} if "frozen" in _parameters(self.module) else {}
        interceptor = nn.intercept_methods(_FrozenNorms(self.path, frozen)) if frozen else contextlib.nullcontext()
        with interceptor:
            hidden: Any = self.module(**inputs, **options, deterministic=deterministic)
        if hidden.ndim not in (2, 3):
            raise TlxError(
                f"{type(self.module).__name__} returned an array of shape {hidden.shape}; a backbone must return "
                "(batch, hidden) or (batch, tokens, hidden)."
            )
        return BackboneOutput(hidden[:, None] if hidden.ndim == 2 else hidden)

    @property
    def reads_valid(self) -> bool:
        """Whether the module's `__call__` has a parameter `valid`."""
        return self.module is not None and "valid" in _parameters(self.module)

    @staticmethod
    def dummy_inputs(config: Any) -> dict[str, Any]:
        """Returns zeros of the shapes and dtypes in `config.sample`."""
        return {name: jnp.zeros(shape, dtype) for name, shape, dtype in config.sample}

    def pooling_mask(self, features: BackboneOutput, inputs: Mapping[str, Any]) -> jax.Array | None:
        """Selects the tokens that are not padding, if the module returned one vector for each token."""
        mask = inputs.get("attention_mask")
        return mask if mask is not None and mask.shape == features.last_hidden_state.shape[:2] else None


def _parameters(module: nn.Module) -> Collection[str]:
    """The names of the parameters of a module's `__call__`."""
    return inspect.signature(type(module).__call__).parameters


class _FrozenNorms:
    """An interceptor that makes every `BatchNorm` in a frozen part use its running statistics without updating them.

    Attributes:
      root: the path of the backbone.
      frozen: path prefixes within the backbone.
    """

    def __init__(self, root: tuple[str, ...], frozen: Collection[str]):
        self.root, self.frozen = root, tuple(f"{prefix}/" for prefix in frozen)

    def __call__(self, run: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        norm = context.module
        if not (isinstance(norm, nn.BatchNorm) and context.method_name == "__call__"):
            return run(*args, **kwargs)
        path = "/".join(norm.path[len(self.root) :])
        if norm.use_running_average is True or not f"{path}/".startswith(self.frozen):
            return run(*args, **kwargs)
        x, *_ = args or (kwargs["x"],)  # the clone has the same path; this interceptor then lets its call through
        return norm.clone(parent=norm.scope, use_running_average=True)(x, mask=kwargs.get("mask"))


def sample_of(inputs: Mapping[str, Any]) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    """Returns (name, shape for a batch of one, dtype) of each input array, as `CustomConfig.sample`."""
    arrays = {name: value for name, value in inputs.items() if hasattr(value, "shape")}
    return tuple((name, (1, *value.shape[1:]), str(value.dtype)) for name, value in arrays.items())
