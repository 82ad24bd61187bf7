"""Effects of a factor's levels: differences between arms that agree in everything but this factor."""

import dataclasses

import numpy as np

from tlx.studies.analysis import Analysis, ArmTrials
from tlx.studies.statistics import Difference, compare_with

UNCHANGED = "unchanged"  # the level of a factor that an arm does not name


@dataclasses.dataclass(frozen=True)
class Effect:
    """The effect of one level of a factor.

    Attributes:
      factor: the factor.
      level: the level.
      reference: the level that it is compared with, which is the baseline's.
      matched: number of pairs of arms that differ in this factor alone.
      difference: mean difference over these pairs, paired by seed; Holm's correction is over all effects.
    """

    factor: str
    level: str
    reference: str
    matched: int
    difference: Difference


def effects(study: Analysis, metric: str) -> list[Effect]:
    """Returns the effects of all levels on a metric, in the order of the study.

    Within a seed the differences of all matched pairs of arms are averaged first, so that seeds stay independent. In a
    full grid this is the main effect; where one factor at a time is changed it is the arm's own difference.

    Args:
      study: the study.
      metric: full name of the metric.
    """
    factors = list(dict.fromkeys(factor for arm in study.arms for factor in arm.factors))
    by_levels = {_levels(arm, factors): arm for arm in study.arms}
    found: dict[tuple[str, str], tuple[int, dict[int, float]]] = {}
    for index, factor in enumerate(factors):
        reference = study.baseline.factors.get(factor, UNCHANGED)
        pairs: dict[str, list[tuple[dict[int, float], dict[int, float]]]] = {}
        for levels, arm in by_levels.items():
            other = by_levels.get((*levels[:index], reference, *levels[index + 1 :]))
            if levels[index] != reference and other:
                pairs.setdefault(levels[index], []).append((arm.values(metric), other.values(metric)))
        for level in dict.fromkeys(arm.factors.get(factor, UNCHANGED) for arm in study.arms):
            if by_seed := _mean_by_seed(pairs.get(level, [])):
                found[factor, level] = len(pairs[level]), by_seed
    zeros = {seed: 0.0 for _, by_seed in found.values() for seed in by_seed}
    compared = compare_with(zeros, {str(key): by_seed for key, (_, by_seed) in found.items()}, study.method)
    return [
        Effect(*key, study.baseline.factors.get(key[0], UNCHANGED), matched, compared[str(key)])
        for key, (matched, _) in found.items()
    ]


def _levels(arm: ArmTrials, factors: list[str]) -> tuple[str, ...]:
    return tuple(arm.factors.get(factor, UNCHANGED) for factor in factors)


def _mean_by_seed(pairs: list[tuple[dict[int, float], dict[int, float]]]) -> dict[int, float]:
    """The mean difference of pairs by seed, for seeds that all pairs have."""
    seeds = set.intersection(*(values.keys() & other.keys() for values, other in pairs)) if pairs else set()
    return {seed: float(np.mean([values[seed] - other[seed] for values, other in pairs])) for seed in sorted(seeds)}
