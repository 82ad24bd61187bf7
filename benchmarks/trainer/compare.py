"""The statistics of the study: scores of predictions, differences of means with intervals, the verdict.

The runs of the two sides are independent samples (a seed gives different numbers on each side, so runs are not paired).
Intervals are Welch's; for the mean over tasks all variances enter, with degrees of freedom by Welch and Satterthwaite.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from common import Interval, interval

from tlx.evaluation.entities import entities
from tlx.evaluation.regression import spearman

MARGIN = -0.5  # points by which tlx may be worse in the mean over tasks
SIDES = ("tlx", "trainer")
Scores = Mapping[str, Mapping[str, Sequence[float]]]  # {task: {side: scores}}


def differences(scores: Scores) -> tuple[dict[str, Interval], Interval]:
    """The difference tlx − Trainer for each task and for the mean over tasks, in the units of the scores."""
    signs = dict(zip(SIDES, (1.0, -1.0), strict=True))
    tasks = {task: interval(*((signs[side], sides[side]) for side in SIDES)) for task, sides in scores.items()}
    share = 1 / len(scores)
    return tasks, interval(*((signs[side] * share, sides[side]) for sides in scores.values() for side in SIDES))


def failures(tasks: Mapping[str, Interval], mean: Interval) -> list[str]:
    """Sentences that say where tlx is worse than the Trainer; empty if it is not. Values are in points."""
    behind = [
        f"{task}: the interval {d.low:+.1f} to {d.high:+.1f} lies wholly below zero."
        for task, d in tasks.items()
        if d.high < 0
    ]
    if mean.mean < MARGIN:
        behind.append(f"The mean over tasks, {mean.mean:+.2f} points, is below {MARGIN}.")
    return behind


def score(metric: str, gold: Sequence[Any], predictions: np.ndarray, labels: Sequence[str], words: np.ndarray) -> float:
    """One metric of a run's predictions, by the same code for both sides.

    Args:
      metric: `accuracy`, `spearman`, `entity_f1`.
      gold: the labels of the test rows as in the data.
      predictions: (n, outputs); for tagging (words, tags), sentence after sentence.
      labels: the name of each output.
      words: number of predicted words of each sentence, its first ones. The others count as predicted "O".
    """
    if metric == "spearman":
        return spearman(predictions, np.array(gold, np.float64)[:, None])
    named = np.array(labels)[predictions.argmax(-1)].tolist()
    if metric == "accuracy":
        from sklearn.metrics import accuracy_score

        return float(accuracy_score(list(gold), named))
    ends = np.cumsum(words)
    cut = [named[end - n : end] for end, n in zip(ends, words, strict=True)]
    return entity_f1(gold, [[*tags, *["O"] * (len(all_) - len(tags))] for tags, all_ in zip(cut, gold, strict=True)])


def entity_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """F1 of whole entities over all sentences; 0 if none is right."""
    found = [(entities(theirs), entities(ours)) for theirs, ours in zip(gold, predicted, strict=True)]
    right = sum(len(theirs & ours) for theirs, ours in found)
    return 2 * right / max(1, sum(len(theirs) + len(ours) for theirs, ours in found))
