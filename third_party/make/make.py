"""Makes the reference checkpoints and outputs again: `make fixtures`.

Each folder `../FAMILY/VARIANT` holds a tiny model (`config.json`, `model.safetensors`), written by transformers, and in
`reference.npz` one batch, what transformers answers to it in float64 and the gradient of a loss that reaches every
parameter. `../minilm/reference.npz` holds the answers of a published checkpoint to a few sentences.

Weights and inputs come from numpy's frozen generator, so they are bit-equal wherever this runs.
"""

import argparse
import json
import platform
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from minilm import make_minilm, packaged_minilm
from npz import write_npz
from pattern import keep_pattern
from variants import TINY_OF, VARIANTS, Variant

HERE = Path(__file__).parent
STEMS = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "electra": "Electra",
    "distilbert": "DistilBert",
    "vit": "ViT",
    "deit": "DeiT",
}
IMAGES = ("vit", "deit")
ROBERTAS = ("roberta", "xlm-roberta", "camembert")
CLASSES = {
    "tagging": "ForTokenClassification",
    "masked_lm": "ForMaskedLM",
    "question_answering": "ForQuestionAnswering",
    "multiple_choice": "ForMultipleChoice",
    "discriminator": "ForPreTraining",
    "teacher": "ForImageClassificationWithTeacher",
}
# A parameter's name in the model -> in its file, where current transformers has two.
IN_FILES = (
    (r"layers\.(\d+)\.", r"encoder.layer.\1."),
    (r"attention\.q_proj\.", "attention.attention.query."),
    (r"attention\.k_proj\.", "attention.attention.key."),
    (r"attention\.v_proj\.", "attention.attention.value."),
    (r"attention\.o_proj\.", "attention.output.dense."),
    (r"mlp\.fc1\.", "intermediate.dense."),
    (r"mlp\.fc2\.", "output.dense."),
)
WITHOUT_LABELS = (None, "masked_lm", "question_answering", "multiple_choice", "discriminator")  # in their config
SPREAD = 0.3  # of every parameter at hidden size 32: attention is then far from uniform


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE.parent, help="where bert/, minilm/ and so on are written")
    parser.add_argument("--only", nargs="*", help="these variants only, FAMILY/VARIANT or a whole FAMILY")
    parser.add_argument("--minilm", type=Path, help="the folder of all-MiniLM-L6-v2; by default that of the package")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for family, variants in VARIANTS.items():
        for name, variant in variants.items():
            if arguments.only is None or {family, f"{family}/{name}"} & set(arguments.only):
                make_variant(family, name, variant, arguments.out / family / name)
    if arguments.only is None:
        make_minilm(arguments.minilm or packaged_minilm(), arguments.out / "minilm")
        versions = {package.__name__: package.__version__ for package in (torch, transformers, np)}
        versions = {**versions, "python": platform.python_version()}
        (arguments.out / "versions.json").write_text(json.dumps(versions, indent=2) + "\n", encoding="utf-8")


def make_variant(family: str, name: str, variant: Variant, folder: Path) -> None:
    """Writes one folder."""
    named = name if family == "bert" else f"{family}/{name}"
    random = np.random.RandomState(zlib.crc32(named.encode()) + variant.seed)
    model = build(family, variant)
    draw_weights(model, random, variant.wide)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    draw = draw_images if family in IMAGES else draw_batch
    inputs, arrays = draw(variant, model.config, random)
    model = model.double().train(variant.dropout)
    with dropout_by_pattern(), softmax_as_it_comes():
        answers = answer(model, inputs, arrays)
    left_out = [
        n for n in answers if n.startswith("gradient/") and not re.fullmatch(f"gradient/{variant.gradients}", n)
    ]
    answers = {name: array for name, array in answers.items() if name not in left_out}
    if family in IMAGES:
        answers = {in_file(name) if name.startswith("gradient/") else name: x for name, x in answers.items()}
    given = {f"input/{name}": tensor.numpy() for name, tensor in inputs.items()}
    write_npz(folder / "reference.npz", {"train": np.array(variant.dropout)} | given | arrays | answers)


def build(family: str, variant: Variant) -> torch.nn.Module:
    """The model of a variant; eager attention, because only that returns the attentions."""
    labels = {} if variant.head in WITHOUT_LABELS else {"num_labels": variant.labels}
    labels |= {"problem_type": variant.head} if labels and variant.head not in CLASSES else {}
    given = {**TINY_OF[family], **variant.config, **labels}
    config = getattr(transformers, f"{STEMS[family]}Config")(**given, attn_implementation="eager")
    if variant.head is None:
        pooler = {"add_pooling_layer": variant.pooler} if family in ("bert", *ROBERTAS, *IMAGES) else {}
        return getattr(transformers, f"{STEMS[family]}Model")(config, **pooler)
    usual = "ForImageClassification" if family in IMAGES else "ForSequenceClassification"
    return getattr(transformers, STEMS[family] + CLASSES.get(variant.head, usual))(config)


@torch.no_grad()
def draw_weights(model: torch.nn.Module, random: np.random.RandomState, wide: float) -> None:
    """Every parameter from N(0, SPREAD²), the scales of layer norms about 1, padding rows too."""
    spread = SPREAD * (32 / model.config.hidden_size) ** 0.5
    for name, parameter in model.named_parameters():
        norm = re.search(r"(LayerNorm|layer_norm|layernorm\w*)\.weight$", name) is not None
        drawn = spread * random.standard_normal(tuple(parameter.shape)) + norm
        drawn *= wide if name.endswith("intermediate.dense.weight") else 1
        parameter.copy_(torch.from_numpy(drawn.astype(np.float32)))


def draw_batch(
    variant: Variant, config: transformers.PreTrainedConfig, random: np.random.RandomState
) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
    """The inputs, and what the loss is made of: labels and a random projection of the hidden states."""
    rows, width = len(variant.lengths), max(variant.lengths)
    text = np.arange(width)[None] < np.array(variant.lengths)[:, None]
    pad = config.pad_token_id or 0
    ids = np.where(text, random.randint(config.vocab_size, size=(rows, width)), pad % config.vocab_size)
    ids[0, 1] = pad % config.vocab_size  # the padding token inside a text, where its embedding does reach the loss
    positions = np.stack([random.permutation(config.max_position_embeddings)[:width] for _ in range(rows)])
    every = {
        "input_ids": ids,
        "attention_mask": text.astype(np.int64),
        "token_type_ids": random.randint(getattr(config, "type_vocab_size", 2), size=ids.shape),
        "position_ids": positions,
    }
    shape = (rows // variant.choices, variant.choices, width) if variant.choices else ids.shape
    inputs = {name: torch.from_numpy(every[name].reshape(shape)) for name in ("input_ids", *variant.given)}
    size = config.hidden_size
    loss = {
        "loss/hidden": random.standard_normal((rows, width, size)) / size,
        "loss/pooled": random.standard_normal((rows, size)) / size,
    }
    if variant.head == "regression":
        loss["loss/labels"] = random.standard_normal((rows, variant.labels))
    elif variant.head == "multi_label_classification":
        loss["loss/labels"] = random.randint(2, size=(rows, variant.labels)).astype(np.float64)
    elif variant.head in ("tagging", "masked_lm"):
        drawn = random.randint(variant.labels if variant.head == "tagging" else config.vocab_size, size=ids.shape)
        loss["loss/labels"] = np.where(text & (random.uniform(size=ids.shape) < 0.7), drawn, -100)
    elif variant.head == "question_answering":
        loss["loss/labels"] = random.randint(min(variant.lengths), size=(rows, 2))  # first, last
    elif variant.head == "multiple_choice":
        loss["loss/labels"] = random.randint(variant.choices, size=rows // variant.choices)
    elif variant.head not in (None, "discriminator"):
        loss["loss/labels"] = random.randint(variant.labels, size=rows)
    return inputs, loss


def draw_images(
    variant: Variant, config: transformers.PreTrainedConfig, random: np.random.RandomState
) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
    """As `draw_batch`, of images."""
    rows = len(variant.lengths)
    sizes = [[size, size] if isinstance(size, int) else size for size in (config.image_size, config.patch_size)]
    height, width = variant.image or sizes[0]
    pixels = random.standard_normal((rows, config.num_channels, height, width)).astype(np.float32).astype(np.float64)
    inputs: dict[str, Any] = {"pixel_values": torch.from_numpy(pixels)}
    if variant.image:
        inputs["interpolate_pos_encoding"] = torch.tensor(True)
    tokens = (height // sizes[1][0]) * (width // sizes[1][1]) + (2 if config.model_type == "deit" else 1)
    size, pooled = config.hidden_size, config.pooler_output_size
    loss = {
        "loss/hidden": random.standard_normal((rows, tokens, size)) / size,
        "loss/pooled": random.standard_normal((rows, pooled)) / pooled,
    }
    if variant.head == "regression":
        loss["loss/labels"] = random.standard_normal((rows, variant.labels))
    elif variant.head == "multi_label_classification":
        loss["loss/labels"] = random.randint(2, size=(rows, variant.labels)).astype(np.float64)
    elif variant.head is not None:
        loss["loss/labels"] = random.randint(variant.labels, size=rows)
    return inputs, loss


def in_file(name: str) -> str:
    """The name of a parameter in its file."""
    for ours, theirs in IN_FILES:
        name = re.sub(ours, theirs, name)
    return name


def answer(
    model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], loss: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Hidden states, attentions, pooled output, logits, the task's loss, and by parameter the gradient of that loss
    and of the projections in `loss`."""
    pooled: list[torch.Tensor] = []
    last: list[torch.Tensor] = []
    encoder = model.base_model
    if hasattr(encoder, "layernorm"):  # after which nothing is left of hidden_states[-1]
        encoder.layernorm.register_forward_hook(lambda module, given, output: last.append(output))
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler.register_forward_hook(lambda module, given, output: pooled.append(output))
    labels = {"labels": torch.from_numpy(loss["loss/labels"])} if "loss/labels" in loss else {}
    if "QuestionAnswering" in type(model).__name__:
        labels = dict(zip(("start_positions", "end_positions"), labels["labels"].unbind(-1), strict=True))
    teacher = "WithTeacher" in type(model).__name__  # that class takes no labels
    output = model(**inputs, **({} if teacher else labels), output_hidden_states=True, output_attentions=True)
    loss_of_labels = torch.nn.functional.cross_entropy(output.logits, labels["labels"]) if teacher else None
    total = ((last[0] if last else output.hidden_states[-1]) * torch.from_numpy(loss["loss/hidden"])).sum()
    if pooled:
        total = total + (pooled[0] * torch.from_numpy(loss["loss/pooled"])).sum()
    if labels:
        loss_of_labels = output.loss if loss_of_labels is None else loss_of_labels
        total = total + loss_of_labels
    total.backward()
    answers = {f"output/hidden_states/{i}": x for i, x in enumerate(output.hidden_states)}
    answers |= {f"output/attentions/{i}": x for i, x in enumerate(output.attentions)}
    answers |= {"output/last_hidden_state": last[0]} if last else {}
    answers |= {"output/pooler_output": pooled[0]} if pooled else {}
    if "start_positions" in labels:
        answers |= {"output/logits": torch.stack([output.start_logits, output.end_logits], -1)}
    elif labels:
        answers |= {"output/logits": output.logits}
    answers |= {"output/loss": loss_of_labels} if labels else {}
    prefix = "" if model is encoder else model.base_model_prefix
    tied = {parameter: name for name, parameter in encoder.named_parameters(prefix=prefix)}
    answers |= {
        f"gradient/{tied.get(p, name)}": p.grad for name, p in model.named_parameters() if p.grad is not None
    }  # a tied output layer by the embedding's name, whichever of them the class made first
    return {name: tensor.detach().numpy() for name, tensor in answers.items()}


@contextmanager
def dropout_by_pattern() -> Iterator[None]:
    """torch's dropout with the masks of `pattern.py`; sites are counted in the order in which they run."""
    original, site = torch.nn.functional.dropout, 0

    def dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        nonlocal site
        if not training or p == 0:
            return x
        keep = torch.from_numpy(keep_pattern(site, tuple(x.shape), p))
        site += 1
        return torch.where(keep, x / (1 - p), torch.zeros((), dtype=x.dtype))

    torch.nn.functional.dropout = dropout
    try:
        yield
    finally:
        torch.nn.functional.dropout = original


@contextmanager
def softmax_as_it_comes() -> Iterator[None]:
    """ViT's attention asks for its softmax in float32, whatever it is given; a reference in float64 keeps float64."""
    original = torch.nn.functional.softmax

    def softmax(x: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return original(x, dim=dim, dtype=None if x.dtype == torch.float64 else dtype)

    torch.nn.functional.softmax = softmax
    try:
        yield
    finally:
        torch.nn.functional.softmax = original


if __name__ == "__main__":
    main()
