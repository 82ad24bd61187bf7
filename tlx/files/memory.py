"""How much memory is available: the least of what the machine, the container and the process's limits leave."""

import contextlib
import mmap
from pathlib import Path

MEMINFO = "/proc/meminfo"
PAGE = mmap.PAGESIZE  # bytes


def available() -> int | None:
    """Returns the bytes of memory that this process can still allocate; None if the system does not tell."""
    limits = [value for value in (_machine(), _container(), _process()) if value is not None]
    return min(limits, default=None)


def capacity() -> int | None:
    """Returns the bytes of memory that this process can have at most, whatever else runs; None if that is not known."""
    limits = [value for value in (_meminfo("MemTotal", "SwapTotal"), _container_limit(), *_process_limits()) if value]
    return min(limits, default=None)


def format_bytes(count: float) -> str:
    """Formats a number of bytes for messages, such as `6.0 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if count < 1024 or unit == "PiB":
            break
        count /= 1024
    return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"


def _machine() -> int | None:
    return _meminfo("MemAvailable")


def _meminfo(*names: str) -> int | None:
    """Returns the sum of entries of `/proc/meminfo`."""
    found = {name: int(value.split()[0]) * 1024 for name, _, value in (x.partition(":") for x in _lines(MEMINFO))}
    return sum(found.get(name, 0) for name in names) if names[0] in found else None


def _container() -> int | None:
    """Returns what the control group (version 2) leaves: its limit minus the memory in use that cannot be reclaimed."""
    limit, used = _container_limit(), _lines("/sys/fs/cgroup/memory.current")
    if limit is None or not used:
        return None
    cached = next((int(line.split()[1]) for line in _lines("/sys/fs/cgroup/memory.stat") if line[:5] == "file "), 0)
    return max(limit - int(used[0]) + cached, 0)


def _container_limit() -> int | None:
    limit = _lines("/sys/fs/cgroup/memory.max")
    return int(limit[0]) if limit and limit[0].isdecimal() else None


def _process() -> int | None:
    """Returns what the limits on the process's address space and data (`ulimit -v`, `ulimit -d`) leave."""
    pages = _lines("/proc/self/statm")
    if not pages:
        return None
    used = [int(pages[0].split()[field]) * PAGE for field in (0, 5)]  # address space; data and stack
    left = [max(limit - now, 0) for limit, now in zip(_process_limits(), used, strict=False) if limit is not None]
    return min(left, default=None)


def _process_limits() -> list[int | None]:
    """Returns the limits on the address space and on data; [] on a system without them."""
    with contextlib.suppress(ImportError):
        import resource

        limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
        return [None if limit == resource.RLIM_INFINITY else limit for limit in limits]
    return []


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
