"""The training examples of several tasks as one set, so that a batch may hold rows of all of them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tlx.data.examples import ExampleSet
from tlx.data.tokens import MASKABLE

LABEL, MASK = "label", "label_mask"


class JointExamples:
    """Sets of examples, one after the other. It implements what training needs of `tlx.data.examples.ExampleSet`.

    A part is a dict from tasks to their sets of the same inputs: such tasks share rows. A batch has, for each task, the
    fields `label_TASK` and `label_TASK_mask`, which is 0 where a row (or token) has no label of the task.

    Args:
      parts: the parts.
    """

    def __init__(self, parts: Sequence[Mapping[str, ExampleSet]]):
        self.parts = tuple(dict(part) for part in parts)
        firsts = [next(iter(part.values())) for part in self.parts]
        self.lengths_by_part = {
            "+".join(part): np.asarray(first.lengths) for part, first in zip(self.parts, firsts, strict=True)
        }
        self.lengths = np.concatenate(list(self.lengths_by_part.values()))
        self.starts = np.concatenate([[0], np.cumsum([len(first) for first in firsts])])
        self.example_id = np.concatenate([first.example_id for first in firsts])
        self.fields: dict[str, np.ndarray] = {}
        self.token_fields: dict[str, np.ndarray] = {}
        self.words = self.spans = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def offsets(self) -> np.ndarray:
        """The position of each example's first token, int64 (n + 1,)."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    @property
    def labels(self) -> np.ndarray:
        """The set has no labels that all tasks share."""
        raise AttributeError("labels")

    def take(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Returns the fields of some examples: those of their sets, and each task's labels with their mask.

        Args:
          rows: int64 (rows,), positions in the set, -1 for a padding row, which is not `valid`.
          length: the number of tokens of a row.
        """
        batch: dict[str, np.ndarray] = {}
        for part, start, stop in zip(self.parts, self.starts, self.starts[1:], strict=False):
            here = (rows >= start) & (rows < stop)
            for task, examples in part.items():
                taken = examples.take(np.where(here, rows - start, -1), length)
                label = taken.pop(LABEL)
                known = taken.pop(MASK, taken["valid"]).astype(bool)
                taken |= {f"{LABEL}_{task}": label, f"{LABEL}_{task}_mask": known}
                for name, values in taken.items():
                    batch[name] = values if name not in batch else _where(here, values, batch[name])
        return batch

    def content(self) -> Iterator[bytes]:
        """The bytes that identify the set."""
        for part in self.parts:
            for examples in part.values():
                yield from examples.content()


def same_inputs(one: ExampleSet, other: ExampleSet) -> bool:
    """Whether two sets were made from the same rows of their sources, with equal numbers of tokens."""
    return (
        type(one) is type(other)
        and np.array_equal(one.example_id, other.example_id)
        and np.array_equal(one.lengths, other.lengths)
        and (one.words is None, one.spans is None) == (other.words is None, other.spans is None)
        and (MASKABLE in one.token_fields) == (MASKABLE in other.token_fields)  # the inputs of the one are masked
    )


def _where(here: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    return np.where(here.reshape(here.shape + (1,) * (new.ndim - here.ndim)), new, old)
