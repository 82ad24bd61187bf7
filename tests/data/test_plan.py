"""The plan of batches: a pure function of seed and step."""

import numpy as np
import pytest

from tlx.data.batches import Batches
from tlx.data.examples import Examples
from tlx.data.plan import LENGTH_BUCKETS, EvaluationPlan, TrainingPlan, padded

LENGTHS = np.random.default_rng(0).integers(2, 60, size=103)


def rows_of(plan: TrainingPlan, steps: range) -> list[list[int]]:
    return [plan.batch(step).rows.tolist() for step in steps]


@pytest.mark.parametrize("by_length", [True, False])
def test_every_example_once_an_epoch(by_length: bool) -> None:
    plan = TrainingPlan(LENGTHS, 8, 0, by_length=by_length)
    assert plan.steps_per_epoch == 13
    epochs = [[row for rows in rows_of(plan, range(e * 13, e * 13 + 13)) for row in rows] for e in range(2)]
    for epoch in epochs:
        assert len(epoch) == 104 and sorted(epoch) == [-1, *range(103)]
    assert epochs[0] != epochs[1]


def test_any_order_of_asking_gives_the_same() -> None:
    plan, again = TrainingPlan(LENGTHS, 8, 0), TrainingPlan(LENGTHS, 8, 0)
    assert rows_of(plan, range(40)) == list(reversed(rows_of(again, range(39, -1, -1))))
    assert rows_of(plan, range(13)) != rows_of(TrainingPlan(LENGTHS, 8, 1), range(13))


def test_sorting_by_length_saves_padding_and_all_texts_fit() -> None:
    lengths = np.random.default_rng(1).integers(2, 200, size=2000)
    area = {}
    for by_length in (True, False):
        plan = TrainingPlan(lengths, 16, 0, by_length=by_length)
        batches = [plan.batch(step) for step in range(plan.steps_per_epoch)]
        assert all(lengths[b.rows[b.rows >= 0]].max() <= b.length and b.length in LENGTH_BUCKETS for b in batches)
        area[by_length] = sum(b.length * 16 for b in batches)
    assert area[True] < 1.25 * lengths.sum() < 1.6 * lengths.sum() < area[False]


def test_length_buckets() -> None:
    assert [padded(n, LENGTH_BUCKETS) for n in (1, 4, 5, 9, 13, 17, 25, 512)] == [4, 4, 8, 12, 16, 24, 32, 512]
    assert padded(99, (8, 16)) == 99


@pytest.mark.parametrize("batch_size", [1, 7, 64, 200])
@pytest.mark.parametrize("multiple", [1, 8])
def test_evaluation_sees_each_example_once(batch_size: int, multiple: int) -> None:
    plan = EvaluationPlan(LENGTHS, batch_size)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    flat = np.arange(offsets[-1], dtype=np.int32)
    examples = Examples(flat, flat * 0, offsets, {"label": np.arange(103)}, np.arange(103) + 1000, pad_id=-5)
    batches = Batches(examples, plan, plan.steps_per_epoch, multiple)
    seen: list[int] = []
    for step in range(len(batches)):
        batch = batches[step]
        assert len(batch["valid"]) % multiple == 0
        for i in np.flatnonzero(batch["valid"]):
            row = batch["example_id"][i] - 1000
            seen.append(row)
            length = LENGTHS[row]
            assert batch["label"][i] == row
            assert batch["attention_mask"][i].tolist() == [1] * length + [0] * (batch["input_ids"].shape[1] - length)
            assert batch["input_ids"][i, :length].tolist() == list(range(offsets[row], offsets[row + 1]))
            assert (batch["input_ids"][i, length:] == -5).all()
        assert (batch["example_id"][~batch["valid"]] == -1).all()
    assert sorted(seen) == list(range(103))
