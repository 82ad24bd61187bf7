"""LoRA: a dense layer's kernel W learns by W + s A B with A and B of low rank (Hu et al. 2021, arXiv 2106.09685, 4.1).

Here a layer computes x W, so the paper's B A is A B: A is (in, rank), B is (rank, out). Everything in this file is of
trees: which kernels, what is drawn, what merging makes of it. `tlx.adapters.model` applies it.

The adapter `name` of the kernel `backbone/<module>/kernel` is `adapters/<name>/<module>/lora_a/kernel` and
`…/lora_b/kernel`; a relative of LoRA puts what it adds beside the two.
"""

import dataclasses
import functools
import math
import re
import zlib
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from tlx.errors import TlxError
from tlx.models.model import NAME
from tlx.params.paths import Tree, flatten, unflatten
from tlx.params.rules import Rules, assign

# What the paper adapts (4.2, table 5), under the families' names.
QUERY_AND_VALUE: Rules = ((r".*/(query|value|q_lin|v_lin)/kernel", True),)
A, B = "lora_a/kernel", "lora_b/kernel"


@dataclasses.dataclass(frozen=True)
class Lora:
    """One adapter.

    rank: of A B. alpha: A B is scaled by alpha / rank. rank_stabilised: by alpha / √rank (Kalajdzievski 2023, arXiv
    2312.03732), so that a high rank learns as fast as a low one. dropout: of what A is given, in training.
    targets: ordered `(selector, True, False or a rank)` over the paths of the backbone's dense kernels; what none
    matches has no adapter; () for the paper's query and value. name: where its parameters are, `adapters/<name>`.
    """

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.0
    rank_stabilised: bool = False
    targets: Rules = ()
    name: str = "lora"

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise TlxError(f"lora.name is letters, digits and _, not starting with a digit; found {self.name!r}.")
        if self.rank < 1:
            raise TlxError(f"lora.rank is {self.rank}; it is at least 1.")
        if not self.alpha > 0:
            raise TlxError(f"lora.alpha is {self.alpha}; it is above 0.")
        if not 0 <= self.dropout < 1:
            raise TlxError(f"lora.dropout is {self.dropout}; it is at least 0 and below 1.")

    def scale(self, rank: int) -> float:
        """s, of an adapter of this rank."""
        return self.alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def ranks(params: Tree, lora: Lora) -> dict[str, int]:
    """The rank at each targeted kernel, by its path. params: arrays or shapes.

    Raises:
      TlxError: a rule of the targets that decides nothing (it names near paths), or a rank that the kernel cannot have.
    """
    kernels = {
        path: leaf.shape for path, leaf in flatten(params).items() if re.fullmatch(r"backbone/(.*/)?kernel", path)
    }
    kernels = {path: shape for path, shape in kernels.items() if len(shape) == 2}
    chosen = assign(kernels, lora.targets or QUERY_AND_VALUE, shipped=((".*", False),), what="lora.targets")
    found = {}
    for path, value in chosen.items():
        if not isinstance(value, int):
            raise TlxError(f"lora.targets: a rule's value is True, False or a rank, found {value!r} for {path}.")
        rank = lora.rank if value is True else int(value)
        if not 0 <= rank <= min(kernels[path]):
            most = min(kernels[path])
            raise TlxError(f"lora: {path} is {kernels[path]}, so that its rank is 1 to {most}; found {rank}.")
        if rank:
            found[path] = rank
    if not found:
        raise TlxError("lora.targets choose no kernel; every rule says False.")
    return found


def lora_init(params: Tree, lora: Lora, key: jax.Array) -> Tree:
    """What sits at `adapters/<name>`: B zero, so that nothing changes yet; A uniform within ±1/√in.

    That is `kaiming_uniform_(a=√5)` over A's inputs, as loralib and peft draw it; the paper draws from a normal. A leaf
    depends on the key and its own path alone. An adapter is in its kernel's dtype, but no narrower than float32.

    Args:
      params: with `backbone`; arrays or shapes.
      lora: the adapter.
      key: of what is drawn.
    """
    uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    kernels, leaves = flatten(params), {}
    for path, rank in ranks(params, lora).items():
        kernel = kernels[path]
        dtype, module = jnp.promote_types(kernel.dtype, jnp.float32), _module(path)
        own = jax.random.fold_in(key, zlib.crc32(path.encode()))
        leaves[f"{module}/{A}"] = uniform(own, (kernel.shape[0], rank), dtype)
        leaves[f"{module}/{B}"] = jnp.zeros((rank, kernel.shape[1]), dtype)
    return unflatten(leaves)


def pairs(adapter: Tree) -> dict[str, tuple[jax.Array, jax.Array]]:
    """(A, B) by the module's path within the backbone."""
    leaves = flatten(adapter)
    modules = [path.removesuffix(f"/{A}") for path in leaves if path.endswith(f"/{A}")]
    return {module: (leaves[f"{module}/{A}"], leaves[f"{module}/{B}"]) for module in modules}


def host(path: str) -> str:
    """The place in the backbone to which an adapter's leaf belongs; any other path stays as it is."""
    return re.sub(r"^adapters/[^/]+/", "backbone/", path)


def merge(params: Tree, loras: Lora | Sequence[Lora]) -> Tree:
    """The parameters with these adapters folded into their kernels, W + s A B, and gone from the tree."""
    return _fold(params, params.get("adapters", {}), _several(loras), 1)


def unmerge(params: Tree, adapters: Mapping[str, Tree], loras: Lora | Sequence[Lora]) -> Tree:
    """The inverse of `merge`, up to rounding: W − s A B, and the adapters in the tree again.

    Args:
      params: merged.
      adapters: what was at `adapters`, by name.
      loras: those merged.
    """
    loras = _several(loras)
    back = _fold(params, adapters, loras, -1)
    own = {lora.name: adapters[lora.name] for lora in loras}
    return {**back, "adapters": {**back.get("adapters", {}), **own}}


def _fold(params: Tree, adapters: Mapping[str, Tree], loras: Sequence[Lora], sign: int) -> Tree:
    leaves = flatten({part: tree for part, tree in params.items() if part != "adapters"})
    for lora in loras:
        for module, (a, b) in pairs(adapter_of(adapters, lora)).items():
            path = f"backbone/{module}/kernel"
            kernel = leaves[path]
            folded = kernel + sign * lora.scale(a.shape[1]) * product(a, b)
            leaves[path] = folded.astype(kernel.dtype)
    names = {lora.name for lora in loras}
    others = {name: tree for name, tree in params.get("adapters", {}).items() if name not in names}
    return {**unflatten(leaves), **({"adapters": others} if others else {})}


product = functools.partial(jnp.matmul, precision="highest")


def adapter_of(adapters: Mapping[str, Tree], lora: Lora) -> Tree:
    """The adapter's own tree.

    Raises:
      TlxError: the parameters hold no such adapter.
    """
    if lora.name not in adapters:
        has = ", ".join(adapters) or "none"
        raise TlxError(f"the parameters hold no adapters/{lora.name} (there: {has}); make it with tlx.add_lora.")
    return adapters[lora.name]


def _several(loras: Lora | Sequence[Lora]) -> Sequence[Lora]:
    return (loras,) if isinstance(loras, Lora) else loras


def _module(path: str) -> str:
    return path.removeprefix("backbone/").removesuffix("/kernel")
