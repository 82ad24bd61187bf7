"""A checkpoint's tokenizer; it implements `tlx.data.examples.Encoder`."""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data.flat import chunks
from tlx.data.spans import NOWHERE
from tlx.errors import TlxError
from tlx.models.model import FAMILIES, config_of
from tlx.models.text_config import TextConfig
from tlx.pretrained.folder import read_config
from tlx.pretrained.tokenizer_files import check_complete, check_files, check_readable

PROBE = "a \u00e9\u4e16\U0010fffd"  # a text that contains unknown tokens for every vocabulary


@dataclasses.dataclass(frozen=True)
class Tables:
    """The numbers of rows of the embedding tables that a tokenizer indexes.

    Attributes:
      vocabulary: rows of the word embeddings.
      token_types: rows of the token type embeddings; None if the model has none.
    """

    vocabulary: int
    token_types: int | None


class Tokenizer:
    """The tokenizer of a checkpoint.

    Args:
      folder: the checkpoint's folder. It holds `config.json` and `tokenizer.json`, or other files from which
        transformers can make the tokenizer.
      max_length: the number of tokens, special tokens included, to which a text is truncated; in a pair, the longer
        text is truncated first.

    Attributes:
      folder: as above.
      max_length: as above.
      pad_id: the token id that pads texts.
      tables: the sizes of the checkpoint's embedding tables; None if tlx does not support its family.

    Raises:
      TlxError: files are missing, damaged or unsafe; the vocabulary is larger than the checkpoint's embedding table.
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
        """Tokenizes texts, or pairs of texts.

        Args:
          texts: the texts.
          pairs: the second text of each pair; None: single texts.

        Returns:
          The token ids and the token types of each text, truncated to `max_length` but not padded.

        Raises:
          TlxError: the tokenizer fails, or gives a number that is no row of the checkpoint's tables.
        """
        encoding = self._run(
            self._tokenizer,
            list(texts),
            None if pairs is None else list(pairs),
            truncation=True,
            max_length=self.max_length,
        )
        return self._checked(encoding["input_ids"], encoding["token_type_ids"], self.max_length)

    @property
    def kind(self) -> str:
        """The class of the tokenizer, and the sizes of the checkpoint's tables: what `config.json` decides of it."""
        return f"{type(self._tokenizer).__name__} {self.tables}"

    @property
    def size(self) -> int:
        """The number of tokens, of which each is a row of the checkpoint's embedding table."""
        size = len(self._tokenizer)
        return size if self.tables is None else min(size, self.tables.vocabulary)

    @property
    def special_ids(self) -> tuple[int, ...]:
        """The ids of tokens that stand for no text, such as [CLS], [SEP], [UNK] and [MASK]."""
        return tuple(self._tokenizer.all_special_ids)

    @property
    def mask_id(self) -> int:
        """The id of the mask token.

        Raises:
          TlxError: the tokenizer has none, or it is no row of the embedding table.
        """
        mask_id = self._tokenizer.mask_token_id
        if mask_id is None or mask_id >= self.size:
            raise TlxError(
                f"the tokenizer in {self.folder} has no mask token, which masked language modelling needs; use a "
                "checkpoint that was pretrained with one."
            )
        return int(mask_id)

    @property
    def mask_token(self) -> str:
        """How the mask token is written in a text."""
        return str(self._tokenizer.mask_token)

    def word(self, token: int) -> str:
        """Returns a token as it is written, without spaces around it."""
        return str(self._tokenizer.decode([token])).strip()

    def count_longer(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> int:
        """Returns how many texts, or pairs of texts, have more than `max_length` tokens before truncation."""
        longer = 0
        for chunk in chunks(len(texts)):
            second = None if pairs is None else list(pairs[chunk])
            untruncated = self._run(self._tokenizer, list(texts[chunk]), second, truncation=False)
            longer += sum(len(row) > self.max_length for row in untruncated["input_ids"])
        return longer

    def words(self, sentences: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
        """Tokenizes sentences that are split into words, without truncation.

        Returns:
          The token ids and the token types of each sentence, and for each of its words the position of the first
          token, -1 for a word without tokens.
        """
        encode = self._fast_words if self._tokenizer.is_fast else self._slow_words
        ids, types, firsts = encode([list(words) for words in sentences])
        return *self._checked(ids, types, None), firsts

    def windows(
        self, questions: Sequence[str], contexts: Sequence[str], stride: int
    ) -> tuple[list[list[int]], list[list[int]], list[np.ndarray], list[int]]:
        """Tokenizes questions with their contexts, a long context in windows that overlap by `stride` tokens.

        Returns:
          The token ids, the token types and the characters of the context (int32 (tokens, 2), see
          `tlx.data.spans.Spans.chars`) of each window, and the position of its question.

        Raises:
          TlxError: the tokenizer is written in Python and so knows no characters; `stride` is negative; a question
            leaves no room for a window of its context.
        """
        if not self._tokenizer.is_fast:
            raise TlxError(
                f"the tokenizer in {self.folder} does not say which characters a token stands for, which question "
                "answering needs; use a checkpoint with a fast tokenizer (tokenizer.json)."
            )
        if stride < 0:
            raise TlxError(f"data.stride is {stride}; it is at least 0.")
        self._check_room(questions, contexts, stride)
        encoding = self._run(
            self._tokenizer,
            list(questions),
            list(contexts),
            truncation="only_second",
            max_length=self.max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        ids, types = self._checked(encoding["input_ids"], encoding["token_type_ids"], self.max_length)
        chars = []
        for row, offsets in enumerate(encoding["offset_mapping"]):
            of_context = np.array([which == 1 for which in encoding.sequence_ids(row)], bool)
            chars.append(np.where(of_context[:, None], np.array(offsets, np.int32).reshape(-1, 2), NOWHERE))
        return ids, types, chars, encoding["overflow_to_sample_mapping"]

    def _check_room(self, questions: Sequence[str], contexts: Sequence[str], stride: int) -> None:
        """Raises `TlxError` if a context is longer than its question leaves room for, and the room is too small."""
        special = self._tokenizer.num_special_tokens_to_add(pair=True)
        distinct = list(dict.fromkeys(questions))
        tokens = self._run(self._tokenizer, distinct, add_special_tokens=False, truncation=False)["input_ids"]
        room = {question: self.max_length - special - len(row) for question, row in zip(distinct, tokens, strict=True)}
        for question, context in zip(questions, contexts, strict=True):
            if room[question] <= stride and self.count_longer([question], [context]):
                raise TlxError(
                    f"the question {question!r:.80} leaves {max(room[question], 0)} of {self.max_length} tokens "
                    f"(data.max_length) for its context, whose windows overlap by {stride} (data.stride); raise "
                    "max_length, lower stride, or drop the question."
                )

    def inputs(self, texts: str | Sequence[str], pairs: str | Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Makes the model's inputs from texts, padded to the longest text.

        Args:
          texts: one text or several; one text is a batch of one.
          pairs: the second text of each pair; None: single texts.

        Returns:
          `input_ids`, `token_type_ids` and `attention_mask`, int32 (texts, length).

        Raises:
          TlxError: there are no texts, a value is not a text, or the numbers of texts and pairs differ.
        """
        first_texts = _texts(texts)
        second_texts = None if pairs is None else _texts(pairs)
        if second_texts is not None and len(second_texts) != len(first_texts):
            raise TlxError(f"there are {len(first_texts)} texts and {len(second_texts)} pairs; expected one for each.")
        ids, types = self(first_texts, second_texts)
        longest = max(len(row) for row in ids)

        def padded(rows: Sequence[Sequence[int]], fill: int) -> np.ndarray:
            return np.array([[*row, *[fill] * (longest - len(row))] for row in rows], np.int32)

        mask = padded([[1] * len(row) for row in ids], 0)
        return {"input_ids": padded(ids, self.pad_id), "token_type_ids": padded(types, 0), "attention_mask": mask}

    @functools.cached_property
    def _word_tokenizer(self) -> Any:
        """The tokenizer for lists of words; RoBERTa's accepts these only if it adds a space before the first word."""
        if getattr(self._tokenizer, "add_prefix_space", True):
            return self._tokenizer
        return _open(self.folder, add_prefix_space=True)

    def _fast_words(self, sentences: list[list[str]]) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
        encoding = self._run(self._word_tokenizer, sentences, is_split_into_words=True, truncation=False)
        firsts = []
        for row, words in enumerate(sentences):
            positions = [-1] * len(words)
            for position, word in reversed(list(enumerate(encoding.word_ids(row)))):
                if word is not None:
                    positions[word] = position
            firsts.append(positions)
        return encoding["input_ids"], encoding["token_type_ids"], firsts

    def _slow_words(self, sentences: list[list[str]]) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
        """Encodes each word by itself, because tokenizers written in Python do not map tokens to words."""
        tokenizer = self._tokenizer
        before = tokenizer.build_inputs_with_special_tokens([-1]).index(-1)  # special tokens before the first word
        ids, types, firsts = [], [], []
        for words in sentences:
            tokens: list[int] = []
            positions = []
            for word in words:
                word_tokens = self._run(tokenizer, word, add_special_tokens=False)["input_ids"]
                positions.append(before + len(tokens) if word_tokens else -1)
                tokens += word_tokens
            ids.append(tokenizer.build_inputs_with_special_tokens(tokens))
            types.append(tokenizer.create_token_type_ids_from_sequences(tokens))
            firsts.append(positions)
        return ids, types, firsts

    def _run(self, tokenizer: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return tokenizer(*arguments, **options, return_token_type_ids=True, return_attention_mask=False)
        except BaseException as error:  # the library raises plain `Exception`, and `PanicException`
            if not _is_library_error(error):
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
        # No text contains the padding token, but padded batches do.
        if self.tables is not None and not 0 <= self.pad_id < self.tables.vocabulary:
            raise TlxError(
                f"the tokenizer in {self.folder} pads by token {self.pad_id} ({self._tokenizer.pad_token!r}), and the "
                f"checkpoint's embedding table has {self.tables.vocabulary} rows (vocab_size); its vocabulary lacks "
                "that token where the checkpoint had it: copy the checkpoint's files."
            )
        self([PROBE])

    def _checked(
        self, ids: list[list[int]], types: list[list[int]], longest: int | None
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Returns the encoding after checking that its numbers are rows of the tables and no text is too long."""
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


def _texts(value: Any) -> list[str]:
    """Returns one text or several as a list."""
    if isinstance(value, (bytes, os.PathLike, dict)) or not hasattr(value, "__iter__"):
        raise TlxError(f"a text or a list of texts was expected, found {type(value).__name__} {value!r:.80}.")
    texts = [value] if isinstance(value, str) else list(value)
    if not texts:
        raise TlxError("there are no texts; give at least one.")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TlxError(f"text {row} is {type(text).__name__} {text!r:.80}; expected a str.")
    return [str(text) for text in texts]


def _tables(folder: Path) -> Tables | None:
    """Returns the table sizes of the checkpoint; None if tlx does not support its family for texts."""
    hf = read_config(folder)
    family = FAMILIES.get(hf["model_type"])
    if family is None or not issubclass(family[0], TextConfig):
        return None
    config: Any = config_of(folder, hf, {})
    return Tables(config.vocab_size, getattr(config, "type_vocab_size", None))


def _open(folder: Path, **options: Any) -> Any:
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # hides the warning that PyTorch was not found
    from transformers import AutoTokenizer

    check_files(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **options)
    except BaseException as error:  # transformers and tokenizers raise a dozen kinds, plain `Exception` among them
        if not _is_library_error(error):
            raise
        check_readable(folder)
        raise TlxError(f"{folder} holds no tokenizer that transformers can open: {_reason(error)}.") from None
    check_complete(folder, tokenizer)
    return tokenizer


def _is_library_error(error: BaseException) -> bool:
    """Returns whether an exception is an error, not e.g. Ctrl-C; a panic of Rust code is only a `BaseException`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _reason(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")[:300]
