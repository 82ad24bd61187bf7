"""The queue on SQLite, and a study of commands from beginning to end."""

import collections
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from tlx.errors import TlxError
from tlx.studies.conduct import conduct
from tlx.studies.plan import Plan, make_plan, write_plan
from tlx.studies.queue import Queue
from tlx.studies.records import read_study
from tlx.studies.storage import open_storage, read_trials, seen

FILE = """
from tlx.studies.study import Study
def get_study():
    return Study(
        name="s", config="{config}", seeds={seeds}, metrics={{"test/accuracy": "maximize"}},
        factors={factors},
        commands={commands},
    )
"""
RATES = {"slow": 1e-4, "same": 1e-4, "fast": 1e-3}
SCRIPT = """
import json, sys
assert sys.argv[1] != "1" or sys.argv[3] != "broken", "this arm is broken"
json.dump({"metrics": {"test/accuracy": (5 + int(sys.argv[1])) / 10}}, open(sys.argv[2], "w"))
"""


def plan(folder: Path, seeds: int = 2, rates: dict[str, float] = RATES, commands: object = ()) -> Plan:
    config = Path(__file__).parents[2] / "configs" / "digits.py"
    levels = {name: {"optimizer.learning_rate": rate} for name, rate in rates.items()}
    factors = {"rate": levels} if levels else {}
    (folder / "s.py").write_text(FILE.format(config=config, seeds=seeds, factors=factors, commands=dict(commands)))
    made = make_plan(str(folder / "s.py"), folder)
    write_plan(made)
    return made


def result(value: float) -> dict[str, object]:
    return {"metrics": {"test/accuracy": value}}


def test_trials_are_taken_once_and_only_new_runs_are_added(tmp_path: Path) -> None:
    queues = [Queue(plan(tmp_path)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:  # signals are not handled in threads
        taken = list(pool.map(lambda index: queues[index % 2].take(), range(8)))
    runs = [each for each in taken if each is not None]
    keys = collections.Counter(each.run.key for each in runs)
    assert sorted(keys.values()) == [1] * 4  # the arms `slow` and `same` have the same config
    for each in runs[:3]:
        assert queues[0].finish(each, result(0.5))
    assert queues[0].finish(runs[3], {"error": "it is broken."})
    _, records = read_study(tmp_path)
    assert collections.Counter(record.state for record in records) in (
        {"complete": 4, "failed": 2},
        {"complete": 5, "failed": 1},
    )
    more = Queue(plan(tmp_path, seeds=3, rates={**RATES, "new": 1e-2}))
    added = []
    while (each := more.take()) is not None:
        added.append((each.run.arm.name, each.run.seed))
        more.finish(each, result(0.6))
    assert sorted(added) == [("fast", 2), ("new", 0), ("new", 1), ("new", 2), ("slow", 2)]
    assert read_trials(more.plan.storage, "s") == seen(more.study.get_trials())


def test_a_lost_workers_trial_is_taken_again(tmp_path: Path) -> None:
    queue = Queue(plan(tmp_path, seeds=1, rates={"only": 1e-3}))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    first = queue.take()
    assert first is not None and queue.take() is None
    worker = first.trial.user_attrs["worker"]
    first.trial.set_user_attr("worker", {**worker, "pid": ended.pid})
    again = queue.take()
    assert again is not None and again.folder == first.folder and again.trial.number != first.trial.number
    assert not queue.finish(first, result(0.1)), "the silent worker's result is not recorded"
    queue.give_back(again)
    third = queue.take()
    assert third is not None and queue.finish(third, result(0.9)) and queue.unfinished() == 0
    assert [record.metrics for record in read_study(tmp_path)[1]] == [{"test/accuracy": 0.9}]


@pytest.mark.parametrize("silent", [True, False])
def test_a_run_that_a_silent_worker_holds_or_that_ended_its_worker_comes_last(tmp_path: Path, silent: bool) -> None:
    queue = Queue(plan(tmp_path, seeds=1))
    first = queue.take()
    assert first is not None and first.run.arm.name == "slow"
    if silent:
        queue.give_back(first, busy=True)
    else:
        first.trial.set_user_attr("worker", {**first.trial.user_attrs["worker"], "started": "earlier"})
    others = [queue.take(), queue.take()]
    assert [each.run.arm.name for each in others if each] == ["fast", "slow"]


@pytest.mark.slow
def test_a_study_of_commands_with_a_broken_arm(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    words = [sys.executable, str(tmp_path / "script.py"), "{seed}", "{result}"]
    made = plan(tmp_path, rates={}, commands={"good": [*words, "good"], "broken": [*words, "broken"]})
    records = conduct(made.spec, tmp_path, workers=2)
    found = {(record.arm, record.seed): record for record in records}
    assert [found["good", seed].metrics for seed in (0, 1)] == [{"test/accuracy": 0.5}, {"test/accuracy": 0.6}]
    assert found["broken", 0].state == "complete" and found["broken", 1].state == "failed"
    assert "this arm is broken" in str(found["broken", 1].error)
    kind = optuna.trial.TrialState
    assert collections.Counter(trial.state for trial in Queue(made).study.trials) == {kind.COMPLETE: 3, kind.FAIL: 1}


@pytest.mark.parametrize("scheme", ["mysql", "postgresql+psycopg"])
def test_an_error_does_not_show_the_password(scheme: str) -> None:
    with pytest.raises(TlxError, match=r"//me:…@127\.0\.0\.1:9/runs") as error:
        open_storage(f"{scheme}://me:secret@127.0.0.1:9/runs")
    assert "secret" not in str(error.value)


def test_the_trial_of_a_silent_worker_elsewhere_is_taken_again(tmp_path: Path) -> None:
    queue = Queue(plan(tmp_path, seeds=1, rates={"only": 1e-3}))
    first = queue.take()
    assert first is not None
    first.trial.set_user_attr("worker", {**first.trial.user_attrs["worker"], "host": "elsewhere", "pid": 1})
    again = {}
    for silence in (0, 55, 65):  # seconds; the interval is 20
        with queue.storage.engine.begin() as connection:
            age = f"UPDATE trial_heartbeats SET heartbeat = datetime('now', '-{silence} seconds')"
            connection.execute(sqlalchemy.text(age))
        again[silence] = queue.take()
    assert again[0] is None and again[55] is None
    assert again[65] is not None and again[65].folder == first.folder
    assert not queue.finish(first, result(0.1))
