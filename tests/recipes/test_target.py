"""A run with a target domain from its config: no label of it is read, and nothing is chosen by one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tlx.cli.main import main
from tlx.data.sources import Table, joined
from tlx.errors import TlxError
from tlx.evaluation.domains import proxy_a_distance
from tlx.evaluation.predict import features_name
from tlx.evaluation.validators import VALIDATORS
from tlx.models.heads import Head
from tlx.params.paths import flatten
from tlx.recipes import defaults, finetune
from tlx.recipes.inspect import inspect
from tlx.recipes.selection import choices, metrics_of_choices, validator_values
from tlx.recipes.trained import load_run
from tlx.reporting.domains import discriminator_curves
from tlx.runs.evaluate import evaluate
from tlx.runs.predictions import rows_of
from tlx.training.writers import read_metrics

CHECKPOINT = Path(__file__).parents[2] / "configs" / "convnet_small"
CLASSES = 3


def images(file: Path, rows: int, seed: int, shift: int = 0, labels: str = "true") -> str:
    """Images with a bright column that says the class, as an npz; `shift` makes all of them brighter."""
    random = np.random.default_rng(seed)
    label = random.integers(0, CLASSES, rows)
    image = random.integers(0, 60, (rows, 8, 8)) + shift
    image[np.arange(rows), :, 2 * label + 1] += 120
    written = {"true": label, "scrambled": random.permutation(label), "wrong": (label + 1) % CLASSES}
    columns = {"image": image.astype(np.uint8)} | ({} if labels == "none" else {"label": written[labels]})
    np.savez(file, **columns)
    return f"npz:{file}"


def config(folder: Path, method: str = "dann", labels: str = "true") -> Any:
    """Four steps an epoch."""
    made = defaults.finetune()
    made.model.checkpoint, made.model.weights = str(CHECKPOINT), "random"
    made.data.train, made.data.validation = images(folder / "s.npz", 60, 0), images(folder / "v.npz", 30, 1)
    made.data.target = images(folder / "t.npz", 45, 2, 60, labels)
    made.data.target_test = images(folder / "tt.npz", 40, 3, 60)
    made.method.name = method
    made.train.epochs, made.train.batch_size, made.train.eval_batch_size = 2.0, 16, 32
    made.train.evaluate_every, made.optimizer.learning_rate = 0.5, 1e-2
    made.parallel.data = 1
    if method in ("dann", "adda"):
        made.method.discriminator = (8,)
    return made


def end(job: finetune.Job) -> dict[str, bytes]:
    return {path: np.asarray(leaf).tobytes() for path, leaf in flatten(job.best().params).items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[finetune.Job, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("target")
    job = finetune.build(config(folder), folder / "run")
    return job, job.run(quiet=True)


@pytest.mark.parametrize("labels", ["wrong", pytest.param("none", marks=pytest.mark.long)])
def test_labels_of_the_target_are_not_read(labels: str, trained: Any, tmp_path: Path) -> None:
    """Other labels, or none, give the same parameters, metrics and choices to the bit."""
    job = finetune.build(config(tmp_path, labels=labels), tmp_path / "run")
    batch = next(job.batches())
    assert "label" in batch["train"] and "label" not in batch["target"]
    summary = job.run(quiet=True)
    assert end(job) == end(trained[0])
    assert (summary["metrics"], summary["target"]) == (trained[1]["metrics"], trained[1]["target"])
    assert summary["sha256"] == trained[1]["sha256"]


@pytest.mark.long
@pytest.mark.parametrize("method", ["adabn", "adda", "cdan_e", "dan", "mcc", "mcd", "pseudo_labels", "shot"])
def test_no_method_reads_labels_of_the_target(method: str, tmp_path: Path) -> None:
    """Also those that label the target themselves before each epoch."""
    ends = []
    for labels in ("true", "scrambled"):
        job = finetune.build(config(tmp_path, method, labels), tmp_path / labels)
        assert (job.run(quiet=True)["metrics"]["target_test/accuracy"]) > 0
        ends.append(end(job))
    assert ends[0] == ends[1]


@pytest.mark.long
def test_labels_of_the_test_set_change_the_report_alone(trained: Any, tmp_path: Path) -> None:
    made = config(tmp_path)
    made.data.target_test = images(tmp_path / "tt.npz", 40, 3, 60, "wrong")
    job = finetune.build(made, tmp_path / "run")
    summary = job.run(quiet=True)
    assert end(job) == end(trained[0]) and summary["selection"] == trained[1]["selection"]
    assert summary["target"]["oracle"] != trained[1]["target"]["oracle"]
    for name, choice in trained[1]["target"]["validators"].items():
        assert summary["target"]["validators"][name]["step"] == choice["step"]


def test_what_each_choice_is_worth(trained: Any) -> None:
    """The summary's choices against the lines of metrics.jsonl."""
    job, summary = trained
    lines = [line for line in read_metrics(job.run_directory) if "target_test/accuracy" in line]
    accuracy = {line["step"]: line["target_test/accuracy"] for line in lines}
    validation = {line["step"]: line["validation/accuracy"] for line in lines}
    assert [*accuracy] == [2, 4, 6, 8]
    found = summary["target"]
    selected = min(step for step in validation if validation[step] == max(validation.values()))
    assert found["selected"] == {"step": selected, "value": accuracy[selected]}
    assert found["last"] == {"step": 8, "value": accuracy[8]}
    assert found["oracle"]["value"] == max(accuracy.values())
    assert summary["metrics"]["target_test/accuracy"] == accuracy[selected]
    assert found["validators"].keys() == VALIDATORS.keys()
    entropy = {line["step"]: line["validator/entropy"] for line in lines}
    assert found["validators"]["entropy"]["step"] == min(entropy, key=lambda step: (entropy[step], step))
    target = job.streams["target"].examples
    logits = job.predict(job.best(), target)
    p = np.exp(logits - logits.max(1, keepdims=True)) / np.exp(logits - logits.max(1, keepdims=True)).sum(1)[:, None]
    expected = -(p * np.log(np.maximum(p, 1e-30))).sum(1).mean()
    np.testing.assert_allclose(entropy[selected], expected, rtol=1e-4)


def test_the_discriminator_is_followed(trained: Any) -> None:
    job, _ = trained
    found = discriminator_curves(read_metrics(job.run_directory))
    ((steps, shares),) = found.values()
    assert steps and all(0 <= share <= 1 for share in shares)
    assert (job.run_directory / "plots" / "discriminator.png").is_file()


def test_features_of_both_domains_before_and_after(trained: Any, tmp_path: Path) -> None:
    """Of the model as it was built and of the best checkpoint; their distance by the saved arrays."""
    job, summary = trained
    folder = job.run_directory / "predictions"
    before, after = (np.load(folder / f"{name}.npz") for name in ("domains_before", "domains"))
    split, target = job.tasks["default"].splits["validation"], job.streams["target"].examples
    new = finetune.build(config(tmp_path), tmp_path / "run")
    for found, variables in ((before, new.state.variables), (after, job.best())):
        for name, examples in (("source", split), ("target", target)):
            np.testing.assert_array_equal(found[name], job.outputs(variables, examples)[features_name("default")])
        apart = round(proxy_a_distance(found["source"], found["target"]), 4)
        assert apart in summary["target"]["proxy_a_distance"].values() and -2 <= apart <= 2
    np.testing.assert_array_equal(after["labels"], split.labels)
    np.testing.assert_array_equal(after["predicted"], job.predict(job.best(), target).argmax(1))
    assert (job.run_directory / "plots" / "domains.png").is_file()


def test_a_sample_of_the_target(trained: Any, tmp_path: Path) -> None:
    made = config(tmp_path)
    made.data.target_size = 20
    ids = [finetune.build(made, tmp_path / run).streams["target"].examples.example_id for run in ("a", "b")]
    assert len(set(ids[0].tolist())) == 20 and (np.diff(ids[0]) > 0).all() and (ids[0] == ids[1]).all()
    made.data.split_seed = 1
    assert (finetune.build(made, tmp_path / "c").streams["target"].examples.example_id != ids[0]).any()
    made.data.target_size = 46
    with pytest.raises(TlxError, match=r"target_size is 46; .* has 45 examples"):
        finetune.build(made, tmp_path / "d")


def test_a_discriminator_for_each_source(tmp_path: Path) -> None:
    """Every row of a batch is known by its source: rows are numbered through all sources."""
    made = config(tmp_path)
    made.data.sources = (images(tmp_path / "s2.npz", 30, 4),)
    made.method.discriminators = "each"
    job = finetune.build(made, tmp_path / "run")
    assert job.facts["sources"] == [60, 30]
    paths = {path.split("/")[2] for path in flatten(job.state.params) if path.startswith("aux/")}
    assert paths == {"source_0", "source_1"}
    second = np.load(tmp_path / "s2.npz")["image"]
    train = job.tasks["default"].splits["train"]
    images_of = job.datasets["default"].tables["train"].columns["image"]
    for index in np.flatnonzero(train.example_id >= 60)[:5]:
        assert (np.asarray(images_of[index]) == second[train.example_id[index] - 60]).all()


def test_choices_without_labels_have_no_value() -> None:
    lines = [{"step": 3, "validator/entropy": 0.5}, {"step": 6, "validator/entropy": 0.2}, {"step": 7, "loss": 1.0}]
    found = choices(lines, 3, Head("classification", 2))
    assert found["validators"] == {"entropy": {"step": 6}} and found["selected"] == {"step": 3}
    assert "oracle" not in found and found["last"] == {"step": 6}
    assert metrics_of_choices(found) == metrics_of_choices({}) == {}


def test_metrics_of_choices() -> None:
    name, by = "target_test/accuracy", "validator/entropy"
    lines = [{"step": 3, by: 0.5, name: 0.75}, {"step": 6, by: 0.2, name: 0.5}, {"step": 9, by: 0.3, name: 0.25}]
    found = metrics_of_choices(choices(lines, 3, Head("classification", 2)))
    assert found == {f"last/{name}": 0.25, f"oracle/{name}": 0.75, f"entropy/{name}": 0.5}


def test_its_runs_open_without_a_script(trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job, summary = trained
    run = job.run_directory
    results = evaluate(run)
    assert results.keys() == {"validation", "target_test"}
    assert results["target_test"].metrics["accuracy"] == summary["metrics"]["target_test/accuracy"]
    image = job.datasets["default"].tables["target_test"].columns["image"][0]
    (row,) = rows_of(load_run(run), [image])
    logits = job.predictions(job.best(), "target_test")[0]
    assert row["predicted"] == str(logits.argmax())
    with pytest.raises(SystemExit):
        main(["export", str(run), "--to", str(tmp_path / "model")])
    assert "has no Hugging Face form" in capsys.readouterr().err and not (tmp_path / "model").exists()


@pytest.mark.long
def test_bounds(trained: Any, tmp_path: Path) -> None:
    """Source-only reads no target; target-trained is fine-tuning on the target's labels."""
    alone = finetune.build(config(tmp_path, "source_only"), tmp_path / "source")
    alone.run(quiet=True)
    plain = config(tmp_path, "finetune")
    plain.data.target = plain.data.target_test = ""
    fine_tuned = finetune.build(plain, tmp_path / "plain")
    fine_tuned.run(quiet=True)
    assert end(alone) == end(fine_tuned)
    bound = finetune.build(config(tmp_path, "target_trained"), tmp_path / "bound")
    assert len(bound.tasks["default"].splits["train"]) + len(bound.tasks["default"].splits["validation"]) == 45
    bound.run(quiet=True)
    plain.data.train, plain.data.validation = config(tmp_path).data.target, ""
    on_target = finetune.build(plain, tmp_path / "on_target")
    on_target.run(quiet=True)
    assert end(bound) == end(on_target)


@pytest.mark.long
def test_a_validator_may_select(tmp_path: Path) -> None:
    made = config(tmp_path)
    made.train.monitor = "validator/entropy"
    summary = finetune.build(made, tmp_path / "run").run(quiet=True)
    assert summary["target"]["selected"] == summary["target"]["validators"]["entropy"]


def test_batch_size_and_order_of_its_own(tmp_path: Path) -> None:
    made = config(tmp_path)
    made.train.target_batch_size = 9
    job = finetune.build(made, tmp_path / "run")
    batch = next(job.batches())
    assert len(batch["target"]["valid"]) == 9 and len(batch["train"]["valid"]) == 16
    assert inspect(made).steps == job.schedule.total


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.target": ""}, "Dann reads the stream 'target', which the run lacks; name it in config.data.target"),
        ({"train.target_batch_size": 0}, "config.train.target_batch_size is 0; it must be above 0"),
        ({"augment.mixup": 0.2}, "mixup and cutmix mix labels, and examples of config.data.target have none"),
        ({"train.monitor": "target_test/accuracy"}, "config.train.monitor is 'target_test/accuracy'"),
        ({"train.monitor": "validator/luck"}, "the validators are source_risk, "),
        ({"data.target": "", "method.name": "target_trained"}, "which names no data"),
        ({"method.name": "adda", "method.source_fraction": 1.5}, "source_fraction is 1.5; it is at least 0"),
        ({"method.name": "shot", "params.phases": ({},)}, "defines phases too; set source_fraction to 0"),
    ],
)
def test_one_sentence(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    made = config(tmp_path, "source_only")
    made.method.name = "dann"
    with made.unlocked(), made.method.unlocked():
        for name, value in changes.items():
            section, field = name.split(".")
            made[section][field] = value
    with pytest.raises(TlxError, match=message):
        finetune.build(made, tmp_path / "run")


def test_a_head_of_tokens_has_no_target(tmp_path: Path) -> None:
    made = config(tmp_path)
    made.model.checkpoint = str(tiny.write_checkpoint(tmp_path / "checkpoint"))
    made.method.name, made.head.kind = "finetune", "tagging"
    del made.method["discriminator"]
    made.data.train = made.data.validation = made.data.target_test = ""
    rows = [{"text": ["fine", "film"], "label": ["A", "B"]}] * 6
    made.data.target = ""
    with pytest.raises(TlxError, match=r"config\.data\.target is set, and config\.head\.kind is 'tagging'"):
        finetune.build(made, tmp_path / "run", tables={"train": rows, "validation": rows, "target": rows})


def test_the_summary_is_json(trained: Any) -> None:
    assert json.loads((trained[0].run_directory / "summary.json").read_text())["target"] == trained[1]["target"]


def test_several_sources_are_one(tmp_path: Path) -> None:
    """Images of two sizes, in the order of the sets; the validation set is its own."""
    made = config(tmp_path, "source_only")
    first = np.load(tmp_path / "s.npz")
    random = np.random.default_rng(5)
    np.savez(tmp_path / "u.npz", image=random.integers(0, 255, (9, 6, 6)).astype(np.uint8), label=np.arange(9) % 3)
    made.data.sources = (f"npz:{tmp_path / 'u.npz'}",)
    train = finetune.build(made, tmp_path / "run").tasks["default"].splits["train"]
    np.testing.assert_array_equal(train.labels, [*first["label"], *(np.arange(9) % 3)])
    assert len(train) == 69 and train.take(np.array([68]))["example_id"] == 68


def test_sources_without_a_common_column() -> None:
    with pytest.raises(TlxError, match=r"a [+] b: these sets have no column in common"):
        joined([Table("a", {"text": ["x"]}), Table("b", {"words": ["y"]})])


def test_few_examples_have_no_validators(tmp_path: Path) -> None:
    """The run goes on without them; it does not begin if one of them is to select."""
    made = config(tmp_path)
    made.data.target, made.data.target_test = images(tmp_path / "t.npz", 4, 2), ""
    job = finetune.build(made, tmp_path / "run")
    assert job.evaluate(job.state.variables, "validation") and validator_values({}, np.zeros(4), {"default": []}) == {}
    made.train.monitor = "validator/entropy"
    with pytest.raises(TlxError, match="needs 5 examples of validation and of the target each; there are 4"):
        finetune.build(made, tmp_path / "other")
