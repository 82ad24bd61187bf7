"""Masking of tokens: the counts of BERT's own script, the shares by chi-square, and what the draws depend on."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from tlx.augment.masking import Masked, Masking, Words, mask_tokens
from tlx.errors import TlxError

MASK, SPECIAL, SIZE = 3, 5, 40  # ids below SPECIAL are never masked
WORDS = Words(MASK, SIZE)
KEY = jax.random.key(7)
USUAL = Masking()


def texts(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    """[CLS], words, [SEP]."""
    random = np.random.default_rng(seed)
    return [np.array([1, *random.integers(SPECIAL, SIZE, n), 2]) for n in lengths]


def masked(rows: list[np.ndarray], ids: Any, length: int, settings: Masking = USUAL, key: Any = KEY) -> Masked:
    batch = np.zeros((len(rows), length), np.int32)
    for row, text in zip(batch, rows, strict=True):
        row[: len(text)] = text
    return jax.jit(mask_tokens, static_argnums=(0, 1))(settings, WORDS, key, batch, batch >= SPECIAL, np.array(ids))


def by_text(found: Masked, row: int) -> dict[int, tuple[int, int]]:
    """{place: (what it was, what it became)} of the chosen tokens of a row."""
    there = np.asarray(found.chosen[row])
    places = np.asarray(found.positions[row])[there].tolist()
    assert len({*places}) == len(places)
    became = np.asarray(found.input_ids[row])[places].tolist()
    return dict(zip(places, zip(np.asarray(found.labels[row])[there].tolist(), became, strict=True), strict=True))


def test_as_many_as_in_berts_script_and_no_special_token() -> None:
    """`create_masked_lm_predictions`: num_to_predict = max(1, int(round(len(tokens) * masked_lm_prob)))."""
    lengths = [*range(41)]
    rows = texts(lengths)
    found = masked(rows, range(len(rows)), 60)
    for number, (length, text) in enumerate(zip(lengths, rows, strict=True)):
        chosen = by_text(found, number)
        assert len(chosen) == (max(1, round(length * 0.15)) if length else 0)
        assert all(text[place] == label >= SPECIAL for place, (label, _) in chosen.items())
        others = [place for place in range(len(text)) if place not in chosen]
        np.testing.assert_array_equal(np.asarray(found.input_ids[number])[others], text[others])
        assert not np.asarray(found.input_ids[number])[len(text) :].any()


def test_the_shares_are_those_of_the_paper() -> None:
    """80 % mask, 10 % a random token (one in SIZE of which is the token itself), 10 % unchanged; places are uniform."""
    (text,) = texts([20])
    found = masked([text] * 8000, range(8000), 22)
    assert found.chosen.all() and found.chosen.shape == (8000, 3)
    became = np.take_along_axis(np.asarray(found.input_ids), np.asarray(found.positions), axis=1)
    is_mask, same = became == MASK, became == np.asarray(found.labels)
    n, other = became.size, 0.1 * (SIZE - 2) / SIZE  # neither the mask token nor the same
    expected = np.array([0.8 + 0.1 / SIZE, 0.1 + 0.1 / SIZE, other]) * n
    assert chisquare([is_mask.sum(), same.sum(), n - is_mask.sum() - same.sum()], expected).pvalue > 1e-3
    assert chisquare(np.bincount(np.asarray(found.positions).ravel(), minlength=21)[1:]).pvalue > 1e-3
    random = became[~is_mask & ~same]
    counts = np.bincount(random, minlength=SIZE)
    assert counts[[0, 1, 2, 4]].all()  # any token of the vocabulary


@pytest.mark.parametrize(("masked_", "random"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_other_shares(masked_: float, random: float) -> None:
    rows = texts([30] * 50)
    found = masked(rows, range(50), 32, Masking(0.5, masked_, random))
    there = np.asarray(found.chosen)
    assert (there.sum(axis=1) == 15).all()
    became = np.take_along_axis(np.asarray(found.input_ids), np.asarray(found.positions), axis=1)[there]
    assert (became == MASK).all() == (masked_ == 1)
    assert (became == np.asarray(found.labels)[there]).all() == (masked_ == random == 0)


def test_draws_depend_on_key_and_example_alone() -> None:
    """Not on padding, the row, or other texts; equal texts of other examples and other keys have other masks."""
    rows = texts([12, 30, 30, 7])
    rows[2] = rows[1]
    found = masked(rows, [4, 9, 10, 2], 40)
    again = masked(rows[::-1], [2, 10, 9, 4], 64)
    assert [by_text(found, row) for row in range(4)] == [by_text(again, 3 - row) for row in range(4)]
    assert by_text(found, 1) != by_text(found, 2)
    assert by_text(masked(rows, [4, 9, 10, 2], 40, key=jax.random.key(8)), 1) != by_text(found, 1)


def test_packed_texts_have_the_masks_that_they_have_alone() -> None:
    rows = texts([12, 30, 5, 0, 7, 1])
    found = masked(rows, [4, 9, 10, 2, 3, 77], 40)
    packing, length = [[0, 1], [2, 3, 4, 5]], 48
    ids, segments = np.zeros((2, length), np.int32), np.zeros((2, length), np.int32)
    starts, owners = np.zeros((2, 5), np.int32), np.full((2, 5), -1)
    for row, members in enumerate(packing):
        at = 0
        for number, member in enumerate(members):
            text = rows[member]
            ids[row, at : at + len(text)], segments[row, at : at + len(text)] = text, number + 1
            starts[row, number], owners[row, number] = at, [4, 9, 10, 2, 3, 77][member]
            at += len(text)
    packed = mask_tokens(
        Masking(), WORDS, KEY, jnp.array(ids), jnp.array(ids >= SPECIAL), jnp.array(owners), jnp.array(segments),
        jnp.array(starts),
    )  # fmt: skip
    for row, members in enumerate(packing):
        expected = {
            starts[row, number] + place: change
            for number, member in enumerate(members)
            for place, change in by_text(found, member).items()
        }
        assert by_text(packed, row) == expected


@pytest.mark.parametrize("texts_in_a_row", [1, 3, 9])
@pytest.mark.parametrize("rate", [0.01, 0.15, 0.37, 1.0])
def test_there_is_room_for_all_that_are_chosen(texts_in_a_row: int, rate: float) -> None:
    settings, random = Masking(rate), np.random.default_rng(3)
    for _ in range(300):
        sizes = random.integers(0, 30, texts_in_a_row)
        most = settings.most(int(sizes.sum()), texts_in_a_row)
        assert sum(settings.count(int(size)) for size in sizes) <= most
        assert settings.count(int(sizes[0])) <= settings.most(int(sizes[0]) + 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0.0}, r"config\.masking\.rate is 0\.0; it is above 0 and at most 1"),
        ({"masked": 1.2}, r"config\.masking\.masked is 1\.2; it is a share"),
        ({"masked": 0.8, "random": 0.3}, r"are 0\.8 and 0\.3; together they are at most 1"),
    ],
)
def test_impossible_shares_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(TlxError, match=message):
        Masking(**fields)
