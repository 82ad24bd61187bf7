"""A PostgreSQL server of its own for a test, in a temporary folder and reached by a socket in it."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

PLACES = "/usr/lib/postgresql/*/bin"  # of Debian, which has the server's programs on no PATH
USERS = ("postgres", "nobody")  # the server refuses to run as root


def program(name: str) -> str | None:
    """The path of a program of PostgreSQL; None if it is not installed."""
    found = sorted(Path("/").glob(f"{PLACES[1:]}/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


def absent() -> str | None:
    """Why no server can be started here; None if one can."""
    if missing := [name for name in ("initdb", "pg_ctl") if program(name) is None]:
        return f"PostgreSQL is absent: there is no {' and no '.join(missing)}"
    if os.geteuid() == 0 and (_user() is None or shutil.which("setpriv") is None):
        return "PostgreSQL refuses to run as root, and there is no other user or no setpriv"
    return None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Starts a server, and stops and removes it at the end of the `with` block. Yields the URL of its database."""
    folder = Path(tempfile.mkdtemp(prefix="tlx-pg-", dir="/tmp"))  # the path of a socket has at most 107 characters
    user = _user() if os.geteuid() == 0 else None
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    data = str(folder / "data")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    try:
        _run(user, [program("initdb"), "-D", data, "-U", "tlx", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"])
        _run(user, [program("pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start"])
        try:
            yield f"postgresql+psycopg://tlx@/postgres?host={folder}"
        finally:
            _run(user, [program("pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> pwd.struct_passwd | None:
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next((names[name] for name in USERS if name in names), None)


def _run(user: pwd.struct_passwd | None, words: Sequence[str | None]) -> None:
    """Runs a program of the server, as another user if one is given."""
    change = [] if user is None else ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    # To a file, because the server keeps the output open.
    with tempfile.TemporaryFile() as output:
        ended = subprocess.run(
            [*change, *map(str, words)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/"
        )
        output.seek(0)
        if ended.returncode:
            raise RuntimeError(f"{words[0]} failed: {output.read().decode(errors='replace')}")
