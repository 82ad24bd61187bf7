"""Files as people have them, and what is said of those that cannot be read."""

import os
from pathlib import Path

import numpy as np
import pytest

from tlx.data import labels
from tlx.data.sources import Table, load
from tlx.data.tags import tag_indices, tag_names
from tlx.data.targets import regression_targets
from tlx.data.texts import text_column, word_column
from tlx.errors import TlxError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogateescape"))
    return path


def test_csv_tsv_jsonl_agree(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", '\ufefftext,label\n"one, ""two""\nthree",1\n\nfour,0\n')
    write(tmp_path / "a.tsv", 'text\tlabel\n"one, ""two""\nthree"\t1\nfour\t0\n')
    write(tmp_path / "a.jsonl", '{"text": "one, \\"two\\"\\nthree", "label": "1"}\n\n{"text": "four", "label": "0"}\n')
    tables = [load(f"{kind}:{tmp_path}/a.{kind}") for kind in ("csv", "tsv", "jsonl")]
    for table in tables:
        assert table.columns == {"text": ['one, "two"\nthree', "four"], "label": ["1", "0"]}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks(tmp_path: Path, end: str, mark: str) -> None:
    lines = {
        "csv": ["text,label", "é,1", "b\u2028c,0"],
        "tsv": ["text\tlabel", "é\t1", "b\u2028c\t0"],
        "jsonl": ['{"text": "é", "label": "1"}', '{"text": "b\u2028c", "label": "0"}'],
        "conll": ["é\t1", "b\u2028c\t0"],
    }
    for kind, rows in lines.items():
        table = load(f"{kind}:{write(tmp_path / kind, mark + end.join(rows))}")
        expected = {"text": ["é", "b\u2028c"], "label": ["1", "0"]}
        assert table.columns == (
            {"tokens": [expected["text"]], "tags": [expected["label"]]} if kind == "conll" else expected
        )


def test_conll(tmp_path: Path) -> None:
    content = "-DOCSTART- -X- O O\n\n\nEU NNP B-NP B-ORG\n#  NN B-NP O  \n \t\n\n-DOCSTART- -X- O O\n. . O\tO\n"
    with pytest.raises(TlxError, match="line 9: 2 columns where the lines before have 4"):
        load(f"conll:{write(tmp_path / 'mixed', content)}")
    table = load(f"conll:{write(tmp_path / 'a', content.replace(chr(9) + 'O', ' O'))}")
    assert table.columns == {"tokens": [["EU", "#"], ["."]], "tags": [["B-ORG", "O"], ["O"]]}
    assert table.rows(np.array([1])).columns == {"tokens": [["."]], "tags": [["O"]]}
    file = write(tmp_path / "b", "New York\tB\n\xa0\u2009x\tO")
    table = load(f"conll:{file}")
    assert table.columns == {"tokens": [["New York", "\xa0\u2009x"]], "tags": [["B", "O"]]}


@pytest.mark.skipif("TLX_DATA" not in os.environ, reason="TLX_DATA is not set")
@pytest.mark.parametrize(("part", "sentences", "tokens"), [("train", 3394, 62730), ("dev", 1009, 15733)])
def test_wnut17(part: str, sentences: int, tokens: int) -> None:
    table = load(f"conll:$TLX_DATA/wnut17/{part}.conll")
    words = word_column(table, "tokens")
    names = tag_names(table, "tags")
    assert (len(table), sum(len(row) for row in words)) == (sentences, tokens)
    assert names[0] == "O" and len(names) == 13
    assert [len(row) for row in tag_indices(table, "tokens", "tags", names)] == [len(row) for row in words]


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
        ("jsonl", '{"a": 1}\n{"a": 1, "b": 2}\n', "the keys of the first line, a; its keys are a, b"),
        ("jsonl", '["a"]\n', r"line 1 is '\[\"a\"\]'; expected an object"),
        ("jsonl", '{}\n{"a": 1}\n', "line 1 is '{}'; expected an object"),
        ("jsonl", '\n"\x00"\n', r"line 2: a NUL byte \(byte 2\)"),
        ("jsonl", b'{"a": "\xe9"}\n', r"is not UTF-8 \(line 1, byte 7: invalid continuation byte\); convert it"),
        ("jsonl", '{"a": 1}'.encode("utf-16"), "is UTF-16, expected UTF-8; convert it, e.g. with iconv"),
        ("csv", b"a,b\r\n1,2\r\n3,caf\xe9\r\n", r"is not UTF-8 \(line 3, byte 15: "),
        ("csv", b"\xef\xbb\xbfa\r1\r\xe9\r", r"is not UTF-8 \(line 3, byte 7: "),
        ("csv", "a,b\n" + "é,1\n" * 20_000 + "\udce9,2\n", r"is not UTF-8 \(line 20002, byte 100004: "),
        ("csv", "a,b\n1,2\n\x00,4\n", r"line 3: a NUL byte \(byte 8\); expected text in UTF-8"),
        ("csv", "a,b\n1,é\n".encode("utf-16-be"), "line 1: a NUL byte .* convert the file if it is UTF-16"),
        ("csv", "a,b\n1,é\n".encode("utf-16"), "is UTF-16, expected UTF-8"),
        ("csv", "a,b\r1,2\r3\r", "line 3: 1 fields where the header has 2"),
        ("csv", 'a,b\n1,2\n"3,4\n5,6\n', "the row that begins on line 3 cannot be read .* quote"),
        ("csv", 'a,b\n"1\n2" 3,4\n', "the row that begins on line 2 cannot be read .* quote"),
        ("tsv", "a\tb\n1\t2\t3\n", "line 2: 3 fields where the header has 2"),
        ("tsv", "a\tb\ta\n", "two columns have the same name in its header a, b, a"),
        ("conll", "", "holds no rows"),
        ("conll", "-DOCSTART- -X- O O\n\n", "holds no rows"),
        ("conll", "a\tO\n\nb\n", "line 3: a token without a tag, 'b'"),
        ("conll", "a O\nb \t \n", "line 2: a token without a tag, 'b'"),
        ("conll", "a\tO\r\n\tO\r\n", r"line 2: a tag without a token, '\\tO'"),
        ("conll", "EU NNP B-ORG\nrejects VBZ\n", "line 2: 2 columns where the lines before have 3"),
        ("conll", b"a\tO\n\xe9\tO\n", r"is not UTF-8 \(line 2, byte 4: "),
        ("conll", "a\tO\n\x00\tO\n", r"line 2: a NUL byte \(byte 4\)"),
        ("conll", "a\tO\n".encode("utf-16"), "is UTF-16"),
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
        ("builtin:colours", "there is no builtin set 'colours'; there is colors, digits"),
        (
            "train.csv",
            "is not of the form KIND:PATH with KIND one of csv, tsv, jsonl, conll, npz, squad, folder, builtin, tfds",
        ),
        ("conll:/no/such.conll", "data 'conll:/no/such.conll': there is no file /no/such.conll"),
        ("xml:a.xml", "data 'xml:a.xml' is not of the form KIND:PATH"),
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
    np.testing.assert_array_equal(regression_targets(table, "z"), [[1], [2], [3]])
    with pytest.raises(TlxError, match="t, row 3: the label 'c' is not one of the training set's a, b"):
        labels.class_indices(table, "y", ("a", "b"))
    with pytest.raises(TlxError, match="row 3: the target in 'x' is not a finite number"):
        regression_targets(table, "z,x")
    with pytest.raises(TlxError, match="is not all numbers"):
        regression_targets(table, "y")
    assert labels.classes(["²", "1", "--2"]) == ("--2", "1", "²")
    missing = Table("t", {"y": ["a", None, ""], "text": [None]})
    with pytest.raises(TlxError, match="row 2: the label in 'y' is missing"):
        labels.names(missing, "y")
    with pytest.raises(TlxError, match="row 1: the text in 'text' is empty"):
        text_column(missing, "text")
    with pytest.raises(TlxError, match="row 2: the text in 'text' is empty"):
        text_column(table, "text")
    with pytest.raises(TlxError, match="has no column 'q'; its columns are y, x, z, text"):
        table.column("q")
