"""What an operation of the augmentation is: settings, which say what values they may have, and a function of them.

A setting is a field of a dataclass; `number`, `integer`, `interval` and `one_of` make such fields. Its name is that of
the field in `config.augment`. Several operations may share one, such as `fill`, which then has one default.
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
    """A field: a number in [low, high]; None too, where that is its default."""
    return _field(default, functools.partial(_check_number, low=low, high=high, optional=default is None))


def integer(default: int) -> Any:
    """A field: a whole number from 0 on."""
    return _field(default, _check_integer)


def interval(default: Range, high: float = math.inf) -> Any:
    """A field: (lowest, highest) with 0 < lowest ≤ highest ≤ high; () too, where that is its default."""
    return _field(tuple(default), functools.partial(_check_interval, high=high, optional=not default))


def one_of(known: Collection[str], default: str) -> Any:
    """A field: one of some names."""
    return _field(default, functools.partial(_check_choice, known=tuple(known)))


@dataclasses.dataclass(frozen=True)
class AugmentationSettings:
    """Base of classes whose fields were made by the functions above; a value that none may have is refused."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(field.default, tuple):  # a config may give a list
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
            field.metadata["check"](f"augmentation.{field.name}", getattr(self, field.name))


class Operation(AugmentationSettings):
    """Base of the operations: `operation(key, image) -> image`.

    The image is float32 (height, width, 3) in [0, 1] and keeps its shape. What is drawn is drawn from the key, which
    depends on the image's `example_id`, the step and the operation's number.
    """

    @property
    def on(self) -> bool:
        """Whether the settings ask for it; with the defaults they do not."""
        raise NotImplementedError

    def __call__(self, key: jax.Array, image: jax.Array) -> jax.Array:
        raise NotImplementedError


def maybe(key: jax.Array, probability: float, changed: jax.Array, image: jax.Array) -> jax.Array:
    """The changed image with a probability, else the image."""
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
