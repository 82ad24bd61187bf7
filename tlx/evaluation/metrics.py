"""The metrics of each kind of head, by scikit-learn's and SciPy's definitions where these have them.

Every metric of a kind always has a value: what a degenerate split leaves undefined (a single class, constant
predictions) takes the value of a random guess, as each docstring says. An empty split, or predictions that are not
finite numbers, are errors.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tlx.errors import TlxError
from tlx.evaluation import classification, masked, multilabel, regression, spans, tagging
from tlx.evaluation.calibration import calibration_error
from tlx.evaluation.entities import counts, has_entities, precision_recall_f1

Measure = Callable[[np.ndarray, np.ndarray], float]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of a kind of head.

    Attributes:
      measure: a function `(predictions, labels) -> value` of the arrays that `measure` below takes.
      higher_is_better: whether a checkpoint with a larger value is better.
      classes: the smallest and the largest number of outputs for which the metric is computed.
    """

    measure: Measure
    higher_is_better: bool = True
    classes: tuple[float, float] = (1, np.inf)


# Kind of head -> name -> metric: all that `measure` computes, in this order.
METRICS: dict[str, dict[str, Metric]] = {
    "classification": {
        "accuracy": Metric(classification.accuracy),
        "balanced_accuracy": Metric(classification.balanced_accuracy),
        "worst_class_accuracy": Metric(classification.worst_class_accuracy),
        "macro_f1": Metric(classification.macro_f1),
        "micro_f1": Metric(classification.micro_f1),
        "weighted_f1": Metric(classification.weighted_f1),
        "f1": Metric(classification.f1, classes=(2, 2)),
        "mcc": Metric(classification.mcc),
        "kappa": Metric(classification.kappa),
        "top_3_accuracy": Metric(classification.top_k_accuracy(3), classes=(4, np.inf)),
        "top_5_accuracy": Metric(classification.top_k_accuracy(5), classes=(6, np.inf)),
        "roc_auc": Metric(classification.roc_auc),
        "roc_auc_ovo": Metric(classification.roc_auc_ovo),
        "average_precision": Metric(classification.average_precision),
        "brier": Metric(classification.brier, higher_is_better=False),
        "ece": Metric(calibration_error, higher_is_better=False),
    },
    "multilabel": {
        "accuracy": Metric(multilabel.subset_accuracy),
        "micro_f1": Metric(multilabel.micro_f1),
        "macro_f1": Metric(multilabel.macro_f1),
        "weighted_f1": Metric(multilabel.weighted_f1),
        "roc_auc": Metric(multilabel.roc_auc),
        "average_precision": Metric(multilabel.average_precision),
    },
    "regression": {
        "r2": Metric(regression.r2),
        "mean_error": Metric(regression.mean_error, higher_is_better=False),
        "pearson": Metric(regression.pearson),
        "spearman": Metric(regression.spearman),
        "kendall": Metric(regression.kendall),
    },
    "tagging": {"accuracy": Metric(tagging.accuracy), "macro_f1": Metric(tagging.macro_f1)},
    "masked_lm": {
        "accuracy": Metric(masked.accuracy),
        "perplexity": Metric(masked.perplexity, higher_is_better=False),
    },
    "question_answering": {"exact_match": Metric(spans.exact_match), "f1": Metric(spans.f1)},
}
ENTITY = ("entity_precision", "entity_recall", "entity_f1")  # if the tags form entities; higher is better
# The metric that selects the checkpoint by default.
MONITOR = {
    "classification": "accuracy", "multilabel": "micro_f1", "regression": "r2", "tagging": "accuracy",
    "masked_lm": "accuracy", "question_answering": "f1",
}  # fmt: skip


def metric_names(kind: str, names: Sequence[str] = (), outputs: int | None = None) -> tuple[str, ...]:
    """Returns the names of the metrics that `measure` computes for a head.

    Args:
      kind: the kind of the head.
      names: the names of its classes or tags.
      outputs: the number of its outputs; None: metrics for any number of outputs.
    """
    applicable = (name for name, metric in METRICS[kind].items() if outputs is None or _applies(metric, outputs))
    return (*applicable, *(ENTITY if kind == "tagging" and has_entities(names) else ()))


def higher_is_better(kind: str, name: str) -> bool:
    """Returns whether larger values of a metric, or of `loss`, are better.

    Args:
      kind: the kind of the head.
      name: the name of the metric.
    """
    metric = METRICS[kind].get(name)
    return name != "loss" if metric is None else metric.higher_is_better


def default_monitor(kind: str, names: Sequence[str] = ()) -> str:
    """Returns the metric that selects the checkpoint by default; `entity_f1` if the tags form entities.

    Args:
      kind: the kind of the head.
      names: the names of its classes or tags.
    """
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
    """Computes all metrics of a head, those of `metric_names`.

    Args:
      kind: the kind of the head.
      predictions: logits (n, classes), (n, labels) or, for tagging, (words, tags); for regression, predictions
        (n, outputs); for question answering, the scores of each question (n, 2), see `spans.question_scores`; for
        masked language modelling, those of the measured tokens (n, 4), see `masked.token_scores`.
      labels: integers (n,) or (words,); 0 and 1 (n, labels); targets (n, outputs); for question answering (n,), of any
        values, which are not used.
      names: the names of the classes or tags; needed for tagging.
      offsets: for tagging, int64 (sentences + 1,): the index of each sentence's first word, and the number of words.
      predictable: for tagging, bool (words,): whether the model made a prediction for the word. The logits of other
        words are NaN, and these words count as wrong. None: all words have a prediction.

    Returns:
      The values by the name of the metric.

    Raises:
      TlxError: there are no examples, or a prediction is not a finite number.
    """
    if not len(labels):
        raise TlxError("there are no examples to measure; the split is empty.")
    if predictable is not None and not predictable.any():
        raise TlxError(
            f"none of the split's {len(labels)} words can be predicted: the tokenizer drops them, or their "
            "tokens alone exceed data.max_length."
        )
    predicted = predictions if predictable is None else predictions[predictable]
    check_finite(predicted)
    values = {
        name: metric.measure(predictions, labels)
        for name, metric in METRICS[kind].items()
        if _applies(metric, predictions.shape[-1])
    }
    if kind == "tagging" and has_entities(names):
        assert offsets is not None
        by_type = counts(tagging.predicted_tags(predictions), labels, names, offsets)
        values |= dict(zip(ENTITY, precision_recall_f1(*_sums(by_type.values())), strict=True))
    return values


def check_finite(predictions: np.ndarray) -> None:
    """Raises `TlxError` if predictions, (n, …), are not finite numbers."""
    if bad := int((~np.isfinite(predictions)).any(axis=-1).sum()):
        raise TlxError(f"{bad} of {len(predictions)} predictions are NaN or infinite; the model has diverged.")


def _sums(rows: object) -> tuple[int, int, int]:
    table = np.array([*rows], np.int64).reshape(-1, 3).sum(axis=0)  # type: ignore[misc]
    return int(table[0]), int(table[1]), int(table[2])
