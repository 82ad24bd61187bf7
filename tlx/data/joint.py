"""The training examples of several tasks as one set, so that a batch may hold rows of all of them."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tlx.data.examples import Examples, ExampleSet
from tlx.data.places import Places
from tlx.data.tokens import MASKABLE

LABEL, MASK = "label", "label_mask"


class JointExamples:
    """Sets of examples, one after the other. It implements what training needs of `tlx.data.examples.ExampleSet`.

    A part is a dict from tasks to their sets of the same inputs: such tasks share rows, which are known by their
    `example_id`. A row that is not in the set of a task has no label of it. A batch has, for each task, the fields
    `label_TASK` and `label_TASK_mask`, which is 0 where a row (or token) has no label of the task.

    Args:
      parts: the parts.
    """

    def __init__(self, parts: Sequence[Mapping[str, ExampleSet]]):
        self.parts = tuple(dict(part) for part in parts)
        self.unions = tuple(_Union.of(part) for part in self.parts)
        self.lengths_by_part = {
            "+".join(part): union.lengths for part, union in zip(self.parts, self.unions, strict=True)
        }
        self.lengths = np.concatenate(list(self.lengths_by_part.values()))
        self.starts = np.concatenate([[0], np.cumsum([len(union.lengths) for union in self.unions])])
        self.example_id = np.concatenate([union.example_id for union in self.unions])
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
        for part, union, start, stop in zip(self.parts, self.unions, self.starts, self.starts[1:], strict=False):
            inside = (rows >= start) & (rows < stop)
            for task, examples in part.items():
                position = np.where(inside, union.positions[task][np.where(inside, rows - start, 0)], -1)
                here, taken = position >= 0, examples.take(position, length)
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
        by_example, by_token, pad_id = _Joined(len(self)), _Joined(int(self.offsets[-1])), 0
        for part, union, start in zip(self.parts, self.unions, self.starts, strict=False):
            for task, examples in part.items():
                assert isinstance(examples, Examples)
                (there,) = np.nonzero(union.positions[task] >= 0)
                source = union.positions[task][there]
                by_example.add(examples.fields, task, int(start) + there, source)
                place = Places.of(self.offsets, int(start) + there, 0).source  # of the tokens, one text after the other
                tokens = Places.of(examples.offsets, source, 0).source
                given = {"ids": examples.ids, "types": examples.types, **examples.token_fields}
                by_token.add(given, task, place, tokens)
                pad_id = examples.pad_id
        ids, types = by_token.fields.pop("ids"), by_token.fields.pop("types")
        return Examples(ids, types, self.offsets, by_example.fields, self.example_id, pad_id, by_token.fields)

    def content(self) -> Iterator[bytes]:
        """The bytes that identify the set."""
        for part in self.parts:
            for examples in part.values():
                yield from examples.content()


def same_inputs(one: ExampleSet, other: ExampleSet) -> bool:
    """Whether two sets of the same source share rows, with equal numbers of tokens.

    The windows of questions, of which several have the same `example_id`, must be the same ones.
    """
    common, of_one, of_other = np.intersect1d(one.example_id, other.example_id, return_indices=True)
    whole = len(common) == len(one) == len(other)
    return (
        type(one) is type(other)
        and (whole or (len(common) > 0 and one.spans is None and other.spans is None))
        and np.array_equal(np.asarray(one.lengths)[of_one], np.asarray(other.lengths)[of_other])
        and (one.words is None, one.spans is None) == (other.words is None, other.spans is None)
        and (MASKABLE in one.token_fields) == (MASKABLE in other.token_fields)  # the inputs of the one are masked
    )


@dataclasses.dataclass(frozen=True)
class _Union:
    """The rows that any of several sets has.

    Attributes:
      example_id: int64 (n,), ascending unless the sets have the same rows in another order.
      lengths: (n,), the numbers of tokens.
      positions: by task, int64 (n,), the row's position in the task's set, -1 if it is not there.
    """

    example_id: np.ndarray
    lengths: np.ndarray
    positions: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, part: Mapping[str, ExampleSet]) -> "_Union":
        first = next(iter(part.values()))
        if all(np.array_equal(each.example_id, first.example_id) for each in part.values()):
            return cls(first.example_id, np.asarray(first.lengths), dict.fromkeys(part, np.arange(len(first))))
        example_id = np.unique(np.concatenate([each.example_id for each in part.values()]))
        lengths, positions = np.zeros(len(example_id), np.int64), {}
        for task, examples in part.items():
            there = np.searchsorted(example_id, examples.example_id)
            positions[task] = np.full(len(example_id), -1)
            positions[task][there] = np.arange(len(examples))
            lengths[there] = examples.lengths
        return cls(example_id, lengths, positions)


class _Joined:
    """Arrays over all examples, or over all tokens, into which those of each part are written."""

    def __init__(self, size: int):
        self.size = size
        self.fields: dict[str, np.ndarray] = {}

    def add(self, fields: Mapping[str, np.ndarray], task: str, place: np.ndarray, source: np.ndarray) -> None:
        """Writes a set's fields, those at `source` to `place`; labels get the task's name, and a mask without one."""
        if LABEL in fields:
            mask = fields.get(MASK, np.ones(len(fields[LABEL]), bool))
            others = {name: values for name, values in fields.items() if name not in (LABEL, MASK)}
            fields = {**others, f"{LABEL}_{task}": fields[LABEL], f"{LABEL}_{task}_mask": np.asarray(mask, bool)}
        for name, values in fields.items():
            if name not in self.fields:
                self.fields[name] = np.zeros((self.size, *values.shape[1:]), values.dtype)
            self.fields[name][place] = values[source]


def _where(here: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    return np.where(here.reshape(here.shape + (1,) * (new.ndim - here.ndim)), new, old)
