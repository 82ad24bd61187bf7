"""A run that answers questions: training, resumption, prediction, evaluation, export, and as one of several tasks."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.recipes.questions import write_squad
from tests.recipes.test_compiled import programs_in
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.evaluation.spans import normalised
from tlx.pretrained.load import from_pretrained
from tlx.recipes import defaults, finetune
from tlx.recipes.trained import load_run
from tlx.runs.predictions import predict_examples, rows_of

pytestmark = pytest.mark.slow


def configured(place: Path, contexts: int = 80, **changes: Any) -> Any:
    """Contexts of up to three windows, a third of them with a question that has no answer."""
    config = tiny.config(tiny.write_checkpoint(place / "checkpoint"), place)
    config.data.train = f"squad:{write_squad(place / 'train.json', contexts, 0, impossible=True, longest=24)}"
    config.data.test = f"squad:{write_squad(place / 'test.json', 20, 1, impossible=True, longest=24)}"
    config.data.text, config.data.pair, config.data.label = "question", "context", "answers"
    config.data.test_fraction = 0.0
    config.data.max_length, config.data.stride, config.data.packing = 20, 8, "auto"
    config.head.kind, config.head.null_threshold = "question_answering", 0.0
    config.train.epochs, config.train.evaluate_every = 20.0, 10.0
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("questions")
    finetune.build(configured(folder), folder / "run").run(quiet=True)
    return folder


def questions(file: Path) -> list[dict[str, Any]]:
    paragraphs = json.loads(file.read_text())["data"][0]["paragraphs"]
    return [{**question, "context": each["context"]} for each in paragraphs for question in each["qas"]]


@pytest.mark.long
def test_a_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It learns; summary, saved predictions, `tlx predict` and `tlx evaluate` agree, counted here by hand."""
    summary = json.loads((place / "run" / "summary.json").read_text())
    asked = questions(place / "test.json")
    assert summary["metrics"]["test/f1"] > 0.8 and "the best validation/f1" in summary["selection"]
    counts = summary["questions"]["test"]
    assert counts["questions"] == 40 and counts["windows"] > 55 and counts["windowed_questions"] > 15
    assert counts["without_answer"] == sum(not question["answers"] for question in asked) > 5

    main(["predict", f"{place}/run", "--input", f"{place}/test.json", "--format", "squad"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == [question["id"] for question in asked]
    right = []
    for row, question in zip(rows, asked, strict=True):
        assert 0 < row["score"] <= 1
        assert (row["start"] is None) == (row["predicted"] == "")
        assert row["start"] is None or row["context"][row["start"] :].startswith(row["predicted"])
        true = {normalised(answer["text"]) for answer in question["answers"]} or {""}
        right.append(normalised(row["predicted"]) in true)
    assert summary["metrics"]["test/exact_match"] == pytest.approx(np.mean(right))
    with np.load(place / "run" / "predictions" / "test.npz") as saved:
        assert saved["predictions"].tolist() == [row["predicted"] for row in rows]
        assert saved["scores"][:, 0].tolist() == right and saved["example_id"].tolist() == [*range(40)]

    main(["evaluate", f"{place}/run", "--data", f"squad:{place}/test.json"])
    told = capsys.readouterr().out
    assert "40 examples" in told
    for name in ("loss", "exact_match", "f1"):
        assert f"{summary['metrics'][f'test/{name}']:.4f}" in told


@pytest.mark.long
def test_one_step_and_one_evaluation_are_compiled(tmp_path: Path) -> None:
    """And the questions of a context are in one split, although no column of groups is named."""
    with programs_in(tmp_path / "programs"):
        job = finetune.build(configured(tmp_path, 30, **{"train.epochs": 1.0}), tmp_path / "run")
        job.run(quiet=True)
    compiled = Counter(file.name.split("-")[0] for file in (tmp_path / "programs").glob("*-cache"))
    assert (compiled["jit_train_step"], compiled["jit_forward"]) == (1, 1)
    train, validation = ({*job.datasets["default"].tables[part].columns["context"]} for part in ("train", "validation"))
    assert validation and not train & validation


@pytest.mark.long
def test_export_and_csv(place: Path, tmp_path: Path) -> None:
    """The exported head is transformers' `qa_outputs`; the folder loads as the same model; a CSV of questions works."""
    main(["export", f"{place}/run", "--to", str(tmp_path / "export")])
    written = json.loads((tmp_path / "export" / "config.json").read_text())
    assert written["architectures"] == ["BertForQuestionAnswering"]
    assert 'pipeline_tag: "question-answering"' in (tmp_path / "export" / "README.md").read_text()
    model, params = from_pretrained(tmp_path / "export")
    trained, (one, *_) = load_run(place / "run"), questions(place / "test.json")
    assert dict(model.heads_by_name)["default"].kind == "question_answering"
    examples = trained.inputs.encode_inputs([("film", one["context"])], "question_answering")
    ids, types = (values[None, : examples.offsets[1]] for values in (examples.ids, examples.types))
    logits = model.apply({"params": params}, input_ids=ids, token_type_ids=types).logits["default"]
    np.testing.assert_allclose(logits[0], predict_examples(trained, examples)[: examples.offsets[1]], atol=1e-5)

    (tmp_path / "new.csv").write_text(f"question,context\nfilm,{one['context']}\n")
    main(["predict", f"{place}/run", "--input", str(tmp_path / "new.csv"), "--output", str(tmp_path / "out.csv")])
    (row,) = rows_of(trained, [("film", one["context"])])
    header, line = (tmp_path / "out.csv").read_text().splitlines()
    assert header == "question,context,predicted,score,start" and line.split(",")[2] == row["predicted"]


@pytest.mark.long
def test_odd_inputs_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = load_run(place / "run")
    with pytest.raises(TlxError, match="an input is a question and its context"):
        rows_of(trained, ["film"])
    with pytest.raises(SystemExit):
        main(["predict", f"{place}/run", "film"])
    assert "give them with --input FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.pair": None, "data.group": "context"}, r"config\.data\.pair is not set; a question_answ"),
        ({"head.null_threshold": None}, r"row \d+: the question has no answer in 'answers'"),
        ({"head.n_best": 0}, "head n_best is 0"),
        ({"data.stride": 18}, r"leaves 16 of 20 tokens .* overlap by 18"),
        ({"loss.label_smoothing": 0.1}, "span_cross_entropy, the loss of this question_answering head, takes no"),
        ({"train.monitor": "validation/accuracy"}, "has validation/loss, validation/exact_match, validation/f1"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TlxError, match=message):
        finetune.build(configured(tmp_path, **change), tmp_path / "run")


@pytest.mark.long
def test_a_run_that_goes_on_ends_with_the_same_bits(tmp_path: Path) -> None:
    changes = {"train.epochs": 2.0, "train.evaluate_every": 1.0, "train.accumulate": 2}
    tiny.check_stopped_and_resumed(lambda: configured(tmp_path, 30, **changes), tmp_path, 6)


@pytest.mark.long
def test_as_one_of_several_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a classification of other texts: a metric each, predictions and an export of the task by its name."""
    alone = configured(tmp_path, 40)
    config = defaults.multitask()
    config.model.checkpoint, config.parallel.data = alone.model.checkpoint, 1
    config.data.max_length, config.data.stride = 20, 8
    fields = ("train", "test", "text", "pair", "label")
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", 120)
    config.tasks = {
        "answer": {
            "data": {name: alone.data[name] for name in fields},
            "head": {"kind": "question_answering", "null_threshold": 0.0},
        },
        "tone": {"data": {"train": f"csv:{reviews}"}},
    }
    config.optimizer.learning_rate, config.train.batch_size, config.train.epochs = 3e-3, 20, 8.0
    config.train.evaluate_every = 8.0
    summary = finetune.build(config, tmp_path / "run").run(quiet=True)
    main_ones = [summary["metrics"][f"{name}"] for name in ("answer/validation/f1", "tone/validation/accuracy")]
    assert summary["metrics"]["validation/joint"] == pytest.approx(np.mean(main_ones))
    with pytest.raises(TlxError, match="some read questions with contexts and some texts"):
        _ = load_run(tmp_path / "run").kind
    capsys.readouterr()
    source = ["--input", f"{tmp_path}/test.json", "--format", "squad"]
    main(["predict", f"{tmp_path}/run", *source, "--task", "answer"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    right = [row["predicted"] == "".join(row["answers"]["text"]) for row in rows]
    assert len(rows) == 40 and 0 < np.mean(right) < 1
    assert summary["metrics"]["answer/test/exact_match"] == pytest.approx(np.mean(right))
    main(["export", f"{tmp_path}/run", "--task", "answer", "--to", str(tmp_path / "answer")])
    written = json.loads((tmp_path / "answer" / "config.json").read_text())
    assert written["architectures"] == ["BertForQuestionAnswering"]
