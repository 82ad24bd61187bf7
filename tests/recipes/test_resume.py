"""A run that is stopped, or killed, goes on and ends with the bits of one that was not; the frozen keep theirs."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests import tiny
from tlx.data import plan
from tlx.errors import TlxError, no_space
from tlx.params.paths import flatten
from tlx.pretrained.load import from_pretrained
from tlx.recipes import finetune
from tlx.recipes.trained import load_run
from tlx.training.checkpoint import Checkpoints
from tlx.training.writers import read_metrics

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def run(config: Any, workdir: Path) -> dict[str, Any]:
    return finetune.build(config, workdir).run(quiet=True)


def configured(place: Path) -> Any:
    """A run that freezes the lower block, and saves after every other of ten epochs of 11 steps."""
    config = tiny.config(place / "checkpoint", place / "reviews.csv")
    config.params.rules = (("backbone/encoder/layer/0/.*", "frozen"),)
    config.train.evaluate_every = 2.0
    return config


@pytest.fixture
def config(place: Path) -> Any:
    return configured(place)


@pytest.fixture(scope="module")
def finished(place: Path) -> tuple[Path, dict[str, Any]]:
    """A run that finished undisturbed."""
    return place / "finished", run(configured(place), place / "finished")


def params_of(run: Path) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in flatten(load_run(run).params).items()}


def end_of(config: Any, run: Path) -> tuple[int, dict[str, np.ndarray]]:
    """The newest checkpoint's step and every leaf of its state: parameters, moments, counts."""
    target = finetune.build(config, run).state
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        newest = checkpoints.newest()
        assert newest is not None
        state = checkpoints.restore(newest, target)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return newest, {jax.tree_util.keystr(keys): np.asarray(leaf) for keys, leaf in leaves}


def assert_same_end(config: Any, one: Path, other: Path) -> None:
    (step, whole), (again_step, again) = end_of(config, one), end_of(config, other)
    assert step == again_step == 110 and whole.keys() == again.keys() and any("mu" in name for name in whole)
    assert not [name for name in whole if not np.array_equal(whole[name], again[name])]
    lines = [
        [{k: v for k, v in line.items() if k != "train/examples_per_s"} for line in read_metrics(run)]
        for run in (one, other)
    ]
    assert lines[0] == lines[1]


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
    accuracy = (saved["predictions"].argmax(-1) == saved["labels"]).mean()
    assert accuracy == pytest.approx(summary["metrics"]["test/accuracy"])
    assert len(set(saved["example_id"].tolist())) == summary["examples"]["test"]


def test_the_frozen_block_is_the_checkpoint_s(finished: tuple[Path, dict[str, Any]], place: Path) -> None:
    _, params = from_pretrained(place / "checkpoint", heads={})
    after = params_of(finished[0])
    for path, leaf in flatten(params).items():
        assert np.array_equal(leaf, after[path]) == ("layer/0/" in path), path


@pytest.mark.parametrize("at", [pytest.param(22, marks=pytest.mark.long), 43])
def test_stopped_and_resumed_ends_with_the_same_bits(
    at: int, finished: tuple[Path, dict[str, Any]], config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.run_and_stop(finetune.build(config, tmp_path / "run"), at)
    resumed = run(config, tmp_path / "run")
    assert resumed["metrics"] == finished[1]["metrics"]
    assert_same_end(config, finished[0], tmp_path / "run")


def test_killed_and_resumed(finished: tuple[Path, dict[str, Any]], config: Any, tmp_path: Path) -> None:
    """SIGKILL to a process in the middle of training; a new process goes on."""
    (tmp_path / "config.json").write_text(config.to_json())
    code = (
        "import json, time; from ml_collections import ConfigDict; from tests import tiny\n"
        f"from tlx.recipes import finetune; from tlx.data import plan; plan.LENGTH_BUCKETS = {plan.LENGTH_BUCKETS}\n"
        f"c = ConfigDict(json.load(open({str(tmp_path / 'config.json')!r})))\n"
        f"job = finetune.build(c, {str(tmp_path / 'run')!r})\n"
        "tiny.before_each_step(job, lambda _: time.sleep(0.01))\n"  # or it might end before it is killed
        "job.run()"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def saved() -> int:
        names = [path.name for path in (tmp_path / "run" / "checkpoints").glob("*")]
        return max((int(name) for name in names if name.isdigit()), default=0)

    while saved() < 22 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 22 <= saved() < 110
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=900)
    assert_same_end(ConfigDict(json.loads(config.to_json())), finished[0], tmp_path / "run")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk(finished: tuple[Path, dict[str, Any]], config: Any, tmp_path: Path) -> None:
    """Writes begin to fail, in every library and thread, once a checkpoint is whole: that one stays, and goes on."""
    checkpoints = tmp_path / "run" / "checkpoints"

    def saved() -> list[int]:
        return sorted(int(path.name) for path in checkpoints.glob("*") if path.name.isdigit())

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    job = finetune.build(config, tmp_path / "run")
    tiny.before_each_step(job, lambda _: saved() and resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard)))
    try:
        with pytest.raises(Exception) as ended:
            job.run(quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert no_space(ended.value) == "File too large"
    assert saved() and max(saved()) < 110
    assert run(config, tmp_path / "run")["metrics"] == finished[1]["metrics"]
    assert_same_end(config, finished[0], tmp_path / "run")


def test_reading_a_run_leaves_a_save_under_way_alone(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    half = tmp_path / "run" / "checkpoints" / "121.orbax-checkpoint-tmp"
    half.mkdir()
    load_run(tmp_path / "run")
    assert half.is_dir()


def test_a_finished_run_is_not_trained_again(finished: tuple[Path, dict[str, Any]], config: Any) -> None:
    job = finetune.build(config, finished[0])
    tiny.before_each_step(job, lambda state: pytest.fail("a step"))
    assert job.run(quiet=True)["metrics"] == finished[1]["metrics"]


def test_another_config_on_the_same_workdir(finished: tuple[Path, dict[str, Any]], config: Any) -> None:
    config.params.rules, config.seed = (), 5
    with pytest.raises(TlxError, match=r"another config or other data \(differing: config.params.rules, config.seed\)"):
        finetune.build(config, finished[0])


def test_resume_never(finished: tuple[Path, dict[str, Any]], config: Any) -> None:
    config.resume = "never"
    with pytest.raises(TlxError, match=r"holds a run already, and config\.resume is 'never'"):
        finetune.build(config, finished[0])


def test_data_that_changed_since(config: Any, tmp_path: Path) -> None:
    data = tiny.write_reviews(tmp_path / "r.csv", 60)
    config.data.train = f"csv:{data}"
    finetune.build(config, tmp_path / "run")
    tiny.write_reviews(data, 61)
    with pytest.raises(TlxError, match=r"other data \(differing: data.examples.*data.sha256"):
        finetune.build(config, tmp_path / "run")
