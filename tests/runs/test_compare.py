"""`tlx compare` on run directories whose predictions are known."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.runs.made import logits, make_run
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.models.heads import Head
from tlx.runs.compare import compare

RANDOM = np.random.default_rng(0)
CLASSES = RANDOM.integers(2, size=300)
A, B = RANDOM.random((2, 300)) < [[0.7], [0.8]]


def pair(tmp_path: Path, **fields: Any) -> tuple[Path, Path]:
    first = make_run(tmp_path / "a", logits(A, CLASSES), CLASSES)
    return first, make_run(tmp_path / "b", logits(B, CLASSES), CLASSES, **fields)


def test_classification(tmp_path: Path) -> None:
    found = compare(*pair(tmp_path, optimizer__learning_rate=1e-4, seed=7))
    assert found.config == {"optimizer.learning_rate": ["0.003", "0.0001"], "seed": ["0", "7"]}
    assert (found.split, found.examples, found.metric, found.higher_is_better) == ("test", 300, "accuracy", True)
    assert found.metrics["accuracy"] == pytest.approx((A.mean(), B.mean()))
    assert found.bootstrap.difference == pytest.approx(B.mean() - A.mean())
    each = B.astype(float) - A
    half = 1.96 * each.std() / np.sqrt(300)
    assert (found.bootstrap.low, found.bootstrap.high) == pytest.approx(
        (each.mean() - half, each.mean() + half), abs=0.01
    )
    only = int((A & ~B).sum()), int((B & ~A).sum())
    assert found.mcnemar is not None and (found.mcnemar.only_first, found.mcnemar.only_second) == only
    assert found.mcnemar.p == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue)


def test_regression(tmp_path: Path) -> None:
    targets = RANDOM.normal(size=(50, 1)).astype(np.float32)
    head = Head("regression", 1)
    runs = [
        make_run(tmp_path / name, targets + noise * RANDOM.normal(size=(50, 1)), targets, head=head)
        for name, noise in (("a", 1.0), ("b", 0.1))
    ]
    found = compare(*runs, metric="mean_error", resamples=200)
    assert found.mcnemar is None and not found.higher_is_better
    assert found.bootstrap.high < 0 and found.bootstrap.p < 0.05


def test_sentences_are_resampled_as_wholes(tmp_path: Path) -> None:
    """Words without a label or a prediction are in the files too."""
    tags = ("B-X", "I-X", "O")
    offsets = np.concatenate([[0], np.cumsum(RANDOM.integers(1, 9, size=40))])
    labels = RANDOM.integers(3, size=offsets[-1])
    right, wrong = np.eye(3)[labels], np.eye(3)[(labels + 1) % 3]
    half = np.where(np.arange(len(labels))[:, None] % 2, right, wrong)
    half[3] = np.nan
    labels = np.where(np.arange(len(labels)) == 5, -1, labels)
    head = Head("tagging", 3, labels=tags)
    a = make_run(tmp_path / "a", half, labels, head=head, offsets=offsets)
    b = make_run(tmp_path / "b", right, labels, head=head, offsets=offsets)
    found = compare(a, b, "accuracy", resamples=200)
    assert found.examples == 40 and found.metrics["accuracy"][1] == 1.0 and found.metrics["entity_f1"][1] == 1.0
    assert found.metrics["accuracy"][0] == pytest.approx(
        np.mean([i % 2 for i in range(len(labels)) if i != 5]) - 1 / (len(labels) - 1)
    )
    assert found.bootstrap.low > 0.3
    entities = compare(a, b, resamples=100)
    assert entities.metric == "entity_f1"
    assert entities.bootstrap.difference == pytest.approx(1 - entities.metrics["entity_f1"][0])


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    first, _ = pair(tmp_path)
    other = make_run(tmp_path / "set", logits(B, CLASSES), CLASSES, digest="0b")
    with pytest.raises(TlxError, match=r"have different test sets \(digests 0a and 0b"):
        compare(first, other)
    with pytest.raises(TlxError, match="has not finished"):
        compare(first, make_run(tmp_path / "open", logits(B, CLASSES), CLASSES, finished=False))
    with pytest.raises(TlxError, match="heads of another kind or other classes"):
        swapped = Head("classification", 2, labels=("good", "bad"))
        compare(first, make_run(tmp_path / "swapped", logits(B, CLASSES), CLASSES, head=swapped))
    with pytest.raises(TlxError, match="for other examples of test"):
        compare(first, make_run(tmp_path / "labels", logits(B, CLASSES), 1 - CLASSES))
    with pytest.raises(TlxError, match="the metric is 'auc'; runs of this kind have accuracy"):
        compare(first, first, metric="auc")
    np.savez(first / "predictions" / "test.npz", example_id=np.arange(3), predictions=np.eye(2), labels=np.arange(2))
    with pytest.raises(TlxError, match="do not belong together"):
        compare(first, first)
    (first / "predictions" / "test.npz").write_bytes(b"PK")
    with pytest.raises(TlxError, match="cannot be read"):
        compare(first, first)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", *map(str, pair(tmp_path, train__epochs=3.0)), "--metric", "macro_f1", "--resamples", "100"])
    said = capsys.readouterr().out
    assert re.search(r"train\.epochs .* 10\.0 .* 3\.0", said) and "macro_f1 (higher is better): B − A = +0." in said
    assert "(McNemar, exact)" in said
