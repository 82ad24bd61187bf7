"""Text models adapted to a target: exported without what only training needs, and used by the commands."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tlx.cli.main import main
from tlx.params.paths import flatten
from tlx.pretrained.load import from_pretrained
from tlx.recipes import finetune


def adapted(folder: Path, method: str) -> finetune.Job:
    """A run of a few steps, with 40 target texts that also have labels for the test."""
    config = tiny.config(tiny.write_checkpoint(folder / "c"), tiny.write_reviews(folder / "source.csv", 60))
    config.data.target = config.data.target_test = f"csv:{tiny.write_reviews(folder / 'target.csv', 40, 1)}"
    config.data.test_fraction, config.train.epochs, config.method.name = 0.0, 1.0, method
    job = finetune.build(config, folder / "run")
    job.run(quiet=True)
    return job


@pytest.mark.long
@pytest.mark.parametrize("method", ["dann", "mcd", "adda", "shot"])
def test_export_and_predict(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = adapted(tmp_path, method)
    run, to = str(tmp_path / "run"), tmp_path / "exported"
    assert any(path.startswith("aux/") for path in flatten(job.state.params)) == (method != "shot")
    assert main(["export", run, "--to", str(to)]) in (None, 0)
    card = (to / "README.md").read_text()
    assert f'| method.name | "{method}" |' in card and "target.csv | 40 |" in card
    model, params = from_pretrained(to)
    examples = job.tasks["default"].splits["target_test"]
    expected = job.predictions(job.best(), "target_test")
    batch: dict[str, Any] = examples.take(np.arange(len(examples)), 16)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    found = model.apply({"params": params}, **inputs).logits["default"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    command = ["predict", run, "--input", str(tmp_path / "target.csv"), "--output", str(tmp_path / "answers.csv")]
    assert main(command) in (None, 0)
    with (tmp_path / "answers.csv").open(newline="") as opened:
        answers = [row["predicted"] for row in csv.DictReader(opened)]
    assert answers == [job.tasks["default"].head.labels[row] for row in expected.argmax(axis=1)]
    capsys.readouterr()
