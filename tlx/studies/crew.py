"""The worker processes of one machine: they are started, started again if they are killed, and stopped together."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from tlx.signals import title
from tlx.studies.lost import MOST_LOST
from tlx.studies.plan import Plan
from tlx.studies.queue import Queue

Place = Mapping[str, str]  # variables of a worker's environment
MEMORY = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")  # and its older name; JAX refuses both at once


class Crew:
    """Worker processes.

    Args:
      plan: the plan.
      queue: its queue, from which the crew learns whether runs end.
      places: the environment of each worker.
      say: prints a sentence.
    """

    def __init__(self, plan: Plan, queue: Queue, places: Sequence[Place], say: Callable[[str], None]):
        self.plan, self.queue, self.places, self.say = plan, queue, places, say
        self.folder = plan.workdir / "workers"
        self.folder.mkdir(exist_ok=True)
        self.ended, self.killed = queue.ended(), 0
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts a worker in each place."""
        for index in range(len(self.places)):
            self.workers.append(self._start(index, "wb"))

    def working(self) -> bool:
        """Returns whether a worker runs. Those that were killed are started again before."""
        for index, worker in enumerate(self.workers):
            if (worker.poll() or 0) < 0 and self.queue.unfinished() and self._may_start():
                self.say(f"worker {index} was killed ({title(-worker.returncode)}) and is started again.")
                self.workers[index] = self._start(index, "ab")
        return self._running() > 0

    def wait(self, seconds: float) -> None:
        """Waits so long, or until a worker ends."""
        before, until = self._running(), time.monotonic() + seconds
        while time.monotonic() < until and self._running() == before:
            time.sleep(0.1)

    def stop(self) -> None:
        """Tells all workers to save and to end, and waits for them."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.terminate()
        for worker in self.workers:
            worker.wait()

    @property
    def codes(self) -> list[int | None]:
        """The exit code of each worker, negative for a signal; None while it runs."""
        return [worker.poll() for worker in self.workers]

    def last_words(self) -> str:
        """The last line of a worker's output."""
        for file in sorted(self.folder.glob("*.txt")):
            if lines := file.read_text(errors="replace").strip().splitlines():
                return f"the last words of worker {file.stem} are: {lines[-1].rstrip('.')}"
        return "they printed nothing"

    def _running(self) -> int:
        return sum(worker.poll() is None for worker in self.workers)

    def _may_start(self) -> bool:
        """Counts a killed worker. A run that kills each of its workers fails after `MOST_LOST` of them; if more are
        killed than that while no run ends, something else kills them."""
        if (ended := self.queue.ended()) > self.ended:
            self.ended, self.killed = ended, 0
        self.killed += 1
        return self.killed <= MOST_LOST * len(self.places)

    def _start(self, index: int, mode: str) -> subprocess.Popen[bytes]:
        """Starts a worker; its output goes to a file in `workers`."""
        words = [sys.executable, "-m", "tlx.cli.main", "worker", str(self.plan.workdir)]
        place = self.places[index]
        given = {name: value for name, value in os.environ.items() if name not in MEMORY or MEMORY[0] not in place}
        with (self.folder / f"{index}.txt").open(mode) as output:
            # In a session of its own, so that Ctrl-C in a terminal reaches this process alone, which tells the workers.
            return subprocess.Popen(
                words, env={**given, **place}, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
