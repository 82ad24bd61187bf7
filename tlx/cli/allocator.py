"""Makes the process keep freed memory, which saves the page faults of training on Linux CPUs. It is off by default.

XLA allocates the temporary memory of a program at each call and frees it afterwards. glibc's malloc takes large blocks
from the system (mmap) and gives them back (munmap) each time, so that in every training step the kernel has to map and
clear hundreds of megabytes, page by page. With these settings (see mallopt(3)) malloc takes such blocks from its heap
and keeps the heap.

It is off by default because the heap can grow: a small block that is allocated inside the freed memory of a step
divides it, and the next step, which needs all of it in one piece, takes new memory. Peak memory has been seen to double
(benchmarks/memory_kept).
"""

import ctypes
import os
import sys

VARIABLE = "TLX_KEEP_MEMORY"
# (parameter, value), numbered as in glibc's malloc.h.
SETTINGS = (
    (-4, 0),  # M_MMAP_MAX: take no block by mmap
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: never give the end of the heap back
    (-8, 1),  # M_ARENA_MAX: all threads share one heap; a thread's own heap is at most 64 MiB, and larger blocks mmap
)


def keep_memory() -> bool:
    """Makes glibc's malloc keep freed memory. Call it first of all: a thread that exists before has its own heap.

    `caught`, and so `one_sentence`, starts such a thread, and malloc would give its heap to JAX's threads too.

    It does nothing unless the environment variable `TLX_KEEP_MEMORY` is `1`, or where the C library is not glibc
    (macOS, Windows, Alpine).

    Returns:
      Whether all settings were accepted.
    """
    if not sys.platform.startswith("linux") or os.environ.get(VARIABLE, "0") in ("", "0"):
        return False
    try:
        library = ctypes.CDLL(None)
    except OSError:
        return False
    if not hasattr(library, "gnu_get_libc_version"):  # only glibc has it, and SETTINGS has glibc's numbers
        return False
    return all(library.mallopt(parameter, value) == 1 for parameter, value in SETTINGS)
