"""A run directory: the files that are written before training and read by commands (`trained.py` has the model)."""

import dataclasses
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tlx.errors import TRACEBACK, TlxError, listed
from tlx.files.atomic import atomic_write, writable
from tlx.files.lock import Lock, acquire_lock
from tlx.files.strict_json import read_json
from tlx.modalities.api import Modality
from tlx.models.heads import Head
from tlx.recipes import defaults
from tlx.recipes.run_config import read_run_config

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "transformers", "tokenizers", "numpy")


def check_workdir(workdir: str | Path) -> tuple[Path, Lock | None]:
    """Checks that a run directory can be used, before anything is read.

    Args:
      workdir: the run directory; it need not exist.

    Returns:
      The absolute path, and a lock on the directory if it exists.

    Raises:
      TlxError: if the path is empty, not a folder or not writable, or if another process uses it.
    """
    if not str(workdir).strip():
        raise TlxError("the run directory (workdir) has no name.")
    run = Path(workdir).absolute()
    with writable(run):
        if run.is_dir():
            return run, acquire_lock(run)
        parent = next(path for path in (run, *run.parents) if path.exists())
        if not parent.is_dir():
            raise TlxError(f"the run directory {run} cannot be made: {parent} is no folder.")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise TlxError(f"the run directory {run} cannot be made: the folder {parent} cannot be written.")
    return run, None


def remove_traceback(run: Path) -> None:
    """Removes the traceback of an earlier start, which does not concern this one."""
    with writable(run):
        (run / TRACEBACK).unlink(missing_ok=True)


# Defaults that earlier versions wrote for fields whose default is None today. The two mean the same.
EARLIER = {
    "config.optimizer.b1": 0.9, "config.optimizer.b2": 0.999, "config.optimizer.eps": 1e-8,
    "config.optimizer.momentum": 0.9, "config.optimizer.power": 1.0, "config.optimizer.final_fraction": 0.0,
}  # fmt: skip

# Fields that decide no number of a run, and may be others when it goes on.
CHANGEABLE = (
    "config.resume", "config.parallel.", "config.train.save_every", "config.train.keep", "config.data.cache",
    "config.baselines",
)  # fmt: skip


def open_run(
    run: Path, config: Mapping[str, Any], facts: Mapping[str, Any], checkpoint: Path, inputs: Modality
) -> None:
    """Writes the files of a new run, or checks that an existing run has the same config and data.

    A new run directory gets `config.json` and a folder `pretrained` with the checkpoint's config and its tokenizer or
    image processor.

    Args:
      run: the run directory.
      config: the run's config.
      facts: further keys of `config.json`: heads, facts about the data, name of a custom backbone.
      checkpoint: the checkpoint's folder.
      inputs: the modality, which saves the tokenizer or image processor.

    Raises:
      TlxError: if the existing run has another config or data, or if `config.resume` is "never".
    """
    file = run / "config.json"
    content = json.loads(json.dumps({"config": config, **facts}))
    if file.is_file():
        written = read_run(run)
        before = {name: written.get(name) for name in content}
        differing = {name for name, _ in _leaves(content).items() ^ _leaves(before).items()}
        changed = sorted(differing - _compatible(content, before))
        if changed := [name for name in changed if not name.startswith(CHANGEABLE)]:
            raise TlxError(
                f"{run} was begun with another config or other data (differing: {listed(changed)}); "
                "go on with the same, or name a new workdir."
            )
        if config["resume"] == "never":
            raise TlxError(f"{run} holds a run already, and config.resume is 'never'; name a new workdir.")
        return
    (run / "pretrained").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(checkpoint / "config.json", run / "pretrained" / "config.json")
    inputs.save(run / "pretrained")
    write_json(file, {**content, "versions": versions(), "revision": revision()})


def _compatible(now: Mapping[str, Any], before: Mapping[str, Any]) -> set[str]:
    """Names that differ only because an earlier version of tlx wrote the run.

    These are facts that are new, fields of the config that are new and have their defaults, and `EARLIER`.
    """
    default_values = _leaves({"config": json.loads(json.dumps(defaults.multitask().to_dict()))})
    written = _leaves(before)
    new = {
        name
        for name, value in _leaves(now).items()
        if name not in written and (not name.startswith("config.") or default_values.get(name) == value)
    }
    return new | {
        name
        for name, value in EARLIER.items()
        if written.get(name) == json.dumps(value) and _leaves(now).get(name) == "null"
    }


def write_json(file: Path, content: Any) -> None:
    """Writes JSON; if writing fails, no partial file is left."""
    with atomic_write(file) as opened:
        opened.write(json.dumps(content, indent=2) + "\n")


def versions() -> dict[str, str]:
    """Returns the versions of Python, tlx and the packages that affect results."""
    return {"python": platform.python_version(), "tlx": version("tlx"), **{name: version(name) for name in PACKAGES}}


def revision() -> str | None:
    """Returns the git revision of the code, with `-dirty` if files differ from it; None outside a git checkout."""
    described = _git("describe", "--always", "--abbrev=12")
    changed = _git("status", "--porcelain", "--untracked-files=no") if described else None
    return f"{described}-dirty" if changed else described or None


def _git(*command: str) -> str | None:
    """The output of a git command, which must not change the checkout (`describe --dirty` would rewrite the index)."""
    command_line = ["git", "--no-optional-locks", *command]
    try:
        result = subprocess.run(command_line, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The values of nested mappings as JSON text, by their keys joined by dots."""
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _leaves(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value)
    return flat


def read_run(run: Path) -> dict[str, Any]:
    """Reads a run's `config.json`.

    Raises:
      TlxError: if the file is missing or invalid.
    """
    file = run / "config.json"
    if not file.is_file():
        raise TlxError(f"{run} is no run directory: it holds no config.json.")
    return read_run_config(file)


def read_summary(run: Path) -> dict[str, Any] | None:
    """Reads a run's `summary.json`; None if the run has not finished."""
    file = run / "summary.json"
    return read_json(file, "summary of a run", finite=False) if file.is_file() else None


def heads_as_json(heads: Mapping[str, Head]) -> dict[str, Any]:
    """Returns heads by name as plain values, as they are written to `config.json`."""
    return {name: dataclasses.asdict(head) for name, head in heads.items()}


def heads_from(written: Mapping[str, Any]) -> dict[str, Head]:
    """Returns the heads from plain values, the inverse of `heads_as_json`."""
    return {
        name: Head(**{key: tuple(value) if isinstance(value, list) else value for key, value in head.items()})  # type: ignore[arg-type]
        for name, head in written.items()
    }
