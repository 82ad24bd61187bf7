"""Averages, L2-SP, WiSE-FT, parts drawn anew and the range test in a run: resumed to the bit, beside NumPy."""

import csv
import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from tests import tiny
from tests.recipes.test_resume import end_of, params_of, run
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.methods.finetune import LossSettings
from tlx.models.heads import Head
from tlx.params.paths import flatten
from tlx.pretrained.load import from_pretrained
from tlx.recipes import finetune
from tlx.recipes.inspect import inspect
from tlx.recipes.lr_find import lr_find, write
from tlx.recipes.model import load_model
from tlx.recipes.regularise import averaged_rate, plan_anchors, plan_average, reinitialized
from tlx.recipes.schedule import factors, loop_schedule
from tlx.runs.interpolate import interpolate_run, parse_shares
from tlx.training.tasks import Task
from tlx.training.writers import read_metrics

pytestmark = pytest.mark.slow

ALPHA, BETA, DECAY, STOPPED = 0.03, 0.01, 0.8, 14
FROZEN = "backbone/encoder/layer/0/"


def regularised(place: Path) -> Any:
    config = tiny.config(place / "checkpoint", place / "reviews.csv")
    config.params.rules = ((f"{FROZEN}.*", "frozen"),)
    config.params.groups.default.weight_decay = 0.0
    config.average.kind, config.average.decay = "ema", DECAY
    config.l2_sp.alpha, config.l2_sp.beta = ALPHA, BETA
    config.train.epochs, config.train.log_every = 2.0, 1
    return config


@pytest.fixture(scope="module")
def watched(place: Path) -> tuple[Path, Path, list[dict[str, np.ndarray]]]:
    """A run with an average, L2-SP and a frozen block; what a kill in its middle would have left, gone on with; and
    the first run's parameters before its first step and after each."""
    config, whole, killed, seen = regularised(place), place / "whole", place / "killed", []
    job = finetune.build(config, whole)

    def watching(state: Any) -> None:
        seen.append({path: np.array(leaf) for path, leaf in flatten(state.params).items()})
        if int(state.step) == STOPPED:
            while not (whole / "checkpoints" / "11").is_dir():
                time.sleep(0.01)
            shutil.copytree(whole, killed)

    tiny.before_each_step(job, watching)
    job.run(quiet=True)
    run(config, killed)
    end, leaves = end_of(config, whole)
    seen.append({path: leaves[f".params{''.join(f'[{key!r}]' for key in path.split('/'))}"] for path in seen[0]})
    assert end == len(seen) - 1 == 22
    return whole, killed, seen


@pytest.fixture
def finished(watched: tuple[Path, Path, Any]) -> Path:
    return watched[0]


def test_resumed_with_an_average_ends_with_the_same_bits(watched: tuple[Path, Path, Any], place: Path) -> None:
    (step, whole), (again, leaves) = (end_of(regularised(place), one) for one in watched[:2])
    assert step == again == 22 and whole.keys() == leaves.keys()
    assert any("averages" in name for name in whole)
    assert not [name for name in whole if not np.array_equal(whole[name], leaves[name])]
    assert not [name for name in whole if "averages" in name and "['layer']['0']" in name]  # frozen: no copy


def test_what_is_selected_and_handed_on_is_the_average(watched: tuple[Path, Path, Any]) -> None:
    folder, _, seen = watched
    summary = json.loads((folder / "summary.json").read_text())
    best = int(summary["selection"].split()[1])
    found = params_of(folder)
    for path in found:
        mean = seen[0][path].astype(np.float64)
        for step in range(1, best + 1):
            d = min(DECAY, (1 + step) / (10 + step))
            mean = d * mean + (1 - d) * seen[step][path]
        np.testing.assert_allclose(found[path], mean, atol=1e-5, err_msg=path)
        assert np.array_equal(found[path], seen[best][path]) == path.startswith(FROZEN), path
    lines = [line for line in read_metrics(folder) if line["step"] == best and "validation/loss" in line]
    assert lines[0]["validation/loss"] == summary["metrics"]["validation/loss"]
    assert summary["parameters"]["initialized"] == 32 * 2 + 2  # the head


def test_l2_sp_draws_to_the_checkpoint(watched: tuple[Path, Path, Any], place: Path) -> None:
    _, folder, seen = watched  # of the one that went on: its anchors were loaded again
    _, params = from_pretrained(place / "checkpoint", heads={})
    start = {path: np.asarray(leaf, np.float64) for path, leaf in flatten(params).items()}
    by_step = {line["step"]: line["train/loss/penalty"] for line in read_metrics(folder) if "train/loss" in line}
    for step in (1, 2, STOPPED, STOPPED + 2, 22):
        before = seen[step - 1]
        old = sum(((before[path] - leaf) ** 2).sum() for path, leaf in start.items() if path in before)
        new = sum((leaf.astype(np.float64) ** 2).sum() for path, leaf in before.items() if path not in start)
        assert by_step[step] == pytest.approx(ALPHA / 2 * old + BETA / 2 * new, rel=1e-4), step


@pytest.mark.long
def test_interpolating(finished: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = interpolate_run(finished, (0.0, 0.5, 1.0))
    summary = json.loads((finished / "summary.json").read_text())
    for name, value in line.validation[2].items():
        assert summary["metrics"][f"validation/{name}"] == pytest.approx(value, abs=1e-5)
    accuracies = [found["accuracy"] for found in line.validation]
    assert line.chosen == max(zip(accuracies, line.shares, strict=True))[1]
    assert line.metrics["validation/accuracy"] == max(accuracies)
    main(["interpolate", str(finished), "--alpha", "0", "--to", str(tmp_path / "out")])
    assert "alpha 0: the best validation/accuracy of 1" in capsys.readouterr().out
    start, end = (flatten(from_pretrained(place / "checkpoint", heads={})[1]), params_of(finished))
    for path, leaf in flatten(from_pretrained(tmp_path / "out")[1]).items():
        assert np.array_equal(leaf, start.get(path, end[path])), path
    assert "interpolated with the checkpoint; alpha 0" in (tmp_path / "out" / "README.md").read_text()


def test_a_run_of_the_first_format_is_read_but_not_gone_on_with(finished: Path, place: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    for meta in (tmp_path / "run" / "checkpoints").glob("*/meta/metadata"):
        content = json.loads(meta.read_text())
        del content["digests"], content["checksum"]
        meta.write_text(json.dumps({**content, "format": 1}))
    assert params_of(tmp_path / "run").keys() == params_of(finished).keys()
    with pytest.raises(TlxError, match=r"format 1, which can be read but not trained on \(formats 2, 3, 4 can\)"):
        run(regularised(place), tmp_path / "run")


def test_drawn_anew(place: Path, config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config.model.reinitialise, config.seed = ("last:1", "backbone/pooler/dense/kernel"), 7  # the file has seed 0
    config.average.kind, config.l2_sp.alpha = "swa", 0.1
    config.params.rules = ((f"{FROZEN}.*", "frozen"),)
    old = flatten(from_pretrained(place / "checkpoint")[1])
    heads = {"default": Head("classification", 2)}
    _, params, initialized = load_model(config, place / "checkpoint", heads)
    new = flatten(params)
    upper = {path for path in new if path.startswith("backbone/encoder/layer/1/")}
    again = {*upper, "backbone/pooler/dense/kernel"}
    assert initialized == again | {path for path in new if path.startswith("heads/")}
    for path in old:
        constant = path.endswith("/bias") or path.endswith("LayerNorm/scale")  # as drawn: 0 and 1, as the tiny file has
        assert np.array_equal(old[path], new[path]) == (path not in initialized or constant), path
    uncompiled = SimpleNamespace(cost_analysis=lambda: {"flops": 0.0, "bytes accessed": 0.0})
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *_: uncompiled)
    found = inspect(config)
    assert found.initialized == sum(new[path].size for path in again)
    learns = {path: leaf for path, leaf in new.items() if not path.startswith(FROZEN)}
    assert found.bytes["averages"] == 4 * sum(leaf.size for leaf in learns.values())
    assert found.bytes["anchors"] == 4 * sum(leaf.size for path, leaf in learns.items() if path not in initialized)


@pytest.mark.long
def test_the_range_test_leaves_the_curve_alone(
    finished: Path, place: Path, tmp_path: Path, rendered: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first loss, before anything has moved, is that of a run's first step; its temporary run is gone."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    found = lr_find(regularised(place), 1e-4, 1.0, 12)
    assert list(temporary.iterdir()) == []
    np.testing.assert_allclose(found.rates, np.geomspace(1e-4, 1.0, 12)[: len(found.rates)], rtol=1e-4)
    assert found.losses[0] == pytest.approx(read_metrics(finished)[0]["train/loss"], rel=1e-5)
    picture, table = write(found, tmp_path / "out")
    assert picture.stat().st_size > 1000
    rows = list(csv.DictReader(table.open()))
    assert [float(row["smoothed"]) for row in rows] == found.smoothed.tolist()


def task(examples: int) -> Any:
    """A task of which only the number of training examples is asked."""
    head = Head("classification", 2, labels=("bad", "good"))
    return Task("default", head, {"train": range(examples)}, LossSettings(), 20)  # type: ignore[dict-item]


def test_swa_starts_and_its_rate(config: Any) -> None:
    config.average.kind, config.average.start_fraction, config.average.learning_rate = "swa", 0.5, 1e-3
    schedule = loop_schedule(config, {"default": task(200)})  # 100 steps, 10 an epoch
    peak, factor = config.optimizer.learning_rate, factors(config, schedule.total)(config.optimizer.schedule)
    rate = lambda step: peak * factor(step)  # noqa: E731
    share = plan_average(config.average, schedule)
    assert share is not None
    assert [round(float(share(step)), 6) for step in (1, 49, 50, 51, 60, 65, 70)] == [1, 1, 1, 0, 0.5, 0, 0.333333]
    swa_rate = averaged_rate(config.average, schedule, rate)
    assert float(swa_rate(49)) == pytest.approx(float(rate(49))) and float(swa_rate(50)) == pytest.approx(1e-3)
    config.average.kind = "ema"
    with pytest.raises(TlxError, match=r"average\.learning_rate applies to SWA only; config\.average\.kind is 'ema'"):
        averaged_rate(config.average, schedule, rate)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("average.kind", "mean", r"config\.average\.kind is 'mean'; it is one of none, ema, swa"),
        ("sam.radius", -1.0, r"SAM's radius is -1\.0; it must be above 0"),
        ("l2_sp.alpha", -1.0, r"L2-SP's alpha and beta are -1\.0"),
        ("model.reinitialise", ("last:3",), r"'last:3' names the last blocks, and this model has 2 blocks"),
        ("model.reinitialise", ("backbone/x",), r"model\.reinitialise: the rule 'backbone/x' matches no parameter"),
        ("model.drop_path_rate", 1.0, r"drop_path_rate is 1\.0; a dropout rate is at least 0 and below 1"),
    ],
)
def test_refused(field: str, value: Any, message: str, config: Any, tmp_path: Path) -> None:
    config.update_from_flattened_dict({field: value})
    with pytest.raises(TlxError, match=message):
        finetune.build(config, tmp_path / "run")


def test_nothing_to_go_back_to(config: Any) -> None:
    config.l2_sp.alpha = 0.1
    params, groups = {"a": np.ones(2), "b": np.ones(2)}, {"a": "frozen", "b": "default"}
    with pytest.raises(TlxError, match="no trainable parameter was loaded from the checkpoint"):
        plan_anchors(config, params, groups, initialized={"b"})


def test_drawn_anew_is_said_in_selectors() -> None:
    blocks = ("embeddings", "encoder/layer/0", "encoder/layer/1", "encoder/layer/2")
    said = {"reinitialise": ("last:2", "pooler", "kind:norm")}
    assert reinitialized(said, blocks) == (
        "backbone/encoder/layer/1/.*", "backbone/encoder/layer/2/.*", "backbone/pooler/.*", "kind:norm",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shares"),
    [("0:1:0.25", (0, 0.25, 0.5, 0.75, 1)), ("0:1:0.1", tuple(i / 10 for i in range(11))), ("0.3,1", (0.3, 1))],
)
def test_alpha(text: str, shares: tuple[float, ...]) -> None:
    assert parse_shares(text) == shares


@pytest.mark.parametrize("text", ["", "0:1", "0:2:0.5", "0:1:0", "1:0:0.1", "a", "nan"])
def test_alpha_refused(text: str) -> None:
    with pytest.raises(TlxError, match=r"it is FIRST:LAST:STEP, such as 0:1:0\.1, or numbers from 0 to 1"):
        parse_shares(text)
