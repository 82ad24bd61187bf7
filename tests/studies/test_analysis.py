"""How trials become arms, which metrics are reported, effects of factors, and what is called out."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.studies.simulated import FREEZING, RATES, SIZES, facts, grid, trial
from tlx.errors import TlxError
from tlx.studies.analysis import Analysis, analyse
from tlx.studies.effects import effects
from tlx.studies.misuse import warnings

MAIN = {"test/accuracy": "maximize"}


def study(trials: list, **changed: Any) -> Analysis:
    return analyse(facts(**{"baseline": trials[0].arm, "metrics": MAIN, **changed}), trials)


def values(arm: str, found: list[float], **changed: Any) -> list:
    return [
        trial(arm, seed, metrics={"test/accuracy": value, "validation/accuracy": value}, **changed)
        for seed, value in enumerate(found)
    ]


GOOD = values("base", [0.80, 0.81, 0.83]) + values("other", [0.82, 0.85, 0.84])


def test_test_and_validation_of_a_metric_are_both_reported() -> None:
    found = study(GOOD)
    assert found.metrics == {"test/accuracy": True, "validation/accuracy": True}
    assert (found.main, found.ranking) == ("test/accuracy", "validation/accuracy")
    assert list(study(GOOD, metrics={"accuracy": "minimize"}).metrics) == ["test/accuracy", "validation/accuracy"]


def test_only_finished_trials_count() -> None:
    trials = [
        *GOOD, trial("other", 3, state="failed", error="x"), trial("other", 4, state="running"),
        trial("other", 5, metrics={"test/accuracy": float("nan")}),
    ]  # fmt: skip
    found = study(trials)
    _, other = found.arms
    assert (len(other.complete), len(other.failed), len(other.unfinished)) == (4, 1, 1)
    assert other.values("test/accuracy") == {0: 0.82, 1: 0.85, 2: 0.84}
    difference = found.differences("test/accuracy")["other"]
    assert difference.p == pytest.approx(stats.ttest_rel([0.82, 0.85, 0.84], [0.80, 0.81, 0.83]).pvalue)


def test_arms_are_ranked_on_validation() -> None:
    lucky = [trial("lucky", s, metrics={"test/accuracy": 0.99, "validation/accuracy": 0.10 + s / 99}) for s in range(3)]
    found = study([*GOOD, *lucky])
    assert [arm.name for arm in found.best(2)] == ["base", "other"]
    unranked = study([*GOOD, *(trial("command", s, metrics={"test/accuracy": 0.8}) for s in range(3))])
    assert [arm.name for arm in unranked.best(3)] == ["base", "other", "command"]
    assert list(unranked.metrics) == ["test/accuracy"]  # a table of validation would lack an arm


def test_the_effects_of_a_grid_are_the_means_it_was_drawn_from() -> None:
    found = effects(study(grid(30), baseline="all, 1e-4, 4000"), "test/accuracy")
    true = {("freezing", k): v for k, v in FREEZING.items() if v} | {("rate", k): v for k, v in RATES.items() if v}
    true |= {("size", "500"): SIZES["500"]}
    assert {(e.factor, e.level) for e in found} == set(true)
    for effect in found:
        assert effect.matched == (9 if effect.factor == "size" else 6)
        assert effect.difference.interval.mean == pytest.approx(true[effect.factor, effect.level], abs=0.003)
        assert effect.difference.adjusted_p < 0.001


def test_an_effect_compares_arms_that_differ_in_this_factor_alone() -> None:
    """One factor at a time, of which a naive mean over all arms of a level would mix both factors."""
    trials = [
        *values("base", [0.80, 0.81, 0.83], factors={"a": "0", "b": "0"}),
        *values("a", [0.70, 0.72, 0.71], factors={"a": "1", "b": "0"}),
        *values("b", [0.50, 0.55, 0.52], factors={"a": "0", "b": "1"}),
    ]
    a, b = effects(study(trials), "test/accuracy")
    assert (a.factor, a.level, a.reference, a.matched) == ("a", "1", "0", 1)
    assert a.difference.interval.mean == pytest.approx(np.mean([-0.10, -0.09, -0.12]))
    assert b.difference.interval.mean == pytest.approx(np.mean([-0.30, -0.26, -0.31]))


def test_a_right_study_has_no_warning() -> None:
    assert warnings(study(GOOD)) == []


def test_wrong_uses_are_called_out(tmp_path: Path) -> None:
    def said(trials: list, **changed: Any) -> str:
        (only,) = warnings(study(trials, **changed))
        return only

    one = [*GOOD, trial("single", 0, metrics={"test/accuracy": 0.9, "validation/accuracy": 0.9})]
    found = warnings(study(one))
    assert found[0] == "One seed has no interval and cannot be tested: “single”." and "Seeds differ" in found[1]
    assert said(GOOD, selection="best test/accuracy of all arms").startswith("Test was used for selection")
    without = [dataclasses.replace(t, metrics={"test/accuracy": t.metrics["test/accuracy"]}) for t in GOOD]
    assert said(without).startswith("The trials record no metric on validation")
    longer = [dataclasses.replace(t, budget={"epochs": 9}) if t.arm == "other" else t for t in GOOD]
    assert said(longer).endswith("epochs 3: “base”; epochs 9: “other”.")
    assert said([*GOOD, trial("other", 9, state="waiting")]) == (
        "1 trial is not finished: “other”. The numbers will change."
    )
    assert said([*GOOD, trial("other", 9, state="failed")]) == "1 trial failed and is in no mean: “other”."
    assert "dirty tree" in said(GOOD, dirty=True)
    assert "several revisions" in said(GOOD, revision="1a, 2b")
    assert "same arm and seed" in said([*GOOD, GOOD[-1]])
    assert "the seed may not reach the run" in said(values("base", [0.8, 0.8, 0.8]) + GOOD[3:])
    assert "no finite value of test/accuracy" in said(
        [*GOOD, *(trial(arm, 3, metrics={"validation/accuracy": 0.8}) for arm in ("base", "other"))]
    )


def test_sets_that_are_the_same_or_differ_are_called_out(tmp_path: Path) -> None:
    def run(name: str, **data: object) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"data": data}))
        return str(tmp_path / name)

    same = run("same", sha256={"validation": "a", "test": "a"})
    other = run("other", sha256={"validation": "a", "test": "b"}, also_in_train={"test": 3})
    assert "are the same set" in warnings(study([dataclasses.replace(GOOD[0], workdir=same), *GOOD[1:]]))[0]
    found = warnings(
        study([dataclasses.replace(GOOD[0], workdir=same), dataclasses.replace(GOOD[1], workdir=other), *GOOD[2:]])
    )
    assert "Up to 3 examples" in found[1] and "different test sets" in found[2]


def test_what_cannot_be_reported() -> None:
    with pytest.raises(TlxError, match="has no trial yet"):
        analyse(facts(), [])
    with pytest.raises(TlxError, match="no trial of a baseline 'none'; its arms are base, other"):
        analyse(facts(), GOOD, baseline="none")
