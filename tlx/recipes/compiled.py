"""Compiles the phases of a run for its layout and gives them their batches, constants and predictions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlx.errors import TlxError
from tlx.evaluation.predict import features_name
from tlx.models.forward import ModelState, Variables
from tlx.parallel.layout import Layout
from tlx.recipes.job import Job
from tlx.recipes.memory import explained
from tlx.recipes.train import TrainSetup
from tlx.training.phases import Phase, state_in
from tlx.training.recalibrate import Recalibration
from tlx.training.tasks import DEFAULT


def compiled_phases(job: Job, setup: TrainSetup) -> tuple[Phase, ...]:
    """Returns the phases with their functions jitted for the job's layout and their constants bound.

    Args:
      job: the job; its streams, layout and forward pass are used.
      setup: the training setup with the pure functions of the phases.
    """
    layout = job.layout
    key, anchors = layout.put((jax.random.key(job.seed), setup.anchors))
    phases = []
    for index, (phase, rates, method) in enumerate(zip(setup.phases, setup.rates, setup.methods, strict=True)):
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
        outputs = _StreamOutputs(job, state.variables)
        method_state = method.before_epoch(state.method_state, state.params, epoch, outputs)
        method_state = job.layout.put(jax.tree.map(jnp.array, method_state))  # copies: the step donates each array
        return dataclasses.replace(state, method_state=method_state)

    return with_new_method_state


class _StreamOutputs:
    """See `tlx.methods.api.StreamOutputs`; a stream is predicted once, when it is asked for."""

    def __init__(self, job: Job, variables: Variables):
        self.job, self.variables = job, variables
        self._of: dict[str, dict[str, np.ndarray]] = {}

    @property
    def model_state(self) -> ModelState:
        return self.variables.model_state

    def __call__(self, stream: str) -> np.ndarray:
        return self._outputs(stream)[DEFAULT]

    def features(self, stream: str) -> np.ndarray:
        outputs = self._outputs(stream)
        if (name := features_name(DEFAULT)) not in outputs:
            raise TlxError("the method reads features, which need config.data.target and a head with classes.")
        return outputs[name]

    def _outputs(self, stream: str) -> dict[str, np.ndarray]:
        if stream not in self._of:
            self._of[stream] = self.job.outputs(self.variables, self.job.streams[stream].examples)
        return self._of[stream]
