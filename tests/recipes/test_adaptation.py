"""Methods of domain adaptation by their names in a config: their settings, and a run with an unlabelled stream."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests import tiny
from tests.methods.domains import model_of, prepare
from tlx.errors import TlxError
from tlx.methods.finetune import LossSettings
from tlx.params.paths import flatten
from tlx.recipes import finetune
from tlx.recipes.balanced import BALANCED
from tlx.recipes.methods import METHODS, MethodInputs, make_method, with_method_fields
from tlx.training.tasks import Stream


def made(**fields: Any) -> Any:
    class Labelled:
        loss = LossSettings()

    config = with_method_fields(ConfigDict({"method": fields, "params": {"phases": ()}}))
    tasks: Any = {"default": Labelled()}
    return make_method(fields["name"], MethodInputs(config, model_of(), tasks, prepare))


# What the papers say; where a paper leaves a number open (DAN, Deep CORAL, entropy) there is none here.
OF_THE_PAPERS: dict[str, dict[str, Any]] = {
    "dann": {"trade_off": 1.0, "warm_start": 10.0},  # section 5.2.2: λ = 1 at the end, γ = 10
    "cdan": {"trade_off": 1.0, "warm_start": 10.0, "randomized_size": 1024},
    "cdan_e": {"trade_off": 1.0, "warm_start": 10.0, "randomized_size": 1024},
    "jan": {"warm_start": 10.0, "layers": ("features", "probabilities")},
    "mcd": {"generator_steps": 4},
    "mcc": {"trade_off": 1.0, "temperature": 2.5},
    "deepjdot": {"feature_weight": 0.001, "label_weight": 0.0001},
    "adda": {"discriminator": (500, 500)},
    "shot": {"trade_off": 0.3},
    "pseudo_labels": {"trade_off": 3.0, "threshold": 0.0},
}
ADAPTING = sorted(METHODS.keys() - BALANCED.keys() - {"finetune", "source_only", "target_trained"})


@pytest.mark.parametrize("name", ADAPTING)
def test_a_method_has_the_papers_defaults_and_says_what_it_assumes(name: str) -> None:
    assert METHODS[name][1].items() >= OF_THE_PAPERS.get(name, {}).items()
    method = made(name=name)
    assert method.streams == (("target",) if name == "shot" else ("train", "target"))
    text = " ".join((type(method).__doc__ or "").split())
    assert re.search("(It|and) assumes?", text) and re.search("(It|it|and) fails", text)


def test_fields_come_from_the_config() -> None:
    method = made(name="cdan_e", trade_off=0.3, discriminator=(8,))
    assert method.entropy and method.trade_off == 0.3 and method.discriminator.widths == (8,)
    assert not made(name="cdan").entropy
    assert made(name="dan", estimator="unbiased").estimator == "unbiased"


def test_a_field_that_the_method_has_not_is_refused() -> None:
    with pytest.raises(TlxError, match="temperature is set, but the method dann has"):
        made(name="dann", temperature=1.0)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["dann", "mcd"])
def test_a_run_with_a_target(name: str, config: Any, tmp_path: Path) -> None:
    """The target's labels are not read: shuffled ones give the same parameters to the bit."""
    plain = config.copy_and_resolve_references()
    plain.data.train, plain.data.validation, plain.data.test_fraction = (
        f"csv:{tiny.write_reviews(tmp_path / 'target.csv', 40, seed=9)}", config.data.train, 0.0,
    )  # fmt: skip
    target = finetune.build(plain, tmp_path / "labels").tasks["default"].splits["train"]
    config = config.copy_and_resolve_references()
    config.method.name, config.method.trade_off = name, 0.5
    config.train.epochs, config.train.batch_size = 1.0, 20
    ends = []
    for scrambled in (False, True):
        if scrambled:
            before = target.labels.copy()
            np.random.default_rng(0).shuffle(target.labels)
            assert (target.labels != before).any()
        job = finetune.build(config, tmp_path / f"scrambled-{scrambled}", streams={"target": Stream(target, 20)})
        assert "validation/accuracy" in job.run(quiet=True)["metrics"]
        ends.append({path: np.asarray(leaf).tobytes() for path, leaf in flatten(job.best().params).items()})
    assert ends[0] == ends[1]
