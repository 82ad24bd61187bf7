"""`tlx predict RUN TEXT…` or `tlx predict RUN --input FILE`: predictions of a trained run for new inputs."""

import argparse
import contextlib
import itertools
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from tlx.cli.launch import configure_jax, quiet_logs
from tlx.cli.steps import add_step, load
from tlx.errors import TlxError, listed

CHUNK = 512  # number of rows that are read, predicted and written at a time
# The same for texts of a file: the more are sorted or packed together, the less padding there is.
TEXTS = 4096
Predicted = tuple[Any, dict[str, Any]]  # an input and its prediction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds RUN, TEXT, --input, --output, --format, --sheet, --task and --step."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument("text", nargs="*", help="texts, or image files")
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="a jsonl, csv, tsv, conll, squad or npz file with the run's columns, - for standard input, or a folder of "
        "images",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        default="-",
        help="file for the rows with their predictions; default: standard output",
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help="format of the input, such as jsonl, csv or tsv, and of the output if it is jsonl or csv, unless a suffix "
        "says it",
    )
    parser.add_argument(
        "--sheet", metavar="FILE", help="write a picture of the images with the least certain predictions"
    )
    parser.add_argument("--task", metavar="NAME", help="one task of a run of several; default: all")
    add_step(parser)


def main(arguments: argparse.Namespace) -> None:
    """Predicts the texts of the command line, or all rows of a file in their order."""
    if bool(arguments.text) == bool(arguments.input):
        raise TlxError("tlx predict takes either texts or --input FILE; give one of them.")
    if arguments.text and (arguments.output != "-" or arguments.format):
        raise TlxError(
            "predictions for texts of the command line are printed, one line each; --output and --format need --input "
            "FILE (or -)."
        )
    from tlx.data.readers import READERS

    if arguments.format not in (None, *READERS):
        raise TlxError(f"--format is {arguments.format!r}; it is one of {listed(READERS)}.")
    quiet_logs()
    configure_jax()
    trained = load(arguments.run, arguments.step)
    if arguments.task is not None:
        trained = trained.of_task(arguments.task)
    if arguments.sheet and len(trained.heads) > 1:
        raise TlxError("--sheet shows the predictions of one task; name it with --task.")
    if arguments.sheet and trained.model.backbone.config.modality != "image":
        raise TlxError(f"--sheet draws images; this run reads {trained.inputs.plural}.")
    if arguments.text:
        predicted = predict_arguments(trained, arguments.text)
    else:
        chunks = predict_source(trained, arguments.input, arguments.output, arguments.format)
        predicted = [pair for chunk in chunks for pair in chunk if arguments.sheet]  # without a sheet, keep no row
    if arguments.sheet:
        from tlx.runs.images import least_certain

        inputs, rows = zip(*predicted, strict=True)
        least_certain(inputs, rows, Path(arguments.sheet))


def predict_arguments(trained: Any, words: Sequence[str]) -> list[Predicted]:
    """Predicts the words of the command line, prints one line for each, and returns inputs and predictions."""
    from tlx.runs.predictions import rows_of

    inputs = trained.inputs.read_arguments(words, trained.columns, trained.kind)
    rows = rows_of(trained, inputs)
    width = max(len(word) for word in words)
    for word, row in zip(words, rows, strict=True):
        by_task = {"": row} if "predicted" in row else row
        answers = (f"{task}: {in_words(own)}" if task else in_words(own) for task, own in by_task.items())
        print(f"{word:{width}}  {'   '.join(answers)}")
    return list(zip(inputs, rows, strict=True))


def predict_source(trained: Any, source: str, to: str, format_: str | None) -> Iterator[list[Predicted]]:
    """Predicts the rows of a source, and writes them with the columns `predicted` and, for classes, `score`.

    For a run of several tasks these are `TASK_predicted` and `TASK_score`. If the rows have a column of that name
    already, the new column is `tlx_predicted` or `tlx_score`.

    Args:
      trained: the trained run.
      source: a file, `-` for standard input, or a folder of images.
      to: the file to write, or `-` for standard output.
      format_: the format of files whose suffix does not name one; None: the suffix has to name it.

    Yields:
      The inputs and predictions of each chunk after it is written.
    """
    from tlx.data.ahead import ahead
    from tlx.data.stream import FORMATS, format_of, writing
    from tlx.runs.predictions import rows_of_examples

    modality, columns, kind = trained.inputs, trained.columns, trained.kind
    reading = modality.read_source(source, format_)
    written = format_ if format_ in FORMATS else None
    output_format = written or reading.format if to == "-" else format_of(to, written or reading.file_format)
    size = TEXTS if modality.has_lengths and source != "-" else CHUNK

    def encoded() -> Generator[tuple[list[Any], list[Any], Any]]:
        """Reads and encodes the chunks."""
        while chunk := list(itertools.islice(reading.rows, size)):
            inputs = [modality.read_row(row, place, columns, kind) for place, row in chunk]
            yield chunk, inputs, modality.encode_inputs(inputs, kind)

    # The process could not end while a thread waits for a line of standard input.
    chunks = encoded() if source == "-" else ahead(encoded())
    unpredicted = 0
    with contextlib.closing(chunks), writing(to, output_format) as write:
        for chunk, inputs, examples in chunks:
            predictions = rows_of_examples(trained, examples)
            for (place, row), prediction in zip(chunk, predictions, strict=True):
                values: dict[str, Any] = {}
                for task, own in ({"": prediction} if "predicted" in prediction else prediction).items():
                    predicted = own["predicted"]
                    unpredicted += predicted.count(None) if isinstance(predicted, list) else 0
                    own = flat(own) if output_format == "csv" else own
                    values |= {f"{task}_{name}" if task else name: value for name, value in own.items()}
                new_columns = {name if name not in row else f"tlx_{name}": value for name, value in values.items()}
                write({**row, **new_columns}, place)
            if to == "-":
                sys.stdout.flush()
            yield list(zip(inputs, predictions, strict=True))
    if unpredicted:
        print(
            f"{unpredicted} words could not be predicted and are left empty: the tokenizer removes them, or their "
            "tokens alone exceed max_length.",
            file=sys.stderr,
        )


def flat(prediction: dict[str, Any]) -> dict[str, Any]:
    """Returns a prediction for a row of a CSV: several numbers become columns `predicted_0`, `predicted_1`, …"""
    values = prediction["predicted"]
    if not isinstance(values, list) or not values or isinstance(values[0], str | None):
        return prediction
    return {f"predicted_{i}": value for i, value in enumerate(values)}


def in_words(row: dict[str, Any]) -> str:
    """Formats a prediction as text: the class and its probability, the labels, or the numbers."""
    predicted = row["predicted"]
    if "score" in row:
        return f"{predicted or '(no answer)'}  {row['score']:.1%}"
    values = predicted if isinstance(predicted, list) else [predicted]
    texts = ("(none)" if value is None else value if isinstance(value, str) else f"{value:.4g}" for value in values)
    return "  ".join(texts) or "(none)"
