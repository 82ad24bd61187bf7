"""Several streams in one step: orders of their own, one padded length."""

import numpy as np

from tlx.data.batches import Batches
from tlx.data.examples import Examples
from tlx.data.plan import TrainingPlan
from tlx.parallel.layout import make_layout
from tlx.training.feed import feed

STEPS = 12


def examples(lengths: np.ndarray, first_id: int) -> Examples:
    total = int(lengths.sum())
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    number = np.arange(first_id, first_id + len(lengths), dtype=np.int64)
    return Examples(np.arange(total, dtype=np.int32), np.zeros(total, np.int32), offsets, {}, number, 0)


def streams(steps: int = STEPS) -> dict[str, Batches]:
    random = np.random.default_rng(0)
    datasets = {
        name: examples(random.integers(low, low + 20, 40), first)
        for name, low, first in (("source", 3, 0), ("target", 30, 100))
    }
    return {
        name: Batches(set_, TrainingPlan(set_.lengths, 8, 5, by_length=False, stream=name), steps)
        for name, set_ in datasets.items()
    }


def test_streams_of_a_step_share_one_length_and_no_order() -> None:
    seen: dict[str, list[int]] = {"source": [], "target": []}
    for batch in feed(streams(), make_layout(1)):
        assert batch["source"]["input_ids"].shape == batch["target"]["input_ids"].shape
        for name, first in (("source", 0), ("target", 100)):
            rows = batch[name]
            seen[name] += np.asarray(rows["position"]).tolist()
            assert np.array_equal(np.asarray(rows["example_id"]) - first, rows["position"])
    for positions in seen.values():  # each epoch of five batches holds every example once
        assert sorted(positions[:40]) == list(range(40)) == sorted(positions[40:80])
    assert seen["source"] != seen["target"]


def test_a_stream_goes_on_where_it_was() -> None:
    whole = list(feed(streams(), make_layout(1)))
    later = list(feed(streams(), make_layout(1), start=7))
    assert len(later) == STEPS - 7
    for a, b in zip(whole[7:], later, strict=True):
        for name in a:
            for field in a[name]:
                assert np.array_equal(a[name][field], b[name][field]), (name, field)


def test_the_order_of_the_training_stream_is_what_it_was() -> None:
    """Runs that began before streams had names go on with the same batches: NumPy's permutation by (seed, epoch)."""
    plan = TrainingPlan(np.ones(40, np.int64), 8, 5, by_length=False)
    for epoch in range(2):
        order = np.random.default_rng((5, epoch)).permutation(40)
        found = [plan.batch(5 * epoch + step).rows.tolist() for step in range(5)]
        assert sorted(map(tuple, found)) == sorted(tuple(order[i : i + 8].tolist()) for i in range(0, 40, 8))
