"""Trials: a run is disturbed, the same command is given again, and the run must end as an undisturbed one does.

A trial returns what was done and what was wrong with the outcome; [] is what every trial should find.
"""

import dataclasses
import errno
import random
import re
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from tests.safety import shim
from tests.safety.bench import Bench, Kind
from tests.safety.compare import TRACEBACK, differences
from tests.safety.config import STEPS
from tests.safety.process import Process, end
from tests.safety.shim import Target

ERRORS = {"ENOSPC": errno.ENOSPC, "EDQUOT": errno.EDQUOT, "EIO": errno.EIO, "EROFS": errno.EROFS}
SAVED = 75  # exit code of a run that a signal stopped after it was saved
GOES_ON = re.compile(r"goes on after step (\d+)")


@dataclasses.dataclass
class Outcome:
    """What a trial did and saw.

    Attributes:
      did: the disturbance, in words.
      hit: whether it came to it; a run may end before the moment of a signal or a kill.
      wrong: what was wrong with the outcome.
      codes: exit codes of all processes of the trial, in order.
    """

    did: str
    hit: bool
    wrong: list[str] = dataclasses.field(default_factory=list)
    codes: list[int | None] = dataclasses.field(default_factory=list)


def newest(run: Path) -> int:
    """The newest step whose checkpoint is complete; 0 if there is none."""
    return max((int(folder.name) for folder in (run / "checkpoints").glob("*") if folder.name.isdigit()), default=0)


def look_at(processes: Sequence[Process], outcome: Outcome, run: Path) -> None:
    """Notes tracebacks, and processes that hung."""
    outcome.codes += [process.code for process in processes]
    for process in processes:
        if TRACEBACK.search(process.printed):
            outcome.wrong.append(f"a traceback: {process.printed[-1500:]}")
    if (run / "traceback.txt").exists():
        outcome.wrong.append(f"a traceback: {(run / 'traceback.txt').read_text()[-1500:]}")


def go_on(bench: Bench, kind: Kind, run: Path, outcome: Outcome, ignored: str = "") -> None:
    """Gives the command again and compares the end with that of the undisturbed run.

    Args:
      bench: starts the run.
      kind: the kind of run.
      run: its directory.
      outcome: gets what is wrong.
      ignored: a regex of differences that do not count.
    """
    saved = newest(run)
    processes = bench.start(kind, run)
    codes = end(processes)
    look_at(processes, outcome, run)
    if any(code != 0 for code in codes):
        outcome.wrong.append(f"the command given again ended with {codes}: {processes[0].printed[-1500:]}")
        return
    started = GOES_ON.search(processes[0].printed)
    if not ignored and saved < STEPS and saved != (int(started[1]) if started else 0):
        outcome.wrong.append(f"lost: step {saved} was saved, and the run went on after {started and started[1]}")
    different = differences(bench.reference(kind).state, bench.state(run))
    different = [name for name in different if not ignored or not re.search(ignored, name)]
    if different:
        outcome.wrong.append(f"differs from the undisturbed run: {', '.join(different)[:1500]}")


def kill_at_moment(bench: Bench, kind: Kind, folder: Path, chance: random.Random) -> Outcome:
    """SIGKILL at one to three random moments, one run after the other."""
    run, seconds = folder / "run", bench.reference(kind).seconds
    moments = [chance.uniform(0, seconds) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
    outcome = Outcome(f"killed after {', '.join(f'{moment:.2f}' for moment in moments)} s", False)
    for moment in moments:
        processes = bench.start(kind, run)
        chance.choice(processes).wait(time.monotonic() + moment)
        for process in chance.sample(processes, len(processes)):
            outcome.hit |= process.poll() is None
            process.signal(signal.SIGKILL)
        end(processes)
        look_at(processes, outcome, run)
    go_on(bench, kind, run, outcome)
    return outcome


def targets(bench: Bench, kind: Kind, process: int) -> list[tuple[str, str, str, int]]:
    """The calls of an undisturbed run at which it can be disturbed, as (operation, pattern, how, count)."""
    events = bench.reference(kind).events[process].items()
    writes, others = ("before", "during", "after"), ("before", "after")
    return [(op, path, how, n) for (op, path), n in events for how in (writes if op == "write" else others)]


def kill_at_write(bench: Bench, kind: Kind, folder: Path, chance: random.Random) -> Outcome:
    """SIGKILL before, during or after a call that changes a file: each kind of call is as probable as any other."""
    process = 0 if kind.processes == 1 or chance.random() < 0.7 else 1
    possible = targets(bench, kind, process)
    # Renames and writes in two of three trials: closing and syncing files change nothing that a kill could reveal.
    some = [target for target in possible if target[0] in ("rename", "write")]
    op, path, how, count = chance.choice(some if chance.random() < 2 / 3 else possible)
    return _at_write(bench, kind, folder, process, Target(op, path, chance.randint(1, count), how))


def _at_write(bench: Bench, kind: Kind, folder: Path, process: int, target: Target) -> Outcome:
    run = folder / "run"
    processes = bench.start(kind, run, {process: target})
    processes[process].wait(time.monotonic() + 120)
    time.sleep(0.05)
    for other in processes:
        other.signal(signal.SIGKILL)
    end(processes)
    did = f"killed {target.how} {target.operation} {target.nth} of {target.pattern} in process {process}"
    outcome = Outcome(did, shim.hit(folder / f"log{process}") is not None)
    look_at(processes, outcome, run)
    go_on(bench, kind, run, outcome)
    return outcome


def signalled(bench: Bench, kind: Kind, folder: Path, chance: random.Random) -> Outcome:
    """SIGTERM or SIGINT at a random moment or call; in a third of the trials a second signal follows."""
    run, reference = folder / "run", bench.reference(kind)
    number, second = chance.choice((signal.SIGTERM, signal.SIGINT)), chance.random() < 1 / 3
    only = chance.randrange(kind.processes) if kind.processes > 1 and chance.random() < 0.5 else None
    if chance.random() < 0.5 and not (kind.processes > 1 and only is None):
        process = only or 0
        op, path, _, count = chance.choice(targets(bench, kind, process))
        target = Target(op, path, chance.randint(1, count), "signal", number)
        processes = bench.start(kind, run, {process: target})
        log = folder / f"log{process}"
        while processes[process].poll() is None and not (log.is_file() and shim.hit(log)):
            time.sleep(0.01)
        did, hit = f"at {op} {target.nth} of {path}", shim.hit(log) is not None
    else:
        processes = bench.start(kind, run)
        moment = chance.uniform(0, reference.seconds)
        processes[0].wait(time.monotonic() + moment)
        did, hit = f"after {moment:.2f} s", processes[0].poll() is None
        for process_ in [processes[only]] if only is not None else processes:
            process_.signal(number)
    outcome = Outcome(
        f"{number.name}{' twice' if second else ''} {did}, process {'all' if only is None else only}", hit
    )
    if second:
        processes[0].wait(time.monotonic() + chance.uniform(0.6, 1.5))
        for process_ in processes:
            process_.signal(number)
    end(processes)
    look_at(processes, outcome, run)
    outcome.wrong += [wrong for process_ in processes if (wrong := _ending(process_, run, number, second))]
    go_on(bench, kind, run, outcome)
    return outcome


def _ending(process: Process, run: Path, number: signal.Signals, second: bool) -> str | None:
    """What is wrong with the end of a process that got a signal; None: nothing.

    It has finished (0); or it has saved and says so (75); or it was not in training, and says so (128 + the signal's
    number); or the system ended it before the script began or after the run had finished.
    """
    said = [line for line in process.printed.splitlines() if line.startswith("tlx: ")]
    printed = f"{number.name}, exit code {process.code}: {process.printed[-800:]}"
    training = "epoch" in process.printed and not (run / "summary.json").exists()
    if process.code == 0 or (process.code == -number and not training and not said):
        return None
    if second and process.code == 128 + number:
        return None if len(said) == 1 else f"no sentence, or several: {printed}"
    if process.code == SAVED:
        step = re.search(r"after (?:step (\d+)|training; saved)", "".join(said))
        if len(said) == 1 and step and newest(run) >= int(step[1] or STEPS):
            return None
        return f"says that it saved: {printed}"
    if process.code == 128 + number and len(said) == 1 and not training:
        return None
    return f"ended neither in 75 nor in a sentence: {printed}"


def full_disk(bench: Bench, kind: Kind, folder: Path, chance: random.Random) -> Outcome:
    """From a random call on, writing fails: no space, quota exceeded, an error of the device, read-only."""
    run = folder / "run"
    name = chance.choice(("ENOSPC", "ENOSPC", "ENOSPC", "EDQUOT", "EIO", "EROFS"))
    some = [target for target in targets(bench, kind, 0) if target[0] in ("write", "open", "mkdir", "rename")]
    op, path, _, count = chance.choice(some)
    target = Target(op, path, chance.randint(1, count), "error", ERRORS[name])
    processes = bench.start(kind, run, {0: target})
    processes[0].wait(time.monotonic() + 120)
    end(processes, 40)
    outcome = Outcome(f"{name} from {op} {target.nth} of {path} on", shim.hit(folder / "log0") is not None)
    look_at(processes, outcome, run)
    said = [line for line in processes[0].printed.splitlines() if line.startswith("tlx: ")]
    if processes[0].code is None or processes[0].code < 0:
        outcome.wrong.append(f"ended with {processes[0].code}: {processes[0].printed[-1500:]}")
    elif processes[0].code and len(said) != 1:
        outcome.wrong.append(f"{len(said)} sentences: {processes[0].printed[-1500:]}")
    go_on(bench, kind, run, outcome)
    return outcome


def clean(folder: Path) -> None:
    """Empties the folder of a trial."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
