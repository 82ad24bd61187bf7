"""A run from a config: `build(config, workdir)` gives a Job; `job.run()` trains, evaluates and writes."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.files.lock import Lock, hold
from tlx.files.whole import writable
from tlx.modalities.api import Inputs
from tlx.models.custom import Custom
from tlx.models.forward import Variables
from tlx.optim.groups import as_group
from tlx.parallel.layout import Layout, make_layout
from tlx.parallel.processes import on_main
from tlx.recipes import run_directory
from tlx.recipes.cached_features import check_features, from_features
from tlx.recipes.compiled import compiled_phases
from tlx.recipes.datasets import Datasets, with_splits
from tlx.recipes.defaults import with_current_names
from tlx.recipes.job import Job
from tlx.recipes.load import Loaded, Loader
from tlx.recipes.methods import MakeMethod
from tlx.recipes.train import TrainSetup, loss_settings, train_setup
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
    run, lock = on_main(lambda: run_directory.look_at(workdir)) or (Path(workdir).absolute(), None)
    config = with_current_names(config)
    check(config)
    layout = lay_out(config)
    config = with_splits(config)
    loaded = (loader or Loader()).load(config, tables, backbone)
    model, variables, model_state = loaded.model, loaded.variables, loaded.variables.model_state
    inputs: Inputs = loaded.inputs
    tasks = {name: make_task(name, config, datasets) for name, datasets in loaded.datasets.items()}
    layout = layout.with_params(variables.params, model.backbone.kinds)
    check_mixing(layout, inputs)

    def set_up(tasks: Mapping[str, Task], inputs: Inputs) -> TrainSetup:
        return train_setup(
            config, model, variables.params, tasks, inputs, loaded.initialized, sweep, methods, model_state
        )

    setup = set_up(tasks, inputs)
    facts = _facts(loaded.datasets)
    heads = run_directory.heads_as_json({name: task.head for name, task in tasks.items()})
    written = {"heads": heads, "data": facts, "backbone": loaded.custom}
    lock = on_main(lambda: _open_run(run, lock, config, written, loaded))
    if len(tasks) == 1:
        ((name, task),) = tasks.items()
        cached = from_features(config, model, variables, setup.assigned, loaded.inputs, task, layout)
        if cached is not None:
            inputs, tasks = cached[0], {name: cached[1]}
            setup = set_up(tasks, inputs)
    placed: Variables = layout.put(variables)
    shapes = jax.eval_shape(setup.begin, placed.params, model_state=placed.model_state)
    begin = jax.jit(setup.begin, out_shardings=layout.shardings(shapes))
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
        layout=layout,
        seed=config.seed,
        lock=lock,
    )
    return dataclasses.replace(job, phases=compiled_phases(job, setup))


def _open_run(run: Path, lock: Lock | None, config: ConfigDict, written: Mapping[str, Any], loaded: Loaded) -> Lock:
    """Makes the run directory, or checks that the run in it began so; returns the lock on it."""
    with writable(run):
        run.mkdir(parents=True, exist_ok=True)
        lock = lock or hold(run)
        run_directory.open_run(run, config.to_dict(), written, loaded.folder, loaded.inputs)
    return lock


def lay_out(config: ConfigDict) -> Layout:
    """The layout that `config.parallel` asks for, still without parameters."""
    parallel = config.parallel
    return make_layout(parallel.data, parallel.fsdp, parallel.mode, parallel.rules)


def check_mixing(layout: Layout, inputs: Inputs) -> None:
    """Raises `TlxError` where an image would be mixed with one that its device does not have."""
    augmentation = getattr(inputs, "augmentation", None)
    if layout.mode == "pmap" and augmentation is not None and augmentation.mixing.on:
        raise TlxError(
            "parallel.mode is 'pmap', in which a device sees its own rows alone; mixup and cutmix take partners from "
            "the whole batch, so take 'jit'."
        )


def make_task(name: str, config: ConfigDict, datasets: Datasets) -> Task:
    """A task of the run. name: of its head."""
    loss = loss_settings(config.loss, datasets.head, datasets.examples["train"])
    return Task(name, datasets.head, datasets.examples, loss, config.train.batch_size)


def _facts(datasets: Mapping[str, Datasets]) -> dict[str, Any]:
    """Of the data, by task where there are several."""
    facts = {name: each.facts for name, each in datasets.items()}
    return next(iter(facts.values())) if len(facts) == 1 else {"tasks": facts}


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
