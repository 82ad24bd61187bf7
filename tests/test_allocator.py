"""Freed memory is kept for the next allocations, as the kernel's count of page faults says."""

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tlx import allocator

GLIBC = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
ROOT = Path(__file__).parents[1]
PAGES = 2**26 // resource.getpagesize()
# Allocates and fills 64 MiB ten times, in the main thread and then in four others that exist at once, and prints the
# most page faults of a time. The first times may take new memory.
COUNT = """
import resource, sys, threading
{prepare}
size = 2**26
turn = threading.Lock()
together = threading.Barrier(4)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def fill(counts, others):
    kept = [bytes(size // 2**16) for _ in range(10)]  # gives the thread its heap
    if others:
        together.wait()
    with turn:
        for index in range(10):
            before = faults()
            b"x" * size  # not a NumPy array: NumPy asks the kernel for huge pages
            counts.append(faults() - before if index > 1 else 0)

main, others = [], []
fill(main, False)
threads = [threading.Thread(target=fill, args=(others, True)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(max(main), max(others))
"""
SCRIPT = """
import runpy
runpy.run_path("experiments/finetune.py")
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
    found = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    return [int(word) for word in found[-2:]]


@pytest.mark.skipif(not GLIBC, reason="another C library")
@pytest.mark.parametrize("prepare", [SCRIPT, LAUNCHED, COMMAND], ids=["script", "launched", "command"])
def test_memory_is_kept(prepare: str) -> None:
    assert max(most_faults(prepare, JAX_PLATFORMS="cpu")) < PAGES / 10


@pytest.mark.skipif(not GLIBC, reason="another C library")
@pytest.mark.parametrize(
    "variables", [{"TLX_KEEP_MEMORY": "0"}, {"JAX_PLATFORMS": "cuda,cpu"}], ids=["off", "on a GPU's host"]
)
def test_memory_is_not_kept(variables: dict[str, str]) -> None:
    assert min(most_faults(LAUNCHED, **variables)) > PAGES / 2


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_what_is_kept_is_given_back_on_demand() -> None:
    script = """
import resource
from tlx import allocator
assert allocator.keep_memory()
held = [b"x" * 2**26 for _ in range(4)]  # a block behind the freed ones keeps them inside the heap
behind = b"x" * 2**20
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
held.clear()
before = resident()
allocator.give_back()
print(before - resident())
"""
    environment = {**os.environ, "TLX_KEEP_MEMORY": "1"}
    found = subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert int(found.stdout) > 3 * 2**26, found.stderr


@pytest.mark.parametrize("platform", ["darwin", "win32", "linux"])
def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    class Musl:
        def __getattr__(self, name: str) -> Any:
            if name == "mallopt":
                pytest.fail("mallopt of another library was called")
            raise AttributeError(name)

    monkeypatch.setenv(allocator.VARIABLE, "1")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Musl())
    assert not allocator.keep_memory()
