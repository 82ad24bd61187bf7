"""The plan of a study: which runs it consists of. It is a function of the study file and the data alone."""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tlx.data.sources import check_source, source_digest
from tlx.errors import TlxError, listed
from tlx.recipes.methods import with_method_fields
from tlx.recipes.run_directory import CHANGEABLE, revision, versions, write_json
from tlx.recipes.splits import PARTS
from tlx.studies.design import Arm, arms
from tlx.studies.records import FILE, read_plan_file
from tlx.studies.study import Study, changed, load_study


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the plan: an arm with a seed.

    Attributes:
      key: digest of the resolved config and the data (of a command: its words and the seed). Runs with the same key are
        one: the study runs it once.
      arm: the arm.
      seed: the seed.
      folder: name of the run directory.
      budget: what the arm is given, by name.
    """

    key: str
    arm: Arm
    seed: int
    folder: str
    budget: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study with its runs.

    Attributes:
      workdir: the study's directory.
      spec: the study file, with its argument.
      full: whether it is the full form.
      study: the study.
      config: the base config, with the changes that all arms share.
      runs: all runs, by seed, so that finished runs are balanced over arms at any time.
      storage: URL of Optuna's storage.
      heartbeat: seconds between two heartbeats of a worker.
    """

    workdir: Path
    spec: str
    full: bool
    study: Study
    config: ConfigDict
    runs: tuple[Run, ...]
    storage: str
    heartbeat: int

    def config_of(self, run: Run, tuned: Mapping[str, Any] | None = None) -> ConfigDict:
        """Returns the resolved config of a run.

        Args:
          run: the run.
          tuned: values of fields that a search chose.
        """
        return _config(self.study, self.config, run.arm, run.seed, tuned or {})


def make_plan(spec: str, workdir: Path, full: bool = False, storage: str | None = None, heartbeat: int = 20) -> Plan:
    """Makes the plan of a study.

    Args:
      spec: the study file, `FILE.py[:ARGUMENT]`.
      workdir: the study's directory.
      full: whether to make the full form.
      storage: URL of Optuna's storage; None: SQLite in the directory.
      heartbeat: seconds between two heartbeats of a worker.

    Raises:
      TlxError: the study or its base config is invalid.
    """
    stem, py, argument = spec.partition(".py")
    spec = str(Path(f"{stem}{py}").absolute()) + argument
    study, config = load_study(spec, full)
    digests: dict[str, str] = {}
    every = arms(study)
    runs = [_run(study, config, arm, seed, digests) for seed in study.every_seed for arm in every]
    storage = storage or f"sqlite:///{workdir.absolute() / 'study.db'}"
    return Plan(workdir.absolute(), spec, full, study, config, tuple(runs), storage, heartbeat)


def write_plan(plan: Plan) -> None:
    """Writes `study.json`, from which workers and reports learn what the study is.

    Raises:
      TlxError: the directory holds another study.
    """
    file = plan.workdir / FILE
    if file.is_file() and (name := read_plan_file(plan.workdir)["name"]) != plan.study.name:
        raise TlxError(f"{plan.workdir} holds the study {name!r}, not {plan.study.name!r}; name another workdir.")
    study = plan.study
    write_json(
        file,
        {
            "name": study.name, "spec": plan.spec, "full": plan.full,
            "storage": plan.storage, "heartbeat": plan.heartbeat, "base": study.config,
            "baseline": plan.runs[0].arm.name, "metrics": dict(study.metrics), "selection": selection(plan),
            "sizes": {"seeds": len(study.every_seed), **study.changes},
            "versions": versions(), "revision": revision(),
            "runs": [
                {
                    "key": run.key, "arm": run.arm.name, "factors": dict(run.arm.factors), "seed": run.seed,
                    "changes": dict(run.arm.changes), "budget": dict(run.budget),
                    "folder": None if run.arm.command else run.folder,
                }
                for run in plan.runs
            ],
        },
    )  # fmt: skip


def open_plan(workdir: Path) -> Plan:
    """Makes the plan of a study's directory again, as a worker needs it.

    Raises:
      TlxError: the directory holds no study, or the study file or the data have changed since.
    """
    written = read_plan_file(workdir)
    plan = make_plan(written["spec"], workdir, written["full"], written["storage"], written["heartbeat"])
    if [run.key for run in plan.runs] != [run["key"] for run in written["runs"]]:
        raise TlxError(
            f"{written['spec']}, its base config or the data have changed since {workdir / FILE} was written; "
            "give the command experiments/ablate.py again, which makes the plan anew."
        )
    return plan


def check_data(plan: Plan) -> None:
    """Checks that the files are there from which the runs of the plan read their data, before any run begins.

    Raises:
      TlxError: one is missing.
    """
    runs = {run.arm.name: run for run in plan.runs if not run.arm.command}
    for spec in {spec: None for run in runs.values() for spec in _sources(plan.config_of(run))}:
        check_source(spec)


def selection(plan: Plan) -> str:
    """Returns the rule by which checkpoints, and values of fields, are selected."""
    monitor = plan.config.train.monitor
    default = "the mean of the tasks' main metrics" if plan.config.get("tasks") else "the default metric of the head"
    by = f"validation/{monitor.removeprefix('validation/')}" if monitor else f"{default} on validation"
    rule = f"the checkpoint of each run by {by}"
    if (tuning := plan.study.tuning) is not None:
        rule += f"; {listed(tuning.space)} of each arm by {plan.study.select}, {tuning.trials} {tuning.sampler} trials"
    return rule


def _sources(config: ConfigDict) -> list[str]:
    """The sets of the config and of the tasks that are trained, without those that are not set."""
    alone = config.get("single_task")
    tasks = {name: task for name, task in config.get("tasks", {}).items() if alone in (None, "", name)}
    sections = [config.data, *(task.get("data", {}) for task in tasks.values())]
    names = [section.get(part) for section in sections for part in PARTS]
    names += [spec for section in sections for spec in section.get("sources", ())]
    names += [spec for section in sections for spec, _ in section.get("exclude", ())]
    return [name for name in names if name]


def digest(*parts: Any) -> str:
    """Returns a SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=os.fspath).encode()).hexdigest()


def _run(study: Study, base: ConfigDict, arm: Arm, seed: int, digests: dict[str, str]) -> Run:
    """Makes a run of the plan; `digests` keeps those of data that was read for an earlier one."""
    budget: dict[str, Any] = {}
    if arm.command:
        key = digest(arm.command, seed, dict(study.changes))
    else:
        config = _config(study, base, arm, seed, {})
        with_method_fields(config)  # a wrong field ends the command before anything runs
        fields = {name: value for name, value in _flat(config) if not f"config.{name}".startswith(CHANGEABLE)}
        tuning = study.tuning and dataclasses.asdict(study.tuning)
        data = _sources(config)
        digests |= {spec: source_digest(spec) for spec in data if spec not in digests}
        key = digest(fields, [digests[spec] for spec in data], tuning)
        budget = {"epochs": config.train.epochs, "batch size": config.train.batch_size}
        budget |= {"tuning trials": study.tuning.trials} if study.tuning else {}
    readable = re.sub(r"[^\w.-]+", "_", arm.name)[:60].strip("_")
    return Run(key, arm, seed, f"{readable}-{seed}-{key[:8]}", budget)


def _config(study: Study, base: ConfigDict, arm: Arm, seed: int, tuned: Mapping[str, Any]) -> ConfigDict:
    return changed(base, {**arm.changes, **tuned, **dict.fromkeys(study.seed_fields, seed)})


def _flat(config: ConfigDict, prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in config.items():
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, ConfigDict) else [(prefix + name, value)]
    return found
