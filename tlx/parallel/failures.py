"""Several processes end together: if one ends with an error or after a signal, each other one says so and ends too.

JAX alone would leave the others waiting in a collective or for a checkpoint, and abort them after minutes. Here the
process that ends writes its sentence into the key-value store of JAX's coordination service, which process 0 hosts. A
daemon thread of every process looks there each second, whatever the main thread waits for.
"""

import contextlib
import json
import threading
import time
from typing import Any

import jax
from jax._src import distributed  # the store has no public name

from tlx.errors import end_process

FAILED, TOLD, DONE = "tlx/failed", "tlx/told", "tlx/done"  # keys of the store; the last two have one for each process
INTERVAL = 1.0  # seconds between two looks
GRACE = 5.0  # seconds in which a process may still end by itself, because it meets the same error
PATIENCE = 20.0  # seconds that a process which ends waits for the others to end too
LINGER = 2.0  # seconds that process 0 lives on for them: JAX aborts a process as soon as it misses the service


class Watch:
    """What a process of a run knows of the others. In a run of one process it does nothing.

    Attributes:
      done: whether every process has finished its work.
    """

    def __init__(self) -> None:
        self.done = False
        self._ending = threading.Event()
        state = distributed.global_state  # jax.process_index() would connect the devices, and wait for the others
        self._client: Any = state.client if state.num_processes > 1 else None
        self._own, self._count = state.process_id, state.num_processes
        self._thread = threading.Thread(target=self._look, name="tlx-watch", daemon=True)
        if self._client is not None:
            self._thread.start()

    def finish(self) -> None:
        """Waits until every process has finished its work, so that a failure of any of them is still noticed."""
        if self._client is None:
            return
        self._write(f"{DONE}/{self._own}", "")
        while not self._have_all(DONE):
            time.sleep(INTERVAL / 5)
        self.done = True
        self._ending.set()
        self._thread.join()  # a thread that calls JAX while Python shuts down would crash it

    def tell(self, sentence: str, code: int) -> None:
        """Tells the other processes that this one ends, and waits up to `PATIENCE` seconds until they have said so.

        Args:
          sentence: why it ends.
          code: its exit code.
        """
        if self._client is None:
            return
        if self.done:  # the others wait in JAX's shutdown
            waiting = threading.Thread(target=_shut_down, daemon=True)
            waiting.start()
            waiting.join(PATIENCE)
            return
        self._ending.set()
        self._write(FAILED, json.dumps({"process": self._own, "sentence": sentence, "code": code}))
        self._wait_until_told()

    def _look(self) -> None:
        """Ends this process if another one has failed, unless the main thread has begun to end it."""
        while not self._ending.wait(INTERVAL):
            if found := self._read(FAILED):
                if not self._ending.wait(GRACE):
                    failed = json.loads(found)
                    sentence = f"this process ends because process {failed['process']} has ended: {failed['sentence']}"
                    end_process(sentence, failed["code"], lambda sentence, code: self._wait_until_told())
                return

    def _wait_until_told(self) -> None:
        """Waits until every process has said that it ends; process 0 stays somewhat longer."""
        self._write(f"{TOLD}/{self._own}", "")
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and not self._have_all(TOLD):
            time.sleep(INTERVAL / 5)
        if self._own == 0:
            time.sleep(LINGER)

    def _write(self, key: str, value: str) -> None:
        """Sets a key, if no process has set it before."""
        with contextlib.suppress(Exception):  # the service may be gone
            self._client.key_value_set(key, value)

    def _read(self, key: str) -> str | None:
        """Returns a key's value; None if it is not set."""
        with contextlib.suppress(Exception):  # NOT_FOUND
            return str(self._client.key_value_try_get(key))
        return None

    def _have_all(self, key: str) -> bool:
        """Returns whether all processes have set their keys, or none can be read because the service is gone."""
        try:
            return len(self._client.key_value_dir_get(key)) >= self._count
        except Exception:
            return True


def _shut_down() -> None:
    with contextlib.suppress(Exception):
        jax.distributed.shutdown()
