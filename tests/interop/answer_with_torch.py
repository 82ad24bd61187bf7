"""Run by another Python, one that has torch: the windows, logits and losses of transformers' question answering model.

python answer_with_torch.py FOLDER squad.json MAX_LENGTH STRIDE found.npz

Each window is a batch of its own, so that nothing is padded. The labels follow the definition of transformers'
examples: the tokens around the first answer, and the first token of a window that does not hold all of it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

if __name__ == "__main__":
    folder, data, max_length, stride, found = sys.argv[1:]
    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    assert type(model) is transformers.BertForQuestionAnswering
    ids, logits, losses = [], [], []
    for article in json.loads(Path(data).read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                windows = tokenizer(
                    asked["question"], paragraph["context"], truncation="only_second", max_length=int(max_length),
                    stride=int(stride), return_overflowing_tokens=True, return_offsets_mapping=True,
                )  # fmt: skip
                for number, places in enumerate(windows["offset_mapping"]):
                    context = [i for i, which in enumerate(windows.sequence_ids(number)) if which == 1]
                    first = last = 0
                    for answer in asked["answers"][:1]:
                        start, stop = answer["answer_start"], answer["answer_start"] + len(answer["text"])
                        if places[context[0]][0] <= start and places[context[-1]][1] >= stop:
                            first = max(i for i in context if places[i][0] <= start)
                            last = min(i for i in context if places[i][1] >= stop)
                    inputs = {
                        name: torch.tensor(windows[name][number])[None] for name in ("input_ids", "token_type_ids")
                    }
                    with torch.no_grad():
                        output = model(
                            **inputs, start_positions=torch.tensor([first]), end_positions=torch.tensor([last])
                        )
                    ids += windows["input_ids"][number]
                    logits.append(torch.stack([output.start_logits[0], output.end_logits[0]], -1).numpy())
                    losses.append(float(output.loss))
    np.savez(found, ids=np.array(ids), logits=np.concatenate(logits), losses=np.array(losses))
