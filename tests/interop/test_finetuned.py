"""A model that tlx fine-tuned, exported and opened by transformers, predicts the same on a whole set.

With TLX_RUN=RUN_DIRECTORY it is that run's whole test set; the answers that the run saved are the ones compared.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests import tiny
from tests.recipes.questions import write_squad
from tlx.pretrained.save import write_folder
from tlx.recipes import finetune
from tlx.recipes.splits import load_tables
from tlx.recipes.trained import load_run
from tlx.runs.predictions import predict_examples

pytestmark = pytest.mark.interop
SCRIPT = Path(__file__).with_name("classify_with_torch.py")


def compare(run: Path, torch_python: str, tmp_path: Path) -> int:
    """Asserts that both answer alike; returns on how many examples."""
    trained = load_run(run)
    write_folder(tmp_path / "export", trained.model, trained.params, tokenizer_from=trained.pretrained)
    kind = trained.config["head"]["kind"]
    table = load_tables(ConfigDict(trained.config["data"]), trained.inputs, kind)["test"]
    texts = {"texts": table.column(trained.config["data"]["text"]), "max_length": trained.config["data"]["max_length"]}
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    subprocess.run(
        [torch_python, str(SCRIPT), str(tmp_path / "export"), str(tmp_path / "texts.json"), str(tmp_path / "a.npy")],
        check=True, timeout=600,
    )  # fmt: skip
    theirs, ours = np.load(tmp_path / "a.npy"), np.load(run / "predictions" / "test.npz")["predictions"]
    worst = np.abs(theirs - ours).max() / np.abs(theirs).max()
    print(f"\n{run.name}: {len(ours)} examples, largest difference {worst:.1e} of the largest answer")
    assert worst < 1e-4
    if trained.config["head"]["kind"] == "classification":
        assert (theirs.argmax(-1) == ours.argmax(-1)).all()
    return len(ours)


@pytest.mark.parametrize("kind", ["classification", pytest.param("regression", marks=pytest.mark.slow)])
def test_same_predictions(kind: str, torch_python: str, tmp_path: Path) -> None:
    config = tiny.config(tiny.write_checkpoint(tmp_path / "c"), tiny.write_reviews(tmp_path / "r.csv", 200))
    config.train.epochs, config.head.kind = 2.0, kind
    config.data.label = "label" if kind == "classification" else "score"
    finetune.build(config, tmp_path / "run").run(quiet=True)
    assert compare(tmp_path / "run", torch_python, tmp_path) == 40


@pytest.mark.skipif("TLX_RUN" not in os.environ, reason="TLX_RUN names no run directory")
def test_same_predictions_of_a_given_run(torch_python: str, tmp_path: Path) -> None:
    compare(Path(os.environ["TLX_RUN"]), torch_python, tmp_path)


def test_question_answering_has_the_windows_logits_and_loss_of_transformers(torch_python: str, tmp_path: Path) -> None:
    """Of a run on contexts of several windows: the same tokens, and the same loss for the labels of both."""
    config = tiny.config(tiny.write_checkpoint(tmp_path / "c"), tmp_path)
    data = write_squad(tmp_path / "data.json", 30, 0, impossible=True)
    config.data.train = config.data.test = f"squad:{data}"
    config.data.text, config.data.pair, config.data.label = "question", "context", "answers"
    config.data.test_fraction, config.data.max_length, config.data.stride = 0.0, 20, 6
    config.head.kind, config.head.null_threshold, config.train.epochs = "question_answering", 0.0, 2.0
    job = finetune.build(config, tmp_path / "run")
    summary = job.run(quiet=True)
    trained = load_run(tmp_path / "run")
    write_folder(tmp_path / "export", trained.model, trained.params, tokenizer_from=trained.pretrained)
    subprocess.run(
        [torch_python, str(SCRIPT.with_name("answer_with_torch.py")), str(tmp_path / "export"), str(data), "20", "6",
         str(tmp_path / "found.npz")],
        check=True, timeout=600,
    )  # fmt: skip
    examples = job.tasks["default"].splits["test"]
    with np.load(tmp_path / "found.npz") as theirs:
        np.testing.assert_array_equal(examples.ids, theirs["ids"])  # type: ignore[attr-defined]
        np.testing.assert_allclose(predict_examples(trained, examples), theirs["logits"], atol=1e-4)
        assert len(theirs["losses"]) == len(examples) > 60
        assert summary["metrics"]["test/loss"] == pytest.approx(theirs["losses"].mean(), rel=1e-5)
