"""The tasks of the study and the rows for both sides: train, validation split off from it, and the whole test set."""

import csv
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data.labels import classes
from tlx.data.splits import split_by_group

Columns = dict[str, list[Any]]  # `text`, `label` and, for pairs, `pair`; words and tags are one list per row
VALIDATION, SPLIT_SEED, ROWS_SEED = 0.1, 0, 0
SHORT_BATCH = 8  # the Trainer's default; with 32, three epochs of 400 rows are only 39 steps


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of the study.

    Attributes:
      name: of the task and its folder.
      kind: of the head.
      metric: that is compared.
      text: column of the file.
      label: column of the file.
      pair: column of the second text; None: none.
      batch_size: with `--full`, as published; the short form has `SHORT_BATCH`.
      rows: training rows in the short form.
      suffix: of the files.
    """

    name: str
    kind: str
    metric: str
    text: str
    label: str
    pair: str | None = None
    batch_size: int = 32
    rows: int = 400
    suffix: str = "csv"


TASKS = {
    task.name: task
    for task in (
        Task("sst2", "classification", "accuracy", "text", "label"),
        Task("mrpc", "classification", "accuracy", "sentence1", "label", "sentence2", batch_size=16, rows=300),
        Task("ag_news", "classification", "accuracy", "text", "label", rows=200),
        Task("stsb", "regression", "spearman", "sentence1", "score", "sentence2", rows=300),
        Task("wnut17", "tagging", "entity_f1", "tokens", "tags", batch_size=16, suffix="conll"),
    )
}


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of a task.

    Attributes:
      splits: `train`, `validation`, `test`.
      labels: names of the classes or tags of train, in order.
      dropped: number of training rows that were removed because their text is in test.
    """

    splits: dict[str, Columns]
    labels: tuple[str, ...]
    dropped: int

    @property
    def sizes(self) -> dict[str, int]:
        """Rows by split."""
        return {part: len(columns["label"]) for part, columns in self.splits.items()}

    @property
    def digest(self) -> str:
        """A digest of all rows."""
        return hashlib.sha256(json.dumps(self.splits, sort_keys=True).encode()).hexdigest()[:16]


def read(file: Path, task: Task) -> Columns:
    """Reads a file into columns with the names of the study, without tlx's readers, which are tested here."""
    if task.suffix == "conll":
        return read_conll(file)
    with file.open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines))
    columns: Columns = {"text": [row[task.text] for row in found], "label": [row[task.label] for row in found]}
    if task.pair:
        columns["pair"] = [row[task.pair] for row in found]
    return columns


def read_conll(file: Path) -> Columns:
    """Reads lines of token, tab, tag, with a blank line between sentences."""
    sentences = [block.split("\n") for block in file.read_text(encoding="utf-8").strip().split("\n\n")]
    pairs = [[line.rsplit("\t", 1) for line in sentence if line.strip()] for sentence in sentences]
    return {"text": [[word for word, _ in row] for row in pairs], "label": [[tag for _, tag in row] for row in pairs]}


def keys(columns: Columns) -> list[str]:
    """A key for each row, equal for equal texts (ignoring case, spaces, and the order of a pair)."""
    sides = [columns["text"], *([columns["pair"]] if "pair" in columns else [])]
    plain = [[" ".join(text if isinstance(text, list) else text.split()).lower() for text in side] for side in sides]
    return ["\t".join(sorted(row)) for row in zip(*plain, strict=True)]


def prepare(task: Task, data: Path, rows: int | None) -> Rows:
    """Reads a task's files and makes the splits.

    Texts of test are removed from train, and validation is split off. Then the first `rows` (None: all) of train and a
    tenth as many of validation are taken in a fixed order, which does not depend on a run's seed.
    """
    train, test = (read(data / task.name / f"{part}.{task.suffix}", task) for part in ("train", "dev"))
    in_test = set(keys(test))
    kept = [i for i, key in enumerate(keys(train)) if key not in in_test]
    dropped, train = len(train["label"]) - len(kept), take(train, kept)
    parts = split_by_group(keys(train), {"validation": VALIDATION}, SPLIT_SEED)
    splits = {part: take(train, parts[part].tolist()) for part in ("train", "validation")}
    if rows is not None:
        sizes = {"train": rows, "validation": max(1, rows // 10)}
        splits = {part: take(columns, choose(columns, task.kind, sizes[part])) for part, columns in splits.items()}
    names = () if task.kind == "regression" else classes(sorted(set().union(*labels_of(splits["train"], task.kind))))
    return Rows({**splits, "test": test}, names, dropped)


def take(columns: Columns, rows: Iterable[int]) -> Columns:
    """The columns of these rows."""
    chosen = list(rows)
    return {name: [values[i] for i in chosen] for name, values in columns.items()}


def labels_of(columns: Columns, kind: str) -> list[set[str]]:
    """The classes or tags of each row."""
    if kind == "regression":
        return [set() for _ in columns["label"]]
    return [set(label) if isinstance(label, list) else {label} for label in columns["label"]]


def choose(columns: Columns, kind: str, size: int) -> list[int]:
    """The first rows of a seeded order, beginning with one row for each label, so that the head has all labels."""
    found = labels_of(columns, kind)
    order = np.random.default_rng(ROWS_SEED).permutation(len(found)).tolist()
    seen: set[str] = set()
    first = []
    for row in order:
        if found[row] - seen:
            first.append(row)
            seen |= found[row]
    return [*first, *(row for row in order if row not in set(first))][:size]


def write(folder: Path, task: Task, rows: Rows) -> dict[str, str]:
    """Writes the rows as one JSON file for the Trainer and as csv or conll files for tlx, and returns their places."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.json").write_text(json.dumps(rows.splits), encoding="utf-8")
    files = {"rows": str(folder / "rows.json")}
    for part, columns in rows.splits.items():
        file = folder / f"{part}.{task.suffix}"
        write_conll(file, columns) if task.suffix == "conll" else write_csv(file, columns)
        files[part] = f"{task.suffix}:{file}"
    return files


def write_csv(file: Path, columns: Mapping[str, list[Any]]) -> None:
    """Writes a header line, then rows."""
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_conll(file: Path, columns: Mapping[str, list[Any]]) -> None:
    """Writes lines of token, tab, tag, with a blank line after each sentence."""
    rows = zip(columns["text"], columns["label"], strict=True)
    blocks = ("".join(f"{word}\t{tag}\n" for word, tag in zip(*row, strict=True)) for row in rows)
    file.write_text("\n".join(blocks), encoding="utf-8")
