"""Makes the model of a config: the checkpoint's network with new heads, or one with random weights, and LoRA."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from tlx.adapters.lora import Lora
from tlx.adapters.model import add_lora, with_loras
from tlx.errors import TlxError, listed
from tlx.models.fused_attention import choose_implementation
from tlx.models.heads import Head
from tlx.models.model import Model, build_model, config_of
from tlx.params.kinds import KindTable
from tlx.params.partition import FROZEN
from tlx.params.paths import Tree, flatten, unflatten
from tlx.params.rules import Rules, assign
from tlx.pretrained.folder import read_config
from tlx.pretrained.load import random_params, selected, start_from
from tlx.pretrained.own_head import masked_lm_head, masked_lm_params
from tlx.recipes.regularise import reinitialized

BASE_FROZEN = ("backbone/.*", FROZEN)


def load_model(config: ConfigDict, folder: Path, heads: dict[str, Head]) -> tuple[Model, Any, frozenset[str]]:
    """Loads the checkpoint with new heads and adds the run's adapter.

    Args:
      config: the run's config. If `model.weights` is "random", the weights are initialized instead of loaded.
      folder: the checkpoint's folder.
      heads: heads by name.

    Returns:
      The model, its parameters, and the paths whose values are not the checkpoint's.

    Raises:
      TlxError: if `model.weights` is invalid, or the checkpoint does not fit the config.
    """
    c = config.model
    model = describe_model(folder, c, heads)
    reinitialise = reinitialized(c, model.backbone.config.block_paths)
    if c.weights == "random":
        model, params = adapt(model, random_params(model, config.seed), config)
        return model, params, frozenset(flatten(params))
    if c.weights != "pretrained":
        raise TlxError(f"config.model.weights is {c.weights!r}; it is 'pretrained' or 'random'.")
    model, params, initialized = start_from(
        folder, heads, initialise=c.initialise, reinitialise=reinitialise, ignore=c.ignore, seed=config.seed,
        dtype=compute_dtype(c), attention=model.backbone.config.attention, **model_changes(c),
    )  # fmt: skip
    params, initialized = with_own_heads(folder, heads, params, initialized, model, reinitialise)
    loaded = flatten(params).keys() - initialized
    model, params = adapt(model, params, config)
    return model, params, frozenset(flatten(params).keys() - loaded)


def with_own_heads(
    folder: Path, heads: Mapping[str, Head], params: Tree, initialized: frozenset[str], model: Model,
    reinitialise: Sequence[str],
) -> tuple[Tree, frozenset[str]]:  # fmt: skip
    """Reads the heads of masked language modelling from the checkpoint, if it has one; a line says if it has none.

    Args:
      folder: the checkpoint's folder.
      heads: heads by name.
      params: the model's parameters.
      initialized: the paths that were initialized.
      model: the model.
      reinitialise: selectors of parameters that stay initialized.

    Returns:
      The parameters, and the paths that are still initialized ones.
    """
    names = [name for name, head in heads.items() if head.kind == "masked_lm"]
    if not names:
        return params, initialized
    own = masked_lm_head(folder)
    if own is None:
        print(f"model: {folder} has no masked language modelling head; that of the run begins untrained.", flush=True)
        return params, initialized
    found = {path: leaf for name in names for path, leaf in masked_lm_params(folder, own, name).items()}
    kept = selected(found, reinitialise, model.backbone.kinds) if reinitialise else frozenset()
    found = {path: leaf for path, leaf in found.items() if path not in kept}
    return unflatten({**flatten(params), **found}), initialized - found.keys()


def describe_model(folder: Path, config: Mapping[str, Any], heads: Mapping[str, Head]) -> Model:
    """Builds the module without loading weights.

    Args:
      folder: the checkpoint's folder, or the folder `pretrained` of a run.
      config: the run's `config.model`.
      heads: heads by name.
    """
    hf_config = read_config(folder)
    described, dtype = config_of(folder, hf_config, heads, **model_changes(config)), compute_dtype(config)
    attention = choose_implementation(config.get("attention", "auto"), dtype, described.head_size)
    return build_model(dataclasses.replace(described, attention=attention), heads, dtype)


def model_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of the checkpoint's config that `config.model` changes."""
    names = (
        "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "drop_path_rate", "image_size",
    )  # fmt: skip
    return {name: config[name] for name in names if config.get(name) is not None}


def compute_dtype(config: Mapping[str, Any]) -> Any:
    """Returns the dtype of the computation from `config.model`; None is float32, the parameters' dtype."""
    known = {"float32": None, "bfloat16": jnp.bfloat16}
    name = default_dtype() if config["dtype"] == "auto" else config["dtype"]
    if name not in known:
        raise TlxError(f"config.model.dtype is {name!r}; it is one of {listed(('auto', *known))}.")
    return known[name]


def default_dtype() -> str:
    """Returns what `config.model.dtype` \"auto\" means on this process's devices."""
    return "float32" if jax.devices()[0].platform == "cpu" else "bfloat16"


def loras_of(config: Mapping[str, Any]) -> tuple[Lora, ...]:
    """Returns the settings of a run's adapters from its config; () without any.

    A run has one adapter, or with `lora.per_task` one for each task, of the task's name. Older runs' configs have no
    `lora`.

    Raises:
      TlxError: if there shall be an adapter for each task, and the run has no tasks.
    """
    settings = dict(config.get("lora") or {"rank": 0})
    per_task = settings.pop("per_task", False)
    if not settings["rank"]:
        if per_task:
            raise TlxError("config.lora.per_task is True, but config.lora.rank is 0, which means no adapter; set it.")
        return ()
    settings["targets"] = tuple(tuple(rule) if isinstance(rule, list) else rule for rule in settings["targets"])
    lora = Lora(**settings)
    if not per_task:
        return (lora,)
    if not config.get("tasks"):
        raise TlxError("config.lora.per_task is True, but the run has no config.tasks; leave it False.")
    names = [config["single_task"]] if config.get("single_task") else list(config["tasks"])
    return tuple(dataclasses.replace(lora, name=name) for name in names)


def adapted(model: Model, config: Mapping[str, Any]) -> Model:
    """Returns the module with the run's adapters, if it has any."""
    loras = loras_of(config)
    return with_loras(model, loras).clone(by_row=len(loras) > 1) if loras else model


def adapt(model: Model, params: Tree, config: Mapping[str, Any]) -> tuple[Model, Tree]:
    """Adds the run's adapters, if it has any, to the module and its parameters, initialized with the run's seed."""
    for lora in loras_of(config):
        _, params = add_lora(model, params, lora, config["seed"])
    return adapted(model, config), params


def group_rules(config: Mapping[str, Any], rules: Rules, params: Tree, kinds: KindTable | None) -> Rules:
    """Returns the rules. With adapters, a last rule freezes the backbone's parameters that no other rule matches."""
    if not loras_of(config):
        return rules
    groups = assign(flatten(params), rules, shipped=((".*", None),), kinds=kinds, what="params.rules")
    unmatched = any(group is None and path.startswith("backbone/") for path, group in groups.items())
    return (*rules, BASE_FROZEN) if unmatched else rules
