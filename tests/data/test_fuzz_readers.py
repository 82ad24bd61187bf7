"""The fuzz of the data readers, for a moment here and for half a minute each in `make faults`."""

from pathlib import Path

import pytest

from tests.data.fuzz_readers import KINDS, counted, run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("cases", "seconds"), [(60, 60), pytest.param(10**9, 30, marks=pytest.mark.faults)])
def test_no_row_is_lost(kind: str, cases: int, seconds: float, tmp_path: Path) -> None:
    counts = run(kind, seconds, tmp_path, first_seed=cases, most=cases)
    assert counts["WRONG"] == 0, counts
    assert counts["read"] > 5 and counts["refused"] > 5, counts


def test_the_independent_count() -> None:
    """By hand, so that it can be believed where a reader disagrees."""
    assert counted("csv", b'a,b\n1,"x\ny"\n\n2,"""q"""\r\n3,4') == 3
    assert counted("tsv", b'a\tb\r1\t"x ""and"" y"\r') == 1
    assert counted("jsonl", b'{"a": 1}\n\n \n{"a": 2}\r\n') == 2
    assert counted("conll", b"-DOCSTART- -X- O O\n\na O\nb O\n \t\nc O\n-DOCSTART- O\nd O") == 3
