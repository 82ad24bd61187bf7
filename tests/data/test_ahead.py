"""Items that a thread makes ahead: the same items in order, no more than said, errors in their place, an early end."""

import threading
import time
from collections.abc import Iterator

import pytest

from tlx.data.ahead import ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "tlx-ahead"]


def test_items_in_order_and_one_while_the_caller_works() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(6):
            made.append(number)
            yield number

    found = []
    for number in ahead(items()):
        deadline = time.monotonic() + 5
        while len(made) < min(number + 3, 6) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)  # time to make one too many
        assert len(made) == min(number + 3, 6)  # this one, one that waits, one in the making
        found.append(number)
    assert found == list(range(6))


def test_an_error_follows_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("two")

    found = []
    with pytest.raises(KeyError, match="two"):
        for number in ahead(items()):
            found.append(number)
    assert found == [1]


def test_the_thread_ends_if_the_caller_does() -> None:
    numbers = ahead(iter(range(1000)))
    assert next(numbers) == 0 and threads()
    numbers.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads()
