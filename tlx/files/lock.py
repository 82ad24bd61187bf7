"""A lock on a folder for one process at a time; it names its owner and is released when the owner ends or is killed."""

import datetime
import json
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any

from tlx.errors import TlxError

FILE = ".lock"
MOST = 4096  # the most bytes that are read from the lock file
SETTLED = 1.0  # seconds after which another process has written its name too, where there are no locks


class Lock:
    """A lock on a folder, held as long as this object lives. Call `acquire_lock` to get one.

    Args:
      file: the lock file.
      descriptor: the open file descriptor of that file.

    Attributes:
      file: as above.
      descriptor: as above. A child process that inherits it holds the lock too, until it ends.
      release: releases the lock early when it is called.
    """

    def __init__(self, file: Path, descriptor: int):
        self.file, self.descriptor = file, descriptor
        self.release = weakref.finalize(self, _release, descriptor)


_locks: weakref.WeakValueDictionary[tuple[int, int], Lock] = weakref.WeakValueDictionary()  # by device and inode


def acquire_lock(folder: Path) -> Lock:
    """Locks a folder for this process. If this process holds the lock already, the existing lock is returned.

    The operating system's lock (`flock`) on the file `.lock` in the folder is used, so the lock is released as soon as
    its owner ends, even if it is killed. The file names the owner. On a file system without `flock`, the content of the
    file decides.

    Args:
      folder: an existing folder.

    Returns:
      The lock.

    Raises:
      TlxError: another process holds the lock (the message gives its host and process id), or the folder cannot be
        written.
    """
    file = folder / FILE
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    except OSError as error:
        raise TlxError(f"the run directory {folder} cannot be written: {error.strerror}.") from None
    status = os.fstat(descriptor)
    if (existing := _locks.get((status.st_dev, status.st_ino))) is not None:
        os.close(descriptor)
        return existing
    owner = _read(descriptor)
    free = _flock(descriptor)
    if free is None:
        free, owner = _claim(file, descriptor, owner)
    elif free:
        _write(descriptor, owner_now())
    if not free:
        os.close(descriptor)
        raise TlxError(
            f"{folder} is in use by {_named(owner)}; wait until that ends, stop it, or name another run directory."
        )
    _locks[status.st_dev, status.st_ino] = lock = Lock(file, descriptor)
    return lock


def owner_now() -> dict[str, Any]:
    """Describes this process as the lock file does.

    Returns:
      `host`, `pid`, `started` (see the function `started`) and `since`, the time at which the lock was taken.
    """
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started(os.getpid()), "since": since}


def started(pid: int) -> str | None:
    """Returns when a process of this host started, in clock ticks since boot, followed by the id of that boot.

    The start time distinguishes the process from a later one with the same process id. None if it is not known.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{fields[19]} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except (OSError, IndexError):
        return None


def is_gone(owner: dict[str, Any]) -> bool:
    """Returns whether the owner was a process of this host that has ended; False for processes of other hosts."""
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("pid"), int):
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        pass
    return owner.get("started") != started(owner["pid"])


def _flock(descriptor: int) -> bool | None:
    """Returns whether the lock could be taken; None if the system has no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _claim(file: Path, descriptor: int, owner: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Takes the lock on a file system without `flock`.

    Of several processes that find the file free at the same moment, the last that writes its name has the lock. The
    others see that name a moment later.

    Returns:
      Whether this process has the lock, and the owner.
    """
    if owner and not is_gone(owner):
        return False, owner
    own = owner_now()
    _write(descriptor, own)
    time.sleep(SETTLED)
    try:
        found: dict[str, Any] = json.loads(file.read_bytes()[:MOST])  # opened anew: network disks cache by open file
    except (OSError, ValueError, RecursionError):
        return True, own  # a full disk takes no name
    return found == own, found


def _named(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    return f"process {owner.get('pid')} on {owner.get('host')} (since {owner.get('since')})"


def _read(descriptor: int) -> dict[str, Any]:
    """Returns the owner that the lock file names; an empty dict if the file is empty or not a JSON object."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        owner = json.loads(os.read(descriptor, MOST))
    except (OSError, ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _write(descriptor: int, owner: dict[str, Any]) -> None:
    """Writes the owner into the lock file. If the disk is full, the lock works without it."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner).encode() + b"\n", 0)
    except OSError:
        pass


def _release(descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, 0)  # an empty file names no owner
    finally:
        os.close(descriptor)
