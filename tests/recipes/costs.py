"""What the compiled programs of the key steps cost, by XLA's analysis; `costs.json` has the committed figures.

    python -m tests.recipes.costs        # measures all programs with the JAX that is installed, and writes its figures

Widths, lengths and batches are those of MiniLM (32 × 128) and ViT-B/16 (8 images of 224 × 224); there are three blocks.
Nothing is computed: parameters are shapes, and a program is compiled with the flags of tests/conftest.py.
"""

import functools
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401  (sets XLA's flags before JAX is imported)

# isort: split
import jax
import numpy as np

from tests import tiny
from tlx.evaluation.predict import make_forward
from tlx.features.whole_set import inputs_of
from tlx.models.model import build_model
from tlx.models.vit import ViTConfig
from tlx.pretrained.load import abstract_params, random_params
from tlx.pretrained.save import write_folder
from tlx.recipes import defaults
from tlx.recipes.datasets import load_datasets
from tlx.recipes.inputs import open_inputs
from tlx.recipes.inspect import inspect
from tlx.recipes.model import adapted, describe_model
from tlx.recipes.splits import with_splits

FILE = Path(__file__).with_name("costs.json")
COMMAND = "python -m tests.recipes.costs"
SLACK = 0.02
WIDTHS: dict[str, dict[str, Any]] = {
    "text": {
        "vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 3, "num_attention_heads": 12,
        "intermediate_size": 1536, "max_position_embeddings": 512,
    },
    "image": {
        "hidden_size": 768, "num_hidden_layers": 3, "num_attention_heads": 12, "intermediate_size": 3072,
        "image_size": 224, "patch_size": 16,
    },
}  # fmt: skip
SIZES = {"text": (32, 128), "image": (8, 224)}  # the batch; the length in tokens or pixels
TRAINED: dict[str, dict[str, Any]] = {
    "full": {}, "last 2": {"params.trainable": "last:2"}, "head": {"params.trainable": "heads"},
    "lora": {"lora.rank": 8},
}  # fmt: skip
PACKED, EVALUATION = "text, packed", "evaluation"
PROGRAMS = (*(f"{kind}, {part}" for kind in SIZES for part in (*TRAINED, EVALUATION)), PACKED)


def measured(name: str, place: Path) -> dict[str, int]:
    """What a program of `PROGRAMS` costs.

    Args:
      name: the program.
      place: a folder with the files of `write_files`.

    Returns:
      `flops`, `bytes_accessed`, `temporary_bytes` and `fusions` of the program, and `tokens`, those of a batch with
      padding.
    """
    kind, part = name.split(", ")
    config = defaults.finetune()
    config.model.checkpoint = str(place / kind)
    config.data.train = f"csv:{place}/long.csv" if kind == "text" else f"npz:{place}/images.npz"
    config.data.test_fraction, config.parallel.data = 0.2, 1
    config.train.batch_size, config.data.max_length = SIZES[kind][0], 128
    if name == PACKED:
        config.data.train, config.data.packing = f"csv:{place}/short.csv", "on"
    if part == EVALUATION:
        program, tokens = _evaluation(config)
    else:
        config.update_from_flattened_dict(TRAINED.get(part, {}))
        inspected = inspect(config)
        program, tokens = inspected.program, inspected.batch[0] * inspected.batch[1]
    cost: Any = program.cost_analysis()
    return {
        "flops": int(cost["flops"]), "bytes_accessed": int(cost["bytes accessed"]),
        "temporary_bytes": program.memory_analysis().temp_size_in_bytes, "fusions": program.as_text().count(" fusion("),
        "tokens": tokens,
    }  # fmt: skip


def _evaluation(config: Any) -> tuple[Any, int]:
    """The forward pass of evaluation, on a batch as large as that of training, and its tokens."""
    config = with_splits(config).copy_and_resolve_references()
    folder = Path(config.model.checkpoint)
    inputs = open_inputs(folder, config)
    datasets = load_datasets(config, inputs)
    model = adapted(describe_model(folder, config.model, {"default": datasets.head}), config)
    train = datasets.examples["train"]
    fields = train.take(np.zeros(config.train.batch_size, np.int64), config.data.max_length)
    shapes = {
        name: jax.ShapeDtypeStruct(rows.shape, rows.dtype) for name, rows in inputs_of(fields, inputs.fields).items()
    }
    program = make_forward(model, inputs.prepare).lower(abstract_params(model), {}, shapes).compile()
    return program, config.train.batch_size * inputs.tokens(model, shapes)


def write_files(place: Path) -> Path:
    """Writes the configs of two checkpoints without weights, texts and images; returns the folder."""
    tiny.write_checkpoint(place / "text")
    small = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4
    )
    model = build_model(small, {})
    write_folder(place / "image", model, random_params(model, 0))
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}, "resample": 2}
    (place / "image" / "preprocessor_config.json").write_text(json.dumps(processor))
    for kind, widths in WIDTHS.items():
        file = place / kind / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **widths}))
        (place / kind / "model.safetensors").unlink()
    random = np.random.default_rng(0)
    for name, lengths in (("long", np.full(200, 140)), ("short", random.integers(3, 60, 200))):
        rows = [
            f"{' '.join(random.choice(tiny.NEUTRAL, length))},{('good', 'bad')[index % 2]}"
            for index, length in enumerate(lengths)
        ]
        (place / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    images = random.integers(0, 255, (60, 16, 16, 3), dtype=np.uint8)
    np.savez(place / "images.npz", image=images, label=np.arange(60) % 2)
    return place


@functools.cache
def committed() -> dict[str, dict[str, dict[str, int]]]:
    """The committed figures by version of JAX and program."""
    figures: dict[str, dict[str, dict[str, int]]] = json.loads(FILE.read_text()) if FILE.is_file() else {}
    return figures


def main() -> None:
    """Measures all programs and writes their figures."""
    with tempfile.TemporaryDirectory() as folder:
        place = write_files(Path(folder))
        found = {}
        for name in PROGRAMS:
            found[name] = measured(name, place)
            print(name, found[name], flush=True)
    figures = {**committed(), version("jax"): found}
    FILE.write_text(json.dumps(dict(sorted(figures.items())), indent=1) + "\n")


if __name__ == "__main__":
    main()
