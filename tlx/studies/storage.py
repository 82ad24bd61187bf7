"""Optuna's storage of a study, and the lock under which workers take trials from it."""

import contextlib
import functools
import json
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tlx.errors import TlxError
from tlx.signals import deferred

SQLITE = "sqlite:///"


def open_storage(url: str, heartbeat: int = 20) -> Any:
    """Opens the storage, and creates its tables if it is new.

    Args:
      url: `sqlite:///FILE` for the workers of one machine, or `postgresql+psycopg://…`.
      heartbeat: seconds between two heartbeats; a trial whose worker is silent for three times as long is lost.

    Raises:
      TlxError: Optuna is not installed, the URL is of another kind of database, or it cannot be opened.
    """
    try:
        import optuna
    except ImportError:
        raise TlxError("a study needs Optuna: pip install 'tlx[studies]'.") from None
    if not url.startswith((SQLITE, "postgresql")):
        raise TlxError(
            _without_password(
                f"the storage {url!r} is neither sqlite:///FILE nor postgresql+psycopg://USER@HOST/DATABASE."
            )
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", "Heartbeat of storage")  # `Queue.beating` sends it
    options = {"connect_args": {"timeout": 120}} if url.startswith(SQLITE) else {"pool_pre_ping": True}
    try:
        return optuna.storages.RDBStorage(
            url,
            options,
            heartbeat_interval=heartbeat,
            grace_period=3 * heartbeat,
        )
    except Exception as error:  # of SQLAlchemy, of the database's driver, of Optuna
        reason = str(error).strip().splitlines()[0]
        raise TlxError(_without_password(f"the storage {url!r} of the study cannot be opened: {reason}.")) from None


def _without_password(text: str) -> str:
    """The text, with `…` for the password of each URL in it."""
    return re.sub(r"(://[^\s/:@]*):[^\s/@]*@", r"\1:…@", text)


@contextlib.contextmanager
def exclusive(storage: Any, url: str, name: str) -> Iterator[None]:
    """Only one process at a time is in this `with` block, for one study. A process that is killed leaves it.

    Optuna hands a waiting trial out with a SELECT and an UPDATE; SQLite has no row locks, so that two workers could
    both get it. Adding runs, giving back lost ones and taking one also has to be one operation.

    Args:
      storage: the storage.
      url: its URL.
      name: name of the study.
    """
    with deferred():  # a signal waits until the block has ended
        if url.startswith(SQLITE):
            import fcntl

            with Path(f"{url.removeprefix(SQLITE)}.lock").open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        else:
            import sqlalchemy

            lock = sqlalchemy.text("SELECT pg_advisory_xact_lock(:key)")
            with storage.engine.begin() as connection:  # the lock is released with the transaction
                connection.execute(lock, {"key": zlib.crc32(name.encode())})
                yield


class Seen(NamedTuple):
    """A trial in the storage.

    Attributes:
      number: its number in the study.
      state: name of Optuna's state: COMPLETE, FAIL, RUNNING or WAITING.
      attrs: its user attributes.
    """

    number: int
    state: str
    attrs: dict[str, Any]


# On Optuna's tables. Through Optuna's own objects, 10,000 trials take several seconds.
TRIALS = (
    "SELECT trials.number, trials.state, attributes.key, attributes.value_json FROM studies "
    "JOIN trials ON trials.study_id = studies.study_id "
    "JOIN trial_user_attributes AS attributes ON attributes.trial_id = trials.trial_id "
    "WHERE studies.study_name = :name ORDER BY trials.number"
)


def read_trials(url: str, name: str) -> list[Seen]:
    """Reads the trials of a study; [] if nobody has opened its storage yet."""
    found: dict[int, Seen] = {}
    for number, state, key, value in _rows(url, name):
        found.setdefault(number, Seen(number, state, {})).attrs[key] = json.loads(value)
    return list(found.values())


def _rows(url: str, name: str) -> list[Any]:
    """The attributes of all trials. SQLite is read without SQLAlchemy, whose import takes longer than the query."""
    if url.startswith(SQLITE):
        import sqlite3

        file = Path(url.removeprefix(SQLITE))
        if not file.is_file():
            return []
        with contextlib.closing(sqlite3.connect(file, timeout=120)) as opened:
            (known,) = opened.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'trials'").fetchone()
            return opened.execute(TRIALS, {"name": name}).fetchall() if known else []
    import sqlalchemy

    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    if not sqlalchemy.inspect(engine).has_table("trials"):
        return []
    with engine.connect() as connection:
        return list(connection.execute(sqlalchemy.text(TRIALS), {"name": name}))


def state_by_key(trials: Iterable[Seen]) -> dict[str, str]:
    """Returns the state of each key: "complete", "failed", "running", "queued" or "waiting".

    A key can have several trials: a complete one counts, otherwise one that runs or is queued, otherwise the last.
    """
    rank = {"COMPLETE": 3, "RUNNING": 2, "WAITING": 2}
    names = {"COMPLETE": "complete", "RUNNING": "running", "WAITING": "queued"}
    best: dict[str, tuple[int, int, str]] = {}
    for trial in trials:
        if (key := trial.attrs.get("key")) is not None:
            name = names.get(trial.state, "failed" if "error" in trial.attrs else "waiting")
            found = (rank.get(trial.state, 1), trial.number, name)
            best[key] = max(best.get(key, found), found)
    return {key: name for key, (_, _, name) in best.items()}


def seen(trials: Iterable[Any]) -> list[Seen]:
    """Returns Optuna's trials in the form that `read_trials` has."""
    return [Seen(trial.number, trial.state.name, trial.user_attrs) for trial in trials]


@functools.cache
def states() -> Any:
    """Optuna's states of a trial."""
    from optuna.trial import TrialState

    return TrialState
