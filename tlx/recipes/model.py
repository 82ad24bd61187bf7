"""The model that a config asks for: the checkpoint's network with new heads, or one that is initialized, and LoRA."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from tlx.adapters.lora import Lora
from tlx.adapters.model import add_lora, with_loras
from tlx.errors import TlxError, listed
from tlx.models.heads import Head
from tlx.models.model import Model, build_model, config_of
from tlx.params.kinds import KindTable
from tlx.params.partition import FROZEN
from tlx.params.paths import Tree, flatten
from tlx.params.rules import Rules, assign
from tlx.pretrained.folder import read_config
from tlx.pretrained.load import random_params, start_from
from tlx.recipes.regularise import reinitialized

BASE_FROZEN = ("backbone/.*", FROZEN)


def load_model(config: ConfigDict, folder: Path, heads: dict[str, Head]) -> tuple[Model, Any, frozenset[str]]:
    """The checkpoint with new heads, or the same network with random weights, with its adapter.

    Returns:
      The model, its parameters, and the paths whose values are not the checkpoint's.
    """
    c = config.model
    model = describe_model(folder, c, heads)
    again = reinitialized(c, model.backbone.config.block_paths)
    if c.weights == "random":
        model, params = adapt(model, random_params(model, config.seed), config)
        return model, params, frozenset(flatten(params))
    if c.weights != "pretrained":
        raise TlxError(f"config.model.weights is {c.weights!r}; it is 'pretrained' or 'random'.")
    model, params, initialized = start_from(
        folder, heads, initialise=c.initialise, reinitialise=again, ignore=c.ignore, seed=config.seed,
        dtype=compute_dtype(c), **model_changes(c),
    )  # fmt: skip
    loaded = flatten(params).keys() - initialized
    model, params = adapt(model, params, config)
    return model, params, frozenset(flatten(params).keys() - loaded)


def describe_model(folder: Path, config: Mapping[str, Any], heads: Mapping[str, Head]) -> Model:
    """The module that `config.model` asks for; nothing is loaded."""
    hf = read_config(folder)
    return build_model(config_of(folder, hf, heads, **model_changes(config)), heads, compute_dtype(config))


def model_changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the checkpoint's config that the run changes."""
    names = (
        "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "drop_path_rate", "image_size",
    )  # fmt: skip
    return {name: config[name] for name in names if config.get(name) is not None}


def compute_dtype(config: Mapping[str, Any]) -> Any:
    """What to compute in; None: the parameters' own dtype, float32."""
    known = {"float32": None, "bfloat16": jax.numpy.bfloat16}
    if config["dtype"] not in known:
        raise TlxError(f"config.model.dtype is {config['dtype']!r}; it is one of {listed(known)}.")
    return known[config["dtype"]]


def lora_of(config: Mapping[str, Any]) -> Lora | None:
    """The adapter of a run; None without one. config: the run's, which of an older run has no such part."""
    settings = dict(config.get("lora") or {"rank": 0})
    if not settings["rank"]:
        return None
    settings["targets"] = tuple(tuple(rule) if isinstance(rule, list) else rule for rule in settings["targets"])
    return Lora(**settings)


def adapted(model: Model, config: Mapping[str, Any]) -> Model:
    """The module with the run's adapter, where it has one."""
    lora = lora_of(config)
    return model if lora is None else with_loras(model, (lora,))


def adapt(model: Model, params: Tree, config: Mapping[str, Any]) -> tuple[Model, Tree]:
    """The module and its parameters with the run's adapter, where it has one, initialized by the run's seed."""
    lora = lora_of(config)
    return (model, params) if lora is None else add_lora(model, params, lora, config["seed"])


def group_rules(config: Mapping[str, Any], rules: Rules, params: Tree, kinds: KindTable | None) -> Rules:
    """The rules given; with an adapter a last rule freezes what they leave of the backbone."""
    if lora_of(config) is None:
        return rules
    decided = assign(flatten(params), rules, shipped=((".*", None),), kinds=kinds, what="params.rules")
    left = any(group is None and path.startswith("backbone/") for path, group in decided.items())
    return (*rules, BASE_FROZEN) if left else rules
