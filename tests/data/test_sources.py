"""Files as people have them, and what is said of those that cannot be read."""

from pathlib import Path

import numpy as np
import pytest

from tlx.data import labels
from tlx.data.sources import Table, load
from tlx.errors import TlxError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_tsv_jsonl_agree(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", '\ufefftext,label\n"one, ""two""\nthree",1\n\nfour,0\n')
    write(tmp_path / "a.tsv", 'text\tlabel\n"one, ""two""\nthree"\t1\nfour\t0\n')
    write(tmp_path / "a.jsonl", '{"text": "one, \\"two\\"\\nthree", "label": "1"}\n\n{"text": "four", "label": "0"}\n')
    tables = [load(f"{kind}:{tmp_path}/a.{kind}") for kind in ("csv", "tsv", "jsonl")]
    for table in tables:
        assert table.columns == {"text": ['one, "two"\nthree', "four"], "label": ["1", "0"]}


def test_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.csv", "x\n1\n")
    monkeypatch.setenv("SOME_PLACE", str(tmp_path))
    assert len(load("csv:$SOME_PLACE/a.csv")) == 1
    with pytest.raises(TlxError, match="names an environment variable that is not set"):
        load("csv:$NOT_SET_ANYWHERE/a.csv")


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("csv", "a,b\n1,2\n3\n", r"line 3: 1 fields where the header has 2"),
        ("csv", "a,a\n1,2\n", "two columns have the same name"),
        ("csv", "a,b\n", "holds no rows"),
        ("csv", "", "holds no rows"),
        ("csv", b"a\n\xff\xfe\n", "is not UTF-8"),
        ("jsonl", '{"a": 1}\n{"b": 1}\n', "line 2 is no object with the keys of the first line, a"),
        ("jsonl", '{"a": 1}\n{"a": \n', "line 2 is not JSON"),
    ],
)
def test_refused_files(tmp_path: Path, kind: str, content: str | bytes, message: str) -> None:
    file = write(tmp_path / f"bad.{kind}", content)
    with pytest.raises(TlxError, match=message) as error:
        load(f"{kind}:{file}")
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("csv:/no/such.csv", "there is no file /no/such.csv"),
        ("builtin:colours", "there is no builtin set 'colours'; there is colors"),
        ("train.csv", "is not of the form KIND:PATH with KIND one of csv, tsv, jsonl, builtin"),
    ],
)
def test_refused_specs(spec: str, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        load(spec)


def test_labels() -> None:
    assert labels.classes(["10", "9", "-1", "9"]) == ("-1", "9", "10")
    assert labels.classes(["b", "a", "10"]) == ("10", "a", "b")
    table = Table("t", {"y": ["b", "a", "c"], "x": ["1", "2.5", "nan"], "z": ["1", "2", "3"], "text": ["a", " ", "b"]})
    assert labels.class_indices(table, "y", ("a", "b", "c")).tolist() == [1, 0, 2]
    np.testing.assert_array_equal(labels.targets(table, "z"), [[1], [2], [3]])
    with pytest.raises(TlxError, match="t, row 3: the label 'c' is none of the training set's a, b"):
        labels.class_indices(table, "y", ("a", "b"))
    with pytest.raises(TlxError, match="row 3: the target in 'z,x' is not a finite number"):
        labels.targets(table, "z,x")
    with pytest.raises(TlxError, match="is not all numbers"):
        labels.targets(table, "y")
    assert labels.classes(["²", "1", "--2"]) == ("--2", "1", "²")
    missing = Table("t", {"y": ["a", None, ""], "text": [None]})
    with pytest.raises(TlxError, match="row 2: the label in 'y' is missing"):
        labels.refuse_missing(missing, "y")
    with pytest.raises(TlxError, match="row 1: the text in 'text' is empty"):
        labels.texts(missing, "text")
    with pytest.raises(TlxError, match="row 2: the text in 'text' is empty"):
        labels.texts(table, "text")
    with pytest.raises(TlxError, match="has no column 'q'; its columns are y, x, z, text"):
        table.column("q")
