"""A batch whose rows have different adapters, against the plain model with each row's kernels changed by hand."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.adapters.test_lora import LORAS, by_hand, logits, plain
from tlx.adapters.model import LoraModel, add_lora, merge_lora
from tlx.errors import TlxError
from tlx.models.heads import Head
from tlx.params.paths import flatten, unflatten

TASKS = ("colour", "shape", "size")
ROWS = (2, 0, 2)  # the adapter of each row; none has the second


def model_of(spec: str, name: str = "bert/plain") -> tuple[Any, Any, Any]:
    """A model with an adapter of each task, none of which is zero."""
    model, params, inputs = plain(name, jnp.float64)
    for task in TASKS:
        model, params = add_lora(model, params, dataclasses.replace(LORAS[spec][0], name=task))
    random = np.random.default_rng(0)
    moved = {path: jnp.asarray(random.normal(0, 0.3, leaf.shape)) for path, leaf in flatten(params["adapters"]).items()}
    assert isinstance(model, LoraModel)
    return model.clone(by_row=True), {**params, "adapters": unflatten(moved)}, inputs


@pytest.mark.long
@pytest.mark.parametrize("spec", LORAS)
def test_each_row_has_its_own_adapter(spec: str, x64: None) -> None:
    """In the answers; and in the gradients, which are those of each row by itself. The middle adapter has none."""
    lora, scale = LORAS[spec]
    model, params, inputs = model_of(spec)
    base, weights = plain("bert/plain", jnp.float64)[0], jnp.asarray([1.0, -2.0, 0.5])
    adapter = jnp.asarray(ROWS)
    found = jax.jit(lambda own: logits(model, own, inputs, adapter=adapter))(params)
    names = [TASKS[place] for place in ROWS]
    for row, name in enumerate(names):
        hand = by_hand(params, dataclasses.replace(lora, name=name), scale)
        np.testing.assert_allclose(found[row], logits(base, hand, inputs)[row], rtol=0, atol=1e-12)

    def total(own: Any) -> Any:
        return (weights[:, None] * logits(model, {**params, "adapters": own}, inputs, adapter=adapter)).sum()

    def alone(own: Any, name: str) -> Any:
        """The rows of one adapter, by the model that has no other active one."""
        answers = logits(model.clone(active=(name,)), {**params, "adapters": own}, inputs)
        return (jnp.asarray([one == name for one in names]) * weights) @ answers.sum(axis=1)

    gradient = jax.jit(jax.grad(total))(params["adapters"])
    for name in TASKS:
        own = flatten(jax.jit(jax.grad(alone), static_argnums=1)(params["adapters"], name)[name])
        for path, leaf in flatten(gradient[name]).items():
            np.testing.assert_allclose(leaf, own[path], rtol=0, atol=1e-11)
            assert (np.abs(leaf).max() > 1e-4) == (name in names)


def test_the_texts_of_a_choice_have_their_rows_adapter(x64: None) -> None:
    model, params, inputs = model_of("query and value")
    kernel = params["heads"]["default"]["output"]
    heads = {"default": {"output": {name: leaf[..., :1] for name, leaf in kernel.items()}}}
    params = {**params, "heads": heads}
    model = model.clone(heads_by_name=(("default", Head("multiple_choice", 1)),))
    inputs = {name: jnp.stack([leaf, leaf[::-1]], axis=1) for name, leaf in inputs.items()}  # (3, 2, length)
    found = logits(model, params, inputs, adapter=jnp.asarray(ROWS))
    for row, place in enumerate(ROWS):
        expected = logits(model.clone(active=(TASKS[place],)), params, inputs)
        np.testing.assert_allclose(found[row], expected[row], rtol=0, atol=1e-12)


def test_one_adapter_alone_is_merged(x64: None) -> None:
    model, params, inputs = model_of("query and value")
    alone = model.clone(active=("shape",))
    merged_model, merged = merge_lora(alone, params)
    np.testing.assert_allclose(logits(merged_model, merged, inputs), logits(alone, params, inputs), rtol=0, atol=1e-12)


def test_a_row_has_to_say_which(x64: None) -> None:
    """Nor can all adapters be merged, or differ in more than their names."""
    model, params, inputs = model_of("query and value")
    with pytest.raises(TlxError, match=r"take one of them with model\.clone"):
        merge_lora(model, params)
    loras = (model.loras[0], dataclasses.replace(model.loras[1], alpha=1.0), model.loras[2])
    with pytest.raises(TlxError, match="their settings differ"):
        logits(model.clone(loras=loras), params, inputs, adapter=jnp.asarray(ROWS))
    with pytest.raises(TlxError, match="gets 3 rows, and 2 say which"):
        logits(model, params, inputs, adapter=jnp.asarray(ROWS[:2]))
    with pytest.raises(TlxError, match=r"one of the adapters colour, shape, size; take.* Or give the input"):
        logits(model, params, inputs)
