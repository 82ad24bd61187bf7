"""Feature sets on disk: a folder each, named by what decides its numbers, there only once it is whole.

    KEY/values.npy    as in `FeatureSet`; of a dtype that NumPy lacks (bfloat16), its bits as whole numbers
    KEY/offsets.npy   where there are any
    KEY/meta.json     format, dtype, what the key was made of, the SHA-256 of each file

Nothing is unpickled. A set that is not what `meta.json` says is computed again.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tlx.data.examples import ExampleSet
from tlx.errors import TlxError
from tlx.features.compute import Extractor, FeatureSet, FeatureShape
from tlx.files.regular import open_regular
from tlx.files.strict_json import read_json

FORMAT = 1


def default_folder() -> Path:
    """Under the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tlx" / "features"


def identity(extractor: Extractor, examples: ExampleSet) -> dict[str, str]:
    """All that decides the numbers: the weights below the cut and how they are run, what the examples are read with,
    the examples, the cut, the dtype, the kind of device."""
    model = extractor.model
    return {
        "weights": extractor.weights,
        "backbone": repr(model.backbone.config),
        "preprocessing": extractor.modality.digest,
        "data": data_digest(examples),
        "cut": str(extractor.spec),
        "dtype": str(extractor.shape_of(examples).dtype),
        "platform": jax.default_backend(),
    }


def key_of(facts: Mapping[str, str]) -> str:
    """Names a set: another fact, another key."""
    return hashlib.sha256(json.dumps({"format": FORMAT, **facts}, sort_keys=True).encode()).hexdigest()[:32]


def data_digest(examples: ExampleSet) -> str:
    """SHA-256 of a set's content, and of its token types: a pair's tokens may be those of one text."""
    found = hashlib.sha256()
    for piece in (*examples.content(), np.asarray(getattr(examples, "types", ())).tobytes()):
        found.update(piece)
    return found.hexdigest()


def load_or_compute(
    folder: Path, facts: Mapping[str, str], extractor: Extractor, examples: ExampleSet,
    tell: Callable[[str], None] = print,
) -> FeatureSet:  # fmt: skip
    """The set of these facts from `folder`, computed and written there first if it is not, or not whole.

    The values are mapped from the file, not read into memory.

    Raises:
      TlxError: the folder cannot be written.
    """
    home = folder / key_of(facts)
    shape = extractor.shape_of(examples)
    if home.exists():
        try:
            return _open(home, facts, shape)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            tell(f"features: {home} is damaged ({error}); they are computed again.")
    try:
        _write(home, facts, shape, extractor, examples)
        return _open(home, facts, shape)
    except OSError as error:
        raise TlxError(
            f"features cannot be kept in {folder} ({error.strerror or error}); name another folder, or keep none."
        ) from None


def _write(
    home: Path, facts: Mapping[str, str], shape: FeatureShape, extractor: Extractor, examples: ExampleSet
) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    try:
        stored = _stored(shape.dtype)
        values = np.lib.format.open_memmap(partial / "values.npy", "w+", stored, shape.shape)
        extractor.fill(examples, values.view(shape.dtype), shape.offsets)
        values.flush()
        if shape.offsets is not None:
            np.save(partial / "offsets.npy", shape.offsets, allow_pickle=False)
        digests = {file.name: _file_digest(file) for file in sorted(partial.iterdir())}
        meta = {"format": FORMAT, "dtype": str(shape.dtype), "facts": dict(facts), "sha256": digests}
        (partial / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
        partial.chmod(0o755)  # mkdtemp lets nobody else read what it makes
        shutil.rmtree(home, ignore_errors=True)  # a damaged one
        partial.rename(home)
    except FileExistsError:
        pass  # another run has just written the same
    except OSError:
        if not home.is_dir():  # likewise: a folder that holds something is not replaced
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _open(home: Path, facts: Mapping[str, str], shape: FeatureShape) -> FeatureSet:
    """Raises `ValueError` and its like for whatever is not as it was written."""
    meta: Any = read_json(home / "meta.json", "description of features")
    if meta["format"] != FORMAT or meta["facts"] != dict(facts) or meta["dtype"] != str(shape.dtype):
        raise ValueError("meta.json speaks of other features")
    names = ["values.npy"] if shape.offsets is None else ["offsets.npy", "values.npy"]
    if sorted(meta["sha256"]) != names:
        raise ValueError("meta.json names other files")
    for name, digest in meta["sha256"].items():
        if _file_digest(home / name) != digest:
            raise ValueError(f"{name} is not what was written")
    values = np.load(home / "values.npy", mmap_mode="r", allow_pickle=False)
    if values.shape != shape.shape or values.dtype != _stored(shape.dtype):
        raise ValueError(f"values.npy is {values.dtype} {values.shape}")
    offsets = None if shape.offsets is None else np.array(np.load(home / "offsets.npy", mmap_mode="r"))
    return FeatureSet(values.view(shape.dtype), offsets)


def _stored(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype


def _file_digest(file: Path) -> str:
    with open_regular(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
