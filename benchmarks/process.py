"""What is measured inside a process; for scripts of either side, so it needs the standard library alone."""

import json
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def peak() -> int:
    """The most bytes that the process has had in memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def answer_turns(trainable: int, steps: Callable[[int], float]) -> None:
    """Prints how many parameters learn, then for each number on standard input takes so many steps and prints their
    seconds; at the end of the input the peak memory. Each a line of JSON."""
    print(json.dumps({"trainable": trainable}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": steps(int(line))}), flush=True)
    print(json.dumps({"peak": peak()}), flush=True)


def write_references(families: Sequence[str], write_all: Callable[[Path, Path], None]) -> None:
    """Hands each reference checkpoint in the folder that the command line names first, and the folder for it within
    the second, to `write_all`."""
    third_party, workdir = map(Path, sys.argv[1:])
    for family in families:
        for folder in sorted((third_party / family).iterdir()):
            if (folder / "config.json").is_file() and not folder.name.startswith("dropout"):
                write_all(folder, workdir / family / folder.name)
