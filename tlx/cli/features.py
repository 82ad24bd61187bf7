"""`tlx features CHECKPOINT_OR_RUN --input FILE --output FILE.npz`: writes features of texts or images."""

import argparse

from tlx.cli.launch import configure_jax, quiet_logs
from tlx.cli.steps import add_step, say
from tlx.errors import TlxError
from tlx.files.atomic import atomic_write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds CHECKPOINT_OR_RUN, --input, --output and the options of the features."""
    parser.add_argument(
        "source",
        metavar="CHECKPOINT_OR_RUN",
        help="a checkpoint (folder, package:NAME/FOLDER or hub id) or a run directory",
    )
    parser.add_argument(
        "--input", metavar="FILE", required=True, help="a csv, tsv, jsonl or npz file, or a folder of images"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        required=True,
        help="the npz file to write, with the features and the columns of --keep",
    )
    parser.add_argument("--pooling", default="mean", help="mean, cls, pooler or distilled (%(default)s)")
    parser.add_argument(
        "--layers",
        metavar="N",
        type=int,
        nargs="+",
        default=(),
        help="hidden states to concatenate; 0: embeddings, -1: last block",
    )
    parser.add_argument("--text", metavar="COLUMN", help="column of the texts")
    parser.add_argument("--pair", metavar="COLUMN", help="column of the second texts of pairs")
    parser.add_argument("--image", metavar="COLUMN", help="column of the images")
    parser.add_argument(
        "--keep", metavar="COLUMN", nargs="+", default=(), help="columns to copy to the output, such as the label"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="examples of a forward pass (%(default)s)")
    parser.add_argument("--cache", metavar="FOLDER", help="folder in which features are cached and reused")
    parser.add_argument("--task", metavar="NAME", help="one task of a run of several")
    add_step(parser)


def main(arguments: argparse.Namespace) -> None:
    """Writes the archive; if the command fails, no partial file is left."""
    if arguments.batch_size < 1:
        raise TlxError(f"--batch-size is {arguments.batch_size}; it is at least 1.")
    quiet_logs()
    configure_jax()
    import numpy as np

    from tlx.features.spec import FeatureSpec
    from tlx.runs.features import features_of_file

    columns = features_of_file(
        arguments.source, arguments.input, FeatureSpec(tuple(arguments.layers), arguments.pooling),
        columns={"text": arguments.text, "pair": arguments.pair, "image": arguments.image}, keep=arguments.keep,
        batch_size=arguments.batch_size, cache=arguments.cache, step=arguments.step, task=arguments.task,
        loaded=lambda step: say(arguments.source, step, arguments.step),
    )  # fmt: skip
    with atomic_write(arguments.output, "wb") as opened:
        np.savez(opened, allow_pickle=False, **columns)
    rows, width = columns["features"].shape
    print(f"{arguments.output}: features of {rows:,} examples, {width:,} numbers each")
