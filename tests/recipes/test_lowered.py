"""The steps of every shipped config, lowered for GPUs and TPUs on a host without any.

JAX lowers for a platform without its devices. Only cuDNN's version, which JAX asks of the library itself, is answered
by the test. What is compared is the program's text: kernels, donation, dtypes, and that nothing calls the host.
"""

import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from tests import tiny
from tests.test_configs import CONFIGS, parse
from tlx.errors import TlxError
from tlx.evaluation.predict import make_forward
from tlx.models.model import build_model
from tlx.models.vit import ViTConfig
from tlx.pretrained.load import random_params
from tlx.pretrained.save import write_folder
from tlx.recipes import compiled, finetune

# A config of several tasks reads files, and this test gives data from memory. SQuAD 2.0's programs are those of 1.1.
ONE_TASK = [name for name in CONFIGS if "multitask" not in name and not name.endswith(":v2")]

BLOCKS = {"text": 2, "image": 4}
VIT = ViTConfig(
    hidden_size=32, num_hidden_layers=BLOCKS["image"], num_attention_heads=4, intermediate_size=48, image_size=8,
    patch_size=4, hidden_dropout_prob=0.1,
)  # fmt: skip
PROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}, "resample": 2}
IMAGES = ("adapt_digits", "adapt_image_folder", "adapt_vit_digits", "digits", "few_shot", "image_folder", "vit_cifar10")
WORDS = ("text", "name", "sentence1", "sentence2", "title", "question", "context")
LABELS = {"classification": ("good", "bad"), "regression": (0.5, 1.5), "multilabel": ("good|warm", "bad")}
KERNEL = re.compile(r"custom_call @__cudnn\$(fmha\w*)")
CALLS = re.compile(r"custom_call @([\w$.]+)")
HOST = re.compile(r"callback|infeed|outfeed|stablehlo\.send|stablehlo\.recv")
# Operations of softmax, layer norm and cross entropy, with the dtype of their result.
FLOAT32 = re.compile(r"(?:stablehlo|chlo)\.(?:exponential|log|rsqrt|erf|log_plus_one) [^:\n]*: tensor<(?:\d+x)*(\w+)>")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("lowered")
    model = build_model(VIT, {})
    write_folder(root / "image", model, random_params(model, 0))
    (root / "image" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return {"text": tiny.write_checkpoint(root / "text"), "image": root / "image"}


def small(name: str, checkpoints: dict[str, Path]) -> tuple[Any, dict[str, Any], int]:
    """A shipped config on a tiny checkpoint and a table in memory; and the number of blocks."""
    config = parse(name)
    kind = "image" if Path(name).stem.partition(".")[0] in IMAGES else "text"
    config.model.checkpoint, config.model.weights = str(checkpoints[kind]), "pretrained"
    config.model.image_size = None
    config.data.train = config.data.validation = config.data.test = config.data.target = config.data.target_test = ""
    config.data.validation_fraction, config.data.test_fraction, config.data.per_class = 0.1, 0.2, 0
    config.data.group = config.optimizer.warmup_steps = None
    config.data.max_length, config.train.batch_size, config.train.epochs = 16, 8, 1.0
    config.data.stride = None
    config.features.cache = "off"  # features would be computed here, by kernels that this host lacks
    config.parallel.data = 1
    tables = {"train": rows(config, kind)}
    if Path(name).stem.startswith("adapt_"):
        tables["target"] = tables["train"]
    return config, tables, BLOCKS[kind]


def rows(config: Any, kind: str) -> list[dict[str, Any]]:
    random, made = np.random.default_rng(0), []
    for index in range(40):
        words = [str(word) for word in random.choice(tiny.GOOD + tiny.NEUTRAL, 5)] + [tiny.BAD[index % 5]]
        row: dict[str, Any] = dict.fromkeys(WORDS, " ".join(words)) | {"tokens": words}
        row[config.data.image] = random.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        if config.head.kind == "question_answering":
            row["question"], row["context"] = words[0], " ".join(words[1:])
            row[config.data.label] = {"text": [words[1]], "answer_start": [0]}
        elif config.head.kind == "masked_lm":
            pass  # there are no labels
        elif config.head.kind == "tagging":
            row[config.data.label] = ["B-A" if word in tiny.BAD else "O" for word in words]
        else:
            row[config.data.label] = LABELS[config.head.kind][index % 2]
        read = {config.data.label, *([config.data.image] if kind == "image" else (*WORDS, "tokens"))}
        made.append({name: value for name, value in row.items() if name in read})
    return made


def programs(
    name: str,
    platform: str,
    checkpoints: dict[str, Path],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    **changes: Any,
) -> tuple[str, str, int, int]:
    """The text of the exported training and evaluation step, the number of leaves of the state, and of blocks."""
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(compiled, "explained", lambda step, constants: (step, constants))
    config, tables, blocks = small(name, checkpoints)
    config.model.dtype, config.model.attention = "bfloat16", "cudnn" if platform == "cuda" else "xla"
    config.model.attention_probs_dropout_prob = 0.0
    config.update_from_flattened_dict(changes)
    job = finetune.build(config, folder / "run", tables=tables)
    step, constants = job.phases[0].step
    batch = next(iter(job.batches(0)))
    arguments = jax.tree.map(shape_of, (job.state, batch, *constants))
    evaluate = make_forward(job.model, job.inputs.prepare)
    fields = {field: value for field, value in arguments[1]["train"].items() if field in job.inputs.fields}
    train = exported(step, platform, arguments)
    evaluated = exported(evaluate, platform, (arguments[0].params, arguments[0].model_state, fields))
    job.lock.release()
    return train, evaluated, len(jax.tree.leaves(job.state)), blocks


def shape_of(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(np.shape(leaf), getattr(leaf, "dtype", None) or np.asarray(leaf).dtype)


def exported(step: Any, platform: str, arguments: Any) -> str:
    """The program's text. JAX promises no compatibility of cuDNN's calls, so that the test has to allow them."""
    names = [f"__cudnn$fmha{kind}{way}" for kind in ("Softmax", "ScaleBiasSoftmax") for way in ("", "Backward")]
    allowed = [jax.export.DisabledSafetyCheck.custom_call(name) for name in names]
    text = jax.export.export(step, platforms=(platform,), disabled_checks=allowed)(*arguments).mlir_module()
    return re.sub(r"^#loc.*\n| loc\(#loc\d*\)", "", text, flags=re.MULTILINE)  # places in the source


def kernels(program: str) -> list[str]:
    """The kernels that a program calls, in order; a function that is called several times counts as often."""
    functions = dict(re.findall(r"func\.func (?:\w+ )?@([^(]+)\((.*?)(?=\n  func\.func |\Z)", program, re.DOTALL))

    def of(name: str) -> list[str]:
        parts = re.findall(rf"{KERNEL.pattern}|(?<!_)call @([^(]+)\(", functions[name])
        return [found for kernel, callee in parts for found in ([kernel] if kernel else of(callee))]

    return of("main")


def check(train: str, evaluate: str, leaves: int) -> None:
    """What holds on every accelerator."""
    for program in (train, evaluate):
        assert not HOST.search(program)
        found = FLOAT32.findall(program)
        assert set(found) == {"f32"} and "bf16" in program and "f64" not in program
    donated = len(re.findall(r"tf\.aliasing_output|jax\.buffer_donor", train))
    assert donated == leaves
    assert not re.search(r"tf\.aliasing_output|jax\.buffer_donor", evaluate)


def cuda(name: str, checkpoints: dict[str, Path], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, evaluate, leaves, blocks = programs(name, "cuda", checkpoints, folder, monkeypatch)
    check(train, evaluate, leaves)
    forwards, backwards = ([k for k in kernels(train) if k.endswith("Backward") == back] for back in (False, True))
    frozen = 3 if "few_shot" in name else 0
    assert len(forwards) == len(kernels(evaluate)) == blocks and len(backwards) == blocks - frozen
    assert {call for call in CALLS.findall(train) if not call.startswith("__cudnn$")} <= {"Sharding"}


def test_export_for_cuda(checkpoints: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda("configs/text_file.py", checkpoints, tmp_path, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("name", ONE_TASK)
def test_every_config_is_exported_for_cuda(
    name: str, checkpoints: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda(name, checkpoints, tmp_path, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("name", ONE_TASK)
def test_every_config_is_exported_for_tpu(
    name: str, checkpoints: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, evaluate, leaves, _ = programs(name, "tpu", checkpoints, tmp_path, monkeypatch)
    check(train, evaluate, leaves)


@pytest.mark.long
def test_attention_dropout_keeps_the_weights(checkpoints: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has no dropout that depends on the step, so that it serves evaluation alone."""
    changes = {"model.attention_probs_dropout_prob": 0.1}
    train, evaluate, leaves, blocks = programs(
        "configs/text_file.py", "cuda", checkpoints, tmp_path, monkeypatch, **changes
    )
    check(train, evaluate, leaves)
    assert not KERNEL.findall(train) and len(kernels(evaluate)) == blocks


@pytest.mark.long
def test_packed_texts_have_the_kernel(checkpoints: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"data.packing": "on"}
    train, evaluate, leaves, blocks = programs(
        "configs/text_file.py", "cuda", checkpoints, tmp_path, monkeypatch, **changes
    )
    check(train, evaluate, leaves)
    assert len(kernels(train)) == 2 * blocks and len(kernels(evaluate)) == blocks


def test_auto_is_float32_here_and_the_run_keeps_its_dtype(checkpoints: Any, tmp_path: Path) -> None:
    """A run that began in bfloat16 goes on in bfloat16 with the config's "auto"."""
    config, tables, _ = small("configs/text_file.py", checkpoints)
    assert config.model.dtype == "auto"
    file = tmp_path / "run" / "config.json"
    job = finetune.build(config, tmp_path / "run", tables=tables)
    job.lock.release()
    assert job.model.dtype is None and json.loads(file.read_text())["config"]["model"]["dtype"] == "float32"
    file.write_text(file.read_text().replace('"dtype": "float32"', '"dtype": "bfloat16"'))
    job = finetune.build(config, tmp_path / "run", tables=tables)
    job.lock.release()
    assert job.model.dtype == jax.numpy.bfloat16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": "flash"}, "config.model.attention is 'flash'; it is one of auto, xla, cudnn"),
        ({"attention": "cudnn", "dtype": "float32"}, "takes bfloat16 .* found float32 and heads of 8"),
        ({"dtype": "float16"}, "config.model.dtype is 'float16'; it is one of auto, float32, bfloat16"),
    ],
)
def test_refused(changes: Any, message: str, checkpoints: Any, tmp_path: Path) -> None:
    config, tables, _ = small("configs/text_file.py", checkpoints)
    config.model.update(changes)
    with pytest.raises(TlxError, match=message):
        finetune.build(config, tmp_path / "run", tables=tables)
