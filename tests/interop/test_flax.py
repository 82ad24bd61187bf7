"""What tlx writes as msgpack, opened by the last transformers that had Flax: no key missing, the same answers."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.models.reference import THIRD_PARTY, VARIANTS, reference
from tlx.pretrained.load import from_pretrained
from tlx.pretrained.save import write_folder

pytestmark = [pytest.mark.interop, pytest.mark.slow]
HEADS = ("plain", "tagging_5", "masked_lm", "question_answering", "multiple_choice", "base")
NAMES = [
    f"{family}/{head}"
    for family in ("bert", "roberta", "electra", "distilbert")
    for head in HEADS
    if f"{family}/{head}" in VARIANTS
] + ["vit/plain", "vit/base", "vit/no_qkv_bias", "vit/multilabel_4"]
# Where 4.57.6's Flax classes differ from torch's: FlaxElectra takes token types of ones by default (they are given),
# and hidden_act before the vocabulary, where torch's class has GELU whatever the config says.
CHANGES = {"electra/masked_lm": {"hidden_act": "gelu"}}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    python = os.environ.get("TLX_FLAX_PYTHON")
    if not python:
        pytest.skip("TLX_FLAX_PYTHON names no Python with transformers 4.57.6 and flax; run `make interop-flax`")
    root, jobs = tmp_path_factory.mktemp("flax"), []
    for index, name in enumerate(NAMES):
        folder = root / str(index)
        model, params = from_pretrained(THIRD_PARTY / name, **CHANGES.get(name, {}))
        write_folder(folder, model, params, format="msgpack", max_shard_bytes=10_000 if index % 2 else 10**9)
        np.savez(root / f"{index}.npz", **{key: np.asarray(x) for key, x in reference(name).inputs.items()})
        jobs.append(
            {"folder": str(folder), "inputs": str(root / f"{index}.npz"), "predictions": str(root / f"{index}.npy")}
        )
    (root / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    script = Path(__file__).with_name("open_with_flax.py")
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    process = subprocess.run(
        [python, str(script), str(root / "jobs.json")],
        env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    return {
        name: {**each, "predictions": np.load(job["predictions"])}
        for name, each, job in zip(NAMES, found, jobs, strict=True)
    }


@pytest.mark.parametrize("name", NAMES)
def test_opened_whole(name: str, opened: dict[str, dict[str, Any]]) -> None:
    assert opened[name]["told"] == []
    assert opened[name]["class"] == f"Flax{reference(name).config['architectures'][0]}"


@pytest.mark.parametrize("name", NAMES)
def test_same_answers(name: str, opened: dict[str, dict[str, Any]], full_precision: None) -> None:
    """In float32, of which both lose some to rounding."""
    given = reference(name)
    model, params = from_pretrained(THIRD_PARTY / name, **CHANGES.get(name, {}))
    output = jax.device_get(model.apply({"params": params}, **given.inputs))
    ours = output.logits["default"] if output.logits else output.last_hidden_state
    theirs = opened[name]["predictions"]
    assert np.abs(ours - theirs.reshape(ours.shape)).max() <= 2e-5 * np.abs(ours).max()
