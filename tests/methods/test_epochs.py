"""Two streams, pseudo-labels computed anew before each epoch, phases of different methods; stopped and resumed.

Against a loop in NumPy, in float64: logistic regression on a source, then on a target's pseudo-labels too.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlx.methods.api import Carried, Context, Update
from tlx.parallel.layout import make_layout
from tlx.training.checkpoint import Checkpoints
from tlx.training.loop import LoopSchedule, fit
from tlx.training.phases import Phase
from tlx.training.state import State, init_state
from tlx.training.step import make_train_step
from tlx.training.writers import MetricsWriter, Progress, read_metrics

WIDTH, SIZE, BATCH, EPOCH = 3, 12, 4, 3  # rows of each stream; three batches are an epoch
SECOND, TOTAL, RATE = 4, 13, 0.3  # the second phase begins within the first one's second epoch
random = np.random.default_rng(2)
X = {name: random.standard_normal((SIZE, WIDTH)) for name in ("source", "target")}
Y = (X["source"] @ np.array([1.0, -2.0, 0.5]) > 0).astype(float)
OWNER = {"w": "model"}
OPTIMIZERS = {"model": optax.sgd(RATE, momentum=0.9)}


def rows(stream: str, step: int) -> np.ndarray:
    return np.random.default_rng((len(stream) + (stream == "source"), step)).permutation(SIZE)[:BATCH]


def batches(streams: tuple[str, ...], start: int) -> Iterator[Any]:
    for step in range(start, TOTAL):
        yield {
            name: {"x": X[name][rows(name, step)], "y": Y[rows(name, step)], "position": rows(name, step)}
            for name in streams
        }


def loss(logits: Any, y: Any) -> Any:
    return (jnp.logaddexp(0.0, logits) - y * logits).sum(), jnp.asarray(float(BATCH))


def on_source(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
    return {"source": loss(batch["source"]["x"] @ params["w"], batch["source"]["y"])}, carried


def on_both(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
    target = batch["target"]
    pseudo = carried.method["labels"][target["position"]]
    losses, carried = on_source(params, batch, carried, context)
    return {**losses, "target": loss(target["x"] @ params["w"], pseudo)}, carried


def relabel(state: State, epoch: int) -> State:
    """Soft labels, so that no two parameters have the same."""
    labels = jax.nn.sigmoid(jnp.asarray(X["target"]) @ state.params["w"])
    return state.replace(method_state={"labels": labels, "epoch": jnp.asarray(epoch)})  # type: ignore[attr-defined]


def phases() -> list[Phase]:
    def step(losses: Any, name: str) -> Any:
        method: Any = SimpleNamespace(updates=(Update(losses, ("model",), name=name),))
        return functools.partial(jax.jit(make_train_step(method, OPTIMIZERS, OWNER)), key=jax.random.key(0))

    both = functools.partial(batches, ("source", "target"))
    return [
        Phase(0, lambda state: state, step(on_source, "source")),
        Phase(SECOND, lambda state: state, step(on_both, "adapt"), batches=both, before_epoch=relabel),
    ]


class Stopped(Exception):
    """As a kill would end the run."""


def run(workdir: Path, stop_before: int | None = None, after_step: Any = None) -> State:
    made = phases()
    if stop_before is not None:

        def stopping(step: Any) -> Any:
            def stepped(state: State, batch: Any) -> Any:
                if int(state.step) == stop_before:
                    raise Stopped
                return step(state, batch)

            return stepped

        made = [Phase(p.first, p.enter, stopping(p.step), p.batches, p.before_epoch) for p in made]
    start = {"labels": jnp.zeros(SIZE), "epoch": jnp.asarray(-1)}
    state = jax.device_put(init_state({"w": jnp.zeros(WIDTH)}, OWNER, OPTIMIZERS, start), jax.devices()[0])
    schedule = LoopSchedule(TOTAL, EPOCH, BATCH, evaluate_every=2, log_every=2, monitor="validation/w", mode="max")
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state, _ = fit(
            state, made, functools.partial(batches, ("source",)), lambda params: {"validation/w": 0.0},
            layout=make_layout(1), schedule=schedule, checkpoints=checkpoints,
            writer=functools.partial(MetricsWriter, workdir),
            progress=lambda start: Progress("test", TOTAL, start, quiet=True), learning_rate=lambda step: RATE, meta={},
            after_step=after_step,
        )  # fmt: skip
    return jax.device_get(state)


def by_hand() -> tuple[np.ndarray, np.ndarray]:
    w, trace, labels = np.zeros(WIDTH), np.zeros(WIDTH), np.zeros(SIZE)
    for step in range(TOTAL):
        if step >= SECOND and (step - SECOND) % EPOCH == 0:
            labels = 1 / (1 + np.exp(-X["target"] @ w))
        at = rows("source", step)
        gradient = X["source"][at].T @ (1 / (1 + np.exp(-X["source"][at] @ w)) - Y[at]) / BATCH
        if step >= SECOND:
            at = rows("target", step)
            gradient += X["target"][at].T @ (1 / (1 + np.exp(-X["target"][at] @ w)) - labels[at]) / BATCH
        trace = gradient + 0.9 * trace
        w = w - RATE * trace
    return w, labels


def test_against_numpy_and_over_stops(x64: None, tmp_path: Path) -> None:
    """Stopped in the first phase, in the middle of an epoch of pseudo-labels, and at an epoch's border."""
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole")
    w, labels = by_hand()
    np.testing.assert_allclose(whole.params["w"], w, rtol=1e-9)
    np.testing.assert_allclose(whole.method_state["labels"], labels, rtol=1e-9)
    assert int(whole.method_state["epoch"]) == 2
    (tmp_path / "stopped").mkdir()
    for stop in (3, 4, 9, 10):  # checkpoints stand at 2, 4, 8 and 10; 4 and 10 are borders of a phase and of an epoch
        with pytest.raises(Stopped):
            run(tmp_path / "stopped", stop)
    again = run(tmp_path / "stopped")
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_hook_sees_every_step_and_ends_the_run(x64: None, tmp_path: Path) -> None:
    """It ends the run at a step at which the loop would have logged, evaluated and saved."""
    seen: list[tuple[int, float]] = []

    def hook(step: int, metrics: Any) -> bool:
        seen.append((step, float(metrics["loss"])))
        return step == 6

    state = run(tmp_path, after_step=hook)
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6] and int(state.step) == 6
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines if "train/loss" in line] == [2, 4]
    assert lines[0]["train/loss"] == pytest.approx((seen[0][1] + seen[1][1]) / 2, rel=1e-5)
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.newest() == 4
