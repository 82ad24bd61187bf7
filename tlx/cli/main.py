"""`tlx COMMAND …`. Nothing heavy is imported before a command is known."""

import argparse

from tlx.errors import one_sentence


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    top = argparse.ArgumentParser(prog="tlx", description="Transfer learning in JAX.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    predict = commands.add_parser("predict", help="what a trained run says of some texts")
    predict.add_argument("run", help="a run directory")
    predict.add_argument("text", nargs="+", help="one text each")

    export = commands.add_parser("export", help="a trained run as a folder that transformers opens")
    export.add_argument("run", help="a run directory")
    export.add_argument("--to", required=True, metavar="DIR", help="the folder to write")
    return top


def main() -> None:
    """The entry point of the command `tlx`."""
    arguments = parser().parse_args()
    with one_sentence():
        if arguments.command == "predict":
            from tlx.cli import predict

            predict.main(arguments.run, arguments.text)
        else:
            from tlx.cli import export

            export.main(arguments.run, arguments.to)


if __name__ == "__main__":
    main()
