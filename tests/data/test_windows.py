"""Windows over sentences that are longer than the model takes, against a plain search and a tokenizer's own windows."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from tlx.data.examples import Examples
from tlx.data.windows import best_window, cut_windows
from tlx.errors import TlxError
from tlx.pretrained.tokenizer import Tokenizer


@pytest.mark.parametrize("seed", range(30))
def test_windows(seed: int) -> None:
    """Each word that fits is in a window, none exceeds the capacity, overlaps keep to the stride, and no window could
    take another word."""
    random = np.random.default_rng(seed)
    capacity = int(random.integers(1, 12))
    stride = int(random.integers(0, capacity))
    lengths = random.integers(1, 6, int(random.integers(1, 60))).tolist()
    windows = cut_windows(lengths, capacity, stride)
    seen = {word for first, stop in windows for word in range(first, stop)}
    assert seen == {word for word, length in enumerate(lengths) if length <= capacity}
    for first, stop in windows:
        assert 0 < sum(lengths[first:stop]) <= capacity
        assert stop == len(lengths) or sum(lengths[first : stop + 1]) > capacity
    for (first, stop), (following, after) in itertools.pairwise(windows):
        assert first < following and stop < after
        overlap = sum(lengths[following:stop])
        assert overlap <= stride
        if following <= stop:  # one word more of overlap would be too much, or leave no room for the next word
            wider = following - 1
            assert wider == first or sum(lengths[wider:stop]) > stride or sum(lengths[wider : stop + 1]) > capacity
    for word, chosen in enumerate(best_window(lengths, windows).tolist()):
        room = [
            min(sum(lengths[first:word]), sum(lengths[word + 1 : stop])) if first <= word < stop else -1
            for first, stop in windows
        ]
        assert chosen == (room.index(max(room)) if room and max(room) >= 0 else -1)


def test_of_one_token_words_as_transformers_cuts_them(tmp_path: Path) -> None:
    """Where no word could be divided, the windows are those of `return_overflowing_tokens`."""
    from transformers import AutoTokenizer

    tiny.write_checkpoint(tmp_path)
    words = np.random.default_rng(0).choice([*tiny.GOOD, *tiny.BAD], 61).tolist()
    expected = AutoTokenizer.from_pretrained(tmp_path)(
        words, is_split_into_words=True, truncation=True, max_length=16, stride=5, return_overflowing_tokens=True
    )["input_ids"]
    found = Examples.encode_words(Tokenizer(tmp_path, 16), [words], stride=5)
    assert [row.tolist() for row in np.split(found.ids, found.offsets[1:-1])] == expected and len(expected) > 5


def test_every_word_once(tmp_path: Path) -> None:
    """Each word is predicted, and learnt, at its own first token; what cannot be has none; what fits stays whole."""
    tiny.write_checkpoint(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##a", "b", "c"]))
    tokenizer = Tokenizer(tmp_path, 8)
    endless, nothing = "a" * 7, "\u200d"  # seven tokens where a window has six; none
    sentences = [
        ["a", "b", "c", "aa", "a"],
        ["b", "aaa", nothing, "c", endless, "a", "b", "c", "aa", "b"] * 3,
        [nothing],
        [endless, endless],
    ]
    tags = [np.arange(len(words), dtype=np.int32) % 5 for words in sentences]
    found = Examples.encode_words(tokenizer, sentences, tags, np.array([7, 8, 9, 10]), stride=3)
    assert found.words is not None and max(found.lengths) == 8 and found.words.windowed == 2
    flat = [word for words in sentences for word in words]
    vocabulary = (tmp_path / "vocab.txt").read_text().split("\n")
    assert len(found.words.label) == len(found.labels) == len(flat) == 38
    for word, tag, token in zip(flat, np.concatenate(tags), found.words.token, strict=True):
        assert (token >= 0) == (word not in (endless, nothing))
        if token >= 0:
            own = [vocabulary[i].removeprefix("##") for i in found.ids[token : token + len(word)]]
            assert "".join(own) == word  # from its first token on, whole
            assert found.token_fields["label"][token] == tag and found.token_fields["label_mask"][token] == 1
    placed = found.words.token[found.words.token >= 0]
    assert len(set(placed)) == len(placed) == found.token_fields["label_mask"].sum()
    assert found.words.offsets.tolist() == [0, 5, 35, 36, 38] and found.words.sentence_id.tolist() == [7, 8, 9, 10]
    assert found.ids[:8].tolist() == [2, 5, 7, 8, 5, 6, 5, 3]
    assert found.example_id.tolist() == [7, *[8] * (len(found) - 3), 9, 10]


def test_what_fits_is_as_it_was(tmp_path: Path) -> None:
    """A run goes on only with data of its digest: SHA-256 of transformers' ids and of these arrays, in this order."""
    from transformers import AutoTokenizer

    tiny.write_checkpoint(tmp_path)
    random = np.random.default_rng(0)
    sentences = [random.choice([*tiny.GOOD, *tiny.NEUTRAL], n).tolist() for n in (3, 14, 1)]  # 14 just fit
    tags = [random.integers(0, 3, len(words), dtype=np.int32) for words in sentences]
    ids = AutoTokenizer.from_pretrained(tmp_path)(sentences, is_split_into_words=True)["input_ids"]
    zero = np.zeros(1, np.int32)
    label = np.concatenate([part for row in tags for part in (zero, row, zero)])
    mask = np.concatenate([part for row in tags for part in (zero, np.ones_like(row), zero)])
    offsets = np.cumsum([0, *(len(row) for row in ids)], dtype=np.int64)
    flat = np.array(list(itertools.chain.from_iterable(ids)), np.int32)
    expected = [flat, offsets, np.array([4, 0, 2]), label, mask]
    found = Examples.encode_words(Tokenizer(tmp_path, 16), sentences, tags, np.array([4, 0, 2]))
    assert list(found.content()) == [array.tobytes() for array in expected]


def test_refused(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path)
    words = [["film"] * 20]
    with pytest.raises(TlxError, match="max_length is 2, which leaves no room for words beside 2 special tokens"):
        Examples.encode_words(Tokenizer(tmp_path, 2), words)
    for stride in (-1, 14):
        with pytest.raises(TlxError, match=rf"data.stride is {stride}; .* overlap by 0 to 13 tokens"):
            Examples.encode_words(Tokenizer(tmp_path, 16), words, stride=stride)
