"""Compares two runs: their configs, their metrics, and their saved predictions for the same examples."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from tlx.errors import TlxError, listed
from tlx.evaluation.metrics import default_monitor, higher_is_better, metric_names
from tlx.evaluation.paired import Bootstrap, McNemar, mcnemar, paired_bootstrap
from tlx.models.heads import Head
from tlx.recipes.run_directory import heads_from, read_run, read_summary
from tlx.runs.differences import differences
from tlx.runs.saved_predictions import read_predictions

SPLITS = ("test", "validation")
CLASSES = ("classification",)  # kinds of heads of which a prediction is right or wrong


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What two runs differ in; differences are second − first.

    Attributes:
      config: the values of both configs by field, for fields that differ.
      split: the split whose predictions are compared.
      examples: number of its examples (for tagging, of sentences).
      metrics: the values of both runs by metric, on this split.
      metric: the metric of the bootstrap.
      higher_is_better: whether larger values of this metric are better.
      bootstrap: the difference of this metric over resampled examples (for tagging, sentences).
      mcnemar: for classification, McNemar's test of the accuracies; otherwise None.
    """

    config: dict[str, list[str]]
    split: str
    examples: int
    metrics: dict[str, tuple[float, float]]
    metric: str
    higher_is_better: bool
    bootstrap: Bootstrap
    mcnemar: McNemar | None


def compare(
    first: Path, second: Path, metric: str | None = None, split: str | None = None, resamples: int = 1000
) -> Comparison:
    """Compares two finished runs on the same examples.

    Args:
      first: a run directory.
      second: another run directory.
      metric: the metric of the bootstrap; None: the one that selected the first run's checkpoint.
      split: "test" or "validation"; None: test, or validation if the runs have no test set.
      resamples: number of resamples of the bootstrap.

    Raises:
      TlxError: if a run has not finished, the runs have other heads, their sets differ, or a name is unknown.
    """
    runs, written = (first, second), [read_run(first), read_run(second)]
    for run in runs:
        if read_summary(run) is None:
            raise TlxError(f"{run} has not finished, so that it holds no predictions; finish it with the same command.")
    head = heads_from(written[0]["heads"]).get("default")
    other = heads_from(written[1]["heads"]).get("default")
    if head is None or other is None or (head.kind, head.labels) != (other.kind, other.labels):
        raise TlxError(f"{first} and {second} have heads of another kind or other classes; they cannot be compared.")
    split = split or _split(written[0])
    _check_same_set(first, second, written, split)
    one, two = (read_predictions(run, split, head) for run in runs)
    if not (np.array_equal(one.ids, two.ids) and np.array_equal(one.labels, two.labels)):
        raise TlxError(f"{first} and {second} hold predictions for other examples of {split}; they cannot be compared.")
    values = one.all_metrics(), two.all_metrics()
    known = metric_names(head.kind, head.labels, head.outputs)
    name = metric or _monitored(written[0], head, known)
    if name not in known:
        raise TlxError(f"the metric is {name!r}; runs of this kind have {listed(known, 30)}.")
    bootstrap = paired_bootstrap(
        lambda rows: two.take(rows).metric(name) - one.take(rows).metric(name), len(one.ids), resamples
    )
    right = [run.values.argmax(axis=1) == run.labels for run in (one, two)] if head.kind in CLASSES else None
    return Comparison(
        differences([content["config"] for content in written]), split, len(one.ids),
        {key: (values[0][key], values[1][key]) for key in values[0]}, name, higher_is_better(head.kind, name),
        bootstrap, None if right is None else mcnemar(*right),
    )  # fmt: skip


def _monitored(written: dict[str, Any], head: Head, known: Collection[str]) -> str:
    """The metric that selected the checkpoint; the default one where that was the loss."""
    name = (written["config"]["train"]["monitor"] or "").rpartition("/")[2]
    return name if name in known else default_monitor(head.kind, head.labels)


def _split(written: dict[str, Any]) -> str:
    digests = written.get("data", {}).get("sha256", {})
    return next((split for split in SPLITS if split in digests), "test")


def _check_same_set(first: Path, second: Path, written: list[dict[str, Any]], split: str) -> None:
    digests = [content.get("data", {}).get("sha256", {}).get(split) for content in written]
    for run, digest in zip((first, second), digests, strict=True):
        if digest is None:
            raise TlxError(f"{run} has no {split} set; the splits that are compared are {listed(SPLITS)}.")
    if digests[0] != digests[1]:
        raise TlxError(
            f"{first} and {second} have different {split} sets (digests {digests[0]} and {digests[1]} in their "
            "config.json), so that their metrics cannot be compared; train both with the same data and data.split_seed."
        )
