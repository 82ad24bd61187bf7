"""`tlx lr-find CONFIG [FIELD=VALUE …]`: the loss while the learning rate grows, and which rate that suggests."""

import argparse
from pathlib import Path

from tlx.cli.launch import load_config, quiet_logs, use_compilation_cache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, overrides, --lowest, --highest, --steps, --to."""
    parser.add_argument("config", help="a config file, with its argument after a colon: configs/text_file.py:sst2")
    parser.add_argument(
        "override", nargs="*", metavar="FIELD=VALUE",
        help="such as train.batch_size=16; or the words of a launch, --config=CONFIG --config.FIELD=VALUE",
    )  # fmt: skip
    parser.add_argument("--lowest", type=float, default=1e-7, help="the first rate")
    parser.add_argument("--highest", type=float, default=10.0, help="the last, if the loss has not gone up before")
    parser.add_argument("--steps", type=int, default=100, help="of training")
    parser.add_argument("--to", default="lr_find", metavar="DIR", help="where lr_find.png and lr_find.csv go")


def main(arguments: argparse.Namespace) -> None:
    """Prints two suggestions and writes the curve; there is no run afterwards."""
    quiet_logs()
    use_compilation_cache()
    config = load_config(arguments.config, arguments.override)
    from tlx.recipes.lr_find import lr_find, write

    found = lr_find(config, arguments.lowest, arguments.highest, arguments.steps)
    picture, table = write(found, Path(arguments.to))
    print(f"steepest fall of the loss at {found.steepest:.2g}; a tenth of its minimum's rate is {found.tenth:.2g}.")
    print(f"{len(found.rates)} steps, {found.rates[0]:.1g} to {found.rates[-1]:.2g}: {picture}, {table}.")
