"""Training steps of PyTorch as a process that takes turns."""

import time
from collections.abc import Callable

import torch
from process import answer_turns


def answer_steps(optimizer: torch.optim.Optimizer, loss: Callable[[], torch.Tensor]) -> None:
    """Runs `process.answer_turns` with steps that compute the loss, its gradient and the update, after a warm-up.

    Args:
      optimizer: of the parameters that are trained.
      loss: the forward pass.
    """

    def steps(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            value = loss()
            value.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        assert torch.isfinite(value)
        return time.perf_counter() - started

    steps(2)
    trainable = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
    answer_turns(trainable, steps)
