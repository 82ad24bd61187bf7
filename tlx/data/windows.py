"""Splits a sentence that is longer than the model takes into overlapping windows of words."""

from collections.abc import Sequence

import numpy as np

from tlx.errors import TlxError


def cut_windows(lengths: Sequence[int] | np.ndarray, capacity: int, stride: int) -> list[tuple[int, int]]:
    """Returns the windows of one sentence, as half-open ranges of words (first, stop).

    A window consists of whole words, as many as fit. Every word of 1 to `capacity` tokens is in at least one window; a
    longer word is in no window.

    Args:
      lengths: (words,), the number of tokens of each word, at least 1.
      capacity: the number of tokens of a window without special tokens.
      stride: the most tokens by which a window overlaps the one before it; fewer if a word would be divided.
    """
    ends = np.cumsum(lengths)
    starts = ends - lengths
    windows: list[tuple[int, int]] = []
    first = 0
    while first < len(lengths):
        if lengths[first] > capacity:
            first += 1
            continue
        stop = int(np.searchsorted(ends, starts[first] + capacity, side="right"))
        windows.append((first, stop))
        if stop == len(lengths):
            break
        following = stop
        # The next window begins as early as the overlap allows, but after this window's first word and so that the word
        # at `stop` fits into it.
        while following - 1 > first and starts[stop] - starts[following - 1] <= min(stride, capacity - lengths[stop]):
            following -= 1
        first = following
    return windows


def best_window(lengths: Sequence[int] | np.ndarray, windows: Sequence[tuple[int, int]]) -> np.ndarray:
    """Returns the window in which each word has most context, int64 (words,); -1 for a word that is in no window.

    The context is the number of tokens between the word and the nearer border of the window (the max-context rule of
    BERT's SQuAD code, Devlin et al. 2019). If two windows give the same context, the earlier one is chosen.

    Args:
      lengths: (words,), the number of tokens of each word.
      windows: the windows, as `cut_windows` returns them.
    """
    ends = np.cumsum(lengths)
    starts = ends - lengths
    best, context = np.full(len(lengths), -1, np.int64), np.full(len(lengths), -1, np.int64)
    for number, (first, stop) in enumerate(windows):
        words = np.arange(first, stop)
        room = np.minimum(starts[words] - starts[first], ends[stop - 1] - ends[words])
        better = words[room > context[words]]
        best[better], context[better] = number, room[room > context[words]]
    return best


def divide(
    ids: Sequence[int], types: Sequence[int], firsts: Sequence[int], *, special: int, max_length: int, stride: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Divides one tokenized sentence into examples: one if it fits into `max_length` tokens, else windows.

    Args:
      ids: the token ids of the sentence, special tokens included.
      types: its token types.
      firsts: for each word the position of its first token, -1 for a word without tokens.
      special: the number of special tokens of a sentence, and of each window. Used only for a sentence that is split.
      max_length: the most tokens of an example, special tokens included.
      stride: see `cut_windows`.

    Returns:
      The ids and types of each example, int32, at least one example; and int64 (words, 2), for each word the example
      in which it is predicted and the position of its first token there, both -1 for a word that is in no example.

    Raises:
      TlxError: `max_length` or `stride` leaves no room for words.
    """
    starts, whole = np.array(firsts, np.int64), (np.array(ids, np.int32), np.array(types, np.int32))
    place = np.full((len(starts), 2), -1, np.int64)
    words = np.flatnonzero(starts >= 0)
    if len(ids) <= max_length:
        place[words, 0], place[words, 1] = 0, starts[words]
        return [whole], place
    _check_room(special, max_length, stride)
    before = int(starts[words[0]])
    borders = np.array([*starts[words], len(ids) - (special - before)])  # where each word's tokens begin, and the end
    lengths = np.diff(borders)
    ranges = cut_windows(lengths, max_length - special, stride) or [(0, 0)]  # the latter if every word is too long
    best = best_window(lengths, ranges)
    begins = np.array([borders[first] for first, _ in ranges])
    in_window = best >= 0
    place[words[in_window], 0] = best[in_window]
    place[words[in_window], 1] = before + starts[words[in_window]] - begins[best[in_window]]
    # Each window consists of the special tokens before the words, its words, and the special tokens after them.
    parts = [(slice(before), slice(borders[first], borders[stop]), slice(borders[-1], None)) for first, stop in ranges]
    ids_, types_ = ([np.concatenate([array[part] for part in three]) for three in parts] for array in whole)
    return list(zip(ids_, types_, strict=True)), place


def _check_room(special: int, max_length: int, stride: int) -> None:
    if max_length <= special:
        raise TlxError(f"max_length is {max_length}, which leaves no room for words beside {special} special tokens.")
    if not 0 <= stride < max_length - special:
        raise TlxError(
            f"data.stride is {stride}; windows of {max_length} tokens, {special} of them special, overlap by 0 to "
            f"{max_length - special - 1} tokens."
        )
