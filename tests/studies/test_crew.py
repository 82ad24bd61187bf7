"""Where workers are placed, that killed ones are started again, and what is shown meanwhile."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.studies import made
from tlx.errors import TlxError
from tlx.studies import crew
from tlx.studies.conduct import _places
from tlx.studies.lost import MOST_LOST
from tlx.studies.queue import Queue
from tlx.studies.records import read_study
from tlx.studies.view import View


def test_workers_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    assert _places(1, 1) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "3"}]
    half = {crew.MEMORY[0]: "0.450"}
    assert _places(9, 2) == 2 * [{"CUDA_VISIBLE_DEVICES": "0", **half}, {"CUDA_VISIBLE_DEVICES": "3", **half}]
    assert _places(2, 0) == 2 * [half] and _places(1, 0) == [{}] and _places(0, 0) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(TlxError, match="this machine has none"):
        _places(1, 1)


def test_workers_on_a_cpu_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 5, 6})
    assert _places(2, 0) == [{"TLX_CORES": "0,2,6"}, {"TLX_CORES": "1,5"}]
    assert [place["TLX_CORES"] for place in _places(7, 0)] == ["0", "1", "2", "5", "6", "0", "1"]


@dataclasses.dataclass
class Runs:
    """In place of a queue: `ended` says how many runs have ended each time it is asked."""

    counts: Any

    def ended(self) -> int:
        return int(next(self.counts))

    def unfinished(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("counts", "starts"), [([0] * 99, 2 + 2 * MOST_LOST), ([0, 0, 1, *[2] * 99], 4 + 2 * MOST_LOST)]
)
def test_killed_workers_are_started_again_until_no_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: list[int], starts: int
) -> None:
    started: list[int] = []
    said: list[str] = []

    def start(self: crew.Crew, index: int, mode: str) -> subprocess.Popen[bytes]:
        started.append(index)
        process = subprocess.Popen(["sh", "-c", "kill -9 $$"])
        process.wait()
        return process

    monkeypatch.setattr(crew.Crew, "_start", start)
    made_crew = crew.Crew(made.of_commands(tmp_path, 1, 1), Runs(iter(counts)), [{}, {}], said.append)  # type: ignore[arg-type]
    made_crew.start()
    while True:
        before = len(started)
        made_crew.working()
        if len(started) == before:
            break
    assert len(started) == starts and len(said) == starts - 2
    assert said[0] == "worker 0 was killed (SIGKILL) and is started again."
    assert set(made_crew.codes) == {-9}


def test_a_worker_that_ends_by_itself_is_not_started_again(tmp_path: Path) -> None:
    plan = made.of_commands(tmp_path, 1, 1)
    one = crew.Crew(plan, Runs(iter([0])), [], print)  # type: ignore[arg-type]
    for code in (0, 2, 75, 143):
        ended = subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({code})"])
        ended.wait()
        one.workers = [ended]
        assert not one.working() and one.workers == [ended]


def test_the_view_in_a_terminal_and_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = made.of_commands(tmp_path, 2, 2)
    queue = Queue(plan)
    shown = {}
    for terminal in (False, True):
        if terminal:
            monkeypatch.setenv("FORCE_COLOR", "1")
            monkeypatch.setenv("COLUMNS", "300")
        with View("made", made.METRIC, "maximize") as view:
            view.show(read_study(tmp_path)[1])
            if not terminal:
                for result in ({"metrics": {made.METRIC: 0.25}}, {"error": "it is broken."}, {"metrics": {"other": 1}}):
                    taken = queue.take()
                    assert taken is not None
                    if made.METRIC not in result.get("metrics", {made.METRIC: 0}):  # a metric that was added later
                        taken.trial.set_user_attr("result", result)
                        queue.study.tell(taken.trial, 0.0)
                    else:
                        queue.finish(taken, result)
            view.show(read_study(tmp_path)[1])
            view.say("[worker] 1 was killed.")
        shown[terminal] = capsys.readouterr().out
    assert shown[False].splitlines() == [
        "made: 0 of 4 runs ended, 0 running",
        "arm 0, seed 0: test/accuracy 0.2500",
        "arm 1, seed 0: it is broken.",
        "arm 0, seed 1: complete",
        "[worker] 1 was killed.",
    ]
    line = "made: 3 of 4 runs ended, 0 running; 1 failed; best test/accuracy 0.2500 (arm 0, seed 0)"
    assert line in shown[True] and "[worker] 1 was killed." in shown[True] and "\x1b[" in shown[True]
