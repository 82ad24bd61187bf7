"""Several processes that train one model. Process 0 is the main one: it alone writes, except for checkpoints."""

import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

import jax

from tlx.errors import TlxError, first_line

T = TypeVar("T")
AUTO = "auto"
PATIENCE = 20.0  # seconds that a process which ends with an error waits for the others to end too


def start(coordinator: str = "", processes: int | None = None, process: int | None = None) -> None:
    """Joins this process with the others, before anything touches a device.

    Args:
      coordinator: "" of a run in one process; `HOST:PORT` of process 0; or "auto", with which JAX finds out all three
        from its environment (Slurm, Open MPI, Kubernetes, Cloud TPU).
      processes: how many there are.
      process: which of them this is, from 0.

    Raises:
      TlxError: the arguments do not fit together, or the other processes cannot be reached.
    """
    given = {"num_processes": processes, "process_id": process}
    if not coordinator:
        if named := [f"parallel.{name}" for name, value in given.items() if value is not None]:
            raise TlxError(
                f"{' and '.join(named)} without parallel.coordinator; give HOST:PORT of process 0, or 'auto'."
            )
        return
    if jax.distributed.is_initialized():
        return
    if coordinator == AUTO:
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            raise TlxError(
                f"parallel.coordinator is 'auto', and JAX cannot find the other processes ({first_line(error)}); give "
                "parallel.coordinator=HOST:PORT, parallel.num_processes and parallel.process_id."
            ) from None
        return
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise TlxError(f"parallel.coordinator is {coordinator!r}; it is HOST:PORT of process 0, or 'auto'.")
    if processes is None or process is None or not 0 <= process < processes:
        raise TlxError(
            f"parallel.process_id is {process} and parallel.num_processes {processes}; with parallel.coordinator both "
            "are given, and the id is at least 0 and below the number."
        )
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        raise TlxError(
            f"process {process} does not reach the coordinator {coordinator}: {first_line(error)}."
        ) from None


def several() -> bool:
    """Whether this process is one of several."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_main() -> bool:
    """Whether this process writes what a run writes."""
    return not several() or jax.process_index() == 0


def together() -> None:
    """Waits until every process has come here."""
    if several():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("together")


def part() -> None:
    """Before an end with an error: gives the others, which mostly end with the same, time to say it themselves. Without
    process 0 JAX aborts them. Where they are gone, a thread waits for them, which ends with this process."""

    def wait() -> None:
        with contextlib.suppress(Exception):
            jax.distributed.shutdown()

    if jax.distributed.is_initialized():
        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        waiting.join(PATIENCE)


def on_main(do: Callable[[], T]) -> T | None:
    """What `do` returns, called in the main process alone while the others wait; None in these.

    Raises:
      TlxError: in the processes that waited, if the main process could not do it.
    """
    if not several():
        return do()
    from jax.experimental import multihost_utils

    result: T | None = None
    error: Exception | None = None
    if is_main():
        try:
            result = do()
        except Exception as raised:
            error = raised
    failed = multihost_utils.broadcast_one_to_all(error is not None)
    if error is not None:
        raise error
    if failed:
        raise TlxError("process 0, which writes the run directory, has ended; it says why.")
    return result
