"""A worker: takes trials of a study one after the other and runs them, until all runs of the plan have ended."""

import time
from collections.abc import Sequence
from pathlib import Path

from tlx.errors import TlxError
from tlx.files.lock import Lock, acquire_lock
from tlx.recipes.load import Loader
from tlx.signals import Stop, requested
from tlx.studies.command import run_command
from tlx.studies.gains import FIELD, measured
from tlx.studies.plan import Plan, open_plan
from tlx.studies.queue import Queue, Taken
from tlx.studies.study import is_unseen
from tlx.studies.trial import Result, remove_checkpoints, run_config

PATIENCE = 3.0  # seconds
LOADED = 4  # data sets and parameter trees that a worker keeps


def work(workdir: Path) -> int:
    """Runs trials of the study in a directory.

    Args:
      workdir: the study's directory, which all workers share.

    Returns:
      The number of trials that this worker ended.

    Raises:
      TlxError: the directory holds no study, or the study has changed.
      Stop: a signal; the trial was saved and given back.
    """
    plan = open_plan(workdir)
    queue, loader = Queue(plan), Loader(LOADED)
    ended = 0
    while True:
        if number := requested():
            raise Stop(number, when(ended))
        taken = queue.take()
        if taken is not None:
            ended += _one(plan, queue, taken, loader, ended)
        elif not requested():
            if not queue.unfinished():
                return ended
            _wait(min(2.0, plan.heartbeat), ended)  # others run the last trials; if they are lost, this worker goes on


def when(ended: int) -> str:
    """What a worker had finished when it was stopped, for its last sentence."""
    return f"after {ended} {'trial' if ended == 1 else 'trials'} of this worker"


def _one(plan: Plan, queue: Queue, taken: Taken, loader: Loader, ended: int) -> int:
    """Runs one trial; returns 1 if its result was recorded."""
    folder = plan.workdir / "runs" / taken.folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with queue.beating(taken):
            try:
                lock = _locked(folder)
            except TlxError:  # its last worker was silent, and still runs
                queue.give_back(taken, busy=True)
                _wait(plan.heartbeat, ended)
                return 0
            if number := requested():  # it came while the trial was taken
                raise Stop(number)
            result = _run(plan, taken, folder, loader, lock)
            lock.release()
    except KeyboardInterrupt as stop:
        queue.give_back(taken)
        raise Stop(stop.number if isinstance(stop, Stop) else 2, when(ended)) from None
    except BaseException:  # a full disk, say: it is not the trial that failed
        queue.give_back(taken)
        raise
    recorded = queue.finish(taken, result)
    name = f"{taken.run.arm.name}, seed {taken.run.seed}{', tuning' if taken.search else ''}"
    print(f"{name}: {result.get('error') or _shown(plan, result)}", flush=True)
    if recorded and not result.get("error") and not plan.study.keep_checkpoints:
        remove_checkpoints(folder)
    return int(recorded)


def _locked(folder: Path) -> Lock:
    """Locks a run directory. The command of a worker that was killed holds it for another moment."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return acquire_lock(folder)
        except TlxError:
            if requested() or time.monotonic() > until:
                raise
            time.sleep(0.05)


def _run(plan: Plan, taken: Taken, folder: Path, loader: Loader, lock: Lock) -> Result:
    study, arm = plan.study, taken.run.arm
    wanted: Sequence[str] = (study.select,) if taken.search else measured(study.metrics, arm.changes.get(FIELD))
    if arm.command:
        return run_command(arm.command, folder, taken.run.seed, study.changes, wanted, lock)
    config = plan.config_of(taken.run, taken.values)
    result = run_config(config, folder, loader, plan.workdir / "features", wanted)
    if taken.search and "metrics" in result:  # a search does not see test
        result["metrics"] = {name: value for name, value in result["metrics"].items() if not is_unseen(name)}
    return {**result, "tuned": dict(taken.values), "folder": taken.folder}


def _shown(plan: Plan, result: Result) -> str:
    return ", ".join(
        f"{name} {result['metrics'][name]:.4f}" for name in plan.study.metrics if name in result["metrics"]
    )


def _wait(seconds: float, ended: int) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if number := requested():
            raise Stop(number, when(ended))
        time.sleep(0.05)
