"""Processes that a signal ends: one sentence, the right code, and a run that goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# A signal at the import of a module.
AT_IMPORT = """
import os, runpy, sys
class Signals:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Signals())
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# A signal at the first call of a function, in a process that has imported its module already.
AT_CALL = """
import importlib, os, runpy, sys
module = importlib.import_module({module!r})
original = getattr(module, {function!r})
def signalled(*args, **kwargs):
    os.kill(os.getpid(), {number})
    return original(*args, **kwargs)
setattr(module, {function!r}, signalled)
sys.argv = {argv!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def started(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TLX_TRACEBACK": ""},
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and standard error."""
    try:
        said = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    return process.returncode, said


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    """A run of hours."""
    tiny.write_checkpoint(tmp_path / "checkpoint")
    tiny.write_reviews(tmp_path / "reviews.csv", 100)
    return [
        "experiments/finetune.py", "--config=configs/text_file.py", f"--workdir={tmp_path}/run",
        f"--config.data.train=csv:{tmp_path}/reviews.csv", f"--config.model.checkpoint={tmp_path}/checkpoint",
        "--config.train.epochs=100000.0", "--config.train.evaluate_every=100000.0", "--config.train.log_every=1",
        "--config.data.max_length=8", "--config.parallel.data=1",
    ]  # fmt: skip


@pytest.mark.parametrize("module", ["ml_collections", "jax._src.config", "tlx.recipes.finetune", "optax"])
def test_at_an_import(module: str, argv: list[str]) -> None:
    """Of the script, of its launch and of its recipe, also within the import of a library."""
    code, said = ended(started("-c", AT_IMPORT.format(module=module, number=int(signal.SIGTERM), argv=argv)))
    assert code == 143 and re.fullmatch(r"tlx: stopped by SIGTERM(; what was saved is whole, .*)?\.\n", said), said


@pytest.mark.long
def test_while_data_is_read(argv: list[str], tmp_path: Path) -> None:
    at_call = AT_CALL.format(module="tlx.recipes.splits", function="load", number=int(signal.SIGINT), argv=argv)
    code, said = ended(started("-c", at_call))
    assert (code, said) == (
        130, "tlx: stopped by Ctrl-C; what was saved is whole, and the same command goes on from there.\n",
    )  # fmt: skip
    assert not list(tmp_path.rglob(".*.partial"))


@pytest.mark.parametrize("words", [["predict", "none", "a text"], ["doctor"]])
def test_a_command(words: list[str]) -> None:
    module = f"tlx.cli.{words[0]}"
    code = AT_IMPORT.format(module=module, number=int(signal.SIGINT), argv=["tlx/cli/main.py", *words])
    assert ended(started("-c", code)) == (130, "tlx: stopped by Ctrl-C.\n")


def first_line(run: Path, process: subprocess.Popen[str], more_than: int) -> None:
    """Waits for lines of metrics."""
    file = run / "metrics.jsonl"
    while process.poll() is None and (not file.exists() or file.read_bytes().count(b"\n") <= more_than):
        time.sleep(0.02)


@pytest.mark.long
def test_in_training(argv: list[str], tmp_path: Path) -> None:
    """A signal from outside, once to `timeout`, which hands it on twice; the second run goes on after the first."""
    run, steps = tmp_path / "run", [0]
    for within, number in (["timeout", "1000"], signal.SIGTERM), ([], signal.SIGINT):
        process = subprocess.Popen(
            [*within, sys.executable, *argv], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        first_line(run, process, more_than=steps[-1] + 3)
        process.send_signal(number)
        code, said = ended(process)
        name = "SIGTERM" if number == signal.SIGTERM else "Ctrl-C"
        matched = re.fullmatch(
            rf"tlx: stopped by {name} after step (\d+) of \d+; saved; the same command goes on from there\.\n", said
        )
        assert code == 75 and matched, said
        steps.append(int(matched[1]))
        assert (run / "checkpoints" / matched[1] / "meta").is_dir()
    assert steps[2] > steps[1] > 0


@pytest.fixture
def busy() -> Iterator[subprocess.Popen[str]]:
    """A process that defers signals, and whose main thread is in compiled code, so that it runs no handler."""
    code = "import hashlib; from tlx.errors import one_sentence; from tlx.signals import deferred\n"
    code += "with one_sentence(), deferred():\n    print('ready', flush=True)\n"
    code += "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    with started("-c", code) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_signal_ends_at_once(busy: subprocess.Popen[str]) -> None:
    busy.send_signal(signal.SIGTERM)
    time.sleep(1.0)
    assert busy.poll() is None
    busy.send_signal(signal.SIGINT)
    assert busy.wait(timeout=10) == 130
    assert busy.stderr is not None
    assert busy.stderr.read() == "tlx: ended at once by a second signal, Ctrl-C; what was saved before is whole.\n"


def test_signals_that_are_ignored_stay_ignored() -> None:
    """SIGHUP under `nohup`, and Ctrl-C in the background of a script."""
    code = "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\nfrom tlx.errors import one_sentence\n"
    code += "with one_sentence():\n    os.kill(os.getpid(), signal.SIGHUP)"
    assert ended(started("-c", code)) == (0, "")


def test_forked_children_end_as_usual() -> None:
    code = "import os, signal; from tlx.errors import one_sentence\nwith one_sentence():\n    child = os.fork()\n"
    code += "    if child == 0:\n        os.kill(os.getpid(), signal.SIGTERM)\n    print(os.waitpid(child, 0)[1])"
    process = started("-c", code)
    out, said = process.communicate(timeout=60)
    assert (out, said, process.returncode) == (f"{int(signal.SIGTERM)}\n", "", 0)
