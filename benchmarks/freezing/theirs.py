"""Training steps of PyTorch, transformers and peft in their own process: python theirs.py SHAPE STRATEGY ROWS.

Input and output are those of `ours.py`. Frozen parameters have `requires_grad=False`; no dropout; fused AdamW.
"""

import sys
from pathlib import Path

import peft
import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

sys.path.insert(0, str(Path(__file__).parents[1]))
from torch_steps import answer_steps

WITHOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": 2}
TEXT = {
    "BERT-base": {},
    "MiniLM": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
}


def built(shape: str, rows: int) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A model with random weights, and a batch."""
    labels = torch.ones(rows, dtype=torch.long)
    if shape in TEXT:
        ids = torch.ones(rows, 128, dtype=torch.long)
        return BertForSequenceClassification(BertConfig(**TEXT[shape], **WITHOUT)), {"input_ids": ids, "labels": labels}
    return ViTForImageClassification(ViTConfig(**WITHOUT)), {
        "pixel_values": torch.ones(rows, 3, 224, 224),
        "labels": labels,
    }


def choose(model: torch.nn.Module, strategy: str) -> torch.nn.Module:
    """Freezes what the strategy does not train."""
    if strategy == "full":
        return model
    if strategy.startswith("LoRA"):
        names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
        targets = ["query", "value"] if "query" in names else ["q_proj", "v_proj"]
        lora = peft.LoraConfig(r=8, lora_alpha=8, target_modules=targets, modules_to_save=["classifier"])
        return peft.get_peft_model(model, lora)
    blocks = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) in (6, 12))
    after = [*blocks[-2:], *(m for name, m in model.named_modules() if name in ("bert.pooler", "vit.layernorm"))]
    learning = {id(p) for module in after for p in module.parameters()} if strategy == "last 2" else set()
    for name, parameter in model.named_parameters():
        wanted = name.endswith(".bias") if strategy == "biases" else id(parameter) in learning
        parameter.requires_grad_(wanted or name.startswith("classifier."))
    return model


def main(shape: str, strategy: str, rows: int) -> None:
    """Runs steps until the input ends."""
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    model, batch = built(shape, rows)
    model = choose(model, strategy).train()
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-4, weight_decay=0.01, fused=True)

    answer_steps(optimizer, lambda: model(**batch).loss)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
