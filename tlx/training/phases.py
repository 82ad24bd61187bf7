"""Phases: what learns may change during a run. At the border what goes on learning keeps its moments and its count."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from tlx.params.partition import FROZEN
from tlx.training.state import State


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a run, with a training step of its own.

    Attributes:
      first: steps taken before it.
      enter: from the state at that point (of the first phase: from itself) to the one that it begins with.
      step: the training step, `(state, batch) -> (state, metrics)`.
      batches: its batches from a step of the run on, where they differ from the run's (other streams, another length).
      streams: the streams of its batches.
      before_epoch: `(state, epochs of the phase done) -> state` before each epoch of the phase, to compute the method's
        state anew (pseudo-labels, centroids). Between epochs a resumed run has that state from its checkpoint; one
        that resumes at the border of an epoch computes it again, from the same state.
      recalibrate: `(state, its batches from the first on) -> state` before each evaluation, to compute the model state
        of the average.
    """

    first: int
    enter: Callable[[State], State]
    step: Callable[..., Any]
    batches: Callable[[int], Iterator[Any]] | None = None
    before_epoch: Callable[[State, int], State] | None = None
    streams: tuple[str, ...] = ("train",)
    recalibrate: Callable[[State, Iterator[Any]], State] | None = None


def phase_of(phases: Sequence[Phase], steps: int) -> int:
    """The phase in which a state was made after so many steps; at a border the one that ends there."""
    return max((index for index, phase in enumerate(phases) if phase.first < steps), default=0)


def steps_of(
    phases: Sequence[Phase], batches: Callable[[int], Iterator[Any]], start: int, total: int
) -> Iterator[tuple[Phase, Any]]:
    """`(phase, batch)` of every step from `start` to the end. Phases that share their batches share the iterator."""
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
    """What the state is like in the last of these phases, as shapes. state: the first's, arrays or shapes."""
    for phase in phases[1:]:
        state = jax.eval_shape(phase.enter, state)
    return state


def carried(old: State, new: State) -> State:
    """The state at the beginning of a phase.

    Args:
      old: at the end of the phase before.
      new: as this phase would begin with the same parameters: fresh moments of what learns now.

    Returns:
      `new` with whatever of moments, counts and averages stood at the same place in `old`, at the same step.
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
    )


def _carried(old: Any, new: Any) -> Any:
    known = dict(jax.tree_util.tree_flatten_with_path(old)[0])
    return jax.tree_util.tree_map_with_path(lambda path, leaf: known.get(path, leaf), new)


def trainable_since(assigned: Sequence[Mapping[str, str]], firsts: Sequence[int]) -> list[dict[str, int]]:
    """For each phase the step since which each path has learnt without a break in the group that it is in.

    assigned: the group of each path, by phase. firsts: the steps before each phase.
    """
    since: list[dict[str, int]] = []
    for index, (groups, first) in enumerate(zip(assigned, firsts, strict=True)):
        before, earlier = (assigned[index - 1], since[-1]) if index else ({}, {})
        since.append(
            {
                path: earlier[path] if before.get(path) == group else first
                for path, group in groups.items()
                if group != FROZEN
            }
        )
    return since
