"""The charts of a study's report."""

from tlx.reporting import charts
from tlx.reporting.document import Figure
from tlx.studies.analysis import Analysis, ArmTrials
from tlx.studies.effects import Effect
from tlx.studies.learning_curves import curve

MOST_ROWS = 40


def means(study: Analysis, metric: str) -> Figure | None:
    """The mean of each arm with its interval; of very many arms, the best."""
    chosen = study.best(MOST_ROWS)
    rows = [_row(study, arm, metric) for arm in chosen if arm.values(metric)]
    if not rows:
        return None
    caption = f"Mean of {metric} with its 95 % interval over seeds; the square is the baseline."
    caption += _left_out(study, chosen, len(rows))
    ends = min(rows, key=lambda row: row.mean), max(rows, key=lambda row: row.mean)
    description = f"{caption} From {_said(ends[0])} to {_said(ends[1])}. The table has all numbers."
    return charts.intervals(rows, metric, caption, description)


def effect_chart(metric: str, found: list[Effect]) -> Figure:
    """The effect of each level with its interval."""
    rows = [charts.Row("no effect", 0.0, float("nan"), float("nan"), True)]
    for effect in found:
        interval = effect.difference.interval
        name = f"{effect.factor}: {effect.level}"
        rows.append(charts.Row(name, interval.mean, interval.low, interval.high))
    caption = f"Effect of each level on {metric}, against the baseline's level, with its 95 % interval."
    if len(rows) > MOST_ROWS + 1:
        caption += f" Shown: the first {MOST_ROWS} of {len(found)} levels."
    described = "; ".join(_said(row) for row in rows[1 : MOST_ROWS + 1])
    return charts.intervals(rows[: MOST_ROWS + 1], f"difference in {metric}", caption, f"{caption} {described}.")


def learning_curves(study: Analysis) -> Figure | None:
    """The ranking metric by step, of the baseline and the best arms."""
    metric, chosen = study.ranking, study.best(charts.SERIES + 1)
    found = {arm.name: curve(arm, metric, study.method, arm is study.baseline) for arm in chosen}
    lines = [line for line in found.values() if line is not None]
    if not lines:
        return None
    caption = (
        f"{metric} by step, mean over seeds; bands are 95 % intervals, cut where they exceed the chart."
        f"{_left_out(study, chosen, len(lines))}"
    )
    last = "; ".join(f"{line.name} ends at {line.mean[-1]:.4g} in step {line.x[-1]:g}" for line in lines)
    return charts.curves(lines, "step", metric, caption, f"{caption} {last}.")


def cost(study: Analysis) -> Figure | None:
    """The main metric over the duration of a run; arms that none beats in both are numbered."""
    metric, higher = study.main, study.metrics[study.main]
    known = [arm for arm in study.arms if arm.values(metric) and study.seconds(arm).count]
    if len(known) < 2:
        return None
    seconds = {arm.name: study.seconds(arm).mean for arm in known}
    rows = {arm.name: _row(study, arm, metric) for arm in known}
    front, best = set(), float("-inf")
    for name in sorted(rows, key=lambda name: (seconds[name], -rows[name].mean if higher else rows[name].mean)):
        gained = rows[name].mean if higher else -rows[name].mean
        if gained > best:
            front.add(name)
            best = gained
    points = [charts.Point(name, seconds[name], row, name in front) for name, row in rows.items()]
    caption = (
        f"{metric} over the duration of a run. Full circles: no arm is both faster and better. "
        "The square is the baseline."
    )
    described = "; ".join(f"{_said(rows[name])} in {seconds[name]:.4g} s" for name in rows if name in front)
    return charts.scatter(points, "seconds of a run", metric, caption, f"{caption} {described}.")


def _row(study: Analysis, arm: ArmTrials, metric: str) -> charts.Row:
    interval = study.interval(arm, metric)
    return charts.Row(arm.name, interval.mean, interval.low, interval.high, arm is study.baseline)


def _said(row: charts.Row) -> str:
    return f"{row.name} {row.mean:.4g}"


def _left_out(study: Analysis, chosen: list[ArmTrials], drawn: int) -> str:
    """The sentences about arms that a chart does not show."""
    said = ""
    if len(chosen) < len(study.arms):
        said += f" Shown: {len(chosen)} of {len(study.arms)} arms, the baseline and the best by {study.ranking}."
    if drawn < len(chosen):
        said += f" Not shown, because they have no values: {len(chosen) - drawn}."
    return said
