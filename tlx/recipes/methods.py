"""The methods by name: a table from `config.method.name` to the function that makes the method."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.methods.adabn import AdaBn
from tlx.methods.api import Method
from tlx.methods.discrepancy import Dan, DeepCoral, Jan
from tlx.methods.domain_adversarial import Cdan, Dann
from tlx.methods.finetune import FineTune
from tlx.methods.mcd import Mcd
from tlx.methods.target_predictions import EntropyMinimization, Mcc
from tlx.methods.transport import DeepJdot
from tlx.methods.two_domains import TARGET, TwoDomains
from tlx.methods.two_phases import Adda, PseudoLabels, Shot
from tlx.modalities.api import Prepare
from tlx.models.forward import ModelState
from tlx.models.model import Model
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten, unflatten
from tlx.recipes.balanced import BALANCED
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
      sizes: the number of examples of each stream besides those of the tasks.
      model_state: the model's mutable collections; {} for most models.
      sources: the number of rows of each labelled set, if the training data is joined from several; ().
    """

    config: ConfigDict
    model: Model
    tasks: Mapping[str, Task]
    prepare: Prepare
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    model_state: ModelState = dataclasses.field(default_factory=dict)
    sources: tuple[int, ...] = ()


MakeMethod = Callable[[MethodInputs], Method]
Methods = Mapping[str, tuple[MakeMethod, Mapping[str, Any]]]  # {name: (function, its fields of config.method)}


def _finetune(inputs: MethodInputs) -> Method:
    return FineTune(inputs.model, {DEFAULT: "label"}, inputs.prepare, _only_task(inputs).loss)


def _only_task(inputs: MethodInputs) -> Task:
    """The task of a run that has one.

    Raises:
      TlxError: the run has several.
    """
    if DEFAULT in inputs.tasks:
        return inputs.tasks[DEFAULT]
    name = inputs.config.method.name
    raise TlxError(f"config.method.name is {name!r}, which trains one task; of several, take {listed(BALANCED)}.")


# Keyword arguments of a method's class that are no fields of the config, and where they come from.
OF_THE_RUN: dict[str, Callable[[MethodInputs], Any]] = {
    "target_size": lambda inputs: inputs.sizes.get(TARGET, 0),
    "model_state": lambda inputs: inputs.model_state,
    "sources": lambda inputs: inputs.sources,
}


def _adapting(method: type[TwoDomains], **fixed: Any) -> tuple[MakeMethod, Mapping[str, Any]]:
    """The entry of a method of domain adaptation, whose fields of `config.method` are its keyword arguments.

    Args:
      method: its class.
      fixed: values of keyword arguments that are no fields; those of `OF_THE_RUN` are none either.
    """
    parameters = inspect.signature(method).parameters
    of_the_run = [name for name in parameters if name in OF_THE_RUN]
    fields = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in (*fixed, *of_the_run)
    }

    def make(inputs: MethodInputs) -> Method:
        given = {name: inputs.config.method[name] for name in fields}
        given |= {name: OF_THE_RUN[name](inputs) for name in of_the_run}
        return method(inputs.model, inputs.prepare, _only_task(inputs).loss, **given, **fixed)

    return make, fields


# By name, the function that makes the method, and the method's fields of `config.method` with their defaults.
METHODS: dict[str, tuple[MakeMethod, Mapping[str, Any]]] = {
    "finetune": (_finetune, {}),
    "source_only": (_finetune, {}),  # the lower bound of domain adaptation; the target is not read
    "target_trained": (_finetune, {}),  # an upper bound: trained on the labels of data.target (recipes/target.py)
    "dan": _adapting(Dan),
    "jan": _adapting(Jan),
    "deep_coral": _adapting(DeepCoral),
    "deepjdot": _adapting(DeepJdot),
    "dann": _adapting(Dann),
    "cdan": _adapting(Cdan, entropy=False),
    "cdan_e": _adapting(Cdan, entropy=True),
    "mcc": _adapting(Mcc),
    "mcd": _adapting(Mcd),
    "entropy_minimization": _adapting(EntropyMinimization),
    "adabn": _adapting(AdaBn),
    "adda": _adapting(Adda),
    "pseudo_labels": _adapting(PseudoLabels),
    "shot": _adapting(Shot),
    **BALANCED,
}


def with_method_fields(config: ConfigDict, additional: Methods | None = None) -> ConfigDict:
    """Returns a copy of the config in which `config.method` has every field of the run's methods.

    A field that the config does not set gets its default.

    Args:
      config: the run's config, which names a method and perhaps others in `params.phases`.
      additional: further methods by name.

    Raises:
      TlxError: if there is no such method, no method of the run has a field that is set, a value has another type than
        the default, or two methods have different defaults of a field that is not set.
    """
    names = [config.method.name, *(phase["method"] for phase in config.params.phases if "method" in phase)]
    fields: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        for field, default in _entry(name, additional)[1].items():
            if field in fields and fields[field] != default and field not in config.method:
                raise TlxError(f"the methods {listed(names)} have different defaults of config.method.{field}; set it.")
            fields[field] = default
    if unknown := sorted(config.method.keys() - fields.keys() - {"name"}):
        known = f"has {listed(fields, most=99)}" if fields else "has no fields besides name"
        raise TlxError(f"config.method.{unknown[0]} is set, but the method {listed(dict.fromkeys(names))} {known}.")
    config = config.copy_and_resolve_references()
    complete = ConfigDict({**fields, "name": config.method.name})
    for field, value in config.method.items():
        try:
            complete[field] = value
        except TypeError:
            kind = complete.get_type(field).__name__
            raise TlxError(f"config.method.{field} is {value!r}; its type is {kind}.") from None
    config.method = complete
    return config


def make_method(name: str, inputs: MethodInputs, additional: Methods | None = None) -> Method:
    """Makes a method by its name.

    Args:
      name: a key of `METHODS` or of `additional`.
      inputs: what the method is made from.
      additional: further methods by name.

    Raises:
      TlxError: if there is no such method.
    """
    return _entry(name, additional)[0](inputs)


def _entry(name: str, additional: Methods | None) -> tuple[MakeMethod, Mapping[str, Any]]:
    known = {**METHODS, **(additional or {})}
    if name not in known:
        raise TlxError(f"config.method.name is {name!r}; tlx has {listed(known)}.")
    return known[name]


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
