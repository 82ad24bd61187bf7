"""Runs of several tasks with an adapter for each: what is trained, predicted, exported, and gone on with."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from tests import tiny
from tests.recipes.several import config_of
from tests.recipes.test_images import CONFIG, PROCESSOR
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.features.spec import FeatureSpec
from tlx.models.model import build_model
from tlx.params.paths import flatten
from tlx.pretrained.load import from_pretrained, random_params
from tlx.pretrained.save import write_folder
from tlx.recipes import defaults, finetune
from tlx.recipes.trained import load_run
from tlx.runs.features import features_of_file
from tlx.runs.predictions import outputs_of, rows_of

TASKS = ("kind", "score", "tone")


def config_with_adapters(task_files: Path, method: str = "equal", **fields: Any) -> ConfigDict:
    fields = {"lora.rank": 4, "lora.per_task": True, "optimizer.learning_rate": 2e-2, **fields}
    return config_of(task_files, method, **fields)


def test_rows_and_parameters_of_a_run(task_files: Path, tmp_path: Path) -> None:
    """Tasks of the same rows do not share them; a row names its adapter; the backbone is frozen."""
    job = finetune.build(config_with_adapters(task_files), tmp_path / "run")
    assert list(job.streams["train"].examples.lengths_by_part) == list(TASKS)  # type: ignore[attr-defined]
    batch = next(iter(job.batches()))["train"]
    masks = np.stack([np.asarray(batch[f"label_{name}_mask"]) for name in TASKS], axis=1)
    np.testing.assert_array_equal(masks.argmax(axis=1), batch["adapter"])
    assert (masks.sum(axis=1) == 1).all() and set(batch["adapter"].tolist()) == {0, 1, 2}
    trained = {path.split("/")[0] for path, group in job.groups.items() if group != "frozen"}
    assert trained == {"heads", "adapters"}
    assert {path.split("/")[1] for path in job.groups if path.startswith("adapters/")} == set(TASKS)


@pytest.mark.long
def test_an_adapter_moves_with_its_own_task_alone(task_files: Path, tmp_path: Path) -> None:
    """With batches of one task, a step moves the head and the adapter of this task and nothing else."""
    fields = {"sampler.batches": "one_task", "optimizer.warmup_fraction": 0.0}
    job = finetune.build(config_with_adapters(task_files, **fields), tmp_path / "run")
    (phase,), state, seen = job.phases, job.state, set()
    for _, batch in zip(range(6), job.batches(), strict=False):
        (name,) = {TASKS[place] for place in np.asarray(batch["train"]["adapter"]).tolist()}
        before = jax.tree.map(np.asarray, flatten(state.params))
        state, _ = phase.step(state, batch)
        moved = {path for path, leaf in flatten(state.params).items() if not np.array_equal(leaf, before[path])}
        assert moved and {"/".join(path.split("/")[:2]) for path in moved} <= {f"heads/{name}", f"adapters/{name}"}
        seen.add(name)
    assert len(seen) > 1


@pytest.fixture(scope="module")
def run(task_files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    workdir = tmp_path_factory.mktemp("adapters") / "run"
    config = config_with_adapters(task_files, **{"data.validation_fraction": 0.2, "train.epochs": 3.0})
    return workdir, finetune.build(config, workdir).run(quiet=True)


@pytest.mark.long
def test_predictions_and_folders_of_a_task(run: tuple[Path, dict[str, Any]], task_files: Path, tmp_path: Path) -> None:
    """The exported folder, whose kernels contain the adapter, answers as the run does, for each task its own way."""
    workdir, summary = run
    trained = load_run(workdir)
    texts = ["a fine film", "the dull plot was grim", "and the was"]
    examples = trained.inputs.encode_inputs(texts, "classification")
    outputs = outputs_of(trained, examples)
    rows = rows_of(trained, texts)
    inputs = {name: values for name, values in examples.take(np.arange(3), 16).items() if name.endswith(("s", "mask"))}
    for name in TASKS:
        alone = trained.of_task(name)
        assert [row[name] for row in rows] == rows_of(alone, texts)
        to = tmp_path / name
        assert main(["export", str(workdir), "--task", name, "--joint", "--to", str(to)]) in (None, 0)
        model, params = from_pretrained(to)
        answers: Any = model.apply({"params": params}, **{k: v for k, v in inputs.items() if k != "labels"})
        np.testing.assert_allclose(answers.logits["default"], outputs[name], rtol=0, atol=1e-5)
    own = {path for path in flatten(trained.params) if path.startswith("adapters/tone/") and "lora_b" in path}
    assert own and all(np.abs(flatten(trained.params)[path]).max() > 0 for path in own)
    assert summary["metrics"]["kind/test/accuracy"] > 0.8


@pytest.mark.long
@pytest.mark.parametrize("fields", [{}, {"lora.dropout": 0.2, "sampler.batches": "one_task"}])
def test_a_run_that_goes_on_ends_with_the_same_bits(task_files: Path, fields: Any, tmp_path: Path) -> None:
    tiny.check_stopped_and_resumed(lambda: config_with_adapters(task_files, "dwa", **fields), tmp_path, 14)


@pytest.mark.long
def test_features_of_a_task(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """They are those of the exported folder, whose kernels contain the adapter."""
    workdir, _ = run
    (tmp_path / "texts.csv").write_text("text,words\na fine film,a fine film\nthe dull plot,the dull plot\n")
    arguments = (str(tmp_path / "texts.csv"), FeatureSpec((), "mean"))
    found = {}
    for name in ("kind", "tone"):
        to = tmp_path / name
        assert main(["export", str(workdir), "--task", name, "--joint", "--to", str(to)]) in (None, 0)
        found[name] = features_of_file(str(workdir), *arguments, task=name)["features"]
        np.testing.assert_allclose(found[name], features_of_file(str(to), *arguments)["features"], rtol=0, atol=1e-5)
    assert np.abs(found["kind"] - found["tone"]).max() > 1e-3
    with pytest.raises(TlxError, match="each of the tasks kind, score, tone has an adapter; name one with --task"):
        features_of_file(str(workdir), *arguments)


@pytest.mark.long
def test_one_task_of_the_config_alone(task_files: Path, tmp_path: Path) -> None:
    config = config_with_adapters(task_files, **{"single_task": "tone", "train.epochs": 0.5})
    job = finetune.build(config, tmp_path / "run")
    job.run(quiet=True)
    assert {path.split("/")[1] for path in job.groups if path.startswith("adapters/")} == {"tone"}
    assert main(["predict", str(tmp_path / "run"), "a fine film", "--task", "tone"]) in (None, 0)


@pytest.mark.long
def test_images(tmp_path: Path) -> None:
    """Two labels of the same images: each image comes once for each task."""
    config = defaults.multitask()
    model = build_model(CONFIG, {})
    write_folder(tmp_path / "checkpoint", model, random_params(model, 0))
    (tmp_path / "checkpoint" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    random, label = np.random.default_rng(0), np.arange(40)
    images = random.integers(0, 255, (40, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "images.npz", image=images, even=label % 2, large=(label > 19).astype(int))
    config.model.checkpoint = str(tmp_path / "checkpoint")
    config.data.train, config.data.validation_fraction = f"npz:{tmp_path / 'images.npz'}", 0.2
    config.tasks = {"even": {"data": {"label": "even"}}, "large": {"data": {"label": "large"}}}
    config.lora.rank, config.lora.per_task, config.train.epochs, config.train.batch_size = 2, True, 1.0, 8
    job = finetune.build(config, tmp_path / "run")
    assert np.isfinite(job.run(quiet=True)["metrics"]["even/validation/loss"])
    assert rows_of(job.trained(), [images[0]])[0].keys() == {"even", "large"}
    Image.fromarray(images[0]).save(tmp_path / "one.png")
    command = ["attention", str(tmp_path / "run"), str(tmp_path / "one.png"), "--output", str(tmp_path / "drawn.png")]
    assert main([*command, "--task", "even"]) in (None, 0) and (tmp_path / "drawn.png").is_file()
    with pytest.raises(SystemExit):
        main(command)


def test_what_has_no_adapters_by_task(task_files: Path, tmp_path: Path) -> None:
    config = config_with_adapters(task_files)
    config.tasks = ConfigDict()
    config.method.name = "finetune"
    with pytest.raises(TlxError, match=r"config\.lora\.per_task is True, but the run has no config\.tasks"):
        finetune.build(config, tmp_path / "run")
    with pytest.raises(TlxError, match=r"config\.lora\.rank is 0, which means no adapter"):
        finetune.build(config_with_adapters(task_files, **{"lora.rank": 0}), tmp_path / "run")


@pytest.mark.long
def test_a_method_of_gradients_needs_shared_parameters(task_files: Path, tmp_path: Path) -> None:
    with pytest.raises(TlxError, match="trained parameters that they share, and there are none"):
        finetune.build(config_with_adapters(task_files, "pcgrad"), tmp_path / "run").run(quiet=True)
    shared = {"params.rules": (("kind:bias", "default"),), "train.epochs": 0.5}
    finetune.build(config_with_adapters(task_files, "pcgrad", **shared), tmp_path / "shared").run(quiet=True)
