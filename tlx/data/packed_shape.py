"""Chooses the shape of packed batches from the lengths of the texts."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from tlx.data.packing import SLACK, PackedShape, arrange, longest_row
from tlx.data.samplers import SHUFFLE, Sampler

GRAIN = 8  # row lengths are multiples of it
LONGEST_ROW = 1024  # rows are not made longer than this, unless a text is
# A token's cost grows with the length of its row, by attention, and doubles at about this length: from the times of
# MiniLM's training step on 832 tokens in rows of 64, 104, 208 and 416 on two CPU cores, fitted by a line (medians gave
# 1,100, least times 1,450). For wider models the length is larger.
DOUBLES_AT = 1200
# The shape must not depend on the number of devices, so that a run can go on with another one. Numbers of rows that
# divide over up to eight are preferred, unless they cost more by this factor.
DEVICES, UNDIVIDED = 8, 1.05
TRIAL_PATIENCE = 40  # the patience of `arrange` in trials; little, so that the shape leaves some room
MOST_PADDING = 0.045  # shapes with a larger share of padding are taken only if no other fits
SAMPLE = 4096  # the number of examples with which shapes are tried before they are checked on all


def choose_shape(
    lengths: np.ndarray,
    batch_size: int,
    *,
    longest: int = 0,
    multiple: int = 1,
    sampler: Sampler = SHUFFLE,
) -> PackedShape:
    """Chooses the shape of packed batches: the cheapest one into which the examples of an epoch fit.

    The choice depends on the arguments alone: not on a seed, the epoch or the number of devices.

    Args:
      lengths: (n,), the number of tokens of each example, at least one example.
      batch_size: the number of examples of a batch.
      longest: the number of tokens of the longest text that has to fit, if it is not among the examples.
      multiple: the number of rows is a multiple of it.
      sampler: the order of an epoch.
    """
    lengths = np.asarray(lengths)
    size = min(batch_size, len(lengths))

    def fits(shape: PackedShape) -> bool:
        return all(_fits(lengths, size, shape, sampler, most) for most in (SAMPLE, len(lengths)))

    return cheapest(float(lengths.mean()) * size, size, max(longest, int(lengths.max())), multiple, fits)


def cheapest(tokens: float, size: int, longest: int, multiple: int, fits: Callable[[PackedShape], bool]) -> PackedShape:
    """Returns the cheapest shape that fits; one text in a row if none does.

    Args:
      tokens: the mean number of tokens of a batch.
      size: the number of texts of a batch.
      longest: the number of tokens of the longest text.
      multiple: the number of rows is a multiple of it.
      fits: whether the texts fit into the rows of a shape.
    """
    found = (shape for shape in _candidates(tokens, size, longest, multiple) if fits(shape))
    return next(found, PackedShape(_up(size, multiple), 1, _up(longest, GRAIN)))


def _candidates(tokens: float, size: int, longest: int, multiple: int) -> Iterator[PackedShape]:
    """Shapes with room for a batch of so many tokens and texts, by ascending cost."""
    found = []
    for rows in range(multiple, _up(size, multiple) + 1, multiple):
        least = _up(max(longest, math.ceil(tokens * SLACK / rows)), GRAIN)
        for length in range(least, min(least + 8 * GRAIN, max(LONGEST_ROW, least) + 1), GRAIN):
            texts = math.ceil(1.5 * size / rows)
            if texts < length:  # so that fields of texts and fields of tokens differ in shape
                found.append(PackedShape(rows, texts, length))

    def order(shape: PackedShape) -> tuple[bool, float]:
        undivided = UNDIVIDED if shape.rows % DEVICES else 1.0
        return 1 - tokens / (shape.rows * shape.length) > MOST_PADDING, cost(shape.rows, shape.length) * undivided

    return iter(sorted(found, key=order))


def cost(rows: int, length: int) -> float:
    """What rows of a length cost, in tokens of very short rows."""
    return rows * length * (1 + length / DOUBLES_AT)


def _fits(lengths: np.ndarray, size: int, shape: PackedShape, sampler: Sampler, most: int) -> bool:
    """Whether three epochs of at most so many examples fit into a shape."""
    for epoch in range(3):
        random = np.random.default_rng(epoch)
        order = sampler.order(len(lengths), random)[:most]
        if longest_row(lengths, arrange(lengths, order, size, shape, random, TRIAL_PATIENCE)) > shape.length:
            return False
    return True


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def shape_of_chunk(lengths: np.ndarray, size: int) -> PackedShape:
    """Returns a shape for one of several chunks of a stream, one of few, so that chunks that are alike share it.

    Args:
      lengths: (n,), the number of tokens of each example of the chunk, at least one example.
      size: about how many examples a batch has.
    """
    mean = max(float(lengths.mean()), 1.0)
    length = 1 << max(math.ceil(math.log2(max(float(lengths.max()), 3 * mean))), 4)
    texts = 1 << int(math.log2(length / mean))
    return PackedShape(-(-size // texts), min(2 * texts, length - 1), length)
