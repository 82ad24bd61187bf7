"""Steps whose loss or gradient is not finite, against loops in NumPy that leave their updates out."""

import functools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlx.errors import TlxError
from tlx.methods.api import Carried, Context, Update
from tlx.optim.averages import ema
from tlx.optim.sharpness import sharpness_aware
from tlx.parallel.layout import make_layout
from tlx.training.checkpoint import Checkpoints
from tlx.training.diagnosis import make_diagnosis
from tlx.training.loop import LoopSchedule, fit
from tlx.training.means import Means
from tlx.training.non_finite import SkipLimit
from tlx.training.phases import Phase
from tlx.training.state import EVAL_PARAMS, State, init_state
from tlx.training.step import make_train_step
from tlx.training.writers import MetricsWriter, Progress, read_metrics

random = np.random.default_rng(0)
ROWS, WIDTH, STEPS = 6, 3, 12
X, Y = random.standard_normal((STEPS, ROWS, WIDTH)), random.standard_normal((STEPS, ROWS))
START = random.standard_normal(WIDTH)
OWNER = {"w": "model"}
KEY = jax.random.key(0)


def rate(step: Any) -> Any:
    return 0.1 / (1 + step)


def squares(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
    """A mean of squares. `kink` adds nothing to the loss, and an infinite slope where it is 1."""
    rows = batch["train"]
    total = ((rows["x"] @ params["w"] - rows["y"]) ** 2).sum()
    at = jnp.where(rows["kink"].max() > 0, 0.0 * params["w"].sum(), 1.0)
    total += jnp.sqrt(at) - jnp.sqrt(jax.lax.stop_gradient(at))
    return {"squares": (total, rows["valid"].sum())}, Carried({"seen": carried.method["seen"] + rows["x"].sum()})


def batch_of(step: int, nan: Any = (), kink: Any = ()) -> Any:
    x = X[step].copy()
    x[2, 1] = np.nan if step in nan else x[2, 1]
    return {
        "train": {
            "x": x, "y": Y[step], "valid": np.ones(ROWS), "kink": np.full(ROWS, float(step in kink)),
            "example_id": np.arange(ROWS) + ROWS * step,
        }
    }  # fmt: skip


def method(*updates: Update) -> Any:
    return SimpleNamespace(updates=updates)


ONE = method(Update(squares, ("model",)))


def start(optimizer: Any, averaged: bool = False) -> State:
    return init_state({"w": jnp.asarray(START)}, OWNER, {"model": optimizer}, {"seen": jnp.zeros(())}, averaged)


def slope(w: np.ndarray, step: int) -> np.ndarray:
    return 2 * X[step].T @ (X[step] @ w - Y[step]) / ROWS


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("kind", ["nan", "kink"])
def test_skipped_updates_leave_no_trace(x64: None, kind: str, parts: int) -> None:
    """Momentum at the rate of the run's step, clipped, with an average; a NaN in a feature, or an infinite gradient."""
    bad = (0, 4, 5, 11)
    optimizer = optax.sgd(rate, momentum=0.9)

    def update(gradient: Any, state: Any, params: Any, *, step: Any, **_: Any) -> Any:
        trace = gradient["w"] + 0.9 * state
        return {"w": -rate(step) * trace}, trace

    optimizer = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(WIDTH), update)
    step = jax.jit(
        make_train_step(ONE, {"model": optimizer}, OWNER, clip=0.5, average=ema(0.9, False), accumulate=parts)
    )
    state = start(optimizer, averaged=True)
    w, trace, mean, seen, in_a_row = START.copy(), np.zeros(WIDTH), START.copy(), 0.0, 0
    for index in range(STEPS):
        before = jax.device_get((state.params, state.opt_state, state.method_state, state.averages))
        state, metrics = step(state, batch_of(index, **{kind: bad}), KEY)
        assert int(metrics["skipped"]) == (index in bad)
        in_a_row = in_a_row + 1 if index in bad else 0
        assert (int(state.step), int(state.skipped_in_a_row)) == (index + 1, in_a_row)
        if index in bad:
            after = jax.device_get((state.params, state.opt_state, state.method_state, state.averages))
            assert all(map(np.array_equal, jax.tree.leaves(before), jax.tree.leaves(after)))
            assert np.isfinite(metrics["loss"]) == (kind == "kink") and not np.isfinite(metrics["gradient_norm"])
            continue
        g = slope(w, index)
        trace = g * min(1.0, 0.5 / np.linalg.norm(g)) + 0.9 * trace
        w = w - rate(index) * trace
        mean, seen = 0.9 * mean + 0.1 * w, seen + X[index].sum()
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-9)
    np.testing.assert_allclose(state.averages[EVAL_PARAMS]["w"], mean, rtol=1e-9)
    np.testing.assert_allclose(state.method_state["seen"], seen, rtol=1e-9)


@pytest.mark.parametrize("options", [{"perturbation": sharpness_aware(0.1)}, {"penalty": lambda w, _: w["w"].sum()}])
def test_with_sam_and_with_a_penalty(x64: None, options: Any) -> None:
    """The run with two bad steps has the bits of the run to which these steps only count."""
    step = jax.jit(make_train_step(ONE, {"model": optax.adam(0.1)}, OWNER, clip=0.5, **options))
    ends = []
    for bad in ((1, 3), ()):
        state = start(optax.adam(0.1))
        for index in range(5):
            if not bad and index in (1, 3):
                state = state.replace(step=state.step + 1)
            else:
                state, _ = step(state, batch_of(index, bad), KEY)
        ends.append(state.replace(skipped_in_a_row=jnp.zeros(())))
    assert all(map(np.array_equal, jax.tree.leaves(ends[0]), jax.tree.leaves(ends[1])))
    assert not np.array_equal(ends[0].params["w"], START)


def test_each_update_of_a_step_decides_for_itself(x64: None) -> None:
    """The first update is bad at step 1, the second, which comes twice, is not; the step counts as skipped."""

    def shrink(params: Any, batch: Any, carried: Carried, context: Context) -> Any:
        return {"shrink": (0.5 * (params["w"] ** 2).sum(), jnp.ones(()))}, carried

    updates = method(Update(squares, ("model",), "fit"), Update(shrink, ("model",), "shrink", repeat=2))
    step = jax.jit(make_train_step(updates, {"model": optax.sgd(0.1)}, OWNER))
    state, w = start(optax.sgd(0.1)), START
    for index in range(3):
        state, metrics = step(state, batch_of(index, (1,)), KEY)
        assert int(metrics["skipped"]) == int(state.skipped_in_a_row) == (index == 1)
        w = (w if index == 1 else w - 0.1 * slope(w, index)) * 0.81
        np.testing.assert_allclose(state.params["w"], w, rtol=1e-12)


def test_after_too_many_the_state_stays(x64: None) -> None:
    """Two may be skipped: the third in a row stops all updates, so that the loop finds the state before them."""
    step = jax.jit(make_train_step(ONE, {"model": optax.sgd(0.1)}, OWNER, max_skipped=2))
    state = start(optax.sgd(0.1))
    for index in range(8):
        state, _ = step(state, batch_of(index, (0, 1, 3, 4, 5)), KEY)
    np.testing.assert_allclose(state.params["w"], START - 0.1 * slope(START, 2), rtol=1e-12)
    assert int(state.skipped_in_a_row) == 5


def test_means_are_over_the_steps_that_counted() -> None:
    pending: Any = [{"loss": np.float32(v), "skipped": np.int32(v != v or v == 9)} for v in (1, np.nan, 9, 2)]

    def means(metrics: Any, stopped_after: int = 0) -> dict[str, float]:
        kept = Means()
        for values in metrics[:stopped_after]:
            kept.add(dict(values))
        kept = Means(json.loads(json.dumps(kept.record())))
        for values in metrics[stopped_after:]:
            kept.add(dict(values))
        return kept.take()

    for stopped_after in range(4):
        assert means(pending, stopped_after) == {"train/loss": 1.5, "train/skipped": 2.0}
    assert means(pending[::3]) == {"train/loss": 1.5}
    assert means(pending[1:3]) == {"train/skipped": 2.0}


def run(folder: Path, nan: Any, most: int, total: int = STEPS, stop: int | None = None) -> State:
    folder.mkdir(exist_ok=True)
    optimizers = {"model": optax.adam(0.1)}
    step = make_train_step(ONE, optimizers, OWNER, max_skipped=most)
    jitted, diagnose = jax.jit(step), jax.jit(make_diagnosis(step))
    phase = Phase(0, lambda s: s, lambda s, b: jitted(s, b, KEY), diagnose=lambda s, b: diagnose(s, b, KEY))
    layout = make_layout(1)
    schedule = LoopSchedule(total, 4, ROWS, evaluate_every=3, log_every=4, monitor="validation/w", mode="max")
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state, _ = fit(
            jax.device_put(start(optimizers["model"]), layout.replicated), [phase],
            lambda first: (batch_of(index, nan) for index in range(first, total)), lambda _: {"validation/w": 0.0},
            layout=layout, schedule=schedule, checkpoints=checkpoints,
            writer=functools.partial(MetricsWriter, folder),
            progress=lambda first: Progress("test", total, first, quiet=True), learning_rate=lambda _: 0.1, meta={},
            skip_limit=SkipLimit(most, folder / "non_finite.json"),
            after_step=None if stop is None else lambda index, _: index == stop,
        )  # fmt: skip
    return jax.device_get(state)


def test_a_run_stops_with_a_report(tmp_path: Path) -> None:
    """Steps 5 to 7 are bad and two may be. A run stopped within them counts on, and stops at the same step."""
    for folder, stop in ((tmp_path / "whole", None), (tmp_path / "resumed", 7)):
        if stop is not None:
            run(folder, (4, 5, 6), 2, stop=stop)
            assert not (folder / "non_finite.json").exists()
        with pytest.raises(TlxError, match=r"steps 5 to 7 is not finite.*newest checkpoint is that of step 6") as ended:
            run(folder, (4, 5, 6), 2)
        assert str(folder / "non_finite.json") in str(ended.value) and "train/x" in str(ended.value)
        report = json.loads((folder / "non_finite.json").read_text())
        assert report["step"] == 7 and report["skipped_steps"] == [5, 7] and report["newest_checkpoint"] == 6
        assert report["examples"] == {"train": list(range(36, 42))}
        assert report["batch"]["not_finite"][0]["path"] == "train/x"
        assert report["batch"]["not_finite"][0]["not_finite"] == 1
        found = report["updates"]["update"]
        assert found["losses"] == {"squares": "nan"} and found["gradients"]["not_finite"][0]["path"] == "w"
    assert [line.get("train/skipped") for line in read_metrics(tmp_path / "whole") if "train/loss" in line][:1] == [
        None
    ]


def test_a_run_that_recovers_ends_as_if_the_steps_were_left_out(tmp_path: Path) -> None:
    state = run(tmp_path / "a", (4, 5), 2)
    step, expected = jax.jit(make_train_step(ONE, {"model": optax.adam(0.1)}, OWNER)), start(optax.adam(0.1))
    for index in [index for index in range(STEPS) if index not in (4, 5)]:
        expected, _ = step(expected.replace(step=jnp.asarray(index, jnp.int32)), batch_of(index), KEY)
    np.testing.assert_allclose(state.params["w"], expected.params["w"], rtol=1e-6)
    assert sum(line.get("train/skipped", 0) for line in read_metrics(tmp_path / "a")) == 2
