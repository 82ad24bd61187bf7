"""A run of masked language modelling: its own head, masks, metrics, resumption, filling in, export, one of several."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.recipes.test_compiled import programs_in
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.models.heads import Head
from tlx.models.model import build_model
from tlx.params.paths import flatten
from tlx.pretrained.load import from_pretrained, random_params
from tlx.pretrained.save import write_folder
from tlx.recipes import defaults, finetune
from tlx.recipes.trained import load_run
from tlx.runs.compare import compare
from tlx.runs.predictions import rows_of

pytestmark = pytest.mark.slow
CIRCLE = (*tiny.GOOD, *tiny.NEUTRAL)  # each word follows the one before, so that neighbours tell a masked word


def write_checkpoint(folder: Path, tied: bool = True) -> Path:
    """A BertForMaskedLM with random weights."""
    model = build_model(tiny.SMALL, {"default": Head("masked_lm", tiny.SMALL.vocab_size, tied=tied)})
    params = random_params(model, 3)
    params["heads"]["default"]["bias"] = jnp.arange(float(tiny.SMALL.vocab_size)) / 100
    tiny.write_checkpoint(folder.parent / "backbone")
    write_folder(folder, model, params)
    (folder / "vocab.txt").write_bytes(tiny.checkpoint_files()["vocab.txt"])
    return folder


def write_texts(file: Path, rows: int, seed: int = 0) -> Path:
    """Texts without labels: 6 to 13 words of the circle, from any word on."""
    random = np.random.default_rng(seed)
    lines = ["text"]
    for _ in range(rows):
        first, count = random.integers(len(CIRCLE)), random.integers(6, 14)
        lines.append(" ".join(CIRCLE[(first + i) % len(CIRCLE)] for i in range(count)))
    file.write_text("\n".join(lines) + "\n")
    return file


def configured(place: Path, rows: int = 200, **changes: Any) -> Any:
    checkpoint = place / "checkpoint"
    config = tiny.config(checkpoint if checkpoint.exists() else write_checkpoint(checkpoint), place)
    config.data.train = f"csv:{write_texts(place / 'texts.csv', rows)}"
    config.head.kind = "masked_lm"
    config.train.epochs, config.train.evaluate_every = 30.0, 15.0
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("masked")
    finetune.build(configured(folder), folder / "run").run(quiet=True)
    return folder


def expected_metrics(job: Any, variables: Any) -> dict[str, float]:
    """From the logits of all tokens, one text after the other, and the masked tokens of the evaluation."""
    examples, losses, right = job.tasks["default"].splits["test"], [], []
    for number in range(len(examples)):
        rows = examples.take(np.array([number]), 20)
        inputs, masked = job.modality.prepare({name: jnp.asarray(value) for name, value in rows.items()}, None)
        inputs.pop("read_at")
        logits = job.model.apply({"params": variables.params}, **inputs).logits["default"][0]
        hidden = np.flatnonzero(np.asarray(inputs["input_ids"][0]) != rows["input_ids"][0])
        positions = job.modality.prepare(rows | {"label": rows["label"]}, None)[0]["read_at"][0]
        chosen = np.asarray(positions)[np.asarray(masked["label_mask"][0])]
        assert {*hidden.tolist()} <= {*chosen.tolist()}
        for position in chosen:
            scores = np.asarray(logits[position], np.float64)
            label = rows["input_ids"][0, position]
            losses.append(np.log(np.exp(scores).sum()) - scores[label])
            right.append(scores.argmax() == label)
    return {"loss": np.mean(losses), "perplexity": np.exp(np.mean(losses)), "accuracy": np.mean(right)}


@pytest.mark.long
def test_a_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It learns; summary and `tlx evaluate` agree with metrics that are computed here from all logits."""
    job = finetune.build(configured(place), place / "run")
    summary = json.loads((place / "run" / "summary.json").read_text())
    assert summary["metrics"]["test/accuracy"] > 2 / len(CIRCLE)  # without the context it would be half of that
    assert "the best validation/accuracy" in summary["selection"]
    for name, value in expected_metrics(job, job.trained().variables).items():
        assert summary["metrics"][f"test/{name}"] == pytest.approx(value, rel=1e-4)
    with np.load(place / "run" / "predictions" / "test.npz") as saved:
        assert saved["predictions"].shape == (len(saved["labels"]), 4) and len(saved["example_id"]) > 40
        assert np.mean(saved["predictions"][:, 0] == saved["labels"]) == summary["metrics"]["test/accuracy"]
    main(["evaluate", f"{place}/run"])
    told = capsys.readouterr().out
    for name in ("loss", "perplexity", "accuracy"):
        assert f"{summary['metrics'][f'test/{name}']:.4f}" in told
    found = compare(place / "run", place / "run", metric="perplexity")
    assert found.mcnemar is None and found.metrics["accuracy"] == (summary["metrics"]["test/accuracy"],) * 2


@pytest.mark.parametrize("tied", [True, False])
def test_the_checkpoints_own_head_is_trained_on(tied: bool, tmp_path: Path) -> None:
    """Its parameters are those in the file; of a checkpoint without it they are new, and a line says so."""
    write_checkpoint(tmp_path / "checkpoint", tied)
    job = finetune.build(configured(tmp_path, 40), tmp_path / "run")
    _, theirs = from_pretrained(tmp_path / "checkpoint")
    assert job.tasks["default"].head.tied == tied and not job.initialized
    assert ("heads/default/decoder/kernel" in flatten(theirs)) == (not tied)
    jax.tree.map(np.testing.assert_array_equal, job.state.variables.params, theirs)


def test_a_checkpoint_without_the_head_gets_a_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configured(tmp_path, 40)
    config.model.checkpoint = str(tmp_path / "backbone")
    job = finetune.build(config, tmp_path / "run")
    assert {path for path in flatten(job.state.params) if path.startswith("heads/")} == job.initialized
    assert "has no masked language modelling head; that of the run begins untrained" in capsys.readouterr().out


def batch_of(job: Any, step: int) -> dict[str, np.ndarray]:
    """What the model reads in a step, by the key of the step."""
    rows = next(iter(job.batches(step)))["train"]
    inputs, labels = job.modality.prepare(rows, jax.random.fold_in(jax.random.key(job.seed), step))
    return {name: np.asarray(value) for name, value in {**inputs, "label": labels["label"]}.items()}


@pytest.mark.long
@pytest.mark.parametrize("packing", ["off", "on"])
def test_other_tokens_are_masked_in_each_epoch(packing: str, tmp_path: Path) -> None:
    """And with the logits of the chosen tokens alone, which are those that the model has of all tokens."""
    job = finetune.build(configured(tmp_path, 60, **{"data.packing": packing}), tmp_path / "run")
    first, again, later = batch_of(job, 0), batch_of(job, 0), batch_of(job, 3)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert (first["read_at"].shape[1] < first["input_ids"].shape[1]) and (later["input_ids"] != 4).any()
    assert not np.array_equal(first["read_at"], later["read_at"])
    inputs = {name: value for name, value in first.items() if name != "label"}
    apply = jax.jit(lambda **inputs: job.model.apply({"params": job.state.params}, **inputs).logits["default"])
    some, every = apply(**inputs), apply(**{name: value for name, value in inputs.items() if name != "read_at"})
    expected = np.take_along_axis(np.asarray(every), first["read_at"][..., None], axis=1)
    np.testing.assert_allclose(some, expected, atol=1e-5)


@pytest.mark.long
def test_packed_and_padded_runs_measure_the_same_tokens(tmp_path: Path) -> None:
    """The masks of the evaluation are fixed: neither packing nor the batch size nor the seed changes them."""
    found = []
    for name, changes in {"off": {}, "on": {"train.eval_batch_size": 7, "seed": 5}}.items():
        config = configured(tmp_path, 60, **{"data.packing": name, "train.epochs": 1.0, **changes})
        job = finetune.build(config, tmp_path / name)
        variables = dataclasses.replace(job.state.variables, params=from_pretrained(tmp_path / "checkpoint")[1])
        found.append(job.evaluate(variables, "test"))
    assert found[0] == pytest.approx(found[1], rel=1e-5) and found[0]["test/loss"] > 1


@pytest.mark.long
def test_a_run_that_goes_on_ends_with_the_same_bits(tmp_path: Path) -> None:
    changes = {"train.epochs": 2.0, "train.evaluate_every": 1.0, "train.accumulate": 2}
    tiny.check_stopped_and_resumed(lambda: configured(tmp_path, 80, **changes), tmp_path, 3)


@pytest.mark.long
def test_one_step_and_one_evaluation_are_compiled(tmp_path: Path) -> None:
    with programs_in(tmp_path / "programs"):
        finetune.build(configured(tmp_path, 60, **{"train.epochs": 1.0}), tmp_path / "run").run(quiet=True)
    compiled = Counter(file.name.split("-")[0] for file in (tmp_path / "programs").glob("*-cache"))
    assert (compiled["jit_train_step"], compiled["jit_forward"]) == (1, 1)


@pytest.mark.long
def test_filling_in_and_export(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`tlx predict` gives the word for each [MASK]; the exported folder is a BertForMaskedLM with the same weights."""
    trained, texts = load_run(place / "run"), ["fine great [MASK] sweet warm a", "and [MASK] plot the was [MASK] great"]
    expected, vocabulary = [], tiny.checkpoint_files()["vocab.txt"].decode().split()
    for text in texts:
        ids = np.array([[2, *map(vocabulary.index, text.split()), 3]])
        logits = trained.model.apply({"params": trained.params}, input_ids=ids).logits["default"]
        expected.append([vocabulary[token] for token in logits[ids == 4].argmax(axis=-1)])
    assert [len(words) for words in expected] == [1, 2]
    assert rows_of(trained, texts) == [{"predicted": words} for words in expected]
    main(["predict", f"{place}/run", *texts])
    for line, text, words in zip(capsys.readouterr().out.splitlines(), texts, expected, strict=True):
        assert line.removeprefix(text).split() == words
    (tmp_path / "new.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    main(["predict", f"{place}/run", "--input", str(tmp_path / "new.jsonl")])
    assert [json.loads(line)["predicted"] for line in capsys.readouterr().out.splitlines()] == expected
    with pytest.raises(TlxError, match=r"example 1 holds no \[MASK\]"):
        rows_of(trained, ["a [MASK] film", "a film"])
    main(["export", f"{place}/run", "--to", str(tmp_path / "export")])
    written = json.loads((tmp_path / "export" / "config.json").read_text())
    assert written["architectures"] == ["BertForMaskedLM"]
    assert 'pipeline_tag: "fill-mask"' in (tmp_path / "export" / "README.md").read_text()
    _, params = from_pretrained(tmp_path / "export")
    jax.tree.map(np.testing.assert_array_equal, params, trained.params)


@pytest.mark.long
def test_as_one_of_several_tasks(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a classification: rows of the other task are not masked, and the metrics are those of the task alone."""
    config = defaults.multitask()
    config.model.checkpoint, config.parallel.data = str(place / "checkpoint"), 1
    config.data.max_length, config.data.test_fraction, config.data.packing = 16, 0.2, "off"
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", 120)
    words = f"csv:{write_texts(tmp_path / 'texts.csv', 120)}"
    config.tasks = {
        "tone": {"data": {"train": f"csv:{reviews}"}},
        "words": {"data": {"train": words}, "head": {"kind": "masked_lm"}},
        "again": {"data": {"train": f"csv:{reviews}"}, "head": {"kind": "masked_lm"}},
    }
    config.optimizer.learning_rate, config.train.batch_size, config.train.epochs = 3e-3, 20, 4.0
    config.train.evaluate_every = 4.0
    job = finetune.build(config, tmp_path / "run")
    assert len(job.streams["train"].examples.parts) == 3  # type: ignore[attr-defined]
    rows = next(iter(job.batches()))["train"]
    inputs, changed = job.modality.prepare(rows, jax.random.key(0))
    was, of_tone = np.asarray(rows["input_ids"]), np.asarray(rows["label_tone_mask"])
    np.testing.assert_array_equal(np.asarray(inputs["input_ids"])[of_tone], was[of_tone])
    assert (np.asarray(inputs["input_ids"]) != was)[~of_tone].any(axis=1).sum() > 5
    by_task = {name: np.asarray(changed[f"label_{name}_mask"]).any(axis=1) for name in ("words", "again")}
    of_one = [of_tone, by_task["words"], by_task["again"], ~np.asarray(rows["valid"])]
    assert (np.sum(of_one, axis=0) == 1).all()  # each row is of one task

    summary = job.run(quiet=True)
    mains = [summary["metrics"][f"{name}/validation/accuracy"] for name in ("tone", "words", "again")]
    assert summary["metrics"]["validation/joint"] == pytest.approx(np.mean(mains))
    with pytest.raises(TlxError, match="some read texts with masks and some texts"):
        _ = load_run(tmp_path / "run").kind
    capsys.readouterr()
    main(["predict", f"{tmp_path}/run", "fine great [MASK] sweet warm a", "--task", "words"])
    assert len(capsys.readouterr().out.split()) == 7
    main(["export", f"{tmp_path}/run", "--task", "words", "--to", str(tmp_path / "words")])
    written = json.loads((tmp_path / "words" / "config.json").read_text())
    assert written["architectures"] == ["BertForMaskedLM"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masking.rate": 1.5}, r"config\.masking\.rate is 1\.5; it is above 0 and at most 1"),
        ({"loss.balanced": True}, "cross_entropy of a masked_lm head has no classes to weigh"),
        ({"train.monitor": "validation/f1"}, "has validation/loss, validation/accuracy, validation/perplexity"),
        ({"data.text": "words"}, "has no column 'words'"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TlxError, match=message):
        finetune.build(configured(tmp_path, **change), tmp_path / "run")


def test_images_are_refused(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.model.checkpoint = str(Path(__file__).parents[2] / "configs" / "vit_digits")
    config.model.weights = "random"
    config.data.train, config.data.image = "builtin:digits", "image"
    with pytest.raises(TlxError, match="masked_lm', which reads texts; this checkpoint reads images"):
        finetune.build(config, tmp_path / "run")


def test_nothing_is_cached_of_a_frozen_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"params.trainable": "heads", "features.cache": "memory"}
    finetune.build(configured(tmp_path, 40, **changes), tmp_path / "run")
    assert "none are cached, because other tokens are masked in each step" in capsys.readouterr().out
