"""What a finished run of several tasks leaves, and the commands on it."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.metrics import accuracy_score, f1_score, r2_score

from tests.recipes.several import config_of
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.models.heads import Head
from tlx.recipes import finetune
from tlx.recipes.datasets import load_datasets
from tlx.recipes.tasks import configs_by_task
from tlx.recipes.trained import load_run
from tlx.runs import predictions
from tlx.runs.evaluate import evaluate
from tlx.runs.predictions import predict_examples, rows_of
from tlx.studies.analysis import analyse
from tlx.studies.run_records import read_runs
from tlx.training.writers import read_metrics


@pytest.fixture(scope="module")
def run(task_files: Path) -> tuple[Path, dict[str, Any]]:
    workdir = task_files / "run"
    fields = {"train.evaluate_every": 0.5, "data.validation_fraction": 0.2, "train.epochs": 4.0}
    config = config_of(task_files, **fields)
    return workdir, finetune.build(config, workdir).run(quiet=True)


@pytest.mark.long
def test_metrics_of_each_task_and_their_mean(run: tuple[Path, dict[str, Any]]) -> None:
    _, summary = run
    metrics = summary["metrics"]
    for split in ("validation", "test"):
        main_ones = [
            metrics[f"{name}"] for name in (f"tone/{split}/macro_f1", f"score/{split}/r2", f"kind/{split}/accuracy")
        ]
        assert metrics[f"{split}/joint"] == pytest.approx(np.mean(main_ones))
    assert "validation/joint" in summary["selection"]
    assert metrics["kind/test/accuracy"] > 0.8  # it is the easiest of the three


@pytest.mark.long
def test_evaluated_again(run: Any, task_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All tasks at once, one, and one on another file."""
    workdir, summary = run
    found = evaluate(workdir)
    assert found.keys() == {f"{task}/{split}" for task in ("kind", "score", "tone") for split in ("validation", "test")}
    for name, each in found.items():
        for metric, value in each.metrics.items():
            assert summary["metrics"][f"{name}/{metric}"] == pytest.approx(value, abs=1e-5), (name, metric)
    assert evaluate(workdir, task="kind").keys() == {"kind/validation", "kind/test"}
    other = f"csv:{task_files / 'kinds.csv'}"
    assert evaluate(workdir, other, task="kind")[f"kind/{other}"].metrics["accuracy"] > 0.8
    with pytest.raises(TlxError, match="name one with --task"):
        evaluate(workdir, other)
    assert main(["evaluate", str(workdir), "--task", "tone"]) in (None, 0)
    assert "tone/test" in capsys.readouterr().out


@pytest.mark.long
def test_a_report_of_runs(run: tuple[Path, dict[str, Any]]) -> None:
    facts, records = read_runs([run[0]])
    assert facts.metrics == dict.fromkeys(("joint", "kind/accuracy", "score/r2", "tone/macro_f1"), "maximize")
    study = analyse(facts, records)
    assert study.main == "test/joint" and "tone/validation/macro_f1" in study.metrics
    for name in study.metrics:
        assert study.interval(study.baseline, name).mean == run[1]["metrics"][name]
    facts, _ = read_runs([run[0]], ["score/mean_error"])
    assert facts.metrics == {"score/mean_error": "minimize"} and "validation/joint" in facts.selection


def task_data(workdir: Path, task: str) -> tuple[ConfigDict, Any]:
    """The config of a task and its data, read again."""
    config = configs_by_task(ConfigDict(load_run(workdir).config))[task]
    return config, load_datasets(config, load_run(workdir).inputs)


@pytest.mark.long
def test_the_best_checkpoint_of_each_task(run: tuple[Path, dict[str, Any]]) -> None:
    """Against the evaluations in the log, and the predictions of the checkpoint that was kept."""
    workdir, summary = run
    names = {"tone": "macro_f1", "score": "r2", "kind": "accuracy"}
    lines = [line for line in read_metrics(workdir) if "validation/joint" in line]
    joint = max(lines, key=lambda line: (line["validation/joint"], -line["step"]))["step"]
    assert len({joint, *(best["step"] for best in summary["best_by_task"].values())}) > 1, (
        "all tasks have the same best"
    )
    kept = {int(folder.name) for folder in (workdir / "checkpoints").iterdir()}
    assert kept == {joint, lines[-1]["step"], *(best["step"] for best in summary["best_by_task"].values())}
    for task, name in names.items():
        best, metric = summary["best_by_task"][task], f"{task}/validation/{name}"
        line = max(lines, key=lambda line: (line[metric], -line["step"]))
        assert (best["step"], best["by"], best["metrics"][metric]) == (line["step"], metric, line[metric])
        assert best["metrics"].keys() == {key for key in summary["metrics"] if key.startswith(f"{task}/")}
        examples = finetune.make_task(task, *task_data(workdir, task)).splits["test"]
        predicted = predict_examples(load_run(workdir, best["step"]).of_task(task), examples)
        measures = {"macro_f1": partial(f1_score, average="macro"), "r2": r2_score, "accuracy": accuracy_score}
        measured = measures[name](examples.labels, predicted if task == "score" else predicted.argmax(-1))
        assert best["metrics"][f"{task}/test/{name}"] == pytest.approx(measured, abs=1e-5)


@pytest.mark.long
def test_predictions_of_all_tasks(
    run: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one forward pass for all tasks."""
    passes, of_module = [], predictions.predict
    monkeypatch.setattr(predictions, "predict", lambda *given, **more: passes.append(1) or of_module(*given, **more))
    trained = load_run(run[0])
    texts = ["a fine film", "the dull plot was grim", "and the was"]
    with pytest.raises(TlxError, match="read different columns"):
        _ = trained.columns
    rows = rows_of(trained, texts)
    assert len(passes) == 1
    examples = trained.inputs.encode_inputs(texts, "classification")
    for name, head in trained.heads.items():
        alone = rows_of(trained.of_task(name), texts)
        assert [row[name] for row in rows] == alone
        assert isinstance(head, Head) and len(examples) == 3
    assert main(["predict", str(run[0]), "a fine film", "--task", "tone"]) in (None, 0)
    file, answered = tmp_path / "texts.csv", tmp_path / "answers.csv"
    file.write_text("text\n" + "\n".join(texts) + "\n")
    command = ["predict", str(run[0]), "--input", str(file), "--output", str(answered), "--task", "tone"]
    assert main(command) in (None, 0)
    with answered.open(newline="") as opened:
        answers = [row["predicted"] for row in csv.DictReader(opened)]
    assert answers == [row["tone"]["predicted"] for row in rows]


@pytest.mark.long
def test_export_of_a_task(run: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tlx.pretrained.load import from_pretrained

    with pytest.raises(TlxError, match="name one with --task"):
        _ = load_run(run[0]).head
    joint, to = load_run(run[0]).step, tmp_path / "exported"
    task, best = "tone", run[1]["best_by_task"]["tone"]
    assert best["step"] != joint, "the test needs two checkpoints"
    for options, step, metrics in (([], best["step"], best["metrics"]), (["--joint"], joint, run[1]["metrics"])):
        assert main(["export", str(run[0]), "--task", task, "--to", str(to), *options]) in (None, 0)
        said = capsys.readouterr().err
        assert f"step {step}, its best" in said and (f"by {task}/validation/" in said) == (not options)
        model, params = from_pretrained(to)
        trained = load_run(run[0], step).of_task(task)
        assert dict(model.heads_by_name)["default"].labels == ("bad", "good")
        np.testing.assert_array_equal(
            params["heads"]["default"]["output"]["kernel"], trained.params["heads"]["default"]["output"]["kernel"]
        )
        card = (to / "README.md").read_text()
        assert (
            f"{metrics[f'{task}/test/loss']:.4f}" in card and f"step {step}" in card and "validation/loss" not in card
        )
    with pytest.raises(SystemExit):
        main(["export", str(run[0]), "--joint", "--to", str(to)])
    assert "give it with --task" in capsys.readouterr().err
