"""The one error for bad input: a sentence that says what, where, expected, found and what to do."""

import contextlib
import sys
from collections.abc import Iterator

MOST = 3000  # characters of a message; what it quotes of a file may be of any length


class TlxError(ValueError):
    """Bad input. The message is one sentence for the person who gave it; no traceback adds to it."""

    def __init__(self, message: str):
        super().__init__(message if len(message) <= MOST else f"{message[: MOST - 1000]} … {message[-900:]}")


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """Ends the process with the sentence of a `TlxError` and exit code 2, without a traceback."""
    try:
        yield
    except TlxError as error:
        print(f"tlx: {error}", file=sys.stderr)
        sys.exit(2)


def listed(names: object, most: int = 8) -> str:
    """Names as one readable list; what is left off is counted, never dropped silently."""
    names = [str(name) for name in names]  # type: ignore[attr-defined]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
