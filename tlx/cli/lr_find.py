"""`tlx lr-find CONFIG [FIELD=VALUE …]`: runs a learning rate range test and suggests a learning rate."""

import argparse
from pathlib import Path

from tlx.cli.launch import configure_jax, load_config, quiet_logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds CONFIG, FIELD=VALUE, --lowest, --highest, --steps and --to."""
    parser.add_argument(
        "config", help="a config file, if needed with its argument after a colon: configs/text_file.py:sst2"
    )
    parser.add_argument(
        "override", nargs="*", metavar="FIELD=VALUE",
        help="change fields of the config, such as train.batch_size=16; --config.FIELD=VALUE is also accepted",
    )  # fmt: skip
    parser.add_argument("--lowest", type=float, default=1e-7, help="the first learning rate (%(default)s)")
    parser.add_argument(
        "--highest",
        type=float,
        default=10.0,
        help="the last learning rate; the test ends earlier if the loss diverges (%(default)s)",
    )
    parser.add_argument("--steps", type=int, default=100, help="number of training steps (%(default)s)")
    parser.add_argument(
        "--to", default="lr_find", metavar="DIR", help="folder for lr_find.png and lr_find.csv (%(default)s)"
    )


def main(arguments: argparse.Namespace) -> None:
    """Prints two suggested learning rates and writes the curve. No run directory is left."""
    quiet_logs()
    configure_jax()
    config = load_config(arguments.config, arguments.override)
    from tlx.recipes.lr_find import lr_find, write

    result = lr_find(config, arguments.lowest, arguments.highest, arguments.steps)
    picture, table = write(result, Path(arguments.to))
    print(f"the loss falls fastest at {result.steepest:.2g}; a tenth of the rate of its minimum is {result.tenth:.2g}.")
    print(f"{len(result.rates)} steps, {result.rates[0]:.1g} to {result.rates[-1]:.2g}: {picture}, {table}.")
