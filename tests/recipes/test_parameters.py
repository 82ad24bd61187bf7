"""What a config says learns: shorthands, groups, rates by layer, on the shapes of a small model."""

import re
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.tiny import SMALL
from tlx.errors import TlxError
from tlx.models.heads import Head
from tlx.models.model import build_model
from tlx.pretrained.load import abstract_params
from tlx.recipes import defaults
from tlx.recipes.advice import advise
from tlx.recipes.parameters import GroupAssignment, parameter_groups
from tlx.recipes.schedule import factors

MODEL = build_model(SMALL, {"default": Head("classification", 2)})
PARAMS = abstract_params(MODEL)
BLOCK = "backbone/encoder/layer/{}/output/dense/kernel"


def chosen(params: Any = PARAMS, **changes: Any) -> GroupAssignment:
    config: ConfigDict = defaults.finetune()
    config.params.update(changes)
    return parameter_groups(config, MODEL, params, factors(config, 100))


def test_shorthands_come_after_the_rules() -> None:
    found = chosen(rules=((BLOCK.format(0), "default"),), freeze="first:1")
    assert BLOCK.format(0) not in found.frozen
    assert BLOCK.format(0).replace("kernel", "bias") in found.frozen
    assert BLOCK.format(1) not in found.frozen
    assert [selector for selector, group in found.rules if group == "frozen"] == [
        "backbone/embeddings.*", "backbone/encoder/layer/0/.*",
    ]  # fmt: skip


def test_a_linear_probe() -> None:
    found = chosen(trainable="heads")
    assert {path for path in found.assigned if path not in found.frozen} == {
        "heads/default/output/kernel", "heads/default/output/bias",
    }  # fmt: skip


def test_rates_multiply() -> None:
    """Head × 10, layers × 0.5 from one to the next, and a rule of the user's on top."""
    found = chosen(head_multiplier=10.0, layer_decay=0.5, multipliers=(("kind:bias", 2.0),))
    assert found.factor("heads/default/output/kernel", 1e-3) == 10
    assert found.factor("heads/default/output/bias", 1e-3) == 20
    assert found.factor(BLOCK.format(1), 1e-3) == 1
    assert found.factor(BLOCK.format(0), 1e-3) == 0.5
    assert found.factor("backbone/embeddings/word_embeddings/embedding", 1e-3) == 0.25


def test_layers_of_a_method_have_the_rate_of_heads() -> None:
    """MCD's two classifiers learn alike, and a discriminator learns as other new layers do; a weight of a task not."""
    dense = {"kernel": np.zeros((2, 2)), "bias": np.zeros(2)}
    aux = {
        "second_classifier": {"output": dense}, "discriminator": {"layer_0": dense},
        "uncertainty": {"one": {"log_variance": np.zeros(())}},
    }  # fmt: skip
    found = chosen({**PARAMS, "aux": aux}, head_multiplier=10.0, layer_decay=0.5)
    paths = [path for path in found.assigned if path.startswith("aux/")]
    assert {path: found.factor(path, 1e-3) for path in paths} == {
        "aux/second_classifier/output/kernel": 10, "aux/second_classifier/output/bias": 10,
        "aux/discriminator/layer_0/kernel": 10, "aux/discriminator/layer_0/bias": 10,
        "aux/uncertainty/one/log_variance": 1,
    }  # fmt: skip


def test_discriminative_rates_are_absolute() -> None:
    found = chosen(discriminative=(1e-6, 1e-4))
    rates = [
        5e-5 * found.factor(path, 5e-5)
        for path in (
            "backbone/embeddings/word_embeddings/embedding",
            *(BLOCK.format(block) for block in range(2)),
            "heads/default/output/bias",
        )
    ]  # fmt: skip
    np.testing.assert_allclose(rates, np.geomspace(1e-6, 1e-4, 4))


def test_groups_by_their_fields() -> None:
    groups = {
        "default": {"multiplier": 0.5, "weight_decay": 0.0},
        "head": {"learning_rate": 0.1, "optimizer": "sgd", "schedule": "constant"},
    }
    found = chosen(groups=groups, rules=(("heads/.*", "head"),))
    head: Any = found.groups["head"]
    assert found.factor("heads/default/output/kernel", 1e-3) == pytest.approx(100)
    assert (head.optimizer, float(head.schedule(99)), float(head.schedule(5))) == ("sgd", 1.0, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"freeze": "backbone", "trainable": "heads"},
            r"freeze is 'backbone' and config.params.trainable 'heads'; set one",
        ),
        ({"rules": ((".*", "frozen"),)}, "freezes every parameter, so nothing would be trained"),
        ({"freeze": "pooler,last:3"}, "'last:3' asks for 3 blocks; this backbone has 2"),
        ({"layer_decay": 0.5, "discriminative": (1e-5, 1e-4)}, "both set rates by layer; set one"),
        ({"layer_decay_floor": 0.1}, r"layer_decay_floor is 0\.1, and config.params.layer_decay is 1"),
        (
            {"layer_decay": 0.5, "layer_decay_floor": 1.5},
            r"layer_decay_floor is 1\.5; it must be at least 0 and at most 1",
        ),
        ({"discriminative": (1e-5,)}, r"discriminative is \(1e-05,\); it is \(lowest, highest\) rate"),
        ({"groups": {"default": {"schedule": "steps"}}}, "schedule is 'steps'; tlx has constant"),
        ({"multipliers": (("hed/.*", 2.0),)}, "params.multipliers: the rule 'hed/.*' matches no parameter"),
    ],
)
def test_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TlxError, match=message):
        chosen(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer.learning_rate": 5e-3}, r"learning rate is 0\.005 \(.*\) with AdamW; for a pretrained backbone"),
        ({"optimizer.name": "sgd"}, r"learning rate is 5e-05 \(.*\) with SGD; for SGD, 1e-3 to 1e-1 is usual"),
        ({"params.freeze": "heads"}, "heads/default/output/bias has random values and is frozen"),
        (
            {"params.freeze": "pooler", "model.initialise": ("pooler",)},
            "pooler/dense/bias has random values and is frozen",
        ),
        ({"optimizer.warmup_steps": 60}, "warm-up takes 60 of the run's 100 steps"),
        ({"train.batch_size": 500}, "batch_size is 500, and there are 400 training examples"),
        ({"optimizer.schedule": "constant", "optimizer.warmup_fraction": 0.0}, "is constant and has no warm-up"),
    ],
)
def test_advice(changes: dict[str, Any], message: str) -> None:
    config = defaults.finetune()
    assert advise(config, chosen(), 100, 400) == []
    config.update_from_flattened_dict(changes)
    found = advise(config, parameter_groups(config, MODEL, PARAMS, factors(config, 100)), 100, 400)
    assert len(found) == 1 and re.search(message, found[0])
