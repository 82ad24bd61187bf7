"""A run whose learning rate makes it diverge: its report, against NumPy on the states that the run went through."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import logsumexp

from tests import tiny
from tlx.errors import TlxError
from tlx.params.paths import flatten
from tlx.recipes import finetune

pytestmark = pytest.mark.slow
RATE = 3e38  # of SGD: the first updates bring a head to the end of float32's range


@pytest.mark.long
def test_the_report_names_what_happened(config: Any, tmp_path: Path) -> None:
    """The loss overflows. Only the head is trained and nothing is dropped out: evaluation has each step's logits."""
    config.params.trainable, config.features.cache, config.data.packing = "heads", "off", "off"
    config.model.classifier_dropout = 0.0
    config.optimizer.name, config.optimizer.clip = "sgd", 0.0
    config.optimizer.learning_rate, config.optimizer.schedule, config.optimizer.warmup_fraction = RATE, "constant", 0.0
    config.train.max_skipped, config.train.log_every = 1, 1
    job = finetune.build(config, tmp_path / "run")
    states: list[Any] = []
    tiny.before_each_step(job, lambda state: states.append(jax.device_get(state)))
    with pytest.raises(TlxError, match=r"which is more in a row than config\.train\.max_skipped") as ended:
        job.run(quiet=True)
    report = json.loads((tmp_path / "run" / "non_finite.json").read_text())

    logits, totals = [], []
    for state, batch in zip(states, job.batches(), strict=False):
        rows = batch["train"]
        fields = {name: rows[name] for name in job.inputs.fields if name in rows}
        logits.append(np.asarray(job.forward(state.params, {}, fields)["default"], np.float64))
        label = np.asarray(rows["label"])
        totals.append((logsumexp(logits[-1], axis=1) - logits[-1][np.arange(20), label]).sum())
    bad = [index for index, total in enumerate(totals) if not total < np.finfo(np.float32).max]
    first = bad[0]
    assert first > 0 and bad == [first, first + 1] and len(states) == first + 2  # the run ends after the second
    before, end = flatten(states[first].params), flatten(states[-1].params)
    assert all(np.isfinite(leaf).all() and np.array_equal(leaf, end[path]) for path, leaf in before.items())

    last = first + 2
    assert report["step"] == last and report["skipped_steps"] == [last - 1, last]
    assert f"steps {last - 1} to {last} is not finite" in str(ended.value)
    ids = np.asarray(next(job.batches(last - 1))["train"]["example_id"])
    assert report["examples"] == {"train": ids.tolist()} and len(set(ids)) == 20
    update = report["updates"]["update"]
    assert update["losses"] == {"default": "inf"} and np.isfinite(logits[-1]).all()
    for part in (report["parameters"], report["batch"], update["activations"]):
        assert part["not_finite"] == [] and part["arrays_not_finite"] == 0
    largest = {row["path"]: row["largest"] for row in update["activations"]["largest"]}
    path = max(largest, key=lambda path: largest[path])
    assert path.startswith("heads") and largest[path] == pytest.approx(np.abs(logits[-1]).max(), rel=1e-6)
    largest = {row["path"]: row["largest"] for row in report["parameters"]["largest"]}
    for path in ("heads/default/output/kernel", "heads/default/output/bias"):
        assert largest[path] == pytest.approx(np.abs(before[path]).max(), rel=1e-6) and largest[path] > 1e30
