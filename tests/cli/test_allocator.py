"""Freed memory is kept for the next allocations, as the kernel's count of page faults says."""

import ctypes
import os
import resource
import subprocess
import sys
from typing import Any

import pytest

from tlx.cli import allocator

GLIBC = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
PAGES = 2**26 // resource.getpagesize()
# Allocates and fills 64 MiB ten times, in the main thread and in another one, and prints the page faults of each time.
# The first times may take new memory.
COUNT = """
import resource, sys, threading
{prepare}
size = 2**26

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def fill(counts):
    for _ in range(10):
        before = faults()
        b"x" * size  # not a NumPy array: NumPy asks the kernel for huge pages
        counts.append(faults() - before)

for start in (lambda work: work(), lambda work: threading.Thread(target=work).start()):
    start(lambda: fill(counts := []) or print(max(counts[2:]), flush=True))
"""
LAUNCHED = """
from tlx.cli.launch import launched
with launched():
    pass
"""
COMMAND = """
from tlx.cli import main
sys.argv = ["tlx", "--help"]
try:
    main.main()
except SystemExit:
    pass
"""


def most_faults(prepare: str, **variables: str) -> list[int]:
    """The most page faults of an allocation after the second one, in the main thread and in another."""
    environment = {name: value for name, value in os.environ.items() if name != allocator.VARIABLE} | variables
    command = [sys.executable, "-c", COUNT.format(prepare=prepare)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    return [int(word) for word in found[-2:]]


@pytest.mark.skipif(not GLIBC, reason="another C library")
@pytest.mark.parametrize("prepare", [LAUNCHED, COMMAND], ids=["script", "command"])
def test_memory_is_kept(prepare: str) -> None:
    assert max(most_faults(prepare)) < PAGES / 10


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_it_can_be_switched_off() -> None:
    assert min(most_faults(LAUNCHED, TLX_KEEP_MEMORY="0")) > PAGES / 2


@pytest.mark.parametrize("platform", ["darwin", "win32", "linux"])
def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    class Musl:
        def __getattr__(self, name: str) -> Any:
            if name == "mallopt":
                pytest.fail("mallopt of another library was called")
            raise AttributeError(name)

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Musl())
    assert not allocator.keep_memory()
