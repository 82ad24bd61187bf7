"""Tokenized examples in flat arrays."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from tlx.data.answers import Answers
from tlx.data.flat import Flat, chunks
from tlx.data.places import Places, by_example
from tlx.data.spans import Spans, span_labels
from tlx.data.windows import divide
from tlx.data.words import Words


class Encoder(Protocol):
    """A tokenizer.

    Attributes:
      pad_id: the token id that pads texts.
      max_length: the number of tokens, special tokens included, to which texts are truncated.
    """

    pad_id: int
    max_length: int

    def __call__(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Tokenizes texts, or pairs of texts.

        Returns:
          The token ids and the token types of each text, truncated but not padded.
        """

    def words(self, sentences: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
        """Tokenizes sentences that are split into words, without truncation.

        Returns:
          The token ids and the token types of each sentence, and for each of its words the position of the first
          token, -1 for a word without tokens.
        """

    def windows(
        self, questions: Sequence[str], contexts: Sequence[str], stride: int
    ) -> tuple[list[list[int]], list[list[int]], list[np.ndarray], list[int]]:
        """Tokenizes questions with their contexts, a long context in windows that overlap by `stride` tokens.

        Returns:
          The token ids, the token types and the characters of the context (int32 (tokens, 2), see `Spans.chars`) of
          each window, and the position of its question.
        """


@dataclasses.dataclass(frozen=True)
class Examples:
    """A set of tokenized texts.

    Attributes:
      ids: int32 (tokens,), the token ids of all texts, concatenated.
      types: int32 (tokens,), their token types.
      offsets: int64 (n + 1,), the position in `ids` at which each text begins.
      fields: arrays with one entry per example by name, such as `label`, (n, …).
      example_id: int64 (n,), the row of each example in the source.
      pad_id: the token id that pads texts.
      token_fields: arrays (tokens,) by name, such as `label` and `label_mask` of tagged words.
      words: the words of tagged sentences; None for other texts.
      spans: the questions whose answers are spans of a context; None for other texts.
    """

    ids: np.ndarray
    types: np.ndarray
    offsets: np.ndarray
    fields: Mapping[str, np.ndarray]
    example_id: np.ndarray
    pad_id: int
    token_fields: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    words: Words | None = None
    spans: Spans | None = None

    @classmethod
    def encode(
        cls,
        encoder: Encoder,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        fields: Mapping[str, np.ndarray] | None = None,
        example_id: np.ndarray | None = None,
    ) -> "Examples":
        """Tokenizes texts.

        Args:
          encoder: the tokenizer.
          texts: the texts.
          pairs: the second text of each pair; None: single texts.
          fields: arrays with one entry per example by name.
          example_id: int64 (n,), the row of each text in the source; None: its position.
        """
        flat = Flat()
        for chunk in chunks(len(texts)):
            flat.add(*encoder(texts[chunk], None if pairs is None else pairs[chunk]))
        return cls(*flat.arrays(), dict(fields or {}), _source_rows(len(texts), example_id), encoder.pad_id)

    @classmethod
    def encode_words(
        cls,
        encoder: Encoder,
        sentences: Sequence[Sequence[str]],
        tags: Sequence[np.ndarray] | None = None,
        example_id: np.ndarray | None = None,
        stride: int | None = None,
    ) -> "Examples":
        """Tokenizes sentences of words. The first token of a word predicts its tag (Devlin et al. 2019, 5.3).

        A sentence longer than the encoder's `max_length` is split into overlapping windows, each of which is an
        example. Each word has its label and its prediction in one window, the one in which it has most context.
        `label_mask` is 1 at the word's first token there if the word has a label. A word without tokens, or with more
        tokens than a window holds, is not predicted.

        Args:
          encoder: the tokenizer.
          sentences: the words of each sentence.
          tags: int32 (words,) for each sentence, -1 for a word without a label; None: no word has a label.
          example_id: int64 (sentences,), the row of each sentence in the source; None: its position.
          stride: the number of tokens by which windows overlap; None: a quarter of `max_length`.

        Raises:
          TlxError: `max_length` or `stride` leaves no room for words.
        """
        stride = encoder.max_length // 4 if stride is None else stride
        flat, windowed, special = Flat(), 0, 0
        sentence_of: list[int] = []
        places = [np.zeros((0, 2), np.int64)]
        for chunk in chunks(len(sentences)):
            ids, types, firsts = encoder.words(sentences[chunk])
            long = sum(len(row) > encoder.max_length for row in ids)
            if long and not windowed:
                special = len(encoder.words([[]])[0][0])
            windowed += long
            inputs: list[tuple[np.ndarray, np.ndarray]] = []
            for sentence, row in enumerate(zip(ids, types, firsts, strict=True), chunk.start):
                windows, place = divide(*row, special=special, max_length=encoder.max_length, stride=stride)
                place[place[:, 0] >= 0, 0] += len(sentence_of)
                inputs += windows
                sentence_of += [sentence] * len(windows)
                places.append(place)
            flat.add([ids for ids, _ in inputs], [types for _, types in inputs])
        source = _source_rows(len(sentences), example_id)
        examples = cls(*flat.arrays(), {}, source[np.array(sentence_of, np.int64)], encoder.pad_id)
        place = np.concatenate(places)
        token = np.where(place[:, 0] >= 0, examples.offsets[place[:, 0]] + place[:, 1], -1)
        label = np.full(len(token), -1, np.int32) if tags is None else np.concatenate([np.zeros(0, np.int32), *tags])
        in_loss = (label >= 0) & (token >= 0)
        fields = {"label": np.zeros_like(examples.ids), "label_mask": np.zeros_like(examples.ids)}
        fields["label"][token[in_loss]] = label[in_loss]
        fields["label_mask"][token[in_loss]] = 1
        offsets = np.concatenate([[0], np.cumsum([len(words) for words in sentences])]).astype(np.int64)
        words = Words(label, token, offsets, source, windowed)
        return dataclasses.replace(examples, token_fields=fields, words=words)

    @classmethod
    def encode_spans(
        cls,
        encoder: Encoder,
        questions: Sequence[str],
        contexts: Sequence[str],
        answers: Sequence[Answers] | None = None,
        example_id: np.ndarray | None = None,
        stride: int | None = None,
    ) -> "Examples":
        """Tokenizes questions, each with the context in which its answer is a span.

        A question whose context is longer than the encoder's `max_length` leaves room for is read in windows of the
        context, each of which is an example. The fields of tokens are `label` (see `span_labels`) and `label_mask`, 1.

        Args:
          encoder: the tokenizer.
          questions: the questions.
          contexts: the context of each.
          answers: the answers of each; None: the set has no labels.
          example_id: int64 (questions,), the row of each question in the source; None: its position.
          stride: the number of tokens by which windows overlap; None: a quarter of `max_length`.

        Raises:
          TlxError: a question leaves no room for its context, or `stride` does not fit.
        """
        stride = encoder.max_length // 4 if stride is None else stride
        flat, chars, owners = Flat(), [np.zeros((0, 2), np.int32)], [np.zeros(0, np.int64)]
        for chunk in chunks(len(questions)):
            ids, types, chars_, owner = encoder.windows(questions[chunk], contexts[chunk], stride)
            flat.add(ids, types)
            chars += chars_
            owners.append(np.array(owner, np.int64) + chunk.start)
        source, of_window = _source_rows(len(questions), example_id), np.concatenate(owners)
        examples = cls(*flat.arrays(), {}, source[of_window], encoder.pad_id)
        windows = np.searchsorted(of_window, np.arange(len(questions) + 1)).astype(np.int64)
        spans = Spans(windows, np.concatenate(chars), contexts, answers, source)
        if answers is None:
            return dataclasses.replace(examples, spans=spans)
        labels, unreachable = span_labels(examples.offsets, windows, spans.chars, answers)
        fields = {"label": labels, "label_mask": np.ones(len(labels), np.int8)}
        spans = dataclasses.replace(spans, unreachable=unreachable)
        return dataclasses.replace(examples, token_fields=fields, spans=spans)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each example, int64 (n,)."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """Returns the fields of some examples.

        Args:
          rows: int64 (rows,), positions in the set, -1 for a padding row, which is not `valid`; or int64 (rows, texts),
            the texts that are packed into each row, -1 for no text.
          length: the number of tokens of a row, at least that of its texts.

        Returns:
          `input_ids`, `token_type_ids` and the token fields, int32 (rows, length); `attention_mask` or, if texts are
          packed, `segment_ids` and `text_starts` (see `Places.mark`); and, with the axes of `rows` first, the other
          fields, `example_id`, int64, -1 for padding, and `valid`, bool.
        """
        places = Places.of(self.offsets, rows, length)
        flat = {"token_type_ids": self.types, **self.token_fields}
        return {
            "input_ids": places.fill(self.ids, len(rows), length, self.pad_id),
            **{name: places.fill(values, len(rows), length) for name, values in flat.items()},
            **places.mark(rows, length),
            **by_example(rows, self.fields, self.example_id),
        }

    @property
    def labels(self) -> np.ndarray:
        """The labels, (n, …); for tagged words (words,), -1 for a word without a label."""
        return self.fields["label"] if self.words is None else self.words.label

    def with_field(self, name: str, values: np.ndarray) -> "Examples":
        """Returns the set with a further field, (n, …)."""
        return dataclasses.replace(self, fields={**self.fields, name: values})

    def content(self) -> Iterator[bytes]:
        """The bytes that identify the set: its tokens, the rows in the source, and all fields."""
        fields = (*self.fields.values(), *self.token_fields.values())
        for array in (self.ids, self.offsets, self.example_id, *fields):
            yield np.ascontiguousarray(array).tobytes()
        if self.spans is not None:
            yield from self.spans.content()


def _source_rows(size: int, rows: np.ndarray | None) -> np.ndarray:
    return np.arange(size, dtype=np.int64) if rows is None else rows


class ExampleSet(Protocol):
    """The interface of a set of examples, such as `Examples` (texts) or `image_examples.ImageExamples`."""

    @property
    def fields(self) -> Mapping[str, np.ndarray]: ...

    @property
    def token_fields(self) -> Mapping[str, np.ndarray]: ...

    @property
    def example_id(self) -> np.ndarray: ...

    @property
    def offsets(self) -> np.ndarray: ...

    @property
    def lengths(self) -> np.ndarray: ...

    @property
    def labels(self) -> np.ndarray: ...

    @property
    def words(self) -> Words | None: ...

    @property
    def spans(self) -> Spans | None: ...

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]: ...

    def content(self) -> Iterator[bytes]: ...
