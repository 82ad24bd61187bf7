"""Texts that share rows: the model answers each as if it stood alone, and learns the same from it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.reference import reference
from tlx.data.examples import Examples
from tlx.errors import TlxError
from tlx.features.spec import FeatureSpec, read
from tlx.methods.api import Carried, Context
from tlx.methods.finetune import FineTune
from tlx.modalities.packed import by_text
from tlx.models.bert import BertConfig
from tlx.models.distilbert import DistilBertConfig
from tlx.models.electra import ElectraConfig
from tlx.models.heads import Head
from tlx.models.model import Model, build_model
from tlx.models.roberta import RobertaConfig
from tlx.params.paths import flatten
from tlx.pretrained.load import random_params

# Three of the reference's texts, of 10, 7 and 4 tokens, in two rows of 14: one has a place without a text, and padding.
PLACES = np.array([[1, -1, 2], [-1, 0, -1]])
LENGTH = 14
FIXTURES = [
    "bert/plain", "bert/regression_3", "bert/tagging_5", "bert/masked_lm", "bert/pad_5", "bert/token_types_3",
    "roberta/plain", "roberta/base", "roberta/pad_5", "roberta/tagging_5", "camembert/plain", "distilbert/plain",
    "distilbert/tagging_5", "electra/plain", "electra/one_width",
]  # fmt: skip


def examples_of(inputs: dict[str, np.ndarray]) -> Examples:
    """The texts of padded inputs, without their padding."""
    mask = inputs["attention_mask"] != 0
    types = inputs.get("token_type_ids", np.zeros_like(mask))
    offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))]).astype(np.int64)
    flat = (x[mask].astype(np.int32) for x in (inputs["input_ids"], types))
    return Examples(*flat, offsets, {}, np.arange(len(mask)), pad_id=0)


def model_inputs(batch: dict[str, Any], without_types: bool = False) -> dict[str, jax.Array]:
    """What the model takes of a batch."""
    names = (
        "input_ids",
        "attention_mask",
        "segment_ids",
        "text_starts",
        *(() if without_types else ("token_type_ids",)),
    )
    return {name: jnp.asarray(batch[name]) for name in names if name in batch}


@pytest.mark.parametrize("name", FIXTURES)
def test_packed_texts_have_the_outputs_of_transformers(name: str, x64: None) -> None:
    """The reference padded each text to a row of its own."""
    given = reference(name)
    texts = examples_of(given.group("input"))
    texts = dataclasses.replace(texts, pad_id=given.config.get("pad_token_id", 0))
    model, params = given.load(jnp.float64)
    packed = texts.take(PLACES, LENGTH)
    inputs = model_inputs(packed, without_types="input/token_type_ids" not in given.arrays)
    output = model.apply({"params": params}, **inputs, output_hidden_states=True)
    place_of = {int(text): place for place, text in enumerate(PLACES.ravel()) if text >= 0}
    compared = 0
    for text, length in enumerate(texts.lengths):
        row, place = divmod(place_of[text], PLACES.shape[1])
        start = packed["text_starts"][row, place]
        tokens = slice(start, start + length)
        hidden = given.group("output/hidden_states")
        pairs = [(output.hidden_states[int(layer)][row, tokens], x[text, :length]) for layer, x in hidden.items()]
        if "output/pooler_output" in given.arrays:
            pairs.append((output.pooler_output[place_of[text]], given.arrays["output/pooler_output"][text]))
        if "output/logits" in given.arrays:
            logits, right = output.logits["default"], given.arrays["output/logits"][text]
            per_token = right.ndim == 2
            pairs.append(
                (logits[row, tokens] if per_token else logits[place_of[text]], right[:length] if per_token else right)
            )
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
            compared += 1
    assert compared >= 3


SIZES = {"vocab_size": 40, "max_position_embeddings": 24, "initializer_range": 0.3}
WIDTHS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
CONFIGS = {
    "bert": BertConfig(**SIZES, **WIDTHS),
    "roberta": RobertaConfig(**SIZES, **WIDTHS),
    "electra": ElectraConfig(**SIZES, **WIDTHS, embedding_size=8),
    "distilbert": DistilBertConfig(**SIZES, dim=16, n_layers=2, n_heads=2, hidden_dim=24),
}
HEADS = {
    "classification": [Head("classification", 3, pooling) for pooling in ("pooler", "cls", "mean")],
    "regression": [Head("regression", 2, "mean", shift=(1.0, 2.0), scale=(3.0, 0.5))],
    "multilabel": [Head("multilabel", 4)],
    "tagging": [Head("tagging", 5)],
}
CASES = [
    (family, head)
    for family in CONFIGS
    for head in (
        [head for heads in HEADS.values() for head in heads]
        if family == "bert"
        else [HEADS["classification"][0], HEADS["tagging"][0]]
    )
]
LENGTHS = np.array([9, 3, 5, 12, 2, 7, 3])  # of which the second occurs in no batch
WHOLE = np.array([0, 2, 3, 4, 5, 6, -1])
PACKED = np.array([[3, -1, 2], [4, 0, 6], [-1, -1, 5], [-1, -1, -1]])


def drawn_texts(config: Any, head: Head) -> Examples:
    """Texts in which the padding token occurs too, with labels for a head."""
    random = np.random.default_rng(3)
    count = int(LENGTHS.sum())
    pad = config.pad_token_id
    ids = random.integers(0, config.vocab_size, count).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int64)
    ids[offsets[:-1]] = pad + 2  # but never as the first token
    ids[offsets[3] + 4] = ids[offsets[5] + 1] = pad
    types = random.integers(0, 2, count).astype(np.int32)
    n = len(LENGTHS)
    labels = {
        "classification": random.integers(0, 3, n).astype(np.int32),
        "regression": random.normal(size=(n, 2)),
        "multilabel": random.integers(0, 2, (n, 4)).astype(np.int32),
    }
    by_token = {"label": random.integers(0, 5, count), "label_mask": random.integers(0, 2, count)}
    tokens = {name: x.astype(np.int32) for name, x in by_token.items()} if head.kind == "tagging" else {}
    fields = {} if tokens else {"label": labels[head.kind]}
    return Examples(ids, types, offsets, fields, np.arange(n), pad, tokens)


def loss_and_gradient(model: Model, params: Any, batch: dict[str, Any]) -> tuple[float, dict[str, np.ndarray]]:
    """The mean loss of a batch, as the method of fine-tuning takes it, and its gradient."""

    def prepare(rows: Any, key: Any) -> Any:
        del key
        return model_inputs(rows), by_text(rows)

    method = FineTune(model, {"default": "label"}, prepare)
    context = Context(jax.random.key(0), train=False)

    def loss(params: Any) -> jax.Array:
        by_name, _ = method.losses(params, {"train": batch}, Carried({}, {}), context)
        total, count = by_name["default"]
        return total / count

    value, gradient = jax.value_and_grad(loss)(params)
    return float(value), {path: np.asarray(leaf) for path, leaf in flatten(gradient).items()}


def compare(family: str, head: Head, dtype: Any, tolerance: float) -> None:
    config = CONFIGS[family]
    model = build_model(config, {"default": head})
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), random_params(model, 0))
    texts = drawn_texts(config, head)
    value, gradient = loss_and_gradient(model, params, texts.take(WHOLE, 12))
    packed, same = loss_and_gradient(model, params, texts.take(PACKED, 20))
    assert abs(packed - value) <= tolerance * abs(value)
    largest = max(np.abs(leaf).max() for leaf in gradient.values())
    for path, leaf in gradient.items():
        assert np.abs(leaf).max() > 0 or "pooler" in path, path
        np.testing.assert_allclose(same[path], leaf, rtol=0, atol=tolerance * largest, err_msg=path)


@pytest.mark.long
@pytest.mark.parametrize(
    ("family", "head"),
    CASES,
    ids=lambda x: x if isinstance(x, str) else f"{x.kind}-{x.pooling}",
)
def test_loss_and_every_gradient_are_those_of_texts_alone(family: str, head: Head, x64: None) -> None:
    compare(family, head, jnp.float64, 1e-9)


@pytest.mark.long
def test_loss_and_gradient_in_float32(full_precision: None) -> None:
    compare("bert", HEADS["classification"][0], jnp.float32, 1e-5)


def test_another_text_in_the_row_changes_nothing(full_precision: None) -> None:
    """Not by one bit, where the texts around it change their tokens but not their lengths."""
    model = build_model(CONFIGS["bert"], {"default": HEADS["classification"][2]})
    params, texts = random_params(model, 0), drawn_texts(CONFIGS["bert"], HEADS["classification"][0])
    others = dataclasses.replace(texts, ids=texts.ids.copy(), types=1 - texts.types)
    others.ids[: texts.offsets[2]] += 1
    own = slice(texts.offsets[2], texts.offsets[3])
    others.types[own] = texts.types[own]
    logits = [
        model.apply({"params": params}, **model_inputs(each.take(np.array([[0, 2, 1]]), 20))).logits["default"]
        for each in (texts, others)
    ]
    np.testing.assert_array_equal(logits[0][1], logits[1][1])
    assert (np.asarray(logits[0][0]) != np.asarray(logits[1][0])).all()


@pytest.mark.parametrize(
    "spec", [FeatureSpec((0, 2), "mean"), FeatureSpec((), "cls"), FeatureSpec((), "pooler")], ids=str
)
def test_features_of_packed_texts(spec: FeatureSpec, x64: None) -> None:
    model = build_model(CONFIGS["bert"], {})
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), random_params(model, 0))
    texts = drawn_texts(CONFIGS["bert"], HEADS["multilabel"][0])
    alone = read(model, params, model_inputs(texts.take(WHOLE, 12)), spec)
    packed = read(model, params, model_inputs(texts.take(PACKED, 20)), spec)
    places = PACKED.ravel()
    for row, text in enumerate(WHOLE[:-1]):
        np.testing.assert_allclose(packed[list(places).index(text)], alone[row], rtol=0, atol=1e-12)


def test_starts_without_segments_are_refused() -> None:
    model = build_model(CONFIGS["bert"], {})
    with pytest.raises(TlxError, match="packed texts need both"):
        model.apply(
            {"params": random_params(model, 0)},
            input_ids=jnp.ones((1, 4), jnp.int32),
            text_starts=jnp.zeros((1, 1), int),
        )
