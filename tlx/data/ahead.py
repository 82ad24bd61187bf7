"""Prepares the next item in a thread while the caller works on the current one."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], most: int = 1) -> Generator[T]:
    """Yields the items of an iterable, which a thread makes before they are asked for.

    This is worth it where making an item, or what the caller does, does not hold Python's lock: tokenizers, files, XLA.

    Args:
      items: the iterable; it is used in the thread only.
      most: number of items that wait; two more may exist, one in the making and one with the caller.

    Raises:
      Exception: what the iterable raises, after the items before it.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(most)
    stopped = threading.Event()

    def put(item: T | None, error: BaseException | None = None, last: bool = False) -> None:
        while not stopped.is_set():
            try:
                ready.put((item, error, last), timeout=0.1)
                return
            except queue.Full:  # look again whether the caller has ended
                continue

    def make() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
        except BaseException as error:  # raised where the items are used
            put(None, error, last=True)
        else:
            put(None, last=True)

    threading.Thread(target=make, name="tlx-ahead", daemon=True).start()
    try:
        while True:
            item, error, last = ready.get()
            if error is not None:
                raise error
            if last:
                return
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
