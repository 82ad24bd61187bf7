"""Planting a fault: a function gets the code of its changed text, so that the fault may be within inner functions."""

import inspect
import textwrap
from collections.abc import Iterable
from types import CodeType, FunctionType
from typing import Any


def changed_code(function: Any, changes: Iterable[tuple[str, str]]) -> CodeType:
    """Returns the code of a function with changes of its text.

    Args:
      function: the function.
      changes: pairs of an old text, which stands there once, and a new one.

    Raises:
      LookupError: if an old text does not stand there once; the fault must then be written anew.
    """
    assert isinstance(function, FunctionType)
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        found = source.count(old)
        if found != 1:
            raise LookupError(f"{function.__qualname__} has {found} times, and not once: {old}")
        source = source.replace(old, new)
    scope = dict(function.__globals__)
    exec(compile(source, function.__code__.co_filename, "exec"), scope)
    code = scope[function.__name__].__code__
    assert isinstance(code, CodeType)
    return code
