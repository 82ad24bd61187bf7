"""A checkpoint's tokenizer, as the `Encoder` that the data room asks for."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlx.errors import TlxError
from tlx.pretrained.folder import WANTED
from tlx.pretrained.formats.safe import check_links


class Tokenizer:
    """The fast tokenizer of a folder.

    Args:
      folder: holds `tokenizer.json`, or what transformers makes one from.
      max_length: tokens, special ones included, to which a text (of a pair, the longer one first) is cut.
    """

    def __init__(self, folder: Path, max_length: int):
        self._tokenizer = _open(folder)
        self.folder, self.max_length = folder, max_length
        self.pad_id: int = self._tokenizer.pad_token_id or 0

    def __call__(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids and token types of each text, cut to `max_length`, not padded."""
        coded = self._tokenizer(
            list(texts),
            None if pairs is None else list(pairs),
            truncation=True,
            max_length=self.max_length,
            return_token_type_ids=True,
            return_attention_mask=False,
        )
        return coded["input_ids"], coded["token_type_ids"]

    @functools.cached_property
    def _of_words(self) -> Any:
        """RoBERTa's takes words only if it puts a space before the first."""
        if getattr(self._tokenizer, "add_prefix_space", True):
            return self._tokenizer
        return _open(self.folder, add_prefix_space=True)

    def words(self, sentences: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
        """Token ids and types of sentences given as words, whole even where they are longer than `max_length`, and the
        position of each word's first token; -1 of a word of which the tokenizer leaves nothing."""
        coded = self._of_words(
            [list(words) for words in sentences],
            is_split_into_words=True,
            truncation=False,
            return_token_type_ids=True,
            return_attention_mask=False,
        )
        firsts = []
        for row, words in enumerate(sentences):
            positions = [-1] * len(words)
            for position, word in reversed(list(enumerate(coded.word_ids(row)))):
                if word is not None:
                    positions[word] = position
            firsts.append(positions)
        return coded["input_ids"], coded["token_type_ids"], firsts

    def inputs(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """What the model takes, padded to the longest text: `input_ids`, `token_type_ids`, `attention_mask`, int32
        (texts, length)."""
        ids, types = self(texts, pairs)
        longest = max(len(row) for row in ids)

        def padded(rows: Sequence[Sequence[int]], fill: int) -> np.ndarray:
            return np.array([[*row, *[fill] * (longest - len(row))] for row in rows], np.int32)

        mask = padded([[1] * len(row) for row in ids], 0)
        return {"input_ids": padded(ids, self.pad_id), "token_type_ids": padded(types, 0), "attention_mask": mask}


def _open(folder: Path, **options: Any) -> Any:
    import os

    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # "PyTorch was not found" is how it should be
    from transformers import AutoTokenizer

    check_links(folder, WANTED)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **options)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TlxError(f"{folder} holds no tokenizer that transformers can open: {reason}") from None
