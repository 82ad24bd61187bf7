"""One way to say a config, to scripts and commands alike; None; and the table of inspect, folded."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from ml_collections import config_flags

from tests import tiny
from tlx.cli import launch
from tlx.cli.main import main
from tlx.cli.words import as_flags, as_words
from tlx.recipes.inspect import Leaf, folded, ranges

ROOT = Path(__file__).parent.parent.parent
CONFIG = f"{ROOT}/configs/text_file.py"


def launched_with(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    """The flags of a script that defines `config` and `workdir`."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    monkeypatch.setattr(sys, "argv", ["script", *words])
    launch.parse(sys.argv, values)
    return values


@pytest.mark.parametrize(
    ("words", "patience"),
    [
        (["train.patience=3"], 3),
        (["--config.train.patience=None"], None),
        (["train.patience=None"], None),
        (["--config.train.patience=3", "--config.train.patience=None"], None),
        (["--config.train.patience=None", "train.patience=3"], 3),
        (["--config.train.patience", "None"], None),
    ],
)
def test_none(words: list[str], patience: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    values = launched_with(monkeypatch, f"--config={CONFIG}", "--workdir", "runs/x", *words)
    assert values.config.train.patience == patience and values.workdir == "runs/x"


def test_none_of_a_text_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for a field that cannot be empty, such as the name of a column."""
    values = launched_with(monkeypatch, CONFIG, "data.pair=None", "train.monitor=None", "data.label=None")
    assert values.config.data.pair is None and values.config.train.monitor is None
    assert values.config.data.label == "None"


def test_fields_of_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need not be in the config, because they depend on the method that is named."""
    words = ["--config.method.name=dann", "--config.method.trade_off", "0.5", "method.discriminator=(8,4)"]
    method = launched_with(monkeypatch, CONFIG, *words, "method.passes=separate", "method.trade_off=2").config.method
    assert method.to_dict() == {"name": "dann", "trade_off": 2, "discriminator": (8, 4), "passes": "separate"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.seed=None"], "--config.seed=None: this field cannot be None; its default is 0."),
        (["--config.trane.patience=None"], "the config has no field 'trane'."),
        (["--config.train.patiense=None"], "the config has no field 'patiense'."),
        (["--config.train.patience.x=None"], "the config has no field 'x'."),
        (["--config.params.groups.head.multiplier=2"], "the config has no field 'head'."),
        (["train.epochs"], "'train.epochs' is no flag and no FIELD=VALUE of a config"),
        (["runs/x"], "'runs/x' is no flag and no FIELD=VALUE of a config"),
    ],
)
def test_one_sentence(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        launched_with(monkeypatch, f"--config={CONFIG}", *words)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith(f"tlx: {message}") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("--config=a.py:b --config.x.y=1 --workdir=w", "a.py:b x.y=1"),
        ("--workdir w --config a.py --config.x 1 --config.x=", "a.py x=1 x="),
        ("a.py x=1 --config.x=2 y=3", "a.py x=1 x=2 y=3"),
        ("x=1 --full a.py --noconfig.z --config.s", "--full a.py x=1 z=false s=true"),
        ("lr-find --steps 10 --config=a.py --to runs", "lr-find --steps 10 --to runs a.py"),
        ("--config=a.py --config.x=b=c.py", "a.py x=b=c.py"),
    ],
)
def test_words(given: str, words: str) -> None:
    assert as_words(given.split()) == words.split()
    assert as_words(as_flags(words.split())) == words.split()


def test_ranges() -> None:
    assert ranges([2, 0, 1, 10, 4, 5]) == "0–2,4–5,10" and ranges([7]) == "7"


def test_folded() -> None:
    """Another group, shape, multiplier or decay is a row of its own; two digits are one number."""

    def leaf(path: str, group: str = "a", multiplier: float = 1.0, size: int = 4) -> Leaf:
        return Leaf(path, (size,), "float32", group, multiplier, 0.0, 4 * size)

    leaves = [leaf("embeddings/w"), *(leaf(f"layer/{n}/w") for n in (0, 1, 10, 11, 2)), leaf("layer/3/w", "frozen")]
    leaves += [leaf("layer/4/w", size=8), leaf("layer/5/w", multiplier=0.5), leaf("layer/0/b"), leaf("layer/1/b")]
    rows = {row.path: row.bytes for row in folded(leaves)}
    assert rows == {
        "embeddings/w": 16, "layer/0–2,10–11/w": 80, "layer/3/w": 16, "layer/4/w": 32, "layer/5/w": 16,
        "layer/0–1/b": 32,
    }  # fmt: skip
    assert sum(rows.values()) == sum(leaf.bytes for leaf in leaves)


@pytest.mark.slow
def test_inspect_takes_the_words_of_a_launch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of `test_inspect` in tests/cli/test_tools.py are the other ones; blocks alike share a row."""
    checkpoint, data = tiny.write_checkpoint(tmp_path / "checkpoint"), tiny.write_reviews(tmp_path / "r.csv", 60)
    fields = [f"data.train=csv:{data}", f"model.checkpoint={checkpoint}", "data.max_length=16", "train.patience=None"]
    main(["inspect", f"--config={CONFIG}", *(f"--config.{field}" for field in fields), "--workdir=runs/x"])
    told = capsys.readouterr().out
    rows = re.findall(r"backbone/encoder/layer/(\S+)/output/dense/kernel .* ([\d,]+) │$", told, re.MULTILINE)
    assert rows == [("0–1/attention", f"{2 * 32 * 32 * 4:,}"), ("0–1", f"{2 * 48 * 32 * 4:,}")]
