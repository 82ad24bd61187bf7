"""The pickles in PyTorch's files, followed opcode by opcode by a machine that knows tensors and nothing else.

Python's own unpickler is never called. A pickle is a program for a stack machine that may call whatever can be
imported; the machine here has the two dozen opcodes that `torch.save` needs for a dict of tensors, and its "calls" only
make records of where a tensor is. Its memo is a dict, so an index of 2**31 costs nothing.

Opcodes: `pickletools` of the standard library.
"""

import pickletools
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from tlx.pretrained.formats.rebuild import DTYPES, FUNCTIONS, KIND, Name, call, storage_of
from tlx.pretrained.formats.stored import refuse

MOST_BYTES = 8 * 2**20  # of one pickle; a model of 10,000 tensors has 2 MB
MOST_OPCODES = 500_000  # of which a tensor takes about 45
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
ARGUMENTS = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def follow(data: BytesIO, file: Path) -> Any:
    """What the pickle that begins at the stream's position describes: dicts, lists, tuples, numbers, texts, `Tensor`s.

    Raises:
      TlxError: it is broken, too large, or holds or calls anything else.
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
        except (ValueError, Warning) as error:  # a warning where they are made errors
            refuse(file, KIND, f"a pickle in it is broken ({error!s:.100})")
        yield opcode.name, argument
    refuse(file, KIND, f"a pickle in it has more than {MOST_OPCODES} opcodes")


class Machine:
    """A stack, the stacks below its marks, and a memo."""

    def __init__(self, file: Path):
        self.file = file
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack:
            refuse(self.file, KIND, "a pickle in it takes from an empty stack")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.below:
            refuse(self.file, KIND, "a pickle in it goes back to a mark that it never set")
        items, self.stack = self.stack, self.below.pop()
        return items

    def step(self, name: str, argument: Any) -> None:
        """Does what one opcode says."""
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
        elif name == "BUILD":  # the attributes of an ordered dict, such as torch's _metadata, are no tensors
            self.pop()
            self.top(dict)
        else:
            refuse(self.file, KIND, f"a pickle in it has the opcode {name}, which tensors do not need")

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            refuse(self.file, KIND, f"a pickle in it fills something that is no {kind.__name__}")
        return self.stack[-1]

    def set_items(self, items: list[Any]) -> None:
        into = self.top(dict)
        if len(items) % 2:
            refuse(self.file, KIND, "a pickle in it has a name without a value")
        for key, value in zip(items[::2], items[1::2]):
            if type(key) is not str:  # a hostile key may take forever to be hashed
                refuse(self.file, KIND, f"a dict in it has a {type(key).__name__} as a name")
            if key in into:
                refuse(self.file, KIND, f"it holds {key!r:.100} twice")
            into[key] = value

    def name(self, parts: list[Any]) -> Name:
        full = ".".join(str(part)[:100] if type(part) is str else "?" for part in parts)
        if full not in FUNCTIONS and full not in DTYPES:
            refuse(self.file, KIND, f"it asks for {full!r}, which has no place among tensors (nothing of it was run)")
        return Name(full)
