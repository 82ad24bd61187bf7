"""Which arms a study has: combinations of the factors' levels, by its design."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from tlx.errors import TlxError
from tlx.studies.study import Study


@dataclasses.dataclass(frozen=True)
class Arm:
    """An arm of a study, which is run with each seed.

    Attributes:
      name: its name, as tables print it.
      factors: the level of each factor; {} for a command.
      changes: fields of the config that its levels change.
      command: the words of a command that runs other software; () for an arm of tlx.
    """

    name: str
    factors: Mapping[str, str]
    changes: Mapping[str, Any]
    command: tuple[str, ...] = ()


def arms(study: Study) -> list[Arm]:
    """Returns the arms in the order in which tables list them, the baseline first.

    Raises:
      TlxError: no arm is left, two arms have the same name, or two levels of an arm change the same field to different
        values.
    """
    found = []
    for levels in _combinations(study):
        if not _excluded(study, levels):
            found.append(Arm(_name(study, levels), levels, _changes(study, levels)))
    found += [Arm(name, {}, {}, tuple(words)) for name, words in study.commands.items()]
    if not found:
        raise TlxError(f"the study {study.name!r} has no arm: exclude leaves none.")
    names = [arm.name for arm in found]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise TlxError(f"the study {study.name!r} has two arms with the name {repeated[0]!r}; rename a level.")
    first = study.baseline.get("command") or _name(study, baseline(study))
    return sorted(found, key=lambda arm: arm.name != first)


def baseline(study: Study) -> dict[str, str]:
    """Returns the level of each factor in the baseline."""
    place = -1 if study.design == "leave_one_out" else 0
    return {factor: study.baseline.get(factor, list(levels)[place]) for factor, levels in study.factors.items()}


def _combinations(study: Study) -> Iterator[dict[str, str]]:
    factors = study.factors
    if not factors:
        if not study.commands:
            yield {}
    elif study.design == "grid":
        yield from (dict(zip(factors, levels)) for levels in itertools.product(*factors.values()))
    elif study.design == "paired":
        yield from (dict(zip(factors, levels)) for levels in zip(*factors.values(), strict=True))
    else:
        base = baseline(study)
        yield base
        for factor, levels in factors.items():
            others = list(levels)[:1] if study.design == "leave_one_out" else levels
            yield from ({**base, factor: level} for level in others if level != base[factor])


def _excluded(study: Study, levels: Mapping[str, str]) -> bool:
    def matches(factor: str, wanted: Any) -> bool:
        return levels[factor] in ([wanted] if isinstance(wanted, str) else wanted)

    return any(all(matches(factor, wanted) for factor, wanted in entry.items()) for entry in study.exclude)


def _name(study: Study, levels: Mapping[str, str]) -> str:
    if study.design in ("grid", "paired"):
        return ", ".join(levels.values()) or study.name
    base = baseline(study)
    differing = [factor for factor, level in levels.items() if level != base[factor]]
    if not differing:
        return "all" if study.design == "leave_one_out" else "baseline"
    return f"without {differing[0]}" if study.design == "leave_one_out" else f"{differing[0]}: {levels[differing[0]]}"


def _changes(study: Study, levels: Mapping[str, str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for factor, level in levels.items():
        for field, value in study.factors[factor][level].items():
            if field in changes and changes[field] != value:
                raise TlxError(
                    f"the study {study.name!r}: {field} is set by two levels of the arm {_name(study, levels)!r}."
                )
            changes[field] = value
    return changes
