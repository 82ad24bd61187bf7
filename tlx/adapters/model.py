"""Models with adapters: adding adapters to a model and merging them into its kernels.

A linen interceptor adds the adapter's output to that of a dense layer, so the model's own code does not change. The
idea is from gemma's `peft/_interceptors.py`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from tlx.adapters.lora import Lora, adapter_of, lora_init, merge, pairs
from tlx.errors import TlxError, listed
from tlx.models.layers import Dropout
from tlx.models.model import Model, ModelOutput
from tlx.params.paths import Tree

Pair = tuple[jax.Array, jax.Array]  # A and B


class LoraModel(Model):
    """A `Model` whose dense layers compute x W + b + s (x A) B where they have an adapter.

    The product A B is never computed and W is not changed, so no gradient is computed for a frozen W.

    Attributes:
      loras: the adapters; the parameters of each are at `adapters/<name>`.
      active: the names of the adapters to apply; None for all.
      by_row: if True, a row of the batch has one adapter, which the input `adapter` tells; the adapters then differ in
        their names alone. If False, the outputs of all active adapters are added.
    """

    loras: tuple[Lora, ...] = ()
    active: tuple[str, ...] | None = None
    by_row: bool = False

    def __call__(
        self,
        *,
        deterministic: bool = True,
        frozen: Collection[str] = (),
        adapter: jax.Array | None = None,
        **inputs: Any,
    ) -> ModelOutput:
        """Runs the model as `Model.__call__` does; `model.init` also initializes the adapters.

        Args:
          deterministic: whether dropout is off.
          frozen: see `Model.__call__`.
          adapter: for `by_row`, integers (batch,), the position in `loras` of each row's adapter. It is not needed if
            one adapter is active, which all rows then have.
          inputs: see `Model.__call__`.
        """
        if self.is_initializing():
            output = super().__call__(deterministic=deterministic, frozen=frozen, **inputs)
            params, key = self.variables["params"], self.make_rng("params")
            self.put_variable("params", "adapters", {lora.name: lora_init(params, lora, key) for lora in self.loras})
            return output
        interceptor = _LoraInterceptor(self, deterministic, frozen, adapter)
        with nn.intercept_methods(interceptor):
            output = super().__call__(deterministic=deterministic, frozen=frozen, **inputs)
        if not (inputs.get("start") or inputs.get("stop") is not None):
            interceptor.check()
        return output

    @nn.nowrap
    def applied(self) -> tuple[Lora, ...]:
        """Returns the active adapters.

        Raises:
          TlxError: if `active` contains a name that no adapter has.
        """
        names = [lora.name for lora in self.loras]
        if missing := sorted(set(self.active or ()) - set(names)):
            raise TlxError(f"the model has no adapter {listed(missing)}; it has {listed(names)}.")
        return tuple(lora for lora in self.loras if self.active is None or lora.name in self.active)


class _LoraInterceptor:
    """The interceptor that applies the adapters during one call of the model.

    It is a `tlx.models.traced_once.BlockInterceptor`: a block's adapters are then given as arguments.
    """

    def __init__(self, model: LoraModel, deterministic: bool, frozen: Collection[str], adapter: jax.Array | None):
        adapters: dict[str, Tree] = model.get_variable("params", "adapters", {})
        self.loras = model.applied()
        self.pairs = [pairs(adapter_of(adapters, lora)) for lora in self.loras]
        self.rows: jax.Array | None = None  # (batch, adapters), 1 for the adapter of a row, which `pairs` has joined
        if model.by_row and len(self.loras) > 1:
            if adapter is None:
                raise TlxError(f"{_which(model)} Or give the input `adapter`.")
            if any(dataclasses.replace(lora, name=self.loras[0].name) != self.loras[0] for lora in self.loras):
                raise TlxError(
                    "adapters of a model with by_row=True differ in their names alone; their settings differ."
                )
            places = [model.loras.index(lora) for lora in self.loras]
            self.rows = adapter[:, None] == jax.numpy.asarray(places)
            self.loras, self.pairs = self.loras[:1], [_joined(self.pairs)]
        self.root, self.deterministic = f"{'/'.join((*model.path, 'backbone'))}/", deterministic
        self.frozen = tuple(f"{'/'.join((*model.path, prefix))}/" for prefix in frozen)
        self.called: set[str] = set()
        self.blocks: set[str] = set()
        self.called_in_blocks: set[str] = set()

    def __call__(self, run: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output, layer = run(*args, **kwargs), context.module
        if not (isinstance(layer, nn.Dense) and context.method_name == "__call__"):
            return output
        path = "/".join(layer.path)
        module, x = path.removeprefix(self.root), args[0] if args else kwargs["inputs"]
        self.called.add(module)
        deterministic = self.deterministic or f"{path}/".startswith(self.frozen)
        for lora, pairs_by_module in zip(self.loras, self.pairs, strict=True):
            if module in pairs_by_module:
                dropped = Dropout(lora.dropout, name=f"{lora.name}_dropout")(x, deterministic)
                dropped, a, b = promote_dtype(dropped, *pairs_by_module[module], dtype=layer.dtype)
                low = self._of_rows(jax.numpy.matmul(dropped, a, precision=layer.precision), lora)
                output = output + jax.numpy.matmul(low, b, precision=layer.precision).astype(output.dtype)
        return output

    def _of_rows(self, low: jax.Array, lora: Lora) -> jax.Array:
        """Scales the product with A, (batch, …, rank); of joined adapters, each row keeps the columns of its own."""
        if self.rows is None:
            return low * lora.scale(low.shape[-1])
        if low.shape[0] % len(self.rows):
            raise TlxError(
                f"a layer with adapters gets {low.shape[0]} rows, and {len(self.rows)} say which adapter they have."
            )
        rank = low.shape[-1] // self.rows.shape[1]
        kept = jax.numpy.repeat(self.rows.astype(low.dtype) * lora.scale(rank), rank, axis=1)
        kept = jax.numpy.repeat(kept, low.shape[0] // len(kept), axis=0)  # multiple choice has several texts a row
        return low * kept.reshape(kept.shape[:1] + (1,) * (low.ndim - 2) + kept.shape[1:])

    def of_block(self, path: str) -> tuple[Any, Any]:
        """Returns the settings of a block, and the pairs of matrices of each adapter by module within the block."""
        block = path.removeprefix(self.root)
        self.blocks.add(block)
        frozen = self.deterministic or f"{path}/".startswith(self.frozen)
        within = tuple(prefix.removeprefix(f"{path}/") for prefix in self.frozen if prefix.startswith(f"{path}/"))
        own = [
            {m.removeprefix(f"{block}/"): pair for m, pair in pairs_by_module.items() if m.startswith(f"{block}/")}
            for pairs_by_module in self.pairs
        ]
        return (frozen, within), (own, self.rows)

    @contextlib.contextmanager
    def within(self, settings: Any, arrays: Any) -> Iterator[None]:
        """Applies a block's adapters; paths are relative to the block."""
        before = self.pairs, self.rows, self.root, self.deterministic, self.frozen, self.called
        (self.pairs, self.rows), self.root, self.called = arrays, "", self.called_in_blocks
        self.deterministic, self.frozen = settings
        try:
            yield
        finally:
            self.pairs, self.rows, self.root, self.deterministic, self.frozen, self.called = before

    def check(self) -> None:
        """Checks that every module with an adapter was called as a dense layer."""
        adapted = {module for pairs_by_module in self.pairs for module in pairs_by_module}
        called = self.called | {f"{block}/{module}" for block in self.blocks for module in self.called_in_blocks}
        if missing := sorted(adapted - called):
            raise TlxError(
                "LoRA adapts dense layers (flax.linen.Dense) that the model calls; in the backbone "
                f"{listed(missing, 5)} is not such a layer; remove it from the targets."
            )


def _joined(adapters: Sequence[Mapping[str, Pair]]) -> dict[str, Pair]:
    """The pairs of several adapters of the same modules side by side: A (in, adapters · rank), B the other way."""
    found = {}
    for module in adapters[0]:
        a, b = zip(*(adapter[module] for adapter in adapters), strict=True)
        found[module] = jax.numpy.concatenate(a, axis=1), jax.numpy.concatenate(b, axis=0)
    return found


def add_lora(model: Model, params: Tree, lora: Lora, seed: int = 0) -> tuple[LoraModel, Tree]:
    """Adds an adapter to a model. The outputs do not change until the adapter is trained.

    A model may have several adapters; `model.clone(active=("name",))` applies only some of them.

    Args:
      model: the model, such as `load_pretrained` returns it, or one that already has adapters.
      params: its parameters.
      lora: the adapter.
      seed: the seed of the adapter's initial parameters.

    Returns:
      The model with the adapter, and the parameters with `adapters/<name>`.

    Raises:
      TlxError: if there is already an adapter of this name, or if a target matches no parameter.
    """
    adapters: Mapping[str, Tree] = params.get("adapters", {})
    if lora.name in adapters:
        raise TlxError(f"the parameters already contain adapters/{lora.name}; choose another name.")
    initial = lora_init(params, lora, jax.random.key(seed))
    return with_loras(model, (lora,)), {**params, "adapters": {**adapters, lora.name: initial}}


def with_loras(model: Model, loras: tuple[Lora, ...]) -> LoraModel:
    """Returns the module with these adapters added; it does not initialize their parameters."""
    if isinstance(model, LoraModel):
        return model.clone(loras=(*model.loras, *loras))
    return LoraModel(**_fields(model), loras=loras)


def merge_lora(model: Model, params: Tree) -> tuple[Model, Tree]:
    """Merges the active adapters into the kernels and removes all adapters.

    Returns:
      The plain `Model` and its parameters, with the same outputs as before.

    Raises:
      TlxError: if the parameters contain adapters but the model does not, or if each row has another adapter.
    """
    if not isinstance(model, LoraModel):
        if "adapters" in params:
            raise TlxError("these parameters contain adapters; pass the model that add_lora returned with them.")
        return model, params
    if model.by_row and len(model.applied()) > 1:
        raise TlxError(_which(model))
    merged = merge(params, model.applied())
    return Model(**_fields(model)), {part: tree for part, tree in merged.items() if part != "adapters"}


def _which(model: LoraModel) -> str:
    names = listed([lora.name for lora in model.applied()], 99)
    return f"each row has one of the adapters {names}; take one of them with model.clone(active=(NAME,))."


def _fields(model: Model) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(Model) if field.name not in ("parent", "name")]
    return {name: getattr(model, name) for name in names}
