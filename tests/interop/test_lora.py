"""LoRA beside peft: the same adapter on the same checkpoint, the same steps, the same losses and answers."""

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tlx
from tests.tiny import SMALL
from tlx.models.heads import Head
from tlx.models.model import build_model
from tlx.params.paths import flatten
from tlx.pretrained.load import random_params
from tlx.pretrained.save import write_folder

pytestmark = pytest.mark.interop
SCRIPT = Path(__file__).with_name("lora_with_peft.py")
STEPS, RATE = 20, 1e-2
LORA = tlx.Lora(rank=4, alpha=6.0)


@pytest.mark.parametrize("stabilised", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_steps_are_those_of_peft(stabilised: bool, torch_python: str, tmp_path: Path) -> None:
    lora = dataclasses.replace(LORA, rank_stabilised=stabilised)
    model = build_model(SMALL, {"default": Head("classification", 3)})
    params = random_params(model, 0)
    write_folder(tmp_path / "start", model, params)
    adapted, params = tlx.add_lora(model, params, lora)
    drawn = flatten(params["adapters"][lora.name])
    np.savez(
        tmp_path / "adapter.npz",
        **{path.removesuffix("/lora_a/kernel"): x for path, x in drawn.items() if path.endswith("/lora_a/kernel")},
    )
    random = np.random.default_rng(0)
    ids, labels = random.integers(5, 20, (STEPS, 8, 12)), random.integers(0, 3, (STEPS, 8))
    mask = (np.arange(12) < random.integers(4, 13, (STEPS, 8, 1))).astype(np.int64)
    batches = {"input_ids": jnp.asarray(ids * mask), "attention_mask": jnp.asarray(mask), "labels": jnp.asarray(labels)}
    np.savez(tmp_path / "batches.npz", **batches)
    settings = {"rank": lora.rank, "alpha": lora.alpha, "rank_stabilised": stabilised, "rate": RATE}
    (tmp_path / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [torch_python, str(SCRIPT), str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    theirs = np.load(tmp_path / "theirs.npz")

    rules = [("adapters/.*", "default"), ("heads/.*", "default"), (".*", "frozen")]
    trainable, frozen = tlx.partition(params, rules)
    assert sum(leaf.size for leaf in jax.tree.leaves(trainable)) == theirs["trainable"]
    optimizer = tlx.make_optimizer(params, rules, {"default": {"learning_rate": RATE, "weight_decay": 0.0}})
    state = optimizer.init(trainable)

    def logits(model: Any, params: object, step: int) -> jax.Array:
        given = {name: batches[name][step] for name in ("input_ids", "attention_mask")}
        return model.apply({"params": params}, **given).logits["default"]

    @jax.jit
    def step(trainable: object, state: object, index: int) -> tuple[object, object, jax.Array]:
        def loss(trainable: object) -> jax.Array:
            predictions = logits(adapted, tlx.merge(trainable, frozen), index)
            return optax.softmax_cross_entropy_with_integer_labels(predictions, batches["labels"][index]).mean()

        value, gradient = jax.value_and_grad(loss)(trainable)
        updates, state = optimizer.update(gradient, state, trainable)
        return optax.apply_updates(trainable, updates), state, value

    losses = []
    for index in range(STEPS):
        trainable, state, value = step(trainable, state, index)
        losses.append(float(value))
    np.testing.assert_allclose(losses, theirs["losses"], rtol=1e-4)
    learnt = tlx.merge(trainable, frozen)
    assert np.abs(logits(adapted, learnt, 0) - logits(adapted, params, 0)).max() > 0.1
    np.testing.assert_allclose(logits(adapted, learnt, 0), theirs["after"], atol=1e-3)
    merged = tlx.merge_lora(adapted, learnt)
    np.testing.assert_allclose(logits(*merged, 0), theirs["merged"], atol=1e-3)
