"""What a finished run has left, as plain values that must equal those of an undisturbed run.

Arrays are read with TensorStore itself, not with the code that saved them or with Orbax.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Names of values that differ from run to run: times, the checksum of a `meta` that holds times, the address of the
# coordinator, the revision (work on tlx may go on while the harness runs).
UNEQUAL = re.compile(r"seconds|per_s$|_s$|time|^checksum$|^parallel$|^revision$|^saves$")
# Files that differ: names of TensorStore's and TensorBoard's files are random or hold the time, and a run that goes on
# has several event files.
UNCOMPARED = re.compile(r"checkpoints/\d+/.*|tensorboard/events\.[^/]*|\.lock")
TRACEBACK = re.compile(
    r"Traceback \(most recent call last\)|Fatal Python error|^[EF]\d{4} .*Check failed", re.MULTILINE
)


def state_of(run: Path) -> dict[str, Any]:
    """Returns what a run has left, by name: arrays as digests, values of JSON, the names of its files."""
    state: dict[str, Any] = {}
    checkpoints = run / "checkpoints"
    for step in sorted(folder for folder in checkpoints.glob("*") if folder.name.isdigit()):
        for item in sorted(folder for folder in step.iterdir() if folder.is_dir()):
            name = f"checkpoint {step.name}: {item.name}"
            try:
                if item.name == "meta":
                    state |= leaves(name, json.loads((item / "metadata").read_text()))
                else:
                    state |= {f"{name}/{array}": digest for array, digest in arrays(item)}
            except Exception as error:
                state[f"{name} cannot be read"] = str(error)
    for number, line in enumerate((run / "metrics.jsonl").read_text().splitlines()):
        state |= leaves(f"metrics.jsonl: {number}", json.loads(line))
    for file in sorted((run / "predictions").glob("*.npz")):
        with np.load(file) as saved:
            state |= {f"{file.name}: {name}": digest(saved[name]) for name in saved.files}
    for name in ("summary.json", "config.json"):
        state |= leaves(name, json.loads((run / name).read_text()))
    state["files"] = files(run)
    return state


def arrays(item: Path) -> Iterator[tuple[str, str]]:
    """Yields name and digest of each array of an item of a checkpoint."""
    import tensorstore

    kvstore = {"driver": "ocdbt", "base": f"file://{item}/"}
    names = tensorstore.KvStore.open(kvstore).result().list().result()
    for name in sorted(name.decode() for name in names):
        if name.endswith("/.zarray"):
            spec = {"driver": "zarr", "kvstore": {**kvstore, "path": name.removesuffix(".zarray")}}
            yield name.removesuffix("/.zarray"), digest(tensorstore.open(spec, open=True).result().read().result())


def digest(array: np.ndarray) -> str:
    """A digest of dtype, shape and bits."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()


def leaves(name: str, value: Any) -> dict[str, Any]:
    """The values of JSON by their paths, without those that differ from run to run."""
    if not isinstance(value, dict):
        return {name: value}
    return {
        path: leaf
        for key, entry in value.items()
        if not UNEQUAL.search(key)
        for path, leaf in leaves(f"{name} {key}", entry).items()
    }


def files(run: Path) -> list[str]:
    """The files of a run directory that every run has, and the steps of its checkpoints."""
    names = sorted(str(file.relative_to(run)) for file in run.rglob("*") if file.is_file())
    kept = {name.split("/")[1] for name in names if name.startswith("checkpoints/")}
    return [name for name in names if not UNCOMPARED.fullmatch(name)] + [f"checkpoints/{name}" for name in sorted(kept)]


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names of what differs; of files, those that are missing and those that are left over."""
    different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if "files" in different:
        lost, more = (sorted(set(a["files"]) - set(b["files"])) for a, b in ((expected, found), (found, expected)))
        different += [f"missing: {name}" for name in lost] + [f"left over: {name}" for name in more]
        different.remove("files")
    return different
