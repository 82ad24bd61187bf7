"""Memory that runs out in a training step, and parameters in half precision: one sentence each, before or after."""

import subprocess
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from ml_collections import ConfigDict

from tlx.errors import TlxError, no_memory
from tlx.optim.groups import Group
from tlx.recipes import inspect, memory
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


@pytest.mark.parametrize("dtype", [jnp.float16, pytest.param(jnp.bfloat16, marks=pytest.mark.long)])
def test_inspect_gives_the_same_advice(dtype: Any, config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model whose module makes such parameters; those of a config alone are float32."""
    right = inspect.abstract_params

    def abstract_params(model: Any) -> Any:
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), right(model))

    monkeypatch.setattr(inspect, "abstract_params", abstract_params)
    if dtype == jnp.float16:
        with pytest.raises(TlxError, match=r"is float16, and the epsilon of adamw \(1e-08\) is 0"):
            inspect.inspect(config)
    else:
        assert "trained parameters are bfloat16" in inspect.inspect(config).advice[0]


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
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        explained(fails, ())(jnp.ones((1000, 1000)), jnp.ones((1000, 1000)))


def test_what_a_step_needs_is_known_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sorted copy of 4,000,000 bytes, in addition to a state and a batch of as many; and one compilation."""
    compiled = []

    def count(event: str, _: float, **__: Any) -> None:
        compiled.extend([event] if event == "/jax/core/compile/backend_compile_duration" else [])

    def step(state: Any, batch: Any) -> Any:
        return state + jnp.sort(batch.ravel()).reshape(batch.shape).T

    state, batch = jnp.zeros((1000, 1000)), jnp.ones((1000, 1000))
    devices = len(jax.local_devices())
    jax.block_until_ready((state, batch))
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            stepped = explained(jax.jit(step, donate_argnums=0), ())
            result = stepped(stepped(state, batch), batch)
        assert len(compiled) == 1 and float(result[0, 0]) == 2
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    need = memory.need_of(jax.jit(step, donate_argnums=0), (batch, batch))
    assert need.kept == 8_000_000 and 4_000_000 <= need.temporary <= need.new < 4_100_000
    monkeypatch.setattr(memory, "available", lambda: devices * need.new - 1)
    with pytest.warns(UserWarning, match=r"needs .* MiB beside state and batch, and .* is available now"):
        explained(jax.jit(step), ())(batch, batch)
    monkeypatch.setattr(memory, "capacity", lambda: devices * (need.kept + need.new) - 1)
    with pytest.raises(
        TlxError, match=r"does not fit into memory: it needs 1[12].[0-9] MiB .* on each of 8 devices, and .*all"
    ):
        explained(jax.jit(step, donate_argnums=0), ())(batch, batch)
    assert float(batch[0, 0]) == 1.0  # nothing ran


def test_the_limits_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import resource as r, mmap; from tlx.files.memory import available, capacity; r.setrlimit(r.RLIMIT_{0}, "
        "(8 << 30, -1)); before = available(); kept = mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE); "
        "print(capacity(), before, before - available())"
    )
    for kind in ("AS", "DATA"):
        told = subprocess.run([sys.executable, "-c", code.format(kind)], capture_output=True, text=True, check=True)
        most, left, taken = map(int, told.stdout.split())
        assert most == 8 << 30 and 7 << 30 < left < 8 << 30 and taken == pytest.approx(1 << 30, rel=0.01), kind
