"""The methods by name: one table from `config.method.name` to how a method is made for a run."""

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
      config: the run's, with the fields of the phase in place.
      model: a backbone with the heads of all tasks.
      tasks: by name.
      prepare: from a batch's rows to the model's inputs, with augmentation.
    """

    config: ConfigDict
    model: Model
    tasks: Mapping[str, Task]
    prepare: Prepare


MakeMethod = Callable[[MethodInputs], Method]


def _finetune(inputs: MethodInputs) -> Method:
    return FineTune(inputs.model, {DEFAULT: "label"}, inputs.prepare, inputs.tasks[DEFAULT].loss)


METHODS: dict[str, MakeMethod] = {"finetune": _finetune}


def make_method(name: str, inputs: MethodInputs, more: Mapping[str, MakeMethod] | None = None) -> Method:
    """A method by its name. more: methods of a script, by name.

    Raises:
      TlxError: there is no such method.
    """
    known = {**METHODS, **(more or {})}
    if name not in known:
        raise TlxError(f"config.method.name is {name!r}; tlx has {listed(known)}.")
    return known[name](inputs)


class AuxParams:
    """The parameters at `aux/`, of all methods of a run, which share a place by its name.

    Attributes:
      shapes: as `jax.ShapeDtypeStruct`s; {} without any.
      paths: from the root, `aux/…`.
    """

    def __init__(self, methods: Mapping[str, Method], seed: int, params: Any):
        model = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
        self._init = {
            name: functools.partial(method.init, jax.random.key(seed), model) for name, method in methods.items()
        }
        self._of = {name: {f"aux/{path}" for path in flatten(self._shapes(name))} for name in methods}
        self.shapes = unflatten({path: leaf for name in methods for path, leaf in flatten(self._shapes(name)).items()})
        self.paths = {path for paths in self._of.values() for path in paths}

    def _shapes(self, name: str) -> Any:
        return jax.eval_shape(self._init[name])[0]

    def init(self, params: Any) -> Any:
        """The parameters with those of all methods, initialized by the run's seed. To be jitted."""
        aux: dict[str, jax.Array] = {}
        for init in self._init.values():
            aux |= {path: leaf for path, leaf in flatten(init()[0]).items() if path not in aux}
        return {**params, "aux": unflatten(aux)} if aux else params

    def state(self, name: str) -> Any:
        """A method's state before its first step. To be jitted."""
        return self._init[name]()[1]

    def only(self, name: str, assignment: GroupAssignment) -> GroupAssignment:
        """The groups in a phase of this method, in which the parameters of other methods are frozen."""
        others = dict.fromkeys(self.paths - self._of[name], FROZEN)
        return dataclasses.replace(assignment, assigned={**assignment.assigned, **others}) if others else assignment
