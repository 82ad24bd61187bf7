"""What a study file says (base config, factors, design, seeds, metrics, sizes, tuning), and how it is read."""

import copy
import dataclasses
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.recipes import defaults
from tlx.recipes.fields import check_fields

DESIGNS = ("grid", "one_at_a_time", "leave_one_out", "paired")
DIRECTIONS = ("maximize", "minimize")
UNSEEN = {"test", "target_test"}  # splits that no search may see
Changes = Mapping[str, Any]  # values of fields of the config, by their paths, such as `optimizer.learning_rate`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """A search that chooses values of fields for each arm, before the arms are compared over seeds.

    Attributes:
      space: by field, (lowest, highest) or (lowest, highest, "log") of a number, or a list of values.
      trials: number of runs for each arm, the same for all; they have the study's first seed.
      sampler: "random" or "tpe".
    """

    space: Mapping[str, Sequence[Any]]
    trials: int
    sampler: str = "tpe"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A study, as a study file describes it.

    Attributes:
      name: its name.
      config: the base config of `experiments/finetune.py`, `FILE.py[:ARGUMENT]`, relative to the study file; "": the
        default config.
      factors: by factor and level, the fields that the level changes. Names of levels are printed in the tables.
      design: "grid" (all combinations); "one_at_a_time" (the baseline, and each other level alone);
        "leave_one_out" (the last level of each factor, and each factor set to its first level); "paired" (the first
        levels of all factors, the second levels, and so on).
      baseline: the level of each factor in the arm that the others are compared with; the default is its first level,
        for "leave_one_out" its last. For an arm that is a command: {"command": NAME}.
      exclude: combinations that are left out: by factor, a level or several. All factors of an entry must match.
      commands: further arms, by name: words of a command that runs other software (see docs/studies.md).
      seeds: number of seeds (0, 1, …), or the seeds.
      seed_fields: fields of the config that get the seed.
      metrics: "maximize" or "minimize" by the name of the metric; the first is the main metric.
      select: the metric that selects among a search's trials.
      changes: fields that are changed in all arms.
      short: further such fields, for a study without `--full`; `seeds` may be among them.
      full: the same with `--full`.
      tuning: a search for each arm; None: none.
      keep_checkpoints: whether checkpoints of finished trials are kept; predictions and metrics always are.
    """

    name: str
    config: str = ""
    factors: Mapping[str, Mapping[str, Changes]] = dataclasses.field(default_factory=dict)
    design: str = "grid"
    baseline: Mapping[str, str] = dataclasses.field(default_factory=dict)
    exclude: Sequence[Mapping[str, str | Sequence[str]]] = ()
    commands: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    seeds: int | Sequence[int] = 3
    seed_fields: Sequence[str] = ("seed",)
    metrics: Mapping[str, str]
    select: str = "validation/accuracy"
    changes: Changes = dataclasses.field(default_factory=dict)
    short: Changes = dataclasses.field(default_factory=dict)
    full: Changes = dataclasses.field(default_factory=dict)
    tuning: Tuning | None = None
    keep_checkpoints: bool = False

    @property
    def main(self) -> str:
        """The main metric."""
        return next(iter(self.metrics))

    @property
    def every_seed(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else tuple(self.seeds)


def load_study(spec: str, full: bool = False) -> tuple[Study, ConfigDict]:
    """Reads a study file and its base config.

    Args:
      spec: `FILE.py[:ARGUMENT]`; the file has a function `get_study`.
      full: whether the changes of `full` are made, in place of those of `short`.

    Returns:
      The study, in whose `changes` and `seeds` those of `short` or `full` are included, and the base config with these
      changes.
    """
    study = _call(spec, "get_study")
    if not isinstance(study, Study):
        raise TlxError(f"get_study of {spec} returns a {type(study).__name__}, expected a tlx.studies.study.Study.")
    sizes = dict(study.full if full else study.short)
    seeds = sizes.pop("seeds", study.seeds)
    study = dataclasses.replace(study, seeds=seeds, changes={**study.changes, **sizes})
    _check(spec, study)
    base = Path(spec.partition(".py")[0]).parent / study.config
    config = _call(str(base), "get_config") if study.config else defaults.finetune()
    return study, changed(config, study.changes)


def is_unseen(metric: str) -> bool:
    """Returns whether a metric is one of a test set, of any task and by any choice of a checkpoint."""
    return not UNSEEN.isdisjoint(metric.split("/"))


def changed(config: ConfigDict, changes: Changes) -> ConfigDict:
    """Returns a copy of a config with fields changed.

    Raises:
      TlxError: there is no such field, or the value has the wrong type.
    """
    copied = copy.deepcopy(config)  # ConfigDict(config) would share its sections
    for field, value in changes.items():
        section, _, name = field.partition(".")
        try:
            if section == "method" and name:  # its fields are those of the method; the plan checks them
                copied.method[name] = value
            else:
                copied.update_from_flattened_dict({field: value})
        except (KeyError, AttributeError):
            raise TlxError(
                f"the study changes {field!r}, which no config has; tlx/recipes/defaults.py lists the fields."
            ) from None
        except (TypeError, ValueError):
            kind = copied.get_ref(field).get_type().__name__ if "." not in field else "another type"
            raise TlxError(f"the study sets {field} to {value!r}, expected {kind}.") from None
    check_fields(copied)
    return copied


def _check(spec: str, study: Study) -> None:
    levels = {factor: list(options) for factor, options in study.factors.items()}
    if study.design not in DESIGNS:
        raise TlxError(f"{spec}: the design {study.design!r} is none of {listed(DESIGNS)}.")
    if not study.metrics or not set(study.metrics.values()) <= set(DIRECTIONS):
        raise TlxError(f'{spec}: metrics has to give "maximize" or "minimize" by the name of each metric.')
    if not study.every_seed or len(set(study.every_seed)) < len(study.every_seed):
        raise TlxError(f"{spec}: the seeds {study.every_seed} have to be one or more, and different.")
    if empty := [factor for factor, options in levels.items() if not options]:
        raise TlxError(f"{spec}: the factor {empty[0]!r} has no level.")
    for what, chosen in (("baseline", study.baseline), *(("exclude", each) for each in study.exclude)):
        for factor, level in chosen.items():
            if what == "baseline" and factor == "command" and level in study.commands:
                continue
            if factor not in levels:
                raise TlxError(f"{spec}: {what} names the factor {factor!r}; there are {listed(levels)}.")
            for each in [level] if isinstance(level, str) else level:
                if each not in levels[factor]:
                    raise TlxError(f"{spec}: {what} names {each!r} of {factor!r}, which has {listed(levels[factor])}.")
    if study.design == "paired" and len({len(options) for options in levels.values()}) > 1:
        raise TlxError(f"{spec}: the design 'paired' needs the same number of levels in each factor.")
    if study.tuning and study.select not in study.metrics:
        raise TlxError(f"{spec}: metrics has to give the direction of {study.select!r}, which selects tuned values.")
    if study.tuning and is_unseen(study.select):
        raise TlxError(f"{spec}: select is {study.select!r}; tuned values are selected on validation.")
    if study.tuning and (study.tuning.sampler not in ("random", "tpe") or study.tuning.trials < 1):
        raise TlxError(f'{spec}: tuning needs trials above 0 and the sampler "random" or "tpe".')


def _call(spec: str, function: str) -> Any:
    """Calls a function of a Python file, with the argument that follows the file's name, if there is one."""
    stem, _, argument = spec.partition(".py")
    file = Path(f"{stem}.py")
    if not spec.startswith(f"{stem}.py") or not file.is_file():
        raise TlxError(f"there is no file {str(file) if stem != spec else spec!r}; expected FILE.py[:ARGUMENT].")
    found = runpy.run_path(str(file)).get(function)
    if found is None:
        raise TlxError(f"{file} has no function {function}.")
    return found(argument[1:]) if argument else found()
