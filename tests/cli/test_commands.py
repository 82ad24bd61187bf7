"""The commands as a person calls them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny
from tlx.cli.main import COMMANDS
from tlx.cli.predict import in_words

ROOT = Path(__file__).parent.parent.parent


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, cwd=ROOT)


@pytest.mark.slow
def test_train_predict_export(tmp_path: Path) -> None:
    checkpoint = tiny.write_checkpoint(tmp_path / "checkpoint")
    data = tiny.write_reviews(tmp_path / "reviews.csv", 120)
    trained = call(
        "experiments/finetune.py", "--config=configs/text_file.py", f"--workdir={tmp_path / 'run'}",
        f"--config.data.train=csv:{data}", f"--config.model.checkpoint={checkpoint}", "--config.train.epochs=1.0",
        "--config.data.max_length=16", "--config.parallel.data=1",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert re.search(r"validation/accuracy +0\.\d{4}", trained.stdout)
    assert not [line for line in trained.stderr.splitlines() if line.startswith("I")]  # Orbax is not heard
    told = call("-m", "tlx.cli.main", "predict", str(tmp_path / "run"), "great and sweet", "awful")
    assert re.fullmatch(r"great and sweet  (good|bad)  \d+\.\d%\nawful            (good|bad)  \d+\.\d%\n", told.stdout)
    exported = call("-m", "tlx.cli.main", "export", str(tmp_path / "run"), "--to", str(tmp_path / "export"))
    assert exported.returncode == 0, exported.stderr
    assert {"config.json", "model.safetensors", "vocab.txt"} <= {file.name for file in (tmp_path / "export").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-m", "tlx.cli.main", "predict", "/no/run", "x"],
            "tlx: /no/run is no run directory: it holds no config.json.",
        ),
        (
            ["experiments/finetune.py", "--config=configs/text_file.py", "--workdir=/tmp/never"],
            "tlx: config.data.train names no data",
        ),
    ],
)
def test_bad_input_ends_with_one_sentence(arguments: list[str], message: str) -> None:
    ended = call(*arguments)
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1].startswith(message)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_needs_nothing_heavy(command: str | None) -> None:
    """So that it answers in a fraction of a second."""
    code = (
        f"import sys; from tlx.cli.main import parser; parser({command!r}).format_help(); "
        "print([m for m in ('jax', 'flax', 'orbax', 'transformers', 'absl', 'numpy', 'rich') if m in sys.modules])"
    )
    assert call("-c", code).stdout.strip() == "[]"


def test_in_words() -> None:
    assert in_words({"predicted": "yes", "score": 0.75}) == "yes  75.0%"
    assert in_words({"predicted": [1.23456, -2.0]}) == "1.235  -2"
    assert in_words({"predicted": []}) == "(none)"
