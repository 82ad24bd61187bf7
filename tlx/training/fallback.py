"""Which checkpoint is used if one is damaged: when a run goes on, and when a run is read."""

import sys
from collections.abc import Callable
from typing import Any

from tlx.errors import TlxError, listed
from tlx.models.forward import Variables
from tlx.parallel.processes import in_all, is_main
from tlx.training.checkpoint import Checkpoints, best_steps
from tlx.training.checkpoint_files import Damaged
from tlx.training.state import State

DAMAGED, WITHOUT_BEST = "damaged", "without-best"  # endings of the folders that are set aside


def resume(checkpoints: Checkpoints, target: Callable[[int], State]) -> tuple[State, dict[str, Any]] | None:
    """Returns the state of the newest checkpoint from which a run can go on, and its `meta`; None: from the start.

    A damaged checkpoint is renamed `STEP.damaged`. A run must be able to return its best parameters at the end. If a
    best step that a checkpoint names is missing or damaged, the run cannot go on from this checkpoint: it is renamed
    `STEP.without-best`, and the run goes on from an earlier one and trains the best step again. Nothing is deleted.
    Each renaming is reported on standard error.

    Args:
      checkpoints: the checkpoints of the run, opened for writing.
      target: a function from a step to the shapes, dtypes and shardings of its state.

    Raises:
      TlxError: if a checkpoint does not fit `target`, or the folders cannot be renamed.
    """
    renamed = False
    while (step := checkpoints.newest()) is not None:
        try:
            meta, shapes = _meta(checkpoints, step), target(step)
            bests = best_steps(meta["loop"])
            variables = shapes.with_eval_params().variables
            damages = (damage(checkpoints, best, variables) for best in sorted(bests - {step}))
            lost = next((found for found in damages if found is not None), None)
            if lost is None:
                state = checkpoints.restore(step, shapes)
                checkpoints.tidy(bests)
                if renamed:
                    _say(f"the run goes on from step {step}, the newest whole checkpoint.")
                return state, meta
        except Damaged as damaged:
            name = checkpoints.set_aside(step, DAMAGED)
            _say(f"the checkpoint {damaged.folder} is damaged and was renamed {name}: {damaged.reason}.")
        else:
            name = checkpoints.set_aside(step, WITHOUT_BEST)
            _say(
                f"the checkpoint of step {step} was renamed {name}, because the best step of the run has to be trained "
                f"again: {lost.folder} is damaged ({lost.reason})."
            )
            if lost.step in checkpoints.steps():
                checkpoints.set_aside(lost.step, DAMAGED)
        renamed = True
    if renamed:
        _say("the run begins again from the start, because no checkpoint is left from which it can go on.")
    return None


def read_best(checkpoints: Checkpoints, target: Variables, step: int | None = None) -> tuple[int, Variables]:
    """Returns the parameters and the model state of the best step of a run, or of the step that is named.

    Args:
      checkpoints: the checkpoints of the run.
      target: shapes, dtypes and shardings.
      step: the step; None: the best.

    Raises:
      TlxError: if that step is damaged or not there; the message names the steps that are whole.
    """
    for last_try in (False, False, True):
        steps, chosen = checkpoints.steps(), step
        if chosen is not None and chosen not in steps:
            raise TlxError(
                f"{checkpoints.directory.parent} has no checkpoint of step {chosen}; it has {_in_words(steps)}."
            )
        try:
            chosen = checkpoints.best() if chosen is None else chosen
            return chosen, checkpoints.restore_variables(chosen, target)
        except Damaged as damaged:
            if damaged.step not in checkpoints.steps() and not last_try:
                continue  # a run that is training may have replaced it by a newer one
            if step is not None:
                role = "that was asked for"
            else:
                role = "the best of the run" if damaged.step == chosen else "which says what the best step is"
            whole = [other for other in checkpoints.steps() if damage(checkpoints, other, target) is None]
            advice = "name one with --step" if whole else "run the training command again"
            raise TlxError(
                f"the checkpoint {damaged.folder}, {role}, is damaged: {damaged.reason}; whole: {_in_words(whole)} "
                f"({advice})."
            ) from None
    raise AssertionError("the last try returns or raises")


def damage(checkpoints: Checkpoints, step: int, target: Variables) -> Damaged | None:
    """Returns what is wrong with the parameters and the model state of a step; None if they are whole."""
    try:
        checkpoints.restore_variables(step, target)
    except Damaged as damaged:
        return damaged
    return None


def _meta(checkpoints: Checkpoints, step: int) -> dict[str, Any]:
    """The `meta` of a step, if every process can read it."""
    folder = checkpoints.directory / str(step)
    return in_all(lambda: checkpoints.meta(step), Damaged(folder, "another process of the run cannot read it"))


def _in_words(steps: list[int]) -> str:
    return f"step{'s' if len(steps) > 1 else ''} {listed(steps)}" if steps else "none"


def _say(sentence: str) -> None:
    if is_main():
        print(f"tlx: {sentence}", file=sys.stderr, flush=True)
