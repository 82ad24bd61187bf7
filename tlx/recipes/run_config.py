"""Reads and checks the `config.json` of a run directory."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ml_collections import ConfigDict

from tlx.errors import TlxError, listed
from tlx.files.strict_json import read_json
from tlx.models.heads import Head
from tlx.recipes import defaults, deprecated

REQUIRED = ("model.checkpoint", "data.train", "head.kind")  # fields for which the default is not used
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list"}


def read_run_config(file: Path) -> dict[str, Any]:
    """Reads a run's `config.json`.

    Returns:
      `config`, `heads`, `data` and further keys. Fields that an earlier version of tlx did not have get their defaults.

    Raises:
      TlxError: if it is not the config of a run, a field is missing, or a value has the wrong type.
    """
    written = read_json(file, "config of a run", finite=False)
    if not {"config", "heads"} <= written.keys():
        raise TlxError(
            f"{file.parent} is no run directory: its config.json is not that of a run (is it a Hugging Face folder?)."
        )
    for name in ("config", "heads", "data"):
        _mapping(file, name, written.get(name, {}))
    config = _current_names(written["config"])
    for name in REQUIRED:
        section, _, field = name.partition(".")
        if field not in _mapping(file, f"config.{section}", config.get(section, {})):
            _refuse(file, f"config.{name}", "is missing")
    heads = {name: _head(file, name, head) for name, head in written["heads"].items()}
    if not heads:
        _refuse(file, "heads", "names no head")
    return {**written, "config": _completed(file, "config", config, defaults.finetune()), "heads": heads}


def _current_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a written config with values moved from deprecated names to current names."""
    config = {name: dict(part) if isinstance(part, dict) else part for name, part in config.items()}
    for old, new in deprecated.RENAMED.items():
        section, _, field = old.rpartition(".")
        part = config.get(section)
        if isinstance(part, dict) and part.get(field) is not None:
            part[new.rpartition(".")[2]] = part.pop(field)
    params = config.get("params")
    if isinstance(params, dict) and isinstance(params.get("phases"), list):
        params["phases"] = [
            {deprecated.RENAMED_IN_PHASES.get(name, name): value for name, value in phase.items()}
            if isinstance(phase, dict)
            else phase
            for phase in params["phases"]
        ]
    return config


def _completed(file: Path, name: str, written: Mapping[str, Any], default: ConfigDict) -> dict[str, Any]:
    """The written values, and the defaults of fields that are missing. Unknown fields are kept."""
    complete = {**default.to_dict(), **written}
    for key in default.keys() & written.keys():
        kind, value, path = default.get_type(key), written[key], f"{name}.{key}"
        if isinstance(default[key], ConfigDict):
            complete[key] = _completed(file, path, _mapping(file, path, value), default[key])
        elif kind in KINDS and not _fits(value, kind, default[key] is None):
            _refuse(file, path, f"is {value!r:.100}, expected {KINDS[kind]}")
    return complete


def _fits(value: Any, kind: type, optional: bool) -> bool:
    """Whether a JSON value has a field's type."""
    if value is None:
        return optional
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, {float: (int, float), tuple: (list, tuple)}.get(kind, kind))


def _head(file: Path, name: str, head: Any) -> dict[str, Any]:
    """The fields of a head. Unknown fields and wrong types are errors."""
    fields = {field.name: field for field in dataclasses.fields(Head)}
    written = _mapping(file, f"heads.{name}", head)
    if unknown := written.keys() - fields.keys():
        _refuse(file, f"heads.{name}", f"has fields that no head has: {listed(sorted(unknown))}")
    kinds = {"kind": str, "outputs": int, "pooling": str, "n_best": int, "max_answer_length": int}
    if written.get("null_threshold") is not None:
        kinds["null_threshold"] = float
    for key, kind in kinds.items():
        if key not in written and fields[key].default is dataclasses.MISSING:
            _refuse(file, f"heads.{name}.{key}", "is missing")
        if key in written and not _fits(written[key], kind, False):
            _refuse(file, f"heads.{name}.{key}", f"is {written[key]!r:.100}, expected {KINDS[kind]}")
    for key, kind in {"labels": str, "shift": float, "scale": float}.items():
        values = written.get(key, [])
        if not isinstance(values, list) or not all(_fits(value, kind, False) for value in values):
            _refuse(file, f"heads.{name}.{key}", f"is {values!r:.100}, expected a list, each item {KINDS[kind]}")
    return dict(written)


def _mapping(file: Path, name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        _refuse(file, name, f"is {value!r:.100}, expected an object")
    return value


def _refuse(file: Path, name: str, problem: str) -> NoReturn:
    raise TlxError(f"{file} does not describe a run: {name} {problem}; restore the file that the run wrote.")
