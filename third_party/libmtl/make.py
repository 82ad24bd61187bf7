"""Writes `reference.json`: fifty steps of LibMTL's trainer on a toy problem, with each of five ways to balance tasks.

A dense layer with tanh is shared by three tasks: two classifications and a regression. There are ten epochs of five
batches, always of the same rows, in float64 and without dropout. Stored are the data, the parameters at the start, the
losses before each step, and the orders in which PCGrad's gradients met. The weightings and the trainer are LibMTL's
own, except for what PyTorch 2 or a computer without a GPU would stop (`OnCpu`, `Kept`).
"""
# ruff: noqa: E402

import argparse
import functools
import json
import random
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy.optimize import minimize
from torch import nn

sys.modules["LibMTL.model"] = ModuleType("LibMTL.model")  # its ResNets need a part that torchvision no longer has
from LibMTL import Trainer
from LibMTL.architecture import HPS
from LibMTL.loss import AbsLoss, CELoss
from LibMTL.metrics import AbsMetric
from LibMTL.weighting import DWA, EW, UW, CAGrad, PCGrad

ROWS, BATCH, EPOCHS, WIDTH, HIDDEN = 40, 8, 10, 4, 1
SEED = 7  # with it a changed gradient of PCGrad also conflicts with its own original
OUTPUTS = {"colour": 3, "shape": 2, "size": 1}  # of the tasks; the last is a regression
OPTIMIZERS = {"sgd": {"lr": 0.2}, "adam": {"lr": 0.03}}
WEIGHTINGS: dict[str, tuple[type, dict[str, Any]]] = {
    "EW": (EW, {}),
    "UW": (UW, {}),
    "DWA": (DWA, {"T": 0.5}),  # at the usual 2 the weights are all close to 1
    "PCGrad": (PCGrad, {}),
    "CAGrad": (CAGrad, {"calpha": 0.5, "rescale": 1}),
    "CAGrad solved": (CAGrad, {"calpha": 0.5, "rescale": 1}),
}
SOLVED = {"CAGrad solved": 1e-14}  # the tolerance of the optimizer of SciPy that LibMTL calls with its default, 1e-6


def draw() -> dict[str, Any]:
    """The data and the parameters at the start, as lists. Labels are noisy, so that the tasks' gradients conflict."""
    draws = np.random.RandomState(SEED)
    x = draws.normal(size=(ROWS, WIDTH))
    scores = {name: x @ draws.normal(size=(WIDTH, n)) + 2 * draws.normal(size=(ROWS, n)) for name, n in OUTPUTS.items()}
    labels = {name: (each / 3 if name == "size" else each.argmax(axis=1)) for name, each in scores.items()}
    shapes = {"shared": (WIDTH, HIDDEN), **{name: (HIDDEN, n) for name, n in OUTPUTS.items()}}
    params = {
        name: {"kernel": 0.6 * draws.normal(size=shape), "bias": 0.6 * draws.normal(size=shape[1])}
        for name, shape in shapes.items()
    }
    return {
        "x": x.tolist(),
        "labels": {name: each.tolist() for name, each in labels.items()},
        "params": {name: {part: array.tolist() for part, array in each.items()} for name, each in params.items()},
    }


def dense(params: dict[str, list[Any]]) -> nn.Linear:
    """A layer with these parameters; a kernel is (inputs, outputs)."""
    kernel, bias = torch.tensor(params["kernel"]), torch.tensor(params["bias"])
    layer = nn.Linear(*kernel.shape)
    layer.weight.data, layer.bias.data = kernel.T.contiguous(), bias
    return layer


class SquaredError(AbsLoss):
    """A loss, of which LibMTL on PyPI has only the cross entropy."""

    def compute_loss(self, pred: torch.Tensor, gt: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(pred, gt)


class NoMetric(AbsMetric):
    """The trainer needs a metric; losses are all that is compared."""

    def update_fun(self, pred: torch.Tensor, gt: torch.Tensor) -> None:
        pass

    def score_fun(self) -> list[float]:
        return [1.0]


class Kept(HPS):
    """Hard parameter sharing whose gradients are set to 0; in PyTorch 2 they become None, and LibMTL stops."""

    def zero_grad_share_params(self) -> None:
        self.encoder.zero_grad(set_to_none=False)


class OnCpu(Trainer):
    """LibMTL's trainer on a CPU, for which it has no setting, and a record of the losses."""

    device = property(lambda self: torch.device("cpu"), lambda self, value: None)

    def _process_data(self, loader: list[Any]) -> Any:
        """The next batch; LibMTL calls `.next()`, which iterators no longer have."""
        try:
            return next(loader[1])
        except StopIteration:
            loader[1] = iter(loader[0])
            return next(loader[1])

    def _compute_loss(self, *arguments: Any, **named: Any) -> torch.Tensor:
        losses = super()._compute_loss(*arguments, **named)
        if self.model.training:
            self.__dict__.setdefault("seen", []).append(losses.tolist())
        return losses


def train(given: dict[str, Any], weighting: str, optimizer: str) -> dict[str, Any]:
    """The losses before each step, (steps, tasks), and the orders that were drawn, (steps, tasks, tasks)."""
    chosen, arguments = WEIGHTINGS[weighting]
    tasks = {
        name: {
            "metrics": ["none"], "metrics_fn": NoMetric(), "weight": [1],
            "loss_fn": SquaredError() if name == "size" else CELoss(),
        }
        for name in OUTPUTS
    }  # fmt: skip
    trainer = OnCpu(
        tasks, chosen, Kept, lambda: nn.Sequential(dense(given["params"]["shared"]), nn.Tanh()),
        nn.ModuleDict({name: dense(given["params"][name]) for name in OUTPUTS}), rep_grad=False, multi_input=False,
        optim_param={"optim": optimizer, **OPTIMIZERS[optimizer]}, scheduler_param=None,
        weight_args=arguments, arch_args={},
    )  # fmt: skip
    x, labels = torch.tensor(given["x"]), {name: torch.tensor(each) for name, each in given["labels"].items()}
    parts = [slice(at, at + BATCH) for at in range(0, ROWS, BATCH)]
    batches = [(x[part], {name: each[part] for name, each in labels.items()}) for part in parts]
    orders, shuffle = [], random.shuffle

    def recorded(order: list[int]) -> None:
        shuffle(order)
        orders.append(list(order))

    solve = functools.partial(minimize, tol=SOLVED.get(weighting))
    random.seed(0)
    with mock.patch("random.shuffle", recorded), mock.patch.object(sys.modules[CAGrad.__module__], "minimize", solve):
        trainer.train(batches, batches, EPOCHS)
    found = {"losses": np.round(trainer.seen, 12).tolist()}
    return {**found, "orders": np.reshape(orders, (-1, 3, 3)).tolist()} if orders else found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="the folder of reference.json")
    folder = parser.parse_args().out
    torch.set_default_dtype(torch.float64)
    given = draw()
    runs = {name: {each: train(given, each, name) for each in WEIGHTINGS} for name in OPTIMIZERS}
    content = {
        "versions": {name: version(name) for name in ("LibMTL", "torch", "scipy", "numpy")},
        "batch": BATCH, "epochs": EPOCHS, "optimizers": OPTIMIZERS,
        "arguments": {name: arguments for name, (_, arguments) in WEIGHTINGS.items()}, **given, "runs": runs,
    }  # fmt: skip
    (folder / "reference.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
