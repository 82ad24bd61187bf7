"""Shared by the comparisons: command line, Python of the other software, processes, stored results, tables."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tlx.errors import TlxError
from tlx.recipes.run_directory import write_json
from tlx.reporting.tables import markdown, show
from tlx.studies.statistics import mean_interval

ROOT = Path(__file__).parents[1]
PYTHONS = {"torch": ("TLX_INTEROP_PYTHON", ".venv-interop"), "flax": ("TLX_FLAX_PYTHON", ".venv-flax")}


def arguments(doc: str | None, workdir: str) -> argparse.ArgumentParser:
    """A parser that shows the script's docstring and has --workdir: an absolute path to a folder, which is created."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=_folder, default=workdir)
    return parser


def _folder(name: str) -> Path:
    folder = Path(name).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def given_data(*datasets: str) -> Path:
    """The folder that TLX_DATA names, checked to hold these data sets."""
    folder = Path(os.environ.get("TLX_DATA", ""))
    if missing := [name for name in datasets if not (folder / name).is_dir()]:
        raise TlxError(f"the environment variable TLX_DATA names no folder with {', '.join(missing)}.")
    return folder


def python_of(side: str) -> str:
    """The Python of a side: this one for `tlx`; for `torch` and `flax` the one with that library.

    Raises:
      TlxError: there is no such environment.
    """
    if side == "tlx":
        return sys.executable
    variable, folder = PYTHONS[side]
    python = os.environ.get(variable) or str(ROOT / folder / "bin" / "python")
    if not Path(python).is_file():
        raise TlxError(f"there is no {python}; `make {folder}/.ready` makes it.")
    return python


def run(side: str, script: Path, *words: object, log: Path | None = None, **options: Any) -> str:
    """Runs a script in its own process and returns its output.

    Args:
      side: whose Python runs it.
      script: its file.
      words: its arguments.
      log: a file for stdout and stderr.
      options: passed to `subprocess.run`.

    Raises:
      TlxError: it failed.
    """
    command = [python_of(side), str(script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if log is not None:
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        raise TlxError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def finetuned(folder: Path, fields: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Runs tlx with these fields in its own process (see finetune.py) and returns the results; writes `log.txt`.

    Args:
      folder: of the run; what is in it is removed first.
      fields: fields of the config.
      options: passed to `subprocess.run`.
    """
    shutil.rmtree(folder, ignore_errors=True)  # left by a run that was stopped
    folder.mkdir(parents=True)
    words = (folder, json.dumps(dict(fields)), folder / "found.json")
    run("tlx", ROOT / "benchmarks" / "finetune.py", *words, log=folder / "log.txt", **options)
    return dict(json.loads((folder / "found.json").read_text()))


def found_by(side: str, script: Path, *words: object, **options: Any) -> dict[str, Any]:
    """As `run`, for a script whose last line is JSON; returns the decoded line."""
    return dict(json.loads(run(side, script, *words, **options).splitlines()[-1]))


def kept(file: Path, find: Callable[[], Any]) -> Any:
    """The stored result, if the JSON file exists; otherwise computes and stores it."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, find())
        print(file.stem, file.read_text(), flush=True)
    return json.loads(file.read_text())


def interval(values: Sequence[float]) -> str:
    """The mean of values with its 95 % interval, as cells of tables show it."""
    found = mean_interval(values)
    return f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def publish(
    workdir: Path, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], above: str = "", below: str = ""
) -> None:
    """Prints a table with the text above and below it, and writes it to `table.md`."""
    show(title, header, rows)
    print(above + below)
    parts = [f"{above}\n\n" if above else "", markdown(header, rows), f"\n{below}\n" if below else ""]
    (workdir / "table.md").write_text("".join(parts), encoding="utf-8")


def not_run(left: Sequence[str]) -> str:
    """A sentence that lists the runs for which there was no time."""
    return f" Not run: {'; '.join(left)}." if left else ""
