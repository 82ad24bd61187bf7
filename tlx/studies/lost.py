"""Trials whose worker is lost: they are ended, and a run that loses every worker fails."""

from typing import Any

from tlx.files.lock import is_gone
from tlx.studies.storage import states

MOST_LOST = 5  # a run that lost so many workers has failed: it ends its worker, for example by its need of memory


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


def lost_key(trial: Any) -> str | None:
    """Returns the key of a trial that was lost with its worker; None for other trials."""
    lost = trial.state == states().FAIL and not {"error", "stopped"} & trial.user_attrs.keys()
    return trial.user_attrs.get("key") if lost else None


def give_up(study: Any, key: str, like: Any = None) -> None:
    """Records that a run failed because its workers ended.

    Args:
      study: Optuna's study.
      key: the run's key.
      like: a trial of a search, whose values the record gets.
    """
    import optuna

    error = f"{MOST_LOST} workers ended while they ran this trial (was there enough memory?)"
    values = {} if like is None else {"params": like.params, "distributions": like.distributions}
    attrs = {"key": key, "error": error, "result": {"error": error}}
    study.add_trial(optuna.trial.create_trial(state=states().FAIL, user_attrs=attrs, **values))
