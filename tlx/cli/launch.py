"""What every experiment script does around its recipe: quiet logs, the compilation cache, errors as sentences."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tlx.cli.words import as_flags, without_none
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


def join_processes(parallel: Any) -> None:
    """Joins the processes that `config.parallel` names, if it names any."""
    if any(parallel[name] for name in ("coordinator", "num_processes", "process_id")) or parallel.process_id == 0:
        from tlx.parallel.processes import start

        start(parallel.coordinator, parallel.num_processes, parallel.process_id)


def run(main: Callable[[list[str]], None]) -> None:
    """Parses the flags and runs a script's `main`; a flag or field that does not fit ends with one sentence."""
    with one_sentence():
        from absl import app

        app.run(main, flags_parser=parse)


def parse(argv: list[str], values: Any = None) -> list[str]:
    """What absl does, but for the traceback of a misspelt field and the page of usage after a mistyped one.

    A script with a flag `config` takes its words as `tlx inspect` does, too: `FILE.py:ARGUMENT FIELD=VALUE …`. In
    either way `FIELD=None` empties a field that may be empty.
    """
    from absl import flags
    from ml_collections.config_flags.config_flags import is_config_flag

    with one_sentence():
        values = flags.FLAGS if values is None else values
        configs = [name for name in values if is_config_flag(values[name])]
        words = as_flags(argv[1:]) if "config" in configs else argv[1:]
        for file in _config_files(words):  # of one that is not there ml_collections prints a page
            if not Path(file.partition(".py")[0] + ".py").is_file():
                raise TlxError(f"there is no config file {file!r}; expected FILE.py[:ARGUMENT].")
        words, empty = without_none(words, configs)
        given, sys.argv = sys.argv, [argv[0], *words]  # where ml_collections looks for overrides
        try:
            rest: list[str] = values(sys.argv)
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
            raise _no_field(named[1], f"{named[2]}?" if named[2] else "") from None
        except KeyError as error:  # of a field within one that is not there
            raise _no_field(str(error).strip("'\"")) from None
        finally:
            sys.argv = given
        for flag, field in empty:
            _set_none(values[flag].value, field)
        if len(rest) > 1:
            raise TlxError(f"{rest[1]!r} is no flag and no FIELD=VALUE of a config; --help lists the flags.")
    return rest


def load_config(config: str, overrides: Sequence[str] = ()) -> Any:
    """A config file (`FILE.py[:ARGUMENT]`) with some fields overridden (`optimizer.learning_rate=1e-4`)."""
    from absl import flags
    from ml_collections import config_flags

    if odd := [word for word in overrides if "=" not in word]:
        raise TlxError(f"{odd[0]!r} is no FIELD=VALUE, such as train.batch_size=16.")
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    parse(["tlx", f"--config={config}", *(f"--config.{field}" for field in overrides)], values)
    return values.config


def _set_none(config: Any, path: str) -> None:
    """ml_collections reads every value as of the field's type, of which None is none."""
    from ml_collections import FieldReference

    *parents, field = path.split(".")
    for parent in parents:
        if not hasattr(config, "items") or parent not in config:
            raise _no_field(parent)
        config = config[parent]
    held = dict(config.items(preserve_field_references=True)) if hasattr(config, "items") else {}
    if field not in held:
        raise _no_field(field)
    if held[field] is not None and not isinstance(held[field], FieldReference):
        if not isinstance(held[field], str):
            raise TlxError(f"--config.{path}=None: this field has a value always; it is {held[field]!r} by default.")
        config[field] = "None"
    else:
        config[field] = None


def _no_field(name: str, hint: str = "") -> TlxError:
    return TlxError(f"the config has no field {name!r}. {hint or 'tlx/recipes/defaults.py lists the fields.'}")


def _config_files(argv: Sequence[str]) -> Iterator[str]:
    """What `--config=FILE.py[:ARGUMENT]` and `--config FILE.py` name."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, joined, file = argument.partition("=")
        if name in ("--config", "-config"):
            yield file if joined else following


@contextlib.contextmanager
def launched(workdir: str | None = None, config: Any = None) -> Iterator[None]:
    """Around the whole of a script's work; whatever ends it early is one sentence (`tlx.errors.one_sentence`).

    workdir: the run directory, where the traceback of an unknown error is kept. config: of a run that may be one of
    several processes, which `config.parallel` names.
    """

    def parting() -> None:
        if config is not None:
            from tlx.parallel.processes import part

            part()

    with one_sentence(workdir, parting):
        quiet_logs()
        use_compilation_cache()
        if config is not None:
            join_processes(config.parallel)
        yield
