"""What experiment scripts share: flags, quiet logs, the compilation cache, processes, and errors as one sentence."""

import contextlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tlx.allocator import keep_memory, keeps_memory
from tlx.cli.words import as_flags, without_method_fields, without_none
from tlx.errors import TlxError, one_sentence
from tlx.files.user_cache import user_cache
from tlx.signals import caught


def quiet_logs() -> None:
    """Silences absl's and asyncio's loggers. Orbax logs each of its steps, and several tracebacks if a save fails."""
    import logging as standard

    from absl import logging

    standard.getLogger("asyncio").setLevel(standard.CRITICAL)
    logging.set_verbosity(logging.FATAL)
    logging.set_stderrthreshold(logging.FATAL)


def compilation_cache() -> Path:
    """Returns the folder of compiled steps: `JAX_COMPILATION_CACHE_DIR`, or a folder in the user's cache."""
    if folder := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(folder)
    return user_cache("compiled")


def configure_jax() -> None:
    """Keeps compiled steps on disk, so that later runs with the same shapes start faster; see also `tlx.allocator`."""
    import jax

    if keeps_memory():
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.config.update("jax_compilation_cache_dir", str(compilation_cache()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def join_processes(parallel: Any) -> None:
    """Connects to the other processes of the run if `config.parallel` describes several."""
    if any(parallel[name] for name in ("coordinator", "num_processes", "process_id")) or parallel.process_id == 0:
        from tlx.parallel.processes import start

        start(parallel.coordinator, parallel.num_processes, parallel.process_id)


def run(main: Callable[[list[str]], None]) -> None:
    """Parses the flags and runs a script's `main`; an invalid flag or field ends the script with one sentence."""
    with one_sentence():
        from absl import app

        app.run(main, flags_parser=parse)


def parse(argv: list[str], values: Any = None) -> list[str]:
    """Parses flags with absl, and reports errors in one sentence instead of a traceback or a page of usage.

    A script with a flag `config` also accepts `FILE.py:ARGUMENT FIELD=VALUE …`, as `tlx inspect` does. `FIELD=None`
    sets a field to None if its default may be None.

    Args:
      argv: the command line with the program's name.
      values: the flags; None: absl's global flags.

    Returns:
      The program's name.

    Raises:
      SystemExit: after the sentence of an error.
    """
    from absl import flags
    from ml_collections.config_flags.config_flags import is_config_flag

    with one_sentence():
        values = flags.FLAGS if values is None else values
        configs = [name for name in values if is_config_flag(values[name])]
        words = as_flags(argv[1:]) if "config" in configs else argv[1:]
        for file in _config_files(words):  # for a missing file, ml_collections prints a page of text
            if not Path(file.partition(".py")[0] + ".py").is_file():
                raise TlxError(f"there is no config file {file!r}; expected FILE.py[:ARGUMENT].")
        words, of_method = without_method_fields(words, configs)
        words, empty = without_none(words, configs)
        original_argv, sys.argv = sys.argv, [argv[0], *words]  # ml_collections reads overrides from sys.argv
        try:
            remaining: list[str] = values(sys.argv)
        except flags.UnrecognizedFlagError as error:
            if error.flagname.startswith("config."):
                raise TlxError(f"--{error.flagname} needs a config; give --config=FILE before it.") from None
            raise TlxError(f"{error} (--help lists the flags.)") from None
        except flags.Error as error:
            raised_by_config = re.search(r"TlxError: (.*)", str(error))
            text = raised_by_config[1] if raised_by_config else str(error)
            raise TlxError(" ".join(text.split()).rstrip(". ") + ".") from None
        except AttributeError as error:  # '…\nDid you mean "seed" instead of "sead"?', or only the name
            match = re.match(r"\W*(\w+)\W*?(?:\\n|\n|\W*$)(?:.*?(Did you mean \"\w+\"))?", str(error), re.DOTALL)
            if match is None:
                raise
            raise _no_field(match[1], f"{match[2]}?" if match[2] else "") from None
        except KeyError as error:  # a field of a section that does not exist
            raise _no_field(str(error).strip("'\"")) from None
        finally:
            sys.argv = original_argv
        for flag, field in empty:
            _set_none(values[flag].value, field)
        for flag, field, value in of_method:
            _set_method_field(values[flag].value, field, value)
        if len(remaining) > 1:
            raise TlxError(f"{remaining[1]!r} is no flag and no FIELD=VALUE of a config; --help lists the flags.")
    return remaining


def load_config(config: str, overrides: Sequence[str] = ()) -> Any:
    """Loads a config file and overrides fields.

    Args:
      config: `FILE.py[:ARGUMENT]`.
      overrides: `FIELD=VALUE` for each field, for example `optimizer.learning_rate=1e-4`.

    Returns:
      The `ConfigDict`.
    """
    from absl import flags
    from ml_collections import config_flags

    if invalid := [word for word in overrides if "=" not in word]:
        raise TlxError(f"{invalid[0]!r} is no FIELD=VALUE, such as train.batch_size=16.")
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    parse(["tlx", f"--config={config}", *(f"--config.{field}" for field in overrides)], values)
    return values.config


def _set_none(config: Any, path: str) -> None:
    """Sets a field to None. ml_collections cannot do this, because it parses each value as the field's type."""
    from ml_collections import FieldReference

    *parents, field = path.split(".")
    for parent in parents:
        if not hasattr(config, "items") or parent not in config:
            raise _no_field(parent)
        config = config[parent]
    fields = dict(config.items(preserve_field_references=True)) if hasattr(config, "items") else {}
    if field not in fields:
        raise _no_field(field)
    if fields[field] is not None and not isinstance(fields[field], FieldReference):
        if not isinstance(fields[field], str):
            raise TlxError(f"--config.{path}=None: this field cannot be None; its default is {fields[field]!r}.")
        config[field] = "None"
    else:
        config[field] = None


def _set_method_field(config: Any, field: str, value: Any) -> None:
    """Sets a field of `config.method`, which need not be there yet: each method has its own (`recipes.methods`)."""
    if not hasattr(config, "get") or "method" not in config:
        raise _no_field("method")
    with config.unlocked():
        try:
            config.method[field] = value
        except TypeError:
            kind = config.method.get_type(field).__name__
            raise TlxError(f"config.method.{field} is {value!r}; its type is {kind}.") from None


def _no_field(name: str, hint: str = "") -> TlxError:
    return TlxError(f"the config has no field {name!r}. {hint or 'tlx/recipes/defaults.py lists the fields.'}")


def _config_files(argv: Sequence[str]) -> Iterator[str]:
    """Yields the config files in `--config=FILE.py[:ARGUMENT]` and `--config FILE.py`."""
    for argument, following in itertools.pairwise([*argv, ""]):
        name, joined, file = argument.partition("=")
        if name in ("--config", "-config"):
            yield file if joined else following


@contextlib.contextmanager
def launched(workdir: str | None = None, config: Any = None) -> Iterator[None]:
    """Prepares a script's process, and reports errors of its body in one sentence (`tlx.errors.one_sentence`).

    In a run of several processes all of them end if one does (`tlx.parallel.failures`).

    Args:
      workdir: the run directory, to which the traceback of an unexpected error is written.
      config: the run's config, whose `parallel` may describe several processes.
    """

    watch: Any = None

    def parting(sentence: str, code: int) -> None:
        if watch is not None:
            watch.tell(sentence, code)

    keep_memory()
    with one_sentence(workdir, parting):
        quiet_logs()
        configure_jax()
        if config is not None:
            from tlx.parallel.failures import Watch

            join_processes(config.parallel)
            watch = Watch()
        with caught():  # again, because JAX sets a handler of its own when it joins other processes
            yield
            if watch is not None:
                watch.finish()
