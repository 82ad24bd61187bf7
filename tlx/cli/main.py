"""The command `tlx COMMAND …`. A command's module is imported only when the command is used."""

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tlx.allocator import keep_memory
from tlx.errors import one_sentence

if TYPE_CHECKING:  # other modules are imported when signals are caught
    import argparse

COMMANDS = {  # each is a module of this package with add_arguments(parser) and main(arguments)
    "inspect": "show what a config would train: parameters, groups, memory, cost of a step; train nothing",
    "evaluate": "compute the metrics of a run on its validation and test sets, or on another file",
    "predict": "predict the labels of texts or images, of the rows of a file, or of a folder of images",
    "report": "write a report of a study or of runs: tables with intervals and tests, charts, warnings",
    "compare": "compare two runs: their configs, metrics and predictions for the same examples",
    "attention": "draw the attention maps of a run for images",
    "interpolate": "interpolate between the checkpoint's and a run's parameters (WiSE-FT) and select on validation",
    "lr-find": "run a learning rate range test with a config and suggest a learning rate",
    "features": "compute features of texts or images with a checkpoint or a run, and write them to a file",
    "export": "export a run as a folder that transformers opens",
    "worker": "take trials of a study and run them, until none is left",
    "doctor": "show versions, devices, caches, and which extras are missing",
}
CONFIG_COMMANDS = ("inspect", "lr-find")  # they also accept --config=FILE and --config.FIELD=VALUE


def parser(command: str | None = None) -> "argparse.ArgumentParser":
    """Makes the parser of all commands; only the given command gets its arguments."""
    import argparse

    top = argparse.ArgumentParser(
        prog="tlx",
        description="Transfer learning in JAX.",
        epilog="tlx COMMAND --help shows the arguments of a command.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name, help_ in COMMANDS.items():
        added = commands.add_parser(name, help=help_, description=f"{help_[0].upper()}{help_[1:]}.")
        if name == command:
            module(name).add_arguments(added)
    return top


def module(command: str) -> Any:
    """Imports the module of a command."""
    return importlib.import_module(f"tlx.cli.{command.replace('-', '_')}")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command.

    Args:
      argv: the words after `tlx`; None: those of this process.
    """
    if argv is None:
        keep_memory()
    with one_sentence():
        from tlx.cli.words import as_words

        words = list(sys.argv[1:] if argv is None else argv)
        command = next((word for word in words if word in COMMANDS), None)
        arguments = parser(command).parse_args(as_words(words) if command in CONFIG_COMMANDS else words)
        module(arguments.command).main(arguments)


if __name__ == "__main__":
    main()
