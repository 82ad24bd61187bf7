"""Whole runs of every kind of head, each on a task that only a sound pipeline learns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tlx.data.sources import load
from tlx.errors import TlxError
from tlx.pretrained.load import from_pretrained
from tlx.pretrained.save import write_folder
from tlx.recipes import finetune
from tlx.recipes.trained import load_run
from tlx.runs.predictions import predict_inputs, rows_of

pytestmark = pytest.mark.slow


def sentences(place: Path) -> list[list[str]]:
    return [text.split() for text in load(f"csv:{place}/reviews.csv").columns["text"]]


def kind_of(word: str) -> str:
    return "B-good" if word in tiny.GOOD else "B-bad" if word in tiny.BAD else "O"


def test_tagging(place: Path, config: Any, tmp_path: Path) -> None:
    """Every word by itself, from its own token: answers, metrics, export."""
    blocks = ("".join(f"{word}\t{kind_of(word)}\n" for word in words) for words in sentences(place))
    (tmp_path / "tags.conll").write_text("\n".join(blocks))
    config.data.train, config.data.text, config.data.label = f"conll:{tmp_path}/tags.conll", "tokens", "tags"
    config.head.kind, config.train.epochs = "tagging", 4.0
    summary = finetune.build(config, tmp_path / "run").run(quiet=True)
    assert summary["metrics"]["test/entity_f1"] > 0.95
    assert summary["tags"] == "IOB2" and "validation/entity_f1" in summary["selection"]
    trained = load_run(tmp_path / "run")
    unseen = ["the", "film", "was", "great", "and", "dull", "and", "warm"]
    long = ["great", "dull"] * 20  # in windows of 16 tokens, [CLS] and [SEP] among them
    tags = [row["predicted"] for row in rows_of(trained, [unseen, long])]
    assert tags == [[kind_of(word) for word in unseen], ["B-good", "B-bad"] * 20]
    model, params = from_pretrained(
        write_folder(tmp_path / "export", trained.model, trained.params, tokenizer_from=trained.pretrained)
    )
    assert "pooler" not in params["backbone"]
    ids, _, firsts = trained.inputs.preprocessor.words([unseen])
    logits = model.apply({"params": params}, input_ids=np.array(ids)).logits["default"][0]
    head = dict(model.heads_by_name)["default"]
    assert [head.labels[i] for i in np.asarray(logits[np.array(firsts[0])]).argmax(-1)] == tags[0]


@pytest.mark.long
def test_multilabel_balanced(place: Path, config: Any, tmp_path: Path) -> None:
    """Which kinds of words occur at all: both, one, or neither."""
    rows = ["text,labels"]
    for words in sentences(place):
        rows.append(f"{' '.join(words)},{'|'.join(sorted({kind_of(word)[2:] for word in words} - {''}))}")
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    config.data.train, config.data.label, config.head.kind = f"csv:{tmp_path}/rows.csv", "labels", "multilabel"
    config.loss.balanced = True
    summary = finetune.build(config, tmp_path / "run").run(quiet=True)
    assert summary["metrics"]["test/micro_f1"] > 0.9
    predictions = predict_inputs(
        load_run(tmp_path / "run"), ["great and warm film", "cold and dull film", "the film was"]
    )
    assert (predictions > 0).tolist()[:2] == [[False, True], [True, False]]  # bad, good
    assert (predictions[0] > predictions[2]).tolist() == [False, True]


@pytest.mark.long
def test_pairs_accumulated(place: Path, config: Any, tmp_path: Path) -> None:
    """The label hangs on the second text alone; label smoothing, micro-batches, a pooling of our own."""
    table = load(f"csv:{place}/reviews.csv").columns
    rows = [f"the film was,{text},{label}" for text, label in zip(table["text"], table["label"], strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["first,second,label", *rows]) + "\n")
    config.data.train, config.data.text, config.data.pair = f"csv:{tmp_path}/rows.csv", "first", "second"
    config.data.group, config.data.max_length = "second", 16
    config.head.pooling, config.loss.label_smoothing = "mean", 0.05
    config.train.accumulate, config.train.epochs = 3, 6.0  # 20 rows in micro-batches of 7, of which one holds 6
    summary = finetune.build(config, tmp_path / "run").run(quiet=True)
    assert summary["metrics"]["test/accuracy"] > 0.8
    trained = load_run(tmp_path / "run")
    predictions = predict_inputs(trained, [("the film was", second) for second in ("great and warm", "cold and dull")])
    assert predictions.argmax(-1).tolist() == [1, 0]
    with pytest.raises(TlxError, match="cannot express pooling='mean'"):
        write_folder(tmp_path / "export", trained.model, trained.params)


def test_texts_of_test_that_are_in_train_are_counted(place: Path, config: Any, tmp_path: Path) -> None:
    rows = (place / "reviews.csv").read_text().splitlines()
    (tmp_path / "test.csv").write_text("\n".join([rows[0], *rows[1:11], "a great great film was,good,1.0"]) + "\n")
    config.data.test, config.data.validation_fraction = f"csv:{tmp_path}/test.csv", 0.0
    config.data.validation = config.data.test
    facts = finetune.build(config, tmp_path / "run").facts
    known = {row.split(",")[0] for row in rows[1:]}
    expected = sum(row.split(",")[0] in known for row in (tmp_path / "test.csv").read_text().splitlines()[1:])
    assert facts["also_in_train"] == {"validation": expected, "test": expected} and expected >= 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.pair": "label2"}, "has no column 'label2'"),
        ({"loss.label_smoothing": 1.0}, r"config\.loss\.label_smoothing is 1\.0"),
        ({"loss.label_smoothing": 0.1, "head.kind": "regression", "data.label": "score"}, "takes no settings"),
        ({"loss.balanced": True, "head.kind": "regression", "data.label": "score"}, "no classes to weigh"),
        ({"loss.name": "squared_error"}, "a classification head is trained by one of cross_entropy"),
        ({"loss.class_weights": (1.0, 2.0, 3.0)}, r"has 3 weights; it is one for each of the 2 classes \(bad, good\)"),
        ({"loss.class_weights": (1.0, 2.0), "loss.balanced": True}, r"or none with config\.loss\.balanced"),
        ({"train.accumulate": 0}, r"config\.train\.accumulate is 0; it must be above 0"),
        ({"head.kind": "tagging", "data.label": "label"}, "expected a list of tags"),
        ({"head.kind": "multiple_choice"}, "config.head.kind is 'multiple_choice'; it is one of"),
        ({"head.kind": "regression"}, "the column 'label' is not all numbers"),
        ({"head.pooling": "max"}, "head pooling is 'max'; tlx has pooler, cls, mean"),
        ({"optimizer.schedule": "steep"}, "schedule is 'steep'; tlx has constant, linear"),
        ({"optimizer.warmup_steps": 5000}, "a warm-up of 5000 steps must be shorter than the run of"),
    ],
)
def test_refused(change: dict[str, Any], message: str, config: Any, tmp_path: Path) -> None:
    config.update_from_flattened_dict(change)
    with pytest.raises(TlxError, match=message):
        finetune.build(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
