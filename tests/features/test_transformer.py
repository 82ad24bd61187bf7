"""`tlx.Features` among scikit-learn's own, and the command that writes features."""

import json
import pickle
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier, GradientBoostingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import (
    check_estimator_repr,
    check_get_params_invariance,
    check_no_attributes_set_in_init,
    check_parameters_default_constructible,
    check_set_params,
)

import tlx
from tests import tiny
from tlx.cli.main import main
from tlx.data.readers import READERS
from tlx.errors import TlxError
from tlx.models.model import build_model
from tlx.models.vit import ViTConfig
from tlx.pretrained.load import from_pretrained, random_params
from tlx.pretrained.save import write_folder

TEXTS = ["a great film", "the plot was dull and grim and cold", "warm", "a sweet plot and a fine film"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint(tmp_path_factory.mktemp("transformer") / "checkpoint")


@pytest.fixture(scope="module")
def features(checkpoint: Path) -> tlx.Features:
    return tlx.Features(str(checkpoint), layers=(1, -1), batch_size=4).fit()


@pytest.mark.parametrize(
    "check",
    [
        check_no_attributes_set_in_init,
        check_get_params_invariance,
        check_set_params,
        check_estimator_repr,
        check_parameters_default_constructible,
    ],
)
def test_scikit_learn_s_own_checks(check: Any) -> None:
    """Those that need no data; the others give numbers where texts are read."""
    check("Features", tlx.Features())


def test_one_text_at_a_time(features: tlx.Features, checkpoint: Path) -> None:
    """Against the model itself, unpadded, pooled by NumPy."""
    model, params = from_pretrained(checkpoint, heads={})
    found = features.transform(TEXTS)
    assert found.shape == (4, 64) and found.dtype == np.float32
    ids, _ = tlx.load_pretrained(checkpoint).preprocessor(TEXTS)  # type: ignore[operator]
    given = {"input_ids": np.array([ids[2]])}
    output: Any = jax.jit(lambda given: model.apply({"params": params}, **given, output_hidden_states=True))(given)
    means = [np.asarray(output.hidden_states[layer])[0].mean(0) for layer in (1, 2)]
    np.testing.assert_allclose(found[2], np.concatenate(means), atol=1e-5)
    np.testing.assert_array_equal(features.transform(np.array(TEXTS)), found)  # an array, or one of objects
    np.testing.assert_array_equal(features.transform(np.array(TEXTS, object)), found)


@pytest.mark.long
def test_among_scikit_learn_s(features: tlx.Features, checkpoint: Path, tmp_path: Path) -> None:
    table = READERS["csv"].columns(tiny.write_reviews(tmp_path / "reviews.csv", 32))
    texts, labels = table["text"], table["label"]
    features = clone(features).set_params(cache=str(tmp_path / "kept"), batch_size=32)
    assert features.get_params()["layers"] == (1, -1)
    with pytest.raises(NotFittedError):
        features.transform(texts)
    for estimator in (
        SVC(), KNeighborsClassifier(3), DecisionTreeClassifier(random_state=0),
        BaggingClassifier(random_state=0, n_estimators=3), GradientBoostingClassifier(n_estimators=5, random_state=0),
    ):  # fmt: skip
        pipeline = make_pipeline(features, estimator).fit(texts, labels)
        direct = clone(estimator).fit(clone(features).fit_transform(texts), labels)
        assert list(pipeline.predict(texts)) == list(direct.predict(features.transform(texts)))
    assert len(list((tmp_path / "kept").iterdir())) == 1  # computed once for all of them
    names = pipeline[0].get_feature_names_out()
    assert len(names) == 64 and names[0] == "features0"
    both = make_union(clone(features), clone(features).set_params(layers=None, pooling="cls")).fit(texts)
    assert both.transform(texts).shape == (32, 96) and len(both.get_feature_names_out()) == 96
    again = pickle.loads(pickle.dumps(pipeline))
    assert len(pickle.dumps(pipeline[0])) < 2_000  # no weights
    assert list(again.predict(texts)) == list(pipeline.predict(texts))


def test_pairs(features: tlx.Features) -> None:
    """A pair has token types of its own."""
    pairs = [("a great film", "warm"), ("cold", "the plot")]
    found = features.transform(pairs)
    np.testing.assert_array_equal(features.transform(np.array(pairs)), found)
    assert not np.allclose(found, features.transform(["a great film [SEP] warm", "cold [SEP] the plot"]), atol=1e-3)


def test_images(tmp_path: Path) -> None:
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4
    )
    model = build_model(config, {})
    write_folder(tmp_path, model, random_params(model, 0))
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    found = tlx.Features(str(tmp_path), batch_size=4).fit().transform(images)
    loaded = tlx.load_pretrained(tmp_path, heads={})
    inputs: Any = loaded.preprocessor.inputs(images)  # type: ignore[arg-type]
    output: Any = jax.jit(lambda inputs: loaded.model.apply({"params": loaded.params}, **inputs))(inputs)
    np.testing.assert_allclose(found, np.asarray(output.last_hidden_state)[:, 1:].mean(1), atol=1e-5)


def test_refused(features: tlx.Features, checkpoint: Path) -> None:
    for given, message in {
        "a text": "found a single text or image; expected a list of them",
        ("a", ""): "example 1 is .*; expected a text, or in every row a pair",
        (): "found 0 examples",
    }.items():
        with pytest.raises(TlxError, match=message):
            features.transform(given)
    with pytest.raises(TlxError, match="example 1 is"):
        features.transform([("a", "b"), "c"])
    for change, message in (
        ({"checkpoint": ""}, "Features has no checkpoint"),
        ({"pooling": None}, "Features returns one vector for each example"),
        ({"pooling": "pooler"}, "the pooler reads only the last hidden state"),
        ({"layers": (5,)}, "there is no layer 5"),
        ({"batch_size": 0}, "batch_size is 0; it must be a number of examples"),
    ):
        with pytest.raises(TlxError, match=message):
            clone(features).set_params(**change).fit()
    with pytest.raises(TlxError, match="max_length is 99; this checkpoint takes 3 to 32 tokens"):
        clone(features).set_params(max_length=99).fit().transform(TEXTS)


def test_command(features: tlx.Features, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, to = tmp_path / "texts.csv", tmp_path / "out.npz"
    file.write_text("body,label\n" + "".join(f"{text},{number}\n" for number, text in enumerate(TEXTS)))
    main(
        ["features", str(checkpoint), "--input", str(file), "--output", str(to), "--layers", "1", "-1", "--text",
         "body", "--keep", "label", "--batch-size", "4"]
    )  # fmt: skip
    assert capsys.readouterr().out == f"{to}: features of 4 examples, 64 numbers each\n"
    with np.load(to, allow_pickle=False) as saved:
        np.testing.assert_array_equal(saved["features"], features.transform(TEXTS))
        assert saved["label"].tolist() == ["0", "1", "2", "3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npz", "texts.csv"]
    with pytest.raises(SystemExit):
        main(["features", str(checkpoint), "--input", str(tmp_path / "a.txt"), "--output", str(to)])
    assert "a.txt: its suffix is not one of csv, tsv, jsonl" in capsys.readouterr().err
