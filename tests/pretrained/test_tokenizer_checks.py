"""A tokenizer is looked at before it is believed: its files, its numbers, and whether copies say the same."""

import csv
import functools
import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import ByteLevelBPETokenizer, SentencePieceUnigramTokenizer

from tests import tiny
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.models.distilbert import DistilBertConfig
from tlx.models.electra import ElectraConfig
from tlx.models.model import Model, build_model
from tlx.models.roberta import CamembertConfig, RobertaConfig, XlmRobertaConfig
from tlx.pretrained.load import random_params
from tlx.pretrained.save import write_folder
from tlx.pretrained.tokenizer import Tokenizer
from tlx.recipes import finetune

SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
FAMILIES: dict[str, Any] = {
    "bert": tiny.SMALL,
    "roberta": RobertaConfig(**SIZES, vocab_size=400, max_position_embeddings=40),
    "xlm-roberta": XlmRobertaConfig(**SIZES, vocab_size=400, max_position_embeddings=40),
    "camembert": CamembertConfig(**SIZES, vocab_size=400, max_position_embeddings=40),
    "electra": ElectraConfig(**SIZES, embedding_size=16, vocab_size=32, max_position_embeddings=40),
    "distilbert": DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=16, vocab_size=32, initializer_range=0.1),
}
WORDPIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *tiny.GOOD,
    *tiny.BAD,
    *tiny.NEUTRAL,
    "世",
    "##s",
    "caf",
    "cafe",
]
WORLD = ["世界 的 电影", "ประเทศไทย", "مرحبا بالعالم", "नमस्ते दुनिया", "👍🏽 👨‍👩‍👧 film"]
HARD = [
    "a fine film", "A FINE Film", "  spaces   inside  ", "café déjà vu", "世界 fine 的", "ประเทศไทย", "مرحبا بالعالم",
    "नमस्ते दुनिया", "👍🏽 fine 👨‍👩‍👧", "fine\u200bfilm\ufeff", "fine\tfilm\nplot",
    "x" * 200, "the_plot-was... cold!?", "films", "\u0301", "ﬁne", "[MASK] fine [SEP]", "<mask> fine </s>",
]  # fmt: skip


def vocabulary(folder: Path, family: str) -> None:
    if family == "roberta":
        trained = ByteLevelBPETokenizer()
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        trained.train_from_iterator(["a lovely film was warm", "the dull plot"] * 5, 300, special_tokens=special)
        trained.save_model(str(folder))
    elif family in ("xlm-roberta", "camembert"):  # SentencePiece's unigrams, of texts that are not English
        unigrams = SentencePieceUnigramTokenizer()
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        unigrams.train_from_iterator(
            [*HARD[:8], *WORLD] * 5, 150, special_tokens=special, unk_token="<unk>", show_progress=False
        )
        unigrams.save(str(folder / "tokenizer.json"))
        kind = {"xlm-roberta": "XLMRobertaTokenizer", "camembert": "CamembertTokenizer"}[family]
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    else:
        (folder / "vocab.txt").write_text("\n".join(WORDPIECES) + "\n", encoding="utf-8")


def slow(folder: Path) -> None:
    """As PhoBERT: a vocabulary with counts, codes under a name of its own, a tokenizer written in Python."""
    words = [*tiny.GOOD, *tiny.BAD, *tiny.NEUTRAL]
    (folder / "vocab.txt").write_text("".join(f"{word} 9\n" for word in words))
    codes = []
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            codes.append(f"{parts[0]} {parts[1]} 9")
            parts = [parts[0] + parts[1], *parts[2:]]
    (folder / "bpe.codes").write_text("\n".join(dict.fromkeys(codes)) + "\n")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "tokenizer_class": "PhobertTokenizer"}))


@functools.cache
def drawn(family: str) -> tuple[Model, Any]:
    model = build_model(FAMILIES[family], {})
    return model, random_params(model, 0)


def checkpoint(folder: Path, family: str = "bert") -> Path:
    write_folder(folder, *drawn(family))
    vocabulary(folder, family)
    return folder


def ids_of(folder: Path) -> list[list[int]]:
    """What transformers itself makes of the hard texts."""
    from transformers import AutoTokenizer

    ids: list[list[int]] = AutoTokenizer.from_pretrained(folder, local_files_only=True)(HARD)["input_ids"]
    return ids


@pytest.mark.parametrize("family", [*FAMILIES, "class in config.json alone", "slow"])
def test_a_copy_tokenizes_to_the_same_ids(tmp_path: Path, family: str) -> None:
    source = checkpoint(tmp_path / "source", family if family in FAMILIES else "roberta")
    if family == "slow":
        slow(source)
    elif family not in FAMILIES:
        for name in ("vocab.json", "merges.txt"):
            (source / name).unlink()
        vocabulary(source, "bert")
        settings = json.loads((source / "config.json").read_text())
        (source / "config.json").write_text(json.dumps({**settings, "tokenizer_class": "BertTokenizer"}))
    expected = ids_of(source)
    assert len({tuple(row) for row in expected}) > 5  # not every text alike
    model, params = drawn(family if family in FAMILIES else "roberta")
    copy = write_folder(tmp_path / "copy", model, params, tokenizer_from=source)
    assert ids_of(copy) == expected
    own, _ = Tokenizer(copy, 40)(HARD)
    assert [row[:-1] for row in own] == [row[: len(ours) - 1] for row, ours in zip(expected, own, strict=True)]
    again = write_folder(copy, model, params, tokenizer_from=source)  # an export is replaced
    assert ids_of(again) == expected


@pytest.mark.parametrize("family", ["xlm-roberta", "camembert"])
def test_a_sentencepiece_file_alone_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """transformers takes the file for one of tiktoken then, and asks for that."""
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    folder = checkpoint(tmp_path / "checkpoint", family)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "sentencepiece.bpe.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
    with pytest.raises(TlxError, match=r"sentencepiece\.bpe\.model is read with the package sentencepiece"):
        Tokenizer(folder, 40)


def without_vocabulary(folder: Path) -> None:
    (folder / "vocab.txt").unlink()


def too_many(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join([*WORDPIECES, *(f"more{i}" for i in range(20))]) + "\n")


def empty(folder: Path) -> None:
    (folder / "vocab.txt").write_text("")


def pointer(folder: Path) -> None:
    (folder / "vocab.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def no_unknown(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(word for word in WORDPIECES if word != "[UNK]"))


def no_json(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "Nonsense"}}')


def settings_no_json(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("[" * 100_000)


def unknown_class(folder: Path) -> None:
    (folder / "vocab.txt").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "NobodysTokenizer"}')


def byte_order_mark(folder: Path) -> None:
    """The first line is no [PAD] then, and transformers adds one after the last."""
    words = [*WORDPIECES, *(f"more{i}" for i in range(tiny.SMALL.vocab_size - len(WORDPIECES)))]
    (folder / "vocab.txt").write_text("\ufeff" + "\n".join(words) + "\n", encoding="utf-8")


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (without_vocabulary, "made from tokenizer.json or from vocab.txt, and vocab.txt is not there"),
    (too_many, rf"has {len(WORDPIECES) + 20} tokens and the checkpoint's embedding table 32 rows"),
    (byte_order_mark, r"pads by token 32 \('\[PAD\]'\), and the checkpoint's embedding table has 32 rows"),
    (empty, "empty vocabulary"),
    (pointer, "git lfs pull"),
    (no_unknown, r"Missing \[UNK\] token"),
    (no_json, r"tokenizer\.json is not a valid tokenizer"),
    (no_tokenizer, "no tokenizer that transformers can open"),
    (settings_no_json, "nested too deeply"),
    (unknown_class, "not there|no tokenizer"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_tokenizer_that_is_damaged(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    folder = checkpoint(tmp_path / "checkpoint")
    damage(folder)
    config = tiny.config(folder, tiny.write_reviews(tmp_path / "reviews.csv", 40))
    with pytest.raises(TlxError, match=message) as raised:
        finetune.build(config, tmp_path / "run")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 700
    assert not (tmp_path / "run").exists()


def test_more_rows_than_tokens_is_normal(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint")
    (folder / "vocab.txt").write_text("\n".join(WORDPIECES[:20]) + "\n")
    assert Tokenizer(folder, 8)(["fine"])[0] == [[2, WORDPIECES.index("fine"), 3]]


def test_token_types_that_the_checkpoint_lacks(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "type_vocab_size": 1}))
    tokenizer = Tokenizer(folder, 16)
    assert tokenizer(["a film"])[1] == [[0] * 4]
    with pytest.raises(TlxError, match=r"gives token type 1, and the checkpoint's table has 1 rows"):
        tokenizer(["a film"], ["the plot"])


def test_words_of_a_slow_tokenizer(tmp_path: Path) -> None:
    """Against each word encoded by itself, by transformers."""
    from transformers import AutoTokenizer

    folder = checkpoint(tmp_path / "checkpoint", "roberta")
    slow(folder)
    theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert not theirs.is_fast
    sentence = ["a", "lovely", "unseen", "film"]
    parts = [theirs.encode(word, add_special_tokens=False) for word in sentence]
    ids, types, firsts = Tokenizer(folder, 30).words([sentence, []])
    assert ids == [
        [theirs.cls_token_id, *itertools.chain(*parts), theirs.sep_token_id],
        [theirs.cls_token_id, theirs.sep_token_id],
    ]
    assert types == [[0] * len(row) for row in ids]
    assert firsts == [[1 + sum(map(len, parts[:i])) for i in range(4)], []]


@pytest.mark.slow
@pytest.mark.long
def test_a_slow_tokenizer_through_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained, predicted with, evaluated and exported; every copy says what the source says."""
    folder = checkpoint(tmp_path / "checkpoint", "roberta")
    slow(folder)
    data = tiny.write_reviews(tmp_path / "reviews.csv", 60)
    config = tiny.config(folder, data)
    config.train.epochs = 1.0
    finetune.build(config, tmp_path / "run").run(quiet=True)
    expected = ids_of(folder)
    shutil.rmtree(folder)
    main(["predict", str(tmp_path / "run"), "a lovely film", "世界 ประเทศไทย مرحبا नमस्ते 👍🏽"])
    main(["evaluate", str(tmp_path / "run"), "--data", f"csv:{data}"])
    world = tmp_path / "world.csv"
    world.write_text("text,label\n" + "".join(f"{text},good\n" for text in WORLD), encoding="utf-8")
    main(["predict", str(tmp_path / "run"), "--input", str(world), "--output", str(tmp_path / "answers.csv")])
    with (tmp_path / "answers.csv").open(encoding="utf-8", newline="") as predictions:
        assert [row["text"] for row in csv.DictReader(predictions)] == WORLD
    main(["evaluate", str(tmp_path / "run"), "--data", f"csv:{world}"])
    main(["features", str(tmp_path / "run"), "--input", str(world), "--output", str(tmp_path / "features.npz")])
    with np.load(tmp_path / "features.npz") as features:
        assert all(len(array) == len(WORLD) for array in features.values() if array.ndim == 2)
    main(["export", str(tmp_path / "run"), "--to", str(tmp_path / "export")])
    assert "a lovely film" in capsys.readouterr().out
    assert ids_of(tmp_path / "run" / "pretrained") == ids_of(tmp_path / "export") == expected


def tokenizer_json(folder: Path, **changes: Any) -> Path:
    """A working tokenizer.json in a BERT folder, with some parts of it changed."""
    from transformers import AutoTokenizer

    checkpoint(folder)
    AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer.save(str(folder / "tokenizer.json"))
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**content, **changes}))
    return folder


def nested(count: int) -> dict[str, Any]:
    steps = [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * count
    return {"type": "Sequence", "normalizers": steps}


def template(count: int) -> dict[str, Any]:
    pieces = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}] * count
    known = {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}
    return {
        "type": "TemplateProcessing", "special_tokens": known,
        "single": [*pieces, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "B", "type_id": 0}}],
    }  # fmt: skip


def test_a_tokenizer_json_that_would_use_up_time_or_memory(tmp_path: Path) -> None:
    assert Tokenizer(tokenizer_json(tmp_path / "fine"), 8)(["fine"])[0] == [[2, WORDPIECES.index("fine"), 3]]
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "growth": ({"normalizer": nested(40)}, "times longer"),
        "nested": ({"normalizer": {"type": "Sequence", "normalizers": [nested(20), nested(20)]}}, "times longer"),
        "template": ({"post_processor": template(100_000)}, "a template of 100,002 pieces"),
        "steps": ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}] * 1000}}, "steps"),
    }
    for name, (changes, message) in cases.items():
        with pytest.raises(TlxError, match=message):
            Tokenizer(tokenizer_json(tmp_path / name, **changes), 8)
    long_words = tokenizer_json(tmp_path / "long words")
    content = json.loads((long_words / "tokenizer.json").read_text())
    content["model"]["max_input_chars_per_word"] = 10**9
    (long_words / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(TlxError, match="words of 1,000,000,000 characters"):
        Tokenizer(long_words, 8)
    spaces = tokenizer_json(tmp_path / "spaces") / "tokenizer.json"
    with spaces.open("ab") as file:
        file.truncate(2**30)
    with pytest.raises(TlxError, match=r"has 1,073,741,824 bytes, more than"):
        Tokenizer(spaces.parent, 8)


def test_a_file_for_newer_versions_is_checked_and_copied(tmp_path: Path) -> None:
    """transformers opens it in place of tokenizer.json."""
    source = tokenizer_json(tmp_path / "source")
    newer = json.loads((source / "tokenizer.json").read_text())
    newer["normalizer"] = {"type": "Replace", "pattern": {"String": "film"}, "content": "plot"}
    (source / "tokenizer.4.0.0.json").write_text(json.dumps(newer))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "fast_tokenizer_files": ["tokenizer.json", "tokenizer.4.0.0.json"],
        "unk_token": "[UNK]", "pad_token": "[PAD]",
    }  # fmt: skip
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    assert Tokenizer(source, 8)(["film"])[0] == [[2, WORDPIECES.index("plot"), 3]]
    model = build_model(tiny.SMALL, {})
    copy = write_folder(tmp_path / "copy", model, random_params(model, 0), tokenizer_from=source)
    assert ids_of(copy) == ids_of(source)
    (source / "tokenizer.4.0.0.json").write_text(json.dumps({**newer, "normalizer": nested(40)}))
    with pytest.raises(TlxError, match="times longer"):
        Tokenizer(source, 8)
    (source / "tokenizer_config.json").write_text(
        json.dumps({**settings, "fast_tokenizer_files": ["../tokenizer.4.json"]})
    )
    with pytest.raises(TlxError, match="fast_tokenizer_files of"):
        Tokenizer(source, 8)


def test_a_panic_while_encoding_is_a_sentence(tmp_path: Path) -> None:
    """A pattern that backtracks without end makes `tokenizers` raise what is no `Exception`."""
    split = {"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated", "invert": False}
    folder = tokenizer_json(tmp_path / "folder", pre_tokenizer=split)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    tokenizer = Tokenizer(folder, 8)
    with pytest.raises(TlxError, match=r"cannot encode these texts: .*retry-limit"):
        tokenizer(["a" * 60 + "b"])


def test_padding_and_truncation_said_in_the_file_do_not_count(tmp_path: Path) -> None:
    """A padding to a million tokens a text would be a bomb, were it believed."""
    padding = {
        "strategy": {"Fixed": 1_000_000}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    ids, _ = Tokenizer(tokenizer_json(tmp_path / "folder", padding=padding), 8)(["fine", "a fine film"])
    assert list(map(len, ids)) == [3, 5]


def test_numbers_in_a_batch_are_rows_of_the_table(tmp_path: Path) -> None:
    """Whatever the text, the largest number that a model is given is a row of its table."""
    tokenizer = Tokenizer(checkpoint(tmp_path / "checkpoint"), 30)
    assert np.max(tokenizer.inputs(HARD)["input_ids"]) < tiny.SMALL.vocab_size
