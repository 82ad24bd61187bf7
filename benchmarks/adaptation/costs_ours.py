"""Training steps of a method of domain adaptation in tlx: python costs_ours.py METHOD ROWS.

MiniLM with random weights, mean pooling, no dropout; a batch has ROWS texts of 128 tokens of each domain. After a
warm-up it runs `process.answer_turns`, which also prints the operations of the compiled step.
"""

# ruff: noqa: E402
import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tlx.allocator import keep_memory

keep_memory()  # as the scripts and commands do

import jax
import jax.numpy as jnp

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("", "freezing"))
from arms import GROUPS, SHAPES
from process import answer_turns

from tlx.cli.launch import configure_jax
from tlx.methods.discrepancy import Dan, DeepCoral, Jan
from tlx.methods.domain_adversarial import Cdan, Dann
from tlx.methods.finetune import FineTune
from tlx.methods.mcd import Mcd
from tlx.methods.target_predictions import EntropyMinimization, Mcc
from tlx.methods.transport import DeepJdot
from tlx.models.heads import Head
from tlx.models.model import Model, build_model
from tlx.optim.groups import assign_groups, make_optimizer
from tlx.params.paths import flatten
from tlx.pretrained.load import random_params
from tlx.training.state import assign_players, init_state
from tlx.training.step import make_train_step

CLASSES = 2


def prepare(batch: Mapping[str, Any], key: Any) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The inputs of the model."""
    del key
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}, batch


def method_of(name: str, model: Model) -> Any:
    """The method of a name, with the settings of the papers."""
    if name == "source only":
        return FineTune(model, {"default": "label"}, prepare)
    if name == "CDAN+E":
        return Cdan(model, prepare, entropy=True)
    if name == "MCD, one generator step":  # of several, which are a loop, XLA counts the operations of one
        return Mcd(model, prepare, generator_steps=1)
    made: dict[str, Any] = {
        "DANN": Dann, "DAN": Dan, "Deep CORAL": DeepCoral, "MCC": Mcc, "JAN": Jan, "DeepJDOT": DeepJdot,
        "entropy minimization": EntropyMinimization,
    }  # fmt: skip
    return made[name](model, prepare)


def main(name: str, rows: int) -> None:
    """Runs steps until the input ends."""
    configure_jax()
    config, _, length = SHAPES["MiniLM"]
    config = dataclasses.replace(config, add_pooling_layer=False)
    model = build_model(config, {"default": Head("classification", CLASSES, pooling="mean")})
    method, params = method_of(name, model), random_params(model, 0)
    aux, method_state = method.init(jax.random.key(0), params)
    params = {**params, "aux": aux} if aux else params
    player_of = assign_players(params, assign_groups(params, (), GROUPS, model.backbone.kinds), method.players)
    optimizers = {
        player: make_optimizer(params, (), GROUPS, learning_rate=1e-4, kinds=model.backbone.kinds)
        for player in method.players
    }
    state, key = init_state(params, player_of, optimizers, method_state), jax.random.key(0)
    ids = jnp.arange(rows * length).reshape(rows, length) % 1000
    mask = jnp.broadcast_to(jnp.arange(length) < length - 28, ids.shape).astype(jnp.int32)
    texts = {"input_ids": ids, "attention_mask": mask, "valid": jnp.ones(rows, bool)}
    batch = {"train": {**texts, "label": jnp.arange(rows) % CLASSES}, "target": texts}
    batch = {stream: batch[stream] for stream in method.streams}
    step = make_train_step(method, optimizers, player_of, total_steps=1000)
    compiled = jax.jit(step, donate_argnums=0).lower(state, batch, key).compile()

    def steps(count: int) -> float:
        nonlocal state
        started = time.perf_counter()
        for _ in range(count):
            state, metrics = compiled(state, batch, key)
        assert jnp.isfinite(metrics["loss"])
        return time.perf_counter() - started

    steps(2)
    trainable = sum(leaf.size for leaf in flatten(params).values())
    answer_turns(trainable, steps, flops=compiled.cost_analysis()["flops"])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
