"""Checkpoints: their configs, weights and tokenizers."""

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

from tests.hostile.cases import case
from tests.hostile.place import Place

REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}


def changed(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def of_checkpoint(place: Place, spoil: Any) -> list[str]:
    """The features of texts, the checkpoint's folder spoilt."""
    folder = place.copy("text")
    spoil(folder)
    return place.features(folder, f"csv:{place.reviews}")


@case("features of 80 examples")
def config_names_code_of_its_own(place: Place) -> list[str]:
    code = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}

    def spoil(folder: Path) -> None:
        (folder / "evil.py").write_text((place.here / "evil.py").read_text())
        changed(folder / "config.json", auto_map=code)

    return of_checkpoint(place, spoil)


@case()
def tokenizer_is_code_of_its_own(place: Place) -> list[str]:
    def spoil(folder: Path) -> None:
        (folder / "evil.py").write_text((place.here / "evil.py").read_text())
        said = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
        (folder / "tokenizer_config.json").write_text(json.dumps(said))

    return of_checkpoint(place, spoil)


@case()
def weights_are_a_pickle_that_calls(place: Place) -> list[str]:
    class Calls:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {place.here / 'executed'}",)

    def spoil(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Calls(), protocol=2))

    return of_checkpoint(place, spoil)


@case()
def weights_claim_an_exabyte(place: Place) -> list[str]:
    def spoil(folder: Path) -> None:
        entry = {"dtype": "F32", "shape": [2**30, 2**28], "data_offsets": [0, 2**60]}
        head = json.dumps({"embeddings.word_embeddings.weight": entry}).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)

    return of_checkpoint(place, spoil)


def of_stand_in(name: str, stand_in: Any) -> Any:
    def make(place: Place) -> list[str]:
        def spoil(folder: Path) -> None:
            (folder / name).unlink()
            stand_in(folder / name)

        return of_checkpoint(place, spoil)

    make.__name__ = f"{name}_is_{'a pipe' if stand_in is os.mkfifo else 'a link to dev zero'}"
    return make


for _name in ("config.json", "model.safetensors", "vocab.txt"):
    case()(of_stand_in(_name, os.mkfifo))
    case()(of_stand_in(_name, lambda file: file.symlink_to("/dev/zero")))


@case()
def config_nested_deeply(place: Place) -> list[str]:
    return of_checkpoint(place, lambda folder: (folder / "config.json").write_text('{"a": ' + "[" * 10**6))


def of_tokenizer(place: Place, **changes: Any) -> list[str]:
    """The features of texts, fields of `tokenizer.json` changed."""

    def spoil(folder: Path) -> None:
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
        changed(folder / "tokenizer.json", **changes)

    return of_checkpoint(place, spoil)


@case()
def tokenizer_doubles_forty_times(place: Place) -> list[str]:
    return of_tokenizer(place, normalizer={"type": "Sequence", "normalizers": [REPLACE] * 40})


@case()
def tokenizer_doubles_forty_times_nested(place: Place) -> list[str]:
    nested: dict[str, Any] = REPLACE
    for _ in range(40):
        nested = {"type": "Sequence", "normalizers": [nested, REPLACE]}
    return of_tokenizer(place, normalizer=nested)


@case()
def tokenizer_with_a_template_of_a_million_tokens(place: Place) -> list[str]:
    single = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}] * 10**6 + [{"Sequence": {"id": "A", "type_id": 0}}]
    special = {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}
    template = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}
    return of_tokenizer(place, post_processor=template)


def large(file: Path, begin: bytes, piece: bytes, end: bytes) -> None:
    with file.open("wb") as opened:
        opened.write(begin)
        for _ in range(2**30 // len(piece)):
            opened.write(piece)
        opened.write(end)


@case()
def tokenizer_of_a_gigabyte_of_spaces(place: Place) -> list[str]:
    def spoil(folder: Path) -> None:
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
        whole = (folder / "tokenizer.json").read_bytes().rstrip()
        large(folder / "tokenizer.json", whole[:-1], b" " * 2**20, b"}")

    return of_checkpoint(place, spoil)


@case()
def tokenizer_of_a_gigabyte_of_nesting(place: Place) -> list[str]:
    return of_checkpoint(place, lambda folder: large(folder / "tokenizer.json", b'{"a": ', b"[" * 2**20, b""))


def of_random(place: Place, **changes: Any) -> list[str]:
    """Training of random weights, fields of the checkpoint's config changed."""
    folder = place.copy("text")
    changed(folder / "config.json", **changes)
    return place.finetune(folder, f"csv:{place.reviews}", **{"model.weights": "random"})


@case()
def random_weights_of_160_gigabytes(place: Place) -> list[str]:
    return of_random(place, hidden_size=16384, intermediate_size=65536, num_hidden_layers=12, num_attention_heads=64)


@case()
def random_weights_of_a_thousand_blocks(place: Place) -> list[str]:
    return of_random(place, num_hidden_layers=1000)


@case()
def images_of_ten_million_pixels_a_side(place: Place) -> list[str]:
    """The checkpoint wants images of 300 terabytes."""
    folder = place.copy("vit")
    changed(folder / "preprocessor_config.json", size={"height": 10**7, "width": 10**7})
    return place.features(folder, f"folder:{place.photos}")


@case()
def images_of_thirty_thousand_pixels_a_side(place: Place) -> list[str]:
    """The checkpoint wants images of 2.7 gigabytes."""
    folder = place.copy("vit")
    changed(folder / "preprocessor_config.json", size={"height": 30_000, "width": 30_000})
    changed(folder / "config.json", image_size=30_000)
    return place.features(folder, f"folder:{place.photos}")
