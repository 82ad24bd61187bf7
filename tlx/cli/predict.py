"""`tlx predict RUN TEXT…` or `tlx predict RUN --input FILE`: what a trained run says of its inputs."""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tlx.cli.launch import quiet_logs, use_compilation_cache
from tlx.errors import TlxError

CHUNK = 512  # rows answered at a time
Answered = tuple[Any, dict[str, Any]]  # an input and its answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN, texts, --input, --output, --format."""
    parser.add_argument("run", help="a run directory")
    parser.add_argument("text", nargs="*", help="one text, or one image's file, each")
    parser.add_argument(
        "--input",
        metavar="FILE",
        help="JSON lines, CSV, TSV, CoNLL or npz with the run's columns; - for standard input; or a folder of images",
    )
    parser.add_argument("--output", metavar="FILE", default="-", help="where the rows go, with their answers")
    parser.add_argument("--format", choices=("jsonl", "csv"), help="of both, where no file's suffix tells")
    parser.add_argument(
        "--sheet", metavar="FILE", help="of images: a picture of those answered with the least certainty"
    )


def main(arguments: argparse.Namespace) -> None:
    """Answers the texts given, or every row of a file in its order."""
    if bool(arguments.text) == bool(arguments.input):
        raise TlxError("tlx predict answers either texts or --input FILE; give one of them.")
    if arguments.text and (arguments.output != "-" or arguments.format):
        raise TlxError("texts are answered in words, one line each; --output and --format go with --input FILE (or -).")
    quiet_logs()
    use_compilation_cache()
    from tlx.recipes.run_directory import load_run

    trained = load_run(Path(arguments.run))
    if arguments.sheet and trained.model.backbone.config.modality != "image":
        raise TlxError(f"--sheet draws images; this run reads {trained.inputs.plural}.")
    if arguments.text:
        answered = of_arguments(trained, arguments.text)
    else:
        chunks = of_source(trained, arguments.input, arguments.output, arguments.format)
        answered = [one for chunk in chunks for one in chunk if arguments.sheet]  # else no row of a stream is kept
    if arguments.sheet:
        from tlx.runs.images import least_certain

        inputs, rows = zip(*answered, strict=True)
        least_certain(inputs, rows, Path(arguments.sheet))


def of_arguments(trained: Any, words: Sequence[str]) -> list[Answered]:
    """One line an input."""
    from tlx.runs.predictions import rows_of

    inputs = trained.inputs.read_arguments(words, trained.columns, trained.head.kind)
    rows = rows_of(trained, inputs)
    width = max(len(word) for word in words)
    for word, row in zip(words, rows, strict=True):
        print(f"{word:{width}}  {in_words(row)}")
    return list(zip(inputs, rows, strict=True))


def of_source(trained: Any, source: str, to: str, format_: str | None) -> Iterator[list[Answered]]:
    """Rows in, the same rows with `predicted` (and `score`) out, a chunk at a time; a column of that name stays,
    and the answer is then `tlx_predicted` (`tlx_score`). Gives each chunk once it is written."""
    from tlx.data.stream import format_of, writing
    from tlx.runs.predictions import rows_of

    modality, columns, kind = trained.inputs, trained.columns, trained.head.kind
    reading = modality.read_source(source, format_)
    written = format_ or reading.format if to == "-" else format_of(to, format_ or reading.file_format)
    empty = 0
    with writing(to, written) as write:
        while chunk := list(itertools.islice(reading.rows, CHUNK)):
            inputs = [modality.read_row(row, place, columns, kind) for place, row in chunk]
            answers = rows_of(trained, inputs)
            for (place, row), found in zip(chunk, answers, strict=True):
                empty += found["predicted"].count(None) if isinstance(found["predicted"], list) else 0
                values = flat(found) if written == "csv" else found
                named = {name if name not in row else f"tlx_{name}": value for name, value in values.items()}
                write({**row, **named}, place)
            yield list(zip(inputs, answers, strict=True))
    if empty:
        print(
            f"{empty} words could not be predicted and are left empty: the tokenizer leaves nothing of them, or their "
            "tokens alone exceed max_length.",
            file=sys.stderr,
        )


def flat(prediction: dict[str, Any]) -> dict[str, Any]:
    """For a CSV: of several numbers a column each, `predicted_0` and so on."""
    values = prediction["predicted"]
    if not isinstance(values, list) or not values or isinstance(values[0], str | None):
        return prediction
    return {f"predicted_{i}": value for i, value in enumerate(values)}


def in_words(row: dict[str, Any]) -> str:
    """An answer for reading: the class and its probability, the names, or the numbers."""
    predicted = row["predicted"]
    if "score" in row:
        return f"{predicted}  {row['score']:.1%}"
    values = predicted if isinstance(predicted, list) else [predicted]
    said = ("(none)" if value is None else value if isinstance(value, str) else f"{value:.4g}" for value in values)
    return "  ".join(said) or "(none)"
