"""The training loop: trains, evaluates, saves checkpoints, stops early or after a signal, and resumes a stopped run."""

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tlx.allocator import give_back
from tlx.models.forward import Variables
from tlx.parallel.layout import Layout
from tlx.parallel.processes import Agreement
from tlx.signals import Stop, deferred, requested
from tlx.training.checkpoint import Checkpoints
from tlx.training.fallback import resume
from tlx.training.means import Means
from tlx.training.non_finite import SkipLimit
from tlx.training.phases import Phase, phase_of, state_in, steps_of
from tlx.training.saves import Saves, SaveSchedule
from tlx.training.state import State
from tlx.training.step import Metrics
from tlx.training.writers import Progress, Writer

AfterStep = Callable[[int, Metrics], bool | None]
SAVE, STOP = 1, 1000  # requests to all processes: to save, and to save and stop; a signal's number is added to STOP


@dataclasses.dataclass(frozen=True)
class LoopSchedule:
    """When the loop evaluates, logs, saves and stops.

    Attributes:
      total: number of steps of the run.
      steps_per_epoch: number of steps of an epoch.
      examples_per_step: number of examples of a step.
      evaluate_every: number of steps between evaluations.
      log_every: number of steps between two writes of training metrics.
      monitor: name of the metric that selects the best checkpoint.
      mode: "max" or "min", whether a larger or a smaller metric is better.
      patience: number of evaluations without improvement that end the run; None: no early stopping.
      saves: when checkpoints are saved.
      by_task: the metric of each task of a run of several, a larger one being better. The checkpoint that is best by it
        is kept too.
    """

    total: int
    steps_per_epoch: int
    examples_per_step: int
    evaluate_every: int
    log_every: int
    monitor: str
    mode: str
    patience: int | None = None
    saves: SaveSchedule = dataclasses.field(default_factory=SaveSchedule)
    by_task: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Progressed:
    """The loop's record, which is saved with the state.

    Attributes:
      best: `{"step": …, "value": …}` of the best evaluation; None before the first evaluation.
      stale: number of evaluations since the best.
      finished: whether the run has ended.
      seconds: time spent in the loop, in seconds.
      by_task: `best` for each task's own metric, of a run of several tasks.
    """

    best: Mapping[str, float] | None = None
    stale: int = 0
    finished: bool = False
    seconds: float = 0.0
    by_task: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    def after(self, step: int, value: float, mode: str) -> "Progressed":
        """Returns the record after one more evaluation. An equal value is not better, and NaN is never better."""
        if _better(value, self.best, mode):
            return dataclasses.replace(self, best={"step": step, "value": value}, stale=0)
        return dataclasses.replace(self, stale=self.stale + 1)

    def after_tasks(self, step: int, values: Mapping[str, float]) -> "Progressed":
        """Returns the record after an evaluation's metric of each task; they decide nothing but `by_task`."""
        new = {task: {"step": step, "value": value} for task, value in values.items() if self._best_of(task, value)}
        return dataclasses.replace(self, by_task={**self.by_task, **new}) if new else self

    def _best_of(self, task: str, value: float) -> bool:
        return _better(value, self.by_task.get(task), "max")

    def is_best(self, step: int) -> bool:
        """Whether a step is the best, of the run or for a task."""
        return any(best["step"] == step for best in (self.best, *self.by_task.values()) if best)


def _better(value: float, best: Mapping[str, float] | None, mode: str) -> bool:
    sign = 1 if mode == "max" else -1
    return not math.isnan(value) and (best is None or sign * value > sign * best["value"])


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
    meanwhile: Callable[[], None] | None = None,
) -> tuple[State, Progressed]:
    """Trains to the end of the schedule, from the newest whole checkpoint if there is one.

    If a signal asks the process to end (see `tlx.signals`), the run is saved after the current step and stops.

    Args:
      state: the initial state; a restored state has its shapes and dtypes.
      phases: the phases in order; the first begins at step 0. Their functions are jitted, and the steps donate their
        state.
      batches: a function from a step to the batches from that step on.
      evaluate: a function from the model's variables (averaged if the run averages) to metrics by name.
      layout: the placement of the state on the devices.
      schedule: when to evaluate, log, save and stop.
      checkpoints: where states are saved.
      writer: a function from the first step to the writer of metrics.
      progress: a function from the first step to the progress display.
      learning_rate: a function from the step to the learning rate, for the log.
      meta: JSON values that are saved with each checkpoint.
      after_step: a function that is called with the number of finished steps and the metrics of the last step, on the
        device. If it returns True, the run ends before this step is logged, evaluated or saved. With such a function, a
        signal ends the run at once.
      skip_limit: stops the run after too many skipped steps in a row; None: no limit.
      meanwhile: a function that a thread calls when training begins, for example to compile what is needed later.

    Returns:
      The last state, and the loop's record with the best step.

    Raises:
      Stop: after a signal. The checkpoint of the last step is then complete.
      TlxError: if more steps in a row are skipped than `skip_limit` allows, or the newest checkpoint does not fit the
        run.
    """
    loop = _Loop(state, phases, batches, evaluate, layout, schedule, checkpoints, learning_rate, meta, skip_limit)
    loop.resume()
    if loop.progressed.finished:
        return loop.state, loop.progressed
    with contextlib.ExitStack() as closing:
        if after_step is None:
            closing.enter_context(deferred())
        loop.writer, loop.display = writer(loop.start), progress(loop.start)
        loop.saves = Saves(checkpoints, schedule.saves.seconds, loop.start, layout.is_main)
        for opened in (loop.saves, loop.writer, loop.display):
            closing.callback(opened.close)
        if meanwhile is not None:
            thread = threading.Thread(target=meanwhile, name="tlx-meanwhile")
            thread.start()
            closing.callback(thread.join)
        loop.run(after_step)
    return loop.state, loop.progressed


@dataclasses.dataclass
class _Loop:
    """A run of `fit`. The first attributes are its arguments; the others change from step to step."""

    state: State
    phases: Sequence[Phase]
    batches: Callable[[int], Iterator[Any]]
    evaluate: Callable[[Variables], dict[str, float]]
    layout: Layout
    schedule: LoopSchedule
    checkpoints: Checkpoints
    learning_rate: Callable[[int], Any]
    meta: Mapping[str, Any]
    skip_limit: SkipLimit | None

    writer: Writer = dataclasses.field(init=False)
    display: Progress = dataclasses.field(init=False)
    saves: Saves = dataclasses.field(init=False)
    start: int = 0
    progressed: Progressed = Progressed()
    means: Means = dataclasses.field(default_factory=Means)
    agreed: Agreement = dataclasses.field(default_factory=Agreement)

    def resume(self) -> None:
        """Restores the newest checkpoint from which the run can go on, if there is one."""
        initial = self.state

        def shapes(step: int) -> State:
            return self.layout.abstract(state_in(self.phases[: phase_of(self.phases, step) + 1], initial))

        if (resumed := resume(self.checkpoints, shapes)) is None:
            return
        self.state, meta = resumed
        self.progressed, self.start = Progressed(**meta["loop"]), int(self.state.step)
        self.means = Means(meta.get("since_log", ()))  # earlier versions saved right after a log only

    def run(self, after_step: AfterStep | None) -> None:
        """Trains until the schedule, early stopping, `after_step` or a signal ends the run."""
        schedule = self.schedule
        self.clock = time.perf_counter()
        self.logged = self.start, self.clock
        for step, (phase, batch) in enumerate(
            steps_of(self.phases, self.batches, self.start, schedule.total), self.start + 1
        ):
            self.begin_step(phase, step - 1)
            self.state, metrics = phase.step(self.state, batch)
            if after_step is not None and after_step(step, metrics):
                return
            self.means.add(metrics)
            evaluates = step % schedule.evaluate_every == 0 or step == schedule.total
            if evaluates or step % schedule.log_every == 0:
                self.log(step)
            if evaluates:
                self.evaluate_and_select(phase, step)
            self.save_or_stop(phase, step, evaluates)
            if step % schedule.log_every == 0 or evaluates:
                self.logged = step, time.perf_counter()
            if self.progressed.finished:
                return

    def begin_step(self, phase: Phase, finished: int) -> None:
        """Enters a phase at its first step, and recomputes the method's state before each of its epochs."""
        done = finished - phase.first
        if done == 0 and phase.first > 0:
            self.check_skipped(finished)
            self.state = phase.enter(self.state)
            if phase.selects_anew:
                self.progressed = dataclasses.replace(self.progressed, best=None, stale=0, by_task={})
        if phase.before_epoch is not None and done % self.schedule.steps_per_epoch == 0:
            self.state = phase.before_epoch(self.state, done // self.schedule.steps_per_epoch)

    def log(self, step: int) -> None:
        """Writes the means of the training metrics since the last log."""
        means = self.means.take()
        logged, at = self.logged
        rate = (step - logged) * self.schedule.examples_per_step / (time.perf_counter() - at)
        training = {"train/learning_rate": float(self.learning_rate(step - 1)), "train/examples_per_s": rate}
        self.writer.write(step, {**means, **training})
        self.display.step(step, means.get("train/loss"), rate)
        self.check_skipped(step)

    def check_skipped(self, step: int) -> None:
        """Stops the run if too many steps up to this one were skipped in a row."""
        if self.skip_limit is not None:
            self.skip_limit.check(step, self.state, self.phases, self.batches, self.checkpoints, self.layout)

    def evaluate_and_select(self, phase: Phase, step: int) -> None:
        """Evaluates the state, and notes whether it is the best and whether the run ends."""
        schedule = self.schedule
        if phase.recalibrate is not None:
            self.state = phase.recalibrate(self.state, (phase.batches or self.batches)(0))
        values = self.evaluate(self.state.with_eval_params().variables)
        give_back()
        monitored = values[schedule.monitor]
        progressed = self.progressed.after(step, monitored, schedule.mode)
        progressed = progressed.after_tasks(step, {task: values[name] for task, name in schedule.by_task.items()})
        stale = schedule.patience is not None and progressed.stale >= schedule.patience
        self.progressed = dataclasses.replace(progressed, finished=stale or step == schedule.total)
        self.writer.write(step, values)
        epoch = step / schedule.steps_per_epoch
        self.display.evaluated(step, epoch, schedule.monitor, monitored, self.progressed.stale == 0)

    def save_or_stop(self, phase: Phase, step: int, evaluated: bool) -> None:
        """Saves the state if that is due. After a signal to any process, all of them save this step and stop.

        Raises:
          Stop: after a signal. The checkpoint of this step is then complete.
        """
        finished = self.progressed.finished
        self.saves.poll()
        wish = STOP + requested() if requested() else SAVE if self.saves.overdue and self.layout.is_main else 0
        request = self.agreed.settled(wish) if finished else self.agreed(wish)
        due = self.schedule.saves.due(step, evaluated, best=self.progressed.is_best(step))
        if finished or request or due:
            self.save(phase)
            self.agreed.forget()
        if finished or request >= STOP:
            self.saves.wait()
        if request >= STOP:
            raise Stop(request - STOP, f"after step {step} of {self.schedule.total}")

    def save(self, phase: Phase) -> None:
        """Starts to save the state and what the loop has to know to go on."""
        now = time.perf_counter()
        seconds = self.progressed.seconds + now - self.clock
        self.progressed, self.clock = dataclasses.replace(self.progressed, seconds=seconds), now
        record = {
            "phase": self.phases.index(phase),
            "loop": dataclasses.asdict(self.progressed),
            "best": self.progressed.best,
            "by_task": self.progressed.by_task,
            "since_log": self.means.record(),
        }
        give_back()
        self.saves.save(self.state, {**self.meta, **record})
