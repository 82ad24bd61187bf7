"""Folders that are no checkpoint, or not one for tlx: each is refused in one sentence that names it."""

from pathlib import Path

import pytest

from tests.pretrained.files import checkpoint
from tlx.errors import TlxError
from tlx.pretrained.load import from_pretrained


def test_refused_folders(tmp_path: Path) -> None:
    def message(folder: Path) -> str:
        with pytest.raises(TlxError) as raised:
            from_pretrained(folder)
        return str(raised.value)

    folder = checkpoint(tmp_path / "one", "base", model_type="deberta")
    known = "bert, camembert, deit, distilbert, electra, roberta, tlx_convnet, vit, xlm-roberta"
    assert message(folder) == f"{folder} is a 'deberta' checkpoint; tlx has {known}."
    folder = checkpoint(tmp_path / "two", "base", position_embedding_type="relative_key_query")
    assert "position_embedding_type='relative_key_query'; tlx supports only the plain encoder" in message(folder)
    whole = (folder / "model.safetensors").read_bytes()
    folder = checkpoint(tmp_path / "three", "base")
    for length in (0, 7, 1000, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:length])
        told = "is empty; download it" if length == 0 else "is not a valid safetensors file: "
        assert message(folder).startswith(f"{folder}/model.safetensors {told}")
    (folder / "model.safetensors").unlink()
    assert message(folder).startswith(f"{folder} holds no weights; tlx reads model.safetensors, ")
    (folder / "config.json").write_text("{}")
    assert message(folder) == f"{folder}/config.json names no model_type, so its family is unknown."
    (folder / "config.json").write_text('{"model_type"')
    assert message(folder).startswith(f"{folder}/config.json is not a valid config of a checkpoint: ")
    (folder / "config.json").unlink()
    assert message(folder) == f"{folder} holds no config.json, so it is no Hugging Face checkpoint."
