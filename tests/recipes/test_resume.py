"""A run that is stopped, or killed, goes on and ends with the bits of one that was not; the frozen keep theirs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tlx
from tests import tiny
from tlx.errors import TlxError
from tlx.params.paths import flatten
from tlx.recipes import finetune
from tlx.recipes.run_directory import load_run
from tlx.training import loop
from tlx.training.writers import read_metrics

pytestmark = pytest.mark.slow


def run(config: Any, workdir: Path) -> dict[str, Any]:
    return finetune.build(config, workdir).run(quiet=True)


@pytest.fixture(scope="module")
def finished(place: Path) -> tuple[Path, dict[str, Any]]:
    """A run that froze the lower block and finished undisturbed."""
    config = tiny.config(place / "checkpoint", place / "reviews.csv")
    config.params.rules = (("backbone/encoder/layer/0/.*", "frozen"),)
    return place / "finished", run(config, place / "finished")


def params_of(run: Path) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in flatten(load_run(run).params).items()}


def test_it_learns(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = finished
    assert summary["metrics"]["test/accuracy"] > 0.85
    assert summary["examples"]["train"] + summary["examples"]["validation"] + summary["examples"]["test"] == 300
    for name in (
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "plots/curves.png",
        "predictions/test.npz",
        "tensorboard",
    ):
        assert (folder / name).exists(), name
    saved = np.load(folder / "predictions" / "test.npz")
    accuracy = (saved["answers"].argmax(-1) == saved["labels"]).mean()
    assert accuracy == pytest.approx(summary["metrics"]["test/accuracy"])
    assert len(set(saved["example_id"].tolist())) == summary["examples"]["test"]


def test_the_frozen_block_is_the_checkpoint_s(finished: tuple[Path, dict[str, Any]], place: Path) -> None:
    _, params = tlx.from_pretrained(place / "checkpoint", heads={})
    after = params_of(finished[0])
    for path, leaf in flatten(params).items():
        assert np.array_equal(leaf, after[path]) == ("layer/0/" in path), path


class Stopped(Exception):
    pass


@pytest.mark.parametrize("at", [1, 11, 25, 43])
def test_stopped_and_resumed_ends_with_the_same_bits(
    at: int, finished: tuple[Path, dict[str, Any]], config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.params.rules = (("backbone/encoder/layer/0/.*", "frozen"),)
    job = finetune.build(config, tmp_path / "run")
    step, taken = job.train_step, 0

    def stopping(state: Any, batch: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken > at:
            raise Stopped
        return step(state, batch)

    job.train_step = stopping
    with pytest.raises(Stopped):
        job.run(quiet=True)
    resumed = run(config, tmp_path / "run")
    whole, again = params_of(finished[0]), params_of(tmp_path / "run")
    assert all(np.array_equal(whole[path], again[path]) for path in whole)
    assert resumed["metrics"] == finished[1]["metrics"]
    timeless = [
        [
            {k: v for k, v in line.items() if "per_s" not in k and not k.startswith("train/")}
            for line in read_metrics(folder)
        ]
        for folder in (finished[0], tmp_path / "run")
    ]
    assert [line for line in timeless[0] if len(line) > 1] == [line for line in timeless[1] if len(line) > 1]


def test_killed_and_resumed(finished: tuple[Path, dict[str, Any]], config: Any, tmp_path: Path) -> None:
    """SIGKILL to a process in the middle of training; a new process goes on."""
    config.params.rules = (("backbone/encoder/layer/0/.*", "frozen"),)
    (tmp_path / "config.json").write_text(config.to_json())
    code = (
        "import json, sys; from ml_collections import ConfigDict; from tlx.recipes import finetune\n"
        f"c = ConfigDict(json.load(open({str(tmp_path / 'config.json')!r})))\n"
        f"finetune.build(c, {str(tmp_path / 'run')!r}).run()"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.time() + 120
    while not (tmp_path / "run" / "checkpoints" / "22").exists() and time.time() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=300)
    whole, again = params_of(finished[0]), params_of(tmp_path / "run")
    assert all(np.array_equal(whole[path], again[path]) for path in whole)


def test_a_finished_run_is_not_trained_again(
    finished: tuple[Path, dict[str, Any]], config: Any, monkeypatch: Any
) -> None:
    config.params.rules = (("backbone/encoder/layer/0/.*", "frozen"),)
    monkeypatch.setattr(loop, "Progress", None)
    job = finetune.build(config, finished[0])
    job.train_step = None
    assert job.run(quiet=True)["metrics"] == finished[1]["metrics"]


def test_another_config_on_the_same_workdir(finished: tuple[Path, dict[str, Any]], config: Any) -> None:
    with pytest.raises(TlxError, match=r"was begun with another config \(differing: params.rules, seed\)"):
        config.seed = 5
        finetune.build(config, finished[0])
