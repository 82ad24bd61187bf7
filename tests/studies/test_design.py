"""Designs against combinations that itertools enumerates."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from tlx.errors import TlxError
from tlx.studies.design import arms
from tlx.studies.plan import make_plan
from tlx.studies.study import Study

FACTORS = {
    "a": {"a0": {"x": 0}, "a1": {"x": 1}},
    "b": {"b0": {"y": 0}, "b1": {"y": 1}, "b2": {"y": 2}},
    "c": {"c0": {"z": 0}, "c1": {"z": 1}},
}


def study(**fields: Any) -> Study:
    given = {"name": "s", "config": "", "factors": FACTORS, "metrics": {"test/accuracy": "maximize"}, **fields}
    return Study(**given)


def levels(made: Study) -> list[tuple[str, ...]]:
    return [tuple(arm.factors.values()) for arm in arms(made)]


def test_grid_without_excluded_combinations() -> None:
    wanted = [
        combination for combination in itertools.product(*FACTORS.values())
        if not (combination[0] == "a1" and combination[1] in ("b1", "b2"))
    ]  # fmt: skip
    assert levels(study(exclude=({"a": "a1", "b": ("b1", "b2")},))) == wanted
    changes = {tuple(arm.changes.values()) for arm in arms(study())}
    assert changes == set(itertools.product((0, 1), (0, 1, 2), (0, 1)))


def test_one_at_a_time_leave_one_out_paired() -> None:
    base = ("a0", "b0", "c0")
    alone = [each for each in itertools.product(*FACTORS.values()) if sum(x != y for x, y in zip(each, base)) == 1]
    found = levels(study(design="one_at_a_time"))
    assert found[0] == base and sorted(found[1:]) == sorted(alone)
    left_out = [("a1", "b2", "c1"), ("a0", "b2", "c1"), ("a1", "b0", "c1"), ("a1", "b2", "c0")]
    assert levels(study(design="leave_one_out")) == left_out
    assert [arm.name for arm in arms(study(design="leave_one_out"))] == ["all", "without a", "without b", "without c"]
    two = {name: FACTORS[name] for name in ("a", "c")}
    assert levels(study(design="paired", factors=two)) == [("a0", "c0"), ("a1", "c1")]


def test_the_baseline_comes_first_and_levels_may_not_contradict() -> None:
    assert levels(study(baseline={"b": "b2"}))[0] == ("a0", "b2", "c0")
    with pytest.raises(TlxError, match="x is set by two levels"):
        arms(study(factors={"a": {"a0": {"x": 0}}, "b": {"b0": {"x": 1}}}))


def test_arms_do_not_get_each_others_changes(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "from tlx.studies.study import Study\n"
        "levels = {'full': {}, 'head': {'params.trainable': 'heads'}, 'lora': {'lora.rank': 8}}\n"
        "def get_study():\n"
        "    return Study(name='s', factors={'trained': levels}, seeds=2, metrics={'test/accuracy': 'maximize'})\n"
    )
    plan = make_plan(str(tmp_path / "s.py"), tmp_path)
    configs = [plan.config_of(run) for run in plan.runs]
    assert [(c.params.trainable, c.lora.rank, c.seed) for c in configs[:3]] == [("", 0, 0), ("heads", 0, 0), ("", 8, 0)]
    assert plan.config.params.trainable == "" and configs[5].seed == 1
    assert len({run.key for run in plan.runs}) == 6
