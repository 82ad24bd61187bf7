"""Whole runs of a tiny BERT: what is written, answered and refused."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests import tiny
from tlx.errors import TlxError
from tlx.pretrained.load import from_pretrained
from tlx.pretrained.save import write_folder
from tlx.recipes import finetune
from tlx.recipes.trained import load_run
from tlx.runs.predictions import predict_inputs
from tlx.training.writers import read_metrics

pytestmark = pytest.mark.slow


def run(config: Any, workdir: Path) -> dict[str, Any]:
    return finetune.build(config, workdir).run(quiet=True)


@pytest.mark.long
def test_regression_and_export(config: Any, tmp_path: Path) -> None:
    """The exported weights, read as any checkpoint, give the run's own answers: shift and scale are folded in."""
    config.data.label, config.head.kind = "score", "regression"
    config.params.groups.heads = {"multiplier": 3.0, "weight_decay": 0.0}
    config.params.rules = (("heads/.*", "heads"),)
    summary = run(config, tmp_path / "run")
    assert summary["metrics"]["test/r2"] > 0.5
    trained = load_run(tmp_path / "run")
    texts = ["the film was great", "awful and dull plot", "a", "cold"]
    predictions = predict_inputs(trained, texts)
    assert predictions.shape == (4, 1) and predictions[0, 0] > predictions[1, 0] + 0.3
    write_folder(tmp_path / "export", trained.model, trained.params, tokenizer_from=trained.pretrained)
    model, params = from_pretrained(tmp_path / "export")
    ids, _ = trained.inputs.preprocessor(texts)
    logits = jax.jit(lambda ids: model.apply({"params": params}, input_ids=ids).logits["default"])
    for row, text_ids in zip(predictions, ids, strict=True):
        again = logits(np.array([text_ids]))
        np.testing.assert_allclose(again[0], row, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("devices", "batch_size"), [(8, 7), pytest.param(1, 64, marks=pytest.mark.long)])
def test_metrics_count_each_example_once(devices: int, batch_size: int, config: Any, tmp_path: Path) -> None:
    config.parallel.data, config.train.eval_batch_size = devices, batch_size
    job = finetune.build(config, tmp_path / "run")
    examples = job.tasks["default"].splits["test"]
    params = jax.device_get(job.state.params)
    logits = jax.jit(lambda ids: job.model.apply({"params": params}, input_ids=ids).logits["default"])
    expected = []
    for i in range(len(examples)):  # one at a time, unpadded
        ids = examples.ids[examples.offsets[i] : examples.offsets[i + 1]][None]
        expected.append(int(logits(ids).argmax()))
    found = job.evaluate(job.state.variables, "test")
    assert found["test/accuracy"] == pytest.approx(np.mean(np.array(expected) == examples.fields["label"]), abs=1e-12)
    assert job.predictions(job.state.variables, "test").shape == (len(examples), 2)


@pytest.mark.long
def test_early_stopping_and_bfloat16(config: Any, tmp_path: Path) -> None:
    config.model.dtype = "bfloat16"
    config.train.epochs, config.train.patience = 50.0, 2
    config.train.monitor = "validation/loss"
    summary = run(config, tmp_path / "run")
    assert summary["metrics"]["test/accuracy"] > 0.8
    evaluations = [line for line in read_metrics(tmp_path / "run") if "validation/loss" in line]
    losses = [line["validation/loss"] for line in evaluations]
    assert len(losses) < 50 and len(losses) - 1 - int(np.argmin(losses)) == 2
    best = evaluations[int(np.argmin(losses))]
    assert summary["selection"].startswith(f"step {best['step']} of {evaluations[-1]['step']}:")
    assert summary["metrics"]["validation/loss"] == pytest.approx(best["validation/loss"], rel=1e-5)
    assert {p.name for p in (tmp_path / "run" / "checkpoints").iterdir()} >= {
        str(best["step"]),
        str(evaluations[-1]["step"]),
    }


def test_random_weights(config: Any, tmp_path: Path) -> None:
    config.model.weights, config.train.epochs = "random", 1.0
    job = finetune.build(config, tmp_path / "run")
    kernel = np.asarray(job.state.params["backbone"]["encoder"]["layer"]["0"]["intermediate"]["dense"]["kernel"])
    assert kernel.std() == pytest.approx(tiny.SMALL.initializer_range, rel=0.1)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["model"]["weights"] == "random"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.checkpoint": ""}, "config.model.checkpoint names no checkpoint"),
        ({"data.train": ""}, "config.data.train names no data"),
        ({"data.text": "body"}, "has no column 'body'; its columns are text, label, score"),
        ({"data.validation_fraction": 0.0}, "there is no validation data"),
        ({"head.kind": "ranking"}, "config.head.kind is 'ranking'; it is one of"),
        ({"model.dtype": "float8"}, "config.model.dtype is 'float8'; it is one of auto, float32, bfloat16"),
        ({"model.weights": "none"}, "config.model.weights is 'none'"),
        (
            {"train.monitor": "validation/r2"},
            "a classification with 2 outputs has validation/loss, validation/accuracy, validation/balanced_accuracy",
        ),
        (
            {"params.rules": (("backbone/layers/.*", "frozen"),)},
            "params.rules: the rule 'backbone/layers/.*' matches no",
        ),
        ({"data.max_length": 33}, "config.data.max_length is 33; this checkpoint has 32 positions"),
        ({"train.batch_size": 0}, "config.train.batch_size is 0; it must be above 0"),
        ({"params.groups": {"default": {"rate": 1.0}}}, "config.params.groups.default has no field rate"),
        ({"parallel.data": 99}, "parallel.data is 99; there are 8 devices"),
        (
            {"data.label": "score", "head.kind": "regression", "data.train": "builtin:colors", "data.text": "name"},
            "no column 'score'",
        ),
    ],
)
def test_bad_configs(change: dict[str, Any], message: str, config: Any, tmp_path: Path) -> None:
    with pytest.raises(TlxError, match=message):
        finetune.build(_changed(config, change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def _changed(config: Any, change: dict[str, Any]) -> Any:
    with config.unlocked():
        for path, value in change.items():
            node, *rest = path.split(".")
            setattr(config[node], rest[0], value)
    return config
