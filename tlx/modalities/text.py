"""Texts, pairs of texts, sentences of words and questions about contexts, encoded by a checkpoint's tokenizer."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from tlx.augment.masking import Masking, Words, mask_tokens
from tlx.data.examples import Examples, ExampleSet
from tlx.data.plan import buckets_up_to
from tlx.data.sources import Table
from tlx.data.spans import answer_column
from tlx.data.tabular import Row
from tlx.data.tags import tag_indices
from tlx.data.texts import check_text, check_words, text_column, word_column
from tlx.data.tokens import ASKED, MASKABLE, to_fill, to_mask
from tlx.errors import TlxError
from tlx.files.regular import open_regular
from tlx.modalities.api import Columns, Fields, InputSettings, Prepare, Source, label_fields, source_of_rows, value_of
from tlx.modalities.packed import by_text
from tlx.models.heads import Head
from tlx.models.model import Model, config_of
from tlx.pretrained.folder import read_config
from tlx.pretrained.tokenizer import Tokenizer
from tlx.pretrained.tokenizer_files import copy_files, file_names

# Kind of head -> name of its task on the Hugging Face hub, if it is not text-classification.
PIPELINES = {
    "tagging": "token-classification", "question_answering": "question-answering", "masked_lm": "fill-mask",
}  # fmt: skip
READ = ("input_ids", "attention_mask", "token_type_ids", "segment_ids", "text_starts")  # by the model


@dataclasses.dataclass(frozen=True)
class Texts:
    """See `Modality`.

    Attributes:
      tokenizer: the checkpoint's tokenizer; it truncates texts to its `max_length`.
      stride: the number of tokens by which the windows of a sentence or context longer than `max_length` overlap; None:
        a quarter of `max_length`.
      masking: how tokens are masked for masked language modelling: in training by the key of the step, in evaluation
        always the same.
      masked_tasks: the names of the tasks whose examples are masked; the labels of a task of several are `label_NAME`.
    """

    tokenizer: Tokenizer
    stride: int | None = None
    masking: Masking = dataclasses.field(default_factory=Masking)
    masked_tasks: tuple[str, ...] = ()

    plural: ClassVar[str] = "texts"
    columns: ClassVar[Mapping[str, str | None]] = {"text": "text", "pair": None}
    has_lengths: ClassVar[bool] = True
    augments: ClassVar[bool] = False

    @classmethod
    def open(cls, folder: Path, settings: InputSettings) -> Self:
        max_length = settings.max_length
        if max_length is None:
            config: Any = config_of(folder, read_config(folder), {})
            max_length = config.max_length
        return cls(Tokenizer(folder, max_length), settings.stride, settings.masking, settings.masked_tasks)

    @property
    def fields(self) -> tuple[str, ...]:
        return (*READ, MASKABLE, ASKED, "example_id") if self.masked_tasks else READ

    @property
    def preprocessor(self) -> Tokenizer:
        return self.tokenizer

    @property
    def digest(self) -> str:
        digest = hashlib.sha256(f"{self.tokenizer.max_length} {self.tokenizer.kind}".encode())
        for name in file_names(self.tokenizer.folder):
            if (file := self.tokenizer.folder / name).is_file():
                with open_regular(file) as opened:
                    digest.update(f"{name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        copy_files(self.tokenizer.folder, folder)

    @property
    def length_buckets(self) -> tuple[int, ...]:
        return buckets_up_to(self.tokenizer.max_length)

    def prepare(self, rows: Fields, key: Any) -> tuple[dict[str, Any], Fields]:
        inputs = {name: rows[name] for name in READ if name in rows}
        return self._masked(inputs, rows, key) if MASKABLE in rows else (inputs, by_text(rows))

    def training(self, head: Head) -> Prepare:
        del head
        return self.prepare

    def _masked(self, inputs: dict[str, Any], rows: Fields, key: Any) -> tuple[dict[str, Any], Fields]:
        """The inputs with masked tokens and the tokens to predict, whose labels replace those of all tokens."""
        key = jax.random.key(0, impl="threefry2x32") if key is None else key
        words = Words(self.tokenizer.mask_id, self.tokenizer.size)
        ids, read_at, labels, chosen = mask_tokens(
            self.masking, words, key, rows["input_ids"], rows[MASKABLE], rows["example_id"], rows.get("segment_ids"),
            rows.get("text_starts"),
        )  # fmt: skip
        changed = dict(by_text(rows))
        for name in ("label", *(f"label_{task}" for task in self.masked_tasks)):
            known = rows.get(f"{name}_mask", rows[MASKABLE])  # whether the token is one of this task
            changed[name] = labels
            changed[f"{name}_mask"] = chosen & (jnp.take_along_axis(known, read_at, axis=1) != 0)
        return {**inputs, "input_ids": ids, "read_at": read_at}, changed

    def tokens(self, model: Model, batch: Mapping[str, Any]) -> int:
        del model
        return int(batch["input_ids"].shape[1])

    def group_keys(self, columns: Columns, table: Table) -> list[str]:
        return [str(text) for text in table.column(columns.inputs["text"])]

    def keys(self, columns: Columns, table: Table) -> list[str]:
        inputs = [table.column(columns.inputs[name]) for name in self.columns if name in columns.inputs]
        return [str(key) for key in zip(*inputs, strict=True)]

    def encode(
        self, columns: Columns, head: Head | None, table: Table, rows: np.ndarray | None = None, *, once: bool = False
    ) -> Examples:
        text, pair = columns.inputs["text"], columns.inputs.get("pair")
        if head is not None and head.kind == "tagging":
            tags = tag_indices(table, text, columns.label, head.labels)
            return Examples.encode_words(self.tokenizer, word_column(table, text), tags, rows, self.stride)
        if head is not None and head.kind == "question_answering":
            return self._encode_questions(columns, head, table, rows)
        pairs = text_column(table, pair) if pair else None
        masked = head is not None and head.kind == "masked_lm"
        fields = {} if masked else label_fields(columns, head, table)
        examples = Examples.encode(self.tokenizer, text_column(table, text), pairs, fields, rows)
        if not masked:
            return examples
        return dataclasses.replace(examples, token_fields=to_mask(examples.ids, self.tokenizer.special_ids))

    def _encode_questions(self, columns: Columns, head: Head, table: Table, rows: np.ndarray | None) -> Examples:
        questions, contexts = (text_column(table, column) for column in _question_and_context(columns))
        answers = answer_column(table, columns.label, contexts, may_be_empty=head.null_threshold is not None)
        return Examples.encode_spans(self.tokenizer, questions, contexts, answers, rows, self.stride)

    def count_truncated(self, columns: Columns, table: Table, examples: ExampleSet) -> int:
        if examples.words is not None or examples.spans is not None:  # long inputs were split into windows
            return 0
        full = np.flatnonzero(examples.lengths == self.tokenizer.max_length)
        inputs = [table.column(columns.inputs[name]) for name in self.columns if name in columns.inputs]
        return self.tokenizer.count_longer(*([column[row] for row in full] for column in inputs))

    def encode_inputs(self, inputs: Sequence[Any] | np.ndarray, kind: str | None = None) -> Examples:
        """See `Modality`. The inputs are texts; pairs (for question answering, of a question and a context), as
        an array (examples, 2) or a list; for tagging, word lists."""
        values: Sequence[Any] = inputs.tolist() if hasattr(inputs, "tolist") else inputs
        if kind == "tagging":
            for words in values:
                if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                    raise TlxError(f"this run tags words; a sentence is a list of them (JSON lines), found {words!r}.")
            return Examples.encode_words(self.tokenizer, values, stride=self.stride)
        rows = [[row] if isinstance(row, str) else row for row in values]
        width = len(rows[0]) if rows and isinstance(rows[0], Sequence) else 1
        for number, row in enumerate(rows):
            has_width = isinstance(row, Sequence) and len(row) == width and width in (1, 2)
            if not has_width or not all(isinstance(text, str) and text.strip() for text in row):
                raise TlxError(
                    f"example {number} is {row!r:.60}; expected a text, or in every row a pair of texts, none empty."
                )
        firsts = [str(row[0]) for row in rows]
        if kind == "question_answering":
            if rows and width != 2:
                raise TlxError(
                    f"this run answers questions; an input is a question and its context, not {rows[0]!r:.60}."
                )
            contexts = [str(row[1]) for row in rows]
            return Examples.encode_spans(self.tokenizer, firsts, contexts, stride=self.stride)
        examples = Examples.encode(self.tokenizer, firsts, [str(row[1]) for row in rows] if width == 2 else None)
        if kind != "masked_lm":
            return examples
        asked = to_fill(examples.ids, examples.offsets, self.tokenizer.mask_id, self.tokenizer.mask_token)
        return dataclasses.replace(examples, token_fields=asked)

    def read_arguments(self, words: Sequence[str], columns: Columns, kind: str) -> Sequence[Any]:
        if "pair" in columns.inputs:
            text, pair = columns.inputs["text"], columns.inputs["pair"]
            raise TlxError(f"this run predicts from pairs ({text!r}, {pair!r}); give them with --input FILE.")
        return [text.split() for text in words] if kind == "tagging" else words

    def read_source(self, source: str, format: str | None) -> Source:
        return source_of_rows(source, format)

    def read_row(self, row: Row, place: str, columns: Columns, kind: str) -> Any:
        read = check_words if kind == "tagging" else check_text
        inputs = [read(value_of(row, name, place), place, name) for name in columns.inputs.values()]
        return inputs[0] if len(inputs) == 1 else tuple(inputs)

    def pipeline_tag(self, kind: str) -> str:
        return PIPELINES.get(kind, "text-classification")

    def limits(self, kind: str) -> str:
        most = self.tokenizer.max_length
        if kind == "tagging":
            return f"Sentences of more than {most} tokens were read in overlapping windows of {most}."
        if kind == "question_answering":
            return f"Contexts that with their question have more than {most} tokens were read in overlapping windows."
        return f"Texts are truncated to {most} tokens."


def _question_and_context(columns: Columns) -> tuple[str, str]:
    """Returns the columns of a question answering head."""
    if "pair" not in columns.inputs:
        raise TlxError(
            "config.data.pair is not set; a question_answering head reads questions (the column config.data.text) and "
            "contexts (the column config.data.pair), as configs/question_answering.py does."
        )
    return columns.inputs["text"], columns.inputs["pair"]
