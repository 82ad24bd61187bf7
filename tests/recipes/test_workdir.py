"""The run directory is removed, occupied, or used twice: one sentence, and the same command trains to the end after."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tlx.errors import TlxError
from tlx.recipes import finetune

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
STEPS = 22  # of two epochs, each with an evaluation and a save


@pytest.fixture
def config(config: Any) -> Any:
    config.train.epochs = 2.0
    return config


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> dict[str, Any]:
    config = tiny.config(place / "checkpoint", place / "reviews.csv")
    config.train.epochs = 2.0
    return finetune.build(config, place / "undisturbed").run(quiet=True)


def removed(run: Path) -> None:
    """A save may make files meanwhile, so it takes several rounds."""
    while run.exists():
        shutil.rmtree(run, ignore_errors=True)


def replaced(run: Path) -> None:
    """By a folder of the same name, as another run would make it."""
    run.rename(run.with_name("elsewhere"))
    (run / "checkpoints").mkdir(parents=True)


@pytest.mark.long
@pytest.mark.parametrize("change", [replaced, removed])
@pytest.mark.parametrize(
    "at",
    [
        pytest.param(0, id="before a save"),
        pytest.param(11, id="while a save is written"),
        pytest.param(21, id="before the last save"),
    ],
)
def test_the_run_directory_vanishes(
    at: int, change: Callable[[Path], None], config: Any, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    job = finetune.build(config, run)
    tiny.before_each_step(job, lambda state: int(state.step) == at and change(run))
    with pytest.raises(TlxError, match="checkpoints was removed while the run was writing to it"):
        job.run(quiet=True)
    del job
    assert finetune.build(config, run).run(quiet=True)["metrics"] == undisturbed["metrics"]


@pytest.mark.long
def test_it_vanishes_before_the_results_are_written(
    config: Any, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    job = finetune.build(config, run)
    summarize = job._summarize
    monkeypatch.setattr(job, "_summarize", lambda *given: (removed(run), summarize(*given)))
    with pytest.raises(TlxError, match="was removed while the run was writing to it"):
        job.run(quiet=True)
    del job
    monkeypatch.undo()
    assert finetune.build(config, run).run(quiet=True)["metrics"] == undisturbed["metrics"]


MORE_NAMES = ("predictions", "plots", "pretrained", "tensorboard", "config.json/")


@pytest.mark.parametrize(
    "name",
    ["checkpoints", "metrics.jsonl/", *(pytest.param(name, marks=pytest.mark.long, id=name) for name in MORE_NAMES)],
)
def test_something_else_has_the_name(name: str, config: Any, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """A file where a folder belongs, or a folder (`/`) where a file belongs."""
    run = tmp_path / "run"
    run.mkdir()
    (run / name).mkdir() if name.endswith("/") else (run / name).write_text("")
    with pytest.raises(TlxError, match=name.strip("/")) as refused:
        finetune.build(config, run).run(quiet=True)
    del refused
    shutil.rmtree(run / name) if name.endswith("/") else (run / name).unlink()
    assert finetune.build(config, run).run(quiet=True)["metrics"] == undisturbed["metrics"]


def started(place: Path, run: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable, "experiments/finetune.py", "--config=configs/text_file.py", f"--workdir={run}",
            f"--config.data.train=csv:{place}/reviews.csv", f"--config.model.checkpoint={place}/checkpoint",
            "--config.train.epochs=20.0", "--config.data.max_length=16", "--config.parallel.data=1",
        ],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize(
    "later", [pytest.param(0.0, marks=pytest.mark.long), pytest.param(7.0, marks=pytest.mark.faults)]
)
def test_two_runs_in_one(later: float, place: Path, tmp_path: Path) -> None:
    """In a folder that does not exist yet, so that neither finds a lock in it: one trains, the other is refused."""
    run = tmp_path / "run"
    first = started(place, run)
    time.sleep(later)
    both = [first, started(place, run)]
    ended = [(*process.communicate(timeout=400), process.returncode) for process in both]
    codes = sorted(code for *_, code in ended)
    assert codes == [0, 2] or (later and codes == [0, 0]), ended
    for _, said, code in ended:
        if code:
            assert f"tlx: {run} is in use by process " in said and said.count("\n") == 1, said
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and (run / "summary.json").is_file()
    again = started(place, run)
    said = again.communicate(timeout=400)[1]
    assert again.returncode == 0, said


WITHOUT_LOCKS = """
import errno, fcntl, pathlib, sys, time
from tlx.files.lock import acquire_lock
def flock(*_): raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
time.sleep(float(sys.argv[2]) - time.time())
try:
    lock = acquire_lock(pathlib.Path(sys.argv[1]))
    print("held", flush=True)
    time.sleep(3)
except Exception as error:
    print(type(error).__name__, "in use by" in str(error))
"""


@pytest.mark.long
def test_at_the_same_moment_where_there_are_no_locks(tmp_path: Path) -> None:
    moment = time.time() + 3
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WITHOUT_LOCKS, str(tmp_path), str(moment)], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for _ in range(4)
    ]  # fmt: skip
    said = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert said == [*["TlxError True"] * 3, "held"]
