"""What tlx changes of Orbax's checkpoint manager: which checkpoints are kept, and when a failed save is noticed."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import orbax.checkpoint as ocp

from tlx.parallel.processes import is_multiprocess


class NewestAndBest:
    """Preservation policy that keeps the newest checkpoints and the best ones.

    Orbax's own policy for the best checkpoint may delete the newest, and may keep another one of several equal ones.

    Args:
      keep: how many of the newest are kept.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.best: frozenset[int] = frozenset()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        newest = sorted(checkpoint.step for checkpoint in checkpoints)[-self.keep :]
        return [checkpoint.step in (*newest, *self.best) for checkpoint in checkpoints]


class Manager(ocp.CheckpointManager):
    """A manager whose `wait_until_finished` does not wait for the other processes after a failure.

    In Orbax the thread that completes a save meets the error, and then waits for the threads of the other processes,
    which wait for this process to write its part: all of them until a timeout of minutes.

    Attributes:
      failure: the error of a save in this process; None if there was none.
    """

    failure: BaseException | None = None

    def wait_until_finished(self) -> None:
        """Waits for the save in the background, and raises its error as soon as there is one."""
        while is_multiprocess() and self.is_saving_in_progress():
            if self.failure is not None:
                raise self.failure
            time.sleep(0.02)
        super().wait_until_finished()

    def _wait_for_checkpointers(self) -> None:
        with self._noticed():
            super()._wait_for_checkpointers()

    def _finalize_checkpoint(self, *arguments: Any) -> Any:
        with self._noticed():
            return super()._finalize_checkpoint(*arguments)

    @contextlib.contextmanager
    def _noticed(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.failure = error
            raise
