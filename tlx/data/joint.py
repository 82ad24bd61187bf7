"""The training examples of several tasks as one set, so that a batch may hold rows of all of them."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tlx.data.examples import Examples, ExampleSet
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
          rows: int64 (rows,), positions in the set, -1 for a padding row, which is not `valid`; or, of texts,
            int64 (rows, texts), those that are packed into each row.
          length: the number of tokens of a row.
        """
        if rows.ndim == 2:
            return self._packed(rows, length)
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

    def _packed(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        batch = self._texts.take(rows, length)
        by_example = [task for part in self.parts for task, examples in part.items() if LABEL in examples.fields]
        for task in by_example:
            batch[f"{LABEL}_{task}_mask"] &= batch["valid"]
        return batch

    @functools.cached_property
    def _texts(self) -> Examples:
        """The texts of all parts in flat arrays, with each task's labels; a label is 0 where there is none."""
        firsts: list[Any] = [next(iter(part.values())) for part in self.parts]
        by_example, by_token = _Joined(len(self)), _Joined(int(self.offsets[-1]))
        for part, start, stop in zip(self.parts, self.starts, self.starts[1:], strict=False):
            tokens = slice(int(self.offsets[start]), int(self.offsets[stop]))
            for task, examples in part.items():
                by_example.add(examples.fields, task, slice(int(start), int(stop)))
                by_token.add(examples.token_fields, task, tokens)
        ids, types = (np.concatenate([getattr(each, name) for each in firsts]) for name in ("ids", "types"))
        return Examples(ids, types, self.offsets, by_example.fields, self.example_id, firsts[0].pad_id, by_token.fields)

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


class _Joined:
    """Arrays over all examples, or over all tokens, into which those of each part are written."""

    def __init__(self, size: int):
        self.size = size
        self.fields: dict[str, np.ndarray] = {}

    def add(self, fields: Mapping[str, np.ndarray], task: str, place: slice) -> None:
        """Writes a part's fields; labels get the task's name, and a mask if they have none."""
        if LABEL in fields:
            mask = fields.get(MASK, np.ones(len(fields[LABEL]), bool))
            others = {name: values for name, values in fields.items() if name not in (LABEL, MASK)}
            fields = {**others, f"{LABEL}_{task}": fields[LABEL], f"{LABEL}_{task}_mask": np.asarray(mask, bool)}
        for name, values in fields.items():
            if name not in self.fields:
                self.fields[name] = np.zeros((self.size, *values.shape[1:]), values.dtype)
            self.fields[name][place] = values


def _where(here: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    return np.where(here.reshape(here.shape + (1,) * (new.ndim - here.ndim)), new, old)
