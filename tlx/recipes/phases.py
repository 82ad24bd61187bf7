"""The phases of a run, from a config: listed in `params.phases`, or a standard sequence named in `params.unfreeze`."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from tlx.errors import TlxError, listed

PARAMS_FIELDS = (
    "rules", "freeze", "trainable", "multipliers", "head_multiplier", "layer_decay", "layer_decay_convention",
    "layer_decay_floor", "discriminative",
)  # fmt: skip
OPTIMIZER_FIELDS = ("learning_rate", "schedule", "warmup_steps", "warmup_fraction")
UNFREEZE_SCHEDULES = ("gradual", "lp_ft", "fine_tune")


@dataclasses.dataclass(frozen=True)
class PhasePlan:
    """A phase as the config describes it.

    Attributes:
      first: number of steps before the phase.
      stop: number of steps after which it ends.
      config: the run's config with the fields that the phase changes.
      own_schedule: whether the phase has its own learning rate schedule, over its own steps.
      begins_method: whether the previous phase has another method.
      selects_anew: whether the checkpoint is selected among those of this phase and later ones.
    """

    first: int
    stop: int
    config: ConfigDict
    own_schedule: bool
    begins_method: bool = False
    selects_anew: bool = False

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.config.method.name)


def plan_phases(config: ConfigDict, blocks: int, steps_per_epoch: int, total: int) -> list[PhasePlan]:
    """Returns the phases of a config: a single phase if the config names none.

    Args:
      config: a fine-tuning config.
      blocks: number of blocks of the backbone.
      steps_per_epoch: number of steps of an epoch.
      total: number of steps of the run.

    Raises:
      TlxError: if phases overlap, start after the run's end, or have unknown fields.
    """
    if config.params.phases and config.params.unfreeze:
        raise TlxError("config.params.phases and config.params.unfreeze both define phases; set one of the two.")
    phases: Sequence[Mapping[str, Any]] = config.params.phases
    if config.params.unfreeze:
        phases = unfreeze_phases(config, blocks)
    after_source = source_phases(config, total / steps_per_epoch)
    if phases and after_source:
        raise TlxError(
            f"the method {config.method.name} begins with config.method.source_fraction of the run on the source, and "
            "config.params defines phases too; set source_fraction to 0, or leave the phases out."
        )
    phases = phases or after_source
    if not phases:
        return [PhasePlan(0, total, config, False)]
    firsts = [round(float(phase.get("start", 0.0)) * steps_per_epoch) for phase in phases]
    if firsts[0] != 0 or any(after <= before for before, after in itertools.pairwise(firsts)):
        starts = listed(f"{phase.get('start', 0.0):g}" for phase in phases)
        raise TlxError(
            f"config.params.phases start at epochs {starts}; the first is 0, each a step or more after the last."
        )
    if firsts[-1] >= total:
        raise TlxError(
            f"the last of {len(phases)} phases starts at step {firsts[-1]}, and the run has {total}; "
            "let config.train.epochs be larger."
        )
    stops = [*firsts[1:], total]
    plans = [
        PhasePlan(first, stop, *_changed(config, phase))
        for first, stop, phase in zip(firsts, stops, phases, strict=True)
    ]
    return plans[:1] + [
        dataclasses.replace(plan, begins_method=plan.method != before.method, selects_anew=bool(after_source))
        for before, plan in itertools.pairwise(plans)
    ]


def source_phases(config: ConfigDict, epochs: float) -> list[dict[str, Any]]:
    """Returns the phases of a method that begins with a model of the source; [] for other methods.

    `config.method.source_fraction` of the run is the method `source_only`. Both phases have the full learning rate
    schedule.

    Args:
      config: the run's config.
      epochs: the length of the run.

    Raises:
      TlxError: if the fraction is not a share.
    """
    fraction = config.method.get("source_fraction", 0.0)
    if not 0 <= fraction < 1:
        raise TlxError(f"config.method.source_fraction is {fraction}; it is at least 0 and below 1.")
    if not fraction:
        return []
    schedule = config.optimizer.schedule
    adapting = {"start": fraction * epochs, "method": config.method.name, "schedule": schedule}
    return [{"method": "source_only", "schedule": schedule}, adapting]


def unfreeze_phases(config: ConfigDict, blocks: int) -> list[dict[str, Any]]:
    """Returns the phases that `config.params.unfreeze` stands for.

    - `gradual:E` first trains only the heads. Every E epochs one more block is trained, from the top down, and at last
      the embeddings (Howard & Ruder 2018, section 3.3).
    - `lp_ft:E` trains only the heads for E epochs and then everything. Both phases have the full learning rate schedule
      (Kumar et al. 2022).
    - `fine_tune:E` is fastai's `fine_tune`. It trains only the heads for E epochs, with a warm-up of almost all of
      these steps. Then everything is trained with half the learning rate, and a hundredth of that at the embeddings.

    Args:
      config: a fine-tuning config.
      blocks: number of blocks of the backbone.

    Raises:
      TlxError: if the name or the number of epochs is invalid.
    """
    name, _, epochs = config.params.unfreeze.partition(":")
    if name not in UNFREEZE_SCHEDULES or not _positive(epochs or "1"):
        known = listed(f"{known}:EPOCHS" for known in UNFREEZE_SCHEDULES)
        raise TlxError(f"config.params.unfreeze is {config.params.unfreeze!r}; it is {known}.")
    phase_epochs = float(epochs or 1)
    if name == "gradual":
        parts = ["heads", *(f"last:{count}" for count in range(1, blocks + 1)), ""]
        return [{"start": index * phase_epochs, "trainable": part} for index, part in enumerate(parts)]
    if name == "lp_ft":
        schedule = config.optimizer.schedule
        return [{"trainable": "heads", "schedule": schedule}, {"start": phase_epochs, "schedule": schedule}]
    rate = config.optimizer.learning_rate
    return [
        {"trainable": "heads", "schedule": "cosine", "warmup_fraction": 0.99},
        {
            "start": phase_epochs, "schedule": "cosine", "warmup_fraction": 0.3, "learning_rate": rate / 2,
            "discriminative": (rate / 200, rate / 2),
        },
    ]  # fmt: skip


def _positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def _changed(config: ConfigDict, phase: Mapping[str, Any]) -> tuple[ConfigDict, bool]:
    """The config with the fields of a phase, and whether the phase has its own learning rate schedule."""
    if unknown := sorted(set(phase) - {"start", "method", *PARAMS_FIELDS, *OPTIMIZER_FIELDS}):
        raise TlxError(
            f"a phase of config.params.phases has no field {listed(unknown)}; it has "
            f"{listed(['start', *PARAMS_FIELDS, *OPTIMIZER_FIELDS, 'method'], most=99)}."
        )
    changed = config.copy_and_resolve_references()
    for name in PARAMS_FIELDS:
        if name in phase:
            changed.params[name] = phase[name]
    changed.method.name = phase.get("method", config.method.name)
    optimizer_fields = [name for name in OPTIMIZER_FIELDS if name in phase]
    for name in optimizer_fields:
        changed.optimizer[name] = phase[name]
    if "warmup_fraction" in optimizer_fields:
        changed.optimizer.warmup_steps = None
    return changed, bool(optimizer_fields)
