"""Two or more processes that take turns of a few steps each, so that machine load affects all alike.

Each is a script that ends in `process.answer_turns`.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from tlx.errors import TlxError

TURN = 2.0  # seconds of a turn, which has at least three steps


def take_turns(commands: Mapping[str, Sequence[str]], turns: int) -> dict[str, dict[str, Any]]:
    """Returns for each process what it says of itself, `milliseconds` of a step in each turn, and `peak` bytes.

    Args:
      commands: the words of each process's command, by name.
      turns: the number of turns.
    """
    running = {
        name: subprocess.Popen(list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name, command in commands.items()
    }
    found = {name: answer(process) for name, process in running.items()}
    count = {name: max(3, round(TURN / ask(process, 2) * 2)) for name, process in running.items()}
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(turns):
        for name, process in running.items():
            seconds[name].append(ask(process, count[name]) / count[name])
    for name, process in running.items():
        assert process.stdin is not None
        process.stdin.close()
        found[name] |= {"milliseconds": [1e3 * each for each in seconds[name]], "peak": answer(process)["peak"]}
        process.wait()
    return found


def ask(process: Any, steps: int) -> float:
    """Runs so many steps in a process and returns the seconds."""
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    return float(answer(process)["seconds"])


def answer(process: Any) -> dict[str, Any]:
    """The next JSON line of a process."""
    for line in process.stdout:
        if line.startswith("{"):
            return dict(json.loads(line))
    raise TlxError(f"{' '.join(process.args)} ended without output; run it by hand to see why.")
