"""Runs of packed texts: the numbers of texts alone, one compiled step and one compiled evaluation, and older runs."""

from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests import tiny
from tests.recipes.test_compiled import programs_in
from tlx.data import lengths, plan
from tlx.data.sources import load
from tlx.errors import TlxError
from tlx.methods.finetune import FineTune
from tlx.params.paths import flatten
from tlx.recipes import finetune
from tlx.recipes.inspect import inspect
from tlx.recipes.packing import plan_packing
from tlx.recipes.trained import load_run
from tlx.runs.predictions import predict_inputs

pytestmark = pytest.mark.slow


def packed(config: Any, packing: str = "on") -> Any:
    """The config with packing and without dropout, whose masks depend on a token's place; updates are the gradients."""
    made = config.copy_and_resolve_references()
    made.data.packing = packing
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
        made.model[name] = 0.0
    made.optimizer.name, made.optimizer.clip, made.optimizer.warmup_fraction = "sgd", 0.0, 0.0
    made.optimizer.learning_rate = 0.1
    return made


def tagged(config: Any, place: Path) -> None:
    """The reviews as sentences of tagged words; the longest are read in windows."""
    words = [text.split() for text in load(f"csv:{place}/reviews.csv").columns["text"]]
    rows = ("".join(f"{word}\t{'B-good' if word in tiny.GOOD else 'O'}\n" for word in text) for text in words)
    (place / "tags.conll").write_text("\n".join(rows))
    config.head.kind, config.data.max_length = "tagging", 9
    config.data.train, config.data.text, config.data.label = f"conll:{place}/tags.conll", "tokens", "tags"


def after_one_step(job: Any, batch: Any) -> tuple[float, dict[str, np.ndarray]]:
    """The loss and the parameters; the state is donated, so a copy of it is taken."""
    state = jax.tree.map(lambda leaf: leaf.copy() if isinstance(leaf, jax.Array) else leaf, job.state)
    state, metrics = job.phases[0].step(state, batch)
    return float(metrics["loss"]), {path: np.asarray(leaf) for path, leaf in flatten(state.params).items()}


@pytest.mark.parametrize(
    "case",
    [
        "tagging",
        *(
            pytest.param(case, marks=pytest.mark.long)
            for case in ("classification", "accumulate", "pmap", "lora", "features")
        ),
    ],
)
def test_a_step_is_that_of_the_same_examples_alone(case: str, config: Any, place: Path, tmp_path: Path) -> None:
    config = packed(config)
    if case == "tagging":
        tagged(config, place)
        config.head.kind = "tagging"
    if case == "accumulate":  # the last batch of an epoch, of fewer texts, in micro-batches of unequal numbers of texts
        config.train.accumulate = 3
    if case == "pmap":
        config.parallel.mode, config.parallel.data = "pmap", 4
    if case == "lora":
        config.lora.rank = 2
    if case == "features":
        config.params.rules = (("backbone/(embeddings|encoder/layer/0)/.*", "frozen"),)
        config.features.cache = "off"
    job = finetune.build(config, tmp_path / "run")
    train = job.tasks["default"].splits["train"]
    step = -(-len(train) // config.train.batch_size) - 1 if case == "accumulate" else 0
    batch = next(job.batches(step))
    rows = np.asarray(batch["train"]["position"])
    texts = rows[rows >= 0]
    assert job.packing is not None and rows.ndim == 2
    assert len(texts) == (len(train) % config.train.batch_size if case == "accumulate" else config.train.batch_size)
    fill = np.full(-len(texts) % (4 * config.train.accumulate), -1)
    alone = {"train": train.take(np.concatenate([texts, fill]), 16)}
    loss, params = after_one_step(job, batch)
    if case == "features":
        config.features.cache = "memory"
        cached = finetune.build(config, tmp_path / "cached")
        features = next(cached.batches())
        assert "hidden_state" in features["train"]
        np.testing.assert_array_equal(features["train"]["segment_ids"], batch["train"]["segment_ids"])
        same, others = after_one_step(cached, features)
    else:
        same, others = after_one_step(job, alone)
    before = {path: np.asarray(leaf) for path, leaf in flatten(job.state.params).items()}
    assert same == pytest.approx(loss, rel=1e-5)
    largest = max(np.abs(params[path] - before[path]).max() for path in params)
    for path, leaf in params.items():
        np.testing.assert_allclose(others[path], leaf, rtol=0, atol=max(1e-5 * largest, 2e-7), err_msg=path)
    assert largest > 1e-3


@pytest.mark.parametrize("kind", ["classification", pytest.param("tagging", marks=pytest.mark.long)])
def test_predictions_are_those_of_texts_alone(kind: str, config: Any, place: Path, tmp_path: Path) -> None:
    config = packed(config)
    if kind == "tagging":
        tagged(config, place)
    jobs = [finetune.build(packed(config, packing), tmp_path / packing) for packing in ("on", "off")]
    assert [job.packing is None for job in jobs] == [False, True]
    for split in ("train", "validation", "test"):
        together, alone = (job.predictions(job.state.variables, split) for job in jobs)
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * np.abs(alone).max())


@pytest.mark.long
def test_one_step_and_one_evaluation_are_compiled(config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a whole run, whose last batches are partial; texts alone in batches of three lengths need three of both."""
    monkeypatch.setattr(plan, "LENGTH_BUCKETS", (8, 12, 16))
    config.train.epochs, config.train.eval_batch_size, config.train.evaluate_every = 2.0, 7, 0.5
    compiled = {}
    for packing in ("auto", "off"):
        config.data.packing = packing
        with programs_in(tmp_path / packing / "programs"):
            job = finetune.build(config, tmp_path / packing / "run")
            summary = job.run(quiet=True)
        names = [file.name.split("-")[0] for file in (tmp_path / packing / "programs").glob("*-cache")]
        compiled[packing] = {name: Counter(names)[f"jit_{name}"] for name in ("train_step", "forward")}
        assert ("packing" in summary) == (packing == "auto")
    assert compiled["auto"] == {"train_step": 1, "forward": 1}
    assert min(compiled["off"].values()) > 1
    trained = load_run(tmp_path / "auto" / "run")  # packs texts too
    texts = [" ".join(tiny.GOOD[i % 5] for i in range(n)) for n in (1, 12, 3, 5, 2, 9)]
    one_by_one = np.concatenate([predict_inputs(trained, [text]) for text in texts])
    np.testing.assert_allclose(predict_inputs(trained, texts), one_by_one, atol=1e-5)


def test_texts_alone_are_padded_to_few_lengths(config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a method that takes one text in a row; every text of every split fits into the last length."""
    monkeypatch.setattr(FineTune, "packs", False)
    monkeypatch.setattr(lengths, "COMPILE_TOKENS", 100)
    job = finetune.build(packed(config, "auto"), tmp_path / "run")
    splits = job.tasks["default"].splits
    longest = max(int(examples.lengths.max()) for examples in splits.values())
    assert job.packing is None and 1 < len(job.length_buckets) <= 3 and longest <= job.length_buckets[-1] < longest + 4
    steps = 2 * job.schedule.steps_per_epoch
    assert {next(job.batches(step))["train"]["input_ids"].shape[1] for step in range(steps)} <= {*job.length_buckets}
    job.evaluate(job.state.variables, "validation")
    assert job.forward._cache_size() <= len(job.length_buckets)
    assert finetune.build(packed(config, "off"), tmp_path / "off").length_buckets == job.modality.length_buckets


def test_auto_does_not_pack_where_that_costs_more(config: Any, tmp_path: Path) -> None:
    """All texts have the largest length: rows of one text have no padding, and packed ones are longer."""
    config.data.max_length = 4
    job, together = (finetune.build(packed(config, mode), tmp_path / mode) for mode in ("auto", "on"))
    train = job.tasks["default"].splits["train"].lengths
    assert set(train.tolist()) == {4} and job.packing is None and job.length_buckets == (4,)
    assert together.packing is not None
    shape = together.packing.training
    assert shape.rows * shape.length > config.train.batch_size * 4


def test_a_run_that_packs_goes_on_packing(config: Any, tmp_path: Path) -> None:
    first = finetune.build(packed(config, "auto"), tmp_path / "run").packing
    assert first is not None and inspect(packed(config)).batch == (first.training.rows, first.training.length)
    assert finetune.build(packed(config, "auto"), tmp_path / "run").packing == first
    with pytest.raises(TlxError, match=r"differing: config\.data\.packing"):
        finetune.build(packed(config, "off"), tmp_path / "run")


def test_what_cannot_be_packed(config: Any, tmp_path: Path) -> None:
    job = finetune.build(packed(config, "off"), tmp_path / "run")

    class Other:
        """A method that says nothing about packing."""

        streams = ("train",)

    class Several(Other):
        """One that packs and reads two streams."""

        packs, streams = True, ("train", "target")  # type: ignore[assignment]

    arguments = (job.model, job.modality, job.tasks)
    made = packed(config)
    with pytest.raises(TlxError, match="packing is 'on', but the method Other takes one text in a row"):
        plan_packing(made, *arguments, [Other()], 1)  # type: ignore[list-item]
    with pytest.raises(TlxError, match="packing is 'on', but the run has several streams"):
        plan_packing(made, *arguments, [Several()], 1)  # type: ignore[list-item]
    made.data.packing = "auto"
    assert plan_packing(made, *arguments, [Other()], 1) is None  # type: ignore[list-item]
    made.data.packing = "yes"
    with pytest.raises(TlxError, match="packing is 'yes'; it is 'auto', 'on' or 'off'"):
        finetune.build(made, tmp_path / "other")
