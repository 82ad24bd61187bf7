"""Every metric against scikit-learn and SciPy called directly, and what it is where they leave it undefined."""

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from tlx.errors import TlxError
from tlx.evaluation.metrics import METRICS, MONITOR, higher_is_better, measure, metric_names
from tlx.evaluation.per_class import per_class


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Neither library is asked for what it would warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("classes", [2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(5))
def test_classification(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(60) % classes)
    logits = 2 * np.eye(classes)[labels] * random.random((60, 1)) + random.normal(size=(60, classes))
    predictions = logits.argmax(-1)
    found = measure("classification", logits, labels)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = {
        "accuracy": sk.accuracy_score(labels, predictions),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predictions),
        "worst_class_accuracy": sk.recall_score(labels, predictions, average=None).min(),
        "macro_f1": sk.f1_score(labels, predictions, average="macro"),
        "micro_f1": sk.f1_score(labels, predictions, average="micro"),
        "weighted_f1": sk.f1_score(labels, predictions, average="weighted"),
        "mcc": sk.matthews_corrcoef(labels, predictions),
        "kappa": sk.cohen_kappa_score(labels, predictions),
        "brier": sk.brier_score_loss(labels, p),
        "average_precision": sk.average_precision_score(labels, p[:, 1] if classes == 2 else p),
        "roc_auc_ovo": sk.roc_auc_score(labels, p[:, 1])
        if classes == 2
        else sk.roc_auc_score(labels, p, multi_class="ovo"),
        "roc_auc": sk.roc_auc_score(labels, p[:, 1])
        if classes == 2
        else sk.roc_auc_score(labels, p, multi_class="ovr"),
    }
    expected |= {"f1": sk.f1_score(labels, predictions)} if classes == 2 else {}
    for k in (3, 5):
        if classes > k:  # with k classes or fewer it is 1 whatever the model says
            expected[f"top_{k}_accuracy"] = sk.top_k_accuracy_score(labels, p, k=k)
    assert {name: value for name, value in found.items() if name != "ece"} == pytest.approx(expected, abs=1e-9)
    rows = per_class("classification", logits, labels, [f"c{i}" for i in range(classes)])
    columns = zip(*sk.precision_recall_fscore_support(labels, predictions), strict=True)
    for row, values in zip(rows, columns, strict=True):
        assert (row.precision, row.recall, row.f1, row.support) == pytest.approx(values)


@pytest.mark.parametrize("seed", range(5))
def test_multilabel(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (40, 4))
    logits = labels - 0.5 + random.normal(size=(40, 4))
    predictions = (logits > 0).astype(int)
    expected = {
        "accuracy": sk.accuracy_score(labels, predictions),
        "micro_f1": sk.f1_score(labels, predictions, average="micro"),
        "macro_f1": sk.f1_score(labels, predictions, average="macro"),
        "weighted_f1": sk.f1_score(labels, predictions, average="weighted"),
        "roc_auc": sk.roc_auc_score(labels, logits),
        "average_precision": sk.average_precision_score(labels, logits),
    }
    assert measure("multilabel", logits, labels) == pytest.approx(expected, abs=1e-12)
    columns = zip(*sk.precision_recall_fscore_support(labels, predictions), strict=True)
    for row, values in zip(per_class("multilabel", logits, labels, "abcd"), columns, strict=True):
        assert (row.precision, row.recall, row.f1, row.support) == pytest.approx(values)


def test_one_label_is_no_pair_of_classes() -> None:
    """Of two answers one is right, of two labels one is found."""
    logits, labels = np.array([[1.0], [-1.0], [1.0], [-1.0], [-1.0]]), np.array([[1], [1], [0], [0], [0]])
    (row,) = per_class("multilabel", logits, labels, ["a"])
    assert (row.name, row.precision, row.recall, row.f1, row.support) == ("a", 0.5, 0.5, 0.5, 2)
    found = measure("multilabel", logits, labels)
    assert [found[name] for name in ("accuracy", "micro_f1", "macro_f1", "weighted_f1")] == [0.6, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_regression(seed: int, outputs: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.normal(size=(30, outputs)).round(1)  # with ties
    predictions = targets + random.normal(size=(30, outputs))
    pairs = list(zip(predictions.T, targets.T, strict=True))
    expected = {
        "r2": sk.r2_score(targets, predictions),
        "mean_error": np.mean([np.linalg.norm(p - t) for p, t in zip(predictions, targets, strict=True)]),
        "pearson": np.mean([stats.pearsonr(*pair)[0] for pair in pairs]),
        "spearman": np.mean([stats.spearmanr(*pair)[0] for pair in pairs]),
        "kendall": np.mean([stats.kendalltau(*pair)[0] for pair in pairs]),
    }
    assert measure("regression", predictions, targets) == pytest.approx(expected, abs=1e-9)


ONE = np.zeros(6, int)  # a split in which only the first class occurs
RIGHT, WRONG = np.eye(3)[ONE], np.eye(3)[ONE + 1]


@pytest.mark.parametrize(
    ("kind", "predictions", "labels", "expected"),
    [
        ("classification", RIGHT, ONE, {"accuracy": 1, "macro_f1": 1, "mcc": 0, "roc_auc": 0.5}),
        ("classification", WRONG, ONE, {"accuracy": 0, "macro_f1": 0, "mcc": 0, "balanced_accuracy": 0}),
        ("classification", RIGHT[:, :2], ONE, {"f1": 0, "roc_auc": 0.5}),
        ("classification", RIGHT[:1], ONE[:1], {"accuracy": 1, "mcc": 0}),
        ("classification", RIGHT, ONE, {"kappa": 0, "weighted_f1": 1, "roc_auc_ovo": 0.5, "average_precision": 1}),
        ("classification", WRONG, ONE, {"kappa": 0, "weighted_f1": 0, "average_precision": 1}),
        ("classification", RIGHT[:, :2], ONE, {"average_precision": 0, "roc_auc_ovo": 0.5, "kappa": 0}),
        ("classification", RIGHT[:, :2], ONE + 1, {"average_precision": 1, "roc_auc_ovo": 0.5, "kappa": 0}),
        ("classification", 1e4 * RIGHT, ONE, {"brier": 0}),
        ("classification", 1e4 * WRONG, ONE, {"brier": 2}),
        ("classification", 1e4 * WRONG[:, :2], ONE, {"brier": 1}),
        ("multilabel", -RIGHT - 1, np.zeros((6, 3), int), {"average_precision": 0, "weighted_f1": 0}),
        ("multilabel", RIGHT - 0.5, RIGHT.astype(int), {"average_precision": 1, "weighted_f1": 1}),
        ("regression", np.ones((4, 1)), np.arange(4.0)[:, None], {"kendall": 0}),
        ("regression", np.ones((1, 2)), np.zeros((1, 2)), {"kendall": 0}),
        ("classification", RIGHT, np.arange(6) % 3, {"accuracy": 1 / 3, "mcc": 0, "worst_class_accuracy": 0}),
        ("multilabel", -RIGHT - 1, np.zeros((6, 3), int), {"accuracy": 1, "micro_f1": 0, "roc_auc": 0.5}),
        ("regression", np.ones((4, 1)), np.arange(4.0)[:, None], {"pearson": 0, "spearman": 0}),
        ("regression", np.arange(4.0)[:, None], np.ones((4, 1)), {"r2": 0, "pearson": 0, "spearman": 0}),
        ("regression", np.ones((4, 1)), np.ones((4, 1)), {"r2": 1, "mean_error": 0, "pearson": 0}),
        ("regression", np.ones((1, 2)), np.zeros((1, 2)), {"r2": 0, "mean_error": 2**0.5, "spearman": 0}),
    ],
)  # fmt: skip
def test_degenerate(kind: str, predictions: np.ndarray, labels: np.ndarray, expected: dict[str, float]) -> None:
    found = measure(kind, predictions, labels)
    assert np.isfinite(list(found.values())).all()
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_nothing_to_measure(kind: str) -> None:
    with pytest.raises(TlxError, match="there are no examples to measure"):
        measure(kind, np.zeros((0, 2)), np.zeros((0, 2)))


def test_answers_that_are_no_numbers() -> None:
    with pytest.raises(TlxError, match="2 of 6 predictions are NaN or infinite"):
        measure("classification", np.where(np.arange(6)[:, None] < 2, np.nan, RIGHT), ONE)


def test_what_is_monitored_is_always_there() -> None:
    for kind, monitor in MONITOR.items():
        assert monitor in metric_names(kind) and higher_is_better(kind, monitor) and not higher_is_better(kind, "loss")
    assert all(higher_is_better("tagging", name) for name in metric_names("tagging", ("O", "B-a", "I-a")))


def test_one_against_one_leaves_out_what_does_not_occur() -> None:
    """Two of eight classes are missing; scikit-learn is asked with those that occur, of which the scores' order is the
    same. Scores have ties."""
    random = np.random.default_rng(0)
    labels = random.choice([0, 1, 3, 4, 6, 7], 80)
    logits = (2 * np.eye(8)[labels] + random.normal(size=(80, 8))).round(1)
    scores = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    found, pairs = np.unique(labels), []
    for a in found:
        for b in found[found != a]:
            both = (labels == a) | (labels == b)
            pairs.append(sk.roc_auc_score(labels[both] == a, scores[both, a]))
    assert measure("classification", logits, labels)["roc_auc_ovo"] == pytest.approx(np.mean(pairs), abs=1e-12)


def test_top_k_breaks_ties_as_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels, logits = np.arange(60) % 8, random.integers(0, 3, (60, 8)).astype(float)
    found = measure("classification", logits, labels)
    for k in (3, 5):
        assert found[f"top_{k}_accuracy"] == sk.top_k_accuracy_score(labels, logits, k=k)


def test_lower_is_better_of_errors_alone() -> None:
    lower = {name for kind, metrics in METRICS.items() for name in metrics if not higher_is_better(kind, name)}
    assert lower == {"mean_error", "brier", "ece", "perplexity"}


@pytest.mark.parametrize("outputs", [2, 3, 4, 6])
def test_names_are_what_is_measured(outputs: int) -> None:
    """A metric that can be monitored is one that this head has: f1 of two classes, top-k of more than k."""
    random = np.random.default_rng(0)
    labels = np.arange(12) % outputs
    found = measure("classification", random.normal(size=(12, outputs)), labels)
    assert set(metric_names("classification", outputs=outputs)) == set(found)
    assert ("f1" in found, "top_3_accuracy" in found, "top_5_accuracy" in found) == (
        outputs == 2, outputs > 3, outputs > 5,
    )  # fmt: skip
