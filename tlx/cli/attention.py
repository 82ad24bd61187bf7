"""`tlx attention RUN IMAGE… --output FILE`: draws the attention of a trained run on images."""

import argparse
from pathlib import Path

from tlx.cli.launch import quiet_logs, use_compilation_cache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds RUN, IMAGE and --output."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument("image", nargs="+", help="image files")
    parser.add_argument("--output", metavar="FILE", default="attention.png", help="the picture to write (%(default)s)")


def main(arguments: argparse.Namespace) -> None:
    """Draws each image beside its attention rollout from the class token."""
    quiet_logs()
    use_compilation_cache()
    from tlx.recipes.run_directory import load_run
    from tlx.runs.images import draw_attention

    print(draw_attention(load_run(Path(arguments.run)), arguments.image, Path(arguments.output)))
