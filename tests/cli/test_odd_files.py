"""Odd data files through the commands that a user types: training's reader (of `evaluate` too) and predict's agree."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from tests import tiny
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.recipes import finetune

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on such labels as `configured` writes."""
    folder = tmp_path_factory.mktemp("odd")
    config = configured(folder, tiny.write_reviews(folder / "reviews.csv", 60).read_text())
    finetune.build(config, folder / "run").run(quiet=True)
    return folder


def configured(folder: Path, content: str) -> Any:
    """The reviews, but every third label has a space behind it, and two rows of validation have no label."""
    rows = list(csv.DictReader(io.StringIO(content)))
    for number, row in enumerate(rows):
        row["label"] += " " * (number % 3 == 0)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:40]))
    validation = [{**row, "label": -100} if i in (2, 7) else row for i, row in enumerate(rows[40:])]
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in validation))
    checkpoint = folder / "checkpoint"
    config = tiny.config(checkpoint if checkpoint.exists() else tiny.write_checkpoint(checkpoint), folder / "none")
    config.data.train, config.data.validation = f"jsonl:{folder}/train.jsonl", f"jsonl:{folder}/validation.jsonl"
    config.data.test_fraction = 0.0
    config.train.epochs, config.train.evaluate_every = 1.0, 1.0
    return config


def test_labels_are_stripped_and_rows_without_one_left_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((place / "run" / "summary.json").read_text())
    assert [row["name"] for row in summary["classes"]["validation"]] == ["bad", "good"]
    assert summary["examples"] == {"train": 40, "validation": 18}
    assert summary["labels_stripped"] == {"train": 14, "validation": sum(i % 3 == 0 for i in range(40, 60)) - 1}
    assert summary["left_out_without_label"] == {f"jsonl:{place}/validation.jsonl": 2}
    with np.load(place / "run" / "predictions" / "validation.npz") as saved:
        assert saved["example_id"].tolist() == [i for i in range(20) if i not in (2, 7)]
        assert set(saved["labels"].tolist()) == {0, 1}
    main(["predict", f"{place}/run", "--input", f"{place}/validation.jsonl"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    labelled = [row for row in rows if row["label"] != -100]
    accuracy = accuracy_score([row["label"].strip() for row in labelled], [row["predicted"] for row in labelled])
    main(["evaluate", f"{place}/run", "--data", f"jsonl:{place}/validation.jsonl"])
    told = capsys.readouterr().out
    assert len(rows) == 20 and "18 examples" in told and f"{accuracy:.4f}" in told


UNBALANCED = 'text,label\na fine film,good\n"the plot was 5" long,bad\n"so the film was dull,bad\na film,good\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", UNBALANCED.encode(), "the row that begins on line 3 cannot be read"),
        ("a.csv", "text,label\na film,good\n".encode("utf-16"), "is UTF-16, expected UTF-8"),
        ("a.csv", "text,label\nun caf\u00e9,good\n".encode("latin-1"), "is not UTF-8 (line 2, byte 17"),
        ("a.jsonl", b'{"text": "\\ud83d", "label": "good"}\n', "line 1 holds half of a surrogate pair"),
        ("a.jsonl", b'{"text": ' + b"[" * 100_000 + b"\n", "line 1 is nested too deeply"),
        ("a.jsonl", b'{"text": "a", "n": ' + b"7" * 100_000 + b"}\n", "a number has too many digits"),
        ("a.jsonl", b'{"text": ["a"], "label": "good"}\n', "the text in 'text' is ['a']; a text is a string"),
        ("a.jsonl", b'{"text": NaN, "label": "good"}\n', "the text in 'text' is empty"),
        ("a.jsonl", b'{"text": 7, "label": "good"}\n', "the text in 'text' is 7; a text is a string"),
    ],
)
def test_refused_by_both(
    place: Path, tmp_path: Path, name: str, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no file of rows, and what is no text; predict leaves no file behind."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        main(["predict", f"{place}/run", "--input", f"{tmp_path}/{name}", "--output", f"{tmp_path}/out.csv"])
    assert ended.value.code == 2 and message in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", f"{place}/run", "--data", f"{name[2:]}:{tmp_path}/{name}"])
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_long_cells_and_formulas(place: Path, tmp_path: Path) -> None:
    """A text of 200,000 characters; cells come out as they went in, `=` and carriage returns too."""
    rows = [{"id": "=1+1", "text": "a " * 100_000}, {"id": "a\rb", "text": "a film"}, {"id": "+@-", "text": "cold"}]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    main(["predict", f"{place}/run", "--input", f"{tmp_path}/a.csv", "--output", f"{tmp_path}/out.csv"])
    with (tmp_path / "out.csv").open(newline="") as file:
        found = list(csv.DictReader(file, strict=True))
    assert [{name: row[name] for name in ("id", "text")} for row in found] == rows
    assert all(row["predicted"] in ("good", "bad") for row in found)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["good", float("nan"), "bad", "bad"], "row 2: the label in 'label' is missing"),
        (["good", ["bad"], "bad", "good"], r"row 2: the label in 'label' is \['bad'\]; expected a string or a number"),
        ([True, 1, False, 0], "are one value written in two ways"),
        ([-100, -100, -100, -100], "no row has a label"),
    ],
)
def test_labels_that_are_none(place: Path, tmp_path: Path, labels: list, message: str) -> None:
    rows = zip(tiny.GOOD, labels, strict=False)
    lines = [json.dumps({"text": f"a {word} film", "label": label}) for word, label in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    config = configured(place, (place / "reviews.csv").read_text())
    config.data.train = f"jsonl:{tmp_path}/a.jsonl"
    with pytest.raises(TlxError, match=message):
        finetune.build(config, tmp_path / "run")
