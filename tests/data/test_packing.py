"""Packed plans: every text once, whole, in a row with room for it; and little padding."""

import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tlx.data.batches import Batches
from tlx.data.examples import Examples
from tlx.data.packed_shape import choose_shape, shape_of_chunk
from tlx.data.packing import PackedShape, arrange, longest_row, pack_all
from tlx.data.places import Places
from tlx.data.plan import EvaluationPlan, TrainingPlan
from tlx.data.samplers import Weighted

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "packing"))

import padding as benchmark

LENGTHS = arrays(np.int64, st.integers(1, 150), elements=st.integers(1, 60))
SKEWED = np.random.default_rng(0).geometric(0.05, 700).clip(3, 90)


@given(LENGTHS, st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_an_epoch_has_every_text_once(lengths: np.ndarray, batch_size: int, multiple: int, seed: int) -> None:
    shape = choose_shape(lengths, batch_size, multiple=multiple)
    plan = TrainingPlan(lengths, batch_size, seed, shape=shape)
    again = TrainingPlan(lengths, batch_size, seed, shape=shape)
    assert shape.rows % multiple == 0 and shape.texts < shape.length >= lengths.max()
    for epoch in range(2):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        batches = [plan.batch(step) for step in steps]
        for step, batch in reversed(list(zip(steps, batches, strict=True))):
            assert batch.rows.shape == (shape.rows, shape.texts)
            assert np.array_equal(again.batch(step).rows, batch.rows) and again.batch(step).length == batch.length
            assert longest_row(lengths, batch.rows) <= batch.length
            assert batch.length == shape.length or longest_row(lengths, batch.rows) > shape.length
        counts = [int((batch.rows >= 0).sum()) for batch in batches]
        assert counts[:-1] == [batch_size] * (len(counts) - 1)
        assert sorted(np.concatenate([batch.rows[batch.rows >= 0] for batch in batches])) == list(range(len(lengths)))


@given(LENGTHS, LENGTHS, st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_evaluation_has_every_text_once_in_any_shape_that_is_long_enough(
    lengths: np.ndarray, others: np.ndarray, batch_size: int
) -> None:
    longest = int(max(lengths.max(), others.max()))
    for shape in (choose_shape(others, batch_size, longest=longest), shape_of_chunk(lengths, batch_size)):
        packed = pack_all(lengths, shape)
        assert packed.shape[1:] == (shape.rows, shape.texts)
        assert longest_row(lengths, packed) <= shape.length
        assert sorted(packed[packed >= 0]) == list(range(len(lengths)))


def test_a_batch_into_whose_shape_its_texts_do_not_fit_has_longer_rows() -> None:
    plan = TrainingPlan(np.array([7, 7, 7, 7]), 4, 0, shape=PackedShape(1, 4, 16))
    assert plan.batch(0).length == 64 and sorted(plan.batch(0).rows[0]) == [0, 1, 2, 3]


def test_orders_differ_by_epoch_seed_and_stream() -> None:
    shape = choose_shape(SKEWED, 32)
    first = [TrainingPlan(SKEWED, 32, 0, shape=shape).batch(step).rows.tolist() for step in (0, 22)]
    others = [
        TrainingPlan(SKEWED, 32, seed, stream=stream, shape=shape).batch(0).rows.tolist()
        for seed, stream in ((1, "train"), (0, "other"))
    ]
    assert len({str(rows) for rows in (*first, *others)}) == 4


def test_texts_share_batches_at_random() -> None:
    """Over many epochs a text shares its batch about as often with each other one: lengths decide little.

    Where texts are sorted by length, those of one length share every batch.
    """
    lengths, epochs = np.repeat([5, 10, 15, 20], 16), 300
    shape = choose_shape(lengths, 16)
    plan, together = TrainingPlan(lengths, 16, 0, shape=shape), np.zeros((64, 64))
    for step in range(4 * epochs):
        rows = plan.batch(step).rows
        texts = rows[rows >= 0]
        together[np.ix_(texts, texts)] += 1
    share = together[~np.eye(64, dtype=bool)] / epochs
    assert abs(share.mean() - 15 / 63) < 1e-12  # by counting
    by_length = together.reshape(4, 16, 4, 16).sum(axis=(1, 3)) / epochs / 256
    assert np.abs(by_length - 15 / 63).max() < 0.06


def test_samples_with_replacement() -> None:
    sampler = Weighted(np.linspace(0, 1, len(SKEWED)))
    shape = choose_shape(SKEWED, 16, sampler=sampler)
    plan = TrainingPlan(SKEWED, 16, 3, sampler=sampler, shape=shape)
    seen = Counter(
        int(text) for step in range(plan.steps_per_epoch) for text in plan.batch(step).rows.ravel() if text >= 0
    )
    expected = sampler.order(len(SKEWED), np.random.default_rng((3, 0)))
    assert seen == Counter(expected.tolist()) and max(seen.values()) > 1


def test_batches_hold_the_tokens_and_fields_of_their_texts() -> None:
    random = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(SKEWED)]).astype(np.int64)
    ids, types = random.integers(1, 99, offsets[-1], np.int32), random.integers(0, 2, offsets[-1], np.int32)
    tags = random.integers(0, 5, offsets[-1], np.int32)
    fields = {"label": random.normal(size=(len(SKEWED), 2))}
    examples = Examples(ids, types, offsets, fields, np.arange(len(SKEWED)) + 1000, -7, {"tag": tags})
    shape = choose_shape(SKEWED, 24)
    plan = TrainingPlan(SKEWED, 24, 0, shape=shape)
    batches, seen = Batches(examples, plan, plan.steps_per_epoch, multiple=8), set()
    for step in range(len(batches)):
        batch, tokens = batches[step], 0
        rows = -(-shape.rows // 8) * 8
        assert batch["input_ids"].shape == (rows, shape.length) and batch["valid"].shape == (rows, shape.texts)
        for row, place in np.argwhere(batch["valid"]):
            text = batch["position"][row, place]
            flat = slice(offsets[text], offsets[text + 1])
            start = batch["text_starts"][row, place]
            there = slice(start, start + SKEWED[text])
            for name, values in {"input_ids": ids, "token_type_ids": types, "tag": tags}.items():
                np.testing.assert_array_equal(batch[name][row, there], values[flat])
            assert (batch["segment_ids"][row, there] == place + 1).all()
            np.testing.assert_array_equal(batch["label"][row, place], fields["label"][text])
            assert batch["example_id"][row, place] == text + 1000
            tokens += SKEWED[text]
            seen.add(int(text))
        padding = batch["segment_ids"] == 0
        assert padding.sum() == padding.size - tokens and (batch["input_ids"][padding] == -7).all()
        assert (batch["example_id"][~batch["valid"]] == -1).all() and "attention_mask" not in batch
    assert len(seen) == len(SKEWED)


def test_places_of_texts_alone_and_packed() -> None:
    offsets = np.array([0, 2, 5, 6])
    alone = Places.of(offsets, np.array([2, -1, 0]), 3)
    assert alone.source.tolist() == [5, 0, 1] and alone.target.tolist() == [0, 6, 7]
    packed = Places.of(offsets, np.array([[1, -1, 2], [-1, -1, 0]]), 4)
    assert packed.source.tolist() == [2, 3, 4, 5, 0, 1] and packed.target.tolist() == [0, 1, 2, 3, 4, 5]
    assert packed.text.tolist() == [0, 0, 0, 2, 2, 2] and packed.starts.tolist() == [[0, 0, 3], [0, 0, 0]]


def test_an_arrangement_depends_on_its_arguments_alone() -> None:
    shape = choose_shape(SKEWED, 32)
    order = np.random.default_rng(5).permutation(len(SKEWED))
    made = [arrange(SKEWED, order.copy(), 32, shape, np.random.default_rng(6)) for _ in range(2)]
    np.testing.assert_array_equal(*made)


@pytest.mark.skipif("TLX_DATA" not in os.environ, reason="TLX_DATA is not set")
@pytest.mark.parametrize("name", benchmark.SETS)
def test_padding_of_data_sets(name: str) -> None:
    """Under 5 % of the tokens of three epochs, in batches of 32 that all have one shape."""
    lengths = benchmark.lengths_of(Path(os.environ["TLX_DATA"]), name)
    shape = choose_shape(lengths, benchmark.BATCH)
    batches = benchmark.batches_of(TrainingPlan(lengths, benchmark.BATCH, 1, shape=shape))
    assert benchmark.padding(lengths, batches) < 0.05 and {batch.length for batch in batches} == {shape.length}
    evaluation = choose_shape(lengths, 64)
    plan = EvaluationPlan(lengths, 64, shape=evaluation)
    assert 1 - lengths.sum() / (plan.steps_per_epoch * evaluation.rows * evaluation.length) < 0.06
