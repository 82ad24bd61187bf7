"""Commands of other software as trials: what is recorded of one that is broken, and that none outlives its worker."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tlx.errors import TlxError
from tlx.files.lock import acquire_lock
from tlx.studies.command import run_command
from tlx.studies.trial import Result

WANTED = ("test/accuracy",)
# Runs a command that notes its process id and sleeps, while the folder is locked.
WORKER = """
import sys
from pathlib import Path
from tlx.files.lock import acquire_lock
from tlx.studies.command import run_command
folder = Path(sys.argv[1])
sleep = f"echo $$ > {folder}/pid; trap '' TERM; sleep 60"
run_command(["sh", "-c", sleep], folder, 0, {}, (), acquire_lock(folder))
"""


def shell(folder: Path, text: str) -> Result:
    return run_command(["sh", "-c", text], folder, 3, {"train.epochs": 2}, WANTED)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("echo first; echo no such data; exit 3", "sh ended with code 3: no such data"),
        ("kill -9 $$", "sh ended with code 137: it printed nothing"),
        ("true", "sh wrote no file"),
        ("echo nothing > {result}", "is not a valid result of a command"),
        ('echo \'{"metrics": {"validation/loss": 1}}\' > {result}', "the metric test/accuracy is None"),
        ('echo \'{"metrics": {"test/accuracy": NaN}}\' > {result}', "the metric test/accuracy is nan"),
        ("echo '{\"metrics\": [1]}' > {result}", "expected an object of names and numbers"),
        ('echo \'{"metrics": {"test/accuracy": "1"}}\' > {result}', "test/accuracy of the command's result is '1'"),
        ('echo \'{"metrics": {"test/accuracy": 1}, "seconds": "x"}\' > {result}', "seconds of the command's result"),
    ],
)
def test_a_broken_command_is_recorded_with_its_error(tmp_path: Path, text: str, error: str) -> None:
    assert error in str(shell(tmp_path, text)["error"])


def test_a_program_that_is_absent(tmp_path: Path) -> None:
    found = run_command([str(tmp_path / "absent")], tmp_path, 0, {}, WANTED)
    assert "it cannot be started: No such file or directory" in str(found["error"])


def test_what_a_command_is_given_and_what_is_recorded(tmp_path: Path) -> None:
    metrics = '{{"metrics": {{"test/accuracy": 0.{seed}, "other": NaN}}, "error": "x", "peak_memory_bytes": 7}}'
    text = f"echo '{metrics.format(seed='{seed}')}' > {{result}}; echo '{{changes}}' > {{folder}}/changes"
    found = shell(tmp_path, text)
    assert found["metrics"]["test/accuracy"] == 0.3 and math.isnan(found["metrics"]["other"])
    assert found["peak_memory_bytes"] == 7 and found["seconds"] >= 0 and "error" not in found
    assert (tmp_path / "changes").read_text() == '{"train.epochs": 2}\n'


def test_a_command_ends_with_its_killed_worker_and_holds_the_lock_until_then(tmp_path: Path) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)])
    file, until = tmp_path / "pid", time.monotonic() + 60
    while not (file.is_file() and file.read_text().strip()) and time.monotonic() < until:
        time.sleep(0.02)
    command = int(file.read_text())
    with pytest.raises(TlxError, match="is in use"):
        acquire_lock(tmp_path)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    while Path(f"/proc/{command}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path(f"/proc/{command}").exists()
    time.sleep(0.1)
    acquire_lock(tmp_path).release()
