"""Texts and images by the contract: columns, plain inputs, what decides stored features, what a card says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests import tiny
from tlx.data.sources import Table
from tlx.errors import TlxError
from tlx.modalities.api import Columns, InputSettings
from tlx.modalities.image import Images
from tlx.modalities.open import MODALITIES, open_modality
from tlx.modalities.text import Texts
from tlx.models.heads import Head
from tlx.models.model import FAMILIES
from tlx.recipes import defaults

DIGITS = Path(__file__).parents[2] / "configs" / "vit_digits"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    opened = open_modality(tiny.write_checkpoint(tmp_path_factory.mktemp("texts") / "checkpoint"))
    assert isinstance(opened, Texts)
    return opened


def test_every_family_has_one() -> None:
    found = {name: MODALITIES[config.modality] for name, (config, _) in FAMILIES.items()}
    assert {name for name, modality in found.items() if modality is Images} == {"deit", "tlx_convnet", "vit"}


def test_columns(texts: Texts) -> None:
    """Of a config, and of an older run's plain values, which lack fields."""
    data = defaults.finetune().data
    assert Columns.of(texts, data) == Columns({"text": "text"}, "label", "|")
    data.pair, data.label_separator = "second", ";"
    assert Columns.of(texts, data) == Columns({"text": "text", "pair": "second"}, "label", ";")
    images = open_modality(DIGITS)
    assert Columns.of(images, data).inputs == {"image": "image"}
    assert Columns.of(images, {"text": "body", "label": "y"}) == Columns({"image": "image"}, "y", "|")
    assert Columns.of(images, ConfigDict({"image": "photo"})).inputs == {"image": "photo"}


def test_lengths(texts: Texts) -> None:
    """The checkpoint's, or those that are asked for."""
    assert texts.tokenizer.max_length == tiny.SMALL.max_position_embeddings and texts.length_buckets[-1] == 32
    shorter = open_modality(texts.tokenizer.folder, InputSettings(max_length=5))
    assert shorter.encode_inputs(["a great film was a film and the plot"]).lengths.tolist() == [5]


def test_a_table_and_plain_inputs_are_encoded_alike(texts: Texts) -> None:
    first, second = ["a great film", "the plot"], ["cold", "warm and sweet"]
    table = Table("rows", {"text": first, "other": second, "label": ["x", "y"]})
    pairs = Columns({"text": "text", "pair": "other"})
    for columns, plain in ((Columns({"text": "text"}), first), (pairs, list(zip(first, second, strict=True)))):
        expected = texts.encode(columns, None, table)
        found = [texts.read_row(row, "row", columns, "classification") for row in (
            {name: values[i] for name, values in table.columns.items()} for i in range(2)
        )]  # fmt: skip
        assert found == plain
        assert list(texts.encode_inputs(plain).content()) == list(expected.content())
    labelled = texts.encode(pairs, Head("classification", 2, labels=("x", "y")), table, np.array([5, 3]))
    assert labelled.labels.tolist() == [0, 1] and labelled.example_id.tolist() == [5, 3]


def test_no_inputs(texts: Texts) -> None:
    with pytest.raises(TlxError, match=r"example 0 is \[''\]; expected a text"):
        texts.encode_inputs([""])
    with pytest.raises(TlxError, match="a sentence is a list of them"):
        texts.encode_inputs(["the film"], "tagging")
    with pytest.raises(TlxError, match=r"this run predicts from pairs \('a', 'b'\)"):
        texts.read_arguments(["x"], Columns({"text": "a", "pair": "b"}), "classification")


def test_digest(texts: Texts) -> None:
    """SHA-256 of the length, the kind of tokenizer, and each file's name and SHA-256; it names stores of features."""
    folder = texts.tokenizer.folder
    found = hashlib.sha256(f"32 {texts.tokenizer.kind}".encode())
    for name in ("vocab.txt",):
        found.update(f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n".encode())
    assert texts.digest == found.hexdigest()
    images = open_modality(DIGITS)
    assert images.digest == hashlib.sha256(repr(images.preprocessor.settings).encode()).hexdigest()


def test_what_a_card_says(texts: Texts) -> None:
    tags = {kind: texts.pipeline_tag(kind) for kind in ("classification", "multilabel", "regression", "tagging")}
    assert tags == {**dict.fromkeys(tags, "text-classification"), "tagging": "token-classification"}
    assert texts.limits("regression") == "Texts are truncated to 32 tokens."
    assert texts.limits("tagging") == "Sentences of more than 32 tokens were read in overlapping windows of 32."
    images = open_modality(DIGITS)
    assert (images.pipeline_tag("regression"), images.limits("regression")) == ("image-classification", "")
