"""Runs a trial that is a command of other software. The command never outlives its worker."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlx.errors import TlxError
from tlx.files.lock import Lock
from tlx.files.strict_json import read_json
from tlx.recipes.run_directory import revision
from tlx.studies.plan import digest
from tlx.studies.trial import Result, failures_told, measured

# Runs the command as its child. Its standard input is a pipe that closes when the worker ends, in whatever way; it then
# kills the process group, of which it is a member. SIGTERM goes to the whole group and is for the command alone.
GUARD = """
import os, signal, subprocess, sys, threading
def watch():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
signal.signal(signal.SIGTERM, lambda number, frame: None)
try:
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
except OSError as error:
    sys.exit(f"it cannot be started: {error.strerror}")
threading.Thread(target=watch, daemon=True).start()
code = child.wait()
os._exit(code if code >= 0 else 128 - code)
"""

MEASUREMENTS = ("seconds", "peak_memory_bytes", "trainable_parameters")


def run_command(
    words: Sequence[str], folder: Path, seed: int, changes: Mapping[str, object], wanted: Sequence[str],
    lock: Lock | None = None,
) -> Result:  # fmt: skip
    """Runs other software.

    Args:
      words: the command; in each word `{python}` (this Python), `{seed}`, `{folder}`, `{result}` and `{changes}` are
        replaced.
      folder: its folder, in which `log.txt` gets its output.
      seed: the seed.
      changes: the study's sizes, which the command gets as JSON.
      wanted: metrics that its JSON result has to have.
      lock: the folder's lock, which is held until the command has ended even if this process is killed before.

    Returns:
      As `run_config`. The command writes a JSON object with `metrics`, and optionally `seconds`,
      `peak_memory_bytes` and `trainable_parameters`, to the file that `{result}` names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "result.json"
    given = {"seed": str(seed), "folder": str(folder), "result": str(result), "changes": json.dumps(dict(changes))}
    given["python"] = sys.executable
    words = [os.path.expandvars(word) for word in words]
    for name, value in given.items():
        words = [word.replace(f"{{{name}}}", value) for word in words]
    started = time.perf_counter()
    with failures_told(folder) as failed:
        result.unlink(missing_ok=True)
        if code := _ended(words, folder / "log.txt", () if lock is None else (lock.descriptor,)):
            lines = (folder / "log.txt").read_text(errors="replace").strip().splitlines()
            raise TlxError(f"{words[0]} ended with code {code}: {lines[-1] if lines else 'it printed nothing'}")
        if not result.is_file():
            raise TlxError(f"{words[0]} wrote no file {result}; it has to write a JSON object with metrics there.")
        found: Result = {"seconds": round(time.perf_counter() - started, 1)}
        found |= _known(read_json(result, "result of a command", finite=False))
        return measured({**found, "digest": digest(list(words), revision()), "revision": revision()}, wanted)
    return failed


def _known(result: Mapping[str, Any]) -> Result:
    """The entries of a command's result that are recorded.

    Raises:
      TlxError: one that has to be a number is none.
    """
    if not isinstance(metrics := result.get("metrics"), dict):
        raise TlxError(f"metrics of the command's result is {metrics!r}, expected an object of names and numbers.")
    known = {name: result[name] for name in MEASUREMENTS if name in result}
    for name, value in {**metrics, **known}.items():
        if not isinstance(value, int | float):
            raise TlxError(f"{name} of the command's result is {value!r}, expected a number.")
    return {"metrics": metrics, **known}


def _ended(words: Sequence[str], log: Path, held: tuple[int, ...]) -> int:
    """Runs the command and returns its exit code; if this worker is told to stop, the command gets SIGTERM."""
    guard = [sys.executable, "-I", "-S", "-c", GUARD, *words]
    with log.open("w") as output:
        process = subprocess.Popen(
            guard, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, pass_fds=held
        )
        try:
            process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
            assert process.stdin is not None
            process.stdin.close()
    return process.returncode
