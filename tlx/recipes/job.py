"""A `Job` holds everything that a run needs. It trains, evaluates the best checkpoint and writes the results."""

import contextlib
import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optax

from tlx.data.examples import ExampleSet
from tlx.errors import TlxError
from tlx.evaluation.predict import compile_ahead, features_name, make_forward, predict
from tlx.files.atomic import writable
from tlx.files.lock import Lock, acquire_lock
from tlx.modalities.api import Inputs, Modality
from tlx.models.forward import Variables
from tlx.models.model import Model
from tlx.parallel.layout import Layout
from tlx.parallel.processes import barrier, is_multiprocess
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten
from tlx.recipes import run_directory
from tlx.recipes.baselines import Baselines, gains
from tlx.recipes.datasets import Datasets
from tlx.recipes.domains import Domains, before_training, distances, write_domains
from tlx.recipes.packing import Packing
from tlx.recipes.regularise import count_initialized
from tlx.recipes.results import write_results
from tlx.recipes.selection import choices, validator_values, validators_apply
from tlx.recipes.splits import TARGET, TARGET_TEST
from tlx.recipes.trained import Trained
from tlx.signals import stopped_when
from tlx.training.checkpoint import Checkpoints
from tlx.training.checkpoint_files import Damaged
from tlx.training.fallback import read_best
from tlx.training.feed import feed
from tlx.training.loop import AfterStep, LoopSchedule, Progressed, fit
from tlx.training.non_finite import SkipLimit
from tlx.training.phases import Phase
from tlx.training.saves import cost
from tlx.training.state import State
from tlx.training.tasks import DEFAULT, Stream, Task, class_reports, joint
from tlx.training.writers import MetricsWriter, NoWriter, Progress, Writer, read_metrics


@dataclasses.dataclass(kw_only=True)
class Job:
    """Everything that a run needs. `tlx.recipes.finetune.build` makes one from a config.

    Attributes:
      run_directory: the folder that all results are written to.
      model: a backbone with the heads of all tasks.
      modality: reads the data, with the checkpoint's tokenizer or image processor.
      inputs: makes the model's inputs from a batch. It is the modality, or `CachedInputs` if features are cached.
      tasks: tasks by name.
      streams: by name, the examples from which the batches of a training step are taken.
      datasets: by task, the data as it was read.
      facts: facts about the data, for the summary.
      baselines: metrics of runs of each task alone, by task; {} if there are none.
      groups: the group of each parameter's path. A parameter that is trained in some phases only has its group of the
        first phase in which it is trained.
      initialized: paths of the parameters that were initialized, not loaded from the checkpoint.
      state: the state before the first step.
      phases: the phases in order, with jitted steps.
      schedule: when the loop evaluates, logs, saves and stops.
      learning_rate: a function from the step to the learning rate, for the log.
      eval_batch_size: examples of a forward pass in evaluation.
      accumulate: number of micro-batches of a batch.
      max_skipped: number of steps in a row that may be skipped (`config.train.max_skipped`).
      layout: the placement of arrays on the devices.
      length_buckets: the lengths to which batches are padded where texts are not packed.
      packing: the shapes of packed batches; None: texts are not packed.
      seed: seed of the run.
      lock: lock on the run directory; `run` releases it at the end.
    """

    run_directory: Path
    model: Model
    modality: Modality
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
    max_skipped: int
    layout: Layout
    length_buckets: tuple[int, ...]
    baselines: Baselines = dataclasses.field(default_factory=dict)
    packing: Packing | None = None
    seed: int
    lock: Lock | None = None

    def run(self, quiet: bool = False) -> dict[str, Any]:
        """Trains from the newest checkpoint (or from the start) and evaluates the best checkpoint.

        The best checkpoint is evaluated on all splits except train. Predictions, plots and the summary are written to
        the run directory.

        Args:
          quiet: whether to hide the progress display.

        Returns:
          The summary, as it is written to `summary.json`.
        """
        if self.layout.is_main:
            self.lock = self.lock or acquire_lock(self.run_directory)
            run_directory.remove_traceback(self.run_directory)
        try:
            return self._train(quiet)
        finally:
            self.lock = None

    def fit(
        self,
        checkpoints: Checkpoints,
        quiet: bool,
        after_step: AfterStep | None = None,
        latest: dict[str, np.ndarray] | None = None,
    ) -> tuple[State, Progressed]:
        """Runs the training loop only.

        Args:
          checkpoints: where checkpoints are written.
          quiet: whether to hide the progress display.
          after_step: see `tlx.training.loop.fit`.
          latest: is filled with the predictions for the validation split of the last evaluation, by task.

        Returns:
          The last state, and the loop's record with the best step.
        """
        return fit(
            self.state,
            self.phases,
            self.batches,
            lambda variables: self._evaluate_in_training(variables, {} if latest is None else latest),
            layout=self.layout,
            schedule=self.schedule,
            checkpoints=checkpoints,
            writer=self._writer,
            progress=lambda start: Progress(
                self.run_directory.name, self.schedule.total, start, quiet or not self.layout.is_main
            ),
            learning_rate=self.learning_rate,
            meta={"seed": self.seed},
            after_step=after_step,
            skip_limit=SkipLimit(self.max_skipped, self.run_directory / "non_finite.json"),
            meanwhile=None if after_step or is_multiprocess() else self.compile_evaluation,
        )

    def _train(self, quiet: bool) -> dict[str, Any]:
        with Checkpoints(self.run_directory / "checkpoints", keep=self.schedule.saves.keep) as checkpoints:
            latest: dict[str, np.ndarray] = {}
            self._keep_domains()
            state, progressed = self.fit(checkpoints, quiet, latest=latest)
            with stopped_when("after training"):
                best = int(progressed.best["step"]) if progressed.best else int(state.step)
                variables = state.with_eval_params().variables
                if best != int(state.step):
                    variables, latest = self._best(checkpoints, best, variables), {}
                by_task = self._best_by_task(checkpoints, variables, best, progressed)
                return self._summarize(variables, best, progressed, int(state.step), latest, by_task)

    def _best(self, checkpoints: Checkpoints, step: int, variables: Variables) -> Variables:
        """The best parameters and model state at the end of a run; `variables` gives their shapes."""
        try:
            return checkpoints.restore_variables(step, self.layout.abstract(variables))
        except Damaged as damaged:
            raise TlxError(
                f"the checkpoint {damaged.folder}, the best of the run, was damaged after it was saved "
                f"({damaged.reason}); give the same command again, which trains this step again."
            ) from None

    def _best_by_task(
        self, checkpoints: Checkpoints, variables: Variables, best: int, progressed: Progressed
    ) -> dict[str, dict[str, Any]]:
        """For each task of several the checkpoint that is best by its own metric, with its metrics on all splits.

        Without `metrics` where the checkpoint is the run's best. A run that began with an earlier version knows the
        evaluations since then alone.
        """
        found: dict[str, dict[str, Any]] = {}
        steps = {int(each["step"]) for each in progressed.by_task.values()}
        for step in sorted(steps):
            own = variables if step == best else self._best(checkpoints, step, variables)
            for name, each in progressed.by_task.items():
                if each["step"] == step:
                    task, values = self.tasks[name], dict[str, float]()
                    for split in [] if step == best else [split for split in task.splits if split != "train"]:
                        values |= task.score(self.predictions(own, split, name), split)
                    found[name] = {"step": step, "by": self.schedule.by_task[name], "metrics": values}
        return {name: found[name] for name in self.tasks if name in found}

    def _writer(self, start: int) -> Writer:
        return MetricsWriter(self.run_directory, start) if self.layout.is_main else NoWriter()

    def batches(self, start: int = 0, names: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yields the training batches from step `start` to the end of the run.

        Args:
          start: number of steps to skip.
          names: names of the streams; None: the streams of the first phase's method.
        """
        layout = self.layout
        batches = {
            name: self.streams[name].batches(
                name, self.seed, self.length_buckets, self.schedule.total, layout.size * self.accumulate, layout.rows
            )
            for name in (self.phases[0].streams if names is None else names)
        }
        return feed(batches, layout, start)

    def best(self) -> Variables:
        """Returns the `params` and `model_state` of the best checkpoint (averaged if the run averages)."""
        return self.trained().variables

    def trained(self, step: int | None = None) -> Trained:
        """Returns the best checkpoint as `trained.load_run` does, also for a custom backbone.

        `tlx.runs.predictions` and `tlx.runs.images` apply it to new texts and images.

        Args:
          step: another step that has a checkpoint; None: the best.

        Raises:
          TlxError: if the checkpoint is damaged or not there.
        """
        run = self.run_directory
        target = self.layout.abstract(self.state.variables)
        with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
            step, best = read_best(checkpoints, target, step)
        config = run_directory.read_run(run)["config"]
        return Trained(self.model, best.params, self.modality, run / "pretrained", step, config, best.model_state)

    @functools.cached_property
    def forward(self) -> Any:
        """The jitted forward pass of evaluation, which also returns the features that validators read."""
        return make_forward(self.model, self.inputs.prepare, DEFAULT if self.validates else None)

    @functools.cached_property
    def validates(self) -> bool:
        """Whether validators choose without labels of the target: the run has a target, and classes."""
        head = self.tasks[DEFAULT].head if self.tasks.keys() == {DEFAULT} else None
        return TARGET in self.streams and head is not None and validators_apply(head)

    @property
    def selectable_after(self) -> int:
        """The step after which evaluations may select the checkpoint."""
        return max((phase.first for phase in self.phases if phase.selects_anew), default=0)

    @property
    def has_target_test(self) -> bool:
        """Whether the run has labelled examples of the target."""
        return any(TARGET_TEST in task.splits for task in self.tasks.values())

    def predict(self, variables: Variables, examples: ExampleSet, head: str = DEFAULT) -> np.ndarray:
        """Returns a head's predictions for examples in their order.

        Args:
          variables: parameters and model state.
          examples: the examples.
          head: name of the head.

        Returns:
          float32 (examples, outputs); for tagging (words, outputs).
        """
        return self.outputs(variables, examples)[head]

    def outputs(self, variables: Variables, examples: ExampleSet) -> dict[str, np.ndarray]:
        """Returns the predictions of all heads as `predict` does, and if the run `validates` what the head reads."""
        shape = None if self.packing is None else self.packing.evaluation
        return predict(
            self.forward,
            variables,
            examples,
            self.inputs,
            self.eval_batch_size,
            self.layout,
            shape,
            self.length_buckets,
        )

    def compile_evaluation(self) -> None:
        """Compiles the forward pass for the validation split. An error is left to the evaluation, which has it too."""
        variables = self.layout.abstract(self.state.variables)
        shape = None if self.packing is None else self.packing.evaluation
        for task in self.tasks.values():
            with contextlib.suppress(Exception):
                compile_ahead(
                    self.forward, variables, task.splits["validation"], self.inputs, self.eval_batch_size, self.layout,
                    shape, self.length_buckets,
                )  # fmt: skip

    def predictions(self, variables: Variables, split: str, task: str = DEFAULT) -> np.ndarray:
        """Returns a task's predictions for a split, as `predict` does.

        Args:
          variables: parameters and model state, for example `best()` or `state.variables`.
          split: "train", "validation" or "test".
          task: name of the task.
        """
        return self.predict(variables, self.tasks[task].splits[split], task)

    def evaluate(self, variables: Variables, split: str, keep: dict[str, np.ndarray] | None = None) -> dict[str, float]:
        """Returns all metrics of a split by name: `split/metric`, or `task/split/metric` of a named task.

        Args:
          variables: parameters and model state.
          split: "train", "validation" or "test".
          keep: is filled with the predictions by task, and what the head reads if the run `validates`.
        """
        values: dict[str, float] = {}
        for name, task in self.tasks.items():
            if split in task.splits:
                outputs = self.outputs(variables, task.splits[split])
                values |= task.score(outputs[name], split)
                if keep is not None:
                    keep |= {key: outputs[key] for key in (name, features_name(name)) if key in outputs}
        return values | joint(values, self.tasks, split)

    def _evaluate_in_training(self, variables: Variables, latest: dict[str, np.ndarray]) -> dict[str, float]:
        """The metrics of validation and, of a run with a target, of `target_test` and the validators."""
        values = self.evaluate(variables, "validation", latest)
        if self.has_target_test:
            values |= self.evaluate(variables, TARGET_TEST)
        if self.validates:
            target = self.outputs(variables, self.streams[TARGET].examples)
            values |= validator_values(latest, self.tasks[DEFAULT].splits["validation"].labels, target)
        return values

    def _summarize(
        self, variables: Variables, best: int, progressed: Progressed, last: int,
        validation: Mapping[str, np.ndarray], by_task: Mapping[str, dict[str, Any]],
    ) -> dict[str, Any]:  # fmt: skip
        """Evaluates the best parameters; `validation` are predictions that are known already, by task."""
        known = {(name, "validation"): predictions for name, predictions in validation.items()}
        predictions = {
            (task.name, split): known[task.name, split]
            if (task.name, split) in known
            else self.predictions(variables, split, task.name)
            for task in self.tasks.values()
            for split in task.splits
            if split != "train"
        }
        domains = self._domains(variables)
        metrics: dict[str, float] = {}
        classes: dict[str, Any] = {}
        for (name, split), values in predictions.items():
            task = self.tasks[name]
            metrics |= task.score(values, split)
            reports = class_reports(values, task.splits[split], task.head)
            classes |= {task.file(split): [dataclasses.asdict(report) for report in reports]} if reports else {}
        for split in ("validation", "test"):
            metrics |= joint(metrics, self.tasks, split)
        for name, each in by_task.items():
            each["metrics"] = each["metrics"] or {key: metrics[key] for key in metrics if key.startswith(f"{name}/")}
        metrics |= gains(metrics, self.baselines, self.tasks)
        sizes = {path: int(np.prod(leaf.shape)) for path, leaf in flatten(variables.params).items()}
        trainable = sum(size for path, size in sizes.items() if self.groups[path] != FROZEN)
        summary = {
            **self.facts,
            **({"packing": dataclasses.asdict(self.packing)} if self.packing else {}),
            "metrics": metrics,
            "classes": classes,
            "selection": f"step {best} of {last}: the best {self.schedule.monitor} of the run's evaluations"
            + (f" after step {self.selectable_after}" if self.selectable_after else ""),
            "parameters": {
                "trainable": trainable,
                "frozen": sum(sizes.values()) - trainable,
                "initialized": count_initialized(variables.params, self.initialized),
            },
            **self._choices(best, domains),
            **({"best_by_task": by_task} if by_task else {}),
            "seconds": round(progressed.seconds, 1),
            "saves": cost(self.run_directory),
            "versions": run_directory.versions(),
            "revision": run_directory.revision(),
        }
        if self.layout.is_main:
            with writable(self.run_directory):
                write_results(self.run_directory, self.tasks, summary, predictions)
                if domains is not None:
                    write_domains(self.run_directory, self.tasks[DEFAULT].head, domains)
        barrier()
        return summary

    def _keep_domains(self) -> None:
        """Writes the features of both domains before training, which a resumed run has already."""
        known = not self.validates or before_training(self.run_directory).is_file()
        barrier()  # no process looks for the file when another has written it
        domains = None if known else self._domains(self.state.variables)
        if domains is not None and self.layout.is_main:
            domains.write(before_training(self.run_directory))

    def _domains(self, variables: Variables) -> Domains | None:
        """What the head reads of the source's validation split and of the target; None for a run without a target."""
        if not self.validates:
            return None
        split = self.tasks[DEFAULT].splits["validation"]
        source, target = (self.outputs(variables, each) for each in (split, self.streams[TARGET].examples))
        name = features_name(DEFAULT)
        return Domains(source[name], target[name], split.labels, target[DEFAULT].argmax(axis=-1))

    def _choices(self, best: int, domains: Domains | None) -> dict[str, Any]:
        """Under `target`, what each choice of a checkpoint gives and the domains' distance; {} without a target."""
        if not (self.validates or self.has_target_test):
            return {}
        lines = [line for line in read_metrics(self.run_directory) if line["step"] > self.selectable_after]
        apart = distances(self.run_directory, domains) if domains is not None and self.layout.is_main else {}
        return {"target": {**choices(lines, best, self.tasks[DEFAULT].head), **apart}}
