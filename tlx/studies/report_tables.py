"""The tables of a study's report."""

import math
from collections.abc import Iterable

from tlx.reporting.document import Cell, Column, Table, number, text
from tlx.studies.analysis import Analysis, split_of
from tlx.studies.effects import Effect
from tlx.studies.misuse import budget_text
from tlx.studies.statistics import Difference, Interval

LEVEL_OF_TESTS = 0.05
LONGEST_ERROR = 300
METHODS = {"t": "Student's t", "bootstrap": "percentile bootstrap"}


def results(study: Analysis, metric: str) -> Table:
    """The results on one metric: means, paired differences, p-values, seeds and failures."""
    differences = study.differences(metric)
    arms = [arm for arm in study.arms if arm.has(metric)]
    intervals = {arm.name: study.interval(arm, metric) for arm in arms}
    decimals = _decimals(interval.mean for interval in intervals.values())
    rows = []
    for arm in arms:
        difference = differences.get(arm.name)
        rows.append((
            text(arm.name), _interval(intervals[arm.name], decimals), _difference(difference, decimals),
            _p(difference), _verdict(difference, study.metrics[metric]),
            _seeds(intervals[arm.name].count, difference), number(len(arm.failed), str(len(arm.failed))),
            number(len(arm.unfinished), str(len(arm.unfinished))),
        ))  # fmt: skip
    columns = (
        Column("arm", ("arm",), False),
        Column("mean ± 95 %", ("mean", "low", "high")),
        Column("difference ± 95 %", ("difference", "difference_low", "difference_high")),
        Column("p (Holm)", ("p", "p_holm")),
        Column("at 5 %", ("finding",), False),
        Column("seeds", ("seeds", "pairs")),
        Column("failed", ("failed",)),
        Column("unfinished", ("unfinished",)),
    )
    direction = "higher" if study.metrics[metric] else "lower"
    caption = f"{metric} ({direction} is better); baseline: {study.baseline.name}"
    return Table(f"results-{metric.replace('/', '-')}", caption, columns, tuple(rows))


def effect_table(study: Analysis, metric: str, found: list[Effect]) -> Table:
    """The effects of the levels of factors."""
    decimals = _decimals(study.interval(arm, metric).mean for arm in study.arms)
    rows = tuple(
        (
            text(f"{effect.factor}: {effect.level}"), text(effect.reference), _difference(effect.difference, decimals),
            _p(effect.difference), _verdict(effect.difference, study.metrics[metric]),
            number(effect.matched, str(effect.matched)),
        )
        for effect in found
    )  # fmt: skip
    columns = (
        Column("factor: level", ("level",), False),
        Column("compared with", ("reference",), False),
        Column("effect ± 95 %", ("effect", "effect_low", "effect_high")),
        Column("p (Holm)", ("p", "p_holm")),
        Column("at 5 %", ("finding",), False),
        Column("pairs of arms", ("pairs_of_arms",)),
    )
    return Table("effects", f"Effects on {metric}", columns, rows)


def compute(study: Analysis) -> Table:
    """Time, memory, trained parameters and budget of each arm."""
    rows = []
    for arm in study.arms:
        seconds = study.seconds(arm)
        memory = [trial.peak_memory_bytes for trial in arm.complete if trial.peak_memory_bytes is not None]
        counts = sorted({t.trainable_parameters for t in arm.complete if t.trainable_parameters is not None})
        peak = max(memory, default=None)
        most = counts[-1] if counts else None
        rows.append((
            text(arm.name), _interval(seconds, 1), number(peak, f"{(peak or 0) / 2**20:,.0f}"),
            number(most, " to ".join(f"{count:,}" for count in sorted({*counts[:1], *counts[-1:]}))),
            text(", ".join(dict.fromkeys(budget_text(trial.budget) for trial in arm.trials))),
        ))  # fmt: skip
    columns = (
        Column("arm", ("arm",), False),
        Column("seconds ± 95 %", ("seconds", "seconds_low", "seconds_high")),
        Column("peak memory, MiB", ("peak_memory_bytes",)),
        Column("trained parameters", ("trainable_parameters",)),
        Column("budget", ("budget",), False),
    )
    return Table("compute", "Compute of a run", columns, tuple(rows))


def changes(study: Analysis) -> Table:
    """The fields of the config in which each arm differs from the base."""
    rows = []
    for arm in study.arms:
        changed = {name: value for trial in arm.trials for name, value in trial.changes.items()}
        fields = [f"{name}={value}" for name, value in changed.items()]
        rows.append((text(arm.name), text(", ".join(fields) or "none")))
    columns = (Column("arm", ("arm",), False), Column("changed fields", ("changes",), False))
    base = study.facts.base
    caption = f"Differences from the base config {base}" if base else "Fields in which the configs differ"
    return Table("configs", caption, columns, tuple(rows))


def failures(study: Analysis) -> Table:
    """The trials that failed, with the last line of their error."""
    rows = tuple(
        (text(arm.name), number(trial.seed, str(trial.seed)), text(_last_line(trial.error)), text(trial.workdir or "–"))
        for arm in study.arms
        for trial in arm.failed
    )
    columns = (
        Column("arm", ("arm",), False), Column("seed", ("seed",)), Column("error", ("error",), False),
        Column("run directory", ("workdir",), False),
    )  # fmt: skip
    return Table("failures", "Trials that failed", columns, rows)


def origin(study: Analysis) -> Table:
    """Code, versions and sizes."""
    facts = study.facts
    revision = facts.revision or "unknown"
    if facts.dirty and "dirty" not in revision:
        revision += "-dirty"
    found = {"study": facts.name, "base config": facts.base, "selection": facts.selection, "revision": revision}
    found |= {f"size: {name}": str(value) for name, value in facts.sizes.items()}
    rows = tuple((text(name), text(value)) for name, value in {**found, **facts.versions}.items() if value)
    return Table(
        "origin",
        "Code, versions and settings",
        (Column("what", ("what",), False), Column("value", ("value",), False)),
        rows,
    )


def split_title(metric: str) -> str:
    """The title of the section that a metric belongs to."""
    split = split_of(metric)
    return f"Results on {split}" if split else "Results"


def _interval(interval: Interval, decimals: int) -> Cell:
    mean, half = (f"{value:,.{decimals}f}".replace("-", "−") for value in (interval.mean, interval.half_width))
    if not interval.count:
        return Cell("–", (None, None, None))
    shown = f"{mean} ± {half}" if interval.count > 1 else mean
    return Cell(shown, (interval.mean, interval.low, interval.high))


def _difference(difference: Difference | None, decimals: int) -> Cell:
    if difference is None:
        return Cell("baseline", (None, None, None))
    cell = _interval(difference.interval, decimals)
    return Cell(f"+{cell.text}" if difference.interval.mean > 0 else cell.text, cell.values)


def _p(difference: Difference | None) -> Cell:
    if difference is None or math.isnan(difference.p):
        return Cell("–", (None, None))
    p = difference.adjusted_p
    return Cell("<0.001" if p < 0.001 else f"{p:.3f}", (difference.p, p))


def _verdict(difference: Difference | None, higher_is_better: bool) -> Cell:
    if difference is None or math.isnan(difference.p):
        return Cell("–" if difference is None else "not tested", (None,))
    if difference.adjusted_p > LEVEL_OF_TESTS:
        return text("inconclusive")
    return text("better" if (difference.interval.mean > 0) == higher_is_better else "worse")


def _seeds(count: int, difference: Difference | None) -> Cell:
    pairs = count if difference is None else difference.interval.count
    return Cell(str(count) if pairs == count else f"{count} ({pairs} paired)", (count, pairs))


def _decimals(means: Iterable[float]) -> int:
    """Digits after the point: 4 for values below 10, fewer for larger ones."""
    largest = max((abs(mean) for mean in means if math.isfinite(mean)), default=1.0)
    return 4 if largest < 10 else 2 if largest < 1000 else 1


def _last_line(error: str | None) -> str:
    line = ((error or "").strip().splitlines() or ["no message"])[-1]
    return line if len(line) <= LONGEST_ERROR else line[: LONGEST_ERROR - 1] + "…"
