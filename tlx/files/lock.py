"""One process a folder: a lock that names its owner and ends with it, however it ends."""

import datetime
import json
import os
import socket
import weakref
from pathlib import Path
from typing import Any

from tlx.errors import TlxError

FILE = ".lock"
MOST = 4096  # bytes that are read of it


class Lock:
    """Holds a folder for this process as long as the object lives; `hold` makes it."""

    def __init__(self, file: Path, number: int):
        self.file = file
        self.release = weakref.finalize(self, _release, number)


_held: weakref.WeakValueDictionary[tuple[int, int], Lock] = weakref.WeakValueDictionary()  # by device and inode


def hold(folder: Path) -> Lock:
    """Takes a folder for this process, or joins in where this process holds it already.

    The operating system's lock (`flock`) on the file `.lock` in the folder decides, so the folder is free again the
    moment its owner is gone, killed or not. The file says who that is. Where a file system has no `flock`, what the
    file says decides.

    Args:
      folder: an existing folder.

    Raises:
      TlxError: another process holds it, named by host and process id; or the folder cannot be written.
    """
    file = folder / FILE
    try:
        number = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    except OSError as error:
        raise TlxError(f"the run directory {folder} cannot be written: {error.strerror}.") from None
    status = os.fstat(number)
    if (ours := _held.get((status.st_dev, status.st_ino))) is not None:
        os.close(number)
        return ours
    owner = _read(number)
    free = _flock(number)
    if free is None:
        free = not owner or is_gone(owner)
    if not free:
        os.close(number)
        raise TlxError(
            f"{folder} is in use by {_named(owner)}; wait until that ends, stop it, or name another run directory."
        )
    _write(number, owner_now())
    _held[status.st_dev, status.st_ino] = lock = Lock(file, number)
    return lock


def owner_now() -> dict[str, Any]:
    """This process, as the file names it: `host`, `pid`, `started` (see `started`) and `since`, when it took the
    folder."""
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started(os.getpid()), "since": since}


def started(pid: int) -> str | None:
    """When a process of this host started, in clock ticks since the boot whose id follows; None where that is not
    known. With it a later process of the same number is told apart."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{fields[19]} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except (OSError, IndexError):
        return None


def is_gone(owner: dict[str, Any]) -> bool:
    """Whether an owner was a process of this host that has ended; of other hosts nothing is known."""
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("pid"), int):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        pass
    return owner.get("started") != started(owner["pid"])


def _flock(number: int) -> bool | None:
    """Whether the lock could be taken; None where there is no such lock."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _named(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    return f"process {owner.get('pid')} on {owner.get('host')} (since {owner.get('since')})"


def _read(number: int) -> dict[str, Any]:
    """What the file says; nothing where it is empty or no JSON object."""
    try:
        os.lseek(number, 0, os.SEEK_SET)
        said = json.loads(os.read(number, MOST))
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _write(number: int, owner: dict[str, Any]) -> None:
    """On a full disk the lock holds without a name."""
    try:
        os.ftruncate(number, 0)
        os.pwrite(number, json.dumps(owner).encode() + b"\n", 0)
    except OSError:
        pass


def _release(number: int) -> None:
    try:
        os.ftruncate(number, 0)  # nobody holds it
    finally:
        os.close(number)
