"""THE loop. It steps, evaluates, keeps the best, stops early, saves, and goes on after a stop from where it was."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from tlx.errors import TlxError
from tlx.models.forward import Variables
from tlx.parallel.layout import Layout
from tlx.training.checkpoint import Checkpoints
from tlx.training.phases import Phase, phase_of, state_in, steps_of
from tlx.training.state import State
from tlx.training.step import Metrics
from tlx.training.writers import Progress, Writer

AfterStep = Callable[[int, Metrics], bool | None]


@dataclasses.dataclass(frozen=True)
class LoopSchedule:
    """When the loop does what, in steps.

    total: of the run. evaluate_every: also when it saves. log_every: of training metrics. patience: how many
    evaluations without a better metric end the run; None: never. monitor: what decides; mode: `max` or `min` of it.
    """

    total: int
    steps_per_epoch: int
    examples_per_step: int
    evaluate_every: int
    log_every: int
    monitor: str
    mode: str
    patience: int | None = None


@dataclasses.dataclass(frozen=True)
class Progressed:
    """What the loop remembers besides the state; saved with it. best: `{"step", "value"}`; stale: evaluations since."""

    best: Mapping[str, float] | None = None
    stale: int = 0
    finished: bool = False
    seconds: float = 0.0

    def after(self, step: int, value: float, mode: str) -> "Progressed":
        """With one evaluation more. A tie is not better; NaN never is."""
        sign = 1 if mode == "max" else -1
        better = not math.isnan(value) and (self.best is None or sign * value > sign * self.best["value"])
        if better:
            return dataclasses.replace(self, best={"step": step, "value": value}, stale=0)
        return dataclasses.replace(self, stale=self.stale + 1)


def fit(
    state: State,
    phases: Sequence[Phase],
    batches: Callable[[int], Iterator[Any]],
    evaluate: Callable[[Variables], dict[str, float]],
    *,
    layout: Layout,
    schedule: LoopSchedule,
    checkpoints: Checkpoints,
    writer: Callable[[int], Writer],
    progress: Callable[[int], Progress],
    learning_rate: Callable[[int], Any],
    meta: Mapping[str, Any],
    after_step: AfterStep | None = None,
) -> tuple[State, Progressed]:
    """Trains to the end of the schedule, from the newest checkpoint if there is one.

    Args:
      state: before the first step; shapes and dtypes of what is restored.
      phases: in order, the first from step 0 on; jitted, the steps donate their state.
      batches: the batches from a step on.
      evaluate: what the model is run with (averaged, where an average is kept) to metrics by name.
      layout: where the state lies.
      schedule: when to do what.
      checkpoints: where the state goes.
      writer, progress: made once it is known at which step the run goes on.
      learning_rate: by step, for the log.
      meta: saved with each checkpoint.
      after_step: given how many steps have been taken and the metrics of the last, on the device; True ends the run
        there, before it is logged, evaluated or saved.

    Returns:
      The last state, and what the loop remembers (the best step among it).
    """
    so_far, start = Progressed(), 0
    if (newest := checkpoints.newest()) is not None:
        so_far, start = Progressed(**checkpoints.meta(newest)["loop"]), newest
        state = checkpoints.restore(newest, layout.abstract(state_in(phases[: phase_of(phases, newest) + 1], state)))
    if so_far.finished:
        return state, so_far
    writing, showing = writer(start), progress(start)
    pending: list[Metrics] = []
    clock = logged = time.perf_counter()
    try:
        for step, (phase, batch) in enumerate(steps_of(phases, batches, start, schedule.total), start + 1):
            done = step - 1 - phase.first
            if done == 0 and phase.first > 0:
                state = phase.enter(state)
            if phase.before_epoch is not None and done % schedule.steps_per_epoch == 0:
                state = phase.before_epoch(state, done // schedule.steps_per_epoch)
            state, metrics = phase.step(state, batch)
            if after_step is not None and after_step(step, metrics):
                break
            pending.append(metrics)
            last = step == schedule.total
            if step % schedule.log_every == 0 or last or step % schedule.evaluate_every == 0:
                means = _means(pending)
                now = time.perf_counter()
                rate = len(pending) * schedule.examples_per_step / (now - logged)
                writing.write(
                    step, {**means, "train/learning_rate": float(learning_rate(step - 1)), "train/examples_per_s": rate}
                )
                showing.step(step, means["train/loss"], rate)
                _refuse_nan(step, means["train/loss"])
                pending = []
            if step % schedule.evaluate_every == 0 or last:
                if phase.recalibrate is not None:
                    state = phase.recalibrate(state, (phase.batches or batches)(0))
                values = evaluate(state.with_eval_params().variables)
                so_far = so_far.after(step, values[schedule.monitor], schedule.mode)
                stop = last or (schedule.patience is not None and so_far.stale >= schedule.patience)
                now = time.perf_counter()
                so_far = dataclasses.replace(so_far, finished=stop, seconds=so_far.seconds + now - clock)
                clock = now
                writing.write(step, values)
                epoch = step / schedule.steps_per_epoch
                showing.evaluated(step, epoch, schedule.monitor, values[schedule.monitor], so_far.stale == 0)
                where = {"phase": phases.index(phase), "loop": dataclasses.asdict(so_far), "best": so_far.best}
                checkpoints.save(state, {**meta, **where})
                if stop:
                    break
            logged = time.perf_counter() if not pending else logged
    finally:
        showing.close()
        writing.close()
    return state, so_far


def _means(pending: list[Metrics]) -> dict[str, float]:
    """Means over the steps since the last log, under `train/`; of a metric that some steps lack, over the others."""
    fetched = jax.device_get(pending)
    names = dict.fromkeys(name for metrics in fetched for name in metrics)
    values = {name: [metrics[name] for metrics in fetched if name in metrics] for name in names}
    return {f"train/{name}": float(sum(given) / len(given)) for name, given in values.items()}


def _refuse_nan(step: int, loss: float) -> None:
    if math.isnan(loss):
        raise TlxError(f"the training loss is NaN by step {step}; lower the learning rate, clip, or look at the data.")
