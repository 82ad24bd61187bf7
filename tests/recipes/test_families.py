"""Other families through the whole of a run: trained with their lower part frozen, predicted with, exported, opened."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests import tiny
from tlx.models.distilbert import DistilBertConfig
from tlx.models.model import build_model
from tlx.models.roberta import RobertaConfig
from tlx.params.paths import flatten
from tlx.pretrained.load import from_pretrained, random_params
from tlx.pretrained.save import write_folder
from tlx.recipes import finetune
from tlx.recipes.run_directory import load_run

SHARED: dict[str, Any] = {"vocab_size": 32, "max_position_embeddings": 32, "initializer_range": 0.1}
CONFIGS = {
    "roberta": RobertaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, pad_token_id=1, **SHARED
    ),
    "distilbert": DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=48, **SHARED),
}
LOWER = {"roberta": "backbone/encoder/layer/0/.*", "distilbert": "backbone/transformer/layer/0/.*"}


def write_checkpoint(folder: Path, family: str) -> Path:
    """Random weights and a tokenizer of whole words, whose padding token is the family's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    model = build_model(CONFIGS[family], {})
    write_folder(folder, model, random_params(model, 0))
    pad = CONFIGS[family].pad_token_id
    special = ["<s>", "<pad>"] if pad else ["<pad>", "<s>"]
    words = [*special, "</s>", "<unk>", *tiny.GOOD, *tiny.BAD, *tiny.NEUTRAL]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", words.index("<s>")), ("</s>", words.index("</s>"))]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", CONFIGS)
def test_fine_tuned_and_exported(family: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", family)
    config = tiny.config(checkpoint, tiny.write_reviews(tmp_path / "reviews.csv", 200))
    config.train.epochs = 3.0
    config.model.hidden_dropout_prob = 0.0  # whatever the family calls it
    config.params.rules = (("backbone/embeddings/.*", "frozen"), (LOWER[family], "frozen"))
    summary = finetune.build(config, tmp_path / "run").run(quiet=True)
    assert summary["metrics"]["test/accuracy"] > 0.7
    trained = load_run(tmp_path / "run")
    _, before = from_pretrained(checkpoint, {})
    same = {
        path: np.array_equal(leaf, flatten(before)[path])
        for path, leaf in flatten(trained.params).items()
        if path.startswith("backbone/")
    }
    frozen = tuple(path for path in same if path.startswith(("backbone/embeddings/", LOWER[family][:-2])))
    assert frozen and all(same[path] for path in frozen)
    assert not all(same[path] for path in same.keys() - set(frozen))
    folder = write_folder(tmp_path / "export", trained.model, trained.params, tokenizer_from=trained.pretrained)
    model, params = from_pretrained(folder)
    inputs = trained.encoder.inputs(["a great film", "the plot was dull and grim and cold"])
    one, other = (
        jax.device_get(m.apply({"params": p}, **inputs).logits["default"])
        for m, p in ((trained.model, trained.params), (model, params))
    )
    np.testing.assert_array_equal(one, other)
