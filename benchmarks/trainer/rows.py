"""The tasks of the study and the rows that both sides read: train, validation cut from it, and the whole test set."""

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

Columns = dict[str, list[Any]]  # `text`, `label` and, of pairs, `pair`; words and tags are lists of a row's own
VALIDATION, SPLIT_SEED, ROWS_SEED = 0.1, 0, 0
SHORT_BATCH = 8  # the Trainer's default: with 32, three epochs of 400 rows are 39 steps, in which little is learnt


@dataclasses.dataclass(frozen=True)
class Task:
    """kind: of the head. text, pair, label: columns of the file. batch_size: of all rows, as published; rows: of train
    in the short form, which has batches of `SHORT_BATCH`."""

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
    """splits: `train`, `validation`, `test`. labels: the classes' or tags' names, in order; of train. dropped: rows of
    train whose text stands in test."""

    splits: dict[str, Columns]
    labels: tuple[str, ...]
    dropped: int

    @property
    def sizes(self) -> dict[str, int]:
        """Rows by split."""
        return {part: len(columns["label"]) for part, columns in self.splits.items()}

    @property
    def digest(self) -> str:
        """Of every row."""
        return hashlib.sha256(json.dumps(self.splits, sort_keys=True).encode()).hexdigest()[:16]


def read(file: Path, task: Task) -> Columns:
    """A file's rows under the study's own names of columns. Not through tlx's reader, which is on trial itself."""
    if task.suffix == "conll":
        return read_conll(file)
    with file.open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines))
    columns: Columns = {"text": [row[task.text] for row in found], "label": [row[task.label] for row in found]}
    if task.pair:
        columns["pair"] = [row[task.pair] for row in found]
    return columns


def read_conll(file: Path) -> Columns:
    """Token, tab, tag; a blank line between sentences."""
    sentences = [block.split("\n") for block in file.read_text(encoding="utf-8").strip().split("\n\n")]
    pairs = [[line.rsplit("\t", 1) for line in sentence if line.strip()] for sentence in sentences]
    return {"text": [[word for word, _ in row] for row in pairs], "label": [[tag for _, tag in row] for row in pairs]}


def keys(columns: Columns) -> list[str]:
    """What two rows share if they are the same text: case and spaces apart, the sentences of a pair in either order."""
    sides = [columns["text"], *([columns["pair"]] if "pair" in columns else [])]
    plain = [[" ".join(text if isinstance(text, list) else text.split()).lower() for text in side] for side in sides]
    return ["\t".join(sorted(row)) for row in zip(*plain, strict=True)]


def prepare(task: Task, data: Path, rows: int | None) -> Rows:
    """Reads a task's files, drops from train what stands in test, cuts validation, takes the first `rows` (None: all)
    of train and a tenth as many of validation, in an order of their own that no seed of a run changes."""
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
    """These rows."""
    chosen = list(rows)
    return {name: [values[i] for i in chosen] for name, values in columns.items()}


def labels_of(columns: Columns, kind: str) -> list[set[str]]:
    """The classes or tags of each row."""
    if kind == "regression":
        return [set() for _ in columns["label"]]
    return [set(label) if isinstance(label, list) else {label} for label in columns["label"]]


def choose(columns: Columns, kind: str, size: int) -> list[int]:
    """The first rows of a seeded order, after the first of each label, without which a head has no place for it."""
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
    """The same rows as one JSON file for the Trainer and as csv or conll files for tlx; where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.json").write_text(json.dumps(rows.splits), encoding="utf-8")
    files = {"rows": str(folder / "rows.json")}
    for part, columns in rows.splits.items():
        file = folder / f"{part}.{task.suffix}"
        write_conll(file, columns) if task.suffix == "conll" else write_csv(file, columns)
        files[part] = f"{task.suffix}:{file}"
    return files


def write_csv(file: Path, columns: Mapping[str, list[Any]]) -> None:
    """A header line, then rows."""
    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_conll(file: Path, columns: Mapping[str, list[Any]]) -> None:
    """Token, tab, tag; a blank line after each sentence."""
    rows = zip(columns["text"], columns["label"], strict=True)
    blocks = ("".join(f"{word}\t{tag}\n" for word, tag in zip(*row, strict=True)) for row in rows)
    file.write_text("\n".join(blocks), encoding="utf-8")
