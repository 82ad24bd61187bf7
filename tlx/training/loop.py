"""The training loop: trains, evaluates, saves checkpoints, stops early, and resumes an interrupted run."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tlx.models.forward import Variables
from tlx.parallel.layout import Layout
from tlx.training.checkpoint import Checkpoints
from tlx.training.non_finite import SkipLimit, means
from tlx.training.phases import Phase, phase_of, state_in, steps_of
from tlx.training.state import State
from tlx.training.step import Metrics
from tlx.training.writers import Progress, Writer

AfterStep = Callable[[int, Metrics], bool | None]


@dataclasses.dataclass(frozen=True)
class LoopSchedule:
    """When the loop evaluates, logs and stops.

    Attributes:
      total: number of steps of the run.
      steps_per_epoch: number of steps of an epoch.
      examples_per_step: number of examples of a step.
      evaluate_every: number of steps between evaluations, each of which also saves a checkpoint.
      log_every: number of steps between two writes of training metrics.
      monitor: name of the metric that selects the best checkpoint.
      mode: "max" or "min", whether a larger or a smaller metric is better.
      patience: number of evaluations without improvement that end the run; None: no early stopping.
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
    """The loop's record, which is saved with the state.

    Attributes:
      best: `{"step": …, "value": …}` of the best evaluation; None before the first evaluation.
      stale: number of evaluations since the best.
      finished: whether the run has ended.
      seconds: time spent in the loop, in seconds.
    """

    best: Mapping[str, float] | None = None
    stale: int = 0
    finished: bool = False
    seconds: float = 0.0

    def after(self, step: int, value: float, mode: str) -> "Progressed":
        """Returns the record after one more evaluation. An equal value is not better, and NaN is never better."""
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
    skip_limit: SkipLimit | None = None,
) -> tuple[State, Progressed]:
    """Trains to the end of the schedule, from the newest checkpoint if there is one.

    Args:
      state: the initial state; a restored state has its shapes and dtypes.
      phases: the phases in order; the first begins at step 0. Their functions are jitted, and the steps donate their
        state.
      batches: a function from a step to the batches from that step on.
      evaluate: a function from the model's variables (averaged if the run averages) to metrics by name.
      layout: the placement of the state on the devices.
      schedule: when to evaluate, log and stop.
      checkpoints: where states are saved.
      writer: a function from the first step to the writer of metrics.
      progress: a function from the first step to the progress display.
      learning_rate: a function from the step to the learning rate, for the log.
      meta: JSON values that are saved with each checkpoint.
      after_step: a function that is called with the number of finished steps and the metrics of the last step, on the
        device. If it returns True, the run ends before this step is logged, evaluated or saved.
      skip_limit: stops the run after too many skipped steps in a row; None: no limit.

    Returns:
      The last state, and the loop's record with the best step.

    Raises:
      TlxError: if more steps in a row are skipped than `skip_limit` allows, or the newest checkpoint cannot be
        restored.
    """
    progressed, start = Progressed(), 0
    if (newest := checkpoints.newest()) is not None:
        progressed, start = Progressed(**checkpoints.meta(newest)["loop"]), newest
        state = checkpoints.restore(newest, layout.abstract(state_in(phases[: phase_of(phases, newest) + 1], state)))
    if progressed.finished:
        return state, progressed
    metrics_writer, display = writer(start), progress(start)
    pending: list[Metrics] = []
    clock = logged = time.perf_counter()
    try:
        for step, (phase, batch) in enumerate(steps_of(phases, batches, start, schedule.total), start + 1):
            done = step - 1 - phase.first
            if done == 0 and phase.first > 0:
                if skip_limit is not None:
                    skip_limit.check(step - 1, state, phases, batches, checkpoints, layout)
                state = phase.enter(state)
            if phase.before_epoch is not None and done % schedule.steps_per_epoch == 0:
                state = phase.before_epoch(state, done // schedule.steps_per_epoch)
            state, metrics = phase.step(state, batch)
            if after_step is not None and after_step(step, metrics):
                break
            pending.append(metrics)
            last = step == schedule.total
            if step % schedule.log_every == 0 or last or step % schedule.evaluate_every == 0:
                logged_means = means(pending)
                now = time.perf_counter()
                rate = len(pending) * schedule.examples_per_step / (now - logged)
                training = {"train/learning_rate": float(learning_rate(step - 1)), "train/examples_per_s": rate}
                metrics_writer.write(step, {**logged_means, **training})
                display.step(step, logged_means.get("train/loss"), rate)
                if skip_limit is not None:
                    skip_limit.check(step, state, phases, batches, checkpoints, layout)
                pending = []
            if step % schedule.evaluate_every == 0 or last:
                if phase.recalibrate is not None:
                    state = phase.recalibrate(state, (phase.batches or batches)(0))
                values = evaluate(state.with_eval_params().variables)
                progressed = progressed.after(step, values[schedule.monitor], schedule.mode)
                stop = last or (schedule.patience is not None and progressed.stale >= schedule.patience)
                now = time.perf_counter()
                progressed = dataclasses.replace(progressed, finished=stop, seconds=progressed.seconds + now - clock)
                clock = now
                metrics_writer.write(step, values)
                epoch = step / schedule.steps_per_epoch
                display.evaluated(step, epoch, schedule.monitor, values[schedule.monitor], progressed.stale == 0)
                record = {"phase": phases.index(phase), "loop": dataclasses.asdict(progressed), "best": progressed.best}
                checkpoints.save(state, {**meta, **record})
                if stop:
                    break
            logged = time.perf_counter() if not pending else logged
    finally:
        display.close()
        metrics_writer.close()
    return state, progressed
