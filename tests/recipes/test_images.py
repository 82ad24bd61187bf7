"""Images through the whole of a run: read, trained, evaluated, asked again, exported, at another size too."""

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests import tiny
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.losses.by_name import LOSSES, Loss
from tlx.models.model import build_model
from tlx.models.vit import ViTConfig
from tlx.params.paths import flatten
from tlx.pretrained.load import from_pretrained, random_params
from tlx.pretrained.save import write_folder
from tlx.recipes import defaults, finetune
from tlx.recipes.splits import with_splits
from tlx.recipes.trained import load_run
from tlx.runs.predictions import rows_of

pytestmark = pytest.mark.slow

CONFIG = ViTConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=8, patch_size=2,
    initializer_range=0.2,
)  # fmt: skip
PROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}, "resample": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits, its lowest block frozen."""
    root = tmp_path_factory.mktemp("images")
    model = build_model(CONFIG, {})
    write_folder(root / "checkpoint", model, random_params(model, 0))
    (root / "checkpoint" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    finetune.build(digits(root / "checkpoint"), root / "run").run(quiet=True)
    return root / "run"


def digits(checkpoint: Path) -> Any:
    config = defaults.finetune()
    config.model.checkpoint = str(checkpoint)
    config.data.train, config.data.test_fraction = "builtin:digits", 0.2
    config.params.rules = (("backbone/(embeddings|encoder/layer/0)/.*", "frozen"),)
    config.optimizer.learning_rate = 5e-3
    config.train.epochs, config.train.batch_size = 12.0, 64
    config.parallel.data = 1
    return config


def pictures(folder: Path, count: int) -> list[Path]:
    """Digits as files, larger than the model takes them."""
    folder.mkdir()
    for i, image in enumerate(load_digits().images[:count]):
        picture = Image.fromarray(np.round(image * 255 / 16).astype(np.uint8))
        picture.resize((20, 16)).save(folder / f"{i:02d}.png")
    return sorted(folder.iterdir())


def test_it_learns_and_keeps_what_is_frozen(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert summary["metrics"]["test/accuracy"] > 0.8  # one of ten is 0.1
    trained, (_, before) = load_run(run), from_pretrained(run.parent / "checkpoint")
    after, first = flatten(trained.params), flatten(before)
    frozen = [path for path in first if path.startswith(("backbone/embeddings", "backbone/encoder/layer/0"))]
    assert frozen and all(np.array_equal(after[path], first[path]) for path in frozen)
    assert not np.array_equal(
        after["backbone/layernorm/scale"], first["backbone/layernorm/scale"]
    )  # what follows the blocks learns


def test_asked_again_it_answers_as_in_the_run(run: Path) -> None:
    """Of the test split, by row, from the images themselves."""
    with np.load(run / "predictions" / "test.npz") as saved:
        rows, predictions = saved["example_id"], saved["predictions"]
    images = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    trained = load_run(run)
    names = dict(trained.model.heads_by_name)["default"].labels
    found = rows_of(trained, [images[row] for row in rows])
    assert [row["predicted"] for row in found] == [names[i] for i in predictions.argmax(-1)]


def test_predict_a_folder(rendered: None, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = pictures(tmp_path / "pictures", 30)
    table, sheet = tmp_path / "answers.csv", tmp_path / "sheet.png"
    main(["predict", str(run), "--input", str(tmp_path / "pictures"), "--output", str(table), "--sheet", str(sheet)])
    with table.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["image"] for row in rows] == [str(file) for file in files]
    right = [row["predicted"] == str(label) for row, label in zip(rows, load_digits().target, strict=False)]
    assert np.mean(right) > 0.7 and all(0.1 <= float(row["score"]) <= 1 for row in rows)
    with Image.open(sheet) as drawn:
        assert drawn.width > 500
    main(["predict", str(run), str(files[0])])
    assert capsys.readouterr().out.split() == [str(files[0]), rows[0]["predicted"], f"{float(rows[0]['score']):.1%}"]
    main(["attention", str(run), str(files[0]), str(files[1]), "--output", str(tmp_path / "looked.png")])
    with Image.open(tmp_path / "looked.png") as drawn:
        assert drawn.width > 100


def test_a_root_of_splits_is_used_as_it_is(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """torchvision's layout: none of `val` is learnt from, and test is split from train unless it is there."""
    for split, count in (("train", 30), ("val", 12)):
        for file in pictures(tmp_path / split, count):
            to = tmp_path / "set" / split / str(load_digits().target[int(file.stem)] % 2)
            to.mkdir(parents=True, exist_ok=True)
            file.rename(to / file.name)
    config = digits(run.parent / "checkpoint")
    config.data.train = f"folder:{tmp_path / 'set'}"
    job = finetune.build(config, tmp_path / "run")
    told = capsys.readouterr().out
    assert f"{config.data.train} holds folders of splits; the run uses {config.data.train}@train" in told
    assert "; test is split from train." in told and config.data.validation == ""
    assert job.facts["examples"] == {"train": 24, "validation": 12, "test": 6}
    assert job.tasks["default"].head.labels == ("0", "1")
    held = json.loads((tmp_path / "run" / "config.json").read_text())["config"]["data"]
    assert (held["train"], held["validation"]) == (f"{config.data.train}@train", f"{config.data.train}@validation")
    config.data.validation = "builtin:digits"
    assert with_splits(config).data.validation == "builtin:digits"
    with pytest.raises(SystemExit):
        main(["predict", str(run), "--input", str(tmp_path / "set"), "--output", str(tmp_path / "a.csv")])
    assert "holds folders of splits (train, val), not of classes; name one, as in " in capsys.readouterr().err
    main(["predict", str(run), "--input", f"{tmp_path / 'set'}@val", "--output", str(tmp_path / "a.csv")])
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 13
    (tmp_path / "set" / "train").rename(tmp_path / "set" / "test")
    with pytest.raises(TlxError, match="which holds validation, test and no train; name what to train on"):
        finetune.build(config, tmp_path / "other")


def test_exported_with_its_processor(run: Path, tmp_path: Path) -> None:
    main(["export", str(run), "--to", str(tmp_path / "export")])
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    assert config["architectures"] == ["ViTForImageClassification"] and config["id2label"]["3"] == "3"
    assert json.loads((tmp_path / "export" / "preprocessor_config.json").read_text()) == PROCESSOR
    assert 'pipeline_tag: "image-classification"' in (tmp_path / "export" / "README.md").read_text()
    trained, (model, params) = load_run(run), from_pretrained(tmp_path / "export")
    pixels = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    one, other = (
        jax.device_get(m.apply({"params": p}, pixel_values=pixels).logits["default"])
        for m, p in ((trained.model, trained.params), (model, params))
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.long
def test_augmented_and_mixed(run: Path, tmp_path: Path) -> None:
    """Training images are cut, turned and mixed; those of evaluation are not, so that both ways score them alike."""
    config = digits(run.parent / "checkpoint")
    config.augment.pad, config.augment.mixup, config.train.epochs = 1, 0.2, 6.0
    config.loss.balanced = True
    summary = finetune.build(config, tmp_path / "run").run(quiet=True)
    assert summary["metrics"]["test/accuracy"] > 0.2  # one of ten is 0.1
    with np.load(tmp_path / "run" / "predictions" / "test.npz") as saved:
        rows, predictions = saved["example_id"][:50], saved["predictions"][:50]
    images = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    found = rows_of(load_run(tmp_path / "run"), [images[row] for row in rows])
    assert [row["predicted"] for row in found] == [str(i) for i in predictions.argmax(-1)]


@pytest.mark.long
def test_mixed_by_device_as_in_the_whole_batch(run: Path, tmp_path: Path) -> None:
    """Augmented, mixup or CutMix, micro-batches, and an epoch's last batch, which leaves devices without a row."""
    losses: dict[str, list[float]] = {}
    for mode, devices in (("jit", 1), ("pmap", 8)):
        config = digits(run.parent / "checkpoint")
        config.augment.pad, config.augment.mixup, config.augment.cutmix = 1, 0.4, 1.0
        config.optimizer.eps, config.data.per_class, config.train.accumulate = 1e-3, 10, 2
        config.parallel.data, config.parallel.mode = devices, mode
        job = finetune.build(config, tmp_path / mode)
        state, losses[mode] = job.state, []
        for batch in itertools.islice(job.batches(), 4):
            state, metrics = job.phases[0].step(state, batch)
            losses[mode].append(float(metrics["loss"]))
    np.testing.assert_allclose(losses["pmap"], losses["jit"], rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augment.preset": "imagenet"}, "augmentation is 'imagenet'; tlx has none, flip_crop"),
        ({"augment.flip": 1.5}, "augmentation.flip is 1.5; give a number from 0 to 1"),
        ({"data.image": "picture"}, "builtin:digits has no column 'picture'; its columns are image, label"),
        ({"data.per_class": 500}, "data.per_class is 500, but the class '0' has"),
        ({"optimizer.name": "lyon"}, "the optimizer is 'lyon'; tlx has adam, adamw, nadam"),
        ({"head.kind": "tagging"}, "expected a list of tags"),
        ({"head.pooling": "distilled"}, "ViT has no distillation token"),
        ({"model.image_size": 1}, "is smaller than a patch of 2"),
    ],
)
def test_refused(change: dict[str, Any], message: str, run: Path, tmp_path: Path) -> None:
    config = digits(run.parent / "checkpoint")
    config.update_from_flattened_dict(change)
    with pytest.raises(TlxError, match=message):
        finetune.build(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_mixing_with_a_loss_of_class_indices(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_indices(logits: jax.Array, labels: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen = jnp.take_along_axis(logits, labels[..., None].astype(int), axis=-1)[..., 0]
        return -jnp.sum(chosen * weight), jnp.sum(weight)

    monkeypatch.setitem(LOSSES, "of_indices", Loss(of_indices, ("classification",)))
    config = digits(run.parent / "checkpoint")
    config.loss.name, config.augment.mixup = "of_indices", 0.2
    with pytest.raises(TlxError, match=r"config\.loss\.name is 'of_indices', a loss that takes no labels"):
        finetune.build(config, tmp_path / "run")
    config.loss.name = "cross_entropy"
    finetune.build(config, tmp_path / "run")


def test_texts_are_not_augmented(tmp_path: Path) -> None:
    config = tiny.config(tiny.write_checkpoint(tmp_path / "text"), tiny.write_reviews(tmp_path / "a.csv", 50))
    config.augment.flip = 0.5
    with pytest.raises(TlxError, match=r"config\.augment is of images; this checkpoint takes texts"):
        finetune.build(config, tmp_path / "run")


@pytest.mark.long
def test_at_another_size(run: Path, tmp_path: Path) -> None:
    """Positions are interpolated as the model does it on the way, and all that is kept says the new size."""
    checkpoint = run.parent / "checkpoint"
    config = digits(checkpoint)
    config.model.image_size, config.train.epochs = 12, 0.1
    job = finetune.build(config, tmp_path / "run")
    model, params = from_pretrained(checkpoint)
    larger, carried = from_pretrained(checkpoint, image_size=12)
    pixels = np.random.default_rng(0).normal(size=(2, 3, 12, 12)).astype(np.float32)
    on_the_way = model.apply({"params": params}, pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
    np.testing.assert_allclose(
        larger.apply({"params": carried}, pixel_values=pixels).last_hidden_state,
        on_the_way,
        atol=1e-6,
    )
    job.run(quiet=True)
    trained = load_run(tmp_path / "run")
    assert trained.params["backbone"]["embeddings"]["position_embeddings"].shape == (1, 37, 32)
    folder = write_folder(tmp_path / "export", trained.model, trained.params, tokenizer_from=trained.pretrained)
    assert json.loads((folder / "config.json").read_text())["image_size"] == 12
    assert json.loads((folder / "preprocessor_config.json").read_text())["size"] == {"height": 12, "width": 12}
