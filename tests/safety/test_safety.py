"""Does the harness see what it should? Its parts alone, and faults planted in tlx, each of which it must find."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.planting import changed_code
from tests.safety import shim
from tests.safety.compare import differences, leaves
from tests.safety.damage import DAMAGES
from tests.safety.faults import FAULTS
from tests.safety.shim import Target

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shim.available(), reason="the library of shim.c needs Linux and gcc"),
]
ROOT = Path(__file__).parents[2]
# Writes a file of 100 bytes and renames it, then another one; prints how far it came.
SCRIPT = """
import os, sys
from pathlib import Path
from tests.safety.shim import Target, arm
folder = Path(sys.argv[1]) / "run"
arm(folder, Path(sys.argv[1]) / "log", Target(*eval(sys.argv[2])))()
for name in ("first", "second"):
    try:
        (folder / "deep").mkdir(exist_ok=True)
        with (folder / "deep" / "partial").open("wb", buffering=0) as opened:
            written = opened.write(bytes(100))
            os.fsync(opened.fileno())
        (folder / "deep" / "partial").rename(folder / name)
        print(name, written)
    except OSError as error:
        print(name, os.strerror(error.errno))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shim.build(tmp_path_factory.mktemp("shim"))


def disturbed(library: Path, folder: Path, target: Target) -> tuple[int, list[str]]:
    """The script with a target: its exit code, and what it printed."""
    (folder / "run").mkdir(exist_ok=True)
    words = (target.operation, target.pattern, target.nth, target.how, target.number)
    ended = subprocess.run(
        [sys.executable, "-u", "-c", SCRIPT, str(folder), repr(words)], capture_output=True, text=True, check=False,
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)}, cwd=ROOT,
    )  # fmt: skip
    assert not ended.stderr, ended.stderr
    return ended.returncode, ended.stdout.splitlines()


def test_all_changes_are_seen(library: Path, tmp_path: Path) -> None:
    assert disturbed(library, tmp_path, Target()) == (0, ["first 100", "second 100"])
    assert shim.events(tmp_path / "log") == {
        ("mkdir", "deep"): 2, ("open", "deep/partial"): 2, ("write", "deep/partial"): 2, ("fsync", "deep/partial"): 2,
        ("close", "deep/partial"): 2, ("rename", "first"): 1, ("rename", "second"): 1,
    }  # fmt: skip
    assert shim.hit(tmp_path / "log") is None


@pytest.mark.parametrize(
    ("target", "printed", "sizes"),
    [
        (("write", "*/partial", 2, "before"), ["first 100"], {"first": 100, "deep/partial": 0}),
        (("write", "*/partial", 2, "during"), ["first 100"], {"first": 100, "deep/partial": 50}),
        (("write", "*/partial", 2, "after"), ["first 100"], {"first": 100, "deep/partial": 100}),
        (("rename", "first", 1, "before"), [], {"deep/partial": 100}),
        (("rename", "*", 1, "after"), [], {"first": 100}),
    ],
)
def test_a_kill(
    target: tuple[str, str, int, str], printed: list[str], sizes: dict[str, int], library: Path, tmp_path: Path
) -> None:
    assert disturbed(library, tmp_path, Target(*target)) == (-9, printed)
    files = {str(file.relative_to(tmp_path / "run")): file for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert {name: file.stat().st_size for name, file in files.items()} == sizes
    assert (shim.hit(tmp_path / "log") or "").startswith(target[0])


@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (28, ["first 50", "second No space left on device"]),
        (5, ["first Input/output error", "second Input/output error"]),  # the sync fails too
        (30, ["first Read-only file system", "second Read-only file system"]),
    ],
)
def test_an_error_stays(number: int, printed: list[str], library: Path, tmp_path: Path) -> None:
    assert disturbed(library, tmp_path, Target("write", "*", 1, "error", number)) == (0, printed)


def test_a_signal(library: Path, tmp_path: Path) -> None:
    assert disturbed(library, tmp_path, Target("fsync", "*", 2, "signal", 15)) == (-15, ["first 100"])


def test_differences_name_what_differs() -> None:
    one = {"files": ["a", "b"], **leaves("summary.json", {"metrics": {"f1": 0.5}, "seconds": 3.0})}
    assert differences(one, {**one}) == []
    other = {"files": ["a", "c"], **leaves("summary.json", {"metrics": {"f1": 0.25}, "seconds": 4.0}), "more": 1}
    assert differences(one, other) == ["more", "summary.json metrics f1", "missing: b", "left over: c"]


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_changes_a_checkpoint(name: str, tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    generator = np.random.default_rng(0)
    for step in ("4", "8"):
        for file in ("meta/metadata", "params/d/1", "params/d/2", "params/manifest.ocdbt", "params/_METADATA"):
            (tmp_path / step / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / step / file).write_bytes(generator.bytes(200))
    for seed in range(10):
        shutil.copytree(tmp_path, kept := tmp_path.with_name("kept"), dirs_exist_ok=True)
        before = content()
        DAMAGES[name](tmp_path / "8", random.Random(seed))
        assert content() != before
        shutil.rmtree(tmp_path)
        shutil.move(kept, tmp_path)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_of_the_code_as_it_is(name: str) -> None:
    fault = FAULTS[name]
    assert changed_code(fault.function, (fault.change,)) != fault.function.__code__


def harness(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.safety.harness", *words], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=1200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the harness uses again and again, with what undisturbed runs leave."""
    return tmp_path_factory.mktemp("safety")


@pytest.mark.faults
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, place: Path) -> None:
    fault = FAULTS[name]
    place = place / "everywhere" if fault.everywhere else place
    found = harness("--place", str(place), "--plant", name, "--trials", *fault.trials, "--kinds", "plain", "--stop")
    (place / "results.jsonl").unlink()
    assert found.returncode == 1 and fault.says in found.stdout, found.stdout + found.stderr


@pytest.mark.faults
def test_without_a_fault_nothing_is_found(place: Path) -> None:
    found = harness("--place", str(place), "--minutes", "2", "--kinds", "plain")
    (place / "results.jsonl").unlink()
    assert found.returncode == 0, found.stdout + found.stderr
