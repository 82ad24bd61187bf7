"""Δm of a study with single-task arms, against the closed form, and what its report says of arms that lack metrics."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.studies.simulated import facts, trial
from tlx.studies.analysis import analyse
from tlx.studies.gains import measured, with_gains
from tlx.studies.misuse import warnings
from tlx.studies.records import TrialRecord
from tlx.studies.report_tables import results

METRICS = {
    "test/delta_m": "maximize", "validation/delta_m": "maximize", "tone/test/accuracy": "maximize",
    "size/test/loss": "minimize", "tone/validation/accuracy": "maximize", "size/validation/loss": "minimize",
}  # fmt: skip


def run(arm: str, seed: int, alone: str = "", **values: float) -> TrialRecord:
    metrics = {f"{task}/{split}/{name}": values[task] for task, name in (("tone", "accuracy"), ("size", "loss"))
               for split in ("test", "validation") if task in values}  # fmt: skip
    return trial(arm, seed, metrics=metrics, changes={"single_task": alone} if alone else {"method.name": arm})


TRIALS = [
    each
    for seed in range(3)
    for each in (
        run("equal", seed, tone=0.88, size=0.45 + 0.05 * seed), run("pcgrad", seed, tone=0.8, size=0.5),
        run("tone alone", seed, "tone", tone=0.8), run("size alone", seed, "size", size=0.5),
    )
]  # fmt: skip


def test_the_gain_is_over_the_baselines_of_the_same_seed() -> None:
    found = {(one.arm, one.seed): one.metrics for one in with_gains(facts(metrics=METRICS, baseline="equal"), TRIALS)}
    for seed, loss in enumerate((0.45, 0.50, 0.55)):
        expected = (0.1 - (loss - 0.5) / 0.5) / 2
        assert found["equal", seed]["test/delta_m"] == pytest.approx(expected)
        assert found["pcgrad", seed]["validation/delta_m"] == 0
        assert "test/delta_m" not in found["tone alone", seed]
    without = [one for one in TRIALS if (one.arm, one.seed) != ("size alone", 1)]
    seeds = {one.seed for one in with_gains(facts(metrics=METRICS), without) if "test/delta_m" in one.metrics}
    assert seeds == {0, 2}


def test_the_report_lists_an_arm_where_it_has_the_metric() -> None:
    known: Any = facts(metrics=METRICS, baseline="equal")
    study = analyse(known, with_gains(known, TRIALS))
    rows = {metric: [row[0].text for row in results(study, metric).rows] for metric in METRICS}
    assert rows["test/delta_m"] == ["equal", "pcgrad"]
    assert rows["tone/test/accuracy"] == ["equal", "pcgrad", "tone alone"]
    assert rows["size/validation/loss"] == ["equal", "pcgrad", "size alone"]
    assert not any("no finite value" in sentence for sentence in warnings(study))


def test_test_sets_are_compared_task_by_task(tmp_path: Path) -> None:
    def folder(name: str, content: Any) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(content))
        return str(tmp_path / name)

    both = {"data": {"tasks": {"tone": {"sha256": {"test": "a"}}, "size": {"sha256": {"test": "b"}}}}}
    found = [dataclasses.replace(run("equal", 0, tone=0.8, size=0.5), workdir=folder("both", both))]
    for task, digest in (("tone", "a"), ("size", "b"), ("size", "other")):
        alone = {"config": {"single_task": task}, "data": {"sha256": {"test": digest}}}
        one = run(f"{task} alone", 0, task, tone=0.8, size=0.5)
        found.append(dataclasses.replace(one, workdir=folder(f"{task} {digest}", alone)))
    known: Any = facts(metrics=METRICS, baseline="equal")
    assert not any("different test sets" in sentence for sentence in warnings(analyse(known, found[:3])))
    assert any("different test sets" in sentence for sentence in warnings(analyse(known, [found[0], found[3]])))


def test_what_a_run_measures_itself() -> None:
    assert measured(METRICS, None) == tuple(METRICS)[2:]
    assert measured(METRICS, "tone") == ("tone/test/accuracy", "tone/validation/accuracy")
