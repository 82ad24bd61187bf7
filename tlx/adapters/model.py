"""A model with adapters on it, and without them again. linen's interceptors add to what a dense layer answers, so that
no model's file knows of adapters (the idea: gemma's `peft/_interceptors.py`)."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from tlx.adapters.lora import Lora, adapter_of, lora_init, merge, pairs
from tlx.errors import TlxError, listed
from tlx.models.layers import Dropout
from tlx.models.model import Model, ModelOutput
from tlx.params.paths import Tree


class LoraModel(Model):
    """A `Model` whose dense layers answer x W + b + s (x A) B where there is an adapter.

    A B is never formed and W is left as it is: where W is frozen, its gradient is not computed.

    loras: by their names at `adapters/<name>`. active: the names of those applied; None: all.
    """

    loras: tuple[Lora, ...] = ()
    active: tuple[str, ...] | None = None

    def __call__(self, *, deterministic: bool = True, frozen: Collection[str] = (), **inputs: Any) -> ModelOutput:
        """As `Model`; `model.init` draws the adapters too."""
        if self.is_initializing():
            output = super().__call__(deterministic=deterministic, frozen=frozen, **inputs)
            params, key = self.variables["params"], self.make_rng("params")
            self.put_variable("params", "adapters", {lora.name: lora_init(params, lora, key) for lora in self.loras})
            return output
        answering = _Answering(self, deterministic, frozen)
        with nn.intercept_methods(answering):
            output = super().__call__(deterministic=deterministic, frozen=frozen, **inputs)
        if not (inputs.get("start") or inputs.get("stop") is not None):
            answering.check()
        return output

    @nn.nowrap
    def applied(self) -> tuple[Lora, ...]:
        """The active ones."""
        names = [lora.name for lora in self.loras]
        if missing := sorted(set(self.active or ()) - set(names)):
            raise TlxError(f"the model has no adapter {listed(missing)}; it has {listed(names)}.")
        return tuple(lora for lora in self.loras if self.active is None or lora.name in self.active)


class _Answering:
    """The interceptor of one call of the model."""

    def __init__(self, model: LoraModel, deterministic: bool, frozen: Collection[str]):
        adapters: dict[str, Tree] = model.get_variable("params", "adapters", {})
        self.adapters = [(lora, pairs(adapter_of(adapters, lora))) for lora in model.applied()]
        self.root, self.deterministic = model.path, deterministic
        self.frozen = tuple(f"{prefix}/" for prefix in frozen)
        self.reached: set[str] = set()

    def __call__(self, run: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        answer, layer = run(*args, **kwargs), context.module
        if not (isinstance(layer, nn.Dense) and context.method_name == "__call__"):
            return answer
        path = "/".join(layer.path[len(self.root) :])
        module, x = path.removeprefix("backbone/"), args[0] if args else kwargs["inputs"]
        self.reached.add(module)
        still = self.deterministic or f"{path}/".startswith(self.frozen)
        for lora, pair in self.adapters:
            if module in pair:
                dropped = Dropout(lora.dropout, name=f"{lora.name}_dropout")(x, still)
                dropped, a, b = promote_dtype(dropped, *pair[module], dtype=layer.dtype)
                low = jax.numpy.matmul(dropped, a, precision=layer.precision) * lora.scale(a.shape[1])
                answer = answer + jax.numpy.matmul(low, b, precision=layer.precision).astype(answer.dtype)
        return answer

    def check(self) -> None:
        """No adapter went unheard."""
        if left := sorted({module for _, pair in self.adapters for module in pair} - self.reached):
            raise TlxError(
                f"LoRA adapts dense layers (flax.linen.Dense) that the model calls; in the backbone {listed(left, 5)} "
                "is none; leave it out of the targets."
            )


def add_lora(model: Model, params: Tree, lora: Lora, seed: int = 0) -> tuple[LoraModel, Tree]:
    """A model with one adapter more, and its parameters with `adapters/<name>`.

    It answers as before until the adapter is trained. Several adapters may be there; `model.clone(active=("name",))`
    applies some of them.

    Args:
      model, params: as `load_pretrained` gives them, or with adapters.
      lora: the adapter.
      seed: of what is drawn.

    Raises:
      TlxError: the name is taken; targets that match nothing.
    """
    before: Mapping[str, Tree] = params.get("adapters", {})
    if lora.name in before:
        raise TlxError(f"the parameters hold adapters/{lora.name} already; choose another name.")
    made = lora_init(params, lora, jax.random.key(seed))
    return with_loras(model, (lora,)), {**params, "adapters": {**before, lora.name: made}}


def with_loras(model: Model, loras: tuple[Lora, ...]) -> LoraModel:
    """The module alone; its parameters are another matter."""
    if isinstance(model, LoraModel):
        return model.clone(loras=(*model.loras, *loras))
    return LoraModel(**_fields(model), loras=loras)


def merge_lora(model: Model, params: Tree) -> tuple[Model, Tree]:
    """The plain model and parameters that answer alike: active adapters folded into the kernels, the others left out.

    Raises:
      TlxError: the parameters hold adapters of which the model knows nothing.
    """
    if not isinstance(model, LoraModel):
        if "adapters" in params:
            raise TlxError("these parameters hold adapters; give the model that add_lora returned with them.")
        return model, params
    merged = merge(params, model.applied())
    return Model(**_fields(model)), {part: tree for part, tree in merged.items() if part != "adapters"}


def _fields(model: Model) -> dict[str, Any]:
    own = [field.name for field in dataclasses.fields(Model) if field.name not in ("parent", "name")]
    return {name: getattr(model, name) for name in own}
