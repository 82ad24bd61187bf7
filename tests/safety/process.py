"""Commands of tlx in processes that are forked from this one, which has imported everything and used no device.

A command then starts in milliseconds in place of seconds. Nothing of JAX's devices exists before the fork, and this
process has a single thread, so a fork is as good as a new interpreter; `tests/safety/test_safety.py` compares the two.
"""

import atexit
import contextlib
import ctypes
import importlib
import os
import runpy
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 180.0  # seconds after which a command counts as hanging
PARENT_DEATH = 1  # PR_SET_PDEATHSIG: a child ends with its parent
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TLX_TRACEBACK": "",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "TRANSFORMERS_VERBOSITY": "error",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # scikit-learn imports pandas, which imports pyarrow
}  # fmt: skip


def prepare(place: Path) -> None:
    """Sets the environment of all commands and imports what they use. Figures are saved as a single pixel.

    Args:
      place: a folder for the files of the runs and for compiled programs.
    """
    from tests.conftest import FLAGS

    os.environ["XLA_FLAGS"] = FLAGS.replace("device_count=8", "device_count=1")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get("TLX_TESTS_COMPILED") or str(place / "compiled")
    os.environ["TLX_SAFETY"] = str(place)
    warnings.filterwarnings("ignore", message=".*os.fork.*")
    import tensorstore  # noqa: F401
    from matplotlib.figure import Figure

    from tests.recipes import test_methods  # noqa: F401
    from tlx.data import plan

    plan.LENGTH_BUCKETS = (16,)  # one shape to trace
    Figure.savefig = _one_pixel  # type: ignore[method-assign]
    check_threads()


def import_all(modules: Sequence[str]) -> None:
    """Imports modules that a command has imported late, so that the next commands need not."""
    for name in modules:
        if name not in sys.modules and not name.startswith(("__", "config_")):
            with contextlib.suppress(Exception):  # a lazy module of transformers, say, exists only once it is used
                importlib.import_module(name)
    check_threads()


def check_threads() -> None:
    if threads := len(list(Path("/proc/self/task").iterdir())) - 1:
        raise RuntimeError(f"{threads} threads besides the main thread; a fork would not be reliable")


def _one_pixel(figure: Any, file: Any, format: str = "png", **_: Any) -> None:
    from PIL import Image

    Image.new("RGB", (1, 1)).save(file, format)


class Process:
    """A command that runs.

    Args:
      words: a script with its flags, or `tlx` with the words of a command.
      output: file for what it prints.
      begin: called in the new process before the command.
    """

    def __init__(self, words: Sequence[str], output: Path, begin: Callable[[], None] = lambda: None):
        self.words, self.output, self.code = words, output, None
        self.started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _become(words, output, begin)

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def signal(self, number: int) -> None:
        """Sends a signal, if the process still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, until: float | None = None) -> int | None:
        """Waits for the end or for a time of `time.monotonic`; returns the exit code, None if it still runs."""
        while self.poll() is None and (until is None or time.monotonic() < until):
            time.sleep(0.005)
        return self.code

    @property
    def printed(self) -> str:
        """What the process has printed so far."""
        return self.output.read_text(errors="replace")


def end(processes: Sequence[Process], patience: float = PATIENCE) -> list[int | None]:
    """Waits for processes that belong together and returns their exit codes, None for one that hung and was killed."""
    until = time.monotonic() + patience
    codes = [process.wait(until) for process in processes]
    for process in processes:
        process.signal(signal.SIGKILL)
        process.wait()
    return codes


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _become(words: Sequence[str], output: Path, begin: Callable[[], None]) -> None:
    """Runs a command in this process as a new interpreter would, and ends the process."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(written, 1)
        os.dup2(written, 2)
        os.chdir(ROOT)
        begin()
        code = _call(list(words))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _call(words: list[str]) -> int:
    code: Any = 0
    try:
        sys.argv = words
        if words[0] == "tlx":
            from tlx.cli.main import main

            main(words[1:])
        else:
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code
