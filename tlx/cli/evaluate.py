"""`tlx evaluate RUN [--data SPEC]`: the metrics of a trained run, and of each class."""

import argparse
from pathlib import Path

from tlx.cli.launch import quiet_logs, use_compilation_cache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN, --data."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument("--data", metavar="SPEC", help="csv:FILE and so on, with the run's columns; else its own sets")


def main(arguments: argparse.Namespace) -> None:
    """Prints a table of metrics and, of classes, one of each."""
    quiet_logs()
    use_compilation_cache()
    from tlx.recipes.datasets import words_in_words
    from tlx.reporting.tables import show
    from tlx.runs.evaluate import evaluate

    for part, found in evaluate(Path(arguments.run), arguments.data).items():
        title = f"{part}: {found.examples} examples, step {found.step} of {Path(arguments.run).name}"
        if found.words:
            title += f"; {words_in_words(found.words)}"
        show(title, ("metric", part), [(name, f"{value:.4f}") for name, value in found.metrics.items()])
        if found.classes:
            rows = [
                (c.name, f"{c.precision:.3f}", f"{c.recall:.3f}", f"{c.f1:.3f}", str(c.support)) for c in found.classes
            ]
            show("by class", ("", "precision", "recall", "f1", "support"), rows)
