"""Damaged checkpoints of a real run: noticed whatever is damaged, named by every command, and trained again."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests import tiny
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.recipes import finetune
from tlx.training.checkpoint import Checkpoints
from tlx.training.checkpoint_files import Damaged, read_meta
from tlx.training.writers import read_metrics

pytestmark = [
    pytest.mark.slow,
    # Of an array that cannot be read, tensorstore leaves futures behind.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
BEST, LAST = 33, 55  # of runs with a text in each row


def configured(place: Path) -> Any:
    """Five evaluations, of which the third is the best; the average makes `params` differ from what is trained."""
    config = tiny.config(place / "checkpoint", place / "reviews.csv")
    config.train.epochs, config.optimizer.learning_rate = 5.0, 1e-2
    config.average.kind, config.average.decay, config.data.packing = "ema", 0.5, "off"
    return config


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    finetune.build(configured(place), place / "finished").run(quiet=True)
    steps = sorted(int(folder.name) for folder in (place / "finished" / "checkpoints").iterdir())
    assert steps == [BEST, LAST]
    return place / "finished"


@pytest.fixture(scope="module")
def target(place: Path) -> Any:
    """The shapes of the state."""
    job = finetune.build(configured(place), place / "another")
    return job.layout.abstract(job.state)


def read(checkpoints: Path, step: int, target: Any) -> list[Any]:
    """All that a checkpoint gives back: `meta`, and the bits of every array."""
    with Checkpoints(checkpoints, read_only=True) as opened:
        state = opened.restore(step, target)
        return [opened.meta(step), *(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state))]


def flipped(file: Path, generator: random.Random) -> None:
    content = bytearray(file.read_bytes())
    if content:
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    file.write_bytes(content)


def zeroed(file: Path, generator: random.Random) -> None:
    content = bytearray(file.read_bytes())
    start = generator.randrange(len(content) or 1)
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    file.write_bytes(content)


def cut(file: Path, generator: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: generator.randrange(len(content) or 1)])


def deleted(file: Path, generator: random.Random) -> None:
    file.unlink()


def folder_deleted(file: Path, generator: random.Random) -> None:
    shutil.rmtree(file.parent)


def exchanged(file: Path, generator: random.Random) -> None:
    """With another file of the checkpoint."""
    step = next(folder for folder in file.parents if folder.name == str(LAST))
    other = generator.choice(sorted(path for path in step.rglob("*") if path.is_file()))
    one, two = file.read_bytes(), other.read_bytes()
    file.write_bytes(two)
    other.write_bytes(one)


DAMAGES = (deleted, zeroed, cut, folder_deleted, exchanged)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flipped, marks=pytest.mark.faults, id="flipped"),
        *(pytest.param(damage, marks=pytest.mark.long, id=damage.__name__) for damage in DAMAGES),
    ],
)
def test_whatever_changes_what_is_restored_is_noticed(
    damage: Callable[[Path, random.Random], None], finished: Path, target: Any, tmp_path: Path
) -> None:
    """In every file; bits are flipped at three places of each."""
    expected = read(finished / "checkpoints", LAST, target)
    original = finished / "checkpoints" / str(LAST)
    files = sorted(path.relative_to(original) for path in original.rglob("*") if path.is_file())
    noticed = 0
    tries = [(file, seed) for file in files for seed in range(3 if damage is flipped else 1)]
    for file, seed in tries:
        shutil.copytree(original, tmp_path / "checkpoints" / str(LAST))
        damage(tmp_path / "checkpoints" / str(LAST) / file, random.Random(f"{file} {seed}"))
        try:
            assert read(tmp_path / "checkpoints", LAST, target) == expected, f"{file} {seed}: silently wrong"
        except Damaged as damaged:
            assert damaged.step == LAST and str(tmp_path / "checkpoints" / str(LAST)) in str(damaged)
            noticed += 1
        shutil.rmtree(tmp_path / "checkpoints")
    assert noticed >= len(tries) // 4, f"{noticed} of {len(tries)}"


def test_bits_of_meta(finished: Path, tmp_path: Path) -> None:
    """Every 37th is flipped: the values are the same, or the step is refused."""
    expected = read_meta(finished / "checkpoints" / str(LAST))
    content = (finished / "checkpoints" / str(LAST) / "meta" / "metadata").read_bytes()
    file = tmp_path / str(LAST) / "meta" / "metadata"
    file.parent.mkdir(parents=True)
    refused = 0
    for bit in range(0, 8 * len(content), 37):  # odd, so that every position in a byte is tried
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(changed)
        try:
            assert read_meta(tmp_path / str(LAST)) == expected, bit
        except Damaged:
            refused += 1
    assert refused > len(content) // 10


def largest(checkpoints: Path, step: int, item: str) -> Path:
    files = [path for path in (checkpoints / str(step) / item).rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def damage_params(checkpoints: Path, step: int) -> None:
    """In the middle of the largest file, which holds arrays."""
    file = largest(checkpoints, step, "params")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def damage_meta(checkpoints: Path, step: int) -> None:
    """The best step becomes another."""
    file = checkpoints / str(step) / "meta" / "metadata"
    file.write_text(file.read_text().replace(f'"step": {BEST}', f'"step": {step}'))


GOES_ON: list[Any] = [
    # damages, then: what is said of it, the folders at the end beside the best and the last, the first step
    pytest.param(
        [(damage_params, LAST)], [f"{LAST} is damaged and was renamed {LAST}.damaged: params/", f"from step {BEST}"],
        [f"{LAST}.damaged"], BEST, id="newest",
    ),
    pytest.param(
        [(damage_meta, LAST)], [f"{LAST} is damaged and was renamed {LAST}.damaged: meta does", f"from step {BEST}"],
        [f"{LAST}.damaged"], BEST, id="meta", marks=pytest.mark.long,
    ),
    pytest.param(
        [(damage_params, BEST)], [f"renamed {LAST}.without-best, because the best", "begins again from the start"],
        [f"{BEST}.damaged", f"{LAST}.without-best"], 0, id="best", marks=pytest.mark.long,
    ),
    pytest.param(
        [(lambda checkpoints, step: shutil.rmtree(checkpoints / str(step)), BEST), (damage_params, LAST)],
        [f"{BEST} is damaged (its folder is missing)", "begins again from the start"],
        [f"{LAST}.without-best"], 0, id="best-missing", marks=pytest.mark.long,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("damages", "said", "aside", "first"), GOES_ON)
def test_the_run_trains_again_what_is_lost(
    damages: list[Any], said: list[str], aside: list[str], first: int, finished: Path, place: Path, target: Any,
    tmp_path: Path, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for damage, step in damages:
        damage(run / "checkpoints", step)
    job, taken = finetune.build(configured(place), run), []
    tiny.before_each_step(job, lambda state: taken.append(int(state.step)))
    summary = job.run(quiet=True)
    assert taken == list(range(first, LAST))
    told = capfd.readouterr().err
    assert all(text in told for text in said) and all(line.startswith("tlx: ") for line in told.splitlines()), told
    assert {path.name for path in (run / "checkpoints").iterdir()} == {str(BEST), str(LAST), *aside}
    for step in (BEST, LAST):
        again, before = (read(folder / "checkpoints", step, target) for folder in (run, finished))
        assert again[1:] == before[1:]
        assert again[0]["digests"] == before[0]["digests"] and again[0]["best"] == before[0]["best"]
    assert summary["metrics"] == json.loads((finished / "summary.json").read_text())["metrics"]
    lines, others = (
        [{name: value for name, value in line.items() if not name.endswith("examples_per_s")} for line in found]
        for found in (read_metrics(run), read_metrics(finished))
    )
    assert lines == others


@pytest.mark.long
def test_a_second_damage_of_one_step(finished: Path, place: Path, tmp_path: Path) -> None:
    """What was set aside before is kept."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.copytree(run / "checkpoints" / str(LAST), run / "checkpoints" / f"{LAST}.damaged")
    damage_params(run / "checkpoints", LAST)
    finetune.build(configured(place), run).run(quiet=True)
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert names == {str(BEST), str(LAST), f"{LAST}.damaged", f"{LAST}.damaged.2"}


@pytest.mark.long
def test_the_best_is_damaged_while_the_run_trains(finished: Path, place: Path, tmp_path: Path) -> None:
    """It is noticed at the end, and the same command trains it again."""
    job = finetune.build(configured(place), tmp_path / "run")
    kept = tmp_path / "run" / "checkpoints"
    tiny.before_each_step(job, lambda state: int(state.step) == LAST - 1 and damage_params(kept, BEST))
    with pytest.raises(TlxError, match=rf"{BEST}, the best of the run, was damaged after it was saved \(params/"):
        job.run(quiet=True)
    summary = finetune.build(configured(place), tmp_path / "run").run(quiet=True)
    assert summary["metrics"] == json.loads((finished / "summary.json").read_text())["metrics"]


COMMANDS = {
    "predict": ["a fine film"],
    "evaluate": [],
    "interpolate": ["--alpha", "1"],
    "export": ["--to", "{place}/out"],
    "features": ["--input", "{data}", "--output", "{place}/out.npz"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_names_the_step_that_it_reads(
    command: str, finished: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    words = [command, str(run), *(w.format(place=tmp_path, data=place / "reviews.csv") for w in COMMANDS[command])]
    main(words)
    assert f"tlx: {run}: step {BEST}, its best\n" in capsys.readouterr().err
    damage_params(run / "checkpoints", BEST)
    with pytest.raises(SystemExit) as ended:
        main(words)
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.count("\n") == 1 and len(told) < 700, told
    assert f"{run}/checkpoints/{BEST}, the best of the run, is damaged: params/" in told
    assert f"; whole: step {LAST} (name one with --step)." in told
    main([*words, "--step", str(LAST)])
    assert f"tlx: {run}: step {LAST}, as --step says\n" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--step", "44"])
    assert f"{run} has no checkpoint of step 44; it has steps {BEST}, {LAST}." in capsys.readouterr().err
