"""Processes whose memory is limited by the system (RLIMIT_AS, RLIMIT_DATA): one sentence and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import tiny

pytestmark = [pytest.mark.slow, pytest.mark.long]
ROOT = Path(__file__).parents[2]
START = """
import resource, sys
from pathlib import Path
from tlx.errors import one_sentence
kind, place = sys.argv[1], Path(sys.argv[2])

def leave(mebibytes):
    pages = Path("/proc/self/statm").read_text().split()
    used = int(pages[{"AS": 0, "DATA": 5}[kind]]) * resource.getpagesize()
    resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (used + mebibytes * 2**20, -1))

with one_sentence():
    from tests import tiny
    from tlx.cli.main import main
    from tlx.recipes import finetune
    config = tiny.config(place / "checkpoint", place / "reviews.csv")
"""
STEP = """
    config.train.batch_size, config.train.epochs = 6000, 1.0
    job = finetune.build(config, place / "run")
    leave(400)
    job.run(quiet=True)
"""
LOADING = """
    from tlx.data.sources import load
    leave(100)
    load(f"npz:{place}/large.npz")
"""
PREDICT = """
    config.train.epochs, config.train.batch_size = 1.0, 500
    finetune.build(config, place / "run").run(quiet=True)
    leave(8)
    main(["predict", str(place / "run"), "--input", str(place / "reviews.csv"), "--output", str(place / "out.csv")])
"""


def limited(code: str, kind: str, place: Path) -> subprocess.CompletedProcess[str]:
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    return subprocess.run(
        [sys.executable, "-c", START + code, kind, str(place)], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tiny.write_checkpoint(tmp_path / "checkpoint")
    tiny.write_reviews(tmp_path / "reviews.csv", 9000)
    return tmp_path


@pytest.mark.parametrize("kind", ["AS", "DATA"])
def test_a_step(kind: str, place: Path) -> None:
    """It needs more than 600 MiB where 400 are left: it warns, begins, and says what it needs and what to change."""
    ended = limited(STEP, kind, place)
    said = ended.stderr.splitlines()
    assert ended.returncode == 2 and "Traceback" not in ended.stderr, ended.stderr
    assert said[-1].startswith("tlx: the training step does not fit into memory: it needs "), ended.stderr
    assert "MiB more on the host is available" in said[-1] and "config.train.accumulate" in said[-1]
    assert (
        "beside state and batch, and" in ended.stderr and "is available now, so that memory may run out" in ended.stderr
    )
    assert len([line for line in said if line.startswith("tlx: ")]) == 1


@pytest.mark.parametrize("kind", ["AS", "DATA"])
def test_loading(kind: str, place: Path) -> None:
    """An archive that unpacks to 300 MB where 100 MiB are left."""
    np.savez_compressed(place / "large.npz", image=np.zeros((300, 1000, 1000), np.uint8), label=np.zeros(300, np.int64))
    ended = limited(LOADING, kind, place)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith(f"tlx: {place}/large.npz") and "available" in ended.stderr


@pytest.mark.parametrize("kind", ["AS", "DATA"])
def test_predict(kind: str, place: Path) -> None:
    """In 8 MiB and what training left of the heap, which may suffice or not; no checkpoint is called damaged."""
    ended = limited(PREDICT, kind, place)
    said = [line for line in ended.stderr.splitlines() if line.startswith("tlx: ")]
    assert "damaged" not in ended.stderr and "Traceback" not in "".join(said)
    if ended.returncode == -6:  # LLVM aborts where it cannot store a program (docs/safety.md)
        assert "LLVM ERROR: Unable to allocate" in ended.stderr
    elif ended.returncode:
        assert ended.returncode == 1 and said[-1].startswith("tlx: there is not enough memory"), ended.stderr[:2000]
    else:
        assert (place / "out.csv").read_text().count("\n") == 9001
