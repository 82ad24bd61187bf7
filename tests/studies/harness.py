"""Kills the workers of studies at random: each trial has to end exactly once, and the table has to be that of the
undisturbed study.

    python -m tests.studies.harness                                       # 40 commands, 20 kills, on SQLite
    python -m tests.studies.harness --storage postgresql --studies 25     # a long form, on a server that it starts
    python -m tests.studies.harness --kind training --studies 10          # runs that resume from their checkpoints

Two workers run at any time; each is killed after a random time, which --seed chooses, and another one takes its place.
"""

import argparse
import atexit
import collections
import contextlib
import dataclasses
import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.safety import process
from tests.studies import made, postgres
from tlx.studies.plan import Plan
from tlx.studies.queue import Queue
from tlx.studies.records import TrialRecord, read_study

STORAGES = ("sqlite", "postgresql")
KINDS = {"commands": 2.0, "training": 15.0}  # and the longest time until a worker is killed, in seconds
MODULES = ("tlx.cli.main", "tlx.cli.worker", "tlx.studies.worker", "optuna.storages._rdb.storage", "psycopg", "sqlite3")
PATIENCE = 300.0
LONG = {"train.epochs": 60.0, "train.evaluate_every": 20.0}  # training that lasts longer than a worker needs to start


@dataclasses.dataclass
class Disturbed:
    """A study whose workers were killed.

    Attributes:
      kills: number of workers that were killed while they ran.
      seconds: how long the study took.
      again: number of times that a run was begun again.
      wrong: what is wrong, in sentences.
    """

    kills: int
    seconds: float
    again: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)


def prepare(place: Path) -> None:
    """Imports what workers need, so that they can be forked."""
    process.prepare(place)
    process.import_all(MODULES)
    os.environ["TLX_MODULES"] = str(place / "modules")


def note_modules() -> None:
    """Lets a worker that ends write down what it has imported."""
    file = Path(os.environ["TLX_MODULES"])
    atexit.register(lambda: file.write_text("\n".join(sys.modules)))


def run(plan: Plan, chance: random.Random, kills: int, longest: float, workers: int = 2) -> Disturbed:
    """Runs a study to its end while so many workers are killed.

    Args:
      plan: the plan, which is written.
      chance: random numbers.
      kills: number of kills.
      longest: a worker is killed after less than so many seconds.
      workers: number of workers that run at any time.
    """
    Queue(plan)  # makes the tables, as the command experiments/ablate.py does
    logs = plan.workdir / "workers"
    logs.mkdir(exist_ok=True)

    def worker(index: int) -> process.Process:
        return process.Process(["tlx", "worker", str(plan.workdir)], logs / f"{index}.txt", note_modules)

    running = [worker(index) for index in range(workers)]
    dies = [chance.uniform(0, longest) for _ in running]
    found, begun = Disturbed(0, 0.0), time.monotonic()
    while any(one.poll() is None for one in running):
        if time.monotonic() - begun > PATIENCE:
            found.wrong.append(f"after {PATIENCE:.0f} s the study has not ended")
            break
        for index, one in enumerate(running):
            if one.poll() is None and found.kills < kills and time.monotonic() > one.started + dies[index]:
                one.signal(signal.SIGKILL)
                found.kills += 1
                one.wait()
                running[index] = worker(index)
                dies[index] = chance.uniform(0, longest)
        time.sleep(0.005)
    for code in process.end(running, 5.0):
        if code:
            words = "; ".join(file.read_text()[-500:] for file in logs.iterdir())
            found.wrong.append(f"a worker ended with code {code}: {words}")
    found.seconds = time.monotonic() - begun
    found.wrong += _wrong_trials(plan)
    return found


def table(plan: Plan) -> dict[tuple[str, int], tuple[Any, ...]]:
    """What a study found of each run, apart from times and memory."""
    return {(record.arm, record.seed): _row(record) for record in read_study(plan.workdir)[1]}


def _row(record: TrialRecord) -> tuple[Any, ...]:
    return record.state, dict(record.metrics), record.error, record.changes, record.trainable_parameters


def _wrong_trials(plan: Plan) -> list[str]:
    """What is wrong with the trials in the storage: each run has to have ended once, and none may be left."""
    wrong, ended = [], collections.Counter[str]()
    for trial in Queue(plan).study.get_trials():
        if not trial.state.is_finished():
            wrong.append(f"trial {trial.number} is {trial.state.name} at the end")
        if trial.state.name == "COMPLETE" or "error" in trial.user_attrs:
            ended[trial.user_attrs["key"]] += 1
    for one in plan.runs:
        if ended[one.key] != 1:
            wrong.append(f"{one.arm.name}, seed {one.seed} ended {ended[one.key]} times")
    return wrong


def disturb(kind: str, place: Path, storage: str | None, chance: random.Random, kills: int) -> Disturbed:
    """Runs a study twice, with kills and without, and compares them.

    Args:
      kind: one of `KINDS`.
      place: a new folder.
      storage: URL of a PostgreSQL database; None: SQLite.
      chance: random numbers.
      kills: number of kills.
    """
    make: Any = made.of_commands
    if (
        kind == "training"
    ):  # the checkpoint is made by another process: workers forked from one that runs JAX would wait
        write = "import sys; from pathlib import Path; from tests import tiny; tiny.write_checkpoint(Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", write, str(place / "checkpoint")], check=True)
        make = functools.partial(made.of_training, checkpoint=place / "checkpoint", changes=LONG)
    name = f"{kind} {chance.random()}"  # studies share the server's database
    calm = make(place / "calm", name="calm")
    alone = run(calm, chance, 0, 0.0)
    process.import_all(Path(os.environ["TLX_MODULES"]).read_text().split())  # the next workers start faster
    plan = make(place / "disturbed", storage=storage, name=name)
    found = run(plan, chance, kills, KINDS[kind])
    found.wrong += [f"without kills: {sentence}" for sentence in alone.wrong]
    expected, result = table(calm), table(plan)
    found.wrong += [
        f"{key} is {result.get(key)}, expected {row}" for key, row in expected.items() if result[key] != row
    ]
    if kind == "commands":
        counts = made.ledger(plan)
        found.again = counts["begin"].total() - len(plan.runs)
        found.wrong += [f"{arm}, seed {seed} ran twice at the same time" for arm, seed in counts["overlap"]]
        if states := collections.Counter(row[0] for row in expected.values()) - collections.Counter(
            complete=len(plan.runs) - 1, failed=1
        ):
            found.wrong.append(f"the undisturbed study ended with {states}")
    else:
        logs = [(plan.workdir / "runs" / one.folder / "log.txt").read_text() for one in plan.runs]
        found.again = sum(log.count("goes on after step") for log in logs)
    return found


def main() -> None:
    """Disturbs studies; the exit code is 1 if something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=list(KINDS), default="commands")
    parser.add_argument("--storage", choices=STORAGES, default="sqlite")
    parser.add_argument("--studies", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20, help="for each study")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not process.ENVIRONMENT.items() <= os.environ.items():  # libraries read it when they are imported
        words = [sys.executable, "-m", "tests.studies.harness", *sys.argv[1:]]
        os.execve(sys.executable, words, {**os.environ, **process.ENVIRONMENT})
    if options.storage == "postgresql" and (why := postgres.absent()):
        sys.exit(why)
    wrong = kills = again = 0
    with contextlib.ExitStack() as stack:
        # No TemporaryDirectory, because each forked worker that ends would remove it.
        place = Path(tempfile.mkdtemp(prefix="tlx-studies-"))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        prepare(place)
        storage = stack.enter_context(postgres.server()) if options.storage == "postgresql" else None
        for number in range(options.studies):
            chance = random.Random(f"{options.seed}/{number}")
            found = disturb(options.kind, place / str(number), storage, chance, options.kills)
            print(
                f"study {number}: {found.kills} kills, {found.again} runs begun again, {found.seconds:.1f} s",
                flush=True,
            )
            for sentence in found.wrong:
                print(f"  WRONG: {sentence}", flush=True)
            wrong, kills, again = wrong + bool(found.wrong), kills + found.kills, again + found.again
    print(
        f"{options.studies} studies of {options.kind} on {options.storage}: {kills} workers were killed, "
        f"{again} runs were begun again, {wrong} studies went wrong."
    )
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
