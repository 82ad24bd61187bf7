"""Training rows that are left out: those with a text of another set, and all but a sample."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlx.data.sources import Table
from tlx.data.splits import subsample
from tlx.errors import TlxError
from tlx.recipes.splits import without_texts

PAIRS = Table(
    "csv:pairs.csv",
    {
        "one": ["A cat sat.", "Dogs run", "...", "so it is"],
        "other": ["Birds fly", "it\u2019s  LATE!", "?", "nobody knew"],
    },
)
WORDS = Table("conll:words.conll", {"tokens": [["Nobody", "knew"], ["He", "knew", "."]]})


def write(folder: Path) -> list[tuple[str, str]]:
    (folder / "test.csv").write_text('text,title\n"a CAT, sat",x\n!!!,birds\n')
    (folder / "late.csv").write_text("id,a,b\n1,zzz,It\u2019s late\n")
    (folder / "words.conll").write_text("he\tO\nknew\tO\n\n")
    return [
        (f"csv:{folder / 'test.csv'}", "text"), (f"csv:{folder / 'late.csv'}", "a, b"),
        (f"conll:{folder / 'words.conll'}", "tokens"),
    ]  # fmt: skip


def test_rows_with_a_text_of_another_set_are_left_out(tmp_path: Path) -> None:
    sets = write(tmp_path)
    kept = without_texts(PAIRS, ["one", "other"], sets)
    assert (kept.excluded, kept.source_rows.tolist(), kept.columns["one"]) == (2, [2, 3], ["...", "so it is"])
    assert without_texts(PAIRS, ["one"], sets).source_rows.tolist() == [1, 2, 3]
    assert without_texts(WORDS, ["tokens"], sets).columns["tokens"] == [["Nobody", "knew"]]
    assert without_texts(PAIRS, ["one"], ()) is PAIRS
    assert kept.rows(np.array([1])).excluded == 2


@pytest.mark.parametrize(
    ("table", "exclude", "message"),
    [
        (PAIRS, ["csv:test.csv"], "expected a pair"),
        (PAIRS, [("{0}", "texts")], "no column 'texts'"),
        (Table("t", {"one": ["a cat sat"]}), [("{0}", "text")], "no row is left"),
        (Table("t", {"one": [1, 2]}), [("{0}", "text")], "holds none"),
    ],
)
def test_refused(table: Table, exclude: Any, message: str, tmp_path: Path) -> None:
    file = write(tmp_path)[0][0]
    sets = [each if isinstance(each, str) else (each[0].format(file), each[1]) for each in exclude]
    with pytest.raises(TlxError, match=message):
        without_texts(table, ["one"], sets)


def test_a_sample_of_rows_is_those_of_smallest_digest() -> None:
    digests = [hashlib.sha256(f"3:{row}".encode()).hexdigest() for row in range(50)]
    assert subsample(50, 8, 3).tolist() == sorted(sorted(range(50), key=digests.__getitem__)[:8])
    assert subsample(5, 8, 3).tolist() == list(range(5))
