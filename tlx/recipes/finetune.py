"""Fine-tuning from a config: `build(config, workdir)` gives a Job, `job.run()` trains, evaluates and writes."""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from tlx.data.examples import Batches, Examples
from tlx.data.plan import EvaluationPlan, TrainingPlan, up_to
from tlx.errors import TlxError, listed
from tlx.evaluation.metrics import HIGHER_IS_BETTER, MONITOR, measure, metric_names
from tlx.evaluation.predict import make_forward, predict
from tlx.methods.finetune import INPUTS, FineTune, LossSettings, head_loss
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.optim.groups import Group, assign_groups, make_optimizer
from tlx.optim.schedules import make_schedule
from tlx.parallel.mesh import along_batch, make_mesh, replicated
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten
from tlx.pretrained.folder import resolve
from tlx.pretrained.load import from_pretrained, random_params
from tlx.pretrained.tokenizer import Tokenizer
from tlx.recipes import run_directory
from tlx.recipes.sets import Sets, load_sets
from tlx.reporting.curves import plot_curves
from tlx.training.checkpoint import Checkpoints, abstract
from tlx.training.feed import feed
from tlx.training.loop import Progressed, Schedule, fit
from tlx.training.state import State, init_state, owners
from tlx.training.step import make_train_step
from tlx.training.writers import MetricsWriter, Progress, read_metrics


@dataclasses.dataclass
class Job:
    """All that a run needs, as plain objects."""

    run_directory: Path
    model: Model
    sets: Sets
    groups: dict[str, str]
    state: State
    train_step: Callable[..., Any]
    schedule: Schedule
    learning_rate: optax.Schedule
    batch_size: int
    eval_batch_size: int
    accumulate: int
    ladder: tuple[int, ...]
    mesh: jax.sharding.Mesh
    seed: int

    def run(self, quiet: bool = False) -> dict[str, Any]:
        """Trains (or goes on), evaluates the best checkpoint on every split but train, writes, returns the summary."""
        plan = TrainingPlan(self.sets.examples["train"].lengths, self.batch_size, self.seed, self.ladder)
        multiple = self.mesh.size * self.accumulate
        batches = Batches(self.sets.examples["train"], plan, self.schedule.total, multiple)
        with Checkpoints(self.run_directory / "checkpoints") as checkpoints:
            state, so_far = fit(
                self.state,
                self.train_step,
                lambda start: feed({"train": batches}, along_batch(self.mesh), start),
                lambda params: self.evaluate(params, "validation"),
                schedule=self.schedule,
                checkpoints=checkpoints,
                writer=functools.partial(MetricsWriter, self.run_directory),
                progress=lambda start: Progress(self.run_directory.name, self.schedule.total, start, quiet),
                learning_rate=self.learning_rate,
                meta={"seed": self.seed},
            )
            best = int(so_far.best["step"]) if so_far.best else int(state.step)
            params = state.params
            if best != int(state.step):
                checkpoints.wait()
                params = checkpoints.restore_params(best, abstract(params, replicated(self.mesh)))
        return self._summarise(params, best, so_far, int(state.step))

    @functools.cached_property
    def forward(self) -> Any:
        """Answers without dropout, jitted."""
        return make_forward(self.model, INPUTS)

    def answers(self, params: Any, split: str) -> np.ndarray:
        """The head's answers to a split, (examples, outputs), or of tagged words (words, outputs)."""
        examples = self.sets.examples[split]
        plan = EvaluationPlan(examples.lengths, self.eval_batch_size, self.ladder)
        batches = Batches(examples, plan, plan.steps_per_epoch, self.mesh.size)
        return predict(self.forward, params, batches, along_batch(self.mesh))["default"]

    def evaluate(self, params: Any, split: str) -> dict[str, float]:
        """Every metric of a split, named `split/metric`."""
        return score(self.answers(params, split), self.sets.examples[split], self.sets.head, split)

    def _summarise(self, params: Any, best: int, so_far: Progressed, last: int) -> dict[str, Any]:
        (self.run_directory / "predictions").mkdir(exist_ok=True)
        values: dict[str, float] = {}
        for split in (name for name in self.sets.examples if name != "train"):
            examples, answers = self.sets.examples[split], self.answers(params, split)
            values |= score(answers, examples, self.sets.head, split)
            words: dict[str, Any] = {} if examples.word_offsets is None else {"word_offsets": examples.word_offsets}
            np.savez(
                self.run_directory / "predictions" / f"{split}.npz",
                example_id=examples.example_id, answers=answers, labels=examples.labels, **words,
            )  # fmt: skip
        sizes = {path: int(np.prod(leaf.shape)) for path, leaf in flatten(params).items()}
        trainable = sum(size for path, size in sizes.items() if self.groups[path] != FROZEN)
        summary = {
            **self.sets.facts,
            "metrics": values,
            "selection": f"step {best} of {last}: the best {self.schedule.monitor} of the run's evaluations",
            "parameters": {"trainable": trainable, "frozen": sum(sizes.values()) - trainable},
            "seconds": round(so_far.seconds, 1),
            "versions": run_directory.versions(),
            "revision": run_directory.revision(),
        }
        run_directory.write_json(self.run_directory / "summary.json", summary)
        plot_curves(
            {self.run_directory.name: read_metrics(self.run_directory)}, self.run_directory / "plots" / "curves.png"
        )
        return summary


def score(answers: np.ndarray, examples: Examples, head: Head, split: str) -> dict[str, float]:
    """Metrics of a head's kind and the mean loss, over exactly the examples there are."""
    labels = examples.labels
    values = measure(head.kind, answers, labels, head.labels, examples.word_offsets)
    total, count = _jitted_loss(head)(answers, labels, np.ones(len(labels), np.float32))
    return {f"{split}/{name}": value for name, value in {"loss": float(total / count), **values}.items()}


@functools.lru_cache
def _jitted_loss(head: Head) -> Callable[..., Any]:
    return jax.jit(head_loss(head))


def build(config: ConfigDict, workdir: str | Path) -> Job:
    """Reads data and checkpoint and lays out the run; nothing is trained yet.

    Raises:
      TlxError: whatever in the config, the data or the checkpoint does not fit, in one sentence.
    """
    run = Path(workdir).absolute()
    check(config)
    folder = resolve(config.model.checkpoint)
    sets = load_sets(config, Tokenizer(folder, config.data.max_length))
    heads = {"default": sets.head}
    model, params = load_model(config, folder, heads)
    mesh = make_mesh(config.parallel.data)
    learning = plan_learning(config, model, params, sets)
    everywhere = replicated(mesh)
    state = jax.jit(learning.begin, out_shardings=everywhere)(jax.device_put(params, everywhere))
    train_step = jax.jit(
        learning.step,
        donate_argnums=0,
        in_shardings=(everywhere, along_batch(mesh)),
        out_shardings=(everywhere, everywhere),
    )
    facts = {"heads": run_directory.heads_as_json(heads), "data": sets.facts}
    run_directory.open_run(run, config.to_dict(), facts, folder)
    return Job(
        run, model, sets, learning.groups, state, train_step, learning.schedule, learning.rate,
        config.train.batch_size, config.train.eval_batch_size, config.train.accumulate, up_to(config.data.max_length),
        mesh, config.seed,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Learning:
    """How a model learns. groups: the group of each path. begin: parameters to the first state. step: pure."""

    groups: dict[str, str]
    groups_of: dict[str, Group]
    schedule: Schedule
    rate: optax.Schedule
    begin: Callable[[Any], State]
    step: Callable[..., Any]


def plan_learning(config: ConfigDict, model: Model, params: Any, sets: Sets) -> Learning:
    """Groups, optimizer, method and step. params: arrays or their shapes; nothing is computed."""
    if config.data.max_length > (limit := model.backbone.config.max_position_embeddings):
        raise TlxError(f"config.data.max_length is {config.data.max_length}; this checkpoint has {limit} positions.")
    groups_of = {name: Group(**group) for name, group in config.params.groups.items()}
    kinds = model.backbone.kinds
    groups = assign_groups(params, config.params.rules, groups_of, kinds)
    schedule, rate = make_schedules(config, len(sets.examples["train"]), sets.head.kind)
    losses = loss_settings(config.loss, sets.head, sets.examples["train"])
    method = FineTune(model, {"default": "label"}, frozen_blocks(model, groups), losses)
    owner = owners(params, groups, method.players)
    optimizer = make_optimizer(
        params, config.params.rules, groups_of, learning_rate=rate, kinds=kinds,
        b1=config.optimizer.b1, b2=config.optimizer.b2, eps=config.optimizer.eps,
    )  # fmt: skip
    _, method_state = method.init(jax.random.key(config.seed))
    begin = functools.partial(init_state, owner=owner, optimizers={"model": optimizer}, method_state=method_state)
    step = make_train_step(
        method, {"model": optimizer}, owner,
        seed=config.seed, clip=config.optimizer.clip or None, accumulate=config.train.accumulate,
    )  # fmt: skip
    return Learning(groups, groups_of, schedule, rate, begin, step)


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
    }
    for name, value in positive.items():
        if not value > 0:
            raise TlxError(f"config.{name} is {value}; it must be above 0.")
    if config.resume not in ("auto", "never"):
        raise TlxError(f"config.resume is {config.resume!r}; it is 'auto' (go on) or 'never' (refuse a used workdir).")
    fields = {field.name for field in dataclasses.fields(Group)}
    for name, group in config.params.groups.items():
        if unknown := set(group) - fields:
            has = listed(sorted(fields))
            raise TlxError(f"config.params.groups.{name} has no field {listed(sorted(unknown))}; it has {has}.")


def load_model(config: ConfigDict, folder: Path, heads: dict[str, Head]) -> tuple[Model, Any]:
    """The checkpoint with new heads, or the same network drawn anew."""
    c = config.model
    if c.weights == "random":
        model = run_directory.describe_model(folder, c, heads)
        return model, random_params(model, config.seed)
    if c.weights != "pretrained":
        raise TlxError(f"config.model.weights is {c.weights!r}; it is 'pretrained' or 'random'.")
    return from_pretrained(
        folder, heads, initialise=c.initialise, ignore=c.ignore, seed=config.seed,
        dtype=run_directory.compute_dtype(c), **run_directory.model_changes(c),
    )  # fmt: skip


def make_schedules(config: ConfigDict, examples: int, kind: str) -> tuple[Schedule, optax.Schedule]:
    """What the loop does when, and the learning rate by step."""
    train, optimizer = config.train, config.optimizer
    steps_per_epoch = math.ceil(examples / train.batch_size)
    total = max(1, round(train.epochs * steps_per_epoch))
    warmup = optimizer.warmup_steps
    warmup = round(optimizer.warmup_fraction * total) if warmup is None else warmup
    monitor = train.monitor or f"validation/{MONITOR[kind]}"
    name = monitor.removeprefix("validation/")
    if name not in {"loss", *metric_names(kind)} or monitor == name:
        known = [f"validation/{metric}" for metric in ("loss", *metric_names(kind))]
        raise TlxError(f"config.train.monitor is {monitor!r}; a {kind} has {listed(known)}.")
    when = Schedule(
        total=total,
        steps_per_epoch=steps_per_epoch,
        examples_per_step=train.batch_size,
        evaluate_every=max(1, round(train.evaluate_every * steps_per_epoch)),
        log_every=train.log_every,
        monitor=monitor,
        mode="max" if HIGHER_IS_BETTER[name] else "min",
        patience=train.patience,
    )
    rate = make_schedule(
        optimizer.schedule, optimizer.learning_rate, total, warmup,
        power=optimizer.power, final_fraction=optimizer.final_fraction,
    )  # fmt: skip
    return when, rate


def loss_settings(config: ConfigDict, head: Head, train: Examples) -> LossSettings:
    """Smoothing and class weights; the balanced ones are counted in the training split."""
    given = tuple(float(weight) for weight in config.class_weights)
    if not 0 <= config.label_smoothing < 1:
        raise TlxError(f"config.loss.label_smoothing is {config.label_smoothing}; it is at least 0 and below 1.")
    if head.kind not in ("classification", "tagging") and config.label_smoothing:
        raise TlxError(f"config.loss.label_smoothing is of classes and tags; this head's kind is {head.kind!r}.")
    if head.kind == "regression" and (given or config.balanced):
        raise TlxError("config.loss: a regression has no classes to weigh.")
    if given and (config.balanced or len(given) != head.outputs):
        raise TlxError(
            f"config.loss.class_weights has {len(given)} weights; it is one for each of the {head.outputs} classes "
            f"({listed(head.labels)}), or none with config.loss.balanced."
        )
    if config.balanced:
        labels = train.labels
        if head.kind == "multilabel":
            yes = np.maximum(labels.sum(axis=0), 1)
            given = tuple(((len(labels) - yes) / yes).tolist())
        else:
            counts = np.bincount(labels, minlength=head.outputs)
            given = tuple((len(labels) / (head.outputs * np.maximum(counts, 1))).tolist())
    return LossSettings(config.label_smoothing, given)


def frozen_blocks(model: Model, groups: dict[str, str]) -> tuple[str, ...]:
    """The blocks in which nothing learns."""
    prefixes = (
        "backbone/embeddings",
        *(f"backbone/encoder/layer/{i}" for i in range(model.backbone.config.num_blocks)),
    )
    return tuple(
        prefix
        for prefix in prefixes
        if all(group == FROZEN for path, group in groups.items() if path.startswith(prefix + "/"))
    )
