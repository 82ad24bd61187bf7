"""Several tasks from one config: shared rows, packing, resumption, single-task baselines, what is refused."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests import tiny
from tests.recipes.several import config_of, with_words
from tests.recipes.test_compiled import programs_in
from tlx.cli.experiment import train_baselines
from tlx.data.joint import JointExamples
from tlx.errors import TlxError
from tlx.models.heads import Head
from tlx.params.paths import flatten
from tlx.recipes import finetune
from tlx.recipes.baselines import read_baselines, single_task_configs
from tlx.recipes.run_directory import heads_as_json, write_json
from tlx.recipes.tasks import configs_by_task
from tlx.studies.run_records import read_runs


def test_tasks_of_the_same_rows_share_them(task_files: Path) -> None:
    job = finetune.build(config_of(task_files), task_files / "shared")
    stream = job.streams["train"].examples
    assert isinstance(stream, JointExamples) and list(stream.lengths_by_part) == ["kind", "score+tone"]
    assert list(job.streams) == ["train"]
    batch = next(iter(job.batches()))["train"]
    np.testing.assert_array_equal(batch["label_tone_mask"], batch["label_score_mask"])
    assert not (np.asarray(batch["label_tone_mask"]) & np.asarray(batch["label_kind_mask"])).any()


def with_holes(folder: Path) -> Any:
    """Reviews of which each has the labels of some tasks only."""
    kinds = ("telling", "-100", "", "mixed")
    lines = ["text,label,score,aspects,plot,warmth"]
    for i, line in enumerate((folder / "reviews.csv").read_text().splitlines()[1:61]):
        text, label, score = line.split(",")
        label, score = "" if i % 3 == 0 else label, "" if i % 4 == 1 else score
        lines.append(f"{text},{label},{score},{kinds[i % 4]},{i % 2},{'' if i % 5 == 2 else (i // 2) % 2}")
    (folder / "holes.csv").write_text("\n".join(lines) + "\n")
    config = config_of(folder, **{"data.train": f"csv:{folder / 'holes.csv'}", "train.epochs": 1.0})
    config.tasks = {
        "tone": {"data": {"label": "label"}},
        "score": {"data": {"label": "score"}, "head": {"kind": "regression"}},
        "aspects": {"data": {"label": "aspects"}},
        "marks": {"data": {"label": "plot,warmth"}, "head": {"kind": "multilabel"}},
    }
    return config


def test_rows_with_the_labels_of_some_tasks(
    task_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tasks with empty labels and with -100 share rows, each split in the same way, and a row has what it has."""
    config = with_holes(task_files)
    job = finetune.build(config, tmp_path / "run")
    said = capsys.readouterr().out
    stream = job.streams["train"].examples
    assert isinstance(stream, JointExamples) and list(stream.lengths_by_part) == ["aspects+marks+score+tone"]
    has = {
        "tone": lambda i: i % 3 != 0, "score": lambda i: i % 4 != 1, "aspects": lambda i: i % 4 in (0, 3),
        "marks": lambda i: i % 5 != 2,
    }  # fmt: skip
    rows = {part: set[int]() for part in ("train", "validation", "test")}
    for name, task in job.tasks.items():
        for part, found in rows.items():
            ids = task.splits[part].example_id.tolist()
            assert all(has[name](row) for row in ids)
            found.update(ids)
        left_out = job.facts["tasks"][name]["left_out_without_label"]
        assert sum(left_out.values()) == sum(not has[name](row) for row in range(60))
        for part, count in left_out.items():
            assert f"{part}: {count} rows have no label" in said
    assert sorted(row for found in rows.values() for row in found) == [
        row for row in range(60) if any(each(row) for each in has.values())
    ]
    assert stream.example_id.tolist() == sorted(rows["train"])
    batch = next(job.batches())["train"]
    for name, task in job.tasks.items():
        label_of = dict(
            zip(task.splits["train"].example_id.tolist(), task.splits["train"].labels.tolist(), strict=True)
        )
        ids, mask = np.asarray(batch["example_id"]), np.asarray(batch[f"label_{name}_mask"])
        for row, known, label in zip(
            ids.ravel(), mask.ravel(), np.asarray(batch[f"label_{name}"]).reshape(ids.size, -1)
        ):
            assert known == (row in label_of)
            if known:
                np.testing.assert_array_equal(label, np.ravel(label_of[row]))


@pytest.mark.long
def test_a_run_with_missing_labels(task_files: Path, tmp_path: Path) -> None:
    """It ends, its metrics are of the rows with a label, and with `refuse` it does not begin."""
    config = with_holes(task_files)
    job = finetune.build(config, tmp_path / "run")
    metrics = job.run(quiet=True)["metrics"]
    split = job.tasks["tone"].splits["test"]
    predicted = job.predictions(job.best(), "test", "tone").argmax(axis=1)
    assert metrics["tone/test/accuracy"] == pytest.approx((predicted == split.labels).mean())
    config.data.unlabelled = "refuse"
    with pytest.raises(TlxError, match="the label in 'aspects' is missing"):
        finetune.build(config, tmp_path / "refused")
    config.data.unlabelled = "mask"
    with pytest.raises(TlxError, match=r"config.data.unlabelled is 'mask'; it is one of refuse, leave_out"):
        finetune.build(config, tmp_path / "unknown")


@pytest.mark.long
def test_words_and_texts_are_judged_in_one_run(task_files: Path, tmp_path: Path) -> None:
    """The head of the words answers for every token of the texts, and the head of the texts once for each sentence.

    All tasks train in one program and are evaluated by one.
    """
    job = finetune.build(with_words(task_files, tmp_path), tmp_path / "run")
    with programs_in(tmp_path / "programs"):
        found = job.run(quiet=True)["metrics"]
    names = [file.name.split("-")[0] for file in (tmp_path / "programs").glob("*-cache")]
    assert (names.count("jit_train_step"), names.count("jit_forward")) == (1, 1)
    assert found["words/validation/accuracy"] > 0.9 and np.isfinite(found["tone/validation/loss"])


@pytest.mark.long
@pytest.mark.parametrize("method", ["equal", "pcgrad"])
def test_a_packed_step_is_that_of_the_same_rows_alone(task_files: Path, method: str, tmp_path: Path) -> None:
    """Of texts, words and masked texts; the losses of each task, the parameters after the step, and predictions."""
    fields = {f"model.{name}": 0.0 for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")}
    fields |= {"optimizer.name": "sgd", "optimizer.learning_rate": 0.1, "optimizer.warmup_fraction": 0.0}
    jobs = {}
    for packing in ("on", "off"):
        config = with_words(task_files, tmp_path, method, **fields, **{"data.packing": packing})
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
@pytest.mark.parametrize(
    ("method", "epochs", "after"),
    [("pcgrad", 2, 12), ("famo", 2, 12), ("gradnorm", 2, 12), ("rlw", 2, 12), ("dwa", 4, 30)],
)
def test_a_run_that_goes_on_ends_with_the_same_bits(
    task_files: Path, method: str, epochs: int, after: int, tmp_path: Path
) -> None:
    """Stopped when the balance's state is another than at first; DWA's weights move from the third epoch on."""
    fields = {"sampler.law": "annealed", "train.epochs": float(epochs)}
    state = tiny.check_stopped_and_resumed(lambda: config_of(task_files, method, **fields), tmp_path, after)
    moves = {"famo": "logits", "gradnorm": "parameters", "dwa": "before"}
    if method in moves:
        assert len(set(state[moves[method]].tolist())) == 3
    else:
        assert state["step"] > after
    assert (tmp_path / "parts" / "plots" / "conflicts.png").is_file() == (method in ("pcgrad", "gradnorm"))


@pytest.mark.long
def test_a_run_of_batches_of_one_task_goes_on(task_files: Path, tmp_path: Path) -> None:
    fields = {"sampler.law": "annealed", "sampler.batches": "one_task"}
    tiny.check_stopped_and_resumed(lambda: config_of(task_files, **fields), tmp_path, 12)


def test_configs_of_each_task_alone(task_files: Path) -> None:
    config = config_of(task_files, "cagrad", **{"method.c": 0.3, "baselines": "elsewhere"})
    found = single_task_configs(config)
    assert list(found) == ["kind", "score", "tone"]
    for name, own in found.items():
        assert list(configs_by_task(own)) == [name] and own.method.to_dict() == {"name": "equal"}
        assert (own.single_task, own.baselines, own.train) == (name, "", config.train)
    assert config.method.name == "cagrad" and config.single_task == ""
    found["tone"].single_task = "tune"
    with pytest.raises(TlxError, match="the tasks are kind, score, tone"):
        configs_by_task(found["tone"])


def test_what_is_no_baseline(task_files: Path, tmp_path: Path) -> None:
    config = config_of(task_files, baselines=str(tmp_path))
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
def test_the_gain_over_runs_of_each_task_alone(task_files: Path, tmp_path: Path) -> None:
    config = config_of(task_files, **{"baselines": str(tmp_path), "train.epochs": 1.0})
    del config.tasks["score"]  # whose R² is about 0 here
    train_baselines(config)
    summary = finetune.build(config, tmp_path / "run").run(quiet=True)
    for split in ("validation", "test"):
        gains = []
        for task, name in (("tone", "macro_f1"), ("kind", "accuracy")):
            alone = read_metrics_of(tmp_path / task)[f"{task}/{split}/{name}"]
            gains.append((summary["metrics"][f"{task}/{split}/{name}"] - alone) / alone)
        assert summary["metrics"][f"{split}/delta_m"] == pytest.approx(np.mean(gains))
    facts, records = read_runs([tmp_path / "run"])
    assert facts.metrics["delta_m"] == "maximize"
    assert records[0].metrics["test/delta_m"] == pytest.approx(np.mean(gains))


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
def test_bad_settings_are_refused(task_files: Path, tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TlxError, match=message):
        finetune.build(config_of(task_files, **fields), tmp_path / "run")


def test_unknown_fields_of_a_task_are_refused(task_files: Path, tmp_path: Path) -> None:
    config = config_of(task_files)
    config.tasks.tone.data.lable = "label"
    with pytest.raises(TlxError, match="lable is set"):
        finetune.build(config, tmp_path / "run")
    config = config_of(task_files)
    config.tasks.tone.wieght = 2.0
    with pytest.raises(TlxError, match="wieght is set"):
        finetune.build(config, tmp_path / "run")
    config = config_of(task_files)
    config.tasks = ConfigDict()
    with pytest.raises(TlxError, match="name them in config"):
        finetune.build(config, tmp_path / "run")
    assert json.dumps(config.to_dict()["sampler"])
