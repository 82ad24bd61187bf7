"""A run laid out as plain objects: it trains, evaluates, and writes its summary."""

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from tlx.data.examples import ExampleSet
from tlx.evaluation.calibration import reliability
from tlx.evaluation.per_class import confusion
from tlx.evaluation.predict import make_forward, predict
from tlx.files.lock import Lock, hold
from tlx.modalities.api import Inputs
from tlx.models.model import Model
from tlx.parallel.mesh import along_batch, replicated
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten
from tlx.recipes import run_directory
from tlx.recipes.datasets import Datasets
from tlx.recipes.regularise import count_initialized
from tlx.reporting.confusion import plot_confusion
from tlx.reporting.curves import plot_curves
from tlx.reporting.reliability import plot_reliability
from tlx.training.checkpoint import Checkpoints, abstract
from tlx.training.feed import feed
from tlx.training.loop import AfterStep, LoopSchedule, Progressed, fit
from tlx.training.phases import Phase
from tlx.training.state import State
from tlx.training.tasks import DEFAULT, Stream, Task, class_reports
from tlx.training.writers import MetricsWriter, Progress, read_metrics


@dataclasses.dataclass(kw_only=True)
class Job:
    """All that a run needs.

    Attributes:
      run_directory: where everything is written.
      model: a backbone with the heads of all tasks.
      inputs: from rows to what the model takes.
      tasks: by name.
      streams: what the batches of a step are drawn from, by name.
      datasets: as they were read, by task.
      facts: of the data, for the summary.
      groups: of each path; of what learns in some phase only, its group then.
      initialized: the paths that did not come with the checkpoint.
      state: before the first step.
      phases: in order, jitted.
      schedule: what the loop does when.
      learning_rate: by step, for the log.
      eval_batch_size: examples.
      accumulate: micro-batches of a batch.
      mesh: of devices.
      seed: of the run.
      lock: on the run directory, until `run` has ended.
    """

    run_directory: Path
    model: Model
    inputs: Inputs
    tasks: Mapping[str, Task]
    streams: Mapping[str, Stream]
    datasets: Mapping[str, Datasets]
    facts: Mapping[str, Any]
    groups: Mapping[str, str]
    initialized: Collection[str]
    state: State
    phases: tuple[Phase, ...]
    schedule: LoopSchedule
    learning_rate: optax.Schedule
    eval_batch_size: int
    accumulate: int
    mesh: jax.sharding.Mesh
    seed: int
    lock: Lock | None = None

    def run(self, quiet: bool = False) -> dict[str, Any]:
        """Trains (or goes on), evaluates the best checkpoint on every split but train, writes, returns the summary."""
        self.lock = self.lock or hold(self.run_directory)
        try:
            return self._train(quiet)
        finally:
            self.lock = None

    def fit(
        self, checkpoints: Checkpoints, quiet: bool, after_step: AfterStep | None = None
    ) -> tuple[State, Progressed]:
        """The loop alone. after_step: as of `tlx.training.loop.fit`."""
        return fit(
            self.state,
            self.phases,
            self.batches,
            lambda params: self.evaluate(params, "validation"),
            schedule=self.schedule,
            checkpoints=checkpoints,
            writer=functools.partial(MetricsWriter, self.run_directory),
            progress=lambda start: Progress(self.run_directory.name, self.schedule.total, start, quiet),
            learning_rate=self.learning_rate,
            meta={"seed": self.seed},
            after_step=after_step,
        )

    def _train(self, quiet: bool) -> dict[str, Any]:
        with Checkpoints(self.run_directory / "checkpoints") as checkpoints:
            state, so_far = self.fit(checkpoints, quiet)
            best = int(so_far.best["step"]) if so_far.best else int(state.step)
            params = state.with_eval_params().params
            if best != int(state.step):
                checkpoints.wait()
                params = checkpoints.restore_params(best, abstract(_of_the_model(params), replicated(self.mesh)))
        return self._summarize(_of_the_model(params), best, so_far, int(state.step))

    def batches(
        self, start: int = 0, steps: int | None = None, names: Collection[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The batches of training from step `start` on, to the end of the run or of so many steps.

        names: of the streams; None: those of the first phase's method.
        """
        buckets, multiple = self.inputs.length_buckets, self.mesh.size * self.accumulate
        batches = {
            name: self.streams[name].batches(name, self.seed, buckets, steps or self.schedule.total, multiple)
            for name in (self.phases[0].streams if names is None else names)
        }
        return feed(batches, along_batch(self.mesh), start)

    def best(self) -> Any:
        """The parameters of the best checkpoint."""
        with Checkpoints(self.run_directory / "checkpoints", read_only=True) as checkpoints:
            target = abstract(_of_the_model(self.state.params), replicated(self.mesh))
            return checkpoints.restore_params(checkpoints.best(), target)

    @functools.cached_property
    def forward(self) -> Any:
        """The jitted forward pass of evaluation."""
        return make_forward(self.model, self.inputs.prepare)

    def predict(self, params: Any, examples: ExampleSet, head: str = DEFAULT) -> np.ndarray:
        """A head's predictions for examples, in their order: (examples, outputs), or of words (words, outputs)."""
        sharding = along_batch(self.mesh)
        return predict(self.forward, params, examples, self.inputs, self.eval_batch_size, sharding)[head]

    def predictions(self, params: Any, split: str, task: str = DEFAULT) -> np.ndarray:
        """A task's predictions for a split, as of `predict`."""
        return self.predict(params, self.tasks[task].splits[split], task)

    def evaluate(self, params: Any, split: str) -> dict[str, float]:
        """Every metric of a split, named `split/metric`, of tasks with a name `task/split/metric`."""
        values: dict[str, float] = {}
        for name, task in self.tasks.items():
            if split in task.splits:
                values |= task.score(self.predictions(params, split, name), split)
        return values

    def _summarize(self, params: Any, best: int, so_far: Progressed, last: int) -> dict[str, Any]:
        (self.run_directory / "predictions").mkdir(exist_ok=True)
        metrics: dict[str, float] = {}
        classes: dict[str, Any] = {}
        for task in self.tasks.values():
            for split in (name for name in task.splits if name != "train"):
                predictions = self.predictions(params, split, task.name)
                metrics |= task.score(predictions, split)
                classes |= self._write_predictions(task, split, predictions)
        sizes = {path: int(np.prod(leaf.shape)) for path, leaf in flatten(params).items()}
        trainable = sum(size for path, size in sizes.items() if self.groups[path] != FROZEN)
        summary = {
            **self.facts,
            "metrics": metrics,
            "classes": classes,
            "selection": f"step {best} of {last}: the best {self.schedule.monitor} of the run's evaluations",
            "parameters": {
                "trainable": trainable,
                "frozen": sum(sizes.values()) - trainable,
                "initialized": count_initialized(params, self.initialized),
            },
            "seconds": round(so_far.seconds, 1),
            "versions": run_directory.versions(),
            "revision": run_directory.revision(),
        }
        run_directory.write_json(self.run_directory / "summary.json", summary)
        plot_curves(
            {self.run_directory.name: read_metrics(self.run_directory)}, self.run_directory / "plots" / "curves.png"
        )
        return summary

    def _write_predictions(self, task: Task, split: str, predictions: np.ndarray) -> dict[str, Any]:
        """`predictions/SPLIT.npz` and the plots of a classification; returns the figures of each class, if any."""
        examples, words = task.splits[split], task.splits[split].words
        offsets: dict[str, Any] = {} if words is None else {"word_offsets": words.offsets}
        name = split if task.name == DEFAULT else f"{task.name}_{split}"
        np.savez(
            self.run_directory / "predictions" / f"{name}.npz",
            example_id=examples.example_id if words is None else words.sentence_id,
            predictions=predictions, labels=examples.labels,
            **offsets,
        )  # fmt: skip
        if task.head.kind == "classification" and split == ("test" if "test" in task.splits else "validation"):
            self._plot(name, task.head.labels, predictions, examples.labels)
        reports = class_reports(predictions, examples, task.head)
        return {name: [dataclasses.asdict(report) for report in reports]} if reports else {}

    def _plot(self, name: str, classes: tuple[str, ...], predictions: np.ndarray, labels: np.ndarray) -> None:
        """Which class was taken for which, and how well probabilities agree with frequencies."""
        plots = self.run_directory / "plots"
        plot_confusion(confusion(predictions, labels), classes, plots / f"confusion_{name}.png")
        plot_reliability(reliability(predictions, labels), plots / f"reliability_{name}.png")


def _of_the_model(params: Any) -> dict[str, Any]:
    """Without what only training needs."""
    return {name: part for name, part in params.items() if name != "aux"}
