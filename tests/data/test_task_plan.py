"""Which task a row comes from: laws, exact epochs of each task, resumption."""

import numpy as np
import pytest
from scipy.stats import chisquare

from tlx.data import task_plan
from tlx.data.batches import Batches
from tlx.data.examples import Examples
from tlx.data.task_plan import TaskLaw, TaskPlan, TaskSampling, choose_joint_shape
from tlx.errors import TlxError

SIZES = {"small": 40, "middle": 300, "large": 2100}
LENGTHS = {name: np.random.default_rng(size).integers(2, 60, size) for name, size in SIZES.items()}
NUMBERS = np.array(list(SIZES.values()), float)
LAWS = {
    "uniform": (task_plan.uniform(), np.ones(3)),
    "proportional": (task_plan.proportional(), NUMBERS),
    "capped": (task_plan.proportional(cap=400), np.array([40.0, 300, 400])),
    "temperature": (task_plan.temperature(2.0), np.sqrt(NUMBERS)),
    "temperature, capped": (task_plan.temperature(4.0, cap=1000), np.minimum(NUMBERS, 1000) ** 0.25),
}


def plan_of(law: TaskLaw, batches: str = "mixed", seed: int = 0, steps: int = 3000, batch_size: int = 8) -> TaskPlan:
    return TaskPlan(LENGTHS, batch_size, seed, steps, TaskSampling(law, batches))


def fits(counts: np.ndarray, expected: np.ndarray) -> None:
    """Chi-square: a right law is refused once in a million runs, and the seed is fixed."""
    assert chisquare(counts, expected / expected.sum() * counts.sum()).pvalue > 1e-6


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("batches", ["mixed", "one_task"])
def test_tasks_are_as_frequent_as_the_law_says(name: str, batches: str) -> None:
    law, expected = LAWS[name]
    plan = plan_of(law, batches)
    counts = np.array([plan.counts(step) for step in range(3000)])
    assert (counts.sum(axis=1) == 8).all()
    if batches == "one_task":
        assert (counts.max(axis=1) == 8).all()
        counts //= 8
    fits(counts.sum(axis=0), expected)
    others = [law for other, (law, _) in LAWS.items() if other != name]
    wrong = [other.shares(list(SIZES.values()), np.zeros(1))[0] for other in others]
    assert all(chisquare(counts.sum(axis=0), share * counts.sum()).pvalue < 1e-6 for share in wrong)


@pytest.mark.parametrize("batches", ["mixed", "one_task"])
def test_an_annealed_law_moves_from_one_end_to_the_other(batches: str) -> None:
    plan = plan_of(task_plan.annealed(), batches, steps=4000)
    for first in (0, 1800, 3600):
        steps = range(first, first + 400)
        exponents = 1 - 0.8 * np.array(steps) / 3999
        expected = sum(NUMBERS**a / (NUMBERS**a).sum() for a in exponents)
        counts = sum(plan.counts(step) for step in steps)
        fits(counts // (8 if batches == "one_task" else 1), expected)


def test_draws_of_steps_are_independent() -> None:
    """The task of a step says nothing about that of the next."""
    tasks = np.array([plan_of(task_plan.uniform(), "one_task").counts(step).argmax() for step in range(3000)])
    pairs = np.bincount(3 * tasks[:-1] + tasks[1:], minlength=9)
    fits(pairs, np.ones(9))


@pytest.mark.parametrize("batches", ["mixed", "one_task"])
@pytest.mark.parametrize("law", [task_plan.uniform(), task_plan.proportional()])
def test_every_example_of_a_task_comes_once_an_epoch(batches: str, law: TaskLaw) -> None:
    plan = plan_of(law, batches)
    rows = np.concatenate([plan.batch(step).rows for step in range(1500)])
    first = 0
    counted = plan.epochs(1500)
    for name, size in SIZES.items():
        its = rows[(rows >= first) & (rows < first + size)] - first
        assert counted[name] == len(its) / size
        whole = its[: len(its) // size * size].reshape(-1, size)
        assert (np.sort(whole, axis=1) == np.arange(size)).all()
        assert len(set(its[len(whole) * size :])) == len(its) % size  # what is left of the last epoch
        if len(whole) > 1:
            assert (whole[0] != whole[1]).any()
        first += size


@pytest.mark.parametrize("batches", ["mixed", "one_task"])
def test_a_plan_that_begins_at_any_step_is_the_same(batches: str) -> None:
    plan = plan_of(task_plan.annealed(), batches)
    expected = [plan.batch(step) for step in range(2200)]
    for begin in (2199, 1024, 1023, 1, 0):
        resumed = plan_of(task_plan.annealed(), batches)
        for step in range(begin, min(begin + 30, 2200)):
            found = resumed.batch(step)
            np.testing.assert_array_equal(found.rows, expected[step].rows)
            assert found.length == expected[step].length
    other = plan_of(task_plan.annealed(), batches, seed=1)
    assert any((other.batch(step).rows != expected[step].rows).any() for step in range(5))


@pytest.mark.parametrize("batches", ["mixed", "one_task"])
def test_packed_batches_have_the_rows_that_were_drawn(batches: str) -> None:
    """As many of each task in each step, each task's examples once an epoch, and the same rows from any first step."""
    law, steps, lengths = task_plan.annealed(), 300, np.concatenate(list(LENGTHS.values()))
    sampling = TaskSampling(law, batches)
    shape, tokens = choose_joint_shape(LENGTHS, 16, steps, sampling)
    plan = TaskPlan(LENGTHS, 16, 77, steps, sampling, shape=shape)
    bounds, found = np.cumsum([0, *SIZES.values()]), []
    for step in range(steps):
        batch = plan.batch(step)
        rows = batch.rows[batch.rows >= 0]
        assert batch.rows.shape == (shape.rows, shape.texts) and batch.length == shape.length
        assert np.where(batch.rows >= 0, lengths[batch.rows], 0).sum(axis=1).max() <= shape.length
        np.testing.assert_array_equal(np.histogram(rows, bounds)[0], plan.counts(step))
        found.append(rows)
    every = np.concatenate(found)
    for first, size in zip(bounds, SIZES.values(), strict=False):
        times = np.bincount(every[(every >= first) & (every < first + size)] - first, minlength=size)
        assert times.max() - times.min() <= 1
    padding = 1 - lengths[every].sum() / (steps * shape.rows * shape.length)
    assert padding < (0.06 if batches == "mixed" else 0.35) and 15 * 20 < tokens < 17 * 40
    again = TaskPlan(LENGTHS, 16, 77, steps, sampling, shape=shape)
    for step in (299, 128, 127, 0):
        np.testing.assert_array_equal(again.batch(step).rows, plan.batch(step).rows)


def test_batches_hold_the_rows_of_the_plan() -> None:
    """The fields of a set of all tasks, gathered: the rows of a task are those of its part of the set."""
    plan = plan_of(task_plan.uniform())
    lengths = np.concatenate(list(LENGTHS.values()))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = np.arange(offsets[-1], dtype=np.int32)
    task = np.repeat(np.arange(3), list(SIZES.values()))
    examples = Examples(flat, flat * 0, offsets, {"task": task}, np.arange(len(task)), pad_id=-5)
    batches = Batches(examples, plan, steps=10, multiple=16)
    for step in range(10):
        batch = batches[step]
        assert batch["valid"].tolist() == [True] * 8 + [False] * 8
        np.testing.assert_array_equal(np.bincount(batch["task"][:8], minlength=3), plan.counts(step))
        assert (batch["input_ids"][:8, 0] == offsets[plan.batch(step).rows]).all()


def test_bad_settings_are_refused() -> None:
    with pytest.raises(TlxError, match="above 0"):
        task_plan.temperature(0.0)
    with pytest.raises(TlxError, match="found 'both'"):
        plan_of(task_plan.uniform(), "both")
    with pytest.raises(TlxError, match="'none' has no training examples"):
        TaskPlan({"some": np.ones(3), "none": np.ones(0)}, 2, 0, 10, TaskSampling(task_plan.uniform()))
