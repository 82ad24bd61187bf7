"""A run directory whose files were changed or damaged: one sentence, from every command that reads it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.recipes import finetune
from tlx.recipes.run_directory import read_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    config = tiny.config(place / "checkpoint", place / "reviews.csv")
    config.train.epochs = 1.0
    finetune.build(config, place / "run").run(quiet=True)
    return place / "run"


def edited(edit: Callable[[dict[str, Any]], Any], file: str = "config.json") -> Callable[[Path], None]:
    def change(run: Path) -> None:
        content = json.loads((run / file).read_text())
        edit(content)
        (run / file).write_text(json.dumps(content))

    return change


def written(text: str | bytes, file: str = "config.json") -> Callable[[Path], None]:
    return lambda run: (run / file).write_bytes(text if isinstance(text, bytes) else text.encode()) and None


def truncated(run: Path) -> None:
    """The largest file of each checkpoint's parameters."""
    for step in (run / "checkpoints").iterdir():
        largest = max((step / "params").rglob("*"), key=lambda file: file.stat().st_size if file.is_file() else 0)
        largest.write_bytes(largest.read_bytes()[:100])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (written("[" * 100_000), "nested too deeply"),
        (written('{"config": ' + '{"a":' * 50_000), "nested too deeply"),
        (written('{"config": {}, "config": {}, "heads": {}}'), "says 'config' twice"),
        (written("1" * 100_000), "what should be JSON is none"),
        (written(b"\xff\xfe{}"), "what should be JSON is none"),
        (written(""), "what should be JSON is none"),
        (written("version https://git-lfs.github.com/spec/v1\n"), "is a git-lfs pointer"),
        (written("[]"), "is a list where an object was expected"),
        (written('{"model_type": "bert"}'), "its config.json is not that of a run (is it a Hugging Face folder?)."),
        (written('{"config": {}, "heads": {}}'), "config.model.checkpoint is missing"),
        (written('{"config": [], "heads": {}}'), "config is [], expected an object"),
        (edited(lambda c: c["config"].pop("data")), "config.data.train is missing"),
        (edited(lambda c: c["config"].update(model=None)), "config.model is None, expected an object"),
        (edited(lambda c: c["config"]["data"].update(max_length="long")), "is 'long', expected a whole number"),
        (edited(lambda c: c["config"]["data"].update(text=["text"])), "config.data.text is ['text'], expected a text"),
        (edited(lambda c: c["config"].update(seed=True)), "config.seed is True, expected a whole number"),
        (edited(lambda c: c["heads"].clear()), "heads names no head"),
        (edited(lambda c: c["heads"]["default"].update(depth=3)), "heads.default has fields that no head has: depth"),
        (edited(lambda c: c["heads"]["default"].pop("outputs")), "heads.default.outputs is missing"),
        (edited(lambda c: c["heads"]["default"].update(labels=7)), "heads.default.labels is 7, expected a list"),
        (edited(lambda c: c["heads"]["default"].update(outputs=5, labels=[])), "expected (5,) ("),
        (edited(lambda c: c["heads"]["default"].update(outputs=10**12, labels=[])), "expected (1000000000000,) ("),
        (edited(lambda c: c.update(hidden_size=64), "pretrained/config.json"), "does not fit its run's config: "),
        (edited(lambda c: c.update(num_hidden_layers=3), "pretrained/config.json"), "is not there, expected ("),
        (lambda run: shutil.rmtree(run / "checkpoints"), "holds no checkpoint yet."),
        (truncated, "cannot be read ("),
    ],
)
def test_one_sentence(
    damage: Callable[[Path], None], said: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    damage(tmp_path / "run")
    with pytest.raises(SystemExit) as ended:
        main(["predict", f"{tmp_path}/run", "a fine film"])
    told = capsys.readouterr().err
    assert ended.value.code == 2 and said in told and told.count("\n") == 1 and len(told) < 700, told


def test_a_summary_that_is_damaged(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text("[" * 100_000)
    with pytest.raises(SystemExit) as ended:
        main(["export", f"{tmp_path}/run", "--to", f"{tmp_path}/model"])
    assert ended.value.code == 2 and "nested too deeply" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_run_of_an_earlier_tlx(trained: Path, tmp_path: Path) -> None:
    """Fields that it did not have yet have the defaults that keep what it did."""
    shutil.copytree(trained, tmp_path / "run")
    edited(lambda c: [c["config"].pop(name) for name in ("sam", "averages", "augment") if name in c["config"]])(
        tmp_path / "run"
    )
    assert read_run(tmp_path / "run")["config"]["sam"] == {"radius": 0.0, "adaptive": False}


@pytest.mark.parametrize(
    ("command", "to", "said"),
    [
        ("predict", "reviews.csv/out.csv", "reviews.csv/out.csv cannot be written: Not a directory."),
        ("predict", "/dev/full", "/dev/full cannot be written: No space left on device; make room"),
        ("predict", "/sys/kernel/out.csv", "/sys/kernel/out.csv cannot be written: "),
        ("features", "/sys/kernel/out.npz", "/sys/kernel/out.npz cannot be written: "),
        ("features", "/dev/full", "/dev/full cannot be written: No space left on device; make room"),
        ("export", "reviews.csv/model", "reviews.csv: File exists."),
    ],
)
def test_outputs_that_cannot_be_written(
    command: str, to: str, said: str, trained: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`/sys` takes no file of the superuser's either."""
    words = {
        "predict": ["--input", f"{place}/reviews.csv", "--format", "csv", "--output"],
        "features": ["--input", f"{place}/reviews.csv", "--output"],
        "export": ["--to"],
    }[command]
    with pytest.raises(SystemExit) as ended:
        main([command, str(trained), *words, str(place / to)])
    told = capsys.readouterr().err
    *step, told = told.splitlines()
    assert ended.value.code == 2 and said in told and all("its best" in line for line in step), told
    assert (place / "reviews.csv").read_text().startswith("text,label,score\n")


def test_earlier_names_of_fields(config: Any, tmp_path: Path) -> None:
    """They are moved to today's names with a warning; a run that was begun under the earlier name goes on."""
    config.params.trainable = "heads"
    expected = finetune.build(config, tmp_path / "new")
    config.params.trainable, config.params.train = "", "heads"
    with pytest.warns(FutureWarning, match=r"config\.params\.train is now called config\.params\.trainable"):
        found = finetune.build(config, tmp_path / "old")
    assert found.groups == expected.groups
    assert (tmp_path / "old" / "config.json").read_text() == (tmp_path / "new" / "config.json").read_text()
    found.lock = expected.lock = None

    written = json.loads((tmp_path / "old" / "config.json").read_text())
    written["config"]["params"] |= {"train": written["config"]["params"].pop("trainable")}
    (tmp_path / "old" / "config.json").write_text(json.dumps(written))
    config.params.trainable, config.params.train = "heads", None
    assert finetune.build(config, tmp_path / "old").groups == expected.groups

    config.params.trainable, config.params.train = "", None
    config.params.phases = ({"train": "heads"}, {"start": 1.0})
    with pytest.warns(FutureWarning, match="'train' in config.params.phases is now called 'trainable'"):
        job = finetune.build(config, tmp_path / "phases")
    assert job.phases[1].first == job.schedule.steps_per_epoch
    config.params.phases, config.params.trainable, config.params.train = (), "heads", "last:1"
    with pytest.raises(TlxError, match=r"deprecated name of config\.params\.trainable, and both are set"):
        finetune.build(config, tmp_path / "both")
