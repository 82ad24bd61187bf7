"""Workers are killed with SIGKILL: every trial ends exactly once, and nothing runs twice at a time (harness.py)."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.studies import postgres

pytestmark = pytest.mark.slow


def harness(*words: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.studies.harness", *words],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def killed(said: str) -> int:
    """The number of workers that were killed before the study ended, which may come before the last kill."""
    return int(said.rpartition(" workers were killed")[0].rpartition(" ")[2])


@pytest.mark.long
def test_a_study_of_40_commands_on_sqlite() -> None:
    assert killed(harness("--kills", "20")) >= 10


@pytest.mark.long
@pytest.mark.skipif(postgres.absent() is not None, reason=str(postgres.absent()))
def test_a_study_of_40_commands_on_postgresql() -> None:
    assert killed(harness("--kills", "20", "--storage", "postgresql")) >= 10


@pytest.mark.faults
def test_training_goes_on_from_its_checkpoint() -> None:
    assert " 0 runs were begun again" not in harness("--kind", "training", "--kills", "5")
