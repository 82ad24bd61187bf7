"""Memory that runs out in a training step, and parameters in half precision: one sentence each, before or after."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from ml_collections import ConfigDict

from tlx.errors import TlxError, no_memory
from tlx.optim.groups import Group
from tlx.recipes.advice import half_precision
from tlx.recipes.memory import explained


def assignment_of(optimizer: str | None = None) -> Any:
    group = Group(1.0, 0.0, optimizer=optimizer)
    return SimpleNamespace(assigned={"a/kernel": "default", "b": "frozen"}, groups={"default": group})


def config_of(name: str = "adamw", eps: float | None = None) -> Any:
    return ConfigDict({"optimizer": {"name": name, "eps": eps}})


def test_adam_with_its_default_epsilon_makes_nan_in_float16_only() -> None:
    """What the refusal says, from optax: an entry whose gradient is 0."""
    for dtype, eps, finite in ((jnp.float16, 1e-8, False), (jnp.float16, 1e-4, True), (jnp.bfloat16, 1e-8, True)):
        w = jnp.ones(2, dtype)
        update, _ = (tx := optax.adam(1e-3, eps=eps)).update(jnp.zeros(2, dtype), tx.init(w), w)
        assert bool(jnp.isfinite(update).all()) == finite
        params = {"a": {"kernel": w}, "b": jnp.ones(2, jnp.float16)}
        if finite:
            (sentence,) = half_precision(config_of(eps=eps), assignment_of(), params)
            assert "1 trained parameters" in sentence and "a/kernel" in sentence
        else:
            with pytest.raises(TlxError, match="a/kernel is float16, and the epsilon of adamw"):
                half_precision(config_of(eps=eps), assignment_of(), params)
    assert half_precision(config_of(), assignment_of(), {"a": {"kernel": jnp.ones(2)}, "b": jnp.ones(2)}) == []
    assert len(half_precision(config_of(), assignment_of("lion"), params)) == 1


def test_an_update_below_a_512th_is_lost_in_bfloat16() -> None:
    for value in (1.0, 1.5, 1.99):
        w = jnp.asarray(value, jnp.bfloat16)
        assert w + (w * 0.99 / 512).astype(jnp.bfloat16) == w


@pytest.mark.parametrize(
    "error", [RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), MemoryError(), OSError(12, "x")]
)
def test_a_step_that_lacks_memory_says_what_it_needs(error: Exception) -> None:
    """The need is that of XLA's analysis: one state of 4,000,000 bytes in place, and a matrix product's temporary."""
    jitted = jax.jit(lambda state, batch: state + (batch @ batch).sum(), donate_argnums=0)

    def fails(*arguments: Any) -> Any:
        raise error

    fails.lower = jitted.lower  # type: ignore[attr-defined]
    with pytest.raises(TlxError, match=r"needs [0-9.]+ MiB \(7.6 MiB for state") as found:
        explained(fails, ())(jnp.ones((1000, 1000)), jnp.ones((1000, 1000)))
    assert "config.train.accumulate" in str(found.value) and "is available" in str(found.value)
    assert no_memory(ValueError("other")) is None
    with pytest.raises(ZeroDivisionError):
        explained(lambda *_: 1 // 0, ())(1, 2)
