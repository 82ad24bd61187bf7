"""Feature sets on disk. Each has a folder named by a digest of everything on which the features depend.

    KEY/values.npy    the values of the `FeatureSet`; for a dtype unknown to NumPy (bfloat16), its bits as integers
    KEY/offsets.npy   the offsets, if there are any
    KEY/meta.json     format, dtype, the values from which the key was computed, the SHA-256 of each file

A folder appears only when it is complete. Nothing is unpickled. Features that do not match `meta.json` are computed
again.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tlx.data.examples import ExampleSet
from tlx.errors import TlxError
from tlx.features.compute import Extractor, FeatureSet, FeatureShape
from tlx.files.regular import open_regular
from tlx.files.strict_json import read_json
from tlx.files.user_cache import user_cache
from tlx.parallel.processes import is_multiprocess, main_value, on_main

FORMAT = 1


def default_folder() -> Path:
    """Returns the default folder for features, in the user's cache folder."""
    return user_cache("features")


def identity(extractor: Extractor, examples: ExampleSet) -> dict[str, str]:
    """Returns everything on which the features depend, by name.

    These are the weights of the layers that run, the backbone's config, the preprocessing, the examples, the feature
    spec, the dtype and the kind of device.
    """
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


def key_of(identifiers: Mapping[str, str]) -> str:
    """Returns the folder name of a feature set, a digest of what `identity` returns."""
    return hashlib.sha256(json.dumps({"format": FORMAT, **identifiers}, sort_keys=True).encode()).hexdigest()[:32]


def data_digest(examples: ExampleSet) -> str:
    """Returns the SHA-256 of a set's content and token types (a pair may have the same tokens as a single text)."""
    digest = hashlib.sha256()
    for piece in (*examples.content(), np.asarray(getattr(examples, "types", ())).tobytes()):
        digest.update(piece)
    return digest.hexdigest()


def load_or_compute(
    folder: Path, identifiers: Mapping[str, str], extractor: Extractor, examples: ExampleSet,
    tell: Callable[[str], None] = print,
) -> FeatureSet:  # fmt: skip
    """Loads a feature set, or computes and stores it if it is missing or damaged.

    The values are memory-mapped from the file, not read into memory. With several processes, all of them call this and
    compute, the main process writes, and all read.

    Args:
      folder: the folder of all feature sets.
      identifiers: what `identity` returns for the extractor and the examples.
      extractor: computes the features.
      examples: the set.
      tell: is called with a message if stored features are damaged.

    Raises:
      TlxError: if the folder cannot be written, or another process cannot read it.
    """
    home = folder / key_of(identifiers)
    shape = extractor.shape_of(examples)
    features = on_main(lambda: _open_or_none(home, identifiers, shape, tell))
    if main_value(features is not None):
        return features or _open_written(home, identifiers, shape)
    writer = _Writer(home, shape)
    try:
        on_main(writer.begin)
        extractor.fill(examples, writer.values, shape.offsets)
        on_main(lambda: writer.finish(identifiers))
    finally:
        writer.clean()
    return _open_written(home, identifiers, shape)


def _open_or_none(
    home: Path, identifiers: Mapping[str, str], shape: FeatureShape, tell: Callable[[str], None]
) -> FeatureSet | None:
    """Opens a stored feature set; None if it is missing or damaged."""
    if not home.exists():
        return None
    try:
        return _open(home, identifiers, shape)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        tell(f"features: {home} is damaged ({error}); they are computed again.")
        return None


def _open_written(home: Path, identifiers: Mapping[str, str], shape: FeatureShape) -> FeatureSet:
    """Opens a feature set that the main process has opened or written."""
    try:
        return _open(home, identifiers, shape)
    except OSError as error:
        also = " Several processes need a folder that all of them can read." if is_multiprocess() else ""
        raise TlxError(f"features cannot be read from {home} ({error.strerror or error}).{also}") from None


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turns an `OSError` into a `TlxError` that names the folder of all feature sets."""
    try:
        yield
    except OSError as error:
        raise TlxError(
            f"features cannot be stored in {folder} ({error.strerror or error}); choose another folder, or store none."
        ) from None


class _Writer:
    """Writes the folder of a feature set, which gets its name only when it is complete.

    With several processes, `begin` and `finish` are called in the main process only.

    Attributes:
      values: the memory-mapped array to fill; None before `begin`.
    """

    def __init__(self, home: Path, shape: FeatureShape):
        self.home, self.shape = home, shape
        self.partial: Path | None = None
        self.values: np.ndarray | None = None

    def begin(self) -> None:
        """Makes the folder, under a temporary name, and the file of the values."""
        with _writable(self.home.parent):
            self.home.parent.mkdir(parents=True, exist_ok=True)
            self.partial = Path(tempfile.mkdtemp(prefix=f".{self.home.name}.", dir=self.home.parent))
            file, dtype = self.partial / "values.npy", self.shape.dtype
            self._mapped = np.lib.format.open_memmap(file, "w+", _stored(dtype), self.shape.shape)
            self.values = self._mapped.view(dtype)

    def finish(self, identifiers: Mapping[str, str]) -> None:
        """Writes the other files and renames the folder."""
        assert self.partial is not None
        with _writable(self.home.parent):
            self._mapped.flush()
            if self.shape.offsets is not None:
                np.save(self.partial / "offsets.npy", self.shape.offsets, allow_pickle=False)
            digests = {file.name: _file_digest(file) for file in sorted(self.partial.iterdir())}
            meta = {"format": FORMAT, "dtype": str(self.shape.dtype), "facts": dict(identifiers), "sha256": digests}
            (self.partial / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
            self.partial.chmod(0o755)  # mkdtemp creates folders that other users cannot read
            shutil.rmtree(self.home, ignore_errors=True)  # a damaged folder
            try:
                self.partial.rename(self.home)
            except OSError:
                if not self.home.is_dir():  # if it is, another run has just written the same features
                    raise

    def clean(self) -> None:
        """Removes what is left under the temporary name."""
        if self.partial is not None:
            shutil.rmtree(self.partial, ignore_errors=True)


def _open(home: Path, identifiers: Mapping[str, str], shape: FeatureShape) -> FeatureSet:
    """Opens a stored feature set; raises `ValueError` or another error if it is damaged."""
    meta: Any = read_json(home / "meta.json", "description of features")
    if meta["format"] != FORMAT or meta["facts"] != dict(identifiers) or meta["dtype"] != str(shape.dtype):
        raise ValueError("meta.json describes other features")
    names = ["values.npy"] if shape.offsets is None else ["offsets.npy", "values.npy"]
    if sorted(meta["sha256"]) != names:
        raise ValueError("meta.json names other files")
    for name, digest in meta["sha256"].items():
        if _file_digest(home / name) != digest:
            raise ValueError(f"{name} differs from what was written")
    values = np.load(home / "values.npy", mmap_mode="r", allow_pickle=False)
    if values.shape != shape.shape or values.dtype != _stored(shape.dtype):
        raise ValueError(f"values.npy has dtype {values.dtype} and shape {values.shape}")
    offsets = None if shape.offsets is None else np.array(np.load(home / "offsets.npy", mmap_mode="r"))
    return FeatureSet(values.view(shape.dtype), offsets)


def _stored(dtype: np.dtype) -> np.dtype:
    """The dtype in which values are stored: unsigned integers of the same size for a dtype unknown to NumPy."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype


def _file_digest(file: Path) -> str:
    with open_regular(file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
