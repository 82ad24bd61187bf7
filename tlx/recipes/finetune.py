"""Fine-tuning from a config: `build(config, workdir)` gives a Job, `job.run()` trains, evaluates and writes."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from tlx.data.examples import Batches, ExampleSet
from tlx.data.plan import EvaluationPlan, TrainingPlan
from tlx.errors import TlxError
from tlx.evaluation.calibration import reliability
from tlx.evaluation.metrics import measure
from tlx.evaluation.per_class import confusion, per_class
from tlx.evaluation.predict import make_forward, predict
from tlx.files.lock import Lock, hold
from tlx.files.whole import writable
from tlx.methods.finetune import head_loss
from tlx.models.custom import Custom
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.optim.groups import as_group
from tlx.parallel.layout import Layout, make_layout
from tlx.parallel.processes import on_main
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten
from tlx.pretrained.folder import resolve
from tlx.pretrained.load import random_params, start_from
from tlx.recipes import run_directory
from tlx.recipes.adapters import adapt
from tlx.recipes.cached_features import check_features, from_features
from tlx.recipes.custom import initialize_custom
from tlx.recipes.datasets import Datasets, load_datasets, with_splits
from tlx.recipes.inputs import Inputs, open_inputs
from tlx.recipes.regularise import count_initialized, reinitialized
from tlx.recipes.train import train_setup
from tlx.reporting.confusion import plot_confusion
from tlx.reporting.curves import plot_curves
from tlx.reporting.reliability import plot_reliability
from tlx.training.checkpoint import Checkpoints
from tlx.training.feed import feed
from tlx.training.loop import LoopSchedule, Progressed, fit
from tlx.training.phases import Phase, state_in
from tlx.training.state import State
from tlx.training.writers import MetricsWriter, NoWriter, Progress, Writer, read_metrics


@dataclasses.dataclass
class Job:
    """All that a run needs, as plain objects."""

    run_directory: Path
    model: Model
    inputs: Inputs
    datasets: Datasets
    groups: dict[str, str]
    initialized: Collection[str]
    state: State
    phases: tuple[Phase, ...]
    schedule: LoopSchedule
    learning_rate: optax.Schedule
    batch_size: int
    eval_batch_size: int
    accumulate: int
    layout: Layout
    seed: int
    lock: Lock | None = None  # on the run directory, until `run` has ended

    def run(self, quiet: bool = False) -> dict[str, Any]:
        """Trains (or goes on), evaluates the best checkpoint on every split but train, writes, returns the summary."""
        if self.layout.is_main:
            self.lock = self.lock or hold(self.run_directory)
        try:
            return self._train(quiet)
        finally:
            self.lock = None

    def _train(self, quiet: bool) -> dict[str, Any]:
        with Checkpoints(self.run_directory / "checkpoints") as checkpoints:
            state, so_far = fit(
                self.state,
                self.phases,
                self.batches,
                lambda params: self.evaluate(params, "validation"),
                layout=self.layout,
                schedule=self.schedule,
                checkpoints=checkpoints,
                writer=self._writer,
                progress=lambda start: Progress(
                    self.run_directory.name, self.schedule.total, start, quiet or not self.layout.is_main
                ),
                learning_rate=self.learning_rate,
                meta={"seed": self.seed},
            )
            best = int(so_far.best["step"]) if so_far.best else int(state.step)
            params = state.with_eval_params().params
            if best != int(state.step):
                checkpoints.wait()
                params = checkpoints.restore_params(best, self.layout.abstract(params))
        return self._summarise(params, best, so_far, int(state.step))

    def _writer(self, start: int) -> Writer:
        return MetricsWriter(self.run_directory, start) if self.layout.is_main else NoWriter()

    def batches(self, start: int = 0, steps: int | None = None) -> Iterator[Any]:
        """What training takes from step `start` on, to the end of the run or of so many steps."""
        plan = TrainingPlan(
            self.datasets.examples["train"].lengths, self.batch_size, self.seed, self.inputs.length_buckets
        )
        multiple = self.layout.size * self.accumulate
        batches = Batches(
            self.datasets.examples["train"], plan, steps or self.schedule.total, multiple, self.layout.rows
        )
        return feed({"train": batches}, self.layout, start)

    def best(self) -> Any:
        """The parameters of the best checkpoint."""
        with Checkpoints(self.run_directory / "checkpoints", read_only=True) as checkpoints:
            return checkpoints.restore_params(checkpoints.best(), self.layout.abstract(self.state.params))

    @functools.cached_property
    def forward(self) -> Any:
        """Answers without dropout, jitted."""
        return make_forward(self.model, self.inputs.prepare)

    def predictions(self, params: Any, split: str) -> np.ndarray:
        """The head's answers to a split, (examples, outputs), or of tagged words (words, outputs)."""
        examples = self.datasets.examples[split]
        plan = EvaluationPlan(examples.lengths, self.eval_batch_size, self.inputs.length_buckets)
        batches = Batches(examples, plan, plan.steps_per_epoch, self.layout.size, self.layout.rows)
        return predict(self.forward, params, batches, self.layout)["default"]

    def evaluate(self, params: Any, split: str) -> dict[str, float]:
        """Every metric of a split, named `split/metric`."""
        return score(self.predictions(params, split), self.datasets.examples[split], self.datasets.head, split)

    def _summarise(self, params: Any, best: int, so_far: Progressed, last: int) -> dict[str, Any]:
        answered = {split: self.predictions(params, split) for split in self.datasets.examples if split != "train"}
        values: dict[str, float] = {}
        classes: dict[str, Any] = {}
        for split, predictions in answered.items():
            examples = self.datasets.examples[split]
            values |= score(predictions, examples, self.datasets.head, split)
            of_words = examples.words
            offsets = None if of_words is None else of_words.offsets
            reports = per_class(
                self.datasets.head.kind, predictions, examples.labels, self.datasets.head.labels, offsets
            )
            classes |= {split: [dataclasses.asdict(report) for report in reports]} if reports else {}
        sizes = {path: int(np.prod(leaf.shape)) for path, leaf in flatten(params).items()}
        trainable = sum(size for path, size in sizes.items() if self.groups[path] != FROZEN)
        summary = {
            **self.datasets.facts,
            "metrics": values,
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
        if self.layout.is_main:
            self._write(summary, answered)
        return summary

    def _write(self, summary: dict[str, Any], answered: dict[str, np.ndarray]) -> None:
        """Predictions, the summary and the plots."""
        (self.run_directory / "predictions").mkdir(exist_ok=True)
        for split, predictions in answered.items():
            examples = self.datasets.examples[split]
            of_words = examples.words
            words: dict[str, Any] = {} if of_words is None else {"word_offsets": of_words.offsets}
            rows = examples.example_id if of_words is None else of_words.sentence_id
            np.savez(
                self.run_directory / "predictions" / f"{split}.npz",
                example_id=rows, predictions=predictions, labels=examples.labels, **words,
            )  # fmt: skip
        run_directory.write_json(self.run_directory / "summary.json", summary)
        plot_curves(
            {self.run_directory.name: read_metrics(self.run_directory)}, self.run_directory / "plots" / "curves.png"
        )
        if self.datasets.head.kind == "classification":
            self._draw("test" if "test" in self.datasets.examples else "validation")

    def _draw(self, split: str) -> None:
        """Which class was taken for which, and how sure the answers are."""
        with np.load(self.run_directory / "predictions" / f"{split}.npz") as saved:
            predictions, labels = saved["predictions"], saved["labels"]
        names = self.datasets.head.labels
        table = confusion(predictions, labels)
        plot_confusion(table, names, self.run_directory / "plots" / f"confusion_{split}.png")
        plot_reliability(reliability(predictions, labels), self.run_directory / "plots" / f"reliability_{split}.png")


def score(predictions: np.ndarray, examples: ExampleSet, head: Head, split: str) -> dict[str, float]:
    """Metrics of a head's kind and the mean loss, over exactly the examples there are. A word that cannot be predicted
    is wrong in every metric; it has no loss."""
    labels, words = examples.labels, examples.words
    if words is None:
        values = measure(head.kind, predictions, labels, head.labels)
    else:
        values = measure(head.kind, predictions, labels, head.labels, words.offsets, words.predictable)
        predictions, labels = predictions[words.predictable], labels[words.predictable]
    total, count = _jitted_loss(head)(predictions, labels, np.ones(len(labels), np.float32))
    return {f"{split}/{name}": value for name, value in {"loss": float(total / count), **values}.items()}


@functools.lru_cache
def _jitted_loss(head: Head) -> Callable[..., Any]:
    return jax.jit(head_loss(head))


def build(
    config: ConfigDict, workdir: str | Path, sweep: optax.Schedule | None = None, backbone: Custom | None = None
) -> Job:
    """Reads data and checkpoint and lays out the run; nothing is trained yet.

    Args:
      config: see `tlx/recipes/defaults.py`.
      workdir: the run directory.
      sweep: the learning rate by step, in place of the config's.
      backbone: a module in place of the checkpoint's, whose tokenizer or image processor alone is then read (see
        `recipes.custom.custom_backbone`).

    Raises:
      TlxError: whatever in the config, the data or the checkpoint does not fit, in one sentence.
    """
    run, lock = on_main(lambda: run_directory.look_at(workdir)) or (Path(workdir).absolute(), None)
    check(config)
    layout = lay_out(config)
    config = with_splits(config)
    folder = resolve(config.model.checkpoint)
    inputs = open_inputs(folder, config)
    datasets = load_datasets(config, inputs)
    heads = {"default": datasets.head}
    if backbone is None:
        model, params, initialized = load_model(config, folder, heads)
    else:
        model, params, initialized = initialize_custom(config, backbone, inputs, datasets)
    layout = layout.with_params(params, model.backbone.kinds)
    check_mixing(layout, inputs)
    setup = train_setup(config, model, params, datasets, inputs, initialized, sweep)
    own = None if backbone is None else type(backbone.module).__name__
    facts = {"heads": run_directory.heads_as_json(heads), "data": datasets.facts, "backbone": own}

    def open_run() -> Lock:
        with writable(run):
            run.mkdir(parents=True, exist_ok=True)
            held = lock or hold(run)
            run_directory.open_run(run, config.to_dict(), facts, folder, inputs)
            return held

    lock = on_main(open_run)
    if (found := from_features(config, model, params, setup.assigned, inputs, datasets, layout)) is not None:
        inputs, datasets = found
        setup = train_setup(config, model, params, datasets, inputs, initialized, sweep)
    begun = layout.shardings(jax.eval_shape(setup.begin, params))
    state = jax.jit(setup.begin, out_shardings=begun)(layout.put(params))
    constants = layout.put((jax.random.key(config.seed), setup.anchors))
    phases = tuple(
        compiled(phase, layout, state_in(setup.phases[: index + 1], state), constants)
        for index, phase in enumerate(setup.phases)
    )
    return Job(
        run, model, inputs, datasets, setup.assigned, initialized, state, phases,
        setup.schedule, setup.rate,
        config.train.batch_size, config.train.eval_batch_size, config.train.accumulate, layout, config.seed, lock,
    )  # fmt: skip


def lay_out(config: ConfigDict) -> Layout:
    """The layout that `config.parallel` asks for, still without parameters."""
    parallel = config.parallel
    return make_layout(parallel.data, parallel.fsdp, parallel.mode, parallel.rules)


def check_mixing(layout: Layout, inputs: Inputs) -> None:
    """Raises `TlxError` where an image would be mixed with one that its device does not have."""
    given = getattr(inputs, "augmentation", None)
    if layout.mode == "pmap" and given is not None and (given.mixup or given.cutmix):
        raise TlxError(
            "parallel.mode is 'pmap', in which a device sees its own rows alone; mixup and cutmix take partners from "
            "the whole batch, so take 'jit'."
        )


def compiled(phase: Phase, layout: Layout, before: State, constants: tuple[Any, Any]) -> Phase:
    """A phase whose functions are compiled for a layout. before: a state that has been in the phase, arrays or shapes.
    constants: the run's key and the anchors."""
    step = layout.train_step(phase.step, before, constants)
    enter = jax.jit(phase.enter, donate_argnums=0, out_shardings=layout.shardings(before))
    return dataclasses.replace(phase, enter=enter, step=lambda *given: step(*given, *constants))


def check(config: ConfigDict) -> None:
    """Raises `TlxError` for fields whose value nothing can be done with."""
    if not config.model.checkpoint:
        raise TlxError("config.model.checkpoint names no checkpoint (a folder, package:NAME/FOLDER, or a hub id).")
    positive = {
        "train.epochs": config.train.epochs,
        "train.batch_size": config.train.batch_size,
        "train.accumulate": config.train.accumulate,
        "train.eval_batch_size": config.train.eval_batch_size,
        "train.evaluate_every": config.train.evaluate_every,
        "train.log_every": config.train.log_every,
        "data.max_length": config.data.max_length,
        "optimizer.learning_rate": config.optimizer.learning_rate,
    }
    for name, value in positive.items():
        if not value > 0:
            raise TlxError(f"config.{name} is {value}; it must be above 0.")
    if config.resume not in ("auto", "never"):
        raise TlxError(f"config.resume is {config.resume!r}; it is 'auto' (go on) or 'never' (refuse a used workdir).")
    check_features(config.features)
    for name, group in config.params.groups.items():
        as_group(f"config.params.groups.{name}", dict(group))


def load_model(config: ConfigDict, folder: Path, heads: dict[str, Head]) -> tuple[Model, Any, frozenset[str]]:
    """The checkpoint with new heads, or the same network drawn anew, with its adapter; and the paths that are not the
    checkpoint's."""
    c = config.model
    model = run_directory.describe_model(folder, c, heads)
    again = reinitialized(c, model.backbone.config.block_paths)
    if c.weights == "random":
        model, params = adapt(model, random_params(model, config.seed), config)
        return model, params, frozenset(flatten(params))
    if c.weights != "pretrained":
        raise TlxError(f"config.model.weights is {c.weights!r}; it is 'pretrained' or 'random'.")
    model, params, initialized = start_from(
        folder, heads, initialise=c.initialise, reinitialise=again, ignore=c.ignore, seed=config.seed,
        dtype=run_directory.compute_dtype(c), **run_directory.model_changes(c),
    )  # fmt: skip
    came = flatten(params).keys() - initialized
    model, params = adapt(model, params, config)
    return model, params, frozenset(flatten(params).keys() - came)
