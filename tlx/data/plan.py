"""The plan of batches: a pure function of the seed, the step and the lengths of the examples.

Every process computes the same plan. The order of the examples therefore does not depend on the number of workers or
devices, and a run that resumes needs to know nothing but its step.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np

from tlx.data.packing import PackedShape, arrange, longest_row, pack_all
from tlx.data.samplers import SHUFFLE, Sampler

# 4, 8, 12, 16, 24, 32, 48, …: few shapes to compile, and from 12 on at most a third of a row is padding
LENGTH_BUCKETS = (4, *sorted([8 << i for i in range(12)] + [12 << i for i in range(12)]))
GROUP = 50  # the number of batches whose rows are sorted by length together


def buckets_up_to(longest: int) -> tuple[int, ...]:
    """Returns the length buckets for texts of at most `longest` tokens."""
    return (*(bucket for bucket in LENGTH_BUCKETS if bucket < longest), longest)


@dataclasses.dataclass(frozen=True)
class Batch:
    """The plan of one batch.

    Attributes:
      rows: int64 (batch_size,), positions in the set, -1 for padding; or, if texts are packed, int64 (rows, texts), the
        texts of each row, -1 for no text.
      length: the number of tokens to which rows are padded.
    """

    rows: np.ndarray
    length: int


def padded(length: int, length_buckets: Sequence[int]) -> int:
    """Returns the smallest bucket that is at least `length`; `length` itself if all buckets are smaller."""
    return next((bucket for bucket in length_buckets if bucket >= length), length)


class TrainingPlan:
    """The plan of training batches, in a new order each epoch.

    Without `shape`, a batch holds texts of similar length by default. With `shape`, texts are packed into rows, and all
    batches have about the same number of tokens (see `tlx.data.packing`). The last batch of an epoch may be partial.

    Args:
      lengths: (n,), the number of tokens of each example.
      batch_size: the number of examples per step.
      seed: the seed of the order.
      length_buckets: the lengths to which batches are padded, ascending.
      by_length: whether examples are sorted by length within groups of 50 batches before they are divided into
        batches, which are then shuffled.
      stream: the stream's name. It is part of the seed (unless it is `train`), so that two streams of equal size have
        different orders.
      sampler: decides the order of the examples of an epoch; by default every example comes once.
      shape: the shape of packed batches; None: texts are not packed. A batch into whose shape its texts do not fit has
        longer rows.

    Attributes:
      steps_per_epoch: the number of batches of an epoch.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        length_buckets: Sequence[int] = LENGTH_BUCKETS,
        by_length: bool = True,
        stream: str = "train",
        sampler: Sampler = SHUFFLE,
        shape: PackedShape | None = None,
    ):
        self.stream = () if stream == "train" else (int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8]),)
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.sampler, self.shape = sampler, shape
        self.length_buckets, self.by_length = tuple(length_buckets), by_length
        self.steps_per_epoch = -(-len(self.lengths) // batch_size)
        self._epoch = functools.lru_cache(maxsize=2)(self._plan_epoch)

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step, 0 or any larger number."""
        epoch, index = divmod(step, self.steps_per_epoch)
        rows = self._epoch(epoch)[index]
        if self.shape is not None:
            return packed_batch(rows, self.lengths, self.shape)
        return _fill(rows, self.lengths, self.batch_size, self.length_buckets)

    def _plan_epoch(self, epoch: int) -> Sequence[np.ndarray]:
        random = np.random.default_rng((self.seed, epoch, *self.stream))
        order = self.sampler.order(len(self.lengths), random)
        if self.shape is not None:
            return list(arrange(self.lengths, order, self.batch_size, self.shape, random))
        if not self.by_length:
            return _chunks(order, self.batch_size)
        sorted_groups = [
            group[np.argsort(-self.lengths[group], kind="stable")] for group in _chunks(order, GROUP * self.batch_size)
        ]
        batches = [rows for group in sorted_groups for rows in _chunks(group, self.batch_size)]
        return [batches[i] for i in random.permutation(len(batches))]


class EvaluationPlan:
    """The plan of evaluation batches: every example once; the last batch is padded.

    Without `shape`, the examples come by descending length. With it, texts are packed into rows, and a batch holds as
    many texts as fit into its shape.

    Args:
      lengths: (n,), the number of tokens of each example.
      batch_size: the number of examples per step; not used with `shape`.
      length_buckets: the lengths to which batches are padded, ascending.
      shape: the shape of packed batches; None: texts are not packed. Its rows must be as long as the longest text.

    Attributes:
      steps_per_epoch: the number of batches.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        length_buckets: Sequence[int] = LENGTH_BUCKETS,
        shape: PackedShape | None = None,
    ):
        self.lengths, self.batch_size, self.length_buckets = np.asarray(lengths), batch_size, tuple(length_buckets)
        self.shape = shape
        if shape is None:
            self._batches = _chunks(np.argsort(-self.lengths, kind="stable"), batch_size)
        else:
            self._batches = list(pack_all(self.lengths, shape))
        self.steps_per_epoch = len(self._batches)

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step from 0 to `steps_per_epoch - 1`."""
        if self.shape is not None:
            return packed_batch(self._batches[step], self.lengths, self.shape)
        return _fill(self._batches[step], self.lengths, self.batch_size, self.length_buckets)


def _chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _fill(rows: np.ndarray, lengths: np.ndarray, batch_size: int, length_buckets: Sequence[int]) -> Batch:
    longest = int(lengths[rows].max())
    filled = np.full(batch_size, -1, np.int64)
    filled[: len(rows)] = rows
    return Batch(filled, padded(longest, length_buckets))


def packed_batch(rows: np.ndarray, lengths: np.ndarray, shape: PackedShape) -> Batch:
    """Returns a batch of packed rows, (rows, texts), that are longer than the shape's if the texts do not fit."""
    longest = longest_row(lengths, rows)
    return Batch(rows, shape.length if longest <= shape.length else -(-longest // 64) * 64)  # few shapes
