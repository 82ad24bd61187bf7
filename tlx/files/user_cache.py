"""The user's cache folder, for what can be made again: compiled steps, features, encoded texts."""

import os
from pathlib import Path


def user_cache(name: str) -> Path:
    """Returns the folder `tlx/NAME` in `XDG_CACHE_HOME`, by default `~/.cache`. It need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tlx" / name
