"""The head of masked language modelling that a run takes from a checkpoint, beside the whole checkpoint's."""

import numpy as np
import pytest

from tests.models.reference import THIRD_PARTY
from tlx.modalities.loaded import load_pretrained
from tlx.params.paths import flatten
from tlx.pretrained.own_head import masked_lm_head, masked_lm_params


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra"])
@pytest.mark.parametrize("name", ["masked_lm", "masked_lm_untied"])
def test_it_is_that_of_the_checkpoint(family: str, name: str) -> None:
    """`load_pretrained`, whose logits are compared with transformers', gives the same head and the same bits."""
    folder = THIRD_PARTY / family / name
    head = masked_lm_head(folder)
    whole = load_pretrained(folder)
    assert head is not None and head == dict(whole.model.heads_by_name)["default"]
    expected = {path: leaf for path, leaf in flatten(whole.params).items() if path.startswith("heads/default/")}
    found = masked_lm_params(folder, head, "words")
    assert {path.replace("heads/words/", "heads/default/") for path in found} == set(expected)
    for path, leaf in found.items():
        np.testing.assert_array_equal(leaf, expected[path.replace("heads/words/", "heads/default/")])


@pytest.mark.parametrize("folder", ["bert/base", "roberta/base", "distilbert/base", "electra/discriminator"])
def test_a_checkpoint_without_one(folder: str) -> None:
    assert masked_lm_head(THIRD_PARTY / folder) is None
