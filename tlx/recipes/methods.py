"""The methods by name: a table from `config.method.name` to the function that makes the method."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.methods.api import Method
from tlx.methods.finetune import FineTune
from tlx.modalities.api import Prepare
from tlx.models.model import Model
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten, unflatten
from tlx.recipes.parameters import GroupAssignment
from tlx.training.tasks import DEFAULT, Task


@dataclasses.dataclass(frozen=True)
class MethodInputs:
    """What a method is made from.

    Attributes:
      config: the run's config with the fields of the phase.
      model: a backbone with the heads of all tasks.
      tasks: tasks by name.
      prepare: makes the model's inputs from the rows of a batch, with augmentation.
    """

    config: ConfigDict
    model: Model
    tasks: Mapping[str, Task]
    prepare: Prepare


MakeMethod = Callable[[MethodInputs], Method]


def _finetune(inputs: MethodInputs) -> Method:
    return FineTune(inputs.model, {DEFAULT: "label"}, inputs.prepare, inputs.tasks[DEFAULT].loss)


METHODS: dict[str, MakeMethod] = {"finetune": _finetune}


def make_method(name: str, inputs: MethodInputs, additional: Mapping[str, MakeMethod] | None = None) -> Method:
    """Makes a method by its name.

    Args:
      name: a key of `METHODS` or of `additional`.
      inputs: what the method is made from.
      additional: further methods by name.

    Raises:
      TlxError: if there is no such method, or the method reads a field of `config.method` that is not there.
    """
    known = {**METHODS, **(additional or {})}
    if name not in known:
        raise TlxError(f"config.method.name is {name!r}; tlx has {listed(known)}.")
    try:
        return known[name](inputs)
    except AttributeError as error:  # whose text is the field's name alone where a config lacks it
        field = str(error).strip("'\"").partition("\n")[0]
        if not field.isidentifier() or field in inputs.config.method:
            raise
        raise TlxError(
            f"the method {name!r} reads config.method.{field}, which the config does not have; set it in the config "
            "file."
        ) from error


class AuxParams:
    """The parameters at `aux/` of all methods of a run. Two methods share a parameter if it has the same path.

    Attributes:
      shapes: the parameters as `jax.ShapeDtypeStruct`s; {} if there are none.
      paths: their paths from the root, `aux/…`.
    """

    def __init__(self, methods: Mapping[str, Method], seed: int, params: Any):
        model = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
        self._init = {
            name: functools.partial(method.init, jax.random.key(seed), model) for name, method in methods.items()
        }
        self._paths_of = {name: {f"aux/{path}" for path in flatten(self._shapes(name))} for name in methods}
        self.shapes = unflatten({path: leaf for name in methods for path, leaf in flatten(self._shapes(name)).items()})
        self.paths = {path for paths in self._paths_of.values() for path in paths}

    def _shapes(self, name: str) -> Any:
        return jax.eval_shape(self._init[name])[0]

    def init(self, params: Any) -> Any:
        """Returns the model's parameters with those of all methods, initialized with the run's seed. To be jitted."""
        aux: dict[str, jax.Array] = {}
        for init in self._init.values():
            aux |= {path: leaf for path, leaf in flatten(init()[0]).items() if path not in aux}
        return {**params, "aux": unflatten(aux)} if aux else params

    def state(self, name: str) -> Any:
        """Returns a method's state before its first step. To be jitted."""
        return self._init[name]()[1]

    def only(self, name: str, assignment: GroupAssignment) -> GroupAssignment:
        """Returns the groups of a phase of this method: parameters that only other methods have are frozen."""
        others = dict.fromkeys(self.paths - self._paths_of[name], FROZEN)
        return dataclasses.replace(assignment, assigned={**assignment.assigned, **others}) if others else assignment
