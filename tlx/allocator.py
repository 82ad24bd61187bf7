"""Makes the process keep freed memory, which saves the page faults of training on Linux CPUs.

XLA allocates the temporary memory of a program at each call and frees it afterwards. glibc's malloc takes large blocks
from the system (mmap) and gives them back (munmap) each time, so that in every training step the kernel has to map and
clear hundreds of megabytes, page by page. With these settings (see mallopt(3)) malloc takes such blocks from its heap
and keeps the heap, and each step uses the memory of the step before.

That needs steps which do not overlap. JAX allocates the memory of a step when it is dispatched, so steps that wait for
their turn would each hold memory of their own (asynchronous dispatch; without these settings it is not touched, and so
not taken from the system, before the step runs). Where memory is kept, programs on CPUs are therefore dispatched
synchronously (`configure_jax` in cli/launch.py asks `keeps_memory`); a batch is still fetched while a step runs.
`give_back` returns what is free where a run does something else than steps.
"""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

VARIABLE = "TLX_KEEP_MEMORY"
# (parameter, value), numbered as in glibc's malloc.h.
SETTINGS = (
    (-4, 0),  # M_MMAP_MAX: take no block by mmap
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: never give the end of the heap back
    (-8, 1),  # M_ARENA_MAX: all threads share one heap; a thread's own heap is at most 64 MiB, and larger blocks mmap
)
ACCELERATORS = ("nvidia[0-9]*", "accel[0-9]*", "accel/*", "vfio/[0-9]*", "kfd")  # below /dev
_keeps = False


def keep_memory() -> bool:
    """Makes glibc's malloc keep freed memory. Call it first of all: a thread that exists before has its own heap.

    `caught`, and so `one_sentence`, starts such a thread, and malloc would give its heap to JAX's threads too.

    It does nothing if the environment variable `TLX_KEEP_MEMORY` is `0`, where the C library is not glibc (macOS,
    Windows, Alpine), and, unless the variable is `1`, on hosts of GPUs and TPUs.

    Returns:
      Whether all settings were accepted.
    """
    global _keeps
    library = _glibc()
    wish = os.environ.get(VARIABLE) or str(int(not _has_accelerator()))
    if library is None or wish == "0":
        return False
    _keeps = all(library.mallopt(parameter, value) == 1 for parameter, value in SETTINGS)
    return _keeps


def keeps_memory() -> bool:
    """Whether this process keeps freed memory."""
    return _keeps


def give_back() -> None:
    """Returns the free memory of a process that keeps memory to the system.

    Between steps, the memory of a step is free but still the process's. Before something else takes memory for a while
    (a save copies the state), it is given back, so that the process does not grow by it.
    """
    if _keeps and (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> Any:
    """The process's C library; None if it is not glibc, whose numbers `SETTINGS` has."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
    except OSError:
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None


def _has_accelerator() -> bool:
    """Whether JAX is going to run on a GPU or TPU, as far as that can be known before JAX is imported."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms != "cpu"
    return any(any(Path("/dev").glob(pattern)) for pattern in ACCELERATORS)
