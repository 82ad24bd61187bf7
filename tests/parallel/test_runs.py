"""Whole runs on one device, on eight and as two processes: the same numbers, and each goes on where another stopped.

Adam divides a gradient by its size; with the usual epsilon of 1e-8 it makes steps of what is rounding (1e-8 and less).
With one of 1e-3 an error of a gradient stays as small in the step, and can be told from a fault.
"""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests import tiny
from tlx.cli.launch import load_config
from tlx.cli.main import main
from tlx.errors import TlxError
from tlx.params.paths import flatten
from tlx.recipes import finetune
from tlx.recipes.trained import load_run
from tlx.training.checkpoint import Checkpoints
from tlx.training.writers import read_metrics

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
FIELDS = (
    "data.test_fraction=0.2", "data.max_length=8", "optimizer.learning_rate=3e-3", "optimizer.eps=1e-3",
    "train.epochs=1", "train.batch_size=20", "train.evaluate_every=0.5", "train.log_every=1",
    "train.monitor=validation/loss", "params.freeze=embeddings", "average.kind=ema",
)  # fmt: skip
LARGEST = "parallel.rules=(('.*', 'largest'),)"
STEPS, HALF = 11, 6


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    tiny.write_checkpoint(folder / "checkpoint")
    tiny.write_reviews(folder / "reviews.csv", 300)
    return folder


def fields(place: Path, *more: str) -> list[str]:
    return [f"model.checkpoint={place}/checkpoint", f"data.train=csv:{place}/reviews.csv", *FIELDS, *more]


def build(place: Path, run: Path, *more: str) -> Any:
    return finetune.build(load_config(str(ROOT / "configs" / "text_file.py"), fields(place, *more)), run)


@pytest.fixture(scope="module")
def one(place: Path) -> Path:
    """The run on one device."""
    build(place, place / "one", "parallel.data=1").run(quiet=True)
    return place / "one"


@pytest.fixture(scope="module")
def half(place: Path) -> Path:
    """A run on eight devices that has stopped after its first checkpoint."""
    job = build(place, place / "half", "parallel.data=2", "parallel.fsdp=4", LARGEST)
    tiny.run_and_stop(job, HALF + 1)
    return place / "half"


# The script with a signal to this process alone, before its third step.
SIGNALLED = """
import os, runpy, signal, sys
from tlx.training.loop import _Loop
original = _Loop.begin_step
def begin_step(self, phase, finished):
    if finished == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    original(self, phase, finished)
_Loop.begin_step = begin_step
runpy.run_path(sys.argv[0], run_name="__main__")
"""


# The script, in which this process alone can write nothing more to any file from its eighth step on.
FULL = """
import resource, runpy, sys
from tlx.training.loop import _Loop
original = _Loop.begin_step
def begin_step(self, phase, finished):
    if finished == 7:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    original(self, phase, finished)
_Loop.begin_step = begin_step
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def two_processes(
    place: Path, run: Path, *more: str, disturbed: int | None = None, by: str = SIGNALLED
) -> list[subprocess.CompletedProcess[str]]:
    """The script of a run, as two processes of one device each, one of which may be disturbed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [f"--config.{field}" for field in fields(place, *more)]
    together = [f"--config.parallel.coordinator=127.0.0.1:{port}", "--config.parallel.num_processes=2"]
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    command = ["experiments/finetune.py", "--config=configs/text_file.py", f"--workdir={run}", *words, *together]
    other_script = ["-c", f"import sys; sys.argv = sys.argv[1:]\n{by}"]
    started = [
        subprocess.Popen(
            [
                sys.executable, *(other_script if process == disturbed else []), *command,
                f"--config.parallel.process_id={process}",
            ],
            cwd=ROOT, text=True,
            env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for process in range(2)
    ]  # fmt: skip
    ended = []
    try:
        for process in started:
            out, err = process.communicate(timeout=400)
            ended.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    finally:
        for process in started:
            process.kill()
    return ended


def end_of(place: Path, run: Path) -> dict[str, np.ndarray]:
    """Every leaf of the newest state, read on one device, whatever saved it."""
    target = build(place, run, "parallel.data=1")
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.newest() == STEPS
        state = checkpoints.restore(STEPS, target.layout.abstract(target.state))
    return {jax.tree_util.keystr(keys): np.asarray(leaf) for keys, leaf in jax.tree_util.tree_leaves_with_path(state)}


def assert_same(place: Path, one: Path, other: Path) -> None:
    """The state at the end, every line of the metrics, and the answers; float32 rounds at 6e-8."""
    expected, found = end_of(place, one), end_of(place, other)
    assert expected.keys() == found.keys() and any("mu" in name for name in found)
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=1e-4, atol=3e-6, err_msg=name)
    lines, others = read_metrics(one), read_metrics(other)
    assert [line["step"] for line in lines] == [line["step"] for line in others]
    for line, same in zip(lines, others, strict=True):
        for name, value in line.items():
            if not name.endswith("examples_per_s"):
                assert same[name] == pytest.approx(value, rel=1e-4, abs=1e-5), (line["step"], name)
    with np.load(one / "predictions" / "test.npz") as a, np.load(other / "predictions" / "test.npz") as b:
        assert np.array_equal(a["example_id"], b["example_id"])
        np.testing.assert_allclose(a["predictions"], b["predictions"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "parallel",
    [
        pytest.param(("parallel.data=8",), id="jit"),
        pytest.param(("parallel.data=8", "parallel.mode=pmap"), id="pmap", marks=pytest.mark.long),
        pytest.param(("parallel.data=2", "parallel.fsdp=4", LARGEST), id="fsdp", marks=pytest.mark.long),
        pytest.param(("parallel.data=1", "parallel.mode=pmap"), id="pmap, one", marks=pytest.mark.long),
        pytest.param(("parallel.data=2",), id="jit, two", marks=pytest.mark.long),
        pytest.param(("parallel.data=2", "parallel.mode=pmap"), id="pmap, two", marks=pytest.mark.long),
        pytest.param(("parallel.data=1", "parallel.fsdp=2", LARGEST), id="fsdp, two", marks=pytest.mark.long),
    ],
)
def test_devices(parallel: tuple[str, ...], place: Path, one: Path, tmp_path: Path) -> None:
    build(place, tmp_path / "run", *parallel).run(quiet=True)
    assert_same(place, one, tmp_path / "run")


def test_saved_on_eight_resumed_on_one(place: Path, one: Path, half: Path, tmp_path: Path) -> None:
    shutil.copytree(half, tmp_path / "run")
    job, taken = build(place, tmp_path / "run", "parallel.data=1"), []
    tiny.before_each_step(job, lambda state: taken.append(int(state.step)))
    job.run(quiet=True)
    assert taken == list(range(HALF, STEPS))
    assert_same(place, one, tmp_path / "run")


@pytest.mark.long
def test_two_processes_set_a_damaged_checkpoint_aside(place: Path, one: Path, half: Path, tmp_path: Path) -> None:
    """Both begin again; the main process alone renames and says so."""
    shutil.copytree(half, tmp_path / "run")
    params = tmp_path / "run" / "checkpoints" / str(HALF) / "params"
    for file in params.glob("**/d/*"):  # a bit in each hundred bytes of what holds arrays
        content = bytearray(file.read_bytes())
        content[50::100] = bytes(byte ^ 1 for byte in content[50::100])
        file.write_bytes(content)
    main_process, other = two_processes(place, tmp_path / "run")
    assert (main_process.returncode, other.returncode) == (0, 0), main_process.stderr + other.stderr
    assert f"is damaged and was renamed {HALF}.damaged: params" in main_process.stderr
    assert "begins again from the start" in main_process.stderr and "damaged" not in other.stderr
    assert (tmp_path / "run" / "checkpoints" / f"{HALF}.damaged").is_dir()
    assert_same(place, one, tmp_path / "run")


@pytest.mark.long
def test_saved_on_eight_resumed_as_two_processes(place: Path, one: Path, half: Path, tmp_path: Path) -> None:
    """They train, evaluate, save and answer; the main process alone writes and speaks."""
    shutil.copytree(half, tmp_path / "run")
    main_process, other = two_processes(place, tmp_path / "run")
    assert (main_process.returncode, other.returncode) == (0, 0), main_process.stderr + other.stderr
    assert f"goes on after step {HALF} of {STEPS}" in main_process.stdout and "test/loss" in main_process.stdout
    assert "test/loss" not in other.stdout and "epoch" not in other.stdout
    assert_same(place, one, tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_one_of_two_processes(signalled: int, place: Path, one: Path, tmp_path: Path) -> None:
    """Both save the step after the one in which it comes, and end alike; one device goes on from there."""
    ended = two_processes(place, tmp_path / "run", disturbed=signalled)
    said = f"tlx: stopped by SIGTERM after step 4 of {STEPS}; saved; the same command goes on from there.\n"
    assert [(process.returncode, process.stderr) for process in ended] == [(75, said)] * 2
    job, taken = build(place, tmp_path / "run", "parallel.data=1"), []
    tiny.before_each_step(job, lambda state: taken.append(int(state.step)))
    job.run(quiet=True)
    assert taken == list(range(4, STEPS))
    assert_same(place, one, tmp_path / "run")


@pytest.fixture(scope="module")
def pair(place: Path) -> Path:
    """The run as two processes."""
    ended = two_processes(place, place / "pair")
    assert [process.returncode for process in ended] == [0, 0], ended[0].stderr + ended[1].stderr
    return place / "pair"


@pytest.mark.faults
@pytest.mark.parametrize("full", [0, 1])
def test_one_of_two_processes_cannot_write(full: int, place: Path, pair: Path, tmp_path: Path) -> None:
    """Both end soon with a sentence each; the same command goes on and ends with the bits of an undisturbed run."""
    run, began = tmp_path / "run", time.monotonic()
    ended = two_processes(place, run, disturbed=full, by=FULL)
    seconds = time.monotonic() - began
    assert [process.returncode for process in ended] == [1, 1], ended[0].stderr + ended[1].stderr
    why = f"writing failed (run directory {run}): {os.strerror(errno.EFBIG)}; what was saved before is whole: make room"
    own, other = ended[full].stderr, ended[1 - full].stderr
    assert own.startswith(f"tlx: {why}") and own.count("\n") == 1
    assert other == f"tlx: this process ends because process {full} has ended: {own.removeprefix('tlx: ')}"
    assert not (run / "traceback.txt").exists()
    saved = (run / "checkpoints" / str(HALF)).is_dir()  # or this save was interrupted
    began = time.monotonic()
    ended = two_processes(place, run)
    assert seconds < time.monotonic() - began + 40  # starting takes as long as in the run that goes on
    assert [process.returncode for process in ended] == [0, 0], ended[0].stderr + ended[1].stderr
    assert (f"goes on after step {HALF} of {STEPS}" in ended[0].stdout) == saved
    expected, found = end_of(place, pair), end_of(place, run)
    assert expected.keys() == found.keys()
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found[name], leaf, err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize(
    "parallel",
    [
        pytest.param((), id="jit"),
        pytest.param(
            ("parallel.fsdp=2", LARGEST), id="fsdp", marks=pytest.mark.long
        ),  # parameters that no process has whole
        pytest.param(("parallel.mode=pmap",), id="pmap", marks=pytest.mark.long),
    ],
)
def test_two_processes_from_the_beginning(parallel: tuple[str, ...], place: Path, one: Path, tmp_path: Path) -> None:
    ended = two_processes(place, tmp_path / "run", *parallel)
    assert [process.returncode for process in ended] == [0, 0], ended[0].stderr + ended[1].stderr
    assert_same(place, one, tmp_path / "run")
    expected = flatten(load_run(one).params)
    for path, leaf in flatten(load_run(tmp_path / "run").params).items():
        np.testing.assert_allclose(leaf, expected[path], rtol=1e-4, atol=3e-6, err_msg=path)


@pytest.mark.long
def test_two_processes_share_features_on_disk(place: Path, tmp_path: Path) -> None:
    """Of a frozen backbone, its parameters shared out over the processes; the next run, in one process, reads them."""
    folder = tmp_path / "features"
    heads = ("params.freeze=", "params.trainable=heads", "features.cache=disk", f"features.folder={folder}")
    ended = two_processes(place, tmp_path / "run", *heads, "parallel.fsdp=2", LARGEST)
    assert [process.returncode for process in ended] == [0, 0], ended[0].stderr + ended[1].stderr
    sets = {file: file.stat().st_mtime_ns for file in folder.glob("*/values.npy")}
    assert len(sets) == 3 == len([*folder.iterdir()])  # of train, validation and test; nothing else is left
    build(place, tmp_path / "read", *heads, "parallel.data=1").run(quiet=True)
    assert {file: file.stat().st_mtime_ns for file in folder.glob("*/values.npy")} == sets
    build(place, tmp_path / "computed", *heads[:2], "features.cache=off", "parallel.data=1").run(quiet=True)
    for run in ("run", "read"):
        found, expected = read_metrics(tmp_path / run)[-1], read_metrics(tmp_path / "computed")[-1]
        assert found["validation/loss"] == pytest.approx(expected["validation/loss"], rel=1e-4), run


@pytest.mark.long
def test_two_processes_end_alike_on_bad_input(place: Path, one: Path, tmp_path: Path) -> None:
    """What the main process refuses ends the others too, with a sentence; what all of them refuse is told by each."""
    refused = two_processes(place, one, "seed=5")
    assert [process.returncode for process in refused] == [2, 2]
    assert "was begun with another config" in refused[0].stderr
    assert "process 0, which writes the run directory, has failed; see its error message." in refused[1].stderr
    for process in two_processes(place, tmp_path / "run", "parallel.data=1"):
        assert process.returncode == 2 and "parallel.data is 1, which uses 1 of 2 devices" in process.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    "parallel", [(), ("parallel.fsdp=2", LARGEST), ("parallel.mode=pmap",)], ids=["jit", "fsdp", "pmap"]
)
def test_two_processes_stop_alike_when_numbers_are_not_finite(
    parallel: tuple[str, ...], place: Path, tmp_path: Path
) -> None:
    """With a rate that no run survives; the report is that of one device."""
    diverging = (
        "optimizer.name=sgd", "optimizer.eps=None", "optimizer.clip=0.0", "optimizer.learning_rate=3e37",
        "optimizer.schedule=constant", "optimizer.warmup_fraction=0.0", "train.max_skipped=1", "average.kind=none",
    )  # fmt: skip
    with pytest.raises(TlxError, match="is not finite, which is more in a row"):
        build(place, tmp_path / "one", "parallel.data=1", *diverging).run(quiet=True)
    ended = two_processes(place, tmp_path / "two", *diverging, *parallel)
    assert [process.returncode for process in ended] == [2, 2], ended[0].stderr + ended[1].stderr
    for process in ended:
        assert process.stderr.count("is not finite, which is more in a row") == 1 and "Traceback" not in process.stderr
    one, two = (json.loads((tmp_path / run / "non_finite.json").read_text()) for run in ("one", "two"))
    assert one["step"] > one["skipped_steps"][0] >= 2  # the first update was applied
    for name in ("step", "skipped_steps", "examples", "newest_checkpoint"):
        assert one[name] == two[name], name
    for part in ("activations", "gradients"):
        first, same = (report["updates"]["update"][part] for report in (one, two))
        assert first["arrays_not_finite"] == same["arrays_not_finite"], part
        assert [row["path"] for row in first["not_finite"]] == [row["path"] for row in same["not_finite"]], part


def test_inspect_tells_how_parameters_are_cut(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parallel = ["parallel.data=2", "parallel.fsdp=4", "parallel.rules=(('kind:kernel', 'largest'),)"]
    main(["inspect", str(ROOT / "configs" / "text_file.py"), "--full", *fields(place, *parallel)])
    told = capsys.readouterr().out
    rows = {words[1]: line for line in told.splitlines() if len(words := line.split()) > 8 and "/" in words[1]}
    assert "sharding" in told and "axis 0 / 4" in rows["backbone/encoder/layer/1/output/dense/kernel"]
    assert "whole" in rows["backbone/embeddings/word_embeddings/embedding"]
