"""`tlx attention RUN IMAGE… --output FILE`: draws the attention of a trained run on images."""

import argparse
from pathlib import Path

from tlx.cli.launch import configure_jax, quiet_logs
from tlx.cli.steps import add_step, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds RUN, IMAGE, --output and --step."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument("image", nargs="+", help="image files")
    parser.add_argument("--output", metavar="FILE", default="attention.png", help="the picture to write (%(default)s)")
    add_step(parser)


def main(arguments: argparse.Namespace) -> None:
    """Draws each image beside its attention rollout from the class token."""
    quiet_logs()
    configure_jax()
    from tlx.runs.images import draw_attention

    print(draw_attention(load(arguments.run, arguments.step), arguments.image, Path(arguments.output)))
