"""Anyone's linen module in a backbone's place, so that rules, phases, loop and checkpoints are there for it too."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping
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
    """module: called with the batch's inputs and `deterministic`, and with `frozen` and `valid` where it names them;
    gives (batch, hidden) or (batch, tokens, hidden). Its variables stand right under `backbone/`.

    A `BatchNorm` in a frozen part runs with its running statistics, whatever `deterministic` the module hands it; what
    else of that part should run as in evaluation (dropout), the module tells by `frozen`.
    """

    module: nn.Module | None = None

    @nn.compact
    def __call__(
        self, *, deterministic: bool = True, frozen: Collection[str] = (), channels_last: bool = True, **inputs: Any
    ) -> BackboneOutput:
        """inputs: `pixel_values` (batch, height, width, channels), or `input_ids`, `attention_mask`, …; in training
        `valid`, bool (batch,), False for rows of padding. frozen: path prefixes within the module."""
        del channels_last
        assert self.module is not None
        nn.share_scope(self, self.module)
        given = {"frozen": tuple(frozen)} if "frozen" in _parameters(self.module) else {}
        still = nn.intercept_methods(_StillNorms(self.path, frozen)) if frozen else contextlib.nullcontext()
        with still:
            found: Any = self.module(**inputs, **given, deterministic=deterministic)
        if found.ndim not in (2, 3):
            raise TlxError(
                f"{type(self.module).__name__} gave an array of shape {found.shape}; a backbone gives (batch, hidden) "
                "or (batch, tokens, hidden)."
            )
        return BackboneOutput(found[:, None] if found.ndim == 2 else found)

    @property
    def reads_valid(self) -> bool:
        """Whether the module names `valid` among what it is called with."""
        return self.module is not None and "valid" in _parameters(self.module)

    @staticmethod
    def dummy_inputs(config: Any) -> dict[str, Any]:
        """The sample's shapes, zeros."""
        return {name: jnp.zeros(shape, dtype) for name, shape, dtype in config.sample}

    def pooling_mask(self, features: BackboneOutput, inputs: Mapping[str, Any]) -> jax.Array | None:
        """The text's own tokens, where the module gave one vector for each."""
        mask = inputs.get("attention_mask")
        return mask if mask is not None and mask.shape == features.last_hidden_state.shape[:2] else None


def _parameters(module: nn.Module) -> Collection[str]:
    """What a module names among what it is called with."""
    return inspect.signature(type(module).__call__).parameters


class _StillNorms:
    """An interceptor under which every `BatchNorm` in a frozen part uses its running statistics and leaves them.

    root: the backbone's path. frozen: path prefixes within it.
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
        x, *_ = args or (kwargs["x"],)  # the same layer in the same place, and this interceptor sees it again
        return norm.clone(parent=norm.scope, use_running_average=True)(x, mask=kwargs.get("mask"))


def sample_of(inputs: Mapping[str, Any]) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    """What `OwnConfig` keeps of a batch's inputs."""
    arrays = {name: value for name, value in inputs.items() if hasattr(value, "shape")}
    return tuple((name, (1, *value.shape[1:]), str(value.dtype)) for name, value in arrays.items())
