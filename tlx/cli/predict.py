"""`tlx predict RUN TEXT…` or `tlx predict RUN --input FILE`: what a trained run says of texts, or of images."""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlx.cli.launch import quiet_logs, use_compilation_cache
from tlx.errors import TlxError, listed

CHUNK = 512  # rows answered at a time


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
    if trained.of_images:
        of_images(trained, arguments)
    elif arguments.sheet:
        raise TlxError("--sheet draws images; this run reads texts.")
    elif arguments.text:
        of_texts(trained, arguments.text)
    else:
        of_file(trained, arguments.input, arguments.output, arguments.format)


def of_texts(trained: Any, texts: Sequence[str]) -> None:
    """One line a text."""
    from tlx.runs.predictions import rows_of

    data = trained.config["data"]
    if data.get("pair"):
        raise TlxError(f"this run answers pairs ({data['text']!r}, {data['pair']!r}); give them with --input FILE.")
    head = dict(trained.model.heads_by_name)["default"]
    inputs = [text.split() for text in texts] if head.kind == "tagging" else texts
    width = max(len(text) for text in texts)
    for text, row in zip(texts, rows_of(trained, inputs), strict=True):
        print(f"{text:{width}}  {in_words(row)}")


def of_images(trained: Any, arguments: argparse.Namespace) -> None:
    """A row for each image, `image` (its path), `predicted` and `score`; in words where single files are given."""
    from tlx.data.folder import read_folder
    from tlx.data.stream import format_of, writing
    from tlx.runs.images import image_rows, least_certain

    images = arguments.text or [str(path) for path in read_folder(arguments.input)["image"]]
    rows: list[dict[str, Any]] = []
    if arguments.text:
        rows = image_rows(trained, images)
        width = max(len(image) for image in images)
        for image, row in zip(images, rows, strict=True):
            print(f"{image:{width}}  {in_words(row)}")
    else:
        written = format_of(arguments.output, arguments.format or "csv")
        with writing(arguments.output, written) as write:
            for start in range(0, len(images), CHUNK):
                chunk = images[start : start + CHUNK]
                rows += image_rows(trained, chunk)
                for image, row in zip(chunk, rows[start:], strict=True):
                    write({"image": image, **(flat(row) if written == "csv" else row)}, image)
    if arguments.sheet:
        least_certain(images, rows, Path(arguments.sheet))


def of_file(trained: Any, source: str, to: str, format_: str | None) -> None:
    """Rows in, the same rows with `predicted` (and `score`) out, a chunk at a time; a column of that name stays,
    and the answer is then `tlx_predicted` (`tlx_score`)."""
    from tlx.data.stream import FORMATS, READ, format_of, read_rows, writing
    from tlx.runs.predictions import rows_of

    data = trained.config["data"]
    columns = [data["text"], *([data["pair"]] if data.get("pair") else [])]
    words = dict(trained.model.heads_by_name)["default"].kind == "tagging"
    reading = format_of(source, format_, READ)
    rows = read_rows(source, reading)
    alike = {name: name for name in FORMATS} | {"tsv": "csv"}
    written = format_ or alike.get(reading, "jsonl") if to == "-" else format_of(to, format_)
    empty = 0
    with writing(to, written) as write:
        while chunk := list(itertools.islice(rows, CHUNK)):
            inputs = [[_input(place, row, column, words) for place, row in chunk] for column in columns]
            for (place, row), found in zip(chunk, rows_of(trained, *inputs), strict=True):
                empty += found["predicted"].count(None) if isinstance(found["predicted"], list) else 0
                predict_texts = flat(found) if written == "csv" else found
                named = {name if name not in row else f"tlx_{name}": value for name, value in predict_texts.items()}
                write({**row, **named}, place)
    if empty:
        print(
            f"{empty} words could not be predicted and are left empty: the tokenizer leaves nothing of them, or their "
            "tokens alone exceed max_length.",
            file=sys.stderr,
        )


def flat(predict_texts: dict[str, Any]) -> dict[str, Any]:
    """For a CSV: of several numbers a column each, `predicted_0` and so on."""
    values = predict_texts["predicted"]
    if not isinstance(values, list) or not values or isinstance(values[0], str | None):
        return predict_texts
    return {f"predicted_{i}": value for i, value in enumerate(values)}


def _input(place: str, row: dict[str, Any], column: str, words: bool) -> Any:
    """A row's text, or its words, by the rules of training."""
    from tlx.data.labels import text_of, words_of

    if column not in row:
        raise TlxError(f"{place}: there is no column {column!r}; there is {listed(row)}.")
    return words_of(row[column], place, column) if words else text_of(row[column], place, column)


def in_words(row: dict[str, Any]) -> str:
    """An answer for reading: the class and its probability, the names, or the numbers."""
    predicted = row["predicted"]
    if "score" in row:
        return f"{predicted}  {row['score']:.1%}"
    values = predicted if isinstance(predicted, list) else [predicted]
    said = ("(none)" if value is None else value if isinstance(value, str) else f"{value:.4g}" for value in values)
    return "  ".join(said) or "(none)"
