"""RoBERTa's tokenizer, which splits bytes and counts a word's space to the word."""

import itertools
import json
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer

from tlx.pretrained.tokenizer import Tokenizer

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def test_words_have_a_space_before_them(tmp_path: Path) -> None:
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        ["a lovely film was warm", "the dull plot and grim cold"] * 5, 300, special_tokens=SPECIAL
    )
    trained.save_model(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    tokenizer = Tokenizer(tmp_path, 16)
    assert tokenizer.pad_id == 1
    ids, types, firsts = tokenizer.words([["a", "lovely", "film"], []])
    parts = [trained.encode(f" {word}").ids for word in ("a", "lovely", "film")]
    assert ids == [[0, *itertools.chain(*parts), 2], [0, 2]]
    assert types == [[0] * len(ids[0]), [0, 0]]
    assert firsts == [[1, 1 + len(parts[0]), 1 + len(parts[0]) + len(parts[1])], []]
    plain, _ = tokenizer(["a lovely film"])
    assert plain == [[0, *trained.encode("a lovely film").ids, 2]]  # a text has none before its first word
