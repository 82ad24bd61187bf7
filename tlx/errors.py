"""The one error for bad input, and the one way a process of tlx ends early: in one sentence."""

import contextlib
import errno
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space left on device, quota exceeded, file too large
UNKNOWN, BAD_INPUT, STOPPED = 1, 2, 130  # exit codes

MOST = 3000  # characters of a message; what it quotes of a file may be of any length


class TlxError(ValueError):
    """Bad input. The message is one sentence for the person who gave it; no traceback adds to it."""

    def __init__(self, message: str):
        super().__init__(message if len(message) <= MOST else f"{message[: MOST - 1000]} … {message[-900:]}")


@contextlib.contextmanager
def one_sentence(
    folder: str | os.PathLike[str] | None = None, parting: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Ends the process in one sentence on standard error, whatever is raised within.

    A `TlxError` is told as it is (exit code 2), and so are a full disk (1) and Ctrl-C (130). Anything else is named,
    with the file that holds its traceback (1): `traceback.txt` in `folder` if that is a folder, else a temporary file.
    An exception that ends a background thread ends the process as well: whoever waits for that thread would wait for
    ever. With `TLX_TRACEBACK=1` in the environment Python prints tracebacks as it always does.

    parting: called between the sentence and the end, to take leave of other processes.
    """
    if os.environ.get("TLX_TRACEBACK", "0") not in ("", "0"):
        yield
        return

    def thread_ended(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
            code = _tell(ended.exc_value, folder)
            parting()
            _leave(code)

    before = threading.excepthook, sys.unraisablehook
    # The latter hears of what C++ threads and `__del__` cannot raise; who waits for a save that failed hears of it too.
    threading.excepthook, sys.unraisablehook = thread_ended, lambda _: None
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        goes_on = "" if folder is None else "; what was saved is whole, and the same command goes on from there"
        _say(f"stopped{goes_on}.")
        parting()
        _leave(STOPPED)
    except BrokenPipeError:  # `| head` has read enough
        _discard_output()
    except Exception as error:
        code = _tell(error, folder)
        parting()
        if folder is not None:  # threads of a run that failed would print pages
            _leave(code)
        _discard_output()
        sys.exit(code)
    finally:
        threading.excepthook, sys.unraisablehook = before


def _tell(error: BaseException, folder: str | os.PathLike[str] | None) -> int:
    """Says what ended the process; returns the exit code."""
    if isinstance(error, TlxError):
        _say(str(error))
        return BAD_INPUT
    if reason := no_space(error):
        where = f" (run directory {os.fspath(folder)})" if folder is not None else ""
        _say(f"writing failed{where}: {reason}; what was saved before is whole: make room, and give the command again.")
        return UNKNOWN
    kind = type(error).__name__
    text = f"{kind}: {first_line(error)}" if str(error).strip() else kind
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    _say(f"{text.rstrip('.')}. This error is not known to tlx; {_keep(error, folder)} (TLX_TRACEBACK=1 prints it).")
    return UNKNOWN


def no_space(error: BaseException | None) -> str | None:
    """What the system says of a full disk, if that is what an error comes from; other libraries quote it as text."""
    while error is not None:
        for number in FULL:
            if (isinstance(error, OSError) and error.errno == number) or os.strerror(number) in str(error):
                return os.strerror(number)
        error = error.__cause__ or error.__context__
    return None


def first_line(error: BaseException, most: int = 300) -> str:
    """The beginning of an error's message, on one line."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return line if len(line) <= most else f"{line[:most]}…"


def _keep(error: BaseException, folder: str | os.PathLike[str] | None) -> str:
    """Writes the traceback to a file; says which."""
    text = "".join(traceback.format_exception(error))
    if folder is not None and Path(folder).is_dir():
        file = Path(folder) / "traceback.txt"
        with contextlib.suppress(OSError):
            file.write_text(text, encoding="utf-8", errors="backslashreplace")
            return f"its traceback is in {file}"
    with contextlib.suppress(OSError):
        with tempfile.NamedTemporaryFile("wb", prefix="tlx-traceback-", suffix=".txt", delete=False) as opened:
            opened.write(text.encode(errors="backslashreplace"))
        return f"its traceback is in {opened.name}"
    return "no file could be written for its traceback"


def _say(sentence: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # standard error may be closed
        print(f"tlx: {sentence}", file=sys.stderr, flush=True)


def _leave(code: int) -> None:
    """Ends the process at once, as a kill would: nothing is waited for, nothing but this is printed."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)


def _discard_output() -> None:
    """So that Python does not try again to write what standard output did not take, and complain of it."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def listed(names: object, most: int = 8) -> str:
    """Names as one readable list; what is left off is counted, never dropped silently."""
    names = [str(name) for name in names]  # type: ignore[attr-defined]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
