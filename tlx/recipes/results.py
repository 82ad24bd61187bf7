"""What a run leaves when it has ended: predictions, the summary, and pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tlx.data.examples import ExampleSet
from tlx.evaluation.calibration import reliability
from tlx.evaluation.masked import measured_tokens
from tlx.evaluation.per_class import confusion
from tlx.evaluation.spans import best_answers, question_scores
from tlx.models.heads import Head
from tlx.recipes import run_directory
from tlx.recipes.splits import TARGET_TEST
from tlx.reporting.conflicts import plot_conflicts
from tlx.reporting.confusion import plot_confusion
from tlx.reporting.curves import plot_curves
from tlx.reporting.domains import discriminator_curves, draw_discriminator
from tlx.reporting.figure import save
from tlx.reporting.reliability import plot_reliability
from tlx.training.tasks import Task
from tlx.training.writers import read_metrics


def write_results(
    run: Path, tasks: Mapping[str, Task], summary: Mapping[str, Any], predictions: Mapping[tuple[str, str], np.ndarray]
) -> None:
    """Writes predictions, the summary and the plots.

    Args:
      run: the run directory.
      tasks: tasks by name.
      summary: the summary.
      predictions: by task and split.
    """
    (run / "predictions").mkdir(exist_ok=True)
    for (name, split), values in predictions.items():
        task = tasks[name]
        arrays = saved_arrays(values, task.splits[split], task.head)
        np.savez(run / "predictions" / f"{task.file(split)}.npz", **arrays)
    run_directory.write_json(run / "summary.json", summary)
    lines = read_metrics(run)
    plot_curves({run.name: lines}, run / "plots" / "curves.png")
    if len(tasks) > 1:
        plot_conflicts(lines, list(tasks), run / "plots" / "conflicts.png")
    if curves := discriminator_curves(lines):
        save(draw_discriminator(curves), run / "plots" / "discriminator.png", dpi=120)
    for task in tasks.values():
        own = "test" if "test" in task.splits else "validation"
        for split in (own, TARGET_TEST):
            if task.head.kind == "classification" and split in task.splits:
                labels, values = task.splits[split].labels, predictions[task.name, split]
                counts = confusion(values, labels)
                plot_confusion(counts, task.head.labels, run / "plots" / f"confusion_{task.file(split)}.png")
                plot_reliability(reliability(values, labels), run / "plots" / f"reliability_{task.file(split)}.png")


def saved_arrays(values: np.ndarray, examples: ExampleSet, head: Head) -> dict[str, Any]:
    """Returns what is saved of a split's predictions.

    These are `example_id`, `predictions` and `labels`, with one entry per example. For tagging `predictions` and
    `labels` have one per word, and `word_offsets` says where each sentence begins. For question answering they are
    texts, the answer that is predicted and the first true one ("" for none), and `scores` (questions, 2) are exact
    match and F1. For masked language modelling there is one entry per masked token: its text's `example_id`, its id in
    `labels`, and in `predictions` what `tlx.evaluation.masked.token_scores` returns.

    Args:
      values: the predictions, as `Job.predictions` returns them.
      examples: the split.
      head: the head.
    """
    if head.kind == "masked_lm":
        there = measured_tokens(values)
        ids = np.repeat(examples.example_id, examples.lengths)[there]
        return {"example_id": ids, "predictions": values[there], "labels": examples.token_fields["label"][there]}
    if (words := examples.words) is not None:
        ids = {"example_id": words.sentence_id, "word_offsets": words.offsets}
        return {**ids, "predictions": values, "labels": examples.labels}
    if (spans := examples.spans) is None:
        return {"example_id": examples.example_id, "predictions": values, "labels": examples.labels}
    assert spans.answers is not None
    texts = [answer.text for answer in best_answers(values, examples.offsets, spans, head)]
    return {
        "example_id": spans.question_id,
        "predictions": np.array(texts, np.str_),
        "labels": np.array([answers[0][0] if answers else "" for answers in spans.answers], np.str_),
        "scores": question_scores(texts, spans.answers),
    }
