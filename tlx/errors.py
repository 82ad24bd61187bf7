"""The exception for bad input, and the handler that ends a process of tlx with a message of one sentence."""

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from tlx.signals import Stop, caught, raised, requested, title

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space left on device, quota exceeded, file too large
NO_MEMORY = (  # words of XLA, the system, C++, the loader of libraries, and of Python where a thread's stack is lacking
    "RESOURCE_EXHAUSTED", os.strerror(errno.ENOMEM), "std::bad_alloc", "failed to map segment from shared object",
    "can't start new thread",
)  # fmt: skip
LESS_MEMORY = (
    "raise config.train.accumulate (micro-batches), lower config.data.max_length, config.train.batch_size or "
    "config.train.eval_batch_size, or train fewer parameters (config.lora.rank, config.params.freeze)"
)
FAILING = (errno.EIO, errno.EROFS, errno.ENODEV, errno.ESTALE)  # the disk fails, is read-only, gone, or the network's
LOST = ("Gloo ", "coordination service", "distributed service")  # words of JAX if another process is lost
UNKNOWN, BAD_INPUT = 1, 2  # exit codes
SAVED = 75  # exit code of a run that was stopped by a signal and saved: EX_TEMPFAIL of sysexits.h, "try again"
SIGNALLED = (
    128  # a process that a signal stopped, and that had nothing to save, exits with this and the signal's number
)
TRACEBACK = "traceback.txt"  # the file in a run directory

_ending = threading.RLock()  # held by the thread that ends the process, so that there is one sentence

MOST = 3000  # the most characters of a message, because it may quote a file at any length


class TlxError(ValueError):
    """Bad input, described by one sentence for the user that needs no traceback.

    Args:
      message: the sentence; the middle of a very long one is left out.
    """

    def __init__(self, message: str):
        super().__init__(message if len(message) <= MOST else f"{message[: MOST - 1000]} … {message[-900:]}")


@contextlib.contextmanager
def one_sentence(
    folder: str | os.PathLike[str] | None = None, before_exit: Callable[[str, int], None] = lambda sentence, code: None
) -> Iterator[None]:
    """Ends the process with one sentence on standard error if the `with` block raises an exception.

    The exit codes are 2 for a `TlxError`, and 1 for a full disk and for any other exception. The message for any other
    exception names its type and a file with its traceback. An exception that ends a background thread ends the process
    too, because another thread could wait for it forever. If `TLX_TRACEBACK=1` is set in the environment, Python prints
    tracebacks as usual.

    Signals are caught (`tlx.signals.caught`). A run that saved its state when it was stopped exits with 75; a process
    that had nothing to save exits with 128 and the signal's number (130 for Ctrl-C, 143 for SIGTERM).

    Args:
      folder: the run directory; `traceback.txt` is written there. None, or no folder: to a temporary file.
      before_exit: called with the sentence and the exit code after the sentence is printed and before the process ends,
        e.g. to tell the other processes of a distributed run.
    """
    tracebacks = os.environ.get("TLX_TRACEBACK", "0") not in ("", "0")
    with caught(), contextlib.nullcontext() if tracebacks else _thread_errors(folder, before_exit):
        try:
            yield
            sys.stdout.flush()
        except KeyboardInterrupt as error:
            if tracebacks and not isinstance(error, Stop):
                raise
            _end_stopped(error, folder, before_exit)
        except Exception as error:
            if raised():  # a library has replaced the exception by its own, such as an ImportError
                _end_stopped(Stop(requested()), folder, before_exit)
            if tracebacks:
                raise
            if isinstance(error, BrokenPipeError):  # the reader of a pipe, such as `| head`, has ended
                _discard_output()
                return
            with _ending:
                sentence, code = _explained(error, folder)
                if folder is not None:  # otherwise the other threads of the failed run print their own tracebacks
                    end_process(sentence, code, before_exit)
                _print(sentence)
                before_exit(sentence, code)
                _discard_output()
                sys.exit(code)


@contextlib.contextmanager
def _thread_errors(folder: str | os.PathLike[str] | None, before_exit: Callable[[str, int], None]) -> Iterator[None]:
    """Within the `with` block, an exception that ends a background thread ends the process."""

    def thread_ended(hook: threading.ExceptHookArgs) -> None:
        if hook.exc_value is not None and not isinstance(hook.exc_value, SystemExit):
            with _ending:
                end_process(*_explained(hook.exc_value, folder), before_exit)

    def unraisable(hook: "sys.UnraisableHookArgs") -> None:
        """Handles exceptions of C++ threads and of `__del__`, which Python cannot raise.

        Those of a failed asynchronous save are ignored: the thread that waits for the save gets the exception too.
        """
        if isinstance(hook.exc_value, Stop):
            _end_stopped(hook.exc_value, folder, before_exit)

    hooks_before = threading.excepthook, sys.unraisablehook
    threading.excepthook, sys.unraisablehook = thread_ended, unraisable
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = hooks_before


def _end_stopped(
    error: KeyboardInterrupt, folder: str | os.PathLike[str] | None, before_exit: Callable[[str, int], None]
) -> NoReturn:
    """Ends the process after a signal."""
    number = error.number if isinstance(error, Stop) else signal.SIGINT
    saved = isinstance(error, Stop) and error.when
    what = f" {saved}; saved; the same command goes on from there" if saved else ""
    if not saved and folder is not None:
        what = "; what was saved is whole, and the same command goes on from there"
    end_process(f"stopped by {title(number)}{what}.", SAVED if saved else SIGNALLED + number, before_exit)


def end_process(sentence: str, code: int, before_exit: Callable[[str, int], None]) -> NoReturn:
    """Prints why the process ends, and ends it at once, without waiting for threads or running exit handlers.

    If another thread has begun to end the process, this one waits for that end.

    Args:
      sentence: why the process ends.
      code: its exit code.
      before_exit: see `one_sentence`.
    """
    with _ending:
        _print(sentence)
        before_exit(sentence, code)
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)


def _explained(error: BaseException, folder: str | os.PathLike[str] | None) -> tuple[str, int]:
    """Returns why the process ends, and the exit code."""
    if isinstance(error, TlxError):
        return str(error), BAD_INPUT
    if reason := no_space(error):
        where = f" (run directory {os.fspath(folder)})" if folder is not None else ""
        return (
            f"writing failed{where}: {reason}; what was saved before is whole: make room, and give the command again.",
            UNKNOWN,
        )
    if reason := no_memory(error):
        return f"there is not enough memory: {reason}; {LESS_MEMORY}.", UNKNOWN
    if reason := disk_error(error):
        where = f" (run directory {os.fspath(folder)})" if folder is not None else ""
        return (
            f"a file cannot be read or written{where}: {reason}; what was saved before is whole: when the disk works "
            "again, give the command again.",
            UNKNOWN,
        )
    if reason := lost_process(error):
        return (
            f"another process of the run has ended or cannot be reached ({reason}); what was saved is whole: give the "
            "command again to all processes.",
            UNKNOWN,
        )
    kind = type(error).__name__
    text = f"{kind}: {first_line(error)}" if str(error).strip() else kind
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    traceback_place = _write_traceback(error, folder)
    return (
        f"{text.rstrip('.')}. This error is not known to tlx; {traceback_place} (TLX_TRACEBACK=1 prints it).",
        UNKNOWN,
    )


def no_space(error: BaseException | None) -> str | None:
    """Returns the system's message if a full disk caused an error, else None."""
    return _system_error(error, FULL)


def disk_error(error: BaseException | None) -> str | None:
    """Returns the system's message if a disk that fails or became read-only caused an error, else None."""
    return _system_error(error, FAILING)


def _system_error(error: BaseException | None, numbers: Sequence[int]) -> str | None:
    """Returns the system's message for one of these error numbers, if it caused an error, else None.

    The error's causes are searched, and their texts, because other libraries quote the system's message as text.
    """
    for cause in _causes(error):
        for number in numbers:
            if (isinstance(cause, OSError) and cause.errno == number) or os.strerror(number) in str(cause):
                return os.strerror(number)
    return None


def no_memory(error: BaseException | None) -> str | None:
    """Returns the first line of the message if memory of the host or of a device ran out, else None.

    The error's causes are searched. XLA raises a `RuntimeError` whose text begins with `RESOURCE_EXHAUSTED`.
    """
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return first_line(error) or "an array could not be allocated"
        if any(words in str(error) for words in NO_MEMORY):
            return first_line(error)
        error = error.__cause__ or error.__context__
    return None


def lost_process(error: BaseException | None) -> str | None:
    """Returns the first line of an error of JAX's that says that another process of the run is gone, else None."""
    lost = (cause for cause in _causes(error) if any(words in str(cause) for words in LOST))
    return next(map(first_line, lost), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error, its cause or context, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException, most: int = 300) -> str:
    """Returns the first line of an error's message, truncated to `most` characters."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return line if len(line) <= most else f"{line[:most]}…"


def _write_traceback(error: BaseException, folder: str | os.PathLike[str] | None) -> str:
    """Writes the traceback to a file; returns a clause that names the file."""
    import tempfile  # late, like all that is not needed to catch signals
    import traceback

    text = "".join(traceback.format_exception(error))
    if folder is not None and Path(folder).is_dir():
        file = Path(folder) / TRACEBACK
        with contextlib.suppress(OSError):
            file.write_text(text, encoding="utf-8", errors="backslashreplace")
            return f"its traceback is in {file}"
    with contextlib.suppress(OSError):
        with tempfile.NamedTemporaryFile("wb", prefix="tlx-traceback-", suffix=".txt", delete=False) as opened:
            opened.write(text.encode(errors="backslashreplace"))
        return f"its traceback is in {opened.name}"
    return "no file could be written for its traceback"


def _print(sentence: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # standard error may be closed
        print(f"tlx: {sentence}", file=sys.stderr, flush=True)


def _discard_output() -> None:
    """Discards buffered output that cannot be written, so that Python does not report it when the process ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def listed(names: object, most: int = 8) -> str:
    """Joins names for a message; after `most` names the number of the others follows."""
    names = [str(name) for name in names]  # type: ignore[attr-defined]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
