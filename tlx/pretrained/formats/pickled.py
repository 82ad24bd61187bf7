"""Interprets the pickles in PyTorch's files by a restricted machine that supports only tensors.

Python's unpickler is never called. A pickle is a program for a stack machine that can call every function that can be
imported. The machine here supports only the two dozen opcodes that `torch.save` needs for a dict of tensors, and a
"call" only makes a record of where a tensor is. Its memo is a dict, so that an index of 2**31 needs no memory.

The opcodes are decoded by `pickletools` of the standard library.
"""

import pickletools
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from tlx.pretrained.formats.rebuild import DTYPES, FUNCTIONS, KIND, Name, call, storage_of
from tlx.pretrained.formats.stored import refuse

MOST_BYTES = 8 * 2**20  # the most bytes of one pickle; that of a model of 10,000 tensors has 2 MB
MOST_OPCODES = 500_000  # the most opcodes of one pickle; a tensor takes about 45
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
ARGUMENTS = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(data: BytesIO, file: Path) -> Any:
    """Returns the value that a pickle describes.

    The value consists of dicts, lists, tuples, numbers, strings and `Tensor`s.

    Args:
      data: a stream at the beginning of the pickle; it is moved to its end.
      file: the file, for messages.

    Raises:
      TlxError: the pickle is damaged or too large, or holds or calls anything else.
    """
    machine = Machine(file)
    for name, argument in _opcodes(data, file):
        if name == "STOP":
            return machine.pop()
        machine.step(name, argument)
    refuse(file, KIND, "a pickle in it has no end")


def _opcodes(data: BytesIO, file: Path) -> Iterator[tuple[str, Any]]:
    opcodes = pickletools.genops(data)
    for _ in range(MOST_OPCODES):
        try:
            opcode, argument, _ = next(opcodes)
        except StopIteration:
            return
        except (ValueError, Warning) as error:  # a warning if Python's settings turn warnings into errors
            refuse(file, KIND, f"a pickle in it is broken ({error!s:.100})")
        yield opcode.name, argument
    refuse(file, KIND, f"a pickle in it has more than {MOST_OPCODES} opcodes")


class Machine:
    """The state of the stack machine.

    Attributes:
      file: the file, for messages.
      stack: the values above the last mark.
      below: for each mark, the values below it, down to the mark before.
      memo: the memo, by index.
    """

    def __init__(self, file: Path):
        self.file = file
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        """Removes and returns the value on top of the stack."""
        if not self.stack:
            refuse(self.file, KIND, "a pickle in it takes from an empty stack")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """Removes the last mark and returns the values above it."""
        if not self.below:
            refuse(self.file, KIND, "a pickle in it goes back to a mark that it never set")
        items, self.stack = self.stack, self.below.pop()
        return items

    def step(self, name: str, argument: Any) -> None:
        """Executes one opcode."""
        if name in ("PROTO", "FRAME"):
            return
        if name in CONSTANTS or name in ARGUMENTS:
            self.stack.append(CONSTANTS.get(name, argument))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            value = self.pop()
            self.memo[len(self.memo) if argument is None else argument] = value
            self.stack.append(value)
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                refuse(self.file, KIND, "a pickle in it recalls what it never kept")
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.below.append(self.stack)
            self.stack = []
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            self.stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        elif name == "TUPLE" or name in TUPLES:
            items = self.pop_to_mark() if name == "TUPLE" else [self.pop() for _ in range(TUPLES[name])][::-1]
            self.stack.append(tuple(items))
        elif name in ("SETITEM", "SETITEMS"):
            self.set_items(self.pop_to_mark() if name == "SETITEMS" else [self.pop(), self.pop()][::-1])
        elif name in ("APPEND", "APPENDS"):
            items = self.pop_to_mark() if name == "APPENDS" else [self.pop()]
            self.top(list).extend(items)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self.stack.append(self.name(argument.split(" ", 1) if argument else [self.pop(), self.pop()][::-1]))
        elif name == "BINPERSID":
            self.stack.append(storage_of(self.pop(), self.file))
        elif name == "REDUCE":
            arguments = self.pop()
            self.stack.append(call(self.pop(), arguments, self.file))
        elif name == "BUILD":  # the attributes of an ordered dict, such as torch's _metadata, are ignored
            self.pop()
            self.top(dict)
        else:
            refuse(self.file, KIND, f"a pickle in it has the opcode {name}, which tensors do not need")

    def top(self, kind: type) -> Any:
        """Returns the value on top of the stack, which must have the given type."""
        if not self.stack or type(self.stack[-1]) is not kind:
            refuse(self.file, KIND, f"a pickle in it fills something that is not a {kind.__name__}")
        return self.stack[-1]

    def set_items(self, items: list[Any]) -> None:
        """Adds alternating keys and values to the dict on top of the stack."""
        into = self.top(dict)
        if len(items) % 2:
            refuse(self.file, KIND, "a pickle in it has a name without a value")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) is not str:  # a malicious key may take very long to hash
                refuse(self.file, KIND, f"a dict in it has a {type(key).__name__} as a name")
            if key in into:
                refuse(self.file, KIND, f"it holds {key!r:.100} twice")
            into[key] = value

    def name(self, parts: list[Any]) -> Name:
        """Returns the record of a function or class, given its module and name; nothing is imported."""
        full = ".".join(str(part)[:100] if type(part) is str else "?" for part in parts)
        if full not in FUNCTIONS and full not in DTYPES:
            refuse(
                self.file,
                KIND,
                f"it asks for {full!r}, which is not allowed in a file of tensors (nothing was executed)",
            )
        return Name(full)
