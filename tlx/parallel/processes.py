"""Training in several processes. Process 0 is the main process: it writes all files except checkpoints."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from tlx.errors import TlxError, first_line

T = TypeVar("T")
AUTO = "auto"


def start(coordinator: str = "", processes: int | None = None, process: int | None = None) -> None:
    """Connects this process to the others. It must be called before any device is used.

    Args:
      coordinator: "" for a run in one process; `HOST:PORT` of process 0; or "auto", with which JAX determines all three
        arguments from its environment (Slurm, Open MPI, Kubernetes, Cloud TPU).
      processes: the number of processes.
      process: the index of this process, from 0.

    Raises:
      TlxError: if the arguments contradict each other, or the other processes cannot be reached.
    """
    settings = {"num_processes": processes, "process_id": process}
    if not coordinator:
        if without := [f"parallel.{name}" for name, value in settings.items() if value is not None]:
            raise TlxError(
                f"{' and '.join(without)} set without parallel.coordinator; set it to HOST:PORT of process 0, or "
                "'auto'."
            )
        return
    if jax.distributed.is_initialized():
        return
    if coordinator == AUTO:
        try:
            jax.distributed.initialize()
        except (ValueError, RuntimeError) as error:
            raise TlxError(
                f"parallel.coordinator is 'auto', but JAX cannot find the other processes ({first_line(error)}); set "
                "parallel.coordinator=HOST:PORT, parallel.num_processes and parallel.process_id."
            ) from None
        return
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise TlxError(f"parallel.coordinator is {coordinator!r}; it must be HOST:PORT of process 0, or 'auto'.")
    if processes is None or process is None or not 0 <= process < processes:
        raise TlxError(
            f"parallel.process_id is {process} and parallel.num_processes {processes}; with parallel.coordinator both "
            "must be set, with 0 <= process_id < num_processes."
        )
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        raise TlxError(f"process {process} cannot reach the coordinator {coordinator}: {first_line(error)}.") from None


def is_multiprocess() -> bool:
    """Returns whether the run has several processes."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_main() -> bool:
    """Returns whether this process is the main process, which writes files."""
    return not is_multiprocess() or jax.process_index() == 0


def main_value(value: bool) -> bool:
    """Returns the main process's value in every process."""
    if not is_multiprocess():
        return value
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(value))


def sum_over_processes(values: np.ndarray) -> np.ndarray:
    """Returns the sum over the processes of their values, uint64 of any shape. All processes call it together."""
    if not is_multiprocess():
        return values
    from jax.experimental import multihost_utils

    halves = np.stack([values % 2**32, values >> 32]).astype(np.uint32)  # JAX has no 64 bits by default
    low, high = np.asarray(multihost_utils.process_allgather(halves)).astype(np.uint64).sum(axis=0)
    total: np.ndarray = low + (high << np.uint64(32))
    return total


def barrier() -> None:
    """Waits until every process has called this function."""
    if is_multiprocess():
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("tlx")


class Agreement:
    """Lets all processes act after the same step on what one of them asks for.

    Each process calls it once after every step. With several processes, the largest of their requests is computed on
    the devices, and returned by the next call, so that no process waits for its last step. In a single process, a
    request is returned at once.
    """

    def __init__(self) -> None:
        self._pending: jax.Array | None = None
        self._largest: Callable[[jax.Array], jax.Array] | None = None

    def __call__(self, request: int) -> int:
        """Returns the largest request of the previous call, the same in all processes; 0 if there was no call.

        Args:
          request: an int of at least 0. A process repeats its request until it is acted on.
        """
        if not is_multiprocess():
            return request
        earlier, self._pending = self._pending, self._dispatched(request)
        return 0 if earlier is None else int(earlier.addressable_data(0))

    def settled(self, request: int) -> int:
        """Returns the largest request of the previous call and of this one. It waits for all processes."""
        return max(self(request), self(0))

    def forget(self) -> None:
        """Forgets the requests of the previous call, which have been acted on."""
        self._pending = None

    def _dispatched(self, request: int) -> jax.Array:
        devices = np.asarray(jax.devices()).reshape(jax.process_count(), -1)
        mesh = jax.sharding.Mesh(devices, ("processes", "devices"))
        by_process = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("processes"))
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        self._largest = self._largest or jax.jit(jnp.max, out_shardings=everywhere)
        requests = jax.make_array_from_process_local_data(by_process, np.asarray([request], np.int32))
        return self._largest(requests)


def on_main(do: Callable[[], T]) -> T | None:
    """Calls a function in the main process only, while the other processes wait.

    Args:
      do: the function.

    Returns:
      The function's result in the main process; None in the others.

    Raises:
      TlxError: in the other processes, if the function raised an exception in the main process.
    """
    if not is_multiprocess():
        return do()
    result: T | None = None
    error: Exception | None = None
    if is_main():
        try:
            result = do()
        except Exception as raised:
            error = raised
    failed = main_value(error is not None)
    if error is not None:
        raise error
    if failed:
        raise TlxError("process 0, which writes the run directory, has failed; see its error message.")
    return result


def in_all(do: Callable[[], T], failed: TlxError) -> T:
    """Calls a function in every process, and returns its result if it succeeds in all of them.

    Args:
      do: the function; it must not wait for the other processes before it can fail.
      failed: the error for a process that succeeds while all errors of the others are of this type.

    Raises:
      TlxError: what the function raised, or `failed`. If any process raised an error that is not of the type of
        `failed`, every process raises one that is not.
    """
    if not is_multiprocess():
        return do()
    from jax.experimental import multihost_utils

    result: T | None = None
    error: Exception | None = None
    try:
        result = do()
    except Exception as raised:
        error = raised
    own = 0 if error is None else 1 if isinstance(error, type(failed)) else 2
    worst = int(multihost_utils.process_allgather(np.int32(own)).max())
    if worst == 0:
        return result  # type: ignore[return-value]
    if error is not None and own == worst:
        raise error
    raise failed if worst == 1 else TlxError("another process of the run has failed; see its error message.")
