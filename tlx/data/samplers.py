"""In which order the examples of a stream come: part of the plan, a pure function of the seed and the epoch."""

import dataclasses
from typing import Protocol

import numpy as np


class Sampler(Protocol):
    """The order of one epoch."""

    def order(self, size: int, random: np.random.Generator) -> np.ndarray:
        """int64 (examples of the epoch,): positions in the split, of which each is below `size`.

        Args:
          size: examples in the split.
          random: of the run's seed, the epoch and the stream; nothing else may decide the order.
        """


@dataclasses.dataclass(frozen=True)
class Shuffle:
    """Every example once an epoch."""

    def order(self, size: int, random: np.random.Generator) -> np.ndarray:
        """A permutation."""
        return random.permutation(size)


SHUFFLE = Shuffle()


@dataclasses.dataclass(frozen=True, eq=False)
class Weighted:
    """Draws with replacement, as many an epoch as there are examples.

    Attributes:
      weights: float64 (examples,), proportional to the probability of each; none negative, not all 0.
    """

    weights: np.ndarray

    def order(self, size: int, random: np.random.Generator) -> np.ndarray:
        """Independent draws."""
        return random.choice(size, size, p=self.weights / self.weights.sum())
