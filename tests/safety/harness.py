"""Disturbs runs at random: kills, signals, damaged checkpoints, full disks; nothing may be lost, and every run must end
with the bits of an undisturbed one.

    python -m tests.safety.harness --minutes 0.5 --seed 1     # some trials
    python -m tests.safety.harness --place runs/safety        # the long form: 500 trials; the same command goes on

A trial is a function of the seed and of its number, so a failure can be tried again (--only NUMBER). Results are
appended to results.jsonl in --place. --write puts the figures into docs/safety.md.
"""

import argparse
import collections
import dataclasses
import fcntl
import json
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.safety import process, shim
from tests.safety.bench import KINDS, Bench, Kind

ROOT = Path(__file__).parents[2]
TRIALS = {"kill": 70, "kill at a write": 190, "signal": 60, "damage": 140, "full disk": 40}  # of the long form
TITLES = {
    "kill": "SIGKILL at a random moment", "kill at a write": "SIGKILL before, during or after a change on disk",
    "signal": "SIGTERM, SIGINT, also twice", "damage": "damaged checkpoint, four commands each",
    "full disk": "writing fails (no space, quota, I/O error, read-only)",
}  # fmt: skip


def function_of(trial: str) -> Callable[..., Any]:
    """The function that makes a kind of trial."""
    from tests.safety import damaged, trials

    return {
        "kill": trials.kill_at_moment, "kill at a write": trials.kill_at_write, "signal": trials.signalled,
        "damage": damaged.damaged, "full disk": trials.full_disk,
    }[trial]  # fmt: skip


def plan(seed: int, chosen: Sequence[str], kinds: Sequence[str]) -> list[tuple[str, Kind]]:
    """The trials of the long form in a random order, each with its kind of run; one in six has two processes."""
    chance = random.Random(seed)
    order = [trial for trial, count in TRIALS.items() if trial in chosen for _ in range(count)]
    chance.shuffle(order)
    numbers: collections.Counter[str] = collections.Counter()
    planned = []
    for trial in order:
        numbers[trial] += 1
        turn = numbers[trial] - 1
        processes = 2 if turn % 6 == 5 and trial != "damage" else 1
        planned.append((trial, Kind(kinds[(turn + turn // len(kinds)) % len(kinds)], processes)))
    return planned


def run_trials(bench: Bench, numbers: Sequence[int], options: argparse.Namespace, worker: int) -> None:
    """Makes trials until their end or that of the time, and appends the results to the file."""
    from tests.safety.trials import clean

    planned = plan(options.seed, options.trials, options.kinds)
    folder = bench.place / f"trial{worker}"
    for number in numbers:
        if time.monotonic() > options.until:
            break
        trial, kind = planned[number]
        began = time.monotonic()
        clean(folder)
        try:
            outcome = dataclasses.asdict(
                function_of(trial)(bench, kind, folder, random.Random(f"{options.seed}/{number}"))
            )
        except Exception:
            outcome = {"did": "", "hit": True, "wrong": [f"the harness failed: {traceback.format_exc()}"], "codes": []}
        row = {
            "seed": options.seed, "number": number, "trial": trial, "kind": kind.name, "processes": kind.processes,
            **outcome, "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip
        with options.results.open("a") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            opened.write(json.dumps(row) + "\n")
        verdict = "WRONG" if row["wrong"] else "right" if row["hit"] else "not hit"
        print(f"{number:4} {row['seconds']:5.1f} s  {verdict}  {trial}, {kind}: {row['did']}", flush=True)
        for wrong in row["wrong"]:
            print(f"     {wrong}", flush=True)
        if row["wrong"] and options.stop:
            break


def summary(results: Sequence[dict[str, Any]]) -> str:
    """A Markdown table of results, and how many of the long form they are. Of a trial that was made again the last
    result counts, and a sentence says how many were wrong before."""
    from tlx.reporting.tables import markdown

    rows = last(results)
    corrected = {(row["seed"], row["number"]) for row in results if row["wrong"] and row not in rows}
    table = []
    for trial, title in TITLES.items():
        some = [row for row in rows if row["trial"] == trial and row["hit"]]
        kinds = collections.Counter(f"{row['kind']}{' ×2' * (row['processes'] > 1)}" for row in some)
        wrong = sum(bool(row["wrong"]) for row in some)
        spread = ", ".join(f"{name} {count}" for name, count in sorted(kinds.items()))
        table.append((title, str(len(some)), str(wrong), spread))
    made = f"\n{len(rows)} of the {sum(TRIALS.values())} trials of the long form were made."
    missed = sum(not row["hit"] for row in rows)
    rest = f" In {missed} of them the run had ended before the disturbance came." if missed else ""
    again = f" {len(corrected)} were wrong at first and were made again after a correction." if corrected else ""
    return markdown(("disturbance", "trials", "wrong", "runs"), table) + made + rest + again + "\n"


def last(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last result of each trial."""
    return list({(row["seed"], row["number"]): row for row in results}.values())


def read_results(file: Path) -> list[dict[str, Any]]:
    """The results that a file holds."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no trial after so many minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trials", nargs="+", choices=list(TRIALS), default=list(TRIALS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--jobs", type=int, default=1, help="trials at the same time")
    parser.add_argument(
        "--only",
        type=int,
        nargs="+",
        help="numbers of trials, also if there are results of them, which the new ones replace in the table",
    )
    parser.add_argument("--plant", help="a fault of tests/safety/faults.py, which the harness must find")
    parser.add_argument("--stop", action="store_true", help="stop when something went wrong")
    parser.add_argument("--place", type=Path, help="folder for everything; default: a temporary one")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/safety.md")
    options = parser.parse_args()
    options.until = time.monotonic() + 60 * options.minutes
    if options.place is None:
        options.place = Path(os.environ.get("TLX_SAFETY_PLACE") or tempfile.mkdtemp(prefix="tlx-safety-"))
        os.environ["TLX_SAFETY_PLACE"] = str(options.place)  # this process is started anew with the library
    options.place = options.place.absolute()
    options.place.mkdir(parents=True, exist_ok=True)
    options.results = options.place / "results.jsonl"
    return options


def main() -> None:
    """Makes the trials; the exit code is 1 if one went wrong."""
    options = arguments()
    shim.preload(options.place, process.ENVIRONMENT)
    process.prepare(options.place)
    bench = Bench(options.place)
    bench.write_inputs()
    process.import_all(bench.modules())
    if options.plant:
        from tests.safety.faults import FAULTS

        fault = FAULTS[options.plant]
        if fault.everywhere:
            fault.plant()
        else:
            bench.plant = fault.plant
        process.check_threads()
    done = {(row["seed"], row["number"]) for row in read_results(options.results)}
    planned = plan(options.seed, options.trials, options.kinds)
    numbers = [number for number in range(len(planned)) if (options.seed, number) not in done]
    numbers = options.only or numbers
    workers = []
    for worker in range(options.jobs):
        pid = os.fork() if options.jobs > 1 else 0
        if not pid:
            run_trials(bench, numbers[worker :: options.jobs], options, worker)
            if options.jobs > 1:
                os._exit(0)
        workers.append(pid)
    for pid in filter(None, workers):
        os.waitpid(pid, 0)
    rows = read_results(options.results)
    table = summary(rows)
    print(f"\n{table}")
    if options.write:
        from tlx.reporting.tables import insert

        insert(ROOT / "docs" / "safety.md", "harness", table)
    sys.exit(any(row["wrong"] for row in last(rows)))


if __name__ == "__main__":
    main()
