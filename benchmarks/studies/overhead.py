"""What scheduling costs: the time between two trials of a worker, by the trials' length, storage and number of trials.

    python benchmarks/studies/overhead.py --workdir runs/overhead
    python benchmarks/studies/overhead.py --workdir runs/overhead --postgresql postgresql+psycopg://user@host/database

A trial is a command that sleeps, and that notes when it began, when it ended and which worker ran it. Everything
between the end of a trial and the begin of the worker's next one is overhead: recording the result, removing what is
left, the lock, taking the next trial, starting its process. What experiments/ablate.py needs meanwhile, to watch and
show the study, is given as a share of one core. Measured rows are kept: the same command goes on.
"""

import functools
import itertools
import json
import resource
import shutil
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import arguments, kept, publish

from tlx.studies.conduct import conduct
from tlx.studies.plan import make_plan
from tlx.studies.queue import Queue
from tlx.studies.storage import states

TRIALS = 5  # of each worker
# Notes the worker: the parent of the process that guards the command, which is the command's parent.
SCRIPT = """
import json, os, sys, time
began = time.time()
result, seconds, notes = sys.argv[1:]
time.sleep(float(seconds))
worker = open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()[1]
with open(result, "w") as file:
    json.dump({"metrics": {"value": 1}}, file)
with open(notes, "a") as file:
    file.write(json.dumps([worker, began, time.time()]) + "\\n")
"""
STUDY = """
from tlx.studies.study import Study
def get_study():
    return Study(
        name={name!r}, config={config!r}, seeds={seeds}, metrics={{"value": "maximize"}},
        commands={{"sleep": {words!r}}},
    )
"""


def measured(folder: Path, length: float, workers: int, recorded: int, storage: str | None) -> dict[str, float]:
    """Runs a study of sleeping commands.

    Args:
      folder: its directory; what is in it is removed first.
      length: of a trial, in seconds.
      workers: number of workers.
      recorded: number of trials that the storage has already.
      storage: URL of a database; None: SQLite.

    Returns:
      `gap`: the mean time between two trials of a worker; `share`: of the trials' time, in %; `watching`: the CPU time
      of the process that watches, in % of one core.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "script.py").write_text(SCRIPT)
    words = [sys.executable, "-I", "-S", str(folder / "script.py"), "{result}", str(length), str(folder / "notes")]
    config = str(Path(__file__).parents[2] / "configs" / "digits.py")
    name = f"overhead {uuid.uuid4()}"
    seeds = list(range(recorded, recorded + TRIALS * workers))
    spec = folder / "study.py"
    spec.write_text(STUDY.format(name=name, config=config, seeds=[*range(recorded), *seeds], words=words))
    record(make_plan(str(spec), folder, storage=storage), recorded)
    began, used = time.perf_counter(), cpu_seconds()
    conduct(str(spec), folder, workers=workers, storage=storage)
    watching = (cpu_seconds() - used) / (time.perf_counter() - began)
    notes = sorted(json.loads(line) for line in (folder / "notes").read_text().splitlines())
    assert len(notes) == len(seeds)
    gaps = [after[1] - before[2] for before, after in itertools.pairwise(notes) if before[0] == after[0]]
    gap = sum(gaps) / len(gaps)
    return {"gap": gap, "share": 100 * gap / length, "watching": 100 * watching}


def record(plan: Any, count: int) -> None:
    """Records the first runs of a plan as complete."""
    import optuna

    study = Queue(plan).study
    for run in plan.runs[:count]:
        result = {"metrics": {"value": 1.0}, "seconds": 1.0, "revision": "0" * 40}
        attrs = {"key": run.key, "folder": run.folder, "result": result}
        study.add_trial(optuna.trial.create_trial(state=states().COMPLETE, value=1.0, user_attrs=attrs))


def cpu_seconds() -> float:
    """CPU time of this process, without its children."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measures and writes the table."""
    parser = arguments(__doc__, "runs/overhead")
    parser.add_argument("--postgresql", metavar="URL", help="an empty database, for rows with PostgreSQL")
    options = parser.parse_args()
    settings: list[tuple[str, float, int, int]] = [
        ("SQLite", 5, 1, 0), ("SQLite", 5, 2, 0), ("SQLite", 30, 2, 0), ("SQLite", 5, 2, 1000),
    ]  # fmt: skip
    settings += [("PostgreSQL", 5, 2, 0), ("PostgreSQL", 5, 2, 1000)] if options.postgresql else []
    rows: list[Sequence[str]] = []
    for storage, length, workers, recorded in settings:
        folder = options.workdir / f"{storage}-{length}-{workers}-{recorded}"
        url = options.postgresql if storage == "PostgreSQL" else None
        measure = functools.partial(measured, folder, length, workers, recorded, url)
        found = kept(options.workdir / f"{folder.name}.json", measure)
        rows.append((
            storage, str(workers), f"{recorded:,}", str(length), f"{1000 * found['gap']:.0f}", f"{found['share']:.2f}",
            f"{found['watching']:.1f}",
        ))  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)
    header = (
        "storage", "workers", "trials recorded before", "trial, s", "between two trials, ms", "of the trials' time, %",
        "watching, % of a core",
    )  # fmt: skip
    publish(options.workdir, "Scheduling", header, rows)


if __name__ == "__main__":
    main()
