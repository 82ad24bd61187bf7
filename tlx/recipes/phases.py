"""The phases of a run, from a config: listed, or one of the usual courses by name."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from tlx.errors import TlxError, listed

OF_PARAMS = (
    "rules", "freeze", "train", "multipliers", "head_multiplier", "layer_decay", "layer_decay_convention",
    "layer_decay_floor", "discriminative",
)  # fmt: skip
OF_OPTIMIZER = ("learning_rate", "schedule", "warmup_steps", "warmup_fraction")
COURSES = ("gradual", "lp_ft", "fine_tune")


@dataclasses.dataclass(frozen=True)
class PhasePlan:
    """A phase, planned.

    Attributes:
      first: steps before it.
      stop: the step after its last.
      config: the run's, with the phase's fields in place.
      own: whether its learning rate has a schedule of its own, over its own steps.
      begins_method: whether the phase before has another method.
    """

    first: int
    stop: int
    config: ConfigDict
    own: bool
    begins_method: bool = False

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.config.method.name)


def plan_phases(config: ConfigDict, blocks: int, steps_per_epoch: int, total: int) -> list[PhasePlan]:
    """One phase, if the config names none.

    Args:
      config: a fine-tuning config.
      blocks: of the backbone.
      steps_per_epoch, total: of the run.

    Raises:
      TlxError: phases that overlap, begin after the run's end, or have fields that are none.
    """
    if config.params.phases and config.params.unfreeze:
        raise TlxError("config.params.phases and config.params.unfreeze both say what learns when; say one.")
    given: Sequence[Mapping[str, Any]] = config.params.phases
    if config.params.unfreeze:
        given = course(config, blocks)
    if not given:
        return [PhasePlan(0, total, config, False)]
    firsts = [round(float(phase.get("start", 0.0)) * steps_per_epoch) for phase in given]
    if firsts[0] != 0 or any(after <= before for before, after in itertools.pairwise(firsts)):
        starts = listed(f"{phase.get('start', 0.0):g}" for phase in given)
        raise TlxError(
            f"config.params.phases start at epochs {starts}; the first is 0, each a step or more after the last."
        )
    if firsts[-1] >= total:
        raise TlxError(
            f"the last of {len(given)} phases starts at step {firsts[-1]}, and the run has {total}; "
            "let config.train.epochs be larger."
        )
    stops = [*firsts[1:], total]
    plans = [
        PhasePlan(first, stop, *_changed(config, phase))
        for first, stop, phase in zip(firsts, stops, given, strict=True)
    ]
    return plans[:1] + [
        dataclasses.replace(plan, begins_method=plan.method != before.method)
        for before, plan in itertools.pairwise(plans)
    ]


def course(config: ConfigDict, blocks: int) -> list[dict[str, Any]]:
    """What `config.params.unfreeze`, such as `gradual:1`, means, as phases.

    `gradual:E`: the heads alone, then after every E epochs one more block from the top, at last the embeddings (Howard
    & Ruder 2018, section 3.3). `lp_ft:E`: E epochs of the heads alone, then everything, each with a schedule of its
    own (Kumar et al. 2022). `fine_tune:E`: the same after fastai's `fine_tune`: first a rate that rises almost to the
    end, then half the rate, a hundredth of it at the embeddings.
    """
    name, _, epochs = config.params.unfreeze.partition(":")
    if name not in COURSES or not _positive(epochs or "1"):
        known = listed(f"{known}:EPOCHS" for known in COURSES)
        raise TlxError(f"config.params.unfreeze is {config.params.unfreeze!r}; it is {known}.")
    each = float(epochs or 1)
    if name == "gradual":
        parts = ["heads", *(f"last:{count}" for count in range(1, blocks + 1)), ""]
        return [{"start": index * each, "train": part} for index, part in enumerate(parts)]
    if name == "lp_ft":
        schedule = config.optimizer.schedule
        return [{"train": "heads", "schedule": schedule}, {"start": each, "schedule": schedule}]
    rate = config.optimizer.learning_rate
    return [
        {"train": "heads", "schedule": "cosine", "warmup_fraction": 0.99},
        {
            "start": each, "schedule": "cosine", "warmup_fraction": 0.3, "learning_rate": rate / 2,
            "discriminative": (rate / 200, rate / 2),
        },
    ]  # fmt: skip


def _positive(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False


def _changed(config: ConfigDict, phase: Mapping[str, Any]) -> tuple[ConfigDict, bool]:
    """The config in this phase, and whether the phase has a schedule of its own."""
    if unknown := sorted(set(phase) - {"start", "method", *OF_PARAMS, *OF_OPTIMIZER}):
        raise TlxError(
            f"a phase of config.params.phases has no field {listed(unknown)}; it has "
            f"{listed(['start', *OF_PARAMS, *OF_OPTIMIZER, 'method'], most=99)}."
        )
    found = config.copy_and_resolve_references()
    for name in OF_PARAMS:
        if name in phase:
            found.params[name] = phase[name]
    found.method.name = phase.get("method", config.method.name)
    own = [name for name in OF_OPTIMIZER if name in phase]
    for name in own:
        found.optimizer[name] = phase[name]
    if own and "warmup_fraction" in own:
        found.optimizer.warmup_steps = None
    return found, bool(own)
