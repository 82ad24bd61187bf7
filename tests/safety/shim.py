"""The library of shim.c: compiling it, preloading it into this process, arming it in a child, reading its log."""

import ctypes
import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

KILLS = ("before", "during", "after")
NAMED = re.compile(r"[0-9a-f]{32}|(?<=tfevents\.).*|(?<=checkpoints/)\d+")  # parts of names that differ between runs


@dataclasses.dataclass(frozen=True)
class Target:
    """A call that is disturbed.

    Attributes:
      operation: `open`, `write`, `fsync`, `close`, `mkdir`, `rename` or `unlink`.
      pattern: a pattern of the path below the run directory, as of a shell, whose `*` matches slashes too.
      nth: which of the calls that match, from 1.
      how: `before`, `during`, `after`: a kill; `error`; `signal`; `log`: none.
      number: the errno of an error, or the number of a signal.
    """

    operation: str = ""
    pattern: str = ""
    nth: int = 0
    how: str = "log"
    number: int = 0


def available() -> bool:
    """Returns whether the library can be made and used on this machine."""
    return sys.platform == "linux" and shutil.which("gcc") is not None


def build(place: Path) -> Path:
    """Compiles the library into a folder and returns its file."""
    source, library = Path(__file__).with_name("shim.c"), place / "shim.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def preload(place: Path, environment: Mapping[str, str]) -> None:
    """Starts this process anew with the library preloaded and an environment, unless it has them."""
    if os.environ.get("LD_PRELOAD") == str(place / "shim.so"):
        return
    library = build(place)
    sys.stdout.flush()
    everything = {**os.environ, **environment, "LD_PRELOAD": str(library)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], everything)


def arm(folder: Path, log: Path, target: Target) -> Callable[[], None]:
    """Returns a function that arms the library in the process that calls it."""

    def call() -> None:
        words = (os.fsencode(folder), os.fsencode(log), target.operation.encode(), target.pattern.encode())
        library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        library.shim_arm(*words, ctypes.c_long(target.nth), target.how.encode(), target.number)

    return call


def events(log: Path) -> dict[tuple[str, str], int]:
    """Counts the calls in a log by operation and pattern of the path."""
    counts: dict[tuple[str, str], int] = {}
    for line in log.read_text(errors="replace").splitlines():
        operation, path = line.split("\t")[:2]
        key = operation, NAMED.sub("*", path)
        counts[key] = counts.get(key, 0) + 1
    return counts


def hit(log: Path) -> str | None:
    """The call that was disturbed, from a log; None if the run never came to it."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return next((" ".join(line.split("\t")[:2]) for line in lines if line.endswith("\tHIT")), None)
