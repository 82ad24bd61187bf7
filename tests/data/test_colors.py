"""The colour names: grouping, CIELAB, terms."""

import doctest

import numpy as np
import pytest

from tlx.data import colors


def test_docstrings() -> None:
    assert doctest.testmod(colors).failed == 0


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # sRGB under D65, as published (Lindbloom's calculator)
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (53.2408, 80.0925, 67.2032)),
        ((0, 1, 0), (87.7347, -86.1827, 83.1793)),
        ((0, 0, 1), (32.2970, 79.1875, -107.8602)),
        ((0.5, 0.5, 0.5), (53.3890, 0, 0)),
    ],
)
def test_lab(rgb: tuple, lab: tuple) -> None:
    np.testing.assert_allclose(colors.srgb_to_lab(np.array(rgb, float)), lab, atol=2e-2)


def test_traits() -> None:
    lab = np.array([[20, 0, 0], [90, 0, 70], [50, -30, -20], [50, 20, 5.1]])
    assert colors.traits(lab) == ["dark|muted", "light|vivid|warm", "cool", "muted|warm"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("reddish brown", "brown red"), ("bluish", "blue"), ("Greyish-Teal", "teal/gray"),
        ("purpley pink", "pinkish purple"),
        ("orangey yellow", "yellowish orange"), ("darkblue", "dark blue"), ("robin's egg blue", "robins egg blue"),
        ("browny green", "greenish brown"), ("reddy brown", "brown red"),
    ],
)  # fmt: skip
def test_names_of_the_same_words_share_a_group(one: str, other: str) -> None:
    assert colors.group(one) == colors.group(other)


@pytest.mark.parametrize("name", ["berry", "sandy", "putty", "radish", "ivory", "navy", "grassy", "yellow ochre"])
def test_words_that_only_look_like_shades_stay(name: str) -> None:
    assert colors.group(name) == " ".join(sorted(name.split()))


def test_the_set() -> None:
    columns = colors.columns()
    assert {len(column) for column in columns.values()} == {949}
    assert len(set(columns["name"])) == 949
    assert set(columns["term"]) == set(colors.TERMS)
    by_name = dict(zip(columns["name"], columns["term"], strict=True))
    assert all(by_name[term] == term for term in colors.TERMS)
