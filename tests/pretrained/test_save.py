"""Writing a folder: the same bits again, what a regression learned in its own units, all or nothing."""

import dataclasses
import json
import stat
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import BertConfig

from tests.models.reference import THIRD_PARTY, reference
from tests.pretrained.files import stored
from tlx.errors import TlxError
from tlx.models.heads import Head
from tlx.models.model import build_model
from tlx.params.paths import flatten
from tlx.pretrained.load import from_pretrained
from tlx.pretrained.save import write_folder

BERT = THIRD_PARTY / "bert"
SOME = (
    "plain",
    "base",
    "base_no_pooler",
    "classification_2",
    "regression_1",
    "regression_3",
    "pad_none",
    "odd_sizes",
    "dropout",
)


def loaded(variant: str = "plain", **options: Any) -> Any:
    return from_pretrained(BERT / variant, **options)


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def facts(folder: Path) -> dict[str, Any]:
    """A folder's config as transformers reads it."""
    return BertConfig.from_pretrained(folder).to_dict() | dict.fromkeys(
        ("_name_or_path", "dtype", "transformers_version", "tlx_version")
    )


@pytest.mark.parametrize("variant", SOME)
def test_file_comes_back_bit_by_bit(variant: str, tmp_path: Path) -> None:
    options = {"add_pooling_layer": False} if variant == "base_no_pooler" else {}
    model, params = loaded(variant, **options)
    folder = write_folder(tmp_path / "out", model, params)
    written, original = load_file(folder / "model.safetensors"), stored(variant)
    assert written.keys() == original.keys()
    assert all(written[name].tobytes() == original[name].tobytes() for name in original)
    assert facts(folder) == facts(BERT / variant)
    again, leaves = from_pretrained(folder, **options)
    assert again.backbone == model.backbone
    assert all(np.array_equal(leaf, flatten(params)[path]) for path, leaf in flatten(leaves).items())


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_written_as_it_is(dtype: Any, tmp_path: Path) -> None:
    model, params = loaded("base", param_dtype=dtype)
    written = load_file(write_folder(tmp_path / "out", model, params) / "model.safetensors")
    assert all(array.tobytes() == stored("base")[name].astype(dtype).tobytes() for name, array in written.items())


def test_shift_and_scale_are_folded_into_the_weights(tmp_path: Path, full_precision: None) -> None:
    given = reference("bert/regression_3")
    model, params = given.load(jnp.float32)
    shift, scale = (10.0, -1.0, 0.5), (2.0, 0.25, 7.0)
    head = dataclasses.replace(dict(model.heads_by_name)["default"], shift=shift, scale=scale)
    model = build_model(model.backbone.config, {"default": head})
    expected = given.arrays["output/logits"] * scale + shift
    np.testing.assert_allclose(model.apply({"params": params}, **given.inputs).logits["default"], expected, atol=1e-4)
    plain, folded = from_pretrained(write_folder(tmp_path / "out", model, params))
    assert dict(plain.heads_by_name)["default"].scale == ()
    np.testing.assert_allclose(plain.apply({"params": folded}, **given.inputs).logits["default"], expected, atol=1e-4)


def test_labels_are_written(tmp_path: Path) -> None:
    model, params = loaded(heads={"default": Head("classification", 2, labels=("no", "yes"))})
    config = json.loads((write_folder(tmp_path / "out", model, params) / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "no", "1": "yes"} and config["label2id"] == {"no": 0, "yes": 1}
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["problem_type"] == "single_label_classification"


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (
            {"a": Head("regression", 1), "b": Head("regression", 1)},
            "one head, called 'default' here; this model has a, b",
        ),
        ({"other": Head("regression", 1)}, "this model has other"),
        ({"default": Head("regression", 1, pooling="cls")}, "pools by the pooler; it cannot express pooling='cls'"),
    ],
)
def test_refused_heads(heads: dict[str, Head], message: str, tmp_path: Path) -> None:
    model, params = loaded(heads=heads)
    with pytest.raises(TlxError, match=message):
        write_folder(tmp_path / "out", model, params)
    assert not list(tmp_path.iterdir())


def test_refused_places(tmp_path: Path) -> None:
    """Above all the directory of a run, which holds a config.json as well."""
    model, params = loaded("base")
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (tmp_path / "file").write_text("mine")
    before = files_under(tmp_path)
    for place in ("run", "file"):
        with pytest.raises(TlxError, match=f"{place} holds something else than an earlier export; name a new folder"):
            write_folder(tmp_path / place, model, params)
    with pytest.raises(TlxError, match=r"tokenizer_from='.*/nowhere' is not a folder"):
        write_folder(tmp_path / "out", model, params, tokenizer_from=tmp_path / "nowhere")
    assert files_under(tmp_path) == before


@pytest.mark.parametrize("earlier", [False, True])
def test_interrupted_save_leaves_nothing_half(earlier: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, params = loaded("base")
    if earlier:
        write_folder(tmp_path / "out", model, params)
    before = files_under(tmp_path)

    def full_disk(folder: Path, tensors: Any, most: int) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("tlx.pretrained.save.write_safetensors", full_disk)
    other, others = loaded("plain")
    with pytest.raises(OSError, match="no space left"):
        write_folder(tmp_path / "out", other, others)
    assert files_under(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if earlier else [])


def test_earlier_export_is_replaced_whole(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    contents = {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}", "vocab.txt": b"[PAD]\n"}
    for name, content in {**contents, "training_args.bin": b"no"}.items():
        (tokenizer / name).write_bytes(content)
    out = write_folder(tmp_path / "some" / "new" / "out", *loaded("plain"), tokenizer_from=tokenizer)
    assert files_under(out).keys() == {"config.json", "model.safetensors", *contents}
    assert all((out / name).read_bytes() == content for name, content in contents.items())
    assert all(path.stat().st_mode & stat.S_IROTH for path in [out, *out.iterdir()])
    write_folder(out, *loaded("base"))
    assert files_under(out).keys() == {"config.json", "model.safetensors"}
    assert load_file(out / "model.safetensors").keys() == stored("base").keys()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
