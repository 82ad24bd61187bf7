"""Reading a checkpoint: names, dtypes, heads, and one error that tells everything that does not fit."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.models.reference import THIRD_PARTY
from tests.pretrained.files import Tensors, checkpoint, expected_leaf, stored
from tlx.errors import TlxError
from tlx.models.heads import Head
from tlx.params.paths import flatten
from tlx.pretrained.load import from_pretrained
from tlx.pretrained.names import names_of

BERT = THIRD_PARTY / "bert"
UNTIED = ("bert", "distilbert", "electra", "roberta")  # have a reference of that


def assert_all_equal(params: Any, tensors: Tensors, prefix: str = "") -> None:
    """Every parameter is its tensor, bit by bit, and every tensor is a parameter."""
    leaves = flatten(params)
    assert len(leaves) == len(tensors)
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(leaf, expected_leaf(tensors, path, prefix), err_msg=path)


def with_prefix(tensors: Tensors) -> Tensors:
    return {f"bert.{name}": tensor for name, tensor in tensors.items()}


def test_names_with_and_without_prefix(tmp_path: Path) -> None:
    bare, named = stored("base"), checkpoint(tmp_path, "base", with_prefix)
    assert_all_equal(from_pretrained(BERT / "base")[1], bare)
    assert_all_equal(from_pretrained(named)[1], bare)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("variant", ["base", "plain"])
def test_names_with_a_wrapper_of_pytorch(tmp_path: Path, wrapper: str, variant: str) -> None:
    """Of DataParallel and torch.compile, which put it before every name."""
    folder = checkpoint(tmp_path, variant, lambda tensors: {wrapper + name: array for name, array in tensors.items()})
    assert_all_equal(from_pretrained(folder)[1], stored(variant), "bert." if variant == "plain" else "")


@pytest.mark.parametrize(
    ("rename", "advice"),
    [
        (lambda name: f"model.{name}", "Every name in it begins with 'model.': save it again with names without that."),
        (lambda name: f"model.bert.{name}", "Every name in it begins with 'model.': save it again"),
        (lambda name: f"x{name}", "No tensor in it fits: is this the config.json of these weights?"),
        (lambda name: name if "encoder" in name else f"x{name}", "Name what may be initialized with initialise="),
    ],
)
def test_other_names(tmp_path: Path, rename: Callable[[str], str], advice: str) -> None:
    """The message is short, and advises random weights only where something fits."""
    folder = checkpoint(tmp_path, "base", lambda tensors: {rename(name): array for name, array in tensors.items()})
    with pytest.raises(TlxError) as refused:
        from_pretrained(folder)
    said = str(refused.value)
    assert advice in said and len(said) - len(str(folder)) < 900, said
    assert ("initialise" in said) == ("initialise" in advice)


def test_own_head_is_loaded_as_default() -> None:
    model, params = from_pretrained(BERT / "plain")
    assert model.heads_by_name == (("default", Head("classification", 3, labels=("LABEL_0", "LABEL_1", "LABEL_2"))),)
    assert_all_equal(params, stored("plain"), "bert.")


def test_old_names_of_layer_norm(tmp_path: Path) -> None:
    def older(tensors: Tensors) -> Tensors:
        return {re.sub(r"LayerNorm\.weight$", "LayerNorm.gamma", re.sub(r"Norm\.bias$", "Norm.beta", name)): tensor
                for name, tensor in tensors.items()}  # fmt: skip

    folder = checkpoint(tmp_path, "plain", older)
    assert_all_equal(from_pretrained(folder)[1], stored("plain"), "bert.")


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_buffers_are_skipped(tmp_path: Path, prefix: str) -> None:
    buffers = {f"{prefix}embeddings.{name}": np.arange(16)[None] for name in ("position_ids", "token_type_ids")}
    variant = "plain" if prefix else "base"
    folder = checkpoint(tmp_path, variant, lambda tensors: {**tensors, **buffers})
    assert_all_equal(from_pretrained(folder)[1], stored(variant), prefix)


@pytest.mark.parametrize("on_disk", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("in_memory", [jnp.float32, jnp.bfloat16])
def test_dtypes(tmp_path: Path, on_disk: Any, in_memory: Any) -> None:
    def cast(tensors: Tensors) -> Tensors:
        return {name: tensor.astype(on_disk) for name, tensor in tensors.items()}

    _, params = from_pretrained(checkpoint(tmp_path, "classification_2", cast), param_dtype=in_memory)
    assert all(leaf.dtype == in_memory for leaf in flatten(params).values())
    expected = {name: tensor.astype(in_memory) for name, tensor in cast(stored("classification_2")).items()}
    assert_all_equal(params, expected, "bert.")


def test_everything_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    def spoil(tensors: Tensors) -> Tensors:
        del tensors["bert.encoder.layer.1.attention.self.key.bias"], tensors["bert.embeddings.LayerNorm.weight"]
        tensors["bert.encoder.layer.2.output.dense.bias"] = np.zeros(32, np.float32)
        tensors["cls.predictions.bias"] = np.zeros(48, np.float32)
        tensors["bert.encoder.layer.0.intermediate.dense.weight"] = np.zeros((40, 32), np.float32)
        tensors["classifier.bias"] = np.zeros(4, np.float32)
        return tensors

    folder = checkpoint(tmp_path, "plain", spoil)
    with pytest.raises(TlxError) as raised:
        from_pretrained(folder)
    message = str(raised.value)
    assert message.startswith(f"{folder}/model.safetensors does not fit this model; ")
    assert "missing: embeddings.LayerNorm.weight, encoder.layer.1.attention.self.key.bias;" in message
    assert "left over: cls.predictions.bias, encoder.layer.2.output.dense.bias;" in message
    assert "encoder.layer.0.intermediate.dense.weight (40, 32) (expected (48, 32))" in message
    assert "classifier.bias (4,) (expected (3,))" in message
    assert "\n" not in message


def test_missing_head_is_missing(tmp_path: Path) -> None:
    def without_head(tensors: Tensors) -> Tensors:
        return {name: tensor for name, tensor in tensors.items() if name.startswith("bert.")}

    folder = checkpoint(tmp_path, "plain", without_head)
    with pytest.raises(TlxError, match=r"missing: classifier\.bias, classifier\.weight\."):
        from_pretrained(folder)
    model, params = from_pretrained(folder, initialise="heads")
    assert params["heads"]["default"]["output"]["kernel"].shape == (32, 3)
    assert dict(model.heads_by_name)["default"].outputs == 3


def test_pooler_must_be_asked_for_anew() -> None:
    with pytest.raises(TlxError, match=r"missing: pooler\.dense\.bias, pooler\.dense\.weight\."):
        from_pretrained(BERT / "base_no_pooler")
    _, params = from_pretrained(BERT / "base_no_pooler", initialise=["pooler"])
    kernel = np.asarray(params["backbone"].pop("pooler")["dense"]["kernel"])
    assert abs(kernel.std() - 0.02) < 0.002 and abs(kernel.mean()) < 0.003  # N(0, initializer_range²), 1024 numbers
    assert_all_equal(params, stored("base_no_pooler"))


def test_left_over_pooler_must_be_ignored_by_name() -> None:
    with pytest.raises(TlxError, match=r"left over: pooler\.dense\.bias, pooler\.dense\.weight\."):
        from_pretrained(BERT / "base", add_pooling_layer=False)
    model, params = from_pretrained(BERT / "base", ignore=[r"pooler\..*"], add_pooling_layer=False)
    assert "pooler" not in params["backbone"] and not model.backbone.config.add_pooling_layer


def test_part_of_another_shape_may_be_drawn_anew() -> None:
    table = "backbone/embeddings/token_type_embeddings/embedding"
    with pytest.raises(TlxError, match=r"token_type_embeddings\.weight \(2, 32\) \(expected \(5, 32\)\)"):
        from_pretrained(BERT / "eps_1e-5", type_vocab_size=5)
    draws = [
        flatten(from_pretrained(BERT / "eps_1e-5", initialise=table, type_vocab_size=5, seed=s)[1]) for s in (1, 1, 2)
    ]
    assert draws[0][table].shape == (5, 32)
    np.testing.assert_array_equal(draws[0][table], draws[1][table])
    assert np.abs(draws[0][table] - draws[2][table]).max() > 0
    for path in draws[0].keys() - {table}:
        np.testing.assert_array_equal(draws[2][path], expected_leaf(stored("eps_1e-5"), path, "bert."))


def test_what_the_file_has_is_not_drawn_anew() -> None:
    assert_all_equal(from_pretrained(BERT / "plain", initialise="all")[1], stored("plain"), "bert.")


def test_new_heads_take_the_place_of_the_own() -> None:
    model, params = from_pretrained(BERT / "eps_1e-5", 5)
    assert params["heads"]["default"]["output"]["kernel"].shape == (32, 5)
    assert not np.asarray(params["heads"]["default"]["output"]["bias"]).any()
    _, params = from_pretrained(BERT / "eps_1e-5", {"a": Head("regression", 1), "b": Head("classification", 2, "cls")})
    assert {name: head["output"]["kernel"].shape for name, head in params["heads"].items()} == {
        "a": (32, 1),
        "b": (32, 2),
    }
    model, params = from_pretrained(BERT / "eps_1e-5", {})
    assert params.keys() == {"backbone"} and model.heads_by_name == ()


@pytest.mark.parametrize(
    ("variant", "config", "head"),
    [
        ("regression_1", {}, Head("regression", 1, labels=("LABEL_0",))),
        ("regression_1", {"problem_type": None, "id2label": ..., "label2id": ...}, Head("regression", 1)),
        ("regression_3", {}, Head("regression", 3, labels=("LABEL_0", "LABEL_1", "LABEL_2"))),
        ("plain", {"problem_type": ..., "id2label": ..., "architectures": ...}, Head("classification", 3)),
        ("plain", {"id2label": {"2": "c", "10": "no", "1": "b", "0": "a"}}, None),
    ],
)
def test_kind_and_labels_of_the_own_head(
    tmp_path: Path, variant: str, config: dict[str, Any], head: Head | None
) -> None:
    folder = checkpoint(tmp_path, variant, **config)
    if head is None:
        with pytest.raises(TlxError, match=r"classifier\.weight \(3, 32\) \(expected \(4, 32\)\)"):
            from_pretrained(folder)
    else:
        assert dict(from_pretrained(folder)[0].heads_by_name) == {"default": head}


def test_other_classifiers_are_not_taken_for_ours(tmp_path: Path) -> None:
    choice = checkpoint(tmp_path / "choice", "plain", architectures=["BertForMultipleChoice"])
    with pytest.raises(TlxError, match=r"classifier\.bias \(3,\) \(expected \(1,\)\)"):
        from_pretrained(choice)
    odd = checkpoint(tmp_path / "odd", "plain", problem_type="ranking")
    with pytest.raises(TlxError, match=r"problem_type 'ranking'; tlx supports .* Pass heads=… for a new head"):
        from_pretrained(odd)
    assert from_pretrained(odd, heads=2)[1]["heads"]["default"]["output"]["kernel"].shape == (32, 2)


def test_own_heads_of_every_kind() -> None:
    for variant, head in {
        "multilabel_4": Head("multilabel", 4, labels=tuple(f"LABEL_{i}" for i in range(4))),
        "tagging_5": Head("tagging", 5, labels=tuple(f"LABEL_{i}" for i in range(5))),
        "masked_lm": Head("masked_lm", 48),
    }.items():
        model, params = from_pretrained(BERT / variant)
        assert dict(model.heads_by_name) == {"default": head}
        assert ("pooler" in params["backbone"]) == (variant == "multilabel_4")


def test_masked_lm_stores_no_copy_of_the_embedding(tmp_path: Path) -> None:
    _, params = from_pretrained(BERT / "masked_lm")
    assert set(flatten(params["heads"]["default"])) == {
        "bias", *(f"transform/{leaf}" for leaf in ("dense/kernel", "dense/bias", "LayerNorm/scale", "LayerNorm/bias"))
    }  # fmt: skip


def test_an_output_layer_that_differs_is_kept(tmp_path: Path) -> None:
    """Whatever the config says: transformers ties what is absent or equal."""
    reference = load_file(BERT / "masked_lm_untied" / "model.safetensors")
    decoder, words = "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"
    for changed, tied in (
        ({}, False),
        ({decoder: reference[words], "cls.predictions.decoder.bias": reference["cls.predictions.bias"]}, True),
        ({"cls.predictions.decoder.bias": reference["cls.predictions.bias"]}, False),  # the kernel alone differs
        ({decoder: reference[words]}, False),  # the bias alone differs
    ):
        folder = checkpoint(
            tmp_path / f"{len(list(tmp_path.iterdir()))}", "masked_lm_untied",
            lambda tensors, changed=changed: {**tensors, **changed}, tie_word_embeddings=True,
        )  # fmt: skip
        model, params = from_pretrained(folder)
        head = params["heads"]["default"]
        assert dict(model.heads_by_name)["default"].tied == tied == ("decoder" not in head)
        expected = {**reference, **changed}
        np.testing.assert_array_equal(head["bias"], expected["cls.predictions.decoder.bias"])
        if not tied:
            np.testing.assert_array_equal(head["decoder"]["kernel"], expected[decoder].T)


@pytest.mark.parametrize("family", ["bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"])
def test_an_output_layer_that_should_be_there_is_not_made_up(tmp_path: Path, family: str) -> None:
    """Not tied, as the config says, and not there: transformers, too, has it among its `missing_keys`."""
    source = THIRD_PARTY / family / ("masked_lm_untied" if family in UNTIED else "masked_lm")
    settings = json.loads((source / "config.json").read_text(encoding="utf-8")) | {"tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    decoder = f"{names_of(family).decoder}.weight"
    tensors = {name: tensor for name, tensor in load_file(source / "model.safetensors").items() if name != decoder}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(TlxError, match=rf"missing: {re.escape(decoder)}\."):
        from_pretrained(tmp_path)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_one_bias_of_an_output_layer_that_is_not_tied(tmp_path: Path, family: str) -> None:
    """As transformers 4 writes it: a kernel of its own, the bias under the head's name alone."""
    source = THIRD_PARTY / family / "masked_lm_untied"
    settings = json.loads((source / "config.json").read_text(encoding="utf-8")) | {"tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    names, tensors = names_of(family), load_file(source / "model.safetensors")
    del tensors[f"{names.decoder}.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    model, params = from_pretrained(tmp_path)
    head = params["heads"]["default"]
    assert not dict(model.heads_by_name)["default"].tied and np.any(tensors[names.tied_bias])
    np.testing.assert_array_equal(head["bias"], tensors[names.tied_bias])
    np.testing.assert_array_equal(head["decoder"]["kernel"], tensors[f"{names.decoder}.weight"].T)


def test_a_pooler_without_a_reader_is_left_out(tmp_path: Path) -> None:
    _, params = from_pretrained(
        BERT / "plain", heads={"tags": Head("tagging", 3), "mean": Head("regression", 1, "mean")}
    )
    assert "pooler" not in params["backbone"]


def test_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "base", lambda t: {**t, "bert.pooler.dense.bias": t["pooler.dense.bias"]})
    with pytest.raises(TlxError, match=r"holds twice, under an older or another name: (bert\.)?pooler\.dense\.bias\."):
        from_pretrained(folder)


@pytest.mark.parametrize("what", ["initialise", "ignore"])
def test_refused_regex(what: str) -> None:
    with pytest.raises(TlxError, match=rf"{what}: '\(pooler' is not a regular expression"):
        from_pretrained(BERT / "base", **{what: "(pooler"})
