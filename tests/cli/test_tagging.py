"""Tagging by command: classes of tokens, sentences longer than max_length, words that cannot be predicted."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tests import tiny
from tlx.cli.main import main
from tlx.data import plan
from tlx.errors import TlxError
from tlx.recipes import finetune
from tlx.recipes.run_directory import read_summary

pytestmark = pytest.mark.slow
ENDLESS, NOTHING = "a" * 15, "\u200d"  # 15 tokens, of which a window of 16 has 14; none


def part_of(word: str) -> str:
    return "ADJ" if word in (*tiny.GOOD, *tiny.BAD) else "NOUN" if word in ("film", "plot") else "REST"


def write_conll(file: Path, count: int, longest: int, seed: int, odd: tuple[str, ...] = ()) -> Path:
    """Sentences of plain tags. odd: words put into some of them."""
    random = np.random.default_rng(seed)
    blocks = []
    for number in range(count):
        words = random.choice([*tiny.GOOD, *tiny.BAD, *tiny.NEUTRAL], random.integers(1, longest)).tolist()
        if odd and number % 3 == 0:
            words.insert(len(words) // 2, odd[number % len(odd)])
        blocks.append("".join(f"{word}\t{part_of(word)}\n" for word in words))
    file.write_text("\n".join(blocks), encoding="utf-8")
    return file


def pairs_in(file: Path) -> list[list[list[str]]]:
    """(word, tag) by sentence, read by hand."""
    return [
        [line.split("\t") for line in block.splitlines()]
        for block in file.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run on sentences of which many are longer than 16 tokens."""
    folder = tmp_path_factory.mktemp("tagging")
    checkpoint = tiny.write_checkpoint(folder / "checkpoint")
    with (checkpoint / "vocab.txt").open("a") as vocabulary:
        vocabulary.write("##a\n")
    config = tiny.config(checkpoint, folder)
    config.data.train = f"conll:{write_conll(folder / 'train.conll', 120, 30, 0)}"
    config.data.test = f"conll:{write_conll(folder / 'test.conll', 30, 60, 1, (ENDLESS, NOTHING))}"
    config.data.text, config.data.label, config.data.test_fraction = "tokens", "tags", 0.0
    config.head.kind, config.train.epochs, config.train.evaluate_every = "tagging", 5.0, 5.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "LENGTH_BUCKETS", (16,))
        finetune.build(config, folder / "run").run(quiet=True)
        yield folder


def test_every_word_of_the_file_counts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary, `tlx evaluate` and `tlx predict` speak of all words, and scikit-learn gives their figures."""
    sentences = pairs_in(place / "test.conll")
    true = [tag for sentence in sentences for _, tag in sentence]
    lost = sum(word in (ENDLESS, NOTHING) for sentence in sentences for word, _ in sentence)
    long = sum(sum(len(word) if word == ENDLESS else word != NOTHING for word, _ in row) > 14 for row in sentences)
    assert lost == 10 and long > 10
    summary: Any = read_summary(place / "run")
    assert summary["tags"] == "classes of tokens"
    assert summary["words"]["test"] == {
        "words": len(true), "windowed_sentences": long, "unpredictable_words": lost,
    }  # fmt: skip
    assert "validation/accuracy" in summary["selection"] and not any("entity" in name for name in summary["metrics"])
    with np.load(place / "run" / "predictions" / "test.npz") as saved:
        assert len(saved["predictions"]) == len(saved["labels"]) == len(true) and len(saved["example_id"]) == 30
        assert np.diff(saved["word_offsets"]).tolist() == [len(sentence) for sentence in sentences]

    lines = [json.dumps({"tokens": [word for word, _ in sentence]}) for sentence in sentences]
    (place / "test.jsonl").write_text("\n".join(lines) + "\n")
    main(["predict", f"{place}/run", "--input", f"{place}/test.jsonl"])
    out, err = capsys.readouterr()
    assert f"{lost} words could not be predicted" in err
    said = [json.loads(line)["predicted"] for line in out.splitlines()]
    assert [len(tags) for tags in said] == [len(sentence) for sentence in sentences]
    for sentence, tags in zip(sentences, said, strict=True):
        for (word, _), tag in zip(sentence, tags, strict=True):
            assert (tag is None) == (word in (ENDLESS, NOTHING))
    flat = [str(tag) for tags in said for tag in tags]
    figures = {
        "accuracy": accuracy_score(true, flat),
        "macro_f1": f1_score(true, flat, labels=sorted(set(true)), average="macro"),
    }
    assert figures["accuracy"] > 0.9
    assert {name: summary["metrics"][f"test/{name}"] for name in figures} == pytest.approx(figures)

    main(["evaluate", f"{place}/run", "--data", f"conll:{place}/test.conll"])
    told = capsys.readouterr().out
    assert re.search(rf"30 examples, step [0-9]+ of run; {len(true)} words, {long} sentences longer than max_len", told)
    assert f"{lost} words that cannot be predicted and count as wrong" in told
    for name, value in figures.items():
        assert re.search(rf"{name} .*{value:.4f}", told)


def test_empty_in_every_form(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not predicted is null in JSON lines, nothing in a CSV, (none) in words."""
    (place / "one.jsonl").write_text(json.dumps({"tokens": [NOTHING, "film"]}) + "\n")
    for format_, expected in (("jsonl", '[null, "NOUN"]'), ("csv", ",|NOUN")):
        where = place / f"one.out.{format_}"
        main(["predict", f"{place}/run", "--input", f"{place}/one.jsonl", "--output", str(where)])
        assert expected in where.read_text(encoding="utf-8")
    main(["predict", f"{place}/run", f"{NOTHING} film"])
    assert capsys.readouterr().out.endswith("  (none)  NOUN\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.monitor": "validation/entity_f1"}, "a tagging whose tags form no entities has validation/loss"),
        ({"data.stride": 14}, "data.stride is 14; windows of 16 tokens, 2 of them special, overlap by 0 to 13 tokens"),
    ],
)
def test_refused(change: dict[str, Any], message: str, place: Path) -> None:
    config = tiny.config(place / "checkpoint", place)
    config.data.train, config.data.text, config.data.label = f"conll:{place}/train.conll", "tokens", "tags"
    config.head.kind = "tagging"
    config.update_from_flattened_dict(change)
    with pytest.raises(TlxError, match=message):
        finetune.build(config, place / "other")


def test_a_run_of_an_earlier_version_goes_on(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has written neither the field nor the facts that there are now; another value is still a difference."""
    file = place / "run" / "config.json"
    now = json.loads(file.read_text())
    before = json.loads(file.read_text())
    del before["config"]["data"]["stride"], before["data"]["tags"], before["data"]["words"]
    config = tiny.config(place / "checkpoint", place)
    config.update(now["config"])
    file.write_text(json.dumps(before))
    try:
        finetune.build(config, place / "run")
        told = capsys.readouterr().out
        assert "tags: 3 classes of tokens, no entity scheme; measured by accuracy and macro-F1." in told
        assert re.search(r"test: [0-9]+ words, .* 10 words that cannot be predicted and count as wrong", told)
        config.data.stride = 3
        with pytest.raises(TlxError, match=r"differing: .*config\.data\.stride"):
            finetune.build(config, place / "run")
    finally:
        file.write_text(json.dumps(now))
