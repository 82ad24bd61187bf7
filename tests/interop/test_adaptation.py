"""Steps of tlx and of scikit-adaptation from the same weights on the same images, nothing dropped: the same losses.

Both sides read, sample and batch the files themselves, so that arms of configs/studies/adapt_digits.py are known to
differ in the software alone. DAN is left out: skada has other kernels (exp(−‖x − y‖ / σ)) and another estimate.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.adapt_digits import get_config
from tlx.params.paths import flatten
from tlx.recipes import finetune

pytestmark = [pytest.mark.interop, pytest.mark.slow]
SCRIPT = Path(__file__).with_name("adapt_with_skada.py")
SEED, STEPS = 3, 9  # 3 epochs of 40 rows in batches of 16: the last batch of an epoch is not full
FIELDS = {
    "data.per_class": 4, "data.target_size": 37, "train.batch_size": 16, "train.epochs": 3.0,
    "train.evaluate_every": 1.0, "optimizer.learning_rate": 0.02, "optimizer.momentum": 0.5, "optimizer.clip": 2.0,
}  # fmt: skip
METHODS = {
    "source_only": {},
    "deep_coral": {"method.trade_off": 3.0},
    "mcc": {"method.temperature": 2.0},
    "dann": {"method.discriminator": (6,), "method.trade_off": 0.5},
}


@pytest.fixture(scope="module")
def skada_python() -> str:
    python = os.environ.get("TLX_ADAPTATION_PYTHON")
    if not python:
        pytest.skip("TLX_ADAPTATION_PYTHON names no Python with skada; run `make interop-adaptation`")
    return python


def write_data(folder: Path) -> None:
    """Images of ten blurred patterns with noise: 28 × 28, and smaller for the target."""
    random = np.random.default_rng(0)
    for name, size in (("mnist", 28), ("usps", 16)):
        (folder / name).mkdir()
        patterns = random.integers(0, 200, (10, size, size))
        for part in ("train", "dev"):
            labels = np.repeat(np.arange(10), 6)
            images = patterns[labels] + random.integers(0, 56, (60, size, size))
            np.savez(folder / name / f"{part}.npz", image=images.astype(np.uint8), label=labels)


def for_torch(params: Any) -> dict[str, np.ndarray]:
    """Parameters by the names of theirs.py. Its domain classifier says how likely the target is, tlx's the source."""
    names = {"backbone/block_0/conv": "features.0", "backbone/block_1/conv": "features.2"}
    names |= {"backbone/dense": "features.7", "heads/default/output": "logits"}
    names = {place: f"base_module_.{name}" for place, name in names.items()}
    names |= {f"aux/discriminator/layer_{i}": f"domain_classifier_.layers.{2 * i}" for i in (0, 1)}
    found = {}
    for path, value in flatten(params).items():
        place, _, kind = path.rpartition("/")
        array = np.asarray(value)
        if place == "backbone/dense" and kind == "kernel":  # torch flattens (channels, height, width)
            array = array.reshape(12, 12, 64, -1).transpose(2, 0, 1, 3).reshape(array.shape)
        if kind == "kernel":
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        sign = -1 if place == "aux/discriminator/layer_1" else 1
        found[f"{names[place]}.{'weight' if kind == 'kernel' else kind}"] = sign * np.ascontiguousarray(array)
    return found


def losses_of_tlx(method: str, folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Takes the steps; returns the job for skada and the losses."""
    fields = {**FIELDS, "method.name": method, **METHODS[method]}
    config = get_config("mnist-usps")
    config.seed = config.data.split_seed = SEED
    config.model.hidden_dropout_prob = config.model.classifier_dropout = 0.0
    config.parallel.data = 1
    for field, value in fields.items():
        section, _, name = field.partition(".")
        config[section][name] = value
    job = finetune.build(config, folder / method)
    weights, losses = folder / f"{method}.npz", folder / f"{method}.npy"
    np.savez(weights, **for_torch(job.state.params))
    streams = {name: stream.batches(name, job.seed, job.length_buckets, STEPS) for name, stream in job.streams.items()}
    state, logged = job.state, []
    for step in range(STEPS):
        batch = {name: batches[step] for name, batches in streams.items() if name in job.phases[0].streams}
        state, metrics = job.phases[0].step(state, batch)
        logged.append(float(metrics["loss"]))
    told = {"pair": "mnist-usps", "seed": SEED, "fields": fields, "weights": str(weights), "losses": str(losses)}
    return told, np.array(logged)


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_equal(method: str, skada_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLX_DATA", str(tmp_path))
    write_data(tmp_path)
    job, ours = losses_of_tlx(method, tmp_path)
    (tmp_path / "jobs.json").write_text(json.dumps([job]), encoding="utf-8")
    command = [skada_python, str(SCRIPT), str(tmp_path / "jobs.json")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stderr
    theirs = np.load(job["losses"])
    worst = np.abs(ours / theirs - 1).max()
    print(f"\n{method}: loss {ours[0]:.4f} to {ours[-1]:.4f}, largest relative difference {worst:.1e}")
    assert abs(ours[-1] / ours[0] - 1) > 0.1  # the steps moved it; that of DANN, a game, may rise
    assert worst < 1e-4
