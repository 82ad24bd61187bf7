"""The names of a config's fields."""

import difflib

from ml_collections import ConfigDict

from tlx.errors import TlxError
from tlx.recipes import defaults

# Sections whose fields are named by the user, a method or a loss; what they hold is checked where it is used.
OPEN = ("method", "loss", "tasks", "params.groups")


def check_fields(config: ConfigDict) -> None:
    """Raises `TlxError` if a config has a field that no config has: a misspelled name would change nothing."""
    _check_section(config, defaults.multitask(), "")


def _check_section(section: ConfigDict, known: ConfigDict, above: str) -> None:
    for name in section:
        path = f"{above}{name}"
        if name not in known and not (above == "data." and name in _columns()):
            near = difflib.get_close_matches(str(name), list(known), 1)
            hint = f"; did you mean config.{above}{near[0]}?" if near else "; tlx/recipes/defaults.py lists the fields."
            raise TlxError(f"there is no field config.{path}{hint}")
        value = section[name]
        if path not in OPEN and isinstance(value, ConfigDict) and isinstance(known.get(name), ConfigDict):
            _check_section(value, known[name], f"{path}.")


def _columns() -> set[str]:
    """The fields of `config.data` that name columns of inputs, also those of modalities that a script has added."""
    from tlx.modalities.open import MODALITIES  # imports JAX, which a config without unknown fields does not need

    return {name for modality in MODALITIES.values() for name in modality.columns}
