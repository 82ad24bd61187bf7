"""Every family and head: in as its own head, out as PyTorch's and as Flax's file, and back bit by bit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.models.reference import THIRD_PARTY, VARIANTS
from tlx.errors import TlxError
from tlx.models.heads import Head
from tlx.models.model import Model
from tlx.params.paths import flatten
from tlx.pretrained.formats.folder import open_tensors
from tlx.pretrained.load import from_pretrained
from tlx.pretrained.save import write_folder

FLAX_NAMES = json.loads((THIRD_PARTY / "flax_names.json").read_text(encoding="utf-8"))
NAMED = [name for name in FLAX_NAMES if not name.endswith("/discriminator")]
KINDS = {
    "plain": "classification",
    "regression_1": "regression",
    "multilabel_4": "multilabel",
    "tagging_5": "tagging",
    "masked_lm": "masked_lm",
    "question_answering": "question_answering",
    "multiple_choice": "multiple_choice",
    "teacher": "classification",
    "base": None,
    "discriminator": None,
}

# Their classifier has the name that another kind's has, so that only the class tells which it is.
ALIKE = {"bert/tagging_5", "bert/multiple_choice", "roberta/multiple_choice", "distilbert/multiple_choice"}


def own_kind(model: Model) -> str | None:
    return dict(model.heads_by_name)["default"].kind if model.heads_by_name else None


def assert_same(one: object, other: object) -> None:
    left, right = flatten(one), flatten(other)
    assert left.keys() == right.keys()
    for path, leaf in left.items():
        np.testing.assert_array_equal(leaf, right[path], err_msg=path)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.partition("/")[2] in KINDS])
def test_own_head(name: str, tmp_path: Path) -> None:
    """By the class that the config names, and by the tensors where it names none."""
    kind = KINDS[name.partition("/")[2]]
    assert own_kind(from_pretrained(THIRD_PARTY / name)[0]) == kind
    folder = shutil.copytree(THIRD_PARTY / name, tmp_path / "silent")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if name not in ALIKE:
        assert own_kind(from_pretrained(folder)[0]) == kind


@pytest.mark.parametrize("name", NAMED)
def test_out_and_back(name: str, tmp_path: Path) -> None:
    """The same bits under PyTorch's names as in the file, under Flax's names and shapes, in pieces, and read again."""
    source = THIRD_PARTY / name
    model, params = from_pretrained(source)
    torch = write_folder(tmp_path / "torch", model, params)
    written, original = load_file(torch / "model.safetensors"), load_file(source / "model.safetensors")
    assert written.keys() == original.keys()
    assert all(written[key].tobytes() == original[key].tobytes() for key in written)
    flax = write_folder(tmp_path / "flax", model, params, format="msgpack")
    assert {key: [*tensor.shape] for key, tensor in open_tensors(flax).tensors.items()} == FLAX_NAMES[name]
    pieces = write_folder(tmp_path / "pieces", model, params, max_shard_bytes=10_000)
    assert len(list(pieces.glob("model-*.safetensors"))) > 1
    for folder in (torch, flax, pieces):
        again, params_again = from_pretrained(folder)
        assert again.backbone.config == model.backbone.config and own_kind(again) == own_kind(model)
        assert_same(params_again, params)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert"])
def test_base_into_heads_and_back(family: str) -> None:
    heads = {"judge": Head("classification", 3), "tags": Head("tagging", 4), "where": Head("question_answering", 2)}
    _, based = from_pretrained(THIRD_PARTY / family / "base", heads)
    assert based["heads"].keys() == heads.keys()
    assert ("dense" in based["heads"]["judge"]) == (family != "bert")
    _, bare = from_pretrained(THIRD_PARTY / family / "plain", {}, initialise="pooler")
    assert bare.keys() == {"backbone"}
    _, own = from_pretrained(THIRD_PARTY / family / "plain")
    left = {path: leaf for path, leaf in flatten(bare).items() if "pooler" not in path}
    for path, leaf in left.items():
        np.testing.assert_array_equal(leaf, flatten(own)[path], err_msg=path)


def test_what_no_class_can_express_is_refused(tmp_path: Path) -> None:
    model, params = from_pretrained(THIRD_PARTY / "roberta" / "base", {"default": Head("classification", 2, "mean")})
    with pytest.raises(TlxError, match="RobertaForSequenceClassification pools by the pooler; it cannot express"):
        write_folder(tmp_path / "out", model, params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 100_000}, "blocks; tlx takes up to 1000"),
        ({"num_hidden_layers": 999}, r"claims 999 blocks, but model\.safetensors holds \d+ tensors"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000 in this BERT config; it must be 1 to 10000000"),
        ({"hidden_size": -32}, "hidden_size is -32 in this BERT config; it must be 1 to"),
        ({"hidden_size": "32"}, "hidden_size is '32' in this BERT config; it must be int"),
        ({"intermediate_size": 9_000_000}, r"encoder\.layer\.0\.intermediate\.dense\.weight \(48, 32\) \(expected"),
        ({"hidden_dropout_prob": "a"}, "hidden_dropout_prob is 'a' in this BERT config; it must be float"),
        ({"hidden_act": ["gelu"]}, r"hidden_act is \['gelu'\] in this BERT config; it must be str"),
        ({"id2label": {"zero": "a"}}, "id2label is not a table from numbers to names"),
        ({"id2label": 7}, "id2label is not a table from numbers to names"),
    ],
)
def test_absurd_configs(changes: dict, message: str, tmp_path: Path) -> None:
    """Refused at once: nothing of the claimed size is made."""
    folder = shutil.copytree(THIRD_PARTY / "bert" / "plain", tmp_path / "absurd")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    with pytest.raises(TlxError, match=message):
        from_pretrained(folder)
