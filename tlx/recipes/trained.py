"""A trained run: its checkpoint and all that is needed to apply it, opened from the run directory."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlx.adapters.model import LoraModel
from tlx.errors import TlxError, listed
from tlx.modalities.api import Columns, Modality
from tlx.models.forward import ModelState, Variables, abstract_variables
from tlx.models.heads import Head
from tlx.models.model import Model, dummy_inputs
from tlx.parallel.layout import make_layout
from tlx.recipes.inputs import open_inputs
from tlx.recipes.model import adapted, describe_model
from tlx.recipes.run_directory import heads_from, read_run
from tlx.training.checkpoint import Checkpoints
from tlx.training.fallback import read_best


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
