"""`tlx COMMAND …`. Nothing heavy is imported before a command is known."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from tlx.cli.words import as_words
from tlx.errors import one_sentence

COMMANDS = {  # each a file beside this one, with add_arguments(parser) and main(arguments)
    "inspect": "what a config would train: parameters, groups, bytes, the cost of a step",
    "evaluate": "the metrics of a trained run, on its own sets or on another file",
    "predict": "what a trained run says of some texts or images, or of a file or folder of them",
    "attention": "what a trained run looks at in images, as a picture",
    "interpolate": "a trained run's parameters between the checkpoint's and its own, chosen on validation",
    "lr-find": "the loss of a config while its learning rate grows, and which rate that suggests",
    "features": "what a checkpoint's or a run's backbone makes of texts or images, as vectors",
    "export": "a trained run as a folder that transformers opens",
    "doctor": "devices, versions, caches, and what is missing",
}
OF_A_CONFIG = ("inspect", "lr-find")  # they take the words of a launch, too


def parser(command: str | None = None) -> argparse.ArgumentParser:
    """The commands, and the arguments of one of them."""
    top = argparse.ArgumentParser(prog="tlx", description="Transfer learning in JAX.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_ in COMMANDS.items():
        added = commands.add_parser(name, help=help_, description=help_)
        if name == command:
            module(name).add_arguments(added)
    return top


def module(command: str) -> Any:
    """The file of a command."""
    return importlib.import_module(f"tlx.cli.{command.replace('-', '_')}")


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point of the command `tlx`."""
    with one_sentence():
        given = list(sys.argv[1:] if argv is None else argv)
        command = next((word for word in given if word in COMMANDS), None)
        arguments = parser(command).parse_args(as_words(given) if command in OF_A_CONFIG else given)
        module(arguments.command).main(arguments)


if __name__ == "__main__":
    main()
