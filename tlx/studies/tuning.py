"""The search that chooses values of fields for one arm, with Optuna's samplers and a fixed number of trials."""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tlx.studies.lost import MOST_LOST, give_up, lost_key
from tlx.studies.plan import Plan, Run
from tlx.studies.storage import states


class Search:
    """A search for one arm. It is a study of its own in the storage.

    Args:
      plan: the plan.
      run: the arm's run with the first seed.
      storage: Optuna's storage.
    """

    def __init__(self, plan: Plan, run: Run, storage: Any):
        import optuna

        assert plan.study.tuning is not None
        self.run, self.tuning = run, plan.study.tuning
        direction: Any = plan.study.metrics.get(plan.study.select, "maximize")
        self.direction = direction
        self.space = {field: distribution(values) for field, values in self.tuning.space.items()}
        self.study = optuna.create_study(
            storage=storage, study_name=f"{plan.study.name}, tuning {run.key}", direction=direction,
            load_if_exists=True,
        )  # fmt: skip

    def take(self) -> Any:
        """Takes a trial of the search, within an exclusive block; None if as many as allowed were begun.

        The values of a trial that was lost or stopped are tried again, in the same folder. If the sampler repeats the
        values of a complete trial, the new trial gets its result, and the next one is taken.
        """
        kind = states()
        trials = self.study.get_trials(deepcopy=False)
        lost = [trial for trial in trials if trial.state == kind.FAIL and "error" not in trial.user_attrs]
        begun = [trial for trial in trials if trial not in lost and trial.state != kind.WAITING]
        if len(begun) >= self.tuning.trials:
            return None
        again = [trial for trial in lost if trial.params and not any(trial.params == other.params for other in begun)]
        if again and Counter(map(lost_key, trials))[key := again[0].user_attrs.get("key", "")] >= MOST_LOST:
            give_up(self.study, key, again[0])
            return self.take()
        if again and not any(trial.state == kind.WAITING for trial in trials):
            folder = {name: value for name, value in again[0].user_attrs.items() if name == "folder"}
            self.study.enqueue_trial(again[0].params, user_attrs=folder)
        self.study.sampler = self._sampler(len(begun))
        trial = self.study.ask(self.space)
        trial.set_user_attr("key", f"{self.run.key}/{trial.params}")
        for done in trials:
            if done.state == kind.COMPLETE and done.params == trial.params:
                trial.set_user_attr("result", done.user_attrs["result"])
                self.study.tell(trial, done.value)
                return self.take()
        if "folder" not in trial.user_attrs:
            trial.set_user_attr("folder", f"tuning-{trial.number}-{self.run.folder}")
        return trial

    def best(self) -> Mapping[str, Any] | None:
        """Returns the values of the best trial; None if the search has not ended.

        If all trials failed it returns {}: the arm is run with the values of its config.
        """
        kind = states()
        trials = self.study.get_trials(deepcopy=False)
        done = [trial for trial in trials if trial.state == kind.COMPLETE]
        failed = [trial for trial in trials if trial.state == kind.FAIL and "error" in trial.user_attrs]
        if len(done) + len(failed) < self.tuning.trials:
            return None
        sign = 1 if self.direction == "maximize" else -1
        return dict(max(done, key=lambda trial: (sign * (trial.value or 0.0), -trial.number)).params) if done else {}

    def _sampler(self, begun: int) -> Any:
        """A sampler whose numbers depend on the arm and on how many trials were begun, not on the process."""
        import optuna

        seed = zlib.crc32(f"{self.run.key} {begun}".encode())
        if self.tuning.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=max(2, self.tuning.trials // 3), constant_liar=True
        )


def distribution(values: Sequence[Any]) -> Any:
    """Returns Optuna's distribution of a field of `Tuning.space`."""
    from optuna import distributions

    if isinstance(values, list):
        return distributions.CategoricalDistribution(values)
    low, high, *log = values
    kind = distributions.IntDistribution if isinstance(low, int) else distributions.FloatDistribution
    return kind(low, high, log=log == ["log"])
