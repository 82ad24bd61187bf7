"""Ordered rules `(selector, value)` over parameter paths. All choices per parameter are made by such rules.

A selector is a regex that must match the whole path, or `kind:NAME`. The first match decides. The idea is from
big_vision's optimizer masks: the order is explicit, every path must be covered, and a rule without effect is an error.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tlx.errors import TlxError, listed
from tlx.params.kinds import KINDS, KindTable, kinds_of

Rules = Sequence[tuple[str, Any]]


def matches(selector: str, path: str, kinds: KindTable | None = None) -> bool:
    """Returns whether a selector matches a path."""
    if selector.startswith("kind:"):
        return selector.removeprefix("kind:") in kinds_of(path, kinds)
    return re.fullmatch(selector, path) is not None


def assign(
    paths: Iterable[str], rules: Rules, *, shipped: Rules = (), kinds: KindTable | None = None, what: str = "rules"
) -> dict[str, Any]:
    """Assigns a value to every path: that of the first rule whose selector matches it.

    Args:
      paths: the parameter paths.
      rules: the user's rules. Each must decide at least one path.
      shipped: default rules that come after the user's; they may have no effect.
      kinds: the family's table of kinds.
      what: the name of these rules in messages, such as the config field that contains them.

    Raises:
      TlxError: if a selector is neither a regex nor a kind, if a rule decides no path, or if no rule matches a path.
    """
    paths = list(paths)
    _check(rules, what)
    value_of: dict[str, Any] = {}
    rule_of: dict[str, int] = {}
    all_rules = [*rules, *shipped]
    for path in paths:
        for index, (selector, value) in enumerate(all_rules):
            if matches(selector, path, kinds):
                value_of[path], rule_of[path] = value, index
                break
    used = set(rule_of.values())
    for index in range(len(rules)):
        if index not in used:
            raise TlxError(_unused(index, rules, paths, rule_of, kinds, what))
    if unmatched := [path for path in paths if path not in value_of]:
        raise TlxError(
            f"{what}: no rule matches {listed(unmatched, 5)}; add a last rule such as ('.*', 'default') for the rest."
        )
    return value_of


def _check(rules: Rules, what: str) -> None:
    for rule in rules:
        if not (isinstance(rule, Sequence) and len(rule) == 2 and isinstance(rule[0], str)):
            raise TlxError(f"{what}: a rule must be a pair (selector, value); found {rule!r}.")
        selector = rule[0]
        if selector.startswith("kind:"):
            if selector.removeprefix("kind:") not in KINDS:
                raise TlxError(f"{what}: {selector!r} is not a known kind; the kinds are {listed(KINDS)}.")
            continue
        try:
            re.compile(selector)
        except re.error as error:
            raise TlxError(f"{what}: the selector {selector!r} is not a regular expression ({error}).") from None


def _unused(
    index: int, rules: Rules, paths: list[str], rule_of: Mapping[str, int], kinds: KindTable | None, what: str
) -> str:
    """The message about a rule without effect."""
    selector = rules[index][0]
    matched = [path for path in paths if matches(selector, path, kinds)]
    if matched:
        earlier = listed(repr(rules[i][0]) for i in sorted({rule_of[path] for path in matched}))
        return (
            f"{what}: the rule {selector!r} has no effect; the earlier {earlier} already matched its "
            f"{len(matched)} parameters."
        )
    near = difflib.get_close_matches(selector, paths, n=5, cutoff=0.0)
    return (
        f"{what}: the rule {selector!r} matches no parameter (it must match the whole path); nearest: {listed(near)}."
    )
