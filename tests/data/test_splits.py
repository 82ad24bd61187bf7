"""Cuts: fixed by a rule, groups whole, order of rows irrelevant."""

import hashlib

import numpy as np
import pytest

from tlx.data.splits import split_by_group, subsample_per_class
from tlx.errors import TlxError

KEYS = [f"key {i % 70}" for i in range(200)]


def test_groups_stay_whole_and_nothing_is_lost() -> None:
    parts = split_by_group(KEYS, {"test": 0.2, "validation": 0.1}, 0)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(200))
    keys = {part: {KEYS[i] for i in rows} for part, rows in parts.items()}
    assert [len(keys[part]) for part in ("train", "test", "validation")] == [49, 14, 7]
    assert len(set.union(*keys.values())) == sum(len(k) for k in keys.values())


def test_the_rule_is_the_documented_one() -> None:
    order = sorted(set(KEYS), key=lambda key: hashlib.sha256(f"3:{key}".encode()).hexdigest())
    parts = split_by_group(KEYS, {"test": 0.2}, 3)
    assert {KEYS[i] for i in parts["test"]} == set(order[:14])


def test_the_order_of_rows_is_irrelevant() -> None:
    order = np.random.default_rng(0).permutation(200)
    shuffled = [KEYS[i] for i in order]
    one, other = split_by_group(KEYS, {"test": 0.3}, 1), split_by_group(shuffled, {"test": 0.3}, 1)
    assert {KEYS[i] for i in one["test"]} == {shuffled[i] for i in other["test"]}


def test_refused() -> None:
    with pytest.raises(TlxError, match="sum to less than 1"):
        split_by_group(KEYS, {"a": 0.5, "b": 0.5}, 0)
    with pytest.raises(TlxError, match="too few for a validation split"):
        split_by_group(["a", "b"], {"validation": 0.1}, 0)


def test_few_of_each_class() -> None:
    labels = ["a", "b", "a", "c", "b", "a", "c", "b", "a"]
    rows = subsample_per_class(labels, 2, seed=1)
    assert rows.tolist() == sorted(rows.tolist())
    assert sorted(labels[row] for row in rows) == ["a", "a", "b", "b", "c", "c"]
    first = sorted((0, 2, 5, 8), key=lambda row: hashlib.sha256(f"1:{row}".encode()).hexdigest())[:2]
    assert {row for row in rows.tolist() if labels[row] == "a"} == set(first)
    assert any(
        subsample_per_class(labels, 1, seed).tolist() != subsample_per_class(labels, 1, 0).tolist()
        for seed in range(1, 9)
    )
    with pytest.raises(TlxError, match=r"data\.per_class is 3, but the class 'c' has 2 training examples"):
        subsample_per_class(labels, 3, 0)
