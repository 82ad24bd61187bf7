"""Ordered rules `(selector, value)` over parameter paths: the one way in which anything is chosen per parameter.

A selector is a regex on the whole path, or `kind:NAME`. The first match decides. After the idea of big_vision's
optimizer masks: order is explicit, coverage is asserted, and a rule that decides nothing is an error.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tlx.errors import TlxError, listed
from tlx.params.kinds import KINDS, KindTable, kinds_of

Rules = Sequence[tuple[str, Any]]


def matches(selector: str, path: str, kinds: KindTable | None = None) -> bool:
    """Whether a selector names this path."""
    if selector.startswith("kind:"):
        return selector.removeprefix("kind:") in kinds_of(path, kinds)
    return re.fullmatch(selector, path) is not None


def assign(
    paths: Iterable[str], rules: Rules, *, shipped: Rules = (), kinds: KindTable | None = None, what: str = "rules"
) -> dict[str, Any]:
    """The value of every path, decided by the first rule that matches it.

    Args:
      paths: parameter paths.
      rules: the user's rules. One that decides no path is an error.
      shipped: default rules that come after the user's and may stay unused.
      kinds: the family's table of kinds.
      what: how an error names these rules, such as the config field that holds them.

    Raises:
      TlxError: a selector that is no regex or no kind, a rule that decides nothing, a path that no rule matches.
    """
    paths = list(paths)
    _check(rules, what)
    decided: dict[str, Any] = {}
    decider: dict[str, int] = {}
    every = [*rules, *shipped]
    for path in paths:
        for index, (selector, value) in enumerate(every):
            if matches(selector, path, kinds):
                decided[path], decider[path] = value, index
                break
    used = set(decider.values())
    for index in range(len(rules)):
        if index not in used:
            raise TlxError(_unused(index, rules, paths, decider, kinds, what))
    if left := [path for path in paths if path not in decided]:
        raise TlxError(
            f"{what}: no rule matches {listed(left, 5)}; add a last rule such as ('.*', 'default') for the rest."
        )
    return decided


def _check(rules: Rules, what: str) -> None:
    for rule in rules:
        if not (isinstance(rule, Sequence) and len(rule) == 2 and isinstance(rule[0], str)):
            raise TlxError(f"{what}: a rule is a pair (selector, value), found {rule!r}.")
        selector = rule[0]
        if selector.startswith("kind:"):
            if selector.removeprefix("kind:") not in KINDS:
                raise TlxError(f"{what}: {selector!r} names no kind; the kinds are {listed(KINDS)}.")
            continue
        try:
            re.compile(selector)
        except re.error as error:
            raise TlxError(f"{what}: the selector {selector!r} is not a regular expression ({error}).") from None


def _unused(
    index: int, rules: Rules, paths: list[str], decider: Mapping[str, int], kinds: KindTable | None, what: str
) -> str:
    selector = rules[index][0]
    taken = [path for path in paths if matches(selector, path, kinds)]
    if taken:
        earlier = sorted({decider[path] for path in taken})
        names = listed(repr(rules[i][0]) for i in earlier)
        return (
            f"{what}: the rule {selector!r} decides nothing, its {len(taken)} parameters went to the earlier {names}."
        )
    near = difflib.get_close_matches(selector, paths, n=5, cutoff=0.0)
    return (
        f"{what}: the rule {selector!r} matches no parameter (it must match the whole path); nearest: {listed(near)}."
    )
