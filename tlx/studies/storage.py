"""Optuna's storage of a study, and the lock under which workers take trials from it."""

import contextlib
import functools
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
        raise TlxError(f"the storage {url!r} is neither sqlite:///FILE nor postgresql+psycopg://USER@HOST/DATABASE.")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", "Heartbeat of storage")  # `Queue.beating` sends it
    options = {"connect_args": {"timeout": 120}} if url.startswith(SQLITE) else {"pool_pre_ping": True}
    try:
        return optuna.storages.RDBStorage(
            url, engine_kwargs=options, heartbeat_interval=heartbeat, grace_period=3 * heartbeat
        )
    except Exception as error:  # of SQLAlchemy, of the database's driver, of Optuna
        reason = str(error).strip().splitlines()[0]
        raise TlxError(f"the storage {url!r} of the study cannot be opened: {reason}.") from None


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


@functools.cache
def states() -> Any:
    """Optuna's states of a trial."""
    from optuna.trial import TrialState

    return TrialState
