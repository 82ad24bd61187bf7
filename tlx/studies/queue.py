"""The queue of a study: which run a worker takes next, and what becomes of it. Everything is kept in Optuna's storage.

A run of the plan is a trial of Optuna that has the run's key. A trial whose worker was lost or stopped is ended (FAIL,
without an error) and the run enqueued again; so a key can have several trials, of which the last counts.
"""

import contextlib
import dataclasses
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tlx.files.lock import owner_now
from tlx.signals import requested
from tlx.studies.lost import MOST_LOST, give_back_lost, give_up, lost_key
from tlx.studies.plan import Plan, Run
from tlx.studies.storage import exclusive, open_storage, read_trials, seen, state_by_key, states
from tlx.studies.tuning import Search


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

    def retry_failed(self) -> None:
        """Lets the failed runs of the plan be taken again."""
        with self.exclusive():
            found = state_by_key(seen(self.study.get_trials(deepcopy=False)))
            for key, run in self.runs.items():
                if found.get(key) == "failed":
                    self._enqueue(run)

    def take(self) -> Taken | None:
        """Takes the next trial; None if there is none to take now."""
        with self.exclusive():
            if requested():
                return None
            for search in self.searches.values():
                give_back_lost(search.study)
                if (trial := search.take()) is not None:
                    self._begin(search.study, trial)
                    return Taken(search.run, trial, search, trial.params, trial.user_attrs["folder"])
            give_back_lost(self.study)
            while self._next_is_enqueued():
                trial = self.study.ask()
                run = self.runs.get(trial.user_attrs["key"])
                if run is None:  # it is of an earlier plan
                    trial.set_user_attr("stopped", True)
                    self.study.tell(trial, state=states().FAIL)
                    continue
                self._begin(self.study, trial)
                tuned = self.searches[run.arm.name].best() if run.arm.name in self.searches else {}
                return Taken(run, trial, None, tuned or {}, trial.user_attrs["folder"])
        return None

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
                metrics = result["metrics"]  # without Δm, which no run knows alone: Optuna gets another one for it
                study.tell(taken.trial, metrics[metric] if metric in metrics else next(iter(metrics.values())))
        return True

    def give_back(self, taken: Taken, busy: bool = False) -> None:
        """Ends a trial that was stopped, so that its run is taken again.

        Args:
          taken: the trial.
          busy: whether a silent worker still holds the run directory; other runs are taken before this one.
        """
        study = taken.search.study if taken.search else self.study
        with self.exclusive(), contextlib.suppress(ValueError):  # it was given to another worker already
            taken.trial.set_user_attr("stopped", True)
            if busy:
                taken.trial.set_user_attr("busy", True)
            study.tell(taken.trial, state=states().FAIL)

    def unfinished(self) -> int:
        """Returns the number of runs that are neither complete nor failed."""
        found = state_by_key(read_trials(self.plan.storage, self.plan.study.name))
        return sum(found.get(key, "waiting") in ("waiting", "queued", "running") for key in self.runs)

    def ended(self) -> int:
        """Returns the number of trials that have a result or an error, also those of searches and earlier plans."""
        studies = [self.study, *(search.study for search in self.searches.values())]
        trials = [trial for study in studies for trial in study.get_trials(deepcopy=False)]
        return sum(trial.state == states().COMPLETE or "error" in trial.user_attrs for trial in trials)

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

    def _next_is_enqueued(self) -> bool:
        """Enqueues the first run of the plan that nothing is known of, unless a trial waits already."""
        trials = self.study.get_trials(deepcopy=False)
        if any(trial.state == states().WAITING for trial in trials):
            return True
        found, lost = state_by_key(seen(trials)), Counter(map(lost_key, trials))
        busy = Counter(trial.user_attrs["key"] for trial in trials if "busy" in trial.user_attrs)
        # Runs that ended their worker come last: others should not have to wait for one that needs too much memory.
        for run in sorted(self.plan.runs, key=lambda run: busy[run.key] + lost[run.key]):
            search = self.searches.get(run.arm.name)
            if found.get(run.key, "waiting") != "waiting" or (search is not None and search.best() is None):
                continue
            if lost[run.key] < MOST_LOST:
                self._enqueue(run)
                return True
            give_up(self.study, run.key)
        return False

    def _enqueue(self, run: Run) -> None:
        self.study.enqueue_trial({}, user_attrs={"key": run.key, "folder": run.folder})
