"""From a Hugging Face checkpoint to a model and its parameters; every disagreement is told at once."""

import dataclasses
import functools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import TlxError
from tlx.files.memory import available, told
from tlx.models.config import BackboneConfig
from tlx.models.forward import abstract_variables
from tlx.models.heads import Head
from tlx.models.image_config import ImageConfig
from tlx.models.interpolate import interpolate
from tlx.models.layers import Dtype
from tlx.models.model import Model, build_model, config_of, dummy_inputs
from tlx.params.kinds import KindTable
from tlx.params.paths import flatten, unflatten
from tlx.params.rules import assign
from tlx.pretrained.folder import read_config, resolve
from tlx.pretrained.own_head import own_heads
from tlx.pretrained.tensors import Carry, Tensors

MOST_BLOCKS = 256  # that are initialized; the deepest published encoders have 48
PARTS = {"pooler": "backbone/pooler/.*", "heads": "heads/.*", "all": ".*"}


def from_pretrained(
    checkpoint: str | os.PathLike[str],
    heads: int | Mapping[str, Head] | None = None,
    *,
    initialise: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    seed: int = 0,
    param_dtype: Dtype = jnp.float32,
    dtype: Dtype = None,
    **config_changes: Any,
) -> tuple[Model, dict[str, Any]]:
    """Loads a published checkpoint.

    Args:
      checkpoint: a folder, `package:NAME/FOLDER`, or a hub id (see `tlx.pretrained.folder.resolve`).
      heads: None takes the checkpoint's own head, if it has one, under the name `default`; a number makes a new
        classification head `default`; a mapping makes new heads by name.
      initialise: parts to draw anew where the file lacks them or has another shape: `pooler`, `heads`, `all` or a
        regex on the whole path. New heads need not be named.
      ignore: regexes on tensors' names in the file that may be left over.
      seed: of what is drawn anew.
      param_dtype: of the parameters, whatever the file holds.
      dtype: what to compute in; None: as the parameters.
      config_changes: fields of the config to change, such as `hidden_dropout_prob=0.0` or `add_pooling_layer=False`.
        With another `image_size` the position embeddings are interpolated, bicubic, once and for good.

    Returns:
      The linen module and its parameters, so that
      `model.apply({"params": params}, input_ids=…).logits["default"]` are the logits.

    Raises:
      TlxError: no such checkpoint; a family or setting that tlx lacks; missing, extra or reshaped tensors; a file that
        is damaged or asks for more than tensors.
    """
    model, params, _ = start_from(
        checkpoint, heads, initialise=initialise, ignore=ignore, seed=seed, param_dtype=param_dtype, dtype=dtype,
        **config_changes,
    )  # fmt: skip
    return model, params


def start_from(
    checkpoint: str | os.PathLike[str],
    heads: int | Mapping[str, Head] | None = None,
    *,
    initialise: str | Sequence[str] = (),
    reinitialise: Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    seed: int = 0,
    param_dtype: Dtype = jnp.float32,
    dtype: Dtype = None,
    **config_changes: Any,
) -> tuple[Model, dict[str, Any], frozenset[str]]:
    """As `from_pretrained`, which parts were drawn anew told too.

    Args:
      reinitialise: selectors of what is drawn anew though the file has it. One that decides nothing is an error.

    Returns:
      The module, its parameters, and the paths whose values are not the checkpoint's.
    """
    folder = resolve(os.fspath(checkpoint))
    hf = read_config(folder)
    config = config_of(folder, hf, {}, **config_changes)
    tensors = Tensors(folder, config.model_type)
    tensors.refuse_absurd(config.num_blocks)
    own = heads is None
    chosen = own_heads(hf, tensors) if heads is None else as_heads(heads)
    config = config_of(folder, hf, chosen, **config_changes)
    model = build_model(config, chosen, dtype)
    selectors = [PARTS.get(part, part) for part in _regexes(initialise, "initialise")]
    selectors += [] if own else [PARTS["heads"]]
    left_over = _regexes(ignore, "ignore")
    if chosen and "add_pooling_layer" not in config_changes and not getattr(config, "add_pooling_layer", True):
        left_over.append(r"pooler\..*")  # no head reads it
    head = chosen.get("default") if own else None
    carried = carried_positions(config_of(folder, hf, chosen), config)
    params = tensors.load(abstract_params(model), selectors, left_over, head, own, param_dtype, carried)
    again = selected(params, reinitialise, model.backbone.kinds)
    params = {path: None if path in again else leaf for path, leaf in params.items()}
    initialized = frozenset(path for path, leaf in params.items() if leaf is None)
    return model, _with_new(model, params, seed, param_dtype), initialized


def selected(paths: Iterable[str], selectors: Sequence[str], kinds: KindTable | None = None) -> frozenset[str]:
    """The paths that `reinitialise` selects."""
    rules = [(selector, True) for selector in selectors]
    chosen = assign(paths, rules, shipped=((".*", False),), kinds=kinds, what="model.reinitialise")
    return frozenset(path for path, again in chosen.items() if again)


def carried_positions(old: BackboneConfig, new: BackboneConfig) -> dict[str, Carry]:
    """How the table of positions comes to images of another size than the checkpoint's; nothing if it is the same."""
    if not (isinstance(old, ImageConfig) and isinstance(new, ImageConfig)) or old.grid == new.grid:
        return {}

    rows = new.special_tokens + math.prod(old.grid)
    shape = (1, rows, old.hidden_size)
    return {"backbone/embeddings/position_embeddings": (shape, lambda table: interpolate(table, old.grid, new.grid))}


def _regexes(given: str | Sequence[str], what: str) -> list[str]:
    regexes = [given] if isinstance(given, str) else list(given)
    for regex in regexes:
        try:
            re.compile(regex)
        except re.error as error:
            raise TlxError(f"{what}: {regex!r} is not a regular expression ({error}).") from None
    return regexes


def as_heads(heads: int | Mapping[str, Head]) -> dict[str, Head]:
    """A number is a classification head `default` with so many classes."""
    return {"default": Head("classification", heads)} if isinstance(heads, int) else dict(heads)


def abstract_params(model: Model) -> dict[str, Any]:
    """Shapes and dtypes of a model's parameters; nothing is computed."""
    x64 = bool(jax.config.read("jax_enable_x64"))
    try:
        leaves, tree = _traced(model, x64)
    except TypeError:  # a module whose fields cannot be hashed
        leaves, tree = _traced.__wrapped__(model, x64)
    return jax.tree.unflatten(tree, leaves)


@functools.lru_cache(maxsize=16)
def _traced(model: Model, x64: bool) -> tuple[list[Any], Any]:
    """Leaves and structure. Tracing takes longer than reading a small checkpoint. x64: part of the key."""
    del x64
    return jax.tree.flatten(abstract_variables(model, dummy_inputs(model)).params)


def _with_new(model: Model, params: dict[str, Any], seed: int, dtype: Dtype) -> dict[str, Any]:
    """Draws the leaves that are None; XLA drops the computation of all the others."""
    new = [path for path, leaf in params.items() if leaf is None]
    if new:

        def draw(key: jax.Array) -> dict[str, jax.Array]:
            every = flatten(model.init(key, **dummy_inputs(model))["params"])
            return {path: every[path].astype(dtype) for path in new}

        params = {**params, **jax.jit(draw)(jax.random.key(seed))}
    return unflatten(params)


def count_params(model: Model) -> int:
    """How many parameters a model has. Of its blocks two are traced, whatever their number: all others are alike."""
    config: Any = model.backbone.config
    field = next((name for name in ("num_hidden_layers", "n_layers") if hasattr(config, name)), None)
    if field is None or config.num_blocks <= 2:
        return _count(model)
    one, two = (
        _count(model.clone(backbone=model.backbone.clone(config=dataclasses.replace(config, **{field: blocks}))))
        for blocks in (1, 2)
    )
    return one + (config.num_blocks - 1) * (two - one)


def _count(model: Model) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params(model)))


def check_memory(model: Model, param_dtype: Dtype = jnp.float32) -> None:
    """Refuses a model whose parameters exceed the memory that is free; a config may claim any size.

    Raises:
      TlxError: with the bytes that are needed and that there are.
    """
    count, free = count_params(model), available()
    size = count * jnp.dtype(param_dtype).itemsize
    if free is not None and size > free:
        config: Any = model.backbone.config
        raise TlxError(
            f"a {config.family} of {config.num_blocks} blocks has {count:,} parameters, {told(size)}, and {told(free)} "
            "of memory are free; use a smaller config or a larger machine."
        )

    if (blocks := model.backbone.config.num_blocks) > MOST_BLOCKS:
        raise TlxError(
            f"this config has {blocks:,} blocks ({count:,} parameters, {told(size)}); tlx initializes at most "
            f"{MOST_BLOCKS}, for more take hours to compile."
        )


def random_params(model: Model, seed: int, param_dtype: Dtype = jnp.float32) -> dict[str, Any]:
    """Initial parameters as the reference initializes them: N(0, initializer_range²), biases 0, layer norms 1 and 0.

    Raises:
      TlxError: as `check_memory`.
    """
    check_memory(model, param_dtype)
    return _with_new(model, dict.fromkeys(flatten(abstract_params(model))), seed, param_dtype)
