"""Chooses the few lengths to which the batches of a run are padded, where texts are not packed.

Every length is a program that has to be compiled, and every padding token is computed. The lengths with the least sum
of both costs are found by dynamic programming over the histogram of the batches' longest texts, as one places the
borders of an optimal histogram or of k-medians in one dimension.
"""

import numpy as np

MOST = 3  # the largest number of lengths
GRAIN = 4  # lengths are multiples of it
# What compiling a step costs, in tokens that are trained on in the same time: MiniLM on two CPU cores takes 8 s to
# trace and compile a step, and trains on about a thousand tokens a second.
COMPILE_TOKENS = 8_000


def choose_lengths(longest: np.ndarray, tokens_per_unit: float, at_least: int = 0, most: int = MOST) -> tuple[int, ...]:
    """Returns the lengths that minimise the padded tokens of a run plus the cost of compiling for each length.

    Args:
      longest: (batches,), the number of tokens of the longest text of each batch, at least one batch.
      tokens_per_unit: how many tokens of the run one more token of length is in one of these batches: the number of
        rows of a batch, times the number of times that such a batch occurs in the run.
      at_least: the largest length is at least this; 0: that of the batches.
      most: the largest number of lengths.

    Returns:
      Ascending lengths, the last one at least as long as every text.
    """
    rounded = -(-np.append(longest, at_least) // GRAIN) * GRAIN
    lengths = np.unique(rounded)
    counts = np.array([np.sum(rounded[:-1] == length) for length in lengths])
    before = np.concatenate([[0], np.cumsum(counts)])
    # cost[j]: the least cost of the batches up to the j-th length, which is one of those chosen; then how it is reached
    cost = np.concatenate([[0.0], np.full(len(lengths), np.inf)])
    best: list[tuple[float, tuple[int, ...]]] = []
    chosen: list[tuple[int, ...]] = [()] * (len(lengths) + 1)
    for _ in range(min(most, len(lengths))):
        after = np.full(len(lengths) + 1, np.inf)
        path: list[tuple[int, ...]] = [()] * (len(lengths) + 1)
        for j, length in enumerate(lengths.tolist(), 1):
            costs = cost[:j] + (before[j] - before[:j]) * length * tokens_per_unit + COMPILE_TOKENS
            i = int(costs.argmin())
            after[j], path[j] = costs[i], (*chosen[i], length)
        best.append((float(after[-1]), path[-1]))
        cost, chosen = after, path
    return min(best)[1]
