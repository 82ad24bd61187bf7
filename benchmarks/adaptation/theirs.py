"""One run of domain adaptation on digits with scikit-adaptation (skada), by a Python that has it.

    python theirs.py mnist-usps SEED RESULT '{"data.per_class": 100, …}' '{"method.name": "dann", …}'

The fields are those of tlx's config: those of the study, then those of the arm. The images, the samples of them, the
batches in their order, the network and the law of its initial weights are tlx's; the steps, losses and gradients are
skada's and torch's. RESULT becomes a JSON file with the accuracies on the target, seconds, peak memory and versions.

skada's domain classifier cannot be used: it ends in a softmax over one output (0.6.0), which is 1 for every row, so
that no gradient reaches the features. A sigmoid takes its place, as in skada-bench. The factor of DANN's reversed
gradient grows as in the paper and in tlx; skada's is constant, and then the loss did not stay finite with this recipe.
With the field `domain_logits` the domain loss is computed from logits, as in tlx: a sigmoid of float32 that is 0 or 1
passes no gradient. DAN, Deep CORAL and MCC are skada's own: its kernels, its constant trade-off.
"""

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import skada
import torch
from skada.deep import DAN, DANN, MCC, DeepCoral, SourceOnly
from skada.deep.modules import GradientReversalLayer
from skorch.callbacks import GradientNormClipping
from torch import nn

sys.path.extend(str(Path(__file__).parents[level]) for level in (1, 2))
from process import peak

from tlx.data.plan import TrainingPlan
from tlx.data.splits import subsample, subsample_per_class

Fields = dict[str, Any]
Images = tuple[torch.Tensor, torch.Tensor]  # float32 (n, 3, 28, 28), int64 (n,)
SIZE, FEATURES, CLASSES = 28, 128, 10
MEAN, DEVIATION = 0.1307, 0.3081  # of MNIST, for both domains
CUT = 0.87962566103423978  # the standard deviation of a normal distribution that is cut at two of its own
METHODS = {"source_only": SourceOnly, "dan": DAN, "deep_coral": DeepCoral, "dann": DANN, "mcc": MCC}


class Network(nn.Module):
    """The network of configs/convnet_digits; the method aligns what `features` gives, or `logits`."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
            nn.Flatten(), nn.Linear(9216, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.dropout = nn.Dropout(0.5)
        self.logits = nn.Linear(FEATURES, CLASSES)
        initialize(self.features)
        nn.init.normal_(self.logits.weight, std=0.05)
        nn.init.zeros_(self.logits.bias)

    def forward(self, images: torch.Tensor, sample_weight: None = None) -> torch.Tensor:
        """Returns the logits (batch, classes)."""
        out: torch.Tensor = self.logits(self.dropout(self.features(images)))
        return out


class DomainClassifier(nn.Module):
    """As `skada.deep.modules.DomainClassifier` gets features and gives probabilities of the target, with tlx's layers.

    Args:
      widths: of the hidden layers.
      probabilities: whether it gives probabilities, not logits.
    """

    def __init__(self, widths: tuple[int, ...], probabilities: bool = True) -> None:
        super().__init__()
        sizes = [FEATURES, *widths]
        hidden = [layer for a, b in zip(sizes, widths, strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
        end = [nn.Sigmoid()] if probabilities else []
        self.layers = nn.Sequential(*hidden, nn.Linear(sizes[-1], 1), *end)
        self.alpha = 1.0
        initialize(self.layers)

    def forward(self, features: torch.Tensor, sample_weight: None = None) -> torch.Tensor:
        """Returns the probabilities or logits (batch,)."""
        out: torch.Tensor = self.layers(GradientReversalLayer.apply(features, self.alpha))
        return out[:, 0]


def initialize(layers: nn.Sequential) -> None:
    """Draws weights of variance 1 / fan-in from a cut normal distribution; biases are 0. This is flax's default."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            deviation = 1 / math.sqrt(layer.weight[0].numel()) / CUT
            nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            nn.init.zeros_(layer.bias)


def read(name: str, part: str) -> Images:
    """Reads a set of $TLX_DATA; digits of another size are centred on black."""
    with np.load(Path(os.environ["TLX_DATA"]) / name / f"{part}.npz") as arrays:
        images, labels = arrays["image"], arrays["label"]
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    border = (SIZE - images.shape[1]) // 2
    images = np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)))
    pixels = (images.astype(np.float32) / 255 - MEAN) / DEVIATION
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), torch.from_numpy(labels.astype(np.int64))


def domains(pair: str, seed: int, fields: Fields) -> tuple[Images, torch.Tensor]:
    """The source's examples and the target's images of a run with this seed."""
    source, target = (read(name, "train") for name in pair.split("-"))
    if count := fields.get("data.per_class"):
        rows = subsample_per_class(source[1].tolist(), count, seed)
        source = source[0][rows], source[1][rows]
    most = fields.get("data.target_size") or len(target[0])
    return source, target[0][subsample(len(target[0]), most, seed)]


def make(fields: Fields, network: nn.Module | None = None) -> Any:
    """The method of skada with the recipe of the fields."""
    network = network or Network()
    options: Fields = {
        "optimizer": torch.optim.SGD,
        "lr": fields["optimizer.learning_rate"],
        "optimizer__momentum": fields["optimizer.momentum"],
        "train_split": None,
    }
    if clip := fields.get("optimizer.clip"):
        options["callbacks"] = [GradientNormClipping(clip)]
    name = fields["method.name"]
    if name == "dann":
        from_logits = fields.get("domain_logits", False)
        options["domain_classifier"] = DomainClassifier(tuple(fields["method.discriminator"]), not from_logits)
        options["domain_criterion"] = nn.BCEWithLogitsLoss() if from_logits else None
    elif name != "source_only":
        options["reg"] = fields.get("method.trade_off", 1.0)  # that of DANN is the factor of the reversed gradient
    if name == "mcc":
        options["T"] = fields.get("method.temperature", 2.5)  # the paper's, and tlx's default
    layer = "logits" if name == "deep_coral" else "features"  # as the paper and tlx
    return METHODS[name](network, layer, **options).initialize()


def rows_of(plan: TrainingPlan, step: int) -> np.ndarray:
    """The examples of a step, without padding."""
    rows = plan.batch(step).rows
    return rows[rows >= 0]


def accuracy(net: Any, images: Images) -> float:
    """The share of right predictions."""
    network = net.module_.base_module_.eval()
    with torch.no_grad():
        found = torch.cat([network(part).argmax(1) for part in images[0].split(500)])
    return float((found == images[1]).float().mean())


def train(net: Any, seed: int, source: Images, target: torch.Tensor, fields: Fields, tests: list[Images]) -> list[Any]:
    """Takes the steps; returns the accuracies on the sets of `tests` at each evaluation."""
    size = fields["train.batch_size"]
    plans = [
        TrainingPlan(np.ones(len(images), np.int64), size, seed, (1,), stream=stream)
        for images, stream in ((source[0], "train"), (target, "target"))
    ]
    every = round(fields["train.evaluate_every"] * plans[0].steps_per_epoch)
    steps = round(fields["train.epochs"] * plans[0].steps_per_epoch)
    found = []
    for step in range(steps):
        chosen = rows_of(plans[0], step)
        images, labels, domain = source[0][chosen], source[1][chosen], torch.ones(len(chosen))
        if fields["method.name"] != "source_only":
            more = target[rows_of(plans[1], step)]
            none = torch.full((len(more),), -1)
            images, labels = torch.cat([images, more]), torch.cat([labels, none])
            domain = torch.cat([domain, none])
        if fields["method.name"] == "dann":
            growth = math.tanh(fields.get("method.warm_start", 10.0) * step / steps / 2)
            net.module_.domain_classifier_.alpha = fields.get("method.trade_off", 1.0) * growth
        net.train_step(({"X": images, "sample_domain": domain}, labels))
        if (step + 1) % every == 0 or step + 1 == steps:
            found.append([accuracy(net, test) for test in tests])
    return found


def main(pair: str, seed: int, result: str, fields: Fields) -> None:
    """Trains, evaluates as tlx does, and writes the result."""
    torch.manual_seed(seed)
    source, target = domains(pair, seed, fields)
    tests = [read(name, "dev") for name in pair.split("-")]
    net = make(fields)
    started = time.perf_counter()
    found = np.array(train(net, seed, source, target, fields, tests))
    seconds = time.perf_counter() - started
    if not all(torch.isfinite(parameter).all() for parameter in net.module_.parameters()):
        raise SystemExit("a parameter is not finite")
    of_target = found[:, 1]
    done = {
        "metrics": {
            "oracle/target_test/accuracy": of_target.max(), "last/target_test/accuracy": of_target[-1],
            "target_test/accuracy": of_target[found[:, 0].argmax()],
        },
        "seconds": seconds, "peak_memory_bytes": peak(),
        "versions": {"torch": torch.__version__, "skada": skada.__version__},
    }  # fmt: skip
    Path(result).write_text(json.dumps(done), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]) | json.loads(sys.argv[5]))
