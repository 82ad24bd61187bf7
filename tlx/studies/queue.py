"""The queue of a study: which run a worker takes next, and what becomes of it. Everything is kept in Optuna's storage.

A run of the plan is a trial of Optuna that has the run's key. A trial whose worker was lost or stopped is ended (FAIL,
without an error) and the run enqueued again; so a key can have several trials, of which the last counts.
"""

import contextlib
import dataclasses
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tlx.files.lock import is_gone, owner_now
from tlx.signals import requested
from tlx.studies.plan import Plan, Run
from tlx.studies.storage import exclusive, open_storage, states
from tlx.studies.tuning import MOST_LOST, Search, give_up, lost_key


@dataclasses.dataclass(frozen=True)
class Taken:
    """A trial that this worker has to run.

    Attributes:
      run: the run of the plan.
      trial: Optuna's trial.
      search: the search that the trial belongs to; None for a trial of the comparison.
      values: values of fields that a search chose.
      folder: name of the run directory.
    """

    run: Run
    trial: Any
    search: Search | None
    values: Mapping[str, Any]
    folder: str


class Queue:
    """The trials of a study.

    Args:
      plan: the plan.
    """

    def __init__(self, plan: Plan):
        import optuna

        self.plan, self.storage = plan, open_storage(plan.storage, plan.heartbeat)
        direction: Any = plan.study.metrics[plan.study.main]
        with self.exclusive():
            self.study = optuna.create_study(
                storage=self.storage, study_name=plan.study.name, direction=direction, load_if_exists=True
            )
        self.runs = {run.key: run for run in reversed(plan.runs)}  # of identical runs, the first
        first = [run for run in plan.runs if run.seed == plan.runs[0].seed and not run.arm.command]
        self.searches = {run.arm.name: Search(plan, run, self.storage) for run in first if plan.study.tuning}

    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """A `with` block in which only this process changes the study's trials."""
        return exclusive(self.storage, self.plan.storage, self.plan.study.name)

    def add_missing(self, again: bool = False) -> None:
        """Enqueues the runs of the plan that are neither finished, running nor waiting.

        Args:
          again: whether failed runs are enqueued once more.
        """
        with self.exclusive():
            self._add_missing(again)

    def take(self) -> Taken | None:
        """Takes the next trial; None if there is none to take now."""
        with self.exclusive():
            if requested():
                return None
            for search in self.searches.values():
                give_back_lost(search.study)
                if (trial := search.take()) is not None:
                    self._begin(search.study, trial)
                    folder = f"tuning-{trial.number}-{search.run.folder}"
                    return Taken(search.run, trial, search, trial.params, folder)
            give_back_lost(self.study)
            self._add_missing()
            if not any(trial.state == states().WAITING for trial in self.study.get_trials(deepcopy=False)):
                return None
            trial = self.study.ask()
            self._begin(self.study, trial)
            run = self.runs[trial.user_attrs["key"]]
            tuned = self.searches[run.arm.name].best() if run.arm.name in self.searches else {}
            return Taken(run, trial, None, tuned or {}, trial.user_attrs["folder"])

    def finish(self, taken: Taken, result: Mapping[str, Any]) -> bool:
        """Records the result of a trial; a result with `error` is that of a failed trial.

        Returns:
          Whether it was recorded; False if the trial was given to another worker, because this one was silent.
        """
        study = taken.search.study if taken.search else self.study
        metric = self.plan.study.select if taken.search else self.plan.study.main
        with self.exclusive():
            frozen = next(trial for trial in study.get_trials(deepcopy=False) if trial.number == taken.trial.number)
            if frozen.state != states().RUNNING:
                return False
            taken.trial.set_user_attr("result", dict(result))
            if result.get("error"):
                taken.trial.set_user_attr("error", result["error"])
                study.tell(taken.trial, state=states().FAIL)
            else:
                study.tell(taken.trial, result["metrics"][metric])
        return True

    def give_back(self, taken: Taken) -> None:
        """Ends a trial that was stopped, so that its run is taken again."""
        study = taken.search.study if taken.search else self.study
        with self.exclusive(), contextlib.suppress(ValueError):  # it was given to another worker already
            taken.trial.set_user_attr("stopped", True)
            study.tell(taken.trial, state=states().FAIL)

    def unfinished(self) -> int:
        """Returns the number of runs that are neither complete nor failed."""
        found = state_by_key(self.study.get_trials(deepcopy=False))
        return sum(found.get(key, "waiting") in ("waiting", "queued", "running") for key in self.runs)

    @contextlib.contextmanager
    def beating(self, taken: Taken) -> Iterator[None]:
        """Sends the trial's heartbeat during the `with` block, from a thread."""
        study = taken.search.study if taken.search else self.study
        trial_id, ended = self._id(study, taken.trial), threading.Event()

        def beat() -> None:
            while not ended.wait(self.plan.heartbeat):
                with contextlib.suppress(Exception):  # a database that is away for a moment; the next beat may pass
                    self.storage.record_heartbeat(trial_id)

        thread = threading.Thread(target=beat, name="tlx-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(timeout=10)

    def _begin(self, study: Any, trial: Any) -> None:
        """Marks a trial as this worker's. A running trial without the mark lost its worker within `take`."""
        self.storage.record_heartbeat(self._id(study, trial))
        trial.set_user_attr("worker", owner_now())

    def _id(self, study: Any, trial: Any) -> int:
        study_id = self.storage.get_study_id_from_name(study.study_name)
        return int(self.storage.get_trial_id_from_study_id_trial_number(study_id, trial.number))

    def _add_missing(self, again: bool = False) -> None:
        trials = self.study.get_trials(deepcopy=False)
        found, lost = state_by_key(trials), Counter(map(lost_key, trials))
        ready = {name for name, search in self.searches.items() if search.best() is not None}
        for key, run in reversed(self.runs.items()):
            state = found.get(key, "waiting")
            if run.arm.name in self.searches and run.arm.name not in ready:
                continue
            if state == "waiting" and lost[key] >= MOST_LOST:
                give_up(self.study, key)
            elif state == "waiting" or (again and state == "failed"):
                self.study.enqueue_trial({}, user_attrs={"key": key, "folder": run.folder})


def state_by_key(trials: Iterable[Any]) -> dict[str, str]:
    """Returns the state of each key: "complete", "failed", "running", "queued", or "waiting" to be enqueued again."""
    kind = states()
    rank = {kind.COMPLETE: 3, kind.RUNNING: 2, kind.WAITING: 2}
    names = {kind.COMPLETE: "complete", kind.RUNNING: "running", kind.WAITING: "queued"}
    best: dict[str, tuple[int, int, str]] = {}
    for trial in trials:
        if (key := trial.user_attrs.get("key")) is not None:
            name = names.get(trial.state, "failed" if "error" in trial.user_attrs else "waiting")
            found = (rank.get(trial.state, 1), trial.number, name)
            best[key] = max(best.get(key, found), found)
    return {key: name for key, (_, _, name) in best.items()}


def give_back_lost(study: Any) -> None:
    """Ends the trials whose worker is gone: its heartbeat is silent, or its process on this machine has ended.

    Called in an exclusive block, after which their runs are enqueued again.
    """
    from optuna.storages import fail_stale_trials

    fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(states().RUNNING,)):
        worker = trial.user_attrs.get("worker")
        if worker is None or is_gone(worker):
            study.tell(trial.number, state=states().FAIL)
