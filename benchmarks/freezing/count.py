"""Operations that a training step needs when only some parameters are trained, and those of a compiled step.

A matrix product costs 2 · rows · inner · columns operations. The gradient of its input is needed if a trained parameter
comes before it, the gradient of its kernel if the kernel is trained. docs/freezing.md explains the formula.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Collection
from typing import Any

Learns = Callable[[str], bool]


@dataclasses.dataclass
class Tally:
    """Counts operations.

    Attributes:
      learns: from a path prefix in the backbone to whether any parameter below it is trained.
      rank: of LoRA; 0 for none.
      targets: last names of the dense layers with adapters.
      forward: operations of the forward pass so far.
      backward: operations of the backward pass so far.
    """

    learns: Learns
    rank: int = 0
    targets: Collection[str] = ()
    forward: int = 0
    backward: int = 0

    def dense(self, path: str, rows: int, inner: int, columns: int, depends: bool) -> bool:
        """Counts y = x W + b.

        Args:
          path: of the layer.
          rows: of x.
          inner: columns of x.
          columns: of y.
          depends: whether x depends on a trained parameter.

        Returns:
          Whether y depends on a trained parameter.
        """
        product = 2 * rows * inner * columns
        self.forward += product
        self.backward += product * (int(depends) + int(self.learns(f"{path}/kernel")))
        if self.rank and path.rsplit("/", 1)[-1] in self.targets:
            down, up = 2 * rows * inner * self.rank, 2 * rows * self.rank * columns
            self.forward += down + up
            self.backward += down * (int(depends) + 1) + up * 2  # A and B are trained; the inner vector depends on A
            return True
        return depends or self.learns(path)

    def product(self, cost: int, left: bool, right: bool) -> bool:
        """Counts a product of two activations; each one that depends on a trained parameter needs a gradient."""
        self.forward += cost
        self.backward += cost * (int(left) + int(right))
        return left or right


def backbone(tally: Tally, config: Any, rows: int, length: int, last: str) -> bool:
    """Counts the blocks of BERT or ViT.

    Args:
      tally: the counts.
      config: of the backbone.
      rows: examples.
      length: tokens per example.
      last: the name of the attention module, `self` or `attention`.

    Returns:
      Whether the output depends on a trained parameter.
    """
    hidden, wide = config.hidden_size, config.intermediate_size
    tokens, blocks = rows * length, list(config.block_paths[1:])
    depends = tally.learns("embeddings")
    for block in blocks:
        before = depends or (config.model_type != "bert" and tally.learns(f"{block}/layernorm_before"))
        query, key, value = (
            tally.dense(f"{block}/attention/{last}/{name}", tokens, hidden, hidden, before)
            for name in ("query", "key", "value")
        )
        scores = tally.product(2 * tokens * length * hidden, query, key)
        mixed = tally.product(2 * tokens * length * hidden, scores, value)
        closed = tally.dense(f"{block}/attention/output/dense", tokens, hidden, hidden, mixed) or depends
        closed = (
            closed or tally.learns(f"{block}/attention/output/LayerNorm") or tally.learns(f"{block}/layernorm_after")
        )
        inner = tally.dense(f"{block}/intermediate/dense", tokens, hidden, wide, closed)
        depends = tally.dense(f"{block}/output/dense", tokens, wide, hidden, inner) or closed
        depends = depends or tally.learns(f"{block}/output/LayerNorm")
    return depends or tally.learns("layernorm")


def expected(
    config: Any, rows: int, length: int, classes: int, learning: Collection[str], rank: int = 0
) -> tuple[int, int]:
    """Operations of the matrix products of a step, with a classification head.

    Args:
      config: of the backbone.
      rows: examples.
      length: tokens per example, including the class token.
      classes: of the head.
      learning: paths of the trained parameters.
      rank: of LoRA at query and value; 0 for none.

    Returns:
      Operations of the forward and of the backward pass.
    """
    learning = list(learning)

    def learns(prefix: str) -> bool:
        full = f"backbone/{prefix}"
        return any(path == full or path.startswith(f"{full}/") for path in learning)

    tally = Tally(learns, rank, ("query", "value") if rank else ())
    image = config.model_type != "bert"
    hidden = config.hidden_size
    if image:
        patch, channels = config.patch, config.num_channels
        tally.dense(
            "embeddings/patch_embeddings/projection", rows * (length - 1), patch[0] * patch[1] * channels, hidden, False
        )
    depends = backbone(tally, config, rows, length, "attention" if image else "self")
    if not image:
        depends = tally.dense("pooler/dense", rows, hidden, hidden, depends)
    product = 2 * rows * hidden * classes
    return tally.forward + product, tally.backward + product * (1 + int(depends))


def product_flops(text: str) -> int:
    """Sum over all `dot` operations of a compiled program of 2 · (entries of the result) · (entries summed over)."""
    shapes = {
        name: [int(size) for size in sizes.split(",") if size]
        for name, sizes in re.findall(r"%?([\w.\-]+) = \w+\[([\d,]*)\]", text)
    }
    total = 0
    for name, given, over in re.findall(r"%?([\w.\-]+) = \S+ dot\((.*?)\), .*?lhs_contracting_dims=\{([\d,]*)\}", text):
        left = shapes[re.findall(r"%([\w.\-]+)", given)[0]]
        total += 2 * math.prod(shapes[name]) * math.prod(left[int(axis)] for axis in over.split(",") if axis)
    return total
