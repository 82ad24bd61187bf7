"""How much memory is available: the least of what the machine, the container and the process's limit leave."""

import contextlib
from pathlib import Path


def available() -> int | None:
    """Returns the bytes of memory that this process can still allocate; None if the system does not tell."""
    limits = [value for value in (_machine(), _container(), _process()) if value is not None]
    return min(limits, default=None)


def format_bytes(count: float) -> str:
    """Formats a number of bytes for messages, such as `6.0 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if count < 1024 or unit == "PiB":
            break
        count /= 1024
    return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"


def _machine() -> int | None:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _container() -> int | None:
    """Returns what the control group (version 2) leaves: its limit minus the memory in use that cannot be reclaimed."""
    limit, used = (_lines(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if not limit or not used or not limit[0].isdecimal():
        return None
    cached = next((int(line.split()[1]) for line in _lines("/sys/fs/cgroup/memory.stat") if line[:5] == "file "), 0)
    return max(int(limit[0]) - int(used[0]) + cached, 0)


def _process() -> int | None:
    """Returns what the limit on the process's address space (`ulimit -v`) leaves."""
    with contextlib.suppress(ImportError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = _lines("/proc/self/statm")
        if limit != resource.RLIM_INFINITY and pages:
            return max(limit - int(pages[0].split()[0]) * resource.getpagesize(), 0)
    return None


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
