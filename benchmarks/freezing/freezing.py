"""What freezing saves: operations and bytes of a compiled training step, beside what must be computed.

    python benchmarks/freezing/freezing.py --workdir=runs/freezing

BERT-base on 32 texts of 128 tokens and ViT-B/16 on 32 images, AdamW, no dropout; nothing is run, no weights are read.
One file a row under the workdir; the same command goes on. Fails where a row breaks what docs/freezing.md promises.
"""

import argparse
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from count import expected, product_flops

from tlx.adapters.lora import Lora
from tlx.adapters.model import with_loras
from tlx.errors import one_sentence
from tlx.methods.finetune import FineTune
from tlx.models.bert import BertConfig
from tlx.models.heads import Head
from tlx.models.model import Model, build_model
from tlx.models.vit import ViTConfig
from tlx.optim.averages import ema
from tlx.optim.groups import Group, assign_groups, make_optimizer
from tlx.params.partition import FROZEN
from tlx.params.paths import flatten, map_with_path
from tlx.params.rules import Rules
from tlx.params.shorthand import train_rules
from tlx.pretrained.load import abstract_params
from tlx.recipes.run_directory import write_json
from tlx.reporting.tables import markdown, show
from tlx.training import gradient
from tlx.training.state import init_state, owned_by, owners
from tlx.training.step import make_train_step

WITHOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SHAPES: dict[str, tuple[Any, int, int]] = {  # name -> config, examples, tokens
    "BERT-base": (BertConfig(**WITHOUT), 32, 128),
    "ViT-B/16": (ViTConfig(add_pooling_layer=False, **WITHOUT), 32, 197),
}
STRATEGIES = {"full": "", "last 2": "last:2", "head only": "heads", "LoRA r=8": "", "biases": "biases"}
RANK, CLASSES = 8, 2
GROUPS = {"default": Group(weight_decay=0.01)}
HEADER = (
    "model", "strategy", "trainable", "GFLOPs needed", "products compiled / needed", "all compiled / needed",
    "gradient bytes / trainable", "optimizer bytes / trainable", "temporary MB", "extras, operations a parameter",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Compiled:
    """flops: as XLA counts. products: of matrices, from the text. temporary, gradients, moments: bytes."""

    flops: float
    products: int
    temporary: int
    gradients: int
    moments: int


def main() -> int:
    """Compiles what is missing, prints and keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/freezing"))
    workdir = parser.parse_args().workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    found = {}
    for shape, (config, rows, length) in SHAPES.items():
        for strategy in STRATEGIES:
            file = workdir / f"{shape.replace('/', '_')}-{strategy.replace(' ', '_')}.json"
            if not file.is_file():
                started = time.perf_counter()
                row = measure(config, rows, length, strategy)
                write_json(file, {**row, "seconds": round(time.perf_counter() - started, 1)})
                print(file.read_text(), flush=True)
            found[shape, strategy] = json.loads(file.read_text())
    table = [(*name, *told(row)) for name, row in found.items()]
    show("what freezing saves", HEADER, table)
    (workdir / "table.md").write_text(markdown(HEADER, table), encoding="utf-8")
    return report(found)


def measure(config: Any, rows: int, length: int, strategy: str) -> dict[str, float]:
    """One row."""
    model, rules = arm(config, strategy)
    params = abstract_params(model)
    groups = assign_groups(params, rules, GROUPS, model.backbone.kinds)
    learning = {path: leaf for path, leaf in flatten(params).items() if groups[path] != FROZEN}
    size = sum(int(np.prod(leaf.shape)) for leaf in learning.values())
    rank = RANK if strategy.startswith("LoRA") else 0
    forward, backward = expected(config, rows, length, CLASSES, learning, rank)
    bare = compiled(model, rules, rows, length)
    with unrolled():
        plain = compiled(model, rules, rows, length, accumulate=2)
        more = compiled(model, rules, rows, length, accumulate=2, clip=1.0, average=True)
    return {
        "trainable": size,
        "needed": forward + backward,
        "products": bare.products,
        "flops": bare.flops,
        "gradient_bytes": bare.gradients / (4 * size),
        "moment_bytes": bare.moments / (4 * size),
        "temporary": bare.temporary,
        "extras": (more.flops - plain.flops + max(plain.flops - bare.flops, 0.0)) / size,
    }


def arm(config: Any, strategy: str) -> tuple[Model, Rules]:
    """The model, with an adapter for LoRA, and the rules of a strategy."""
    model = build_model(config, {"default": Head("classification", CLASSES)})
    blocks = tuple(f"backbone/{path}" for path in config.block_paths[1:])
    if strategy.startswith("LoRA"):
        return with_loras(model, (Lora(rank=RANK),)), (("backbone/.*", FROZEN),)
    if not STRATEGIES[strategy]:
        return model, ()
    return model, train_rules(STRATEGIES[strategy], blocks, flatten(abstract_params(model)), kinds=model.backbone.kinds)


def compiled(
    model: Model, rules: Rules, rows: int, length: int, *, accumulate: int = 1, clip: float | None = None,
    average: bool = False,
) -> Compiled:  # fmt: skip
    """A training step of this model, compiled for this machine."""
    params = abstract_params(model)
    image = model.backbone.config.model_type != "bert"
    field = "pixel_values" if image else "input_ids"

    def prepare(batch: Mapping[str, Any], key: Any) -> tuple[dict[str, Any], Mapping[str, Any]]:
        return {field: batch[field], **({"channels_last": True} if image else {})}, batch

    method = FineTune(model, {"default": "label"}, prepare)
    kinds = model.backbone.kinds
    owner = owners(params, assign_groups(params, rules, GROUPS, kinds), method.players)
    optimizers = {"model": make_optimizer(params, rules, GROUPS, learning_rate=1e-4, kinds=kinds)}
    begin = functools.partial(init_state, owner=owner, optimizers=optimizers, method_state={}, averaged=average)
    state = jax.eval_shape(begin, params)
    step = make_train_step(
        method, optimizers, owner, clip=clip, accumulate=accumulate, average=ema(0.999) if average else None
    )
    patch = model.backbone.config.image_size if image else None
    shape = (rows, *patch, 3) if isinstance(patch, tuple) else (rows, patch, patch, 3) if image else (rows, length)
    batch = {
        field: jax.ShapeDtypeStruct(shape, jnp.float32 if image else jnp.int32),
        "label": jax.ShapeDtypeStruct((rows,), jnp.int32),
        "valid": jax.ShapeDtypeStruct((rows,), bool),
    }
    done = jax.jit(step, donate_argnums=0).lower(state, {"train": batch}, jax.random.key(0)).compile()
    cost, memory = done.cost_analysis(), done.memory_analysis()
    moments = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim)
    own = owned_by(params, owner, ("model",))
    fixed = map_with_path(lambda path, leaf: None if owner[path] else leaf, params)
    _, slopes = jax.eval_shape(
        lambda *given: gradient.differentiate(method.updates[0], *given, {}, jax.random.key(0)),
        own, fixed, {"train": jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), batch)},
    )  # fmt: skip
    gradients = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(slopes))
    return Compiled(cost["flops"], product_flops(done.as_text()), memory.temp_size_in_bytes, gradients, moments)


@contextmanager
def unrolled() -> Iterator[None]:
    """Micro-batches one after the other in the program's text, for XLA counts the body of a loop once."""
    scan = jax.lax.scan
    gradient.jax.lax.scan = functools.partial(scan, unroll=True)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        gradient.jax.lax.scan = scan  # type: ignore[attr-defined]


def told(row: Mapping[str, float]) -> tuple[str, ...]:
    """Of the table."""
    return (
        f"{row['trainable']:,.0f}", f"{row['needed'] / 1e9:,.1f}", f"{row['products'] / row['needed']:.4f}",
        f"{row['flops'] / row['needed']:.3f}", f"{row['gradient_bytes']:.3f}", f"{row['moment_bytes']:.3f}",
        f"{row['temporary'] / 1e6:,.0f}", f"{row['extras']:.1f}",
    )  # fmt: skip


def report(found: Mapping[tuple[str, str], Mapping[str, float]]) -> int:
    """1 if something is not as promised."""
    broken = []
    for (shape, strategy), row in found.items():
        checks = {
            "all operations within 5 %": abs(row["flops"] / row["needed"] - 1) <= 0.05,
            "products as needed": abs(row["products"] / row["needed"] - 1) <= 0.001,
            "gradients of the trainable alone": row["gradient_bytes"] == 1,
            "two moments of the trainable alone": row["moment_bytes"] == 2,
            "temporary bytes not above full fine-tuning's": row["temporary"] <= found[shape, "full"]["temporary"],
            "extras at most 20 operations a parameter": row["extras"] <= 20,
        }
        broken += [f"{shape}, {strategy}: {name}" for name, holds in checks.items() if not holds]
    print("\n".join(["NOT AS PROMISED", *broken]) if broken else "All as promised.")
    return int(bool(broken))


if __name__ == "__main__":
    with one_sentence():
        sys.exit(main())
