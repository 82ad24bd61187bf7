"""The measured cases: three model shapes, five strategies, and the training step for each pair."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tlx.adapters.lora import Lora
from tlx.adapters.model import with_loras
from tlx.methods.api import Batch, Losses, Update
from tlx.methods.finetune import FineTune
from tlx.models.bert import BertConfig
from tlx.models.heads import Head
from tlx.models.model import Model, build_model
from tlx.models.vit import ViTConfig
from tlx.optim.averages import ema
from tlx.optim.groups import Group, assign_groups, make_optimizer
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten
from tlx.params.rules import Rules
from tlx.params.shorthand import train_rules
from tlx.pretrained.load import abstract_params
from tlx.training.state import PlayerOf, assign_players, init_state
from tlx.training.step import make_train_step

WITHOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SHAPES: dict[str, tuple[Any, int, int]] = {  # name -> config, examples, tokens
    "BERT-base": (BertConfig(**WITHOUT), 32, 128),
    "ViT-B/16": (ViTConfig(add_pooling_layer=False, **WITHOUT), 32, 197),
    "MiniLM": (BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536, **WITHOUT), 32, 128),
}
TABLE = ("BERT-base", "ViT-B/16")  # the shapes of the tables about freezing; MiniLM is one of speed.py
STRATEGIES = {"full": "", "last 2": "last:2", "head only": "heads", "LoRA r=8": "", "biases": "biases"}
RANK, CLASSES = 8, 2
GROUPS = {"default": Group(weight_decay=0.01)}


def arm(config: Any, strategy: str) -> tuple[Model, Rules]:
    """The model (with an adapter for LoRA) and the rules of a strategy."""
    model = build_model(config, {"default": Head("classification", CLASSES)})
    blocks = tuple(f"backbone/{path}" for path in config.block_paths[1:])
    if strategy.startswith("LoRA"):
        return with_loras(model, (Lora(rank=RANK),)), (("backbone/.*", FROZEN),)
    if not STRATEGIES[strategy]:
        return model, ()
    return model, train_rules(STRATEGIES[strategy], blocks, flatten(abstract_params(model)), kinds=model.backbone.kinds)


@dataclasses.dataclass(frozen=True)
class StepSetup:
    """A training step and its inputs.

    Attributes:
      method: fine-tuning.
      player_of: the player of each path, None if frozen.
      begin: from parameters to the first state.
      step: the training step of the loop.
      batch: shapes of its batch.
    """

    method: FineTune
    player_of: PlayerOf
    begin: Callable[[Any], Any]
    step: Callable[..., Any]
    batch: dict[str, jax.ShapeDtypeStruct]


def step_setup(
    model: Model, rules: Rules, rows: int, length: int, *, accumulate: int = 1, clip: float | None = None,
    average: bool = False, bare: bool = False,
) -> StepSetup:  # fmt: skip
    """The loop's training step for this model, with AdamW.

    Args:
      model: the model.
      rules: which parameters are trained.
      rows: examples in a batch.
      length: tokens of each text.
      accumulate: micro-batches.
      clip: largest norm of the gradient; None: no clipping.
      average: whether to keep an EMA.
      bare: use a loss that is linear in the trained parameters (see `linear`) in place of the model.
    """
    params = abstract_params(model)
    image = model.backbone.config.model_type != "bert"
    field = "pixel_values" if image else "input_ids"

    def prepare(batch: Mapping[str, Any], key: Any) -> tuple[dict[str, Any], Mapping[str, Any]]:
        return {field: batch[field], **({"channels_last": True} if image else {})}, batch

    method = FineTune(model, {"default": "label"}, prepare)
    kinds = model.backbone.kinds
    player_of = assign_players(params, assign_groups(params, rules, GROUPS, kinds), method.players)
    if bare:
        method.updates = (Update(functools.partial(linear, player_of), method.updates[0].players),)
    optimizers = {"model": make_optimizer(params, rules, GROUPS, learning_rate=1e-4, kinds=kinds)}
    begin = functools.partial(init_state, player_of=player_of, optimizers=optimizers, method_state={}, averaged=average)
    step = make_train_step(
        method, optimizers, player_of, clip=clip, accumulate=accumulate, average=ema(0.999) if average else None
    )
    patch = model.backbone.config.image_size if image else None
    shape = (rows, *patch, 3) if isinstance(patch, tuple) else (rows, patch, patch, 3) if image else (rows, length)
    batch = {
        field: jax.ShapeDtypeStruct(shape, jnp.float32 if image else jnp.int32),
        "label": jax.ShapeDtypeStruct((rows,), jnp.int32),
        "valid": jax.ShapeDtypeStruct((rows,), bool),
    }
    return StepSetup(method, player_of, begin, step, batch)


def linear(player_of: PlayerOf, params: Any, batch: Batch, method_state: Any, context: Any) -> tuple[Losses, Any]:
    """A loss with two operations per parameter. Its gradient is stored in memory, as that of a matrix product is."""
    count = batch["train"]["valid"].sum(dtype=jnp.float32)
    own = jax.lax.optimization_barrier([leaf for path, leaf in flatten(params).items() if player_of[path]])
    return {"default": (sum((leaf * count).sum() for leaf in own), count)}, method_state
