"""Runs the cases and prints what became of each: `python -m tests.hostile.run [PART OF A NAME …]`."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from re import search

from tests.hostile import checkpoint_cases, data_cases, run_cases  # noqa: F401 - each adds its cases
from tests.hostile.cases import CASES, Case
from tests.hostile.limits import BYTES, SECONDS, Outcome, watched
from tests.hostile.place import SCRIPT, Place


def faults(case: Case, found: Outcome, place: Place) -> list[str]:
    """What went wrong: [] where the command ended in a sentence, or did its work, within its limits."""
    card = place.here / "export" / "README.md"
    checks = {
        "it was ended for its time or memory": found.code is None,
        f"more than {SECONDS:.0f} s of computing": found.computed > SECONDS,
        "a traceback": found.traceback,
        f"more than {BYTES / 2**30:.0f} GB": found.peak > BYTES,
        "something was executed or imported": place.executed,
        "no sentence of tlx": found.code not in (0, None) and not found.said.startswith("tlx: "),
        "another sentence": case.says is not None and not search(case.says, found.said),
        "the card holds a script": card.is_file() and SCRIPT in card.read_text(),
    }
    return [name for name, wrong in checks.items() if wrong]


def outcome(case: Case, place: Place, seconds: float = SECONDS) -> tuple[list[str], Outcome, list[str]]:
    """The command of a case, what happened, and what of it is wrong; the case's files are taken away."""
    arguments = case.make(place.begin(case.name.replace(" ", "_")))
    found = watched(arguments, place.here, seconds)
    wrong = faults(case, found, place)
    shutil.rmtree(place.here)
    return arguments, found, wrong


def main() -> None:
    """The table, and the exit code 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of cases; none: all")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that a command may take")
    given = parser.parse_args()
    cases = [case for case in CASES if not given.names or any(name in case.name for name in given.names)]
    bad = 0
    print(
        "| case | command | what happened | seconds | computing | peak MB |\n| --- | --- | --- | ---: | ---: | ---: |"
    )
    with tempfile.TemporaryDirectory(prefix="tlx-hostile-") as root:
        place = Place(Path(root))
        for case in cases:
            arguments, found, wrong = outcome(case, place, given.seconds)
            bad += bool(wrong)
            said = found.said.replace(root, "…").replace("|", "\\|")[:300]
            told = f"WRONG: {', '.join(wrong)}: {said}" if wrong else said
            command = Path(arguments[0]).stem
            figures = f"{found.seconds:.1f} | {found.computed:.1f} | {found.peak / 1e6:.0f}"
            print(f"| {case.name} | {command} | {told} | {figures} |", flush=True)
    print(f"\n{len(cases)} cases, {bad} wrong.")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
