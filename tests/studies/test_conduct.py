"""Studies from beginning to end with worker processes: workers that are killed or silent, broken arms, the flags."""

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.studies import made
from tlx.studies.conduct import conduct
from tlx.studies.plan import open_plan
from tlx.studies.queue import Queue
from tlx.studies.records import read_study
from tlx.studies.worker import work

pytestmark = [pytest.mark.slow, pytest.mark.long]
ROOT = Path(__file__).parents[2]
# A worker that believes that it is on another machine, so that no other one can see whether its process lives.
ELSEWHERE = """
import socket, sys
socket.gethostname = lambda: "elsewhere"
from tlx.cli.main import main
main(["worker", sys.argv[1]])
"""
# Kills its worker: its parent is the process that guards it, whose parent is the worker.
KILL = "kill -9 $(ps -o ppid= -p $PPID)"
GOOD = 'echo \'{"metrics": {"test/accuracy": 0.5}}\' > {result}'


def of_shell(folder: Path, texts: dict[str, str], **more: object) -> None:
    made.write_study(folder, commands={name: ["sh", "-c", text] for name, text in texts.items()}, **more)  # type: ignore[arg-type]


def test_the_trial_of_a_silent_worker_is_run_again(tmp_path: Path) -> None:
    first = f"if [ ! -e {tmp_path}/begun ]; then touch {tmp_path}/begun; sleep 100; fi"
    of_shell(tmp_path, {"only": f"{first}; {GOOD}"}, seeds=1, heartbeat=1)
    worker = subprocess.Popen([sys.executable, "-c", ELSEWHERE, str(tmp_path)])
    until = time.monotonic() + 120
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < until and worker.poll() is None
        time.sleep(0.05)
    queue = Queue(open_plan(tmp_path))
    time.sleep(4.0)
    assert queue.take() is None, "its heartbeat is heard for longer than three times the interval"
    worker.kill()
    worker.wait()
    killed = time.monotonic()
    assert queue.take() is None, "no process of this machine says that it is gone"
    assert work(tmp_path) == 1
    assert 1.5 < time.monotonic() - killed < 15
    assert [record.metrics for record in read_study(tmp_path)[1]] == [{"test/accuracy": 0.5}]
    states = [(trial.state.name, trial.user_attrs["worker"]["host"]) for trial in queue.study.get_trials()]
    assert [state for state, _ in states] == ["FAIL", "COMPLETE"] and states[0][1] == "elsewhere"


def test_killed_workers_are_started_again_and_a_run_that_kills_each_worker_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    once = f"if [ ! -e {tmp_path}/killed ]; then touch {tmp_path}/killed; {KILL}; sleep 100; fi; {GOOD}"
    of_shell(tmp_path, {"once": once, "good": GOOD, "always": f"{KILL}; sleep 100"}, seeds=1)
    records = conduct(str(tmp_path / "study.py"), tmp_path, workers=2)
    assert [(record.arm, record.state) for record in records] == [
        ("once", "complete"), ("good", "complete"), ("always", "failed"),
    ]  # fmt: skip
    assert "5 workers ended while they ran this trial" in str(records[2].error)
    assert "was killed (SIGKILL) and is started again" in capfd.readouterr().out


def test_per_gpu_and_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.7")
    note = "echo $CUDA_VISIBLE_DEVICES $XLA_CLIENT_MEM_FRACTION $XLA_PYTHON_CLIENT_MEM_FRACTION > {folder}/place"
    wait = f"while [ $(ls {tmp_path}/runs/*/place | wc -l) -lt 4 ]; do sleep 0.1; done"  # so that each worker gets one
    of_shell(tmp_path, {f"{index}": f"true {index}; {note}; {wait}; {GOOD}" for index in range(4)}, seeds=1)
    records = conduct(str(tmp_path / "study.py"), tmp_path, per_gpu=2)
    assert [record.state for record in records] == ["complete"] * 4
    places = sorted(file.read_text().strip() for file in tmp_path.glob("runs/*/place"))
    assert places == ["4 0.450", "4 0.450", "7 0.450", "7 0.450"]


def test_broken_arms_are_reported_and_the_others_complete(tmp_path: Path) -> None:
    levels = {
        "good": {"train.epochs": 2.0},
        "no such group": {"params.trainable": "no_such_block"},
        "diverges": {"optimizer.learning_rate": 1e30, "optimizer.clip": 0.0, "optimizer.name": "sgd"},
        "no checkpoint": {"model.checkpoint": "no_such_folder"},
    }
    plan = made.of_training(
        tmp_path, factors={"arm": levels}, seeds=1, metrics={made.METRIC: "maximize"},
        commands={"command": ["sh", "-c", "exit 7"], "fine": ["sh", "-c", GOOD]},
    )  # fmt: skip
    work(tmp_path)
    found = {record.arm: record for record in read_study(tmp_path)[1]}
    states = {name: record.state for name, record in found.items()}
    assert states.pop("diverges") in ("failed", "complete")
    assert states == {
        "good": "complete", "fine": "complete",
        "no such group": "failed", "no checkpoint": "failed", "command": "failed",
    }  # fmt: skip
    assert "no_such_block" in str(found["no such group"].error) and "no_such_folder" in str(
        found["no checkpoint"].error
    )
    assert "ended with code 7" in str(found["command"].error)
    assert Queue(plan).unfinished() == 0


def ablate(folder: Path, *words: str, code: int = 0) -> str:
    """experiments/ablate.py in a terminal, which ends with this code; returns what it shows."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "experiments/ablate.py", f"--study={folder / 'study.py'}", f"--workdir={folder}", *words]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # the terminal is closed
        pass
    os.close(ours)
    assert process.wait() == code, shown.decode()
    return shown.decode()


def test_the_command_in_a_terminal_with_retry_failed_and_full(tmp_path: Path) -> None:
    note = f"echo {{seed}} {{changes}} >> {tmp_path}/begun"
    flaky = f"{note}; test -e {tmp_path}/repaired || exit 1; {GOOD}"
    of_shell(
        tmp_path, {"flaky": flaky, "good": f"{note}; {GOOD}"}, seeds=1, full={"seeds": 2, "train.epochs": 9.0},
        short={"train.epochs": 1.0},
    )  # fmt: skip
    listed = ablate(tmp_path, "--workers=0")
    assert "good: seeds 0" in listed and "0 of 2 runs are complete, 0 failed" in listed
    shown = ablate(tmp_path, code=1)
    assert "made: 2 of 2 runs ended, 0 running; 1 failed; best test/accuracy 0.5000 (good, seed 0)" in shown
    assert "flaky, seed 0 failed: sh ended with code 1: it printed nothing" in shown
    (tmp_path / "repaired").touch()
    assert "1 of 2 runs are complete, 1 failed" in ablate(tmp_path, code=1)
    begun = (tmp_path / "begun").read_text().splitlines()
    assert len(begun) == 2, "neither the complete nor the failed run is run again by itself"
    assert "2 of 2 runs are complete, 0 failed" in ablate(tmp_path, "--retry_failed")
    assert len((tmp_path / "begun").read_text().splitlines()) == 3
    assert "4 of 4 runs are complete, 0 failed" in ablate(tmp_path, "--full", "--workers=2")
    begun = (tmp_path / "begun").read_text().splitlines()[3:]
    assert sorted(begun) == 2 * ["0 {train.epochs: 9.0}"] + 2 * ["1 {train.epochs: 9.0}"]
    assert "2 of 2 runs are complete" in ablate(tmp_path), "the short form is still there"
    assert len((tmp_path / "begun").read_text().splitlines()) == 7
