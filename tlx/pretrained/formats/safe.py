"""Restricts the links in a checkpoint's folder to the folder itself and to the Hugging Face cache."""

import fnmatch
import os
import re
from collections.abc import Iterable
from pathlib import Path

from tlx.errors import TlxError

REPOSITORY = re.compile(r"(models|datasets|spaces)--.+")
SHARED = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{62}")


def inside(folder: Path, name: str) -> Path:
    """Returns the path of a file in a checkpoint's folder; the file need not exist.

    Args:
      folder: the checkpoint's folder.
      name: the name of the file.

    Raises:
      TlxError: `name` is not a plain file name, or is a link that leads out of the folder. Links of the Hugging Face
        cache to the blobs of the same repository are allowed.
    """
    if name in ("", ".", "..") or set(name) & set("/\\") or not name.isprintable():
        raise TlxError(f"{folder} names {name!r:.100} as one of its files; a plain name without a path was expected.")
    real = Path(os.path.realpath(folder))
    target = Path(os.path.realpath(real / name))
    if not target.is_relative_to(real) and not _in_the_hubs_cache(real, name, target):
        raise TlxError(
            f"{folder / name} is a link that leads out of its folder, to {target}; put the file itself there."
        )
    return folder / name


def check_links(folder: Path, patterns: Iterable[str]) -> None:
    """Checks the files of a folder before a library opens them.

    Args:
      folder: the folder.
      patterns: patterns of file names; files that match none are not checked.

    Raises:
      TlxError: a file is a link that leads out of the folder, a pipe or a device; or the folder cannot be listed.
    """
    patterns = list(patterns)
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise TlxError(f"{folder} cannot be listed: {error.strerror}; name a folder.") from None
    for name in names:
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            file = inside(folder, name)
            if file.exists() and not file.is_file() and not file.is_dir():
                raise TlxError(f"{file} is not a file but a pipe or a device; expected a regular file.")


def _in_the_hubs_cache(real: Path, name: str, target: Path) -> bool:
    """Returns whether a link leads from `REPOSITORY/snapshots/REVISION/…` to a blob of the same repository.

    In huggingface_hub ≥ 2, `REPOSITORY/blobs/` links to `CACHE/blobs/ab/abcd…`, which all repositories of a cache
    share. Such a second link is allowed only from the repository's blobs, to a path of that form, in a cache that is
    marked as having shared blobs.
    """
    revision = next((place for place in (real, *real.parents) if place.parent.name == "snapshots"), None)
    if revision is None:
        return False
    repository = revision.parent.parent
    if target.is_relative_to(repository / "blobs"):
        return True
    cache = repository.parent
    shared = cache / "blobs"
    first = Path(os.path.normpath(real / (real / name).readlink())) if (real / name).is_symlink() else target
    return (
        REPOSITORY.fullmatch(repository.name) is not None
        and first.parent == repository / "blobs"
        and target.is_relative_to(shared)
        and SHARED.fullmatch(target.relative_to(shared).as_posix()) is not None
        and (shared / ".huggingface-shared-blobs").is_file()
    )
