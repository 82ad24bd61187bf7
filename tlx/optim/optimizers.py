"""Optimizers by their optax names: a table from each name to its settings and the function that builds it."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optax

from tlx.errors import TlxError, listed

Setting = float | bool | None
Decay = tuple[float, Callable[[Any], Any]]  # weight decay, and the mask of the parameters it applies to
Build = Callable[..., optax.GradientTransformation]


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimizer in the table.

    Attributes:
      defaults: the settings of the optimizer with their default values.
      build: `(rate, decay, **settings) -> optax.GradientTransformation`.
    """

    defaults: Mapping[str, Setting]
    build: Build


def _after_decay(steps: Callable[..., optax.GradientTransformation]) -> Build:
    """Adds weight decay to the gradient, as torch's SGD, RMSprop and Adagrad do; optax's have no weight decay."""
    return lambda rate, decay, **settings: optax.chain(optax.add_decayed_weights(*decay), steps(rate, **settings))


def _decoupled(steps: Callable[..., optax.GradientTransformation]) -> Build:
    """Uses optax's decoupled weight decay (Loshchilov & Hutter 2019), which is multiplied by the learning rate."""
    return lambda rate, decay, **settings: steps(rate, weight_decay=decay[0], mask=decay[1], **settings)


def _momentum(steps: Callable[..., optax.GradientTransformation]) -> Callable[..., optax.GradientTransformation]:
    """Passes a momentum of 0 as None, so that no momentum buffer is allocated."""
    return lambda rate, momentum, **settings: steps(rate, momentum=momentum or None, **settings)


def _amsgrad(rate: Any, decay: Decay, **settings: Any) -> optax.GradientTransformation:
    """`optax.amsgrad` with AdamW's weight decay."""
    return optax.chain(
        optax.scale_by_amsgrad(**settings), optax.add_decayed_weights(*decay), optax.scale_by_learning_rate(rate)
    )


def _adafactor(
    rate: Any, decay: Decay, *, decay_rate: float, eps: float, min_dim_size_to_factor: int, clipping_threshold: float,
    multiply_by_parameter_scale: bool,
) -> optax.GradientTransformation:  # fmt: skip
    """`optax.adafactor`, but with weight decay multiplied by the learning rate, as in transformers and torch.

    In `optax.adafactor` weight decay does not depend on the learning rate.
    """
    return optax.chain(
        optax.scale_by_factored_rms(
            decay_rate=decay_rate, epsilon=eps, min_dim_size_to_factor=int(min_dim_size_to_factor)
        ),
        optax.clip_by_block_rms(clipping_threshold) if clipping_threshold else optax.identity(),
        optax.scale_by_param_block_rms() if multiply_by_parameter_scale else optax.identity(),
        optax.add_decayed_weights(*decay),
        optax.scale_by_learning_rate(rate),
    )


ADAM = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}
# `adam` and `nadam` equal `adamw` and `nadamw`: they differ only in weight decay, which is a setting of the group.
OPTIMIZERS: Mapping[str, Optimizer] = {
    "adam": Optimizer(ADAM, _decoupled(optax.adamw)),
    "adamw": Optimizer(ADAM, _decoupled(optax.adamw)),
    "nadam": Optimizer(ADAM, _decoupled(optax.nadamw)),
    "nadamw": Optimizer(ADAM, _decoupled(optax.nadamw)),
    "amsgrad": Optimizer(ADAM, _amsgrad),
    "lamb": Optimizer({**ADAM, "eps": 1e-6}, _decoupled(optax.lamb)),
    "lion": Optimizer({"b1": 0.9, "b2": 0.99}, _decoupled(optax.lion)),
    "adafactor": Optimizer(
        {
            "decay_rate": 0.8, "eps": 1e-30, "min_dim_size_to_factor": 128, "clipping_threshold": 1.0,
            "multiply_by_parameter_scale": True,
        },
        _adafactor,
    ),
    "sgd": Optimizer({"momentum": 0.9, "nesterov": False}, _after_decay(_momentum(optax.sgd))),
    "rmsprop": Optimizer(
        {"decay_rate": 0.9, "eps": 1e-8, "momentum": 0.0, "nesterov": False},
        _after_decay(_momentum(lambda rate, *, decay_rate, **rest: optax.rmsprop(rate, decay=decay_rate, **rest))),
    ),
    "adagrad": Optimizer({"eps": 1e-7}, _after_decay(optax.adagrad)),
}  # fmt: skip
SETTINGS = tuple(dict.fromkeys(name for optimizer in OPTIMIZERS.values() for name in optimizer.defaults))


def check_name(what: str, name: str) -> str:
    """Checks the name of an optimizer and returns it.

    Args:
      what: what the name is, for messages.
      name: the name.

    Raises:
      TlxError: if there is no such optimizer.
    """
    if name not in OPTIMIZERS:
        raise TlxError(f"{what} is {name!r}; tlx has {listed(OPTIMIZERS, most=len(OPTIMIZERS))}.")
    return name


def check_settings(settings: Mapping[str, Setting], used: Iterable[str]) -> None:
    """Checks that every setting is used by at least one of the optimizers in use.

    Args:
      settings: the settings by name; None for a setting that is not set.
      used: the names of the optimizers.

    Raises:
      TlxError: if a setting is not None and no optimizer in use has it.
    """
    names = sorted(set(used))
    for setting, value in settings.items():
        if value is None or any(setting in OPTIMIZERS[name].defaults for name in names):
            continue
        takers = [name for name, optimizer in OPTIMIZERS.items() if setting in optimizer.defaults]
        taken = "; ".join(f"{name} takes {listed(OPTIMIZERS[name].defaults)}" for name in names)
        raise TlxError(
            f"the optimizer setting {setting!r} is {value!r}, "
            + (f"which applies only to {listed(takers)}" if takers else "but no optimizer has it")
            + f"; {taken}."
        )


def build(name: str, rate: Any, decay: Decay, settings: Mapping[str, Setting]) -> optax.GradientTransformation:
    """Creates an optimizer.

    Args:
      name: a key of `OPTIMIZERS`.
      rate: the learning rate: a number, or a schedule of the optimizer's own step count.
      decay: the weight decay, and the mask of the parameters it applies to. It is decoupled and multiplied by the
        learning rate. For sgd, rmsprop and adagrad it is added to the gradient, as in torch; for lamb it is part of the
        update that the trust ratio scales.
      settings: settings by name; None for the default. Settings that the optimizer does not have are ignored.
    """
    optimizer = OPTIMIZERS[name]
    values = {setting: settings.get(setting) for setting in optimizer.defaults}
    return optimizer.build(
        rate, decay, **{key: optimizer.defaults[key] if value is None else value for key, value in values.items()}
    )
