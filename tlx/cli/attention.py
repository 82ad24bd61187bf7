"""`tlx attention RUN IMAGE… --output FILE`: what a trained run looks at."""

import argparse
from pathlib import Path

from tlx.cli.launch import quiet_logs, use_compilation_cache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN, images, --output."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument("image", nargs="+", help="an image file")
    parser.add_argument("--output", metavar="FILE", default="attention.png", help="the picture to write")


def main(arguments: argparse.Namespace) -> None:
    """Draws each image beside what of it arrives in the class token (attention rollout)."""
    quiet_logs()
    use_compilation_cache()
    from tlx.recipes.run_directory import load_run
    from tlx.runs.images import draw_attention

    print(draw_attention(load_run(Path(arguments.run)), arguments.image, Path(arguments.output)))
