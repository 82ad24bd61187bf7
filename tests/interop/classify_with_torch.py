"""Run by another Python, one that has torch: transformers' own answers to texts.

python classify_with_torch.py FOLDER texts.json answers.npy
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

if __name__ == "__main__":
    folder, texts, predictions = sys.argv[1:]
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    given = json.loads(Path(texts).read_text(encoding="utf-8"))
    rows = []
    with torch.no_grad():
        for i in range(0, len(given["texts"]), 32):
            batch = given["texts"][i : i + 32]
            inputs = tokenizer(
                batch, padding=True, truncation=True, max_length=given["max_length"], return_tensors="pt"
            )
            rows.append(model(**inputs).logits.numpy())
    np.save(predictions, np.concatenate(rows))
