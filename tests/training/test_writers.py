"""What is shown and written while a run trains."""

import json
from pathlib import Path

import pytest

from tlx.training.writers import Lines, Progress, read_lines


@pytest.mark.parametrize(
    ("start", "quiet", "said"), [(4, False, "mine: goes on after step 4 of 10\n"), (0, False, ""), (4, True, "")]
)
def test_where_a_run_goes_on(start: int, quiet: bool, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Progress("mine", 10, start, quiet).close()
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("damage", [b"\x00\xff{", b'{"step": 3, "loss"', b"[3]", b'{"loss": 1.0}', b"[" * 100_000])
def test_a_damaged_line_loses_no_other(damage: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the lines of steps 1 to 7 the third is damaged, and a kill cut off an eighth; the run goes on after step 6."""
    file = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": 1 / step}).encode() for step in range(1, 9)]
    file.write_bytes(b"\n".join([*lines[:2], damage, *lines[3:7], lines[7][:9]]))
    assert [line["step"] for line in read_lines(file)] == [1, 2, 4, 5, 6, 7]
    assert capsys.readouterr().err == ""
    for _ in range(2):  # the second time, the line is no longer there
        Lines(file, 6).close()
        assert read_lines(file) == [json.loads(lines[step - 1]) for step in (1, 2, 4, 5, 6)]
    assert capsys.readouterr().err == f"tlx: line 3 of {file} is damaged and cannot be kept; the other lines are.\n"


def test_what_a_kill_cut_off_is_not_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"st')
    Lines(file, 1).close()
    assert file.read_text() == '{"step": 1}\n' and capsys.readouterr().err == ""
