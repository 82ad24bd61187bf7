"""In which fields of their configs runs differ."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tlx.recipes.run_directory import CHANGEABLE

ABSENT = "absent"


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Returns the fields in which configs differ, in order, with the value in each config as JSON text.

    Fields that decide no number of a run, such as those of devices and checkpoints, are left out.

    Args:
      configs: the configs of runs, as in `config.json`.
    """
    flat = [_flat(config) for config in configs]
    names = sorted({name for fields in flat for name in fields if not f"config.{name}".startswith(CHANGEABLE)})
    values = {name: [fields.get(name, ABSENT) for fields in flat] for name in names}
    return {name: found for name, found in values.items() if len(set(found)) > 1}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.dumps(value, ensure_ascii=False)
    return flat
