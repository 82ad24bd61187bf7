"""Samplers decide the order of a stream's examples, as a pure function of the seed and the epoch."""

import dataclasses
from typing import Protocol

import numpy as np


class Sampler(Protocol):
    """The interface of a sampler."""

    def order(self, size: int, random: np.random.Generator) -> np.ndarray:
        """Returns the order of the examples of one epoch.

        Args:
          size: the number of examples in the split.
          random: a generator seeded by the run's seed, the epoch and the stream; the order may depend on nothing else.

        Returns:
          int64 (examples of the epoch,), positions in the split, each below `size`.
        """


@dataclasses.dataclass(frozen=True)
class Shuffle:
    """Every example once an epoch."""

    def order(self, size: int, random: np.random.Generator) -> np.ndarray:
        """Returns a random permutation."""
        return random.permutation(size)


SHUFFLE = Shuffle()


@dataclasses.dataclass(frozen=True, eq=False)
class Weighted:
    """Sampling with replacement; an epoch has as many samples as there are examples.

    Attributes:
      weights: float64 (examples,), proportional to the probability of each example; not negative and not all 0.
    """

    weights: np.ndarray

    def order(self, size: int, random: np.random.Generator) -> np.ndarray:
        """Returns independent samples."""
        return random.choice(size, size, p=self.weights / self.weights.sum())
