"""`tlx evaluate RUN [--data SPEC] [--task NAME]`: prints the metrics of a trained run, in total and for each class."""

import argparse
from pathlib import Path

from tlx.cli.launch import configure_jax, quiet_logs
from tlx.cli.steps import add_step, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds RUN, --data, --task and --step."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument(
        "--data",
        metavar="SPEC",
        help="data with the run's columns, such as csv:FILE; default: the run's validation, test and target_test sets",
    )
    parser.add_argument("--task", metavar="NAME", help="one task of a run of several; default: all of them")
    add_step(parser)


def main(arguments: argparse.Namespace) -> None:
    """Prints for each set a table of metrics and, if there are classes, a table of the classes."""
    quiet_logs()
    configure_jax()
    from tlx.recipes.data_facts import format_word_counts
    from tlx.reporting.tables import show
    from tlx.runs.evaluate import evaluate

    results = evaluate(Path(arguments.run), arguments.data, arguments.step, arguments.task)
    say(arguments.run, next(iter(results.values())).step, arguments.step)
    for part, result in results.items():
        title = f"{part}: {result.examples} examples, step {result.step} of {Path(arguments.run).name}"
        if result.words:
            title += f"; {format_word_counts(result.words)}"
        show(title, ("metric", part), [(name, f"{value:.4f}") for name, value in result.metrics.items()])
        if result.classes:
            rows = [
                (c.name, f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}", str(c.support)) for c in result.classes
            ]
            show("by class", ("", "precision", "recall", "f1", "support"), rows)
