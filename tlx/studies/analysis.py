"""A study's records, grouped by arm: what the report's tables and charts are computed from."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

from tlx.errors import TlxError, listed
from tlx.studies.gains import FIELD, has_metric
from tlx.studies.records import StudyFacts, TrialRecord
from tlx.studies.statistics import Difference, Interval, Method, compare_with, mean_interval

SPLITS = ("test", "validation")
COMPLETE, FAILED = "complete", "failed"


@dataclasses.dataclass(frozen=True)
class ArmTrials:
    """An arm of a study with its trials.

    Attributes:
      name: its name.
      trials: its trials, one for each seed.
    """

    name: str
    trials: tuple[TrialRecord, ...]

    @functools.cached_property
    def complete(self) -> tuple[TrialRecord, ...]:
        """The trials that ended with metrics, one for each seed."""
        return tuple({trial.seed: trial for trial in self.trials if trial.state == COMPLETE}.values())

    @property
    def failed(self) -> tuple[TrialRecord, ...]:
        """The trials that ended with an error."""
        return tuple(trial for trial in self.trials if trial.state == FAILED)

    @property
    def unfinished(self) -> tuple[TrialRecord, ...]:
        """The trials that have not ended."""
        return tuple(trial for trial in self.trials if trial.state not in (COMPLETE, FAILED))

    @property
    def factors(self) -> Mapping[str, str]:
        """The level of each factor."""
        return self.trials[0].factors

    def has(self, metric: str) -> bool:
        """Whether its trials can have a metric: a single-task baseline has those of its task alone."""
        return has_metric(metric, self.trials[0].changes.get(FIELD))

    def values(self, metric: str) -> dict[int, float]:
        """The finite values of a metric by seed."""
        if metric not in self._values:
            found = {trial.seed: trial.metrics.get(metric, math.nan) for trial in self.complete}
            self._values[metric] = {seed: float(value) for seed, value in found.items() if math.isfinite(value)}
        return self._values[metric]

    @functools.cached_property
    def _values(self) -> dict[str, dict[int, float]]:
        """The values that were asked for, by metric."""
        return {}


@dataclasses.dataclass(frozen=True)
class Analysis:
    """A study with its trials grouped by arm.

    Attributes:
      facts: what is known of the study as a whole.
      arms: the arms in the order of their first trial; the baseline is first.
      method: how intervals are computed.
    """

    facts: StudyFacts
    arms: tuple[ArmTrials, ...]
    method: Method = "t"

    @property
    def baseline(self) -> ArmTrials:
        """The arm that the others are compared with."""
        return self.arms[0]

    @functools.cached_property
    def metrics(self) -> dict[str, bool]:
        """By the full name of each metric of the study, on every split on which all arms have it: is larger better?"""
        by_arm = [{name for trial in arm.complete for name in trial.metrics} for arm in self.arms if arm.complete]
        shared = set.intersection(*by_arm) if by_arm else set()
        found: dict[str, bool] = {}
        for metric, direction in self.facts.metrics.items():
            names = {metric} & set().union(*by_arm) | {n for n in shared if _without_split(n) == _without_split(metric)}
            for name in sorted(names, key=lambda name: (name != metric, name)) or [metric]:
                found.setdefault(name, direction == "maximize")
        return found

    @property
    def main(self) -> str:
        """The study's main metric: its first."""
        return next(iter(self.metrics))

    @functools.cached_property
    def ranking(self) -> str:
        """The metric that ranks arms: the main metric on validation; where that is unknown, the main metric."""
        names = [name for name in self.metrics if _without_split(name) == _without_split(self.main)]
        return next((name for name in names if split_of(name) == "validation"), self.main)

    def interval(self, arm: ArmTrials, metric: str) -> Interval:
        """An arm's mean over seeds with its interval."""
        key = arm.name, metric
        if key not in self._intervals:
            self._intervals[key] = mean_interval(list(arm.values(metric).values()), self.method)
        return self._intervals[key]

    @functools.cached_property
    def _intervals(self) -> dict[tuple[str, str], Interval]:
        """The intervals that were computed, by arm and metric."""
        return {}

    def seconds(self, arm: ArmTrials) -> Interval:
        """The mean duration of an arm's finished trials in seconds, with its interval."""
        return mean_interval([t.seconds for t in arm.complete if t.seconds is not None], self.method)

    def differences(self, metric: str) -> dict[str, Difference]:
        """The paired differences of all other arms from the baseline, by the arm's name."""
        others = {arm.name: arm.values(metric) for arm in self.arms[1:]}
        return compare_with(self.baseline.values(metric), others, self.method)

    def best(self, most: int) -> list[ArmTrials]:
        """The baseline and the best other arms by the ranking metric, at most `most` in all, in the study's order."""
        if len(self.arms) <= most:
            return list(self.arms)
        means = {arm.name: self.interval(arm, self.ranking).mean for arm in self.arms[1:]}
        known = [name for name, mean in means.items() if mean == mean]
        chosen = sorted(known, key=means.__getitem__, reverse=self.metrics[self.ranking])[: most - 1]
        return [arm for arm in self.arms if arm is self.baseline or arm.name in set(chosen)]


def analyse(
    facts: StudyFacts, records: Sequence[TrialRecord], method: Method = "t", baseline: str | None = None
) -> Analysis:
    """Groups trials by arm.

    Args:
      facts: what is known of the study as a whole.
      records: its trials.
      method: how intervals are computed, see `tlx.studies.statistics.mean_interval`.
      baseline: name of the arm to compare with; None: the study's.

    Raises:
      TlxError: if there are no trials, the study has no metric, or the baseline has no trials.
    """
    trials: dict[str, list[TrialRecord]] = {}
    for record in records:
        trials.setdefault(record.arm, []).append(record)
    if not trials or not facts.metrics:
        raise TlxError(f"the study {facts.name} has no {'metric' if trials else 'trial'} yet; nothing can be reported.")
    first = facts.baseline if baseline is None else baseline
    if first not in trials:
        raise TlxError(f"the study {facts.name} has no trial of a baseline {first!r}; its arms are {listed(trials)}.")
    ordered = sorted(trials, key=lambda name: name != first)
    return Analysis(facts, tuple(ArmTrials(name, tuple(trials[name])) for name in ordered), method)


def split_of(metric: str) -> str:
    """Returns "test" or "validation", the split of a metric's full name; "" if it names none."""
    return next((part for part in metric.split("/")[:-1] if part in SPLITS), "")


def _without_split(metric: str) -> str:
    *parts, name = metric.split("/")
    return "/".join([*(part for part in parts if part not in SPLITS), name])
