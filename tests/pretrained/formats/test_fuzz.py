"""A short run of the fuzzer; CI has a longer one."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_fuzzer_finds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "fuzz.py"), "--minutes", "0.15", "--seed", "0"]
    ended = subprocess.run([*command, "--keep", str(tmp_path)], capture_output=True, text=True, timeout=300)
    findings = "\n".join(file.read_text() for file in sorted(tmp_path.glob("*.txt"))[:3])
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr[-2000:]}\n{findings}"
    assert " read\n" in ended.stdout and " refused\n" in ended.stdout
