"""The batches of examples that a plan describes."""

import dataclasses
from collections.abc import Callable

import numpy as np

from tlx.data.examples import ExampleSet
from tlx.data.plan import EvaluationPlan, TrainingPlan
from tlx.data.task_plan import TaskPlan


@dataclasses.dataclass(frozen=True)
class Batches:
    """Random access to batches by step: `batches[step]`, from 0 to `steps - 1`.

    Attributes:
      examples: the examples.
      plan: the rows and the length of each batch.
      steps: the number of steps.
      multiple: batches are padded with rows that are not `valid` to a multiple of this number (of devices).
      share: maps the number of rows of a batch to the indices of the rows that this process reads; None: it reads all.
    """

    examples: ExampleSet
    plan: TrainingPlan | EvaluationPlan | TaskPlan
    steps: int
    multiple: int = 1
    share: Callable[[int], np.ndarray] | None = None

    def __len__(self) -> int:
        return self.steps

    def rows(self, step: int) -> np.ndarray:
        """Returns the example in each row of the global batch, int64 (rows,), or (rows, texts); -1 for padding."""
        rows = self.plan.batch(step).rows
        return np.concatenate([rows, np.full((-len(rows) % self.multiple, *rows.shape[1:]), -1, np.int64)])

    def length(self, step: int) -> int:
        """Returns the number of tokens to which the texts of a batch are padded."""
        return self.plan.batch(step).length

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        return self.padded(step, self.length(step))

    def padded(self, step: int, length: int) -> dict[str, np.ndarray]:
        """Returns a batch whose texts are padded to a given length.

        Args:
          step: the step of the batch.
          length: the number of tokens, at least `self.length(step)`.

        Returns:
          The fields that `ExampleSet.take` returns, and `position`, int64 (rows,) or (rows, texts): the position of
          each example in its split, -1 for padding. `example_id` is the row in the source.
        """
        rows = self.rows(step)
        rows = rows if self.share is None else rows[self.share(len(rows))]
        return {**self.examples.take(rows, length), "position": rows}
