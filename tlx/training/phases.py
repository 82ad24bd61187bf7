"""Phases of a run: the trainable parameters may change from phase to phase.

Parameters that stay trainable keep their moments and step counts when a phase begins.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from tlx.params.partition import FROZEN
from tlx.training.state import State


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a run with its own training step.

    Attributes:
      first: number of steps before the phase.
      enter: a function from the state at the end of the previous phase to the state at the start of this phase. It is
        not called for the first phase.
      step: the training step, a function `(state, batch) -> (state, metrics)`.
      batches: a function from a step of the run to the phase's batches from that step on; None: the run's batches.
      before_epoch: a function `(state, number of finished epochs of the phase) -> state` that is called before each
        epoch of the phase to recompute the method's state (pseudo-labels, centroids). A run that is resumed within an
        epoch gets this state from its checkpoint. A run that is resumed between epochs computes it again, with the same
        result.
      streams: names of the streams of the batches.
      recalibrate: a function `(state, the phase's batches from the first step on) -> state` that is called before each
        evaluation to compute the model state of the average; None: the model has no state or there is no average.
      selects_anew: whether the best checkpoint is one of this phase or a later one.
      diagnose: a function `(state, batch) -> measurements` of the step after a state (see
        `tlx.training.diagnosis.make_diagnosis`); None: there is none.
    """

    first: int
    enter: Callable[[State], State]
    step: Callable[..., Any]
    batches: Callable[[int], Iterator[Any]] | None = None
    before_epoch: Callable[[State, int], State] | None = None
    streams: tuple[str, ...] = ("train",)
    recalibrate: Callable[[State, Iterator[Any]], State] | None = None
    diagnose: Callable[..., Any] | None = None
    selects_anew: bool = False


def phase_of(phases: Sequence[Phase], steps: int) -> int:
    """Returns the index of the phase of a state after `steps` steps; between two phases, it is the earlier one."""
    return max((index for index, phase in enumerate(phases) if phase.first < steps), default=0)


def steps_of(
    phases: Sequence[Phase], batches: Callable[[int], Iterator[Any]], start: int, total: int
) -> Iterator[tuple[Phase, Any]]:
    """Yields `(phase, batch)` for each step from `start` to the end.

    Args:
      phases: the phases in order.
      batches: a function from a step to the run's batches from that step on. It is called once for successive phases
        without batches of their own.
      start: the first step.
      total: number of steps of the run.
    """
    source: Callable[[int], Iterator[Any]] | None = None
    iterator: Iterator[Any] = iter(())
    for index, phase in enumerate(phases):
        stop = phases[index + 1].first if index + 1 < len(phases) else total
        if start >= stop:
            continue
        if source is None or (phase.batches or batches) is not source:
            source = phase.batches or batches
            iterator = source(start)
        yield from ((phase, batch) for batch in itertools.islice(iterator, stop - start))
        start = stop


def state_in(phases: Sequence[Phase], state: State) -> State:
    """Returns the shapes of the state in the last of the given phases.

    Args:
      phases: the phases up to the one of interest.
      state: the state of the first phase, as arrays or shapes. It is returned unchanged if there is one phase.
    """
    for phase in phases[1:]:
        state = jax.eval_shape(phase.enter, state)
    return state


def carry_over(old: State, new: State) -> State:
    """Returns the state at the start of a phase.

    Args:
      old: the state at the end of the previous phase.
      new: a newly initialized state with the same parameters and this phase's trainable parameters.

    Returns:
      `new` with the step, skipped steps, method state and model state of `old`, and with those moments, counts and
      averages of `old` that have the same path in the tree.
    """
    opt_state, averages = (_carried(getattr(old, name), getattr(new, name)) for name in ("opt_state", "averages"))
    return dataclasses.replace(
        new,
        step=old.step,
        method_state=old.method_state,
        model_state=old.model_state,
        averaged_model_state=old.averaged_model_state,
        opt_state=opt_state,
        averages=averages,
        skipped_in_a_row=old.skipped_in_a_row,
    )


def _carried(old: Any, new: Any) -> Any:
    known = dict(jax.tree_util.tree_flatten_with_path(old)[0])
    return jax.tree_util.tree_map_with_path(lambda path, leaf: known.get(path, leaf), new)


def trainable_since(assigned: Sequence[Mapping[str, str]], firsts: Sequence[int]) -> list[dict[str, int]]:
    """Returns, for each phase and trainable path, the step since which the path has been trained in its group.

    Args:
      assigned: for each phase, the group of each path.
      firsts: number of steps before each phase.
    """
    since: list[dict[str, int]] = []
    for index, (groups, first) in enumerate(zip(assigned, firsts, strict=True)):
        previous_groups, previous_since = (assigned[index - 1], since[-1]) if index else ({}, {})
        since.append(
            {
                path: previous_since[path] if previous_groups.get(path) == group else first
                for path, group in groups.items()
                if group != FROZEN
            }
        )
    return since
