"""`tlx interpolate RUN [--alpha 0:1:0.1] [--to DIR]`: interpolates between checkpoint and run (WiSE-FT)."""

import argparse
from pathlib import Path

from tlx.cli.launch import configure_jax, quiet_logs
from tlx.cli.steps import add_step, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds RUN, --alpha, --to and --step."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument(
        "--alpha", default="0:1:0.1", metavar="FIRST:LAST:STEP",
        help="weights of the run's parameters to try (%(default)s); 0 is the checkpoint with the run's head, 1 the run",
    )  # fmt: skip
    parser.add_argument(
        "--to", metavar="DIR", help="folder to which the selected parameters are exported, as by tlx export"
    )
    add_step(parser)


def main(arguments: argparse.Namespace) -> None:
    """Prints validation metrics at each alpha and all metrics at the best alpha. The run is not changed."""
    quiet_logs()
    configure_jax()
    from tlx.cli.export import write
    from tlx.recipes.run_directory import read_summary
    from tlx.reporting.tables import show
    from tlx.runs.interpolate import interpolate_run, parse_shares

    run = Path(arguments.run)
    line = interpolate_run(run, parse_shares(arguments.alpha), arguments.step)
    say(arguments.run, line.trained.step, arguments.step)
    names = list(line.validation[0])
    rows = [
        (f"{share:g}", *(f"{metrics[name]:.4f}" for name in names))
        for share, metrics in zip(line.shares, line.validation, strict=True)
    ]
    show(f"validation, step {line.trained.step} of {run.name}", ("alpha", *names), rows)
    chosen = f"alpha {line.chosen:g}: the best {line.monitor} of {len(line.shares)}"
    show(chosen, ("metric", ""), [(name, f"{value:.4f}") for name, value in line.metrics.items()])
    if arguments.to:
        selection = f"step {line.trained.step} of the run, interpolated with the checkpoint; {chosen}"
        summary = {**(read_summary(run) or {}), "metrics": line.metrics, "selection": selection}
        print(write(line.trained, run, summary, arguments.to))
