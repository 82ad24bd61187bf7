"""A run directory: the files that are written before training, and the trained model that is loaded from it."""

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

from tlx.adapters.model import LoraModel
from tlx.errors import TRACEBACK, TlxError, listed
from tlx.files.atomic import atomic_write, writable
from tlx.files.lock import Lock, acquire_lock
from tlx.files.strict_json import read_json
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
from tlx.training.fallback import read_best

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


@dataclasses.dataclass(frozen=True)
class Trained:
    """The trained model of a finished or stopped run.

    Attributes:
      model: the module with its heads.
      params: the parameters of the best checkpoint, averaged if the run averages.
      inputs: the modality, with the tokenizer or image processor.
      pretrained: folder with the config and tokenizer or image processor of the run's checkpoint.
      step: the step of the checkpoint.
      config: the run's config as plain values.
      model_state: the model's mutable collections; {} for most models.
    """

    model: Model
    params: Any
    inputs: Modality
    pretrained: Path
    step: int
    config: dict[str, Any]
    model_state: ModelState = dataclasses.field(default_factory=dict)

    @property
    def variables(self) -> Variables:
        """The parameters and the model state."""
        return Variables(self.params, self.model_state)

    @property
    def heads(self) -> dict[str, Head]:
        """The heads by name: `default`, or those of the run's tasks."""
        return dict(self.model.heads_by_name)

    @property
    def head(self) -> Head:
        """The head `default`, which predicts.

        Raises:
          TlxError: if the run has several tasks.
        """
        if "default" not in self.heads:
            raise TlxError(f"the run has the tasks {listed(self.heads)}; name one with --task.")
        return self.heads["default"]

    @property
    def kind(self) -> str:
        """The kind of the heads, as far as it decides how inputs are read.

        Raises:
          TlxError: if tasks read their inputs in several ways, such as words and texts.
        """
        kinds = [head.kind for head in self.heads.values()]
        ways = {
            "tagging": "words", "question_answering": "questions with contexts", "masked_lm": "texts with masks",
        }  # fmt: skip
        if len(found := {ways.get(kind, "texts") for kind in kinds}) > 1:
            inputs = " and some ".join(sorted(found, key=[*ways.values(), "texts"].index))
            raise TlxError(f"of the tasks {listed(self.heads)} some read {inputs}; name one with --task.")
        return kinds[0]

    @property
    def columns(self) -> Columns:
        """The columns of the run's data.

        Raises:
          TlxError: if the inputs of its tasks are in different columns.
        """
        datas = [{**self.config["data"], **(task.get("data") or {})} for task in self.tasks.values()]
        columns = [Columns.of(self.inputs, data) for data in datas or [self.config["data"]]]
        if any(one.inputs != columns[0].inputs for one in columns):
            raise TlxError(f"the tasks {listed(self.heads)} read different columns; name one with --task.")
        return columns[0]

    @property
    def tasks(self) -> dict[str, Any]:
        """The content of `config.tasks`, of the tasks that the run has; {} if its task has no name."""
        tasks, alone = self.config.get("tasks") or {}, self.config.get("single_task")
        return {alone: tasks[alone]} if alone else tasks

    def model_of(self, task: str) -> Model:
        """The model that predicts a task: if each task has an adapter, with the task's own alone."""
        if isinstance(self.model, LoraModel) and self.model.by_row:
            return self.model.clone(active=(task,), by_row=False)
        return self.model

    def of_task(self, name: str) -> "Trained":
        """The run as if it had been one of this task alone: its head is called `default`.

        Raises:
          TlxError: if the run has no such task.
        """
        if name not in self.tasks:
            raise TlxError(f"the run has no task {name!r}; it has {listed(self.tasks or ['one, without a name'])}.")
        model = self.model_of(name).clone(heads_by_name=(("default", self.heads[name]),))
        params = {**self.params, "heads": {"default": self.params["heads"][name]}}
        params.pop("aux", None)
        return dataclasses.replace(self, model=model, params=params, config=config_of_task(self.config, name))


def config_of_task(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns a run's config with the fields that a task sets, and without tasks."""
    given = config["tasks"][name]
    own = {key: {**config[key], **(given.get(key) or {})} for key in ("data", "head", "loss")}
    if config.get("lora", {}).get("per_task"):
        own["lora"] = {**config["lora"], "name": name, "per_task": False}
    return {**{key: value for key, value in config.items() if key not in ("tasks", "single_task")}, **own}


def written_of_task(
    written: Mapping[str, Any], summary: Mapping[str, Any] | None, name: str, step: int
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Returns the content of a run's `config.json` and `summary.json` as far as it concerns one of its tasks.

    The metrics are those of the task's best checkpoint if `step` is its step, else those of the run's.
    """
    config = {
        **written,
        "config": config_of_task(written["config"], name),
        "heads": {"default": written["heads"][name]},
    }
    if summary is None:
        return config, None
    own, prefix = summary.get("best_by_task", {}).get(name, {}), f"{name}/"
    chosen = dict(summary)
    if own.get("step") == step:
        selection = f"step {step}: the best {own['by']} of the run's evaluations"
        chosen |= {"metrics": own["metrics"], "selection": selection}
    metrics = {key.removeprefix(prefix): value for key, value in chosen["metrics"].items() if key.startswith(prefix)}
    return config, {**chosen, **summary.get("tasks", {}).get(name, {}), "metrics": metrics}


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


def load_run(run: Path, step: int | None = None) -> Trained:
    """Loads the best checkpoint of a run directory. The run's data is not needed.

    Args:
      run: the run directory.
      step: another step that has a checkpoint; None: the best.

    Raises:
      TlxError: if the folder is not a run directory, has no such checkpoint, the checkpoint is damaged (the message
        names the steps that are whole), or the backbone is a custom module.
    """
    written = read_run(run)
    config = written["config"]
    if written.get("backbone"):
        raise TlxError(
            f"the backbone of {run} is {written['backbone']}, a custom module; open the run in its script, with "
            "finetune.build(config, workdir, backbone=…).best()."
        )
    model = adapted(describe_model(run / "pretrained", config["model"], heads_from(written["heads"])), config)
    if not (run / "checkpoints").is_dir():
        raise TlxError(f"{run} holds no checkpoint yet.")
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        shapes = abstract_variables(model, lambda: dummy_inputs(model))
        step, variables = read_best(checkpoints, make_layout(1).abstract(shapes), step)
    inputs, pretrained = open_inputs(run / "pretrained", config), run / "pretrained"
    return Trained(model, variables.params, inputs, pretrained, step, config, variables.model_state)


def heads_as_json(heads: Mapping[str, Head]) -> dict[str, Any]:
    """Returns heads by name as plain values, as they are written to `config.json`."""
    return {name: dataclasses.asdict(head) for name, head in heads.items()}


def heads_from(written: Mapping[str, Any]) -> dict[str, Head]:
    """Returns the heads from plain values, the inverse of `heads_as_json`."""
    return {
        name: Head(**{key: tuple(value) if isinstance(value, list) else value for key, value in head.items()})  # type: ignore[arg-type]
        for name, head in written.items()
    }
