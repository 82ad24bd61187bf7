"""Packing: texts are laid end to end in rows of one length, so that all batches of a run have one shape.

A batch of n texts has a fixed number of rows, and each row has room for a fixed number of texts and of tokens. Which
texts share a row is decided for a whole epoch at once. Rows are first filled in the order of the epoch, each with
nearly the same number of texts. Then texts are exchanged between rows that are too long and rows that are short, until
every row fits: a local search for balanced partitions. It makes the token counts of all batches nearly equal. A rule
such as best-fit decreasing, which sees one batch at a time, leaves more padding, because the largest of random batches
has 10 to 25 % more tokens than the mean. Every text comes as often as in the order, each batch has its number of texts,
and the result depends on the order and the random generator alone.
"""

import dataclasses

import numpy as np

PATIENCE = 1000  # rounds of the search without an improvement after which it ends
CANDIDATES = 32  # texts of a row that are considered for an exchange in one round
SLACK = 1.01  # the room of a batch's rows over its mean token count; with less, the search takes long or fails


@dataclasses.dataclass(frozen=True)
class PackedShape:
    """The shape of packed batches.

    Attributes:
      rows: the number of rows of a batch.
      texts: the largest number of texts in a row.
      length: the number of tokens of a row.
    """

    rows: int
    texts: int
    length: int


def arrange(
    lengths: np.ndarray, order: np.ndarray, batch_size: int, shape: PackedShape, random: np.random.Generator,
    patience: int = PATIENCE, groups: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Distributes the examples of an epoch over the rows of its batches.

    Args:
      lengths: (n,), the number of tokens of each example.
      order: int64 (examples of the epoch,), positions in the set.
      batch_size: the number of examples of a batch, at most `shape.rows * shape.texts`; the last one may have fewer.
      shape: the shape of the batches.
      random: decides which rows exchange texts.
      patience: the number of rounds of the search without an improvement after which it ends.
      groups: integers (examples of the epoch,), at least 0; batches exchange examples of the same group only, so that
        each keeps its number of every group. None: all examples are of one group.

    Returns:
      int64 (batches, rows, texts), positions in the set, -1 for no text. A row may have more tokens than
      `shape.length` where the search found no place for them.
    """
    dealt = _deal(order, batch_size, shape)
    rows = dealt.reshape(-1, shape.texts)
    sizes = np.append(lengths, 0)[rows]  # 0 where there is no text, whose position is -1
    group = np.where(rows < 0, -1, 0) if groups is None else _deal(groups, batch_size, shape).reshape(rows.shape)
    free = shape.rows * shape.texts > batch_size
    failures = turn = 0
    while failures < patience:
        totals = sizes.sum(axis=1)
        long = np.flatnonzero(totals > shape.length)
        if not len(long):
            break
        within = free and turn % 2 == 1  # the places without a text move within a batch only
        long, short = _within(totals, shape.rows, long) if within else _across(totals, long, random)
        columns = (np.arange(min(shape.texts, CANDIDATES)) + turn * CANDIDATES) % shape.texts
        failures = 0 if _exchange((rows, sizes, group), totals, long, short, columns, within) else failures + 1
        turn += 1
    return dealt


def pack_all(lengths: np.ndarray, shape: PackedShape) -> np.ndarray:
    """Distributes all examples of a set over batches of a shape, as many to a batch as fit.

    Args:
      lengths: (n,), the number of tokens of each example, at most `shape.length`.
      shape: the shape of the batches.

    Returns:
      As `arrange`; every example is in it once.
    """
    order = np.random.default_rng(0).permutation(len(lengths))
    size = int(min(shape.rows * shape.texts, shape.rows * shape.length / SLACK / max(lengths.mean(), 1)))
    while size > shape.rows:
        packed = arrange(lengths, order, size, shape, np.random.default_rng(0), patience=40)
        if longest_row(lengths, packed) <= shape.length:
            return packed
        size = min(size - 1, int(size * 0.98))
    return _deal(order, shape.rows, shape)  # one text in a row


def longest_row(lengths: np.ndarray, packed: np.ndarray) -> int:
    """Returns the number of tokens of the fullest row of packed batches, (…, texts), positions in the set or -1."""
    return int(np.append(lengths, 0)[packed].sum(axis=-1).max())


def _deal(order: np.ndarray, batch_size: int, shape: PackedShape) -> np.ndarray:
    """Fills the rows in order, those of a batch with numbers of texts that differ by at most one."""
    sizes = np.full(-(-len(order) // batch_size), batch_size)
    sizes[-1] = len(order) - batch_size * (len(sizes) - 1)
    counts = sizes[:, None] // shape.rows + (np.arange(shape.rows) < sizes[:, None] % shape.rows)
    dealt = np.full((len(sizes), shape.rows, shape.texts), -1, np.int64)
    dealt[np.arange(shape.texts) < counts[:, :, None]] = order
    return dealt


def _within(totals: np.ndarray, rows: int, long: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The longest and the shortest row of each batch that has a row which is too long."""
    batches = np.unique(long // rows)
    by_batch = totals.reshape(-1, rows)[batches]
    return batches * rows + by_batch.argmax(axis=1), batches * rows + by_batch.argmin(axis=1)


def _across(totals: np.ndarray, long: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a row that is too long and a random one of the shorter half of all rows."""
    half = np.argsort(totals, kind="stable")[: max(len(totals) // 2, 1)]
    count = min(len(long), len(half))
    return long[:count], random.permutation(half)[:count]


def _exchange(
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray], totals: np.ndarray, long: np.ndarray, short: np.ndarray,
    columns: np.ndarray, within: bool,
) -> bool:  # fmt: skip
    """In each pair of rows, exchanges the two texts that bring their token counts closest together.

    Args:
      arrays: (all rows, texts), positions, token counts and groups (-1 for no text); changed in place.
      totals: the token counts of the rows.
      long, short: the pairs; no row is in two of them.
      columns: the places in a row that are considered.
      within: whether the rows of a pair are of one batch. A text may then change places with any other and with none,
        otherwise only with one of its group.

    Returns:
      Whether any were exchanged.
    """
    gap = (totals[long] - totals[short])[:, None, None]
    first, second = (np.ix_(side, columns) for side in (long, short))
    _, sizes, group = arrays
    miss = np.abs(gap - 2 * (sizes[first][:, :, None] - sizes[second][:, None, :]))
    if not within:
        one, other = group[first][:, :, None], group[second][:, None, :]
        miss[(one < 0) | (one != other)] = np.iinfo(miss.dtype).max
    miss = miss.reshape(len(long), -1)
    best = miss.argmin(axis=1)
    better = miss[np.arange(len(long)), best] < gap[:, 0, 0]
    i, j = np.divmod(best[better], len(columns))
    here, there = (long[better], columns[i]), (short[better], columns[j])
    for array in arrays:
        array[here], array[there] = array[there], array[here].copy()
    return bool(better.any())
