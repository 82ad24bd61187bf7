"""What every experiment script does around its recipe: quiet logs, the compilation cache, errors as sentences."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tlx.errors import one_sentence


def quiet_logs() -> None:
    """Warnings and errors only; Orbax tells each of its steps otherwise."""
    from absl import logging

    logging.set_verbosity(logging.WARNING)
    logging.set_stderrthreshold(logging.WARNING)


def use_compilation_cache() -> None:
    """Keeps compiled steps on disk, so that the next run of the same shapes starts at once. JAX's own variable decides
    where, if it is set."""
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "tlx" / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@contextlib.contextmanager
def launched() -> Iterator[None]:
    """Around the whole of a script's work."""
    quiet_logs()
    with one_sentence():
        use_compilation_cache()
        yield
