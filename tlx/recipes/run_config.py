"""The `config.json` of a run directory, read so that what was changed or damaged in it is said in a sentence."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.files.strict_json import read_json
from tlx.models.heads import Head
from tlx.recipes import defaults

NEEDED = ("model.checkpoint", "data.train", "head.kind")  # what every run says of itself; no default stands for it
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list"}


def read_run_config(file: Path) -> dict[str, Any]:
    """The content of a run's `config.json`: `config` (complete: a field that an earlier tlx did not have, has its
    default), `heads`, `data` and so on.

    Raises:
      TlxError: it is of another kind, a field is missing, or a value is not of its field's kind.
    """
    written = read_json(file, "config of a run", finite=False)
    if not {"config", "heads"} <= written.keys():
        raise TlxError(
            f"{file.parent} is no run directory: its config.json is of another kind (a Hugging Face folder?)."
        )
    for name in ("config", "heads", "data"):
        _mapping(file, name, written.get(name, {}))
    config = _current_names(written["config"])
    for name in NEEDED:
        section, _, field = name.partition(".")
        if field not in _mapping(file, f"config.{section}", config.get(section, {})):
            _refuse(file, f"config.{name}", "is missing")
    heads = {name: _head(file, name, head) for name, head in written["heads"].items()}
    if not heads:
        _refuse(file, "heads", "names no head")
    return {**written, "config": _completed(file, "config", config, defaults.finetune()), "heads": heads}


def _current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A written config, in which values under earlier names stand under today's."""
    config = {name: dict(part) if isinstance(part, dict) else part for name, part in config.items()}
    for old, new in defaults.RENAMED.items():
        section, _, field = old.rpartition(".")
        part = config.get(section)
        if isinstance(part, dict) and part.get(field) is not None:
            part[new.rpartition(".")[2]] = part.pop(field)
    params = config.get("params")
    if isinstance(params, dict) and isinstance(params.get("phases"), list):
        params["phases"] = [
            {defaults.RENAMED_IN_PHASES.get(name, name): value for name, value in phase.items()}
            if isinstance(phase, dict)
            else phase
            for phase in params["phases"]
        ]
    return config


def _completed(file: Path, name: str, found: Mapping[str, Any], shipped: ConfigDict) -> dict[str, Any]:
    """What is written, with the defaults of what is not; a config may have fields of its own."""
    complete = {**shipped.to_dict(), **found}
    for key in shipped.keys() & found.keys():
        kind, value, path = shipped.get_type(key), found[key], f"{name}.{key}"
        if isinstance(shipped[key], ConfigDict):
            complete[key] = _completed(file, path, _mapping(file, path, value), shipped[key])
        elif kind in KINDS and not _fits(value, kind, shipped[key] is None):
            _refuse(file, path, f"is {value!r:.100}, expected {KINDS[kind]}")
    return complete


def _fits(value: Any, kind: type, optional: bool) -> bool:
    """Whether a value of JSON is of a field's kind."""
    if value is None:
        return optional
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, {float: (int, float), tuple: (list, tuple)}.get(kind, kind))


def _head(file: Path, name: str, head: Any) -> dict[str, Any]:
    """A head's fields, of which none is unknown."""
    fields = {field.name: field for field in dataclasses.fields(Head)}
    given = _mapping(file, f"heads.{name}", head)
    if unknown := given.keys() - fields.keys():
        _refuse(file, f"heads.{name}", f"has fields that no head has: {listed(sorted(unknown))}")
    kinds = {"kind": str, "outputs": int, "pooling": str}
    for key, kind in kinds.items():
        if key not in given and fields[key].default is dataclasses.MISSING:
            _refuse(file, f"heads.{name}.{key}", "is missing")
        if key in given and not _fits(given[key], kind, False):
            _refuse(file, f"heads.{name}.{key}", f"is {given[key]!r:.100}, expected {KINDS[kind]}")
    for key, kind in {"labels": str, "shift": float, "scale": float}.items():
        values = given.get(key, [])
        if not isinstance(values, list) or not all(_fits(value, kind, False) for value in values):
            _refuse(file, f"heads.{name}.{key}", f"is {values!r:.100}, expected a list, each item {KINDS[kind]}")
    return dict(given)


def _mapping(file: Path, name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        _refuse(file, name, f"is {value!r:.100}, expected an object")
    return value


def _refuse(file: Path, name: str, problem: str) -> NoReturn:
    raise TlxError(f"{file} does not describe a run: {name} {problem}; bring back the file as the run wrote it.")
