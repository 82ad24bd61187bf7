"""Metrics of answers against labels, by scikit-learn's and SciPy's definitions where they have them.

Every metric of a kind always has a value: what a degenerate split leaves undefined (one class only, constant answers)
takes the value that a guess has, as each docstring says. An empty split, or answers that are not numbers, are errors.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tlx.errors import TlxError
from tlx.evaluation.calibration import calibration_error
from tlx.evaluation.entities import counts, has_entities, precision_recall_f1

Measure = Callable[[np.ndarray, np.ndarray], float]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of a kind of head.

    Attributes:
      measure: `(predictions, labels) -> value`, with the arrays that the function `measure` takes.
      higher_is_better: the direction, by which a checkpoint is selected.
      classes: the least and the largest number of outputs for which the metric says something.
    """

    measure: Measure
    higher_is_better: bool = True
    classes: tuple[float, float] = (1, np.inf)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of examples whose largest logit is the label's. logits: (n, classes); labels: (n,)."""
    return float((logits.argmax(-1) == labels).mean())


def recalls(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The share of each class's examples that were found, of the classes that occur in the labels."""
    right = logits.argmax(-1) == labels
    return np.array([right[labels == c].mean() for c in np.unique(labels)])


def chosen_tags(logits: np.ndarray) -> np.ndarray:
    """int64 (words,): the tag of the largest logit, -1 for a word that was not predicted (its logits are NaN), which
    agrees with no label. logits: (words, tags)."""
    return np.where(np.isnan(logits).all(axis=-1), -1, logits.argmax(-1))


def tag_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of words whose tag is right; a word that was not predicted is wrong."""
    return float((chosen_tags(logits) == labels).mean())


def tag_macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 averaged over the tags that occur in labels or predictions; a word that was not predicted is missed."""
    from sklearn.metrics import f1_score

    chosen = chosen_tags(logits)
    occurring = np.union1d(labels, chosen[chosen >= 0])
    return float(f1_score(labels, chosen, labels=occurring, average="macro", zero_division=0.0))


def balanced_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean recall of the classes that occur in the labels."""
    return float(recalls(logits, labels).mean())


def worst_class_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The lowest recall of the classes that occur in the labels."""
    return float(recalls(logits, labels).min())


def macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 averaged over the classes that occur in labels or answers; a class never answered counts 0."""
    return _f1(labels, logits.argmax(-1), "macro")


def micro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 of all decisions together; with one label an example it is the accuracy."""
    return _f1(labels, logits.argmax(-1), "micro")


def weighted_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 of each class weighed by how often it occurs in the labels; a class never predicted counts 0."""
    return _f1(labels, logits.argmax(-1), "weighted")


def f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 of the second of two classes, as GLUE reports it; 0 where that class neither occurs nor is answered."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels == 1, logits.argmax(-1) == 1, zero_division=0.0))


def mcc(logits: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation of labels and answers; 0 where either is constant."""
    from sklearn.metrics import matthews_corrcoef

    predictions = logits.argmax(-1)
    if len(np.unique(labels)) == 1 and len(np.unique(predictions)) == 1:
        return 0.0
    return float(matthews_corrcoef(labels, predictions))


def kappa(logits: np.ndarray, labels: np.ndarray) -> float:
    """Cohen's kappa of labels and predictions; 0 where both are one and the same class throughout."""
    from sklearn.metrics import cohen_kappa_score

    predicted = logits.argmax(-1)
    if len(np.unique(np.concatenate([labels, predicted]))) == 1:
        return 0.0
    return float(cohen_kappa_score(labels, predicted))


def top_k_accuracy(k: int) -> Measure:
    """The share of examples whose label is among the k largest logits; of equal logits the last classes are taken, as
    scikit-learn does."""

    def top_k(logits: np.ndarray, labels: np.ndarray) -> float:
        highest = np.argsort(logits, axis=-1, kind="stable")[:, -k:]
        return float((highest == labels[:, None]).any(axis=-1).mean())

    return top_k


def brier(logits: np.ndarray, labels: np.ndarray) -> float:
    """The Brier score, lower is better: of two classes the mean of (p - y)² of the second, from 0 to 1; of more the
    mean over examples of its sum over classes, from 0 to 2, as scikit-learn's `brier_score_loss`."""
    from scipy.special import softmax

    probabilities = softmax(logits.astype(np.float64), axis=-1)
    squares = (probabilities - (labels[:, None] == np.arange(logits.shape[-1]))) ** 2
    return float((squares[:, 1] if logits.shape[-1] == 2 else squares.sum(axis=-1)).mean())


def average_precision(logits: np.ndarray, labels: np.ndarray) -> float:
    """The average precision: of the second of two classes (0 where it does not occur), or the mean of each class
    against the rest, over the classes that occur."""
    if logits.shape[-1] == 2:
        return _mean_precision((labels == 1)[:, None], (logits[:, 1] - logits[:, 0])[:, None])
    return _mean_precision(labels[:, None] == np.arange(logits.shape[-1]), logits - _logsumexp(logits))


def roc_auc_ovo(logits: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve averaged over ordered pairs of classes that both occur, one-vs-one (Hand & Till
    2001, eq. 7; scikit-learn's `multi_class="ovo"`); of two classes it is `roc_auc`. Without such a pair, 0.5.

    scikit-learn takes each pair by itself; here a class is ranked against all the others in one pass, which with a
    thousand classes takes seconds."""
    if logits.shape[-1] == 2:
        return roc_auc(logits, labels)
    scores, found = logits - _logsumexp(logits), np.unique(labels)
    counts, areas = np.bincount(labels, minlength=logits.shape[-1]), []
    for label in found:
        score = scores[:, label]
        own = np.sort(score[labels == label])
        above = len(own) - (np.searchsorted(own, score, "left") + np.searchsorted(own, score, "right")) / 2
        sums = np.bincount(labels, weights=above / len(own), minlength=logits.shape[-1])
        others = found[found != label]
        areas += (sums[others] / counts[others]).tolist()
    return float(np.mean(areas)) if areas else 0.5


def roc_auc(logits: np.ndarray, labels: np.ndarray) -> float:
    """The area under the ROC curve: of the second of two classes, or the mean of each class against the rest. A class
    that does not occur, or alone does, has none and is left out of the mean; without any, 0.5."""
    margin = logits - _logsumexp(logits)
    if logits.shape[-1] == 2:
        return _mean_auc((labels == 1)[:, None], (logits[:, 1] - logits[:, 0])[:, None])
    return _mean_auc(labels[:, None] == np.arange(logits.shape[-1]), margin)


def subset_accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of examples all of whose labels are right; a label is answered where its logit is above 0. Both
    (n, labels)."""
    return float(((logits > 0) == (labels == 1)).all(axis=-1).mean())


def label_micro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 of all labels of all examples together; 0 where none occurs and none is answered."""
    return _f1(labels, logits > 0, "micro")


def label_macro_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 averaged over labels; one that neither occurs nor is answered counts 0."""
    return _f1(labels, logits > 0, "macro")


def label_weighted_f1(logits: np.ndarray, labels: np.ndarray) -> float:
    """F1 of each label weighed by how often it occurs; 0 where none occurs."""
    return _f1(labels, logits > 0, "weighted")


def label_average_precision(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean average precision over labels that occur; without any, 0."""
    return _mean_precision(labels == 1, logits)


def label_roc_auc(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean area under the ROC curve over labels that occur and are missing; without any, 0.5."""
    return _mean_auc(labels == 1, logits)


def r2(predictions: np.ndarray, targets: np.ndarray) -> float:
    """1 - residual / total sum of squares, averaged uniformly over outputs; constant targets give 1 if met
    exactly, else 0 (scikit-learn's force_finite), and so does a single example. Both (n, outputs)."""
    from sklearn.metrics import r2_score

    if len(targets) < 2:
        return float(np.array_equal(predictions, targets))
    return float(r2_score(targets, predictions, multioutput="uniform_average"))


def mean_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    """The mean Euclidean distance from target to prediction: with one output the mean absolute error, in CIELAB the
    mean ΔE76. Both (n, outputs)."""
    return float(np.linalg.norm(predictions - targets, axis=-1).mean())


def pearson(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Pearson's correlation, averaged over outputs; 0 for an output whose predictions or targets are constant."""
    from scipy.stats import pearsonr

    return _mean_correlation(pearsonr, predictions, targets)


def spearman(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Spearman's rank correlation, averaged over outputs; 0 for an output whose predictions or targets are constant."""
    from scipy.stats import spearmanr

    return _mean_correlation(spearmanr, predictions, targets)


def kendall(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Kendall's tau-b, averaged over outputs; 0 for an output whose predictions or targets are constant."""
    from scipy.stats import kendalltau

    return _mean_correlation(kendalltau, predictions, targets)


# Kind of head -> name -> metric: all that `measure` computes, in this order.
METRICS: dict[str, dict[str, Metric]] = {
    "classification": {
        "accuracy": Metric(accuracy),
        "balanced_accuracy": Metric(balanced_accuracy),
        "worst_class_accuracy": Metric(worst_class_accuracy),
        "macro_f1": Metric(macro_f1),
        "micro_f1": Metric(micro_f1),
        "weighted_f1": Metric(weighted_f1),
        "f1": Metric(f1, classes=(2, 2)),
        "mcc": Metric(mcc),
        "kappa": Metric(kappa),
        "top_3_accuracy": Metric(top_k_accuracy(3), classes=(4, np.inf)),
        "top_5_accuracy": Metric(top_k_accuracy(5), classes=(6, np.inf)),
        "roc_auc": Metric(roc_auc),
        "roc_auc_ovo": Metric(roc_auc_ovo),
        "average_precision": Metric(average_precision),
        "brier": Metric(brier, higher_is_better=False),
        "ece": Metric(calibration_error, higher_is_better=False),
    },
    "multilabel": {
        "accuracy": Metric(subset_accuracy),
        "micro_f1": Metric(label_micro_f1),
        "macro_f1": Metric(label_macro_f1),
        "weighted_f1": Metric(label_weighted_f1),
        "roc_auc": Metric(label_roc_auc),
        "average_precision": Metric(label_average_precision),
    },
    "regression": {
        "r2": Metric(r2),
        "mean_error": Metric(mean_error, higher_is_better=False),
        "pearson": Metric(pearson),
        "spearman": Metric(spearman),
        "kendall": Metric(kendall),
    },
    "tagging": {"accuracy": Metric(tag_accuracy), "macro_f1": Metric(tag_macro_f1)},
    "masked_lm": {"accuracy": Metric(accuracy)},
}
ENTITY = ("entity_precision", "entity_recall", "entity_f1")  # of a tagging whose tags form entities; higher is better
# What picks the checkpoint, unless the config says otherwise.
MONITOR = {
    "classification": "accuracy", "multilabel": "micro_f1", "regression": "r2", "tagging": "accuracy",
    "masked_lm": "accuracy",
}  # fmt: skip


def metric_names(kind: str, names: Sequence[str] = (), outputs: int | None = None) -> tuple[str, ...]:
    """What `measure` returns for a kind of head.

    Args:
      kind: of the head.
      names: of its classes or tags.
      outputs: how many it has; None: the metrics of whatever number.
    """
    own = (name for name, metric in METRICS[kind].items() if outputs is None or _applies(metric, outputs))
    return (*own, *(ENTITY if kind == "tagging" and has_entities(names) else ()))


def higher_is_better(kind: str, name: str) -> bool:
    """The direction of one of a head's metrics, or of `loss`. kind: of the head."""
    metric = METRICS[kind].get(name)
    return name != "loss" if metric is None else metric.higher_is_better


def default_monitor(kind: str, names: Sequence[str] = ()) -> str:
    """The metric that picks the checkpoint unless the config names one: of tags that form entities their F1."""
    return "entity_f1" if kind == "tagging" and has_entities(names) else MONITOR[kind]


def _applies(metric: Metric, outputs: int) -> bool:
    least, largest = metric.classes
    return least <= outputs <= largest


def measure(
    kind: str,
    predictions: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str] = (),
    offsets: np.ndarray | None = None,
    predictable: np.ndarray | None = None,
) -> dict[str, float]:
    """Every metric of a kind of head, those of `metric_names`.

    Args:
      kind: of the head.
      predictions: logits (n, classes), (n, labels) or, of every word, (words, classes); or predictions (n, outputs).
      labels: integers (n,) or (words,); 0 and 1 (n, labels); targets (n, outputs).
      names: of the classes; a tagging needs them.
      offsets: of a tagging, (sentences + 1,): where each sentence begins among the words.
      predictable: of a tagging, bool (words,): whether the model was given the word. The answers of other words are
        NaN, and wrong in every metric. None: it was given all.

    Raises:
      TlxError: there is nothing to measure, or an answer is no finite number.
    """
    if not len(labels):
        raise TlxError("there are no examples to measure; the split is empty.")
    if predictable is not None and not predictable.any():
        raise TlxError(
            f"none of the split's {len(labels)} words can be predicted: the tokenizer leaves nothing of them, or their "
            "tokens alone exceed data.max_length."
        )
    given = predictions if predictable is None else predictions[predictable]
    if bad := int((~np.isfinite(given)).any(axis=-1).sum()):
        raise TlxError(f"{bad} of {len(given)} answers are NaN or infinite; the model has diverged.")
    found = {
        name: metric.measure(predictions, labels)
        for name, metric in METRICS[kind].items()
        if _applies(metric, predictions.shape[-1])
    }
    if kind == "tagging" and has_entities(names):
        assert offsets is not None
        by_type = counts(chosen_tags(predictions), labels, names, offsets)
        found |= dict(zip(ENTITY, precision_recall_f1(*_sums(by_type.values())), strict=True))
    return found


def _sums(rows: object) -> tuple[int, int, int]:
    table = np.array([*rows], np.int64).reshape(-1, 3).sum(axis=0)  # type: ignore[misc]
    return int(table[0]), int(table[1]), int(table[2])


def _f1(labels: np.ndarray, predictions: np.ndarray, average: str) -> float:
    from sklearn.metrics import f1_score

    only = [1] if labels.shape[1:] == (1,) else None  # scikit-learn takes one column for classes 0 and 1
    return float(f1_score(labels, predictions, labels=only, average=average, zero_division=0.0))


def _mean_auc(yes: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    areas = [roc_auc_score(y, s) for y, s in zip(yes.T, scores.T, strict=True) if y.any() and not y.all()]
    return float(np.mean(areas)) if areas else 0.5


def _mean_precision(yes: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import average_precision_score

    values = [average_precision_score(y, s) for y, s in zip(yes.T, scores.T, strict=True) if y.any()]
    return float(np.mean(values)) if values else 0.0


def _mean_correlation(correlation: Callable[..., tuple[float, float]], a: np.ndarray, b: np.ndarray) -> float:
    values = [
        0.0 if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0 else float(correlation(x, y)[0])
        for x, y in zip(a.T.astype(np.float64), b.T.astype(np.float64), strict=True)
    ]
    return float(np.mean(np.nan_to_num(values)))


def _logsumexp(logits: np.ndarray) -> np.ndarray:
    from scipy.special import logsumexp

    return np.asarray(logsumexp(logits, axis=-1, keepdims=True))
