"""A checkpoint's tokenizer, as the `Encoder` that the data room asks for."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlx.errors import TlxError
from tlx.models.model import FAMILIES, config_of
from tlx.models.text_config import TextConfig
from tlx.pretrained.folder import read_config
from tlx.pretrained.tokenizer_files import check_complete, check_files, check_readable

PROBE = "a \u00e9\u4e16\U0010fffd"  # whatever the vocabulary, some of it is unknown


@dataclasses.dataclass(frozen=True)
class Tables:
    """Rows of a checkpoint's tables that a tokenizer indexes.

    Attributes:
      vocabulary: of the word embeddings.
      token_types: of the embeddings of token types; None where the model has none.
    """

    vocabulary: int
    token_types: int | None


class Tokenizer:
    """The tokenizer of a folder.

    Args:
      folder: holds `tokenizer.json`, or what transformers makes one from, and the model's `config.json`.
      max_length: tokens, special ones included, to which a text (of a pair, the longer one first) is cut.

    Raises:
      TlxError: files that are missing, damaged or unsafe; a vocabulary larger than the checkpoint's embedding table.
    """

    def __init__(self, folder: Path, max_length: int):
        self._tokenizer = _open(folder)
        self.folder, self.max_length = folder, max_length
        self.pad_id: int = self._tokenizer.pad_token_id or 0
        self.tables = _tables(folder)
        self._check_vocabulary()

    def __call__(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids and token types of each text, cut to `max_length`, not padded."""
        coded = self._run(
            self._tokenizer,
            list(texts),
            None if pairs is None else list(pairs),
            truncation=True,
            max_length=self.max_length,
        )
        return self._checked(coded["input_ids"], coded["token_type_ids"], self.max_length)

    def count_longer(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> int:
        """How many texts, or pairs of texts, are longer than `max_length` before they are cut."""
        if not len(texts):
            return 0
        whole = self._run(self._tokenizer, list(texts), None if pairs is None else list(pairs), truncation=False)
        return sum(len(row) > self.max_length for row in whole["input_ids"])

    def words(self, sentences: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
        """Token ids and types of sentences given as words, whole even where they are longer than `max_length`, and the
        position of each word's first token; -1 of a word of which the tokenizer leaves nothing."""
        encode = self._fast_words if self._tokenizer.is_fast else self._slow_words
        ids, types, firsts = encode([list(words) for words in sentences])
        return *self._checked(ids, types, None), firsts

    def inputs(self, texts: str | Sequence[str], pairs: str | Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """What the model takes, padded to the longest text: `input_ids`, `token_type_ids`, `attention_mask`, int32
        (texts, length). A single text is a batch of one.

        Raises:
          TlxError: no texts, something that is no text, or another number of pairs.
        """
        given = _texts(texts)
        partners = None if pairs is None else _texts(pairs)
        if partners is not None and len(partners) != len(given):
            raise TlxError(f"there are {len(given)} texts and {len(partners)} pairs; expected one for each.")
        ids, types = self(given, partners)
        longest = max(len(row) for row in ids)

        def padded(rows: Sequence[Sequence[int]], fill: int) -> np.ndarray:
            return np.array([[*row, *[fill] * (longest - len(row))] for row in rows], np.int32)

        mask = padded([[1] * len(row) for row in ids], 0)
        return {"input_ids": padded(ids, self.pad_id), "token_type_ids": padded(types, 0), "attention_mask": mask}

    @functools.cached_property
    def _of_words(self) -> Any:
        """RoBERTa's takes words only if it puts a space before the first."""
        if getattr(self._tokenizer, "add_prefix_space", True):
            return self._tokenizer
        return _open(self.folder, add_prefix_space=True)

    def _fast_words(self, sentences: list[list[str]]) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
        coded = self._run(self._of_words, sentences, is_split_into_words=True, truncation=False)
        firsts = []
        for row, words in enumerate(sentences):
            positions = [-1] * len(words)
            for position, word in reversed(list(enumerate(coded.word_ids(row)))):
                if word is not None:
                    positions[word] = position
            firsts.append(positions)
        return coded["input_ids"], coded["token_type_ids"], firsts

    def _slow_words(self, sentences: list[list[str]]) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
        """Tokenizers written in Python do not say which word a token is of, so each word is encoded by itself."""
        tokenizer = self._tokenizer
        before = tokenizer.build_inputs_with_special_tokens([-1]).index(-1)  # special tokens before the first word
        ids, types, firsts = [], [], []
        for words in sentences:
            tokens: list[int] = []
            positions = []
            for word in words:
                found = self._run(tokenizer, word, add_special_tokens=False)["input_ids"]
                positions.append(before + len(tokens) if found else -1)
                tokens += found
            ids.append(tokenizer.build_inputs_with_special_tokens(tokens))
            types.append(tokenizer.create_token_type_ids_from_sequences(tokens))
            firsts.append(positions)
        return ids, types, firsts

    def _run(self, tokenizer: Callable[..., Any], *given: Any, **options: Any) -> Any:
        try:
            return tokenizer(*given, **options, return_token_type_ids=True, return_attention_mask=False)
        except BaseException as error:  # the library raises plain `Exception`, and `PanicException`
            if not _of_library(error):
                raise
            raise TlxError(f"the tokenizer in {self.folder} cannot encode these texts: {_reason(error)}.") from None

    def _check_vocabulary(self) -> None:
        added = set(self._tokenizer.get_added_vocab())
        vocabulary = self._tokenizer.get_vocab()
        largest = max((index for token, index in vocabulary.items() if token not in added), default=-1)
        if largest < 0 and vocabulary.keys() <= added and type(self._tokenizer).vocab_files_names:
            raise TlxError(f"the tokenizer in {self.folder} has an empty vocabulary; copy the checkpoint's files.")
        if self.tables is not None and largest >= self.tables.vocabulary:
            raise TlxError(
                f"the tokenizer in {self.folder} has {largest + 1:,} tokens and the checkpoint's embedding table "
                f"{self.tables.vocabulary:,} rows (vocab_size); use the tokenizer that the checkpoint was trained with."
            )
        if self.tables is not None and not 0 <= self.pad_id < self.tables.vocabulary:  # no text gives it, batches do
            raise TlxError(
                f"the tokenizer in {self.folder} pads by token {self.pad_id} ({self._tokenizer.pad_token!r}), and the "
                f"checkpoint's embedding table has {self.tables.vocabulary} rows (vocab_size); its vocabulary lacks "
                "that token where the checkpoint had it: copy the checkpoint's files."
            )
        self([PROBE])

    def _checked(
        self, ids: list[list[int]], types: list[list[int]], longest: int | None
    ) -> tuple[list[list[int]], list[list[int]]]:
        """What was encoded, where every number is a row of the checkpoint's tables and no text too long."""
        if longest is not None and (row := next((row for row in ids if len(row) > longest), None)) is not None:
            raise TlxError(f"the tokenizer in {self.folder} gave {len(row)} tokens where {longest} is the most.")
        if self.tables is not None:
            for what, rows, size, field in (
                ("token", ids, self.tables.vocabulary, "vocab_size"),
                ("token type", types, self.tables.token_types, "type_vocab_size"),
            ):
                largest = max((max(row, default=0) for row in rows), default=0)
                if size is not None and largest >= size:
                    raise TlxError(
                        f"the tokenizer in {self.folder} gives {what} {largest}, and the checkpoint's table has {size} "
                        f"rows ({field}), numbers 0 to {size - 1}; the tokenizer does not belong to this checkpoint."
                    )
        return ids, types


def _texts(given: Any) -> list[str]:
    """One text or several, as a list."""
    if isinstance(given, (bytes, os.PathLike, dict)) or not hasattr(given, "__iter__"):
        raise TlxError(f"a text or a list of texts was expected, found {type(given).__name__} {given!r:.80}.")
    texts = [given] if isinstance(given, str) else list(given)
    if not texts:
        raise TlxError("there are no texts; give at least one.")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TlxError(f"text {row} is {type(text).__name__} {text!r:.80}; expected a str.")
    return [str(text) for text in texts]


def _tables(folder: Path) -> Tables | None:
    """Of the checkpoint in the folder; None where it is of no family of texts that tlx has."""
    hf = read_config(folder)
    family = FAMILIES.get(hf["model_type"])
    if family is None or not issubclass(family[0], TextConfig):
        return None
    config: Any = config_of(folder, hf, {})
    return Tables(config.vocab_size, getattr(config, "type_vocab_size", None))


def _open(folder: Path, **options: Any) -> Any:
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # "PyTorch was not found" is how it should be
    from transformers import AutoTokenizer

    check_files(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **options)
    except BaseException as error:  # transformers and tokenizers raise a dozen kinds, plain `Exception` among them
        if not _of_library(error):
            raise
        check_readable(folder)
        raise TlxError(f"{folder} holds no tokenizer that transformers can open: {_reason(error)}.") from None
    check_complete(folder, tokenizer)
    return tokenizer


def _of_library(error: BaseException) -> bool:
    """Whether it is an error rather than, say, Ctrl-C; a panic of Rust code derives from `BaseException` alone."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _reason(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:300]
