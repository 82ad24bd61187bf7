"""Trials of damaged checkpoints: the run goes on, and it is predicted with, evaluated and exported.

What a command does must be right: it gives what it gives from the whole checkpoint of the step that it names, or it
refuses in one sentence that names the damage. A run that goes on ends as an undisturbed one does.
"""

import functools
import hashlib
import random
import re
import shutil
from pathlib import Path

from tests.safety.bench import Bench, Kind
from tests.safety.config import STEPS
from tests.safety.damage import DAMAGES
from tests.safety.process import Process, end
from tests.safety.shim import Target
from tests.safety.trials import Outcome, go_on, look_at

READERS = ("predict", "evaluate", "export")
USED = re.compile(r"step (\d+), (?:its best|as --step says)")
REFUSED = re.compile(r"\btlx: .*(damaged|cannot be read|holds no checkpoint)")
TABLE = re.compile(r"^[│┃].*|^\w+: \d+ examples.*", re.MULTILINE)
NOTICED = re.compile(r"is damaged|was renamed")
# What a run sets aside, and what no command reads: the state of a step that is not the newest.
SET_ASIDE = r"^left over: checkpoints/\d+\.(damaged|without-best)"


def read(bench: Bench, command: str, run: Path, step: int | None = None, whole: bool = False) -> tuple[Process, str]:
    """Runs a command that reads a run, without a planted fault if `whole`; returns it, and a digest of the result."""
    out = run.with_name("exported" if command == "export" else "predicted.csv")
    shutil.rmtree(out, ignore_errors=True)
    if out.is_file():
        out.unlink()
    printed = run.with_name(f"{command}.printed")
    printed.unlink(missing_ok=True)
    words = ["tlx", command, str(run), *(["--step", str(step)] if step is not None else [])]
    if command == "predict":
        words += ["--input", str(bench.place / "reviews.csv"), "--output", str(out)]
    elif command == "export":
        words += ["--to", str(out)]
    process = Process(words, printed, (lambda: None) if whole else bench.plant)
    end([process])
    if command == "evaluate":
        lines = TABLE.findall(process.printed)  # and not what libraries say about, say, the cache of compiled programs
        return process, hashlib.sha256("\n".join(lines).encode()).hexdigest()
    files = sorted(file for file in out.rglob("*") if file.is_file()) if out.is_dir() else [out] * out.is_file()
    return process, hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


@functools.cache
def base(bench: Bench, kind: Kind, finished: bool) -> Path:
    """A run with whole checkpoints: a finished one, or one that was killed when step 6 was saved."""
    folder = bench.place / "bases" / f"{kind.name}-{kind.processes}-{'finished' if finished else 'stopped'}"
    if not (folder / "made").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if finished:
            shutil.copytree(bench.reference(kind).run, folder / "run")
        else:
            killed = {0: Target("rename", f"checkpoints/{STEPS - 2}", 1, "after")}
            processes = bench.start(kind, folder / "run", killed, whole=True)
            processes[0].wait()
            end(processes, 5)
            for leftover in (folder / "run" / "checkpoints").glob("*tmp*"):
                shutil.rmtree(leftover)
        (folder / "made").touch()
    return folder / "run"


@functools.cache
def right(bench: Bench, kind: Kind, finished: bool, command: str) -> dict[int, str]:
    """What a command gives from the whole run, by step."""
    run = base(bench, kind, finished)
    results = {}
    for step in sorted(int(folder.name) for folder in (run / "checkpoints").iterdir() if folder.name.isdigit()):
        process, results[step] = read(bench, command, run, step, whole=True)
        if process.code:
            raise RuntimeError(f"{command} of the undamaged run failed: {process.printed}")
    return results


def damaged(bench: Bench, kind: Kind, folder: Path, chance: random.Random) -> Outcome:
    """Damages a checkpoint of a finished or stopped run, and gives all commands that read it."""
    finished, name = chance.random() < 0.5, chance.choice(list(DAMAGES))
    whole, run = base(bench, kind, finished), folder / "run"
    steps = sorted(int(folder.name) for folder in (whole / "checkpoints").iterdir() if folder.name.isdigit())
    step = chance.choice(steps)
    shutil.copytree(whole, run)
    what = DAMAGES[name](run / "checkpoints" / str(step), chance).replace(f"{run}/", "")
    outcome = Outcome(f"{name}: {what} ({'finished' if finished else 'stopped'}; steps {steps})", True)
    notes = []
    for command in READERS:
        process, result = read(bench, command, run)
        look_at([process], outcome, run)
        expected = right(bench, kind, finished, command)
        used = USED.search(process.printed)
        if process.code == 0 and used and result == expected.get(int(used[1])):
            notes.append(f"{command}: step {used[1]}")
        elif process.code == 2 and REFUSED.search(process.printed):
            notes.append(f"{command}: refused")
        else:
            outcome.wrong.append(f"{command}, exit code {process.code}: silently wrong, or {process.printed[-800:]}")
    # The run need not have read what is still damaged in the end: the state of a step that is not the newest.
    unread = f"|^checkpoint {step}: " if step != steps[-1] else ""
    go_on(bench, kind, run, outcome, SET_ASIDE + unread)
    noticed = bool(NOTICED.search((folder / "output0").read_text(errors="replace")))
    notes.append(f"training: {'noticed' if noticed else 'right'}")
    outcome.did += "; " + ", ".join(notes)
    return outcome
