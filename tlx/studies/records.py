"""What a study's storage says of its trials, as plain values. The report reads nothing else."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlx.errors import TlxError
from tlx.files.strict_json import read_json
from tlx.studies.gains import with_gains
from tlx.studies.storage import read_trials, state_by_key

FILE = "study.json"
MOST_BYTES = 256 * 2**20
ENDED = ("complete", "failed")


@dataclasses.dataclass(frozen=True)
class TrialRecord:
    """One run of one arm with one seed.

    Attributes:
      study: name of the study.
      arm: name of the arm.
      factors: the level of each factor by the factor's name.
      seed: the seed.
      state: "complete", "failed", "running" or "waiting".
      metrics: metrics by their full names, such as `test/accuracy`; {} unless complete.
      seconds: duration in seconds; None unless complete.
      peak_memory_bytes: largest resident memory of the process; None if unknown.
      trainable_parameters: number of trained parameters; None if unknown.
      error: what failed; None otherwise.
      workdir: the run directory; None for runs of other software.
      changes: fields of the config that differ from the base, by their path.
      digest: digest of resolved config, data and code.
      budget: what the arm was given, such as epochs or tuning trials, by name.
    """

    study: str
    arm: str
    factors: Mapping[str, str]
    seed: int
    state: str
    metrics: Mapping[str, float]
    seconds: float | None
    peak_memory_bytes: int | None
    trainable_parameters: int | None
    error: str | None
    workdir: str | None
    changes: Mapping[str, Any]
    digest: str
    budget: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StudyFacts:
    """A study as a whole.

    Attributes:
      name: its name.
      base: the base config: file and argument; "" if there is none.
      baseline: name of the arm that the others are compared with.
      metrics: "maximize" or "minimize" by the full name of the metric; the first is the study's main metric.
      selection: the rule that selected checkpoints and, if arms were tuned, their settings.
      sizes: sizes fixed beforehand, by name.
      versions: versions of packages by name.
      revision: the git revision; None if unknown.
      dirty: whether files differed from the revision.
    """

    name: str
    base: str
    baseline: str
    metrics: Mapping[str, str]
    selection: str
    sizes: Mapping[str, Any]
    versions: Mapping[str, str]
    revision: str | None
    dirty: bool


def read_study(workdir: Path) -> tuple[StudyFacts, list[TrialRecord]]:
    """Reads a study from its directory: a record for each run of the plan, also for those that wait.

    Raises:
      TlxError: if the directory holds no study.
    """
    plan = read_plan_file(workdir)
    trials = _last_trials(plan)
    records = [_record(workdir, plan["name"], run, *trials.get(run["key"], ("waiting", {}))) for run in plan["runs"]]
    results = [trials[run["key"]][1] for run in plan["runs"] if run["key"] in trials]
    revisions = sorted({result["revision"] for result in results if result.get("revision")})
    found = ", ".join(revisions) or plan["revision"]
    facts = StudyFacts(
        **{name: plan[name] for name in ("name", "base", "baseline", "metrics", "selection", "sizes", "versions")},
        revision=found,
        dirty="-dirty" in (found or ""),
    )
    return facts, with_gains(facts, records)


def _last_trials(plan: Mapping[str, Any]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """The state and the result of the last trial of each key."""
    trials = read_trials(plan["storage"], plan["name"])
    results = {trial.attrs.get("key"): trial.attrs["result"] for trial in trials if "result" in trial.attrs}
    return {
        key: ("waiting" if state == "queued" else state, results.get(key, {}) if state in ENDED else {})
        for key, state in state_by_key(trials).items()
    }


def _record(workdir: Path, study: str, run: Mapping[str, Any], state: str, result: Mapping[str, Any]) -> TrialRecord:
    folder = result.get("folder") or run["folder"]
    return TrialRecord(
        study=study,
        arm=run["arm"],
        factors=run["factors"],
        seed=run["seed"],
        state=state,
        metrics=result.get("metrics", {}),
        seconds=result.get("seconds"),
        peak_memory_bytes=result.get("peak_memory_bytes"),
        trainable_parameters=result.get("trainable_parameters"),
        error=result.get("error"),
        workdir=None if folder is None else str(workdir / "runs" / folder),
        changes={**run["changes"], **result.get("tuned", {})},
        digest=result.get("digest", run["key"]),
        budget=run["budget"],
    )


def read_plan_file(workdir: Path) -> dict[str, Any]:
    """Reads `study.json`.

    Raises:
      TlxError: the directory holds no study.
    """
    file = workdir / FILE
    if not file.is_file():
        raise TlxError(f"{workdir} is neither a run directory nor that of a study: it holds no {FILE}.")
    return read_json(file, "plan of a study", MOST_BYTES)
