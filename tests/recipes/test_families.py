"""Another family through the whole of a run: trained with its lower part frozen, predicted with, exported, opened.

DistilBERT, because its blocks and its config's fields have other names than BERT's.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from tests import tiny
from tlx.models.distilbert import DistilBertConfig
from tlx.models.model import build_model
from tlx.params.paths import flatten
from tlx.pretrained.load import from_pretrained, random_params
from tlx.pretrained.save import write_folder
from tlx.recipes import finetune
from tlx.recipes.trained import load_run

CONFIG = DistilBertConfig(
    dim=32, n_layers=2, n_heads=4, hidden_dim=48, pad_token_id=1, vocab_size=32, max_position_embeddings=32,
    initializer_range=0.1,
)  # fmt: skip
FROZEN = ("backbone/embeddings/position", "backbone/transformer/layer/0/")


def write_checkpoint(folder: Path) -> Path:
    """Random weights and a tokenizer of whole words, whose padding token is the second."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    model = build_model(CONFIG, {})
    write_folder(folder, model, random_params(model, 0))
    words = ["<s>", "<pad>", "</s>", "<unk>", *tiny.GOOD, *tiny.BAD, *tiny.NEUTRAL]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.long
@pytest.mark.slow
def test_fine_tuned_and_exported(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    config = tiny.config(checkpoint, tiny.write_reviews(tmp_path / "reviews.csv", 200))
    config.train.epochs, config.data.max_length = 8.0, 12
    config.model.hidden_dropout_prob = 0.0  # DistilBERT calls it dropout
    config.params.rules = tuple((f"{prefix}.*", "frozen") for prefix in FROZEN)
    summary = finetune.build(config, tmp_path / "run").run(quiet=True)
    assert summary["metrics"]["test/accuracy"] > 0.7
    trained = load_run(tmp_path / "run")
    before = flatten(from_pretrained(checkpoint, {})[1])
    moved = {
        path: not np.array_equal(leaf, before[path]) for path, leaf in flatten(trained.params).items() if path in before
    }
    assert not any(moved[path] for path in moved if path.startswith(FROZEN))
    assert all(moved[path] for path in moved if path.endswith("kernel") and not path.startswith(FROZEN))
    folder = write_folder(tmp_path / "export", trained.model, trained.params, tokenizer_from=trained.pretrained)
    model, params = from_pretrained(folder)
    inputs = trained.inputs.preprocessor.inputs(["a great film", "the plot was dull and grim and cold"])
    assert inputs["input_ids"][0, -1] == 1
    one, other = (
        jax.device_get(m.apply({"params": p}, **inputs).logits["default"])
        for m, p in ((trained.model, trained.params), (model, params))
    )
    np.testing.assert_array_equal(one, other)
