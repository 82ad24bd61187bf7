"""Words tagged -100 are left out of loss and metrics, counted aloud, and predicted like any other."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import log_softmax
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from sklearn.metrics import accuracy_score

from tests import tiny
from tlx.cli.main import main
from tlx.data.words import Words
from tlx.errors import TlxError
from tlx.evaluation.metrics import measure
from tlx.evaluation.per_class import per_class
from tlx.methods.api import Carried, Context
from tlx.methods.finetune import FineTune
from tlx.recipes import finetune
from tlx.recipes.losses import loss_settings

NAMES = ("O", "B-person", "I-person", "B-place", "I-place")


def flat(sentences: list[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(sentences))


@pytest.mark.parametrize("seed", range(20))
def test_entities_are_those_of_the_words_that_are_left(seed: int) -> None:
    """As transformers' examples count: lists without the words whose label is -100, given to seqeval."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 12, 20)
    labels = random.integers(0, len(NAMES), sizes.sum()).astype(np.int32)
    logits = random.normal(size=(len(labels), len(NAMES))) + 2 * np.eye(len(NAMES))[labels]
    labels[random.random(len(labels)) < 0.3] = -1
    labels[: sizes[0]] = -1  # a whole sentence
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    cuts = offsets[1:-1]
    pairs = list(zip(np.split(logits.argmax(-1), cuts), np.split(labels, cuts), strict=True))
    true = [[NAMES[tag] for tag in tags if tag >= 0] for _, tags in pairs]
    said = [[NAMES[s] for s, tag in zip(answers, tags, strict=True) if tag >= 0] for answers, tags in pairs]
    all_words = Words(labels, np.arange(len(labels)), offsets, np.arange(20), 0)
    answers, words = all_words.measured(logits)
    found = measure("tagging", answers, words.label, NAMES, words.offsets, words.predictable)
    assert found["accuracy"] == pytest.approx(accuracy_score(flat(true), flat(said)))
    assert [found[f"entity_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(
        [score(true, said) for score in (precision_score, recall_score, f1_score)]
    )
    report: Any = classification_report(true, said, output_dict=True)
    for row in per_class("tagging", answers, words.label, NAMES, words.offsets):
        expected = report[row.name]
        assert (row.precision, row.recall, row.f1) == pytest.approx(
            (expected["precision"], expected["recall"], expected["f1-score"])
        )
        assert row.support == expected["support"]


def part_of(word: str) -> str:
    return "ADJ" if word in (*tiny.GOOD, *tiny.BAD) else "NOUN" if word in ("film", "plot") else "REST"


def write_tagged(file: Path, count: int, seed: int) -> list[dict[str, list]]:
    """Sentences of which every third word has no tag, and every seventh sentence none at all."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, list]] = []
    for number in range(count):
        words = random.choice([*tiny.GOOD, *tiny.BAD, *tiny.NEUTRAL], random.integers(1, 13)).tolist()
        tags = [-100 if number % 7 == 0 or i % 3 == 1 else part_of(word) for i, word in enumerate(words)]
        rows.append({"tokens": words, "tags": tags})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def tagging(config: Any, folder: Path) -> tuple[Any, list[dict[str, list]], list[dict[str, list]]]:
    train, validation = (write_tagged(folder / f"{name}.jsonl", 42, seed) for seed, name in enumerate(("a", "b")))
    config.data.train, config.data.validation = f"jsonl:{folder}/a.jsonl", f"jsonl:{folder}/b.jsonl"
    config.data.text, config.data.label, config.data.test_fraction = "tokens", "tags", 0.0
    config.head.kind, config.train.epochs, config.train.evaluate_every = "tagging", 6.0, 6.0
    return config, train, validation


def counted(rows: list[dict[str, list]]) -> str:
    """What is said of a set, counted by hand."""
    none = sum(tag == -100 for row in rows for tag in row["tags"])
    whole = sum(all(tag == -100 for tag in row["tags"]) for row in rows)
    return (
        f"{sum(len(row['tags']) for row in rows)} words, {none} words that have no label (-100) and are left out of "
        f"loss and metrics; in {whole} sentences, no word has a label"
    )


@pytest.mark.long
@pytest.mark.parametrize("balanced", [False, True])
def test_the_loss_is_that_of_the_words_that_are_left(config: Any, tmp_path: Path, balanced: bool) -> None:
    """Training's and evaluation's, from the logits in NumPy; a batch without any label has loss 0 and gradient 0."""
    config, train, _ = tagging(config, tmp_path)
    job = finetune.build(config, tmp_path / "run")
    names, params = job.tasks["default"].head.labels, job.state.params
    assert names == ("ADJ", "NOUN", "REST")

    def summed(split: str, rows: list[dict[str, list]], weights: np.ndarray) -> tuple[float, float]:
        """The loss's total and count."""
        logits = log_softmax(job.predictions(job.state.variables, split).astype(np.float64), axis=-1)
        tags = [tag for row in rows for tag in row["tags"]]
        kept = [(logits[i, names.index(tag)], weights[names.index(tag)]) for i, tag in enumerate(tags) if tag != -100]
        return -sum(value * weight for value, weight in kept), sum(weight for _, weight in kept)

    weights = np.ones(3)
    if balanced:
        tags = [tag for row in train for tag in row["tags"] if tag != -100]
        weights = np.array([len(tags) / (3 * tags.count(name)) for name in names])
    config.loss.balanced = balanced
    settings = loss_settings(config.loss, job.tasks["default"].head, job.tasks["default"].splits["train"])
    method = FineTune(job.model, {"default": "label"}, job.inputs.prepare, settings)
    context = Context(jax.random.key(0), train=False)
    examples = job.tasks["default"].splits["train"]

    def loss(params: Any, rows: np.ndarray) -> Any:
        return method.losses(params, {"train": examples.take(rows, 16)}, Carried({}), context)[0]["default"]

    total, count = loss(params, np.arange(len(train)))
    assert (float(total), float(count)) == pytest.approx(summed("train", train, weights), rel=1e-5)
    without = np.arange(0, 42, 7)
    gradient, count = jax.grad(lambda params: loss(params, without), has_aux=True)(params)
    total, _ = loss(params, without)
    assert (float(total), float(count)) == (0, 0)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_through_the_commands(config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said once, counted in the summary, measured by scikit-learn; predictions cover all words."""
    config, train, validation = tagging(config, tmp_path)
    summary = finetune.build(config, tmp_path / "run").run(quiet=True)
    told = capsys.readouterr().out
    for part, rows in (("train", train), ("validation", validation)):
        assert told.count(f"{part}: {counted(rows)}.\n") == 1
    assert summary["words"]["train"]["sentences_without_label"] == 6
    true = [tag for row in validation for tag in row["tags"]]
    with np.load(tmp_path / "run" / "predictions" / "validation.npz") as saved:
        assert len(saved["predictions"]) == len(true) and np.isfinite(saved["predictions"]).all()
        assert ((saved["labels"] == -1) == [tag == -100 for tag in true]).all()
    main(["predict", f"{tmp_path}/run", "--input", f"{tmp_path}/b.jsonl"])
    said = [tag for line in capsys.readouterr().out.splitlines() for tag in json.loads(line)["predicted"]]
    assert len(said) == len(true) and set(said) <= {"ADJ", "NOUN", "REST"}
    left = [(tag, answer) for tag, answer in zip(true, said, strict=True) if tag != -100]
    accuracy = accuracy_score(*zip(*left, strict=True))
    assert 0.5 < accuracy < 1 and summary["metrics"]["validation/accuracy"] == pytest.approx(accuracy)
    assert sum(row["support"] for row in summary["classes"]["validation"]) == len(left)
    main(["evaluate", f"{tmp_path}/run", "--data", f"jsonl:{tmp_path}/b.jsonl"])
    told = capsys.readouterr().out
    assert counted(validation) in told and re.search(rf"accuracy .*{accuracy:.4f}", told)


def test_a_set_without_any_tag_is_refused(config: Any, tmp_path: Path) -> None:
    config, *_ = tagging(config, tmp_path)
    (tmp_path / "b.jsonl").write_text('{"tokens": ["a", "film"], "tags": [-100, "-100"]}\n')
    with pytest.raises(TlxError, match=r"b\.jsonl: no word has a tag; all in 'tags' are -100\."):
        finetune.build(config, tmp_path / "run")


def test_texts_that_are_cut_are_counted(config: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only texts above max_length, of which one that just fits is none; a pair counts as one; nothing where none is."""
    rows = [f"{' '.join(['film'] * n)},the plot,{'good' if n % 2 else 'bad'}" for n in (2, 3, 12, 13, 14, 15, 16, 30)]
    for part in ("a", "b"):
        kept = rows if part == "a" else rows[:5]
        (tmp_path / f"{part}.csv").write_text("\n".join(["text,pair,label", *kept]) + "\n")
    config.data.train, config.data.validation = f"csv:{tmp_path}/a.csv", f"csv:{tmp_path}/b.csv"
    config.data.test_fraction = 0.0
    job = finetune.build(config, tmp_path / "one")
    assert capsys.readouterr().out == "train: 3 of 8 texts are longer than max_length 16 and are truncated.\n"
    assert job.facts["texts_cut"] == {"train": 3, "validation": 0}
    config.data.pair = "pair"
    finetune.build(config, tmp_path / "two")
    assert capsys.readouterr().out == (
        "train: 6 of 8 pairs of texts are longer than max_length 16 and are truncated.\n"
        "validation: 3 of 5 pairs of texts are longer than max_length 16 and are truncated.\n"
    )
    config.data.max_length, config.data.pair = 32, None
    assert "texts_cut" not in finetune.build(config, tmp_path / "three").facts
    assert capsys.readouterr().out == ""
