"""Labels, several a row, and tags, one a word; what is said of those that do not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlx.data import labels
from tlx.data.sources import Table, load
from tlx.data.tags import tag_indices, tag_names
from tlx.data.targets import label_names, multilabel_targets, regression_targets
from tlx.data.texts import text_column, word_column
from tlx.errors import TlxError


def table(**columns: Any) -> Table:
    return Table("t", columns)


def test_multilabel_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,names\n1,0,x\n0,0,\n1,1,y | x\n")
    (tmp_path / "a.jsonl").write_text(
        '{"x": 1, "y": false, "names": ["x"]}\n{"x": 0, "y": 0, "names": []}\n'
        '{"x": true, "y": 1.0, "names": ["y", "x"]}\n'
    )
    for kind in ("csv", "jsonl"):
        found = load(f"{kind}:{tmp_path}/a.{kind}")
        for column in ("x, y", "names"):
            names = label_names(found, column)
            predictions = multilabel_targets(found, column, names)
            assert names == ("x", "y") and predictions.dtype == np.int32
            assert predictions.tolist() == [[1, 0], [0, 0], [1, 1]]
    assert label_names(found, "y,x") == ("y", "x")
    assert multilabel_targets(found, "y,x", ("y", "x")).tolist() == [[0, 1], [0, 0], [1, 1]]
    assert multilabel_targets(table(y=["a;b", "b|c"]), "y", ("b|c", "a", "b"), separator=";").tolist() == [
        [0, 1, 1],
        [1, 0, 0],
    ]
    assert label_names(table(y=["10|9", "9"]), "y") == ("9", "10")
    assert label_names(Table("t", {"a,b": ["q"]}), "a,b") == ("q",)


@pytest.mark.parametrize(
    ("columns", "column", "message"),
    [
        ({"y": ["a", "b|q"]}, "y", "t, row 2: the label 'q' is not one of the training set's a, b"),
        ({"y": ["a", None]}, "y", r"t, row 2: the labels in 'y' are None; expected a list of names, or names .* '\\|'"),
        ({"y": ["a||b"]}, "y", r"t, row 1: one of the labels in 'y', \['a', '', 'b'\], has no name"),
        ({"y": [["a"], [None]]}, "y", r"t, row 2: one of the labels in 'y', \[None\], has no name"),
        ({"y": [1]}, "y", "t, row 1: the labels in 'y' are 1; expected a list"),
        ({"a": ["0", "1", "2"], "b": ["0", "0", "0"]}, "a,b", "t, row 3: 'a' is '2'; expected 0 or 1"),
        ({"a": [0], "b": [None]}, "a,b", "t, row 1: 'b' is 'None'; expected 0 or 1"),
        ({"a": [0], "b": [0]}, "a,c", "t has no column 'c'; its columns are a, b"),
        ({"a": [0]}, "q", "t has no column 'q'"),
    ],
)
def test_refused_multilabel(columns: dict[str, Any], column: str, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        multilabel_targets(table(**columns), column, ("a", "b"))


def test_tags(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"w": ["a", "b"], "t": ["I", "O"]}\n{"w": ["c"], "t": ["B"]}\n')
    (tmp_path / "a.conll").write_text("a I\nb O\n\nc B\n")
    for found, words, tags in (
        (load(f"jsonl:{tmp_path}/a.jsonl"), "w", "t"),
        (load(f"conll:{tmp_path}/a.conll"), "tokens", "tags"),
    ):
        names = tag_names(found, tags)
        assert names == ("O", "B", "I")
        assert word_column(found, words) == [["a", "b"], ["c"]]
        indices = tag_indices(found, words, tags, names)
        assert [row.tolist() for row in indices] == [[2, 0], [1]] and indices[0].dtype == np.int32
    assert tag_names(table(t=[["B", "A", " A"]]), "t") == ("A", "B")
    assert tag_names(table(t=[[2, 0], [1]]), "t") == ("0", "1", "2")


def test_words_without_a_tag() -> None:
    """-100 in every form is no tag, has no index, and is none of the set's names."""
    found = table(
        w=[["a", "b", "c", "d"], ["e"], ["f", "g"]], t=[[3, -100, -100.0, "-100"], [" -100 "], [2, np.int64(-100)]]
    )
    assert tag_names(found, "t") == ("2", "3")
    indices = tag_indices(found, "w", "t", ("2", "3"))
    assert [row.tolist() for row in indices] == [[1, -1, -1, -1], [-1], [0, -1]] and indices[1].dtype == np.int32
    for ask in (lambda t: tag_names(t, "t"), lambda t: tag_indices(t, "w", "t", ("2", "3"))):
        with pytest.raises(TlxError, match=r"^t: no word has a tag; all in 't' are -100\.$"):
            ask(table(w=[["a", "b"], ["c"]], t=[[-100, -100], [-100]]))


def test_targets_beyond_float32() -> None:
    """What float32 would make infinite is refused with its row and column; its largest number is not."""
    most = float(np.finfo(np.float32).max)
    for numbers in ([1.0, 1e39], [1.0, -1e39], ["1", "1e39"]):
        for columns in ("y", "x,y"):
            with pytest.raises(
                TlxError, match=r"^t, row 2: the target -?1e\+39 in 'y' is beyond ±3\.4e\+38, float32's"
            ):
                regression_targets(table(x=[0, 0], y=numbers), columns)
    with pytest.raises(TlxError, match=r"^t, row 2: the target 1e\+39 in 'v' is beyond"):
        regression_targets(table(v=[[0, 1], [0, 1e39]]), "v")
    with pytest.raises(TlxError, match=r"^t, row 1: the target in 'y' is not a finite number"):
        regression_targets(table(y=[float("inf"), 0]), "y")
    found = regression_targets(table(y=[most, -most, 1e-60]), "y")
    assert found.dtype == np.float32 and found.tolist() == [[most], [-most], [0.0]]


def test_groups_in_every_form(tmp_path: Path) -> None:
    """1, 1.0 and "1" are one group, within a file and in every format."""
    (tmp_path / "a.csv").write_text("g\n1\n2\n1.0\n 1\nb\n10\n")
    (tmp_path / "a.jsonl").write_text("".join(f'{{"g": {g}}}\n' for g in ("1", "2.0", "1.0", '"1"', '"b "', "1e1")))
    np.savez(tmp_path / "a.npz", g=np.array(["1", "2", "1", "1.00", "b", "10"]))
    for name in ("csv", "jsonl", "npz"):
        assert labels.groups(load(f"{name}:{tmp_path}/a.{name}"), "g") == ["1", "2", "1", "1", "b", "10"]
    np.savez(tmp_path / "n.npz", g=np.array([1.0, 2.0, 1.0]))
    assert labels.groups(load(f"npz:{tmp_path}/n.npz"), "g") == labels.groups(table(g=["1", "2", "1"]), "g")
    with pytest.raises(TlxError, match="t, row 2: the group in 'g' is missing"):
        labels.groups(table(g=["a", None]), "g")


@pytest.mark.parametrize(
    ("words", "tags", "message"),
    [
        (
            [["a"], ["b", "c"]],
            [["O"], ["O"]],
            "t, row 2: 1 tags in 'tags' for 2 words in 'words'; expected one for each",
        ),
        ([["a"]], [["X"]], "t, row 1: the tag 'X' is not one of the training set's O, B"),
        ([["a"]], ["O"], "t, row 1: 'tags' is 'O'; expected a list of tags"),
        ([["a"], None], [["O"], ["O"]], "t, row 2: 'words' is 'None'; expected a list of words"),
        ([["a"]], [[None]], r"t, row 1: the list in 'tags' holds more than tags: \[None\]"),
        ([[["a"]]], [["O"]], "t, row 1: the list in 'words' holds more than words"),
        ([["a", "b"]], [["O", " "]], "t, row 1: tag 2 in 'tags' is missing; drop the row or fill it"),
        ([["a"]], [[float("nan")]], "t, row 1: tag 1 in 'tags' is missing"),
    ],
)
def test_refused_tags(words: list, tags: list, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        tag_indices(table(words=words, tags=tags), "words", "tags", ("O", "B"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([["a"], []], "t, row 2: the sentence in 'words' has no words; drop the row"),
        ([["a"], ["b", " "]], "t, row 2: word 2 in 'words' is empty; drop it with its tag"),
        (["a b"], "t, row 1: 'words' is 'a b'; expected a list of words"),
    ],
)
def test_refused_words(words: list, message: str) -> None:
    with pytest.raises(TlxError, match=message):
        word_column(table(words=words), "words")


def test_a_missing_label_is_no_unknown_one() -> None:
    with pytest.raises(TlxError, match="t, row 2: the label in 'y' is missing"):
        labels.class_indices(table(y=["a", None]), "y", ("a", "b"))


def test_targets_of_an_array_column() -> None:
    """The colours that ship with tlx: a vector in every row."""
    table = load("builtin:colors")
    np.testing.assert_array_equal(regression_targets(table, "lab"), np.asarray(table.column("lab"), np.float32))


def test_a_vector_is_no_label_and_no_text() -> None:
    odd = table(label=np.zeros((3, 2)), text=np.full((3, 2), np.nan))
    with pytest.raises(TlxError, match=r"t, row 1: the label in 'label' is array.*expected a string or a number"):
        labels.names(odd, "label")
    with pytest.raises(TlxError, match=r"t, row 1: the text in 'text' is array.*a text is a string"):
        text_column(odd, "text")
