"""The search that each arm gets before arms are compared: budget, resumption, choice on validation."""

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.studies import made
from tlx.errors import TlxError
from tlx.studies.analysis import analyse
from tlx.studies.plan import Plan, open_plan
from tlx.studies.queue import Queue, Taken
from tlx.studies.records import read_study
from tlx.studies.report import write
from tlx.studies.study import Tuning, is_unseen
from tlx.studies.worker import work

RATE = "optimizer.learning_rate"
METRICS = {"test/accuracy": "maximize", "validation/accuracy": "maximize"}
ARMS = {"schedule": {name: {"optimizer.schedule": name} for name in ("cosine", "constant")}}


def tuned(
    folder: Path, sampler: str = "random", trials: int = 4, space: Any = (1e-5, 1e-1, "log"), **more: Any
) -> Plan:
    tuning = Tuning(space={RATE: space}, trials=trials, sampler=sampler)
    return made.write_study(folder, factors=ARMS, seeds=2, metrics=METRICS, tuning=tuning, **more)


def accuracy(values: Any) -> float:
    """A closed form with its maximum at a rate of 0.01."""
    return float(1 / (1 + abs(values[RATE] - 0.01)))


def result(taken: Taken) -> dict[str, Any]:
    """The rate that is best on validation is the worst on test."""
    value = accuracy(taken.values)
    return {"metrics": {"validation/accuracy": value, "test/accuracy": 1 - value}}


def drain(plan: Plan, each: Callable[[Queue, Taken, int], bool] = lambda *_: False) -> list[Taken]:
    """Runs all trials with results in closed form; `each` may dispose of one and return True."""
    found: list[Taken] = []
    queue = Queue(plan)
    while (taken := queue.take()) is not None:
        found.append(taken)
        if each(queue, taken, len(found)):
            queue = Queue(open_plan(plan.workdir))  # another worker
        else:
            assert queue.finish(taken, result(taken))
    return found


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_arms_get_one_budget_and_the_values_that_validation_prefers(tmp_path: Path, sampler: str) -> None:
    plan = tuned(tmp_path, sampler)
    found = drain(plan)
    tried = [taken for taken in found if taken.search]
    assert found[: len(tried)] == tried, "no arm is compared before the searches have ended"
    by_arm = collections.defaultdict(list)
    for taken in tried:
        by_arm[taken.run.arm.name].append(taken.values[RATE])
    assert {name: len(set(rates)) for name, rates in by_arm.items()} == {"cosine": 4, "constant": 4}
    compared = [taken for taken in found if not taken.search]
    assert sorted((taken.run.arm.name, taken.run.seed) for taken in compared) == [
        (name, seed) for name in ("constant", "cosine") for seed in (0, 1)
    ]
    for taken in compared:
        best = min(by_arm[taken.run.arm.name], key=lambda rate: abs(rate - 0.01))
        assert taken.values == {RATE: best}
        assert plan.config_of(taken.run, taken.values).optimizer.learning_rate == best
    _, records = read_study(tmp_path)
    assert {record.budget["tuning trials"] for record in records} == {4}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_that_is_disturbed_tries_the_same_values(tmp_path: Path, sampler: str) -> None:
    calm = drain(tuned(tmp_path / "calm", sampler))

    def disturb(queue: Queue, taken: Taken, number: int) -> bool:
        if number % 3 == 1:  # stopped by a signal
            queue.give_back(taken)
        elif number % 3 == 2:  # killed
            taken.trial.set_user_attr("worker", {**taken.trial.user_attrs["worker"], "started": "earlier"})
        return number % 3 > 0

    disturbed = drain(tuned(tmp_path / "disturbed", sampler), disturb)
    assert len(disturbed) > len(calm)

    def seen(trials: list[Taken]) -> set[tuple[Any, ...]]:
        return {(taken.run.key, bool(taken.search), *taken.values.items()) for taken in trials}

    assert seen(disturbed) == seen(calm)
    folders = collections.defaultdict(set)
    for taken in disturbed:
        folders[taken.run.key, bool(taken.search), taken.values[RATE]].add(taken.folder)
    assert all(len(names) == 1 for names in folders.values()), "a run goes on from its checkpoint"
    for search in Queue(open_plan(tmp_path / "disturbed")).searches.values():
        complete = [trial for trial in search.study.get_trials() if trial.state.name == "COMPLETE"]
        assert len(complete) == 4


def test_repeated_values_are_one_run_and_failed_trials_count(tmp_path: Path) -> None:
    plan = tuned(tmp_path, trials=6, space=[1e-3, 1e-2])

    def fail(queue: Queue, taken: Taken, number: int) -> bool:
        return number == 1 and queue.finish(taken, {"error": "it is broken."})

    found = drain(plan, fail)
    tried = collections.Counter((taken.run.arm.name, taken.values[RATE]) for taken in found[1:] if taken.search)
    assert set(tried.values()) == {1}
    searches = Queue(plan).searches
    for search in searches.values():
        states = collections.Counter(trial.state.name for trial in search.study.get_trials())
        assert states["COMPLETE"] + states["FAIL"] == 6 and search.best() == {RATE: 1e-2}


def test_values_are_not_tuned_on_test(tmp_path: Path) -> None:
    with pytest.raises(TlxError, match="tuned values are selected on validation"):
        tuned(tmp_path, select="test/accuracy")


@pytest.mark.parametrize(
    ("metric", "unseen"),
    [
        ("test/accuracy", True), ("tone/test/accuracy", True), ("target_test/accuracy", True),
        ("oracle/target_test/accuracy", True), ("test/delta_m", True), ("validation/accuracy", False),
        ("tone/validation/latest", False), ("validator/entropy", False),
    ],
)  # fmt: skip
def test_a_search_sees_no_metric_of_a_test_set(metric: str, unseen: bool) -> None:
    assert is_unseen(metric) == unseen


@pytest.mark.slow
@pytest.mark.long
def test_training_is_tuned_and_the_report_has_the_values(tmp_path: Path) -> None:
    tuning = Tuning(space={RATE: [1e-6, 3e-3]}, trials=3, sampler="tpe")
    plan = made.of_training(tmp_path, tuning=tuning, factors=ARMS, seeds=1, short={"train.epochs": 4.0})
    ended = work(tmp_path)
    facts, records = read_study(tmp_path)
    chosen = {record.arm: record.changes[RATE] for record in records}
    tried = 0
    for name, search in Queue(plan).searches.items():
        trials = search.study.get_trials()
        assert len(trials) == 3
        by_rate = {trial.params[RATE]: trial.user_attrs["result"]["metrics"] for trial in trials}
        tried += len(by_rate)
        assert chosen[name] == max(by_rate, key=lambda rate: by_rate[rate]["validation/accuracy"])
        assert not [metric for metrics in by_rate.values() for metric in metrics if metric.startswith("test/")]
    assert ended == tried + 2, "each value once for each arm, then the arms"
    assert "optimizer.learning_rate of each arm by validation/accuracy, 3 tpe trials" in facts.selection
    assert work(tmp_path) == 0
    written = write(analyse(facts, records), tmp_path / "report")
    table = next(file for file in written if file.suffix == ".md").read_text()
    assert all(str(rate) in table for rate in chosen.values())
