"""One run of the Hugging Face Trainer with fields of tlx's config, by a Python with torch.

    python trainer.py SEED RESULT '{"data.train": "csv:…", "optimizer.learning_rate": 1e-4, …}'

RESULT becomes a JSON file with the metric on test, seconds, peak memory and versions. The field `sampling`, which tlx
does not have, may be "group_by_length".
"""

import csv
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}

import numpy as np
import torch
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

sys.path.extend(str(Path(__file__).parents[level]) for level in (1, 2))
from process import peak

from tlx.evaluation.entities import entities

Fields = dict[str, Any]
Rows = list[dict[str, Any]]


def read(spec: str) -> Rows:
    """Reads `csv:FILE` or `conll:FILE`, without tlx's readers, which are compared here."""
    kind, _, path = os.path.expandvars(spec).partition(":")
    with Path(path).open(encoding="utf-8", newline="") as file:
        if kind == "csv":
            return list(csv.DictReader(file))
        blocks = file.read().strip().split("\n\n")
    sentences = [[line.rsplit("\t", 1) for line in block.split("\n") if line] for block in blocks]
    return [{"tokens": [word for word, _ in rows], "tags": [tag for _, tag in rows]} for rows in sentences]


def encode(fields: Fields, labels: list[str], tokenizer: Any, rows: Rows) -> Rows:
    """Encodes rows for the Trainer, as run_glue.py and run_ner.py do."""
    places = {name: i for i, name in enumerate(labels)}
    text, pair, label = fields.get("data.text", "text"), fields.get("data.pair"), fields.get("data.label", "label")
    columns = [[row[name] for row in rows] for name in (text, pair) if name]
    tagging = fields.get("head.kind") == "tagging"
    coded = tokenizer(*columns, is_split_into_words=tagging, truncation=True, max_length=fields["data.max_length"])
    found = []
    for index, row in enumerate(rows):
        if tagging:
            words = coded.word_ids(index)
            first = [word is not None and word not in words[:i] for i, word in enumerate(words)]
            tags = [places.get(tag, 0) for tag in row[label]]  # a tag that train does not have: of test, for the loss
            target: Any = [tags[word] if new else -100 for word, new in zip(words, first, strict=True)]
        else:
            target = places[row[label]] if labels else float(row[label])
        found.append({**{name: values[index] for name, values in coded.items()}, "labels": target})
    return found


def make_model(fields: Fields, labels: list[str]) -> Any:
    """The checkpoint with a new head, initialized with the current seed; what `fields` freezes is frozen."""
    options: Fields = {"num_labels": 1, "problem_type": "regression"}
    if labels:
        names = dict(enumerate(labels))
        options = {"num_labels": len(names), "id2label": names, "label2id": {name: i for i, name in names.items()}}
    tagging = fields.get("head.kind") == "tagging"
    auto = AutoModelForTokenClassification if tagging else AutoModelForSequenceClassification
    model = auto.from_pretrained(fields["model.checkpoint"], **options)
    if rank := fields.get("lora.rank"):
        import peft

        settings = {"target_modules": ["query", "value"], "modules_to_save": ["classifier"]}
        return peft.get_peft_model(model, peft.LoraConfig(r=rank, lora_alpha=fields["lora.alpha"], **settings))
    model.base_model.requires_grad_(fields.get("params.trainable") != "heads")
    return model


def arguments(fields: Fields, seed: int, folder: str) -> TrainingArguments:
    """The fields as the Trainer's arguments; other arguments have their defaults."""
    return TrainingArguments(
        output_dir=folder,
        seed=seed,
        learning_rate=fields["optimizer.learning_rate"],
        lr_scheduler_type="linear",
        warmup_steps=0,
        weight_decay=fields["params.groups.default.weight_decay"],
        adam_beta1=fields["optimizer.b1"],
        adam_beta2=fields["optimizer.b2"],
        adam_epsilon=fields["optimizer.eps"],
        max_grad_norm=fields["optimizer.clip"],
        train_sampling_strategy=fields.get("sampling", "random"),
        num_train_epochs=fields["train.epochs"],
        per_device_train_batch_size=fields["train.batch_size"],
        per_device_eval_batch_size=fields["train.eval_batch_size"],
        use_cpu=True,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def score(gold: Rows, predicted: Any, fields: Fields, labels: list[str]) -> dict[str, float]:
    """The metric of the task, by name."""
    label, values = fields.get("data.label", "label"), predicted.predictions
    if not labels:
        ranks = [_ranks(values[:, 0]), _ranks(np.array([float(row[label]) for row in gold]))]
        return {"test/spearman": float(np.corrcoef(ranks)[0, 1])}
    named = np.array(labels)[values.argmax(-1)]
    if fields.get("head.kind") != "tagging":
        return {"test/accuracy": float(np.mean(named == [row[label] for row in gold]))}
    right = total = 0
    for row, tags, known in zip(gold, named, predicted.label_ids != -100, strict=True):
        said = tags[known].tolist()
        theirs, ours = entities(row[label]), entities([*said, *["O"] * (len(row[label]) - len(said))])  # cut words
        right, total = right + 2 * len(theirs & ours), total + len(theirs) + len(ours)
    return {"test/entity_f1": right / max(total, 1)}


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks, of equal values their mean."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def main(seed: int, result: str, fields: Fields) -> None:
    """Trains, predicts the test rows, and writes the result."""
    set_seed(seed)
    rows = {part: read(fields[f"data.{part}"]) for part in ("train", "test")}
    found = [row[fields.get("data.label", "label")] for row in rows["train"]]
    regression, tagging = (fields.get("head.kind") == kind for kind in ("regression", "tagging"))
    labels = [] if regression else sorted(set().union(*found) if tagging else set(found))
    tokenizer = AutoTokenizer.from_pretrained(fields["model.checkpoint"])
    examples = {part: encode(fields, labels, tokenizer, each) for part, each in rows.items()}
    collator = DataCollatorForTokenClassification if tagging else DataCollatorWithPadding
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=make_model(fields, labels), args=arguments(fields, seed, folder), train_dataset=examples["train"],
            data_collator=collator(tokenizer), processing_class=tokenizer,
        )  # fmt: skip
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        trainer.args.train_sampling_strategy = "sequential"  # or grouped rows would be predicted in another order
        metrics = score(rows["test"], trainer.predict(examples["test"]), fields, labels)
    done = {
        "metrics": metrics, "seconds": seconds, "peak_memory_bytes": peak(), "steps": trainer.state.global_step,
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }  # fmt: skip
    Path(result).write_text(json.dumps(done), encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
