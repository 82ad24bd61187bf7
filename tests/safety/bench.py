"""Runs that can be disturbed, and what an undisturbed run of the same kind leaves."""

import atexit
import dataclasses
import functools
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.safety import shim
from tests.safety.compare import state_of
from tests.safety.process import Process, end, free_port
from tests.safety.shim import Target

KINDS = ("plain", "phases", "lora", "averages", "players")


@dataclasses.dataclass(frozen=True, order=True)
class Kind:
    """A kind of run.

    Attributes:
      name: one of `KINDS`.
      processes: 1 or 2.
    """

    name: str
    processes: int = 1

    def __str__(self) -> str:
        return self.name if self.processes == 1 else f"{self.name} in {self.processes} processes"


@dataclasses.dataclass(frozen=True)
class Reference:
    """An undisturbed run.

    Attributes:
      run: its directory.
      state: what it left (`compare.state_of`).
      events: for each process, the calls that changed files of the run, counted by operation and pattern.
      seconds: how long it took.
    """

    run: Path
    state: dict[str, Any]
    events: tuple[dict[tuple[str, str], int], ...]
    seconds: float


@dataclasses.dataclass
class Bench:
    """Starts runs of all kinds.

    Args:
      place: a folder for inputs and references; those that are there are used again.
      plant: called in each process before the command, to plant a fault.
    """

    place: Path
    plant: Callable[[], None] = lambda: None

    def write_inputs(self) -> None:
        """Writes the checkpoint and the data of all runs. The model has one block, so that it is quickly traced."""

        def write() -> None:
            from tests import tiny

            tiny.SMALL = dataclasses.replace(tiny.SMALL, num_hidden_layers=1)
            tiny.write_checkpoint(self.place / "checkpoint")
            tiny.write_reviews(self.place / "target.csv", 60, seed=9)
            tiny.write_reviews(self.place / "reviews.csv", 100)

        if not (self.place / "reviews.csv").is_file():
            in_child(write, self.place / "inputs.json")

    def modules(self) -> list[str]:
        """The modules that a whole run imports."""
        run, file = self.place / "warm" / "run", self.place / "modules.json"
        shutil.rmtree(run.parent, ignore_errors=True)
        run.parent.mkdir()

        def write_at_end() -> None:
            atexit.register(lambda: file.write_text(json.dumps(list(sys.modules))))

        plant, self.plant = self.plant, write_at_end
        if end(self.start(Kind("plain"), run)) != [0]:
            raise RuntimeError(f"a run failed: {run.with_name('output0').read_text()}")
        self.plant = plant
        return json.loads(file.read_text())  # type: ignore[no-any-return]

    def start(
        self, kind: Kind, run: Path, targets: Mapping[int, Target] | None = None, whole: bool = False
    ) -> list[Process]:
        """Starts the processes of a run; output and log of process i are files beside the run directory.

        Args:
          kind: the kind of run.
          run: the run directory.
          targets: for each process, the call that is disturbed.
          whole: whether no fault is planted.
        """
        script = "tests/safety/players.py" if kind.name == "players" else "experiments/finetune.py"
        words = [script, f"--config=tests/safety/config.py:{kind.name}", f"--workdir={run}"]
        if kind.processes > 1:
            address = f"127.0.0.1:{free_port()}"
            words += [f"--config.parallel.coordinator={address}", f"--config.parallel.num_processes={kind.processes}"]
        started = []
        for number in range(kind.processes):
            output, log = run.with_name(f"output{number}"), run.with_name(f"log{number}")
            for file in (output, log):
                file.unlink(missing_ok=True)
            more = [f"--config.parallel.process_id={number}"] if kind.processes > 1 else []
            armed = shim.arm(run, log, targets[number]) if targets and number in targets else lambda: None
            started.append(
                Process(
                    [*words, *more], output, functools.partial(_both, (lambda: None) if whole else self.plant, armed)
                )
            )
        return started

    @functools.cache  # noqa: B019 - a bench lives as long as the process
    def reference(self, kind: Kind) -> Reference:
        """The undisturbed run of a kind, made once in this place."""
        folder = self.place / "references" / f"{kind.name}-{kind.processes}"
        run, facts = folder / "run", folder / "facts.json"
        if not facts.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            began = time.monotonic()
            processes = self.start(kind, run, dict.fromkeys(range(kind.processes), Target()), whole=True)
            if any(code != 0 for code in end(processes)):
                raise RuntimeError("\n".join([f"the undisturbed run {kind} failed", *(p.printed for p in processes)]))
            seconds = time.monotonic() - began
            self.state(run)  # a reference that cannot be read is none
            facts.write_text(json.dumps({"seconds": seconds}))
        events = tuple(shim.events(folder / f"log{number}") for number in range(kind.processes))
        return Reference(run, self.state(run), events, json.loads(facts.read_text())["seconds"])

    def state(self, run: Path) -> dict[str, Any]:
        """What a run left, read in a process of its own, because reading starts threads."""
        return in_child(lambda: state_of(run), run.with_name("state.json"))  # type: ignore[no-any-return]

    def __hash__(self) -> int:
        return id(self)


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    first()
    second()


def in_child(function: Callable[[], Any], file: Path) -> Any:
    """Calls a function in a forked process; its result is passed as JSON through a file."""
    pid = os.fork()
    if not pid:
        try:
            file.write_text(json.dumps(function()))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError("a process that reads or writes files of the harness failed; see above")
    return json.loads(file.read_text())
