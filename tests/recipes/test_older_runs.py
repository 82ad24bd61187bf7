"""A run that revision dccfada began (checkpoint format 2) is opened, goes on, and ends where that revision ended."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.recipes.format_2.make import config
from tlx.pretrained.load import from_pretrained
from tlx.pretrained.save import write_folder
from tlx.recipes import finetune
from tlx.recipes.trained import load_run
from tlx.training.checkpoint import Checkpoints

OLDER = Path(__file__).parent / "format_2"


@pytest.mark.long
@pytest.mark.slow
def test_it_is_opened_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(OLDER, tmp_path / "older")
    monkeypatch.setenv("TLX_OLD_RUN", str(folder))
    trained = load_run(folder / "run")
    assert trained.step == 22
    inputs = trained.inputs.preprocessor.inputs(["a great film", "the plot was dull"])
    logits = trained.model.apply({"params": trained.params}, **inputs).logits["default"]
    exported = write_folder(tmp_path / "export", trained.model, trained.params, tokenizer_from=trained.pretrained)
    model, params = from_pretrained(exported)
    np.testing.assert_array_equal(logits, model.apply({"params": params}, **inputs).logits["default"])

    finetune.build(config(), folder / "run").run(quiet=True)  # type: ignore[arg-type]
    with Checkpoints(folder / "run" / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.meta(44)["format"] == 4
    with np.load(folder / "run" / "predictions" / "test.npz") as found, np.load(folder / "test_ema.npz") as expected:
        np.testing.assert_array_equal(found["example_id"], expected["example_id"])
        np.testing.assert_array_equal(found["labels"], expected["labels"])
        # two processors round a step differently; a count or a moment that started anew is a thousand times more
        np.testing.assert_allclose(found["predictions"], expected["answers"], atol=2e-4)
