"""Spoils files of weights at random and reads them: python tests/pretrained/formats/fuzz.py --minutes 10

A spoilt file either gives a `TlxError`, or tensors of which each can be read and has the shape and dtype it was said to
have. No other exception, no more than a bounded address space, no more than 5 s of the processor, nothing executed,
no file opened but those of the folder. What breaks this is written to --keep, and the exit code is 1.
"""

import argparse
import codecs
import io
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.pretrained.formats import edits, made
from tlx.errors import TlxError
from tlx.pretrained.formats.folder import open_tensors

SAMPLES = Path(__file__).parents[3] / "third_party" / "formats"
ROOM = 2**30  # bytes of address space beside what the fuzzer has when it begins
SECONDS = 5.0  # of the processor, for one case
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "subprocess.",
    "exec",
    "compile",
    "pickle.",
    "socket.",
)

reading: list[Path] = []  # the folder that is read right now
events: list[str] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Python's audit hook: notes what reading weights has no business to do."""
    if not reading:
        return
    if event == "open":
        path = os.fspath(arguments[0]) if isinstance(arguments[0], (str, bytes, os.PathLike)) else ""
        if not str(path).startswith(str(reading[0])):
            events.append(f"open {path!r}")
    elif event.startswith(FORBIDDEN):
        events.append(event)


def bases() -> list[tuple[str, bytes, Any]]:
    """Name, content and the edits that know its format, of one valid file for every reader and form."""
    found: list[tuple[str, bytes, Any]] = []
    for folder in sorted(SAMPLES.iterdir()):
        for file in sorted(folder.glob("*")) if folder.is_dir() and "sharded" not in folder.name else ():
            content = file.read_bytes()
            if file.suffix == ".bin":
                found.append((file.name, content, edits.torch_zip if content[:2] == b"PK" else edits.torch_legacy))
            elif file.suffix in (".safetensors", ".msgpack"):
                found.append((file.name, content, edits.safetensors if file.suffix[1] == "s" else edits.msgpack))
    small = made.mapping(a=made.tensor(), b=made.tensor((3, 2), (1, 3)))
    found.append(("pytorch_model.bin", made.torch_zip(small), edits.torch_zip))
    found.append(("pytorch_model.bin", made.torch_legacy(small), edits.torch_legacy))
    header = {"a": made.entry(0, 12, [3]), "b": made.entry(12, 24, [3])}
    found.append(("model.safetensors", made.safetensors(header, made.NUMBERS), edits.safetensors))
    found.append(("flax_model.msgpack", b"\x81" + made.text("a") + made.array(), edits.msgpack))
    for folder in sorted(SAMPLES.glob("*sharded")):
        (index,) = folder.glob("*.index.json")
        found.append((f"{folder.name}/{index.name}", index.read_bytes(), edits.in_json))
    return found


BASES = bases()


@st.composite
def cases(draw: Any) -> tuple[str, bytes]:
    """A file's name (an index's: with the folder of its parts) and its spoilt content."""
    name, content, knowing = draw(st.sampled_from(BASES))
    if draw(st.integers(0, 2)):
        content = draw(knowing(content))
    for _ in range(draw(st.integers(0, 3))):
        content = draw(edits.blind(content, [other for _, other, _ in BASES]))
    return name, content


def problem(folder: Path) -> str | None:
    """What reading a folder does that it must not; "" if it refuses it, None if it reads it."""
    events.clear()
    start = time.process_time()
    outcome = None
    reading.append(folder)
    try:
        for name, stored in open_tensors(folder).tensors.items():
            array = stored.read()
            if (array.shape, array.dtype) != (stored.shape, stored.dtype) or not array.flags.aligned:
                outcome = f"{name!r} is {array.shape} {array.dtype}, not {stored.shape} {stored.dtype}"
            array.tobytes()
    except TlxError as error:
        if len(str(error)) > 3000 or "\n" in str(error):
            outcome = f"an error of {len(str(error))} characters: {str(error)[:200]!r}"
        else:
            outcome = ""
    except BaseException:
        outcome = traceback.format_exc()
    finally:
        reading.clear()
    if time.process_time() - start > SECONDS:
        outcome = f"took {time.process_time() - start:.1f} s"
    if Path("tlx-was-executed").exists():
        outcome = "the planted command was executed"
    return f"did {events}" if events else outcome


def run(minutes: float, keep: Path, first_seed: int) -> Counter[str]:
    """Tries cases for so long; counts what was tried, and what went wrong by its last line."""
    counts: Counter[str] = Counter()
    place = Path(tempfile.mkdtemp(prefix="tlx-fuzz-"))
    os.chdir(place)
    folder, end = place / "folder", time.monotonic() + 60 * minutes

    def check(case: tuple[str, bytes]) -> None:
        if time.monotonic() > end:
            return
        name, content = case
        shutil.rmtree(folder, ignore_errors=True)
        if "/" in name:
            shutil.copytree(SAMPLES / name.partition("/")[0], folder)
        else:
            folder.mkdir()
        (folder / name.rpartition("/")[2]).write_bytes(content)
        wrong = problem(folder)
        counts[f"cases: {name}, {'read' if wrong is None else 'refused' if not wrong else 'WRONG'}"] += 1
        if wrong:
            counts[f"WRONG: {wrong.strip().splitlines()[-1][:200]}"] += 1
            kept = keep / f"{len(os.listdir(keep)):03d}-{name.replace('/', '-')}"  # noqa: PTH208
            if len(os.listdir(keep)) < 100:  # noqa: PTH208
                kept.write_bytes(content)
                kept.with_suffix(".txt").write_text(wrong)

    quiet = settings(
        max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
    )
    for number in batches(end):
        seed(first_seed + number)(quiet(given(cases())(check)))()
    os.chdir("/")
    shutil.rmtree(place, ignore_errors=True)
    return counts


def batches(end: float) -> Iterator[int]:
    """0, 1, … until a time."""
    number = 0
    while time.monotonic() < end:
        yield number
        number += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "tlx-fuzz-findings")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    codecs.lookup("raw-unicode-escape")  # loaded late by pickletools, for an opcode of protocol 0
    for name, content, _ in BASES:  # unspoilt, so that what is imported late is there, and bases are known to be good
        folder = Path(tempfile.mkdtemp())
        if "/" not in name:
            (folder / name).write_bytes(content)
            for stored in open_tensors(folder).tensors.values():
                stored.read()
        shutil.rmtree(folder)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM,) * 2)
    sys.addaudithook(watch)
    print(f"seed {options.seed}", flush=True)
    counts = run(options.minutes, options.keep, options.seed)
    stream = io.StringIO()
    for what, count in sorted(counts.items()):
        print(f"{count:8d}  {what}", file=stream)
    print(stream.getvalue(), end="")
    print(f"{sum(count for what, count in counts.items() if what.startswith('cases'))} cases")
    sys.exit(any(what.startswith("WRONG") for what in counts))


if __name__ == "__main__":
    main()
