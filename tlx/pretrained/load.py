"""Loads a Hugging Face checkpoint as a model and its parameters; one error message lists every mismatch."""

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
from tlx.files.memory import available, format_bytes
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
from tlx.pretrained.checkpoint_head import checkpoint_heads
from tlx.pretrained.folder import read_config, resolve
from tlx.pretrained.tensors import Carry, Tensors

MOST_BLOCKS = 256  # the most blocks that are randomly initialized; the deepest published encoders have 48
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
      heads: None loads the checkpoint's head, if it has one, under the name `default`; a number makes a new
        classification head `default`; a mapping makes new heads by name.
      initialise: parts that are randomly initialized if the file lacks them or has them in another shape: `pooler`,
        `heads`, `all` or a regex on the whole path. New heads need no selector.
      ignore: regexes on names of tensors in the file that the model may leave unused.
      seed: the seed of the random initialization.
      param_dtype: the dtype of the parameters; values of another dtype in the file are converted.
      dtype: the dtype of the computation; None: that of the parameters.
      **config_changes: fields of the config to change, such as `hidden_dropout_prob=0.0` or `add_pooling_layer=False`.
        If `image_size` changes, the position embeddings are interpolated (bicubic) when they are loaded.

    Returns:
      The linen module and its parameters: `model.apply({"params": params}, input_ids=…).logits["default"]` computes
      the logits.

    Raises:
      TlxError: the checkpoint does not exist; tlx does not support its family or one of its settings; tensors are
        missing, unexpected or have another shape; a file is damaged, or holds more than tensors.
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
    """Loads a checkpoint like `from_pretrained`, and also returns which parameters were randomly initialized.

    Args:
      checkpoint: see `from_pretrained`.
      heads: see `from_pretrained`.
      initialise: see `from_pretrained`.
      reinitialise: selectors of parameters that are randomly initialized although the file has them. A selector that
        has no effect is an error.
      ignore: see `from_pretrained`.
      seed: see `from_pretrained`.
      param_dtype: see `from_pretrained`.
      dtype: see `from_pretrained`.
      **config_changes: see `from_pretrained`.

    Returns:
      The linen module, its parameters, and the paths of the parameters that do not come from the checkpoint.

    Raises:
      TlxError: as for `from_pretrained`; or a selector of `reinitialise` has no effect.
    """
    folder = resolve(os.fspath(checkpoint))
    hf = read_config(folder)
    config = config_of(folder, hf, {}, **config_changes)
    tensors = Tensors(folder, config.model_type)
    tensors.check_block_count(config.num_blocks)
    read_head = heads is None
    heads_by_name = checkpoint_heads(hf, tensors) if heads is None else as_heads(heads)
    config = config_of(folder, hf, heads_by_name, **config_changes)
    model = build_model(config, heads_by_name, dtype)
    selectors = [PARTS.get(part, part) for part in _regexes(initialise, "initialise")]
    selectors += [] if read_head else [PARTS["heads"]]
    unused = _regexes(ignore, "ignore")
    if heads_by_name and "add_pooling_layer" not in config_changes and not getattr(config, "add_pooling_layer", True):
        unused.append(r"pooler\..*")  # no head reads it
    head = heads_by_name.get("default") if read_head else None
    conversions = carried_positions(config_of(folder, hf, heads_by_name), config)
    params = tensors.load(abstract_params(model), selectors, unused, head, read_head, param_dtype, conversions)
    reinitialized = selected(params, reinitialise, model.backbone.kinds)
    params = {path: None if path in reinitialized else leaf for path, leaf in params.items()}
    initialized = frozenset(path for path, leaf in params.items() if leaf is None)
    return model, _initialize_missing(model, params, seed, param_dtype), initialized


def selected(paths: Iterable[str], selectors: Sequence[str], kinds: KindTable | None = None) -> frozenset[str]:
    """Returns the paths that the selectors of `reinitialise` match."""
    rules = [(selector, True) for selector in selectors]
    reinitialized = assign(paths, rules, shipped=((".*", False),), kinds=kinds, what="model.reinitialise")
    return frozenset(path for path, value in reinitialized.items() if value)


def carried_positions(old: BackboneConfig, new: BackboneConfig) -> dict[str, Carry]:
    """Returns how the position embeddings are interpolated if the image size differs from the checkpoint's.

    Args:
      old: the checkpoint's config.
      new: the model's config.

    Returns:
      By the path of the embeddings, the shape in the file and the interpolation; empty if the size is the same.
    """
    if not (isinstance(old, ImageConfig) and isinstance(new, ImageConfig)) or old.grid == new.grid:
        return {}

    rows = new.special_tokens + math.prod(old.grid)
    shape = (1, rows, old.hidden_size)
    return {"backbone/embeddings/position_embeddings": (shape, lambda table: interpolate(table, old.grid, new.grid))}


def _regexes(value: str | Sequence[str], what: str) -> list[str]:
    """One regex or several as a list; `what` names the argument in messages."""
    regexes = [value] if isinstance(value, str) else list(value)
    for regex in regexes:
        try:
            re.compile(regex)
        except re.error as error:
            raise TlxError(f"{what}: {regex!r} is not a regular expression ({error}).") from None
    return regexes


def as_heads(heads: int | Mapping[str, Head]) -> dict[str, Head]:
    """Returns heads by name; a number stands for one classification head `default` with that many classes."""
    return {"default": Head("classification", heads)} if isinstance(heads, int) else dict(heads)


def abstract_params(model: Model) -> dict[str, Any]:
    """Returns the shapes and dtypes of a model's parameters without computing them."""
    x64 = bool(jax.config.read("jax_enable_x64"))
    try:
        leaves, tree = _traced(model, x64)
    except TypeError:  # a module whose fields cannot be hashed
        leaves, tree = _traced.__wrapped__(model, x64)
    return jax.tree.unflatten(tree, leaves)


@functools.lru_cache(maxsize=16)
def _traced(model: Model, x64: bool) -> tuple[list[Any], Any]:
    """Returns the abstract leaves of the parameters and the tree structure.

    The result is cached, because tracing takes longer than reading a small checkpoint. `x64` is only part of the
    cache's key, because JAX's x64 mode changes the dtypes.
    """
    del x64
    return jax.tree.flatten(abstract_variables(model, lambda: dummy_inputs(model)).params)


def _initialize_missing(model: Model, params: dict[str, Any], seed: int, dtype: Dtype) -> dict[str, Any]:
    """Initializes the leaves that are None; XLA removes the computation of all the others."""
    missing = [path for path, leaf in params.items() if leaf is None]
    if missing:

        def initialize(key: jax.Array) -> dict[str, jax.Array]:
            initial = flatten(model.init(key, **dummy_inputs(model))["params"])
            return {path: initial[path].astype(dtype) for path in missing}

        params = {**params, **jax.jit(initialize)(jax.random.key(seed))}
    return unflatten(params)


def count_params(model: Model) -> int:
    """Returns how many parameters a model has.

    Models with one and with two blocks are traced; every further block has as many parameters as the second.
    """
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
    """Checks that a model's parameters fit into free memory before they are allocated.

    Raises:
      TlxError: they do not fit (the message gives the needed and the free bytes), or the model has too many blocks.
    """
    count, free = count_params(model), available()
    size = count * jnp.dtype(param_dtype).itemsize
    if free is not None and size > free:
        config: Any = model.backbone.config
        raise TlxError(
            f"a {config.family} of {config.num_blocks} blocks has {count:,} parameters, {format_bytes(size)}, and "
            f"{format_bytes(free)} of memory are free; use a smaller config or a larger machine."
        )

    if (blocks := model.backbone.config.num_blocks) > MOST_BLOCKS:
        raise TlxError(
            f"this config has {blocks:,} blocks ({count:,} parameters, {format_bytes(size)}); tlx initializes at most "
            f"{MOST_BLOCKS}, because more take hours to compile."
        )


def random_params(model: Model, seed: int, param_dtype: Dtype = jnp.float32) -> dict[str, Any]:
    """Returns randomly initialized parameters, distributed as in transformers.

    Weights are sampled from N(0, initializer_range²), biases are 0, and layer norms have scale 1 and bias 0.

    Raises:
      TlxError: as for `check_memory`.
    """
    check_memory(model, param_dtype)
    return _initialize_missing(model, dict.fromkeys(flatten(abstract_params(model))), seed, param_dtype)
