"""How a process ends that cannot go on: one sentence, whatever was raised, and nothing saved is lost."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tlx.errors import TlxError
from tlx.files.lock import acquire_lock

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
SCRIPT = "from tlx.errors import one_sentence\nwith one_sentence({folder!r}):\n    "


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=ROOT, check=False,
        env={**os.environ, "TLX_TRACEBACK": "", **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        ("from tlx.errors import TlxError; raise TlxError('no such thing.')", 2, "tlx: no such thing.\n"),
        ("raise KeyError('width')", 1, "tlx: KeyError: 'width'. This error is not known to tlx; its traceback is in "),
        ("raise MemoryError", 1, "tlx: there is not enough memory: an array could not be allocated; raise"),
        ("raise ImportError('x.so: failed to map segment from shared object')", 1, "tlx: there is not enough memory"),
        ("assert 1 == 2, 'one\\ntwo'", 1, "tlx: AssertionError: one. This error"),
        ("raise ValueError('x' * 10_000)", 1, f"tlx: ValueError: {'x' * 300}…. This error"),
        ("import no_such_module", 1, "tlx: ModuleNotFoundError: No module named 'no_such_module'. This error"),
        ("def f(): f()\n    f()", 1, "tlx: RecursionError: maximum recursion depth exceeded"),
        (
            "import threading, time\n    threading.Thread(target=lambda: 1 / 0).start()\n    time.sleep(60)",
            1, "tlx: ZeroDivisionError: division by zero. This error",
        ),
        ("raise KeyboardInterrupt", 130, "tlx: stopped by Ctrl-C; what was saved is whole, and the same command"),
        ("raise OSError(28, 'No space left on device')", 1, "tlx: writing failed (run directory "),
        ("raise OSError(5, 'Input/output error')", 1, "tlx: a file cannot be read or written (run directory "),
        ("raise ValueError('x: Read-only file system')", 1, "tlx: a file cannot be read or written (run directory "),
        (
            "raise ValueError('UNKNOWN: Gloo AllGather failed: Connection reset by peer')",
            1, "tlx: another process of the run has ended or cannot be reached (UNKNOWN: Gloo AllGather failed",
        ),
    ],
)  # fmt: skip
def test_a_script(raised: str, code: int, said: str, tmp_path: Path) -> None:
    """The traceback is in the run directory where the sentence speaks of it, and nowhere else."""
    ended = python(SCRIPT.format(folder=str(tmp_path)) + raised)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith(said) and ended.stderr.count("\n") == 1, ended.stderr
    kept = tmp_path / "traceback.txt"
    assert kept.is_file() == ("traceback" in ended.stderr) == (f"its traceback is in {kept} (" in ended.stderr)
    if kept.is_file():
        assert kept.read_text().startswith("Traceback (most recent call last)")
    if "in which a run" in said:
        assert "No space left on device" in ended.stderr


def test_without_a_run_directory_the_traceback_is_in_a_temporary_file(tmp_path: Path) -> None:
    ended = python(SCRIPT.format(folder=str(tmp_path / "none")) + "1 / 0", TMPDIR=str(tmp_path))
    (kept,) = tmp_path.iterdir()
    assert str(kept) in ended.stderr and "ZeroDivisionError" in kept.read_text() and ended.stderr.count("\n") == 1


def test_developers_see_the_traceback(tmp_path: Path) -> None:
    ended = python(SCRIPT.format(folder=str(tmp_path)) + "1 / 0", TLX_TRACEBACK="1")
    assert ended.returncode == 1 and ended.stderr.startswith("Traceback (most recent call last)")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["absl", "ml_collections", "jax"])
def test_an_import_that_fails(missing: str, tmp_path: Path) -> None:
    """Of what the script itself imports, and of what its recipe does."""
    code = f"import sys, runpy; sys.modules[{missing!r}] = None; sys.argv = ['finetune', '--config=configs/digits.py', "
    code += f"'--workdir={tmp_path}/run']; runpy.run_path('experiments/finetune.py', run_name='__main__')"
    ended = python(code, TMPDIR=str(tmp_path))
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith(f"tlx: ModuleNotFoundError: import of {missing}")


def test_standard_output_that_is_full() -> None:
    with Path("/dev/full").open("w") as opened:
        ended = subprocess.run(
            [sys.executable, "-c", "from tlx.errors import one_sentence\nwith one_sentence():\n    print('a row')"],
            stdout=opened, stderr=subprocess.PIPE, text=True, timeout=100, cwd=ROOT, check=False,
        )  # fmt: skip
    assert ended.returncode == 1 and ended.stderr.startswith("tlx: writing failed: No space left on device")
    assert ended.stderr.count("\n") == 1


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tiny.write_checkpoint(tmp_path / "checkpoint")
    tiny.write_reviews(tmp_path / "reviews.csv", 100)
    return tmp_path


def finetune(place: Path, *within: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *within, sys.executable, "experiments/finetune.py", "--config=configs/text_file.py",
            f"--workdir={place}/run", f"--config.data.train=csv:{place}/reviews.csv",
            f"--config.model.checkpoint={place}/checkpoint", "--config.train.epochs=2.0",
            "--config.data.max_length=16", "--config.parallel.data=1",
        ],
        capture_output=True, text=True, timeout=300, cwd=ROOT, check=False,
    )  # fmt: skip


def test_a_full_disk(place: Path) -> None:
    """While the first checkpoint is written, by threads of Orbax."""
    ended = finetune(place, "bash", "-c", 'ulimit -f 40; exec "$@"', "-")
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    *before, said = ended.stderr.splitlines()  # JAX warns, too, where its cache is on that disk
    assert not [line for line in before if "compilation cache" not in line and "warnings.warn" not in line]
    assert said.startswith(f"tlx: writing failed (run directory {place}/run): File too large; what was saved")
    assert not [folder for folder in (place / "run" / "checkpoints").iterdir() if folder.name.isdigit()]


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `tmp_path/run`."""
    (tmp_path / "run").mkdir()
    code = "import sys, time, pathlib; from tlx.files.lock import acquire_lock\n"
    code += "lock = acquire_lock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(100)"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_two_processes_on_one_run_directory(owner: subprocess.Popen[str], place: Path) -> None:
    """The second ends before any work, naming the first; of a first that was killed the folder is taken over."""
    ended = finetune(place)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(
        f"tlx: {place}/run is in use by process {owner.pid} on {socket.gethostname()} (since"
    )
    assert [file.name for file in (place / "run").iterdir()] == [".lock"]
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    lock = acquire_lock(place / "run")
    assert json.loads((place / "run" / ".lock").read_text())["pid"] == os.getpid()
    assert acquire_lock(place / "run") is lock  # within a process it is shared
    lock.release()
    assert (place / "run" / ".lock").read_text() == ""


def test_a_file_system_without_locks(
    owner: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the file says decides: host, process, and when that began, for numbers of processes come again."""

    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    said = json.loads((tmp_path / "run" / ".lock").read_text())
    with pytest.raises(TlxError, match=f"in use by process {owner.pid} on "):
        acquire_lock(tmp_path / "run")
    (tmp_path / "run" / ".lock").write_text(json.dumps({**said, "started": "1 an-earlier-boot"}))
    acquire_lock(tmp_path / "run").release()
    (tmp_path / "run" / ".lock").write_text(json.dumps({**said, "host": "elsewhere"}))
    with pytest.raises(TlxError, match=f"in use by process {owner.pid} on elsewhere"):
        acquire_lock(tmp_path / "run")
    (tmp_path / "run" / ".lock").write_text(json.dumps(said))
    owner.kill()
    owner.wait()
    acquire_lock(tmp_path / "run").release()


@pytest.mark.parametrize(
    ("workdir", "said"),
    [
        ("reviews.csv", "the run directory {run} cannot be made: {place}/reviews.csv is no folder."),
        ("reviews.csv/run", "the run directory {run} cannot be made: {place}/reviews.csv is no folder."),
        ("checkpoint/" + "x" * 300, "{run} cannot be written: File name too long."),
    ],
)
def test_a_run_directory_that_cannot_be(workdir: str, said: str, place: Path) -> None:
    from tlx.recipes import finetune as recipe

    with pytest.raises(TlxError) as refused:
        recipe.build(tiny.config(place / "checkpoint", place / "reviews.csv"), place / workdir)
    assert str(refused.value) == said.format(place=place, run=place / workdir)
