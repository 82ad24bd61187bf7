"""Predicts the sentences of a file with torch, sorted by length: python theirs.py CHECKPOINT SENTENCES OUTPUT.

The file has one sentence a line. OUTPUT gets the class of each line, in the order of the file; the last line printed is
the peak memory as JSON.
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))
from process import peak

BATCH, CHUNK, MAX_LENGTH = 64, 65536, 128


def main(checkpoint: str, sentences: str, output: str) -> None:
    """Predicts chunk by chunk; each chunk is sorted by length, so that batches hold texts of one length."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    lines = Path(sentences).read_text(encoding="utf-8").splitlines()
    with Path(output).open("w", encoding="utf-8") as written, torch.inference_mode():
        for start in range(0, len(lines), CHUNK):
            ids = tokenizer(lines[start : start + CHUNK], truncation=True, max_length=MAX_LENGTH)["input_ids"]
            order = np.argsort([-len(each) for each in ids], kind="stable")
            classes = np.zeros(len(ids), np.int64)
            for first in range(0, len(ids), BATCH):
                rows = order[first : first + BATCH]
                batch = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
                classes[rows] = model(**batch).logits.argmax(-1).numpy()
            written.writelines(f"{each}\n" for each in classes)
    print(json.dumps({"peak": peak()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
