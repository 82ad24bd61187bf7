"""One reader for training and for `tlx predict`: every odd file is read, or refused, in the same words by both."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlx.data import labels, textfile
from tlx.data.readers import READERS
from tlx.data.sources import Table, load
from tlx.data.stream import writing
from tlx.data.tags import tag_column
from tlx.data.targets import regression_targets
from tlx.data.texts import text_column, word_column
from tlx.errors import TlxError

UNBALANCED = (
    b'id,text\n1,a fine film\n2,"the plot was 5" long\n3,"so the film was dull\n4,a great film\n5,cold and grim\n'
)
LONG = "a" * 200_000
SMILE = b'{"text": "\\ud83d\\ude00", "n": 1}\r{"text": "b", "n": 1e3}'


def both(kind: str, file: Path) -> tuple[Any, Any]:
    """What training and what predict read, rows or a sentence."""

    def trained() -> list[dict[str, Any]]:
        columns = load(f"{kind}:{file}").columns
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    found: list[Any] = []
    for read in (trained, lambda: [row for _, row in READERS[kind].rows(str(file))]):
        try:
            found.append(read())
        except TlxError as error:
            found.append(str(error))
    return found[0], found[1]


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("csv", b"text,n\n" + LONG.encode() + b",1\n", [{"text": LONG, "n": "1"}]),
        ("csv", b'text\n"' + LONG.encode() + b'\n"\n', [{"text": LONG + "\n"}]),
        ("csv", b"\n\ntext\r\n\r\na\r\n", [{"text": "a"}]),
        ("csv", b"\xef\xbb\xbftext,n\ra,1\r\"b\rc\",2", [{"text": "a", "n": "1"}, {"text": "b\rc", "n": "2"}]),
        ("csv", "text\nx\u2028y\x0bz\x1c\x85\n".encode(), [{"text": "x\u2028y\x0bz\x1c\x85"}]),
        ("csv", b"text,n\n=1+1,2\n", [{"text": "=1+1", "n": "2"}]),
        ("tsv", b'text\tn\n"a\tb"\t1\n', [{"text": "a\tb", "n": "1"}]),
        ("jsonl", SMILE, [{"text": "😀", "n": 1}, {"text": "b", "n": 1000.0}]),
        ("conll", b"\xef\xbb\xbfa O\r\n\r\nb O", [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["b"], "tags": ["O"]}]),
        ("csv", UNBALANCED, "the row that begins on line 3 cannot be read"),
        ("csv", b'text\n"open\nb\nc\n', "the row that begins on line 2 cannot be read"),
        ("csv", "text\né\n".encode("utf-16"), "is UTF-16, expected UTF-8"),
        ("csv", "text\né\n".encode("utf-16-le"), "line 1: a NUL byte (byte 1)"),
        ("csv", "text\ncafé\n".encode("latin-1"), "is not UTF-8 (line 2, byte 8:"),
        ("csv", b"text\na\0b\n", "line 2: a NUL byte (byte 6)"),
        ("csv", b"text,text\na,b\n", "two columns have the same name in its header text, text"),
        ("csv", b"text,n\na,1,\n", "line 2: 3 fields where the header has 2"),
        ("jsonl", b'{"text": "a"}\n{"text": "\\ud83d"}\n', "line 2 holds half of a surrogate pair"),
        ("jsonl", b'{"text": ' + b"[" * 100_000 + b"}\n", "line 1 is nested too deeply"),
        ("jsonl", b'{"n": ' + b"9" * 100_000 + b"}\n", "line 1 is not JSON: a number has too many digits"),
        ("jsonl", b'{"text": "a", "text": "b"}\n', "line 1: an object has 'text' twice"),
        ("jsonl", b"{}\n", "line 1 is '{}'; expected an object"),
        ("conll", b"a O\nb\n", "line 2: a token without a tag, 'b'"),
        ("csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a git-lfs pointer"),
    ],
)  # fmt: skip
def test_training_and_predict_read_alike(tmp_path: Path, kind: str, content: bytes, expected: Any) -> None:
    file = tmp_path / f"a.{kind}"
    file.write_bytes(content)
    trained, streamed = both(kind, file)
    assert trained == streamed
    assert trained == expected if isinstance(expected, list) else expected in trained


def test_npz_is_read_row_by_row_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", text=np.array(["a", "b"]), n=np.array([1.5, np.inf]), v=np.eye(2))
    trained, streamed = both("npz", tmp_path / "a.npz")
    assert streamed == [{"text": "a", "n": 1.5, "v": [1.0, 0.0]}, {"text": "b", "n": np.inf, "v": [0.0, 1.0]}]
    assert [row["v"].tolist() for row in trained] == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_whatever_the_pieces(size: int) -> None:
    """As Python's own universal newlines give them."""
    content = "\ufeffa\r\rb\r\n\ncé\n\r\nd\r".encode()
    pieces = [content[i : i + size] for i in range(0, len(content), size)]
    expected = list(io.StringIO(content.decode().removeprefix("\ufeff"), newline=""))
    assert list(textfile.lines("x", pieces)) == expected == ["a\r", "\r", "b\r\n", "\n", "cé\n", "\r\n", "d\r"]


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfile, "MOST", 100)
    with pytest.raises(TlxError, match="x has a line of more than 100 bytes"):
        list(textfile.lines("x", iter(lambda: b"a" * 10, b"")))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Cells as they came, `=` and carriage returns too; by Python's reader and by ours."""
    rows = [{"a": a, "b": "x"} for a in ("=1+1", "+1", "@x", "a\rb", "a\r\nb", '"', "", " a ", "é\u2028", ",", "-")]
    with writing(str(tmp_path / "a.csv"), "csv") as write:
        for row in rows:
            write(row, "")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file, strict=True)) == rows
    assert [row for _, row in READERS["csv"].rows(str(tmp_path / "a.csv"))] == rows


NAN = float("nan")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([1, 1.0, "1", " 1 ", np.int64(1)], ["1"] * 5),
        (["bad", "bad ", "\tbad"], ["bad"] * 3),
        ([True, False], ["True", "False"]),
        ([0.5, -0.0], ["0.5", "0"]),
        (["nan", "None"], ["nan", "None"]),
        (["a", None], "t, row 2: the label in 'y' is missing"),
        (["a", NAN], "t, row 2: the label in 'y' is missing"),
        (["a", np.float32("nan")], "t, row 2: the label in 'y' is missing"),
        (["a", " \t"], "t, row 2: the label in 'y' is missing"),
        (["a", ["b"]], r"t, row 2: the label in 'y' is \['b'\]; expected a string or a number"),
        (["a", {"b": 1}], "t, row 2: the label in 'y' is {'b': 1}; expected"),
        (["a", float("inf")], "t, row 2: the label in 'y' is inf; expected"),
    ],
)
def test_the_rule_for_labels(column: list, expected: Any) -> None:
    table = Table("t", {"y": column})
    if isinstance(expected, list):
        assert labels.names(table, "y") == expected
        return
    with pytest.raises(TlxError, match=expected):
        labels.names(table, "y")


@pytest.mark.parametrize(
    "column", [["1", "1.0"], [True, 1], ["true", "True"], ["0", False], ["caf\u00e9", "cafe\u0301"], ["-1", "-1.00"]]
)
def test_one_value_in_two_ways_is_refused(column: list) -> None:
    with pytest.raises(TlxError, match=r"x: .* \(2 times\) and .* \(2 times\) are one value|x: .* are one value"):
        labels.classes(column * 2, "x")


def test_names_that_only_look_like_numbers_stay_apart() -> None:
    assert labels.classes(["01", "1", "1.1", "1.10"]) == ("01", "1", "1.1", "1.10")
    assert labels.classes(["01", "1", "001"]) == ("001", "01", "1")  # equal as numbers, in one order whatever the hash
    assert labels.classes(["9" * 100_000, "1"]) == ("1", "9" * 100_000)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "is empty"),
        (NAN, "is empty"),
        (" \n", "is empty"),
        (3, "is 3; a text is a string"),
        (True, "is True; a text is a string"),
        (["a"], r"is \['a'\]; a text is a string"),
        ({"a": 1}, r"is {'a': 1}; a text is a string"),
        ("\ud83d", "half of a surrogate pair"),
    ],
)
def test_the_rule_for_texts(value: Any, message: str) -> None:
    with pytest.raises(TlxError, match=f"t, row 2: the text in 'x' (holds )?{message}"):
        text_column(Table("t", {"x": ["a", value]}), "x")


def test_words_and_tags_follow_them() -> None:
    with pytest.raises(TlxError, match="t, row 1: tag 2 in 'y' is missing"):
        tag_column(Table("t", {"y": [["O", NAN]]}), "y")
    assert tag_column(Table("t", {"y": [["O ", 1.0, 1]]}), "y") == [["O", "1", "1"]]
    with pytest.raises(TlxError, match="the list in 'x' holds more than words"):
        word_column(Table("t", {"x": [["a", 2019]]}), "x")


@pytest.mark.parametrize("value", [10**400, "1_000", [1, [2]], {"a": 1}, "x"])
def test_targets_that_are_no_numbers(value: Any) -> None:
    with pytest.raises(TlxError, match=r"t, row 2: .*'y'"):
        regression_targets(Table("t", {"y": [1, value]}), "y")


def test_a_row_is_told_by_its_place_in_the_source() -> None:
    table = Table("t", {"y": ["a", "b", None, "c"]}).rows(np.array([3, 2])).rows(np.array([1]))
    with pytest.raises(TlxError, match="t, row 3: the label"):
        labels.names(table, "y")


def test_rows_without_a_label() -> None:
    """-100, as a number or as a text; json, so that it is what Hugging Face's data sets write."""
    values = json.loads('["a", -100, "-100", -100.0, " -100", "100", null]')
    assert labels.labelled_rows(Table("t", {"y": values}), "y").tolist() == [0, 5, 6]
