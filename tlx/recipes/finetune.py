"""Builds a run from a config: `build(config, workdir)` returns a `Job`, and `job.run()` trains and evaluates it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.files.lock import Lock, hold
from tlx.files.whole import writable
from tlx.methods.finetune import head_loss
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
from tlx.recipes.packing import Packing, check_packing, plan_lengths, plan_packing
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
    """Reads the data and the checkpoint and prepares the run. It trains nothing.

    Args:
      config: the config; `tlx/recipes/defaults.py` documents the fields.
      workdir: the run directory.
      sweep: a function from the step to the learning rate that replaces the config's schedule.
      backbone: a custom module that replaces the checkpoint's backbone (see `recipes.custom.custom_backbone`). Only
        the tokenizer or image processor of the checkpoint is then read.
      tables: data in memory that replaces the files of `config.data`: a dict with the key `train` and optionally
        `validation` and `test`. A value is a list of rows, a dict of columns, a pandas data frame or a
        `datasets.Dataset`.
      loader: a `Loader` shared by several runs that read the same data or checkpoint.
      methods: additional methods by the name that `config.method.name` or a phase uses.
      streams: additional streams by name, for such methods.

    Returns:
      The job.

    Raises:
      TlxError: if a value of the config, the data or the checkpoint is invalid.
    """
    run, lock = on_main(lambda: run_directory.look_at(workdir)) or (Path(workdir).absolute(), None)
    config = run_directory.as_begun(run, with_current_names(config))
    check(config)
    layout = lay_out(config)
    config = with_splits(config)
    loaded = (loader or Loader()).load(config, tables, backbone)
    model, variables, model_state = loaded.model, loaded.variables, loaded.variables.model_state
    inputs: Inputs = loaded.inputs
    tasks = {name: make_task(name, config, datasets) for name, datasets in loaded.datasets.items()}
    layout = layout.with_params(variables.params, model.backbone.kinds)
    check_mixing(layout, inputs, tasks)

    def set_up(tasks: Mapping[str, Task], inputs: Inputs) -> TrainSetup:
        return train_setup(
            config, model, variables.params, tasks, inputs, loaded.initialized, sweep, methods, model_state
        )

    setup = set_up(tasks, inputs)
    packing = plan_packing(config, model, loaded.inputs, tasks, setup.methods)
    lengths = loaded.inputs.length_buckets
    if packing is None:
        all_streams = {**{task.stream_name: task.stream for task in tasks.values()}, **(streams or {})}
        lengths = plan_lengths(config, loaded.inputs, tasks, all_streams, setup.schedule.total)
    facts = _facts(loaded.datasets)
    heads = run_directory.heads_as_json({name: task.head for name, task in tasks.items()})
    written = {"heads": heads, "data": facts, "backbone": loaded.custom}
    lock = on_main(lambda: _open_run(run, lock, config, written, loaded))
    if len(tasks) == 1:
        ((name, task),) = tasks.items()
        cached = from_features(config, model, variables, setup.assigned, loaded.inputs, task, layout, packing, lengths)
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
        streams={**{task.stream_name: _stream(task, packing) for task in tasks.values()}, **(streams or {})},
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
        length_buckets=lengths,
        packing=packing,
        seed=config.seed,
        lock=lock,
    )
    return dataclasses.replace(job, phases=compiled_phases(job, setup))


def _open_run(run: Path, lock: Lock | None, config: ConfigDict, written: Mapping[str, Any], loaded: Loaded) -> Lock:
    """Makes the run directory, or checks that the run in it has the same config and data; returns the lock on it."""
    with writable(run):
        run.mkdir(parents=True, exist_ok=True)
        lock = lock or hold(run)
        run_directory.open_run(run, config.to_dict(), written, loaded.folder, loaded.inputs)
    return lock


def lay_out(config: ConfigDict) -> Layout:
    """Returns the layout of `config.parallel`; parameters are added with `Layout.with_params`."""
    parallel = config.parallel
    return make_layout(parallel.data, parallel.fsdp, parallel.mode, parallel.rules)


def check_mixing(layout: Layout, inputs: Inputs, tasks: Mapping[str, Task]) -> None:
    """Raises `TlxError` if mixup or CutMix is used where it cannot be.

    With pmap a device has only its own rows of the batch, and a loss may take class indices only.
    """
    augmentation = getattr(inputs, "augmentation", None)
    if augmentation is None or not augmentation.mixing.on:
        return
    for task in tasks.values():
        shares = jax.ShapeDtypeStruct((2, task.head.outputs), np.float32)  # of each class, in two examples
        try:
            jax.eval_shape(head_loss(task.head, task.loss), shares, shares, jax.ShapeDtypeStruct((2,), np.float32))
        except (TypeError, ValueError) as error:
            raise TlxError(
                f"config.loss.name is {task.loss.name!r}, a loss that takes no labels (examples, classes), which mixup "
                "and cutmix make; take another loss, or leave them off."
            ) from error
    if layout.mode == "pmap":
        raise TlxError(
            "parallel.mode is 'pmap', where a device has only its own rows; mixup and cutmix take partners from the "
            "whole batch, so take 'jit'."
        )


def make_task(name: str, config: ConfigDict, datasets: Datasets) -> Task:
    """Makes a task of the run.

    Args:
      name: name of the task and of its head.
      config: the run's config.
      datasets: the task's data.
    """
    loss = loss_settings(config.loss, datasets.head, datasets.examples["train"])
    return Task(name, datasets.head, datasets.examples, loss, config.train.batch_size)


def _stream(task: Task, packing: Packing | None) -> Stream:
    return dataclasses.replace(task.stream, shape=None if packing is None else packing.training)


def _facts(datasets: Mapping[str, Datasets]) -> dict[str, Any]:
    """Facts about the data; by task if there are several tasks."""
    facts = {name: dataset.facts for name, dataset in datasets.items()}
    return next(iter(facts.values())) if len(facts) == 1 else {"tasks": facts}


def check(config: ConfigDict) -> None:
    """Raises `TlxError` for invalid values that can be detected without data and checkpoint."""
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
    check_packing(config)
    for name, group in config.params.groups.items():
        as_group(f"config.params.groups.{name}", dict(group))
