"""Deprecated names of config fields, accepted for one version: their values are moved to the current name."""

import warnings
from typing import Any

from ml_collections import ConfigDict

from tlx.errors import TlxError

RENAMED = {"params.train": "params.trainable"}
RENAMED_IN_PHASES = {"train": "trainable"}


def with_current_names(config: ConfigDict) -> ConfigDict:
    """Returns a copy of the config with values moved from deprecated names to current names.

    Each value that is moved causes a `FutureWarning`.

    Raises:
      TlxError: if both the deprecated and the current name have a value.
    """
    config = config.copy_and_resolve_references()
    for old, new in RENAMED.items():
        value = _get(config, old)
        if value is None:
            continue
        _warn(f"config.{old}", f"config.{new}")
        if value and _get(config, new):
            raise TlxError(f"config.{old} is the deprecated name of config.{new}, and both are set; keep the latter.")
        _set(config, new, value or _get(config, new))
        _set(config, old, None)
    phases = []
    for phase in config.params.phases:
        for old, new in RENAMED_IN_PHASES.items():
            if old in phase:
                _warn(f"{old!r} in config.params.phases", f"{new!r}")
        phases.append({RENAMED_IN_PHASES.get(name, name): value for name, value in phase.items()})
    config.params.phases = tuple(phases)
    return config


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is now called {new}; the old name will be removed in the next version.", FutureWarning, stacklevel=4
    )


def _get(config: ConfigDict, path: str) -> Any:
    section, _, name = path.rpartition(".")
    return config[section][name] if section else config[name]


def _set(config: ConfigDict, path: str, value: Any) -> None:
    section, _, name = path.rpartition(".")
    with config.ignore_type():
        (config[section] if section else config)[name] = value
