"""LoRA: a kernel W becomes W + s A B, where A and B have low rank and are trained.

The method is that of Hu et al. 2021, arXiv 2106.09685, section 4.1.

A layer computes x W here, so the paper's product B A is A B: A is (in, rank), B is (rank, out). This file works on
parameter trees: it selects kernels, initializes adapters, merges and unmerges them. `tlx.adapters.model` applies them
in a forward pass.

The adapter `name` of the kernel `backbone/<module>/kernel` is stored at `adapters/<name>/<module>/lora_a/kernel` and
`adapters/<name>/<module>/lora_b/kernel`. Variants of LoRA may store further parameters next to these two.
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

# The kernels that the paper adapts (4.2, table 5), by the names of the families.
QUERY_AND_VALUE: Rules = ((r".*/(query|value|q_lin|v_lin)/kernel", True),)
A, B = "lora_a/kernel", "lora_b/kernel"


@dataclasses.dataclass(frozen=True)
class Lora:
    """The settings of one LoRA adapter.

    Attributes:
      rank: the rank of A B.
      alpha: A B is scaled by s = alpha / rank.
      dropout: the rate of dropout on the input of A, in training.
      rank_stabilised: scale by s = alpha / √rank instead, so that the learning speed does not depend on the rank
        (Kalajdzievski 2023, arXiv 2312.03732).
      targets: ordered rules `(selector, value)` over the paths of the backbone's dense kernels, where a value is True,
        False or a rank. Kernels that no rule matches have no adapter. () selects query and value, as in the paper.
      name: the adapter's parameters are at `adapters/<name>`.
    """

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.0
    rank_stabilised: bool = False
    targets: Rules = ()
    name: str = "lora"

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise TlxError(
                f"lora.name must consist of letters, digits and _, and not start with a digit; found {self.name!r}."
            )
        if self.rank < 1:
            raise TlxError(f"lora.rank is {self.rank}; it must be at least 1.")
        if not self.alpha > 0:
            raise TlxError(f"lora.alpha is {self.alpha}; it must be above 0.")
        if not 0 <= self.dropout < 1:
            raise TlxError(f"lora.dropout is {self.dropout}; it must be at least 0 and below 1.")

    def scale(self, rank: int) -> float:
        """Returns the factor s for a kernel whose adapter has this rank."""
        return self.alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def ranks(params: Tree, lora: Lora) -> dict[str, int]:
    """Returns the rank of the adapter of each target kernel, by the kernel's path.

    Args:
      params: the parameters, as arrays or shapes.
      lora: the adapter.

    Raises:
      TlxError: if a rule of the targets applies to no kernel, if a rank is too large for its kernel, or if there is no
        target at all.
    """
    kernels = {
        path: leaf.shape for path, leaf in flatten(params).items() if re.fullmatch(r"backbone/(.*/)?kernel", path)
    }
    kernels = {path: shape for path, shape in kernels.items() if len(shape) == 2}
    values = assign(kernels, lora.targets or QUERY_AND_VALUE, shipped=((".*", False),), what="lora.targets")
    rank_by_path = {}
    for path, value in values.items():
        if not isinstance(value, int):
            raise TlxError(f"lora.targets: a rule's value is True, False or a rank; found {value!r} for {path}.")
        rank = lora.rank if value is True else int(value)
        if not 0 <= rank <= min(kernels[path]):
            most = min(kernels[path])
            raise TlxError(f"lora: {path} has shape {kernels[path]}, so its rank must be 1 to {most}; found {rank}.")
        if rank:
            rank_by_path[path] = rank
    if not rank_by_path:
        raise TlxError("lora.targets select no kernel; the value of every rule is False.")
    return rank_by_path


def lora_init(params: Tree, lora: Lora, key: jax.Array) -> Tree:
    """Initializes an adapter: B is zero, so the model's outputs do not change; A is uniform within ±1/√in.

    The distribution of A is `kaiming_uniform_(a=√5)` over its inputs, as in loralib and peft; the paper uses a normal
    distribution. The values of a leaf depend only on the key and the path of its kernel. An adapter has its kernel's
    dtype, or float32 if that is narrower.

    Args:
      params: the parameters, with `backbone`; arrays or shapes.
      lora: the adapter.
      key: the PRNG key.

    Returns:
      The tree at `adapters/<name>`.
    """
    uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    kernels, leaves = flatten(params), {}
    for path, rank in ranks(params, lora).items():
        kernel = kernels[path]
        dtype, module = jnp.promote_types(kernel.dtype, jnp.float32), _module(path)
        kernel_key = jax.random.fold_in(key, zlib.crc32(path.encode()))
        leaves[f"{module}/{A}"] = uniform(kernel_key, (kernel.shape[0], rank), dtype)
        leaves[f"{module}/{B}"] = jnp.zeros((rank, kernel.shape[1]), dtype)
    return unflatten(leaves)


def pairs(adapter: Tree) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns the pairs (A, B) of an adapter's tree, by the path of their module within the backbone."""
    leaves = flatten(adapter)
    modules = [path.removesuffix(f"/{A}") for path in leaves if path.endswith(f"/{A}")]
    return {module: (leaves[f"{module}/{A}"], leaves[f"{module}/{B}"]) for module in modules}


def host(path: str) -> str:
    """Returns the backbone path that an adapter's path corresponds to; any other path is returned unchanged."""
    return re.sub(r"^adapters/[^/]+/", "backbone/", path)


def merge(params: Tree, loras: Lora | Sequence[Lora]) -> Tree:
    """Returns the parameters with these adapters added to their kernels, W + s A B, and removed from the tree."""
    return _fold(params, params.get("adapters", {}), _several(loras), 1)


def unmerge(params: Tree, adapters: Mapping[str, Tree], loras: Lora | Sequence[Lora]) -> Tree:
    """The inverse of `merge`, up to rounding: subtracts s A B from the kernels and adds the adapters to the tree.

    Args:
      params: the merged parameters.
      adapters: the trees of the merged adapters, by name.
      loras: the merged adapters.
    """
    loras = _several(loras)
    unmerged = _fold(params, adapters, loras, -1)
    restored = {lora.name: adapters[lora.name] for lora in loras}
    return {**unmerged, "adapters": {**unmerged.get("adapters", {}), **restored}}


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
    """Returns the tree of one adapter.

    Raises:
      TlxError: if the parameters do not contain it.
    """
    if lora.name not in adapters:
        names = ", ".join(adapters) or "none"
        raise TlxError(
            f"the parameters have no adapters/{lora.name} (adapters there: {names}); create it with tlx.add_lora."
        )
    return adapters[lora.name]


def _several(loras: Lora | Sequence[Lora]) -> Sequence[Lora]:
    return (loras,) if isinstance(loras, Lora) else loras


def _module(path: str) -> str:
    return path.removeprefix("backbone/").removesuffix("/kernel")
