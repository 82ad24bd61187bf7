"""One command in a process of its own, watched: how long it took, how much memory, what it said."""

import dataclasses
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS, BYTES = 20.0, 2 * 2**30
TRACEBACK = "Traceback (most recent call last)"
NOISE = re.compile(r"^(WARNING|I0000|W0000|E0000|\S+Warning:|\s|/\S+:\d+:)")  # of libraries


@dataclasses.dataclass(frozen=True)
class Outcome:
    """code: the exit code; None of a process that was ended for its time or memory. peak: bytes resident at most."""

    code: int | None
    said: str
    traceback: bool
    seconds: float
    peak: int


def watched(arguments: Sequence[str], here: Path, seconds: float = SECONDS, most: int = BYTES) -> Outcome:
    """Runs a command and ends it, with all that it started, when it takes longer or more memory.

    Args:
      arguments: of `tlx`, or of an experiment script if the first ends in `.py`.
      here: the current directory, which also stands on `sys.path`: as in a notebook, the worst of places.
      seconds: of the wall's clock.
      most: bytes resident.
    """
    start = [sys.executable]
    if arguments[0].endswith(".py"):
        start += [str(ROOT / arguments[0]), *arguments[1:]]
    else:
        start += ["-c", "import sys; from tlx.cli.main import main; main(sys.argv[1:])", *arguments]
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(here)]), "JAX_PLATFORMS": "cpu", "NO_COLOR": "1",
        "TFDS_DATA_DIR": str(here / "sets"), "XDG_CACHE_HOME": str(here / "cache"), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    with (here / "stdout").open("wb") as out, (here / "stderr").open("wb") as err:
        began = time.monotonic()
        process = subprocess.Popen(
            start, cwd=here, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        code, usage = _wait(process, began + seconds, most)
        took = time.monotonic() - began
    told = [(here / name).read_text(errors="replace") for name in ("stderr", "stdout")]
    sentence = next((_last_line(text) for text in told if _last_line(text)), "")
    return Outcome(code, sentence, any(TRACEBACK in text for text in told), took, usage.ru_maxrss * 1024)


def _wait(process: subprocess.Popen[bytes], deadline: float, most: int) -> tuple[int | None, resource.struct_rusage]:
    while True:
        found, status, usage = os.wait4(process.pid, os.WNOHANG)
        if found:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage
        if time.monotonic() > deadline or _resident(process.pid) > most:
            os.killpg(process.pid, signal.SIGKILL)
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = -signal.SIGKILL
            return None, usage
        time.sleep(0.02)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not NOISE.match(line)]
    return lines[-1].strip() if lines else ""
