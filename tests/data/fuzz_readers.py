"""Spoils data files at random and reads them: python tests/data/fuzz_readers.py --minutes 10

For every reader (csv, tsv, jsonl, conll, npz, squad, folder) a valid file is edited. What is read then either gives a
`TlxError` of one line, or every row: as many as an independent count finds. Training's columns and the rows of
`tlx predict` are the same, or both are refused. No other exception. What breaks this is written to --keep, and the
exit code is 1.
"""

import argparse
import csv
import io
import json
import math
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tlx.data import labels
from tlx.data.readers import READERS
from tlx.data.sources import load
from tlx.data.tags import tag_column
from tlx.data.targets import regression_targets
from tlx.data.texts import text_column
from tlx.errors import TlxError

PIECES = [
    b'"', b'""', b",", b"\t", b"\n", b"\r", b"\r\n", b"\n\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3\xa9",
    b"\xe2\x80\xa8", b"\xc2\x85", b"\x1c", b"\x0b", b"\x0c", b" ", b"\\", b"\\ud83d", b"\\u0000", b"NaN", b"null",
    b"1e999", b"[", b"{", b"}", b"[" * 100_000, b"9" * 100_000, b"=1+1", b"a" * 200_000, b"-DOCSTART- -X- O O\n", b"#",
    b"text",
]  # fmt: skip
TEXTS = ["a fine film", 'the plot was 5" long', "café, and grim", "two\nlines", "x\ty", "=1+1", "  spaced ", "e\u2028f"]


def rows_of(random_: random.Random) -> list[tuple[str, str]]:
    count = random_.randint(1, 6)
    return [(random_.choice(TEXTS), random_.choice(["good", "bad", " bad"])) for _ in range(count)]


def made(kind: str, random_: random.Random) -> bytes:
    """A valid file."""
    rows = rows_of(random_)
    if kind in ("csv", "tsv"):
        stream = io.StringIO()
        writer = csv.writer(
            stream, delimiter="," if kind == "csv" else "\t", lineterminator=random_.choice(["\n", "\r\n", "\r"]),
            quoting=random_.choice([csv.QUOTE_ALL, csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
        )  # fmt: skip
        writer.writerows([("text", "label"), *rows])
        return (random_.choice(["", "\ufeff"]) + stream.getvalue()).encode()
    if kind == "jsonl":
        ascii_ = random_.choice([True, False])
        given = [json.dumps({"text": text, "label": label}, ensure_ascii=ascii_) for text, label in rows]
        return "\n".join(given).encode()
    if kind == "conll":
        return "\n\n".join("\n".join(f"{word} O" for word in text.split()) for text, _ in rows).encode()
    if kind == "squad":
        paragraphs = []
        for index, (text, label) in enumerate(rows):
            start = random_.randrange(len(text.rstrip()))
            answers = [{"text": text[start:], "answer_start": start}] if text[start:].strip() else []
            question = {"id": str(index), "question": label, "answers": answers, "is_impossible": not answers}
            paragraphs.append({"context": text, "qas": [question]})
        return json.dumps({"data": [{"paragraphs": paragraphs}]}, ensure_ascii=random_.choice([True, False])).encode()
    stream_ = io.BytesIO()
    np.savez(stream_, text=np.array([text for text, _ in rows]), label=np.arange(len(rows)) / 2)
    return stream_.getvalue()


def edited(content: bytes, random_: random.Random) -> bytes:
    """One edit that knows no format."""
    at, end = sorted(random_.randint(0, len(content)) for _ in range(2))
    end = min(end, at + random_.choice([0, 1, 4, 10**9]))
    what = random_.randrange(6)
    if what == 0:
        return content[:at] + random_.choice(PIECES) + content[at:]
    if what == 1:
        return content[:at] + random_.choice(PIECES) + content[end:]
    if what == 2:
        return content[:at] + content[end:]
    if what == 3:
        return content[:end] + content[at:end] + content[end:]
    if what == 4:
        return content[:at] + random_.randbytes(random_.randint(1, 3)) + content[at + 1 :]
    return content.decode(errors="replace").encode(
        random_.choice(["utf-16", "utf-16-le", "latin-1", "utf-8"]), "replace"
    )


def _records(text: str, delimiter: str) -> int:
    """RFC 4180 letter by letter: the line ends outside of quotes, but for blank lines."""
    state, blank, records = "begin", True, 0
    for letter in text:
        if state == "quoted":
            state = "closing" if letter == '"' else "quoted"
        elif state == "closing" and letter == '"':
            state = "quoted"
        elif letter == "\n":
            records += not blank
            state, blank = "begin", True
        else:
            blank = False
            state = "begin" if letter == delimiter else "quoted" if state + letter == 'begin"' else "plain"
    return records + (not blank)


def counted(kind: str, content: bytes) -> int:
    """The rows of a file that is read, counted by hand: no reader of tlx and, but for npz and JSON, no library."""
    if kind == "npz":
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(archive.namelist()[0]) as stream:
            return len(np.lib.format.read_array(stream, allow_pickle=False))
    if kind == "squad":
        articles = json.loads(content)["data"]
        return sum(len(paragraph["qas"]) for article in articles for paragraph in article["paragraphs"])
    text = re.sub("\r\n|\r", "\n", content.decode().removeprefix("\ufeff"))
    if kind in ("csv", "tsv"):
        return _records(text, "," if kind == "csv" else "\t") - 1
    if kind == "jsonl":
        return sum(line.strip() != "" for line in text.split("\n"))
    blocks = re.split(r"\n(?:[ \t]*\n|-DOCSTART-[^\n]*\n)+", "\n\n" + text + "\n\n")
    return sum(block.strip(" \t\n") != "" for block in blocks)


def same(one: Any, other: Any) -> bool:
    """Equal, and NaN is equal to itself."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other or (
        isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    )


def attempt(read: Callable[[], Any]) -> Any:
    """What it gives, or its `TlxError`, of one line."""
    try:
        return read()
    except TlxError as error:
        if len(str(error)) > 3000 or "\n" in str(error):
            raise AssertionError(f"an error of {len(str(error))} characters: {str(error)[:200]!r}") from None
        return error


def check_file(kind: str, file: Path, content: bytes) -> str:
    """'read' or 'refused'; raises what must not be."""
    file.write_bytes(content)
    trained = attempt(lambda: load(f"{kind}:{file}"))
    streamed = attempt(lambda: [row for _, row in READERS[kind].rows(str(file))])
    if isinstance(trained, TlxError):
        ragged = "with the keys of the first line" in str(trained)  # a column has a value in every row
        assert isinstance(streamed, TlxError) or not streamed or ragged, f"training alone refuses: {trained}"
        assert ragged or not isinstance(streamed, TlxError) or str(streamed) == str(trained), f"{trained} / {streamed}"
        return "refused"
    assert not isinstance(streamed, TlxError), f"predict alone refuses: {streamed}"
    columns = {
        name: column.tolist() if hasattr(column, "tolist") else column for name, column in trained.columns.items()
    }
    assert len(streamed) == len(trained) == counted(kind, content), (
        f"{len(streamed)} rows streamed, {len(trained)} in columns, {counted(kind, content)} counted"
    )
    for row, given in enumerate(streamed):
        assert same(given, {name: column[row] for name, column in columns.items()}), f"row {row}: {given!r:.200}"
    for name in trained.columns:
        attempt(lambda name=name: text_column(trained, name))
        attempt(lambda name=name: labels.classes(labels.names(trained, name)))
        attempt(lambda name=name: regression_targets(trained, name))
        attempt(lambda name=name: tag_column(trained, name))
    return "read"


def check_folder(folder: Path, random_: random.Random) -> str:
    """A folder of images, or with a table that is edited: an image for each row or file, or a refusal."""
    shutil.rmtree(folder, ignore_errors=True)
    if random_.random() < 0.5:
        names = [f"{i}.png" for i in range(random_.randint(1, 4))]
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"png")
        content = ("file_name,label\n" + "".join(f"{name},a\n" for name in names)).encode()
        for _ in range(random_.randint(0, 3)):
            content = edited(content, random_)
        (folder / "metadata.csv").write_bytes(content)
        found = attempt(lambda: load(f"folder:{folder}"))
        if isinstance(found, TlxError):
            return "refused"
        assert len(found) == counted("csv", content), f"{len(found)} rows of {counted('csv', content)}"
        return "read"
    expected = 0
    for _ in range(random_.randint(1, 4)):
        place = folder / random_.choice(["a", "b", "c d", "é", ".hidden", "a/deep", "-100", "nan"])
        place.mkdir(parents=True, exist_ok=True)
        for name in random_.sample(["1.png", "2.JPG", "x.txt", ".y.png", "3.jpeg", "no-suffix"], random_.randint(0, 4)):
            (place / name).write_bytes(random_.randbytes(3))
    found = attempt(lambda: load(f"folder:{folder}"))
    if isinstance(found, TlxError):
        return "refused"
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        expected += file.is_file() and not hidden and file.suffix.lower() in (".png", ".jpg", ".jpeg")
    assert len(found) == expected, f"{len(found)} images of {expected}"
    return "read"


def run(kind: str, seconds: float, keep: Path, first_seed: int, most: float = math.inf) -> Counter[str]:
    """Tries cases for so long, or so many."""
    counts: Counter[str] = Counter()
    place = Path(tempfile.mkdtemp(prefix="tlx-fuzz-"))
    end, number = time.monotonic() + seconds, first_seed
    while time.monotonic() < end and number < first_seed + most:
        random_, content = random.Random(number), b""
        number += 1
        try:
            if kind == "folder":
                outcome = check_folder(place / "folder", random_)
            else:
                content = made(kind, random_)
                for _ in range(random_.choice([0, 1, 1, 1, 2, 3])):
                    content = edited(content, random_)
                outcome = check_file(kind, place / f"a.{kind}", content)
        except Exception:
            outcome = "WRONG"
            wrong = traceback.format_exc()
            counts[f"WRONG: {kind}, seed {number - 1}: {wrong.strip().splitlines()[-1][:300]}"] += 1
            if counts["WRONG"] < 20:
                (keep / f"{kind}-{number - 1}").write_bytes(content)
                (keep / f"{kind}-{number - 1}.txt").write_text(wrong)
        counts[outcome] += 1
    shutil.rmtree(place, ignore_errors=True)
    return counts


KINDS = (*READERS, "folder")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=0.5, help="of each reader")
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "tlx-fuzz-findings")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    print(f"seed {options.seed}", flush=True)
    wrong = False
    for kind in options.kind or KINDS:
        counts = run(kind, 60 * options.minutes, options.keep, options.seed)
        wrong |= counts["WRONG"] > 0
        print(f"{kind}: {counts['read']} read, {counts['refused']} refused, {counts['WRONG']} wrong", flush=True)
        for said in [said for said in counts if said.startswith("WRONG:")][:10]:
            print(f"  {said}")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
