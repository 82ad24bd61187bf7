"""`tlx attention RUN IMAGE… --output FILE`: draws the attention of a trained run on images."""

import argparse
from pathlib import Path

from tlx.cli.launch import configure_jax, quiet_logs
from tlx.cli.steps import add_step, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds RUN, IMAGE, --output, --task and --step."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument("image", nargs="+", help="image files")
    parser.add_argument("--output", metavar="FILE", default="attention.png", help="the picture to write (%(default)s)")
    parser.add_argument("--task", metavar="NAME", help="one task of a run of several")
    add_step(parser)


def main(arguments: argparse.Namespace) -> None:
    """Draws each image beside its attention rollout from the class token."""
    quiet_logs()
    configure_jax()
    from tlx.runs.images import draw_attention

    trained = load(arguments.run, arguments.step)
    trained = trained if arguments.task is None else trained.of_task(arguments.task)
    print(draw_attention(trained, arguments.image, Path(arguments.output)))
