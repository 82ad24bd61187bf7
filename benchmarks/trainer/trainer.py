"""One run of the Trainer, by a Python with torch: trains on the rows of a job and predicts its test rows.

python trainer.py job.json
"""

import json
import os
import sys
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

sys.path.insert(0, str(Path(__file__).parents[1]))
from process import peak


def encode(job: dict[str, Any], tokenizer: Any, columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Encodes rows for the Trainer, as run_glue.py and run_ner.py do."""
    positions = {name: i for i, name in enumerate(job["labels"])}
    options = {"truncation": True, "max_length": job["recipe"]["max_length"]}
    if job["kind"] == "tagging":
        coded = tokenizer(columns["text"], is_split_into_words=True, **options)
        labels: list[Any] = []
        for row, tags in enumerate(columns["label"]):
            words = coded.word_ids(row)
            first = [word is not None and word not in words[:i] for i, word in enumerate(words)]
            labels.append([positions[tags[word]] if new else -100 for word, new in zip(words, first, strict=True)])
    else:
        coded = tokenizer(columns["text"], columns.get("pair"), **options)
        number = float if job["kind"] == "regression" else positions.__getitem__
        labels = [number(label) for label in columns["label"]]
    return [{**{name: values[i] for name, values in coded.items()}, "labels": y} for i, y in enumerate(labels)]


def make_model(job: dict[str, Any]) -> Any:
    """The checkpoint with a new head, initialized with the current seed."""
    if job["kind"] == "regression":
        options: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"}
    else:
        names = dict(enumerate(job["labels"]))
        options = {"num_labels": len(names), "id2label": names, "label2id": {name: i for i, name in names.items()}}
    auto = AutoModelForTokenClassification if job["kind"] == "tagging" else AutoModelForSequenceClassification
    return restrict(auto.from_pretrained(job["checkpoint"], **options), job["recipe"].get("strategy", "full"))


def restrict(model: Any, strategy: str) -> Any:
    """Freezes what the strategy does not train; `head only` trains the classifier."""
    if strategy == "LoRA r=8":
        import peft

        targets, heads = ["query", "value"], ["classifier"]
        return peft.get_peft_model(
            model, peft.LoraConfig(r=8, lora_alpha=8, target_modules=targets, modules_to_save=heads)
        )
    if strategy == "head only":
        model.base_model.requires_grad_(False)
    return model


def arguments(job: dict[str, Any]) -> TrainingArguments:
    """The recipe as the Trainer's arguments; other arguments have their defaults."""
    recipe = job["recipe"]
    return TrainingArguments(
        output_dir=job["out"],
        seed=job["seed"],
        learning_rate=recipe["learning_rate"],
        lr_scheduler_type="linear",
        warmup_steps=0,
        weight_decay=recipe["weight_decay"],
        adam_beta1=recipe["b1"],
        adam_beta2=recipe["b2"],
        adam_epsilon=recipe["eps"],
        max_grad_norm=recipe["clip"],
        train_sampling_strategy=recipe.get("sampling", "random"),
        num_train_epochs=recipe["epochs"],
        per_device_train_batch_size=recipe["batch_size"],
        per_device_eval_batch_size=recipe["eval_batch_size"],
        use_cpu=True,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def main(file: str) -> None:
    """Writes `answers.npz` (predictions; for tagging also words per sentence) and `found.json` to the job's folder."""
    job = json.loads(Path(file).read_text(encoding="utf-8"))
    out = Path(job["out"])
    set_seed(job["seed"])
    tokenizer = AutoTokenizer.from_pretrained(job["checkpoint"])
    splits = json.loads(Path(job["files"]["rows"]).read_text(encoding="utf-8"))
    examples = {part: encode(job, tokenizer, columns) for part, columns in splits.items()}
    collator = DataCollatorForTokenClassification if job["kind"] == "tagging" else DataCollatorWithPadding
    trainer = Trainer(
        model=make_model(job),
        args=arguments(job),
        train_dataset=examples["train"],
        data_collator=collator(tokenizer),
        processing_class=tokenizer,
    )
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    trainer.args.train_sampling_strategy = "sequential"  # or grouped rows would be predicted in another order
    predicted = trainer.predict(examples["test"])
    predictions, more = predicted.predictions, {}
    if job["kind"] == "tagging":
        first = predicted.label_ids != -100
        predictions, more = predictions[first], {"words": first.sum(axis=1)}
    np.savez(out / "answers.npz", predictions=predictions, **more)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    found = {
        "labels": job["labels"], "seconds": seconds, "steps": trainer.state.global_step, "versions": versions,
        "peak": peak(),
    }  # fmt: skip
    (out / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
