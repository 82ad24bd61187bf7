"""Overlapping windows over the words of a sentence that is longer than the model takes."""

from collections.abc import Sequence

import numpy as np

from tlx.errors import TlxError


def cut_windows(lengths: Sequence[int] | np.ndarray, capacity: int, stride: int) -> list[tuple[int, int]]:
    """The windows of one sentence, as half-open ranges of words (first, stop).

    A window begins and ends between words and holds as many as fit. Every word of 1 to `capacity` tokens is in at least
    one window; a longer word is in none and no window reaches across it.

    Args:
      lengths: tokens of each word, at least 1.
      capacity: tokens of a window, special tokens not counted.
      stride: tokens by which a window overlaps the one before it, at most; less where a word would be divided.
    """
    ends = np.cumsum(lengths)
    starts = ends - lengths
    found: list[tuple[int, int]] = []
    first = 0
    while first < len(lengths):
        if lengths[first] > capacity:
            first += 1
            continue
        stop = int(np.searchsorted(ends, starts[first] + capacity, side="right"))
        found.append((first, stop))
        if stop == len(lengths):
            break
        following = stop
        # as far back as the overlap allows, if the next word still fits, and never to where this window began
        while following - 1 > first and starts[stop] - starts[following - 1] <= min(stride, capacity - lengths[stop]):
            following -= 1
        first = following
    return found


def best_window(lengths: Sequence[int] | np.ndarray, windows: Sequence[tuple[int, int]]) -> np.ndarray:
    """int64 (words,): for each word the window in which it has most context, -1 for a word that is in none.

    The context is the number of tokens from the word to the nearer border of the window (the max-context rule of
    BERT's SQuAD code, Devlin et al. 2019); of two alike the earlier window.
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
    """One tokenized sentence as the examples that it is: itself if it fits, else windows.

    Args:
      ids, types: of the whole sentence, special tokens included.
      firsts: for each word the position of its first token, -1 where it has none.
      special: how many special tokens a sentence has; each window has the same. Read only of a longer sentence.
      max_length: tokens of an example at most, special ones included.
      stride: as in `cut_windows`.

    Returns:
      (ids, types) of each example, at least one, int32; and int64 (words, 2), for each word the example in which it is
      predicted and the position of its first token there, -1 in both where it is in none.

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
    borders = np.array([*starts[words], len(ids) - (special - before)])  # of the words' tokens
    lengths = np.diff(borders)
    ranges = cut_windows(lengths, max_length - special, stride) or [(0, 0)]  # every word is too long
    best = best_window(lengths, ranges)
    begins = np.array([borders[first] for first, _ in ranges])
    seen = best >= 0
    place[words[seen], 0] = best[seen]
    place[words[seen], 1] = before + starts[words[seen]] - begins[best[seen]]
    parts = [(slice(before), slice(borders[first], borders[stop]), slice(borders[-1], None)) for first, stop in ranges]
    ids_, types_ = ([np.concatenate([of[part] for part in three]) for three in parts] for of in whole)
    return list(zip(ids_, types_, strict=True)), place


def _check_room(special: int, max_length: int, stride: int) -> None:
    if max_length <= special:
        raise TlxError(f"max_length is {max_length}, which leaves no room for words beside {special} special tokens.")
    if not 0 <= stride < max_length - special:
        raise TlxError(
            f"data.stride is {stride}; windows of {max_length} tokens, {special} of them special, overlap by 0 to "
            f"{max_length - special - 1} tokens."
        )
