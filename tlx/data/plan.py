"""The plan of batches: a pure function of seed and step, computed alike by every process from the examples' lengths.

Nothing that fetches or trains decides an order, so the order depends on neither workers nor devices, and a run that
resumes at step k needs to know k and nothing else.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np

from tlx.data.samplers import SHUFFLE, Sampler

# 4, 8, 12, 16, 24, 32, 48, …: few shapes to compile, and from 12 on at most a third of a row padded
LENGTH_BUCKETS = (4, *sorted([8 << i for i in range(12)] + [12 << i for i in range(12)]))
GROUP = 50  # batches within which rows are sorted by length


def buckets_up_to(longest: int) -> tuple[int, ...]:
    """The ladder for texts of at most `longest` tokens."""
    return (*(bucket for bucket in LENGTH_BUCKETS if bucket < longest), longest)


@dataclasses.dataclass(frozen=True)
class Batch:
    """rows: positions in the set, (batch_size,), -1 where the batch is padded. length: to which texts are padded."""

    rows: np.ndarray
    length: int


def padded(length: int, length_buckets: Sequence[int]) -> int:
    """The first rung that holds this length."""
    return next((bucket for bucket in length_buckets if bucket >= length), length)


class TrainingPlan:
    """Each epoch in a new order; batches hold texts of similar length; the last of an epoch may be partial.

    Args:
      lengths: tokens of each example.
      batch_size: examples a step.
      seed: of the order.
      ladder: lengths to which batches are padded.
      by_length: sort within groups of 50 batches before cutting them (then shuffle the batches).
      stream: the stream's name, which enters the seed, so that two streams of equal size differ in their order.
      sampler: decides the order of an epoch's examples; by default every example comes once.
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
    ):
        self.stream = () if stream == "train" else (int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8]),)
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.sampler = sampler
        self.length_buckets, self.by_length = tuple(length_buckets), by_length
        self.steps_per_epoch = -(-len(self.lengths) // batch_size)
        self._epoch = functools.lru_cache(maxsize=2)(self._plan_epoch)

    def batch(self, step: int) -> Batch:
        """What step `step` (from 0, any number) trains on."""
        epoch, index = divmod(step, self.steps_per_epoch)
        rows = self._epoch(epoch)[index]
        return _fill(rows, self.lengths, self.batch_size, self.length_buckets)

    def _plan_epoch(self, epoch: int) -> list[np.ndarray]:
        random = np.random.default_rng((self.seed, epoch, *self.stream))
        order = self.sampler.order(len(self.lengths), random)
        if not self.by_length:
            return _chunks(order, self.batch_size)
        sorted_groups = [
            group[np.argsort(-self.lengths[group], kind="stable")] for group in _chunks(order, GROUP * self.batch_size)
        ]
        batches = [rows for group in sorted_groups for rows in _chunks(group, self.batch_size)]
        return [batches[i] for i in random.permutation(len(batches))]


class EvaluationPlan:
    """Every example once, by falling length; the last batch is padded with rows -1."""

    def __init__(self, lengths: np.ndarray, batch_size: int, length_buckets: Sequence[int] = LENGTH_BUCKETS):
        self.lengths, self.batch_size, self.length_buckets = np.asarray(lengths), batch_size, tuple(length_buckets)
        self._batches = _chunks(np.argsort(-self.lengths, kind="stable"), batch_size)
        self.steps_per_epoch = len(self._batches)

    def batch(self, step: int) -> Batch:
        """The `step`-th batch, from 0 to `steps_per_epoch - 1`."""
        return _fill(self._batches[step], self.lengths, self.batch_size, self.length_buckets)


def _chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _fill(rows: np.ndarray, lengths: np.ndarray, batch_size: int, length_buckets: Sequence[int]) -> Batch:
    longest = int(lengths[rows].max())
    filled = np.full(batch_size, -1, np.int64)
    filled[: len(rows)] = rows
    return Batch(filled, padded(longest, length_buckets))
