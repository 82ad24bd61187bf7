"""Compiles the phases of a run for its layout and gives them their batches, constants and predictions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import TlxError
from tlx.parallel.layout import Layout
from tlx.recipes.job import Job
from tlx.recipes.memory import explained
from tlx.recipes.train import TrainSetup
from tlx.training.phases import Phase, state_in
from tlx.training.recalibrate import Recalibration


def compiled_phases(job: Job, setup: TrainSetup) -> tuple[Phase, ...]:
    """Returns the phases with their functions jitted for the job's layout and their constants bound.

    Args:
      job: the job; its streams, layout and forward pass are used.
      setup: the training setup with the pure functions of the phases.

    Raises:
      TlxError: if a method reads a stream that does not exist.
    """
    layout = job.layout
    key, anchors = layout.put((jax.random.key(job.seed), setup.anchors))
    phases = []
    for index, (phase, rates, method) in enumerate(zip(setup.phases, setup.rates, setup.methods, strict=True)):
        if missing := sorted(set(phase.streams) - job.streams.keys()):
            raise TlxError(f"the method {type(method).__name__} reads the stream {missing[0]!r}, which the run lacks.")
        state = state_in(setup.phases[: index + 1], job.state)
        constants = (key, anchors, layout.put(rates))
        step = layout.train_step(phase.step, state, constants)
        enter = jax.jit(phase.enter, donate_argnums=0, out_shardings=layout.shardings(state))
        phases.append(
            dataclasses.replace(
                phase,
                enter=enter,
                step=explained(step, constants),
                diagnose=None if phase.diagnose is None else _bind(jax.jit(phase.diagnose), *constants),
                batches=None if phase.streams == setup.phases[0].streams else _batches(job, phase.streams),
                before_epoch=None if method.before_epoch is None else _before_epoch(job, method),
                recalibrate=_recalibrate(phase.recalibrate, layout, key, anchors),
            )
        )
    return tuple(phases)


def _bind(step: Any, *constants: Any) -> Any:
    return lambda state, batch: step(state, batch, *constants)


def _recalibrate(recalibrate: Any, layout: Layout, *constants: Any) -> Any:
    """The recalibration with its function jitted; None if the phase has none."""
    if not isinstance(recalibrate, Recalibration):
        return recalibrate
    add = jax.jit(recalibrate.add, out_shardings=layout.replicated)
    return dataclasses.replace(recalibrate, add=lambda *arguments: add(*arguments, *constants))


def _batches(job: Job, names: tuple[str, ...]) -> Any:
    return lambda start: job.batches(start, names=names)


def _before_epoch(job: Job, method: Any) -> Any:
    """The method's `before_epoch` as a function of the state, with predictions made by the state's parameters."""

    def with_new_method_state(state: Any, epoch: int) -> Any:
        def predictions(stream: str) -> Any:
            return job.predict(state.variables, job.streams[stream].examples)

        method_state = method.before_epoch(state.method_state, state.params, epoch, predictions)
        method_state = job.layout.put(jax.tree.map(jnp.asarray, method_state))
        return dataclasses.replace(state, method_state=method_state)

    return with_new_method_state
