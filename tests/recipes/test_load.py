"""Data from Python instead of files, and a loader that reads nothing twice."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tlx.data.tables import as_table
from tlx.errors import TlxError
from tlx.params.paths import flatten
from tlx.recipes import finetune, load
from tlx.recipes.load import Loader


@pytest.fixture
def rows(place: Path) -> list[dict[str, str]]:
    with (place / "reviews.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Frame:
    """A pandas DataFrame as far as tlx asks of one."""

    def __init__(self, rows: list[dict[str, str]]):
        self.rows, self.columns = rows, list(rows[0])

    def __getitem__(self, column: str) -> Any:
        return SimpleNamespace(to_numpy=lambda: np.array([row[column] for row in self.rows], object))

    def to_dict(self) -> None:
        """Named only."""


class HubDataset:
    """A `datasets.Dataset` as far as tlx asks of one: its label is a ClassLabel."""

    def __init__(self, rows: list[dict[str, str]]):
        self.rows, self.column_names = rows, list(rows[0])
        self.features = {name: SimpleNamespace() for name in self.column_names}
        self.features["label"] = SimpleNamespace(names=["bad", "good"])

    def __getitem__(self, column: str) -> list[Any]:
        values = [row[column] for row in self.rows]
        return [["bad", "good"].index(value) for value in values] if column == "label" else values


def installed(name: str, make: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    """`make(library, rows)` with the library itself, where it is installed."""
    return lambda rows: make(pytest.importorskip(name), rows)


def with_class_label(datasets: Any, rows: list[dict[str, str]]) -> Any:
    """A `Dataset` whose label is a ClassLabel, as on the Hugging Face hub."""
    names = datasets.ClassLabel(names=["bad", "good"])
    return datasets.Dataset.from_list(rows).cast_column("label", names)


FORMS = {
    "rows": lambda rows: rows,
    "columns": lambda rows: {name: [row[name] for row in rows] for name in rows[0]},
    "arrays": lambda rows: {name: np.array([row[name] for row in rows]) for name in rows[0]},
    "pandas": Frame,
    "datasets": HubDataset,
    "pandas itself": installed("pandas", lambda pandas, rows: pandas.DataFrame(rows)),
    "datasets itself": installed("datasets", with_class_label),
}


@pytest.mark.parametrize("form", FORMS)
def test_data_in_memory_is_that_of_the_file(form: str, config: Any, rows: Any, tmp_path: Path) -> None:
    expected = finetune.build(config, tmp_path / "file")
    config.data.train = ""
    found = finetune.build(config, tmp_path / "memory", tables={"train": FORMS[form](rows)})
    assert found.facts == expected.facts  # sizes, and the digest of every split's tokens, labels and rows
    assert found.tasks["default"].head == expected.tasks["default"].head


@pytest.mark.long
@pytest.mark.slow
def test_a_run_from_memory_ends_as_one_from_a_file(config: Any, rows: Any, tmp_path: Path) -> None:
    config.train.epochs = 1.0
    expected = finetune.build(config, tmp_path / "file").run(quiet=True)["metrics"]
    config.data.train = ""
    table = {"train": rows}
    assert finetune.build(config, tmp_path / "memory", tables=table).run(quiet=True)["metrics"] == expected
    with pytest.raises(TlxError, match="begun with another config or other data"):
        finetune.build(config, tmp_path / "memory", tables={"train": rows[:-1]})


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"train": []}, r"tables\['train'\] holds no rows"),
        ({"train": "reviews.csv"}, "is a str; expected a list of rows, columns by name, a pandas DataFrame"),
        ({"train": [{"text": "a"}, {"texts": "b"}]}, "row 1 of .* has other columns than row 0: text, texts"),
        ({"train": {"text": ["a"], "label": ["b", "c"]}}, "differ in length: text 1, label 2"),
        ({"train": [["a", "b"]]}, "expected a dict"),
        ({"dev": [{"text": "a"}]}, "tables holds dev; the splits are"),
        ({"validation": [{"text": "a", "label": "b"}]}, "config.data.train names no data"),
    ],
)
def test_one_sentence(tables: Any, message: str, config: Any, tmp_path: Path) -> None:
    config.data.train = ""
    with pytest.raises(TlxError, match=message):
        finetune.build(config, tmp_path / "run", tables=tables)


def test_each_split_once(config: Any, rows: Any, tmp_path: Path) -> None:
    with pytest.raises(TlxError, match=r"tables and config\.data both give train"):
        finetune.build(config, tmp_path / "run", tables={"train": rows})


def test_what_is_not_a_number_stays_python() -> None:
    table = as_table("train", {"text": np.array(["a", "b"]), "score": np.array([0.5, 1.0])})
    assert table.columns["text"] == ["a", "b"] and table.columns["score"].dtype == np.float64


@pytest.mark.long
def test_runs_that_share_data_and_checkpoint_read_them_once(
    config: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    for name in ("load_datasets", "load_model"):
        original = getattr(load, name)
        monkeypatch.setattr(load, name, lambda *given, n=name, f=original: (read.append(n), f(*given))[1])
    loader = Loader(size=2)

    def build(name: str) -> Any:
        return finetune.build(config, tmp_path / name, loader=loader)

    first = build("first")
    assert read == ["load_datasets", "load_model"]
    config.optimizer.learning_rate, config.params.freeze, config.train.epochs = 1e-4, "backbone", 2.0
    second = build("second")
    assert read == ["load_datasets", "load_model"]  # nothing again
    assert second.datasets["default"] is first.datasets["default"]
    for path, leaf in flatten(first.state.params).items():
        assert np.array_equal(leaf, flatten(second.state.params)[path]), path
    config.seed = 1
    build("another seed")
    assert read[2:] == ["load_model"]  # another head
    tiny.write_reviews(place / "reviews.csv", 300, seed=5)
    build("another file")
    assert read[3:] == ["load_datasets"]
    config.data.max_length = 12
    build("another length")
    assert read[4:] == ["load_datasets"]
    tiny.write_reviews(place / "reviews.csv", 300)
    assert "tensorflow" not in sys.modules
