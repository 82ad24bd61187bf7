"""Run directories as the trials of a study: runs whose configs differ in the seed alone are one arm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlx.errors import TlxError, listed
from tlx.evaluation.metrics import default_monitor, higher_is_better, metric_names
from tlx.evaluation.relative_gain import DELTA
from tlx.models.heads import Head
from tlx.recipes.run_directory import heads_from, read_run, read_summary
from tlx.runs.differences import differences
from tlx.studies.records import StudyFacts, TrialRecord
from tlx.training.tasks import DEFAULT, JOINT

LONGEST_VALUE = 60  # characters of a field's value in the name of an arm
SPLITS = ("test", "validation")


def read_runs(
    runs: Sequence[Path], metrics: Sequence[str] = (), name: str = "runs"
) -> tuple[StudyFacts, list[TrialRecord]]:
    """Reads run directories as a study, whose baseline is the arm of the first run.

    Args:
      runs: run directories, finished or not.
      metrics: names of metrics, such as `macro_f1`, of a task of several `TASK/macro_f1`; (): the one that selected the
        first run's checkpoint, and of runs of several tasks `joint`, `delta_m` if they have baselines, and each task's
        main metric.
      name: name of the study.

    Raises:
      TlxError: a folder is no run directory or is given twice, the runs have no task in common, or a metric is unknown.
    """
    if repeated := [str(run) for index, run in enumerate(runs) if run.resolve() in [r.resolve() for r in runs[:index]]]:
        raise TlxError(f"{listed(repeated)} is given more than once; every run counts once.")
    written = [read_run(run) for run in runs]
    configs = [{key: value for key, value in content["config"].items() if key != "seed"} for content in written]
    changes = differences(configs)
    names = _arms(changes, len(runs))
    records = [
        _record(name, run, content, arm, {field: values[i] for field, values in changes.items()})
        for i, (run, content, arm) in enumerate(zip(runs, written, names, strict=True))
    ]
    gained = any(f"{split}/{DELTA}" in record.metrics for split in SPLITS for record in records)
    return _facts(name, written, names[0], metrics, gained), records


def _arms(changes: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """The name of each run's arm: the values of the fields that differ; different arms have different names."""
    keys = [tuple(values[i] for values in changes.values()) for i in range(count)]
    names: dict[tuple[str, ...], str] = {}
    for key in keys:
        shown = [f"{field}={_short(value)}" for field, value in zip(changes, key, strict=True)]
        name = ", ".join(shown) or "all runs"
        same = sum(other == name or other.startswith(f"{name} (") for other in names.values())
        if key not in names:
            names[key] = f"{name} ({same + 1})" if same else name
    return [names[key] for key in keys]


def _short(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + "…"


def _record(study: str, run: Path, written: Mapping[str, Any], arm: str, changes: Mapping[str, str]) -> TrialRecord:
    summary = read_summary(run)
    trace = run / "traceback.txt"
    failed = summary is None and trace.is_file()
    config = written["config"]
    return TrialRecord(
        study=study,
        arm=arm,
        factors=changes,
        seed=int(config["seed"]),
        state="complete" if summary is not None else "failed" if failed else "running",
        metrics={} if summary is None else summary.get("metrics", {}),
        seconds=None if summary is None else summary.get("seconds"),
        peak_memory_bytes=None,
        trainable_parameters=None if summary is None else summary.get("parameters", {}).get("trainable"),
        error=trace.read_text(encoding="utf-8", errors="replace") if failed else None,
        workdir=str(run),
        changes=changes,
        digest="",
        budget={"epochs": config["train"]["epochs"]},
    )


def _facts(
    name: str, written: Sequence[Mapping[str, Any]], baseline: str, metrics: Sequence[str], gained: bool
) -> StudyFacts:
    heads = [heads_from(content["heads"]) for content in written]
    shared = [
        name for name in heads[0] if all(name in each and each[name].kind == heads[0][name].kind for each in heads)
    ]
    if not shared:
        raise TlxError("the runs have no task in common, or heads of several kinds; report runs of one kind.")
    by_task = {name: _directions(name, heads[0][name]) for name in shared}
    directions = {metric: better for own in by_task.values() for metric, better in own.items()}
    main = [_main(name, heads[0][name], written[0]["config"]) for name in shared]
    if len(shared) > 1:  # the mean of the tasks' main metrics
        first = [JOINT, DELTA] if gained else [JOINT]
        directions, main = {**dict.fromkeys(first, "maximize"), **directions}, [*first, *main]
    monitors = [content["config"]["train"]["monitor"] or f"validation/{main[0]}" for content in written]
    wanted = list(metrics) or ([monitors[0].rpartition("/")[2]] if shared == [DEFAULT] else main)
    if unknown := [metric for metric in wanted if metric not in directions]:
        raise TlxError(f"no run has the metric {listed(unknown)}; the metrics are {listed(directions, 30)}.")
    versions = [content.get("versions", {}) for content in written]
    revisions = [str(content.get("revision") or "unknown") for content in written]
    return StudyFacts(
        name=name,
        base="",
        baseline=baseline,
        metrics={metric: directions[metric] for metric in wanted},
        selection=f"the checkpoint of each run by {_distinct(monitors)}",
        sizes={"training data": _distinct([content["config"]["data"]["train"] for content in written])},
        versions={package: _distinct([v.get(package, "unknown") for v in versions]) for package in versions[0]},
        revision=_distinct(revisions),
        dirty=any(revision.endswith("-dirty") for revision in revisions),
    )


def _directions(task: str, head: Head) -> dict[str, str]:
    """The metrics of a task by name, `TASK/metric` but for the task `default`."""
    names = ("loss", *metric_names(head.kind, head.labels, head.outputs))
    start = "" if task == DEFAULT else f"{task}/"
    return {start + name: "maximize" if higher_is_better(head.kind, name) else "minimize" for name in names}


def _main(task: str, head: Head, config: Mapping[str, Any]) -> str:
    """The name of a task's main metric."""
    default = default_monitor(head.kind, head.labels)
    return default if task == DEFAULT else f"{task}/{config['tasks'][task].get('metric') or default}"


def _distinct(values: Sequence[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))
