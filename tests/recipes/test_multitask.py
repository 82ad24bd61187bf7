"""Several tasks from one config: training, per-task metrics, resumption, export and prediction."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from sklearn.metrics import accuracy_score, f1_score, r2_score

from tests import tiny
from tests.tiny import BAD, GOOD, NEUTRAL, write_checkpoint, write_reviews
from tlx.cli.experiment import train_baselines
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.models.heads import Head
from tlx.params.paths import flatten
from tlx.recipes import defaults, finetune
from tlx.recipes.baselines import read_baselines, single_task_configs
from tlx.recipes.datasets import load_datasets
from tlx.recipes.run_directory import heads_as_json, write_json
from tlx.recipes.tasks import configs_by_task
from tlx.recipes.trained import load_run
from tlx.runs.evaluate import evaluate
from tlx.runs.predictions import predict_examples, rows_of
from tlx.studies.analysis import analyse
from tlx.studies.run_records import read_runs
from tlx.training.writers import read_metrics


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, reviews with two labels, and a set of its own with a third."""
    folder = tmp_path_factory.mktemp("tasks")
    write_checkpoint(folder / "checkpoint")
    write_reviews(folder / "reviews.csv", 120)
    random = np.random.default_rng(5)
    lines = ["words,kind"]
    for _ in range(60):
        neutral = random.random() < 0.5
        words = random.choice(NEUTRAL if neutral else GOOD + BAD, 4)
        lines.append(f"{' '.join(words)},{'neutral' if neutral else 'telling'}")
    (folder / "kinds.csv").write_text("\n".join(lines) + "\n")
    return folder


def config_of(files: Path, method: str = "equal", **fields: Any) -> ConfigDict:
    config = defaults.multitask()
    config.model.checkpoint = str(files / "checkpoint")
    config.data.train, config.data.max_length = f"csv:{files / 'reviews.csv'}", 16
    config.data.test_fraction, config.data.cache = 0.1, "off"
    config.tasks = {
        "tone": {"data": {"label": "label"}, "metric": "macro_f1"},
        "score": {"data": {"label": "score"}, "head": {"kind": "regression"}, "weight": 0.5},
        "kind": {"data": {"train": f"csv:{files / 'kinds.csv'}", "text": "words", "label": "kind"}},
    }
    config.method.name = method
    config.optimizer.learning_rate, config.train.batch_size, config.train.epochs = 2e-3, 16, 2.0
    config.update_from_flattened_dict(fields)
    return config


@pytest.fixture(scope="module")
def run(files: Path) -> tuple[Path, dict[str, Any]]:
    workdir = files / "run"
    config = config_of(files, **{"train.evaluate_every": 0.5, "data.validation_fraction": 0.2, "train.epochs": 4.0})
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
def test_evaluated_again(run: tuple[Path, dict[str, Any]], files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All tasks at once, one, and one on another file."""
    workdir, summary = run
    found = evaluate(workdir)
    assert found.keys() == {f"{task}/{split}" for task in ("kind", "score", "tone") for split in ("validation", "test")}
    for name, each in found.items():
        for metric, value in each.metrics.items():
            assert summary["metrics"][f"{name}/{metric}"] == pytest.approx(value, abs=1e-5), (name, metric)
    assert evaluate(workdir, task="kind").keys() == {"kind/validation", "kind/test"}
    other = f"csv:{files / 'kinds.csv'}"
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


def test_tasks_of_the_same_rows_share_them(files: Path) -> None:
    job = finetune.build(config_of(files), files / "shared")
    stream = job.streams["train"].examples
    assert list(stream.lengths_by_part) == ["kind", "score+tone"]  # type: ignore[attr-defined]
    assert list(job.streams) == ["train"]
    batch = next(iter(job.batches()))["train"]
    np.testing.assert_array_equal(batch["label_tone_mask"], batch["label_score_mask"])
    assert not (np.asarray(batch["label_tone_mask"]) & np.asarray(batch["label_kind_mask"])).any()


def with_words(files: Path, folder: Path, method: str = "equal", **fields: Any) -> ConfigDict:
    """Reviews with a label and a number, and sentences of tagged words."""
    (folder / "tags.conll").write_text(
        "".join(f"{GOOD[i % 3]} B-X\n{BAD[i % 2]} O\n{'a O' * (i % 2)}\n\n" for i in range(60))
    )
    config = config_of(files, method, **fields)
    config.tasks = {
        "tone": {"data": {"label": "label"}},
        "score": {"data": {"label": "score"}, "head": {"kind": "regression"}},
        "words": {
            "data": {"train": f"conll:{folder / 'tags.conll'}", "text": "tokens", "label": "tags"},
            "head": {"kind": "tagging"},
        },
    }
    return config


@pytest.mark.long
def test_words_and_texts_are_judged_in_one_run(files: Path, tmp_path: Path) -> None:
    """The head of the words answers for every token of the texts, and the head of the texts once for each sentence."""
    found = finetune.build(with_words(files, tmp_path), tmp_path / "run").run(quiet=True)["metrics"]
    assert found["words/validation/accuracy"] > 0.9 and np.isfinite(found["tone/validation/loss"])


@pytest.mark.long
@pytest.mark.parametrize("method", ["equal", "pcgrad"])
def test_a_packed_step_is_that_of_the_same_rows_alone(files: Path, method: str, tmp_path: Path) -> None:
    """Of texts, words and masked texts; the losses of each task, the parameters after the step, and predictions."""
    fields = {f"model.{name}": 0.0 for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")}
    fields |= {"optimizer.name": "sgd", "optimizer.learning_rate": 0.1, "optimizer.warmup_fraction": 0.0}
    jobs = {}
    for packing in ("on", "off"):
        config = with_words(files, tmp_path, method, **fields, **{"data.packing": packing})
        config.tasks["masked"] = {"data": {"label": "label"}, "head": {"kind": "masked_lm"}}
        jobs[packing] = finetune.build(config, tmp_path / packing)
    job = jobs["on"]
    assert job.packing is not None and jobs["off"].packing is None
    batch = next(job.batches())
    rows = np.asarray(batch["train"]["position"])
    assert rows.ndim == 2 and (rows >= 0).sum() == 16
    alone = {"train": job.streams["train"].examples.take(rows[rows >= 0], 16)}
    found = []
    for given in (batch, alone):
        state = jax.tree.map(lambda leaf: leaf.copy() if isinstance(leaf, jax.Array) else leaf, job.state)
        state, metrics = job.phases[0].step(state, given)
        found.append((flatten(state.params), {name: metrics[name] for name in metrics if "loss" in name}))
    (params, losses), (others, same) = found
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(
        {name: float(value) for name, value in same.items()}, rel=2e-5
    )
    before = flatten(job.state.params)
    largest = max(float(np.abs(params[path] - before[path]).max()) for path in params)
    assert largest > 1e-3
    for path, leaf in params.items():
        np.testing.assert_allclose(others[path], leaf, rtol=0, atol=max(2e-5 * largest, 2e-7), err_msg=path)
    for task in job.tasks:
        together, each = (one.predictions(job.state.variables, "validation", task) for one in jobs.values())
        np.testing.assert_allclose(together, each, rtol=0, atol=1e-5 * np.nanmax(np.abs(each)))


@pytest.mark.long
@pytest.mark.parametrize("method", ["pcgrad", "famo", "dwa"])
def test_a_run_that_goes_on_ends_with_the_same_bits(files: Path, method: str, tmp_path: Path) -> None:
    fields = {"sampler.law": "annealed", "sampler.batches": "one_task"}
    tiny.check_stopped_and_resumed(lambda: config_of(files, method, **fields), tmp_path, 12)


@pytest.mark.long
def test_predictions_of_all_tasks(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    trained = load_run(run[0])
    texts = ["a fine film", "the dull plot was grim", "and the was"]
    with pytest.raises(TlxError, match="read different columns"):
        _ = trained.columns
    rows = rows_of(trained, texts)
    examples = trained.inputs.encode_inputs(texts, "classification")
    for name, head in trained.heads.items():
        alone = rows_of(trained.of_task(name), texts)
        assert [row[name] for row in rows] == alone
        assert isinstance(head, Head) and len(examples) == 3
    assert main(["predict", str(run[0]), "a fine film", "--task", "tone"]) in (None, 0)


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


def test_configs_of_each_task_alone(files: Path) -> None:
    config = config_of(files, "cagrad", **{"method.c": 0.3, "baselines": "elsewhere"})
    found = single_task_configs(config)
    assert list(found) == ["kind", "score", "tone"]
    for name, own in found.items():
        assert list(configs_by_task(own)) == [name] and own.method.to_dict() == {"name": "equal"}
        assert (own.single_task, own.baselines, own.train) == (name, "", config.train)
    assert config.method.name == "cagrad" and config.single_task == ""
    found["tone"].single_task = "tune"
    with pytest.raises(TlxError, match="the tasks are kind, score, tone"):
        configs_by_task(found["tone"])


def test_what_is_no_baseline(files: Path, tmp_path: Path) -> None:
    config = config_of(files, baselines=str(tmp_path))
    with pytest.raises(TlxError, match="no finished run of kind, score, tone"):
        finetune.build(config, tmp_path / "run")
    heads = heads_as_json({"default": Head("regression", 1)})
    for name, own in single_task_configs(config).items():
        (tmp_path / name).mkdir()
        own.train.epochs = 9.0 if name == "score" else own.train.epochs
        write_json(tmp_path / name / "config.json", {"config": own.to_dict(), "heads": heads})
        write_json(tmp_path / name / "summary.json", {"metrics": {}})
    with pytest.raises(TlxError, match=r"another config\.train\.epochs than this run has"):
        finetune.build(config, tmp_path / "run")
    del config.tasks["score"]
    assert read_baselines(config) == {"kind": {}, "tone": {}}
    config.tasks.tone.data.test = "csv:other.csv"
    with pytest.raises(TlxError, match=r"another config\.data\.test than"):
        read_baselines(config)


@pytest.mark.long
def test_the_gain_over_runs_of_each_task_alone(files: Path, tmp_path: Path) -> None:
    config = config_of(files, **{"baselines": str(tmp_path), "train.epochs": 1.0})
    del config.tasks["score"]  # whose R² is about 0 here
    train_baselines(config)
    summary = finetune.build(config, tmp_path / "run").run(quiet=True)
    for split in ("validation", "test"):
        gains = []
        for task, name in (("tone", "macro_f1"), ("kind", "accuracy")):
            alone = read_metrics_of(tmp_path / task)[f"{task}/{split}/{name}"]
            gains.append((summary["metrics"][f"{task}/{split}/{name}"] - alone) / alone)
        assert summary["metrics"][f"{split}/delta_m"] == pytest.approx(np.mean(gains))


def read_metrics_of(run: Path) -> dict[str, float]:
    return json.loads((run / "summary.json").read_text())["metrics"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method.name": "finetune"}, "which trains one task"),
        ({"tasks.tone.metric": "loss"}, "better when they are higher"),
        ({"sampler.law": "even"}, "law is 'even'"),
        ({"sampler.batches": "all"}, "batches is 'all'"),
        ({"data.train_rows": -1}, "data.train_rows is -1"),
        ({"tasks.tone.data.max_length": 8}, "all tasks of a run share it, so set config.data.max_length"),
    ],
)
def test_bad_settings_are_refused(files: Path, tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TlxError, match=message):
        finetune.build(config_of(files, **fields), tmp_path / "run")


def test_unknown_fields_of_a_task_are_refused(files: Path, tmp_path: Path) -> None:
    config = config_of(files)
    config.tasks.tone.data.lable = "label"
    with pytest.raises(TlxError, match="lable is set"):
        finetune.build(config, tmp_path / "run")
    config = config_of(files)
    config.tasks.tone.wieght = 2.0
    with pytest.raises(TlxError, match="wieght is set"):
        finetune.build(config, tmp_path / "run")
    config = config_of(files)
    config.tasks = ConfigDict()
    with pytest.raises(TlxError, match="name them in config"):
        finetune.build(config, tmp_path / "run")
    assert json.dumps(config.to_dict()["sampler"])
