"""A run that signals stop, wherever they come, goes on to the bits and the metrics of one that was not stopped."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests import tiny
from tlx.errors import TlxError
from tlx.recipes import finetune, job, results
from tlx.recipes.schedule import save_schedule
from tlx.signals import Stop, caught
from tlx.training.checkpoint import Checkpoints
from tlx.training.saves import SaveSchedule
from tlx.training.writers import read_lines, read_metrics

pytestmark = pytest.mark.slow
TOTAL = 44  # four epochs of 11 steps


def configured(place: Path) -> Any:
    """A run with two phases, an average and early stopping that counts; steps are logged between evaluations."""
    config = tiny.config(place / "checkpoint", place / "reviews.csv")
    config.params.phases = ({"start": 0, "trainable": "heads"}, {"start": 1.5, "trainable": "last:1,heads"})
    config.average.kind = "ema"
    config.train.epochs, config.train.log_every, config.train.patience = 4.0, 7, 4
    config.features.cache = "off"
    return config


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> tuple[Path, dict[str, Any]]:
    return place / "undisturbed", finetune.build(configured(place), place / "undisturbed").run(quiet=True)


def end_of(config: Any, run: Path) -> dict[str, np.ndarray]:
    """Every leaf of the newest state."""
    built = finetune.build(config, run)
    target = jax.eval_shape(built.phases[-1].enter, built.state)
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.newest() == TOTAL
        state = checkpoints.restore(TOTAL, built.layout.abstract(target))
    return {jax.tree_util.keystr(keys): np.asarray(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(state)}


def lines_of(run: Path) -> list[str]:
    """The lines of the metrics as text, without what is a time."""
    return [json.dumps({k: v for k, v in line.items() if k != "train/examples_per_s"}) for line in read_metrics(run)]


def assert_same_end(place: Path, run: Path, undisturbed: tuple[Path, dict[str, Any]]) -> None:
    whole, again = end_of(configured(place), undisturbed[0]), end_of(configured(place), run)
    assert whole.keys() == again.keys() and any("mu" in name for name in whole)
    assert not [name for name in whole if not np.array_equal(whole[name], again[name])]
    assert lines_of(run) == lines_of(undisturbed[0])


def kill(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def stopped(config: Any, run: Path, disturb: Callable[[Any], None]) -> Stop:
    """What a run raises whose job was disturbed."""
    with caught(), pytest.raises(Stop) as ended:
        built = finetune.build(config, run)
        disturb(built)
        built.run(quiet=True)
    return ended.value


def before_step(number: int) -> Callable[[Any], None]:
    return lambda built: tiny.before_each_step(built, lambda state: int(state.step) == number - 1 and kill())


def during(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int = 1) -> None:
    """A signal after the work of a function, at its so many-th call."""
    original, calls = getattr(owner, name), []

    def disturbed(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        result = original(*args, **kwargs)
        if len(calls) == call:
            kill()
        return result

    monkeypatch.setattr(owner, name, disturbed)


def newest(run: Path) -> int:
    return max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())


@pytest.mark.long
def test_stopped_again_and_again(
    place: Path, undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first step, between two logs, at a phase's border, in an evaluation, in a save and in the reports."""
    run = tmp_path / "run"
    for step in (1, 5, 16):  # the second phase begins after 16 steps
        assert stopped(configured(place), run, before_step(step)).when == f"after step {step} of {TOTAL}"
        assert newest(run) == step
    for owner, name, step in ((job.Job, "evaluate", 22), (Checkpoints, "save", 34)):
        with monkeypatch.context() as patch:
            during(patch, owner, name)
            assert stopped(configured(place), run, lambda _: None).when == f"after step {step} of {TOTAL}"
        assert newest(run) == step
    assert len(list((run / "checkpoints").iterdir())) <= 2  # the newest and the best
    with monkeypatch.context() as patch:
        during(patch, results, "plot_curves")
        assert stopped(configured(place), run, lambda _: None).when == "after training"
    summary = finetune.build(configured(place), run).run(quiet=True)
    assert_same_end(place, run, undisturbed)
    assert {k: summary[k] for k in ("metrics", "selection")} == {k: undisturbed[1][k] for k in ("metrics", "selection")}


def test_an_unevaluated_state_is_not_the_best(place: Path, tmp_path: Path) -> None:
    stopped(configured(place), tmp_path / "run", before_step(15))
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        assert (checkpoints.newest(), checkpoints.best()) == (15, 11)
        assert checkpoints.meta(15)["loop"]["stale"] == 0


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGHUP,), (signal.SIGUSR1, signal.SIGTERM)])
def test_other_signals(signals: tuple[signal.Signals, ...], place: Path, tmp_path: Path) -> None:
    """Those that follow at once are the same request: `timeout` signals a process and then its group."""
    config = configured(place)
    stop = stopped(
        config, tmp_path / "run",
        lambda built: tiny.before_each_step(built, lambda _: [os.kill(os.getpid(), number) for number in signals]),
    )  # fmt: skip
    assert stop.number in signals and newest(tmp_path / "run") == 1


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        pytest.param("15", [15, 30, 44], marks=pytest.mark.long),
        pytest.param("1.5 epochs", [16, 32, 44], marks=pytest.mark.long),
        pytest.param("0.0001s", None, marks=pytest.mark.long),
    ],
)
def test_saving_apart_from_evaluation(
    every: str, steps: list[int] | None, place: Path, undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """The saves that are due, those of best evaluations and of the end; the numbers are the same."""
    config = configured(place)
    config.train.save_every, config.train.keep = every, 3
    summary = finetune.build(config, tmp_path / "run").run(quiet=True)
    saves = read_lines(tmp_path / "run" / "saves.jsonl")
    found = [line["step"] for line in saves]
    best: list[int] = []
    values = {line["step"]: line.get("validation/accuracy", -1.0) for line in read_metrics(tmp_path / "run")}
    for step, value in values.items():
        if value > max((values[earlier] for earlier in best), default=-1.0):
            best.append(step)
    if steps is not None:
        assert found == sorted({*steps, *best})
    else:
        assert {1, *best, TOTAL} <= {*found}
    kept = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit())
    assert kept == sorted({*found[-3:], best[-1]})
    assert summary["saves"]["checkpoints"] == len(found) and summary["saves"]["bytes"] == sum(x["bytes"] for x in saves)
    assert all(0 < line["blocked_seconds"] <= line["seconds"] < 60 for line in saves)
    assert lines_of(tmp_path / "run") == lines_of(undisturbed[0])
    assert summary["metrics"] == undisturbed[1]["metrics"]


def test_how_often_may_change_when_a_run_goes_on(place: Path, tmp_path: Path) -> None:
    finetune.build(configured(place), tmp_path / "run")
    config = configured(place)
    config.train.save_every, config.train.keep = "10m", 2
    assert finetune.build(config, tmp_path / "run").schedule.saves == SaveSchedule(seconds=600.0, keep=2)


def test_words_for_how_often() -> None:
    expected = {
        "": SaveSchedule(), "500": SaveSchedule(500), "1 step": SaveSchedule(1), "0.5 epochs": SaveSchedule(6),
        "0.001 epochs": SaveSchedule(1), "90s": SaveSchedule(seconds=90.0), "1.5h": SaveSchedule(seconds=5400.0),
    }  # fmt: skip
    for every, schedule in expected.items():
        assert save_schedule(every, 1, 11) == schedule
    for every in ("0", "-1", "1.5 steps", "ten", "10 minutes", "5x", "0m", "nan", "1e3", "m", "9" * 400):
        with pytest.raises(TlxError, match=r"config.train.save_every is .*; it is a number of steps, epochs, seconds"):
            save_schedule(every, 1, 11)
