"""Whole folders that are not to be trusted: what they ask for is not done, and one sentence says why."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest

import tlx
from tests.models.reference import THIRD_PARTY
from tests.tiny import write_checkpoint

PLAIN = THIRD_PARTY / "bert" / "plain"


def test_tokenizer_with_code_of_its_own_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    write_checkpoint(folder)
    sentinel = tmp_path / "executed"
    for file in folder.glob("*token*"):
        file.unlink()
    for file in folder.glob("vocab*"):
        file.unlink()
    (folder / "own.py").write_text(f"open({str(sentinel)!r}, 'w').close()\nclass Own:\n    pass\n")
    settings = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(tlx.TlxError, match="holds no tokenizer that transformers can open"):
        _ = tlx.load_pretrained(folder).preprocessor
    assert not sentinel.exists()


def test_config_with_code_of_its_own_is_not_run(tmp_path: Path) -> None:
    folder = shutil.copytree(PLAIN, tmp_path / "checkpoint")
    sentinel = tmp_path / "executed"
    (folder / "own.py").write_text(f"open({str(sentinel)!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "own.Model", "AutoConfig": "own.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    assert tlx.load_pretrained(folder).params["backbone"]  # a plain BERT all the same
    assert not sentinel.exists()


class Calls:
    """Pickled, it asks its reader to run a command."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def test_pickle_that_calls_is_not_run(tmp_path: Path) -> None:
    folder = shutil.copytree(PLAIN, tmp_path / "checkpoint")
    (folder / "model.safetensors").unlink()
    sentinel = tmp_path / "executed"
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Calls(f"touch {sentinel}"), protocol=2))
    with pytest.raises(tlx.TlxError, match=r"pytorch_model\.bin"):
        tlx.load_pretrained(folder)
    assert not sentinel.exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt", "tokenizer.json"])
def test_a_pipe_is_not_waited_for(name: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(tlx.TlxError, match=f"{name} is not a file but a pipe"):
        _ = tlx.load_pretrained(folder).preprocessor


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_link_out_of_the_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    write_checkpoint(folder)
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(tlx.TlxError, match=f"{name} is a link that leads out of its folder"):
        _ = tlx.load_pretrained(folder).preprocessor


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"model_type": "bert", "model_type": "bert"}', "says 'model_type' twice"),
        (b'{"model_type": "bert", "layer_norm_eps": NaN}', "holds NaN"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": "' + b"a" * 9 * 2**20 + b'"}', r"has [\d,]+ bytes, more than"),
        (b'{"model_type": ["bert"]}', "names no model_type"),
        (b"\xff\xfe{", "what should be JSON is none"),
    ],
)
def test_config_that_is_odd(content: bytes, message: str, tmp_path: Path) -> None:
    folder = shutil.copytree(PLAIN, tmp_path / "checkpoint")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(tlx.TlxError, match=message):
        tlx.load_pretrained(folder)
