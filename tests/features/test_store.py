"""What is kept is what was computed; whatever decides it is in its name; what is damaged is computed again."""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tlx.errors import TlxError
from tlx.features.compute import Extractor
from tlx.features.spec import FeatureSpec
from tlx.features.store import identity, key_of, load_or_compute
from tlx.features.transformer import encode
from tlx.modalities.text import Texts
from tlx.models.model import build_model
from tlx.pretrained.load import random_params
from tlx.pretrained.tokenizer import Tokenizer

TEXTS = ["a great film", "the plot was dull and grim", "cold"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_checkpoint(tmp_path_factory.mktemp("store") / "checkpoint")


@functools.cache
def drawn() -> Any:
    return random_params(build_model(tiny.SMALL, {}), 0)


def extractor(
    texts: Texts, layer: int = 1, pooling: str | None = None, dtype: Any = None, params: Any = None
) -> Extractor:
    model = build_model(tiny.SMALL, {}, dtype)
    return Extractor(model, params or drawn(), texts, FeatureSpec((layer,), pooling), batch_size=4, length_buckets=(8,))


class Counted(Extractor):
    """How often it computed."""

    count = 0

    def fill(self, *given: Any) -> None:
        self.count += 1
        super().fill(*given)


def test_there_and_back(checkpoint: Path, tmp_path: Path) -> None:
    """Of a dtype that NumPy lacks; the other tests have float32."""
    texts = Texts(Tokenizer(checkpoint, 16))
    examples, made = encode(texts, TEXTS), extractor(texts, dtype=jnp.bfloat16)
    facts = identity(made, examples)
    direct = made(examples)
    for _ in range(2):
        kept = load_or_compute(tmp_path, facts, made, examples)
        assert kept.values.dtype == jnp.bfloat16 and isinstance(kept.values, np.memmap)
        np.testing.assert_array_equal(kept.values, direct.values)
        assert kept.offsets is not None and direct.offsets is not None
        np.testing.assert_array_equal(kept.offsets, direct.offsets)
    home = tmp_path / key_of(facts)
    assert sorted(file.name for file in home.iterdir()) == ["meta.json", "offsets.npy", "values.npy"]
    assert list(tmp_path.iterdir()) == [home]  # nothing half-written


def test_another_key_for_each_of_what_decides(checkpoint: Path, tmp_path: Path) -> None:
    reader = Texts(Tokenizer(checkpoint, 16))
    made = extractor(reader)
    examples = encode(reader, TEXTS)

    def key(made: Extractor = made, texts: Any = TEXTS) -> str:
        return key_of(identity(made, encode(made.modality, texts)))

    def with_leaf(block: str) -> Extractor:
        params = jax.tree.map(lambda leaf: leaf, made.params)
        layer = params["backbone"]["encoder"]["layer"][block]["output"]["dense"]
        layer["bias"] = layer["bias"].at[3].add(1e-7)
        return extractor(reader, params=params)

    other = tiny.write_checkpoint(tmp_path / "other")
    text = (other / "vocab.txt").read_text()
    (other / "vocab.txt").write_text(text.replace("bitter", "bitten"))  # a word that no text here has
    keys = {
        "same": key(),
        "weights": key(with_leaf("0")),
        "tokenizer": key(extractor(Texts(Tokenizer(other, 16)))),
        "length": key(extractor(Texts(Tokenizer(checkpoint, 15)))),
        "data": key(texts=[*TEXTS[:2], "warm"]),
        "order": key(texts=TEXTS[::-1]),
        "cut": key(extractor(reader, 1, "cls")),
        "layer": key(extractor(reader, 2)),
        "dtype": key(extractor(reader, dtype=jnp.bfloat16)),
    }
    assert len(set(keys.values())) == len(keys)
    assert key() == keys["same"] and key(with_leaf("1")) == keys["same"]  # what stands above the cut decides nothing
    assert len(examples) == 3


def _flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "flipped value": lambda home: _flip(home / "values.npy", -5),
    "flipped header": lambda home: _flip(home / "values.npy", 20),
    "flipped offset": lambda home: _flip(home / "offsets.npy", -8),
    "truncated": lambda home: (home / "values.npy").write_bytes((home / "values.npy").read_bytes()[:-1]),
    "empty": lambda home: (home / "values.npy").write_bytes(b""),
    "missing": lambda home: (home / "offsets.npy").unlink(),
    "no meta": lambda home: (home / "meta.json").unlink(),
    "no JSON": lambda home: (home / "meta.json").write_text("{"),
    "a list": lambda home: (home / "meta.json").write_text("[]"),
    "no digests": lambda home: _change(home, sha256={}),
    "other facts": lambda home: _change(home, facts={"cut": "another"}),
    "pickle": lambda home: _pickled(home),
    "a pipe": lambda home: _pipe(home / "values.npy"),
    "meta is a pipe": lambda home: _pipe(home / "meta.json"),
    "nested": lambda home: (home / "meta.json").write_text("[" * 10**6),
}


def _change(home: Path, **changes: Any) -> None:
    meta = json.loads((home / "meta.json").read_text())
    (home / "meta.json").write_text(json.dumps({**meta, **changes}))


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _pickled(home: Path) -> None:
    """An array of objects whose digest is right."""
    import hashlib

    np.save(home / "values.npy", np.array([print], object), allow_pickle=True)
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in home.glob("*.npy")}
    _change(home, sha256=digests)


def test_damage(checkpoint: Path, tmp_path: Path) -> None:
    texts = Texts(Tokenizer(checkpoint, 16))
    examples, first = encode(texts, TEXTS), extractor(texts)
    made = Counted(first.model, first.params, texts, first.spec, batch_size=4, length_buckets=(8,))
    facts, told = identity(made, examples), []
    whole = np.array(load_or_compute(tmp_path, facts, made, examples, told.append).values)
    np.testing.assert_array_equal(whole, first(examples).values)
    for number, (name, damage) in enumerate(DAMAGES.items(), 1):
        damage(tmp_path / key_of(facts))
        again = load_or_compute(tmp_path, facts, made, examples, told.append)
        np.testing.assert_array_equal(again.values, whole, err_msg=name)
        assert made.count == number + 1 and len(told) == number, name
        assert "is damaged (" in told[-1] and told[-1].endswith("; they are computed again.")


def test_a_folder_that_is_none(checkpoint: Path, tmp_path: Path) -> None:
    texts = Texts(Tokenizer(checkpoint, 16))
    examples, made = encode(texts, TEXTS), extractor(texts)
    (tmp_path / "file").write_text("")
    with pytest.raises(TlxError, match=r"features cannot be stored in .*file \(.*\); choose another folder"):
        load_or_compute(tmp_path / "file", identity(made, examples), made, examples)
