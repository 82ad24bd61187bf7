"""Nothing is dropped without a word: parts of a tree are not written, and one item is one item."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tlx
from tests import tiny
from tests.models.reference import THIRD_PARTY
from tlx.params.paths import flatten
from tlx.pretrained.image_processor import ImageProcessor
from tlx.pretrained.tokenizer import Tokenizer

PLAIN = THIRD_PARTY / "bert" / "plain"


def test_a_part_of_the_tree_is_not_written(tmp_path: Path) -> None:
    loaded = tlx.load_pretrained(PLAIN)
    trainable, frozen = tlx.partition(loaded.params, [("heads/.*", "default"), (".*", "frozen")])
    total = len(flatten(loaded.params))
    with pytest.raises(tlx.TlxError, match=rf"missing {total - 2} of {total}: backbone.*tlx\.merge"):
        tlx.save_pretrained(tmp_path / "part", loaded, params=trainable)
    assert not (tmp_path / "part").exists()
    tlx.save_pretrained(tmp_path / "whole", loaded, params=tlx.merge(trainable, frozen))
    again = flatten(tlx.load_pretrained(tmp_path / "whole").params)
    assert all(np.array_equal(leaf, again[path]) for path, leaf in flatten(loaded.params).items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {**p, "heads": {"default": {"output": {"kernel": np.zeros((32, 3))}}}}, "missing 1 of"),
        (lambda p: {**p, "more": {"kernel": np.zeros(1)}}, "not the model's 1 of .*more/kernel"),
        (
            lambda p: {**p, "heads": {"default": {"output": {"kernel": np.zeros((32, 4)), "bias": np.zeros(4)}}}},
            r"of another shape 2 of .*\(32, 4\) \(expected \(32, 3\)\)",
        ),
    ],
)
def test_another_tree_is_not_written(tmp_path: Path, change: Any, message: str) -> None:
    loaded = tlx.load_pretrained(PLAIN)
    with pytest.raises(tlx.TlxError, match=message):
        tlx.save_pretrained(tmp_path / "other", loaded, params=change(loaded.params))
    assert not (tmp_path / "other").exists()


def test_one_text_is_a_batch_of_one(tmp_path: Path) -> None:
    tokenizer = Tokenizer(tiny.write_checkpoint(tmp_path / "checkpoint"), 16)
    one, several = tokenizer.inputs("a great film"), tokenizer.inputs(["a great film"])
    assert one["input_ids"].shape == (1, 5) and all(np.array_equal(one[name], several[name]) for name in several)
    assert tokenizer.inputs(np.array(["a film", "the plot"]))["input_ids"].shape == (2, 4)
    for wrong, message in (
        ([], "there are no texts"),
        ([None], "text 0 is NoneType None; expected a str"),
        (Path("file.txt"), "a text or a list of texts was expected, found PosixPath"),
        (["fine", 3], "text 1 is int 3"),
        (None, "found NoneType"),
        (b"bytes", "found bytes"),
        ([["a", "film"]], "text 0 is list"),
    ):
        with pytest.raises(tlx.TlxError, match=message):
            tokenizer.inputs(wrong)  # type: ignore[arg-type]
    with pytest.raises(tlx.TlxError, match="1 texts and 2 pairs"):
        tokenizer.inputs("a film", ["one", "two"])


def test_one_image_is_a_batch_of_one() -> None:
    processor = ImageProcessor(Path(__file__).parents[2] / "configs" / "vit_digits")
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    one, several = processor.inputs(image)["pixel_values"], processor.inputs([image])["pixel_values"]
    assert one.shape[0] == 1 and np.array_equal(one, several)
    assert processor.inputs(np.stack([image] * 3))["pixel_values"].shape[0] == 3
    for wrong, message in (
        ([], "there are no images"),
        ([None], "image 0 is a NoneType"),
        (None, "found NoneType"),
        (7, "found int"),
    ):
        with pytest.raises(tlx.TlxError, match=message):
            processor.inputs(wrong)
