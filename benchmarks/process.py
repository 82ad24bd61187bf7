"""Measurements inside a process. Scripts of both sides use it, so it only needs the standard library."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def peak() -> int:
    """The peak resident memory of the process so far, in bytes (Linux).

    Not `ru_maxrss` of `getrusage`, which begins with the memory of the process that started this one.
    """
    line = next(each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def since_start() -> float:
    """Seconds since the process was started (Linux)."""
    began = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - began


def answer_turns(trainable: int, steps: Callable[[int], float], **facts: object) -> None:
    """Prints the number of trained parameters and other facts; then, for each number n on standard input, runs n steps
    and prints the seconds; at the end of the input prints the peak memory. Every output is a line of JSON."""
    print(json.dumps({"trainable": trainable, **facts}), flush=True)
    for line in sys.stdin:
        print(json.dumps({"seconds": steps(int(line))}), flush=True)
    print(json.dumps({"peak": peak()}), flush=True)


def write_references(families: Sequence[str], write_all: Callable[[Path, Path], None]) -> None:
    """Calls `write_all(checkpoint, output)` for each reference checkpoint. The command line gives the folder of the
    checkpoints and the folder for the outputs."""
    third_party, workdir = map(Path, sys.argv[1:])
    for family in families:
        for folder in sorted((third_party / family).iterdir()):
            if (folder / "config.json").is_file() and not folder.name.startswith("dropout"):
                write_all(folder, workdir / family / folder.name)
