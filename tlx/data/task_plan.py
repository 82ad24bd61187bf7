"""Which task the rows of a training step come from: a pure function of the seed and the step.

A set of examples holds those of all tasks, one after the other. A law gives each task's share of the rows at a step. A
batch has the rows of one task that is drawn by the law, or each row's task is drawn. Every task goes through its own
examples in epochs of its own: however often it is drawn, each of its examples comes once before any comes again. Packed
batches of a block of steps exchange examples of one task and epoch, so that all of this stays true of them.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from tlx.data.packed_shape import TRIAL_PATIENCE, cheapest
from tlx.data.packing import PATIENCE, PackedShape, arrange, longest_row
from tlx.data.plan import LENGTH_BUCKETS, Batch, packed_batch, padded
from tlx.errors import TlxError, listed

BLOCK = 1024  # steps whose draws are made together
PACKED = 128  # steps whose batches are packed together, a divisor of BLOCK
BATCHES = ("mixed", "one_task")
TRIALS = 12  # seeds with which a shape is tried: the draws of a block differ in their number of tokens
DRAWS = int.from_bytes(hashlib.sha256(b"which task").digest()[:8])  # the stream of random numbers of the draws
PLACES = int.from_bytes(hashlib.sha256(b"which row").digest()[:8])  # and of packing


@dataclasses.dataclass(frozen=True)
class TaskLaw:
    """The law p_k ∝ min(n_k, cap)^a of tasks with n_k examples.

    Attributes:
      start: the exponent a at the first step.
      end: the exponent at the last step, linear between them; None: that at the start.
      cap: no task counts more examples than this; None: no cap.
    """

    start: float
    end: float | None = None
    cap: int | None = None

    def shares(self, sizes: Sequence[int] | np.ndarray, progress: np.ndarray) -> np.ndarray:
        """Returns the probability of each task.

        Args:
          sizes: the number of examples of each task.
          progress: float (steps,), the fraction of the run before each step, in [0, 1].

        Returns:
          float64 (steps, tasks).
        """
        counted = np.minimum(np.asarray(sizes, np.float64), np.inf if self.cap is None else self.cap)
        end = self.start if self.end is None else self.end
        exponents = self.start + (end - self.start) * np.clip(progress, 0, 1)
        powers = (counted / counted.max()) ** exponents[:, None]
        return powers / powers.sum(axis=1, keepdims=True)


def uniform() -> TaskLaw:
    """Every task is as likely as every other."""
    return TaskLaw(0.0)


def proportional(cap: int | None = None) -> TaskLaw:
    """In proportion to the number of examples, at most `cap` (Raffel et al. 2020, "T5", section 3.5.2)."""
    return TaskLaw(1.0, cap=cap)


def temperature(value: float, cap: int | None = None) -> TaskLaw:
    """In proportion to the number of examples, at most `cap`, to the power 1 / value (T5, section 3.5.2).

    Raises:
      TlxError: the temperature is not above 0.
    """
    if not value > 0:
        raise TlxError(f"the temperature of a task sampler is above 0; found {value}.")
    return TaskLaw(1 / value, cap=cap)


def annealed(start: float = 1.0, end: float = 0.2, cap: int | None = None) -> TaskLaw:
    """With an exponent that moves from `start` to `end` (Stickland & Murray 2019, "BERT and PALs", section 4.3).

    The paper's exponent changes after every epoch, here it does after every step.
    """
    return TaskLaw(start, end, cap)


@dataclasses.dataclass(frozen=True)
class TaskSampling:
    """How the rows of a batch are divided among tasks.

    Attributes:
      law: the tasks' shares.
      batches: `mixed`, the task of every row is drawn; or `one_task`, one task is drawn for the whole batch.
    """

    law: TaskLaw
    batches: str = "mixed"


class TaskPlan:
    """The plan of training batches of several tasks; it has the interface of `TrainingPlan`.

    Args:
      lengths: for each task (n,), the number of tokens of its examples; the set has the tasks in this order.
      batch_size: the number of rows of a step.
      seed: the seed.
      steps: the number of steps of the run, over which a law may change.
      sampling: how rows are divided.
      length_buckets: the lengths to which batches are padded, ascending.
      shape: the shape of packed batches; None: texts are not packed.

    Attributes:
      steps_per_epoch: the number of steps whose rows are as many as there are examples.

    Raises:
      TlxError: a task has no examples, or there is no such kind of batch.
    """

    def __init__(
        self,
        lengths: Mapping[str, np.ndarray],
        batch_size: int,
        seed: int,
        steps: int,
        sampling: TaskSampling,
        length_buckets: Sequence[int] = LENGTH_BUCKETS,
        shape: PackedShape | None = None,
    ):
        if sampling.batches not in BATCHES:
            raise TlxError(f"a batch of several tasks is one of {listed(BATCHES)}; found {sampling.batches!r}.")
        if empty := [name for name, values in lengths.items() if not len(values)]:
            raise TlxError(f"the task {empty[0]!r} has no training examples.")
        self.names = tuple(lengths)
        self.sizes = np.array([len(values) for values in lengths.values()])
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)])
        self.lengths = np.concatenate([np.asarray(values) for values in lengths.values()])
        self.batch_size, self.seed, self.steps, self.sampling = batch_size, seed, steps, sampling
        self.length_buckets, self.shape = tuple(length_buckets), shape
        self.steps_per_epoch = -(-len(self.lengths) // batch_size)
        self._block = functools.lru_cache(maxsize=4)(self._draw)
        self._totals = [np.zeros(len(self.sizes), np.int64)]  # the rows of each task before each block
        self._order = functools.lru_cache(maxsize=4 * len(self.sizes))(self._shuffle)
        self._packs = functools.lru_cache(maxsize=2)(self.pack)

    def counts(self, step: int) -> np.ndarray:
        """Returns the number of rows of each task in the batch of a step, int64 (tasks,)."""
        block, index = divmod(step, BLOCK)
        return self._block(block)[index]

    def before(self, step: int) -> np.ndarray:
        """Returns the number of rows that each task had in all earlier steps, int64 (tasks,)."""
        block, index = divmod(step, BLOCK)
        while len(self._totals) <= block:
            self._totals.append(self._totals[-1] + self._block(len(self._totals) - 1).sum(axis=0))
        return self._totals[block] + self._block(block)[:index].sum(axis=0)

    def epochs(self, step: int) -> dict[str, float]:
        """Returns how many times each task went through its examples before a step."""
        return dict(zip(self.names, (self.before(step) / self.sizes).tolist(), strict=True))

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step, 0 or any larger number; unless packed, a task's rows are next to each other."""
        if self.shape is not None:
            block, index = divmod(step, PACKED)
            return packed_batch(self._packs(block)[index], self.lengths, self.shape)
        rows = np.concatenate([found for found, _ in self._rows(step)])
        return Batch(rows, padded(int(self.lengths[rows].max()), self.length_buckets))

    def pack(self, block: int, patience: int = PATIENCE) -> np.ndarray:
        """Returns the packed batches of the steps of a block, int64 (steps, rows, texts), see `arrange`."""
        assert self.shape is not None
        found = [part for step in range(block * PACKED, (block + 1) * PACKED) for part in self._rows(step)]
        order = np.concatenate([rows for rows, _ in found])
        groups = np.concatenate([epochs * len(self.names) + i % len(self.names) for i, (_, epochs) in enumerate(found)])
        random = np.random.default_rng((self.seed, block, PLACES))
        return arrange(self.lengths, order, self.batch_size, self.shape, random, patience, groups)

    def _rows(self, step: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each task, its rows of a step and the epoch of each."""
        counts = zip(self.before(step), self.counts(step), strict=True)
        found = []
        for task, (first, count) in enumerate(counts):
            epochs = np.arange(int(first), int(first + count)) // self.sizes[task]
            found.append((self.offsets[task] + self._next(task, int(first), int(count)), epochs))
        return found

    def _draw(self, block: int) -> np.ndarray:
        random = np.random.default_rng((self.seed, block, DRAWS))
        steps = np.arange(block * BLOCK, (block + 1) * BLOCK)
        shares = self.sampling.law.shares([int(size) for size in self.sizes], steps / max(self.steps - 1, 1))
        if self.sampling.batches == "mixed":
            return random.multinomial(self.batch_size, shares).astype(np.int64)
        return self.batch_size * random.multinomial(1, shares).astype(np.int64)

    def _next(self, task: int, first: int, count: int) -> np.ndarray:
        """Positions `first` to `first + count - 1` of the endless sequence of a task's epochs."""
        size = int(self.sizes[task])
        parts = []
        while count:
            epoch, index = divmod(first, size)
            part = self._order(task, epoch)[index : index + count]
            parts.append(part)
            first, count = first + len(part), count - len(part)
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def _shuffle(self, task: int, epoch: int) -> np.ndarray:
        name = int.from_bytes(hashlib.sha256(self.names[task].encode()).digest()[:8])
        return np.random.default_rng((self.seed, epoch, name)).permutation(int(self.sizes[task]))


def choose_joint_shape(
    lengths: Mapping[str, np.ndarray], batch_size: int, steps: int, sampling: TaskSampling, multiple: int = 1
) -> tuple[PackedShape, float]:
    """Chooses the shape of the packed batches of a `TaskPlan`, the cheapest into which those of trial seeds fit.

    Args:
      lengths: for each task (n,), the number of tokens of its examples.
      batch_size: the number of examples of a batch.
      steps: the number of steps of the run.
      sampling: how rows are divided.
      multiple: the number of rows is a multiple of it.

    Returns:
      The shape, and the mean number of tokens of a batch.
    """
    sizes = [len(values) for values in lengths.values()]
    means = np.array([float(np.mean(values)) for values in lengths.values()])
    shares = sampling.law.shares(sizes, np.array([0.0, 0.5, 1.0]))
    tokens = batch_size * (shares @ means)
    largest = batch_size * float(means.max()) if sampling.batches == "one_task" else float(tokens.max())
    last = max(steps - 1, 0) // PACKED
    blocks = sorted({0, last // 2, last})  # a law may change over the run

    def fits(shape: PackedShape) -> bool:
        plans = (TaskPlan(lengths, batch_size, seed, steps, sampling, shape=shape) for seed in range(TRIALS))
        trials = (plan.pack(block, TRIAL_PATIENCE) for plan in plans for block in blocks)
        return all(longest_row(plan_lengths, trial) <= shape.length for trial in trials)

    plan_lengths = np.concatenate([np.asarray(values) for values in lengths.values()])
    shape = cheapest(largest, batch_size, int(plan_lengths.max()), multiple, fits)
    return shape, float(tokens.mean())
