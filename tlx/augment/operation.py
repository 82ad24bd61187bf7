"""The base of augmentation operations: a dataclass of checked settings that is called with a key and an image.

A setting is a field of the dataclass, made by `number`, `integer`, `interval` or `one_of`, which also define
its allowed values. The field of `config.augment` has the same name. Several operations may share a setting, such as
`fill`; it must have the same default in all of them.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp

from tlx.augment.keys import uniforms
from tlx.errors import TlxError

Range = tuple[float, ...]


def number(default: float | None, low: float = 0, high: float = math.inf) -> Any:
    """Returns a field for a number in [low, high]; None is also allowed if it is the default."""
    return _field(default, functools.partial(_check_number, low=low, high=high, optional=default is None))


def integer(default: int) -> Any:
    """Returns a field for an integer of at least 0."""
    return _field(default, _check_integer)


def interval(default: Range, high: float = math.inf) -> Any:
    """Returns a field for (lowest, highest), 0 < lowest ≤ highest ≤ high; () is also allowed if it is the default."""
    return _field(tuple(default), functools.partial(_check_interval, high=high, optional=not default))


def one_of(known: Collection[str], default: str) -> Any:
    """Returns a field for one of the `known` names."""
    return _field(default, functools.partial(_check_choice, known=tuple(known)))


@dataclasses.dataclass(frozen=True)
class AugmentationSettings:
    """Base of dataclasses whose fields were made by the functions above.

    Raises:
      TlxError: a value is not allowed for its field.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(field.default, tuple):  # a config may give a list
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
            field.metadata["check"](f"augmentation.{field.name}", getattr(self, field.name))


class Operation(AugmentationSettings):
    """Base of the operations, which are functions `operation(key, image) -> image`.

    The image is float32 (height, width, 3) in [0, 1] and keeps its shape. All random numbers come from the key, which
    depends on the image's `example_id`, the step and the operation's number.
    """

    @property
    def on(self) -> bool:
        """Whether the operation is applied; it is not with the default settings."""
        raise NotImplementedError

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        raise NotImplementedError


def maybe(key: jax.Array, probability: float, changed: jax.Array, image: jax.Array) -> jax.Array:
    """Returns the changed image with this probability, otherwise the original image."""
    return jnp.where(uniforms(key, 1)[0] < probability, changed, image)


def _field(default: Any, check: Callable[[str, Any], None]) -> Any:
    return dataclasses.field(default=default, metadata={"check": check})


def _check_number(name: str, value: Any, low: float, high: float, optional: bool) -> None:
    if optional and value is None:
        return
    fine = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not fine or value == math.inf:
        limit = f"from {low} to {high}" if high < math.inf else f"from {low} on"
        raise TlxError(f"{name} is {value!r}; give a number {limit}.")


def _check_integer(name: str, value: Any) -> None:
    if type(value) is not int or value < 0:
        raise TlxError(f"{name} is {value!r}; give a whole number from 0.")


def _check_interval(name: str, value: Range, high: float, optional: bool) -> None:
    if not value:
        if not optional:
            raise TlxError(f"{name} is (); give (lowest, highest).")
    elif not (len(value) == 2 and 0 < value[0] <= value[1] <= high and value[1] < math.inf):
        limit = f" ≤ {high:g}" if high < math.inf else ""
        raise TlxError(f"{name} is {value!r}; give (lowest, highest) with 0 < lowest ≤ highest{limit}.")


def _check_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise TlxError(f"{name} is {value!r}; tlx has {', '.join(known)}.")
