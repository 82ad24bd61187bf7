"""Training steps of a method of domain adaptation in PyTorch: python costs_theirs.py METHOD ROWS.

Input, output, batch, model and method are those of costs_ours.py; fused AdamW. The losses are written here, by the same
equations.
"""

import itertools
import sys
from pathlib import Path

import torch
import transformers
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import BertConfig, BertModel

sys.path.insert(0, str(Path(__file__).parents[1]))
from torch_steps import answer_steps

CLASSES, LENGTH, HIDDEN = 2, 128, 384


class Network(nn.Module):
    """MiniLM with mean pooling, a linear head and, for DANN, a discriminator."""

    def __init__(self, method: str) -> None:
        super().__init__()
        sizes = {"hidden_size": HIDDEN, "num_hidden_layers": 6, "intermediate_size": 1536}
        without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        self.bert = BertModel(BertConfig(**sizes, **without), add_pooling_layer=False)
        self.head = nn.Linear(HIDDEN, CLASSES)
        widths = (HIDDEN, 1024, 1024) if method == "DANN" else ()
        layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.discriminator = nn.Sequential(*layers, nn.Linear(widths[-1], 1)) if widths else None

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns features and logits."""
        hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask[..., None].float()
        features = (hidden * weight).sum(1) / weight.sum(1)
        return features, self.head(features)


def loss_of(method: str, network: Network, features: torch.Tensor, logits: torch.Tensor, rows: int) -> torch.Tensor:
    """The loss that adapts."""
    if method == "DANN":
        assert network.discriminator is not None
        domain = (torch.arange(len(features)) < rows).float()
        read = features.view_as(features)
        read.register_hook(torch.neg)  # the gradient of the features is reversed
        return binary_cross_entropy_with_logits(network.discriminator(read)[:, 0], domain)
    if method == "Deep CORAL":
        source, target = (part - part.mean(0) for part in (logits[:rows], logits[rows:]))
        scatter = source.T @ source / (rows - 1) - target.T @ target / (len(target) - 1)
        return scatter.square().mean() / 4
    target = torch.softmax(logits[rows:] / 2.5, dim=1)
    entropy = -(target * torch.log(target)).sum(1)
    confusion = (target * (1 + torch.exp(-entropy))[:, None]).T @ target
    confusion = confusion / confusion.sum(1, keepdim=True)
    return (confusion.sum() - confusion.trace()) / CLASSES


def main(method: str, rows: int) -> None:
    """Runs steps until the input ends."""
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    network = Network(method).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    ids = torch.arange(rows * LENGTH).reshape(rows, LENGTH) % 1000
    mask = (torch.arange(LENGTH) < LENGTH - 28).long().expand(rows, LENGTH)
    labels = torch.arange(rows) % CLASSES
    if method != "source only":
        ids, mask = torch.cat([ids, ids]), torch.cat([mask, mask])

    def loss() -> torch.Tensor:
        features, logits = network(ids, mask)
        value = cross_entropy(logits[:rows], labels)
        return value if method == "source only" else value + loss_of(method, network, features, logits, rows)

    answer_steps(optimizer, loss)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
