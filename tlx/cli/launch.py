"""What every experiment script does around its recipe: quiet logs, the compilation cache, errors as sentences."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tlx.errors import TlxError, one_sentence


def quiet_logs() -> None:
    """Orbax tells each of its steps otherwise, and of a save that fails five tracebacks before the exception."""
    import logging as standard

    from absl import logging

    standard.getLogger("asyncio").setLevel(standard.CRITICAL)
    logging.set_verbosity(logging.FATAL)
    logging.set_stderrthreshold(logging.FATAL)


def compilation_cache() -> Path:
    """Where compiled steps are kept: as JAX's own variable says, or under the user's cache."""
    if given := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tlx" / "compiled"


def use_compilation_cache() -> None:
    """Keeps compiled steps on disk, so that the next run of the same shapes starts at once."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(compilation_cache()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def run(main: Callable[[list[str]], None]) -> None:
    """Parses the flags and runs a script's `main`; a flag or field that does not fit ends with one sentence."""
    with one_sentence():
        from absl import app

        app.run(main, flags_parser=parse)


def parse(argv: list[str], values: Any = None) -> list[str]:
    """What absl does, but for the traceback of a misspelt field and the page of usage after a mistyped one."""
    from absl import flags

    with one_sentence():
        for file in _config_files(argv):  # of one that is not there ml_collections prints a page
            if not Path(file.partition(".py")[0] + ".py").is_file():
                raise TlxError(f"there is no config file {file!r}; expected FILE.py[:ARGUMENT].")
        try:
            rest: list[str] = (flags.FLAGS if values is None else values)(argv)
        except flags.UnrecognizedFlagError as error:
            if error.flagname.startswith("config."):
                raise TlxError(f"--{error.flagname} comes before any --config=FILE; name the config first.") from None
            raise TlxError(f"{error} (--help lists the flags.)") from None
        except flags.Error as error:
            within = re.search(r"TlxError: (.*)", str(error))  # raised by the config file itself
            text = within[1] if within else str(error)
            raise TlxError(" ".join(text.split()).rstrip(". ") + ".") from None
        except AttributeError as error:  # '…\nDid you mean "seed" instead of "sead"?', or the name alone
            named = re.match(r"\W*(\w+)\W*?(?:\\n|\n|\W*$)(?:.*?(Did you mean \"\w+\"))?", str(error), re.DOTALL)
            if named is None:
                raise
            hint = f"{named[2]}?" if named[2] else "tlx/recipes/defaults.py lists the fields."
            raise TlxError(f"the config has no field {named[1]!r}. {hint}") from None
    return rest


def load_config(config: str, overrides: Sequence[str] = ()) -> Any:
    """A config file (`FILE.py[:ARGUMENT]`) with some fields overridden (`optimizer.learning_rate=1e-4`)."""
    from absl import flags
    from ml_collections import config_flags

    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    given, sys.argv = sys.argv, ["tlx", f"--config={config}", *(f"--config.{field}" for field in overrides)]
    try:  # ml_collections looks for overrides in sys.argv
        parse(sys.argv, values)
    finally:
        sys.argv = given
    return values.config


def _config_files(argv: Sequence[str]) -> Iterator[str]:
    """What `--config=FILE.py[:ARGUMENT]` and `--config FILE.py` name."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, joined, file = argument.partition("=")
        if name in ("--config", "-config"):
            yield file if joined else following


@contextlib.contextmanager
def launched(workdir: str | None = None) -> Iterator[None]:
    """Around the whole of a script's work; whatever ends it early is one sentence (`tlx.errors.one_sentence`).

    workdir: the run directory, where the traceback of an unknown error is kept.
    """
    with one_sentence(workdir):
        quiet_logs()
        use_compilation_cache()
        yield
