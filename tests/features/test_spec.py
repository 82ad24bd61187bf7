"""Features against transformers' hidden states (third_party), pooled here by NumPy."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.reference import reference
from tlx.data.examples import Examples
from tlx.data.flat import Flat
from tlx.errors import TlxError
from tlx.features.compute import Extractor
from tlx.features.spec import FeatureSpec, below, read, resolved
from tlx.modalities.text import Texts
from tlx.models.model import Model
from tlx.params.paths import flatten

TOLERANCE = 2e-5  # float32 against float64


def opened(name: str) -> tuple[Model, Any, dict[str, np.ndarray]]:
    given = reference(name)
    model, params = given.load(jnp.float32)
    return model, params, {**given.arrays}


def test_texts_without_their_padding(full_precision: None) -> None:
    """Each text at its own length, in batches of other sizes and lengths than the reference's."""
    model, params, arrays = opened("bert/base")
    ids, mask = arrays["input/input_ids"], arrays["input/attention_mask"]
    types = arrays.get("input/token_type_ids", np.zeros_like(ids))
    lengths = mask.sum(axis=1)
    assert len(set(lengths)) > 1 and (np.sort(mask, axis=1)[:, ::-1] == mask).all()  # padded, at the end
    rows = [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)]
    kinds = [row[:length].tolist() for row, length in zip(types, lengths, strict=True)]
    flat = Flat()
    flat.add(rows, kinds)
    examples = Examples(*flat.arrays(), {}, np.arange(len(rows)), pad_id=0)

    def features(spec: FeatureSpec) -> Any:
        texts = Texts(cast(Any, None))  # of examples that are tokenized already
        return Extractor(model, params, texts, spec, batch_size=2, length_buckets=(16,))(examples)

    states = [arrays[f"output/hidden_states/{i}"] for i in range(3)]
    every = features(FeatureSpec((1,), None))
    assert every.offsets is not None and np.diff(every.offsets).tolist() == lengths.tolist()
    for i, length in enumerate(lengths):
        found = every.values[every.offsets[i] : every.offsets[i + 1]]
        np.testing.assert_allclose(found, states[1][i, :length], atol=TOLERANCE)
    means = [np.stack([x[i, :length].mean(0) for i, length in enumerate(lengths)]) for x in states]
    mixed = features(FeatureSpec((0, 2), "mean")).values
    np.testing.assert_allclose(mixed, np.stack([means[0], means[2]], 1), atol=TOLERANCE)
    pooled = arrays["output/pooler_output"][:, None]
    np.testing.assert_allclose(features(FeatureSpec((), "pooler")).values, pooled, atol=TOLERANCE)


def test_images(full_precision: None) -> None:
    """The last hidden state comes after the layer norm, a layer's before it; own tokens are no patches."""
    model, params, arrays = opened("deit/base")
    inputs, special = reference("deit/base").inputs, 2
    last, first = arrays["output/last_hidden_state"], arrays["output/hidden_states/1"]
    found = jax.jit(lambda params, cuts: [read(model, params, inputs, spec) for spec in cuts], static_argnums=1)
    cuts = (FeatureSpec((), "mean"), FeatureSpec((1,), "mean"), FeatureSpec((1,), None), FeatureSpec((), "distilled"))
    expected = (last[:, special:].mean(1)[:, None], first[:, special:].mean(1)[:, None], first, last[:, :2])
    for spec, values, right in zip(cuts, found(params, cuts), expected, strict=True):
        np.testing.assert_allclose(values, right, atol=TOLERANCE, err_msg=str(spec))


def test_what_decides_a_cut() -> None:
    model, params, _ = opened("electra/base")  # whose embeddings are projected before block 0
    paths = {path for path in flatten(params) if path.startswith("backbone/")}
    lower = below(model, FeatureSpec((1,), None))
    assert lower == {path for path in paths if "/embeddings" in path or "/layer/0/" in path}
    assert "backbone/embeddings_project/kernel" in below(model, FeatureSpec((0,), None))
    model, params, _ = opened("vit/plain")
    assert not [
        path for path in below(model, FeatureSpec((2,), None)) if "layernorm/" in path.removeprefix("backbone/")[:10]
    ]
    assert "backbone/layernorm/scale" in below(model, FeatureSpec((), "mean"))


def test_refused() -> None:
    model, _, _ = opened("bert/plain")
    assert resolved(FeatureSpec((-1, 0)), model).layers == (2, 0)
    for made, message in {
        lambda: FeatureSpec((), "max"): "pooling is 'max'; it must be",
        lambda: FeatureSpec((1, 2), None): "without pooling only one layer can be read",
        lambda: FeatureSpec((1,), "pooler"): "the pooler reads only the last hidden state",
        lambda: resolved(
            FeatureSpec((3,)), model
        ): r"there is no layer 3; the layers of this backbone are 0 \(the embeddings\) to 2",
    }.items():
        with pytest.raises(TlxError, match=message):
            made()
