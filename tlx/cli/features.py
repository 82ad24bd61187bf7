"""`tlx features CHECKPOINT_OR_RUN --input FILE --output FILE.npz`: what a backbone makes of texts or images."""

import argparse

from tlx.cli.launch import quiet_logs, use_compilation_cache
from tlx.errors import TlxError
from tlx.files.whole import whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """CHECKPOINT_OR_RUN, --input, --output, what is read of it."""
    parser.add_argument("source", metavar="CHECKPOINT_OR_RUN", help="a folder, package:NAME/FOLDER, a hub id, or a run")
    parser.add_argument("--input", metavar="FILE", required=True, help="csv, tsv, jsonl or npz, or a folder of images")
    parser.add_argument(
        "--output", metavar="FILE", required=True, help="the npz to write: features, and what --keep names"
    )
    parser.add_argument("--pooling", default="mean", help="mean, cls, pooler or distilled")
    parser.add_argument(
        "--layers", metavar="N", type=int, nargs="+", default=(), help="hidden states, side by side; 0: embeddings"
    )
    parser.add_argument("--text", metavar="COLUMN", help="of the texts")
    parser.add_argument("--pair", metavar="COLUMN", help="of their partners")
    parser.add_argument("--image", metavar="COLUMN", help="of the images")
    parser.add_argument(
        "--keep", metavar="COLUMN", nargs="+", default=(), help="columns to write too, such as the label"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="examples a pass")
    parser.add_argument("--cache", metavar="FOLDER", help="where features are kept and found again")


def main(arguments: argparse.Namespace) -> None:
    """Writes one archive, there only once it is whole."""
    if arguments.batch_size < 1:
        raise TlxError(f"--batch-size is {arguments.batch_size}; it is at least 1.")
    quiet_logs()
    use_compilation_cache()
    import numpy as np

    from tlx.features.spec import FeatureSpec
    from tlx.runs.features import features_of_file

    found = features_of_file(
        arguments.source, arguments.input, FeatureSpec(tuple(arguments.layers), arguments.pooling),
        columns={"text": arguments.text, "pair": arguments.pair, "image": arguments.image}, keep=arguments.keep,
        batch_size=arguments.batch_size, cache=arguments.cache,
    )  # fmt: skip
    with whole(arguments.output, "wb") as opened:
        np.savez(opened, allow_pickle=False, **found)
    rows, columns = found["features"].shape
    print(f"{arguments.output}: features of {rows:,} examples, {columns:,} numbers each")
