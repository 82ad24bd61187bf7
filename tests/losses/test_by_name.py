"""Losses by name: every kind of head has a usual one; what does not fit a head or a loss is refused."""

import numpy as np
import pytest

from tlx.errors import TlxError
from tlx.losses import by_name
from tlx.losses.by_name import LOSSES, Loss, loss_name
from tlx.losses.supervised import cross_entropy, squared_error
from tlx.methods.finetune import LossSettings, head_loss
from tlx.models.heads import KINDS, OUTPUTS, Head
from tlx.recipes import defaults
from tlx.recipes.losses import loss_settings


def absolute_error(predictions, targets, weight, power=1.0):  # type: ignore[no-untyped-def]
    errors = abs(predictions - targets) ** power
    return (errors.mean(axis=-1) * weight).sum(), weight.sum()


def test_every_kind_has_a_usual_loss() -> None:
    usual = {kind: LOSSES[loss_name(kind)].function for kind in KINDS}
    assert usual.pop("regression") is squared_error and usual.pop("multilabel") is by_name.binary_cross_entropy
    assert usual.pop("question_answering") is by_name.span_cross_entropy
    assert set(usual.values()) == {cross_entropy} and len(usual) == len(KINDS) - 3
    assert head_loss(Head("tagging", 3)) is cross_entropy
    assert LOSSES["cross_entropy"].settings == ("label_smoothing", "class_weights")


def test_a_loss_of_another_kind() -> None:
    for kind in set(KINDS) - {"regression"}:
        with pytest.raises(TlxError, match=rf"config\.loss\.name is 'squared_error'; a {kind} head is trained by"):
            head_loss(Head(kind, OUTPUTS.get(kind, 3)), LossSettings(name="squared_error"))


def test_a_loss_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its settings are fields of the config; a regression is in units of the targets' spread; the usual loss stays."""
    monkeypatch.setitem(LOSSES, "absolute_error", Loss(absolute_error, ("regression",)))
    head, config = Head("regression", 2, scale=(2.0, 0.5)), defaults.finetune().loss
    assert loss_settings(config, head, None) == LossSettings()  # type: ignore[arg-type]
    config.name, config.power = "absolute_error", 3.0
    settings = loss_settings(config, head, None)  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    predictions, targets, weight = random.normal(size=(5, 2)), random.normal(size=(5, 2)), np.array([1, 0, 1, 0.5, 1])
    total, count = head_loss(head, settings)(predictions, targets, weight)
    errors = np.abs((predictions - targets) / np.array([2.0, 0.5])) ** 3
    assert (float(total), float(count)) == pytest.approx(((errors.mean(-1) * weight).sum(), 3.5), rel=1e-6)
    assert loss_name("regression") == "squared_error"
    for field, value in (("slope", 1.0), ("label_smoothing", 0.1), ("class_weights", (1.0, 2.0))):
        given = defaults.finetune().loss
        given.name = "absolute_error"
        given[field] = value
        with pytest.raises(TlxError, match=rf"config\.loss\.{field} is .*absolute_error.* takes power\."):
            loss_settings(given, head, None)  # type: ignore[arg-type]
