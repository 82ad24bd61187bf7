"""What tlx's BERT can do beside the plain forward pass, and what it refuses."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import BertConfig as HfBertConfig

from tests.models.reference import patch_dropout, reference
from tlx.errors import TlxError
from tlx.models.bert import BertConfig
from tlx.models.heads import Head
from tlx.models.model import build_model
from tlx.params.kinds import kinds_of
from tlx.params.paths import flatten
from tlx.pretrained.load import abstract_params

pytestmark = pytest.mark.usefixtures("full_precision")
CLOSE = {"rtol": 0, "atol": 2e-5}


@pytest.fixture
def bert() -> Any:
    """`run(**inputs)` of the two-block reference's backbone, in float32, and its inputs."""
    given = reference("bert/plain")
    model, params = given.load(jnp.float32)

    def run(**inputs: Any) -> Any:
        return model.backbone.apply({"params": params["backbone"]}, rngs={"dropout": jax.random.key(0)}, **inputs)

    run.inputs = given.inputs  # type: ignore[attr-defined]
    run.expected = given.group("output")  # type: ignore[attr-defined]
    return run


@pytest.mark.parametrize("border", [0, 1, 2])
def test_stopped_and_started_again_is_the_whole(bert: Any, border: int) -> None:
    first = bert(**bert.inputs, stop=border)
    assert first.pooler_output is None or border == 2
    np.testing.assert_allclose(first.last_hidden_state, bert.expected[f"hidden_states/{border}"], **CLOSE)
    mask = bert.inputs["attention_mask"]
    second = bert(hidden_state=first.last_hidden_state, attention_mask=mask, start=border)
    np.testing.assert_allclose(second.last_hidden_state, bert.expected["hidden_states/2"], **CLOSE)
    np.testing.assert_allclose(second.pooler_output, bert.expected["pooler_output"], **CLOSE)


def test_packed_texts_are_the_texts_alone(bert: Any) -> None:
    """The second and the third text of the reference's batch (7 and 4 tokens) in one row, and padding of its own."""
    ids, types = bert.inputs["input_ids"], bert.inputs["token_type_ids"]
    row = {
        "input_ids": jnp.concatenate([ids[1, :7], ids[2, :4], jnp.zeros(2, jnp.int32)])[None],
        "token_type_ids": jnp.concatenate([types[1, :7], types[2, :4], jnp.zeros(2, jnp.int32)])[None],
        "position_ids": jnp.array([[*range(7), *range(4), 0, 1]]),
        "segment_ids": jnp.array([[1] * 7 + [2] * 4 + [0] * 2]),
    }
    packed = bert(**row, output_hidden_states=True)
    for depth, states in enumerate(packed.hidden_states):
        expected = bert.expected[f"hidden_states/{depth}"]
        np.testing.assert_allclose(states[0, :11], np.concatenate([expected[1, :7], expected[2, :4]]), **CLOSE)


@pytest.mark.parametrize("frozen", [("embeddings",), ("embeddings", "encoder/layer/0"), ("encoder/layer/1",)])
def test_frozen_blocks_run_without_dropout(bert: Any, frozen: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    sites = patch_dropout(monkeypatch)
    found = bert(**bert.inputs, deterministic=False, frozen=frozen, output_hidden_states=True)
    batch, heads = bert.inputs["input_ids"].shape, (3, 4, 10, 10)
    hidden, rate = (*batch, 32), 0.1
    block = [(heads, rate), (hidden, rate), (hidden, rate)]
    expected = ([] if "embeddings" in frozen else [(hidden, rate)]) + [
        site for index in range(2) if f"encoder/layer/{index}" not in frozen for site in block
    ]
    assert sites() == expected
    untouched = 0 if "embeddings" not in frozen else 1 + ("encoder/layer/0" in frozen)
    for depth in range(untouched):
        np.testing.assert_allclose(found.hidden_states[depth], bert.expected[f"hidden_states/{depth}"], **CLOSE)
    assert np.abs(found.last_hidden_state - bert.expected["hidden_states/2"]).max() > 0.1


def test_model_passes_frozen_blocks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given = reference("bert/plain")
    model, params = given.load(jnp.float32)
    sites = patch_dropout(monkeypatch)
    frozen = ("backbone/embeddings", "backbone/encoder/layer/0", "backbone/encoder/layer/1")
    rngs = {"dropout": jax.random.key(0)}
    model.apply({"params": params}, **given.inputs, deterministic=False, frozen=frozen, rngs=rngs)
    assert sites() == [((3, 32), 0.1)]  # the classifier's alone


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"input_ids": jnp.zeros((1, 17), jnp.int32)},
            "a sequence of 17 tokens is longer than the 16 tokens this model takes",
        ),
        ({}, "pass either input_ids (start=0), or hidden_state and start; found start=0"),
        ({"input_ids": jnp.zeros((1, 2), jnp.int32), "start": 1}, "found start=1"),
        ({"input_ids": jnp.zeros((1, 2), jnp.int32), "stop": 3}, "the backbone has 2 blocks; found start=0, stop=3"),
        ({"hidden_state": jnp.zeros((1, 2, 32)), "start": 2, "stop": 1}, "found start=2, stop=1"),
    ],
)
def test_refused_inputs(bert: Any, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(TlxError, match=re.escape(message)):
        bert(**inputs)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "asks for position_embedding_type='relative_key'"),
        ({"is_decoder": True, "add_cross_attention": True}, "is_decoder=True, add_cross_attention=True"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads={'0': [1]}"),
        ({"quantization_config": {"bits": 4}}, "quantization_config="),
        ({"hidden_act": "xielu"}, "hidden_act is 'xielu'; tlx has gelu, gelu_10"),
        ({"num_attention_heads": 5}, "hidden_size 768 is not a multiple of num_attention_heads 5"),
        ({"pad_token_id": 30522}, "pad_token_id 30522 is outside the vocabulary of 30522 tokens"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0; a dropout rate is at least 0 and below 1"),
        ({"classifier_dropout": -0.1}, "classifier_dropout is -0.1"),
    ],
)
def test_refused_configs(config: dict[str, Any], message: str) -> None:
    with pytest.raises(TlxError, match=re.escape(message)):
        BertConfig.from_hf(config)


def test_unknown_config_change_is_refused() -> None:
    with pytest.raises(TlxError, match=r"a BERT config has no hiden_act; it has .*hidden_act"):
        BertConfig.from_hf({}, hiden_act="relu")


def test_defaults_are_those_of_transformers() -> None:
    """A config.json leaves out what is the default there."""
    theirs = HfBertConfig().to_dict()
    assert all(theirs[name] == value for name, value in BertConfig().to_hf().items())


def test_config_goes_there_and_back() -> None:
    config = BertConfig(hidden_act="relu", layer_norm_eps=1e-3, pad_token_id=None, classifier_dropout=0.2)
    assert BertConfig.from_hf(config.to_hf()) == config
    theirs = HfBertConfig(**config.to_hf()).to_dict()
    assert {name: theirs[name] for name in config.to_hf()} == config.to_hf()


def test_kinds_of_every_parameter() -> None:
    config = dataclasses.replace(BertConfig(), num_hidden_layers=1)
    model = build_model(config, {"default": Head("classification", 2)})
    found: dict[frozenset[str], set[str]] = {}
    for path in flatten(abstract_params(model)):
        found.setdefault(kinds_of(path, model.backbone.kinds), set()).add(path)
    block, norms = "backbone/encoder/layer/0", ("attention/output/LayerNorm", "output/LayerNorm")
    linear = ("attention/self/query", "attention/self/key", "attention/self/value", "attention/output/dense")
    linear = (*linear, "intermediate/dense", "output/dense")
    dense = {*(f"{block}/{name}" for name in linear), "backbone/pooler/dense", "heads/default/output"}
    norm = {*(f"{block}/{name}" for name in norms), "backbone/embeddings/LayerNorm"}
    tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    assert found == {
        frozenset({"kernel"}): {f"{module}/kernel" for module in dense},
        frozenset({"bias"}): {f"{module}/bias" for module in dense},
        frozenset({"norm"}): {f"{module}/scale" for module in norm},
        frozenset({"bias", "norm"}): {f"{module}/bias" for module in norm},
        frozenset({"embedding"}): {f"backbone/embeddings/{table}/embedding" for table in tables},
    }


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32() -> None:
    given = reference("bert/plain")
    model, params = given.load(jnp.float32)
    model = build_model(model.backbone.config, dict(model.heads_by_name), jnp.bfloat16)
    output = jax.eval_shape(lambda: model.apply({"params": params}, **given.inputs))
    assert output.last_hidden_state.dtype == jnp.bfloat16
    assert output.logits["default"].dtype == jnp.float32


@pytest.mark.parametrize("name", ["1st", "a-b", "", "a/b"])
def test_refused_head_names(name: str) -> None:
    with pytest.raises(TlxError, match=f"found {name!r}"):
        build_model(BertConfig(), {name: Head("classification", 2)})
