"""A run directory: what it holds before training, and a trained model from it afterwards."""

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

from tlx.errors import TlxError, listed
from tlx.files.lock import Lock, hold
from tlx.files.strict_json import read_json
from tlx.files.whole import whole, writable
from tlx.modalities.api import Columns, Modality
from tlx.models.forward import ModelState, Variables, abstract_variables
from tlx.models.heads import Head
from tlx.models.model import Model, dummy_inputs
from tlx.parallel.layout import make_layout
from tlx.recipes import defaults
from tlx.recipes.inputs import open_inputs
from tlx.recipes.model import adapted, describe_model
from tlx.recipes.run_config import read_run_config
from tlx.training.checkpoint import Checkpoints

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "transformers", "tokenizers", "numpy")


def look_at(workdir: str | Path) -> tuple[Path, Lock | None]:
    """A run directory's absolute path, and the lock on it if it is there: before any work, so that what stands against
    it is said at once.

    Raises:
      TlxError: it has no name, is no folder, cannot be written, or another process uses it.
    """
    if not str(workdir).strip():
        raise TlxError("the run directory (workdir) has no name.")
    run = Path(workdir).absolute()
    with writable(run):
        if run.is_dir():
            return run, hold(run)
        there = next(place for place in (run, *run.parents) if place.exists())
        if not there.is_dir():
            raise TlxError(f"the run directory {run} cannot be made: {there} is no folder.")
        if not os.access(there, os.W_OK | os.X_OK):
            raise TlxError(f"the run directory {run} cannot be made: the folder {there} cannot be written.")
    return run, None


# What earlier versions wrote as the default of a field that is None today, which means the same.
EARLIER = {
    "config.optimizer.b1": 0.9, "config.optimizer.b2": 0.999, "config.optimizer.eps": 1e-8,
    "config.optimizer.momentum": 0.9, "config.optimizer.power": 1.0, "config.optimizer.final_fraction": 0.0,
}  # fmt: skip


def open_run(
    run: Path, config: Mapping[str, Any], facts: Mapping[str, Any], checkpoint: Path, inputs: Modality
) -> None:
    """Writes `config.json`, the checkpoint's config and what reads its inputs; or checks that the run began so."""
    file = run / "config.json"
    plain = json.loads(json.dumps({"config": config, **facts}))
    if file.is_file():
        before = read_run(run)
        same = {name: before.get(name) for name in plain}
        changed = sorted({name for name, _ in _leaves(plain).items() ^ _leaves(same).items()} - _new(plain, same))
        if changed := [name for name in changed if name != "config.resume" and not name.startswith("config.parallel.")]:
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
    write_json(file, {**plain, "versions": versions(), "revision": revision()})


def _new(now: Mapping[str, Any], before: Mapping[str, Any]) -> set[str]:
    """What a run that an earlier version of tlx began has written otherwise, and what is no difference: facts and
    fields of the config that are new and at their defaults, and `EARLIER`."""
    usual = _leaves({"config": json.loads(json.dumps(defaults.finetune().to_dict()))})
    written = _leaves(before)
    new = {
        name
        for name, value in _leaves(now).items()
        if name not in written and (not name.startswith("config.") or usual.get(name) == value)
    }
    return new | {
        name
        for name, value in EARLIER.items()
        if written.get(name) == json.dumps(value) and _leaves(now).get(name) == "null"
    }


def write_json(file: Path, content: Any) -> None:
    """All or nothing."""
    with whole(file) as opened:
        opened.write(json.dumps(content, indent=2) + "\n")


def versions() -> dict[str, str]:
    """Of what decides the numbers."""
    return {"python": platform.python_version(), "tlx": version("tlx"), **{name: version(name) for name in PACKAGES}}


def revision() -> str | None:
    """The git revision of the code, with `-dirty` if files differ from it; None outside a checkout."""
    described = _git("describe", "--always", "--abbrev=12")
    changed = _git("status", "--porcelain", "--untracked-files=no") if described else None
    return f"{described}-dirty" if changed else described or None


def _git(*command: str) -> str | None:
    """What git says of this checkout, which it leaves alone: `describe --dirty` would rewrite its index."""
    asked = ["git", "--no-optional-locks", *command]
    try:
        found = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _leaves(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value)
    return flat


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a finished (or stopped) run has learnt. step: which checkpoint; config: the run's, as plain values."""

    model: Model
    params: Any
    inputs: Modality
    pretrained: Path
    step: int
    config: dict[str, Any]
    model_state: ModelState = dataclasses.field(default_factory=dict)

    @property
    def variables(self) -> Variables:
        """What the model is run with."""
        return Variables(self.params, self.model_state)

    @property
    def head(self) -> Head:
        """Which answers."""
        return dict(self.model.heads_by_name)["default"]

    @property
    def columns(self) -> Columns:
        """Of the run's data."""
        return Columns.of(self.inputs, self.config["data"])


def read_run(run: Path) -> dict[str, Any]:
    """The content of a run's `config.json`."""
    file = run / "config.json"
    if not file.is_file():
        raise TlxError(f"{run} is no run directory: it holds no config.json.")
    return read_run_config(file)


def read_summary(run: Path) -> dict[str, Any] | None:
    """The content of a finished run's `summary.json`; None of one that has not ended."""
    file = run / "summary.json"
    return read_json(file, "summary of a run", finite=False) if file.is_file() else None


def load_run(run: Path) -> Trained:
    """The best checkpoint of a run directory; the data it was trained on is not needed."""
    written = read_run(run)
    config = written["config"]
    if written.get("backbone"):
        raise TlxError(
            f"the backbone of {run} is {written['backbone']}, a module of a script; open the run there, by "
            "finetune.build(config, workdir, backbone=…).best()."
        )
    model = adapted(describe_model(run / "pretrained", config["model"], heads_from(written["heads"])), config)
    if not (run / "checkpoints").is_dir():
        raise TlxError(f"{run} holds no checkpoint yet.")
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        step = checkpoints.best()
        shapes = abstract_variables(model, dummy_inputs(model))
        found = checkpoints.restore_variables(step, make_layout(1).abstract(shapes))
    inputs, pretrained = open_inputs(run / "pretrained", config), run / "pretrained"
    return Trained(model, found.params, inputs, pretrained, step, config, found.model_state)


def heads_as_json(heads: Mapping[str, Head]) -> dict[str, Any]:
    """For `config.json`."""
    return {name: dataclasses.asdict(head) for name, head in heads.items()}


def heads_from(written: Mapping[str, Any]) -> dict[str, Head]:
    """The inverse of `heads_as_json`."""
    return {
        name: Head(**{key: tuple(value) if isinstance(value, list) else value for key, value in head.items()})  # type: ignore[arg-type]
        for name, head in written.items()
    }
