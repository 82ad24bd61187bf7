"""Builds a run from a config: `build(config, workdir)` returns a `Job`, and `job.run()` trains and evaluates it."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from tlx.files.atomic import writable
from tlx.files.lock import Lock, acquire_lock
from tlx.modalities.api import Inputs
from tlx.models.custom import Custom
from tlx.models.forward import Variables
from tlx.parallel.layout import Layout, make_layout
from tlx.parallel.processes import on_main
from tlx.recipes import run_directory
from tlx.recipes.advice import warn_of_half_precision
from tlx.recipes.baselines import read_baselines
from tlx.recipes.cached_features import from_features
from tlx.recipes.checks import check_config, check_mixing
from tlx.recipes.compiled import compiled_phases
from tlx.recipes.datasets import Datasets
from tlx.recipes.deprecated import with_current_names
from tlx.recipes.job import Job
from tlx.recipes.load import Loaded, Loader
from tlx.recipes.losses import loss_settings
from tlx.recipes.methods import Methods, with_method_fields
from tlx.recipes.model import default_dtype
from tlx.recipes.packing import Packing, plan_batch_shapes
from tlx.recipes.selection import check_rows
from tlx.recipes.splits import TARGET, with_splits
from tlx.recipes.target import check_streams, check_target, target_streams, with_target_as_source
from tlx.recipes.task_adapters import with_task_adapters
from tlx.recipes.tasks import configs_by_task, with_joint_stream
from tlx.recipes.train import TrainSetup, train_setup
from tlx.training.state import State
from tlx.training.tasks import DEFAULT, Stream, Task


def build(
    config: ConfigDict,
    workdir: str | Path,
    sweep: optax.Schedule | None = None,
    backbone: Custom | None = None,
    *,
    tables: Mapping[str, Any] | None = None,
    loader: Loader | None = None,
    methods: Methods | None = None,
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
        `validation`, `test`, `target` and `target_test`. A value is a list of rows, a dict of columns, a pandas data
        frame or a `datasets.Dataset`.
      loader: a `Loader` shared by several runs that read the same data or checkpoint.
      methods: additional methods by the name that `config.method.name` or a phase uses: the function that makes the
        method, and its fields of `config.method` with their defaults (see `recipes.methods.METHODS`).
      streams: additional streams by name, for such methods.

    Returns:
      The job.

    Raises:
      TlxError: if a value of the config, the data or the checkpoint is invalid.
    """
    run, lock = on_main(lambda: run_directory.check_workdir(workdir)) or (Path(workdir).absolute(), None)
    config = with_method_fields(with_current_names(config), methods)
    check_config(config)
    config = _with_dtype(config, run)
    layout = layout_from(config)
    config = with_splits(with_target_as_source(config))
    check_target(config, tables or ())
    baselines = read_baselines(config)
    loaded = (loader or Loader()).load(config, tables, backbone)
    model, variables = loaded.model, loaded.variables
    inputs: Inputs = loaded.inputs
    configs = configs_by_task(config)
    tasks = {name: make_task(name, configs[name], datasets) for name, datasets in loaded.datasets.items()}
    inputs, tasks = with_task_adapters(model, inputs, tasks)
    tasks = with_joint_stream(config, tasks)
    streams = {**target_streams(config, loaded.datasets), **(streams or {})}
    layout = layout.with_params(variables.params, model.backbone.kinds)
    check_mixing(loaded.inputs, tasks)
    make_setup = functools.partial(
        train_setup, config, model, variables.params, initialized=loaded.initialized, sweep=sweep, methods=methods,
        model_state=variables.model_state, sizes={name: len(stream.examples) for name, stream in streams.items()},
        sources=loaded.datasets[DEFAULT].facts.get("sources", ()) if DEFAULT in loaded.datasets else (),
    )  # fmt: skip
    setup = make_setup(tasks, inputs)
    check_streams(setup.methods, {*(task.stream_name for task in tasks.values()), *streams})
    check_rows(setup.schedule.monitor, tasks, streams)
    warn_of_half_precision(config, setup.assignments, variables.params)
    packing, lengths = plan_batch_shapes(
        config, model, loaded.inputs, tasks, streams, setup.methods, setup.schedule.total
    )
    facts = _facts(loaded.datasets)
    heads = run_directory.heads_as_json({name: task.head for name, task in tasks.items()})
    written = {"heads": heads, "data": facts, "backbone": loaded.custom}
    lock = on_main(lambda: _open_run(run, lock, config, written, loaded))
    if streams and config.features.cache in ("memory", "disk") and layout.is_main:
        print("features: none are cached, because the run has streams of other data.", flush=True)
    if tasks.keys() == {DEFAULT} and not streams:
        ((name, task),) = tasks.items()
        cached = from_features(config, model, variables, setup.assigned, loaded.inputs, task, layout, packing, lengths)
        if cached is not None:
            inputs, tasks = cached[0], {name: cached[1]}
            setup = make_setup(tasks, inputs)
    job = Job(
        run_directory=run,
        model=model,
        modality=loaded.inputs,
        inputs=inputs,
        tasks=tasks,
        streams={**{task.stream_name: _stream(task, packing) for task in tasks.values()}, **streams},
        datasets=loaded.datasets,
        facts=facts,
        baselines=baselines,
        groups=setup.assigned,
        initialized=loaded.initialized,
        state=_initial_state(setup, layout.put(variables), layout),
        phases=(),
        schedule=setup.schedule,
        learning_rate=setup.rate,
        eval_batch_size=config.train.eval_batch_size,
        accumulate=config.train.accumulate,
        max_skipped=config.train.max_skipped,
        layout=layout,
        length_buckets=lengths,
        packing=packing,
        seed=config.seed,
        lock=lock,
    )
    return dataclasses.replace(job, phases=compiled_phases(job, setup))


def _with_dtype(config: ConfigDict, run: Path) -> ConfigDict:
    """The config with the dtype that "auto" means: that of the run in the run directory, or else the devices' own."""
    if config.model.dtype != "auto":
        return config
    config = config.copy_and_resolve_references()
    began = (run / "config.json").is_file()
    config.model.dtype = run_directory.read_run(run)["config"]["model"]["dtype"] if began else default_dtype()
    return config


def _initial_state(setup: TrainSetup, variables: Variables, layout: Layout) -> State:
    """Makes the initial state on the devices; `variables` are there already."""
    shapes = jax.eval_shape(setup.begin, variables.params, model_state=variables.model_state)
    begin = jax.jit(setup.begin, out_shardings=layout.shardings(shapes))
    state: State = begin(variables.params, model_state=variables.model_state)
    return state


def _open_run(run: Path, lock: Lock | None, config: ConfigDict, written: Mapping[str, Any], loaded: Loaded) -> Lock:
    """Makes the run directory, or checks that the run in it has the same config and data; returns the lock on it."""
    with writable(run):
        run.mkdir(parents=True, exist_ok=True)
        lock = lock or acquire_lock(run)
        run_directory.open_run(run, config.to_dict(), written, loaded.folder, loaded.inputs)
    return lock


def layout_from(config: ConfigDict) -> Layout:
    """Returns the layout of `config.parallel`; parameters are added with `Layout.with_params`."""
    parallel = config.parallel
    return make_layout(parallel.data, parallel.fsdp, parallel.mode, parallel.rules)


def make_task(name: str, config: ConfigDict, datasets: Datasets) -> Task:
    """Makes a task of the run.

    Args:
      name: name of the task and of its head.
      config: the run's config.
      datasets: the task's data.
    """
    loss = loss_settings(config.loss, datasets.head, datasets.examples["train"])
    splits = {split: examples for split, examples in datasets.examples.items() if split != TARGET}
    return Task(name, datasets.head, splits, loss, config.train.batch_size)


def _stream(task: Task, packing: Packing | None) -> Stream:
    return dataclasses.replace(task.stream, shape=None if packing is None else packing.training)


def _facts(datasets: Mapping[str, Datasets]) -> dict[str, Any]:
    """Facts about the data; by task if there are several tasks."""
    facts = {name: dataset.facts for name, dataset in datasets.items()}
    return next(iter(facts.values())) if len(facts) == 1 else {"tasks": facts}
