"""A run from a config: `build(config, workdir)` gives a Job; `job.run()` trains, evaluates and writes."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.files.lock import hold
from tlx.files.whole import writable
from tlx.modalities.api import Inputs
from tlx.models.custom import Custom
from tlx.models.forward import Variables
from tlx.optim.groups import as_group
from tlx.parallel.mesh import along_batch, make_mesh, replicated
from tlx.recipes import run_directory
from tlx.recipes.cached_features import check_features, from_features
from tlx.recipes.datasets import Datasets, with_splits
from tlx.recipes.defaults import with_current_names
from tlx.recipes.job import Job
from tlx.recipes.load import Loader
from tlx.recipes.methods import MakeMethod
from tlx.recipes.train import TrainSetup, loss_settings, train_setup
from tlx.training.phases import Phase
from tlx.training.recalibrate import Recalibration
from tlx.training.tasks import Stream, Task


def build(
    config: ConfigDict,
    workdir: str | Path,
    sweep: optax.Schedule | None = None,
    backbone: Custom | None = None,
    *,
    tables: Mapping[str, Any] | None = None,
    loader: Loader | None = None,
    methods: Mapping[str, MakeMethod] | None = None,
    streams: Mapping[str, Stream] | None = None,
) -> Job:
    """Reads data and checkpoint and lays out the run; nothing is trained yet.

    Args:
      config: see `tlx/recipes/defaults.py`.
      workdir: the run directory.
      sweep: the learning rate by step, in place of the config's.
      backbone: a module in place of the checkpoint's, whose tokenizer or image processor alone is then read (see
        `recipes.custom.custom_backbone`).
      tables: data in memory by split, `train` and perhaps `validation` and `test`, in place of `config.data`'s files:
        lists of rows, columns, pandas, a `datasets.Dataset`.
      loader: shared by runs that read the same data or checkpoint.
      methods: of a script, by the name that `config.method.name` or a phase gives.
      streams: of such methods, besides the tasks' own.

    Raises:
      TlxError: whatever in the config, the data or the checkpoint does not fit, in one sentence.
    """
    run, lock = run_directory.look_at(workdir)
    config = with_current_names(config)
    check(config)
    config = with_splits(config)
    loaded = (loader or Loader()).load(config, tables, backbone)
    model, variables, model_state = loaded.model, loaded.variables, loaded.variables.model_state
    inputs: Inputs = loaded.inputs
    tasks = {name: make_task(name, config, datasets) for name, datasets in loaded.datasets.items()}
    mesh = make_mesh(config.parallel.data)

    def set_up(tasks: Mapping[str, Task], inputs: Inputs) -> TrainSetup:
        return train_setup(
            config, model, variables.params, tasks, inputs, loaded.initialized, sweep, methods, model_state
        )

    setup = set_up(tasks, inputs)
    facts = _facts(loaded.datasets)
    heads = run_directory.heads_as_json({name: task.head for name, task in tasks.items()})
    with writable(run):
        run.mkdir(parents=True, exist_ok=True)
        lock = lock or hold(run)
        written = {"heads": heads, "data": facts, "backbone": loaded.custom}
        run_directory.open_run(run, config.to_dict(), written, loaded.folder, loaded.inputs)
    if len(tasks) == 1:
        ((name, task),) = tasks.items()
        cached = from_features(config, model, variables, setup.assigned, loaded.inputs, task, mesh)
        if cached is not None:
            inputs, tasks = cached[0], {name: cached[1]}
            setup = set_up(tasks, inputs)
    everywhere = replicated(mesh)
    placed: Variables = jax.device_put(variables, everywhere)
    begin = jax.jit(setup.begin, out_shardings=everywhere)
    job = Job(
        run_directory=run,
        model=model,
        modality=loaded.inputs,
        inputs=inputs,
        tasks=tasks,
        streams={**{task.stream_name: task.stream for task in tasks.values()}, **(streams or {})},
        datasets=loaded.datasets,
        facts=facts,
        groups=setup.assigned,
        initialized=loaded.initialized,
        state=begin(placed.params, model_state=placed.model_state),
        phases=(),
        schedule=setup.schedule,
        learning_rate=setup.rate,
        eval_batch_size=config.train.eval_batch_size,
        accumulate=config.train.accumulate,
        mesh=mesh,
        seed=config.seed,
        lock=lock,
    )
    return dataclasses.replace(job, phases=compiled_phases(job, setup))


def make_task(name: str, config: ConfigDict, datasets: Datasets) -> Task:
    """A task of the run. name: of its head."""
    loss = loss_settings(config.loss, datasets.head, datasets.examples["train"])
    return Task(name, datasets.head, datasets.examples, loss, config.train.batch_size)


def _facts(datasets: Mapping[str, Datasets]) -> dict[str, Any]:
    """Of the data, by task where there are several."""
    facts = {name: each.facts for name, each in datasets.items()}
    return next(iter(facts.values())) if len(facts) == 1 else {"tasks": facts}


def compiled_phases(job: Job, setup: TrainSetup) -> tuple[Phase, ...]:
    """The phases with their functions jitted over the mesh, and what a phase has of its own bound to the job."""
    everywhere = replicated(job.mesh)
    key, anchors = jax.device_put((jax.random.key(job.seed), setup.anchors), everywhere)
    phases = []
    for phase, rates, method in zip(setup.phases, setup.rates, setup.methods, strict=True):
        if missing := sorted(set(phase.streams) - job.streams.keys()):
            raise TlxError(f"the method {type(method).__name__} reads the stream {missing[0]!r}, which is not there.")
        step = jax.jit(
            phase.step,
            donate_argnums=0,
            in_shardings=(everywhere, along_batch(job.mesh), everywhere, everywhere, everywhere),
            out_shardings=(everywhere, everywhere),
        )
        enter = jax.jit(phase.enter, donate_argnums=0, out_shardings=everywhere)
        phases.append(
            dataclasses.replace(
                phase,
                enter=enter,
                step=_bind(step, key, anchors, jax.device_put(rates, everywhere)),
                batches=None if phase.streams == setup.phases[0].streams else _batches(job, phase.streams),
                before_epoch=None if method.before_epoch is None else _before_epoch(job, method),
                recalibrate=_recalibrate(phase.recalibrate, everywhere, key, anchors),
            )
        )
    return tuple(phases)


def _bind(step: Any, *constants: Any) -> Any:
    return lambda state, batch: step(state, batch, *constants)


def _recalibrate(recalibrate: Any, everywhere: jax.sharding.NamedSharding, *constants: Any) -> Any:
    """The recalibration with its function jitted; None of a phase without one."""
    if not isinstance(recalibrate, Recalibration):
        return recalibrate
    add = jax.jit(recalibrate.add, out_shardings=everywhere)
    return dataclasses.replace(recalibrate, add=lambda *given: add(*given, *constants))


def _batches(job: Job, names: tuple[str, ...]) -> Any:
    return lambda start: job.batches(start, names=names)


def _before_epoch(job: Job, method: Any) -> Any:
    """The method's `before_epoch` on a state, with predictions by the state's parameters."""

    def renewed(state: Any, epoch: int) -> Any:
        def predictions(stream: str) -> Any:
            return job.predict(state.variables, job.streams[stream].examples)

        made = method.before_epoch(state.method_state, state.params, epoch, predictions)
        made = jax.device_put(jax.tree.map(jnp.asarray, made), replicated(job.mesh))
        return dataclasses.replace(state, method_state=made)

    return renewed


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
