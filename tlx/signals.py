"""Signals that ask a process to end: SIGTERM, Ctrl-C (SIGINT), SIGHUP, SIGUSR1 and SIGUSR2.

Within `caught`, the first signal raises `Stop` in the main thread. Within `deferred`, it only sets `requested`: the
training loop reads it after each step, saves and raises `Stop` itself. A second signal ends the process at once.

This module imports little, so that a script can catch signals before its other imports, which take seconds.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

# Clusters send SIGTERM, or the signal that the user chose (Slurm's --signal=USR1@120); a closed terminal sends SIGHUP.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
NUMBERS = tuple(int(getattr(signal, name)) for name in NAMES if hasattr(signal, name))
# Signals that follow the first within so many seconds are the same request: `timeout` signals its child and then the
# child's process group.
REPEATED = 0.5


class Stop(KeyboardInterrupt):
    """A signal ends the process. Libraries that clean up after Ctrl-C do so after the other signals too.

    Args:
      number: number of the signal.
      when: what was finished and saved, such as "after step 40"; "" if there was nothing to save.

    Attributes:
      number: as above.
      when: as above.
    """

    def __init__(self, number: int, when: str = ""):
        super().__init__(f"stopped by {title(number)}")
        self.number, self.when = number, when


class _Process:
    """What this process knows of its signals.

    Attributes:
      requested: number of the first signal; 0 before it.
      since: when the watching thread noticed the first signal, in seconds; None before it.
      raised: whether the handler has raised `Stop`.
      blocks: number of `caught` blocks that are entered.
      deferring: number of `deferred` blocks that are entered.
      pipe: (reading, writing) ends of the pipe to the watching thread; None before the first `caught`.
    """

    requested = 0
    since: float | None = None
    raised = False
    blocks = 0
    deferring = 0
    pipe: tuple[int, int] | None = None


_process = _Process()


def title(number: int) -> str:
    """Returns a signal's name for a message."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def requested() -> int:
    """Returns the number of the signal that asks this process to end; 0 if there was none."""
    return _process.requested


def raised() -> bool:
    """Returns whether a signal has raised `Stop`. A library may have replaced it by an exception of its own."""
    return _process.raised


@contextlib.contextmanager
def caught() -> Iterator[None]:
    """Handles signals within the `with` block. Blocks may be nested.

    Signals that the process ignores (SIGHUP under `nohup`) stay ignored. Handlers can only be set in the main thread;
    in other threads, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _process.blocks += 1
    before = {
        number: signal.signal(number, _handle) for number in NUMBERS if signal.getsignal(number) != signal.SIG_IGN
    }
    wakeup = signal.set_wakeup_fd(_watched(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        _process.blocks -= 1
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if _process.blocks == 0:
            _process.requested, _process.since, _process.raised = 0, None, False


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within the `with` block, the first signal does not raise `Stop`. The block has to read `requested` itself."""
    _process.deferring += 1
    try:
        yield
    finally:
        _process.deferring -= 1


@contextlib.contextmanager
def stopped_when(when: str) -> Iterator[None]:
    """For a `with` block that a signal may end because everything was saved before: `Stop` then says when that was.

    Args:
      when: see `Stop`.
    """
    try:
        yield
    except Stop as stop:
        raise Stop(stop.number, when) from None


def _handle(number: int, frame: FrameType | None) -> None:
    """Python calls this in the main thread, between two bytecodes."""
    del frame
    if _process.requested:
        return  # the watching thread decides about a second signal
    _process.requested = number
    if not _process.deferring:
        _process.raised = True
        raise Stop(number)
    if os.isatty(2):
        _say(f"\r{title(number)}: the run ends when this step is finished and saved. Once more ends it at once.")


def _watched() -> int:
    """Starts the watching thread if there is none; returns the descriptor to which Python writes signals' numbers."""
    if _process.pipe is None:
        _process.pipe = reading, writing = os.pipe()
        os.set_blocking(writing, False)
        threading.Thread(target=_watch, args=(reading,), name="tlx-signals", daemon=True).start()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget)
    return _process.pipe[1]


def _watch(reading: int) -> None:
    """Ends the process at the second signal, also while the main thread is in compiled code and runs no handler."""
    while True:
        for number in os.read(reading, 64):
            if number not in NUMBERS:
                continue
            now = time.monotonic()
            _process.since = now if _process.since is None else _process.since
            if now - _process.since > REPEATED:
                _say(f"tlx: ended at once by a second signal, {title(number)}; what was saved before is whole.")
                os._exit(128 + number)


def _forget() -> None:
    """In a forked child, signals do what they usually do."""
    signal.set_wakeup_fd(-1)
    for number in NUMBERS:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError):  # standard error may be closed
        os.write(2, f"{sentence}\n".encode())
