"""The cases: what each makes, and the command that meets it."""

import dataclasses
from collections.abc import Callable

from tests.hostile.place import Place

Make = Callable[[Place], list[str]]


@dataclasses.dataclass(frozen=True)
class Case:
    """make: writes the files and gives the command. says: a regular expression for the last line; None: any sentence
    or success. quick: whether it belongs to the few of every test run."""

    name: str
    make: Make
    says: str | None
    quick: bool


CASES: list[Case] = []


def case(says: str | None = None, quick: bool = False) -> Callable[[Make], Make]:
    """Adds a function as a case, under its name."""

    def add(make: Make) -> Make:
        CASES.append(Case(make.__name__.replace("_", " "), make, says, quick))
        return make

    return add
