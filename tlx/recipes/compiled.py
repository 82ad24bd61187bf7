"""The phases of a run, compiled for its layout and bound to its streams, constants and predictions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tlx.errors import TlxError
from tlx.parallel.layout import Layout
from tlx.recipes.job import Job
from tlx.recipes.train import TrainSetup
from tlx.training.phases import Phase, state_in
from tlx.training.recalibrate import Recalibration


def compiled_phases(job: Job, setup: TrainSetup) -> tuple[Phase, ...]:
    """The phases with their functions compiled for the job's layout, and their own batches, states and constants."""
    layout = job.layout
    key, anchors = layout.put((jax.random.key(job.seed), setup.anchors))
    phases = []
    for index, (phase, rates, method) in enumerate(zip(setup.phases, setup.rates, setup.methods, strict=True)):
        if missing := sorted(set(phase.streams) - job.streams.keys()):
            raise TlxError(f"the method {type(method).__name__} reads the stream {missing[0]!r}, which is not there.")
        state = state_in(setup.phases[: index + 1], job.state)
        constants = (key, anchors, layout.put(rates))
        step = layout.train_step(phase.step, state, constants)
        enter = jax.jit(phase.enter, donate_argnums=0, out_shardings=layout.shardings(state))
        phases.append(
            dataclasses.replace(
                phase,
                enter=enter,
                step=_bind(step, *constants),
                batches=None if phase.streams == setup.phases[0].streams else _batches(job, phase.streams),
                before_epoch=None if method.before_epoch is None else _before_epoch(job, method),
                recalibrate=_recalibrate(phase.recalibrate, layout, key, anchors),
            )
        )
    return tuple(phases)


def _bind(step: Any, *constants: Any) -> Any:
    return lambda state, batch: step(state, batch, *constants)


def _recalibrate(recalibrate: Any, layout: Layout, *constants: Any) -> Any:
    """The recalibration with its function jitted; None of a phase without one."""
    if not isinstance(recalibrate, Recalibration):
        return recalibrate
    add = jax.jit(recalibrate.add, out_shardings=layout.everywhere)
    return dataclasses.replace(recalibrate, add=lambda *given: add(*given, *constants))


def _batches(job: Job, names: tuple[str, ...]) -> Any:
    return lambda start: job.batches(start, names=names)


def _before_epoch(job: Job, method: Any) -> Any:
    """The method's `before_epoch` on a state, with predictions by the state's parameters."""

    def renewed(state: Any, epoch: int) -> Any:
        def predictions(stream: str) -> Any:
            return job.predict(state.variables, job.streams[stream].examples)

        made = method.before_epoch(state.method_state, state.params, epoch, predictions)
        made = job.layout.put(jax.tree.map(jnp.asarray, made))
        return dataclasses.replace(state, method_state=made)

    return renewed
