"""Encoded texts on disk equal those encoded anew, and are made again if damaged or if what decides them changed."""

import csv
import dataclasses
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests import tiny
from tests.recipes.questions import write_squad
from tlx.data.examples import Examples
from tlx.errors import TlxError
from tlx.pretrained.folder import resolve
from tlx.recipes import checks, datasets, encoded, finetune
from tlx.recipes.datasets import Datasets, load_datasets
from tlx.recipes.inputs import open_inputs
from tlx.runs import evaluate


@pytest.fixture
def kept(config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConfigDict:
    """A config whose data, however small, is kept in `tmp_path / "cache"`."""
    monkeypatch.setattr(encoded, "LEAST", 0)
    config.data.cache = str(tmp_path / "cache")
    return config


def read(config: ConfigDict) -> Datasets:
    return load_datasets(config, open_inputs(resolve(config.model.checkpoint), config))


def entries(config: ConfigDict) -> list[Path]:
    return sorted(Path(config.data.cache).iterdir())


def leaves(value: Any) -> dict[str, Any]:
    """The arrays and numbers of nested dataclasses and mappings by path."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if not isinstance(value, dict):
        return {"": value}
    return {f"{name}/{path}": leaf for name, inner in value.items() for path, leaf in leaves(inner).items()}


def assert_equal(found: Datasets, expected: Datasets) -> None:
    assert found.head == expected.head and found.facts == expected.facts
    assert list(found.examples) == list(expected.examples)
    for split, one in expected.examples.items():
        pairs = leaves(found.examples[split]), leaves(one)
        assert pairs[0].keys() == pairs[1].keys()
        for path, value in pairs[1].items():
            other = pairs[0][path]
            if isinstance(value, np.ndarray):
                assert other.dtype == value.dtype and np.array_equal(other, value), path
            else:
                assert other == value, path


def write_tagged(file: Path) -> None:
    words = ["good B-X\n", "bad O\n", "dull -100\n"]
    sentences = ["".join(words * (1 + row % 9) + [f"w{row} O\n"]) for row in range(40)]
    file.write_text("\n".join(sentences), encoding="utf-8")


def write_pairs(file: Path) -> None:
    rows = [(f"good {i}", f"bad {i}", i / 7, i % 2) for i in range(40)]
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([("text", "other", "score", "rank"), *rows])


def of_kind(config: ConfigDict, kind: str, folder: Path) -> None:
    if kind == "tagging":
        write_tagged(folder / "tags.conll")
        config.data.train, config.data.text, config.data.label = f"conll:{folder / 'tags.conll'}", "tokens", "tags"
    if kind == "regression":
        write_pairs(folder / "pairs.csv")
        config.data.train, config.data.pair, config.data.label = f"csv:{folder / 'pairs.csv'}", "other", "score,rank"
    config.head.kind, config.data.max_length = kind, 8
    if kind == "question_answering":
        config.data.train = f"squad:{write_squad(folder / 'asked.json', 30, 0, impossible=True)}"
        config.data.text, config.data.pair, config.data.label = "question", "context", "answers"
        config.head.null_threshold, config.data.max_length = 0.0, 16


@pytest.mark.parametrize("kind", ["classification", "regression", "tagging", "question_answering"])
def test_equal_to_encoding(
    kind: str, kept: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_kind(kept, kind, tmp_path)
    kept.data.cache, folder = "off", kept.data.cache
    expected = read(kept)
    without = capsys.readouterr().out
    kept.data.cache = folder
    first = read(kept)
    lines = capsys.readouterr().out.splitlines()
    assert "are kept in" in lines[-1] and "data.cache=off" in lines[-1]
    assert lines[:-1] == without.splitlines()
    (entry,) = entries(kept)
    monkeypatch.setattr(datasets, "_read", None)  # nothing else is read
    second = read(kept)
    assert capsys.readouterr().out == f"data: the encoded texts are read from {entry}.\n{without}"
    assert_equal(first, expected)
    assert_equal(second, expected)
    monkeypatch.undo()
    assert second.tables["train"].columns == expected.tables["train"].columns  # read again


def test_evaluate_reads_what_training_kept(kept: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.train.epochs = 1.0
    summary = finetune.build(kept, tmp_path / "run").run(quiet=True)
    monkeypatch.setattr(evaluate, "load_tables", None)  # nothing else is read
    results = evaluate.evaluate(tmp_path / "run")
    assert set(results) == {"validation", "test"}
    for part, result in results.items():
        for name, value in result.metrics.items():
            assert value == pytest.approx(summary["metrics"][f"{part}/{name}"], rel=1e-6)


def test_whatever_decides_the_examples_is_in_the_key(kept: ConfigDict, place: Path, tmp_path: Path) -> None:
    def key(change: Callable[[ConfigDict], Any]) -> str:
        changed = kept.copy_and_resolve_references()
        change(changed)
        entry = encoded.entry_of(changed, open_inputs(resolve(changed.model.checkpoint), changed))
        assert entry is not None
        return entry.file.stem

    def others(config: ConfigDict) -> None:
        folder = tmp_path / "other"
        folder.mkdir()
        for file in resolve(config.model.checkpoint).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        tokenizer = next(folder / name for name in ("tokenizer.json", "vocab.txt") if (folder / name).is_file())
        tokenizer.write_text(tokenizer.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        config.model.checkpoint = str(folder)

    def file(config: ConfigDict) -> None:
        tiny.write_reviews(place / "reviews.csv", 300, seed=5)

    same = key(lambda config: None)
    assert key(lambda config: config.update(seed=7)) == same
    assert key(lambda config: config.data.update(packing="on")) == same
    changes = [
        lambda config: config.data.update(max_length=9),
        lambda config: config.data.update(split_seed=3),
        lambda config: config.data.update(per_class=2),
        lambda config: config.data.update(label_separator=";"),
        lambda config: config.head.update(kind="multilabel"),
        others,
        file,
    ]
    assert len({same, *map(key, changes)}) == 1 + len(changes)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign", "other tokens"])
def test_damaged_entries_are_made_again(
    damage: str, kept: ConfigDict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = read(kept)
    (entry,) = entries(kept)
    whole = entry.read_bytes()
    if damage == "other tokens":
        with np.load(entry) as arrays:
            changed = {name: arrays[name] for name in arrays.files}
        changed["train/ids"] = changed["train/ids"][::-1]
        np.savez(entry, **changed)
    else:
        middle = len(whole) // 3
        entry.write_bytes({
            "truncated": whole[:-200],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "empty": b"",
            "foreign": b"not an archive",
        }[damage])  # fmt: skip
    capsys.readouterr()
    assert_equal(read(kept), expected)
    out = capsys.readouterr().out
    assert f"{entry} is damaged" in out and "are kept in" in out
    assert entries(kept) == [entry]
    assert_equal(read(kept), expected)
    assert "is damaged (" not in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_stops_nothing(
    kept: ConfigDict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    assert len(read(kept).examples["train"])
    assert "the encoded texts are not kept" in capsys.readouterr().out


def test_small_files_and_off_keep_nothing(config: ConfigDict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.data.cache = str(tmp_path / "cache")
    read(config)  # 4 MiB are not reached
    monkeypatch.setattr(encoded, "LEAST", 0)
    config.data.cache = "off"
    read(config)
    assert not (tmp_path / "cache").exists()
    config.data.cache = ""
    with pytest.raises(TlxError, match=r"config\.data\.cache is empty"):
        checks.check_config(config)


def test_the_file_may_change_while_it_is_read(kept: ConfigDict, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = datasets.load_tables

    def load_and_change(*given: Any) -> Any:
        tables = original(*given)
        tiny.write_reviews(place / "reviews.csv", 300, seed=6)
        return tables

    monkeypatch.setattr(datasets, "load_tables", load_and_change)
    read(kept)
    assert not Path(kept.data.cache).exists()


def test_old_entries_are_removed(
    kept: ConfigDict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for length in (5, 6, 7):
        kept.data.max_length = length
        read(kept)
        files += [file for file in entries(kept) if file not in files]
    left = Path(kept.data.cache) / "killed.partial"
    left.write_bytes(b"half")
    yesterday = time.time() - 2 * encoded.DAY
    for age, file in enumerate([left, *files]):
        os.utime(file, (yesterday + age, yesterday + age))
    kept.data.max_length = 5  # used again, so no longer the oldest
    read(kept)
    monkeypatch.setattr(encoded, "MOST", 3 * max(file.stat().st_size for file in files))
    kept.data.max_length = 8
    capsys.readouterr()
    read(kept)
    assert "1 old entries there were removed" in capsys.readouterr().out
    assert files[0].exists() and not files[1].exists() and files[2].exists() and not left.exists()


def _write_many(file: Path, ids: np.ndarray, facts: dict[str, Any]) -> None:
    offsets = np.array([0, len(ids)])
    examples = Examples(ids, np.zeros_like(ids), offsets, {}, np.array([0]), 0)
    for _ in range(40):
        encoded.Entry(file).write({"train": examples}, {"facts": facts}, lambda line: None)


def test_several_runs_write_one_entry(tmp_path: Path) -> None:
    ids = np.arange(50_000, dtype=np.int32)
    examples = Examples(ids, np.zeros_like(ids), np.array([0, len(ids)]), {}, np.array([0]), 0)
    facts = {"sha256": {"train": encoded.digest(examples)}}
    entry, told = encoded.Entry(tmp_path / "entry.npz"), list[str]()
    writers = [threading.Thread(target=_write_many, args=(entry.file, ids, facts)) for _ in range(3)]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        reads += entry.read(told.append) is not None
    for writer in writers:
        writer.join()
    assert reads > 3 and not [line for line in told if "is damaged (" in line]
    assert [file.name for file in tmp_path.iterdir()] == ["entry.npz"]
