"""Encoded texts on disk, so that a second run on the same large files need not read and tokenize them again.

An entry is one npz file, named by a digest of all that decides it: the content of the data files, `config.data` and
`config.head`, the tokenizer's files, the versions of the libraries and of this format. It holds the arrays of the
examples in the smallest integer dtypes, and as JSON what else the data gave (the head, the facts, the printed lines).
An entry appears only when it is complete. What is damaged is encoded again. Nothing is unpickled.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tlx.data.examples import Examples, ExampleSet
from tlx.data.readers import READERS
from tlx.data.sources import source_digest
from tlx.data.spans import Spans
from tlx.data.words import Words
from tlx.errors import TlxError
from tlx.files.atomic import atomic_write
from tlx.files.regular import open_regular
from tlx.files.user_cache import user_cache
from tlx.modalities.api import Modality
from tlx.recipes.data_facts import digest
from tlx.recipes.splits import PARTS, TARGET, TARGET_TEST

FORMAT = 1  # of the entries; also to be raised if a rule for texts, labels or splits changes
LEAST = 4 * 2**20  # bytes of data files below which nothing is kept: encoding them takes two seconds
MOST = 4 * 2**30  # bytes of all entries; the ones that were not used for longest are removed
DAY = 86_400.0  # seconds
META = "meta"  # the array that holds the JSON
# Fields that older entries lack, which are left out if they are not set.
NEW = (TARGET, TARGET_TEST, "target_size", "sources", "exclude", "train_rows")
IRRELEVANT = ("cache", "packing")  # fields of config.data that do not change the examples


@dataclasses.dataclass(frozen=True)
class Entry:
    """The place of one entry, which may not have been written yet.

    Attributes:
      file: the npz file.
    """

    file: Path

    def read(self, tell: Callable[[str], None]) -> tuple[dict[str, Examples], dict[str, Any]] | None:
        """Returns the examples by split and the values that were written; None if there is no whole entry.

        Args:
          tell: is called with a line if the entry is read or is damaged.
        """
        if not self.file.exists():
            return None
        try:
            with open_regular(self.file) as opened, np.load(opened, allow_pickle=False) as arrays:
                meta = json.loads(bytes(arrays[META]))
                examples = {split: _examples(split, arrays, meta) for split in meta["splits"]}
            if {split: digest(one) for split, one in examples.items()} != meta["values"]["facts"]["sha256"]:
                raise ValueError("it holds other tokens than were written")
            with contextlib.suppress(OSError):  # of another user: it can be read and counts as unused
                os.utime(self.file)
        except Exception as error:  # NumPy, zipfile and json raise a dozen kinds for a damaged file
            tell(f"data: {self.file} is damaged ({error}); the texts are encoded again.")
            return None
        tell(f"data: the encoded texts are read from {self.file}.")
        return examples, meta["values"]

    def write(self, examples: Mapping[str, ExampleSet], values: Mapping[str, Any], tell: Callable[[str], None]) -> None:
        """Writes the entry, and removes old ones if there are too many. A failure is told and stops nothing.

        Args:
          examples: the examples by split; if they are no texts, nothing is written.
          values: further values, which JSON can hold; `values["facts"]["sha256"]` are the digests of the splits.
          tell: is called with a line that says where the entry is and how large.
        """
        texts = {split: one for split, one in examples.items() if isinstance(one, Examples)}
        if len(texts) < len(examples):
            return
        folder = self.file.parent
        partial = folder / f"{self.file.stem}.{uuid.uuid4().hex}.partial"  # several processes may write the same entry
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(partial, "wb") as opened:
                np.savez(opened, **_arrays(texts, values))
            partial.replace(self.file)
            size = self.file.stat().st_size
            removed = _remove_old(folder, keep=self.file)
        except (OSError, TlxError) as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            tell(f"data: the encoded texts are not kept: {str(error).rstrip('.')}.")
            return
        also = f" {removed} old entries there were removed." if removed else ""
        tell(f"data: the encoded texts ({size / 1e6:.0f} MB) are kept in {self.file}; data.cache=off keeps none.{also}")


def entry_of(config: ConfigDict, inputs: Modality) -> Entry | None:
    """Returns the entry of a run's data; None if the data is not kept.

    Kept are texts from files of rows that have 4 MiB or more together, unless `config.data.cache` is "off".

    Args:
      config: the run's config.
      inputs: the modality, which encodes the data.
    """
    specs = {split: config.data[split] for split in PARTS if config.data[split]}
    specs |= {f"sources/{index}": source for index, source in enumerate(config.data.sources)}
    specs |= {f"exclude/{index}": spec for index, (spec, _) in enumerate(config.data.exclude)}
    files = [_file(spec) for spec in specs.values()]
    if config.data.cache == "off" or not inputs.has_lengths or not all(file.is_file() for file in files):
        return None
    if sum(file.stat().st_size for file in files) < LEAST:
        return None
    decisive = {
        "format": FORMAT,
        "python": sys.version_info[:2],  # decides what is a letter or a space
        "versions": [version(name) for name in ("tlx", "tokenizers", "transformers")],
        "data": {
            name: value
            for name, value in config.data.to_dict().items()
            if name not in IRRELEVANT and (value or name not in NEW)
        },
        **({"facts": "sources"} if config.data.sources else {}),  # older entries lack the sizes of the sources
        "head": config.head.to_dict(),
        "preprocessing": inputs.digest,
        "files": {split: source_digest(spec) for split, spec in specs.items()},
    }
    key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:32]
    chosen = config.data.cache
    folder = user_cache("encoded") if chosen == "auto" else Path(chosen).expanduser().absolute()
    return Entry(folder / f"{key}.npz")


def _file(spec: str) -> Path:
    """The file of a data spec; for a set that is no file of rows, a path that does not exist."""
    kind, _, where = os.path.expandvars(spec).partition(":")
    return Path(where).expanduser() if kind in READERS else Path("/nonexistent")


def _arrays(examples: Mapping[str, Examples], values: Mapping[str, Any]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    splits: dict[str, Any] = {}
    for split, one in examples.items():
        named = {
            **{name: getattr(one, name) for name in ("ids", "types", "offsets", "example_id")},
            **{f"fields/{name}": array for name, array in one.fields.items()},
            **{f"token_fields/{name}": array for name, array in one.token_fields.items()},
        }
        windowed = None
        if one.words is not None:
            words = {field.name: getattr(one.words, field.name) for field in dataclasses.fields(Words)}
            windowed = words.pop("windowed")
            named |= {f"words/{name}": array for name, array in words.items()}
        questions = None
        if one.spans is not None:
            named |= {f"spans/{name}": getattr(one.spans, name) for name in ("windows", "chars", "question_id")}
            numbers = {context: number for number, context in enumerate(dict.fromkeys(one.spans.contexts))}
            named["spans/context"] = np.array([numbers[context] for context in one.spans.contexts], np.int64)
            questions = {
                "contexts": list(numbers), "answers": one.spans.answers, "unreachable": one.spans.unreachable,
            }  # fmt: skip
        arrays |= {f"{split}/{name}": _smallest(array) for name, array in named.items()}
        dtypes = {name: str(array.dtype) for name, array in named.items()}
        splits[split] = {"dtypes": dtypes, "pad_id": one.pad_id, "windowed": windowed, "questions": questions}
    meta = json.dumps({"splits": splits, "values": values}).encode()
    return {**arrays, META: np.frombuffer(meta, np.uint8)}


def _examples(split: str, arrays: Any, meta: Mapping[str, Any]) -> Examples:
    about = meta["splits"][split]
    groups: dict[str, dict[str, np.ndarray]] = {"": {}, "fields": {}, "token_fields": {}, "words": {}, "spans": {}}
    for path, dtype in about["dtypes"].items():
        group, _, name = path.rpartition("/")
        groups[group][name] = arrays[f"{split}/{path}"].astype(dtype, copy=False)
    words = None if about["windowed"] is None else Words(**groups["words"], windowed=about["windowed"])
    spans = None if about.get("questions") is None else _spans(groups["spans"], about["questions"])
    return Examples(
        groups[""]["ids"], groups[""]["types"], groups[""]["offsets"], groups["fields"], groups[""]["example_id"],
        about["pad_id"], groups["token_fields"], words, spans,
    )  # fmt: skip


def _spans(arrays: dict[str, np.ndarray], texts: Mapping[str, Any]) -> Spans:
    contexts = [texts["contexts"][number] for number in arrays.pop("context")]
    answers = None if texts["answers"] is None else [tuple(map(tuple, each)) for each in texts["answers"]]
    return Spans(**arrays, contexts=contexts, answers=answers, unreachable=texts["unreachable"])


def _smallest(array: np.ndarray) -> np.ndarray:
    """The same integers in the smallest dtype that holds them; other arrays as they are."""
    if array.dtype.kind not in "iu" or not array.size:
        return array
    least, most = (np.min_scalar_type(value) for value in (array.min(), array.max()))
    return array.astype(np.promote_types(least, most))


def _remove_old(folder: Path, keep: Path) -> int:
    """Removes entries until the rest has at most `MOST` bytes, and files that a killed process left; counts entries."""
    for left in folder.glob("*.partial"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - DAY:
                left.unlink()
    entries = []
    for file in folder.glob("*.npz"):
        with contextlib.suppress(OSError):  # another process may have removed it
            entries.append((file.stat().st_mtime, file.stat().st_size, file))
    total, removed = sum(size for _, size, _ in entries), 0
    for _, size, file in sorted(entries):
        if total > MOST and file != keep:
            file.unlink(missing_ok=True)
            total, removed = total - size, removed + 1
    return removed
