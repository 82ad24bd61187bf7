"""Tokenised examples held as flat arrays, and the batches that a plan cuts from any examples."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from tlx.data.plan import EvaluationPlan, TrainingPlan
from tlx.data.windows import divide


class Encoder(Protocol):
    """A tokenizer: texts (and their partners) to token ids and token types, one sequence per text."""

    pad_id: int
    max_length: int

    def __call__(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None
    ) -> tuple[list[list[int]], list[list[int]]]:
        """ids and types, each of the text's own length."""

    def words(self, sentences: Sequence[Sequence[str]]) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
        """ids and types, of whole sentences whatever their length, and for each word the position of its first token,
        -1 where it has none."""


@dataclasses.dataclass(frozen=True)
class Words:
    """The words of tagged sentences, all of them, in the order of the source.

    label: int32 (words,), -1 of a word that has none. token: int64 (words,), which token of the set (a position in
    `Examples.ids`) predicts the word; -1 for a word that cannot be predicted. offsets: int64 (sentences + 1,), where
    each sentence begins. sentence_id: int64 (sentences,), the row in the source. windowed: how many sentences are
    longer than `max_length`, and so several examples.
    """

    label: np.ndarray
    token: np.ndarray
    offsets: np.ndarray
    sentence_id: np.ndarray
    windowed: int

    @property
    def predictable(self) -> np.ndarray:
        """bool (words,): whether the model sees the word."""
        return self.token >= 0

    @property
    def labelled(self) -> np.ndarray:
        """bool (words,): whether the word has a label."""
        return self.label >= 0

    def measured(self, predictions: np.ndarray) -> tuple[np.ndarray, "Words"]:
        """The predictions, (words, outputs), and the words, without those that have no label. The words on both sides
        of one become neighbours, so that entities are those that transformers' examples give to seqeval."""
        kept = self.labelled
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.offsets]
        words = dataclasses.replace(self, label=self.label[kept], token=self.token[kept], offsets=offsets)
        return predictions[kept], words

    def spread(self, by_token: np.ndarray) -> np.ndarray:
        """(words, outputs) from (tokens, outputs): each word's, NaN for a word that cannot be predicted."""
        found = by_token[np.maximum(self.token, 0)]
        found[~self.predictable] = np.nan
        return found


@dataclasses.dataclass(frozen=True)
class Examples:
    """A set of tokenised texts.

    ids, types: int32, all texts end to end. offsets: int64 (n + 1,), where each begins.
    fields: per-example arrays by name, such as `label`, (n, …). example_id: int64 (n,), the row in the source.
    token_fields: per-token arrays by name, end to end like `ids`, such as `label` and `label_mask` of tagged words.
    words: of tagged sentences, where each word is predicted; else None.
    """

    ids: np.ndarray
    types: np.ndarray
    offsets: np.ndarray
    fields: Mapping[str, np.ndarray]
    example_id: np.ndarray
    pad_id: int
    token_fields: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    words: Words | None = None

    @classmethod
    def encode(
        cls,
        encoder: Encoder,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        fields: Mapping[str, np.ndarray] | None = None,
        example_id: np.ndarray | None = None,
    ) -> "Examples":
        """Tokenises once."""
        ids, types = encoder(texts, pairs)
        return cls._of(ids, types, encoder.pad_id, example_id, fields)

    @classmethod
    def encode_words(
        cls,
        encoder: Encoder,
        sentences: Sequence[Sequence[str]],
        tags: Sequence[np.ndarray] | None = None,
        example_id: np.ndarray | None = None,
        stride: int | None = None,
    ) -> "Examples":
        """Tokenises words; a word's tag is asked of its first token, and the rest of its tokens have none (Devlin et
        al. 2019, 5.3).

        A sentence longer than the encoder's `max_length` becomes several examples, windows that overlap; each word has
        its label, and its prediction, in the one window where it has most context. `label_mask` is 1 there, unless the
        word has no label. A word that the tokenizer leaves nothing of, or whose tokens alone exceed a window, has none.

        Args:
          tags: int32 (words,) of each sentence, -1 of a word that has no label; None: no word has one.
          stride: tokens by which windows overlap; None: a quarter of `max_length`.

        Raises:
          TlxError: `max_length` or `stride` leaves no room for words.
        """
        ids, types, firsts = encoder.words(sentences)
        longer = sum(len(row) > encoder.max_length for row in ids)
        special = len(encoder.words([[]])[0][0]) if longer else 0
        stride = encoder.max_length // 4 if stride is None else stride
        inputs: list[tuple[np.ndarray, np.ndarray]] = []
        owner, places = [], [np.zeros((0, 2), np.int64)]
        for sentence, row in enumerate(zip(ids, types, firsts, strict=True)):
            windows, place = divide(*row, special=special, max_length=encoder.max_length, stride=stride)
            place[place[:, 0] >= 0, 0] += len(inputs)
            inputs += windows
            owner += [sentence] * len(windows)
            places.append(place)
        source = np.arange(len(sentences), dtype=np.int64) if example_id is None else example_id
        flat = [[window[i] for window in inputs] for i in (0, 1)]
        made = cls._of(flat[0], flat[1], encoder.pad_id, source[np.array(owner, np.int64)])
        place = np.concatenate(places)
        token = np.where(place[:, 0] >= 0, made.offsets[place[:, 0]] + place[:, 1], -1)
        label = np.full(len(token), -1, np.int32) if tags is None else np.concatenate([np.zeros(0, np.int32), *tags])
        learnt = (label >= 0) & (token >= 0)
        fields = {"label": np.zeros_like(made.ids), "label_mask": np.zeros_like(made.ids)}
        fields["label"][token[learnt]] = label[learnt]
        fields["label_mask"][token[learnt]] = 1
        offsets = np.concatenate([[0], np.cumsum([len(words) for words in sentences])]).astype(np.int64)
        words = Words(label, token, offsets, source, longer)
        return dataclasses.replace(made, token_fields=fields, words=words)

    @classmethod
    def _of(
        cls,
        ids: Sequence[Sequence[int] | np.ndarray],
        types: Sequence[Sequence[int] | np.ndarray],
        pad_id: int,
        example_id: np.ndarray | None,
        fields: Mapping[str, np.ndarray] | None = None,
    ) -> "Examples":
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])]).astype(np.int64)
        flat = [np.fromiter((t for row in rows for t in row), np.int32, offsets[-1]) for rows in (ids, types)]
        number = np.arange(len(ids), dtype=np.int64) if example_id is None else example_id
        return cls(flat[0], flat[1], offsets, dict(fields or {}), number, pad_id)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """The fields of these rows, texts padded to `length`; a row of -1 is padding and not `valid`."""
        valid = rows >= 0
        safe = np.where(valid, rows, 0)
        flat = {"input_ids": self.ids, "token_type_ids": self.types, **self.token_fields}
        padded = {name: np.zeros((len(rows), length), np.int32) for name in (*flat, "attention_mask")}
        padded["input_ids"][:] = self.pad_id
        for i in np.flatnonzero(valid):
            start, stop = self.offsets[rows[i]], self.offsets[rows[i] + 1]
            padded["attention_mask"][i, : stop - start] = 1
            for name, values in flat.items():
                padded[name][i, : stop - start] = values[start:stop]
        return {
            **padded,
            **{name: values[safe] for name, values in self.fields.items()},
            "example_id": np.where(valid, self.example_id[safe], -1),
            "valid": valid,
        }

    @property
    def labels(self) -> np.ndarray:
        """What the answers are compared with: (n, …), or of tagged words (words,), -1 of a word that has no label."""
        return self.fields["label"] if self.words is None else self.words.label

    def content(self) -> Iterator[bytes]:
        """What identifies the set: its tokens, rows, labels and whatever else its fields hold."""
        fields = (*self.fields.values(), *self.token_fields.values())
        for array in (self.ids, self.offsets, self.example_id, *fields):
            yield np.ascontiguousarray(array).tobytes()


class ExampleSet(Protocol):
    """What plans, batches and digests ask of examples, be they texts or images (`image_examples.ImageExamples`)."""

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

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]: ...

    def content(self) -> Iterator[bytes]: ...


@dataclasses.dataclass(frozen=True)
class Batches:
    """Random access to batches by step: `batches[step]`, from 0 to `steps - 1`.

    multiple: batches are padded with rows that are not `valid` until this many devices divide them.
    share: of how many rows a batch has, to the indices of those that this process reads; None: all.
    """

    examples: ExampleSet
    plan: TrainingPlan | EvaluationPlan
    steps: int
    multiple: int = 1
    share: Callable[[int], np.ndarray] | None = None

    def __len__(self) -> int:
        return self.steps

    def rows(self, step: int) -> np.ndarray:
        """Which example stands in which row of the whole batch; -1 for padding."""
        rows = self.plan.batch(step).rows
        return np.concatenate([rows, np.full(-len(rows) % self.multiple, -1, np.int64)])

    def length(self, step: int) -> int:
        """To how many tokens a batch's texts are padded."""
        return self.plan.batch(step).length

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        return self.padded(step, self.length(step))

    def padded(self, step: int, length: int) -> dict[str, np.ndarray]:
        """The batch with its texts padded to `length`, at least its own. `position`, int64 (rows,), is where a row
        stands in its split, -1 for padding; `example_id` is the row of its source."""
        rows = self.rows(step)
        rows = rows if self.share is None else rows[self.share(len(rows))]
        return {**self.examples.take(rows, length), "position": rows}
