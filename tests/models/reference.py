"""The reference checkpoints under third_party/, what tlx answers to them, and how far apart the two are.

The reference never depends on tlx: transformers computed it in float64 (third_party/README.md).
"""

import dataclasses
import functools
import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlx.models import layers
from tlx.models.model import Model
from tlx.pretrained.load import from_pretrained
from tlx.pretrained.save import hf_tensors

THIRD_PARTY = Path(__file__).parents[2] / "third_party"
FAMILIES = ("bert", "camembert", "deit", "distilbert", "electra", "roberta", "vit", "xlm-roberta")
VARIANTS = [
    f"{family}/{folder.name}"
    for family in FAMILIES
    for folder in sorted((THIRD_PARTY / family).iterdir())
    if (folder / "reference.npz").is_file()
]
ZERO = 1e-12  # a gradient leaf whose largest entry is smaller is zero but for rounding


@dataclasses.dataclass(frozen=True)
class Reference:
    """One folder: its Hugging Face config and the arrays of `reference.npz` by name."""

    folder: Path
    config: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays `prefix/…`, without the prefix."""
        return {k.removeprefix(prefix + "/"): v for k, v in self.arrays.items() if k.startswith(prefix + "/")}

    @property
    def inputs(self) -> dict[str, Any]:
        """What is fed to the model."""
        given: dict[str, Any] = self.group("input")
        pixels = {"pixel_values": jnp.asarray(given.pop("pixel_values"))} if "pixel_values" in given else {}
        flags = {"interpolate_pos_encoding": True} if given.pop("interpolate_pos_encoding", None) is not None else {}
        return {**pixels, **flags, **{name: jnp.asarray(array, jnp.int32) for name, array in given.items()}}

    @property
    def expected(self) -> dict[str, np.ndarray]:
        """Everything that is compared."""
        compared = {k: v for k, v in self.arrays.items() if k.startswith(("output/", "gradient/"))}
        if self.folder.name != "discriminator":
            return compared
        return {k.replace("gradient/electra.", "gradient/"): v for k, v in compared.items()}  # read without its head

    def load(self, dtype: Any, **config_changes: Any) -> tuple[Model, Any]:
        """The model and its parameters, as a user gets them."""
        if self.folder.name == "base_no_pooler":
            config_changes = {"add_pooling_layer": False, **config_changes}
        return from_pretrained(self.folder, param_dtype=dtype, **config_changes)


@functools.cache
def reference(name: str) -> Reference:
    """The folder `third_party/<family>/<variant>`."""
    folder = THIRD_PARTY / name
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with np.load(folder / "reference.npz") as arrays:
        return Reference(folder, config, dict(arrays))


def predictions(
    model: Model, params: Any, given: Reference, jit: Mapping[str, Any] | None = None, gradient: bool = True
) -> dict[str, np.ndarray]:
    """tlx's outputs and gradients under the names of the reference's.

    Args:
      model, params: tlx's.
      given: the reference, of which only inputs and loss are read.
      jit: None runs operation by operation, which compiles nothing anew while shapes stay the same; else XLA's options.
      gradient: False leaves the gradients out.
    """
    loss_of = {name: jnp.asarray(array) for name, array in given.group("loss").items()}
    head = dict(model.heads_by_name).get("default")

    def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        output = model.apply(
            {"params": params},
            **given.inputs,
            deterministic=not given.arrays["train"],
            output_hidden_states=True,
            output_attentions=True,
            rngs={"dropout": jax.random.key(0)},
        )
        features, found = output, {"output/last_hidden_state": output.last_hidden_state}
        total = jnp.sum(features.last_hidden_state * loss_of["hidden"].astype(features.last_hidden_state.dtype))
        if features.pooler_output is not None:
            total += jnp.sum(features.pooler_output * loss_of["pooled"].astype(total.dtype))
            found["output/pooler_output"] = features.pooler_output
        if head is not None:
            task = _task_loss(head.kind, output.logits["default"], loss_of["labels"])
            total += task
            found |= {"output/logits": output.logits["default"], "output/loss": task}
        found |= {f"output/hidden_states/{i}": x for i, x in enumerate(features.hidden_states)}
        found |= {f"output/attentions/{i}": x for i, x in enumerate(features.attentions)}
        return total, found

    if not gradient:
        return {name: np.asarray(array) for name, array in loss(params)[1].items()}
    run = jax.grad(loss, has_aux=True)
    gradients, found = (run if jit is None else jax.jit(run, compiler_options=dict(jit)))(params)
    named = {f"gradient/{name}": leaf for name, leaf in hf_tensors(model, gradients).items()}
    return {name: np.asarray(array) for name, array in found.items()} | named


def _task_loss(kind: str, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Each as torch's class defines it; a token without a label is -100 there."""
    if kind == "regression":
        return jnp.mean((logits - labels.astype(logits.dtype)) ** 2)
    if kind == "multilabel":
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype)))
    if kind == "question_answering":  # the mean of both ends'; (batch, length, 2) to (batch, 2, length)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits.swapaxes(1, 2), labels))
    if kind in ("tagging", "masked_lm"):
        there = labels >= 0
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(there, labels, 0))
        return jnp.sum(jnp.where(there, losses, 0)) / jnp.sum(there)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def errors(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> dict[str, float]:
    """By array: the largest difference, as a part of the reference's largest entry, or as it is where that is zero."""
    assert expected.keys() <= found.keys()
    far = {}
    for name, right in expected.items():
        assert found[name].shape == right.shape, name
        largest = np.abs(right).max()
        difference = np.abs(found[name].astype(np.float64) - right).max()
        difference = np.inf if np.isnan(difference) else difference
        far[name] = float(difference / (1 if largest < ZERO else largest))
    return far


def worst(far: Mapping[str, float]) -> tuple[float, str]:
    """The largest error and whose it is."""
    return max((error, name) for name, error in far.items())


def patch_dropout(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[tuple[tuple[int, ...], float]]]:
    """Puts the reference's masks in place of random ones; gives back what tells the sites (shape, rate) so far."""
    spec = importlib.util.spec_from_file_location("pattern", THIRD_PARTY / "make" / "pattern.py")
    assert spec is not None and spec.loader is not None
    pattern = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pattern)
    sites: list[tuple[tuple[int, ...], float]] = []

    def keep_mask(key: jax.Array, rate: float, shape: tuple[int, ...]) -> tuple[jax.Array, float]:
        sites.append((tuple(shape), rate))
        return jnp.asarray(pattern.keep_pattern(len(sites) - 1, tuple(shape), rate)), 1 - rate

    monkeypatch.setattr(layers, "keep_mask", keep_mask)
    return lambda: list(sites)
