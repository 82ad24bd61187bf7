"""Studies of short runs that a test makes: commands that keep a ledger of what ran, and training of a tiny BERT."""

import collections
import sys
from pathlib import Path

from tests import tiny
from tlx.studies.plan import Plan, make_plan, write_plan

ARMS, SEEDS = 8, 5
METRIC = "test/accuracy"
BROKEN = ("arm 3", 2)  # ends with an error each time

# A command that notes its begin and its end. It locks a file, so that it sees whether it runs twice at a time.
SCRIPT = """
import fcntl, json, os, random, sys, time
result, arm, seed, ledger, longest = sys.argv[1:]
def note(what):
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{what},{arm},{seed}\\n".encode())
lock = open(f"{ledger}.{arm}.{seed}", "a")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    note("overlap")
    sys.exit("it runs already")
note("begin")
time.sleep(random.uniform(0, float(longest)))
if (arm, seed) == ("arm 3", "2"):
    sys.exit("this run is broken")
with open(result, "w") as file:
    json.dump({"metrics": {"test/accuracy": (7 * int(arm[4:]) + 3 * int(seed)) % 11 / 10}}, file)
note("end")
"""
HEAD = "from tlx.studies.study import Study, Tuning\ndef get_study():\n    return "


def write_study(folder: Path, storage: str | None = None, heartbeat: int = 20, **fields: object) -> Plan:
    """Writes a study file with these fields of `Study`, and its plan.

    Args:
      folder: the study's directory, in which the file is too.
      storage: URL of the storage; None: SQLite.
      heartbeat: seconds between two heartbeats.
      fields: fields of the study; without `config` it is that of the digits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fields = {
        "config": str(Path(__file__).parents[2] / "configs" / "digits.py"),
        "metrics": {METRIC: "maximize"},
    } | fields
    fields.setdefault("name", "made")
    (folder / "study.py").write_text(
        f"{HEAD}Study({', '.join(f'{name}={value!r}' for name, value in fields.items())})\n"
    )
    plan = make_plan(str(folder / "study.py"), folder, False, storage, heartbeat)
    write_plan(plan)
    return plan


def of_commands(
    folder: Path, arms: int = ARMS, seeds: int = SEEDS, longest: float = 0.2, storage: str | None = None, **more: object
) -> Plan:
    """A study of commands that last up to `longest` seconds each."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.py").write_text(SCRIPT)
    words = [sys.executable, "-I", "-S", str(folder / "script.py"), "{result}"]
    rest = ["{seed}", str(folder / "ledger"), str(longest)]
    commands = {f"arm {index}": [*words, f"arm {index}", *rest] for index in range(arms)}
    return write_study(folder, storage, commands=commands, seeds=seeds, **more)  # type: ignore[arg-type]


def of_training(
    folder: Path, storage: str | None = None, heartbeat: int = 20, checkpoint: Path | None = None, **fields: object
) -> Plan:
    """A study of two rates and two seeds of a tiny BERT, which saves often. Without a checkpoint, JAX makes one."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoint or tiny.write_checkpoint(folder / "checkpoint")
    data = tiny.write_reviews(folder / "reviews.csv", 300)
    (folder / "config.py").write_text(
        "from pathlib import Path\nfrom tests import tiny\ndef get_config():\n"
        f"    config = tiny.config(Path({str(checkpoint)!r}), Path({str(data)!r}))\n"
        "    config.train.save_every = '0.3s'\n    return config\n"
    )
    rates = {name: {"optimizer.learning_rate": float(name)} for name in ("3e-3", "1e-3")}
    made = {
        "config": "config.py", "factors": {"rate": rates}, "seeds": 2, "name": "trained",
        "metrics": {METRIC: "maximize", "validation/accuracy": "maximize"},
    }  # fmt: skip
    return write_study(folder, storage, heartbeat, **(made | fields))  # type: ignore[arg-type]


def ledger(plan: Plan) -> dict[str, collections.Counter[tuple[str, int]]]:
    """How often each run began, ended, and found itself running already."""
    found: dict[str, collections.Counter[tuple[str, int]]] = collections.defaultdict(collections.Counter)
    file = plan.workdir / "ledger"
    for line in file.read_text().splitlines() if file.is_file() else []:
        what, arm, seed = line.split(",")
        found[what][arm, int(seed)] += 1
    return found
