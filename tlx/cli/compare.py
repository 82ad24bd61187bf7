"""`tlx compare RUN RUN`: differences of two runs in config, metrics and predictions."""

import argparse
from pathlib import Path

from tlx.errors import TlxError

FEWEST, USUAL = 100, 1000  # resamples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds RUN, RUN, --metric, --split and --resamples."""
    parser.add_argument("first", metavar="RUN", help="a run directory")
    parser.add_argument("second", metavar="RUN", help="another run directory, with the same test set")
    parser.add_argument("--metric", help="the metric of the bootstrap; default: the one that selected the checkpoint")
    parser.add_argument("--split", choices=("test", "validation"), help="default: test, if there is one")
    parser.add_argument(
        "--resamples", type=int, default=USUAL, metavar="N", help="resamples of the bootstrap (%(default)s)"
    )


def main(arguments: argparse.Namespace) -> None:
    """Prints the tables."""
    if arguments.resamples < FEWEST:
        raise TlxError(f"--resamples is {arguments.resamples}; it is at least {FEWEST}.")
    from tlx.cli.launch import quiet_logs

    quiet_logs()
    from tlx.reporting.tables import show
    from tlx.runs.compare import compare

    first, second = Path(arguments.first), Path(arguments.second)
    found = compare(first, second, arguments.metric, arguments.split, arguments.resamples)
    names = (f"A: {first}", f"B: {second}")
    if found.config:
        show("config", ("field", *names), [(name, *values) for name, values in found.config.items()])
    else:
        print("The configs are equal in all fields that decide numbers.")
    rows = [(name, f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}") for name, (a, b) in found.metrics.items()]
    show(f"{found.split}: {found.examples} examples", ("metric", "A", "B", "B − A"), rows)
    bootstrap, better = found.bootstrap, "higher" if found.higher_is_better else "lower"
    print(
        f"{found.metric} ({better} is better): B − A = {bootstrap.difference:+.4f}, 95 % interval {bootstrap.low:+.4f} "
        f"to {bootstrap.high:+.4f}, p = {bootstrap.p:.3g} (paired bootstrap, {bootstrap.resamples} resamples of the "
        f"examples)"
    )
    if found.mcnemar is not None:
        test = found.mcnemar
        print(
            f"accuracy: only A is right for {test.only_first} examples, only B for {test.only_second}; "
            f"p = {test.p:.3g} (McNemar, exact)"
        )
    print("This compares two trained models. For two ways of training, compare several seeds: tlx report.")
