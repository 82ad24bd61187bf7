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
    """code: the exit code; None of a process that was ended for its time or memory. computed: seconds of all cores, for
    `seconds` depend on what else the machine does. peak: bytes resident at most."""

    code: int | None
    said: str
    traceback: bool
    seconds: float
    computed: float
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
        began, before = time.monotonic(), _computed()
        process = subprocess.Popen(
            start, cwd=here, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        code, peak = _wait(process, began + seconds, most)
        took, computed = time.monotonic() - began, _computed() - before
    told = [(here / name).read_text(errors="replace") for name in ("stderr", "stdout")]
    sentence = next((_last_line(text) for text in told if _last_line(text)), "")
    return Outcome(code, sentence, any(TRACEBACK in text for text in told), took, computed, peak)


def _wait(process: subprocess.Popen[bytes], deadline: float, most: int) -> tuple[int | None, int]:
    peak = 0
    while process.poll() is None:
        peak = max(peak, _peak(process.pid))
        if time.monotonic() > deadline or peak > most:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None, peak
        time.sleep(0.02)
    return process.returncode, peak


def _computed() -> float:
    """Seconds that the processes which this one started and waited for have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak(pid: int) -> int:
    """Bytes resident at most since the process's program began; `ru_maxrss` counts its parent's before it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not NOISE.match(line)]
    return lines[-1].strip() if lines else ""
